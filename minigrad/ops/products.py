"""Products of matrices, of Tensors along named axes, and diagonals. Matrices stand in the last two axes; the axes before them are
a batch and broadcast."""
from __future__ import annotations

import builtins
import math
import operator
import string
from collections.abc import Sequence

import numpy as np

from ..backend import in_float32, result_type, with_paths, xp
from ..fused import halves_in_float32
from ..primitive import Primitive
from ..tensor import Tensor, TensorLike, as_tensor, flag, wrap
from .declare import operation
from .elementwise import _as_float, clip, sqrt, where, zeros_like
from .geometry import Axes, several_axes, speaking_as, whole
from .index import getitem, index_update
from .reduce import mean, sum
from .shape import _reshape, atleast_2d, concatenate, expand_dims, moveaxis, ravel, squeeze, stack, swapaxes


def _matrices(name, x):
    """A Tensor of two axes or more. ValueError otherwise."""
    x = as_tensor(x)
    if x.ndim < 2:
        raise ValueError(f"{name}: matrices wanted, got shape {x.shape}")
    return x


def _t(x):
    return swapaxes(x, -1, -2)


_matmul = Primitive(
    "matmul", with_paths("matmul", np.matmul, upcast=True),
    lambda g, _out, _x, y: _matmul(g, _t(y)),
    lambda g, _out, x, _y: _matmul(_t(x), g),
    broadcasts=True)


@operation(method=True, numpy=np.matmul, operator="matmul")
def matmul(x: TensorLike, y: TensorLike) -> Tensor:
    """Matrix product of the last two axes, as `numpy.matmul`: a 1-D operand is a row on the left, a column on the right."""
    x, y = as_tensor(x), as_tensor(y)
    if not x.ndim or not y.ndim:
        raise ValueError(f"matmul: operands need at least one axis, got shapes {x.shape} and {y.shape}; multiply with *")
    try:
        return _product(x, y)
    except ValueError:
        if x.shape[-1] == y.shape[builtins.max((y.ndim - 2, 0))]:
            raise
        raise ValueError(f"matmul: the last axis of {x.shape} must be as long as the {'last but one' if y.ndim > 1 else 'axis'} "
                         f"of {y.shape}") from None


def _product(x, y):
    if y.ndim == 1:
        return squeeze(_product(x, expand_dims(y, 1)), -1)
    if x.ndim == 1:
        return squeeze(_matmul(expand_dims(x, 0), y), -2)
    if x.ndim > 2 and y.ndim == 2:  # one tall product instead of a batch, whose gradient for y would need a sum
        rows = _reshape(x, shape=(math.prod(x.shape[:-1]), x.shape[-1]))
        return _reshape(_matmul(rows, y), shape=(*x.shape[:-1], y.shape[-1]))
    return _matmul(x, y)


@operation(method=True, numpy=np.dot)
def dot(x: TensorLike, y: TensorLike) -> Tensor:
    """As `numpy.dot`: the product of scalars, of 1-D vectors, of matrices; else over x's last and y's last axis but one."""
    x, y = as_tensor(x), as_tensor(y)
    if not x.ndim or not y.ndim:
        return x * y
    with speaking_as("dot"):
        return tensordot(x, y, ((-1,), (-2 if y.ndim > 1 else -1,)))


@operation(numpy=np.inner)
def inner(x: TensorLike, y: TensorLike) -> Tensor:
    """Sum of products over the last axes."""
    x, y = as_tensor(x), as_tensor(y)
    if not x.ndim or not y.ndim:
        return x * y
    with speaking_as("inner"):
        return tensordot(x, y, ((-1,), (-1,)))


@operation(numpy=np.vdot)
def vdot(x: TensorLike, y: TensorLike) -> Tensor:
    """Sum of the products of all elements, both flattened."""
    x, y = ravel(x), ravel(y)
    if x.size != y.size:
        raise ValueError(f"vdot: as many elements wanted, got {x.size} and {y.size}")
    return dot(x, y)


