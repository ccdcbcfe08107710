"""Operations along the last axis in one pass over memory: softmax, layer norm, RMS norm, cross-entropy.

Definitions: minigrad/ops/reduce.py (softmax), normalization.py (layer norm, RMS norm) and loss.py (cross-entropy).

Arrays are matrices (rows, C) inside, cut into blocks of rows that stay in a core's cache. Sums along a row are products
with a vector, which BLAS does faster than `sum`.
"""
import math

import numpy as np

from .. import product_in_pairs
from .declarations import constant
from .elementwise import empty_like, for_all, memory_order
from .layout import blocks
from .memory import empty, scratch
from .native import kernel
from .threads import get_num_threads, parallel_for

ROWS, STRETCH, NARROW = (constant("rows.c", name) for name in ("ROWS", "STRETCH", "NARROW"))

BLOCK_BYTES = 1 << 19
FEW = 4096  # numbers of which NumPy makes running products faster


def softmax(x, logarithm=False):
    """exp(x) / sum(exp(x)) along the last axis, or its logarithm. A row of -inf only gives zeros (logarithm: NaN)."""
    if between := _between(x):
        order, sizes = between
        y = empty_like(x)
        kernel("softmax_between", x)(x.transpose(order), y.transpose(order), *sizes, logarithm)
        return y
    rows, y = _rows(x), empty(x.shape, x.dtype)
    out, native = y.reshape(rows.shape), kernel("log_softmax" if logarithm else "softmax", x)
    if native and _narrow(rows):
        kernel("softmax_between")(rows, out, *rows.shape, 1, logarithm)
        return y
    if native:
        native(rows, out, *rows.shape)
        return y

    def block(part):
        with np.errstate(invalid="ignore", divide="ignore"):
            (_log_softmax_block if logarithm else softmax_block)(rows[part], out[part])

    _for_rows(block, rows)
    return y


def _between(x):
    """Of dense float32 numbers whose last axis lies in memory before others the axes in that order, and (outer, n, inner)."""
    if x.ndim < 2 or x.strides[-1] < 16 * x.itemsize or kernel("softmax_between", x) is None:
        return None
    order, _ = memory_order(x.strides)
    shape, at = [x.shape[i] for i in order], order.index(x.ndim - 1)
    inner = math.prod(shape[at + 1:])
    return (order, (math.prod(shape[:at]), shape[at], inner)) if inner > 15 and x.transpose(order).flags.c_contiguous else None


def _narrow(rows):
    """Whether kernels take the rows of a matrix side by side, as (rows, columns, 1): several, and of few columns."""
    return rows.shape[1] < NARROW and len(rows) > 15


def _strips(x):
    """Of float32 numbers (outer, n, inner), n being the last axis, as an array and as its sizes, if kernels take the others side
    by side; else None."""
    if kernel("softmax_between", x) is None:
        return None
    if between := _between(x):
        order, sizes = between
        rest = [i for i in order if i != x.ndim - 1]
        return (x.transpose(order), sizes) if rest == sorted(rest) else None
    rows = _rows(x)
    return (rows, (*rows.shape, 1)) if _narrow(rows) else None


def neighbours(x, axis, keepdims):
    """Whether `logsumexp` takes float32 numbers: along axes that are neighbours."""
    return len(axis) > 0 and max(axis) - min(axis) == len(axis) - 1 and kernel("logsumexp", x) is not None


def logsumexp(x, axis, keepdims):
    """log(sum(exp(x))) along neighbouring axes of float32 numbers."""
    first, last = min(axis), max(axis) + 1
    before, after = x.shape[:first], x.shape[last:]
    outer, n, inner = map(math.prod, (before, x.shape[first:last], after))
    x, y = np.ascontiguousarray(x).reshape(outer, n, inner), empty((outer, inner), x.dtype)
    if 1 < inner < 16:
        x, outer, inner = np.ascontiguousarray(x.transpose(0, 2, 1)).reshape(-1, n), outer * inner, 1
    if inner > 1 or _narrow(x.reshape(outer, n)):
        kernel("logsumexp_between")(x, y, outer, n, inner)
    else:
        kernel("logsumexp")(x, y, outer, n)
    return y.reshape((*before, *[1] * (len(axis) if keepdims else 0), *after))


