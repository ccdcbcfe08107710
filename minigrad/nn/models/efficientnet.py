"""EfficientNet-Lite (Tan and Le 2019, arXiv:1905.11946, in the form for small devices: ReLU6, no squeeze-and-excitation).

Names are those of the files that hold TensorFlow's weights for PyTorch: _conv_stem, _blocks.3._depthwise_conv, ..., _fc.
"""
import math

import numpy as np

from ... import ops
from ...ops.geometry import constant, whole
from ...tensor import Tensor, as_tensor
from .. import init
from ..layers import BatchNorm2d, Conv2d, Dropout, DropPath, conv_norm, convolved
from ..module import Module
from .encoder import Encoder

STAGES = [  # blocks, kernel, stride of the first, expansion, channels
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320)]
VARIANTS = [(1.0, 1.0, 0.2), (1.0, 1.1, 0.2), (1.1, 1.2, 0.3), (1.2, 1.4, 0.3), (1.4, 1.8, 0.3)]  # width, depth, dropout
IMAGE_SIZES = [224, 240, 260, 280, 300]


class SameConv2d(Conv2d):
    """`conv2d` without bias, with TensorFlow's padding "same": ceil(H / stride) pixels from H.

    Where an odd number of rows is missing, the one more is added at the bottom, and that of columns on the right.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1):
        super().__init__(in_channels, out_channels, kernel_size, stride, groups=groups, bias=False)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None = None) -> Tensor:
        kernel, stride = weight.shape[-1], self.stride
        missing = [max((math.ceil(n / stride) - 1) * stride + kernel - n, 0) for n in (x.shape[-2:] if x.ndim > 2 else (1, 1))]
        # Zeros before the filter's first row do what one row less of padding there does, and to pad the images would copy them.
        before = [n % 2 for n in missing]
        if any(before):
            weight = ops.pad(weight, ((0, 0), (0, 0), (before[0], 0), (before[1], 0)))
        return convolved(x, weight, bias, activation, stride, tuple((n + 1) // 2 for n in missing), 1, self.groups)


class InvertedResidual(Module):
    """1x1 convolution to `expansion` times the channels, convolution of each channel, 1x1 convolution to few channels.

    Each is followed by batch norm, the first two by ReLU6. Beside a shortcut, if the shape stays (Sandler et al. 2018,
    arXiv:1801.04381).
    """

    stored_names = {"expand": "_expand_conv", "norm0": "_bn0", "depthwise": "_depthwise_conv", "norm1": "_bn1",
                    "project": "_project_conv", "norm2": "_bn2"}

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, expansion: int, drop_path: float):
        hidden = expansion * in_channels
        self.expand = self.norm0 = None
        if expansion > 1:
            self.expand, self.norm0 = SameConv2d(in_channels, hidden, 1), _norm(hidden)
        self.depthwise, self.norm1 = SameConv2d(hidden, hidden, kernel, stride, hidden), _norm(hidden)
        self.project, self.norm2 = SameConv2d(hidden, out_channels, 1), _norm(out_channels)
        self.drop_path, self.shortcut = DropPath(drop_path), stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else conv_norm(self.expand, self.norm0, x, "relu6")
        y = conv_norm(self.depthwise, self.norm1, y, "relu6")
        y = conv_norm(self.project, self.norm2, y)
        return x + self.drop_path(y) if self.shortcut else y


class EfficientNetLite(Encoder):
    """(N, in_channels, H, W) to (N, num_classes).

    Args:
        width, depth: factors of the number of channels and of blocks; see `efficientnet_lite`.
        num_classes: 0 or None for no head.
        dropout: before the head.
        drop_path: the probability with which the last block's branch is left out; it rises linearly from 0 in the first.
    """

    stored_names = {"stem": "_conv_stem", "norm0": "_bn0", "blocks": "_blocks", "last": "_conv_head", "norm1": "_bn1",
                    "head": "_fc"}

    def __init__(self, width: float = 1.0, depth: float = 1.0, num_classes: int | None = 1000, in_channels: int = 3,
                 dropout: float = 0.2, drop_path: float = 0.0):
        width, depth = (constant("EfficientNetLite", name, value, 0) for name, value in (("width", width), ("depth", depth)))
        dropout = constant("EfficientNetLite", "dropout", dropout, 0, 1)
        drop_path = constant("EfficientNetLite", "drop_path", drop_path, 0, 1)
        self.stem, self.norm0 = SameConv2d(in_channels, 32, 3, 2), _norm(32)
        blocks = plan(width, depth)
        rates = np.linspace(0, drop_path, len(blocks)).tolist()
        self.blocks = [InvertedResidual(*block, rate) for block, rate in zip(blocks, rates)]
        self.last, self.norm1, self.dropout = SameConv2d(blocks[-1][1], 1280, 1), _norm(1280), Dropout(dropout)
        super().__init__(1280, num_classes)
        for module in self.modules():
            if isinstance(module, Conv2d):
                init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, x: Tensor) -> Tensor:
        """(N, 1280): the mean over the last feature maps."""
        x = conv_norm(self.stem, self.norm0, as_tensor(x), "relu6")
        for block in self.blocks:
            x = block(x)
        return self.dropout(conv_norm(self.last, self.norm1, x, "relu6").mean((2, 3)))


def plan(width: float, depth: float) -> list[tuple[int, int, int, int, int]]:
    """Channels in and out, kernel, stride and expansion of each block."""
    blocks, channels = [], 32
    for number, (count, kernel, stride, expansion, out) in enumerate(STAGES):
        inner = 0 < number < len(STAGES) - 1  # the outer stages keep their one block
        for i in range(math.ceil(depth * count) if inner else count):
            blocks.append((channels, _rounded(width * out), kernel, stride if i == 0 else 1, expansion))
            channels = _rounded(width * out)
    return blocks


def _norm(channels):
    return BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _rounded(channels):
    """A multiple of 8, at least 90 % of the number."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near + 8 if near < 0.9 * channels else near


def efficientnet_lite(variant: int = 0, **settings) -> EfficientNetLite:
    """EfficientNet-Lite0 to Lite4, for images of 224 to 300 pixels (`IMAGE_SIZES`); further arguments of `EfficientNetLite`.

    Raises:
        ValueError: there is no such variant.
    """
    variant = whole("efficientnet_lite", "variant", variant, 0)
    if variant >= len(VARIANTS):
        raise ValueError(f"efficientnet_lite: variant is 0 to {len(VARIANTS) - 1}, not {variant}")
    width, depth, dropout = VARIANTS[variant]
    return EfficientNetLite(**{"width": width, "depth": depth, "dropout": dropout, **settings})
