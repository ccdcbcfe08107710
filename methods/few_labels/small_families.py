"""Small networks that learn from the start, from pictures of 32 x 32.

`SemiSupervised` learns from labelled and unlabelled ones at once; `SelfSupervised` from all without labels, and probes read it.
Pictures whose labels are left out to be estimated on are there without them, as all unlabelled ones are.
"""
import dataclasses
import pathlib
from typing import Any

import numpy as np

import minigrad as mg
from methods import self_supervised, semi_supervised
from methods.self_supervised import base
from methods.semi_supervised import build
from methods.training import checkpoint, encoders, networks, optimizers
from methods.training.checkpoint import fingerprint
from methods.training.classifier import load_network
from methods.training.images import Images
from methods.training.loop import train
from methods.training.pictures import Preprocessing
from methods.training.run import RunFolder
from methods.training.settings import RunSettings, of_method, setting
from methods.transfer import finetune, linear
from minigrad import data, nn

from .families import MOST_FINETUNED, PARTS, FineTuned, History, PartlyTuned, Task, Trained, network_scores
from .look import Folder
from .plain import PlainFeatures
from .probes import LEAST_UNLABELLED

SIZE = 32  # pixels
MOST = 20_000  # pictures in memory
SEMI_SUPERVISED = ("fixmatch", "softmatch", "freematch", "mean_teacher")


@dataclasses.dataclass
class SmallConfig(RunSettings):
    """Settings of small networks that are trained from the start."""

    batch: int = setting(32, least=2)
    ratio: int = setting(3, least=1)
    lr: float = setting(2e-3, least=0)
    weight_decay: float = setting(5e-4, least=0)
    network: str = "residual"
    width: int = setting(16, least=1)
    depth: int = setting(10, least=1)
    ema: float = setting(0.97, least=0, below=1)
    test: str = "average"


class Small:
    """Pictures of 32 x 32 of a folder, as bytes."""

    def __init__(self, task: Task):
        places = np.concatenate([task.known, task.rest[:MOST - len(task.known)]])
        self.x = small(task.folder, places)
        if (self.x == self.x[:, :1]).all():
            self.x = self.x[:, :1]
        self.labelled = self.x[:len(task.known)]


def small(folder: Folder, places: np.ndarray) -> np.ndarray:
    """The pictures at these places, bytes (N, 3, 32, 32). Those that cannot be read are white."""
    found = np.full((len(places), 3, SIZE, SIZE), 255, np.uint8)
    for row, i in enumerate(places):
        try:
            found[row] = data.read_picture(folder.readers[i](), SIZE)
        except (ValueError, OSError):
            continue
    return found


class SemiSupervised:
    """A method of `methods.semi_supervised`, by its name there."""

    def __init__(self, task: Task, method: str, pictures: Small):
        self.task, self.method, self.pictures = task, method, pictures
        self.name = method.replace("_", " ")
        self.about = "a small network, from the start, on labelled and unlabelled pictures of 32 x 32"

    def train(self, learn: np.ndarray, steps: int, out: str, save_every: int) -> History:
        """See `Family`."""
        task, x = self.task, self.pictures.labelled[learn]
        config = of_method(self.method, semi_supervised.METHODS[self.method], SmallConfig)
        config = dataclasses.replace(config, steps=steps, out=out, seed=task.seed, device=task.device)
        channels = x.shape[1]
        images = Images(x, task.y[learn], self.pictures.x, x[:0], task.y[:0], "", task.classes, Preprocessing(SIZE, channels))
        method, classifier = build.build(config, self.method, images)
        folder = RunFolder(out, config, True)
        batches = build.Batches(x, images.y, images.unlabelled, config.batch, config.ratio, config.seed)
        train(method, batches, optimizers.make(method.net.parameters(), "adam", config.lr, config.weight_decay), steps,
              folder, classifier=classifier, save_every=save_every, data=fingerprint(x, images.unlabelled))
        return folder.history()

    def scores(self, out: str, places: np.ndarray) -> np.ndarray:
        """See `Family`."""
        return network_scores(out, self.task, places)

    def finished(self, out: str) -> "Trained":
        """See `Family`."""
        return Trained(self.task, out)


class SelfSupervised:
    """SimCLR. It is trained once on all pictures, as it uses no labels."""

    name = "SimCLR"
    about = "a small network, trained without labels on all pictures of 32 x 32, read by a probe"

    def __init__(self, task: Task, pictures: Small):
        self.task, self.pictures = task, pictures

    def train(self, learn: np.ndarray, steps: int, out: str, save_every: int) -> History:
        """See `Family`; `learn` is not used."""
        task, x, module = self.task, self.pictures.x, self_supervised.METHODS["simclr"]
        config = dataclasses.replace(of_method("simclr", module, SmallConfig), steps=steps, out=out, seed=task.seed,
                                     device=task.device, batch=min(128, len(x)), lr=1e-3)
        mg.random.seed(task.seed)
        architecture = networks.architecture(config.network, x.shape[1], SIZE, 0, 0.0, config.width, config.depth)
        described = base.Task(SIZE, x.shape[1], len(x), config.batch, steps, 0, x.shape[1] == 3, task.seed)
        folder = RunFolder(out, config, True)
        method = module.Objective(config, architecture.build().to(task.device), described)
        train(method, base.Batches(x, np.full(len(x), -1), config.batch, task.seed),
              method.optimizers("adam", config.lr, 1e-2), steps, folder,
              classifier=encoders.description(architecture, encoders.plain_input(SIZE, x.shape[1])), save_every=save_every,
              data=fingerprint(x))
        return folder.history()

    def features(self, out: str) -> np.ndarray:
        """Of the labelled pictures, (N, width)."""
        return encoders.encode(load_network(f"{out}/checkpoint.safetensors", self.task.device).net, self.pictures.labelled)

    def finish(self, probe: linear.Linear, pretrained: str, out: str) -> None:
        """Writes the encoder with a probe as its head."""
        found = load_network(f"{pretrained}/checkpoint.safetensors", self.task.device)
        finetune.set_head(found.net, probe)
        preprocessing = nn.Preprocessing(**dataclasses.asdict(found.preprocessing))
        pathlib.Path(out).mkdir(parents=True, exist_ok=True)
        checkpoint.save(f"{out}/checkpoint.safetensors", 0, {"net": found.net},
                        encoders.classifier(found.net, preprocessing, self.task.classes).facts())

    def finished(self, out: str) -> "Trained":
        """See `Family`."""
        return Trained(self.task, out)


def picture_families(task: Task) -> list[Any]:
    """Those that suit what there is to learn from, the most promising first."""
    found: list[Any] = []
    if len(task.known) <= MOST_FINETUNED and not isinstance(task.reader.encoder, PlainFeatures):
        found.append(FineTuned(task))
        if isinstance(task.reader.encoder, nn.VisionTransformer):
            found += [PartlyTuned(task, name) for name in PARTS]
    if len(task.rest) >= LEAST_UNLABELLED:
        pictures = Small(task)
        found.append(SelfSupervised(task, pictures))
        found += [SemiSupervised(task, method, pictures) for method in SEMI_SUPERVISED]
    return found
