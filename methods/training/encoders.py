"""Encoders of pictures: published ones, and those of runs."""
import dataclasses
import json
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from minigrad import io, nn

from .classifier import Architecture, Classifier, full_name, load_network
from .evaluation import in_batches
from .forward import evaluating, slices, tensor
from .data_sets import scaled
from .pictures import EncoderInput, Preprocessing
from .run import write_whole

CHECKPOINT = "checkpoint.safetensors"


def load_encoder(source: str, image_size: int = 0, *, whole: bool = False,
                 device: str = "cpu") -> tuple[nn.Encoder, nn.Preprocessing]:
    """An encoder without its head, in evaluation mode, and what is done to its pictures.

    Args:
        source: "lite0", a file or folder of published weights (see `nn.load_encoder`), or the folder of a run.
        image_size: pixels of the input; 0: those of the preprocessing.
        whole: the encoder sees the whole picture, not only the middle that its preprocessing cuts out.

    Raises:
        SystemExit: there is none; one line that says why.
    """
    try:
        if (pathlib.Path(source) / CHECKPOINT).is_file():
            encoder, preprocessing = _of_run(pathlib.Path(source), image_size)
        else:
            encoder, preprocessing = nn.load_encoder(source, image_size=image_size or None)
    except (OSError, ValueError, ImportError) as error:
        size = f" --image-size {image_size}" if image_size else ""
        raise SystemExit(f"--encoder {source}{size}: {error}") from None
    return encoder.to(device), dataclasses.replace(preprocessing, crop=1.0) if whole else preprocessing


def _of_run(folder, image_size):
    """The encoder that a run has trained."""
    if (folder / "encoder" / "model.safetensors").is_file() and image_size:  # positions of another size are made by that
        return nn.load_encoder(folder / "encoder", image_size=image_size)
    found = load_network(folder / CHECKPOINT)
    net = getattr(found.net, "image", found.net)  # the image tower, where there is one of text beside it
    net = net if isinstance(net, nn.Encoder) else getattr(net, "encoder", net)  # where it is a part
    if not isinstance(net, nn.Encoder):
        raise ValueError(f"the run's network, {type(net).__name__}, has no features to be used on their own")
    preprocessing = found.preprocessing
    if isinstance(preprocessing, Preprocessing):
        preprocessing = plain_input(preprocessing.size, preprocessing.channels)
    net.head = nn.Identity()
    if image_size not in (0, preprocessing.size):
        preprocessing = dataclasses.replace(preprocessing, size=image_size)
        try:
            with evaluating(net):
                net.features(tensor(net, np.zeros((1, len(preprocessing.mean), image_size, image_size))))
        except ValueError as error:
            raise ValueError(f"its {type(net).__name__} takes no pictures of {image_size} pixels: {error}") from None
    return net, nn.Preprocessing(**dataclasses.asdict(preprocessing))


def plain_input(size: int, channels: int) -> EncoderInput:
    """The preprocessing of networks that are trained on whole pictures of size x size with values in [0, 1]."""
    return EncoderInput(size, "bilinear", (0.0,) * channels, (1.0,) * channels, 1.0)


def description(architecture: Architecture, preprocessing: EncoderInput, weights: str = "net") -> Classifier:
    """An encoder as checkpoints describe it: a classifier of no classes, its arrays in the part `weights`."""
    return Classifier(architecture, (), preprocessing, weights=weights)


def architecture(encoder: nn.Encoder, classes: int = 0) -> Architecture:
    """Of an encoder, with a head for so many classes, or without one."""
    return Architecture(full_name(type(encoder)), **{**encoder.arguments, "num_classes": classes})


def classifier(encoder: nn.Encoder, preprocessing: nn.Preprocessing, classes: Sequence[str],
               weights: str = "net") -> Classifier:
    """An encoder with a head for these classes as checkpoints describe it, of which the part `weights` holds the arrays."""
    return Classifier(architecture(encoder, len(classes)), tuple(classes), EncoderInput(**dataclasses.asdict(preprocessing)),
                      weights=weights)


def export(encoder: nn.Encoder, preprocessing: EncoderInput, folder: pathlib.Path) -> None:
    """Writes an encoder whose tensors have published names as a folder that `nn.load_encoder` and other libraries read."""
    if not isinstance(encoder, (nn.ResNet, nn.VisionTransformer)):
        return
    folder.mkdir(parents=True, exist_ok=True)
    io.save(folder / "model.safetensors", encoder.state_dict())
    facts = {"size": preprocessing.size, "do_center_crop": False, "resample": 2, "image_mean": preprocessing.mean,
             "image_std": preprocessing.std}
    write_whole(folder / "preprocessor_config.json", json.dumps(facts))
    if isinstance(encoder, nn.VisionTransformer):
        heads = {"num_attention_heads": encoder.arguments["num_heads"], "layer_norm_eps": encoder.arguments.get("eps", 1e-6)}
        write_whole(folder / "config.json", json.dumps(heads))


def encode(encoder: Callable, images: np.ndarray, batch: int = 250) -> np.ndarray:
    """The outputs in evaluation mode, of an encoder without head the features (N, width).

    Args:
        images: (N, C, H, W), bytes or float32 in [0, 1].
    """
    return np.concatenate([in_batches(encoder, scaled(some), batch) for some in slices(images, batch)])
