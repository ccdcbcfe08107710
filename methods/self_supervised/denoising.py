"""Denoising autoencoder.

Pascal Vincent, Hugo Larochelle, Yoshua Bengio, Pierre-Antoine Manzagol: "Extracting and composing robust features with
denoising autoencoders", 2008.

A picture is spoiled, coded in few numbers, and is to be drawn as it was.

    x' = x + sigma n,  n ~ N(0, 1),  then each pixel, in all channels, is 0 with probability q
    L = mean over pixels of (g(f(x')) - x)^2
"""
import os
from dataclasses import dataclass

import numpy as np

import minigrad as mg
from methods.training import plots
from methods.training.forward import evaluating
from methods.training.method import Loss
from methods.training.settings import setting
from minigrad import Tensor, nn
from minigrad.data import views

from .base import Batch, SelfSupervisedMethod, Task, mlp, ratio


@dataclass
class Config:
    """Settings."""

    sigma: float = setting(0.3, least=0)  # standard deviation of the noise
    q: float = setting(0.25, least=0, most=1)  # the probability that a pixel is set to 0
    hidden: int = setting(512, least=1)  # width of the decoder's hidden layer
    views: bool = True  # pictures are cropped and mirrored at random


class Denoising(SelfSupervisedMethod):
    """Trains by L; the decoder g is of linear layers."""

    def __init__(self, config: Config, encoder: nn.Encoder, task: Task):
        pixels = task.channels * task.size ** 2
        super().__init__(config, encoder, mlp((encoder.width, config.hidden, pixels), last_bias=True), task)
        (self.view,) = views.mae(task.size, flip=task.flip)

    def spoiled(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """x' of images (N, C, H, W)."""
        noisy = x + np.float32(self.config.sigma) * rng.standard_normal(x.shape, dtype=np.float32)
        return np.where(rng.random((len(x), 1, *x.shape[2:])) < self.config.q, np.float32(0), noisy)

    def arguments(self, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        """The pictures, spoiled and as they were."""
        x = self.view(batch.x, self.rng) if self.config.views else batch.x
        return self.tensor(self.spoiled(x, self.rng)), self.tensor(x)

    def objective(self, spoiled: Tensor, x: Tensor) -> Loss:
        """L, also as a share of the pixels' variance."""
        drawn = self.heads(self.net.features(spoiled))
        found = mg.square(drawn - x.reshape(len(x), -1)).mean()
        return found, {"of the variance": ratio(found, x.var(0).mean())}

    def picture(self, images: np.ndarray, path: str | os.PathLike) -> None:
        """The images, spoiled, and drawn again, in rows."""
        spoiled = self.spoiled(images, np.random.default_rng(0))
        with evaluating(self.net), evaluating(self.heads):
            drawn = self.heads(self.net.features(self.tensor(spoiled))).numpy().reshape(images.shape)
        plots.pictures([images, spoiled, drawn], path, ["picture", "spoiled", "drawn"])


Objective = Denoising
