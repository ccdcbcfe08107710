"""What all models have in common: an encoder with a head."""
from ...tensor import Tensor
from ..layers import Identity, Linear
from ..module import Module


class Encoder(Module):
    """A network in two parts: `features` gives a row of numbers for each input, and `head`, the last layer, reads it.

    Attributes:
        width: how many features there are.
        head: a Module from (N, width), which another may replace; `Identity` for none.
    """

    width: int
    head: Module

    def features(self, *inputs, **settings) -> Tensor:
        """The input's features, (N, width)."""
        raise TypeError(f"{type(self).__name__} defines no features()")

    def forward(self, *inputs, **settings) -> Tensor:
        """head(features(...))."""
        return self.head(self.features(*inputs, **settings))

    def _set_head(self, width, num_classes):
        self.width = width
        self.head = Linear(width, num_classes) if num_classes else Identity()
