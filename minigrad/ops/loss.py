"""Losses."""
import numpy as np

from ..backend import xp
from ..tensor import Fused, Tensor, asarray
from .index import take_along_axis
from .reduce import log_softmax, mean


def _cross_entropy(logits, labels):
    """The mean over the batch of -log softmax(logits)[label]."""
    return -mean(take_along_axis(log_softmax(logits), labels._array[:, None], 1))


def _forward(logits, labels):
    shifted = logits - logits.max(axis=1, keepdims=True)
    exps = np.exp(shifted)
    total = exps.sum(axis=1, keepdims=True)
    picked = np.take_along_axis(shifted, labels[:, None], 1) - np.log(total)
    exps /= total
    return np.asarray(-picked.mean(dtype=logits.dtype)), exps


def _backward(g, out, probabilities, wanted, logits, labels):
    grad = probabilities.copy()
    grad[np.arange(len(labels)), labels] -= 1
    grad *= g / len(labels)
    return [grad, None]


_fused = Fused("cross_entropy", _cross_entropy, _forward, _backward)


def cross_entropy(logits, labels):
    """The mean negative log-likelihood of the right classes.

    Args:
        logits: (N, classes), unnormalised log-probabilities.
        labels: (N,) integers from 0 to classes - 1.

    Raises:
        ValueError: shapes do not fit, or a label is out of range; TypeError: labels are not integers.
    """
    logits = logits if isinstance(logits, Tensor) else Tensor(logits)
    labels = xp(logits._array).asarray(asarray(labels))
    if labels.dtype.kind not in "iu":
        raise TypeError(f"cross_entropy: labels must be integers, not {labels.dtype}")
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(f"cross_entropy: logits (N, classes) and labels (N,) wanted, got {logits.shape} and {labels.shape}")
    if xp(labels) is np and labels.size and not (0 <= labels.min() and labels.max() < logits.shape[1]):
        raise ValueError(f"cross_entropy: labels from {labels.min()} to {labels.max()} for {logits.shape[1]} classes")
    return _fused(logits, Tensor(labels.astype(np.int64)))
