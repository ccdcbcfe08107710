"""MNIST, and Fashion-MNIST in the same form: files of idx, gzipped or not."""
import gzip
import io
import math
import os
import struct
import zlib

import numpy as np

from ..ops.geometry import one_of
from .files import GIB, check_labels, find

_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_FILES = {"train": (("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
                    ("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432")),
          "test": (("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
                   ("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"))}

FASHION_NAMES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
_FASHION_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_FASHION_MD5 = {"train": ("8d4fb7e6c68d591d4c3dfef9ec88bf0d", "25c81989df183df01b3e8a0aad5dffbe"),
                "test": ("bef4ecab320f06d8554ea6380940ec79", "bb300cfdad3c16e7a12a480ee83cd310")}


def read_idx(path: str | os.PathLike) -> np.ndarray:
    """The uint8 array of an idx file, of at most 1 GiB. ValueError if it is damaged, larger or of another kind."""
    try:
        with open(path, "rb") as file:
            content = file.read(GIB)
        stream = gzip.GzipFile(fileobj=io.BytesIO(content)) if content[:2] == b"\x1f\x8b" else io.BytesIO(content)
        zero, kind, ndim = struct.unpack(">HBB", stream.read(4))
        shape = struct.unpack(f">{ndim}I", stream.read(4 * ndim))
        size = math.prod(shape)
        if zero or kind != 8 or size > GIB or len(pixels := stream.read(size + 1)) != size:
            raise ValueError("wrong magic number or length")
    except (EOFError, zlib.error, gzip.BadGzipFile, struct.error, ValueError) as error:
        raise ValueError(f"{path} is damaged or no idx file of bytes ({error}); delete it and fetch it again") from None
    return np.frombuffer(pixels, np.uint8).reshape(shape)


def load_mnist(split: str = "train", data: str | os.PathLike | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 28, 28) uint8 and labels (N,) uint8 of "train" (60,000) or "test" (10,000).

    Args:
        split: "train" or "test".
        data: the folder that holds the publisher's files, or has them in its `mnist/`, see `data_dir`; else they are fetched.

    Raises:
        ValueError: no such split, a file is damaged, or images and labels do not match; FileNotFoundError: it can be neither
            found nor fetched.
    """
    one_of("mnist", "split", split, tuple(_FILES))
    return _images_and_labels([find([name, f"mnist/{name}"], _URL + name, md5, data) for name, md5 in _FILES[split]])


def load_fashion_mnist(split: str = "train", data: str | os.PathLike | None = None) -> tuple[np.ndarray, np.ndarray]:
    """As `load_mnist`, of ten kinds of clothing (Xiao et al. 2017, arXiv:1708.07747), `FASHION_NAMES`.

    Args:
        data: the folder that has the publisher's files in its `fashion-mnist/`, see `data_dir`; else they are fetched.
    """
    one_of("fashion_mnist", "split", split, tuple(_FASHION_MD5))
    return _images_and_labels([
        find([f"fashion-mnist-{name}", f"fashion-mnist/{name}"], _FASHION_URL + name, md5, data)
        for (name, _), md5 in zip(_FILES[split], _FASHION_MD5[split])])


def _images_and_labels(paths):
    images, labels = map(read_idx, paths)
    if images.ndim != 3 or images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
        raise ValueError(f"{paths[0]} and {paths[1]} hold arrays of {images.shape} and {labels.shape}; wanted are (N, 28, 28) "
                         "and (N,)")
    check_labels(labels, 10, paths[1])
    return images, labels
