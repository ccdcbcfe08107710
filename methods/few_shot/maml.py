"""Model-agnostic meta-learning.

Chelsea Finn, Pieter Abbeel, Sergey Levine: "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", 2017,
arXiv:1703.03400. Learned step sizes: Zhenguo Li et al.: "Meta-SGD: Learning to Learn Quickly for Few-Shot Learning", 2017,
arXiv:1707.09835, where they begin at random between 0.005 and 0.1, here all at `alpha`. A scale and shift for each inner step:
Antoniou et al.: "How to train your MAML", 2018, arXiv:1810.09502.

Learn parameters from which a few gradient steps on a task's few examples (S) solve the task (Q).

    theta'_0 = theta,  theta'_{j+1} = theta'_j - alpha * grad L_S(theta'_j)      (inner loop, one for each task)
    minimise over theta:  mean over tasks of L_Q(theta'_J)                        (through the inner gradients: second order)

First-order MAML treats the inner gradient as a constant; Meta-SGD minimises over alpha as well.

A batch of tasks is computed at once: each parameter gets a leading axis of tasks, and the tasks lie side by side as groups
of channels. Tasks share no sum, so the gradient of their losses' total is each task's own gradient.
"""
import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

import minigrad as mg
from methods.training.method import Loss, Method
from methods.training.settings import setting
from minigrad import Tensor, nn, optim

Params = dict[str, Tensor]
Examples = tuple[Tensor, Tensor]  # x and y, each with a leading axis of tasks
Moments = list[tuple[Tensor, Tensor]]  # of each layer mean and variance, (1, tasks * channels, 1, 1) each


@dataclass
class Config:
    """Settings for 5-way Omniglot and some thousand meta-steps (the paper takes 60,000)."""

    way: int = setting(5, least=2)
    shot: int = setting(1, least=1)
    query: int = setting(5, least=1)  # images a class that L_Q is computed on
    tasks: int = setting(8, least=1)  # tasks in a meta-step (paper: 32)
    inner_steps: int = setting(3, least=0)  # J while training (paper: 1 of size 0.4; the first-order form then hardly learns)
    test_steps: int = setting(10, least=0)  # J at test
    alpha: float = setting(0.05, least=0)  # inner step size; the inner loss is summed over the classes
    lr: float = setting(3e-3, least=0)  # of Adam on theta (and alpha)
    schedule: Literal["constant", "cosine"] = "cosine"  # of the learning rate: a cosine to 0, or none
    first_order: bool = False  # the inner gradient is a constant
    learn_alpha: Literal["no", "scalar", "tensor", "parameter"] = "no"  # one, one a tensor, one a parameter (Meta-SGD)
    norm: Literal["transductive", "support", "per-step"] = "transductive"  # see `conv_net`
    shift: int = setting(0, least=0)  # pixels; if not 0, at test each image counts at five places, so far apart


# -- networks: functions of a dict of parameters, each with or without a leading axis of tasks ------------------------

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


# -- losses: one number for each task ----------------------------------------------------------------------------------

def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Of logits (tasks, n, way) and labels (tasks, n): summed over the classes, averaged over each class's examples, (tasks,)."""
    return -mg.take_along_axis(mg.log_softmax(logits, 2), labels[:, :, None], 2).mean((1, 2)) * logits.shape[2]


def squared_error(y: Tensor, target: Tensor) -> Tensor:
    """The mean over each task's examples, (tasks, n, 1) to (tasks,)."""
    return ((y - target) ** 2).mean((1, 2))


# -- the method --------------------------------------------------------------------------------------------------------

def init_alpha(params: Params, config: Config) -> dict[str, float | Tensor]:
    """Step sizes by the names of the adapted parameters: a number, or with `learn_alpha` Parameters of the chosen shape."""
    adapted = [k for k in params if not k.startswith(FIXED)]
    if config.learn_alpha == "no":
        return dict.fromkeys(adapted, config.alpha)

    def learned(shape):
        size = mg.Tensor(np.full(shape, config.alpha, np.float32)).to(params[adapted[0]].device)
        return nn.Parameter(size)

    if config.learn_alpha == "scalar":
        return dict.fromkeys(adapted, learned(()))
    return {k: learned(params[k].shape if config.learn_alpha == "parameter" else ()) for k in adapted}


Net = Callable[..., Tensor]  # (parameters, x, inner step, moments) to outputs
TaskLoss = Callable[[Tensor, Tensor], Tensor]  # outputs and y to a loss for each task


def adapt(net: Net, loss: TaskLoss, params: Params, alpha: dict[str, float | Tensor], x: Tensor, y: Tensor, steps: int,
          first_order: bool = False) -> Params:
    """theta'_J of each task, from its support set x (tasks, n, ...), y (tasks, n, ...). Fixed parameters are passed on.

    One step theta' = theta - alpha g(theta) has the Jacobian I - alpha H, H the Hessian of L_S, so that

        grad over theta of L_Q(theta') = (I - alpha H) grad L_Q(theta')          (after J steps a product of such factors)

    Second-order MAML has both terms. First-order MAML leaves out alpha H alone: theta' = theta - alpha stopgrad(g) still
    contains theta itself, the identity path, by which grad L_Q(theta') arrives at theta unchanged. Were theta' as a whole a
    constant, nothing would arrive.
    """
    tasks = len(x)
    fast = {k: mg.broadcast_to(params[k], (tasks, *params[k].shape)) for k in alpha}
    fixed = {k: p for k, p in params.items() if k not in alpha}
    for j in range(steps):
        def total(fast):
            return loss(net({**fixed, **fast}, x, j), y).sum()

        # mg.grad records its gradient where `fast` requires one, without create_graph; under no_grad g is a constant.
        with mg.no_grad() if first_order else contextlib.nullcontext():
            g = mg.grad(total)(fast)
        fast = {k: fast[k] - alpha[k] * g[k] for k in fast}
    return {**fixed, **fast}


def query_outputs(net: Net, loss: TaskLoss, params: Params, alpha: dict[str, float | Tensor], support: Examples,
                  query_x: Tensor, config: Config, steps: int) -> Tensor:
    """The adapted networks' outputs for the queries: (tasks, n, ...)."""
    adapted = adapt(net, loss, params, alpha, *support, steps, config.first_order)
    moments = [] if config.norm == "support" else None
    if moments is not None:
        net(adapted, support[0], steps, moments)  # fills it
    return net(adapted, query_x, steps, moments)


def meta_loss(net: Net, loss: TaskLoss, params: Params, alpha: dict[str, float | Tensor], support: Examples, query: Examples,
              config: Config) -> tuple[Tensor, Tensor]:
    """The mean over tasks of L_Q(theta'_J), and the outputs for the queries (tasks, n, ...)."""
    outputs = query_outputs(net, loss, params, alpha, support, query[0], config, config.inner_steps)
    return loss(outputs, query[1]).mean(), outputs


class MAML(Method):
    """Trains a learner (`maml_tasks`) on batches of tasks: arrays (support x, support y, query x, query y)."""

    def loss(self, batch: tuple[np.ndarray, ...], step: int) -> Loss:
        x, y, query_x, query_y = self.net.placed(batch)
        loss, outputs = meta_loss(self.net.apply, self.net.task_loss, self.net.theta, self.net.alpha, (x, y),
                                  (query_x, query_y), self.config)
        return loss, {"score": self.net.score(outputs.numpy(), batch[3]).mean()}

    def schedule(self, step: int, steps: int) -> float:
        return optim.cosine_decay(1.0, steps)(step) if self.config.schedule == "cosine" else 1.0
