"""How parameters start. Names and arguments are PyTorch's; the numbers are drawn from `minigrad.random`.

Each function writes into a leaf Tensor in place, whatever is recorded at the time, and returns it:

    layer.weight = ...; init.kaiming_normal_(layer.weight, nonlinearity="relu")
"""
import math

import numpy as np

from .. import backend
from ..backend import random
from ..ops import geometry
from ..ops.missing import missing_from as _missing_from
from ..recording import no_grad
from ..tensor import Tensor

__getattr__ = _missing_from(__name__)
_GAINS = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 0.75}
_GAINS.update({f"conv{transposed}{axes}d": 1.0 for transposed in ("", "_transpose") for axes in (1, 2, 3)})


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """By how much a layer's weights must be larger so that this activation leaves the variance as it is.

    Args:
        nonlinearity: "linear", "conv1d" and the like (1), "sigmoid" (1), "tanh" (5/3), "relu" (sqrt 2), "leaky_relu", "selu".
        param: the slope of "leaky_relu" for negative numbers, 0.01 if None.
    """
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + (0.01 if param is None else geometry.constant("calculate_gain", "param", param)) ** 2))
    return _GAINS[geometry.one_of("calculate_gain", "nonlinearity", nonlinearity, (*_GAINS, "leaky_relu"))]


def fan_in_and_fan_out(tensor: Tensor) -> tuple[int, int]:
    """How many inputs an output of this weight (out, in, ...) has, and how many outputs an input."""
    return _fans("fan_in_and_fan_out", tensor)


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """Uniform in [a, b)."""
    _check("uniform_", tensor)
    a = geometry.constant("uniform_", "a", a)
    b = geometry.constant("uniform_", "b", b, a)
    return _filled(tensor, random.generator().uniform(a, b, tensor.shape))


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Normally distributed."""
    _check("normal_", tensor)
    mean, std = geometry.constant("normal_", "mean", mean), geometry.constant("normal_", "std", std, 0)
    return _filled(tensor, _normal(tensor.shape, tensor.dtype, mean, std))


def trunc_normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0) -> Tensor:
    """Normally distributed, numbers outside of [a, b] drawn again. `std` 0 gives the mean.

    Raises:
        ValueError: [a, b] holds less than 1 % of the distribution.
    """
    _check("trunc_normal_", tensor)
    mean, std = geometry.constant("trunc_normal_", "mean", mean), geometry.constant("trunc_normal_", "std", std, 0)
    a, b = (limit if isinstance(limit, float) and math.isinf(limit) else geometry.constant("trunc_normal_", name, limit)
            for name, limit in (("a", a), ("b", b)))
    if std:
        low, high = (math.erf((limit - mean) / (std * math.sqrt(2))) / 2 for limit in (a, b))
    else:
        low, high = float(mean < a), float(mean <= b)
    if not high - low >= 0.01:
        raise ValueError(f"trunc_normal_: less than 1 % of a normal distribution of mean {mean} and std {std} lies in "
                         f"[{a}, {b}]")
    values = _normal(tensor.shape, tensor.dtype, mean, std)
    a, b = values.dtype.type(a), values.dtype.type(b)  # rounded as the mean is
    while (outside := (values < a) | (values > b)).any():
        values[outside] = _normal(int(outside.sum()), tensor.dtype, mean, std)
    return _filled(tensor, values)


def constant_(tensor: Tensor, val: float) -> Tensor:
    """All equal to `val`."""
    _check("constant_", tensor)
    return _filled(tensor, val)


def zeros_(tensor: Tensor) -> Tensor:
    """All 0."""
    _check("zeros_", tensor)
    return _filled(tensor, 0)


def ones_(tensor: Tensor) -> Tensor:
    """All 1."""
    _check("ones_", tensor)
    return _filled(tensor, 1)


def eye_(tensor: Tensor) -> Tensor:
    """1 on the diagonal of a matrix and 0 elsewhere."""
    _check("eye_", tensor)
    if tensor.ndim != 2:
        raise ValueError(f"eye_: a Tensor of two axes wanted, got shape {tensor.shape}")
    return _filled(tensor, np.eye(*tensor.shape))


def xavier_uniform_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Uniform in +-gain sqrt(6 / (fan in + fan out)) (Glorot and Bengio 2010)."""
    gain = geometry.constant("xavier_uniform_", "gain", gain, 0)
    bound = gain * math.sqrt(6 / max(sum(_fans("xavier_uniform_", tensor)), 1))
    return uniform_(tensor, -bound, bound)


def xavier_normal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Normally distributed with standard deviation gain sqrt(2 / (fan in + fan out)) (Glorot and Bengio 2010)."""
    gain = geometry.constant("xavier_normal_", "gain", gain, 0)
    return normal_(tensor, 0.0, gain * math.sqrt(2 / max(sum(_fans("xavier_normal_", tensor)), 1)))


def kaiming_uniform_(tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """Uniform in +-gain sqrt(3 / fan) (He et al. 2015, arXiv:1502.01852).

    Args:
        a: the slope for negative numbers, of "leaky_relu".
        mode: "fan_in" keeps the variance of the activations, "fan_out" that of the gradients.
        nonlinearity: see `calculate_gain`.
    """
    bound = math.sqrt(3) * _kaiming("kaiming_uniform_", tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound)


def kaiming_normal_(tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """Normally distributed with standard deviation gain / sqrt(fan). Arguments as of `kaiming_uniform_`."""
    return normal_(tensor, 0.0, _kaiming("kaiming_normal_", tensor, a, mode, nonlinearity))


def orthogonal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """`gain` times a matrix (the first axis by all others) whose rows, or columns, are orthonormal (Saxe et al. 2014)."""
    _check("orthogonal_", tensor)
    if tensor.ndim < 2:
        raise ValueError(f"orthogonal_: a Tensor of two or more axes wanted, got shape {tensor.shape}")
    gain = geometry.constant("orthogonal_", "gain", gain)
    rows, columns = tensor.shape[0], math.prod(tensor.shape[1:])
    q, r = np.linalg.qr(_normal((max(rows, columns), min(rows, columns)), np.dtype(np.float64), 0.0, 1.0))
    q *= np.where(np.diagonal(r) < 0, -1, 1)  # QR alone prefers some directions (Mezzadri 2007, arXiv:math-ph/0609050)
    return _filled(tensor, gain * (q if rows >= columns else q.T).reshape(tensor.shape))


def _kaiming(name, tensor, a, mode, nonlinearity):
    geometry.one_of(name, "mode", mode, ("fan_in", "fan_out"))
    fan = _fans(name, tensor)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(max(fan, 1))


def _fans(name, tensor):
    """See `fan_in_and_fan_out`."""
    _check(name, tensor)
    if tensor.ndim < 2:
        raise ValueError(f"{name}: a weight of two or more axes, (out, in, ...), has fan in and fan out, not one of shape "
                         f"{tensor.shape}")
    window = math.prod(tensor.shape[2:])
    return tensor.shape[1] * window, tensor.shape[0] * window


def _check(name, tensor):
    if not isinstance(tensor, Tensor) or not backend.is_float(tensor.dtype):
        what = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
        raise TypeError(f"{name}: a floating point Tensor wanted, not {what}")


def _normal(shape, dtype, mean, std):
    """Drawn in double precision only where the result is."""
    values = np.asarray(random.generator().standard_normal(shape, np.float64 if dtype.itemsize >= 8 else np.float32))
    values *= std
    values += mean
    return values


def _filled(tensor, values):
    with no_grad():
        tensor[...] = values
    return tensor
