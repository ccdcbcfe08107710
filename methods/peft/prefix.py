"""Prefix tuning: learned keys and values in every layer.

Xiang Lisa Li, Percy Liang: "Prefix-Tuning: Optimizing Continuous Prompts for Generation", 2021, arXiv:2101.00190.

In each layer l all tokens see P more keys and values, which nothing else depends on.

    attn(Q, [P_K^l; K], [P_V^l; V]),  P^l = W_2^l tanh(W_1 E + b_1) + b_2^l        E (P x d), of all layers the same, as W_1
    after training: P^l alone is kept, P x 2 d numbers a layer

The tokens keep their positions, the prefix is always attended and never asks.
"""
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

import minigrad as mg
from methods.training.settings import setting
from minigrad import Tensor, nn

from .places import Place, transformers


@dataclass
class Config:
    """The paper's: 5 to 200 keys and values, an MLP of 512 or 800, lr 5e-5 (GPT-2)."""

    length: int = setting(10, least=1)  # P
    hidden: int = setting(512, least=0)  # of the MLP; 0: P^l learn themselves
    lr: float = setting(2e-3, above=0)


class Prefix(nn.Module):
    """P^l: keys and values, each (heads, P, d / heads)."""

    def __init__(self, keys: np.ndarray, values: np.ndarray):
        self.keys, self.values = nn.Parameter(keys), nn.Parameter(values)

    def forward(self) -> tuple[Tensor, Tensor]:
        return self.keys, self.values


class Shared(nn.Module):
    """The part of the MLP that all layers share, tanh(W_1 E + b_1): (P, hidden)."""

    def __init__(self, length: int, width: int, hidden: int):
        self.e = nn.init.normal_(nn.Parameter(np.empty((length, width), np.float32)))
        self.fc1 = nn.Linear(width, hidden)

    def forward(self) -> Tensor:
        return mg.tanh(self.fc1(self.e))


class FromMlp(nn.Module):
    """P^l from the MLP, as `Prefix` has them."""

    def __init__(self, shared: Shared, heads: int):
        length, width = shared.e.shape
        self.shared, self.heads, self.fc2 = shared, heads, nn.Linear(len(shared.fc1.weight), 2 * width)

    def forward(self) -> tuple[Tensor, Tensor]:
        p = self.fc2(self.shared())  # (P, 2 d)
        p = p.reshape(len(p), 2, self.heads, -1).transpose(1, 2, 0, 3)
        return p[0], p[1]

    def finished(self) -> Prefix:
        """The same without the MLP."""
        with mg.no_grad():
            return Prefix(*(p.data.copy() for p in self()))


def parts(net: nn.Module, config: Config) -> Iterator[Place]:
    """The prefix of each block."""
    for transformer in transformers(net):
        width = len(transformer.blocks[0].attn.proj.weight)
        shared = Shared(config.length, width, config.hidden) if config.hidden else None
        for block in transformer.blocks:
            heads = block.attn.num_heads
            if shared:
                new = FromMlp(shared, heads)
            else:
                start = mg.random.generator().normal(0, 0.5, (2, heads, config.length, width // heads))
                new = Prefix(*start.astype(np.float32))
            yield Place(vars(block.attn), "prefix", new)
