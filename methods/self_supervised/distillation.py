"""Distillation on pictures without labels, the third step of SimCLRv2.

Ting Chen, Simon Kornblith, Kevin Swersky, Mohammad Norouzi, Geoffrey Hinton: "Big self-supervised models are strong
semi-supervised learners", 2020, arXiv:2006.10029; the loss is that of Hinton, Vinyals, Dean 2015, arXiv:1503.02531.

A student that has seen no label learns what a fine-tuned teacher says of many pictures.

    L = -mean over pictures of sum over classes y of P_T(y | v) log P_S(y | v),   P(y | v) proportional to exp(f(v)_y / tau)

Both see the same view v; the teacher, in evaluation mode, does not learn.
"""
import numpy as np

import minigrad as mg
from methods.training.evaluation import in_batches
from methods.training.forward import tensor, tensor_like
from methods.training.method import Loss
from minigrad import Tensor, nn
from minigrad.data import views

from .base import Batch
from .evaluation import Classifying, Tuning


def loss(student: Tensor, teacher: np.ndarray, tau: float) -> Tensor:
    """L from both outputs (N, classes)."""
    p = mg.softmax(mg.Tensor(teacher / tau), 1).numpy()
    return -(tensor_like(p, student) * mg.log_softmax(student / tau, 1)).sum(1).mean()


class Distillation(Classifying):
    """Trains a student by L.

    Args:
        config: of the training; pictures are cropped at random whatever `augment` says, and with `flip` mirrored.
        net: the student.
        teacher: a classifier of the same pictures.
        tau: the temperature of both.
    """

    def __init__(self, config: Tuning, net: nn.Module, teacher: nn.Module, size: int, tau: float = 1.0):
        super().__init__(config, net)
        self.teacher, self.tau = teacher, tau
        (self.view,) = views.mae(size, flip=config.flip)

    def loss(self, batch: Batch, step: int) -> Loss:
        x = self.view(batch.x, self.rng)
        return loss(self.net(tensor(self.net, x)), in_batches(self.teacher, x), self.tau), {}
