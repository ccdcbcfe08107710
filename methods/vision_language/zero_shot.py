"""Classes known by their names: prompts, the classifier that is built of them once, its accuracy (sections 3.1.2 and 3.1.4)."""
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

import minigrad as mg
from methods.training.forward import evaluating, tensor
from methods.training.images import scaled
from minigrad import Tensor, nn
from minigrad.data import BytePairs

from .base import VisionLanguage, normalised

TEMPLATES = ("a photo of a {}", "a picture of a {}", "a drawing of a {}", "an image of a {}", "a {}", "{}")


class ZeroShot:
    """A classifier of pictures' features by the names of classes.

    Args:
        net: of any task.
        names: of the classes, each once.
        templates: with {} for the name; the scores of all are put together.

    Raises:
        ValueError: a name stands twice, there are none, or a template has no {}.
    """

    def __init__(self, net: VisionLanguage, vocabulary: BytePairs, names: Sequence[str], templates: Sequence[str]):
        self.net, self.names = net, tuple(names)
        if len(self.names) < 2 or len(set(self.names)) < len(self.names):
            raise ValueError(f"two or more classes are wanted, each once, not {', '.join(self.names) or 'none'}")
        if not templates or (wrong := [template for template in templates if "{}" not in template]):
            raise ValueError(f"a template has {{}} in place of the name, unlike {wrong[0]!r}" if templates else "no template")
        self._scores = net.classifier([vocabulary.encode([template.replace("{}", name) for template in templates], net.length)
                                       for name in self.names])

    def scores(self, features: np.ndarray) -> np.ndarray:
        """(N, classes) of image features (N, width) before the head."""
        with evaluating(self.net):
            return self._scores(tensor(self.net, features)).numpy()

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """softmax of the scores."""
        return mg.softmax(Tensor(self.scores(features)), 1).numpy()


def image_features(encoder: nn.Encoder, preprocessing: nn.Preprocessing, x: np.ndarray, batch: int = 250) -> np.ndarray:
    """(N, width) of pictures (N, C, H, W), in evaluation mode; what are features already, (N, width), stays as it is.

    Args:
        x: bytes, or float32 in [0, 1].
    """
    if x.ndim == 2:
        return x
    with evaluating(encoder):
        return np.concatenate([encoder.features(tensor(encoder, normalised(scaled(x[i:i + batch]), preprocessing))).numpy()
                               for i in range(0, len(x), batch)])


@dataclass
class Accuracy:
    """How often the right class is the first, or among the first `k`: over all pictures, and in the mean over classes."""

    k: int
    first: float
    among: float
    class_mean: float
    class_mean_among: float


def accuracy(scores: np.ndarray, labels: np.ndarray, k: int = 5) -> Accuracy:
    """Of scores (N, classes) and labels (N,). A class with the same score as the right one stands before it."""
    k = min(k, scores.shape[1])
    above = (scores >= scores[np.arange(len(labels)), labels][:, None]).sum(1) - 1
    means = [[float(np.mean([(above[labels == c] < most).mean() for c in np.unique(labels)])), float((above < most).mean())]
             for most in (1, k)]
    return Accuracy(k, means[0][1], means[1][1], means[0][0], means[1][0])
