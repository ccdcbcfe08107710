"""Losses. `reduction` is "mean" over what counts, "sum", or "none" for the loss of each sample or element."""
from __future__ import annotations

import math

import numpy as np

from ..backend import is_float, xp
from ..fused import Fused, rounded_like, upcast
from ..tensor import Tensor, TensorLike, as_tensor, asarray, flag
from .activation import softplus
from .declare import operation
from .elementwise import _as_float, abs, clip, exp, log, maximum, minimum, relu, square, where
from .geometry import divisor, one_of, order, real, speaking_as, whole
from .index import take_along
from .linalg import norm
from .normalization import cosine_similarity
from .reduce import log_softmax, mean, softmax, sum
from .shape import expand_dims, moveaxis


def _checked(name, reduction):
    return one_of(name, "reduction", reduction, ("mean", "sum", "none"))


def _reduced(name, losses, reduction, count=None):
    """The mean (over `count` of them), the sum, or the losses themselves."""
    if _checked(name, reduction) == "none":
        return losses
    if reduction == "sum":
        return sum(losses)
    return mean(losses) if count is None else rounded_like(sum(upcast(losses)) / count, losses)


def _pair(name, x, target, arguments="input and target"):
    x, target = _as_float(x), as_tensor(target)
    if x.shape != target.shape:
        raise ValueError(f"{name}: {arguments} of one shape wanted, got {x.shape} and {target.shape}")
    return x, target if is_float(target.dtype) else target.astype(x.dtype)


def _fitting(name, argument, value, x):
    """`value`, if it is None or broadcasts to the shape of x: not the other way round."""
    shape = () if value is None else as_tensor(value).shape
    if len(shape) > x.ndim or any(n not in (1, m) for n, m in zip(shape[::-1], x.shape[::-1])):
        raise ValueError(f"{name}: {argument} of shape {shape} does not broadcast to the input's, {x.shape}")
    return value


def _beside(x, value):
    """`value` as a Tensor; plain numbers where x is, and whole ones in its dtype."""
    tensor = as_tensor(value)
    if not hasattr(value, "dtype"):
        tensor = Tensor(xp(x._array).asarray(tensor._array, x.dtype))
    return tensor if is_float(tensor.dtype) else tensor.astype(x.dtype)


# -- classification --------------------------------------------------------------------------------------------------


def is_some(setting):
    """Whether it is not 0; one that learns may become so."""
    return isinstance(setting, Tensor) or setting != 0


def _cross_entropy(logits, labels, smoothing, ignored):
    """-log softmax(logits)[label] along the last axis; with smoothing e, (1 - e) of that and e of the mean over all labels."""
    skipped, axis = labels._array == ignored, logits.ndim - 1
    logp = log_softmax(where(skipped[..., None], 0, logits))
    loss = -take_along(logp, indices=xp(skipped).where(skipped, 0, labels._array)[..., None], axis=axis)[..., 0]
    if is_some(smoothing):
        loss = (1 - smoothing) * loss - smoothing * mean(logp, -1)
    return where(skipped, 0, loss)


def _cross_entropy_rule(g, wanted, logits, labels, smoothing, ignored):
    """g (softmax(x) - target), the target being e / classes and, at the label, 1 - e more."""
    module, classes = xp(logits._array), logits.shape[-1]
    right = Tensor((labels._array[..., None] == module.arange(classes)).astype(logits.dtype))
    target = (1 - smoothing) * right + smoothing / classes if is_some(smoothing) else right
    skipped = labels._array == ignored
    shares = exp(log_softmax(where(skipped[..., None], 0, logits)))
    return where(skipped, 0, g)[..., None] * (shares - target), None


_fused_cross_entropy = Fused("cross_entropy", _cross_entropy, rule=_cross_entropy_rule)


