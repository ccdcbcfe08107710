"""Which test images a classifier gets wrong, in its run's folder."""
import csv
import io
import pathlib
from collections.abc import Sequence

import numpy as np

from .run import write_whole


def write_mistakes(folder: pathlib.Path, scores: np.ndarray, labels: np.ndarray, names: Sequence[str],
                   files: Sequence[str] | None = None) -> str:
    """Writes mistakes.csv, the surest first, and confusion.csv: a row for each class, a column for each predicted one.

    Args:
        scores: logits (N, classes).
        labels: the true classes (N,).
        names: of the classes.
        files: of the images (N), by their index if None.

    Returns:
        the accuracy of each class, a line for each.
    """
    predicted = scores.argmax(1)
    odds = np.exp(scores.astype(np.float64) - scores.max(1, keepdims=True))
    probability = odds.max(1) / odds.sum(1)
    wrong = np.flatnonzero(predicted != labels)
    wrong = wrong[np.argsort(-probability[wrong], kind="stable")]
    _write(folder / "mistakes.csv", [["image", "class", "predicted", "probability"], *(
        [i if files is None else files[i], names[labels[i]], names[predicted[i]], f"{probability[i]:.4f}"] for i in wrong)])
    counts = np.zeros((len(names), len(names)), np.int64)
    np.add.at(counts, (labels, predicted), 1)
    right, total = counts.diagonal(), counts.sum(1)
    share = [f"{100 * r / t:.1f}" if t else "" for r, t in zip(right, total)]
    _write(folder / "confusion.csv", [["class", *names, "accuracy (%)"], *(
        [name, *row, s] for name, row, s in zip(names, counts.tolist(), share))])
    width = max(map(len, names))
    return "".join(f"{name:<{width}}  {s or '-':>5} %  ({r} of {t})\n" for name, s, r, t in zip(names, share, right, total))


def _write(path, rows):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_whole(path, text.getvalue())
