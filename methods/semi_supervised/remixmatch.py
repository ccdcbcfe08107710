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

import numpy as np

import minigrad as mg
from methods.training.forward import frozen_statistics, probabilities, tensor
from methods.training.method import Loss, Parts
from methods.training.objectives import consistency, mixup, one_hot, sharpen
from methods.training.settings import setting
from methods.training.teacher import linear_ramp
from minigrad import nn
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


class Alignment:
    """Distribution alignment: p~ is the mean of the last means, and p goes towards p_data by the quotient."""

    def __init__(self, classes: int, length: int = 128):
        self.recent, self.at = np.full((length, classes), 1 / classes, np.float32), 0

    def __call__(self, p: np.ndarray, p_data: np.ndarray) -> np.ndarray:
        """p (N, C) scaled towards p_data; the mean of p, unscaled, is remembered."""
        q = p * (p_data + 1e-6) / (self.recent.mean(0) + 1e-6)
        self.recent[self.at % len(self.recent)] = p.mean(0)
        self.at += 1
        return q / q.sum(1, keepdims=True)

    def state_dict(self) -> dict[str, np.ndarray]:
        """The last means, copied, and how many there were."""
        return {"recent": self.recent.copy(), "at": np.array(self.at)}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Puts back what `state_dict` returned."""
        self.recent[...], self.at = state["recent"], int(state["at"])


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
        self.alignment = Alignment(task.classes)

    def loss(self, batch: Batch, step: int) -> Loss:
        c, n, net = self.config, len(batch.x), self.net
        self.probe(batch)
        weak = self.task.weak(batch.u, self.rng)
        p = probabilities(net, weak)
        q = self.alignment(p, self.task.prior) if c.align else p
        q = sharpen(q, c.temperature)
        views = [self.strong(batch.u) for _ in range(c.views)]
        inputs = np.concatenate([self.strong(batch.x), *views, weak])
        targets = np.concatenate([one_hot(batch.y, self.task.classes), *[q] * (c.views + 1)])
        x, y = mixup(inputs, targets, self.rng, c.alpha)
        z, *zu = interleaved(net, np.split(x, len(x) // n))
        y, w = tensor(net, y), linear_ramp(step, c.ramp * self.task.steps)
        zu = mg.concatenate(zu)
        u = consistency(mg.softmax(zu, 1), y[n:]) if c.squared else mg.cross_entropy(zu, y[n:])
        loss = mg.cross_entropy(z, y[:n]) + w * c.lambda_u * u
        with frozen_statistics(net):
            if c.lambda_1:
                loss = loss + w * c.lambda_1 * mg.cross_entropy(net(tensor(net, views[0])), tensor(net, q))
            if c.lambda_r:
                turned, turns = rotated(views[0], self.rng)
                loss = loss + c.lambda_r * mg.cross_entropy(net.rotation(net.features(tensor(net, turned))), turns)
        return loss, {"weight": w}

    def state(self) -> Parts:
        return {**super().state(), "alignment": self.alignment}


Objective = ReMixMatch
