"""Operations that act on each element by itself, with broadcasting.

NumPy's ufuncs hand CuPy arrays to CuPy, so one ufunc serves both. Where a function has no derivative, the rule selects
a subgradient with `where` and never multiplies by a mask, so that an infinity in the branch not taken cannot turn into
NaN: abs'(0) = relu'(0) = 0, sqrt'(0) = 0, and ties of maximum and minimum are split evenly.
"""
from __future__ import annotations

import math

import numpy as np

from .. import primitive
from ..backend import as_dtype, in_float32, is_float, largest_of, of_two, where as choose, with_paths, WORTH_A_PATH, xp
from ..backend.erf import erf as erf_of_array
from ..fused import by_path
from ..primitive import cast, Primitive
from ..tensor import DTypeLike, Tensor, TensorLike, as_tensor, asarray, assignable, flag, held, wrap
from .declare import NUMPY, elementwise, nondifferentiable, operation, public_face
from .geometry import speaking_as, whole

# -- arithmetic ------------------------------------------------------------------------------------------------------


@public_face(primitive.add, numpy=np.add, operator="add")
def add(x: TensorLike, y: TensorLike) -> Tensor:
    """x + y, element by element."""


@elementwise(of_two(np.subtract), lambda g, _out, _x, _y: g, lambda g, _out, _x, _y: -g, operator="sub")
def subtract(x: TensorLike, y: TensorLike) -> Tensor:
    """x - y, element by element."""


@elementwise(of_two(np.multiply), lambda g, _out, _x, y: g * y, lambda g, _out, x, _y: g * x, operator="mul")
def multiply(x: TensorLike, y: TensorLike) -> Tensor:
    """x y, element by element."""


@elementwise(of_two(np.divide), lambda g, _out, _x, y: g / y, lambda g, out, _x, y: -g * out / y, operator="truediv")
def divide(x: TensorLike, y: TensorLike) -> Tensor:
    """x / y, element by element."""


@elementwise(np.negative, lambda g, _out, _x: -g, operator="neg")
def negative(x: TensorLike) -> Tensor:
    """-x."""


def _reciprocal(x):
    if x.dtype.kind not in "iu" or xp(x) is np:
        return np.reciprocal(x)
    with np.errstate(all="ignore"):
        of_zero = np.reciprocal(x.dtype.type(0))  # CuPy's is 0
    return choose(x == 0, of_zero, np.reciprocal(x))


@elementwise(_reciprocal, lambda g, out, _x: -g * out * out, numpy=np.reciprocal)
def reciprocal(x: TensorLike) -> Tensor:
    """1 / x."""


@elementwise(np.square, lambda g, _out, x: g * (2 * x), method=True)
def square(x: TensorLike) -> Tensor:
    """x^2."""


def _power_slope(x, y):
    """y x^(y-1), with 0 where it is a limit of 0 times infinity (y = 0, |x| so small that 1 / x overflows) and at the corner of a
    root (x = 0 < y < 1)."""
    if type(y._array) is np.ndarray and not y.ndim and y._array.item() != 0:  # one exponent, which the host knows
        if not 0 < y._array.item() < 1:
            return y * _power(x, y - 1)
        corner = equal(x, 0)
        return where(corner, 0, y * _power(where(corner, 1, x), y - 1))
    large = greater(abs(x), 1 / largest_of(x.dtype)) if is_float(x.dtype) else not_equal(x, 0)
    flat = (equal(y, 0) & ~large) | (equal(x, 0) & greater(y, 0) & less(y, 1))
    return where(flat, 0, y * _power(where(flat, 1, x), where(flat, 1, y - 1)))


@by_path("power_gradient")
def _along_power(g, x, y):
    return g * _power_slope(x, y)


def _log_or_zero(x, y):
    """log(x), and 0 where x^y does not move with y although log(x) is infinite (x = 0 <= y)."""
    return log(where(equal(x, 0) & greater_equal(y, 0), 1, x))


def _powers(x, y):
    if xp(x) is not np and not is_float(x.dtype) and not is_float(y.dtype) and bool((y < 0).any()):
        raise ValueError("Integers to negative integer powers are not allowed.")  # as NumPy says; CuPy makes them 0
    return np.power(x, y)


