"""How good a network is: accuracies with their intervals."""
import numpy as np


def accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    """The share of scores (N, classes) that are largest at the label (N,)."""
    return float((scores.argmax(1) == labels).mean())


def mean_and_interval(values: np.ndarray) -> tuple[float, float]:
    """The mean and the half-width of its 95 % confidence interval."""
    return float(np.mean(values)), float(1.96 * np.std(values) / np.sqrt(len(values)))
