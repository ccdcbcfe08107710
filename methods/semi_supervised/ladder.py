"""Ladder networks.

Antti Rasmus, Harri Valpola, Mikko Honkala, Mathias Berglund, Tapani Raiko: "Semi-Supervised Learning with Ladder Networks",
2015, arXiv:1507.02672.

A noisy encoder classifies; a decoder with a link to every level denoises it, towards the same encoder without noise.

    z~_l = BN(W_l h~_{l-1}) + n,  h~_l = act(gamma_l (z~_l + beta_l));  the clean path alike without n gives z_l
    u_L = BN(h~_L),  u_l = BN(V_{l+1} z^_{l+1})
    z^_l = (z~_l - mu(u_l)) v(u_l) + mu(u_l),  mu, v each a1 sigmoid(a2 u + a3) + a4 u + a5 for every unit
    C = CE(noisy output, y) + sum over l of lambda_l/m_l mean ||z_l - (z^_l - mean_l) / std_l||^2, mean, std of the clean path

Labelled and unlabelled examples are normalised on their own; no gradient is stopped; the prediction is the clean path's. The
Gamma model keeps the term of the top level only, where z^_L needs no decoder below.
"""
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

import minigrad as mg
from methods.training.classifier import Architecture
from methods.training.forward import placed
from methods.training.method import Loss
from methods.training.settings import setting
from minigrad import Tensor, nn
from minigrad.data import Batch

from .base import SemiSupervisedMethod

ROW = "noise in all layers", "none", "none"


@dataclass
class Config:
    """The paper's settings."""

    hidden: tuple[int, ...] = setting((1000, 500, 250, 250, 250), least=1)  # widths of the hidden layers
    noise: float = setting(0.3, least=0)  # standard deviation of n
    weights: tuple[float, ...] = setting((1000, 10, 0.1), least=0)  # lambda_0, lambda_1, and of every further level
    variant: Literal["full", "gamma", "none"] = "full"  # none: the noisy encoder alone
    top: float = setting(1.0, least=0)  # lambda_L of the Gamma model
    ema: float = setting(0.999, least=0, below=1)  # decay of the weights' average that is tested


SHORT = dict(hidden=(500, 250), batch=100, ratio=1, steps=3000, lr=6e-3, weight_decay=0.0, labels=100)


