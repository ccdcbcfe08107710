"""Episodes: small classification tasks drawn from a data set with many classes."""
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..ops.geometry import several, whole


@dataclass
class Episode:
    """support (way * shot, ...) and query (way * query, ...) images, class by class; labels 0 .. way - 1; classes: which."""

    support: np.ndarray
    support_labels: np.ndarray
    query: np.ndarray
    query_labels: np.ndarray
    classes: np.ndarray


class EpisodeSampler:
    """Draws N-way K-shot episodes.

    Args:
        images: an array (classes, drawings, ...) or a list with an array (drawings, ...) for each class.
        way, shot, query: classes an episode, labelled images a class, images to classify a class (never the labelled ones).
        seed: of the draws.

    Raises:
        ValueError: way, shot or query is no whole number of at least 1, or asks for more than there is; the seed is none of at
            least 0; or the images are no such arrays, or of several shapes.
    """

    def __init__(self, images: np.ndarray | Sequence[np.ndarray], way: int, shot: int, query: int, seed: int = 0):
        way, shot, query = (whole("episodes", name, value, 1)
                            for name, value in (("way", way), ("shot", shot), ("query", query)))
        kinds = several(images)
        found = [np.asarray(c) for c in kinds or ()]
        if kinds is None or not all(c.ndim for c in found):
            given = f"of shape {images.shape}" if isinstance(images, np.ndarray) else repr(images)
            raise ValueError("episodes: images must be an array (classes, drawings, ...) or a list of arrays (drawings, ...), "
                             f"not {given}")
        if len(shapes := {c.shape[1:] for c in found}) > 1:
            raise ValueError(f"episodes: images of one shape wanted, not {', '.join(map(str, sorted(shapes)))}")
        if way > len(images):
            raise ValueError(f"episodes: {way}-way episodes need {way} classes, but there are {len(images)}")
        fewest = min(map(len, found))
        if shot + query > fewest:
            raise ValueError(f"episodes: {shot} + {query} images a class are asked for, but a class has only {fewest}")
        self.images = images if isinstance(images, np.ndarray) else found
        self.way, self.shot, self.query = way, shot, query
        self.rng = np.random.default_rng(whole("episodes", "seed", seed, 0))

    def sample(self) -> Episode:
        """The next Episode."""
        classes = self.rng.choice(len(self.images), self.way, replace=False)
        picked = np.stack([self.images[c][self.rng.choice(len(self.images[c]), self.shot + self.query, replace=False)]
                           for c in classes])
        shape, labels = picked.shape[2:], np.arange(self.way)
        return Episode(picked[:, :self.shot].reshape(-1, *shape), labels.repeat(self.shot),
                       picked[:, self.shot:].reshape(-1, *shape), labels.repeat(self.query), classes)

    def state_dict(self) -> dict[str, Any]:
        """The state of the random numbers, as JSON can hold it."""
        return self.rng.bit_generator.state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        self.rng.bit_generator.state = state
