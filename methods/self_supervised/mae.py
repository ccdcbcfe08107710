"""Masked autoencoder.

Kaiming He and others: "Masked autoencoders are scalable vision learners", 2021, arXiv:2111.06377.

Most of a picture's patches are hidden; a Transformer sees the others only, and a small decoder draws what was hidden.

    V of the L patches stay, V = floor((1 - ratio) L), others for each picture
    s = encoder(the visible patches with their positions),  y = decoder(s, mask tokens where patches are hidden)
    L = mean over hidden patches p of mean over pixels of (y_p - t_p)^2,   t_p = (p - mean p) / sqrt(var p + 1e-6)

To predict 0 everywhere costs about 1, less where patches are flat. What it learns shows after fine-tuning; distances between
its features say little.
"""
import os
from dataclasses import dataclass

import numpy as np

import minigrad as mg
from methods.training import plots
from methods.training.classifier import Architecture
from methods.training.forward import placed
from methods.training.method import Loss
from methods.training.settings import setting
from minigrad import Tensor, nn
from minigrad.backend import xp
from minigrad.data import views

from .base import Batch, SelfSupervisedMethod, Task, ratio


@dataclass
class Config:
    """Settings for small images and a CPU; in brackets those of the paper's ViT-Base."""

    ratio: float = setting(0.75, above=0, below=1)  # of the patches, hidden
    patch: int = setting(4, least=1)  # pixels of a patch's side (16)
    embed: int = setting(96, least=4)  # numbers a patch in the encoder, a multiple of 4 and of the heads (768)
    blocks: int = setting(4, least=1)  # of the encoder (12)
    heads: int = setting(4, least=1)  # (12)
    decoder: int = setting(48, least=4)  # numbers a patch in the decoder (512)
    decoder_blocks: int = setting(1, least=0)  # (8)
    raw: bool = False  # t_p are the pixels themselves


SHORT = dict(weight_decay=0.05)


def architecture(config: Config, channels: int, size: int) -> Architecture:
    """The encoder with its decoder, for images (channels, size, size)."""
    if size % config.patch:
        raise SystemExit(f"--patch {config.patch}: images of {size} pixels do not divide into such patches")
    count = (size // config.patch) ** 2
    if not 0 < visible(config, count) < count:
        none = "hidden" if visible(config, count) else "seen"
        raise SystemExit(f"--ratio {config.ratio} --patch {config.patch}: of {count} patches none is {none}")
    if channels * config.patch ** 2 == 1 and not config.raw:
        raise SystemExit("--patch 1: a patch of one number has no variance; choose more pixels, or --raw")
    for flag, width in (("embed", config.embed), ("decoder", config.decoder)):
        if width % 4 or width % config.heads:
            raise SystemExit(f"--{flag} {width}: choose a multiple of 4 and of --heads {config.heads}")
    return Architecture("minigrad.nn.MAE", img_size=size, patch_size=config.patch, in_chans=channels, num_classes=0,
                        embed_dim=config.embed, depth=config.blocks, num_heads=config.heads, decoder_dim=config.decoder,
                        decoder_depth=config.decoder_blocks, decoder_heads=config.heads, global_pool="avg")


def visible(config: Config, count: int) -> int:
    """V of `count` patches."""
    return int(round((1 - config.ratio) * count, 9))  # 1 - 0.9 is a little less than 0.1


def targets(patches: Tensor) -> Tensor:
    """t of patches (N, L, pixels): each at mean 0 and variance 1."""
    return (patches - patches.mean(-1, keepdims=True)) / mg.sqrt(patches.var(-1, ddof=1, keepdims=True) + 1e-6)


def loss(y: Tensor, t: Tensor, order: np.ndarray, visible: int) -> Tensor:
    """L of predictions and targets (N, L, pixels); the patches at the places order[:, visible:] were hidden."""
    rows = xp(order).arange(len(order))[:, None]
    return mg.square(y[rows, order[:, visible:]] - t[rows, order[:, visible:]]).mean()


class MAE(SelfSupervisedMethod):
    """Trains by L; the encoder is an `nn.MAE`, whose decoder is trained with it."""

    def __init__(self, config: Config, encoder: nn.MAE, task: Task):
        super().__init__(config, encoder, nn.Identity(), task)
        (self.view,) = views.mae(task.size, flip=task.flip)
        self.count = encoder.grid[0] * encoder.grid[1]
        self.visible = visible(config, self.count)

    def order(self, n: int) -> np.ndarray:
        """The patches (n, L) in random order; the first `visible` are seen."""
        return self.rng.random((n, self.count)).argsort(1)

    def arguments(self, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        """The pictures, and the order of their patches."""
        x = self.tensor(self.view(batch.x, self.rng))
        return x, *placed(self.net, self.order(len(batch.x)))

    def objective(self, x: Tensor, order: Tensor) -> Loss:
        """L, also as a share of what it costs to predict 0."""
        patches = self.net.patchify(x)
        t = patches if self.config.raw else targets(patches)
        found = loss(self.net.reconstruct(x, order.data, self.visible), t, order.data, self.visible)
        return found, {"of predicting 0": ratio(found, mg.square(t).mean())}

    def picture(self, images: np.ndarray, path: str | os.PathLike) -> None:
        """The images, what of them was seen, and what was drawn. Each hidden patch gets its own mean and variance back."""
        x, state = self.tensor(images), self.rng.bit_generator.state
        order = self.order(len(images))
        self.rng.bit_generator.state = state
        with mg.no_grad():
            patches = self.net.patchify(x)
            drawn = self.net.reconstruct(x, order, self.visible)
            if not self.config.raw:
                drawn = drawn * mg.sqrt(patches.var(-1, ddof=1, keepdims=True) + 1e-6) + patches.mean(-1, keepdims=True)
        rows, patches, drawn = np.arange(len(order))[:, None], patches.numpy(), drawn.numpy()
        seen, whole = np.full_like(patches, 0.5), patches.copy()
        seen[rows, order[:, :self.visible]] = patches[rows, order[:, :self.visible]]
        whole[rows, order[:, self.visible:]] = drawn[rows, order[:, self.visible:]]
        plots.pictures([images, self.image(seen), self.image(whole)], path, ["picture", "seen", "drawn"])

    def image(self, patches: np.ndarray) -> np.ndarray:
        """Images (N, C, H, W) of their patches, as `nn.MAE.patchify` orders them."""
        (n, _, _), (rows, columns), p = patches.shape, self.net.grid, self.config.patch
        parts = patches.reshape(n, rows, columns, p, p, -1)
        return parts.transpose(0, 5, 1, 3, 2, 4).reshape(n, -1, rows * p, columns * p)


Objective = MAE
