"""From a .cu file to a launched kernel.

A file is compiled with NVRTC at its first use, once for each floating point type (CuPy keeps the binary in its cache on
disk). The declarations in the file are the one place that says what a kernel takes: `launch` reads them, turns Python
numbers into the declared types and refuses arrays of another dtype or memory order, which a GPU would misread silently.

What executes is a device: `empty(shape, dtype)` allocates, `run(...)` launches. It is CuPy's GPU unless `using` puts
another in its place.
"""
import contextlib
import functools
import pathlib
import re

import numpy as np

from .. import cupy

FOLDER = pathlib.Path(__file__).parent
REALS = {"float32": "float", "float64": "double"}
_DTYPES = {"int": np.int32, "index_t": np.int64, "unsigned char": np.uint8, "unsigned long long": np.uint64,
           "float": np.float32, "double": np.float64}
_DECLARATION = re.compile(r'extern "C" __global__ void (?:__launch_bounds__\(\w+\) )?(\w+)\(([^)]*)\)')


def files():
    """The names of the kernel files, without the suffix."""
    return sorted(path.stem for path in FOLDER.glob("*.cu") if path.stem != "prelude")


@functools.cache
def source(file):
    """The text of a kernel file, after what all of them share."""
    return (FOLDER / "prelude.cu").read_text() + (FOLDER / f"{file}.cu").read_text()


def options(real):
    """What the compiler is told about `real`, "float32" or "float64"."""
    return (f"-DREAL={REALS[real]}", "-std=c++17")


@functools.cache
def kernels(file):
    """What each kernel of a file takes: {kernel: [(C type, is a pointer, is const), ...]}."""
    found = {}
    for name, parameters in _DECLARATION.findall(source(file)):
        found[name] = [_parameter(text) for text in parameters.split(",")]
    return found


def _parameter(text):
    *words, _name = text.replace("*", " * ").split()
    kind = " ".join(word for word in words if word not in ("const", "*"))
    return kind, "*" in words, "const" in words


class Gpu:
    """CuPy's current device and stream."""

    def empty(self, shape, dtype):
        """An uninitialised array."""
        return cupy().empty(shape, dtype)

    def run(self, file, kernel, real, grid, block, arguments):
        """Launches without waiting; `arguments` are arrays, NumPy scalars, and None for a null pointer."""
        _function(file, kernel, real)(grid, block, tuple(np.uint64(0) if a is None else a for a in arguments))


@functools.cache
def _module(file, real):
    return cupy().RawModule(code=source(file), options=options(real))


@functools.cache
def _function(file, kernel, real):
    return _module(file, real).get_function(kernel)


_device = Gpu()


@contextlib.contextmanager
def using(device):
    """Kernels launched inside run on `device`, and results are allocated there."""
    global _device
    before, _device = _device, device
    try:
        yield
    finally:
        _device = before


def empty(shape, dtype):
    """An uninitialised array on the device."""
    return _device.empty(shape, dtype)


def empty_like(x):
    """An uninitialised array of the shape and dtype of `x`, in C order."""
    return _device.empty(x.shape, x.dtype)


def launch(file, kernel, grid, block, *arguments):
    """Runs a kernel.

    Args:
        file, kernel: the name of the .cu file, and of the kernel in it.
        grid, block: numbers of blocks and of threads in a block, each a number or a tuple of up to three.
        arguments: as declared. Arrays are C-contiguous and have the declared dtype; None is a null pointer.

    Raises:
        TypeError: the arguments are not what the kernel declares.
    """
    grid, block = (tuple(n) if np.iterable(n) else (int(n),) for n in (grid, block))
    declared = kernels(file)[kernel]
    real = next((a.dtype for a, (kind, _, _) in zip(arguments, declared) if kind == "real" and hasattr(a, "dtype")), None)
    if real is None or real.name not in REALS:
        raise TypeError(f"{kernel}: the CUDA kernels work in float32 and float64, not {real}")
    if len(arguments) != len(declared):
        raise TypeError(f"{kernel} takes {len(declared)} arguments, not {len(arguments)}")
    checked = [_checked(kernel, i, a, *what, real) for i, (a, what) in enumerate(zip(arguments, declared))]
    if 0 not in grid:  # no blocks, nothing to do; CUDA calls it an error
        _device.run(file, kernel, real.name, grid, block, checked)


def _checked(kernel, position, value, kind, pointer, _const, real):
    dtype = real if kind == "real" else _DTYPES[kind]
    if not pointer:
        return np.dtype(dtype).type(value)
    if value is not None and (value.dtype != dtype or not value.flags.c_contiguous):
        order = "C-contiguous" if value.flags.c_contiguous else "strided"
        raise TypeError(f"{kernel}: argument {position} must be a C-contiguous array of {np.dtype(dtype)}, "
                        f"not a {order} one of {value.dtype}")
    return value
