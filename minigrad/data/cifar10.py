"""CIFAR-10 (Krizhevsky 2009): 50,000 images to train on and 10,000 to test on, 32 x 32 in colour, ten classes."""
import os
import tarfile

import numpy as np

from ..ops.geometry import one_of
from .files import GIB, cached, check_labels, data_dir, find, open_zip
from .folder import read_picture

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FILES = ("cifar10-train.zip", "cifar-10-binary.tar.gz")  # one of them tells that a folder holds CIFAR-10
_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"


def load_cifar10(split: str = "train", data: str | os.PathLike | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 3, 32, 32) uint8 and labels (N,) uint8 of "train" or "test".

    Read from `cifar10-train.zip` and `cifar10-test.zip`, zips of `SPLIT/CLASS/*.jpg` or `.png`, where the folder `data` (or
    its `cifar10/`) has them; else from the publisher's binary version, `cifar-10-binary.tar.gz`, which is fetched if need be.

    Raises:
        FileNotFoundError: none of these is there; ValueError: a file is damaged.
    """
    one_of("cifar10", "split", split, ("train", "test"))
    for folder in (data_dir(data), data_dir(data) / "cifar10"):
        path = folder / f"cifar10-{split}.zip"
        if path.is_file():
            facts = path.stat()
            packed = cached(f"cifar10-{split}-{facts.st_size}-{facts.st_mtime_ns}", lambda: _from_zip(path, split), (-1, 3073))
            return _images_and_labels(packed, path)
    name = "cifar-10-binary.tar.gz"
    path = find([name, f"cifar10/{name}"], _URL, _MD5, data)
    return _images_and_labels(_from_tar(path, split), path)


def _images_and_labels(packed, path):
    check_labels(packed[:, 0], len(NAMES), path)
    return packed[:, 1:].reshape(-1, 3, 32, 32), packed[:, 0]


def _from_zip(path, split):
    """(N, 3073) bytes: the label, then the pixels, as in the publisher's binary files."""
    rows = []
    try:
        with open_zip(path) as archive:
            for name in sorted(archive.namelist()):
                parts = name.split("/")
                if len(parts) == 3 and parts[0] == split and parts[1] in NAMES and parts[2]:
                    image = read_picture(archive.read(name))
                    if image.shape != (3, 32, 32):
                        raise ValueError(f"{name} is {image.shape[2]} x {image.shape[1]} pixels, not 32 x 32")
                    rows.append(np.append(np.uint8(NAMES.index(parts[1])), image))
        return np.stack(rows)
    except Exception as error:  # a damaged archive raises errors of many kinds
        raise ValueError(f"{path} is damaged or holds no images {split}/CLASS/NAME of CIFAR-10: {error}") from None


def _from_tar(path, split):
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] if split == "train" else ["test_batch.bin"]
    try:
        with tarfile.open(path) as archive:  # members are read, nothing is unpacked
            members = [archive.getmember(f"cifar-10-batches-bin/{n}") for n in names]
            if sum(member.size for member in members) > GIB:
                raise ValueError("it unpacks to more than 1 GiB")
            parts = [np.frombuffer(archive.extractfile(member).read(), np.uint8) for member in members]
        return np.concatenate(parts).reshape(-1, 3073)
    except Exception as error:  # a damaged archive raises errors of many kinds
        raise ValueError(f"{path} is damaged: {error}; delete it and fetch it again") from None
