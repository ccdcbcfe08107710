"""The command that runs tests under the sanitizers notices wrong kernels, in its own processes and in others."""
import shutil
import subprocess
import sys

import pytest
from minigrad.backend.cuda import launch
from sanitize import ROOT, available

pytestmark = pytest.mark.skipif(not available, reason="no Linux with gcc and g++")

WRONG = {  # what a kernel does with x and y, arrays of three ones, for i from 0 to 2; and what is said of it
    "behind": ("y[i] = x[i + 1];", "heap-buffer-overflow"), "before": ("y[i - 1] = x[i];", "WRITE of size 4"),
    "shift": ("y[i] = 1 << (30 + i);", "shift"), "overflow": ("y[i] = 2147483646 + i * (int)x[i];", "signed integer overflow"),
    "cast": ("y[i] = (int)(x[i] * 1e20f);", "outside the range of representable values"),
    "bounds": ("float few[2] = {x[0], x[1]}; y[i] = few[i];", "out of bounds"),
    "aligned": ("y[i] = *(const float*)((const char*)x + i);", "misaligned address")}
RIGHT = {"right": ("y[i] = 1 / (x[i] - 1);", "found nothing")}

IN_C = "void {name}(const float* x, float* y, index_t n)\n{{ for (int i = 0; i < n; i++) {{ {body} }} }}\n"
IN_CUDA = 'extern "C" __global__ void {name}(const float* x, float* y) {{ int i = threadIdx.x; {body} }}\n'
CALLS_C = """
import pathlib
import numpy as np
from minigrad.backend.cpu import native

def test_kernels():
    native.FOLDER = pathlib.Path(__file__).parent
    for name in {names}:
        native.kernel(name)(np.ones(3, "f"), np.ones(3, "f"), 3)
"""
CALLS_CUDA = """
import ctypes, pathlib, sys
import numpy as np
sys.path.insert(0, {standin!r})
import standin
from minigrad.backend.cuda import launch

def test_kernels():
    launch.FOLDER = pathlib.Path(__file__).parent
    for name in {names}:
        x, y = np.ones(3, "f"), np.ones(3, "f")
        pointers = [ctypes.c_void_p(a.ctypes.data) for a in (x, y)]
        arguments = (ctypes.c_void_p * 2)(*map(ctypes.addressof, pointers))
        getattr(standin.library("kernels", "float32"), "launch_" + name)((ctypes.c_uint * 6)(1, 1, 1, 3, 1, 1), arguments, 0)
"""
ELSEWHERE = """
import pathlib, subprocess, sys

def test_kernels():
    code = "import test_here; test_here.test_kernels()"
    subprocess.run([sys.executable, "-c", code], cwd=pathlib.Path(__file__).parent, capture_output=True, check=True)
"""


def sanitized(*arguments):
    """The exit status of the command with these arguments of pytest, and what it printed."""
    done = subprocess.run([sys.executable, "-m", "tests.sanitize", "-q", "-o", "addopts=", "-p", "no:cacheprovider",
                           *map(str, arguments)], capture_output=True, text=True, cwd=ROOT)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("kernels, file", [(RIGHT, "test_here.py"), (WRONG, "test_here.py"), (WRONG, "test_elsewhere.py")])
@pytest.mark.parametrize("language", ["C", "CUDA"])
def test_what_a_kernel_does_wrong_is_reported(tmp_path, language, kernels, file):
    text = "".join((IN_C if language == "C" else IN_CUDA).format(name=name, body=body) for name, (body, _) in kernels.items())
    if language == "C":
        (tmp_path / "kernels.h").write_text("")
        (tmp_path / "a.c").write_text("#include <stdint.h>\ntypedef int64_t index_t;\nvoid use_threads(int number) {}\n" + text)
        calls = CALLS_C.format(names=list(kernels))
    else:
        shutil.copy(launch.FOLDER / "prelude.cu", tmp_path)
        (tmp_path / "kernels.cu").write_text(text)
        calls = CALLS_CUDA.format(names=list(kernels), standin=str(ROOT / "tests" / "backend" / "cuda"))
    (tmp_path / "test_here.py").write_text(calls)
    (tmp_path / "test_elsewhere.py").write_text(ELSEWHERE)
    status, printed = sanitized(tmp_path / file)
    assert "1 passed" in printed and status == (kernels is WRONG), printed
    for _, said in kernels.values():
        assert said in printed, printed


def test_a_test_that_fails_fails_the_command(tmp_path):
    (tmp_path / "test_here.py").write_text("def test_nothing():\n    assert False\n")
    status, printed = sanitized(tmp_path / "test_here.py")
    assert status == 1 and "found nothing" in printed


def test_nothing_is_wrong_with_special_numbers_in_the_kernels_in_c():
    status, printed = sanitized("tests/backend/test_cpu_native.py", "-k", "special_numbers")
    assert status == 0 and "found nothing" in printed, printed
