"""The answer: which classifier to use, how sure it is, and what it says of the unlabelled pictures."""
import dataclasses

import numpy as np

from methods.transfer.linear import Linear
from minigrad.data.folder import counted, some

from . import oddities, probes, suggest, uncertainty
from .families import Trained
from .features import UNREAD, Features
from .look import Folder
from .probes import Estimate
from .text_families import TunedText

COVERAGE = 0.9  # of the sets of classes
BLOCK = 2000  # pictures whose features are in memory at a time
SEEN = 5000  # unlabelled pictures of which the shares of the classes are estimated


@dataclasses.dataclass
class Answer:
    """What was found out, of the labels as they were then.

    Args:
        folder, features: of the pictures or texts.
        classes: names; known: places of the labelled pictures that were read; y: their labels.
        estimates: of all classifiers that were tried; chosen: the one to use, None where there are no two classes with labels.
        shares: of the classes among the labels, and among what unlabelled pictures are taken for, (classes,) each.
        suggested: places of the pictures to label next; reason: why these.
        test: right ones and number of the pictures to test on, if there are any.
        notes: further sentences; untried: names of families for which there was no time; seconds: since the start.
    """

    folder: Folder
    features: Features
    classes: tuple[str, ...]
    known: np.ndarray
    y: np.ndarray
    estimates: list[Estimate]
    chosen: Estimate | None
    shares: tuple[np.ndarray, np.ndarray]
    notes: list[str]
    suggested: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, int))
    reason: str = ""
    test: tuple[int, int] | None = None
    untried: tuple[str, ...] = ()
    seconds: float = 0.0

    def probabilities(self, which: np.ndarray) -> np.ndarray:
        """Calibrated ones by the chosen classifier, (N, classes), so many pictures at a time."""
        t, model = self.chosen.model_temperature(self.y), self.chosen.model
        found = np.zeros((len(which), len(self.classes)), np.float32)
        for a in range(0, len(which), BLOCK):
            places = which[a:a + BLOCK]
            scores = model.scores(places if isinstance(model, (Trained, TunedText)) else self.features.x(places))
            found[a:a + BLOCK] = uncertainty.softmax(scores / t)
        return found

    @property
    def share(self) -> np.ndarray:
        """Of the classes among new pictures, (classes,): the mean of `shares`.

        Labels are often the same number of each class where the pictures are not; what is predicted goes too far towards the
        classes that are recognised best.
        """
        return sum(self.shares) / len(self.shares)

    def accuracy(self, estimate: Estimate) -> tuple[float, float, float]:
        """As `Estimate.accuracy`; the interval holds those of either of `shares`, as the true ones may lie anywhere between.

        (Seen over 20 draws of 10 labels a class of emoji, seven tenths of which are persons, such intervals held the accuracy
        on other pictures in 90 %, those of `share` alone in 85 %.)
        """
        value, low, high = estimate.accuracy(self.y, self.share)
        others = [estimate.accuracy(self.y, share) for share in self.shares]
        return value, min(low, *(other[1] for other in others)), max(high, *(other[2] for other in others))

    def threshold(self) -> float:
        """q of the sets that hold the right class in nine of ten cases."""
        return uncertainty.threshold(self.chosen.probabilities(self.y), self.y[self.chosen.tried()], COVERAGE)


def answer(folder: Folder, features: Features, count: int, seed: int) -> Answer:
    """The answer of frozen features, as far as they were read. Args: count: how many pictures to suggest."""
    notes = oddities.drop_copies(folder, features)
    tests = len(folder.test)
    if lost := folder.drop_empty_classes():
        gone = tests - len(folder.test)
        notes.append(f"Of {some(lost)} no labelled {folder.what} can be used, so there is no such class"
                     + (f"; left out of the test: {counted(gone, folder.what)}." if gone else "."))
    begun = folder.test if len(features.known(folder.test)) else folder.test[:0]  # the first answer need not know any
    if unread := sum(int((features.rows[part] == UNREAD).sum()) for part in (folder.labelled, folder.unlabelled, begun)):
        notes.append(f"Time did not suffice to read {unread} of the {folder.what}s; these were left out at random.")
    known = features.known(folder.labelled)
    y, classes = folder.labels[known], len(folder.classes)
    counts = np.bincount(y, minlength=classes)
    result = Answer(folder, features, folder.classes, known, y, [], None, (counts / max(len(y), 1),) * 2, notes)
    if classes >= 2:
        rest = np.random.default_rng(seed).permutation(features.known(folder.unlabelled))[:SEEN]
        unlabelled = features.x(rest)
        found = probes.estimates(features.x(known), y, classes, unlabelled)
        if folder.what == "text":  # what is saved of texts is an encoder with a linear head
            found = [estimate for estimate in found if isinstance(estimate.model, Linear)]
        if len(unlabelled):  # prototypes are the first
            predicted = np.bincount(found[0].model.scores(unlabelled).argmax(1), minlength=classes) / len(unlabelled)
            result.shares = result.shares[0], predicted
        result.estimates, result.chosen = found, probes.best(found, y, result.share)
    result.suggested, result.reason = suggestions(result, count, seed)
    tested(result)
    return result


def tested(result: Answer) -> None:
    """Takes down how many of the pictures to test on the chosen classifier gets right."""
    test = result.features.known(result.folder.test)
    if result.chosen is not None and len(test):
        right = result.probabilities(test).argmax(1) == result.folder.labels[test]
        result.test = int(right.sum()), len(test)


def suggestions(result: Answer, count: int, seed: int) -> tuple[np.ndarray, str]:
    """Which pictures to label next, and why these."""
    folder, features = result.folder, result.features
    rest = features.known(folder.unlabelled)
    rest = rest[np.unique(features.rows[rest], return_index=True)[1]]  # of copies one
    rest = np.sort(np.random.default_rng(seed).permutation(rest)[:suggest.POOL])
    if not len(rest):
        return rest, ""
    x = features.x(rest)
    if result.chosen is not None and len(result.known) >= suggest.FEW * len(result.classes):
        return rest[suggest.margin(result.probabilities(rest), x, count)], "their two most probable classes are close"
    return (rest[suggest.typiclust(x, features.x(result.known), count, seed)],
            "each stands for many that resemble no labelled one")
