"""Times minigrad against PyTorch and JAX (where it is installed), with the same number of threads.

    python -m tests.benchmarks                      # everything
    python -m tests.benchmarks chain conv4          # the workloads whose names contain one of these
    python -m tests.benchmarks --out table          # also writes table.md and table.json

Two libraries in one process slow each other down, because the idle threads of one spin while the other works. So each
measurement is a process of its own; the libraries take turns, and the ratio of the medians is reported.
"""
import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time

from . import workloads


def measure(name, library, seconds, device):
    """Runs one workload in this process: its times in ms after a warm-up, and the memory it added at its peak in MiB."""
    build = workloads.ALL[name][library]
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step = build(device)
    for _ in range(3):
        step()
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        begin = time.perf_counter()
        step()
        times.append(1e3 * (time.perf_counter() - begin))
    return {"times": times, "memory": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) / 1024}


def in_a_process(name, library, args):
    threads = str(args.threads)
    environment = dict(os.environ, OMP_NUM_THREADS=threads, MKL_NUM_THREADS=threads, MINIGRAD_NUM_THREADS=threads)
    command = [sys.executable, "-m", "tests.benchmarks", "--one", library, "--seconds", str(args.seconds),
               "--device", args.device, name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name} with {library} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(name, args):
    """One row: medians in ms, memory in MiB, and our median over each peer's."""
    libraries, found = list(workloads.ALL[name]), {}
    for _ in range(args.rounds):
        for library in libraries:
            one = in_a_process(name, library, args)
            all_of = found.setdefault(library, {"times": [], "memory": 0})
            all_of["times"] += one["times"]
            all_of["memory"] = max(all_of["memory"], one["memory"])
    row = {"workload": name}
    for library, one in found.items():
        row[library] = {"ms": statistics.median(one["times"]), "MiB": one["memory"], "runs": len(one["times"])}
    row["ratio"] = {x: row["minigrad"]["ms"] / row[x]["ms"] for x in libraries[1:]}
    return row


def line(row):
    cells = [f"{row['minigrad']['ms']:.2f} ms, {row['minigrad']['MiB']:.0f} MiB"]
    cells += [f"{library} {row[library]['ms']:.2f} ms, {row[library]['MiB']:.0f} MiB" for library in row["ratio"]]
    ratios = [f"{ratio:.2f}" for ratio in row["ratio"].values()]
    return f"| {row['workload']} | {cells[0]} | {'; '.join(cells[1:])} | {'; '.join(ratios)} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="parts of workloads' names; all if left out")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each library")
    parser.add_argument("--seconds", type=float, default=4, help="time to measure in each process")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--out", help="write the table to OUT.md and OUT.json")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.names[0], args.one, args.seconds, args.device)))
        return
    chosen = [n for n in workloads.ALL if not args.names or any(part in n for part in args.names)]
    if not chosen:
        raise SystemExit(f"no workload is called {' or '.join(args.names)}; there are: {', '.join(workloads.ALL)}")
    if "OPENBLAS_CORETYPE" in os.environ:
        print(f"note: OPENBLAS_CORETYPE={os.environ['OPENBLAS_CORETYPE']} keeps NumPy from choosing the fastest matrix "
              "products for this processor", file=sys.stderr)
    rows, lines = [], ["| workload | minigrad | peer | time ratio |", "|---|---|---|---|"]
    print("\n".join(lines))
    for name in chosen:
        rows.append(compare(name, args))
        lines.append(line(rows[-1]))
        print(lines[-1], flush=True)
    if args.out:
        pathlib.Path(args.out + ".md").write_text("\n".join(lines) + "\n")
        pathlib.Path(args.out + ".json").write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
