"""What happens when NumPy's functions are called on Tensors: a counterpart answers, or NumPy itself, or it is an error.

`np.exp(t)` is `minigrad.exp(t)`. What has no differentiable counterpart is computed by NumPy on the arrays, with plain arrays
as results, where no argument requires a gradient; else it is refused: a gradient is never lost in silence.
"""
import functools
import inspect

import numpy as np

from ..tensor import _read_only, Tensor
from .declare import NUMPY

NUMPY.update({np.shape: lambda x: x.shape, np.ndim: lambda x: x.ndim, np.size: lambda x: x.size, np.array_repr: repr,
              np.array_str: str})
NUMPY_ONLY = ("dtype", "out", "where", "initial")  # arguments that no counterpart takes


def _array_ufunc(self, ufunc, method, *inputs, **settings):
    if method == "__call__" and not settings and ufunc in NUMPY:
        return NUMPY[ufunc](*inputs)
    name = f"numpy.{ufunc.__name__}" + ("" if method == "__call__" else f".{method}") + f"({', '.join(settings)})"
    args, settings = _arrays(name, (inputs, settings))
    return getattr(ufunc, method)(*args, **settings)


def _array_function(self, function, types, args, settings):
    name = f"{function.__module__}.{function.__name__}"
    call = args, settings
    if function in NUMPY:
        if len(args) > 1 and (names := _positions(function)):  # NumPy's order is not ours: dtype and out come early
            settings = {**dict(zip(names, args[1:])), **settings}
            args = args[:1]
        given = [key for key in NUMPY_ONLY if settings.get(key) is not None]
        if not given:
            return NUMPY[function](*args, **{key: value for key, value in settings.items() if key not in NUMPY_ONLY})
        name += f"({', '.join(given)})"
    args, settings = _arrays(name, call)
    return function(*args, **settings)


def _arrays(name, values):
    """`values` with read-only arrays for the Tensors in it (those of nested lists, tuples and dictionaries too).

    Raises:
        TypeError: a Tensor requires a gradient, or is to be written to.
    """
    if isinstance(values, Tensor):
        if values.requires_grad:
            raise TypeError(f"{name} is not available for Tensors that require a gradient; see minigrad's functions, or use "
                            "x.numpy() for a result without gradient")
        return _read_only(values._array)
    if isinstance(values, dict):
        out = values.get("out")
        if any(isinstance(x, Tensor) for x in (out if isinstance(out, tuple) else (out,))):
            raise TypeError(f"{name} is not available for Tensors: out cannot be one")
        return {key: _arrays(name, value) for key, value in values.items()}
    if type(values) in (list, tuple):
        return type(values)(_arrays(name, value) for value in values)
    return values


@functools.cache
def _positions(function):
    """The names of the arguments behind the first, of a reduction; () of other functions, whose order is ours."""
    try:
        names = list(inspect.signature(function).parameters)[1:]
    except ValueError:  # NumPy's functions in C tell none before NumPy 2
        return ()
    return tuple(names) if names[:1] == ["axis"] and "out" in names else ()


class _OfTheClass:
    """`__array_ufunc__` where NumPy looks for it, on the class. CuPy looks on the instance, finds None and leaves
    `cupy_array * tensor` to the Tensor; with a function there it would compute a plain array itself."""

    def __get__(self, instance, owner):
        return _array_ufunc if instance is None else None


Tensor.__array_ufunc__ = _OfTheClass()
Tensor.__array_function__ = _array_function
