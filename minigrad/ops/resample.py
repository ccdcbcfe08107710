"""Resampling of images: to another size by interpolation, and at arbitrary points.

Interpolation along one axis is a sparse matrix, rows of two (linear) or four (cubic) weights; an image is resized by one
such matrix for its rows and one for its columns. `grid_sample` gathers the four pixels around each point.
"""
from __future__ import annotations

import functools
import math

import numpy as np

from ..backend import xp
from ..fused import Fused
from ..tensor import Tensor, TensorLike, as_tensor
from .declare import operation
from .geometry import Pair, pair
from .elementwise import clip, floor, where
from .index import getitem
from .linalg import matmul
from .shape import swapaxes


def _cubic(t, a=-0.75):
    """The cubic convolution kernel at distances t (Keys 1981)."""
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0))


@functools.lru_cache(64)
def _matrix(n, size, mode, align_corners, scale):
    """(size, n): the weights with which n samples make `size` others, `scale` (None: size / n) of them to one sample.

    Samples beyond the ends repeat the last one.
    """
    where_to = np.arange(size)
    if mode == "nearest":
        if scale is None or size in (n, 2 * n):  # in whole numbers: a rounded quotient may fall short of the pixel that it hits
            return np.eye(n)[where_to * n // size]
        at = np.floor(where_to.astype(np.float32) * np.float32(1 / scale))  # in float32, as PyTorch does
        return np.eye(n)[np.minimum(at.astype(int), n - 1)]
    scale = size / n if scale is None else scale
    if align_corners:
        at = where_to * ((n - 1) / (size - 1) if size > 1 else 0.0)
    else:
        at = (where_to + 0.5) / scale - 0.5
    if mode == "bilinear":
        at = np.clip(at, 0, n - 1)
    matrix, first = np.zeros((size, n)), np.floor(at).astype(int)
    for tap in (0, 1) if mode == "bilinear" else (-1, 0, 1, 2):
        distance = np.abs(at - (first + tap))
        weight = 1 - distance if mode == "bilinear" else _cubic(distance)
        np.add.at(matrix, (where_to, np.clip(first + tap, 0, n - 1)), weight)
    return matrix


@functools.lru_cache(64)
def _smooth_matrix(n, size, mode):
    """`_matrix` with antialiasing: where n is larger than size, the kernel is as much wider. The cubic one has a = -0.5."""
    wider = max(n / size, 1)
    centre = (np.arange(size) + 0.5) * (n / size)
    distance = np.abs(np.arange(n) + 0.5 - centre[:, None]) / wider
    weights = np.maximum(1 - distance, 0) if mode == "bilinear" else _cubic(distance, -0.5)
    return weights / weights.sum(1, keepdims=True)


@operation
def interpolate(x: TensorLike, size: Pair | None = None, scale_factor: float | tuple[float, float] | None = None,
                mode: str = "nearest", align_corners: bool = False, *, antialias: bool = False) -> Tensor:
    """Images (N, C, H, W) resized, as `torch.nn.functional.interpolate`.

    Args:
        size: (H', W') or a number for both; or else
        scale_factor: a number or a pair; H' = floor(H scale_factor).
        mode: "nearest", "bilinear" or "bicubic".
        align_corners: the centres of the corner pixels stay in place; otherwise the corners of the image do.
        antialias: a pixel of a smaller image is the mean of all that it covers, as with Pillow; of "bilinear" and "bicubic",
            to a `size`, with corners not aligned.

    Raises:
        ValueError: not images, both or neither of size and scale_factor, an unknown mode, `antialias` with other arguments.
    """
    x = as_tensor(x)
    if x.ndim != 4:
        raise ValueError(f"interpolate: images (N, C, H, W) wanted, got shape {x.shape}")
    if (size is None) == (scale_factor is None):
        raise ValueError("interpolate: give one of size and scale_factor")
    if mode not in ("nearest", "bilinear", "bicubic"):
        raise ValueError(f"interpolate: mode is 'nearest', 'bilinear' or 'bicubic', not {mode!r}")
    if antialias and (mode == "nearest" or align_corners or size is None):
        raise ValueError("interpolate: antialias is for modes 'bilinear' and 'bicubic', a size, and corners not aligned")
    if size is not None:
        size = pair("interpolate", "size", size, 1)
        scales = (None, None)
    else:
        scales = tuple(scale_factor) if np.iterable(scale_factor) else (scale_factor, scale_factor)
        if len(scales) != 2 or not all(0 < s < math.inf for s in scales):
            raise ValueError(f"interpolate: scale_factor must be a positive number or a pair of them, not {scale_factor!r}")
        size = tuple(math.floor(n * s) for n, s in zip(x.shape[2:], scales))
    if min(size) < 1 or min(x.shape[2:]) < 1:
        raise ValueError(f"interpolate: from {x.shape[2:]} to {size} pixels")
    rows, columns = (_like(x, _smooth_matrix(n, s, mode) if antialias else _matrix(n, s, mode, align_corners, scale))
                     for n, s, scale in zip(x.shape[2:], size, scales))
    if x.shape[2] != size[0] or scales[0] not in (None, 1):
        x = matmul(rows, x)
    return x if x.shape[3] == size[1] and scales[1] in (None, 1) else matmul(x, swapaxes(columns, 0, 1))


def _like(x, array):
    return Tensor(xp(x._array).asarray(array, dtype=x.dtype))


def _grid_sample(x, grid, align_corners, border):
    """The four pixels around each point, weighted by how near they are."""
    n, c, height, width = x.shape
    place = [(grid[..., i] + 1) * ((m - 1) / 2) if align_corners else ((grid[..., i] + 1) * m - 1) / 2
             for i, m in enumerate((width, height))]
    if border:
        place = [clip(p, 0, m - 1) for p, m in zip(place, (width, height))]
    corner = [floor(p.detach()) for p in place]
    fraction = [p - f for p, f in zip(place, corner)]
    images, sample = x.transpose(0, 2, 3, 1), xp(x._array).arange(n)[:, None, None]
    y = 0
    for down in (0, 1):
        for right in (0, 1):
            column, row = (_whole(f, m) + d for f, m, d in zip(corner, (width, height), (right, down)))
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            pixels = getitem(images, (sample, row.clip(0, height - 1), column.clip(0, width - 1)))
            weight = (fraction[0] if right else 1 - fraction[0]) * (fraction[1] if down else 1 - fraction[1])
            y = y + where(Tensor(inside[..., None]), pixels * weight.expand_dims(3), 0)
    return y.transpose(0, 3, 1, 2)


_fused_grid_sample = Fused("grid_sample", _grid_sample)


@operation
def grid_sample(x: TensorLike, grid: TensorLike, padding_mode: str = "zeros", align_corners: bool = False) -> Tensor:
    """Images (N, C, H, W) read at points by bilinear interpolation, as `torch.nn.functional.grid_sample`.

    Args:
        grid: (N, H', W', 2), the points (horizontal, vertical); -1 and 1 are the edges of the image, or with
            `align_corners` the centres of its outer pixels. It gets a gradient too.
        padding_mode: "zeros" outside the image, or its "border" repeated.

    Returns:
        (N, C, H', W').

    Raises:
        ValueError: shapes do not fit, or an unknown padding mode.
    """
    x, grid = map(as_tensor, (x, grid))
    if x.ndim != 4 or grid.ndim != 4 or grid.shape[3] != 2 or len(grid) != len(x):
        raise ValueError("grid_sample: images (N, C, H, W) and points (N, H', W', 2) wanted, "
                         f"got {x.shape} and {grid.shape}")
    if padding_mode not in ("zeros", "border"):
        raise ValueError(f"grid_sample: padding_mode is 'zeros' or 'border', not {padding_mode!r}")
    return _fused_grid_sample(x, grid, align_corners=align_corners, border=padding_mode == "border")


def _whole(f, most):
    """Whole numbers as an integer array; those far outside the image, NaN too, just outside."""
    module = xp(f._array)
    return module.where(module.isnan(f._array), -2, f._array.clip(-2, most + 1)).astype(np.int64)