_power = Primitive(
    "power", with_paths("power", _powers, least=WORTH_A_PATH),
    lambda g, _out, x, y: _along_power(g, x, y),
    lambda g, out, x, y: g * out * _log_or_zero(x, y),
    broadcasts=True)


@operation(numpy=np.power, operator="pow")
def power(x: TensorLike, y: TensorLike) -> Tensor:
    """x to the power of y, element by element; a square as `square`, whose gradient is shorter. Of a root, 0 < y < 1, the slope
    at x = 0 is 0."""
    is_square = type(y) in (int, float) and y == 2 and isinstance(x, Tensor) and is_float(x.dtype)
    return square(x) if is_square else _power(x, y)


@elementwise(of_two(np.remainder, WORTH_A_PATH),
             lambda g, _out, _x, _y: g, lambda g, _out, x, y: -g * floor_divide(x, y), operator="mod")
def remainder(x: TensorLike, y: TensorLike) -> Tensor:
    """x - y floor(x / y): what is left of x, with the sign of y."""


@nondifferentiable(of_two(np.floor_divide, WORTH_A_PATH), operator="floordiv")
def floor_divide(x: TensorLike, y: TensorLike) -> Tensor:
    """floor(x / y), without a gradient."""


# -- exponentials and logarithms -------------------------------------------------------------------------------------


@elementwise(np.exp, lambda g, out, _x: g * out, method=True)
def exp(x: TensorLike) -> Tensor:
    """e to the power of x."""


@elementwise(np.exp2, lambda g, out, _x: g * out * math.log(2))
def exp2(x: TensorLike) -> Tensor:
    """2 to the power of x."""


@elementwise(np.expm1, lambda g, out, _x: g * (out + 1))
def expm1(x: TensorLike) -> Tensor:
    """exp(x) - 1, exact for small x too."""


@elementwise(np.log, lambda g, _out, x: g / x, method=True)
def log(x: TensorLike) -> Tensor:
    """The natural logarithm."""


@elementwise(np.log2, lambda g, _out, x: g / (x * math.log(2)))
def log2(x: TensorLike) -> Tensor:
    """The logarithm to base 2."""


@elementwise(np.log10, lambda g, _out, x: g / (x * math.log(10)))
def log10(x: TensorLike) -> Tensor:
    """The logarithm to base 10."""


@elementwise(np.log1p, lambda g, _out, x: g / (x + 1))
def log1p(x: TensorLike) -> Tensor:
    """log(1 + x), exact for small x too."""


def _quotient(x, y):
    """x / y, and 0 where y is 0."""
    at_zero = equal(y, 0)
    return where(at_zero, 0, x / where(at_zero, 1, y))


def _along_root(g, out):
    with np.errstate(divide="ignore"):
        return g * choose(out == 0, out.dtype.type(0), out.dtype.type(0.5) / out)


_sqrt_gradient = Primitive(
    "sqrt_gradient", with_paths("sqrt_gradient", _along_root, least=WORTH_A_PATH),
    lambda h, _out, _g, out: _sqrt_gradient(h, out),
    lambda h, _out, g, out: -h * _sqrt_gradient(g, out) * _quotient(1, out))


@elementwise(np.sqrt, lambda g, out, _x: _sqrt_gradient(g, out), method=True)
def sqrt(x: TensorLike) -> Tensor:
    """The square root; its slope at 0 is 0."""


@by_path("sigmoid_share")
def _sigmoid_share(x, y, out):
    """exp(x) / (exp(x) + exp(y)) by the difference, which keeps the digits that out = log(exp(x) + exp(y)) has lost."""
    infinite = isinf(out)
    share = where(equal(x, math.inf), where(equal(x, y), 0.5, 1), 0)
    return where(infinite, cast(share, dtype=out.dtype), sigmoid(where(infinite, 0, x) - where(infinite, 0, y)))


@elementwise(of_two(np.logaddexp, WORTH_A_PATH),
             lambda g, out, x, y: g * _sigmoid_share(x, y, out),
             lambda g, out, x, y: g * _sigmoid_share(y, x, out))
def logaddexp(x: TensorLike, y: TensorLike) -> Tensor:
    """log(exp(x) + exp(y)) without overflow."""