@operation(numpy=np.outer)
def outer(x: TensorLike, y: TensorLike) -> Tensor:
    """All products of an element of `x` and one of `y`, both flattened."""
    return as_tensor(x).reshape(-1, 1) * as_tensor(y).reshape(1, -1)


@operation(numpy=np.polyval)
def polyval(p: TensorLike, x: TensorLike) -> Tensor:
    """The polynomial whose coefficients are the vector `p`, that of the highest power first, at `x`, of any shape."""
    p, x = as_tensor(p), as_tensor(x)
    if p.ndim != 1:
        raise ValueError(f"polyval: p must be a vector, not of shape {p.shape}")
    out = zeros_like(x)
    for i, coefficient in enumerate(p):
        out = (out * x if i else out) + coefficient
    return out


@operation(numpy=np.tensordot)
def tensordot(x: TensorLike, y: TensorLike, axes: int | Sequence[Axes] = 2) -> Tensor:
    """Sum of products over pairs of axes: the last `axes` of x with the first of y, or `axes` = (axes of x, axes of y)."""
    x, y = as_tensor(x), as_tensor(y)
    if np.iterable(axes):
        if len(axes) != 2:
            raise ValueError(f"tensordot: axes is one number or (axes of x, axes of y), not {axes!r}")
        ax, ay = several_axes("tensordot", axes[0], x.ndim), several_axes("tensordot", axes[1], y.ndim)
    else:
        axes = whole("tensordot", "axes", axes, 0)
        if axes > builtins.min(x.ndim, y.ndim):
            raise ValueError(f"tensordot: axes={axes} for Tensors of shapes {x.shape} and {y.shape}")
        ax, ay = tuple(range(x.ndim - axes, x.ndim)), tuple(range(axes))
    if len(ax) != len(ay) or [x.shape[a] for a in ax] != [y.shape[a] for a in ay]:
        raise ValueError(f"tensordot: axes {ax} of shape {x.shape} do not match axes {ay} of shape {y.shape}")
    keep_x = [a for a in range(x.ndim) if a not in ax]
    keep_y = [a for a in range(y.ndim) if a not in ay]
    n = math.prod([x.shape[a] for a in ax])
    left = x.transpose(*keep_x, *ax).reshape(math.prod([x.shape[a] for a in keep_x]), n) if x.ndim else x.reshape(1, 1)
    right = y.transpose(*ay, *keep_y).reshape(n, math.prod([y.shape[a] for a in keep_y])) if y.ndim else y.reshape(1, 1)
    return _matmul(left, right).reshape([x.shape[a] for a in keep_x] + [y.shape[a] for a in keep_y])


def _einsum_rule(i, g, _out, *xs, subscripts):
    """Operand i's letters, from the output's and those of the other operands."""
    inputs, out = subscripts
    others = [k for k in range(len(xs)) if k != i]
    return _einsum(g, *[xs[k] for k in others], subscripts=((out, *[inputs[k] for k in others]), inputs[i]))


@in_float32
def _contracted(*xs, subscripts):
    return xp(xs[0]).einsum(",".join(subscripts[0]) + "->" + subscripts[1], *xs, optimize=len(xs) > 1)


_einsum = Primitive("einsum", _contracted, rule_for_all=_einsum_rule)


