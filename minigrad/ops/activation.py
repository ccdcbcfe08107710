"""Activations of modern networks, and dropout."""
import math

from ..backend import is_float, path, random, where as choose
from ..fused import Fused
from ..tensor import Primitive, Tensor
from .elementwise import erf, logaddexp, sigmoid, tanh, where


def _fused(name, definition):
    """The definition, with the block-wise path of `backend.cpu.activation` on the CPU."""
    def forward(x, **settings):
        from ..backend.cpu.activation import activation
        return activation(name, x, **settings), None

    def backward(g, out, residuals, wanted, x, **settings):
        from ..backend.cpu.activation import activation_backward
        return [activation_backward(name, g, x, **settings)]

    return Fused(name, definition, forward, backward)


def _floating(name, x):
    x = x if isinstance(x, Tensor) else Tensor(x)
    if not is_float(x.dtype):
        raise TypeError(f"{name}: floating point wanted, not {x.dtype}; convert with .astype('float32') first")
    return x


def _gelu(x):
    return 0.5 * x * (1 + erf(x * math.sqrt(0.5)))


def _gelu_tanh(x):
    return 0.5 * x * (1 + tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _silu(x):
    return x * sigmoid(x)


def _leaky_relu(x, negative_slope):
    return where(x > 0, x, negative_slope * x)


def _softplus(x):
    return logaddexp(x, 0)


_fused_gelu, _fused_gelu_tanh = _fused("gelu", _gelu), _fused("gelu_tanh", _gelu_tanh)
_fused_silu, _fused_leaky_relu = _fused("silu", _silu), _fused("leaky_relu", _leaky_relu)
_fused_softplus = _fused("softplus", _softplus)


def gelu(x, approximate="none"):
    """x Phi(x), Phi the standard normal distribution function (Hendrycks and Gimpel 2016, arXiv:1606.08415).

    `approximate="tanh"` is 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), as in GPT-2.
    """
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate is 'none' or 'tanh', not {approximate!r}")
    return (_fused_gelu if approximate == "none" else _fused_gelu_tanh)(_floating("gelu", x))


def silu(x):
    """x sigmoid(x), also called swish (Ramachandran et al. 2017, arXiv:1710.05941)."""
    return _fused_silu(_floating("silu", x))


def leaky_relu(x, negative_slope=0.01):
    """x where x > 0, else negative_slope x (Maas et al. 2013)."""
    return _fused_leaky_relu(_floating("leaky_relu", x), negative_slope=negative_slope)


def softplus(x, beta=1.0):
    """log(1 + exp(beta x)) / beta, without overflow."""
    x = _floating("softplus", x)
    return _fused_softplus(x) if beta == 1 else _fused_softplus(x * beta) / beta


# -- dropout ---------------------------------------------------------------------------------------------------------


def _drop(x, keep, scale):
    if path(x) == "cpu":
        from ..backend.cpu.activation import dropout
        return dropout(x, keep, scale)
    return choose(keep, x * x.dtype.type(scale), x.dtype.type(0))


_dropped = Primitive("dropout", _drop, lambda g, _out, _x, keep, scale: _dropped(g, keep=keep, scale=scale))


def _drop_by_seed(x, p, seed):
    from ..backend import cuda
    return cuda.dropout(x, p, seed)


_dropped_by_seed = Primitive(  # keeps no mask: the kernel draws the same one again in the backward pass
    "dropout", _drop_by_seed, lambda g, _out, _x, p, seed: _dropped_by_seed(g, p=p, seed=seed))


def _keep_mask(array, shape, p):
    """A bool array of `shape` on the device of `array`, each element false with probability p; and 1 / (1 - p).

    16 random bits decide an element; the scale is that of the probability rounded to 16 bits, so the mean is exact.
    """
    cut = min(round(p * 65536), 65535)
    if path(array) == "cpu":
        n = math.prod(shape)
        words = random.generator().bit_generator.random_raw(-(-n // 4)).astype("<u8", copy=False).view("<u2")
        keep = (words[:n] >= cut).reshape(shape)
    else:  # the host draws one number, from which a counter-based generator on the GPU draws the mask
        from ..backend import cuda
        words = cuda.philox_words(math.prod(shape), random.draw())
        keep = (words >= cut * 65536.0).reshape(shape)
    return keep, 65536 / (65536 - cut)


def _check_probability(name, p):
    if not 0 <= p <= 1:
        raise ValueError(f"{name}: the probability p must lie between 0 and 1, not {p}")


def dropout(x, p=0.5, training=True):
    """Each element set to 0 with probability `p`, the others divided by 1 - p (Srivastava et al. 2014).

    The mask is drawn from `minigrad.random`, so `checkpoint` draws it again alike. Not training: `x` itself.
    """
    _check_probability("dropout", p)
    x = _floating("dropout", x)
    if not training or p == 0:
        return x
    if p == 1:
        return x * 0
    if path(x._array) == "cuda":
        return _dropped_by_seed(x, p=p, seed=random.draw())
    keep, scale = _keep_mask(x._array, x.shape, p)
    return _dropped(x, keep=keep, scale=scale)


def drop_path(x, p=0.0, training=True):
    """Each sample of a batch (N, ...) set to 0 as a whole with probability `p`, the others divided by 1 - p.

    Stochastic depth (Huang et al. 2016, arXiv:1603.09382), applied to the branch of a residual block.
    """
    _check_probability("drop_path", p)
    x = _floating("drop_path", x)
    if not training or p == 0:
        return x
    if p == 1:
        return x * 0
    keep, scale = _keep_mask(x._array, x.shape[:1] + (1,) * (x.ndim - 1), p)
    return x * Tensor((keep * scale).astype(x.dtype))

