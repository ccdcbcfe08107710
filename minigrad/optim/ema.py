"""Moving averages of the parameters."""
import numpy as np

from ..backend import execution, is_float, xp
from ..nn import Module
from ..tensor import flag
from .optimizer import instance, matching, number
from .update import run_update


class EMA:
    """An exponential moving average of a module's parameters and buffers: average = decay average + (1 - decay) value.

    With `warmup` the decay of update number t is at most 1 - 1/(t + 1), so that the initial values fade (Tarvainen and
    Valpola 2017). Buffers of whole numbers are copied. A parameter that stands in several places is averaged under each name.

    Attributes:
        average: {name: array} as in the module's `state_dict()`.
        updates: how many updates there were.

    Raises:
        TypeError, ValueError: `module` is no Module, or has an array called "updates", or `decay` is no number in [0, 1).
    """

    def __init__(self, module: Module, decay: float = 0.999, warmup: bool = True):
        instance(module, Module, "EMA: module")
        self.module, self.decay, self.updates = module, number(decay, "EMA: decay", below=1), 0
        self.warmup = flag("EMA", "warmup", warmup)
        self.average = module.state_dict()
        if "updates" in self.average:
            raise ValueError("EMA: the module has an array called 'updates', the name of a number in this one's state: choose "
                             "another")

    def update(self) -> None:
        """Moves the average towards the module's present values; to be called after the optimiser's step.

        Raises:
            ValueError: the module has got other arrays, or of other shapes.
        """
        state = self.module._state()
        changed = sorted(state.keys() ^ self.average.keys())
        if changed := changed or [name for name, value in state.items() if value.shape != self.average[name].shape]:
            raise ValueError(f"EMA.update: the module has other arrays than when this was made ({', '.join(changed)}): make "
                             "another")
        execution.per_replay(self._count, np.int32)
        pairs = [(self.average[name], value) for name, value in state.items()]
        for average, value in pairs:
            if not is_float(average.dtype):
                average[...] = value
        run_update("ema_step", _moved, [pair for pair in pairs if is_float(pair[0].dtype)],
                   lambda dtype: (execution.per_replay(self._decay, dtype),), "EMA")

    def _count(self):
        self.updates += 1
        return self.updates

    def _decay(self):
        """The decay of update number `updates`."""
        return min(self.decay, 1 - 1 / (self.updates + 1)) if self.warmup else self.decay

    def copy_to(self, module: Module) -> None:
        """Puts the average into a module of the same structure. TypeError if it is no Module."""
        instance(module, Module, "EMA.copy_to: module")
        module.load_state_dict(self.average)

    def state_dict(self) -> dict[str, np.ndarray]:
        """A dict from names to arrays, copied."""
        return {name: value.copy() for name, value in self.average.items()} | {"updates": np.array(self.updates)}

    def load_state_dict(self, state: dict) -> None:
        """Puts back what `state_dict` returned.

        Raises:
            TypeError: `state` is no dict; KeyError: names are missing or unknown; ValueError: a shape differs. Nothing is
                changed then.
        """
        arrays = matching("EMA.load_state_dict", state, self.average, ["updates"])
        self.updates = arrays.pop("updates")
        for name, value in arrays.items():
            self.average[name][...] = value


def _moved(average, value, decay):
    module = xp(average)
    kept = module.where(module.isfinite(average), average, average.dtype.type(0))  # infinity less itself is not a number
    average += average.dtype.type(1 - decay) * (value - kept)
