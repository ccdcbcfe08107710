"""Convolutions of images and sequences, and their gradients, which are convolutions too.

The operation is linear in the images and in the filters, so three primitives are closed under differentiation:

    y  = conv(x, w)       the gradient in x is conv_input(gy, w), in w it is conv_weight(gy, x)

and each of the other two is linear in its operands with gradients from the same family. So convolutions have derivatives
of any order, all of them on the fast path.
"""
import numpy as np

from ..backend import in_float32, is_half, path, taps
from ..fused import Fused
from ..tensor import Primitive, Tensor


def _served(name):
    """The array function `name` of what serves the arrays. Only the GPU's kernels take numbers of 16 bits as they are."""
    def function(x, y, **settings):
        served = path(x, y)
        if served == "cuda":
            from ..backend import cuda as module
        elif is_half(x.dtype) or is_half(y.dtype):
            return in_float32(function)(x, y, **settings)
        elif served == "cpu":
            from ..backend.cpu import conv as module
        else:
            module = taps
        return getattr(module, name)(x, y, **settings)

    return function


def _pair(name, value, of="conv2d"):
    pair = tuple(value) if np.iterable(value) else (value, value)
    if len(pair) != 2 or any(int(v) != v for v in pair):
        raise ValueError(f"{of}: {name} must be a whole number or a pair of them, not {value!r}")
    return tuple(int(v) for v in pair)


_conv = Primitive(
    "conv2d", _served("conv2d"),
    lambda g, _out, _x, w, **geometry: _conv_input(g, w, x_shape=_x.shape, **geometry),
    lambda g, _out, x, _w, **geometry: _conv_weight(g, x, w_shape=_w.shape, **geometry))

_conv_input = Primitive(
    "conv2d_input_grad", _served("conv2d_input_grad"),
    lambda h, _out, _g, w, x_shape, **geometry: _conv(h, w, **geometry),
    lambda h, _out, g, _w, x_shape, **geometry: _conv_weight(g, h, w_shape=_w.shape, **geometry))

_conv_weight = Primitive(
    "conv2d_weight_grad", _served("conv2d_weight_grad"),
    lambda h, _out, _g, x, w_shape, **geometry: _conv(x, h, **geometry),
    lambda h, _out, g, _x, w_shape, **geometry: _conv_input(g, h, x_shape=_x.shape, **geometry))


def _add_bias(y, bias):
    """bias (C,) added to every pixel of y (N, C, H, W)."""
    return y + bias.reshape(1, -1, 1, 1)


def _add_bias_forward(y, bias):
    from ..backend.cpu import norm_pool
    return norm_pool.add_to_channels(y, bias), None


def _add_bias_backward(g, out, residuals, wanted, y, bias):
    from ..backend.cpu import norm_pool
    return g, norm_pool.channel_sums(g) if wanted[1] else None


_fused_bias = Fused("add_bias", _add_bias, _add_bias_forward, _add_bias_backward)


def _with_bias(y, bias):
    if bias is None:
        return y
    bias = bias if isinstance(bias, Tensor) else Tensor(bias)
    fits = bias.shape == y.shape[1:2] and bias.dtype == y.dtype and not is_half(y.dtype)
    return _fused_bias(y, bias) if fits else _add_bias(y, bias)


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
    return _with_bias(y, bias)


def conv1d(x, w, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Cross-correlation of sequences (N, C, L) with filters (O, C / groups, k): `conv2d` of images of one row."""
    x, w = (t if isinstance(t, Tensor) else Tensor(t) for t in (x, w))
    if x.ndim != 3 or w.ndim != 3:
        raise ValueError(f"conv1d: sequences (N, C, L) and filters (O, C / groups, k) wanted, got {x.shape} and {w.shape}")
    y = conv2d(x.expand_dims(2), w.expand_dims(2), bias, (1, *_one("stride", stride)), (0, *_one("padding", padding)),
               (1, *_one("dilation", dilation)), groups)
    return y.squeeze(2)


def _one(name, value):
    pair = _pair(name, value if not np.iterable(value) else (*value, *value), "conv1d")
    return pair[:1]


def conv_transpose2d(x, w, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """The gradient of `conv2d` in its images, as an operation of its own, as `torch.nn.functional.conv_transpose2d`.

    Args:
        x: (N, C, H, W).
        w: (C, O / groups, kh, kw).
        bias: (O,) or None.
        stride, padding, dilation: those of the convolution whose gradient this is.
        output_padding: rows and columns added at one end, since several image sizes have one convolved size.

    Returns:
        (N, O, H', W') with H' = (H - 1) stride - 2 padding + dilation (kh - 1) + output_padding + 1.

    Raises:
        ValueError: shapes do not fit.
    """
    x, w = (t if isinstance(t, Tensor) else Tensor(t) for t in (x, w))
    stride, padding, dilation, extra = (_pair(name, value, "conv_transpose2d") for name, value in (
        ("stride", stride), ("padding", padding), ("dilation", dilation), ("output_padding", output_padding)))
    if x.ndim != 4 or w.ndim != 4 or x.shape[1] != w.shape[0] or x.shape[1] % groups:
        raise ValueError("conv_transpose2d: images (N, C, H, W) and filters (C, O / groups, kh, kw) wanted, "
                         f"got {x.shape} and {w.shape} in {groups} groups")
    if any(e >= max(s, d) for e, s, d in zip(extra, stride, dilation)):
        raise ValueError(f"conv_transpose2d: output_padding {extra} must be smaller than stride {stride} or dilation "
                         f"{dilation}")
    size = tuple((n - 1) * s - 2 * p + d * (k - 1) + e + 1 for n, s, p, d, k, e in zip(
        x.shape[2:], stride, padding, dilation, w.shape[2:], extra))
    y = _conv_input(x, w, x_shape=(len(x), w.shape[1] * groups, *size), stride=stride, padding=padding, dilation=dilation,
                    groups=groups)
    return _with_bias(y, bias)


def conv_transpose1d(x, w, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """`conv_transpose2d` of sequences (N, C, L) with filters (C, O / groups, k)."""
    x, w = (t if isinstance(t, Tensor) else Tensor(t) for t in (x, w))
    if x.ndim != 3 or w.ndim != 3:
        raise ValueError("conv_transpose1d: sequences (N, C, L) and filters (C, O / groups, k) wanted, "
                         f"got {x.shape} and {w.shape}")
    y = conv_transpose2d(x.expand_dims(2), w.expand_dims(2), bias, (1, *_one("stride", stride)),
                         (0, *_one("padding", padding)), (0, *_one("output_padding", output_padding)), groups,
                         (1, *_one("dilation", dilation)))
    return y.squeeze(2)
