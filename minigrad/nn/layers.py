"""Layers. Names and arguments are PyTorch's; weights start as PyTorch's do, uniform in +-1/sqrt(fan-in)."""
import math

import numpy as np

from .. import ops
from ..backend import random
from .module import Module, Parameter


def _uniform(shape, fan_in):
    bound = 1 / math.sqrt(fan_in) if fan_in else 0
    return Parameter(random.generator().uniform(-bound, bound, shape).astype(np.float32))


class Linear(Module):
    """y = x W^T + b: (..., in_features) to (..., out_features). weight (out, in), bias (out,) or None."""

    def __init__(self, in_features, out_features, bias=True):
        self.weight = _uniform((out_features, in_features), in_features)
        self.bias = _uniform((out_features,), in_features) if bias else None

    def forward(self, x):
        y = ops.matmul(x, self.weight.T)
        return y if self.bias is None else y + self.bias


class Conv2d(Module):
    """`conv2d` with weight (out, in / groups, kh, kw) and bias (out,) or None."""

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1, bias=True):
        if in_channels % groups or out_channels % groups:
            raise ValueError(f"Conv2d: {in_channels} and {out_channels} channels do not divide into {groups} groups")
        kernel = tuple(kernel_size) if np.iterable(kernel_size) else (kernel_size, kernel_size)
        fan_in = in_channels // groups * math.prod(kernel)
        self.weight = _uniform((out_channels, in_channels // groups, *kernel), fan_in)
        self.bias = _uniform((out_channels,), fan_in) if bias else None
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups

    def forward(self, x):
        return ops.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class BatchNorm2d(Module):
    """`batch_norm` of (N, C, H, W), with running statistics for evaluation."""

    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        self.weight, self.bias = Parameter(np.ones(num_features, np.float32)), Parameter(np.zeros(num_features, np.float32))
        self.running_mean, self.running_var = np.zeros(num_features, np.float32), np.ones(num_features, np.float32)
        self.eps, self.momentum = eps, momentum

    def forward(self, x):
        return ops.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias,
                              self.training, self.momentum, self.eps)


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, x):
        return ops.relu(x)


class MaxPool2d(Module):
    """`max_pool2d`."""

    def __init__(self, kernel_size, stride=None, padding=0):
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding

    def forward(self, x):
        return ops.max_pool2d(x, self.kernel_size, self.stride, self.padding)


class AvgPool2d(MaxPool2d):
    """`avg_pool2d`."""

    def forward(self, x):
        return ops.avg_pool2d(x, self.kernel_size, self.stride, self.padding)


class Flatten(Module):
    """All axes but the first joined into one."""

    def forward(self, x):
        return ops.flatten(x, 1)
