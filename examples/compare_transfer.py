"""What a pretrained encoder is worth: accuracy against the number of labels, beside what needs no pretraining.

    python -m examples.compare_transfer                                        # CIFAR-10, EfficientNet-Lite0
    python -m examples.compare_transfer --data IMAGES --per-class 1 2 5        # images of your own
    python -m examples.compare_transfer --only prototypes ridge --draws 10     # some methods
    python -m examples.compare_transfer --only LP-FT --per-class 100 --draws 3 # fine-tuning, which takes minutes each time

Each draw takes other labels; the test pictures are the same. Killed, it goes on with --resume.
"""
import dataclasses
import pathlib

import numpy as np

from examples import semi_supervised, transfer
from methods.training import comparison, plots
from methods.training.evaluation import accuracy, deviation
from methods.training.images import Images
from methods.training.pictures import Preprocessing
from methods.training.run import marked
from methods.training.settings import check, command, note_idle, setting
from methods.transfer import baselines, features, finetune, linear, pictures
from minigrad.data.folder import counted

METHODS = (*linear.PROBES, "LP-FT", "LP-FT + WiSE-FT", "scratch", "HOG, SVM", "pixels")
SLOW = "LP-FT", "LP-FT + WiSE-FT"  # by one training, only on demand
PER_CLASS = 5, 10, 100
OTHERS = dict(per_class=(), draws=0, only=())  # settings that say which runs there are, and so nothing of one of them


@dataclasses.dataclass
class Run(finetune.Config):
    """Settings of the comparison."""

    data: str = "cifar10"  # "digits", "cifar10", "mnist", "fashion", a folder with files of these or images of your own
    classes: tuple[str, ...] = ()  # use pictures of these classes alone; all if left out
    encoder: str = "lite0"  # "lite0", a file or folder of published weights, or the folder of a run
    image_size: int = setting(0, least=0)  # pixels of the encoder's input; 0: those of its preprocessing
    whole: bool = True  # the encoder sees the whole picture, not its middle 7/8
    device: str = "cpu"  # "cpu" or "cuda"
    per_class: tuple[int, ...] = setting((), least=1)  # labels of each class; 5, 10 and 100, where there are so many, if left out
    draws: int = setting(3, least=1)  # of the labels; the spread is reported
    pool: int = setting(5000, least=0)  # pictures of a data set from which labels are drawn; 0: all
    test_images: int = setting(1000, least=0)  # of a data set, to test on; 0: all
    steps: int = setting(200, least=1)  # of fine-tuning
    scratch_steps: int = setting(500, least=1)  # of the network that begins at random, on 32 x 32 pixels
    only: tuple[str, ...] = ()  # methods; all but fine-tuning if left out
    out: str = "runs/compare_transfer"  # a folder for the runs, the table and the chart
    resume: bool = False  # skip what is finished


@dataclasses.dataclass
class Fit(Run):
    """One method with one draw of labels."""

    method: str = ""
    labels: int = 0  # of each class
    seed: int = 0


def main(run):
    """Fits all methods to all draws. Returns a dict from (method, labels of each class) to accuracies in per cent."""
    check(run)
    methods = comparison.chosen(run.only or [name for name in METHODS if name not in SLOW], list(METHODS))
    if not set(methods) & set(SLOW):
        note_idle(run, f"unless --only names {' or '.join(map(repr, SLOW))}", finetune.Config, "steps")
    if "scratch" not in methods:
        note_idle(run, "unless --only names 'scratch'", "scratch_steps")
    images, x = read(run)
    most = int(np.bincount(images.labels[images.train], minlength=len(images.classes)).min())
    counts = run.per_class or tuple(n for n in PER_CLASS if n <= most) or (most,)

    rows: dict[str, tuple[str, int]] = {}  # the method and the number of labels

    def jobs():
        for labels in counts:
            for seed in range(run.draws):
                chosen = images.chosen(labels, seed)
                for name in dict.fromkeys("LP-FT" if name in SLOW else name for name in methods):
                    folder = pathlib.Path(run.out) / f"{name}-{labels}-{seed}"
                    own = dict(out=str(folder), method=name, labels=labels, seed=seed)
                    settings = Fit(**{**vars(run), **OTHERS, **own})
                    row = f"{name}, {labels} of each class"
                    rows[row] = name, labels
                    yield row, settings, lambda: [100 * value for value in one(settings, images, x, chosen)]

    def report(row, results):
        (values, seconds), (name, labels) = results[-1], rows[row]
        found = ", ".join(f"{name} {value:.1f} %" for name, value in zip(SLOW if name in SLOW else (name,), values))
        print(f"{labels} of each class, draw {len(results)}: {found} in {seconds:.0f} s", flush=True)

    found, out = comparison.compare(jobs(), run.resume, report, images.fingerprint), marked(run.out)
    accuracies = {(name, rows[row][1]): [values[i] for values, _ in results] for row, results in found.items()
                  for i, name in enumerate(SLOW if rows[row][0] in SLOW else rows[row][:1]) if name in methods}
    comparison.show_table(table(accuracies, counts, methods), out)
    draw(accuracies, counts, methods, len(images.classes), out / "accuracies.png")
    print(f"mean and spread of {counted(run.draws, 'draw')} of labels; runs, table and chart are in {run.out}")
    return accuracies


