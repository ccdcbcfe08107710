"""What needs no pretrained network: pixels, histograms of gradients with a support vector machine."""
import numpy as np

from minigrad import nn
from minigrad.backend.libraries import library

from .linear import few_of_each

SIZE = 32


def pixels(pictures, which: np.ndarray) -> np.ndarray:
    """The pictures at the places `which` as rows of 32 x 32 colour values, (n, 3072) float32 in [0, 1]."""
    small = nn.Preprocessing(SIZE, "bilinear", (0.0,) * 3, (1.0,) * 3, crop=1)
    return np.concatenate([small(pictures[i]) for i in which]).reshape(len(which), -1)


def gradient_histograms(images: np.ndarray) -> np.ndarray:
    """HOG features (Dalal and Triggs 2005) of images (n, 3 * 32 * 32) as `pixels` gives them: scikit-image's, 8-pixel cells.

    Raises:
        ImportError: scikit-image is missing.
    """
    hog = library("skimage.feature", "scikit-image", "histograms of gradients need").hog
    return np.stack([hog(image.reshape(3, SIZE, SIZE), 9, (8, 8), (2, 2), channel_axis=0) for image in images])


@few_of_each()
def support_vectors(x: np.ndarray, y: np.ndarray, test: np.ndarray) -> np.ndarray:
    """The classes (n,) that an SVM with a Gaussian kernel gives to the features `test`; scikit-learn's.

    C is chosen by cross-validation where each class has two examples or more.
    """
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC
    machine, fewest = make_pipeline(StandardScaler(), SVC(C=10)), np.bincount(y)[np.unique(y)].min()
    if fewest > 1:
        folds = StratifiedKFold(min(3, fewest), shuffle=True, random_state=0)
        machine = GridSearchCV(machine, {"svc__C": (1, 10, 100)}, cv=folds)
    return machine.fit(x, y).predict(test)
