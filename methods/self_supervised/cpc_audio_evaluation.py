"""What CPC of audio has learned: features of whole recordings, how well the next latent is picked out, training with labels."""
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

import minigrad as mg
from methods.training.forward import tensor
from methods.training.method import Loss, Method
from minigrad import Tensor, nn

from . import cpc_audio

PART = 2**15  # samples of a recording that are held as latents at once, about


def time_mean(h: Tensor, lengths: np.ndarray, first: int = 0) -> Tensor:
    """The mean (N, D) over those of T steps of h (N, T, D) that are of the recording.

    Args:
        first: the number of h's first step in the recording; then this is the part that h has on average.
    """
    inside = first + np.arange(h.shape[1]) < lengths[:, None]
    weights = (inside / np.maximum(lengths, 1)[:, None]).astype(h.dtype)
    return (h * mg.Tensor(weights[..., None]).to(h.device)).sum(1)


def features(net: cpc_audio.CPC, waveforms: Sequence[np.ndarray], batch: int = 64) -> np.ndarray:
    """The time-mean of c, (N, context) float32, of whole recordings, heard part by part; no gradient is recorded."""
    order = np.argsort([len(x) for x in waveforms], kind="stable")
    found, step = np.zeros((len(waveforms), net.W.shape[2]), np.float32), max(1, PART // net.hop) * net.hop
    with mg.no_grad():
        for start in range(0, len(order), batch):
            rows, state = order[start:start + batch], None
            whole = cpc_audio.padded([waveforms[i] for i in rows], rows, net.hop)
            for at in range(0, whole.x.shape[1], step):
                before = min(at, net.before)
                x = mg.pad(tensor(net, whole.x[:, at - before:at + step]), [(0, 0), (net.before - before, 0)])
                _, c, state = net.heard(x, state)
                found[rows] += time_mean(c, whole.lengths, at // net.hop).numpy()
    return found


def picked(net: cpc_audio.CPC, batches: cpc_audio.Batches, count: int, negatives: cpc_audio.Negatives) -> cpc_audio.Picked:
    """How well the positive is picked out, averaged over so many batches."""
    with mg.no_grad():
        parts = [cpc_audio.info_nce(*net(tensor(net, batch.x)), net.W, batch.lengths, negatives)[1]
                 for batch in (batches.sample() for _ in range(count))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no latent is so far ahead: NaN
        return cpc_audio.Picked(*(np.nanmean(values, 0) for values in zip(*parts)))


class Recognizer(nn.Module):
    """The same g_enc and g_ar with a linear layer on the time-mean of c, for training with labels."""

    def __init__(self, trunk: cpc_audio.CPC, classes: int):
        self.trunk, self.head = trunk, nn.Linear(trunk.W.shape[2], classes)

    def forward(self, x: Tensor, lengths: np.ndarray) -> Tensor:
        """Scores (N, classes)."""
        return self.head(time_mean(self.trunk(x)[1], lengths))


class Supervised(Method):
    """Cross-entropy of a `Recognizer`: what the network reaches with all labels."""

    def __init__(self, config: Any, net: Recognizer, labels: np.ndarray):
        super().__init__(config, net)
        self.labels = labels

    def loss(self, batch: cpc_audio.Batch, step: int) -> Loss:
        scores, y = self.net(tensor(self.net, batch.x), batch.lengths), self.labels[batch.rows]
        return mg.cross_entropy(scores, y), {"accuracy": (scores.numpy().argmax(1) == y).mean()}

    schedule = cpc_audio.ContrastivePredictiveCoding.schedule
