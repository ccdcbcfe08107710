"""Labels that a person gives to single pictures: a CSV file beside them to which lines are added and none is ever removed.

A line is (time, file, class, moved, checksum): the file's name below the folder, the class, empty when the label was taken
back, where the file was moved, if it was, and the `checksum` of its content: a label is of this content, and of no other file
that gets the name. The last line of a file counts. A person or a spreadsheet may have written it: with semicolons or tabs, the
columns in another order, and no other than file and class.
"""
import codecs
import csv
import io
import os
import pathlib
import re
import time
import unicodedata
import zlib
from collections.abc import Callable

from minigrad.data.folder import LABELS, PARTS, counted, hidden

NAME = LABELS
LONGEST = 100  # characters of a class's name
COLUMNS = ("time", "file", "class", "moved", "checksum")


def place(folder: str | os.PathLike, out: str | os.PathLike) -> pathlib.Path:
    """Where the log of a folder is: beside its pictures, or in `out` if these lie in a zip or nothing can be written there."""
    folder = pathlib.Path(folder)
    if (folder / NAME).exists() or folder.is_dir() and os.access(folder, os.W_OK):
        return folder / NAME
    return pathlib.Path(out) / NAME


def checksum(content: bytes) -> str:
    """What tells a file's content from others; no spreadsheet takes it for a number."""
    return f"crc32:{zlib.crc32(content):08x}"


def append(path: pathlib.Path, file: str, kind: str, moved: str = "", summed: str = "") -> None:
    """Adds a line, in one write that is on the disk when this returns. What a kill left of a line is closed and stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab+") as log:
        log.seek(0)
        text, first = io.StringIO(), log.readline()
        if not first:
            first = (",".join(COLUMNS) + "\n").encode()
            text.write(first.decode())
        else:
            log.seek(-1, os.SEEK_END)
            text.write("" if log.read(1) == b"\n" else "\n")
        delimiter, columns, _ = _form(first)
        kind = kind if "moved" in columns or not moved else ""  # a file that is no longer here has no class
        row = {"time": time.strftime("%Y-%m-%dT%H:%M:%S"), "file": file, "class": kind, "moved": moved, "checksum": summed}
        csv.writer(text, delimiter=delimiter, lineterminator="\n").writerow([row.get(name, "") for name in columns])
        log.write(text.getvalue().encode())
        log.flush()
        os.fsync(log.fileno())


def read(path: pathlib.Path) -> tuple[list[tuple[str, str, str, str]], dict[str, str]]:
    """(file, class, moved, checksum) of each whole line, in order; and why other lines cannot be used. Empty if there is no log.
    """
    if not path.exists():
        return [], {}
    content, found, unusable = path.read_bytes(), [], {}
    delimiter, columns, named = _form(content.partition(b"\n")[0])
    for number, line in enumerate(content.removeprefix(codecs.BOM_UTF8).split(b"\n"), 1):  # a torn one may have opened a quote
        if number == 1 and named or not line.strip():
            continue
        try:
            row = next(csv.reader([line.decode().rstrip("\r")], delimiter=delimiter))
        except (csv.Error, UnicodeDecodeError) as error:
            kind = "UTF-8" if isinstance(error, UnicodeDecodeError) else "line of a CSV file"
            unusable[f"line {number}"] = f"it is no {kind}"
            continue
        if len(row) == len(columns):
            cells = dict(zip(columns, row))  # a file's name may begin or end with a space
            if [name.strip().lower() for name in row] != columns:  # the names again, where files were put together
                found.append((cells["file"], cells["class"].strip(), cells.get("moved", ""), cells.get("checksum", "").strip()))
        else:
            unusable[f"line {number}"] = (f"it has {counted(len(row), 'cell')}, not {len(columns)}" if named or len(found) else
                                          "the first line must name columns file and class")
    return found, unusable


def _form(line):
    """The delimiter and names of the columns by the first line, and whether it names them; else those of a log without names."""
    for delimiter in ",;\t":
        try:
            row = next(csv.reader([line.removeprefix(codecs.BOM_UTF8).decode().strip()], delimiter=delimiter), [])
        except (csv.Error, UnicodeDecodeError):
            continue
        names = [name.strip().lower() for name in row]
        if names.count("file") == names.count("class") == 1:
            return delimiter, names, True
    return ",", list(COLUMNS[:4]), False


def labels(lines: list[tuple[str, str, str, str]], key: Callable[[str], str] = str) -> dict[str, tuple[str, str]]:
    """From the keys of files to their classes and checksums, which are empty where none was written.

    Args:
        key: makes one of a name; names of one key are of one file.
    """
    found = {}
    for file, kind, moved, summed in lines:
        found.pop(key(file), None)
        if kind and not moved:
            found[key(file)] = kind, summed if re.fullmatch("crc32:[0-9a-f]{8}", summed) else ""
    return found


def class_name(name: str) -> str:
    """A name that can be a class and a folder. ValueError: it cannot."""
    name = unicodedata.normalize("NFC", name.strip()) if isinstance(name, str) else ""
    if (not name or len(name) > LONGEST or hidden(name) or name.lower() in PARTS
            or any(c in '/\\:*?"<>|' or unicodedata.category(c) in ("Cc", "Cs") for c in name)):
        raise ValueError(f"{name!r} cannot be a class: 1 to {LONGEST} characters, none of / \\ : * ? \" < > |, no dot in "
                         "front, and not train, test or unlabelled")
    return name
