"""Fine-tuning: a pretrained encoder learns on.

LP-FT (Kumar et al. 2022, arXiv:2202.10054): the head is first found on the frozen features (`linear`), then everything is
trained from there at a small rate; a head that begins at random would spoil the features with its first gradients.
WiSE-FT (Wortsman et al. 2021, arXiv:2109.01903): the weights in the end lie between the frozen and the fine-tuned ones,

    theta = (1 - alpha) theta_0 + alpha theta_1
"""
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

import minigrad as mg
from methods.training import optimizers
from methods.training.evaluation import right
from methods.training.forward import of_classes, placed, tensor, told_apart
from methods.training.method import Loss, Method, Parts
from methods.training.settings import setting
from minigrad import Tensor, data, nn, optim
from minigrad.data.labels import Shuffled

from .linear import Linear


@dataclass
class Config:
    """Settings for a few hundred labels."""

    lr: float = setting(3e-4, above=0)  # of AdamW, of the last layers
    decay: float = setting(1e-4, least=0)  # of the kernels
    layer_decay: float = setting(0.8, above=0, most=1)  # factor of the rate from each layer to the one before it
    batch: int = setting(16, least=1)  # pictures in a step
    alpha: float = setting(0.5, least=0, most=1)  # WiSE-FT: 0 the frozen weights, 1 the fine-tuned ones
    smoothing: float = setting(0.1, least=0, most=1)  # of the labels
    shift: float = setting(0.07, least=0, most=0.5)  # part of a picture's side by which it is shifted at most
    mirror: Literal["auto", "yes", "no"] = "auto"  # pictures at random; "auto": coloured ones alone, as letters are often grey


def set_head(encoder: nn.Encoder, linear: Linear) -> None:
    """Makes the linear classifier the encoder's head: its numbers, where it is one of that shape, else a new one."""
    head = encoder.head
    if type(head) is not nn.Linear or head.bias is None or head.weight.shape != linear.weight.shape:
        head = nn.Linear(encoder.width, len(linear.bias))
        encoder.head = head.to(next(iter(encoder.parameters())).device) if encoder.parameters() else head
    head.load_state_dict({"weight": linear.weight.astype(np.float32), "bias": linear.bias.astype(np.float32)})


def layers(encoder: nn.Encoder) -> list[list[nn.Parameter]]:
    """The parameters of each layer from the input to the head: an attribute of the encoder each, or a block of a list.

    Norms that have a list of their own belong to the layers in the list before it; what a list of modules has beside its items
    is a layer before these. What stands behind the head (a decoder, which the head does not read) comes first. An encoder in it
    (a CLIP's image tower) is not one layer: it has its own.
    """
    found, behind, last = [], 0, []  # last: of the last list
    for name, part in vars(encoder).items():
        is_list = isinstance(part, (list, tuple, nn.Sequential))
        own = layers(part) if isinstance(part, nn.Encoder) else [_parameters(each) for each in (part if is_list else [part])]
        listed = {id(p) for each in own for p in each}
        beside = [p for p in _parameters(part) if id(p) not in listed]
        if is_list and not beside and len(own) == len(last) and all(p.ndim < 2 for each in own for p in each):
            for layer, norm in zip(last, own):
                layer += norm
        else:
            found, last = [*found, beside, *own], own if is_list else last
        behind = len(found) if name == "head" else behind
    seen: set[int] = set()  # of what is shared the first place counts
    found = [[p for p in layer if not (id(p) in seen or seen.add(id(p)))] for layer in found]
    return [layer for layer in found[behind:] + found[:behind] if layer]


def _parameters(part):
    """Of a Module, a Parameter, or a list or dict of these."""
    holder = nn.Module()
    holder.part = part
    return holder.parameters()


def make_optimizers(encoder: nn.Encoder, config: Config) -> dict[str, optim.Optimizer]:
    """AdamW with a rate for each layer: lr for the head, times `layer_decay` from each layer to the one before it.

    Biases, normalisation and other parameters of one axis do not decay.
    """
    found, groups = {}, layers(encoder)
    for i, parameters in enumerate(groups):
        rate = config.lr * config.layer_decay ** (len(groups) - 1 - i)
        found |= optimizers.make(parameters, "adam", rate, config.decay, f" {i}")
    return found


def coloured(x: np.ndarray, most: int = 50) -> bool:
    """Whether the channels of inputs (N, C, H, W) differ in more than a mean and a deviation each; of so many inputs at most."""
    if not len(x):
        return False
    rows = x[::-(-len(x) // most)].swapaxes(0, 1).reshape(x.shape[1], -1)
    rows = rows - rows.mean(1, keepdims=True)
    deviations = rows.std(1, keepdims=True)
    difference = np.ptp(rows / np.where(deviations > 0, deviations, 1), 0).max(initial=0)
    return bool(difference > 0.1)  # grey pictures that were packed as coloured ones differ a little


class Batches:
    """Random batches of inputs (N, C, H, W) and labels (N,), each picture once in a round, shifted and mirrored at random."""

    def __init__(self, x: np.ndarray, y: np.ndarray, config: Config, seed: int):
        self.x, self.y, self.config, self.indices = x, y, config, Shuffled(len(x), seed)
        self.mirror = config.mirror == "yes" or config.mirror == "auto" and coloured(x)

    def sample(self) -> tuple[np.ndarray, np.ndarray]:
        """The next batch."""
        rows = self.indices.take(min(self.config.batch, len(self.x)))
        pixels = round(self.config.shift * self.x.shape[-1])
        return data.weak(self.x[rows], self.indices.rng, pixels, self.mirror), self.y[rows]

    def state_dict(self) -> dict[str, Any]:
        """The state of the round and of its generator, which shifts and mirrors use too."""
        return self.indices.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        self.indices.load_state_dict(state)


class FineTune(Method):
    """Trains the whole encoder; batch norm stays in evaluation mode, as a few pictures say little of its statistics.

    A checkpoint holds the fine-tuned weights as `net` and those of WiSE-FT as `wise`.
    """

    def __init__(self, config: Config, net: nn.Encoder):
        super().__init__(config, net)
        self.frozen = net.state_dict()

    def state(self) -> Parts:
        return {**super().state(), "wise": Between(self)}

    def arguments(self, batch: tuple[np.ndarray, np.ndarray], step: int) -> tuple[Tensor, Tensor]:
        """Inputs and labels."""
        self.net.eval()
        return tensor(self.net, batch[0]), *placed(self.net, of_classes(batch[1], told_apart(self.net)))

    def objective(self, x: Tensor, y: Tensor) -> Loss:
        """The cross-entropy with smoothed labels, and the share of pictures classified correctly."""
        logits = self.net(x)
        return mg.cross_entropy(logits, y, self.config.smoothing), {"accuracy": right(logits.data, y.data).mean()}

    def schedule(self, step: int, steps: int) -> float:
        """A tenth of the steps up from 0, then down a cosine to 0."""
        return optim.cosine_decay(1.0, steps, max(1, steps // 10))(step)


class Between:
    """The part of a checkpoint that WiSE-FT makes of the frozen and the present weights; nothing is put back."""

    def __init__(self, method: FineTune):
        self.method = method

    def state_dict(self) -> dict[str, np.ndarray]:
        """(1 - alpha) frozen + alpha tuned."""
        frozen, alpha = self.method.frozen, self.method.config.alpha
        return {name: ((1 - alpha) * frozen[name] + alpha * tuned).astype(tuned.dtype)
                for name, tuned in self.method.net.state_dict().items()}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """It follows from the others."""
