"""What is to be learned: labelled texts or pictures, the network that reads them, and how scores come of it."""
import dataclasses
import pathlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

import minigrad as mg
from methods.self_supervised import bert, bert_files, bert_sequences
from methods.training import encoders, optimizers, text_encoders, texts
from methods.training.checkpoint import fingerprint
from methods.training.evaluation import in_batches
from methods.training.loop import Batches, train
from methods.training.run import RunFolder
from methods.training.settings import RunSettings, note_idle, setting
from methods.transfer import finetune, pictures
from minigrad import nn
from minigrad.data.text import WordPiece

TOKENS = 64


@dataclass
class Config:
    """Settings of the data and the network."""

    data: str = setting("reviews", free=True)  # "reviews", "sst2", "glosses", a table or folder of texts, or pictures
    encoder: str = ""  # a folder of published weights or a run; empty: MiniLM if installed, else a small one, trained first
    per_class: int = setting(0, least=0)  # labels of each class; 0: all
    test: int = setting(0, least=0, free=True)  # examples to test on at most; 0: all
    tokens: int = setting(0, least=0)  # of a text at most; 0: 64, or as many as the encoder reads
    pooling: Literal["mean", "first"] = "mean"  # how the states of a text become one
    encoder_dropout: float = setting(0.0, least=0, most=0.9)  # of a BERT, in training
    image_size: int = setting(0, least=0)  # pixels of pictures; 0: those of the encoder
    first_steps: int = setting(600, least=1)  # of the small encoder's own training


@dataclass
class First(RunSettings, bert.Config):
    """The small encoder's own training."""


@dataclass
class Task:
    """A task.

    Args:
        net: an encoder without a head.
        x, y, test, test_y: inputs (ids of each text, or pictures as arrays) and classes.
        classes: their names.
        description: a line on the data.
        inputs: what `predict` has to know to read new ones.
        pad: the id that fills texts up; None for pictures.
        words: ids of frequent words and of the classes' names, for prompts.
        names: of what is to test on, the files or the texts themselves; none of a data set of pictures.
        unlabelled: what gives names and inputs of pictures without a label, some at a time.
    """

    net: nn.Encoder
    x: Any
    y: np.ndarray
    test: Any
    test_y: np.ndarray
    classes: tuple[str, ...]
    description: str
    inputs: dict[str, Any]
    pad: int | None = None
    words: dict[str, list[int]] = dataclasses.field(default_factory=dict)
    names: list[str] = dataclasses.field(default_factory=list)
    unlabelled: Callable[[], Iterable[tuple[list[str], np.ndarray]]] = tuple

    @property
    def fingerprint(self) -> str:
        """A digest of what is trained on."""
        return fingerprint(self.x, self.y)

    def batches(self, batch: int, seed: int) -> Batches:
        """Batches of inputs and labels."""
        if self.pad is not None:
            return texts.TextBatches(self.x, self.y, self.pad, batch, seed)
        return finetune.Batches(self.x, self.y, finetune.Config(batch=batch, mirror="no"), seed)

    def outputs(self, part: Any) -> np.ndarray:
        """The network's scores of inputs, (N, classes)."""
        return in_batches(self.net, part, 50) if self.pad is None else text_encoders.outputs(self.net, part, self.pad)

    def features(self, part: Any) -> np.ndarray:
        """The network's features of inputs, (N, width)."""
        head, self.net.head = self.net.head, nn.Identity()
        try:
            return self.outputs(part)
        finally:
            self.net.head = head


def load(run: Any) -> Task:
    """The task of a run.

    Raises:
        SystemExit: data or encoder cannot be had; one line that says why.
    """
    return of_texts(run) if texts.is_text(run.data) else of_pictures(run)


def note_idle_inputs(run: Any) -> None:
    """Says which of the settings of a run are of the other kind of inputs, texts or pictures."""
    if texts.is_text(run.data):
        note_idle(run, "with texts", "image_size")
    else:
        note_idle(run, "with pictures", "tokens", "pooling", "encoder_dropout", "first_steps")


