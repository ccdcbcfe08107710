"""The OpenBLAS that NumPy multiplies with: its number of threads, and its product for the kernels in C.

BLAS and OpenMP both have threads that wait for work awake, and where two share a core each has half of it. So BLAS
multiplies in the threads that call it, and those are ours.
"""
import contextlib
import ctypes
import functools
import os


@contextlib.contextmanager
def single_threaded_blas():
    """Inside, BLAS has one thread, if its threads can be controlled; then as many as before.

    Where several threads of Python are inside, those that found one do not restore it: what BLAS has at last is right.
    """
    get, put = blas_threads() or (lambda: 1, None)
    before = get()
    if before > 1:
        put(1)
    try:
        yield
    finally:
        if before > 1:
            put(before)


@functools.cache
def blas_threads():
    """(get, set) of BLAS's number of threads, or () where it cannot be controlled."""
    if _openblas() is None:
        return ()
    library, prefix, suffix = _openblas()
    return tuple(getattr(library, f"{prefix}openblas_{verb}_num_threads{suffix}") for verb in ("get", "set"))


def functions():
    """The addresses of cblas_sgemm, with lengths of 64 bits, and of what gets and sets BLAS's number of threads; or None."""
    if _openblas() is None:
        return None
    library, prefix, suffix = _openblas()
    if suffix != "64_" or not hasattr(library, f"{prefix}cblas_sgemm64_"):
        return None
    product = getattr(library, f"{prefix}cblas_sgemm64_")
    return [ctypes.cast(f, ctypes.c_void_p).value for f in (product, *blas_threads())]


@functools.cache
def _openblas():
    """The library, and what stands before and behind its functions' names; None if NumPy uses another."""
    for path in _paths():
        try:
            library = ctypes.CDLL(path)  # NumPy has loaded it: this only finds the handle
        except OSError:
            continue
        for prefix in ("scipy_", ""):
            for suffix in ("64_", ""):
                if hasattr(library, f"{prefix}openblas_set_num_threads{suffix}"):
                    return library, prefix, suffix
    return None


def _paths():
    import glob

    import numpy
    folder = os.path.dirname(numpy.__file__)
    for pattern in (folder + ".libs/*openblas*", folder + "/.dylibs/*openblas*"):
        yield from glob.glob(pattern)
    try:
        with open("/proc/self/maps") as maps:
            yield from sorted({line.split()[-1] for line in maps if "openblas" in line})
    except OSError:
        pass
