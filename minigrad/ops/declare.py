"""How an operation is declared: once, where it is defined.

    @elementwise(np.exp, lambda g, out, _x: g * out, method=True)
    def exp(x: TensorLike) -> Tensor:
        '''e to the power of x.'''

declares `minigrad.exp` and `Tensor.exp`, what `np.exp` does with a Tensor, the gradient, and the documentation. `elementwise`
and `primitive` make an operation of a forward function on arrays and gradient rules (see `minigrad.Primitive`); the body
of what they decorate is its docstring. `operation` takes a function as it is: one that is composed of other operations.
"""
from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import overload

import numpy as np

from ..backend import is_array, is_float, may_be_real
from ..primitive import Primitive
from ..recording import state
from ..tensor import Function, Tensor, wrap

PUBLIC: dict[str, Callable] = {}  # the public operations by name: what `minigrad` exports
NUMPY: dict[Callable, Callable] = {}  # NumPy's functions and what answers them


@overload
def operation(function: Function) -> Function: ...
@overload
def operation(*, method: bool = ..., numpy: Callable | tuple = ..., operator: str = ...,
              reflected: bool = ...) -> Callable[[Function], Function]: ...
def operation(function=None, *, method=False, numpy=(), operator="", reflected=True):
    """Decorator: makes a function public, as `minigrad.NAME`.

    Args:
        method: it is a method of Tensor too.
        numpy: the function of NumPy that it answers when that is called on a Tensor, or several.
        operator: it is Tensor's operator of this name, such as "add" for `__add__`,
        reflected: and for operands in the other order, `__radd__`.
    """
    if function is None:
        return functools.partial(operation, method=method, numpy=numpy, operator=operator, reflected=reflected)
    PUBLIC[function.__name__] = function
    for counterpart in numpy if isinstance(numpy, tuple) else (numpy,):
        NUMPY[counterpart] = function
    if method:
        setattr(Tensor, function.__name__, function)
    if operator:
        _set_operator(operator, function, reflected)
    return function


def primitive(forward: Callable, *rules: Callable | None, rule_for_all: Callable | None = None, broadcasts: bool = False,
              **declared) -> Callable[[Function], Function]:
    """Decorator: an operation of these rules, under the name and with the documentation of what is decorated.

    Other arguments are those of `Primitive` and `operation`. A ufunc of NumPy's as `forward` is what the operation answers.
    """
    if isinstance(ufunc := inspect.unwrap(forward), np.ufunc):
        declared.setdefault("numpy", ufunc)
    return lambda function: public_face(
        Primitive(function.__name__, forward, *rules, rule_for_all=rule_for_all, broadcasts=broadcasts), **declared)(function)


def public_face(made: Primitive, **declared) -> Callable[[Function], Function]:
    """Decorator: a primitive made elsewhere, with the documentation of what is decorated."""
    def declare(function):
        made.__signature__ = _of_inputs(function)
        return operation(functools.update_wrapper(made, function), **declared)

    return declare


def _of_inputs(function):
    """The signature of a function whose arguments are the inputs of a primitive, which are known by their places."""
    signature = inspect.signature(function)
    return signature.replace(parameters=[p.replace(kind=p.POSITIONAL_ONLY) for p in signature.parameters.values()])


def elementwise(forward: Callable, *rules: Callable | None, **declared) -> Callable[[Function], Function]:
    """`primitive` of inputs that are broadcast against each other."""
    return primitive(forward, *rules, broadcasts=True, **declared)


def nondifferentiable(forward: Callable, **declared) -> Callable[[Function], Function]:
    """Decorator: a ufunc of NumPy's, or what does the same with arrays, made an operation on Tensors whose result carries no
    gradient."""
    ufunc = inspect.unwrap(forward)

    def declare(function):
        name, arguments = function.__name__, list(inspect.signature(function).parameters)

        @functools.wraps(function)
        def called(*inputs, **settings):
            if settings or len(inputs) != ufunc.nin:  # a ufunc takes more: where to write
                raise TypeError(f"{name}: got an unexpected keyword argument '{next(iter(settings))}'" if settings else
                                f"{name}: {ufunc.nin} inputs wanted, not {len(inputs)}")
            inputs = [_operand(f"{name}: {argument}", x, inputs) for argument, x in zip(arguments, inputs)]
            try:
                out = (forward if forward is ufunc or all([hasattr(x, "dtype") for x in inputs]) else ufunc)(*inputs)
            except (ValueError, OverflowError, TypeError) as error:
                shapes = ", ".join(str(getattr(x, "shape", x)) for x in inputs)
                kind = next(kind for kind in (ValueError, OverflowError, TypeError) if isinstance(error, kind))
                raise kind(f"{name}: {error} (inputs of shape {shapes})") from error
            return wrap(out if hasattr(out, "shape") and not np.isscalar(out) else np.asarray(out))

        called.__signature__ = _of_inputs(function)
        return operation(called, **{"numpy": ufunc, **declared})

    return declare


def _operand(of, x, operands):
    """The array of an operand. A number takes the dtype of an operand of floating point, and stays a number beside others."""
    if isinstance(x, Tensor):
        return x._array
    if len(operands) > 1 and isinstance(x, (bool, int, float, np.generic)) and may_be_real(getattr(x, "dtype", None)):
        like = next((y.dtype for y in operands if isinstance(y, Tensor) or is_array(y)), None)  # a number has one other operand
        if like is None or like.kind == "b":
            return x
        if isinstance(x, np.generic) and (x.dtype.kind in "iub" or is_float(like)):
            x = x.item() if x.dtype.kind in "iub" else float(x)
        return like.type(x) if is_float(like) and abs(x) <= 60_000 else x  # float16 holds up to 65,504; NaN stays a number
    try:
        return Tensor(x)._array
    except TypeError as error:
        raise TypeError(f"{of}: {error}") from None


_OPERANDS = (Tensor, int, float, bool, np.ndarray, np.generic, list, tuple)


def _is_operand(x):
    return isinstance(x, _OPERANDS) or hasattr(x, "__array__") or hasattr(x, "__cuda_array_interface__")


def _set_operator(name, function, reflected):
    if name in ("neg", "abs", "invert"):
        setattr(Tensor, f"__{name}__", lambda self: function(self))
        return
    function = function.__call__  # of a Primitive a bound method, which Python calls faster than the object

    def forward(self, other):
        return function(self, other) if other.__class__ is Tensor or _is_operand(other) else NotImplemented

    def backward(self, other):
        return function(other, self) if _is_operand(other) else NotImplemented

    def in_place(self, other):  # under `no_grad` a new Tensor would leave a leaf's values as they were, which nobody means
        graph = state.recording or state.repeatable
        if graph and self._is_parameter:
            raise RuntimeError("a Parameter is changed in place under no_grad() only, as in `with no_grad(): p -= lr * p.grad`; "
                               "for the graph make a new Tensor, as in w = 2 * w")
        if graph or self._node is not None or not (self._requires_grad or self._is_parameter) or not _is_operand(other):
            return NotImplemented
        result = function(self, other)
        if result.shape != self.shape:
            raise ValueError(f"{name}: what is changed in place keeps its shape {self.shape}, and the result has shape "
                             f"{result.shape}")
        self[...] = result
        return self

    forward.__qualname__ = f"Tensor.__{name}__"
    setattr(Tensor, f"__{name}__", forward)
    if reflected:
        setattr(Tensor, f"__r{name}__", backward)
        setattr(Tensor, f"__i{name}__", in_place)
