"""Several fine-tunings of one base network, one of them in use."""
import os

from minigrad import nn

from .adaptation import Adaptation


class Library:
    """Adaptations of a network by name.

    Args:
        net: the base, which has none.
    """

    def __init__(self, net: nn.Module):
        self.net, self.known = net, {}

    def add(self, name: str, source: Adaptation | str | os.PathLike) -> None:
        """An adaptation of the network that was undone, or the file of one; it is not put in use.

        Raises:
            ValueError: the name is known or no text, or the adaptation is of another network; see also `peft.load`.
        """
        from . import load
        if not isinstance(name, str):
            raise ValueError(f"add: a name is a text, not {name!r}")
        if name in self.known:
            raise ValueError(f"add: there is {name!r} already")
        if not isinstance(source, Adaptation):
            active = self.active
            self.use(None)
            try:
                source = load(self.net, source)
                source.undo()
            finally:
                self.use(active)
        if source.net is not self.net:
            raise ValueError(f"add: {name!r} is of another network")
        self.known[name] = source

    @property
    def active(self) -> str | None:
        """The name of the adaptation in use; None for the base network."""
        there = getattr(self.net, "adaptation", None)
        return next((name for name, adaptation in self.known.items() if adaptation is there), None)

    def use(self, name: str | None) -> None:
        """Puts one in use instead of the present one; None for the base network.

        Raises:
            ValueError: the name is unknown.
        """
        if name is not None and name not in self.known:
            raise ValueError(f"use: no {name!r}; there are: {', '.join(self.known) or 'none'}")
        if name == self.active:
            return
        if self.active is not None:
            self.known[self.active].undo()
        if name is not None:
            self.known[name].attach()
