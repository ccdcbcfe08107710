"""One run on a folder: look, answer, suggest, try more while there is time, and write all of it down."""
import dataclasses
import hashlib
import os
import pathlib
import time

import numpy as np

import minigrad as mg
from methods.peft.prediction import FILE
from methods.training.encoders import CHECKPOINT
from methods.training.prediction import most_probable, write_csv
from methods.training.run import RunFolder, write_whole
from methods.training.settings import check_place, setting
from minigrad.data.folder import printable, some

from . import label_log, report, small_families, trials
from .answer import Answer, answer, tested
from .families import Task
from .features import Features
from .labelling import serve
from .look import Folder, look
from .readers import PictureReader, TextReader, load_reader
from .saving import save
from .text_families import FAMILIES, TextFamily

FIRST_OF_CLASS = 2  # labelled pictures of each class that are read whatever time it takes
FIRST_TESTED = 50  # pictures to test on that are read whatever time it takes
FIRST_LABELLED, FIRST_UNLABELLED = 10.0, 8.0  # seconds for the pictures of the first answer; of those to test on as for labelled
AT_ONCE = 500  # pictures whose classes are predicted before the clock is looked at
LAST_REPORT = 15.0  # seconds for the last report
PREDICTIONS = "predictions.csv"  # in the run's folder: the classes of unlabelled pictures
SOURCE = "source.txt"  # in the run's folder: where the pictures lie


@dataclasses.dataclass(kw_only=True)
class Config:
    """Settings of a run."""

    folder: str
    label: bool = setting(False, free=True)  # serve a page on this machine alone, to click the classes of pictures
    move: bool = setting(False, free=True)  # with --label: move each labelled picture into the folder of its class
    classes: tuple[str, ...] = setting((), free=True)  # with --label: classes that have no picture yet
    port: int = setting(0, least=0, most=65535, free=True)  # of the page; 0: any that is free
    suggest: int = setting(20, least=1, most=500, free=True)  # pictures to label next
    minutes: float = setting(5.0, least=0, free=True)  # for everything; 0: the first answer alone
    encoder: str = setting("", free=True)  # "lite0", published weights, a run; "": lite0 if it is there, else plain features
    image_size: int = setting(0, least=0, free=True)  # pixels of the encoder's input; 0: its own
    device: str = setting("cpu", free=True)  # "cpu" or "cuda"
    seed: int = setting(0, least=0, free=True)
    out: str = setting("", free=True)  # the run's folder; "": runs/few_labels/ and the name of the folder of pictures


def run(config: Config, began: float) -> Answer:
    """The whole run; its answer. Args: began: `time.monotonic()` at the start.

    Raises:
        SystemExit: the folder, the encoder or the run's folder cannot be used; one line.
    """
    try:
        for name in config.classes:
            label_log.class_name(name)
    except ValueError as error:
        raise SystemExit(f"--classes: {error}") from None
    path = pathlib.Path(config.folder)
    out = RunFolder(run_folder(path, config.out), config, True)
    check_place("--out", out.path)
    try:
        folder = look(path, out.path)
    except (OSError, ValueError, ImportError) as error:
        raise SystemExit(f"{config.folder}: {error}") from None
    said = folder.description()
    print("\n".join(said), flush=True)
    with out.locked():
        run_folder(path, str(out.path))  # another may have taken it since
        write_whole(out.path / SOURCE, os.fsencode(path.resolve()))
        try:
            return _run(config, began, folder, out, said)
        except KeyboardInterrupt:
            print("\nstopped; the same command goes on from here", flush=True)
            raise SystemExit(130) from None


def run_folder(source: pathlib.Path, out: str = "") -> pathlib.Path:
    """The folder for the run on `source`: `out`, or else runs/few_labels/ and its name, with a digest if another has that.

    A run holds labels and predictions by the names of files, which another folder may have too.

    Raises:
        SystemExit: `out` holds the run of another folder that still exists.
    """
    source = source.resolve()
    if out:
        if (other := _source(pathlib.Path(out))) not in (None, source) and other.exists():
            raise SystemExit(printable(f"--out {out}: it holds the run on {other}; choose another --out"))
        return pathlib.Path(out)
    path = pathlib.Path("runs/few_labels", (source.stem if source.is_file() else source.name) or "folder")
    if (other := _source(path)) in (None, source):
        return path
    free = path.with_name(f"{path.name}-{hashlib.sha256(os.fsencode(source)).hexdigest()[:8]}")
    print(printable(f"{path} holds the run on {other}, so this one goes to {free}; if they are the same, moved, give "
                    f"--out {path}"))
    return free


def _source(out):
    """What the run in a folder was made of; None if that is not known."""
    path = out / SOURCE
    return pathlib.Path(os.fsdecode(path.read_bytes())) if path.is_file() else None


