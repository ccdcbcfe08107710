"""What an encoder's features are worth: nearest neighbours, a linear probe, fine-tuning with few labels, and a map of them."""
import copy
import dataclasses
import os
import pathlib
from collections.abc import Sequence

import numpy as np

import minigrad as mg
from methods.training import encoders, optimizers, plots
from methods.training.checkpoint import fingerprint
from methods.training.evaluation import accuracy
from methods.training.forward import tensor
from methods.training.loop import train
from methods.training.method import Loss, Method, Parts
from methods.training.run import RunFolder
from methods.transfer import finetune, linear
from minigrad import data, nn, optim
from minigrad.backend import to_device

from .base import Batch, Batches

STRENGTHS = tuple(10.0 ** np.arange(-8, 4))  # of the probe: with many labels little regularisation may be best


def nearest(x: np.ndarray, y: np.ndarray, test: np.ndarray, classes: int, k: int = 20, temperature: float = 0.07) -> np.ndarray:
    """The votes (M, classes) of the k nearest by cosine, each with the weight exp(cosine / temperature) (Wu et al. 2018).

    Args:
        x: (N, d) labelled features; y: (N,) their classes; test: (M, d).
        k: at most as many as the smallest class has, or the largest would outvote it everywhere.
    """
    x, test = (a / np.maximum(np.linalg.norm(a, axis=1, keepdims=True), 1e-12) for a in (x, test))
    k = min(k, np.unique(y, return_counts=True)[1].min())
    votes = np.zeros((len(test), classes))
    for start in range(0, len(test), 500):
        cosine = test[start:start + 500] @ x.T
        near = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
        weights = np.exp((np.take_along_axis(cosine, near, 1) - 1) / temperature)
        np.add.at(votes[start:start + 500], (np.arange(len(near))[:, None], y[near]), weights)
    return votes


def worth(encoder: nn.Module, x: np.ndarray, y: np.ndarray, test: np.ndarray, test_y: np.ndarray, classes: int,
          k: int = 20) -> dict[str, float]:
    """The accuracies of k nearest neighbours and of a linear probe (ridge regression) on an encoder's features.

    Args:
        x, test: images, bytes or float32 in [0, 1]; y, test_y: their classes.
    """
    features, test_features = encoders.encode(encoder, x), encoders.encode(encoder, test)
    near = nearest(features, y, test_features, classes, k)
    probe = linear.ridge(features, y, classes, STRENGTHS).scores(test_features)
    return {"knn": accuracy(near, test_y), "probe": accuracy(probe, test_y)}


@dataclasses.dataclass
class Tuning:
    """Settings of training with labels."""

    steps: int = 300
    lr: float = 1e-3  # of AdamW; rises in a tenth of the steps, then falls along a cosine
    weight_decay: float = 0.05
    batch: int = 50  # pictures in a step
    augment: bool = True  # pictures are shifted at random
    flip: bool = False  # those are mirrored, too
    keep_statistics: bool = False  # of batch norm: the network stays in evaluation mode, without dropout
    seed: int = 0


