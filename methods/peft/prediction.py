"""Classifying new texts and pictures with what a run has fine-tuned."""
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
from minigrad.data.labelled_texts import TABLES, table_rows, text_column

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
            names = inputs = [text for one in given for text in texts_in(one)]
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


def texts_in(given: str) -> list[str]:
    """The texts of a .txt file (a line each), of the column of texts of a .tsv or .csv, of all such files in a folder, or else
    the text itself.

    Raises:
        FileNotFoundError: it looks like the name of such a file, and there is none; ValueError: the file cannot be read, or
            is of another kind, or the folder holds none.
    """
    path = pathlib.Path(given)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in (*TABLES, ".txt") and file.is_file())
        if not files:
            raise ValueError(f"{given} is a folder without texts: no {', '.join(sorted((*TABLES, '.txt')))} lies in it")
        return [text for file in files for text in texts_in(str(file))]
    if path.is_file() and path.suffix.lower() not in (*TABLES, ".txt"):
        raise ValueError(f"{given} is a file, but no text: {', '.join(sorted((*TABLES, '.txt')))} are read")
    table, lines = path.suffix.lower() in TABLES, path.suffix.lower() == ".txt"
    if not table and not lines or " " in given and not path.is_file():
        return [" ".join(given.split())]
    if not path.is_file():
        raise FileNotFoundError(f"there is no {given}")
    if table:
        rows, at = text_column([row for _, row in table_rows(given, path.read_bytes())])
        found = [row[at] for row in rows if at < len(row)]
    else:
        try:
            found = path.read_bytes().decode("utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise ValueError(f"{given} is no text in UTF-8") from None
    return [" ".join(text.split()) for text in found if text.strip()]
