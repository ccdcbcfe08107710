"""Rows and elements that an index names, read and added to; the definition is `minigrad/ops/index.py`."""
import math

import numpy as np

from .native import kernel

FEW = 4000  # elements, of which fewer are not worth finding their places in the flat array
TERMS = 4096  # that are added to a row of float32 one after the other; of more the sum would lose digits


def read(x, index):
    """x[index] for a tuple that ends in an array: parts along one axis by `take`, elements by their numbers in the flat array."""
    *before, last = index
    if x.flags.c_contiguous and last.dtype.kind in "iu":
        if all(map(_is_whole, before)):
            return x.take(last, len(before))
        if last.size >= FEW and len(index) == x.ndim and not any([isinstance(i, slice) for i in before]):
            numbers = _row_numbers(index, x.shape)
            if numbers is not None:
                return x.reshape(-1).take(numbers).reshape(np.broadcast_shapes(*map(np.shape, index)))
    return x[index]


def add_at(x, values, index):
    """x[index] += values, where an element that the index names twice receives both. Changes x, and returns it.

    Without a kernel, and where a row is named many times, equal rows are sorted side by side, and runs are summed without a
    loop; narrow rows NumPy adds faster, and elements of a flat array much faster.
    """
    index = index if isinstance(index, tuple) else (index,)
    width, native = math.prod(x.shape[len(index):]), kernel("add_rows", x, values)
    fast = values.size >= FEW if width == 1 else native is not None or (width >= 8 and x.dtype.kind == "f")
    rows = _row_numbers(index, x.shape) if fast and x.flags.c_contiguous else None
    if rows is None or values.size != rows.size * width:
        np.add.at(x, index, values)
    elif width == 1:
        np.add.at(x.reshape(-1), rows, values.reshape(-1))
    elif native and (rows.size <= TERMS or np.bincount(rows).max() <= TERMS):
        native(x, rows, np.ascontiguousarray(values), rows.size, width)
    else:
        order = np.argsort(rows, kind="stable")
        ranked = rows[order]
        starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
        x.reshape(-1, width)[ranked[starts]] += np.add.reduceat(values.reshape(-1, width)[order], starts, axis=0)
    return x


def _is_whole(i):
    """Whether an index is `:`; the ends of a slice may be anything, arrays too, which NumPy refuses."""
    return isinstance(i, slice) and i.start is i.stop is i.step is None


def _row_numbers(index, shape):
    """What a tuple of whole axes and then whole numbers names: numbers of rows, which are of the axes that are left, or of
    elements.

    None: it is another index, or names a row that is not there.
    """
    whole = next((a for a, i in enumerate(index) if not _is_whole(i)), len(index))
    if not whole < len(index) <= len(shape):
        return None
    numbers = None
    for i, n in zip(index[whole:], shape[whole:]):
        if isinstance(i, bool) or not isinstance(i, (int, np.integer, np.ndarray)) or np.asarray(i).dtype.kind not in "iu":
            return None
        i = np.asarray(i).astype(np.int64, copy=False)
        if not i.size or (least := i.min()) < -n or i.max() >= n:
            return None
        i = i if least >= 0 else np.where(i < 0, i + n, i)
        numbers = i if numbers is None else numbers * n + i
    before, among, numbers = math.prod(shape[:whole]), math.prod(shape[whole:len(index)]), numbers.reshape(-1)
    return numbers if before == 1 else (np.arange(before)[:, None] * among + numbers).reshape(-1)
