"""Pictures as people have them: folders of them, or a zip of one, in which each folder that holds pictures is a class.

| found                                                         | what happens                                                |
|---------------------------------------------------------------|-------------------------------------------------------------|
| a file with an ending that the installed Pillow knows         | read by its content: first frame, upright by its EXIF tag   |
| transparent pixels                                            | on white; the colour beneath them never shows               |
| 16-bit, 32-bit and float pixels                               | scaled by their range to 8 bits                             |
| broken, empty, too large, no picture, a dead link             | skipped, with the reason in `skipped`                       |
| other endings                                                 | counted in `others`, not read                               |
| `few_labels.csv`, `NAME.few_labels.csv`                       | counted in `others`: labels that were clicked               |
| `.hidden`, `__MACOSX`, `Thumbs.db`, `@eaDir`                  | ignored                                                     |
| a folder in it with a file `.minigrad-run`                    | ignored: what a run has written                             |
| a linked folder                                               | followed, but never into a folder that it lies in           |
| one outer folder round everything                             | peeled off                                                  |
| `train/` and `test/` with class folders, any case             | pictures to train and to test on, classes matched by name   |
| `test/` or `val/` with class folders beside class folders     | as if the latter lay in `train/`                            |
| `val/` or `valid/` beside these                               | tested on where there is no `test/`, else not used          |
| `unlabelled/` or `unlabeled/`, any case, at the top or in `train/` | pictures without a class                               |
| pictures beside class folders, other folders beside `train/`  | not used, said in `notes`                                   |
| `train/` with pictures and no class folders, beside others    | a class called train                                        |
| `train/` and `test/` without class folders, or within classes | ValueError                                                  |
| a zip: encrypted, Deflate64, names with `..`, a bomb, in a zip| ValueError; backslashes in names are taken as slashes       |
| names in Unicode's decomposed form                            | composed (NFC)                                              |
"""
import collections
import contextlib
import dataclasses
import hashlib
import io
import os
import pathlib
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np

from ..ops.geometry import whole
from .files import GIB, open_zip

