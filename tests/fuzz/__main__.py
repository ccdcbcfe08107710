"""Random calls of the whole public interface: `python -m tests.fuzz --minutes 10`."""
from __future__ import annotations

import argparse
import json
import os
import pathlib
import selectors
import subprocess
import sys
import tempfile
import time
import traceback
import warnings

ROOT = pathlib.Path(__file__).parent.parent.parent
LIMIT = 30  # seconds a case may take


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the first round; each round takes the next")
    parser.add_argument("--only", nargs="+", metavar="NAME", default=(), help="operations whose names contain one of these")
    parser.add_argument("--cases", type=int, default=60, help="of an operation in a round (default: 60)")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "runs" / "fuzz",
                        help="where findings go (default: runs/fuzz)")
    parser.add_argument("--work", nargs=2, metavar=("FILE", "ROUND"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        return work(options, pathlib.Path(options.work[0]), json.loads(options.work[1]))
    from .recipes import RECIPES, TRANSFORMS, untold
    for name in untold():
        print(f"{name}: nobody has told how it is called (tests/fuzz/recipes.py)")
    names = [name for name in (*RECIPES, TRANSFORMS) if not options.only or any(part in name for part in options.only)]
    if not names:
        parser.error(f"no operation is named like {' or '.join(options.only)}")
    return campaign(options, names)


def campaign(options, names) -> int:
    """Rounds over all operations in worker processes, until the time is up."""
    began, found, cases, spent = time.monotonic(), {}, dict.fromkeys(names, 0), dict.fromkeys(names, 0.0)
    until, seed, waiting = began + 60 * options.minutes, options.seed, list(names)
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        case = pathlib.Path(folder) / "case.py"
        while time.monotonic() < until:
            if not waiting:
                waiting, seed = list(names), seed + 1
            for line in lines_of_worker(options, case, seed, waiting, until):
                report = json.loads(line)
                name = report["name"]
                waiting.remove(name)
                cases[name] += report["cases"]
                spent[name] += report["seconds"]
                if report["finding"]:
                    note(options, found, name, seed, report["finding"], report["program"])
            if waiting and time.monotonic() < until:  # the worker died or was stopped over the first of them
                name = waiting.pop(0)
                note(options, found, name, seed, f"the process died, or a case took more than {LIMIT} s", case.read_text())
    table(names, cases, spent, found, time.monotonic() - began, options)
    return 1 if found else 0


def lines_of_worker(options, case, seed, names, until):
    """What a worker reports, a line an operation. It is stopped when its case gets too old, or the time is up."""
    case.write_text("")
    command = [sys.executable, "-m", "tests.fuzz", "--cases", str(options.cases), "--work", str(case),
               json.dumps([seed, names])]
    folders = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": folders})
    with process, selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        try:
            while time.monotonic() < until and time.time() - case.stat().st_mtime < LIMIT:
                if selector.select(1):
                    line = process.stdout.readline()
                    if not line:
                        return
                    yield line
        finally:
            process.kill()


def work(options, case, todo) -> int:
    """A worker: a line of JSON on its output for each operation. The case at hand stands in the file `case`."""
    from hypothesis import HealthCheck, Phase, given, seed as seeded, settings

    from .check import Finding
    from .recipes import targets
    found = targets()
    seed, names = todo
    warnings.simplefilter("ignore")
    for name in names:
        began, state, (strategy, check) = time.monotonic(), {"cases": 0, "call": None}, found[name]

        @seeded(seed)
        @settings(max_examples=options.cases, database=None, deadline=None, derandomize=False, report_multiple_bugs=False,
                  suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink])
        @given(strategy)
        def each(call):
            case.write_text(call.code())
            state["cases"] += 1
            try:
                check(call)
            except BaseException:
                state["call"] = call
                raise

        finding, program = None, ""
        try:
            each()
        except Finding as error:
            finding = str(error)
        except Exception as error:
            frames = "".join(traceback.format_tb(error.__traceback__)[-3:])
            finding = f"the fuzzer itself: {type(error).__name__}: {error}\n{frames}"
        if finding and state["call"]:
            program = state["call"].code() + f"# again: {check.__name__}({state['call']!r})\n"
        print(json.dumps({"name": name, "cases": state["cases"], "seconds": time.monotonic() - began, "finding": finding,
                          "program": program}), flush=True)
    return 0


def note(options, found, name, seed, finding, program):
    """Keeps the finding if it is a new one, and writes it down."""
    key = name, finding.split(":")[0]
    if key in found:
        return
    found[key] = finding
    path = options.out / f"{name}-{len([k for k in found if k[0] == name])}.py"
    path.write_text("".join(f"# {line}\n" for line in [f"{name}, seed {seed}", *finding.splitlines()]) + program)
    print(f"{name}: {finding[:300]}\n    {path}", flush=True)


def table(names, cases, spent, found, seconds, options):
    print(f"\n{'operation':<40}{'cases':>8}{'findings':>10}{'seconds':>10}")
    for name in names:
        count = sum(1 for key in found if key[0] == name)
        if count or len(names) <= 20:
            print(f"{name:<40}{cases[name]:>8}{count:>10}{spent[name]:>10.1f}")
    print(f"{f'{len(names)} operations':<40}{sum(cases.values()):>8}{len(found):>10}{seconds:>10.1f}")
    if found:
        print(f"findings are in {options.out}")


if __name__ == "__main__":
    sys.exit(main())
