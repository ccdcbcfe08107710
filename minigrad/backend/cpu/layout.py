"""Channels-last memory, and its division into blocks that fit a core's cache.

Images are logical (N, C, H, W) arrays whose memory is ordered (N, H, W, C): the channels of a pixel lie side by side.
A row of a window is then one long run, a product's rows are pixels, and a reduction over pixels runs along memory.
"""

import numpy as np

from .memory import empty, scratch
from .native import kernel
from .threads import get_num_threads, parallel_for

# The working set of a block should fit the second- or third-level cache. Smaller is not better: NumPy gives up the
# interpreter lock in each operation, and a thread that waits to get it back loses tens of microseconds.
BLOCK_BYTES = 1 << 20


def nchw(x):
    """The (N, C, H, W) view of an (N, H, W, C) array."""
    return x.transpose(0, 3, 1, 2)


def nhwc(x):
    """The (N, H, W, C) view of an (N, C, H, W) array. No copy: contiguous only if `x` is channels-last in memory."""
    return x.transpose(0, 2, 3, 1)


def contiguous_nhwc(x):
    """(N, C, H, W) to C-contiguous (N, H, W, C): a view if `x` is channels-last in memory, else a copy."""
    last = nhwc(x)
    if last.flags.c_contiguous:
        return last
    out = empty(last.shape, x.dtype)
    if x.flags.c_contiguous and kernel("channels_last", x):
        kernel("channels_last")(x, out, *x.shape[:2], x.shape[2] * x.shape[3])
    else:
        parallel_for(lambda block: np.copyto(out[block], last[block]), blocks(last.shape, x.dtype))
    return out


def blocks(shape, dtype, nbytes=BLOCK_BYTES, step=1):
    """Cut (N, H, ...) into index pairs (images, rows) of about `nbytes` of memory each.

    A block is several whole images, or several rows of one image, whose first row is a multiple of `step`.
    """
    n, h = shape[:2]
    row = max(1, int(np.prod(shape[2:])) * np.dtype(dtype).itemsize)
    if n == 0 or h == 0:
        return []
    if h * row <= nbytes:
        images = min(nbytes // (h * row), -(-n // get_num_threads()))
        return [(slice(i, min(i + images, n)), slice(0, h)) for i in range(0, n, images)]
    rows = max(nbytes // (row * step), 1) * step
    return [(slice(i, i + 1), slice(r, min(r + rows, h))) for i in range(n) for r in range(0, h, rows)]


def image_blocks(shape, dtype, nbytes=BLOCK_BYTES):
    """Like `blocks`, but slices of whole images only."""
    n, *rest = shape
    return [images for images, _ in blocks((n, 1, *rest), dtype, nbytes)]


def padded(x, images, rows, columns, tag, fill=0):
    """x[images, rows, columns] of an (N, H, W, C) array with `fill` where the index ranges leave the image.

    `rows` and `columns` are (start, stop) and may start below 0 or end beyond H or W. The result is a view of `x` if
    that needs no copy, else this thread's scratch `tag`.
    """
    _, h, w, c = x.shape
    (top, bottom), (left, right) = rows, columns
    if top >= 0 and bottom <= h and left >= 0 and right <= w and x.strides[3] == x.itemsize:
        return x[images, top:bottom, left:right]
    out = scratch(tag, (images.stop - images.start, bottom - top, right - left, c), x.dtype)
    t, b = (min(max(i - top, 0), bottom - top) for i in (0, h))  # the part of `out` that lies inside the image
    l, r = (min(max(j - left, 0), right - left) for j in (0, w))
    out[:, :t], out[:, b:], out[:, t:b, :l], out[:, t:b, r:] = fill, fill, fill, fill
    out[:, t:b, l:r] = x[images, top + t:top + b, left + l:left + r]
    return out


def taps(x, kernel, stride, ho, wo, dilation=(1, 1)):
    """For each position in the window, row by row: its value in all windows, a (n, ho, wo, C) view of (n, h, w, C)."""
    (sh, sw), (dh, dw) = stride, dilation
    for p in range(kernel[0]):
        for q in range(kernel[1]):
            yield x[:, p * dh:p * dh + (ho - 1) * sh + 1:sh, q * dw:q * dw + (wo - 1) * sw + 1:sw]
