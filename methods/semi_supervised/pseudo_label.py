"""Pseudo-labels, the plain form.

Dong-Hyun Lee: "Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep Neural Networks", 2013.

The class that the network predicts for an unlabelled example is taken for its label, with a weight that rises in training.

    y'_i = 1 if i = argmax f(u), else 0
    L = mean CE(f(x), y) + alpha(t) mean CE(f(u), y')
    alpha(t) = 0 before T1, then alpha_f (t - T1) / (T2 - T1), from T2 on alpha_f

With a threshold tau only predictions of at least that probability count, a later habit.
"""
from dataclasses import dataclass
from typing import Any

import minigrad as mg
from methods.training.forward import joint_forward
from methods.training.method import Loss
from methods.training.settings import setting
from methods.training.teacher import linear_ramp
from minigrad import Tensor, nn
from minigrad.data import Batch

from .base import SemiSupervisedMethod, Task

ROW = "weak", "weak", "hard"


@dataclass
class Config:
    """The paper's settings."""

    alpha: float = setting(3.0, least=0)  # alpha_f
    begin: float = setting(1 / 6, least=0, most=1)  # T1 as a part of the training
    end: float = setting(1.0, least=0, most=1)  # T2
    tau: float = setting(0.0, least=0, most=1)  # probability from which a prediction counts
    ema: float = setting(0.999, least=0, below=1)  # decay of the weights' average that is tested


SHORT = dict(alpha=1.0)


def weight(t: float, config: Config) -> float:
    """alpha(t), t as a part of the training."""
    return config.alpha * linear_ramp(t - config.begin, config.end - config.begin) if t >= config.begin else 0.0


def unsupervised(z: Tensor, tau: float) -> tuple[Tensor, Any]:
    """The second mean, over all of z (N, C), and the mask (N,) of the predictions that count, an array."""
    p = mg.softmax(z.detach(), 1).data
    mask = ~(p.max(1) < tau)  # so that NaN is in it and shows in the loss
    return mg.where(mask, mg.cross_entropy(z, p.argmax(1), reduction="none"), 0).mean(), mask


class PseudoLabel(SemiSupervisedMethod):
    """Trains by L, with the ramp alpha(t).

    Raises:
        SystemExit: T1 is after T2.
    """

    def __init__(self, config: Config, net: nn.Module, task: Task):
        if config.begin > config.end:
            raise SystemExit(f"--begin {config.begin:g} --end {config.end:g}: choose an end that is not before the begin")
        super().__init__(config, net, task)

    def arguments(self, batch: Batch, step: int) -> tuple[Tensor, ...]:
        """The images, augmented, the labels and alpha(t)."""
        x, u = (self.tensor(self.task.weak(images, self.rng)) for images in (batch.x, batch.u))
        return x, u, self.labels(batch.y), self.tensor(weight(step / self.task.steps, self.config))

    def objective(self, x: Tensor, u: Tensor, y: Tensor, alpha: Tensor) -> Loss:
        """L, and the share of the predictions that count."""
        z, zu = joint_forward(self.net, x, u)
        guessed, mask = unsupervised(zu, self.config.tau)
        return mg.cross_entropy(z, y) + alpha * guessed, {"alpha": alpha, "mask": mask.mean()}


Objective = PseudoLabel
