"""Labels that a person gives to single pictures: a CSV file beside them to which lines are added and none is ever removed.

A line is (time, file, class, moved): the file's name below the folder, the class, empty when the label was taken back, and
where the file was moved, if it was. The last line of a file counts. A spreadsheet may have saved it with semicolons.
"""
import codecs
import contextlib
import csv
import io
import os
import pathlib
import time
from collections.abc import Callable

from minigrad.data.folder import LABELS

NAME = LABELS
COLUMNS = ("time", "file", "class", "moved")


def place(folder: str | os.PathLike, out: str | os.PathLike) -> pathlib.Path:
    """Where the log of a folder is: beside its pictures, or in `out` if these lie in a zip or nothing can be written there."""
    folder = pathlib.Path(folder)
    if (folder / NAME).exists() or folder.is_dir() and os.access(folder, os.W_OK):
        return folder / NAME
    return pathlib.Path(out) / NAME


def append(path: pathlib.Path, file: str, kind: str, moved: str = "") -> None:
    """Adds a line, in one write that is on the disk when this returns. What a kill left of a line is closed and stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab+") as log:
        log.seek(0)
        text, delimiter = io.StringIO(), _delimiter(log.readline())
        if log.seek(0, os.SEEK_END) == 0:
            text.write(",".join(COLUMNS) + "\n")
        else:
            log.seek(-1, os.SEEK_END)
            text.write("" if log.read(1) == b"\n" else "\n")
        row = time.strftime("%Y-%m-%dT%H:%M:%S"), file, kind, moved
        csv.writer(text, delimiter=delimiter, lineterminator="\n").writerow(row)
        log.write(text.getvalue().encode())
        log.flush()
        os.fsync(log.fileno())


def lines(path: pathlib.Path) -> list[tuple[str, str, str]]:
    """(file, class, moved) of each whole line, in order; empty if there is no log."""
    if not path.exists():
        return []
    content, found = path.read_bytes(), []
    delimiter = _delimiter(content)
    for line in content.decode("utf-8-sig", "replace").split("\n"):  # each alone: a torn one may have opened a quote
        with contextlib.suppress(csv.Error):
            row = tuple(next(csv.reader([line.rstrip("\r")], delimiter=delimiter), ()))
            if len(row) == len(COLUMNS) and row != COLUMNS:
                found.append(row[1:])
    return found


def _delimiter(content):
    """By the names of the columns, behind a byte order mark or not."""
    return ";" if content.removeprefix(codecs.BOM_UTF8).startswith(";".join(COLUMNS).encode()) else ","


def labels(path: pathlib.Path, key: Callable[[str], str] = str) -> dict[str, str]:
    """From the keys of files to their classes. Args: key: makes one of a name; names of one key are of one file."""
    found = {}
    for file, kind, moved in lines(path):
        found.pop(key(file), None)
        if kind and not moved:
            found[key(file)] = kind
    return found
