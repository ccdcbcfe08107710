"""Texts with labels, as people have them.

| found                                               | what happens                                                       |
|-----------------------------------------------------|--------------------------------------------------------------------|
| a `.tsv` or `.csv` file                             | a text a row, a column of texts and one of labels                  |
| a first row with names such as `text`, `label`      | says which column is which; one that it does not name is guessed   |
| no such names                                       | the column with fewest values has the labels, the longest texts    |
| a first row alone in its class, where no other is   | a note, as it may name the columns by other words                  |
| labels                                              | composed (NFC), white space as single spaces                       |
| labels `nan`, `NaN`, `NaT`, `<NA>`, `#N/A`, `null`  | are none, as programs write for what is missing; `NULL` likewise   |
| a first line `sep=;`, as spreadsheets write         | says what parts the columns of a `.csv`                            |
| a folder with `train.tsv` and `test.tsv`, or `.csv` | to train and to test on; `dev` or `valid` is not used beside `test` |
| a folder or zip of folders with `.txt` files        | a text a file, a class a folder; `train/`, `test/` as for pictures |
| quotation marks in a `.tsv`                         | text, unless the whole file is what a writer of CSV makes of cells |
| rows without a text or a label, of other length     | skipped, with the reason in `skipped`                              |
| a quotation mark that is never closed               | ValueError                                                         |
| files that are neither UTF-8 nor UTF-16, empty      | skipped, with the reason in `skipped`                              |
"""
import collections
import contextlib
import csv
import dataclasses
import io
import itertools
import math
import os
import pathlib
import random
import re
import unicodedata
from collections.abc import Callable
from typing import Any

import numpy as np

from ..ops.geometry import whole
from .files import text_of
from .folder import arrange, clicked, counted, find_files, hidden, some

TABLES = {".tsv": "\t", ".csv": ","}
TEXT, LABEL = ("text", "sentence", "review", "content", "body"), ("label", "class", "category", "sentiment", "target")
MISSING = {"nan", "NaN", "NaT", "<NA>", "#N/A", "null", "NULL"}  # what programs write into cells without a label


@dataclasses.dataclass
class LabelledTexts:
    """Texts with the number of each one's class.

    Args:
        texts: N of them; labels: (N,); classes: what the labels are called.
        test: the places of those to test on; None where nothing says it.
        skipped: from a file or row to why it was left out; notes: on other files that are not used.
    """

    texts: list[str]
    labels: np.ndarray
    classes: tuple[str, ...]
    test: np.ndarray | None = None
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)


def read_labelled_texts(path: str | os.PathLike) -> LabelledTexts:
    """The texts of a file or folder; see the table above.

    Raises:
        FileNotFoundError: nothing is at `path`; ValueError: it holds no labelled texts, or none of two classes.
    """
    path, skipped, notes = pathlib.Path(path), {}, []
    if not path.exists():
        raise FileNotFoundError(f"no texts at {path}")
    if path.suffix.lower() == ".txt" and path.is_file():
        raise ValueError(f"{path.name} has no labels; name a table (.tsv, .csv), or a folder or zip of texts, a folder a class")
    parts = _tables(path, skipped, notes) or _folders(path, skipped, notes)
    rows = [(text, label, part == "test") for part, found in parts.items() for text, label in found]
    trained = sorted({label for _, label, tested in rows if not tested}, key=_order)
    if new := sorted({label for _, label, tested in rows if tested} - set(trained)):
        raise ValueError(f"to train on there is no text of class {some(new)}")
    if len(trained) < 2:
        why = "; ".join(f"skipped {name} ({reason})" for name, reason in list(skipped.items())[:5])
        raise ValueError(f"{path} holds labelled texts of {counted(len(trained), 'class', 'classes')}, and two or more are wanted"
                         f"{'; ' + why if why else ''}")
    texts, labels, tested = zip(*rows)
    test = np.flatnonzero(tested) if "test" in parts else None
    return LabelledTexts(list(texts), np.array([trained.index(label) for label in labels]), tuple(trained), test, skipped,
                         notes)


def _order(label):
    """Numbers by their size, before words."""
    try:
        number = float(label)
    except ValueError:
        number = math.nan
    return (0, number, label) if math.isfinite(number) else (1, 0.0, label)


