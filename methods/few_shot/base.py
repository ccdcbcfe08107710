"""What the few-shot methods share: the form of their classifiers, and batches that are augmented."""
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

import minigrad as mg
from methods.training.classifier import Architecture, Classifier
from methods.training.characters import PREPROCESSING, as_bytes
from minigrad import Tensor, data, nn
from minigrad.data import Characters, Episode


class FewShotClassifier(nn.Module):
    """An embedding `net`, and a rule that compares a query's embedding with those of the classes' examples."""

    def forward(self, images: Tensor) -> Tensor:
        """(n, C, H, W) to embeddings (n, d)."""
        return self.net(images)

    def classify(self, support: Tensor, queries: Tensor, way: int) -> Tensor:
        """Scores (n, way) from the embeddings of the examples (way * shot, d), class by class, and of queries (n, d)."""
        raise TypeError(f"{type(self).__name__} defines no classify()")

    def probabilities(self, support: Tensor, queries: Tensor, way: int) -> Tensor:
        """As `classify`, but probabilities."""
        return mg.softmax(self.classify(support, queries, way), 1)


class Augmented:
    """The batches of a sampler, changed by a function of the batch and a Generator."""

    def __init__(self, sampler: Any, change: Callable[[Any, np.random.Generator], Any], seed: int):
        self.sampler, self.change, self.rng = sampler, change, np.random.default_rng(seed)

    def sample(self) -> Any:
        """The next batch."""
        return self.change(self.sampler.sample(), self.rng)

    def state(self) -> dict[str, Any]:
        """The parts of a checkpoint."""
        return {"sampler": self.sampler, "rng": self.rng}


def turned(episode: Episode, rng: np.random.Generator) -> Episode:
    """The episode with each image turned, scaled, sheared and shifted a little."""
    support, query = (data.random_affine(x, rng) for x in (episode.support, episode.query))
    return dataclasses.replace(episode, support=support, query=query)


def unchanged(batch: Any, rng: np.random.Generator) -> Any:
    """The batch as it is."""
    return batch


def episodes(characters: Characters, way: int, shot: int, query: int, seed: int,
             kind: type[data.EpisodeSampler] = data.EpisodeSampler) -> data.EpisodeSampler:
    """A sampler of episodes of images (1, H, W), of all classes if there are fewer than `way`.

    Raises:
        SystemExit: a class has too few images.
    """
    try:
        return kind([c[:, None] for c in characters.images], min(way, len(characters.images)), shot, query, seed)
    except ValueError as error:
        raise SystemExit(f"--shot {shot} --query {query}: {error}") from None


def classifier(architecture: Architecture, test: Characters, most: int | None = None) -> Classifier:
    """The architecture as a classifier of the test classes (at most so many), with five examples of each."""
    return Classifier(architecture, tuple(test.names[:most]), PREPROCESSING, as_bytes(test.images[:most]))
