"""Linear algebra. Matrices stand in the last two axes; the axes before them are a batch and broadcast."""
from __future__ import annotations

import builtins
import math
import operator
import string
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..backend import cupy_differences, in_float32, is_float, with_paths, xp
from ..primitive import Primitive
from ..tensor import Tensor, TensorLike, as_tensor, wrap
from .declare import operation, primitive
from .elementwise import _as_float, _quotient, abs, sqrt, where
from .geometry import one_of, real, whole
from .index import getitem, index_update
from .reduce import _flag, max, min, sum
from .shape import _axes, _reshape, Axes, concatenate, expand_dims, moveaxis, squeeze, stack, swapaxes


def _matrices(name, x):
    """A Tensor of two axes or more. ValueError otherwise."""
    x = as_tensor(x)
    if x.ndim < 2:
        raise ValueError(f"{name}: matrices wanted, got shape {x.shape}")
    return x


def _t(x):
    return swapaxes(x, -1, -2)


# -- products --------------------------------------------------------------------------------------------------------


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
    if y.ndim == 1:
        return squeeze(matmul(x, expand_dims(y, 1)), -1)
    if x.ndim == 1:
        return squeeze(matmul(expand_dims(x, 0), y), -2)
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
    return tensordot(x, y, ((-1,), (-2 if y.ndim > 1 else -1,)))


@operation(numpy=np.inner)
def inner(x: TensorLike, y: TensorLike) -> Tensor:
    """Sum of products over the last axes."""
    x, y = as_tensor(x), as_tensor(y)
    return x * y if not x.ndim or not y.ndim else tensordot(x, y, ((-1,), (-1,)))


@operation(numpy=np.outer)
def outer(x: TensorLike, y: TensorLike) -> Tensor:
    """All products of an element of `x` and one of `y`, both flattened."""
    return as_tensor(x).reshape(-1, 1) * as_tensor(y).reshape(1, -1)


@operation(numpy=np.tensordot)
def tensordot(x: TensorLike, y: TensorLike, axes: int | Sequence[Axes] = 2) -> Tensor:
    """Sum of products over pairs of axes: the last `axes` of x with the first of y, or `axes` = (axes of x, axes of y)."""
    x, y = as_tensor(x), as_tensor(y)
    if np.iterable(axes):
        if len(axes) != 2:
            raise ValueError(f"tensordot: axes is one number or (axes of x, axes of y), not {axes!r}")
        ax, ay = _axes("tensordot", axes[0], x.ndim), _axes("tensordot", axes[1], y.ndim)
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
def einsum(subscripts: str | TensorLike, *operands: TensorLike, optimize: bool | str = True) -> Tensor:
    """Sum of products by named axes, as `numpy.einsum("ij,jk->ik", x, y)`, of any number of operands.

    Ellipses, repeated letters (diagonals), an implicit output and axes of length 1 that broadcast are understood. The axes
    may also be named by whole numbers below 52 behind each operand, `einsum(x, [0, 1], y, [1, 2], [0, 2])`.
    `optimize` is NumPy's; the order of the products is chosen well whatever it says.

    Raises:
        ValueError: letters or numbers and axes do not match.
        TypeError: an axis is named by something else.
    """
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
    # The rule needs every letter of an operand in the output or in another operand, with its full length.
    for k, x in enumerate(operands):
        ones = [a for a, letter in enumerate(inputs[k]) if x.shape[a] == 1 != length[letter]]
        operands[k] = squeeze(x, ones) if ones else x
        inputs[k] = "".join(letter for a, letter in enumerate(inputs[k]) if a not in ones)
    for k, x in enumerate(operands):
        elsewhere = out + "".join(inputs[:k] + inputs[k + 1:])
        alone = [a for a, letter in enumerate(inputs[k]) if letter not in elsewhere]
        if alone:  # whole numbers keep their dtype, as in NumPy
            operands[k] = sum(x, alone) if is_float(x.dtype) else sum(x, alone).astype(x.dtype)
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
    x = moveaxis(x, _axes(of, (axis1, axis2), x.ndim), (-2, -1))
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
    """The last two axes with zeros above the k-th diagonal."""
    x = _matrices("tril", x)
    return where(wrap(xp(x._array).tri(*x.shape[-2:], k=whole("tril", "k", k, -math.inf), dtype=bool)), x, x.dtype.type(0))


