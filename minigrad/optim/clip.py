"""Clipping of gradients."""
import math
from collections.abc import Iterable

import numpy as np

from ..backend import is_float, is_half, xp
from ..versions import check_writable, mark_changed
from ..tensor import Tensor, wrap
from .optimizer import gradient_of, instance, number


def clip_grad_norm_(params: Iterable[Tensor] | Tensor, max_norm: float) -> float | Tensor:
    """Scales the gradients, taken as one long vector, down to length `max_norm` if it is longer, in place.

    Args:
        params: Tensors, or a single one; those without `.grad` do not count.
        max_norm: not negative; `math.inf` only measures.

    Returns:
        The length before. One that is not finite leaves NaN in every gradient, so that it is noticed and not trained on. On
        the GPU it is a 0-d Tensor there, and the host does not wait for it.

    Raises:
        TypeError: `params` are no Tensors, a gradient is not of floating point numbers, or `max_norm` is no number;
            ValueError: that is negative or NaN, or a gradient has not the shape of its parameter.
    """
    if not (isinstance(max_norm, float) and max_norm == math.inf):
        number(max_norm, "clip_grad_norm_: max_norm")
    if isinstance(params, Tensor):
        params = [params]
    instance(params, Iterable, "clip_grad_norm_: params")
    params = list(params)
    for i, p in enumerate(params):
        instance(p, Tensor, f"clip_grad_norm_: params[{i}]")
    grads = [gradient_of("clip_grad_norm_", i, p) for i, p in enumerate(params) if p.grad is not None]
    for i, g in enumerate(grads):
        check_writable(f"clip_grad_norm_: gradient {i}", g)
        if not is_float(g.dtype):
            raise TypeError(f"clip_grad_norm_: gradient {i} is of {g.dtype}, which cannot be scaled; convert it with .astype")
    if not grads:
        return 0.0
    total = sum((g.astype(np.float64) ** 2).sum() for g in grads)
    module = xp(total)
    total = module.sqrt(total)
    if module is np and total <= max_norm:
        return float(total)
    with np.errstate(all="ignore"):
        scale = module.where(total <= max_norm, 1, module.where(module.isfinite(total), max_norm / total, math.nan))
    for g in grads:
        mark_changed(g)
        if is_half(g.dtype):  # which would round the factor
            g[...] = g.astype(np.float32) * scale.astype(np.float32)
        else:
            g *= scale.astype(g.dtype)
    return float(total) if module is np else wrap(total)


clip_grad_norm = clip_grad_norm_
