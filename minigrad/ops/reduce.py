"""Reductions along axes: `axis` is None for all of them, a number or several; `keepdims` leaves each with length 1."""
from __future__ import annotations

import math

import numpy as np

from ..backend import (
    in_float32, is_float, path, product_in_pairs, result_type, summed, where as choose, with_paths, WORTH_A_PATH, xp)
from ..fused import Fused, halves_in_float32, rounded_like, upcast
from ..primitive import broadcast_to as _broadcast_to, Primitive
from ..tensor import DTypeLike, Tensor, TensorLike, as_tensor, asarray, flag, held, wrap
from .declare import operation
from .elementwise import _as_float, equal, exp, isinf, isnan, maximum, minimum, sqrt, where
from .geometry import Axes, of_a_number, one_axis, one_of, real, several_axes, speaking_as
from .index import sort, take
from .shape import _or_vector, _part, _reshape, _transpose, _unshared, concatenate, diff, flip

_where = where  # in functions with an argument of this name


def _ones_at(shape, axis):
    """`shape` with length 1 along the reduced axes."""
    return tuple(1 if a in axis else n for a, n in enumerate(shape))


def _spread(g, like, axis):
    """The gradient of a reduction, copied along the reduced axes."""
    ones = _ones_at(like.shape, axis)
    if ones[len(ones) - g.ndim:] != g.shape:  # else broadcasting finds the place of each axis
        g = _reshape(g, shape=ones)
    return _broadcast_to(g, shape=like.shape)


def _axes_of_all(of, axis, ndim):
    """As `several_axes`; of a number 0 and -1 are axes too, as in NumPy's sum, prod, max and min, not mean."""
    return () if of_a_number(axis, ndim) else several_axes(of, axis, ndim)


def _reduced(primitive, x, axis, keepdims):
    x, name = as_tensor(x), primitive.name
    return primitive(x, axis=_axes_of_all(name, axis, x.ndim), keepdims=flag(name, "keepdims", keepdims))


def _of_dtype(x, dtype):
    """`x` as a Tensor, in another dtype unless that is None."""
    return as_tensor(x) if dtype is None else as_tensor(x).astype(dtype)


def _selected(name, x, mask, fill):
    """`x` with `fill` where the mask, an argument `where`, is false; as it is if there is none."""
    return x if mask is None else where(_mask(name, mask, x), x, fill)


def _kept(out, dtype):
    """A sum in the dtype that was asked for; of small whole numbers it has a wider one."""
    return out if dtype is None or is_float(out.dtype) else out.astype(dtype)


def _mask(name, mask, x):
    """The argument `where`, bools that broadcast to the shape of x, as a Tensor of that shape."""
    mask = asarray(mask) if isinstance(mask, Tensor) else xp(x._array).asarray(asarray(mask))
    if mask.dtype != bool:
        raise TypeError(f"{name}: where holds bools, not {mask.dtype}")
    try:
        return wrap(xp(mask).broadcast_to(mask, x.shape))
    except ValueError:
        raise ValueError(f"{name}: where of shape {mask.shape} does not broadcast to that of x, {x.shape}") from None


def _initial(name, initial, like):
    """The argument `initial`, one number, as a Tensor of the dtype of `like`."""
    if np.ndim(asarray(initial)):
        raise ValueError(f"{name}: initial is one number, not of shape {np.shape(asarray(initial))}")
    if isinstance(initial, Tensor):
        return initial.astype(like.dtype)
    return wrap(xp(like._array).asarray(held(name, initial, like.dtype)))


def _count(marked, axis, dtype):
    """How many are marked along the axes, but 1 of none; of 16 bits in float32, for float16 cannot count above 65504."""
    return maximum(marked.astype(np.float32).sum(axis, keepdims=True), 1).astype(np.promote_types(dtype, np.float32))


