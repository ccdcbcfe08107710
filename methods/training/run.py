"""A run folder: config.json, metrics.jsonl, checkpoint.safetensors and figures."""
import contextlib
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from minigrad.backend.files import write_whole
from minigrad.data.folder import RUN, hidden, picture_endings

from . import checkpoint
from .settings import RunError, changed, record

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None


def marked(path: str | os.PathLike) -> pathlib.Path:
    """The folder, made if it is not there, with the mark by which loaders of data pass over it."""
    path = pathlib.Path(path)
    path.mkdir(parents=True, exist_ok=True)
    (path / RUN).touch()
    return path


def read_object(path: pathlib.Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        RunError: there is none in it.
    """
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, OSError, RecursionError) as error:
        raise RunError(f"{path} is damaged ({one_line(error)}); delete it, or choose another --out") from None
    if not isinstance(value, dict):
        raise RunError(f"{path} is damaged (no JSON object); delete it, or choose another --out")
    return value


def one_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return " ".join(str(error.args[0] if isinstance(error, KeyError) and error.args else error).split()) or type(error).__name__


class RunFolder:
    """The folder of one run. Nothing is written before training starts.

    Args:
        out: the folder.
        config: the run's dataclass.
        resume: go on with the run that is there.

    Raises:
        FileExistsError: the folder holds another run and `resume` is false, or data, or is a file; RunError: its configuration
            differs or is damaged.
    """

    def __init__(self, out: str | os.PathLike, config: Any, resume: bool):
        self.path, self.resume, self.config = pathlib.Path(out), resume, config
        self.checkpoint, self.metrics = self.path / "checkpoint.safetensors", self.path / "metrics.jsonl"
        self.settings = self.path / "config.json"
        self._check()

    def _check(self):
        for path in (self.path, *self.path.parents):
            if os.path.lexists(path) and not path.is_dir():
                raise FileExistsError(f"{path} is a file, no folder; choose another --out")
        done = self.settings.exists() and (self.path / "confusion.csv").exists()  # by what has no steps, and so no checkpoint
        if not (self.checkpoint.exists() or done):
            if not ((self.path / RUN).exists() or self.settings.exists()) and (
                    found := _data_in(self.path, getattr(self.config, "data", ""))):
                raise FileExistsError(f"{self.path} holds data ({found}), and the folder of a run is passed over where data are "
                                      "looked for; choose another --out")
            return
        if not self.resume:
            raise FileExistsError(f"{self.path} holds a run; continue it with --resume, or choose another --out")
        if self.settings.exists():
            old, new = read_object(self.settings), record(self.config)
            if differing := [*(k for k, v in old.items() if k not in new and v is not None), *changed(old, self.config, new)]:
                raise RunError(f"the run in {self.path} was made with other settings: {', '.join(differing)}; choose another "
                               "--out")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Inside, the folder is this process's; the lock of a process that ended, however it did, counts no more.

        The folder is made if it is not there, and marked as none of data.

        Raises:
            RunError: another run writes into the folder.
        """
        marked(self.path)
        if fcntl is None:
            yield
            return
        path = self.path / "lock"
        while True:
            file = open(path, "a+")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.seek(0)
                owner = file.read().strip()
                file.close()
                raise RunError(f"another run writes into {self.path}{f' (process {owner})' if owner else ''}; "
                               "wait for it, or choose another --out") from None
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                break
            file.close()  # the owner removed it in between
        try:
            file.truncate(0)
            print(os.getpid(), file=file, flush=True)
            yield
        finally:
            path.unlink(missing_ok=True)
            file.close()

    def start(self, parts: dict[str, Any], data: str | None = None) -> int:
        """Writes the configuration, and on resuming puts back the last checkpoint and forgets what was logged after it.

        Args:
            data: the fingerprint of the data (`checkpoint.fingerprint`).

        Returns:
            the number of steps that are done.

        Raises:
            FileExistsError, RunError: as when the folder was opened; RunError also if the checkpoint is damaged, another
                method's or of other data.
        """
        self._check()
        done = 0
        if self.resume and self.checkpoint.exists():
            try:
                done = checkpoint.restore(self.checkpoint, parts, data)
            except checkpoint.OtherData:
                raise RunError(f"the run in {self.path} was made with other data than --data now leads to; give that again, or "
                               "choose another --out") from None
            except Exception as error:  # whatever a damaged file may lead to
                raise RunError(f"{self.checkpoint} cannot be resumed: {one_line(error)}") from error
        if not (done and self.settings.exists()):
            self.write_settings()
        write_whole(self.metrics, "".join(json.dumps(m) + "\n" for m in self.history() if m["step"] <= done))
        return done

    def write_settings(self) -> None:
        """Writes the configuration, by which another run is told from this one."""
        write_whole(self.settings, json.dumps(record(self.config), indent=1))

    def history(self) -> list[dict[str, float]]:
        """The logged metrics, a dict for each line; lines that are damaged are left out."""
        lines = self.metrics.read_bytes().splitlines() if self.metrics.exists() else []
        return [metrics for metrics in map(_metrics, lines) if metrics is not None]


def _data_in(path, data):
    """The name of a picture, recording or text in the folder, as loaders take them for a class's; empty if there is none.

    In a part of the run's own `data`, as `train/` is, those in sub-folders count, too.
    """
    endings = {".wav", ".wave", ".txt"}
    with contextlib.suppress(ImportError):  # without Pillow no pictures are read
        endings |= picture_endings()
    places = [path]
    if data and pathlib.Path(data).resolve() in (path.resolve(), *path.resolve().parents):
        places += [place for place in _visible(path) if place.is_dir() and not (place / RUN).exists()]
    return next((str(file.relative_to(path)) for place in places for file in _visible(place)
                 if file.suffix.lower() in endings), "")


def _visible(folder):
    """What lies in a folder, in order."""
    try:
        return [place for place in sorted(folder.iterdir()) if not hidden(place.name)]
    except OSError:  # it is none, or cannot be read
        return []


def _metrics(line):
    """The dict of numbers that a line holds; None if it is damaged."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    whole = isinstance(found, dict) and isinstance(found.get("step"), int) and all(
        isinstance(value, (int, float)) for value in found.values())
    return found if whole else None
