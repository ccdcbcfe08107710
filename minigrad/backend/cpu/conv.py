"""Two-dimensional convolution and its two gradients.

float32 goes to the C kernels behind `direct.py`. Elsewhere a convolution is matrix products over blocks of images: a block
of a few images (or a few rows of one) is padded into a scratch buffer, the windows of its output pixels are copied side by
side into a matrix of columns, and one product with the weights writes the output ("im2col": Chellapilla, Puri and Simard,
High Performance Convolutional Neural Networks for Document Processing, 2006). The block is small enough to stay in a core's
cache, and blocks run on all threads.

    y[n, o, i, j] = sum over c, p, q of  x[n, c, i*sh + p*dh - ph, j*sw + q*dw - pw] * w[o, c, p, q]

Arrays are (N, C, H, W) with any strides; results are channels-last in memory, and so is the fastest input. Weights are
(O, C/groups, kh, kw). `stride`, `padding` and `dilation` are pairs (vertical, horizontal).
"""

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from . import depthwise, direct
from .layout import blocks, image_blocks, nchw, nhwc, padded
from .memory import empty, scratch
from .threads import get_num_threads, parallel_for, split

BLOCK_BYTES = 1 << 20  # of columns


class Geometry(NamedTuple):
    """What a convolution does to positions: window size, and pairs (vertical, horizontal)."""

    kernel: tuple
    stride: tuple
    padding: tuple
    dilation: tuple
    groups: int

    def output_size(self, size):
        """(H, W) of the output for (H, W) of the input."""
        return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1
                     for n, k, s, p, d in zip(size, self.kernel, self.stride, self.padding, self.dilation))

    def input_range(self, start, stop, axis):
        """The input positions (start, stop) under the windows of the outputs start .. stop - 1, padding included."""
        s, p, d, k = self.stride[axis], self.padding[axis], self.dilation[axis], self.kernel[axis]
        return start * s - p, (stop - 1) * s - p + d * (k - 1) + 1


