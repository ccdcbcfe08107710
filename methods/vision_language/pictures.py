"""Pictures with captions to learn from, and to test on: where they come from, and which classes are asked for."""
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from methods.training.checkpoint import fingerprint
from methods.training.data_sets import data_set, selected, unscaled
from methods.transfer.features import encode
from methods.transfer.pictures import Files
from minigrad import data, nn
from minigrad.data import CaptionedPictures
from minigrad.data.captions import COLOURS, DIGIT_TEMPLATES
from minigrad.data.files import cached
from minigrad.data.folder import some

CIFAR_WORDS = {
    "airplane": "a vehicle with wings that flies in the sky", "automobile": "a small vehicle on the road with wheels",
    "bird": "an animal with wings that flies in the sky", "cat": "a small furry animal with paws, a pet",
    "deer": "a large wild animal with hooves on grass", "dog": "a furry animal with paws, a pet",
    "frog": "a small green wild animal", "horse": "a large animal with hooves on grass",
    "ship": "a large vehicle on the water", "truck": "a large vehicle on the road with wheels"}
DESCRIBING = ("a photo of {}", "a picture of {}", "an image of {}", "{}", "a blurry photo of {}", "a close-up photo of {}")
DRAWING = ("{}", "{}, clip art", "a drawing of {}", "{}, symbol", "{}, icon")
EMOJI = ("{}", "{} emoji", "an emoji of {}", "a picture of {}", "a drawing of {}")  # which their captions have, too


@dataclass
class Task:
    """Pictures with captions, divided.

    Args:
        train, test: the pictures to train and to test on.
        classes: for the zero-shot classifier; test.labels are places among them, -1 for none.
        templates: of its prompts.
        unseen: the places of classes of which no picture is trained on.
        description: lines on what was found.
    """

    train: CaptionedPictures
    test: CaptionedPictures
    classes: tuple[str, ...]
    templates: tuple[str, ...]
    unseen: tuple[int, ...]
    description: str

    @property
    def fingerprint(self) -> str:
        """A digest of classes and captions."""
        return fingerprint(self.classes, *((part.texts, part.keywords, part.labels) for part in (self.train, self.test)))


def load(source: str, tested: int, *, languages: tuple[str, ...] = ("en",), keywords: bool = True, classes: int = 12,
         unseen: Sequence[str] = ()) -> Task:
    """Pictures with captions.

    Args:
        source: "digits" (scikit-learn's, in colours), "clipart", "emoji", a data set with labels that are put into words (see
            `methods.training.data_sets.data_set`), or a folder or zip with `captions.csv` (see `minigrad.data.captions`).
        tested: so many pictures are tested on, half of all at most.
        languages: of the names of emoji; keywords: their captions name their class, too.
        classes: the zero-shot classifier of a folder has so many, those with most pictures.
        unseen: classes of a data set, and of the digits ("red seven"), of which no picture is trained on.

    Raises:
        SystemExit: nothing usable is there; one line that says why.
    """
    try:
        if source == "digits":
            return _digits(tested, unseen)
        if source in ("clipart", "emoji") or (known := data_set(source)) is None:
            found = (data.load_clipart() if source == "clipart" else
                     _emoji(languages, keywords) if source == "emoji" else data.read_captions(source))
            if unseen:
                raise ValueError("classes without captions (--unseen) are chosen of data sets with labels and of digits alone")
            return _captioned(source, found, tested, classes)
        return _labelled(*known, tested, unseen)
    except (OSError, ImportError, ValueError) as error:
        raise SystemExit(f"--data {source}: {error}") from None


