"""Pictures with captions: a folder or a zip with `captions.csv`, Openclipart's drawings, emoji, labels put into words.

| found in a folder of your own                                 | what happens                                                |
|---------------------------------------------------------------|-------------------------------------------------------------|
| `captions.csv`, in a sub-folder too                           | the one nearest to the top; its pictures lie beside it      |
| a first line with the columns' names, any case                | `image` and `caption`, `keywords` or both; others unread    |
| the same columns by other names                               | see `COLUMNS`                                               |
| commas, semicolons, tabs or bars between columns              | the one by which the first line has these names             |
| keywords                                                      | divided by semicolons, or by commas where there are none    |
| a picture in several rows                                     | has several captions                                        |
| the same row twice                                            | skipped, with the reason in `skipped`                       |
| no caption, no picture of that name, an empty file            | likewise                                                    |
| a caption `nan`, `null` and such, see `labelled_texts`        | likewise                                                    |
| more cells than columns, as by a comma without quotation marks | likewise                                                   |
| the same content in several files                             | several pictures of one group, which is never divided       |
| sub-folders, two or more                                      | the classes of the pictures                                 |
"""
import dataclasses
import os
import pathlib
import posixpath
import zlib
from collections.abc import Callable, Sequence

import numpy as np

from ..ops.geometry import whole
from .augment import _generator, _with_axes
from .files import data_dir
from .folder import content_of, files_below, printable, some
from .labelled_texts import csv_rows, delimiter_by, excess, cell_text, table_text

TABLE = "captions.csv"
COLUMNS = {"image": ("image", "file", "filename", "file_name", "picture"), "caption": ("caption", "text", "title"),
           "keywords": ("keywords", "tags")}
CLIPART = "openclipart-64.zip"


@dataclasses.dataclass
class CaptionedPictures:
    """Pictures, each with one caption or several.

    Args:
        pictures: bytes (N, C, H, W), or for each picture a function that reads its file.
        names: of the pictures.
        texts: of each picture its captions, each of which says it all; at least one.
        keywords: of each picture what may stand behind each of its captions, in any order.
        groups: (N,) int64; pictures of one group show the same, so they are never divided into those to train and to test on.
        labels: (N,) int64 classes, -1 where there is none.
        classes: their names.
        skipped: what was left out and why.
    """

    pictures: np.ndarray | list[Callable[[], bytes]]
    names: list[str]
    texts: list[tuple[str, ...]]
    keywords: list[tuple[str, ...]]
    groups: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...] = ()
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.texts)

    def caption(self, i: int, rng: np.random.Generator | None = None) -> str:
        """The first caption of picture i with its keywords.

        With a generator any of its captions; where there are keywords, some of these and the caption, in random order: a
        random number of parts, one at least. TypeError for what is no generator.
        """
        rng = rng if rng is None else _generator("caption", rng)
        texts, keywords = self.texts[i], self.keywords[i]
        parts = [part for part in (texts[0] if rng is None else texts[rng.integers(len(texts))], *keywords) if part]
        if rng is not None and keywords:
            parts = [parts[j] for j in rng.permutation(len(parts))[:rng.integers(1, len(parts) + 1)]]
        return ", ".join(parts)

    def keys(self) -> np.ndarray:
        """(N,) int64: the same number for pictures that have the same captions and keywords."""
        number = {}
        return np.array([number.setdefault(pair, len(number)) for pair in zip(self.texts, self.keywords)], np.int64)

    def chosen(self, which: Sequence[int]) -> "CaptionedPictures":
        """The pictures at these places."""
        which = np.asarray(which, np.int64)
        pictures = self.pictures[which] if isinstance(self.pictures, np.ndarray) else [self.pictures[i] for i in which]
        lists = {name: [getattr(self, name)[i] for i in which] for name in ("names", "texts", "keywords")}
        return dataclasses.replace(self, pictures=pictures, groups=self.groups[which], labels=self.labels[which], **lists)

    def divided(self, tested: int) -> tuple[np.ndarray, np.ndarray]:
        """Which pictures to train on, and which to test on: drawn at random but always the same.

        Args:
            tested: how many groups are held out, half of all at most. Of each group one picture is tested on, its first; no two
                of those have the same captions.
        """
        keys, first, taken, held = self.keys(), {}, set(), {}
        for place, group in enumerate(self.groups.tolist()):
            first.setdefault(group, place)
        for group in np.random.default_rng(0).permutation(sorted(first)).tolist():
            if len(held) < min(tested, len(first) // 2) and keys[first[group]] not in taken:
                taken.add(keys[first[group]])
                held[group] = first[group]
        return np.flatnonzero(~np.isin(self.groups, list(held))), np.sort(np.array(list(held.values()), np.int64))


# -- labels as captions ------------------------------------------------------------------------------------------------


def captioned(images: np.ndarray, labels: np.ndarray, classes: Sequence[str], templates: Sequence[str]) -> CaptionedPictures:
    """Labelled images with captions "a photo of a cat": all templates with the name of the class in place of {}.

    Raises:
        ValueError: there is not one label for each image, or one is no place among the classes.
    """
    texts = [tuple(template.replace("{}", name) for template in templates) for name in classes]
    labels, n = _labels("captioned", labels, len(images), len(classes)), len(images)
    return CaptionedPictures(images, [str(i) for i in range(n)], [texts[k] for k in labels], [()] * n, np.arange(n), labels,
                             tuple(classes))


def _labels(of, labels, count, classes):
    labels = np.asarray(labels)
    if labels.shape != (count,) or labels.dtype.kind not in "iu" and count:
        raise ValueError(f"{of}: labels must be whole numbers, one for each of {count} images, not {labels.dtype} of shape "
                         f"{labels.shape}")
    if count and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"{of}: labels must be from 0 to {classes - 1}, not from {labels.min()} to {labels.max()}")
    return labels.astype(np.int64)


COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (60, 80, 240), "yellow": (230, 210, 40), 
           "pink": (240, 130, 190), "orange": (245, 140, 30), "white": (245, 245, 245), "cyan": (60, 210, 220)}
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIGIT_TEMPLATES = ("a {} digit", "the handwritten {}", "a {}", "a photo of a {}", "this is a {}")


def coloured_digits(images: np.ndarray, labels: np.ndarray, seed: int = 0) -> CaptionedPictures:
    """Handwritten digits in random colours, each with its caption: "the handwritten red seven".

    The classes are the 80 pairs of a colour and a digit.

    Args:
        images: (N, H, W) from 0 to 1, ink is 1; labels: (N,) 0 to 9.
        seed: of the colours.

    Raises:
        ValueError: images or labels are not as above, or the seed is no whole number of at least 0.
    """
    of, images = "coloured_digits", _with_axes("coloured_digits", images, "(N, H, W)")
    labels = _labels(of, labels, len(images), len(DIGITS))
    colour = np.random.default_rng(whole(of, "seed", seed, 0)).integers(0, len(COLOURS), len(images))
    ink = np.array(list(COLOURS.values()), np.float32)[colour]
    pictures = np.rint(images[:, None] * ink[:, :, None, None]).astype(np.uint8)
    classes = [f"{name} {digit}" for name in COLOURS for digit in DIGITS]
    return captioned(pictures, 10 * colour + labels, classes, DIGIT_TEMPLATES)


# -- a folder of one's own, and Openclipart, which is one ----------------------------------------------------------------


def load_clipart(data: str | os.PathLike | None = None) -> CaptionedPictures:
    """Drawings of Openclipart with their titles and keywords, in the classes of its top folders.

    Args:
        data: the folder to look in, see `data_dir`: for `openclipart-64.zip`, there or in its `clipart`.

    Raises:
        FileNotFoundError: it is not there; ValueError: it is damaged.
    """
    folder = data_dir(data)
    for path in (folder / CLIPART, folder / "clipart" / CLIPART):
        if path.is_file():
            return read_captions(path)
    raise FileNotFoundError(f"{CLIPART} is not in {folder}: put a zip with {TABLE} (image, title, keywords) and its pictures "
                            "there, or set MINIGRAD_DATA to its folder")


