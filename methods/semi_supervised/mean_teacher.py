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
from methods.training.forward import probabilities
from methods.training.method import Loss
from methods.training.objectives import consistency
from methods.training.settings import setting
from methods.training.teacher import sigmoid_ramp
from minigrad import Tensor
from minigrad.data import Batch

from .base import SemiSupervisedMethod
from .pi_model import noisy

ROW = "weak, noise", "weak, noise; averaged weights", "none"


@dataclass
class Config:
    """The paper's settings."""

    w_max: float = setting(8.0, least=0)  # largest weight of the consistency cost
    ramp: float = setting(40 / 150, least=0)  # T of the ramp-up as a part of the training; 0: full weight from the start
    noise: float = setting(0.15, least=0)  # standard deviation of the noise on the inputs
    dropout: float = setting(0.5, least=0, most=0.99)
    own: bool = True  # False: the teacher sees the student's input
    ema: float = setting(0.999, least=0, below=1)  # gamma; 0: the teacher is the student itself


SHORT = dict(w_max=200.0, dropout=0.0, ramp=1.0)  # the average is worth agreeing with late


def loss(z: Tensor, y: Tensor, p_teacher: Tensor, weight: Tensor) -> Tensor:
    """L from the student's logits, the labelled first, and the teacher's probabilities, a constant."""
    return mg.cross_entropy(z[:len(y)], y) + weight * consistency(mg.softmax(z, 1), mg.stop_gradient(p_teacher))


class MeanTeacher(SemiSupervisedMethod):
    """Trains by L; theta' is the `teacher` that all methods have."""

    def arguments(self, batch: Batch, step: int) -> tuple[Tensor, ...]:
        """What the student and the teacher see, the labels and w(t)."""
        c, images = self.config, np.concatenate([batch.x, batch.u])
        student = noisy(self.task, images, self.rng, c.noise)
        teacher = noisy(self.task, images, self.rng, c.noise) if c.own else student
        w = c.w_max * sigmoid_ramp(step, c.ramp * self.task.steps)
        return self.tensor(student), self.tensor(teacher), self.labels(batch.y), self.tensor(w)

    def objective(self, student: Tensor, teacher: Tensor, y: Tensor, w: Tensor) -> Loss:
        """L."""
        return loss(self.net(student), y, probabilities(self.teacher.net.train(), teacher), w), {"weight": w}


Objective = MeanTeacher
