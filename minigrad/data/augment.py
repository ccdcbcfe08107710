"""Augmentation of batches of images, random and for all images of a batch at once."""
import math
from collections.abc import Sequence

import numpy as np

from ..ops.geometry import constant, one_of, pair, whole
from ..tensor import flag

Value = np.ndarray | float  # one for each image, or one for all


def _images(of, images, *generator):
    """The images as an array of bytes or floats. ValueError for what are none, TypeError for what is no generator."""
    x = np.asarray(images)
    if x.ndim != 4 or x.shape[1] not in (1, 3) or not x.shape[2] * x.shape[3]:
        raise ValueError(f"{of}: images (N, C, H, W) with 1 or 3 channels wanted, not of shape {x.shape}")
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        raise ValueError(f"{of}: images of bytes (uint8) or floats from 0 to 1 wanted, not {x.dtype}")
    for rng in generator:
        _generator(of, rng)
    return x


def _checked(of, images, *generator):
    """The images as float32; bytes divided by 255. Errors as of `_images`, and ValueError for numbers outside 0 .. 1."""
    x = _images(of, images, *generator)
    if x.dtype == np.uint8:
        return x / np.float32(255)
    low, high = np.fmin.reduce(x, None, initial=0), np.fmax.reduce(x, None, initial=0)  # of what is not NaN
    if low < -1e-3 or high > 1 + 1e-3:
        raise ValueError(f"{of}: images must be from 0 to 1, but reach from {low:g} to {high:g}")
    return x.astype(np.float32, copy=False)


def _generator(of, rng):
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"{of}: rng must be a np.random.Generator, not {rng!r}")
    return rng


def _with_axes(of, images, axes):
    """The images as an array. ValueError for another number of axes than of "(N, H, W)", or for less than of "(..., H, W)"."""
    x, wanted = np.asarray(images), axes.count(",") + 1
    if x.ndim != wanted if axes[1] != "." else x.ndim < wanted - 1:
        raise ValueError(f"{of}: images {axes} wanted, not of shape {x.shape}")
    return x


def _maps(of, matrices, n):
    """Affine maps as an array. ValueError: they are not (n, 2, 3), or not finite."""
    m = np.asarray(matrices)
    if m.shape != (n, 2, 3):
        raise ValueError(f"{of}: matrices (N, 2, 3), one for each of {n} images, wanted, not of shape {m.shape}")
    m = m.astype(np.float32)
    if not np.isfinite(m).all():
        raise ValueError(f"{of}: matrices must be finite")
    return m


