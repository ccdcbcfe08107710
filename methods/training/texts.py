"""Labelled texts to train and to test on, and batches of them."""
import contextlib
import os
import pathlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minigrad import data
from minigrad.data.folder import counted, find_files, picture_endings, skipped_line, some
from minigrad.data.labelled_texts import LabelledTexts, made_up_reviews, read_labelled_texts
from minigrad.data.text import PARTS_OF_SPEECH, WordPiece

from .forward import slices

NAMES = ("reviews", "sst2", "glosses")


@dataclass
class Texts:
    """Texts with the numbers of their classes, to train and to test on."""

    x: list[str]
    y: np.ndarray
    test: list[str]
    test_y: np.ndarray
    classes: tuple[str, ...]
    description: str


def is_text(source: str) -> bool:
    """Whether a source names texts: a data set of them, a table, or a folder or zip with .txt files, or a folder with tables.

    Beside pictures in sub-folders such files are notes on these.
    """
    path = pathlib.Path(source)
    if source in NAMES or path.suffix.lower() in (".tsv", ".csv", ".txt"):
        return True
    texts, pictures = {".txt"} if path.is_file() else {".tsv", ".csv", ".txt"}, set()
    with contextlib.suppress(ImportError):  # without Pillow no pictures are read
        pictures = picture_endings()
    with contextlib.suppress(OSError, ValueError):  # of which the reader of pictures says what is wrong
        found = [(os.path.splitext(name)[1].lower(), "/" in name) for name in find_files(path, texts | pictures, "text").files]
        return any(ending in texts for ending, _ in found) and not any(ending in pictures and below for ending, below in found)
    return False


def load(source: str, per_class: int = 0, test: int = 0, seed: int = 0) -> Texts:
    """Texts of a source.

    Args:
        source: "reviews", made up; "sst2", the Stanford Sentiment Treebank, and "glosses", WordNet's, by part of speech, from
            where MINIGRAD_DATA says; or texts of your own, see `minigrad.data.labelled_texts`. Without texts to test on a
            fifth is held out, drawn at random but always the same; copies of texts to test on are not trained on.
        per_class: so many of each class to train on, drawn with the seed; 0 for all.
        test: at most so many to test on, drawn at random but always the same; 0 for all.

    Raises:
        SystemExit: nothing usable is there; one line that says why.
    """
    try:
        found = _read(source)
        if found.skipped:
            print(skipped_line(found.skipped, "text"))
        for note in found.notes:
            print(note)
        tested = found.test if found.test is not None else _fifth(found.labels)
        trained = np.setdiff1d(np.arange(len(found.texts)), tested)
        if source not in NAMES:  # known sets stay as published figures have them
            held = {found.texts[i] for i in tested}  # copies of these would be known by heart
            copies = np.array([i for i in trained if found.texts[i] in held], int)
            if len(copies):
                print(f"not trained on: {counted(len(copies), 'copy', 'copies')} of texts to test on")
            trained = np.setdiff1d(trained, copies)
        if test and test < len(tested):
            tested = tested[data.balanced_subset(found.labels[tested], test, 0)]
        y, classes = found.labels[trained], found.classes
        counts = np.bincount(y, minlength=len(classes))
        if few := [f"{name} has {n}" for name, n in zip(classes, counts) if n < max(per_class, 1)]:
            raise ValueError(f"{max(per_class, 1)} texts of each class are asked for, and to train on {some(few)}; at most "
                             f"{counts.min()} of each can be had")
        if not len(tested):
            why = ", as each class has one; two of a class will do" if found.test is None else ""
            raise ValueError(f"there is no text to test on{why}")
        if per_class:
            trained = trained[data.balanced_subset(y, per_class * len(classes), seed)]
    except (OSError, ValueError) as error:
        raise SystemExit(f"--data {source}{f' --per-class {per_class}' if per_class else ''}: {error}") from None
    return Texts([found.texts[i] for i in trained], found.labels[trained], [found.texts[i] for i in tested],
                 found.labels[tested], classes,
                 f"{source}: {len(trained)} texts to train on, {len(tested)} to test on; classes {some(classes)}")


