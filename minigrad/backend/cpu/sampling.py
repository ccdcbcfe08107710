"""Distances of rows (`distances.c`), running products, and images read at points (`grid_sample.c`). Definitions:
minigrad/ops/linalg.py (cdist), reduce.py (cumprod) and resample.py (grid_sample)."""
import math

import numpy as np

from .memory import empty, zeros
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


def cumprod_backward(g, y, x):
    """The gradient of y = cumprod(x) along the last axis: of x_i the sum of g_j y_j / x_i for j >= i.

    None where a quotient has no meaning or few digits: a product is 0 or not finite.
    """
    if not (np.isfinite(y).all() and (np.abs(y) > np.finfo(y.dtype).tiny).all()):
        return None
    return np.cumsum((g * y)[..., ::-1], -1)[..., ::-1] / x


def grid_sample(x, grid, align_corners, border):
    """x (N, C, H, W) at the points of grid (N, H', W', 2): (N, C, H', W')."""
    y = empty((*x.shape[:2], *grid.shape[1:3]))
    kernel("grid_sample")(np.ascontiguousarray(x), np.ascontiguousarray(grid), y, *x.shape, math.prod(grid.shape[1:3]),
                          align_corners, border)
    return y


def grid_sample_backward(g, x, grid, align_corners, border):
    """The gradients of `grid_sample` in x and grid."""
    dx, dgrid = zeros(x.shape), empty(grid.shape)
    kernel("grid_sample_backward")(*map(np.ascontiguousarray, (g, x, grid)), dx, dgrid, *x.shape, math.prod(grid.shape[1:3]),
                                   align_corners, border)
    return dx, dgrid
