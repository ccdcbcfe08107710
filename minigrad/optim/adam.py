"""Adam, AdamW and LAMB."""
import math
from collections.abc import Iterable

from ..backend import xp
from ..tensor import Tensor
from .optimizer import Optimizer, trust


class Adam(Optimizer):
    """Kingma and Ba 2014, arXiv:1412.6980. Weight decay is added to the gradient.

        m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g^2,  p = p - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

    Args:
        params: parameters, or dicts of parameters and settings of their own, see `Optimizer`.
        lr: the learning rate, not negative.
        betas: b1 and b2, in [0, 1).
        eps: not negative; where it would be 0 in the parameters' dtype, as 1e-8 in float16, it is refused (ValueError).
        weight_decay: g = g + weight_decay p (`AdamW`, `LAMB`: not added to g, but p decays by itself).
    """

    slots, kernel, counts_steps, decoupled = ("mean", "square"), "adam_step", True, False

    def __init__(self, params: Iterable[Tensor] | Iterable[dict], lr: float = 1e-3,
                 betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0):
        super().__init__(params, lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def checked(self, settings, params=()):
        betas, eps = settings["betas"], self.eps(settings, params)
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise TypeError(f"{self._owner}: betas must be a pair of numbers, not {betas!r:.60}")
        pair = {f"betas[{i}]": beta for i, beta in enumerate(betas)}
        return super().checked(settings) | {"betas": tuple(self.number(pair, name, below=1) for name in pair), "eps": eps}

    def settings(self, group, lr, t):
        return lr, *group["betas"], group["eps"], group["weight_decay"], self.decoupled, t

    def update(self, p, g, m, v, lr, b1, b2, eps, weight_decay, decoupled, t):
        if weight_decay and decoupled:
            p *= 1 - lr * weight_decay
        elif weight_decay:
            g = g + weight_decay * p
        m += (1 - b1) * (g - m)
        v += (1 - b2) * (g * g - v)
        p -= lr / (1 - b1**t) * m / (xp(p).sqrt(v) / math.sqrt(1 - b2**t) + eps)


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2017, arXiv:1711.05101): p = p - lr weight_decay p. Arguments as
    of `Adam`."""

    decoupled = True

    def __init__(self, params: Iterable[Tensor] | Iterable[dict], lr: float = 1e-3,
                 betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 1e-2):
        super().__init__(params, lr, betas, eps, weight_decay)


class LAMB(Adam):
    """Adam whose step for each parameter has the length lr |p| (You et al. 2019, arXiv:1904.00962, algorithm 2).

    Parameters of one axis (biases, scales of normalisation) are neither rescaled nor decayed. Arguments as of `Adam`.
    """

    kernel = None

    def __init__(self, params: Iterable[Tensor] | Iterable[dict], lr: float = 1e-3,
                 betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-6, weight_decay: float = 1e-2):
        super().__init__(params, lr, betas, eps, weight_decay)

    def update(self, p, g, m, v, lr, b1, b2, eps, weight_decay, decoupled, t):
        m += (1 - b1) * (g - m)
        v += (1 - b2) * (g * g - v)
        direction = m / (1 - b1**t) / (xp(p).sqrt(v / (1 - b2**t)) + eps)
        if p.ndim > 1:
            direction += weight_decay * p
            direction *= trust(p, direction)
        p -= lr * direction
