"""Training what `peft.apply` has put into a network.

The head begins as a logistic regression of the features (LP-FT; Kumar et al. 2022, arXiv:2202.10054): with the few steps that
small parts of a network need, a head that begins with 0 would learn for most of them.
"""
from dataclasses import dataclass
from typing import Any

import minigrad as mg
from methods.training import optimizers
from methods.training.evaluation import right
from methods.training.forward import of_classes, told_apart
from methods.training.method import Loss, Method, Parts
from methods.training.settings import setting
from minigrad import nn, optim
from minigrad.backend import to_device

from .adaptation import Adaptation
from .places import head_of


@dataclass
class Config:
    """Settings of all methods; each has its own `lr`."""

    batch: int = setting(32, least=1)  # examples in a step
    probed: int = setting(2000, least=0)  # examples from whose features the head is found before training; 0: it begins with 0
    head_lr: float = setting(2e-3, above=0)  # of the new head
    decay: float = setting(0.01, least=0)  # of the matrices that learn, towards 0
    warmup: float = setting(0.1, least=0, most=1)  # part of the steps in which the rates grow; then they fall to 0


class Tuning(Method):
    """Cross-entropy of a network with an adaptation; a checkpoint holds the adaptation alone."""

    def __init__(self, config: Config, adaptation: Adaptation):
        super().__init__(config, adaptation.net)
        self.adaptation = adaptation

    def state(self) -> Parts:
        return {"adaptation": self.adaptation}

    def arguments(self, batch: tuple[Any, ...], step: int) -> tuple[Any, ...]:
        """The network's inputs and labels (N,)."""
        *x, y = self.inputs(batch)
        return *x, to_device(of_classes(y, told_apart(self.net)), self.net.parameters()[0].device)

    def objective(self, *arguments: Any) -> Loss:
        """The cross-entropy, and the share of examples classified correctly."""
        *x, y = arguments
        scores = self.net(*x)
        return mg.cross_entropy(scores, y), {"accuracy": right(scores.data, y).mean()}

    def inputs(self, batch: tuple[Any, ...]) -> tuple[Any, ...]:
        """The network's inputs on its device, and the labels as they are; the network is in training mode."""
        training(self.net)
        *x, y = batch
        device = self.net.parameters()[0].device
        return *(to_device(array, device) for array in x), y

    def schedule(self, step: int, steps: int) -> float:
        return optim.linear_decay(1.0, steps, self.config.warmup * steps)(step)


def training(net: nn.Module) -> None:
    """Training mode, but for batch normalisation, whose running statistics belong to the base."""
    net.train()
    for module in net.modules():
        if hasattr(module, "running_mean"):
            module.eval()


def make_optimizers(adaptation: Adaptation, lr: float, config: Config) -> dict[str, optim.Optimizer]:
    """AdamW of what is trained, at `lr`, and of the head at `head_lr`; biases and norms do not decay."""
    head = {id(parameter) for parameter in head_of(adaptation.net).parameters()}
    parts = [[p for p in adaptation.parameters() if (id(p) in head) == wanted] for wanted in (False, True)]
    return (optimizers.make(parts[0], "adam", lr, config.decay)
            | optimizers.make(parts[1], "adam", config.head_lr, config.decay, " of the head"))


def memory(optimizers: dict[str, optim.Optimizer]) -> int:
    """The bytes of the arrays that optimisers keep."""
    return sum(array.nbytes for optimizer in optimizers.values() for array in _arrays(optimizer.state_dict()))


def _arrays(state):
    if isinstance(state, dict):
        return [array for value in state.values() for array in _arrays(value)]
    if isinstance(state, (list, tuple)):
        return [array for value in state for array in _arrays(value)]
    return [state] if getattr(state, "ndim", 0) else []
