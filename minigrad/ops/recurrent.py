"""Recurrent units: Elman's (Elman 1990); gated ones (Cho et al. 2014, arXiv:1406.1078), with PyTorch's form of the candidate;
long short-term memory (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000).

The input's part of the gates, gx, is one product for all times. The rest runs over the sequence: `_rnn`, `_gru`, `_lstm`.
"""
from __future__ import annotations

from ..fused import Fused, rounded_like
from ..tensor import Tensor, TensorLike, as_tensor, flag
from .declare import operation
from .elementwise import relu, sigmoid, tanh
from .geometry import one_of
from .projection import linear
from .shape import stack

NONLINEARITIES = "tanh", "relu"  # of Elman's unit


def _times(gx, reverse):
    return reversed(range(len(gx))) if reverse else range(len(gx))


def _rnn(gx, h, weight_hh, rectified, reverse):
    """The states after each step (L, N, H) from h (N, H), for gx (L, N, H)."""
    f, states, parts = relu if rectified else tanh, [None] * len(gx), tuple(gx)
    for t in _times(gx, reverse):
        states[t] = h = f(parts[t] + linear(h, weight_hh))
    return stack(states)


def _gru(gx, h, weight_hh, *bias_hh, reverse):
    """The states after each step (L, N, H) from h (N, H), for gx (L, N, 3 H): r, z and n."""
    size, states, parts = h.shape[-1], [None] * len(gx), tuple(gx)
    for t in _times(gx, reverse):
        gh = linear(h, weight_hh, *bias_hh)
        reset_update = sigmoid(parts[t][:, :2 * size] + gh[:, :2 * size])
        reset, update = reset_update[:, :size], reset_update[:, size:]
        candidate = tanh(parts[t][:, 2 * size:] + reset * gh[:, 2 * size:])
        states[t] = h = candidate + update * (h - candidate)
    return stack(states)


def _lstm(gx, h, c, weight_hh, reverse):
    """The states h after each step (L, N, H), and the last cell c, from h and c (N, H), for gx (L, N, 4 H): i, f, g and o."""
    size, states, parts = h.shape[-1], [None] * len(gx), tuple(gx)
    for t in _times(gx, reverse):
        gates = parts[t] + linear(h, weight_hh)
        keep = sigmoid(gates[:, :2 * size])
        c = keep[:, size:] * c + keep[:, :size] * tanh(gates[:, 2 * size:3 * size])
        states[t] = h = sigmoid(gates[:, 3 * size:]) * tanh(c)
    return stack(states), c


_fused_rnn, _fused_gru, _fused_lstm = Fused("rnn", _rnn), Fused("gru", _gru), Fused("lstm", _lstm)


def _checked(name, gates, x, states, weight_ih, weight_hh, bias_ih, bias_hh):
    """All as Tensors, a bias or None; x as a sequence. TypeError: what is none; ValueError: shapes that do not fit."""
    x, *states = map(as_tensor, (x, *states))
    sequence = not name.endswith("_cell")
    if x.ndim != 2 + sequence or any(s.ndim != 2 or s.shape != states[0].shape for s in states) \
            or x.shape[-2] != len(states[0]):
        raise ValueError(f"{name}: x {'(L, N, inputs)' if sequence else '(N, inputs)'} and {' and '.join('hc'[:len(states)])} "
                         f"(N, H) wanted, got {', '.join(str(a.shape) for a in (x, *states))}")
    if not len(x) and sequence:
        raise ValueError(f"{name}: the sequence has no steps")
    size, parameters = states[0].shape[1], []
    wanted = dict(weight_ih=(gates * size, x.shape[-1]), weight_hh=(gates * size, size), bias_ih=(gates * size,),
                  bias_hh=(gates * size,))
    for (argument, shape), given in zip(wanted.items(), (weight_ih, weight_hh, bias_ih, bias_hh)):
        given = None if given is None and argument.startswith("bias") else as_tensor(given)
        parameters.append(given)
        if given is not None and given.shape != shape:
            raise ValueError(f"{name}: {argument} of shape {shape} wanted for a state of {size}, got {given.shape}")
    return x if sequence else x.reshape(1, *x.shape), *states, *parameters


def _together(a, b):
    """The sum of two biases, each of which may be None."""
    return b if a is None else a if b is None else a + b


def _run_rnn(nonlinearity, reverse, x, h, weight_ih, weight_hh, bias_ih, bias_hh):
    rectified = nonlinearity == "relu"
    return _fused_rnn(linear(x, weight_ih, _together(bias_ih, bias_hh)), h, weight_hh, rectified=rectified, reverse=reverse)


def _run_gru(reverse, x, h, weight_ih, weight_hh, bias_ih, bias_hh):
    return _fused_gru(linear(x, weight_ih, bias_ih), h, weight_hh, *[] if bias_hh is None else [bias_hh], reverse=reverse)


def _run_lstm(reverse, x, h, c, weight_ih, weight_hh, bias_ih, bias_hh):
    y, c = _fused_lstm(linear(x, weight_ih, _together(bias_ih, bias_hh)), h, c, weight_hh, reverse=reverse)
    return y, rounded_like(c, y)


