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

from .base import Method, consistency, sigmoid_ramp, together

ROW = "weak, noise", "weak, noise", "none"


@dataclass
class Config:
    w_max: float = 100.0  # largest weight of the consistency cost
    ramp: float = 80 / 300  # T as a part of the training; 0: full weight from the start
    noise: float = 0.15  # standard deviation of the noise on the inputs
    dropout: float = 0.5
    on_logits: bool = False  # consistency of the outputs before the softmax
    stop_gradient: bool = False  # the second pass is a constant
    ema: float = 0.999  # decay of the weights' average that is tested


def loss(z1, z2, y, weight, on_logits=False):
    """L from the logits of both passes (|B|, C), the labelled examples first, with labels y; `weight` is w(t)."""
    supervised = mg.cross_entropy(z1[:len(y)], y, reduction="sum") / len(z1)
    p1, p2 = (z1, z2) if on_logits else (mg.softmax(z1, 1), mg.softmax(z2, 1))
    return supervised + weight * consistency(p1, p2)


def noisy(task, x, rng, noise):
    """g(x): weakly augmented, with Gaussian noise."""
    x = task.weak(x, rng)
    return x + noise * rng.standard_normal(x.shape, dtype=np.float32)


class PiModel(Method):
    def loss(self, batch, t):
        c, everything = self.config, np.concatenate([batch.x, batch.u])
        z1, z2 = together(self.net, *[noisy(self.task, everything, self.rng, c.noise) for _ in range(2)])
        z2 = z2.detach() if c.stop_gradient else z2
        w = c.w_max * len(batch.x) / len(everything) * sigmoid_ramp(t, c.ramp * self.task.steps)
        return loss(z1, z2, batch.y, w, c.on_logits), {"weight": w}


Objective = PiModel
