"""Products of matrices in the threads of our kernels; see `blas`."""
import math

import numpy as np

from .memory import empty
from .native import kernel

SMALL, SMALL_VECTOR = 1 << 18, 9216  # multiplications for which BLAS takes one thread: of matrices, of one and a vector


def product(x, y, bias=None, out=None):
    """x @ y + bias: (..., m, k) and (..., k, n) with any axes in front that broadcast, and (n,) or None; into `out`, which
    is contiguous, or reused memory."""
    (m, k), n = x.shape[-2:], y.shape[-1]
    native = None
    if max(x.size * n, y.size * m) > (SMALL_VECTOR if m == 1 or n == 1 else SMALL) and k == y.shape[-2]:
        native = kernel("product", x, y, bias)
    if native is None:
        out = np.matmul(x, y, out=out)
        if bias is not None:
            out += bias
        return out
    batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    (x, x_starts, x_stride, x_transposed), (y, y_starts, y_stride, y_transposed) = _stored(x, batch), _stored(y, batch)
    out = empty((*batch, m, n), np.float32) if out is None else out
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
    transposed = x.strides[-2] == x.itemsize and x.strides[-1] >= x.shape[-2] * x.itemsize
    x = dense_rows(x.swapaxes(-1, -2) if transposed else x)
    starts = np.zeros(batch, np.int64)
    if batch:
        strides = np.broadcast_to(x, (*batch, *x.shape[-2:])).strides[:-2]
        starts += np.tensordot(np.array(strides) // x.itemsize, np.indices(batch), 1)
    return x, starts, row_stride(x), transposed
