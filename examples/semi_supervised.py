"""A classifier from a few labelled images and many unlabelled ones, by one of the semi-supervised methods.

    python -m examples.semi_supervised fixmatch                    # scikit-learn's digits, no download
    python -m examples.semi_supervised fixmatch --data mnist       # MNIST, from MINIGRAD_DATA or fetched
    python -m examples.semi_supervised fixmatch --data cifar10     # CIFAR-10, likewise
    python -m examples.semi_supervised fixmatch --data DIR         # the folder with the files of either
    python -m examples.semi_supervised fixmatch --data IMAGES      # images of your own, a folder a class, and unlabelled/
    python -m examples.semi_supervised fixmatch --help             # the method's settings; the other methods likewise

Then new pictures are classified by

    python -m examples.predict runs/semi_supervised/fixmatch PICTURES

With a residual network that suits a CPU, in 105 minutes on one core; and a ladder as wide as in its paper:

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
import pathlib
from typing import Literal

import numpy as np

import minigrad as mg
from methods.semi_supervised import METHODS, build, label_propagation
from methods.training import networks, optimizers, plots
from methods.training.checkpoint import fingerprint
from methods.training.classifier import load_classifier
from methods.training.data_sets import scaled
from methods.training.evaluation import accuracy
from methods.training.images import load
from methods.training.loop import train
from methods.training.prediction import most_probable, write_csv, write_test
from methods.training.run import RunFolder
from methods.training.settings import RunSettings, check, note_idle, of_method, report_errors, setting, subcommands

MODULES = METHODS | {"label_propagation": label_propagation}
MEASURED = 2000  # unlabelled images, at most, whose guessed classes are compared with the right ones


@dataclasses.dataclass
class Run(RunSettings):
    """Settings of the run."""

    data: str = "digits"  # "digits", "mnist", "cifar10", a folder with the files of these, or with images of your own
    seed: int = 0  # of the weights, the choice of labels and the batches
    out: str = "runs/semi_supervised"  # the run's folder
    labels: int = setting(-1, least=-1)  # labelled images in all, as many per class; 0: all of a folder; -1: 50 (5 of 10), or all
    batch: int = setting(32, least=2)  # labelled images in a step
    ratio: int = setting(3, least=1)  # unlabelled images in a step for each labelled one
    optimizer: Literal["adam", "sgd"] = "adam"  # "sgd": with Nesterov momentum 0.9
    lr: float = setting(2e-3, least=0)  # falls along a cosine to a fifth
    weight_decay: float = setting(5e-4, least=0)  # of the kernels, times the learning rate
    network: Literal["small", "residual", "wide"] = "small"  # "wide": Wide ResNet, the papers' with depth 28 and width 32
    width: int = setting(16, least=1)  # channels of the first convolution, or of the Wide ResNet's first group
    depth: int = setting(28, least=10)  # layers of the Wide ResNet
    ema: float = setting(0.97, least=0, below=1)  # decay of the weights' average; 0: no average
    test: Literal["average", "student"] = "average"  # which weights are tested
    evaluate_every: int = setting(0, least=0, free=True)  # steps between accuracies in metrics.jsonl; 0: at the end alone


def settings(name):
    """The settings of a run with the method of this name, and their defaults for short runs."""
    return of_method(name, MODULES[name], Run)


def result(run, name, images):
    """Trains with the method `name`, and returns the accuracy on the test images."""
    if name == "label_propagation":
        return accuracy(propagated(run, images)[0], images.test_y)
    folder = RunFolder(run.out, run, run.resume)
    method, classifier = build.build(run, name, images)
    batches = build.Batches(images.x, images.y, images.unlabelled, run.batch, run.ratio, run.seed)

    some = measured(images)

    def test():
        return accuracy(method.scores(scaled(images.test), run.test == "average"), images.test_y)

    def evaluate(step):
        found = mg.softmax(mg.Tensor(method.scores(scaled(images.unlabelled[some]), run.test == "average")), 1).numpy()
        return {"accuracy": test(), **guesses(run, images, some, found)}

    steppers = optimizers.make(method.net.parameters(), run.optimizer, run.lr, run.weight_decay)
    train(method, batches, steppers, run.steps, folder, classifier=classifier,
          evaluate=evaluate, evaluate_every=run.evaluate_every,
          data=fingerprint(images.names, images.x, images.y, images.unlabelled))
    return test()


def measured(images):
    """The places of unlabelled images whose class is known after all, `MEASURED` at most, the same ones each time."""
    known = np.flatnonzero(images.hidden_y >= 0)
    return np.sort(np.random.default_rng(0).permutation(known)[:MEASURED])


def guesses(run, images, some, p):
    """How many of the classes that are guessed of unlabelled images are right, of all and of those that pass the threshold.

    Args:
        some: the images' places; p: their probabilities (N, classes).

    Returns:
        a dict of shares; those of the threshold, the setting `tau` or `beta`, where the method has one that is not 0.
    """
    right, least = p.argmax(1) == images.hidden_y[some], threshold(run)[1]
    sure = p.max(1) >= least
    found = {"guesses right": right.mean()} if len(some) else {}
    if least and len(some):
        found |= {"sure": sure.mean()} | ({"sure guesses right": right[sure].mean()} if sure.any() else {})
    return {name: float(share) for name, share in found.items()}


def threshold(run):
    """The name and the value of the setting from which on the method takes a guess for right; 0 if it has none."""
    return next(((name, getattr(run, name)) for name in ("tau", "beta") if hasattr(run, name)), ("", 0.0))


def on_guesses(run, images, some, p):
    """`guesses` as lines."""
    found, (name, least) = guesses(run, images, some, p), threshold(run)
    if found:
        yield f"of what {run.method} guesses of {len(some)} unlabelled images, {100 * found['guesses right']:.1f} % are right"
    if "sure guesses right" in found:
        yield (f"of the guesses with a probability of {least:g} or more (--{name}), {100 * found['sure']:.1f} % of all, "
               f"{100 * found['sure guesses right']:.1f} % are right")


def idle(run):
    """What a log says of unlabelled images that took no part."""
    history = RunFolder(run.out, run, True).history()
    part = [entry[key] for entry in history for key in ("mask", "known") if key in entry]
    if part and np.mean(part) < 0.01:
        yield (f"the unlabelled images took hardly any part: {100 * np.mean(part):.1f} % of them in a step on average; train "
               "longer, or, where the method has one, with a lower threshold (--tau, --beta)")


def propagated(run, images):
    """See `label_propagation.probabilities`."""
    try:
        return label_propagation.probabilities(images, run)
    except ValueError as error:
        raise SystemExit(f"--neighbours: {error}") from None


def baseline(run, name):
    """The same run, and the method's name, with the labelled images alone; the ladder's is its own encoder with noise."""
    out = f"{run.out}/supervised"
    changed = dict(out=out, resume=(pathlib.Path(out) / "checkpoint.safetensors").exists())
    if name == "ladder":
        return dataclasses.replace(run, variant="none", **changed), name
    own = settings("supervised")
    shared = {f.name: getattr(run, f.name) for f in dataclasses.fields(own) if hasattr(run, f.name)}  # noise and dropout, too
    return dataclasses.replace(own, **{**shared, **changed}), "supervised"


def main(run):
    """Trains the method and the supervised baseline alike, and prints both accuracies; returns the method's."""
    check(run)
    images, name = load(run.data, run.labels, run.seed), run.method
    run = dataclasses.replace(run, labels=images.labels)
    print(images.description)
    if name == "label_propagation":
        folder = RunFolder(run.out, run, run.resume)
        p, drawn, spread = propagated(run, images)
        found = accuracy(p, images.test_y)
    else:
        found = result(run, name, images)
    print(f"accuracy on the test images: {name} {100 * found:.2f} %")
    for line in idle(run):
        print(line)
    if name != "supervised":
        print(f"with the labelled images alone: {100 * result(*baseline(run, name), images):.2f} %")
    files, first = images.unlabelled_files, len(images.unlabelled) - len(images.unlabelled_files)
    if name == "label_propagation":
        with folder.locked():
            folder.write_settings()
        some, guessed = drawn[images.hidden_y[drawn] >= 0], spread[images.hidden_y[drawn] >= 0]
        files, spread = [files[i - first] for i in drawn[drawn >= first]], spread[drawn >= first]
    else:
        folder = RunFolder(run.out, run, True)
        labels = {"loss": "training loss"} | ({"accuracy": "accuracy on the test images"} if run.evaluate_every else {})
        plots.curves(folder.history(), folder.path / "curves.png", "step", labels)
        classifier = load_classifier(folder.checkpoint, run.device)
        p = classifier.probabilities(scaled(images.test))
        spread = classifier.probabilities(scaled(images.unlabelled[first:])) if files else p[:0]
        some = measured(images)
        guessed = classifier.probabilities(scaled(images.unlabelled[some])) if len(some) else p[:0]
    for line in on_guesses(run, images, some, guessed):
        print(line)
    print(write_test(folder.path, p, images.test_y, images.names, images.test_files))
    if files:
        write_csv(folder.path / "predictions.csv", most_probable(files, spread, images.names))
        print(f"the classes of {len(files)} unlabelled pictures are in {folder.path / 'predictions.csv'}")
    print(f"what the run wrote, with mistakes and confusion table, is in {run.out}")
    return found


def from_command_line(args=None):
    """The run that the arguments (by default the command line's) describe."""
    run = subcommands(MODULES, settings, __doc__, args)
    if run.method == "ladder":
        note_idle(run, "with ladder, which has a network of its own", "network", "width", "depth")
        idle = {"full": ["top"], "gamma": ["weights"], "none": ["weights", "top"]}[run.variant]
        note_idle(run, f"with --variant {run.variant}", *idle)
    else:
        networks.note_idle_size(run, run.network)
    if not getattr(run, "strong", True):
        note_idle(run, "with --no-strong", "learned")
    if getattr(run, "mix", "all") == "no":
        note_idle(run, "with --mix no", "alpha")
    return run


if __name__ == "__main__":
    report_errors(main, from_command_line())