def combinator(z: Tensor, u: Tensor, a: Tensor) -> Tensor:
    """g: z^ from z~ and u (N, m), by a (10, m)."""
    mu = a[0] * mg.sigmoid(a[1] * u + a[2]) + a[3] * u + a[4]
    v = a[5] * mg.sigmoid(a[6] * u + a[7]) + a[8] * u + a[9]
    return (z - mu) * v + mu


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over the batch."""
    mean = x.mean(0)
    return mean, mg.sqrt(mg.square(x - mean).mean(0) + 1e-5)


class Ladder(nn.Module):
    """Encoder and decoder, sizes from the input to the classes."""

    def __init__(self, sizes: Sequence[int], noise: float = 0.3):
        draw = mg.random.generator().standard_normal
        pairs = list(zip(sizes, sizes[1:]))
        self.sizes, self.noise = tuple(sizes), noise
        for i, (a, b) in enumerate(pairs):
            setattr(self, f"w{i + 1}", nn.Parameter((draw((a, b)) / np.sqrt(a)).astype(np.float32)))
            setattr(self, f"v{i + 1}", nn.Parameter((draw((b, a)) / np.sqrt(b)).astype(np.float32)))
            setattr(self, f"beta{i + 1}", nn.Parameter(np.zeros(b, np.float32)))
            setattr(self, f"mean{i + 1}", np.zeros(b, np.float32))  # running statistics of the clean path
            setattr(self, f"var{i + 1}", np.ones(b, np.float32))
        self.gamma = nn.Parameter(np.ones(sizes[-1], np.float32))  # a ReLU needs none
        for i, m in enumerate(sizes):
            a = np.zeros((10, m), np.float32)
            a[[1, 6]] = 1
            setattr(self, f"a{i}", nn.Parameter(a))

    def draws(self, n: int) -> list[Tensor]:
        """The noise of every level for n examples; none if its deviation is 0."""
        draw = mg.random.generator().standard_normal
        return list(placed(self, *[self.noise * draw((n, m), dtype=np.float32) for m in self.sizes if self.noise]))

    def encode(self, x: Tensor, noise: Sequence[Tensor] = ()) -> tuple[list[Tensor], list[tuple[Tensor, Tensor] | None], Tensor]:
        """z_0 ... z_L, of the clean path the means and deviations that normalised them, and the logits.

        Args:
            noise: of every level; none for the clean path.
        """
        def corrupt(z, l):
            return z + noise[l] if noise else z

        h = corrupt(mg.flatten(x, 1), 0)
        zs, stats = [h], [None]
        for l in range(1, len(self.sizes)):
            z = h @ getattr(self, f"w{l}")
            stats.append(moments(z) if self.training and not noise else None)
            running = (None, None) if self.training and noise else (getattr(self, f"mean{l}"), getattr(self, f"var{l}"))
            z = corrupt(mg.batch_norm(z, *running, training=self.training), l)
            zs.append(z)
            h = z + getattr(self, f"beta{l}")
            h = mg.relu(h) if l < len(self.sizes) - 1 else self.gamma * h
        return zs, stats, h

    def forward(self, x: Tensor) -> Tensor:
        """The clean path's logits."""
        return self.encode(x)[2]

    def decode(self, zs: list[Tensor], logits: Tensor, lowest: int = 0) -> dict[int, Tensor]:
        """z^_l from the noisy levels, as a dict from L down to `lowest`."""
        found, h = {}, mg.softmax(logits, 1)
        for l in range(len(self.sizes) - 1, lowest - 1, -1):
            if l < len(self.sizes) - 1:
                h = found[l + 1] @ getattr(self, f"v{l + 1}")
            found[l] = combinator(zs[l], mg.batch_norm(h, None, None, training=True), getattr(self, f"a{l}"))
        return found

    def denoising(self, x: Tensor, noise: list[Tensor], weights: dict[int, float]) -> tuple[Tensor, dict[int, Tensor]]:
        """The costs of the levels in `weights` (level to lambda), summed, for unlabelled x; and each."""
        clean, stats, _ = self.encode(x)
        noisy, _, logits = self.encode(x, noise)
        costs = {}
        for l, z in self.decode(noisy, logits, min(weights)).items():
            if l in weights:
                z = (z - stats[l][0]) / stats[l][1] if l else z
                costs[l] = weights[l] * mg.square(clean[l] - z).mean()
        return sum(costs.values()), costs


def architecture(config: Config, inputs: int, classes: int) -> Architecture:
    """The method's own network, for so many inputs.

    Raises:
        SystemExit: there is no weight.
    """
    if not config.weights:
        raise SystemExit("--weights: at least one number is needed")
    return Architecture("methods.semi_supervised.ladder.Ladder", sizes=[inputs, *config.hidden, classes], noise=config.noise)


class LadderMethod(SemiSupervisedMethod):
    """Trains a `Ladder` by C, by its first term alone, or by that and the top level's; see `Config.variant`."""

    def arguments(self, batch: Batch, step: int) -> tuple[Any, ...]:
        """The labelled examples, their labels and noise, and the others with theirs."""
        x, u = self.tensor(batch.x), self.tensor(batch.u)
        noise = self.net.draws(len(x))
        return x, self.labels(batch.y), noise, u, self.net.draws(len(u)) if self.config.variant != "none" else []

    def objective(self, x: Tensor, y: Tensor, noise: list[Tensor], u: Tensor, noise_u: list[Tensor]) -> Loss:
        """C, and the levels' costs."""
        c, top = self.config, len(self.net.sizes) - 1
        loss = mg.cross_entropy(self.net.encode(x, noise)[2], y)
        if c.variant == "full":
            weights = {l: c.weights[min(l, len(c.weights) - 1)] for l in range(top + 1)}
        elif c.variant == "gamma":
            weights = {top: c.top}
        else:
            with mg.no_grad():
                self.net.encode(u)  # for the running statistics
            return loss, {}
        denoising, costs = self.net.denoising(u, noise_u, weights)
        return loss + denoising, {f"level {l}": cost for l, cost in costs.items()}


Objective = LadderMethod
