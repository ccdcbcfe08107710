"""tests/gpu.sh: each test file has a part, and a part that fails does not stop the next one."""
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

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


def test_the_summary_names_tests(tmp_path):
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\n[ "$2" = pytest ] && echo "failed: a test" > "$NAMES"\nexit 1\n')
    python.chmod(0o755)
    rehearsed(tmp_path, str(python))
    assert (tmp_path / "summary.md").read_text().count("failed: a test") == 7  # the parts that run tests


@pytest.mark.parametrize("workers", ["0", "1"])
def test_tests_that_fail_or_hang_are_named_at_once(tmp_path, workers):
    pytest.importorskip("xdist")
    (tmp_path / "test_two.py").write_text("import time\ndef test_fails(): assert 0\ndef test_hangs(): time.sleep(60)\n")
    names, found = tmp_path / "names", ""
    environment = dict(os.environ, NAMES=str(names), PYTHONPATH=str(SCRIPT.parents[1]))
    environment.pop("PYTEST_XDIST_WORKER", None)
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", tmp_path, "-n", workers, "-p",
               "tests.backend.cuda.names", tmp_path / "test_two.py"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True) as running:
        began = time.monotonic()
        while "no end" not in found or "hangs" not in found:
            assert running.poll() is None and time.monotonic() < began + 40
            found = names.read_text() if names.exists() else ""
            time.sleep(0.05)
        os.killpg(running.pid, signal.SIGKILL)
    assert found == "failed: test_two.py::test_fails\nno end: test_two.py::test_hangs\n"
