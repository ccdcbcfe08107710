"""Passing arrays through a network."""
import contextlib
from collections.abc import Iterator, Sequence

import numpy as np

import minigrad as mg
from minigrad import Tensor
from minigrad.nn import Linear, Module
from minigrad.ops.loss import check_labels


def tensor(net: Module, x: np.ndarray) -> Tensor:
    """An array as a float32 Tensor on the device of the network."""
    return placed(net, np.asarray(x, np.float32))[0]


def placed(net: Module, *arrays: np.ndarray) -> tuple[Tensor, ...]:
    """Arrays, in their own dtypes, as Tensors on the device of the network."""
    device = net.parameters()[0].device
    return tuple(mg.Tensor(array).to(device) for array in arrays)


def of_classes(labels: np.ndarray, classes: int | None) -> np.ndarray:
    """The labels, whole numbers of any shape, checked on the host: those on a GPU, out of range, would make the loss NaN.

    Args:
        classes: how many there are; None: not known, and nothing is checked. Nor are -100, which `mg.cross_entropy` leaves out.

    Raises:
        ValueError: a label is not from 0 to classes - 1.
    """
    if classes is not None and isinstance(labels, np.ndarray):
        check_labels("", labels, classes, -100)
    return labels


def told_apart(net: Module) -> int | None:
    """How many classes the linear layer `head` of a network tells apart; None if there is none."""
    head = getattr(net, "head", None)
    return len(head.weight) if isinstance(head, Linear) else None


def slices(rows: Sequence, batch: int) -> Iterator[Sequence]:
    """So many rows at a time, in order; of none an empty slice, of which a network's outputs have their shape."""
    return (rows[i:i + batch] for i in range(0, len(rows) or 1, batch))


def tensor_like(array: np.ndarray, x: Tensor) -> Tensor:
    """An array as a Tensor of the dtype and on the device of x."""
    return mg.Tensor(array.astype(x.dtype, copy=False)).to(x.device)


@contextlib.contextmanager
def evaluating(net: Module) -> Iterator[None]:
    """The network is in evaluation mode inside, and no graph is recorded. Afterwards each of its Modules is as it was."""
    before = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        with mg.no_grad():
            yield
    finally:
        for module, training in before:
            module.training = training


def joint_forward(net: Module, *groups: np.ndarray | Tensor) -> list[Tensor]:
    """The outputs for each group of inputs from one pass, so that batch normalisation is over all groups.

    Args:
        groups: arrays of the host, or Tensors on the device of the network.
    """
    x = mg.concatenate(groups) if isinstance(groups[0], Tensor) else tensor(net, np.concatenate(groups))
    return mg.split(net(x), np.cumsum([len(g) for g in groups])[:-1])


@contextlib.contextmanager
def frozen_statistics(net: Module) -> Iterator[None]:
    """Batch normalisation uses the batch's statistics inside, but the running ones stay as they are."""
    norms = [(m, m.momentum) for m in net.modules() if hasattr(m, "running_mean")]
    try:
        for m, _ in norms:
            m.momentum = 0.0
        yield
    finally:
        for m, momentum in norms:
            m.momentum = momentum


def probabilities(net: Module, x: Tensor) -> Tensor:
    """softmax of the outputs, (N, classes), as a constant. The running statistics stay as they are."""
    with mg.no_grad(), frozen_statistics(net):
        return mg.softmax(net(x), 1)
