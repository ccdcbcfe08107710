"""Activations and dropout in one pass over memory; see `elementwise.for_blocks`. Definitions: minigrad/ops/activation.py.

Each activation is a pair of functions of one block: the value, and the slope.
`work(i)` is a temporary of the block's shape.
"""
import math

import numpy as np

from ..erf import erf
from .elementwise import by_kernel, empty_like, for_all, for_blocks, memory_order
from .memory import scratch
from .native import kernel
from .rows import sums

BLOCK_BYTES = 1 << 18  # three temporaries of a block fit the second-level cache

# atanh(erf(x / sqrt(2))) / x as a polynomial in x^2, fitted to |x| < 6 with the weights that make the largest error of
# x Phi(x) smallest: 7e-8, the rounding of float32. It is positive and grows beyond.
_PHI = [np.float32(c) for c in (7.97884493e-01, 3.63339109e-02, -3.29543357e-05, -5.52780820e-05, 3.97313332e-06,
                                -1.33648144e-07, 1.80939229e-09)]
# (d/dx x Phi(x) - 1/2) / x as a quotient of polynomials in x^2, fitted in the same way; the largest error is 1.4e-7.
_SLOPE = [[np.float32(c) for c in cs] for cs in (
    (7.97884531e-01, -3.07431392e-02, 1.42091498e-02, 2.41902052e-05, 3.58504757e-05, 1.90882914e-07),
    (1.0, 2.94806067e-01, 4.10648038e-02, 3.52877018e-03, 1.93521779e-04, 8.88740925e-06))]
_ROOT = math.sqrt(2 / math.pi)  # of the tanh form


def activation(name, *xs, **settings):
    """f(*xs) for `name` in `FUNCTIONS`, or with a kernel that serves; like the first of them in shape, dtype and memory order."""
    if native := kernel(name, *xs):
        return by_kernel(native, xs[0], xs, *settings.values())

    def block(y, *xs):
        with np.errstate(over="ignore"):
            y[...] = FUNCTIONS[name][0](*xs, _workspace(y), **settings)

    y = empty_like(xs[0])
    for_blocks(block, [y], xs, BLOCK_BYTES)
    return y


def activation_backward(name, g, *xs, **settings):
    """The gradient of `activation` in the first of `xs`: g f'."""
    if native := kernel(f"{name}_backward", g, *xs):
        return by_kernel(native, xs[0], [g, *xs], *settings.values())

    def block(dx, g, *xs):
        with np.errstate(over="ignore"):
            np.multiply(FUNCTIONS[name][1](*xs, _workspace(dx), **settings), g, out=dx)

    dx = empty_like(xs[0])
    for_blocks(block, [dx], [g, *xs], BLOCK_BYTES)
    return dx


