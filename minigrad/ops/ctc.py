"""The loss of unaligned sequences: connectionist temporal classification."""
from __future__ import annotations

import math

import numpy as np

from ..backend import xp
from ..fused import Fused, rounded_like, upcast
from ..tensor import Tensor, TensorLike, asarray, flag
from .declare import operation
from .elementwise import _as_float, where
from .geometry import whole
from .index import take_along_axis
from .loss import _checked, _reduced
from .reduce import logsumexp
from .shape import concatenate


def _ctc(log_probs, spaced, input_lengths, target_lengths, blank):
    """The losses (N,) for the blanks and targets in turn, l (N, 2 S + 1)."""
    l, input_lengths, target_lengths = spaced._array, input_lengths._array, target_lengths._array
    module, (times, n, _) = xp(l), log_probs.shape
    ways, rows = _ways(l, blank, module), module.arange(n)[:, None]
    counts = (module.arange(times)[:, None] < input_lengths)[:, :, None]

    log_p = where(counts, take_along_axis(log_probs, l[None], 2), 0)  # of l, (T, N, 2 S + 1)
    never = Tensor(module.full((n, 2), -math.inf, log_p.dtype))
    start = module.full(l.shape, -math.inf, log_p.dtype)
    start[:, :1] = 0  # before the first time, from where a blank and the first label are reached
    a = Tensor(start)
    for log_p_t, counts_t in zip(log_p, counts):
        before = concatenate([never, a], 1)
        a = where(counts_t, log_p_t + logsumexp(before[rows, ways], 0), a)
    ends = 2 * target_lengths[:, None] + module.arange(1, 3)
    return -logsumexp(concatenate([never, a], 1)[rows, ends], 1)


_fused_ctc = Fused("ctc_loss", _ctc)


@operation
def ctc_loss(log_probs: TensorLike, targets: TensorLike, input_lengths: TensorLike, target_lengths: TensorLike, blank: int = 0,
             reduction: str = "mean", zero_infinity: bool = False) -> Tensor:
    """-log of the probability of the targets, summed over all their alignments (Graves et al. 2006, ICML).

    An alignment has a label or a blank at each time; without repetitions, and then without blanks, it is the target. With
    l = (blank, target 1, blank, target 2, ..., blank), a[t, s] = log p(all alignments of l[:s + 1] with the times up to t) is

        a[t, s] = log_probs[t, l[s]] + logsumexp(a[t - 1, s], a[t - 1, s - 1], a[t - 1, s - 2])

    the last term only where l[s] is no blank and differs from l[s - 2]; the probability is that of the last two s.

    Args:
        log_probs: (T, N, classes), logarithms of probabilities, as of `log_softmax`; or (T, classes) of one sequence.
        targets: whole numbers without the blank, (N, S), or all one after the other in one axis; of one sequence (S,).
        input_lengths: (N,), how many of the T times count; of one sequence a number.
        target_lengths: (N,), how many of the targets count.
        blank: the class that stands for no label.
        reduction: "mean" of the losses divided by the lengths of their targets, "sum" or "none".
        zero_infinity: an infinite loss, that of a target which is too long for its input, counts as 0, with gradient 0.

    Raises:
        TypeError: targets or lengths that are no whole numbers; ValueError: shapes do not fit, or a number is out of its range.
    """
    reduction = _checked("ctc_loss", reduction)
    log_probs, zero_infinity = _as_float(log_probs), flag("ctc_loss", "zero_infinity", zero_infinity)
    module = xp(log_probs._array)
    targets = _whole_numbers("targets", targets, module)
    if log_probs.ndim not in (2, 3) or targets.ndim not in (1, 2):
        raise ValueError("ctc_loss: log_probs (T, N, classes) and targets (N, S), or of one sequence (T, classes) and (S,), "
                         f"wanted, got shapes {log_probs.shape} and {targets.shape}")
    if log_probs.ndim == 2:
        targets = targets if targets.ndim == 2 else targets[None]
        losses = ctc_loss(log_probs[:, None], targets, input_lengths, target_lengths, blank, reduction, zero_infinity)
        return losses[0] if reduction == "none" else losses
    times, n, classes = log_probs.shape
    blank = whole("ctc_loss", "blank", blank, 0)
    if blank >= classes:
        raise ValueError(f"ctc_loss: blank {blank} is none of {classes} classes")
    input_lengths = _lengths("input_lengths", input_lengths, n, times, module)
    target_lengths = _lengths("target_lengths", target_lengths, n, targets.shape[-1], module)
    labels = _labels(targets, target_lengths, classes, blank, module)

    spaced = module.full((n, 2 * labels.shape[1] + 1), blank)  # l of each sequence
    spaced[:, 1::2] = labels
    losses = _fused_ctc(upcast(log_probs), Tensor(spaced), Tensor(input_lengths), Tensor(target_lengths), blank=blank)
    if zero_infinity:
        losses = where(losses == math.inf, 0, losses)
    if reduction == "mean":
        losses = losses / Tensor(module.maximum(target_lengths, 1).astype(losses.dtype))
    return rounded_like(_reduced("ctc_loss", losses, reduction), log_probs)


def _ways(spaced, blank, module):
    """From where each s of each l is reached: (3, N, 2 S + 1), the columns of s, s - 1 and s - 2 in (two of -inf, then a).

    Where a label may not be left out the third way is a column of -inf.
    """
    n, length = spaced.shape
    ways = module.arange(2, length + 2) - module.arange(3)[:, None, None] + module.zeros((n, 1), np.int64)
    ways[2, :, 2:][(spaced[:, 2:] == blank) | (spaced[:, 2:] == spaced[:, :-2])] = 0
    return ways


def _whole_numbers(argument, values, module):
    values = module.asarray(asarray(values))
    if values.dtype.kind not in "iu" and values.size:
        raise TypeError(f"ctc_loss: {argument} must be whole numbers, not {values.dtype}")
    return values.astype(np.int64)


def _lengths(argument, lengths, n, most, module):
    """(n,), whole numbers up to `most`."""
    lengths = _whole_numbers(argument, lengths, module).reshape(-1)
    if lengths.shape != (n,) or n and not 0 <= int(lengths.min()) <= int(lengths.max()) <= most:
        raise ValueError(f"ctc_loss: {argument} must be {n} numbers from 0 to {most}, one for each sequence, not {lengths}")
    return lengths


def _labels(targets, lengths, classes, blank, module):
    """The targets as (N, S), with blanks where they do not count. ValueError: they are no labels of so many sequences."""
    n, together = len(lengths), targets.ndim == 1
    if targets.shape != ((int(lengths.sum()),) if together else (n, targets.shape[-1])):
        raise ValueError(f"ctc_loss: targets ({n}, S), or {int(lengths.sum())} one after the other, wanted for target_lengths "
                         f"{lengths}, got shape {targets.shape}")
    width = (int(lengths.max()) if n else 0) if together else targets.shape[1]
    counted = module.arange(width) < lengths[:, None]
    labels = module.full((n, width), blank)
    labels[counted] = targets if together else targets[counted]
    given = labels[counted]
    if given.size and (not 0 <= int(given.min()) <= int(given.max()) < classes or bool((given == blank).any())):
        raise ValueError(f"ctc_loss: targets must be from 0 to {classes - 1} and not {blank}, the blank, got {given}")
    return labels
