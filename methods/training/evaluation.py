"""A network on a whole data set: its outputs, accuracies with their intervals."""
import numpy as np

from minigrad.nn import Module

from .forward import evaluating, slices, tensor


def in_batches(net: Module, x: np.ndarray, batch: int = 500) -> np.ndarray:
    """The outputs for all of x (N, ...), in evaluation mode and without a graph, so many at a time."""
    with evaluating(net):
        return np.concatenate([net(tensor(net, some)).numpy() for some in slices(x, batch)])


def accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    """The share of scores (N, classes) that are largest at the label (N,)."""
    return float((scores.argmax(1) == labels).mean())


def mean_and_interval(values: np.ndarray) -> tuple[float, float]:
    """The mean and the half-width of its 95 % confidence interval; of one value that is unknown, NaN."""
    half = 1.96 * np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return float(np.mean(values)), float(half)
