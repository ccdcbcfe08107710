"""Few labels: balanced subsets, and batches of labelled and unlabelled images."""
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..ops.geometry import several, whole


def balanced_subset(labels: np.ndarray, count: int, seed: int = 0, names: Sequence[str] | None = None) -> np.ndarray:
    """Indices of `count` examples drawn at random, equally many of each class (give or take one), in random order.

    Args:
        labels: (N,) classes, 0 or more.
        seed: of the draw.
        names: what an error calls the classes; their numbers if None.

    Raises:
        ValueError: labels are not (N,), or none, or below 0; there are fewer examples or more classes, or a class has too few;
            the seed is no whole number of at least 0.
    """
    labels, count = np.asarray(labels), whole("balanced_subset", "count", count, -math.inf)
    rng = np.random.default_rng(whole("balanced_subset", "seed", seed, 0))
    if labels.ndim != 1 or not len(labels):
        raise ValueError(f"balanced_subset: one label or more wanted, (N,), got shape {labels.shape}")
    if labels.dtype.kind in "if" and labels.min() < 0:
        raise ValueError(f"balanced_subset: labels must be 0 or more, not {labels.min()}; leave out what has no label")
    if count < len(np.unique(labels)):
        raise ValueError(f"{count} labels for {len(np.unique(labels))} classes: each class needs at least one")
    present, counts = np.unique(labels, return_counts=True)
    classes = rng.permutation(present)  # which ones get one more is random
    chosen = []
    for i, c in enumerate(classes):
        members, wanted = np.flatnonzero(labels == c), (count - i - 1) // len(classes) + 1
        if len(members) < wanted:
            name = f"class {c}" if names is None or int(c) >= len(names) else names[int(c)]
            raise ValueError(f"{wanted} labels of {name} wanted, which has {len(members)} examples; at most {counts.min()} of "
                             f"each class can be had, {counts.min() * len(classes)} in all")
        chosen.append(rng.choice(members, wanted, replace=False))
    return rng.permutation(np.concatenate(chosen))


@dataclass
class Batch:
    """Labelled x with labels y, unlabelled u; `index` are the unlabelled images' places in their set."""

    x: np.ndarray
    y: np.ndarray
    u: np.ndarray
    index: np.ndarray


class Shuffled:
    """Indices below n without end: one random order after the other, so that each comes equally often.

    Raises:
        ValueError: n is 0, and indices are asked for; the seed is no whole number of at least 0, nor a tuple of them.
    """

    def __init__(self, n: int, seed: int | tuple[int, ...]):
        parts = [whole("batches", "seed", part, 0) for part in several(seed) or (seed,)]
        seed = parts if several(seed) else parts[0]
        self.n, self.rng, self.order = n, np.random.default_rng(seed), np.zeros(0, np.int64)

    def take(self, count: int) -> np.ndarray:
        """The next `count` indices."""
        if count and not self.n:
            raise ValueError("batches: there are no examples to draw from")
        while len(self.order) < count:
            self.order = np.concatenate([self.order, self.rng.permutation(self.n)])
        taken, self.order = self.order[:count], self.order[count:]
        return taken

    def state_dict(self) -> dict[str, Any]:
        """The state of the generator and what is left of the present order, as plain values."""
        return {"rng": self.rng.bit_generator.state, "order": self.order.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what `state_dict` returned."""
        self.rng.bit_generator.state = state["rng"]
        self.order = np.array(state["order"], np.int64)


class SemiSupervisedLoader:
    """Batches of `batch` labelled and `ratio * batch` unlabelled images.

    Args:
        images, labels: of the labelled set, (N, ...) and (N,).
        unlabelled: images without labels (M, ...), by custom the labelled ones among them.
        batch, ratio: labelled images a batch, and unlabelled images for each of them.
        seed: of both orders.

    Raises:
        ValueError: a batch is no whole number of at least 1, or a ratio or seed none of at least 0; there are more or fewer
            labels than images, no images of a kind that the batches should hold, or no arrays at all; labelled and unlabelled
            images differ in shape or dtype.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, unlabelled: np.ndarray, batch: int = 64, ratio: int = 1,
                 seed: int = 0):
        self.images, self.labels, self.unlabelled = map(np.asarray, (images, labels, unlabelled))
        self.batch, self.ratio = whole("batches", "batch", batch, 1), whole("batches", "ratio", ratio, 0)
        for name in ("images", "labels", "unlabelled"):
            if not getattr(self, name).ndim:
                raise ValueError(f"batches: {name} must be an array with an axis of examples, not {getattr(self, name)}")
        if len(images) != len(labels):
            raise ValueError(f"batches: a label for each of {len(images)} images wanted, got {len(labels)}")
        if not len(images) or self.ratio and not len(unlabelled):
            raise ValueError(f"batches: there are {len(images)} labelled images and {len(unlabelled)} others to draw from")
        if self.ratio and (one := self.images.shape[1:]) != (other := self.unlabelled.shape[1:]):
            raise ValueError(f"batches: images of one shape wanted, not labelled ones of {one} and others of {other}")
        if self.ratio and (one := self.images.dtype) != (other := self.unlabelled.dtype):
            raise ValueError(f"batches: images of one dtype wanted, not labelled ones of {one} and others of {other}; "
                             "convert the ones or the others")
        self.first, self.second = (Shuffled(len(images), (seed, 0)), Shuffled(len(unlabelled), (seed, 1)))

    def sample(self) -> Batch:
        """The next Batch."""
        i, j = self.first.take(self.batch), self.second.take(self.batch * self.ratio)
        return Batch(self.images[i], self.labels[i], self.unlabelled[j], j)

    def state_dict(self) -> dict[str, Any]:
        """Where both orders stand, as plain values."""
        return {"first": self.first.state_dict(), "second": self.second.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what `state_dict` returned."""
        self.first.load_state_dict(state["first"])
        self.second.load_state_dict(state["second"])
