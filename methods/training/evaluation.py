"""A network on a whole data set: its outputs, accuracies with their intervals."""
from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad.nn import Module

from .forward import evaluating, slices, tensor


def in_batches(net: Module, x: np.ndarray, batch: int = 500) -> np.ndarray:
    """The outputs for all of x (N, ...), in evaluation mode and without a graph, so many at a time."""
    with evaluating(net):
        return np.concatenate([net(tensor(net, some)).numpy() for some in slices(x, batch)])


def right(scores: Any, labels: Any) -> Any:
    """Whether scores (..., classes) are largest at the label (...), bool; where one is NaN they are not, whatever the label.

    Arrays of the host or of a GPU.
    """
    return (scores.argmax(-1) == labels) & ~np.isnan(scores).any(-1)


def accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    """The share of scores (N, classes) that are largest at the label (N,); see `right`."""
    return float(right(scores, labels).mean())


def deviation(values: Sequence[float]) -> float:
    """The standard deviation that values drawn at random tell of all (their squares' sum over N - 1); NaN of one value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def mean_and_interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean and the half-width of its 95 % confidence interval, which holds for 30 values or more; NaN of one value."""
    return float(np.mean(values)), 1.96 * deviation(values) / len(values) ** 0.5
