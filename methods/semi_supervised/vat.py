"""Virtual adversarial training.

Takeru Miyato, Shin-ichi Maeda, Masanori Koyama, Shin Ishii: "Virtual Adversarial Training: A Regularization Method for
Supervised and Semi-Supervised Learning", 2017, arXiv:1704.03976.

The prediction should not change in the direction, of all small changes of the input, that changes it most. It is found by
power iteration with the Hessian of the divergence, whose product with d is a difference of gradients:

    d <- grad over d of KL(p(x) || p(x + xi d / |d|)),  K times from random d;  r = eps d / |d|
    L = mean CE(f(x), y) + alpha mean KL(p(u) || p(u + r)) + H mean entropy of p(u)

p(u) on the left and r are constants. The labelled pass alone moves the running statistics of batch normalisation; the
three other passes share their dropout mask. xi must not be tiny: float32 would round it away.
"""
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import minigrad as mg
from methods.training.forward import frozen_statistics, tensor_like
from methods.training.method import Loss
from methods.training.settings import setting
from minigrad import Tensor
from minigrad.data import Batch

from .base import SemiSupervisedMethod

ROW = "adversarial", "weak", "none"


@dataclass
class Config:
    """The paper's settings."""

    eps: float = setting(8.0, least=0)  # length of r; it goes with the inputs' scale (paper, augmented: CIFAR-10 8, SVHN 3.5)
    xi: float = setting(0.1, least=1e-6)  # length of the step that differences are taken over (paper: 1e-6)
    iterations: int = setting(1, least=0)  # K; 0: r in a random direction
    alpha: float = setting(1.0, least=0)  # weight of the divergence
    entropy: float = setting(1.0, least=0)  # H, weight of the entropy: 0 for VAT alone
    stop_gradient: bool = True  # p(u) on the left is a constant; False: the gradient flows through it too
    ema: float = setting(0.999, least=0, below=1)  # decay of the weights' average that is tested


SHORT = dict(eps=2.0)


def unit(d: Any) -> Any:
    """Each example's array, of (N, ...), divided by its Euclidean length; scaled first, or squares might vanish or overflow."""
    axes = tuple(range(1, d.ndim))
    d = d / (1e-30 + abs(d).max(axes, keepdims=True))
    return d / np.sqrt((d * d).sum(axes, keepdims=True) + 1e-12)


def adversarial(f: Callable[[Tensor], Tensor], x: Tensor, logits: Tensor, d: Any, config: Config) -> Tensor:
    """r for the inputs x (N, ...), from the logits there (constants) and the first directions, an array d.

    f maps inputs to logits.

    D(r) = KL(p(x) || p(x + r)) is 0 at r = 0 and never below, so its gradient vanishes there and near 0 it is 1/2 r'Q r,
    Q its Hessian; among all r of one length it is largest along the eigenvector of Q with the largest eigenvalue. The power
    method finds that: d <- Q d / |Q d|, which enlarges each eigenvector's share of d by its eigenvalue. Q itself is not
    needed: the gradient of D(xi d) over d is xi^2 Q d + O(xi^3), a step of the power method, and the division by its length
    takes xi^2 away. At d = 0 the gradient would say nothing, hence the random start.
    """
    for _ in range(config.iterations):
        d = unit(d)
        d = mg.grad(lambda d: mg.kl_divergence(logits, f(x + config.xi * d), reduction="sum"))(mg.Tensor(d)).data
    return tensor_like(config.eps * unit(d), x)


class VAT(SemiSupervisedMethod):
    """Trains by L; alpha and H are `config.alpha` and `config.entropy`."""

    def arguments(self, batch: Batch, step: int) -> tuple[Tensor, ...]:
        """The images, augmented, the labels and the first d."""
        x, u = (self.tensor(self.task.weak(images, self.rng)) for images in (batch.x, batch.u))
        return x, u, self.labels(batch.y), self.tensor(self.rng.standard_normal(u.shape, dtype=np.float32))

    def objective(self, x: Tensor, u: Tensor, y: Tensor, d: Tensor) -> Loss:
        """L, and the divergence."""
        c, z = self.config, self.net(x)
        state = mg.random.get_state()

        def f(inputs):
            mg.random.set_state(state)  # for one dropout mask
            with frozen_statistics(self.net):
                return self.net(inputs)

        zu = f(u)
        r = adversarial(f, u, zu.detach(), d.data, c)
        divergence = mg.kl_divergence(zu.detach() if c.stop_gradient else zu, f(u + r))
        loss = mg.cross_entropy(z, y) + c.alpha * divergence
        if c.entropy:
            loss = loss - c.entropy * (mg.softmax(zu, 1) * mg.log_softmax(zu, 1)).sum(1).mean()
        return loss, {"divergence": divergence}


Objective = VAT
