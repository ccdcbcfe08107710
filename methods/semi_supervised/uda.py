"""Unsupervised data augmentation.

Qizhe Xie, Zihang Dai, Eduard Hovy, Minh-Thang Luong, Quoc V. Le: "Unsupervised Data Augmentation for Consistency Training",
2019, arXiv:1904.12848.

Consistency between an image and its strongly augmented self; the target is sharpened, and only used where confident.
Labelled examples that are already predicted well are left out, or the few would be learned by heart (training signal
annealing).

    J = CE over {(x, y): p(y|x) <= eta_t} + lambda mean of 1[max p(u) > beta] KL(softmax(f(u) / tau) || p(strong(u)))
    eta_t = 1/K + a_t (1 - 1/K),  a_t = 1 - e^(-5 s) (log), s (linear) or e^(5 (s - 1)) (exp),  s = t/T

The left side of KL is a constant; the mask looks at the unsharpened probabilities.
"""
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

import minigrad as mg
from methods.training.forward import joint_forward, tensor_like
from methods.training.method import Loss
from methods.training.settings import setting
from minigrad import Tensor
from minigrad.data import Batch

from .base import SemiSupervisedMethod

ROW = "strong", "weak", "sharpened, confident"


@dataclass
class Config:
    """The paper's settings."""

    temperature: float = setting(0.4, above=0)  # tau; 1: the target is not sharpened
    beta: float = setting(0.8, least=0, most=1)  # confidence from which a target is used; 0: always
    lambda_u: float = setting(1.0, least=0)  # lambda
    annealing: Literal["no", "log", "linear", "exp"] = "exp"  # exp suits few labels
    strong: bool = True  # False: the student sees a weakly augmented image
    ema: float = setting(0.9999, least=0, below=1)  # decay of the weights' average that is tested


SHORT = dict(annealing="no")


def threshold(s: float, classes: int, annealing: str) -> float:
    """eta_t, s the part of the training that is done."""
    a = {"no": 1.0, "log": 1 - math.exp(-5 * s), "linear": s, "exp": math.exp(5 * (s - 1))}[annealing]
    return 1 / classes + a * (1 - 1 / classes)


def annealed(z: Tensor, y: Any, eta: Any) -> Tensor:
    """Cross-entropy of the examples whose right class has at most probability eta, their mean (0 if there is none)."""
    losses = mg.cross_entropy(z, y, reduction="none")
    used = ~(np.exp(-losses.data) > eta)  # so that NaN is among them and shows in the loss
    return mg.where(used, losses, 0).sum() / tensor_like(np.maximum(used.sum(), 1), losses)


def unsupervised(z: Tensor, z_strong: Tensor, temperature: float, beta: float) -> tuple[Tensor, Any]:
    """The consistency over all examples, and the mask, an array."""
    z = z.detach()
    mask = ~(mg.softmax(z, 1).data.max(1) <= beta)
    return mg.where(mask, mg.kl_divergence(z / temperature, z_strong, reduction="none"), 0).mean(), mask


class UDA(SemiSupervisedMethod):
    """Trains by J."""

    def arguments(self, batch: Batch, step: int) -> tuple[Tensor, ...]:
        """The labelled images, augmented, the others weakly and strongly, the labels and eta_t."""
        weak, strong = self.task.weak, self.task.strong if self.config.strong else self.task.weak
        images = weak(batch.x, self.rng), weak(batch.u, self.rng), strong(batch.u, self.rng)
        eta = threshold(step / self.task.steps, self.task.classes, self.config.annealing)
        return *map(self.tensor, images), self.labels(batch.y), self.tensor(eta)

    def objective(self, x: Tensor, u_weak: Tensor, u_strong: Tensor, y: Tensor, eta: Tensor) -> Loss:
        """J, and the share of the targets that are used."""
        c, (z, zu, z_strong) = self.config, joint_forward(self.net, x, u_weak, u_strong)
        u, mask = unsupervised(zu, z_strong, c.temperature, c.beta)
        return annealed(z, y, eta.data) + c.lambda_u * u, {"mask": mask.mean(), "eta": eta}


Objective = UDA
