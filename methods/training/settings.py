"""Settings: dataclasses whose fields say which values are allowed, read from the command line."""
import contextlib
import dataclasses
import json
import math
import numbers
import operator
import os
import pathlib
import re
import sys
import typing
from collections.abc import Callable
from typing import Any

from minigrad import Tensor, get_num_threads
from minigrad.backend.libraries import MissingLibrary

LIMITS = {"least": (operator.ge, "{} or more"), "above": (operator.gt, "above {}"),
          "most": (operator.le, "at most {}"), "below": (operator.lt, "below {}")}


def setting(default: Any, *, least: float | None = None, above: float | None = None, most: float | None = None,
            below: float | None = None, free: bool = False) -> Any:
    """A dataclass field. The comment behind it is what `--help` says of it.

    A subclass that changes the default keeps the limits unless it gives its own.

    Args:
        default: a number, or a tuple of numbers for each of which the limits hold; anything if there are no limits.
        least, above, most, below: the limits, `above` and `below` themselves not allowed.
        free: it may differ when a run is resumed.
    """
    given = {"least": least, "above": above, "most": most, "below": below}
    limits = {name: limit for name, limit in given.items() if limit is not None}
    metadata = {key: value for key, value in {"limits": limits, "free": free}.items() if value}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass
class RunSettings:
    """Settings that all runs have; a subclass may change defaults."""

    data: str = setting("", free=True)  # where the images come from
    device: str = setting("cpu", free=True)  # "cpu" or "cuda"
    seed: int = setting(0, least=0)
    steps: int = setting(1000, least=1, free=True)  # of the training
    out: str = setting("runs/run", free=True)  # the run's folder
    resume: bool = setting(False, free=True)  # continue the run in `out`


KINDS = {int: (numbers.Integral, "a whole number"), float: (numbers.Real, "a number"),
         bool: (bool, "True or False"), str: (str, "a text")}


