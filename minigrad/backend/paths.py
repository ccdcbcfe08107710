"""The one choice between implementations: which path serves an operation on given arrays.

An operation's definition (in `minigrad/ops/`) says what is computed, on any arrays. A *path* computes the same faster: an entry
under the operation's name in the table `PATHS` of the backend that the arrays belong to, `cpu/paths.py` or `cuda/paths.py`.
"""
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from . import execution, in_float32, is_float, is_half, xp

WORTH_A_PATH = 4096  # elements: with fewer it takes longer to look for a path than that saves


class Path(NamedTuple):
    """An entry of a table.

    Attributes:
        forward: the operation on arrays. Of a fused operation (`minigrad.fused.Fused`) `forward(*arrays, **settings)`
            returns (array, residuals), or of several outputs (tuple of arrays, residuals). Residuals are whatever
            `backward` needs again; they are no Tensors, so they never enter a rule that is differentiated.
        backward: of a fused operation `backward(g, out, residuals, wanted, *arrays, **settings)` -> a sequence with the
            gradient of each wanted input, all arrays: the first-order path, used when nobody asks for a graph of the
            gradient. It returns None where the definition must serve after all.
        reads_out: whether `backward` reads `out`.
        serves: `serves(*arrays, **settings)`: whether this path can take the arrays; None: any that its backend takes.
        all_outputs: of an operation with several outputs, whether `backward` takes the cotangents of all as a tuple, None in
            the place of one that there is not; else it takes the first one's, and the definition serves if there are others.
    """

    forward: Callable
    backward: Callable | None = None
    reads_out: bool = False
    serves: Callable[..., bool] | None = None
    all_outputs: bool = False


def path(name: str, arrays, settings: dict[str, Any] = {}) -> Path | None:
    """The path that serves operation `name` on these arrays; None: the definition does, as for empty arrays always.

    The CPU's paths take NumPy arrays, but for numbers of 16 bits. The GPU's take CuPy arrays whose floats have one dtype among
    float16, bfloat16, float32 and float64, and whose integers are int64.
    """
    table = _table(arrays)
    found = None if table is None else table.get(name)
    if found is None or any([a.size == 0 for a in arrays]):
        return None
    return found if found.serves is None or found.serves(*arrays, **settings) else None


def with_paths(name: str, definition: Callable, least: int = 0, upcast: bool = False) -> Callable:
    """An array function: the path `name` where one serves, else the definition.

    Args:
        least: of arrays with fewer elements the definition serves at once; see `WORTH_A_PATH`.
        upcast: numbers of 16 bits that no path takes are computed with in float32, and the result is rounded once.
    """
    def function(*arrays, **settings):
        if arrays[0].size >= least:
            found = path(name, arrays, settings)
            if found is not None:
                return found.forward(*arrays, **settings)
            if upcast and any([is_half(a.dtype) for a in arrays]):
                return in_float32(function)(*arrays, **settings)
        return definition(*arrays, **settings)

    return function


_KERNEL_DTYPES = {np.dtype(name) for name in ("float32", "float64", "int64", "bool")}


def _table(arrays):
    """The table of the backend that can take the arrays, or None."""
    if not execution.kernels_take_numpy:
        for a in arrays:
            if type(a) is not np.ndarray or a.dtype.char in "eE":
                break
        else:
            return _cpu()
        on_host = [xp(a) is np for a in arrays]
        if any(on_host):  # of different devices the primitives say so
            return _cpu() if all(on_host) and not any([is_half(a.dtype) for a in arrays]) else None
    return _cuda() if _kernels_know(frozenset([a.dtype for a in arrays])) else None


@functools.cache
def _kernels_know(dtypes):
    return all(d in _KERNEL_DTYPES or is_half(d) for d in dtypes) and len([d for d in dtypes if is_float(d)]) == 1


@functools.cache
def _cpu():
    from .cpu.paths import PATHS
    return PATHS


@functools.cache
def _cuda():
    from .cuda.paths import PATHS
    return PATHS
