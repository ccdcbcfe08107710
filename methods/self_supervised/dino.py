"""DINO.

Mathilde Caron and others: "Emerging properties in self-supervised vision Transformers", 2021, arXiv:2104.14294.

A student that sees a small crop says what a teacher, its moving average, says of a large one, in "classes" that nobody named.

    P_t = softmax((g(f(v; theta')) - c) / tau_t),  P_s = softmax(g(f(v; theta)) / tau_s)
    L = mean over pairs of a global view v and another view v', and over pictures, of -sum_k P_t(v)_k log P_s(v')_k
    c <- m c + (1 - m) mean of g(f(v; theta')) over the batch,   theta' <- gamma theta' + (1 - gamma) theta

g ends in a linear layer without bias on rows of length 1, whose own rows have length 1: its outputs are cosines. Centring (c)
alone lets P_t become uniform, sharpening (tau_t < tau_s) alone lets one class take everything; each prevents the other:

    `entropy of the mean`  H(mean P_t) / log K, 0 if all pictures fall into one class
    `entropy`              mean H(P_t) / log K, 1 if each picture is spread evenly
"""
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

import minigrad as mg
from methods.training import plots
from methods.training.forward import evaluating, tensor_like
from methods.training.method import Loss, Parts
from methods.training.settings import setting
from methods.training.teacher import Teacher, cosine_momentum
from minigrad import Tensor, nn, optim
from minigrad.data import views

from .base import Batch, Projected, SelfSupervisedMethod, Task


@dataclass
class Config:
    """Settings for short trainings of small networks; in brackets the paper's."""

    classes_made: int = setting(1024, least=2)  # K, the outputs (65536)
    hidden: int = setting(256, least=1)  # width of the head's hidden layers (2048)
    batch_norm: bool = True  # in these (no)
    bottleneck: int = setting(64, least=1)  # what is brought to length 1 (256)
    local_views: int = setting(2, least=0)  # local views (8)
    local_size: int = setting(16, least=1)  # their pixels; the network must take them
    tau_s: float = setting(0.1, above=0)
    tau_t: float = setting(0.04, above=0)  # at first
    tau_t_last: float = setting(0.04, above=0)  # from the end of its warm-up on (0.07)
    tau_t_warmup: float = setting(0.1, least=0, most=1)  # the part of the training in which it moves there (30 epochs)
    decay_rise: float = setting(1.0, least=0)  # the weight decay at the end over that at first, in between along a cosine (10)
    clip: float = setting(0.0, least=0)  # the greatest norm of a parameter's gradient (3); 0: any
    centre: float = setting(0.9, least=0, most=1)  # m; 1: no centring
    gamma: float = setting(0.95, least=0, most=1)  # of the teacher at first; it rises to 1 (0.996)
    frozen: float = setting(0.05, least=0, most=1)  # the part of the training in which the last layer stays (1 epoch)
    blur: bool = False  # views are blurred, as in the paper; off for small images


SHORT = dict(lr=2e-3)


