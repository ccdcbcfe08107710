"""Normalisation by statistics of the batch (batch norm), of each sample (layer, group and RMS norm), or by length."""
from __future__ import annotations

import math

import numpy as np

from ..backend import is_float, is_half, path, result_type, xp
from ..fused import Fused, halves_in_float32
from ..recording import state
from ..tensor import Tensor, TensorLike, as_tensor, asarray, flag
from ..versions import check_writable
from .activation import _floating
from .declare import operation
from .elementwise import _as_float, maximum, relu, sqrt, square, where
from .geometry import Axes, constant, real, several_axes, whole
from .pool import max_pool2d
from .reduce import mean, sum
from .shape import broadcast_to, concatenate, split

# -- over the batch --------------------------------------------------------------------------------------------------


def _column(v, x):
    """A number for each channel, (C,), in the shape in which it broadcasts to x, (N, C, ...)."""
    return v.reshape((1, -1) + (1,) * (x.ndim - 2))


def _others(x):
    """All axes of x, (N, C, ...), but the channels'."""
    return 0, *range(2, x.ndim)


def _batch_norm(x, weight, bias, eps):
    """y = weight (x - mean) / sqrt(var + eps) + bias, statistics over all axes but the channels'; and mean and var, (C,)."""
    axes = _others(x)
    mu = mean(x, axes, keepdims=True)
    centred = x - mu
    var = mean(square(centred), axes, keepdims=True)
    y = centred / sqrt(var + eps) * _column(weight, x) + _column(bias, x)
    return y, mu.reshape(-1), var.reshape(-1)


def _norm_rule(g, wanted, x, weight, bias, eps):
    """dx by `_norm_gradient`, dweight = sum(g xhat), dbias = sum(g)."""
    axes = _others(x)
    return (_fused_norm_gradient(g, x, weight, eps=eps) if wanted[0] else None,
            sum(g * _standardised(x, eps)[0], axes) if wanted[1] else None,
            sum(g, axes) if wanted[2] else None)


def _norm_gradient(g, x, weight, eps):
    """dx = weight / sqrt(var + eps) (g - mean(g) - xhat mean(g xhat)), means over all axes but the channels'.

    Why: let h = weight g be the gradient in xhat = (x - mean) / s, s = sqrt(var + eps). x acts on xhat directly, by h / s;
    through the mean, which every xhat contains with the factor -1/s, so each x gets -mean(h) / s; and through s, where
    ds/dx = xhat / n and dxhat/ds = -xhat / s, so each x gets -xhat mean(h xhat) / s. The sum is h without its part along the
    ones and along xhat, which the normalisation takes away. Layer norm is the same along the last axis.
    """
    axes = _others(x)
    xhat, inv_std = _standardised(x, eps)
    projected = g - (xhat * mean(g * xhat, axes, keepdims=True) + mean(g, axes, keepdims=True))
    return _column(weight, x) * inv_std * projected


def _standardised(x, eps):
    """xhat = (x - mean) / sqrt(var + eps) and 1 / sqrt(var + eps)."""
    axes = _others(x)
    centred = x - mean(x, axes, keepdims=True)
    inv_std = 1 / sqrt(mean(square(centred), axes, keepdims=True) + eps)
    return centred * inv_std, inv_std


def _norm_relu_pool(x, weight, bias, eps):
    """max_pool2d(relu(batch_norm(x)), 2), and the batch's mean and variance."""
    y, mu, var = _batch_norm(x, weight, bias, eps)
    return max_pool2d(relu(y), 2), mu, var


_fused_norm = Fused("batch_norm", _batch_norm, rule=_norm_rule)
_fused_norm_gradient = Fused("batch_norm_gradient", _norm_gradient)
_fused_block = Fused("norm_relu_pool", _norm_relu_pool)


