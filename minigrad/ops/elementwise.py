"""Operations that act on each element by itself, with broadcasting.

NumPy's ufuncs hand CuPy arrays to CuPy, so one ufunc serves both. Where a function has no derivative, the rule selects
a subgradient with `where` and never multiplies by a mask, so that an infinity in the branch not taken cannot turn into
NaN: abs'(0) = relu'(0) = 0, sqrt'(0) = 0, and ties of maximum and minimum are split evenly.
"""
import functools
import math

import numpy as np

from ..backend import as_dtype, in_float32, is_float, where as choose, xp
from ..backend.erf import erf as array_erf
from ..tensor import add, asarray, cast, Primitive, Tensor, wrap

elementwise = functools.partial(Primitive, broadcasts=True)


def nondifferentiable(name, function):
    """An operation on arrays, made one on Tensors that never gets a gradient."""
    def operation(*inputs, **settings):
        try:
            out = function(*[asarray(x) for x in inputs], **settings)
        except ValueError as error:  # of AxisError too
            shapes = ", ".join(str(getattr(x, "shape", x)) for x in inputs)
            raise ValueError(f"{name}: {error} (inputs of shape {shapes})") from error
        return wrap(out if hasattr(out, "shape") and not np.isscalar(out) else np.asarray(out))

    operation.__name__ = operation.__qualname__ = name
    operation.__doc__ = f"As `numpy.{name}`; the result carries no gradient."
    return operation


# -- arithmetic ------------------------------------------------------------------------------------------------------

subtract = elementwise("subtract", np.subtract, lambda g, _out, _x, _y: g, lambda g, _out, _x, _y: -g)
multiply = elementwise("multiply", np.multiply, lambda g, _out, _x, y: g * y, lambda g, _out, x, _y: g * x)
divide = elementwise("divide", np.divide, lambda g, _out, _x, y: g / y, lambda g, out, _x, y: -g * out / y)
negative = elementwise("negative", np.negative, lambda g, _out, _x: -g)
reciprocal = elementwise("reciprocal", np.reciprocal, lambda g, out, _x: -g * out * out)
square = elementwise("square", np.square, lambda g, _out, x: g * (2 * x))


def _power_slope(x, y):
    """y x^(y-1), with 0 where it is a limit of 0 times infinity (y = 0) and at the corner of a root (x = 0 < y < 1)."""
    at_zero = equal(x, 0)
    flat = equal(y, 0) | (at_zero & greater(y, 0) & less(y, 1))
    return where(flat, 0, y * _power(where(flat & at_zero, 1, x), where(flat, 1, y - 1)))


def _log_or_zero(x):
    return log(where(equal(x, 0), 1, x))


_power = elementwise(
    "power", np.power,
    lambda g, _out, x, y: g * _power_slope(x, y),
    lambda g, out, x, _y: g * out * _log_or_zero(x))


def power(x, y):
    """x to the power of y, element by element; a square as `square`, whose gradient is shorter."""
    is_square = type(y) in (int, float) and y == 2 and isinstance(x, Tensor) and is_float(x.dtype)
    return square(x) if is_square else _power(x, y)


remainder = elementwise("remainder", np.remainder, lambda g, _out, _x, _y: g, lambda g, _out, x, y: -g * floor_divide(x, y))
floor_divide = nondifferentiable("floor_divide", np.floor_divide)

# -- exponentials and logarithms -------------------------------------------------------------------------------------

exp = elementwise("exp", np.exp, lambda g, out, _x: g * out)
exp2 = elementwise("exp2", np.exp2, lambda g, out, _x: g * out * math.log(2))
expm1 = elementwise("expm1", np.expm1, lambda g, out, _x: g * (out + 1))
log = elementwise("log", np.log, lambda g, _out, x: g / x)
log2 = elementwise("log2", np.log2, lambda g, _out, x: g / (x * math.log(2)))
log10 = elementwise("log10", np.log10, lambda g, _out, x: g / (x * math.log(10)))
log1p = elementwise("log1p", np.log1p, lambda g, _out, x: g / (x + 1))
sqrt = elementwise("sqrt", np.sqrt, lambda g, out, _x: g * where(equal(out, 0), 0, 0.5 / where(equal(out, 0), 1, out)))