_IGNORED = ("__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "lost+found")
PARTS = {"train": "train", "training": "train", "test": "test", "testing": "test", "val": "validation", "valid": "validation",
         "validation": "validation", "unlabelled": "unlabelled", "unlabeled": "unlabelled"}
Decoded = TypeVar("Decoded")
UNREAD_TABLES = {".xlsx", ".xls", ".ods", ".json", ".jsonl", ".parquet"}
RUN = ".minigrad-run"  # a file in the folder of a run, whose figures and lists are no data
LABELS = "few_labels.csv"  # a file of this name, or NAME.few_labels.csv, has labels that were clicked, and no texts

SAVE_AS = {  # of each kind: what files of that kind with other endings are to be saved as, and these endings
    "image": ("JPEG or PNG", (".heic", ".heif", ".avif", ".jxl", ".svg", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf",
                              ".rw2")),
    "text": (".txt, in UTF-8", (".doc", ".docx", ".odt", ".rtf", ".pdf", ".htm", ".html", ".md")),
    "recording": (".wav", (".mp3", ".m4a", ".aac", ".ogg", ".oga", ".opus", ".flac", ".wma", ".aif", ".aiff"))}


@dataclasses.dataclass
class FoundFiles:
    """The files of a kind, pictures or recordings, below a folder or in a zip of one.

    Args:
        files: from the name of each below the folder, with slashes, to a function that reads its bytes, a `File` if it is
            one on the disk; sorted.
        skipped: from the names of files that cannot be read to the reasons.
        others: how many files have which other ending.
        what: the kind, one of `SAVE_AS`.
    """

    files: dict[str, Callable[[], bytes]]
    skipped: dict[str, str]
    others: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    what: str = "image"

    def read(self, decode: Callable[[bytes], Decoded]) -> Iterator[tuple[str, Decoded]]:
        """Name and `decode(content)` of each file; those that cannot be read, or that raise ValueError there, are skipped."""
        for name, read in self.files.items():
            try:
                found = decode(content_of(read))
            except ValueError as error:
                self.skipped[name] = str(error)
            else:
                yield name, found

    def left_out(self) -> list[str]:
        """A line on the skipped files and one on the others, if there are any."""
        lines = [skipped_line(self.skipped)] if self.skipped else []
        if self.others:
            form, endings = SAVE_AS[self.what]
            wanting = [ending for ending, _ in self.others.most_common() if ending in endings]
            lines.append(f"not looked at: {counted(sum(self.others.values()), 'file')} of other kinds "
                         f"({some(f'{count} {ending}' for ending, count in self.others.most_common())})"
                         + f", of which {some(wanting)} would be read if saved as {form}" * bool(wanting))
        return lines


def find_pictures(path: str | os.PathLike) -> FoundFiles:
    """The picture files below a folder or in a zip, see the table above.

    Raises:
        FileNotFoundError: nothing is at `path`; ValueError: it is neither a folder nor a zip that can be read.
    """
    return find_files(path, picture_endings(), "image")


def find_files(path: str | os.PathLike, endings: set[str], what: str) -> FoundFiles:
    """The files with one of the endings (lower case, such as ".png") below a folder or in a zip, see the table above.

    Args:
        what: the kind, one of `SAVE_AS`.

    Raises:
        FileNotFoundError: nothing is at `path`; ValueError: it is neither a folder nor a zip that can be read, or a table of
            a kind that is not.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no {what} folder or zip at {path}")
    if path.suffix.lower() in UNREAD_TABLES and path.is_file():
        raise ValueError(f"{path} is a table of a kind that is not read; save it as CSV, in UTF-8")
    skipped, others, readers = {}, collections.Counter(), {}
    found = files_below(path, skipped)
    for raw, read in sorted(found, key=lambda item: printable(item[0]) != item[0]):  # those that print as they are first
        name = printable(raw)
        ending = os.path.splitext(name)[1].lower()
        if ending not in endings or clicked(name):
            others[LABELS if clicked(name) else ending or "no ending"] += 1
            continue
        # Names of two files can look alike: a digest tells them apart, which stays when files come and go.
        altered = name.count("\ufffd") > raw.count("\ufffd")
        if altered or name in readers:
            digest = hashlib.sha256(os.fsencode(raw)).hexdigest()[:8]
            name = f"{os.path.splitext(name)[0]}~{digest}{ending}"
        readers[name] = read
    if not path.is_dir() and not readers and others[".zip"]:
        raise ValueError(f"{path} holds no {what}s but another zip; unpack it and give the inner one")
    return FoundFiles({name: readers[name] for name in sorted(readers)}, skipped, others, what)


def printable(name: str) -> str:
    """A file's name in composed form, and without bytes that are no text and control characters."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return unicodedata.normalize("NFC", "".join(c if unicodedata.category(c) != "Cc" else "\ufffd" for c in text))


def picture_endings() -> set[str]:
    """The endings, such as ".png", of the formats that the installed Pillow knows."""
    try:
        from PIL import Image
    except ImportError:
        raise ImportError("pictures are read by the library Pillow: pip install pillow") from None
    return set(Image.registered_extensions())


def hidden(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or put there by an operating system."""
    return name.startswith(".") or name.lower() in _IGNORED


def clicked(name: str) -> bool:
    """Whether a file of this name has labels that were clicked, which is no table to learn from."""
    return f".{name.rpartition('/')[2]}".endswith(f".{LABELS}")


def files_below(path, skipped):
    """Name and reader of each file in a folder or a zip that is not hidden; folders that cannot be read go to `skipped`."""
    return _walk(path, "", (), skipped) if path.is_dir() else _members(path)


def _walk(folder, prefix, above, skipped):
    """Name and reader of each file; `above` identifies the folders that this one lies in."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        facts = os.stat(folder)
    except OSError as error:
        skipped[prefix or "."] = f"it cannot be read: {error.strerror}"
        return
    here = facts.st_dev, facts.st_ino
    if here in above or above and any(entry.name == RUN for entry in entries):
        return
    for entry in entries:
        if hidden(entry.name):
            continue
        if _is_folder(entry):
            yield from _walk(entry.path, f"{prefix}{entry.name}/", (*above, here), skipped)
        else:
            yield prefix + entry.name, File(pathlib.Path(entry.path))


def _is_folder(entry):
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself: as a file it is skipped with its reason
        return False


@dataclasses.dataclass
class File:
    """Reads the file at `path`, whose name may be another than the printable one by which it is known."""

    path: pathlib.Path

    def __call__(self) -> bytes:
        if not self.path.is_file():
            raise OSError("it is a dead link or no regular file")
        if self.path.stat().st_size > GIB:
            raise OSError("it has more than 1 GiB")
        return self.path.read_bytes()


def _members(path):
    archive, names = open_zip(path), {}
    for info in archive.infolist():
        name = info.filename.replace("\\", "/")
        if not name.endswith("/"):
            names[info] = [part for part in name.split("/") if part not in ("", ".")]
    runs = {tuple(parts[:-1]) for parts in names.values() if parts[-1:] == [RUN]} - {()}
    for info, parts in names.items():
        if not any(map(hidden, parts)) and not any(tuple(parts[:k]) in runs for k in range(1, len(parts))):
            yield "/".join(parts), lambda info=info: archive.read(info)


def content_of(read: Callable[[], bytes]) -> bytes:
    """The bytes of a file. ValueError if it is empty or cannot be read."""
    try:
        content = read()
    except Exception as error:  # a damaged archive raises errors of many kinds
        raise ValueError(f"it cannot be read: {error}") from None
    if not content:
        raise ValueError("it is empty")
    return content


def check_picture(read: Callable[[], bytes]) -> None:
    """ValueError if a file does not begin as a picture of a known kind does. What is on the disk is not read further."""
    size = None  # of what is in a zip, or no regular file
    with contextlib.suppress(OSError):
        size = read.path.stat().st_size if isinstance(read, File) and read.path.is_file() else None
    with _opened(read.path if size and size <= GIB else io.BytesIO(content_of(read))):
        pass


@contextlib.contextmanager
def _opened(source):
    """Pillow's picture of a file, which is not decoded yet. ValueError: it is none, or what is done to it inside fails."""
    from PIL import Image, UnidentifiedImageError
    Image.init()
    formats = [name for name in Image.ID if name != "EPS"]  # which would be run as a program, by Ghostscript
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(source, formats=formats) as picture:
                yield picture
    except UnidentifiedImageError:
        with open(source, "rb") if isinstance(source, os.PathLike) else io.BytesIO(source.getvalue()) as file:
            tiff = file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
        raise ValueError("it is a TIFF that Pillow cannot read: save it with one channel or three" if tiff
                         else "it is no picture") from None
    except Exception as error:  # decoders raise errors of all kinds on damaged files
        raise ValueError(f"it cannot be read: {error or type(error).__name__}") from None


def open_picture(content: bytes, channels: int = 3) -> "PIL.Image.Image":  # noqa: F821 (Pillow is optional)
    """A picture file's first frame, upright, on white, in 8 bits a channel.

    Args:
        content: the file's bytes.
        channels: 1 for grey, 3 for colour.

    Raises:
        ValueError: it is no readable picture, or it is to have other channels.
    """
    from PIL import ImageOps
    _form("open_picture", channels)
    with _opened(io.BytesIO(content)) as picture:
        picture.load()
        try:
            picture = ImageOps.exif_transpose(picture)
        except Exception:  # damaged EXIF data of an undamaged picture
            pass
        return _on_white(_in_8_bits(picture)).convert("L" if channels == 1 else "RGB")


def _form(of, channels, size=None):
    """Channels and size that pictures get. ValueError: these are not 1 or 3, or it is no whole number of at least 1, nor None."""
    if channels is True or channels not in (1, 3):
        raise ValueError(f"{of}: channels must be 1 for grey or 3 for colour, not {channels!r}")
    return int(channels), None if size is None else whole(of, "size", size, 1)


def read_picture(content: bytes, size: int | None = None, channels: int = 3) -> np.ndarray:
    """The picture of `open_picture` as bytes (channels, H, W), scaled to size x size if a size is given.

    Raises:
        ValueError: as of `open_picture`, or the size is no whole number of at least 1.
    """
    channels, size = _form("read_picture", channels, size)
    return _array(open_picture(content, channels), size, channels)


def _array(picture, size, channels):
    from PIL import Image
    if size is not None:
        picture = picture.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=2)
    return np.asarray(picture).reshape(picture.height, picture.width, channels).transpose(2, 0, 1)


def _in_8_bits(picture):
    """Integers of up to 16 bits by their type's range, floats in [0, 1] or [0, 255] by that, all others from least to most."""
    from PIL import Image
    if picture.mode == "LAB":
        from PIL import ImageCms
        lab, rgb = (ImageCms.createProfile(space) for space in ("LAB", "sRGB"))
        return ImageCms.profileToProfile(picture, lab, rgb, outputMode="RGB")
    if picture.mode[0] not in "IF":
        return picture
    values = np.asarray(picture).astype(np.float64)
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise ValueError("no pixel is a finite number")
    low, high = finite.min(), finite.max()
    tops = (1, 255) if picture.mode[0] == "F" else (65535,)
    low, high = next(((0, top) for top in tops if low >= 0 and high <= top), (low, high))
    values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    if isinstance(clear := picture.info.get("transparency"), int):
        values[values == clear] = high
    return Image.fromarray(np.rint((values - low) * (255 / ((high - low) or 1))).astype(np.uint8))


def _on_white(picture):
    from PIL import Image
    if picture.mode in ("RGBa", "La"):
        picture = picture.convert({"RGBa": "RGBA", "La": "LA"}[picture.mode])
    if picture.mode not in ("RGBA", "LA", "PA") and "transparency" not in picture.info:
        return picture
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))