@operation
def batch_norm(x: TensorLike, running_mean: np.ndarray | None, running_var: np.ndarray | None,
               weight: TensorLike | None = None, bias: TensorLike | None = None, training: bool = False,
               momentum: float = 0.1, eps: float = 1e-5, splits: int = 1) -> Tensor:
    """Batch normalisation of (N, C), (N, C, L) or (N, C, H, W) (Ioffe and Szegedy 2015, arXiv:1502.03167).

    In training the statistics are the batch's, and the running ones (arrays (C,), changed in place; None for none) move
    towards them by `momentum`, the variance in its unbiased form. In evaluation the running ones are used.

    Args:
        weight, bias: (C,), or None for ones and zeros.
        splits: in training, normalise each of so many equal parts of the batch by its own statistics ("ghost" batch
            norm, Hoffer et al. 2017, arXiv:1705.08741); the running ones see each part in turn.

    Raises:
        ValueError: training on one value per channel, whose variance says nothing; a batch that does not divide into
            `splits`; or no running statistics to use.
    """
    x = _as_float(x)
    if x.ndim < 2:
        raise ValueError(f"batch_norm: (N, C, ...) wanted, got shape {x.shape}")
    momentum, eps = constant("batch_norm", "momentum", momentum, 0, 1), real("batch_norm", "eps", eps, 0)
    splits, training = whole("batch_norm", "splits", splits, 1), flag("batch_norm", "training", training)
    if x.ndim == 3:
        settings = training, momentum, eps, splits
        return batch_norm(x.expand_dims(3), running_mean, running_var, weight, bias, *settings).squeeze(3)
    weight, bias = _affine("batch_norm", x, weight, bias)
    _check_running("batch_norm", x.shape[1], training, running_mean=running_mean, running_var=running_var)
    if not training:
        return _evaluated("batch_norm", x, running_mean, running_var, weight, bias, eps)
    if splits > 1:
        if len(x) % splits:
            raise ValueError(f"batch_norm: a batch of {len(x)} does not divide into {splits} equal parts")
        return concatenate([batch_norm(part, running_mean, running_var, weight, bias, True, momentum, eps)
                            for part in split(x, splits)])
    _check_count("batch_norm", x)
    y, mu, var = _fused_norm(x, weight, bias, eps=eps)
    _move_running(running_mean, running_var, mu, var, momentum, x)
    return y


@operation
def norm_relu_pool(x: TensorLike, running_mean: np.ndarray | None, running_var: np.ndarray | None,
                   weight: TensorLike | None, bias: TensorLike | None, training: bool = False, momentum: float = 0.1,
                   eps: float = 1e-5) -> Tensor:
    """max_pool2d(relu(batch_norm(x, ...)), 2) of (N, C, H, W), in training in one pass over x."""
    x = _as_float(x)
    if x.ndim != 4 or min(x.shape[2:]) < 2:
        raise ValueError(f"norm_relu_pool: images (N, C, H, W) of two rows and columns or more wanted, got shape {x.shape}")
    momentum = constant("norm_relu_pool", "momentum", momentum, 0, 1)
    eps = real("norm_relu_pool", "eps", eps, 0)
    (weight, bias), training = _affine("norm_relu_pool", x, weight, bias), flag("norm_relu_pool", "training", training)
    _check_running("norm_relu_pool", x.shape[1], training, running_mean=running_mean, running_var=running_var)
    if not training:
        return max_pool2d(relu(_evaluated("norm_relu_pool", x, running_mean, running_var, weight, bias, eps)), 2)
    _check_count("norm_relu_pool", x)
    y, mu, var = _fused_block(x, weight, bias, eps=eps)
    _move_running(running_mean, running_var, mu, var, momentum, x)
    return y


def _affine(name, x, weight, bias):
    channels = x.shape[1]
    module = xp(x._array)
    weight = module.ones(channels, x.dtype) if weight is None else weight
    bias = module.zeros(channels, x.dtype) if bias is None else bias
    affine = list(map(_as_float, (weight, bias)))
    _check_channels(name, channels, weight=affine[0], bias=affine[1])
    return affine


def _check_channels(name, channels, **given):
    """ValueError if one of the Tensors or arrays, by name, has not one number a channel."""
    for argument, a in given.items():
        if a is not None and not hasattr(a, "shape"):
            raise TypeError(f"{name}: {argument} is an array or None, not {type(a).__name__}")
        if a is not None and tuple(a.shape) != (channels,):
            raise ValueError(f"{name}: {argument} of shape ({channels},) wanted for {channels} channels, got {tuple(a.shape)}")


def _check_running(name, channels, training, **statistics):
    """As `_check_channels`; both or none, and in training such as can be changed in place."""
    _check_channels(name, channels, **statistics)
    if len({a is None for a in statistics.values()}) > 1:
        raise ValueError(f"{name}: running_mean and running_var are given together or not at all")
    for argument, a in statistics.items():
        if training and a is not None and (not is_float(a.dtype) or getattr(a, "requires_grad", False)):
            raise TypeError(f"{name}: {argument} is changed in place: a floating point array wanted, not "
                            f"{'a Tensor with a gradient' if is_float(a.dtype) else a.dtype}")
        if training and a is not None:
            check_writable(f"{name}: {argument}", asarray(a))


def _check_count(name, x):
    if (count := math.prod(x.shape[:1] + x.shape[2:])) < 2:
        raise ValueError(f"{name}: training needs more than one value per channel, got {count} for each of {x.shape[1]}")


