"""Labelled and unlabelled images to learn from: where they come from, and which of them are labelled."""
import pathlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from minigrad import data
from minigrad.data import cifar10

from .pictures import Preprocessing, picture_files

UNLABELLED = "unlabelled"


@dataclass
class Images:
    """Labelled and unlabelled images to train on and images to test on: (N, C, H, W), float32 in [0, 1] or bytes."""

    x: np.ndarray
    y: np.ndarray
    unlabelled: np.ndarray
    test: np.ndarray
    test_y: np.ndarray
    description: str
    names: tuple[str, ...]  # of the classes
    preprocessing: Preprocessing  # that makes such images of pictures
    source: str = ""  # the image folder, or zip of one, if it is one

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.names)

    @property
    def prior(self) -> np.ndarray:
        """The share of each class among the labels, (classes,)."""
        return np.bincount(self.y, minlength=self.classes) / len(self.y)

    def unlabelled_pictures(self) -> dict[str, Callable[[], bytes]]:
        """The pictures in `unlabelled/` of an image folder (see `picture_files`)."""
        prefix = f"{pathlib.Path(self.source).as_posix()}/{UNLABELLED}/"
        files = picture_files(self.source) if self.source else {}
        return {name: read for name, read in files.items() if name.startswith(prefix)}


def scaled(images: np.ndarray) -> np.ndarray:
    """Bytes as float32 in [0, 1]; float32 as it is."""
    return images / np.float32(255) if images.dtype == np.uint8 else images


def load(source: str, labels: int, seed: int) -> Images:
    """`Images` with so many labels, as many of each class, drawn with the seed; test images are always the same ones.

    Args:
        source: "digits" (scikit-learn's), "mnist", "cifar10", a folder with MNIST's or CIFAR-10's files, or an image folder
            of your own. "mnist" (or "download") and "cifar10" are looked for where MINIGRAD_DATA says, else fetched.
        labels: 0 for all labels of an image folder.

    Raises:
        SystemExit: it says what is wrong with the source or the number of labels.
    """
    try:
        if source == "digits":
            return _divided(*data.load_digits(), 497, "scikit-learn's digits", labels, seed)
        if source in ("mnist", "download") or _holds(source, "t10k-images-idx3-ubyte.gz"):
            return _mnist(source if _holds(source, "t10k-images-idx3-ubyte.gz") else None, labels, seed)
        if source == "cifar10" or any(_holds(source, name) for name in data.CIFAR10_FILES):
            return _cifar10(None if source == "cifar10" else source, labels, seed)
        return own_images(source, labels, seed)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f"--data {source} --labels {labels}: {error}") from None


def _holds(source, name):
    return any((pathlib.Path(source) / folder / name).is_file() for folder in ("", "mnist", "cifar10"))


def _mnist(folder, labels, seed):
    where = data.data_dir(folder)
    if _holds(where, "t10k-images-idx3-ubyte.gz") and not _holds(where, "train-images-idx3-ubyte.gz"):
        return _divided(*data.load_mnist("test", folder), 2000, "MNIST's test file, divided", labels, seed)
    return _given(*data.load_mnist("train", folder), *data.load_mnist("test", folder), "MNIST", labels, seed)


def _cifar10(folder, labels, seed):
    sets = data.load_cifar10("train", folder), data.load_cifar10("test", folder)
    return _given(*sets[0], *sets[1], "CIFAR-10", labels, seed)


def _divided(x, y, test, name, labels, seed):
    """The first part of the images to train on, `test` ones to test on: at random, but always the same."""
    order = np.random.default_rng(0).permutation(len(x))
    train, held = order[:-test], order[-test:]
    return _given(x[train], y[train], x[held], y[held], name, labels, seed)


def _given(x, y, test, test_y, name, labels, seed):
    x, test = (a[:, None] if a.ndim == 3 else a for a in (x, test))
    y, test_y = y.astype(np.int64), test_y.astype(np.int64)
    if labels < 1:
        raise ValueError(f"of {name} the number of labels must be given, 1 to {len(x)}")
    chosen = data.balanced_subset(y, labels, seed)
    names = cifar10.NAMES if name == "CIFAR-10" else tuple(str(c) for c in range(int(max(y.max(), test_y.max())) + 1))
    description = f"{name}: {labels} labels, {len(x)} images to train on, {len(test)} to test on"
    preprocessing = Preprocessing(x.shape[-1], x.shape[1], "dark" if x.shape[1] == 1 else "any")
    return Images(x[chosen], y[chosen], x, test, test_y, description, names, preprocessing)


def own_images(path: str, labels: int, seed: int) -> Images:
    """As `load`, from an image folder or a zip of one, scaled to 32 x 32; grey ones keep one channel.

    Labelled images lie in a folder for each class, all in `train/` and `test/`, or at the top, and then a fifth of each
    class is held out to test on. What lies in `unlabelled/` has no label. All training images serve without label too.
    """
    images, kind, folders = data.load_image_folder(path, size=32)
    if (images == images[:, :1]).all():
        images = images[:, :1]
    top = [name.split("/")[0] for name in folders]
    free = np.isin(kind, [k for k, t in enumerate(top) if t == UNLABELLED])
    if "train" in top or "test" in top:
        train, test = ({name.partition("/")[2]: k for k, name in enumerate(folders) if name.startswith(part + "/")}
                       for part in ("train", "test"))
        if set(train) != set(test):
            raise ValueError(f"the classes in train/ and test/ differ: {sorted(train)} and {sorted(test)}")
        names = sorted(train)
        pools = [(np.flatnonzero(kind == train[c]), np.flatnonzero(kind == test[c])) for c in names]
    else:
        rng = np.random.default_rng(0)
        names = [name for k, name in enumerate(folders) if top[k] != UNLABELLED]
        pools = []
        for c in names:
            members = rng.permutation(np.flatnonzero(kind == folders.index(c)))
            pools.append(np.split(members, [len(members) - max(1, len(members) // 5)]))
    if len(names) < 2 or any(not len(part) for pool in pools for part in pool):
        raise ValueError(f"two classes or more are needed, each with two images or more; found {names}. Put each class's "
                         f"images into a folder of its own, and those without a label into {UNLABELLED}/")
    (at, y), (held, test_y) = ((np.concatenate([pool[i] for pool in pools]),
                                np.repeat(np.arange(len(names)), [len(pool[i]) for pool in pools])) for i in (0, 1))
    chosen = data.balanced_subset(y, labels, seed) if labels else np.arange(len(y))
    without = np.concatenate([images[at], images[free]])
    description = f"{path}: {len(chosen)} labels, {len(without)} images to train on, {len(held)} to test on"
    return Images(images[at[chosen]], y[chosen], without, images[held], test_y, description, tuple(names),
                  Preprocessing(32, images.shape[1]), str(path))
