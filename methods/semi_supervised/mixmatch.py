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

from .base import (
    Method, consistency, frozen_statistics, interleave, linear_ramp, mixup, one_hot, predicted, sharpen, tensor)

ROW = "weak", "weak, mean of K", "sharpened"


@dataclass
class Config:
    views: int = 2  # K; 1: no average
    temperature: float = 0.5  # T; 1: the average is not sharpened
    mix: Literal["all", "apart", "labelled", "unlabelled", "no"] = "all"  # what is mixed; apart: each kind with its own
    alpha: float = 0.75  # of the Beta distribution
    lambda_u: float = 75.0  # weight of the guessed labels' loss
    ramp: float = 0.25  # of lambda_u, as a part of the training (paper: 16,384 steps); 0: none
    ema: float = 0.999  # decay of the weights' average that is tested


def guess(net, views, temperature):
    """q (N, C) from K augmented versions of a batch."""
    return sharpen(np.mean([predicted(net, v) for v in views], 0), temperature)


def mixed(x, labels, n, rng, alpha, what="all"):
    """X' and U' as one array, and their labels; the first n of x are labelled."""
    if what == "all":
        return mixup(x, labels, rng, alpha)
    parts = [(x[:n], labels[:n]), (x[n:], labels[n:])]
    parts = [mixup(*part, rng, alpha) if what in ("apart", name) else part
             for part, name in zip(parts, ("labelled", "unlabelled"))]
    return tuple(np.concatenate(pair) for pair in zip(*parts))


def interleaved(net, groups):
    """The logits of groups of equal length, each batch of the forward passes a mixture of them all."""
    mixed = [tensor(net, g) for g in interleave(groups)]
    first = net(mixed[0])
    with frozen_statistics(net):
        return interleave([first] + [net(x) for x in mixed[1:]])


def loss(z, labels, zu, q, weight):
    """L from logits and mixed labels of X' and U'."""
    return mg.cross_entropy(z, labels) + weight * consistency(mg.softmax(zu, 1), q)


class MixMatch(Method):
    def loss(self, batch, t):
        c, n, weak = self.config, len(batch.x), self.task.weak
        views = [weak(batch.u, self.rng) for _ in range(c.views)]
        q = guess(self.net, views, c.temperature)
        inputs = np.concatenate([weak(batch.x, self.rng), *views])
        labels = np.concatenate([one_hot(batch.y, self.task.classes), *[q] * c.views])
        x, labels = mixed(inputs, labels, n, self.rng, c.alpha, c.mix)
        z, *zu = interleaved(self.net, np.split(x, len(x) // n))
        labels, w = tensor(self.net, labels), c.lambda_u * linear_ramp(t, c.ramp * self.task.steps)
        return loss(z, labels[:n], mg.concatenate(zu), labels[n:], w), {"weight": w}


Objective = MixMatch
