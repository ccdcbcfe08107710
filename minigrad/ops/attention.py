"""Scaled dot-product attention (Vaswani et al. 2017, arXiv:1706.03762): softmax(q k^T / sqrt(width) + mask) v."""
from __future__ import annotations

import math

import numpy as np

from ..backend import xp
from ..fused import Fused
from ..tensor import OneOrMore, Tensor, TensorLike, as_tensor, flag
from .activation import _floating
from .declare import operation
from .elementwise import where
from .geometry import real, several
from .products import matmul
from .reduce import softmax
from .shape import concatenate, repeat, swapaxes


def _weights(q, k, *mask, causal, scale):
    """softmax(scale q k^T + mask); a query that sees no key has weights 0."""
    scores = matmul(q, swapaxes(k, -1, -2)) * scale
    for m in mask:  # one or none
        scores = where(m, scores, -math.inf) if m.dtype == bool else scores + m
    if causal is not None:
        module, (queries, keys) = xp(scores._array), scores.shape[-2:]
        scores = where(module.arange(keys) <= module.arange(queries)[:, None] + causal, scores, -math.inf)
    return softmax(scores)


def _attention(q, k, v, *mask, causal, scale):
    """y = p v with p = softmax(scale q k^T + mask).

    Backwards, dv = p^T g, and with dp = g v^T the scores s get ds = p (dp - sum over keys of p dp) (see `softmax`). The sum
    needs no matrix of weights: sum_j p_ij dp_ij = sum_j p_ij sum_c g_ic v_jc = sum_c g_ic y_ic, that is sum(g y) of the
    query's row. So a path that makes the scores again, block by block, needs beside y only the log-sum-exp of each query
    (Dao et al. 2022, FlashAttention, arXiv:2205.14135): dq = scale ds k, dk = scale ds^T q.
    """
    return matmul(_weights(q, k, *mask, causal=causal, scale=scale), v)


def _packed(qkv, *mask, causal, scale):
    """Attention of q, k and v side by side in (N, L, 3, heads, width); the result is (N, L, heads width)."""
    n, length, _, heads, width = qkv.shape
    q, k, v = (qkv[:, :, i].transpose(0, 2, 1, 3) for i in range(3))
    y = _attention(q, k, v, *mask, causal=causal, scale=scale)
    return y.transpose(0, 2, 1, 3).reshape(n, length, heads * width)


_fused_attention, _fused_packed = Fused("attention", _attention), Fused("packed_attention", _packed)


@operation
def scaled_dot_product_attention(q: TensorLike, k: TensorLike, v: TensorLike, attn_mask: TensorLike | None = None, *,
                                 is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
                                 prefix: tuple[Tensor, Tensor] | None = None,
                                 return_weights: bool = False) -> OneOrMore:
    """softmax(scale q k^T + mask) v, without the matrix of weights in memory unless it is asked for.

    Args:
        q: (..., queries, width).
        k, v: (..., keys, width); the leading axes of all three broadcast. The width of v may differ.
        attn_mask: broadcasts to (..., queries, keys): bool, True where a query sees a key; or floating point, added to
            the scores, which may get a gradient. A query that sees no key gives 0, with gradient 0.
        is_causal: query i sees the keys up to i only (besides those of the prefix).
        scale: 1 / sqrt(width) if None.
        enable_gqa: k and v may have fewer heads (the last leading axis) than q, each of which serves as many queries' heads in
            a row (grouped queries; Ainslie et al. 2023, arXiv:2305.13245).
        prefix: a pair (keys, values), (..., P, width) or broadcasting to that, that every query sees before k and v
            (Li and Liang 2021, prefix tuning, arXiv:2101.00190). The mask does not cover them.
        return_weights: also return the weights, (..., queries, P + keys).

    Raises:
        ValueError: shapes do not fit.
    """
    q, k, v = (_floating("attention", x) for x in (q, k, v))
    if min(q.ndim, k.ndim, v.ndim) < 2 or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise ValueError("attention: q (..., queries, width), k (..., keys, width), v (..., keys, width) wanted, "
                         f"got {q.shape}, {k.shape} and {v.shape}")
    scale = _scale("attention", q, scale)
    if flag("attention", "enable_gqa", enable_gqa):
        k, v = (_serving(x, q) for x in (k, v))
    try:
        lead = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    except ValueError:
        raise ValueError(f"attention: leading axes that broadcast wanted, got {q.shape}, {k.shape} and {v.shape}") from None
    q, k, v = (x if x.shape[:-2] == lead else x.broadcast_to((*lead, *x.shape[-2:])) for x in (q, k, v))
    extra = 0
    if prefix is not None:
        before_k, before_v = _prefix(prefix, k, v)
        extra = before_k.shape[-2]
        k, v = concatenate([before_k, k], -2), concatenate([before_v, v], -2)
    mask = _mask(attn_mask, q, k, extra)
    settings = dict(causal=extra if flag("attention", "is_causal", is_causal) else None, scale=scale)
    if flag("attention", "return_weights", return_weights):
        weights = _weights(q, k, *mask, **settings)
        return matmul(weights, v), weights
    if q.ndim == 4:
        return _fused_attention(q, k, v, *mask, **settings)
    folded = [x.reshape(1, math.prod(lead), *x.shape[-2:]) for x in (q, k, v)]  # samples and heads
    mask = [m.broadcast_to((*lead, *m.shape[-2:])).reshape(1, math.prod(lead), *m.shape[-2:]) for m in mask]
    return _fused_attention(*folded, *mask, **settings).reshape(*lead, q.shape[-2], v.shape[-1])


