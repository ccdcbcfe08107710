"""Families that need training, tried under one time budget.

Each is trained without each of three parts of the labelled pictures in turn, for equally many seconds, and compared with the
best probe of frozen features on the same parts. One that is clearly worse on the first part is stopped there. Time for the
final training of the winner is reserved from the start. What is finished is kept: the same command goes on where it stopped.
"""
import contextlib
import dataclasses
import io
import json
import pathlib
import shutil
import tempfile
import time
from typing import Any

import numpy as np

from methods.training.checkpoint import fingerprint
from methods.training.run import RunFolder, read_object, write_whole
from methods.training.settings import RunSettings
from methods.transfer.linear import Linear

from . import left_out, probes
from .families import Task
from .probes import Estimate
from .small_families import SelfSupervised

PARTS = 3
LEAST_SECONDS = 12.0  # of a training that is worth to be begun
SAVE_SECONDS = 20.0  # between checkpoints
PRETRAINING = 3  # how many times as long as one part's training it may be: it is one for all parts


@dataclasses.dataclass
class Trial:
    """What a family reached. Args: estimate: of it; reference: of the probe on the same parts."""

    estimate: Estimate
    reference: Estimate
    family: Any = None
    steps: int = 0

    def better(self, y: np.ndarray) -> bool:
        """Whether left-out labels are more likely by it than by the reference, by more than a standard error.

        One that was stopped is not.
        """
        tried = self.estimate.tried()
        if len(tried) < len(self.reference.tried()) or len(tried) < 2:
            return False
        d = self.estimate.losses(y) - self.reference.losses(y)
        return bool(d.mean() < -d.std(ddof=1) / np.sqrt(len(d)))


