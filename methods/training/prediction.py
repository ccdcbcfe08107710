"""Classifying new pictures with a trained classifier."""
import csv
import dataclasses
import io
import os
import pathlib
import sys
from collections.abc import Callable, Sequence

import numpy as np

from minigrad import data
from minigrad.data.folder import arrange, counted

from .classifier import Classifier
from .pictures import read_pictures
from .run import read_object, write_whole
from .settings import RunError

UNCERTAINTY = "uncertainty.json"  # of a run: the threshold of its sets of classes
Prediction = tuple[str, str, float]  # file, class, probability


def probabilities(classifier: Classifier, files: dict[str, Callable[[], bytes]],
                  batch: int = 100) -> tuple[list[str], np.ndarray]:
    """Names and the probability of each class, (N, classes); so many pictures are in memory at a time.

    Those that cannot be read are named on standard error and left out.

    Args:
        files: see `picture_files`.
    """
    found, rows, items = [], [np.zeros((0, len(classifier.classes)), np.float32)], list(files.items())
    for start in range(0, len(items), batch):
        names, images = read_pictures(dict(items[start:start + batch]), classifier.preprocessing)
        if names:
            found += names
            rows.append(classifier.probabilities(images))
    return found, np.concatenate(rows)


def most_probable(names: Sequence[str], probabilities: np.ndarray, classes: Sequence[str]) -> list[Prediction]:
    """Of pictures with the probabilities (N, classes)."""
    return [(name, classes[k], float(row[k])) for name, row, k in zip(names, probabilities, probabilities.argmax(1))]


def with_support(classifier: Classifier, folder: str | os.PathLike) -> Classifier:
    """A few-shot classifier of the classes in a folder (or zip of one) that has a folder of example pictures for each.

    Of each class as many examples are used as the smallest has.

    Raises:
        ValueError: the classifier has a class for each output, there are fewer than two classes, or the network is made for
            another number of them; FileNotFoundError: there is no such folder.
    """
    if classifier.support is None:
        raise ValueError(f"the run's network knows its classes from training ({', '.join(classifier.classes)}); it takes no "
                         "further examples")
    found = data.find_pictures(folder)
    names, images = read_pictures(found.files, classifier.preprocessing)
    try:
        layout = arrange(names)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None
    place = {name: i for i, name in enumerate(names)}
    for note in (*layout.notes, *found.left_out()):
        print(note, file=sys.stderr)
    members = {c: layout.train.get(c, []) + layout.test.get(c, []) for c in sorted({*layout.train, *layout.test})}
    classes = {c: images[[place[name] for name in members[c]]] for c in members}
    if len(classes) < 2:
        raise ValueError(f"{folder} has example pictures of {counted(len(classes), 'class', 'classes')}; at least two "
                         "folders of them are needed")
    way = getattr(classifier.net, "way", len(classes))
    if way != len(classes):
        raise ValueError(f"the run's network tells {way} classes from each other (--way), and {folder} has {len(classes)}")
    examples = min(map(len, classes.values()))
    support = np.rint(np.stack([c[:examples] for c in classes.values()]) * classifier.preprocessing.divisor).astype(np.uint8)
    return dataclasses.replace(classifier, classes=tuple(classes), support=support)


def description(classifier: Classifier, where: str) -> str:
    """A line on the classes and from where they are known."""
    names = ", ".join(classifier.classes[:10]) + (", ..." if len(classifier.classes) > 10 else "")
    known = f", {classifier.support.shape[1]} examples of each" if classifier.support is not None else ""
    return f"{len(classifier.classes)} classes {where}{known}: {names}"


def read_threshold(run: pathlib.Path) -> float | None:
    """q of a run whose sets {c : 1 - p_c <= q} hold the right class at a known rate (see `methods.few_labels.uncertainty`).

    None if the run has none.

    Raises:
        RunError: the file with it is damaged.
    """
    path = run / UNCERTAINTY
    if not path.exists():
        return None
    q = read_object(path).get("threshold")
    if type(q) not in (int, float) or not 0 <= q <= 1:
        raise RunError(f"{path} is damaged: {q!r} is no threshold from 0 to 1")
    return float(q)


