"""Pooling over windows: of float32 by kernels in C (pool.c), else tap by tap: a tap is one position in the window, for all
windows at once a strided view.

Definitions: minigrad/ops/pool.py. Arrays are (N, C, H, W) with any strides; results are channels-last in memory, but for the
maxima of dense sequences, images of one row. `kernel`, `stride`, `padding` and `dilation` are pairs (vertical, horizontal). The
output size is floor((H + 2*padding - dilation*(kernel - 1) - 1) / stride) + 1.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

from .. import lowest_of, summed
from .elementwise import selected
from .layout import blocks, contiguous_nhwc, image_blocks, nchw, nhwc, padded, taps
from .memory import empty, scratch
from .native import kernel as compiled
from .threads import parallel_for

BLOCK_BYTES = 1 << 21
MOST_TAPS = 256  # of a window whose winner the kernel in C notes in a byte


def max_pool2d(x, kernel, stride, padding=(0, 0), dilation=(1, 1)):
    """The largest value of each window.

    Returns:
        y: (N, C, Ho, Wo).
        winner: (N, C, Ho, Wo) unsigned integers; the winning tap p*kw + q, the first one if several are equal.
    """
    ho, wo = _output_size("max_pool2d", x.shape, kernel, stride, padding, dilation)
    n, c = x.shape[:2]
    if kernel[0] * kernel[1] <= MOST_TAPS and compiled("pool", x):
        windows = _windows(x.shape, kernel, stride, padding, dilation)
        if x.shape[2] == kernel[0] == 1 and x.flags.c_contiguous:
            y, winner = empty((n, c, 1, wo), x.dtype), empty((n, c, 1, wo), np.uint8)
            compiled("max_pool_rows")(x, n * c, x.shape[3], y, winner, windows.across, wo, kernel[1], stride[1], dilation[1])
            return y, winner
        return _largest(x, windows)
    least = lowest_of(x.dtype)
    y = empty((n, ho, wo, c), x.dtype)
    winner = empty((n, ho, wo, c), np.min_scalar_type(kernel[0] * kernel[1] - 1))
    if _are_large_tiles(x.shape, kernel, stride, padding, dilation):
        tiles = x.reshape(n, c, ho, kernel[0], wo, kernel[1]).swapaxes(3, 4).reshape(n, c, ho, wo, -1)
        first = tiles.argmax(-1, keepdims=True)
        return np.take_along_axis(tiles, first, -1)[..., 0], first[..., 0].astype(winner.dtype)
    x = nhwc(x)

    def block(index):
        images, rows = index
        inputs, columns = _input_ranges(rows, wo, kernel, stride, padding, dilation)
        xp = padded(x, images, inputs, columns, "pool x", least)
        first_max(list(taps(xp, kernel, stride, rows.stop - rows.start, wo, dilation)), y[index], winner[index])
        if any(padding) and (lost := y[index] == least).any():  # where nothing is larger than the padding
            pixels = padded(np.ones((1, *x.shape[1:3], 1), bool), slice(0, 1), inputs, columns, "pool pixels", False)
            first = np.argmax(list(taps(pixels, kernel, stride, rows.stop - rows.start, wo, dilation)), 0)
            np.copyto(winner[index], first, casting="unsafe", where=lost)

    parallel_for(block, blocks(y.shape, y.dtype, BLOCK_BYTES))
    return nchw(y), nchw(winner)


def serves_max_pool2d(x, kernel, stride, padding, dilation=(1, 1)):
    """Whether each window holds a pixel: taps further apart than the image is wide may all lie beside it."""
    return all([d <= n for d, n in zip(dilation, x.shape[2:])])


def max_pool2d_backward(gy, winner, x_shape, kernel, stride, padding=(0, 0), dilation=(1, 1)):
    """The gradient of `max_pool2d` in its input: each winner gets the gradients of the windows it won."""
    if winner.dtype == np.uint8 and compiled("pool_backward", gy):
        windows = _windows(x_shape, kernel, stride, padding, dilation)
        if x_shape[2] == kernel[0] == 1 and winner.flags.c_contiguous:
            gx, (n, c, _, length) = empty(x_shape, gy.dtype), x_shape
            compiled("max_pool_rows_backward")(np.ascontiguousarray(gy), winner, gx, n * c, length, windows.across,
                                               windows.columns, dilation[1])
            return gx
        return _spread(gy, winner, x_shape, windows)
    if _are_large_tiles(x_shape, kernel, stride, padding, dilation):
        gx = np.zeros((*gy.shape, kernel[0] * kernel[1]), gy.dtype)
        np.put_along_axis(gx, winner[..., None].astype(np.intp), gy[..., None], -1)
        return gx.reshape(*gy.shape, *kernel).swapaxes(3, 4).reshape(x_shape)
    gy, winner = nhwc(gy), nhwc(winner)

    def contribution(images, tap):
        g = gy[images]
        mask = np.equal(winner[images], tap, out=scratch("pool mask", g.shape, np.bool_))
        return selected(g, mask, scratch("pool contribution", g.shape, gy.dtype))

    return _add_to_taps(contribution, gy, x_shape, kernel, stride, padding, dilation)


def _are_large_tiles(x_shape, kernel, stride, padding, dilation):
    """Whether windows that the kernel in C does not take, as it numbers the taps in bytes, tile the images."""
    return kernel[0] * kernel[1] > MOST_TAPS and dilation == (1, 1) and _are_tiles(x_shape, kernel, stride, padding)


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
    if compiled("pool", x) and not _quick_by_taps(c, kernel, stride):
        return _means(x, _windows(x.shape, kernel, stride, padding), kernel[0] * kernel[1])
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
    share = gy.dtype.type(1 / (kernel[0] * kernel[1]))
    if gy.flags.c_contiguous and not nhwc(gy).flags.c_contiguous and _are_tiles(x_shape, kernel, stride, padding):
        gx, (n, c, ho, wo) = empty(x_shape, gy.dtype), gy.shape
        gx.reshape(n, c, ho, kernel[0], wo, kernel[1])[...] = (gy * share)[:, :, :, None, :, None]
        return gx
    if compiled("pool_backward", gy) and not _quick_by_taps(x_shape[1], kernel, stride):
        return _spread(gy, None, x_shape, _windows(x_shape, kernel, stride, padding), kernel[0] * kernel[1])
    gy = nhwc(gy * share)
    return _add_to_taps(lambda images, tap: gy[images], gy, x_shape, kernel, stride, padding)


def _quick_by_taps(channels, kernel, stride):
    """Whether NumPy's sums of all windows' taps, long runs of numbers, take less time than the kernel in C, whose runs are
    channels."""
    return channels == 1 or stride[1] == 1 and (channels <= 16 or math.prod(kernel) == 1)


def adaptive_max_pool2d(x, size):
    """The largest value of each of the windows that tile the images, and its place in the window, as `max_pool2d`: p width + q
    with the width of the widest window."""
    return _largest(x, _adaptive_windows(x.shape[2:], size))


def serves_adaptive_max_pool2d(x, size):
    """Whether the kernel in C takes the windows."""
    return _most_taps(x, size) <= MOST_TAPS and compiled("pool", x) is not None


def serves_adaptive_avg_pool2d(x, size):
    """The same; NumPy's sums of a few channels in large windows are faster."""
    return (x.shape[1] > 16 or _most_taps(x, size) <= MOST_TAPS) and compiled("pool", x) is not None


