"""Batch normalisation (Ioffe and Szegedy 2015, arXiv:1502.03167), alone and with the ReLU and pooling that follow it."""
import numpy as np

from ..tensor import Fused
from .elementwise import relu
from .pool import max_pool2d
from .reduce import mean


def _batch_norm(x, weight, bias, eps, seen=None):
    """y = weight (x - mean) / sqrt(var + eps) + bias, mean and variance over all axes but the channels'.

    `seen(mean, var)`, if given, is told the statistics of the batch, as arrays.
    """
    axes, column = (0, *range(2, x.ndim)), (1, -1) + (1,) * (x.ndim - 2)
    mu = mean(x, axes, keepdims=True)
    var = mean((x - mu) ** 2, axes, keepdims=True)
    if seen is not None:
        seen(mu._array.reshape(-1), var._array.reshape(-1))
    return (x - mu) / (var + eps) ** 0.5 * weight.reshape(column) + bias.reshape(column)


def _norm_forward(x, weight, bias, eps, seen=None):
    from ..backend.cpu import norm_pool
    y, mu, var = norm_pool.batch_norm(x, weight, bias, eps)
    if seen is not None:
        seen(mu, var)
    return y, (mu, 1 / np.sqrt(var + var.dtype.type(eps)))


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
    return y, (pooled, winner, mu, 1 / np.sqrt(var + var.dtype.type(eps)))


def _block_backward(g, out, residuals, wanted, x, weight, bias, eps, seen=None):
    from ..backend.cpu import norm_pool
    pooled, winner, mu, inv_std = residuals
    return norm_pool.norm_relu_pool_backward(g, x, out, pooled, winner, weight, mu, inv_std)


_fused_norm = Fused("batch_norm", _batch_norm, _norm_forward, _norm_backward)
_fused_block = Fused("norm_relu_pool", _norm_relu_pool, _block_forward, _block_backward, reads_out=True)


def batch_norm(x, running_mean, running_var, weight, bias, training=False, momentum=0.1, eps=1e-5):
    """Batch normalisation of (N, C) or (N, C, H, W).

    In training the statistics are the batch's, and the running ones (arrays (C,), changed in place; None for none) move
    towards them by `momentum`, the variance in its unbiased form. In evaluation the running ones are used.

    Raises:
        ValueError: training on one value per channel, whose variance says nothing; or no running statistics to use.
    """
    if not training:
        return _evaluated(x, running_mean, running_var, weight, bias, eps)
    return _fused_norm(x, weight, bias, eps=eps, seen=_update(x, running_mean, running_var, momentum))


def norm_relu_pool(x, running_mean, running_var, weight, bias, training=False, momentum=0.1, eps=1e-5):
    """max_pool2d(relu(batch_norm(x, ...)), 2) of (N, C, H, W), in training in one pass over x."""
    if not training:
        return max_pool2d(relu(_evaluated(x, running_mean, running_var, weight, bias, eps)), 2)
    return _fused_block(x, weight, bias, eps=eps, seen=_update(x, running_mean, running_var, momentum))


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
    return x * scale.reshape(column) + (bias - scale * running_mean).reshape(column)
