"""Images read at points; see `grid_sample.c`. Definition: minigrad/ops/resample.py."""
import math

import numpy as np

from .memory import empty, zeros
from .native import kernel


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
