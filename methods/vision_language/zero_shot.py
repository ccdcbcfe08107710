"""Classes known by their names: prompts, the classifier that is built of them once, its accuracy (sections 3.1.2 and 3.1.4)."""
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

import minigrad as mg
from methods.training.forward import evaluating, slices, tensor
from methods.training.data_sets import scaled
from minigrad import Tensor, nn
from minigrad.data import BytePairs

from .base import VisionLanguage, normalised

TEMPLATES = ("a photo of a {}", "a picture of a {}", "a drawing of a {}", "an image of a {}", "a {}", "{}")


def prompts(vocabulary: BytePairs, names: Sequence[str], templates: Sequence[str], length: int) -> list[np.ndarray]:
    """Of each class the ids (P, L) of all templates with its name in place of {}.

    Args:
        length: ids of a prompt at most.

    Raises:
        ValueError: a name stands twice or is empty, there are fewer than two, or a template has no {}.
    """
    if len(names) < 2 or len(set(names)) < len(names) or not all(map(str.strip, names)):
        raise ValueError("two or more classes are wanted, each once and with a name, not "
                         f"{', '.join(map(repr, names)) or 'none'}")
    if not templates or (wrong := [template for template in templates if "{}" not in template]):
        raise ValueError(f"a template has {{}} in place of the name, unlike {wrong[0]!r}" if templates else "no template")
    return [vocabulary.encode([template.replace("{}", name) for template in templates], length) for name in names]


def same(ids: list[np.ndarray], names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of names whose prompts, of `prompts`, are the same to the network, by case alone or where it reads no further."""
    first: dict[bytes, str] = {}
    pairs = [(first.setdefault(prompt.tobytes(), name), name) for prompt, name in zip(ids, names)]
    return [pair for pair in pairs if pair[0] != pair[1]]


def same_said(pair: tuple[str, str], length: int) -> str:
    """One of the pairs of `same` in words. Args: length: as of `prompts`."""
    return (f"{pair[0]!r} and {pair[1]!r} are the same to the network, which heeds no case and reads {length} pieces of words at "
            "most")


class ZeroShot:
    """A classifier of pictures' features by the names of classes, made once.

    Args:
        net: of any task.
        names: of the classes, each once.
        templates: with {} for the name; the scores of all are put together.

    Attributes:
        same: see `same`.

    Raises:
        ValueError: as `prompts`.
    """

    def __init__(self, net: VisionLanguage, vocabulary: BytePairs, names: Sequence[str], templates: Sequence[str]):
        self.net, self.names = net, tuple(names)
        ids = prompts(vocabulary, self.names, templates, net.length)
        self.same, self._scores = same(ids, self.names), net.classifier(ids)

    def scores(self, features: np.ndarray) -> np.ndarray:
        """(N, classes) of image features (N, width) before the head."""
        with evaluating(self.net):
            return self._scores(tensor(self.net, features)).numpy()

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """softmax of the scores."""
        return mg.softmax(Tensor(self.scores(features)), 1).numpy()


def image_features(encoder: nn.Encoder, x: np.ndarray, preprocessing: nn.Preprocessing | None = None,
                   batch: int = 250) -> np.ndarray:
    """(N, width) of pictures (N, C, H, W), in evaluation mode; what are features already, (N, width), stays as it is.

    Args:
        x: bytes, or float32 in [0, 1]; without `preprocessing` as the encoder wants it.
        preprocessing: of the encoder; its mean and deviation are taken from the pictures.
    """
    if x.ndim == 2:
        return x
    found = []
    with evaluating(encoder):
        for some in slices(x, batch):
            inputs = some if preprocessing is None else normalised(scaled(some), preprocessing)
            found.append(encoder.features(tensor(encoder, inputs)).numpy())
    return np.concatenate(found)


@dataclass
class Accuracy:
    """How often the right class is the first, or among the first `k`: over all pictures, and averaged over classes."""

    k: int
    first: float
    among: float
    class_mean: float
    class_mean_among: float


def accuracy(scores: np.ndarray, labels: np.ndarray, k: int = 5) -> Accuracy:
    """Of scores (N, classes) and labels (N,). A class with the same score as the right one, or NaN, stands before it."""
    k = min(k, scores.shape[1])
    above = (~(scores < scores[np.arange(len(labels)), labels][:, None])).sum(1) - 1
    means = [[float(np.mean([(above[labels == c] < most).mean() for c in np.unique(labels)])), float((above < most).mean())]
             for most in (1, k)]
    return Accuracy(k, means[0][1], means[1][1], means[0][0], means[1][0])
