"""The geometry of windows: whole numbers in their range, one for both axes or a pair (vertical, horizontal)."""
from __future__ import annotations

import operator

import numpy as np

Pair = int | tuple[int, int]  # (vertical, horizontal), or one number for both


def whole(of: str, name: str, value, least: int) -> int:
    """`value` as a whole number that is at least `least`.

    Raises:
        ValueError: it is less, or no whole number; `of` and `name` say whose argument it is.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = int(value) if isinstance(value, (float, np.floating)) and float(value).is_integer() else None
    if number is None or isinstance(value, (bool, np.bool_)) or number < least:
        raise ValueError(f"{of}: {name} must be a whole number, {least} or more, not {value!r}")
    return number


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
