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

BLOCK_SIZE = 1 << 16  # outputs; as many inputs again, and the filters of some taps, share a core's cache
LANES = 16  # floats in a vector of the kernels


def serves(w_shape, groups, *arrays):
    """Whether the kernels take this convolution: not where each channel has few filters of its own, which fill no vector."""
    o, c, kh, kw = w_shape
    depthwise = c == 1 < groups and o // groups < LANES // 2
    return kernel("correlate", *arrays) is not None and kh * kw <= 256 and not depthwise


def correlate(x, w, y, origin, stride, dilation, groups):
    """Fill y (N, Ho, Wo, O) by the equation above, with origin = (top, left)."""
    if not y.size:
        return
    if not w.size:
        y[...] = 0
        return
    window = np.array((*w.shape[2:], *origin, *stride, *dilation, groups))
    kernel("correlate")(x, _images(x), _panels(w, groups), y, _images(y), window, _block(y))


def weight_grad(gy, x, w_shape, origin, stride, dilation, groups):
    """The gradient (O, C/G, kh, kw) of `correlate` in its filters for gy (N, Ho, Wo, O)."""
    o, c, kh, kw = w_shape
    threads, filters = get_num_threads(), (kh, kw, c, groups, _rounded(o // groups))
    shared = groups >= threads or x.size < math.prod(w_shape)  # threads share the sums, or each has its own
    sums = empty((1, *filters), np.float32) if shared else zeros((threads, *filters), np.float32)
    if gy.size and c:
        window = np.array((kh, kw, *origin, *stride, *dilation, groups))
        kernel("correlate_weights")(x, _images(x), gy, _images(gy), sums, len(sums), window, _block(gy))
    else:
        sums.fill(0)
    gw = empty(w_shape, np.float32)
    kernel("unpack")(sums, len(sums), gw, groups, o // groups, _rounded(o // groups), c, kh * kw)
    return gw


def input_grad(gy, w, gx, g):
    """Fill gx (N, H, W, C) with the gradient in the images for gy (N, Ho, Wo, O); dilation 1 where the stride is not."""
    (sh, sw), groups = g.stride, g.groups
    o, c, kh, kw = w.shape
    back = w.reshape(groups, o // groups, c, kh, kw).swapaxes(1, 2).reshape(groups * c, o // groups, kh, kw)
    for a, b in itertools.product(range(min(sh, gx.shape[1])), range(min(sw, gx.shape[2]))):
        (p, top), (q, left) = (_first_tap(at, s, padding, k, d)
                               for at, s, padding, k, d in zip((a, b), g.stride, g.padding, g.kernel, g.dilation))
        seen = back[:, :, p::sh, q::sw][:, :, ::-1, ::-1]
        correlate(gy, seen, gx[:, a::sh, b::sw], (top, left), (1, 1), g.dilation, groups)


def _first_tap(at, s, padding, k, d):
    """The first tap that sees the positions `at` modulo s, and the output that saw position `at` through the last such tap."""
    if s == 1:
        return 0, padding - d * (k - 1)
    first = (at + padding) % s
    return first, (at + padding) // s - (len(range(first, k, s)) - 1)


def _images(a):
    """Lengths and strides, as the kernels read them."""
    return np.array((*a.shape, *[s // a.itemsize for s in a.strides]))


def _block(y):
    """How many images, or rows of one image, are computed at a time."""
    n, rows, columns, channels = y.shape
    row = columns * channels
    if rows * row > BLOCK_SIZE:
        return np.array((1, max(1, BLOCK_SIZE // row)))
    return np.array((max(1, min(BLOCK_SIZE // (rows * row), -(-n // get_num_threads()))), rows))


def _rounded(channels):
    """A multiple of the lanes of a vector register."""
    return -(-channels // LANES) * LANES


def _panels(w, groups):
    """The filters of each group as `correlate` in conv.c reads them, with zeros for channels that fill up a vector."""
    o, c, kh, kw = w.shape
    o = o // groups
    panels = scratch("conv panels", (groups, kh * kw * c * _rounded(o)), np.float32)
    kernel("pack")(w, panels, groups, o, _rounded(o), c, kh, kw, *[s // w.itemsize for s in w.strides])
    return panels
