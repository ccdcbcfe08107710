"""How cost grows: time against batch, image size, channels, sequence length, matrices, parameters, length of a chain, threads.

    python -m tests.benchmarks.curves                      # all, some minutes; a figure and a table in runs/curves
    python -m tests.benchmarks.curves images chain --threads 1
    python -m tests.benchmarks.curves --isa avx2

A point is the fastest of some calls, forward and backward; each library draws a curve in a process of its own.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np

from .__main__ import ISA, at_least_one


def conv(library, images=16, channels=64, size=16):
    x, w = array(images, channels, size, size), array(channels, channels, 3, 3)
    if library == "torch":
        import torch
        return backward(torch, lambda x, w: torch.nn.functional.conv2d(x, w, padding=1), x, w)
    import minigrad as mg
    return backward(mg, lambda x, w: mg.conv2d(x, w, padding=1), x, w)


def product(library, n):
    module = __import__("torch" if library == "torch" else "minigrad")
    return backward(module, lambda x, y: x @ y, array(n, n), array(n, n))


def attention(library, length):
    module = __import__("torch" if library == "torch" else "minigrad")
    attend = module.nn.functional.scaled_dot_product_attention
    return backward(module, attend, *(array(4, 6, length, 32) for _ in range(3)))


def chain(library, length):
    module = __import__("torch" if library == "torch" else "minigrad")

    def multiplied(x):
        for _ in range(length):
            x = x * 0.999
        return x
    return backward(module, multiplied, array(4))


def adam(library, arrays):
    module = __import__("torch" if library == "torch" else "minigrad")
    tensor = module.tensor if library == "torch" else module.Tensor
    parameters = [module.nn.Parameter(tensor(array(1000))) for _ in range(arrays)]
    optimizer = module.optim.Adam(parameters)
    for p in parameters:
        p.grad = tensor(array(1000))
    return optimizer.step


def array(*shape):
    return np.random.default_rng(0).random(shape, np.float32) - 0.5


def backward(module, function, *arrays):
    """A step: the function of these arrays as Tensors, and the gradients of all."""
    tensor = module.tensor if module.__name__ == "torch" else module.Tensor
    xs = [tensor(a, requires_grad=True) for a in arrays]

    def step():
        for x in xs:
            x.grad = None
        function(*xs).sum().backward()
    return step


CURVES = {  # name -> (title, what x is, its values, the step)
    "images": ("3x3 convolution, 64 channels, 16x16", "images", (1, 2, 4, 8, 16, 32, 64), lambda x: dict(images=x), conv),
    "size": ("3x3 convolution, 64 channels, 4 images", "rows and columns", (4, 8, 16, 32, 64, 128),
             lambda x: dict(images=4, size=x), conv),
    "channels": ("3x3 convolution, 16 images, 16x16", "channels", (8, 16, 32, 64, 128, 256), lambda x: dict(channels=x), conv),
    "matrices": ("product of square matrices", "rows", (16, 32, 64, 128, 256, 512, 1024), lambda x: dict(n=x), product),
    "length": ("attention, 4 x 6 heads of 32", "length", (64, 128, 256, 512, 1024, 2048), lambda x: dict(length=x), attention),
    "chain": ("chain of multiplications of 4 numbers", "operations", (10, 100, 1000, 10000), lambda x: dict(length=x), chain),
    "arrays": ("Adam, arrays of 1,000 numbers", "arrays", (1, 3, 10, 30, 100, 300), lambda x: dict(arrays=x), adam),
    "threads": ("3x3 convolution, 64 channels, 32 images of 16x16", "threads", (1, 2, 4), lambda x: dict(images=32), conv)}
LIBRARIES = "minigrad", "torch"


def measure(name, library, seconds):
    """The fastest call for each x in ms, `seconds` for each; of the threads only for as many as the process was given."""
    title, what, values, arguments, build = CURVES[name]
    if library == "torch":
        import torch
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    found = {}
    for x in values if name != "threads" else [int(os.environ["OMP_NUM_THREADS"])]:
        step = build(library, **arguments(x))
        step()
        times, end = [], time.perf_counter() + seconds
        while len(times) < 3 or time.perf_counter() < end:
            begin = time.perf_counter()
            step()
            times.append(1e3 * (time.perf_counter() - begin))
        found[x] = min(times)
    return found


def curve(name, library, args):
    """{x: ms}, in processes of their own."""
    found = {}
    for threads in CURVES["threads"][2] if name == "threads" else [args.threads]:
        count = str(threads)
        environment = {**os.environ, "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "MINIGRAD_NUM_THREADS": count,
                       **ISA[args.isa]}
        words = [sys.executable, "-m", "tests.benchmarks.curves", name, "--one", library, "--seconds", str(args.seconds)]
        done = subprocess.run(words, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{name} with {library} failed:\n{done.stderr}")
        found |= {int(x): ms for x, ms in json.loads(done.stdout.splitlines()[-1]).items()}
    return found


def draw(curves, path):
    """A panel for each curve: both libraries' time over x, logarithmic."""
    from methods.training import plots
    columns = min(4, len(curves))
    rows = -(-len(curves) // columns)
    with plots.figure(path, rows, columns, (4 * columns, 3.2 * rows)) as axes:
        for axis in axes.flat[len(curves):]:
            axis.axis("off")
        for axis, (name, found) in zip(axes.flat, curves.items()):
            for library, points in found.items():
                axis.plot(list(points), list(points.values()), marker=".", label=library)
            axis.set(title=CURVES[name][0], xlabel=CURVES[name][1], ylabel="ms", xscale="log", yscale="log")
            axis.title.set_size(9)
            axis.grid(alpha=0.3)
        axes[0, 0].legend()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(CURVES)}; all if left out")
    parser.add_argument("--seconds", type=float, default=1, help="for each point")
    parser.add_argument("--threads", type=at_least_one, default=os.cpu_count())
    parser.add_argument("--isa", default="native", choices=list(ISA), help="vector instructions, which the processor must have")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/curves"), help="a folder (default: runs/curves)")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if unknown := set(args.names) - set(CURVES):
        parser.error(f"there is no curve {', '.join(sorted(unknown))}; there are: {', '.join(CURVES)}")
    if args.one:
        print(json.dumps(measure(args.names[0], args.one, args.seconds)))
        return
    curves = {}
    for name in args.names or CURVES:
        curves[name] = {library: curve(name, library, args) for library in LIBRARIES}
        ours, theirs = curves[name].values()
        ratios = "; ".join(f"{x}: {ms:.2f} ms, {ms / theirs[x]:.2f}" for x, ms in ours.items())
        print(f"{CURVES[name][0]}, by {CURVES[name][1]} (our time, over PyTorch's): {ratios}", flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "curves.json").write_text(json.dumps(curves, indent=1))
    draw(curves, args.out / "curves.png")
    print(f"{args.out / 'curves.png'} and curves.json; {args.isa} instructions, {args.threads} threads")


if __name__ == "__main__":
    main()
