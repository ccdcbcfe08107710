"""Labelled and unlabelled images to learn from: where they come from, and which of them are labelled."""
import pathlib
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field

import numpy as np

from minigrad import data
from minigrad.data.folder import Layout, counted, printable, some

from .data_sets import data_set
from .pictures import Preprocessing

UNLABELLED = "unlabelled"
LABELS = 50  # in all, if nothing is said


@dataclass
class Images:
    """Labelled and unlabelled images to train on and images to test on.

    Args:
        x, unlabelled, test: (N, C, H, W) each, float32 in [0, 1] or bytes; the labelled ones are among the unlabelled, too.
        y, test_y: labels of x and test, (N,) int64: places among `names`, which are those of the classes.
        description: what there is, in plain words.
        preprocessing: makes such images of pictures.
        unlabelled_files, test_files: the names of the last of the unlabelled and of the test images, if they are files.
        labels: how many `load` was asked for, or what it chose; 0 for all.
        hidden_y: the classes of the unlabelled images, to measure by, not to train on: -1 of those that are labelled, too, or
            have no class. Empty: nothing is known.
    """

    x: np.ndarray
    y: np.ndarray
    unlabelled: np.ndarray
    test: np.ndarray
    test_y: np.ndarray
    description: str
    names: tuple[str, ...]
    preprocessing: Preprocessing
    unlabelled_files: list[str] = field(default_factory=list)
    test_files: list[str] = field(default_factory=list)
    labels: int = 0
    hidden_y: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.names)

    @property
    def prior(self) -> np.ndarray:
        """The share of each class among the labels, (classes,)."""
        return np.bincount(self.y, minlength=self.classes) / len(self.y)


def load(source: str, labels: int, seed: int) -> Images:
    """`Images` with so many labels in all, as many of each class, drawn with the seed; test images are always the same ones.

    Args:
        source: a data set (see `data_sets.data_set`), or an image folder of your own.
        labels: the total over all classes; 0 for all labels of an image folder; -1 for `LABELS`, and of a folder that has not so
            many of each class for all.

    Raises:
        SystemExit: it says what is wrong with the source or the number of labels.
    """
    try:
        known = data_set(source)
        return own_images(source, labels, seed) if known is None else _given(*known, labels, seed)
    except (OSError, ImportError, ValueError) as error:
        raise SystemExit(f"--data {source}{f' --labels {labels}' if labels >= 0 else ''}: {error}") from None


