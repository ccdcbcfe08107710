"""Runs of the examples as jobs: each in a process of its own, its result kept in a file, several at a time if there are cores.

    python -m methods.training.jobs EXAMPLE FOLDER ARGUMENTS...      # what `run_all` starts for each
"""
import concurrent.futures
import dataclasses
import hashlib
import importlib
import json
import os
import pathlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .run import read_object, write_whole
from .settings import RunError
from .signals import handling

RESULT, OUTPUT = "job.json", "output.txt"


@dataclass(frozen=True)
class Job:
    """An example and the words of its command line but for `--out` and `--resume`."""

    example: str
    arguments: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """What a user would type."""
        import shlex
        return shlex.join(["python", "-m", f"examples.{self.example}", *self.arguments])

    def folder(self, root: pathlib.Path) -> pathlib.Path:
        """Where its run lies: the name says which settings it has, so a run with others is never taken for it."""
        key = hashlib.sha256(json.dumps([self.example, *self.arguments]).encode()).hexdigest()[:8]
        return root / f"{self.example}-{key}"


@dataclass(frozen=True)
class Outcome:
    """What a job returned (as JSON has it) and how many seconds it took, or why there is nothing."""

    value: Any = None
    seconds: float = 0.0
    error: str = ""


def plain(value: Any) -> Any:
    """What an example returns, as JSON can hold it: the parts of keys that are tuples joined by ", "."""
    if isinstance(value, dict):
        return {", ".join(map(str, k)) if isinstance(k, tuple) else str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def finished(job: Job, root: pathlib.Path) -> Outcome | None:
    """The outcome of a job that was finished before; None if there is none, or it is damaged."""
    path = job.folder(root) / RESULT
    try:
        found = read_object(path) if path.is_file() else {}
    except RunError:
        return None
    if found.get("command") != job.command or not isinstance(found.get("seconds"), (int, float)):
        return None
    return Outcome(found.get("value"), found["seconds"])


def run_all(jobs: Iterable[Job], root: pathlib.Path, workers: int,
            report: Callable[[Job, Outcome], None]) -> dict[Job, Outcome]:
    """Runs what is not finished, `workers` at a time with a thread each (one alone takes all cores). Killed, it goes on there.

    Args:
        root: a folder for the runs.
        report: called after each job.

    Ctrl-C, SIGTERM or SIGHUP lets the jobs that run save what they have, and leaves when they have ended.
    """
    found: dict[Job, Outcome] = {}
    running: set[subprocess.Popen] = set()
    stopping = threading.Event()
    with handling(("SIGTERM", "SIGHUP"), _leave), concurrent.futures.ThreadPoolExecutor(workers) as pool:
        waiting = {pool.submit(_outcome, job, root, workers, running, stopping): job for job in dict.fromkeys(jobs)}
        try:
            for future in concurrent.futures.as_completed(waiting):
                job = waiting[future]
                found[job] = future.result()
                report(job, found[job])
        except BaseException:
            stopping.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(running):
                process.terminate()
            raise
    return found


def _leave(number, frame):
    """Of a signal as of Ctrl-C, which raises KeyboardInterrupt."""
    raise SystemExit(128 + number)


def _outcome(job, root, workers, running, stopping):
    if (before := finished(job, root)) is not None:
        return before
    folder = job.folder(root)
    folder.mkdir(parents=True, exist_ok=True)
    threads = dict.fromkeys(("MINIGRAD_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1") if workers > 1 else {}
    words = [sys.executable, "-m", "methods.training.jobs", job.example, str(folder), *job.arguments]
    with open(folder / OUTPUT, "ab") as output:
        # Not of the terminal's session: Ctrl-C would reach it beside the one signal of run_all, and a second one saves nothing.
        process = subprocess.Popen(words, stdout=output, stderr=output, env={**os.environ, **threads}, start_new_session=True)
        running.add(process)
        if stopping.is_set():
            process.terminate()
        code = process.wait()
        running.discard(process)
    if (after := finished(job, root)) is not None:
        return after
    text = (folder / OUTPUT).read_text(errors="replace").replace("\r", "\n").strip().splitlines()
    return Outcome(error=f"it ended with {code}: {text[-1] if text else 'no message'}")


def settings(job: Job, folder: pathlib.Path) -> Any:
    """The dataclass of the example's settings, its run in `folder` to be resumed. SystemExit: the words are not understood."""
    import tyro
    module, words = importlib.import_module(f"examples.{job.example}"), [*job.arguments, "--out", str(folder / "run")]
    run = module.from_command_line(words) if hasattr(module, "from_command_line") else tyro.cli(module.Run, args=words)
    if "resume" in {field.name for field in dataclasses.fields(run)}:
        run.resume = True
    return run


def main(job: Job, folder: pathlib.Path) -> None:
    """Runs an example here, and keeps what its `main` returns."""
    start = time.time()
    value = plain(importlib.import_module(f"examples.{job.example}").main(settings(job, folder)))
    write_whole(folder / RESULT, json.dumps({"command": job.command, "seconds": time.time() - start, "value": value}, indent=1))


if __name__ == "__main__":
    main(Job(sys.argv[1], tuple(sys.argv[3:])), pathlib.Path(sys.argv[2]))
