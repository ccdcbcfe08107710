"""Tensors made of nothing: constants, ranges and random numbers.

Floating point numbers that minigrad makes are float32, as the parameters of layers are; what is made of given numbers has the
dtype that NumPy gives them.
"""
from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from ..backend import as_dtype, is_float, is_half, random, to_device
from ..tensor import DTypeLike, Function, Tensor, flag, held
from .declare import operation
from .geometry import whole


def _speaking(function: Function) -> Function:
    """Decorator: NumPy's errors of numbers and lengths, which do not say whose they are, say so."""
    @functools.wraps(function)
    def _called(*args, **settings):
        try:
            return function(*args, **settings)
        except (TypeError, ValueError, OverflowError) as error:
            if str(error).startswith((f"{function.__name__}:", f"{function.__name__}()")):
                raise
            kind = next(kind for kind in (TypeError, OverflowError, ValueError) if isinstance(error, kind))
            raise kind(f"{function.__name__}: {error}") from None

    return _called


def _in_range(numbers, dtype):
    """Numbers, rounded down for a dtype of whole numbers. OverflowError: it does not hold all of them."""
    if dtype is None or (dtype := as_dtype(dtype)).kind not in "iu":
        return numbers
    numbers = np.floor(numbers) if is_float(numbers.dtype) else numbers
    with np.errstate(invalid="ignore"):
        held = numbers.astype(dtype)
    if not np.array_equal(held, numbers):
        raise OverflowError(f"{dtype} does not hold all numbers from {numbers.min():g} to {numbers.max():g}")
    return held


def _made(array, dtype, device, requires_grad):
    if dtype is None:
        dtype = np.float32 if is_float(array.dtype) else array.dtype
    return Tensor(to_device(array.astype(as_dtype(dtype), copy=False), device), requires_grad)


def _shape(name, shape):
    """One length, several, or a sequence of them, as a tuple."""
    lengths = tuple(shape[0]) if len(shape) == 1 and np.iterable(shape[0]) else shape
    for n in lengths:
        if isinstance(n, (float, np.floating)):  # 2.0 is no length, as in NumPy
            raise ValueError(f"{name}: a length must be a whole number, 0 or more, not {n!r}")
    return tuple(whole(name, "a length", n, 0) for n in lengths)


@operation
@_speaking
def zeros(*shape: int | Sequence[int], dtype: DTypeLike | None = None, device: str = "cpu",
          requires_grad: bool = False) -> Tensor:
    """Zeros: `zeros((2, 3))` or `zeros(2, 3)`. float32 if no dtype is given."""
    return _made(np.zeros(_shape("zeros", shape), np.float32), dtype, device, requires_grad)


@operation
@_speaking
def ones(*shape: int | Sequence[int], dtype: DTypeLike | None = None, device: str = "cpu",
         requires_grad: bool = False) -> Tensor:
    """Ones: `ones((2, 3))` or `ones(2, 3)`. float32 if no dtype is given."""
    return _made(np.ones(_shape("ones", shape), np.float32), dtype, device, requires_grad)


@operation
@_speaking
def full(shape: int | Sequence[int], fill_value: float, *, dtype: DTypeLike | None = None, device: str = "cpu",
         requires_grad: bool = False) -> Tensor:
    """Equal numbers. If no dtype is given, float32 for a float, int64 for a whole number, bool for a bool.

    Raises:
        OverflowError, ValueError: the dtype, of whole numbers, does not hold the number, or it is NaN.
    """
    number = fill_value if dtype is None else held("full", fill_value, as_dtype(dtype))
    if np.ndim(number):
        raise ValueError(f"full: fill_value is one number, not of shape {np.shape(number)}")
    return _made(np.full(_shape("full", (shape,)), number), dtype, device, requires_grad)


