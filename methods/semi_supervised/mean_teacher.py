"""Mean Teacher.

Antti Tarvainen, Harri Valpola: "Mean teachers are better role models: Weight-averaged consistency targets improve
semi-supervised deep learning results", 2017, arXiv:1703.01780.

The student agrees with a teacher whose weights are the exponential moving average of its own.

    theta'_t = gamma theta'_{t-1} + (1 - gamma) theta_t,  gamma at most 1 - 1/(t + 1)           (after each step)
    L = mean CE(f(x; theta), y) + w(t) mean over examples and classes of (p(x, n; theta) - p(x, n'; theta'))^2

Both have their own augmentation, noise n and dropout. The teacher normalises by the batch's statistics while it teaches; its
running ones, used at test, are the average of the student's.
"""
from dataclasses import dataclass

import numpy as np

import minigrad as mg

from .base import Method, consistency, predicted, sigmoid_ramp, tensor, together
from .pi_model import noisy

ROW = "weak, noise", "weak, noise; averaged weights", "none"


@dataclass
class Config:
    w_max: float = 8.0  # largest weight of the consistency cost
    ramp: float = 40 / 150  # T of the ramp-up as a part of the training; 0: full weight from the start
    noise: float = 0.15  # standard deviation of the noise on the inputs
    dropout: float = 0.5
    own: bool = True  # False: the teacher sees the student's input
    ema: float = 0.999  # gamma; 0: the teacher is the student of the step before


def loss(z, y, p_teacher, weight):
    """L from the student's logits, the labelled first, and the teacher's probabilities, a constant."""
    return mg.cross_entropy(z[:len(y)], y) + weight * consistency(mg.softmax(z, 1), mg.stop_gradient(p_teacher))


class MeanTeacher(Method):
    def loss(self, batch, t):
        c, everything = self.config, np.concatenate([batch.x, batch.u])
        student = noisy(self.task, everything, self.rng, c.noise)
        teacher = noisy(self.task, everything, self.rng, c.noise) if c.own else student
        (z,) = together(self.net, student)
        target = tensor(self.net, predicted(self.teacher.net.train(), teacher))
        w = c.w_max * sigmoid_ramp(t, c.ramp * self.task.steps)
        return loss(z, batch.y, target, w), {"weight": w}


Objective = MeanTeacher
