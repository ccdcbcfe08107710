"""Linear algebra, as `numpy.linalg`. Matrices stand in the last two axes; the axes before them are a batch and broadcast."""
from __future__ import annotations

import builtins
import math
from typing import NamedTuple

import numpy as np

from ..backend import in_float32, linalg_errors, xp
from ..fused import Fused, halves_in_float32
from ..primitive import Primitive
from ..recording import state
from ..tensor import Tensor, TensorLike, as_tensor, flag, wrap
from .declare import operation, primitive
from .elementwise import _as_float, _flat_in, _quotient, abs, minimum, sqrt, where
from .geometry import Axes, constant, one_of, order, several_axes, speaking_as, whole
from .products import _matmul, _matrices, _t, matmul, tril, triu
from .reduce import max, min, sum
from .shape import concatenate, expand_dims, moveaxis, squeeze


def _linalg(name):
    """The function of `numpy.linalg` or `cupy.linalg`, by the array's type; the batches of two arrays broadcast."""
    def function(*arrays):
        module = xp(arrays[0])
        batch = np.broadcast_shapes(*[a.shape[:-2] for a in arrays])
        arrays = [module.broadcast_to(a, (*batch, *a.shape[-2:])) for a in arrays]
        with linalg_errors(arrays[0]):
            return getattr(module.linalg, name)(*arrays)

    return in_float32(function)


@primitive(_linalg("inv"), lambda g, out, _x: -_matmul(_matmul(_t(out), g), _t(out)), numpy=np.linalg.inv)
def inv(x: TensorLike) -> Tensor:
    """The inverse matrix. numpy.linalg.LinAlgError if there is none."""


def _eye_like(x):
    """The unit matrix of the length of x's last axis."""
    return wrap(xp(x._array).eye(x.shape[-1], dtype=x.dtype))


@operation(numpy=np.linalg.matrix_power)
def matrix_power(x: TensorLike, n: int) -> Tensor:
    """The product of `n` times a square matrix; of negative n, of its inverse."""
    x, n = as_tensor(x), whole("matrix_power", "n", n, -math.inf)
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ValueError(f"matrix_power: square matrices wanted, got shape {x.shape}")
    if n == 0:
        return _flat_in(x, _eye_like(x))
    with speaking_as("matrix_power"):
        base, result = inv(x) if n < 0 else x, None
    n = builtins.abs(n)
    while n:
        if n % 2:
            result = base if result is None else matmul(result, base)
        n //= 2
        base = matmul(base, base) if n else base
    return result


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


@operation(numpy=np.linalg.slogdet)
def slogdet(x: TensorLike) -> Slogdet:
    """The sign of the determinant, and the logarithm of its absolute value: (sign, logabsdet)."""
    sign, logarithm = _slogdet(x)
    return Slogdet(sign.detach(), logarithm)


@operation
def logdet(x: TensorLike) -> Tensor:
    """The logarithm of the determinant; NaN where that is negative."""
    with speaking_as("logdet"):
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
    a, b = as_tensor(a), as_tensor(b)
    if a.ndim > 1 and (not b.ndim or a.shape[-1] != b.shape[builtins.max(b.ndim - 2, 0)]):
        raise ValueError(f"solve: a (..., n, n) and b (n,) or (..., n, k) wanted, got shapes {a.shape} and {b.shape}")
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


def _eigh_rule(gs, outs, _x):
    (gw, gv), (w, v) = gs, outs
    gap = w[..., None, :] - w[..., :, None]
    middle = _matmul(_t(v), gv) * _quotient(1, gap) + gw[..., None, :] * _eye_like(w)
    full = _matmul(_matmul(v, middle), _t(v))
    return 0.5 * (full + _t(full))


_eigh = Primitive("eigh", in_float32(lambda x: tuple(xp(x).linalg.eigh(x))), _eigh_rule)


