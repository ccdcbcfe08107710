"""Checkpoints: safetensors files, written whole or not at all. Loading never unpickles."""
import json
import os
import tempfile

import numpy as np

from .backend import to_device


def _safetensors():
    try:
        import safetensors.numpy
    except ImportError:
        raise ImportError("checkpoints need the safetensors library: pip install 'minigrad[examples]'") from None
    return safetensors


def save(path, arrays, facts=None):
    """Writes a dict of named arrays, and `facts` (anything JSON can hold) beside them, to `path`.

    The file is written under another name and renamed, so `path` holds the old contents or the new ones, never a part.
    """
    safetensors = _safetensors()
    path = os.fspath(path)
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, suffix=".part")
    os.close(handle)
    try:
        safetensors.numpy.save_file({k: np.asarray(to_device(v, "cpu"), order="C") for k, v in arrays.items()}, temporary,
                                    metadata={"facts": json.dumps(facts)})
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def load(path):
    """The arrays and the facts that `save` wrote.

    Raises:
        FileNotFoundError: there is no such file; ValueError: it is damaged or no safetensors file.
    """
    safetensors = _safetensors()
    if not os.path.exists(path):
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        with safetensors.safe_open(os.fspath(path), framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, json.loads((file.metadata() or {}).get("facts", "null"))
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is damaged or no safetensors file: {error}") from None