def or_default(labels: int, default: int, sizes: np.ndarray) -> tuple[int, str]:
    """How many labels to use, 0 for all; and of a default that classes of these sizes have not, a word on that.

    Args:
        labels: what was asked for; -1 for the default, and for all where a class has too few for that.
    """
    if labels >= 0:
        return labels, ""
    if len(sizes) <= default and min(sizes) >= -(-default // len(sizes)):
        return default, ""
    return 0, f", as there are not {default} with as many of each class"


def _given(x, y, test, test_y, name, names, labels, seed):
    """`Images` of a known data set, see `data_set`."""
    x, test = (a[:, None] if a.ndim == 3 else a for a in (x, test))
    y, test_y = y.astype(np.int64), test_y.astype(np.int64)
    labels, _ = or_default(labels, LABELS, np.bincount(y, minlength=len(names)))
    if labels < 1:
        raise ValueError(f"of {name} the number of labels must be given, 1 to {len(x)}")
    chosen = _choose(y, labels, seed, names)
    description = f"{name}: {_total(labels, len(names))}, {len(x)} images to train on, {len(test)} to test on"
    preprocessing = Preprocessing(x.shape[-1], x.shape[1], "dark" if x.shape[1] == 1 else "any")
    return Images(x[chosen], y[chosen], x, test, test_y, description, names, preprocessing, labels=labels,
                  hidden_y=_hidden(y, chosen))


def own_images(path: str, labels: int, seed: int) -> Images:
    """As `load`, from an image folder or a zip of one, scaled to 32 x 32; grey ones keep one channel.

    Labelled images lie in a folder for each class, all in `train/` and `test/`, or at the top, and then a fifth of each
    class is held out to test on. What lies in `unlabelled/` has no label. All training images serve without label too.
    What else may be in a folder: see `minigrad.data.folder`.

    Raises:
        FileNotFoundError, ValueError: as of `read_image_folder` and `divide`, or there are not so many labels of each class.
    """
    found = data.read_image_folder(path, 32)
    images, layout = found.images.astype(np.float32) / 255, found.layout
    if (images == images[:, :1]).all():
        images = images[:, :1]
    names, parts = divide(layout, lambda name: images[found.indices([name])].tobytes(), layout.unlabelled)
    (at, y), (held, test_y) = (_joined([found.indices(members) for members in part]) for part in zip(*parts))
    chosen = np.arange(len(y))
    labels, why = or_default(labels, LABELS, np.bincount(y))
    if labels:
        held_out = "" if layout.test else "; a fifth of each class is held out to test on"
        chosen = _choose(y, labels, seed, names, held_out, "; --labels 0 uses all that there are")
    without = np.concatenate([images[at], images[found.indices(layout.unlabelled)]])
    total = _total(labels, len(names)) if labels else f"all {len(chosen)} labels{why}"
    description = (f"{path}: {total}, {len(without)} images to train on, {len(held)} to test on\n"
                   f"{found.description()}")
    paths = {name: printable((pathlib.Path(path) / name).as_posix()) for name in found.names}
    return Images(images[at[chosen]], y[chosen], without, images[held], test_y, description, tuple(names),
                  Preprocessing(32, images.shape[1]), [paths[n] for n in layout.unlabelled],
                  [paths[found.names[i]] for i in held], labels, _hidden(y, chosen, len(layout.unlabelled)))


def _hidden(y, chosen, more=0):
    """The classes but for -1 of those that are chosen, and of so many more images behind them."""
    hidden = np.append(y, np.full(more, -1))
    hidden[chosen] = -1
    return hidden


def _joined(members):
    """Places of the pictures of each class, one class after another, and the numbers of their classes."""
    return np.concatenate(members), np.repeat(np.arange(len(members)), list(map(len, members)))


def divide(layout: Layout, content: Callable[[str], Hashable],
           others: Iterable[str] = ()) -> tuple[list[str], list[tuple[list[str], list[str]]]]:
    """The classes of an image folder, and of each the pictures to train and to test on.

    Without pictures to test on a fifth of each class, drawn at random but always the same, is held out. Copies of pictures to
    test on, in any class, are not trained on: they would be known by heart; the layout's notes name them, and its `unlabelled`
    are left without them.

    Args:
        content: of a picture's name what copies have in common.
        others: pictures without a class that are learned from, too.

    Raises:
        ValueError: the classes to train and to test on differ, there are fewer than two, or one has too few pictures.
    """
    names = list(layout.train)
    if layout.test:
        if set(layout.train) != set(layout.test):
            alone = [f"{c} in {part} alone" for part, here, other in (("train", layout.train, layout.test),
                                                                      ("test", layout.test, layout.train))
                     for c in here if c not in other]
            raise ValueError(f"the classes to train on and to test on differ: {some(alone)}")
        pools = [(layout.train[c], layout.test[c]) for c in names]
    else:
        rng, pools = np.random.default_rng(0), []
        for c in names:
            members = [layout.train[c][i] for i in rng.permutation(len(layout.train[c]))]
            held = max(1, len(members) // 5)
            pools.append((members[:-held], members[-held:]))
    tested = {content(name) for _, held in pools for name in held}
    if copies := {name: None for part in (*(part for part, _ in pools), others) for name in part if content(name) in tested}:
        pools = [([name for name in part if name not in copies], held) for part, held in pools]
        layout.unlabelled = [name for name in layout.unlabelled if name not in copies]
        layout.notes.append(f"not used: {counted(len(copies), 'copy', 'copies')} of pictures to test on ({some(copies)})")
    few = [name for name, pool in zip(names, pools) if not all(map(len, pool))]
    if len(names) < 2 or few:
        raise ValueError(f"two classes or more are needed, each with two images or more; found {some(names) or 'none'}"
                         f"{', with one image: ' + some(few) if few else ''}. Put each class's images into a folder of its "
                         f"own, and those without a label into {UNLABELLED}/")
    return names, pools


def _choose(y, labels, seed, names, held="", advice=""):
    """`balanced_subset` whose errors name the classes."""
    sizes = np.bincount(y, minlength=len(names))
    if labels < len(names):
        raise ValueError(f"{_total(labels, len(names))}: each class needs at least one, {len(names)} or more in all"
                         f"{advice}")
    try:
        return data.balanced_subset(y, labels, seed)
    except ValueError:
        few = [f"{name} has {size}" for name, size in zip(names, sizes) if size < -(-labels // len(names))]
        raise ValueError(f"{_total(labels, len(names))}, and to train on {some(few)}{held}; at most {sizes.min() * len(names)} "
                         f"labels can be the same number a class{advice}") from None


def _total(labels, classes):
    """The number of labels in all and per class."""
    each, more = divmod(labels, classes)
    return f"{labels} labels in all ({f'{each} or {each + 1}' if more else each} per class)"
