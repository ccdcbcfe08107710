"""Times minigrad against PyTorch and JAX (where it is installed), with the same number of threads.

    python -m tests.benchmarks                      # everything
    python -m tests.benchmarks chain conv4          # the workloads whose names contain one of these
    python -m tests.benchmarks --out table          # also writes table.md and table.json
    python -m tests.benchmarks --isa avx2           # with the instructions of another processor, for all libraries
    python -m tests.benchmarks --device cuda        # on a GPU, without JAX

Two libraries in one process slow each other down, because the idle threads of one spin while the other works. So on the CPU
each measurement is a process of its own, on a GPU all those of one library are; the libraries take turns, and the ratio of the
medians is reported.

On a GPU our training steps are captured, layers get sixteen times as many samples as their names say, and a last column tells
which share of the memory bandwidth (measured with a copy) or of the rate of matrix products (measured with a large one) a layer
reaches with the least work that it has to do.
"""
import argparse
import gc
import json
import os
import pathlib
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback

from . import workloads


ISA = {  # what limits each library to some vector instructions
    "avx2": {"MINIGRAD_CFLAGS": "-march=haswell -mtune=native -mprefer-vector-width=256", "OPENBLAS_CORETYPE": "Haswell",
             "ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "avx512": {"MINIGRAD_CFLAGS": "-march=skylake-avx512 -mtune=native -mprefer-vector-width=512",
               "OPENBLAS_CORETYPE": "SkylakeX", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "ATEN_CPU_CAPABILITY": "avx512",
               "MKL_ENABLE_INSTRUCTIONS": "AVX512"},
    "native": {}}
RESULT = "result: "  # before what a process of one measurement tells
BURST = 10  # steps on a GPU between two moments at which the host waits for it


def timed(step, seconds, wait=None):
    """Times of a step in ms, after a warm-up; with `wait`, which waits for the GPU, the means of bursts, if steps are short."""
    times, end, burst = [], None, 1
    if wait:
        for _ in range(3):
            begin = time.perf_counter()
            step()
            wait()
        burst = BURST if time.perf_counter() - begin < 0.02 else 1
    while end is None or time.perf_counter() < end or len(times) < 4:
        begin = time.perf_counter()
        for _ in range(burst):
            step()
        if wait:
            wait()
        times.append(1e3 * (time.perf_counter() - begin) / burst)
        if len(times) == 3 and end is None:
            times, end = [], time.perf_counter() + seconds
    return times