@operation(numpy=np.einsum)
def einsum(subscripts: str | TensorLike, *operands: TensorLike, optimize: bool | str | Sequence = True) -> Tensor:
    """Sum of products by named axes, as `numpy.einsum("ij,jk->ik", x, y)`, of any number of operands.

    Ellipses, repeated letters (diagonals), an implicit output and axes of length 1 that broadcast are understood. The axes
    may also be named by whole numbers below 52 behind each operand, `einsum(x, [0, 1], y, [1, 2], [0, 2])`.
    `optimize` is NumPy's (True, False, "greedy", "optimal", a path); the order of the products is chosen well whatever it says.

    Raises:
        ValueError: letters or numbers and axes do not match.
        TypeError: an axis is named by something else.
    """
    if not isinstance(optimize, (list, tuple)) and not (isinstance(optimize, str) and optimize in ("greedy", "optimal")):
        flag("einsum", "optimize", optimize)
    if not isinstance(subscripts, str):
        subscripts, operands = _written_out((subscripts, *operands))
    operands = [as_tensor(x) for x in operands]
    inputs, out = _parse(subscripts, operands)
    operands = [_diagonals(x, letters) for x, letters in zip(operands, inputs)]
    inputs = ["".join(dict.fromkeys(letters)) for letters in inputs]
    length = {}
    for x, letters in zip(operands, inputs):
        for letter, n in zip(letters, x.shape):
            if length.setdefault(letter, n) != n and 1 not in (n, length[letter]):
                raise ValueError(f"einsum: axis '{letter}' has lengths {length[letter]} and {n} in '{subscripts}'")
            length[letter] = n if length[letter] == 1 else length[letter]
    dtype = result_type(*[x.dtype for x in operands])
    # The rule needs every letter of an operand in the output or in another operand, with its full length.
    for k, x in enumerate(operands):
        ones = [a for a, letter in enumerate(inputs[k]) if x.shape[a] == 1 != length[letter]]
        operands[k] = squeeze(x, ones) if ones else x
        inputs[k] = "".join(letter for a, letter in enumerate(inputs[k]) if a not in ones)
    for k, x in enumerate(operands):
        elsewhere = out + "".join(inputs[:k] + inputs[k + 1:])
        alone = [a for a, letter in enumerate(inputs[k]) if letter not in elsewhere]
        if alone:  # in the dtype of all operands, which whole numbers keep, as in NumPy
            operands = [y.astype(dtype) for y in operands]  # NumPy 1 would look at the value of one without axes
            operands[k] = sum(operands[k], alone).astype(dtype)
        inputs[k] = "".join(letter for letter in inputs[k] if letter in elsewhere)
    return _einsum(*operands, subscripts=(tuple(inputs), out))


def _written_out(arguments):
    """The string for operands that are each followed by the numbers of their axes, and the operands; the output's may end."""
    pairs = len(arguments) // 2 * 2
    operands, axes = arguments[:pairs:2], arguments[1:pairs:2]
    if not operands or any(isinstance(x, str) for x in operands):
        raise TypeError("einsum: a string as \"ij,jk->ik\" first, or behind each operand a list of the numbers of its axes")
    subscripts = ",".join(map(_letters, axes))
    return subscripts + ("->" + _letters(arguments[-1]) if len(arguments) % 2 else ""), operands


def _letters(axes):
    """The letters of a list of numbers and `...`, in the same order."""
    axes = [axis if axis is Ellipsis else _number(axis) for axis in (axes if np.iterable(axes) else [axes])]
    letters = string.ascii_uppercase + string.ascii_lowercase
    if builtins.any(axis is not Ellipsis and not 0 <= axis < len(letters) for axis in axes):
        raise ValueError(f"einsum: axes are numbered from 0 to {len(letters) - 1}, not {axes}")
    return "".join("..." if axis is Ellipsis else letters[axis] for axis in axes)


def _number(axis):
    try:
        return operator.index(axis)
    except TypeError:
        raise TypeError(f"einsum: a string as \"ij,jk->ik\" first, or the numbers of axes, not {axis!r}") from None


