"""Which unlabelled pictures to label next.

TypiClust, while labels are few: Guy Hacohen, Avihu Dekel, Daphna Weinshall: "Active Learning on a Budget: Opposite Strategies
Suit High and Low Budgets", 2022, arXiv:2202.02794. Features are clustered into as many clusters as there will be labels; of the
largest clusters without a label each gives its most typical picture. The smallest, which outliers make, come last.

    typicality(x) = 1 / (mean distance of x to its 20 nearest in the cluster)

With 10, 20 and 50 labels from 1,000 pictures of CIFAR-10, features of EfficientNet-Lite0 and prototypes, 42, 51 and 57 % of
other pictures were right, and 32, 40 and 51 % where the labels were drawn at random (means of ten draws).

Margin, later: the pictures whose two most probable classes are nearest to each other (Scheffer et al. 2001).
"""
import warnings

import numpy as np

from methods.transfer.linear import unit

NEAREST = 20
SMALL = 5  # pictures of a cluster that comes last, or half of the mean of all clusters if that is less
MOST_CLUSTERS = 500
POOL = 4000  # pictures that are clustered; of more, so many at random
FEW = 20  # labels of each class, on average, from which on margins are used; with 5 and 10 they were no better than chance
ALIKE = 0.95  # cosine from which on two pictures are so alike that one of them suffices


def typiclust(x: np.ndarray, labelled: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """The places of up to `count` rows of x (N, width), the first from the largest cluster.

    Args:
        x: features of the unlabelled pictures; labelled: (n, width), of the labelled ones.

    Raises:
        ImportError: scikit-learn is missing.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    pool = np.random.default_rng(seed).permutation(len(x))[:POOL]
    z = unit(np.concatenate([x[pool], labelled]).astype(np.float32))
    known = np.arange(len(z)) >= len(pool)
    chosen: list[int] = []
    clusters = min(len(labelled) + count, MOST_CLUSTERS, len(np.unique(z, axis=0)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # pictures that coincide but for rounding make fewer clusters
        cluster = KMeans(clusters, n_init=1, random_state=seed).fit_predict(z)
    small = np.bincount(cluster, minlength=clusters) <= min(SMALL, len(z) / clusters / 2)
    while len(chosen) < min(count, len(pool)):
        covered = known.copy()
        covered[chosen] = True
        labels, sizes = (np.bincount(cluster, weights=covered, minlength=clusters),
                         np.bincount(cluster[~covered], minlength=clusters))
        k = min(np.flatnonzero(sizes), key=lambda k: (small[k], labels[k], -sizes[k]))
        members = np.flatnonzero((cluster == k) & ~covered)
        chosen.append(int(members[np.argmax(typicality(z[members]))]))
    return pool[chosen]


def typicality(x: np.ndarray) -> np.ndarray:
    """Of each row of x (N, width) among them, (N,)."""
    n = len(x)
    if n == 1:
        return np.ones(1)
    squares = (x * x).sum(1)
    d = np.sqrt(np.maximum(squares[:, None] + squares - 2 * x @ x.T, 0))
    nearest = min(NEAREST, n - 1)
    return 1 / np.maximum(np.partition(d, nearest, 1)[:, :nearest + 1].sum(1) / nearest, 1e-12)  # its own distance is 0


def margin(p: np.ndarray, x: np.ndarray, count: int) -> np.ndarray:
    """The places of up to `count` rows whose two largest probabilities in p (N, classes) differ least; none is like another, as
    far as there are so many."""
    two = np.sort(p, 1)[:, -2:]
    order, z, chosen = np.argsort(two[:, 1] - two[:, 0], kind="stable"), unit(x.astype(np.float32) - x.mean(0)), []
    for i in order:
        if len(chosen) == count:
            break
        if not chosen or (z[chosen] @ z[i]).max() < ALIKE:
            chosen.append(int(i))
    rest = order[~np.isin(order, chosen)]
    return np.array([*chosen, *rest[:count - len(chosen)]], int)
