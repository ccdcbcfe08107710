"""What a folder holds: labelled pictures, unlabelled ones, pictures to test on, and what cannot be used.

Sub-folders are classes; what lies in `unlabelled/` or beside them has no class, but for the labels of `label_log`. A folder
without sub-folders, or with one alone, is all unlabelled. Pictures in `test/` are used for the last number only.
"""
import dataclasses
import io
import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad import data
from minigrad.data.folder import arrange, content_of, open_picture, some

from . import label_log


@dataclasses.dataclass
class Folder:
    """The pictures of a folder or zip.

    Args:
        path: of the folder.
        files: their names below it, sorted; readers: from its place to the bytes of each.
        labels: (N,) places among `classes`, -1 where there is none, -2 of files that turned out to be unusable.
        tested: (N,) bool, which of them are to test on.
        classes: names, sorted.
        unusable: from the names of files that cannot be used to the reasons.
        notes: further sentences on what was found.
        sizes: of some of the pictures, (width, height) each.
        log: the path of the labels given by clicks.
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

    @property
    def labelled(self) -> np.ndarray:
        """The places of the pictures with a label to learn from."""
        return np.flatnonzero((self.labels >= 0) & ~self.tested)

    @property
    def unlabelled(self) -> np.ndarray:
        """The places of those without."""
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

    def without(self, places: list[int], reasons: list[str]) -> None:
        """Takes pictures out, for reasons; their files are `unusable` from then on."""
        self.unusable |= {self.files[i]: reason for i, reason in zip(places, reasons)}
        self.labels[places] = -2

    def drop_empty_classes(self) -> list[str]:
        """Forgets the classes of which no labelled picture can be used; their names."""
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
        lines = [f"{self.path} holds {_number(len(known) + len(test) + len(rest), 'picture')}: {len(known)} with a label"
                 f" to learn from, {len(rest)} without" + (f", {len(test)} to test on." if len(test) else ".")]
        if self.sizes:
            (w, h), (w2, h2) = (f(self.sizes, key=lambda size: size[0] * size[1]) for f in (min, max))
            lines.append(f"They are {w} x {h}{f' to {w2} x {h2}' if (w, h) != (w2, h2) else ''} pixels large"
                         f"{f' (seen of {len(self.sizes)})' if len(self.sizes) < len(self.files) else ''}.")
        counts = self.counts()
        if len(self.classes):
            each = some([f"{name} {n}" for name, n in zip(self.classes, counts)], 30)
            lines.append(f"{_number(len(self.classes), 'class', 'classes')}, with so many labels: {each}.")
        if len(known):
            lines.append(_estimate(counts, len(test)))
        else:
            lines.append("Nothing is labelled yet: put pictures into a sub-folder for each class, or run this with --label "
                         "and click.")
        if self.unusable:
            lines.append(f"{_number(len(self.unusable), 'file')} cannot be used: "
                         + some([f"{name} ({why})" for name, why in self.unusable.items()]) + ".")
        return lines + self.notes


def _estimate(counts, tests):
    alone = int((counts == 1).sum())
    if (counts > 0).sum() < 2:
        return "Two classes with labels are needed before anything can be told apart."
    held = (f"The {tests} pictures to test on are looked at once, at the end, and serve to choose nothing."
            if tests else "No picture is held out for good.")
    text = (f"{held} Accuracy is estimated by leaving labelled pictures out in turn: each is classified by what was learnt "
            "from the others.")
    if alone == (counts > 0).sum():
        return f"{held} Each class has one label, so none can be left out to estimate an accuracy; two of each will do."
    return text + (f" {_number(alone, 'class has', 'classes have')} one label, which cannot be left out." if alone else "")


def _number(count, one, several=None):
    return f"{count} {one if count == 1 else several or one + 's'}"


def look(path: str | os.PathLike, out: str | os.PathLike) -> Folder:
    """The folder's pictures, with labels from sub-folders and from the log.

    Args:
        path: a folder, or a zip of one.
        out: the run's folder, where the log is if it cannot be beside the pictures.

    Raises:
        FileNotFoundError, ValueError: there is nothing usable; one line that says why.
    """
    path = pathlib.Path(path)
    found = data.find_pictures(path)
    if not found.files:
        raise ValueError(". ".join([f"{path} holds no pictures", *found.left_out()]))
    kinds, tested, notes = _classes(list(found.files))
    log = label_log.place(path, out)
    clicked = {name: kind for name, kind in label_log.labels(log).items() if name in found.files}
    kinds |= clicked
    if clicked:
        notes.append(f"{_number(len(clicked), 'label comes', 'labels come')} from {log}.")
    notes += [f"{line[0].upper()}{line[1:]}." for line in found.left_out() if not line.startswith("skipped")]
    classes, files = tuple(sorted(set(kinds.values()))), list(found.files)
    place = {kind: k for k, kind in enumerate(classes)}
    labels = np.array([place[kinds[name]] if name in kinds else -1 for name in files], np.int64)
    readers = list(found.files.values())
    return Folder(path, files, readers, labels, np.array([name in tested for name in files]), classes, dict(found.skipped),
                  notes, _sizes(readers), log)


def _classes(names):
    """From names to classes, the names of pictures to test on, and notes."""
    loose = [name for name in names if "/" not in name]
    inside = [name for name in names if "/" in name]
    layout = arrange([*inside, *(f"unlabelled/{name}" for name in loose)])
    notes = [f"{note[0].upper()}{note[1:]}." for note in layout.notes]
    kinds = {name: kind for part in (layout.train, layout.test) for kind, members in part.items() for name in members}
    if len(layout.train) == 1 and not layout.test and not layout.unlabelled:
        notes.append(f"One sub-folder alone, {next(iter(layout.train))}, is taken for a place, not for a class.")
        kinds = {}
    return kinds, {name for members in layout.test.values() for name in members}, notes


def _sizes(readers, most=100):
    """(width, height) of up to so many pictures, evenly spaced, as far as they can be read."""
    from PIL import Image
    sizes = []
    for i in np.unique(np.linspace(0, len(readers) - 1, min(most, len(readers))).astype(int)):
        try:
            with Image.open(io.BytesIO(content_of(readers[i]))) as picture:
                sizes.append(picture.size)
        except Exception:  # decoders raise errors of all kinds; what is broken is said when it is read
            continue
    return sizes
