"""The baseline: cross-entropy of the labelled examples alone, with the augmentation that all methods give them."""
from dataclasses import dataclass

import minigrad as mg

from .base import Method, together

ROW = "weak", "none", "none"  # augmentation of the student's input, of the teacher's, what becomes of the teacher's label


@dataclass
class Config:
    ema: float = 0.999  # decay of the weights' average that is tested


class Supervised(Method):
    """The labelled examples only."""

    def loss(self, batch, t):
        (z,) = together(self.net, self.task.weak(batch.x, self.rng))
        return mg.cross_entropy(z, batch.y), {}


Objective = Supervised
