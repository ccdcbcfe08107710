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
of channels (`maml_nets`). Tasks share no sum, so the gradient of their losses' total is each task's own gradient.
"""
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

import minigrad as mg
from methods.training.forward import placed
from methods.training.method import Loss, Method
from methods.training.settings import setting
from minigrad import Tensor, nn, optim

from .maml_nets import FIXED, Params

Examples = tuple[Tensor, Tensor]  # x and y, each with a leading axis of tasks


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
    norm: Literal["transductive", "support", "per-step"] = "transductive"  # see `maml_nets.conv_net`
    shift: int = setting(0, least=0)  # pixels; if not 0, at test each image counts at five places, so far apart


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

    def arguments(self, batch: tuple[np.ndarray, ...], step: int) -> tuple[Tensor, ...]:
        """The batch on the learner's device."""
        return placed(self.net, *batch)

    def objective(self, x: Tensor, y: Tensor, query_x: Tensor, query_y: Tensor) -> Loss:
        """The loss over the queries, and the mean of the tasks' scores."""
        loss, outputs = meta_loss(self.net.apply, self.net.task_loss, self.net.theta, self.net.alpha, (x, y),
                                  (query_x, query_y), self.config)
        return loss, {"score": self.net.score(outputs.data, query_y.data).mean()}

    def schedule(self, step: int, steps: int) -> float:
        return optim.cosine_decay(1.0, steps)(step) if self.config.schedule == "cosine" else 1.0
