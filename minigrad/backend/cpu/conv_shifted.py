"""Convolution whose groups are single channels, by NumPy: a weighted sum of shifted images, tap by tap.

There is no product of matrices to win. Blocks of rows stay in the cache. A channel with m filters gives m output channels
(O = C * m).
"""
import numpy as np

from .layout import blocks, image_blocks, padded, taps
from .memory import scratch
from .threads import get_num_threads, parallel_for, split


def forward(x, w, g, y):
    """Fill y (N, Ho, Wo, O) with the convolution of x (N, H, W, C) and w (O, 1, kh, kw)."""
    filters = _filters(w, g.groups)  # (kh, kw, C, m)

    def block(index):
        images, rows = index
        out = _by_channel(y[images, rows], filters)
        product = scratch("depthwise product", out.shape, x.dtype)
        out.fill(0)
        for p, q, window in _windows(x, g, images, rows, y.shape[2]):
            out += np.multiply(window[..., None], filters[p, q], out=product)

    parallel_for(block, blocks(y.shape, y.dtype))


def input_grad(gy, w, g, gx):
    """Fill gx (N, H, W, C) with the gradient in the images for gy (N, Ho, Wo, O)."""
    filters = _filters(w, g.groups)
    c, m = filters.shape[2:]
    _, ho, wo, _ = gy.shape
    _, h, width, _ = gx.shape
    ph, pw = g.padding

    def block(images):
        dy = _by_channel(gy[images], filters)
        gxp = scratch("depthwise gx", (len(dy), h + 2 * ph, width + 2 * pw, c), gy.dtype)
        product = scratch("depthwise product", dy.shape[:4], gy.dtype)
        gxp.fill(0)
        for (p, q), view in zip(np.ndindex(*g.kernel), taps(gxp, g.kernel, g.stride, ho, wo, g.dilation)):
            for k in range(m):
                view += np.multiply(dy[..., k], filters[p, q, :, k], out=product)
        gx[images] = gxp[:, ph:ph + h, pw:pw + width]

    parallel_for(block, image_blocks(gx.shape, gx.dtype))


def weight_grad(gy, x, w_shape, g):
    """The gradient (O, 1, kh, kw) in the filters for gy (N, Ho, Wo, O)."""
    o, _, kh, kw = w_shape
    c, m = g.groups, o // g.groups
    todo = blocks(gy.shape, gy.dtype)
    parts = split(len(todo), get_num_threads())
    sums = np.zeros((len(parts), kh, kw, c, m), gy.dtype)

    def sum_part(i):
        for images, rows in todo[parts[i]]:
            dy = _by_channel(gy[images, rows], sums[i])
            pixels = dy.shape[0] * dy.shape[1] * dy.shape[2]
            product, ones = scratch("depthwise product", dy.shape, gy.dtype), np.ones(pixels, gy.dtype)
            for p, q, window in _windows(x, g, images, rows, gy.shape[2]):
                np.multiply(dy, window[..., None], out=product)
                sums[i, p, q] += (ones @ product.reshape(pixels, c * m)).reshape(c, m)  # BLAS sums columns fastest

    parallel_for(sum_part, len(parts), blas=True)
    return sums.sum(0).transpose(2, 3, 0, 1).reshape(w_shape)


def _by_channel(y, filters):
    """(n, h, w, O) to (n, h, w, C, m), for filters (kh, kw, C, m)."""
    return y.reshape(*y.shape[:3], *filters.shape[2:])


def _filters(w, c):
    """(O, 1, kh, kw) to (kh, kw, C, m)."""
    o, _, kh, kw = w.shape
    return np.ascontiguousarray(w.reshape(c, o // c, kh, kw).transpose(2, 3, 0, 1))


def _windows(x, g, images, rows, wo):
    """For each tap (p, q), the input pixel it multiplies for each output pixel of the block: (n, r, Wo, C) views."""
    block = padded(x, images, g.input_range(rows.start, rows.stop, 0), g.input_range(0, wo, 1), "depthwise x")
    windows = taps(block, g.kernel, g.stride, rows.stop - rows.start, wo, g.dilation)
    for (p, q), window in zip(np.ndindex(*g.kernel), windows):
        yield p, q, window