def read(run):
    """The pictures, and the encoder's features of all. SystemExit: there are none, or too few of a class."""
    images = pictures.load(run.data, run.test_images, run.pool, run.classes)
    print(images.description, flush=True)
    encoder, preprocessing = transfer.load_encoder(run)
    try:
        for count in run.per_class:
            images.chosen(count, 0)
        which = np.sort(np.concatenate([images.train, images.test]))
        x, images = features.encoded(encoder, preprocessing, images, which)
        for count in run.per_class:  # once more, as broken pictures are left out now
            images.chosen(count, 0)
    except ValueError as error:
        given = f" --per-class {' '.join(map(str, run.per_class))}" if run.per_class else ""
        raise SystemExit(f"--data {run.data}{given}: {error}") from None
    return images, x


def one(settings, images, x, chosen):
    """The accuracy of one fit, in a list; with fine-tuning those of both `SLOW` methods."""
    y, test_y, name = images.labels[chosen], images.labels[images.test], settings.method
    if name in linear.PROBES:
        return [accuracy(linear.PROBES[name](x[chosen], y, len(images.classes)).scores(x[images.test]), test_y)]
    if name in SLOW:
        return list(transfer.tuned(settings, images, x, chosen).values())
    small, small_test = (baselines.pixels(images.pictures, part) for part in (chosen, images.test))
    if name == "pixels":
        return [accuracy(linear.logistic(small, y, len(images.classes)).scores(small_test), test_y)]
    if name == "scratch":
        return [from_scratch(settings, images, small, y, small_test, test_y)]
    shapes, shapes_test = (baselines.gradient_histograms(part) for part in (small, small_test))
    return [float((baselines.support_vectors(shapes, y, shapes_test) == test_y).mean())]


def from_scratch(settings, images, small, y, small_test, test_y):
    """The accuracy of a small network that begins at random, trained with weak augmentation on 32 x 32 pixels."""
    shape = (-1, 3, baselines.SIZE, baselines.SIZE)
    few = Images(small.reshape(shape), y, small.reshape(shape), small_test.reshape(shape), test_y, "", images.classes,
                 Preprocessing(baselines.SIZE, 3))
    run = semi_supervised.settings("supervised")
    run = dataclasses.replace(run, steps=settings.scratch_steps, seed=settings.seed, out=f"{settings.out}/training",
                              batch=min(run.batch, len(y)), resume=(pathlib.Path(settings.out) / "training").exists())
    return semi_supervised.result(run, "supervised", few)


def table(accuracies, counts, methods):
    """A row for each method, a column for each number of labels."""
    return [("labels of each class", *map(str, counts)), *(
        (name, *(comparison.spread(accuracies[name, n], 1) if (name, n) in accuracies else "" for n in counts))
        for name in methods)]


def draw(accuracies, counts, methods, classes, path):
    """Accuracy against the number of labels, with the spread; of one number bars."""
    label = "accuracy on the test pictures (%)"
    if len(counts) == 1:
        plots.bars({name: values for (name, _), values in accuracies.items()}, path, label, 100 / classes)
        return
    with plots.figure(path, size=(6.4, 4.4)) as axes:
        axis = axes[0, 0]
        for name in methods:
            if at := [n for n in counts if (name, n) in accuracies]:
                axis.errorbar(at, [np.mean(accuracies[name, n]) for n in at], [deviation(accuracies[name, n]) for n in at],
                              marker="o", capsize=3, label=name)
        axis.set(xlabel="labels of each class", ylabel=label)
        plots.logarithmic(axis, counts)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)


if __name__ == "__main__":
    command(main, Run, __doc__)