class Eigh(NamedTuple):
    """The results of `eigh`."""
    eigenvalues: Tensor
    eigenvectors: Tensor


@operation(numpy=np.linalg.eigh)
def eigh(x: TensorLike, UPLO: str = "L") -> Eigh:
    """Eigenvalues in ascending order and eigenvectors (columns) of a symmetric matrix.

    Of the matrix the lower half is read, with `UPLO="U"` the upper one.

    The gradient is the symmetric one (Giles 2008, "Collected matrix derivative results"). That of an eigenvector has a
    meaning only where its eigenvalue is simple; between equal eigenvalues nothing flows.

    Returns:
        (eigenvalues (..., n), eigenvectors (..., n, n)).
    """
    one_of("eigh", "UPLO", UPLO, ("L", "U"))
    x = _matrices("eigh", x)
    return Eigh(*_eigh(x if UPLO == "L" else _t(x)))


@operation(numpy=np.linalg.eigvalsh)
def eigvalsh(x: TensorLike, UPLO: str = "L") -> Tensor:
    """The eigenvalues of a symmetric matrix, in ascending order; `UPLO` as of `eigh`. Second derivatives, and higher ones, have a
    meaning only where they are distinct."""
    with speaking_as("eigvalsh"):
        return eigh(_matrices("eigvalsh", x), UPLO)[0]


_svdvals = in_float32(lambda x: xp(x).linalg.svd(x, compute_uv=False))


@operation
def svdvals(x: TensorLike) -> Tensor:
    """The singular values of a matrix, largest first.

    They are the upper half of the eigenvalues of the symmetric matrix [[0, x], [x.T, 0]], which gives derivatives of
    any order without losing digits as x.T @ x would. Second derivatives, and higher ones, have a meaning only where the
    values are distinct and not 0. LinAlgError of NaN and infinity.
    """
    x = _matrices("svdvals", x)
    _for_svd("svdvals", x._array)
    if not (x.requires_grad and state.recording):  # a fifth of the time
        return wrap(_svdvals(x._array))
    m, n = x.shape[-2:]
    module = xp(x._array)
    top = concatenate([wrap(module.zeros((*x.shape[:-2], m, m), x.dtype)), x], -1)
    bottom = concatenate([_t(x), wrap(module.zeros((*x.shape[:-2], n, n), x.dtype))], -1)
    values = eigvalsh(concatenate([top, bottom], -2))[..., ::-1][..., :builtins.min(m, n)]
    return values - minimum(values.detach(), 0)  # rounding may leave less than 0


@operation(method=True, numpy=np.linalg.norm)
@halves_in_float32(1)
def norm(x: TensorLike, ord: float | str | None = None, axis: Axes | None = None, keepdims: bool = False) -> Tensor:
    """Vector and matrix norms, as `numpy.linalg.norm`. The slope of a norm at 0 is 0, and that of order 0,
    a count, everywhere; equal largest sizes share it evenly.

    Args:
        ord: None for the root of the sum of squares; for one axis a number, inf or -inf; for two axes "fro", "nuc",
            1, -1, 2, -2, inf or -inf.
        axis: one axis for vectors, two for matrices; None for all (with `ord`, of a 1-D or 2-D Tensor).

    Whole numbers count as float64.
    """
    x, keepdims = _as_float(x), flag("norm", "keepdims", keepdims)
    if ord is not None and not isinstance(ord, (str, int, float, np.integer, np.floating)):
        raise ValueError(f"norm: ord is a number, inf, -inf, 'fro' or 'nuc', not {ord!r}")
    if ord is not None and axis is None and x.ndim not in (1, 2):
        raise ValueError(f"norm: ord={ord!r} needs an axis for a Tensor of {x.ndim} dimensions")
    axes = several_axes("norm", axis, x.ndim)
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
        return (_largest if ord > 0 else _smallest)(sum(abs(x), over, keepdims=True), (over, best), keepdims)
    if ord not in (2, -2, "nuc"):
        raise ValueError(f"norm: {ord!r} is no order of a matrix norm")
    x = moveaxis(x, axes, (-2, -1))
    known = wrap(xp(x._array).isfinite(x._array).all((-2, -1)))  # of others the norm is NaN, as LAPACK may never end
    values = svdvals(where(known[..., None, None], x, 0))
    out = where(known, sum(values, -1) if ord == "nuc" else (_largest if ord == 2 else _smallest)(values, -1), math.nan)
    return expand_dims(out, axes) if keepdims else out


