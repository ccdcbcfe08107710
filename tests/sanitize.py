"""Runs tests with every kernel under AddressSanitizer and UndefinedBehaviorSanitizer.

    python -m tests.sanitize [ARGUMENTS OF PYTEST ...]

gcc compiles the kernels in C, and those in CUDA behind the stand-in, with the options below. Whatever the sanitizers report, in
any process that a test starts, is printed after the tests, and the command fails. Not noticed is a touch just behind an array
of 64 KB or more, where its block of memory is larger (see `minigrad.backend.cpu.memory`). NVRTC does not find its own files
through AddressSanitizer's `dlopen`; its tests, which run no kernel, are left out.
"""
import getpass
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

# No float-divide-by-zero: kernels divide by 0 where infinity or NaN is the result wanted.
CHECKS = "-fsanitize=address,undefined,float-cast-overflow -fsanitize-recover=all"
HEADER = pathlib.Path(__file__).with_name("sanitize.h")
ROOT = pathlib.Path(__file__).parent.parent

available = sys.platform == "linux" and shutil.which("gcc") is not None and shutil.which("g++") is not None


def environment(reports):
    """The environment in which kernels are compiled for the sanitizers and each process reports to a file in `reports`."""
    found = [subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
             for name in ("libasan.so", "libstdc++.so.6")]  # the second: what throws exceptions has to be there first
    return {**os.environ, "CC": "gcc", "MINIGRAD_NATIVE": "1", "LD_PRELOAD": " ".join(found),
            "MINIGRAD_CFLAGS": f"-O1 -g1 -fno-omit-frame-pointer {CHECKS} -include {shlex.quote(str(HEADER))}",
            "MINIGRAD_CACHE": str(pathlib.Path(tempfile.gettempdir()) / f"minigrad-sanitize-{getpass.getuser()}"),
            "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=0:"  # Python leaks much at its end,
                            f"allocator_may_return_null=1:log_path={reports}/address",  # and too large an array is an error
            "UBSAN_OPTIONS": "halt_on_error=0", "UBSAN_REPORTS": f"{reports}/undefined",  # for sanitize.h
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}


def main(arguments):
    if not available:
        sys.exit("the sanitizers want Linux, gcc and g++")
    command = [sys.executable, "-m", "pytest", "--deselect", "tests/backend/cuda/test_nvrtc.py", *arguments]
    with tempfile.TemporaryDirectory() as reports:
        status = subprocess.run(command, env=environment(reports)).returncode
        found = [path.read_text(errors="replace") for path in sorted(pathlib.Path(reports).iterdir())]
    found = list(filter(None, [re.sub(r"==\d+==WARNING: AddressSanitizer failed to allocate.*\n?", "", text) for text in found]))
    print(*found, f"{len(found)} processes with reports" if found else "The sanitizers found nothing.", sep="\n")
    return int(status != 0 or bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
