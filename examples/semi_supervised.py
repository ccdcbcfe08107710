"""A classifier from a few labelled images and many unlabelled ones, by one of the semi-supervised methods.

    python -m examples.semi_supervised fixmatch                    # scikit-learn's digits, no download
    python -m examples.semi_supervised fixmatch --data mnist       # MNIST, from MINIGRAD_DATA or fetched
    python -m examples.semi_supervised fixmatch --data cifar10     # CIFAR-10, likewise
    python -m examples.semi_supervised fixmatch --data DIR         # the folder with the files of either
    python -m examples.semi_supervised fixmatch --data IMAGES      # images of your own, a folder a class, and unlabelled/
    python -m examples.semi_supervised fixmatch --help             # the method's settings; the other methods likewise

With a residual network that suits a CPU, in an hour and a quarter on one core; and a ladder as wide as in its paper:

    python -m examples.semi_supervised fixmatch --data cifar10 --labels 250 --network residual --ratio 7 --steps 15000 \\
        --ema 0.999
    python -m examples.semi_supervised fixmatch --data cifar10 --labels 4000 --network residual --ratio 7 --steps 15000 \\
        --ema 0.999 --tau 0.8 --lambda-u 2    # so short a training gains from more pseudo-labels with more weight
    python -m examples.semi_supervised ladder --data mnist --hidden 1000 500 250 250 250 --steps 6000

The recipe of FixMatch's paper, for a GPU:

    python -m examples.semi_supervised fixmatch --data cifar10 --labels 250 --network wide --width 32 --optimizer sgd \\
        --lr 0.03 --batch 64 --ratio 7 --steps 1048576 --ema 0.999 --device cuda
"""
import dataclasses
import functools
import pathlib
from typing import Literal

import numpy as np
import tyro

import minigrad as mg
from methods.training.images import load, scaled
from methods.training.run import RunFolder
from methods.semi_supervised import METHODS, fixmatch, label_propagation
from methods.semi_supervised.base import Task
from methods.semi_supervised.networks import Residual, SmallConv, Wide
from minigrad import data, optim
from minigrad.data.augment import COLOUR, GREY


@dataclasses.dataclass
class Run:
    """Settings of the run."""

    data: str = "digits"  # "digits", "mnist", "cifar10", a folder with the files of these, or with images of your own
    device: str = "cpu"  # "cpu" or "cuda"
    seed: int = 0  # of the weights, the choice of labels and the batches
    steps: int = 1000  # of the training
    out: str = "runs/semi_supervised"  # the run's folder
    resume: bool = False  # continue the run in `out`
    labels: int = 50  # labelled images, of each class as many; 0 for all of an image folder
    batch: int = 32  # labelled images in a step
    ratio: int = 3  # unlabelled images in a step for each labelled one
    optimizer: Literal["adam", "sgd"] = "adam"  # "sgd": with Nesterov momentum 0.9
    lr: float = 2e-3  # falls along a cosine to a fifth
    weight_decay: float = 5e-4  # of the kernels, times the learning rate
    network: Literal["small", "residual", "wide"] = "small"  # "wide": Wide ResNet, the papers' with depth 28 and width 32
    width: int = 16  # channels of the first convolution, or of the Wide ResNet's first group
    depth: int = 28  # layers of the Wide ResNet
    ema: float = 0.97  # decay of the weights' average; 0: no average
    test: Literal["average", "student"] = "average"  # which weights are tested


# What suits a training of one or two thousand steps; everything else is as in the papers. Averaged predictions are worth
# agreeing with late in so short a training: their weight rises until the end, and then beyond the square of ten classes.
SHORT = {
    "pseudo_label": dict(alpha=1.0),
    "pi_model": dict(w_max=100.0, dropout=0.0),
    "temporal_ensembling": dict(w_max=400.0, dropout=0.0, ramp=1.0, alpha=0.3),
    "mean_teacher": dict(w_max=200.0, dropout=0.0, ramp=1.0),
    "vat": dict(eps=2.0),
    "uda": dict(annealing="no"),
    "mixmatch": dict(lambda_u=10.0, ramp=1.0),
    "remixmatch": dict(views=2, ramp=1.0),
    "ladder": dict(hidden=(500, 250), batch=100, ratio=1, steps=3000, lr=6e-3, weight_decay=0.0, labels=100),
}