def _to_extremes(g, out, x, axis, keepdims):
    """The gradient goes to the largest (smallest) element, in equal parts to equal ones."""
    out = _reshape(out, shape=_ones_at(x.shape, axis))
    best = equal(x, out)
    if not _surely_finite(out):
        best = best | (isnan(x) & isnan(out))  # where the extreme is not a number, that number is to be seen
    part = upcast(_reshape(g, shape=_ones_at(x.shape, axis))) / _count(best, axis, x.dtype)
    return where(best, rounded_like(part, x), 0)


def _surely_finite(x):
    """Whether all numbers of a Tensor are finite, as far as that is known without waiting for the GPU."""
    return type(x._array) is np.ndarray and bool(np.isfinite(x._array).all())


def _share(x, out, axis):
    """exp(x - out), the share of x in out = log(sum(exp(x))) along the axis; of infinite terms an equal part each."""
    if _surely_finite(out):
        return exp(x - out)
    infinite, largest = isinf(out), equal(x, math.inf)
    part = rounded_like(largest / _count(largest, axis, x.dtype), x)
    return where(infinite, part, exp(where(infinite, 0, x) - where(infinite, 0, out)))


@in_float32
def _log_sum_exp(x, axis, keepdims):
    module = xp(x)
    x = x if is_float(x.dtype) else x.astype(np.float64)
    if math.prod([x.shape[a] for a in axis]):
        top = x.max(axis=axis, keepdims=True)
    else:
        top = module.full(_ones_at(x.shape, axis), -math.inf, x.dtype)
    top = module.where(module.isfinite(top), top, top.dtype.type(0))
    with np.errstate(divide="ignore", over="ignore"):  # log 0 = -inf, of no terms or terms all 0; and +inf among the terms
        out = module.log(module.exp(x - top).sum(axis=axis, keepdims=True)) + top
    return out if keepdims else out.reshape([n for a, n in enumerate(x.shape) if a not in axis])


def _averaged(x, axis, keepdims):
    n = math.prod([x.shape[a] for a in axis])
    return summed(x, axis, keepdims) / x.dtype.type(n) if is_float(x.dtype) and n else x.mean(axis=axis, keepdims=keepdims)


_sum = Primitive("sum", summed, lambda g, _out, _x, axis, keepdims: _spread(g, _x, axis))


def _sum_of_known(x, axis, keepdims):
    """The array's sum without NaN."""
    if x.size >= WORTH_A_PATH and (found := path("nansum", (x,), {"axis": axis})):
        out = found.forward(x, axis)
        return out.reshape(_ones_at(x.shape, axis)) if keepdims else out
    return summed(choose(x == x, x, x.dtype.type(0)), axis, keepdims)


_nansum = Primitive("nansum", _sum_of_known, lambda g, _out, x, axis, keepdims: where(isnan(x), 0, _spread(g, x, axis)))

_mean = Primitive(
    "mean", in_float32(_averaged),
    lambda g, _out, _x, axis, keepdims: _spread(  # float16 cannot count above 65504
        rounded_like(upcast(g) / math.prod([_x.shape[a] for a in axis]), g), _x, axis))

_max = Primitive("max", lambda x, axis, keepdims: x.max(axis=axis, keepdims=keepdims), _to_extremes)
_min = Primitive("min", lambda x, axis, keepdims: x.min(axis=axis, keepdims=keepdims), _to_extremes)


def _without_nan(name, fill):
    """`max` or `min`, whichever `name` says, of an array's numbers that are not NaN; of nothing else NaN."""
    def extreme(x, axis, keepdims):
        along = {"axis": axis, "keepdims": keepdims}
        if xp(x) is np:
            return getattr(np, f"f{name}").reduce(x, **along)
        holes = x != x
        out = getattr(choose(holes, x.dtype.type(fill), x), name)(**along)
        return choose(holes.all(**along), x.dtype.type(math.nan), out)

    return extreme


