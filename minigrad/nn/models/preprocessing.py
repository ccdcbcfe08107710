"""What is done to pictures before a published encoder sees them."""
import math
import numbers
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ...backend.libraries import library
from ...ops.geometry import one_of, several, whole
from ...tensor import Tensor

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")  # by Pillow
LONGEST = 100  # how many times as long as wide a picture may be and still be scaled whole
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Preprocessing:
    """From pictures of any size to a model's input; it belongs to the weights.

    A picture is resized until its shorter side has size / crop pixels, the middle size x size pixels are cut out, and in each
    channel a value v of 0 to 255 becomes (v / 255 - mean) / std.

    Args:
        size: how many pixels high and wide the input is.
        interpolation: one of `INTERPOLATIONS`.
        mean, std: of each channel.
        crop: the part of the shorter side that stays, above 0, at most 1. `dataclasses.replace(preprocessing, crop=1)` keeps
            the borders, for pictures that the object fills.
    """

    size: int = 224
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    crop: float = 0.875

    def __post_init__(self):
        object.__setattr__(self, "size", whole("Preprocessing", "size", self.size, 1))
        one_of("Preprocessing", "interpolation", self.interpolation, INTERPOLATIONS)
        if not _number(self.crop) or not 0 < self.crop <= 1:
            raise ValueError(f"Preprocessing: crop is above 0 and at most 1, not {self.crop!r}")
        mean, std = several(self.mean) or (), several(self.std) or ()
        if not all(map(_number, (*mean, *std))) or len(mean) != len(std) or len(mean) not in (1, 3) or min(std) <= 0:
            raise ValueError("Preprocessing: mean and std of 1 or 3 channels wanted, std above 0, "
                             f"not {self.mean} and {self.std}")

    def __call__(self, pictures: "np.ndarray | PIL.Image.Image | Iterable") -> np.ndarray:  # noqa: F821 (Pillow is optional)
        """
        Args:
            pictures: one of Pillow's pictures, bytes (C, H, W) or (H, W, C) or (H, W) of dtype uint8, C = 1 or 3; or several
                of these, such as an array (N, C, H, W). (3, H, 3) is read as (C, H, W). Grey ones are coloured, and coloured
                ones greyed, as the model wants.

        Returns:
            float32 (N, C, size, size), N = 1 for one picture.

        Raises:
            TypeError: no pictures, or numbers that are no bytes; ValueError: another shape, or a picture without pixels;
                ImportError: Pillow is needed and not installed.
        """
        pictures = pictures.numpy() if isinstance(pictures, Tensor) else pictures
        single = hasattr(pictures, "convert") or isinstance(pictures, np.ndarray) and pictures.ndim < 4
        if not single and not isinstance(pictures, Iterable) or isinstance(pictures, (str, bytes)):
            raise TypeError(f"Preprocessing: pictures are arrays of bytes or Pillow's, not {pictures!r:.50}")
        inputs = [self._one(picture) for picture in ([pictures] if single else pictures)]
        batch = np.stack(inputs) if inputs else np.zeros((0, len(self.mean), self.size, self.size), np.uint8)
        column = (1, -1, 1, 1)
        mean, std = (np.array(values, np.float32).reshape(column) for values in (self.mean, self.std))
        return batch * (1 / (255 * std)) - mean / std

    def _one(self, picture):
        """One picture as bytes (C, size, size)."""
        channels = len(self.mean)
        if not hasattr(picture, "convert"):
            picture = _channels_first(picture)
            if picture.shape == (channels, self.size, self.size) and self.crop == 1:
                return picture
            picture = _pillow().fromarray(picture.transpose(1, 2, 0) if len(picture) == 3 else picture[0])
        picture = picture.convert("RGB" if channels == 3 else "L")
        width, height = picture.size
        if not width or not height:
            raise ValueError("Preprocessing: a picture has no pixels")
        most = LONGEST * min(width, height)
        if max(width, height) > most:  # of which the middle alone is seen; all of it, scaled, could fill the memory
            left, top = (max(n - most, 0) // 2 for n in (width, height))
            picture = picture.crop((left, top, width - left, height - top))
            width, height = picture.size
        shorter = math.floor(self.size / self.crop)
        scaled = [max(shorter, int(shorter * n / min(width, height))) for n in (width, height)]
        if picture.size != tuple(scaled):
            picture = picture.resize(scaled, _pillow().Resampling[self.interpolation.upper()])
        left, top = ((n - self.size) // 2 for n in scaled)
        picture = picture.crop((left, top, left + self.size, top + self.size))
        return np.asarray(picture).reshape(self.size, self.size, channels).transpose(2, 0, 1)


def _number(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def _channels_first(picture):
    picture = np.asarray(picture)
    if picture.dtype != np.uint8:
        raise TypeError(f"Preprocessing: pictures are bytes (uint8) or Pillow's, not {picture.dtype}")
    picture = picture[None] if picture.ndim == 2 else picture
    if picture.ndim == 3 and len(picture) not in (1, 3) and picture.shape[2] in (1, 3):
        picture = picture.transpose(2, 0, 1)
    if picture.ndim != 3 or len(picture) not in (1, 3) or not picture.size:
        raise ValueError(f"Preprocessing: pictures (C, H, W) or (H, W, C) of 1 or 3 channels wanted, got shape {picture.shape}")
    return picture


def _pillow():
    return library("PIL.Image", "pillow", "pictures are resized by")
