"""Convolution with windows of 3 x 3 and stride 1 by fewer products, in `conv_winograd.c`, which explains how: float32.

The error is that of `conv_direct` or less. Sums and differences of pixels are multiplied, and these make NaN of infinities; where
the kernels say that not all is finite, `conv_direct` computes.
"""
import numpy as np

from . import conv_direct
from .declarations import constant
from .layout import contiguous_nhwc, nchw
from .memory import empty, scratch, zeros
from .native import kernel
from .threads import get_num_threads

POSITIONS = constant("conv_winograd.c", "POSITIONS")  # products for 2 x 2 outputs
MOST_SUMS = 1 << 26  # numbers: each thread has its own sums of a gradient in the filters, if that is not more memory


def forward(x, w, g, y):
    """Fill y (N, Ho, Wo, O), contiguous, with the convolution of x (N, H, W, C) and w (O, C, 3, 3)."""
    x = _dense(x)
    if not _run(conv_direct.forward_plan(x, w, g, y), x, w, y):
        conv_direct.forward(x, w, g, y)


def input_grad(gy, w, g, gx):
    """Fill gx (N, H, W, C) with the gradient in the images for gy (N, Ho, Wo, O)."""
    gy = _dense(gy)
    if not _run(conv_direct.input_grad_plan(gy, w, g, gx), gy, w, gx):
        conv_direct.input_grad(gy, w, g, gx)


def weight_grad(gy, x, w_shape, g):
    """The gradient (O, C, 3, 3) in the filters for gy (N, Ho, Wo, O)."""
    (o, c), gy, x = w_shape[:2], _dense(gy), _dense(x)
    copies = max(1, min(get_num_threads(), MOST_SUMS // (POSITIONS * c * o)))
    sums, finite = zeros((copies, POSITIONS, c, o), np.float32), np.ones(1, np.int64)
    images, job = conv_direct.images_and_job(gy, x, g)
    kernel("winograd_weights")(x, images, gy, sums, copies, job, finite)
    if not finite:
        return conv_direct.weight_grad(gy, x, w_shape, g)
    gw = empty(w_shape, np.float32)
    kernel("unpack")(sums, 1, gw, 1, o, o, c, 9)
    return gw


def _dense(images):
    """(N, H, W, C) with a pixel's channels side by side in memory, as the kernels read them."""
    return images if images.strides[3] == images.itemsize else contiguous_nhwc(nchw(images))


def _run(plan, x, w, y):
    """Whether y is finite."""
    panels, finite = scratch("conv panels", (plan.size // 9 * (9 + POSITIONS),), np.float32), np.ones(1, np.int64)
    kernel("winograd")(x, plan.images, w, plan.filters, panels, y, plan.jobs, finite)
    return bool(finite)
