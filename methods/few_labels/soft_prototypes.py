"""Class prototypes that unlabelled pictures refine.

Mengye Ren et al.: "Meta-Learning for Semi-Supervised Few-Shot Classification", 2018, arXiv:1803.00676, its soft k-means.

    z_jc = softmax over c of t h(u_j) . p_c                    how much of unlabelled u_j is in class c
    p_c <- (sum over i of h(x_i) [y_i = c] + w sum over j of h(u_j) z_jc) / (sum over i of [y_i = c] + w sum over j of z_jc)

h are features at unit length after the mean of all was taken away, and prototypes are brought to unit length before products,
which is the paper's squared distance but for a constant. In the paper w = 1, one step is made, and h is trained for this; with
a frozen h and many more unlabelled pictures than labelled ones w is smaller.
"""
import numpy as np

from methods.transfer.linear import Linear, sharpness, unit

W, T, STEPS = 0.2, 10.0, 3
MOST = 4000  # unlabelled pictures


def soft_prototypes(x: np.ndarray, y: np.ndarray, classes: int, unlabelled: np.ndarray) -> Linear:
    """Scores s p_c . (x - m), with s the factor under which each label is most likely by prototypes whose labelled sums
    leave it out (its part in z stays).

    Args:
        x: (n, width) labelled features, y: (n,) their classes; unlabelled: (N, width).
    """
    mean = np.concatenate([x, unlabelled]).mean(0, dtype=np.float64)
    h, u, onehot = unit(x - mean), unit(unlabelled[:MOST] - mean), np.eye(classes)[y]
    sums, counts = onehot.T @ h, onehot.sum(0)[:, None]
    p = sums / np.maximum(counts, 1)
    for _ in range(STEPS):
        z = np.exp(T * (u @ unit(p).T))
        z *= W / z.sum(1, keepdims=True)
        drawn, weight = z.T @ u, z.sum(0)[:, None]
        p = (sums + drawn) / (counts + weight)
    own = (counts + weight)[y] * p[y] - h  # of each example its class without it
    scores, n = h @ unit(p).T, np.arange(len(y))
    scores[n, y] = (h * unit(own)).sum(1)
    length = np.linalg.norm(x - mean, axis=1).mean() or 1.0
    sharp = sharpness(scores, y)
    weight = sharp / length * unit(p)
    return Linear(weight, -weight @ mean, f"factor {sharp:.3g}", float((scores.argmax(1) == y).mean()))
