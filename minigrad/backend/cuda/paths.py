"""The CUDA path of each operation that has one, under the operation's name; see `minigrad.backend.Path`.

Here the arguments of an operation meet those of its kernels; the mathematics is in the .cu files.
"""
import math

import numpy as np

from .. import Path, is_array, is_half, xp
from ..shared_paths import heads_first, paths, recurrent_paths
from . import elementwise, images, recurrent, rows
from .attention import attention, attention_backward, MOST
from .matmul import matmul


# -- along rows --------------------------------------------------------------------------------------------------------


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


def _add_bias_backward(g, out, residuals, wanted, y, bias):
    return g, elementwise.channel_sum(g) if wanted[1] else None


def _norm_relu_pool(x, weight, bias, eps):
    y, winner, mean, var = images.norm_relu_pool(x, weight, bias, eps)
    return (y, mean, var), (winner, mean, images.inverse_std(var, eps))


def _norm_relu_pool_backward(g, outs, residuals, wanted, x, weight, bias, eps):
    winner, mean, inv_std = residuals
    return images.norm_relu_pool_backward(g, x, outs[0], winner, weight, mean, inv_std)


def _moved_in_place(running_mean, running_var, mean, var):
    """One dtype, float32 or float64, and running statistics that are dense, where the kernel writes."""
    arrays = running_mean, running_var, mean, var
    return (mean.dtype.itemsize > 2 and all([is_array(a) and a.dtype == mean.dtype for a in arrays])
            and running_mean.flags.c_contiguous and running_var.flags.c_contiguous)


def _group_norm(x, weight, bias, num_groups, eps):
    y, *residuals = images.group_norm(x, num_groups, weight, bias, eps)
    return y, residuals


def _group_norm_backward(g, out, residuals, wanted, x, weight, bias, num_groups, eps):
    return images.group_norm_backward(g, x, weight, *residuals)


def _grid_sample_backward(g, out, residuals, wanted, x, grid, align_corners, border):
    return images.grid_sample_backward(g, x, grid, align_corners, border)


# -- attention ---------------------------------------------------------------------------------------------------------


def _narrow_heads(q, k, v, *mask, causal, scale):
    return q.shape[3] <= MOST and k.shape == v.shape


def _attention_forward(q, k, v, *mask, causal, scale):
    return attention(q, k, v, *mask or [None], causal, scale)


def _attention_backward(g, out, lse, wanted, q, k, v, *mask, causal, scale):
    if any(wanted[3:]):  # the kernels have no gradient of the mask
        return None
    return *attention_backward(g, q, k, v, out, lse, *mask or [None], causal, scale), None


def _narrow_packed_heads(qkv, *mask, causal, scale):
    return qkv.shape[4] <= MOST


def _packed_forward(qkv, *mask, causal, scale):
    n, length, _, heads, width = qkv.shape
    y, lse = attention(*heads_first(qkv), *mask or [None], causal, scale)
    return y.transpose(0, 2, 1, 3).reshape(n, length, heads * width), lse


def _packed_backward(g, out, lse, wanted, qkv, *mask, causal, scale):
    if any(wanted[1:]):
        return None
    n, length, _, heads, width = qkv.shape
    g, y = (a.reshape(n, length, heads, width).transpose(0, 2, 1, 3) for a in (g, out))
    parts = attention_backward(g, *heads_first(qkv), y, lse, *mask or [None], causal, scale)
    return xp(qkv).stack([d.transpose(0, 2, 1, 3) for d in parts], 2), None


# -- recurrent units: states that run over time have 32 bits ----------------------------------------------------------


def _wide(a):
    """An array, numbers of 16 bits as float32."""
    return a.astype(np.float32) if a is not None and is_half(a.dtype) else a


