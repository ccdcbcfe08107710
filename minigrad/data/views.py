"""Random views of images for self-supervised learning: whole batches at once, with draws of its own for each image.

    SimCLR (Chen et al. 2020, arXiv:2002.05709, appendix A)   `simclr`: crop, flip, colour jitter, greyscale, blur
    BYOL (Grill et al. 2020, arXiv:2006.07733, appendix B)    `byol`: the same, and solarise; two views that differ
    DINO (Caron et al. 2021, arXiv:2104.14294)                `dino`: two large crops and several small ones
    MAE (He et al. 2021, arXiv:2111.06377)                    `mae`: crop and flip
    Exemplar-CNN (Dosovitskiy et al. 2014, arXiv:1406.6909)   `ExemplarView`: shift, scale, turn, contrast, HSV

    first, second = make_views(images, rng, byol(32))

Images are (N, C, H, W) from 0 to 1 with one channel or three: float32, other floats, or bytes, which are divided by 255.
Results are new float32 arrays. Grey images have no hue and saturation, so what changes these leaves them as they are. A NaN
stays with the pixels that are made of it; where the mean of all pixels counts (contrast), with its image.

The draws depend on the generator and the shapes alone, never on the pixels. What is drawn goes to the operations of `augment`.
"""
from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from ..ops.geometry import constant, one_of, pair, several, whole
from ..ops.resample import smooth_weights
from ..tensor import flag
from . import augment
from .augment import _checked, _generator, _images

Range = tuple[float, float]
STRONGEST = 100.0  # factors of colours beyond this make all pixels black or white
BLOCK = 1 << 20  # bytes of images that are changed together: few enough for the cache, enough to make calls worth it


# -- arguments ---------------------------------------------------------------------------------------------------------

def _range(of, name, value, low, high=math.inf):
    """Two numbers in order, from low to high."""
    ends = several(value) or ()
    if len(ends) != 2:
        raise ValueError(f"{of}: {name} must be a pair of numbers (least, most), not {value!r}")
    least, most = (constant(of, name, v, low, high) for v in ends)
    if least > most:
        raise ValueError(f"{of}: {name} must be a pair (least, most), not {value!r}")
    return least, most


def _positive(of, name, value, high=math.inf):
    """Two numbers in order, above 0 and up to high."""
    least, most = _range(of, name, value, 0, high)
    if least == 0:
        raise ValueError(f"{of}: {name} must begin above 0, not {value!r}")
    return least, most


def _to_some(x, rng, p, operation, *values):
    """`operation` on each image with probability p, and on these of the values (N,)."""
    at, out = np.flatnonzero(rng.random(len(x)) < p), x.copy()
    if len(at):
        out[at] = operation(x[at], *(v[at] for v in values))
    return out


# -- crops -------------------------------------------------------------------------------------------------------------

