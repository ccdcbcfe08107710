"""The CPU path of each operation that has one, under the operation's name; see `minigrad.backend.Path`.

Here the arguments of an operation meet those of its kernels. What is computed is said by the definition, in `minigrad/ops/`.
"""
import math

import numpy as np

from .. import Path
from ..shared_paths import heads_first, inverse_std, paths, recurrent_paths, without_residuals
from . import (
    activation, attention, conv, ctc, distances, elementwise, grid_sample, group_norm, index, norm_pool, pool, products,
    recurrent, rows)
from .memory import empty
from .native import kernel

# -- element by element ------------------------------------------------------------------------------------------------


def _served(name):
    """Whether all arrays are float32, and there is the kernel."""
    return lambda *arrays, **settings: kernel(name, *arrays) is not None


def _logistic_loss_backward(g, out, residuals, wanted, x, p, q):
    def along(y):
        softplus = activation.activation("softplus", y)
        return np.multiply(g, softplus, out=softplus)

    dx = elementwise.logistic_loss_backward(g, x, p, q) if wanted[0] else None
    return dx, along(-x) if wanted[1] else None, along(x) if wanted[2] else None


def _arithmetic(name):
    return Path(lambda x, y, out=None: elementwise.arithmetic(name, x, y, out), serves=_served("arithmetic"))


def _activation(name):
    def forward(*xs, **settings):
        return activation.activation(name, *xs, **settings)

    def backward(g, out, residuals, wanted, *xs, **settings):
        return [activation.activation_backward(name, g, *xs, **settings)]

    return Path(without_residuals(forward), backward)


def _rounded_distance_backward(g, out, residuals, wanted, x, to, width):
    dx = activation.activation_backward("rounded_distance", g, x, to, width=width)
    return dx, np.negative(dx, out=elementwise.empty_like(dx)) if wanted[1] else None


def _prelu_backward(g, out, residuals, wanted, x, weight):
    return (activation.prelu(g, x, weight) if wanted[0] else None,
            activation.prelu_weight_gradient(g, x, weight) if wanted[1] else None)


# -- along rows --------------------------------------------------------------------------------------------------------


def _row_norm(centre):
    def forward(x, *affine, eps):
        y, mean, inv_std = rows.layer_norm(x, *affine, *[None] * (2 - len(affine)), eps=eps, centre=centre)
        return y, (mean, inv_std)

    def backward(g, out, residuals, wanted, x, *affine, eps):
        return rows.layer_norm_backward(g, x, affine[0] if affine else None, *residuals)[:1 + len(affine)]

    return Path(forward, backward)


def _mean_distance_backward(g, out, residuals, wanted, x, target, width):
    dx = rows.mean_distance_backward(g, x, target, width)
    return dx, np.negative(dx, out=elementwise.empty_like(dx)) if wanted[1] else None


# -- products ----------------------------------------------------------------------------------------------------------


def _linear(x, weight, *bias):
    if x.ndim == 2:
        return products.product(x, weight.T, *bias)
    flat = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    return products.product(flat, weight.T, *bias).reshape(*x.shape[:-1], len(weight))


def _linear_backward(g, out, residuals, wanted, x, weight, *bias):
    g = np.ascontiguousarray(g).reshape(math.prod(g.shape[:-1]), len(weight))  # BLAS takes no broadcast array
    dx = products.product(g, weight).reshape(x.shape) if wanted[0] else None
    dw = products.product(g.T, x.reshape(len(g), x.shape[-1])) if wanted[1] else None
    return dx, dw, *[rows.column_sums(g) for _ in bias]


# -- images ------------------------------------------------------------------------------------------------------------


def _add_bias_backward(g, out, residuals, wanted, y, bias):
    return g, norm_pool.channel_sums(g) if wanted[1] else None


def _norm_relu_pool(x, weight, bias, eps):
    y, pooled, winner, mean, var = norm_pool.norm_relu_pool(x, weight, bias, eps)
    return (y, mean, var), (pooled, winner, mean, inverse_std(var, eps))


def _norm_relu_pool_backward(g, outs, residuals, wanted, x, weight, bias, eps):
    pooled, winner, mean, inv_std = residuals
    return norm_pool.norm_relu_pool_backward(g, x, outs[0], pooled, winner, weight, mean, inv_std)


def _group_norm(x, *affine, num_groups, eps):
    y, *residuals = group_norm.group_norm(x, *affine, *[None] * (2 - len(affine)), num_groups, eps)
    return y, residuals


def _group_norm_backward(g, out, residuals, wanted, x, *affine, num_groups, eps):
    return group_norm.group_norm_backward(g, x, affine[0] if affine else None, *residuals)[:1 + len(affine)]


def _conv2d_relu_backward(g, out, residuals, wanted, x, w, bias, most, **geometry):
    g = elementwise.limited_backward(g, out, 0, most)
    return (conv.conv2d_input_grad(g, w, x.shape, **geometry) if wanted[0] else None,
            conv.conv2d_weight_grad(g, x, w.shape, **geometry) if wanted[1] else None,
            norm_pool.channel_sums(g) if wanted[2] else None)


