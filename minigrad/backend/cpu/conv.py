"""Two-dimensional convolution and its two gradients: checks, and the choice of an algorithm.

Read the plain convolution first; the definition is in minigrad/ops/conv.py:

    y[n, o, i, j] = sum over c, p, q of  x[n, c, i*sh + p*dh - ph, j*sw + q*dw - pw] * w[o, c, p, q]

Arrays are (N, C, H, W) with any strides; results are channels-last in memory, but for depthwise ones of other images, and so is
the fastest input. Weights are (O, C/groups, kh, kw). `stride`, `padding` and `dilation` are pairs (vertical, horizontal).

Each algorithm is a file `conv_*.py` with up to three functions, of channels-last images (N, H, W, C):

    forward(x, w, g, y)             fills y (N, Ho, Wo, O)
    input_grad(gy, w, g, gx)        fills gx (N, H, W, C)
    weight_grad(gy, x, w_shape, g)  returns gw (O, C/groups, kh, kw)

g is the `Geometry`. `choose` says which algorithm computes which convolution.
"""

import math
from typing import NamedTuple

import numpy as np

from . import conv_blocks, conv_columns, conv_depthwise, conv_direct, conv_shifted, conv_winograd
from .declarations import constant
from .layout import nchw, nhwc
from .memory import empty
from .native import kernel
from .threads import get_num_threads

LANES, MAX_TAPS = constant("kernels.h", "LANES"), constant("conv.h", "MAX_TAPS")
MOST = 1 << 28  # numbers of a copy of what a row of outputs sees, in C, which ends the process where there is no memory


class Geometry(NamedTuple):
    """What a convolution does to positions: window size, and pairs (vertical, horizontal)."""

    kernel: tuple
    stride: tuple
    padding: tuple
    dilation: tuple
    groups: int

    def output_size(self, size):
        """(H, W) of the output for (H, W) of the input."""
        return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1
                     for n, k, s, p, d in zip(size, self.kernel, self.stride, self.padding, self.dilation))

    def input_range(self, start, stop, axis):
        """The input positions (start, stop) under the windows of the outputs start .. stop - 1, padding included."""
        s, p, d, k = self.stride[axis], self.padding[axis], self.dilation[axis], self.kernel[axis]
        return start * s - p, (stop - 1) * s - p + d * (k - 1) + 1

    def transposed(self):
        """The same with vertical and horizontal exchanged."""
        return Geometry(*(pair[::-1] for pair in self[:4]), self.groups)

    def mirrored_padding(self):
        """The padding of the convolution that is the input gradient where the stride is 1; it may be negative."""
        return tuple(d * (k - 1) - p for d, k, p in zip(self.dilation, self.kernel, self.padding))


