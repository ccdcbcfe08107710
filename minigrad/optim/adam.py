"""Adam, AdamW, LAMB, NAdam and RAdam."""
import math
from collections.abc import Iterable

import numpy as np

from ..backend import xp
from ..tensor import Tensor, flag
from .optimizer import move, Optimizer, trust


class Adam(Optimizer):
    """Kingma and Ba 2014, arXiv:1412.6980. Weight decay is added to the gradient.

        m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g^2,  p = p - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

    Args:
        params: parameters, or dicts of parameters and settings of their own, see `Optimizer`.
        lr: the learning rate, not negative.
        betas: b1 and b2, in [0, 1).
        eps: not negative; where it would be 0 in the parameters' dtype, as 1e-8 in float16, it is refused (ValueError).
        weight_decay: g = g + weight_decay p (`AdamW`, `LAMB`: not added to g, but p decays by itself).
        amsgrad: the step is by the largest v so far (Reddi et al. 2018, arXiv:1904.09237); without kernels, so that it cannot be
            captured.
    """

    slots, kernel, counts_steps, decoupled = ("mean", "square"), "adam_step", True, False

    def __init__(self, params: Iterable[Tensor | dict], lr: float = 1e-3,
                 betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0, amsgrad: bool = False):
        if flag(type(self).__name__, "amsgrad", amsgrad):
            self.slots, self.kernel = (*self.slots, "largest"), None
        super().__init__(params, lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def checked(self, settings, params=()):
        betas, eps = settings["betas"], self.eps(settings, params)
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise TypeError(f"{self._owner}: betas must be a pair of numbers, not {betas!r:.60}")
        pair = {f"betas[{i}]": beta for i, beta in enumerate(betas)}
        return super().checked(settings) | {"betas": tuple(self.number(pair, name, below=1) for name in pair), "eps": eps}

    def settings(self, group, lr, t):
        return lr, *group["betas"], group["eps"], group["weight_decay"], self.decoupled, t

    def update(self, p, g, m, v, *largest_and_settings):
        *largest, lr, b1, b2, eps, weight_decay, decoupled, t = largest_and_settings
        g = _decayed(p, g, lr, weight_decay, decoupled)
        move(m, g, b1)
        move(v, g * g, b2)
        for most in largest:
            most[...] = v = xp(p).maximum(most, v)
        p -= lr / (1 - b1**t) * m / (xp(p).sqrt(v) / math.sqrt(1 - b2**t) + eps)


def _decayed(p, g, lr, weight_decay, decoupled):
    """The gradient with the weight decay; decoupled, the gradient as it is, after `p` has decayed by itself."""
    if weight_decay and decoupled:
        p *= 1 - lr * weight_decay
    return g + weight_decay * p if weight_decay and not decoupled else g


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2017, arXiv:1711.05101): p = p - lr weight_decay p. Arguments as
    of `Adam`."""

    decoupled = True

    def __init__(self, params: Iterable[Tensor | dict], lr: float = 1e-3,
                 betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 1e-2, amsgrad: bool = False):
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad)


class LAMB(Adam):
    """Adam whose step for each parameter has the length lr |p| (You et al. 2019, arXiv:1904.00962, algorithm 2).

    Parameters of one axis (biases, scales of normalisation) are neither rescaled nor decayed. Arguments as of `Adam`.
    """

    kernel = None

    def __init__(self, params: Iterable[Tensor | dict], lr: float = 1e-3,
                 betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-6, weight_decay: float = 1e-2):
        super().__init__(params, lr, betas, eps, weight_decay)

    def update(self, p, g, m, v, lr, b1, b2, eps, weight_decay, decoupled, t):
        move(m, g, b1)
        move(v, g * g, b2)
        direction = m / (1 - b1**t) / (xp(p).sqrt(v / (1 - b2**t)) + eps)
        if p.ndim > 1:
            direction += weight_decay * p
            direction *= trust(p, direction)
        p -= lr * direction


class _ChoiceOfDecay(Adam):
    """Adam's relatives whose weight decay may be decoupled."""

    kernel = None

    def checked(self, settings, params=()):
        return super().checked(settings, params) | {"decoupled_weight_decay": self.truth(settings, "decoupled_weight_decay")}

    def settings(self, group, lr, t):
        return lr, *group["betas"], group["eps"], group["weight_decay"], group["decoupled_weight_decay"], t


