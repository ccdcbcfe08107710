"""Pooling: each window of an image becomes one number."""
from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..backend import lowest_of, with_paths, xp
from ..fused import Fused
from ..tensor import OneOrMore, Tensor, TensorLike, as_tensor, flag, wrap
from .declare import operation
from .elementwise import _as_float, ones_like, where
from .geometry import Pair, pair, several, single, speaking_as
from .index import take_along_axis
from .reduce import mean
from .shape import concatenate, pad, stack


def _windows(x, kernel, stride, ends, dilation=(1, 1)):
    """Every position of the window, stacked as a new first axis: (kh * kw, N, C, H', W'). `ends` pad rows and columns with 0."""
    x = pad(x, ((0, 0), (0, 0), *ends))
    rows, columns = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(x.shape[2:], kernel, stride, dilation)]
    return stack([x[:, :, a:a + rows * stride[0]:stride[0], b:b + columns * stride[1]:stride[1]][:, :, :rows, :columns]
                  for a in range(0, kernel[0] * dilation[0], dilation[0])
                  for b in range(0, kernel[1] * dilation[1], dilation[1])])


def _largest(x, kernel, stride, ends, dilation=(1, 1)):
    """The largest element of each window, and its place in the window."""
    windows = _windows(x, kernel, stride, ends, dilation)
    if not any(map(any, ends)):
        winner = windows.argmax(0, keepdims=True)
    else:  # where nothing is larger than the padding the first pixel, not the padding
        least, pixels = lowest_of(x.dtype), _windows(ones_like(x), kernel, stride, ends, dilation)
        windows = where(pixels == 1, windows, least)
        first = windows.max(0, keepdims=True) == least
        winner = where(first, pixels.argmax(0, keepdims=True), windows.argmax(0, keepdims=True))
    return take_along_axis(windows, winner, 0)[0], winner[0]


def _max_pool(x, kernel, stride, padding, dilation=(1, 1)):
    """The largest element of each window; of equal ones the first, row by row, gets the gradient, and none the padding."""
    return _largest(x, kernel, stride, _both_ends(padding), dilation)[0]


def _avg_pool(x, kernel, stride, padding):
    """The mean of each window, zeros of the padding included."""
    return mean(_windows(x, kernel, stride, _both_ends(padding)), 0)


_fused_max_pool, _fused_avg_pool = Fused("max_pool2d", _max_pool), Fused("avg_pool2d", _avg_pool)
_winners = with_paths("max_pool2d", lambda x, kernel, stride, padding, dilation=(1, 1): [
    part._array for part in _largest(wrap(x), kernel, stride, _both_ends(padding), dilation)])  # after the maxima


def _both_ends(padding):
    return tuple((p, p) for p in padding)


def _images(name, x):
    """(N, C, H, W) of images, or of one image (C, H, W)."""
    if x.ndim not in (3, 4):
        raise ValueError(f"{name}: images (N, C, H, W) or one image (C, H, W) wanted, got shape {x.shape}")
    if 0 in x.shape[-2:]:
        raise ValueError(f"{name}: images without pixels, got shape {x.shape}")
    return x if x.ndim == 4 else x.expand_dims(0)


