"""Texts as documents of sentences: WordNet's glosses, or files of your own; and WordPiece vocabularies.

| found in a text of your own                                   | what happens                                                |
|---------------------------------------------------------------|-------------------------------------------------------------|
| a `.txt` file; a folder or zip of them, sub-folders too       | read as UTF-8, or as UTF-16 with a byte order mark          |
| blank lines                                                   | divide a file into documents                                |
| lines, half of which or more end like sentences               | each line by itself is divided into sentences               |
| other lines                                                   | wrapped: joined, then divided; lines where that gives one   |
| of another encoding, empty, no text, a dead link              | skipped, with the reason in `skipped`                       |
| other endings, `.hidden` files                                | not read                                                    |
"""
import dataclasses
import functools
import gzip
import json
import os
import pathlib
import re
import zlib
from collections.abc import Iterable, Iterator
from types import ModuleType

import numpy as np

from ..backend.files import write_whole
from ..backend.libraries import library
from ..ops.geometry import whole
from ..tensor import flag
from .files import data_dir, text_of
from .folder import content_of, files_below, printable

GLOSSES = "wordnet-glosses.tsv.gz"
PARTS_OF_SPEECH = ("noun", "verb", "adj", "adv")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclasses.dataclass
class Texts:
    """Documents.

    Args:
        documents: of each its sentences, at least one.
        kinds: of each sentence a small whole number; sentences of one kind look alike (definitions, examples).
        labels: of each document, (N,); None for no labels.
        classes: what the labels are called.
        skipped: from the names of files that could not be read to the reasons.
    """

    documents: list[list[str]]
    kinds: list[list[int]]
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)

    def chosen(self, which: Iterable[int]) -> "Texts":
        """The documents at these places."""
        which = np.asarray(list(which), np.int64)
        return dataclasses.replace(self, documents=[self.documents[i] for i in which], kinds=[self.kinds[i] for i in which],
                                   labels=None if self.labels is None else self.labels[which])

    def divided(self) -> tuple["Texts", "Texts"]:
        """Those to train on, and one of ten to test on: which, its first sentence says, so it is always the same."""
        held_out = np.array([zlib.crc32(document[0].encode()) % 10 == 0 for document in self.documents], bool)
        return self.chosen(np.flatnonzero(~held_out)), self.chosen(np.flatnonzero(held_out))


# -- WordNet ---------------------------------------------------------------------------------------------------------


def load_glosses(data: str | os.PathLike | None = None) -> Texts:
    """WordNet's glosses, a document each: "words: definition", more definitions (kind 0), then examples (1).

    Labels are the parts of speech.

    Args:
        data: the folder to look in, see `data_dir`: for WordNet's database (`data.noun`, `data.verb`, `data.adj`, `data.adv`)
            or `wordnet-glosses.tsv.gz`, lines of part of speech, words and gloss; there or in its `text`, `wordnet`, `dict`.
            Without `data` where Debian's package puts it, too.

    Raises:
        FileNotFoundError: they are not there; the message says where they come from. ValueError: a file is damaged.
    """
    root = data_dir(data)
    folders = [root, *(root / name for name in ("text", "wordnet", "dict"))]
    folders += [pathlib.Path("/usr/share/wordnet")] if data is None else []
    for folder in folders:
        found = [folder / f"data.{name}" for name in PARTS_OF_SPEECH]
        try:
            if (folder / GLOSSES).is_file():
                with gzip.open(folder / GLOSSES, "rt", encoding="utf-8") as file:
                    rows = [tuple(line.rstrip("\n").split("\t")[:3]) for line in file]
            elif all(path.is_file() for path in found):
                rows = [(path.suffix[1:], *_entry(line)) for path in found
                        for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("  ")]  # the licence
            else:
                continue
            labels = [PARTS_OF_SPEECH.index(part) for part, _, _ in rows]
            sentences = [gloss_sentences(f"{words}: {gloss}") for _, words, gloss in rows]
        except (OSError, EOFError, zlib.error, IndexError, ValueError) as error:
            raise ValueError(f"the glosses in {folder} are damaged: {error}") from None
        kept = [i for i, found in enumerate(sentences) if found]
        if not kept:
            raise ValueError(f"the glosses in {folder} are empty")
        return Texts([[s for s, _ in sentences[i]] for i in kept], [[k for _, k in sentences[i]] for i in kept],
                     np.array(labels)[kept], PARTS_OF_SPEECH)
    raise FileNotFoundError(f"WordNet's glosses are not in {root}: unpack WordNet's database (WNdb-3.0.tar.gz, from "
                            "wordnet.princeton.edu) there, or install Debian's package wordnet-base")


