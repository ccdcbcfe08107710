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

import numpy as np

import minigrad as mg
from methods.training.forward import tensor_like
from methods.training.method import Loss, Parts
from methods.training.settings import setting
from minigrad import Tensor, nn

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


class Threshold:
    """The running means tau, p~ and h~, and the thresholds tau(c) that they give."""

    def __init__(self, classes: int, momentum: float):
        self.momentum = momentum
        self.tau, self.p, self.h = 1 / classes, np.full(classes, 1 / classes), np.full(classes, 1 / classes)

    def __call__(self, q: np.ndarray) -> np.ndarray:
        """tau(argmax q) (N,) of the probabilities q (N, C), once these have moved the means."""
        m, top = self.momentum, q.argmax(1)
        self.tau = m * self.tau + (1 - m) * float(q.max(1).mean())
        self.p = m * self.p + (1 - m) * q.mean(0)
        self.h = m * self.h + (1 - m) * np.bincount(top, minlength=len(self.h)) / len(q)
        return (self.tau * self.p / self.p.max())[top]

    def state_dict(self) -> dict[str, np.ndarray]:
        """The running means."""
        return {"tau": np.array(self.tau), "p": self.p.copy(), "h": self.h.copy()}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Puts back what `state_dict` returned."""
        self.tau, self.p, self.h = float(state["tau"]), np.array(state["p"]), np.array(state["h"])


def _per_share(p, h):
    """Normalise(p / h), 0 for the classes that nobody predicted."""
    inverse = np.divide(1, h, out=np.zeros(len(h)), where=h > 0)
    ratio = p * (tensor_like(inverse, p) if isinstance(p, Tensor) else inverse)
    return ratio / ratio.sum()


def fairness(z_strong: Tensor, mask: np.ndarray, p: np.ndarray, h: np.ndarray) -> Tensor | float:
    """L_f for p~ and h~ (C,); 0 where nothing is behind the mask. Logits (mu B, C), mask (mu B,)."""
    if not mask.any():
        return 0.0
    behind = tensor_like(mask / mask.sum(), z_strong)
    shares = np.bincount(z_strong.numpy().argmax(1)[mask], minlength=len(h)) / mask.sum()
    now = _per_share(behind @ mg.softmax(z_strong, 1), shares)
    return (tensor_like(_per_share(p, h), z_strong) * mg.log(now + 1e-12)).sum()


class FreeMatch(FixMatch):
    """Trains by L, with the thresholds of a `Threshold`."""

    def __init__(self, config: Config, net: nn.Module, task: Task):
        super().__init__(config, net, task)
        self.threshold = Threshold(task.classes, config.momentum)

    def unsupervised(self, z_weak: Tensor, z_strong: Tensor) -> Loss:
        c, own = self.config, self.threshold
        u, mask = unsupervised(z_weak, z_strong, own(mg.softmax(z_weak.detach(), 1).numpy()))
        loss = c.lambda_u * u
        if c.lambda_f:
            loss = loss + c.lambda_f * fairness(z_strong, mask, own.p, own.h)
        return loss, {"mask": mask.mean(), "tau": own.tau}

    def state(self) -> Parts:
        return {**super().state(), "threshold": self.threshold}


Objective = FreeMatch
