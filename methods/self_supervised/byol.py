"""BYOL, and SimSiam, which does without the average.

Jean-Bastien Grill and others: "Bootstrap your own latent", 2020, arXiv:2006.07733.
Xinlei Chen, Kaiming He: "Exploring simple Siamese representation learning", 2020, arXiv:2011.10566: theta' = theta, batch norm
stands behind g, and the predictor's learning rate stays as it is.

A network predicts what its own moving average, the target, says of another view. There are no negatives.

    z = g(f(v; theta)),  z' = g(f(v'; theta'))
    D(v, v') = 2 - 2 cos(q(z), z'),  z' constant
    L = mean over pictures of D(v, v') + D(v', v)
    theta' <- gamma theta' + (1 - gamma) theta,   gamma = 1 - (1 - gamma_0) (cos(pi k / K) + 1) / 2        (after step k of K)

f is the encoder; g and q have one hidden layer with batch norm and ReLU, and no bias in the last layer.

Without the predictor q all pictures may get the same z: the loss falls to 0 and `spread` with it.
"""
from dataclasses import dataclass

import minigrad as mg
from methods.training import optimizers
from methods.training.method import Loss, Parts
from methods.training.settings import setting
from methods.training.teacher import Teacher, cosine_momentum
from minigrad import Tensor, nn, optim
from minigrad.data import views

from .base import Batch, Projected, SelfSupervisedMethod, Task, mlp, spread


@dataclass
class Config:
    """Settings for short trainings; the paper's networks are wider and gamma_0 is 0.996, for 1,000 epochs."""

    gamma: float = setting(0.97, least=0, most=1)  # gamma_0; 0 from beginning to end is SimSiam
    hidden: int = setting(256, least=1)  # width of the hidden layer of g and q
    projection: int = setting(64, least=1)  # width of z
    predictor: bool = True  # False: q is left out
    blur: bool = False  # views are blurred, as in the paper; off for small images


def distance(q: Tensor, target: Tensor) -> Tensor:
    """The mean of D over rows (N, d) of predictions and targets; from 0 to 4. No gradient goes to the targets."""
    return 2 - 2 * mg.cosine_similarity(q, mg.stop_gradient(target), 1).mean()


class BYOL(SelfSupervisedMethod):
    """Trains by L, with batch norm over one view at a time. The target's uses the batch's statistics, too."""

    def __init__(self, config: Config, encoder: nn.Encoder, task: Task):
        heads = nn.Sequential(mlp((encoder.width, config.hidden, config.projection), last_norm=not config.gamma),
                              mlp((config.projection, config.hidden, config.projection)) if config.predictor else nn.Identity())
        super().__init__(config, encoder, heads, task)
        self.views = views.byol(task.size, blur=config.blur, flip=task.flip)
        self.projected = Projected(encoder, self.heads[0])
        self.target = Teacher(self.projected, warmup=False) if config.gamma else None

    def state(self) -> Parts:
        return super().state() | ({"target": self.target} if self.target else {})

    def optimizers(self, kind: str, lr: float, decay: float) -> dict[str, optim.Optimizer]:
        if self.target or not self.config.predictor:
            return super().optimizers(kind, lr, decay)
        predictors = optimizers.make(self.heads[1].parameters(), kind, lr, decay, " of the predictor")
        self.steady = tuple(predictors)
        return optimizers.make(self.projected.parameters(), kind, lr, decay) | predictors

    def arguments(self, batch: Batch, step: int) -> tuple[Tensor, ...]:
        """The two views."""
        return tuple(self.tensor(v) for v in views.make_views(batch.x, self.rng, self.views))

    def objective(self, *both: Tensor) -> Loss:
        """L, and how far the outputs are from collapse."""
        z = [self.projected(v) for v in both]
        targets = z
        if self.target:
            with mg.no_grad():
                targets = [self.target.net.train()(v) for v in both]
        q = [self.heads[1](each) for each in z]
        return distance(q[0], targets[1]) + distance(q[1], targets[0]), {"spread": spread(z[0])}

    def after_step(self, step: int) -> None:
        if self.target:
            self.target.update(cosine_momentum(step, self.task.steps, self.config.gamma))


Objective = BYOL
