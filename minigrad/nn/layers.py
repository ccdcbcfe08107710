"""Layers. Names and arguments are PyTorch's; weights start as PyTorch's do, uniform in +-1/sqrt(fan-in)."""
import math

import numpy as np

from .. import ops
from ..ops.geometry import whole
from ..tensor import as_tensor, Tensor
from . import init
from .module import Module, Parameter

Lengths = int | tuple[int, ...]  # one for all axes, or one for each


def parameter(*shape: int) -> Parameter:
    """A float32 Parameter whose numbers a function of `init` is still to write."""
    return Parameter(np.empty(shape, np.float32))


def uniform(shape: tuple[int, ...], fan_in: int) -> Parameter:
    """A Parameter, uniform in +-1/sqrt(fan_in)."""
    bound = 1 / math.sqrt(fan_in) if fan_in else 0
    return init.uniform_(parameter(*shape), -bound, bound)


def sizes(layer: Module, least: int = 0, **values: int) -> list[int]:
    """A layer's sizes as whole numbers. ValueError, which names layer and argument, for one below `least`, or no whole one."""
    return [whole(type(layer).__name__, name, value, least) for name, value in values.items()]


def _tuple(value, length):
    return tuple(value) if np.iterable(value) else (value,) * length


class Identity(Module):
    """x."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class Linear(Module):
    """y = x W^T + b: (..., in_features) to (..., out_features). weight (out, in), bias (out,) or None."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True):
        in_features, out_features = sizes(self, in_features=in_features, out_features=out_features)
        self.weight = uniform((out_features, in_features), in_features)
        self.bias = uniform((out_features,), in_features) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return ops.linear(x, self.weight, self.bias)


class Embedding(Module):
    """Rows of `weight` (num_embeddings, embedding_dim) by index; that of `padding_idx` starts at 0 and gets no gradient."""

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None):
        shape = sizes(self, num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        self.weight, self.padding_idx = init.normal_(parameter(*shape)), padding_idx
        if padding_idx is not None:
            self.weight._array[padding_idx] = 0

    def forward(self, indices: Tensor) -> Tensor:
        return ops.embedding(indices, self.weight, padding_idx=self.padding_idx)


# -- convolution and pooling -----------------------------------------------------------------------------------------


class _Conv(Module):
    axes, transposed = 2, False

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Lengths, stride: Lengths = 1, padding: Lengths = 0,
                 dilation: Lengths = 1, groups: int = 1, bias: bool = True):
        in_channels, out_channels = sizes(self, in_channels=in_channels, out_channels=out_channels)
        (groups,) = sizes(self, 1, groups=groups)
        if in_channels % groups or out_channels % groups:
            raise ValueError(f"{type(self).__name__}: {in_channels} and {out_channels} channels do not divide into "
                             f"{groups} groups")
        kernel = [whole(type(self).__name__, "kernel_size", n, 1) for n in _tuple(kernel_size, self.axes)]
        channels = (in_channels, out_channels // groups) if self.transposed else (out_channels, in_channels // groups)
        fan_in = channels[1] * math.prod(kernel)
        self.weight = uniform((*channels, *kernel), fan_in)
        self.bias = uniform((out_channels,), fan_in) if bias else None
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups


class Conv1d(_Conv):
    """`conv1d` with weight (out, in / groups, k) and bias (out,) or None."""

    axes = 1

    def forward(self, x: Tensor) -> Tensor:
        return ops.conv1d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Conv2d(_Conv):
    """`conv2d` with weight (out, in / groups, kh, kw) and bias (out,) or None."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class ConvTranspose2d(_Conv):
    """`conv_transpose2d` with weight (in, out / groups, kh, kw) and bias (out,) or None."""

    transposed, function = True, staticmethod(ops.conv_transpose2d)

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Lengths, stride: Lengths = 1, padding: Lengths = 0,
                 output_padding: Lengths = 0, groups: int = 1, bias: bool = True, dilation: Lengths = 1):
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        self.output_padding = output_padding

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.weight, self.bias, self.stride, self.padding, self.output_padding, self.groups,
                             self.dilation)


class ConvTranspose1d(ConvTranspose2d):
    """`conv_transpose1d` with weight (in, out / groups, k) and bias (out,) or None."""

    axes, function = 1, staticmethod(ops.conv_transpose1d)


class MaxPool2d(Module):
    """`max_pool2d`."""

    def __init__(self, kernel_size: Lengths, stride: Lengths | None = None, padding: Lengths = 0):
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        return ops.max_pool2d(x, self.kernel_size, self.stride, self.padding)


class AvgPool2d(MaxPool2d):
    """`avg_pool2d`."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.avg_pool2d(x, self.kernel_size, self.stride, self.padding)


class MaxPool1d(MaxPool2d):
    """`max_pool1d`."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.max_pool1d(x, self.kernel_size, self.stride, self.padding)


class AvgPool1d(MaxPool2d):
    """`avg_pool1d`."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.avg_pool1d(x, self.kernel_size, self.stride, self.padding)


class AdaptiveAvgPool2d(Module):
    """`adaptive_avg_pool2d`; with `output_size=1` global average pooling."""

    def __init__(self, output_size: Lengths):
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        return ops.adaptive_avg_pool2d(x, self.output_size)


class AdaptiveMaxPool2d(AdaptiveAvgPool2d):
    """`adaptive_max_pool2d`."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.adaptive_max_pool2d(x, self.output_size)


class Upsample(Module):
    """`interpolate`."""

    def __init__(self, size: Lengths | None = None, scale_factor: float | None = None, mode: str = "nearest",
                 align_corners: bool = False):
        self.size, self.scale_factor, self.mode, self.align_corners = size, scale_factor, mode, align_corners

    def forward(self, x: Tensor) -> Tensor:
        return ops.interpolate(x, self.size, self.scale_factor, mode=self.mode, align_corners=self.align_corners)


class Flatten(Module):
    """The axes from `start_dim` to `end_dim` joined into one."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1):
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Tensor) -> Tensor:
        return ops.flatten(x, self.start_dim, self.end_dim)


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
        self.weight, self.bias = _affine((num_features,), affine, affine)
        self.running_mean = np.zeros(num_features, np.float32) if track_running_stats else None
        self.running_var = np.ones(num_features, np.float32) if track_running_stats else None
        self.eps, self.momentum, self.splits = eps, momentum, splits

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