@operation
def cross_entropy(logits: TensorLike, target: TensorLike, label_smoothing: float = 0.0, ignore_index: int = -100,
                  reduction: str = "mean") -> Tensor:
    """The negative log-likelihood of the right classes, -log softmax(logits)[label].

    Args:
        logits: (N, classes), unnormalised log-probabilities; or (N, classes, ...), or (classes,).
        target: integer labels from 0 to classes - 1, of logits' shape without the classes; or probabilities, floating
            point and of logits' shape, which may get a gradient: then the loss is -sum_c target_c log softmax(logits)_c.
        label_smoothing: this share of each target is spread evenly over the classes (Szegedy et al. 2016, arXiv:1512.00567).
        ignore_index: rows with this label give 0 and get gradient 0, whatever stands in them, and do not count in the mean. If no
            row counts, the mean is NaN.
        reduction: "mean", "sum" or "none".

    Raises:
        ValueError: shapes do not fit, a label is out of range (if labels are on the GPU, its loss is NaN instead), or a label is
            to be ignored among probabilities; TypeError: the target holds bools.
    """
    logits = _as_float(logits)
    if not logits.ndim:
        raise ValueError("cross_entropy: logits need an axis of classes, got a 0-d Tensor")
    label_smoothing = real("cross_entropy", "label_smoothing", label_smoothing, 0, 1)
    ignore_index = _ignored("cross_entropy", ignore_index)
    given = asarray(as_tensor(target))
    dtype = given.dtype
    if is_float(dtype):
        target = check_probabilities(logits, target)
        if ignore_index >= 0:
            raise ValueError(f"cross_entropy: ignore_index {ignore_index} is a label, but the target holds probabilities")
        return _soft_cross_entropy(_classes_last(logits), _classes_last(target), label_smoothing, reduction)
    logits = _classes_last(logits)
    shape, classes = logits.shape[:-1], logits.shape[-1]
    if dtype.kind not in "iu":
        raise TypeError(f"cross_entropy: target: labels must be integers, not {dtype}; probabilities floating point")
    if given.shape != shape:
        raise ValueError(f"cross_entropy: labels of shape {shape} wanted for logits of {classes} classes, "
                         f"got {given.shape}")
    if xp(given) is np:
        check_labels("cross_entropy: ", given, classes, ignore_index, "logits of ")  # as they are: large uint64 is negative int64
    labels = xp(logits._array).asarray(given).astype(np.int64)
    losses = _fused_cross_entropy(logits, Tensor(labels), smoothing=label_smoothing, ignored=ignore_index)
    if _checked("cross_entropy", reduction) == "none":
        return losses
    counted = labels != ignore_index
    if xp(labels) is np and labels.size and counted.all():  # on a GPU the question would wait for all that is under way
        return _reduced("cross_entropy", losses, reduction)
    with np.errstate(invalid="ignore", divide="ignore"):  # a mean over no rows is NaN
        count = xp(labels).asarray(counted.sum(), np.promote_types(logits.dtype, np.float32))
        return _reduced("cross_entropy", losses, reduction, Tensor(count))


def _ignored(of, ignore_index):
    """`ignore_index` as a number that a label, of 64 bits, can be."""
    number = whole(of, "ignore_index", ignore_index, -2**63)
    if number >= 2**63:
        raise ValueError(f"{of}: ignore_index below 2**63 wanted, got {number}")
    return number


def check_labels(of, labels, classes, ignored, whose=""):
    """ValueError: an array holds labels other than 0 to classes - 1 and `ignored`; `of` begins the message."""
    if labels.size and not 0 <= labels.min() <= labels.max() < classes:
        present = labels[labels != ignored]
        if present.size and not 0 <= present.min() <= present.max() < classes:
            raise ValueError(f"{of}labels from 0 to {classes - 1} wanted for {whose}{classes} classes, "
                             f"got {present.min()} to {present.max()}")


def check_probabilities(logits, target):
    """The floating point target as a Tensor. ValueError if it has another shape than the logits, as labels have."""
    target = as_tensor(target)
    if target.shape != logits.shape:
        advice = ("the logits come first, then the target" if target.ndim > logits.ndim else
                  f"labels are integers: convert {target.dtype} ones with .astype('int64')")
        raise ValueError(f"cross_entropy: probabilities of the logits' shape wanted, got {target.shape} and {logits.shape}; "
                         f"{advice}")
    return target


def _classes_last(x):
    return x if x.ndim == 2 else moveaxis(x, 1 if x.ndim > 2 else 0, -1)


def _soft_cross_entropy(logits, target, smoothing, reduction):
    if is_some(smoothing):
        target = (1 - smoothing) * target + smoothing / logits.shape[-1]
    return _reduced("cross_entropy", -sum(target * log_softmax(logits), -1), reduction)


