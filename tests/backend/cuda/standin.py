"""A device for `minigrad.backend.execution.using` that needs no GPU: kernels compiled by g++, on NumPy arrays.

Every launch runs twice, with the threads and blocks in either order, on copies that have a zone of NaNs before and a page
that cannot be read behind them. It fails if the two results differ (a race, a missing barrier), if the zone or a const
array changed, if something behind an array was read, or if a barrier was not reached by all threads.
"""
import ctypes
import functools
import getpass
import hashlib
import math
import mmap
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np

from minigrad.backend.cpu.native import more_options
from minigrad.backend.cuda import launch

HEADER = pathlib.Path(__file__).with_name("standin.h")
CACHE = pathlib.Path(tempfile.gettempdir()) / f"minigrad-standin-{getpass.getuser()}"
PAGE = mmap.PAGESIZE

available = sys.platform == "linux" and shutil.which("g++") is not None


@functools.cache
def library(file, item):
    """The kernels of a file as a loaded shared library; compiled only where its text is new."""
    text = launch.source(file) + "".join(
        f'\nextern "C" const char* launch_{name}(const unsigned* sizes, void** arguments, int backwards) '
        f"{{ return standin::launch({name}, sizes, arguments, backwards); }}" for name in launch.kernels(file))
    command = ["g++", "-O2", "-fPIC", "-shared", "-w", *launch.options(item), *more_options(), "-include", str(HEADER)]
    key = hashlib.sha256("\0".join([text, HEADER.read_text(), *command]).encode()).hexdigest()[:20]
    path = CACHE / f"{file}-{item}-{key}.so"
    CACHE.mkdir(mode=0o700, exist_ok=True)
    assert CACHE.stat().st_uid == os.getuid(), f"{CACHE} is somebody else's"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            built = pathlib.Path(folder) / "kernels.so"
            subprocess.run([*command, "-x", "c++", "-", "-o", built], input=text, text=True, check=True)
            built.replace(path)
    return ctypes.CDLL(str(path))


class StandIn:
    """The CPU in the role of a GPU."""

    takes_numpy = True

    def empty(self, shape, dtype):
        """An array full of NaNs (or of -1): what a kernel leaves unwritten shows."""
        dtype = np.dtype(dtype)
        return np.full(math.prod(shape) * dtype.itemsize, 0xff, np.uint8).view(dtype).reshape(shape)

    def run(self, file, kernel, item, grid, block, arguments):
        """Launches in both orders, compares, and writes the result to the arrays among `arguments`."""
        function = getattr(library(file, item), f"launch_{kernel}")
        function.restype = ctypes.c_char_p
        sizes = (ctypes.c_uint * 6)(*[*grid, 1, 1][:3], *[*block, 1, 1][:3])
        declared = launch.kernels(file)[kernel]
        forwards, backwards = (_run_once(function, sizes, arguments, declared, order) for order in (0, 1))
        for i, (target, a, b) in enumerate(zip(_flat(arguments), forwards, backwards)):
            if a is None:
                continue
            problem = f"{kernel}: argument {i} depends on the order of the threads"
            if a.dtype in (np.float32, np.float64):  # atomic additions come in another order
                rounding = 50 * np.finfo(a.dtype).eps * np.abs(a[np.isfinite(a)]).max(initial=0)
                np.testing.assert_allclose(a, b, rtol=0, atol=rounding, err_msg=problem)
            else:
                assert a.tobytes() == b.tobytes(), problem
            target[...] = a


def _flat(arguments):
    """The arguments, those of lists of arrays in the place of the list."""
    return [a for value in arguments for a in (value if isinstance(value, list) else [value])]


def _guarded(array):
    """A zone of NaNs (or -1) and, right behind it, a copy of `array` that ends where a page begins that nobody may touch.

    A view that is not aligned to 16 bytes, unlike a whole array, is copied to where its copy is aligned no better.
    """
    size = -(-array.nbytes // PAGE) * PAGE + PAGE
    buffer = np.frombuffer(mmap.mmap(-1, size + PAGE), np.uint8)
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(buffer.ctypes.data + size), ctypes.c_size_t(PAGE), 0) == 0
    offset = array.ctypes.data % 16
    end = size - (size - array.nbytes - offset) % 16 if offset else size
    zone, inside = np.split(buffer[:end], [end - array.nbytes])
    zone.fill(0xff)
    inside = inside.view(array.dtype).reshape(array.shape)
    inside[...] = array
    return zone, inside


def _run_once(function, sizes, arguments, declared, backwards):
    """Returns the arrays that the kernel may have written, None for the other arguments."""
    guarded, values = {}, []

    def address(array):
        if id(array) not in guarded:
            guarded[id(array)] = _guarded(array)
        return guarded[id(array)][1].ctypes.data

    for value in arguments:
        if isinstance(value, np.ndarray):
            value = ctypes.c_void_p(address(value))
        elif isinstance(value, (list, tuple)):  # Arrays or Lengths
            value = (ctypes.c_longlong * launch.LIST)(*[address(a) if isinstance(value, list) else a for a in value])
        elif value is None:
            value = ctypes.c_void_p(None)
        else:
            value = np.ctypeslib.as_ctypes_type(value.dtype)(value.item())
        values.append(value)
    references = [ctypes.cast(ctypes.pointer(v), ctypes.c_void_p) for v in values]
    error = function(sizes, (ctypes.c_void_p * len(references))(*references), backwards)
    assert error is None, f"{function.__name__}: {error.decode()}"
    for zone, inside in guarded.values():
        assert (zone == 0xff).all(), f"{function.__name__}: wrote before an array of shape {inside.shape}"
    written = []
    for value, (_, _, const) in zip(arguments, declared):
        for a in value if isinstance(value, list) else [value]:
            if isinstance(a, np.ndarray) and const:
                assert guarded[id(a)][1].tobytes() == a.tobytes(), f"{function.__name__}: changed a const array"
            written.append(guarded[id(a)][1] if isinstance(a, np.ndarray) and not const else None)
    return written
