"""Recurrent layers. Parameter names and the order of the gates are PyTorch's."""
from .. import ops
from ..backend import xp
from ..ops.geometry import constant, one_of
from ..ops.recurrent import NONLINEARITIES
from ..tensor import Tensor, as_tensor
from .layers import flags, sizes, uniform
from .module import Module


class _Cell(Module):
    """One step of a recurrent unit of `gates` gates."""

    gates = 0

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True):
        input_size, hidden_size = sizes(self, input_size=input_size, hidden_size=hidden_size)
        (bias,) = flags(self, bias=bias)
        rows = self.gates * hidden_size
        self.hidden_size = hidden_size
        self.weight_ih, self.weight_hh = (uniform((rows, n), hidden_size) for n in (input_size, hidden_size))
        self.bias_ih, self.bias_hh = (uniform((rows,), hidden_size) if bias else None for _ in range(2))

    def _step(self, x, state, parts):
        """The input (N, input_size) and the `parts` of the state as Tensors, and whether there was one input without N."""
        x, width = as_tensor(x), self.weight_ih.shape[1]
        if x.ndim not in (1, 2) or x.shape[-1] != width:
            raise ValueError(f"{type(self).__name__}: an input (N, {width}) or ({width},) wanted, got shape {x.shape}")
        state = _states(self, x, (*x.shape[:-1], self.hidden_size), state, parts)
        one = x.ndim == 1
        return (x[None], [s[None] for s in state], one) if one else (x, state, one)


class RNNCell(_Cell):
    """One step of Elman's unit, `rnn_cell`: (N, input_size) and the state (N, hidden_size), zeros if None, to the next state.

    All cells take a single input (input_size,), too, with states (hidden_size,).
    """

    gates = 1

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh"):
        super().__init__(input_size, hidden_size, bias)
        self.nonlinearity = one_of("RNNCell", "nonlinearity", nonlinearity, NONLINEARITIES)

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        x, (h,), one = self._step(x, None if h is None else (h,), 1)
        h = ops.rnn_cell(x, h, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh, self.nonlinearity)
        return h[0] if one else h


