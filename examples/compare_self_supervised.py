"""All self-supervised methods on the same pictures, by a linear probe, nearest neighbours and fine-tuning with few labels.

    python -m examples.compare_self_supervised                                   # CIFAR-10, some minutes a method
    python -m examples.compare_self_supervised --data fashion --only 'random weights, mae' mae
    python -m examples.compare_self_supervised --data mnist --network mlp --no-tuning-augment --only 'random weights' denoising
    python -m examples.compare_self_supervised --data IMAGES --steps 500         # a folder of your own, a sub-folder a class
    python -m examples.compare_self_supervised --ablations                       # what each method cannot do without

`random weights` (also of the encoders that `mae` and `cpc_images` have), `supervised` (all labels) and `pixels` stand for
comparison. Killed, it goes on with --resume.
"""
import dataclasses
import pathlib
from typing import Literal

import numpy as np

from examples import self_supervised
from methods.self_supervised import METHODS, pictures
from methods.self_supervised.evaluation import Tuning, fine_tuned, nearest, worth
from methods.training import comparison, encoders, networks, plots
from methods.training.checkpoint import fingerprint
from methods.training.evaluation import accuracy
from methods.training.data_sets import scaled
from methods.training.images import or_default
from methods.training.run import marked
from methods.training.settings import check, command, setting
from methods.transfer import linear
from minigrad import data

ROWS = {name: (name, {}) for name in METHODS} | {
    "simsiam": ("byol", dict(gamma=0.0)), "barlow twins": ("vicreg", dict(barlow=True))}
ABLATIONS = {
    "simclr, crop alone": ("simclr", dict(colour=False)), "simclr, colour alone": ("simclr", dict(crop=False)),
    "byol, no predictor": ("byol", dict(predictor=False)), "dino, no centring": ("dino", dict(centre=1.0)),
    "dino, no sharpening": ("dino", dict(tau_t=1.0, tau_t_last=1.0)),
    "exemplar, shifts alone": ("exemplar", dict(shifts_alone=True))}
RANDOM = {"random weights": "simclr", "random weights, mae": "mae", "random weights, cpc_images": "cpc_images"}
REFERENCES = *RANDOM, "pixels"
OTHERS = dict(seeds=0, only=(), ablations=False)  # settings that say which runs there are, and so nothing of one of them
LABELS = 500  # for fine-tuning, if nothing is said
MEASURES = "probe", "k nearest", "fine-tuned"


@dataclasses.dataclass
class Run:
    """Settings of the comparison."""

    data: str = "cifar10"  # "digits", "mnist", "fashion", "cifar10", a folder with files of these or with pictures of your own
    device: str = "cpu"  # "cpu" or "cuda"
    steps: int = setting(1000, least=1)  # of each training
    batch: int = setting(128, least=2)  # pictures in a step
    network: Literal["residual", "small", "wide", "resnet18", "vit", "mlp"] = "residual"  # the encoder
    width: int = setting(16, least=1)  # its first channels; of "vit" an 8th of a patch's numbers, of "mlp" a 32nd of a layer's
    depth: int = setting(10, least=1)  # layers of "wide", blocks of "vit"
    labels: int = setting(-1, least=-1)  # in all, for fine-tuning, of each class as many; 0: all; -1: 500, or all of fewer
    tuning_steps: int = setting(300, least=1)  # of fine-tuning, each of its three trainings
    tuning_augment: bool = True  # of fine-tuning: pictures are shifted at random
    seeds: int = setting(1, least=1)  # how often each method is trained
    only: tuple[str, ...] = ()  # rows; all if left out
    ablations: bool = False  # methods without a part, too
    out: str = "runs/compare_self_supervised"  # a folder for the runs, the table and the chart
    resume: bool = False  # skip what is finished


@dataclasses.dataclass
class Fit(Run):
    """One row with one seed."""

    row: str = ""
    seed: int = 0