_nanmax = Primitive("nanmax", _without_nan("max", -math.inf), _to_extremes)
_nanmin = Primitive("nanmin", _without_nan("min", math.inf), _to_extremes)

_logsumexp = Primitive(
    "logsumexp", with_paths("logsumexp", _log_sum_exp),
    lambda g, out, x, axis, keepdims: _reshape(g, shape=_ones_at(x.shape, axis)) * _share(
        x, _reshape(out, shape=_ones_at(x.shape, axis)), axis))


@operation(method=True, numpy=np.sum)
def sum(x: TensorLike, axis: Axes | None = None, keepdims: bool = False, *, dtype: DTypeLike | None = None,
        initial: TensorLike | None = None, where: TensorLike | None = None) -> Tensor:
    """The sum; of no elements 0.

    Args:
        dtype: convert x to it first; the sum has it too.
        initial: a number to begin with.
        where: bools that broadcast to the shape of x: the elements that count.
    """
    out = _kept(_reduced(_sum, _selected("sum", _of_dtype(x, dtype), where, 0), axis, keepdims), dtype)
    return out if initial is None else out + _initial("sum", initial, out)


@operation(method=True, numpy=np.mean)
def mean(x: TensorLike, axis: Axes | None = None, keepdims: bool = False, *, dtype: DTypeLike | None = None,
         where: TensorLike | None = None) -> Tensor:
    """The arithmetic mean; of no elements NaN. `dtype`, of floating point, and `where` as of `sum`."""
    x = _of_dtype(x, dtype)
    if dtype is not None and not is_float(x.dtype):
        raise TypeError(f"mean: dtype is a floating point one, not {x.dtype}")
    axis, keepdims = several_axes("mean", axis, x.ndim), flag("mean", "keepdims", keepdims)
    if where is None:
        return _mean(x, axis=axis, keepdims=keepdims)
    x, mask = _as_float(x), _mask("mean", where, x)
    wide = upcast(x)
    count = sum(mask.astype(wide.dtype), axis, keepdims)
    return rounded_like(sum(wide, axis, keepdims, where=mask) / _where(count == 0, math.nan, count), x)


@operation(numpy=np.nansum)
def nansum(x: TensorLike, axis: Axes | None = None, keepdims: bool = False) -> Tensor:
    """The sum of what is not NaN."""
    return _reduced(_nansum, x, axis, keepdims)


@operation(numpy=np.nanmean)
def nanmean(x: TensorLike, axis: Axes | None = None, keepdims: bool = False) -> Tensor:
    """The mean of what is not NaN; of nothing NaN."""
    x = as_tensor(x)
    return mean(x, several_axes("nanmean", axis, x.ndim), flag("nanmean", "keepdims", keepdims), where=~isnan(x))


@operation(numpy=np.average)
def average(x: TensorLike, axis: Axes | None = None, weights: TensorLike | None = None, *, keepdims: bool = False) -> Tensor:
    """The mean, weighted: sum(x weights) / sum(weights). Gradients flow into the weights too.

    Args:
        weights: of the shape of x, or a vector of the length of the one axis; None: all alike. Where they add up to 0 the result
            is infinite or NaN.

    Raises:
        ValueError: the weights have another shape.
    """
    x, keepdims = _as_float(x), flag("average", "keepdims", keepdims)
    axis = several_axes("average", axis, x.ndim)
    if weights is None:
        return mean(x, axis, keepdims)
    weights = as_tensor(weights)
    if weights.shape != x.shape and weights.ndim == len(axis) == 1 and weights.size == x.shape[axis[0]]:
        weights = _reshape(weights, shape=tuple(n if a in axis else 1 for a, n in enumerate(x.shape)))
    elif weights.shape != x.shape:
        raise ValueError(f"average: weights of shape {weights.shape} for x of shape {x.shape}; the same is wanted, or a vector "
                         "with one axis given")
    products = x * weights
    total = _broadcast_to(weights, shape=x.shape).astype(products.dtype)
    return rounded_like(sum(upcast(products), axis, keepdims) / sum(upcast(total), axis, keepdims), products)


