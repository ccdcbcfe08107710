"""Layers. Names and arguments are PyTorch's; weights start as PyTorch's do, uniform in +-1/sqrt(fan-in)."""
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import ops
from ..backend import path, xp
from ..ops.geometry import (
    constant, divisor, LEAST, Lengths, one_axis, one_of, order, pair, real, same_padding, several, single, whole)
from ..ops.projection import padding_row
from ..ops.resample import check_aligned, factors, MODES
from ..recording import state
from ..tensor import OneOrMore, Tensor, as_tensor, flag
from . import functional as F, init
from .module import Module, Parameter, replacing


def parameter(*shape: int) -> Parameter:
    """A float32 Parameter whose numbers a function of `init` is still to write."""
    return Parameter(np.empty(shape, np.float32))


def uniform(shape: tuple[int, ...], fan_in: int) -> Parameter:
    """A Parameter, uniform in +-1/sqrt(fan_in)."""
    bound = 1 / math.sqrt(fan_in) if fan_in else 0
    return init.uniform_(parameter(*shape), -bound, bound)


def sizes(layer: Module, least: float = 0, **values: int) -> list[int]:
    """A layer's sizes as whole numbers. ValueError, which names layer and argument, for one below `least`, or no whole one."""
    return [whole(type(layer).__name__, name, value, least) for name, value in values.items()]


def flags(layer: Module, **values: bool) -> list[bool]:
    """A layer's settings that are true or false. TypeError, which names layer and argument, for anything else, 1 and 0 apart."""
    return [flag(type(layer).__name__, name, value) for name, value in values.items()]


def _lengths(layer, axes, name, value):
    """A setting of windows as a whole number for each axis. ValueError: one is out of its range."""
    of, least = type(layer).__name__, LEAST[name]
    return (single(of, name, value, least),) if axes == 1 else pair(of, name, value, least)


def _windows(layer, axes, also=(), **geometry):
    """The geometry of a layer's windows as attributes, each number in its range, or one of (name, value) in `also`."""
    for name, value in geometry.items():
        if (name, value) not in also:
            _lengths(layer, axes, name, value)
        setattr(layer, name, value)


class Identity(Module):
    """x. Takes any arguments and reads none of them, to stand in the place of another layer."""

    def __init__(self, *args: Any, **settings: Any):
        pass

    def forward(self, x: Tensor) -> Tensor:
        return x


