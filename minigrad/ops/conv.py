"""Convolutions of images and sequences, and their gradients, which are convolutions too.

The operation is linear in the images and in the filters, so three primitives are closed under differentiation:

    y  = conv(x, w)       the gradient in x is conv_input(gy, w), in w it is conv_weight(gy, x)

and each of the other two is linear in its operands with gradients from the same family. So convolutions have derivatives
of any order, all of them on the fast path.

The definition takes one product for each position ("tap") of the window. All that makes a convolution fast stands in the tables
of the backends, `backend/cpu/conv.py` and `backend/cuda/im2col.cu`, and computes this.
"""
from __future__ import annotations

import math
import numbers

import numpy as np

from ..backend import is_float, is_half, result_type, with_paths, xp
from ..fused import Fused
from ..primitive import Primitive
from ..tensor import Tensor, TensorLike, as_tensor
from .activation import _fused_limited_relu
from .declare import operation
from .elementwise import _as_float
from .geometry import LEAST, one_of, Pair, pair, same_padding, single, speaking_as, whole
from .shape import flip, pad

# -- the definition, on arrays -----------------------------------------------------------------------------------------


def _conv2d(x, w, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    """y[n, o, i, j] = sum over taps (a, b) and channels c of x[n, c, i sh + a dh - ph, j sw + b dw - pw] w[o, c, a, b]."""
    size = _output_size("conv2d", x.shape[2:], w.shape[2:], stride, padding, dilation)
    padded, filters = _padded(x, padding, groups), w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
    if padded.shape[2] != w.shape[1]:
        raise ValueError(f"conv2d: images of {x.shape[1]} channels in {groups} groups, filters for {w.shape[1]}")
    y = 0
    for a, b, window in _taps(w.shape, size, stride, dilation):
        y = y + xp(x).einsum("ngchw,goc->ngohw", padded[window], filters[..., a, b])
    return y.reshape(x.shape[0], w.shape[0], *size)


def _conv2d_input_gradient(gy, w, x_shape, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    """Each output gives its gradient, times the filter, back to the pixels that it saw."""
    module, size = xp(gy), gy.shape[2:]
    padded = _padded(module.zeros(x_shape, result_type(gy.dtype, w.dtype)), padding, groups)
    gy, filters = _grouped(gy, groups), w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
    for a, b, window in _taps(w.shape, size, stride, dilation):
        padded[window] += module.einsum("ngohw,goc->ngchw", gy, filters[..., a, b])
    top, left = padding
    return padded.reshape(*x_shape[:2], *padded.shape[3:])[:, :, top:top + x_shape[2], left:left + x_shape[3]]


def _conv2d_weight_gradient(gy, x, w_shape, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    """Each tap gets the products of the outputs' gradients and the pixels that they saw through it."""
    module, size = xp(gy), gy.shape[2:]
    padded, gy = _padded(x, padding, groups), _grouped(gy, groups)
    gw = module.zeros((groups, w_shape[0] // groups, *w_shape[1:]), result_type(gy.dtype, x.dtype))
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
    c = x.shape[1]
    if c % groups:
        raise ValueError(f"conv2d: {c} channels do not divide into {groups} groups")
    return _grouped(xp(x).pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2)), groups)


def _grouped(x, groups):
    """(N, C, H, W) as (N, groups, C / groups, H, W); none of the lengths can be left to NumPy where another is 0."""
    return x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])


def _output_size(name, pixels, kernel, stride, padding, dilation):
    """How many windows there are, (vertical, horizontal), on images of so many pixels. ValueError: none."""
    size = tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip(pixels, kernel, stride, padding, dilation))
    if min(size) < 1:
        raise ValueError(f"{name}: window {kernel} with dilation {dilation} is larger than images {pixels} padded by {padding}")
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
    return (_fused_bias if bias.dtype == y.dtype and not is_half(y.dtype) else _add_bias)(y, bias)


_KINDS = {1: ("sequences (N, C, L) or (C, L)", "k"), 2: ("images (N, C, H, W) or (C, H, W)", "kh, kw")}


def _fitting(name, x, w, bias, groups, transposed=False, axes=2):
    """Sequences or images, filters and bias as Tensors, and the number of groups, which fit each other."""
    x, w, groups = as_tensor(x), as_tensor(w), whole(name, "groups", groups, 1)
    images, window = _KINDS[axes]
    if not (is_float(x.dtype) or is_float(w.dtype)):
        raise TypeError(f"{name}: floating point wanted, got {images.split()[0]} of {x.dtype} and filters of {w.dtype}")
    channels = w.ndim == axes + 2 and (w.shape[0] if transposed else w.shape[1] * groups)
    if x.ndim not in (axes + 1, axes + 2) or w.ndim != axes + 2 or x.shape[-axes - 1] != channels or w.shape[0] % groups:
        filters = f"(C, O / groups, {window})" if transposed else f"(O, C / groups, {window})"
        raise ValueError(f"{name}: {images} and filters {filters} wanted, got {x.shape} and {w.shape} in {groups} groups")
    if min(w.shape[2:]) < 1:
        raise ValueError(f"{name}: filters of at least one element along each axis wanted, got {w.shape}")
    outputs = w.shape[1] * groups if transposed else w.shape[0]
    bias = bias if bias is None else as_tensor(bias)
    if bias is not None and bias.shape != (outputs,):
        raise ValueError(f"{name}: a bias {(outputs,)} wanted, got {bias.shape}")
    return x, w, bias, groups