def _adaptive_max_pool_backward(g, out, winner, wanted, x, size):
    return [pool.adaptive_max_pool2d_backward(g, winner, x.shape, size)] if kernel("pool_backward", g) else None


def _adaptive_avg_pool_backward(g, out, residuals, wanted, x, size):
    return [pool.adaptive_avg_pool2d_backward(g, x.shape, size)] if kernel("pool_backward", g) else None


# -- attention ---------------------------------------------------------------------------------------------------------


def _attention_backward(g, out, lse, wanted, q, k, v, *mask, causal, scale):
    return attention.attention_backward(g, q, k, v, out, lse, *mask, causal=causal, scale=scale, wants_mask=any(wanted[3:]))


def _packed_attention(qkv, *mask, causal, scale):
    n, length, _, heads, width = qkv.shape
    y = empty((n, length, heads, width), qkv.dtype)
    _, lse = attention.attention(*heads_first(qkv), *mask, causal=causal, scale=scale, out=y.transpose(0, 2, 1, 3))
    return y.reshape(n, length, heads * width), lse


def _packed_attention_backward(g, out, lse, wanted, qkv, *mask, causal, scale):
    n, length, _, heads, width = qkv.shape
    g, y = (a.reshape(n, length, heads, width).transpose(0, 2, 1, 3) for a in (g, out))
    dqkv = empty(qkv.shape, qkv.dtype)
    dmask = attention.attention_backward(g, *heads_first(qkv), y, lse, *mask, causal=causal, scale=scale,
                                         outs=heads_first(dqkv), wants_mask=any(wanted[1:]))[3]
    return dqkv, dmask


# -- recurrent units ---------------------------------------------------------------------------------------------------


def _recurrent(name):
    """For one step it does not pay to pack large weights."""
    return lambda gx, h, *rest, **settings: (len(gx) > 1 or h.shape[1] <= 256) and kernel(name, gx, h, *rest) is not None


# -- unaligned sequences -----------------------------------------------------------------------------------------------


def _ctc_backward(g, out, residuals, wanted, *inputs, blank):
    losses, before = residuals
    if not ((losses > -np.inf).all() and (before < np.inf).all()):  # NaN, too
        return None
    return [ctc.ctc_losses_backward(g, losses, before, *inputs, blank), None, None, None]


# -- distances, running products -------------------------------------------------------------------------------------------


def _in_batches(x):
    return x.reshape(-1, *x.shape[-2:])


def _cdist(x, y, p):
    d = distances.cdist(_in_batches(x), _in_batches(y))
    return d.reshape(*x.shape[:-1], y.shape[-2])


def _cdist_backward(g, d, residuals, wanted, x, y, p):
    if not np.isfinite(d).all():
        return None
    g, d, xs, ys = map(_in_batches, (g, d, x, y))
    dx = distances.cdist_backward(g, d, xs, ys).reshape(x.shape) if wanted[0] else None
    turned = [a.transpose(0, 2, 1) for a in (g, d)]
    return dx, distances.cdist_backward(*turned, ys, xs).reshape(y.shape) if wanted[1] else None


def _products(forward, gradient):
    def backward(g, y, residuals, wanted, x):
        dx = gradient(g, y, x)
        return None if dx is None else [dx]

    return Path(without_residuals(forward), backward, reads_out=True, serves=lambda x: x.dtype.kind == "f")


