"""What happens when NumPy's functions are called on Tensors: a counterpart answers, or NumPy itself, or it is an error.

`np.exp(t)` is `minigrad.exp(t)`. Arguments that may be left out reach the counterpart by NumPy's names for them, wherever they
stand. What has no differentiable counterpart, or is called with an argument that the counterpart does not know, is computed by
NumPy on the arrays, with plain arrays as results, where no argument requires a gradient; else it is refused: a gradient is
never lost in silence.
"""
import functools
import inspect

import numpy as np

from ..tensor import _read_only, as_tensor, flag, Tensor
from .declare import NUMPY
from .elementwise import where
from .geometry import several_axes, speaking_as
from .linalg import norm, svdvals
from .products import cross, diagonal, matmul, outer, tensordot, trace
from .reduce import _ones_at, _to_last, cumprod, cumsum
from .shape import reshape


def _reshape(x, shape=None, newshape=None):
    """Of NumPy 2.1 to 2.3 both are names of an argument that may be left out."""
    return reshape(x, newshape if shape is None else shape)


def _size(x, axis=None):
    return np.size(np.broadcast_to(False, x.shape), axis)


def _where(condition, *choices):
    """With the condition alone its places, as of `numpy.nonzero`."""
    return where(condition, *choices) if choices else np.nonzero(condition)


NUMPY.update({np.where: _where, np.shape: lambda x: x.shape, np.ndim: lambda x: x.ndim, np.size: _size,
              np.array_repr: repr, np.array_str: str, np.reshape: _reshape})


def _accumulated(cumulate):
    """`numpy.cumulative_sum` or its like: of several axes one has to be named."""
    def accumulated(x, axis=None, dtype=None):
        if axis is None and x.ndim != 1:
            raise ValueError(f"{cumulate.__name__}: an axis is wanted for a Tensor of {x.ndim} dimensions")
        return cumulate(x, axis, dtype=dtype)

    return accumulated


def _vecdot(x, y):
    with speaking_as("vecdot"):
        return matmul(as_tensor(x)[..., None, :], as_tensor(y)[..., :, None])[..., 0, 0]


def _vector_norm(x, axis=None, keepdims=False, ord=2):
    axis = several_axes("vector_norm", axis, x.ndim)
    out = norm(_to_last(x, axis), ord, -1)
    return reshape(out, _ones_at(x.shape, axis)) if flag("vector_norm", "keepdims", keepdims) else out


LATER = {  # names that only NumPy 2 has, of what stands here under older ones
    np: {"astype": lambda x, dtype: x.astype(dtype), "matrix_transpose": lambda x: x.mT, "vecdot": _vecdot,
         "cumulative_sum": _accumulated(cumsum), "cumulative_prod": _accumulated(cumprod)},
    np.linalg: {"matrix_transpose": lambda x: x.mT, "vecdot": _vecdot, "matmul": matmul, "tensordot": tensordot, "cross": cross,
                "outer": outer, "svdvals": svdvals, "diagonal": lambda x, offset=0: diagonal(x, offset, -2, -1),
                "trace": lambda x, offset=0: trace(x, offset, -2, -1), "vector_norm": _vector_norm,
                "matrix_norm": lambda x, keepdims=False, ord="fro": norm(x, ord, (-2, -1), keepdims)}}
NUMPY.update({getattr(module, name): function for module, functions in LATER.items() for name, function in functions.items()
              if hasattr(module, name)})


def _array_ufunc(self, ufunc, method, *inputs, **settings):
    if method == "__call__" and not settings and ufunc in NUMPY:
        return NUMPY[ufunc](*inputs)
    name = f"numpy.{ufunc.__name__}" + ("" if method == "__call__" else f".{method}") + f"({', '.join(settings)})"
    args, settings = _arrays(name, (inputs, settings))
    return getattr(ufunc, method)(*args, **settings)


def _array_function(self, function, types, args, settings):
    name = f"{function.__module__}.{function.__name__}"
    if function in NUMPY:
        inputs, given = _by_name(function, args, settings)
        known = _known(NUMPY[function])
        unknown = [key for key in given if key not in known]
        if not unknown:
            return NUMPY[function](*inputs, **given)
        name += f"({', '.join(unknown)})"
    args, settings = _arrays(name, (args, settings))
    return function(*args, **settings)


def _by_name(function, args, settings):
    """The arguments of a call of NumPy's: those that it needs by position, the others, but for defaults, by name."""
    required, optional = _parameters(function)
    inputs, given = list(args), dict(settings)
    if optional and len(args) > len(required):
        inputs, given = list(args[:len(required)]), {**dict(zip(optional, args[len(required):])), **given}
    for name in required[len(inputs):]:
        if name in given:
            inputs.append(given.pop(name))
    return inputs, {name: value for name, value in given.items() if not _is(value, optional.get(name))}


def _is(value, default):
    return value is default or type(value) is type(default) in (bool, int, float, str) and value == default


@functools.cache
def _parameters(function):
    """The names of the arguments that a function of NumPy needs, and the others, which follow by position, with defaults."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # of those in C, before NumPy 2.4
        return (), {}
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return (), {}
    parameters = [p for p in parameters if p.kind is not p.VAR_KEYWORD]
    required = [p.name for p in parameters if p.default is p.empty or p.kind is p.POSITIONAL_ONLY]
    return required, {p.name: p.default for p in parameters if p.name not in required}


@functools.cache
def _known(counterpart):
    """The names by which an operation takes arguments."""
    try:
        parameters = inspect.signature(counterpart).parameters.values()
    except ValueError:  # a type of Python's
        return ()
    return {p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}


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


class _OfTheClass:
    """`__array_ufunc__` where NumPy looks for it, on the class. CuPy looks on the instance, finds None and leaves
    `cupy_array * tensor` to the Tensor; with a function there it would compute a plain array itself."""

    def __get__(self, instance, owner):
        return _array_ufunc if instance is None else None


Tensor.__array_ufunc__ = _OfTheClass()
Tensor.__array_function__ = _array_function
