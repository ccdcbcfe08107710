"""Attention and the Transformer block (Vaswani et al. 2017, arXiv:1706.03762). Sequences are (N, L, E): batch first."""
from .. import ops
from . import init
from .layers import Dropout, LayerNorm, Linear, parameter, uniform
from .module import Module

ACTIVATIONS = {"relu": ops.relu, "gelu": ops.gelu, "gelu_tanh": lambda x: ops.gelu(x, "tanh"), "silu": ops.silu,
               "quick_gelu": lambda x: x * ops.sigmoid(1.702 * x)}


class MultiheadAttention(Module):
    """Attention of `num_heads` heads side by side, each on embed_dim / num_heads of the features.

    Parameters as PyTorch's: in_proj_weight (3 E, E), the rows of query, key and value below each other, in_proj_bias
    (3 E,), out_proj.
    """

    def __init__(self, embed_dim, num_heads, dropout=0.0, bias=True):
        if embed_dim % num_heads:
            raise ValueError(f"MultiheadAttention: {embed_dim} features do not divide into {num_heads} heads")
        self.embed_dim, self.num_heads, self.dropout = embed_dim, num_heads, dropout
        self.in_proj_weight = uniform((3 * embed_dim, embed_dim), embed_dim)
        self.in_proj_bias = init.zeros_(parameter(3 * embed_dim)) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias)

    def forward(self, query, key=None, value=None, attn_mask=None, is_causal=False, prefix=None, need_weights=False):
        """
        Args:
            query: (N, L, E).
            key, value: (N, S, E); by default the query (self-attention), and the key.
            attn_mask, is_causal, prefix: as of `scaled_dot_product_attention`, with heads as second axis: a mask
                broadcasts to (N, heads, L, S), True where a query sees a key; a prefix is a pair (N, heads, P, E / heads).
            need_weights: also return the attention weights, (N, heads, L, S).

        Returns:
            (N, L, E), or with the weights a pair.
        """
        n, length, e = query.shape
        heads, width, drop = self.num_heads, e // self.num_heads, self.dropout if self.training else 0
        if key is None and value is None and prefix is None and not need_weights and not drop:
            qkv = ops.linear(query, self.in_proj_weight, self.in_proj_bias).reshape(n, length, 3, heads, width)
            return self.out_proj(ops.packed_attention(qkv, attn_mask, is_causal))
        key = query if key is None else key
        value = key if value is None else value
        q, k, v = (self._projected(x, i) for i, x in enumerate((query, key, value)))
        if not (need_weights or drop):
            y = ops.scaled_dot_product_attention(q, k, v, attn_mask, is_causal, prefix=prefix)
            return self.out_proj(y.transpose(0, 2, 1, 3).reshape(n, length, e))
        y, weights = ops.scaled_dot_product_attention(q, k, v, attn_mask, is_causal, prefix=prefix, return_weights=True)
        if drop:
            v = v if prefix is None else ops.concatenate([prefix[1].broadcast_to((n, *prefix[1].shape[-3:])), v], 2)
            y = ops.matmul(ops.dropout(weights, drop), v)
        y = self.out_proj(y.transpose(0, 2, 1, 3).reshape(n, length, e))
        return (y, weights) if need_weights else y

    def _projected(self, x, i):
        """Query, key or value (i = 0, 1, 2) as (N, heads, L, width)."""
        e = self.embed_dim
        bias = None if self.in_proj_bias is None else self.in_proj_bias[i * e:(i + 1) * e]
        y = ops.linear(x, self.in_proj_weight[i * e:(i + 1) * e], bias)
        return y.reshape(*y.shape[:2], self.num_heads, -1).transpose(0, 2, 1, 3)


class TransformerEncoderLayer(Module):
    """Self-attention and a network of two layers at each position, each with a residual connection and layer norm.

    Post-norm: x = norm1(x + attention(x)); x = norm2(x + mlp(x)). Pre-norm (`norm_first`): x = x + attention(norm1(x));
    x = x + mlp(norm2(x)). Parameter names are PyTorch's.

    Args:
        activation: one of `ACTIVATIONS`, or a function.
    """

    def __init__(self, d_model, nhead, dim_feedforward=2048, dropout=0.1, activation="relu", layer_norm_eps=1e-5,
                 norm_first=False):
        self.self_attn = MultiheadAttention(d_model, nhead, dropout)
        self.linear1, self.linear2 = Linear(d_model, dim_feedforward), Linear(dim_feedforward, d_model)
        self.norm1, self.norm2 = LayerNorm(d_model, layer_norm_eps), LayerNorm(d_model, layer_norm_eps)
        self.dropout, self.dropout1, self.dropout2 = Dropout(dropout), Dropout(dropout), Dropout(dropout)
        self.norm_first = norm_first
        self.activation = activation if callable(activation) else ACTIVATIONS[activation]

    def forward(self, x, attn_mask=None, is_causal=False, prefix=None, need_weights=False):
        """(N, L, E) to the same; other arguments and the weights as of `MultiheadAttention`."""
        y = self.self_attn(self.norm1(x) if self.norm_first else x, attn_mask=attn_mask, is_causal=is_causal, prefix=prefix,
                           need_weights=need_weights)
        y, weights = y if need_weights else (y, None)
        x = x + self.dropout1(y)
        x = x if self.norm_first else self.norm1(x)
        y = self.linear2(self.dropout(self.activation(self.linear1(self.norm2(x) if self.norm_first else x))))
        x = x + self.dropout2(y)
        x = x if self.norm_first else self.norm2(x)
        return (x, weights) if need_weights else x
