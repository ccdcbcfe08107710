"""Do the tests notice a broken kernel? Breaks one place of a .cu or .c file at a time and runs that file's tests.

    python -m tests.backend.cuda.mutate [FILE ...] [--most N] [--seed S]

The CUDA kernels run on the stand-in. Prints each mutant that no test noticed, and for each file how many were noticed. A
mutant that does not compile, crashes or does not end counts as noticed. Some survivors are equivalent: they change
nothing that a caller can see.
"""
import argparse
import contextlib
import os
import pathlib
import random
import re
import shutil
import signal
import sys
import tempfile
import time

FOLDER = pathlib.Path(__file__).parent
sys.path.insert(0, str(FOLDER))
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # a forked child has none of its parent's threads
    os.environ[variable] = "1"

TESTS = {"activation": ["activation"], "attention": ["attention"], "batch_norm": ["batch_norm"],
         "column_sum": ["activation"], "depthwise": ["windows"], "dropout": ["optimiser"], "grid_sample": ["grid_sample"],
         "group_norm": ["group_norm"],
         "im2col": ["windows"], "index_add": ["optimiser"], "layer_norm": ["layer_norm"], "matmul": ["matmul"],
         "norm_relu_pool": ["batch_norm"],
         "optimiser": ["optimiser"], "pool": ["windows"], "prelude": ["activation", "launch", "softmax", "layer_norm"],
         "recurrent": ["recurrent"], "softmax": ["softmax"]}
CPU = {"conv": ["conv", "native"], "channels": ["native"], "conv_depthwise": ["native"], "elementwise": ["native"],
       "products": ["native"], "rows": ["native"]}  # the kernels in C
OPERATORS = {"+": "-", "-": "+", "*": "+", "/": "*", "%": "/", "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=",
             "!=": "==", "&&": "||", "||": "&&", "+=": "-=", "-=": "+=", "*=": "+="}
RULES = [
    (r"(?<= )(?:[-+*/%]=?|[<>]=?|[=!]=|&&|\|\|)(?= )", lambda m: OPERATORS.get(m[0])),
    (r"\b(?<![\w.\"])\d+\b(?![.\w])", lambda m: str(int(m[0]) + 1)),
    (r"\b\d+\.\d+", lambda m: str(float(m[0]) * 1.25)),
    (r"\b(?:fmin|fmax|min|max)\(", lambda m: {"i": m[0].replace("min", "max"), "a": m[0].replace("max", "min")}[m[0][-3]]),
    (r"__syncthreads\(\);", lambda m: ";"),
    (r"\bthreadIdx\.x\b", lambda m: "threadIdx.y"),
    (r"\bblockIdx\.x\b", lambda m: "blockIdx.y"),
    (r"!(?=[\w(])", lambda m: ""),
]


def mutants(text):
    """Every (line number, line before, line after, mutated text)."""
    lines = text.split("\n")
    blank = re.sub(r"/\*.*?\*/|//[^\n]*", lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.DOTALL)  # no comments
    for number, (line, code) in enumerate(zip(lines, blank.split("\n"))):
        if code.lstrip().startswith("#") and not code.rstrip().endswith("\\"):
            continue
        for pattern, replacement in RULES:
            for match in re.finditer(pattern, code):
                new = replacement(match)
                if new is not None:
                    after = line[:match.start()] + new + line[match.end():]
                    yield number + 1, line.strip(), after.strip(), "\n".join([*lines[:number], after, *lines[number + 1:]])


def noticed(file, text, seconds):
    """Whether the tests of `file` fail, or do not end in time, in a child process in which its text is `text`."""
    sys.stdout.flush()
    child = os.fork()
    if not child:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        os._exit(_run_tests(file, text))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status != 0
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def _run_tests(file, text):
    import pytest

    if file in CPU:
        return _run_cpu_tests(file, text)
    from minigrad.backend.cuda import launch
    tests = [str(FOLDER / f"test_cuda_{name}.py") for name in TESTS[file]]
    with tempfile.TemporaryDirectory() as folder:
        for path in launch.FOLDER.glob("*.cu"):
            shutil.copy(path, folder)
        launch.FOLDER = pathlib.Path(folder)
        (launch.FOLDER / f"{file}.cu").write_text(text)
        return int(pytest.main(["-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--hypothesis-profile=mutation", *tests]))


def _run_cpu_tests(file, text):
    import pytest

    from minigrad.backend.cpu import native
    tests = [str(FOLDER.parent / f"test_cpu_{name}.py") for name in CPU[file]]
    with tempfile.TemporaryDirectory() as folder:
        for path in (*native.FOLDER.glob("*.c"), *native.FOLDER.glob("*.h")):
            shutil.copy(path, folder)
        native.FOLDER, os.environ["MINIGRAD_CACHE"] = pathlib.Path(folder), folder
        native.OPTIONS = ("-O1", *native.OPTIONS[1:])  # compiles sooner
        (native.FOLDER / f"{file}.c").write_text(text)
        if not native.kernel("softmax"):
            return 1
        return int(pytest.main(["-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--hypothesis-profile=mutation",
                                "-k", "not compile", *tests]))


@contextlib.contextmanager
def _no_new_libraries():
    """Afterwards the cache of compiled libraries is as before."""
    import standin
    before = set(standin.CACHE.glob("*"))
    yield
    for path in set(standin.CACHE.glob("*.so")) - before:
        path.unlink()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", metavar="FILE", help=f"of {', '.join([*TESTS, *CPU])}; default: all")
    parser.add_argument("--most", type=int, help="try at most so many mutants of a file, drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    import conftest  # noqa: F401  what the children need is imported once, here
    import hypothesis.strategies  # noqa: F401
    import pytest  # noqa: F401
    import scipy.special  # noqa: F401
    from minigrad.backend.cuda import launch
    from minigrad.backend.cpu import native
    for file in options.files or [*TESTS, *CPU]:
        path = native.FOLDER / f"{file}.c" if file in CPU else launch.FOLDER / f"{file}.cu"
        text = path.read_text()
        began = time.monotonic()
        if noticed(file, text, 600):
            raise SystemExit(f"{file}: the tests fail without a mutation, or do not end in 600 seconds")
        seconds = 20 + 4 * (time.monotonic() - began)  # a mutant may have to be compiled, and the machine be busy
        todo = list(mutants(text))
        if options.most:
            todo = random.Random(options.seed).sample(todo, min(options.most, len(todo)))
        survivors = []
        for number, before, after, mutated in todo:
            with _no_new_libraries():
                if not noticed(file, mutated, seconds):
                    survivors.append(f"  line {number}\n    - {before}\n    + {after}")
                    print(survivors[-1], flush=True)
        print(f"{file}: {len(todo) - len(survivors)} of {len(todo)} noticed", flush=True)


if __name__ == "__main__":
    main()
