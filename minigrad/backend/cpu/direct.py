"""Convolution by the kernels of `conv.c`, without a matrix of columns. Images are (N, H, W, C) with any strides, float32.

Forward and both gradients are one thing, a correlation of images with filters,

    y[n, i, j, o] = sum over c, p, q of x[n, top + i*sh + p*dh, left + j*sw + q*dw, c] * w[o, c, p, q]

and its gradient in w. With stride s the gradient in x falls into s*s parts, one for each position modulo s: the outputs
there saw every s-th tap, which makes each part a correlation of stride 1.
"""
import itertools
import math

import numpy as np

from .memory import empty, scratch, zeros
from .native import kernel
from .threads import get_num_threads

BLOCK_SIZE = 1 << 16  # outputs or inputs; both, and the filters of some taps, share a core's cache
LANES = 16  # floats in a vector of the kernels


def serves(w_shape, groups, *arrays):
    """Whether the kernels take this convolution: not where each channel has few filters of its own, which fill no vector."""
    o, c, kh, kw = w_shape
    depthwise = c == 1 < groups and o // groups < LANES // 2
    return kernel("correlate", *arrays) is not None and kh * kw <= 256 and not depthwise


def correlate(x, w, y, origin, stride, dilation, groups):
    """Fill y (N, Ho, Wo, O) by the equation above, with origin = (top, left)."""
    _correlate_all(x, y, [(w.reshape(groups, len(w) // groups, *w.shape[1:]), y, origin)], stride, dilation)


def weight_grad(gy, x, w_shape, origin, stride, dilation, groups):
    """The gradient (O, C/G, kh, kw) of `correlate` in its filters for gy (N, Ho, Wo, O)."""
    o, c, kh, kw = w_shape
    threads, filters = get_num_threads(), (kh, kw, c, groups, _rounded(o // groups))
    shared = groups >= threads or x.size < math.prod(w_shape)  # threads share the sums, or each has its own
    sums = empty((1, *filters), np.float32) if shared else zeros((threads, *filters), np.float32)
    if gy.size and c:
        job = np.array(_job(gy, x, (kh, kw), origin, stride, dilation, groups), np.int64)
        kernel("correlate_weights")(x, _images(x), gy, sums, len(sums), job)
    else:
        sums.fill(0)
    gw = empty(w_shape, np.float32)
    kernel("unpack")(sums, len(sums), gw, groups, o // groups, _rounded(o // groups), c, kh * kw)
    return gw


def input_grad(gy, w, gx, g):
    """Fill gx (N, H, W, C) with the gradient in the images for gy (N, Ho, Wo, O); dilation 1 where the stride is not."""
    (sh, sw), groups = g.stride, g.groups
    o, c, kh, kw = w.shape
    back = w.reshape(groups, o // groups, c, kh, kw).swapaxes(1, 2)
    parts = []
    for a, b in itertools.product(range(min(sh, gx.shape[1])), range(min(sw, gx.shape[2]))):
        (p, top), (q, left) = (_first_tap(at, s, padding, k, d)
                               for at, s, padding, k, d in zip((a, b), g.stride, g.padding, g.kernel, g.dilation))
        parts.append((back[..., p::sh, q::sw][..., ::-1, ::-1], gx[:, a::sh, b::sw], (top, left)))
    _correlate_all(gy, gx, parts, (1, 1), g.dilation)


def _correlate_all(x, whole, parts, stride, dilation):
    """`correlate` of the same images for each (w, y, origin), w (G, O/G, C/G, kh, kw); the y are parts of `whole`."""
    todo = [(w, y, origin) for w, y, origin in parts if w.size and y.size]
    for w, y, _ in parts:
        if not w.size:
            y[...] = 0
    if not todo:
        return
    sizes = [math.prod(w.shape) // w.shape[1] * _rounded(w.shape[1]) for w, _, _ in todo]
    panels, starts = scratch("conv panels", (sum(sizes),), np.float32), np.cumsum([0, *sizes])
    jobs = np.empty((len(todo), 21), np.int64)
    for job, start, (w, y, origin) in zip(jobs, starts, todo):
        groups, o, *rest = w.shape
        kernel("pack")(w, panels[start:], groups, o, _rounded(o), *rest, *_strides(w))
        job[:] = _job(y, x, rest[1:], origin, stride, dilation, groups)
        job[:2] = (y.ctypes.data - whole.ctypes.data) // y.itemsize, start
    kernel("correlate")(x, _images(x), panels, whole, jobs, len(jobs))


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