def conv2d(x, w, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    """Cross-correlate images with a filter bank.

    Args:
        x: (N, C, H, W).
        w: (O, C/groups, kh, kw).

    Returns:
        (N, O, Ho, Wo), channels-last in memory but for `conv_depthwise.by_planes`.

    Raises:
        ValueError: the channels do not fit the groups, or the window is larger than the padded image.
        TypeError: an array is not floating point.
    """
    x, w = _floats("conv2d", x, w)
    g = _geometry("conv2d", x.shape, w.shape, stride, padding, dilation, groups)
    y = conv_depthwise.by_planes(x, w, g)
    return _channels_last(x, w, g) if y is None else y


def _channels_last(x, w, g):
    n, _, h, width = x.shape
    y = empty((n, *g.output_size((h, width)), len(w)), x.dtype)
    _forward(nhwc(x), w, g, y)
    return nchw(y)


def conv2d_relu(x, w, bias, most, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    """min(max(`conv2d` + bias, 0), most) for bias (O,), in the convolution's memory."""
    x, w = _floats("conv2d_relu", x, w)
    y = _channels_last(x, w, _geometry("conv2d_relu", x.shape, w.shape, stride, padding, dilation, groups))
    pixels, native = nhwc(y).reshape(math.prod(y.shape[::2]) * y.shape[3], len(w)), kernel("bias_relu", y, bias)
    if native:
        native(pixels, np.ascontiguousarray(bias), *pixels.shape, most)
    else:
        pixels += bias
        np.clip(pixels, 0, most, out=pixels)
    return y


def conv2d_input_grad(gy, w, x_shape, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    """The gradient of `conv2d` in its images: (N, O, Ho, Wo) to `x_shape`. This is the transposed convolution."""
    gy, w = _floats("conv2d_input_grad", gy, w)
    g = _geometry("conv2d_input_grad", x_shape, w.shape, stride, padding, dilation, groups, gy.shape)
    gy, (n, c, h, width) = nhwc(gy), x_shape
    gx = empty((n, h, width, c), gy.dtype)
    choose("input_grad", w.shape, g, gy.shape[:3], gy, w)(gy, w, g, gx)
    return nchw(gx)


def conv2d_weight_grad(gy, x, w_shape, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    """The gradient of `conv2d` in its weights: (N, O, Ho, Wo) and (N, C, H, W) to `w_shape`.

    Each thread sums over its share of the images, so the rounding depends on the number of threads.
    """
    gy, x = _floats("conv2d_weight_grad", gy, x)
    g = _geometry("conv2d_weight_grad", x.shape, w_shape, stride, padding, dilation, groups, gy.shape)
    gy, x = nhwc(gy), nhwc(x)
    return choose("weight_grad", w_shape, g, gy.shape[:3], gy, x)(gy, x, w_shape, g)


def choose(direction, w_shape, g, size, *arrays):
    """The function that computes a convolution or one of its gradients: of the first line of the table that fits.

    ==================  =========================================  ==========================================================
    algorithm           takes                                      because
    ==================  =========================================  ==========================================================
    `conv_winograd`     1: windows of 3 x 3, stride 1, channels    a bit less than half as many products, for sums beside
                        in whole vectors, and enough pixels        them that count little
    `conv_columns`      1: filters of 512 numbers or more, at      to rearrange the filters would cost more than to copy
                        most a third as many output pixels as      what the few pixels see
                        filters, one group; not the input gradient
    `conv_direct`       1: all but single channels of fewer than   sums stay in registers, and hardly anything is copied. A
                        LANES / 2 filters each, which fill no      gradient in the images with stride s is s convolutions of
                        vector; the input gradient only where      stride 1 an axis, but not if the taps have gaps too
                        stride or dilation is 1 along each axis
    `conv_depthwise`    2: single channels                         a weighted sum of shifted images, in one pass
    mirrored filters    the input gradient, if the stride is 1     it is a convolution too: chosen from this table again
                        and the padding less than the window
    `conv_shifted`      single channels                            there is no product of matrices to win
    `conv_blocks`       all else                                   BLAS multiplies fast, and any shape can be brought to it
    ==================  =========================================  ==========================================================

    1 and 2 are kernels in C for float32, 1 with windows of at most MAX_TAPS taps that do not lie too far apart; `conv_columns`
    also needs a BLAS that C can call. "Single channels" are several groups of one input channel each.

    Args:
        direction: "forward", "input_grad" or "weight_grad".
        size: (N, Ho, Wo) of the output.
        arrays: the two operands.
    """
    o, c, kh, kw = w_shape
    filters, single, compiled = o // g.groups, c == 1 < g.groups, kernel("correlate", *arrays) is not None
    direct = compiled and kh * kw <= MAX_TAPS and not (single and filters < LANES // 2)
    direct = direct and _row_of_windows(g, arrays[direction == "weight_grad"]) <= MOST
    if direct and _winograd_costs_less(w_shape, g, size):
        algorithm = conv_winograd
    elif direct and direction != "input_grad":
        algorithm = conv_columns if _columns_cost_less(w_shape, g, size) else conv_direct
    elif direct and all(s == 1 or d == 1 for s, d in zip(g.stride, g.dilation)):
        algorithm = conv_direct
    elif compiled and single and filters:
        algorithm = conv_depthwise
    elif direction == "input_grad" and g.stride == (1, 1) and min(g.mirrored_padding()) >= 0:
        return _mirrored_input_grad
    else:
        algorithm = conv_shifted if single else conv_blocks
    return getattr(algorithm, direction)


def _row_of_windows(g, images):
    """At most so many numbers does a row of outputs see of a group of images (N, H, W, C), padding and gaps included."""
    height, width = (d * (k - 1) + 1 for d, k in zip(g.dilation, g.kernel))
    return height * (images.shape[2] + 2 * max(width, g.padding[1])) * images.shape[3] // g.groups


def _winograd_costs_less(w_shape, g, size):
    """Whether `conv_winograd` takes this, and there are so many pixels that to transform filters costs little."""
    (o, c, *window), pixels = w_shape, math.prod(size)
    fits = window == [3, 3] and g.stride == g.dilation == (1, 1) and g.groups == 1 and o % LANES == c % LANES == 0
    enough = min(size[1:]) >= 6 and pixels >= max(256 * get_num_threads(), o * c // 256)
    return fits and enough and o * c > 0


def _columns_cost_less(w_shape, g, size):
    """Whether the filters are so large beside the output that to rearrange them would cost more than columns do."""
    few, large = 0 < 3 * math.prod(size) <= w_shape[0], math.prod(w_shape[1:]) >= 512
    return g.groups == 1 and few and large and kernel("product") is not None


def _forward(x, w, g, y):
    choose("forward", w.shape, g, y.shape[:3], x, w)(x, w, g, y)


def _mirrored_input_grad(gy, w, g, gx):
    """With stride 1 the input gradient is a convolution of gy: windows mirrored, the roles of the channels swapped."""
    o, c, kh, kw = w.shape
    w = w.reshape(g.groups, o // g.groups, c, kh, kw).swapaxes(1, 2)[..., ::-1, ::-1]  # (G, C/G, O/G, kh, kw)
    _forward(gy, w.reshape(g.groups * c, o // g.groups, kh, kw), g._replace(padding=g.mirrored_padding()), gx)


def _floats(name, a, b):
    """Both arrays in the type that they have together."""
    dtype = np.result_type(a, b)
    if dtype.kind != "f":
        raise TypeError(f"{name}: expected floating-point arrays, got {a.dtype} and {b.dtype}")
    return a.astype(dtype, copy=False), b.astype(dtype, copy=False)


def _geometry(name, x_shape, w_shape, stride, padding, dilation, groups, gy_shape=None):
    n, c, h, width = x_shape
    o, group_channels, *kernel = w_shape
    if c != group_channels * groups or o % groups:
        raise ValueError(f"{name}: weights {tuple(w_shape)} with {groups} groups do not fit images {tuple(x_shape)}")
    g = Geometry(tuple(kernel), tuple(stride), tuple(padding), tuple(dilation), groups)
    ho, wo = g.output_size((h, width))
    if min(ho, wo) < 1:
        raise ValueError(f"{name}: the window {g.kernel} with dilation {g.dilation} is larger than the images "
                         f"{(h, width)} with padding {g.padding}")
    if gy_shape is not None and tuple(gy_shape) != (n, o, ho, wo):
        raise ValueError(f"{name}: expected an output gradient of shape {(n, o, ho, wo)}, got {tuple(gy_shape)}")
    return g