def softmax_block(x, y):
    """softmax of the rows of `x`, of any number of axes, into `y`; x may be y. Returns nothing."""
    below(x, largest(x), y)
    np.exp(y, out=y)
    total = _sums(y)
    total[total == 0] = 1
    y *= np.reciprocal(total, out=total)


def largest(x):
    """The largest number of each row, with its axis; 0 for one of -inf only."""
    top = x.max(axis=-1, keepdims=True)
    top[top == -math.inf] = 0
    return top


def below(x, top, y):
    """x - top into y, which may be x: 0 where x is its row's largest number, although infinity minus itself is NaN."""
    if not (top == math.inf).any():
        return np.subtract(x, top, out=y)
    infinite = x == math.inf
    np.subtract(x, top, out=y, where=~infinite)
    y[infinite] = 0
    return y


def _log_softmax_block(x, y):
    below(x, largest(x), y)
    exps = np.exp(y, out=scratch("rows a", y.shape, y.dtype))
    y -= np.log(_sums(exps))


def softmax_backward(g, y, logarithm=False):
    """The gradient of `softmax` in x, for its output y: y (g - sum(g y)), or g - exp(y) sum(g)."""
    if (between := _between(y)) and g.dtype == y.dtype:
        order, sizes = between
        dx, gs = empty_like(y), np.ascontiguousarray(g.transpose(order))
        kernel("softmax_between_backward", y)(gs, y.transpose(order), dx.transpose(order), *sizes, logarithm)
        return dx
    rows, gs, dx = _rows(y), _rows(g), empty(y.shape, y.dtype)
    out, native = dx.reshape(rows.shape), kernel("log_softmax_backward" if logarithm else "softmax_backward", g, y)
    if native:
        native(gs, rows, out, *rows.shape)
        return dx

    def block(part):
        y, g, dx = rows[part], gs[part], out[part]
        if logarithm:
            np.exp(y, out=dx)
            dx *= _sums(g)
            np.subtract(g, dx, out=dx)
        else:
            np.subtract(g, dots(g, y), out=dx)
            dx *= y

    _for_rows(block, rows)
    return dx


def cross_entropy(logits, labels, smoothing=0.0, ignored=-100):
    """-log softmax(logits)[label] of each row, 0 where the label is `ignored`; and each row's log-sum-exp, (2, N), in two
    parts: the largest number, and the rest, which a large offset would cost its digits.

    Args:
        logits: (..., classes).
        labels: (...) integers.
        smoothing: the share of each target that is spread evenly over all classes.
    """
    losses, lse = np.empty(labels.shape, logits.dtype), np.empty((2, labels.size), logits.dtype)
    shape, labels = labels.shape, np.ascontiguousarray(labels).reshape(-1)
    if strips := _strips(logits):
        kernel("cross_entropy_between")(strips[0], labels, losses, *lse, *strips[1], smoothing, ignored)
        return losses, lse
    rows, native, losses = _rows(logits), kernel("cross_entropy", logits), losses.reshape(-1)
    if native:
        native(rows, labels, losses, *lse, *rows.shape, smoothing, ignored)
        return losses.reshape(shape), lse

    def block(part):
        x, label = rows[part], labels[part]
        top = largest(x)
        shifted = below(x, top, scratch("rows a", x.shape, x.dtype))
        picked = shifted[np.arange(len(x)), np.where(label == ignored, 0, label)]
        if smoothing:
            picked = (1 - smoothing) * picked + smoothing * _sums(shifted)[:, 0] / x.shape[1]
        with np.errstate(invalid="ignore", divide="ignore"):  # of a row of -inf
            total = np.log(_sums(np.exp(shifted, out=shifted)))[:, 0]
            losses[part] = np.where(label == ignored, 0, total - picked)
        lse[:, part] = top[:, 0], total

    _for_rows(block, rows)
    return losses.reshape(shape), lse


