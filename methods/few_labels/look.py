"""What a folder holds: labelled pictures or texts, unlabelled ones, some to test on, and what cannot be used.

Sub-folders are classes; what lies in `unlabelled/` or beside them has no class, but for the labels of `label_log`. A folder
without sub-folders, or with one alone, is all unlabelled. What is in `test/` is used for the last number only. Texts are `.txt`
files in such folders, the rows of a `.csv` or `.tsv` file, of which some have a label, or the lines of a `.txt` file.
"""
import collections
import contextlib
import dataclasses
import io
import operator
import os
import pathlib
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad import data
from minigrad.data.folder import (
    PARTS, SAVE_AS, arrange, content_of, counted, find_files, hidden, open_picture, printable, skipped_line, some)
from minigrad.data.labelled_texts import (
    LABEL, TABLES, decode_lines, decode_text, excess, cell_text, lines_of, table_rows, text_column, unnamed)

from . import label_log

DARK = 4096  # of 16-bit pictures whose pixels are all below, as of a 12-bit camera, 8 bits keep 16 shades
# what is said of files that are no pictures and no texts, and their endings
ELSEWHERE = {f"Texts are read if saved as {SAVE_AS['text'][0]}": SAVE_AS["text"][1],
             f"Recordings are for examples.cpc_audio, as {SAVE_AS['recording'][0]}": (".wav", *SAVE_AS["recording"][1])}


@dataclasses.dataclass
class Folder:
    """The N pictures or texts of a folder, a zip, or a file of texts.

    Args:
        path: of the folder, zip or file.
        files: their names below it, or those of rows; readers: of each the function that returns its bytes.
        labels: (N,) places among `classes`, -1 where there is none, -2 of what turned out to be unusable.
        tested: (N,) bool, which of them are to test on.
        classes: names, sorted.
        unusable: from the names of files that cannot be used to the reasons.
        notes: further sentences on what was found.
        sizes: of some of the pictures, (width, height) each.
        log: the path of the labels given by clicks.
        what: "picture" or "text".
    """

    path: pathlib.Path
    files: list[str]
    readers: list[Callable[[], bytes]]
    labels: np.ndarray
    tested: np.ndarray
    classes: tuple[str, ...]
    unusable: dict[str, str]
    notes: list[str]
    sizes: list[tuple[int, int]]
    log: pathlib.Path
    what: str = "picture"

    @property
    def labelled(self) -> np.ndarray:
        """The places of the pictures with a label to learn from."""
        return np.flatnonzero((self.labels >= 0) & ~self.tested)

    @property
    def unlabelled(self) -> np.ndarray:
        """The places of those without a label."""
        return np.flatnonzero(self.labels == -1)

    @property
    def test(self) -> np.ndarray:
        """The places of those to test on."""
        return np.flatnonzero(self.tested & (self.labels >= 0))

    def counts(self) -> np.ndarray:
        """How many labelled pictures each class has, (classes,)."""
        return np.bincount(self.labels[self.labelled], minlength=len(self.classes))

    def picture(self, i: int) -> Any:
        """Pillow's picture of the file at that place. ValueError: it cannot be read."""
        return open_picture(content_of(self.readers[i]))

    def text(self, i: int) -> str:
        """The text of the file at that place. ValueError: it cannot be read."""
        return decode_text(content_of(self.readers[i]))

    def unreadable(self, i: int) -> str:
        """Why the file at that place cannot be read, as one that was deleted or moved since; empty if it can."""
        try:
            self.text(i) if self.what == "text" else content_of(self.readers[i])
        except ValueError as error:
            return str(error)
        return ""

    def without(self, places: list[int], reasons: list[str]) -> None:
        """Takes pictures out, each for a reason; they are `unusable` from then on."""
        self.unusable |= {self.files[i]: reason for i, reason in zip(places, reasons)}
        self.labels[places] = -2

    def drop_empty_classes(self) -> list[str]:
        """Forgets the classes of which no labelled picture can be used, and what is of them to test on; their names."""
        kept = np.flatnonzero(self.counts())
        lost = [name for k, name in enumerate(self.classes) if k not in kept]
        if lost:
            numbers = np.full(len(self.classes), -2)
            numbers[kept] = np.arange(len(kept))
            known = self.labels >= 0
            self.labels[known] = numbers[self.labels[known]]
            self.classes = tuple(self.classes[k] for k in kept)
        return lost

    def description(self) -> list[str]:
        """What was found, in plain sentences."""
        known, test, rest = self.labelled, self.test, self.unlabelled
        total = counted(len(known) + len(test) + len(rest), self.what)
        lines = [f"{printable(str(self.path))} holds {total}: {len(known)} with a label to learn from, {len(rest)} without"
                 + (f", {len(test)} to test on." if len(test) else ".")]
        if self.sizes:
            (w, h), (w2, h2) = (f(self.sizes, key=lambda size: size[0] * size[1]) for f in (min, max))
            lines.append(f"They are {w} x {h}{f' to {w2} x {h2}' if (w, h) != (w2, h2) else ''} pixels large"
                         f"{f' ({len(self.sizes)} were looked at)' if len(self.sizes) < len(self.files) else ''}.")
        counts = self.counts()
        if len(self.classes):
            each = some([f"{name} {n}" for name, n in zip(self.classes, counts)], 30)
            lines.append(f"{counted(len(self.classes), 'class', 'classes')}, with so many labels: {each}.")
        if len(known):
            lines.append(_estimate(counts, len(test), self.what))
        else:
            do = (f"put {self.what}s into a sub-folder for each class" if self.path.is_dir() or self.path.suffix.lower() == ".zip"
                  else "write labels into a column of the table, called label")
            lines.append(f"Nothing is labelled yet: {do}, or run this with --label and click.")
        if self.unusable:
            lines.append(f"{counted(len(self.unusable), 'file' if self.what == 'picture' else 'text')} cannot be used: "
                         + some([f"{name} ({why})" for name, why in self.unusable.items()]) + ".")
        return lines + self.notes


