"""Networks."""
from .. import ops
from .layers import BatchNorm2d, Conv2d
from .module import Module


class ConvBlock(Module):
    """Convolution 3x3, batch normalisation, ReLU, max pooling 2x2; the last three in one pass over memory."""

    def __init__(self, in_channels, out_channels):
        self.conv = Conv2d(in_channels, out_channels, 3, padding=1, bias=False)  # batch norm would take a bias away
        self.norm = BatchNorm2d(out_channels)

    def forward(self, x):
        n = self.norm
        return ops.norm_relu_pool(self.conv(x), n.running_mean, n.running_var, n.weight, n.bias, self.training, n.momentum, n.eps)


class Conv4(Module):
    """Four ConvBlocks (Vinyals et al. 2016; Snell et al. 2017): (N, C, 28, 28) to (N, width)."""

    def __init__(self, in_channels=1, width=64):
        self.blocks = [ConvBlock(in_channels if i == 0 else width, width) for i in range(4)]

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return ops.flatten(x, 1)
