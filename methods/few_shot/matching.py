"""Matching networks.

Oriol Vinyals et al.: "Matching Networks for One Shot Learning", 2016, arXiv:1606.04080.

A query takes the labels of the support examples in proportion to its attention to them, a differentiable nearest
neighbour, trained on episodes like those of the test.

    P(y | x, S) = sum_i a(x, x_i) y_i                                                    (1)
    a(x, x_i) = exp(c(f(x), g(x_i))) / sum_j exp(c(f(x), g(x_j))),  c the cosine         (section 2.1.1)
    L = -log P(y | x, S), averaged over the queries: the log of a sum

With full context embeddings g sees the other examples, through an LSTM in both directions over the support set, and f
sees the support set, through an LSTM that reads it with attention for a number of steps (section 2.1.2, appendix A).
"""
from dataclasses import dataclass
from typing import Any

import numpy as np

import minigrad as mg
from methods.training.evaluation import right
from methods.training.forward import of_classes, placed, tensor
from methods.training.method import Loss, Method
from methods.training.settings import setting
from minigrad import Tensor, nn
from minigrad.data import Episode

from .base import FewShotClassifier, shot
from .prototypical import unit


@dataclass
class Config:
    """Settings for Omniglot."""

    way: int = setting(20, least=2)
    shot: int = setting(1, least=1)
    query: int = setting(5, least=1)  # images to classify a class
    lr: float = setting(1e-3, least=0)  # of Adam
    scale: float = setting(10.0, above=0)  # of the cosine; 1 in the paper, but then even a perfect 5-way match has P = 0.65
    learn_scale: bool = False  # `scale` is where it starts
    context: bool = False  # full context embeddings
    reads: int = setting(5, least=1)  # times that f reads the support set


class Context(nn.Module):
    """Full context embeddings: (n, d) support and (m, d) query embeddings that know of the support set."""

    def __init__(self, size: int, reads: int):
        self.both_ways, self.read = nn.LSTM(size, size, bidirectional=True), nn.LSTMCell(size, 2 * size)
        self.project = nn.Linear(2 * size, size, bias=False)
        self.reads = reads

    def g(self, support: Tensor) -> Tensor:
        """g(x_i, S) = h_i forwards + h_i backwards + g'(x_i)."""
        states, _ = self.both_ways(support.expand_dims(1))
        forwards, backwards = mg.split(states[:, 0], 2, axis=1)
        return forwards + backwards + support

    def f(self, queries: Tensor, g: Tensor) -> Tensor:
        """h_k = P LSTM(f'(x), [h_{k-1}, r_{k-1}]) + f'(x), where r_{k-1} is what h_{k-1} attends to in the support set.

        h_0 = f'(x) and r_0 = 0. The LSTM's state is as wide as [h, r]; the matrix P, which is learned, makes one h of it.
        """
        h, r = queries, mg.zeros_like(queries)
        c = mg.zeros_like(mg.concatenate([queries, queries], axis=1))
        for _ in range(self.reads):
            out, c = self.read(queries, (mg.concatenate([h, r], axis=1), c))
            h = self.project(out) + queries
            r = mg.softmax(h @ g.T, 1) @ g
        return h


def log_probabilities(support: Tensor, queries: Tensor, way: int, scale: float | Tensor = 1.0) -> Tensor:
    """log of (1): support embeddings (way * shot, d), class by class, and queries (n, d), to (n, way)."""
    attention = mg.log_softmax(scale * (unit(queries) @ unit(support).T), 1)
    return mg.logsumexp(attention.reshape(len(queries), way, shot(support, way)), 2)


def drawn_order(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The order in which the LSTM reads so many examples, and its inverse."""
    order = rng.permutation(count)
    return order, np.argsort(order)


class MatchingNetwork(FewShotClassifier):
    """An embedding `net` to (n, size), with or without full context embeddings; other arguments as in Config."""

    def __init__(self, net: nn.Module, size: int, scale: float = 10.0, learn_scale: bool = False, context: bool = False,
                 reads: int = 5):
        self.net, self.scale = net, nn.Parameter(np.float32(scale)) if learn_scale else scale
        self.context = Context(size, reads) if context else None

    def prepare(self, support: Tensor, way: int, order: tuple[Any, Any] | None = None) -> Tensor:
        """See `FewShotClassifier`. Args: order: see `drawn_order`; None: always the same."""
        if self.context is None:
            return support
        count = way * shot(support, way)
        there, back = order or drawn_order(count, np.random.default_rng(count))
        return self.context.g(support[there])[back]

    def compare(self, prepared: Tensor, queries: Tensor, way: int) -> Tensor:
        """Log-probabilities (n, way)."""
        queries = queries if self.context is None else self.context.f(queries, prepared)
        return log_probabilities(prepared, queries, way, self.scale)


class Matching(Method):
    """Trains a MatchingNetwork on episodes."""

    def arguments(self, batch: Episode, step: int) -> tuple[Any, ...]:
        """The images, those of the support set first, and their order; the queries' labels; how many classes.

        The order of the examples is drawn anew each time, or the context would learn which places belong to one class.
        """
        images, n = tensor(self.net, np.concatenate([batch.support, batch.query])), len(batch.support)
        order = placed(self.net, *drawn_order(n, mg.random.generator())) if self.net.context else None
        way = len(batch.classes)
        return images, n, order, *placed(self.net, of_classes(batch.query_labels, way)), way

    def objective(self, images: Tensor, n: int, order: tuple[Tensor, Tensor] | None, labels: Tensor, way: int) -> Loss:
        """L and the share of queries classified correctly. Support and queries pass the network in one batch."""
        both = self.net(images)
        log_p = self.net.compare(self.net.prepare(both[:n], way, order), both[n:], way)
        of_labels = mg.take_along_axis(log_p, labels[:, None], 1)
        return -of_labels.mean(), {"accuracy": right(log_p.data, labels.data).mean()}
