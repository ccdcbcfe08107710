"""BERT's pre-training: masked words and next sentences.

Jacob Devlin, Ming-Wei Chang, Kenton Lee, Kristina Toutanova: "BERT: Pre-training of Deep Bidirectional Transformers for
Language Understanding", 2018, arXiv:1810.04805.

A Transformer reads two sentences, A and B, in which some words are hidden. It names them from what stands on both sides, and
says whether B is what came after A.

    x = [CLS] A [SEP] B [SEP],  s = 0 for [CLS] A [SEP] and 1 for B [SEP]
    y = 0 and B follows A, or y = 1 and B is of another document: half of the time each
    M = max(1, round(0.15 n)) places of the n in x, drawn at random, never one of [CLS], [SEP] and [UNK]
    x~_i = [MASK] with probability 0.8, a random word 0.1, x_i 0.1 for i in M;  x~_i = x_i for others

    h = BERT(x~, s)
    p_i = softmax(E t_i + c),  t_i = LN(gelu(W h_i + b))                 words: E are the embeddings with which BERT reads them
    q = softmax(U tanh(P h_0 + d) + u)                                   next sentence: of the state at [CLS]
    L = mean over i in M of -log p_i[x_i]  +  mean over sequences of -log q[y]

As the E of the output is that of the input, both give it a gradient. Only the states in M are multiplied by E, which has a row
for each word of the vocabulary.

What tells a false B from a true one must not be how it looks. So a false one is about as long as the true one, of the same kind
(`data.text.Texts`: definitions, examples), and follows a sentence of the same kind in its own document. Sentences without a
neighbour, which could be followed by false ones alone, are left out, or read by themselves (`alone`) and have no y.
"""
import collections
import json
import os
import pathlib
from dataclasses import dataclass
from typing import Any

import numpy as np

import minigrad as mg
from methods.training.method import Loss, Method
from methods.training.optimizers import linear
from methods.training.settings import setting
from methods.training.texts import filled, padded
from minigrad import Tensor, io, nn
from minigrad.backend import to_device
from minigrad.backend.files import write_whole
from minigrad.data.text import WordPiece
from minigrad.nn.models.published import current_names, published_state

NEAR = 20  # a false B is one of so many shorter and longer ones
NO_LABEL = -100  # what `mg.cross_entropy` leaves out


@dataclass
class Config:
    """Settings for some minutes on a CPU. The paper's: lr 1e-4, batch 256, length 512, dropout 0.1, decay 0.01."""

    batch: int = setting(32, least=1)  # sequences in a step
    length: int = setting(48, least=8)  # tokens of a sequence at most
    share: float = setting(0.15, above=0, most=1)  # of the tokens that are to be named
    masked: float = setting(0.8, least=0, most=1)  # of these become [MASK]
    changed: float = setting(0.1, least=0, most=1)  # of these become a random word; the others stay
    next_sentence: bool = True  # False: masked words alone
    alone: bool = False  # read documents of one sentence too: more words, but nothing about next sentences
    lr: float = setting(7e-4, above=0)  # of AdamW, the highest
    warmup: float = setting(0.1, least=0, most=1)  # part of the steps in which the rate grows; then it falls to 0
    decay: float = setting(0.01, least=0)  # of the matrices
    dropout: float = setting(0.0, least=0, most=0.9)


# -- the network -----------------------------------------------------------------------------------------------------

HEADS = {"dense": "cls.predictions.transform.dense", "norm": "cls.predictions.transform.LayerNorm",
         "bias": "cls.predictions.bias", "follows": "cls.seq_relationship"}  # here, and in published files
TASKS = {"masked words": {"dense", "norm", "bias"}, "next sentence": {"follows"}}


