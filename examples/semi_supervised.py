"""A classifier from a few labelled images and many unlabelled ones, by one of the semi-supervised methods.

    python -m examples.semi_supervised fixmatch                    # scikit-learn's digits, no download
    python -m examples.semi_supervised fixmatch --data DIR         # MNIST: the folder with its idx files
    python -m examples.semi_supervised fixmatch --data download    # MNIST, fetched
    python -m examples.semi_supervised fixmatch --data cifar10     # CIFAR-10, fetched; or a folder with its files
   python -m examples.semi_supervised fixmatch --data IMAGES      # a folder with train/CLASS/, test/CLASS/ and unlabelled/
    python -m examples.semi_supervised fixmatch --help             # the method's settings; the other methods likewise
"""
import dataclasses
import functools
import pathlib
from typing import Literal

import numpy as np
import tyro

import minigrad as mg
from examples.runs import RunFolder
from methods.semi_supervised import METHODS, fixmatch
from methods.semi_supervised.common import Task
from methods.semi_supervised.networks import SmallConv
from minigrad import data, optim
from minigrad.data.augment import GREY


@dataclasses.dataclass
class Run:
    """Settings of the run."""

    data: str = "digits"  # "digits", "download" for MNIST, "cifar10", a folder with the files of either, or with your images
    device: str = "cpu"  # "cpu" or "cuda"
    seed: int = 0  # of the weights, the choice of labels and the batches
    steps: int = 600
    out: str = "runs/semi_supervised"  # the run's folder
    resume: bool = False  # continue the run in `out`
    labels: int = 50  # labelled images, of each class as many; 0 for all of the labelled folder
    batch: int = 32  # labelled images in a step
    ratio: int = 3  # unlabelled images in a step for each labelled one
    optimizer: Literal["adam", "sgd"] = "adam"  # "sgd": with Nesterov momentum 0.9
    lr: float = 2e-3  # falls along a cosine to a fifth
    weight_decay: float = 5e-4  # of the kernels, times the learning rate
    width: int = 16  # channels of the first convolution
    ema: float = 0.99  # decay of the weights' average that is tested


# What suits a training of some hundred steps; everything else is as in the papers. Consistency costs on ten classes: a
# weight between the number of classes and its square.
SHORT = {
    "pseudo_label": dict(alpha=1.0),
    "pi_model": dict(w_max=20.0, dropout=0.0),
    "temporal_ensembling": dict(w_max=20.0, dropout=0.0),
    "mean_teacher": dict(w_max=20.0, dropout=0.0),
    "vat": dict(eps=2.0, ema=0.99),
    "uda": dict(ema=0.99),
    "mixmatch": dict(ema=0.99),
    "remixmatch": dict(views=2, ema=0.99),
    "fixmatch": dict(ema=0.99),
    "ladder": dict(hidden=(500, 250), batch=100, ratio=1, steps=3000, weight_decay=0.0, labels=100),
}


def settings(name):
    """The dataclass of a run with a method, the method's settings and the run's together, as an instance for short runs."""
    config = METHODS[name].Config
    kind = dataclasses.make_dataclass(config.__module__.rpartition(".")[2] + "_run", [], bases=(Run, config))
    return kind(out=f"runs/semi_supervised/{name}", **SHORT.get(name, {}))


@dataclasses.dataclass
class Images:
    """Labelled and unlabelled images to train on and images to test on, (N, C, H, W) float32 in [0, 1]."""

    x: np.ndarray
    y: np.ndarray
    unlabelled: np.ndarray
    test: np.ndarray
    test_y: np.ndarray
    what: str
    hidden: np.ndarray | None = None  # the unlabelled images' labels, where they are known

    @property
    def classes(self):
        return int(max(self.y.max(), self.test_y.max())) + 1


def load(source, labels, seed):
    """`Images` with so many labels, drawn with the seed; test images are always the same ones."""
    folder = pathlib.Path(source)
    if source == "digits":
        (x, y), name, test = data.load_digits(), "scikit-learn's digits", 497
    elif source == "download" or any(folder.glob("**/train-images-idx3-ubyte.gz")):
        sets = [data.load_mnist(split, None if source == "download" else source) for split in ("train", "test")]
        x, y = (np.concatenate(pair) for pair in zip(*sets))
        name, test = "MNIST", 10000
    elif any(folder.glob("**/t10k-images-idx3-ubyte.gz")):
        (x, y), name, test = data.load_mnist("test", source), "the test file of MNIST, divided", 2000
    elif source == "cifar10" or any((folder / name).is_file() for name in data.CIFAR10_FILES):
        sets = [data.load_cifar10(split, None if source == "cifar10" else source) for split in ("train", "test")]
        x, y = (np.concatenate(pair) for pair in zip(*sets))
        name, test = "CIFAR-10", 10000
    else:
        return own_images(source, labels, seed)
    x = x if x.ndim == 4 else x[:, None]
    x = x / np.float32(255) if x.dtype == np.uint8 else x
    # MNIST and CIFAR-10 end with their test images; else the division is by chance, but always the same
    order = np.arange(len(x)) if name in ("MNIST", "CIFAR-10") else np.random.default_rng(0).permutation(len(x))
    train, held = order[:-test], order[-test:]
    y = y.astype(np.int64)
    chosen = train[data.balanced_subset(y[train], labels, seed)]
    what = f"{name}: {labels} labels, {len(train)} images to train on, {test} to test on"
    return Images(x[chosen], y[chosen], x[train], x[held], y[held], what, y[train])


