"""Kernels that reduce along rows: softmax, cross-entropy, layer norm, RMS norm. A block of threads works on one row.

Arrays are on the GPU, in C order, of one of `launch.ITEMS`. Of 16 bits, statistics (lse, mean, inv_std, inv_rms)
and the gradients of weights are float32.
"""
from .. import xp
from .elementwise import blocks, chunks, column_sum, whole_warps
from .launch import computed, empty, empty_like, in_any_order, launch


@in_any_order
def softmax(x, logarithm=False):
    """exp(x) / sum(exp(x)) along the last axis, or its logarithm. A row of -inf only gives zeros (logarithm: NaN).

    `x` has at least one axis.
    """
    y, columns = empty_like(x), x.shape[-1]
    launch("softmax", "softmax_forward", x.size // max(columns, 1), whole_warps(columns), x, y, columns, logarithm)
    return y


@in_any_order
def softmax_backward(g, y, logarithm=False):
    """The gradient of `softmax` in x, for its output y."""
    dx, columns = empty_like(y), y.shape[-1]
    launch("softmax", "softmax_backward", y.size // max(columns, 1), whole_warps(columns), g, y, dx, columns, logarithm)
    return dx


@in_any_order
def cross_entropy(logits, labels, smoothing=0.0, ignored=-100):
    """The cross-entropy of each row, 0 where its label is `ignored`, NaN where that is no class.

    Args:
        logits: (..., classes).
        labels: (...) int64.
        smoothing: the share of each target that is spread evenly over all classes.

    Returns:
        losses (...), and lse (2, rows), the log-sum-exp of each row in two parts, its largest number and the rest; of 16 bits in
        float32.
    """
    rows, classes, dtype = labels.size, logits.shape[-1], logits.dtype
    losses, lse = empty(labels.shape, dtype), empty((2, rows), computed(dtype))
    launch("softmax", "cross_entropy_forward", rows, whole_warps(classes), logits, labels, losses, lse, classes, smoothing,
           ignored)
    return losses, lse


@in_any_order
def cross_entropy_backward(g, logits, labels, lse, smoothing=0.0, ignored=-100):
    """The gradient of `cross_entropy` in the logits, for the gradient `g`, (...), of the losses."""
    dx, rows, classes = empty_like(logits), labels.size, logits.shape[-1]
    launch("softmax", "cross_entropy_backward", rows, whole_warps(classes), g, logits, labels, lse, dx, classes, smoothing,
           ignored)
    return dx


@in_any_order
def layer_norm(x, weight=None, bias=None, eps=1e-5):
    """weight * (x - mean) / sqrt(var + eps) + bias along the last axis.

    Args:
        x: (..., C).
        weight, bias: (C,) or None.

    Returns:
        y like x; mean and inv_std (rows,), rows being all axes but the last.
    """
    return _normalise(x, weight, bias, eps, True)


@in_any_order
def layer_norm_backward(g, x, weight, mean, inv_std):
    """The gradients of `layer_norm` in x, weight and bias; those of weight and bias also if they were None."""
    return _normalise_backward(g, x, weight, mean, inv_std, True)


@in_any_order
def rms_norm(x, weight=None, eps=1e-6):
    """weight * x / sqrt(mean of x**2 + eps) along the last axis; y like x, inv_rms (rows,)."""
    y, _, inv_rms = _normalise(x, weight, None, eps, False)
    return y, inv_rms


@in_any_order
def rms_norm_backward(g, x, weight, inv_rms):
    """The gradients of `rms_norm` in x and weight."""
    return _normalise_backward(g, x, weight, xp(x).zeros_like(inv_rms), inv_rms, False)[:2]


def _normalise(x, weight, bias, eps, centre):
    columns = x.shape[-1]
    rows, dtype = x.size // max(columns, 1), computed(x.dtype)
    y, mean, inv_std = empty_like(x), empty((rows,), dtype), empty((rows,), dtype)
    launch("layer_norm", "layer_norm_forward", rows, whole_warps(columns), x, weight, bias, y, mean, inv_std, columns, eps,
           centre)
    return y, mean, inv_std


def _normalise_backward(g, x, weight, mean, inv_std, centre):
    dx, rows, columns = empty_like(x), mean.size, x.shape[-1]
    launch("layer_norm", "layer_norm_backward", rows, whole_warps(columns), g, x, weight, mean, inv_std, dx, columns, centre)
    count, per_chunk = chunks(rows)
    dw, db = empty((count, columns), mean.dtype), empty((count, columns), mean.dtype)
    launch("layer_norm", "layer_norm_affine_backward", (blocks(columns, 32), count), (32, 8), g, x, mean, inv_std, dw, db,
           rows, columns, per_chunk)
    return dx, column_sum(dw), column_sum(db)
