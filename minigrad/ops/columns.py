"""The columns of a convolution: what each window sees, side by side, and added up again where it was seen.

Both are linear, and each is the gradient of the other.
"""
from __future__ import annotations

import math

from ..backend import in_float32, xp
from ..primitive import Primitive
from ..tensor import Tensor, TensorLike, as_tensor
from .conv import _output_size, _padded, _taps
from .declare import operation
from .geometry import LEAST, Pair, pair


def _columns(x, kernel, size, stride, padding, dilation):
    """(N, C, H, W) as (N, C, taps, pixels): what each tap sees, for windows of so many rows and columns."""
    padded = _padded(x, padding, 1)
    seen = [padded[window] for _, _, window in _taps((0, 0, *kernel), size, stride, dilation)]
    return xp(x).stack(seen, 3).reshape(*x.shape[:2], len(seen), math.prod(size))


def _images(y, pixels, kernel, size, stride, padding, dilation):
    """(N, C, taps, pixels) added up as (N, C, H, W), each where its tap saw it; `pixels` is (H, W)."""
    padded = _padded(xp(y).zeros((*y.shape[:2], *pixels), y.dtype), padding, 1)
    parts = y.reshape(len(y), 1, *y.shape[1:3], *size)
    for i, (_, _, window) in enumerate(_taps((0, 0, *kernel), size, stride, dilation)):
        padded[window] += parts[:, :, :, i]
    (top, left), (height, width) = padding, pixels
    return padded[:, 0, :, top:top + height, left:left + width]


_unfold = Primitive("unfold", _columns, lambda g, _out, _x, **windows: _fold(g, pixels=_x.shape[2:], **windows))

_fold = Primitive("fold", in_float32(_images), lambda g, _out, _y, pixels, **windows: _unfold(g, **windows))


def _windows(name, pixels, kernel_size, stride, padding, dilation):
    """The checked geometry of windows on images of so many rows and columns, as `_columns` takes it, and how many there are."""
    given = dict(kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation)
    kernel, stride, padding, dilation = (pair(name, key, value, LEAST[key]) for key, value in given.items())
    size = _output_size(name, pixels, kernel, stride, padding, dilation)
    return dict(kernel=kernel, size=size, stride=stride, padding=padding, dilation=dilation)


@operation
def unfold(x: TensorLike, kernel_size: Pair, dilation: Pair = 1, padding: Pair = 0, stride: Pair = 1) -> Tensor:
    """The pixels that each window of a convolution sees, as columns, as `torch.nn.functional.unfold`.

        y[n, (c, a, b), (i, j)] = x[n, c, i * stride + a * dilation - padding, ...]

    so that `conv2d(x, w)` is w.reshape(O, -1) @ unfold(x), reshaped.

    Args:
        x: (N, C, H, W), or one image (C, H, W).
        kernel_size, dilation, padding, stride: as of `conv2d`.

    Returns:
        (N, C kh kw, H' W'), or (C kh kw, H' W') of one image, for the H' and W' of `conv2d`.

    Raises:
        ValueError: x has other axes, a number is out of its range, or the window is larger than the padded image.
    """
    x = as_tensor(x)
    if x.ndim not in (3, 4):
        raise ValueError(f"unfold: images (N, C, H, W) or (C, H, W) wanted, got shape {x.shape}")
    if x.ndim == 3:
        return unfold(x.expand_dims(0), kernel_size, dilation, padding, stride)[0]
    y = _unfold(x, **_windows("unfold", x.shape[2:], kernel_size, stride, padding, dilation))
    return y.reshape(len(y), y.shape[1] * y.shape[2], y.shape[3])


@operation
def fold(x: TensorLike, output_size: Pair, kernel_size: Pair, dilation: Pair = 1, padding: Pair = 0, stride: Pair = 1) -> Tensor:
    """Columns added up at the pixels from which `unfold` takes them: its gradient, as `torch.nn.functional.fold`.

    Args:
        x: (N, C kh kw, H' W'), or (C kh kw, H' W') of one image.
        output_size: (H, W), the size of the images; one number for both.
        kernel_size, dilation, padding, stride: those of `unfold`.

    Returns:
        (N, C, H, W), or (C, H, W) of one image.

    Raises:
        ValueError: x has other axes or is no columns of such windows, a number is out of its range, or the window is larger
            than the padded image.
    """
    x = as_tensor(x)
    if x.ndim not in (2, 3):
        raise ValueError(f"fold: columns (N, C kh kw, L) or (C kh kw, L) wanted, got shape {x.shape}")
    if x.ndim == 2:
        return fold(x.expand_dims(0), output_size, kernel_size, dilation, padding, stride)[0]
    pixels = pair("fold", "output_size", output_size, 1)
    windows = _windows("fold", pixels, kernel_size, stride, padding, dilation)
    taps, count = math.prod(windows["kernel"]), math.prod(windows["size"])
    if x.shape[1] % taps or x.shape[2] != count:
        raise ValueError(f"fold: columns (N, C {taps}, {count}) wanted for images {pixels} and windows {windows['kernel']}, "
                         f"got shape {x.shape}")
    return _fold(x.reshape(len(x), x.shape[1] // taps, taps, count), pixels=pixels, **windows)