def own_images(path, labels, seed):
    """As `load`, from an image folder, scaled to 32 x 32. Without `unlabelled/` all of `train/` is used without labels."""
    try:
        x, y, names = data.load_image_folder(path, size=32, under="train")
        test, test_y, others = data.load_image_folder(path, size=32, under="test")
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f"--data: {error}") from None
    if names != others:
        raise SystemExit(f"--data: the classes in train/ and test/ differ: {names} and {others}")
    try:
        unlabelled = np.concatenate([x, data.load_image_folder(path, size=32, under="unlabelled")[0]])
    except ValueError:
        unlabelled = x
    chosen = data.balanced_subset(y, labels or len(y), seed) if labels else np.arange(len(y))
    what = f"{path}: {len(chosen)} labels, {len(unlabelled)} images to train on, {len(test)} to test on"
    return Images(x[chosen], y[chosen], unlabelled, test, test_y, what)


def make_task(images, run):
    """The augmentations that suit the images: grey ones are characters, which are not mirrored nor inverted."""
    grey = images.x.shape[1] == 1
    fill, operations = (0.0, GREY) if grey else (0.5, data.augment.COLOUR)
    weak = functools.partial(data.weak, flip=not grey, fill=fill)
    strong = data.RandAugment(operations, 2, 0.5 if images.x.shape[-1] > 8 else 0.25, fill)
    prior = np.bincount(images.y, minlength=images.classes).astype(np.float32) / len(images.y)
    return Task(images.classes, len(images.x), len(images.unlabelled), run.steps, weak,
                lambda x, rng: strong(weak(x, rng), rng), prior, run.seed, operations, fill)


def build(run, name, images):
    """The method with its network."""
    mg.random.seed(run.seed)
    module, task = METHODS[name], make_task(images, run)
    if hasattr(module, "make_net"):
        net = module.make_net(run, images.x[0].size, images.classes)
    else:
        widths = tuple(run.width * k for k in (1, 2, 4))
        net = SmallConv(images.x.shape[1], images.classes, getattr(run, "dropout", 0.0), widths, images.x.shape[-1] <= 16)
    return module.Objective(run, net.to(run.device), task)


def decayed(net):
    """Kernels, which decay, and the rest (biases, normalisation), which does not."""
    kernels = [p for p in net.parameters() if p.ndim > 1]
    return kernels, [p for p in net.parameters() if p.ndim <= 1]


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
        loss, numbers = method.loss(loader.sample(), t)
        method.net.zero_grad()
        loss.backward()
        for optimizer in kinds:
            optimizer.step()
        method.after_step(t)
        return {"loss": float(loss), **{k: float(v) for k, v in numbers.items()}}

    folder.train(run.steps, step, resume=run.resume, net=method.net, kernels=kinds[0], rest=kinds[1], loader=loader,
                 **method.kept())
    return method


def accuracy(method, x, y, batch=500):
    """Share of x that the method's averaged weights classify as y."""
    scores = [method.scores(x[i:i + batch]) for i in range(0, len(x), batch)]
    return float((np.concatenate(scores).argmax(1) == y).mean())


def main(run):
    """Trains the method and the supervised baseline alike, and prints both accuracies; returns the method's."""
    name = type(run).__name__.removesuffix("_run")
    images = load(run.data, run.labels, run.seed)
    print(images.what)
    folder = RunFolder(run.out, run, run.resume)
    result = accuracy(train(run, name, images, folder), images.test, images.test_y)
    print(f"accuracy on the test images: {name} {100 * result:.2f} %")
    if name != "supervised":
        shared = {f.name: getattr(run, f.name) for f in dataclasses.fields(Run)}
        base = dataclasses.replace(settings("supervised"), **{**shared, "out": str(folder.path / "supervised")})
        base.resume = (folder.path / "supervised" / "checkpoint.safetensors").exists()
        below = RunFolder(base.out, base, base.resume)
        alone = accuracy(train(base, "supervised", images, below), images.test, images.test_y)
        print(f"with the labelled images alone: {100 * alone:.2f} %")
    folder.draw("curves.png", ("loss",), "step", ("training loss",))
    print(f"metrics, checkpoint and figure are in {run.out}")
    return result


if __name__ == "__main__":
    kinds = tyro.extras.subcommand_type_from_defaults({name: settings(name) for name in METHODS})
    main(tyro.cli(kinds, description=__doc__))
