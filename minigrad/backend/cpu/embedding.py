"""The gradient of an embedding's table; the definition is `minigrad/ops/projection.py`."""
import numpy as np


def sum_of_rows(g, indices, rows, padding_idx):
    """A table (rows, width) whose row i is the sum of the rows of g (..., width) at which indices (...) are i.

    Sorted, equal indices lie side by side, and runs are summed without a loop. The row `padding_idx` (or None) is 0.
    """
    flat = indices.reshape(-1)
    values = g.reshape(flat.size, g.shape[-1])
    out = np.zeros((rows, g.shape[-1]), g.dtype)
    if flat.size:
        order = np.argsort(flat, kind="stable")
        ranked = flat[order]
        starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
        out[ranked[starts]] = np.add.reduceat(values[order], starts, axis=0)
    if padding_idx is not None:
        out[padding_idx] = 0
    return out
