"""VICReg and Barlow Twins: no negatives, no second network; what is forbidden is that the numbers of z say the same.

Adrien Bardes, Jean Ponce, Yann LeCun: "VICReg: Variance-invariance-covariance regularization", 2021, arXiv:2105.04906.

    L = a mean |z - z'|^2 / d + b [v(Z) + v(Z')] + c [k(Z) + k(Z')],   Z, Z' the outputs (N, d) of two views of a batch
    v(Z) = mean over j of max(0, 1 - sqrt(Var Z_j + 0.0001)),   k(Z) = (1 / d) sum over i != j of Cov(Z)_ij^2

The first term is divided by d as in the authors' code, else it would outgrow the others as z gets wider; the paper's equation
has no such division. That code also halves v, which the paper does not: b = 12.5 here is the same.

Jure Zbontar and others: "Barlow Twins: Self-supervised learning via redundancy reduction", 2021, arXiv:2103.03230.

    L = sum over i of (1 - C_ii)^2 + lambda sum over i != j of C_ij^2,   C = Z^T Z' / N, each column first at mean 0, variance 1
"""
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
    """The papers' weights; their z are wider, 8,192."""

    barlow: bool = False  # Barlow Twins instead of VICReg
    invariance: float = setting(25.0, least=0)  # a
    variance: float = setting(25.0, least=0)  # b
    covariance: float = setting(1.0, least=0)  # c
    redundancy: float = setting(5e-3, least=0)  # lambda
    hidden: int = setting(512, least=1)  # width of the projector's hidden layers
    projection: int = setting(512, least=2)  # width of z, d
    strength: float = setting(0.5, least=0, most=2)  # of the colours' change


def vicreg(z: Tensor, other: Tensor, invariance: float, variance: float, covariance: float) -> Tensor:
    """L of VICReg for two views' outputs (N, d). ValueError if N is 1."""
    n, d = z.shape
    compared("VICReg", n)
    found = invariance * mg.square(z - other).mean()
    for each in (z, other):
        centred = each - each.mean(0)
        squares = (centred * centred).sum(0) / (n - 1)
        found += variance * mg.relu(1 - mg.sqrt(squares + 1e-4)).mean()
        found += covariance * (off_diagonal(centred.T @ centred / (n - 1)) ** 2).sum() / d
    return found


def barlow_twins(z: Tensor, other: Tensor, redundancy: float) -> Tensor:
    """L of Barlow Twins for two views' outputs (N, d). ValueError if N is 1."""
    compared("Barlow Twins", len(z))
    z, other = ((each - each.mean(0)) / mg.sqrt(each.var(0) + 1e-5) for each in (z, other))
    correlation = z.T @ other / len(z)
    i = xp(correlation.data).arange(len(correlation))  # mg.diag has it on the host, from which a captured step cannot copy
    return ((1 - correlation[i, i]) ** 2).sum() + redundancy * (off_diagonal(correlation) ** 2).sum()


def off_diagonal(matrix: Tensor) -> Tensor:
    """The square matrix with zeros on its diagonal."""
    return mg.where(xp(matrix.data).eye(len(matrix), dtype=bool), 0, matrix)


class VICReg(SelfSupervisedMethod):
    """Trains by either L; the projector's last layer has neither batch norm nor bias."""

    def __init__(self, config: Config, encoder: nn.Encoder, task: Task):
        super().__init__(config, encoder, mlp((encoder.width, config.hidden, config.hidden, config.projection)), task)
        self.projected = Projected(self.net, self.heads)
        self.views = views.simclr(task.size, config.strength, flip=task.flip)

    def arguments(self, batch: Batch, step: int) -> tuple[Tensor]:
        """The first views, and behind them the second ones."""
        return (self.tensor(np.concatenate(views.make_views(batch.x, self.rng, self.views))),)

    def objective(self, both: Tensor) -> Loss:
        """L, and how far the outputs are from collapse."""
        c = self.config
        z, other = mg.split(self.projected(both), 2)
        if c.barlow:
            found = barlow_twins(z, other, c.redundancy)
        else:
            found = vicreg(z, other, c.invariance, c.variance, c.covariance)
        return found, {"spread": spread(z)}


Objective = VICReg
