"""Reductions along axes: `axis` is None for all of them, a number or several; `keepdims` leaves each with length 1."""
from __future__ import annotations

import functools
import math

import numpy as np

from ..backend import in_float32, is_float, summed, xp
from ..fused import Fused, rounded_like, upcast
from ..primitive import broadcast_to as _broadcast_to, Primitive
from ..tensor import Tensor, TensorLike, as_tensor, wrap
from .declare import nondifferentiable, operation
from .elementwise import _as_float, equal, exp, isinf, isnan, maximum, sqrt, where
from .geometry import real
from .shape import _axes, _reshape, _transpose, Axes, concatenate, flip


def _ones_at(shape, axis):
    """`shape` with length 1 along the reduced axes."""
    return tuple(1 if a in axis else n for a, n in enumerate(shape))


def _spread(g, like, axis):
    """The gradient of a reduction, copied along the reduced axes."""
    return _broadcast_to(_reshape(g, shape=_ones_at(like.shape, axis)), shape=like.shape)


def _reduction(forward, rule, **declared):
    """Decorator: a reduction by a primitive whose settings are the normalised `axis` and `keepdims`."""
    def declare(function):
        primitive = Primitive(function.__name__, forward, rule)

        @functools.wraps(function)
        def reduce(x, axis=None, keepdims=False):
            x = as_tensor(x)
            return primitive(x, axis=_axes(axis, x.ndim), keepdims=_flag(function.__name__, keepdims))

        return operation(reduce, method=True, **declared)

    return declare


def _flag(name, keepdims):
    """`keepdims` as a bool. TypeError for anything else: in this place NumPy has the dtype."""
    if not isinstance(keepdims, (bool, np.bool_)) and keepdims not in (0, 1):
        raise TypeError(f"{name}: keepdims is True or False, not {keepdims!r}")
    return bool(keepdims)


def _to_extremes(g, out, x, axis, keepdims):
    """The gradient goes to the largest (smallest) element, in equal parts to equal ones."""
    out = _reshape(out, shape=_ones_at(x.shape, axis))
    best = equal(x, out) | (isnan(x) & isnan(out))  # where the extreme is not a number, that number is to be seen
    count = maximum(best.astype(np.float32).sum(axis, keepdims=True), 1).astype(x.dtype)
    return where(best, _reshape(g, shape=_ones_at(x.shape, axis)) / count, 0)


def _share(x, out, axis):
    """exp(x - out), the share of x in out = log(sum(exp(x))) along the axis; of infinite terms an equal part each."""
    infinite, largest = isinf(out), equal(x, math.inf)
    count = maximum(largest.astype(np.float32).sum(axis, keepdims=True), 1).astype(x.dtype)
    return where(infinite, largest.astype(x.dtype) / count, exp(where(infinite, 0, x) - where(infinite, 0, out)))


@in_float32
def _mean(x, axis, keepdims):
    return x.mean(axis=axis, keepdims=keepdims)


@in_float32
def _logsumexp(x, axis, keepdims):
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


@_reduction(summed, lambda g, _out, _x, axis, keepdims: _spread(g, _x, axis), numpy=np.sum)
def sum(x: TensorLike, axis: Axes | None = None, keepdims: bool = False) -> Tensor:
    """The sum; of no elements 0."""


@_reduction(
    _mean,
    lambda g, _out, _x, axis, keepdims: _spread(  # float16 cannot count above 65504
        rounded_like(upcast(g) / math.prod([_x.shape[a] for a in axis]), g), _x, axis),
    numpy=np.mean)
def mean(x: TensorLike, axis: Axes | None = None, keepdims: bool = False) -> Tensor:
    """The arithmetic mean; of no elements NaN."""


@_reduction(lambda x, axis, keepdims: x.max(axis=axis, keepdims=keepdims), _to_extremes, numpy=(np.max, np.amax))
def max(x: TensorLike, axis: Axes | None = None, keepdims: bool = False) -> Tensor:
    """The largest element. Equal ones share the gradient evenly. ValueError if there are no elements."""


@_reduction(lambda x, axis, keepdims: x.min(axis=axis, keepdims=keepdims), _to_extremes, numpy=(np.min, np.amin))
def min(x: TensorLike, axis: Axes | None = None, keepdims: bool = False) -> Tensor:
    """The smallest element. Equal ones share the gradient evenly. ValueError if there are no elements."""


@_reduction(
    _logsumexp,
    lambda g, out, x, axis, keepdims: _reshape(g, shape=_ones_at(x.shape, axis)) * _share(
        x, _reshape(out, shape=_ones_at(x.shape, axis)), axis))
