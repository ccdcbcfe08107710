"""Where updates of parameters and averages run: CUDA kernels, one launch for all arrays of a dtype; C; or the definition."""
from collections.abc import Callable

import numpy as np

from .. import backend
from ..backend import cuda, is_half, xp
from ..backend.cpu import elementwise

CUDA = {"sgd_step": cuda.sgd_step, "adam_step": cuda.adam_step, "ema_step": cuda.ema_step}  # take lists of arrays
CPU = {"sgd_step": elementwise.sgd_step, "adam_step": elementwise.adam_step}


def with_kernel(name: str | None, rows: list[tuple]) -> tuple[dict, list[tuple]]:
    """The rows whose update has a CUDA kernel, {dtype: rows}, and the others; arguments as of `run_update`."""
    if backend.path(*[a for row in rows for a in row if a is not None]) == "cpu":
        return {}, rows
    launches, others = {}, []
    for row in rows:
        p, g, *state = [a for a in row if a is not None]
        served = (name in CUDA and backend.path(p, g, *state) == "cuda" and not is_half(p.dtype)  # unknown to optimiser.cu
                  and all(a.flags.c_contiguous for a in (p, *state)))
        (launches.setdefault(p.dtype, []) if served else others).append(row)
    return launches, others


def run_update(name: str | None, definition: Callable, rows: list[tuple], settings: Callable, owner: str) -> None:
    """Updates arrays in place.

    Args:
        name: the update in the tables above; None if it has only a definition.
        definition: definition(*row, *settings) updates one row by array operations.
        rows: tuples of arrays (changed, read, changed, ...); None, in a column of all rows, for one that is not there.
        settings: from a dtype to the settings for arrays of that dtype: numbers, or, while a step is traced, arrays (1,).
        owner: who asks, for the error message.

    Raises:
        RuntimeError: a step is being captured and an array has no CUDA kernel: its settings could not change any more.
    """
    launches, others = with_kernel(name, rows)
    if others:
        p = others[0][0]
        if backend.capturing is not None:
            raise RuntimeError(f"{owner}: a step on parameters like {p.dtype}{list(p.shape)} has no CUDA kernel, so it cannot "
                               "be captured")
        numbers, on_cpu = settings(p.dtype), CPU.get(name, definition)
        for row in others:
            (on_cpu if xp(row[0]) is np else definition)(*row, *numbers)
    for dtype, launched in launches.items():
        columns = [list(column) if column[0] is not None else () for column in zip(*launched)]
        CUDA[name](*columns, *settings(dtype))