def _tables(path, skipped, notes):
    """{"train": rows, "test": rows} of tables; {} if there are none."""
    if path.suffix.lower() in TABLES and path.is_file():
        return {"train": _table(path.name, path.read_bytes(), skipped, notes)[0]}
    if not path.is_dir():
        return {}
    named = {file.stem.lower(): file for file in sorted(path.iterdir()) if file.suffix.lower() in TABLES and file.is_file()
             and not hidden(file.name) and not clicked(file.name)}
    if "train" not in named:
        if named:
            raise ValueError(f"{path} holds {some(file.name for file in named.values())}: name one of them, or call those to "
                             "train and to test on train and test")
        return {}
    test = next((named[name] for name in ("test", "dev", "valid", "validation") if name in named), None)
    rows, columns = _table(named["train"].name, named["train"].read_bytes(), skipped, notes)
    return {"train": rows} | ({"test": _table(test.name, test.read_bytes(), skipped, notes, columns)[0]} if test else {})


def _table(name, content, skipped, notes, columns=None):
    """The pairs of text and label in a table, and the columns of both; those given are for tables whose first row names none."""
    numbered = table_rows(name, content)
    named = named_columns([row for _, row in numbered])
    header = named != (None, None)
    width = len(numbered[0][1]) if header else collections.Counter(len(row) for _, row in numbered).most_common(1)[0][0]
    if width < 2:
        raise ValueError(f"{name}: a column of texts and one of labels are wanted, and its rows have {counted(width, 'cell')}")
    numbered = [(i, row if excess(row, width) else row[:width]) for i, row in numbered[header:]]
    whole = [row for _, row in numbered if len(row) == width]
    if None in named and whole:
        named = columns or _guessed(name, whole, *named)
    found = []
    for i, row in numbered:
        if len(row) > width or None in named or max(named) >= len(row):
            skipped[f"{name}, row {i}"] = f"{counted(len(row), 'cell')}, not {width}"
            continue
        text, label = " ".join(row[named[0]].split()), cell_text(row[named[1]])
        if text and label:
            found.append((text, label))
        else:
            skipped[f"{name}, row {i}"] = "no text or no label"
    notes += unnamed([label for _, label in found]) if found and not header else []
    return found, named


def cell_text(cell: str) -> str:
    """What a cell of a table says, a label or a caption, see the table above; empty if nothing."""
    text = unicodedata.normalize("NFC", " ".join(cell.split()))
    return "" if text in MISSING else text


def unnamed(labels: list[str]) -> list[str]:
    """A note on a first row that may name columns by words that are not known: no other row has its label, but each other one
    has several. Args: labels: of the rows, in order; empty for none."""
    counts = collections.Counter(filter(None, labels))
    if counts.pop(labels[0], 0) != 1 or len(counts) < 2 or min(counts.values()) < 2:
        return []
    return [f"the first row is the only one of class {labels[0]}; if it names the columns, call them text and label"]


def table_rows(name: str, content: bytes) -> list[tuple[int, list[str]]]:
    """The rows of a table that are not empty, with their numbers from 1: cells between tabs, or as CSV has them (see above).

    In a `.csv` semicolons, tabs or bars part the columns if a line `sep=;` says so, or if by them, and not by commas, its first
    row names one of texts or of labels, or else three rows or more have equally many cells. Where the first row names columns,
    rows that repeat it, as in joined tables, are left out.

    Raises:
        ValueError: it is no text, see `text_of`, or empty.
    """
    text, delimiter = table_text(name, content)
    if name.lower().endswith(".tsv"):
        rows = _tab_separated(text)
    else:
        delimiter = (delimiter or delimiter_by(text, lambda names: {*names} & {*TEXT} and {*names} & {*LABEL})
                     or delimiter_by(text, lambda names: names[1:] and {*names} & {*TEXT, *LABEL}) or _even_delimiter(text))
        rows = [row for _, row in csv_rows(name, text, delimiter)]
    numbered = [(i, row) for i, row in enumerate(rows, 1) if any(cell.strip() for cell in row)]
    if not numbered:
        raise ValueError(f"{name} is empty")
    if named_columns([row for _, row in numbered]) != (None, None):
        return numbered[:1] + [(i, row) for i, row in numbered[1:] if row != numbered[0][1]]
    return numbered


