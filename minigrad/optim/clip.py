"""Clipping of gradients."""
import math

import numpy as np

from ..backend import xp
from ..recording import mark_changed
from ..tensor import wrap


def clip_grad_norm(params, max_norm):
    """Scales the gradients, taken as one long vector, down to length `max_norm` if it is longer. Returns its length.

    A length that is not finite leaves NaN in every gradient, so that it is noticed and not trained on. On the GPU the length
    is a 0-d Tensor there, and the host does not wait for it.
    """
    grads = [p.grad._array for p in params if p.grad is not None]
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
        g *= scale.astype(g.dtype)
    return float(total) if module is np else wrap(total)
