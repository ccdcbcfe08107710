"""The OpenBLAS that NumPy multiplies with: its number of threads, and its product for the kernels in C.

BLAS and OpenMP both have threads that wait for work awake, and where two share a core each has half of it. So BLAS
multiplies in the threads that call it, and those are ours.

A forked child has the locks of its parent as they were at that moment, and none of the threads that would release them. With
one thread BLAS takes none, so it has one while a process forks, and a child keeps it. A product that BLAS has just shared among
threads of its own (one of float64, or of somebody else) can hang for ever, in parent or child: where threads compute, start
processes by "spawn".
"""
import contextlib
import ctypes
import functools
import os
import threading

UNCONTROLLED = (lambda: 1), (lambda number: None)
_lock = threading.Lock()
_inside = 0  # how many want a single thread at present
_before = 1  # the number of BLAS's threads when the first of them came


class _SingleThreadedBlas:
    """Inside, BLAS has one thread, if its threads can be controlled; once all have left, as many as before the first came."""

    def __enter__(self):
        global _inside, _before
        get, put = blas_threads() or UNCONTROLLED
        with _lock:
            if _inside == 0:
                _before = get()
                put(1)
            _inside += 1

    def __exit__(self, *_):
        global _inside
        _get, put = blas_threads() or UNCONTROLLED
        with _lock:
            _inside -= 1
            if _inside == 0:
                put(_before)


single_threaded_blas = _SingleThreadedBlas()


@functools.cache
def blas_threads():
    """(get, set) of BLAS's number of threads, or () where it cannot be controlled.

    It is set by OpenBLAS's own variable where that is visible: OpenBLAS ends its threads before a fork, its function for this
    would start them again, and OpenBLAS hangs when it ends one that is falling asleep.
    """
    if _openblas() is None:
        return ()
    library, prefix, suffix = _openblas()
    get, put = (getattr(library, f"{prefix}openblas_{verb}_num_threads{suffix}") for verb in ("get", "set"))
    with contextlib.suppress(ValueError):
        put = functools.partial(setattr, ctypes.c_int.in_dll(library, "blas_cpu_number"), "value")
    return get, put


def product_address():
    """Where cblas_sgemm is, with lengths of 64 bits, or None. Its callers are inside `single_threaded_blas`."""
    if _openblas() is None:
        return None
    library, prefix, suffix = _openblas()
    if suffix != "64_" or not hasattr(library, f"{prefix}cblas_sgemm64_"):
        return None
    return ctypes.cast(getattr(library, f"{prefix}cblas_sgemm64_"), ctypes.c_void_p).value


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
        with open("/proc/self/maps", errors="surrogateescape") as maps:
            yield from sorted({line.split()[-1] for line in maps if "openblas" in line})
    except OSError:
        pass


def _after_fork():
    """The child keeps the single thread."""
    global _inside, _lock
    _inside, _lock = 0, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=single_threaded_blas.__enter__, after_in_parent=single_threaded_blas.__exit__,
                        after_in_child=_after_fork)
