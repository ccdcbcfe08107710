"""Optimisers by name, with weight decay for the kernels alone."""
from collections.abc import Iterable

from minigrad import nn, optim

KINDS = {"adam": lambda p, lr, decay: optim.AdamW(p, lr, weight_decay=decay),
         "sgd": lambda p, lr, decay: optim.SGD(p, lr, 0.9, decay, True),
         "lars": lambda p, lr, decay: optim.LARS(p, lr, 0.9, decay)}


def make(parameters: Iterable[nn.Parameter], kind: str, lr: float, decay: float, label: str = "") -> dict[str, optim.Optimizer]:
    """One for the kernels, which decay, and one for the rest (biases, normalisation), which does not.

    Args:
        kind: "adam" (AdamW), "sgd" (Nesterov momentum 0.9) or "lars" (momentum 0.9).
        decay: of the kernels, times the learning rate in each step.
        label: follows the names "kernels" and "rest".
    """
    groups = {"kernels": [], "rest": []}
    for parameter in parameters:
        groups["kernels" if parameter.ndim > 1 else "rest"].append(parameter)
    return {name + label: KINDS[kind](group, lr, decay if name == "kernels" else 0) for name, group in groups.items() if group}
