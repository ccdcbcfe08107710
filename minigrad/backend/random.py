"""The random numbers that layers and initialisers draw: one generator per process, which `seed` sets."""
import contextlib
import math
import operator
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from . import execution, runs_cuda_kernels

_generator = None  # made at first use: importing numpy.random takes a while


def generator() -> np.random.Generator:
    """The generator that everything in minigrad draws from unless it is given another: a `numpy.random.Generator`."""
    global _generator
    if _generator is None:
        _generator = np.random.default_rng()
    return _generator


def draw() -> Any:
    """A seed for the kernels that draw random numbers on the GPU, a number below 2**63.

    While a step is traced (see `minigrad.cuda_graph`) an array (1,) on the device, with a new number at every replay; where the
    generator was put back to draw the same number again, the same array.
    """
    number = int(generator().integers(1 << 63))
    if not execution.tracing:
        return number
    return execution.capture.slot(lambda: generator().integers(1 << 63), np.uint64, key=number)


def words(like: Any, shape: tuple[int, ...]) -> Any:
    """Random whole numbers from 0 to 65,535, as an array of `shape` where the array `like` is.

    For the GPU the host draws one number, from which a counter-based generator there draws the others (as float64).
    """
    n = math.prod(shape)
    if not runs_cuda_kernels(like):
        bits = generator().bit_generator.random_raw(-(-n // 4)).astype("<u8", copy=False).view("<u2")
        return bits[:n].reshape(shape)
    from . import cuda
    return cuda.philox_words(n, draw()).reshape(shape) // 65536


def seed(value: int) -> None:
    """Starts the generator anew. The same seed gives the same numbers on every machine.

    Raises:
        ValueError: `value` is no whole number, 0 or more.
    """
    try:
        drawn = np.random.default_rng(operator.index(value))
    except (TypeError, ValueError):
        raise ValueError(f"random.seed: value must be a whole number, 0 or more, not {value!r}") from None
    generator().bit_generator.state = drawn.bit_generator.state


def get_state() -> dict[str, Any]:
    """The generator's state: a dict of plain numbers and strings, which JSON can hold."""
    return generator().bit_generator.state


def set_state(state: dict[str, Any]) -> None:
    """Puts back what `get_state` returned. ValueError of anything else."""
    try:
        generator().bit_generator.state = state
    except (TypeError, ValueError, KeyError, OverflowError):
        raise ValueError("random.set_state: state is what get_state() returned") from None


@contextlib.contextmanager
def preserved(state: dict[str, Any] | None = None) -> Iterator[None]:
    """Runs the block from `state` (default: the present one), and afterwards puts the present state back."""
    before = get_state()
    if state is not None:
        set_state(state)
    try:
        yield
    finally:
        set_state(before)


def _hold() -> None:
    """Before a fork: a draw of another thread ends first, else the child's generator would be locked for ever."""
    generator().bit_generator.lock.acquire()


def _release() -> None:
    generator().bit_generator.lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold, after_in_parent=_release, after_in_child=_release)


def __getattr__(name):
    raise AttributeError(f"module 'minigrad.random' has no attribute '{name}'; generator() is a numpy.random.Generator, which "
                         "draws what NumPy draws, and minigrad.randn and rand are Tensors", name=name)
