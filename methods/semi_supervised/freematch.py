"""FreeMatch.

Yidong Wang et al.: "FreeMatch: Self-adaptive Thresholding for Semi-supervised Learning", 2022, arXiv:2205.07246.

FixMatch whose threshold rises with the network's own confidence, and is lower for classes that it predicts less often.

    q_b = softmax f(weak(u_b)), a constant
    tau <- m tau + (1 - m) mean of max q_b;  p~ <- m p~ + (1 - m) mean of q_b;  h~ <- m h~ + (1 - m) share of each argmax q_b
    tau(c) = tau p~(c) / max p~
    L_u = 1/(mu B) sum over b of 1[max q_b >= tau(argmax q_b)] CE(f(strong(u_b)), argmax q_b)
    L_f = sum over c of Normalise(p~ / h~)_c log Normalise(p / h)_c,  p, h of the strongly augmented images behind the mask
    L = 1/B sum over b of CE(f(weak(x_b)), y_b) + lambda_u L_u + lambda_f L_f

L_f, the fairness, is the negative cross-entropy of the two: it keeps the predictions diverse.
"""
from dataclasses import dataclass
from typing import Any

import numpy as np

import minigrad as mg
from methods.training.forward import tensor_like
from methods.training.method import Loss, Parts
from methods.training.settings import setting
from minigrad import Tensor, nn
from minigrad.backend import xp

from .base import Task
from .fixmatch import FixMatch, unsupervised

ROW = "strong", "weak", "hard, own threshold"


@dataclass
class Config:
    """The paper's settings."""

    momentum: float = setting(0.999, least=0, below=1)  # m
    lambda_u: float = setting(1.0, least=0)  # weight of L_u
    lambda_f: float = setting(0.01, least=0)  # weight of L_f; 0: without
    strong: bool = True  # False: the student too sees a weakly augmented image
    learned: bool = False  # CTAugment as the strong augmentation
    apart: bool = False  # weakly augmented images pass first, without a graph: batch normalisation sees them apart
    ema: float = setting(0.999, least=0, below=1)  # decay of the weights' average that is tested


SHORT = dict(momentum=0.99)


def counts(q: Any, mask: Any = True) -> Any:
    """How often each class is the most probable one of an array q (N, C), behind the mask (N,): (C,)."""
    chosen = q.argmax(1)[:, None] == xp(q).arange(q.shape[1])
    return (chosen.T & mask).sum(1)


class Threshold(nn.Module):
    """The running means tau, p~ and h~, buffers in float64, and the thresholds tau(c) that they give."""

    def __init__(self, classes: int, momentum: float):
        self.momentum = momentum
        self.tau, self.p, self.h = np.array(1 / classes), np.full(classes, 1 / classes), np.full(classes, 1 / classes)

    def forward(self, q: Any) -> Any:
        """tau(argmax q) (N,) of the probabilities q (N, C), an array, once these have moved the means."""
        m = self.momentum
        self.tau[...] = m * self.tau + (1 - m) * q.max(1).mean().astype(np.float64)
        self.p[...] = m * self.p + (1 - m) * q.mean(0)
        self.h[...] = m * self.h + (1 - m) * counts(q) / len(q)
        return (self.tau * self.p / self.p.max())[q.argmax(1)]


def _per_share(p, h):
    """Normalise(p / h), 0 for the classes that nobody predicted."""
    inverse = (h > 0) / np.maximum(h, 1e-300)
    if not isinstance(p, Tensor):
        return p * inverse / (p * inverse).sum()
    ratio = p * tensor_like(inverse, p)
    return ratio / mg.maximum(ratio.sum(), 1e-12)  # of none 0


def fairness(z_strong: Tensor, mask: Any, p: Any, h: Any) -> Tensor:
    """L_f for p~ and h~ (C,); 0 where nothing is behind the mask. Logits (mu B, C), mask (mu B,); all but these are arrays."""
    n = np.maximum(mask.sum(), 1)
    now = _per_share(tensor_like(mask / n, z_strong) @ mg.softmax(z_strong, 1), counts(z_strong.data, mask) / n)
    return mg.where(mask.any(), (tensor_like(_per_share(p, h), z_strong) * mg.log(now + 1e-12)).sum(), 0)


class FreeMatch(FixMatch):
    """Trains by L, with the thresholds of a `Threshold`."""

    def __init__(self, config: Config, net: nn.Module, task: Task):
        super().__init__(config, net, task)
        self.threshold = Threshold(task.classes, config.momentum).to(net.parameters()[0].device)

    def unsupervised(self, z_weak: Tensor, z_strong: Tensor) -> Loss:
        c, own = self.config, self.threshold
        u, mask = unsupervised(z_weak, z_strong, own(mg.softmax(z_weak.detach(), 1).data))
        loss = c.lambda_u * u
        if c.lambda_f:
            loss = loss + c.lambda_f * fairness(z_strong, mask, own.p, own.h)
        return loss, {"mask": mask.mean(), "tau": own.tau}

    def state(self) -> Parts:
        return {**super().state(), "threshold": self.threshold}


Objective = FreeMatch
