"""Trained classifiers, built again from their checkpoints and used without the script that trained them."""
import dataclasses
import importlib
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

import minigrad as mg
from minigrad.nn import Module

from . import checkpoint
from .evaluation import in_batches
from .forward import slices, tensor
from .pictures import EncoderInput, Preprocessing, preprocessing_of


class Architecture:
    """A network by the full name of its class and its arguments (plain values, or further Architectures)."""

    def __init__(self, name: str, **arguments: Any):
        self.name, self.arguments = name, arguments

    def build(self) -> Module:
        """The network, with new parameters.

        Raises:
            ValueError: there is no such network in `minigrad` or `methods`.
        """
        kind = _network(self.name)
        return kind(**{k: v.build() if isinstance(v, Architecture) else v for k, v in self.arguments.items()})

    def facts(self) -> dict[str, Any]:
        """The architecture as JSON can hold it."""
        inner = {k: v.facts() if isinstance(v, Architecture) else {"class": full_name(v)} if isinstance(v, type) else v
                 for k, v in self.arguments.items()}
        return {"architecture": self.name, "arguments": inner}

    @classmethod
    def of(cls, facts: dict[str, Any]) -> "Architecture":
        """What `facts` described."""
        def inner(value):
            if isinstance(value, dict) and value.keys() == {"class"}:
                return _network(value["class"])
            return cls.of(value) if isinstance(value, dict) and value.keys() == {"architecture", "arguments"} else value

        return cls(facts["architecture"], **{k: inner(v) for k, v in facts["arguments"].items()})


def full_name(kind: type) -> str:
    """Module and name of a class."""
    return f"{kind.__module__}.{kind.__qualname__}"


def _network(full):
    """The class of Modules of that name."""
    module, _, name = full.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), name) if module.split(".")[0] in ("minigrad", "methods") else None
    except (ImportError, AttributeError):
        kind = None
    if not isinstance(kind, type) or not issubclass(kind, Module):
        raise ValueError(f"there is no network {full!r} in minigrad or methods")
    return kind


@dataclass
class Classifier:
    """A network with all that is needed to classify pictures.

    Args:
        architecture: of the network.
        classes: their names.
        preprocessing: of picture files.
        support: of few-shot networks, the known examples: bytes (classes, examples, C, H, W).
        weights: the part of the checkpoint that holds the network's arrays.
        net: the network.
    """

    architecture: Architecture
    classes: tuple[str, ...]
    preprocessing: Preprocessing | EncoderInput
    support: np.ndarray | None = None
    weights: str = "net"
    net: Module | None = None

    def facts(self) -> dict[str, Any]:
        """What `checkpoint.save` writes of it."""
        return {"network": self.architecture.facts(), "weights": self.weights, "classes": list(self.classes),
                "preprocessing": dataclasses.asdict(self.preprocessing), "support": self.support}

    def probabilities(self, images: np.ndarray, batch: int = 100) -> np.ndarray:
        """The probability of each class, (N, classes), for preprocessed images (N, C, H, W)."""
        if self.support is None:
            return mg.softmax(mg.Tensor(in_batches(self.net, images, batch)), 1).numpy()
        known = self.support.reshape(-1, *self.support.shape[2:]).astype(np.float32) / self.preprocessing.divisor
        support, queries = in_batches(self.net, known, batch), in_batches(self.net, images, batch)
        with mg.no_grad():
            prepared = self.net.prepare(tensor(self.net, support), len(self.support))
            return np.concatenate([self.net.probabilities(prepared, tensor(self.net, some), len(self.support)).numpy()
                                   for some in slices(queries, batch)])


def load_classifier(path: str | os.PathLike, device: str = "cpu") -> Classifier:
    """The classifier of a checkpoint, in evaluation mode.

    Raises:
        FileNotFoundError: there is no checkpoint; ValueError: it is damaged, of another version or holds no classifier.
    """
    found = load_network(path, device)
    if not found.classes:
        raise ValueError(f"{path} holds an encoder, which knows no classes: give its folder as --encoder, or to examples.embed")
    return found


def load_network(path: str | os.PathLike, device: str = "cpu") -> Classifier:
    """As `load_classifier`, or an encoder: a classifier of no classes."""
    facts = checkpoint.load(path)
    about, state = facts["classifier"], facts["state"]
    if about is None:
        raise ValueError(f"{path} holds no classifier")
    architecture = Architecture.of(about["network"])
    net = architecture.build()
    arrays = state[about["weights"]]
    net.load_state_dict({name: arrays[name] for name in net.state_dict()})  # a training may have more: a second head
    return Classifier(architecture, tuple(about["classes"]), preprocessing_of(about["preprocessing"]), about["support"],
                      about["weights"], net.to(device).eval())
