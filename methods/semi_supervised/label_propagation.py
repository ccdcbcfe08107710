"""Label propagation on a graph, the classical method: no network.

Dengyong Zhou, Olivier Bousquet, Thomas Navin Lal, Jason Weston, Bernhard Schölkopf: "Learning with Local and Global
Consistency", 2003.

Every example gives its neighbours part of its labels, again and again, while labelled ones are renewed.

    W_ij = exp(-||x_i - x_j||^2 / (2 sigma^2)) for neighbours, else 0;  S = D^(-1/2) W D^(-1/2), D the sums of W's rows
    F <- alpha S F + (1 - alpha) Y, which converges to (1 - alpha) (I - alpha S)^(-1) Y;  the class is argmax F_i
"""
from dataclasses import dataclass

import numpy as np

from methods.training.data_sets import scaled
from methods.training.images import Images
from methods.training.settings import setting

ROW = "none", "none", "spread over a graph, test images in it"


@dataclass
class Config:
    """Of the paper is alpha; it joins all examples, with a fixed sigma."""

    alpha: float = setting(0.99, least=0, below=1)  # share that comes from the neighbours
    neighbours: int = setting(10, least=1)  # nearest ones that each example is joined with
    sigma: float = setting(0.0, least=0)  # 0: the mean distance to the neighbours
    iterations: int = setting(1000, least=0)  # at most
    tolerance: float = setting(1e-6, least=0)  # F is done when no entry changes by this part of the largest one


def graph(x: np.ndarray, neighbours: int, sigma: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges of the graph as i, j, S_ij, sorted by i. x (N, d); an edge stands if either end is among the other's nearest."""
    n = len(x)
    if not 0 < neighbours < n:
        raise ValueError(f"label propagation: {neighbours} neighbours of {n} examples; take 1 to {n - 1}")
    x = x - x.mean(0, dtype=np.float64)  # far from 0 the differences would be lost in rounding
    x, squares = x.astype(np.float32), (x**2).sum(1)
    i, j, distances = [], [], []
    for a in range(0, n, 1000):
        d = squares[a:a + 1000, None] + squares - 2 * (x[a:a + 1000] @ x.T)
        d[np.arange(len(d)), a + np.arange(len(d))] = np.inf
        near = np.argpartition(d, neighbours, 1)[:, :neighbours]
        i.append(np.repeat(a + np.arange(len(d)), neighbours))
        j.append(near.ravel())
        distances.append(np.maximum(np.take_along_axis(d, near, 1), 0).ravel())
    i, j, distances = map(np.concatenate, (i, j, distances))
    sigma = sigma or np.sqrt(distances).mean() or 1.0  # all neighbours may be copies
    pairs, first = np.unique(np.concatenate([i * n + j, j * n + i]), return_index=True)
    w = np.exp(-np.tile(distances, 2)[first] / (2 * sigma**2))
    i, j = pairs // n, pairs % n
    degree = np.maximum(np.bincount(i, w, n), 1e-150)  # of an outlier every weight may vanish
    return i, j, w / np.sqrt(degree[i] * degree[j])


def propagate(x: np.ndarray, labelled: np.ndarray, y: np.ndarray, classes: int, config: Config | None = None) -> np.ndarray:
    """F (N, classes) of all examples x (N, ...), of which those at the indices `labelled` have labels y."""
    config = config or Config()
    i, j, s = graph(x.reshape(len(x), -1), config.neighbours, config.sigma)
    given = np.zeros((len(x), classes))
    given[labelled, y] = 1
    f, begins = given, np.searchsorted(i, np.arange(len(x)))  # every example has an edge
    for _ in range(config.iterations):
        before = f
        f = config.alpha * np.add.reduceat(s[:, None] * f[j], begins) + (1 - config.alpha) * given
        if abs(f - before).max() < config.tolerance * f.max():
            break
    return f


def probabilities(images: Images, config: Config, most: int = 10_000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the test images, which lie in the graph too, without their labels, and of the unlabelled images.

    Of more than `most` unlabelled images so many are drawn at random.

    Returns:
        the probabilities (the rows of F, each divided by its sum) of the test images; which of the unlabelled images were
        drawn, in order; and the probabilities of these.

    Raises:
        ValueError: there are too few images for so many neighbours.
    """
    drawn = np.sort(np.random.default_rng(0).permutation(len(images.unlabelled))[:most])
    x, n = np.concatenate([images.x, images.unlabelled[drawn], images.test]), len(images.x)
    f = propagate(scaled(x), np.arange(n), images.y, images.classes, config)
    total = f.sum(1, keepdims=True)
    p = np.where(total == 0, 1 / images.classes, f / np.where(total == 0, 1, total))  # to some no label comes
    return p[n + len(drawn):], drawn, p[n:n + len(drawn)]
