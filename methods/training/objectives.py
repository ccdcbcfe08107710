"""Pieces of objectives that several methods share."""
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import Tensor


def consistency(p: Tensor, q: Tensor) -> Tensor:
    """The mean over examples and classes of (p - q)^2, for probabilities (N, C)."""
    return mg.square(p - q).mean()


def sharpen(p: Any, temperature: float) -> Any:
    """p^(1/T) / sum: T = 1 leaves p (N, C), an array of the host or of a GPU, T -> 0 makes it one-hot."""
    scaled = (p / p.max(1, keepdims=True)) ** (1 / temperature)  # the largest as 1, or all might underflow
    return scaled / scaled.sum(1, keepdims=True)


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    """(N,) to (N, classes) float32. ValueError for a label that is none of the classes, such as -1."""
    return mg.one_hot(labels, classes).numpy()


def partners(n: int, rng: np.random.Generator, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """For mixup, of each of n examples lambda ~ Beta(alpha, alpha), at least 1/2, and the place of another at random.

    lambda is drawn for each example, and as the larger part is the example's own, labelled ones stay mostly labelled.
    """
    weight = rng.beta(alpha, alpha, n).astype(np.float32)
    return np.maximum(weight, 1 - weight), rng.permutation(n)


def mixup(a: Any, weight: Any, other: Any) -> Any:
    """lambda a + (1 - lambda) a' of inputs or labels a (n, ...), arrays; lambda (n,) and the places of a' as of `partners`."""
    w = weight.reshape(-1, *[1] * (a.ndim - 1))
    return w * a + (1 - w) * a[other]
