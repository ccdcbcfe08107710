"""The networks that the semi-supervised methods train. `features` is everything but the last layer, `linear`."""
import minigrad as mg
from minigrad import nn
from minigrad.nn.models import WideResNet


class SmallConv(nn.Module):
    """Three strided convolutions, the mean over positions, dropout, a linear layer: (N, C, H, W) to (N, classes)."""

    def __init__(self, channels, classes, dropout=0.0, widths=(16, 32, 64), small=False):
        sizes, strides = (5, 3, 3), (1 if small else 2, 2, 2)  # images of 8 x 8 are small
        inputs = (channels, *widths)
        self.convs = [nn.Conv2d(i, o, k, s, k // 2, bias=False) for i, o, k, s in zip(inputs, widths, sizes, strides)]
        self.norms = [nn.BatchNorm2d(o) for o in widths]
        self.linear, self.dropout = nn.Linear(widths[-1], classes), dropout

    def features(self, x):
        for conv, norm in zip(self.convs, self.norms):
            x = mg.relu(norm(conv(x)))
        return mg.dropout(x.mean((2, 3)), self.dropout, self.training)

    def forward(self, x):
        return self.linear(self.features(x))


class Residual(nn.Module):
    """Eight 3 x 3 convolutions, max pooling instead of strides, two residual pairs: (N, C, H, W) to (N, classes).

    Sized for a CPU: one core trains about 1,700 images of 32 x 32 a second with 16 channels.

    Args:
        width: channels of the first convolution; the last has eight times as many.
    """

    def __init__(self, channels, classes, dropout=0.0, width=16):
        widths = [width * k for k in (1, 2, 2, 2, 4, 8, 8, 8)]
        self.convs = [nn.Conv2d(i, o, 3, 1, 1, bias=False) for i, o in zip((channels, *widths), widths)]
        self.norms = [nn.BatchNorm2d(o) for o in widths]
        self.linear, self.dropout = nn.Linear(widths[-1], classes), dropout

    def features(self, x):
        def block(x, *indices):
            for i in indices:
                x = mg.leaky_relu(self.norms[i](self.convs[i](x)), 0.1)
            return x

        x = block(mg.max_pool2d(block(x, 0), 2), 1)
        x = mg.max_pool2d(x + block(x, 2, 3), 2)
        x = block(mg.max_pool2d(block(x, 4), 2), 5)
        x = x + block(x, 6, 7)
        return mg.dropout(x.max((2, 3)), self.dropout, self.training)

    def forward(self, x):
        return self.linear(self.features(x))


class MLP(nn.Module):
    """Linear layers with ReLU between them, if wanted with batch normalisation before it: (N, ...) to (N, classes)."""

    def __init__(self, sizes, dropout=0.0, norm=True):
        self.layers = [nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:-1])]
        self.norms = [nn.BatchNorm1d(b) if norm else nn.Identity() for b in sizes[1:-1]]
        self.linear, self.dropout = nn.Linear(*sizes[-2:]), dropout

    def features(self, x):
        x = mg.flatten(x, 1)
        for layer, norm in zip(self.layers, self.norms):
            x = mg.dropout(mg.relu(norm(layer(x))), self.dropout, self.training)
        return x

    def forward(self, x):
        return self.linear(self.features(x))


class Wide(WideResNet):
    """Wide ResNet 28-2, the network of most of the papers: (N, C, H, W), H and W multiples of 4, to (N, classes).

    Args:
        depth: layers, 6 n + 4.
        width: channels of the first group, a multiple of 16.
    """

    def __init__(self, channels, classes, dropout=0.0, depth=28, width=32):
        super().__init__(depth, width // 16, classes, channels, dropout)

    @property
    def linear(self):
        return self.fc
