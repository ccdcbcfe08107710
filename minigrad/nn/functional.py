"""Layers and losses as functions, with PyTorch's names and arguments: `from minigrad.nn import functional as F`.

Where minigrad's own operation takes PyTorch's arguments in PyTorch's order it stands here as it is, with `x` for PyTorch's
`input`. The others, which follow NumPy (`axis`, not `dim`), are called with their arguments renamed.
"""
from collections.abc import Sequence

import numpy as np

from .. import backend, fused, ops
from ..ops import geometry, loss
# X as X: who checks types, as editors do, takes X for a name that is given on.
from ..ops import (  # noqa: F401
    adaptive_avg_pool1d as adaptive_avg_pool1d, adaptive_avg_pool2d as adaptive_avg_pool2d,
    adaptive_max_pool1d as adaptive_max_pool1d, adaptive_max_pool2d as adaptive_max_pool2d, affine_grid as affine_grid,
    avg_pool1d as avg_pool1d, avg_pool2d as avg_pool2d, batch_norm as batch_norm, bilinear as bilinear,
    binary_cross_entropy as binary_cross_entropy, binary_cross_entropy_with_logits as binary_cross_entropy_with_logits,
    celu as celu, cosine_embedding_loss as cosine_embedding_loss, ctc_loss as ctc_loss, dropout as dropout,
    dropout2d as dropout2d, elu as elu, fold as fold, gaussian_nll_loss as gaussian_nll_loss, gelu as gelu,
    group_norm as group_norm, hardshrink as hardshrink, hardsigmoid as hardsigmoid, hardswish as hardswish,
    hardtanh as hardtanh, hinge_embedding_loss as hinge_embedding_loss, huber_loss as huber_loss, interpolate as interpolate,
    kl_div as kl_div, l1_loss as l1_loss, layer_norm as layer_norm, leaky_relu as leaky_relu, linear as linear,
    logsigmoid as logsigmoid, margin_ranking_loss as margin_ranking_loss, max_pool1d as max_pool1d, max_pool2d as max_pool2d,
    mish as mish, mse_loss as mse_loss, nll_loss as nll_loss, pixel_shuffle as pixel_shuffle,
    pixel_unshuffle as pixel_unshuffle, poisson_nll_loss as poisson_nll_loss, prelu as prelu, relu as relu, relu6 as relu6,
    rms_norm as rms_norm, selu as selu, sigmoid as sigmoid, silu as silu, smooth_l1_loss as smooth_l1_loss,
    softplus as softplus, softshrink as softshrink, softsign as softsign, tanh as tanh, threshold as threshold,
    triplet_margin_loss as triplet_margin_loss, unfold as unfold)
from ..ops.missing import missing_from as _missing_from
from ..ops.elementwise import _as_float
from ..ops.geometry import Lengths
from ..tensor import DTypeLike, Tensor, TensorLike, as_tensor, flag as _flag

__getattr__ = _missing_from(__name__)


# -- convolution -----------------------------------------------------------------------------------------------------


def conv1d(input: TensorLike, weight: TensorLike, bias: TensorLike | None = None, stride: Lengths = 1,
           padding: Lengths | str = 0, dilation: Lengths = 1, groups: int = 1) -> Tensor:
    """Cross-correlation of sequences (N, C, L) with a weight (out, C / groups, k): `minigrad.conv1d`."""
    return ops.conv1d(input, weight, bias, stride, padding, dilation, groups)


def conv2d(input: TensorLike, weight: TensorLike, bias: TensorLike | None = None, stride: Lengths = 1,
           padding: Lengths | str = 0, dilation: Lengths = 1, groups: int = 1) -> Tensor:
    """Cross-correlation of images (N, C, H, W) with a weight (out, C / groups, kh, kw): `minigrad.conv2d`."""
    return ops.conv2d(input, weight, bias, stride, padding, dilation, groups)


