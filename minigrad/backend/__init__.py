"""Where arrays live: NumPy on the CPU, CuPy on an NVIDIA GPU.

Everything above this package is written once, for either. `xp(array)` gives the module that an array belongs to,
and nothing but `to_device` moves data between the host and a GPU.
"""
import sys

import numpy as np


def xp(array):
    """The array module of `array`: `cupy` for a CuPy array, else `numpy`."""
    if type(array) is np.ndarray:
        return np
    cupy = sys.modules.get("cupy")  # a CuPy array cannot exist unless CuPy has been imported
    return cupy if cupy is not None and isinstance(array, cupy.ndarray) else np


def is_array(x):
    """True for the arrays a Tensor can hold: NumPy's and CuPy's."""
    return isinstance(x, np.ndarray) or xp(x) is not np


def cupy():
    """The CuPy module, with a usable GPU behind it.

    Raises:
        RuntimeError: CuPy is not installed, or it finds no GPU.
    """
    try:
        import cupy
    except ImportError:
        raise RuntimeError("device 'cuda' needs CuPy: pip install 'minigrad[cuda12]' (or cuda13)") from None
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise RuntimeError(f"CuPy is installed but finds no usable NVIDIA GPU: {error}") from None
    if not count:
        raise RuntimeError("CuPy is installed but finds no NVIDIA GPU")
    return cupy


def cuda_available():
    """True where CuPy is installed and sees at least one GPU. Importing CuPy takes a second or so."""
    try:
        cupy()
    except RuntimeError:
        return False
    return True


def device_of(array):
    """`"cpu"`, or `"cuda:0"`, `"cuda:1"`, ... for the GPU that holds `array`."""
    return "cpu" if xp(array) is np else f"cuda:{array.device.id}"


def to_device(array, device):
    """`array` on `device` (`"cpu"`, `"cuda"`, `"cuda:1"`); the array itself if it is there already.

    Raises:
        ValueError: the device's name is not understood.
        RuntimeError: there is no such GPU, or no CuPy.
    """
    kind, _, index = str(device).partition(":")
    if kind == "cpu" and not index:
        return array if xp(array) is np else array.get()
    if kind != "cuda" or (index and not index.isdigit()):
        raise ValueError(f"unknown device {device!r}; use 'cpu', 'cuda' or 'cuda:N'")
    cp = cupy()
    with cp.cuda.Device(int(index)) if index else cp.cuda.Device():
        return cp.asarray(array)