def _prefix(prefix, k, v):
    """The keys and the values before k and v, with their leading axes."""
    pair = several(prefix)
    if pair is None or len(pair) != 2:
        raise ValueError(f"attention: prefix is a pair (keys, values), not {prefix!r}")
    before = [_floating("attention: prefix", p) for p in pair]
    shapes = [p.shape for p in before]
    wanted = [(*x.shape[:-2], *p.shape[-2:-1], x.shape[-1]) for p, x in zip(before, (k, v))]
    try:
        before = [p.broadcast_to(shape) for p, shape in zip(before, wanted) if p.ndim > 1 and p.shape[-1] == shape[-1]]
    except ValueError:
        before = []
    if len(before) != 2 or before[0].shape[-2] != before[1].shape[-2]:
        raise ValueError("attention: prefix keys (..., P, width) and values (..., P, width) that broadcast to those of "
                         f"{k.shape} and {v.shape} wanted, got {shapes[0]} and {shapes[1]}")
    return before


def _serving(x, q):
    """Keys or values, each head of them as often as it serves a head of queries."""
    if x.ndim < 3 or q.ndim < 3 or not x.shape[-3] or q.shape[-3] % x.shape[-3]:
        raise ValueError("attention: enable_gqa wants as many heads of queries for each head of keys and values, got "
                         f"{q.shape} and {x.shape}")
    return x if x.shape[-3] == q.shape[-3] else repeat(x, q.shape[-3] // x.shape[-3], x.ndim - 3)


@operation
def packed_attention(qkv: TensorLike, attn_mask: TensorLike | None = None, *, is_causal: bool = False,
                     scale: float | None = None) -> Tensor:
    """Self-attention of (N, L, 3, heads, width), q, k and v of each position side by side: (N, L, heads width).

    As `scaled_dot_product_attention`, without the copies that taking them apart would make.
    """
    qkv = _floating("packed_attention", qkv)
    if qkv.ndim != 5 or qkv.shape[2] != 3:
        raise ValueError(f"packed_attention: (N, L, 3, heads, width) wanted, got shape {qkv.shape}")
    q = qkv._array[:, :, 0].transpose(0, 2, 1, 3)
    mask = _mask(attn_mask, q, q, 0)
    causal = 0 if flag("packed_attention", "is_causal", is_causal) else None
    return _fused_packed(qkv, *mask, causal=causal, scale=_scale("packed_attention", qkv, scale))


def _scale(of, q, scale):
    return 1 / math.sqrt(max(q.shape[-1], 1)) if scale is None else real(of, "scale", scale)


def _mask(mask, q, k, extra):
    """The mask as a list of one Tensor with as many axes as q, widened to see `extra` keys of a prefix; or empty."""
    if mask is None:
        return []
    mask = as_tensor(mask)
    full = (*q.shape[:-1], k.shape[-2] - extra)
    try:
        fits = np.broadcast_shapes(mask.shape, full) == full
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"attention: a mask that broadcasts to (..., queries, keys) = {full} wanted, got {mask.shape}")
    if mask.dtype.kind in "iu":
        raise TypeError("attention: the mask is bool (True: sees) or floating point (added to the scores), "
                        f"not {mask.dtype}; convert with .astype(bool)")
    if mask.dtype != bool:
        mask = mask.astype(q.dtype)
    mask = mask.reshape((1,) * (len(full) - mask.ndim) + mask.shape)
    if extra:
        mask = mask.broadcast_to((*mask.shape[:-1], full[-1]))
        shape, module = (*mask.shape[:-1], extra), xp(mask._array)
        visible = module.ones(shape, bool) if mask.dtype == bool else module.zeros(shape, mask.dtype)
        mask = concatenate([Tensor(visible), mask], -1)
    return [mask]
