"""Convolution by the kernels of `conv.c`, without a matrix of columns. Images are (N, H, W, C), float32.

Forward and both gradients are one thing, a correlation of images with filters,

    y[n, i, j, o] = sum over c, p, q of x[n, top + i*sh + p*dh, left + j*sw + q*dw, c] * w[o, c, p, q]

and its gradient in w. With stride s the gradient in x falls into s*s parts, one for each position modulo s: the outputs
there saw every s-th tap, which makes each part a correlation of stride 1.
"""
import itertools

import numpy as np

from .layout import blocks, padded
from .memory import scratch
from .native import kernel
from .threads import get_num_threads, parallel_for, split

BLOCK_BYTES = 1 << 18  # of outputs; as much again of inputs, and the filters of some taps share a core's cache
LANES = 16  # floats in a vector of the kernels


def serves(w_shape, groups, *arrays):
    """Whether the kernels take this convolution: float32, and groups that fill vector registers."""
    o, c = w_shape[0] // groups, w_shape[1]
    return kernel("correlate", *arrays) is not None and (groups == 1 or o % LANES == c % LANES == 0)


def correlate(x, w, y, origin, stride, dilation, groups):
    """Fill y (N, Ho, Wo, O), of any strides but dense channels; see the equation above, with origin = (top, left)."""
    c, taps = x.shape[3] // groups, _Taps(w.shape, x.shape[3], dilation, groups)
    channels, panels = _panels(w, groups)
    function = kernel("correlate", x)

    def block(index):
        seen = taps.under(x, index, y.shape[2], origin, stride)
        n, rows, pixels = y[index].shape[:3]
        whole = channels == y.shape[3] // groups
        out = y[index] if whole else scratch("conv y", (n, rows, pixels, channels), y.dtype)
        function(seen, panels, out, taps.offsets(seen), len(taps.offsets(seen)), taps.run, groups, channels, n, rows, pixels,
                 *taps.steps(seen, stride), *_steps(out))
        if not whole:
            y[index] = out[..., :y.shape[3]]

    if c:
        parallel_for(block, blocks(y.shape, y.dtype, BLOCK_BYTES))
    else:
        y.fill(0)


def weight_grad(gy, x, w_shape, origin, stride, dilation, groups):
    """The gradient (O, C/G, kh, kw) of `correlate` in its filters for gy (N, Ho, Wo, O)."""
    o, c, kh, kw = w_shape
    taps, o = _Taps(w_shape, x.shape[3], dilation, groups), o // groups
    channels = _rounded(o)
    todo = blocks(gy.shape, gy.dtype, BLOCK_BYTES)
    parts = split(len(todo), get_num_threads())
    sums = np.zeros((len(parts), groups, kh, kw, c, channels), np.float32)
    function = kernel("correlate_weights", x)

    def sum_part(i):
        for index in todo[parts[i]]:
            seen, (images, rows) = taps.under(x, index, gy.shape[2], origin, stride), index
            if channels == o and gy.strides[3] == gy.itemsize:
                g = gy[index]
            else:
                g = scratch("conv dy", (*gy[index].shape[:3], groups * channels), gy.dtype)
                g[..., :gy.shape[3]], g[..., gy.shape[3]:] = gy[index], 0
            function(seen, g, sums[i], taps.offsets(seen), len(taps.offsets(seen)), taps.run, groups, channels, *g.shape[:3],
                     *taps.steps(seen, stride), *_steps(g))

    parallel_for(sum_part, len(parts))
    return sums.sum(0)[..., :o].transpose(0, 4, 3, 1, 2).reshape(w_shape)


def input_grad(gy, w, gx, g):
    """Fill gx (N, H, W, C) with the gradient in the images for gy (N, Ho, Wo, O); dilation 1 where the stride is not."""
    (sh, sw), groups = g.stride, g.groups
    o, c, kh, kw = w.shape
    back = w.reshape(groups, o // groups, c, kh, kw).swapaxes(1, 2).reshape(groups * c, o // groups, kh, kw)
    for a, b in itertools.product(range(min(sh, gx.shape[1])), range(min(sw, gx.shape[2]))):
        # Output i saw the position a + s t through the tap p with a + s t = i s + p d - padding.
        (p, top), (q, left) = (_first_tap(at, s, padding, k, d)
                               for at, s, padding, k, d in zip((a, b), g.stride, g.padding, g.kernel, g.dilation))
        seen = back[:, :, p::sh, q::sw][:, :, ::-1, ::-1]
        out = gx[:, a::sh, b::sw]
        if seen.size:
            correlate(gy, seen, out, (top, left), (1, 1), g.dilation, groups)
        else:
            out[...] = 0


def _first_tap(at, s, padding, k, d):
    """The first tap that sees the positions `at` modulo s, and the output that saw position `at` through the last such tap."""
    if s == 1:
        return 0, padding - d * (k - 1)
    first = (at + padding) % s
    return first, (at + padding) // s - (len(range(first, k, s)) - 1)


class _Taps:
    """The positions of the window, and what lies under them in a block of images."""

    def __init__(self, w_shape, channels, dilation, groups):
        self.kernel, self.dilation, c = w_shape[2:], dilation, w_shape[1]
        # Taps side by side lie in memory side by side, and then are one run.
        self.joined = groups == dilation[1] == 1 and self.kernel[1] * c <= 512
        self.run = c * (self.kernel[1] if self.joined else 1)

    def under(self, x, index, wo, origin, stride):
        """What the outputs of a block see, zeros around the images included: (n, rows, columns, C)."""
        images, rows = index
        (kh, kw), (dh, dw) = self.kernel, self.dilation
        top, left = origin[0] + rows.start * stride[0], origin[1]
        bottom = top + (rows.stop - rows.start - 1) * stride[0] + (kh - 1) * dh + 1
        right = left + (wo - 1) * stride[1] + (kw - 1) * dw + 1
        return padded(x, images, (top, bottom), (left, right), "conv x")

    def offsets(self, seen):
        """Where each run begins, counted from the window's first pixel."""
        _, row, pixel = _steps(seen)
        columns = np.arange(1 if self.joined else self.kernel[1]) * self.dilation[1] * pixel
        return (np.arange(self.kernel[0])[:, None] * self.dilation[0] * row + columns).reshape(-1)

    def steps(self, seen, stride):
        """From the window of an output to that of the next image, row and pixel."""
        image, row, pixel = _steps(seen)
        return image, row * stride[0], pixel * stride[1]


def _steps(a):
    return [s // a.itemsize for s in a.strides[:3]]


def _rounded(channels):
    """A multiple of the lanes of a vector register."""
    return -(-channels // LANES) * LANES


def _panels(w, groups):
    """The filters as `correlate` in conv.c reads them, and the number of channels of a group, zeros included."""
    o, c, kh, kw = w.shape
    o, channels = o // groups, _rounded(o // groups)
    panels, function = scratch("conv panels", (groups, kh * kw * c * channels), np.float32), kernel("pack")
    for i in range(groups):
        part = w[i * o:i * o + o]
        function(part, panels[i], o, channels, c, kh, kw, *[s // w.itemsize for s in w.strides])
    return channels, panels