@elementwise(lambda x: np.reciprocal(np.sqrt(x)), lambda g, out, _x: g * (-0.5 * out * out * out))
def rsqrt(x: TensorLike) -> Tensor:
    """1 / sqrt(x)."""


# -- trigonometry and sigmoids ---------------------------------------------------------------------------------------


@elementwise(np.sin, lambda g, _out, x: g * cos(x))
def sin(x: TensorLike) -> Tensor:
    """The sine; x in radians."""


@elementwise(np.cos, lambda g, _out, x: -g * sin(x))
def cos(x: TensorLike) -> Tensor:
    """The cosine; x in radians."""


@elementwise(np.tan, lambda g, out, _x: g * (1 + out * out))
def tan(x: TensorLike) -> Tensor:
    """The tangent; x in radians."""


@elementwise(np.arcsin, lambda g, _out, x: g * rsqrt(1 - x * x))
def arcsin(x: TensorLike) -> Tensor:
    """The angle in [-pi/2, pi/2] whose sine is x."""


@elementwise(np.arccos, lambda g, _out, x: -g * rsqrt(1 - x * x))
def arccos(x: TensorLike) -> Tensor:
    """The angle in [0, pi] whose cosine is x."""


@elementwise(np.arctan, lambda g, _out, x: g / (1 + x * x))
def arctan(x: TensorLike) -> Tensor:
    """The angle in [-pi/2, pi/2] whose tangent is x."""


@elementwise(np.arctan2,
             lambda g, _out, y, x: g * _over_squared_length(x, hypot(x, y)),
             lambda g, _out, y, x: -g * _over_squared_length(y, hypot(x, y)))
def arctan2(y: TensorLike, x: TensorLike) -> Tensor:
    """The angle in [-pi, pi] of the point (x, y); its slopes at (0, 0) and at infinity are 0."""


def _over_squared_length(x, length):
    """x / length^2 for length = hypot(x, y), whose square may overflow; 0 at the origin."""
    return _quotient(_cosine(x, length), length)


@by_path("cosine")
def _cosine(x, length):
    """x / length for length = hypot(x, y): 0 at the origin, and the limits where it is infinite."""
    special = equal(length, 0) | isinf(length)
    ratio = x / where(special, 1, length)
    return where(special, where(isinf(x), sign(ratio), 0), ratio)


@elementwise(np.arcsinh, lambda g, _out, x: g / hypot(x, 1))
def arcsinh(x: TensorLike) -> Tensor:
    """The number whose hyperbolic sine is x."""


@elementwise(np.arccosh, lambda g, _out, x: g * (rsqrt(x - 1) * rsqrt(x + 1)))
def arccosh(x: TensorLike) -> Tensor:
    """The number from 0 whose hyperbolic cosine is x; NaN for x < 1."""


@elementwise(np.arctanh, lambda g, _out, x: g * (0.5 / (1 - x) + 0.5 / (1 + x)))
def arctanh(x: TensorLike) -> Tensor:
    """The number whose hyperbolic tangent is x; NaN for |x| > 1."""


@elementwise(of_two(np.hypot, WORTH_A_PATH),
             lambda g, out, x, _y: g * _cosine(x, out), lambda g, out, _x, y: g * _cosine(y, out))
def hypot(x: TensorLike, y: TensorLike) -> Tensor:
    """sqrt(x^2 + y^2) without overflow; its slope at (0, 0) is 0, at infinity 1 or -1 in what is infinite."""


@elementwise(np.deg2rad, lambda g, _out, _x: g * (math.pi / 180), numpy=(np.deg2rad, np.radians))
def deg2rad(x: TensorLike) -> Tensor:
    """Degrees as radians."""


@elementwise(np.rad2deg, lambda g, _out, _x: g * (180 / math.pi), numpy=(np.rad2deg, np.degrees))
def rad2deg(x: TensorLike) -> Tensor:
    """Radians as degrees."""


def _sinc_near_zero(x):
    """The series of sin(pi x) / (pi x), to all digits of float64 for |x| up to 1/2."""
    square, out = (math.pi * x) ** 2, 1.0
    for n in range(22, 0, -2):
        out = 1.0 - out * square / (n * (n + 1))
    return out


