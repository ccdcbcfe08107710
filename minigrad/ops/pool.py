"""Pooling: each window of an image becomes one number."""
from __future__ import annotations

import numpy as np

from ..backend import lowest_of
from ..fused import Fused
from ..tensor import Tensor, TensorLike, as_tensor
from .declare import operation
from .elementwise import _as_float, ones_like, where
from .geometry import Pair, pair, single
from .index import take_along_axis
from .reduce import mean
from .shape import concatenate, pad, stack


def _windows(x, kernel, stride, padding, fill):
    """Every position of the window, stacked as a new first axis: (kh * kw, N, C, H', W')."""
    x = pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2), constant_values=fill)
    rows, columns = [(n - k) // s + 1 for n, k, s in zip(x.shape[2:], kernel, stride)]
    if rows < 1 or columns < 1:
        raise ValueError(f"pooling window {kernel} is larger than the padded image {x.shape[2:]}")
    return stack([x[:, :, a:a + rows * stride[0]:stride[0], b:b + columns * stride[1]:stride[1]][:, :, :rows, :columns]
                  for a in range(kernel[0]) for b in range(kernel[1])])


def _max_pool(x, kernel, stride, padding):
    """The largest element of each window; of equal ones the first, row by row, gets the gradient, and none the padding."""
    lowest = lowest_of(x.dtype)
    windows = _windows(x, kernel, stride, padding, lowest)
    winner = windows.argmax(0, keepdims=True)
    if any(padding):  # of a window of the lowest number the first pixel
        pixels = _windows(ones_like(x), kernel, stride, padding, 0)
        winner = where(windows.max(0, keepdims=True) == lowest, pixels.argmax(0, keepdims=True), winner)
    return take_along_axis(windows, winner, 0)[0]


def _avg_pool(x, kernel, stride, padding):
    """The mean of each window, zeros of the padding included."""
    return mean(_windows(x, kernel, stride, padding, 0), 0)


_fused_max_pool, _fused_avg_pool = Fused("max_pool2d", _max_pool), Fused("avg_pool2d", _avg_pool)


def _pool(pool, x, kernel_size, stride, padding):
    x, name = as_tensor(x), pool.name
    if x.ndim != 4:
        raise ValueError(f"{name}: images (N, C, H, W) wanted, got shape {x.shape}")
    kernel, padding = pair(name, "kernel_size", kernel_size, 1), pair(name, "padding", padding, 0)
    stride = kernel if stride is None else pair(name, "stride", stride, 1)
    if any(p > k // 2 for p, k in zip(padding, kernel)):
        raise ValueError(f"{name}: padding {padding} must not exceed half of the window {kernel}")
    return pool(x, kernel=kernel, stride=stride, padding=padding)


@operation
def max_pool2d(x: TensorLike, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0) -> Tensor:
    """The largest element of each window of (N, C, H, W); of equal ones the first gets the gradient, as in PyTorch.

    `stride` is `kernel_size` by default; numbers or pairs (vertical, horizontal). Padding never wins.
    """
    return _pool(_fused_max_pool, x, kernel_size, stride, padding)


@operation
def avg_pool2d(x: TensorLike, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0) -> Tensor:
    """The mean of each window of (N, C, H, W), the zeros of the padding counted. Arguments as of `max_pool2d`."""
    return _pool(_fused_avg_pool, _as_float(x), kernel_size, stride, padding)


@operation
def max_pool1d(x: TensorLike, kernel_size: int, stride: int | None = None, padding: int = 0) -> Tensor:
    """`max_pool2d` of sequences (N, C, L); numbers, not pairs."""
    return _pool_rows("max_pool1d", max_pool2d, x, kernel_size, stride, padding)


@operation
def avg_pool1d(x: TensorLike, kernel_size: int, stride: int | None = None, padding: int = 0) -> Tensor:
    """`avg_pool2d` of sequences (N, C, L); numbers, not pairs."""
    return _pool_rows("avg_pool1d", avg_pool2d, x, kernel_size, stride, padding)


def _pool_rows(name, pool, x, kernel_size, stride, padding):
    x = as_tensor(x)
    if x.ndim != 3:
        raise ValueError(f"{name}: sequences (N, C, L) wanted, got shape {x.shape}")
    kernel, padding = single(name, "kernel_size", kernel_size, 1), single(name, "padding", padding, 0)
    stride = kernel if stride is None else single(name, "stride", stride, 1)
    return pool(x.expand_dims(2), (1, kernel), (1, stride), (0, padding)).squeeze(2)


def _adaptive(name, x, output_size):
    """x as a Tensor, and the (H', W') meant."""
    x = as_tensor(x)
    if x.ndim != 4:
        raise ValueError(f"{name}: images (N, C, H, W) wanted, got shape {x.shape}")
    size = tuple(output_size) if np.iterable(output_size) else (output_size, output_size)
    size = pair(name, "output_size", [n if s is None else s for n, s in zip(x.shape[2:], size)] if len(size) == 2 else size, 1)
    return x, list(size)


@operation
def adaptive_avg_pool2d(x: TensorLike, output_size: int | tuple[int | None, int | None]) -> Tensor:
    """The mean of each of output_size = (H', W') (or one number for both) windows that tile (N, C, H, W).

    Window i reaches from floor(i H / H') to ceil((i + 1) H / H'), as in PyTorch; `output_size=1` is the mean of the image.
    None leaves an axis as it is.
    """
    x, size = _adaptive("adaptive_avg_pool2d", _as_float(x), output_size)
    if size == [1, 1]:
        return mean(x, (2, 3), keepdims=True)
    if all(n % s == 0 for n, s in zip(x.shape[2:], size)):
        return avg_pool2d(x, tuple(n // s for n, s in zip(x.shape[2:], size)))
    rows, columns = (zip(*_window_ends(n, s)) for n, s in zip(x.shape[2:], size))
    x = concatenate([mean(x[:, :, a:b], 2, keepdims=True) for a, b in rows], 2)
    return concatenate([mean(x[:, :, :, a:b], 3, keepdims=True) for a, b in columns], 3)


@operation
def adaptive_max_pool2d(x: TensorLike, output_size: int | tuple[int | None, int | None]) -> Tensor:
    """The largest element of each of the windows of `adaptive_avg_pool2d`; of equal ones the first gets the gradient."""
    x, size = _adaptive("adaptive_max_pool2d", x, output_size)
    if all(n % s == 0 for n, s in zip(x.shape[2:], size)):
        return max_pool2d(x, tuple(n // s for n, s in zip(x.shape[2:], size)))
    rows, columns = (list(zip(*_window_ends(n, s))) for n, s in zip(x.shape[2:], size))
    return concatenate([concatenate([max_pool2d(x[:, :, a:b, c:d], (b - a, d - c)) for c, d in columns], 3)
                        for a, b in rows], 2)


def _window_ends(n, size):
    """Where `size` windows over n elements start, and where they stop."""
    return np.arange(size) * n // size, -(-np.arange(1, size + 1) * n // size)
