"""BitFit: the biases learn.

Elad Ben Zaken, Shauli Ravfogel, Yoav Goldberg: "BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based Masked
Language-models", 2021, arXiv:2106.10199.

    h = W x + b,  LN(x) = g x^ + b:  b of all layers and norms learn, W and g do not
"""
from collections.abc import Iterator
from dataclasses import dataclass

from methods.training.settings import setting
from minigrad import nn

from .places import Place, copied, parameters


@dataclass
class Config:
    """The authors' script for BERT: lr 1e-3."""

    lr: float = setting(2e-3, above=0)


def parts(net: nn.Module, config: Config) -> Iterator[Place]:
    """A copy of each bias outside the head, one for all places of it.

    Raises:
        ValueError: there is none.
    """
    found = [place for place in parameters(net) if str(place[1]).startswith("bias")]  # recurrent layers': bias_ih_l0, ...
    if not found:
        raise ValueError(f"{type(net).__name__} has no biases to train")
    return copied(found)
