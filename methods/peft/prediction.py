"""Classifying new texts and pictures with what a run has fine-tuned."""
import csv
import io
import os
import pathlib
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
from minigrad.data.labelled_texts import TEXT

from . import load, read

FILE = "fine_tuning.safetensors"


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
        """The most probable class of each text or picture.

        Args:
            given: of pictures files, folders or zips; of texts what `texts_in` takes.

        Raises:
            FileNotFoundError, ValueError: something is not there or cannot be read.
        """
        if self.kind == "texts":
            names = inputs = [text for one in given for text in texts_in(one)]
        else:
            files = {name: reader for path in given for name, reader in picture_files(path).items()}
            names, inputs = read_pictures(files, self.prepare)
        return most_probable(names, self.probabilities(inputs), self.classes) if len(names) else []


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


def texts_in(given: str) -> list[str]:
    """The texts of a .txt file (a line each), of a table's column of texts (or its only one), or the text itself."""
    path = pathlib.Path(given)
    ending = path.suffix.lower()
    try:
        found = path.is_file()
    except (OSError, ValueError):  # too long for a name
        found = False
    if not found:
        if ending in (".txt", ".tsv", ".csv") and " " not in given:
            raise FileNotFoundError(f"there is no {given}")
        return [" ".join(given.split())]
    try:
        content = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{given} is no text in UTF-8") from None
    if ending == ".csv":
        rows = list(csv.reader(io.StringIO(content, newline="")))
    else:
        rows = [line.split("\t") if ending == ".tsv" else [line] for line in content.splitlines()]
    rows = [row for row in rows if any(cell.strip() for cell in row)]
    first = [cell.strip().lower() for cell in rows[0]] if rows else []
    at = next((first.index(word) for word in TEXT if word in first), None)
    rows = rows if at is None or ending == ".txt" else rows[1:]
    if at is None and rows and ending != ".txt":  # the longest column
        at = int(np.argmax([sum(len(row[k]) for row in rows if k < len(row)) for k in range(max(map(len, rows)))]))
    return [" ".join(row[at or 0].split()) for row in rows if len(row) > (at or 0) and row[at or 0].strip()]
