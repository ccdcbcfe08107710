"""Checkpoints: safetensors files, written whole or not at all; and PyTorch's, read by `pth`. Nothing is ever unpickled."""
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import pth
from .backend import as_dtype, to_device
from .backend.files import replacing
from .backend.libraries import library

INDEX = ".index.json"
DTYPES = {"BOOL", "F16", "BF16", "F32", "F64", "C64", *(f"{kind}{bits}" for kind in "IU" for bits in (8, 16, 32, 64))}


def _safetensors():
    library("safetensors.numpy", "safetensors", "checkpoints need")
    import safetensors
    return safetensors


def _on_host(name, array):
    if isinstance(array, Mapping):
        raise TypeError(f"save: '{name}' is a dict, not an array; give each array in it a name, such as '{name}.weight'")
    try:
        return np.asarray(to_device(array, "cpu"), order="C")
    except (TypeError, ValueError) as error:  # as of a Parameter, whose gradient would be lost
        raise TypeError(f"save: '{name}': {error}") from None


def save(path: str | os.PathLike, arrays: Mapping[str, Any], facts: Any = None) -> None:
    """Writes named arrays, and `facts` beside them, to `path`.

    The file is written under another name and renamed, so `path` holds the old contents or the new ones, never a part. Where
    `path` is a symbolic link, the file that it leads to is written.

    Args:
        path: the file; missing folders are made.
        arrays: {name: array}, NumPy's or CuPy's, of any shape and memory order.
        facts: anything JSON can hold.

    Raises:
        TypeError: `arrays` is no dict with text as names, or holds what the format does not or masked elements, or `facts` are
            none that JSON can hold; ValueError: an array is called "__metadata__", which the format keeps to itself;
            IsADirectoryError: `path` is a folder; OSError: it cannot be written, as where the disk is full; ImportError:
            safetensors is not installed.
    """
    safetensors = _safetensors()
    if not isinstance(arrays, Mapping):
        raise TypeError(f"save(path, arrays): arrays: a dict of arrays wanted, got {type(arrays).__name__}")
    if "__metadata__" in arrays:
        raise ValueError("save: no array can be called '__metadata__' in a file of safetensors")
    if unnamed := [name for name in arrays if not isinstance(name, str)]:
        raise TypeError(f"save: names of arrays are text, not {unnamed[0]!r}")
    try:
        text = json.dumps(facts)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"save: facts must be what JSON can hold: {error}") from None
    on_host = {name: _on_host(name, array) for name, array in arrays.items()}
    for name, array in on_host.items():
        if np.ma.is_masked(arrays[name]):
            raise TypeError(f"save: '{name}' has masked elements; give them a value with .filled(value)")
        if array.dtype.kind in "cOUSMm" or array.dtype.type is np.void or array.dtype.kind == "f" and array.dtype.itemsize > 8:
            raise TypeError(f"save: '{name}' is of dtype {array.dtype}, which a file of safetensors cannot hold")
    with replacing(path) as temporary:
        try:
            safetensors.numpy.save_file(on_host, temporary, metadata={"facts": text})
        except safetensors.SafetensorError as error:  # what it makes of a full disk
            raise OSError(f"{os.fspath(path)} is not written: {error}") from None


def load(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], Any]:
    """The arrays by name, and the facts (None if there are none), of a file of safetensors or of PyTorch's.

    Which of them it is, the file's first bytes say, not its name. How names and facts come out of PyTorch's dicts is said at
    `pth.load`, which refuses what is no tensor. Of a checkpoint in several files `path` is the index of the Hugging Face Hub's,
    whose name ends in .index.json; it has no facts.

    Raises:
        FileNotFoundError: there is no such file, or one that an index names; IsADirectoryError: `path` is a folder; ValueError:
            a file is damaged, or of another kind, or holds something that is no tensor, numbers of 8 bits or fewer with a
            point, or bfloat16 where ml_dtypes is not installed, or lacks what an index says; ImportError: it is none of
            PyTorch's, and safetensors is not installed.
    """
    if os.fspath(path).endswith(INDEX) and os.path.isfile(path):
        return _of_several(pathlib.Path(path)), None
    return _of_one(path)


def _of_several(index):
    """The arrays that an index spreads over files beside it."""
    try:
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = {}
        for name, file in places.items():
            files.setdefault(file, []).append(name)
        if unnamed := [file for file in files if pathlib.Path(file).name != file]:
            raise TypeError(f"{unnamed[0]!r} is no name of a file beside it")
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{index} is not read: a dict wanted whose 'weight_map' leads from names of tensors to those of files: "
                         f"{error}") from None
    arrays = {}
    for file, names in files.items():
        if not (index.parent / file).exists():
            raise FileNotFoundError(f"{index.parent / file} is not there, and {index.name} says that it holds {names[0]}")
        found, _ = _of_one(index.parent / file)
        if missing := [name for name in names if name not in found]:
            raise ValueError(f"{index.parent / file} does not hold {missing[0]}, as {index.name} says")
        arrays |= {name: found[name] for name in names}
    return arrays


def _of_one(path):
    """`load` of a single file."""
    if os.path.isfile(path) and pth.is_pth(path):
        return pth.load(path)
    safetensors = _safetensors()
    if not os.path.exists(path):
        raise FileNotFoundError(f"no checkpoint at {path}")
    if os.path.isdir(path):
        raise IsADirectoryError(f"{path} is a folder, not a checkpoint: name the file in it")
    try:
        with safetensors.safe_open(os.fspath(path), framework="numpy") as file:
            facts = _facts(path, (file.metadata() or {}).get("facts", "null"))
            dtypes = {file.get_slice(name).get_dtype(): name for name in file.keys()}
            if unknown := dtypes.keys() - DTYPES:
                dtype = min(unknown)
                raise ValueError(f"{path} is not read: '{dtypes[dtype]}' is of dtype {dtype}, which NumPy does not have")
            if "BF16" in dtypes:
                as_dtype("bfloat16")  # makes the name known to NumPy
            return {name: file.get_tensor(name) for name in file.keys()}, facts
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is damaged or no safetensors file: {error}") from None
    except RuntimeError as error:  # ml_dtypes is missing
        raise ValueError(f"{path} is not read: {error}") from None


def _facts(path, text):
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # such as of a number of thousands of digits
        raise ValueError(f"{path} is not read: the facts in it are not JSON that Python reads: {error}") from None