def _rows_of_one(name, x, w, bias, groups, transposed=False, **geometry):
    """A sequence as images of one row, and what `conv2d` takes with it."""
    x, w, bias, groups = _fitting(name, x, w, bias, groups, transposed, axes=1)
    pairs = {key: value if isinstance(value, str) and not transposed else (LEAST[key], single(name, key, value, LEAST[key]))
             for key, value in geometry.items()}
    return x.expand_dims(-2), w.expand_dims(2), bias, {"groups": groups, **pairs}


def _geometry(name, x, w, **given):
    """The images and the checked stride, padding and dilation.

    For `padding="same"` the images get one row or column more where two ends cannot share evenly.
    """
    padding = given["padding"]
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise ValueError(f"{name}: padding is 'same', 'valid', a whole number or a pair of them, not {padding!r}")
        given["padding"] = 0
    geometry = {key: pair(name, key, value, LEAST[key]) for key, value in given.items()}
    if same_padding(name, padding, geometry["stride"], given["stride"]):
        total = [d * (k - 1) for k, d in zip(w.shape[2:], geometry["dilation"])]
        geometry["padding"] = tuple(t // 2 for t in total)
        if any(t % 2 for t in total):
            x = pad(x, ((0, 0), (0, 0), *((0, t % 2) for t in total)))
    return x, geometry


@operation
def conv2d(x: TensorLike, w: TensorLike, bias: TensorLike | None = None, stride: Pair = 1, padding: Pair | str = 0,
           dilation: Pair = 1, groups: int = 1) -> Tensor:
    """Cross-correlation of images with filters, as `torch.nn.functional.conv2d`.

        y[n, o, i, j] = bias[o] + sum over c, a, b of x[n, c, i * stride + a * dilation - padding, ...] * w[o, c, a, b]

    Args:
        x: (N, C, H, W), or one image (C, H, W).
        w: (O, C / groups, kh, kw); output channel o sees the channels of its group only.
        bias: (O,) or None.
        stride, padding, dilation: whole numbers, or pairs (vertical, horizontal). Padding adds zeros on both sides; "same" as
            many as keep the size where the stride is 1, an odd one at the end; "valid" none.

    Returns:
        (N, O, H', W'), or (O, H', W') of one image, with H' = (H + 2 padding - dilation (kh - 1) - 1) // stride + 1.

    Raises:
        ValueError: shapes do not fit, a number is out of its range, or the window is larger than the padded image.
    """
    x, w, bias, groups = _fitting("conv2d", x, w, bias, groups)
    if x.ndim == 3:
        return conv2d(x.expand_dims(0), w, bias, stride, padding, dilation, groups)[0]
    x, geometry = _geometry("conv2d", x, w, stride=stride, padding=padding, dilation=dilation)
    return _with_bias(_conv(x, w, groups=groups, **geometry), bias)


def _conv2d_relu(x, w, bias, most, **geometry):
    """min(max(conv2d(x) + bias, 0), most)."""
    return _fused_limited_relu(_add_bias(_conv(x, w, **geometry), bias), most=most)


_fused_conv2d_relu = Fused("conv2d_relu", _conv2d_relu)


@operation
def conv2d_relu(x: TensorLike, w: TensorLike, bias: TensorLike | None = None, stride: Pair = 1, padding: Pair | str = 0,
                dilation: Pair = 1, groups: int = 1, *, most: float = math.inf) -> Tensor:
    """min(max(`conv2d`, 0), most), in one pass less over memory: ReLU, or with most=6 ReLU6. Its slope at 0 and `most` is 0.

    Raises:
        ValueError: as `conv2d`; or `most` is not above 0.
    """
    x, w, bias, groups = _fitting("conv2d_relu", x, w, bias, groups)
    if x.ndim == 3:
        return conv2d_relu(x.expand_dims(0), w, bias, stride, padding, dilation, groups, most=most)[0]
    if not isinstance(most, numbers.Real) or isinstance(most, bool) or not most > 0:
        raise ValueError(f"conv2d_relu: most must be above 0, not {most!r}")
    x, geometry = _geometry("conv2d_relu", x, w, stride=stride, padding=padding, dilation=dilation)
    if bias is None:
        return _fused_limited_relu(_conv(x, w, groups=groups, **geometry), most=float(most))
    if not x.dtype == w.dtype == bias.dtype:
        return _conv2d_relu(x, w, bias, most, groups=groups, **geometry)
    return _fused_conv2d_relu(x, w, bias, most=float(most), groups=groups, **geometry)


@operation
def conv1d(x: TensorLike, w: TensorLike, bias: TensorLike | None = None, stride: int = 1, padding: int | str = 0,
           dilation: int = 1, groups: int = 1) -> Tensor:
    """Cross-correlation of sequences (N, C, L) or (C, L) with filters (O, C / groups, k): `conv2d` of images of one row."""
    x, w, bias, settings = _rows_of_one("conv1d", x, w, bias, groups, stride=stride, padding=padding, dilation=dilation)
    with speaking_as("conv1d"):
        return conv2d(x, w, bias, **settings).squeeze(-2)


@operation(numpy=np.convolve)
def convolve(x: TensorLike, y: TensorLike, mode: str = "full") -> Tensor:
    """The convolution of two vectors, sum over i of x[i] y[k - i] for each k, as `numpy.convolve`; whole numbers as float64.

    The longer one is padded with zeros, so that NaN or an infinity in the shorter one reaches both ends of the result.

    Args:
        mode: "full" for all len(x) + len(y) - 1 numbers, "same" for as many in the middle as the longer one has, "valid" for
            those to which the whole of the shorter one contributes.

    Raises:
        ValueError: x or y is no vector, or empty.
    """
    x, y = as_tensor(x), as_tensor(y)
    dtype = result_type(x.dtype, y.dtype)  # float32 of int8 beside float32, as in NumPy
    x, y = _as_float(x.astype(dtype)), _as_float(y.astype(dtype))
    if x.ndim != 1 or y.ndim != 1 or not x.size or not y.size:
        raise ValueError(f"convolve: two vectors that are not empty wanted, got shapes {x.shape} and {y.shape}")
    one_of("convolve", "mode", mode, ("full", "same", "valid"))
    x, y = (x, y) if x.size >= y.size else (y, x)
    out = conv1d(x[None, None], flip(y)[None, None], padding=0 if mode == "valid" else y.size - 1)[0, 0]
    return out if mode != "same" else out[(y.size - 1) // 2:][:x.size]


@operation
def conv_transpose2d(x: TensorLike, w: TensorLike, bias: TensorLike | None = None, stride: Pair = 1, padding: Pair = 0,
                     output_padding: Pair = 0, groups: int = 1, dilation: Pair = 1) -> Tensor:
    """The gradient of `conv2d` in its images, as an operation of its own, as `torch.nn.functional.conv_transpose2d`.

    Args:
        x: (N, C, H, W), or one image (C, H, W).
        w: (C, O / groups, kh, kw).
        bias: (O,) or None.
        stride, padding, dilation: those of the convolution whose gradient this is.
        output_padding: rows and columns added at one end, since several image sizes have one convolved size.

    Returns:
        (N, O, H', W'), or (O, H', W') of one image:
        H' = (H - 1) stride - 2 padding + dilation (kh - 1) + output_padding + 1.

    Raises:
        ValueError: shapes do not fit.
    """
    x, w, bias, groups = _fitting("conv_transpose2d", x, w, bias, groups, transposed=True)
    given = dict(stride=stride, padding=padding, dilation=dilation, output_padding=output_padding)
    geometry = {name: pair("conv_transpose2d", name, value, LEAST[name]) for name, value in given.items()}
    return _transposed("conv_transpose2d", 2, x, w, bias, groups, **geometry)


def _transposed(name, axes, x, w, bias, groups, stride, padding, dilation, output_padding):
    """`conv_transpose2d` with pairs; errors tell of the last `axes` axes."""
    if x.ndim == 3:
        return _transposed(name, axes, x.expand_dims(0), w, bias, groups, stride, padding, dilation, output_padding)[0]
    if any(e >= max(s, d) for e, s, d in zip(output_padding, stride, dilation)):
        raise ValueError(f"{name}: output_padding {output_padding[-axes:]} must be smaller than stride {stride[-axes:]} or "
                         f"dilation {dilation[-axes:]}")
    size = tuple((n - 1) * s - 2 * p + d * (k - 1) + e + 1
                 for n, k, e, s, p, d in zip(x.shape[2:], w.shape[2:], output_padding, stride, padding, dilation))
    if min(size) < 1:
        raise ValueError(f"{name}: an input of size {x.shape[-axes:]} with padding {padding[-axes:]} would give one of size "
                         f"{size[-axes:]}")
    further = [e // s for e, s in zip(output_padding, stride)]  # outputs of a convolution of that size, beyond those in x
    if any(further):
        x = pad(x, ((0, 0), (0, 0), *((0, n) for n in further)))
    y = _conv_input(x, w, x_shape=(len(x), w.shape[1] * groups, *size), groups=groups, stride=stride, padding=padding,
                    dilation=dilation)
    return _with_bias(y, bias)


@operation
def conv_transpose1d(x: TensorLike, w: TensorLike, bias: TensorLike | None = None, stride: int = 1, padding: int = 0,
                     output_padding: int = 0, groups: int = 1, dilation: int = 1) -> Tensor:
    """`conv_transpose2d` of sequences (N, C, L) or (C, L) with filters (C, O / groups, k)."""
    x, w, bias, settings = _rows_of_one("conv_transpose1d", x, w, bias, groups, transposed=True, stride=stride,
                                        padding=padding, dilation=dilation, output_padding=output_padding)
    return _transposed("conv_transpose1d", 1, x, w, bias, **settings).squeeze(-2)