def _tab_separated(text):
    """The rows of a `.tsv`. In most files quotation marks are text; spreadsheets and pandas put them around cells with a mark, a
    tab or a line break in them, and double the mark: such a file is what `csv.writer` makes of what `csv.reader` finds."""
    lines = lines_of(text)
    if '"' in text:
        with contextlib.suppress(csv.Error), _long_cells():
            rows = list(csv.reader(io.StringIO(text, newline=""), "excel-tab", strict=True))
            for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL):
                again = io.StringIO(newline="")
                csv.writer(again, "excel-tab", quoting=quoting).writerows(rows)
                if "\n".join(lines_of(again.getvalue())).rstrip("\n") == "\n".join(lines).rstrip("\n"):
                    return rows
    return [line.split("\t") for line in lines]


def table_text(name: str, content: bytes) -> tuple[str, str | None]:
    """The text of a table, and what parts its columns if a first line such as `sep=;` says it, which is empty then; else None.

    Raises:
        ValueError: it is no text, see `text_of`.
    """
    try:
        text = text_of(content)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    said = re.match(r'"?sep=([,;\t|])"?(?=[\r\n])', text, re.IGNORECASE)
    return (text[said.end():], said[1]) if said else (text, None)


def lines_of(text: str) -> list[str]:
    """The lines of a text, which line feeds, carriage returns or both end, and nothing else that `str.splitlines` takes."""
    return io.StringIO(text, newline=None).read().split("\n")


def csv_rows(name: str, text: str, delimiter: str) -> list[tuple[int, list[str]]]:
    """The number of its first line, from 1, and the cells of each row of a table as CSV has it.

    Raises:
        ValueError: a quotation mark is never closed, so all that follows would be one cell.
    """
    rows, last, end = [], 0, "\x03"
    reader = csv.reader(io.StringIO(f"{text}\n{end}", newline=""), delimiter=delimiter)
    try:
        with _long_cells():
            for row in reader:
                rows.append((last + 1, row))
                last = reader.line_num
    except csv.Error as error:
        raise ValueError(f"{name} line {reader.line_num}: {error}") from None
    begin, row = rows.pop()
    if row != [end]:
        raise ValueError(f"{name}: a quotation mark in the row that begins in line {begin} is never closed")
    return rows


@contextlib.contextmanager
def _long_cells():
    """Cells of more than csv's 131,072 characters, too."""
    limit = csv.field_size_limit(1 << 30)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def delimiter_by(text: str, named: Callable[[list[str]], Any]) -> str | None:
    """The one of , ; tab | between whose cells in a table's first line, in small letters, the names wanted stand; None: none."""
    header = re.split(r"[\r\n]", text.lstrip("\r\n"), maxsplit=1)[0]
    return next((mark for mark in ",;\t|" if named([cell.strip().strip('"').lower() for cell in header.split(mark)])), None)


def _even_delimiter(text, most=100):
    """The first one by which the first rows, three or more, have equally many cells, two or more; else a comma."""
    for mark in ",;\t|":
        with contextlib.suppress(csv.Error):
            rows = list(itertools.islice(filter(any, csv.reader(io.StringIO(text, newline=""), delimiter=mark)), most))
            if len(rows) > 2 and len(rows[0]) > 1 and len({*map(len, rows)}) == 1:
                return mark
    return ","


def excess(row: list[str], width: int) -> str:
    """What is said of a row in which something stands behind the columns of its table, as where a text with a comma is not in
    quotation marks; else nothing."""
    return f"{len(row)} cells, not {width}" if any(cell.strip() for cell in row[width:]) else ""


def named_columns(rows: list[list[str]]) -> tuple[int | None, int | None]:
    """The columns of texts and of labels that the first row names; None for one that it does not.

    Where it names one alone, a word that stands in its column again, in another row than this, is no name but a value.
    """
    def plain(cells):
        return [cell.strip().lower() for cell in cells]

    first = plain(rows[0])
    at, of = (next((first.index(word) for word in words if word in first), None) for words in (TEXT, LABEL))
    alone = of if at is None else at if of is None else None
    if alone is not None and any(plain(row[alone:alone + 1]) == [first[alone]] and plain(row) != first for row in rows[1:]):
        return None, None
    return at, of


def text_column(rows: list[list[str]]) -> tuple[int, int, int | None, int]:
    """How many first rows of a table name columns (0 or 1), the column of texts, the named one of labels, if any, and the width.

    The texts' column is the named one, or the longest that is not of labels. Names say how many columns there are.
    """
    at, of = named_columns(rows)
    header = int((at, of) != (None, None))
    width, rows = len(rows[0]) if header else max(map(len, rows)), rows[header:]
    if at is None:
        lengths = [k != of and 1 + sum(len(row[k]) for row in rows if k < len(row)) for k in range(width)]
        at = lengths.index(max(lengths))
    return header, at, of, width


