"""CTAugment, the augmentation of ReMixMatch (Berthelot et al. 2019, arXiv:1911.09785, section 3.2.2).

Each operation's range of values is cut into bins. A labelled image is augmented with bins drawn at random; how near the
prediction still is to the label, omega, is remembered for those bins. Training uses bins from which labels can be told.

    omega = 1 - 1/2 sum over classes of |p(y | augmented x) - label|
    m <- rho m + (1 - rho) omega,  m = 1 at first
    bins are drawn in proportion to m + 1 - rho, those below the threshold times its largest never
"""
from typing import Any

import numpy as np

from methods.training.forward import probabilities, tensor
from methods.training.objectives import one_hot
from minigrad import data
from minigrad.data import Batch
from minigrad.nn import Module

from .base import Parts, SemiSupervisedMethod, Task


class CTAugment:
    """`depth` operations for each image, then cutout."""

    def __init__(self, operations: tuple[str, ...], fill: float = 0.0, bins: int = 17, depth: int = 2, rho: float = 0.99,
                 threshold: float = 0.8, cutout: float = 0.5):
        self.operations, self.fill, self.depth, self.cutout = operations, fill, depth, cutout
        self.rho, self.threshold = rho, threshold
        self.m = np.ones((len(operations), bins))

    def bins(self, which: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """For the operations `which` (N,) a bin each, drawn in proportion to m."""
        weights = self.m + (1 - self.rho)
        weights = weights / weights.max(1, keepdims=True)
        weights[weights < self.threshold] = 0
        cumulative = np.cumsum(weights, 1)
        return (rng.random(len(which))[:, None] * cumulative[which, -1:] >= cumulative[which]).sum(1)

    def _apply(self, x, which, bins, rng):
        levels = (bins + rng.random(len(bins))) / self.m.shape[1]
        return data.augment.apply(x, self.operations, which, levels, self.fill)

    def __call__(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The images x (N, C, H, W), augmented."""
        for _ in range(self.depth):
            which = rng.integers(0, len(self.operations), len(x))
            x = self._apply(x, which, self.bins(which, rng), rng)
        return data.augment.cutout(x, rng, self.cutout, self.fill)

    def update(self, teacher: Module, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> None:
        """Probes labelled images; `teacher` is the network with averaged weights."""
        used = []
        for _ in range(self.depth):
            which, bins = rng.integers(0, len(self.operations), len(x)), rng.integers(0, self.m.shape[1], len(x))
            x = self._apply(x, which, bins, rng)
            used.append((which, bins))
        p = probabilities(teacher.eval(), tensor(teacher, x)).numpy()
        omega = 1 - 0.5 * abs(p - one_hot(y, p.shape[1])).sum(1)
        for which, bins in used:
            for k, b, value in zip(which, bins, omega):
                self.m[k, b] = self.rho * self.m[k, b] + (1 - self.rho) * value

    def state_dict(self) -> dict[str, np.ndarray]:
        """m, copied."""
        return {"m": self.m.copy()}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Puts back what `state_dict` returned."""
        self.m[...] = state["m"]


class StronglyAugmented(SemiSupervisedMethod):
    """A method whose student sees strongly augmented images, by CTAugment if the settings `strong` and `learned` say so."""

    def __init__(self, config: Any, net: Module, task: Task):
        super().__init__(config, net, task)
        learned = config.strong and config.learned and task.operations
        self.learned = CTAugment(task.operations, task.fill, cutout=task.cutout) if learned else None

    def probe(self, batch: Batch) -> None:
        """What is learned of the strengths from a batch, if they are learned."""
        if self.learned:
            self.learned.update(self.teacher.net, batch.x, batch.y, self.rng)

    def strong(self, x: np.ndarray) -> np.ndarray:
        """The student's augmentation; with `strong` False the weak one."""
        if not self.config.strong:
            return self.task.weak(x, self.rng)
        return self.learned(self.task.weak(x, self.rng), self.rng) if self.learned else self.task.strong(x, self.rng)

    def state(self) -> Parts:
        return {**super().state(), **({"ctaugment": self.learned} if self.learned else {})}
