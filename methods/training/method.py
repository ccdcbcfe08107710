"""The frame of every method. The training loop knows nothing else of it."""
from typing import Any

from minigrad import Tensor
from minigrad.nn import Module

Loss = tuple[Tensor, dict[str, Any]]  # 0-d, and numbers to log
Parts = dict[str, Any]  # of a checkpoint, by name (see `checkpoint.save`)


class Method:
    """An objective with its configuration and its network. Subclasses define `loss`.

    Args:
        config: a dataclass with the method's settings.
        net: what is trained.
    """

    def __init__(self, config: Any, net: Module):
        self.config, self.net = config, net

    def loss(self, batch: Any, step: int) -> Loss:
        """The loss of a batch, and a dict of numbers to log. `step` counts from 0."""
        raise TypeError(f"{type(self).__name__} defines no loss()")

    def after_backward(self, step: int) -> None:
        """Called between the backward pass and the optimiser's step."""

    def after_step(self, step: int) -> None:
        """Called after the optimiser's step."""

    def schedule(self, step: int, steps: int) -> float:
        """The factor of the optimisers' learning rates at a step of so many."""
        return 1.0

    def state(self) -> Parts:
        """The parts of a checkpoint."""
        return {"net": self.net}
