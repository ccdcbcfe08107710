"""Picture files as a network's inputs."""
import dataclasses
import pathlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from minigrad import data, nn
from minigrad.data.folder import SAVE_AS, printable


@dataclass
class Preprocessing:
    """From a picture to the array that a network was trained on: scaled to size x size, bytes divided by `divisor`."""

    size: int
    channels: int  # 1: grey, 3: colour
    background: Literal["dark", "any"] = "any"  # dark: a grey picture on light paper is inverted
    divisor: float = 255.0

    def __call__(self, content: bytes) -> np.ndarray:
        """(channels, size, size) float32 from the bytes of a picture file.

        Raises:
            ValueError: it is no readable picture.
        """
        array = data.read_picture(content, self.size, self.channels).astype(np.float32) / np.float32(self.divisor)
        frame = np.concatenate([array[:, 0], array[:, -1], array[:, :, 0], array[:, :, -1]], 1)
        return 1 - array if self.background == "dark" and np.median(frame) > 0.5 else array


class EncoderInput(nn.Preprocessing):
    """The preprocessing that belongs to a published encoder, of the bytes of a picture file."""

    @property
    def channels(self) -> int:
        """How many channels the input has."""
        return len(self.mean)

    def __call__(self, content: bytes) -> np.ndarray:
        """(channels, size, size) float32. ValueError: it is no readable picture."""
        return super().__call__(data.open_picture(content, self.channels))[0]


def preprocessing_of(facts: dict[str, Any]) -> "Preprocessing | EncoderInput":
    """What `dataclasses.asdict` made this dict of."""
    if "interpolation" not in facts:
        return Preprocessing(**facts)
    return EncoderInput(**{name: tuple(value) if isinstance(value, list) else value for name, value in facts.items()})


def picture_files(path: str | pathlib.Path) -> dict[str, Callable[[], bytes]]:
    """The pictures at a path, in order: from the name of each, which begins with the path, to a function that reads it.

    Of folders that cannot be read standard error says why, and how many files are of kinds that are not read.

    Args:
        path: a picture file, a folder (with all below it), or a zip of one.

    Raises:
        FileNotFoundError: there is nothing; ValueError: it is a zip that cannot be read.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}")
    if path.is_file() and path.suffix.lower() != ".zip":
        return {printable(str(path)): path.read_bytes}
    found = data.find_pictures(path)
    _report({printable((path / name).as_posix()): why for name, why in found.skipped.items()})
    for line in dataclasses.replace(found, skipped={}).left_out():
        print(f"{printable(str(path))}: {line}", file=sys.stderr)
    return {printable((path / name).as_posix()): read for name, read in found.files.items()}


def read_pictures(files: dict[str, Callable[[], bytes]], preprocessing: Preprocessing) -> tuple[list[str], np.ndarray]:
    """The names and arrays (N, C, H, W) of the pictures that can be read; of the others standard error says why."""
    names, arrays, pictures = [], [], data.FoundFiles(files, {})
    for name, array in pictures.read(preprocessing):
        names.append(name)
        arrays.append(array)
    _report(pictures.skipped)
    shape = (preprocessing.channels, preprocessing.size, preprocessing.size)
    return names, np.stack(arrays) if arrays else np.zeros((0, *shape), np.float32)


def _report(skipped):
    kinds, endings = SAVE_AS["image"]
    for name, why in skipped.items():
        advice = f"; save it as {kinds}" if name.lower().endswith(endings) else ""
        print(f"skipped {name}: {why}{advice}", file=sys.stderr)