def logsumexp(x: TensorLike, axis: Axes | None = None, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))) without overflow. Of infinities -inf only, or of no elements, -inf with gradient 0."""


@operation(method=True, numpy=np.var)
def var(x: TensorLike, axis: Axes | None = None, ddof: float = 0, keepdims: bool = False) -> Tensor:
    """The variance: the mean squared distance from the mean, the sum being divided by (count - ddof)."""
    x, ddof = as_tensor(x), real("var", "ddof", ddof)
    axis = _axes(axis, x.ndim)
    count = math.prod([x.shape[a] for a in axis])
    squares = (x - mean(x, axis, keepdims=True)) ** 2
    return mean(squares, axis, keepdims) if ddof == 0 else sum(squares, axis, keepdims) / (
        count - ddof if count > ddof else math.nan)


@operation(method=True, numpy=np.std)
def std(x: TensorLike, axis: Axes | None = None, ddof: float = 0, keepdims: bool = False) -> Tensor:
    """The standard deviation, the square root of `var`; its slope at 0 is 0."""
    return sqrt(var(x, axis, ddof, keepdims))


def _to_last(x, axis):
    """The reduced axes joined into one, at the end."""
    rest = [a for a in range(x.ndim) if a not in axis]
    x = _transpose(x, axes=(*rest, *axis))
    return _reshape(x, shape=(*x.shape[:len(rest)], math.prod(x.shape[len(rest):])))


def _widened(x):
    """A Tensor with the dtype of its product, which small whole numbers would not hold."""
    x = as_tensor(x)
    return x if is_float(x.dtype) else x.astype(np.empty(0, x.dtype).prod().dtype)


@operation(method=True, numpy=np.prod)
def prod(x: TensorLike, axis: Axes | None = None, keepdims: bool = False) -> Tensor:
    """The product; of no elements 1. Multiplied in pairs, so that derivatives of any order are right where factors are 0.

    Small whole numbers and bools are multiplied in NumPy's default integer, as in `numpy.prod`.
    """
    x = _widened(x)
    axis, shape = _axes(axis, x.ndim), x.shape
    x = _to_last(x, axis)
    n = x.shape[-1]
    if n == 0:
        x = sum(x, -1, keepdims=True) + 1
    while n > 1:
        half = n // 2
        pairs = x[..., :half] * x[..., half:2 * half]
        x = pairs if n % 2 == 0 else concatenate([pairs, x[..., -1:]], -1)
        n = x.shape[-1]
    return _reshape(x, shape=_ones_at(shape, axis) if keepdims else tuple(n for a, n in enumerate(shape) if a not in axis))


def _one_axis(name, axis, ndim):
    if np.iterable(axis):
        raise ValueError(f"{name}: one axis wanted, not {axis!r}")
    return _axes(axis, ndim)[0]


_cumsum = Primitive(
    "cumsum", in_float32(lambda x, axis: x.cumsum(axis=axis)),
    lambda g, _out, _x, axis: flip(_cumsum(flip(g, axis), axis=axis), axis))


@operation(method=True, numpy=np.cumsum)
def cumsum(x: TensorLike, axis: int | None = None) -> Tensor:
    """Running sums along one axis (None: of the flat Tensor)."""
    x = as_tensor(x)
    return _cumsum(x.reshape(-1), axis=0) if axis is None else _cumsum(x, axis=_one_axis("cumsum", axis, x.ndim))


@operation(method=True, numpy=np.cumprod)
def cumprod(x: TensorLike, axis: int | None = None) -> Tensor:
    """Running products along one axis (None: of the flat Tensor), by doubling the reach log2(n) times."""
    x = _widened(x)
    if axis is None:
        x, axis = x.reshape(-1), 0
    axis, reach = _one_axis("cumprod", axis, x.ndim), 1
    x = x.swapaxes(axis, -1)
    while reach < x.shape[-1]:
        x = concatenate([x[..., :reach], x[..., reach:] * x[..., :-reach]], -1)
        reach *= 2
    return x.swapaxes(axis, -1)


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


def _below_zero(x):
    """x minus the largest of its row, if that is finite. A common offset changes nothing but would cost digits."""
    if not x.size:
        return x
    top = x._array.max(-1, keepdims=True)
    return x - wrap(xp(top).where(xp(top).isfinite(top), top, top.dtype.type(0)))


_fused_softmax, _fused_log_softmax = Fused("softmax", _softmax), Fused("log_softmax", _log_softmax)


def _along_last(operation, x, axis):
    """An operation along the last axis, along another one."""
    x = _as_float(x)
    (axis,) = _axes((axis,), x.ndim)
    if axis == x.ndim - 1:
        return operation(x)
    order = tuple(a for a in range(x.ndim) if a != axis) + (axis,)
    return _transpose(operation(_transpose(x, axes=order)), axes=tuple(np.argsort(order).tolist()))


@operation(method=True)
def softmax(x: TensorLike, axis: int = -1) -> Tensor:
    """exp(x) / sum(exp(x)) along `axis`. A row of -inf only, in which everything is masked, gives zeros, with gradient 0."""
    return _along_last(_fused_softmax, x, axis)


@operation(method=True)
def log_softmax(x: TensorLike, axis: int = -1) -> Tensor:
    """x - log(sum(exp(x))) along `axis`."""
    return _along_last(_fused_log_softmax, x, axis)


@nondifferentiable(lambda x, axis=None, keepdims=False: x.argmax(axis=axis, keepdims=keepdims), method=True, numpy=np.argmax)
def argmax(x: TensorLike, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The index of the largest element, the first of equal ones; with axis None within the flat Tensor."""


@nondifferentiable(lambda x, axis=None, keepdims=False: x.argmin(axis=axis, keepdims=keepdims), method=True, numpy=np.argmin)
def argmin(x: TensorLike, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The index of the smallest element, the first of equal ones; with axis None within the flat Tensor."""


@nondifferentiable(lambda x, axis=None, keepdims=False: x.any(axis=axis, keepdims=keepdims), method=True, numpy=np.any)
def any(x: TensorLike, axis: Axes | None = None, keepdims: bool = False) -> Tensor:
    """Whether an element is not 0."""


@nondifferentiable(lambda x, axis=None, keepdims=False: x.all(axis=axis, keepdims=keepdims), method=True, numpy=np.all)
def all(x: TensorLike, axis: Axes | None = None, keepdims: bool = False) -> Tensor:
    """Whether no element is 0."""


@nondifferentiable(lambda x, axis=None: xp(x).count_nonzero(x, axis=axis), numpy=np.count_nonzero)
def count_nonzero(x: TensorLike, axis: Axes | None = None) -> Tensor:
    """How many elements are not 0."""
