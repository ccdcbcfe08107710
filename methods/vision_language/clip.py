"""CLIP.

Alec Radford, Jong Wook Kim, Chris Hallacy, Aditya Ramesh, Gabriel Goh, Sandhini Agarwal, Girish Sastry, Amanda Askell, Pamela
Mishkin, Jack Clark, Gretchen Krueger, Ilya Sutskever: "Learning transferable visual models from natural language supervision",
2021, arXiv:2103.00020.

The right caption of each picture is found among those of the batch, and the right picture of each caption. A class is then
known by its name: its caption is compared with a picture as any other.

    I = f(x) W_i / |f(x) W_i|,   T = g(t) W_t / |g(t) W_t|
    logits = e^s I T^T,   s is learned, e^s at most 100
    L = (CE(rows of logits, diagonal) + CE(columns, diagonal)) / 2

Pairs of the same captions, or of the same one of several, are no negatives: a picture is not pushed from what is its own, too.
With random weights L is about log N.
"""
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import minigrad as mg
from methods.training.classifier import Architecture
from methods.training.forward import evaluating, placed
from methods.training.method import Loss
from methods.training.settings import setting
from minigrad import Tensor, nn
from minigrad.backend import xp
from minigrad.data import BytePairs

from . import base
from .base import Batch, VisionLanguage, VisionLanguageMethod, begin, text_tower


@dataclass
class Config(base.Config):
    """The paper has a batch of 32,768, widths of 512 and a dim of 512."""

    dim: int = setting(128, least=1)  # of I and T
    temperature: float = setting(0.07, above=0.01, most=1)  # e^-s at first


MOST = 100.0  # of e^s


class CLIP(VisionLanguage):
    """Both towers, whose heads are W_i and W_t, and s.

    Args:
        image: f; its head is replaced.
        text: g, whose head has `dim` outputs.
        temperature: e^-s at first.
    """

    def __init__(self, image: nn.Encoder, text: nn.CLIPText, temperature: float = 0.07):
        self.image, self.text, self.length = image, text, len(text.position.weight)
        image.head = nn.Linear(image.width, len(text.head.weight), bias=False)
        nn.init.normal_(image.head.weight, std=image.width**-0.5)
        self.s = nn.Parameter(np.array(-np.log(temperature), np.float32))

    def embed_images(self, features: Tensor) -> Tensor:
        """I of image features before the head."""
        return mg.l2_normalize(self.image.head(features), 1)

    def embed_texts(self, ids: Tensor) -> Tensor:
        """T of the captions' ids (N, L)."""
        return mg.l2_normalize(self.text(ids), 1)

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        """The logits (N, M) of N pictures and M captions."""
        return mg.exp(self.s) * self.embed_images(self.image.features(x)) @ self.embed_texts(ids).T

    def class_weights(self, prompts: list[np.ndarray], most: int = 500) -> np.ndarray:
        """w_k = norm(mean over prompts of norm(T(prompt of class k))), (classes, dim); so many prompts at a time."""
        longest = max(ids.shape[1] for ids in prompts)
        every = np.concatenate([np.pad(ids, ((0, 0), (0, longest - ids.shape[1])), "edge") for ids in prompts])
        with evaluating(self):
            texts = np.concatenate([self.embed_texts(Tensor(every[i:i + most]).to(self.s.device)).numpy()
                                    for i in range(0, len(every), most)])
        means = [part.mean(0) for part in np.split(texts, np.cumsum([len(ids) for ids in prompts])[:-1])]
        return mg.l2_normalize(Tensor(np.stack(means)), 1).numpy()

    def classifier(self, prompts: list[np.ndarray]) -> Callable[[Tensor], Tensor]:
        """e^s I w_k."""
        weights = Tensor(self.class_weights(prompts)).to(self.s.device)
        return lambda features: mg.exp(self.s) * self.embed_images(features) @ weights.T


def loss(images: Tensor, texts: Tensor, s: Tensor, *keys: Any) -> Tensor:
    """L.

    Args:
        images, texts: I and T, (N, dim) each.
        s: 0-d.
        keys: arrays (N,); pairs with the same number in one of them are no negatives.
    """
    logits = mg.exp(s) * images @ texts.T
    n, of = len(images), xp(logits.data)
    same = sum(each[:, None] == each for each in keys) > 0
    logits, diagonal = mg.where(same & ~of.eye(n, dtype=bool), -np.inf, logits), of.arange(n)
    return (mg.cross_entropy(logits, diagonal) + mg.cross_entropy(logits.T, diagonal)) / 2


class Contrastive(VisionLanguageMethod):
    """Trains a CLIP by L, with e^s kept at 100 or less."""

    def arguments(self, batch: Batch, step: int) -> tuple[Tensor, ...]:
        """The image tower's inputs; the captions' ids, each caption once, and of which pictures they are; the pictures' keys."""
        ids, places = np.unique(batch.ids, axis=0, return_inverse=True)  # labels in words are few captions
        return self.inputs(batch), *placed(self.net, ids, places.reshape(-1), batch.keys)

    def objective(self, inputs: Tensor, ids: Tensor, places: Tensor, keys: Tensor) -> Loss:
        """L, and e^s."""
        images = self.net.embed_images(self.features(inputs))
        texts = self.net.embed_texts(ids)[places]
        return loss(images, texts, self.net.s, keys.data, places.data), {"scale": mg.exp(self.net.s.detach())}

    def after_step(self, step: int) -> None:
        s = self.net.s.data
        s[...] = s.clip(None, np.log(MOST))


def network(config: Config, image: Architecture, vocabulary: BytePairs) -> Architecture:
    """The network of the settings with this image tower."""
    return Architecture(f"{__name__}.CLIP", image=image, text=text_tower(config, vocabulary, config.dim),
                        temperature=config.temperature)


def start(net: CLIP) -> None:
    """Draws the text tower's first weights."""
    begin(net.text)


Objective = Contrastive
