"""The random numbers that layers and initialisers draw: one generator per process, which `seed` sets."""
import contextlib

import numpy as np

_generator = None  # made at first use: importing numpy.random takes a while


def generator():
    """The generator that everything in minigrad draws from unless it is given another: a `numpy.random.Generator`."""
    global _generator
    if _generator is None:
        _generator = np.random.default_rng()
    return _generator


def seed(value):
    """Starts the generator anew. The same seed gives the same numbers on every machine."""
    generator().bit_generator.state = np.random.default_rng(value).bit_generator.state


def get_state():
    """The generator's state: a dict of plain numbers and strings, which JSON can hold."""
    return generator().bit_generator.state


def set_state(state):
    """Puts back what `get_state` returned."""
    generator().bit_generator.state = state


@contextlib.contextmanager
def preserved(state=None):
    """Runs the block from `state` (default: the present one), and afterwards puts the present state back."""
    before = get_state()
    if state is not None:
        set_state(state)
    try:
        yield
    finally:
        set_state(before)