@operation(numpy=np.sinc)
def sinc(x: TensorLike) -> Tensor:
    """sin(pi x) / (pi x), 1 at 0, with derivatives of any order there."""
    x = _as_float(x)
    near = abs(x) < 0.5
    angle = math.pi * where(near, 1, x)
    return where(near, _sinc_near_zero(where(near, x, 0)), sin(angle) / angle)


@elementwise(np.sinh, lambda g, _out, x: g * cosh(x))
def sinh(x: TensorLike) -> Tensor:
    """The hyperbolic sine, (exp(x) - exp(-x)) / 2."""


@elementwise(np.cosh, lambda g, _out, x: g * sinh(x))
def cosh(x: TensorLike) -> Tensor:
    """The hyperbolic cosine, (exp(x) + exp(-x)) / 2."""


@elementwise(np.tanh, lambda g, out, _x: g * (1 - out * out), method=True)
def tanh(x: TensorLike) -> Tensor:
    """The hyperbolic tangent, sinh(x) / cosh(x)."""


@in_float32  # exp(-x) of 16 bits is soon infinite
def _sigmoid(x):
    """1 / (1 + exp(-x)), to all digits: by tanh the small ones would be 0. Where the exponential is infinite it is 0."""
    with np.errstate(over="ignore", under="ignore"):
        out = np.exp(-(x if is_float(x.dtype) else x * 1.0))
    one = out.dtype.type(1)
    return one / (out + one)


_sigmoid_gradient = Primitive(
    "sigmoid_gradient", with_paths("sigmoid_gradient", lambda g, out: g * out * (out.dtype.type(1) - out), least=WORTH_A_PATH),
    lambda h, _out, _g, out: _sigmoid_gradient(h, out),
    lambda h, _out, g, out: h * g * (1 - 2 * out))


@elementwise(with_paths("sigmoid", _sigmoid, least=WORTH_A_PATH), lambda g, out, _x: _sigmoid_gradient(g, out), method=True)
def sigmoid(x: TensorLike) -> Tensor:
    """1 / (1 + exp(-x))."""


@elementwise(with_paths("erf", erf_of_array), lambda g, _out, x: g * (2 / math.sqrt(math.pi)) * exp(-x * x))
def erf(x: TensorLike) -> Tensor:
    """The error function, 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x."""


# -- corners and selections ------------------------------------------------------------------------------------------


def _sign(x):
    if x.dtype.kind == "b":  # CuPy's are whole numbers
        raise TypeError("truth values have no sign: convert them with .astype('int8')")
    return np.sign(x)


@elementwise(_sign, lambda g, _out, _x: zeros_like(g), numpy=np.sign)
def sign(x: TensorLike) -> Tensor:
    """-1, 0 or 1."""


@elementwise(np.floor, lambda g, _out, _x: zeros_like(g))
def floor(x: TensorLike) -> Tensor:
    """The largest whole number that is at most x."""


@elementwise(np.ceil, lambda g, _out, _x: zeros_like(g))
def ceil(x: TensorLike) -> Tensor:
    """The smallest whole number that is at least x."""


@elementwise(np.trunc, lambda g, _out, _x: zeros_like(g))
def trunc(x: TensorLike) -> Tensor:
    """x without its digits behind the point: the nearest whole number towards 0."""


_round = Primitive("round", lambda x, decimals: np.round(x, decimals), lambda g, _out, _x, decimals: zeros_like(g))
_rint = NUMPY[np.rint] = Primitive("round", np.rint, lambda g, _out, _x: zeros_like(g))  # of whole numbers floats


@operation(method=True, numpy=(np.round, np.around))
def round(x: TensorLike, decimals: int = 0) -> Tensor:
    """The nearest number with so many decimals; halves go to the even one."""
    x, decimals = as_tensor(x), whole("round", "decimals", decimals, -math.inf)
    return _round(x, decimals=decimals) if decimals or not is_float(x.dtype) else _rint(x)


@elementwise(np.abs, lambda g, _out, x: g * sign(x), method=True, operator="abs")
def abs(x: TensorLike) -> Tensor:
    """The absolute value; its slope at 0 is 0."""


