"""Training in 16 bits."""
import numpy as np

from ..backend import in_float32, xp
from ..versions import check_writable, mark_changed
from ..tensor import Tensor, wrap
from .optimizer import gradient_of, instance, matching, number, Optimizer


class LossScaler:
    """Scales a loss up, so that small gradients do not vanish in float16, and skips steps whose gradients overflowed.

    Micikevicius et al. 2018, arXiv:1710.03740. The parameters stay float32, gradients come back through the conversion, and
    operations that sum (normalisation, softmax, attention, pooling, products) do so in float32 and round the result. With
    "bfloat16" for "float16" the same code needs no scaler: it has the range of float32, and fewer digits than float16.

        half = {name: p.astype("float16") for name, p in net.named_parameters()}
        logits = functional_call(net, half, x.astype("float16"))
        scaler.scaled(cross_entropy(logits.astype("float32"), labels)).backward()
        scaler.step(optimizer)

    Args:
        scale: the first factor.
        growth: it grows by this after `interval` steps without overflow.
        backoff: it shrinks by this at an overflow, down to 1.
        interval: a whole number of steps.

    Raises:
        TypeError, ValueError: scale, growth or interval are no numbers of at least 1, or backoff is none between 0 and 1.
    """

    def __init__(self, scale: float = 2.0**16, growth: float = 2.0, backoff: float = 0.5, interval: int = 2000):
        if number(backoff, "LossScaler: backoff", below=1) == 0:
            raise ValueError("LossScaler: backoff must be above 0")
        if number(interval, "LossScaler: interval", least=1) % 1:
            raise ValueError(f"LossScaler: interval must be a whole number, not {interval}")
        self.scale = number(scale, "LossScaler: scale", least=1)
        self.growth = number(growth, "LossScaler: growth", least=1)
        self.backoff, self.interval = backoff, interval
        self.good = 0  # steps since the last overflow or growth

    def scaled(self, loss: Tensor) -> Tensor:
        """`loss` times the present scale, to be differentiated. TypeError if it is no Tensor."""
        instance(loss, Tensor, "LossScaler.scaled: loss")
        return loss * self.scale

    def step(self, optimizer: Optimizer) -> bool:
        """Divides the gradients by the scale and takes a step, unless one is not finite. Returns whether it did.

        The host reads one number, so this cannot be part of a captured step.

        Raises:
            TypeError: `optimizer` is no Optimizer.
        """
        instance(optimizer, Optimizer, "LossScaler.step: optimizer")
        grads = [gradient_of("LossScaler.step", i, p) for i, p in enumerate(optimizer.params)
                 if p.grad is not None and p.requires_grad]
        with np.errstate(invalid="ignore", over="ignore"):
            total = sum((g * 0).sum(dtype=np.float32) for g in grads)  # 0, or NaN if anything is not finite
        if wrap(xp(total).asarray(total)).item() != 0:
            self.scale, self.good = max(self.scale * self.backoff, 1.0), 0
            return False
        for i, g in enumerate(grads):
            check_writable(f"LossScaler.step: gradient {i}", g)
        for g in grads:
            mark_changed(g)
            g[...] = _divided(g, by=self.scale)
        optimizer.step()
        self.good += 1
        if self.good >= self.interval:
            self.scale, self.good = self.scale * self.growth, 0
        return True

    def state_dict(self) -> dict[str, np.ndarray]:
        """A dict from names to arrays: the scale, and how many steps it has held."""
        return {"scale": np.array(self.scale), "good": np.array(self.good)}

    def load_state_dict(self, state: dict) -> None:
        """Puts back what `state_dict` returned. KeyError, ValueError if it is another's; nothing is changed then."""
        found = matching("LossScaler.load_state_dict", state, {}, ["scale", "good"])
        self.scale, self.good = found["scale"], found["good"]


@in_float32  # float16 holds no 2^16
def _divided(array, by):
    return array / array.dtype.type(by)