class NAdam(_ChoiceOfDecay):
    """Adam with Nesterov's momentum (Dozat 2016, "Incorporating Nesterov momentum into Adam").

        mu(t) = b1 (1 - 0.96^(t momentum_decay) / 2),  c = mu(1) ... mu(t),  m and v as of `Adam`,
        p = p - lr ((1 - mu(t)) / (1 - c) g + mu(t + 1) / (1 - c mu(t + 1)) m) / (sqrt(v / (1 - b2^t)) + eps)

    Args:
        momentum_decay: how fast mu rises from b1 / 2 to b1.
        decoupled_weight_decay: p decays by itself, as of `AdamW`.

    The others as of `Adam`.
    """

    slots = "mean", "square", "product"

    def __init__(self, params: Iterable[Tensor | dict], lr: float = 2e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0.0, momentum_decay: float = 4e-3,
                 decoupled_weight_decay: bool = False):
        Optimizer.__init__(self, params, lr, betas=betas, eps=eps, weight_decay=weight_decay, momentum_decay=momentum_decay,
                           decoupled_weight_decay=decoupled_weight_decay)

    def checked(self, settings, params=()):
        return super().checked(settings, params) | {"momentum_decay": self.number(settings, "momentum_decay")}

    def new_state(self, p, group):
        return super().new_state(p, group) | {"product": np.ones(())}

    def settings(self, group, lr, t):
        return *super().settings(group, lr, t), group["momentum_decay"]

    def update(self, p, g, m, v, c, lr, b1, b2, eps, weight_decay, decoupled, t, momentum_decay):
        g = _decayed(p, g, lr, weight_decay, decoupled)
        move(m, g, b1)
        move(v, g * g, b2)
        mu, following = (b1 * (1 - 0.5 * 0.96 ** (k * momentum_decay)) for k in (t, t + 1))
        c *= mu
        before = c.item()
        direction = (1 - mu) / (1 - before) * g + following / (1 - before * following) * m
        p -= lr * direction / (xp(p).sqrt(v) / math.sqrt(1 - b2**t) + eps)


class RAdam(_ChoiceOfDecay):
    """Adam that takes steps of plain momentum until the mean square v is of enough gradients (Liu et al. 2019,
    arXiv:1908.03265).

        r = 2 / (1 - b2) - 1,  n = r - 2 t b2^t / (1 - b2^t),  m and v as of `Adam`,  d = m / (1 - b1^t),
        p = p - lr d                                                                                      while n <= 5, then
        p = p - lr sqrt((n - 4) (n - 2) r / ((r - 4) (r - 2) n)) sqrt(1 - b2^t) d / (sqrt(v) + eps)

    Args:
        decoupled_weight_decay: p decays by itself, as of `AdamW`.

    The others as of `Adam`.
    """

    def __init__(self, params: Iterable[Tensor | dict], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0.0, decoupled_weight_decay: bool = False):
        Optimizer.__init__(self, params, lr, betas=betas, eps=eps, weight_decay=weight_decay,
                           decoupled_weight_decay=decoupled_weight_decay)

    def update(self, p, g, m, v, lr, b1, b2, eps, weight_decay, decoupled, t):
        g = _decayed(p, g, lr, weight_decay, decoupled)
        move(m, g, b1)
        move(v, g * g, b2)
        r = 2 / (1 - b2) - 1
        n = r - 2 * t * b2**t / (1 - b2**t)
        direction = lr / (1 - b1**t) * m
        if n > 5:
            rectified = math.sqrt((n - 4) * (n - 2) * r / ((r - 4) * (r - 2) * n) * (1 - b2**t))
            direction *= rectified / (xp(p).sqrt(v) + eps)
        p -= direction
