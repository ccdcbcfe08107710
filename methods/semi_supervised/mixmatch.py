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
from typing import Literal

import numpy as np

import minigrad as mg
from methods.training.forward import frozen_statistics, probabilities, tensor
from methods.training.method import Loss
from methods.training.objectives import consistency, mixup, one_hot, sharpen
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


def guess(net: Module, views: list[np.ndarray], temperature: float) -> np.ndarray:
    """q (N, C) from K augmented versions of a batch."""
    return sharpen(np.mean([probabilities(net, v) for v in views], 0), temperature)


def mixed(x: np.ndarray, labels: np.ndarray, n: int, rng: np.random.Generator, alpha: float,
          mix: str = "all") -> tuple[np.ndarray, np.ndarray]:
    """X' and U' as one array, and their labels; the first n of x are labelled."""
    if mix == "all":
        return mixup(x, labels, rng, alpha)
    parts = [(x[:n], labels[:n]), (x[n:], labels[n:])]
    parts = [mixup(*part, rng, alpha) if mix in ("apart", name) else part
             for part, name in zip(parts, ("labelled", "unlabelled"))]
    return tuple(np.concatenate(pair) for pair in zip(*parts))


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


def interleaved(net: Module, groups: list[np.ndarray]) -> list[Tensor]:
    """The logits of groups of equal length, each batch of the forward passes a mixture of them all."""
    mixed = [tensor(net, g) for g in interleave(groups)]
    first = net(mixed[0])
    with frozen_statistics(net):
        return interleave([first] + [net(x) for x in mixed[1:]])


def loss(z: Tensor, labels: Tensor, zu: Tensor, q: Tensor, weight: float) -> Tensor:
    """L from logits and mixed labels of X' and U'."""
    return mg.cross_entropy(z, labels) + weight * consistency(mg.softmax(zu, 1), q)


class MixMatch(SemiSupervisedMethod):
    """Trains by L, with the ramp of lambda_U."""

    def loss(self, batch: Batch, step: int) -> Loss:
        c, n, weak = self.config, len(batch.x), self.task.weak
        views = [weak(batch.u, self.rng) for _ in range(c.views)]
        q = guess(self.net, views, c.temperature)
        inputs = np.concatenate([weak(batch.x, self.rng), *views])
        labels = np.concatenate([one_hot(batch.y, self.task.classes), *[q] * c.views])
        x, labels = mixed(inputs, labels, n, self.rng, c.alpha, c.mix)
        z, *zu = interleaved(self.net, np.split(x, len(x) // n))
        labels, w = tensor(self.net, labels), c.lambda_u * linear_ramp(step, c.ramp * self.task.steps)
        return loss(z, labels[:n], mg.concatenate(zu), labels[n:], w), {"weight": w}


Objective = MixMatch
