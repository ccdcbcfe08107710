"""Optimisers change parameters in place by their `.grad`; schedules set an optimiser's learning rate `lr`."""
import math

import numpy as np

from .backend import xp
from .backend.cpu import elementwise as fused
from .tensor import mark_changed


class Optimizer:
    """Common to all: the parameters, their state arrays by name, the number of steps taken."""

    slots = ()  # names of the arrays kept for each parameter

    def __init__(self, params, lr):
        self.params = list(params)
        if not self.params:
            raise ValueError(f"{type(self).__name__}: no parameters to optimise")
        if lr < 0:
            raise ValueError(f"{type(self).__name__}: learning rate {lr} is negative")
        self.lr, self.steps = lr, 0
        self.state = {name: [xp(p._array).zeros_like(p._array) for p in self.params] for name in self.slots}

    def step(self):
        """One update of every parameter that has a gradient."""
        self.steps += 1
        for i, p in enumerate(self.params):
            if p.grad is not None:
                mark_changed(p._array)
                self.update(p._array, p.grad._array, *[self.state[name][i] for name in self.slots])

    def zero_grad(self):
        """Forgets the gradients."""
        for p in self.params:
            p.grad = None

    def state_dict(self):
        """A dict from names to arrays: the number of steps and the state, copied."""
        arrays = {f"{name}.{i}": a.copy() for name, many in self.state.items() for i, a in enumerate(many)}
        return arrays | {"steps": np.array(self.steps), "lr": np.array(self.lr)}

    def load_state_dict(self, state):
        """Puts back what `state_dict` returned. KeyError if it is another optimiser's."""
        for name, many in self.state.items():
            for i, a in enumerate(many):
                a[...] = xp(a).asarray(state[f"{name}.{i}"])
        self.steps, self.lr = int(state["steps"]), float(state["lr"])


class SGD(Optimizer):
    """Stochastic gradient descent: v = momentum v + g, p = p - lr v (Nesterov: p - lr (g + momentum v))."""

    def __init__(self, params, lr, momentum=0.0, weight_decay=0.0, nesterov=False):
        self.slots = ("velocity",) if momentum else ()
        super().__init__(params, lr)
        self.momentum, self.weight_decay, self.nesterov = momentum, weight_decay, nesterov

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


class Adam(Optimizer):
    """Kingma and Ba 2014, arXiv:1412.6980. Weight decay is added to the gradient."""

    slots, decoupled = ("mean", "square"), False

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
        super().__init__(params, lr)
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay

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


def step_decay(base, every, factor=0.5):
    """A schedule, from the step number (0 for the first) to the learning rate: `base`, times `factor` `every` so many."""
    return lambda step: base * factor ** (step // every)


def cosine_decay(base, total, warmup=0, final=0.0):
    """A schedule: linear from 0 over `warmup` steps, then half a cosine from `base` to `final` at step `total`."""
    def rate(step):
        if step < warmup:
            return base * (step + 1) / warmup
        progress = min((step - warmup) / max(total - warmup, 1), 1)
        return final + (base - final) * (1 + math.cos(math.pi * progress)) / 2

    return rate
