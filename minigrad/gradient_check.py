"""Derivatives by rule against central differences, to any order, along one random direction.

A function of many arguments becomes a function of one number: the outputs are contracted with random weights c, and the
arguments move along a random direction v,

    g_0(x) = sum(c f(x)),    g_k(x) = d/dt g_{k-1}(x + t v) at t = 0 = sum(grad g_{k-1}(x) v),

so that one comparison of two numbers at each order takes in all elements of the Jacobian: a wrong one is missed only if the
random numbers conspire. `g_k` is computed by the rules from `g_{k-1}`, and compared with central differences of `g_{k-1}`.
"""
import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from . import tree
from .backend import is_array, is_float, xp
from .ops.geometry import whole
from .tensor import Tensor, asarray
from .transforms import grad


def check_derivatives(f: Callable, *args: Any, order: int = 3, seed: int = 0, step: float = 1e-5, rtol: float = 2e-5) -> None:
    """Compares the derivatives of `f(*args)` by its gradient rules with central differences; for rules of your own.

    One derivative of each order is compared, along a random direction through all arguments. Differences are of use only
    where all computation is in float64, so floating-point arguments of any dtype are converted to it. Choose arguments of
    about 1, away from kinks and ties (of `relu`, `max`, ...): at them the differences have another value.

    Args:
        f: a function that returns a Tensor of any shape, or a tree of Tensors, and always the same ones for the same
            arguments. Integers and bools among them are left out.
        args: Tensors, arrays, numbers, or trees of them (nested dicts, lists, tuples). `f` is called with float64 Tensors in
            place of the floating-point ones; integers, bools, and anything else are given to `f` as they are.
        order: the highest order to check, at least 1. Each costs about three times as much as the one before.
        seed: of the random direction and weights; try several.
        step: of the differences.
        rtol: the difference allowed between the two, relative to the larger one; four times as much at each further order.
            Where both are small it is relative to 1, or to the terms that values and derivatives are sums of if these are
            below 1. Where all these vanish, as of x^3 at 0, differences of one step and of two may differ as much.

    Raises:
        AssertionError: they differ, or a gradient has another shape or dtype than its argument, or `f` has no derivative that
            could be checked: it returns other values when called again, or values that are not finite.
        TypeError: no argument is floating point, or `f` returns something else than float64 Tensors.
        ValueError: an option is out of its range.

    >>> check_derivatives(lambda x, w: tanh(x @ w), np.ones((2, 3)), np.ones((3, 4)))
    """
    if not callable(f):
        raise TypeError(f"check_derivatives: expected a function, not {type(f).__name__}")
    order, seed = whole("check_derivatives", "order", order, 1), whole("check_derivatives", "seed", seed, 0)
    for name, value in (("step", step), ("rtol", rtol)):
        if not 0 < value < math.inf:
            raise ValueError(f"check_derivatives: {name} must be a number above 0, not {value!r}")

    leaves, rebuild = tree.flatten(args)
    places, names = _floating_leaves(args, leaves)
    xs = [_as_float64(leaves[i]) for i in places]

    def outputs(xs):
        """The floating-point outputs, a list of Tensors, with the Tensors `xs` as the floating-point arguments."""
        replaced = dict(zip(places, xs))
        return _checked_outputs(f(*rebuild([replaced.get(i, x) for i, x in enumerate(leaves)])))

    rng = np.random.default_rng(seed)
    ys = outputs(xs)
    _check_same(ys, outputs(xs))
    weights = [_random(rng, y) for y in ys]
    vs = [_random(rng, x) for x in xs]

    def g(*xs):
        now = outputs(xs)
        if [y.shape for y in now] != [c.shape for c in weights]:
            raise AssertionError(f"check_derivatives: the shape of the result depends on the arguments' values: "
                                 f"{[c.shape for c in weights]} became {[y.shape for y in now]}")
        return _total([(y * c).sum() for y, c in zip(now, weights)])

    size = sum(_sum_of_sizes(y, c) for y, c in zip(ys, weights))  # of the terms summed: what rounding is relative to
    for k in range(1, order + 1):
        grads = grad(g, tuple(range(len(xs))))(*xs)
        for name, x, d in zip(names, xs, grads):
            if d.shape != x.shape or d.dtype != x.dtype:
                raise AssertionError(f"check_derivatives: the gradient of order {k} with respect to {name} is {d.dtype}"
                                     f"{list(d.shape)}; it must be {x.dtype}{list(x.shape)}, as the argument is")
        by_rule = float(_slope(grads, vs))
        by_differences = _differences(g, xs, vs, step)
        size = max(size, sum(_sum_of_sizes(d, v) for d, v in zip(grads, vs)))
        allowed = rtol * 4 ** (k - 1) * max(min(1, size), abs(by_rule), abs(by_differences))
        error = abs(by_rule - by_differences)
        if not error <= allowed and not error <= min(rtol, abs(_differences(g, xs, vs, 2 * step) - by_differences)):
            raise AssertionError(_report(g, xs, vs, grads, names, k, seed, step, by_rule, by_differences, allowed))
        g = _along(g, vs)


