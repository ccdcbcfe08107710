"""The Pi-model.

Samuli Laine, Timo Aila: "Temporal Ensembling for Semi-Supervised Learning", 2016, arXiv:1610.02242.

Two passes of one network over an image, each with its own noise, dropout and augmentation, should agree.

    z_i = f(g(x_i)),  z~_i = f(g(x_i)) drawn anew, both after the softmax
    L = -1/|B| sum over labelled i in B of log z_i[y_i]  +  w(t) 1/(C |B|) sum over i in B of ||z_i - z~_i||^2
    w(t) = w_max (M/N) exp(-5 (1 - t/T)^2),  M/N the share of labelled examples

The gradient flows through both passes. Here batches are drawn with a share of labelled examples of their own, so M/N is
that share. With `on_logits` z are the outputs before the softmax, the form in which the method is often drawn; with
`stop_gradient` the gradient flows through the first pass only.
"""
from dataclasses import dataclass

import numpy as np

import minigrad as mg
from methods.training.forward import joint_forward
from methods.training.method import Loss
from methods.training.objectives import consistency
from methods.training.settings import setting
from methods.training.teacher import sigmoid_ramp
from minigrad import Tensor
from minigrad.data import Batch

from .base import SemiSupervisedMethod, Task

ROW = "weak, noise", "weak, noise", "none"


@dataclass
class Config:
    """The paper's settings."""

    w_max: float = setting(100.0, least=0)  # largest weight of the consistency cost
    ramp: float = setting(80 / 300, least=0)  # T as a part of the training; 0: full weight from the start
    noise: float = setting(0.15, least=0)  # standard deviation of the noise on the inputs
    dropout: float = setting(0.5, least=0, most=0.99)
    on_logits: bool = False  # consistency of the outputs before the softmax
    stop_gradient: bool = False  # the second pass is a constant
    ema: float = setting(0.999, least=0, below=1)  # decay of the weights' average that is tested


SHORT = dict(w_max=100.0, dropout=0.0)


def loss(z1: Tensor, z2: Tensor, y: Tensor, weight: Tensor, on_logits: bool = False) -> Tensor:
    """L from the logits of both passes (|B|, C), the labelled examples first, with labels y; `weight` is w(t)."""
    supervised = mg.cross_entropy(z1[:len(y)], y, reduction="sum") / len(z1)
    p1, p2 = (z1, z2) if on_logits else (mg.softmax(z1, 1), mg.softmax(z2, 1))
    return supervised + weight * consistency(p1, p2)


def noisy(task: Task, x: np.ndarray, rng: np.random.Generator, noise: float) -> np.ndarray:
    """g(x): weakly augmented, with Gaussian noise, if there is any."""
    x = task.weak(x, rng)
    return x + noise * rng.standard_normal(x.shape, dtype=np.float32) if noise else x


class PiModel(SemiSupervisedMethod):
    """Trains by L, with the ramp w(t)."""

    def arguments(self, batch: Batch, step: int) -> tuple[Tensor, ...]:
        """g(x) of all images, twice, the labels and w(t)."""
        c, images = self.config, np.concatenate([batch.x, batch.u])
        both = [self.tensor(noisy(self.task, images, self.rng, c.noise)) for _ in range(2)]
        w = c.w_max * len(batch.x) / len(images) * sigmoid_ramp(step, c.ramp * self.task.steps)
        return *both, self.labels(batch.y), self.tensor(w)

    def objective(self, first: Tensor, second: Tensor, y: Tensor, w: Tensor) -> Loss:
        """L."""
        z1, z2 = joint_forward(self.net, first, second)
        z2 = z2.detach() if self.config.stop_gradient else z2
        return loss(z1, z2, y, w, self.config.on_logits), {"weight": w}


Objective = PiModel
