"""Pooling over windows, tap by tap: a tap is one position in the window, for all windows at once a strided view. The maximum
of float32 is a kernel in C (pool.c).

Definitions: minigrad/ops/pool.py. Arrays are (N, C, H, W) with any strides; results are channels-last in memory. `kernel`,
`stride` and `padding` are pairs (vertical, horizontal). The output size is floor((H + 2*padding - kernel) / stride) + 1.
"""

import numpy as np

from .. import lowest_of, summed
from .elementwise import selected
from .layout import blocks, contiguous_nhwc, image_blocks, nchw, nhwc, padded, taps
from .memory import empty, scratch
from .native import kernel as compiled
from .threads import parallel_for

BLOCK_BYTES = 1 << 21


def max_pool2d(x, kernel, stride, padding=(0, 0)):
    """The largest value of each window.

    Returns:
        y: (N, C, Ho, Wo).
        winner: (N, C, Ho, Wo) unsigned integers; the winning tap p*kw + q, the first one if several are equal.
    """
    ho, wo = _output_size("max_pool2d", x.shape, kernel, stride, padding)
    n, c = x.shape[:2]
    least = lowest_of(x.dtype)
    y = empty((n, ho, wo, c), x.dtype)
    winner = empty((n, ho, wo, c), np.min_scalar_type(kernel[0] * kernel[1] - 1))
    native = compiled("max_pool", x) if winner.dtype == np.uint8 else None
    if native:
        x = nhwc(x) if x.strides[1] == x.itemsize else contiguous_nhwc(x)
        native(x, *(s // x.itemsize for s in x.strides[:3]), *x.shape, y, winner, ho, wo, *kernel, *stride, *padding)
        return nchw(y), nchw(winner)
    if _are_large_tiles(x.shape, kernel, stride, padding):
        tiles = x.reshape(n, c, ho, kernel[0], wo, kernel[1]).swapaxes(3, 4).reshape(n, c, ho, wo, -1)
        first = tiles.argmax(-1, keepdims=True)
        return np.take_along_axis(tiles, first, -1)[..., 0], first[..., 0].astype(winner.dtype)
    x = nhwc(x)

    def block(index):
        images, rows = index
        inputs, columns = _input_ranges(rows, wo, kernel, stride, padding)
        xp = padded(x, images, inputs, columns, "pool x", least)
        first_max(list(taps(xp, kernel, stride, rows.stop - rows.start, wo)), y[index], winner[index])
        if any(padding) and (lost := y[index] == least).any():  # where nothing is larger than the padding
            pixels = padded(np.ones((1, *x.shape[1:3], 1), bool), slice(0, 1), inputs, columns, "pool pixels", False)
            first = np.argmax(list(taps(pixels, kernel, stride, rows.stop - rows.start, wo)), 0)
            np.copyto(winner[index], first, casting="unsafe", where=lost)

    parallel_for(block, blocks(y.shape, y.dtype, BLOCK_BYTES))
    return nchw(y), nchw(winner)


def max_pool2d_backward(gy, winner, x_shape, kernel, stride, padding=(0, 0)):
    """The gradient of `max_pool2d` in its input: each winner gets the gradients of the windows it won."""
    native = compiled("max_pool_backward", gy) if winner.dtype == np.uint8 else None
    if native:
        n, c, h, w = x_shape
        ho, wo = _output_size("pooling gradient", x_shape, kernel, stride, padding)
        gx = empty((n, h, w, c), gy.dtype)
        native(contiguous_nhwc(gy), contiguous_nhwc(winner), gx, *gx.shape, ho, wo, *kernel, *stride, *padding)
        return nchw(gx)
    if _are_large_tiles(x_shape, kernel, stride, padding):
        gx = np.zeros((*gy.shape, kernel[0] * kernel[1]), gy.dtype)
        np.put_along_axis(gx, winner[..., None].astype(np.intp), gy[..., None], -1)
        return gx.reshape(*gy.shape, *kernel).swapaxes(3, 4).reshape(x_shape)
    gy, winner = nhwc(gy), nhwc(winner)

    def contribution(images, tap):
        g = gy[images]
        mask = np.equal(winner[images], tap, out=scratch("pool mask", g.shape, np.bool_))
        return selected(g, mask, scratch("pool contribution", g.shape, gy.dtype))

    return _add_to_taps(contribution, gy, x_shape, kernel, stride, padding)


def _are_large_tiles(x_shape, kernel, stride, padding):
    """Whether windows that the kernel in C does not take, as it numbers the taps in bytes, tile the images."""
    return kernel[0] * kernel[1] > 256 and _are_tiles(x_shape, kernel, stride, padding)


def _are_tiles(x_shape, kernel, stride, padding):
    return (tuple(kernel) == tuple(stride) and not any(padding)
            and x_shape[2] % kernel[0] == x_shape[3] % kernel[1] == 0)


def avg_pool2d(x, kernel, stride, padding=(0, 0)):
    """The mean of each window, padding counted as zeros: (N, C, H, W) to (N, C, Ho, Wo)."""
    ho, wo = _output_size("avg_pool2d", x.shape, kernel, stride, padding)
    n, c = x.shape[:2]
    share = x.dtype.type(1 / (kernel[0] * kernel[1]))
    if x.flags.c_contiguous and kernel[0] * kernel[1] >= 64 and _are_tiles(x.shape, kernel, stride, padding):
        return summed(x.reshape(n, c, ho, kernel[0], wo, kernel[1]), (3, 5)) * share
    y = empty((n, ho, wo, c), x.dtype)
    x = nhwc(x)

    def block(index):
        images, rows = index
        inputs, columns = _input_ranges(rows, wo, kernel, stride, padding)
        xp = padded(x, images, inputs, columns, "pool x")
        out = y[index]
        out.fill(0)
        for tap in taps(xp, kernel, stride, rows.stop - rows.start, wo):
            out += tap
        out *= share

    parallel_for(block, blocks(y.shape, y.dtype, BLOCK_BYTES))
    return nchw(y)


def avg_pool2d_backward(gy, x_shape, kernel, stride, padding=(0, 0)):
    """The gradient of `avg_pool2d` in its input: each window spreads its gradient evenly."""
    gy = gy * gy.dtype.type(1 / (kernel[0] * kernel[1]))
    if gy.flags.c_contiguous and not nhwc(gy).flags.c_contiguous and _are_tiles(x_shape, kernel, stride, padding):
        gx, (n, c, ho, wo) = empty(x_shape, gy.dtype), gy.shape
        gx.reshape(n, c, ho, kernel[0], wo, kernel[1])[...] = gy[:, :, :, None, :, None]
        return gx
    gy = nhwc(gy)
    return _add_to_taps(lambda images, tap: gy[images], gy, x_shape, kernel, stride, padding)


def first_max(candidates, out, winner):
    """Elementwise maximum of equally shaped arrays into `out`, and into `winner` the index of the first that has it."""
    np.copyto(out, candidates[0])
    winner.fill(0)
    better = scratch("pool better", out.shape, np.bool_)
    later = scratch("pool later", out.shape, winner.dtype)
    for i, candidate in enumerate(candidates[1:], 1):
        np.greater(candidate, out, out=better)
        np.maximum(candidate, out, out=out)
        np.multiply(better, winner.dtype.type(i), out=later)
        np.maximum(winner, later, out=winner)  # i is larger than any index before
    if np.not_equal(out, out, out=better).any():  # NaN beats all: the first one
        for i in reversed(range(len(candidates))):
            winner[candidates[i] != candidates[i]] = i


def _add_to_taps(contribution, gy, x_shape, kernel, stride, padding):
    """Sum `contribution(images, tap)`, (n, Ho, Wo, C), into the input positions of each tap."""
    n, c, h, w = x_shape
    ho, wo = _output_size("pooling gradient", x_shape, kernel, stride, padding)
    ph, pw = padding
    gx = empty((n, h, w, c), gy.dtype)

    def block(images):
        gxp = gx[images]
        if ph or pw:
            gxp = scratch("pool gx", (len(gxp), h + 2 * ph, w + 2 * pw, c), gy.dtype)
        gxp.fill(0)
        for k, tap in enumerate(taps(gxp, kernel, stride, ho, wo)):
            tap += contribution(images, k)
        if ph or pw:
            gx[images] = gxp[:, ph:ph + h, pw:pw + w]

    parallel_for(block, image_blocks(gx.shape, gx.dtype, BLOCK_BYTES))
    return nchw(gx)


def _input_ranges(rows, wo, kernel, stride, padding):
    """The input rows and columns, as (start, stop), under the windows of output `rows` and all `wo` columns."""
    return ((rows.start * stride[0] - padding[0], (rows.stop - 1) * stride[0] - padding[0] + kernel[0]),
            (-padding[1], (wo - 1) * stride[1] - padding[1] + kernel[1]))


def _output_size(name, x_shape, kernel, stride, padding):
    size = [(n + 2 * p - k) // s + 1 for n, k, s, p in zip(x_shape[2:], kernel, stride, padding)]
    if min(size) < 1:
        raise ValueError(f"{name}: the window {tuple(kernel)} is larger than the images {tuple(x_shape[2:])} "
                         f"with padding {tuple(padding)}")
    if any(2 * p > k for p, k in zip(padding, kernel)):
        raise ValueError(f"{name}: padding {tuple(padding)} is more than half of the window {tuple(kernel)}")
    return size