def _estimate(counts, tests, what):
    """How accuracy will be estimated from so many labels of each class and `tests` to test on, in plain sentences."""
    alone, classes = int((counts == 1).sum()), (counts > 0).sum()
    if classes < 2:
        return "Two classes with labels are needed before anything can be told apart."
    held = (f"What is to test on ({counted(tests, what)}) is looked at once, at the end, and serves to choose nothing."
            if tests else f"No {what} is held out for good.")
    if alone == classes:
        return f"{held} Each class has one label, so none can be left out to estimate an accuracy; two of each will do."
    single = f" {counted(alone, 'class has', 'classes have')} one label, which cannot be left out." if alone else ""
    return (f"{held} Accuracy is estimated by leaving labelled {what}s out in turn: each is classified by what was learnt from "
            f"the others.{single}")


def look(path: str | os.PathLike, out: str | os.PathLike) -> Folder:
    """The folder's pictures or texts, with labels from sub-folders and from the log.

    Args:
        path: a folder, a zip of one, or a file of texts.
        out: the run's folder, where the log is if it cannot be beside the pictures.

    Raises:
        FileNotFoundError, ValueError: there is nothing usable; one line that says why.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() in (*TABLES, ".txt"):
        if not path.exists():
            raise FileNotFoundError("there is no such file")
        if path.is_file():
            return _table(path, out)
    found, what = data.find_pictures(path), "picture"
    if not found.files and found.others[".txt"]:
        found, what = find_files(path, {".txt"}, "text"), "text"
    if not found.files:
        advice = [said for said, endings in ELSEWHERE.items() if any(found.others[ending] for ending in endings)]
        raise ValueError(". ".join([f"{path} holds no pictures", *found.left_out(), *advice]))
    log = label_log.place(path, out)
    if log.parent == path and log.exists():
        found.others.subtract([label_log.NAME])
        found.others += collections.Counter()  # without those that are 0
    kinds, tested, notes = _classes(list(found.files), what)
    notes += [f"{line[0].upper()}{line[1:]}." for line in found.left_out() if not line.startswith("skipped")]
    if empty := empty_folders(path):
        notes.append(f"Nothing lies in {some(empty)} yet: with --label "
                     f"{'it is a class' if len(empty) == 1 else 'they are classes'} to click.")
    return _folder(path, found.files, kinds, tested, dict(found.skipped), notes, log, what)


def _folder(path, readers, kinds, tested, unusable, notes, log, what, key=str):
    """A Folder of files with these readers, classes as the log changes them (see `label_log.labels`), and names to test on."""
    lines, lost = label_log.read(log)
    logged, known = label_log.labels(lines, key), set(kinds.values())
    for kind in {kind for kind, _ in logged.values()} - known:
        try:
            label_log.class_name(kind)
        except ValueError:
            lost |= {f"{file} as {kind}": "it can be no class" for file, (named, _) in logged.items() if named == kind}
            logged = {file: label for file, label in logged.items() if label[0] != kind}
    clicked = {name: logged[key(name)] for name in readers if key(name) in logged}
    lost |= {file: "it is not here" for file in logged.keys() - {key(name) for name in clicked}}
    others = {name for name, (_, summed) in clicked.items() if summed and _checksum(readers[name]) not in ("", summed)}
    lost |= {name: "the file is another than was labelled" for name in others}
    clicked = {name: kind for name, (kind, _) in clicked.items() if name not in others}
    if lost:
        notes.append(f"{counted(len(lost), 'label')} in {printable(log.name)} cannot be used: "
                     + some([f"{printable(what)} ({why})" for what, why in sorted(lost.items())]) + ".")
    kinds = kinds | clicked
    if clicked:
        notes.append(f"{counted(len(clicked), 'label comes', 'labels come')} from {printable(str(log))}.")
    classes, files = tuple(sorted(set(kinds.values()))), list(readers)
    place = {kind: k for k, kind in enumerate(classes)}
    labels = np.array([place[kinds[name]] if name in kinds else -1 for name in files], np.int64)
    sizes, reached = _seen(list(readers.values())) if what == "picture" else ([], 0)
    if 0 < reached < DARK:
        notes.append(f"Pixels of 16 bits reach only {reached:,} of 65,535 and are read as nearly black: stretch them before.")
    return Folder(path, files, list(readers.values()), labels, np.array([name in tested for name in files]), classes, unusable,
                  notes, sizes, log, what)


def _checksum(read):
    """Of a file's content; empty if it cannot be read, which is said when it is to be used."""
    try:
        return label_log.checksum(content_of(read))
    except ValueError:
        return ""