def _move_running(running_mean, running_var, mu, var, momentum, x):
    """The running statistics (arrays, or None) move towards the batch's, the variance in its unbiased form."""
    if running_mean is not None and momentum and not state.recomputing:  # 0 times an infinite statistic is not a number
        n = x.size // max(x.shape[1], 1)
        unbiased = n / max(n - 1, 1)
        if found := path("move_running", (running_mean, running_var, mu._array, var._array)):
            found.forward(running_mean, running_var, mu._array, var._array, momentum, unbiased)
            return
        running_mean[...] += momentum * (mu._array - running_mean)
        running_var[...] += momentum * (var._array * unbiased - running_var)


def _evaluated(name, x, running_mean, running_var, weight, bias, eps):
    if running_mean is None:
        raise ValueError(f"{name}: evaluation needs running statistics")
    eps = eps.astype(running_var.dtype) if isinstance(eps, Tensor) else running_var.dtype.type(eps)
    scale = weight / (as_tensor(running_var) + eps) ** 0.5
    y = x * _column(scale, x) + _column(bias - scale * running_mean, x)
    half = x.dtype == weight.dtype == bias.dtype and is_half(x.dtype)
    return y.astype(x.dtype) if half else y  # though the statistics are float32


# -- over each sample ------------------------------------------------------------------------------------------------


def _layer_norm(x, *affine, eps):
    """(x - mean) / sqrt(var + eps) along the last axis, times weight, plus bias, as far as these are given.

    The gradient in x is batch norm's (`_norm_gradient`), with means along the last axis.
    """
    centred = x - mean(x, -1, keepdims=True)
    y = centred / sqrt(mean(square(centred), -1, keepdims=True) + eps)
    y = y * affine[0] if affine else y
    return y + affine[1] if len(affine) > 1 else y


def _rms_norm(x, *affine, eps):
    """x / sqrt(mean(x^2) + eps) along the last axis, times weight, if given."""
    y = x / sqrt(mean(square(x), -1, keepdims=True) + eps)
    return y * affine[0] if affine else y


_fused_layer_norm, _fused_rms_norm = Fused("layer_norm", _layer_norm), Fused("rms_norm", _rms_norm)


def _over_last(name, norm, x, normalized_shape, eps, **given):
    """The operation over the last axes, which must have `normalized_shape`, as must the `given` weight and bias unless None."""
    x, eps = _floating(name, x), real(name, "eps", eps, 0)
    lengths = normalized_shape if np.iterable(normalized_shape) else (normalized_shape,)
    shape = tuple(whole(name, "normalized_shape", n, 0) for n in lengths)
    given = {argument: as_tensor(a) for argument, a in given.items() if a is not None}
    if not shape or x.shape[x.ndim - len(shape):] != shape or x.ndim < len(shape):
        raise ValueError(f"{name}: the last axes should have shape {shape}, got a Tensor of shape {x.shape}")
    for argument, a in given.items():
        if a.shape != shape:
            raise ValueError(f"{name}: {argument} of shape {shape} wanted, got {a.shape}")
    affine = [a if is_float(a.dtype) else a.astype(result_type(x.dtype, a.dtype)) for a in given.values()]
    if [*given] == ["bias"]:
        return _over_last(name, norm, x, shape, eps) + affine[0]
    if len(shape) == 1:
        return norm(x, *affine, eps=eps)
    n = int(np.prod(shape))
    lead = x.shape[:x.ndim - len(shape)]
    return norm(x.reshape(*lead, n), *[a.reshape(n) for a in affine], eps=eps).reshape(x.shape)


@operation
def layer_norm(x: TensorLike, normalized_shape: Axes, weight: TensorLike | None = None, bias: TensorLike | None = None,
               eps: float = 1e-5) -> Tensor:
    """weight (x - mean) / sqrt(var + eps) + bias over the last axes (Ba et al. 2016, arXiv:1607.06450).

    Args:
        normalized_shape: the lengths of these axes, a number or several.
        weight, bias: of that shape, or None.
    """
    return _over_last("layer_norm", _fused_layer_norm, x, normalized_shape, eps, weight=weight, bias=bias)


@operation
def rms_norm(x: TensorLike, normalized_shape: Axes, weight: TensorLike | None = None, eps: float = 1e-6) -> Tensor:
    """weight x / sqrt(mean(x^2) + eps) over the last axes (Zhang and Sennrich 2019, arXiv:1910.07467).

    PyTorch's `eps` is by default that of the dtype, 1.2e-7 of float32.
    """
    return _over_last("rms_norm", _fused_rms_norm, x, normalized_shape, eps, weight=weight)


