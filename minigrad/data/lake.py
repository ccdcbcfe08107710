"""The one-shot task of Lake, Salakhutdinov and Tenenbaum (2015): 20 runs of 20-way one-shot within an alphabet."""
import os
import pathlib
import re
import zipfile
import zlib
from dataclasses import dataclass

import numpy as np

from .folder import files_below, open_picture


@dataclass
class LakeRun:
    """support (n, size, size) and query (m, size, size) float32, ink 1; labels (m,): the support that a query matches."""

    support: np.ndarray
    query: np.ndarray
    labels: np.ndarray


def load_lake_runs(path: str | os.PathLike, size: int = 28) -> list[LakeRun]:
    """The runs in a folder or zip of `runNN/{training,test}/*.png` with `runNN/class_labels.txt`, as in `all_runs.zip`.

    Each line of class_labels.txt names a test image and the training image of its class.

    Raises:
        FileNotFoundError: there is nothing at `path`; ValueError: no runs in it, or a run is incomplete or damaged.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no folder or zip of one-shot runs at {path}")
    try:
        return _runs(dict(sorted(files_below(path, {}), key=lambda found: found[0])), path, size)
    except (zipfile.BadZipFile, zlib.error, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _runs(files, path, size):
    """`files`: from each name to a function that reads its bytes."""
    tables = [name for name in files if re.search(r"run\d+/class_labels\.txt$", name)]
    if not tables:
        raise ValueError(f"{path} holds no runNN/class_labels.txt")
    return [_run(files, name, path, size) for name in tables]


def _run(files, table, path, size):
    base = re.sub(r"run\d+/class_labels\.txt$", "", table)
    pairs = [line.split() for line in files[table]().decode().splitlines() if line.strip()]
    for pair in pairs:
        if len(pair) != 2 or any(base + name not in files for name in pair):
            raise ValueError(f"{path}: a line of {table} names a file that is not there: {' '.join(pair)}")
    training = sorted({name for name in files if name.startswith(table.removesuffix("class_labels.txt") + "training/")})
    return LakeRun(np.stack([_image(files[name](), size) for name in training]),
                   np.stack([_image(files[base + test](), size) for test, _ in pairs]),
                   np.array([training.index(base + train) for _, train in pairs]))


def _image(content, size):
    from PIL import Image
    picture = open_picture(content, 1).resize((size, size), Image.Resampling.BOX)
    return 1 - np.asarray(picture, np.float32) / 255
