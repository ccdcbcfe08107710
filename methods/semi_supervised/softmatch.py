"""SoftMatch.

Hao Chen et al.: "SoftMatch: Addressing the Quantity-Quality Trade-off in Semi-supervised Learning", 2023, arXiv:2301.10921.

FixMatch without a threshold: every predicted class is learned from, with a weight that falls like a Gaussian where the
prediction is less confident than the average one.

    q_b = softmax f(weak(u_b)), a constant;  a_b = Normalise(q_b / (C q~)): aligned to the uniform distribution
    lambda_b = exp(-min(max a_b - mu, 0)^2 / (2 sigma^2 / n^2))
    L = 1/B sum over b of CE(f(weak(x_b)), y_b) + lambda_u 1/(mu B) sum over b of lambda_b CE(f(strong(u_b)), argmax q_b)

q~ is the running mean of q, uniform at first; mu and sigma^2 are those of the mean and the variance of max a over a batch. The
alignment decides the weight alone.
"""
from dataclasses import dataclass
from typing import Any

import numpy as np

import minigrad as mg
from methods.training.forward import tensor_like
from methods.training.method import Loss, Parts
from methods.training.settings import setting
from minigrad import Tensor, nn

from .base import Task
from .fixmatch import FixMatch

ROW = "strong", "weak", "hard, weighted"


@dataclass
class Config:
    """The paper's settings."""

    n_sigma: float = setting(2.0, above=0)  # n
    momentum: float = setting(0.999, least=0, below=1)  # of the running means
    lambda_u: float = setting(1.0, least=0)  # weight of the second sum
    strong: bool = True  # False: the student too sees a weakly augmented image
    learned: bool = False  # CTAugment as the strong augmentation
    apart: bool = False  # weakly augmented images pass first, without a graph: batch normalisation sees them apart
    ema: float = setting(0.999, least=0, below=1)  # decay of the weights' average that is tested


SHORT = dict(momentum=0.99)


class Weights(nn.Module):
    """q~, mu and sigma^2, buffers in float64, and the weights that they give."""

    def __init__(self, classes: int, momentum: float, n_sigma: float):
        self.momentum, self.n_sigma = momentum, n_sigma
        self.q, self.moments = np.full(classes, 1 / classes), np.array([1 / classes, 1.0])

    def forward(self, q: Any) -> Any:
        """lambda (N,) of the probabilities q (N, C), an array, once these have moved the means."""
        m, (mu, variance) = self.momentum, (self.moments[:1], self.moments[1:])
        self.q[...] = m * self.q + (1 - m) * q.mean(0)
        aligned = q / np.maximum(self.q, 1e-12)
        top = (aligned / aligned.sum(1, keepdims=True)).max(1)
        mu[...] = m * mu + (1 - m) * top.mean()
        variance[...] = m * variance + (1 - m) * (top.var(ddof=1) if len(top) > 1 else 0.0)
        return np.exp(-np.minimum(top - mu, 0) ** 2 / np.maximum(2 * variance / self.n_sigma ** 2, 1e-12))


def weighted(z_weak: Tensor, z_strong: Tensor, weights: Any) -> Tensor:
    """The second sum over mu B for the weights (mu B,), an array. Logits (mu B, C)."""
    losses = mg.cross_entropy(z_strong, z_weak.data.argmax(1), reduction="none")
    return (losses * tensor_like(weights, losses)).mean()


class SoftMatch(FixMatch):
    """Trains by L, with the weights of `Weights`."""

    def __init__(self, config: Config, net: nn.Module, task: Task):
        super().__init__(config, net, task)
        self.weights = Weights(task.classes, config.momentum, config.n_sigma).to(net.parameters()[0].device)

    def unsupervised(self, z_weak: Tensor, z_strong: Tensor) -> Loss:
        weights = self.weights(mg.softmax(z_weak.detach(), 1).data)
        return self.config.lambda_u * weighted(z_weak, z_strong, weights), {"weight": weights.mean()}

    def state(self) -> Parts:
        return {**super().state(), "weights": self.weights}


Objective = SoftMatch