class Linear(Module):
    """y = x W^T + b: (..., in_features) to (..., out_features). weight (out, in), bias (out,) or None."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True):
        in_features, out_features = sizes(self, in_features=in_features, out_features=out_features)
        (bias,) = flags(self, bias=bias)
        self.weight = uniform((out_features, in_features), in_features)
        self.bias = uniform((out_features,), in_features) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return ops.linear(x, self.weight, self.bias)

    def rows(self, x: Tensor, which: slice) -> Tensor:
        """The outputs of the rows `which` of the weight alone."""
        return ops.linear(x, self.weight[which], None if self.bias is None else self.bias[which])


class Bilinear(Module):
    """`bilinear`: (..., in1_features) and (..., in2_features) to (..., out_features). weight (out, in1, in2), bias (out,) or
    None."""

    def __init__(self, in1_features: int, in2_features: int, out_features: int, bias: bool = True):
        first, second, out = sizes(self, in1_features=in1_features, in2_features=in2_features, out_features=out_features)
        (bias,) = flags(self, bias=bias)
        self.weight = uniform((out, first, second), first)
        self.bias = uniform((out,), first) if bias else None

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        return ops.bilinear(x1, x2, self.weight, self.bias)


class Embedding(Module):
    """Rows of `weight` (num_embeddings, embedding_dim) by index; that of `padding_idx` starts at 0 and gets no gradient."""

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None):
        shape = sizes(self, num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        self.weight, self.padding_idx = init.normal_(parameter(*shape)), padding_row("Embedding", padding_idx, shape[0])
        if padding_idx is not None:
            self.weight._array[self.padding_idx] = 0

    def forward(self, indices: Tensor) -> Tensor:
        return ops.embedding(indices, self.weight, padding_idx=self.padding_idx)


class EmbeddingBag(Embedding):
    """The mean or sum of the rows of `weight`, as of `Embedding`, that each bag of indices names; 0 of an empty bag.

    Called with indices (bags, n), or with (n,), all bags one after the other, and offsets (bags,), which say where each begins:
    integers that start at 0 and do not fall, else ValueError (on the GPU they are not read). Returns (bags, embedding_dim).

    Args:
        mode: "mean" or "sum".
        padding_idx: this index names no row.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, mode: str = "mean", padding_idx: int | None = None):
        super().__init__(num_embeddings, embedding_dim, padding_idx)
        self.mode = one_of("EmbeddingBag", "mode", mode, ("mean", "sum"))

    def forward(self, indices: Tensor, offsets: Tensor | None = None) -> Tensor:
        indices = as_tensor(indices)
        if indices.ndim != (2 if offsets is None else 1):
            raise ValueError(f"EmbeddingBag: indices (bags, n), or (n,) and offsets wanted, got shape {indices.shape} "
                             f"{'without' if offsets is None else 'and'} offsets")
        rows, module = super().forward(indices.reshape(-1)), xp(self.weight._array)
        places = module.arange(len(rows))
        if offsets is None:
            bags, bag = len(indices), places // max(indices.shape[1], 1)
        else:
            offsets = module.asarray(as_tensor(offsets)._array)
            if offsets.ndim != 1 or offsets.dtype.kind not in "iu" or module is np and not (
                    0 == offsets[:1].sum() <= offsets[-1:].sum() <= len(rows) and (offsets[1:] >= offsets[:-1]).all()
                    and (len(offsets) or not len(rows))):
                raise ValueError(f"EmbeddingBag: offsets must be integers (bags,) that rise from 0 to at most {len(rows)}")
            bags, bag = len(offsets), module.searchsorted(offsets, places, side="right") - 1
        named = module.asarray(indices._array).reshape(-1, 1) != (-1 if self.padding_idx is None else self.padding_idx)
        total = ops.index_add(module.zeros((bags, rows.shape[1]), rows.dtype), bag, ops.where(named, rows, 0))
        if self.mode == "sum":
            return total
        count = ops.index_add(module.zeros((bags, 1), np.float32), bag, named.astype(np.float32))
        return total / ops.maximum(count, 1).astype(rows.dtype)


# -- convolution and pooling -----------------------------------------------------------------------------------------


def convolved(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None, *geometry) -> Tensor:
    """`conv2d` and an activation: None, "relu" or "relu6"."""
    if activation is None:
        return ops.conv2d(x, weight, bias, *geometry)
    return ops.conv2d_relu(x, weight, bias, *geometry, most={"relu": math.inf, "relu6": 6}[activation])


