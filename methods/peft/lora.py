"""LoRA: low-rank updates of weight matrices.

Edward Hu, Yelong Shen, Phillip Wallis, Zeyuan Allen-Zhu, Yuanzhi Li, Shean Wang, Lu Wang, Weizhu Chen: "LoRA: Low-Rank
Adaptation of Large Language Models", 2021, arXiv:2106.09685.

A weight W_0 (d x k) stays as it is; beside it learns a product of two thin matrices, which is added to it after training.

    h = W_0 x + s B A x,  A (r x k) at random, B (d x r) 0 at first,  s = alpha / r
    merged: h = (W_0 + s B A) x

rsLoRA (Kalajdzievski 2023, arXiv:2312.03732): s = alpha / sqrt(r).
DoRA (Liu et al. 2024, arXiv:2402.09353): length and direction of each output's weights learn apart,

    h = m (W_0 x + s B A x) / |W_0 + s B A|,  |.| of each row, as a constant; m = |W_0| at first; of a row of zeros m / |.| is 1

Of the layer that makes queries, keys and values at once, each third that is named (attn.q, attn.k, attn.v) has an A and a B of
its own; attn.qkv is all three with one A and one B.
"""
import functools
import operator
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

import minigrad as mg
from methods.training.settings import setting
from minigrad import Tensor, nn

from .places import Place, matching


@dataclass
class Config:
    """The authors' script (RoBERTa-base, SST-2): rank 8, alpha 16, of queries and values; lr 5e-4. Small networks want more."""

    rank: int = setting(8, least=1)  # r
    alpha: float = setting(16.0, above=0)
    targets: tuple[str, ...] = ("blocks.*.attn.[qv]",)  # linear layers by name, with * and [...]: "mlp.fc1", "attn.qkv"
    dropout: float = setting(0.0, least=0, most=0.9)  # of x before A
    rank_stabilised: bool = False  # s = alpha / sqrt(r), rsLoRA
    dora: bool = False
    lr: float = setting(3e-3, above=0)


class LoRALinear(nn.Linear):
    """A linear layer whose rows `parts` have an update each."""

    def __init__(self, linear: nn.Linear, parts: list[slice], config: Config):
        self.weight, self.bias, self.parts = linear.weight, linear.bias, parts
        self.s = config.alpha / (config.rank**0.5 if config.rank_stabilised else config.rank)
        k = linear.weight.shape[1]
        self.a = [nn.init.uniform_(_empty(config.rank, k), -k**-0.5, k**-0.5) for _ in parts]
        self.b = [nn.init.zeros_(_empty(rows.stop - rows.start, config.rank)) for rows in parts]
        self.m = [nn.Parameter(_lengths(linear.weight[rows])) for rows in parts] if config.dora else None
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        u = mg.linear(self.dropout(x), mg.concatenate(self.a) if len(self.a) > 1 else self.a[0])  # A x of all parts
        if self.m is None:
            return mg.linear(x, self.weight, self.bias) + mg.linear(u, self.s * self._column())
        h = (mg.linear(x, self.weight) + mg.linear(u, self.s * self._column())) * self._factors()
        return h if self.bias is None else h + self.bias

    def rows(self, x: Tensor, which: slice) -> Tensor:
        return self(x)[..., which]

    def _column(self):
        """The B of all parts as one: each beside 0 for the others' A, and 0 in rows of no part."""
        if len(self.b) == 1 and len(self.b[0]) == len(self.weight):
            return self.b[0]
        r, last, d = self.b[0].shape[1], len(self.b) - 1, len(self.weight)
        return sum(mg.pad(b, ((rows.start, d - rows.stop), (r * i, r * (last - i))))
                   for i, (rows, b) in enumerate(zip(self.parts, self.b)))

    def _updated(self):
        """W_0 + s B A of each part, as constants."""
        with mg.no_grad():
            return [self.weight[rows] + self.s * mg.matmul(b, a) for rows, a, b in zip(self.parts, self.a, self.b)]

    def _factors(self):
        """m / |W_0 + s B A|, and 1 for rows of no part: (d,)."""
        factors = (mg.pad(_ratio(m, w), ((rows.start, len(self.weight) - rows.stop),), constant_values=1)
                   for rows, m, w in zip(self.parts, self.m, self._updated()))
        return functools.reduce(operator.mul, factors)

    def merged(self) -> nn.Linear:
        """A plain linear layer that computes the same, without dropout."""
        weight = self.weight.data.copy()
        for i, (rows, w) in enumerate(zip(self.parts, self._updated())):
            weight[rows] = (w if self.m is None else w * _ratio(self.m[i].detach(), w)[:, None]).data
        return plain(weight, self.bias)


def plain(weight: np.ndarray, bias: nn.Parameter | None) -> nn.Linear:
    """The linear layer with these numbers, frozen."""
    linear = nn.Linear(1, 1, False)
    linear.weight, linear.bias = nn.Parameter(weight, requires_grad=False), bias
    return linear


def _empty(*shape):
    return nn.Parameter(np.empty(shape, np.float32))


def _lengths(w):
    """|w| of each row, as a constant."""
    with mg.no_grad():
        return mg.sqrt((w * w).sum(1))


def _ratio(m, w):
    """m / |w| of each row; 1 for rows of zeros, so that their B can learn."""
    lengths = _lengths(w)
    zero = lengths == 0
    return mg.where(zero, 1, m / mg.where(zero, 1, lengths))


def parts(net: nn.Module, config: Config) -> Iterator[Place]:
    """A LoRALinear for each linear layer that the targets name."""
    for linear, rows, places in matching(net, config.targets):
        new = LoRALinear(linear, rows, config)
        yield from (Place(holder, key, new) for holder, key in places)
