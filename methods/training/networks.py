"""Networks to train from the start, sized for a CPU and as in the papers.

Each is an encoder: `features` to (N, width), and the last layer, `head`.
"""
from collections.abc import Sequence
from typing import Any

import minigrad as mg
from methods.training.classifier import Architecture
from methods.training.settings import note_idle
from minigrad import Tensor, nn
from minigrad.nn.models import BasicBlock


class SmallConv(nn.Encoder):
    """Three strided convolutions, the mean over positions, dropout, a linear layer: (N, C, H, W) to (N, num_classes)."""

    def __init__(self, in_channels: int, num_classes: int, dropout: float = 0.0, widths: Sequence[int] = (16, 32, 64),
                 small: bool = False):
        sizes, strides = (5, 3, 3), (1 if small else 2, 2, 2)  # images of 8 x 8 are small
        inputs = (in_channels, *widths)
        self.convs = [nn.Conv2d(i, o, k, s, k // 2, bias=False) for i, o, k, s in zip(inputs, widths, sizes, strides)]
        self.norms = [nn.BatchNorm2d(o) for o in widths]
        super().__init__(widths[-1], num_classes)
        self.dropout = dropout

    def features(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms):
            x = mg.relu(norm(conv(x)))
        return mg.dropout(x.mean((2, 3)), self.dropout, training=self.training)


class Residual(nn.Encoder):
    """Eight 3 x 3 convolutions, max pooling instead of strides, two residual pairs: (N, C, H, W) to (N, num_classes).

    Sized for a CPU: one core trains about 1,700 images of 32 x 32 a second with 16 channels.

    Args:
        base_width: channels of the first convolution; the last has eight times as many.
    """

    def __init__(self, in_channels: int, num_classes: int, dropout: float = 0.0, base_width: int = 16):
        widths = [base_width * k for k in (1, 2, 2, 2, 4, 8, 8, 8)]
        self.convs = [nn.Conv2d(i, o, 3, 1, 1, bias=False) for i, o in zip((in_channels, *widths), widths)]
        self.norms = [nn.BatchNorm2d(o) for o in widths]
        super().__init__(widths[-1], num_classes)
        self.dropout = dropout

    def features(self, x: Tensor) -> Tensor:
        def block(x, *indices):
            for i in indices:
                x = mg.leaky_relu(self.norms[i](self.convs[i](x)), negative_slope=0.1)
            return x

        x = block(mg.max_pool2d(block(x, 0), 2), 1)
        x = mg.max_pool2d(x + block(x, 2, 3), 2)
        x = block(mg.max_pool2d(block(x, 4), 2), 5)
        x = x + block(x, 6, 7)
        return mg.dropout(x.max((2, 3)), self.dropout, training=self.training)


class MLP(nn.Encoder):
    """Linear layers with ReLU between them, if wanted with batch normalisation before it: (N, ...) to (N, num_classes).

    Args:
        sizes: of an input, and of each hidden layer; the last are the features.
    """

    def __init__(self, sizes: Sequence[int], num_classes: int, dropout: float = 0.0, norm: bool = True):
        self.layers = [nn.Linear(a, b) for a, b in zip(sizes, sizes[1:])]
        self.norms = [nn.BatchNorm1d(b) if norm else nn.Identity() for b in sizes[1:]]
        super().__init__(sizes[-1], num_classes)
        self.dropout = dropout

    def features(self, x: Tensor) -> Tensor:
        x = mg.flatten(x, 1)
        for layer, norm in zip(self.layers, self.norms):
            x = mg.dropout(mg.relu(norm(layer(x))), self.dropout, training=self.training)
        return x


def note_idle_size(run: Any, network: str, flag: str = "--network") -> None:
    """Says which of the settings `width` and `depth` of a run have no effect on the network; see `architecture`."""
    if network not in ("wide", "vit"):
        note_idle(run, f"with {flag} {network}", "depth", *(["width"] if network in ("resnet18", "lite0") else []))


def architecture(network: str, channels: int, size: int, classes: int, dropout: float, width: int, depth: int,
                 flag: str = "--network") -> Architecture:
    """A network for images (channels, size, size).

    Args:
        network: "small", "residual", "wide" (Wide ResNet), "resnet18" (as for CIFAR-10: no stride and no pooling at first),
            "vit" (Vision Transformer, eight patches across if the size allows it, else seven) or "mlp" (two hidden layers).
        classes: 0 for no head.
        width: channels of the first convolution, or of the Wide ResNet's first group; a Transformer has 8 times as many
            numbers a patch, a hidden layer of "mlp" 32 times as many.
        flag: the setting's name, for errors.
        depth: layers of the Wide ResNet, or blocks of the Transformer.

    Raises:
        SystemExit: the network does not take such images, or has no such width or depth.
    """
    common = dict(in_channels=channels, num_classes=classes)
    if network == "small":
        return Architecture(f"{__name__}.SmallConv", **common, dropout=dropout, widths=[width * k for k in (1, 2, 4)],
                            small=size <= 16)
    if network == "residual":
        if size < 8:
            raise SystemExit(f"{flag} residual takes images whose sides are 8 or more, not {size}")
        return Architecture(f"{__name__}.Residual", **common, dropout=dropout, base_width=width)
    if network == "resnet18":
        return Architecture("minigrad.nn.ResNet", block=BasicBlock, layers=[2, 2, 2, 2], **common, small_images=True)
    if network == "vit":
        across = next((k for k in (8, 7) if size % k == 0), None)
        if across is None:
            raise SystemExit(f"{flag} vit takes images whose sides 8 or 7 divides, not {size}")
        return Architecture("minigrad.nn.VisionTransformer", img_size=size, patch_size=size // across, in_chans=channels,
                            num_classes=classes, embed_dim=8 * width, depth=depth, num_heads=max(1, width // 4),
                            drop_rate=dropout, dynamic_img_size=True)
    if network == "mlp":
        return Architecture(f"{__name__}.MLP", sizes=[channels * size * size, 32 * width, 32 * width], num_classes=classes,
                            dropout=dropout)
    if size % 4:
        raise SystemExit(f"{flag} wide takes images whose sides are multiples of 4, not {size}")
    if width % 16 or not width or depth < 10 or depth % 6 != 4:
        raise SystemExit(f"{flag} wide takes a --width that 16 divides and a --depth of 10, 16, 22, 28, ..., "
                         f"not {width} and {depth}")
    return Architecture("minigrad.nn.WideResNet", depth=depth, widen_factor=width // 16, **common, dropout=dropout)
