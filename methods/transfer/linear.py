"""Linear classifiers on features: class prototypes, ridge regression, logistic regression, support vector machines.

Each is found from the labelled features alone, its strength of regularisation too, by leaving labels out. Each becomes the
weight (classes, width) and bias (classes,) of a linear layer, so that a probe is a network's last layer.

Features are centred and divided by one number for all. Each by its own deviation, as is also done, wants labels enough to know
that: with 1, 5 and 80 labels a class of CIFAR-10, read by EfficientNet-Lite0 at 96 pixels, ridge regression then came to 22.6,
45.5 and 65.9 % instead of 32.6, 48.5 and 66.5 % (means of four draws).
"""
import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

STRENGTHS = tuple(10.0 ** np.arange(-4, 4))  # of regularisation, relative to the features' variance
ALONE = 0.01  # the strength where no label can be left out
FACTORS = tuple(2.0 ** np.arange(-3, 9.5, 0.5))


@dataclass
class Linear:
    """Scores x @ weight.T + bias, whose softmax are probabilities.

    Args:
        weight: (classes, width) float64; bias: (classes,).
        chosen: what was chosen by leaving labels out, in words.
        left_out: the share of left-out labels that it gets right; NaN where none could be left out.
    """

    weight: np.ndarray
    bias: np.ndarray
    chosen: str
    left_out: float

    def scores(self, x: np.ndarray) -> np.ndarray:
        """(N, classes) of features (N, width)."""
        return x @ self.weight.T + self.bias


def prototypes(x: np.ndarray, y: np.ndarray, classes: int) -> Linear:
    """The class whose prototype is nearest, after all features were centred and brought to unit length.

        z = (x - m) / |x - m|, m the mean of the labelled features;  p_c the mean of class c's z, brought to unit length
        score_c = t p_c . (x - m)

    |x - m| is the same for all classes, so leaving it out does not change which one is nearest. t is the factor under
    which left-out labels are most likely.

    Args:
        x: (N, width) labelled features; y: (N,) their classes.

    Raises:
        ValueError: a class has no label, a label is of no class, or a feature is not finite.
    """
    check_labels(y, classes)
    x = _finite(x)
    mean = x.mean(0)
    centred = x - mean
    z = unit(centred)
    sums = np.stack([z[y == c].sum(0) for c in range(classes)])
    scores = z @ unit(sums).T
    own = sums[y] - z  # of each example its class without it; of a class of one nothing is left
    alone = np.linalg.norm(own, axis=1) > 1e-9
    scores[np.arange(len(x)), y] = np.where(alone, (z * unit(own)).sum(1), scores[np.arange(len(x)), y])
    length = np.linalg.norm(centred, axis=1).mean() or 1.0
    sharp = sharpness(scores[alone], y[alone])
    weight = sharp / length * unit(sums)
    return Linear(weight, -weight @ mean, f"factor {sharp:.3g}", _share(scores[alone], y[alone]))


def ridge(x: np.ndarray, y: np.ndarray, classes: int, strengths: tuple[float, ...] = STRENGTHS) -> Linear:
    """Least squares to one-hot labels with a penalty on the weight: the strength with the fewest errors on left-out labels.

    The label of a class of one cannot be left out; if all are of that kind, the strength is 0.01. A class without a label
    has the same score everywhere.

    With H = X (X^T X + s I)^-1 X^T the prediction of example i without its label is y_i - (y_i - (Hy)_i) / (1 - H_ii), so that
    one singular value decomposition serves all strengths and all examples (Golub, Heath and Wahba 1979).

    Raises:
        ValueError: a feature is not finite.
    """
    mean, scale, (u, s, vt) = _decomposed(x)
    onehot = np.eye(classes)[y]
    target = onehot - onehot.mean(0)
    several = np.bincount(y, minlength=classes)[y] > 1
    best = None
    for strength in strengths if several.any() else (ALONE,):
        shrink = s**2 / (s**2 + strength * len(x))
        hat = np.minimum((u**2 * shrink).sum(1) + 1 / len(x), 1 - 1e-9)
        left_out = onehot - (target - (u * shrink) @ (u.T @ target)) / (1 - hat)[:, None]
        left_out = left_out[several]
        errors, distance = np.sum(left_out.argmax(1) != y[several]), np.sum((left_out - onehot[several]) ** 2)
        if best is None or (errors, distance) < best[0]:
            best = (errors, distance), strength, left_out
    _, strength, left_out = best
    weight = ((s / (s**2 + strength * len(x)) * u).T @ target).T @ vt / scale
    sharp = sharpness(left_out, y[several])
    return Linear(sharp * weight, sharp * (onehot.mean(0) - weight @ mean), f"strength {strength:g}, factor {sharp:.3g}",
                  _share(left_out, y[several]))


def logistic(x: np.ndarray, y: np.ndarray, classes: int, strengths: tuple[float, ...] = STRENGTHS, folds: int = 3) -> Linear:
    """Logistic regression: the strength under which the labels of left-out parts are most likely; scikit-learn's solver.

    Where a class has one label nothing can be left out; the strength is then 0.01.

    Raises:
        ImportError: scikit-learn is missing; ValueError: as of `prototypes`, or there is one class.
    """
    check_labels(y, classes, 2)
    from sklearn.linear_model import LogisticRegression
    return _in_folds(lambda c: LogisticRegression(C=c, max_iter=300, tol=1e-3), x, y, classes, strengths, folds, log_loss)


