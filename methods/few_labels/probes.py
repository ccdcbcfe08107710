"""Classifiers on frozen features, each with what it says of left-out labels; the best becomes the first answer."""
import dataclasses
import time
from typing import Any

import numpy as np

from methods.transfer import linear

from . import left_out, uncertainty
from .tip_adapter import cache

PROBES: dict[str, tuple[left_out.Fit, str]] = {
    "prototypes": (linear.prototypes, "the class whose mean is nearest"),
    "ridge": (linear.ridge, "ridge regression on the features"),
    "logistic": (linear.logistic, "logistic regression on the features"),
    "tip-adapter": (cache, "nearest mean, and votes of similar labelled pictures"),
}
MANY, FEW_PARTS = 400, 5  # labels from which on fewer parts are left out
SLOW = 20_000  # labels times classes from which on logistic regression, left out again and again, would take minutes


@dataclasses.dataclass
class Estimate:
    """A classifier and what it says of labelled pictures that it did not learn from.

    Args:
        name, about: what it is.
        scores: (N, classes) of the labelled pictures when left out, NaN for those that could not be.
        gain: what all labels add to the accuracy of left-out ones (see `left_out`); slope: what twice the labels would add.
        seconds: that it took.
        model: what was fitted to all labels, with `scores(x)`; None where that is yet to be done.
        curve: of its training.
        note: further facts in words.
    """

    name: str
    about: str
    scores: np.ndarray
    gain: float
    seconds: float
    model: Any = None
    curve: list[dict[str, float]] = dataclasses.field(default_factory=list)
    note: str = ""
    slope: float = 0.0

    def tried(self) -> np.ndarray:
        """Which labelled pictures were left out."""
        return np.flatnonzero(np.isfinite(self.scores).all(1))

    def accuracy(self, y: np.ndarray, share: np.ndarray) -> tuple[float, float, float]:
        """The accuracy that new pictures will see, and its 95 % interval; NaN, 0 and 1 where none was left out.

        Args:
            y: (N,) labels; share: (classes,) of the classes among new pictures.
        """
        tried = self.tried()
        if not len(tried):
            return float("nan"), 0.0, 1.0
        right, counts = self.scores[tried].argmax(1) == y[tried], np.bincount(y[tried], minlength=len(share))
        weight = (share / np.maximum(counts, 1))[y[tried]]
        total = weight.sum()
        if total == 0:
            return float("nan"), 0.0, 1.0
        n, value = total**2 / (weight**2).sum() / left_out.SHARED, (weight * right).sum() / total
        return tuple(float(min(1.0, p + self.gain)) for p in (value, *uncertainty.wilson(value * n, n)))

    def temperature(self, y: np.ndarray) -> float:
        """By which scores are divided to be calibrated."""
        tried = self.tried()
        return uncertainty.temperature(self.scores[tried], y[tried])

    def probabilities(self, y: np.ndarray) -> np.ndarray:
        """Calibrated ones of the pictures that were left out, (tried, classes)."""
        return uncertainty.softmax(self.scores[self.tried()] / self.temperature(y))

    def loss(self, y: np.ndarray) -> float:
        """The mean of -log p of the left-out labels; infinite where none was left out."""
        tried = self.tried()
        return uncertainty.log_loss(self.probabilities(y), y[tried]) if len(tried) else float("inf")


def estimates(x: np.ndarray, y: np.ndarray, classes: int, names: tuple[str, ...] = tuple(PROBES)) -> list[Estimate]:
    """Of each probe, fitted to all labelled features x (N, width) and with labels left out; the logistic one if that is fast."""
    found, z = [], left_out.reduced(x)
    parts = left_out.partition(y, FEW_PARTS if len(y) > MANY else left_out.MOST_PARTS)
    names = tuple(name for name in names if name != "logistic" or len(y) * classes <= SLOW)
    slope = left_out.slope(linear.prototypes, z, y, classes, parts) if parts else 0.0
    for name in names:
        began, (fit, about) = time.monotonic(), PROBES[name]
        scores = left_out.scores(fit, z, y, classes, parts)
        found.append(Estimate(name, about, scores, left_out.gain(slope, len(parts)), 0.0, fit(x, y, classes), slope=slope))
        found[-1].seconds = time.monotonic() - began
    return found


def best(found: list[Estimate], y: np.ndarray) -> Estimate:
    """The one under which left-out labels are most likely: it changes less by chance than the number of right ones."""
    return min(found, key=lambda e: e.loss(y))