def of_texts(run: Any) -> Task:
    """Texts and a BERT."""
    found = texts.load(run.data, run.per_class, run.test, run.seed)
    folder = text_encoders.find(run.encoder)
    if folder is None:
        folder = pathlib.Path(run.out) / "encoder"
        small_bert(found.x, folder, run.first_steps, run.tokens or TOKENS, run.seed)
    net, vocabulary = text_encoders.load(folder, run.encoder_dropout, run.pooling)
    longest = len(net.bert.position.weight)
    tokens = run.tokens or min(TOKENS, longest)
    if not 3 <= tokens <= longest:
        raise SystemExit(f"--tokens {run.tokens}: {folder} reads 3 to {longest}")
    rows, test = (texts.tokenised(part, vocabulary, tokens) for part in (found.x, found.test))
    full = [x for x, row in zip(found.x, rows) if len(row) == tokens]
    if cut := sum(len(row) > tokens for row in texts.tokenised(full, vocabulary, tokens + 1)):
        found.description += (f"\nof {cut} of the {len(rows)} texts to train on what is behind {tokens} tokens is not read"
                              + (f" (--tokens {longest} reads more)" if tokens < longest else ""))
    inputs = {"kind": "texts", "encoder": _place(folder, run.out), "tokens": tokens, "pooling": run.pooling}
    return Task(net.to(run.device), rows, found.y, test, found.test_y, found.classes, found.description, inputs,
                vocabulary.pad, words(vocabulary, found.classes), list(found.test))


def words(vocabulary: WordPiece, classes: tuple[str, ...]) -> dict[str, list[int]]:
    """The first 5,000 whole words, and those that the classes are called."""
    frequent = [int(i) for i in vocabulary.ordinary if vocabulary.tokens[i].isalpha()][:5000]
    named = [int(i) for ids in vocabulary.encode(classes) for i in ids if i != vocabulary.unknown]
    return {"words": frequent, "classes": named or frequent}


def _place(folder: pathlib.Path, out: str) -> str:
    """Where the encoder is: relative to the run's folder if it lies in that."""
    folder, out = folder.resolve(), pathlib.Path(out).resolve()
    return str(folder.relative_to(out)) if out in folder.parents else str(folder)


def small_bert(x: list[str], folder: pathlib.Path, steps: int, tokens: int, seed: int) -> None:
    """Writes a small BERT that has learned from hidden words in these texts, as the Hub has them, unless it is there.

    A training that was stopped goes on.
    """
    if (folder / "model.safetensors").is_file():
        return
    print(f"no encoder given or installed: a small BERT learns from the texts first, {steps} steps", flush=True)
    first = First(steps=steps, seed=seed, length=max(tokens, 8), next_sentence=False, lr=1e-3, out=str(folder / "training"))
    try:
        vocabulary = WordPiece.train(x, 4000)
    except (ImportError, ValueError) as error:
        raise SystemExit(f"no encoder is given, and none can be trained on the texts: {error}") from None
    mg.random.seed(seed)
    net = bert.PretrainingBERT(nn.BERT(len(vocabulary), 64, 2, 4, 256, first.length, dropout=0.0))
    bert.begin(net, 64)
    documents = [[ids] for ids in vocabulary.encode(x)]
    batches = bert_sequences.Sequences(documents, [[0] for _ in documents], vocabulary, first, seed)
    train(bert.Pretraining(first, net.train()), batches, optimizers.make(net.parameters(), "adam", first.lr, first.decay), steps,
          RunFolder(first.out, first, True))
    bert_files.save(net, folder, vocabulary)


def of_pictures(run: Any) -> Task:
    """Pictures and an encoder, such as a vision Transformer."""
    images = pictures.load(run.data, run.test)
    if not run.encoder:
        raise SystemExit(f"--data {run.data}: pictures need --encoder, a file or folder of published weights, or the folder of a "
                         "run (examples.self_supervised mae makes one)")
    net, preprocessing = encoders.load_encoder(run.encoder, run.image_size, whole=True, device=run.device)
    try:
        chosen = images.chosen(run.per_class, run.seed)
        images, read = pictures.inputs_of(images, np.union1d(chosen, images.test), preprocessing)
    except ValueError as error:
        raise SystemExit(f"--data {run.data} --per-class {run.per_class}: {error}") from None
    chosen = np.intersect1d(chosen, images.train)
    if lost := [name for k, name in enumerate(images.classes) if k not in images.labels[chosen]]:
        raise SystemExit(f"--data {run.data}: no labelled picture of {', '.join(lost)} can be read")
    x, test = (np.stack([read[i] for i in part]) for part in (chosen, images.test))
    inputs = {"kind": "pictures", "encoder": _place(pathlib.Path(run.encoder), run.out), "image_size": run.image_size}
    names = images.names

    def unlabelled(batch=50):
        for at in range(0, len(images.unlabelled), batch):
            _, some = pictures.inputs_of(images, images.unlabelled[at:at + batch], preprocessing)
            if some:
                yield [names[i] for i in some], np.stack(list(some.values()))

    return Task(net, x, images.labels[chosen], test, images.labels[images.test], tuple(images.classes), images.description,
                inputs, names=[names[i] for i in images.test] if images.files else [], unlabelled=unlabelled)