@operation
def rnn_cell(x: TensorLike, h: TensorLike, weight_ih: TensorLike, weight_hh: TensorLike, bias_ih: TensorLike | None = None,
             bias_hh: TensorLike | None = None, nonlinearity: str = "tanh") -> Tensor:
    """One step of Elman's recurrent unit, h' = f(W_ih x + b_ih + W_hh h + b_hh).

    Args:
        x: (N, inputs).
        h: (N, H), the state before.
        weight_ih, weight_hh: (H, inputs) and (H, H).
        bias_ih, bias_hh: (H,) or None.
        nonlinearity: f, "tanh" or "relu".

    Raises:
        ValueError: shapes that do not fit, or another nonlinearity.
    """
    one_of("rnn_cell", "nonlinearity", nonlinearity, NONLINEARITIES)
    return _run_rnn(nonlinearity, False, *_checked("rnn_cell", 1, x, [h], weight_ih, weight_hh, bias_ih, bias_hh))[0]


@operation
def rnn(x: TensorLike, h: TensorLike, weight_ih: TensorLike, weight_hh: TensorLike, bias_ih: TensorLike | None = None,
        bias_hh: TensorLike | None = None, nonlinearity: str = "tanh", reverse: bool = False) -> tuple[Tensor, Tensor]:
    """Elman's recurrent unit (see `rnn_cell`) run over a sequence x (L, N, inputs) from the state h (N, H).

    Returns:
        the states after each step, (L, N, H), and the last one, (N, H). With `reverse` time runs backwards.
    """
    one_of("rnn", "nonlinearity", nonlinearity, NONLINEARITIES)
    reverse = flag("rnn", "reverse", reverse)
    y = _run_rnn(nonlinearity, reverse, *_checked("rnn", 1, x, [h], weight_ih, weight_hh, bias_ih, bias_hh))
    return y, y[0 if reverse else -1]


@operation
def gru_cell(x: TensorLike, h: TensorLike, weight_ih: TensorLike, weight_hh: TensorLike, bias_ih: TensorLike | None = None,
             bias_hh: TensorLike | None = None) -> Tensor:
    """One step of a gated recurrent unit.

        r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)        z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)
        n = tanh(W_in x + b_in + r (W_hn h + b_hn))       h' = (1 - z) n + z h

    Args:
        x: (N, inputs).
        h: (N, H), the state before.
        weight_ih, weight_hh: (3 H, inputs) and (3 H, H), the rows of r, z and n below each other.
        bias_ih, bias_hh: (3 H,) or None.

    Raises:
        ValueError: shapes that do not fit.
    """
    return _run_gru(False, *_checked("gru_cell", 3, x, [h], weight_ih, weight_hh, bias_ih, bias_hh))[0]


@operation
def gru(x: TensorLike, h: TensorLike, weight_ih: TensorLike, weight_hh: TensorLike, bias_ih: TensorLike | None = None,
        bias_hh: TensorLike | None = None, reverse: bool = False) -> tuple[Tensor, Tensor]:
    """A gated recurrent unit (see `gru_cell`) run over a sequence x (L, N, inputs) from the state h (N, H).

    Returns:
        the states after each step, (L, N, H), and the last one, (N, H). With `reverse` time runs backwards.
    """
    reverse = flag("gru", "reverse", reverse)
    y = _run_gru(reverse, *_checked("gru", 3, x, [h], weight_ih, weight_hh, bias_ih, bias_hh))
    return y, y[0 if reverse else -1]


@operation
def lstm_cell(x: TensorLike, h: TensorLike, c: TensorLike, weight_ih: TensorLike, weight_hh: TensorLike,
              bias_ih: TensorLike | None = None, bias_hh: TensorLike | None = None) -> tuple[Tensor, Tensor]:
    """One step of a long short-term memory.

        i, f, o = sigmoid(W x + b + V h + d), a W, b, V and d for each        g = tanh(W_g x + b_g + V_g h + d_g)
        c' = f c + i g                                                        h' = o tanh(c')

    Args:
        x: (N, inputs).
        h, c: (N, H), the state before.
        weight_ih, weight_hh: (4 H, inputs) and (4 H, H): all W and all V, the rows of i, f, g and o below each other.
        bias_ih, bias_hh: (4 H,) or None: all b and all d.

    Returns:
        h' and c', each (N, H).

    Raises:
        ValueError: shapes that do not fit.
    """
    y, c = _run_lstm(False, *_checked("lstm_cell", 4, x, [h, c], weight_ih, weight_hh, bias_ih, bias_hh))
    return y[0], c


@operation
def lstm(x: TensorLike, h: TensorLike, c: TensorLike, weight_ih: TensorLike, weight_hh: TensorLike,
         bias_ih: TensorLike | None = None, bias_hh: TensorLike | None = None,
         reverse: bool = False) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """A long short-term memory (see `lstm_cell`) run over a sequence x (L, N, inputs) from the state h and c, each (N, H).

    Returns:
        the states h after each step, (L, N, H), and the last (h, c). With `reverse` time runs backwards.
    """
    reverse = flag("lstm", "reverse", reverse)
    y, c = _run_lstm(reverse, *_checked("lstm", 4, x, [h, c], weight_ih, weight_hh, bias_ih, bias_hh))
    return y, (y[0 if reverse else -1], c)
