"""Plain convolutional networks: Conv-4 of few-shot learning, and the 13 layers of semi-supervised learning."""
from ... import ops
from ...ops.geometry import constant
from ...tensor import Tensor
from ..layers import BatchNorm2d, Conv2d, conv_norm, Dropout, LeakyReLU, MaxPool2d, sizes
from ..module import Module, Sequential
from .encoder import Encoder


class ConvBlock(Module):
    """Convolution 3x3, batch normalisation, ReLU, max pooling 2x2; in training the last three in one pass over memory."""

    def __init__(self, in_channels: int, out_channels: int):
        self.conv = Conv2d(in_channels, out_channels, 3, padding=1, bias=False)  # batch norm would take a bias away
        self.norm = BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        n = self.norm
        if not self.training:
            return ops.max_pool2d(conv_norm(self.conv, n, x, "relu"), 2)
        return ops.norm_relu_pool(self.conv(x), n.running_mean, n.running_var, n.weight, n.bias, training=True,
                                  momentum=n.momentum, eps=n.eps)


class Conv4(Encoder):
    """Four ConvBlocks (Vinyals et al. 2016; Snell et al. 2017): (N, in_channels, H, W) to the last map's numbers.

    Args:
        width: channels of each block, and so the number of features of an image of 28 x 28.
        image_size: H = W; larger images than 31 x 31 have more features.
        num_classes: 0 or None for no head.
    """

    def __init__(self, in_channels: int = 1, width: int = 64, *, image_size: int = 28, num_classes: int | None = 0):
        in_channels, width, image_size = sizes(self, 1, in_channels=in_channels, width=width, image_size=image_size)
        self.blocks = [ConvBlock(in_channels if i == 0 else width, width) for i in range(4)]
        super().__init__(width * (image_size // 16) ** 2, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """(N, width): the last feature maps, one number after the other."""
        for block in self.blocks:
            x = block(x)
        return ops.flatten(x, 1)


class ConvLarge(Encoder):
    """The 13-layer network of Laine and Aila 2017 (arXiv:1610.02242) and Tarvainen and Valpola 2017 (arXiv:1703.01780).

    (N, in_channels, 32, 32) to (N, num_classes). Three convolutions of 128 channels, three of 256, each three followed by
    pooling and dropout; then 512, 256 and 128 channels, the mean over the image, and a linear layer. Each convolution is
    followed by batch norm and a leaky ReLU of slope 0.1.
    """

    stored_names = {"layers": "features", "head": "fc"}

    def __init__(self, num_classes: int | None = 10, in_channels: int = 3, dropout: float = 0.5):
        dropout = constant("ConvLarge", "dropout", dropout, 0, 1)

        def stage(channels, *widths_kernels_paddings):
            for width, kernel, padding in widths_kernels_paddings:
                yield from (Conv2d(channels, width, kernel, padding=padding, bias=False), BatchNorm2d(width), LeakyReLU(0.1))
                channels = width

        self.layers = Sequential(
            *stage(in_channels, (128, 3, 1), (128, 3, 1), (128, 3, 1)), MaxPool2d(2), Dropout(dropout),
            *stage(128, (256, 3, 1), (256, 3, 1), (256, 3, 1)), MaxPool2d(2), Dropout(dropout),
            *stage(256, (512, 3, 0), (256, 1, 0), (128, 1, 0)))
        super().__init__(128, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """(N, 128): the mean over the last feature maps."""
        return self.layers(x).mean((2, 3))