def _share(x, out):
    """exp(x - out), the share of x in out = log(exp(x) + ...), also where out is infinite."""
    infinite = isinf(out)
    return where(infinite, cast(equal(x, math.inf), dtype=x.dtype), exp(where(infinite, 0, x) - where(infinite, 0, out)))


logaddexp = elementwise(
    "logaddexp", np.logaddexp,
    lambda g, out, x, _y: g * _share(x, out),
    lambda g, out, _x, y: g * _share(y, out))

# -- trigonometry and sigmoids ---------------------------------------------------------------------------------------

sin = elementwise("sin", np.sin, lambda g, _out, x: g * cos(x))
cos = elementwise("cos", np.cos, lambda g, _out, x: -g * sin(x))
tan = elementwise("tan", np.tan, lambda g, out, _x: g * (1 + out * out))
arcsin = elementwise("arcsin", np.arcsin, lambda g, _out, x: g / sqrt(1 - x * x))
arccos = elementwise("arccos", np.arccos, lambda g, _out, x: -g / sqrt(1 - x * x))
arctan = elementwise("arctan", np.arctan, lambda g, _out, x: g / (1 + x * x))
arctan2 = elementwise(
    "arctan2", np.arctan2,
    lambda g, _out, y, x: g * x / (x * x + y * y),
    lambda g, _out, y, x: -g * y / (x * x + y * y))
sinh = elementwise("sinh", np.sinh, lambda g, _out, x: g * cosh(x))
cosh = elementwise("cosh", np.cosh, lambda g, _out, x: g * sinh(x))
tanh = elementwise("tanh", np.tanh, lambda g, out, _x: g * (1 - out * out))


def _sigmoid(x):
    """1 / (1 + exp(-x)), spelled so that nothing overflows."""
    out = np.tanh(x * x.dtype.type(0.5) if is_float(x.dtype) else x * 0.5)
    return (out + out.dtype.type(1)) * out.dtype.type(0.5)


sigmoid = elementwise("sigmoid", _sigmoid, lambda g, out, _x: g * out * (1 - out))
erf = elementwise("erf", array_erf, lambda g, _out, x: g * (2 / math.sqrt(math.pi)) * exp(-x * x))
erf.__doc__ = "The error function, 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x."

# -- corners and selections ------------------------------------------------------------------------------------------

sign = elementwise("sign", np.sign, lambda g, _out, _x: zeros_like(g))
floor = elementwise("floor", np.floor, lambda g, _out, _x: zeros_like(g))
ceil = elementwise("ceil", np.ceil, lambda g, _out, _x: zeros_like(g))
round = elementwise("round", lambda x: np.rint(x), lambda g, _out, _x: zeros_like(g))
abs = elementwise("abs", np.abs, lambda g, _out, x: g * sign(x))

_where = elementwise(
    "where", choose,
    None,
    lambda g, _out, c, _x, _y: _where(c, g, 0),
    lambda g, _out, c, _x, _y: _where(c, 0, g))


def where(condition, x, y):
    """`x` where `condition` is true, else `y`, as `numpy.where(condition, x, y)`.

    An infinite slope in the branch not taken still makes NaN in *its* gradient (0 times infinity); make that branch's input
    harmless first: `where(x > 0, log(where(x > 0, x, 1)), 0)`.
    """
    like = next((v for v in (x, y) if isinstance(v, Tensor)), None)
    if isinstance(condition, np.ndarray) and like is not None:  # a mask of the host, as labels and indices may be
        condition = xp(like._array).asarray(condition)
    if getattr(condition, "dtype", None) != bool:  # the condition's own type must not decide that of the numbers
        condition = not_equal(condition, 0)
    return _where(condition, x, y)


def _to_larger(g, x, y):
    return where(greater(x, y), g, where(equal(x, y), 0.5 * g, 0))


maximum = elementwise(
    "maximum", np.maximum,
    lambda g, _out, x, y: _to_larger(g, x, y),
    lambda g, _out, x, y: _to_larger(g, y, x))
