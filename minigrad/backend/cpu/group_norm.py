"""Group normalisation by the kernels of channels.c; the definition is in minigrad/ops/normalization.py.

    y = weight (x - mean) inv_std + bias        mean and inv_std = 1 / sqrt(var + eps) of each sample's groups of channels

(Wu and He, Group Normalization, 2018, arXiv:1803.08494). The kernels give sums of each channel of each sample, those of a group
are put together here, and each channel of each sample has its own factors.
"""
import math

import numpy as np

from .layout import contiguous_nhwc, nchw
from .memory import empty
from .native import kernel


class _Layout:
    """How the kernels see float32 (N, C, ...): rows of (C, pixels), one a sample, or, channels-last, of C, one a pixel."""

    def __init__(self, x):
        self.x_shape, (n, c, *size) = x.shape, x.shape
        self.channels_last = x.ndim == 4 and not x.flags.c_contiguous
        pixels = math.prod(size)
        self.each = pixels if self.channels_last else 1  # rows of a sample
        self.shape = (n * pixels, c, 1) if self.channels_last else (n, c, pixels)

    def arrange(self, x):
        """The array like this, copied if its memory is in another order."""
        return (contiguous_nhwc(x) if self.channels_last else np.ascontiguousarray(x)).reshape(self.shape)

    def restore(self, y):
        """Back to the shape of x."""
        n, c, *size = self.x_shape
        return nchw(y.reshape(n, *size, c)) if self.channels_last else y.reshape(self.x_shape)

    def sums(self, name, arrays, groups, *settings):
        """Two numbers of each sample's channels by a kernel, float64, each (N, groups, members)."""
        found = np.empty((2, *self.x_shape[:2]))
        kernel(name)(*arrays, *found, self.x_shape[0], *self.shape, *settings)
        return found.reshape(2, len(found[0]), groups, -1)


def serves(x, *affine, **settings):
    """Whether all arrays are float32, there are kernels, and they take less time than layer norm's, of which the definition is
    made: channels are long, and have weights or are last in memory."""
    return (kernel("sums_of_parts", x, *affine) is not None and math.prod(x.shape[2:]) >= 8
            and (len(affine) > 0 or not x.flags.c_contiguous))


def group_norm(x, weight, bias, num_groups, eps):
    """Normalised (N, C, ...), and mean and inv_std (N, groups, 1), float64; weight and bias (C,) may be None."""
    layout = _Layout(x)
    rows, c, pixels = layout.arrange(x), x.shape[1], math.prod(x.shape[2:])
    means, squares = layout.sums("moments_of_parts", [rows], num_groups)
    with np.errstate(all="ignore"):  # as in a kernel: what is not finite stays in its group
        mean = means.mean(-1, keepdims=True)
        var = (squares.mean(-1, keepdims=True) + pixels * np.square(means - mean).mean(-1, keepdims=True)) / pixels
        inv_std = 1 / np.sqrt(var + eps)
        scale = inv_std * _by_group(weight, num_groups, c)
        centre = mean.astype(x.dtype)  # near it x - centre is exact, however far from 0
        shift = (0 if bias is None else bias.reshape(num_groups, -1)) - (mean - centre) * scale
        y, factors = empty(layout.shape, x.dtype), [_flat(_repeated(v, c // num_groups), x) for v in (centre, scale, shift)]
    kernel("scale_and_shift")(rows, *factors, y, *layout.shape, layout.each, False)
    return layout.restore(y), mean, inv_std


def group_norm_backward(g, x, weight, mean, inv_std):
    """The gradients in x, weight and bias.

    With h = g weight, xhat = (x - mean) inv_std and means over a group: dx = inv_std (h - mean(h) - xhat mean(h xhat)).
    """
    layout, (n, groups, _), c = _Layout(x), mean.shape, x.shape[1]
    rows, g, dx = layout.arrange(x), layout.arrange(g), empty(layout.shape, x.dtype)
    with np.errstate(all="ignore"):
        total, dot = layout.sums("sums_of_parts", [g, rows, _flat(_repeated(mean, c // groups), x)], groups, c)
        dot *= inv_std
        weight, count = _by_group(weight, groups, c), x.size // (n * groups)
        h, h_xhat = ((weight * a).sum(-1, keepdims=True) / count for a in (total, dot))
        b = -inv_std**2 * h_xhat
        factors = [_flat(_repeated(v, c // groups), x) for v in (inv_std * weight, b, -inv_std * h - mean * b)]
        gradients = [a.sum(0).reshape(c).astype(x.dtype) for a in (dot, total)]
    kernel("combine")(g, rows, *factors, dx, *layout.shape, layout.each)
    return layout.restore(dx), *gradients


def _by_group(weight, groups, channels):
    return np.ones((groups, channels // groups)) if weight is None else weight.reshape(groups, -1)


def _repeated(v, members):
    """A number of each group (N, groups, 1) for each of its channels; those of channels stay."""
    return np.broadcast_to(v, (*v.shape[:2], members))


def _flat(v, like):
    """(N, groups, members) as contiguous numbers of the kernels' dtype."""
    return np.ascontiguousarray(v, like.dtype).reshape(-1)