def _run(config, began, folder, out, said):
    mg.random.seed(config.seed)  # checkpoints hold the generator's state
    reader = load_reader(folder.what, config.encoder, config.image_size, config.device)
    features = Features(folder, reader)
    print(f"reading the {folder.what}s with {reader.name}", flush=True)
    order = spread(folder, folder.labelled, config.seed)
    features.read(order[:FIRST_OF_CLASS * len(folder.classes)])
    features.read(order, FIRST_LABELLED)
    features.read(at_random(folder.unlabelled, config.seed), FIRST_UNLABELLED)
    end = began + 60 * config.minutes
    alone = config.label or end - time.monotonic() < LAST_REPORT
    tests = at_random(folder.test, config.seed)
    if alone and not config.label:
        features.read(tests[:FIRST_TESTED])
        features.read(tests, FIRST_LABELLED)
    first = answer(folder, features, config.suggest, config.seed)
    write(first, reader, out, began, np.inf, said)
    if config.label:
        serve(first, config.suggest, config.seed, config.classes, config.port, config.move)
    if alone:
        return first
    features.read(order, end - time.monotonic() - LAST_REPORT)
    features.read(tests[:FIRST_TESTED])
    features.read(tests, end - time.monotonic() - LAST_REPORT)
    features.read(at_random(folder.unlabelled, config.seed), (end - time.monotonic()) / 3)
    result = answer(folder, features, config.suggest, config.seed)
    if result.chosen is not None and len(result.chosen.tried()):
        try_families(result, reader, config, out.path / "trials", end)
    write(result, reader, out, began, end, said)
    return result


def try_families(result: Answer, reader: PictureReader | TextReader, config: Config, out: pathlib.Path, end: float) -> None:
    """Adds what needs training to the answer, as far as there is time."""
    if lost := [result.folder.files[i] for i in result.known if result.folder.unreadable(i)]:
        result.notes.append(f"What needs training was not tried, as {some(lost)} can no longer be read; run the same command "
                            "again.")
        return
    rest = at_random(result.features.known(result.folder.unlabelled), config.seed)
    task = Task(result.folder, result.features, result.known, result.y, rest, reader, config.device, config.seed)
    reserve = LAST_REPORT + min(len(rest) / max(result.features.rate or 50, 1), (end - time.monotonic()) / 5)
    trial = trials.Trials(task, result.chosen, result.share, out, end, reserve)
    families = ([TextFamily(task, reader, name) for name in FAMILIES] if isinstance(reader, TextReader)
                else small_families.picture_families(task))
    found = trial.run(families)
    result.estimates += [one.estimate for one in found]
    result.untried = tuple(family.name for family in families[len(found):])
    if result.untried:
        print(f"not tried for want of time (--minutes {config.minutes:g}): {some(result.untried)}")
    result.chosen = trial.winner(found)
    tested(result)


def spread(folder: Folder, which: np.ndarray, seed: int) -> np.ndarray:
    """The labelled pictures so that any first part has as many of each class as possible, drawn at random."""
    which = at_random(which, seed)
    rank = np.zeros(len(which), int)
    for k in range(len(folder.classes)):
        members = np.flatnonzero(folder.labels[which] == k)
        rank[members] = np.arange(len(members))
    return which[np.argsort(rank, kind="stable")]


def at_random(which: np.ndarray, seed: int) -> np.ndarray:
    """The pictures in an order of chance, the same each time."""
    return np.random.default_rng(seed).permutation(which)


def write(result: Answer, reader: PictureReader | TextReader, out: RunFolder, began: float, end: float, said: list[str]) -> None:
    """The report, the checkpoint, the list of pictures to label next, and the classes of the unlabelled ones until `end`.

    Args:
        said: what was printed of the folder so far; what else is known once it was read is printed, and added.
    """
    result.seconds = time.monotonic() - began
    folder = result.folder
    if result.chosen is not None:
        save(result, reader, out.path)
        write_csv(out.path / PREDICTIONS, _predictions(result, end))
    elif old := [name for name in (CHECKPOINT, FILE, PREDICTIONS) if (out.path / name).exists()]:
        result.notes.append(f"{' and '.join(old)} in the run's folder are from an earlier answer, when there were other labels.")
    write_whole(out.path / "label_these_next.txt", "".join(f"{folder.files[i]}\n" for i in result.suggested))
    write_whole(out.path / "report.html", report.page(result, printable(str(out.path))))
    said += (new := [line for line in folder.description() + result.notes if line not in said])
    print("\n".join([*new, "", report.headline(result)]))
    print(f"after {result.seconds:.0f} s: the report is {printable(str(out.path / 'report.html'))}", flush=True)


def _predictions(result, end):
    """Of the unlabelled pictures that were read, as far as time suffices."""
    folder, found, rest = result.folder, [], result.features.known(result.folder.unlabelled)
    for start in range(0, len(rest), AT_ONCE):
        if time.monotonic() > end:
            print(f"predictions.csv has {start} of {len(rest)} unlabelled {folder.what}s; examples.predict reads the others")
            break
        batch = rest[start:start + AT_ONCE]
        names = [printable((folder.path / folder.files[i]).as_posix()) for i in batch]
        found += most_probable(names, result.probabilities(batch), result.classes)
    return found
