"""scikit-learn's handwritten digits, which need no download."""
import numpy as np

from ..backend.libraries import library


def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """Images (1797, 8, 8) float32 in [0, 1] and labels (1797,) int64."""
    bunch = library("sklearn.datasets", "scikit-learn", "the digits need").load_digits()
    return (bunch.images / 16).astype(np.float32), bunch.target.astype(np.int64)