class Trials:
    """The trials of a folder, in `out`.

    Args:
        probe: the best one of frozen features, whose slope is taken for the families', too (see `left_out`).
        share: of the classes among new pictures, (classes,).
        end: when all must be done, by `time.monotonic()`; reserve: seconds that are needed after the final training.
    """

    def __init__(self, task: Task, probe: Estimate, share: np.ndarray, out: pathlib.Path, end: float, reserve: float):
        self.task, self.probe, self.share, self.out, self.end = task, probe, share, out, end - reserve
        self.x = task.features.x(task.known)
        self.parts = left_out.partition(task.y, PARTS)
        self.every = np.arange(len(task.y))
        digests = [task.features.keys[i] for i in task.known]
        key = fingerprint(digests, task.y, len(task.rest), task.classes, task.reader.key, task.seed, task.device)
        plan = out / "plan.json"
        if not plan.exists() or read_object(plan).get("key") != key:
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir(parents=True)
            write_whole(plan, json.dumps({"key": key, "steps": {}}))
        self.plan = plan

    def steps(self, name: str, family: Any, seconds: float) -> tuple[int, int]:
        """Steps of a training of so many seconds, and between checkpoints; measured once, then read from the plan."""
        plan = read_object(self.plan)
        if name not in plan["steps"]:
            took = self._seconds_a_step(family)
            plan["steps"][name] = max(2, int(seconds / took)), max(1, min(100, int(SAVE_SECONDS / took)))
            write_whole(self.plan, json.dumps(plan))
        return tuple(plan["steps"][name])

    def _seconds_a_step(self, family, steps=4):
        """Of a few steps after the first ones, which take longer."""
        took = 0.0
        for count in (1, steps):
            with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
                began = time.monotonic()
                family.train(self.every, count, folder, 100)
                took = (time.monotonic() - began) / count
        return took

    def run(self, families: list[Any]) -> list[Trial]:
        """Of all families for which there is time."""
        found = []
        for i, family in enumerate(families):
            seconds = self.seconds(families[i:])
            if seconds < LEAST_SECONDS and not (self.out / _folder(family)).exists():
                break
            print(f"trying {family.name}", flush=True)
            trial = self.pretrained if isinstance(family, SelfSupervised) else self.trial
            found.append(trial(family, seconds))
        return found

    def seconds(self, rest: list[Any]) -> float:
        """Seconds of one part's training of the next family: an equal share among as many as get enough, and the final one."""
        left = max(0.0, self.end - time.monotonic())
        cost = 1
        for i, family in enumerate(rest):
            cost += PRETRAINING if isinstance(family, SelfSupervised) else len(self.parts)
            if i and left / cost < 2 * LEAST_SECONDS:
                return left / (cost - (PRETRAINING if isinstance(family, SelfSupervised) else len(self.parts)))
        return left / cost

    def trial(self, family: Any, seconds: float) -> Trial:
        """Trains a family without each part in turn."""
        task, began = self.task, time.monotonic()
        scores, reference = (np.full((len(task.y), len(task.classes)), np.nan) for _ in range(2))
        steps, save_every = self.steps(family.name, family, seconds)
        curve, note = [], f"{steps} steps"
        for part in self.parts:  # all of them, so that a family that is stopped has fewer
            learn = np.setdiff1d(self.every, part)
            probe = self.probe.fit(self.x[learn], task.y[learn], len(task.classes))
            reference[part] = probe.scores(self.x[part]) / left_out.spread(probe, self.x)
        for k, part in enumerate(self.parts):
            folder = self.out / _folder(family) / f"part {k}"
            scores[part] = self._part(family, np.setdiff1d(self.every, part), part, steps, save_every, folder)
            curve = curve or RunFolder(folder, RunSettings(), True).history()
            mine, other = (s[part].argmax(1) == task.y[part] for s in (scores, reference))
            ahead, behind = int((mine & ~other).sum()), int((~mine & other).sum())
            if k == 0 and len(self.parts) > 1 and behind - ahead > 2 * np.sqrt(ahead + behind):
                note += ", stopped after the first part"
                break
        tried = np.flatnonzero(np.isfinite(scores).all(1))
        mine, other = (int((s[tried].argmax(1) == task.y[tried]).sum()) for s in (scores, reference))
        note += f"; {mine} of {len(tried)} left-out ones right, where {self.probe.name} has {other} of the same"
        gain = left_out.gain(self.probe.slope, len(self.parts))
        estimate = Estimate(family.name, family.about, scores, gain, time.monotonic() - began, curve=curve, note=note)
        return Trial(estimate, dataclasses.replace(self.probe, scores=reference), family, steps)

    def _part(self, family, learn, part, steps, save_every, folder):
        """Scores of a part by what learnt from the rest; kept in the folder."""
        kept = folder / "scores.npy"
        if kept.exists():
            return np.load(kept)
        family.train(learn, steps, str(folder), save_every)
        found, content = family.scores(str(folder), self.task.known[part]), io.BytesIO()
        np.save(content, found)
        write_whole(kept, content.getvalue())
        for trained in folder.glob("*.safetensors"):
            trained.unlink()
        return found

    def pretrained(self, family: SelfSupervised, seconds: float) -> Trial:
        """Trains an encoder once, without labels, and reads its features by probes."""
        began, folder = time.monotonic(), self.out / _folder(family)
        steps, save_every = self.steps(family.name, family, seconds * PRETRAINING)
        curve = family.train(self.every, steps, str(folder), save_every)
        found = probes.estimates(family.features(str(folder)), self.task.y, len(self.task.classes))
        best = probes.best([e for e in found if isinstance(e.model, Linear)], self.task.y, self.share)
        estimate = dataclasses.replace(best, name=f"{family.name} and {best.name}", about=family.about, note=f"{steps} steps",
                                       seconds=time.monotonic() - began, curve=curve)
        return Trial(estimate, self.probe, family, steps)

    def winner(self, trials: list[Trial]) -> Estimate:
        """The best trial that is better than the probe, trained on all labels; else the probe."""
        better = [trial for trial in trials if trial.better(self.task.y)]
        if not better:
            return self.probe
        best = min(better, key=lambda trial: trial.estimate.loss(self.task.y, self.share))
        folder = self.out / _folder(best.family) / "final"
        if isinstance(best.family, SelfSupervised):
            best.family.finish(best.estimate.model, str(self.out / _folder(best.family)), str(folder))
        else:
            print(f"training {best.family.name} on all labels", flush=True)
            best.family.train(self.every, best.steps, str(folder), self.steps(best.family.name, best.family, 0)[1])
        best.estimate.model = best.family.finished(str(folder))
        return best.estimate


def _folder(family):
    return family.name.replace(" ", "_")
