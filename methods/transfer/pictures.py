"""Labelled pictures at their own size, for encoders that were trained on larger ones than 32 x 32."""
import collections
import contextlib
import hashlib
import os
import pathlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from methods.training.checkpoint import fingerprint
from methods.training.data_sets import data_set, selected, unscaled
from methods.training.images import divide
from minigrad import data
from minigrad.data.folder import PARTS, File, arrange, check_picture, content_of, open_picture, printable, some


@dataclass
class Pictures:
    """Pictures to train and to test on.

    Args:
        pictures: each as bytes (C, H, W) or as Pillow's; to take one that cannot be read raises ValueError.
        labels: (N,) int64, -1 where there is none.
        classes: their names.
        train, test, unlabelled: which pictures serve for what, sorted.
        description: a line or several on what was found.
        files: the pictures' names below `source`, a folder or zip, if they are files.
        identity: what tells these pictures from others: goes into the names of cached features.
    """

    pictures: Sequence[Any]
    labels: np.ndarray
    classes: tuple[str, ...]
    train: np.ndarray
    test: np.ndarray
    unlabelled: np.ndarray
    description: str
    identity: tuple
    files: list[str] | None = None
    source: str = ""

    @property
    def names(self) -> list[str]:
        """What tables call the pictures: files with their folder, others by their places."""
        if self.files is None:
            return [str(i) for i in range(len(self.labels))]
        return [printable((pathlib.Path(self.source) / name).as_posix()) for name in self.files]

    @property
    def fingerprint(self) -> str:
        """A digest of the classes and of which pictures serve for what: arrays by their numbers, files by their names."""
        return fingerprint(self.classes, self.labels, self.train, self.test, self.files or self.pictures)

    def chosen(self, per_class: int, seed: int) -> np.ndarray:
        """Which pictures to train on have a label: so many of each class, drawn with the seed; 0 for all.

        Raises:
            ValueError: a class has fewer.
        """
        if not per_class:
            return self.train
        y = self.labels[self.train]
        counts = np.bincount(y, minlength=len(self.classes))
        if few := [f"{name} has {n}" for name, n in zip(self.classes, counts) if n < per_class]:
            raise ValueError(f"{per_class} labels of each class are asked for, and to train on {some(few)}; at most "
                             f"{counts.min()} of each can be had")
        return np.sort(self.train[data.balanced_subset(y, per_class * len(self.classes), seed)])

    def without(self, broken: Sequence[int]) -> "Pictures":
        """Without the pictures at these places.

        Raises:
            ValueError: a class has then none to train or to test on.
        """
        if not len(broken):
            return self
        kept = replace(self, **{part: np.setdiff1d(getattr(self, part), broken) for part in ("train", "test", "unlabelled")})
        for part in ("train", "test"):
            present = set(self.labels[getattr(kept, part)])
            if lost := [name for k, name in enumerate(self.classes) if k not in present]:
                raise ValueError(f"no picture to {part} on can be read of {some(lost)}")
        return kept


def inputs_of(pictures: Pictures, places: np.ndarray,
              preprocessing: Callable[[Any], np.ndarray]) -> tuple[Pictures, dict[int, np.ndarray]]:
    """What a network reads of the pictures at these places; and the pictures without unreadable ones, which are named.

    Raises:
        ValueError: a class has none to train or to test on.
    """
    found = {}
    for i in places:
        try:
            found[i] = preprocessing(pictures.pictures[i])[0]
        except ValueError as error:
            print(f"skipped {pictures.files[i] if pictures.files else i}: {error}", file=sys.stderr)
    return pictures.without([i for i in places if i not in found]), found


def load(source: str, test: int = 0, pool: int = 0, classes: tuple[str, ...] = ()) -> Pictures:
    """Pictures to train and to test on.

    Args:
        source: a data set (see `methods.training.data_sets.data_set`), or an image folder (or zip of one) of your
            own, divided as `methods.training.images.own_images` does.
        test: at most so many pictures of a data set to test on, drawn at random but always the same; 0 for all.
        pool: at most so many of a data set to train on, likewise.
        classes: the names of the only classes to be used; all if empty.

    Raises:
        SystemExit: nothing usable is there; one line that says why.
    """
    try:
        known = data_set(source)
        found = own_pictures(source) if known is None else _arrays(*known)
        found = _only(found, classes) if classes else found
        found = found if known is None else _part(_part(found, "test", test), "train", pool)
    except (OSError, ImportError, ValueError) as error:
        raise SystemExit(f"--data {source}: {error}") from None
    return found