def _in_float32(path):
    """The path, made to take numbers of 16 bits as float32. Of the outputs the first, as in the definition, is rounded."""
    def forward(*arrays, **settings):
        out, residuals = path.forward(*map(_wide, arrays), **settings)
        y, *others = out if type(out) is tuple else (out,)
        y = y.astype(arrays[0].dtype, copy=False)
        return (y, *others) if others else y, (out, residuals)

    def backward(g, out, wide, wanted, *arrays, **settings):
        g = tuple(map(_wide, g)) if path.all_outputs else _wide(g)
        return path.backward(g, *wide, wanted, *map(_wide, arrays), **settings)

    return path._replace(forward=forward, backward=backward)


# -- rows named by an index --------------------------------------------------------------------------------------------


def _sums_many_rows(x, axis):
    """Whether the axes are the first ones, and long: only then a kernel is faster than CuPy."""
    rows = math.prod(x.shape[:len(axis)])
    return x.flags.c_contiguous and x.size >= 1 << 18 and 256 <= rows < x.size and axis == tuple(range(len(axis)))


def _sum_of_rows(x, axis):
    return elementwise.column_sum(x.reshape(math.prod(x.shape[:len(axis)]), -1)).astype(x.dtype, copy=False)


def _row_numbers(index):
    """An index that names rows by one array of whole numbers, as that array; else None."""
    index = index[0] if isinstance(index, tuple) and len(index) == 1 else index
    return index if is_array(index) and index.dtype.kind in "iu" else None


def _add_at(x, values, index):
    return elementwise.index_add(x, xp(x).asarray(_row_numbers(index)).reshape(-1).astype(np.int64, copy=False), values)


# -- optimisers: paths of lists of arrays, chosen for the arrays of one parameter -----------------------------------------


def _updated_in_place(p, g, *state):
    """float32 or float64, and dense where the kernels of optimiser.cu write."""
    return p.dtype.itemsize > 2 and all(a.flags.c_contiguous for a in (p, *state))


PATHS = {
    **paths(rows, images, images, images.inverse_std),
    **{name: _in_float32(path) for name, path in recurrent_paths(recurrent).items()},
    "fold_norm": Path(images.fold_norm, serves=lambda weight, *channels: all([a.shape == weight.shape[:1] for a in channels])),
    "move_running": Path(images.move_running, serves=_moved_in_place),
    "matmul": Path(matmul),
    "sum": Path(_sum_of_rows, serves=_sums_many_rows),
    "conv2d": Path(images.conv2d),
    "conv2d_input_gradient": Path(images.conv2d_input_grad),
    "conv2d_weight_gradient": Path(images.conv2d_weight_grad),
    "add_at": Path(_add_at, serves=lambda x, values, index: _row_numbers(index) is not None),
    "dropout_by_seed": Path(elementwise.dropout),
    "sgd_step": Path(elementwise.sgd_step, serves=_updated_in_place),
    "adam_step": Path(elementwise.adam_step, serves=_updated_in_place),
    "ema_step": Path(elementwise.ema_step, serves=_updated_in_place),
    "layer_norm": Path(_layer_norm, _layer_norm_backward),
    "rms_norm": Path(lambda x, *weight, eps: rows.rms_norm(x, *weight or [None], eps), _rms_norm_backward),
    "relu": Path(lambda x: elementwise.activation("relu", x)),
    "relu_gradient": Path(lambda g, out: elementwise.activation_backward("relu", g, out)[0]),
    **{name: _activation(name) for name in elementwise.ACTIVATIONS if name != "relu"},
    "add_bias": Path(lambda y, bias: (y + bias[:, None, None], None), _add_bias_backward),
    "norm_relu_pool": Path(_norm_relu_pool, _norm_relu_pool_backward, reads_out=True),
    "group_norm": Path(_group_norm, _group_norm_backward, serves=lambda *arrays, **settings: len(arrays) == 3),
    "grid_sample": Path(
        lambda x, grid, align_corners, border: (images.grid_sample(x, grid, align_corners, border), None),
        _grid_sample_backward),
    "attention": Path(_attention_forward, _attention_backward, reads_out=True, serves=_narrow_heads),
    "packed_attention": Path(_packed_forward, _packed_backward, reads_out=True, serves=_narrow_packed_heads),
}
