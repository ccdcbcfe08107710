"""The baseline: cross-entropy of the labelled examples alone, with the augmentation that all methods give them."""
from dataclasses import dataclass

import minigrad as mg
from methods.training.method import Loss
from methods.training.settings import setting
from minigrad import Tensor
from minigrad.data import Batch

from .base import SemiSupervisedMethod

ROW = "weak", "none", "none"  # augmentation of the student's input, of the teacher's, what becomes of the teacher's label


@dataclass
class Config:
    """The only setting."""

    ema: float = setting(0.999, least=0, below=1)  # decay of the weights' average that is tested


class Supervised(SemiSupervisedMethod):
    """The labelled examples only."""

    def arguments(self, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        """The images, augmented, and their labels."""
        return self.tensor(self.task.weak(batch.x, self.rng)), self.labels(batch.y)

    def objective(self, x: Tensor, y: Tensor) -> Loss:
        """Their cross-entropy."""
        return mg.cross_entropy(self.net(x), y), {}


Objective = Supervised