def _largest(sizes, axes, keepdims=False):
    """The largest of numbers that are not negative; 0 of none."""
    return max(sizes, axes, keepdims, initial=None if sizes.size else 0)


def _smallest(sizes, axes, keepdims=False):
    """The smallest of numbers, of which there has to be one."""
    with speaking_as("norm"):
        return min(sizes, axes, keepdims)


def _vector_norm(x, p, axes, keepdims):
    if p == math.inf:
        return _largest(abs(x), axes, keepdims)
    if p == -math.inf:
        return _smallest(abs(x), axes, keepdims)
    if p == 0:
        return sum(_flat_in(x, (x != 0).astype(x.dtype)), axes, keepdims)
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


def _cdist(x, y, p):
    return norm(expand_dims(x, -2) - expand_dims(y, -3), p, -1)


_fused_cdist = Fused("cdist", _cdist)


@operation
def cdist(x: TensorLike, y: TensorLike, p: float = 2.0) -> Tensor:
    """The distance of each row of x (..., m, width) from each row of y (..., n, width): (..., m, n).

    The distances are p-norms of the differences, p from 0 to infinity; their slope at 0 is 0, and that of p = 0, a count,
    everywhere. The leading axes broadcast.
    """
    x, y = (_as_float(_matrices("cdist", v)) for v in (x, y))
    if x.shape[-1] != y.shape[-1]:
        raise ValueError(f"cdist: rows of one width wanted, got {x.shape} and {y.shape}")
    return _fused_cdist(x, y, p=order("cdist", p))


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


class SVD(NamedTuple):
    """The results of `svd`."""
    U: Tensor
    S: Tensor
    Vh: Tensor


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
    x, full_matrices = _matrices("svd", x), flag("svd", "full_matrices", full_matrices)
    if not flag("svd", "compute_uv", compute_uv):
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


class QR(NamedTuple):
    """The results of `qr`."""
    Q: Tensor
    R: Tensor


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


def _pinv_rule(g, out, x, rcond):
    """Golub and Pereyra 1973, "The differentiation of pseudo-inverses"."""
    p, pt, gt = out, _t(out), _t(g)
    first = _matmul(gt - _matmul(x, _matmul(p, gt)), _matmul(p, pt))
    second = _matmul(_matmul(pt, p), gt - _matmul(_matmul(gt, p), x))
    return first + second - _matmul(_matmul(pt, g), pt)


def _pseudo_inverse(x, rcond):
    if rcond is None:
        rcond = builtins.max(x.shape[-2:]) * float(np.finfo(x.dtype).eps)
    return xp(x).linalg.pinv(_for_svd("pinv", x), rcond)


_pinv = Primitive("pinv", in_float32(_pseudo_inverse), _pinv_rule)


@operation(numpy=np.linalg.pinv)
def pinv(x: TensorLike, rcond: float | None = None) -> Tensor:
    """The pseudo-inverse (Moore-Penrose). Differentiable where the rank does not change. LinAlgError of NaN and infinity.

    Args:
        rcond: singular values up to this share of the largest count as 0; None for the longer side's length times the dtype's
            precision, of half precision float32's. (By default NumPy's is 1e-15, which leaves rounding errors of float32 in.)
    """
    return _pinv(_as_float(_matrices("pinv", x)), rcond=None if rcond is None else constant("pinv", "rcond", rcond, 0))
