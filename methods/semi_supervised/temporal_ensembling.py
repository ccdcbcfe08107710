"""Temporal ensembling.

Samuli Laine, Timo Aila: "Temporal Ensembling for Semi-Supervised Learning", 2016, arXiv:1610.02242.

As the Pi-model, but the second pass is replaced by the average of what was predicted for the image in earlier epochs:
one pass a step, and a target that varies less.

    Z_i <- alpha Z_i + (1 - alpha) z_i  once an epoch,   z~_i = Z_i / (1 - alpha^t), t the number of times
    L = -1/|B| sum over labelled i in B of log z_i[y_i]  +  w(t) 1/(C |B|) sum over i in B of ||z_i - z~_i||^2

No gradient flows through z~. Images that were not seen yet have no target.
"""
from dataclasses import dataclass

import numpy as np

import minigrad as mg

from . import pi_model
from .base import Method, sigmoid_ramp, tensor, together

ROW = "weak, noise", "weak, noise; earlier epochs", "average"


@dataclass
class Config:
    w_max: float = 30.0  # largest weight of the consistency cost
    alpha: float = 0.6  # memory of the averages; 0: the last epoch's prediction
    ramp: float = 80 / 300  # of w, as a part of the training; 0: full weight from the start
    noise: float = 0.15  # standard deviation of the noise on the inputs
    dropout: float = 0.5
    ema: float = 0.999  # decay of the weights' average that is tested


class Ensemble:
    """Z of every unlabelled image, (N, C), and how often each was updated."""

    def __init__(self, n, classes, alpha):
        self.sums, self.counts, self.alpha = np.zeros((n, classes), np.float32), np.zeros(n, np.float32), alpha

    def targets(self, index):
        """z~ and whether there is one (1 or 0)."""
        counts = self.counts[index]
        seen = (counts > 0).astype(np.float32)
        return self.sums[index] / np.where(counts > 0, 1 - self.alpha ** counts, 1)[:, None], seen

    def update(self, index, z):
        self.sums[index] = self.alpha * self.sums[index] + (1 - self.alpha) * z
        self.counts[index] += 1

    def state_dict(self):
        return {"sums": self.sums.copy(), "counts": self.counts.copy()}

    def load_state_dict(self, state):
        self.sums[...], self.counts[...] = state["sums"], state["counts"]


class TemporalEnsembling(Method):
    def __init__(self, config, net, task):
        super().__init__(config, net, task)
        self.ensemble = Ensemble(task.unlabelled, task.classes, config.alpha)

    def loss(self, batch, t):
        c, total = self.config, len(batch.x) + len(batch.u)
        z, zu = together(self.net, *[pi_model.noisy(self.task, a, self.rng, c.noise) for a in (batch.x, batch.u)])
        w = c.w_max * len(batch.x) / total * sigmoid_ramp(t, c.ramp * self.task.steps)
        target, seen = self.ensemble.targets(batch.index)
        p = mg.softmax(zu, 1)
        squared = (tensor(self.net, seen)[:, None] * (p - tensor(self.net, target)) ** 2).mean(1).sum() / total
        self.ensemble.update(batch.index, p.numpy())
        return mg.cross_entropy(z, batch.y, reduction="sum") / total + w * squared, {"weight": w}

    def kept(self):
        return {**super().kept(), "ensemble": self.ensemble}


Objective = TemporalEnsembling
