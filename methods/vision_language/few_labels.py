"""A few labels on top of a zero-shot classifier: Tip-Adapter's cache, and fine-tuning with WiSE-FT.

Tip-Adapter (Zhang et al. 2021, arXiv:2111.03930) trains nothing:

    logits = e^s I W^T + alpha exp(-beta (1 - I F^T)) L

W the zero-shot classifier's rows, F the embeddings of the labelled pictures, L their labels, one-hot; e^s is 100 in published
CLIPs.

The linear probe (Radford et al. 2021, section 3.2) reads features before the head, of pictures as they are: it is
`methods.transfer.linear.logistic`, whose strength is one of eight, tried on left-out labels; the paper tries 96.

WiSE-FT (Wortsman et al. 2021, arXiv:2109.01903): the zero-shot classifier is the last layer of a `Named` network, which
`methods.transfer.finetune` trains and puts between its first and its last weights.
"""
import numpy as np

import minigrad as mg
from methods.training.objectives import one_hot
from methods.transfer.tip_adapter import Cache, likeliest
from minigrad import Tensor, nn

from .clip import CLIP

PAPERS = 1.0, 5.5  # alpha and beta


def tip_adapter(weights: np.ndarray, known: np.ndarray, labels: np.ndarray, scale: float) -> Cache:
    """The classifier of embeddings I; alpha and beta are those under which left-out labels are most likely.

    A class's only example, left out, has no vote for its class: it does not count here. With one label a class alpha and beta are
    the paper's.

    Args:
        weights: W, (classes, dim); known: F, (M, dim); labels: (M,).
        scale: e^s.
    """
    again = np.bincount(labels, minlength=len(weights))[labels] > 1
    chosen = (scale, *PAPERS)
    if again.any():
        chosen = likeliest(known @ weights.T, (scale,), known, one_hot(labels, len(weights)), again)
    return Cache(np.zeros(known.shape[1], known.dtype), known, labels, weights, *chosen)


class Named(nn.Encoder):
    """Pictures to classes: features are I, the head are the zero-shot classifier's rows times e^s.

    Args:
        image: the image tower of a CLIP, with its head.
        dim: of I.
        num_classes: 0 for no head.
    """

    def __init__(self, image: nn.Encoder, dim: int, num_classes: int = 0):
        self.image = image
        image.head = nn.Linear(image.width, dim, bias=False)
        super().__init__(dim, num_classes, bias=False)

    def features(self, x: Tensor) -> Tensor:
        return mg.l2_normalize(self.image(x), 1)


def named(net: CLIP, weights: np.ndarray) -> Named:
    """A `Named` network that says what the zero-shot classifier with the rows `weights` (classes, dim) says; it has copies."""
    image = type(net.image)(**net.image.arguments)
    found = Named(image, weights.shape[1], len(weights))
    image.load_state_dict(net.image.state_dict())
    found.head.load_state_dict({"weight": np.float32(np.exp(float(net.s)) * weights)})
    return found.to(net.s.device)
