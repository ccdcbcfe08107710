"""The CUDA path of each fused operation, under the operation's name: what `minigrad.fused.Fused` runs on the GPU.

`forward(*arrays, **settings)` gives the result and what `backward(g, out, residuals, wanted, *arrays, **settings)` wants to
find again; see `Fused`. Here the arguments of an operation meet those of its kernels; the mathematics is in the .cu files.
"""
import typing

from .. import xp
from . import elementwise, images, rows
from .attention import attention, attention_backward, MOST


class Path(typing.NamedTuple):
    """One entry. `fits(*tensors, **settings)`: whether the kernels reach so far; elsewhere the definition serves."""

    forward: typing.Callable
    backward: typing.Callable
    reads_out: bool = False
    fits: typing.Callable = lambda *tensors, **settings: True


# -- along rows --------------------------------------------------------------------------------------------------------


def _softmax(logarithm):
    return Path(lambda x: (rows.softmax(x, logarithm), None),
                lambda g, out, residuals, wanted, x: [rows.softmax_backward(g, out, logarithm)], reads_out=True)


def _cross_entropy_backward(g, out, lse, wanted, logits, labels, smoothing, ignored):
    return [rows.cross_entropy_backward(g, logits, labels, lse, smoothing, ignored), None]


def _layer_norm(x, *affine, eps):
    y, *residuals = rows.layer_norm(x, *affine, *[None] * (2 - len(affine)), eps)
    return y, residuals


def _layer_norm_backward(g, out, residuals, wanted, x, *affine, eps):
    return rows.layer_norm_backward(g, x, affine[0] if affine else None, *residuals)[:1 + len(affine)]


def _rms_norm_backward(g, out, inv_rms, wanted, x, *weight, eps):
    return rows.rms_norm_backward(g, x, weight[0] if weight else None, inv_rms)[:1 + len(weight)]


# -- element by element ------------------------------------------------------------------------------------------------


def _activation(name):
    def forward(x, **settings):
        return elementwise.activation(name, x, None, *settings.values()), None

    def backward(g, out, residuals, wanted, x, **settings):
        return elementwise.activation_backward(name, g, x, None, *settings.values())[:1]

    return Path(forward, backward)


# -- images ------------------------------------------------------------------------------------------------------------


def _max_pool_backward(g, out, winner, wanted, x, **geometry):
    return [images.max_pool2d_backward(g, winner, x.shape, **geometry)]


def _avg_pool_backward(g, out, residuals, wanted, x, **geometry):
    return [images.avg_pool2d_backward(g, x.shape, **geometry)]


def _told(seen, mean, var, eps):
    """Tells `seen` the statistics; returns what the backward pass makes of them."""
    if seen is not None:
        seen(mean, var)
    return mean, 1 / xp(var).sqrt(var + var.dtype.type(eps))


def _batch_norm(x, weight, bias, eps, seen=None):
    y, mean, var = images.batch_norm(x, weight, bias, eps)
    return y, _told(seen, mean, var, eps)


def _batch_norm_backward(g, out, residuals, wanted, x, weight, bias, eps, seen=None):
    return images.batch_norm_backward(g, x, weight, *residuals)


def _batch_norm_gradient(g, x, weight, eps):
    mean, inv_std = _told(None, *images.moments(x), eps)
    dx, dweight, dbias = images.batch_norm_backward(g, x, weight, mean, inv_std)
    return dx, (mean, inv_std, dweight, dbias)


def _batch_norm_gradient_backward(h, out, residuals, wanted, g, x, weight, eps):
    return images.batch_norm_double_backward(h, out, g, x, weight, *residuals)


def _norm_relu_pool(x, weight, bias, eps, seen=None):
    y, winner, mean, var = images.norm_relu_pool(x, weight, bias, eps)
    return y, (winner, *_told(seen, mean, var, eps))


def _norm_relu_pool_backward(g, out, residuals, wanted, x, weight, bias, eps, seen=None):
    winner, mean, inv_std = residuals
    return images.norm_relu_pool_backward(g, x, out, winner, weight, mean, inv_std)


def _group_norm(x, weight, bias, num_groups, eps):
    y, *residuals = images.group_norm(x, num_groups, weight, bias, eps)
    return y, residuals


def _group_norm_backward(g, out, residuals, wanted, x, weight, bias, num_groups, eps):
    return images.group_norm_backward(g, x, weight, *residuals)


def _grid_sample_backward(g, out, residuals, wanted, x, grid, align_corners, border):
    return images.grid_sample_backward(g, x, grid, align_corners, border)


# -- attention ---------------------------------------------------------------------------------------------------------


def _attention_fits(q, k, v, *mask, causal, scale):
    return q.shape[3] <= MOST and k.shape == v.shape and not any(m.requires_grad for m in mask)


def _attention_forward(q, k, v, *mask, causal, scale):
    return attention(q, k, v, *mask or [None], causal, scale)


def _attention_backward(g, out, lse, wanted, q, k, v, *mask, causal, scale):
    return *attention_backward(g, q, k, v, out, lse, *mask or [None], causal, scale), None


def _heads(x):
    """(N, L, 3, heads, width) as three arrays (N, heads, L, width)."""
    return [x[:, :, i].transpose(0, 2, 1, 3) for i in range(3)]


def _packed_fits(qkv, *mask, causal, scale):
    return qkv.shape[4] <= MOST and not any(m.requires_grad for m in mask)


def _packed_forward(qkv, *mask, causal, scale):
    n, length, _, heads, width = qkv.shape
    y, lse = attention(*_heads(qkv), *mask or [None], causal, scale)
    return y.transpose(0, 2, 1, 3).reshape(n, length, heads * width), lse


def _packed_backward(g, out, lse, wanted, qkv, *mask, causal, scale):
    n, length, _, heads, width = qkv.shape
    g, y = (a.reshape(n, length, heads, width).transpose(0, 2, 1, 3) for a in (g, out))
    parts = attention_backward(g, *_heads(qkv), y, lse, *mask or [None], causal, scale)
    return xp(qkv).stack([d.transpose(0, 2, 1, 3) for d in parts], 2), None


PATHS = {
    "softmax": _softmax(False),
    "log_softmax": _softmax(True),
    "cross_entropy": Path(rows.cross_entropy, _cross_entropy_backward),
    "layer_norm": Path(_layer_norm, _layer_norm_backward),
    "rms_norm": Path(lambda x, *weight, eps: rows.rms_norm(x, *weight or [None], eps), _rms_norm_backward),
    **{name: _activation(name) for name in ("gelu", "gelu_tanh", "silu", "leaky_relu", "softplus")},
    "max_pool2d": Path(images.max_pool2d, _max_pool_backward),
    "avg_pool2d": Path(lambda x, **geometry: (images.avg_pool2d(x, **geometry), None), _avg_pool_backward),
    "batch_norm": Path(_batch_norm, _batch_norm_backward),
    "batch_norm_gradient": Path(_batch_norm_gradient, _batch_norm_gradient_backward, reads_out=True),
    "norm_relu_pool": Path(_norm_relu_pool, _norm_relu_pool_backward, reads_out=True),
    "group_norm": Path(_group_norm, _group_norm_backward, fits=lambda *inputs, **settings: len(inputs) == 3),
    "grid_sample": Path(
        lambda x, grid, align_corners, border: (images.grid_sample(x, grid, align_corners, border), None),
        _grid_sample_backward),
    "attention": Path(_attention_forward, _attention_backward, reads_out=True, fits=_attention_fits),
    "packed_attention": Path(_packed_forward, _packed_backward, reads_out=True, fits=_packed_fits),
}