def begin(net: nn.Module, width: int) -> None:
    """Draws the matrices of the linear layers anew, in place, as large in relation to the width as BERT-base's are at first.

    There the standard deviation is 0.02 for 768 inputs. With 0.02 for 128 the blocks would add next to nothing, and training
    would begin slowly. Embeddings, and the matrices of queries, keys and values, stay as they are.
    """
    for name, module in net.named_modules():
        if isinstance(module, nn.Linear) and not name.endswith(".qkv"):
            nn.init.normal_(module.weight, std=0.02 * (768 / width) ** 0.5)


class PretrainingBERT(nn.Module):
    """BERT with the heads of both tasks.

    Args:
        bert: the encoder; its own head is not used.
    """

    def __init__(self, bert: nn.BERT):
        words, width = bert.word.weight.shape
        self.bert = bert
        self.dense, self.norm = nn.Linear(width, width), nn.LayerNorm(width, bert.norm.eps)  # W and b; LN
        self.bias, self.follows = nn.Parameter(np.zeros(words, np.float32)), nn.Linear(width, 2)  # c; U and u
        for layer in (self.dense, self.follows):
            begin(layer, width)
            nn.init.zeros_(layer.bias)

    def forward(self, batch: "Batch") -> tuple[Tensor, Tensor]:
        """Scores of the hidden words (M, vocabulary), and of y = 0 and 1 (N, 2)."""
        h = self.bert.encode(self.bert.embed(batch.ids, batch.segments), batch.attended)
        return self.words(h[batch.rows, batch.places]), self.follows(self.bert.pool(h))

    def words(self, h: Tensor) -> Tensor:
        """E t + c: states (M, width) to scores (M, vocabulary)."""
        return mg.linear(self.norm(mg.gelu(self.dense(h))), self.bert.word.weight, self.bias)

    def save(self, folder: str | os.PathLike, vocabulary: WordPiece) -> None:
        """Writes a folder as the Hugging Face Hub has them: model.safetensors, config.json, vocab.txt.

        `nn.load_published` and `nn.load_text_encoder` read the encoder, `load` the heads too.
        """
        folder, own = pathlib.Path(folder), self.state_dict()
        vocabulary.save(folder)
        state = {f"bert.{name}": array for name, array in published_state(self.bert).items()}
        for here, there in HEADS.items():
            state |= {there + name.removeprefix(here): array for name, array in own.items() if name.split(".")[0] == here}
        io.save(folder / "model.safetensors", state)
        block = self.bert.blocks[0] if self.bert.blocks else None
        words, width = self.bert.word.weight.shape
        facts = {"architectures": ["BertForPreTraining"], "model_type": "bert", "vocab_size": words, "hidden_size": width,
                 "num_hidden_layers": len(self.bert.blocks), "num_attention_heads": block.attn.num_heads if block else 1,
                 "intermediate_size": len(block.mlp.fc1.weight) if block else width, "hidden_act": "gelu",
                 "max_position_embeddings": len(self.bert.position.weight), "type_vocab_size": len(self.bert.kind.weight),
                 "layer_norm_eps": self.bert.norm.eps, "pad_token_id": vocabulary.pad}
        write_whole(folder / "config.json", json.dumps(facts, indent=1))


def load(where: str | os.PathLike, dropout: float = 0.0) -> tuple[PretrainingBERT, WordPiece, list[str]]:
    """A published encoder (a folder of the Hub) with its vocabulary; and which heads its file lacks: these are new.

    Raises:
        FileNotFoundError: there is none; ValueError: it is no BERT, or its vocabulary has more words (`nn.load_text_encoder`).
    """
    bert, path = nn.load_text_encoder(where, dropout=dropout)
    vocabulary = WordPiece.load(path.parent)
    if len(vocabulary) > len(bert.word.weight):
        raise ValueError(f"{path.parent}: {len(vocabulary)} words in vocab.txt, but embeddings of {len(bert.word.weight)}")
    net = PretrainingBERT(bert)
    state, own = current_names(io.load(path)[0]), net.state_dict()
    wanted = {name: HEADS[head] + name.removeprefix(head) for name in own if (head := name.split(".")[0]) in HEADS}
    found = {name: state[there] for name, there in wanted.items() if there in state and state[there].shape == own[name].shape}
    net.load_state_dict(found, strict=False)
    new = {name.split(".")[0] for name in wanted.keys() - found.keys()}
    return net, vocabulary, [what for what, heads in TASKS.items() if new & heads]


