"""Two-dimensional convolution and its two gradients, which are convolutions too.

The operation is linear in the images and in the filters, so three primitives are closed under differentiation:

    y  = conv(x, w)       the gradient in x is conv_input(gy, w), in w it is conv_weight(gy, x)

and each of the other two is linear in its operands with gradients from the same family. So convolutions have derivatives
of any order, all of them on the fast path.
"""
import numpy as np

from ..backend import xp
from ..backend import taps as generic
from ..tensor import Primitive, Tensor


def _kernels(x):
    """The array functions for the device of `x`."""
    if xp(x) is not np:
        return generic
    from ..backend.cpu import conv
    return conv


def _pair(name, value):
    pair = tuple(value) if np.iterable(value) else (value, value)
    if len(pair) != 2 or any(int(v) != v for v in pair):
        raise ValueError(f"conv2d: {name} must be a whole number or a pair of them, not {value!r}")
    return tuple(int(v) for v in pair)


_conv = Primitive(
    "conv2d", lambda x, w, **geometry: _kernels(x).conv2d(x, w, **geometry),
    lambda g, _out, _x, w, **geometry: _conv_input(g, w, x_shape=_x.shape, **geometry),
    lambda g, _out, x, _w, **geometry: _conv_weight(g, x, w_shape=_w.shape, **geometry))

_conv_input = Primitive(
    "conv2d_input_grad", lambda g, w, x_shape, **geometry: _kernels(g).conv2d_input_grad(g, w, x_shape, **geometry),
    lambda h, _out, _g, w, x_shape, **geometry: _conv(h, w, **geometry),
    lambda h, _out, g, _w, x_shape, **geometry: _conv_weight(g, h, w_shape=_w.shape, **geometry))

_conv_weight = Primitive(
    "conv2d_weight_grad", lambda g, x, w_shape, **geometry: _kernels(g).conv2d_weight_grad(g, x, w_shape, **geometry),
    lambda h, _out, _g, x, w_shape, **geometry: _conv(x, h, **geometry),
    lambda h, _out, g, _x, w_shape, **geometry: _conv_input(g, h, x_shape=_x.shape, **geometry))


def conv2d(x, w, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Cross-correlation of images with filters, as `torch.nn.functional.conv2d`.

        y[n, o, i, j] = bias[o] + sum over c, a, b of x[n, c, i * stride + a * dilation - padding, ...] * w[o, c, a, b]

    Args:
        x: (N, C, H, W).
        w: (O, C / groups, kh, kw); output channel o sees the channels of its group only.
        bias: (O,) or None.
        stride, padding, dilation: whole numbers, or pairs (vertical, horizontal). Padding adds zeros on both sides.

    Returns:
        (N, O, H', W') with H' = (H + 2 padding - dilation (kh - 1) - 1) // stride + 1.

    Raises:
        ValueError: shapes do not fit, or the window is larger than the padded image.
    """
    y = _conv(x, w, stride=_pair("stride", stride), padding=_pair("padding", padding),
              dilation=_pair("dilation", dilation), groups=groups)
    return y if bias is None else y + (bias if isinstance(bias, Tensor) else Tensor(bias)).reshape(1, -1, 1, 1)