@dataclasses.dataclass
class Layout:
    """Which pictures of a folder serve for what; all by their names.

    Args:
        train, test: from each class, sorted, to its pictures.
        unlabelled: pictures without a class.
        notes: what is not used and why, a sentence each.
    """

    train: dict[str, list[str]]
    test: dict[str, list[str]]
    unlabelled: list[str]
    notes: list[str]

    @property
    def divided(self) -> bool:
        """Whether some pictures are to be tested on."""
        return bool(self.test)


def arrange(names: Iterable[str], what: str = "picture") -> Layout:
    """The layout of pictures, or of what it is, with these names; see the table above.

    Raises:
        ValueError: it is unclear which folders are classes.
    """
    paths = {name: tuple(name.split("/")) for name in names}
    paths, loose = _peel(paths)
    paths = _classes_in_train(paths)
    deep, direct = ({p[0] for p in paths.values() if (len(p) > 2) == nested} for nested in (True, False))
    tops = deep | direct
    labelled = {top for top in tops if _part(top) != "unlabelled"}
    parts = {_part(top) for top in deep}
    split = "train" in parts and (all(map(_part, tops)) or bool(parts & {"test", "validation"}))
    if not split and labelled and all(map(_part, labelled)):
        missing = "class folders in train/" if deep else "a folder for each class"
        raise ValueError(f"{some(f'{top}/' for top in sorted(labelled))} found, but not {missing}; each class needs a folder "
                         "of its own, at the top or in train/ and test/")
    inner = {_part(folder) for p in paths.values() if p[0] in labelled for folder in p[1:-1]}
    if not split and {"train", "test"} <= inner:
        raise ValueError("train/ and test/ lie within other folders; put them at the top, and the classes into them")
    found = {part: collections.defaultdict(list) for part in ("train", "test", "validation")}
    unlabelled, unused = [], collections.Counter()
    for name, path in paths.items():
        part = _part(path[0])
        if part == "unlabelled":
            unlabelled.append(name)
        elif not split:
            found["train"]["/".join(path[:-1])].append(name)
        elif part is None:
            unused[f"{path[0]}/"] += 1
        elif len(path) == 2:
            unused[f"{path[0]}/ itself"] += 1
        elif _part(path[1]) == "unlabelled":
            if part == "train":
                unlabelled.append(name)
            else:
                unused[f"{path[0]}/{path[1]}/"] += 1
        else:
            found[part]["/".join(path[1:-1])].append(name)
    notes = [f"not used: {counted(count, what)} in {where}, which is no class folder" for where, count in unused.items()]
    if loose:
        notes.append(f"not used: {counted(len(loose), what)} beside the class folders ({some(loose)})")
    if found["validation"]:
        count = sum(map(len, found["validation"].values()))
        if found["test"]:
            notes.append(f"not used: {counted(count, what)} in the validation folder, as there is a test folder")
        else:
            found["test"] = found["validation"]
            notes.append(f"tested on: {counted(count, what)} in the validation folder, as there is no test folder")
    train, test = ({c: sorted(found[part][c]) for c in sorted(found[part])} for part in ("train", "test"))
    return Layout(train, test, sorted(unlabelled), notes)


