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
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import warnings

import numpy as np

from ..files import cache_dir
from . import blas
from .threads import get_num_threads, on_change

FOLDER = pathlib.Path(__file__).parent
OPTIONS = ("-O3", "-std=gnu11", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math")
CHOICES = [(*parallel, *processor) for parallel in (["-fopenmp"], ["-fopenmp-simd"]) for processor in (
    ["-march=native", "-mprefer-vector-width=512"], ["-march=native"], ["-mcpu=native"], [])]  # the first that works serves
PROBE = """#ifdef _OPENMP
#include <omp.h>
int probe(void) { return omp_get_max_threads(); }
#else
int probe(void) { return 1; }
#endif
"""  # a small file that compiles wherever the options are known
MULTIPLYING = ("product", "attention", "attention_backward")  # by BLAS
_DECLARATION = re.compile(r"^void (\w+)\(([^)]*)\)", re.MULTILINE)
_SCALARS = {"index_t": ctypes.c_int64, "float": ctypes.c_float, "int": ctypes.c_int, "function_t": ctypes.c_void_p}
_DTYPES = {"float": np.dtype(np.float32), "double": np.dtype(np.float64), "index_t": np.dtype(np.int64),
           "unsigned char": np.dtype(np.uint8), "unsigned short": np.dtype(np.uint16)}
_wanted = os.environ.get("MINIGRAD_NATIVE", "1") != "0"
_loading = threading.Lock()


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
    """{name: function}, empty where nothing can be compiled. Of threads that ask first together, one compiles."""
    with _loading:
        return _loaded()


@functools.cache
def _loaded():
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
    if "use_blas" in found and blas.product_address():
        found["use_blas"](blas.product_address())
    else:
        for name in MULTIPLYING:
            found.pop(name, None)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: _after_fork(found))
    return found


def _after_fork(found):
    """OpenMP's threads do not survive a fork: the kernels of a child compute on one."""
    on_change[:] = [tell for tell in on_change if tell is not found["use_threads"]]
    found["use_threads"](1)


def _unlock():
    """The thread that compiles does not survive a fork: the child compiles for itself."""
    global _loading
    _loading = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)


def _parameter(text):
    *words, _name = text.replace("*", " * ").split()
    kind = " ".join(word for word in words if word not in ("const", "*"))
    return _pointer(_DTYPES[kind], written="const" not in words) if "*" in words else _SCALARS[kind]


@functools.cache
def _pointer(dtype, written):
    class Pointer:
        @staticmethod
        def from_param(array, dtype=dtype, byref=ctypes.byref, view=ctypes.c_char.from_buffer):  # found faster than globals
            if array is None:
                return None
            if array.dtype != dtype:
                raise TypeError(f"a kernel takes {dtype} here, not {array.dtype}")
            try:
                return byref(view(array))  # a quarter of the time
            except (TypeError, ValueError):  # read-only, not contiguous or empty
                if written and not array.flags.writeable:
                    raise ValueError("a kernel cannot write into read-only memory") from None
                return ctypes.c_void_p(array.ctypes.data)
    return Pointer


def _library(sources):
    """The compiled files, from the cache if they have been compiled before; None, after a warning, if they cannot be.

    A library's name holds the digest of its bytes, since loading a damaged one would end the process: only a file that
    agrees with its name is loaded, any other is compiled again.
    """
    compiler, more = _compiler(), more_options()
    if compiler is None or os.name != "posix":
        return _without("there is no C compiler (set CC, or install gcc or clang)")
    text = b"".join(path.read_bytes() for path in (*sources, *sorted(FOLDER.glob("*.h"))))
    key = hashlib.sha256(text + repr((OPTIONS, more, CHOICES, compiler, _processor())).encode()).hexdigest()[:16]
    reason = "no folder for the compiled kernels can be written (set MINIGRAD_CACHE)"
    for folder in _folders():
        try:
            stored = sorted(folder.glob(f"kernels-{key}-*.so"))
            for path in stored:
                with contextlib.suppress(OSError):
                    if path.name == _file_name(key, path) and (library := _load(path)):
                        return library
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder) as scratch:  # renamed when whole: others may compile it too
                new = pathlib.Path(scratch) / "kernels.so"
                with contextlib.suppress(OSError):  # nobody may listen
                    print("minigrad: compiling the CPU kernels, once (some seconds) ...", file=sys.stderr, flush=True)
                _compile(compiler, more, sources, new)
                path = folder / _file_name(key, new)
                for damaged in stored:
                    with contextlib.suppress(OSError):
                        damaged.unlink()
                os.replace(new, path)
            if library := _load(path):
                return library
            reason = f"what {shlex.join(compiler)} compiled holds no kernels"
        except OSError as error:  # a folder that cannot be written, or does not allow executables
            reason = f"the compiled kernels cannot be stored or loaded: {error}"
        except subprocess.SubprocessError as error:  # perhaps as this folder is full
            said = getattr(error, "stderr", None) or str(error)
            reason = f"{shlex.join(compiler)} does not compile the CPU kernels: {said[:500]}"
    return _without(reason)


