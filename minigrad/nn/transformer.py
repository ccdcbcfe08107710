"""Attention and the Transformer block (Vaswani et al. 2017, arXiv:1706.03762). Sequences are (N, L, E): batch first.

One block serves all models. All its matrices are `Linear` layers, under the same attributes everywhere:

    attn.qkv, attn.proj     attention: in to queries, keys and values side by side; out
    mlp.fc1, mlp.fc2        the network at each position
    norm1, norm2
    ls1, ls2                the scales of both branches, where there are any

These are also the names in checkpoints of vision Transformers. The classes with PyTorch's names are the same block, whose
parameters state dicts call in_proj_weight, out_proj, linear1, ...
"""
import copy
from collections.abc import Callable

import numpy as np

from .. import ops
from ..ops.geometry import constant, real
from ..tensor import OneOrMore, Tensor, as_tensor
from . import init
from .layers import DropPath, Dropout, Identity, LayerNorm, Linear, flags, parameter, sizes, uniform
from .module import Module, Parameter

ACTIVATIONS = {"relu": ops.relu, "gelu": ops.gelu, "gelu_tanh": lambda x: ops.gelu(x, approximate="tanh"), "silu": ops.silu,
               "quick_gelu": lambda x: x * ops.sigmoid(1.702 * x)}