def _entry(line):
    """Words and gloss in a line of WordNet's database."""
    facts, _, gloss = line.partition(" | ")
    fields = facts.split()
    words = fields[4:4 + 2 * int(fields[3], 16):2]  # each with a number behind it; of adjectives some have a marker, (a)
    return ", ".join(re.sub(r"\((a|p|ip)\)$", "", word).replace("_", " ") for word in words), gloss


def gloss_sentences(gloss: str) -> list[tuple[str, int]]:
    """Definitions, which semicolons divide (kind 0), and examples, which stand in quotation marks (1), without these."""
    found = []
    for part in re.findall(r'(?:[^;"]|"[^"]*"?)+', gloss):
        part = part.strip()
        found += [(s, 1) for s in re.findall(r'"([^"]*)', part)[::2]] if part.startswith('"') else [(part, 0)]
    return [(" ".join(s.split()), kind) for s, kind in found if re.search(r"\w", s)]


# -- texts of one's own ----------------------------------------------------------------------------------------------


def read_texts(path: str | os.PathLike) -> Texts:
    """The documents of a `.txt` file, or of all in a folder or zip; see the table above. All sentences are of one kind.

    Raises:
        FileNotFoundError: nothing is at `path`; ValueError: no text is left in it, or it is a file of another kind.
    """
    path, skipped = pathlib.Path(path), {}
    if not path.exists():
        raise FileNotFoundError(f"no text at {path}")
    if path.is_file() and path.suffix.lower() == ".txt":
        files = [(path.name, path.read_bytes)]
    else:
        files = sorted((found for found in files_below(path, skipped) if found[0].lower().endswith(".txt")),
                       key=lambda found: found[0])
    documents = []
    for name, read in files:
        try:
            found = list(paragraphs(text_of(content_of(read))))
            if not found:
                raise ValueError("it is empty")
            documents += found
        except ValueError as error:
            skipped[printable(name)] = str(error)
    if not documents:
        why = "; ".join(f"skipped {name} ({why})" for name, why in list(skipped.items())[:5])
        raise ValueError(f"{path} holds no text in .txt files{'; ' + why if why else ''}")
    return Texts(documents, [[0] * len(document) for document in documents], skipped=skipped)


STOP, CLOSING = r"[.!?\u2026]", r"[\"'\u201d\u2019)\]]"  # of a sentence
BETWEEN = re.compile(rf"(?:(?<={STOP})|(?<={STOP}{CLOSING}))\s+(?=[\"'\u201c\u2018(\[]*[^\W_a-z])")  # two sentences


def paragraphs(text: str) -> Iterator[list[str]]:
    """The documents of a file: between blank lines, the sentences of each."""
    for block in re.split(r"\n\s*\n", "\n".join(text.splitlines())):
        lines = [line for line in (" ".join(line.split()) for line in block.split("\n")) if re.search(r"\w", line)]
        ended = sum(bool(re.search(f"{STOP}{CLOSING}*$", line)) for line in lines)
        found = [s for unit in (lines if 2 * ended >= len(lines) else [" ".join(lines)]) for s in BETWEEN.split(unit)]
        found = [s for s in (found if len(found) > 1 else lines) if re.search(r"\w", s)]
        if found:
            yield found


# -- WordPiece -------------------------------------------------------------------------------------------------------