def _geometry(name, x, kernel_size, stride, padding, ceil_mode, dilation=1):
    """The checked geometry, and what pads each axis: with `ceil_mode` as much as a last window that begins in it wants."""
    kernel, padding = pair(name, "kernel_size", kernel_size, 1), pair(name, "padding", padding, 0)
    stride = kernel if stride is None else pair(name, "stride", stride, 1)
    dilation, ceil_mode = pair(name, "dilation", dilation, 1), flag(name, "ceil_mode", ceil_mode)
    if any(p > k // 2 for p, k in zip(padding, kernel)):
        raise ValueError(f"{name}: padding {padding} must not exceed half of the window {kernel}")
    ends = []
    for n, k, s, p, d in zip(x.shape[2:], kernel, stride, padding, dilation):
        reach = d * (k - 1) + 1
        windows = (-(-(n + 2 * p - reach) // s) if ceil_mode else (n + 2 * p - reach) // s) + 1
        if ceil_mode and (windows - 1) * s >= n + p:
            windows -= 1
        if windows < 1:
            raise ValueError(f"{name}: window {kernel} with dilation {dilation} is larger than the image {x.shape[2:]} with "
                             f"padding {padding}")
        ends.append((p, max(p, (windows - 1) * s + reach - n - p)))
    return kernel, stride, dilation, tuple(ends)


@operation
def max_pool2d(x: TensorLike, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, dilation: Pair = 1,
               ceil_mode: bool = False, return_indices: bool = False) -> OneOrMore:
    """The largest element of each window of (N, C, H, W) or (C, H, W), as `torch.nn.functional.max_pool2d`.

    Of equal ones the first gets the gradient. Padding never wins.

    Args:
        kernel_size, stride, padding, dilation: numbers or pairs (vertical, horizontal); `stride` is `kernel_size` by default.
        ceil_mode: a last window that reaches beyond the padded image counts too, if it begins before its end.
        return_indices: also where in the flat image H * W each element stood.

    Returns:
        (N, C, H', W'), or (C, H', W') of one image, with H' = (H + 2 padding - dilation (kh - 1) - 1) // stride + 1, the quotient
        rounded up with `ceil_mode`; with `return_indices` a pair, the second of whole numbers.

    Raises:
        ValueError: a number out of its range, a window larger than the padded image, a padding of more than half the window.
    """
    name, given = "max_pool2d", as_tensor(x)
    x = _images(name, given)
    kernel, stride, dilation, ends = _geometry(name, x, kernel_size, stride, padding, ceil_mode, dilation)
    return_indices = flag(name, "return_indices", return_indices)
    padding, beyond = zip(*[(before, after - before) for before, after in ends])
    if dilation == (1, 1) or not any(beyond):
        geometry = dict(kernel=kernel, stride=stride, padding=padding)
        if dilation != (1, 1):  # which not every path takes
            geometry["dilation"] = dilation
        wide = x
        if any(beyond):  # by pixels that each such window holds, and first
            wide = pad(x, ((0, 0), (0, 0), *[(0, n) for n in beyond]), mode="edge")
        y = _fused_max_pool(wide, **geometry)
        winner = _winners(wide._array, **geometry)[1] if return_indices else None
    else:
        y, winner = _largest(x, kernel, stride, ends, dilation)
        winner = winner._array
    if return_indices:
        starts = [xp(winner).arange(n) * s - p for n, s, p in zip(y.shape[2:], stride, padding)]
        indices = _in_image(winner, *starts, kernel, x.shape[3], dilation)
        return (y, indices) if given.ndim == 4 else (y[0], indices[0])
    return y if given.ndim == 4 else y[0]


def _in_image(winner, rows, columns, kernel, width, dilation=(1, 1)):
    """Where in the flat image of this width each winner stands, of windows that begin at these rows and columns."""
    down, right = [xp(winner).arange(k) * d for k, d in zip(kernel, dilation)]
    return wrap((down[:, None] * width + right).ravel().take(winner) + (rows[:, None] * width + columns))


@operation
def avg_pool2d(x: TensorLike, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, ceil_mode: bool = False,
               count_include_pad: bool = True) -> Tensor:
    """The mean of each window of (N, C, H, W) or (C, H, W), as `torch.nn.functional.avg_pool2d`.

    Args:
        count_include_pad: the zeros of the padding are counted; otherwise the mean is over pixels alone.

    The other arguments, the shapes and errors are those of `max_pool2d`; what `ceil_mode` adds beyond the padding is never
    counted.
    """
    name, given = "avg_pool2d", _as_float(x)
    x = _images(name, given)
    kernel, stride, _, ends = _geometry(name, x, kernel_size, stride, padding, ceil_mode)
    count_include_pad = flag(name, "count_include_pad", count_include_pad)
    size, padding = x.shape[2:], tuple(before for before, _ in ends)
    uneven = ends != _both_ends(padding)
    if uneven:
        x = pad(x, ((0, 0), (0, 0), *ends))
    y = _fused_avg_pool(x, kernel=kernel, stride=stride, padding=(0, 0) if uneven else padding)
    if uneven or not count_include_pad:
        counted = [_counted(*axis, count_include_pad) for axis in zip(y.shape[2:], size, kernel, stride, padding)]
        y = y * xp(y._array).asarray(math.prod(kernel) / np.outer(*counted), y.dtype)  # float16 cannot count above 65504
    return y if given.ndim == 4 else y[0]


def _counted(windows, n, kernel, stride, padding, count_include_pad):
    """How many of the elements of each window along an axis are counted."""
    first = np.arange(windows) * stride - padding
    low, high = (-padding, n + padding) if count_include_pad else (0, n)
    return np.minimum(first + kernel, high) - np.maximum(first, low)


@operation
def max_pool1d(x: TensorLike, kernel_size: int, stride: int | None = None, padding: int = 0, dilation: int = 1,
               ceil_mode: bool = False, return_indices: bool = False) -> OneOrMore:
    """`max_pool2d` of sequences (N, C, L) or (C, L); numbers, not pairs."""
    y = _pool_rows("max_pool1d", max_pool2d, x, kernel_size, stride, padding, ceil_mode=ceil_mode,
                   dilation=(1, single("max_pool1d", "dilation", dilation, 1)), return_indices=return_indices)
    return tuple(part.squeeze(-2) for part in y) if return_indices else y.squeeze(-2)


@operation
def avg_pool1d(x: TensorLike, kernel_size: int, stride: int | None = None, padding: int = 0, ceil_mode: bool = False,
               count_include_pad: bool = True) -> Tensor:
    """`avg_pool2d` of sequences (N, C, L) or (C, L); numbers, not pairs."""
    return _pool_rows("avg_pool1d", avg_pool2d, x, kernel_size, stride, padding, ceil_mode=ceil_mode,
                      count_include_pad=count_include_pad).squeeze(-2)


def _sequences(name, x):
    """Sequences as images of one row."""
    x = as_tensor(x)
    if x.ndim not in (2, 3):
        raise ValueError(f"{name}: sequences (N, C, L) or one sequence (C, L) wanted, got shape {x.shape}")
    if not x.shape[-1]:
        raise ValueError(f"{name}: sequences without elements, got shape {x.shape}")
    return x.expand_dims(-2)


def _pool_rows(name, pool, x, kernel_size, stride, padding, **settings):
    x = _sequences(name, x)
    kernel, padding = single(name, "kernel_size", kernel_size, 1), single(name, "padding", padding, 0)
    stride = kernel if stride is None else single(name, "stride", stride, 1)
    if padding > kernel // 2:
        raise ValueError(f"{name}: padding {padding} must not exceed half of the window {kernel}")
    with speaking_as(name):
        return pool(x, (1, kernel), (1, stride), (0, padding), **settings)


def _adaptive(name, x, output_size):
    """x as images, the (H', W') meant, and whether it was one image."""
    given = as_tensor(x)
    x = _images(name, given)
    size = several(output_size) or (output_size, output_size)
    size = pair(name, "output_size", [n if s is None else s for n, s in zip(x.shape[2:], size)] if len(size) == 2 else size, 1)
    return x, size, given.ndim == 3


def _adaptive_avg_pool(x, size):
    """The mean of each of the windows that tile the images: along rows first, then along columns."""
    rows, columns = (_window_ends(n, s) for n, s in zip(x.shape[2:], size))
    x = concatenate([mean(x[:, :, a:b], 2, keepdims=True) for a, b in rows], 2)
    return concatenate([mean(x[:, :, :, a:b], 3, keepdims=True) for a, b in columns], 3)


def _adaptive_max_pool(x, size):
    """The largest element of each of the windows that tile the images; of equal ones the first gets the gradient."""
    return concatenate([concatenate([_fused_max_pool(part, **_whole(part)) for part in row], 3) for row in _tiles(x, size)], 2)


def _adaptive_places(x, size):
    """(None, where in its window each maximum stands: row times the width of the widest window plus column)."""
    def places(part):
        winner, width = _winners(part, **_whole(part))[1].astype(np.int64), part.shape[3]
        return winner // width * widest + winner % width

    lib, (_, widest) = xp(x), _widest(x.shape[2:], size)
    return None, lib.concatenate([lib.concatenate([places(part) for part in row], 3) for row in _tiles(x, size)], 2)


def _tiles(x, size):
    """The windows, each an image, row by row."""
    rows, columns = (_window_ends(n, s) for n, s in zip(x.shape[2:], size))
    return [[x[:, :, a:b, c:d] for c, d in columns] for a, b in rows]


def _whole(x):
    """The window that is the image."""
    return dict(kernel=x.shape[2:], stride=x.shape[2:], padding=(0, 0))


def _window_ends(n, size):
    """Where `size` windows over n elements start and stop."""
    return [(i * n // size, -(-(i + 1) * n // size)) for i in range(size)]


def _widest(shape, size):
    return [max([b - a for a, b in _window_ends(n, s)]) for n, s in zip(shape, size)]


_fused_adaptive_avg_pool = Fused("adaptive_avg_pool2d", _adaptive_avg_pool)
_fused_adaptive_max_pool = Fused("adaptive_max_pool2d", _adaptive_max_pool)
_adaptive_winners = with_paths("adaptive_max_pool2d", _adaptive_places)


@operation
def adaptive_avg_pool2d(x: TensorLike, output_size: int | Sequence[int | None]) -> Tensor:
    """The mean of each of output_size = (H', W') (or one number for both) windows that tile (N, C, H, W) or (C, H, W).

    Window i reaches from floor(i H / H') to ceil((i + 1) H / H'), as in PyTorch; `output_size=1` is the mean of the image.
    None leaves an axis as it is.
    """
    x, size, one = _adaptive("adaptive_avg_pool2d", _as_float(x), output_size)
    if size == (1, 1):
        y = mean(x, (2, 3), keepdims=True)
    elif all(n % s == 0 for n, s in zip(x.shape[2:], size)):
        y = avg_pool2d(x, tuple(n // s for n, s in zip(x.shape[2:], size)))
    else:
        y = _fused_adaptive_avg_pool(x, size=size)
    return y[0] if one else y


@operation
def adaptive_max_pool2d(x: TensorLike, output_size: int | Sequence[int | None],
                        return_indices: bool = False) -> OneOrMore:
    """The largest element of each of the windows of `adaptive_avg_pool2d`; of equal ones the first gets the gradient.

    Args:
        return_indices: also where in the flat image H * W each element stood.
    """
    x, size, one = _adaptive("adaptive_max_pool2d", x, output_size)
    return_indices = flag("adaptive_max_pool2d", "return_indices", return_indices)
    if all(n % s == 0 for n, s in zip(x.shape[2:], size)):
        y = max_pool2d(x, tuple(n // s for n, s in zip(x.shape[2:], size)), return_indices=return_indices)
    else:
        y = _fused_adaptive_max_pool(x, size=size)
        if return_indices:
            winner = _adaptive_winners(x._array, size=size)[1]
            starts = [xp(winner).arange(s) * n // s for n, s in zip(x.shape[2:], size)]
            y = y, _in_image(winner, *starts, _widest(x.shape[2:], size), x.shape[3])
    if one:
        y = (y[0][0], y[1][0]) if return_indices else y[0]
    return y


@operation
def adaptive_avg_pool1d(x: TensorLike, output_size: int) -> Tensor:
    """`adaptive_avg_pool2d` of sequences (N, C, L) or (C, L)."""
    name = "adaptive_avg_pool1d"
    x, size = _sequences(name, x), (1, single(name, "output_size", output_size, 1))
    with speaking_as(name):
        return adaptive_avg_pool2d(x, size).squeeze(-2)


@operation
def adaptive_max_pool1d(x: TensorLike, output_size: int, return_indices: bool = False) -> OneOrMore:
    """`adaptive_max_pool2d` of sequences (N, C, L) or (C, L)."""
    name = "adaptive_max_pool1d"
    x, size = _sequences(name, x), (1, single(name, "output_size", output_size, 1))
    with speaking_as(name):
        y = adaptive_max_pool2d(x, size, return_indices)
    return tuple(part.squeeze(-2) for part in y) if return_indices else y.squeeze(-2)
