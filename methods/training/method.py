"""The frame of every method. The training loop knows nothing else of it."""
from collections.abc import Collection
from typing import Any

from minigrad import Tensor
from minigrad.nn import Module

Loss = tuple[Tensor, dict[str, Any]]  # 0-d, and numbers to log
Parts = dict[str, Any]  # of a checkpoint, by name (see `checkpoint.save`)


class Method:
    """An objective with its configuration and its network. Subclasses define `loss`, or `arguments` and `objective`.

    With the latter a step on a GPU, from `objective` to the optimisers, is captured into one launch. What may then stand in
    `objective` and `after_backward` is said at `minigrad.capture`.

    Args:
        config: a dataclass with the method's settings.
        net: what is trained.
    """

    steady: Collection[str] = ()  # names of the optimisers whose learning rates stay, whatever the schedule

    def __init__(self, config: Any, net: Module):
        self.config, self.net = config, net

    def loss(self, batch: Any, step: int) -> Loss:
        """The loss of a batch, and a dict of numbers to log. `step` counts from 0."""
        return self.objective(*self.arguments(batch, step))

    def arguments(self, batch: Any, step: int) -> tuple[Any, ...]:
        """What the host makes of a batch, a tuple: trees of Tensors and arrays on the network's device, and of what all batches
        share, as numbers. What depends on the step, such as a weight that rises, is an array (), too.

        Batches of other shapes or numbers that come again are captured anew, up to `loop.GRAPHS` times.
        """
        raise TypeError(f"{type(self).__name__} defines neither loss() nor arguments()")

    def objective(self, *arguments: Any) -> Loss:
        """The loss, and a dict of numbers to log: Tensors or arrays, as nothing is read on the host."""
        raise TypeError(f"{type(self).__name__} defines no objective()")

    def after_backward(self, step: int | None) -> None:
        """Called between the backward pass and the optimiser's step. With no `loss`, `step` is None."""

    def after_step(self, step: int) -> None:
        """Called after the optimiser's step."""

    def schedule(self, step: int, steps: int) -> float:
        """The factor of the optimisers' learning rates at a step of so many."""
        return 1.0

    def state(self) -> Parts:
        """The parts of a checkpoint."""
        return {"net": self.net}
