"""The frame of the tasks: towers, batches of pictures and captions, the method."""
from dataclasses import dataclass
from typing import Any

import numpy as np

import minigrad as mg
from methods.training.classifier import Architecture
from methods.training.forward import tensor
from methods.training.data_sets import scaled
from methods.training.method import Method, Parts
from methods.training.settings import setting
from minigrad import Tensor, nn, optim
from minigrad.data import BytePairs, CaptionedPictures, View
from minigrad.data.labels import Shuffled


@dataclass
class Config:
    """Settings of all tasks: of the text tower, a causal Transformer, and of the training."""

    vocabulary: int = setting(2000, least=515)  # pieces of words, learned from the captions
    length: int = setting(32, least=4)  # pieces of a caption, START and END among them, at most
    text_width: int = setting(128, least=1)  # numbers a piece, in the text tower
    text_layers: int = setting(2, least=1)  # its blocks
    text_heads: int = setting(4, least=1)  # of its attention; they divide the width
    dropout: float = setting(0.3, least=0, below=1)  # of a picture's features, before the head
    warmup: float = setting(0.1, least=0, most=1)  # the part of the steps in which the learning rate rises


class VisionLanguage(nn.Module):
    """A network of an image tower, whose head maps features to what the task wants, and of more.

    Attributes:
        image: the encoder of pictures.
        length: how many ids of a prompt it reads at most.
    """

    image: nn.Encoder
    length: int = 77

    def classifier(self, prompts: list[np.ndarray]) -> Any:
        """What scores classes by their names.

        Args:
            prompts: of each class the ids (P, L) of its prompts.

        Returns:
            a function from image features (N, width), before the head, to scores (N, classes), both Tensors.
        """
        raise TypeError(f"{type(self).__name__} defines no classifier()")


@dataclass
class Batch:
    """Of each picture one caption.

    Args:
        x: pictures (N, C, H, W) in [0, 1], or features (N, width) of a frozen tower.
        ids: of the captions, (N, L).
        keys: (N,), the same number for pictures of the same captions.
    """

    x: np.ndarray
    ids: np.ndarray
    keys: np.ndarray


class Batches:
    """Random batches, each picture once in a round, with one of its captions; pictures are cropped at random.

    Args:
        x: pictures as bytes or float32 (N, C, S, S), or features (N, width).
        captions: of these pictures.
        least: the least area of the random square crops.
    """

    def __init__(self, x: np.ndarray, captions: CaptionedPictures, vocabulary: BytePairs, batch: int, length: int,
                 seed: int, least: float = 0.7):
        self.x, self.captions, self.keys, self.vocabulary = x, captions, captions.keys(), vocabulary
        self.batch, self.length = min(batch, len(x)), length
        self.indices, self.rng = Shuffled(len(x), (seed, 13)), np.random.default_rng((seed, 17))
        self.view = None
        if x.ndim == 4 and least < 1:
            self.view = View(x.shape[2], (least, 1.0), (1.0, 1.0), flip=0.0, jitter_p=0.0, greyscale=0.0)

    def sample(self) -> Batch:
        """The next batch."""
        index = self.indices.take(self.batch)
        ids = self.vocabulary.encode([self.captions.caption(i, self.rng) for i in index], self.length)
        x = scaled(self.x[index]) if self.view is None else self.view(self.x[index], self.rng)
        return Batch(x, ids, self.keys[index])

    def state_dict(self) -> dict[str, Any]:
        """The state of the random numbers."""
        return {"indices": self.indices.state_dict(), "rng": self.rng.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        self.indices.load_state_dict(state["indices"])
        self.rng.bit_generator.state = state["rng"]


@dataclass
class Prompts:
    """What a checkpoint holds beside the network: the vocabulary, and the classes that it was tested on.

    Args:
        classes: their names; empty if there were none.
        templates: with {} for the name.
    """

    vocabulary: BytePairs
    classes: tuple[str, ...]
    templates: tuple[str, ...]

    def state_dict(self) -> dict[str, Any]:
        """All of it as plain values, of which `of` makes it again."""
        return {"vocabulary": self.vocabulary.text(), "classes": list(self.classes), "templates": list(self.templates)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """It follows from the data, which a run goes on with."""

    @classmethod
    def of(cls, state: dict[str, Any]) -> "Prompts":
        """What `state_dict` described."""
        return cls(BytePairs.parse(state["vocabulary"]), tuple(state["classes"]), tuple(state["templates"]))


class VisionLanguageMethod(Method):
    """An objective of pictures and captions. Subclasses define what those of `Method` do.

    Args:
        preprocessing: of the image tower; its mean and deviation are taken from batches of pictures.
    """

    def __init__(self, config: Any, net: VisionLanguage, preprocessing: nn.Preprocessing, prompts: Prompts):
        super().__init__(config, net)
        self.preprocessing, self.prompts = preprocessing, prompts

    def state(self) -> Parts:
        return {**super().state(), "prompts": self.prompts}

    def inputs(self, batch: Batch) -> Tensor:
        """Pictures as the image tower reads them, or the features (N, width) of a frozen one."""
        return tensor(self.net, batch.x if batch.x.ndim == 2 else normalised(batch.x, self.preprocessing))

    def features(self, inputs: Tensor) -> Tensor:
        """(N, width), with dropout."""
        found = inputs if inputs.ndim == 2 else self.net.image.features(inputs)
        return mg.dropout(found, self.config.dropout)

    def schedule(self, step: int, steps: int) -> float:
        """Up from 0 in `warmup` of the steps, then down a cosine to 0."""
        return optim.cosine_decay(1.0, steps, round(self.config.warmup * steps))(step)


def normalised(x: np.ndarray, preprocessing: nn.Preprocessing) -> np.ndarray:
    """Pictures (N, C, H, W) in [0, 1] as the image tower wants them."""
    mean, std = (np.array(values, np.float32).reshape(1, -1, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    return x if not mean.any() and (std == 1).all() else (x - mean) / std


def text_tower(config: Config, vocabulary: BytePairs, projection: int) -> Architecture:
    """The text tower that the settings describe; with `projection` 0 it has no head."""
    return Architecture("minigrad.nn.CLIPText", vocab_size=len(vocabulary), hidden_size=config.text_width,
                        num_layers=config.text_layers, num_heads=config.text_heads, intermediate_size=4 * config.text_width,
                        max_length=config.length, projection_dim=projection, eot=vocabulary.end)


def begin(text: nn.CLIPText) -> None:
    """CLIP's start: deviations that shrink with the width, and of what ends a branch with the depth."""
    width, shrink = text.width, (2 * len(text.blocks)) ** -0.5
    for block in text.blocks:
        deviations = {block.attn.qkv: width**-0.5, block.attn.proj: width**-0.5 * shrink,
                      block.mlp.fc1: (2 * width) ** -0.5, block.mlp.fc2: width**-0.5 * shrink}
        for layer, deviation in deviations.items():
            nn.init.normal_(layer.weight, std=deviation)
            nn.init.zeros_(layer.bias)
    if hasattr(text.head, "weight"):
        nn.init.normal_(text.head.weight, std=width**-0.5)