def _normalized(layer, shape):
    return tuple(whole(type(layer).__name__, "normalized_shape", n, 0) for n in _tuple(shape, 1))


class LayerNorm(Module):
    """`layer_norm` over the last axes, of shape `normalized_shape`, with weight and bias of that shape."""

    def __init__(self, normalized_shape: Lengths, eps: float = 1e-5, elementwise_affine: bool = True, bias: bool = True):
        self.normalized_shape, self.eps = _normalized(self, normalized_shape), eps
        self.weight, self.bias = _affine(self.normalized_shape, elementwise_affine, elementwise_affine and bias)

    def forward(self, x: Tensor) -> Tensor:
        return ops.layer_norm(x, self.normalized_shape, self.weight, self.bias, eps=self.eps)


class RMSNorm(Module):
    """`rms_norm` over the last axes, of shape `normalized_shape`, with a weight of that shape."""

    def __init__(self, normalized_shape: Lengths, eps: float = 1e-6, elementwise_affine: bool = True):
        self.normalized_shape, self.eps = _normalized(self, normalized_shape), eps
        self.weight, _ = _affine(self.normalized_shape, elementwise_affine, False)

    def forward(self, x: Tensor) -> Tensor:
        return ops.rms_norm(x, self.normalized_shape, self.weight, eps=self.eps)


class GroupNorm(Module):
    """`group_norm` of (N, num_channels, ...)."""

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True):
        (num_channels,), (num_groups,) = sizes(self, num_channels=num_channels), sizes(self, 1, num_groups=num_groups)
        if num_channels % num_groups:
            raise ValueError(f"GroupNorm: {num_channels} channels do not divide into {num_groups} groups")
        self.num_groups, self.eps = num_groups, eps
        self.weight, self.bias = _affine((num_channels,), affine, affine)

    def forward(self, x: Tensor) -> Tensor:
        return ops.group_norm(x, self.num_groups, self.weight, self.bias, eps=self.eps)


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
        self.layer.weight = ops.weight_norm(self.weight_v, self.weight_g)
        try:
            return self.layer(x)
        finally:
            del self.layer.weight


# -- activations and dropout -----------------------------------------------------------------------------------------


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
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        return ops.gelu(x, approximate=self.approximate)


class LeakyReLU(Module):
    """`leaky_relu`."""

    def __init__(self, negative_slope: float = 0.01):
        self.negative_slope = negative_slope

    def forward(self, x: Tensor) -> Tensor:
        return ops.leaky_relu(x, negative_slope=self.negative_slope)


class Softplus(Module):
    """`softplus`."""

    def __init__(self, beta: float = 1.0):
        self.beta = beta

    def forward(self, x: Tensor) -> Tensor:
        return ops.softplus(x, beta=self.beta)


class Softmax(Module):
    """`softmax`."""

    def __init__(self, dim: int = -1):
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return ops.softmax(x, axis=self.dim)


class Dropout(Module):
    """`dropout` in training, nothing in evaluation."""

    def __init__(self, p: float = 0.5):
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return ops.dropout(x, self.p, training=self.training)


class DropPath(Module):
    """`drop_path` in training, nothing in evaluation."""

    def __init__(self, p: float = 0.0):
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return ops.drop_path(x, self.p, training=self.training)


class ReLU6(Module):
    """min(max(x, 0), 6)."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.relu6(x)


class Hardswish(Module):
    """x min(max(x + 3, 0), 6) / 6."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.hardswish(x)


class Mish(Module):
    """x tanh(softplus(x))."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.mish(x)


class ELU(Module):
    """x where x > 0, else alpha (exp(x) - 1)."""

    def __init__(self, alpha: float = 1.0):
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        return ops.elu(x, alpha=self.alpha)


class PReLU(Module):
    """`prelu` with one weight, or one for each of `num_parameters` channels, which start at `init`."""

    def __init__(self, num_parameters: int = 1, init: float = 0.25):
        self.weight = Parameter(np.full(sizes(self, num_parameters=num_parameters), init, np.float32))

    def forward(self, x: Tensor) -> Tensor:
        return ops.prelu(x, self.weight)
