"""FixMatch.

Kihyuk Sohn et al.: "FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence", 2020, arXiv:2001.07685.

The class that is predicted for a weakly augmented image, if the prediction is confident, is the label of the same image
strongly augmented.

    q_b = softmax f(weak(u_b)), a constant;  q'_b = argmax q_b
    L = 1/B sum over b of CE(f(weak(x_b)), y_b) + lambda_u 1/(mu B) sum over b of 1[max q_b >= tau] CE(f(strong(u_b)), q'_b)
    learning rate: eta cos(7 pi k / (16 K))                                        (`base.learning_rate`)

The mask is the curriculum: at first few predictions pass it. All images pass the network as one batch, or with `apart`,
which saves a quarter of the time, the weakly augmented ones on their own. With a `temperature` q' is q sharpened instead of
the one class; with `learned` the strong augmentation is CTAugment.
"""
from dataclasses import dataclass
from typing import Any

import minigrad as mg
from methods.training.forward import joint_forward, tensor_like
from methods.training.method import Loss
from methods.training.objectives import sharpen
from methods.training.settings import setting
from minigrad import Tensor
from minigrad.data import Batch

from .ctaugment import StronglyAugmented

ROW = "strong", "weak", "hard, confident"


@dataclass
class Config:
    """The paper's settings."""

    tau: float = setting(0.95, least=0, most=1)  # confidence from which a prediction is used; 0: always
    temperature: float = setting(0.0, least=0)  # 0: hard labels
    lambda_u: float = setting(1.0, least=0)  # weight of the second sum
    strong: bool = True  # False: the student too sees a weakly augmented image
    learned: bool = False  # CTAugment as the strong augmentation
    apart: bool = False  # weakly augmented images pass first, without a graph: batch normalisation sees them apart
    ema: float = setting(0.999, least=0, below=1)  # decay of the weights' average that is tested


def unsupervised(z_weak: Tensor, z_strong: Tensor, tau: Any, temperature: float = 0.0) -> tuple[Tensor, Any]:
    """The second sum over mu B, masked examples counted, and the mask (mu B,), an array.

    Args:
        z_weak, z_strong: logits (mu B, C).
        tau: one, or an array (mu B,).
    """
    q = mg.softmax(z_weak.detach(), 1).data
    mask = ~(q.max(1) < tau)  # so that NaN is in it and shows in the loss
    target = tensor_like(sharpen(q, temperature), z_strong) if temperature else q.argmax(1)
    losses = mg.cross_entropy(z_strong, target, reduction="none")
    return mg.where(mask, losses, 0).mean(), mask


class FixMatch(StronglyAugmented):
    """Trains by L. Its relatives define `unsupervised` anew."""

    def arguments(self, batch: Batch, step: int) -> tuple[Tensor, ...]:
        """The labelled images, augmented, the others weakly and strongly, and the labels."""
        weak = self.task.weak
        self.probe(batch)
        x, u_weak, u_strong = weak(batch.x, self.rng), weak(batch.u, self.rng), self.strong(batch.u)
        return self.tensor(x), self.tensor(u_weak), self.tensor(u_strong), self.labels(batch.y)

    def objective(self, x: Tensor, u_weak: Tensor, u_strong: Tensor, y: Tensor) -> Loss:
        """L, and numbers to log."""
        if self.config.apart:
            with mg.no_grad():
                z_weak = self.net(u_weak)
            z, z_strong = joint_forward(self.net, x, u_strong)
        else:
            z, z_weak, z_strong = joint_forward(self.net, x, u_weak, u_strong)
        u, numbers = self.unsupervised(z_weak, z_strong)
        return mg.cross_entropy(z, y) + u, numbers

    def unsupervised(self, z_weak: Tensor, z_strong: Tensor) -> Loss:
        """lambda_u times the second sum over mu B, and numbers to log. Logits (mu B, C)."""
        c = self.config
        u, mask = unsupervised(z_weak, z_strong, c.tau, c.temperature)
        return c.lambda_u * u, {"mask": mask.mean()}


Objective = FixMatch
