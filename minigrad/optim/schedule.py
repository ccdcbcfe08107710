"""Schedules: functions from the number of a step to the learning rate, which can be pickled."""
import functools
import math
from collections.abc import Callable

from .optimizer import number


def step_decay(base: float, every: int, factor: float = 0.5) -> Callable[[int], float]:
    """A schedule, from the step number (0 for the first) to the learning rate: base factor^floor(step / every).

    Raises:
        TypeError, ValueError: `base` or `factor` is no number, or negative; `every` is none of at least 1.
    """
    for value, name, least in ((base, "base", 0), (factor, "factor", 0), (every, "every", 1)):
        number(value, f"step_decay: {name}", least=least)
    return functools.partial(_stepped, base, every, factor)


def cosine_decay(base: float, total: int, warmup: float = 0, final: float = 0.0) -> Callable[[int], float]:
    """A schedule, from the step number (0 for the first) to the learning rate.

        base (step + 1) / warmup, at most base                                      while step < warmup,
        final + (base - final) (1 + cos(pi (step - warmup) / (total - warmup))) / 2 then, and `final` from step `total` on.

    (I. Loshchilov and F. Hutter 2016, arXiv:1608.03983, without restarts.)

    Raises:
        TypeError, ValueError: one of the arguments is no number, or negative.
    """
    return _decay("cosine_decay", _cosine, base, total, warmup, final)


def linear_decay(base: float, total: int, warmup: float = 0, final: float = 0.0) -> Callable[[int], float]:
    """As `cosine_decay`, but along a line: final + (base - final) (1 - (step - warmup) / (total - warmup)) after the warmup.

    Raises:
        TypeError, ValueError: one of the arguments is no number, or negative.
    """
    return _decay("linear_decay", _line, base, total, warmup, final)


def _stepped(base, every, factor, step):
    return base * factor ** (number(step, "step_decay: step") // every)


def _decay(name, left, base, total, warmup, final):
    """The schedule of this name; `left` says from its progress, 0 to 1, which part of the way down is left."""
    for value, argument in ((base, "base"), (total, "total"), (warmup, "warmup"), (final, "final")):
        number(value, f"{name}: {argument}")
    return functools.partial(_decayed, name, left, base, total, warmup, final)


def _decayed(name, left, base, total, warmup, final, step):
    number(step, f"{name}: step")
    if step < warmup:
        return base * min((step + 1) / warmup, 1)  # a warmup of a broken number of steps ends within one
    return final + (base - final) * left(1 if step >= total else (step - warmup) / (total - warmup))


def _cosine(progress):
    return (1 + math.cos(math.pi * progress)) / 2


def _line(progress):
    return 1 - progress