class _Conv(Module):
    axes, transposed, padding_mode = 2, False, "zeros"

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Lengths, stride: Lengths = 1,
                 padding: Lengths | str = 0, dilation: Lengths = 1, groups: int = 1, bias: bool = True,
                 padding_mode: str = "zeros"):
        in_channels, out_channels = sizes(self, in_channels=in_channels, out_channels=out_channels)
        (bias,) = flags(self, bias=bias)
        groups = whole(type(self).__name__, "groups", groups, 1)
        if in_channels % groups or out_channels % groups:
            raise ValueError(f"{type(self).__name__}: {in_channels} and {out_channels} channels do not divide into "
                             f"{groups} groups")
        kernel = _lengths(self, self.axes, "kernel_size", kernel_size)
        channels = (in_channels, out_channels // groups) if self.transposed else (out_channels, in_channels // groups)
        fan_in = channels[1] * math.prod(kernel)
        self.weight = uniform((*channels, *kernel), fan_in)
        self.bias = uniform((out_channels,), fan_in) if bias else None
        words = () if self.transposed else (("padding", "same"), ("padding", "valid"))
        _windows(self, self.axes, words, stride=stride, padding=padding, dilation=dilation)
        same_padding(type(self).__name__, padding, _lengths(self, self.axes, "stride", stride), stride)
        modes = ("zeros",) if self.transposed else ("zeros", "reflect", "replicate", "circular")
        self.groups, self.padding_mode = groups, one_of(type(self).__name__, "padding_mode", padding_mode, modes)

    def _padded(self, x):
        """The input, with what is not zeros around it, and the padding that is left to the convolution."""
        x = as_tensor(x)
        word = self.padding if isinstance(self.padding, str) else None
        if self.padding_mode == "zeros" or word == "valid" or x.ndim < self.axes + 1:
            return x, self.padding
        if word == "same":
            total = [d * (k - 1) for k, d in zip(self.weight.shape[2:], _lengths(self, self.axes, "dilation", self.dilation))]
            sides = [(n // 2, n - n // 2) for n in total]
        else:
            sides = [(n, n) for n in _lengths(self, self.axes, "padding", self.padding)]
        return F.pad(x, tuple(n for side in sides[::-1] for n in side), self.padding_mode), 0


class Conv1d(_Conv):
    """`conv1d` with weight (out, in / groups, k) and bias (out,) or None; `padding_mode` as of `Conv2d`."""

    axes = 1

    def forward(self, x: Tensor) -> Tensor:
        x, padding = self._padded(x)
        return ops.conv1d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class Conv2d(_Conv):
    """`conv2d` with weight (out, in / groups, kh, kw) and bias (out,) or None.

    Args:
        padding_mode: what stands in the padding: "zeros", or by `functional.pad` "reflect", "replicate" or "circular".
    """

    def forward(self, x: Tensor) -> Tensor:
        return self.convolve(x, self.weight, self.bias)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None = None) -> Tensor:
        """The layer with another weight and bias, and behind it None, "relu" or "relu6"."""
        x, padding = self._padded(x)
        return convolved(x, weight, bias, activation, self.stride, padding, self.dilation, self.groups)


class ConvTranspose2d(_Conv):
    """`conv_transpose2d` with weight (in, out / groups, kh, kw) and bias (out,) or None."""

    transposed, function = True, staticmethod(ops.conv_transpose2d)

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Lengths, stride: Lengths = 1, padding: Lengths = 0,
                 output_padding: Lengths = 0, groups: int = 1, bias: bool = True, dilation: Lengths = 1):
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        _windows(self, self.axes, output_padding=output_padding)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.weight, self.bias, self.stride, self.padding, self.output_padding, self.groups,
                             self.dilation)


class ConvTranspose1d(ConvTranspose2d):
    """`conv_transpose1d` with weight (in, out / groups, k) and bias (out,) or None."""

    axes, function = 1, staticmethod(ops.conv_transpose1d)


class Unfold(Module):
    """`unfold`."""

    def __init__(self, kernel_size: Lengths, dilation: Lengths = 1, padding: Lengths = 0, stride: Lengths = 1):
        _windows(self, 2, kernel_size=kernel_size, dilation=dilation, padding=padding, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        return ops.unfold(x, self.kernel_size, self.dilation, self.padding, self.stride)


class Fold(Module):
    """`fold`."""

    def __init__(self, output_size: Lengths, kernel_size: Lengths, dilation: Lengths = 1, padding: Lengths = 0,
                 stride: Lengths = 1):
        _windows(self, 2, output_size=output_size, kernel_size=kernel_size, dilation=dilation, padding=padding, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        return ops.fold(x, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)


class MaxPool2d(Module):
    """`max_pool2d`."""

    axes, function = 2, staticmethod(ops.max_pool2d)

    def __init__(self, kernel_size: Lengths, stride: Lengths | None = None, padding: Lengths = 0, dilation: Lengths = 1,
                 return_indices: bool = False, ceil_mode: bool = False):
        _windows(self, self.axes, [("stride", None)], kernel_size=kernel_size, stride=stride, padding=padding,
                 dilation=dilation)
        self.return_indices, self.ceil_mode = flags(self, return_indices=return_indices, ceil_mode=ceil_mode)

    def forward(self, x: Tensor) -> OneOrMore:
        return self.function(x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode,
                             self.return_indices)


class AvgPool2d(Module):
    """`avg_pool2d`."""

    axes, function = 2, staticmethod(ops.avg_pool2d)

    def __init__(self, kernel_size: Lengths, stride: Lengths | None = None, padding: Lengths = 0, ceil_mode: bool = False,
                 count_include_pad: bool = True):
        _windows(self, self.axes, [("stride", None)], kernel_size=kernel_size, stride=stride, padding=padding)
        self.ceil_mode, self.count_include_pad = flags(self, ceil_mode=ceil_mode, count_include_pad=count_include_pad)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)


class MaxPool1d(MaxPool2d):
    """`max_pool1d`."""

    axes, function = 1, staticmethod(ops.max_pool1d)


class AvgPool1d(AvgPool2d):
    """`avg_pool1d`."""

    axes, function = 1, staticmethod(ops.avg_pool1d)


class AdaptiveAvgPool2d(Module):
    """`adaptive_avg_pool2d`; with `output_size=1` global average pooling."""

    axes, function = 2, staticmethod(ops.adaptive_avg_pool2d)

    def __init__(self, output_size: Lengths):
        if self.axes == 1:
            single(type(self).__name__, "output_size", output_size, 1)
        else:
            lengths = several(output_size) or (output_size, output_size)
            pair(type(self).__name__, "output_size", [1 if n is None else n for n in lengths], 1)
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.output_size)