@operation
@_speaking
def arange(start: float, stop: float | None = None, step: float = 1, *, dtype: DTypeLike | None = None, device: str = "cpu",
           requires_grad: bool = False) -> Tensor:
    """start, start + step, ... up to, but without, `stop`; of one number 0, 1, ... below it. int64 of whole numbers; for a dtype
    of whole numbers others are rounded down.

    Raises:
        OverflowError: the dtype, of whole numbers, does not hold all.
    """
    if step == 0:
        raise ValueError("arange: the step must not be 0")
    if start is None:
        raise TypeError("arange: one number or two are wanted, not None")
    numbers = np.arange(0, start, step) if stop is None else np.arange(start, stop, step)
    return _made(_in_range(numbers, dtype), dtype, device, requires_grad)


@operation
@_speaking
def linspace(start: float, stop: float, num: int = 50, *, endpoint: bool = True, dtype: DTypeLike | None = None,
             device: str = "cpu", requires_grad: bool = False) -> Tensor:
    """`num` numbers at equal distances, from `start` to `stop`, which is left out without `endpoint`. float32 if no dtype is
    given; whole numbers are rounded down. OverflowError as of `arange`."""
    numbers = np.linspace(start, stop, whole("linspace", "num", num, 0), flag("linspace", "endpoint", endpoint))
    return _made(_in_range(numbers, dtype), dtype, device, requires_grad)


@operation
@_speaking
def logspace(start: float, stop: float, num: int = 50, base: float = 10.0, *, endpoint: bool = True,
             dtype: DTypeLike | None = None, device: str = "cpu", requires_grad: bool = False) -> Tensor:
    """`num` numbers at equal ratios, from base^start to base^stop, which is left out without `endpoint`. float32 if no dtype is
    given; whole numbers are rounded down. OverflowError as of `arange`."""
    numbers = np.logspace(start, stop, whole("logspace", "num", num, 0), flag("logspace", "endpoint", endpoint), base)
    return _made(_in_range(numbers, dtype), dtype, device, requires_grad)


@operation
@_speaking
def eye(n: int, m: int | None = None, k: int = 0, *, dtype: DTypeLike | None = None, device: str = "cpu",
        requires_grad: bool = False) -> Tensor:
    """(n, m), m = n by default, with ones on the k-th diagonal. float32 if no dtype is given."""
    lengths, k = _shape("eye", (n, n if m is None else m)), whole("eye", "k", k, -math.inf)
    return _made(np.eye(*lengths, k, np.float32), dtype, device, requires_grad)


@operation
@_speaking
def randn(*shape: int | Sequence[int], dtype: DTypeLike | None = None, device: str = "cpu",
          requires_grad: bool = False) -> Tensor:
    """Normally distributed numbers, mean 0 and deviation 1, from `minigrad.random`. float32 if no dtype is given."""
    dtype, drawn = _float_dtypes("randn", dtype)
    return _made(random.generator().standard_normal(_shape("randn", shape), drawn), dtype, device, requires_grad)


@operation
@_speaking
def rand(*shape: int | Sequence[int], dtype: DTypeLike | None = None, device: str = "cpu",
         requires_grad: bool = False) -> Tensor:
    """Numbers spread evenly over [0, 1), from `minigrad.random`. float32 if no dtype is given."""
    dtype, drawn = _float_dtypes("rand", dtype)
    numbers = random.generator().random(_shape("rand", shape), drawn)
    if is_half(dtype):  # as many bits as it has digits, so that nothing is rounded to 1
        steps = 2 ** {"e": 11, "E": 8}[dtype.char]
        numbers = np.floor(numbers * steps) / steps
    return _made(numbers, dtype, device, requires_grad)


def _float_dtypes(name, dtype):
    """The dtype wanted, float32 by default, and the one to draw in, float32 or float64."""
    dtype = as_dtype(np.float32 if dtype is None else dtype)
    if not is_float(dtype):
        raise TypeError(f"{name}: a floating point dtype wanted, not {dtype}")
    return dtype, np.float64 if dtype.itemsize > 4 else np.float32