def conv_transpose1d(input: TensorLike, weight: TensorLike, bias: TensorLike | None = None, stride: Lengths = 1,
                     padding: Lengths = 0, output_padding: Lengths = 0, groups: int = 1, dilation: Lengths = 1) -> Tensor:
    """The gradient of `conv1d` in its input, for a weight (C, out / groups, k): `minigrad.conv_transpose1d`."""
    return ops.conv_transpose1d(input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose2d(input: TensorLike, weight: TensorLike, bias: TensorLike | None = None, stride: Lengths = 1,
                     padding: Lengths = 0, output_padding: Lengths = 0, groups: int = 1, dilation: Lengths = 1) -> Tensor:
    """The gradient of `conv2d` in its input, for a weight (C, out / groups, kh, kw): `minigrad.conv_transpose2d`."""
    return ops.conv_transpose2d(input, weight, bias, stride, padding, output_padding, groups, dilation)


# -- along an axis ---------------------------------------------------------------------------------------------------


def softmax(input: TensorLike, dim: int, *, dtype: DTypeLike | None = None) -> Tensor:
    """exp(x) / sum(exp(x)) along `dim`: `minigrad.softmax`, of x converted to `dtype` if there is one."""
    return ops.softmax(input if dtype is None else ops.astype(input, dtype), axis=dim)


def log_softmax(input: TensorLike, dim: int, *, dtype: DTypeLike | None = None) -> Tensor:
    """x - log(sum(exp(x))) along `dim`: `minigrad.log_softmax`, of x converted to `dtype` if there is one."""
    return ops.log_softmax(input if dtype is None else ops.astype(input, dtype), axis=dim)


def gumbel_softmax(logits: TensorLike, tau: float = 1.0, hard: bool = False, *, dim: int = -1) -> Tensor:
    """A draw of a class along `dim`, with a gradient: `minigrad.gumbel_softmax`."""
    return ops.gumbel_softmax(logits, tau, hard, axis=dim)


def glu(input: TensorLike, dim: int = -1) -> Tensor:
    """The first half along `dim` times the sigmoid of the second: `minigrad.glu`."""
    return ops.glu(input, axis=dim)


def one_hot(input: TensorLike, num_classes: int = -1) -> Tensor:
    """(..., num_classes), int64: 1 at each index, 0 elsewhere: `minigrad.one_hot`. -1: one class more than the largest index."""
    input = as_tensor(input)
    if isinstance(num_classes, int) and num_classes == -1 and input.size and input.dtype.kind in "iu":
        num_classes = int(ops.max(input).item()) + 1
    return ops.one_hot(input, num_classes, dtype="int64")


@fused.halves_in_float32(1)
def normalize(input: TensorLike, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """x / max(|x|_p, eps), the norm along `dim`; of p = 2 `minigrad.l2_normalize`."""
    p = p if isinstance(p, float) and np.isinf(p) else geometry.constant("normalize", "p", p)
    if p == 2:
        return ops.l2_normalize(input, axis=dim, eps=eps)
    return input / ops.maximum(ops.norm(input, ord=p, axis=dim, keepdims=True), geometry.real("normalize", "eps", eps, 0))


def cosine_similarity(x1: TensorLike, x2: TensorLike, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The cosine of the angle along `dim`: `minigrad.cosine_similarity`."""
    return ops.cosine_similarity(x1, x2, axis=dim, eps=eps)


def pairwise_distance(x1: TensorLike, x2: TensorLike, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """|x1 - x2 + eps|_p along the last axis, p from 0 to infinity; x1 and x2 broadcast. Of all pairs: `minigrad.cdist`."""
    p, eps = geometry.order("pairwise_distance", p), geometry.real("pairwise_distance", "eps", eps, 0)
    return ops.norm(ops.subtract(_as_float(x1), x2) + eps, p, -1, _flag("pairwise_distance", "keepdim", keepdim))


def embedding(input: TensorLike, weight: TensorLike, padding_idx: int | None = None) -> Tensor:
    """weight[input]: for each index its row: `minigrad.embedding`."""
    return ops.embedding(input, weight, padding_idx=padding_idx)


def pad(input: TensorLike, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Elements added to the last axes: `minigrad.pad`.

    Args:
        pad: (before, after) of the last axis, then of the one before it, and so on.
        mode: "constant", "reflect", "replicate" or "circular"; what is wider than the axis goes on as in `numpy.pad`.
        value: of what is added with "constant"; 0 if None.

    Raises:
        ValueError: `pad` is no list of pairs of whole numbers from 0, or has more pairs than there are axes; or an unknown mode.
    """
    modes = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    geometry.one_of("pad", "mode", mode, tuple(modes))
    input = as_tensor(input)
    lengths = geometry.several(pad)
    pad = [geometry.whole("pad", "pad", n, 0) for n in ((pad,) if lengths is None else lengths)]
    if len(pad) % 2 or len(pad) > 2 * input.ndim:
        raise ValueError(f"pad: pairs of numbers, before and after, of at most {input.ndim} axes wanted, got {pad}")
    pairs = list(zip(pad[::2], pad[1::2]))
    widths = [(0, 0)] * (input.ndim - len(pairs)) + pairs[::-1]
    value = 0 if value is None else value
    if mode != "constant" and (np.ndim(value) or value != 0):
        raise ValueError(f"pad: a value is for mode 'constant', not {mode!r}, which repeats elements")
    if not widths:
        return input
    return ops.pad(input, widths, **({"constant_values": value} if mode == "constant" else {"mode": modes[mode]}))


def grid_sample(input: TensorLike, grid: TensorLike, mode: str = "bilinear", padding_mode: str = "zeros",
                align_corners: bool | None = False) -> Tensor:
    """Images (N, C, H, W) read at the points of a grid (N, H', W', 2): `minigrad.grid_sample`."""
    return ops.grid_sample(input, grid, padding_mode, align_corners, mode=mode)


# -- attention -------------------------------------------------------------------------------------------------------


def scaled_dot_product_attention(query: TensorLike, key: TensorLike, value: TensorLike, attn_mask: TensorLike | None = None,
                                 dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None,
                                 enable_gqa: bool = False) -> Tensor:
    """softmax(scale q k^T + mask) v: `minigrad.scaled_dot_product_attention`.

    Args:
        dropout_p: the probability with which a weight is set to 0, in evaluation too: pass 0 there.
    """
    settings = dict(attn_mask=attn_mask, is_causal=is_causal, scale=scale, enable_gqa=enable_gqa)
    if not (dropout_p := geometry.constant("scaled_dot_product_attention", "dropout_p", dropout_p, 0, 1)):
        return ops.scaled_dot_product_attention(query, key, value, **settings)
    _, weights = ops.scaled_dot_product_attention(query, key, value, return_weights=True, **settings)
    value = value if not enable_gqa else ops.repeat(value, weights.shape[-3] // value.shape[-3], value.ndim - 3)
    return ops.matmul(dropout(weights, dropout_p), value)


# -- losses ----------------------------------------------------------------------------------------------------------


def cross_entropy(input: TensorLike, target: TensorLike, weight: TensorLike | None = None, *, ignore_index: int = -100,
                  reduction: str = "mean", label_smoothing: float = 0.0) -> Tensor:
    """-log softmax(input)[target], each class counting by its weight: `minigrad.cross_entropy`.

    Args:
        input: (N, classes), unnormalised log-probabilities; or (N, classes, ...), or (classes,).
        target: integer labels, of input's shape without the classes; or probabilities, floating point and of input's shape.
        weight: (classes,). The mean of labels is then sum(w[label] loss) / sum(w[label]).

    Raises:
        ValueError: shapes do not fit, a label is out of range, or an unknown reduction.
    """
    label_smoothing = geometry.real("cross_entropy", "label_smoothing", label_smoothing, 0, 1)
    settings = dict(label_smoothing=label_smoothing, ignore_index=ignore_index)
    if weight is None:
        return ops.cross_entropy(input, target, reduction=reduction, **settings)
    geometry.one_of("cross_entropy", "reduction", reduction, ("mean", "sum", "none"))
    input, weight, target = as_tensor(input), as_tensor(weight), as_tensor(target)
    axis = min(1, input.ndim - 1)
    if not input.ndim or weight.shape != input.shape[axis:axis + 1]:
        raise ValueError(f"cross_entropy: one weight for each class wanted for an input {input.shape}, got {weight.shape}")
    classes = weight.reshape((-1,) + (1,) * (input.ndim - axis - 1))  # along the axis of the classes
    if backend.is_float(target.dtype):
        spread = (1 - label_smoothing) * loss.check_probabilities(input, target) + label_smoothing / len(weight)
        losses = ops.cross_entropy(input, spread * classes, ignore_index=ignore_index, reduction="none")
        total = losses.size
    else:
        losses = ops.cross_entropy(input, target, ignore_index=ignore_index, reduction="none")
        counted = target != ignore_index
        weights = ops.where(counted, weight[ops.where(counted, target, 0)], 0)
        losses, total = losses * weights, fused.upcast(weights).sum()
        if loss.is_some(label_smoothing):
            of_all = ops.cross_entropy(input, classes.broadcast_to(input.shape), reduction="none")
            losses = (1 - label_smoothing) * losses + label_smoothing / len(weight) * ops.where(counted, of_all, 0)
    if reduction != "mean":
        return losses if reduction == "none" else losses.sum()
    with np.errstate(invalid="ignore", divide="ignore"):  # a mean over no rows is NaN
        return fused.rounded_like(fused.upcast(losses).sum() / total, losses)
