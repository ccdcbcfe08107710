"""BERT learns from text without labels, from hidden words and next sentences; then a few labels are enough.

    python -m examples.bert                                         # WordNet's glosses (MINIGRAD_DATA, /usr/share/wordnet)
    python -m examples.bert --data TEXTS                            # your own: a .txt file, a folder or a zip of them
    python -m examples.bert --encoder FOLDER --lr 1e-4              # continues a published encoder: a folder of the Hub
    python -m examples.bert --fill "a [MASK] that barks"            # the finished run's words, or those of --encoder FOLDER
    python -m examples.bert --fill "a [MASK] that barks" --encoder FOLDER

On documents held out it measures how often the hidden word and the next sentence are right, beside always saying the most
frequent word. Then it learns from few labels which of noun, verb, adjective and adverb a gloss defines: the pre-trained encoder
against the same network with random weights. The encoder is written to `encoder/` in the run's folder, in the Hub's form.
"""
import dataclasses
import pathlib

import numpy as np

import minigrad as mg
from methods.self_supervised import bert, bert_evaluation, bert_files, bert_sequences
from methods.self_supervised.bert_evaluation import Classification, DocumentBatches, Tuning
from methods.training import optimizers, plots
from methods.training.checkpoint import fingerprint
from methods.training.comparison import spread
from methods.training.loop import train
from methods.training.run import RunFolder
from methods.training.settings import RunSettings, check, command, note_idle, setting
from minigrad import data, nn
from minigrad.data.folder import skipped_line
from minigrad.data.text import WordPiece


@dataclasses.dataclass
class Run(RunSettings, bert.Config):
    """Settings of the run."""

    data: str = setting("glosses", free=True)  # "glosses" of WordNet, or a .txt file, a folder or a zip of them
    encoder: str = ""  # a published encoder to continue, a folder of the Hub with its vocab.txt; empty: from scratch
    vocabulary: int = setting(6000, least=50)  # pieces of words, learned from the texts
    layers: int = setting(2, least=1)
    width: int = setting(128, least=1)
    heads: int = setting(4, least=1)
    steps: int = setting(8000, least=1, free=True)  # of the pre-training
    evaluate_every: int = setting(500, least=0, free=True)  # steps between measurements on held-out documents
    labels: int = setting(200, least=0)  # to fine-tune with, in all; 0: no fine-tuning
    draws: int = setting(3, least=1, free=True)  # of labels
    tuning_steps: int = setting(200, least=1)
    tuning_lr: float = setting(5e-4, above=0)
    tuning_batch: int = setting(20, least=1)
    fill: str = setting("", free=True)  # a text with [MASK]: print what the trained encoder puts there, and nothing else
    out: str = "runs/bert"  # the run's folder


TESTED, TRACKED = 8000, 1000  # held-out sequences at the end, and while training


