"""3x3 convolution with 2.25 times fewer multiplications: F(2x2, 3x3).

Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2015, arXiv:1509.09308, after Winograd, 1980. A tile of
2x2 outputs Y sees 4x4 inputs d. With the filter g,

    Y = A^T [ (G g G^T) * (B^T d B) ] A        * is elementwise: 16 multiplications instead of 36

    B^T = [1  0 -1  0]     G = [ 1    0    0 ]     A^T = [1  1  1  0]
          [0  1  1  0]         [1/2  1/2  1/2]           [0  1 -1 -1]
          [0 -1  1  0]         [1/2 -1/2  1/2]
          [0  1  0 -1]         [ 0    0    1 ]

Summed over input channels, the elementwise product is a matrix product (tiles, C) @ (C, O) for each of the 16 positions.
The transformations are matrix products as well: B^T d B is (B^T kron B^T) times the 16 inputs of a tile as a vector, so one
product with a 16x16 matrix transforms the tiles and channels of a whole block. The gradient in the filter is the transpose
of the same formulas. Images are (N, H, W, C).
"""

import numpy as np
from numpy.lib.stride_tricks import as_strided

from .layout import blocks, padded
from .memory import scratch
from .threads import get_num_threads, parallel_for, split

B_T = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
A_T = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])
KRON_B, KRON_A = np.kron(B_T, B_T), np.kron(A_T, A_T)  # (16, 16) and (4, 16)
BLOCK_BYTES = 1 << 18  # of output; the transformed tiles of a block take eight times as much


def applies(w_shape, g, size):
    """True if the convolution is of the right kind, and large enough to be worth the transformations."""
    return (g.kernel == (3, 3) and g.stride == g.dilation == (1, 1) and g.groups == 1
            and min(w_shape[:2]) >= 16 and min(size) >= 12)


def correlate(x, w, g, y):
    """Fill y (N, Ho, Wo, O) with the convolution of x (N, H, W, C) and w (O, C, 3, 3)."""
    u = np.einsum("ik,ockl,jl->ijco", G, w, G).astype(x.dtype).reshape(16, *w.shape[1::-1])  # (16, C, O)
    inverse = KRON_A.astype(x.dtype)

    def block(index):
        v = _transformed_inputs(x, g.padding, index, y.shape[2])  # (16, tiles, C)
        m = scratch("winograd m", (16, v.shape[1], u.shape[2]), x.dtype)
        np.matmul(v, u, out=m)
        corners = scratch("winograd corners", (4, m[0].size), x.dtype)
        np.matmul(inverse, m.reshape(16, -1), out=corners)
        _join_corners(corners, y[index])

    parallel_for(block, blocks(y.shape, y.dtype, BLOCK_BYTES, step=2), blas=True)
    return y


def weight_grad(gy, x, g):
    """The weight gradient (O, C, 3, 3) for gy (N, Ho, Wo, O) and x (N, H, W, C)."""
    c, o = x.shape[3], gy.shape[3]
    todo = blocks(gy.shape, gy.dtype, BLOCK_BYTES, step=2)
    parts = split(len(todo), get_num_threads())
    sums = np.zeros((len(parts), 16, c, o), x.dtype)
    forward = KRON_A.T.astype(x.dtype)

    def sum_part(i):
        product = scratch("winograd du", (16, c, o), x.dtype)
        for index in todo[parts[i]]:
            v = _transformed_inputs(x, g.padding, index, gy.shape[2])  # (16, tiles, C)
            corners = _split_corners(gy[index])
            dm = scratch("winograd m", (16, v.shape[1], o), x.dtype)
            np.matmul(forward, corners, out=dm.reshape(16, -1))
            sums[i] += np.matmul(v.transpose(0, 2, 1), dm, out=product)

    parallel_for(sum_part, len(parts), blas=True)
    return np.einsum("ik,ijco,jl->ockl", G, sums.sum(0).reshape(4, 4, c, o), G).astype(x.dtype)


def _transformed_inputs(x, padding, index, wo):
    """B^T d B for the tiles under some output rows: (16, tiles, C)."""
    images, rows = index
    n, th, tw, c = images.stop - images.start, -(-(rows.stop - rows.start) // 2), -(-wo // 2), x.shape[3]
    top, left = rows.start - padding[0], -padding[1]
    block = padded(x, images, (top, top + 2 * th + 2), (left, left + 2 * tw + 2), "winograd x")
    s0, s1, s2, s3 = block.strides
    d = scratch("winograd d", (4, 4, n, th, tw, c), x.dtype)
    np.copyto(d, as_strided(block, d.shape, (s1, s2, s0, 2 * s1, 2 * s2, s3)))
    v = scratch("winograd v", (16, n * th * tw, c), x.dtype)
    np.matmul(KRON_B.astype(x.dtype), d.reshape(16, -1), out=v.reshape(16, -1))
    return v


def _join_corners(corners, y):
    """The four outputs of each tile, (4, tiles * O), to y (n, rows, Wo, O)."""
    n, rows, columns, o = y.shape
    th, tw = -(-rows // 2), -(-columns // 2)
    corners = corners.reshape(2, 2, n, th, tw, o)
    if (rows, columns) == (2 * th, 2 * tw):
        np.copyto(_as_corners(y), corners)
    else:
        even = scratch("winograd y", (n, 2 * th, 2 * tw, o), y.dtype)
        np.copyto(_as_corners(even), corners)
        y[...] = even[:, :rows, :columns]


def _split_corners(y):
    """The four outputs of each tile of y (n, rows, Wo, O), zero beyond the edge: (4, tiles * O)."""
    n, rows, columns, o = y.shape
    th, tw = -(-rows // 2), -(-columns // 2)
    even = padded(y, slice(0, n), (0, 2 * th), (0, 2 * tw), "winograd y")
    corners = scratch("winograd corners", (2, 2, n, th, tw, o), y.dtype)
    np.copyto(corners, _as_corners(even))
    return corners.reshape(4, -1)


def _as_corners(y):
    """(n, 2*th, 2*tw, O) as (2, 2, n, th, tw, O): the position in the tile first."""
    n, rows, columns, o = y.shape
    return y.reshape(n, rows // 2, 2, columns // 2, 2, o).transpose(2, 4, 0, 1, 3, 5)
