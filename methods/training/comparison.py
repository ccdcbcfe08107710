"""Comparisons: each method with each seed; a finished run is kept in a file, and only what is missing is run."""
import contextlib
import io
import json
import pathlib
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .evaluation import deviation
from .run import read_object, write_whole
from .settings import RunError, changed, record

Result = tuple[Any, float]  # what a run found (an accuracy in per cent), seconds


def chosen(only: Iterable[str], names: list[str]) -> list[str]:
    """The names to compare: `only` in the order of `names`, all if it is empty.

    Raises:
        SystemExit: there is no such name.
    """
    if unknown := set(only) - set(names):
        raise SystemExit(f"--only: no method is called {', '.join(map(repr, sorted(unknown)))}; there are: "
                         f"{', '.join(map(repr, names))}")
    return [name for name in names if not only or name in only]


def compare(runs: Iterable[tuple[str, Any, Callable[[], Any]]], resume: bool,
            report: Callable[[str, list[Result]], None], data: str | None = None) -> dict[str, list[Result]]:
    """The results of all runs, by the name of their row.

    Args:
        runs: the row's name, the run's dataclass and a function that does the work, silently.
        resume: take finished runs from their files, and go on with those that were stopped.
        report: called after each run with the row's name and its results until now.
        data: the fingerprint of the data (`checkpoint.fingerprint`): results that were found with other data are refused.

    A run that fails is reported on standard error and left out; the others go on.

    Raises:
        SystemExit: a run was stopped by a signal, or all failed; see also `result`.
    """
    found: dict[str, list[Result]] = {}
    failures = []
    for name, settings, work in runs:
        try:
            new = result(settings, work, resume, data)
        except (RunError, OSError, ImportError, SystemExit) as error:
            if isinstance(error, SystemExit) and not isinstance(error.code, str) or isinstance(error, UnusableResult):
                raise
            failures.append(f"{name}: {error}")
            print(failures[-1], file=sys.stderr, flush=True)
            continue
        found.setdefault(name, []).append(new)
        report(name, found[name])
    if failures and not found:
        raise SystemExit("no run was finished: " + failures[0])
    return found


class UnusableResult(SystemExit):
    """What a folder holds does not belong to this comparison."""


def result(settings: Any, work: Callable[[], Any], resume: bool, data: str | None = None) -> Result:
    """What `work()` finds, kept in result.json in the folder `settings.out`; from there if it was finished before.

    Raises:
        SystemExit: there is a result and `resume` is false, or it was found with other settings or data.
    """
    path = pathlib.Path(settings.out) / "result.json"
    wanted = record(settings, without=("resume", "out", "data", "device"))
    if path.exists():
        if not resume:
            raise UnusableResult(f"{path.parent.parent} holds a comparison; continue it with --resume, or choose another --out")
        try:
            found = read_object(path)
        except RunError as error:
            raise UnusableResult(str(error)) from None
        numbers = found.get("accuracy"), found.get("seconds")
        if not isinstance(found.get("settings"), dict) or not all(map(_is_number, numbers)):
            raise UnusableResult(f"{path} is damaged; delete it to run that once more")
        if differing := changed(found["settings"], settings, wanted):
            raise UnusableResult(f"{path.parent} was made with other settings: {', '.join(differing)}; choose another --out")
        if found.get("data", data) != data:
            raise UnusableResult(f"{path.parent} was made with other data; give it again, or choose another --out")
        return found["accuracy"], found["seconds"]
    start = time.time()
    with contextlib.redirect_stdout(io.StringIO()):
        value = work()
    found = {"accuracy": value, "seconds": round(time.time() - start, 1), "settings": wanted}
    if data is not None:
        found["data"] = data
    write_whole(path, json.dumps(found, indent=1))
    return found["accuracy"], found["seconds"]


def _is_number(value):
    return all(map(_is_number, value)) and value != [] if isinstance(value, list) else type(value) in (int, float)


def spread(values: list[float], digits: int) -> str:
    """Mean and standard deviation (see `deviation`) over seeds; of one seed there is no deviation."""
    return f"{np.mean(values):.{digits}f}" + (f" +- {deviation(values):.{digits}f}" if len(values) > 1 else "")


def show_table(rows: list[tuple[str, ...]], folder: pathlib.Path) -> None:
    """Prints a table (see `text_table`), and writes it to table.txt in the folder."""
    text = text_table(rows)
    print("\n" + text)
    write_whole(folder / "table.txt", text)


def text_table(rows: list[tuple[str, ...]]) -> str:
    """Rows of cells in columns, a line below the first row."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    rows = [rows[0], tuple("-" * w for w in widths), *rows[1:]]
    return "".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() + "\n" for row in rows)