def counted(count: int, one: str, several: str | None = None) -> str:
    """A number of things: "1 file", "2 files", or `several` instead of an s."""
    return f"{count} {one if count == 1 else several or one + 's'}"


def _part(folder):
    return PARTS.get(folder.lower())


def _peel(paths):
    """Without one outer folder round everything, and what lies beside it or beside classes."""
    loose = []
    while True:
        loose += [name for name, p in paths.items() if len(p) == 1]
        paths = {name: p for name, p in paths.items() if len(p) > 1}
        tops = {p[0] for p in paths.values()}
        if len(tops) != 1 or _part(*tops) or all(len(p) == 2 for p in paths.values()):
            return paths, loose
        paths = {name: p[1:] for name, p in paths.items()}


def _classes_in_train(paths):
    """With class folders that lie beside `test/` or `val/` with class folders put into `train/`, where there is none."""
    deep = {_part(p[0]) for p in paths.values() if len(p) > 2}
    kept = deep & {"test", "validation"} | {"unlabelled"}
    if len(kept) == 1 or "train" in deep or all(_part(p[0]) for p in paths.values()):
        return paths
    return {name: p if _part(p[0]) in kept else ("train", *p) for name, p in paths.items()}


def some(names: Iterable[str], most: int = 5) -> str:
    """The first names, and dots if there are more."""
    names = list(names)
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


