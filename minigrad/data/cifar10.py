"""CIFAR-10 (Krizhevsky 2009): 50,000 images to train on and 10,000 to test on, 32 x 32 in colour, ten classes."""
import io
import os
import tarfile
import zipfile

import numpy as np

from .files import cached, data_dir, find

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
    if split not in ("train", "test"):
        raise ValueError(f"cifar10: split must be 'train' or 'test', not {split!r}")
    for folder in (data_dir(data), data_dir(data) / "cifar10"):
        path = folder / f"cifar10-{split}.zip"
        if path.is_file():
            facts = path.stat()
            packed = cached(f"cifar10-{split}-{facts.st_size}-{facts.st_mtime_ns}", lambda: _from_zip(path, split))
            return packed[:, 1:].reshape(-1, 3, 32, 32), packed[:, 0]
    name = "cifar-10-binary.tar.gz"
    packed = _from_tar(find([name, f"cifar10/{name}"], _URL, _MD5, data), split)
    return packed[:, 1:].reshape(-1, 3, 32, 32), packed[:, 0]


def _from_zip(path, split):
    """(N, 3073) bytes: the label, then the pixels, as in the publisher's binary files."""
    from PIL import Image
    rows = []
    try:
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                parts = name.split("/")
                if len(parts) == 3 and parts[0] == split and parts[1] in NAMES and parts[2]:
                    image = np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB"))
                    rows.append(np.append(np.uint8(NAMES.index(parts[1])), image.transpose(2, 0, 1)))
        return np.stack(rows)
    except (zipfile.BadZipFile, OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path} is damaged or holds no images {split}/CLASS/NAME of CIFAR-10: {error}") from None


def _from_tar(path, split):
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] if split == "train" else ["test_batch.bin"]
    try:
        with tarfile.open(path) as archive:  # members are read, nothing is unpacked
            parts = [np.frombuffer(archive.extractfile(f"cifar-10-batches-bin/{n}").read(), np.uint8) for n in names]
        return np.concatenate(parts).reshape(-1, 3073)
    except (tarfile.TarError, EOFError, OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}; delete it and fetch it again") from None
