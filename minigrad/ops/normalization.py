"""Normalisation by statistics of the batch (batch norm), of each sample (layer, group and RMS norm), or by length."""
import numpy as np

from ..backend import is_half, xp
from ..fused import Fused
from ..tensor import Tensor
from .activation import _floating
from .elementwise import maximum, relu, sqrt, square, where
from .pool import max_pool2d
from .reduce import mean, sum
from .shape import _axes, concatenate, split

# -- over the batch --------------------------------------------------------------------------------------------------


def _batch_norm(x, weight, bias, eps, seen=None):
    """y = weight (x - mean) / sqrt(var + eps) + bias, mean and variance over all axes but the channels'.

    `seen(mean, var)`, if given, is told the statistics of the batch, as arrays.
    """
    axes, column = (0, *range(2, x.ndim)), (1, -1) + (1,) * (x.ndim - 2)
    mu = mean(x, axes, keepdims=True)
    centred = x - mu
    var = mean(square(centred), axes, keepdims=True)
    if seen is not None:
        seen(mu._array.reshape(-1), var._array.reshape(-1))
    return centred / sqrt(var + eps) * weight.reshape(column) + bias.reshape(column)


def _norm_rule(g, wanted, x, weight, bias, eps, seen=None):
    """dx below, dweight = sum(g xhat), dbias = sum(g)."""
    axes = 0, *range(2, x.ndim)
    return (_fused_norm_gradient(g, x, weight, eps=eps) if wanted[0] else None,
            sum(g * _standardised(x, eps)[0], axes) if wanted[1] else None,
            sum(g, axes) if wanted[2] else None)


def _norm_gradient(g, x, weight, eps):
    """dx = weight / sqrt(var + eps) (g - mean(g) - xhat mean(g xhat)), means over all axes but the channels'."""
    axes, column = (0, *range(2, x.ndim)), (1, -1) + (1,) * (x.ndim - 2)
    xhat, inv_std = _standardised(x, eps)
    projected = g - (xhat * mean(g * xhat, axes, keepdims=True) + mean(g, axes, keepdims=True))
    return weight.reshape(column) * inv_std * projected


def _standardised(x, eps):
    """xhat = (x - mean) / sqrt(var + eps) and 1 / sqrt(var + eps)."""
    axes = 0, *range(2, x.ndim)
    centred = x - mean(x, axes, keepdims=True)
    inv_std = 1 / sqrt(mean(square(centred), axes, keepdims=True) + eps)
    return centred * inv_std, inv_std


def _norm_gradient_forward(g, x, weight, eps):
    from ..backend.cpu import norm_pool
    mu, var = norm_pool.moments(x)
    inv_std = _inverse_std(var, eps)
    dx, dweight, dbias = norm_pool.batch_norm_backward(g, x, weight, mu, inv_std)
    return dx, (mu, inv_std, dweight, dbias)


def _norm_gradient_backward(h, out, residuals, wanted, g, x, weight, eps):
    from ..backend.cpu import norm_pool
    return norm_pool.batch_norm_double_backward(h, out, g, x, weight, *residuals)


def _norm_forward(x, weight, bias, eps, seen=None):
    from ..backend.cpu import norm_pool
    y, mu, var = norm_pool.batch_norm(x, weight, bias, eps)
    if seen is not None:
        seen(mu, var)
    return y, (mu, _inverse_std(var, eps))


def _inverse_std(var, eps):
    return 1 / np.sqrt(var + var.dtype.type(eps))


def _norm_backward(g, out, residuals, wanted, x, weight, bias, eps, seen=None):
    from ..backend.cpu import norm_pool
    return norm_pool.batch_norm_backward(g, x, weight, *residuals)


def _norm_relu_pool(x, weight, bias, eps, seen=None):
    """max_pool2d(relu(batch_norm(x)), 2)"""
    return max_pool2d(relu(_batch_norm(x, weight, bias, eps, seen)), 2)


def _block_forward(x, weight, bias, eps, seen=None):
    from ..backend.cpu import norm_pool
    y, pooled, winner, mu, var = norm_pool.norm_relu_pool(x, weight, bias, eps)
    if seen is not None:
        seen(mu, var)
    return y, (pooled, winner, mu, _inverse_std(var, eps))


def _block_backward(g, out, residuals, wanted, x, weight, bias, eps, seen=None):
    from ..backend.cpu import norm_pool
    pooled, winner, mu, inv_std = residuals
    return norm_pool.norm_relu_pool_backward(g, x, out, pooled, winner, weight, mu, inv_std)