@operation(numpy=np.triu)
def triu(x: TensorLike, k: int = 0) -> Tensor:
    """The last two axes with zeros below the k-th diagonal."""
    x = _matrices("triu", x)
    return where(wrap(xp(x._array).tri(*x.shape[-2:], k=whole("triu", "k", k, -math.inf) - 1, dtype=bool)), x.dtype.type(0), x)


@operation(numpy=np.diag)
def diag(x: TensorLike, k: int = 0) -> Tensor:
    """Of a vector the matrix with it on the k-th diagonal; of a matrix its k-th diagonal."""
    x = as_tensor(x)
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
    products = [x2 * y3 - x3 * y2, x3 * y1 - x1 * y3, x1 * y2 - x2 * y1]
    return stack(products, axis)


@operation(numpy=np.kron)
def kron(x: TensorLike, y: TensorLike) -> Tensor:
    """The Kronecker product: blocks of `y`, each multiplied by an element of `x`."""
    x, y = as_tensor(x), as_tensor(y)
    ndim = builtins.max(x.ndim, y.ndim)
    long, short = ((1,) * (ndim - v.ndim) + v.shape for v in (x, y))
    blocks = (x.reshape([n for a in long for n in (a, 1)]) * y.reshape([n for b in short for n in (1, b)]))
    return blocks.reshape([a * b for a, b in zip(long, short)])


@operation(numpy=np.linalg.matrix_power)
def matrix_power(x: TensorLike, n: int) -> Tensor:
    """The product of `n` times a square matrix; of negative n, of its inverse."""
    x, n = as_tensor(x), whole("matrix_power", "n", n, -math.inf)
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ValueError(f"matrix_power: square matrices wanted, got shape {x.shape}")
    if n == 0:
        return wrap(xp(x._array).broadcast_to(xp(x._array).eye(x.shape[-1], dtype=x.dtype), x.shape).copy())
    base, result = inv(x) if n < 0 else x, None
    n = builtins.abs(n)
    while n:
        if n % 2:
            result = base if result is None else matmul(result, base)
        n //= 2
        base = matmul(base, base) if n else base
    return result


# -- numpy.linalg ----------------------------------------------------------------------------------------------------


def _linalg(name):
    """The function of `numpy.linalg` or `cupy.linalg`, by the array's type; the batches of two arrays broadcast."""
    def function(*arrays):
        module = xp(arrays[0])
        batch = np.broadcast_shapes(*[a.shape[:-2] for a in arrays])
        arrays = [module.broadcast_to(a, (*batch, *a.shape[-2:])) for a in arrays]
        with cupy_differences.linalg_errors(module):
            return getattr(module.linalg, name)(*arrays)

    return in_float32(function)


@primitive(_linalg("inv"), lambda g, out, _x: -_matmul(_matmul(_t(out), g), _t(out)), numpy=np.linalg.inv)
def inv(x: TensorLike) -> Tensor:
    """The inverse matrix. numpy.linalg.LinAlgError if there is none."""


@primitive(_linalg("det"), lambda g, out, x: (g * out)[..., None, None] * _t(inv(x)), numpy=np.linalg.det)
def det(x: TensorLike) -> Tensor:
    """The determinant. Differentiable where the matrix has an inverse."""


_slogdet = Primitive(
    "slogdet", in_float32(lambda x: tuple(xp(x).linalg.slogdet(x))),
    lambda gs, _outs, x: gs[1][..., None, None] * _t(inv(x)))  # the sign does not move


class Slogdet(NamedTuple):
    """The results of `slogdet`."""
    sign: Tensor
    logabsdet: Tensor


class Eigh(NamedTuple):
    """The results of `eigh`."""
    eigenvalues: Tensor
    eigenvectors: Tensor


class SVD(NamedTuple):
    """The results of `svd`."""
    U: Tensor
    S: Tensor
    Vh: Tensor


class QR(NamedTuple):
    """The results of `qr`."""
    Q: Tensor
    R: Tensor


@operation(numpy=np.linalg.slogdet)
def slogdet(x: TensorLike) -> Slogdet:
    """The sign of the determinant, and the logarithm of its absolute value: (sign, logabsdet)."""
    sign, logarithm = _slogdet(x)
    return Slogdet(sign.detach(), logarithm)


