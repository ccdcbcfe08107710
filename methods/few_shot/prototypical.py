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

import numpy as np

import minigrad as mg

from .evaluation import embed_all


@dataclass
class Config:
    """The paper's settings for Omniglot."""

    way: int = 60  # classes in a training episode: more than at test, which helps
    shot: int = 1  # labelled images a class, as many as at test
    query: int = 5  # images to classify a class
    lr: float = 1e-3  # of Adam
    halve_every: int = 2000  # episodes after which the learning rate is halved
    distance: str = "euclidean"  # "euclidean" (squared) or "cosine"


def prototypes(embeddings, way):
    """(1): the mean over each class. Embeddings (way * shot, d), class by class, to (way, d)."""
    return embeddings.reshape(way, -1, embeddings.shape[-1]).mean(1)


def squared_euclidean(a, b):
    """Squared distances between rows: (n, d) and (m, d) to (n, m)."""
    return mg.maximum((a * a).sum(1, keepdims=True) - 2 * (a @ b.T) + (b * b).sum(1), 0)


def unit(v):
    """Each row divided by its length, (n, d)."""
    return v / (mg.norm(v, axis=1, keepdims=True) + 1e-8)


def cosine(a, b):
    """1 - cosine of the angle between rows: (n, d) and (m, d) to (n, m)."""
    return 1 - unit(a) @ unit(b).T


DISTANCES = {"euclidean": squared_euclidean, "cosine": cosine}


def logits(queries, centres, distance="euclidean"):
    """(2) before the softmax: minus the distances, (n, way)."""
    return -DISTANCES[distance](queries, centres)


def loss_and_accuracy(embed, episode, way, distance="euclidean"):
    """J and the share of queries classified correctly. Support and queries pass the network together, as one batch."""
    both = embed(np.concatenate([episode.support, episode.query]))
    n = len(episode.support)
    scores = logits(both[n:], prototypes(both[:n], way), distance)
    return mg.cross_entropy(scores, episode.query_labels), float((scores.numpy().argmax(1) == episode.query_labels).mean())


def classify(support, queries, way, distance="euclidean"):
    """(2) from embeddings: support (way * shot, d) and queries (n, d) to scores (n, way)."""
    return logits(queries, prototypes(support, way), distance)


def lake_error_rate(net, runs, distance="euclidean"):
    """The share of queries that miss their class in Lake et al.'s one-shot runs (`minigrad.data.load_lake_runs`)."""
    wrong = []
    for run in runs:
        support, queries = embed_all(net, [run.support, run.query])
        scores = classify(mg.Tensor(support), mg.Tensor(queries), len(support), distance).numpy()
        wrong.append(scores.argmax(1) != run.labels)
    return float(np.concatenate(wrong).mean())
