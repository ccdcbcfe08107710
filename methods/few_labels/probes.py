"""Classifiers on frozen features, each with what it says of left-out labels; the best becomes the first answer."""
import dataclasses
import functools
import time
from typing import Any

import numpy as np

from methods.transfer import linear
from methods.transfer.tip_adapter import cache

from . import left_out, uncertainty
from .soft_prototypes import soft_prototypes

PROBES: dict[str, tuple[left_out.Fit, str]] = {
    "prototypes": (linear.prototypes, "the class whose mean is nearest"),
    "ridge": (linear.ridge, "ridge regression on the features"),
    "logistic": (linear.logistic, "logistic regression on the features"),
    "tip-adapter": (cache, "nearest mean, and votes of similar labelled pictures"),
}
SOFT = "soft prototypes"
REFERENCE = 500  # pictures by which the scale of scores is told
LEAST_UNLABELLED = 50  # pictures from which on they are worth to be learnt from
MANY, FEW_PARTS = 400, 5  # labels from which on fewer parts are left out
SLOW = 20_000  # labels times classes from which on logistic regression, left out again and again, would take minutes


@dataclasses.dataclass
class Estimate:
    """A classifier and what it says of labelled pictures that it did not learn from.

    Args:
        name, about: what it is; fit: how it is fitted to features, None for networks.
        scores: (N, classes) of the labelled pictures when left out, NaN for those that could not be.
        gain: what all labels add to the accuracy of left-out ones (see `left_out`); slope: what twice the labels would add.
        seconds: that it took.
        model: what was fitted to all labels, with `scores(x)`; None where that is yet to be done.
        scale: of the model's scores, by which those of the left-out ones were divided.
        curve: of its training.
        note: further facts in words.
    """

    name: str
    about: str
    scores: np.ndarray
    gain: float
    seconds: float = 0.0
    fit: left_out.Fit | None = None
    model: Any = None
    curve: list[dict[str, float]] = dataclasses.field(default_factory=list)
    note: str = ""
    slope: float = 0.0
    scale: float = 1.0

    def tried(self) -> np.ndarray:
        """Which labelled pictures were left out."""
        return np.flatnonzero(np.isfinite(self.scores).all(1))

    def accuracy(self, y: np.ndarray, share: np.ndarray) -> tuple[float, float, float]:
        """The accuracy that new pictures will see, and its 95 % interval; NaN, 0 and 1 where none was left out.

        The lower bound does without the gain, which is not sure.

        Args:
            y: (N,) labels; share: (classes,) of the classes among new pictures.
        """
        tried = self.tried()
        if not len(tried):
            return float("nan"), 0.0, 1.0
        right, weight = self.scores[tried].argmax(1) == y[tried], weights(y[tried], share)
        total = weight.sum()
        if total == 0:
            return float("nan"), 0.0, 1.0
        n, value = total**2 / (weight**2).sum() / left_out.SHARED, (weight * right).sum() / total
        low, high = uncertainty.wilson(value * n, n)
        return float(min(1.0, value + self.gain)), low, float(min(1.0, high + self.gain))

    def model_temperature(self, y: np.ndarray) -> float:
        """By which the model's scores are divided to be calibrated."""
        return self.scale * self.temperature(y)

    def temperature(self, y: np.ndarray) -> float:
        """By which the scores of left-out ones are divided to be calibrated."""
        tried = self.tried()
        return uncertainty.temperature(self.scores[tried], y[tried])

    def probabilities(self, y: np.ndarray) -> np.ndarray:
        """Calibrated ones of the pictures that were left out, (tried, classes)."""
        return uncertainty.softmax(self.scores[self.tried()] / self.temperature(y))

    def losses(self, y: np.ndarray) -> np.ndarray:
        """-log p of each left-out label, (tried,)."""
        tried = self.tried()
        return linear.log_losses(self.scores[tried] / self.temperature(y), y[tried])

    def loss(self, y: np.ndarray, share: np.ndarray) -> float:
        """The mean of `losses` where the classes have these shares; infinite where none was left out."""
        tried = self.tried()
        weight = weights(y[tried], share)
        return float((weight * self.losses(y)).sum() / weight.sum()) if weight.sum() else float("inf")


def weights(y: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Of examples with labels y (N,), such that the classes have these shares (classes,)."""
    return (share / np.maximum(np.bincount(y, minlength=len(share)), 1))[y]


def estimates(x: np.ndarray, y: np.ndarray, classes: int, unlabelled: np.ndarray | None = None) -> list[Estimate]:
    """Of each probe, fitted to all labelled features x (N, width) and with labels left out; the logistic one if that is fast.

    Args:
        unlabelled: features of what has no label, for a probe that learns from them too.
    """
    found, fits = [], dict(PROBES)
    if len(y) * classes > SLOW:
        del fits["logistic"]
    if unlabelled is not None and len(unlabelled) >= LEAST_UNLABELLED:
        about = "the class whose mean, refined by what has no label, is nearest"
        fits[SOFT] = functools.partial(soft_prototypes, unlabelled=unlabelled), about
    parts = left_out.partition(y, FEW_PARTS if len(y) > MANY else left_out.MOST_PARTS)
    reference = x if unlabelled is None or not len(unlabelled) else unlabelled[:REFERENCE]
    slope = left_out.slope(linear.prototypes, x, y, classes, parts) if parts else 0.0
    for name, (fit, about) in fits.items():
        began = time.monotonic()
        scores, model = left_out.scores(fit, x, y, classes, parts, reference), fit(x, y, classes)
        gain, seconds, scale = left_out.gain(slope, len(parts)), time.monotonic() - began, left_out.spread(model, reference)
        found.append(Estimate(name, about, scores, gain, seconds, fit, model, slope=slope, scale=scale))
    return found


def best(found: list[Estimate], y: np.ndarray, share: np.ndarray) -> Estimate:
    """The one under which left-out labels are most likely: it changes less by chance than the number of right ones."""
    return min(found, key=lambda e: e.loss(y, share))
