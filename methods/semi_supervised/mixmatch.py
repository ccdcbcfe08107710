"""MixMatch.

David Berthelot, Nicholas Carlini, Ian Goodfellow, Nicolas Papernot, Avital Oliver, Colin Raffel: "MixMatch: A Holistic
Approach to Semi-Supervised Learning", 2019, arXiv:1905.02249.

Average the predictions for K augmentations of an unlabelled image, sharpen the average, and mix all examples with mixup.

    q_b = Sharpen(1/K sum over k of p(u_{b,k}), T),  Sharpen(p, T)_i = p_i^(1/T) / sum over j of p_j^(1/T)
    W = Shuffle(X and U);  x' = lambda x + (1 - lambda) w,  lambda ~ Beta(alpha, alpha), lambda <- max(lambda, 1 - lambda)
    L = 1/|X'| sum CE(p, f(x')) + lambda_U 1/(C |U'|) sum ||q - softmax f(u')||^2

lambda_U rises linearly. q is a constant, computed without moving the running statistics of batch normalisation; of the
batches that pass the network, each made to hold labelled and unlabelled examples (interleave), the first alone moves them.
"""
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

import minigrad as mg
from methods.training.forward import frozen_statistics, placed, probabilities, tensor_like
from methods.training.method import Loss
from methods.training.objectives import consistency, mixup, one_hot, partners, sharpen
from methods.training.settings import setting
from methods.training.teacher import linear_ramp
from minigrad import Tensor
from minigrad.data import Batch
from minigrad.nn import Module

from .base import SemiSupervisedMethod

ROW = "weak", "weak, mean of K", "sharpened"


@dataclass
class Config:
    """The paper's settings."""

    views: int = setting(2, least=1)  # K; 1: no average
    temperature: float = setting(0.5, above=0)  # T; 1: the average is not sharpened
    mix: Literal["all", "apart", "labelled", "unlabelled", "no"] = "all"  # what is mixed; apart: each kind with its own
    alpha: float = setting(0.75, above=0)  # of the Beta distribution
    lambda_u: float = setting(75.0, least=0)  # weight of the guessed labels' loss
    ramp: float = setting(0.25, least=0)  # of lambda_u, as a part of the training (paper: 16,384 steps); 0: none
    ema: float = setting(0.999, least=0, below=1)  # decay of the weights' average that is tested


SHORT = dict(lambda_u=10.0, ramp=1.0)


def guess(net: Module, views: list[Tensor], temperature: float) -> Any:
    """q (N, C), an array, from K augmented versions of a batch."""
    return sharpen(sum(probabilities(net, v).data for v in views) / len(views), temperature)


def chosen(n: int, total: int, rng: np.random.Generator, alpha: float, mix: str = "all") -> tuple[np.ndarray, np.ndarray]:
    """lambda and the place of w for all examples, of which the first n are labelled; lambda is 1 for those that stay."""
    if mix == "all":
        return partners(total, rng, alpha)
    weight, other = np.ones(total, np.float32), np.arange(total)
    for name, first, last in ("labelled", 0, n), ("unlabelled", n, total):
        if mix in ("apart", name):
            weight[first:last], places = partners(last - first, rng, alpha)
            other[first:last] = first + places
    return weight, other


def interleave(groups: list) -> list:
    """Groups of equal length, their parts swapped so that each new group holds some of each old one.

    Applied twice it gives the groups back. Arrays or Tensors.
    """
    n, k = len(groups[0]), len(groups)
    cuts = [n * i // k for i in range(k + 1)]
    parts = [[g[a:b] for a, b in zip(cuts, cuts[1:])] for g in groups]
    for i in range(1, k):  # part i of group i changes places with part i of the first group
        parts[0][i], parts[i][i] = parts[i][i], parts[0][i]
    join = mg.concatenate if isinstance(groups[0], mg.Tensor) else np.concatenate
    return [join(p) for p in parts]


def interleaved(net: Module, groups: list[Tensor]) -> list[Tensor]:
    """The logits of groups of equal length, each batch of the forward passes a mixture of them all."""
    first, *others = interleave(groups)
    first = net(first)
    with frozen_statistics(net):
        return interleave([first] + [net(x) for x in others])


def loss(z: Tensor, labels: Tensor, zu: Tensor, q: Tensor, weight: Tensor) -> Tensor:
    """L from logits and mixed labels of X' and U'."""
    return mg.cross_entropy(z, labels) + weight * consistency(mg.softmax(zu, 1), q)


class MixMatch(SemiSupervisedMethod):
    """Trains by L, with the ramp of lambda_U."""

    def arguments(self, batch: Batch, step: int) -> tuple[Any, ...]:
        """The K views; X' and U', how their labels will be mixed, and those of X; lambda_U."""
        c, weak = self.config, self.task.weak
        views = [weak(batch.u, self.rng) for _ in range(c.views)]
        inputs = np.concatenate([weak(batch.x, self.rng), *views])
        mix = chosen(len(batch.x), len(inputs), self.rng, c.alpha, c.mix)
        w = c.lambda_u * linear_ramp(step, c.ramp * self.task.steps)
        return ([self.tensor(v) for v in views], self.tensor(mixup(inputs, *mix)), placed(self.net, *mix),
                self.tensor(one_hot(batch.y, self.task.classes)), self.tensor(w))

    def objective(self, views: list[Tensor], x: Tensor, mix: tuple[Tensor, Tensor], y: Tensor, w: Tensor) -> Loss:
        """L."""
        n, q = len(y), guess(self.net, views, self.config.temperature)
        labels = mixup(mg.concatenate([y, *[q] * len(views)]).data, *(m.data for m in mix))
        z, *zu = interleaved(self.net, mg.split(x, len(x) // n))
        labels = tensor_like(labels, z)
        return loss(z, labels[:n], mg.concatenate(zu), labels[n:], w), {"weight": w}


Objective = MixMatch