@operation(method=True, numpy=(np.max, np.amax))
def max(x: TensorLike, axis: Axes | None = None, keepdims: bool = False, *, initial: TensorLike | None = None,
        where: TensorLike | None = None) -> Tensor:
    """The largest element. Equal ones share the gradient evenly.

    Args:
        initial: a number that is in the running too.
        where: bools that broadcast to the shape of x: the elements that count; needs `initial`.

    Raises:
        ValueError: there are no elements, and no `initial`.
    """
    return _extreme(_max, maximum, x, axis, keepdims, initial, where)


@operation(method=True, numpy=(np.min, np.amin))
def min(x: TensorLike, axis: Axes | None = None, keepdims: bool = False, *, initial: TensorLike | None = None,
        where: TensorLike | None = None) -> Tensor:
    """The smallest element. Equal ones share the gradient evenly. Arguments and errors as of `max`."""
    return _extreme(_min, minimum, x, axis, keepdims, initial, where)


def _extreme(primitive, of_two, x, axis, keepdims, initial, mask):
    if initial is None and mask is None:
        return _reduced(primitive, x, axis, keepdims)
    name, x = primitive.name, as_tensor(x)
    if initial is None:
        raise ValueError(f"{name}: where needs initial, which is the result where no element counts")
    initial = _initial(name, initial, x)
    x = _selected(name, x, mask, initial)
    axis = _axes_of_all(name, axis, x.ndim)
    if math.prod([x.shape[a] for a in axis]):
        return of_two(_reduced(primitive, x, axis, keepdims), initial)
    nothing = _sum(x, axis=axis, keepdims=flag(name, "keepdims", keepdims))
    out = _broadcast_to(initial, shape=nothing.shape)
    return out + nothing if is_float(x.dtype) else out  # which keeps it on the graph of x


@operation(numpy=np.nanmax)
def nanmax(x: TensorLike, axis: Axes | None = None, keepdims: bool = False) -> Tensor:
    """The largest of what is not NaN; of nothing else NaN. Equal ones share the gradient evenly.

    Raises:
        ValueError: there are no elements.
    """
    x = as_tensor(x)
    with speaking_as("nanmax"):
        return _reduced(_nanmax if is_float(x.dtype) else _max, x, axis, keepdims)


@operation(numpy=np.nanmin)
def nanmin(x: TensorLike, axis: Axes | None = None, keepdims: bool = False) -> Tensor:
    """The smallest of what is not NaN; of nothing else NaN. Gradients and errors as of `nanmax`."""
    x = as_tensor(x)
    with speaking_as("nanmin"):
        return _reduced(_nanmin if is_float(x.dtype) else _min, x, axis, keepdims)


