"""Rows that an index names, added to; the definition is `minigrad/ops/index.py`."""
import math

import numpy as np

from .native import kernel

TERMS = 4096  # that are added to a row of float32 one after the other; of more the sum would lose digits


def add_at(x, values, index):
    """x[index] += values, where an element that the index names twice receives both. Changes x, and returns it.

    Without a kernel, and where a row is named many times, equal rows are sorted side by side, and runs are summed without a
    loop; narrow rows NumPy adds faster.
    """
    index = index if isinstance(index, tuple) else (index,)
    width, rows, native = math.prod(x.shape[len(index):]), _row_numbers(index, x.shape), kernel("add_rows", x, values)
    fast = native is not None or (width >= 8 and x.dtype.kind == "f")
    if not fast or rows is None or not x.flags.c_contiguous or values.size != rows.size * width:
        np.add.at(x, index, values)
    elif native and (rows.size <= TERMS or np.bincount(rows).max() <= TERMS):
        native(x, rows, np.ascontiguousarray(values), rows.size, width)
    else:
        order = np.argsort(rows, kind="stable")
        ranked = rows[order]
        starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
        x.reshape(-1, width)[ranked[starts]] += np.add.reduceat(values.reshape(-1, width)[order], starts, axis=0)
    return x


def _row_numbers(index, shape):
    """What a tuple of whole axes and then whole numbers names: numbers of rows, which are of the axes that are left.

    None: it is another index, or leaves no axis, or names a row that is not there.
    """
    whole = next((a for a, i in enumerate(index) if not isinstance(i, slice) or i != slice(None)), len(index))
    if not whole < len(index) < len(shape):
        return None
    numbers = np.zeros((), np.int64)
    for i, n in zip(index[whole:], shape[whole:]):
        if isinstance(i, bool) or not isinstance(i, (int, np.integer, np.ndarray)) or np.asarray(i).dtype.kind not in "iu":
            return None
        i = np.asarray(i).astype(np.int64, copy=False)
        if not i.size or i.min() < -n or i.max() >= n:
            return None
        numbers = numbers * n + np.where(i < 0, i + n, i)
    before, among = math.prod(shape[:whole]), math.prod(shape[whole:len(index)])
    return (np.arange(before)[:, None] * among + numbers.reshape(-1)).reshape(-1)
