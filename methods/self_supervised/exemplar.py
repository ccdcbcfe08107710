"""Exemplar-CNN.

Alexey Dosovitskiy and others: "Discriminative unsupervised feature learning with exemplar convolutional neural networks",
2014, arXiv:1406.6909.

Each picture is a class of its own; what it looks like after many transformations are the examples. The paper's classes are
patches of 32 x 32 pixels, cut out where larger pictures have strong gradients; here pictures of that size are taken whole.

    L = mean over pictures i and transformations T of CE(f(T x_i), i)

The paper reads the network by a support vector machine on the maxima over quarters of all maps: `examples.transfer --quarters`.
With too many pictures, of which some are nearly alike, the classes contradict each other: so few thousand (`--pictures`) serve.
"""
from dataclasses import dataclass

import minigrad as mg
from methods.training.evaluation import right
from methods.training.forward import placed
from methods.training.method import Loss
from methods.training.settings import setting
from minigrad import Tensor, nn
from minigrad.data import ExemplarView

from .base import Batch, SelfSupervisedMethod, Task


@dataclass
class Config:
    """Settings."""

    dropout: float = setting(0.5, least=0, most=0.99)  # of the features
    shifts_alone: bool = False  # the only transformations are shifts


SHORT = dict(pictures=2000, dropout=0.0, lr=3e-3)  # fewer classes, seen more often


class Exemplar(SelfSupervisedMethod):
    """Trains by L; the last layer has an output for each picture."""

    def __init__(self, config: Config, encoder: nn.Encoder, task: Task):
        head = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(encoder.width, task.images))
        super().__init__(config, encoder, head, task)
        off = dict.fromkeys(("scale", "contrast", "power", "factor"), (1.0, 1.0)) | dict(rotation=0.0, offset=0.0, hue=0.0)
        self.view = ExemplarView(task.size, **off if config.shifts_alone else {})

    def arguments(self, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        """The pictures, transformed, and which they are."""
        return self.tensor(self.view(batch.x, self.rng)), *placed(self.net, batch.index)

    def objective(self, x: Tensor, index: Tensor) -> Loss:
        """L, and the share of pictures that are found."""
        logits = self.heads(self.net.features(x))
        return mg.cross_entropy(logits, index), {"found": right(logits.data, index.data).mean()}


Objective = Exemplar
