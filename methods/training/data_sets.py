"""Data sets of images by their names; images as bytes and as numbers from 0 to 1; some of the classes."""
import pathlib
from collections.abc import Sequence

import numpy as np

from minigrad import data
from minigrad.data import cifar10
from minigrad.data.folder import some

MNIST_TEST = "t10k-images-idx3-ubyte.gz"
DataSet = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, str, tuple[str, ...]]


def data_set(source: str) -> DataSet | None:
    """Images and labels to train on, images and labels to test on, a name, and the classes' names; None: no known data set.

    Args:
        source: "digits" (scikit-learn's), or "mnist" (also "download"), "fashion" or "cifar10", which are looked for where
            MINIGRAD_DATA says, else fetched; or a folder that holds the files of one of these three.

    Raises:
        as the loaders in `minigrad.data`.
    """
    numbers = tuple(map(str, range(10)))
    if source == "digits":
        return *_divided(*data.load_digits(), 497), "scikit-learn's digits", numbers
    path = pathlib.Path(source)
    if path.name == "fashion-mnist" and (path / MNIST_TEST).is_file():
        return _fashion(path.parent)
    if source == "fashion" or _holds(source, f"fashion-mnist/{MNIST_TEST}") and not _holds(source, MNIST_TEST):
        return _fashion(None if source == "fashion" else source)
    if source in ("mnist", "download") or _holds(source, MNIST_TEST):
        return *_mnist(source if _holds(source, MNIST_TEST) else None), numbers
    if source == "cifar10" or any(_holds(source, name) for name in data.CIFAR10_FILES):
        folder = None if source == "cifar10" else source
        return *data.load_cifar10("train", folder), *data.load_cifar10("test", folder), "CIFAR-10", cifar10.NAMES
    return None


def _holds(source, name):
    """Whether a file lies in a folder, or in that of a data set in it."""
    return any((pathlib.Path(source) / folder / name).is_file() for folder in ("", "mnist", "cifar10"))


def _fashion(folder):
    sets = data.load_fashion_mnist("train", folder), data.load_fashion_mnist("test", folder)
    return *sets[0], *sets[1], "Fashion-MNIST", data.FASHION_NAMES


def _mnist(folder):
    where = data.data_dir(folder)
    if _holds(where, MNIST_TEST) and not _holds(where, "train-images-idx3-ubyte.gz"):
        return *_divided(*data.load_mnist("test", folder), 2000), "MNIST's test file, divided"
    return *data.load_mnist("train", folder), *data.load_mnist("test", folder), "MNIST"


def _divided(x, y, test):
    """The first part of the images to train on, `test` ones to test on: at random, but always the same."""
    order = np.random.default_rng(0).permutation(len(x))
    train, held = order[:-test], order[-test:]
    return x[train], y[train], x[held], y[held]


def scaled(images: np.ndarray) -> np.ndarray:
    """Bytes as float32 in [0, 1]; float32 as it is."""
    return images / np.float32(255) if images.dtype == np.uint8 else images


def unscaled(images: np.ndarray) -> np.ndarray:
    """Floats from 0 to 1 as bytes, the inverse of `scaled`; bytes as they are."""
    return images if images.dtype == np.uint8 else np.rint(255 * images).astype(np.uint8)


def selected(labels: np.ndarray, names: Sequence[str], classes: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels of some classes alone: their places among `classes`, -1 for all others; and the classes, each once.

    Args:
        labels: places among `names`, -1 for none.

    Raises:
        ValueError: there is no such class.
    """
    classes = tuple(dict.fromkeys(classes))
    if unknown := sorted(set(classes) - set(names)):
        raise ValueError(f"there is no class {some(unknown)}; there are: {', '.join(names)}")
    number = np.full(len(names) + 1, -1)  # the last for -1
    number[[names.index(name) for name in classes]] = np.arange(len(classes))
    return number[labels], classes
