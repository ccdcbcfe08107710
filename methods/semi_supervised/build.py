"""From settings and images to a method that can be trained: its network, augmentations and batches."""
import functools
from typing import Any

import numpy as np

import minigrad as mg
from methods.training import networks
from methods.training.classifier import Architecture, Classifier
from methods.training.data_sets import scaled
from methods.training.images import Images
from minigrad import data
from minigrad.data.augment import COLOUR, GREY

from . import METHODS
from .base import SemiSupervisedMethod, Task


def make_task(images: Images, run: Any) -> Task:
    """The augmentations that suit the images: grey ones may be characters, which are not mirrored nor inverted."""
    grey = images.x.shape[1] == 1
    fill = float(np.median(scaled(images.x)) > 0.5) if grey else 0.5  # of grey images the paper's colour
    weak = functools.partial(data.weak, flip=not grey, fill=fill)
    cutout = 0.25 if grey else 0.5  # half a character's width may be all that tells it from another
    strong = data.RandAugment(GREY if grey else COLOUR, 2, cutout, fill)
    return Task(images.classes, len(images.x), len(images.unlabelled), run.steps, weak,
                lambda x, rng: strong(weak(x, rng), rng), images.prior, run.seed, strong.operations, fill, cutout)


def make_architecture(run: Any, name: str, images: Images) -> Architecture:
    """The network that the run's settings describe, or the method's own."""
    module = METHODS[name]
    if hasattr(module, "architecture"):
        return module.architecture(run, images.x[0].size, images.classes)
    return networks.architecture(run.network, images.x.shape[1], images.x.shape[-1], images.classes,
                                 getattr(run, "dropout", 0.0), run.width, run.depth)


def build(run: Any, name: str, images: Images) -> tuple[SemiSupervisedMethod, Classifier]:
    """The method `name` with its network, and the classifier that it trains."""
    mg.random.seed(run.seed)
    architecture = make_architecture(run, name, images)
    method = METHODS[name].Objective(run, architecture.build().to(run.device), make_task(images, run))
    weights = "teacher" if run.test == "average" else "net"
    return method, Classifier(architecture, images.names, images.preprocessing, weights=weights)


class Batches(data.SemiSupervisedLoader):
    """A SemiSupervisedLoader whose images are float32 in [0, 1]."""

    def sample(self) -> data.Batch:
        """The next batch."""
        batch = super().sample()
        batch.x, batch.u = scaled(batch.x), scaled(batch.u)
        return batch
