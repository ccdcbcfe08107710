"""Pseudo-labels, the plain form.

Dong-Hyun Lee: "Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep Neural Networks", 2013.

The class that the network predicts for an unlabelled example is taken for its label, with a weight that rises in training.

    y'_i = 1 if i = argmax f(u), else 0
    L = mean CE(f(x), y) + alpha(t) mean CE(f(u), y')
    alpha(t) = 0 before T1, then alpha_f (t - T1) / (T2 - T1), from T2 on alpha_f
"""
from dataclasses import dataclass

import numpy as np

import minigrad as mg

from .common import Method, together


@dataclass
class Config:
    alpha: float = 3.0  # alpha_f
    begin: float = 1 / 6  # T1 as a part of the training
    end: float = 1.0  # T2
    ema: float = 0.999  # decay of the weights' average that is tested


def weight(t, config):
    """alpha(t), t as a part of the training."""
    return config.alpha * float(np.clip((t - config.begin) / (config.end - config.begin), 0, 1))


class PseudoLabel(Method):
    def loss(self, batch, t):
        z, zu = together(self.net, self.task.weak(batch.x, self.rng), self.task.weak(batch.u, self.rng))
        a = weight(t / self.task.steps, self.config)
        return mg.cross_entropy(z, batch.y) + a * mg.cross_entropy(zu, zu.numpy().argmax(1)), {"alpha": a}


Objective = PseudoLabel
