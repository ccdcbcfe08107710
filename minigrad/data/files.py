"""Where data lives on disk, downloads, and a cache of decoded arrays."""
import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from ..backend.files import cache_dir, replacing


def data_dir(data: str | os.PathLike | None = None) -> pathlib.Path:
    """The folder to look for data in: `data`, else the environment's MINIGRAD_DATA, else the cache."""
    return pathlib.Path(data or os.environ.get("MINIGRAD_DATA") or cache_dir())


def find(names: Sequence[str], url: str, md5: str, data: str | os.PathLike | None = None) -> pathlib.Path:
    """The path of a data file: one of `names` below `data_dir(data)`, else downloaded from `url` into the cache.

    Raises:
        FileNotFoundError: the file is nowhere and could not be fetched whole; nothing is left behind.
    """
    folder = data_dir(data)
    for name in names:
        if (folder / name).is_file():
            return folder / name
    try:
        import pooch
        return pathlib.Path(pooch.retrieve(url, f"md5:{md5}", fname=pathlib.Path(names[0]).name, path=cache_dir()))
    except Exception as error:
        raise FileNotFoundError(f"{names[0]} is not in {folder}, and fetching {url} failed ({error}); "
                                "put the file there or set MINIGRAD_DATA to its folder") from error


def cached(key: str, make: Callable[[], np.ndarray]) -> np.ndarray:
    """The array `make()`, kept in the cache under `key`. A damaged cache file is made anew."""
    path = cache_dir() / f"{key}.npy"
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        array = make()
    try:
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.save(file, array, allow_pickle=False)
    except OSError:
        pass  # a cache that cannot be written costs time, not results
    return array
