"""Recurrent units over whole sequences; see `recurrent.cu`. Definitions: minigrad/ops/recurrent.py.

At each time there is one product, and one launch that makes of it the gates and the next states, or gradients. gx
(L, N, gates H) is the input's part of the gates; states are (N, H), weights (gates H, H). Arrays are on the GPU, in C order, of
float32 or float64.
"""
from .. import xp
from ..shared_paths import weight_gradient
from .elementwise import blocks, column_sum, THREADS
from .launch import empty, empty_like, in_any_order, launch
from .matmul import matmul


@in_any_order
def rnn(gx, h, weight, rectified, reverse):
    """The states h' of all times (L, N, H): tanh of the sums, or their positive part if `rectified`."""
    y, weight = empty_like(gx), weight.T
    for t in _times(gx, reverse):
        sums, h = matmul(h, weight), y[t]
        _launched("rnn_forward", sums, gx[t], h, h.size, rectified)
    return y


@in_any_order
def rnn_backward(dy, h, weight, y, rectified, reverse):
    """The gradients of `rnn` in gx, h and the weights."""
    dgx, dh = empty_like(y), None
    for t in _times(y, not reverse):
        dsums = dgx[t]
        _launched("rnn_backward", dh, dy[t], y[t], dsums, h.size, rectified)
        dh = matmul(dsums, weight)
    return dgx, dh, weight_gradient(matmul, dgx, h, y, reverse)


@in_any_order
def lstm(gx, h, c, weight, reverse):
    """The states h' of all times (L, N, H), the last cells c'; and the cells and gates of all times."""
    shape, weight = (len(gx), *h.shape), weight.T
    y, cells, gates = empty(shape, gx.dtype), empty(shape, gx.dtype), empty_like(gx)
    for t in _times(gx, reverse):
        sums, h, before, c = matmul(h, weight), y[t], c, cells[t]
        _launched("lstm_forward", sums, gx[t], before, gates[t], c, h, h.size, h.shape[1])
    return y, c.copy(), cells, gates


@in_any_order
def lstm_backward(dy, dc, h, c, weight, y, cells, gates, reverse):
    """The gradients of `lstm` in gx, h, c and the weights. dy or dc may be None."""
    dgates, dh, dc = empty_like(gates), None, xp(c).zeros_like(c) if dc is None else dc.copy()
    for t, before, cell in _backwards(c, cells, reverse):
        dsums = dgates[t]
        _launched("lstm_backward", dh, None if dy is None else dy[t], before, gates[t], cell, dc, dsums, h.size, h.shape[1])
        dh = matmul(dsums, weight)
    return dgates, dh, dc, weight_gradient(matmul, dgates, h, y, reverse)


@in_any_order
def gru(gx, h, weight, bias, reverse):
    """The states h' of all times (L, N, H); and the gates and what r is multiplied by. The bias may be None."""
    shape, weight = (len(gx), *h.shape), weight.T
    y, gates, hidden = empty(shape, gx.dtype), empty_like(gx), empty(shape, gx.dtype)
    for t in _times(gx, reverse):
        sums, before, h = matmul(h, weight), h, y[t]
        _launched("gru_forward", sums, bias, gx[t], before, gates[t], hidden[t], h, h.size, h.shape[1])
    return y, gates, hidden


@in_any_order
def gru_backward(dy, h, weight, y, gates, hidden, reverse):
    """The gradients of `gru` in gx, h, the weights and the bias."""
    dgx, dsums, dh, past = empty_like(gates), empty_like(gates), None, empty_like(h)
    for t, before, _ in _backwards(h, y, reverse):
        added = dsums[t]
        _launched("gru_backward", dh, dy[t], before, gates[t], hidden[t], past, dgx[t], added, h.size, h.shape[1])
        dh = matmul(added, weight)
    return dgx, dh + past, weight_gradient(matmul, dsums, h, y, reverse), column_sum(dsums.reshape(-1, dsums.shape[-1]))


def _launched(kernel, *arguments):
    """A thread for each number of the states; their number is the last argument but one."""
    launch("recurrent", kernel, blocks(arguments[-2]), THREADS, *arguments)


def _times(sequence, reverse):
    return range(len(sequence))[::-1] if reverse else range(len(sequence))


def _backwards(first, states, reverse):
    """From the last time to the first: each time, the state before it and the one after it."""
    times = _times(states, reverse)
    after = states[times[-1]]
    for s in reversed(range(len(times))):
        before = states[times[s - 1]] if s else first
        yield times[s], before, after
        after = before
