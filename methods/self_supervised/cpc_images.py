"""Contrastive predictive coding (CPC) of images.

Aaron van den Oord, Yazhe Li, Oriol Vinyals: "Representation learning with contrastive predictive coding", 2018,
arXiv:1807.03748, section 3.2.

A picture is cut into overlapping patches; from what is above, the patches further down are to be picked out among others.

    z_ij = f(patch in row i, column j)              each patch on its own
    c_ij = convolutions over the z of rows <= i
    L = mean over k = k_0, ..., K and i, j of -log exp(z_(i+k)j . W_k c_ij) / sum over z in Z of exp(z . W_k c_ij)

Z holds all patches of all pictures of the batch, the positive among them. Were most of Z patches of the picture itself, only
places would have to be told apart, not pictures. The rows next below overlap with what is seen and say little that is new, so k
begins at k_0. Each patch gets colours of its own, as in SimCLR, or these would give away what belongs together. What is below
is predicted, and with other W and convolutions what is above, to the right and to the left (Henaff et al. 2019,
arXiv:1905.09272). The features of a picture are the mean of its z.
"""
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

import minigrad as mg
from methods.training.classifier import Architecture
from methods.training.evaluation import right
from methods.training.method import Loss
from methods.training.settings import setting
from minigrad import Tensor, nn
from minigrad.backend import xp
from minigrad.data import views

from .base import Batch, SelfSupervisedMethod, Task


@dataclass
class Config:
    """Settings; the paper's patches have 64 pixels of 256, 32 apart, k goes from 2 to 5, and all is predicted from above."""

    patch: int = setting(0, least=0)  # pixels of a patch's side; 0: twice the stride
    stride: int = setting(0, least=0)  # pixels from one patch to the next; 0: half a patch, or a quarter of the picture's side
    features: int = setting(128, least=1)  # numbers of z
    context: int = setting(128, least=1)  # numbers of c
    nearest: int = setting(2, least=1)  # k_0
    farthest: int = setting(2, least=1)  # K
    sides: int = setting(4, least=1, most=4)  # from which there are predictions: from above, below, the left, the right
    strength: float = setting(1.0, least=0, most=2.5)  # of the change of each patch's colours, as in SimCLR; 0 for none
    area: float = setting(0.5, above=0, most=1)  # of a picture that is seen, at least


SHORT = dict(batch=128, lr=3e-3)


def rows_of(size: int, patch: int, stride: int) -> int:
    """How many rows of patches an image of so many pixels has."""
    return (size - patch) // stride + 1


class PatchEncoder(nn.Encoder):
    """Images (N, C, H, W) to z (N, rows, columns, width) by `grid`, and to their mean over the picture, (N, width).

    Three convolutions see a patch at a time. There is no batch norm, which would let patches know of each other.
    """

    def __init__(self, in_channels: int, patch: int, stride: int, width: int, num_classes: int = 0):
        self.patch, self.stride = patch, stride
        widths = width // 4 or 1, width // 2 or 1, width
        self.convs = [nn.Conv2d(i, o, 3, s, 1) for i, o, s in zip((in_channels, *widths), widths, (1, 2, 2))]
        for conv in self.convs:
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            nn.init.zeros_(conv.bias)
        super().__init__(width, num_classes)

    def patches(self, x: Tensor) -> Tensor:
        """The patches (N, rows, columns, C, patch, patch)."""
        p, s = self.patch, self.stride
        rows, columns = (rows_of(n, p, s) for n in x.shape[2:])
        at = np.arange(p)
        i, j = (s * np.arange(n)[:, None] + at for n in (rows, columns))
        return x[:, :, i[:, None, :, None], j[None, :, None, :]].transpose(0, 2, 3, 1, 4, 5)

    def encode(self, patches: Tensor) -> Tensor:
        """z of patches (N, rows, columns, C, patch, patch)."""
        x = patches.reshape(-1, *patches.shape[3:])
        for conv in self.convs:
            x = mg.relu(conv(x))
        return x.mean((2, 3)).reshape(*patches.shape[:3], -1)

    def grid(self, x: Tensor) -> Tensor:
        """z of the patches of images."""
        return self.encode(self.patches(x))

    def features(self, x: Tensor) -> Tensor:
        return self.grid(x).mean((1, 2))