def _xlogx(p):
    """p log p, 0 at 0; below NaN."""
    positive = p > 0
    return where(p < 0, math.nan, where(positive, p * log(where(positive, p, 1)), 0))


@operation
def kl_div(input: TensorLike, target: TensorLike, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """target (log(target) - input), element by element, as `torch.nn.functional.kl_div`.

    Args:
        input: log-probabilities.
        target: probabilities, or with `log_target` their logarithms, of the same shape.
        reduction: "mean" over all elements, "batchmean" (the sum divided by the length of the first axis: the divergence
            by its definition), "sum" or "none".
    """
    input, target = _pair("kl_div", input, target)
    one_of("kl_div", "reduction", reduction, ("mean", "batchmean", "sum", "none"))
    log_target = flag("kl_div", "log_target", log_target)
    losses = exp(target) * (target - input) if log_target else _xlogx(target) - target * input
    if reduction == "batchmean":
        if not input.ndim:
            raise ValueError("kl_div: reduction 'batchmean' divides by the length of the first axis; a number has none")
        return _reduced("kl_div", losses, "mean", len(input))
    return _reduced("kl_div", losses, reduction)


@operation
def kl_divergence(p_logits: TensorLike, q_logits: TensorLike, reduction: str = "mean") -> Tensor:
    """KL(p || q) = sum_c p_c (log p_c - log q_c) with p = softmax(p_logits), q = softmax(q_logits), both (..., classes).

    The reduction is over everything but the classes. A class of p_c = 0, such as one whose logit is -inf, adds 0.
    """
    p_logits, q_logits = _pair("kl_divergence", p_logits, q_logits, "p_logits and q_logits")
    p = softmax(p_logits)
    log_p, log_q = (where(p > 0, log_softmax(z), 0) for z in (p_logits, q_logits))
    return _reduced("kl_divergence", sum(p * (log_p - log_q), -1), reduction)


def _logistic_loss(x, p, q):
    return p * softplus(-x) + q * softplus(x)


_fused_logistic_loss = Fused("binary_cross_entropy_with_logits", _logistic_loss)


@operation
def binary_cross_entropy_with_logits(input: TensorLike, target: TensorLike, weight: TensorLike | None = None,
                                     reduction: str = "mean", pos_weight: TensorLike | None = None) -> Tensor:
    """-t log s(x) - (1 - t) log(1 - s(x)), s the sigmoid, without overflow: t softplus(-x) + (1 - t) softplus(x).

    Args:
        input: logits of any shape.
        target: between 0 and 1, of the same shape.
        weight: multiplies the loss of each element; broadcasts to the input's shape.
        pos_weight: multiplies the first term; broadcasts to the input's shape.

    Raises:
        ValueError: shapes do not fit.
    """
    x, t = _pair("binary_cross_entropy_with_logits", input, target)
    weight = _fitting("binary_cross_entropy_with_logits", "weight", weight, x)
    pos_weight = _fitting("binary_cross_entropy_with_logits", "pos_weight", pos_weight, x)
    positive = t if pos_weight is None else t * pos_weight
    losses = _fused_logistic_loss(x, positive, 1 - t)
    return _reduced("binary_cross_entropy_with_logits", losses if weight is None else losses * weight, reduction)


@operation
def binary_cross_entropy(input: TensorLike, target: TensorLike, weight: TensorLike | None = None,
                         reduction: str = "mean") -> Tensor:
    """-t log p - (1 - t) log(1 - p) for probabilities p; logarithms are at least -100, with slope 0 there. NaN stays NaN.

    Args:
        input: probabilities, of any shape.
        target: between 0 and 1, of the same shape.
        weight: multiplies the loss of each element; broadcasts to the input's shape.

    Raises:
        ValueError: shapes do not fit; on the CPU also if the input is not within 0 and 1.
    """
    p, t = _pair("binary_cross_entropy", input, target)
    weight = _fitting("binary_cross_entropy", "weight", weight, p)
    if xp(p._array) is np and ((p._array < 0) | (p._array > 1)).any():
        raise ValueError(f"binary_cross_entropy: probabilities from 0 to 1 wanted, got {np.nanmin(p._array):g} to "
                         f"{np.nanmax(p._array):g}; for logits there is binary_cross_entropy_with_logits")
    losses = -t * _log_from(p) - (1 - t) * _log_from(1 - p)
    return _reduced("binary_cross_entropy", losses if weight is None else losses * weight, reduction)


def _log_from(p):
    """max(log(p), -100) without a division by 0 in the gradient."""
    none = p <= 0
    return where(none, -100, maximum(log(where(none, 1, p)), -100))


@operation
def hinge_embedding_loss(input: TensorLike, target: TensorLike, margin: float = 1.0, *, reduction: str = "mean") -> Tensor:
    """The distance `input` where the target is 1, max(margin - input, 0) where it is -1.

    Args:
        target: 1 or -1; broadcasts to the input's shape.

    Raises:
        ValueError: shapes do not fit; on the CPU also if the target holds other numbers.
    """
    x, margin = _as_float(input), real("hinge_embedding_loss", "margin", margin)
    same = _same("hinge_embedding_loss", target, x)
    return _reduced("hinge_embedding_loss", where(same, x, relu(margin - x)), reduction)


@operation
def cosine_embedding_loss(input1: TensorLike, input2: TensorLike, target: TensorLike, margin: float = 0.0, *,
                          reduction: str = "mean") -> Tensor:
    """1 - c where the target is 1, max(c - margin, 0) where it is -1, for c = `cosine_similarity` of both along the last axis.

    Args:
        input1, input2: (..., width), of one shape.
        target: 1 or -1; broadcasts to (...).

    Raises:
        ValueError: shapes do not fit; on the CPU also if the target holds other numbers.
    """
    margin = real("cosine_embedding_loss", "margin", margin)
    with speaking_as("cosine_embedding_loss"):
        cosine = cosine_similarity(*_pair("cosine_embedding_loss", input1, input2, "input1 and input2"))
    same = _same("cosine_embedding_loss", target, cosine)
    return _reduced("cosine_embedding_loss", where(same, 1 - cosine, relu(cosine - margin)), reduction)


def _same(name, target, x):
    """Where the target, which broadcasts to x, is 1 and not -1."""
    target = _fitting(name, "target", _beside(x, target), x)
    if xp(target._array) is np and not ((target._array == 1) | (target._array == -1)).all():
        raise ValueError(f"{name}: a target of 1 and -1 wanted, got {np.unique(target._array)}")
    return target == 1


@operation
def margin_ranking_loss(input1: TensorLike, input2: TensorLike, target: TensorLike, margin: float = 0.0, *,
                        reduction: str = "mean") -> Tensor:
    """max(margin - target (input1 - input2), 0): input1 is to be larger where the target is 1, input2 where it is -1.

    Its slope at 0 is 0.

    Args:
        input1, input2: of one shape.
        target: broadcasts to that shape.

    Raises:
        ValueError: shapes do not fit.
    """
    margin = real("margin_ranking_loss", "margin", margin)
    x1, x2 = _pair("margin_ranking_loss", input1, input2, "input1 and input2")
    target = _fitting("margin_ranking_loss", "target", _beside(x1, target), x1)
    return _reduced("margin_ranking_loss", relu(margin - target * (x1 - x2)), reduction)


# -- regression ------------------------------------------------------------------------------------------------------


def _rounded(x, target, width):
    """|d| - width / 2, and d^2 / (2 width) within the width, for d = x - target. The limit's slope hides an infinite d from the
    gradient."""
    d = x - target
    with np.errstate(over="ignore"):  # what overflows lies outside
        within = clip(d / width, -1, 1)
    return within * (d - 0.5 * width * within)


_fused_rounded_distance = Fused("rounded_distance", _rounded)


def _distance(x, target, width):
    return square(x - target) if width is None else _fused_rounded_distance(x, target, width=width)


_fused_mean_distance = Fused("mean_distance", lambda x, target, width: mean(_distance(x, target, width)))


def _reduced_distance(name, x, target, reduction, width=None):
    """The squares of the distances, or with a width these rounded, as far as `reduction` leaves them."""
    if _checked(name, reduction) == "mean":
        return _fused_mean_distance(x, target, width=width)
    return _reduced(name, _distance(x, target, width), reduction)


@operation
def mse_loss(input: TensorLike, target: TensorLike, reduction: str = "mean") -> Tensor:
    """(input - target)^2, element by element."""
    return _reduced_distance("mse_loss", *_pair("mse_loss", input, target), reduction)


@operation
def l1_loss(input: TensorLike, target: TensorLike, reduction: str = "mean") -> Tensor:
    """|input - target|, element by element; its slope at 0 is 0."""
    x, target = _pair("l1_loss", input, target)
    return _reduced("l1_loss", abs(x - target), reduction)


@operation
def huber_loss(input: TensorLike, target: TensorLike, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2), for d = input - target (Huber 1964)."""
    delta = real("huber_loss", "delta", delta, 0)
    x, target = _pair("huber_loss", input, target)
    if delta == 0 or not isinstance(delta, Tensor) and x.dtype.type(delta) == 0:
        raise ValueError(f"huber_loss: delta must be positive, not {delta}, which is 0 in {x.dtype}")
    loss = _reduced_distance("huber_loss", x, target, reduction, delta)
    return loss if type(delta) is float and delta == 1 else delta * loss


@operation
def smooth_l1_loss(input: TensorLike, target: TensorLike, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """d^2 / (2 beta) where |d| < beta, else |d| - beta / 2, for d = input - target (Girshick 2015)."""
    beta, reduction = real("smooth_l1_loss", "beta", beta, 0), _checked("smooth_l1_loss", reduction)
    x, target = _pair("smooth_l1_loss", input, target)
    if not isinstance(beta, Tensor) and x.dtype.type(beta) == 0:
        return l1_loss(x, target, reduction)
    if not isinstance(beta, Tensor):
        return _reduced_distance("smooth_l1_loss", x, target, reduction, beta)
    rounded = _fused_rounded_distance(x, target, width=where(beta > 0, beta, 1))
    losses = where(beta > 0, rounded, abs(x - target) - 0.5 * beta)
    return _reduced("smooth_l1_loss", losses, reduction)


@operation
def nll_loss(input: TensorLike, target: TensorLike, weight: TensorLike | None = None, *, ignore_index: int = -100,
             reduction: str = "mean") -> Tensor:
    """-weight[label] input[label] of log-probabilities (N, classes, ...) or (classes,) and integer labels.

    Args:
        weight: (classes,). The mean is then sum(-w[label] log p[label]) / sum(w[label]).
        ignore_index: rows with this label give 0 and do not count in the mean.

    Raises:
        TypeError: labels that are not integers; ValueError: shapes do not fit, or a label is out of range.
    """
    logp, target = _as_float(input), as_tensor(target)
    ignore_index = _ignored("nll_loss", ignore_index)
    if not logp.ndim:
        raise ValueError("nll_loss: log-probabilities need an axis of classes, got a 0-d Tensor")
    axis = 1 if logp.ndim > 1 else 0
    shape, classes = logp.shape[:axis] + logp.shape[axis + 1:], logp.shape[axis]
    if target.dtype.kind not in "iu":
        raise TypeError(f"nll_loss: target: labels must be integers, not {target.dtype}: convert them with .astype('int64')")
    if target.shape != shape:
        raise ValueError(f"nll_loss: labels of shape {shape} wanted for {classes} classes, got {target.shape}")
    check_labels("nll_loss: ", target._array, classes, ignore_index)
    counted = target._array != ignore_index
    every = target.size and counted.all()
    labels = (target._array if every else xp(counted).where(counted, target._array, 0)).astype(np.int64)
    losses = -take_along(logp, indices=xp(labels).expand_dims(labels, axis), axis=axis).reshape(shape)
    if weight is None and every:
        return _reduced("nll_loss", losses, reduction)
    if weight is None:
        weights = Tensor(counted.astype(logp.dtype))
    else:
        weight = as_tensor(weight)
        if weight.shape != (classes,):
            raise ValueError(f"nll_loss: one weight for each of {classes} classes wanted, got shape {weight.shape}")
        weights = where(Tensor(counted), weight[labels], 0)
        losses = losses * weights
    losses = where(Tensor(counted), losses, 0)
    with np.errstate(invalid="ignore", divide="ignore"):  # a mean over no rows is NaN
        return _reduced("nll_loss", losses, reduction, sum(upcast(weights)))


@operation
def triplet_margin_loss(anchor: TensorLike, positive: TensorLike, negative: TensorLike, margin: float = 1.0, p: float = 2.0,
                        eps: float = 1e-6, *, swap: bool = False, reduction: str = "mean") -> Tensor:
    """max(|a - p + eps| - |a - n + eps| + margin, 0) with p-norms along the last axis (FaceNet, arXiv:1503.03832).

    With `swap` |p - n + eps| takes the place of |a - n + eps| where it is smaller (V. Balntas et al. 2016, "Learning local
    feature descriptors with triplets and shallow convolutional neural networks").
    """
    margin, eps = real("triplet_margin_loss", "margin", margin), real("triplet_margin_loss", "eps", eps, 0)
    p = order("triplet_margin_loss", p)
    anchor, positive = _pair("triplet_margin_loss", anchor, positive, "anchor and positive")
    anchor, negative = _pair("triplet_margin_loss", anchor, negative, "anchor and negative")
    if not anchor.ndim:
        raise ValueError("triplet_margin_loss: anchor must have an axis for the norm, such as (N, D); a number has none")
    near, far = (norm(anchor - other + eps, ord=p, axis=-1) for other in (positive, negative))
    if flag("triplet_margin_loss", "swap", swap):
        far = minimum(far, norm(positive - negative + eps, ord=p, axis=-1))
    return _reduced("triplet_margin_loss", relu(near - far + margin), reduction)


@operation
def gaussian_nll_loss(input: TensorLike, target: TensorLike, var: TensorLike, full: bool = False, eps: float = 1e-6,
                      reduction: str = "mean") -> Tensor:
    """-log of the normal density of the target: (log(v) + (input - target)^2 / v) / 2 with v = max(var, eps).

    Nix and Weigend 1994. The slope at var is that at v, below eps too, so that a variance that is too small can grow.

    Args:
        input: the means, of any shape.
        target: of the same shape.
        var: the variances, not negative: of the input's shape, or with 1 in place of axes, or without the last; or a number.
        full: with log(2 pi) / 2.

    Raises:
        ValueError: shapes do not fit; `eps` is not above 0; on the CPU also if a variance is negative.
    """
    eps = divisor("gaussian_nll_loss", "eps", real("gaussian_nll_loss", "eps", eps, 0))
    x, target = _pair("gaussian_nll_loss", input, target)
    var = _beside(x, var)
    if x.ndim and var.shape == x.shape[:-1]:
        var = expand_dims(var, -1)
    _fitting("gaussian_nll_loss", "var", var, x)
    if var.ndim not in (0, x.ndim):
        raise ValueError(f"gaussian_nll_loss: var of the input's shape {x.shape}, or that without the last axis, wanted, got "
                         f"{var.shape}")
    if xp(var._array) is np and (var._array < 0).any():
        raise ValueError(f"gaussian_nll_loss: var holds negative numbers, down to {np.nanmin(var._array):g}")
    v = where(var < eps, eps + (var - var.detach()), var)
    losses = 0.5 * (log(v) + square(x - target) / v)
    if flag("gaussian_nll_loss", "full", full):
        losses = losses + 0.5 * math.log(2 * math.pi)
    return _reduced("gaussian_nll_loss", losses, reduction)


@operation
def poisson_nll_loss(input: TensorLike, target: TensorLike, log_input: bool = True, full: bool = False, *, eps: float = 1e-8,
                     reduction: str = "mean") -> Tensor:
    """-log of the Poisson probability of the target t, without log(t!): exp(input) - t input.

    Args:
        input: logarithms of the means; with log_input=False the means m themselves: m - t log(m + eps).
        target: of the same shape.
        full: with log(t!) by Stirling's formula, t log(t) - t + log(2 pi t) / 2, where t > 1.

    Raises:
        ValueError: shapes do not fit, or `eps` is negative.
    """
    eps = real("poisson_nll_loss", "eps", eps, 0)
    x, t = _pair("poisson_nll_loss", input, target)
    losses = exp(x) - t * x if flag("poisson_nll_loss", "log_input", log_input) else x - t * log(x + eps)
    if flag("poisson_nll_loss", "full", full):
        many = t > 1
        t = where(many, t, 1)
        losses = losses + where(many, t * log(t) - t + 0.5 * log(2 * math.pi * t), 0)
    return _reduced("poisson_nll_loss", losses, reduction)
