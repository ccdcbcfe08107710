"""Muon."""
import math
from collections.abc import Iterable

from ..backend import in_float32, xp
from ..ops.geometry import one_of, whole
from ..tensor import Tensor
from .optimizer import move, Optimizer


class Muon(Optimizer):
    """Momentum whose steps have singular values near 1 (Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural
    networks", https://kellerjordan.github.io/posts/muon/).

        v = momentum v + (1 - momentum) g,  d = (1 - momentum) g + momentum v with Nesterov's momentum, else v,
        p = p - lr weight_decay p - lr sqrt(max(1, rows / columns)) U V^T,   where d = U S V^T, and U V^T by `ns_steps` steps of
        x = 3.4445 x - 4.775 x x^T x + 2.0315 x x^T x x^T x    from x = d / |d|    (Newton and Schulz's iteration)

    For matrices, and filters (O, C, k, ...) as matrices of O rows. Embeddings, the last layer, and biases and scales of
    normalisation, which have one axis, are better left to `AdamW`.

    Args:
        params: parameters of two axes or more (else ValueError), or dicts of parameters and settings of their own, see
            `Optimizer`.
        lr: the learning rate, not negative.
        weight_decay: p = p - lr weight_decay p.
        momentum: how much of the velocity v stays, in [0, 1).
        nesterov: look ahead along the velocity.
        ns_steps: steps of the iteration.
        adjust_lr_fn: "match_rms_adamw" for 0.2 sqrt(max(rows, columns)) in place of sqrt(max(1, rows / columns)), which lets the
            learning rate and weight decay be those of AdamW; None or "original".
    """

    slots = ("velocity",)

    def __init__(self, params: Iterable[Tensor | dict], lr: float = 1e-3, weight_decay: float = 0.1,
                 momentum: float = 0.95, nesterov: bool = True, *, ns_steps: int = 5, adjust_lr_fn: str | None = None):
        super().__init__(params, lr, weight_decay=weight_decay, momentum=momentum, nesterov=nesterov, ns_steps=ns_steps,
                         adjust_lr_fn=adjust_lr_fn)

    def checked(self, settings, params=()):
        vectors = [p.shape for p in params if p.ndim < 2]
        if vectors:
            raise ValueError(f"{self._owner}: params must be matrices or filters, but one has shape {vectors[0]}; give those of "
                             "fewer than two axes to another optimiser, such as AdamW")
        adjust = "original" if settings["adjust_lr_fn"] is None else settings["adjust_lr_fn"]
        return super().checked(settings) | {
            "momentum": self.number(settings, "momentum", below=1), "nesterov": self.truth(settings, "nesterov"),
            "ns_steps": whole(self._owner, "ns_steps", settings["ns_steps"], 0),
            "adjust_lr_fn": one_of(self._owner, "adjust_lr_fn", adjust, ("original", "match_rms_adamw"))}

    def settings(self, group, lr, t):
        return lr, *(group[name] for name in ("weight_decay", "momentum", "nesterov", "ns_steps", "adjust_lr_fn"))

    def update(self, p, g, v, lr, weight_decay, momentum, nesterov, ns_steps, adjust_lr_fn):
        move(v, g, momentum)
        direction = (1 - momentum) * g + momentum * v if nesterov else v
        rows, columns = p.shape[0], math.prod(p.shape[1:])
        original = adjust_lr_fn == "original"
        ratio = math.sqrt(max(1, rows / max(columns, 1))) if original else 0.2 * math.sqrt(max(rows, columns))
        p *= 1 - lr * weight_decay
        p -= lr * ratio * _orthogonal(direction.reshape(rows, columns), steps=ns_steps).reshape(p.shape)


@in_float32
def _orthogonal(x, steps):
    """The matrix with the singular vectors of `x` and singular values near 1."""
    if x.shape[0] > x.shape[1]:
        return _orthogonal(x.T, steps=steps).T
    x = x / xp(x).maximum(xp(x).sqrt((x * x).sum()), x.dtype.type(1e-7))
    for _ in range(steps):
        gram = x @ x.T
        x = 3.4445 * x + (2.0315 * gram @ gram - 4.775 * gram) @ x
    return x