# -- sequences -------------------------------------------------------------------------------------------------------


@dataclass
class Batch:
    """N sequences of up to L tokens, in which M are to be named.

    Args:
        ids: x~, (N, L); attended: False for padding, (N, L); segments: s, (N, L).
        rows, places: where M is: sequences and places in them, (M,); targets: x there, (M,).
        follows: y, (N,); `NO_LABEL` for a sentence alone.
    """

    ids: Any
    attended: Any
    segments: Any
    rows: Any
    places: Any
    targets: Any
    follows: Any

    def to(self, device: str) -> "Batch":
        """The batch on a device."""
        return Batch(*(to_device(array, device) for array in vars(self).values()))


def joined(a: np.ndarray, b: np.ndarray | None, vocabulary: WordPiece, length: int) -> tuple[np.ndarray, np.ndarray]:
    """x and s. What is too long loses tokens at the end of the longer sentence."""
    room = length - (2 if b is None else 3)
    if b is None:
        a = a[:room]
    else:
        kept = max(room - len(b), room // 2)  # of A; B gets the rest
        a = a[:kept]
        b = b[:room - len(a)]
    parts = [[vocabulary.cls], a, [vocabulary.sep]] + ([] if b is None else [b, [vocabulary.sep]])
    x = np.concatenate(parts).astype(np.int64)
    return x, (np.arange(len(x)) >= len(a) + 2).astype(np.int64)


def hidden(x: np.ndarray, vocabulary: WordPiece, config: Config, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """x~, and M in order: fewer if x has not so many words, none if it has none."""
    words = np.flatnonzero((x != vocabulary.cls) & (x != vocabulary.sep) & (x != vocabulary.unknown))
    count = min(max(1, round(config.share * len(x))), len(words))
    chosen = np.sort(rng.choice(words, count, replace=False)) if count else words
    how, other = rng.random(count), rng.choice(vocabulary.ordinary, count)
    became = np.where(how < config.masked, vocabulary.mask, np.where(how < config.masked + config.changed, other, x[chosen]))
    changed = x.copy()
    changed[chosen] = became
    return changed, chosen


class Sequences:
    """Batches of documents, each neighbouring pair of sentences once in a round, hidden anew each time.

    Args:
        documents: of each the ids of its sentences (`WordPiece.encode`); kinds: of each sentence, see `data.text.Texts`.
        seed: of the order, the false sentences and what is hidden.
    """

    def __init__(self, documents: list[list[np.ndarray]], kinds: list[list[int]], vocabulary: WordPiece, config: Config,
                 seed: int | tuple[int, ...]):
        self.documents, self.vocabulary, self.config = documents, vocabulary, config
        self.first = [(d, i) for d, sentences in enumerate(documents)
                      for i in range(max(len(sentences) - 1, int(config.alone or not config.next_sentence)))]
        pairs = collections.defaultdict(list)  # by the kinds of A and B
        for d, i in self.first:
            if len(documents[d]) > 1:
                pairs[kinds[d][i], kinds[d][i + 1]].append((d, i))
        self.like = {}  # from each A with a y to all with the same kinds, B by B longer, and its place among them
        for group in pairs.values():
            if group[0][0] != group[-1][0]:  # two documents at least
                group.sort(key=lambda pair: len(documents[pair[0]][pair[1] + 1]))
                self.like |= {pair: (group, k) for k, pair in enumerate(group)}
        self.long = np.array([sum(map(len, documents[d][i:i + 2])) for d, i in self.first])
        self.rng, self.order = np.random.default_rng(seed), np.zeros(0, np.int64)

    def __len__(self) -> int:
        """How many sequences a round has."""
        return len(self.first)

    def sequence(self, d: int, i: int) -> tuple[np.ndarray, np.ndarray, int]:
        """x, s and y with sentence i of document d as A."""
        a, rest = self.documents[d][i], self.documents[d][i + 1:i + 2]
        b, y = rest[0] if rest else None, NO_LABEL
        if self.config.next_sentence and (d, i) in self.like:
            y = int(self.rng.random() < 0.5)
            b = self.false(d, i) if y else b
        return *joined(a, b, self.vocabulary, self.config.length), y

    def false(self, d: int, i: int) -> np.ndarray:
        """A sentence of another document that looks like the one after sentence i of document d."""
        (group, k), near, others = self.like[d, i], NEAR, []
        while not others:
            others = [pair for pair in group[max(0, k - near):k + near + 1] if pair[0] != d]
            near *= 2
        e, j = others[self.rng.integers(len(others))]
        return self.documents[e][j + 1]

    def round(self) -> np.ndarray:
        """All sequences in a random order, in which those of a batch are about equally long: padding costs time."""
        order = np.argsort(np.minimum(self.long, self.config.length) + self.rng.uniform(0, 8, len(self)), kind="stable")
        *batches, last = np.split(order, range(self.config.batch, len(self), self.config.batch))
        return np.concatenate([*(batches[i] for i in self.rng.permutation(len(batches))), last])

    def sample(self) -> Batch:
        """The next batch."""
        if not len(self.order):
            self.order = self.round()
        taken, self.order = self.order[:self.config.batch], self.order[self.config.batch:]
        xs, segments, follows = zip(*(self.sequence(*self.first[k]) for k in taken))
        changed, chosen = zip(*(hidden(x, self.vocabulary, self.config, self.rng) for x in xs))
        return Batch(padded(changed, self.vocabulary.pad), filled(xs), padded(segments, 0),
                     np.repeat(np.arange(len(xs)), [len(places) for places in chosen]),
                     np.concatenate(chosen), np.concatenate([x[places] for x, places in zip(xs, chosen)]), np.array(follows))

    def state_dict(self) -> dict[str, Any]:
        """The state of the random numbers, and what is left of the round."""
        return {"rng": self.rng.bit_generator.state, "order": self.order}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        self.rng.bit_generator.state, self.order = state["rng"], np.asarray(state["order"], np.int64)


# -- the objective ---------------------------------------------------------------------------------------------------


def losses(words: Tensor, follows: Tensor, batch: Batch) -> tuple[Tensor, Tensor | None]:
    """The two terms of L from scores (M, vocabulary) and (N, 2); None for the second if no sequence of the batch has a y.

    The first is 0 where nothing is hidden, as no word of the batch is known.
    """
    named = mg.cross_entropy(words, batch.targets, reduction="sum") / max(len(batch.targets), 1)
    return named, mg.cross_entropy(follows, batch.follows, ignore_index=NO_LABEL) if (batch.follows >= 0).any() else None


class Pretraining(Method):
    """L of a PretrainingBERT."""

    def loss(self, batch: Batch, step: int) -> Loss:
        batch = batch.to(self.net.bias.device)
        words, follows = self.net(batch)
        named, next_sentence = losses(words, follows, batch)
        numbers = {"words": named, "words right": (words.data.argmax(1) == batch.targets).sum() / max(len(batch.targets), 1)}
        if next_sentence is None:
            return named, numbers
        known = batch.follows >= 0
        right = (follows.data.argmax(1) == batch.follows)[known].mean()
        return named + next_sentence, {**numbers, "next sentence": next_sentence, "next sentence right": right}

    def schedule(self, step: int, steps: int) -> float:
        """Up in a line, then down in one to 0."""
        return linear(step, steps, self.config.warmup)