class AdaptiveMaxPool2d(AdaptiveAvgPool2d):
    """`adaptive_max_pool2d`."""

    function = staticmethod(ops.adaptive_max_pool2d)


class AdaptiveAvgPool1d(AdaptiveAvgPool2d):
    """`adaptive_avg_pool1d`; with `output_size=1` the mean over the sequence."""

    axes, function = 1, staticmethod(ops.adaptive_avg_pool1d)


class AdaptiveMaxPool1d(AdaptiveAvgPool2d):
    """`adaptive_max_pool1d`."""

    axes, function = 1, staticmethod(ops.adaptive_max_pool1d)


class Upsample(Module):
    """`interpolate`."""

    def __init__(self, size: Lengths | None = None, scale_factor: float | None = None, mode: str = "nearest",
                 align_corners: bool | None = False):
        if size is not None:
            pair("Upsample", "size", size, 1)
        if scale_factor is not None:
            factors("Upsample", scale_factor)
        self.size, self.scale_factor, self.mode = size, scale_factor, one_of("Upsample", "mode", mode, tuple(MODES))
        (self.align_corners,) = flags(self, align_corners=False if align_corners is None else align_corners)
        check_aligned("Upsample", self.align_corners, mode)

    def forward(self, x: Tensor) -> Tensor:
        return ops.interpolate(x, self.size, self.scale_factor, mode=self.mode, align_corners=self.align_corners)


class PixelShuffle(Module):
    """`pixel_shuffle`."""

    def __init__(self, upscale_factor: int):
        (self.upscale_factor,) = sizes(self, 1, upscale_factor=upscale_factor)

    def forward(self, x: Tensor) -> Tensor:
        return ops.pixel_shuffle(x, self.upscale_factor)


class PixelUnshuffle(Module):
    """`pixel_unshuffle`."""

    def __init__(self, downscale_factor: int):
        (self.downscale_factor,) = sizes(self, 1, downscale_factor=downscale_factor)

    def forward(self, x: Tensor) -> Tensor:
        return ops.pixel_unshuffle(x, self.downscale_factor)


class ZeroPad2d(Module):
    """Zeros around images (N, C, H, W) or (C, H, W): `functional.pad`.

    Args:
        padding: one number for all sides, or (left, right, top, bottom).
    """

    axes, mode, value = 2, "constant", 0.0
    sides, inputs = "four of them (left, right, top, bottom)", "images (N, C, H, W) or (C, H, W)"

    def __init__(self, padding: Lengths):
        sides = several(padding) or (padding,) * (2 * self.axes)
        if len(sides) != 2 * self.axes:
            raise ValueError(f"{type(self).__name__}: padding must be a whole number or {self.sides}, not {padding!r}")
        self.padding = tuple(whole(type(self).__name__, "padding", n, 0) for n in sides)

    def forward(self, x: Tensor) -> Tensor:
        x = as_tensor(x)
        if x.ndim not in (self.axes + 1, self.axes + 2):
            raise ValueError(f"{type(self).__name__}: {self.inputs} wanted, got shape {x.shape}")
        return F.pad(x, self.padding, self.mode, self.value)


class ConstantPad2d(ZeroPad2d):
    """A number around images, otherwise as `ZeroPad2d`."""

    def __init__(self, padding: Lengths, value: float):
        super().__init__(padding)
        self.value = value if isinstance(value, float) and math.isinf(value) else real(type(self).__name__, "value", value)


class ReflectionPad2d(ZeroPad2d):
    """Images mirrored at their outermost pixels, which are not repeated; otherwise as `ZeroPad2d`."""

    mode = "reflect"


