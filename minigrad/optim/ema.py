"""Moving averages of the parameters."""
import numpy as np

from ..backend import fresh, is_float, xp
from .optimizer import by_kernel


class EMA:
    """An exponential moving average of a module's parameters and buffers: average = decay average + (1 - decay) value.

    With `warmup` the decay of update number t is at most 1 - 1/(t + 1), so that the initial values fade (Tarvainen and
    Valpola 2017). Buffers of whole numbers are copied.
    """

    def __init__(self, module, decay=0.999, warmup=True):
        if not 0 <= decay < 1:
            raise ValueError(f"EMA: decay must be in [0, 1), not {decay}")
        self.module, self.decay, self.warmup, self.updates = module, decay, warmup, 0
        self.average = module.state_dict()

    def update(self):
        """Moves the average towards the module's present values; to be called after the optimiser's step."""
        fresh(self._count, np.int32)
        now = {name: p._array for name, p in self.module.named_parameters()} | dict(self.module.named_buffers())
        pairs = [(self.average[name], value) for name, value in now.items()]
        for average, value in pairs:
            if not is_float(average.dtype):
                average[...] = value
        together, others = by_kernel("EMA", [pair for pair in pairs if is_float(pair[0].dtype)])
        for average, value in others:
            average += average.dtype.type(1 - self._decay()) * (value - average)
        for dtype, (averages, values) in together.items():
            from ..backend import cuda
            cuda.ema_step(averages, values, fresh(self._decay, dtype))

    def _count(self):
        self.updates += 1
        return self.updates

    def _decay(self):
        """The decay of update number `updates`."""
        return min(self.decay, 1 - 1 / (self.updates + 1)) if self.warmup else self.decay

    def copy_to(self, module):
        """Puts the average into a module of the same structure."""
        module.load_state_dict(self.average)

    def state_dict(self):
        """A dict from names to arrays, copied."""
        return {name: value.copy() for name, value in self.average.items()} | {"updates": np.array(self.updates)}

    def load_state_dict(self, state):
        """Puts back what `state_dict` returned."""
        for name, value in self.average.items():
            value[...] = xp(value).asarray(state[name])
        self.updates = int(state["updates"])
