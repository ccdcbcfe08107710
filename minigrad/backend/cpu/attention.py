"""Scaled dot-product attention block by block: the matrix of scores is never in memory as a whole.

A block is some samples, some heads of one sample, or some queries of one head, such that its scores fit a core's cache.
The backward pass computes the scores again from the log-sum-exp of each query (Dao et al. 2022, FlashAttention,
arXiv:2205.14135). q is (N, heads, queries, width), k and v (N, heads, keys, width), with any strides. float32 goes to the
kernels of `products.c`, unless the mask wants a gradient. Definition: minigrad/ops/attention.py.
"""
import math
import threading

import numpy as np

from .blas import single_threaded_blas
from .elementwise import empty_like
from .memory import scratch
from .native import kernel
from .products import dense_rows, row_stride
from .rows import below, dots, largest
from .threads import get_num_threads, parallel_for

BLOCK_SIZE = 1 << 17  # scores


def attention(q, k, v, mask=None, causal=None, scale=1.0, out=None):
    """softmax(scale q k^T + mask) v.

    Args:
        mask: bool (True: sees) or additive, with four axes that broadcast to (N, heads, queries, keys); or None.
        causal: query i sees the keys up to i + causal, at least the first; None: all keys.
        out: where to write the result, (N, heads, queries, width); by default new memory ordered as q's.

    Returns:
        y, of zeros for a query that sees no key; and the log-sum-exp of each query's scores, (N, heads, queries, 1).
    """
    lse, y = np.empty((*q.shape[:3], 1), q.dtype), out
    if y is None:
        y = empty_like(q) if v.shape[3] == q.shape[3] else np.empty((*q.shape[:3], v.shape[3]), q.dtype)

    def block(part):
        n, h, rows = part
        s, keys = _scores(q, k, mask, causal, scale, part)
        top = largest(s)
        np.exp(below(s, top, s), out=s)
        total = s @ np.ones((s.shape[-1], 1), s.dtype)
        blind = total == 0
        total[blind] = 1
        np.matmul(s, v[n, h, keys], out=y[n, h, rows])
        y[n, h, rows] /= total
        top += np.log(total)
        top[blind] = math.inf
        lse[n, h, rows] = top

    if not (q.size and k.size):
        y[...], lse[...] = 0, math.inf
    elif q.shape[2] == 1 or not _native("attention", [q, k, v, y], 1, lse, mask, causal, scale):  # of one NumPy is faster
        parallel_for(block, _blocks(q, k), blas=True)
    return y, lse


def attention_backward(g, q, k, v, y, lse, mask=None, causal=None, scale=1.0, outs=None, wants_mask=False):
    """The gradients of `attention` in q, k, v and the mask (None unless `wants_mask`).

    With p the attention weights: dv = p^T g, ds = p (g v^T - sum(g y)), dq = scale ds k, dk = scale ds^T q, dmask = ds.

    Args:
        outs: where to write dq, dk and dv; by default new memory.
    """
    dq, dk, dv = outs or map(empty_like, (q, k, v))
    dmask, lock = np.zeros(mask.shape, q.dtype) if wants_mask else None, threading.Lock()
    if not (q.size and k.size):
        dq[...], dk[...], dv[...] = 0, 0, 0
        return dq, dk, dv, dmask
    each_has_one = q.shape[0] * q.shape[1] >= get_num_threads()  # the kernel's threads share the heads
    if each_has_one and not wants_mask and _native(
            "attention_backward", [q, k, v, y, g, dq, dk, dv], 3, lse, mask, causal, scale):
        return dq, dk, dv, None

    def block(parts):
        first = True
        for part in parts:
            n, h, rows = part
            s, keys = _scores(q, k, mask, causal, scale, part)
            _shares(s, lse[n, h, rows])
            gs = g[n, h, rows]
            share = (*s.shape[:2], s.shape[3])
            share_v = np.matmul(_t(s), gs, out=scratch("attention dv", (*share, v.shape[3]), s.dtype))
            ds = np.matmul(gs, _t(v[n, h, keys]), out=scratch("attention ds", s.shape, s.dtype))
            ds -= dots(gs, y[n, h, rows])
            ds *= s
            if dmask is not None:
                with lock:
                    _add_to_mask(dmask, ds, n, h, rows, keys)
            np.matmul(ds, k[n, h, keys], out=dq[n, h, rows])
            dq[n, h, rows] *= scale
            qs = _scaled(q[n, h, rows], scale)
            share_k = np.matmul(_t(ds), qs, out=scratch("attention dk", (*share, q.shape[3]), s.dtype))
            if first:
                dk[n, h, keys], dv[n, h, keys] = share_k, share_v
                dk[n, h, keys.stop:], dv[n, h, keys.stop:] = 0, 0
            else:
                dk[n, h, keys] += share_k
                dv[n, h, keys] += share_v
            first = False

    grouped = {}
    for n, h, rows in _blocks(q, k):  # blocks of the same keys go to one thread
        grouped.setdefault((n.start, h.start), []).append((n, h, rows))
    parallel_for(block, list(grouped.values()), blas=True)
    return dq, dk, dv, dmask


