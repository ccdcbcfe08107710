"""Convolution by the kernels of `conv.c`, mostly without a matrix of columns. Images are (N, H, W, C), float32.

Forward and both gradients are one thing, a correlation of images with filters,

    y[n, i, j, o] = sum over c, p, q of x[n, top + i*sh + p*dh, left + j*sw + q*dw, c] * w[o, c, p, q]

and its gradient in w. With stride s the gradient in x falls into s*s parts, one for each position modulo s: the outputs
there saw every s-th tap, which makes each part a correlation of stride 1.
"""
import functools
import itertools
import math

import numpy as np
from numpy.lib.stride_tricks import as_strided

from .memory import empty, scratch, zeros
from .native import kernel
from .products import product
from .threads import get_num_threads, on_change

BLOCK_SIZE = 1 << 16  # outputs or inputs; both, and the filters of some taps, share a core's cache
LANES = 16  # floats in a vector of the kernels


def serves(w_shape, groups, *arrays):
    """Whether the kernels take this convolution: not where each channel has few filters of its own, which fill no vector."""
    o, c, kh, kw = w_shape
    depthwise = c == 1 < groups and o // groups < LANES // 2
    return kernel("correlate", *arrays) is not None and kh * kw <= 256 and not depthwise


def correlate(x, w, y, origin, stride, dilation, groups):
    """Fill y (N, Ho, Wo, O), contiguous, by the equation above, with origin = (top, left)."""
    if _few_outputs(y, w.shape, groups):
        product(_columns(x, y, w.shape, origin, stride, dilation), w.reshape(len(w), -1).T, out=y.reshape(-1, len(w)))
        return
    w = w.reshape(groups, len(w) // groups, *w.shape[1:])
    _run(_plan(_layout(x), _layout(w), _layout(y), origin, stride, dilation), x, w, y)


def input_grad(gy, w, gx, g):
    """Fill gx (N, H, W, C) with the gradient in the images for gy (N, Ho, Wo, O); dilation 1 where the stride is not."""
    w = w.reshape(g.groups, len(w) // g.groups, *w.shape[1:])
    _run(_input_grad_plan(_layout(gy), _layout(w), _layout(gx), g), gy, w, gx)


def weight_grad(gy, x, w_shape, origin, stride, dilation, groups):
    """The gradient (O, C/G, kh, kw) of `correlate` in its filters for gy (N, Ho, Wo, O)."""
    o, c, kh, kw = w_shape
    if _few_outputs(gy, w_shape, groups):
        return product(gy.reshape(-1, o).T, _columns(x, gy, w_shape, origin, stride, dilation)).reshape(w_shape)
    threads, filters = get_num_threads(), (kh, kw, c, groups, _rounded(o // groups))
    shared = groups >= threads or x.size < math.prod(w_shape)  # threads share the sums, or each has its own
    sums = empty((1, *filters), np.float32) if shared else zeros((threads, *filters), np.float32)
    if gy.size and c:
        images, job = _weight_grad_plan(_layout(gy), _layout(x), (kh, kw), origin, stride, dilation, groups)
        kernel("correlate_weights")(x, images, gy, sums, len(sums), job)
    else:
        sums.fill(0)
    gw = empty(w_shape, np.float32)
    kernel("unpack")(sums, len(sums), gw, groups, o // groups, _rounded(o // groups), c, kh * kw)
    return gw


def _few_outputs(y, w_shape, groups):
    """Whether the filters are so large beside the images that rearranging them would cost more than columns do."""
    few, large = 0 < y.size <= w_shape[0]**2, math.prod(w_shape[1:]) >= 512
    return groups == 1 and few and large and kernel("product") is not None


def _columns(x, y, w_shape, origin, stride, dilation):
    """What each output pixel of y sees, (N Ho Wo, C kh kw)."""
    images, job = _weight_grad_plan(_layout(y), _layout(x), w_shape[2:], origin, stride, dilation, 1)
    columns = empty((y.size // y.shape[3], math.prod(w_shape[1:])), np.float32)
    kernel("columns")(x, images, columns, job)
    return columns


def _run(plan, x, w, y):
    images, filters, jobs, size, blank = plan
    if blank:
        y[...] = 0
    if size:
        kernel("correlate")(x, images, w, filters, scratch("conv panels", (size,), np.float32), y, jobs, len(jobs))


# What the kernels are told follows from shapes, strides and the number of threads, and takes as long as a small convolution.


def _layout(a):
    return a.shape, a.strides


def _array(layout):
    """A stand-in of this shape and these strides, without the memory."""
    return as_strided(np.empty(1, np.float32), *layout)


@functools.lru_cache(maxsize=1024)
def _plan(x, w, y, origin, stride, dilation):
    x, w, y = map(_array, (x, w, y))
    return _described(x, w, y, [(w, y, origin)], stride, dilation)


@functools.lru_cache(maxsize=1024)
def _input_grad_plan(gy, w, gx, g):
    gy, w, gx = map(_array, (gy, w, gx))
    (sh, sw), back, parts = g.stride, w.swapaxes(1, 2), []
    for a, b in itertools.product(range(min(sh, gx.shape[1])), range(min(sw, gx.shape[2]))):
        (p, top), (q, left) = (_first_tap(at, s, padding, k, d)
                               for at, s, padding, k, d in zip((a, b), g.stride, g.padding, g.kernel, g.dilation))
        parts.append((back[..., p::sh, q::sw][..., ::-1, ::-1], gx[:, a::sh, b::sw], (top, left)))
    return _described(gy, w, gx, parts, (1, 1), g.dilation)


@functools.lru_cache(maxsize=1024)
def _weight_grad_plan(gy, x, size, origin, stride, dilation, groups):
    gy, x = _array(gy), _array(x)
    return _images(x), np.array(_job(gy, x, size, origin, stride, dilation, groups), np.int64)


def _forget(_threads):
    for plan in (_plan, _input_grad_plan, _weight_grad_plan):
        plan.cache_clear()


on_change.append(_forget)  # the size of a block depends on the number of threads


def _described(x, whole_w, whole_y, parts, stride, dilation):
    """What `_run` needs for each (w, y, origin), w (G, O/G, C/G, kh, kw), w and y parts of the whole ones: the numbers of x,
    of the Filters and of the Jobs of conv.c, how many floats the packed filters are, and whether some outputs see nothing.
    """
    filters, jobs, size, blank = [], [], 0, False
    for w, y, origin in parts:
        if not (w.size and y.size):
            blank |= y.size > 0
            continue
        groups, o, *rest = w.shape
        filters.append([_distance(whole_w, w), size, groups, o, _rounded(o), *rest, *_strides(w)])
        jobs.append(_job(y, x, rest[1:], origin, stride, dilation, groups))
        jobs[-1][:2] = _distance(whole_y, y), size
        size += groups * _rounded(o) * math.prod(rest)
    return _images(x), np.array(filters, np.int64), np.array(jobs, np.int64), size, blank


def _distance(a, b):
    """How many elements of `a` come before the first of `b`, a part of it."""
    return (b.ctypes.data - a.ctypes.data) // a.itemsize


def _job(y, x, size, origin, stride, dilation, groups):
    """The numbers of a Job of conv.c, without its beginnings."""
    return [0, 0, *_images(y), *size, *origin, *stride, *dilation, groups, *_block(y, x, stride, groups)]


def _first_tap(at, s, padding, k, d):
    """The first tap that sees the positions `at` modulo s, and the output that saw `at` through the last such tap."""
    if s == 1:
        return 0, padding - d * (k - 1)
    first = (at + padding) % s
    return first, (at + padding) // s - (len(range(first, k, s)) - 1)


def _images(a):
    """Lengths and strides, as the kernels read them."""
    return np.array((*a.shape, *_strides(a)), np.int64)


def _strides(a):
    """From one element to the next along each axis, counted in elements."""
    return [s // a.itemsize for s in a.strides]


def _block(y, x, stride, groups):
    """How many images, or rows of one image, are computed at a time for a group."""
    n, rows, columns, channels = y.shape
    row = max(1, columns * max(channels, stride[0] * stride[1] * x.shape[3]) // groups)
    if rows * row > BLOCK_SIZE:
        return 1, max(1, BLOCK_SIZE // row)
    return max(1, min(BLOCK_SIZE // (rows * row), -(-n // get_num_threads()))), rows


def _rounded(channels):
    """A multiple of the lanes of a vector register."""
    return -(-channels // LANES) * LANES