minimum = elementwise(
    "minimum", np.minimum,
    lambda g, _out, x, y: _to_larger(g, y, x),
    lambda g, _out, x, y: _to_larger(g, x, y))


def _relu(x):
    if x.size < 4096 or xp(x) is not np:
        return np.maximum(x, x.dtype.type(0))
    from ..backend.cpu.elementwise import relu
    return relu(x)


def _relu_slope(g, out):
    if g.size < 4096 or xp(g) is not np:
        return choose(out > 0, g, g.dtype.type(0))
    from ..backend.cpu.elementwise import relu_backward
    return relu_backward(g, out)


_relu_grad = Primitive("relu_grad", _relu_slope, lambda h, _out, _g, out: _relu_grad(h, out), None)
relu = elementwise("relu", _relu, lambda g, out, _x: _relu_grad(g, out))
relu.__doc__ = "max(x, 0); its slope at 0 is 0."


@in_float32  # NumPy does not limit bfloat16
def _limited(x, low, high):
    if is_float(x.dtype):  # or else NumPy 1 makes float64 of a 0-d array
        low, high = (bound if bound is None else x.dtype.type(bound) for bound in (low, high))
    return xp(x).clip(x, low, high)


_clip = elementwise(
    "clip", _limited,
    lambda g, _out, x, low, high: where((low is None or x >= low) & (high is None or x <= high), g, 0))


def clip(x, a_min=None, a_max=None):
    """`x` limited to [a_min, a_max], as `numpy.clip`. Inside and at the bounds the slope is 1.

    Bounds are numbers; bounds that are Tensors or arrays broadcast, get gradients, and share them evenly at ties.
    """
    if all(bound is None or np.isscalar(bound) for bound in (a_min, a_max)):
        low, high = (bound.item() if isinstance(bound, np.generic) else bound for bound in (a_min, a_max))
        return _clip(x, low=low, high=high) if (a_min, a_max) != (None, None) else add(x, 0)
    x = x if a_min is None else maximum(x, a_min)
    return x if a_max is None else minimum(x, a_max)


# -- tests of the elements -------------------------------------------------------------------------------------------

equal = nondifferentiable("equal", np.equal)
not_equal = nondifferentiable("not_equal", np.not_equal)
less = nondifferentiable("less", np.less)
less_equal = nondifferentiable("less_equal", np.less_equal)
greater = nondifferentiable("greater", np.greater)
greater_equal = nondifferentiable("greater_equal", np.greater_equal)
isnan = nondifferentiable("isnan", np.isnan)
isinf = nondifferentiable("isinf", np.isinf)
isfinite = nondifferentiable("isfinite", np.isfinite)
logical_and = nondifferentiable("logical_and", np.logical_and)
logical_or = nondifferentiable("logical_or", np.logical_or)
logical_xor = nondifferentiable("logical_xor", np.logical_xor)
logical_not = nondifferentiable("logical_not", np.logical_not)
bitwise_and = nondifferentiable("bitwise_and", np.bitwise_and)
bitwise_or = nondifferentiable("bitwise_or", np.bitwise_or)
bitwise_xor = nondifferentiable("bitwise_xor", np.bitwise_xor)
invert = nondifferentiable("invert", np.invert)

# -- conversions -----------------------------------------------------------------------------------------------------


def astype(x, dtype):
    """`x` in another dtype. Gradients flow between floating point dtypes and end at an integer or bool one."""
    dtype = as_dtype(dtype)
    x = x if isinstance(x, Tensor) else Tensor(x)
    if is_float(dtype):
        return cast(x, dtype=dtype)
    return Tensor(x._array.astype(dtype, copy=False))


def stop_gradient(x):
    """The same values, constant to differentiation."""
    return x.detach() if isinstance(x, Tensor) else Tensor(x)


def zeros_like(x):
    """Zeros of the shape, dtype and device of `x`."""
    return wrap(xp(x._array).zeros_like(x._array))


def ones_like(x):
    """Ones of the shape, dtype and device of `x`."""
    return wrap(xp(x._array).ones_like(x._array))
