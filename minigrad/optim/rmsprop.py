"""RMSprop."""
from collections.abc import Iterable

from ..backend import xp
from ..tensor import Tensor
from .optimizer import move, Optimizer


class RMSprop(Optimizer):
    """The gradient in units of its recent size (Tieleman and Hinton 2012, Neural networks for machine learning, lecture 6.5).

        s = alpha s + (1 - alpha) g^2,  v = momentum v + g / (sqrt(s) + eps),  p = p - lr v

    Args:
        params: parameters, or dicts of parameters and settings of their own, see `Optimizer`.
        lr: the learning rate, not negative.
        alpha: how much of the mean square s stays, in [0, 1).
        eps: not negative; where it would be 0 in the parameters' dtype, as 1e-8 in float16, it is refused (ValueError).
        weight_decay: g = g + weight_decay p.
        momentum: how much of the velocity v stays.
    """

    slots = "square", "velocity"

    def __init__(self, params: Iterable[Tensor | dict], lr: float = 1e-2, alpha: float = 0.99, eps: float = 1e-8,
                 weight_decay: float = 0.0, momentum: float = 0.0):
        super().__init__(params, lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum)

    def checked(self, settings, params=()):
        return super().checked(settings) | {"alpha": self.number(settings, "alpha", below=1), "eps": self.eps(settings, params),
                                            "momentum": self.number(settings, "momentum")}

    def settings(self, group, lr, t):
        return lr, group["alpha"], group["eps"], group["weight_decay"], group["momentum"]

    def update(self, p, g, s, v, lr, alpha, eps, weight_decay, momentum):
        if weight_decay:
            g = g + weight_decay * p
        move(s, g * g, alpha)
        v *= momentum
        v += g / (xp(p).sqrt(s) + eps)
        p -= lr * v
