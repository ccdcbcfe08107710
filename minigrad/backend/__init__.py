"""Where arrays live: NumPy on the CPU, CuPy on an NVIDIA GPU.

Everything above this package is written once, for either. `xp(array)` gives the module that an array belongs to,
and nothing but `to_device` moves data between the host and a GPU.
"""
import contextlib
import functools
import sys

import numpy as np

from .execution import execution

LARGE = 1 << 14  # elements of arrays from which on `summed` and `where` look for a path: NumPy is quick with fewer


def xp(array):
    """The array module of `array`: `cupy` for a CuPy array, else `numpy`."""
    if type(array) is np.ndarray:
        return np
    cupy = sys.modules.get("cupy")  # a CuPy array cannot exist unless CuPy has been imported
    return cupy if cupy is not None and isinstance(array, cupy.ndarray) else np


def as_dtype(dtype):
    """What names a dtype (a name, a type) as a `numpy.dtype`; "bfloat16" is that of the package ml_dtypes.

    Raises:
        TypeError: nothing of that name is known. RuntimeError: ml_dtypes is not installed.
    """
    if isinstance(dtype, str) and dtype == "bfloat16":
        try:
            from ml_dtypes import bfloat16 as dtype
        except ImportError:
            raise RuntimeError("dtype 'bfloat16' needs ml_dtypes: pip install ml_dtypes") from None
    try:
        return np.dtype(dtype)
    except (TypeError, ValueError):
        raise TypeError(f"dtype: a name such as 'float32' or a dtype of NumPy's wanted, not {dtype!r}") from None


def is_float(dtype):
    """Whether a dtype is floating point. NumPy's `kind` does not say so of bfloat16, whose character is E."""
    return dtype.kind == "f" or dtype.char == "E"


def may_be_real(dtype):
    """Whether a dtype may be one of real numbers; another library's, which NumPy does not know, may be any."""
    return not isinstance(dtype, np.dtype) or dtype.kind in "fiub" or is_float(dtype)


def is_half(dtype):
    """Whether a dtype is float16 or bfloat16: memory for numbers that are better computed with in float32."""
    return dtype.char in "eE"


def largest_of(dtype):
    """The largest finite number of a floating point dtype; NumPy does not tell that of bfloat16."""
    return float(np.finfo(dtype).max) if dtype.kind == "f" else (2 - 2.0**-7) * 2.0**127


def lowest_of(dtype):
    """The number that no other of this dtype is below."""
    if is_float(dtype):
        return -np.inf
    return False if dtype == bool else int(np.iinfo(dtype).min)


@functools.cache
def result_type(*dtypes):
    """The dtype of a result of arrays of these dtypes. NumPy's, and where it has none for bfloat16: float32 for it beside
    float16, float64 beside integers."""
    try:
        return np.result_type(*dtypes)
    except TypeError:
        return np.dtype(np.float32 if all(map(is_half, dtypes)) else np.float64)


def in_float32(function):
    """An array function, made to take floats of 16 bits as float32 and to round its result (or results) to 16 bits."""
    @functools.wraps(function)
    def called(*arrays, **settings):
        if not any(is_half(a.dtype) for a in arrays):
            return function(*arrays, **settings)
        dtype = result_type(*[a.dtype for a in arrays])
        result = function(*[cast(a, np.dtype(np.float32)) if is_half(a.dtype) else a for a in arrays], **settings)
        return tuple(cast(r, dtype) for r in result) if type(result) is tuple else cast(result, dtype)

    return called


def cast(x, dtype):
    """x.astype(dtype, copy=False). Of large arrays float16 and float32 become each other by a path, which tells `numpy.errstate`
    nothing and takes the bits of float16 as whole numbers."""
    if x.size >= WORTH_A_PATH:
        if x.dtype == np.float32 and dtype.char == "e" and (found := path("halves", (x,))):
            return found.forward(x)
        if x.dtype.char == "e" and dtype == np.float32 and (found := path("floats_of_halves", (x.view(np.uint16),))):
            return found.forward(x.view(np.uint16))
    return x.astype(dtype, copy=False)


def product_in_pairs(x, concatenate):
    """The product along the last axis, which is kept, of pairs and then of pairs of these; of arrays or of Tensors."""
    while (n := x.shape[-1]) > 1:
        half = n // 2
        pairs = x[..., :half] * x[..., half:2 * half]
        x = pairs if n % 2 == 0 else concatenate([pairs, x[..., -1:]], -1)
    return x


def summed(x, axis=None, keepdims=False):
    """The array's sum, that of floats of 16 bits kept in float32 until it is complete.

    NumPy adds float32 numbers along rows one to the next, and loses digits: the CPU's path adds parts, and tells
    `numpy.errstate` nothing. On the GPU CuPy's sum along rows waits for memory.
    """
    if x.size >= LARGE:
        axes = tuple(range(x.ndim)) if axis is None else tuple(axis)
        if found := path("sum", (x,), {"axis": axes}):
            kept = tuple(1 if a in axes else n for a, n in enumerate(x.shape) if keepdims or a not in axes)
            return found.forward(x, axes).reshape(kept)
    if is_half(x.dtype):
        return x.sum(axis=axis, keepdims=keepdims, dtype=np.float32).astype(x.dtype)
    return x.sum(axis=axis, keepdims=keepdims)


