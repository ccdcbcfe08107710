"""(IA)^3: learned scales of keys, values and hidden units.

Haokun Liu, Derek Tam, Mohammed Muqeeth, Jay Mohta, Tenghao Huang, Mohit Bansal, Colin Raffel: "Few-Shot Parameter-Efficient
Fine-Tuning is Better and Cheaper than In-Context Learning", 2022, arXiv:2205.05638.

    attn(Q, l_k K, l_v V),  W_2 (l_ff act(W_1 x + b_1)) + b_2        each number times its scale; l = 1 at first
    merged: l_k and l_v scale rows of weight and bias, l_ff scales columns of W_2
"""
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

import minigrad as mg
from methods.training.settings import setting
from minigrad import Tensor, nn

from .lora import plain
from .places import Place, blocks


@dataclass
class Config:
    """The paper's: lr 3e-3 of Adafactor."""

    lr: float = setting(1e-2, above=0)


class ScaledOut(nn.Linear):
    """l_k and l_v: the last two thirds of a linear layer's outputs scaled by `scale`."""

    def __init__(self, linear: nn.Linear):
        self.weight, self.bias = linear.weight, linear.bias
        self.queries = len(linear.weight) // 3
        self.scale = nn.Parameter(np.ones(2 * self.queries, np.float32))

    def _all(self):
        return mg.pad(self.scale, ((self.queries, 0),), constant_values=1)

    def forward(self, x: Tensor) -> Tensor:
        return mg.linear(x, self.weight, self.bias) * self._all()

    def rows(self, x: Tensor, which: slice) -> Tensor:
        return super().rows(x, which) * self._all()[which]

    def merged(self) -> nn.Linear:
        """A plain linear layer that computes the same."""
        with mg.no_grad():
            scale = self._all()
            bias = None if self.bias is None else nn.Parameter((self.bias * scale).data, requires_grad=False)
            return plain((self.weight * scale[:, None]).data, bias)


class ScaledIn(nn.Linear):
    """l_ff: a linear layer's inputs scaled."""

    def __init__(self, linear: nn.Linear):
        self.weight, self.bias = linear.weight, linear.bias
        self.scale = nn.Parameter(np.ones(linear.weight.shape[1], np.float32))

    def forward(self, x: Tensor) -> Tensor:
        return mg.linear(x * self.scale, self.weight, self.bias)

    def rows(self, x: Tensor, which: slice) -> Tensor:
        return super().rows(x * self.scale, which)

    def merged(self) -> nn.Linear:
        """A plain linear layer that computes the same."""
        with mg.no_grad():
            return plain((self.weight * self.scale).data, self.bias)


def parts(net: nn.Module, config: Config) -> Iterator[Place]:
    """The scaled layers of each block."""
    for block in blocks(net):
        yield Place(vars(block.attn), "qkv", ScaledOut(block.attn.qkv))
        yield Place(vars(block.mlp), "fc2", ScaledIn(block.mlp.fc2))
