"""A device for `minigrad.backend.cuda.launch.using` that needs no GPU: kernels compiled by g++, on NumPy arrays.

Every launch runs twice, with the threads and blocks in either order, on copies between guard zones of NaNs. It fails if
the two results differ (a race, a missing barrier), if a guard zone or a const array changed, or if a barrier was not
reached by all threads.
"""
import ctypes
import functools
import hashlib
import os
import pathlib
import shutil
import subprocess
import tempfile

import numpy as np

from minigrad.backend.cuda import launch

HEADER = pathlib.Path(__file__).with_name("standin.h")
CACHE = pathlib.Path(tempfile.gettempdir()) / f"minigrad-standin-{os.getuid()}"
GUARD = 4096  # bytes before and after each array

available = shutil.which("g++") is not None


@functools.cache
def library(file, real):
    """The kernels of a file as a loaded shared library; compiled only if its text has not been seen before."""
    text = launch.source(file) + "".join(
        f'\nextern "C" const char* launch_{name}(const unsigned* sizes, void** arguments, int backwards) '
        f"{{ return standin::launch({name}, sizes, arguments, backwards); }}" for name in launch.kernels(file))
    command = ["g++", "-std=c++17", "-O2", "-fPIC", "-shared", "-w", f"-DREAL={launch.REALS[real]}", "-include", str(HEADER)]
    key = hashlib.sha256("\0".join([text, HEADER.read_text(), *command]).encode()).hexdigest()[:20]
    path = CACHE / f"{file}-{real}-{key}.so"
    if not path.exists():
        CACHE.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            fresh = pathlib.Path(folder) / "kernels.so"
            subprocess.run([*command, "-x", "c++", "-", "-o", fresh], input=text, text=True, check=True)
            fresh.replace(path)
    return ctypes.CDLL(str(path))


class StandIn:
    """The CPU in the role of a GPU."""

    def empty(self, shape, dtype):
        """An array full of NaNs (or the largest integers): what a kernel leaves unwritten shows."""
        array = np.empty(shape, dtype)
        array.view(np.uint8).fill(0xff) if array.ndim else array.fill(np.nan)
        return array

    def run(self, file, kernel, real, grid, block, arguments):
        function = getattr(library(file, real), f"launch_{kernel}")
        function.restype = ctypes.c_char_p
        sizes = (ctypes.c_uint * 6)(*[*grid, 1, 1][:3], *[*block, 1, 1][:3])
        declared = launch.kernels(file)[kernel]
        forwards, backwards = (_run_once(function, sizes, arguments, declared, order) for order in (0, 1))
        for i, (a, b) in enumerate(zip(forwards, backwards)):
            if a is None:
                continue
            scale = np.abs(a[np.isfinite(a)]).max(initial=0) if a.dtype.kind == "f" else 0
            tolerance = scale * {4: 1e-5, 8: 1e-12}.get(a.itemsize, 0) if a.dtype.kind == "f" else 0
            np.testing.assert_allclose(a, b, rtol=0, atol=tolerance, err_msg=(
                f"{kernel}: argument {i} depends on the order of the threads"))
            arguments[i][...] = a


def _run_once(function, sizes, arguments, declared, backwards):
    """Returns the arrays that the kernel may have written, None for the other arguments."""
    guarded, pointers = {}, []
    for value in arguments:
        if isinstance(value, np.ndarray):
            if id(value) not in guarded:
                buffer = np.full(value.nbytes + 2 * GUARD, 0xff, np.uint8)
                inside = buffer[GUARD:GUARD + value.nbytes].view(value.dtype).reshape(value.shape)
                inside[...] = value
                guarded[id(value)] = buffer, inside
            value = ctypes.c_void_p(guarded[id(value)][1].ctypes.data)
        elif value is None:
            value = ctypes.c_void_p(None)
        else:
            value = np.ctypeslib.as_ctypes_type(value.dtype)(value.item())
        pointers.append(value)
    references = [ctypes.cast(ctypes.pointer(p), ctypes.c_void_p) for p in pointers]
    error = function(sizes, (ctypes.c_void_p * len(references))(*references), backwards)
    assert error is None, f"{function.__name__}: {error.decode()}"
    for buffer, inside in guarded.values():
        assert (buffer[:GUARD] == 0xff).all(), f"{function.__name__}: wrote before an array of shape {inside.shape}"
        assert (buffer[GUARD + inside.nbytes:] == 0xff).all(), f"{function.__name__}: wrote behind shape {inside.shape}"
    written = []
    for value, (_, _, const) in zip(arguments, declared):
        if isinstance(value, np.ndarray) and const:
            np.testing.assert_array_equal(guarded[id(value)][1], value, f"{function.__name__}: changed a const array")
        written.append(guarded[id(value)][1] if isinstance(value, np.ndarray) and not const else None)
    return written