_fused_norm = Fused("batch_norm", _batch_norm, _norm_forward, _norm_backward, rule=_norm_rule)
_fused_norm_gradient = Fused("batch_norm_gradient", _norm_gradient, _norm_gradient_forward, _norm_gradient_backward,
                             reads_out=True)
_fused_block = Fused("norm_relu_pool", _norm_relu_pool, _block_forward, _block_backward, reads_out=True)


def batch_norm(x, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5, splits=1):
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
    x = x if isinstance(x, Tensor) else Tensor(x)
    if x.ndim < 2:
        raise ValueError(f"batch_norm: (N, C, ...) wanted, got shape {x.shape}")
    if x.ndim == 3:
        settings = training, momentum, eps, splits
        return batch_norm(x.expand_dims(3), running_mean, running_var, weight, bias, *settings).squeeze(3)
    weight, bias = _affine(x, weight, bias)
    if not training:
        return _evaluated(x, running_mean, running_var, weight, bias, eps)
    if splits > 1:
        if len(x) % splits:
            raise ValueError(f"batch_norm: a batch of {len(x)} does not divide into {splits} equal parts")
        return concatenate([batch_norm(part, running_mean, running_var, weight, bias, True, momentum, eps)
                            for part in split(x, splits)])
    return _fused_norm(x, weight, bias, eps=eps, seen=_update(x, running_mean, running_var, momentum))


def norm_relu_pool(x, running_mean, running_var, weight, bias, training=False, momentum=0.1, eps=1e-5):
    """max_pool2d(relu(batch_norm(x, ...)), 2) of (N, C, H, W), in training in one pass over x."""
    if not training:
        return max_pool2d(relu(_evaluated(x, running_mean, running_var, weight, bias, eps)), 2)
    return _fused_block(x, weight, bias, eps=eps, seen=_update(x, running_mean, running_var, momentum))


def _affine(x, weight, bias):
    channels = x.shape[1]
    module = xp(x._array)
    weight = module.ones(channels, x.dtype) if weight is None else weight
    bias = module.zeros(channels, x.dtype) if bias is None else bias
    return [a if isinstance(a, Tensor) else Tensor(a) for a in (weight, bias)]


def _update(x, running_mean, running_var, momentum):
    n = x.size // max(x.shape[1], 1)
    if n == 1:
        raise ValueError(f"batch_norm: training needs more than one value per channel, got shape {x.shape}")
    if running_mean is None:
        return None

    def seen(mu, var):
        running_mean[...] += momentum * (mu - running_mean)
        running_var[...] += momentum * (var * (n / max(n - 1, 1)) - running_var)

    return seen


def _evaluated(x, running_mean, running_var, weight, bias, eps):
    if running_mean is None:
        raise ValueError("batch_norm: evaluation needs running statistics")
    column = (1, -1) + (1,) * (x.ndim - 2)
    scale = weight / (running_var + running_var.dtype.type(eps)) ** 0.5
    y = x * scale.reshape(column) + (bias - scale * running_mean).reshape(column)
    half = x.dtype == weight.dtype == bias.dtype and is_half(x.dtype)
    return y.astype(x.dtype) if half else y  # though the statistics are float32


# -- over each sample ------------------------------------------------------------------------------------------------


def _layer_norm(x, *affine, eps):
    """(x - mean) / sqrt(var + eps) along the last axis, times weight, plus bias, as far as these are given."""
    centred = x - mean(x, -1, keepdims=True)
    y = centred / sqrt(mean(square(centred), -1, keepdims=True) + eps)
    y = y * affine[0] if affine else y
    return y + affine[1] if len(affine) > 1 else y


def _rms_norm(x, *affine, eps):
    """x / sqrt(mean(x^2) + eps) along the last axis, times weight, if given."""
    y = x / sqrt(mean(square(x), -1, keepdims=True) + eps)
    return y * affine[0] if affine else y


def _fused_rows(name, definition, centre):
    def forward(x, *affine, eps):
        from ..backend.cpu import rows
        y, mu, inv_std = rows.layer_norm(x, *affine, *[None] * (2 - len(affine)), eps=eps, centre=centre)
        return y, (mu, inv_std)

    def backward(g, out, residuals, wanted, x, *affine, eps):
        from ..backend.cpu import rows
        return rows.layer_norm_backward(g, x, affine[0] if affine else None, *residuals)[:1 + len(affine)]

    return Fused(name, definition, forward, backward)


_fused_layer_norm = _fused_rows("layer_norm", _layer_norm, True)
_fused_rms_norm = _fused_rows("rms_norm", _rms_norm, False)