def host_memory():
    """The most MiB that this process had at a time."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def gpu(library):
    """What waits for the GPU, and what tells how many MiB of its memory are taken; both libraries keep what they took.

    What the workload before has kept is given back.
    """
    gc.collect()
    if library.startswith("torch"):
        import torch
        memory, wait, free = torch.cuda.mem_get_info, torch.cuda.synchronize, torch.cuda.empty_cache
    else:
        import cupy
        memory, wait = cupy.cuda.runtime.memGetInfo, cupy.cuda.Device().synchronize
        free = cupy.get_default_memory_pool().free_all_blocks
    wait()
    free()
    return wait, lambda: (memory()[1] - memory()[0]) / 2**20


def measure(name, library, seconds, device):
    """Runs one workload in this process: its times in ms after a warm-up, and the memory it added at its peak in MiB."""
    wait, memory = gpu(library) if device == "cuda" and library != "jax" else (None, host_memory)
    start = memory()
    times = timed(workloads.ALL[name][library](device), seconds, wait)
    return {"times": times, "memory": memory() - start}


def roofs(size=1 << 28, n=4096):
    """What the GPU reaches: bytes per ms, read and written, in a copy of an array, and flops per ms in a product."""
    import cupy
    source, x = cupy.zeros(size // 4, "float32"), cupy.ones((n, n), "float32")
    target, wait = cupy.empty_like(source), cupy.cuda.Device().synchronize
    copied = statistics.median(timed(lambda: cupy.copyto(target, source), 0.5, wait))
    multiplied = statistics.median(timed(lambda: x @ x, 0.5, wait))
    return {"bytes": 2 * size / copied, "flops": 2 * n**3 / multiplied}


def measured(names, library, args):
    """Runs workloads in this process: their names with what `measure` returns; the first error, which may spoil a GPU's
    state, is the last."""
    for name in names:
        begin = time.perf_counter()
        try:
            yield name, measure(name, library, args.seconds, args.device)
            print(f"{time.perf_counter() - begin:5.1f} s: {library}, {name}", file=sys.stderr, flush=True)
        except Exception:
            yield name, {"error": traceback.format_exc()}
            return


def in_a_process(names, library, args):
    """Yields what `measured` does, in a process of its own, as it comes; without names, what `roofs` returns.

    Where it fails at a name, another goes on behind it.
    """
    threads = str(args.threads)
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "MINIGRAD_NUM_THREADS": threads,
                   **ISA[args.isa]}
    command = [sys.executable, "-m", "tests.benchmarks", "--one", library, "--seconds", str(args.seconds),
               "--device", args.device, *names]
    found, missing = 0, list(names)
    with tempfile.TemporaryFile("w+") as errors, subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, text=True,
            stderr=None if args.device == "cuda" else errors) as process:  # there one sees where it is
        try:
            for line in process.stdout:
                if line.startswith(RESULT):
                    result = json.loads(line.removeprefix(RESULT))
                    missing = [name for name in missing if name != result[0]] if names else []
                    found += 1
                    yield result
        except BaseException:
            process.kill()
            raise
        status = process.wait()
        errors.seek(0)
        failure = errors.read() or f"the process ended with status {status}"
    if not names and not found:
        raise SystemExit(f"{library} failed:\n{failure}")
    if missing and (status or not found):
        yield missing.pop(0), {"error": failure}
    if missing:
        yield from in_a_process(missing, library, args)


def compare(chosen, args, reached=None):
    """Yields rows: medians in ms, memory in MiB, our median over each peer's, and the share of what the GPU reaches; or errors.

    On a CPU a row is there as soon as it is measured. Of what Ctrl-C interrupts, there is what was measured by then.
    """
    together = [chosen] if args.device == "cuda" else [[name] for name in chosen]
    for names in together:
        libraries = [x for x in dict.fromkeys(x for name in names for x in workloads.ALL[name])
                     if x in ("minigrad", *(args.libraries or [x])) and (args.device == "cpu" or x != "jax")]
        found, stopped = {name: {} for name in names}, None
        try:
            for library in libraries * args.rounds:
                for name, one in in_a_process([n for n in names if library in workloads.ALL[n]], library, args):
                    all_of = found[name].setdefault(library, {"times": [], "memory": 0})
                    all_of["times"] += one.get("times", [])
                    all_of["memory"] = max(all_of["memory"], one.get("memory", 0))
                    all_of |= {"error": one["error"]} if "error" in one else {}
        except KeyboardInterrupt as interrupt:
            stopped = interrupt
        yield from (row(name, found[name], reached) for name in names if "minigrad" in found[name])
        if stopped:
            raise stopped


def row(name, found, reached):
    failed = [f"{name} with {library} failed:\n{one['error']}" for library, one in found.items() if "error" in one]
    if failed:
        return "\n".join(failed)
    row = {"workload": name}
    for library, one in found.items():
        row[library] = {"ms": statistics.median(one["times"]), "MiB": one["memory"], "runs": len(one["times"])}
    row["ratio"] = {x: row["minigrad"]["ms"] / row[x]["ms"] for x in found if x != "minigrad"}
    if reached and name in workloads.WORK:
        kind, amount = workloads.WORK[name]
        row["share"] = {kind: amount / row["minigrad"]["ms"] / reached[kind]}
    return row


SHARES = {"bytes": "bandwidth of a copy", "flops": "rate of a product"}


def line(row):
    cells = [f"{row['minigrad']['ms']:.2f} ms, {row['minigrad']['MiB']:.0f} MiB"]
    cells += [f"{library} {row[library]['ms']:.2f} ms, {row[library]['MiB']:.0f} MiB" for library in row["ratio"]]
    ratios = [f"{ratio:.2f}" for ratio in row["ratio"].values()]
    share = "".join(f" {100 * part:.0f} % of the {SHARES[kind]} |" for kind, part in row.get("share", {}).items())
    return f"| {row['workload']} | {cells[0]} | {'; '.join(cells[1:])} | {'; '.join(ratios)} |{share}"


def summary(rows):
    """Our time over the best peer's: geometric mean and worst row, of training steps and of all else."""
    lines = []
    for kind, chosen in (("training steps", True), ("other rows", False)):
        ratios = {row["workload"]: max(row["ratio"].values()) for row in rows
                  if row["ratio"] and (" step" in row["workload"]) == chosen}
        if ratios:
            worst = max(ratios, key=ratios.get)
            mean = statistics.geometric_mean(ratios.values())
            lines.append(f"{kind}: {mean:.2f} of the best peer's time (geometric mean of {len(ratios)}), at worst "
                         f"{ratios[worst]:.2f} ({worst})")
    return lines


