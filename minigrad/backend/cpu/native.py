"""The inner loops of the CPU paths in C: the `.c` files beside this one, compiled for this processor at the first use.

NumPy passes over memory once for each operation of an expression, and its products cannot keep a convolution's sums in
registers; C can do both. What a kernel computes on one block NumPy can compute as well: it serves where there is no C
compiler, where the arrays are not float32, and where the environment says MINIGRAD_NATIVE=0.

The declarations in the C files are the one place that says what a kernel takes. A kernel shares its work among threads of
its own (OpenMP), as many as `threads.get_num_threads()` says: Python's would wait for the interpreter lock between the
blocks.
"""
import contextlib
import ctypes
import functools
import hashlib
import os
import pathlib
import platform
import re
import shutil
import subprocess
import tempfile
import warnings

import numpy as np

from ..files import cache_dir
from . import blas
from .threads import get_num_threads, on_change

FOLDER = pathlib.Path(__file__).parent
OPTIONS = ("-O3", "-std=gnu11", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math")
CHOICES = [(*parallel, *processor) for parallel in (["-fopenmp"], ["-fopenmp-simd"]) for processor in (
    ["-march=native", "-mprefer-vector-width=512"], ["-march=native"], ["-mcpu=native"], [])]  # the first that works serves
MULTIPLYING = ("product", "attention", "attention_backward")  # by BLAS
_DECLARATION = re.compile(r"^void (\w+)\(([^)]*)\)", re.MULTILINE)
_SCALARS = {"index_t": ctypes.c_int64, "float": ctypes.c_float, "int": ctypes.c_int, "function_t": ctypes.c_void_p}
_DTYPES = {"float": np.dtype(np.float32), "double": np.dtype(np.float64), "index_t": np.dtype(np.int64),
           "unsigned char": np.dtype(np.uint8)}
_wanted = os.environ.get("MINIGRAD_NATIVE", "1") != "0"


def kernel(name, *arrays):
    """The C function `name` if it can serve these arrays (all float32 and aligned; None counts as such), else None.

    It takes arrays, numbers and None as its C declaration says and refuses arrays of another dtype. Only the last axis of an
    array is known to be dense; strides are arguments.
    """
    for a in arrays:
        if a is not None and (a.dtype != np.float32 or not a.flags.aligned):
            return None
    return _kernels().get(name) if _wanted else None


@contextlib.contextmanager
def using(on):
    """Inside, the C kernels serve (as far as there are any), or with False NumPy does."""
    global _wanted
    before, _wanted = _wanted, on
    try:
        yield
    finally:
        _wanted = before


@functools.cache
def _kernels():
    """{name: function}, empty where nothing can be compiled."""
    sources = sorted(FOLDER.glob("*.c"))
    library = _library(sources)
    if library is None:
        return {}
    found = {}
    for name, parameters in _DECLARATION.findall("\n".join(path.read_text() for path in sources)):
        if hasattr(library, name):
            function = found[name] = getattr(library, name)
            function.restype, function.argtypes = None, [_parameter(text) for text in parameters.split(",")]
    found["use_threads"](get_num_threads())
    on_change.append(found["use_threads"])
    if "use_blas" in found and blas.functions():
        found["use_blas"](*blas.functions())
    else:
        _leave_products_to_numpy(found)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: _after_fork(found))
    return found


def _leave_products_to_numpy(found):
    for name in MULTIPLYING:
        found.pop(name, None)


def _after_fork(found):
    """OpenMP's threads do not survive a fork; BLAS's do."""
    on_change[:] = [tell for tell in on_change if tell is not found["use_threads"]]
    found["use_threads"](1)
    _leave_products_to_numpy(found)


def _parameter(text):
    *words, _name = text.replace("*", " * ").split()
    kind = " ".join(word for word in words if word not in ("const", "*"))
    return _pointer(_DTYPES[kind], written="const" not in words) if "*" in words else _SCALARS[kind]


@functools.cache
def _pointer(dtype, written):
    class Pointer:
        @classmethod
        def from_param(cls, array):
            if array is None:
                return None
            if array.dtype != dtype:
                raise TypeError(f"a kernel takes {dtype} here, not {array.dtype}")
            try:
                return ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(array)))  # a quarter of the time
            except (TypeError, ValueError):  # read-only, not contiguous or empty
                if written and not array.flags.writeable:
                    raise ValueError("a kernel cannot write into read-only memory") from None
                return ctypes.c_void_p(array.ctypes.data)
    return Pointer


def _library(sources):
    """The compiled files, from the cache if they have been compiled before; None if they cannot be."""
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang"))), None)
    if compiler is None or os.name != "posix":
        return None
    text = b"".join(path.read_bytes() for path in (*sources, FOLDER / "kernels.h"))
    key = hashlib.sha256(text + repr((OPTIONS, CHOICES, compiler, _processor())).encode()).hexdigest()[:16]
    for folder in _folders():
        path = folder / f"kernels-{key}.so"
        try:
            return _load(path)
        except OSError:  # not there, or damaged
            pass
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder) as scratch:  # renamed when whole: others may compile it too
                _compile(compiler, sources, pathlib.Path(scratch) / "kernels.so")
                os.replace(pathlib.Path(scratch) / "kernels.so", path)
            return _load(path)
        except OSError:  # a folder that cannot be written, or does not allow executables
            continue
        except subprocess.SubprocessError as error:
            said = getattr(error, "stderr", None) or str(error)
            warnings.warn(f"{compiler} does not compile minigrad's CPU kernels, so NumPy serves, which is slower: "
                          f"{said[:500]}", RuntimeWarning, stacklevel=2)
            return None
    return None


def _load(path):
    """The library. Its threads stay awake for some milliseconds, until the next kernel may come, and then sleep: threads of
    Python and BLAS may want their cores."""
    mine = "GOMP_SPINCOUNT" not in os.environ and "OMP_WAIT_POLICY" not in os.environ
    if mine:
        os.environ["GOMP_SPINCOUNT"] = "100000"  # read once, when OpenMP is loaded
    try:
        return ctypes.CDLL(str(path))
    finally:
        if mine:
            del os.environ["GOMP_SPINCOUNT"]


def _compile(compiler, sources, out):
    for i, choice in enumerate(CHOICES):
        try:
            subprocess.run([compiler, *OPTIONS, *choice, *map(str, sources), "-o", str(out), "-lm"], check=True,
                           capture_output=True, text=True, timeout=300)
            return
        except subprocess.CalledProcessError:
            if i + 1 == len(CHOICES):
                raise


def _folders():
    """Where compiled files may be kept: the cache, else a folder for this user among the temporary files."""
    yield cache_dir()
    shared = pathlib.Path(tempfile.gettempdir()) / f"minigrad-{os.getuid()}"
    with contextlib.suppress(OSError):
        shared.mkdir(mode=0o700, exist_ok=True)
        if shared.stat().st_uid == os.getuid():  # else somebody else put it there
            yield shared


def _processor():
    """What this processor is and can do: files compiled for another may not run here."""
    try:
        lines = set(pathlib.Path("/proc/cpuinfo").read_text().splitlines())
        return sorted(line for line in lines if line.startswith(("model name", "flags", "Features")))
    except OSError:
        return platform.platform() + platform.processor()
