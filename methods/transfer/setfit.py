"""SetFit: few-shot classification by a contrastively tuned encoder.

Lewis Tunstall, Nils Reimers, Unso Eun Seo Jo, Luke Bates, Daniel Korat, Moshe Wasserblat, Oren Pereg: "Efficient Few-Shot
Learning Without Prompts", 2022, arXiv:2209.11055.

From a few labelled examples many pairs can be made. First the encoder f learns which examples are of one class, then a
linear classifier reads its features.

    c_ij = cos(f(x_i), f(x_j))
    L = 1/2 mean over pairs of one class of (c_ij - 1)^2 + 1/2 mean over pairs of two classes of c_ij^2
    p(y | x) = softmax(W f(x) + b), found by logistic regression

The paper draws as many pairs of the same as of different classes; here all pairs of a batch count, so weighted, which needs one
pass for each example instead of one for each pair. Batches hold two examples or more of a class, where it has them: of fewer
classes, drawn at random, if there are many.
"""
import itertools
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

import minigrad as mg
from methods.peft.tuning import Tuning
from methods.training.method import Loss
from methods.training.settings import setting
from methods.training.texts import Rows, filled, padded
from minigrad import Tensor, nn

from . import finetune, linear

SHORT = {"steps": 60}  # of a run


@dataclass
class Config:
    """The authors' script: batch 16, one epoch of 40 pairs an example; body "full"."""

    body: Literal["full", "lora", "adapters", "bitfit"] = "full"  # which of the encoder's weights learn
    lr: float = setting(5e-5, above=0)
    contrastive_batch: int = setting(16, least=3)  # examples whose pairs make a step


def contrast(features: Tensor, y: np.ndarray) -> Tensor:
    """L of features (N, d) with classes y (N,). A kind of pairs that is missing counts 0."""
    z = features / mg.sqrt((features * features).sum(1, keepdims=True) + 1e-12)
    i, j = np.triu_indices(len(y), 1)
    same = (y[i] == y[j]).astype(np.float32)
    weight = same / max(2 * same.sum(), 1) + (1 - same) / max(2 * (1 - same).sum(), 1)
    difference = mg.matmul(z, z.T)[i, j] - mg.Tensor(same).to(z.device)
    return (difference * difference * mg.Tensor(weight.astype(np.float32)).to(z.device)).sum()


class Contrast(Tuning):
    """Trains the parts that an adaptation has put into an encoder, by pairs of its features."""

    def loss(self, batch: tuple[Any, ...], step: int) -> Loss:
        """A batch is the network's inputs and labels (N,)."""
        *x, y = self.inputs(batch)
        return contrast(self.net.features(*x), y), {}


class Balanced:
    """Batches with the same number of examples of each class, give or take one, and two at least: of as many classes as fit.

    Args:
        x: ids of each text, or pictures (N, C, H, W); y: classes (N,).
        pad: the id that fills texts up; None for pictures.
    """

    def __init__(self, x: Rows | np.ndarray, y: np.ndarray, pad: int | None, batch: int, seed: int):
        self.x, self.y, self.pad, self.batch = x, y, pad, min(batch, len(y))
        self.members = [np.flatnonzero(y == c) for c in np.unique(y)]
        self.rng = np.random.default_rng((seed, 9))

    def sample(self) -> tuple[Any, ...]:
        """The next batch."""
        turns, order = [self.rng.permutation(members) for members in self.members], self.rng.permutation(len(self.members))
        turns = [turns[c] for c in order]
        turns.insert(0, turns.pop(next((i for i, examples in enumerate(turns) if len(examples) > 1), 0)))  # it makes a pair
        classes = max(2, self.batch // 2)
        chosen = np.array([*_in_turn(turns[:classes]), *_in_turn(turns[classes:])][:self.batch])
        if self.pad is None:
            return self.x[chosen], self.y[chosen]
        rows = [self.x[i] for i in chosen]
        return padded(rows, self.pad), filled(rows), self.y[chosen]

    def state_dict(self) -> dict[str, Any]:
        """The state of the random numbers."""
        return {"rng": self.rng.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        self.rng.bit_generator.state = state["rng"]


def _in_turn(several):
    """The first of each, the second of each, and so on."""
    return [one for one in itertools.chain(*itertools.zip_longest(*several)) if one is not None]


def read_head(net: nn.Encoder, features: np.ndarray, y: np.ndarray, classes: int) -> linear.Linear:
    """Makes the logistic regression of features (N, width) the network's head, and returns it."""
    found = linear.logistic(features, y, classes)
    finetune.set_head(net, found)
    return found
