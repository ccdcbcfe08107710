"""Where data lives on disk, downloads, and a cache of decoded arrays."""
import codecs
import io
import os
import pathlib
import zipfile
from collections.abc import Callable, Sequence

import numpy as np

from ..backend.files import cache_dir, replacing

GIB = 2 ** 30
_ZIP_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA,
                getattr(zipfile, "ZIP_ZSTANDARD", zipfile.ZIP_STORED)}


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


def check_labels(labels: np.ndarray, classes: int, path: str | os.PathLike) -> None:
    """ValueError unless there are labels and each of them is below `classes`."""
    if not len(labels) or labels.max() >= classes:
        found = f"a label of {labels.max()}" if len(labels) else "no labels"
        raise ValueError(f"{path} holds {found}; wanted are labels from 0 to {classes - 1}")


def open_zip(path: str | os.PathLike, content: bytes | None = None) -> zipfile.ZipFile:
    """A zip whose members can be read one by one into memory: at most 1 GiB and 20 times the zip's size when unpacked.

    Args:
        path: of the file, which is named in errors.
        content: its bytes, if they were read already.

    Raises:
        ValueError: it is no zip or damaged, encrypted, compressed by a method that Python lacks, unpacks to too much, or has
            names of files outside it.
    """
    try:
        archive = zipfile.ZipFile(path if content is None else io.BytesIO(content))
        members = archive.infolist()
    except Exception as error:  # a damaged directory of a zip raises errors of many kinds
        raise ValueError(f"{path} is neither a folder nor an undamaged zip: {error}") from None
    size = os.path.getsize(path) if content is None else len(content)
    most, total = GIB + 20 * size, sum(info.file_size for info in members)
    fault = f"it unpacks to {total / GIB:.1f} GiB, for its size at most {most / GIB:.1f} GiB is read" if total > most else ""
    for info in members:
        if info.flag_bits & 1:
            fault = f"{info.filename} is encrypted; unpack it with its password and give the folder"
        elif info.compress_type not in _ZIP_METHODS:
            method = zipfile.compressor_names.get(info.compress_type, info.compress_type)
            fault = f"{info.filename} is compressed by {method}, which Python does not read; unpack it and give the folder"
        elif ".." in (parts := info.filename.replace("\\", "/").split("/")) or parts[0] == "" or parts[0].endswith(":"):
            fault = f"{info.filename} would lie outside the folder that the zip is of"
        if fault:
            archive.close()
            raise ValueError(f"{path} cannot be read: {fault}")
    return archive


def text_of(content: bytes) -> str:
    """A file's text: UTF-8, or UTF-16 that begins with a byte order mark, as some spreadsheets write.

    Raises:
        ValueError: it is neither.
    """
    try:
        text = content.decode("utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig")
        if "\0" not in text:
            return text
    except UnicodeDecodeError:
        pass
    raise ValueError("it is no text in UTF-8; save it with that encoding, in spreadsheets called CSV UTF-8")


def cached(key: str, make: Callable[[], np.ndarray], shape: tuple[int, ...] | None = None) -> np.ndarray:
    """The array `make()` of bytes, kept in the cache under `key`. A damaged cache file is made anew.

    Args:
        shape: the array's, -1 for any length; a cached array of another shape, or not of bytes, is made anew as well.
    """
    path = cache_dir() / f"{key}.npy"
    try:
        array = np.load(path, allow_pickle=False)
        if shape is None or array.dtype == np.uint8 and array.ndim == len(shape) and all(
                n in (m, -1) for m, n in zip(array.shape, shape)) and array.size:
            return array
    except Exception:  # a damaged file raises errors of many kinds
        pass
    array = make()
    try:
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.save(file, array, allow_pickle=False)
    except OSError:
        pass  # a cache that cannot be written costs time, not results
    return array
