"""Prototypical networks.

Jake Snell, Kevin Swersky, Richard Zemel: "Prototypical Networks for Few-shot Learning", 2017, arXiv:1703.05175.

A class is represented by the mean of its embedded examples, its prototype, and a new image belongs to the class whose
prototype is nearest. The embedding is trained on episodes that look like the test: few examples of each of many classes.

    c_k = 1/|S_k| sum over (x, y) in S_k of f(x)                                  (1)
    p(y = k | x) = exp(-d(f(x), c_k)) / sum over k' of exp(-d(f(x), c_k'))        (2)
    J = -log p(y = k | x), averaged over the queries

With the squared Euclidean distance this is a linear classifier on the embedding (section 2.4); with the cosine
distance and one example a class it is a matching network (Vinyals et al. 2016).
"""
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

import minigrad as mg
from methods.training.evaluation import right
from methods.training.forward import of_classes, placed, tensor
from methods.training.method import Loss, Method
from methods.training.settings import setting
from minigrad import Tensor, nn, optim
from minigrad.data import Episode

from .base import FewShotClassifier, five_places, shot


@dataclass
class Config:
    """The paper's settings for Omniglot."""

    way: int = setting(60, least=2)  # classes in a training episode: more than at test, which helps
    shot: int = setting(1, least=1)  # labelled images a class, as many as at test
    query: int = setting(5, least=1)  # images to classify a class
    lr: float = setting(1e-3, least=0)  # of Adam
    halve_every: int = setting(2000, least=1)  # episodes after which the learning rate is halved
    schedule: Literal["halve", "cosine"] = "halve"  # of the learning rate: every so often by half, or a cosine to 0
    distance: Literal["euclidean", "cosine"] = "euclidean"  # squared Euclidean, or 1 - cosine
    shift: int = setting(0, least=0)  # pixels; if not 0, new images are embedded as the mean over five places, so far apart


def prototypes(embeddings: Tensor, way: int) -> Tensor:
    """(1): the mean over each class. Embeddings (way * shot, d), class by class, to (way, d)."""
    return embeddings.reshape(way, shot(embeddings, way), embeddings.shape[-1]).mean(1)


def squared_euclidean(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances between rows: (n, d) and (m, d) to (n, m).

        |f - c|^2 = |f|^2 - 2 f'c + |c|^2

    For a query f the first term is the same for every class c_k, and the softmax (2) takes no notice of what is added to all
    its inputs. There remains 2 c_k'f - |c_k|^2: a linear layer on f with weights w_k = 2 c_k and bias -|c_k|^2. So all that
    is not linear has to be learned by f. Computed in these three terms it is one matrix product; rounding may leave a
    distance of 0 a little below it, hence the maximum.
    """
    return mg.maximum((a * a).sum(1, keepdims=True) - 2 * (a @ b.T) + (b * b).sum(1), 0)


def unit(v: Tensor) -> Tensor:
    """Each row divided by its length, (n, d)."""
    return v / (mg.norm(v, axis=1, keepdims=True) + 1e-8)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """1 - cosine of the angle between rows: (n, d) and (m, d) to (n, m)."""
    return 1 - unit(a) @ unit(b).T


DISTANCES = {"euclidean": squared_euclidean, "cosine": cosine}


def logits(queries: Tensor, centres: Tensor, distance: str = "euclidean") -> Tensor:
    """(2) before the softmax: minus the distances, (n, way)."""
    return -DISTANCES[distance](queries, centres)


def classify(support: Tensor, queries: Tensor, way: int, distance: str = "euclidean") -> Tensor:
    """(2) from embeddings: support (way * shot, d) and queries (n, d) to scores (n, way)."""
    return logits(queries, prototypes(support, way), distance)


class PrototypicalNetwork(FewShotClassifier):
    """The embedding `net` to (n, d), and the nearest prototype.

    Args:
        shift: in evaluation mode the embedding is the mean over the image and it shifted by so many pixels in four directions.
    """

    def __init__(self, net: nn.Module, distance: str = "euclidean", shift: int = 0):
        self.net, self.distance, self.shift = net, distance, shift

    def forward(self, images: Tensor) -> Tensor:
        if self.training or not self.shift:
            return self.net(images)
        places = five_places(images, self.shift)
        return sum(map(self.net, places)) / len(places)

    def prepare(self, support: Tensor, way: int) -> Tensor:
        return prototypes(support, way)

    def compare(self, prepared: Tensor, queries: Tensor, way: int) -> Tensor:
        return logits(queries, prepared, self.distance)


class Prototypical(Method):
    """Trains a PrototypicalNetwork on episodes."""

    def arguments(self, batch: Episode, step: int) -> tuple[Any, ...]:
        """The images, those of the support set first, and how many these are; the queries' labels; how many classes."""
        images, way = tensor(self.net, np.concatenate([batch.support, batch.query])), len(batch.classes)
        return images, len(batch.support), *placed(self.net, of_classes(batch.query_labels, way)), way

    def objective(self, images: Tensor, n: int, labels: Tensor, way: int) -> Loss:
        """J and the share of queries classified correctly. Support and queries pass the network in one batch."""
        both = self.net(images)
        scores = self.net.classify(both[:n], both[n:], way)
        return mg.cross_entropy(scores, labels), {"accuracy": right(scores.data, labels.data).mean()}

    def schedule(self, step: int, steps: int) -> float:
        cosine = self.config.schedule == "cosine"
        return (optim.cosine_decay(1.0, steps) if cosine else optim.step_decay(1.0, self.config.halve_every))(step)
