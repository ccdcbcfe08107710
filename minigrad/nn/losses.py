"""Losses as modules: `nn.CrossEntropyLoss()(logits, labels)`. Names and arguments are PyTorch's; see `functional`.

`reduction` is "mean", "sum" or "none". Settings are checked when a loss is made: ValueError.
"""
import numpy as np

from ..ops.geometry import divisor, one_of, order, real, whole
from ..tensor import Tensor, TensorLike, asarray, flag
from . import functional as F
from .module import Module


class _Loss(Module):
    """What losses have in common."""

    reductions = ("mean", "sum", "none")

    def __init__(self, *, reduction: str = "mean"):
        self.reduction = one_of(self._name, "reduction", reduction, self.reductions)

    @property
    def _name(self):
        return type(self).__name__

    def _weights(self, argument, values):
        """A buffer, so that it moves with the module; None stays None."""
        values = asarray(values)
        if isinstance(values, (int, float, list, tuple)):
            try:
                return np.asarray(values, np.float32)
            except (TypeError, ValueError):
                values = np.asarray(values, object)
        if values is not None and getattr(getattr(values, "dtype", None), "kind", "O") in "OSUMmc":
            raise ValueError(f"{self._name}: {argument} must be numbers, not {values!r}")
        return values


class CrossEntropyLoss(_Loss):
    """-log softmax(input)[target].

    Args:
        weight: (classes,), how much each class counts.
        ignore_index: rows with this label give 0 and do not count in the mean.
        label_smoothing: this share of each target is spread evenly over the classes.
    """

    def __init__(self, weight: TensorLike | None = None, *, ignore_index: int = -100, reduction: str = "mean",
                 label_smoothing: float = 0.0):
        super().__init__(reduction=reduction)
        self.weight = self._weights("weight", weight)
        self.ignore_index = whole(self._name, "ignore_index", ignore_index, -2**63)
        self.label_smoothing = real(self._name, "label_smoothing", label_smoothing, 0, 1)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(input, target, self.weight, ignore_index=self.ignore_index, reduction=self.reduction,
                               label_smoothing=self.label_smoothing)


class MSELoss(_Loss):
    """(input - target)^2."""

    function = staticmethod(F.mse_loss)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return self.function(input, target, reduction=self.reduction)


class L1Loss(MSELoss):
    """|input - target|."""

    function = staticmethod(F.l1_loss)


class HuberLoss(_Loss):
    """d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2), for d = input - target."""

    def __init__(self, *, reduction: str = "mean", delta: float = 1.0):
        super().__init__(reduction=reduction)
        self.delta = divisor(self._name, "delta", real(self._name, "delta", delta, 0))

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.huber_loss(input, target, reduction=self.reduction, delta=self.delta)


