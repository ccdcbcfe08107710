"""Plain convolutional networks: Conv-4 of few-shot learning, and the 13 layers of semi-supervised learning."""
from ... import ops
from ..layers import BatchNorm2d, Conv2d, Dropout, LeakyReLU, Linear, MaxPool2d
from ..module import Module, Sequential


class ConvBlock(Module):
    """Convolution 3x3, batch normalisation, ReLU, max pooling 2x2; the last three in one pass over memory."""

    def __init__(self, in_channels, out_channels):
        self.conv = Conv2d(in_channels, out_channels, 3, padding=1, bias=False)  # batch norm would take a bias away
        self.norm = BatchNorm2d(out_channels)

    def forward(self, x):
        n = self.norm
        return ops.norm_relu_pool(self.conv(x), n.running_mean, n.running_var, n.weight, n.bias, self.training, n.momentum,
                                  n.eps)


class Conv4(Module):
    """Four ConvBlocks (Vinyals et al. 2016; Snell et al. 2017): (N, C, 28, 28) to (N, width)."""

    def __init__(self, in_channels=1, width=64):
        self.blocks = [ConvBlock(in_channels if i == 0 else width, width) for i in range(4)]

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return ops.flatten(x, 1)


class ConvLarge(Module):
    """The 13-layer network of Laine and Aila 2017 (arXiv:1610.02242) and Tarvainen and Valpola 2017 (arXiv:1703.01780).

    (N, in_channels, 32, 32) to (N, num_classes). Three convolutions of 128 channels, three of 256, each three followed by
    pooling and dropout; then 512, 256 and 128 channels, the mean over the image, and a linear layer. Each convolution is
    followed by batch norm and a leaky ReLU of slope 0.1.
    """

    def __init__(self, num_classes=10, in_channels=3, dropout=0.5):
        def stage(channels, *widths_kernels_paddings):
            for width, kernel, padding in widths_kernels_paddings:
                yield from (Conv2d(channels, width, kernel, padding=padding, bias=False), BatchNorm2d(width), LeakyReLU(0.1))
                channels = width

        self.features = Sequential(
            *stage(in_channels, (128, 3, 1), (128, 3, 1), (128, 3, 1)), MaxPool2d(2), Dropout(dropout),
            *stage(128, (256, 3, 1), (256, 3, 1), (256, 3, 1)), MaxPool2d(2), Dropout(dropout),
            *stage(256, (512, 3, 0), (256, 1, 0), (128, 1, 0)))
        self.fc = Linear(128, num_classes)

    def forward_features(self, x):
        """(N, 128): the mean over the last feature maps."""
        return self.features(x).mean((2, 3))

    def forward(self, x):
        return self.fc(self.forward_features(x))