@operation
def logdet(x: TensorLike) -> Tensor:
    """The logarithm of the determinant; NaN where that is negative."""
    sign, logarithm = slogdet(_matrices("logdet", x))
    return where(sign < 0, math.nan, logarithm)


_solve = Primitive(
    "solve", _linalg("solve"),
    lambda g, out, a, _b: -_matmul(_solve(_t(a), g), _t(out)),
    lambda g, _out, a, _b: _solve(_t(a), g),
    broadcasts=True)


@operation(numpy=np.linalg.solve)
def solve(a: TensorLike, b: TensorLike) -> Tensor:
    """x with a @ x = b. A 1-D `b` is one right-hand side, else its last two axes hold right-hand sides in columns."""
    b = as_tensor(b)
    return squeeze(_solve(a, expand_dims(b, 1)), -1) if b.ndim == 1 else _solve(a, b)


def _half_of_lower(x):
    """The lower triangle with the diagonal halved."""
    return tril(x) - 0.5 * tril(triu(x))


def _cholesky_rule(g, out, _x):
    inner = _half_of_lower(_matmul(_t(out), g))
    full = _t(_solve(_t(out), _t(_solve(_t(out), inner))))
    return 0.5 * (full + _t(full))


@primitive(_linalg("cholesky"), _cholesky_rule, numpy=np.linalg.cholesky)
def cholesky(x: TensorLike) -> Tensor:
    """The lower triangular L with L @ L.T = x, of a symmetric positive definite matrix.

    The gradient is the symmetric one (Murray 2016, "Differentiation of the Cholesky decomposition", arXiv:1602.07527).
    LinAlgError if x is not positive definite.
    """


def _eye_like(x):
    """The unit matrix of the length of x's last axis."""
    return wrap(xp(x._array).eye(x.shape[-1], dtype=x.dtype))


def _eigh_rule(gs, outs, _x):
    (gw, gv), (w, v) = gs, outs
    gap = w[..., None, :] - w[..., :, None]
    middle = _matmul(_t(v), gv) * _quotient(1, gap) + gw[..., None, :] * _eye_like(w)
    full = _matmul(_matmul(v, middle), _t(v))
    return 0.5 * (full + _t(full))


_eigh = Primitive("eigh", in_float32(lambda x: tuple(xp(x).linalg.eigh(x))), _eigh_rule)


@operation(numpy=np.linalg.eigh)
def eigh(x: TensorLike, UPLO: str = "L") -> Eigh:
    """Eigenvalues in ascending order and eigenvectors (columns) of a symmetric matrix.

    Of the matrix the lower half is read, with `UPLO="U"` the upper one.

    The gradient is the symmetric one (Giles 2008, "Collected matrix derivative results"). That of an eigenvector has a
    meaning only where its eigenvalue is simple; between equal eigenvalues nothing flows.

    Returns:
        (eigenvalues (..., n), eigenvectors (..., n, n)).
    """
    if UPLO not in ("L", "U"):
        raise ValueError(f"eigh: UPLO is 'L' or 'U', not {UPLO!r}")
    return Eigh(*_eigh(x if UPLO == "L" else _t(x)))


@operation(numpy=np.linalg.eigvalsh)
def eigvalsh(x: TensorLike, UPLO: str = "L") -> Tensor:
    """The eigenvalues of a symmetric matrix, in ascending order; `UPLO` as of `eigh`."""
    return eigh(_matrices("eigvalsh", x), UPLO)[0]


@operation
def svdvals(x: TensorLike) -> Tensor:
    """The singular values of a matrix, largest first.

    They are the upper half of the eigenvalues of the symmetric matrix [[0, x], [x.T, 0]], which gives derivatives of
    any order without losing digits as x.T @ x would.
    """
    x = _matrices("svdvals", x)
    m, n = x.shape[-2:]
    module = xp(x._array)
    top = concatenate([wrap(module.zeros((*x.shape[:-2], m, m), x.dtype)), x], -1)
    bottom = concatenate([_t(x), wrap(module.zeros((*x.shape[:-2], n, n), x.dtype))], -1)
    values = eigvalsh(concatenate([top, bottom], -2))
    return values[..., ::-1][..., :builtins.min(m, n)]


