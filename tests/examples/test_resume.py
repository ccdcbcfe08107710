"""Runs of an example that are killed or interrupted end with the same bits as one that is not; data of one's own."""
import dataclasses
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest

from methods.training.loop import train
from methods.training.method import Method
from methods.training.run import RunFolder
from methods.training.settings import setting
from minigrad import data, io as checkpoints, nn, optim
from minigrad.backend import random

Image = pytest.importorskip("PIL.Image")
for library in ("tyro", "tqdm", "matplotlib", "safetensors"):
    pytest.importorskip(library)
ROOT = pathlib.Path(__file__).parents[2]
FIGURES = ("episode.png", "curves.png", "embeddings.png")


def png(seed):
    content = io.BytesIO()
    strokes = np.kron(np.random.default_rng(seed).integers(0, 2, (7, 7), np.uint8) * 255, np.ones((15, 15), np.uint8))
    Image.fromarray(strokes).save(content, "PNG")
    return content.getvalue()


def lake_runs(folder):
    """Two one-shot runs of four classes, as a zip and as a folder."""
    with zipfile.ZipFile(folder / "all_runs.zip", "w") as archive:
        for r in (1, 2):
            order = np.random.default_rng(r).permutation(4)
            for i, c in enumerate(order):
                archive.writestr(f"run0{r}/training/class{i + 1:02}.png", png(10 * r + i))
                archive.writestr(f"run0{r}/test/item{i + 1:02}.png", png(10 * r + c + 100 * (i == 0)))
            archive.writestr(f"run0{r}/class_labels.txt", "".join(
                f"run0{r}/test/item{i + 1:02}.png run0{r}/training/class{c + 1:02}.png\n" for i, c in enumerate(order)))
        archive.extractall(folder / "runs")
    return folder / "all_runs.zip", folder / "runs"


class Example:
    """The example with a tiny network as a process of its own."""

    def __init__(self, folder, cache):
        self.folder, self.cache, self.lake = folder, cache, lake_runs(folder)

    def start(self, out, resume=False, lake=None):
        command = [sys.executable, "-m", "examples.prototypical_networks", "--steps", "220", "--width", "3", "--way", "4",
                   "--query", "1", "--episodes", "5",
                   "--out", str(self.folder / out)] + ["--resume"] * resume + ["--lake",
                                                                               str(self.lake[lake == "folder"])] * bool(lake)
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env={**os.environ, "MINIGRAD_CACHE": str(self.cache), "PYTHONPATH": str(ROOT)})

    def finish(self, out, **options):
        process = self.start(out, **options)
        said, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        return said

    def stop(self, out, at, number):
        """Sends a signal as soon as step `at` is logged; the exit code and what was printed."""
        process = self.start(out)
        try:
            while not any(m["step"] >= at for m in self.metrics(out)):
                assert process.poll() is None, process.communicate()[1]
                time.sleep(0.002)
            process.send_signal(number)
            said, _ = process.communicate(timeout=120)
        finally:
            process.kill()
        return process.returncode, said

    def metrics(self, out):
        path = self.folder / out / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines if line.endswith("}")]

    def checkpoint(self, out):
        arrays, facts = checkpoints.load(self.folder / out / "checkpoint.safetensors")
        return {k: (v.dtype.str, v.shape, v.tobytes()) for k, v in arrays.items()}, facts


def table(said):
    return [line for line in said.splitlines() if "-way" in line or "error rate" in line]


@pytest.fixture(scope="module")
def example(tmp_path_factory, cache_with_kernels):
    return Example(tmp_path_factory.mktemp("example"), cache_with_kernels)


@pytest.fixture(scope="module")
def whole(example):
    """What the uninterrupted run printed. It lies in "whole"."""
    return example.finish("whole", lake="zip")


def same_end(example, whole, out, said):
    assert example.checkpoint(out) == example.checkpoint("whole") and example.checkpoint(out)[1]["step"] == 220
    assert example.metrics(out) == example.metrics("whole") and [m["step"]
                                                                 for m in example.metrics(out)] == list(range(10, 221, 10))
    assert table(said) == table(whole) and len(table(said)) == 6 and "error rate" in table(said)[-1]
    assert all((example.folder / out / name).stat().st_size > 1000 for name in FIGURES)


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_killed_after_a_checkpoint(example, whole):
    code, _ = example.stop("killed", 110, signal.SIGKILL)
    step = example.checkpoint("killed")[1]["step"]
    assert code == -signal.SIGKILL and 100 <= step < 220 and not (example.folder / "killed" / "episode.png").exists()
    same_end(example, whole, "killed", example.finish("killed", resume=True, lake="folder"))


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_stopped_by_ctrl_c(example, whole):
    code, said = example.stop("stopped", 20, signal.SIGINT)
    step = example.checkpoint("stopped")[1]["step"]
    assert code == 130 and f"stopped after {step} steps; the same command with --resume continues\n" in said and 20 <= step < 100
    same_end(example, whole, "stopped", example.finish("stopped", resume=True, lake="folder"))


# -- the run folder --------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Settings:
    seed: int = 0
    steps: int = setting(10, free=True)


