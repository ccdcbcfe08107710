"""Gated recurrent units (Cho et al. 2014, arXiv:1406.1078), with PyTorch's form of the candidate."""
from __future__ import annotations

from ..tensor import Tensor, TensorLike, as_tensor
from .declare import operation
from .elementwise import sigmoid, tanh
from .products import matmul
from .shape import stack


def _gates(gx, h, weight_hh, bias_hh):
    """One step from h (N, H), given the input's part of the three gates, gx (N, 3 H)."""
    size = h.shape[-1]
    gh = matmul(h, weight_hh.T)
    gh = gh if bias_hh is None else gh + bias_hh
    reset_update = sigmoid(gx[:, :2 * size] + gh[:, :2 * size])
    reset, update = reset_update[:, :size], reset_update[:, size:]
    candidate = tanh(gx[:, 2 * size:] + reset * gh[:, 2 * size:])
    return candidate + update * (h - candidate)


def _tensors(x, h, weight_ih, weight_hh, *biases):
    """All as Tensors; a bias may be None."""
    return *map(as_tensor, (x, h, weight_ih, weight_hh)), *[b if b is None else as_tensor(b) for b in biases]


def _check_parameters(name, inputs, size, weight_ih, weight_hh, bias_ih, bias_hh):
    """ValueError if a parameter has not the shape that a state of `size` numbers wants."""
    wanted = dict(weight_ih=(3 * size, inputs), weight_hh=(3 * size, size), bias_ih=(3 * size,), bias_hh=(3 * size,))
    for (argument, shape), given in zip(wanted.items(), (weight_ih, weight_hh, bias_ih, bias_hh)):
        if given is not None and given.shape != shape:
            raise ValueError(f"{name}: {argument} of shape {shape} wanted for a state of {size}, got {given.shape}")


@operation
def gru_cell(x: TensorLike, h: TensorLike, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor | None = None,
             bias_hh: Tensor | None = None) -> Tensor:
    """One step of a gated recurrent unit.

        r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)        z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)
        n = tanh(W_in x + b_in + r (W_hn h + b_hn))       h' = (1 - z) n + z h

    Args:
        x: (N, inputs).
        h: (N, H), the state before.
        weight_ih, weight_hh: (3 H, inputs) and (3 H, H), the rows of r, z and n below each other.
        bias_ih, bias_hh: (3 H,) or None.
    """
    x, h, weight_ih, weight_hh, bias_ih, bias_hh = _tensors(x, h, weight_ih, weight_hh, bias_ih, bias_hh)
    if x.ndim != 2 or h.ndim != 2 or len(x) != len(h):
        raise ValueError(f"gru_cell: x (N, inputs) and h (N, H) wanted, got {x.shape} and {h.shape}")
    _check_parameters("gru_cell", x.shape[1], h.shape[1], weight_ih, weight_hh, bias_ih, bias_hh)
    gx = matmul(x, weight_ih.T)
    return _gates(gx if bias_ih is None else gx + bias_ih, h, weight_hh, bias_hh)


@operation
def gru(x: TensorLike, h: TensorLike, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor | None = None,
        bias_hh: Tensor | None = None, reverse: bool = False) -> tuple[Tensor, Tensor]:
    """A gated recurrent unit run over a sequence x (L, N, inputs) from the state h (N, H).

    Returns:
        the states after each step, (L, N, H), and the last one, (N, H). With `reverse` time runs backwards.
    """
    x, h, weight_ih, weight_hh, bias_ih, bias_hh = _tensors(x, h, weight_ih, weight_hh, bias_ih, bias_hh)
    if x.ndim != 3 or h.ndim != 2 or x.shape[1] != h.shape[0]:
        raise ValueError(f"gru: x (L, N, inputs) and h (N, H) wanted, got {x.shape} and {h.shape}")
    if not len(x):
        raise ValueError("gru: the sequence has no steps")
    _check_parameters("gru", x.shape[2], h.shape[1], weight_ih, weight_hh, bias_ih, bias_hh)
    gx = matmul(x, weight_ih.T)  # of all steps at once
    gx = gx if bias_ih is None else gx + bias_ih
    states, parts = [None] * len(x), tuple(gx)
    for t in reversed(range(len(x))) if reverse else range(len(x)):
        states[t] = h = _gates(parts[t], h, weight_hh, bias_hh)
    return stack(states), h
