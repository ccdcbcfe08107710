"""Convolutions of images and sequences, and their gradients, which are convolutions too.

The operation is linear in the images and in the filters, so three primitives are closed under differentiation:

    y  = conv(x, w)       the gradient in x is conv_input(gy, w), in w it is conv_weight(gy, x)

and each of the other two is linear in its operands with gradients from the same family. So convolutions have derivatives
of any order, all of them on the fast path.

The definition takes one product for each position ("tap") of the window. All that makes a convolution fast stands in the tables
of the backends, `backend/cpu/conv.py` and `backend/cuda/im2col.cu`, and computes this.
"""
from __future__ import annotations

import numpy as np

from ..backend import is_half, with_paths, xp
from ..fused import Fused
from ..primitive import Primitive
from ..tensor import Tensor
from .declare import operation, TensorLike
from .pool import Pair

# -- the definition, on arrays -----------------------------------------------------------------------------------------


def _conv2d(x, w, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    """y[n, o, i, j] = sum over taps (a, b) and channels c of x[n, c, i sh + a dh - ph, j sw + b dw - pw] w[o, c, a, b]."""
    size = _output_size(x.shape, w.shape, stride, padding, dilation)
    padded, filters = _padded(x, padding, groups), w.reshape(groups, -1, *w.shape[1:])
    if padded.shape[2] != w.shape[1]:
        raise ValueError(f"conv2d: images of {x.shape[1]} channels in {groups} groups, filters for {w.shape[1]}")
    y = 0
    for a, b, window in _taps(w.shape, size, stride, dilation):
        y = y + xp(x).einsum("ngchw,goc->ngohw", padded[window], filters[..., a, b])
    return y.reshape(x.shape[0], w.shape[0], *size)


def _conv2d_input_gradient(gy, w, x_shape, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    """Each output gives its gradient, times the filter, back to the pixels that it saw."""
    module, size = xp(gy), gy.shape[2:]
    padded = _padded(module.zeros(x_shape, gy.dtype), padding, groups)
    gy, filters = gy.reshape(len(gy), groups, -1, *size), w.reshape(groups, -1, *w.shape[1:])
    for a, b, window in _taps(w.shape, size, stride, dilation):
        padded[window] += module.einsum("ngohw,goc->ngchw", gy, filters[..., a, b])
    top, left = padding
    return padded.reshape(*x_shape[:2], *padded.shape[3:])[:, :, top:top + x_shape[2], left:left + x_shape[3]]


def _conv2d_weight_gradient(gy, x, w_shape, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    """Each tap gets the products of the outputs' gradients and the pixels that they saw through it."""
    module, size = xp(gy), gy.shape[2:]
    padded, gy = _padded(x, padding, groups), gy.reshape(len(gy), groups, -1, *size)
    gw = module.zeros((groups, w_shape[0] // groups, *w_shape[1:]), gy.dtype)
    for a, b, window in _taps(w_shape, size, stride, dilation):
        gw[..., a, b] = module.einsum("ngohw,ngchw->goc", gy, padded[window])
    return gw.reshape(w_shape)


def _taps(w_shape, size, stride, dilation):
    """For each position of the window: its row and column, and the slice of the padded images that it sees."""
    for a in range(w_shape[2]):
        for b in range(w_shape[3]):
            yield a, b, (slice(None), slice(None), slice(None),
                         slice(a * dilation[0], a * dilation[0] + (size[0] - 1) * stride[0] + 1, stride[0]),
                         slice(b * dilation[1], b * dilation[1] + (size[1] - 1) * stride[1] + 1, stride[1]))


def _padded(x, padding, groups):
    """(N, C, H, W) with zeros around it, as (N, groups, C / groups, H', W')."""
    n, c = x.shape[:2]
    if c % groups:
        raise ValueError(f"conv2d: {c} channels do not divide into {groups} groups")
    x = xp(x).pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    return x.reshape(n, groups, c // groups, *x.shape[2:])


def _output_size(x_shape, w_shape, stride, padding, dilation):
    size = tuple((n + 2 * p - d * (k - 1) - 1) // s + 1
                 for n, k, s, p, d in zip(x_shape[2:], w_shape[2:], stride, padding, dilation))
    if min(size) < 1:
        raise ValueError(f"conv2d: window {w_shape[2:]} is larger than the padded image {x_shape[2:]}")
    return size


# -- the operations ----------------------------------------------------------------------------------------------------

_conv = Primitive(
    "conv2d", with_paths("conv2d", _conv2d, upcast=True),
    lambda g, _out, _x, w, **geometry: _conv_input(g, w, x_shape=_x.shape, **geometry),
    lambda g, _out, x, _w, **geometry: _conv_weight(g, x, w_shape=_w.shape, **geometry))

_conv_input = Primitive(
    "conv2d_input_gradient", with_paths("conv2d_input_gradient", _conv2d_input_gradient, upcast=True),
    lambda h, _out, _g, w, x_shape, **geometry: _conv(h, w, **geometry),
    lambda h, _out, g, _w, x_shape, **geometry: _conv_weight(g, h, w_shape=_w.shape, **geometry))

_conv_weight = Primitive(
    "conv2d_weight_gradient", with_paths("conv2d_weight_gradient", _conv2d_weight_gradient, upcast=True),
    lambda h, _out, _g, x, w_shape, **geometry: _conv(x, h, **geometry),
    lambda h, _out, g, _x, w_shape, **geometry: _conv_input(g, h, x_shape=_x.shape, **geometry))


def _add_bias(y, bias):
    """bias (C,) added to every pixel of y (N, C, H, W)."""
    return y + bias.reshape(1, -1, 1, 1)


_fused_bias = Fused("add_bias", _add_bias)


def _with_bias(y, bias):
    if bias is None:
        return y
    bias = bias if isinstance(bias, Tensor) else Tensor(bias)
    fits = bias.shape == y.shape[1:2] and bias.dtype == y.dtype and not is_half(y.dtype)
    return _fused_bias(y, bias) if fits else _add_bias(y, bias)


def _pair(name, value, of="conv2d"):
    pair = tuple(value) if np.iterable(value) else (value, value)
    if len(pair) != 2 or any(int(v) != v for v in pair):
        raise ValueError(f"{of}: {name} must be a whole number or a pair of them, not {value!r}")
    return tuple(int(v) for v in pair)


@operation
def conv2d(x: TensorLike, w: TensorLike, bias: TensorLike | None = None, stride: Pair = 1, padding: Pair = 0,
           dilation: Pair = 1, groups: int = 1) -> Tensor:
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


@operation
def conv1d(x: TensorLike, w: TensorLike, bias: TensorLike | None = None, stride: int = 1, padding: int = 0,
           dilation: int = 1, groups: int = 1) -> Tensor:
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


@operation
def conv_transpose2d(x: TensorLike, w: TensorLike, bias: TensorLike | None = None, stride: Pair = 1, padding: Pair = 0,
                     output_padding: Pair = 0, groups: int = 1, dilation: Pair = 1) -> Tensor:
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


@operation
def conv_transpose1d(x: TensorLike, w: TensorLike, bias: TensorLike | None = None, stride: int = 1, padding: int = 0,
                     output_padding: int = 0, groups: int = 1, dilation: int = 1) -> Tensor:
    """`conv_transpose2d` of sequences (N, C, L) with filters (C, O / groups, k)."""
    x, w = (t if isinstance(t, Tensor) else Tensor(t) for t in (x, w))
    if x.ndim != 3 or w.ndim != 3:
        raise ValueError("conv_transpose1d: sequences (N, C, L) and filters (C, O / groups, k) wanted, "
                         f"got {x.shape} and {w.shape}")
    y = conv_transpose2d(x.expand_dims(2), w.expand_dims(2), bias, (1, *_one("stride", stride)),
                         (0, *_one("padding", padding)), (0, *_one("output_padding", output_padding)), groups,
                         (1, *_one("dilation", dilation)))
    return y.squeeze(2)