class ReplicationPad2d(ZeroPad2d):
    """The outermost pixels of images repeated; otherwise as `ZeroPad2d`."""

    mode = "replicate"


class CircularPad2d(ZeroPad2d):
    """Images continued by their opposite side; otherwise as `ZeroPad2d`."""

    mode = "circular"


class _Pad1d(ZeroPad2d):
    axes, sides, inputs = 1, "two of them (left, right)", "sequences (N, C, L) or (C, L)"


class ZeroPad1d(_Pad1d):
    """Zeros around sequences (N, C, L) or (C, L). `padding`: one number for both sides, or (left, right)."""


class ConstantPad1d(_Pad1d, ConstantPad2d):
    """A number around sequences, otherwise as `ZeroPad1d`."""


class ReflectionPad1d(_Pad1d, ReflectionPad2d):
    """Sequences mirrored at their outermost elements, which are not repeated; otherwise as `ZeroPad1d`."""


class ReplicationPad1d(_Pad1d, ReplicationPad2d):
    """The outermost elements of sequences repeated; otherwise as `ZeroPad1d`."""


class CircularPad1d(_Pad1d, CircularPad2d):
    """Sequences continued by their other end; otherwise as `ZeroPad1d`."""


class Flatten(Module):
    """The axes from `start_dim` to `end_dim` joined into one."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1):
        self.start_dim, self.end_dim = sizes(self, -math.inf, start_dim=start_dim, end_dim=end_dim)

    def forward(self, x: Tensor) -> Tensor:
        return ops.flatten(x, self.start_dim, self.end_dim)


class Unflatten(Module):
    """The axis `dim` as several, of the lengths `unflattened_size`, one of which may be -1.

    ValueError, when it is called, if the axis has not as many elements.
    """

    def __init__(self, dim: int, unflattened_size: Sequence[int]):
        (self.dim,) = sizes(self, -math.inf, dim=dim)
        lengths = several(unflattened_size)
        if not lengths:
            raise ValueError(f"Unflatten: unflattened_size must be whole numbers, one for each axis, not {unflattened_size!r}")
        self.unflattened_size = tuple(whole("Unflatten", "unflattened_size", n, -1) for n in lengths)

    def forward(self, x: Tensor) -> Tensor:
        x = as_tensor(x)
        dim = one_axis("Unflatten", self.dim, x.ndim)
        return x.reshape(*x.shape[:dim], *_lengths_of(x.shape[dim], self.unflattened_size), *x.shape[dim + 1:])


def _lengths_of(n, lengths):
    """Lengths whose product is n, in the place of one of -1 what is left. ValueError: there are none."""
    known = math.prod(m for m in lengths if m != -1)
    full = tuple(n // known if m == -1 and known else m for m in lengths)
    if -1 in lengths and not known or lengths.count(-1) > 1 or math.prod(full) != n:
        raise ValueError(f"Unflatten: {n} elements do not divide into an axis for each of {lengths}")
    return full


# -- normalisation ---------------------------------------------------------------------------------------------------


def _affine(shape, weight, bias):
    """A weight of ones and a bias of zeros, or None in place of what is not wanted."""
    return init.ones_(parameter(*shape)) if weight else None, init.zeros_(parameter(*shape)) if bias else None


class BatchNorm2d(Module):
    """`batch_norm`, with running statistics for evaluation.

    Without `track_running_stats` the batch's statistics serve in evaluation too. `splits` as of `batch_norm`.
    """

    dims = (4,)

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True,
                 track_running_stats: bool = True, splits: int = 1):
        (num_features,) = sizes(self, num_features=num_features)
        affine, track_running_stats = flags(self, affine=affine, track_running_stats=track_running_stats)
        self.weight, self.bias = _affine((num_features,), affine, affine)
        self.running_mean = np.zeros(num_features, np.float32) if track_running_stats else None
        self.running_var = np.ones(num_features, np.float32) if track_running_stats else None
        (self.splits,) = sizes(self, 1, splits=splits)
        self.eps = real(type(self).__name__, "eps", eps, 0)
        self.momentum = constant(type(self).__name__, "momentum", momentum, 0, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = as_tensor(x)
        if x.ndim not in self.dims:
            raise ValueError(f"{type(self).__name__}: a Tensor of {' or '.join(map(str, self.dims))} axes wanted, "
                             f"got shape {x.shape}")
        training = self.training or self.running_mean is None
        return ops.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, training=training,
                              momentum=self.momentum, eps=self.eps, splits=self.splits)


class BatchNorm1d(BatchNorm2d):
    """`batch_norm` of (N, C) or (N, C, L)."""

    dims = (2, 3)


def conv_norm(conv: Module, norm: Module, x: Tensor, activation: str | None = None) -> Tensor:
    """activation(norm(conv(x))), the activation None, "relu" or "relu6"; in evaluation with fewer passes over the images.

    Batch norm is linear then, and goes into the filters, unless these have more numbers than the images have pixels.
    """
    x = as_tensor(x)
    fixed = isinstance(norm, BatchNorm2d) and not norm.training and norm.running_mean is not None
    fits = isinstance(conv, Conv2d) and x.ndim == 4
    if not fixed or not fits or len(x) * math.prod(x.shape[2:]) < math.prod(conv.weight.shape[1:]):
        y = norm(conv(x))
        return y if activation is None else getattr(ops, activation)(y)
    return conv.convolve(x, *(as_tensor(a).astype(conv.weight.dtype) for a in _folded(conv, norm)), activation)


def _folded(conv, norm):
    """The filters and the bias of `conv` followed by `norm` with its running statistics."""
    inputs = conv.weight, norm.weight, norm.bias
    plain = conv.bias is None and not isinstance(norm.eps, Tensor)
    if plain and not any([a is None or (a.requires_grad and state.recording) for a in inputs]):
        arrays = [*[a._array for a in inputs], norm.running_mean, norm.running_var]
        if found := path("fold_norm", arrays):
            return found.forward(*arrays, norm.eps)
    scale = 1 / np.sqrt(norm.running_var + norm.eps)
    scale = scale if norm.weight is None else norm.weight * scale
    shift = (0 if conv.bias is None else conv.bias) - norm.running_mean
    shift = shift * scale if norm.bias is None else shift * scale + norm.bias
    return conv.weight * scale.reshape(-1, 1, 1, 1), shift


def _normalized(layer, shape):
    return tuple(whole(type(layer).__name__, "normalized_shape", n, 0) for n in several(shape) or (shape,))


class LayerNorm(Module):
    """`layer_norm` over the last axes, of shape `normalized_shape`, with weight and bias of that shape."""

    def __init__(self, normalized_shape: Lengths, eps: float = 1e-5, elementwise_affine: bool = True, bias: bool = True):
        self.normalized_shape, self.eps = _normalized(self, normalized_shape), real(type(self).__name__, "eps", eps, 0)
        elementwise_affine, bias = flags(self, elementwise_affine=elementwise_affine, bias=bias)
        self.weight, self.bias = _affine(self.normalized_shape, elementwise_affine, elementwise_affine and bias)

    def forward(self, x: Tensor) -> Tensor:
        return ops.layer_norm(x, self.normalized_shape, self.weight, self.bias, eps=self.eps)


class RMSNorm(Module):
    """`rms_norm` over the last axes, of shape `normalized_shape`, with a weight of that shape."""

    def __init__(self, normalized_shape: Lengths, eps: float = 1e-6, elementwise_affine: bool = True):
        self.normalized_shape, self.eps = _normalized(self, normalized_shape), real(type(self).__name__, "eps", eps, 0)
        self.weight, _ = _affine(self.normalized_shape, *flags(self, elementwise_affine=elementwise_affine), False)

    def forward(self, x: Tensor) -> Tensor:
        return ops.rms_norm(x, self.normalized_shape, self.weight, eps=self.eps)


class GroupNorm(Module):
    """`group_norm` of (N, num_channels, ...)."""

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True):
        (num_channels,), (num_groups,) = sizes(self, num_channels=num_channels), sizes(self, 1, num_groups=num_groups)
        if num_channels % num_groups:
            raise ValueError(f"GroupNorm: {num_channels} channels do not divide into {num_groups} groups")
        (affine,) = flags(self, affine=affine)
        self.num_groups, self.eps = num_groups, real("GroupNorm", "eps", eps, 0)
        self.weight, self.bias = _affine((num_channels,), affine, affine)

    def forward(self, x: Tensor) -> Tensor:
        return ops.group_norm(x, self.num_groups, self.weight, self.bias, eps=self.eps)


class InstanceNorm2d(Module):
    """Each channel of each image normalised by its own mean and variance: `group_norm` with a group per channel.

    Ulyanov, Vedaldi and Lempitsky 2016, arXiv:1607.08022. As in PyTorch there is no weight and bias unless `affine`. ValueError
    where, in training, a channel has a single number: it would always be 0.
    """

    dims = "(N, C, H, W)"

    def __init__(self, num_features: int, eps: float = 1e-5, *, affine: bool = False):  # PyTorch's third is a momentum
        (self.num_features,), (affine,) = sizes(self, 1, num_features=num_features), flags(self, affine=affine)
        self.eps = real(type(self).__name__, "eps", eps, 0)
        self.weight, self.bias = _affine((num_features,), affine, affine)

    def forward(self, x: Tensor) -> Tensor:
        x = as_tensor(x)
        if x.ndim != self.dims.count(",") + 1 or x.shape[1] != self.num_features:
            raise ValueError(f"{type(self).__name__}: {self.dims} with C = {self.num_features} wanted, got shape {x.shape}")
        if self.training and math.prod(x.shape[2:]) == 1:
            raise ValueError(f"{type(self).__name__}: more than one number for each channel wanted, got shape {x.shape}")
        return ops.group_norm(x, self.num_features, self.weight, self.bias, eps=self.eps)


class InstanceNorm1d(InstanceNorm2d):
    """`InstanceNorm2d` of (N, C, L)."""

    dims = "(N, C, L)"


class WeightNorm(Module):
    """A layer whose weight is g v / |v|, with parameters `weight_g` and `weight_v` in its place (`weight_norm`).

    Args:
        layer: a Module with a `weight`; the norm is taken for each index of the weight's first axis.
    """

    def __init__(self, layer: Module):
        if not isinstance(getattr(layer, "weight", None), Parameter):
            raise TypeError(f"WeightNorm: a layer with a parameter `weight` wanted, got {type(layer).__name__}")
        v = layer.weight._array
        length = np.sqrt((v * v).sum(axis=tuple(range(1, v.ndim)), keepdims=True))
        self.weight_g, self.weight_v, self.layer = Parameter(length), Parameter(v), layer
        del layer.weight

    def forward(self, x: Tensor) -> Tensor:
        with replacing(self.layer):
            self.layer.weight = ops.weight_norm(self.weight_v, self.weight_g)
            try:
                return self.layer(x)
            finally:
                del self.layer.weight


# -- similarity ------------------------------------------------------------------------------------------------------


class CosineSimilarity(Module):
    """`cosine_similarity` of two Tensors along `dim`."""

    def __init__(self, dim: int = 1, eps: float = 1e-8):
        (self.dim,), self.eps = sizes(self, -math.inf, dim=dim), real("CosineSimilarity", "eps", eps, 0)

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        return F.cosine_similarity(x1, x2, self.dim, self.eps)


class PairwiseDistance(Module):
    """`functional.pairwise_distance` of two Tensors along the last axis."""

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False):
        self.p, self.eps = order("PairwiseDistance", p), real("PairwiseDistance", "eps", eps, 0)
        (self.keepdim,) = flags(self, keepdim=keepdim)

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        return F.pairwise_distance(x1, x2, self.p, self.eps, self.keepdim)


# -- activations -----------------------------------------------------------------------------------------------------


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.relu(x)


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.sigmoid(x)


class Tanh(Module):
    """The hyperbolic tangent."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.tanh(x)


