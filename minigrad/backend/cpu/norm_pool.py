"""Batch normalisation, alone and fused with the ReLU and max pooling that follow it in a convolutional block.

    y = gamma * (x - mean) / sqrt(var + eps) + beta        mean and variance over all axes but the channels

(Ioffe and Szegedy, Batch Normalization, 2015, arXiv:1502.03167). Definitions: minigrad/ops/normalization.py; of
`add_to_channels` and `channel_sums`, minigrad/ops/conv.py.

Images are (N, C, H, W) with any strides, features are (N, C); results are channels-last in memory, or with the C kernels
channels-first if x is. Inside, for NumPy, both are matrices (pixels, C), cut into blocks that stay in a core's cache. gamma,
beta, mean, var and inv_std = 1 / sqrt(var + eps) are (C,).
"""

from math import gcd

import numpy as np

from .elementwise import selected
from .layout import blocks, contiguous_nhwc, nchw, taps
from .memory import empty, scratch
from .native import kernel
from .pool import first_max
from .rows import column_sums
from .threads import get_num_threads, parallel_for

BLOCK_BYTES = 1 << 21


def batch_norm(x, gamma, beta, eps=1e-5):
    """Normalise each channel by the mean and variance of the batch (training).

    Returns:
        y: like `x`.
        mean, var: (C,), of the batch; the variance is the biased one.

    Raises:
        ValueError: the batch is empty.
        TypeError: `x` is not floating point.
    """
    mean, var = moments(x)
    return scale_and_shift(x, *_affine(gamma, beta, mean, var, eps)), mean, var


