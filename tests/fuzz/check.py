"""What must be true of every call."""
from __future__ import annotations

import dataclasses
import re
import warnings

import numpy as np
from checks import definitions

import minigrad as mg
from minigrad import nn, tree
from minigrad.backend import is_float
from minigrad.backend.cpu import native

from . import references
from .draw import Call, FLOATS

TOLERANCE = {"float64": 1e-9, "float32": 3e-4, "float16": 2e-2, "bfloat16": 8e-2}
PROPER = (ValueError, TypeError, IndexError, OverflowError, MemoryError)  # of NumPy AxisError and LinAlgError among them


class Finding(AssertionError):
    """A property that does not hold."""


@dataclasses.dataclass
class Result:
    """What a call gave: arrays of the outputs and of the gradients, or an error."""
    outputs: list = dataclasses.field(default_factory=list)
    gradients: list = dataclasses.field(default_factory=list)
    error: Exception | None = None

    def __str__(self):
        return f"{type(self.error).__name__}: {self.error}" if self.error else "a value"


def check(call: Call) -> None:
    """Raises `Finding` for the first property of the call that does not hold."""
    arrays = call.arrays()
    values = [a.make() for a in arrays]
    result = run(call, values)
    for i, (array, value) in enumerate(zip(arrays, values)):
        if array.role != "state" and not _equal(value, array.make()):
            raise Finding(f"the call changed argument x{i}")
    if result.error is not None:
        _check_error(call, result.error)
    for name, context in (("without C", native.using(False)), ("by the definition", definitions())):
        with context:
            other = run(call, [a.make() for a in arrays])
        _compare("as usual", result, name, other, call)
    if call.spoiled:
        return
    others = list(references.results(call, arrays, run))
    if result.error is not None and call.kind in ("nice", "ties") and not any(other.error for _, other in others):
        raise Finding(f"refused: {result}")
    for name, other in others:
        if result.error is not None and other.error is None and call.kind != "whole":
            raise Finding(f"refused, though {name} takes it: {result}")
        if result.error is None and other.error is None:
            _compare("minigrad", result, name, other, call)
    if result.error is None:
        _check_gradients(call, values, result)
        if call.kind == "nice" and call.then is None and call.name not in references.GLOBAL:
            _check_locality(call, arrays, result)
        if call.kind == "nice" and call.name in references.APART:
            _check_samples(call, arrays)
        if call.kind == "nice" and result.gradients and call.name not in references.ROUGH:
            _check_derivatives(call, values)


def run(call: Call, values: list, cotangents: list | None = None) -> Result:
    """The call with these arrays; gradients for fixed cotangents (or those given) of all outputs together.

    What comes out unchanged and is no number, a slice or a text, is left out.
    """
    roles = [a.role for a in call.arrays()]
    inputs = [mg.Tensor(v, requires_grad=is_float(v.dtype)) if role == "input" else v for v, role in zip(values, roles)]
    mg.random.seed(0)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            outs, leaves = applied(call, inputs)
            outs = [y for y in tree.leaves(outs) if y is not None]
            ys = [y for y in outs if isinstance(y, mg.Tensor) and y.requires_grad]
            for y, c in zip(ys, cotangents or [cotangent(y.shape, y.dtype, i) for i, y in enumerate(ys)]):
                y.backward(c, retain_graph=True)
        except Exception as error:
            return Result(error=error)
    leaves = [x for x in (*inputs, *leaves) if isinstance(x, mg.Tensor) and x.requires_grad] if ys else []
    arrays = [np.array(y.numpy() if isinstance(y, mg.Tensor) else y) for y in outs]
    arrays = [a for a in arrays if a.dtype.kind not in "OUS"]
    return Result([*arrays, *[v for v, role in zip(values, roles) if role == "state"]],
                  [None if x.grad is None else np.array(x.grad.numpy()) for x in leaves])