def main(run):
    """Trains and tests all rows. Returns a dict from a row to its accuracies in per cent, a list of `MEASURES` a seed."""
    check(run)
    networks.note_idle_size(run, run.network)
    rows = comparison.chosen(run.only, [*REFERENCES, *ROWS, *(ABLATIONS if run.ablations else ())])
    images = pictures.load(run.data)
    print(images.description, flush=True)
    if not len(images.test):
        raise SystemExit(f"--data {run.data}: the methods are compared by classes, and none are known")
    run, learnt_from = with_labels(run, images)

    def jobs():
        for name in rows:
            for seed in range(run.seeds):
                folder = pathlib.Path(run.out) / f"{name.replace(', ', '-').replace(' ', '_')}-{seed}"
                settings = Fit(**{**vars(run), **OTHERS, "out": str(folder), "row": name, "seed": seed})
                yield name, settings, lambda: one(settings, images)

    def report(name, results):
        values, seconds = results[-1]
        shown = ", ".join(f"{what} {value:.1f} %" for what, value in zip(MEASURES, values))
        print(f"{name}, {len(results)}: {shown} in {seconds:.0f} s", flush=True)

    seen = fingerprint(images.names, images.x, images.y, images.test, images.test_y)
    found, out = comparison.compare(jobs(), run.resume, report, seen), marked(run.out)
    accuracies = {name: [values for values, _ in results] for name, results in found.items()}
    comparison.show_table([("", *MEASURES[:2], f"fine-tuned, {learnt_from} labels"), *(
        (name, *(comparison.spread([row[i] for row in values], 1) for i in range(len(MEASURES))))
        for name, values in accuracies.items())], out)
    baseline = next((name for name in RANDOM if name in accuracies), None)
    for i, figure, label in ((0, "probe", "of a linear probe"), (2, "tuned", f"fine-tuned with {learnt_from} labels")):
        plots.bars({name: [row[i] for row in values] for name, values in accuracies.items()}, out / f"{figure}.png",
                   f"accuracy {label} (%)", 100 / len(images.names), baseline)
    print(f"runs, table and charts are in {run.out}")
    return accuracies


def with_labels(run, images):
    """The run with the labels to fine-tune with, 0 for all, and how many these are. SystemExit: there are not so many."""
    least = len(images.names)
    sizes = np.bincount(images.y[images.labelled], minlength=least)
    labels, why = or_default(run.labels, LABELS, sizes)
    most = least * sizes.min()
    if why:
        print(f"fine-tuned with all {sizes.sum()} labels{why}", flush=True)
    if labels and not least <= labels <= most:
        raise SystemExit(f"--labels {labels}: choose {least} to {most}; there are as many of each of {least} classes, and "
                         f"the smallest has {most // least} pictures; --labels 0 uses all")
    return dataclasses.replace(run, labels=labels), labels or sizes.sum()


def one(fit, images):
    """The `MEASURES` of one row with one seed, in per cent."""
    x, y, test, test_y, classes = self_supervised.whole(images)
    some = images.labelled
    if fit.labels:
        some = some[data.balanced_subset(images.y[some], fit.labels, fit.seed, images.names)]
    few, few_y = images.x[some], images.y[some]
    if fit.row == "pixels":
        flat, flat_test, small = (scaled(a).reshape(len(a), -1) for a in (x, test, few))
        scores = [linear.ridge(flat, y, classes).scores(flat_test), nearest(flat, y, flat_test, classes),
                  linear.ridge(small, few_y, classes).scores(flat_test)]
        return [100 * accuracy(s, test_y) for s in scores]
    method, changes = (ROWS | ABLATIONS).get(fit.row) or (RANDOM[fit.row], {})
    training, tuning = (pathlib.Path(fit.out) / part for part in ("training", "tuning"))
    settings = dataclasses.replace(self_supervised.settings(method), data=fit.data, device=fit.device, steps=fit.steps,
                                   batch=fit.batch, network=fit.network, width=fit.width, depth=fit.depth, seed=fit.seed,
                                   out=str(training), **changes, resume=(training / encoders.CHECKPOINT).exists())
    if fit.row in RANDOM:
        encoder = self_supervised.build(settings, images)[0].net
        found = worth(encoder, x, y, test, test_y, classes)
    else:
        found = self_supervised.main(settings)
        encoder, _ = encoders.load_encoder(settings.out, device=fit.device)
    config = Tuning(fit.tuning_steps, augment=fit.tuning_augment, seed=fit.seed)
    tuned = fine_tuned(encoder, few, few_y, classes, config, tuning)
    return [100 * found["probe"], 100 * found["knn"], 100 * accuracy(encoders.encode(tuned, test), test_y)]


if __name__ == "__main__":
    command(main, Run, __doc__)
