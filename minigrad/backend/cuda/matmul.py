"""The matrix product: cuBLAS, in captured steps without CuPy, and a kernel where it is not to be had."""
import math

import numpy as np

from .. import execution, is_float, is_half, xp
from .launch import check_device, constant, empty, launch, ordered

TILE = constant("matmul", "TILE")


def matmul(x, y):
    """x @ y, as `numpy.matmul` of arrays of at least two axes.

    Raises:
        ValueError: shapes do not fit, or an array is not on the current device.
    """
    check_device("matmul", (x, y))
    if not (is_float(x.dtype) or is_float(y.dtype)):  # CuPy's own kernel, captured like others
        return x @ y
    if execution.capture is not None:
        blas = execution.capture.blas
        return matmul_kernel(x, y) if blas is None else multiplied(blas.multiply, x, y)
    if x.dtype != y.dtype:
        return x @ y
    batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    single = math.prod(x.shape[:-2]) == math.prod(y.shape[:-2]) == 1
    if is_half(x.dtype) and (not single or x.shape[-2] == y.shape[-1] == 1):
        # Of 16 bits CuPy 13 multiplies no batches, and of vectors it rounds each product before it adds them up.
        return (x.astype(np.float32) @ y.astype(np.float32)).astype(x.dtype)
    if single:  # CuPy copies transposed matrices of a batch
        c = x.reshape(x.shape[-2:]) @ y.reshape(y.shape[-2:])
        return c.reshape(*batch, *c.shape).astype(x.dtype, copy=False)  # NumPy's product of bfloat16 is float32
    return x @ y


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
    batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    (x, x_strides), (y, y_strides) = _matrices(x, batch), _matrices(y, batch)
    c = empty((*batch, m, n), x.dtype)
    function(x, x_strides, y, y_strides, k, c)
    return c


def _matrices(x, batch):
    """A C-contiguous array with the matrices of x, and the strides in it: from matrix to matrix, along rows and columns."""
    rows, columns = x.shape[-2:]
    single = math.prod(x.shape[:-2]) == 1
    x = x if single else xp(x).broadcast_to(x, (*batch, rows, columns))
    x = x.reshape(1 if single else math.prod(batch), rows, columns)
    if x.swapaxes(1, 2).flags.c_contiguous and not x.flags.c_contiguous:
        x, strides = x.swapaxes(1, 2), (1, rows)
    else:
        x, strides = ordered(x), (columns, 1)
    return x, (0 if single else rows * columns, *strides)
