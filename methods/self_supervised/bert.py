"""BERT's pre-training: masked words and next sentences.

Jacob Devlin, Ming-Wei Chang, Kenton Lee, Kristina Toutanova: "BERT: Pre-training of Deep Bidirectional Transformers for
Language Understanding", 2018, arXiv:1810.04805.

A Transformer reads two sentences, A and B, in which some words are hidden. It names them from what stands on both sides, and
says whether B is what came after A. `bert_sequences` makes the sequences.

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
from dataclasses import dataclass
from typing import Any

import numpy as np

import minigrad as mg
from methods.training.method import Loss, Method
from methods.training.settings import setting
from minigrad import Tensor, nn, optim
from minigrad.backend import to_device

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


# -- the network -----------------------------------------------------------------------------------------------------

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

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Scores of the hidden words (M, vocabulary), and of y = 0 and 1 (N, 2)."""
        h = self.bert.encode(self.bert.embed(batch.ids, batch.segments), batch.attended)
        return self.words(h[batch.rows, batch.places]), self.follows(self.bert.pool(h))

    def words(self, h: Tensor) -> Tensor:
        """E t + c: states (M, width) to scores (M, vocabulary)."""
        return mg.linear(self.norm(mg.gelu(self.dense(h))), self.bert.word.weight, self.bias)


# -- the objective ---------------------------------------------------------------------------------------------------


def losses(words: Tensor, follows: Tensor, batch: Batch) -> tuple[Tensor, Tensor | None]:
    """The two terms of L from scores (M, vocabulary) and (N, 2); None for the second if no sequence of the batch has a y.

    The first is 0 where nothing is hidden, as no word of the batch is known.
    """
    named = mg.cross_entropy(words, batch.targets, reduction="sum") / max(len(batch.targets), 1)
    return named, mg.cross_entropy(follows, batch.follows, ignore_index=NO_LABEL) if (batch.follows >= 0).any() else None


class Pretraining(Method):
    """Trains a PretrainingBERT by L."""

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
        return optim.linear_decay(1.0, steps, self.config.warmup * steps)(step)
