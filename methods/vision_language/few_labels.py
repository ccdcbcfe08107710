"""A few labels on top of a zero-shot classifier: Tip-Adapter's cache, and fine-tuning with WiSE-FT.

Tip-Adapter (Zhang et al. 2021, arXiv:2111.03930) trains nothing:

    logits = e^s I W^T + alpha exp(-beta (1 - I F^T)) L

W the zero-shot classifier's rows, F the embeddings of the labelled pictures, L their labels, one-hot; e^s is 100 in published
CLIPs.

WiSE-FT (Wortsman et al. 2021, arXiv:2109.01903): the zero-shot classifier is the last layer of a `Named` network, which
`methods.transfer.finetune` trains and puts between its first and its last weights.
"""
import numpy as np

import minigrad as mg
from methods.training.objectives import one_hot
from minigrad import Tensor, nn

from .clip import CLIP


ALPHAS, BETAS = (0.0, 1.0, 3.0, 10.0), (1.0, 3.0, 5.5, 10.0)


def tip_adapter(images: np.ndarray, weights: np.ndarray, known: np.ndarray, labels: np.ndarray, alpha: float = 1.0,
                beta: float = 5.5, scale: float = 100.0) -> np.ndarray:
    """The logits (N, classes).

    Args:
        images: I, (N, dim); weights: W, (classes, dim); known: F, (M, dim); labels: (M,).
        scale: e^s.
    """
    near = np.exp(-beta * (1 - images @ known.T))
    return scale * images @ weights.T + alpha * near @ one_hot(labels, len(weights))


def choose(weights: np.ndarray, known: np.ndarray, labels: np.ndarray, scale: float = 100.0) -> tuple[float, float]:
    """The alpha and beta under which labels are most likely, each left out of the cache in its turn.

    Args:
        weights, known, labels, scale: as of `tip_adapter`.
    """
    zero_shot, hot, best = scale * known @ weights.T, one_hot(labels, len(weights)), None
    for beta in BETAS:
        near = np.exp(-beta * (1 - known @ known.T))
        np.fill_diagonal(near, 0)
        for alpha in ALPHAS:
            loss = float(mg.cross_entropy(zero_shot + alpha * near @ hot, labels))
            if best is None or loss < best[0]:
                best = loss, alpha, beta
    return best[1:]


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
