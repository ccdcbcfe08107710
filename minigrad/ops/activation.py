"""Activations of modern networks, and what draws at random: dropout and classes."""
from __future__ import annotations

import functools
import math

import numpy as np

from ..backend import is_float, path, random, where as choose, with_paths
from ..fused import Fused, halves_in_float32
from ..primitive import Primitive
from ..tensor import Tensor, TensorLike, as_tensor, flag
from .declare import operation
from .elementwise import _flat_in, abs, clip, erf, expm1, isinf, logaddexp, relu, sigmoid, sign, tanh, where
from .geometry import constant, divisor, one_axis, one_of, real
from .index import one_hot
from .reduce import argmax, softmax
from .shape import moveaxis, split


def _floating(name, x):
    x = as_tensor(x)
    if not is_float(x.dtype):
        raise TypeError(f"{name}: floating point wanted, not {x.dtype}; convert with .astype('float32') first")
    return x


def _relu_far_out(function):
    """Decorator: of an activation that is relu(x), to all digits, where |x| > 1000. There its terms may overflow."""
    @functools.wraps(function)
    def called(x):
        far = abs(x) > 1000
        return where(far, relu(x), function(where(far, 0, x)))

    return called


@_relu_far_out
def _gelu(x):
    return x * (0.5 * (1 + erf(x * math.sqrt(0.5))))


@_relu_far_out
def _gelu_tanh(x):
    return x * (0.5 * (1 + tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))


@_relu_far_out
def _silu(x):
    return x * sigmoid(x)


@_relu_far_out
def _mish(x):
    return x * tanh(softplus(x))


def _leaky_relu(x, negative_slope):
    return where(x > 0, x, negative_slope * x)


def _softplus(x):
    return logaddexp(x, 0)


def _softsign(x):
    infinite = isinf(x)
    finite = where(infinite, 0, x)
    return where(infinite, sign(x), finite / (1 + abs(finite)))


def _limited(x, least, most):
    """x limited to [least, most], at the bounds a constant: `clip`, whose slope there is 1, is asked for the value alone."""
    return where((x <= least) | (x >= most), clip(x.detach(), least, most), x)


def _limited_relu(x, most):
    return _limited(x, 0, most)


def _elu(x, alpha):
    return where(x > 0, x, alpha * expm1(where(x > 0, 0, x)))


def _hardswish(x):
    inside = where(abs(x) >= 3, 0, x)
    return where(x <= -3, 0, where(x >= 3, x, inside * (inside + 3) / 6))


def _prelu(x, weight):
    return where(x > 0, x, weight * where(x > 0, 0, x))


_fused_gelu, _fused_gelu_tanh = Fused("gelu", _gelu), Fused("gelu_tanh", _gelu_tanh)
_fused_silu, _fused_leaky_relu = Fused("silu", _silu), Fused("leaky_relu", _leaky_relu)
_fused_softplus, _fused_softsign = Fused("softplus", _softplus), Fused("softsign", _softsign)
_fused_limited, _fused_limited_relu = Fused("limited", _limited), Fused("limited_relu", _limited_relu)
_fused_elu, _fused_hardswish, _fused_prelu = Fused("elu", _elu), Fused("hardswish", _hardswish), Fused("prelu", _prelu)


@operation
def gelu(x: TensorLike, approximate: str = "none") -> Tensor:
    """x Phi(x), Phi the standard normal distribution function (Hendrycks and Gimpel 2016, arXiv:1606.08415).

    `approximate="tanh"` is 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), as in GPT-2.
    """
    one_of("gelu", "approximate", approximate, ("none", "tanh"))
    return (_fused_gelu if approximate == "none" else _fused_gelu_tanh)(_floating("gelu", x))


@operation
def silu(x: TensorLike) -> Tensor:
    """x sigmoid(x), also called swish (Ramachandran et al. 2017, arXiv:1710.05941)."""
    return _fused_silu(_floating("silu", x))


@operation
def leaky_relu(x: TensorLike, negative_slope: float = 0.01) -> Tensor:
    """x where x > 0, else negative_slope x (Maas et al. 2013)."""
    negative_slope = real("leaky_relu", "negative_slope", negative_slope)
    return _fused_leaky_relu(_floating("leaky_relu", x), negative_slope=negative_slope)


@operation
def softplus(x: TensorLike, beta: float = 1.0) -> Tensor:
    """log(1 + exp(beta x)) / beta, without overflow. ValueError if `beta` is 0."""
    x, beta = _floating("softplus", x), divisor("softplus", "beta", beta)
    return _fused_softplus(x) if type(beta) is float and beta == 1 else _fused_softplus(x * beta) / beta


@operation
def softsign(x: TensorLike) -> Tensor:
    """x / (1 + |x|), which bends to -1 and 1 more slowly than the hyperbolic tangent."""
    return _fused_softsign(_floating("softsign", x))