def check(config: Any) -> None:
    """Checks each field of a dataclass against its type, limits and choices, and whether there is the `device`, if it has one.

    Empty texts are refused, but for a field whose default is one, and so is what `MINIGRAD_NUM_THREADS` may not be. What is to
    be written (`out`, `csv` and `sort`) has its place, so that no work is lost for want of one.

    Raises:
        SystemExit: a value is not allowed; one line that names the flag, the value and what is allowed.
    """
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        limits, value = _metadata(type(config), field.name, "limits") or {}, getattr(config, field.name)
        flag, hint = f"--{field.name.replace('_', '-')}", hints[field.name]
        several = tuple in (hint, typing.get_origin(hint))
        hint = (*typing.get_args(hint), object)[0] if several else hint
        if several and not isinstance(value, (tuple, list)):
            raise SystemExit(f"{flag} {value}: choose several values, as a tuple")
        kind, name = KINDS.get(hint, (object, "a number"))
        for number in value if several else (value,):
            if hint is str and isinstance(number, str) and not number and (several or field.default != ""):
                given = flag if field.default is not dataclasses.MISSING else field.name.upper()  # else known by its place
                raise SystemExit(f'{given} "": choose a text that is not empty')  # as a path it would be the current folder
            fits = isinstance(number, kind) and not (hint in (int, float) and isinstance(number, bool))
            if not fits or limits and not (
                    math.isfinite(number) and all(LIMITS[k][0](number, limit) for k, limit in limits.items())):
                allowed = ", ".join(LIMITS[k][1].format(limit) for k, limit in limits.items())
                raise SystemExit(f"{flag} {number}: choose {'a number' if fits else name} {allowed}".rstrip())
        if field.name in ("out", "csv", "sort") and value:
            check_place(flag, pathlib.Path(value), file=field.name == "csv" or bool(pathlib.Path(field.default).suffix))
    for name, hint in hints.items():
        value = getattr(config, name)
        if typing.get_origin(hint) is typing.Literal and value not in typing.get_args(hint):
            raise SystemExit(f"--{name.replace('_', '-')} {value}: choose one of {', '.join(map(str, typing.get_args(hint)))}")
    device = getattr(config, "device", "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise SystemExit(f'--device {device}: choose "cpu" or "cuda"')
    try:
        get_num_threads()
    except ValueError as error:
        raise SystemExit(str(error)) from None
    try:
        Tensor(0.0).to(device)
    except RuntimeError as error:
        raise SystemExit(f"--device {device}: {error}") from None


def check_place(flag: str, path: pathlib.Path, file: bool = False) -> None:
    """SystemExit unless a file, or else a folder, can be made there."""
    folder = path.absolute().parent if file else path.absolute()
    try:
        if file and path.exists() and not path.is_file():
            raise SystemExit(f"{flag} {path}: this is {'a folder' if path.is_dir() else 'no regular file'}; name a file")
        above = next(place for place in (folder, *folder.parents) if place.exists())
    except OSError as error:  # as of a name that is too long
        raise SystemExit(f"{flag} {path}: {error.strerror}") from None
    if not above.is_dir():
        raise SystemExit(f"{flag} {path}: {above} is a file, no folder")
    if not os.access(above, os.W_OK):
        raise SystemExit(f"{flag} {path}: {above} cannot be written to; choose another place")


def note_idle(config: Any, why: str, *idle: str | type) -> None:
    """Says on standard error which settings have no effect with the others as they are, though they have other values than
    their defaults.

    Args:
        why: "without --finetune".
        idle: their names; a dataclass stands for all of its fields.
    """
    names = [name for part in idle for name in ([part] if isinstance(part, str) else [f.name for f in dataclasses.fields(part)])]
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name in names and value != field.default:
            words = " ".join(map(str, value)) if isinstance(value, (tuple, list)) else "" if isinstance(value, bool) else value
            flag = f"--{'no-' if value is False else ''}{field.name.replace('_', '-')} {words}".strip()
            print(f"{flag} has no effect {why}", file=sys.stderr)


def record(config: Any, without: tuple[str, ...] | None = None) -> dict[str, Any]:
    """The fields of a dataclass as JSON gives them back, but for those named, by default the ones that are `free`."""
    if without is None:
        without = tuple(f.name for f in dataclasses.fields(config) if _metadata(type(config), f.name, "free"))
    return _plain({k: v for k, v in dataclasses.asdict(config).items() if k not in without})


def _plain(values):
    """As JSON gives it back: tuples are lists."""
    return json.loads(json.dumps(values))


def changed(old: dict[str, Any], config: Any, wanted: dict[str, Any]) -> list[str]:
    """The names of `wanted`, a `record` of the dataclass `config`, that have other values in the record of an old run.

    A setting that the old record lacks had its default value: programs learn new ones.
    """
    defaults = {}
    for field in dataclasses.fields(config):
        if field.default_factory is not dataclasses.MISSING:
            defaults[field.name] = field.default_factory()
        elif field.default is not dataclasses.MISSING:
            defaults[field.name] = field.default
    known = _plain({name: value for name, value in defaults.items() if name in wanted}) | old
    return [name for name, value in wanted.items() if name not in known or known[name] != value]


def subset(config: Any, kind: type) -> Any:
    """The fields of a dataclass that another one, `kind`, has too, as an instance of that."""
    return kind(**{field.name: getattr(config, field.name) for field in dataclasses.fields(kind)})


def _metadata(cls: type, name: str, key: str) -> Any:
    """What the field of that name has under the key, in the class or the first of its bases that says it."""
    fields = (getattr(base, "__dataclass_fields__", {}).get(name) for base in cls.__mro__)
    return next((field.metadata[key] for field in fields if field is not None and key in field.metadata), None)


class RunError(ValueError):
    """A run folder cannot be used with these settings."""


def command(main: Callable[[Any], Any], config: Any, description: str, args: list[str] | None = None) -> Any:
    """Calls `main` with settings from the command line.

    Args:
        config: a dataclass, or an instance of one whose values are the defaults.
        args: instead of the command line's words.
    """
    default = {} if isinstance(config, type) else {"default": config}
    run = _from_command_line(config if isinstance(config, type) else type(config), description=description, args=args, **default)
    return report_errors(main, run)


def _from_command_line(kind, **settings):
    import tyro
    module = getattr(sys.modules["__main__"], "__spec__", None)
    return report_errors(lambda kind: tyro.cli(kind, prog=module and f"python -m {module.name}", **settings), kind)


def of_method(name: str, module: Any, run: type) -> Any:
    """The dataclass of a run with the method of a module, the method's settings and the run's together, with its defaults.

    Args:
        module: has `Config`, a dataclass, and in `SHORT`, if there is that, other defaults.
        run: the run's dataclass.
    """
    @dataclasses.dataclass
    class MethodRun(run, module.Config):
        method = name

    return MethodRun(out=f"{run.out}/{name}", **getattr(module, "SHORT", {}))


def subcommands(modules: dict[str, Any], settings: Callable[[str], Any], description: str,
                args: list[str] | None = None) -> Any:
    """The settings that the command line describes, of which the first word is a name in `modules`.

    Args:
        modules: their texts' first two paragraphs are what `--help` says of each (python -OO has none).
        settings: from a name to an instance of its dataclass.
        args: instead of the command line's words.
    """
    import tyro
    described = {name: " ".join((module.__doc__ or "").split("\n\n")[:2]) for name, module in modules.items()}
    kinds = tyro.extras.subcommand_type_from_defaults({name: settings(name) for name in modules}, described)
    return _from_command_line(kinds, args=args, description=description)


def report_errors(main: Callable[[Any], Any], run: Any) -> Any:
    """`main(run)`; what cannot be used, a run, file or library, and want of memory end the program with one line, no traceback.

    A reader of standard output that went away (`| head`) ends it quietly, and so does Ctrl-C.
    """
    try:
        with _reader_may_leave():
            return main(run)
    except KeyboardInterrupt:
        raise SystemExit(128 + 2) from None  # as SIGINT would
    except (OSError, RunError, MissingLibrary) as error:
        raise SystemExit(" ".join(str(error).split())) from None
    except MemoryError as error:  # NumPy's and CuPy's say for what
        raise SystemExit(" ".join(f"there is not enough memory for these settings and data. {error}".split())) from None


@contextlib.contextmanager
def _reader_may_leave():
    if sys.stdout is None:  # closed by who started this
        sys.stdout = open(os.devnull, "w")
    if getattr(sys.stdout, "errors", "") in ("strict", "surrogateescape") and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # names may have letters that the terminal's encoding lacks
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        with contextlib.suppress(OSError, ValueError):  # what is still to be written goes nowhere
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(128 + 13) from None  # as SIGPIPE would
