"""Stochastic gradient descent, and LARS."""
import numpy as np

from ..backend import xp
from ..backend.cpu import elementwise as fused
from .optimizer import Optimizer, trust


class SGD(Optimizer):
    """Stochastic gradient descent: v = momentum v + g, p = p - lr v (Nesterov: p - lr (g + momentum v))."""

    def __init__(self, params, lr, momentum=0.0, weight_decay=0.0, nesterov=False):
        self.slots = ("velocity",) if momentum else ()
        super().__init__(params, lr)
        self.momentum, self.weight_decay, self.nesterov = momentum, weight_decay, nesterov

    def update_all(self, lr, number, ps, gs, vs=()):
        from ..backend import cuda
        cuda.sgd_step(ps, gs, vs, lr, self.momentum, self.weight_decay, self.nesterov)

    def update(self, p, g, v=None):
        if xp(p) is np:
            return fused.sgd_step(p, g, v, self.lr, self.momentum, self.weight_decay, self.nesterov)
        if self.weight_decay:
            g = g + self.weight_decay * p
        if v is not None:
            v *= self.momentum
            v += g
            g = g + self.momentum * v if self.nesterov else v
        p -= self.lr * g


class LARS(SGD):
    """SGD with momentum whose step for each parameter is in proportion to |p| (You et al. 2017, arXiv:1708.03888).

    g = trust |p| / |g + weight_decay p| (g + weight_decay p); parameters of one axis are neither rescaled nor decayed.
    """

    update_all = None

    def __init__(self, params, lr, momentum=0.9, weight_decay=0.0, nesterov=False, trust=1e-3):
        super().__init__(params, lr, momentum, weight_decay, nesterov)
        self.trust = trust

    def update(self, p, g, v=None):
        if p.ndim > 1:
            g = g + self.weight_decay * p
            g *= self.trust * trust(p, g)
        if v is not None:
            v *= self.momentum
            v += g
            g = g + self.momentum * v if self.nesterov else v
        p -= self.lr * g