LIMITS = {  # of settings, in any method: the least and the largest value
    "steps": (1, None), "labels": (0, None), "batch": (2, None), "ratio": (1, None), "lr": (0, None), "width": (1, None),
    "weight_decay": (0, None), "ema": (0, 0.999999), "w_max": (0, None), "ramp": (0, None), "noise": (0, None),
    "dropout": (0, 0.99), "alpha": (0, None), "tau": (0, 1), "beta": (0, 1), "temperature": (0, None), "views": (1, None),
    "iterations": (0, None), "eps": (0, None), "xi": (1e-6, None), "neighbours": (1, None), "lambda_u": (0, None),
    "lambda_1": (0, None), "lambda_r": (0, None), "begin": (0, 1), "end": (0, 1), "top": (0, None), "sigma": (0, None)}
POSITIVE = {"uda": ("temperature",), "mixmatch": ("temperature", "alpha"), "remixmatch": ("temperature", "alpha")}
BELOW_ONE = {"temporal_ensembling": "alpha", "label_propagation": "alpha"}


def settings(name):
    """The dataclass of a run with a method, the method's settings and the run's together, as an instance for short runs."""
    module = METHODS.get(name, label_propagation)

    @dataclasses.dataclass
    class MethodRun(Run, module.Config):  # written out, as the command line's help are the comments in the source
        method = name

    return MethodRun(out=f"runs/semi_supervised/{name}", **SHORT.get(name, {}))


def check(run, name):
    """SystemExit for a setting with which the method cannot work; it says which values can be."""
    for key, (low, high) in LIMITS.items():
        value = getattr(run, key, low)
        if key == BELOW_ONE.get(name):
            high = 0.999999
        above = value > low if key in POSITIVE.get(name, ()) else value >= low
        if not above or high is not None and value > high:
            least = f"above {low}" if key in POSITIVE.get(name, ()) else f"{low} or more"
            most = "" if high is None else f", at most {high}" if high == 1 else ", below 1"
            raise SystemExit(f"--{key.replace('_', '-')} {value}: choose a number {least}{most}")


def make_task(images, run):
    """The augmentations that suit the images: grey ones may be characters, which are not mirrored nor inverted."""
    grey = images.x.shape[1] == 1
    fill = float(np.median(scaled(images.x)) > 0.5) if grey else 0.5  # of grey images the paper's colour
    weak = functools.partial(data.weak, flip=not grey, fill=fill)
    cutout = 0.25 if grey else 0.5  # half a character's width may be all that tells it from another
    strong = data.RandAugment(GREY if grey else COLOUR, 2, cutout, fill)
    return Task(images.classes, len(images.x), len(images.unlabelled), run.steps, weak,
                lambda x, rng: strong(weak(x, rng), rng), images.prior, run.seed, strong.operations, fill)


def build(run, name, images):
    """The method with its network."""
    mg.random.seed(run.seed)
    module, task = METHODS[name], make_task(images, run)
    if hasattr(module, "make_net"):
        net = module.make_net(run, images.x[0].size, images.classes)
    else:
        channels, size, dropout = images.x.shape[1], images.x.shape[-1], getattr(run, "dropout", 0.0)
        if run.network == "wide":
            if size % 4:
                raise SystemExit(f"--network wide takes images whose sides are multiples of 4, not {size}")
            if run.width % 16 or not run.width or run.depth < 10 or run.depth % 6 != 4:
                raise SystemExit("--network wide takes a --width that 16 divides and a --depth of 10, 16, 22, 28, ..., "
                                 f"not {run.width} and {run.depth}")
            net = Wide(channels, images.classes, dropout, run.depth, run.width)
        elif run.network == "residual":
            if size < 8:
                raise SystemExit(f"--network residual takes images whose sides are 8 or more, not {size}")
            net = Residual(channels, images.classes, dropout, run.width)
        else:
            net = SmallConv(channels, images.classes, dropout, [run.width * k for k in (1, 2, 4)], size <= 16)
    return module.Objective(run, net.to(run.device), task)


def decayed(net):
    """Kernels, which decay, and the rest (biases, normalisation), which does not."""
    return [p for p in net.parameters() if p.ndim > 1], [p for p in net.parameters() if p.ndim <= 1]