def prelu(g, x, weight):
    """g where x > 0, else weight g, of float32 numbers: for x itself the value, for its gradient that in x.

    Args:
        g, x: of one shape, x dense.
        weight: one, or one for each element along axis 1.
    """
    y, channels = empty_like(x), weight.size
    order, place = memory_order(x.strides)
    outer = math.prod([x.shape[i] for i in order[:place[1]]]) if channels > 1 else 1
    sizes, native = (outer, channels, x.size // (outer * channels)), kernel("prelu", x)
    for_all(lambda y, x, g: native(g, x, weight.ravel(), y, *sizes), [y], [x, g])
    return y


def prelu_weight_gradient(g, x, weight):
    """The gradient of `prelu` of x in the weight."""
    terms = by_kernel(kernel("prelu_terms"), x, [g, x])
    order, place = memory_order(x.strides)
    axes = tuple(i for i in range(x.ndim) if weight.size == 1 or i != place[1])
    return sums(terms.transpose(order), axes).reshape(weight.shape)


def dropout(x, keep, scale):
    """x * scale where `keep` (bool, of x's shape, C order) is true, else 0; its own gradient when called on `g`."""
    scale = x.dtype.type(scale)
    if native := kernel("dropout", x):
        return by_kernel(native, x, [x, keep.view(np.uint8)], scale)

    def block(y, x, keep):
        np.multiply(x, scale, out=y)
        np.copyto(y, 0, where=~keep)  # not a product: x may be infinite or NaN

    y = empty_like(x)
    for_blocks(block, [y], [x, keep], BLOCK_BYTES)
    return y


def _workspace(x):
    return lambda i: scratch(f"activation {i}", x.shape, x.dtype)


def _phi_twice(x, work):
    """2 Phi(x), Phi the standard normal distribution function, in work(0); x^2 in work(1)."""
    squared = np.multiply(x, x, out=work(1))
    if x.dtype.itemsize >= 8:  # float64, of the other byte order too
        return np.add(erf(x * math.sqrt(0.5)), 1, out=work(0))
    near = np.minimum(squared, np.float32(100), out=work(2))
    a = _polynomial(near, _PHI, work(0))
    a *= x
    np.tanh(a, out=a)
    a += np.float32(1)
    return a


def _gelu(x, work):
    y = _phi_twice(x, work)
    y *= x.dtype.type(0.5)
    y *= _bounded_below(x, work)
    return y


def _bounded_below(x, work):
    """max(x, -1000) in work(1): what a factor of 0 makes 0, infinity too."""
    return np.maximum(x, x.dtype.type(-1e3), out=work(1))


def _bounded(x, out):
    """`x` limited to [-1000, 1000], for the same reason."""
    return np.clip(x, x.dtype.type(-1e3), x.dtype.type(1e3), out=out)


def _gelu_slope(x, work):  # Phi(x) + x phi(x)
    if x.dtype == np.float32:
        near = np.clip(x, np.float32(-6), np.float32(6), out=work(0))
        squared = np.multiply(near, near, out=work(1))
        above, below = (_polynomial(squared, cs, work(i)) for i, cs in zip((2, 3), _SLOPE))
        above /= below
        above *= near
        above += np.float32(0.5)
        return above
    slope, density = _phi_twice(x, work), work(1)
    slope *= x.dtype.type(0.5)
    density *= x.dtype.type(-0.5)
    np.exp(density, out=density)
    density *= _bounded(x, work(2))
    density *= x.dtype.type(1 / math.sqrt(2 * math.pi))
    slope += density
    return slope


def _polynomial(s, coefficients, out):
    """The polynomial in s with these coefficients, lowest first, into `out` (Horner)."""
    np.multiply(s, coefficients[-1], out=out)
    for c in coefficients[-2:0:-1]:
        out += c
        out *= s
    out += coefficients[0]
    return out


def _tanh_part(x, work):
    """tanh(sqrt(2 / pi) (x + 0.044715 x^3)) in work(0); x^2 in work(1)."""
    squared = np.multiply(x, x, out=work(1))
    t = np.multiply(squared, x.dtype.type(0.044715 * _ROOT), out=work(0))
    t += x.dtype.type(_ROOT)
    t *= x
    return np.tanh(t, out=t)


def _gelu_tanh(x, work):
    y = _tanh_part(x, work)
    y += x.dtype.type(1)
    y *= x.dtype.type(0.5)
    y *= _bounded_below(x, work)
    return y


def _gelu_tanh_slope(x, work):  # (1 + t) / 2 + x (1 - t^2) u' / 2 = (1 + t) / 2 (1 + x (1 - t) u')
    one, t, inner = x.dtype.type(1), _tanh_part(x, work), work(1)
    np.minimum(inner, x.dtype.type(1e6), out=inner)  # 1 - t is 0 there, and 0 times infinity must not be
    inner *= x.dtype.type(3 * 0.044715 * _ROOT)
    inner += x.dtype.type(_ROOT)
    inner *= _bounded(x, work(2))
    inner *= np.subtract(one, t, out=work(2))
    inner += one
    t += one
    t *= x.dtype.type(0.5)
    t *= inner
    return t


def _sigmoid(x, work):
    s = np.negative(x, out=work(0))
    with np.errstate(over="ignore", under="ignore"):  # 1 / infinity is the 0 that is wanted
        np.exp(s, out=s)
    s += x.dtype.type(1)
    return np.reciprocal(s, out=s)


def _silu(x, work):
    y = _sigmoid(x, work)
    y *= _bounded_below(x, work)
    return y


def _silu_slope(x, work):  # s (1 + x (1 - s))
    one, s = x.dtype.type(1), _sigmoid(x, work)
    rest = np.subtract(one, s, out=work(1))
    rest *= _bounded(x, work(2))
    rest += one
    s *= rest
    return s


def _leaky_relu(x, work, negative_slope):
    y = np.minimum(x, 0, out=work(0))  # 0 times infinity would be NaN
    y *= x.dtype.type(negative_slope)
    return np.add(y, np.maximum(x, 0, out=work(1)), out=y)


def _leaky_relu_slope(x, work, negative_slope):
    slope = work(0)
    slope[...] = x > 0
    slope *= x.dtype.type(1 - negative_slope)
    slope += x.dtype.type(negative_slope)
    return slope


def _softplus(x, work):  # max(x, 0) + log(1 + exp(-|x|))
    y = np.abs(x, out=work(0))
    np.exp(np.negative(y, out=y), out=y)
    np.log1p(y, out=y)
    y += np.maximum(x, x.dtype.type(0), out=work(1))
    return y


def _softsign(x, work):
    largest = np.finfo(x.dtype).max
    finite = np.clip(x, -largest, largest, out=work(1))
    y = np.abs(finite, out=work(0))
    y += x.dtype.type(1)
    return np.divide(finite, y, out=y)


def _softsign_slope(x, work):  # 1 / (1 + |x|)^2
    y = np.abs(x, out=work(0))
    y += x.dtype.type(1)
    return np.reciprocal(np.multiply(y, y, out=y), out=y)


def _rounded_distance(x, to, work, width):
    y = _rounded_distance_slope(x, to, work, width)
    inner = np.multiply(y, x.dtype.type(-0.5 * width), out=work(1))
    inner += np.subtract(x, to, out=work(2))
    return np.multiply(y, inner, out=y)


def _rounded_distance_slope(x, to, work, width):  # (x - to) / width within [-1, 1]
    y = np.subtract(x, to, out=work(0))
    y /= x.dtype.type(width)
    return np.clip(y, -1, 1, out=y)


FUNCTIONS = {
    "gelu": (_gelu, _gelu_slope), "gelu_tanh": (_gelu_tanh, _gelu_tanh_slope), "silu": (_silu, _silu_slope),
    "leaky_relu": (_leaky_relu, _leaky_relu_slope), "softplus": (_softplus, _sigmoid),
    "softsign": (_softsign, _softsign_slope), "rounded_distance": (_rounded_distance, _rounded_distance_slope)}
