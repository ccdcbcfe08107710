"""An encoder from pictures without labels, by one of the self-supervised methods; labels only tell what its features are worth.

    python -m examples.self_supervised simclr                      # CIFAR-10, from MINIGRAD_DATA or fetched
    python -m examples.self_supervised byol --data IMAGES          # a folder of pictures of your own, flat or not
    python -m examples.self_supervised simclr --steps 4000 --out runs/long
    python -m examples.self_supervised simclr --help               # the method's settings; the other methods likewise

What it has learnt is of use at once:

    python -m examples.embed IMAGES --encoder runs/self_supervised/simclr                 # features, as CSV or npz
    python -m examples.transfer --data IMAGES --encoder runs/self_supervised/simclr       # a classifier from a few labels

`supervised` trains with all labels on the same frame, for comparison.
"""
import dataclasses
from typing import Literal

import numpy as np

import minigrad as mg
from methods.self_supervised import METHODS, pictures
from methods.self_supervised.base import Batches, Task
from methods.self_supervised.evaluation import draw_map, worth
from methods.training import encoders, networks, plots
from methods.training.checkpoint import fingerprint
from methods.training.data_sets import scaled
from methods.training.loop import train
from methods.training.run import RunFolder
from methods.training.settings import RunSettings, check, note_idle, of_method, report_errors, setting, subcommands


@dataclasses.dataclass
class Run(RunSettings):
    """Settings of the run."""

    data: str = "cifar10"  # "digits", "mnist", "fashion", "cifar10", a folder with files of these or with pictures of your own
    out: str = "runs/self_supervised"  # the run's folder
    classes: tuple[str, ...] = ()  # learn from pictures of these classes alone; all if left out
    pictures: int = setting(0, least=0)  # learn from at most so many pictures; 0: all
    size: int = setting(32, least=4)  # pixels to which pictures of your own are scaled
    steps: int = setting(1000, least=1, free=True)  # of the training
    batch: int = setting(256, least=2)  # pictures in a step, each seen in several views
    optimizer: Literal["adam", "sgd", "lars"] = "adam"  # "sgd": with Nesterov momentum 0.9
    lr: float = setting(1e-3, least=0)  # rises in the first tenth of the steps, then falls along a cosine
    weight_decay: float = setting(1e-2, least=0)  # of the kernels, times the learning rate
    network: Literal["residual", "small", "wide", "resnet18", "vit", "mlp"] = "residual"  # the encoder
    width: int = setting(16, least=1)  # its first channels; of "vit" an 8th of a patch's numbers, of "mlp" a 32nd of a layer's
    depth: int = setting(10, least=1)  # layers of "wide", blocks of "vit"
    flip: Literal["auto", "yes", "no"] = "auto"  # views are mirrored at random; "auto": coloured pictures and clothes alone
    test_every: int = setting(0, least=0, free=True)  # steps between tests of the features; 0: a tenth of all


def settings(name):
    """The settings of a run with the method of this name, and their defaults for short runs."""
    return of_method(name, METHODS[name], Run)


def build(run, images):
    """The method that the run's settings describe, ready to be trained, and its encoder's description."""
    mg.random.seed(run.seed)
    channels, size = images.x.shape[1:3]
    module = METHODS[run.method]
    if hasattr(module, "architecture"):
        architecture = module.architecture(run, channels, size)
    else:
        architecture = networks.architecture(run.network, channels, size, 0, 0.0, run.width, run.depth)
    flip = run.flip == "yes" or run.flip == "auto" and (channels == 3 or "Fashion" in images.description)
    task = Task(size, channels, len(images.x), min(run.batch, len(images.x)), run.steps, len(images.names), flip, run.seed)
    method = module.Objective(run, architecture.build().to(run.device), task)
    return method, encoders.description(architecture, images.preprocessing, method.useful)


