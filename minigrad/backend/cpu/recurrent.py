"""Recurrent units over whole sequences; see `recurrent.c`. Definitions: minigrad/ops/recurrent.py.

gx (L, N, gates H) is the input's part of the gates; states are (N, H), weights (gates H, H).
"""
import numpy as np

from ..shared_paths import weight_gradient
from .declarations import constant
from .memory import empty
from .native import kernel
from .products import product
from .rows import column_sums

WIDEST = 2 * constant("kernels.h", "LANES")  # PANEL, of any processor


def rnn(gx, h, weight, rectified, reverse):
    """The states h' of all times (L, N, H): tanh of the sums, or their positive part if `rectified`."""
    y = empty(gx.shape)
    kernel("rnn")(*map(np.ascontiguousarray, (gx, h, weight)), _panels(weight), y, *y.shape, rectified, reverse)
    return y


def rnn_backward(dy, h, weight, y, rectified, reverse):
    """The gradients of `rnn` in gx, h and the weights."""
    dgx, dh = empty(y.shape), empty(h.shape)
    kernel("rnn_backward")(*map(np.ascontiguousarray, (dy, weight)), _panels(weight.T), y, dgx, dh, *y.shape, rectified, reverse)
    return dgx, dh, weight_gradient(product, dgx, h, y, reverse)


def lstm(gx, h, c, weight, reverse):
    """The states h' of all times (L, N, H), the last cells c'; and the cells and gates of all times."""
    y, cells, gates = empty((*gx.shape[:2], h.shape[1])), empty((*gx.shape[:2], h.shape[1])), empty(gx.shape)
    kernel("lstm")(*map(np.ascontiguousarray, (gx, h, c, weight)), _panels(weight), y, cells, gates, *y.shape, reverse)
    return y, cells[0 if reverse else -1].copy(), cells, gates


def lstm_backward(dy, dc, h, c, weight, y, cells, gates, reverse):
    """The gradients of `lstm` in gx, h, c and the weights. dy or dc may be None."""
    dgates, dh = empty(gates.shape), empty(h.shape)
    dc = np.zeros(c.shape, c.dtype) if dc is None else np.array(dc, order="C")
    kernel("lstm_backward")(None if dy is None else np.ascontiguousarray(dy), *map(np.ascontiguousarray, (c, weight)),
                            _panels(weight.T), cells, gates, dgates, dh, dc, *y.shape, reverse)
    return dgates, dh, dc, weight_gradient(product, dgates, h, y, reverse)


def gru(gx, h, weight, bias, reverse):
    """The states h' of all times (L, N, H); and the gates and what r is multiplied by. The bias may be None."""
    y, gates, hidden = empty((*gx.shape[:2], h.shape[1])), empty(gx.shape), empty((*gx.shape[:2], h.shape[1]))
    kernel("gru")(*[None if a is None else np.ascontiguousarray(a) for a in (gx, h, weight, bias)], _panels(weight), y, gates,
                  hidden, *y.shape, reverse)
    return y, gates, hidden


def gru_backward(dy, h, weight, y, gates, hidden, reverse):
    """The gradients of `gru` in gx, h, the weights and the bias."""
    dgx, dsums, dh = empty(gates.shape), empty(gates.shape), empty(h.shape)
    kernel("gru_backward")(*map(np.ascontiguousarray, (dy, h, weight)), _panels(weight.T), y, gates, hidden, dgx, dsums, dh,
                           *y.shape, reverse)
    return dgx, dh, weight_gradient(product, dsums, h, y, reverse), column_sums(dsums.reshape(-1, dsums.shape[-1]))


def _panels(weight):
    """Memory for packed weights (outputs, inputs), enough for panels of any width."""
    outputs, inputs = weight.shape
    return empty((outputs + WIDEST - 1) * inputs)
