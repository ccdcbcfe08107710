"""Kernels that work on each element for itself: activations, dropout, optimiser steps; and sums over rows.

Arrays are float32 or float64 on the GPU, in C order.
"""
import math

import numpy as np

from .. import xp
from .launch import empty, empty_like, launch

THREADS = 256
ACTIVATIONS = ("relu", "gelu", "tanh_gelu", "silu", "leaky_relu", "softplus")  # in the order of activation.cu


def blocks(n, threads=THREADS):
    """How many blocks give every one of `n` elements a thread."""
    return -(-n // threads)


def activation(name, x, bias=None, slope=0.01):
    """f(x + bias) for f one of `ACTIVATIONS`.

    Args:
        x: (..., C).
        bias: (C,) or None.
        slope: of the leaky ReLU below 0.
    """
    y, kind = empty_like(x), ACTIVATIONS.index(name)
    launch("activation", "activation_forward", blocks(x.size), THREADS, kind, x, bias, y, x.size, _columns(x), slope)
    return y


def activation_backward(name, g, x, bias=None, slope=0.01):
    """The gradients of `activation` in x and in the bias (None without one)."""
    dx, kind = empty_like(x), ACTIVATIONS.index(name)
    launch("activation", "activation_backward", blocks(x.size), THREADS, kind, g, x, bias, dx, x.size, _columns(x), slope)
    return dx, None if bias is None else column_sum(dx.reshape(-1, _columns(x)))


def _columns(x):
    return max(x.shape[-1], 1) if x.ndim else 1


def chunks(rows):
    """How to cut `rows` for a column sum: (number of chunks, rows in each), enough of them to keep a GPU busy."""
    per_chunk = max(64, -(-rows // 64))
    return max(1, -(-rows // per_chunk)), per_chunk


def column_sum(x):
    """The sum of (rows, C) over its rows: (C,). The same bits every time."""
    rows, columns = x.shape
    count, per_chunk = chunks(rows)
    sums = empty((count, columns), x.dtype)
    launch("column_sum", "column_sum", (blocks(columns, 32), count), (32, 8), x, sums, rows, columns, per_chunk)
    return sums[0] if count == 1 else column_sum(sums)


def dropout(x, p, seed, stream=0, stream_at=None):
    """x / (1 - p) with probability 1 - p, else 0, decided by Philox 4x32-10; its own gradient when called on `g`.

    Args:
        p: from 0 to below 1.
        seed, stream: numbers below 2**64: the same two give the same mask. `stream` numbers the call.
        stream_at: (1,) uint64 on the device to add to `stream`, for captured graphs, or None.
    """
    y = empty_like(x)
    launch("dropout", "dropout", blocks(x.size, 4 * THREADS), THREADS, x, y, x.size, p, seed, stream, stream_at)
    return y


def philox_words(n, seed, stream=0, first=0):
    """`n` random numbers below 2**32 as float64: the words of counters `first`, `first` + 1, ... of a stream."""
    words = empty((n,), np.float64)
    launch("dropout", "philox_words", blocks(n, 4 * THREADS), THREADS, words, n, seed, stream, first)
    return words


def sgd_step(p, g, v, lr, momentum=0.0, weight_decay=0.0, nesterov=False):
    """As `minigrad.backend.cpu.elementwise.sgd_step`, in place. `lr` may be an array (1,) on the device."""
    rate, rate_at = _number_or_array(lr)
    launch("optimiser", "sgd_step", blocks(p.size), THREADS, p, g, v, p.size, rate, rate_at, momentum, weight_decay,
           nesterov)


def adam_step(p, g, m, v, lr, b1, b2, eps, wd, decoupled, t):
    """As `minigrad.backend.cpu.elementwise.adam_step`, in place.

    `lr` and `t` may be arrays (1,) on the device, `t` of int32.
    """
    rate, rate_at = _number_or_array(lr)
    steps, steps_at = _number_or_array(t)
    betas = [f for b in (b1, b2) for f in (1 - b, math.log(b) if b else -math.inf)]
    launch("optimiser", "adam_step", blocks(p.size), THREADS, p, g, m, v, p.size, rate, rate_at, *betas, eps, wd, decoupled,
           steps, steps_at)


def ema_step(average, p, decay):
    """average = decay * average + (1 - decay) * p, in place. `decay` may be an array (1,) on the device."""
    rate, rate_at = _number_or_array(decay)
    launch("optimiser", "ema_step", blocks(p.size), THREADS, average, p, p.size, rate, rate_at)


def _number_or_array(x):
    """The two arguments through which a kernel takes a setting: a number, and an array that goes before it, or None."""
    return (0, x) if hasattr(x, "dtype") and x.ndim else (x, None)


def index_add(out, index, updates):
    """out[index[i]] += updates[i], in place, repeated indices included.

    Args:
        out: (rows, ...).
        index: (n,) int64; negative ones count from the end, those outside are skipped.
        updates: (n, ...).
    """
    columns = math.prod(out.shape[1:])
    launch("index_add", "index_add", blocks(updates.size), THREADS, out, index, updates, index.size, columns, out.shape[0])
    return out


def embedding_backward(g, index, rows):
    """The gradient of table[index] in a table of `rows` rows: g (..., C), index (...) int64, result (rows, C)."""
    table = xp(g).zeros((rows, g.shape[-1]), g.dtype)
    return index_add(table, index.reshape(-1), g.reshape(-1, g.shape[-1]))
