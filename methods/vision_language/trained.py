"""Trained networks of pictures and text: those of runs, and published CLIPs."""
import json
import pathlib
from dataclasses import asdict, dataclass, field

import numpy as np

from methods.training.classifier import load_network
from methods.training.encoders import CHECKPOINT
from methods.training.run import read_object, write_whole
from minigrad import nn
from minigrad.data import BytePairs

from . import zero_shot
from .base import VisionLanguage
from .clip import CLIP

VOCABULARY, PROMPTS = "tokenizer", "prompts.json"


@dataclass
class Trained:
    """A network with what belongs to it.

    Args:
        preprocessing: of pictures.
        classes: those that it was tested on; empty if there were none.
        templates: of their prompts.
    """

    net: VisionLanguage
    vocabulary: BytePairs
    preprocessing: nn.Preprocessing
    classes: tuple[str, ...] = ()
    templates: tuple[str, ...] = field(default=zero_shot.TEMPLATES)


def load(folder: str, device: str = "cpu") -> Trained:
    """What a run has trained, or a published CLIP from its folder; in evaluation mode.

    Raises:
        SystemExit: there is none; one line that says why.
    """
    path = pathlib.Path(folder)
    try:
        if (path / CHECKPOINT).is_file():
            found = load_network(path / CHECKPOINT, device)
            if not isinstance(found.net, VisionLanguage):
                raise ValueError(f"{folder} holds another run, of a {type(found.net).__name__}: one of examples.clip is wanted")
            prompts = read_object(path / PROMPTS)
            return Trained(found.net, BytePairs.load(path / VOCABULARY), nn.Preprocessing(**asdict(found.preprocessing)),
                           tuple(prompts["classes"]), tuple(prompts["templates"]))
        image, text, scale, preprocessing = nn.load_clip(folder)
        return Trained(published(image, text, scale).to(device).eval(), BytePairs.load(path if path.is_dir() else path.parent),
                       preprocessing)
    except (OSError, ValueError, ImportError, LookupError) as error:
        raise SystemExit(f"{folder}: {error}") from None


def published(image: nn.Encoder, text: nn.CLIPText, scale: float) -> CLIP:
    """The CLIP of a published image and text tower, with their heads."""
    head = image.head
    net = CLIP(image, text)
    image.head, net.s.data = head, np.array(scale, np.float32)
    return net


def save_prompts(folder: pathlib.Path, vocabulary: BytePairs, classes: tuple[str, ...], templates: tuple[str, ...]) -> None:
    """Writes what `load` wants beside the checkpoint into a run's folder."""
    vocabulary.save(folder / VOCABULARY)
    write_whole(folder / PROMPTS, json.dumps({"classes": classes, "templates": templates}, ensure_ascii=False, indent=1))
