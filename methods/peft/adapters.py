"""Adapters: small networks between the layers of a frozen one.

Neil Houlsby, Andrei Giurgiu, Stanislaw Jastrzebski, Bruna Morrone, Quentin de Laroussilhe, Andrea Gesmundo, Mona Attariyan,
Sylvain Gelly: "Parameter-Efficient Transfer Learning for NLP", 2019, arXiv:1902.00751.

Each block's branches end in a bottleneck with a residual connection of its own, which at first changes nothing.

    A(h) = h + W_2 gelu(W_1 h + b_1) + b_2,  W_1 (m x d), W_2 (d x m) and b 0 at first
    x = x + A(attn(x)),  x = x + A'(mlp(x))        before the layer norm, where that follows

The layer norms learn too. W_1 begins as in any linear layer. The paper draws both matrices with a standard deviation of 0.01;
then W_1 and W_2 wait for each other, and in short trainings several points are lost.
"""
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import minigrad as mg
from methods.training.settings import setting
from minigrad import Tensor, nn

from .places import Place, blocks, transformers


@dataclass
class Config:
    """The paper's: 8, 64 or 256 numbers in the middle, both places, lr 3e-4."""

    middle: int = setting(64, least=1)  # m
    where: Literal["both", "attention", "mlp"] = "both"  # behind which branches
    norms: bool = True  # the layer norms learn too
    lr: float = setting(3e-3, above=0)


class Adapter(nn.Module):
    """The bottleneck A of `middle` numbers: (..., width) to the same."""

    def __init__(self, width: int, middle: int):
        self.down, self.up = nn.Linear(width, middle), nn.Linear(middle, width)
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.up(mg.gelu(self.down(h)))


def parts(net: nn.Module, config: Config) -> Iterator[Place]:
    """The adapters of all blocks, and copies of the layer norms' numbers."""
    names = {"attention": ["adapter1"], "mlp": ["adapter2"], "both": ["adapter1", "adapter2"]}[config.where]
    for block in blocks(net):
        for name in names:
            yield Place(vars(block), name, Adapter(len(block.attn.proj.weight), config.middle))
    if config.norms:
        norms = {id(m): m for t in transformers(net) for m in t.modules() if isinstance(m, nn.LayerNorm)}
        for norm in norms.values():
            for key in ("weight", "bias"):
                if getattr(norm, key) is not None:
                    yield Place(vars(norm), key, nn.Parameter(getattr(norm, key).data.copy()))
