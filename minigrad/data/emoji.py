"""Emoji with their names: Noto's pictures, the names of the package emoji, Unicode's groups."""
import os
import pathlib
import re

import numpy as np

from ..backend.libraries import library
from ..tensor import flag
from .captions import CaptionedPictures
from .files import data_dir
from .folder import find_pictures

GROUPS = "emoji-test.txt"
SKIN, JOINS = range(0x1F3FB, 0x1F400), (0x200D, 0xFE0F, 0x2640, 0x2642)  # skin tones; joiner, variation, female, male
PEOPLE = {0x1F468: 0x1F9D1, 0x1F469: 0x1F9D1, 0x1F466: 0x1F9D2, 0x1F467: 0x1F9D2, 0x1F474: 0x1F9D3, 0x1F475: 0x1F9D3}


def load_emoji(languages: tuple[str, ...] = ("en",), data: str | os.PathLike | None = None, *,
               keywords: bool = True) -> CaptionedPictures:
    """Emoji with their names in some languages, the first language's first.

    A group are the emoji that differ in skin tone or gender alone. Classes are Unicode's sub-groups ("animal bug"), where
    `emoji-test.txt` is found beside the pictures or where Debian's package unicode-data puts it; else there are none.

    Args:
        languages: by their codes: en, es, ja, ko, pt, it, fr, de, fa, id, zh, ru, tr, ar.
        data: the folder to look in, see `data_dir`: for `noto-emoji-png32.zip` or another zip or folder `noto-emoji*` of
            pictures `emoji_u1f600.png`, code points joined by `_`; there or in its `emoji`.
        keywords: captions name the class, too, as Openclipart's keywords do.

    Raises:
        FileNotFoundError: they are not there; ValueError: a language is not known; ImportError: emoji is not installed.
    """
    keywords = flag("load_emoji", "keywords", keywords)
    folders = [data_dir(data), data_dir(data) / "emoji"]
    found = [path for folder in folders for path in sorted(folder.glob("noto-emoji*"))]
    if not found:
        raise FileNotFoundError(f"no emoji in {folders[0]}: put a zip of Noto's pictures emoji_u1f600.png, ... there as "
                                "noto-emoji.zip, or set MINIGRAD_DATA to its folder")
    named, groups = _names(languages), _groups(found[0].parent)
    pictures, skipped, rows = find_pictures(found[0]), {}, []
    for name, read in pictures.files.items():
        match = re.fullmatch(r"(?:.*/)?emoji_u([0-9a-f_]+)\.\w+", name)
        codes = tuple(int(code, 16) for code in match[1].split("_")) if match else ()
        texts = named.get(_plain(codes))
        if texts:
            rows.append((codes, name, read, texts))
        else:
            skipped[name] = "it has no name" if match else "its name has no code points"
    rows.sort(key=lambda row: (len(row[0]), row[0]))  # of a group the plainest first
    number = {}
    members = [number.setdefault(base(codes), len(number)) for codes, *_ in rows]
    kinds = [groups.get(_plain(codes)) for codes, *_ in rows]
    classes = sorted({kind for kind in kinds if kind})
    return CaptionedPictures(
        [read for _, _, read, _ in rows], [name for _, name, _, _ in rows], [texts for *_, texts in rows],
        [(kind,) if kind and keywords else () for kind in kinds],
        np.array(members, np.int64), np.array([classes.index(kind) if kind else -1 for kind in kinds]), tuple(classes),
        pictures.skipped | skipped)


def base(codes: tuple[int, ...]) -> tuple[int, ...]:
    """The code points of an emoji without skin tones, gender and what joins them: what its variants have in common."""
    return tuple(PEOPLE.get(code, code) for code in codes if code not in SKIN and code not in JOINS)


def _plain(codes):
    return tuple(code for code in codes if code != 0xFE0F)


def _names(languages):
    """From code points to the names in the languages, each once."""
    emoji = library("emoji", "emoji", "the names of emoji need")
    known = sorted(emoji.LANGUAGES)
    if not languages or set(languages) - set(known):
        raise ValueError(f"languages of emoji are some of {', '.join(known)}, not {', '.join(languages) or 'none'}")
    emoji.config.load_language(list(languages))
    found = {}
    for character, facts in emoji.EMOJI_DATA.items():
        names = [facts[language].strip(":").replace("_", " ") for language in languages if facts.get(language)]
        if names and languages[0] in facts:
            found.setdefault(_plain(tuple(map(ord, character))), tuple(dict.fromkeys(names)))
    return found


def _groups(folder):
    """From code points to Unicode's sub-groups; {} where they are not known."""
    for path in (folder / GROUPS, pathlib.Path("/usr/share/unicode/emoji") / GROUPS):
        if path.is_file():
            found, group = {}, ""
            for line in path.read_text(encoding="utf-8").splitlines():
                if line.startswith("# subgroup:"):
                    group = line.partition(":")[2].strip().replace("-", " ")
                elif group and (match := re.match(r"([0-9A-F ]+);", line)):
                    found[_plain(tuple(int(code, 16) for code in match[1].split()))] = group
            return found
    return {}