def read_captions(path: str | os.PathLike) -> CaptionedPictures:
    """The pictures with captions in a folder or a zip of one; see the table above.

    Raises:
        FileNotFoundError: nothing is at `path`; ValueError: there is no table, or nothing in it that can be used.
    """
    path, skipped = pathlib.Path(path), {}
    if not path.exists():
        raise FileNotFoundError(f"no pictures with captions at {path}")
    files = {printable(name): read for name, read in files_below(path, skipped)}
    tables = sorted((name for name in files if posixpath.basename(name).lower() == TABLE), key=lambda name: name.count("/"))
    if not tables:
        raise ValueError(f"{path} holds no {TABLE}, a table with the columns image and caption")
    rows = _rows(tables[0], files[tables[0]], skipped)
    texts, keywords, seen = {}, {}, set()
    for number, row in rows:
        try:
            image, text, words = _row(row, posixpath.dirname(tables[0]), files)
            if (image, text, words) in seen:
                raise ValueError("the same row stands above")
        except ValueError as error:
            skipped[f"{TABLE} line {number}"] = str(error)
            continue
        seen.add((image, text, words))
        texts.setdefault(image, []).append(text)
        keywords[image] = tuple(dict.fromkeys((*keywords.get(image, ()), *words)))
    contents = {}
    for image in texts:
        try:
            contents[image] = zlib.crc32(content_of(files[image]))
        except ValueError as error:
            skipped[image] = str(error)
    if not contents:
        why = some(f"{where}: {why}" for where, why in skipped.items())
        raise ValueError(f"{path}: no row of {TABLE} has a caption and a picture that is there{why and '; '}{why}")
    names, number = list(contents), {}
    labels, classes = _folders(names)
    return CaptionedPictures(
        [files[name] for name in names], names, [tuple(texts[name]) for name in names], [keywords[name] for name in names],
        np.array([number.setdefault(contents[name], len(number)) for name in names], np.int64), labels, classes, skipped)


def _rows(name, read, skipped):
    """Number and cells, by the columns' names, of each line of the table; those with more cells than names are skipped."""
    try:
        content = content_of(read)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    text, delimiter = table_text(name, content)
    known = {alias: column for column, aliases in COLUMNS.items() for alias in aliases}

    def columns(names):
        return [known.get(name.strip().lower()) for name in names]

    def complete(names):
        return "image" in columns(names) and {"caption", "keywords"} & {*columns(names)}

    rows = [(number, row) for number, row in csv_rows(name, text, delimiter or delimiter_by(text, complete) or ",") if any(row)]
    header = rows[0][1] if rows else []
    if not complete(header):
        raise ValueError(f"{name}: its first line names no column image and caption (or title, or keywords): "
                         f"{','.join(header)[:80]!r}")
    found = []
    for number, row in rows[1:]:
        if why := excess(row, len(header)):
            skipped[f"{TABLE} line {number}"] = f"{why}; a caption with commas wants quotation marks"
        elif any(cell.strip() for cell in row):
            found.append((number, {column: cell.strip() for column, cell in zip(columns(header), row) if column}))
    return found


def _row(row, folder, files):
    """A row's picture, caption and keywords. ValueError: it has none."""
    image = printable(row.get("image", "").replace("\\", "/"))
    words = row.get("keywords", "")
    words = tuple(dict.fromkeys(w for word in words.split(";" if ";" in words else ",") if (w := " ".join(word.split()))))
    text = cell_text(row.get("caption", ""))
    if not image:
        raise ValueError("it names no picture")
    if not text and not words:
        raise ValueError("it has no caption")
    place = posixpath.normpath(posixpath.join(folder, image))
    if place not in files:
        raise ValueError(f"there is no picture {image}")
    return place, text, words


def _folders(names):
    """Labels and classes of files by their first folders; without classes where there are fewer than two."""
    paths = [name.split("/") for name in names]
    while len({path[0] for path in paths}) == 1 and min(map(len, paths)) > 1:
        paths = [path[1:] for path in paths]
    tops = [path[0] if len(path) > 1 else "" for path in paths]
    classes = sorted({top for top in tops if top})
    if len(classes) < 2:
        return np.full(len(names), -1), ()
    return np.array([classes.index(top) if top else -1 for top in tops]), tuple(name.replace("_", " ") for name in classes)