@dataclasses.dataclass
class ImageFolder:
    """All pictures of a folder.

    Args:
        images: (N, C, H, W) bytes.
        names: of the files below the folder, (N,); layout: which of them serve for what.
        pictures: the files, and which were skipped.
        sizes: width and height of the smallest and of the largest picture.
    """

    images: np.ndarray
    names: list[str]
    layout: Layout
    pictures: FoundFiles
    sizes: tuple[tuple[int, int], tuple[int, int]]

    def __post_init__(self):
        self._place = {name: i for i, name in enumerate(self.names)}

    def indices(self, names: Iterable[str]) -> np.ndarray:
        """Where in `images` these files are."""
        return np.array([self._place[name] for name in names], np.int64)

    def description(self) -> str:
        """What was found, line by line: classes with their counts, sizes, and what was skipped or is not used."""
        small, large = (f"{w} x {h}" for w, h in self.sizes)
        layout = self.layout

        def counts(classes):
            return some([f"{name} {len(members)}" for name, members in classes.items()], 20)

        lines = [f"{len(self.names)} pictures of {small}" + (f" to {large}" if large != small else "") + " pixels, "
                 f"{len(layout.unlabelled)} of them without a label",
                 f"{len(layout.train)} classes{' to train on' if layout.divided else ''}: {counts(layout.train)}"]
        if layout.divided:
            lines.append(f"{len(layout.test)} classes to test on: {counts(layout.test)}")
        return "\n".join([*lines, *layout.notes, *self.pictures.left_out()])


