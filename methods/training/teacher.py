"""A teacher whose weights are the moving average of a network's, and ramps of weights over the training."""
import copy
import math
from typing import Any

from minigrad import optim
from minigrad.nn import Module


class Teacher:
    """A copy of the network with the exponential moving average of its weights.

    The running statistics of batch normalisation are averaged like the weights.

    Args:
        decay: of the average; 0 where each update is given one.
        warmup: early averages are short.
    """

    def __init__(self, net: Module, decay: float = 0.0, warmup: bool = True):
        self.net, self.ema = copy.deepcopy(net), optim.EMA(net, decay, warmup)

    def update(self, decay: float | None = None) -> None:
        """To be called after each step of the optimiser. `decay`: another one from now on, up to 1: the average stays."""
        if decay is not None:
            self.ema.decay = decay
        self.ema.update()
        self.ema.copy_to(self.net)

    def state_dict(self) -> dict[str, Any]:
        """The averages, and the number of updates."""
        return self.ema.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what `state_dict` returned."""
        self.ema.load_state_dict(state)
        self.ema.copy_to(self.net)


def cosine_momentum(step: int, steps: int, start: float) -> float:
    """A decay that rises from `start` to 1, where it stays: 1 - (1 - start) (cos(pi k / K) + 1) / 2 (BYOL, DINO)."""
    return 1 - (1 - start) * (math.cos(math.pi * linear_ramp(step, steps)) + 1) / 2


def sigmoid_ramp(step: int, length: float) -> float:
    """exp(-5 (1 - t/T)^2): from 0.0067 at t = 0 to 1 at t = T and after."""
    return math.exp(-5 * (1 - min(max(step / length, 0), 1)) ** 2) if length else 1.0


def linear_ramp(step: int, length: float) -> float:
    """t/T, at most 1."""
    return min(step / length, 1.0) if length else 1.0
