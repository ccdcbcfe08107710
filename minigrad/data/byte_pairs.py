"""Byte-pair vocabularies (Sennrich et al. 2016, arXiv:1508.07909) of CLIP's kind: bytes, lower case, marked ends of words."""
import json
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..backend.files import write_whole
from .text import tokenizers_for

START, END = "<|startoftext|>", "<|endoftext|>"
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"  # what is divided into pieces, each by itself
LAST = "</w>"  # ends the last piece of a word


class BytePairs:
    """A vocabulary of pieces of words, and the division of text into them.

    Text is composed (NFC), lower-cased and cut into words, digits and runs of other signs; each of these begins as bytes, and
    neighbours are merged in the order in which the merges were learned. No text is unknown.

    Args:
        tokenizer: of the library tokenizers; START and END are among its tokens.

    Attributes:
        start, end: the ids of START and END. In vocabularies made by `train` these are the last two.
    """

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer
        self.start, self.end = (tokenizer.token_to_id(token) for token in (START, END))
        if self.start is None or self.end is None:
            raise ValueError(f"BytePairs: {START} and {END} must be among the tokens")

    def __len__(self) -> int:
        return self.tokenizer.get_vocab_size()

    @classmethod
    def train(cls, texts: Iterable[str], size: int) -> "BytePairs":
        """A vocabulary of at most `size` pieces: bytes, and within words what most often stands side by side in the texts.

        Raises:
            ImportError: tokenizers is not installed; ValueError: `size` has no room for the bytes and both special tokens.
        """
        library = tokenizers_for("BytePairs")
        letters = sorted(library.pre_tokenizers.ByteLevel.alphabet())
        first = [*letters, *(letter + LAST for letter in letters)]
        if size < len(first) + 2:
            raise ValueError(f"BytePairs.train: {size} pieces are too few: the bytes, within words and at their ends, and the "
                             f"special tokens are {len(first) + 2}")
        tokenizer = _tokenizer(library, {}, [])
        tokenizer.train_from_iterator(texts, library.trainers.BpeTrainer(
            vocab_size=size - 2, special_tokens=first, end_of_word_suffix=LAST, show_progress=False))
        model = json.loads(tokenizer.to_str())["model"]
        tokens = sorted(model["vocab"], key=model["vocab"].get) + [START, END]
        return cls(_tokenizer(library, {token: i for i, token in enumerate(tokens)}, [tuple(pair) for pair in model["merges"]]))

    @classmethod
    def load(cls, folder: str | os.PathLike) -> "BytePairs":
        """The vocabulary in a folder: of `tokenizer.json`, or of `vocab.json` and `merges.txt`, as CLIP was published with.

        Raises:
            ImportError: tokenizers is not installed; FileNotFoundError: it is not there; ValueError: it is no such vocabulary.
        """
        library, folder = tokenizers_for("BytePairs"), pathlib.Path(folder)
        try:
            if (folder / "tokenizer.json").is_file():
                return cls.parse((folder / "tokenizer.json").read_text(encoding="utf-8"))
            if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
                vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
                lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
                merges = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
                return cls(_tokenizer(library, vocabulary, merges))
        except Exception as error:  # the library raises Exception itself
            why = str(error).removeprefix("no vocabulary of byte pairs: ")  # what `parse` says
            raise ValueError(f"{folder} holds no vocabulary of byte pairs: {why}") from None
        raise FileNotFoundError(f"no vocabulary in {folder}: tokenizer.json wanted, or vocab.json and merges.txt")

    @classmethod
    def parse(cls, text: str) -> "BytePairs":
        """The vocabulary that the text of a `tokenizer.json` describes.

        Raises:
            ImportError: tokenizers is not installed; ValueError: it is no such vocabulary.
        """
        try:
            tokenizer = tokenizers_for("BytePairs").Tokenizer.from_str(text)
        except ImportError:
            raise
        except Exception as error:  # the library raises Exception itself
            raise ValueError(f"no vocabulary of byte pairs: {error}") from None
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return cls(tokenizer)

    def text(self) -> str:
        """What `parse` reads."""
        return self.tokenizer.to_str()

    def save(self, folder: str | os.PathLike) -> None:
        """Writes `tokenizer.json` into a folder, and `vocab.json` and `merges.txt`."""
        folder = pathlib.Path(folder)
        text = self.text()
        model = json.loads(text)["model"]
        write_whole(folder / "tokenizer.json", text)
        write_whole(folder / "vocab.json", json.dumps(model["vocab"], ensure_ascii=False))
        pairs = (pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"])
        write_whole(folder / "merges.txt", "\n".join(["#version: 0.2", *pairs, ""]))

    def encode(self, texts: Sequence[str], length: int) -> np.ndarray:
        """The ids of the texts' pieces between START and END, (N, L) int64, padded with END.

        Args:
            length: at most so many ids a text, of a longer one the first. L is what the longest of the texts needs.

        Raises:
            ValueError: `length` is below 2.
        """
        if length < 2:
            raise ValueError(f"BytePairs.encode: length {length} has no room for the first and the last token")
        found = [one.ids[:length - 2] for one in self.tokenizer.encode_batch(list(texts), add_special_tokens=False)]
        ids = np.full((len(found), max(map(len, found), default=0) + 2), self.end, np.int64)
        ids[:, 0] = self.start
        for row, one in zip(ids, found):
            row[1:len(one) + 1] = one
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids up to END, START left out."""
        kept = []
        for i in ids:
            if i == self.end:
                break
            kept += [] if i == self.start else [int(i)]
        pieces = "".join(self.tokenizer.id_to_token(i) or "" for i in kept).replace(LAST, " ").strip()
        letters = _bytes_of_letters()
        return bytes(b for c in pieces for b in ([letters[c]] if c in letters else c.encode())).decode("utf-8", "replace")


def _bytes_of_letters():
    """From the letters that stand for bytes in vocabularies to these: what can be printed is itself."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(others)}


def _tokenizer(library, vocabulary, merges):
    tokenizer = library.Tokenizer(library.models.BPE(
        vocabulary, merges, unk_token=END if END in vocabulary else None, end_of_word_suffix=LAST,
        continuing_subword_prefix=""))
    normal, pre = library.normalizers, library.pre_tokenizers
    tokenizer.normalizer = normal.Sequence([normal.NFC(), normal.Replace(library.Regex(r"\s+"), " "), normal.Lowercase()])
    tokenizer.pre_tokenizer = pre.Sequence([
        pre.Split(library.Regex(WORDS), behavior="removed", invert=True), pre.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = library.decoders.ByteLevel()
    if END in vocabulary:
        tokenizer.post_processor = library.processors.RobertaProcessing(
            (END, vocabulary[END]), (START, vocabulary[START]), trim_offsets=False, add_prefix_space=False)
    return tokenizer