class WordPiece:
    """A vocabulary of words and pieces of words, and the greedy division of text into them (Wu et al. 2016, arXiv:1609.08144).

    As BERT does it: text is lower-cased and loses its accents, punctuation stands alone, and of each word the longest piece
    that is in the vocabulary is taken first; pieces that do not begin a word are written ##ing. `train` and `encode` need the
    library tokenizers.

    Args:
        tokens: the pieces, by their ids; [PAD], [UNK], [CLS], [SEP] and [MASK] must be among them.
        lower: False leaves upper case and accents as they are.

    Attributes:
        pad, unknown, cls, sep, mask: the ids of the special tokens.
        ordinary: the ids of all other tokens, but for those that are unused, (n,).
    """

    def __init__(self, tokens: Iterable[str], lower: bool = True):
        self.tokens, self.lower = list(tokens), flag("WordPiece", "lower", lower)
        ids = {token: i for i, token in enumerate(self.tokens)}
        if len(ids) < len(self.tokens):
            twice = next(token for i, token in enumerate(self.tokens) if ids[token] != i)
            raise ValueError(f"WordPiece: {twice!r} stands twice among the tokens")
        if missing := [name for name in SPECIAL if name not in ids]:
            raise ValueError(f"WordPiece: {', '.join(missing)} must be among the tokens")
        self.pad, self.unknown, self.cls, self.sep, self.mask = (ids[name] for name in SPECIAL)
        self.ordinary = np.array([i for i, token in enumerate(self.tokens) if not re.fullmatch(
            r"\[(PAD|UNK|CLS|SEP|MASK|unused\d+)\]", token)], np.int64)

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def train(cls, texts: Iterable[str], size: int, lower: bool = True) -> "WordPiece":
        """A vocabulary of at most `size` pieces from texts: all characters, then what most often stands side by side.

        Raises:
            ImportError: tokenizers is not installed; ValueError: the characters alone are more than `size`.
        """
        lower, size = flag("WordPiece.train", "lower", lower), whole("WordPiece.train", "size", size, 1)
        library, texts = tokenizers_for("WordPiece"), list(texts)

        def learned(size, first):
            tokenizer = _tokenizer(library, library.models.WordPiece(unk_token="[UNK]"), lower)
            tokenizer.train_from_iterator(texts, library.trainers.WordPieceTrainer(
                vocab_size=size, special_tokens=first, show_progress=False))
            found = tokenizer.get_vocab()
            return sorted(found, key=found.get)

        characters = sorted(learned(0, []))  # whose order is random otherwise, and with it which of two equal pairs is joined
        if len(SPECIAL) + len(characters) > size:
            raise ValueError(f"WordPiece.train: {size} pieces are too few: the special tokens and the texts' characters, at "
                             f"the beginning of words and within, are {len(SPECIAL) + len(characters)}")
        return cls(learned(size, [*SPECIAL, *characters]), lower)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "WordPiece":
        """The vocabulary of a published `vocab.txt`, a token a line, or `tokenizer.json`, given by its path or folder.

        Case is kept only where `tokenizer_config.json` beside it says so.

        Raises:
            FileNotFoundError: it is not there; ValueError: it is no vocabulary.
        """
        path = pathlib.Path(path)
        if path.is_dir():
            found = [path / name for name in ("vocab.txt", "tokenizer.json") if (path / name).is_file()]
            path = found[0] if found else path / "vocab.txt"
        if not path.is_file():
            raise FileNotFoundError(f"no vocabulary at {path}")
        try:
            text, facts = path.read_text(encoding="utf-8"), path.parent / "tokenizer_config.json"
            if path.suffix == ".json":
                ids = json.loads(text)["model"]["vocab"]
                tokens = sorted(ids, key=ids.get)
                if [ids[token] for token in tokens] != list(range(len(ids))):
                    raise ValueError("its ids are not 0, 1, 2, ...")
            else:
                tokens = [line.rstrip("\r") for line in text.removesuffix("\n").split("\n")]
            lower = not facts.is_file() or json.loads(facts.read_text(encoding="utf-8")).get("do_lower_case", True)
            return cls(tokens, lower)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{path} is no vocabulary of WordPiece: {error}") from None

    def save(self, folder: str | os.PathLike) -> None:
        """Writes `vocab.txt` and `tokenizer_config.json` into a folder, as published encoders have them."""
        folder = pathlib.Path(folder)
        write_whole(folder / "vocab.txt", "\n".join(self.tokens) + "\n")
        facts = {"tokenizer_class": "BertTokenizer", "do_lower_case": self.lower}
        write_whole(folder / "tokenizer_config.json", json.dumps(facts, indent=1))

    @functools.cached_property
    def _library(self):
        library = tokenizers_for("WordPiece")
        ids = {token: i for i, token in enumerate(self.tokens)}
        return _tokenizer(library, library.models.WordPiece(ids, unk_token="[UNK]"), self.lower)

    def encode(self, texts: Iterable[str]) -> list[np.ndarray]:
        """The ids of each text's pieces, without special tokens: (n,) int32 each. "[MASK]" within a text is text.

        Raises:
            ImportError: tokenizers is not installed.
        """
        return [np.array(found.ids, np.int32) for found in self._library.encode_batch(list(texts), add_special_tokens=False)]

    def decode(self, ids: Iterable[int]) -> str:
        """The pieces as text, with spaces between words."""
        return " ".join(self.tokens[i] for i in ids).replace(" ##", "")


def tokenizers_for(who: str) -> ModuleType:
    """The library tokenizers. ImportError: it is not installed, and `who` needs it."""
    return library("tokenizers", "tokenizers", f"{who} needs")


def _tokenizer(library, model, lower):
    tokenizer = library.Tokenizer(model)
    tokenizer.normalizer = library.normalizers.BertNormalizer(lowercase=lower)
    tokenizer.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
    return tokenizer