def _guessed(name, rows, at, of):
    """Which column has the texts and which the labels, where one may be known: the labels are the one with fewest values, but
    not none (of several the shortest, the last), the texts the longest of the others."""
    values = [len({cell_text(row[k]) for row in rows} - {""}) for k in range(len(rows[0]))]
    lengths = [sum(len(row[k]) for row in rows) for k in range(len(values))]
    if of is None:
        of = min((k for k in range(len(values)) if k != at), key=lambda k: (not values[k], values[k], lengths[k], -k))
        if len(rows) > 20 and values[of] > len(rows) / 2:
            raise ValueError(f"{name}: no column looks like labels; name the columns in a first row, such as text and label")
    lengths[of] = -1
    return lengths.index(max(lengths)) if at is None else at, of


def _folders(path, skipped, notes):
    """{"train": pairs, "test": pairs} of folders of .txt files."""
    found = find_files(path, {".txt"}, "text")
    if not found.files:
        raise ValueError("; ".join([f"{path} holds no table (.tsv, .csv) and no .txt files", *found.left_out()]))
    layout, texts = arrange(found.files, "text"), dict(found.read(decode_text))
    skipped |= found.skipped
    notes += [*layout.notes, *dataclasses.replace(found, skipped={}).left_out()]
    parts = {"train": layout.train} | ({"test": layout.test} if layout.test else {})
    return {part: [(texts[name], label) for label, names in classes.items() for name in names if name in texts]
            for part, classes in parts.items()}


def decode_text(content: bytes) -> str:
    """The text of a file, white space as single spaces. ValueError: it is none, see `text_of`, or empty."""
    return " ".join(decode_lines(content).split())


def decode_lines(content: bytes) -> str:
    """The text of a file as it is. ValueError: it is none, see `text_of`, or empty."""
    text = text_of(content)
    if not text.strip():
        raise ValueError("it is empty")
    return text


# -- made up ---------------------------------------------------------------------------------------------------------

THINGS = ("the film", "this comedy", "the plot", "the cast", "the music", "the ending", "the camera work", "the dialogue",
          "every scene", "the humour", "the second half", "the story", "this remake", "the lead actor", "the editing")
GOOD = ("superb", "moving", "funny", "clever", "charming", "brilliant", "gripping", "fresh", "elegant", "memorable", "warm",
        "witty", "lively", "honest", "delightful")
BAD = ("dull", "clumsy", "boring", "shallow", "tedious", "awful", "predictable", "lifeless", "silly", "forgettable", "cold",
       "messy", "flat", "fake", "annoying")
IS, VERY, NOT = ("is", "was", "feels", "seems", "remains"), ("", "", "very ", "rather ", "truly ", "quite "), (
    "not ", "never ", "hardly ", "anything but ")


def made_up_reviews(count: int = 3000, seed: int = 0) -> LabelledTexts:
    """Short reviews of films, put together at random, negative (0) and positive (1); a third is to test on.

    Mostly the words decide, but not alone: a tenth of the statements is denied, and behind "but" stands what counts.

    Raises:
        ValueError: the seed is no whole number of at least 0.
    """
    rng = random.Random(whole("made_up_reviews", "seed", seed, 0))

    def statement(good):
        denied = rng.random() < 0.1
        words = GOOD if good != denied else BAD
        return f"{rng.choice(THINGS)} {rng.choice(IS)} {rng.choice(NOT) if denied else rng.choice(VERY)}{rng.choice(words)}"

    texts, labels = [], []
    for k in range(count):
        good, joint = k % 2 == 1, rng.choice(("", "", "", " and ", " and ", " and ", " and ", " and ", " but ", "although "))
        if joint == "":
            text = statement(good)
        elif joint == " and ":
            text = statement(good) + joint + statement(good)
        elif joint == " but ":
            text = statement(not good) + joint + statement(good)
        else:
            text = f"{joint}{statement(not good)} , {statement(good)}"
        texts.append(text)
        labels.append(int(good))
    return LabelledTexts(texts, np.array(labels), ("negative", "positive"), np.arange(count)[-(count // 3):])
