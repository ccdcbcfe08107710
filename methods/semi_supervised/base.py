"""The frame of the semi-supervised methods: the task, and an objective with its own randomness and averaged weights."""
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from methods.training.evaluation import in_batches
from methods.training.forward import of_classes, placed, tensor
from methods.training.method import Method, Parts
from methods.training.teacher import Teacher, linear_ramp
from minigrad import Tensor, nn

Augmentation = Callable[[np.ndarray, np.random.Generator], np.ndarray]


@dataclass
class Task:
    """A method's knowledge of the data."""

    classes: int
    labelled: int  # number of labelled examples
    unlabelled: int  # number of unlabelled ones
    steps: int  # of the whole training
    weak: Augmentation
    strong: Augmentation
    prior: np.ndarray | None = None  # share of each class among the labels, (classes,); None: all alike
    seed: int = 0
    operations: tuple[str, ...] = ()  # names in `data.augment.OPERATIONS`, for a method that learns how strongly to augment
    fill: float = 0.0  # the background
    cutout: float = 0.5  # side of the square that such a method cuts out, as a part of the width

    def __post_init__(self):
        if self.prior is None:
            self.prior = np.full(self.classes, 1 / self.classes)


def learning_rate(k: int, total: int, eta: float) -> float:
    """FixMatch's eta cos(7 pi k / (16 K)), which all methods use here. Ends at 0.195 eta, not at 0, and stays there."""
    return eta * math.cos(7 * math.pi / 16 * linear_ramp(k, total))


class SemiSupervisedMethod(Method):
    """A semi-supervised objective. Subclasses define `arguments` and `objective`, or `loss`, and add to `state`."""

    def __init__(self, config: Any, net: nn.Module, task: Task):
        super().__init__(config, net)
        self.task = task
        self.rng = np.random.default_rng((task.seed, 7))
        self.teacher = Teacher(net, config.ema)

    def after_step(self, step: int) -> None:
        self.teacher.update()

    def schedule(self, step: int, steps: int) -> float:
        return learning_rate(step, steps, 1.0)

    def state(self) -> Parts:
        return {**super().state(), "teacher": self.teacher, "rng": self.rng}

    def tensor(self, x: Any) -> Tensor:
        """Numbers of the host as a float32 Tensor on the network's device."""
        return tensor(self.net, x)

    def labels(self, y: np.ndarray) -> Tensor:
        """Labels on the network's device. ValueError of one that is out of range."""
        return placed(self.net, of_classes(y, self.task.classes))[0]

    def scores(self, x: np.ndarray, averaged: bool = True) -> np.ndarray:
        """Class scores (N, classes) of inputs by the averaged weights or the present ones."""
        return in_batches(self.teacher.net if averaged else self.net, x)
