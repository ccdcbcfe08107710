"""Bag of words, the second of the tasks that CLIP's authors tried (section 2.3; Joulin et al. 2016, arXiv:1511.02251).

Alec Radford et al.: "Learning transferable visual models from natural language supervision", 2021, arXiv:2103.00020.

Which words a caption has is predicted, not their order.

    p(w | x) = softmax(W f(x) + b)
    L = -mean over captions of sum over w of c_w log p(w | x),   c_w the word's share of the caption's words

Words are pieces of the vocabulary; those of STOP_WORDS and signs do not count. A class's score is the mean of log p over the
words of its prompts: the sum would favour names of few words.
"""
from collections.abc import Callable, Sequence

import numpy as np

import minigrad as mg
from methods.training.classifier import Architecture
from methods.training.forward import placed
from methods.training.method import Loss
from minigrad import Tensor, nn
from minigrad.data import BytePairs

from .base import Batch, Config, VisionLanguage, VisionLanguageMethod

STOP_WORDS = ("a an the of in on at to for from with without by and or not is are was be as it its this that these those there "
              "some photo picture image drawing").split()


class BagOfWords(VisionLanguage):
    """f, whose head is W and b.

    Args:
        image: f; its head is replaced.
        vocab_size: how many words there are.
        stop: the ids of those that do not count.
    """

    def __init__(self, image: nn.Encoder, vocab_size: int, stop: Sequence[int]):
        self.image, self.stop = image, list(stop)
        image.head = nn.Linear(image.width, vocab_size)

    def shares(self, ids: np.ndarray) -> np.ndarray:
        """c of captions (N, L): (N, words) float32, 0 for a caption without words that count."""
        counts = np.zeros((len(ids), self.image.head.weight.shape[0]), np.float32)
        np.add.at(counts, (np.arange(len(ids))[:, None], ids), 1)
        counts[:, self.stop] = 0
        return counts / np.maximum(counts.sum(1, keepdims=True), 1)

    def classifier(self, prompts: list[np.ndarray]) -> Callable[[Tensor], Tensor]:
        """The mean of log p over a prompt's words, averaged over prompts."""
        means = Tensor(np.stack([self.shares(ids).mean(0) for ids in prompts])).to(self.image.head.weight.device)
        return lambda features: mg.log_softmax(self.image.head(features), 1) @ means.T


class BagOfWordsPrediction(VisionLanguageMethod):
    """Trains a BagOfWords by L."""

    def arguments(self, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        """The image tower's inputs, and c."""
        return self.inputs(batch), *placed(self.net, self.net.shares(batch.ids))

    def objective(self, inputs: Tensor, shares: Tensor) -> Loss:
        """L."""
        return -(shares * mg.log_softmax(self.net.image.head(self.features(inputs)), 1)).sum(1).mean(), {}


def network(config: Config, image: Architecture, vocabulary: BytePairs) -> Architecture:
    """The network of the settings with this image tower."""
    stop = {vocabulary.start, vocabulary.end}
    for text in (*STOP_WORDS, *",.;:!?()'\"-&/"):
        ids = vocabulary.encode([text], 4)[0, 1:-1]
        stop |= set(ids.tolist()) if len(ids) == 1 else set()
    return Architecture(f"{__name__}.BagOfWords", image=image, vocab_size=len(vocabulary), stop=sorted(stop))


def start(net: BagOfWords) -> None:
    """All begins as its layers do."""


Objective = BagOfWordsPrediction