def svm(x: np.ndarray, y: np.ndarray, classes: int, strengths: tuple[float, ...] = STRENGTHS, folds: int = 3) -> Linear:
    """A linear support vector machine for each class against the rest: the strength with the fewest errors on left-out parts.

    The loss is the squared hinge; scikit-learn's solver. A factor makes the scores' softmax probable, as in `ridge`.

    Raises:
        ImportError: scikit-learn is missing; ValueError: as of `logistic`.
    """
    check_labels(y, classes, 2)
    from sklearn.svm import LinearSVC
    return _in_folds(lambda c: LinearSVC(C=c, dual=False, tol=1e-3), x, y, classes, strengths, folds,
                     lambda scores, y: 1 - _share(scores, y), sharpen=True)


@contextlib.contextmanager
def few_of_each() -> Iterator[None]:
    """Inside, scikit-learn does not warn that labels may be numbers where classes are more than half as many as these."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The number of unique classes is greater than 50% ")
        yield


@few_of_each()
def _in_folds(machine, x, y, classes, strengths, folds, loss, sharpen=False):
    """A Linear of what `machine(C)` finds, at the strength with the least loss(scores, y) on left-out folds.

    C is 1 / (strength N) for N examples, as scikit-learn adds up what is a mean here.
    """
    from sklearn.model_selection import StratifiedKFold
    mean, scale, (u, s, vt) = _decomposed(x)
    z = u * s  # the features in the space that the labelled ones span: as many numbers as labels

    def fit(rows, strength):
        found = machine(1 / (strength * len(rows))).fit(z[rows], y[rows])
        weight, bias = found.coef_, found.intercept_
        if classes == 2:  # one score, whose sign decides
            weight, bias = (np.concatenate([-a / 2, a / 2]) for a in (weight, bias))
        return weight, bias

    folds, chosen, left_out, sharp = min(folds, np.bincount(y, minlength=classes).min()), ALONE, np.nan, 1.0
    if folds > 1:
        parts = list(StratifiedKFold(folds, shuffle=True, random_state=0).split(z, y))
        held, least = np.concatenate([held for _, held in parts]), np.inf
        for strength in strengths:
            scores = []
            for train, part in parts:
                weight, bias = fit(train, strength)
                scores.append(z[part] @ weight.T + bias)
            scores = np.concatenate(scores)
            if (value := loss(scores, y[held])) < least:
                least, chosen, left_out = value, strength, _share(scores, y[held])
                sharp = sharpness(scores, y[held]) if sharpen else 1.0
    weight, bias = fit(np.arange(len(z)), chosen)
    weight, bias = sharp * weight @ vt / scale, sharp * bias
    return Linear(weight, bias - weight @ mean, f"strength {chosen:g}" + (f", factor {sharp:.3g}" if sharpen else ""), left_out)


PROBES = {"prototypes": prototypes, "ridge": ridge, "logistic": logistic, "svm": svm}


def check_labels(y: np.ndarray, classes: int, least: int = 1) -> None:
    """Raises ValueError if a class has no label among y (N,), a label is of no class, or there are fewer classes than `least`."""
    if classes < least:
        raise ValueError(f"linear classifier: {least} classes or more are needed, not {classes}")
    if other := sorted({*y.tolist()} - {*range(classes)}):
        raise ValueError(f"linear classifier: labels are from 0 to {classes - 1}, not {', '.join(map(str, other))}")
    if missing := sorted({*range(classes)} - {*y.tolist()}):
        raise ValueError(f"linear classifier: each class needs a label, and there is none of {', '.join(map(str, missing))}")


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows at length 1; rows of zeros stay."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _finite(x):
    """The features as float64. ValueError: one is NaN or infinite."""
    if not np.isfinite(x).all():
        raise ValueError(f"linear classifier: {int((~np.isfinite(x).all(1)).sum())} of {len(x)} rows of features hold NaN or "
                         "infinity; leave them out")
    return x.astype(np.float64)


def _decomposed(x):
    """Mean, scale and the singular value decomposition of centred features of variance 1 (averaged over the numbers)."""
    x = _finite(x)
    mean = x.mean(0)
    centred = x - mean
    scale = np.sqrt((centred**2).sum(1).mean()) or 1.0
    return mean, scale, np.linalg.svd(centred / scale, full_matrices=False)


def _share(scores, y):
    """The share of scores that are largest at the label; NaN of none."""
    return float((scores.argmax(1) == y).mean()) if len(y) else np.nan


def sharpness(scores: np.ndarray, y: np.ndarray) -> float:
    """The factor of scores under which their labels are most likely, see `doubting_loss`; 1 if there are none."""
    if not len(y):
        return 1.0
    return float(min(FACTORS, key=lambda t: doubting_loss(t * scores, y)))


def doubting_loss(logits: np.ndarray, y: np.ndarray) -> float:
    """`log_loss` of N labels each of which is (N + 1) / (N + 2) its class, and for the rest the others in equal parts.

    A factor of the logits is to be found with it: under `log_loss` itself that would have no bound where all labels are right,
    and every probability would be 1. For two classes it is John Platt's: "Probabilistic outputs for support vector machines",
    1999, but for his counting the labels of each class apart. (Seen over 25 draws of 2 to 20 labels of each of two classes of
    CIFAR-10 and of digits: the mean of -log p of other pictures fell by up to 1.5, and as many were right.)
    """
    n, classes = logits.shape
    own = logits[np.arange(n), y]
    others = (logits.sum(1) - own) / max(classes - 1, 1)
    return log_loss(logits, y) + float((own - others).mean()) / (n + 2)


def log_loss(logits: np.ndarray, y: np.ndarray) -> float:
    """The mean of `log_losses`."""
    return float(log_losses(logits, y).mean())


def log_losses(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """-log softmax(logits)[y] of each row, (N, classes) to (N,)."""
    top = logits.max(1)
    return top + np.log(np.exp(logits - top[:, None]).sum(1)) - logits[np.arange(len(y)), y]