def where(condition, x, y):
    """`numpy.where` of arrays, in the dtype that x and y have together: CuPy makes float32 of bfloat16."""
    if x.dtype != y.dtype:
        x, y = (a.astype(result_type(x.dtype, y.dtype), copy=False) for a in (x, y))
    large = condition.size >= LARGE or x.size >= LARGE or y.size >= LARGE
    if large and (found := path("where", (condition, x, y))):
        return found.forward(condition, x, y)
    return xp(condition).where(condition, x, y).astype(x.dtype, copy=False)


def readable(name, array):
    """PyTorch's tensor as an array, of float32 for bfloat16, from any device and without its gradient; all else as it is.

    Raises:
        TypeError: NumPy does not have its dtype.
    """
    if not (dtype := str(getattr(array, "dtype", ""))).startswith("torch."):
        return array
    try:
        return (array.float() if dtype == "torch.bfloat16" else array).numpy(force=True)
    except (TypeError, RuntimeError) as error:
        raise TypeError(f"{name} cannot become an array: {error}") from None


def fitting(name, array, like):
    """The array in the dtype of `like` and on its device.

    Raises:
        ValueError: that loses more than digits: a finite number becomes infinite, or a whole number another; TypeError:
            elements are masked, or no real numbers.
    """
    if np.ma.is_masked(array):
        raise TypeError(f"{name} has masked elements; give them a value with .filled(value)")
    module = xp(like)
    array = module.asarray(readable(name, array))
    if not may_be_real(array.dtype):
        raise TypeError(f"{name} is no array of real numbers, but of {array.dtype}")
    if array.dtype == like.dtype:
        return array
    with np.errstate(over="ignore", invalid="ignore"):
        cast = array.astype(like.dtype)
        lost = module.isinf(cast) & ~module.isinf(array) if is_float(like.dtype) else cast != array
    if lost.any():
        raise ValueError(f"{name} holds {array[lost][0]}, which {like.dtype} cannot represent")
    return cast


def runs_cuda_kernels(array):
    """Whether what is done with this array is done by the device that runs the CUDA kernels: it is on the GPU."""
    return execution.kernels_take_numpy or xp(array) is not np


def is_array(x):
    """True for the arrays a Tensor can hold: NumPy's and CuPy's."""
    return isinstance(x, np.ndarray) or xp(x) is not np


@functools.cache
def cupy():
    """The CuPy module, with a usable GPU behind it.

    Raises:
        RuntimeError: CuPy is not installed, or it finds no GPU.
    """
    try:
        import cupy
    except ImportError:
        raise RuntimeError("device 'cuda' needs CuPy: pip install -e \".[cuda12]\" in the clone (or cuda13)") from None
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise RuntimeError(f"CuPy is installed but finds no usable NVIDIA GPU: {error}") from None
    if not count:
        raise RuntimeError("CuPy is installed but finds no NVIDIA GPU")
    return cupy


def cuda_available() -> bool:
    """True where CuPy is installed and sees at least one GPU. Importing CuPy takes a second or so."""
    try:
        cupy()
    except RuntimeError:
        return False
    return True


@contextlib.contextmanager
def linalg_errors(array):
    """Inside, a singular matrix raises numpy.linalg.LinAlgError, on the GPU of a CuPy array too."""
    if xp(array) is np:
        yield
        return
    import cupyx
    with cupyx.errstate(linalg="raise"):
        yield


def device_of(array):
    """`"cpu"`, or `"cuda:0"`, `"cuda:1"`, ... for the GPU that holds `array`."""
    return "cpu" if xp(array) is np else f"cuda:{array.device.id}"


def to_device(array, device):
    """`array` on `device` (`"cpu"`, `"cuda"`, `"cuda:1"`); the array itself if it is there already.

    Raises:
        ValueError: the device's name is not understood.
        RuntimeError: there is no such GPU, or no CuPy; or a captured step asks for the copy.
    """
    kind, _, index = str(device).partition(":")
    if execution.capture is not None and (kind == "cpu") == runs_cuda_kernels(array):
        raise RuntimeError("a captured step cannot copy between host and GPU, as item(), float(), numpy() and to() do: "
                           "return the Tensor and read it outside, or pass the array as an argument")
    if kind == "cpu" and not index:
        return array if xp(array) is np else array.get()
    if kind != "cuda" or (index and not index.isdigit()):
        raise ValueError(f"unknown device {device!r}; use 'cpu', 'cuda' or 'cuda:N'")
    cp = cupy()
    with cp.cuda.Device(int(index)) if index else cp.cuda.Device():
        return cp.asarray(array)


from .paths import Path, path, with_paths, WORTH_A_PATH  # noqa: E402  (they need the functions above)


def of_two(ufunc, least=1 << 22):
    """A ufunc of two arrays, by the path of its name where one is large; of one shape, or with a number, it wants `least`
    elements. The CPU's tells `numpy.errstate` nothing."""
    name, few = ufunc.__name__, min(least, 1 << 17)

    @functools.wraps(ufunc)
    def function(x, y, out=None):
        if x.size >= few or y.size >= few:
            rows = x.shape != y.shape and x.size > 1 and y.size > 1
            found = path(name, (x, y)) if rows or x.size >= least or y.size >= least else None
            if found is not None:
                return found.forward(x, y, out)
        return ufunc(x, y, out=out)

    return function


add = of_two(np.add, 1 << 18)
