"""Kernels that work on each element for itself: activations, dropout, optimiser steps; and sums over rows.

Arrays are on the GPU, in C order, of one of `launch.ITEMS` (optimisers: not of 16 bits). Sums over rows of 16 bits are
float32.
"""
import math

import numpy as np

from .launch import computed, constant, empty, empty_like, enumerators, in_any_order, launch, LIST, ordered

THREADS = 256
CHUNK = constant("optimiser", "CHUNK")  # elements of a parameter for one block
EACH = constant("activation", "EACH")  # elements for one thread
ACTIVATIONS = enumerators("activation", "Kind")


def blocks(n, threads=THREADS):
    """How many blocks give every one of `n` elements a thread."""
    return -(-n // threads)


def whole_warps(n):
    """How many threads of a block share `n` items: whole warps, at most 8."""
    return min(256, max(32, (n + 31) // 32 * 32))


@in_any_order
def activation(name, x, bias=None, setting=0.0):
    """f(x + bias) for f one of `ACTIVATIONS`.

    Args:
        x: (..., C).
        bias: (C,) or None.
        setting: the slope of the leaky ReLU below 0, or where the limited ReLU ends.
    """
    y, kind = empty_like(x), ACTIVATIONS.index(name)
    launch("activation", "activation_forward", blocks(x.size, EACH * THREADS), THREADS, kind, x, bias, y, x.size,
           _columns(x, bias), setting)
    return y


@in_any_order
def activation_backward(name, g, x, bias=None, setting=0.0):
    """The gradients of `activation` in x and in the bias (None without one; of 16 bits a float32 sum)."""
    dx, kind = empty_like(x), ACTIVATIONS.index(name)
    launch("activation", "activation_backward", blocks(x.size, EACH * THREADS), THREADS, kind, g, x, bias, dx, x.size,
           _columns(x, bias), setting)
    return dx, None if bias is None else column_sum(dx.reshape(-1, _columns(x, bias)))


def _columns(x, bias):
    """The length of the rows that a bias is added to. Without one the kernel does not ask, and rows may be too long to say."""
    return max(x.shape[-1], 1) if x.ndim and bias is not None else 1


def chunks(rows):
    """How to cut `rows` for a column sum: (number of chunks, rows in each), enough of them to keep a GPU busy."""
    per_chunk = max(64, -(-rows // 64))
    return max(1, -(-rows // per_chunk)), per_chunk


@in_any_order
def column_sum(x):
    """The sum of (rows, C) over its rows: (C,), of 16 bits in float32. The same bits every time."""
    rows, columns = x.shape
    count, per_chunk = chunks(rows)
    sums = empty((count, columns), computed(x.dtype))
    launch("column_sum", "column_sum", (blocks(columns, 32), count), (32, 8), x, sums, rows, columns, per_chunk)
    return sums[0] if count == 1 else column_sum(sums)


@in_any_order
def channel_sum(x):
    """The sum of each channel of (N, C, ...): (C,), of 16 bits in float32. The same bits every time."""
    planes, pixels = empty(x.shape[:2], computed(x.dtype)), math.prod(x.shape[2:])
    launch("column_sum", "row_sum", planes.size, whole_warps(pixels), x, planes, pixels)
    return column_sum(planes)


@in_any_order
def dropout(x, p, seed):
    """x / (1 - p) with probability 1 - p, else 0, decided by Philox 4x32-10; its own gradient when called on `g`.

    Args:
        p: from 0 to below 1.
        seed: a number below 2**64, or an array (1,) uint64 on the device: the same one gives the same mask.
    """
    y = empty_like(x)
    launch("dropout", "dropout", blocks(x.size, 4 * THREADS), THREADS, x, y, x.size, p, *_number_or_array(seed))
    return y


def philox_words(n, seed, first=0):
    """`n` random numbers below 2**32 as float64, the words of counters `first`, `first` + 1, ...; `seed` as in `dropout`."""
    words = empty((n,), np.float64)
    launch("dropout", "philox_words", blocks(n, 4 * THREADS), THREADS, words, n, *_number_or_array(seed), first)
    return words


# -- optimisers: lists of arrays, one launch for up to LIST of them --------------------------------------------------------


def sgd_step(ps, gs, vs, lr, momentum=0.0, weight_decay=0.0, nesterov=False):
    """As `minigrad.backend.cpu.elementwise.sgd_step`, in place, on all parameters of a list.

    `vs` is empty without momentum.
    All arrays have one dtype, the gradients any memory order. `lr` may be an array (1,) of that dtype on the device.
    """
    _all_at_once("sgd_step", (ps, gs, vs), *_number_or_array(lr), momentum, weight_decay, nesterov)


def adam_step(ps, gs, ms, vs, lr, b1, b2, eps, wd, decoupled, t):
    """As `minigrad.backend.cpu.elementwise.adam_step`, in place, on all parameters of a list.

    All arrays have one dtype. `lr` and `t` may be arrays (1,) on the device, `t` of int32.
    """
    betas = [f for b in (b1, b2) for f in (1 - b, math.log(b) if b else -math.inf)]
    _all_at_once("adam_step", (ps, gs, ms, vs), *_number_or_array(lr), *betas, eps, wd, decoupled, *_number_or_array(t))


def ema_step(averages, ps, decay):
    """average = decay * average + (1 - decay) * p, in place, for all of two lists. `decay` may be an array (1,)."""
    _all_at_once("ema_step", (averages, ps), *_number_or_array(decay))


def _all_at_once(kernel, lists, *settings):
    """Launches a kernel of optimiser.cu on lists of arrays, of which it only reads the second."""
    lists = lists[0], [ordered(a) for a in lists[1]], *lists[2:]
    for i in range(0, len(lists[0]), LIST):
        part = [arrays[i:i + LIST] for arrays in lists]
        lengths = [a.size for a in part[0]]
        launch("optimiser", kernel, sum(blocks(n, CHUNK) for n in lengths), THREADS, *part, lengths, *settings)


def _number_or_array(x):
    """The two arguments through which a kernel takes a setting: a number, and an array that goes before it, or None."""
    return (0, x) if hasattr(x, "dtype") and x.ndim else (x, None)


def index_add(out, index, updates):
    """out[index[i]] += updates[i], in place, repeated indices included. `index` and `updates` may have any memory order.

    Args:
        out: (rows, ...).
        index: (n,) int64; negative ones count from the end, those outside are skipped.
        updates: (n, ...), or any shape with so many elements.
    """
    index, updates = ordered(index), ordered(updates)
    columns, sums = math.prod(out.shape[1:]), out.astype(computed(out.dtype), copy=False)
    launch("index_add", "index_add", blocks(updates.size), THREADS, sums, index, updates, index.size, columns, len(out))
    if sums is not out:
        out[...] = sums
    return out