class BCELoss(_Loss):
    """-t log p - (1 - t) log(1 - p) for probabilities p; `weight` multiplies the loss of each element."""

    def __init__(self, weight: TensorLike | None = None, *, reduction: str = "mean"):
        super().__init__(reduction=reduction)
        self.weight = self._weights("weight", weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy(input, target, weight=self.weight, reduction=self.reduction)


class BCEWithLogitsLoss(_Loss):
    """`BCELoss` of sigmoid(input), without overflow; `pos_weight` multiplies the term of t = 1."""

    def __init__(self, weight: TensorLike | None = None, *, reduction: str = "mean", pos_weight: TensorLike | None = None):
        super().__init__(reduction=reduction)
        self.weight, self.pos_weight = self._weights("weight", weight), self._weights("pos_weight", pos_weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(input, target, weight=self.weight, reduction=self.reduction,
                                                  pos_weight=self.pos_weight)


class KLDivLoss(_Loss):
    """target (log(target) - input) for log-probabilities `input`.

    Args:
        reduction: also "batchmean", the divergence by its definition: the sum divided by the length of the first axis.
        log_target: the target holds log-probabilities.
    """

    reductions = ("mean", "batchmean", "sum", "none")

    def __init__(self, *, reduction: str = "mean", log_target: bool = False):
        super().__init__(reduction=reduction)
        self.log_target = flag(self._name, "log_target", log_target)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.kl_div(input, target, reduction=self.reduction, log_target=self.log_target)


class SmoothL1Loss(_Loss):
    """d^2 / (2 beta) where |d| < beta, else |d| - beta / 2, for d = input - target."""

    def __init__(self, *, reduction: str = "mean", beta: float = 1.0):
        super().__init__(reduction=reduction)
        self.beta = real(self._name, "beta", beta, 0)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.smooth_l1_loss(input, target, reduction=self.reduction, beta=self.beta)


class NLLLoss(_Loss):
    """-input[target] of log-probabilities; `weight` and `ignore_index` as in `CrossEntropyLoss`."""

    def __init__(self, weight: TensorLike | None = None, *, ignore_index: int = -100, reduction: str = "mean"):
        super().__init__(reduction=reduction)
        self.weight = self._weights("weight", weight)
        self.ignore_index = whole(self._name, "ignore_index", ignore_index, -2**63)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.nll_loss(input, target, self.weight, ignore_index=self.ignore_index, reduction=self.reduction)


class TripletMarginLoss(_Loss):
    """max(|anchor - positive| - |anchor - negative| + margin, 0), with p-norms along the last axis.

    With `swap` the distance of negative and positive counts where it is smaller than that of negative and anchor.
    """

    def __init__(self, margin: float = 1.0, p: float = 2.0, eps: float = 1e-6, *, swap: bool = False, reduction: str = "mean"):
        super().__init__(reduction=reduction)
        self.margin, self.eps = real(self._name, "margin", margin), real(self._name, "eps", eps, 0)
        self.p, self.swap = order(self._name, p), flag(self._name, "swap", swap)

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        return F.triplet_margin_loss(anchor, positive, negative, self.margin, self.p, self.eps, swap=self.swap,
                                     reduction=self.reduction)


class MarginRankingLoss(_Loss):
    """max(margin - target (input1 - input2), 0), the target 1 or -1."""

    function = staticmethod(F.margin_ranking_loss)

    def __init__(self, margin: float = 0.0, *, reduction: str = "mean"):
        super().__init__(reduction=reduction)
        self.margin = real(self._name, "margin", margin)

    def forward(self, input1: Tensor, input2: Tensor, target: Tensor) -> Tensor:
        return self.function(input1, input2, target, self.margin, reduction=self.reduction)


class CosineEmbeddingLoss(MarginRankingLoss):
    """1 - cos(input1, input2) where the target is 1, max(cos(input1, input2) - margin, 0) where it is -1."""

    function = staticmethod(F.cosine_embedding_loss)


class HingeEmbeddingLoss(_Loss):
    """The input, a distance, where the target is 1, max(margin - input, 0) where it is -1."""

    def __init__(self, margin: float = 1.0, *, reduction: str = "mean"):
        super().__init__(reduction=reduction)
        self.margin = real(self._name, "margin", margin)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.hinge_embedding_loss(input, target, self.margin, reduction=self.reduction)


class GaussianNLLLoss(_Loss):
    """(log(var) + (input - target)^2 / var) / 2, the variance at least `eps`; `full` adds log(2 pi) / 2."""

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean"):
        super().__init__(reduction=reduction)
        self.full, self.eps = flag(self._name, "full", full), divisor(self._name, "eps", real(self._name, "eps", eps, 0))

    def forward(self, input: Tensor, target: Tensor, var: Tensor) -> Tensor:
        return F.gaussian_nll_loss(input, target, var, full=self.full, eps=self.eps, reduction=self.reduction)


class PoissonNLLLoss(_Loss):
    """exp(input) - target input, or with log_input=False input - target log(input + eps); `full` adds log(target!), roughly."""

    def __init__(self, log_input: bool = True, full: bool = False, *, eps: float = 1e-8, reduction: str = "mean"):
        super().__init__(reduction=reduction)
        self.log_input, self.full = flag(self._name, "log_input", log_input), flag(self._name, "full", full)
        self.eps = real(self._name, "eps", eps, 0)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.poisson_nll_loss(input, target, self.log_input, self.full, eps=self.eps, reduction=self.reduction)


class CTCLoss(_Loss):
    """-log of the probability of unaligned targets: `ctc_loss`.

    Args:
        blank: the class that stands for no label.
        zero_infinity: an infinite loss, that of a target which is too long for its input, counts as 0, with gradient 0.
    """

    def __init__(self, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False):
        super().__init__(reduction=reduction)
        self.blank, self.zero_infinity = whole(self._name, "blank", blank, 0), flag(self._name, "zero_infinity", zero_infinity)

    def forward(self, log_probs: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor) -> Tensor:
        return F.ctc_loss(log_probs, targets, input_lengths, target_lengths, self.blank, self.reduction, self.zero_infinity)
