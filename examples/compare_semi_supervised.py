"""All semi-supervised methods with the same few labels, network and training, in one table and one chart.

    python -m examples.compare_semi_supervised                      # scikit-learn's digits, no download
    python -m examples.compare_semi_supervised --data mnist         # MNIST, from MINIGRAD_DATA or fetched; or cifar10
    python -m examples.compare_semi_supervised --data IMAGES        # images of your own; --labels 0: with all their labels

Some methods only, or one with other settings beside itself, each as it would be called alone:

    python -m examples.compare_semi_supervised --only supervised fixmatch "fixmatch --no-strong" "fixmatch --tau 0"

Killed, it goes on with --resume. Two rows have no part in the network: the ladder's is its own, of linear layers, and label
propagation has none.
"""
import dataclasses
import pathlib
import shlex
from typing import Literal

import numpy as np

from examples import semi_supervised
from methods.training import comparison, networks, plots
from methods.training.checkpoint import fingerprint
from methods.training.images import load
from methods.training.run import marked
from methods.training.settings import check, command, setting
from minigrad.data.folder import counted

MODULES = semi_supervised.MODULES  # in the order of the table


@dataclasses.dataclass
class Run:
    """Settings of the comparison."""

    data: str = "digits"  # "digits", "mnist", "cifar10", a folder with the files of these, or with images of your own
    device: str = "cpu"  # "cpu" or "cuda"
    seeds: int = setting(3, least=1)  # runs of each method: other labels, weights and batches; the spread is reported
    steps: int = setting(1500, least=1)  # of each training
    labels: int = setting(-1, least=-1)  # labelled images, of each class as many; 0: all of an image folder; -1: 50, or all
    batch: int = setting(32, least=2)  # labelled images in a step
    ratio: int = setting(3, least=1)  # unlabelled images in a step for each labelled one
    network: Literal["small", "residual", "wide"] = "small"  # "wide": Wide ResNet, the papers' with depth 28 and width 32
    width: int = setting(16, least=1)  # channels of the first convolution, or of the Wide ResNet's first group
    depth: int = setting(28, least=10)  # layers of the Wide ResNet
    ema: float = setting(0.97, least=0, below=1)  # decay of the weights' average that is tested
    only: tuple[str, ...] = ()  # methods, if wanted with settings: "ladder --variant gamma"; all methods if left out
    out: str = "runs/compare_semi_supervised"  # a folder for the runs, the table and the chart
    resume: bool = False  # skip what is finished, continue what is not


def one(run, row, seed):
    """The settings of one row's run with one seed; a row is a method's name, settings may follow as on a command line."""
    import tyro
    name, *changes = shlex.split(row)
    folder = pathlib.Path(run.out) / "-".join([name, *[change.strip("-") for change in changes], str(seed)])
    own = ("seeds", "only", "out")
    shared = {f.name: getattr(run, f.name) for f in dataclasses.fields(run) if f.name not in own}
    settings = dataclasses.replace(semi_supervised.settings(name), **shared, seed=seed, out=str(folder))
    found = tyro.cli(type(settings), default=settings, args=changes, prog=f'--only "{name} ..."') if changes else settings
    for key in ("data", "labels", "seed", "out", "resume"):
        if getattr(found, key) != getattr(settings, key):
            raise SystemExit(f'--only "{row}": --{key} is the same for all rows; give it outside')
    return found


def method_of(row):
    """The name of its method."""
    return row.partition(" ")[0]


def main(run):
    """Trains and tests all methods with all seeds. Returns a dict from method to its accuracies in per cent."""
    check(run)
    if not any("--network" in row for row in run.only):
        networks.note_idle_size(run, run.network)
    comparison.chosen(map(method_of, run.only), list(MODULES))
    rows = list(dict.fromkeys(run.only)) or list(MODULES)
    for settings in [one(run, row, 0) for row in rows]:
        check(settings)

    images = load(run.data, run.labels, 0)
    run = dataclasses.replace(run, labels=images.labels)
    print(images.description, flush=True)

    def jobs():
        for seed in range(run.seeds):
            drawn = load(run.data, run.labels, seed) if seed else images
            for row in rows:
                settings = one(run, row, seed)
                yield row, settings, lambda: 100 * semi_supervised.result(settings, method_of(row), drawn)

    def report(row, results):
        accuracy, seconds = results[-1]
        print(f"{row}, seed {len(results) - 1}: {accuracy:.2f} % in {seconds:.0f} s", flush=True)

    seen = fingerprint(images.names, images.x, images.y, images.unlabelled, images.test, images.test_y)
    found, out = comparison.compare(jobs(), run.resume, report, seen), marked(run.out)
    comparison.show_table(table(found), out)
    accuracies = {row: [accuracy for accuracy, _ in results] for row, results in found.items()}
    plots.bars(accuracies, out / "accuracies.png", "accuracy on the test images (%)", 100 / images.classes, "supervised")
    print(f"mean and spread of {counted(run.seeds, 'seed')}; runs, table and chart are in {run.out}")
    return accuracies


def table(found):
    """Rows: augmentation of both inputs, what becomes of the teacher's label, accuracy and time."""
    rows = [("method", "student's augmentation", "teacher's augmentation", "teacher's label", "accuracy (%)", "time")]
    for name, results in found.items():
        accuracy, seconds = np.array(results).T
        columns = MODULES[name].ROW if name in MODULES else ("", "", "")  # settings may change what these say
        rows.append((name, *columns, comparison.spread(accuracy, 2), f"{seconds.mean():.0f} s"))
    return rows


if __name__ == "__main__":
    command(main, Run, __doc__)
