"""Wide residual networks (Zagoruyko and Komodakis 2016, arXiv:1605.07146)."""
from ... import ops
from ...ops.geometry import constant, real
from ...tensor import Tensor
from .. import init
from ..layers import BatchNorm2d, Conv2d, Dropout, sizes
from ..module import Module
from .encoder import Encoder


class WideBlock(Module):
    """x + conv(act(norm(conv(act(norm(x)))))); where the shape changes, a 1x1 convolution of act(norm(x)) replaces x."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, dropout: float, negative_slope: float):
        self.bn1, self.bn2 = BatchNorm2d(in_channels), BatchNorm2d(out_channels)
        self.conv1 = Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.conv2 = Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        changes = stride != 1 or in_channels != out_channels
        self.shortcut = Conv2d(in_channels, out_channels, 1, stride, bias=False) if changes else None
        self.dropout, self.negative_slope = Dropout(dropout), negative_slope

    def forward(self, x: Tensor) -> Tensor:
        active = _activated(self.bn1(x), self.negative_slope)
        y = _activated(self.bn2(self.conv1(active)), self.negative_slope)
        return self.conv2(self.dropout(y)) + (x if self.shortcut is None else self.shortcut(active))


class WideResNet(Encoder):
    """(N, in_channels, H, W), H and W multiples of 4, to (N, num_classes).

    Args:
        depth: 6 n + 4 layers, n blocks in each of the three groups.
        widen_factor: k, for groups of 16 k, 32 k and 64 k channels.
        num_classes: 0 or None for no head.
        negative_slope: of the leaky ReLU; 0.1 in the semi-supervised methods that use this network, 0 in the paper.
    """

    stored_names = {"head": "fc"}

    def __init__(self, depth: int = 28, widen_factor: int = 2, num_classes: int | None = 10, in_channels: int = 3,
                 dropout: float = 0.0, negative_slope: float = 0.1):
        depth, widen_factor, in_channels = sizes(self, 1, depth=depth, widen_factor=widen_factor, in_channels=in_channels)
        dropout = constant("WideResNet", "dropout", dropout, 0, 1)
        negative_slope = real("WideResNet", "negative_slope", negative_slope)
        if (depth - 4) % 6 or depth < 10:
            raise ValueError(f"WideResNet: depth is 6 n + 4, such as 16, 28 or 40, not {depth}")
        channels = 16
        self.conv1, self.blocks = Conv2d(in_channels, 16, 3, padding=1, bias=False), []
        for group in range(3):
            for i in range((depth - 4) // 6):
                stride = 2 if group and i == 0 else 1
                self.blocks.append(WideBlock(channels, 16 * widen_factor << group, stride, dropout, negative_slope))
                channels = 16 * widen_factor << group
        self.bn, self.negative_slope = BatchNorm2d(channels), negative_slope
        super().__init__(channels, num_classes)
        for module in self.modules():
            if isinstance(module, Conv2d):
                init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, x: Tensor) -> Tensor:
        """(N, 64 k): the mean over the last feature maps."""
        x = self.conv1(x)
        for block in self.blocks:
            x = block(x)
        return _activated(self.bn(x), self.negative_slope).mean((2, 3))


def _activated(x, negative_slope):
    return ops.leaky_relu(x, negative_slope=negative_slope) if negative_slope else ops.relu(x)
