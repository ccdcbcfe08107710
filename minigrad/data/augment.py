"""Geometric augmentation of batches of images."""
import numpy as np


def affine(images, matrices):
    """Each image seen through its affine map, by bilinear sampling; outside is 0.

    Args:
        images: (N, H, W) float32.
        matrices: (N, 2, 3): output position (row, column), measured from the centre, times these gives the input position.
    """
    n, h, w = images.shape
    rows, columns = np.mgrid[:h, :w].astype(np.float32).reshape(2, -1) - np.float32([[(h - 1) / 2], [(w - 1) / 2]])
    m = matrices.astype(np.float32)
    y = m[:, 0, :1] * rows + m[:, 0, 1:2] * columns + (m[:, 0, 2:] + (h - 1) / 2)
    x = m[:, 1, :1] * rows + m[:, 1, 1:2] * columns + (m[:, 1, 2:] + (w - 1) / 2)
    padded = np.zeros((n, h + 3, w + 3), np.float32)  # a frame of zeros, so that no corner of a cell lies outside
    padded[:, 1:-2, 1:-2] = images
    y, x = np.clip(y + 1, 0, h + 1), np.clip(x + 1, 0, w + 1)
    top, left = y.astype(np.int32), x.astype(np.int32)
    down, right = y - top.astype(np.float32), x - left.astype(np.float32)  # float32 less int32 would be float64
    flat = padded.reshape(-1)
    at = top * (w + 3) + left + np.arange(n, dtype=np.int32)[:, None] * ((h + 3) * (w + 3))
    upper = flat[at] + right * (flat[at + 1] - flat[at])
    lower = flat[at + w + 3] + right * (flat[at + w + 4] - flat[at + w + 3])
    return (upper + down * (lower - upper)).reshape(n, h, w)


def random_affine(images, rng, rotation=10.0, scale=0.1, shear=0.1, shift=2.0):
    """Images (..., H, W), each turned by up to +-rotation degrees, scaled, sheared and shifted (pixels) by chance."""
    flat = images.reshape(-1, *images.shape[-2:])
    n = len(flat)
    a = np.deg2rad(rng.uniform(-rotation, rotation, n))
    sy, sx = np.exp(rng.uniform(-scale, scale, (2, n)))
    k = rng.uniform(-shear, shear, n)
    dy, dx = rng.uniform(-shift, shift, (2, n))
    cos, sin = np.cos(a), np.sin(a)
    rows = [sy * cos, -sx * sin + k * cos, dy], [sy * sin, sx * cos + k * sin, dx]
    matrices = np.stack([np.stack(row, -1) for row in rows], 1)
    return affine(flat, matrices).reshape(images.shape)
