"""The frame of the self-supervised methods for pictures: an encoder, and what is trained with it."""
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

import minigrad as mg
from methods.training import optimizers
from methods.training.forward import tensor
from methods.training.data_sets import scaled
from methods.training.method import Method, Parts
from minigrad import Tensor, nn, optim
from minigrad.data.labels import Shuffled


@dataclass
class Task:
    """A method's knowledge of the pictures."""

    size: int  # they are size x size
    channels: int
    images: int  # how many there are
    batch: int  # how many are in a batch
    steps: int  # of the whole training
    classes: int  # 0: not known
    flip: bool  # whether a mirrored picture shows the same thing
    seed: int = 0
    warmup: float = 0.1  # the part of the steps in which the learning rate rises


@dataclass
class Batch:
    """Pictures (N, C, H, W), float32 in [0, 1], their places in the set, and their labels, -1 where there is none."""

    x: np.ndarray
    index: np.ndarray
    y: np.ndarray


class Batches:
    """Random batches of bytes or float32 images, each picture once in a round."""

    def __init__(self, x: np.ndarray, y: np.ndarray, batch: int, seed: int):
        self.x, self.y, self.batch = x, y, batch
        self.indices = Shuffled(len(x), (seed, 11))

    def sample(self) -> Batch:
        """The next batch."""
        index = self.indices.take(self.batch)
        return Batch(scaled(self.x[index]), index, self.y[index])

    def state_dict(self) -> dict[str, Any]:
        """The state of the random order."""
        return self.indices.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        self.indices.load_state_dict(state)


class SelfSupervisedMethod(Method):
    """An objective that needs no labels.

    Args:
        config: the method's settings.
        encoder: what is trained, and is of use afterwards.
        heads: what is trained with it and thrown away: projectors, predictors, decoders.
    """

    useful = "net"  # the part of the checkpoint with the encoder that `encoder` returns
    projected: nn.Module | None = None  # the encoder with the projector behind it, where the loss compares its outputs, z

    def __init__(self, config: Any, encoder: nn.Encoder, heads: nn.Module, task: Task):
        super().__init__(config, encoder)
        self.heads, self.task = heads.to(encoder.parameters()[0].device), task
        self.rng = np.random.default_rng((task.seed, 7))

    @property
    def encoder(self) -> nn.Encoder:
        """What is of use afterwards: the trained encoder, or a teacher's."""
        return self.net

    def parameters(self) -> list[nn.Parameter]:
        """All that is trained."""
        return [p for p in (*self.net.parameters(), *self.heads.parameters()) if p.requires_grad]

    def optimizers(self, kind: str, lr: float, decay: float) -> dict[str, optim.Optimizer]:
        """Those that train it, by name; arguments as of `optimizers.make`."""
        return optimizers.make(self.parameters(), kind, lr, decay)

    def schedule(self, step: int, steps: int) -> float:
        """Up from 0 in `warmup` of the steps, then down a cosine to 0."""
        return optim.cosine_decay(1.0, steps, round(self.task.warmup * steps))(step)

    def state(self) -> Parts:
        heads = {"heads": self.heads} if self.heads.state_dict() else {}
        return {**super().state(), **heads, "rng": self.rng}

    def picture(self, images: np.ndarray, path: str | os.PathLike) -> None:
        """Draws what the method does with some images (N, C, H, W), float32 in [0, 1], if there is anything to be seen."""

    def tensor(self, x: np.ndarray) -> Tensor:
        """Images as a Tensor on the encoder's device."""
        return tensor(self.net, x)


class Projected(nn.Module):
    """z = projector(features of the encoder)."""

    def __init__(self, encoder: nn.Encoder, projector: nn.Module):
        self.encoder, self.projector = encoder, projector

    def forward(self, x: Tensor) -> Tensor:
        return self.projector(self.encoder.features(x))


def mlp(widths: tuple[int, ...], last_norm: bool = False, last_bias: bool = False) -> nn.Sequential:
    """Linear layers, batch norm and ReLU between them; with `last_norm` batch norm at the end, too.

    Args:
        widths: of the input and of each layer.
        last_bias: whether the last layer has a bias. Those before batch norm need none.
    """
    layers = []
    for i, (inputs, outputs) in enumerate(zip(widths, widths[1:])):
        last = i == len(widths) - 2
        layers.append(nn.Linear(inputs, outputs, bias=last and last_bias))
        if not last:
            layers += [nn.BatchNorm1d(outputs), nn.ReLU()]
        elif last_norm:
            layers.append(nn.BatchNorm1d(outputs))
    return nn.Sequential(*layers)


def compared(of: str, pictures: int) -> None:
    """Raises ValueError for a batch of one picture or none, of which a loss that compares pictures says nothing."""
    if pictures < 2:
        raise ValueError(f"{of}: pictures of a batch are compared, so two or more are needed, not {pictures}")


def spread(z: Tensor) -> Tensor:
    """How far a batch's outputs (N, d) are from collapse: near 1 when the rows point everywhere, 0 when all point one way.

    sqrt(d) times the mean over the d numbers of the standard deviation of the rows at length 1.
    """
    rows = mg.l2_normalize(mg.stop_gradient(z), 1)
    return rows.std(0).mean().astype(np.float64) * z.shape[1] ** 0.5


def ratio(a: Tensor, b: Tensor) -> Tensor:
    """a over b, which counts as 1e-12 at least: a number to log."""
    a, b = (mg.stop_gradient(x).astype(np.float64) for x in (a, b))
    return a / mg.maximum(b, 1e-12)
