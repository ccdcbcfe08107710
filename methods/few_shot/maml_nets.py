"""MAML's networks: functions of a dict of parameters, each with or without a leading axis of tasks."""
import math

import numpy as np

import minigrad as mg
from minigrad import Tensor

Params = dict[str, Tensor]
Moments = list[tuple[Tensor, Tensor]]  # of each layer mean and variance, (1, tasks * channels, 1, 1) each
LAYERS = 4
FIXED = ("scale", "shift")  # of the batch normalisation: learned, but not changed by the inner loop


def init_conv_net(rng: np.random.Generator, way: int, width: int = 64, steps: int = 1, positions: int = 1) -> Params:
    """Parameters of four 3x3 convolutions of stride 2, each normalised, and a linear layer.

    Args:
        way: how many classes; width: the channels of each layer.
        steps: how many scales and shifts each layer has, one for each inner step and one for what follows; or 1 for all.
        positions: of the last map, which the linear layer reads (2 x 2 = 4 of 28 x 28 images); 1, as in the paper: their mean.
    """
    params = {}
    for i in range(LAYERS):
        fan_in = 9 * (width if i else 1)
        params[f"conv{i}"] = rng.normal(0, math.sqrt(2 / fan_in), (width, width if i else 1, 3, 3))
        params[f"scale{i}"], params[f"shift{i}"] = np.ones((steps, width)), np.zeros((steps, width))
    params["weight"], params["bias"] = rng.normal(0, 0.01, (way, positions * width)), np.zeros(way)
    return {k: mg.Tensor(v.astype(np.float32), requires_grad=True) for k, v in params.items()}


def conv_net(params: Params, x: Tensor, step: int = 0, moments: Moments | None = None) -> Tensor:
    """Images (tasks, n, 1, H, W) to logits (tasks, n, way).

    Args:
        step: which scale and shift to take, where each inner step has its own.
        moments: to normalise by, those of the support set: the queries do not see each other. An empty list is filled with
            the batch's. None: by the batch itself (transductive).
    """
    tasks, n = x.shape[:2]
    x = mg.reshape(mg.swapaxes(x, 0, 1), (n, -1, *x.shape[3:]))  # (n, tasks * channels, H, W)
    for i in range(LAYERS):
        w = params[f"conv{i}"]
        x = mg.conv2d(x, w.reshape(-1, *w.shape[-3:]), stride=2, padding=1, groups=tasks)
        scale, shift = (mg.tile(params[f"{name}{i}"][min(step, len(params[f"{name}{i}"]) - 1)], tasks) for name in FIXED)
        if moments is None:
            x = mg.batch_norm(x, None, None, scale, shift, training=True)
        else:
            if len(moments) == i:
                moments.append((x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True)))
            mean, var = moments[i]
            x = (x - mean) / mg.sqrt(var + 1e-5) * scale.reshape(1, -1, 1, 1) + shift.reshape(1, -1, 1, 1)
        x = mg.relu(x)
    if params["weight"].shape[-1] == x.shape[1] // tasks:
        x = x.mean((2, 3))
    x = mg.swapaxes(x.reshape(n, tasks, -1), 0, 1)  # (tasks, n, features)
    return x @ params["weight"].mT + params["bias"].reshape(tasks, 1, -1)


def init_mlp(rng: np.random.Generator, hidden: int = 40) -> Params:
    """Parameters of the sinusoid's network, 1 - hidden - hidden - 1."""
    sizes = (1, hidden, hidden, 1)
    params = {}
    for i, (a, b) in enumerate(zip(sizes, sizes[1:])):
        bound = 1 / math.sqrt(a)  # larger, and the first inner steps would diverge: x is up to 5
        params[f"weight{i}"], params[f"bias{i}"] = rng.uniform(-bound, bound, (a, b)), rng.uniform(-bound, bound, (1, b))
    return {k: mg.Tensor(v.astype(np.float32), requires_grad=True) for k, v in params.items()}


def mlp(params: Params, x: Tensor, step: int = 0, moments: None = None) -> Tensor:
    """Points (tasks, n, 1) to values (tasks, n, 1); it normalises nothing, so step and moments play no part."""
    for i in range(2):
        x = mg.relu(x @ params[f"weight{i}"] + params[f"bias{i}"])
    return x @ params["weight2"] + params["bias2"]
