"""scikit-learn's handwritten digits, which need no download."""
import numpy as np


def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """Images (1797, 8, 8) float32 in [0, 1] and labels (1797,) int64."""
    try:
        from sklearn import datasets
    except ImportError:
        raise ImportError("the digits need the library scikit-learn: pip install scikit-learn") from None
    bunch = datasets.load_digits()
    return (bunch.images / 16).astype(np.float32), bunch.target.astype(np.int64)