def _only(found, classes):
    """The pictures of some classes alone, in this order."""
    labels, names = selected(found.labels, found.classes, classes)
    if len(names) < 2:
        raise ValueError("two classes or more are needed")
    return replace(found, labels=labels, classes=names, train=found.train[labels[found.train] >= 0],
                   test=found.test[labels[found.test] >= 0],
                   description=f"{found.description}; of those the classes {', '.join(names)}")


def _part(found, name, most):
    """At most so many of the pictures to train or to test on, equally many of each class."""
    places = getattr(found, name)
    if not most or most >= len(places):
        return found
    part = np.sort(places[data.balanced_subset(found.labels[places], most, 0)])
    return replace(found, **{name: part, "description": f"{found.description}; of those to {name} on {most} serve"})


def _arrays(x, y, test, test_y, name, classes):
    images, n = unscaled(np.concatenate([x, test])), len(x)
    everything = np.arange(len(images))
    description = f"{name}: {len(classes)} classes, {n} pictures to train on, {len(test)} to test on"
    return Pictures(images, np.concatenate([y, test_y]).astype(np.int64), classes, everything[:n], everything[n:],
                    everything[:0], description, (name, images))


class Files(Sequence):
    """Picture files, read when they are taken."""

    def __init__(self, readers: list[Callable[[], bytes]]):
        self.readers = readers

    def __len__(self) -> int:
        return len(self.readers)

    def __getitem__(self, i: int) -> Any:
        return open_picture(content_of(self.readers[i]))


def own_pictures(path: str) -> Pictures:
    """The pictures of an image folder, or of a zip of one; see `minigrad.data.folder`. What is none is left out."""
    found = data.find_pictures(path)
    broken = {}
    for name, read in found.files.items():
        try:
            check_picture(read)
        except ValueError as error:
            broken[name] = str(error)
    found.skipped.update(broken)
    files = {name: read for name, read in found.files.items() if name not in broken}
    names = list(files)
    if not names:
        raise ValueError("; ".join([f"{path} holds no pictures", *found.left_out()]))
    left = {os.path.dirname(name) for name in broken} - {os.path.dirname(name) for name in names}
    if lost := sorted(folder for folder in left if folder and PARTS.get(folder.rpartition("/")[2].lower()) != "unlabelled"):
        raise ValueError(f"no picture can be read in {some(lost)}; {'; '.join(found.left_out())}")
    try:
        layout = arrange(names)
        classes, pools = divide(layout, _contents(files))
    except ValueError as error:
        raise ValueError("; ".join([f"{path}: {error}", *found.left_out()])) from None
    place = {name: i for i, name in enumerate(names)}
    labels = np.full(len(names), -1)
    parts = [[], []]
    for k, pool in enumerate(pools):
        for part, members in zip(parts, pool):
            where = [place[name] for name in members]
            labels[where] = k
            part.extend(where)
    train, test, unlabelled = (np.sort(np.array(part, int)) for part in (*parts, [place[n] for n in layout.unlabelled]))
    notes = "".join(f"\n{note}" for note in (*layout.notes, *found.left_out()))
    description = (f"{path}: {len(classes)} classes, {len(train)} pictures to train on, {len(test)} to test on"
                   f"{f', {len(unlabelled)} without a label' if len(unlabelled) else ''}{notes}")
    return Pictures(Files(list(files.values())), labels, tuple(classes), train, test, unlabelled, description,
                    _identity(pathlib.Path(path), files), names, path)


def _contents(files):
    """From the name of a file to what copies of it have in common. Only files of one size are read, as others are no copies."""
    sizes = {name: file.path.stat().st_size for name, file in files.items() if isinstance(file, File) and file.path.is_file()}
    several = collections.Counter(sizes.values())

    def content(name):
        if several.get(sizes.get(name), 2) > 1:  # the size of what is in a zip is not known
            with contextlib.suppress(ValueError):  # it cannot be read
                return hashlib.blake2b(content_of(files[name]), digest_size=16).digest()
        return name

    return content


def _identity(path, files):
    """What changes when a picture does: sizes and times of the files, or of the zip."""
    if path.is_file():
        facts = path.stat()
        return (str(path), facts.st_size, facts.st_mtime_ns, *files)
    identity = []
    for name, file in files.items():
        with contextlib.suppress(OSError):  # a link that leads nowhere
            facts = file.path.stat()
            identity.append((name, facts.st_size, facts.st_mtime_ns))
    return tuple(identity)
