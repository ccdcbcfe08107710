"""Depthwise convolution: every channel has its own filters, so there is no matrix product to win.

It is a weighted sum of shifted images. Where channels have one filter each, float32 goes to the C kernels, which are told
which outputs, taps and inputs meet. Elsewhere NumPy takes tap by tap, over blocks of rows that stay in the cache. The
functions work on (N, H, W, C) images; a channel with m filters gives m output channels (O = C * m).
"""
import functools

import numpy as np

from .layout import blocks, contiguous_nhwc, image_blocks, nchw, padded
from .memory import empty, scratch
from .native import kernel
from .threads import get_num_threads, parallel_for, split


def applies(w_shape, groups):
    """True if each group is a single channel."""
    return groups > 1 and w_shape[1] == 1


def correlate(x, w, g, y):
    """Fill y (N, Ho, Wo, O) with the convolution of x (N, H, W, C) and w (O, 1, kh, kw)."""
    taps = _taps(w, g.groups)  # (kh, kw, C, m)
    c, m = taps.shape[2:]
    if m == 1 and kernel("depthwise", x, taps):
        _weighted_sum(x, taps, y, [_meeting(axis, OUTPUT, (TAP, INPUT)) for axis in _axes(g, x, y)])
        return y

    def block(index):
        images, rows = index
        out = y[images, rows]
        out = out.reshape(*out.shape[:3], c, m)
        product = scratch("depthwise product", out.shape, x.dtype)
        out.fill(0)
        for p, q, window in _windows(x, g, images, rows, y.shape[2]):
            out += np.multiply(window[..., None], taps[p, q], out=product)

    parallel_for(block, blocks(y.shape, y.dtype))
    return y


def scatter(gy, w, g, gx):
    """Fill gx (N, H, W, C) with the input gradient of `correlate` for gy (N, Ho, Wo, O)."""
    taps = _taps(w, g.groups)
    c, m = taps.shape[2:]
    if m == 1 and kernel("depthwise", gy, taps):
        _weighted_sum(gy, taps, gx, [_meeting(axis, INPUT, (TAP, OUTPUT)) for axis in _axes(g, gx, gy)])
        return gx
    n, ho, wo, _ = gy.shape
    _, h, width, _ = gx.shape
    (kh, kw), (sh, sw), (ph, pw), (dh, dw), _ = g

    def block(images):
        dy = gy[images]
        dy = dy.reshape(*dy.shape[:3], c, m)
        gxp = scratch("depthwise gx", (len(dy), h + 2 * ph, width + 2 * pw, c), gy.dtype)
        product = scratch("depthwise product", dy.shape[:4], gy.dtype)
        gxp.fill(0)
        for p in range(kh):
            for q in range(kw):
                view = gxp[:, p * dh:p * dh + (ho - 1) * sh + 1:sh, q * dw:q * dw + (wo - 1) * sw + 1:sw]
                for k in range(m):
                    view += np.multiply(dy[..., k], taps[p, q, :, k], out=product)
        gx[images] = gxp[:, ph:ph + h, pw:pw + width]

    parallel_for(block, image_blocks(gx.shape, gx.dtype))
    return gx


def weight_grad(gy, x, w_shape, g):
    """The weight gradient (O, 1, kh, kw) of `correlate` for gy (N, Ho, Wo, O)."""
    o, _, kh, kw = w_shape
    c, m = g.groups, o // g.groups
    if m == 1 and kernel("depthwise_weights", gy, x):
        return _weight_sums(gy, x, (kh, kw), g).transpose(2, 0, 1).reshape(w_shape)
    todo = blocks(gy.shape, gy.dtype)
    parts = split(len(todo), get_num_threads())
    sums = np.zeros((len(parts), kh, kw, c, m), gy.dtype)

    def sum_part(i):
        for images, rows in todo[parts[i]]:
            dy = gy[images, rows]
            dy = dy.reshape(*dy.shape[:3], c, m)
            product = scratch("depthwise product", dy.shape, gy.dtype)
            ones = np.ones(dy.shape[0] * dy.shape[1] * dy.shape[2], gy.dtype)
            for p, q, window in _windows(x, g, images, rows, gy.shape[2]):
                np.multiply(dy, window[..., None], out=product)
                sums[i, p, q] += (ones @ product.reshape(-1, c * m)).reshape(c, m)  # BLAS sums columns fastest

    parallel_for(sum_part, len(parts), blas=True)
    return sums.sum(0).transpose(2, 3, 0, 1).reshape(w_shape)


OUTPUT, TAP, INPUT = range(3)


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


def _weighted_sum(x, taps, y, meeting):
    """Fill y (N, rows, columns, C) with the sums of x (N, H, W, C) times taps (kh, kw, C, 1) over what meets there."""
    rows, columns = meeting
    kernel("depthwise")(contiguous_nhwc(nchw(x)), taps, y, *rows, *columns, *x.shape[:3], *y.shape[1:], taps.shape[1])


def _weight_sums(gy, x, taps, g):
    """(kh, kw, C)."""
    down, across = _axes(g, x, gy)
    rows, columns = _meeting(down, OUTPUT, (TAP, INPUT)), _meeting(across, TAP, (OUTPUT, INPUT))
    parts = max(1, min(get_num_threads(), gy.size >> 14))
    totals = empty((parts, *taps, x.shape[3]))
    gy, x = contiguous_nhwc(nchw(gy)), contiguous_nhwc(nchw(x))
    kernel("depthwise_weights")(gy, x, totals, *rows, *columns, parts, *x.shape[:3], *gy.shape[1:], *taps)
    return totals.sum(0)


def _taps(w, c):
    """(O, 1, kh, kw) to (kh, kw, C, m)."""
    o, _, kh, kw = w.shape
    return np.ascontiguousarray(w.reshape(c, o // c, kh, kw).transpose(2, 3, 0, 1))


def _windows(x, g, images, rows, wo):
    """For each tap (p, q), the input pixel it multiplies for each output pixel of the block: (n, r, Wo, C) views."""
    (kh, kw), (sh, sw), _, (dh, dw), _ = g
    r = rows.stop - rows.start
    block = padded(x, images, g.input_range(rows.start, rows.stop, 0), g.input_range(0, wo, 1), "depthwise x")
    for p in range(kh):
        for q in range(kw):
            yield p, q, block[:, p * dh:p * dh + (r - 1) * sh + 1:sh, q * dw:q * dw + (wo - 1) * sw + 1:sw]