def conv2d(x, w, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    """Cross-correlate images with a filter bank.

    Args:
        x: (N, C, H, W).
        w: (O, C/groups, kh, kw).

    Returns:
        (N, O, Ho, Wo), channels-last in memory.

    Raises:
        ValueError: the channels do not fit the groups, or the window is larger than the padded image.
        TypeError: an array is not floating point.
    """
    x, w = _floats("conv2d", x, w)
    g = _geometry("conv2d", x.shape, w.shape, stride, padding, dilation, groups)
    return _correlate(x, w, g)


def conv2d_input_grad(gy, w, x_shape, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    """The gradient of `conv2d` in its images: (N, O, Ho, Wo) to `x_shape`. This is the transposed convolution."""
    gy, w = _floats("conv2d_input_grad", gy, w)
    g = _geometry("conv2d_input_grad", x_shape, w.shape, stride, padding, dilation, groups, gy.shape)
    mirrored = tuple(d * (k - 1) - p for d, k, p in zip(g.dilation, g.kernel, g.padding))
    if direct.serves(w.shape, groups, gy, w) and all(s == 1 or d == 1 for s, d in zip(g.stride, g.dilation)):
        n, c, h, width = x_shape
        gx = empty((n, h, width, c), gy.dtype)
        direct.input_grad(nhwc(gy), w, gx, g)
        return nchw(gx)
    if g.stride == (1, 1) and min(mirrored) >= 0:
        # With stride 1 it is a convolution too: windows mirrored, the roles of the channels swapped.
        o, c, kh, kw = w.shape
        w = w.reshape(groups, o // groups, c, kh, kw).swapaxes(1, 2)[..., ::-1, ::-1]  # (G, C/G, O/G, kh, kw)
        return _correlate(gy, w.reshape(groups * c, o // groups, kh, kw), g._replace(padding=mirrored))
    return _scatter(gy, w, x_shape, g)


def conv2d_weight_grad(gy, x, w_shape, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    """The gradient of `conv2d` in its weights: (N, O, Ho, Wo) and (N, C, H, W) to `w_shape`.

    Each thread sums over its share of the images, so the rounding depends on the number of threads.
    """
    gy, x = _floats("conv2d_weight_grad", gy, x)
    g = _geometry("conv2d_weight_grad", x.shape, w_shape, stride, padding, dilation, groups, gy.shape)
    x, gy = nhwc(x), nhwc(gy)
    if direct.serves(w_shape, groups, gy, x):
        origin = -g.padding[0], -g.padding[1]
        return direct.weight_grad(gy, x, w_shape, origin, g.stride, g.dilation, groups)
    if depthwise.applies(w_shape, groups):
        return depthwise.weight_grad(gy, x, w_shape, g)
    o, c, kh, kw = w_shape

    todo = _blocks(gy.shape, w_shape, x.dtype)
    parts = split(len(todo), get_num_threads())
    sums = np.zeros((len(parts), groups, kh * kw * c, o // groups), x.dtype)

    def sum_part(i):
        for images, rows in todo[parts[i]]:
            columns = _columns(x, g, images, rows, gy.shape[2])  # (G, P, kh*kw*C/G)
            dy = padded(gy, images, (rows.start, rows.stop), (0, gy.shape[2]), "conv dy")
            dy = dy.reshape(-1, groups, o // groups).transpose(1, 0, 2)  # (G, P, O/G)
            sums[i] += np.matmul(columns.transpose(0, 2, 1), dy)

    parallel_for(sum_part, len(parts), blas=True)
    gw = sums.sum(0).reshape(groups, kh, kw, c, o // groups)
    return gw.transpose(0, 4, 3, 1, 2).reshape(w_shape)


def _correlate(x, w, g):
    """The convolution proper, for checked float32 or float64 arrays."""
    x = nhwc(x)
    n, h, width, _ = x.shape
    o, c = w.shape[:2]
    y = empty((n, *g.output_size((h, width)), o), x.dtype)
    if direct.serves(w.shape, g.groups, x, w):
        direct.correlate(x, w, y, (-g.padding[0], -g.padding[1]), g.stride, g.dilation, g.groups)
        return nchw(y)
    if depthwise.applies(w.shape, g.groups):
        return nchw(depthwise.correlate(x, w, g, y))
    matrix = _weight_matrix(w, g.groups)  # (G, kh*kw*C/G, O/G)

    def block(index):
        images, rows = index
        columns = _columns(x, g, images, rows, y.shape[2])  # (G, P, kh*kw*C/G) for the block's P output pixels
        out = y[images, rows].reshape(-1, g.groups, o // g.groups).transpose(1, 0, 2)  # (G, P, O/G), a view of y
        np.matmul(columns, matrix, out=out)

    parallel_for(block, _blocks(y.shape, w.shape, x.dtype), blas=True)
    return nchw(y)


def _scatter(gy, w, x_shape, g):
    """The input gradient for any stride: every output pixel adds its columns to the window it saw ("col2im")."""
    gy = nhwc(gy)
    n, ho, wo, o = gy.shape
    _, channels, h, width = x_shape
    (kh, kw), (sh, sw), (ph, pw), (dh, dw), groups = g
    gx = empty((n, h, width, channels), gy.dtype)
    if depthwise.applies(w.shape, groups):
        return nchw(depthwise.scatter(gy, w, g, gx))
    matrix = _weight_matrix(w, groups).transpose(0, 2, 1)  # (G, O/G, kh*kw*C/G)

    def block(images):
        gxp = scratch("conv gx", (len(gx[images]), h + 2 * ph, width + 2 * pw, groups, channels // groups), gy.dtype)
        gxp.fill(0)
        for part, rows in _blocks((len(gxp), ho, wo, o), w.shape, gy.dtype):
            n, r = part.stop - part.start, rows.stop - rows.start
            dy = padded(gy[images], part, (rows.start, rows.stop), (0, wo), "conv dy")
            dy = dy.reshape(-1, groups, o // groups).transpose(1, 0, 2)  # (G, P, O/G)
            columns = scratch("conv columns", (groups, n * r * wo, matrix.shape[2]), gy.dtype)
            np.matmul(dy, matrix, out=columns)
            columns = columns.reshape(groups, n, r, wo, kh, kw, -1).transpose(4, 5, 1, 2, 3, 0, 6)
            for p in range(kh):
                for q in range(kw):  # add (n, r, Wo, G, C/G) for each tap
                    top, left = rows.start * sh + p * dh, q * dw
                    gxp[part, top:top + (r - 1) * sh + 1:sh, left:left + (wo - 1) * sw + 1:sw] += columns[p, q]
        gx[images] = gxp[:, ph:ph + h, pw:pw + width].reshape(-1, h, width, channels)

    parallel_for(block, image_blocks(gx.shape, gx.dtype), blas=True)
    return nchw(gx)


def _columns(x, g, images, rows, wo):
    """The windows of some output rows, side by side: (N, H, W, C) to (G, P, kh*kw*C/G) for P output pixels.

    Memory is copied in the longest runs there are. With many channels that is a row of a window, with few it is a row
    of the image, and then the matrix is stored transposed (BLAS multiplies either).
    """
    (kh, kw), (sh, sw), (_, pw), (dh, dw), groups = g
    n, r, c = images.stop - images.start, rows.stop - rows.start, x.shape[3] // groups
    block = padded(x, images, g.input_range(rows.start, rows.stop, 0), g.input_range(0, wo, 1), "conv x")
    if g.kernel == g.stride == (1, 1):
        return block.reshape(-1, groups, c).transpose(1, 0, 2)  # nothing to gather
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


def _weight_matrix(w, groups):
    """(O, C/G, kh, kw) to (G, kh*kw*C/G, O/G), with the rows in the order of `_columns`."""
    o, c, kh, kw = w.shape
    return w.reshape(groups, o // groups, c, kh, kw).transpose(0, 3, 4, 2, 1).reshape(groups, kh * kw * c, o // groups)


def _blocks(y_shape, w_shape, dtype):
    """Blocks of output rows whose columns fit the cache."""
    n, ho, wo, _ = y_shape
    return blocks((n, ho, wo, w_shape[1] * w_shape[2] * w_shape[3]), dtype, BLOCK_BYTES)


def _floats(name, a, b):
    """Both arrays in the type that they have together."""
    dtype = np.result_type(a, b)
    if dtype.kind != "f":
        raise TypeError(f"{name}: expected floating-point arrays, got {a.dtype} and {b.dtype}")
    return a.astype(dtype, copy=False), b.astype(dtype, copy=False)


def _geometry(name, x_shape, w_shape, stride, padding, dilation, groups, gy_shape=None):
    n, c, h, width = x_shape
    o, group_channels, *kernel = w_shape
    if c != group_channels * groups or o % groups:
        raise ValueError(f"{name}: weights {tuple(w_shape)} with {groups} groups do not fit images {tuple(x_shape)}")
    g = Geometry(tuple(kernel), tuple(stride), tuple(padding), tuple(dilation), groups)
    ho, wo = g.output_size((h, width))
    if min(ho, wo) < 1:
        raise ValueError(f"{name}: the window {g.kernel} with dilation {g.dilation} is larger than the images "
                         f"{(h, width)} with padding {g.padding}")
    if gy_shape is not None and tuple(gy_shape) != (n, o, ho, wo):
        raise ValueError(f"{name}: expected an output gradient of shape {(n, o, ho, wo)}, got {tuple(gy_shape)}")
    return g