def empty_folders(path: str | os.PathLike) -> list[str]:
    """The folders in a folder in which nothing lies: classes whose first picture is still to be clicked."""
    names = []
    for folder in pathlib.Path(path).glob("*/"):
        with contextlib.suppress(OSError):
            if (folder.is_dir() and not hidden(folder.name) and folder.name.lower() not in PARTS
                    and all(map(hidden, os.listdir(folder)))):
                names.append(printable(folder.name))
    return sorted(names)


def _table(path, out):
    """The texts of a table whose column of labels may have gaps, or of a file with a text a line."""
    content = path.read_bytes()
    rows = ([(i, [line]) for i, line in enumerate(lines_of(decode_lines(content)), 1) if line.strip()]
            if path.suffix.lower() == ".txt" else table_rows(path.name, content))
    begin, at, of, width, notes = _columns(path.name, [row for _, row in rows])
    readers, kinds, unusable, labels = {}, {}, {}, []
    for i, row in rows[begin:]:
        text, kind = (row[k].strip() if k is not None and k < len(row) else "" for k in (at, of))
        kind = cell_text(kind)
        labels.append(kind)
        if why := excess(row, width) if text else "it has no text":
            unusable[f"row {i}"] = why
            continue
        name = f"row {i} ({zlib.crc32(text.encode()):08x})"
        readers[name] = lambda text=text: text.encode()
        if kind:
            kinds[name] = kind
    if not readers:
        raise ValueError("; ".join([f"{path} holds no texts", *filter(None, [skipped_line(unusable)])]))
    notes += [f"{note[0].upper()}{note[1:]}." for note in (unnamed(labels) if not begin else [])]
    log = label_log.place(path.parent, out).with_name(f"{path.stem}.{label_log.NAME}")
    digest = operator.itemgetter(slice(-len("(00000000)"), None))  # a label is of the text, wherever its row has gone
    return _folder(path, readers, kinds, (), unusable, notes, log, "text", digest)


def _columns(name, rows):
    """How many rows of names there are, the columns of texts and of labels, None if there is none, the width, and notes."""
    (begin, at, of, width), notes = text_column(rows), []
    if width > 2 and not begin:
        raise ValueError(f"{name} has {width} columns: name those of texts and labels in its first row, text and label")
    if width == 2:
        of = 1 - at
    elif of is None and width > 2:
        notes.append(f"No column is called {', '.join(LABEL[:-1])} or {LABEL[-1]}, so nothing has a label.")
    return begin, at, of if of != at else None, width, notes


def _classes(names, what):
    """From names to classes, the names of what is to test on, and notes."""
    loose = [name for name in names if "/" not in name]
    inside = [name for name in names if "/" in name]
    layout = arrange([*inside, *(f"unlabelled/{name}" for name in loose)], what)
    notes = [f"{note[0].upper()}{note[1:]}." for note in layout.notes]
    kinds = {name: kind for part in (layout.train, layout.test) for kind, members in part.items() for name in members}
    if len(layout.train) == 1 and not layout.test and not layout.unlabelled:
        notes.append(f"One sub-folder alone, {next(iter(layout.train))}, is taken for a place, not for a class.")
        kinds = {}
    return kinds, {name for members in layout.test.values() for name in members}, notes


def _seen(readers, most=100, deep=10):
    """(width, height) of some pictures, evenly spaced, as far as they can be read; the largest pixel of some of 16 bits, or 0."""
    from PIL import Image
    sizes, reached = [], []
    for i in np.unique(np.linspace(0, len(readers) - 1, min(most, len(readers))).astype(int)):
        try:
            with Image.open(io.BytesIO(content_of(readers[i]))) as picture:
                sizes.append(picture.size)
                if picture.mode[0] == "I" and len(reached) < deep:
                    reached.append(picture.getextrema()[1])
        except Exception:  # decoders raise errors of all kinds; what is broken is said when it is read
            continue
    return sizes, max(reached, default=0)