def _most_taps(x, size):
    return math.prod([int(_along_adaptive(n, s)[2].max()) for n, s in zip(x.shape[2:], size)])


def adaptive_max_pool2d_backward(gy, winner, x_shape, size):
    """The gradient of `adaptive_max_pool2d` in its input."""
    return _spread(gy, winner, x_shape, _adaptive_windows(x_shape[2:], size))


def adaptive_avg_pool2d(x, size):
    """The mean of each of the windows that tile the images."""
    return _means(x, _adaptive_windows(x.shape[2:], size))


def adaptive_avg_pool2d_backward(gy, x_shape, size):
    """The gradient of `adaptive_avg_pool2d` in its input."""
    return _spread(gy, None, x_shape, _adaptive_windows(x_shape[2:], size))


class _Windows(NamedTuple):
    """What the kernels take. Along each axis (3, windows): where they begin, and their taps within the images, from and to."""

    down: np.ndarray
    rows: int
    across: np.ndarray
    columns: int
    width: int
    step_down: int = 1
    step_right: int = 1


def _windows(x_shape, kernel, stride, padding, dilation=(1, 1)):
    down, across = map(_along, x_shape[2:], kernel, stride, padding, dilation)
    return _Windows(down, down.shape[1], across, across.shape[1], kernel[1], *dilation)