class Head(nn.Module):
    """g: linear layers with GELU, length 1, a linear layer whose rows have length 1: (N, inputs) to cosines (N, K).

    Args:
        batch_norm: before each GELU. Features that no norm has centred all point nearly one way, and many steps go into
            moving them apart.
    """

    def __init__(self, inputs: int, hidden: int, bottleneck: int, classes: int, batch_norm: bool = False):
        layers = []
        for width, outputs in ((inputs, hidden), (hidden, hidden), (hidden, bottleneck)):
            if layers and batch_norm:
                layers.append(nn.BatchNorm1d(width))
            if layers:
                layers.append(nn.GELU())
            layers.append(nn.Linear(width, outputs))
            nn.init.trunc_normal_(layers[-1].weight, std=0.02)
            nn.init.zeros_(layers[-1].bias)
        self.mlp = nn.Sequential(*layers)
        self.last = nn.Linear(bottleneck, classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return mg.l2_normalize(self.mlp(x), 1) @ mg.l2_normalize(self.last.weight, 1).T


def loss(student: list[Tensor], targets: list[Any], tau_s: float) -> Tensor:
    """L from the student's outputs (N, K) for each view, the global ones first, and P_t (N, K) of the global ones, arrays."""
    terms = []
    for t, target in enumerate(targets):
        for s, outputs in enumerate(student):
            if s != t:
                terms.append(-(tensor_like(target, outputs) * mg.log_softmax(outputs / tau_s, 1)).sum(1).mean())
    return sum(terms) / len(terms)


def entropy(p: Any) -> Any:
    """-sum p log p of each row of an array."""
    return -(p * np.log(np.maximum(p, 1e-12))).sum(-1)


def attention_maps(encoder: nn.VisionTransformer, x: Tensor) -> np.ndarray:
    """How much the class token of the last block attends to each patch, by each head: (N, heads, rows, columns)."""
    with evaluating(encoder):
        _, maps = encoder(x, need_weights=True)
    rows, columns = (n // encoder.patch_embed.patch_size for n in x.shape[2:])
    weights = maps[-1].numpy()[:, :, 0, -rows * columns:]
    return weights.reshape(*weights.shape[:2], rows, columns)


def draw_attention(encoder: nn.VisionTransformer, x: Tensor, images: np.ndarray, path: str | os.PathLike) -> None:
    """A column for each image (N, C, H, W) from 0 to 1: itself, and the attention of each head for the input x made of it."""
    maps = attention_maps(encoder, x)
    maps = maps / maps.max((2, 3), keepdims=True)
    size = images.shape[2:]
    large = mg.interpolate(maps, size=size, mode="nearest").numpy()
    heads = [f"head {h + 1}" for h in range(maps.shape[1])]
    plots.pictures([images, *(large[:, [h]] for h in range(len(heads)))], path, ["picture", *heads])


class DINO(SelfSupervisedMethod):
    """Trains by L. Views of one size go through the network together."""

    useful = "encoder"
    kernels: list[dict] = []  # the optimiser's groups of parameters that decay
    decay = 0.0  # their weight decay at first

    def __init__(self, config: Config, encoder: nn.Encoder, task: Task):
        head = Head(encoder.width, config.hidden, config.bottleneck, config.classes_made, config.batch_norm)
        super().__init__(config, encoder, head, task)
        self.views = views.dino(task.size, config.local_size, config.local_views, blur=config.blur, flip=task.flip)
        try:
            with evaluating(encoder):
                encoder.features(self.tensor(np.zeros((1, task.channels, config.local_size, config.local_size))))
        except ValueError as error:
            raise SystemExit(f"--local-size {config.local_size}: the encoder takes no such views: {error}") from None
        self.online = Projected(encoder, self.heads)
        self.teacher = Teacher(self.online, warmup=False)
        self.c = mg.zeros((1, config.classes_made), dtype=np.float32).to(encoder.parameters()[0].device)

    @property
    def encoder(self) -> nn.Encoder:
        """The teacher's, which is the better one throughout the training (section 5.2)."""
        return self.teacher.net.encoder

    def state(self) -> Parts:
        return super().state() | {"teacher": self.teacher, "encoder": self.encoder, "centre": self.c}

    def arguments(self, batch: Batch, step: int) -> tuple[Any, ...]:
        """The views, those of one size together; how many pictures; tau_t; what `at_step` did."""
        made = views.make_views(batch.x, self.rng, self.views)
        sizes = dict.fromkeys(v.shape[-1] for v in made)  # that of the global views first, be it the larger one or not
        same = [self.tensor(np.concatenate([v for v in made if v.shape[-1] == size])) for size in sizes]
        return same, len(batch.x), self.tensor(self.tau_t(step)), self.at_step(step)

    def objective(self, same: list[Tensor], n: int, tau_t: Tensor, _: tuple[bool, float]) -> Loss:
        """L, and the two entropies."""
        c, student = self.config, [z for x in same for z in self.together(x, n)]
        with mg.no_grad():
            raw = self.teacher.net.train()(same[0][:2 * n]).data
        p = mg.softmax((raw - self.c.data) / tau_t.data, 1).data
        found = loss(student, [p[:n], p[n:]], c.tau_s)
        self.c.data[...] = c.centre * self.c.data + (1 - c.centre) * raw.mean(0, keepdims=True)
        most = np.log(c.classes_made)
        return found, {"entropy of the mean": entropy(p.mean(0)) / most, "entropy": entropy(p).mean() / most}

    def tau_t(self, step: int) -> float:
        """The teacher's temperature."""
        c = self.config
        done = min(1.0, step / (c.tau_t_warmup * self.task.steps)) if c.tau_t_warmup else 1.0
        return c.tau_t + done * (c.tau_t_last - c.tau_t)

    def optimizers(self, kind: str, lr: float, decay: float) -> dict[str, optim.Optimizer]:
        found = super().optimizers(kind, lr, decay)
        self.kernels, self.decay = found["kernels"].param_groups, decay
        return found

    def together(self, x: Tensor, n: int) -> list[Tensor]:
        """The student's outputs for views of one size, each of n pictures."""
        return mg.split(self.online(x), len(x) // n)

    def at_step(self, step: int) -> tuple[bool, float]:
        """Sets whether the last layer stays, and the weight decay; these, as each pair has a graph of its own on a GPU."""
        frozen = step < self.config.frozen * self.task.steps
        self.heads.last.weight.requires_grad = not frozen
        decay = optim.cosine_decay(self.decay, self.task.steps, 0, self.decay * self.config.decay_rise)(step)
        for group in self.kernels:
            group["weight_decay"] = decay
        return frozen, decay

    def picture(self, images: np.ndarray, path: str | os.PathLike) -> None:
        """The images, and what each head of a Transformer attends to."""
        if isinstance(self.net, nn.VisionTransformer):
            draw_attention(self.encoder, self.tensor(images), images, path)

    def after_backward(self, step: int | None) -> None:
        if self.config.clip:
            for parameter in self.parameters():
                optim.clip_grad_norm_([parameter], self.config.clip)

    def after_step(self, step: int) -> None:
        self.teacher.update(cosine_momentum(step, self.task.steps, self.config.gamma))


Objective = DINO
