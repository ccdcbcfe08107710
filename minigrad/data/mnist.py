"""MNIST's files: idx, gzipped or not."""
import gzip
import os
import struct
import zlib

import numpy as np

from .files import find

_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_FILES = {"train": (("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
                    ("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432")),
          "test": (("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
                   ("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"))}


def read_idx(path: str | os.PathLike) -> np.ndarray:
    """The uint8 array of an idx file. ValueError if it is damaged or of another kind."""
    try:
        with open(path, "rb") as file:
            content = file.read()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        zero, kind, ndim = struct.unpack_from(">HBB", content)
        shape = struct.unpack_from(f">{ndim}I", content, 4)
        if zero or kind != 8 or len(content) != 4 + 4 * ndim + int(np.prod(shape)):
            raise ValueError("wrong magic number or length")
    except (EOFError, zlib.error, gzip.BadGzipFile, struct.error, ValueError) as error:
        raise ValueError(f"{path} is damaged or no idx file of bytes ({error}); delete it and fetch it again") from None
    return np.frombuffer(content, np.uint8, offset=4 + 4 * ndim).reshape(shape)


def load_mnist(split: str = "train", data: str | os.PathLike | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 28, 28) uint8 and labels (N,) uint8 of "train" (60,000) or "test" (10,000).

    Args:
        split: "train" or "test".
        data: the folder that holds the publisher's files, or has them in its `mnist/`, see `data_dir`; else they are fetched.

    Raises:
        ValueError: no such split, or a file is damaged; FileNotFoundError: it can be neither found nor fetched.
    """
    if split not in _FILES:
        raise ValueError(f"mnist: split must be 'train' or 'test', not {split!r}")
    return tuple(read_idx(find([name, f"mnist/{name}"], _URL + name, md5, data)) for name, md5 in _FILES[split])
