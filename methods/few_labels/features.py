"""Features of pictures by a frozen encoder, kept on disk by the pictures' content and read through a memory map.

The file is a row of records (key, features): the key is a digest of the picture file's bytes, and the features are NaN if these
are no readable picture. Records are only ever added, under a lock, so several runs may use the file at once, a kill at any
moment leaves whole records and at most a part of one, which is cut off by the next to add, and the same picture under any name
in any folder is never encoded twice.
"""
import contextlib
import hashlib
import pathlib
import shutil
import tempfile
import time

import numpy as np

from methods.training.loop import progress_bar
from minigrad.backend.files import cache_dir
from minigrad.data.folder import content_of

from .look import Folder
from .readers import Reader

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None

UNREAD, BROKEN = -1, -2
CHUNK = 64  # pictures in memory at a time


class Store:
    """The file of records of one encoder; a copy for this process alone if it cannot be written.

    Args:
        path: of the file.
        width: how many features there are.
    """

    def __init__(self, path: pathlib.Path, width: int):
        self.path, self.kind = path, np.dtype([("key", "V16"), ("x", "<f4", (width,))])
        self.rows: dict[bytes, int] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            open(path, "ab").close()
        except OSError as error:
            print(f"the features cannot be kept for the next run: {error}; set MINIGRAD_CACHE to a folder that can be written")
            self._own = tempfile.TemporaryDirectory()
            self.path = pathlib.Path(self._own.name, path.name)
            with contextlib.suppress(OSError):
                shutil.copyfile(path, self.path)
        self._scan()

    def _scan(self):
        """Takes note of the records that were added since the last time."""
        count = self.path.stat().st_size // self.kind.itemsize if self.path.exists() else 0
        self.records = np.memmap(self.path, self.kind, "r", shape=(count,)) if count else np.zeros(0, self.kind)
        for i in range(len(self.rows), count):
            self.rows.setdefault(self.records["key"][i].tobytes(), i)

    def add(self, keys: list[bytes], x: np.ndarray) -> None:
        """Adds records of new keys, each once, with features (N, width). OSError: they cannot be written."""
        try:
            with open(self.path, "ab") as file, _locked(file):
                self._scan()
                new = {key: i for i, key in enumerate(keys) if key not in self.rows}
                records = np.zeros(len(new), self.kind)
                for j, (key, i) in enumerate(new.items()):
                    records[j] = np.void(key), x[i]
                file.truncate(len(self.records) * self.kind.itemsize)
                file.write(records.tobytes())
        except OSError as error:
            advice = f"{error.strerror}; set MINIGRAD_CACHE to a folder that has room for them"
            raise OSError(error.errno, advice, str(self.path)) from None
        self._scan()


@contextlib.contextmanager
def _locked(file):
    if fcntl:
        fcntl.flock(file, fcntl.LOCK_EX)
    yield


class Features:
    """The features of a folder's pictures, as far as they were read.

    Attributes:
        rows: (N,) where in the store the features of each picture are; UNREAD or BROKEN.
        keys: the digest of each picture that was read.
        rate: pictures that were encoded in a second, in the last call of `read` that encoded some.
    """

    def __init__(self, folder: Folder, reader: Reader):
        self.folder, self.reader = folder, reader
        self.store = Store(cache_dir() / f"features-by-content-{reader.key}.bin", reader.width)
        self.rows = np.full(len(folder.files), UNREAD, np.int64)
        self.keys: dict[int, bytes] = {}
        self.rate = 0.0

    def read(self, which: np.ndarray, seconds: float = np.inf) -> None:
        """Reads the pictures at these places, in this order, for about so many seconds; those that were read are skipped.

        The folder's `unusable` names the broken ones.
        """
        end, which = time.monotonic() + seconds, which[self.rows[which] == UNREAD]
        if not len(which):
            return
        with progress_bar(len(which)) as bar:
            for start in range(0, len(which), CHUNK):
                if time.monotonic() > end:
                    break
                self._chunk(which[start:start + CHUNK])
                bar.update(min(CHUNK, len(which) - start))

    def _chunk(self, which):
        contents, broken = {}, {}
        for i in which:
            try:
                contents[i] = content_of(self.folder.readers[i])
            except ValueError as error:
                broken[i] = str(error)
        keys = {i: hashlib.blake2b(content, digest_size=16).digest() for i, content in contents.items()}
        new = list({key: i for i, key in keys.items() if key not in self.store.rows}.values())
        if new:
            began = time.monotonic()
            x = self.reader.encode([contents[i] for i in new])
            self.rate = len(new) / max(time.monotonic() - began, 1e-3)
            self.store.add([keys[i] for i in new], x)
        for i, key in keys.items():
            row = self.store.rows[key]
            self.rows[i], self.keys[i] = row, key
            if not np.isfinite(self.store.records["x"][row, 0]):
                broken[i] = self.reader.reason(contents[i]) or "the encoder makes something infinite of it"
        for i, reason in broken.items():
            self.rows[i] = BROKEN
            self.folder.without([i], [reason])

    def x(self, which: np.ndarray) -> np.ndarray:
        """(len(which), width) float32 of pictures that were read."""
        return np.asarray(self.store.records["x"][self.rows[which]])

    def known(self, which: np.ndarray) -> np.ndarray:
        """Those of the places whose features are known."""
        return which[self.rows[which] >= 0]
