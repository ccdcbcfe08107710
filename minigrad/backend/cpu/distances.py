"""Distances of rows; see `distances.c`. Definition: minigrad/ops/linalg.py (cdist)."""
import numpy as np

from .memory import empty
from .native import kernel


def cdist(x, y):
    """|x_i - y_j| of rows: (batch, m, width) and (batch, n, width) to (batch, m, n)."""
    d = empty((*x.shape[:2], y.shape[1]))
    kernel("distances")(np.ascontiguousarray(x), np.ascontiguousarray(y), d, *d.shape, x.shape[2])
    return d


def cdist_backward(g, d, x, y):
    """The gradient of `cdist` in x; in y it is that with x and y exchanged, and g and d transposed."""
    dx = empty(x.shape)
    kernel("distances_backward")(*map(np.ascontiguousarray, (g, d, x, y)), dx, *d.shape, x.shape[2])
    return dx