@operation
def relu6(x: TensorLike) -> Tensor:
    """min(max(x, 0), 6); its slope at 0 and 6 is 0."""
    return _fused_limited_relu(_floating("relu6", x), most=6.0)


@operation
def hardtanh(x: TensorLike, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """`x` limited to [min_val, max_val]; unlike that of `clip` its slope at the bounds is 0. ValueError if max_val < min_val."""
    x, low = _floating("hardtanh", x), real("hardtanh", "min_val", min_val)
    high = real("hardtanh", "max_val", max_val, float(low))
    return _fused_limited(x, least=low, most=high)


@operation
def elu(x: TensorLike, alpha: float = 1.0) -> Tensor:
    """x where x > 0, else alpha (exp(x) - 1) (Clevert et al. 2016, arXiv:1511.07289)."""
    return _fused_elu(_floating("elu", x), alpha=real("elu", "alpha", alpha))


@operation
def selu(x: TensorLike) -> Tensor:
    """1.0507 elu(x, 1.6733), which keeps mean 0 and variance 1 (Klambauer et al. 2017, arXiv:1706.02515)."""
    return 1.0507009873554805 * elu(_floating("selu", x), 1.6732632423543772)


@operation
@halves_in_float32(1)
def celu(x: TensorLike, alpha: float = 1.0) -> Tensor:
    """x where x > 0, else alpha (exp(x / alpha) - 1), with slope 1 at 0 (Barron 2017, arXiv:1704.07483). ValueError if `alpha`
    is 0."""
    x, alpha = _floating("celu", x), divisor("celu", "alpha", alpha)
    return where(x > 0, x, alpha * expm1(where(x > 0, 0, x) / alpha))


@operation
def hardshrink(x: TensorLike, lambd: float = 0.5) -> Tensor:
    """x where |x| > lambd, else 0. ValueError if `lambd` is negative."""
    x, lambd = _floating("hardshrink", x), constant("hardshrink", "lambd", lambd, 0)
    return where(abs(x) <= lambd, 0, x)


@operation
def softshrink(x: TensorLike, lambd: float = 0.5) -> Tensor:
    """x - lambd sign(x) where |x| > lambd, else 0. ValueError if `lambd` is negative."""
    x, lambd = _floating("softshrink", x), real("softshrink", "lambd", lambd, 0)
    return where(abs(x) <= lambd, 0, x - lambd * sign(x))


@operation
def threshold(x: TensorLike, threshold: float, value: float) -> Tensor:
    """x where x > threshold, else value."""
    x, threshold = _floating("threshold", x), constant("threshold", "threshold", threshold)
    value = real("threshold", "value", value)
    return where(x <= threshold, value, x)


@operation
def logsigmoid(x: TensorLike) -> Tensor:
    """log(sigmoid(x)) = -softplus(-x), without overflow."""
    return -softplus(-_floating("logsigmoid", x))


@operation
def hardsigmoid(x: TensorLike) -> Tensor:
    """min(max(x + 3, 0), 6) / 6; its slope at -3 and 3 is 0."""
    return relu6(_floating("hardsigmoid", x) + 3) / 6


@operation
def hardswish(x: TensorLike) -> Tensor:
    """x min(max(x + 3, 0), 6) / 6 (Howard et al. 2019, arXiv:1905.02244)."""
    return _fused_hardswish(_floating("hardswish", x))


@operation
def mish(x: TensorLike) -> Tensor:
    """x tanh(softplus(x)) (Misra 2020, arXiv:1908.08681)."""
    return _mish(_floating("mish", x))


@operation
def glu(x: TensorLike, axis: int = -1) -> Tensor:
    """The first half along an axis times the sigmoid of the second (Dauphin et al. 2017, arXiv:1612.08083).

    Raises:
        ValueError: the axis is of odd length.
    """
    x = _floating("glu", x)
    axis = one_axis("glu", axis, x.ndim)
    if x.shape[axis] % 2:
        raise ValueError(f"glu: an axis of even length wanted, got axis {axis} of shape {x.shape}")
    left, right = split(x, 2, axis)
    return left * sigmoid(right)


@operation
def prelu(x: TensorLike, weight: TensorLike) -> Tensor:
    """x where x > 0, else weight x, the weight learnt (He et al. 2015, arXiv:1502.01852).

    Args:
        weight: of one element, or (C,) for x of shape (N, C, ...).
    """
    x, weight = _floating("prelu", x), as_tensor(weight)
    channels = x.shape[1] if x.ndim > 1 else 1
    if weight.size != 1 and weight.shape != (channels,):
        raise ValueError(f"prelu: one weight, or one for each of {channels} channels wanted, got shape {weight.shape}")
    weight = weight.reshape(()) if weight.size == 1 else weight.reshape((-1,) + (1,) * (x.ndim - 2))
    return _fused_prelu(x, weight)


# -- dropout ---------------------------------------------------------------------------------------------------------


_dropped = Primitive(
    "dropout", with_paths("dropout", lambda x, keep, scale: choose(keep, x * x.dtype.type(scale), x.dtype.type(0))),
    lambda g, _out, _x, keep, scale: _dropped(g, keep=keep, scale=scale))

_dropped_by_seed = Primitive(  # keeps no mask: the kernel draws the same one again in the backward pass
    "dropout", lambda x, p, seed: path("dropout_by_seed", [x]).forward(x, p, seed),
    lambda g, _out, _x, p, seed: _dropped_by_seed(g, p=p, seed=seed))


def _keep_mask(array, shape, p):
    """A bool array of `shape` on the device of `array`, each element false with probability p; and 1 / (1 - p).

    16 random bits decide an element; the scale is that of the probability rounded to 16 bits, so the mean is exact.
    """
    cut = min(round(p * 65536), 65535)
    return random.words(array, shape) >= cut, 65536 / (65536 - cut)


@operation
def dropout(x: TensorLike, p: float = 0.5, training: bool = True) -> Tensor:
    """Each element set to 0 with probability `p`, the others divided by 1 - p (Srivastava et al. 2014).

    The mask is drawn from `minigrad.random`, so `checkpoint` draws it again alike. Not training: `x` itself.
    """
    x, p = _floating("dropout", x), constant("dropout", "p", p, 0, 1)
    if not flag("dropout", "training", training) or p == 0:
        return x
    if p == 1:
        return _flat_in(x, 0)
    if path("dropout_by_seed", [x._array]) is not None:
        return _dropped_by_seed(x, p=p, seed=random.draw())
    keep, scale = _keep_mask(x._array, x.shape, p)
    return _dropped(x, keep=keep, scale=scale)


@operation
def drop_path(x: TensorLike, p: float = 0.0, training: bool = True) -> Tensor:
    """Each sample of a batch (N, ...) set to 0 as a whole with probability `p`, the others divided by 1 - p.

    Stochastic depth (Huang et al. 2016, arXiv:1603.09382), applied to the branch of a residual block.
    """
    return _dropped_as_wholes("drop_path", x, p, training, axes=1)


@operation
def dropout2d(x: TensorLike, p: float = 0.5, training: bool = True) -> Tensor:
    """Each channel of each of the images (N, C, H, W) or sequences (N, C, L) set to 0 as a whole with probability `p`.

    The others are divided by 1 - p (Tompson et al. 2015, arXiv:1411.4280). ValueError if x has other axes.
    """
    if as_tensor(x).ndim not in (3, 4):
        raise ValueError(f"dropout2d: images (N, C, H, W) or sequences (N, C, L) wanted, got shape {as_tensor(x).shape}")
    return _dropped_as_wholes("dropout2d", x, p, training, axes=2)


def _dropped_as_wholes(name, x, p, training, axes):
    """What the first axes of x count, each dropped or kept with all its elements."""
    x, p = _floating(name, x), constant(name, "p", p, 0, 1)
    if not flag(name, "training", training) or p == 0:
        return x
    if p == 1:
        return _flat_in(x, 0)
    keep, scale = _keep_mask(x._array, x.shape[:axes] + (1,) * (x.ndim - axes), p)
    return where(Tensor(keep), x * scale, 0)


# -- a class drawn ---------------------------------------------------------------------------------------------------


def _gumbel(x):
    """Independent numbers of Gumbel's distribution, -log(-log(u)) with u uniform between 0 and 1, in the shape of x."""
    high, low = (random.words(x._array, x.shape).astype(np.float64) for _ in range(2))
    u = (65536 * high + low + 0.5) / 2**32  # neither 0 nor 1
    return Tensor((-np.log(-np.log(u))).astype(x.dtype))


@operation
def gumbel_softmax(logits: TensorLike, tau: float = 1.0, hard: bool = False, axis: int = -1) -> Tensor:
    """softmax((logits + noise) / tau), a draw of a class with a gradient (Jang et al. 2017, arXiv:1611.01144).

    The noise, of Gumbel's distribution, is drawn from `minigrad.random`, so that the largest number stands at class c with
    probability softmax(logits)[c].

    Args:
        logits: unnormalised log-probabilities, the classes along `axis`.
        tau: the temperature, above 0: the smaller, the closer to one-hot.
        hard: the result is one-hot, and its gradient that of the soft one (straight-through).

    Raises:
        TypeError: logits that are not floating point; ValueError: another temperature, or no such axis.
    """
    logits = _floating("gumbel_softmax", logits)
    axis = one_axis("gumbel_softmax", axis, logits.ndim)
    tau = divisor("gumbel_softmax", "tau", real("gumbel_softmax", "tau", tau, 0))
    y = softmax((logits + _gumbel(logits)) / tau, axis)
    if not flag("gumbel_softmax", "hard", hard) or not y.size:
        return y
    chosen = moveaxis(one_hot(argmax(y, axis), y.shape[axis], dtype=y.dtype), -1, axis)
    return chosen + (y - y.detach())
