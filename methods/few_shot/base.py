"""What the few-shot methods share: settings, the form of their classifiers, episodes and their augmentation."""
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import minigrad as mg
from methods.training.characters import PREPROCESSING, as_bytes
from methods.training.classifier import Architecture, Classifier
from methods.training.method import Parts
from methods.training.settings import RunSettings, setting
from minigrad import Tensor, data, nn
from minigrad.data import Characters, Episode


@dataclasses.dataclass
class CharacterRun(RunSettings):
    """Settings of all runs on characters."""

    data: str = "fonts"  # "fonts", "download" for Omniglot, a folder with Omniglot's zips, or an image folder of your own
    width: int = setting(64, least=1)  # channels of the network
    augment: bool = True  # turn, scale, shear and shift the training images a little
    episodes: int = setting(1000, least=1, free=True)  # test episodes


def shot(examples: Tensor, way: int) -> int:
    """How many examples of each class there are, if they stand class by class. ValueError: not as many of each of `way`."""
    if way < 1 or not len(examples) or len(examples) % way:
        raise ValueError(f"few-shot: {len(examples)} examples are not equally many of each of {way} classes; give as many of "
                         "each, class by class")
    return len(examples) // way


def five_places(images: Tensor, shift: int) -> list[Tensor]:
    """Images (..., H, W) as they are, and shifted by so many pixels in each of the four directions; new pixels are 0.

    Raises:
        ValueError: nothing of an image would be left.
    """
    height, width = images.shape[-2:]
    if not 0 <= shift < min(height, width):
        raise ValueError(f"shift: 0 to {min(height, width) - 1} for images of {height} x {width} pixels, not {shift}")
    around = mg.pad(images, ((0, 0),) * (images.ndim - 2) + ((shift, shift),) * 2)
    corners = (shift, shift), (0, shift), (2 * shift, shift), (shift, 0), (shift, 2 * shift)
    return [around[..., i:i + height, j:j + width] for i, j in corners]


class FewShotClassifier(nn.Module):
    """An embedding `net`, and a rule that compares a query's embedding with those of the classes' examples.

    Subclasses define `compare`, and `prepare` where the examples can be worked on once for all queries.
    """

    def forward(self, images: Tensor) -> Tensor:
        """(n, C, H, W) to embeddings (n, d)."""
        return self.net(images)

    def classify(self, support: Tensor, queries: Tensor, way: int) -> Tensor:
        """Scores (n, way) from the embeddings of the examples (way * shot, d), class by class, and of queries (n, d).

        Raises:
            ValueError: there are not as many examples of each class.
        """
        return self.compare(self.prepare(support, way), queries, way)

    def prepare(self, support: Tensor, way: int) -> Tensor:
        """What queries are compared with: the examples' embeddings, or what is made of them."""
        return support

    def compare(self, prepared: Tensor, queries: Tensor, way: int) -> Tensor:
        """As `classify`, from what `prepare` returned."""
        raise TypeError(f"{type(self).__name__} defines no compare()")

    def probabilities(self, prepared: Tensor, queries: Tensor, way: int) -> Tensor:
        """As `compare`, but probabilities."""
        return mg.softmax(self.compare(prepared, queries, way), 1)


class Augmented:
    """The batches of a sampler, changed by a function of the batch and a Generator, or as they are."""

    def __init__(self, sampler: Any, change: Callable[[Any, np.random.Generator], Any] | None, seed: int):
        self.sampler, self.change, self.rng = sampler, change, np.random.default_rng(seed)

    def sample(self) -> Any:
        """The next batch."""
        batch = self.sampler.sample()
        return self.change(batch, self.rng) if self.change else batch

    def state(self) -> Parts:
        """The parts of a checkpoint."""
        return {"sampler": self.sampler, "rng": self.rng}


def turned(episode: Episode, rng: np.random.Generator) -> Episode:
    """The episode with each image turned, scaled, sheared and shifted a little."""
    support, query = (data.random_affine(x, rng) for x in (episode.support, episode.query))
    return dataclasses.replace(episode, support=support, query=query)


class NearSampler(data.EpisodeSampler):
    """An EpisodeSampler that draws a share `within` of its episodes from one of the `groups` (lists of classes' images)."""

    within, groups = 0.0, ()

    def sample(self) -> Episode:
        all_images = self.images
        if self.groups and self.rng.random() < self.within:
            self.images = self.groups[self.rng.integers(len(self.groups))]
        episode, self.images = super().sample(), all_images
        return episode


def by_script(images: Sequence[Any], names: Sequence[str], least: int) -> list[list[Any]]:
    """The classes of each script with at least so many; turned or mirrored, it is another script.

    Args:
        images: what there is of each class; names: "Script/character", and behind an @ how it was turned.
    """
    groups: dict[tuple[str, str], list[Any]] = {}
    for each, name in zip(images, names):
        script, _, how = name.partition("/")
        groups.setdefault((script, how.partition("@")[2]), []).append(each)
    return [group for group in groups.values() if len(group) >= least]


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


def fitted(run: Any, train: Characters, test: Characters, say: Callable[[str], Any] = print) -> Any:
    """The run with no more classes and images of each in a batch than the data allow; a line for each says what was lowered.

    Raises:
        SystemExit: a class has too few images for what is asked for, or they are to be shifted out of their frame.
    """
    shot, side = getattr(run, "shot", 1), min(train.images[0].shape[-2:])
    if getattr(run, "shift", 0) >= side:
        raise SystemExit(f"--shift {run.shift}: images of {side} pixels can be shifted by {side - 1} at most")
    for kind, characters in (("train", train), ("test", test)):
        needed = 1 + (shot if kind == "train" or hasattr(run, "tasks") else 1)  # as many examples, and a query
        for images, name in zip(characters.images, characters.names):
            if len(images) < needed:
                raise SystemExit(f"--data {run.data}: the class {name} to {kind} on has {len(images)} usable images, and "
                                 f"{needed} are needed (--shot {shot} and one to classify)")
    if not hasattr(run, "way"):
        return run
    classes = min(len(train.images), len(test.images)) if hasattr(run, "tasks") else len(train.images)
    sizes = [len(images) for images in train.images]
    limits = {"way": classes, "query": min(sizes) - shot, "drawings": max(sizes)}
    lowered = {name: limit for name, limit in limits.items() if limit < getattr(run, name, 0)}
    for name, limit in lowered.items():
        say(f"--{name} {getattr(run, name)} is lowered to {limit}: the data have no more")
    return dataclasses.replace(run, **lowered)


def classifier(architecture: Architecture, test: Characters, most: int | None = None) -> Classifier:
    """The architecture as a classifier of the test classes (at most so many), with five examples of each."""
    return Classifier(architecture, tuple(test.names[:most]), PREPROCESSING, as_bytes(test.images[:most]))