class Attention(Module):
    """Attention of `num_heads` heads side by side, each on dim / num_heads of the features.

    Args:
        dropout: the probability with which an attention weight is set to 0 in training.
        bias: whether qkv and proj have one.

    Attributes:
        prefix: None, or a Module that returns the `prefix` of calls without one (prefix tuning).
    """

    prefix: Module | None = None

    def __init__(self, dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True):
        (dim, num_heads), (bias,) = sizes(self, dim=dim, num_heads=num_heads), flags(self, bias=bias)
        if not num_heads or dim % num_heads:
            raise ValueError(f"{type(self).__name__}: num_heads must divide the {dim} features, not {num_heads}")
        self.num_heads, self.dropout = num_heads, constant(type(self).__name__, "dropout", dropout, 0, 1)
        self.qkv, self.proj = Linear(dim, 3 * dim, bias), Linear(dim, dim, bias)

    def forward(self, query: Tensor, key: Tensor | None = None, value: Tensor | None = None, *, attn_mask: Tensor | None = None,
                is_causal: bool = False, prefix: tuple[Tensor, Tensor] | None = None,
                need_weights: bool = False) -> OneOrMore:
        """What each position of the query gathers from the keys' positions.

        Args:
            query: (N, L, E).
            key, value: (N, S, E); by default the query (self-attention), and the key.
            attn_mask, is_causal, prefix: as of `scaled_dot_product_attention`, with heads as second axis: a mask
                broadcasts to (N, heads, L, S), True where a query sees a key; a prefix is a pair (N, heads, P, E / heads).
            need_weights: also return the attention weights, (N, heads, L, S), or P + S with a prefix.

        Returns:
            (N, L, E), or with the weights a pair.
        """
        query, (need_weights,) = as_tensor(query), flags(self, need_weights=need_weights)
        self._check("query", query)
        n, length, dim = query.shape
        drop = self.dropout if self.training else 0
        if prefix is None and self.prefix is not None:
            prefix = self.prefix()
        if key is None and value is None:
            qkv = self.qkv(query).reshape(n, length, 3, self.num_heads, dim // self.num_heads)
            if prefix is None and not need_weights and not drop:
                return self.proj(ops.packed_attention(qkv, attn_mask=attn_mask, is_causal=is_causal))
            q, k, v = (qkv[:, :, i].transpose(0, 2, 1, 3) for i in range(3))
        else:
            key = query if key is None else key
            q, k, v = (self._projected(x, i) for i, x in enumerate((query, key, key if value is None else value)))
        settings = dict(attn_mask=attn_mask, is_causal=is_causal, prefix=prefix)
        if need_weights or drop:
            y, weights = ops.scaled_dot_product_attention(q, k, v, return_weights=True, **settings)
        else:
            y = ops.scaled_dot_product_attention(q, k, v, **settings)
        if drop:
            v = v if prefix is None else ops.concatenate([prefix[1].broadcast_to((n, *prefix[1].shape[-3:])), v], 2)
            y = ops.matmul(ops.dropout(weights, drop), v)
        y = self.proj(y.transpose(0, 2, 1, 3).reshape(n, length, dim))
        return (y, weights) if need_weights else y

    def _check(self, name, x):
        if x.ndim != 3:
            raise ValueError(f"{type(self).__name__}: a {name} (N, L, E) wanted, got shape {x.shape}")

    def _projected(self, x, i):
        """Query, key or value (i = 0, 1, 2) of x as (N, heads, L, E / heads)."""
        x = as_tensor(x)
        self._check(("query", "key", "value")[i], x)
        y = self.qkv.rows(x, slice(i * x.shape[-1], (i + 1) * x.shape[-1]))
        return y.reshape(*y.shape[:2], self.num_heads, x.shape[-1] // self.num_heads).transpose(0, 2, 1, 3)


class Mlp(Module):
    """Two linear layers with an activation and dropout between them, at each position.

    Args:
        activation: one of `ACTIVATIONS`, or a function.
    """

    def __init__(self, dim: int, hidden: int, activation: str | Callable = "gelu", dropout: float = 0.0):
        if not callable(activation) and not (isinstance(activation, str) and activation in ACTIVATIONS):
            raise ValueError(f"Mlp: activation is one of {', '.join(ACTIVATIONS)}, or a function, not {activation!r}")
        dim, hidden = sizes(self, dim=dim, hidden=hidden)
        dropout = constant("Mlp", "dropout", dropout, 0, 1)
        self.fc1, self.fc2, self.dropout = Linear(dim, hidden), Linear(hidden, dim), Dropout(dropout)
        self.activation = activation  # not the function of that name, which could not be pickled

    def forward(self, x: Tensor) -> Tensor:
        activation = self.activation if callable(self.activation) else ACTIVATIONS[self.activation]
        return self.fc2(self.dropout(activation(self.fc1(x))))


class LayerScale(Module):
    """x times a learned number for each feature, all `value` at first (Touvron et al. 2021, arXiv:2103.17239)."""

    def __init__(self, dim: int, value: float):
        self.gamma = Parameter(np.full(dim, value, np.float32))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class TransformerBlock(Module):
    """Self-attention and an Mlp, each beside a residual connection and with layer norm: (N, L, dim) to the same.

    Pre-norm (`norm_first`): x = x + attn(norm1(x)); x = x + mlp(norm2(x)).
    Post-norm: x = norm1(x + attn(x)); x = norm2(x + mlp(x)).

    Args:
        hidden: the width of the Mlp.
        activation: one of `ACTIVATIONS`, or a function.
        dropout: of attention weights, within the Mlp and at the end of both branches.
        drop_path: the probability with which a branch is left out for a sample, in training.
        eps: of the layer norms.
        layer_scale: what the branches' scales `ls1` and `ls2` start at; None for no scales.

    Attributes:
        adapter1, adapter2: None, or a Module through which the branch goes last, after its dropout (adapters).
    """

    attention = Attention  # the class of `attn`
    adapter1: Module | None = None
    adapter2: Module | None = None

    def __init__(self, dim: int, num_heads: int, hidden: int, activation: str | Callable = "gelu", *, dropout: float = 0.0,
                 drop_path: float = 0.0, norm_first: bool = True, eps: float = 1e-6, layer_scale: float | None = None):
        dim, num_heads, hidden = sizes(self, dim=dim, num_heads=num_heads, hidden=hidden)
        drop_path = constant(type(self).__name__, "drop_path", drop_path, 0, 1)
        self.attn = self.attention(dim, num_heads, dropout)
        self.mlp = Mlp(dim, hidden, activation, dropout)
        self.norm1, self.norm2 = LayerNorm(dim, eps), LayerNorm(dim, eps)
        if layer_scale is not None:
            layer_scale = constant(type(self).__name__, "layer_scale", layer_scale)
        self.ls1, self.ls2 = (Identity() if layer_scale is None else LayerScale(dim, layer_scale) for _ in range(2))
        self.dropout, self.drop_path = Dropout(dropout), DropPath(drop_path)
        (self.norm_first,) = flags(self, norm_first=norm_first)

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, *, is_causal: bool = False,
                prefix: tuple[Tensor, Tensor] | None = None,
                need_weights: bool = False) -> OneOrMore:
        """(N, L, dim) to the same; other arguments, and the weights beside it, as of `Attention`."""
        y = self.attn(self.norm1(x) if self.norm_first else x, attn_mask=attn_mask, is_causal=is_causal, prefix=prefix,
                      need_weights=need_weights)
        y, weights = y if need_weights else (y, None)
        x = x + self._branch(self.ls1(y), self.adapter1)
        x = x if self.norm_first else self.norm1(x)
        x = x + self._branch(self.ls2(self.mlp(self.norm2(x) if self.norm_first else x)), self.adapter2)
        x = x if self.norm_first else self.norm2(x)
        return (x, weights) if need_weights else x

    def _branch(self, y, adapter):
        y = self.dropout(y)
        return self.drop_path(y if adapter is None else adapter(y))


# -- under PyTorch's names -------------------------------------------------------------------------------------------


def _check_order(module, batch_first):
    """ValueError with False."""
    if not flags(module, batch_first=batch_first)[0]:
        raise ValueError(f"{type(module).__name__}: sequences are (N, L, E), batch_first=True")


class MultiheadAttention(Attention):
    """`Attention` with PyTorch's arguments, whose parameters are stored as in_proj_weight, in_proj_bias, out_proj.

    It starts as `Linear` does, but for in_proj_bias, which is 0; in PyTorch the bound of in_proj_weight is larger by sqrt(1.5),
    and out_proj's bias is 0, too. Called it is `Attention`: a bool mask is True where a query sees a key, as in PyTorch's
    `scaled_dot_product_attention` but not in its `MultiheadAttention`, and the weights come only with `need_weights`. Sequences
    are (N, L, E): ValueError for `batch_first=False`.
    """

    stored_names = {"qkv.weight": "in_proj_weight", "qkv.bias": "in_proj_bias", "proj": "out_proj"}

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True, *, batch_first: bool = True):
        _check_order(self, batch_first)
        embed_dim, num_heads = sizes(self, embed_dim=embed_dim, num_heads=num_heads)
        super().__init__(embed_dim, num_heads, dropout, bias=False)
        if flags(self, bias=bias)[0]:
            self.qkv.bias, self.proj.bias = init.zeros_(parameter(3 * embed_dim)), uniform((embed_dim,), embed_dim)


