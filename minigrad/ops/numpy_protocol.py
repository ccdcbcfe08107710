"""What happens when a function of NumPy's is called on a Tensor: its counterpart answers, or it is an error.

`np.exp(t)` is `minigrad.exp(t)`. What has no differentiable counterpart is refused: a gradient is never lost in silence.
"""
import functools
import inspect

import numpy as np

from ..tensor import Tensor
from .declare import NUMPY

NUMPY.update({np.shape: lambda x: x.shape, np.ndim: lambda x: x.ndim, np.size: lambda x: x.size, np.array_repr: repr,
              np.array_str: str})


def _array_ufunc(self, ufunc, method, *inputs, out=None, **settings):
    if method != "__call__" or out is not None or settings or ufunc not in NUMPY:
        name = f"numpy.{ufunc.__name__}" + ("" if method == "__call__" else f".{method}")
        raise TypeError(f"{name}({', '.join([*settings, *['out'] * (out is not None)])}) is not available for Tensors; "
                        f"see minigrad's functions, or use x.numpy() for a result without gradient")
    return NUMPY[ufunc](*inputs)


def _array_function(self, function, types, args, settings):
    name = f"{function.__module__}.{function.__name__}"
    if function not in NUMPY:
        raise TypeError(f"{name} is not available for Tensors; see minigrad's functions, or use x.numpy() for a result without "
                        "gradient")
    if len(args) > 1 and (names := _positions(function)):  # NumPy's order is not ours: dtype and out come early
        settings = {**dict(zip(names, args[1:])), **settings}
        args = args[:1]
        if [key for key in ("dtype", "out") if settings.pop(key, None) is not None]:
            raise TypeError(f"{name}: dtype and out are not available for Tensors")
    return NUMPY[function](*args, **settings)


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