_where = Primitive(
    "where", choose,
    None,
    lambda g, _out, c, _x, _y: _where(c, g, 0),
    lambda g, _out, c, _x, _y: _where(c, 0, g),
    broadcasts=True)


@operation(numpy=np.where)
def where(condition: TensorLike, x: TensorLike, y: TensorLike) -> Tensor:
    """`x` where `condition` is true, else `y`, as `numpy.where(condition, x, y)`.

    An infinite slope in the branch not taken still makes NaN in *its* gradient (0 times infinity); make that branch's input
    harmless first: `where(x > 0, log(where(x > 0, x, 1)), 0)`.
    """
    like = next((v for v in (x, y) if isinstance(v, Tensor)), None)
    if isinstance(condition, np.ndarray) and like is not None:  # a mask of the host, as labels and indices may be
        condition = xp(like._array).asarray(asarray(condition))
    if getattr(condition, "dtype", None) != bool:  # the condition's own type must not decide that of the numbers
        condition = not_equal(as_tensor(condition), 0)
    return _where(condition, x, y)


def _flat_in(x, value):
    """`value`, broadcast with x, as a function of x that does not move with it: a gradient of 0 flows back."""
    return where(wrap(xp(x._array).zeros((), bool)), x, value)


def _to_larger(g, x, y):
    return where(greater(x, y), g, where(less(x, y), 0, 0.5 * g))


@elementwise(of_two(np.maximum), lambda g, _out, x, y: _to_larger(g, x, y), lambda g, _out, x, y: _to_larger(g, y, x))
def maximum(x: TensorLike, y: TensorLike) -> Tensor:
    """The larger of x and y, element by element; equal ones, and NaN and what is beside it, share the gradient evenly."""


@elementwise(of_two(np.minimum), lambda g, _out, x, y: _to_larger(g, y, x), lambda g, _out, x, y: _to_larger(g, x, y))
def minimum(x: TensorLike, y: TensorLike) -> Tensor:
    """The smaller of x and y, element by element; equal ones, and NaN and what is beside it, share the gradient evenly."""


def _to_number(g, x, y, otherwise):
    """What `fmax` gives x: all where y alone is no number, nothing where x alone is none, else as `maximum`."""
    return where(equal(isnan(x), isnan(y)), otherwise, where(isnan(y), g, 0))


@elementwise(np.fmax,
             lambda g, _out, x, y: _to_number(g, x, y, _to_larger(g, x, y)),
             lambda g, _out, x, y: _to_number(g, y, x, _to_larger(g, y, x)))
def fmax(x: TensorLike, y: TensorLike) -> Tensor:
    """The larger of x and y, or the one of them that is not NaN; equal ones share the gradient evenly."""


@elementwise(np.fmin,
             lambda g, _out, x, y: _to_number(g, x, y, _to_larger(g, y, x)),
             lambda g, _out, x, y: _to_number(g, y, x, _to_larger(g, x, y)))
def fmin(x: TensorLike, y: TensorLike) -> Tensor:
    """The smaller of x and y, or the one of them that is not NaN; equal ones share the gradient evenly."""


_relu_gradient = Primitive(
    "relu_gradient", with_paths("relu_gradient", lambda g, out: choose(out > 0, g, g.dtype.type(0)), least=WORTH_A_PATH),
    lambda h, _out, _g, out: _relu_gradient(h, out), None)


@elementwise(with_paths("relu", lambda x: np.maximum(x, x.dtype.type(0)), least=WORTH_A_PATH),
             lambda g, out, _x: _relu_gradient(g, out), method=True)
def relu(x: TensorLike) -> Tensor:
    """max(x, 0); its slope at 0 is 0."""


@in_float32  # NumPy does not limit bfloat16
def _limited(x, low, high):
    if is_float(x.dtype):  # or else NumPy 1 makes float64 of a 0-d array; two bounds take NumPy a third of the time of one
        low, high = (x.dtype.type(end if bound is None else bound) for bound, end in ((low, -math.inf), (high, math.inf)))
    return xp(x).clip(x, low, high)


_clip = Primitive(
    "clip", _limited,
    lambda g, _out, x, low, high: where((low is None or x >= low) & (high is None or x <= high), g, 0))


