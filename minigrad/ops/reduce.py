"""Reductions along axes: `axis` is None for all of them, a number or several; `keepdims` leaves each with length 1."""
import math

import numpy as np

from ..backend import in_float32, is_float, summed, xp
from ..fused import Fused, narrow, wide
from ..tensor import broadcast_to as _broadcast_to, Primitive, Tensor
from .elementwise import _share, equal, maximum, nondifferentiable, sqrt, where
from .shape import _axes, _reshape, _transpose, concatenate, flip


def _kept(shape, axis):
    """`shape` with length 1 along the reduced axes."""
    return tuple(1 if a in axis else n for a, n in enumerate(shape))


def _spread(g, like, axis):
    """The gradient of a reduction, copied along the reduced axes."""
    return _broadcast_to(_reshape(g, shape=_kept(like.shape, axis)), shape=like.shape)


def _reduction(name, forward, rule, doc):
    """A public function around a primitive whose settings are the normalised `axis` and `keepdims`."""
    primitive = Primitive(name, forward, rule)

    def reduce(x, axis=None, keepdims=False):
        x = x if isinstance(x, Tensor) else Tensor(x)
        return primitive(x, axis=_axes(axis, x.ndim), keepdims=bool(keepdims))

    reduce.__name__ = reduce.__qualname__ = name
    reduce.__doc__ = doc
    return reduce


def _to_extremes(g, out, x, axis, keepdims):
    """The gradient goes to the largest (smallest) element, in equal parts to equal ones."""
    best = equal(x, _reshape(out, shape=_kept(x.shape, axis)))
    count = maximum(best.astype(np.float32).sum(axis, keepdims=True), 1).astype(x.dtype)
    return where(best, _reshape(g, shape=_kept(x.shape, axis)) / count, 0)


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
        top = module.full(_kept(x.shape, axis), -math.inf, x.dtype)
    top = module.where(module.isfinite(top), top, top.dtype.type(0))
    with np.errstate(divide="ignore", over="ignore"):  # log 0 = -inf, of no terms or terms all 0; and +inf among the terms
        out = module.log(module.exp(x - top).sum(axis=axis, keepdims=True)) + top
    return out if keepdims else out.reshape([n for a, n in enumerate(x.shape) if a not in axis])


sum = _reduction(
    "sum", summed,
    lambda g, _out, _x, axis, keepdims: _spread(g, _x, axis),
    "The sum; of no elements 0.")

mean = _reduction(
    "mean", _mean,
    lambda g, _out, _x, axis, keepdims: _spread(  # float16 cannot count above 65504
        narrow(wide(g) / math.prod([_x.shape[a] for a in axis]), g), _x, axis),
    "The arithmetic mean; of no elements NaN.")

max = _reduction(
    "max", lambda x, axis, keepdims: x.max(axis=axis, keepdims=keepdims), _to_extremes,
    "The largest element. Equal ones share the gradient evenly. ValueError if there are no elements.")

min = _reduction(
    "min", lambda x, axis, keepdims: x.min(axis=axis, keepdims=keepdims), _to_extremes,
    "The smallest element. Equal ones share the gradient evenly. ValueError if there are no elements.")

logsumexp = _reduction(
    "logsumexp", _logsumexp,
    lambda g, out, x, axis, keepdims: _reshape(g, shape=_kept(x.shape, axis))
    * _share(x, _reshape(out, shape=_kept(x.shape, axis))),
    "log(sum(exp(x))) without overflow. Of infinities -inf only, or of no elements, -inf with gradient 0.")


def var(x, axis=None, ddof=0, keepdims=False):
    """The variance: the mean squared distance from the mean, the sum being divided by (count - ddof)."""
    x = x if isinstance(x, Tensor) else Tensor(x)
    axis = _axes(axis, x.ndim)
    count = math.prod([x.shape[a] for a in axis])
    squares = (x - mean(x, axis, keepdims=True)) ** 2
    return mean(squares, axis, keepdims) if ddof == 0 else sum(squares, axis, keepdims) / (
        count - ddof if count > ddof else math.nan)


def std(x, axis=None, ddof=0, keepdims=False):
    """The standard deviation, the square root of `var`; its slope at 0 is 0."""
    return sqrt(var(x, axis, ddof, keepdims))