def _native(name, arrays, written, lse, mask, causal, scale):
    """Lets the C kernel `name` work on q, k, v, y and what else it takes, of which the last `written` are results; says
    whether there is one that can."""
    (n, heads, queries, width), keys, threads = arrays[0].shape, arrays[1].shape[2], get_num_threads()
    native = kernel(name, *arrays, None if mask is None or mask.dtype == bool else mask)
    if native is None or any(dense_rows(a) is not a for a in arrays[-written:]):
        return False
    q, k, v, y, *more = dense = [dense_rows(a) for a in arrays]
    strides = [(*(s // a.itemsize for s in a.strides[:2]), row_stride(a)) for a in dense]
    strides.insert(4, [0] * 4 if mask is None else [s // mask.itemsize * (m > 1) for s, m in zip(mask.strides, mask.shape)])
    masks = (None, mask.view(np.uint8)) if mask is not None and mask.dtype == bool else (mask, None)
    buffers = 2 if more else 1
    block = max(16, min(queries, BLOCK_SIZE // buffers // keys))
    memory = scratch("attention", (threads, buffers, block, keys), np.float32)
    with single_threaded_blas:
        native(q, k, v, y, lse, *masks, *more, memory, np.concatenate(strides), threads, n, heads, queries, keys, width,
               v.shape[3], keys if causal is None else causal, block, scale)
    return True


def _scores(q, k, mask, causal, scale, part):
    """scale q k^T + mask of one block in this thread's scratch, and the slice of keys that its queries may see."""
    n, h, rows = part
    stop = k.shape[2] if causal is None else min(max(rows.stop + causal, 1), k.shape[2])
    keys = slice(0, stop)
    qs = _scaled(q[n, h, rows], scale)
    s = np.matmul(qs, _t(k[n, h, keys]), out=scratch("attention s", (*qs.shape[:3], stop), q.dtype))
    if mask is not None:
        m = _mask_part(mask, n, h, rows, keys)
        if mask.dtype == bool:
            np.copyto(s, -math.inf, where=~m)
        else:
            s += m
    if causal is not None:
        unseen = np.arange(stop) > np.arange(rows.start, rows.stop)[:, None] + causal
        if unseen.any():
            np.copyto(s, -math.inf, where=unseen)
    return s, keys


def _shares(s, lse):
    """exp(s - lse) in place. An infinite lse is that of a query that sees nothing, or +inf, which share the whole."""
    unbounded = lse == math.inf
    if unbounded.any() and (s[unbounded[..., 0]] == math.inf).any():
        count = (s == math.inf).sum(axis=-1, keepdims=True)
        below(s, np.where(unbounded, lse, 0), s)
        lse = np.where(unbounded, np.log(np.maximum(count, 1)), lse)
    s -= lse
    np.exp(s, out=s)


def _scaled(q, scale):
    return np.multiply(q, q.dtype.type(scale), out=scratch("attention q", q.shape, q.dtype))


def _mask_part(mask, *part):
    return mask[tuple(s if length > 1 else slice(None) for s, length in zip(part, mask.shape))]


def _add_to_mask(dmask, ds, *part):
    target = _mask_part(dmask, *part)
    target += ds.sum(axis=tuple(a for a in range(4) if target.shape[a] != ds.shape[a]), keepdims=True)


def _blocks(q, k):
    """Triples of slices (samples, heads, queries)."""
    (n, heads, queries, _), keys = q.shape, k.shape[2]
    if heads * queries * keys <= BLOCK_SIZE:
        samples = max(1, min(BLOCK_SIZE // (heads * queries * keys), -(-n // get_num_threads())))
        return [(slice(i, min(i + samples, n)), slice(0, heads), slice(0, queries)) for i in range(0, n, samples)]
    many = max(1, min(heads, BLOCK_SIZE // (queries * keys)))
    rows = queries if many > 1 else max(16, min(queries, BLOCK_SIZE // keys))
    return [(slice(i, i + 1), slice(h, min(h + many, heads)), slice(r, min(r + rows, queries)))
            for i in range(n) for h in range(0, heads, many) for r in range(0, queries, rows)]


def _t(x):
    return x.swapaxes(-1, -2)
