"""The baseline: cross-entropy of the labelled examples alone.

They are weakly augmented, as in most methods; ReMixMatch augments them strongly, MixMatch mixes them. Beside a method that adds
noise to them, or whose network has dropout, the baseline has the same.
"""
from dataclasses import dataclass

import minigrad as mg
from methods.training.method import Loss
from methods.training.settings import setting
from minigrad import Tensor
from minigrad.data import Batch

from .base import SemiSupervisedMethod
from .pi_model import noisy

ROW = "weak", "none", "none"  # augmentation of the student's input, of the teacher's, what becomes of the teacher's label


@dataclass
class Config:
    """Settings."""

    noise: float = setting(0.0, least=0)  # standard deviation of noise on the inputs
    dropout: float = setting(0.0, least=0, most=0.99)
    ema: float = setting(0.999, least=0, below=1)  # decay of the weights' average that is tested


class Supervised(SemiSupervisedMethod):
    """The labelled examples only."""

    def arguments(self, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        """The images, augmented, and their labels."""
        return self.tensor(noisy(self.task, batch.x, self.rng, self.config.noise)), self.labels(batch.y)

    def objective(self, x: Tensor, y: Tensor) -> Loss:
        """Their cross-entropy."""
        return mg.cross_entropy(self.net(x), y), {}


Objective = Supervised
