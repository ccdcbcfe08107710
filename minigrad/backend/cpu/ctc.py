"""The loss of unaligned sequences; see `ctc.c`. Definition: minigrad/ops/ctc.py."""
import numpy as np

from .memory import empty, zeros
from .native import kernel


def ctc_losses(log_p, labels, lengths, targets, blank):
    """The losses (N,) of log_p (T, N, classes), and what the gradient needs: of each sequence, time and state a number."""
    (times, n, classes), states = log_p.shape, labels.shape[1]
    before, losses = empty((n, times, states + 2)), np.empty(n, np.float32)
    kernel("ctc_losses")(np.ascontiguousarray(log_p), labels, lengths, targets, before, np.empty((n, 2, states + 2), np.float32),
                         losses, times, n, classes, states, blank)
    return losses, (losses, before)


def ctc_losses_backward(g, losses, before, log_p, labels, lengths, targets, blank):
    """The gradient of `ctc_losses` in log_p."""
    (times, n, classes), states, dlog_p = log_p.shape, labels.shape[1], zeros(log_p.shape)
    kernel("ctc_losses_backward")(np.ascontiguousarray(g), losses, np.ascontiguousarray(log_p), labels, lengths, targets, before,
                                  np.empty((n, 3, states + 2), np.float32), dlog_p, times, n, classes, states, blank)
    return dlog_p
