"""Retrieval: captions of pictures and pictures of captions, by the cosine of their embeddings."""
from collections.abc import Sequence

import numpy as np

from methods.training.forward import evaluating, slices, tensor
from minigrad import Tensor
from minigrad.data import BytePairs

from .clip import CLIP


def text_embeddings(net: CLIP, vocabulary: BytePairs, texts: Sequence[str], batch: int = 200) -> np.ndarray:
    """T, (N, dim)."""
    found = []
    with evaluating(net):
        for some in slices(texts, batch):
            ids = vocabulary.encode(some, net.length)
            found.append(net.embed_texts(Tensor(ids).to(net.s.device)).numpy())
    return np.concatenate(found)


def image_embeddings(net: CLIP, features: np.ndarray) -> np.ndarray:
    """I, (N, dim), of image features before the head."""
    with evaluating(net):
        return net.embed_images(tensor(net, features)).numpy()


def recall(queries: np.ndarray, found: np.ndarray, k: int, keys: np.ndarray | None = None) -> float:
    """The share of queries (N, d) whose partner, the row of the same number in `found` (N, d), is among the k nearest.

    Args:
        keys: (N,); rows of the same number are partners of each other, too.
    """
    cosine = queries @ found.T
    partners = np.eye(len(queries), dtype=bool) if keys is None else keys[:, None] == keys
    best = np.where(partners, cosine, -np.inf).max(1)
    nearer = (~(np.where(partners, -np.inf, cosine) < best[:, None])).sum(1)  # NaN finds nothing
    return float((nearer < k).mean())