def skipped_line(skipped: dict[str, str], what: str = "file") -> str:
    """How many files (or other things) were skipped, with a few names and reasons; empty if none."""
    if not skipped:
        return ""
    return f"skipped {counted(len(skipped), what)}: " + some(
        f"{name} ({why})" for name, why in skipped.items())


def read_image_folder(path: str | os.PathLike, size: int, channels: int = 3) -> ImageFolder:
    """All pictures below a folder or in a zip of one, scaled to size x size.

    Raises:
        FileNotFoundError: nothing at `path`; ValueError: no pictures in class folders, it is unclear which are classes, or the
            size is no whole number of at least 1, or channels are neither 1 nor 3.
    """
    channels, size = _form("read_image_folder", channels, whole("read_image_folder", "size", size, 1))
    pictures, sizes = find_pictures(path), []

    def decode(content):
        picture = open_picture(content, channels)
        sizes.append(picture.size)
        return _array(picture, size, channels)

    found = list(pictures.read(decode))
    names = [name for name, _ in found]
    try:
        layout = arrange(names)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if not layout.train:
        raise ValueError(_nothing(path, "", pictures))
    sizes.sort(key=lambda s: s[0] * s[1])
    return ImageFolder(np.stack([image for _, image in found]), names, layout, pictures, (sizes[0], sizes[-1]))


def _nothing(path, prefix, pictures):
    nothing = f"{path} holds no readable images in sub-folders{' of ' + prefix if prefix else ''}"
    return "; ".join([nothing, "each class needs a folder of its own", *pictures.left_out()])


def load_image_folder(path: str | os.PathLike, size: int | None = None, channels: int = 3,
                      under: str = "") -> tuple[np.ndarray, np.ndarray, list[str]]:
    """All images below `path`, with the folder of each as its class. Files that cannot be read are skipped with a warning.

    Args:
        path: a folder, or a zip of one.
        size: scale every image to size x size; None if all have one size already.
        channels: 1 for grey, 3 for colour.
        under: only what lies below this folder in it, such as "train".

    Returns:
        images (N, channels, H, W) float32 in [0, 1], labels (N,) int64, names: the class of each label, sorted.

    Raises:
        FileNotFoundError: nothing at `path`; ValueError: no images, an unreadable zip, sizes differ and `size` is None, or size
            or channels are not as above.
    """
    channels, size = _form("load_image_folder", channels, size)
    prefix = unicodedata.normalize("NFC", under.strip("/")) + "/" if under else ""
    pictures = find_pictures(path)
    pictures.files = {name: read for name, read in pictures.files.items()
                      if name.startswith(prefix) and "/" in name[len(prefix):]}
    found = list(pictures.read(lambda content: read_picture(content, size, channels)))
    if not found:
        raise ValueError(_nothing(path, prefix, pictures))
    first, image = found[0]
    for name, other in found:
        if other.shape != image.shape:
            raise ValueError(f"{name} is {other.shape[1:]} pixels, {first} {image.shape[1:]}; pass size= to scale them all")
    if pictures.skipped:
        warnings.warn(f"{path}: {skipped_line(pictures.skipped)}", stacklevel=2)
    folders = [name[len(prefix):].rpartition("/")[0] for name, _ in found]
    classes = sorted(set(folders))
    number = {c: i for i, c in enumerate(classes)}
    return np.stack([image for _, image in found]).astype(np.float32) / 255, np.array([number[f] for f in folders]), classes
