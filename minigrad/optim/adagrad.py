"""Adagrad and Adadelta."""
from collections.abc import Iterable

from ..backend import xp
from ..tensor import Tensor
from .optimizer import move, Optimizer


class Adagrad(Optimizer):
    """The gradient in units of the root of all its squares so far (Duchi, Hazan and Singer 2011, JMLR 12).

        s = s + g^2,  p = p - lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps)

    Args:
        params: parameters, or dicts of parameters and settings of their own, see `Optimizer`.
        lr: the learning rate, not negative.
        lr_decay: how fast the learning rate falls with the number t of the step.
        weight_decay: g = g + weight_decay p.
        initial_accumulator_value: what s begins with.
        eps: not negative; where it would be 0 in the parameters' dtype, as 1e-10 in float16, it is refused (ValueError).
    """

    slots, counts_steps = ("sum",), True

    def __init__(self, params: Iterable[Tensor | dict], lr: float = 1e-2, lr_decay: float = 0.0,
                 weight_decay: float = 0.0, initial_accumulator_value: float = 0.0, eps: float = 1e-10):
        super().__init__(params, lr, lr_decay=lr_decay, weight_decay=weight_decay,
                         initial_accumulator_value=initial_accumulator_value, eps=eps)

    def checked(self, settings, params=()):
        own = {name: self.number(settings, name) for name in ("lr_decay", "initial_accumulator_value")}
        return super().checked(settings) | own | {"eps": self.eps(settings, params)}

    def new_state(self, p, group):
        return {"sum": xp(p).full_like(p, group["initial_accumulator_value"])}

    def settings(self, group, lr, t):
        return lr / (1 + (t - 1) * group["lr_decay"]), group["eps"], group["weight_decay"]

    def update(self, p, g, s, lr, eps, weight_decay):
        if weight_decay:
            g = g + weight_decay * p
        s += g * g
        p -= lr * g / (xp(p).sqrt(s) + eps)


class Adadelta(Optimizer):
    """Steps in units of the steps before, without a learning rate to choose (Zeiler 2012, arXiv:1212.5701).

        s = rho s + (1 - rho) g^2,  d = sqrt(u + eps) / sqrt(s + eps) g,  u = rho u + (1 - rho) d^2,  p = p - lr d

    Args:
        params: parameters, or dicts of parameters and settings of their own, see `Optimizer`.
        lr: a factor, not negative.
        rho: how much of the mean squares s and u stays, in [0, 1).
        eps: not negative; where it would be 0 in the parameters' dtype, it is refused (ValueError). At 0 nothing moves.
        weight_decay: g = g + weight_decay p.
    """

    slots = "square", "change"

    def __init__(self, params: Iterable[Tensor | dict], lr: float = 1.0, rho: float = 0.9, eps: float = 1e-6,
                 weight_decay: float = 0.0):
        super().__init__(params, lr, rho=rho, eps=eps, weight_decay=weight_decay)

    def checked(self, settings, params=()):
        return super().checked(settings) | {"rho": self.number(settings, "rho", below=1), "eps": self.eps(settings, params)}

    def settings(self, group, lr, t):
        return lr, group["rho"], group["eps"], group["weight_decay"]

    def update(self, p, g, s, u, lr, rho, eps, weight_decay):
        if weight_decay:
            g = g + weight_decay * p
        move(s, g * g, rho)
        d = xp(p).sqrt(u + eps) / xp(p).sqrt(s + eps) * g
        move(u, d * d, rho)
        p -= lr * d