class SiLU(Module):
    """`silu`."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.silu(x)


class GELU(Module):
    """`gelu`."""

    def __init__(self, approximate: str = "none"):
        self.approximate = one_of("GELU", "approximate", approximate, ("none", "tanh"))

    def forward(self, x: Tensor) -> Tensor:
        return ops.gelu(x, approximate=self.approximate)


class LeakyReLU(Module):
    """`leaky_relu`."""

    def __init__(self, negative_slope: float = 0.01):
        self.negative_slope = real("LeakyReLU", "negative_slope", negative_slope)

    def forward(self, x: Tensor) -> Tensor:
        return ops.leaky_relu(x, negative_slope=self.negative_slope)


class Softplus(Module):
    """`softplus`."""

    def __init__(self, beta: float = 1.0):
        self.beta = divisor("Softplus", "beta", beta)

    def forward(self, x: Tensor) -> Tensor:
        return ops.softplus(x, beta=self.beta)


class Softmax(Module):
    """`softmax`."""

    def __init__(self, dim: int = -1):
        (self.dim,) = sizes(self, -math.inf, dim=dim)

    def forward(self, x: Tensor) -> Tensor:
        return ops.softmax(x, axis=self.dim)


class LogSoftmax(Softmax):
    """`log_softmax`."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.log_softmax(x, axis=self.dim)


