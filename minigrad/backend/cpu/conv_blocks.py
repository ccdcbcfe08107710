"""Convolution as products of matrices over blocks of images, by NumPy and BLAS, for any window and any floating-point type.

A block of a few images (or a few rows of one) is padded into a scratch buffer, the windows of its output pixels are copied
side by side into a matrix of columns, and one product with the weights writes the output ("im2col": Chellapilla, Puri and
Simard, High Performance Convolutional Neural Networks for Document Processing, 2006). The block is small enough to stay in
a core's cache, and blocks run on all threads.
"""
import numpy as np
from numpy.lib.stride_tricks import as_strided

from .layout import blocks, image_blocks, padded
from .memory import scratch
from .threads import get_num_threads, parallel_for, split

BLOCK_BYTES = 1 << 20  # of columns


def forward(x, w, g, y):
    """Fill y (N, Ho, Wo, O) with the convolution of x (N, H, W, C) and w (O, C/G, kh, kw)."""
    matrix = _weight_matrix(w, g.groups)  # (G, kh*kw*C/G, O/G)

    def block(index):
        images, rows = index
        columns = _columns(x, g, images, rows, y.shape[2])  # (G, P, kh*kw*C/G) for the block's P output pixels
        np.matmul(columns, matrix, out=_pixels(y[images, rows], g.groups))

    parallel_for(block, _blocks(y.shape, w.shape, x.dtype), blas=True)


def input_grad(gy, w, g, gx):
    """Fill gx (N, H, W, C) with the gradient in the images: each output pixel adds its columns to its window ("col2im")."""
    _, ho, wo, o = gy.shape
    _, h, width, channels = gx.shape
    (kh, kw), (sh, sw), (ph, pw), (dh, dw), groups = g
    matrix = _weight_matrix(w, groups).transpose(0, 2, 1)  # (G, O/G, kh*kw*C/G)

    def block(images):
        n, c = len(gx[images]), channels // groups
        gxp = scratch("conv gx", (n, h + 2 * ph, width + 2 * pw, groups, c), gy.dtype)
        gxp.fill(0)
        for part, rows in _blocks((n, ho, wo, o), w.shape, gy.dtype):
            n, r = part.stop - part.start, rows.stop - rows.start
            dy = _pixels(padded(gy[images], part, (rows.start, rows.stop), (0, wo), "conv dy"), groups)  # (G, P, O/G)
            columns = scratch("conv columns", (groups, n * r * wo, matrix.shape[2]), gy.dtype)
            np.matmul(dy, matrix, out=columns)
            columns = columns.reshape(groups, n, r, wo, kh, kw, c).transpose(4, 5, 1, 2, 3, 0, 6)
            for p in range(kh):
                for q in range(kw):  # add (n, r, Wo, G, C/G) for each tap
                    top, left = rows.start * sh + p * dh, q * dw
                    gxp[part, top:top + (r - 1) * sh + 1:sh, left:left + (wo - 1) * sw + 1:sw] += columns[p, q]
        gx[images] = gxp[:, ph:ph + h, pw:pw + width].reshape(gx[images].shape)

    parallel_for(block, image_blocks(gx.shape, gx.dtype), blas=True)


def weight_grad(gy, x, w_shape, g):
    """The gradient (O, C/G, kh, kw) in the weights, for gy (N, Ho, Wo, O)."""
    (o, c, kh, kw), groups = w_shape, g.groups
    todo = _blocks(gy.shape, w_shape, x.dtype)
    parts = split(len(todo), get_num_threads())
    sums = np.zeros((len(parts), groups, kh * kw * c, o // groups), x.dtype)

    def sum_part(i):
        for images, rows in todo[parts[i]]:
            columns = _columns(x, g, images, rows, gy.shape[2])  # (G, P, kh*kw*C/G)
            dy = padded(gy, images, (rows.start, rows.stop), (0, gy.shape[2]), "conv dy")
            sums[i] += np.matmul(columns.transpose(0, 2, 1), _pixels(dy, groups))

    parallel_for(sum_part, len(parts), blas=True)
    gw = sums.sum(0).reshape(groups, kh, kw, c, o // groups)
    return gw.transpose(0, 4, 3, 1, 2).reshape(w_shape)


def _columns(x, g, images, rows, wo):
    """The windows of some output rows, side by side: (N, H, W, C) to (G, P, kh*kw*C/G) for P output pixels.

    Memory is copied in the longest runs there are. With many channels that is a row of a window, with few it is a row
    of the image, and then the matrix is stored transposed (BLAS multiplies either).
    """
    (kh, kw), (sh, sw), _, (dh, dw), groups = g
    n, r, c = images.stop - images.start, rows.stop - rows.start, x.shape[3] // groups
    block = padded(x, images, g.input_range(rows.start, rows.stop, 0), g.input_range(0, wo, 1), "conv x")
    if g.kernel == g.stride == (1, 1):
        return _pixels(block, groups)  # nothing to gather
    s0, s1, s2, s3 = block.strides
    windows = as_strided(block, (groups, n, r, wo, kh, kw, c), (c * s3, s0, s1 * sh, s2 * sw, s1 * dh, s2 * dw, s3))
    pixels, taps = n * r * wo, kh * kw * c
    if c >= 8:
        columns = scratch("conv columns", (groups, pixels, taps), x.dtype)
        np.copyto(columns.reshape(windows.shape), windows)
        return columns
    windows = windows.transpose(0, 4, 5, 6, 1, 2, 3)
    columns = scratch("conv columns", (groups, taps, pixels), x.dtype)
    np.copyto(columns.reshape(windows.shape), windows)
    return columns.transpose(0, 2, 1)


def _pixels(x, groups):
    """(n, h, w, C) to (G, n*h*w, C/G), a view where memory allows."""
    n, h, w, c = x.shape
    return x.reshape(n * h * w, groups, c // groups).transpose(1, 0, 2)


def _weight_matrix(w, groups):
    """(O, C/G, kh, kw) to (G, kh*kw*C/G, O/G), with the rows in the order of `_columns`."""
    o, c, kh, kw = w.shape
    return w.reshape(groups, o // groups, c, kh, kw).transpose(0, 3, 4, 2, 1).reshape(groups, kh * kw * c, o // groups)


def _blocks(y_shape, w_shape, dtype):
    """Blocks of output rows whose columns fit the cache."""
    n, ho, wo, _ = y_shape
    return blocks((n, ho, wo, w_shape[1] * w_shape[2] * w_shape[3]), dtype, BLOCK_BYTES)