@operation(method=True)
def logsumexp(x: TensorLike, axis: Axes | None = None, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))) without overflow. Of infinities -inf only, or of no elements, -inf with gradient 0."""
    return _reduced(_logsumexp, x, axis, keepdims)


@operation(method=True, numpy=np.var)
@halves_in_float32(1)
def var(x: TensorLike, axis: Axes | None = None, ddof: float = 0, keepdims: bool = False, *,
        correction: float | None = None) -> Tensor:
    """The variance: the mean squared distance from the mean, the sum being divided by (count - ddof), or 0 if that is less.

    `correction` is another name of `ddof`.
    """
    return _variance("var", as_tensor(x), axis, _corrected("var", ddof, correction), flag("var", "keepdims", keepdims))


def _variance(name, x, axis, ddof, keepdims):
    axis = several_axes(name, axis, x.ndim)
    count = math.prod([x.shape[a] for a in axis])
    squares = (x - mean(x, axis, keepdims=True)) ** 2
    if ddof == 0:
        return mean(squares, axis, keepdims)
    with np.errstate(divide="ignore", invalid="ignore"):
        return sum(squares, axis, keepdims) / (count - ddof if count > ddof else 0.0)


@operation(method=True, numpy=np.std)
@halves_in_float32(1)
def std(x: TensorLike, axis: Axes | None = None, ddof: float = 0, keepdims: bool = False, *,
        correction: float | None = None) -> Tensor:
    """The standard deviation, the square root of `var`; its slope at 0 is 0."""
    return sqrt(_variance("std", as_tensor(x), axis, _corrected("std", ddof, correction), flag("std", "keepdims", keepdims)))


@operation(numpy=np.nanvar)
@halves_in_float32(1)
def nanvar(x: TensorLike, axis: Axes | None = None, ddof: float = 0, keepdims: bool = False, *,
           correction: float | None = None) -> Tensor:
    """The variance of what is not NaN, as `var`; NaN where that is not more than `ddof` numbers."""
    return _nan_variance("nanvar", x, axis, ddof, keepdims, correction)


@operation(numpy=np.nanstd)
@halves_in_float32(1)
def nanstd(x: TensorLike, axis: Axes | None = None, ddof: float = 0, keepdims: bool = False, *,
           correction: float | None = None) -> Tensor:
    """The square root of `nanvar`; its slope at 0 is 0."""
    return sqrt(_nan_variance("nanstd", x, axis, ddof, keepdims, correction))


def _nan_variance(name, x, axis, ddof, keepdims, correction):
    x, ddof, keepdims = _as_float(x), _corrected(name, ddof, correction), flag(name, "keepdims", keepdims)
    axis = several_axes(name, axis, x.ndim)
    there = ~isnan(x)
    distances = where(there, x - mean(x, axis, keepdims=True, where=there), 0)
    count = sum(there.astype(x.dtype), axis, keepdims)
    return sum(distances ** 2, axis, keepdims) / where(count > ddof, count - ddof, math.nan)


def _corrected(name, ddof, correction):
    if correction is not None and ddof != 0:
        raise TypeError(f"{name}: ddof and correction are one argument; give one of them")
    ddof = ddof if correction is None else correction
    if not isinstance(ddof, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name}: {'ddof' if correction is None else 'correction'} is a number, not {ddof!r}")
    return ddof


def _to_last(x, axis):
    """The reduced axes joined into one, at the end."""
    rest = [a for a in range(x.ndim) if a not in axis]
    x = _transpose(x, axes=(*rest, *axis))
    return _reshape(x, shape=(*x.shape[:len(rest)], math.prod(x.shape[len(rest):])))


def _widened(x):
    """A Tensor with the dtype of its product, which small whole numbers would not hold."""
    x = as_tensor(x)
    return x if is_float(x.dtype) else x.astype(np.empty(0, x.dtype).prod().dtype)


_fused_prod = Fused("prod", lambda x: product_in_pairs(x, concatenate))


@operation(method=True, numpy=np.prod)
def prod(x: TensorLike, axis: Axes | None = None, keepdims: bool = False, *, dtype: DTypeLike | None = None,
         initial: TensorLike | None = None, where: TensorLike | None = None) -> Tensor:
    """The product; of no elements 1. Multiplied in pairs, so that derivatives of any order are right where factors are 0.

    Small whole numbers and bools are multiplied in NumPy's default integer, as in `numpy.prod`. `dtype`, `initial` and
    `where` as of `sum`.
    """
    x, keepdims = _selected("prod", _of_dtype(x, dtype), where, 1), flag("prod", "keepdims", keepdims)
    given = x if dtype is not None else _widened(x)
    axis, shape = _axes_of_all("prod", axis, given.ndim), given.shape
    x = _to_last(given, axis)
    if x.shape[-1] != 1:
        x = _fused_prod(x) if x.shape[-1] else sum(x, -1, keepdims=True) + 1
    out = _reshape(x, shape=_ones_at(shape, axis) if keepdims else tuple(n for a, n in enumerate(shape) if a not in axis))
    out = _unshared(out, given) if initial is None else out * _initial("prod", initial, out)
    return _kept(out, dtype)


@operation(numpy=np.median)
def median(x: TensorLike, axis: Axes | None = None, keepdims: bool = False) -> Tensor:
    """The middle element along the axes, or the mean of the middle two, as `numpy.median`; NaN if one is NaN.

    Raises:
        ValueError: there are no elements.
    """
    x, keepdims = _as_float(x), flag("median", "keepdims", keepdims)
    axis, shape = several_axes("median", axis, x.ndim), x.shape
    ordered = sort(_to_last(x, axis), -1)
    n = ordered.shape[-1]
    if not n:
        raise ValueError(f"median: no elements along axis {axis} of shape {shape}")
    low, high, last = (ordered[..., i] for i in ((n - 1) // 2, n // 2, n - 1))
    out = where(isnan(last), last, low if n % 2 else 0.5 * low + 0.5 * high)
    return _reshape(out, shape=_ones_at(shape, axis)) if keepdims else out


@operation(numpy=np.quantile)
def quantile(x: TensorLike, q: TensorLike, axis: Axes | None = None, keepdims: bool = False, *, method: str = "linear") -> Tensor:
    """The numbers below which the shares `q` of the elements along the axes lie, as `numpy.quantile`; NaN if one is NaN.

    Args:
        q: from 0 to 1, a number or several, whose axes come first in the result; constant to differentiation.
        method: between two elements "linear" interpolates; "lower", "higher", "nearest" and "midpoint" take what they say.

    Raises:
        ValueError: there are no elements, or q is not from 0 to 1; TypeError: q requires a gradient.
    """
    x, q, keepdims = as_tensor(x), as_tensor(q), flag("quantile", "keepdims", keepdims)
    if q.requires_grad:
        raise TypeError("quantile: q requires a gradient, but is a constant; pass q.detach()")
    q = q.numpy().astype(np.float64)
    if not ((q >= 0) & (q <= 1)).all():
        raise ValueError(f"quantile: q is from 0 to 1, not {q.tolist()}")
    one_of("quantile", "method", method, ("linear", "lower", "higher", "nearest", "midpoint"))
    pick = {"lower": np.floor, "higher": np.ceil, "nearest": np.rint}.get(method)
    x = _as_float(x) if pick is None else x
    axis, shape = several_axes("quantile", axis, x.ndim), x.shape
    ordered = sort(_to_last(x, axis).T, 0)
    n = len(ordered)
    if not n:
        raise ValueError(f"quantile: no elements along axis {axis} of shape {shape}")
    place = q * (n - 1)
    if pick is not None:
        out = take(ordered, pick(place).astype(int), 0)
    else:
        low, high = np.floor(place).astype(int), np.ceil(place).astype(int)
        share = np.reshape(place - low if method == "linear" else (high - low) / 2, (*q.shape, *[1] * (ordered.ndim - 1)))
        share = wrap(xp(x._array).asarray(share.astype(x.dtype)))
        low, high = take(ordered, low, 0), take(ordered, high, 0)
        level = equal(low, high)  # these are not rounded, nor infinite ones NaN
        finite = level & ~isinf(low)
        rise = where(finite, high, 0) - where(finite, low, 0)  # 0, with gradients for both
        out = where(level, low + share * rise, (1 - share) * low + share * high)
    if is_float(x.dtype):
        out = where(isnan(ordered[-1]), ordered[-1], out)
    out = _transpose(out, axes=(*range(q.ndim), *reversed(range(q.ndim, out.ndim))))
    return _reshape(out, shape=(*q.shape, *_ones_at(shape, axis))) if keepdims else out


@operation(numpy=getattr(np, "trapezoid", None) or np.trapz)
def trapezoid(y: TensorLike, x: TensorLike | None = None, dx: float = 1.0, axis: int = -1) -> Tensor:
    """The integral along an axis by the trapezoidal rule, of `y` at the points `x`, or at points at the distance `dx`.

    Args:
        x: of the shape of y, or a vector of the length of the axis.
    """
    y, x = as_tensor(y), None if x is None else as_tensor(x)
    y = _as_float(y if x is None else y.astype(result_type(y.dtype, x.dtype)))
    axis = one_axis("trapezoid", axis, y.ndim)
    n = y.shape[axis]
    if x is not None:
        if x.shape == (n,):
            x = _reshape(x, shape=tuple(n if a == axis else 1 for a in range(y.ndim)))
        elif x.shape != y.shape:
            raise ValueError(f"trapezoid: x of shape {x.shape} for y of shape {y.shape}; the same is wanted, or a vector of "
                             f"length {n}")
        dx = diff(x if is_float(x.dtype) else x.astype(y.dtype), axis=axis)  # small whole numbers would wrap
    else:
        dx = real("trapezoid", "dx", dx)
    steps = n - 1 if n else 0
    return sum(dx * (0.5 * (_part(y, axis, 0, steps) + _part(y, axis, 1, steps))), axis)


_cumsum = Primitive(
    "cumsum", with_paths("cumsum", in_float32(lambda x, axis: x.cumsum(axis=axis)), least=WORTH_A_PATH),
    lambda g, _out, _x, axis: flip(_cumsum(flip(g, axis), axis=axis), axis))


@operation(method=True, numpy=np.cumsum)
def cumsum(x: TensorLike, axis: int | None = None, *, dtype: DTypeLike | None = None) -> Tensor:
    """Running sums along one axis (None: of the flat Tensor). `dtype` as of `sum`."""
    x, axis = _flat_or_along(_of_dtype(x, dtype), axis)
    return _kept(_cumsum(x, axis=one_axis("cumsum", axis, x.ndim)), dtype)


def _flat_or_along(x, axis):
    """What is accumulated along which axis: with None all numbers in one row."""
    return (x.reshape(-1), 0) if axis is None else (_or_vector(x, axis), axis)


def _cumprod(x):
    """Along the last axis, by doubling the reach log2(n) times."""
    reach = 1
    while reach < x.shape[-1]:
        x = concatenate([x[..., :reach], x[..., reach:] * x[..., :-reach]], -1)
        reach *= 2
    return x


_fused_cumprod = Fused("cumprod", _cumprod)


@operation(method=True, numpy=np.cumprod)
def cumprod(x: TensorLike, axis: int | None = None, *, dtype: DTypeLike | None = None) -> Tensor:
    """Running products along one axis (None: of the flat Tensor). `dtype` as of `sum`."""
    x, axis = _flat_or_along(_widened(x) if dtype is None else _of_dtype(x, dtype), axis)
    axis = one_axis("cumprod", axis, x.ndim)
    return _unshared(_fused_cumprod(x.swapaxes(axis, -1)).swapaxes(axis, -1), x)


def _softmax(x):
    """y = exp(x) / sum(exp(x)) along the last axis.

    Its gradient needs no Jacobian matrix. dy_i/dx_j = y_i ([i = j] - y_j), so the chain rule gives

        gx_j = sum over i of g_i y_i ([i = j] - y_j) = y_j (g_j - sum over i of g_i y_i),

    one sum a row. That is what the paths compute; the definition arrives at the same through the rules of its parts.
    """
    x = _below_zero(x)
    return _share(x, logsumexp(x, -1, keepdims=True), -1)


def _log_softmax(x):
    """x - log(sum(exp(x))) along the last axis."""
    x = _below_zero(x)
    return x - logsumexp(x, -1, keepdims=True)


def _subtract_largest(x):
    """x minus the largest of its row, 0 where that stands, an infinite one too; a row of -inf only stays."""
    if not x.size:
        return x
    where, top, zero = xp(x).where, x.max(-1, keepdims=True), x.dtype.type(0)
    top = where(top == -math.inf, zero, top)
    largest = x == top
    return where(largest, zero, x) - where(largest, zero, top)


# A common offset changes no share but would cost digits. It counts as a constant: the slope is 1 beside infinities, too.
_below_zero = Primitive("below_zero", _subtract_largest, lambda g, _out, _x: g)


_fused_softmax, _fused_log_softmax = Fused("softmax", _softmax), Fused("log_softmax", _log_softmax)


def _along_last(operation, x, axis):
    """An operation along the last axis, along another one."""
    x = _as_float(x)
    if x.ndim == 0 and (row := _or_vector(x, axis)) is not x:
        return _reshape(operation(row), shape=())
    axis = one_axis(operation.name, axis, x.ndim)
    if axis == x.ndim - 1:
        return operation(x)
    order = tuple(a for a in range(x.ndim) if a != axis) + (axis,)
    return _transpose(operation(_transpose(x, axes=order)), axes=tuple(np.argsort(order).tolist()))


@operation(method=True)
def softmax(x: TensorLike, axis: int = -1) -> Tensor:
    """exp(x) / sum(exp(x)) along `axis`. A row of -inf only, in which everything is masked, gives zeros, with gradient 0.

    In a row with +inf these share the whole.
    """
    return _along_last(_fused_softmax, x, axis)


@operation(method=True)
def log_softmax(x: TensorLike, axis: int = -1) -> Tensor:
    """x - log(sum(exp(x))) along `axis`. A row of -inf only gives NaN; in a row with +inf these share the whole."""
    return _along_last(_fused_log_softmax, x, axis)


def _place(name, x, axis, keepdims):
    """The result of `argmax` or `argmin`, whichever `name` says."""
    x, keepdims = as_tensor(x), flag(name, "keepdims", keepdims)
    axis = None if axis is None or of_a_number(axis, x.ndim) else one_axis(name, axis, x.ndim)
    if not (x.size if axis is None else x.shape[axis]):
        raise ValueError(f"{name}: no elements along axis {axis} of shape {x.shape}")
    return Tensor(getattr(x._array, name)(axis=axis, keepdims=keepdims))


@operation(method=True, numpy=np.argmax)
def argmax(x: TensorLike, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The index of the largest element, the first of equal ones; with axis None within the flat Tensor.

    Raises:
        ValueError: there are no elements.
    """
    return _place("argmax", x, axis, keepdims)