@operation(numpy=np.clip, method=True)
def clip(x: TensorLike, a_min: TensorLike | None = None, a_max: TensorLike | None = None, *, min: TensorLike | None = None,
         max: TensorLike | None = None) -> Tensor:
    """`x` limited to [a_min, a_max], as `numpy.clip`. Inside and at the bounds the slope is 1.

    Bounds are numbers; bounds that are Tensors or arrays broadcast, get gradients, and share them evenly at ties.
    `min` and `max` are other names of the two.
    """
    for name, old, new in (("min", a_min, min), ("max", a_max, max)):
        if old is not None and new is not None:
            raise TypeError(f"clip: a_{name} and {name} are one argument; give one of them")
    a_min, a_max = min if a_min is None else a_min, max if a_max is None else a_max
    if all(bound is None or np.isscalar(bound) and not isinstance(bound, (str, bytes)) for bound in (a_min, a_max)):
        low, high = (bound.item() if isinstance(bound, np.generic) else bound for bound in (a_min, a_max))
        low, high = (float(v) if hasattr(v, "__float__") and not isinstance(v, int) else v for v in (low, high))  # fractions, too
        return _clip(x, low=low, high=high) if (a_min, a_max) != (None, None) else add(x, 0)
    with speaking_as("clip"):
        x = x if a_min is None else maximum(x, a_min)
        return x if a_max is None else minimum(x, a_max)


@operation(numpy=np.nan_to_num)
def nan_to_num(x: TensorLike, copy: bool = True, nan: float = 0.0, posinf: float | None = None,
               neginf: float | None = None) -> Tensor:
    """`x` with numbers for NaN and the infinities (None: the largest and smallest of the dtype), which get no gradient.

    Raises:
        ValueError: `copy=False`: Tensors are not changed in place.
    """
    if not flag("nan_to_num", "copy", copy):
        raise ValueError("nan_to_num: copy=False would change a Tensor in place")
    x = as_tensor(x)
    if not is_float(x.dtype):
        return primitive.copy(x)
    if posinf is None or neginf is None:
        largest = largest_of(x.dtype)
        posinf, neginf = largest if posinf is None else posinf, -largest if neginf is None else neginf
    return where(isnan(x), nan, where(equal(x, math.inf), posinf, where(equal(x, -math.inf), neginf, x)))


# -- tests of the elements -------------------------------------------------------------------------------------------


@nondifferentiable(np.equal, operator="eq", reflected=False)
def equal(x: TensorLike, y: TensorLike) -> Tensor:
    """True where x = y."""


@nondifferentiable(np.not_equal, operator="ne", reflected=False)
def not_equal(x: TensorLike, y: TensorLike) -> Tensor:
    """True where x and y differ."""


@nondifferentiable(np.less, operator="lt", reflected=False)
def less(x: TensorLike, y: TensorLike) -> Tensor:
    """True where x < y."""


@nondifferentiable(np.less_equal, operator="le", reflected=False)
def less_equal(x: TensorLike, y: TensorLike) -> Tensor:
    """True where x <= y."""


@nondifferentiable(np.greater, operator="gt", reflected=False)
def greater(x: TensorLike, y: TensorLike) -> Tensor:
    """True where x > y."""


@nondifferentiable(np.greater_equal, operator="ge", reflected=False)
def greater_equal(x: TensorLike, y: TensorLike) -> Tensor:
    """True where x >= y."""


@nondifferentiable(np.isnan)
def isnan(x: TensorLike) -> Tensor:
    """True where x is not a number."""


@nondifferentiable(np.isinf)
def isinf(x: TensorLike) -> Tensor:
    """True where x is infinite."""


@nondifferentiable(np.isfinite)
def isfinite(x: TensorLike) -> Tensor:
    """True where x is neither infinite nor NaN."""


@nondifferentiable(np.logical_and)
def logical_and(x: TensorLike, y: TensorLike) -> Tensor:
    """True where x and y are both not 0."""


@nondifferentiable(np.logical_or)
def logical_or(x: TensorLike, y: TensorLike) -> Tensor:
    """True where x or y is not 0."""


@nondifferentiable(np.logical_xor)
def logical_xor(x: TensorLike, y: TensorLike) -> Tensor:
    """True where one of x and y is 0 and the other is not."""


