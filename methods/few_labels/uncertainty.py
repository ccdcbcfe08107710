"""How sure an answer is: intervals of accuracies, calibrated probabilities, and sets of classes that hold the right one.

    Wilson's interval (1927) of k right ones among n:   (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)
    temperature (Guo et al. 2017, arXiv:1706.04599):    softmax(scores / T), T where the left-out labels are most likely,
                                                        if of N all may be right by chance: see `linear.doubting_loss`
    conformal sets (Vovk et al. 2005; split form):      {c : 1 - p_c <= q}, q the ceil((n + 1)(1 - a))-th smallest of the
                                                        left-out 1 - p_y; a share of 1 - a of the sets holds the right class
"""
import math

import numpy as np

from methods.transfer.linear import doubting_loss

TEMPERATURES = tuple(2.0 ** (k / 4) for k in range(-24, 25))


def wilson(right: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of an accuracy, of which `right` among n were seen; (0, 1) of none."""
    if not n:
        return 0.0, 1.0
    p, w = right / n, z * z / n
    half = z * math.sqrt(p * (1 - p) / n + w / (4 * n))
    return max(0.0, (p + w / 2 - half) / (1 + w)), min(1.0, (p + w / 2 + half) / (1 + w))


def softmax(scores: np.ndarray) -> np.ndarray:
    """Of rows (N, classes)."""
    e = np.exp(scores - scores.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def temperature(scores: np.ndarray, y: np.ndarray) -> float:
    """T of left-out scores (N, classes) with labels (N,); 1 of none."""
    return min(TEMPERATURES, key=lambda t: doubting_loss(scores / t, y)) if len(y) else 1.0


def threshold(p: np.ndarray, y: np.ndarray, coverage: float = 0.9) -> float:
    """q of left-out probabilities (N, classes); 1, so that sets hold all classes, where there are too few to tell."""
    n = len(y)
    k = math.ceil((n + 1) * coverage)
    return float(np.sort(1 - p[np.arange(n), y])[k - 1]) if n and k <= n else 1.0