def main(run):
    """Trains and tests the features. Returns a dict of their accuracies, empty where no labels are known."""
    check(run)
    images = pictures.load(run.data, run.size, run.classes)
    if not images.files:
        note_idle(run, f"with --data {run.data}, whose pictures have a size of their own", "size")
    learnt = images.limited(run.pictures)
    if len(learnt.x) < 2:
        raise SystemExit(f"--pictures {run.pictures}: choose 2 or more, or 0 for all" if len(images.x) > 1 else
                         f"--data {run.data}: there is one picture to learn from, and two or more are needed")
    print(images.description, *([f"learning from {len(learnt.x)} of them"] if learnt is not images else []), sep="\n")
    folder = RunFolder(run.out, run, run.resume)
    if getattr(METHODS[run.method].Objective, "needs_labels", False) and (learnt.y < 0).any():
        raise SystemExit(f"{run.method} needs the class of every picture: {np.sum(learnt.y < 0)} have none")
    if run.batch > len(learnt.x):
        print(f"--batch {run.batch}: there are {len(learnt.x)} pictures, so a step takes all of them")
    method, about = build(run, learnt)
    tested = probed(images)
    every = run.test_every or max(1, run.steps // 10)
    train(method, Batches(learnt.x, learnt.y, method.task.batch, run.seed),
          method.optimizers(run.optimizer, run.lr, run.weight_decay), run.steps, folder, classifier=about,
          evaluate=(lambda step: worth(method.encoder, *tested)) if tested else None, evaluate_every=every,
          data=fingerprint(learnt.x, learnt.y))
    encoders.export(method.encoder, images.preprocessing, folder.path / "encoder")
    labels = {"loss": "loss", "spread": "spread of the outputs", "entropy of the mean": "entropy of the mean",
              "entropy": "entropy", "knn": "accuracy, k nearest", "probe": "accuracy, linear probe"}
    history = folder.history()
    plots.curves(history, folder.path / "curves.png", "step", {k: v for k, v in labels.items() if any(k in m for m in history)})
    shown = images.test if len(images.test) else images.x
    method.picture(scaled(shown[:8]), folder.path / "pictures.png")
    found = {}
    if tested:
        everything = whole(images)
        found = worth(method.encoder, *everything)
        print(f"accuracy on {len(images.test)} test pictures:  {'k nearest':>10}{'linear probe':>14}")
        first = worth(build(run, learnt)[0].encoder, *everything)
        rows = {"random weights": first, run.method: found}
        if method.projected:
            rows[f"{run.method}, behind the projector (z)"] = worth(method.projected, *everything)
        for name, row in rows.items():
            print(f"  {name:34}{100 * row['knn']:10.1f} %{100 * row['probe']:12.1f} %")
        some = np.random.default_rng(0).permutation(len(images.test))[:1000]
        if len(some) > 10:
            features = encoders.encode(method.encoder, images.test[some])
            draw_map(features, images.test_y[some], images.names, folder.path / "map.png")
    print(f"the encoder, its curves and log are in {run.out}")
    return found


def probed(images, most=2000, tests=1000):
    """Some pictures with labels, to test features during training: arguments of `worth`; None if there are none."""
    known = images.labelled
    if not len(images.test) or len(np.unique(images.y[known])) < 2:
        return None
    rng = np.random.default_rng(0)
    kept, held = rng.permutation(known)[:most], rng.permutation(len(images.test))[:tests]
    return images.x[kept], images.y[kept], images.test[held], images.test_y[held], len(images.names)


def whole(images, most=10000):
    """The same of all pictures to test on, and many to train on."""
    kept = np.random.default_rng(0).permutation(images.labelled)[:most]
    return images.x[kept], images.y[kept], images.test, images.test_y, len(images.names)


def from_command_line(args=None):
    """The run that the arguments (by default the command line's) describe."""
    run = subcommands(METHODS, settings, __doc__, args)
    if hasattr(METHODS[run.method], "architecture"):
        note_idle(run, f"with {run.method}, which has a network of its own", "network", "width", "depth")
    else:
        networks.note_idle_size(run, run.network)
    if run.method == "vicreg":
        idle = ("invariance", "variance", "covariance") if run.barlow else ("redundancy",)
        note_idle(run, f"{'with' if run.barlow else 'without'} --barlow", *idle)
    if run.method == "exemplar":
        note_idle(run, "with exemplar, which does not mirror", "flip")
    if not getattr(run, "colour", True):
        note_idle(run, "with --no-colour", "strength")
    return run


if __name__ == "__main__":
    report_errors(main, from_command_line())
