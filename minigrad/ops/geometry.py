"""Settings in their range: whole numbers, pairs of them (vertical, horizontal) for windows, real numbers, axes and words."""
from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np

from ..tensor import Tensor

Axes = int | Sequence[int]  # one number, or several
Pair = int | Sequence[int]  # (vertical, horizontal), or one number for both
Lengths = int | Sequence[int]  # one number for each axis, or one for all
# of the arguments that say where windows are
LEAST = {"kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1, "output_padding": 0, "output_size": 1}


class speaking_as:
    """Inside, values and indices that do not fit are errors of the operation `name`, whatever it is made of."""

    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, (IndexError, OverflowError, TypeError, ValueError)):
            said = str(error)
            raise type(error)(f"{self.name}: {said.partition(': ')[2] or said}") from None


def whole(of: str, name: str, value: Any, least: float) -> int:
    """`value` as a whole number that is at least `least`.

    Raises:
        ValueError: it is less, or no whole number; `of` and `name` say whose argument it is.
    """
    try:
        number = operator.index(value)
    except (TypeError, ValueError):  # ValueError: a Tensor of several numbers
        number = int(value) if isinstance(value, (float, np.floating)) and float(value).is_integer() else None
    if number is None or isinstance(value, (bool, np.bool_)) or number < least:
        limit = f", {least} or more" if least > -2**63 else ""
        raise ValueError(f"{of}: {name} must be a whole number{limit}, not {value!r}")
    return number


def several(value: Any) -> tuple | None:
    """The numbers of a sequence; None of what is none, text and what has no order included."""
    return tuple(value) if np.iterable(value) and not isinstance(value, (str, bytes, Set, Mapping)) else None


def one_axis(of: str, axis: Any, ndim: int) -> int:
    """`axis`, which may count from the end, counted from the first. ValueError if a Tensor of `ndim` axes has no such one."""
    if several(axis) is not None:
        raise ValueError(f"{of}: one axis wanted, not {axis!r}")
    axis = whole(of, "axis", axis, -math.inf)
    if not -ndim <= axis < ndim:
        raise ValueError(f"{of}: axis {axis} is out of bounds for a Tensor of {ndim} dimensions")
    return axis % ndim


def several_axes(of: str, axis: Any, ndim: int) -> tuple[int, ...]:
    """One axis, several, or with None all of a Tensor of `ndim` axes, as a tuple of numbers counted from the first.

    Raises:
        TypeError: an axis is no whole number; ValueError: there is no such one, or one stands twice.
    """
    if isinstance(axis, (str, bytes, dict, set)):
        raise TypeError(f"{of}: an axis is a whole number, not {axis!r}")
    axes = tuple(range(ndim)) if axis is None else tuple(axis) if np.iterable(axis) else (axis,)
    for a in axes:
        try:
            if isinstance(a, (bool, np.bool_)):  # True is no axis 1
                raise TypeError
            operator.index(a)
        except (TypeError, ValueError):  # ValueError: a Tensor of several numbers
            raise TypeError(f"{of}: an axis is a whole number, not {a!r}") from None
        if not -ndim <= operator.index(a) < ndim:
            raise ValueError(f"{of}: axis {a} is out of bounds for a Tensor of {ndim} dimensions")
    axes = tuple(operator.index(a) % ndim for a in axes)
    if len(set(axes)) != len(axes):
        raise ValueError(f"{of}: duplicate axis in {axis}")
    return axes


def of_a_number(axis: Any, ndim: int) -> bool:
    """Whether this is axis 0 or -1 of a Tensor without axes, which in some of NumPy's functions may be a vector of one."""
    try:
        return ndim == 0 and not isinstance(axis, bool) and operator.index(axis) in (0, -1)
    except TypeError:
        return False


def one_of(of: str, name: str, value: Any, choices: tuple[str, ...]) -> str:
    """`value`, which is one of these words. ValueError otherwise."""
    if not isinstance(value, str) or value not in choices:
        words = " or ".join(filter(None, [", ".join(map(repr, choices[:-1])), repr(choices[-1])]))
        raise ValueError(f"{of}: {name} is {words}, not {value!r}")
    return value


def pair(of: str, name: str, value: Any, least: int) -> tuple[int, int]:
    """A number for both axes, or one for each, as a pair of whole numbers that are at least `least`. ValueError otherwise."""
    values = several(value) or (value, value)
    if len(values) != 2:
        raise ValueError(f"{of}: {name} must be a whole number or a pair of them (vertical, horizontal), not {value!r}")
    return whole(of, name, values[0], least), whole(of, name, values[1], least)


def single(of: str, name: str, value: Any, least: int) -> int:
    """A number for the one axis of a sequence, which may stand in a sequence of one."""
    values = several(value) or (value,)
    if len(values) != 1:
        raise ValueError(f"{of}: {name} must be one whole number, not {value!r}")
    return whole(of, name, values[0], least)


def same_padding(of: str, padding: Any, stride: tuple[int, ...], given: Any) -> bool:
    """Whether the padding is "same". ValueError if it is and the stride, whole numbers made of `given`, is not 1."""
    same = isinstance(padding, str) and padding == "same"
    if same and {*stride} != {1}:
        raise ValueError(f"{of}: padding 'same' wants a stride of 1, not {given!r}")
    return same


def real(of: str, name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """`value` as a finite number from `low` to `high`; a Tensor of no axes that requires a gradient as it is.

    Raises:
        ValueError: it is not finite, outside, or no number; `of` and `name` say whose argument it is.
    """
    if type(value) is float and low <= value <= high and math.isfinite(value):
        return value
    if isinstance(value, Tensor) and value.requires_grad and value.ndim == 0:
        return value
    kind = getattr(getattr(value, "dtype", None), "kind", "b" if isinstance(value, bool) else "")
    try:
        plain = np.ndim(value) == 0 and kind not in ("b", "c") and not isinstance(value, (str, bytes))
        number = float(value) if plain else math.nan
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not (math.isfinite(number) and low <= number <= high):
        span = (f"between {low:g} and {high:g}" if math.isfinite(low) and math.isfinite(high) else
                f"of at least {low:g}{' that is finite' * (number == math.inf)}" if math.isfinite(low) else "that is finite")
        raise ValueError(f"{of}: {name} must be a number {span}, not {value!r}")
    return number


def constant(of: str, name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """`value` as by `real`, where a gradient would be lost. TypeError for a Tensor that requires one."""
    number = real(of, name, value, low, high)
    if isinstance(number, Tensor):
        raise TypeError(f"{of}: {name} is a Tensor that requires a gradient, but a setting gets none; pass a number, or "
                        f"{name}.detach()")
    return number


def order(of: str, p: Any) -> float:
    """`p`, the order of a norm, from 0 to infinity, which `real` would not take. ValueError otherwise."""
    learned = isinstance(p, Tensor) and p.requires_grad
    return math.inf if several(p) is None and not learned and p == math.inf else real(of, "p", p, 0)


def divisor(of: str, name: str, value: Any) -> float:
    """`value` as by `real`, which is not 0. ValueError otherwise."""
    number = real(of, name, value)
    if not isinstance(number, Tensor) and number == 0:
        raise ValueError(f"{of}: {name} must be a number other than 0, not {value!r}")
    return number
