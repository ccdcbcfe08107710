"""Classifying new texts and pictures with what a run has fine-tuned."""
import os
import pathlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import minigrad as mg
from methods.training import encoders, text_encoders
from methods.training.evaluation import in_batches
from methods.training.pictures import EncoderInput, picture_files, read_pictures
from methods.training.prediction import Prediction, most_probable
from methods.training.texts import tokenised
from minigrad import nn
from minigrad.data.folder import content_of, find_files, printable, skipped_line
from minigrad.data.labelled_texts import TABLES, decode_lines, decode_text, excess, lines_of, table_rows, text_column

from . import load, read

FILE = "fine_tuning.safetensors"
ENDINGS = {*TABLES, ".txt"}  # of files of texts


@dataclass
class FineTuned:
    """A network with its fine-tuning, and what is done to its inputs.

    Args:
        kind: "texts" or "pictures".
        prepare: the vocabulary and how many tokens, or the preprocessing of pictures.
    """

    net: nn.Encoder
    classes: tuple[str, ...]
    kind: str
    prepare: Any

    def probabilities(self, inputs: Sequence[str] | np.ndarray) -> np.ndarray:
        """(N, classes) of texts, or of preprocessed pictures (N, C, H, W)."""
        if self.kind == "texts":
            vocabulary, tokens = self.prepare
            scores = text_encoders.outputs(self.net, tokenised(inputs, vocabulary, tokens), vocabulary.pad)
        else:
            scores = in_batches(self.net, inputs, 50)
        return mg.softmax(mg.Tensor(scores), 1).numpy()

    def predict(self, given: Sequence[str]) -> list[Prediction]:
        """The most probable class of each text or picture, see `named_probabilities`."""
        return most_probable(*self.named_probabilities(given), self.classes)

    def named_probabilities(self, given: Sequence[str]) -> tuple[Sequence[str], np.ndarray]:
        """Texts or names of pictures, and the probability of each class, (N, classes).

        Args:
            given: of pictures files, folders or zips; of texts what `texts_in` takes.

        Raises:
            FileNotFoundError, ValueError: something is not there or cannot be read.
        """
        if self.kind == "texts":
            found = [pair for one in given for pair in texts_in(one)]
            names, inputs = [name for name, _ in found], [text for _, text in found]
        else:
            files = {name: reader for path in given for name, reader in picture_files(path).items()}
            names, inputs = read_pictures(files, self.prepare)
        return names, self.probabilities(inputs) if len(names) else np.zeros((0, len(self.classes)), np.float32)


def load_run(folder: str | os.PathLike, encoder: str = "", device: str = "cpu") -> FineTuned:
    """The network that a run of examples.peft has fine-tuned, in evaluation mode.

    Args:
        encoder: where the base is, if it is not where it was.

    Raises:
        SystemExit: the base cannot be had; OtherBase, ValueError: it is another, or the file is damaged.
    """
    folder = pathlib.Path(folder)
    about, _ = read(folder / FILE)
    inputs = about["inputs"]
    where = encoder or str(folder / inputs["encoder"])  # an absolute path stays as it is
    if inputs["kind"] == "texts":
        net, vocabulary = text_encoders.load(where, pooling=inputs["pooling"])
        prepare = vocabulary, inputs["tokens"]
    else:
        net, preprocessing = encoders.load_encoder(where, inputs["image_size"], whole=True)
        prepare = EncoderInput(**vars(preprocessing))
    load(net, folder / FILE)
    return FineTuned(net.to(device).eval(), tuple(about["classes"]), inputs["kind"], prepare)


def texts_in(given: str) -> list[tuple[str, str]]:
    """Name and text of what is given: a text is its own name, unless it is a file in a folder, as those to learn from are.

    | given                      | texts                                                              |
    |----------------------------|--------------------------------------------------------------------|
    | a .txt file                | a line each                                                        |
    | a .tsv or .csv file        | a row each, of its column of texts                                 |
    | a folder or a zip of one   | each .txt file below it one, by its name; of tables the rows       |
    | anything else              | itself                                                             |

    Raises:
        FileNotFoundError: it looks like the name of such a file, and there is none; ValueError: the file cannot be read, or
            is of another kind, or the folder holds none, or the text is empty.
    """
    path = pathlib.Path(given)
    if os.path.isdir(given) or os.path.isfile(given) and path.suffix.lower() == ".zip":  # to pathlib a text is too long a name
        return _texts_below(path)
    named = path.suffix.lower() in ENDINGS
    if os.path.isfile(given):
        if not named:
            raise ValueError(f"{given} is a file, but no text: {', '.join(sorted(ENDINGS))} are read")
        return [(text, text) for text in _texts(given, path.read_bytes())]
    if named and " " not in given:
        raise FileNotFoundError(f"there is no {given}")
    text = " ".join(given.split())
    if not text:
        raise ValueError("a text is empty")
    return [(text, text)]


def _texts_below(folder):
    """Those of all files; of what cannot be read or is of another kind standard error says it."""
    found, texts = find_files(folder, ENDINGS, "text"), []
    if not found.files:
        raise ValueError("; ".join([f"{folder} holds no texts: no {', '.join(sorted(ENDINGS))} lies in it", *found.left_out()]))
    for name, read_file in found.files.items():
        try:
            content = content_of(read_file)
            texts += ([(text, text) for text in _texts(name, content)] if pathlib.Path(name).suffix.lower() in TABLES
                      else [(printable((folder / name).as_posix()), decode_text(content))])
        except ValueError as error:
            found.skipped[name] = str(error)
    for line in found.left_out():
        print(line, file=sys.stderr)
    return texts


def _texts(name, content):
    """Those of a file with this name; of rows of a table that are left out standard error says why."""
    if pathlib.Path(name).suffix.lower() in TABLES:
        rows = table_rows(name, content)
        begin, at, _, width = text_column([row for _, row in rows])
        skipped = {i: why for i, row in rows if (why := excess(row, width))}
        if skipped:
            print(skipped_line({f"{name}, row {i}": why for i, why in skipped.items()}), file=sys.stderr)
        found = [row[at] for i, row in rows[begin:] if at < len(row) and i not in skipped]
    else:
        try:
            found = lines_of(decode_lines(content))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return [" ".join(text.split()) for text in found if text.strip()]
