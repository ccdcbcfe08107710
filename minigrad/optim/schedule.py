"""Schedules: functions from the number of a step to the learning rate, which can be pickled; and one that watches a number."""
import functools
import math
from collections.abc import Callable

import numpy as np

from ..ops.geometry import one_of, whole
from ..tensor import as_tensor
from .optimizer import instance, matching, number, Optimizer


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


def one_cycle(base: float, total: int, pct_start: float = 0.3, div_factor: float = 25.0,
              final_div_factor: float = 1e4) -> Callable[[int], float]:
    """A schedule, from the step number (0 for the first) to the learning rate: along half a cosine from base / div_factor up to
    `base`, at step pct_start total - 1, and along another down to base / div_factor / final_div_factor, at step total - 1.

    (L. Smith and N. Topin 2017, arXiv:1708.07120, with PyTorch's arguments.) The momentum is left alone.

    Raises:
        TypeError, ValueError: one of the arguments is no number or negative, pct_start above 1, or a factor below 1.
    """
    for value, argument, least in ((base, "base", 0), (total, "total", 1), (pct_start, "pct_start", 0),
                                   (div_factor, "div_factor", 1), (final_div_factor, "final_div_factor", 1)):
        number(value, f"one_cycle: {argument}", least=least)
    if pct_start > 1:
        raise ValueError(f"one_cycle: pct_start is a part of the steps, 1 at most, not {pct_start}")
    return functools.partial(_cycled, base, total - 1, pct_start * total - 1, base / div_factor,
                             base / div_factor / final_div_factor)


class ReduceLROnPlateau:
    """Makes an optimiser's learning rate smaller when a number that is measured gets no better:

        schedule = optim.ReduceLROnPlateau(optimizer, patience=5)
        schedule.step(loss)                                             # once an epoch

    Args:
        optimizer: the one whose `lr` is set; groups keep their ratios to it.
        mode: whether the number shall become small ("min") or large ("max").
        factor: lr = factor lr, in [0, 1).
        patience: how many steps in a row without a better number change nothing yet.
        threshold: how much better counts: a part of the best number ("rel", for positive ones) or a difference ("abs"), as
            `threshold_mode` says.
        cooldown: how many steps after a change are not counted.
        min_lr: no lower.
        eps: a change that is no larger is left out.

    Attributes:
        best: the best number so far.

    Raises:
        TypeError, ValueError: one of the arguments is not of its type, or out of its range.
    """

    def __init__(self, optimizer: Optimizer, mode: str = "min", factor: float = 0.1, patience: int = 10, threshold: float = 1e-4,
                 threshold_mode: str = "rel", cooldown: int = 0, min_lr: float = 0.0, eps: float = 1e-8):
        name = type(self).__name__
        instance(optimizer, Optimizer, f"{name}: optimizer")
        self.optimizer, self.mode = optimizer, one_of(name, "mode", mode, ("min", "max"))
        self.factor, self.threshold = number(factor, f"{name}: factor", below=1), number(threshold, f"{name}: threshold")
        self.threshold_mode = one_of(name, "threshold_mode", threshold_mode, ("rel", "abs"))
        self.patience, self.cooldown = whole(name, "patience", patience, 0), whole(name, "cooldown", cooldown, 0)
        self.min_lr, self.eps = number(min_lr, f"{name}: min_lr"), number(eps, f"{name}: eps")
        self.best, self.bad, self.cooling = math.inf if mode == "min" else -math.inf, 0, 0

    def step(self, metrics: float) -> None:
        """Takes the next number. ValueError if it is none; one that is not a number (NaN) is no better than others."""
        value = as_tensor(metrics)
        if value.size != 1:
            raise ValueError(f"ReduceLROnPlateau.step: one number wanted, got shape {value.shape}")
        value, sign = float(value.item()), 1 if self.mode == "min" else -1
        better = sign * self.threshold
        limit = self.best - better if self.threshold_mode == "abs" else self.best * (1 - better)
        if sign * value < sign * limit:
            self.best, self.bad = value, 0
        else:
            self.bad += 1
        if self.cooling:
            self.cooling, self.bad = self.cooling - 1, 0
        if self.bad > self.patience:
            lr, self.cooling, self.bad = max(self.factor * self.optimizer.lr, self.min_lr), self.cooldown, 0
            if self.optimizer.lr - lr > self.eps:
                self.optimizer.lr = lr

    def state_dict(self) -> dict[str, np.ndarray]:
        """A dict from names to arrays."""
        return {name: np.array(getattr(self, name)) for name in ("best", "bad", "cooling")}

    def load_state_dict(self, state: dict) -> None:
        """Puts back what `state_dict` returned. Errors as of an optimiser's."""
        found = matching("ReduceLROnPlateau.load_state_dict", state, {"best": np.zeros(())}, ["bad", "cooling"])
        self.best, self.bad, self.cooling = float(found["best"]), found["bad"], found["cooling"]


def _cycled(base, last, top, start, final, step):
    number(step, "one_cycle: step")
    if 0 < top >= step:
        return base + (start - base) * _cosine(step / top)
    return final + (base - final) * _cosine(1 if step >= last else (step - top) / (last - top))


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
