"""What a person should look at: labels that may be wrong, pictures that are there twice, classes that are confused."""
import dataclasses

import numpy as np

from methods.transfer.linear import unit

from .features import Features
from .look import Folder

SUSPICIOUS = 0.8  # probability of another class from which on a label is suspicious
NEAR = 0.97  # cosine of features from which on two pictures are near-duplicates
CONFLICTS = 20  # of copies in another class that are said one by one
COMPARED = 5000  # pictures that are compared with each other at most


@dataclasses.dataclass
class Suspicion:
    """A labelled picture that looks like another class. Args: place: of the picture; kind: that other class, with its p."""

    place: int
    label: int
    kind: int
    p: float


def suspicious(places: np.ndarray, y: np.ndarray, p: np.ndarray) -> list[Suspicion]:
    """The labels that others contradict, the surest first.

    Args:
        places: of the pictures that were left out, (N,); y: their labels; p: probabilities without their own, (N, classes).
    """
    found = [Suspicion(int(i), int(label), int(row.argmax()), float(row.max())) for i, label, row in zip(places, y, p)
             if row.argmax() != label and row.max() >= SUSPICIOUS]
    return sorted(found, key=lambda s: -s.p)


def drop_copies(folder: Folder, features: Features) -> list[str]:
    """Takes copies of labelled pictures out, which would make the accuracy of what is left out look better than it is.

    The first by name stays; a copy in another class is the person's to decide and said. Copies of pictures to test on are no
    unlabelled ones to learn from. Returns sentences, of many the first.
    """
    first: dict[bytes, int] = {}
    copies, conflicts = [], []
    for i in features.known(np.concatenate([folder.labelled, folder.test])):
        other = first.setdefault(features.keys[i], i)
        if other != i:
            copies.append(i)
            if folder.labels[other] != folder.labels[i]:
                conflicts.append(f"{folder.files[i]} is the same {folder.what} as {folder.files[other]}, but in another class")
    folder.without(copies, [f"a copy of {folder.files[first[features.keys[i]]]}" for i in copies])
    tested = {features.keys[i]: folder.files[i] for i in features.known(folder.test)}
    copies = [i for i in features.known(folder.unlabelled) if features.keys[i] in tested]
    folder.without(copies, [f"a copy of {tested[features.keys[i]]}, which is to test on" for i in copies])
    more = [f"{len(conflicts) - CONFLICTS} more {folder.what}s are in another class than one that is the same."]
    return [f"{conflict}; the latter is used." for conflict in conflicts[:CONFLICTS]] + more * (len(conflicts) > CONFLICTS)


def near_duplicates(x: np.ndarray, places: np.ndarray) -> list[tuple[int, int, float]]:
    """Pairs of places whose features x (N, width) point nearly the same way, with the cosine; the most alike first."""
    z = unit(x.astype(np.float32) - x.mean(0))
    pairs = []
    for a in range(0, len(z), 500):
        near = z[a:a + 500] @ z.T
        for i, j in zip(*np.nonzero(near >= NEAR)):
            if a + i < j:
                pairs.append((int(places[a + i]), int(places[j]), float(near[i, j])))
    return sorted(pairs, key=lambda pair: -pair[2])


def confusions(y: np.ndarray, predicted: np.ndarray, classes: int) -> list[tuple[int, int, int]]:
    """(class, class that it was taken for, how often), the most frequent first."""
    table = np.zeros((classes, classes), int)
    np.add.at(table, (y, predicted), 1)
    np.fill_diagonal(table, 0)
    return [(int(a), int(b), int(table[a, b])) for a, b in sorted(zip(*np.nonzero(table)), key=lambda ab: -table[ab])]