def affine(images: np.ndarray, matrices: np.ndarray, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Each image seen through its affine map, by bilinear sampling; outside is 0.

    Args:
        images: (N, H, W) float32.
        matrices: (N, 2, 3): output position (row, column), measured from the centre, times these gives the input position.
        shape: height and width of the output, or a number for both; None: as the images'.

    Raises:
        ValueError: an argument is not as above.
    """
    images = _with_axes("affine", images, "(N, H, W)")
    n, h, w = images.shape
    m = _maps("affine", matrices, n)
    height, width = (h, w) if shape is None else pair("affine", "shape", shape, 1)
    rows, columns = np.mgrid[:height, :width].astype(np.float32).reshape(2, -1)
    rows, columns = rows - np.float32((height - 1) / 2), columns - np.float32((width - 1) / 2)
    y = m[:, 0, :1] * rows + m[:, 0, 1:2] * columns + (m[:, 0, 2:] + (h - 1) / 2)
    x = m[:, 1, :1] * rows + m[:, 1, 1:2] * columns + (m[:, 1, 2:] + (w - 1) / 2)
    padded = np.zeros((n, h + 3, w + 3), np.float32)  # a frame of zeros, so that no corner of a cell lies outside
    padded[:, 1:-2, 1:-2] = images
    y, x = np.clip(y + 1, 0, h + 1), np.clip(x + 1, 0, w + 1)
    top, left = y.astype(np.int32), x.astype(np.int32)
    down, right = y - top.astype(np.float32), x - left.astype(np.float32)  # float32 less int32 would be float64
    flat = padded.reshape(-1)
    at = top * (w + 3) + left + np.arange(n, dtype=np.int32)[:, None] * ((h + 3) * (w + 3))
    upper = flat[at] + right * (flat[at + 1] - flat[at])
    lower = flat[at + w + 3] + right * (flat[at + w + 4] - flat[at + w + 3])
    return (upper + down * (lower - upper)).reshape(n, height, width)


def random_affine(images: np.ndarray, rng: np.random.Generator, rotation: float = 10.0, scale: float = 0.1, shear: float = 0.1,
                  shift: float = 2.0) -> np.ndarray:
    """Images (..., H, W), each turned, scaled, sheared and shifted at random.

    Args:
        rotation: up to +-rotation degrees, 360 at most.
        scale: factors in both directions up to exp(+-scale), 10 at most.
        shear: up to +-shear pixels a pixel, 1,000 at most.
        shift: up to +-shift pixels, a million at most.

    Raises:
        ValueError: the images have one axis or none, or a setting is outside its range; TypeError: the generator is none.
    """
    of = "random_affine"
    images, rng = _with_axes(of, images, "(..., H, W)"), _generator(of, rng)
    rotation, scale = constant(of, "rotation", rotation, 0, 360), constant(of, "scale", scale, 0, 10)
    shear, shift = constant(of, "shear", shear, 0, 1e3), constant(of, "shift", shift, 0, 1e6)
    flat = images.reshape(-1, *images.shape[-2:])
    n = len(flat)
    a = np.deg2rad(rng.uniform(-rotation, rotation, n))
    sy, sx = np.exp(rng.uniform(-scale, scale, (2, n)))
    k = rng.uniform(-shear, shear, n)
    dy, dx = rng.uniform(-shift, shift, (2, n))
    cos, sin = np.cos(a), np.sin(a)
    rows = [sy * cos, -sx * sin + k * cos, dy], [sy * sin, sx * cos + k * sin, dx]
    matrices = np.stack([np.stack(row, -1) for row in rows], 1)
    return affine(flat, matrices).reshape(images.shape)


# -- weak augmentation of (N, C, H, W) float32; ValueError for other images or settings, TypeError for no generator -------

def translate(images: np.ndarray, rng: np.random.Generator, pixels: int, fill: float = 0.0) -> np.ndarray:
    """Each image shifted by up to +-pixels whole pixels in both directions; new pixels are `fill`."""
    images, rng = _with_axes("translate", images, "(N, C, H, W)"), _generator("translate", rng)
    pixels, fill = whole("translate", "pixels", pixels, 0), constant("translate", "fill", fill)
    n, _, h, w = images.shape
    padded = np.pad(images, ((0, 0), (0, 0), (pixels, pixels), (pixels, pixels)), constant_values=fill)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (h, w), (2, 3))  # (N, C, dy, dx, H, W)
    dy, dx = rng.integers(0, 2 * pixels + 1, (2, n))
    return windows[np.arange(n), :, dy, dx]


def random_flip(images: np.ndarray, rng: np.random.Generator, p: float = 0.5) -> np.ndarray:
    """Each image mirrored, left for right, with probability p, from 0 to 1."""
    images, rng = _with_axes("random_flip", images, "(N, C, H, W)"), _generator("random_flip", rng)
    p = constant("random_flip", "p", p, 0, 1)
    return np.where((rng.random(len(images)) < p)[:, None, None, None], images[..., ::-1], images)


def gaussian_noise(images: np.ndarray, rng: np.random.Generator, std: float) -> np.ndarray:
    """Images of any shape plus normal noise of this standard deviation."""
    images, rng = np.asarray(images), _generator("gaussian_noise", rng)
    return images + np.float32(constant("gaussian_noise", "std", std, 0)) * rng.standard_normal(images.shape, dtype=np.float32)


def weak(images: np.ndarray, rng: np.random.Generator, pixels: int | None = None, flip: bool = False, noise: float = 0.0,
         fill: float = 0.0) -> np.ndarray:
    """Images (N, C, H, W), each shifted by up to an eighth of the width (or `pixels`), with `flip` mirrored at random, and
    with normal noise of the standard deviation `noise`."""
    images, rng = _with_axes("weak", images, "(N, C, H, W)"), _generator("weak", rng)
    pixels = max(1, images.shape[-1] // 8) if pixels is None else whole("weak", "pixels", pixels, 0)
    images = translate(images, rng, pixels, constant("weak", "fill", fill))
    if flag("weak", "flip", flip):
        images = random_flip(images, rng)
    return gaussian_noise(images, rng, noise) if (noise := constant("weak", "noise", noise, 0)) else images


# -- strong augmentation: each operation on (n, C, H, W) in [0, 1] or bytes, with a value for each image or one for all -----
# ValueError for other images, for values outside their range, and for a fill outside 0 .. 1 where new pixels come in. All take a
# value and a fill, as `apply` gives them, though some need neither.

STRONGEST = 1e6  # of factors


def _values(of, name, value, images, low=-math.inf, high=math.inf):
    """Finite numbers from low to high, one for each of the images or one for all."""
    v, n = np.asarray(value), len(images)
    if v.dtype.kind not in "iuf" or v.shape not in ((), (n,)) or not (np.isfinite(v) & (v >= low) & (v <= high)).all():
        limits = f"finite, from {low:g} to {high:g}" if low > -math.inf else "finite"
        raise ValueError(f"{of}: {name} must be a number for each of {n} images or one for all, {limits}, not {value!r}")
    return v


def _column(v):
    return np.asarray(v, np.float32).reshape(-1, 1, 1, 1)


def _blend(of, other, images, factor):
    """other(images) where factor is 0, the image where it is 1, beyond it above."""
    images = _checked(of, images)
    other, factor = other(images), _values(of, "factor", factor, images, 0, STRONGEST)
    return np.clip(other + _column(factor) * (images - other), 0, 1)


def _grey(images):
    """Luminance (n, 1, H, W)."""
    return images if images.shape[1] == 1 else np.einsum("nchw,c->nhw", images, np.float32([0.299, 0.587, 0.114]))[:, None]


def warp(images: np.ndarray, matrices: np.ndarray, fill: float = 0.0, shape: tuple[int, int] | None = None) -> np.ndarray:
    """`affine` of every channel of images (n, C, H, W) of any range; outside is `fill`, any finite number."""
    images, fill = _with_axes("warp", images, "(N, C, H, W)"), np.float32(constant("warp", "fill", fill))
    n, c, h, w = images.shape
    warped = affine((images - fill).reshape(n * c, h, w), np.repeat(_maps("warp", matrices, n), c, 0), shape)
    return warped.reshape(n, c, *warped.shape[1:]) + fill


def _matrices(n, **entries):
    """(n, 2, 3): the identity, but for entries such as a01=values."""
    m = np.zeros((n, 2, 3), np.float32)
    m[:, 0, 0] = m[:, 1, 1] = 1
    for name, value in entries.items():
        m[:, int(name[1]), int(name[2])] = value
    return m


def _placed(of, images, fill, name, value, entries, high=math.inf):
    """Warped by the matrices with the `entries` that a function makes of the images' shape and their values, checked here."""
    images, fill = _checked(of, images), constant(of, "fill", fill, 0, 1)
    value = _values(of, name, value, images, -high, high)
    return warp(images, _matrices(len(images), **entries(images.shape, value)), fill)


def rotate(images: np.ndarray, degrees: Value, fill: float = 0.0) -> np.ndarray:
    """Turned counter-clockwise about the centre."""
    def entries(_, value):
        a = np.deg2rad(value)
        return {"a00": np.cos(a), "a01": np.sin(a), "a10": -np.sin(a), "a11": np.cos(a)}

    return _placed("rotate", images, fill, "degrees", degrees, entries)


def shear_x(images: np.ndarray, value: Value, fill: float = 0.0) -> np.ndarray:
    """Rows shifted in proportion to their distance from the middle, by up to 1,000 pixels a pixel."""
    return _placed("shear_x", images, fill, "value", value, lambda _, v: {"a10": v}, 1e3)


def shear_y(images: np.ndarray, value: Value, fill: float = 0.0) -> np.ndarray:
    """Columns shifted in proportion to their distance from the middle, by up to 1,000 pixels a pixel."""
    return _placed("shear_y", images, fill, "value", value, lambda _, v: {"a01": v}, 1e3)


def translate_x(images: np.ndarray, value: Value, fill: float = 0.0) -> np.ndarray:
    """Moved to the left by this part of the width, up to 1,000."""
    return _placed("translate_x", images, fill, "value", value, lambda shape, v: {"a12": v * shape[3]}, 1e3)


def translate_y(images: np.ndarray, value: Value, fill: float = 0.0) -> np.ndarray:
    """Moved up by this part of the height, up to 1,000."""
    return _placed("translate_y", images, fill, "value", value, lambda shape, v: {"a02": v * shape[2]}, 1e3)


def brightness(images: np.ndarray, factor: Value, fill: float = 0.0) -> np.ndarray:
    """Towards black by a factor from 0 to a million."""
    return _blend("brightness", lambda x: np.float32(0), images, factor)


def colour(images: np.ndarray, factor: Value, fill: float = 0.0) -> np.ndarray:
    """Towards grey by a factor from 0 to a million."""
    return _blend("colour", _grey, images, factor)


def contrast(images: np.ndarray, factor: Value, fill: float = 0.0) -> np.ndarray:
    """Towards the mean luminance by a factor from 0 to a million."""
    return _blend("contrast", lambda x: _grey(x).mean((1, 2, 3), keepdims=True), images, factor)


def greyscale(images: np.ndarray) -> np.ndarray:
    """The luminance in all channels."""
    images = _checked("greyscale", images)
    return np.broadcast_to(_grey(images), images.shape)


def to_hsv(images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hue (as a part of the circle, from -1/6 to 5/6), saturation and value, each (n, H, W), of colour images (n, 3, H, W)."""
    return _hsv("to_hsv", images)


def _hsv(of, images):
    images = _checked(of, images)
    if images.shape[1] != 3:
        raise ValueError(f"{of}: colour images (N, 3, H, W) wanted, not of shape {images.shape}")
    r, g, b = images.transpose(1, 0, 2, 3)
    value = np.maximum(np.maximum(r, g), b)
    chroma = value - np.minimum(np.minimum(r, g), b)
    sixths = np.where(value == r, g - b, np.where(value == g, b - r + 2 * chroma, r - g + 4 * chroma))
    return sixths / (6 * np.where(chroma > 0, chroma, 1)), chroma / np.where(value > 0, value, 1), value


def from_hsv(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The colour images (n, 3, H, W) of these (n, H, W); hues of one circle more are the same.

    ValueError: the three differ in shape, or have no such one.
    """
    hue, saturation, value = map(np.asarray, (hue, saturation, value))
    if hue.ndim != 3 or not hue.shape == saturation.shape == value.shape:
        raise ValueError(f"from_hsv: hue, saturation and value (N, H, W) of one shape wanted, not {hue.shape}, "
                         f"{saturation.shape} and {value.shape}")
    out, chroma = np.empty((len(hue), 3, *hue.shape[1:]), np.float32), saturation * value
    for channel, pure in enumerate((0, 1 / 3, 2 / 3)):
        away = hue - np.float32(pure)
        away -= np.rint(away)  # the shorter way round, -1/2 .. 1/2
        # up to a sixth from its pure hue a channel is as bright as the value, from two sixths on it has nothing of the chroma
        np.subtract(value, chroma * np.clip(6 * np.abs(away) - 1, 0, 1), out=out[:, channel])
    return out


def hue(images: np.ndarray, shift: Value, fill: float = 0.0) -> np.ndarray:
    """The hue of colour images turned by this part of the circle, up to 1,000 circles."""
    h, s, v = _hsv("hue", images)
    return np.clip(from_hsv(h + _column(_values("hue", "shift", shift, h, -1e3, 1e3))[:, 0], s, v), 0, 1)


def blur(images: np.ndarray, sigma: Value, radius: int) -> np.ndarray:
    """Weighted with a Gaussian of standard deviation sigma, 0 to a million, up to `radius` pixels away; the outermost pixels
    go on outside."""
    images, radius = _checked("blur", images), whole("blur", "radius", radius, 0)
    sigma = _values("blur", "sigma", sigma, images, 0, STRONGEST)
    sigma = np.maximum(np.asarray(sigma, np.float64).reshape(-1, 1), 1e-2)  # below that the neighbours weigh nothing
    weights = np.exp(-0.5 * (np.arange(radius + 1) / sigma) ** 2)  # (n, distance)
    weights /= 2 * weights.sum(1, keepdims=True) - 1
    for axis in (2, 3):
        size = images.shape[axis]
        padded = np.pad(images, [(radius, radius) if a == axis else (0, 0) for a in range(4)], "edge").swapaxes(2, axis)
        out = padded[:, :, radius:radius + size] * _column(weights[:, 0])
        for d in range(1, radius + 1):
            out += (padded[:, :, radius - d:][:, :, :size] + padded[:, :, radius + d:][:, :, :size]) * _column(weights[:, d])
        images = out.swapaxes(2, axis)
    return images


def smoothed(images: np.ndarray) -> np.ndarray:
    """The mean of the 3 x 3 neighbours, the middle five times; the frame of one pixel stays."""
    images = _checked("smoothed", images)
    rows = images[:, :, :-2] + images[:, :, 1:-1] + images[:, :, 2:]
    out = images.copy()
    out[:, :, 1:-1, 1:-1] = (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * images[:, :, 1:-1, 1:-1]) / 13
    return out


def sharpness(images: np.ndarray, factor: Value, fill: float = 0.0) -> np.ndarray:
    """Towards the smoothed image by a factor from 0 to a million, above 1 away from it."""
    return _blend("sharpness", smoothed, images, factor)


def autocontrast(images: np.ndarray, value: Value | None = None, fill: float = 0.0) -> np.ndarray:
    """Each channel stretched to [0, 1]."""
    images = _checked("autocontrast", images)
    low, high = images.min((2, 3), keepdims=True), images.max((2, 3), keepdims=True)
    flat = high <= low
    return np.where(flat, images, (images - low) / np.where(flat, 1, high - low))


def equalize(images: np.ndarray, value: Value | None = None, fill: float = 0.0) -> np.ndarray:
    """Each channel's grey values, in 256 steps, made about equally frequent. ValueError for NaN, too."""
    images = _checked("equalize", images)
    if np.isnan(images).any():
        raise ValueError("equalize: images must have no NaN")
    n, c, h, w = images.shape
    bytes_ = np.rint(np.clip(images, 0, 1) * 255).astype(np.int64).reshape(n * c, -1)
    row = np.arange(n * c)[:, None]
    counts = np.bincount((bytes_ + 256 * row).ravel(), minlength=256 * n * c).reshape(n * c, 256)
    step = (h * w - counts[np.arange(n * c), bytes_.max(1)]) // 255  # pixels to a step, but for the brightest value
    below = np.cumsum(counts, 1) - counts
    table = np.minimum((below + step[:, None] // 2) // np.maximum(step, 1)[:, None], 255)
    table[step == 0] = np.arange(256)
    return (table[row, bytes_].astype(np.float32) / 255).reshape(images.shape)


def posterize(images: np.ndarray, bits: Value, fill: float = 0.0) -> np.ndarray:
    """Only the highest bits of a byte are kept, 0 to 8."""
    images = _checked("posterize", images)
    unit = 2 ** (8 - _column(np.rint(_values("posterize", "bits", bits, images, 0, 8))))
    return np.floor(np.rint(np.clip(images, 0, 1) * 255) / unit) * unit / 255


def solarize(images: np.ndarray, threshold: Value, fill: float = 0.0) -> np.ndarray:
    """Inverted where not below the threshold, from 0 to 1."""
    images = _checked("solarize", images)
    return np.where(images < _column(_values("solarize", "threshold", threshold, images, 0, 1)), images, 1 - images)


def invert(images: np.ndarray, value: Value | None = None, fill: float = 0.0) -> np.ndarray:
    """1 - x."""
    return 1 - _checked("invert", images)


def identity(images: np.ndarray, value: Value | None = None, fill: float = 0.0) -> np.ndarray:
    """x."""
    return _checked("identity", images)


OPERATIONS = {  # each with the range of its value
    "autocontrast": (autocontrast, 0, 0), "brightness": (brightness, 0.05, 0.95), "colour": (colour, 0.05, 0.95),
    "contrast": (contrast, 0.05, 0.95), "equalize": (equalize, 0, 0), "identity": (identity, 0, 0),
    "posterize": (posterize, 4, 8),
    "rotate": (rotate, -30, 30), "sharpness": (sharpness, 0.05, 0.95), "shear_x": (shear_x, -0.3, 0.3),
    "shear_y": (shear_y, -0.3, 0.3), "solarize": (solarize, 0, 1), "translate_x": (translate_x, -0.3, 0.3),
    "translate_y": (translate_y, -0.3, 0.3), "invert": (invert, 0, 0)}
COLOUR = tuple(name for name in OPERATIONS if name != "invert")  # RandAugment's
GREY = ("brightness", "contrast", "identity", "rotate", "sharpness", "shear_x", "shear_y", "translate_x", "translate_y")


def apply(images: np.ndarray, names: Sequence[str], which: np.ndarray, levels: np.ndarray,
          fill: float = 0.0) -> np.ndarray:
    """To image i the operation names[which[i]], at levels[i] of 0 to 1 of its range of values.

    Raises:
        ValueError: the images are not as above, a name is none of `OPERATIONS`, or which (n,) and levels (n,) are not such.
    """
    images, which = _checked("apply", images), np.asarray(which)
    names = [one_of("apply", "each of names", name, tuple(OPERATIONS)) for name in names]
    if which.shape != (len(images),) or which.dtype.kind not in "iu" or not ((which >= 0) & (which < len(names))).all():
        raise ValueError(f"apply: which must be {len(images)} places among {len(names)} names, one for each image, not {which!r}")
    levels = np.broadcast_to(_values("apply", "levels", levels, images, 0, 1), which.shape)
    out = images.copy()
    for k in np.unique(which):
        at = np.flatnonzero(which == k)
        operation, low, high = OPERATIONS[names[k]]
        out[at] = operation(images[at], low + levels[at] * (high - low), fill=fill)
    return out


def cutout(images: np.ndarray, rng: np.random.Generator, size: float = 0.5, fill: float = 0.0) -> np.ndarray:
    """A square of this part of the width, about a random point, replaced by `fill` (DeVries and Taylor 2017).

    Raises:
        ValueError: the images are not (N, C, H, W), the size is below 0 or not finite, or the fill is not finite; TypeError: the
            generator is none.
    """
    images, rng = _with_axes("cutout", images, "(N, C, H, W)"), _generator("cutout", rng)
    size, fill = constant("cutout", "size", size, 0), constant("cutout", "fill", fill)
    n, _, h, w = images.shape
    y, x = (rng.integers(0, max(m, 1), (n, 1)) for m in (h, w))
    side = round(size * w)
    rows, columns = ((np.arange(m) >= c - side // 2) & (np.arange(m) < c - side // 2 + side) for m, c in ((h, y), (w, x)))
    return np.where((rows[:, :, None] & columns[:, None, :])[:, None], np.float32(fill), images)


class RandAugment:
    """`count` operations drawn at random with random levels, then cutout (Cubuk et al. 2019, arXiv:1909.13719).

    Calling it on images (N, C, H, W), floats in [0, 1] or bytes, and a NumPy generator gives the changed images, floats.

    Args:
        operations: names of `OPERATIONS`: `COLOUR`, or `GREY` for characters.
        count: how many are applied to each image, one after the other.
        cutout: the side of the square that is cut out, as a part of the width; 0 for none.
        fill: the value of pixels that come in or are cut out, from 0 to 1.

    Raises:
        ValueError: an operation is none, or a number is outside its range; when it is called: the images are not such;
            TypeError: the generator is none.
    """

    def __init__(self, operations: Sequence[str] = COLOUR, count: int = 2, cutout: float = 0.5, fill: float = 0.5):
        self.operations = tuple(one_of("RandAugment", "each of operations", name, tuple(OPERATIONS)) for name in operations)
        self.count = whole("RandAugment", "count", count, 0)
        self.cutout = constant("RandAugment", "cutout", cutout, 0)
        self.fill = constant("RandAugment", "fill", fill, 0, 1)

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        images = _checked("RandAugment", images, rng)
        for _ in range(self.count):
            which, levels = rng.integers(0, len(self.operations), len(images)), rng.random(len(images))
            images = apply(images, self.operations, which, levels, self.fill)
        return cutout(images, rng, self.cutout, self.fill) if self.cutout else images
