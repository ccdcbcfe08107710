"""Pieces of objectives that several methods share."""
import numpy as np

import minigrad as mg
from minigrad import Tensor


def consistency(p: Tensor, q: Tensor) -> Tensor:
    """The mean over examples and classes of (p - q)^2, for probabilities (N, C)."""
    return mg.square(p - q).mean()


def sharpen(p: np.ndarray, temperature: float) -> np.ndarray:
    """p^(1/T) / sum: T = 1 leaves p (N, C), T -> 0 makes it one-hot."""
    scaled = (p / p.max(1, keepdims=True)) ** (1 / temperature)  # the largest as 1, or all might underflow
    return scaled / scaled.sum(1, keepdims=True)


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    """(N,) to (N, classes) float32. ValueError for a label that is none of the classes, such as -1."""
    return mg.one_hot(labels, classes).numpy()


def mixup(x: np.ndarray, y: np.ndarray, rng: np.random.Generator, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Each example with another at random: lambda x + (1 - lambda) x', labels alike; lambda ~ Beta(alpha, alpha), >= 1/2.

    lambda is drawn for each example, and as the larger part is the example's own, labelled ones stay mostly labelled.
    """
    weight = rng.beta(alpha, alpha, len(x)).astype(np.float32)
    weight, other = np.maximum(weight, 1 - weight), rng.permutation(len(x))

    def mix(a):
        w = weight.reshape(-1, *[1] * (a.ndim - 1))
        return w * a + (1 - w) * a[other]

    return mix(x), mix(y)
