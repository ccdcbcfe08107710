"""The pictures to be labelled, one after the other, what was clicked, and undo."""
import contextlib
import os
import pathlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minigrad.data.folder import File, content_of, printable

from . import label_log
from .look import Folder, empty_folders

EXCERPT = 2000  # characters of a text


@dataclass
class Click:
    """A label that was given.

    Args:
        kind: the class.
        source: where the file was; moved: its new name below the folder; both empty if it stayed.
        new_class: the class was none before; new_folder: the folder that was made for it.
    """

    place: int
    kind: str
    source: pathlib.Path | None = None
    moved: str = ""
    new_class: bool = False
    new_folder: pathlib.Path | None = None


class LabelQueue:
    """The queue, safe to be used from several threads.

    Args:
        folder: its labels change with each click.
        suggest: the places of pictures to label next, most worth first; called when all before are done.
        guess: the most probable class of a picture, or an empty string.
        classes: names that may be clicked besides those of the folder's labels and of its empty sub-folders.
        move: files are moved into the folders of their classes; what is in a zip or behind a linked folder stays, and its label
            is in the log alone.
    """

    def __init__(self, folder: Folder, suggest: Callable[[], np.ndarray], guess: Callable[[int], str] = lambda i: "",
                 classes: tuple[str, ...] = (), *, move: bool = False):
        self.folder, self.suggest, self.guess, self.move = folder, suggest, guess, move
        self.classes = list(dict.fromkeys((*folder.classes, *map(label_log.class_name, classes))))
        for name in empty_folders(folder.path):
            with contextlib.suppress(ValueError):  # a name that cannot be moved to
                self.classes += {label_log.class_name(name)}.difference(self.classes)
        self.clicks: list[Click] = []
        self.skipped: set[int] = set()
        self.lock = threading.RLock()
        self.waiting = [int(i) for i in suggest()]

    def state(self) -> dict[str, Any]:
        """What the page shows."""
        with self.lock:
            self._drop_lost()
            if not self.waiting:
                self.waiting = [int(i) for i in self.suggest() if int(i) not in self.skipped and self._open(int(i))]
                self._drop_lost()
            last = self.clicks[-1] if self.clicks else None
            text = self.folder.text(self.waiting[0])[:EXCERPT] if self.waiting and self.folder.what == "text" else ""
            return {"what": self.folder.what, "classes": self.classes, "done": len(self.clicks), "log": str(self.folder.log),
                    "waiting": [{"picture": i, "file": self.folder.files[i], "guess": self.guess(i)} for i in self.waiting],
                    "text": text,
                    "last": last and {"picture": last.place, "file": self.folder.files[last.place], "class": last.kind,
                                      "moved": last.moved}}

    def _drop_lost(self):
        """Passes over what can no longer be read, deleted or moved by others, until the next can be."""
        while self.waiting and (why := self.folder.unreadable(self.waiting[0])):
            self.folder.without([self.waiting.pop(0)], [why])

    def _open(self, place):
        return self.folder.labels[place] == -1

    def label(self, place: int, kind: Any) -> None:
        """Gives a picture its class; the label is on the disk when this returns.

        Raises:
            ValueError: it has a label, or that is no name of a class; OSError: it could not be written, or the file
                not moved, and it has none.
        """
        with self.lock:
            file = self.folder.files[place]
            if not self._open(place):
                why = self.folder.unusable.get(file)
                raise ValueError(f"{file} cannot be used: {why}" if why else f"{file} has a label; undo it first")
            kind = kind if kind in self.classes else label_log.class_name(kind)
            reader = self.folder.readers[place]
            try:
                summed = label_log.checksum(content_of(reader))
            except ValueError as error:
                raise ValueError(f"{file} cannot be used: {error}") from None
            label_log.append(self.folder.log, file, kind, summed=summed)
            click = Click(place, kind, new_class=kind not in self.classes)
            target = self.folder.path / kind
            if self.move and self.movable(place):
                click.source, click.new_folder = reader.path, None if os.path.isdir(target) else target
                try:
                    reader.path = _move(self.folder.path, reader.path, kind)
                except OSError:
                    label_log.append(self.folder.log, file, "")
                    raise
                click.moved = printable(reader.path.relative_to(self.folder.path).as_posix())
                label_log.append(self.folder.log, file, kind, click.moved, summed)
            if kind not in self.classes:
                self.classes.append(kind)
            self.clicks.append(click)
            self._set(place, kind)

    def movable(self, place: int) -> bool:
        """Whether a picture is a file of the folder itself, or a link there: not in a zip nor in a table, nor in a linked folder,
        where others would miss it."""
        reader, path = self.folder.readers[place], self.folder.path
        return isinstance(reader, File) and (
            reader.path.parent.resolve() == path.resolve() / reader.path.parent.relative_to(path))

    def skip(self, place: int) -> None:
        """Puts a picture aside for this time."""
        with self.lock:
            self.skipped.add(place)
            self.waiting = [i for i in self.waiting if i != place]

    def undo(self) -> None:
        """Takes the last label back, and moves the file back. ValueError: there is none."""
        with self.lock:
            if not self.clicks:
                raise ValueError("there is nothing to undo")
            click = self.clicks[-1]
            file = self.folder.files[click.place]
            if click.source:
                reader = self.folder.readers[click.place]
                if os.path.lexists(reader.path):  # else others have moved it on, perhaps back
                    _rename(reader.path, click.source)
                reader.path = click.source
            if click.new_folder:
                with contextlib.suppress(OSError):  # others have put something there
                    click.new_folder.rmdir()
            label_log.append(self.folder.log, file, "")
            self.clicks.pop()
            if click.new_class:
                self.classes.remove(click.kind)
            self._set(click.place, None, click.kind if click.new_class else None)
            self.waiting.insert(0, click.place)

    def _set(self, place, kind, lost=None):
        """The folder's label; the numbers of classes, without one that is `lost`, follow the sorted names."""
        folder = self.folder
        names = {i: folder.classes[k] for i, k in enumerate(folder.labels) if k >= 0}
        names[place] = kind
        folder.classes = tuple(sorted({*folder.classes, *(k for k in names.values() if k)} - {lost}))
        folder.labels[list(names)] = [folder.classes.index(k) if k else -1 for k in names.values()]
        self.waiting = [i for i in self.waiting if i != place]


def _move(folder, source, kind):
    """Moves a file into its class's folder; its new path."""
    target = folder / kind
    target.mkdir(parents=True, exist_ok=True)
    if not target.resolve().is_relative_to(folder.resolve()):
        raise OSError(f"{target} leads out of the folder")
    stem, ending = os.path.splitext(source.name)
    for count in range(1, 10_000):
        new = target / (source.name if count == 1 else f"{stem} ({count}){ending}")
        if not os.path.lexists(new):
            _rename(source, new)
            return new
    raise OSError(f"{target} has too many files called {source.name}")


def _rename(source: pathlib.Path, target: pathlib.Path):
    """Moves a file to a name that no other has, a link so that it leads where it led. A kill between leaves both names."""
    if os.path.lexists(target):
        raise OSError(f"there is a file {target} already")
    try:
        if source.is_symlink() and not os.path.isabs(leads := os.readlink(source)):
            folder, name = os.path.split(source.parent / leads)
            os.symlink(os.path.relpath(os.path.join(os.path.realpath(folder), name), os.path.realpath(target.parent)), target)
        else:
            os.link(source, target, follow_symlinks=False)
    except OSError:  # a file system without links
        os.rename(source, target)
    else:
        os.unlink(source)
