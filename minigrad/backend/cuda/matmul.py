"""The matrix product: cuBLAS, and a kernel for captured steps where it is not to be had."""
import math

import numpy as np

from .. import cupy, execution, is_float, is_half, xp
from .cublas import of_cupy
from .launch import check_device, constant, empty, launch, ordered

TILE = constant("matmul", "TILE")
# The compute capability of the GPUs on which CuPy, too, leaves batches of 16 bits to cuBLAS.
_CAPABILITY = {"e": 70, "E": 80}


def matmul(x, y):
    """x @ y, as `numpy.matmul` of arrays of at least two axes.

    CuPy's variable CUPY_TF32 concerns the product of two matrices of float32 outside of captured steps; batches of them, and
    all in captured steps, are multiplied in float32.

    Raises:
        ValueError: shapes do not fit, or an array is not on the current device.
    """
    check_device("matmul", (x, y))
    if not (is_float(x.dtype) or is_float(y.dtype)):  # CuPy's own kernel, captured like others
        return x @ y
    if execution.capture is not None:
        blas = execution.capture.blas
        return matmul_kernel(x, y) if blas is None or _too_old_for(x.dtype) else multiplied(blas.multiply, x, y)
    if x.dtype != y.dtype or (x.ndim == y.ndim == 2 and not is_half(x.dtype)):  # what CuPy does as it should
        return x @ y
    multiply = None if execution.kernels_take_numpy or _too_old_for(x.dtype) else of_cupy(cupy())
    if multiply is not None:
        return multiplied(multiply, x, y)
    if is_half(x.dtype):
        return (x.astype(np.float32) @ y.astype(np.float32)).astype(x.dtype)
    return x @ y


def _too_old_for(dtype):
    """Whether cuBLAS may refuse products of such numbers of 16 bits on the current GPU."""
    return is_half(dtype) and int(cupy().cuda.Device().compute_capability) < _CAPABILITY[dtype.char]


def matmul_kernel(x, y):
    """x @ y by matmul.cu; transposed matrices are read in place.

    Raises:
        ValueError: shapes do not fit.
    """
    return multiplied(_launched, x, y)


def _launched(x, x_strides, y, y_strides, k, c):
    *batch, m, n = c.shape
    blocks = math.prod(batch) * -(-m // TILE) * -(-n // TILE)
    launch("matmul", "matmul", blocks, 256, x, y, c, m, k, n, *x_strides, *y_strides)


def multiplied(function, x, y):
    """The product that `function` writes; it gets matrices in C-contiguous memory and their strides."""
    (m, k), n = x.shape[-2:], y.shape[-1]
    if k != y.shape[-2]:
        raise ValueError(f"matmul: shapes {x.shape} and {y.shape} do not fit")
    if x.dtype != y.dtype:
        raise TypeError(f"matmul: a captured step multiplies arrays of one dtype, not {x.dtype} and {y.dtype}")
    batch, other = x.shape[:-2], y.shape[:-2]
    batch = batch if batch == other else np.broadcast_shapes(batch, other)
    (x, x_strides), (y, y_strides) = _matrices(x, batch), _matrices(y, batch)
    c = empty((*batch, m, n), x.dtype)
    function(x, x_strides, y, y_strides, k, c)
    return c


def _matrices(x, batch):
    """A C-contiguous array with the matrices of x, and the strides in it: from matrix to matrix, along rows and columns."""
    *own, rows, columns = x.shape
    single, strides = math.prod(own) == 1, (columns, 1)
    if not single and x.shape[:-2] != batch:
        x = xp(x).broadcast_to(x, (*batch, rows, columns))
    if not x.flags.c_contiguous:
        turned = x.swapaxes(-1, -2)
        x, strides = (turned, (1, rows)) if turned.flags.c_contiguous else (ordered(x), strides)
    return x, (0 if single else rows * columns, *strides)
