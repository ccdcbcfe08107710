"""Resampling of images, to another size by interpolation and at arbitrary points, and functions between points.

Interpolation along one axis is a matrix with one (nearest), two (linear) or four (cubic) weights a row that are not 0; an image
is resized by one such matrix for its rows and one for its columns, a sequence by a single one. `grid_sample` gathers the four
pixels around each point.
"""
from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from ..backend import in_float32, is_float, is_half, to_device, xp
from ..fused import Fused
from ..primitive import Primitive
from ..tensor import Tensor, TensorLike, as_tensor, flag
from .declare import operation
from .elementwise import _as_float, _quotient, equal, floor, isfinite, where
from .geometry import constant, one_of, Pair, pair, several, single, whole
from .index import getitem, take
from .pool import adaptive_avg_pool1d, adaptive_avg_pool2d
from .products import matmul
from .shape import _unshared

MODES = {"nearest": (3, 4), "nearest-exact": (3, 4), "area": (3, 4), "linear": (3,), "bilinear": (4,), "bicubic": (4,)}
ALIGNED = "linear", "bilinear", "bicubic"  # of the modes of `interpolate`, each for Tensors of so many axes, those with corners


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
    if mode.startswith("nearest"):
        half = mode == "nearest-exact"  # the pixel under the centre, not under the first edge
        # in whole numbers: a rounded quotient may fall short of the pixel that it hits
        if scale is None or not half and size in (n, 2 * n):
            return np.eye(n)[(2 * where_to + half) * n // (2 * size)]
        at = np.floor((where_to + half / 2).astype(np.float32) * np.float32(1 / scale))  # in float32, as PyTorch does
        return np.eye(n)[np.minimum(at.astype(int), n - 1)]
    if align_corners or scale is None or scale * n == size:  # quotients of whole numbers: pixels are hit exactly
        above, below = ((where_to * (n - 1), max(size - 1, 1)) if align_corners else
                        ((2 * where_to + 1) * n - size, 2 * size))
        first, fraction = above // below, above % below / below
    else:
        at = (where_to + 0.5) / scale - 0.5
        first = np.floor(at).astype(int)
        fraction = at - first
    if mode != "bicubic":  # beyond the ends both pixels are the last one
        first, fraction = first.clip(0, n - 1), np.where((first < 0) | (first >= n - 1), 0, fraction)
    matrix = np.zeros((size, n))
    for tap in (0, 1) if mode != "bicubic" else (-1, 0, 1, 2):
        distance = np.abs(fraction - tap)
        weight = 1 - distance if mode != "bicubic" else _cubic(distance)
        np.add.at(matrix, (where_to, np.clip(first + tap, 0, n - 1)), weight)
    return matrix


def smooth_weights(n: int, size: int, mode: str, start: np.ndarray | float = 0.0,
                   length: np.ndarray | float | None = None) -> np.ndarray:
    """The weights (..., size, n) with which the pixels from `start` on, `length` of n, make `size` others, antialiased.

    Where length is larger than size, the kernel is as much wider. The cubic one has a = -0.5. Pixels outside weigh nothing.

    Args:
        start, length: whole numbers, or arrays (...) of them, whose dtype the weights get; all n pixels by default.
    """
    start, length = (np.asarray(v)[..., None, None] for v in (start, n if length is None else length))
    wider = np.maximum(length / size, 1)
    pixels = np.arange(n, dtype=np.float32) + np.float32(0.5)
    centre = start + (np.arange(size, dtype=np.float32)[:, None] + np.float32(0.5)) * (length / size)
    distance = np.abs(pixels - centre) / wider
    weights = np.maximum(1 - distance, 0) if mode == "bilinear" else _cubic(distance, -0.5)
    weights = weights * ((pixels > start) & (pixels < start + length))
    return weights / weights.sum(-1, keepdims=True)


_smooth_matrix = functools.lru_cache(64)(smooth_weights)


@operation
def interpolate(x: TensorLike, size: Pair | None = None, scale_factor: float | Sequence[float] | None = None,
                mode: str = "nearest", align_corners: bool | None = False, *, antialias: bool = False) -> Tensor:
    """Images (N, C, H, W) or sequences (N, C, L) resized, as `torch.nn.functional.interpolate`.

    Args:
        size: (H', W') or a number for both, of sequences L'; or else
        scale_factor: a number or, of images, a pair; H' = floor(H scale_factor).
        mode: "nearest", or "nearest-exact", which measures from the centres of pixels; "area", the mean of what a pixel covers as
            of `adaptive_avg_pool2d`; of images "bilinear" or "bicubic", of sequences "linear".
        align_corners: the centres of the corner pixels stay in place; if false, or None, the corners of the image do.
        antialias: a pixel of a smaller image is the mean of all that it covers, as with Pillow; of "bilinear" and "bicubic",
            to a `size`, with corners not aligned.

    Raises:
        ValueError: of this mode not images or sequences, both or neither of size and scale_factor, an unknown mode,
            `align_corners` or `antialias` with arguments that they are not for.
    """
    one_of("interpolate", "mode", mode, tuple(MODES))
    picks = mode.startswith("nearest")
    x = as_tensor(x) if picks else _as_float(x)
    if x.ndim not in MODES[mode]:
        wanted = " or ".join(("sequences (N, C, L)", "images (N, C, H, W)")[n - 3] for n in MODES[mode])
        raise ValueError(f"interpolate: {wanted} wanted for mode {mode!r}, got shape {x.shape}")
    if (size is None) == (scale_factor is None):
        raise ValueError("interpolate: give one of size and scale_factor")
    align_corners = align_corners is not None and flag("interpolate", "align_corners", align_corners)
    antialias = flag("interpolate", "antialias", antialias)
    check_aligned("interpolate", align_corners, mode)
    if antialias and (mode not in ("bilinear", "bicubic") or align_corners or size is None):
        raise ValueError("interpolate: antialias is for modes 'bilinear' and 'bicubic', a size, and corners not aligned")
    lengths = x.shape[2:]
    if size is not None:
        size = pair("interpolate", "size", size, 1) if x.ndim == 4 else (single("interpolate", "size", size, 1),)
        scales = (None,) * len(lengths)
    else:
        scales = factors("interpolate", scale_factor, len(lengths))
        size = tuple(math.floor(n * s) for n, s in zip(lengths, scales))
    if min(size) < 1 or min(lengths) < 1:
        raise ValueError(f"interpolate: from {lengths} to {size} pixels")
    if mode == "area":
        return _unshared((adaptive_avg_pool2d if x.ndim == 4 else adaptive_avg_pool1d)(x, size), x)
    y = x
    for axis, n, length, scale in zip(range(-len(lengths), 0), lengths, size, scales):
        if n != length or scale not in (None, 1):
            matrix = _smooth_matrix(n, length, mode) if antialias else _matrix(n, length, mode, align_corners, scale)
            y = (_pick if picks else _resample)(y, matrix=matrix, axis=axis)
    return _unshared(y, x)


def check_aligned(of: str, align_corners: bool, mode: str) -> None:
    """ValueError, which speaks in the name `of`: corners are to be aligned in a mode that does not look between pixels."""
    if align_corners and mode not in ALIGNED:
        raise ValueError(f"{of}: align_corners is for modes 'linear', 'bilinear' and 'bicubic'")


def factors(of: str, scale_factor: float | Sequence[float], axes: int = 2) -> tuple[float, ...]:
    """The factor for each axis, (vertical, horizontal) of images. ValueError, which speaks in the name `of`: they are no positive
    numbers, or not so many."""
    scales = several(scale_factor) or (scale_factor,) * axes
    scales = tuple(constant(of, "scale_factor", s, 0) for s in scales)
    if len(scales) != axes or not all(scales):
        wanted = "a positive number or a pair of them" if axes == 2 else "one positive number"
        raise ValueError(f"{of}: scale_factor must be {wanted}, not {scale_factor!r}")
    return scales


def _weighted(x, matrix, axis):
    """matrix @ x along one of the last two axes of x, where a weight of 0 takes nothing of NaN or infinity.

    A product with the whole matrix takes 0 * infinity = NaN. So what is not finite is left out of it, and added after it where
    its weight is not 0.
    """
    module = xp(x)
    if is_half(x.dtype):
        return in_float32(_weighted)(x, matrix=matrix, axis=axis)
    weights = module.asarray(matrix, dtype=x.dtype)
    with np.errstate(invalid="ignore"):
        y = _along(weights, x, axis)
    if not is_float(x.dtype) or module is np and np.isfinite(y).all():  # on a GPU the question would wait for the product
        return y
    y = _along(weights, module.where(module.isfinite(x), x, 0), axis)
    up, down = (module.isnan(x) | (x == infinity) for infinity in (math.inf, -math.inf))
    for infinity, same, other in ((math.inf, up, down), (-math.inf, down, up)):
        met = _along((weights > 0).astype(x.dtype), same.astype(x.dtype), axis)
        met += _along((weights < 0).astype(x.dtype), other.astype(x.dtype), axis)
        with np.errstate(invalid="ignore"):  # infinity - infinity is NaN, as it should be
            y = module.where(met > 0, y + infinity, y)
    return y


def _along(matrix, x, axis):
    if axis == -2:
        return matrix @ x
    return (x.reshape(-1, x.shape[-1]) @ matrix.T).reshape(*x.shape[:-1], len(matrix))


_resample = Primitive(
    "resample", _weighted, lambda g, _out, _x, matrix, axis: _resample(g, matrix=matrix.T, axis=axis))

_pick = Primitive(  # of a matrix whose rows hold a single 1: NumPy reads what they pick without a product
    "resample", lambda x, matrix, axis: (x.take(matrix.argmax(1), axis) if xp(x) is np else
                                         _weighted(x, matrix=matrix, axis=axis)),
    lambda g, _out, _x, matrix, axis: _resample(g, matrix=matrix.T, axis=axis))


def _weighed(pixels, weight):
    with np.errstate(invalid="ignore"):
        return xp(pixels).where(weight == 0, xp(pixels).zeros((), pixels.dtype), pixels * weight)


_weigh = Primitive(  # pixels * weight, where a weight of 0 hides NaN and infinity, in the pixel and in its gradient
    "weigh", _weighed, lambda g, _out, _pixels, weight: _weigh(g, weight), lambda g, _out, pixels, _weight: g * pixels,
    broadcasts=True)


def _position(u, size, align_corners):
    """Where on an axis of `size` pixels the coordinate u lies: -1 and 1 are its ends, or the centres of its outer pixels."""
    return (u + 1) * ((size - 1) / 2) if align_corners else ((u + 1) * size - 1) / 2


def _place(u, size, align_corners, border):
    """The position of each point, and on which it depends: a point outside the image, NaN too, stands still beside it."""
    module = xp(u._array)
    near = module.where(module.isnan(u._array), -4, u._array.clip(-4, 4))  # outside: no pixel beside an image lies beyond 3
    at = _position(near, size, align_corners)
    low, high = (0, size - 1) if border else (-1, size)
    inside = (near == u._array) & (((at > low) if border else (at >= low)) & (at < high))
    inside = Tensor(inside & (size > 1 or not align_corners))  # all points are the centre of a single pixel
    return where(inside, _position(where(inside, u, 0), size, align_corners), Tensor(at.clip(low, high).astype(u.dtype)))


def _pixels(images, column, row, lost):
    """The pixels (N, H', W', C) of images (N, H, W, C) in these columns and rows, 0 outside and where `lost`; where not 0."""
    (n, height, width, _), module = images.shape, xp(column)
    column, row = column.astype(np.int64), row.astype(np.int64)
    inside = Tensor(((column >= 0) & (column < width) & (row >= 0) & (row < height) & ~lost)[..., None])
    at = module.arange(n)[:, None, None], row.clip(0, height - 1), column.clip(0, width - 1)
    return where(inside, getitem(images, at), 0), inside


def _grid_sample(x, grid, align_corners, border):
    """The four pixels around each point, weighted by how near they are."""
    place = [_place(grid[..., i], m, align_corners, border) for i, m in enumerate(x.shape[:1:-1])]
    corner = [floor(p.detach()) for p in place]
    fraction = [p - f for p, f in zip(place, corner)]
    images, lost = x.transpose(0, 2, 3, 1), xp(x._array).isnan(grid._array).any(-1)
    y = 0
    for down in (0, 1):
        for right in (0, 1):
            pixels, inside = _pixels(images, *(f._array + d for f, d in zip(corner, (right, down))), lost)
            weight = (fraction[0] if right else 1 - fraction[0]) * (fraction[1] if down else 1 - fraction[1])
            y = y + where(inside, _weigh(pixels, weight.expand_dims(3)), 0)  # no NaN from outside, nor to there
    return where(Tensor(lost[..., None]), math.nan, y).transpose(0, 3, 1, 2)


def _nearest_pixel(x, grid, align_corners, border):
    """The pixel nearest to each point, of two the one with an even number, as PyTorch does."""
    module = xp(x._array)
    place = [np.rint(_place(grid[..., i], m, align_corners, border)._array) for i, m in enumerate(x.shape[:1:-1])]
    lost = module.isnan(grid._array).any(-1)
    pixels, _ = _pixels(x.transpose(0, 2, 3, 1), *place, lost)
    return where(Tensor(lost[..., None]), math.nan, pixels).transpose(0, 3, 1, 2)


_fused_grid_sample = Fused("grid_sample", _grid_sample)


@operation
def pixel_shuffle(x: TensorLike, upscale_factor: int) -> Tensor:
    """Channels laid out as pixels: (N, C r^2, H, W) to (N, C, r H, r W), r the `upscale_factor`.

    Channel c r^2 + i r + j becomes the pixels (r h + i, r w + j) of channel c (Shi et al. 2016, arXiv:1609.05158).

    Raises:
        ValueError: the channels do not divide by r^2, or a factor below 1.
    """
    x, r = as_tensor(x), whole("pixel_shuffle", "upscale_factor", upscale_factor, 1)
    if x.ndim != 4 or x.shape[1] % r**2:
        raise ValueError(f"pixel_shuffle: images (N, C, H, W) with C divisible by {r**2} wanted, got shape {x.shape}")
    n, c, height, width = x.shape
    y = x.reshape(n, c // r**2, r, r, height, width).transpose(0, 1, 4, 2, 5, 3)
    return _unshared(y.reshape(n, c // r**2, r * height, r * width), x)


@operation
def pixel_unshuffle(x: TensorLike, downscale_factor: int) -> Tensor:
    """Pixels laid out as channels: (N, C, r H, r W) to (N, C r^2, H, W), r the `downscale_factor`; undoes `pixel_shuffle`.

    Raises:
        ValueError: height or width do not divide by r, or a factor below 1.
    """
    x, r = as_tensor(x), whole("pixel_unshuffle", "downscale_factor", downscale_factor, 1)
    if x.ndim != 4 or x.shape[2] % r or x.shape[3] % r:
        raise ValueError(f"pixel_unshuffle: images (N, C, H, W) with H and W divisible by {r} wanted, got shape {x.shape}")
    n, c, height, width = x.shape
    y = x.reshape(n, c, height // r, r, width // r, r).transpose(0, 1, 3, 5, 2, 4)
    return _unshared(y.reshape(n, c * r**2, height // r, width // r), x)


@operation
def affine_grid(theta: TensorLike, size: Sequence[int], align_corners: bool | None = False) -> Tensor:
    """The points at which `grid_sample` reads images moved by affine maps, as `torch.nn.functional.affine_grid`.

    The pixel at (u, v) of the result is read at theta (u, v, 1) of the image (Jaderberg et al. 2015, arXiv:1506.02025, eq. 1).

    Args:
        theta: (N, 2, 3).
        size: of the result of `grid_sample`, (N, C, H', W').
        align_corners: as of `grid_sample`.

    Returns:
        (N, H', W', 2), the points (horizontal, vertical).

    Raises:
        ValueError: shapes do not fit, or the size is not of four whole numbers.
    """
    theta, lengths = _as_float(theta), several(size) or ()
    if len(lengths) != 4:
        raise ValueError(f"affine_grid: size must be four whole numbers (N, C, H, W), not {size!r}")
    n, _, height, width = (whole("affine_grid", "size", length, 0) for length in lengths)
    if theta.shape != (n, 2, 3):
        raise ValueError(f"affine_grid: theta ({n}, 2, 3) wanted for size {lengths}, got shape {theta.shape}")
    align_corners = align_corners is not None and flag("affine_grid", "align_corners", align_corners)
    v, u = (_centres(length, align_corners) for length in (height, width))
    points = np.stack([*np.meshgrid(u, v), np.ones((height, width))], -1).reshape(1, -1, 3)
    points = to_device(points.astype(theta.dtype), theta.device)
    return matmul(points, theta.swapaxes(1, 2)).reshape(n, height, width, 2)


def _centres(size, align_corners):
    """The coordinates of the centres of `size` pixels, in which -1 and 1 are the ends, or with `align_corners` the outer ones."""
    if align_corners:
        return np.linspace(-1, 1, size) if size > 1 else np.zeros(size)
    return (2 * np.arange(size) + 1) / max(size, 1) - 1


@operation
def grid_sample(x: TensorLike, grid: TensorLike, padding_mode: str = "zeros", align_corners: bool | None = False, *,
                mode: str = "bilinear") -> Tensor:
    """Images (N, C, H, W) read at points, as `torch.nn.functional.grid_sample`.

    Args:
        grid: (N, H', W', 2), the points (horizontal, vertical); -1 and 1 are the edges of the image, or with
            `align_corners` the centres of its outer pixels. With "bilinear" it gets a gradient too. NaN reads NaN, and moves no
            pixel.
        padding_mode: "zeros" outside the image, or its "border" repeated.
        mode: "bilinear", or the "nearest" pixel.

    Returns:
        (N, C, H', W').

    Raises:
        ValueError: shapes do not fit, images have no pixels, or an unknown mode or padding mode.
    """
    x, grid = map(as_tensor, (x, grid))
    if x.ndim != 4 or grid.ndim != 4 or grid.shape[3] != 2 or len(grid) != len(x) or 0 in x.shape[2:]:
        raise ValueError("grid_sample: images (N, C, H, W), of pixels, and points (N, H', W', 2) wanted, "
                         f"got {x.shape} and {grid.shape}")
    one_of("grid_sample", "padding_mode", padding_mode, ("zeros", "border"))
    align_corners = align_corners is not None and flag("grid_sample", "align_corners", align_corners)
    sample = _nearest_pixel if one_of("grid_sample", "mode", mode, ("bilinear", "nearest")) == "nearest" else _fused_grid_sample
    return sample(x, grid, align_corners=align_corners, border=padding_mode == "border")


def _end_of_interval(knots, x):
    """For arrays: the number of the knot at which the interval that x lies in ends, of the outer ones for what lies outside."""
    if not bool((knots[1:] > knots[:-1]).all()):
        raise ValueError("interp: xp must increase")
    return xp(x).searchsorted(knots, x, side="right").clip(1, None).clip(None, len(knots) - 1)


@operation(numpy=np.interp)
def interp(x: TensorLike, xp: TensorLike, fp: TensorLike, left: TensorLike | None = None,
           right: TensorLike | None = None) -> Tensor:
    """The function that is straight between the points (xp, fp), at `x`, as `numpy.interp`. Gradients flow into all arguments.

    At a point the slope in x is that of the line to its right, at the last one to its left; outside it is 0.

    Args:
        x: of any shape.
        xp, fp: vectors of one length; xp increases.
        left, right: the numbers below xp[0] and above xp[-1]; None for fp[0] and fp[-1].

    Raises:
        ValueError: xp and fp are no vectors of one length, or empty, or xp does not increase; left or right is not one number.
    """
    x, xp, fp = _as_float(x), _as_float(xp), _as_float(fp)
    if xp.ndim != 1 or xp.shape != fp.shape or not xp.size:
        raise ValueError(f"interp: xp and fp must be vectors of one length, not of shapes {xp.shape} and {fp.shape}")
    end = _end_of_interval(xp._array, x._array)
    (x0, x1), (y0, y1) = ([take(v, i, 0) for i in ((end - 1).clip(0, None), end)] for v in (xp, fp))
    inside = where(x < x0, x0, where(x > x1, x1, x))
    share = _quotient(inside - x0, x1 - x0)
    at0, at1 = (equal(share, place) & ~(isfinite(y0) & isfinite(y1)) for place in (0, 1))  # a point does not read the other end
    low, high = (where(at0 | at1, 0, y) for y in (y0, y1))
    out = where(at0, y0, where(at1, y1, (1 - share) * low + share * high))
    for name, beyond, value in (("left", x < xp[0], left), ("right", x > xp[-1], right)):
        if value is not None and as_tensor(value).ndim:
            raise ValueError(f"interp: {name} is one number, not of shape {as_tensor(value).shape}")
        out = out if value is None else where(beyond, value, out)
    return out