def _digits(tested, unseen):
    images, labels = data.load_digits()
    found = data.coloured_digits(images, labels)
    if not unseen:  # of each colour two digits, of each digit one or two colours
        unseen = [name for i, name in enumerate(found.classes) if (i % 10 + 3 * (i // 10)) % 5 == 0]
    hidden = _places(unseen, found.classes)
    train, test = found.divided(0)[0], np.random.default_rng(0).permutation(len(found))
    test = np.sort(test[:min(tested, len(found) // 2)])
    train = np.setdiff1d(train[~np.isin(found.labels[train], hidden)], test)
    shown = f"{len(images)} of scikit-learn's digits in {len(COLOURS)} colours"
    return _task(found, train, test, found.classes, DIGIT_TEMPLATES, hidden, shown)


def _emoji(languages, keywords):
    found = data.load_emoji(languages, keywords=keywords)
    return replace(found, texts=[tuple(template.replace("{}", name) for template in EMOJI for name in names)
                                 for names in found.texts])


def _labelled(x, y, test, test_y, name, names, tested, unseen):
    x, test = (unscaled(a[:, None] if a.ndim == 3 else a) for a in (x, test))
    words = [f"{'an' if c[0] in 'aeiou' else 'a'} {c}, {CIFAR_WORDS[c]}" if c in CIFAR_WORDS else c for c in names]
    kept = np.sort(np.random.default_rng(0).permutation(len(test))[:tested])
    hidden = _places(unseen, names)
    train = np.flatnonzero(~np.isin(y, hidden))
    found = data.captioned(x, y, words, DESCRIBING), data.captioned(test, test_y, words, DESCRIBING)
    both = replace(found[0].chosen(train), classes=names), replace(found[1].chosen(kept), classes=names)
    return _described(*both, tuple(words), DESCRIBING, hidden, f"{name}, labels in words")


def _captioned(source, found, tested, most):
    train, test = found.divided(tested)
    if not len(test) or not len(train):
        raise ValueError(f"{len(found)} pictures with captions are too few to train and to test on")
    counts = np.bincount(found.labels[found.labels >= 0], minlength=len(found.classes))
    largest = np.argsort(-counts, kind="stable")[:len(counts) if source == "emoji" else most]
    classes = tuple(found.classes[k] for k in sorted(largest)) if len(largest) > 1 else ()
    labels = selected(found.labels, found.classes, classes)[0]
    return _task(replace(found, labels=labels, classes=classes), train, test, classes, EMOJI if source == "emoji" else DRAWING,
                 (), source)


def _places(unseen, classes):
    if unknown := sorted(set(unseen) - set(classes)):
        raise ValueError(f"--unseen: there is no class {some(unknown)}; there are: {some(classes, 100)}")
    return tuple(classes.index(name) for name in unseen)


def _task(found, train, test, *rest):
    return _described(found.chosen(train), found.chosen(test), *rest)


def _described(train, test, classes, templates, unseen, shown):
    lines = f"{shown}: {len(train)} pictures with captions to train on, {len(test)} to test on"
    lines += f"; {len(classes)} classes: {some(classes)}" if classes else "; no classes are known, so none are asked for by name"
    if not classes and shown == "emoji":
        lines += " (they stand in Unicode's emoji-test.txt, which is looked for beside the pictures)"
    lines += f"\nwithout a picture to train on: {some((classes[k] for k in unseen), 20)}" if unseen else ""
    return Task(train, test, classes, templates, unseen, lines)


def arrays(pictures: CaptionedPictures, decode: Callable[[Any], np.ndarray]) -> tuple[np.ndarray, CaptionedPictures]:
    """The pictures as (N, C, size, size) bytes, and what is left without those that cannot be read.

    Args:
        decode: from one of the pictures, bytes (C, H, W) or Pillow's, to (C, size, size).
    """
    files = pictures.pictures if isinstance(pictures.pictures, np.ndarray) else Files(pictures.pictures)
    rows, kept = [], []
    for i in range(len(pictures)):
        try:
            rows.append(decode(files[i]))
            kept.append(i)
        except ValueError as error:
            pictures.skipped[pictures.names[i]] = str(error)
    return np.stack(rows) if rows else np.zeros((0, 3, 1, 1), np.uint8), pictures.chosen(kept)


def frozen_features(encoder: nn.Encoder, preprocessing: nn.Preprocessing,
                    pictures: CaptionedPictures) -> tuple[np.ndarray, CaptionedPictures]:
    """The features (N, width) of pictures, kept in the cache, and what is left without those that cannot be read."""
    if isinstance(pictures.pictures, np.ndarray):
        files, identity = pictures.pictures, pictures.pictures
    else:
        files, identity = Files(pictures.pictures), [zlib.crc32(read()) for read in pictures.pictures]
    weights, what = list(encoder.state_dict().values()), (type(encoder), encoder.arguments)
    key = fingerprint(weights, what, preprocessing, identity)[:32]
    rows = cached(f"features-{key}", lambda: encode(encoder, preprocessing, files).view(np.uint8),
                  (len(pictures), 4 * encoder.width)).view(np.float32)
    kept = np.flatnonzero(np.isfinite(rows).all(1))
    for i in np.setdiff1d(np.arange(len(rows)), kept):
        pictures.skipped[pictures.names[i]] = "it cannot be read"
    return rows[kept], pictures.chosen(kept)