def architecture(config: Config, channels: int, size: int) -> Architecture:
    """The encoder of images (channels, size, size)."""
    stride = config.stride or -(-config.patch // 2) or max(1, size // 4)
    patch = config.patch or 2 * stride
    rows = rows_of(size, patch, stride)
    if size < patch or rows <= config.nearest:
        raise SystemExit(f"--patch {patch} --stride {stride} --nearest {config.nearest}: images of {size} pixels have "
                         f"{max(rows, 0)} rows of patches, and more than --nearest are needed")
    if not config.nearest <= config.farthest < rows:
        raise SystemExit(f"--farthest {config.farthest}: choose --nearest, {config.nearest}, or more, and less than the {rows} "
                         f"rows of patches that images of {size} pixels have")
    return Architecture(f"{__name__}.PatchEncoder", in_channels=channels, patch=patch, stride=stride, width=config.features)


class Context(nn.Module):
    """c (N, rows, columns, context) of z (N, rows, columns, inputs), each of the rows up to its own; and its predictions."""

    def __init__(self, inputs: int, context: int, ahead: int, layers: int):
        self.convs = [nn.Conv2d(i, context, (2, 3)) for i in (inputs, *(context,) * (layers - 1))]
        self.W = [nn.Linear(context, inputs, bias=False) for _ in range(ahead)]

    def forward(self, z: Tensor) -> Tensor:
        x = z.transpose(0, 3, 1, 2)
        for i, conv in enumerate(self.convs):
            y = mg.relu(conv(mg.pad(x, [(0, 0), (0, 0), (1, 0), (1, 1)])))
            x = x + y if i else y
        return x.transpose(0, 2, 3, 1)


class Contexts(nn.Module):
    """A Context for each side that predictions are made from."""

    def __init__(self, sides: int, inputs: int, context: int, ahead: int, layers: int):
        self.sides = [Context(inputs, context, ahead, layers) for _ in range(sides)]


def seen_from(side: int, z: Tensor) -> Tensor:
    """The grid (N, rows, columns, d) with what is above, below, on the left or on the right in its first rows."""
    z = z.transpose(0, 2, 1, 3) if side > 1 else z
    return z[:, ::-1] if side % 2 else z


def scores(z: Tensor, predicted: Tensor, k: int) -> tuple[Tensor, Any]:
    """The products of predictions (N, rows - k, columns, d) for the row k below with Z, all patches z (N, rows, columns, d).

    Returns:
        (predictions, patches), and for each prediction which patch is the positive, an array (predictions,).
    """
    patches = xp(z.data).arange(math.prod(z.shape[:3])).reshape(z.shape[:3])
    return predicted.reshape(-1, z.shape[3]) @ z.reshape(-1, z.shape[3]).T, patches[:, k:].reshape(-1)


class CPC(SelfSupervisedMethod):
    """Trains by L; the numbers logged are how often the positive gets the highest score among Z, for k_0 and for K."""

    def __init__(self, config: Config, encoder: PatchEncoder, task: Task):
        rows = rows_of(task.size, encoder.patch, encoder.stride)
        self.ahead = range(config.nearest, config.farthest + 1)
        layers = min(3, rows - self.ahead[0])  # more would see no further than the first row
        heads = Contexts(config.sides, config.features, config.context, len(self.ahead), layers)
        super().__init__(config, encoder, heads, task)
        (self.view,) = views.mae(task.size, area=config.area, flip=task.flip)
        jitter = views.simclr(encoder.patch, config.strength)[0].jitter
        self.colours = views.View(encoder.patch, crop=None, flip=0, jitter=jitter, greyscale=0.2 if config.strength else 0)

    def arguments(self, batch: Batch, step: int) -> tuple[Tensor]:
        """The patches (N, rows, columns, C, patch, patch), each with its colours."""
        patches = self.net.patches(mg.Tensor(self.view(batch.x, self.rng))).numpy()
        shape = patches.shape
        return (self.tensor(self.colours(patches.reshape(-1, *shape[3:]), self.rng).reshape(shape)),)

    def objective(self, patches: Tensor) -> Loss:
        """L, and how often the positive is found for each k."""
        z, losses, found = self.net.encode(patches), [], {}
        for side, context in enumerate(self.heads.sides):
            grid = seen_from(side, z)
            c = context(grid)
            for k, w in zip(self.ahead, context.W):
                s, positive = scores(grid, w(c[:, :-k]), k)
                losses.append(mg.cross_entropy(s, positive))
                found.setdefault(f"found at {k}", []).append(right(s.data, positive).mean())
        return sum(losses) / len(losses), {name: sum(each) / len(each) for name, each in found.items()}


Objective = CPC