def _read(source):
    if source == "reviews":
        return made_up_reviews()
    if source == "sst2":
        folder = data.data_dir(None) / "sst2"
        if not (folder / "train.tsv").is_file():
            raise FileNotFoundError(f"no train.tsv in {folder}: lines of sentence and label, tab between; MINIGRAD_DATA names "
                                    "the folder above")
        found = read_labelled_texts(folder)
        return LabelledTexts(found.texts, found.labels, ("negative", "positive"), found.test, found.skipped)
    if source == "glosses":
        glosses = data.load_glosses()
        texts = [document[0].partition(": ")[2] or document[0] for document in glosses.documents]  # without the word itself
        return LabelledTexts(texts, glosses.labels, PARTS_OF_SPEECH)
    return read_labelled_texts(source)


def _fifth(labels):
    """A fifth of each class, one at least of two."""
    rng, held = np.random.default_rng(0), []
    for c in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == c))
        held.append(members[:max(1, len(members) // 5)] if len(members) > 1 else members[:0])
    return np.sort(np.concatenate(held))


# -- as ids ----------------------------------------------------------------------------------------------------------

Rows = list[np.ndarray]
TextBatch = tuple[np.ndarray, np.ndarray, np.ndarray]  # ids (N, L), False for padding (N, L), labels (N,)


def tokenised(texts: Sequence[str], vocabulary: WordPiece, tokens: int) -> Rows:
    """Each text's ids, [CLS] first and [SEP] last, `tokens` at most; what is too long is cut off."""
    return [np.concatenate([[vocabulary.cls], ids[:tokens - 2], [vocabulary.sep]]).astype(np.int64)
            for ids in vocabulary.encode(texts)]


def padded(rows: Rows, value: int) -> np.ndarray:
    """Rows of different lengths as one array, filled up at their ends; one column of no rows."""
    table = np.full((len(rows), max(map(len, rows), default=1)), value, np.int64)
    for line, row in zip(table, rows):
        line[:len(row)] = row
    return table


def filled(rows: Rows) -> np.ndarray:
    """Where `padded` has the rows themselves: True, and False for what fills them up."""
    lengths = np.array([len(row) for row in rows], int)
    return np.arange(max(lengths, default=1)) < lengths[:, None]


def by_length(rows: Rows, batch: int) -> Iterator[np.ndarray]:
    """The places of all rows, `batch` at a time, those of a batch about equally long: padding costs time. Of none: none, once."""
    order = np.argsort([len(row) for row in rows], kind="stable")
    return slices(order, batch)


class TextBatches:
    """Batches of texts, each once in a round, those of a batch about equally long."""

    def __init__(self, rows: Rows, labels: np.ndarray, pad: int, batch: int, seed: int):
        self.rows, self.labels, self.pad, self.batch = rows, labels, pad, min(batch, len(rows))
        self.long = np.array([len(row) for row in rows])
        self.rng, self.order = np.random.default_rng((seed, 7)), np.zeros(0, np.int64)

    def _round(self):
        order = np.argsort(self.long + self.rng.uniform(0, 4, len(self.rows)), kind="stable")
        batches = np.split(order, range(self.batch, len(order), self.batch))
        short = [batches.pop()] if len(batches[-1]) < self.batch else []
        return np.concatenate([*(batches[i] for i in self.rng.permutation(len(batches))), *short])

    def sample(self) -> TextBatch:
        """The next batch."""
        if not len(self.order):
            self.order = self._round()
        taken, self.order = self.order[:self.batch], self.order[self.batch:]
        rows = [self.rows[i] for i in taken]
        return padded(rows, self.pad), filled(rows), self.labels[taken]

    def state_dict(self) -> dict[str, Any]:
        """The state of the random numbers and of the round."""
        return {"rng": self.rng.bit_generator.state, "order": self.order}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        self.rng.bit_generator.state, self.order = state["rng"], np.asarray(state["order"], np.int64)
