"""ReMixMatch.

David Berthelot et al.: "ReMixMatch: Semi-Supervised Learning with Distribution Alignment and Augmentation Anchoring", 2019,
arXiv:1911.09785.

MixMatch with targets whose mean is that of the labels, one weak view as the anchor of K strong ones, and the prediction of
rotations.

    q = Normalise(p(weak(u)) p_data / p~),  p~ the mean of the last 128 batches' predictions;  q = Sharpen(q, T)
    X' from the strongly augmented labelled images, U' from the K strong views, the weak view (all of target q), by mixup
    L = CE(X') + lambda_U CE(U') + lambda_1 CE(q, f(first strong view before mixup)) + lambda_r CE(rotation of that view)

The augmentation learns its strengths: `ctaugment`.
"""
from dataclasses import dataclass
from typing import Any

import numpy as np

import minigrad as mg
from methods.training.forward import frozen_statistics, placed, probabilities, tensor_like
from methods.training.method import Loss, Parts
from methods.training.objectives import consistency, mixup, one_hot, partners, sharpen
from methods.training.settings import setting
from methods.training.teacher import linear_ramp
from minigrad import Tensor, nn
from minigrad.backend import xp
from minigrad.data import Batch

from .base import Task
from .ctaugment import StronglyAugmented
from .mixmatch import interleaved

ROW = "strong", "weak", "aligned, sharpened"


@dataclass
class Config:
    """The paper's settings."""

    views: int = setting(8, least=1)  # K
    temperature: float = setting(0.5, above=0)  # T; 1: targets are not sharpened
    alpha: float = setting(0.75, above=0)  # of mixup
    lambda_u: float = setting(1.5, least=0)  # weight of the guessed labels' loss
    lambda_1: float = setting(0.5, least=0)  # weight of the strong view before mixup; 0: without
    lambda_r: float = setting(0.5, least=0)  # weight of the rotations; 0: without
    ramp: float = setting(0.25, least=0)  # of lambda_u and lambda_1, as a part of the training (paper: 2^20 images)
    align: bool = True  # distribution alignment
    strong: bool = True  # augmentation anchoring; False: weak views only
    learned: bool = True  # CTAugment; False: the same strong augmentation as the other methods
    squared: bool = False  # MixMatch's squared error for U' instead of cross-entropy
    ema: float = setting(0.999, least=0, below=1)  # decay of the weights' average that is tested


SHORT = dict(views=2, ramp=1.0)


class Alignment(nn.Module):
    """Distribution alignment: p~ is the mean of the last means, buffers, and p goes towards p_data by the quotient."""

    def __init__(self, classes: int, length: int = 128):
        self.recent, self.at = np.full((length, classes), 1 / classes, np.float32), np.array(0)

    def forward(self, p: Any, p_data: Any) -> Any:
        """p (N, C), an array, scaled towards p_data; the mean of p, unscaled, is remembered."""
        q = p * (p_data + 1e-6) / (self.recent.mean(0) + 1e-6)
        oldest = xp(p).arange(len(self.recent)) == self.at % len(self.recent)
        self.recent[...] = np.where(oldest[:, None], p.mean(0), self.recent)
        self.at[...] = self.at + 1
        return q / q.sum(1, keepdims=True)


def divergence(p: Any, q: Any) -> Any:
    """KL(p || q) = sum over classes of p log(p / q), of arrays (C,)."""
    return (p * np.log(np.maximum(p, 1e-12) / np.maximum(q, 1e-12))).sum()


def rotated(images: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Each image of (N, C, H, W) turned by 0 to 3 right angles, and how many."""
    turns = rng.integers(0, 4, len(images))
    return np.stack([np.rot90(x, k, (1, 2)) for x, k in zip(images, turns)]), turns


class ReMixMatch(StronglyAugmented):
    """Trains by L; the network gets a second head, `rotation`."""

    def __init__(self, config: Config, net: nn.Module, task: Task):
        if config.lambda_r:
            net.rotation = nn.Linear(net.width, 4).to(net.head.weight.device)
        super().__init__(config, net, task)
        self.alignment = Alignment(task.classes).to(net.head.weight.device)

    def arguments(self, batch: Batch, step: int) -> tuple[Any, ...]:
        """The weak view and p_data; X' and U', how their targets will be mixed, and those of X; the ramp, with lambda_U and
        lambda_1; the first strong view; this one turned, and how.
        """
        c, w = self.config, linear_ramp(step, self.config.ramp * self.task.steps)
        self.probe(batch)
        weak = self.task.weak(batch.u, self.rng)
        views = [self.strong(batch.u) for _ in range(c.views)]
        inputs = np.concatenate([self.strong(batch.x), *views, weak])
        mix = partners(len(inputs), self.rng, c.alpha)
        rotation = placed(self.net, *rotated(views[0], self.rng)) if c.lambda_r else ()
        return (self.tensor(weak), *placed(self.net, self.task.prior), self.tensor(mixup(inputs, *mix)), placed(self.net, *mix),
                self.tensor(one_hot(batch.y, self.task.classes)), [self.tensor(w * each) for each in (1, c.lambda_u, c.lambda_1)],
                self.tensor(views[0]), rotation)

    def objective(self, weak: Tensor, p_data: Tensor, x: Tensor, mix: tuple[Tensor, ...], y: Tensor, weights: list[Tensor],
                  first: Tensor, rotation: tuple[Tensor, ...]) -> Loss:
        """L, and how far p~ is from p_data."""
        c, n, net, (w, w_u, w_1) = self.config, len(y), self.net, weights
        p = probabilities(net, weak).data
        aligned = self.alignment(p, p_data.data)
        q = sharpen(aligned if c.align else p, c.temperature)
        targets = mixup(mg.concatenate([y, *[q] * (c.views + 1)]).data, *(m.data for m in mix))
        z, *zu = interleaved(net, mg.split(x, len(x) // n))
        y, zu = tensor_like(targets, z), mg.concatenate(zu)
        u = consistency(mg.softmax(zu, 1), y[n:]) if c.squared else mg.cross_entropy(zu, y[n:])
        loss = mg.cross_entropy(z, y[:n]) + w_u * u
        with frozen_statistics(net):
            if c.lambda_1:
                loss = loss + w_1 * mg.cross_entropy(net(first), tensor_like(q, z))
            if c.lambda_r:
                turned, turns = rotation
                loss = loss + c.lambda_r * mg.cross_entropy(net.rotation(net.features(turned)), turns)
        return loss, {"weight": w, "divergence": divergence(p_data.data, self.alignment.recent.mean(0))}

    def state(self) -> Parts:
        return {**super().state(), "alignment": self.alignment}


Objective = ReMixMatch