PATHS = {
    **paths(rows, norm_pool, pool),
    **recurrent_paths(recurrent, _recurrent),
    "adaptive_max_pool2d": Path(pool.adaptive_max_pool2d, _adaptive_max_pool_backward, serves=pool.serves_adaptive_max_pool2d),
    "adaptive_avg_pool2d": Path(without_residuals(pool.adaptive_avg_pool2d), _adaptive_avg_pool_backward,
                                serves=pool.serves_adaptive_avg_pool2d),
    "sgd_step": Path(elementwise.sgd_step),  # of lists of arrays, chosen for those of one parameter
    "adam_step": Path(elementwise.adam_step),
    "ema_step": Path(elementwise.ema_step, serves=_served("ema_step")),
    **{name: _arithmetic(name) for name in (*elementwise.QUICK, *elementwise.SLOW)},
    "sigmoid_share": Path(lambda x, y, out: elementwise.arithmetic("sigmoid_share", x, y), serves=_served("arithmetic")),
    "sum": Path(rows.sums, serves=rows.sums_take),
    "nansum": Path(lambda x, axis: rows.sums(x, axis, known=True), serves=rows.known_sums_take),
    "logsumexp": Path(rows.logsumexp, serves=rows.neighbours),
    "where": Path(elementwise.choose,
                  serves=lambda condition, x, y: condition.dtype == bool and kernel("choose", x, y) is not None),
    "relu": Path(elementwise.relu),
    "relu_gradient": Path(elementwise.relu_backward),
    "limited": Path(without_residuals(elementwise.limited),
                    lambda g, out, residuals, wanted, x, least, most: [elementwise.limited_backward(g, out, least, most)],
                    reads_out=True),
    "limited_relu": Path(without_residuals(lambda x, most: elementwise.limited(x, 0, most)),
                         lambda g, out, residuals, wanted, x, most: [elementwise.limited_backward(g, out, 0, most)],
                         reads_out=True),
    "sigmoid": Path(elementwise.logistic, serves=_served("logistic")),
    "sigmoid_gradient": Path(elementwise.logistic_backward, serves=_served("logistic_backward")),
    "binary_cross_entropy_with_logits": Path(without_residuals(elementwise.logistic_loss), _logistic_loss_backward,
                                             serves=_served("logistic_loss")),
    "erf": Path(lambda x: activation.activation("error_function", x), serves=_served("error_function")),
    "power": Path(elementwise.half_powers, serves=elementwise.is_half_power),
    "power_gradient": Path(elementwise.half_powers_backward, serves=elementwise.is_along_half_power),
    "sqrt_gradient": Path(elementwise.root_backward, serves=_served("root_backward")),
    "halves": Path(elementwise.halves, serves=_served("halves")),
    "floats_of_halves": Path(elementwise.floats_of_halves,
                             serves=lambda bits: bits.flags.aligned and kernel("floats_of_halves") is not None),
    "cumsum": Path(rows.running, serves=_served("running")),
    "dropout": Path(activation.dropout),
    **{name: _activation(name) for name in activation.FUNCTIONS},
    **{name: _activation(name)._replace(serves=_served(name)) for name in ("elu", "hardswish")},
    "prelu": Path(without_residuals(lambda x, weight: activation.prelu(x, x, weight)), _prelu_backward,
                  serves=lambda x, weight: x.ndim > 0 and elementwise.is_dense(x) and kernel("prelu", x, weight) is not None),
    "rounded_distance": _activation("rounded_distance")._replace(backward=_rounded_distance_backward),
    "mean_distance": Path(lambda x, target, width: (rows.mean_distance(x, target, width), None), _mean_distance_backward,
                          serves=_served("distance_sums")),
    "cosine_similarity": Path(lambda x, y, axis, eps: rows.cosine(x, y, eps),
                              lambda g, out, residuals, wanted, x, y, axis, eps:
                              rows.cosine_backward(g, *residuals, wanted, x, y, eps),
                              serves=lambda x, y, axis, eps:
                              axis == (x.ndim - 1,) and kernel("inner_products", x, y) is not None),
    "layer_norm": _row_norm(centre=True),
    "rms_norm": _row_norm(centre=False),
    "group_norm": Path(_group_norm, _group_norm_backward, serves=group_norm.serves),
    "matmul": Path(products.product),
    "linear": Path(without_residuals(_linear), _linear_backward),
    "getitem": Path(index.read),
    "argsort": Path(index.order, serves=index.serves_order),
    "top_k": Path(rows.top_k, serves=_served("best_of_rows")),
    "add_at": Path(index.add_at),
    "take_along_axis": Path(index.take_along, serves=index.serves_along),
    "add_along_axis": Path(index.add_along, serves=index.serves_along),
    "put_along_axis": Path(index.put_along, serves=lambda x, values, indices, axis:
                           kernel("put_along", values) is not None and index.serves_along(x, indices, axis)),
    "last_along_axis": Path(index.last_along, serves=lambda values, indices, axis, shape:
                            indices.shape[axis] < 2**31 and index.serves_along(values, indices, axis, shape)),
    "conv2d": Path(conv.conv2d),
    "conv2d_input_gradient": Path(conv.conv2d_input_grad),
    "conv2d_weight_gradient": Path(conv.conv2d_weight_grad),
    "conv2d_relu": Path(without_residuals(conv.conv2d_relu), _conv2d_relu_backward, reads_out=True),
    "add_bias": Path(without_residuals(norm_pool.add_to_channels), _add_bias_backward),
    "norm_relu_pool": Path(_norm_relu_pool, _norm_relu_pool_backward, reads_out=True),
    "attention": Path(attention.attention, _attention_backward, reads_out=True),
    "cdist": Path(without_residuals(_cdist), _cdist_backward, reads_out=True,
                  serves=lambda x, y, p: p == 2 and x.shape[:-2] == y.shape[:-2] and kernel("distances", x, y) is not None),
    "ctc_loss": Path(ctc.ctc_losses, _ctc_backward,
                     serves=lambda log_p, *others, blank: kernel("ctc_losses", log_p) is not None),
    "cumprod": _products(rows.cumprod, rows.cumprod_backward),
    "prod": _products(rows.products, rows.prod_backward),
    "grid_sample": Path(without_residuals(grid_sample.grid_sample),
                        lambda g, out, residuals, wanted, *arrays, **settings:
                        grid_sample.grid_sample_backward(g, *arrays, **settings),
                        serves=_served("grid_sample")),
    "packed_attention": Path(_packed_attention, _packed_attention_backward, reads_out=True),
}