@nondifferentiable(np.logical_not)
def logical_not(x: TensorLike) -> Tensor:
    """True where x is 0."""


@nondifferentiable(np.bitwise_and, operator="and")
def bitwise_and(x: TensorLike, y: TensorLike) -> Tensor:
    """x & y: of bools, whether both are true; of whole numbers bit by bit."""


@nondifferentiable(np.bitwise_or, operator="or")
def bitwise_or(x: TensorLike, y: TensorLike) -> Tensor:
    """x | y: of bools, whether one is true; of whole numbers bit by bit."""


@nondifferentiable(np.bitwise_xor, operator="xor")
def bitwise_xor(x: TensorLike, y: TensorLike) -> Tensor:
    """x ^ y: of bools, whether just one is true; of whole numbers bit by bit."""


@nondifferentiable(np.invert, operator="invert")
def invert(x: TensorLike) -> Tensor:
    """~x: of bools, whether it is false; of whole numbers bit by bit."""


# -- conversions -----------------------------------------------------------------------------------------------------


def _as_float(x):
    """A Tensor of floating point numbers: whole numbers and bools as float64, as NumPy's functions take them."""
    x = as_tensor(x)
    return x if is_float(x.dtype) else x.astype(np.float64)


@operation(method=True)
def astype(x: TensorLike, dtype: DTypeLike) -> Tensor:
    """`x` in another dtype. Gradients flow between floating point dtypes and end at an integer or bool one."""
    x = as_tensor(x)
    try:
        dtype = as_dtype(dtype)
    except TypeError as error:
        raise TypeError(f"astype: {error}") from None
    if is_float(dtype):
        return cast(x, dtype=dtype)
    with speaking_as("astype"):
        return Tensor(x._array.astype(dtype, copy=False))


@public_face(primitive.copy, method=True, numpy=np.copy)
def copy(x: TensorLike) -> Tensor:
    """The same values in memory of their own, such as a change in place leaves alone; the gradient passes."""


@operation
def stop_gradient(x: TensorLike) -> Tensor:
    """The same values, constant to differentiation."""
    return as_tensor(x).detach()


def _like(make, x, dtype, requires_grad):
    """A Tensor of the array that `make` gives for x and a dtype. TypeError if that is none of a Tensor's."""
    return _leaf(wrap(make(x, dtype=None)) if dtype is None else Tensor(make(x, dtype=as_dtype(dtype))), requires_grad)


def _leaf(out, requires_grad):
    """`out`, which may have a gradient to pass on already, told to require one."""
    if requires_grad is not False and not out.requires_grad:
        out.requires_grad = requires_grad
    return out


@operation(numpy=np.zeros_like)
def zeros_like(x: TensorLike, *, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """Zeros of the shape, dtype (or that which is given) and device of `x`."""
    x = as_tensor(x)._array
    return _like(xp(x).zeros_like, x, dtype, requires_grad)


@operation(numpy=np.ones_like)
def ones_like(x: TensorLike, *, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """Ones of the shape, dtype (or that which is given) and device of `x`."""
    x = as_tensor(x)._array
    return _like(xp(x).ones_like, x, dtype, requires_grad)


@operation(numpy=np.full_like)
def full_like(x: TensorLike, fill_value: TensorLike, *, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """Numbers of the shape, dtype (or that which is given) and device of `x`, all `fill_value` or, of an array, broadcast.

    Raises:
        OverflowError, ValueError: the dtype, of whole numbers, does not hold the number, or it is NaN.
    """
    x = as_tensor(x)
    if isinstance(fill_value, (int, float, np.generic, np.ndarray)):
        fill_value = held("full_like", fill_value, x.dtype if dtype is None else as_dtype(dtype))
    elif not isinstance(fill_value, Tensor):
        fill_value = assignable(fill_value)
    if isinstance(fill_value, Tensor):
        filled = primitive.broadcast_to(astype(fill_value, x.dtype if dtype is None else dtype), shape=x.shape)
        return _leaf(copy(filled), requires_grad)
    try:
        return _like(lambda array, dtype: xp(array).full_like(array, fill_value, dtype=dtype), x._array, dtype, requires_grad)
    except ValueError as error:
        raise ValueError(f"full_like: {error}") from None
