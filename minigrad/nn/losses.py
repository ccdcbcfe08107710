"""Losses as modules: `nn.CrossEntropyLoss()(logits, labels)`. Names and arguments are PyTorch's; see `functional`.

`reduction` is "mean", "sum" or "none".
"""
import numpy as np

from ..tensor import Tensor, TensorLike, asarray
from . import functional as F
from .module import Module


def _weights(values):
    """A buffer, so that it moves with the module; None stays None."""
    values = asarray(values)
    return np.asarray(values, np.float32) if isinstance(values, (int, float, list, tuple)) else values


class CrossEntropyLoss(Module):
    """-log softmax(input)[target].

    Args:
        weight: (classes,), how much each class counts.
        ignore_index: rows with this label give 0 and do not count in the mean.
        label_smoothing: this share of each target is spread evenly over the classes.
    """

    def __init__(self, weight: TensorLike | None = None, *, ignore_index: int = -100, reduction: str = "mean",
                 label_smoothing: float = 0.0):
        self.weight, self.ignore_index = _weights(weight), ignore_index
        self.reduction, self.label_smoothing = reduction, label_smoothing

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(input, target, self.weight, ignore_index=self.ignore_index, reduction=self.reduction,
                               label_smoothing=self.label_smoothing)


class MSELoss(Module):
    """(input - target)^2."""

    function = staticmethod(F.mse_loss)

    def __init__(self, *, reduction: str = "mean"):
        self.reduction = reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return self.function(input, target, reduction=self.reduction)


class L1Loss(MSELoss):
    """|input - target|."""

    function = staticmethod(F.l1_loss)


class HuberLoss(Module):
    """d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2), for d = input - target."""

    def __init__(self, *, reduction: str = "mean", delta: float = 1.0):
        self.reduction, self.delta = reduction, delta

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.huber_loss(input, target, reduction=self.reduction, delta=self.delta)


class BCELoss(Module):
    """-t log p - (1 - t) log(1 - p) for probabilities p; `weight` multiplies the loss of each element."""

    def __init__(self, weight: TensorLike | None = None, *, reduction: str = "mean"):
        self.weight, self.reduction = _weights(weight), reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy(input, target, weight=self.weight, reduction=self.reduction)


class BCEWithLogitsLoss(Module):
    """`BCELoss` of sigmoid(input), without overflow; `pos_weight` multiplies the term of t = 1."""

    def __init__(self, weight: TensorLike | None = None, *, reduction: str = "mean", pos_weight: TensorLike | None = None):
        self.weight, self.reduction, self.pos_weight = _weights(weight), reduction, _weights(pos_weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(input, target, weight=self.weight, reduction=self.reduction,
                                                  pos_weight=self.pos_weight)


class KLDivLoss(Module):
    """target (log(target) - input) for log-probabilities `input`.

    Args:
        reduction: also "batchmean", the divergence by its definition: the sum divided by the length of the first axis.
        log_target: the target holds log-probabilities.
    """

    def __init__(self, *, reduction: str = "mean", log_target: bool = False):
        self.reduction, self.log_target = reduction, log_target

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.kl_div(input, target, reduction=self.reduction, log_target=self.log_target)


class SmoothL1Loss(Module):
    """d^2 / (2 beta) where |d| < beta, else |d| - beta / 2, for d = input - target."""

    def __init__(self, *, reduction: str = "mean", beta: float = 1.0):
        self.reduction, self.beta = reduction, beta

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.smooth_l1_loss(input, target, reduction=self.reduction, beta=self.beta)


class NLLLoss(Module):
    """-input[target] of log-probabilities; `weight` and `ignore_index` as in `CrossEntropyLoss`."""

    def __init__(self, weight: TensorLike | None = None, *, ignore_index: int = -100, reduction: str = "mean"):
        self.weight, self.ignore_index, self.reduction = _weights(weight), ignore_index, reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.nll_loss(input, target, self.weight, ignore_index=self.ignore_index, reduction=self.reduction)


class TripletMarginLoss(Module):
    """max(|anchor - positive| - |anchor - negative| + margin, 0), with p-norms along the last axis."""

    def __init__(self, margin: float = 1.0, p: float = 2.0, eps: float = 1e-6, *, reduction: str = "mean"):
        self.margin, self.p, self.eps, self.reduction = margin, p, eps, reduction

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        return F.triplet_margin_loss(anchor, positive, negative, self.margin, self.p, self.eps, reduction=self.reduction)
