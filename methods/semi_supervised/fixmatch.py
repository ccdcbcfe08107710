"""FixMatch.

Kihyuk Sohn et al.: "FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence", 2020, arXiv:2001.07685.

The class that is predicted for a weakly augmented image, if the prediction is confident, is the label of the same image
strongly augmented.

    q_b = softmax f(weak(u_b)), a constant;  q'_b = argmax q_b
    L = 1/B sum over b of CE(f(weak(x_b)), y_b)  +  lambda_u 1/(mu B) sum over b of 1[max q_b >= tau] CE(f(strong(u_b)), q'_b)
    learning rate: eta cos(7 pi k / (16 K))

The mask is the curriculum: at first few predictions pass it. All images pass the network as one batch.
"""
import math
from dataclasses import dataclass

import minigrad as mg

from .common import Method, together


@dataclass
class Config:
    tau: float = 0.95  # confidence from which a prediction is used
    lambda_u: float = 1.0
    strong: bool = True  # False: the student too sees a weakly augmented image
    ema: float = 0.999  # decay of the weights' average that is tested


def learning_rate(k, total, eta):
    """Ends at 0.195 eta, not at 0."""
    return eta * math.cos(7 * math.pi * k / (16 * total))


def unsupervised(z_weak, z_strong, tau):
    """The second sum over mu B, and the mask (mu B,)."""
    q = mg.softmax(z_weak.detach(), 1).numpy()
    mask = q.max(1) >= tau
    losses = mg.cross_entropy(z_strong, q.argmax(1), reduction="none")
    return mg.where(mask, losses, 0).mean(), mask


class FixMatch(Method):
    def loss(self, batch, t):
        weak, strong = self.task.weak, self.task.strong if self.config.strong else self.task.weak
        z, z_weak, z_strong = together(self.net, weak(batch.x, self.rng), weak(batch.u, self.rng), strong(batch.u, self.rng))
        u, mask = unsupervised(z_weak, z_strong, self.config.tau)
        return mg.cross_entropy(z, batch.y) + self.config.lambda_u * u, {"mask": mask.mean()}


Objective = FixMatch
