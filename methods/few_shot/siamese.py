"""Siamese networks.

Gregory Koch, Richard Zemel, Ruslan Salakhutdinov: "Siamese Neural Networks for One-shot Image Recognition", 2015.

Learn whether two images show the same character; a new image then belongs to the class of the example it is most likely
the same as.

    p(x1, x2) = sigmoid(sum_j a_j |h1_j - h2_j| + b)                                 (section 3.1)
    L = -y log p - (1 - y) log(1 - p) + lambda |w|^2,  y = 1 for a pair of one class  (section 3.2)

Few drawings of few classes make a batch, and each pair of its images counts, those of one class together as much as all others:
a hundred images seen once are thousands of pairs.
"""
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import minigrad as mg
from methods.training.forward import placed, tensor
from methods.training.method import Loss, Method, Parts
from methods.training.settings import setting
from minigrad import Tensor, data, nn, optim

from .base import FewShotClassifier, shot

Batch = tuple[np.ndarray, np.ndarray]  # images (n, 1, H, W) and their classes (n,)


@dataclass
class Config:
    """Settings for 28 x 28 images."""

    way: int = setting(16, least=2)  # classes in a batch
    drawings: int = setting(8, least=2)  # of each of them; the memory grows with the square of way times drawings
    lr: float = setting(2e-3, above=0)  # of Adam; falls along a cosine to 0
    decay: float = setting(1e-4, least=0)  # lambda, as weight decay
    within: float = setting(0.25, least=0, most=1)  # share of the batches drawn within one alphabet, the harder ones


class Siamese(FewShotClassifier):
    """The embedding `net` to (n, size), and the weighted distance on it."""

    def __init__(self, net: nn.Module, size: int):
        self.net, self.distance = net, nn.Linear(size, 1)

    def logits(self, h1: Tensor, h2: Tensor) -> Tensor:
        """Of p, from embeddings that broadcast against each other, (..., size) to (...)."""
        return self.distance(mg.abs(h1 - h2)).squeeze(-1)

    def compare(self, prepared: Tensor, queries: Tensor, way: int) -> Tensor:
        """Each class's mean p: examples (way * shot, size), class by class, and queries (n, size), to (n, way)."""
        k, p = shot(prepared, way), mg.sigmoid(self.logits(queries[:, None], prepared[None]))
        return p.reshape(len(queries), way, k).mean(2)

    def probabilities(self, prepared: Tensor, queries: Tensor, way: int) -> Tensor:
        p = self.compare(prepared, queries, way)
        return p / p.sum(1, keepdims=True)


class ClassSampler:
    """Draws images of some classes.

    Args:
        images: (classes, drawings, H, W), or a list with (drawings, H, W) for each class.
        way: how many of them are in a batch, or all that there are.
        drawings: how many of each, or all that it has.
        within: the share of the batches that are of one alphabet.
        alphabets: the alphabet of each class, or None for one.
    """

    def __init__(self, images: Any, way: int, drawings: int, within: float = 0.0, alphabets: Sequence[str] | None = None,
                 seed: int = 0):
        self.images, self.way, self.drawings, self.within = images, way, drawings, within
        alphabet = np.zeros(len(images), int) if alphabets is None else np.unique(alphabets, return_inverse=True)[1]
        members = [np.flatnonzero(alphabet == a) for a in range(alphabet.max() + 1)]
        self.alphabets = [each for each in members if len(each) > 1]
        self.rng = np.random.default_rng(seed)

    def state(self) -> Parts:
        """The parts of a checkpoint."""
        return {"rng": self.rng}

    def sample(self) -> Batch:
        """The next batch."""
        one = self.alphabets and self.rng.random() < self.within
        among = self.alphabets[self.rng.integers(len(self.alphabets))] if one else np.arange(len(self.images))
        drawn, labels = [], []
        for k in self.rng.choice(among, min(self.way, len(among)), replace=False):
            images = self.images[k]
            some = self.rng.choice(len(images), min(self.drawings, len(images)), replace=False)
            drawn.append(images[some])
            labels.append(np.full(len(some), k))
        return np.concatenate(drawn)[:, None], np.concatenate(labels)


def turned(batch: Batch, rng: np.random.Generator) -> Batch:
    """The batch with each image turned, scaled, sheared and shifted a little."""
    return data.random_affine(batch[0], rng), batch[1]


class SiameseMethod(Method):
    """Trains a Siamese network on all pairs of a batch."""

    def arguments(self, batch: Batch, step: int) -> tuple[Tensor, ...]:
        """The images, and of all pairs whether they are of one class, and their weights.

        The pairs of one class have half of the weight, those of two the other half.
        """
        images, labels = batch
        same, itself = labels[:, None] == labels, np.eye(len(labels), dtype=bool)
        weights = sum(kind / max(2 * kind.sum(), 1) for kind in (same & ~itself, ~same)).astype(np.float32)
        return tensor(self.net, images), *placed(self.net, same, weights)

    def objective(self, images: Tensor, same: Tensor, weights: Tensor) -> Loss:
        """L without its last term, and the share of pairs judged correctly, over all pairs of the images (n, 1, H, W)."""
        h = self.net(images)
        logits = self.net.logits(h[:, None], h[None])
        loss = (mg.softplus(mg.where(same, -logits, logits)) * weights).sum()
        return loss, {"accuracy": (weights.data * ((logits.data > 0) == same.data)).sum()}

    def schedule(self, step: int, steps: int) -> float:
        return optim.cosine_decay(1.0, steps)(step)
