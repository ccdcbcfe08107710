"""Trained networks of pictures and text: those of runs, and published CLIPs."""
import pathlib
from dataclasses import asdict, dataclass

import numpy as np

from methods.training import checkpoint
from methods.training.classifier import load_network
from methods.training.encoders import CHECKPOINT
from minigrad import nn
from minigrad.data import BytePairs

from . import zero_shot
from .base import Prompts, VisionLanguage
from .clip import CLIP


@dataclass
class Trained:
    """A network with what belongs to it.

    Args:
        preprocessing: of pictures.
        prompts: the vocabulary, and classes and templates that it was tested with.
    """

    net: VisionLanguage
    preprocessing: nn.Preprocessing
    prompts: Prompts


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
                raise ValueError("a run of examples.clip is wanted; the network of this one is of type "
                                 f"{type(found.net).__name__}")
            prompts = Prompts.of(checkpoint.load(path / CHECKPOINT)["state"]["prompts"])
            return Trained(found.net, nn.Preprocessing(**asdict(found.preprocessing)), prompts)
        image, text, scale, preprocessing = nn.load_clip(folder)
        vocabulary = BytePairs.load(path if path.is_dir() else path.parent)
        return Trained(published(image, text, scale).to(device).eval(), preprocessing,
                       Prompts(vocabulary, (), zero_shot.TEMPLATES))
    except (OSError, ValueError, ImportError, LookupError) as error:
        raise SystemExit(f"{folder}: {error}") from None


def load_contrastive(folder: str, device: str = "cpu") -> Trained:
    """As `load`, of the contrastive task, which embeds texts.

    Raises:
        SystemExit: as `load`, or the run had another task.
    """
    found = load(folder, device)
    if not isinstance(found.net, CLIP):
        raise SystemExit(f"{folder}: only the contrastive task embeds texts (--task contrastive), and this run had another")
    return found


def published(image: nn.Encoder, text: nn.CLIPText, scale: float) -> CLIP:
    """The CLIP of a published image and text tower, with their heads."""
    head = image.head
    net = CLIP(image, text)
    image.head, net.s.data = head, np.array(scale, np.float32)
    return net