class Classifying(Method):
    """The cross-entropy of pictures with labels."""

    def __init__(self, config: Tuning, net: nn.Module):
        super().__init__(config, net)
        self.rng = np.random.default_rng((config.seed, 5))

    def loss(self, batch: Batch, step: int) -> Loss:
        x = data.weak(batch.x, self.rng, flip=self.config.flip) if self.config.augment else batch.x
        return mg.cross_entropy(self.net(tensor(self.net, x)), batch.y), {}

    def schedule(self, step: int, steps: int) -> float:
        return optim.cosine_decay(1.0, steps, steps // 10)(step)

    def state(self) -> Parts:
        return {**super().state(), "rng": self.rng}


def fit(net: nn.Module, x: np.ndarray, y: np.ndarray, config: Tuning, out: str | os.PathLike) -> None:
    """Trains a classifier on images, bytes or float32 in [0, 1], with all labels; it goes on with what the folder `out` has."""
    train_on(Classifying(config, net), x, y, config, out)


def train_on(method: Method, x: np.ndarray, y: np.ndarray, config: Tuning, out: str | os.PathLike, *given: nn.Module) -> None:
    """Trains a method on images and labels, which it may leave alone; it goes on with what the folder `out` has.

    Args:
        given: networks that it learns from. A run goes on only if these, and the network that is trained, begin as they did.

    Raises:
        RunError: they do not.
    """
    folder = RunFolder(out, config, (pathlib.Path(out) / encoders.CHECKPOINT).exists())
    trained = optimizers.make([p for p in method.net.parameters() if p.requires_grad], "adam", config.lr, config.weight_decay)
    method.net.train(not config.keep_statistics)
    begun = [to_device(array, "cpu") for net in (method.net, *given) for name, array in net.state_dict().items()
             if not name.startswith("head.")]  # a linear probe's numbers may differ in their last bits
    train(method, Batches(x, y, min(config.batch, len(x)), config.seed), trained, config.steps, folder,
          data=fingerprint(x, y, *begun))


def probe_head(encoder: nn.Encoder, x: np.ndarray, y: np.ndarray, classes: int) -> nn.Encoder:
    """A copy of the encoder whose last layer is the linear probe of images and their classes."""
    net = copy.deepcopy(encoder)
    finetune.set_head(net, linear.ridge(encoders.encode(encoder, x), y, classes, STRENGTHS))
    return net


def zero_head(encoder: nn.Encoder, classes: int) -> nn.Encoder:
    """A copy of the encoder with a last layer that begins at 0."""
    net = copy.deepcopy(encoder)
    net.head = nn.Linear(net.width, classes).to(encoder.parameters()[0].device)
    nn.init.zeros_(net.head.weight)
    nn.init.zeros_(net.head.bias)
    return net


def fine_tuned(encoder: nn.Encoder, x: np.ndarray, y: np.ndarray, classes: int, config: Tuning,
               out: str | os.PathLike) -> nn.Encoder:
    """A copy of the encoder that has learnt from labels as a whole.

    Either the head begins at 0 and all is trained by `config`, or the head begins at the linear probe, the rate is a tenth of
    that and batch norm keeps its statistics, with which the probe was found (LP-FT: Kumar et al. 2022, arXiv:2202.10054):
    whichever is better on a fifth of each class's labels after the others were learnt, and where none can be left out, the
    latter. An encoder that begins at random is trained in just this way from scratch.

    Returns:
        The network; the folder `out` holds the trainings, with which a call that was stopped goes on.
    """
    def tuned(way, some, name):
        net, settings = ways[way](some)
        fit(net, x[some], y[some], settings, pathlib.Path(out) / name)
        return net

    gentle = dataclasses.replace(config, lr=config.lr / 10, keep_statistics=True)
    ways = {"probe": lambda some: (probe_head(encoder, x[some], y[some], classes), gentle),
            "zero": lambda some: (zero_head(encoder, classes), config)}
    order = np.random.default_rng((config.seed, 13)).permutation(len(x))
    each = [order[y[order] == k] for k in range(classes)]
    held = np.concatenate([rows[:max(1, len(rows) // 5)] if len(rows) > 1 else rows[:0] for rows in each])
    nets = {way: tuned(way, np.setdiff1d(order, held), f"without-a-fifth-{way}") for way in ways if len(held)}
    best = max(nets, key=lambda way: accuracy(encoders.encode(nets[way], x[held]), y[held]), default="probe")
    return tuned(best, np.arange(len(x)), "all")


def draw_map(features: np.ndarray, labels: np.ndarray, names: Sequence[str], path: str | os.PathLike) -> None:
    """The directions of features (N, d) in a plane (see `plots.plane`), coloured by their classes (N,)."""
    place = plots.plane(linear.unit(features))
    with plots.figure(path, size=(5.4, 4.6)) as axes:
        for k, name in enumerate(names):
            axes[0, 0].scatter(*place[labels == k].T, s=6, label=name, color=f"C{k % 10}", marker="ox^sv*"[k // 10 % 6])
        axes[0, 0].set(xticks=[], yticks=[])
        axes[0, 0].legend(fontsize=7, markerscale=2, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