def at_least_one(text):
    """A whole number from 1, of an argument."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"1 or more wanted, not {text}")
    return int(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="parts of workloads' names; all if left out")
    parser.add_argument("--rounds", type=at_least_one, default=3, help="processes of each library")
    parser.add_argument("--seconds", type=float, default=4, help="time to measure a workload in a process")
    parser.add_argument("--threads", type=at_least_one, default=os.cpu_count())
    parser.add_argument("--isa", default="native", choices=list(ISA), help="vector instructions, which the processor must have")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--libraries", nargs="+", help="peers: torch, torch channels last, torch compiled, jax; all if left out")
    parser.add_argument("--out", help="write the table to OUT.md and OUT.json")
    parser.add_argument("--keep-going", action="store_true", help="a workload that fails does not stop the others")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        for found in measured(args.names, args.one, args) if args.names else [roofs()]:
            print(f"\n{RESULT}{json.dumps(found)}", flush=True)  # libraries print, too
        return
    there = {library for libraries in workloads.ALL.values() for library in libraries} - {"minigrad"}
    if unknown := set(args.libraries or ()) - there:
        raise SystemExit(f"--libraries {' '.join(sorted(unknown))}: there are {', '.join(sorted(there))}; workloads stand before it")
    chosen = [n for n in workloads.ALL if not args.names or any(part.lower() in n.lower() for part in args.names)]
    if not chosen:
        raise SystemExit(f"no workload is called {' or '.join(args.names)}; there are: {', '.join(workloads.ALL)}")
    if "OPENBLAS_CORETYPE" in os.environ:
        print(f"note: OPENBLAS_CORETYPE={os.environ['OPENBLAS_CORETYPE']} keeps NumPy from choosing the fastest matrix "
              "products for this processor", file=sys.stderr)
    if args.out:
        pathlib.Path(args.out).absolute().parent.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    reached = next(in_a_process([], "minigrad", args)) if args.device == "cuda" else None
    rows, lines = [], ["| workload | minigrad | peer | time ratio |" + " GPU |" * (args.device == "cuda"), "|---" * 4 + "|"]
    lines[1] += "---|" * (args.device == "cuda")
    print("\n".join(lines))
    failures = []
    try:
        for found in compare(chosen, args, reached):
            if not isinstance(found, str):
                rows.append(found)
                lines.append(line(found))
                print(lines[-1], flush=True)
                continue
            failures.append(found)
            if not args.keep_going:
                break
    except KeyboardInterrupt:
        failures.append("stopped: what was not measured by then is missing")
    closing = ["", f"Instructions: {args.isa}; {args.threads} thread{'s' * (args.threads > 1)}.", *summary(rows)]
    print("\n".join(closing))
    lines += closing
    if args.out:
        pathlib.Path(args.out + ".md").write_text("\n".join(lines) + "\n")
        pathlib.Path(args.out + ".json").write_text(json.dumps(rows, indent=1))
    if failures:
        raise SystemExit("\n".join(failures))


if __name__ == "__main__":
    main()