def cross_entropy_backward(g, logits, labels, lse, smoothing=0.0, ignored=-100):
    """The gradient of `cross_entropy` in the logits, for the gradient `g` of the losses."""
    g, labels = (np.ascontiguousarray(a).reshape(-1) for a in (g, labels))
    native = kernel("cross_entropy_backward", g, logits)
    if native and (strips := _strips(logits)):
        dx = empty_like(logits) if (between := _between(logits)) else empty(logits.shape, logits.dtype)
        out = dx.transpose(between[0]) if between else dx
        kernel("cross_entropy_between_backward")(g, strips[0], labels, *lse, out, *strips[1], smoothing, ignored)
        return dx
    rows, dx = _rows(logits), empty(logits.shape, logits.dtype)
    if native:
        native(g, rows, labels, *lse, dx, *rows.shape, smoothing, ignored)
        return dx
    of_rows = dx.reshape(rows.shape)

    def block(part):
        label, out = labels[part], of_rows[part]
        skipped = label == ignored
        with np.errstate(invalid="ignore"):  # of a row of -inf
            below(rows[part], lse[0, part, None], out)
            out -= lse[1, part, None]
        np.exp(out, out=out)
        if smoothing:
            out -= smoothing / out.shape[1]
        out[np.arange(len(out)), np.where(skipped, 0, label)] -= 1 - smoothing
        out *= g[part, None]
        out[skipped] = 0

    _for_rows(block, rows)
    return dx


