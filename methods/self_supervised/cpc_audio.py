"""Contrastive predictive coding (CPC) of raw audio.

Aaron van den Oord, Yazhe Li, Oriol Vinyals: "Representation learning with contrastive predictive coding", 2018,
arXiv:1807.03748.

What comes next in a recording is to be picked out among what comes elsewhere. Not the waveform is predicted but its latents,
so noise need not be.

    z_t = g_enc(x)_t            strided convolutions with ReLU; the last sample that z_t sees is the last of hop t
    c_t = g_ar(z_0, ..., z_t)   a gated recurrent unit
    f_k(z, c_t) = exp(z^T W_k c_t)                       for k = 1, ..., K, each with a matrix of its own            (eq. 3)
    L_k = mean over recordings n and t of -log f_k(z_{n,t+k}, c_{n,t}) / sum over z in Z of f_k(z, c_{n,t})          (eq. 4)
    L = mean of L_1, ..., L_K

Z holds the positive z_{n,t+k} itself and the negatives, N latents in all; then I(x_{t+k}; c_t) >= log N - L_k. No latent is
brought to unit length, no product is divided by a temperature, and nothing is normalised over the batch or over time.

Which negatives Z has, decides what is learned:

    "utterance"  z_{n,j} for all j: the speaker is the same in all of them, so only what is said when tells the positive
    "batch"      z_{m,t+k} for all recordings m of the batch: they are told apart by their speakers, too
    "mixed"      both
"""
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

import minigrad as mg
from methods.training.forward import tensor
from methods.training.method import Loss, Method
from methods.training.settings import setting
from minigrad import Tensor, nn, optim
from minigrad.data.labels import Shuffled

Negatives = Literal["utterance", "batch", "mixed"]
OUT = -1e9  # the score of what is no candidate


@dataclass
class Config:
    """Settings for recordings at 8 kHz on a CPU; in brackets the paper's, for 16 kHz."""

    channels: int = setting(128, least=1)  # of z (512)
    context: int = setting(128, least=1)  # numbers of c (256)
    kernels: tuple[int, ...] = setting((10, 8, 4, 4), least=1)  # (10 8 4 4 4)
    strides: tuple[int, ...] = setting((5, 4, 2, 2), least=1)  # (5 4 2 2 2); a hop is their product: 10 ms
    ahead: int = setting(12, least=1)  # K
    negatives: Negatives = "batch"  # in the denominator, besides the positive
    window: int = setting(2000, least=1)  # samples of a recording that a step hears (20480)
    batch: int = setting(64, least=2)  # recordings in a step (8 on each of 8 GPUs)
    lr: float = setting(3e-3, above=0)  # of Adam (2e-4)