class GRUCell(_Cell):
    """One step of a gated recurrent unit, `gru_cell`: (N, input_size) and the state (N, hidden_size) to the next state."""

    gates = 3

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        x, (h,), one = self._step(x, None if h is None else (h,), 1)
        h = ops.gru_cell(x, h, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        return h[0] if one else h


class LSTMCell(_Cell):
    """One step of a long short-term memory, `lstm_cell`."""

    gates = 4

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """(N, input_size) and the state (h, c), each (N, hidden_size) or zeros if None, to the next state (h', c')."""
        x, (h, c), one = self._step(x, state, 2)
        h, c = ops.lstm_cell(x, h, c, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        return (h[0], c[0]) if one else (h, c)


class _Recurrent(Module):
    """What the recurrent layers have in common: parameters, layers, directions."""

    gates = 0

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
                 *, dropout: float = 0.0, bidirectional: bool = False):
        input_size, hidden_size = sizes(self, input_size=input_size, hidden_size=hidden_size)
        (num_layers,) = sizes(self, 1, num_layers=num_layers)
        bias, batch_first, bidirectional = flags(self, bias=bias, batch_first=batch_first, bidirectional=bidirectional)
        self.hidden_size, self.num_layers, self.batch_first = hidden_size, num_layers, batch_first
        self.dropout = constant(type(self).__name__, "dropout", dropout, 0, 1)
        self.suffixes = ["", "_reverse"] if bidirectional else [""]
        rows = self.gates * hidden_size
        for layer in range(num_layers):
            inputs = hidden_size * len(self.suffixes) if layer else input_size
            for suffix in self.suffixes:
                for name, n in (("ih", inputs), ("hh", hidden_size)):
                    setattr(self, f"weight_{name}_l{layer}{suffix}", uniform((rows, n), hidden_size))
                for name in ("ih", "hh"):
                    setattr(self, f"bias_{name}_l{layer}{suffix}", uniform((rows,), hidden_size) if bias else None)

    def _unit(self, x, state, *parameters, reverse):
        """The outputs of one layer in one direction, (L, N, H), and the state after the last step."""
        raise NotImplementedError

    def _run(self, x, state, parts):
        """The last layer's outputs, and the `parts` of the last states, each (num_layers directions, N, H)."""
        x, directions, width = as_tensor(x), len(self.suffixes), self.weight_ih_l0.shape[1]
        if x.ndim not in (2, 3) or x.shape[-1] != width:
            raise ValueError(f"{type(self).__name__}: sequences of three axes wanted, "
                             f"({'N, L' if self.batch_first else 'L, N'}, {width}), or one (L, {width}), got shape {x.shape}")
        if x.ndim == 2:
            state = _states(self, x, (self.num_layers * directions, self.hidden_size), state, parts)
            y, last = self._run(x[None] if self.batch_first else x[:, None], [s[:, None] for s in state], parts)
            return y[0] if self.batch_first else y[:, 0], [s[:, 0] for s in last]
        x = x.swapaxes(0, 1) if self.batch_first else x
        shape = self.num_layers * directions, x.shape[1], self.hidden_size
        state = _states(self, x, shape, state, parts)
        last = []
        for layer in range(self.num_layers):
            if layer:
                x = ops.dropout(x, self.dropout, training=self.training)
            outputs = []
            for i, suffix in enumerate(self.suffixes):
                names = "weight_ih", "weight_hh", "bias_ih", "bias_hh"
                parameters = [getattr(self, f"{name}_l{layer}{suffix}") for name in names]
                y, end = self._unit(x, [s[layer * directions + i] for s in state], *parameters, reverse=suffix != "")
                outputs.append(y)
                last.append(end)
            x = outputs[0] if directions == 1 else ops.concatenate(outputs, 2)
        return (x.swapaxes(0, 1) if self.batch_first else x), [ops.stack(part) for part in zip(*last)]

    def forward(self, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The layers run over sequences.

        Args:
            x: (L, N, input_size); or one sequence (L, input_size), and there is no N in what follows.
            h: (num_layers directions, N, hidden_size), the states at the start; zeros if None.

        Returns:
            the last layer's states, (L, N, hidden_size directions), and all last states, like h.
        """
        y, (h,) = self._run(x, None if h is None else (h,), 1)
        return y, h


class RNN(_Recurrent):
    """Layers of `rnn` on top of each other.

    Args:
        nonlinearity: f, "tanh" or "relu". The other arguments, and the names of the parameters, are those of `GRU`.
    """

    gates = 1

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh", bias: bool = True,
                 batch_first: bool = False, *, dropout: float = 0.0, bidirectional: bool = False):
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout=dropout, bidirectional=bidirectional)
        self.nonlinearity = one_of("RNN", "nonlinearity", nonlinearity, NONLINEARITIES)

    def _unit(self, x, state, *parameters, reverse):
        y, h = ops.rnn(x, *state, *parameters, self.nonlinearity, reverse)
        return y, (h,)


class GRU(_Recurrent):
    """Layers of `gru` on top of each other, with parameters weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, ...

    Args:
        batch_first: sequences are (N, L, features) instead of (L, N, features).
        dropout: with this probability an output of a layer does not reach the next, in training.
        bidirectional: a second unit of each layer reads backwards, and its states stand beside the first one's.
    """

    gates = 3

    def _unit(self, x, state, *parameters, reverse):
        y, h = ops.gru(x, *state, *parameters, reverse=reverse)
        return y, (h,)


class LSTM(_Recurrent):
    """Layers of `lstm` on top of each other; arguments and names of parameters as of `GRU`."""

    gates = 4

    def _unit(self, x, state, *parameters, reverse):
        return ops.lstm(x, *state, *parameters, reverse=reverse)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The layers run over sequences.

        Args:
            x: (L, N, input_size); or one sequence (L, input_size), and there is no N in what follows.
            state: (h, c) at the start, each (num_layers directions, N, hidden_size); zeros if None.

        Returns:
            the last layer's h, (L, N, hidden_size directions), and the last state (h, c) of all layers.
        """
        y, (h, c) = self._run(x, state, 2)
        return y, (h, c)


def _states(layer, x, shape, state, parts):
    """The `parts` of a state as Tensors of a shape, zeros if it is None.

    Raises:
        TypeError: it has parts that are no numbers, or none; ValueError: another number of them, or other shapes.
    """
    wanted = f"{type(layer).__name__}: {['', 'a state', 'a pair of states'][parts]} of shape {shape} wanted, got"
    try:
        state = [Tensor(xp(x._array).zeros(shape, x.dtype))] * parts if state is None else [as_tensor(s) for s in state]
    except TypeError:
        kinds = [type(s).__name__ for s in state] if isinstance(state, (tuple, list)) else [type(state).__name__]
        raise TypeError(f"{wanted} {' and '.join(kinds)}") from None
    if [s.shape for s in state] != [shape] * parts:
        raise ValueError(f"{wanted} {[s.shape for s in state]}")
    return state
