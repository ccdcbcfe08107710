"""Depthwise convolution by the kernels of `conv_depthwise.c`: float32, and one filter for each channel. Of several filters each
the channels are repeated, to as many as the output has.

It is a weighted sum of shifted images. Along each axis the kernels are given the outputs, taps and inputs that meet, so
that they know nothing of strides, padding and dilation.
"""
import functools

import numpy as np

from .declarations import constant
from .layout import contiguous_nhwc, nchw
from .memory import empty
from .native import kernel
from .threads import get_num_threads

LANES, PADDED = constant("kernels.h", "LANES"), constant("conv_depthwise.c", "PADDED")
OUTPUT, TAP, INPUT = range(3)


def by_planes(x, w, g):
    """The convolution (N, C, Ho, Wo) of dense x (N, C, H, W) as it lies, without the way to channels-last memory and back.

    None where channels have not one filter each, the stride across is not 1, a row has fewer than LANES places or too many, or
    x is another's.
    """
    n, c, h, width = x.shape
    if not len(w) == g.groups == c > 1:
        return None
    rows, columns = g.output_size((h, width))
    (k, s, p, d), line = (pair[0] for pair in g[:4]), width + 2 * g.padding[1]
    block = (PADDED // line - d * (k - 1) - 1) // s + 1  # rows whose windows fit into PADDED numbers
    fits = g.stride[1] == 1 and columns >= LANES and block > 0
    if not (fits and x.flags.c_contiguous and kernel("depthwise_planes", x, w)):
        return None
    y, meeting = empty((n, c, rows, columns), x.dtype), _meeting((k, s, p, d, h, rows), OUTPUT, (TAP, INPUT))
    kernel("depthwise_planes")(x, np.ascontiguousarray(w[:, 0]), y, *meeting, n * c, c, h, width, rows, columns, *g.kernel,
                               g.padding[1], g.dilation[1], block)
    return y


def forward(x, w, g, y):
    """Fill y (N, Ho, Wo, O) with the convolution of x (N, H, W, C) and w (O, 1, kh, kw)."""
    _weighted_sum(_repeated(x, len(w)), w, y, [_meeting(axis, OUTPUT, (TAP, INPUT)) for axis in _axes(g, x, y)])


def input_grad(gy, w, g, gx):
    """Fill gx (N, H, W, C) with the gradient in the images for gy (N, Ho, Wo, O)."""
    filters, meeting = len(w) // gx.shape[3], [_meeting(axis, INPUT, (TAP, OUTPUT)) for axis in _axes(g, gx, gy)]
    each = gx if filters == 1 else empty((*gx.shape[:3], len(w)), gx.dtype)
    _weighted_sum(gy, w, each, meeting)
    if each is not gx:
        gx[...] = each[..., ::filters]
        for i in range(1, filters):
            gx += each[..., i::filters]


def weight_grad(gy, x, w_shape, g):
    """The gradient (O, 1, kh, kw) in the filters for gy (N, Ho, Wo, O)."""
    x = _repeated(x, w_shape[0])
    down, across = _axes(g, x, gy)
    rows, columns = _meeting(down, OUTPUT, (TAP, INPUT)), _meeting(across, TAP, (OUTPUT, INPUT))
    parts = max(1, min(get_num_threads(), gy.size >> 14))
    totals = empty((parts, *g.kernel, x.shape[3]))
    gy, x = contiguous_nhwc(nchw(gy)), contiguous_nhwc(nchw(x))
    kernel("depthwise_weights")(gy, x, totals, *rows, *columns, parts, *x.shape[:3], *gy.shape[1:], *g.kernel)
    return totals.sum(0).transpose(2, 0, 1).reshape(w_shape)


def _repeated(x, filters):
    """(N, H, W, C) with each channel once for each of its filters, so many in all."""
    return x if filters == x.shape[3] else x.repeat(filters // x.shape[3], 3)


def _weighted_sum(x, w, y, meeting):
    """Fill y (N, rows, columns, C) with the sums of x (N, H, W, C) times w (C, 1, kh, kw) over what meets there."""
    taps = np.ascontiguousarray(w[:, 0].transpose(1, 2, 0))  # (kh, kw, C)
    rows, columns = meeting
    kernel("depthwise")(contiguous_nhwc(nchw(x)), taps, y, *rows, *columns, *x.shape[:3], *y.shape[1:], taps.shape[1])


def _axes(g, x, y):
    """Window, stride, padding, dilation, inputs and outputs, down and across, for x (N, H, W, C) and y (N, Ho, Wo, C)."""
    return zip(*g[:4], x.shape[1:3], y.shape[1:3])


@functools.lru_cache(256)
def _meeting(axis, by, pair):
    """What meets along an axis: all (output i, tap t, input r) with r = i s + t d - p.

    Returns for each value of `by` where its members begin, (values + 1,), and of each member the `pair`, (members, 2).
    """
    k, s, p, d, inputs, outputs = axis
    output, tap = np.divmod(np.arange(outputs * k), k)
    at = output * s + tap * d - p
    members = np.stack([output, tap, at], 1)[(at >= 0) & (at < inputs)]
    members = members[np.argsort(members[:, by], kind="stable")]
    starts = np.searchsorted(members[:, by], np.arange((outputs, k, inputs)[by] + 1))
    return starts, np.ascontiguousarray(members[:, pair])