def batch_norm_backward(gy, x, gamma, mean, inv_std):
    """The gradients of `batch_norm` in x, gamma and beta, for the batch's mean and inv_std.

    With xhat = (x - mean) * inv_std and n pixels:
        dbeta = sum(gy),  dgamma = sum(gy * xhat),  dx = gamma * inv_std * (gy - dbeta / n - xhat * dgamma / n)
    """
    x, gy = _in_one_layout(x, gy)
    dbeta, dgamma = _sums(gy, x, mean)
    dgamma *= inv_std
    dx = _linear_combination(gy, x, *_input_gradient(x.size // len(mean), gamma, mean, inv_std, dgamma, dbeta))
    return dx, dgamma.astype(gamma.dtype), dbeta.astype(gamma.dtype)


def batch_norm_double_backward(h, dx, gy, x, gamma, mean, inv_std, dgamma, dbeta):
    """The gradients of the dx of `batch_norm_backward` in gy, x and gamma, for its cotangent h.

    With means over the n pixels, N(g) = g - mean(g) - xhat mean(g xhat) gives dx = gamma inv_std N(gy); S = sum(h N(gy)):
        in gy: gamma inv_std N(h)
        in x: -gamma inv_std^2 (N(h) mean(gy xhat) + N(gy) mean(h xhat) + xhat S / n)
        in gamma: inv_std S
    """
    n, (x, h, gy, dx) = x.size // len(mean), _in_one_layout(x, h, gy, dx)
    in_gy, h_gamma, _ = batch_norm_backward(h, x, gamma, mean, inv_std)
    s = _sums(h, gy, dbeta / n)[1] - h_gamma * (dgamma / n)
    a, b, c = -inv_std * dgamma / n, -inv_std * h_gamma / n, -gamma * inv_std**3 * s / n
    in_x = _linear_combination(_linear_combination(in_gy, dx, a, b, np.zeros_like(a)), x, np.ones_like(a), c, -c * mean)
    return in_gy, in_x, (inv_std * s).astype(gamma.dtype)


def _in_one_layout(x, *others):
    """The arrays, all in the order of memory that the sums and combinations below work on; x's own where that can be."""
    if kernel("combine", x, *others):
        layout = _KernelLayout(x)
        return [layout.restore(layout.arrange(a)) for a in (x, *others)]
    return [nchw(_images(a)) if a.ndim == 4 else _pixels(a) for a in (x, *others)]


def _sums(g, x, mean):
    """Of each channel sum(g) and sum(g (x - mean)), (2, C) float64."""
    if kernel("norm_sums", x, g):
        layout = _KernelLayout(x)
        centre = layout.repeat(mean.astype(np.float32, copy=False))
        return layout.statistics("norm_sums", layout.arrange(g), layout.arrange(x), centre)
    x, g = _pixels(x), _pixels(g)
    todo = _pixel_blocks(x)
    sums = np.empty((2, len(todo), len(mean)))

    def reduce(i):
        block = g[todo[i]]
        centred = scratch("norm block", block.shape, x.dtype)
        np.subtract(_long_rows(x[todo[i]]), _repeated(mean.astype(x.dtype, copy=False), block), out=_long_rows(centred))
        centred *= block
        sums[:, i] = column_sums(block, alone=False), column_sums(centred, alone=False)

    parallel_for(reduce, len(todo), blas=True)
    return sums.sum(1)


def _linear_combination(g, x, a, b, c):
    """a g + b x + c for each channel's a, b and c, like x."""
    if kernel("combine", g, x):
        layout = _KernelLayout(x)
        dx = empty(layout.shape, np.float32)
        a, b, c = (layout.repeat(v.astype(np.float32, copy=False)) for v in (a, b, c))
        kernel("combine")(layout.arrange(g), layout.arrange(x), a, b, c, dx, *layout.shape, layout.shape[0])
        return layout.restore(dx)
    pixels, g = _pixels(x), _pixels(g)
    a, b, c = (v.astype(pixels.dtype, copy=False) for v in (a, b, c))
    dx = empty(pixels.shape, pixels.dtype)

    def combine(rows):
        block = g[rows]
        term = scratch("norm block", block.shape, block.dtype)
        _scale_and_shift(pixels[rows], b, c, dx[rows])
        np.multiply(_long_rows(block), _repeated(a, block), out=_long_rows(term))
        dx[rows] += term

    parallel_for(combine, _pixel_blocks(pixels))
    return _restored(dx, x.shape)


def norm_relu_pool(x, gamma, beta, eps=1e-5, pool=2):
    """max_pool2d(relu(batch_norm(x)), pool), training, in one pass over x.

    Normalisation is monotone in each channel, so pooling may come first: the largest x wins a window where gamma is
    positive, the smallest where it is negative. Normalisation and ReLU then see the small pooled array only. Rows and
    columns at the end that fill no window count in the statistics but not in the output.

    Args:
        x: (N, C, H, W).
        pool: size and stride of the windows.

    Returns:
        y: (N, C, H // pool, W // pool).
        pooled: like y, the value of x that won each window.
        winner: like y, its position in the window as an unsigned integer, row by row, the first one if several are equal.
        mean, var: (C,), of the batch; the variance is the biased one.
    """
    _check_not_empty(x)
    images = _images(x)
    todo = blocks(images.shape, images.dtype, BLOCK_BYTES, step=pool)
    pooled, winner = _empty_windows(images, pool)
    sign = np.sign(gamma).astype(images.dtype)
    moments = _Moments(len(todo), images, images.shape[3])

    def visit(i):
        moments.add(i, images[todo[i]].reshape(-1, images.shape[3]))
        _pool_block(images, todo[i], pool, sign, pooled, winner)

    parallel_for(visit, len(todo), blas=True)
    mean, var = moments.merge()
    y = scale_and_shift(nchw(pooled), *_affine(gamma, beta, mean, var, eps), relu=True)
    return y, nchw(pooled), nchw(winner), mean, var


def norm_relu_pool_backward(gy, x, y, pooled, winner, gamma, mean, inv_std, pool=2):
    """The gradients of `norm_relu_pool` in x, gamma and beta.

    A window passes its gradient on to its winner if the ReLU did. So the two sums run over the small arrays, and the
    gradient in x is one dense pass: the share of the statistics for all pixels, plus gy at the winners.
    """
    images, gy, y, pooled, winner = _images(x), _images(gy), _images(y), _images(pooled), contiguous_nhwc(winner)
    c = images.shape[3]
    survived = empty(pooled.shape, pooled.dtype)  # the gradient behind the ReLU
    todo = blocks(pooled.shape, pooled.dtype, BLOCK_BYTES)
    sums = np.empty((2, len(todo), c))

    def reduce(i):
        g, won = survived[todo[i]].reshape(-1, c), pooled[todo[i]].reshape(-1, c)
        selected(gy[todo[i]].reshape(-1, c), y[todo[i]].reshape(-1, c) > 0, g)
        centred = scratch("norm block", won.shape, won.dtype)
        np.subtract(_long_rows(won), _repeated(mean, won), out=_long_rows(centred))
        centred *= g
        sums[:, i] = column_sums(g, alone=False), column_sums(centred, alone=False)

    parallel_for(reduce, len(todo), blas=True)
    dbeta, dgamma = sums.sum(1)
    dgamma *= inv_std
    coefficients = _input_gradient(images.size // c, gamma, mean, inv_std, dgamma, dbeta)
    a, b, shift = (v.astype(images.dtype) for v in coefficients)
    dx = empty(images.shape, images.dtype)

    def combine(block):
        _scale_and_shift(images[block].reshape(-1, c), b, shift, dx[block].reshape(-1, c))
        windows, (ho, wo) = _windows(block, pool), _pooled_size(dx[block], pool)
        if not (ho and wo):
            return
        g, won = survived[windows], winner[windows]
        g *= a
        mask, share = scratch("norm mask", g.shape, np.bool_), scratch("norm share", g.shape, g.dtype)
        for k, tap in enumerate(taps(dx[block], (pool, pool), (pool, pool), ho, wo)):
            np.equal(won, won.dtype.type(k), out=mask)
            tap += selected(g, mask, share)

    parallel_for(combine, blocks(images.shape, images.dtype, BLOCK_BYTES, step=pool))
    return nchw(dx), dgamma.astype(gamma.dtype), dbeta.astype(gamma.dtype)


def scale_and_shift(x, scale, shift, relu=False):
    """x * scale + shift for each channel, then max(0, .) if `relu`: (N, C, H, W) or (N, C) to the same."""
    native = kernel("scale_and_shift", x, scale, shift)
    if native:
        layout = _KernelLayout(x)
        y = empty(layout.shape, np.float32)
        native(layout.arrange(x), None, layout.repeat(scale), layout.repeat(shift), y, *layout.shape, layout.shape[0], relu)
        return layout.restore(y)
    pixels = _pixels(x)
    y = empty(pixels.shape, pixels.dtype)
    parallel_for(lambda rows: _scale_and_shift(pixels[rows], scale, shift, y[rows], relu), _pixel_blocks(pixels))
    return _restored(y, x.shape)


def moments(x):
    """Mean and variance of each channel of (N, C, H, W) or (N, C)."""
    _check_not_empty(x)
    if kernel("moments", x):
        layout = _KernelLayout(x)
        mean, squares = layout.statistics("moments", layout.arrange(x))
        return mean.astype(x.dtype), (squares / (x.size // x.shape[1])).astype(x.dtype)
    pixels = _pixels(x)
    todo = _pixel_blocks(pixels)
    moments = _Moments(len(todo), x, x.shape[1])
    parallel_for(lambda i: moments.add(i, pixels[todo[i]]), len(todo), blas=True)
    return moments.merge()


def add_to_channels(x, v):
    """x (N, C, H, W) plus a number for each channel, v (C,)."""
    if kernel("scale_and_shift", x, v):
        return scale_and_shift(x, np.ones_like(v), v)
    return x + v.reshape(1, -1, 1, 1)


def channel_sums(x):
    """The sum of each channel of (N, C, H, W)."""
    if kernel("norm_sums", x):
        return _sums(x, x, np.zeros(x.shape[1], x.dtype))[0].astype(x.dtype)
    return x.sum((0, 2, 3))


class _KernelLayout:
    """How the kernels of channels.c see the memory of float32 images (N, C, H, W) or features (N, C): (outer, C, inner).

    Channels-first images are (N, C, H W). Others are made channels-last, (pixels / k, k C, 1) with k pixels side by side,
    since few channels do not fill a vector.
    """

    def __init__(self, x, threads=None):
        self.x_shape, (n, c, *size) = x.shape, x.shape
        self.channels_first = x.ndim == 4 and x.flags.c_contiguous and size != [1, 1] and c > 1
        pixels = x.size // max(c, 1)
        self.side_by_side = 1 if self.channels_first or c >= 64 else gcd(pixels, 16)
        rows = pixels // self.side_by_side
        self.shape = (n, c, size[0] * size[1]) if self.channels_first else (rows, self.side_by_side * c, 1)
        self.parts = max(1, min(threads or get_num_threads(), self.shape[0], x.size >> 15))  # summed by a thread each

    def arrange(self, x):
        """The array like this, copied if its memory is in another order."""
        return (np.ascontiguousarray(x) if self.channels_first else _pixels(x)).reshape(self.shape)

    def repeat(self, v):
        """A number for each channel, repeated where the channels are."""
        return _side_by_side(v, self.side_by_side)

    def statistics(self, name, *arrays):
        """Two numbers of each channel by the kernel `name`, (2, C) float64."""
        sums, c = np.empty((2, self.parts * self.shape[1])), self.x_shape[1]
        kernel(name)(*arrays, *sums, self.parts, *self.shape, c)
        return sums[:, :c]

    def restore(self, y):
        """Back to the shape of x."""
        return y.reshape(self.x_shape) if self.channels_first else _restored(y, self.x_shape)


class _Moments:
    """Mean and variance of each channel from the moments of blocks.

    A block's squares are summed around its own mean, so a large common offset costs no digits; the blocks are merged in
    float64 (Chan, Golub and LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample Variances, 1979).
    """

    def __init__(self, number, x, channels):
        self.dtype = x.dtype
        self.count = np.empty((number, 1))
        self.mean, self.squares = np.empty((number, channels)), np.empty((number, channels))

    def take(self, i, count, mean, squares):
        """Block number i: its size, its mean, and the sum of the squared distances from that."""
        self.count[i], self.mean[i], self.squares[i] = count, mean, squares

    def add(self, i, block):
        """Take in block number i, (p, C)."""
        p = len(block)
        if kernel("moments", block):
            layout = _KernelLayout(block, threads=1)
            self.take(i, p, *layout.statistics("moments", layout.arrange(block)))
            return
        centre = column_sums(block, alone=False) / block.dtype.type(p)
        rest = scratch("norm block", block.shape, block.dtype)
        np.subtract(_long_rows(block), _repeated(centre, block), out=_long_rows(rest))
        error = column_sums(rest, alone=False) / p  # of the rounded centre
        rest *= rest
        error = error.astype(np.float64)
        squares = column_sums(rest, alone=False) - p * error**2
        self.take(i, p, centre + error, np.maximum(squares, 0))  # of equal elements they may round to less

    def merge(self):
        n = self.count.sum()
        mean = (self.count * self.mean).sum(0) / n
        squares = self.squares.sum(0) + (self.count * (self.mean - mean)**2).sum(0)
        return mean.astype(self.dtype), (squares / n).astype(self.dtype)


def _check_not_empty(x):
    if x.size == 0:
        raise ValueError("batch_norm: an empty batch has no mean")


def _pool_block(images, block, pool, sign, pooled, winner):
    """Fill the windows of a block with their winners: largest where sign > 0, smallest where < 0, first where 0."""
    x, windows = images[block], _windows(block, pool)
    ho, wo = _pooled_size(x, pool)
    if not (ho and wo):
        return
    out, shape = pooled[windows], ((pool, pool), (pool, pool), ho, wo)
    if (sign > 0).all():
        first_max(list(taps(x, *shape)), out, winner[windows])
        return
    signed = np.multiply(x, sign, out=scratch("norm block", x.shape, x.dtype))
    first_max(list(taps(signed, *shape)), out, winner[windows])
    out *= sign
    out[..., sign == 0] = next(taps(x, *shape))[..., sign == 0]


def _pooled_size(x, pool):
    return x.shape[1] // pool, x.shape[2] // pool


def _empty_windows(images, pool):
    """Uninitialised values and positions of the winners."""
    n, h, w, c = images.shape
    shape = n, h // pool, w // pool, c
    return empty(shape, images.dtype), empty(shape, np.min_scalar_type(pool**2 - 1))


def _windows(block, pool):
    """The index of the windows that lie in a block of rows (whose first row is a multiple of `pool`)."""
    images, rows = block
    return images, slice(rows.start // pool, rows.stop // pool)


def _affine(gamma, beta, mean, var, eps):
    """The scale and shift of a normalisation."""
    scale = gamma / np.sqrt(var + eps)
    return scale, beta - mean * scale


def _input_gradient(n, gamma, mean, inv_std, dgamma, dbeta):
    """a, b, c such that the input gradient of a normalisation over n pixels is a * gy + b * x + c."""
    a = gamma * inv_std.astype(np.float64)
    b = -a * inv_std * dgamma / n
    return a, b, -a * dbeta / n - b * mean


def _scale_and_shift(x, scale, shift, out, relu=False):
    """out = x * scale + shift for contiguous (p, C) blocks."""
    np.multiply(_long_rows(x), _repeated(scale, x), out=_long_rows(out))
    np.add(_long_rows(out), _repeated(shift, x), out=_long_rows(out))
    if relu:
        np.maximum(_long_rows(out), _repeated(np.zeros_like(shift), x), out=_long_rows(out))


def _long_rows(x):
    """A contiguous (p, C) matrix with several rows in one, since NumPy's inner loops like long rows."""
    k = gcd(len(x), 16)
    return x.reshape(len(x) // k, k * x.shape[1])


def _repeated(v, x):
    """A (C,) vector repeated to the width of `_long_rows(x)`."""
    return _side_by_side(v, gcd(len(x), 16))


def _side_by_side(v, times):
    """np.tile(v, times) of a (C,) vector, in a fifth of the time."""
    return v[None].repeat(times, 0).ravel()


def _images(x):
    """(N, C, H, W) to contiguous (N, H, W, C). No copy if `x` is channels-last in memory."""
    if x.dtype.kind != "f":
        raise TypeError(f"batch_norm: expected a floating-point array, got {x.dtype}")
    return contiguous_nhwc(x)


def _pixels(x):
    """(N, C, H, W) or (N, C) to contiguous (pixels, C)."""
    return _images(x if x.ndim == 4 else x[:, :, None, None]).reshape(-1, x.shape[1])


def _restored(pixels, shape):
    """Channels-last memory back to `shape`, (N, C, H, W) or (N, C)."""
    n, c, *size = shape
    return nchw(pixels.reshape(n, *size, c)) if size else pixels.reshape(shape)


def _pixel_blocks(pixels):
    """Slices of rows."""
    return [rows for _, rows in blocks((1, *pixels.shape), pixels.dtype, BLOCK_BYTES, step=16)]