def _to_last(x, axis):
    """The reduced axes joined into one, at the end."""
    rest = [a for a in range(x.ndim) if a not in axis]
    x = _transpose(x, axes=(*rest, *axis))
    return _reshape(x, shape=(*x.shape[:len(rest)], math.prod(x.shape[len(rest):])))


def prod(x, axis=None, keepdims=False):
    """The product; of no elements 1. Multiplied in pairs, so that derivatives of any order are right where factors are 0."""
    x = x if isinstance(x, Tensor) else Tensor(x)
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
    return _reshape(x, shape=_kept(shape, axis) if keepdims else tuple(n for a, n in enumerate(shape) if a not in axis))


_cumsum = Primitive(
    "cumsum", in_float32(lambda x, axis: x.cumsum(axis=axis)), lambda g, _out, _x, axis: flip(_cumsum(flip(g, axis), axis=axis), axis))


def cumsum(x, axis=None):
    """Running sums along one axis (None: of the flat Tensor)."""
    x = x if isinstance(x, Tensor) else Tensor(x)
    return _cumsum(x.reshape(-1), axis=0) if axis is None else _cumsum(x, axis=_axes(axis, x.ndim)[0])


def cumprod(x, axis=None):
    """Running products along one axis (None: of the flat Tensor), by doubling the reach log2(n) times."""
    x = x if isinstance(x, Tensor) else Tensor(x)
    if axis is None:
        x, axis = x.reshape(-1), 0
    x, reach = x.swapaxes(axis, -1), 1
    while reach < x.shape[-1]:
        x = concatenate([x[..., :reach], x[..., reach:] * x[..., :-reach]], -1)
        reach *= 2
    return x.swapaxes(axis, -1)


def _softmax(x):
    """exp(x) / sum(exp(x)) along the last axis."""
    return _share(x, logsumexp(x, -1, keepdims=True))


def _log_softmax(x):
    """x - log(sum(exp(x))) along the last axis."""
    return x - logsumexp(x, -1, keepdims=True)


def _fused_rows(name, definition, logarithm):
    def forward(x):
        from ..backend.cpu.rows import softmax
        return softmax(x, logarithm), None

    def backward(g, out, residuals, wanted, x):
        from ..backend.cpu.rows import softmax_backward
        return [softmax_backward(g, out, logarithm)]

    return Fused(name, definition, forward, backward, reads_out=True)


_fused_softmax, _fused_log_softmax = _fused_rows("softmax", _softmax, False), _fused_rows("log_softmax", _log_softmax, True)


def _along_last(operation, x, axis):
    """An operation along the last axis, along another one."""
    x = x if isinstance(x, Tensor) else Tensor(x)
    if not is_float(x.dtype):
        x = x.astype(np.float64)
    (axis,) = _axes((axis,), x.ndim)
    if axis == x.ndim - 1:
        return operation(x)
    order = tuple(a for a in range(x.ndim) if a != axis) + (axis,)
    return _transpose(operation(_transpose(x, axes=order)), axes=tuple(np.argsort(order).tolist()))


def softmax(x, axis=-1):
    """exp(x) / sum(exp(x)) along `axis`. A row of -inf only, in which everything is masked, gives zeros, with gradient 0."""
    return _along_last(_fused_softmax, x, axis)


def log_softmax(x, axis=-1):
    """x - log(sum(exp(x))) along `axis`."""
    return _along_last(_fused_log_softmax, x, axis)


def _index_of(name, function):
    """The index of an extreme element. NumPy numbers them within the flat Tensor where axis is None."""
    return nondifferentiable(name, lambda x, axis=None, keepdims=False: function(x, axis=axis, keepdims=keepdims))


argmax = _index_of("argmax", lambda x, **settings: x.argmax(**settings))
argmin = _index_of("argmin", lambda x, **settings: x.argmin(**settings))
any = nondifferentiable("any", lambda x, axis=None, keepdims=False: x.any(axis=axis, keepdims=keepdims))
all = nondifferentiable("all", lambda x, axis=None, keepdims=False: x.all(axis=axis, keepdims=keepdims))
count_nonzero = nondifferentiable("count_nonzero", lambda x, axis=None: xp(x).count_nonzero(x, axis=axis))
