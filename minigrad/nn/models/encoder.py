"""What all models have in common: an encoder with a head."""
import inspect

from ...tensor import Tensor
from ..layers import Identity, Linear, sizes
from ..module import Module, holds_parts


class Encoder(Module):
    """A network in two parts: `features` gives a row of numbers for each input, and `head`, the last layer, reads it.

    Attributes:
        arguments: what it was made with, by name, but for Modules and Parameters: they would be here a second time.
        width: how many features there are.
        head: a Module from (N, width), which another may replace; `Identity` for none.
    """

    def __new__(cls, *args, **settings):
        self = super().__new__(cls)
        _, *given = inspect.signature(cls.__init__).bind_partial(self, *args).arguments.items()  # the first is this object
        self.arguments = {name: value for name, value in (settings | dict(given)).items() if not holds_parts(value)}
        return self

    def __init__(self, width: int, num_classes: int | None, bias: bool = True):
        """To be called where the head is the next part in order: a linear layer, or none with `num_classes` 0 or None."""
        if num_classes is not None:
            sizes(self, num_classes=num_classes)
        self.width = width
        self.head: Module = Linear(width, num_classes, bias) if num_classes else Identity()

    def features(self, *inputs, **settings) -> Tensor:
        """The input's features, (N, width)."""
        raise TypeError(f"{type(self).__name__} defines no features()")

    def forward(self, *inputs, **settings) -> Tensor:
        """head(features(...))."""
        return self.head(self.features(*inputs, **settings))