def applied(call: Call, values: list, library=references.minigrad) -> tuple:
    """The outputs of the call, and what else gets gradients: the parameters of a layer."""
    args, kwargs, then = call.arguments(values)
    out = library(call.name)(*args, **kwargs)
    if then is None:
        return out, []
    if not isinstance(out, nn.Module):
        return out(*then), []
    y = out(*then)
    return [y, *[b for _, b in out.named_buffers()]], list(out.parameters())


def cotangent(shape, dtype, i):
    return np.asarray(np.cos(np.arange(int(np.prod(shape)), dtype=float) + i).reshape(shape)).astype(dtype)


def _equal(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def _check_error(call, error):
    if not isinstance(error, PROPER):
        raise Finding(f"the wrong kind of error: {type(error).__name__}: {error}") from error
    if len(str(error)) < 8:
        raise Finding(f"an error that says nothing: {type(error).__name__}: {error}") from error


def _compare(here, a, there, b, call):
    if (a.error is None) != (b.error is None):
        raise Finding(f"{here} and {there}: {a} and {b}")
    if a.error is not None:
        if not isinstance(a.error, type(b.error)) and not isinstance(b.error, type(a.error)):
            raise Finding(f"{here} and {there}, other errors: {a} and {b}")
        return
    for what, xs, ys in (("output", a.outputs, b.outputs), ("gradient", a.gradients, b.gradients)):
        if what == "gradient" and b.gradients is None:
            return
        if what == "gradient" and call.kind == "special" and not all(np.isfinite(y.astype(float)).all() for y in b.outputs):
            return
        infinite = any(np.isinf(value) for array in call.arrays() for _, value in array.special)
        corner = what == "gradient" and (infinite or there == "PyTorch" and call.kind != "nice")  # subgradients may be chosen
        if len(xs) != len(ys):
            raise Finding(f"{here} and {there}: {len(xs)} and {len(ys)} {what}s")
        for i, (x, y) in enumerate(zip(xs, ys)):
            if (x is None) != (y is None):
                raise Finding(f"{here} and {there}: {what} {i} is {'there' if x is not None else 'missing'} here only")
            if x is not None:
                _compare_arrays(f"{here} and {there}: {what} {i}", x, y, call, there, corner)


def _compare_arrays(what, x, y, call, there, corner):
    if x.shape != y.shape:
        raise Finding(f"{what}: shapes {x.shape} and {y.shape}")
    if x.dtype != y.dtype and not (there == "PyTorch" and not all(a.dtype in FLOATS for a in call.arrays())):
        raise Finding(f"{what}: dtypes {x.dtype} and {y.dtype}")
    tolerance = max([*[TOLERANCE.get(str(a.dtype), 0) for a in (x, y)], *[TOLERANCE.get(a.dtype, 0) for a in call.arrays()]])
    tolerance *= 30 if call.kind == "special" and call.then is not None else 1
    if not is_float(x.dtype) and not is_float(y.dtype):
        if not np.array_equal(x, y):
            raise Finding(f"{what}: {_first(x, y, x != y)}")
        return
    x, y = x.astype(float), y.astype(float)
    scale = max(1, np.max(np.abs(x[np.isfinite(x)]), initial=0))
    with np.errstate(all="ignore"):
        differ = ~np.isclose(x, y, rtol=tolerance, atol=tolerance * (1 if call.kind == "special" else scale), equal_nan=True)
    if corner:
        differ = ~np.isfinite(x) & np.isfinite(y)
    elif call.kind == "special" and there != "NumPy":  # others may lose more to infinity, not less
        differ &= np.isfinite(y)
    if differ.any():
        raise Finding(f"{what}: {_first(x, y, differ)}")


def _first(x, y, differ):
    place = tuple(map(int, np.argwhere(differ)[0]))
    return f"at {place} {x[place]} and {y[place]}"


def _check_gradients(call, values, result):
    given = [v for v, a in zip(values, call.arrays()) if a.role == "input" and is_float(v.dtype)]
    for i, (x, g) in enumerate(zip(given, result.gradients)):
        if g is not None and (g.shape != x.shape or g.dtype != x.dtype):
            raise Finding(f"gradient {i} is {g.dtype}{list(g.shape)}, the input {x.dtype}{list(x.shape)}")


def _check_locality(call, arrays, result):
    """What does not depend on an element, whatever stands there and elsewhere, stays finite when that is NaN.

    Dependence is tried out in float64 with numbers drawn anew. Gradients count as outputs, their cotangents as inputs.
    """
    values = [np.array(a.make()) for a in arrays]
    rng = np.random.default_rng(len(call.code()))
    chosen = [i for i, (v, a) in enumerate(zip(values, arrays)) if is_float(v.dtype) and v.size and a.role == "input"]
    if not chosen or not result.gradients or any(v.size > 60 or v.ndim == 0 or 1 in v.shape for v in values):
        return  # softmax of one number is 1, whatever it is
    if "conv" in call.name:  # zeros around and between pixels are multiplied by the weight, and by gradients of what saw them
        if np.any(call.kwargs.get("padding", 0)):
            return
        chosen = [i for i in chosen if i == 0]
    if () in call.kwargs.values():
        return
    ys = [y for y in result.outputs[:len(result.outputs) - sum(a.role == "state" for a in arrays)] if is_float(y.dtype)]
    cotangents = [cotangent(y.shape, y.dtype, i) for i, y in enumerate(ys)]
    filled = [i for i, y in enumerate(ys) if y.size]
    tried = (chosen, values), (filled, cotangents)
    for which, group in [(int(rng.choice(places)), group) for places, group in tried if places]:
        place = int(rng.integers(group[which].size))
        depends = None
        for attempt in range(6):
            drawn = [_drawn_anew(a, rng) if attempt and not a.whole and a.role == "input" else v.copy()
                     for v, a in zip(values, arrays)]
            others = [rng.normal(size=y.shape) for y in ys]
            seen = []
            for number in (None, 0.7, 1e3, -1e3):
                if number is not None:
                    (drawn if group is values else others)[which].flat[place] = number
                seen.append(_flat(run(call, [v.copy() for v in drawn], others)))
            if len({len(x) for x in seen}) > 1 or not len(seen[0]):
                return
            moved = np.logical_or.reduce([~(abs(x - seen[0]) <= 1e-13 * abs(seen[0])) for x in seen[1:]])
            if depends is not None and len(depends) != len(moved):
                return
            depends = moved if depends is None else depends | moved
        before = _flat(run(call, [v.copy() for v in values], cotangents))
        group[which].flat[place] = np.nan
        after = _flat(run(call, [v.copy() for v in values], cotangents))
        if len(before) == len(after) == len(depends):
            spoilt = ~depends & np.isfinite(before) & ~np.isfinite(after)
            if spoilt.any():
                what = f"x{which}" if group is values else f"cotangent {which}"
                where = _place(int(spoilt.argmax()), result)
                raise Finding(f"NaN in {what}, number {place}, spreads to what does not depend on it: {where}")


def _check_samples(call, arrays):
    """A number that is not finite, or the largest, in one sample or its cotangent leaves all other samples as they were."""
    axis, count = references.APART[call.name]
    least = 3 if call.name in references.STACKS else 2 + axis
    axis = 0 if call.kwargs.get("batch_first") is True else axis
    values = [np.array(a.make()) for a in arrays]
    first = len(values) - len(Call("", then=call.then).arrays()) if call.then is not None else 0
    inputs = [i for i in range(first, min(first + count, len(values))) if arrays[i].role == "input"]
    if not inputs or any(values[i].ndim < least or values[i].shape[axis] < 2 or not is_float(values[i].dtype) or
                         not values[i].size or values[i].ndim != values[inputs[0]].ndim or  # one sample serves all
                         values[i].shape[axis] != values[inputs[0]].shape[axis] for i in inputs):
        return
    rng, n = np.random.default_rng(len(call.code())), values[inputs[0]].shape[axis]
    before = run(call, [v.copy() for v in values])
    cotangents = [np.array(cotangent(y.shape, y.dtype, i)) for i, y in enumerate(before.outputs) if is_float(y.dtype)]
    where, bad = int(rng.integers(n)), rng.choice([np.nan, np.inf, -np.inf, 3e38])
    groups = [(values, int(rng.choice(inputs)))]
    if before.gradients and cotangents and cotangents[0].ndim > axis and cotangents[0].shape[axis] == n and cotangents[0].size:
        groups.append((cotangents, 0))
    for group, which in groups:
        given = [v.copy() for v in values], [g.copy() for g in cotangents]
        part = np.moveaxis(given[group is cotangents][which], axis, 0)[where:where + 1]
        with np.errstate(all="ignore"):
            part[tuple(int(rng.integers(side)) for side in part.shape)] = bad
        after = run(call, *given)
        if isinstance(after.error, np.linalg.LinAlgError):
            return  # LAPACK refuses a stack of matrices for one of them
        others = [i for i in range(n) if i != where]
        pairs = [("output", i, a, b) for i, (a, b) in enumerate(zip(before.outputs, after.outputs))]
        pairs += [("gradient", i, before.gradients[i], after.gradients[i]) for i in range(len(inputs))
                  if i < len(before.gradients)] if after.error is None else []
        what = f"{bad} in sample {where} of {'a cotangent' if group is cotangents else f'x{which}'}"
        if after.error is not None:
            raise Finding(f"{what}: {after}")
        for kind, i, a, b in pairs:
            if a is None or b is None or a.ndim <= axis or a.shape[axis] != n:
                continue
            a, b = (np.take(x, others, axis).astype(float) for x in (a, b))
            if not np.allclose(a, b, rtol=1e-2, atol=1e-2 * max(1, abs(a).max(initial=0)), equal_nan=True):
                raise Finding(f"{what} changes others: {kind} {i}: {_first(a, b, ~np.isclose(a, b, rtol=1e-2, atol=1e-2))}")


def _drawn_anew(array, rng):
    dtype = "float64" if array.dtype in FLOATS else array.dtype
    return np.array(dataclasses.replace(array, dtype=dtype, layout="dense", seed=int(rng.integers(1000))).make())


def _flat(result):
    parts = [] if result.error else [x for x in (*result.outputs, *result.gradients) if x is not None]
    return np.concatenate([x.astype(float).reshape(-1) for x in parts]) if parts else np.zeros(0)


def _place(number, result):
    """What number `number` of `_flat` is."""
    for kind, arrays in (("output", result.outputs), ("gradient", result.gradients)):
        for i, x in enumerate(arrays):
            if x is not None and number < x.size:
                return f"{kind} {i} at {tuple(map(int, np.unravel_index(number, x.shape)))}"
            number -= 0 if x is None else x.size
    return "?"


def _check_derivatives(call, values):
    roles = [a.role for a in call.arrays()]
    places = [i for i, v in enumerate(values) if roles[i] == "input" and is_float(v.dtype) and v.size]

    def f(*xs):
        given = [v.copy() if r != "input" else mg.Tensor(v) for v, r in zip(values, roles)]
        for i, x in zip(places, xs):
            given[i] = x
        mg.random.seed(0)
        outs, _ = applied(call, given)
        return [y for y in tree.leaves(outs) if isinstance(y, mg.Tensor) and y.dtype == np.float64]

    if not places or sum(values[i].size for i in places) > 200:
        return
    try:
        with np.errstate(all="ignore"):
            mg.check_derivatives(f, *[values[i].astype(np.float64) for i in places], order=2, rtol=1e-4)
    except AssertionError as error:
        numbers = re.search(r"is (\S+) by rule, (\S+) by central", str(error))
        tiny = numbers and all(abs(float(n)) < 1e-8 for n in numbers.groups())
        by_chance = "not finite", "other values", "a kink, a tie or a jump"  # as numbers that are drawn are, sometimes
        if not any(words in str(error) for words in by_chance) and not tiny:
            raise Finding("derivatives: " + re.sub(r"\s+", " ", str(error))[:600]) from None
    except TypeError as error:
        if "no floating-point" not in str(error):
            raise
