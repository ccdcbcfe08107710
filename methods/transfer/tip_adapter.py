"""A cache of the labelled pictures, in the manner of Tip-Adapter.

Renrui Zhang et al.: "Tip-Adapter: Training-free CLIP-Adapter for Better Vision-Language Modeling", 2021, arXiv:2111.03930.

Each labelled picture votes for its class, the more the nearer it is; the votes are added to another classifier's logits.

    logits = t f P^T + alpha exp(-beta (1 - f F^T)) L

f is a feature at unit length, F are those of the labelled pictures, L their one-hot labels. In the paper the first term
is CLIP's from the classes' names; without names P are the class prototypes. Features are centred on the labelled ones before
they are brought to unit length. alpha and beta are those under which left-out labels are most likely.
"""
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

import minigrad as mg
from minigrad import Tensor, nn

from .linear import FACTORS, check_labels, log_loss, unit

ALPHAS = (0.0, 1.0, 3.0, 10.0)
BETAS = (1.0, 3.0, 5.5, 10.0)


@dataclass
class Cache:
    """A fitted cache.

    Args:
        mean: (width,), taken off all features; f: F, (n, width); y: (n,); prototypes: P, or CLIP's rows for the classes' names,
            (classes, width); t: their factor.
    """

    mean: np.ndarray
    f: np.ndarray
    y: np.ndarray
    prototypes: np.ndarray
    t: float
    alpha: float
    beta: float

    def scores(self, x: np.ndarray) -> np.ndarray:
        """Logits (N, classes) of features (N, width)."""
        z = unit(x - self.mean)
        votes = np.exp(-self.beta * (1 - z @ self.f.T)) @ np.eye(len(self.prototypes))[self.y]
        return self.t * z @ self.prototypes.T + self.alpha * votes


def cache(x: np.ndarray, y: np.ndarray, classes: int) -> Cache:
    """The cache of labelled features x (n, width) with their classes y (n,).

    Raises:
        ValueError: a class has no label, or a label is of no class.
    """
    check_labels(y, classes)
    mean = x.mean(0, dtype=np.float64)
    f, onehot, n = unit(x - mean), np.eye(classes)[y], np.arange(len(x))
    sums = onehot.T @ f
    own = np.bincount(y, minlength=classes)[y] > 1  # of a class of one nothing is left
    nearest = f @ unit(sums).T
    nearest[n, y] = np.where(own, (f * unit(sums[y] - f)).sum(1), nearest[n, y])
    chosen = likeliest(nearest, FACTORS[::2], f, onehot, own) if own.any() else (8.0, ALPHAS[0], BETAS[0])
    return Cache(mean, f, y, unit(sums), *chosen)


def likeliest(nearest: np.ndarray, factors: Iterable[float], f: np.ndarray, onehot: np.ndarray,
              rows: np.ndarray | slice = slice(None)) -> tuple[float, float, float]:
    """t, alpha and beta under which the labels of the rows are most likely, when each is left out of the cache.

    Args:
        nearest: f P^T of the labelled pictures, (n, classes); factors: t to choose from.
        f: F; onehot: L.
    """
    y, near, best = onehot.argmax(1)[rows], f @ f.T, None
    for beta in BETAS:
        weights = np.exp(-beta * (1 - near))
        np.fill_diagonal(weights, 0)
        votes = weights @ onehot
        for alpha in ALPHAS:
            for t in factors:
                loss = log_loss((t * nearest + alpha * votes)[rows], y)
                if best is None or loss < best[0]:
                    best = loss, t, alpha, beta
    return best[1:]


class TipAdapter(nn.Module):
    """An encoder and the cache as one network, from pictures to logits divided by a temperature.

    Args:
        encoder: without a head.
        classes, examples: their numbers; `fill` gives them values.
    """

    def __init__(self, encoder: nn.Encoder, classes: int, examples: int):
        self.encoder = encoder
        self.mean = nn.Parameter(np.zeros(encoder.width, np.float32))
        self.f = nn.Parameter(np.zeros((examples, encoder.width), np.float32))
        self.votes = nn.Parameter(np.zeros((examples, classes), np.float32))  # alpha L
        self.prototypes = nn.Parameter(np.zeros((classes, encoder.width), np.float32))
        self.beta = nn.Parameter(np.ones((), np.float32))

    def fill(self, fitted: Cache, temperature: float) -> None:
        """Takes the fitted values."""
        votes = fitted.alpha / temperature * np.eye(len(fitted.prototypes))[fitted.y]
        values = {"mean": fitted.mean, "f": fitted.f, "votes": votes, "prototypes": fitted.t / temperature * fitted.prototypes,
                  "beta": np.array(fitted.beta)}
        for name, value in values.items():
            getattr(self, name).data = value.astype(np.float32)

    def forward(self, x: Tensor) -> Tensor:
        z = mg.l2_normalize(self.encoder.features(x) - self.mean, 1)
        return z @ self.prototypes.T + mg.exp(-self.beta * (1 - z @ self.f.T)) @ self.votes