class TransformerEncoderLayer(TransformerBlock):
    """`TransformerBlock` with PyTorch's arguments, whose parameters are stored as self_attn, linear1, linear2, norm1, norm2.

    Called it is `TransformerBlock`, whose bool mask is True where a query sees a key: not as in PyTorch's layer. Sequences are
    (N, L, E): ValueError for `batch_first=False`.
    """

    stored_names = {"attn": "self_attn", "mlp.fc1": "linear1", "mlp.fc2": "linear2"}
    attention = MultiheadAttention

    def __init__(self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1,
                 activation: str | Callable = "relu", layer_norm_eps: float = 1e-5, *, batch_first: bool = True,
                 norm_first: bool = False):
        _check_order(self, batch_first)
        d_model, nhead, dim_feedforward = sizes(self, d_model=d_model, nhead=nhead, dim_feedforward=dim_feedforward)
        layer_norm_eps = real(type(self).__name__, "layer_norm_eps", layer_norm_eps, 0)
        super().__init__(d_model, nhead, dim_feedforward, activation, dropout=dropout, norm_first=norm_first,
                         eps=layer_norm_eps)


class TransformerEncoder(Module):
    """`num_layers` copies of a layer one after the other, and a norm last if there is one, with PyTorch's names of parts.

    The copies start with the same numbers. Called it passes its arguments on to each layer, as `TransformerBlock` takes them: a
    bool mask is True where a query sees a key, not as in PyTorch's.

    Args:
        encoder_layer: a `TransformerEncoderLayer`, or another block (N, L, dim) to the same.
        norm: None, or a Module for the result of the last layer.
    """

    def __init__(self, encoder_layer: Module, num_layers: int, norm: Module | None = None):
        (num_layers,) = sizes(self, 1, num_layers=num_layers)
        for name, part in (("encoder_layer", encoder_layer), ("norm", norm)):
            if not isinstance(part, Module) and (part is not None or name != "norm"):
                raise TypeError(f"TransformerEncoder: {name} is a Module, not {type(part).__name__}")
        self.layers, self.norm = [copy.deepcopy(encoder_layer) for _ in range(num_layers)], norm

    def forward(self, x: Tensor, mask: Tensor | None = None, *, is_causal: bool = False) -> Tensor:
        """(N, L, dim) to the same; the mask and `is_causal` as of `Attention`."""
        for layer in self.layers:
            x = layer(x, mask, is_causal=is_causal)
        return x if self.norm is None else self.norm(x)