@operation(method=True, numpy=np.linalg.norm)
def norm(x: TensorLike, ord: float | str | None = None, axis: Axes | None = None, keepdims: bool = False) -> Tensor:
    """Vector and matrix norms, as `numpy.linalg.norm`. The slope of a norm at 0 is 0; equal largest sizes share it evenly.

    Args:
        ord: None for the root of the sum of squares; for one axis a number, inf or -inf; for two axes "fro", "nuc",
            1, -1, 2, -2, inf or -inf.
        axis: one axis for vectors, two for matrices; None for all (with `ord`, of a 1-D or 2-D Tensor).

    Whole numbers count as float64.
    """
    x, keepdims = _as_float(x), _flag("norm", keepdims)
    if ord is not None and not isinstance(ord, (str, int, float, np.integer, np.floating)):
        raise ValueError(f"norm: ord is a number, inf, -inf, 'fro' or 'nuc', not {ord!r}")
    if ord is not None and axis is None and x.ndim not in (1, 2):
        raise ValueError(f"norm: ord={ord!r} needs an axis for a Tensor of {x.ndim} dimensions")
    axes = _axes("norm", axis, x.ndim)
    if not axes and axis is not None:
        raise ValueError("norm: axis names none; one axis is wanted for vectors, two for matrices")
    if ord is None or ord == "fro" and len(axes) == 2 or ord == 2 and len(axes) == 1:
        return sqrt(sum(x * x, axes, keepdims))
    if len(axes) == 1:
        return _vector_norm(x, ord, axes, keepdims)
    if len(axes) != 2:
        raise ValueError(f"norm: ord={ord!r} is defined for one or two axes, not for {len(axes)}")
    row, column = axes
    if ord in (1, -1, math.inf, -math.inf):
        over, best = (row, column) if ord in (1, -1) else (column, row)
        return (_largest if ord > 0 else min)(sum(abs(x), over, keepdims=True), (over, best), keepdims)
    if ord not in (2, -2, "nuc"):
        raise ValueError(f"norm: {ord!r} is no order of a matrix norm")
    values = svdvals(moveaxis(x, axes, (-2, -1)))
    out = sum(values, -1) if ord == "nuc" else (_largest if ord == 2 else min)(values, -1)
    return expand_dims(out, axes) if keepdims else out


def _largest(sizes, axes, keepdims=False):
    """The largest of numbers that are not negative; 0 of none."""
    return max(sizes, axes, keepdims, initial=None if sizes.size else 0)


def _vector_norm(x, p, axes, keepdims):
    if p == math.inf:
        return _largest(abs(x), axes, keepdims)
    if p == -math.inf:
        return min(abs(x), axes, keepdims)
    if p == 0:
        return sum((x != 0).astype(x.dtype), axes, keepdims)
    if not isinstance(p, (int, float, np.integer, np.floating)):
        raise ValueError(f"norm: {p!r} is no order of a vector norm")
    if p == 1:
        return sum(abs(x), axes, keepdims)
    if p > 0:
        return sum(abs(x) ** p, axes, keepdims) ** (1 / p)
    smallest = min(abs(x), axes, keepdims=True, initial=math.inf)
    out = sum(where(smallest == 0, 1, abs(x)) ** p, axes, keepdims=True) ** (1 / p)
    out = where(smallest == 0, 0, out)  # where one element is 0, also in the slopes of the others
    return out if keepdims else squeeze(out, axes)


@operation
def cdist(x: TensorLike, y: TensorLike, p: float = 2.0) -> Tensor:
    """The distance of each row of x (..., m, width) from each row of y (..., n, width): (..., m, n).

    The distances are p-norms of the differences, p from 0 to infinity; their slope at 0 is 0. The leading axes broadcast.
    """
    x, y = (_matrices("cdist", v) for v in (x, y))
    if x.shape[-1] != y.shape[-1]:
        raise ValueError(f"cdist: rows of one width wanted, got {x.shape} and {y.shape}")
    p = p if p == math.inf else real("cdist", "p", p, 0)
    return norm(expand_dims(x, -2) - expand_dims(y, -3), p, -1)


