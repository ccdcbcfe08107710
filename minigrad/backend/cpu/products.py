"""Products of matrices in the threads of our kernels; see `blas`. Definitions: minigrad/ops/products.py (matmul) and
projection.py (linear)."""
import math

import numpy as np

from .blas import single_threaded_blas
from .memory import empty
from .native import kernel
from .rows import row_blocks
from .threads import parallel_for

SMALL = 1 << 18  # multiplications of a product that is best left to BLAS, which then takes one thread


def product(x, y, bias=None, out=None):
    """x @ y + bias: (..., m, k) and (..., k, n) with any axes in front that broadcast, and (n,) or None.

    It is written into `out`, which is contiguous, or into reused memory. Large products tell `numpy.errstate` nothing.
    """
    (m, k), n, dtype = x.shape[-2:], y.shape[-1], np.result_type(*[a for a in (x, y, bias) if a is not None])
    if max(x.size * n, y.size * m) <= SMALL:
        out = (np.multiply if k == y.shape[-2] == 1 else np.matmul)(x, y, out=out)
        return out if bias is None else np.add(out, bias, out=out if out.dtype == dtype else None)
    batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    out = empty((*batch, m, n), dtype) if out is None else out
    native = kernel("product", x, y, bias)
    if native is None or 1 in (m, n) or k != y.shape[-2]:  # with a vector BLAS has a faster product
        (np.multiply if k == y.shape[-2] == 1 else np.matmul)(x, y, out=out)
        if bias is not None:
            rows = out.reshape(-1, n)
            parallel_for(lambda part: np.add(rows[part], bias, out=rows[part]), row_blocks(rows))
        return out
    (x, x_starts, x_stride, x_transposed), (y, y_starts, y_stride, y_transposed) = _stored(x, batch), _stored(y, batch)
    with single_threaded_blas:
        native(x, y, None if bias is None else np.ascontiguousarray(bias), out, x_starts, y_starts, math.prod(batch), m, n, k,
               x_stride, y_stride, x_transposed, y_transposed)
    return out


def dense_rows(x):
    """x, or a copy if BLAS does not take it: where elements of the last axis are not side by side, or rows overlap."""
    return x if x.strides[-1] == x.itemsize and x.strides[-2] >= x.shape[-1] * x.itemsize else np.ascontiguousarray(x)


def row_stride(x):
    """How many elements apart the rows of `dense_rows(x)` are. Of a single row NumPy may say anything."""
    return max(x.strides[-2] // x.itemsize, x.shape[-1], 1)


def _stored(x, batch):
    """Matrices as BLAS takes them, or their transposes; where each of the batch begins; how far apart the rows are; and
    whether it is the transposes."""
    x = x[tuple(slice(None if stride else 1) for stride in x.strides[:-2])]  # no copies of what stands for many
    transposed = x.strides[-2] == x.itemsize and x.strides[-1] >= x.shape[-2] * x.itemsize
    x = dense_rows(x.swapaxes(-1, -2) if transposed else x)
    starts = np.zeros(batch, np.int64)
    if batch:
        strides = np.broadcast_to(x, (*batch, *x.shape[-2:])).strides[:-2]
        starts += np.tensordot(np.array(strides) // x.itemsize, np.indices(batch), 1)
    return x, starts, row_stride(x), transposed
