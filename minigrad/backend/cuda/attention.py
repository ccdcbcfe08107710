"""Scaled dot-product attention in linear memory. Arrays are on the GPU, in C order, of one of `launch.ITEMS`."""
import math

from .. import xp
from .elementwise import blocks, THREADS
from .launch import computed, constant, empty, empty_like, in_any_order, launch

MOST = constant("attention", "MOST")  # the widest head
_WIDTHS = (32, 64, MOST)  # the kernels': each serves heads up to that wide
_ROWS = {size: constant("attention", name) for size, name in ((4, "ROWS_OF_FLOAT"), (8, "ROWS_OF_DOUBLE"))}
_THREADS = constant("attention", "THREADS")


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
    mask, scale, sizes = _settings(q, k, mask, causal, scale)
    kernel, rows = _kernel("forward", q)
    launch("attention", kernel, math.prod(q.shape[:2]) * blocks(q.shape[2], rows), _THREADS, q, k, v, mask, y, lse, scale, sizes)
    return y, lse


@in_any_order
def attention_backward(g, q, k, v, y, lse, mask=None, causal=None, scale=None):
    """The gradients of `attention` in q, k and v. The mask gets none."""
    delta = empty(q.shape[:3], lse.dtype)
    launch("attention", "attention_delta", blocks(32 * delta.size), THREADS, g, y, delta, delta.size, q.shape[3])
    dq, dk, dv = empty_like(q), empty_like(k), empty_like(v)
    mask, scale, sizes = _settings(q, k, mask, causal, scale)
    kernel, rows = _kernel("backward", q)
    grid = math.prod(q.shape[:2]) * (blocks(k.shape[2], rows) + blocks(q.shape[2], rows))
    launch("attention", kernel, grid, _THREADS, g, q, k, v, mask, lse, delta, dq, dk, dv, scale, sizes)
    return dq, dk, dv


def _kernel(direction, q):
    """The name of the kernel, and how many rows of a head a block works on."""
    width = next(w for w in _WIDTHS if q.shape[3] <= w)
    return f"attention_{direction}_{width}", _ROWS[computed(q.dtype).itemsize] // (2 if width == MOST else 1)


def _settings(q, k, mask, causal, scale):
    (n, heads, queries, width), keys = q.shape, k.shape[2]
    if width > MOST:
        raise ValueError(f"attention: a head of width {width}; at most {MOST} fit")
    scale = 1 / math.sqrt(width) if scale is None else scale
    reach, strides = keys if causal is None else max(-queries, min(causal, keys)), (0, 0, 0, 0)  # the kernels add int to it
    if mask is not None:
        module = xp(mask)
        mask = module.where(mask, 0, -math.inf) if mask.dtype == bool else mask
        mask = module.ascontiguousarray(mask, dtype=q.dtype)
        strides = [s // mask.itemsize for s in module.broadcast_to(mask, (n, heads, queries, keys)).strides]
    return mask, scale, (heads, queries, keys, width, reach, *strides)
