"""Adam, AdamW and LAMB."""
import math

import numpy as np

from ..backend import xp
from ..backend.cpu import elementwise as fused
from .optimizer import Optimizer, trust


class Adam(Optimizer):
    """Kingma and Ba 2014, arXiv:1412.6980. Weight decay is added to the gradient."""

    slots, decoupled = ("mean", "square"), False

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
        super().__init__(params, lr)
        too_narrow = [p.dtype for p in self.params if eps and p.dtype.type(eps) == 0]
        if too_narrow:
            raise ValueError(f"{type(self).__name__}: eps {eps} is 0 in {too_narrow[0]}; keep the parameters in float32 "
                             "and convert them for each step, as LossScaler describes")
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay

    def update_all(self, lr, number, ps, gs, ms, vs):
        from ..backend import cuda
        cuda.adam_step(ps, gs, ms, vs, lr, *self.betas, self.eps, self.weight_decay, self.decoupled, number)

    def update(self, p, g, m, v):
        (b1, b2), t = self.betas, self.steps
        if xp(p) is np:
            return fused.adam_step(p, g, m, v, self.lr, b1, b2, self.eps, self.weight_decay, self.decoupled, t)
        if self.weight_decay and self.decoupled:
            p *= 1 - self.lr * self.weight_decay
        elif self.weight_decay:
            g = g + self.weight_decay * p
        m += (1 - b1) * (g - m)
        v += (1 - b2) * (g * g - v)
        p -= self.lr / (1 - b1**t) * m / (xp(p).sqrt(v) / math.sqrt(1 - b2**t) + self.eps)


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2017, arXiv:1711.05101)."""

    decoupled = True

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2):
        super().__init__(params, lr, betas, eps, weight_decay)


class LAMB(Adam):
    """Adam whose step for each parameter has the length lr |p| (You et al. 2019, arXiv:1904.00962, algorithm 2).

    Parameters of one axis (biases, scales of normalisation) are neither rescaled nor decayed.
    """

    update_all = None

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-6, weight_decay=1e-2):
        super().__init__(params, lr, betas, eps, weight_decay)

    def update(self, p, g, m, v):
        (b1, b2), t = self.betas, self.steps
        m += (1 - b1) * (g - m)
        v += (1 - b2) * (g * g - v)
        direction = m / (1 - b1**t) / (xp(p).sqrt(v / (1 - b2**t)) + self.eps)
        if p.ndim > 1:
            direction += self.weight_decay * p
            direction *= trust(p, direction)
        p -= self.lr * direction