def _parse(subscripts, operands):
    """The letters of each operand and of the output, ellipses written out and the output made explicit."""
    left, arrow, out = subscripts.replace(" ", "").partition("->")
    inputs = left.split(",")
    for letters in (*inputs, out):
        if any(c not in string.ascii_letters for c in letters.replace("...", "", 1)):
            raise ValueError(f"einsum: '{letters}' in '{subscripts}' is no axes: each is a letter, and one ... stands for others")
    if len(inputs) != len(operands):
        raise ValueError(f"einsum: '{subscripts}' names {len(inputs)} operands, but {len(operands)} were given")
    spare = [c for c in string.ascii_letters if c not in subscripts]
    dots = [x.ndim - len(letters.replace("...", "")) for x, letters in zip(operands, inputs)]
    for x, letters, extra in zip(operands, inputs, dots):
        if extra < 0 or (extra and "..." not in letters):
            raise ValueError(f"einsum: '{letters}' does not name the axes of an operand of shape {x.shape}")
    most = spare[:builtins.max(dots, default=0)]
    inputs = [letters.replace("...", "".join(most[len(most) - extra:])) for letters, extra in zip(inputs, dots)]
    if not arrow:
        joined = "".join(inputs)
        out = "..." * ("..." in left) + "".join(sorted(
            letter for letter in set(joined) - set(most) if joined.count(letter) == 1))
    out = out.replace("...", "".join(most))
    if len(set(out)) != len(out) or not set(out) <= set("".join(inputs)):
        raise ValueError(f"einsum: the output of '{subscripts}' repeats a letter or has one that no operand has")
    return inputs, out


def _diagonals(x, letters):
    """The diagonal of the axes that share a letter, in the place of the first of them."""
    for letter in dict.fromkeys(letters):
        places = [a for a, other in enumerate(letters) if other == letter]
        while len(places) > 1:
            a, b = places[0], places.pop()
            if x.shape[a] != x.shape[b]:
                raise ValueError(f"einsum: axis '{letter}' has lengths {x.shape[a]} and {x.shape[b]}")
            x = moveaxis(diagonal(x, axis1=a, axis2=b), -1, a)
            letters = letters[:b] + letters[b + 1:]
    return x


