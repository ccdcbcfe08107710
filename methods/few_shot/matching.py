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

import numpy as np

import minigrad as mg
from methods.training.forward import tensor
from minigrad import nn

from .prototypical import unit


@dataclass
class Config:
    """Settings for Omniglot."""

    way: int = 20
    shot: int = 1
    query: int = 5  # images to classify a class
    lr: float = 1e-3  # of Adam
    scale: float = 10.0  # of the cosine; 1 in the paper, but then even a perfect 5-way match has P = 0.65
    learn_scale: bool = False  # `scale` is where it starts
    context: bool = False  # full context embeddings
    reads: int = 5  # times that f reads the support set


class LSTM(nn.Module):
    """One step of a long short-term memory (Hochreiter and Schmidhuber 1997): input (n, inputs), state h, c (n, size)."""

    def __init__(self, inputs, size):
        self.x, self.h = nn.Linear(inputs, 4 * size), nn.Linear(size, 4 * size, bias=False)

    def forward(self, x, h, c):
        i, f, o, new = mg.split(self.x(x) + self.h(h), 4, axis=1)
        c = mg.sigmoid(f) * c + mg.sigmoid(i) * mg.tanh(new)
        return mg.sigmoid(o) * mg.tanh(c), c


class Context(nn.Module):
    """Full context embeddings: (n, d) support and (m, d) query embeddings that know of the support set."""

    def __init__(self, size, reads):
        self.ahead, self.back, self.read = LSTM(size, size), LSTM(size, size), LSTM(size, 2 * size)
        self.narrow = nn.Linear(2 * size, size, bias=False)
        self.reads = reads

    def g(self, support):
        """g(x_i, S) = h_i forwards + h_i backwards + g'(x_i)."""
        sides = []
        for cell, order in ((self.ahead, range(len(support))), (self.back, range(len(support))[::-1])):
            h = c = mg.zeros_like(support[:1])
            outs = {}
            for i in order:
                outs[i] = h, c = cell(support[i:i + 1], h, c)
            sides.append(mg.concatenate([outs[i][0] for i in range(len(support))]))
        return sides[0] + sides[1] + support

    def f(self, queries, g):
        """h_k = LSTM(f'(x), [h_{k-1}, r_{k-1}]) + f'(x), where r_{k-1} is what h_{k-1} attends to in the support set."""
        h, r = queries, mg.zeros_like(queries)
        c = mg.zeros_like(mg.concatenate([queries, queries], axis=1))
        for _ in range(self.reads):
            out, c = self.read(queries, mg.concatenate([h, r], axis=1), c)
            h = self.narrow(out) + queries
            r = mg.softmax(h @ g.T, 1) @ g
        return h

    def forward(self, support, queries):
        g = self.g(support)
        return g, self.f(queries, g)


def log_probabilities(support, queries, way, scale=1.0):
    """log of (1): support embeddings (way * shot, d), class by class, and queries (n, d), to (n, way)."""
    attention = mg.log_softmax(scale * (unit(queries) @ unit(support).T), 1)
    return mg.logsumexp(attention.reshape(len(queries), way, -1), 2)


class MatchingNetwork(nn.Module):
    """An embedding `net` to (n, d), with or without full context embeddings."""

    def __init__(self, net, size, config):
        self.net, self.scale = net, nn.Parameter(np.float32(config.scale)) if config.learn_scale else config.scale
        self.context = Context(size, config.reads) if config.context else None

    def forward(self, images):
        return self.net(images)

    def classify(self, support, queries, way):
        """Log-probabilities (n, way) from embeddings, class by class."""
        if self.context is not None:
            order = np.random.default_rng(len(support)).permutation(len(support))  # else the LSTM learns the classes' order
            g, queries = self.context(support[order], queries)
            support = g[np.argsort(order)]
        return log_probabilities(support, queries, way, self.scale)


def loss_and_accuracy(model, episode, way):
    """L and the share of queries classified correctly. Support and queries pass the network together, as one batch."""
    both = model(tensor(model, np.concatenate([episode.support, episode.query])))
    n = len(episode.support)
    log_p = model.classify(both[:n], both[n:], way)
    right = mg.take_along_axis(log_p, episode.query_labels[:, None], 1)
    return -right.mean(), float((log_p.numpy().argmax(1) == episode.query_labels).mean())