def _group_norm(x, *affine, num_groups, eps):
    """layer_norm of each group of channels, times weight, plus bias, as far as these are given."""
    n, c, *rest = x.shape
    y = _fused_layer_norm(x.reshape(n, num_groups, c // num_groups * int(np.prod(rest))), eps=eps).reshape(x.shape)
    y = y * _column(affine[0], x) if affine else y
    return y + _column(affine[1], x) if len(affine) > 1 else y


_fused_group_norm = Fused("group_norm", _group_norm)


@operation
def group_norm(x: TensorLike, num_groups: int, weight: TensorLike | None = None, bias: TensorLike | None = None,
               eps: float = 1e-5) -> Tensor:
    """Each sample's channels in `num_groups` groups, each normalised by its mean and variance over channels and pixels.

    Wu and He 2018, arXiv:1803.08494. One group per channel is instance norm.

    Args:
        x: (N, C, ...).
        weight, bias: (C,) or None.
    """
    x, eps = _floating("group_norm", x), real("group_norm", "eps", eps, 0)
    num_groups = whole("group_norm", "num_groups", num_groups, 1)
    if x.ndim < 2 or x.shape[1] % num_groups:
        raise ValueError(f"group_norm: (N, C, ...) with C divisible by {num_groups} wanted, got shape {x.shape}")
    weight, bias = (a if a is None else as_tensor(a) for a in (weight, bias))
    _check_channels("group_norm", x.shape[1], weight=weight, bias=bias)
    if weight is None and bias is not None:
        return group_norm(x, num_groups, None, None, eps) + _column(bias, x)
    return _fused_group_norm(x, *[a for a in (weight, bias) if a is not None], num_groups=num_groups, eps=eps)


# -- by length -------------------------------------------------------------------------------------------------------


@operation
@halves_in_float32(1)
def l2_normalize(x: TensorLike, axis: Axes = -1, eps: float = 1e-12) -> Tensor:
    """x / max(|x|, eps), |x| the Euclidean norm along `axis` (one or several). Of zeros 0, with finite gradient."""
    return _normalized("l2_normalize", _as_float(x), axis, eps)


def _normalized(of, x, axis, eps):
    axes, eps = several_axes(of, axis, x.ndim), real(of, "eps", eps, 0)
    length = sqrt(sum(x * x, axes, keepdims=True))
    return x / (maximum(length, eps) if isinstance(eps, Tensor) or eps else where(length == 0, 1, length))


def _cosine(x, y, axis, eps):
    x, y = (_normalized("cosine_similarity", v, axis, eps) for v in (x, y))
    return sum(x * y, axis)


_fused_cosine = Fused("cosine_similarity", _cosine)


@operation
@halves_in_float32(2)
def cosine_similarity(x: TensorLike, y: TensorLike, axis: Axes = -1, eps: float = 1e-8) -> Tensor:
    """x . y / (max(|x|, eps) max(|y|, eps)) along `axis`; x and y broadcast. Of a vector of zeros 0."""
    x, y = map(_as_float, (x, y))
    try:
        shape = np.broadcast_shapes(x.shape, y.shape)  # the lengths are those of the vectors that are multiplied
    except ValueError:
        raise ValueError(f"cosine_similarity: shapes that broadcast wanted, got {x.shape} and {y.shape}") from None
    axis, eps = several_axes("cosine_similarity", axis, len(shape)), real("cosine_similarity", "eps", eps, 0)
    return _fused_cosine(*[v if v.shape == shape else broadcast_to(v, shape) for v in (x, y)], axis=axis, eps=eps)


@operation
@halves_in_float32(2)
def weight_norm(v: TensorLike, g: TensorLike, axis: int | None = 0) -> Tensor:
    """g v / |v|: a weight as direction and length (Salimans and Kingma 2016, arXiv:1602.07868).

    Args:
        v: the direction; the norm is taken over all its axes but `axis` (over all if None).
        g: the lengths, of v's shape with 1 along the other axes (0-d or all ones if `axis` is None); one number for all.

    Raises:
        ValueError: g has another shape.
    """
    v, g = _as_float(v), as_tensor(g)
    keep = () if axis is None else several_axes("weight_norm", axis, v.ndim)
    others = tuple(a for a in range(v.ndim) if a not in keep)
    length = sqrt(sum(v * v, others, keepdims=True))
    if g.shape != length.shape and (g.size != 1 or g.ndim > v.ndim):
        raise ValueError(f"weight_norm: g of shape {length.shape} wanted for v of shape {v.shape} and axis {axis}, got {g.shape}")
    return v * (g / where(length > 0, length, 1))
