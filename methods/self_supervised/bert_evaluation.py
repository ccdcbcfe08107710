"""What a pre-trained BERT can do: hidden words beside the most frequent one, next sentences, few-label classification."""
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import minigrad as mg
from methods.training.evaluation import accuracy, right
from methods.training.forward import evaluating
from methods.training.method import Loss, Method
from methods.training.settings import RunSettings, setting
from methods.training.texts import filled, padded
from minigrad import nn, optim
from minigrad.backend import to_device
from minigrad.data.labels import Shuffled
from minigrad.data.text import Texts, WordPiece

from . import bert, bert_sequences

Documents = list[list[np.ndarray]]  # of each document the ids of its sentences
Guesses = list[tuple[str, float]]  # words with their probabilities


def encoded(texts: Texts, vocabulary: WordPiece) -> Documents:
    """The documents as ids."""
    ids = iter(vocabulary.encode(s for document in texts.documents for s in document))
    return [[next(ids) for _ in document] for document in texts.documents]


# -- hidden words and next sentences ---------------------------------------------------------------------------------


def word_shares(documents: Documents, size: int) -> np.ndarray:
    """The share of each of `size` pieces in documents, one more of each counted: (size,)."""
    counts = 1 + np.bincount(np.concatenate([s for document in documents for s in document]), minlength=size)
    return counts / counts.sum()


def measured(net: bert.PretrainingBERT, batches: list[bert.Batch], shares: np.ndarray) -> dict[str, float]:
    """Accuracies and losses over all hidden words and sequences of the batches; beside them, of who knows `shares` only.

    Returns:
        "words right" and "words" (the loss), "most frequent right" and "entropy", "next sentence right" and "next sentence".
    """
    found = {name: [] for name in ("words right", "words", "next sentence right", "next sentence")}
    with evaluating(net):
        for batch in batches:
            batch = batch.to(net.bias.device)
            for scores, targets, name in zip(net(batch), (batch.targets, batch.follows), ("words", "next sentence")):
                known = targets >= 0
                if known.any():
                    scores, targets = scores.numpy()[to_device(known, "cpu")], to_device(targets[known], "cpu")
                    found[name].append(mg.cross_entropy(scores, targets, reduction="none").numpy())
                    found[f"{name} right"].append(right(scores, targets))
    targets = np.concatenate([batch.targets for batch in batches])
    means = {name: float(np.concatenate(values).mean()) for name, values in found.items() if values}
    return {**means, "most frequent right": float((targets == shares.argmax()).mean()),
            "entropy": float(-np.log(shares[targets]).mean())}


def guesses(net: bert.PretrainingBERT, vocabulary: WordPiece, sentence: list[np.ndarray], most: int) -> list[Guesses]:
    """The most probable words between the parts of a sentence, which are given as ids: for each gap words and probabilities."""
    x = [vocabulary.cls]
    for i, part in enumerate(sentence):
        x += [*([vocabulary.mask] if i else []), *part]
    x = np.array([[*x, vocabulary.sep]], np.int64)
    if x.shape[1] > len(net.bert.position.weight):
        raise ValueError(f"{x.shape[1]} pieces with [CLS] and [SEP], and the encoder reads {len(net.bert.position.weight)}")
    with evaluating(net):
        x = to_device(x, net.bias.device)
        h = net.bert.encode(net.bert.embed(x))
        p = mg.softmax(net.words(h[0][x[0] == vocabulary.mask]), 1).numpy()
    p = p[:, vocabulary.ordinary]
    return [[(vocabulary.tokens[vocabulary.ordinary[k]], float(row[k])) for k in np.argsort(-row)[:most]] for row in p]


def fill(net: bert.PretrainingBERT, vocabulary: WordPiece, text: str, most: int = 5) -> list[Guesses]:
    """The most probable words for each [MASK] in a text, with their probabilities.

    Raises:
        ValueError: there is no [MASK], or the text is too long.
    """
    parts = re.split(r"\[MASK\]", text)
    if len(parts) == 1:
        raise ValueError(f"{text!r} has no [MASK] to fill")
    return guesses(net, vocabulary, vocabulary.encode(parts), most)


