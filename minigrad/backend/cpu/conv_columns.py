"""Convolution as one product of matrices, for few output pixels and large filters: float32, one group, kernels in C.

`columns` of conv.c copies what each output pixel sees into a row of a matrix ("im2col"), its numbers in the order in which
the filters lie in memory, so that these are multiplied as they are.
"""
import math

import numpy as np

from .conv_direct import images_and_job
from .memory import empty
from .native import kernel
from .products import product


def forward(x, w, g, y):
    """Fill y (N, Ho, Wo, O), contiguous, with the convolution of x (N, H, W, C) and w (O, C, kh, kw)."""
    product(_columns(x, y, g), w.reshape(len(w), -1).T, out=y.reshape(-1, len(w)))


def weight_grad(gy, x, w_shape, g):
    """The gradient (O, C, kh, kw) in the filters, for gy (N, Ho, Wo, O)."""
    return product(gy.reshape(-1, w_shape[0]).T, _columns(x, gy, g)).reshape(w_shape)


def _columns(x, y, g):
    """What each output pixel of y sees of x, (N Ho Wo, C kh kw)."""
    images, job = images_and_job(y, x, g)
    columns = empty((math.prod(y.shape[:3]), x.shape[3] * math.prod(g.kernel)), np.float32)
    kernel("columns")(x, images, columns, job)
    return columns
