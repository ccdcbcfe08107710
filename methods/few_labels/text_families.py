"""What trains a language model on labelled texts: SetFit, LoRA and adapters, each with a logistic regression as its head."""
import dataclasses
from typing import Any

import numpy as np

import minigrad as mg
from methods import peft
from methods.peft import tuning
from methods.peft.prediction import FILE
from methods.training import text_encoders
from methods.training.checkpoint import fingerprint
from methods.training.loop import train
from methods.training.run import RunFolder
from methods.training.settings import RunSettings
from methods.training.texts import TextBatches
from methods.transfer import setfit

from .families import AdaptersConfig, History, LoRAConfig, Task
from .readers import TextReader


@dataclasses.dataclass
class SetFitConfig(RunSettings, setfit.Config, tuning.Config):
    """Settings of SetFit; the encoder learns by LoRA."""

    body: str = "lora"
    lr: float = 5e-4


# name of the family -> name of the method of `peft`, settings, and what is trained
FAMILIES = {"SetFit": ("lora", SetFitConfig, "the language model learns which texts are of one class, then logistic regression"),
            "LoRA": ("lora", LoRAConfig, "low-rank changes of the language model's weights"),
            "adapters": ("adapters", AdaptersConfig, "small layers between the language model's")}


class TextFamily:
    """An adaptation of the language model, one of `FAMILIES`. See `families.Family`."""

    def __init__(self, task: Task, reader: TextReader, name: str):
        self.task, self.reader, self.name = task, reader, name
        self.method, self.config, self.about = FAMILIES[name]
        self.rows = reader.rows([task.folder.readers[i]() for i in task.known])

    def train(self, learn: np.ndarray, steps: int, out: str, save_every: int) -> History:
        """See `families.Family`."""
        task, y = self.task, self.task.y[learn]
        config = self.config(steps=steps, out=out, seed=task.seed, device=task.device)
        rows, pad, folder = [self.rows[i] for i in learn], self.reader.vocabulary.pad, RunFolder(out, config, True)
        net, _ = self.reader.load()
        mg.random.seed(task.seed)
        adaptation = peft.apply(net, self.method, lr=config.lr, head=len(task.classes))
        if self.name == "SetFit":
            method = setfit.Contrast(config, adaptation)
            batches = setfit.Balanced(rows, y, pad, config.contrastive_batch, task.seed)
        else:
            setfit.read_head(net, task.features.x(task.known[learn]), y, len(task.classes))
            method, batches = tuning.Tuning(config, adaptation), TextBatches(rows, y, pad, config.batch, task.seed)
        train(method, batches, tuning.make_optimizers(adaptation, config.lr, config), steps, folder, save_every=save_every,
              data=fingerprint(rows, y))
        if self.name == "SetFit":
            head, net.head = net.head, mg.nn.Identity()
            features = text_encoders.outputs(net, rows, pad)
            net.head = head
            setfit.read_head(net, features, y, len(task.classes))
        adaptation.save(f"{out}/{FILE}", classes=list(task.classes), inputs=inputs(self.reader), accuracy=0.0)
        return folder.history()

    def scores(self, out: str, places: np.ndarray) -> np.ndarray:
        """See `families.Family`."""
        return TunedText(self.task, self.reader, out).scores(places)

    def finished(self, out: str) -> "TunedText":
        """See `families.Family`."""
        return TunedText(self.task, self.reader, out)


@dataclasses.dataclass
class TunedText:
    """A language model with what a run in the folder `out` has trained."""

    task: Task
    reader: TextReader
    out: str

    def load(self) -> Any:
        """The network with its adaptation."""
        net, _ = self.reader.load()
        peft.load(net, f"{self.out}/{FILE}")
        return net

    def scores(self, places: np.ndarray) -> np.ndarray:
        """Of the folder's texts at these places, (n, classes); zeros for those that can no longer be read."""
        found = np.zeros((len(places), len(self.task.classes)), np.float32)
        at = [row for row, i in enumerate(places) if not self.task.folder.unreadable(i)]
        rows = self.reader.rows([self.task.folder.readers[i]() for i in places[at]])
        found[at] = text_encoders.outputs(self.load(), rows, self.reader.vocabulary.pad)
        return found


def inputs(reader: TextReader) -> dict[str, Any]:
    """What `examples.predict` has to know to read new texts."""
    return {"kind": "texts", "encoder": str(reader.folder.resolve()), "tokens": reader.tokens, "pooling": "mean"}
