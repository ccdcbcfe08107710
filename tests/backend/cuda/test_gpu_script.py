"""tests/gpu.sh: each test file has a part, and a part that fails does not stop the next one."""
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

FOLDER = pathlib.Path(__file__).parent
SCRIPT = FOLDER.parents[1] / "gpu.sh"
pytestmark = pytest.mark.skipif(sys.platform != "linux" or shutil.which("bash") is None, reason="bash and timeout are wanted")


def rehearsed(folder, python, seconds=540):
    """The exit status, and the results of the parts in the table, with a program in the place of Python."""
    environment = dict(os.environ, OUT=str(folder), PYTHON=python, TOTAL=str(seconds))
    done = subprocess.run(["bash", SCRIPT, "--rehearse"], env=environment, capture_output=True, text=True, timeout=60)
    rows = [line.split(" | ")[1] for line in (folder / "summary.md").read_text().splitlines()[2:] if line.startswith("|")]
    return done.returncode, rows


def test_all_parts_run(tmp_path):
    assert rehearsed(tmp_path, "true") == (0, ["passed"] * 9)
    status, results = rehearsed(tmp_path, "false")
    assert status == 1 and results == ["failed (1)"] * 8 + ["left out"]
    assert (tmp_path / "log.txt").read_text().count("=====") == 9


def test_without_time_nothing_runs(tmp_path):
    assert rehearsed(tmp_path, "true", 0) == (1, ["no time left"] * 9)


def test_each_test_file_has_a_part():
    named = set(re.findall(r"(?:\b|test_)(cuda_\w+)", SCRIPT.read_text()))
    assert named == {path.stem.removeprefix("test_") for path in FOLDER.glob("test_cuda_*.py")}