class Training(Method):
    """A run folder with a small network whose steps draw from every source of random numbers."""

    def __init__(self, path, resume=False, **settings):
        self.folder = RunFolder(path, Settings(**settings), resume)
        random.seed(0)
        super().__init__(None, nn.Linear(3, 2))
        self.rng, self.done = np.random.default_rng(1), []
        self.sampler = data.EpisodeSampler(np.arange(12.0).reshape(4, 3, 1), 2, 1, 1)

    def loss(self, batch, step):
        self.done.append(step)
        x = self.rng.normal(size=(2, 3)) + batch.support.mean()
        self.during(step)
        x = (x + random.generator().normal(size=(2, 3))).astype(np.float32)
        return (self.net(x) ** 2).mean(), {}

    def state(self):
        return {**super().state(), "rng": self.rng}

    def run(self, steps, during=lambda i: None, every=4):
        self.during = during
        train(self, self.sampler, {"optimizer": optim.Adam(self.net.parameters(), 0.1)}, steps, self.folder, save_every=every)
        return self.folder.checkpoint.read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_ctrl_c_in_the_middle_of_a_step_waits_for_its_end(tmp_path, capsys):
    before, expected = signal.getsignal(signal.SIGINT), Training(tmp_path / "whole").run(10)
    with pytest.raises(SystemExit) as stopped:
        Training(tmp_path / "stopped").run(10, lambda i: signal.raise_signal(signal.SIGINT) if i == 6 else None)
    assert stopped.value.code == 130 and "stopped after 7 steps" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) is before
    again = Training(tmp_path / "stopped", resume=True)
    assert again.run(10) == expected and again.done == [7, 8, 9]
    with pytest.raises(KeyboardInterrupt):  # a second one does not wait
        Training(tmp_path / "hasty").run(10, lambda i: [signal.raise_signal(signal.SIGINT) for _ in range(2)])
    assert not (tmp_path / "hasty" / "checkpoint.safetensors").exists()


def test_a_crash_goes_back_to_the_last_checkpoint(tmp_path):
    def crash(i):
        if i == 21:
            raise MemoryError

    expected = Training(tmp_path / "whole").run(30)
    with pytest.raises(MemoryError):
        Training(tmp_path / "crashed").run(30, crash, every=8)
    again = Training(tmp_path / "crashed", resume=True)
    assert again.run(30) == expected and again.done[0] == 16
    assert [m["loss"] for m in again.folder.history()] == [m["loss"]
                                                           for m in RunFolder(tmp_path / "whole", Settings(),
                                                                              True).history()]


def test_resuming_without_a_checkpoint_starts_the_log_anew(tmp_path):
    def crash(i):
        if i == 15:
            raise MemoryError

    with pytest.raises(MemoryError):
        Training(tmp_path / "run").run(20, crash, every=100)
    again = Training(tmp_path / "run", resume=True)
    again.run(20)
    assert [m["step"] for m in again.folder.history()] == [10, 20] and again.done[0] == 0


def test_a_torn_last_line_of_the_log_is_dropped(tmp_path):
    run = Training(tmp_path / "run")
    run.run(20)
    with open(run.folder.metrics, "a") as log:
        log.write('{"step": 30, "lo')
    again = Training(tmp_path / "run", resume=True)
    again.run(30)
    assert [m["step"] for m in again.folder.history()] == [10, 20, 30] and again.done[0] == 20


def test_runs_are_not_mixed_up(tmp_path):
    Training(tmp_path / "run").run(5)
    with pytest.raises(FileExistsError, match="--resume"):
        Training(tmp_path / "run")
    with pytest.raises(ValueError, match="other settings: seed"):
        Training(tmp_path / "run", resume=True, seed=1)
    prolonged = Training(tmp_path / "run", resume=True, steps=50)
    prolonged.run(6)
    assert prolonged.done == [5]
    content = (tmp_path / "run" / "checkpoint.safetensors").read_bytes()
    (tmp_path / "run" / "checkpoint.safetensors").write_bytes(content[:-10])
    with pytest.raises(ValueError, match="damaged"):
        Training(tmp_path / "run", resume=True).run(10)


# -- data of one's own -----------------------------------------------------------------------------------------------


def test_an_image_folder_and_a_zip_of_it_are_the_same_data(tmp_path):
    with zipfile.ZipFile(tmp_path / "own.zip", "w") as archive:
        for k in range(3):
            for i in range(4):
                archive.writestr(f"own/train/class {k}/{i}.png", png(10 * k + i))
        archive.writestr("own/readme.txt", "no image")
        archive.writestr("__MACOSX/own/train/class 0/._0.png", "no image either")
        archive.extractall(tmp_path / "folder", [n for n in archive.namelist() if not n.startswith("__")])
    (images, labels, names), other = (data.load_image_folder(path, 28, 1, under="own/train")
                                      for path in (tmp_path / "own.zip", tmp_path / "folder"))
    assert images.shape == (12, 1, 28, 28) and labels.tolist() == sorted([0, 1, 2] * 4) and names == ["class 0", "class 1",
                                                                                                      "class 2"]
    assert (images == other[0]).all() and (labels == other[1]).all() and names == other[2]
    episode = data.EpisodeSampler([images[labels == k] for k in range(3)], 3, 1, 2).sample()
    for image, label in zip(episode.query, episode.query_labels):
        assert any((image == own).all() for own in images[labels == episode.classes[label]])
    for path, error in ((tmp_path / "nowhere", FileNotFoundError), (tmp_path / "folder" / "own" / "readme.txt", ValueError)):
        with pytest.raises(error, match="image folder or zip|zip"):
            data.load_image_folder(path)


def test_one_shot_runs_from_a_zip_and_from_a_folder_are_the_same(tmp_path):
    ours, theirs = (data.load_lake_runs(path) for path in lake_runs(tmp_path))
    assert len(ours) == len(theirs) == 2
    for a, b in zip(ours, theirs):
        assert (a.support == b.support).all() and (a.query == b.query).all() and a.labels.tolist() == b.labels.tolist()
        same = [(a.support[label] == query).all() for label, query in zip(a.labels, a.query)]
        assert same == [False, True, True, True]
