"""BERT's sequences: sentences joined in pairs, words hidden in them, and batches of both."""
import collections
from typing import Any

import numpy as np

from methods.training.texts import filled, padded
from minigrad.data.text import WordPiece

from .bert import NO_LABEL, Batch, Config

NEAR = 20  # a false B is one of so many shorter and longer ones


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
