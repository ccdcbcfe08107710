"""Maps into feature space: a row of a table for each index, and the affine map of features."""
import math

import numpy as np

from ..backend import in_float32, is_half, path, xp
from ..fused import Fused
from ..tensor import Primitive, Tensor, asarray
from .index import _add_at
from .linalg import matmul
from .shape import transpose


@in_float32
def _add_rows(g, indices, rows, padding_idx):
    """A table of `rows` rows in which each row is the sum of the rows of g that were read from it."""
    flat, values = indices.reshape(-1), g.reshape(-1, g.shape[-1])
    if path(g) == "cpu":
        out = np.zeros((rows, g.shape[-1]), g.dtype)
        if flat.size:  # sorted, equal indices lie side by side, and runs are summed without a loop
            order = np.argsort(flat, kind="stable")
            ranked = flat[order]
            starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
            out[ranked[starts]] = np.add.reduceat(values[order], starts, axis=0)
    else:
        out = _add_at(xp(g).zeros((rows, g.shape[-1]), g.dtype), flat, values)
    if padding_idx is not None:
        out[padding_idx] = 0
    return out


def _rows(table, indices, padding_idx):
    """Rows of the table that a gradient comes back to: that of padding_idx reads as 0."""
    out = table[indices]
    if padding_idx is not None:
        out[indices == padding_idx] = 0
    return out


_embedding = Primitive(
    "embedding", lambda table, indices, padding_idx: table[indices],
    lambda g, _out, _table, indices, padding_idx: _embedding_grad(
        g, indices=indices, rows=_table.shape[0], padding_idx=padding_idx))

_embedding_grad = Primitive(
    "embedding_grad", _add_rows,
    lambda h, _out, _g, indices, rows, padding_idx: _embedding_linear(h, indices=indices, padding_idx=padding_idx))

_embedding_linear = Primitive(
    "embedding_linear", _rows,
    lambda g, _out, _table, indices, padding_idx: _embedding_grad(
        g, indices=indices, rows=_table.shape[0], padding_idx=padding_idx))


def embedding(indices, table, padding_idx=None):
    """table[indices]: for each index its row. Repeated indices add up in the gradient.

    Args:
        indices: (...), integers from 0 to rows - 1.
        table: (rows, width).
        padding_idx: the row of this index gets no gradient.

    Returns:
        (..., width).

    Raises:
        TypeError: the indices are not integers; IndexError: one is out of range (on the CPU: CuPy does not check).
    """
    table = table if isinstance(table, Tensor) else Tensor(table)
    indices = xp(table._array).asarray(asarray(indices))
    if indices.dtype.kind not in "iu":
        raise TypeError(f"embedding: indices must be integers, not {indices.dtype}")
    if table.ndim != 2:
        raise ValueError(f"embedding: a table (rows, width) wanted, got shape {table.shape}")
    if indices.size and xp(indices) is np and not (0 <= indices.min() and indices.max() < len(table)):
        raise IndexError(f"embedding: indices from {indices.min()} to {indices.max()} for a table of {len(table)} rows")
    return _embedding(table, indices=indices, padding_idx=padding_idx)


# -- the affine map --------------------------------------------------------------------------------------------------


def _linear(x, weight, *bias):
    """x W^T + b along the last axis."""
    y = matmul(x, transpose(weight))
    return y + bias[0] if bias else y


def _linear_forward(x, weight, *bias):
    from ..backend.cpu.products import product
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    return product(rows, weight.T, *bias).reshape(*x.shape[:-1], len(weight)), None


def _linear_backward(g, out, residuals, wanted, x, weight, *bias):
    from ..backend.cpu.products import product
    from ..backend.cpu.rows import column_sums
    flat = np.ascontiguousarray(g).reshape(-1, len(weight))  # BLAS takes no broadcast array
    rows, dx, dw = x.reshape(len(flat), x.shape[-1]), None, None
    if wanted[0]:
        dx = product(flat, weight).reshape(x.shape)
    if wanted[1]:
        dw = product(flat.T, rows)
    return dx, dw, *[column_sums(flat) for _ in bias]


_fused_linear = Fused("linear", _linear, _linear_forward, _linear_backward)


def linear(x, weight, bias=None):
    """x W^T + b: (..., in) to (..., out), for a weight (out, in) and a bias (out,) or None.

    Raises:
        ValueError: shapes do not fit.
    """
    x, weight = (t if isinstance(t, Tensor) else Tensor(t) for t in (x, weight))
    bias = Tensor(bias) if bias is not None and not isinstance(bias, Tensor) else bias
    if not x.ndim or weight.ndim != 2 or x.shape[-1] != weight.shape[1]:
        raise ValueError(f"linear: x (..., in) and weight (out, in) wanted, got {x.shape} and {weight.shape}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"linear: a bias {weight.shape[:1]} wanted for the weight {weight.shape}, got {bias.shape}")
    half = is_half(x.dtype) or is_half(weight.dtype)
    operation = _linear if half else _fused_linear  # of 16 bits, matmul knows how to multiply
    return operation(x, weight) if bias is None else operation(x, weight, bias)