def shown(found: Guesses) -> str:
    """Words with their probabilities, in a line."""
    return ", ".join(f"{word} {100 * p:.0f} %" for word, p in found)


def examples(net: bert.PretrainingBERT, vocabulary: WordPiece, documents: Documents, count: int, seed: int) -> Iterator[str]:
    """Lines with a sentence in which a word of three letters or more is hidden, the word, and the guesses."""
    rng = np.random.default_rng(seed)
    long = np.array([len(token) > 2 and token.isalpha() for token in vocabulary.tokens])
    fitting = [s for document in documents for s in document[:1]
               if 6 <= len(s) < min(24, len(net.bert.position.weight) - 2) and long[s].any()]
    for k in rng.choice(len(fitting), min(count, len(fitting)), replace=False):
        sentence = fitting[k]
        at = rng.choice(np.flatnonzero(long[sentence]))
        parts = sentence[:at], sentence[at + 1:]
        (found,) = guesses(net, vocabulary, list(parts), 4)
        before, after = map(vocabulary.decode, parts)
        yield f"{before} [{vocabulary.tokens[sentence[at]]}] {after}\n    {shown(found)}"


# -- classification with few labels ----------------------------------------------------------------------------------


@dataclass
class Tuning(RunSettings):
    """Settings for a few hundred labels."""

    labels: int = setting(200, least=1)  # in all, as many of each class
    length: int = setting(48, least=8)
    batch: int = setting(20, least=1)
    lr: float = setting(5e-4, above=0)  # of AdamW, the highest
    warmup: float = setting(0.1, least=0, most=1)
    decay: float = setting(0.01, least=0)
    steps: int = 200
    pretrained: bool = True  # what the encoder begins with; False: at random


class DocumentBatches:
    """Batches of documents x, each with its sentences one after the other, and labels y; each once in a round."""

    def __init__(self, documents: Documents, labels: np.ndarray, vocabulary: WordPiece, config: Tuning, seed: int):
        self.rows = [bert_sequences.joined(np.concatenate(sentences), None, vocabulary, config.length)[0]
                     for sentences in documents]
        self.labels, self.pad, self.batch = labels, vocabulary.pad, min(config.batch, len(documents))
        self.order = Shuffled(len(documents), seed)

    def at(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ids (N, L), False for padding (N, L), and labels (N,) of some."""
        rows = [self.rows[k] for k in places]
        return padded(rows, self.pad), filled(rows), self.labels[places]

    def sample(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The next batch."""
        return self.at(self.order.take(self.batch))

    def state_dict(self) -> dict[str, Any]:
        """The state of the round."""
        return self.order.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        self.order.load_state_dict(state)


class Classification(Method):
    """Trains all of a BERT with a head on labelled texts."""

    net: nn.BERT

    def scores(self, ids: np.ndarray, attended: np.ndarray) -> mg.Tensor:
        """Scores of the classes, (N, classes)."""
        device = self.net.word.weight.device
        return self.net(to_device(ids, device), to_device(attended, device))

    def loss(self, batch: tuple[np.ndarray, np.ndarray, np.ndarray], step: int) -> Loss:
        *x, y = batch
        scores = self.scores(*x)
        return mg.cross_entropy(scores, to_device(y, scores.device)), {"accuracy": accuracy(scores.numpy(), y)}

    def schedule(self, step: int, steps: int) -> float:
        return optim.linear_decay(1.0, steps, self.config.warmup * steps)(step)

    def tested(self, texts: DocumentBatches, batch: int = 200) -> float:
        """The accuracy on all of the texts."""
        order = np.argsort([len(row) for row in texts.rows], kind="stable")
        with evaluating(self.net):
            found = [right(self.scores(ids, attended).numpy(), y) for ids, attended, y in (
                texts.at(order[i:i + batch]) for i in range(0, len(order), batch))]
        return float(np.concatenate(found).mean())
