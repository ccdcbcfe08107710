"""Maps into feature space: a row of a table for each index, and the affine map of features."""
from __future__ import annotations

import numpy as np

from ..backend import is_half, xp
from ..fused import Fused
from ..primitive import Primitive
from ..tensor import Tensor, TensorLike, as_tensor, asarray
from .declare import operation
from .geometry import whole
from .index import _add_at, _read
from .products import einsum, matmul
from .reduce import sum
from .shape import transpose


def _sum_of_rows(g, indices, rows, padding_idx):
    """A table of `rows` rows in which each row is the sum of the rows of g that were read from it."""
    flat = indices.reshape(-1)
    out = _add_at(xp(g).zeros((rows, g.shape[-1]), g.dtype), g.reshape(flat.size, g.shape[-1]), index=flat)
    if padding_idx is not None:
        out[padding_idx] = 0
    return out


def _rows(table, indices, padding_idx):
    """Rows of the table that a gradient comes back to: that of padding_idx reads as 0."""
    out = _read(table, indices)
    if padding_idx is not None:
        out[indices == padding_idx] = 0
    return out


_embedding = Primitive(
    "embedding", lambda table, indices, padding_idx: _read(table, indices),
    lambda g, _out, _table, indices, padding_idx: _embedding_gradient(
        g, indices=indices, rows=_table.shape[0], padding_idx=padding_idx))

_embedding_gradient = Primitive(
    "embedding_gradient", _sum_of_rows,
    lambda h, _out, _g, indices, rows, padding_idx: _embedding_linear(h, indices=indices, padding_idx=padding_idx))

_embedding_linear = Primitive(
    "embedding_linear", _rows,
    lambda g, _out, _table, indices, padding_idx: _embedding_gradient(
        g, indices=indices, rows=_table.shape[0], padding_idx=padding_idx))


def padding_row(of: str, padding_idx: int | None, rows: int) -> int | None:
    """`padding_idx` counted from the first of so many rows; None stays None. ValueError: there is no such row."""
    if padding_idx is None:
        return None
    number = whole(of, "padding_idx", padding_idx, -rows)
    if number >= rows:
        raise ValueError(f"{of}: padding_idx {number} is out of range for {rows} rows")
    return number % rows


@operation
def embedding(indices: TensorLike, table: TensorLike, padding_idx: int | None = None) -> Tensor:
    """table[indices]: for each index its row. Repeated indices add up in the gradient.

    Args:
        indices: (...), integers from 0 to rows - 1.
        table: (rows, width).
        padding_idx: the row of this index, which may count from the end, gets no gradient.

    Returns:
        (..., width).

    Raises:
        TypeError: the indices are not integers; IndexError: one is out of range (on the GPU they are not read); ValueError:
            `padding_idx` is no row's.
    """
    table = as_tensor(table)
    indices = asarray(as_tensor(indices))
    if indices.dtype.kind not in "iu":
        raise TypeError(f"embedding: indices must be integers, not {indices.dtype}")
    if table.ndim != 2:
        raise ValueError(f"embedding: a table (rows, width) wanted, got shape {table.shape}")
    if indices.size and xp(indices) is np and not (0 <= indices.min() and indices.max() < len(table)):
        raise IndexError(f"embedding: indices from 0 to {len(table) - 1} wanted for a table of {len(table)} rows, "
                         f"got {indices.min()} to {indices.max()}")
    padding_idx = padding_row("embedding", padding_idx, len(table))
    indices = xp(table._array).array(indices)  # a copy: safe from later changes in place
    return _embedding(table, indices=indices, padding_idx=padding_idx)


# -- the affine map --------------------------------------------------------------------------------------------------


def _linear(x, weight, *bias):
    """x W^T + b along the last axis."""
    y = matmul(x, transpose(weight))
    return y + bias[0] if bias else y


def _linear_rule(g, wanted, x, weight, *bias):
    """dx = g W, dW = g^T x and db = sum(g), over the rows."""
    rows, flat = (a if a.ndim == 2 else a.reshape(-1, a.shape[-1]) for a in (g, x))
    return (matmul(g, weight) if wanted[0] else None, matmul(transpose(rows), flat) if wanted[1] else None,
            *[sum(rows, 0) if want else None for want in wanted[2:]])


_fused_linear = Fused("linear", _linear, rule=_linear_rule)


@operation
def linear(x: TensorLike, weight: TensorLike, bias: TensorLike | None = None) -> Tensor:
    """x W^T + b: (..., in) to (..., out), for a weight (out, in) and a bias (out,) or None.

    Raises:
        ValueError: shapes do not fit.
    """
    x, weight = map(as_tensor, (x, weight))
    bias = None if bias is None else as_tensor(bias)
    if not x.ndim or weight.ndim != 2 or x.shape[-1] != weight.shape[1]:
        raise ValueError(f"linear: x (..., in) and weight (out, in) wanted, got {x.shape} and {weight.shape}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"linear: a bias {weight.shape[:1]} wanted for the weight {weight.shape}, got {bias.shape}")
    half = is_half(x.dtype) or is_half(weight.dtype)
    affine = _linear if half else _fused_linear  # of 16 bits, matmul knows how to multiply
    return affine(x, weight) if bias is None else affine(x, weight, bias)


@operation
def bilinear(x1: TensorLike, x2: TensorLike, weight: TensorLike, bias: TensorLike | None = None) -> Tensor:
    """x1^T W_o x2 + b_o for each output o: (..., in1) and (..., in2) to (..., out).

    Args:
        weight: (out, in1, in2).
        bias: (out,) or None.

    Raises:
        ValueError: shapes do not fit.
    """
    x1, x2, weight = map(as_tensor, (x1, x2, weight))
    if weight.ndim != 3 or x1.shape != (*x2.shape[:-1], weight.shape[1]) or x2.shape[-1:] != weight.shape[2:]:
        raise ValueError(f"bilinear: x1 (..., in1), x2 (..., in2) and weight (out, in1, in2) wanted, got {x1.shape}, {x2.shape} "
                         f"and {weight.shape}")
    y = einsum("...i,oij,...j->...o", x1, weight, x2)
    if bias is None:
        return y
    bias = as_tensor(bias)
    if bias.shape != weight.shape[:1]:
        raise ValueError(f"bilinear: a bias {weight.shape[:1]} wanted for the weight {weight.shape}, got {bias.shape}")
    return y + bias
