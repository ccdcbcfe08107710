"""What all optimisers share: parameters and their state, and the choice of what carries out a step."""
import numpy as np

from .. import backend
from ..backend import fresh, is_half, path, xp
from ..recording import mark_changed


class Optimizer:
    """Common to all: the parameters, their state arrays by name, the number of steps taken."""

    slots = ()  # names of the arrays kept for each parameter
    update_all = None  # of optimisers with a CUDA kernel: `update` of many parameters of one dtype in one launch

    def __init__(self, params, lr):
        self.params = list(params)
        if not self.params:
            raise ValueError(f"{type(self).__name__}: no parameters to optimise")
        if lr < 0:
            raise ValueError(f"{type(self).__name__}: learning rate {lr} is negative")
        self.lr, self.steps = lr, 0
        self.state = {name: [xp(p._array).zeros_like(p._array) for p in self.params] for name in self.slots}

    def step(self):
        """One update of every parameter that has a gradient."""
        many = [(p._array, p.grad._array, *[self.state[name][i] for name in self.slots])
                for i, p in enumerate(self.params) if p.grad is not None]
        for p, *_ in many:
            mark_changed(p)
        number = fresh(self._count, np.int32)
        together, others = by_kernel(type(self).__name__, many, self.update_all is not None)
        for arrays in others:
            self.update(*arrays)
        for dtype, arrays in together.items():
            self.update_all(fresh(lambda: self.lr, dtype), number, *arrays)

    def _count(self):
        self.steps += 1
        return self.steps

    def zero_grad(self):
        """Forgets the gradients."""
        for p in self.params:
            p.grad = None

    def state_dict(self):
        """A dict from names to arrays: the number of steps and the state, copied."""
        arrays = {f"{name}.{i}": a.copy() for name, many in self.state.items() for i, a in enumerate(many)}
        return arrays | {"steps": np.array(self.steps), "lr": np.array(self.lr)}

    def load_state_dict(self, state):
        """Puts back what `state_dict` returned. KeyError if it is another optimiser's."""
        for name, many in self.state.items():
            for i, a in enumerate(many):
                a[...] = xp(a).asarray(state[f"{name}.{i}"])
        self.steps, self.lr = int(state["steps"]), float(state["lr"])


def by_kernel(name, many, exists=True):
    """What the kernels take of a list of tuples of arrays, the second of which is only read: ({dtype: lists}, the rest).

    RuntimeError if there is a rest while a step is being captured, whose learning rate could not change any more.
    """
    together, others = {}, []
    for arrays in many:
        fits = (exists and path(*arrays) == "cuda" and not is_half(arrays[0].dtype)  # which optimiser.cu does not know
                and all(a.flags.c_contiguous for a in arrays[:1] + arrays[2:]))
        (together.setdefault(arrays[0].dtype, []) if fits else others).append(arrays)
    if others and backend.capturing is not None:
        raise RuntimeError(f"{name}: a step on parameters like {others[0][0].dtype}{list(others[0][0].shape)} has no CUDA "
                           "kernel, so it cannot be captured")
    return {dtype: [list(arrays) for arrays in zip(*group)] for dtype, group in together.items()}, others


def trust(p, direction):
    """|p| / |direction|, and 1 where either is 0; stays on the device of `p`."""
    module = xp(p)
    a, b = module.sqrt((p * p).sum()), module.sqrt((direction * direction).sum())
    return module.where((a > 0) & (b > 0), a / module.where(b > 0, b, 1), 1).astype(p.dtype)
