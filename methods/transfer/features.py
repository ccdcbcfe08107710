"""Features: what a frozen encoder says of each picture, computed once."""
import contextlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import minigrad as mg
from methods.training.checkpoint import fingerprint
from methods.training.forward import evaluating, tensor
from methods.training.loop import progress_bar
from minigrad import Tensor, nn
from minigrad.data.files import cached

from .pictures import Pictures


def encode(encoder: nn.Encoder, preprocessing: Callable[[Any], np.ndarray], pictures: Sequence[Any],
           batch: int = 32, *, show: bool = True) -> np.ndarray:
    """The features (N, width) of pictures, in evaluation mode; a row of NaN for each that cannot be read.

    Args:
        pictures: to take one that cannot be read raises ValueError (see `Files`).
        show: a progress bar.
    """
    features = np.full((len(pictures), encoder.width), np.nan, np.float32)
    with evaluating(encoder), progress_bar(len(pictures)) if show else contextlib.nullcontext() as bar:
        for start in range(0, len(pictures), batch):
            rows, inputs = [], []
            for i in range(start, min(start + batch, len(pictures))):
                try:
                    inputs.append(preprocessing(pictures[i])[0])
                    rows.append(i)
                except ValueError:
                    continue
            if rows:
                features[rows] = encoder.features(tensor(encoder, np.stack(inputs))).numpy()
            if bar is not None:
                bar.update(min(batch, len(pictures) - start))
    return features


class Quarters(nn.Encoder):
    """All that a convolutional encoder sees: of each map the largest number in each of its four quarters, then the features.

    So Exemplar-CNN's network is read (Dosovitskiy et al. 2014, arXiv:1406.6909). A map is what a part of the encoder, or an item
    of one, makes, rectified: a batch norm, a block, a stage; not a convolution, behind which the map is normalised.

    Args:
        encoder: whose maps and features are read; they get no other head.
        size, channels: of its pictures.

    Raises:
        ValueError: it makes no maps, as a Transformer.
    """

    def __init__(self, encoder: nn.Encoder, size: int, channels: int):
        self.encoder, self.head = encoder, nn.Identity()
        self.maps = {name for name, module in encoder.named_modules()
                     if name.count(".") < 2 and not isinstance(module, nn.Conv2d)}
        with evaluating(encoder):
            self.width = self.features(tensor(encoder, np.zeros((1, channels, size, size)))).shape[1]
        if self.width == encoder.width:
            raise ValueError(f"{type(encoder).__name__} makes no maps of which quarters could be read")

    def features(self, x: Tensor) -> Tensor:
        """(N, width)."""
        with mg.activations(self.encoder) as found:
            last = self.encoder.features(x)
        maps = {id(made): made for name, made in found.items()
                if name in self.maps and isinstance(made, Tensor) and made.ndim == 4}
        return mg.concatenate([*(mg.flatten(mg.adaptive_max_pool2d(mg.relu(made), 2), 1) for made in maps.values()), last], 1)


class _Part:
    """Some pictures of a sequence, by number."""

    def __init__(self, pictures, which):
        self.pictures, self.which = pictures, which

    def __len__(self):
        return len(self.which)

    def __getitem__(self, i):
        return self.pictures[self.which[i]]


def encoded(encoder: nn.Encoder, preprocessing: nn.Preprocessing, pictures: Pictures,
            which: np.ndarray) -> tuple[np.ndarray, Pictures]:
    """The features of the pictures at the places `which`, kept in the cache, and the pictures without unreadable ones.

    Returns:
        (N, width) for all N pictures, NaN where nothing was computed; and the pictures. Standard error names the broken ones.

    Raises:
        ValueError: a class has no readable picture to train or to test on, or the encoder makes something infinite of one.
    """
    weights = list(encoder.state_dict().values())
    what = [(type(part), part.arguments) for part in encoder.modules() if isinstance(part, nn.Encoder)]
    key = fingerprint(weights, what, preprocessing, list(pictures.identity), which.tobytes())[:32]

    def compute():
        return encode(encoder, preprocessing, _Part(pictures.pictures, which)).view(np.uint8)

    features = np.full((len(pictures.labels), encoder.width), np.nan, np.float32)
    features[which] = cached(f"features-{key}", compute, (len(which), 4 * encoder.width)).view(np.float32)
    broken, late = [], []
    for i in which[~np.isfinite(features[which]).all(1)]:
        try:
            preprocessing(pictures.pictures[i])
        except ValueError as error:
            broken.append(i)
            print(f"skipped {pictures.files[i] if pictures.files else i}: {error}", file=sys.stderr)
        else:
            late.append(i)
    if late:  # they could not be read when the cache was made
        features[late] = encode(encoder, preprocessing, _Part(pictures.pictures, late))
    if not np.isfinite(features[late]).all():
        raise ValueError("the encoder's features of some pictures are not finite numbers")
    return features, pictures.without(broken)
