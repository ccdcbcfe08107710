"""What tests share: names of values, drawn arrays with odd strides, and the check of derivatives."""
import contextlib
import importlib
import signal

import numpy as np
import pytest
from hypothesis import strategies as st

import minigrad as mg
from minigrad.backend import paths


try:
    from ml_dtypes import bfloat16
except ImportError:
    bfloat16 = None
wants_bfloat16 = pytest.mark.skipif(bfloat16 is None, reason="bfloat16 needs ml_dtypes")


def named(value):
    """A test's name for a value, the same in every process."""
    return "an object" if type(value) is object else repr(value)


def optional(library):
    """The library, or, where it is missing, what skips each test that calls something of it; the others of a file run."""
    try:
        return importlib.import_module(library)
    except ImportError:
        return _Missing(library)


class _Missing:
    def __init__(self, name):
        self._name = name

    def __getattr__(self, name):
        return _Missing(self._name)

    def __dir__(self):
        return self()

    def __call__(self, *args, **kwargs):
        pytest.skip(f"{self._name} is not installed", allow_module_level=True)


@contextlib.contextmanager
def interrupted(objective, step):
    """Inside, the training of a class of methods has to be left in a step by Ctrl-C."""
    after = objective.after_step

    def interrupt(self, k):
        after(self, k)
        if k == step:
            signal.raise_signal(signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(objective, "after_step", interrupt)
        yield


@contextlib.contextmanager
def definitions():
    """Inside, no path serves: everything is computed by its definition."""
    before, paths._table = paths._table, lambda arrays: None
    try:
        yield
    finally:
        paths._table = before


def strided(array, flips, swap):
    """The same values with other strides: axes flipped in memory, and the memory order reversed."""
    if swap:
        array = np.asfortranarray(array)
    for axis in range(array.ndim):
        if flips >> axis & 1:
            array = np.ascontiguousarray(np.flip(array, axis))
            array = np.flip(array, axis)
    return array


def spread(shape, rng, low, high):
    """Values in [low, high] that keep their distance from each other and from 0: no ties, no kinks."""
    size = int(np.prod(shape))
    grid = (rng.permutation(size) + 0.5 + 0.2 * rng.uniform(-1, 1, size)) / max(size, 1)
    values = low + (high - low) * grid
    values = np.where(abs(values) < 0.05, 0.05 * np.where(values < 0, -1, 1), values)
    return values.reshape(shape)


@st.composite
def shapes(draw, min_ndim=0, max_ndim=3, min_side=0, max_side=3):
    return tuple(draw(st.lists(st.integers(min_side, max_side), min_size=min_ndim, max_size=max_ndim)))


@st.composite
def arrays(draw, shape, low=-2.0, high=2.0):
    """A float64 array of the shape, with drawn values and strides."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    return strided(spread(shape, rng, low, high), draw(st.integers(0, 7)), draw(st.booleans()))


def check_derivatives(f, inputs, **options):
    """`minigrad.check_derivatives` of a list of inputs."""
    mg.check_derivatives(f, *inputs, **options)
