"""Scaled dot-product attention (Vaswani et al. 2017, arXiv:1706.03762): softmax(q k^T / sqrt(width) + mask) v."""
import math

import numpy as np

from ..backend import xp
from ..fused import Fused
from ..tensor import Tensor
from .activation import _floating
from .elementwise import where
from .linalg import matmul
from .reduce import softmax
from .shape import concatenate, swapaxes


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
    return matmul(_weights(q, k, *mask, causal=causal, scale=scale), v)


def _forward(q, k, v, *mask, causal, scale):
    from ..backend.cpu.attention import attention
    return attention(q, k, v, *mask, causal=causal, scale=scale)


def _backward(g, out, lse, wanted, q, k, v, *mask, causal, scale):
    from ..backend.cpu.attention import attention_backward
    return attention_backward(g, q, k, v, out, lse, *mask, causal=causal, scale=scale, wants_mask=any(wanted[3:]))


_fused = Fused("attention", _attention, _forward, _backward, reads_out=True)


def _packed(qkv, *mask, causal, scale):
    """Attention of q, k and v side by side in (N, L, 3, heads, width); the result is (N, L, heads width)."""
    n, length, _, heads, width = qkv.shape
    q, k, v = (qkv[:, :, i].transpose(0, 2, 1, 3) for i in range(3))
    y = _attention(q, k, v, *mask, causal=causal, scale=scale)
    return y.transpose(0, 2, 1, 3).reshape(n, length, heads * width)


def _packed_forward(qkv, *mask, causal, scale):
    from ..backend.cpu.attention import attention
    from ..backend.cpu.memory import empty
    n, length, _, heads, width = qkv.shape
    y = empty((n, length, heads, width), qkv.dtype)
    _, lse = attention(*_parts(qkv), *mask, causal=causal, scale=scale, out=y.transpose(0, 2, 1, 3))
    return y.reshape(n, length, heads * width), lse


def _packed_backward(g, out, lse, wanted, qkv, *mask, causal, scale):
    from ..backend.cpu.attention import attention_backward
    from ..backend.cpu.memory import empty
    n, length, _, heads, width = qkv.shape
    g, y = (a.reshape(n, length, heads, width).transpose(0, 2, 1, 3) for a in (g, out))
    dqkv = empty(qkv.shape, qkv.dtype)
    dmask = attention_backward(g, *_parts(qkv), y, lse, *mask, causal=causal, scale=scale, outs=_parts(dqkv),
                               wants_mask=any(wanted[1:]))[3]
    return dqkv, dmask


def _parts(qkv):
    return [qkv[:, :, i].transpose(0, 2, 1, 3) for i in range(3)]


_fused_packed = Fused("packed_attention", _packed, _packed_forward, _packed_backward, reads_out=True)


def scaled_dot_product_attention(q, k, v, attn_mask=None, is_causal=False, scale=None, prefix=None, return_weights=False):
    """softmax(scale q k^T + mask) v, without the matrix of weights in memory unless it is asked for.

    Args:
        q: (..., queries, width).
        k, v: (..., keys, width); leading axes as q's. The width of v may differ if it is no self-attention.
        attn_mask: broadcasts to (..., queries, keys): bool, True where a query sees a key; or floating point, added to
            the scores, which may get a gradient. A query that sees no key gives 0, with gradient 0.
        is_causal: query i sees the keys up to i only (besides those of the prefix).
        scale: 1 / sqrt(width) if None.
        prefix: a pair (keys, values), (..., P, width) or broadcasting to that, that every query sees before k and v
            (Li and Liang 2021, prefix tuning, arXiv:2101.00190). The mask does not cover them.
        return_weights: also return the weights, (..., queries, P + keys).

    Raises:
        ValueError: shapes do not fit.
    """
    q, k, v = (_floating("attention", x) for x in (q, k, v))
    if q.ndim < 2 or q.ndim != k.ndim or k.ndim != v.ndim or q.shape[-1] != k.shape[-1] or k.shape[:-1] != v.shape[:-1] or (
            q.shape[:-2] != k.shape[:-2]):
        raise ValueError("attention: q (..., queries, width), k (..., keys, width), v (..., keys, width) wanted, "
                         f"got {q.shape}, {k.shape} and {v.shape}")
    extra = 0
    if prefix is not None:
        before_k, before_v = (p.broadcast_to((*k.shape[:-2], *p.shape[-2:])) for p in prefix)
        extra = before_k.shape[-2]
        k, v = concatenate([before_k, k], -2), concatenate([before_v, v], -2)
    mask = _mask(attn_mask, q, k, extra)
    settings = dict(causal=extra if is_causal else None, scale=1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    if return_weights:
        weights = _weights(q, k, *mask, **settings)
        return matmul(weights, v), weights
    if q.ndim == 4:
        return _fused(q, k, v, *mask, **settings)
    lead = q.shape[:-2]  # one axis of samples, one of heads
    folded = [x.reshape(1, math.prod(lead), *x.shape[-2:]) for x in (q, k, v)]
    mask = [m.broadcast_to((*lead, *m.shape[-2:])).reshape(1, math.prod(lead), *m.shape[-2:]) for m in mask]
    return _fused(*folded, *mask, **settings).reshape(*lead, q.shape[-2], v.shape[-1])


def packed_attention(qkv, attn_mask=None, is_causal=False, scale=None):
    """Self-attention of (N, L, 3, heads, width), q, k and v of each position side by side: (N, L, heads width).

    As `scaled_dot_product_attention`, without the copies that taking them apart would make.
    """
    qkv = _floating("packed_attention", qkv)
    if qkv.ndim != 5 or qkv.shape[2] != 3:
        raise ValueError(f"packed_attention: (N, L, 3, heads, width) wanted, got shape {qkv.shape}")
    q = qkv._array[:, :, 0].transpose(0, 2, 1, 3)
    mask = _mask(attn_mask, q, q, 0)
    return _fused_packed(qkv, *mask, causal=0 if is_causal else None,
                         scale=1 / math.sqrt(qkv.shape[-1]) if scale is None else scale)


def _mask(mask, q, k, extra):
    """The mask as a list of one Tensor with as many axes as q, widened to see `extra` keys of a prefix; or empty."""
    if mask is None:
        return []
    mask = mask if isinstance(mask, Tensor) else Tensor(mask)
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
        seen = xp(mask._array).ones((*mask.shape[:-1], extra), bool)
        mask = concatenate([Tensor(seen if mask.dtype == bool else xp(mask._array).zeros(seen.shape, mask.dtype)), mask], -1)
    return [mask]