@operation(method=True, numpy=np.argmin)
def argmin(x: TensorLike, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The index of the smallest element, the first of equal ones; with axis None within the flat Tensor.

    Raises:
        ValueError: there are no elements.
    """
    return _place("argmin", x, axis, keepdims)


def _along(name, x, axis, keepdims):
    """The array of x, and the checked settings of a reduction that has no gradient."""
    x = as_tensor(x)
    return x._array, dict(axis=_axes_of_all(name, axis, x.ndim), keepdims=flag(name, "keepdims", keepdims))


@operation(method=True, numpy=np.any)
def any(x: TensorLike, axis: Axes | None = None, keepdims: bool = False) -> Tensor:
    """Whether an element is not 0."""
    array, along = _along("any", x, axis, keepdims)
    return Tensor(array.any(**along))


@operation(method=True, numpy=np.all)
def all(x: TensorLike, axis: Axes | None = None, keepdims: bool = False) -> Tensor:
    """Whether no element is 0."""
    array, along = _along("all", x, axis, keepdims)
    return Tensor(array.all(**along))


@operation(numpy=np.count_nonzero)
def count_nonzero(x: TensorLike, axis: Axes | None = None, *, keepdims: bool = False) -> Tensor:
    """How many elements are not 0."""
    array, along = _along("count_nonzero", x, axis, keepdims)
    return Tensor((array != 0).sum(**along))