def mean_distance(x, target, width):
    """The mean of (x - target)^2, or with a width of `rounded_distance`, over all numbers of two float32 arrays of one shape."""
    order, _ = memory_order(x.strides)
    sums = np.empty(-(-x.size // STRETCH))
    kernel("distance_sums")(*[np.ascontiguousarray(a.transpose(order)) for a in (x, target)], sums, x.size, width or 0)
    return np.asarray(sums.sum() / x.size, x.dtype)


def mean_distance_backward(g, x, target, width):
    """The gradient of `mean_distance` in x."""
    dx, slope = empty_like(x), float(g) / x.size
    for_all(lambda dx, x, target: kernel("distance_slopes")(x, target, dx, x.size, slope, width or 0), [dx], [x, target])
    return dx


def cosine(x, y, eps):
    """The cosine of the angle of float32 rows of one shape, lengths being at least eps; and in float64 the same (rows,), and the
    lengths (2, rows)."""
    sums = np.empty((math.prod(x.shape[:-1]), 3))
    kernel("inner_products")(*map(np.ascontiguousarray, (x, y)), sums, len(sums), x.shape[-1])
    lengths = np.sqrt(sums[:, 1:].T)
    a, b = _at_least(eps, lengths)
    with np.errstate(invalid="ignore"):  # of infinite numbers
        cosines = sums[:, 0] / a / b
    return cosines.astype(x.dtype).reshape(x.shape[:-1]), (cosines, lengths)


def cosine_backward(g, cosines, lengths, wanted, x, y, eps):
    """The gradients of `cosine`: in x g / |x| (y / |y| - cosine x / |x|). None where a cosine is not finite."""
    if not np.isfinite(cosines).all():
        return None
    bounds, grads = _at_least(eps, lengths), []
    moves = (lengths > eps) + 0.5 * (lengths == eps) * (eps > 0)  # whether a length moves what it divides
    p = g.reshape(-1) / bounds[0] / bounds[1]
    for want, own, other, bound, move in zip(wanted, (x, y), (y, x), bounds, moves):
        grads.append(empty(x.shape, x.dtype) if want else None)
        if want:
            q = g.reshape(-1) * cosines / bound / bound * move
            kernel("combined_rows")(*map(np.ascontiguousarray, (own, other)), p, q, grads[-1], len(p), x.shape[-1])
    return grads


def _at_least(eps, lengths):
    return np.maximum(lengths, eps) if eps else np.where(lengths == 0, 1, lengths)


def layer_norm(x, weight=None, bias=None, eps=1e-5, centre=True):
    """weight (x - mean) / sqrt(var + eps) + bias along the last axis; without `centre` RMS norm, whose mean is 0.

    Args:
        x: (..., C).
        weight, bias: (C,) or None.

    Returns:
        y like x; mean (None without `centre`) and inv_std, (rows,).
    """
    rows, y = _rows(x), empty(x.shape, x.dtype)
    out = y.reshape(rows.shape)
    mean, inv_std = np.empty(len(rows), rows.dtype) if centre else None, np.empty(len(rows), rows.dtype)
    native = kernel("layer_norm", x, weight, bias)
    if native and rows.shape[1]:
        native(rows, _dense(weight), _dense(bias), out, mean, inv_std, *rows.shape, eps)
        return y, mean, inv_std

    def block(part):
        x, y = rows[part], out[part]
        if centre:
            mu = _sums(x)
            mu /= x.shape[1]
            x = np.subtract(x, mu, out=y)
            error = _sums(x)  # of the rounded mean, to which a large common offset leaves few digits
            error /= x.shape[1]
            x -= error
            mu += error
            mean[part] = mu[:, 0]
        inv = dots(x, x)
        inv /= x.shape[1]
        inv += eps
        np.sqrt(inv, out=inv)
        np.reciprocal(inv, out=inv)
        inv_std[part] = inv[:, 0]
        np.multiply(x, inv, out=y)
        if weight is not None:
            y *= weight
        if bias is not None:
            y += bias

    if rows.shape[1]:
        _for_rows(block, rows)
    return y, mean, inv_std


def layer_norm_backward(g, x, weight, mean, inv_std):
    """The gradients of `layer_norm` in x, weight and bias, also of a weight or bias that was None.

    With xhat = (x - mean) inv_std and h = g weight: dx = inv_std (h - mean(h) - xhat mean(h xhat)).
    """
    rows, gs, dx = _rows(x), _rows(g), empty(x.shape, x.dtype)
    out, c, native = dx.reshape(rows.shape), rows.shape[1], kernel("layer_norm_backward", g, x, weight)
    if native:
        sums = np.zeros((2, get_num_threads(), c), np.float32)
        w = np.ones(c, np.float32) if weight is None else _dense(weight)
        native(gs, rows, w, mean, inv_std, out, *sums, sums.shape[1], *rows.shape)
        return dx, *sums.sum(1)
    todo = row_blocks(rows)
    w = np.ones((c, 1), rows.dtype) if weight is None else weight.astype(rows.dtype).reshape(c, 1)
    sums = np.zeros((2, len(todo), c))

    def block(i):
        part = todo[i]
        g, inv, dx = gs[part], inv_std[part, None], out[part]
        centred = scratch("rows a", g.shape, g.dtype)
        if mean is None:
            np.copyto(centred, rows[part])
        else:
            np.subtract(rows[part], mean[part, None], out=centred)
        term = np.multiply(g, centred, out=scratch("rows b", g.shape, g.dtype))
        sums[:, i] = inv[:, 0] @ term, column_sums(g, alone=False)
        centred *= (term @ w) * (inv * inv / c)
        shared = (g @ w) / c
        if weight is not None:
            g = np.multiply(g, weight, out=dx)
        np.subtract(g, centred, out=dx)
        if mean is not None:
            dx -= shared
        dx *= inv

    parallel_for(block, len(todo), blas=True)
    dw, db = sums.sum(1).astype(x.dtype)
    return dx, dw, db


def column_sums(x, alone=True):
    """The sum over the rows of a matrix. `alone`: not in a parallel loop, so that all threads may work on it."""
    native = kernel("column_sums", x) if alone else None
    if native is None:
        return np.ones(len(x), x.dtype) @ x  # BLAS does it faster than `sum`
    sums = np.zeros((min(get_num_threads(), -(-len(x) // ROWS)), x.shape[1]))  # more threads would have no rows
    native(np.ascontiguousarray(x), sums, len(sums), *x.shape)
    return sums.sum(0).astype(x.dtype)


def sums_take(x, axis):
    """Whether `sums` does: float32 in C order, for all axes in any without gaps, and there are axes."""
    dense = x.flags.forc if len(axis) == x.ndim else x.flags.c_contiguous
    return dense and len(axis) > 0 and kernel("axis_sums", x) is not None


def known_sums_take(x, axis):
    """Whether `sums` does, and leaves NaN out."""
    return sums_take(x, axis) and (len(axis) == x.ndim or max(axis) == x.ndim - 1)


def sums(x, axis, known=False):
    """The sum of dense float32 numbers along a tuple of axes; parts are added in float64, so that threads hardly show.

    Args:
        known: leave out NaN; one of the axes is the last.
    """
    x, axis = (x.ravel("K"), [0]) if len(axis) == x.ndim else (x, sorted(axis))
    while axis:  # neighbours are one axis, and the last are the first to go
        last = first = axis.pop()
        while axis and axis[-1] == first - 1:
            first = axis.pop()
        before, after = x.shape[:first], x.shape[last + 1:]
        sizes = math.prod(before), math.prod(x.shape[first:last + 1]), math.prod(after)
        x = _sums_between(x, *sizes, known).reshape(before + after)
        known = False
    return x


def _sums_between(x, outer, n, inner, known=False):
    """The sum along the middle axis of (outer, n, inner); if `known`, with inner = 1, of what is not NaN."""
    if inner == 1:
        stretches = np.empty((outer, -(-n // STRETCH)))
        kernel("stretch_sums", x)(x, stretches, outer, n, known)
        return stretches.sum(1).astype(x.dtype)
    if outer == 1 and n > ROWS:
        return column_sums(x.reshape(n, inner))
    y = empty((outer, inner), x.dtype)
    kernel("axis_sums", x)(x, y, outer, n, inner)
    return y


def running(x, axis, multiply=False):
    """Running sums, or products, of float32 numbers along an axis. Of one that is turned round they run back, and so are turned
    round too."""
    back = x.strides[axis] <= 0
    x = np.ascontiguousarray(np.flip(x, axis) if back else x)
    y = empty(x.shape, x.dtype)
    kernel("running", x)(x, y, math.prod(x.shape[:axis]), x.shape[axis], math.prod(x.shape[axis + 1:]), back, multiply)
    return np.flip(y, axis) if back else y


def top_k(x, k, axis, largest):
    """The places of the k largest or smallest float32 numbers along an axis, the first of equals first; None if one is NaN, or k
    so large that NumPy finds them faster."""
    if 2 * k * k > x.shape[axis]:
        return None
    rows = np.ascontiguousarray(np.moveaxis(x, axis, -1))
    values, places = np.empty((*rows.shape[:-1], k), np.float32), np.empty((*rows.shape[:-1], k), np.int64)
    kernel("best_of_rows", x)(rows, values, places, places.size // k, rows.shape[-1], k, 1 if largest else -1)
    return np.moveaxis(places, -1, axis) if places.min() >= 0 else None


def cumprod(x):
    """Running products along the last axis; it may lie in memory before others."""
    if x.size < FEW or kernel("running", x) is None:
        return np.cumprod(x, -1)
    order, back = memory_order(x.strides)
    return running(x.transpose(order), order.index(x.ndim - 1), multiply=True).transpose(back)


def products(x):
    """The product along the last axis, which is kept."""
    native = kernel("row_products", x)
    if native is None or not x.flags.c_contiguous:
        return product_in_pairs(x, np.concatenate)
    y = empty((*x.shape[:-1], 1), x.dtype)
    native(x, y, y.size, x.shape[-1])
    return y


def cumprod_backward(g, y, x):
    """The gradient of y = cumprod(x) along the last axis: of x_i the sum of g_j y_j / x_i for j >= i.

    None where a quotient has no meaning or few digits: a product is 0, a term is below the normal numbers, or not all is finite.
    """
    return _quotients(g, y, x, lambda terms: np.cumsum(terms[..., ::-1], -1)[..., ::-1])


def prod_backward(g, y, x):
    """The gradient of y = prod(x) along the last axis: g y / x. None as of `cumprod_backward`."""
    return _quotients(g, y, x, lambda terms: terms)


def _quotients(g, y, x, added):
    """added(g y) / x, or None."""
    least = np.finfo(y.dtype).tiny
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        terms = g * y
        if not ((np.abs(y) > least) & ((np.abs(terms) > least) | (g == 0))).all():
            return None
        dx = np.divide(added(terms), x, out=empty_like(x))
    return dx if np.isfinite(dx).all() else None


def dots(x, y):
    """The sum of x y along the last axis, which is kept with length 1."""
    return np.einsum("...i,...i->...", x, y)[..., None]


def _sums(x):
    return x @ np.ones((x.shape[-1], 1), x.dtype)


def _rows(x):
    """(..., C) as a contiguous matrix."""
    return np.ascontiguousarray(x).reshape(math.prod(x.shape[:-1]), x.shape[-1])


def row_blocks(rows):
    return [part for _, part in blocks((1, *rows.shape), rows.dtype, BLOCK_BYTES)] if rows.size else []


def _dense(vector):
    """The vector with its elements side by side, or None."""
    return None if vector is None else np.ascontiguousarray(vector)


def _for_rows(fn, rows):
    parallel_for(fn, row_blocks(rows), blas=True)
