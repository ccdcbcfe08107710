"""Convolution by the kernels of `conv.c`, without a matrix of columns: float32. conv.c has a picture of what they do.

Forward and both gradients are one thing, a correlation of images with filters,

    y[n, i, j, o] = sum over c, p, q of x[n, top + i*sh + p*dh, left + j*sw + q*dw, c] * w[o, c, p, q]

and its gradient in w. With stride s the gradient in x falls into s*s parts, one for each position modulo s: the outputs
there saw every s-th tap, which makes each part a correlation of stride 1.

The kernels' arguments but for the arrays (a plan) follow from shapes, strides and the number of threads. To make a plan
takes as long as a small convolution, so plans are cached.
"""
import functools
import itertools
import math
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from .declarations import constant, packed, record, struct
from .memory import empty, scratch, zeros
from .native import kernel
from .threads import get_num_threads, on_change

BLOCK_SIZE = 1 << 16  # outputs or inputs; both, and the filters of some taps, share a core's cache
PART_SIZE = 1 << 16  # products for each tap: fewer are not worth another thread
LANES = constant("kernels.h", "LANES")  # channels that the kernels treat as one
IMAGES, WINDOW, BLOCK, JOB, FILTERS = (struct("conv.h", name) for name in ("Images", "Window", "Block", "Job", "Filters"))


def forward(x, w, g, y):
    """Fill y (N, Ho, Wo, O), contiguous, with the convolution of x (N, H, W, C) and w (O, C/G, kh, kw)."""
    if _few_rows(x, y, g):
        x, y, w, g = _upright(x), _upright(y), w.swapaxes(2, 3), g.transposed()
    _run(forward_plan(x, w, g, y), x, w, y, zeros=True)


def input_grad(gy, w, g, gx):
    """Fill gx (N, H, W, C) with the gradient in the images for gy (N, Ho, Wo, O); dilation 1 where the stride is not."""
    if _few_rows(gx, gy, g):
        gy, gx, w, g = _upright(gy), _upright(gx), w.swapaxes(2, 3), g.transposed()
    _run(input_grad_plan(gy, w, g, gx), gy, w, gx, zeros=False)


