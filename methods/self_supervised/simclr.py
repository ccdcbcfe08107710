"""SimCLR.

Ting Chen, Simon Kornblith, Mohammad Norouzi, Geoffrey Hinton: "A simple framework for contrastive learning of visual
representations", 2020, arXiv:2002.05709; version 2, with a deeper head that is partly kept: arXiv:2006.10029.

Two views of a picture find each other among the views of all pictures of the batch.

    h = f(view of x),  z = g(h),  u = z / |z|
    l_i = -log exp(u_i . u_j / tau) / sum over k != i of exp(u_i . u_k / tau),   j the other view of i's picture
    L = mean of l_i over the 2 N views

h serves afterwards, not z (a run says what both are worth). With random z of length 1 in many dimensions L is about log(2 N - 1).
"""
import copy
from dataclasses import dataclass

import numpy as np

import minigrad as mg
from methods.training.method import Loss
from methods.training.settings import setting
from minigrad import Tensor, nn
from minigrad.backend import xp
from minigrad.data import views

from .base import Batch, Projected, SelfSupervisedMethod, Task, compared, mlp, spread


@dataclass
class Config:
    """The paper's tau and strength for CIFAR-10; its g has widths 2048 and 128."""

    tau: float = setting(0.5, above=0)  # the temperature
    hidden: int = setting(256, least=1)  # width of g's hidden layers
    projection: int = setting(64, least=1)  # width of z
    layers: int = setting(2, least=1)  # of g; version 2 has 3
    crop: bool = True  # views are cropped
    colour: bool = True  # views get other colours
    strength: float = setting(0.5, least=0, most=2)  # of the colours' change


def loss(z: Tensor, tau: float) -> Tensor:
    """L of the outputs z (2 N, d), first those of the first views. ValueError if N is 1, or their number odd."""
    n = len(z) // 2
    if len(z) % 2:
        raise ValueError(f"SimCLR: outputs of two views of each picture wanted, not {len(z)} in all")
    compared("SimCLR", n)
    u = mg.l2_normalize(z, 1)
    similarity = u @ u.T / tau
    itself, other = xp(z.data).eye(2 * n, dtype=bool), (xp(z.data).arange(2 * n) + n) % (2 * n)
    return mg.cross_entropy(mg.where(itself, -np.inf, similarity), other)


class SimCLR(SelfSupervisedMethod):
    """Trains by L, with batch norm over both views."""

    def __init__(self, config: Config, encoder: nn.Encoder, task: Task):
        width = encoder.width
        super().__init__(config, encoder, mlp((width, *[config.hidden] * (config.layers - 1), config.projection), True), task)
        self.projected = Projected(self.net, self.heads)
        self.views = views.simclr(task.size, config.strength, crop=config.crop, colour=config.colour, flip=task.flip)

    def arguments(self, batch: Batch, step: int) -> tuple[Tensor]:
        """The first views, and behind them the second ones."""
        return (self.tensor(np.concatenate(views.make_views(batch.x, self.rng, self.views))),)

    def objective(self, both: Tensor) -> Loss:
        """L, and how far the outputs are from collapse."""
        z = self.projected(both)
        return loss(z, self.config.tau), {"spread": spread(z)}


class Deepened(nn.Encoder):
    """An encoder with the first layer of g behind it, batch norm and ReLU included: what version 2 fine-tunes.

    Args:
        encoder: f.
        hidden: width of the layer.
    """

    def __init__(self, encoder: nn.Encoder, hidden: int, num_classes: int = 0):
        self.encoder, self.first = encoder, mlp((encoder.width, hidden, 1))[:3]
        super().__init__(hidden, num_classes)

    def features(self, x: Tensor) -> Tensor:
        return self.first(self.encoder.features(x))


def deepened(encoder: nn.Encoder, head: nn.Sequential) -> Deepened:
    """Of a copy of the encoder and of g, which has two layers or more.

    Raises:
        ValueError: g has one layer.
    """
    if len(head) < 4:
        raise ValueError("only a head of two layers or more has an inside: --layers 2 or 3")
    found = Deepened(copy.deepcopy(encoder), head[0].weight.shape[0])
    found.first = copy.deepcopy(head[:3])
    return found


Objective = SimCLR
