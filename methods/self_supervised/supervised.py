"""Training with all labels, on the same frame: what the encoder is worth if nothing has to be learned without labels.

    L = mean CE(f(v), y),   v a cropped view
"""
from dataclasses import dataclass

import minigrad as mg
from methods.training.evaluation import right
from methods.training.forward import of_classes, placed
from methods.training.method import Loss
from methods.training.settings import setting
from minigrad import Tensor, nn
from minigrad.data import views

from .base import Batch, SelfSupervisedMethod, Task


@dataclass
class Config:
    """Settings of the training with labels."""

    smoothing: float = setting(0.0, least=0, most=1)  # of the labels


class Supervised(SelfSupervisedMethod):
    """Trains by L; a linear layer, which is thrown away like the other methods' heads, names the classes."""

    needs_labels = True

    def __init__(self, config: Config, encoder: nn.Encoder, task: Task):
        super().__init__(config, encoder, nn.Linear(encoder.width, task.classes), task)
        (self.view,) = views.mae(task.size, flip=task.flip)

    def arguments(self, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        """Views of the pictures, and the labels."""
        return self.tensor(self.view(batch.x, self.rng)), *placed(self.net, of_classes(batch.y, self.task.classes))

    def objective(self, x: Tensor, y: Tensor) -> Loss:
        """L, and the share of pictures classified correctly."""
        logits = self.heads(self.net.features(x))
        return mg.cross_entropy(logits, y, self.config.smoothing), {"accuracy": right(logits.data, y.data).mean()}


Objective = Supervised
