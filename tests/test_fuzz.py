"""The fuzzer: it knows everything that is public, finds what is wrong, and survives a process that dies."""
import json
import os
import re
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
pytest.importorskip("ml_dtypes")
sys.path.insert(0, str(ROOT))
recipes = pytest.importorskip("tests.fuzz.recipes")


def test_every_public_function_is_fuzzed_or_left_out_for_a_reason():
    assert not recipes.untold(), "tests/fuzz/recipes.py: how are these called?"
    known = {*recipes.RECIPES, *recipes.LEFT_OUT, *recipes.ELSEWHERE}
    assert {name for name in known if not name.startswith(("steps.", "fills.", "symmetric."))} <= set(recipes.public()), "no longer public"
    assert not {*recipes.RECIPES} & {*recipes.LEFT_OUT}


def fuzz(*arguments, break_it=""):
    """Runs the fuzzer with a change of minigrad's, in the worker too."""
    program = f"import sys, runpy\n{break_it}\nsys.argv[0] = 'fuzz'\nrunpy.run_module('tests.fuzz', run_name='__main__')"
    return subprocess.run([sys.executable, "-c", program, *arguments], cwd=ROOT, text=True, capture_output=True, timeout=300,
                          env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"})


def test_a_round_over_a_few_operations(tmp_path):
    done = fuzz("--minutes", "0.15", "--cases", "15", "--only", "mg.softmax", "mg.matmul", "nn.Linear", "--out", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 operations" in done.stdout and not list(tmp_path.iterdir())
    assert fuzz("--only", "nonsense").returncode == 2


@pytest.mark.parametrize("fault, said", [
    ("forward = lambda x: np.tanh(x) * (1 + 1e-3)", "NumPy: output 0"),
    ("forward = lambda x: os.kill(os.getpid(), 9)", "died"),
    ("forward = lambda x: {}[0]", "KeyError"),
    ("forward = lambda x: np.tanh(x, out=x if x.flags.writeable and x.dtype.kind == 'f' else None)", "changed argument"),
    ("rules = lambda g, out, _x: 1.01 * g * (1 - out * out),", "gradient 0|derivatives"),
    ("rules = lambda g, out, _x: g * (1 - out * out) + 0 * g.sum(),", "NaN in cotangent")])
def test_faults_are_found_and_shrunk(tmp_path, fault, said):
    """Each case runs in a worker, to which the fault goes by `--work`."""
    break_it = f"import os, numpy as np, minigrad as mg; mg.tanh.{fault}"
    done = fuzz("--cases", "150", "--work", str(tmp_path / "case.py"), json.dumps([0, ["mg.tanh"]]), break_it=break_it)
    if said == "died":
        assert done.returncode == -9 and "mg.tanh" in (tmp_path / "case.py").read_text()
        return
    report = json.loads(done.stdout)
    assert re.search(said, report["finding"]), report
    assert len(report["program"]) < 1500 and "y = mg.tanh(x0)" in report["program"]