def random_boxes(n: int, height: int, width: int, rng: np.random.Generator, scale: Range = (0.08, 1.0),
                 ratio: Range = (3 / 4, 4 / 3)) -> np.ndarray:
    """Boxes (n, 4) in an image: top, left, height, width, in whole pixels.

    Area (uniform in `scale`) and ratio of width to height (uniform in its logarithm) are drawn up to ten times, until the box
    fits. If none does, it is the largest box in the middle with a ratio within `ratio`, as in torchvision's RandomResizedCrop.

    Args:
        scale: least and most area, as parts of the image's.
        ratio: least and most width / height.

    Raises:
        ValueError: a number or a range is not as above; TypeError: the generator is none.
    """
    of = "random_boxes"
    n, height, width = (whole(of, name, v, least) for name, v, least in (("n", n, 0), ("height", height, 1), ("width", width, 1)))
    rng, scale, ratio = _generator(of, rng), _positive(of, "scale", scale, 1), _positive(of, "ratio", ratio)
    side = np.sqrt(height * width * rng.uniform(*scale, (n, 10)))
    stretch = np.exp(rng.uniform(*np.log(ratio), (n, 10)) / 2)
    heights, widths = np.rint(side / stretch), np.rint(side * stretch)
    fits = (heights >= 1) & (heights <= height) & (widths >= 1) & (widths <= width)
    first, rows = fits.argmax(1), np.arange(n)
    kept = min(max(width / height, ratio[0]), ratio[1])
    middle = [max(1, round(v)) for v in (min(height, width / kept), min(width, height * kept))]
    good = fits[rows, first]
    h, w = (np.where(good, v[rows, first], m).astype(np.int64) for v, m in zip((heights, widths), middle))
    top, left = (np.where(good, rng.integers(0, m - v + 1), (m - v) // 2) for v, m in ((h, height), (w, width)))
    return np.stack([top, left, h, w], 1)


def _resampled(x, weights):
    """x (N, C, K, n) times weights (N, size, n) along the last axis, where a weight of 0 takes nothing of NaN."""
    weights = weights[:, None].swapaxes(2, 3)
    y = x @ weights
    if np.isnan(y).any():
        missing = np.isnan(x)
        y = np.where(missing, 0, x) @ weights
        y[missing.astype(np.float32) @ (weights != 0).astype(np.float32) > 0] = np.nan
    return y


def resized_crop(images: np.ndarray, boxes: np.ndarray, size: int | tuple[int, int],
                 interpolation: str = "bilinear") -> np.ndarray:
    """The part of each image within its box, resized as Pillow does it (antialiased where it gets smaller).

    Args:
        images: (N, C, H, W) from 0 to 1.
        boxes: (N, 4) whole numbers: top, left, height, width, within the image.
        size: height and width of the result, or a number for both.
        interpolation: "bilinear" or "bicubic"; what the latter makes of edges is clipped to 0 .. 1.

    Returns:
        (N, C, *size) float32.

    Raises:
        ValueError: an argument is not as above.
    """
    x = _checked("resized_crop", images)
    size, boxes = pair("resized_crop", "size", size, 1), np.asarray(boxes)
    one_of("resized_crop", "interpolation", interpolation, ("bilinear", "bicubic"))
    start, length = boxes.reshape(-1, 2, 2).transpose(1, 2, 0) if boxes.shape == (len(x), 4) else (None, None)
    if start is None or boxes.dtype.kind not in "iu" or not (
            (start >= 0) & (length >= 1) & (start + length <= np.array(x.shape[2:])[:, None])).all():
        raise ValueError(f"resized_crop: boxes (N, 4) of whole numbers (top, left, height, width) within {x.shape[2:]} wanted, "
                         f"for each of {len(x)} images, not {boxes!r}")
    start, length = start.astype(np.float32), length.astype(np.float32)
    rows, columns = (smooth_weights(n, m, interpolation, a, b) for n, m, a, b in zip(x.shape[2:], size, start, length))
    out = _resampled(_resampled(x.swapaxes(2, 3), rows).swapaxes(2, 3), columns)
    return np.clip(out, 0, 1, out=out) if interpolation == "bicubic" else out


def centre_crop(images: np.ndarray, size: int, interpolation: str = "bilinear") -> np.ndarray:
    """The largest square in the middle of each image, resized; arguments and errors as of `resized_crop`."""
    n, _, h, w = np.shape(images) if np.ndim(images) == 4 else (0, 0, 0, 0)
    side = min(h, w)
    return resized_crop(images, np.tile([(h - side) // 2, (w - side) // 2, side, side], (n, 1)), size, interpolation)


def random_resized_crop(images: np.ndarray, rng: np.random.Generator, size: int | tuple[int, int], scale: Range = (0.08, 1.0),
                        ratio: Range = (3 / 4, 4 / 3), interpolation: str = "bilinear") -> np.ndarray:
    """A random part of each image, resized: `resized_crop` to `random_boxes`.

    Args:
        images: (N, C, H, W) from 0 to 1.
        size: height and width of the result, or a number for both.
        scale: least and most area, as parts of the image's, in (0, 1].
        ratio: least and most width / height, above 0.
        interpolation: "bilinear" or "bicubic".

    Returns:
        (N, C, *size) float32.

    Raises:
        ValueError: an argument is not as above.
    """
    of = "random_resized_crop"
    x = _checked(of, images, rng)
    scale, ratio = _positive(of, "scale", scale, 1), _positive(of, "ratio", ratio)
    return resized_crop(x, random_boxes(len(x), *x.shape[2:], rng, scale, ratio), size, interpolation)


def horizontal_flip(images: np.ndarray, rng: np.random.Generator, p: float = 0.5) -> np.ndarray:
    """Each image (N, C, H, W) mirrored, left for right, with probability p. ValueError if p is not between 0 and 1."""
    of = "horizontal_flip"
    return augment.random_flip(_checked(of, images, rng), rng, constant(of, "p", p, 0, 1))


# -- colours -----------------------------------------------------------------------------------------------------------

def colour_jitter(images: np.ndarray, rng: np.random.Generator, brightness: float = 0.8, contrast: float = 0.8,
                  saturation: float = 0.8, hue: float = 0.2, p: float = 0.8) -> np.ndarray:
    """Brightness, contrast, saturation and hue of each image changed in an order of its own, with probability p.

    As torchvision's ColorJitter: a factor is uniform in [max(0, 1 - strength), 1 + strength], a shift of the hue in
    [-hue, hue]; the factor 0 gives black, the mean luminance, grey; what gets out of 0 .. 1 is clipped after each step.

    Args:
        images: (N, C, H, W) from 0 to 1; grey ones change in brightness and contrast only.
        brightness, contrast, saturation: strengths from 0 to 100; 0 leaves it out.
        hue: at most this part of the circle, up to 0.5.
        p: the probability of each image to be changed.

    Returns:
        (N, C, H, W) float32.

    Raises:
        ValueError: an argument is not as above.
    """
    of = "colour_jitter"
    x = _checked(of, images, rng)
    strengths = [constant(of, name, v, 0, STRONGEST) for name, v in (("brightness", brightness), ("contrast", contrast),
                                                                      ("saturation", saturation))]
    hue = constant(of, "hue", hue, 0, 0.5)
    chosen = rng.random(len(x)) < constant(of, "p", p, 0, 1)
    values = [rng.uniform(max(0.0, 1 - s), 1 + s, len(x)) for s in strengths] + [rng.uniform(-hue, hue, len(x))]
    order = rng.permuted(np.tile(np.arange(4), (len(x), 1)), axis=1)  # of the operations, a row for each image
    operations = (augment.brightness, augment.contrast, augment.colour, augment.hue)[:4 if x.shape[1] == 3 else 2]
    out = x.copy()
    for step in range(4):
        for k, operation in enumerate(operations):
            at = np.flatnonzero(chosen & (order[:, step] == k))
            if len(at) and (*strengths, hue)[k]:
                out[at] = operation(out[at], values[k][at])
    return out


def random_greyscale(images: np.ndarray, rng: np.random.Generator, p: float = 0.2) -> np.ndarray:
    """Each image (N, C, H, W), with probability p, as its luminance. ValueError if p is not between 0 and 1."""
    of = "random_greyscale"
    x = _checked(of, images, rng)
    return _to_some(x, rng, constant(of, "p", p, 0, 1), augment.greyscale)


def gaussian_blur(images: np.ndarray, rng: np.random.Generator, p: float = 0.5, sigma: Range = (0.1, 2.0)) -> np.ndarray:
    """Each image blurred with probability p, with a standard deviation of its own.

    The kernel is as wide as a tenth of the shorter side, made odd, three pixels at least, as in SimCLR.

    Args:
        images: (N, C, H, W) from 0 to 1.
        p: from 0 to 1.
        sigma: least and most standard deviation in pixels, above 0.

    Returns:
        (N, C, H, W) float32.

    Raises:
        ValueError: an argument is not as above.
    """
    of = "gaussian_blur"
    x, p = _checked(of, images, rng), constant(of, "p", p, 0, 1)
    radius = max(1, min(x.shape[2:]) // 10 // 2)
    widths = rng.uniform(*_positive(of, "sigma", sigma), len(x))
    return _to_some(x, rng, p, lambda some, s: augment.blur(some, s, radius), widths)


def random_solarize(images: np.ndarray, rng: np.random.Generator, p: float = 0.2, threshold: float = 0.5) -> np.ndarray:
    """Each image (N, C, H, W), with probability p, inverted where it is not below the threshold. ValueError if p or the
    threshold is not between 0 and 1."""
    of = "random_solarize"
    x, p = _checked(of, images, rng), constant(of, "p", p, 0, 1)
    threshold = constant(of, "threshold", threshold, 0, 1)
    return _to_some(x, rng, p, lambda some: augment.solarize(some, threshold))


# -- views -------------------------------------------------------------------------------------------------------------

def _in_blocks(x, shape, function):
    """`function` of some images after the other, whose results (n, *shape) stand in one array."""
    out = np.empty((len(x), *shape), np.float32)
    step = max(1, BLOCK // (4 * max(math.prod(shape), math.prod(x.shape[1:]))))
    for first in range(0, len(x), step):
        out[first:first + step] = function(x[first:first + step])
    return out


@dataclasses.dataclass(frozen=True)
class View:
    """A random view of each image: `view(images, rng)` crops, flips, jitters colours, and makes some grey, blurred, solarised.

    Args:
        size: height and width of the views.
        crop: least and most area of the crop; None for no random crop: the largest square in the middle, resized.
        ratio: least and most width / height of the crop.
        interpolation: "bilinear" or "bicubic".
        flip: the probability to be mirrored.
        jitter: strengths of brightness, contrast, saturation and hue, see `colour_jitter`.
        jitter_p: the probability to be jittered.
        greyscale, blur, solarize: their probabilities.
        sigma: least and most standard deviation of the blur, in pixels.

    Raises:
        ValueError: a setting is outside its range.
    """

    size: int
    crop: Range | None = (0.08, 1.0)
    ratio: Range = (3 / 4, 4 / 3)
    interpolation: str = "bilinear"
    flip: float = 0.5
    jitter: tuple[float, float, float, float] = (0.8, 0.8, 0.8, 0.2)
    jitter_p: float = 0.8
    greyscale: float = 0.2
    blur: float = 0.0
    sigma: Range = (0.1, 2.0)
    solarize: float = 0.0

    def __post_init__(self):
        kept = {"size": whole("View", "size", self.size, 1), "ratio": _positive("View", "ratio", self.ratio),
                "crop": None if self.crop is None else _positive("View", "crop", self.crop, 1),
                "sigma": _positive("View", "sigma", self.sigma)}
        for name in ("flip", "jitter_p", "greyscale", "blur", "solarize"):
            kept[name] = constant("View", name, getattr(self, name), 0, 1)
        one_of("View", "interpolation", self.interpolation, ("bilinear", "bicubic"))
        strengths = several(self.jitter) or ()
        if len(strengths) != 4:
            raise ValueError("View: jitter must be four strengths (brightness, contrast, saturation, hue), "
                             f"not {self.jitter!r}")
        kept["jitter"] = tuple(constant("View", "jitter", v, 0, most) for v, most in zip(strengths, (STRONGEST,) * 3 + (0.5,)))
        for name, value in kept.items():  # plain numbers, whatever was given
            object.__setattr__(self, name, value)

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Views (N, C, size, size), float32, of images (N, C, H, W) from 0 to 1. ValueError for what are no such images."""
        x = _images("View", images, rng)
        return _in_blocks(x, (x.shape[1], self.size, self.size), lambda some: self._block(some, rng))

    def _block(self, x, rng):
        if self.crop is not None:
            x = random_resized_crop(x, rng, self.size, self.crop, self.ratio, self.interpolation)
        elif x.shape[2:] != (self.size, self.size):
            x = centre_crop(x, self.size, self.interpolation)
        else:
            x = _checked("View", x)
            x = np.clip(x, 0, 1) if self.interpolation == "bicubic" else x
        if self.flip:
            x = horizontal_flip(x, rng, self.flip)
        if self.jitter_p and any(self.jitter):
            x = colour_jitter(x, rng, *self.jitter, self.jitter_p)
        if self.greyscale and x.shape[1] == 3:
            x = random_greyscale(x, rng, self.greyscale)
        if self.blur:
            x = gaussian_blur(x, rng, self.blur, self.sigma)
        return random_solarize(x, rng, self.solarize) if self.solarize else x


def make_views(images: np.ndarray, rng: np.random.Generator,
               views: Sequence[Callable[[np.ndarray, np.random.Generator], np.ndarray]]) -> list[np.ndarray]:
    """Every view of the images, an array (N, C, size, size) each, drawn one after the other. TypeError: `rng` is no generator."""
    rng = _generator("make_views", rng)
    return [view(images, rng) for view in views]


# -- published settings: which views, as a tuple -------------------------------------------------------------------------

def _view(of, size, jitter, flip, crop, colour, area=(0.08, 1.0), blur=0.0, solarize=0.0):
    """A View, with what the switches leave; all the authors resize with the bicubic kernel. Errors speak in the name `of`."""
    flip, crop, colour = flag(of, "flip", flip), flag(of, "crop", crop), flag(of, "colour", colour)
    return View(size, area if crop else None, interpolation="bicubic", flip=0.5 if flip else 0.0,
                jitter=jitter if colour else (0.0,) * 4, greyscale=0.2 if colour else 0.0, blur=blur,
                solarize=solarize if colour else 0.0)


def simclr(size: int, strength: float = 0.5, blur: bool = False, *, flip: bool = True, crop: bool = True,
           colour: bool = True) -> tuple[View, View]:
    """SimCLR's two views, of one kind.

    Args:
        size: height and width.
        strength: of the colours; the paper has 1 for ImageNet, and for CIFAR-10 0.5 and no blur.
        blur: half of the views are blurred.
        flip: off for letters and digits, which must not be mirrored.
        crop, colour: off to do without random crops, or without jitter and greyscale.
    """
    strength = constant("simclr", "strength", strength, 0, 2.5)
    jitter = (0.8 * strength, 0.8 * strength, 0.8 * strength, 0.2 * strength)
    view = _view("simclr", size, jitter, flip, crop, colour, blur=0.5 * flag("simclr", "blur", blur))
    return view, view


BYOL_JITTER = (0.4, 0.4, 0.2, 0.1)


def byol(size: int, *, blur: bool = True, flip: bool = True, crop: bool = True, colour: bool = True) -> tuple[View, View]:
    """BYOL's two views: the first always blurred, the second for one image of ten, and solarised for one of five.

    Args:
        blur: off for small images, as SimCLR does.
        size, flip, crop: as of `simclr`.
        colour: off to do without jitter, greyscale and solarising.
    """
    blur = flag("byol", "blur", blur)
    first, second = (_view("byol", size, BYOL_JITTER, flip, crop, colour, blur=b * blur, solarize=s)
                     for b, s in ((1.0, 0.0), (0.1, 0.2)))
    return first, second


def dino(size: int, local_size: int | None = None, local_views: int = 8, *, scale: float = 0.4, blur: bool = True,
         flip: bool = True, crop: bool = True, colour: bool = True) -> tuple[View, ...]:
    """DINO's views: two global ones, blurred as BYOL's, and the small ones, half of which are blurred.

    Args:
        size: of global views.
        local_size: of local ones; None for 3/7 of the global ones, as 96 is of 224.
        local_views: how many local ones.
        scale: the area that parts local crops (from 0.05 on) from global ones (up to 1).
        blur, flip, crop, colour: as of `byol`.
    """
    scale, blur = constant("dino", "scale", scale, 0.05, 1), flag("dino", "blur", blur)
    whole("dino", "size", size, 1)
    local_size = max(1, round(3 * size / 7)) if local_size is None else local_size
    kinds = [(size, (scale, 1.0), 1.0, 0.0), (size, (scale, 1.0), 0.1, 0.2)]
    kinds += [(local_size, (0.05, scale), 0.5, 0.0)] * whole("dino", "local_views", local_views, 0)
    return tuple(_view("dino", n, BYOL_JITTER, flip, crop, colour, area, b * blur, s) for n, area, b, s in kinds)


def mae(size: int, *, area: float = 0.2, flip: bool = True, crop: bool = True) -> tuple[View]:
    """The masked autoencoder's one view: a crop and a flip.

    Args:
        area: the least part of the image that the crop has.
        size, flip, crop: as of `simclr`.
    """
    if not (area := constant("mae", "area", area, 0, 1)):
        raise ValueError("mae: area must be above 0, not 0")
    return (_view("mae", size, (0.0,) * 4, flip, crop, False, (area, 1.0)),)


# -- Exemplar-CNN ------------------------------------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class ExemplarView:
    """Exemplar-CNN's random transformation of each patch, the same for all of its pixels: `view(patches, rng)`.

    First a patch is shifted, scaled and turned; then come contrast along the principal components of its own pixels, saturation
    and value to a power, times a factor, plus an offset (two of each), and the hue. Powers and factors are uniform in their
    logarithm, all else is uniform. Of larger patches the middle is seen; beyond the edges there is their mirror image.

    Args:
        size: height and width of the result; None: the patches'.
        shift: up to this part of the size, in both directions.
        scale: least and most factor of the size, from 0.25 to 4.
        rotation: up to +-rotation degrees.
        contrast: least and most factor along a principal component, above 0.
        power, factor: least and most, of saturation and value.
        offset: up to +-offset, likewise.
        hue: up to this part of the circle, 0.5 at most.

    Raises:
        ValueError: a setting is outside its range.
    """

    size: int | None = None
    shift: float = 0.2
    scale: Range = (0.7, 1.4)
    rotation: float = 20.0
    contrast: Range = (0.5, 2.0)
    power: Range = (0.25, 4.0)
    factor: Range = (0.7, 1.4)
    offset: float = 0.1
    hue: float = 0.1

    def __post_init__(self):
        of = "ExemplarView"
        kept = {"size": None if self.size is None else whole(of, "size", self.size, 1),
                "scale": _range(of, "scale", self.scale, 0.25, 4)}
        for name, most in (("shift", 1.0), ("rotation", 180.0), ("offset", 1.0), ("hue", 0.5)):
            kept[name] = constant(of, name, getattr(self, name), 0, most)
        for name in ("contrast", "power", "factor"):
            kept[name] = _positive(of, name, getattr(self, name), STRONGEST)
        for name, value in kept.items():
            object.__setattr__(self, name, value)

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Views (N, C, size, size), float32, of patches (N, C, H, W) from 0 to 1. ValueError for what are no such images."""
        x = _images("ExemplarView", images, rng)
        shape = x.shape[2:] if self.size is None else (self.size, self.size)
        return _in_blocks(x, (x.shape[1], *shape), lambda some: self._block(_checked("ExemplarView", some), shape, rng))

    def _block(self, x, shape, rng):
        def factors(ends, *shape):
            return np.exp(rng.uniform(*np.log(ends), (len(x), *shape))).astype(np.float32)

        def offsets(most, *shape):
            return rng.uniform(-most, most, (len(x), *shape)).astype(np.float32)

        x = self._moved(x, shape, offsets(self.shift, 2), factors(self.scale), np.deg2rad(offsets(self.rotation)))
        x = along_components(x, factors(self.contrast, x.shape[1]))
        of_saturation, of_value = ((factors(self.power), factors(self.factor), offsets(self.offset)) for _ in range(2))
        shift = offsets(self.hue)
        if x.shape[1] == 1:
            return _stretched(x[:, 0], of_value)[:, None]
        hue, saturation, value = augment.to_hsv(x)
        return augment.from_hsv(hue + shift[:, None, None], _stretched(saturation, of_saturation), _stretched(value, of_value))

    def _moved(self, x, shape, shift, scale, angle):
        reach = math.hypot(*shape) / 2 / self.scale[0] + self.shift * max(shape)  # how far from the middle an output may look
        margin = [max(0, math.ceil(reach - n / 2) + 1) for n in x.shape[2:]]
        padded = np.pad(x, ((0, 0), (0, 0), *((m, m) for m in margin)), "symmetric")
        cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
        rows = [cos, sin, shift[:, 0] * shape[0]], [-sin, cos, shift[:, 1] * shape[1]]
        return augment.warp(padded, np.stack([np.stack(row, -1) for row in rows], 1), shape=shape)


def _stretched(x, changes):
    """x (N, H, W) to a power, times a factor, plus an offset, each (N,)."""
    power, factor, offset = (v[:, None, None] for v in changes)
    return np.clip(x ** power * factor + offset, 0, 1)


def along_components(images: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """The pixels' differences from their mean, times a factor (N, C) along each principal component; clipped to 0 .. 1.

    The components of an image's own pixels are meant, the one of least variance first.
    """
    n, c = images.shape[:2]
    pixels = images.reshape(n, c, -1)
    mean = pixels.mean(2, keepdims=True)
    covariance = (pixels - mean) @ (pixels - mean).swapaxes(1, 2)
    covariance[~np.isfinite(covariance).all((1, 2))] = 0  # no components, but the mean is NaN already
    axes = np.linalg.eigh(covariance)[1]
    scaled = (axes * factors[:, None]) @ axes.swapaxes(1, 2) @ (pixels - mean) + mean
    return np.clip(scaled, 0, 1).reshape(images.shape)