class CPC(nn.Module):
    """g_enc, g_ar and W (K, channels, context).

    Args:
        channels, context, kernels, strides, ahead: see `Config`.

    Attributes:
        hop: samples from one z to the next; before: samples of silence in front, which z_0 sees.

    Raises:
        ValueError: kernels and strides do not go together.
    """

    def __init__(self, channels: int, context: int, kernels: Sequence[int], strides: Sequence[int], ahead: int):
        if not strides or len(kernels) != len(strides) or any(k < s for k, s in zip(kernels, strides)):
            raise ValueError("CPC: as many strides as kernels wanted, one or more, none larger than its kernel; got kernels "
                             f"{tuple(kernels)} and strides {tuple(strides)}")
        hops = [int(np.prod(strides[:i])) for i in range(len(strides) + 1)]  # of the inputs of the layers, and of z
        self.hop = hops[-1]
        self.before = sum((k - 1) * hop for k, hop in zip(kernels, hops)) + 1 - self.hop  # what z_0 sees, less hop 0
        inputs = 1, *[channels] * (len(kernels) - 1)
        self.g_enc = nn.ModuleList([nn.Conv1d(n, channels, k, s) for n, k, s in zip(inputs, kernels, strides)])
        self.g_ar = nn.GRU(channels, context)
        self.W = nn.layers.uniform((ahead, channels, context), context)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z (N, T, channels) and c (N, T, context) of waveforms (N, samples); T is samples // hop."""
        return self.heard(mg.pad(x, [(0, 0), (self.before, 0)]))[:2]  # silence, so that z_0 can be

    def heard(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """z, c and the last state of g_ar, (1, N, context), of what comes after the first `before` samples of x.

        Args:
            state: of g_ar before; zeros if None.
        """
        h = x[:, None]
        for layer in self.g_enc:
            h = mg.relu(layer(h))
        z = h.transpose(2, 0, 1)
        c, state = self.g_ar(z, state)
        return z.swapaxes(0, 1), c.swapaxes(0, 1), state


def scores(z: Tensor, predicted: Tensor, k: int, inside: np.ndarray,
           negatives: Negatives) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """log f_k(z, c_{n,t}) for each z in Z.

    Args:
        z: (N, T, D); predicted: W_k c_{n,t} for t < T - k, (N, T - k, D).
        inside: (N, T), whether a latent is of its recording, which may be shorter than the others.

    Returns:
        scores (N, T - k, candidates); which candidates are in Z, likewise; and which is the positive, (N, T - k).
    """
    N, T, _ = z.shape
    n, t = np.ogrid[:N, :T - k]
    found, inside_z, positive = [], [], n if negatives == "batch" else t + k
    if negatives != "batch":
        found.append(predicted @ z.swapaxes(1, 2))
        inside_z.append(np.broadcast_to(inside[:, None], (N, T - k, T)))
    if negatives != "utterance":
        found.append((predicted.swapaxes(0, 1) @ z[:, k:].transpose(1, 2, 0)).swapaxes(0, 1))
        others = np.broadcast_to(inside[:, k:].T, (N, T - k, N))
        inside_z.append(others & (np.arange(N) != n[..., None]) if negatives == "mixed" else others)  # the positive once
    return mg.concatenate(found, 2), np.concatenate(inside_z, 2), np.broadcast_to(positive, (N, T - k))


class Picked(NamedTuple):
    """How well the positive is picked out for each k = 1, ..., K: arrays (K,), NaN where no latent is so far ahead.

    accuracy: how often its score is the largest; chance: the mean of 1 / N; information: log N - L_k, in nats.
    """

    accuracy: np.ndarray
    chance: np.ndarray
    information: np.ndarray


def info_nce(z: Tensor, c: Tensor, W: Tensor, lengths: np.ndarray, negatives: Negatives) -> tuple[Tensor, Picked]:
    """L, the mean over those k for which there is a positive, and how well it is picked out.

    Args:
        z: (N, T, D); c: (N, T, C); W: (K, D, C).
        lengths: of the T latents the first so many are of the recording, (N,) whole numbers.

    Raises:
        ValueError: no recording has two latents.
    """
    inside, found, losses = np.arange(z.shape[1]) < lengths[:, None], np.full((3, len(W)), np.nan), []
    for k in range(1, min(len(W), lengths.max() - 1) + 1):
        s, in_z, positive = scores(z, c[:, :-k] @ W[k - 1].T, k, inside, negatives)
        s = s + mg.Tensor(np.where(in_z, 0, OUT).astype(s.dtype)).to(s.device)
        there = inside[:, k:]
        losses.append(mg.cross_entropy(s.reshape(-1, s.shape[2]), np.where(there, positive, -1).ravel(), ignore_index=-1))
        N = in_z.sum(2)[there]
        right = s.numpy().argmax(2) == positive
        found[:, k - 1] = right[there].mean(), (1 / N).mean(), np.log(N).mean() - float(losses[-1])
    if not losses:
        raise ValueError("info_nce: no recording has two latents, so nothing can be predicted")
    return mg.stack(losses).mean(), Picked(*found)


class Batch(NamedTuple):
    """Waveforms (N, samples), their lengths in hops (N,), and the number of each in its data set (N,)."""

    x: np.ndarray
    lengths: np.ndarray
    rows: np.ndarray


def padded(waveforms: Sequence[np.ndarray], rows: np.ndarray, hop: int, samples: int = 0) -> Batch:
    """A batch of waveforms, with silence behind up to so many samples; 0: up to the last hop of the longest, begun or whole."""
    x = np.zeros((len(rows), samples or -(-max(map(len, waveforms)) // hop) * hop), np.float32)
    for row, waveform in zip(x, waveforms):
        row[:len(waveform)] = waveform
    return Batch(x, np.array([len(waveform) // hop for waveform in waveforms]), rows)


class Batches:
    """Random batches of windows of recordings, each recording once in a round; of fewer recordings than a batch has each as often
    as it has windows, so that there are negatives."""

    def __init__(self, waveforms: Sequence[np.ndarray], window: int, hop: int, batch: int, seed: int):
        windows = [max(1, len(x) // window) if len(waveforms) < batch else 1 for x in waveforms]
        self.waveforms, self.window, self.hop, self.batch = waveforms, window, hop, min(batch, sum(windows))
        self.recording = np.repeat(np.arange(len(waveforms)), windows)
        self.order = Shuffled(len(self.recording), seed)

    def sample(self) -> Batch:
        """The next batch; a recording that is longer than the window begins at random."""
        rows = self.recording[self.order.take(self.batch)]
        starts = [self.order.rng.integers(max(len(self.waveforms[i]) - self.window, 0) + 1) for i in rows]
        cut = [self.waveforms[i][start:start + self.window] for i, start in zip(rows, starts)]
        return padded(cut, rows, self.hop, self.window)

    def state_dict(self) -> dict[str, Any]:
        """The state of the order and of its generator, which the windows use too."""
        return self.order.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        self.order.load_state_dict(state)


class ContrastivePredictiveCoding(Method):
    """Trains a CPC by L."""

    def loss(self, batch: Batch, step: int) -> Loss:
        z, c = self.net(tensor(self.net, batch.x))
        loss, picked = info_nce(z, c, self.net.W, batch.lengths, self.config.negatives)
        return loss, {"accuracy": np.nanmean(picked.accuracy), "information": np.nanmean(picked.information)}

    def schedule(self, step: int, steps: int) -> float:
        """A twentieth of the steps up from 0, then down a cosine to 0."""
        return optim.cosine_decay(1.0, steps, max(1, steps // 20))(step)
