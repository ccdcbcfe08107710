"""What needs training: each family learns from some of the labelled pictures, in a folder of its own, and scores others.

`FineTuned` trains the encoder on (LP-FT and WiSE-FT), `PartlyTuned` parts of a vision Transformer. `small_families` train
networks from the start, `text_families` language models.
"""
import dataclasses
from typing import Any, Protocol

import numpy as np

import minigrad as mg
from methods import peft
from methods.peft import tuning
from methods.peft.adapted import Adapted
from methods.training import checkpoint, encoders
from methods.training.checkpoint import fingerprint
from methods.training.classifier import Architecture, full_name, load_classifier
from methods.training.evaluation import in_batches
from methods.training.loop import train
from methods.training.run import RunFolder
from methods.training.settings import RunSettings
from methods.transfer import finetune, linear

from .features import Features
from .look import Folder
from .readers import Reader

History = list[dict[str, float]]
MOST_FINETUNED = 1000  # labelled pictures in memory at the encoder's size


@dataclasses.dataclass
class Task:
    """What the families learn from.

    Args:
        known, y: places of the labelled pictures and their labels; rest: places of unlabelled ones.
        reader: of pictures or texts.
    """

    folder: Folder
    features: Features
    known: np.ndarray
    y: np.ndarray
    rest: np.ndarray
    reader: Reader
    device: str
    seed: int

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names."""
        return self.folder.classes


class Family(Protocol):
    """Args of `train`: learn: which of the labelled pictures, by number; out: an empty folder or a run to go on with."""

    name: str
    about: str

    def train(self, learn: np.ndarray, steps: int, out: str, save_every: int) -> History:
        """Trains for so many steps in all; the logged metrics."""

    def scores(self, out: str, places: np.ndarray) -> np.ndarray:
        """Scores (n, classes) of the folder's pictures at these places."""

    def finished(self, out: str) -> Any:
        """What was trained there, with `scores(places)`."""


@dataclasses.dataclass
class TuneConfig(RunSettings, finetune.Config):
    """Settings of fine-tuning."""


class FineTuned:
    """LP-FT, then WiSE-FT."""

    name = "fine-tuning"
    about = "the encoder learns on from logistic regression (LP-FT), and meets its old weights half-way (WiSE-FT)"

    def __init__(self, task: Task):
        self.task = task
        self.preprocessing = task.reader.preprocessing
        self.inputs = np.concatenate([self.preprocessing(task.folder.picture(i)) for i in task.known])

    def train(self, learn: np.ndarray, steps: int, out: str, save_every: int) -> History:
        """See `Family`."""
        task = self.task
        encoder, y = task.reader.load()[0], task.y[learn]
        config = TuneConfig(steps=steps, out=out, seed=task.seed, device=task.device)
        finetune.set_head(encoder, linear.logistic(task.features.x(task.known[learn]), y, len(task.classes)))
        method, folder = finetune.FineTune(config, encoder), RunFolder(out, config, True)
        batches = finetune.Batches(self.inputs[learn], y, config, task.seed)
        train(method, batches, finetune.make_optimizers(encoder, config), steps, folder, save_every=save_every,
              classifier=encoders.classifier(encoder, self.preprocessing, task.classes, "wise"),
              data=fingerprint(self.inputs[learn], y))
        return folder.history()

    def scores(self, out: str, places: np.ndarray) -> np.ndarray:
        """See `Family`."""
        return network_scores(out, self.task, places)

    def finished(self, out: str) -> "Trained":
        """See `Family`."""
        return Trained(self.task, out)


@dataclasses.dataclass
class LoRAConfig(RunSettings, tuning.Config, peft.METHODS["lora"].Config):
    """Settings of LoRA."""

    batch: int = 16


@dataclasses.dataclass
class AdaptersConfig(RunSettings, tuning.Config, peft.METHODS["adapters"].Config):
    """Settings of adapters."""

    batch: int = 16


# name of the family -> name of the method, its settings, and what it trains
PARTS = {"LoRA": ("lora", LoRAConfig, "low-rank changes of the Transformer's weights, from logistic regression"),
         "adapters": ("adapters", AdaptersConfig, "small layers between the Transformer's, from logistic regression")}


class PartlyTuned(FineTuned):
    """LoRA on a vision Transformer, merged into its weights in the end, or adapters; see `PARTS`."""

    def __init__(self, task: Task, name: str):
        super().__init__(task)
        self.name, (self.method, self.config, self.about) = name, PARTS[name]

    def train(self, learn: np.ndarray, steps: int, out: str, save_every: int) -> History:
        """See `Family`."""
        task, y = self.task, self.task.y[learn]
        encoder = task.reader.load()[0]
        config = self.config(steps=steps, out=out, seed=task.seed, device=task.device)
        mg.random.seed(task.seed)
        adaptation = peft.apply(encoder, self.method, lr=config.lr, head=len(task.classes))
        finetune.set_head(encoder, linear.logistic(task.features.x(task.known[learn]), y, len(task.classes)))
        folder = RunFolder(f"{out}/training", config, True)
        batches = finetune.Batches(self.inputs[learn], y, finetune.Config(batch=config.batch), task.seed)
        train(tuning.Tuning(config, adaptation), batches,
              tuning.make_optimizers(adaptation, config.lr, config), steps, folder, save_every=save_every,
              data=fingerprint(self.inputs[learn], y))
        net, described = encoder, encoders.classifier(encoder, self.preprocessing, task.classes)
        if self.method == "lora":
            adaptation.merge()
        else:
            whole = Architecture(full_name(Adapted), encoder=encoders.architecture(encoder), classes=len(task.classes))
            net, described = Adapted(encoder, len(task.classes)), dataclasses.replace(described, architecture=whole)
        checkpoint.save(f"{out}/checkpoint.safetensors", steps, {"net": net}, described.facts())
        return folder.history()


def network_scores(out: str, task: Task, places: np.ndarray, batch: int = 50) -> np.ndarray:
    """Scores (n, classes) by the classifier of a run; zeros for pictures that cannot be read."""
    classifier = load_classifier(f"{out}/checkpoint.safetensors", task.device)
    found = np.zeros((len(places), len(task.classes)), np.float32)
    for a in range(0, len(places), batch):
        rows, inputs = [], []
        for row, i in enumerate(places[a:a + batch], a):
            try:
                inputs.append(classifier.preprocessing(task.folder.readers[i]()))
                rows.append(row)
            except (ValueError, OSError):
                continue
        if rows:
            found[rows] = in_batches(classifier.net, np.stack(inputs))
    return found


@dataclasses.dataclass
class Trained:
    """A family's final network, of a run's folder."""

    task: Task
    out: str

    def scores(self, places: np.ndarray) -> np.ndarray:
        """Of the folder's pictures at these places, (n, classes)."""
        return network_scores(self.out, self.task, places)
