"""Siamese networks.

Gregory Koch, Richard Zemel, Ruslan Salakhutdinov: "Siamese Neural Networks for One-shot Image Recognition", 2015.

Learn whether two images show the same character; a new image then belongs to the class of the example it is most likely
the same as.

    p(x1, x2) = sigmoid(sum_j a_j |h1_j - h2_j| + b)                                 (section 3.1)
    L = -y log p - (1 - y) log(1 - p) + lambda |w|^2,  y = 1 for a pair of one class  (section 3.2)
"""
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import minigrad as mg
from methods.training.forward import tensor
from methods.training.method import Loss, Method, Parts
from methods.training.settings import setting
from minigrad import Tensor, data, nn

from .base import FewShotClassifier

Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]  # first and second images (pairs, 1, H, W), whether of one class (pairs,)


@dataclass
class Config:
    """Settings for 28 x 28 images."""

    pairs: int = setting(128, least=2)  # in a batch; half of them of one class
    lr: float = setting(1e-3, above=0)  # of Adam
    decay: float = setting(1e-4, least=0)  # lambda, as weight decay
    within: float = setting(0.5, least=0, most=1)  # share of the different pairs drawn within one alphabet, the harder ones


class Siamese(FewShotClassifier):
    """The embedding `net` to (n, size), and the weighted distance on it."""

    def __init__(self, net: nn.Module, size: int):
        self.net, self.distance = net, nn.Linear(size, 1)

    def logits(self, h1: Tensor, h2: Tensor) -> Tensor:
        """Of p, from embeddings that broadcast against each other, (..., size) to (...)."""
        return self.distance(mg.abs(h1 - h2)).squeeze(-1)

    def compare(self, prepared: Tensor, queries: Tensor, way: int) -> Tensor:
        """Each class's mean p: examples (way * shot, size), class by class, and queries (n, size), to (n, way)."""
        p = mg.sigmoid(self.logits(queries[:, None], prepared[None]))
        return p.reshape(len(queries), way, -1).mean(2)

    def probabilities(self, prepared: Tensor, queries: Tensor, way: int) -> Tensor:
        p = self.compare(prepared, queries, way)
        return p / p.sum(1, keepdims=True)


class PairSampler:
    """Draws pairs of images: the first half of one class, the second half of two.

    Args:
        images: (classes, drawings, H, W), or a list with (drawings, H, W) for each class.
        alphabets: the alphabet of each class, or None; `within` of the different pairs stay within one.
    """

    def __init__(self, images: Any, pairs: int, within: float = 0.0, alphabets: Sequence[str] | None = None, seed: int = 0):
        self.images, self.pairs, self.within = images, pairs, within if alphabets is not None else 0.0
        self.alphabets = np.zeros(len(images), int) if alphabets is None else np.unique(alphabets, return_inverse=True)[1]
        self.rng = np.random.default_rng(seed)

    def state(self) -> Parts:
        """The parts of a checkpoint."""
        return {"rng": self.rng}

    def sample(self) -> Pairs:
        """The next batch."""
        same = np.arange(self.pairs) < self.pairs // 2
        first, second = zip(*[self._same() if s else self._different() for s in same])
        return np.stack(first)[:, None], np.stack(second)[:, None], same

    def _same(self):
        drawings = self.images[self.rng.integers(len(self.images))]
        i, j = self.rng.choice(len(drawings), 2, replace=False)
        return drawings[i], drawings[j]

    def _different(self):
        a = self.rng.integers(len(self.images))
        others = np.delete(np.arange(len(self.images)), a)
        if self.rng.random() < self.within:
            near = others[self.alphabets[others] == self.alphabets[a]]
            others = near if len(near) else others
        b = self.rng.choice(others)
        return tuple(self.images[c][self.rng.integers(len(self.images[c]))] for c in (a, b))


def turned(pairs: Pairs, rng: np.random.Generator) -> Pairs:
    """The pairs with each image turned, scaled, sheared and shifted a little."""
    return data.random_affine(pairs[0], rng), data.random_affine(pairs[1], rng), pairs[2]


def loss_and_accuracy(model: Siamese, first: np.ndarray, second: np.ndarray, same: np.ndarray) -> tuple[Tensor, float]:
    """L without its last term, and the share of pairs judged correctly. All images pass the network as one batch."""
    h = model(tensor(model, np.concatenate([first, second])))
    logits = model.logits(h[:len(first)], h[len(first):])
    return mg.softplus(mg.where(same, -logits, logits)).mean(), float(((logits.numpy() > 0) == same).mean())


class SiameseMethod(Method):
    """Trains a Siamese network on pairs."""

    def loss(self, batch: Pairs, step: int) -> Loss:
        loss, accuracy = loss_and_accuracy(self.net, *batch)
        return loss, {"accuracy": accuracy}