def class_sets(p: np.ndarray, q: float) -> np.ndarray:
    """Which classes each set {c : 1 - p_c <= q} of probabilities (N, classes) holds, bool; the most probable one always."""
    return (1 - p <= q + 1e-9) | (p == p.max(1, keepdims=True))


def named_sets(p: np.ndarray, q: float, classes: Sequence[str]) -> list[list[str]]:
    """The sets by the classes' names, the most probable first."""
    return [[classes[k] for k in np.argsort(-row, kind="stable") if member[k]] for row, member in zip(p, class_sets(p, q))]


def write_csv(path: str | os.PathLike, predictions: list[Prediction], sets: list[list[str]] | None = None) -> None:
    """A line for each picture: file, class, probability, and the set of classes, joined by |, if there are sets."""
    rows = [(name, kind, f"{p:.4f}") for name, kind, p in predictions]
    header = ("file", "class", "probability")
    if sets is not None:
        header, rows = (*header, "set"), [(*row, "|".join(one)) for row, one in zip(rows, sets)]
    _write_rows(path, [header, *rows])


def sort_copies(files: dict[str, Callable[[], bytes]], found: list[tuple[str, str]], folder: pathlib.Path) -> None:
    """Copies pictures into folders, each whole or not at all; nothing is replaced, a name that is taken gets a number.

    Args:
        files: see `picture_files`; found: (name, name of a folder below `folder`) of each.

    Raises:
        RunError: a folder would lie outside, as a class's name leads there; OSError: a copy cannot be written.
    """
    for name, kind in found:
        content, (stem, ending), count = files[name](), os.path.splitext(pathlib.PurePosixPath(name).name), 1
        target = folder / kind
        if not target.resolve().is_relative_to(folder.resolve()):
            raise RunError(f"the class {kind!r} leads out of {folder}")
        target.mkdir(parents=True, exist_ok=True)
        while True:
            copy = target / f"{stem}{f' ({count})' if count > 1 else ''}{ending}"
            try:
                open(copy, "xb").close()
            except FileExistsError:
                count += 1
                continue
            try:
                write_whole(copy, content)
            except BaseException:
                copy.unlink()
                raise
            break


def write_test(folder: pathlib.Path, probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str],
               files: Sequence[str] = (), what: str = "file") -> str:
    """Writes which test images a classifier gets wrong, and returns the accuracy of each class as a line.

    Of many classes it has the lowest accuracies; at its end is the mean over classes, in which none counts more than others.

    Args:
        folder: gets `mistakes.csv`, a line for each wrong image with the most certain first, and `confusion.csv`, the number
            of images of each class (row) that were taken for each class (column).
        probabilities: (N, classes); labels: the right classes, (N,).
        files: the images' names; by default their places in the test set. what: how their column is called.
    """
    predicted, p = probabilities.argmax(1), probabilities.max(1)
    wrong = np.flatnonzero(predicted != labels)
    rows = [(files[i] if files else i, classes[labels[i]], classes[predicted[i]], f"{p[i]:.4f}")
            for i in wrong[np.argsort(-p[wrong], kind="stable")]]
    _write_rows(folder / "mistakes.csv", [(what if files else "image", "class", "predicted", "probability"), *rows])
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    _write_rows(folder / "confusion.csv", [("class", *classes), *((c, *row) for c, row in zip(classes, confusion.tolist()))])
    shares = [(confusion[k, k] / n, c) for k, c in enumerate(classes) if (n := confusion[k].sum())]
    many = len(shares) > 20
    each = [f"{c} {100 * share:.1f} %" for share, c in (sorted(shares, key=lambda pair: pair[0])[:5] if many else shares)]
    mean = np.mean([share for share, _ in shares])
    return (f"{'lowest accuracies of a class' if many else 'accuracy of each class'}: {', '.join(each)}; "
            f"mean over classes {100 * mean:.1f} %")


def _write_rows(path, rows):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_whole(pathlib.Path(path), text.getvalue())
