"""Scaled dot-product attention in linear memory. Arrays are on the GPU, in C order, of one of `launch.ITEMS`."""
import math

from .. import xp
from .elementwise import blocks
from .launch import computed, constant, empty, empty_like, in_any_order, launch

MOST = constant("attention", "MOST")  # the widest head; a row of it is held in registers
_WARPS = constant("attention", "WARPS")
_ROWS = {size: constant("attention", name) for size, name in ((4, "ROWS_OF_FLOAT"), (8, "ROWS_OF_DOUBLE"))}
_THREADS = 32 * _WARPS


@in_any_order
def attention(q, k, v, mask=None, causal=None, scale=None):
    """softmax(scale * q @ k.T + mask) @ v, the matrix of scores never in memory.

    Args:
        q: (N, heads, queries, width), width at most 128.
        k, v: (N, heads, keys, width).
        mask: additive of the dtype of q, or bool with True for "sees"; broadcasts to (N, heads, queries, keys).
        causal: query i sees the keys up to i + causal; None: all of them.
        scale: 1 / sqrt(width) if None.

    Returns:
        y like q; a query that sees no key gets 0.
        lse: (2, N, heads, queries), the log-sum-exp of each query's scores as the largest score and the rest, of 16 bits in
            float32.

    Raises:
        ValueError: a head is wider than 128.
    """
    y, lse = empty_like(q), empty((2, *q.shape[:3]), computed(q.dtype))
    mask, settings = _settings(q, k, mask, causal, scale)
    launch("attention", "attention_forward", _blocks(q), _THREADS, q, k, v, mask, y, lse, *settings)
    return y, lse


@in_any_order
def attention_backward(g, q, k, v, y, lse, mask=None, causal=None, scale=None):
    """The gradients of `attention` in q, k and v. The mask gets none."""
    delta = empty(q.shape[:3], lse.dtype)
    launch("attention", "attention_delta", blocks(delta.size, _WARPS), _THREADS, g, y, delta, delta.size, q.shape[3])
    dq, dk, dv = empty_like(q), empty_like(k), empty_like(v)
    mask, settings = _settings(q, k, mask, causal, scale)
    launch("attention", "attention_backward_q", _blocks(q), _THREADS, g, q, k, v, mask, lse, delta, dq, *settings)
    launch("attention", "attention_backward_kv", _blocks(k), _THREADS, g, q, k, v, mask, lse, delta, dk, dv, *settings)
    return dq, dk, dv


def _blocks(x):
    """One block for the rows of each head that its warps work on."""
    return math.prod(x.shape[:2]) * blocks(x.shape[2], _WARPS * _ROWS[computed(x.dtype).itemsize])


def _settings(q, k, mask, causal, scale):
    (n, heads, queries, width), keys = q.shape, k.shape[2]
    if width > MOST:
        raise ValueError(f"attention: a head of width {width}; at most {MOST} fit")
    scale = 1 / math.sqrt(width) if scale is None else scale
    strides = (0, 0, 0, 0)
    if mask is not None:
        module = xp(mask)
        mask = module.where(mask, 0, -math.inf) if mask.dtype == bool else mask
        mask = module.ascontiguousarray(mask, dtype=q.dtype)
        strides = [s // mask.itemsize for s in module.broadcast_to(mask, (n, heads, queries, keys)).strides]
    return mask, (heads, queries, keys, width, scale, keys if causal is None else causal, *strides)
