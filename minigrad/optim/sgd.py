"""Stochastic gradient descent, and LARS."""
from collections.abc import Iterable

from ..tensor import Tensor
from .optimizer import Optimizer, trust


class SGD(Optimizer):
    """Stochastic gradient descent: v = momentum v + g, p = p - lr v (Nesterov: p - lr (g + momentum v)).

    Args:
        params: parameters, or dicts of parameters and settings of their own, see `Optimizer`.
        lr: the learning rate, not negative.
        momentum: how much of the velocity v stays; 0 for none, and then no v is kept.
        weight_decay: g = g + weight_decay p.
        nesterov: look ahead along the velocity; needs momentum.
    """

    slots, kernel = ("velocity",), "sgd_step"

    def __init__(self, params: Iterable[Tensor | dict], lr: float, momentum: float = 0.0, weight_decay: float = 0.0,
                 nesterov: bool = False):
        super().__init__(params, lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)

    def checked(self, settings, params=()):
        momentum, nesterov = self.number(settings, "momentum"), self.truth(settings, "nesterov")
        if nesterov and not momentum:
            raise ValueError(f"{self._owner}: nesterov needs a momentum above 0")
        return super().checked(settings) | {"momentum": momentum, "nesterov": nesterov}

    def new_state(self, p, group):
        return super().new_state(p, group) if group["momentum"] else {"velocity": None}

    def _step(self, group, members, t):
        self._begin(group, members)
        super()._step(group, members, t)

    def _begin(self, group, members):
        """Makes the velocities that are not there yet, as the group was given its momentum later."""
        for _, p, state in members if group["momentum"] else ():
            if state["velocity"] is None:
                state.update(self.new_state(p._array, group))

    def _named_state(self):
        unused = set()
        for group, members in zip(self.param_groups, self._members):
            self._begin(group, members)
            unused |= {f"velocity.{i}" for i, _, _ in members if not group["momentum"]}
        return {name: array for name, array in super()._named_state().items() if name not in unused}

    def settings(self, group, lr, t):
        return lr, group["momentum"], group["weight_decay"], group["nesterov"]

    def update(self, p, g, v, lr, momentum, weight_decay, nesterov):
        if weight_decay:
            g = g + weight_decay * p
        p -= lr * _accumulated(v, g, momentum, nesterov)


class LARS(SGD):
    """SGD with momentum whose step for each parameter is in proportion to |p| (You et al. 2017, arXiv:1708.03888).

        v = momentum v + lr trust |p| / |g + weight_decay p| (g + weight_decay p),   p = p - v

    The velocity keeps each step's own learning rate, unlike that of `SGD`. What has the length 0 is not rescaled; parameters of
    one axis are neither rescaled nor decayed. Arguments as of `SGD`.
    """

    kernel = None

    def __init__(self, params: Iterable[Tensor | dict], lr: float, momentum: float = 0.9, weight_decay: float = 0.0,
                 nesterov: bool = False, trust: float = 1e-3):
        Optimizer.__init__(self, params, lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov, trust=trust)

    def checked(self, settings, params=()):
        return super().checked(settings) | {"trust": self.number(settings, "trust")}

    def settings(self, group, lr, t):
        return *super().settings(group, lr, t), group["trust"]

    def update(self, p, g, v, lr, momentum, weight_decay, nesterov, coefficient):
        if p.ndim > 1:
            g = g + weight_decay * p
            g *= trust(p, g, coefficient)
        p -= _accumulated(v, lr * g, momentum, nesterov)


def _accumulated(v, g, momentum, nesterov):
    """The direction of the step, after the velocity `v`, where there is one, has taken up `g`."""
    if v is None:
        return g
    v *= momentum
    v += g
    return g + momentum * v if nesterov else v