def weight_grad(gy, x, w_shape, g):
    """The gradient (O, C/G, kh, kw) in the filters for gy (N, Ho, Wo, O)."""
    if _few_rows(x, gy, g):
        gy, x, g = _upright(gy), _upright(x), g.transposed()
    (o, c, kh, kw), groups = w_shape, g.groups
    threads, filters = get_num_threads(), (kh, kw, c, groups, _rounded(o // groups))
    shared = groups >= threads or x.size < math.prod(w_shape)  # threads share the sums, or each has its own
    sums = empty((1, *filters), np.float32) if shared else zeros((threads, *filters), np.float32)
    if gy.size and c:
        images, job = images_and_job(gy, x, g)
        kernel("correlate_weights")(x, images, gy, sums, len(sums), job)
    else:
        sums.fill(0)
    gw = empty(w_shape, np.float32)
    kernel("unpack")(sums, len(sums), gw, groups, o // groups, _rounded(o // groups), c, kh * kw)
    return gw


def _few_rows(x, y, g):
    """Whether images are single rows (sequences), so few that threads, which share images and rows, would have nothing to do.

    Not with few channels: the taps of a row are one run of numbers, those of a column are not.
    """
    rows = x.shape[1] == y.shape[1] == g.kernel[0] == 1 and g.padding[0] == 0
    return rows and len(x) * g.groups < get_num_threads() and min(x.shape[3], y.shape[3]) // g.groups >= LANES


def _upright(images):
    """The same memory as columns: (N, 1, W, C) to (N, W, 1, C)."""
    return images.swapaxes(1, 2)


def images_and_job(y, x, g):
    """x's Images and the Job of the convolution from x (N, H, W, C) to y (N, Ho, Wo, O), as arrays for the kernels."""
    return _job_plan(_layout(y), _layout(x), g)


class Plan(NamedTuple):
    """The arguments of the kernel `correlate`."""

    images: np.ndarray
    filters: np.ndarray
    jobs: np.ndarray
    size: int  # how many floats the packed filters are
    blank: bool  # whether some outputs see nothing


def forward_plan(x, w, g, y):
    """The Plan of `forward`."""
    return _forward_plan(_layout(x), _layout(_in_groups(w, g.groups)), _layout(y), g)


def input_grad_plan(gy, w, g, gx):
    """The Plan of `input_grad`."""
    return _input_grad_plan(_layout(gy), _layout(_in_groups(w, g.groups)), _layout(gx), g)


def _run(plan, x, w, y, zeros):
    if plan.blank:
        y[...] = 0
    if plan.size:
        panels = scratch("conv panels", (plan.size,), np.float32)
        kernel("correlate")(x, plan.images, w, plan.filters, panels, y, plan.jobs, len(plan.jobs), zeros)


def _layout(a):
    return a.shape, a.strides


def _array(layout):
    """A stand-in of this shape and these strides, without the memory."""
    return as_strided(np.empty(1, np.float32), *layout)


@functools.lru_cache(maxsize=1024)
def _forward_plan(x, w, y, g):
    x, w, y = map(_array, (x, w, y))
    return _plan(x, w, y, [(w, y, _origin(g))], g.stride, g.dilation)


@functools.lru_cache(maxsize=1024)
def _input_grad_plan(gy, w, gx, g):
    gy, w, gx = map(_array, (gy, w, gx))
    (sh, sw), back, parts = g.stride, w.swapaxes(1, 2), []
    for a, b in itertools.product(range(min(sh, gx.shape[1])), range(min(sw, gx.shape[2]))):
        (p, top), (q, left) = (_first_tap(at, s, padding, k, d)
                               for at, s, padding, k, d in zip((a, b), g.stride, g.padding, g.kernel, g.dilation))
        parts.append((back[..., p::sh, q::sw][..., ::-1, ::-1], gx[:, a::sh, b::sw], (top, left)))
    return _plan(gy, w, gx, parts, (1, 1), g.dilation)


@functools.lru_cache(maxsize=1024)
def _job_plan(y, x, g):
    y, x = _array(y), _array(x)
    return packed(IMAGES, _images(x)), packed(JOB, _job(y, x, g.kernel, _origin(g), g.stride, g.dilation, g.groups))


def _forget(_threads):
    for plan in (_forward_plan, _input_grad_plan, _job_plan):
        plan.cache_clear()


on_change.append(_forget)  # the size of a block depends on the number of threads


def _plan(x, whole_w, whole_y, parts, stride, dilation):
    """The Plan for each (w, y, origin) of `parts`: w (G, O/G, C/G, kh, kw) and y are parts of the whole ones."""
    filters, jobs, size, blank = [], [], 0, False
    for w, y, origin in parts:
        if not (w.size and y.size):
            blank |= y.size > 0
            continue
        groups, outputs, inputs, height, width = w.shape
        strides = dict(zip(("group", "output", "input", "down", "right"), _strides(w)))
        filters.append(record(FILTERS, start=_distance(whole_w, w), panels=size, groups=groups, outputs=outputs,
                              channels=_rounded(outputs), inputs=inputs, height=height, width=width, **strides))
        jobs.append(_job(y, x, (height, width), origin, stride, dilation, groups, _distance(whole_y, y), size))
        size += groups * _rounded(outputs) * inputs * height * width
    return Plan(packed(IMAGES, _images(x)), packed(FILTERS, *filters), packed(JOB, *jobs), size, blank)


def _job(y, x, size, origin, stride, dilation, groups, y_start=0, w_start=0):
    """A Job of conv.h; its outputs and packed filters begin at `y_start` and `w_start`."""
    (height, width), (top, left), (down, right), (row_gap, column_gap) = size, origin, stride, dilation
    window = record(WINDOW, height=height, width=width, top=top, left=left, down=down, right=right, row_gap=row_gap,
                    column_gap=column_gap, groups=groups)
    return record(JOB, y=y_start, w=w_start, outputs=_images(y), window=window, block=_block(y, x, stride, groups))


def _images(a):
    """The Images of conv.h for (N, H, W, C)."""
    lengths = dict(zip(("images", "rows", "columns", "channels"), a.shape))
    return record(IMAGES, **lengths, **dict(zip(("image", "row", "column", "channel"), _strides(a))))


def _block(y, x, stride, groups):
    """The Block of conv.h: how many images, or rows of one image, are computed at a time for a group.

    Few images are cut, each into as many parts as give every thread the same number of them.
    """
    (n, rows, columns, channels), threads = y.shape, get_num_threads()
    row = max(1, columns * max(channels, stride[0] * stride[1] * x.shape[3]) // groups)
    parts = threads // math.gcd(n * groups, threads)
    if n * groups > 4 * threads or n * rows * columns * channels * x.shape[3] < PART_SIZE * groups * threads:
        parts = 1
    if parts > 1 or rows * row > BLOCK_SIZE:
        return record(BLOCK, images=1, rows=max(1, min(-(-rows // parts), BLOCK_SIZE // row)))
    return record(BLOCK, images=max(1, min(BLOCK_SIZE // (rows * row), -(-n // threads))), rows=rows)


def _origin(g):
    """What the first output sees first."""
    return -g.padding[0], -g.padding[1]


def _first_tap(at, s, padding, k, d):
    """The first tap that sees the positions `at` modulo s, and the output that saw `at` through the last such tap."""
    if s == 1:
        return 0, padding - d * (k - 1)
    first = (at + padding) % s
    return first, (at + padding) // s - (len(range(first, k, s)) - 1)


def _in_groups(w, groups):
    """(O, C/G, kh, kw) to (G, O/G, C/G, kh, kw)."""
    return w.reshape(groups, len(w) // groups, *w.shape[1:])


def _distance(a, b):
    """How many elements of `a` come before the first of `b`, a part of it."""
    return (b.ctypes.data - a.ctypes.data) // a.itemsize


def _strides(a):
    """From one element to the next along each axis, counted in elements."""
    return [s // a.itemsize for s in a.strides]


def _rounded(channels):
    """A multiple of the lanes of a vector register."""
    return -(-channels // LANES) * LANES