class GLU(Softmax):
    """`glu`."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.glu(x, axis=self.dim)


class ReLU6(Module):
    """min(max(x, 0), 6)."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.relu6(x)


class Hardswish(Module):
    """x min(max(x + 3, 0), 6) / 6."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.hardswish(x)


class Hardsigmoid(Module):
    """min(max(x + 3, 0), 6) / 6."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.hardsigmoid(x)


class Mish(Module):
    """x tanh(softplus(x))."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.mish(x)


class SELU(Module):
    """`selu`."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.selu(x)


class Softsign(Module):
    """x / (1 + |x|)."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.softsign(x)


class LogSigmoid(Module):
    """log(1 / (1 + exp(-x)))."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.logsigmoid(x)


class Hardtanh(Module):
    """min(max(x, min_val), max_val)."""

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0):
        self.min_val = real("Hardtanh", "min_val", min_val)
        self.max_val = real("Hardtanh", "max_val", max_val, float(self.min_val))

    def forward(self, x: Tensor) -> Tensor:
        return ops.hardtanh(x, self.min_val, self.max_val)


class ELU(Module):
    """x where x > 0, else alpha (exp(x) - 1)."""

    def __init__(self, alpha: float = 1.0):
        self.alpha = real("ELU", "alpha", alpha)

    def forward(self, x: Tensor) -> Tensor:
        return ops.elu(x, alpha=self.alpha)