def _without(reason):
    warnings.warn(f"minigrad computes with NumPy alone, which takes several times as long in networks, since {reason}",
                  RuntimeWarning, stacklevel=3)


def _file_name(key, path):
    """The name under which the library at `path` is stored."""
    return f"kernels-{key}-{hashlib.sha256(path.read_bytes()).hexdigest()[:32]}.so"


def _load(path):
    """The library, None if the kernels are not in it.

    Its threads stay awake for a fraction of a millisecond, until the next kernel may come, and then sleep: threads of Python
    and BLAS, and other processes, may want their cores.
    """
    mine = "GOMP_SPINCOUNT" not in os.environ and "OMP_WAIT_POLICY" not in os.environ
    if mine:
        os.environ["GOMP_SPINCOUNT"] = "20000"  # read once, when OpenMP is loaded
    try:
        library = ctypes.CDLL(os.path.abspath(path))  # a name without a folder is looked for elsewhere
    finally:
        if mine:
            del os.environ["GOMP_SPINCOUNT"]
    return library if hasattr(library, "use_threads") else None


def _compiler():
    """The words that call the C compiler, more than one where CC is `ccache gcc`; None if there is none."""
    if path := shutil.which(os.environ.get("CC", "")):  # it may hold spaces
        return [path]
    for first, *more in (_words("CC") or ["cc"], ["gcc"], ["clang"]):
        if path := shutil.which(first):
            return [path, *more]
    return None


def more_options():
    """The options in MINIGRAD_CFLAGS, which come last, so they win."""
    return _words("MINIGRAD_CFLAGS")


def _words(variable):
    """What an environment variable holds, cut as by a shell.

    Raises:
        ValueError: a quotation mark in it has no partner.
    """
    given = os.environ.get(variable, "")
    try:
        return shlex.split(given)
    except ValueError as error:
        raise ValueError(f"{variable}={given}: words quoted as in a shell wanted: {error}") from None


def _compile(compiler, more, sources, out):
    """Compiles with the first of CHOICES that the compiler knows, and the options `more`.

    Any other failure (a full disk, a killed compiler) is no reason to be content with a slower choice, as that would be stored.

    Raises:
        SubprocessError: it failed.
    """
    def run(choice, *inputs):
        subprocess.run([*compiler, *OPTIONS, *choice, *more, *map(str, inputs), "-o", str(out), "-lm"], check=True,
                       capture_output=True, text=True, errors="replace", timeout=300)

    def knows(choice):
        try:
            run(choice, probe)
            return True
        except subprocess.CalledProcessError:
            return False

    probe = out.with_name("probe.c")
    probe.write_text(PROBE)
    for choice in CHOICES:
        try:
            return run(choice, *sources)
        except subprocess.CalledProcessError:
            if choice == CHOICES[-1] or knows(choice) or not knows(CHOICES[-1]):
                raise


def _folders():
    """Where compiled files may be kept: the cache, else a folder for this user among the temporary files."""
    yield cache_dir()
    with contextlib.suppress(OSError):  # one is that no folder for temporary files can be written
        shared = pathlib.Path(tempfile.gettempdir()) / f"minigrad-{os.getuid()}"
        shared.mkdir(mode=0o700, exist_ok=True)
        if shared.stat().st_uid == os.getuid():  # else somebody else put it there
            yield shared


def _processor():
    """What this processor is and can do: files compiled for another may not run here."""
    try:
        lines = set(pathlib.Path("/proc/cpuinfo").read_text(errors="replace").splitlines())
        return sorted(line for line in lines if line.startswith(("model name", "flags", "Features")))
    except OSError:
        return platform.platform() + platform.processor()
