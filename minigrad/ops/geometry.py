"""Settings that are numbers or words. Numbers of windows are whole, one for both axes or a pair (vertical, horizontal)."""
from __future__ import annotations

import math
import operator

import numpy as np

from ..tensor import Tensor

Pair = int | tuple[int, int]  # (vertical, horizontal), or one number for both


def whole(of: str, name: str, value, least: float) -> int:
    """`value` as a whole number that is at least `least`.

    Raises:
        ValueError: it is less, or no whole number; `of` and `name` say whose argument it is.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = int(value) if isinstance(value, (float, np.floating)) and float(value).is_integer() else None
    if number is None or isinstance(value, (bool, np.bool_)) or number < least:
        limit = "" if least == -math.inf else f", {least} or more"
        raise ValueError(f"{of}: {name} must be a whole number{limit}, not {value!r}")
    return number


def one_axis(of: str, axis, ndim: int) -> int:
    """`axis`, which may count from the end, counted from the first. ValueError if a Tensor of `ndim` axes has no such one."""
    axis = whole(of, "axis", axis, -math.inf)
    if not -ndim <= axis < ndim:
        raise ValueError(f"{of}: axis {axis} is out of bounds for a Tensor of {ndim} dimensions")
    return axis % ndim


def real(of: str, name: str, value, least: float = -math.inf) -> float | Tensor:
    """`value` as a finite number that is at least `least`; a 0-d Tensor, which may get a gradient, as it is.

    Raises:
        ValueError: it is something else; `of` and `name` say whose argument it is.
    """
    if isinstance(value, Tensor) and not value.ndim and value.dtype != bool:
        return value
    number = value.item() if isinstance(value, (np.ndarray, np.generic)) and not value.ndim else value
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not (math.isfinite(number) and number >= least):
        limit = "" if least == -math.inf else f", {least} or more"
        raise ValueError(f"{of}: {name} must be a finite number{limit}, not {value!r}")
    return number


def one_of(of: str, name: str, value, choices: tuple[str, ...]) -> str:
    """`value`, which is one of these words. ValueError otherwise."""
    if not isinstance(value, str) or value not in choices:
        words = " or ".join(filter(None, [", ".join(map(repr, choices[:-1])), repr(choices[-1])]))
        raise ValueError(f"{of}: {name} is {words}, not {value!r}")
    return value


def pair(of: str, name: str, value, least: int) -> tuple[int, int]:
    """A number for both axes, or one for each, as a pair of whole numbers that are at least `least`. ValueError otherwise."""
    values = tuple(value) if np.iterable(value) else (value, value)
    if len(values) != 2:
        raise ValueError(f"{of}: {name} must be a whole number or a pair of them (vertical, horizontal), not {value!r}")
    return whole(of, name, values[0], least), whole(of, name, values[1], least)


def single(of: str, name: str, value, least: int) -> int:
    """A number for the one axis of a sequence, which may stand in a sequence of one."""
    values = tuple(value) if np.iterable(value) else (value,)
    if len(values) != 1:
        raise ValueError(f"{of}: {name} must be one whole number, not {value!r}")
    return whole(of, name, values[0], least)
