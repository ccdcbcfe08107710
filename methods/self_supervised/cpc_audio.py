"""Contrastive predictive coding (CPC) of raw audio.

Aaron van den Oord, Yazhe Li, Oriol Vinyals: "Representation learning with contrastive predictive coding", 2018,
arXiv:1807.03748.

What comes next in a recording is to be picked out among what comes elsewhere. Not the waveform is predicted but its latents,
so noise need not be.

    z_t = g_enc(x)_t            strided convolutions with ReLU; z_t ends with the samples of hop t
    c_t = g_ar(z_0, ..., z_t)   a gated recurrent unit
    f_k(z, c_t) = exp(z^T W_k c_t)                                              for k = 1, ..., K, a matrix each     (eq. 3)
    L = mean over k, of it over n and t, of -log f_k(z_{n,t+k}, c_{n,t}) / sum over z in Z of f_k(z, c_{n,t})        (eq. 4)

Z holds the positive z_{n,t+k} itself and the negatives, N latents in all; then I(x_{t+k}; c_t) >= log N - L. No latent is
brought to unit length, no product is divided by a temperature, and nothing is normalised over the batch or time.

Which negatives Z has, decides what is learned:

    "utterance"  z_{n,j} for all j: the speaker is the same in all of them, so only what is said when tells the positive
    "batch"      z_{m,t+k} for all recordings m of the batch: their speakers tell them apart, too
    "mixed"      both
"""
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

import minigrad as mg
from methods.training.forward import tensor
from methods.training.method import Loss, Method
from methods.training.settings import setting
from minigrad import Tensor, nn

Negatives = Literal["utterance", "batch", "mixed"]
OUT = -1e9  # the score of what is no candidate


@dataclass
class Config:
    """Settings for recordings at 8 kHz on a CPU; in brackets the paper's, for 16 kHz."""

    channels: int = setting(128, least=1)  # of z (512)
    context: int = setting(128, least=1)  # numbers of c (256)
    kernels: tuple[int, ...] = setting((10, 8, 4, 4), least=1)  # (10 8 4 4 4)
    strides: tuple[int, ...] = setting((5, 4, 2, 2), least=1)  # (5 4 2 2 2); a hop is their product
    ahead: int = setting(12, least=1)  # K
    negatives: Negatives = "mixed"  # in the denominator, besides the positive
    window: int = setting(4000, least=1)  # samples of a recording that a step hears (20480)
    batch: int = setting(32, least=2)  # recordings in a step (8 on each of 8 GPUs)
    lr: float = setting(1e-3, above=0)  # of Adam (2e-4)


class CPC(nn.Module):
    """g_enc, g_ar and the matrices W_k, (ahead, channels, context)."""

    def __init__(self, channels: int, context: int, kernels: tuple[int, ...], strides: tuple[int, ...], ahead: int):
        if len(kernels) != len(strides) or any(k < s for k, s in zip(kernels, strides)):
            raise ValueError(f"CPC: as many strides as kernels wanted, none larger than its kernel; got kernels {kernels} "
                             f"and strides {strides}")
        self.hop = int(np.prod(strides))
        self.seen = 1 + sum((k - 1) * int(np.prod(strides[:i])) for i, k in enumerate(kernels))  # samples that a latent sees
        inputs = (1, *[channels] * (len(kernels) - 1))
        self.g_enc = nn.ModuleList([nn.Conv1d(n, channels, k, s) for n, k, s in zip(inputs, kernels, strides)])
        self.g_ar = nn.GRU(channels, context)
        self.W = nn.Parameter(np.random.default_rng(0).standard_normal((ahead, channels, context)).astype(np.float32) / context)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z (N, T, channels) and c (N, T, context) of waveforms (N, samples); T is samples // hop."""
        h = mg.pad(x, [(0, 0), (self.seen - self.hop, 0)])[:, None]  # silence before, so that z_t ends with hop t
        for layer in self.g_enc:
            h = mg.relu(layer(h))
        z = h.transpose(2, 0, 1)
        return z.swapaxes(0, 1), self.g_ar(z)[0].swapaxes(0, 1)


def scores(z: Tensor, c: Tensor, W: Tensor, lengths: np.ndarray, negatives: Negatives) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """z^T W_k c_t for all candidates z.

    Args:
        z, c: (N, T, channels) and (N, T, context); lengths: how many of the T latents of each are of its recording, (N,).

    Returns:
        scores (N, T, K, candidates); the place of the positive among them, (N, T, K), -1 where there is none; the number of
        candidates, (N, T, K).
    """
    N, T, D = z.shape
    K = len(W)
    predicted = mg.matmul(c, W.reshape(K * D, -1).T).reshape(N, T, K, D)
    n, t, k = np.ogrid[:N, :T, :K]
    target = t + k + 1
    valid = target < lengths[:, None, None]
    inside = np.arange(T) < lengths[:, None]  # (N, T)
    parts, outs, place = [], [], np.broadcast_to(target, (N, T, K))
    if negatives != "batch":
        parts.append(mg.matmul(predicted.reshape(N, T * K, D), z.swapaxes(1, 2)).reshape(N, T, K, T))
        outs.append(np.broadcast_to(~inside[:, None, None, :], parts[0].shape))
    if negatives != "utterance":
        at = np.minimum(target[0], T - 1)  # (T, K)
        latents = z.transpose(1, 2, 0)[at]  # (T, K, D, N)
        parts.append(mg.matmul(predicted.transpose(1, 2, 0, 3), latents).transpose(2, 0, 1, 3))
        out = np.broadcast_to(~inside.T[at], (N, T, K, N))
        if negatives == "mixed":  # the positive is there already
            out = out | (np.arange(N) == n[..., None])
        else:
            place = np.broadcast_to(n, (N, T, K))
        outs.append(out)
    out = np.concatenate(outs, -1)
    return (mg.concatenate(parts, -1) + Tensor(np.where(out, np.float32(OUT), np.float32(0))), np.where(valid, place, -1),
            (~out).sum(-1))


def info_nce(z, c, W, lengths, negatives):
    s, place, candidates = scores(z, c, W, lengths, negatives)
    losses = mg.cross_entropy(s.reshape(-1, s.shape[-1]), place.reshape(-1), ignore_index=-1, reduction="none").reshape(place.shape)
    valid = place >= 0
    counts = valid.sum((0, 1))
    right = (s.numpy().argmax(-1) == place)
    K = (counts > 0).sum()
    w = valid / np.maximum(counts, 1) / K
    return (losses * Tensor(w.astype(np.float32))).sum(), right.sum((0, 1)) / np.maximum(counts, 1), (valid / candidates).sum((0, 1)) / np.maximum(counts, 1)