def train(run, name, images, folder):
    """Trains with the method `name`; returns the Objective."""
    method = build(run, name, images)
    loader = data.SemiSupervisedLoader(images.x, images.y, images.unlabelled, run.batch, run.ratio, run.seed)
    if run.optimizer == "sgd":
        kinds = [optim.SGD(p, run.lr, 0.9, wd, True) for p, wd in zip(decayed(method.net), (run.weight_decay, 0))]
    else:
        kinds = [optim.AdamW(p, run.lr, weight_decay=wd) for p, wd in zip(decayed(method.net), (run.weight_decay, 0))]

    def step(t):
        for optimizer in kinds:
            optimizer.lr = fixmatch.learning_rate(t, run.steps, run.lr)
        batch = loader.sample()
        batch.x, batch.u = scaled(batch.x), scaled(batch.u)
        loss, numbers = method.loss(batch, t)
        method.net.zero_grad()
        loss.backward()
        for optimizer in kinds:
            optimizer.step()
        method.after_step(t)
        return {"loss": float(loss), **{k: float(v) for k, v in numbers.items()}}

    folder.train(run.steps, step, resume=run.resume, net=method.net, kernels=kinds[0], rest=kinds[1], loader=loader,
                 **method.kept())
    return method


def accuracy(method, x, y, averaged=True, batch=500):
    """Share of x that the method's averaged weights, or its present ones, classify as y."""
    scores = [method.scores(scaled(x[i:i + batch]), averaged) for i in range(0, len(x), batch)]
    return float((np.concatenate(scores).argmax(1) == y).mean())


def propagated(images, config, most=10_000):
    """Accuracy of label propagation, for which the test images lie in the graph too, without their labels.

    Of more than `most` unlabelled images so many are drawn by chance.
    """
    free = images.unlabelled[np.random.default_rng(0).permutation(len(images.unlabelled))[:most]]
    x, n = np.concatenate([images.x, free, images.test]), len(images.x)
    try:
        f = label_propagation.propagate(scaled(x), np.arange(n), images.y, images.classes, config)
    except ValueError as error:
        raise SystemExit(f"--neighbours: {error}") from None
    return float((f[-len(images.test):].argmax(1) == images.test_y).mean())


def baseline(run, name):
    """The same run, and the method's name, with the labelled images alone; the ladder's is its own encoder with noise."""
    out = f"{run.out}/supervised"
    changed = dict(out=out, resume=(pathlib.Path(out) / "checkpoint.safetensors").exists())
    if name == "ladder":
        return dataclasses.replace(run, variant="none", **changed), name
    shared = {f.name: getattr(run, f.name) for f in dataclasses.fields(Run)}
    return dataclasses.replace(settings("supervised"), **{**shared, **changed}), "supervised"


def result(run, name, images):
    """Trains, and returns the accuracy on the test images."""
    if name == "label_propagation":
        return propagated(images, run)
    method = train(run, name, images, RunFolder(run.out, run, run.resume))
    return accuracy(method, images.test, images.test_y, run.test == "average")


def main(run):
    """Trains the method and the supervised baseline alike, and prints both accuracies; returns the method's."""
    name = run.method
    check(run, name)
    images = load(run.data, run.labels, run.seed)
    print(images.what)
    found = result(run, name, images)
    print(f"accuracy on the test images: {name} {100 * found:.2f} %")
    if name != "supervised":
        print(f"with the labelled images alone: {100 * result(*baseline(run, name), images):.2f} %")
    if name != "label_propagation":
        RunFolder(run.out, run, True).draw("curves.png", ("loss",), "step", ("training loss",))
        print(f"metrics, checkpoint and figure are in {run.out}")
    return found


def from_command_line(args=None):
    """The run that the arguments (by default the command line's) describe."""
    modules = {**METHODS, "label_propagation": label_propagation}
    described = {name: " ".join(module.__doc__.split("\n\n")[:2]) for name, module in modules.items()}
    kinds = tyro.extras.subcommand_type_from_defaults({name: settings(name) for name in modules}, described)
    return tyro.cli(kinds, args=args, description=__doc__)


if __name__ == "__main__":
    main(from_command_line())