def _svd_rule(gs, outs, _x):
    (gu, gs, gv), (u, s, vt) = gs, outs
    v, gv = _t(vt), _t(gv)
    gap = (s * s)[..., None, :] - (s * s)[..., :, None]
    inverse_gap, inverse = _quotient(1, gap), _quotient(1, s)[..., None, :]
    left, right = _matmul(_t(u), gu), _matmul(vt, gv)
    middle = (left - _t(left)) * inverse_gap * s[..., None, :] + s[..., :, None] * (right - _t(right)) * inverse_gap
    middle = middle + gs[..., None, :] * _eye_like(s)
    # What the thin factors do not span moves freely: (I - U U^T) gU S^-1 V^T, and the same of V.
    out = _matmul(_matmul(u, middle) + (gu - _matmul(u, left)) * inverse, vt)
    return out + _matmul(u * inverse, _t(gv - _matmul(v, right)))


def _for_svd(name, x):
    """`x`. LinAlgError if a number on the CPU is not finite, with which LAPACK's algorithm may never end."""
    if xp(x) is np and not np.isfinite(x).all():
        raise np.linalg.LinAlgError(f"{name}: the matrix holds NaN or infinity")
    return x


_thin_svd = Primitive(
    "svd", in_float32(lambda x: tuple(xp(x).linalg.svd(_for_svd("svd", x), full_matrices=False))), _svd_rule)


@operation(numpy=np.linalg.svd)
def svd(x: TensorLike, full_matrices: bool = True, compute_uv: bool = True) -> SVD | Tensor:
    """x = U diag(S) Vh, the singular values largest first; with `compute_uv=False` those alone, as `svdvals`.

    The gradient of a singular vector has a meaning only where its value is simple and not 0 (Townsend 2016,
    "Differentiating the singular value decomposition").

    Returns:
        (U (..., m, k), S (..., k), Vh (..., k, n)), k = min(m, n).

    Raises:
        TypeError: `full_matrices` of a matrix that is not square: the vectors beyond k are arbitrary and have no gradient.
        numpy.linalg.LinAlgError: a number is not finite.
    """
    x = _matrices("svd", x)
    if not compute_uv:
        return svdvals(x)
    if full_matrices and x.shape[-1] != x.shape[-2]:
        raise TypeError(f"svd: of a matrix {x.shape} that is not square pass full_matrices=False")
    return SVD(*_thin_svd(x))


def _qr_rule(gs, outs, _x):
    (gq, gr), (q, r) = gs, outs
    upper = triu(_matmul(gr, _t(r)) - _matmul(_t(q), gq))
    symmetric = upper + _t(upper) - upper * _eye_like(r)
    try:
        return _t(_solve(r, _t(gq + _matmul(q, symmetric))))
    except np.linalg.LinAlgError:
        raise np.linalg.LinAlgError("qr: the matrix has linearly dependent columns, and there no gradient") from None


_tall_qr = Primitive("qr", in_float32(lambda x: tuple(xp(x).linalg.qr(x))), _qr_rule)


@operation(numpy=np.linalg.qr)
def qr(x: TensorLike, mode: str = "reduced") -> QR:
    """x = Q R, Q with orthonormal columns and R upper triangular. Differentiable where the first columns are independent.

    Returns:
        (Q (..., m, k), R (..., k, n)), k = min(m, n).

    Raises:
        ValueError: another mode than "reduced".
    """
    one_of("qr", "mode", mode, ("reduced",))
    x = _matrices("qr", x)
    m, n = x.shape[-2:]
    if m >= n:
        return QR(*_tall_qr(x))
    q, r = _tall_qr(x[..., :m])
    return QR(q, concatenate([r, _matmul(_t(q), x[..., m:])], -1))


def _pinv_rule(g, out, x):
    """Golub and Pereyra 1973, "The differentiation of pseudo-inverses"."""
    p, pt, gt = out, _t(out), _t(g)
    first = _matmul(gt - _matmul(x, _matmul(p, gt)), _matmul(p, pt))
    second = _matmul(_matmul(pt, p), gt - _matmul(_matmul(gt, p), x))
    return first + second - _matmul(_matmul(pt, g), pt)


@primitive(in_float32(lambda x: xp(x).linalg.pinv(_for_svd("pinv", x))), _pinv_rule, numpy=np.linalg.pinv)
def pinv(x: TensorLike) -> Tensor:
    """The pseudo-inverse (Moore-Penrose). Differentiable where the rank does not change. LinAlgError of NaN and infinity."""