def main(run):
    """Pre-trains, measures and fine-tunes. Returns the numbers by name."""
    check(run)
    if run.encoder:
        note_idle(run, "with --encoder", "vocabulary", "layers", "width", "heads")
    if not run.labels:
        note_idle(run, "with --labels 0", "draws", "tuning_steps", "tuning_lr", "tuning_batch")
    if run.fill:
        return filled(run)
    if run.masked + run.changed > 1:
        raise SystemExit(f"--masked {run.masked} and --changed {run.changed}: choose shares that are 1 or less together")
    folder = RunFolder(run.out, run, run.resume)
    texts = load(run)
    parts = texts.divided()
    net, vocabulary = network(run, parts[0])
    parts = [(part, bert_evaluation.encoded(part, vocabulary)) for part in parts]
    (train_texts, documents), (test_texts, held_out) = parts
    sequences = bert_sequences.Sequences(documents, train_texts.kinds, vocabulary, run, run.seed)
    tested = bert_sequences.Sequences(held_out, test_texts.kinds, vocabulary, run, (run.seed, 1))
    print(f"{len(documents)} documents to train on, {sum(map(len, documents))} sentences; {len(held_out)} to test on; "
          f"{len(vocabulary)} pieces of words")
    if run.next_sentence and not (sequences.like and len(tested)):
        raise SystemExit(f"--data {run.data}: no sentence that follows another in two or more documents; divide documents by "
                         "blank lines, or leave out the next sentences (--no-next-sentence)")
    draws = drawn(run, train_texts.labels, train_texts.classes) if run.labels and texts.labels is not None else []
    batches = [tested.sample() for _ in range(-(-min(TESTED, len(tested)) // run.batch))]
    tracked = batches[:-(-TRACKED // run.batch)]
    shares = bert_evaluation.word_shares(documents, len(vocabulary))

    def evaluate(step):
        found = bert_evaluation.measured(net, tracked, shares)
        return {f"test {name}": value for name, value in found.items() if name not in ("entropy", "most frequent right")}

    flat = [s for document in documents + held_out for s in document]
    train(bert.Pretraining(run, net), sequences, optimizers.make(net.parameters(), "adam", run.lr, run.decay), run.steps, folder,
          evaluate=evaluate, evaluate_every=run.evaluate_every,
          data=fingerprint(vocabulary.tokens, np.concatenate(flat), np.array([len(s) for s in flat])))
    bert_files.save(net, folder.path / "encoder", vocabulary)

    found = bert_evaluation.measured(net, batches, shares)
    show(found, vocabulary, shares)
    print("held-out sentences, the hidden word in brackets, and the guesses:")
    for line in bert_evaluation.examples(net, vocabulary, held_out, 6, run.seed):
        print(line)
    curves(folder)
    if draws:
        found |= classified(run, net, vocabulary, parts, draws)
    print(f"\nmetrics, checkpoint, curves, and the encoder (encoder/) are in {run.out}")
    return found


def show(found, vocabulary, shares):
    """Prints how often hidden words and next sentences are right, beside what needs no network."""
    print(f"hidden words: {100 * found['words right']:.1f} % right, always {vocabulary.tokens[shares.argmax()]!r} "
          f"{100 * found['most frequent right']:.1f} %; loss {found['words']:.2f}, of word frequencies {found['entropy']:.2f}")
    if "next sentence right" in found:
        print(f"next sentence: {100 * found['next sentence right']:.1f} % right, chance 50 %")


def load(run):
    """The texts. SystemExit: there are none, in one line."""
    try:
        texts = data.load_glosses() if run.data == "glosses" else data.read_texts(run.data)
        if not all(len(part.documents) for part in texts.divided()):
            raise ValueError(f"{len(texts.documents)} documents, of which one of ten is held out to test on, are too few")
    except (OSError, ValueError) as error:
        raise SystemExit(f"--data {run.data}: {error}") from None
    if texts.skipped:
        print(skipped_line(texts.skipped))
    return texts


def network(run, texts):
    """The network to train and its vocabulary, published or new. SystemExit: it cannot be had, in one line."""
    mg.random.seed(run.seed)
    try:
        if run.encoder:
            net, vocabulary, new = bert_files.load(run.encoder, run.dropout)
            longest = len(net.bert.position.weight)
            if longest < run.length:
                raise SystemExit(f"--length {run.length}: {run.encoder} reads {longest} pieces at most")
            if new:
                print(f"{run.encoder} has no head for {' and '.join(new)}: new ones begin at random")
        else:
            vocabulary = WordPiece.train((s for document in texts.documents for s in document), run.vocabulary)
            net = bert.PretrainingBERT(nn.BERT(len(vocabulary), run.width, run.layers, run.heads, 4 * run.width, run.length,
                                               dropout=run.dropout))
            bert.begin(net, run.width)
    except (OSError, ValueError, ImportError) as error:
        raise SystemExit(f"--encoder {run.encoder}: {error}" if run.encoder else str(error)) from None
    return net.train().to(run.device), vocabulary


def filled(run):
    """Prints what stands at each [MASK]. Returns the words with their probabilities."""
    where = run.encoder or pathlib.Path(run.out) / "encoder"
    try:
        net, vocabulary, new = bert_files.load(where)
        if "masked words" in new:
            raise ValueError("it has no head for masked words; pre-train it first (--encoder)")
        found = bert_evaluation.fill(net.to(run.device), vocabulary, run.fill)
    except (OSError, ValueError, ImportError) as error:
        raise SystemExit(f"--fill, with {where}: {error}") from None
    for words in found:
        print(bert_evaluation.shown(words))
    return found


def drawn(run, labels, classes):
    """Which documents have a label, in each draw. SystemExit: there are not so many."""
    try:
        return [data.balanced_subset(labels, run.labels, 1000 * run.seed + draw, classes) for draw in range(run.draws)]
    except ValueError as error:
        raise SystemExit(f"--labels {run.labels}: {error}") from None


def classified(run, net, vocabulary, parts, draws):
    """Fine-tunes with the labels of each draw, from the pre-trained and from random weights; prints and returns accuracies."""
    (train_texts, documents), (test_texts, held_out) = parts
    classes, start = len(train_texts.classes), net.bert.state_dict()
    equal = data.balanced_subset(test_texts.labels, classes * min(300, np.bincount(test_texts.labels).min()), 0)
    found = {"pre-trained": [], "from scratch": []}
    for draw, chosen in enumerate(draws):
        for name, values in found.items():
            mg.random.seed(1000 * run.seed + draw)
            encoder = nn.BERT(**{**net.bert.arguments, "num_classes": classes, "dropout": 0.1})
            bert.begin(encoder, encoder.width)
            if name == "pre-trained":
                encoder.load_state_dict(start, strict=False)
            out = pathlib.Path(run.out) / "labels" / (f"{run.steps}-{draw}" if name == "pre-trained" else f"scratch-{draw}")
            config = Tuning(seed=run.seed, steps=run.tuning_steps, out=str(out), labels=run.labels, length=run.length,
                            batch=run.tuning_batch, lr=run.tuning_lr, decay=run.decay, pretrained=name == "pre-trained",
                            resume=(out / "checkpoint.safetensors").exists())
            method = Classification(config, encoder.to(run.device))
            known = DocumentBatches([documents[i] for i in chosen], train_texts.labels[chosen], vocabulary, config, draw)
            train(method, known, optimizers.make(encoder.parameters(), "adam", config.lr, config.decay), config.steps,
                  RunFolder(config.out, config, config.resume), data=fingerprint(known.rows, known.labels))
            tested = DocumentBatches([held_out[i] for i in equal], test_texts.labels[equal], vocabulary, config, 0)
            values.append(100 * method.tested(tested))
    print(f"{run.labels} labels ({', '.join(train_texts.classes)}), {run.draws} draws: " + "; ".join(
        f"{name} {spread(values, 1)} %" for name, values in found.items()))
    return found


def curves(folder):
    """Draws the measurements on held-out documents."""
    history, labels = folder.history(), {"loss": "training loss"}
    for name, label in (("test words right", "hidden words right"), ("test next sentence right", "next sentences right")):
        labels |= {name: label} if any(name in line for line in history) else {}
    plots.curves(history, folder.path / "curves.png", "step", labels)


if __name__ == "__main__":
    command(main, Run, __doc__)
