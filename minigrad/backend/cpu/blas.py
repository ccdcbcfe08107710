"""The OpenBLAS that NumPy multiplies with: its number of threads, and its product for the kernels in C.

BLAS, OpenMP and Python each have threads that wait for work by spinning for a while, and two that spin on one core halve
its speed. So BLAS multiplies in the threads that call it, and those are ours.
"""
import contextlib
import ctypes
import functools
import os
import threading


class _SingleThreaded:
    """A context in which BLAS has one thread, if its threads can be controlled; at its end what it had before."""

    def __init__(self):
        self.lock, self.inside, self.before = threading.Lock(), 0, 1  # several threads may be inside

    def __enter__(self):
        control = blas_threads()
        if control:
            with self.lock:
                if self.inside == 0:
                    self.before = control[0]()
                    control[1](1)
                self.inside += 1

    def __exit__(self, *exc):
        control = blas_threads()
        if control:
            with self.lock:
                self.inside -= 1
                if self.inside == 0:
                    control[1](self.before)

    def after_fork(self):
        """The threads that were inside, or held the lock, do not exist in the child."""
        if self.inside:
            blas_threads()[1](self.before)
        self.lock, self.inside = threading.Lock(), 0


single_threaded_blas = _SingleThreaded()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=single_threaded_blas.after_fork)


@functools.cache
def blas_threads():
    """(get, set) of BLAS's number of threads, or () where it cannot be controlled."""
    for prefix in ("scipy_", ""):
        for suffix in ("64_", ""):
            found = [_function(f"{prefix}openblas_{verb}_num_threads{suffix}") for verb in ("get", "set")]
            if all(found):
                return tuple(found)
    return ()


def sgemm():
    """The address of cblas_sgemm with lengths of 64 bits, or None: where BLAS's threads cannot be controlled, there too."""
    function = _function("scipy_cblas_sgemm64_") or _function("cblas_sgemm64_")
    return ctypes.cast(function, ctypes.c_void_p).value if function and blas_threads() else None


def _function(name):
    return next((getattr(library, name) for library in _libraries() if hasattr(library, name)), None)


@functools.cache
def _libraries():
    found = []
    for path in _paths():
        with contextlib.suppress(OSError):
            found.append(ctypes.CDLL(path))  # NumPy has loaded it: this only finds the handle
    return found


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