def _over_last(name, operation, x, normalized_shape, affine, eps):
    """The operation over the last axes, which must have `normalized_shape`."""
    x = _floating(name, x)
    shape = (normalized_shape,) if np.isscalar(normalized_shape) else tuple(normalized_shape)
    if not shape or x.shape[x.ndim - len(shape):] != shape or x.ndim < len(shape):
        raise ValueError(f"{name}: the last axes should have shape {shape}, got a Tensor of shape {x.shape}")
    if any(a.shape != shape for a in affine):
        raise ValueError(f"{name}: weight and bias of shape {shape} wanted, got {[a.shape for a in affine]}")
    if len(shape) == 1:
        return operation(x, *affine, eps=eps)
    n = int(np.prod(shape))
    lead = x.shape[:x.ndim - len(shape)]
    return operation(x.reshape(*lead, n), *[a.reshape(n) for a in affine], eps=eps).reshape(x.shape)


def layer_norm(x, normalized_shape, weight=None, bias=None, eps=1e-5):
    """weight (x - mean) / sqrt(var + eps) + bias over the last axes (Ba et al. 2016, arXiv:1607.06450).

    Args:
        normalized_shape: the lengths of these axes, a number or several.
        weight, bias: of that shape, or None.
    """
    if weight is None and bias is not None:
        return _over_last("layer_norm", _fused_layer_norm, x, normalized_shape, (), eps) + bias
    affine = [a for a in (weight, bias) if a is not None]
    return _over_last("layer_norm", _fused_layer_norm, x, normalized_shape, affine, eps)


def rms_norm(x, normalized_shape, weight=None, eps=1e-6):
    """weight x / sqrt(mean(x^2) + eps) over the last axes (Zhang and Sennrich 2019, arXiv:1910.07467)."""
    return _over_last("rms_norm", _fused_rms_norm, x, normalized_shape, [] if weight is None else [weight], eps)


def _group_norm(x, *affine, num_groups, eps):
    """layer_norm of each group of channels, times weight, plus bias, as far as these are given."""
    n, c, *rest = x.shape
    y = _fused_layer_norm(x.reshape(n, num_groups, c // num_groups * int(np.prod(rest))), eps=eps).reshape(x.shape)
    column = (1, -1) + (1,) * len(rest)
    y = y * affine[0].reshape(column) if affine else y
    return y + affine[1].reshape(column) if len(affine) > 1 else y


_fused_group_norm = Fused("group_norm", _group_norm)


def group_norm(x, num_groups, weight=None, bias=None, eps=1e-5):
    """Each sample's channels in `num_groups` groups, each normalised by its mean and variance over channels and pixels.

    Wu and He 2018, arXiv:1803.08494. One group per channel is instance norm.

    Args:
        x: (N, C, ...).
        weight, bias: (C,) or None.
    """
    x = _floating("group_norm", x)
    if x.ndim < 2 or num_groups < 1 or x.shape[1] % num_groups:
        raise ValueError(f"group_norm: (N, C, ...) with C divisible by {num_groups} wanted, got shape {x.shape}")
    if weight is None and bias is not None:
        return group_norm(x, num_groups, None, None, eps) + bias.reshape((1, -1) + (1,) * (x.ndim - 2))
    return _fused_group_norm(x, *[a for a in (weight, bias) if a is not None], num_groups=num_groups, eps=eps)


# -- by length -------------------------------------------------------------------------------------------------------


def l2_normalize(x, axis=-1, eps=1e-12):
    """x / max(|x|, eps), |x| the Euclidean norm along `axis` (one or several). Of zeros 0, with finite gradient."""
    x = x if isinstance(x, Tensor) else Tensor(x)
    return x / maximum(sqrt(sum(x * x, axis, keepdims=True)), eps)


def cosine_similarity(x, y, axis=-1, eps=1e-8):
    """x . y / (max(|x|, eps) max(|y|, eps)) along `axis`; x and y broadcast."""
    return sum(l2_normalize(x, axis, eps) * l2_normalize(y, axis, eps), axis)


def weight_norm(v, g, axis=0):
    """g v / |v|: a weight as direction and length (Salimans and Kingma 2016, arXiv:1602.07868).

    Args:
        v: the direction; the norm is taken over all its axes but `axis` (over all if None).
        g: the lengths, of v's shape with 1 along the other axes (0-d or all ones if `axis` is None).
    """
    v = v if isinstance(v, Tensor) else Tensor(v)
    keep = () if axis is None else _axes(axis, v.ndim)
    others = tuple(a for a in range(v.ndim) if a not in keep)
    length = sqrt(sum(v * v, others, keepdims=True))
    return v * (g / where(length > 0, length, 1))
