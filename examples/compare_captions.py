"""The three tasks that CLIP's authors compare, by zero-shot accuracy against the pictures processed.

    python -m examples.compare_captions                                    # digits in colours, a minute
    python -m examples.compare_captions --data clipart --encoder lite0 --steps 1500
    python -m examples.compare_captions --data cifar10 --encoder lite0 --image-size 128 --steps 500 --batch 128 --dropout 0.5
    python -m examples.compare_captions --only contrastive caption --seeds 3

Writing the caption, predicting its bag of words, and matching captions with pictures start from the same image tower and see
the same pictures in the same order. Killed, it goes on with --resume.
"""
import dataclasses
import pathlib

import numpy as np

from examples import clip
from methods.training import comparison, plots
from methods.training.run import marked
from methods.training.settings import check, command, note_idle, setting
from methods.vision_language import TASKS, pictures

TITLES = {"contrastive": "contrastive", "caption": "caption, word by word", "bag_of_words": "bag of words"}
PASSED = ("data", "device", "encoder", "image_size", "steps", "batch", "lr", "text_width", "text_layers", "dropout", "held_out",
          "unseen")  # to each run


@dataclasses.dataclass
class Run:
    """Settings of the comparison."""

    data: str = "digits"  # as of examples.clip
    device: str = "cpu"  # "cpu" or "cuda"
    encoder: str = ""  # as of examples.clip; frozen
    image_size: int = setting(0, least=0)  # pixels of its input; 0: those of its preprocessing
    steps: int = setting(400, least=10)  # of each training
    batch: int = setting(64, least=2)  # pictures in a step
    lr: float = setting(1e-3, above=0)
    text_width: int = setting(64, least=1)  # numbers a piece, in the text tower
    text_layers: int = setting(1, least=1)  # its blocks
    dropout: float = setting(0.3, least=0, below=1)  # of a picture's features
    held_out: int = setting(300, least=2)  # pictures to test on
    unseen: tuple[str, ...] = ()  # as of examples.clip
    tests: int = setting(12, least=2)  # how often the accuracy is measured while training
    seeds: int = setting(1, least=1)  # how often each task is trained
    only: tuple[str, ...] = ()  # tasks; all if left out
    out: str = "runs/compare_captions"  # a folder for the runs, the table and the figure
    resume: bool = False  # skip what is finished


@dataclasses.dataclass
class Fit(Run):
    """One task with one seed."""

    row: str = ""
    seed: int = 0


def main(run):
    """Trains and tests. Returns from each task to a list of curves, of (pictures processed, accuracy in per cent, seconds)."""
    check(run)
    if not run.encoder:
        note_idle(run, "without --encoder", "image_size")
    rows = comparison.chosen(run.only, list(TASKS))
    task = pictures.load(run.data, run.held_out, unseen=run.unseen)
    print(task.description, flush=True)
    if not task.classes:
        raise SystemExit(f"--data {run.data}: the tasks are compared by classes, and none are known")

    def jobs():
        for name in rows:
            for seed in range(run.seeds):
                folder = pathlib.Path(run.out) / f"{name}-{seed}"
                settings = Fit(**{**vars(run), "seeds": 0, "only": (), "out": str(folder), "row": name, "seed": seed})
                yield name, settings, lambda: one(name, seed, folder)

    def one(name, seed, folder):
        out = folder / "training"
        passed = [field for field in PASSED if name != "bag_of_words" or not field.startswith("text_")]  # which reads no texts
        settings = clip.Run(**{field: getattr(run, field) for field in passed}, task=name, seed=seed, out=str(out),
                            test_every=max(1, run.steps // run.tests), resume=(out / "checkpoint.safetensors").exists())
        clip.main(settings)
        return [[line["step"] * run.batch, 100 * line["zero-shot"], line["seconds"]]
                for line in clip.RunFolder(out, settings, True).history() if "zero-shot" in line]

    def report(name, results):
        curve, seconds = results[-1]
        print(f"{name}, {len(results)}: zero-shot {curve[-1][1]:.1f} % after {curve[-1][0]} pictures, in {seconds:.0f} s",
              flush=True)

    found, out = comparison.compare(jobs(), run.resume, report, task.fingerprint), marked(run.out)
    curves = {name: [curve for curve, _ in results] for name, results in found.items()}
    means = {name: np.mean([np.array(curve) for curve in of_seeds], 0) for name, of_seeds in curves.items()}
    comparison.show_table([("task", "accuracy at the end, %", "pictures until contrastive is as good", "part of all"), *(
        (TITLES[name], f"{mean[-1, 1]:.1f}", *reached(means, mean)) for name, mean in means.items())], out)
    draw(means, 100 / len(task.classes), out / "accuracies.png")
    print(f"runs, table and accuracies.png are in {run.out}")
    return curves


def reached(means, mean):
    """After how many pictures the contrastive task is as good as this one at its best, and as a part of all of these."""
    if "contrastive" not in means:
        return "", ""
    processed, accuracies, _ = means["contrastive"].T
    at = np.flatnonzero(accuracies >= mean[:, 1].max())
    return (f"{processed[at[0]]:.0f}", f"{processed[at[0]] / mean[-1, 0]:.2f}") if len(at) else ("never", "")


def draw(means, chance, path):
    """The tasks' accuracies against the pictures processed, and against the seconds."""
    with plots.figure(path, 1, 2, (10, 4), sharey=True) as axes:
        for axis, column, label in zip(axes[0], (0, 2), ("pictures processed", "seconds")):
            for name, mean in means.items():
                axis.plot(mean[:, column], mean[:, 1], marker=".", label=TITLES[name])
            axis.axhline(chance, color="grey", linestyle=":", label="chance")
            axis.set(xlabel=label)
            plots.logarithmic(axis)
            axis.grid(alpha=0.3)
        axes[0, 0].set_ylabel("accuracy, zero-shot (%)")
        axes[0, 0].legend()


if __name__ == "__main__":
    command(main, Run, __doc__)