class CELU(Module):
    """x where x > 0, else alpha (exp(x / alpha) - 1)."""

    def __init__(self, alpha: float = 1.0):
        self.alpha = divisor("CELU", "alpha", alpha)

    def forward(self, x: Tensor) -> Tensor:
        return ops.celu(x, alpha=self.alpha)


class Hardshrink(Module):
    """x where |x| > lambd, else 0."""

    def __init__(self, lambd: float = 0.5):
        self.lambd = constant("Hardshrink", "lambd", lambd, 0)

    def forward(self, x: Tensor) -> Tensor:
        return ops.hardshrink(x, self.lambd)


class Softshrink(Module):
    """x - lambd sign(x) where |x| > lambd, else 0."""

    def __init__(self, lambd: float = 0.5):
        self.lambd = real("Softshrink", "lambd", lambd, 0)

    def forward(self, x: Tensor) -> Tensor:
        return ops.softshrink(x, self.lambd)


class Threshold(Module):
    """x where x > threshold, else value."""

    def __init__(self, threshold: float, value: float):
        self.threshold = constant("Threshold", "threshold", threshold)
        self.value = real("Threshold", "value", value)

    def forward(self, x: Tensor) -> Tensor:
        return ops.threshold(x, self.threshold, self.value)


class PReLU(Module):
    """`prelu` with one weight, or one for each of `num_parameters` channels, which start at `init`."""

    def __init__(self, num_parameters: int = 1, init: float = 0.25):
        self.weight = Parameter(np.full(sizes(self, num_parameters=num_parameters), constant("PReLU", "init", init),
                                        np.float32))

    def forward(self, x: Tensor) -> Tensor:
        return ops.prelu(x, self.weight)


# -- dropout ---------------------------------------------------------------------------------------------------------


class Dropout(Module):
    """`dropout` in training, nothing in evaluation."""

    def __init__(self, p: float = 0.5):
        self.p = constant(type(self).__name__, "p", p, 0, 1)

    def forward(self, x: Tensor) -> Tensor:
        return ops.dropout(x, self.p, training=self.training)


class Dropout2d(Dropout):
    """`dropout2d` in training, nothing in evaluation."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.dropout2d(x, self.p, training=self.training)


class DropPath(Module):
    """`drop_path` in training, nothing in evaluation."""

    def __init__(self, p: float = 0.0):
        self.p = constant(type(self).__name__, "p", p, 0, 1)

    def forward(self, x: Tensor) -> Tensor:
        return ops.drop_path(x, self.p, training=self.training)
