"""Caption prediction, the first of the tasks that CLIP's authors tried (section 2.3; as VirTex, arXiv:2006.06666).

Alec Radford et al.: "Learning transferable visual models from natural language supervision", 2021, arXiv:2103.00020.

A causal Transformer writes the caption of a picture, word by word; the picture stands in place of START.

    p(w_j | w_1 .. w_(j-1), x) = softmax(h_j E^T),   h = Transformer(W f(x), E w_1, E w_2, ...)
    L = -mean of log p over all words, END among them

A class's score is the mean of log p over the words of its prompt: the sum would favour short names.
"""
from collections.abc import Callable

import numpy as np

import minigrad as mg
from methods.training.classifier import Architecture
from methods.training.forward import evaluating
from methods.training.method import Loss
from minigrad import Tensor, nn
from minigrad.data import BytePairs

from .base import Batch, Config, VisionLanguage, VisionLanguageMethod, begin, text_tower


class Captioner(VisionLanguage):
    """f, whose head is W, and the Transformer.

    Args:
        image: f; its head is replaced.
        text: the Transformer, without a head; its embedding of tokens is E.
    """

    def __init__(self, image: nn.Encoder, text: nn.CLIPText):
        self.image, self.text, self.length = image, text, len(text.position.weight)
        image.head = nn.Linear(image.width, text.width, bias=False)
        nn.init.normal_(image.head.weight, std=image.width**-0.5)

    def log_likelihoods(self, features: Tensor, ids: np.ndarray) -> tuple[Tensor, np.ndarray]:
        """log p of all words of captions, END among them, one after the other; and of which caption each is.

        Args:
            features: (N, width) of the pictures, before the head; ids: (N, L) of their captions.
        """
        ends = (ids == self.text.eot).argmax(1)
        rows, places = np.nonzero(np.arange(1, ids.shape[1]) <= ends[:, None])
        x = mg.concatenate([self.image.head(features)[:, None], self.text.embed(Tensor(ids[:, 1:-1]).to(features.device))], 1)
        states = self.text.encode(x)[rows, places]
        words = ids[rows, places + 1]
        return -mg.cross_entropy(states @ self.text.token.weight.T, words, reduction="none"), rows

    def classifier(self, prompts: list[np.ndarray], most: int = 2000) -> Callable[[Tensor], Tensor]:
        """The mean log p of a prompt's words, averaged over prompts; so many captions at a time."""
        every = [ids[:int((ids == self.text.eot).argmax()) + 1] for of_class in prompts for ids in of_class]
        parts, lengths = np.cumsum([0, *map(len, prompts)]), np.array([len(ids) for ids in every])

        def columns(features, chosen):
            """(N, prompts) of prompts of one length."""
            n, ids = len(features), np.stack([every[i] for i in chosen])
            pairs = np.repeat(np.arange(n), len(chosen)), np.tile(np.arange(len(chosen)), n)
            found = [self.log_likelihoods(features[pairs[0][i:i + most]], ids[pairs[1][i:i + most]])[0]
                     for i in range(0, len(pairs[0]), most)]
            return mg.concatenate(found).reshape(n, len(chosen), -1).mean(2)

        def scores(features):
            with evaluating(self):
                order = np.argsort(lengths, kind="stable")
                groups = np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1)
                found = mg.concatenate([columns(features, chosen) for chosen in groups], 1)[:, np.argsort(order)]
                return mg.stack([found[:, a:b].mean(1) for a, b in zip(parts, parts[1:])], 1)

        return scores


class CaptionPrediction(VisionLanguageMethod):
    """Trains a Captioner by L."""

    def loss(self, batch: Batch, step: int) -> Loss:
        return -self.net.log_likelihoods(self.features(self.inputs(batch)), batch.ids)[0].mean(), {}


def network(config: Config, image: Architecture, vocabulary: BytePairs) -> Architecture:
    """The network of the settings with this image tower."""
    return Architecture(f"{__name__}.Captioner", image=image, text=text_tower(config, vocabulary, 0))


def start(net: Captioner) -> None:
    """Draws the Transformer's first weights."""
    begin(net.text)


Objective = CaptionPrediction
