"""Recurrent layers. Parameter names are PyTorch's."""
from .. import ops
from ..backend import xp
from ..tensor import Tensor
from .layers import uniform
from .module import Module


class GRUCell(Module):
    """`gru_cell`: (N, input_size) and the state (N, hidden_size) to the next state."""

    def __init__(self, input_size, hidden_size, bias=True):
        self.hidden_size = hidden_size
        self.weight_ih, self.weight_hh = (uniform((3 * hidden_size, n), hidden_size) for n in (input_size, hidden_size))
        self.bias_ih, self.bias_hh = (uniform((3 * hidden_size,), hidden_size) if bias else None for _ in range(2))

    def forward(self, x, h=None):
        h = _zeros(x, x.shape[0], self.hidden_size) if h is None else h
        return ops.gru_cell(x, h, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)


class GRU(Module):
    """Layers of `gru` on top of each other, with parameters weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, ...

    Args:
        batch_first: sequences are (N, L, features) instead of (L, N, features).
        bidirectional: a second unit of each layer reads backwards, and its states stand beside the first one's.
    """

    def __init__(self, input_size, hidden_size, num_layers=1, bias=True, batch_first=False, bidirectional=False):
        self.hidden_size, self.num_layers, self.batch_first = hidden_size, num_layers, batch_first
        self.suffixes = ["", "_reverse"] if bidirectional else [""]
        for layer in range(num_layers):
            inputs = hidden_size * len(self.suffixes) if layer else input_size
            for suffix in self.suffixes:
                for name, n in (("ih", inputs), ("hh", hidden_size)):
                    setattr(self, f"weight_{name}_l{layer}{suffix}", uniform((3 * hidden_size, n), hidden_size))
                for name in ("ih", "hh"):
                    setattr(self, f"bias_{name}_l{layer}{suffix}", uniform((3 * hidden_size,), hidden_size) if bias else None)

    def forward(self, x, h=None):
        """
        Args:
            x: (L, N, input_size).
            h: (num_layers directions, N, hidden_size), the states at the start; zeros if None.

        Returns:
            the last layer's states, (L, N, hidden_size directions), and all last states, like h.
        """
        x = x if isinstance(x, Tensor) else Tensor(x)
        x = x.swapaxes(0, 1) if self.batch_first else x
        directions = len(self.suffixes)
        h = _zeros(x, self.num_layers * directions, x.shape[1], self.hidden_size) if h is None else h
        last = []
        for layer in range(self.num_layers):
            states = []
            for i, suffix in enumerate(self.suffixes):
                names = "weight_ih", "weight_hh", "bias_ih", "bias_hh"
                parts = [vars(self)[f"{name}_l{layer}{suffix}"] for name in names]
                y, end = ops.gru(x, h[layer * directions + i], *parts, reverse=suffix != "")
                states.append(y)
                last.append(end)
            x = states[0] if directions == 1 else ops.concatenate(states, 2)
        return (x.swapaxes(0, 1) if self.batch_first else x), ops.stack(last)


def _zeros(like, *shape):
    return Tensor(xp(like._array).zeros(shape, like.dtype))