@operation(method=True, numpy=np.diagonal)
def diagonal(x: TensorLike, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """The elements whose indices along two axes differ by `offset`; they form the last axis of the result."""
    return _diagonal("diagonal", as_tensor(x), offset, axis1, axis2)


def _diagonal(of, x, offset, axis1, axis2):
    x = moveaxis(x, several_axes(of, (axis1, axis2), x.ndim), (-2, -1))
    rows, columns = x.shape[-2:]
    offset = whole(of, "offset", offset, -math.inf)
    start_row, start_column = builtins.max((-offset, 0)), builtins.max((offset, 0))
    i = np.arange(builtins.max((0, builtins.min(rows - start_row, columns - start_column))))
    return getitem(x, (..., i + start_row, i + start_column))


@operation(method=True, numpy=np.trace)
def trace(x: TensorLike, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """The sum of a diagonal."""
    return sum(_diagonal("trace", as_tensor(x), offset, axis1, axis2), -1)


@operation(numpy=np.tril)
def tril(x: TensorLike, k: int = 0) -> Tensor:
    """The last two axes with zeros above the k-th diagonal; of a vector a matrix with it as each row."""
    x, lower = _with_triangle("tril", x, whole("tril", "k", k, -math.inf))
    return where(lower, x, x.dtype.type(0))


@operation(numpy=np.triu)
def triu(x: TensorLike, k: int = 0) -> Tensor:
    """The last two axes with zeros below the k-th diagonal; of a vector a matrix with it as each row."""
    x, lower = _with_triangle("triu", x, whole("triu", "k", k, -math.inf) - 1)
    return where(lower, x.dtype.type(0), x)


def _with_triangle(name, x, k):
    """x, and where a matrix of its last axes, or of a vector as each row, is not above the k-th diagonal."""
    x = as_tensor(x)
    rows, columns = 2 * x.shape if x.ndim == 1 else _matrices(name, x).shape[-2:]
    return x, wrap(xp(x._array).tri(rows, columns, k=k, dtype=bool))


@operation(numpy=np.diag)
def diag(x: TensorLike, k: int = 0) -> Tensor:
    """Of a vector the matrix with it on the k-th diagonal; of a matrix its k-th diagonal."""
    x, k = as_tensor(x), whole("diag", "k", k, -math.inf)
    if x.ndim == 2:
        return diagonal(x, k)
    if x.ndim != 1:
        raise ValueError(f"diag: a vector or a matrix wanted, got shape {x.shape}")
    n, i = x.size + builtins.abs(k), np.arange(x.size)
    zeros = wrap(xp(x._array).zeros((n, n), x.dtype))
    return index_update(zeros, (i + builtins.max(-k, 0), i + builtins.max(k, 0)), x)


@operation(numpy=np.cross)
def cross(x: TensorLike, y: TensorLike, axis: int = -1) -> Tensor:
    """The vector product along an axis of length 3; the other axes broadcast."""
    x, y = as_tensor(x), as_tensor(y)
    axis = whole("cross", "axis", axis, -math.inf)
    if builtins.any(not -v.ndim <= axis < v.ndim for v in (x, y)) or x.shape[axis] != 3 or y.shape[axis] != 3:
        raise ValueError(f"cross: vectors of length 3 along axis {axis} wanted, got shapes {x.shape} and {y.shape}")
    (x1, x2, x3), (y1, y2, y3) = ([moveaxis(v, axis, -1)[..., i] for i in range(3)] for v in (x, y))
    with speaking_as("cross"):
        products = [x2 * y3 - x3 * y2, x3 * y1 - x1 * y3, x1 * y2 - x2 * y1]
    return stack(products, axis)


@operation(numpy=np.cov)
@halves_in_float32(2)
def cov(x: TensorLike, y: TensorLike | None = None, rowvar: bool = True, bias: bool = False, ddof: int | None = None) -> Tensor:
    """The covariances of variables, the rows of `x` (variables, observations), and of those of `y`, as `numpy.cov`.

    Keeps float32 and 16 bits, where NumPy computes in float64.

    Args:
        rowvar: false for variables in columns.
        ddof: the sum is divided by (observations - ddof), or 0 if that is less; None for 1, or 0 with `bias`.
    """
    rowvar, bias = flag("cov", "rowvar", rowvar), flag("cov", "bias", bias)
    ddof = 1 - bias if ddof is None else whole("cov", "ddof", ddof, -math.inf)
    rows = [_variables(x, rowvar)] + ([] if y is None else [_variables(y, rowvar)])
    if len({v.shape[1] for v in rows}) > 1:
        raise ValueError(f"cov: x and y need as many observations, got {rows[0].shape[1]} and {rows[1].shape[1]}")
    rows = concatenate(rows, 0)
    distances, n = rows - mean(rows, 1, keepdims=True), rows.shape[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        return squeeze(matmul(distances, _t(distances)) / (n - ddof if n > ddof else 0.0))


@operation(numpy=np.corrcoef)
@halves_in_float32(2)
def corrcoef(x: TensorLike, y: TensorLike | None = None, rowvar: bool = True) -> Tensor:
    """The correlations of variables: their covariances, arguments as of `cov`, divided by their deviations; of a constant NaN."""
    with speaking_as("corrcoef"):
        covariances = cov(x, y, rowvar)
    deviations = sqrt(diagonal(covariances)) if covariances.ndim else sqrt(covariances)
    correlations = covariances / deviations[..., None] / deviations
    beyond = correlations.detach() - clip(correlations.detach(), -1, 1)  # by rounding, which leaves the slopes alone
    return (correlations - beyond).reshape(covariances.shape)


def _variables(x, rowvar):
    """A Tensor with a variable in each row."""
    x = _as_float(x)
    if x.ndim > 2:
        raise ValueError(f"cov: variables in rows or columns of a matrix wanted, got shape {x.shape}")
    return _t(x) if x.ndim == 2 and not rowvar else atleast_2d(x)


@operation(numpy=np.kron)
def kron(x: TensorLike, y: TensorLike) -> Tensor:
    """The Kronecker product: blocks of `y`, each multiplied by an element of `x`."""
    x, y = as_tensor(x), as_tensor(y)
    ndim = builtins.max(x.ndim, y.ndim)
    long, short = ((1,) * (ndim - v.ndim) + v.shape for v in (x, y))
    blocks = (x.reshape([n for a in long for n in (a, 1)]) * y.reshape([n for b in short for n in (1, b)]))
    return blocks.reshape([a * b for a, b in zip(long, short)])
