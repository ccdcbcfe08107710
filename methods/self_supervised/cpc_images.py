"""Contrastive predictive coding (CPC) of images.

Aaron van den Oord, Yazhe Li, Oriol Vinyals: "Representation learning with contrastive predictive coding", 2018,
arXiv:1807.03748, section 3.2.

A picture is cut into overlapping patches; from what is above, the patches further down are to be picked out among others.

    z_ij = f(patch in row i, column j)              each patch on its own
    c_ij = convolutions over the z of rows <= i
    L = mean over k = k_0, ..., K and i, j of -log exp(z_(i+k)j . W_k c_ij) / sum over z in Z of exp(z . W_k c_ij)

Z holds all patches of all pictures of the batch, the positive among them. Were most of Z patches of the picture itself, only
places would have to be told apart, not pictures. The rows next below overlap with what is seen and say little that is new, so k
begins at k_0. Each patch gets its own chance to be grey, or colours would give away what belongs together. The features of a
picture are the mean of its z.
"""
import math
from dataclasses import dataclass

import numpy as np

import minigrad as mg
from methods.training.classifier import Architecture
from methods.training.method import Loss
from methods.training.settings import setting
from minigrad import Tensor, nn
from minigrad.data import views

from .base import Batch, SelfSupervisedMethod, Task


@dataclass
class Config:
    """Settings; the paper's patches have 64 pixels of 256, 32 apart, and k goes from 2 to 5."""

    patch: int = setting(0, least=0)  # pixels of a patch's side; 0: half of the picture's
    stride: int = setting(0, least=0)  # pixels from one patch to the next; 0: an eighth of the picture's side
    features: int = setting(128, least=1)  # numbers of z
    context: int = setting(128, least=1)  # numbers of c
    nearest: int = setting(3, least=1)  # k_0
    farthest: int = setting(4, least=1)  # K
    grey: float = setting(0.25, least=0, most=1)  # the probability of a patch to be grey
    area: float = setting(0.5, above=0, most=1)  # of a picture that is seen, at least


SHORT = dict(batch=64, lr=3e-3)


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
    patch, stride = config.patch or max(1, size // 2), config.stride or max(1, size // 8)
    rows = rows_of(size, patch, stride)
    if size < patch or rows <= config.nearest:
        raise SystemExit(f"--patch {patch} --stride {stride} --nearest {config.nearest}: images of {size} pixels have "
                         f"{max(rows, 0)} rows of patches, and more than --nearest are needed")
    if config.farthest < config.nearest:
        raise SystemExit(f"--farthest {config.farthest}: choose --nearest, {config.nearest}, or more")
    return Architecture(f"{__name__}.PatchEncoder", in_channels=channels, patch=patch, stride=stride, width=config.features)


class Context(nn.Module):
    """c (N, rows, columns, context) of z (N, rows, columns, inputs), each of the rows up to its own; and its predictions."""

    def __init__(self, inputs: int, context: int, ahead: int):
        self.convs = [nn.Conv2d(i, context, (2, 3)) for i in (inputs, context, context)]
        self.W = [nn.Linear(context, inputs, bias=False) for _ in range(ahead)]

    def forward(self, z: Tensor) -> Tensor:
        x = z.transpose(0, 3, 1, 2)
        for i, conv in enumerate(self.convs):
            y = mg.relu(conv(mg.pad(x, [(0, 0), (0, 0), (1, 0), (1, 1)])))
            x = x + y if i else y
        return x.transpose(0, 2, 3, 1)


def scores(z: Tensor, predicted: Tensor, k: int) -> tuple[Tensor, np.ndarray]:
    """The products of predictions (N, rows - k, columns, d) for the row k below with Z, all patches z (N, rows, columns, d).

    Returns:
        (predictions, patches), and for each prediction which patch is the positive, (predictions,).
    """
    patches = np.arange(math.prod(z.shape[:3])).reshape(z.shape[:3])
    return predicted.reshape(-1, z.shape[3]) @ z.reshape(-1, z.shape[3]).T, patches[:, k:].reshape(-1)


class CPC(SelfSupervisedMethod):
    """L; the numbers logged are how often the positive gets the highest score among Z, for k_0 and for K."""

    def __init__(self, config: Config, encoder: PatchEncoder, task: Task):
        rows = rows_of(task.size, encoder.patch, encoder.stride)
        self.ahead = range(config.nearest, min(config.farthest, rows - 1) + 1)
        super().__init__(config, encoder, Context(config.features, config.context, len(self.ahead)), task)
        (self.view,) = views.mae(task.size, area=config.area, flip=task.flip)

    def loss(self, batch: Batch, step: int) -> Loss:
        patches = self.net.patches(mg.Tensor(self.view(batch.x, self.rng))).numpy()
        shape = patches.shape
        if shape[3] == 3 and self.config.grey:
            flat = views.random_greyscale(patches.reshape(-1, *shape[3:]), self.rng, self.config.grey)
            patches = flat.reshape(shape)
        z = self.net.encode(self.tensor(patches))
        c, losses, found = self.heads(z), [], {}
        for k, w in zip(self.ahead, self.heads.W):
            s, right = scores(z, w(c[:, :-k]), k)
            losses.append(mg.cross_entropy(s, right))
            found[f"found at {k}"] = np.mean(s.numpy().argmax(1) == right)
        return sum(losses) / len(losses), found


Objective = CPC
