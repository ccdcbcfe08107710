"""Picture files as a network's inputs."""
import io
import pathlib
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")


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
        from PIL import Image, UnidentifiedImageError
        try:
            picture = Image.open(io.BytesIO(content)).convert("L" if self.channels == 1 else "RGB")
        except UnidentifiedImageError:
            raise ValueError("it is no picture") from None
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise ValueError(f"it cannot be read: {error}") from None
        picture = picture.resize((self.size, self.size), Image.Resampling.BILINEAR, reducing_gap=2)
        array = np.asarray(picture).reshape(self.size, self.size, self.channels).transpose(2, 0, 1)
        array = array.astype(np.float32) / np.float32(self.divisor)
        frame = np.concatenate([array[:, 0], array[:, -1], array[:, :, 0], array[:, :, -1]], 1)
        return 1 - array if self.background == "dark" and np.median(frame) > 0.5 else array


def picture_files(path: str | pathlib.Path) -> dict[str, Callable[[], bytes]]:
    """The pictures at a path, in order: from the name of each to a function that reads it.

    Args:
        path: a picture file, a folder (with all below it), or a zip of one.

    Raises:
        FileNotFoundError: there is nothing; ValueError: it is a damaged zip.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        return {p.as_posix(): p.read_bytes for p in sorted(path.rglob("*")) if p.is_file() and p.suffix.lower() in ENDINGS}
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}")
    if path.suffix.lower() != ".zip":
        return {str(path): path.read_bytes}
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path}: {error}") from None
    names = [n for n in sorted(archive.namelist()) if n.lower().endswith(ENDINGS) and not n.startswith("__MACOSX")]
    return {f"{path}/{name}": (lambda name=name: archive.read(name)) for name in names}


def read_pictures(files: dict[str, Callable[[], bytes]], preprocessing: Preprocessing) -> tuple[list[str], np.ndarray]:
    """The names and arrays (N, C, H, W) of the pictures that can be read; of the others standard error says why."""
    names, arrays = [], []
    for name, read in files.items():
        try:
            arrays.append(preprocessing(read()))
            names.append(name)
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            print(f"skipped {name}: {error}", file=sys.stderr)
    shape = (preprocessing.channels, preprocessing.size, preprocessing.size)
    return names, np.stack(arrays) if arrays else np.zeros((0, *shape), np.float32)