@functools.lru_cache(256)
def _along(n, kernel, stride, padding, dilation):
    """Of the windows along an axis of n pixels what _Windows wants."""
    begin = np.arange((n + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1) * stride - padding
    return np.stack([begin, np.maximum(-(begin // dilation), 0), np.minimum(-((begin - n) // dilation), kernel)])


def _adaptive_windows(shape, size):
    down, across = map(_along_adaptive, shape, size)
    return _Windows(down, size[0], across, size[1], int(across[2].max()))


@functools.lru_cache(256)
def _along_adaptive(n, windows):
    begin = np.arange(windows) * n // windows
    return np.stack([begin, np.zeros_like(begin), -(-np.arange(1, windows + 1) * n // windows) - begin])


def _largest(x, windows):
    """Of float32: the largest of each window, and its tap."""
    shape = len(x), windows.rows, windows.columns, x.shape[1]
    y, winner = empty(shape, x.dtype), empty(shape, np.uint8)
    _pool(x, y, winner, windows)
    return nchw(y), nchw(winner)


def _means(x, windows, taps=0):
    """Of float32: the sum of each window over `taps`, or over its size if that is 0."""
    y = empty((len(x), windows.rows, windows.columns, x.shape[1]), x.dtype)
    _pool(x, y, None, windows, taps)
    return nchw(y)


def _pool(x, y, winner, windows, taps=0):
    x = nhwc(x) if x.strides[1] == x.itemsize else contiguous_nhwc(x)
    compiled("pool")(x, *(s // x.itemsize for s in x.strides[:3]), len(x), x.shape[3], y, winner, *windows, taps)


def _spread(gy, winner, x_shape, windows, taps=0):
    """Of float32: the gradient of `_largest`, or without `winner` of `_means`."""
    n, c, h, w = x_shape
    gx = empty((n, h, w, c), gy.dtype)
    compiled("pool_backward")(contiguous_nhwc(gy), winner if winner is None else contiguous_nhwc(winner), gx, *gx.shape, *windows,
                              taps)
    return nchw(gx)


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


def _add_to_taps(contribution, gy, x_shape, kernel, stride, padding, dilation=(1, 1)):
    """Sum `contribution(images, tap)`, (n, Ho, Wo, C), into the input positions of each tap."""
    n, c, h, w = x_shape
    ho, wo = _output_size("pooling gradient", x_shape, kernel, stride, padding, dilation)
    ph, pw = padding
    gx = empty((n, h, w, c), gy.dtype)

    def block(images):
        gxp = gx[images]
        if ph or pw:
            gxp = scratch("pool gx", (len(gxp), h + 2 * ph, w + 2 * pw, c), gy.dtype)
        gxp.fill(0)
        for k, tap in enumerate(taps(gxp, kernel, stride, ho, wo, dilation)):
            tap += contribution(images, k)
        if ph or pw:
            gx[images] = gxp[:, ph:ph + h, pw:pw + w]

    parallel_for(block, image_blocks(gx.shape, gx.dtype, BLOCK_BYTES))
    return nchw(gx)


def _input_ranges(rows, wo, kernel, stride, padding, dilation=(1, 1)):
    """The input rows and columns, as (start, stop), under the windows of output `rows` and all `wo` columns."""
    down, right = [d * (k - 1) + 1 for k, d in zip(kernel, dilation)]
    return ((rows.start * stride[0] - padding[0], (rows.stop - 1) * stride[0] - padding[0] + down),
            (-padding[1], (wo - 1) * stride[1] - padding[1] + right))


def _output_size(name, x_shape, kernel, stride, padding, dilation=(1, 1)):
    size = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip(x_shape[2:], kernel, stride, padding, dilation)]
    if min(size) < 1:
        raise ValueError(f"{name}: the window {tuple(kernel)} is larger than the images {tuple(x_shape[2:])} "
                         f"with padding {tuple(padding)}")
    if any(2 * p > k for p, k in zip(padding, kernel)):
        raise ValueError(f"{name}: padding {tuple(padding)} is more than half of the window {tuple(kernel)}")
    return size
