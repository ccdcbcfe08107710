"""Where data lives on disk, and files that are written whole or not at all."""
import os
import pathlib
import tempfile

import numpy as np


def cache_dir():
    """The folder of decoded data: the environment's MINIGRAD_CACHE, else `minigrad` in the user's cache folder."""
    base = os.environ.get("MINIGRAD_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache"), "minigrad")
    return pathlib.Path(base)


def data_dir(data=None):
    """The folder to look for data in: `data`, else the environment's MINIGRAD_DATA, else the cache."""
    return pathlib.Path(data or os.environ.get("MINIGRAD_DATA") or cache_dir())


def find(names, url, md5, data=None):
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


def cached(key, make):
    """The array `make()`, kept in the cache under `key`. A damaged cache file is made anew."""
    path = cache_dir() / f"{key}.npy"
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        array = make()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                np.save(file, array, allow_pickle=False)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError:
        pass  # a cache that cannot be written costs time, not results
    return array
