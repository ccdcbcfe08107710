"""Temporal ensembling.

Samuli Laine, Timo Aila: "Temporal Ensembling for Semi-Supervised Learning", 2016, arXiv:1610.02242.

As the Pi-model, but the second pass is replaced by the average of what was predicted for the image in earlier epochs:
one pass a step, and a target that varies less.

    Z_i <- alpha Z_i + (1 - alpha) z_i  once an epoch,   z~_i = Z_i / (1 - alpha^t), t the number of times
    L = -1/|B| sum over labelled i in B of log z_i[y_i]  +  w(t) 1/(C |B|) sum over unlabelled i in B of ||z_i - z~_i||^2

No gradient flows through z~. Images that have not been in a batch yet have no target. Labelled images, which the paper sums over
too, count in the second sum as they come among the unlabelled ones; w(t) is the Pi-model's.
"""
from dataclasses import dataclass

import numpy as np

import minigrad as mg
from methods.training.forward import joint_forward, tensor
from methods.training.method import Loss, Parts
from methods.training.settings import setting
from methods.training.teacher import sigmoid_ramp
from minigrad import nn
from minigrad.data import Batch

from . import pi_model
from .base import SemiSupervisedMethod, Task

ROW = "weak, noise", "weak, noise; earlier epochs", "average"


@dataclass
class Config:
    """The paper's settings."""

    w_max: float = setting(30.0, least=0)  # largest weight of the consistency cost
    alpha: float = setting(0.6, least=0, below=1)  # memory of the averages; 0: the last epoch's prediction
    ramp: float = setting(80 / 300, least=0)  # of w, as a part of the training; 0: full weight from the start
    noise: float = setting(0.15, least=0)  # standard deviation of the noise on the inputs
    dropout: float = setting(0.5, least=0, most=0.99)
    ema: float = setting(0.999, least=0, below=1)  # decay of the weights' average that is tested


# Averages are worth agreeing with late in so short a training: their weight rises beyond the square of ten classes.
SHORT = dict(w_max=400.0, dropout=0.0, ramp=1.0, alpha=0.3)


class Ensemble:
    """Z of every unlabelled image, (N, C), and how often each was updated."""

    def __init__(self, n: int, classes: int, alpha: float):
        self.sums, self.counts, self.alpha = np.zeros((n, classes), np.float32), np.zeros(n, np.float32), alpha

    def targets(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """z~ and whether there is one (1 or 0)."""
        counts = self.counts[index]
        known = (counts > 0).astype(np.float32)
        weight = 1 - self.alpha ** counts.astype(np.float64)  # whose digits float32 would lose where alpha is near 1
        return (self.sums[index] / np.where(counts > 0, weight, 1)[:, None]).astype(np.float32), known

    def update(self, index: np.ndarray, z: np.ndarray) -> None:
        """Adds the predictions z (n, C) of the images at `index`."""
        self.sums[index] = self.alpha * self.sums[index] + (1 - self.alpha) * z
        self.counts[index] += 1

    def state_dict(self) -> dict[str, np.ndarray]:
        """Averages and counts, copied."""
        return {"sums": self.sums.copy(), "counts": self.counts.copy()}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Puts back what `state_dict` returned."""
        self.sums[...], self.counts[...] = state["sums"], state["counts"]


class TemporalEnsembling(SemiSupervisedMethod):
    """Trains by L, with the averages Z of all unlabelled images."""

    def __init__(self, config: Config, net: nn.Module, task: Task):
        super().__init__(config, net, task)
        self.ensemble = Ensemble(task.unlabelled, task.classes, config.alpha)

    def loss(self, batch: Batch, step: int) -> Loss:
        c, total = self.config, len(batch.x) + len(batch.u)
        z, zu = joint_forward(self.net, *[pi_model.noisy(self.task, a, self.rng, c.noise) for a in (batch.x, batch.u)])
        w = c.w_max * len(batch.x) / total * sigmoid_ramp(step, c.ramp * self.task.steps)
        target, known = self.ensemble.targets(batch.index)
        p = mg.softmax(zu, 1)
        squared = (tensor(self.net, known)[:, None] * (p - tensor(self.net, target)) ** 2).mean(1).sum() / total
        self.ensemble.update(batch.index, p.numpy())
        return mg.cross_entropy(z, batch.y, reduction="sum") / total + w * squared, {"weight": w, "known": known.mean()}

    def state(self) -> Parts:
        return {**super().state(), "ensemble": self.ensemble}


Objective = TemporalEnsembling
