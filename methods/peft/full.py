"""Full fine-tuning, for comparison: all weights learn (as copies, so that it can be undone)."""
from collections.abc import Iterator
from dataclasses import dataclass

from methods.training.settings import setting
from minigrad import nn

from .places import Place, copied, parameters


@dataclass
class Config:
    """BERT's: lr 2e-5 to 5e-5."""

    lr: float = setting(1e-4, above=0)


def parts(net: nn.Module, config: Config) -> Iterator[Place]:
    """A copy of each Parameter outside the head, one for all places of it."""
    return copied(parameters(net))
