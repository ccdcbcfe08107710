"""Residual networks (He et al. 2016, arXiv:1512.03385), with the names of torchvision's checkpoints."""
from ... import ops
from ...ops.geometry import several, whole
from ...tensor import Tensor, as_tensor
from .. import init
from ..layers import BatchNorm2d, Conv2d, MaxPool2d, conv_norm, flags
from ..module import Module, Sequential
from .encoder import Encoder


class BasicBlock(Module):
    """Two 3x3 convolutions beside a shortcut."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int = 1):
        self.conv1, self.bn1 = Conv2d(in_channels, channels, 3, stride, 1, bias=False), BatchNorm2d(channels)
        self.conv2, self.bn2 = Conv2d(channels, channels, 3, 1, 1, bias=False), BatchNorm2d(channels)
        self.downsample = _downsample(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = conv_norm(self.conv2, self.bn2, conv_norm(self.conv1, self.bn1, x, "relu"))
        return ops.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(Module):
    """Convolutions 1x1, 3x3 and 1x1 beside a shortcut; the stride is in the second, as in torchvision."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int = 1):
        self.conv1, self.bn1 = Conv2d(in_channels, channels, 1, bias=False), BatchNorm2d(channels)
        self.conv2, self.bn2 = Conv2d(channels, channels, 3, stride, 1, bias=False), BatchNorm2d(channels)
        self.conv3, self.bn3 = Conv2d(channels, 4 * channels, 1, bias=False), BatchNorm2d(4 * channels)
        self.downsample = _downsample(in_channels, 4 * channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = conv_norm(self.conv2, self.bn2, conv_norm(self.conv1, self.bn1, x, "relu"), "relu")
        y = conv_norm(self.conv3, self.bn3, y)
        return ops.relu(y + (x if self.downsample is None else self.downsample(x)))


def _downsample(in_channels, out_channels, stride):
    if stride == 1 and in_channels == out_channels:
        return None
    return Sequential(Conv2d(in_channels, out_channels, 1, stride, bias=False), BatchNorm2d(out_channels))


class ResNet(Encoder):
    """(N, in_channels, H, W) to (N, num_classes).

    Args:
        block: BasicBlock or Bottleneck.
        layers: how many blocks in each of the four stages.
        num_classes: 0 or None for no head.
        small_images: begin with a 3x3 convolution without stride and without pooling, for images of about 32x32.
    """

    stored_names = {"head": "fc"}

    def __init__(self, block: type[BasicBlock] | type[Bottleneck], layers: tuple[int, int, int, int],
                 num_classes: int | None = 1000, in_channels: int = 3, *, small_images: bool = False):
        (small_images,) = flags(self, small_images=small_images)
        if not hasattr(block, "expansion"):
            raise TypeError(f"ResNet: block is BasicBlock or Bottleneck, not {block!r}")
        counts = several(layers) or ()
        if len(counts) != 4:
            raise ValueError(f"ResNet: layers must be four numbers of blocks, not {layers!r}")
        kernel, stride, padding = (3, 1, 1) if small_images else (7, 2, 3)
        self.conv1, self.bn1 = Conv2d(in_channels, 64, kernel, stride, padding, bias=False), BatchNorm2d(64)
        self.maxpool = None if small_images else MaxPool2d(3, 2, 1)
        channels = 64
        for stage, count in enumerate(whole("ResNet", "layers", count, 0) for count in counts):
            blocks = []
            for i in range(count):
                blocks.append(block(channels, 64 << stage, 2 if stage and i == 0 else 1))
                channels = (64 << stage) * block.expansion
            setattr(self, f"layer{stage + 1}", Sequential(*blocks))
        super().__init__(channels, num_classes)
        for module in self.modules():
            if isinstance(module, Conv2d):
                init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, x: Tensor) -> Tensor:
        """(N, width): the mean over the last feature maps."""
        x = conv_norm(self.conv1, self.bn1, as_tensor(x), "relu")
        x = x if self.maxpool is None else self.maxpool(x)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return x.mean((2, 3))


def resnet18(**settings) -> ResNet:
    """ResNet-18; arguments of `ResNet`."""
    return ResNet(BasicBlock, (2, 2, 2, 2), **settings)


def resnet50(**settings) -> ResNet:
    """ResNet-50; arguments of `ResNet`."""
    return ResNet(Bottleneck, (3, 4, 6, 3), **settings)