def _floating_leaves(args, leaves):
    """Which of the leaves of the arguments are to be differentiated in, by number, and what errors call these."""
    names = [f"argument {i}" + (f", leaf {j}" if len(part) > 1 else "") for i, part in enumerate(map(tree.leaves, args))
             for j in range(len(part))]
    places = [i for i, x in enumerate(leaves) if _is_floating(x)]
    if not places:
        raise TypeError("check_derivatives: no argument is floating point, so there is nothing to differentiate in "
                        "(integers, such as indices, are constants: write 2.0 for 2)")
    return places, [names[i] for i in places]


def _is_floating(x):
    """Whether the leaf `x` of an argument is to be differentiated in."""
    return is_float(x.dtype) if isinstance(x, Tensor) or is_array(x) else isinstance(x, (float, np.floating))


def _as_float64(x):
    """A copy, as a Tensor that is no part of any graph."""
    array = asarray(x)
    return Tensor(array.astype(np.float64) if is_array(array) else np.asarray(array, np.float64))


def _checked_outputs(result):
    """The floating-point Tensors among the leaves of what `f` returned."""
    ys = tree.leaves(result)
    for y in ys:
        if not isinstance(y, Tensor):
            raise TypeError("check_derivatives: the function must return a Tensor or a tree of Tensors, not "
                            f"{type(y).__name__}; float(), .item() and .numpy() leave the graph")
    ys = [y for y in ys if is_float(y.dtype)]
    if not ys:
        raise TypeError("check_derivatives: the function returned no floating-point Tensor, so there is nothing to check")
    for y in ys:
        if y.dtype != np.float64:
            raise TypeError(f"check_derivatives: the function returned {y.dtype} for arguments of float64; differences need "
                            "float64 all through: let it convert nothing to another dtype")
    return ys


def _check_same(ys, again):
    """Refuses outputs that a second call does not repeat, and such as are not finite."""
    for y, z in zip(ys, again):
        y, z = y.numpy(), z.numpy()
        if not np.isfinite(y).all():
            raise AssertionError("check_derivatives: the result is not finite for these arguments, so it has no derivative "
                                 "there; choose others")
        if y.shape != z.shape or abs(y - z).max(initial=0) > 1e-12 * abs(y).max(initial=0):
            raise AssertionError("check_derivatives: the function returned other values when it was called again with the same "
                                 "arguments; if it draws random numbers, call minigrad.random.seed inside it")
    if len(ys) != len(again):
        raise AssertionError(f"check_derivatives: the function returned {len(ys)} Tensors, and {len(again)} when called again")


def _random(rng, like):
    """Normal random numbers, an array of the shape and on the device of the Tensor `like`."""
    return xp(asarray(like)).asarray(rng.normal(size=like.shape))


def _total(tensors):
    return functools.reduce(operator.add, tensors)


def _sum_of_sizes(x, y):
    return float(abs(asarray(x) * y).sum())


def _slope(grads, vs):
    """The derivative along the direction `vs` of what has these gradients."""
    return _total([(d * v).sum() for d, v in zip(grads, vs)])


def _along(g, vs):
    """The derivative of the scalar function `g` along the direction `vs`, again such a function."""
    def derivative(*xs):
        return _slope(grad(g, tuple(range(len(xs))))(*xs), vs)

    return derivative


def _differences(g, xs, vs, step, sides=(1, -1)):
    """The slope of `g` along `vs` between the points that lie at `sides` times `step`."""
    a, b = (float(g(*[Tensor(asarray(x) + side * step * v) for x, v in zip(xs, vs)])) for side in sides)
    return (a - b) / ((sides[0] - sides[1]) * step)


def _report(g, xs, vs, grads, names, order, seed, step, by_rule, by_differences, allowed):
    """The message of a derivative that is wrong: both numbers, also for each argument alone, and what this may mean."""
    lines = [f"check_derivatives: the derivative of order {order} along the random direction of seed {seed} is {by_rule} by "
             f"rule, {by_differences} by central differences of step {step}; they may differ by {allowed:.1e}"]
    silent = []
    for i, (name, x, d) in enumerate(zip(names, xs, grads)):
        alone = [v if i == j else 0 * v for j, v in enumerate(vs)]
        rule, difference = float((d * vs[i]).sum()), _differences(g, xs, alone, step)
        lines.append(f"  {name}, shape {x.shape}: {rule} by rule, {difference} by differences")
        if rule == 0 and abs(difference) > allowed:
            silent.append(name)
    slopes = [_differences(g, xs, vs, step, (side, side + 0.5)) for side in (-1, -0.5, 0, 0.5)]
    if not max(slopes) - min(slopes) <= max(1e-2 * max(map(abs, slopes)), 100 * allowed):
        lines.append(f"Between the two points of the differences the slope goes from {min(slopes)} to {max(slopes)}: there is "
                     "a kink, a tie or a jump. Choose other arguments.")
    elif silent:
        what = "the result changes" if order == 1 else f"the derivative of order {order - 1} changes"
        where = "the function" if order == 1 else "a gradient rule"
        lines.append(f"By rule it is 0 or missing for {' and for '.join(silent)}, although {what} with it: {where} leaves the "
                     "graph (.numpy(), .data, .item(), .detach(), stop_gradient, no_grad), or an operation has no rule for it.")
    elif order > 1:
        lines.append(f"To order {order - 1} the rules are right, so an operation that a rule is made of has a wrong rule, or "
                     "the rule computes with values that it takes for constants.")
    else:
        lines.append("One of the gradient rules is wrong; or arguments or values are so large or small that the differences "
                     "are: then choose another step or arguments of about 1.")
    return "\n".join(lines)
