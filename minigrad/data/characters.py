"""Images of handwritten characters, grouped by character."""
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from ..tensor import flag
from .augment import _with_axes


@dataclass
class Characters:
    """images: (classes, drawings, size, size) float32, ink 1 on background 0; names: one "Alphabet/character" a class.

    `on_paper`: they were dark on light paper, and are to be shown so; else light on a dark ground. `files`: the drawings' names
    of each class, if they are files.
    """

    images: np.ndarray
    names: list[str]
    on_paper: bool = True
    files: list[list[str]] | None = None

    def __post_init__(self):
        self.on_paper = flag("Characters", "on_paper", self.on_paper)

    def shown(self, kind: int, drawing: int) -> np.ndarray:
        """A drawing (size, size) of a class as it was, black 0 and white 1."""
        return 1 - self.images[kind][drawing] if self.on_paper else self.images[kind][drawing]

    def without(self, alphabets: Collection[str]) -> "Characters":
        """The classes of all alphabets but these."""
        keep = [i for i, name in enumerate(self.names) if name.split("/")[0] not in alphabets]
        return Characters(self.images[keep], [self.names[i] for i in keep], self.on_paper)


def with_rotations(characters: Characters, mirrored: bool = False) -> Characters:
    """Each class turned by 0, 90, 180 and 270 degrees as four classes (Vinyals et al. 2016).

    With `mirrored`, the mirror images make four more. A letter that looks the same after a turn stays two classes. ValueError
    if the images are not of four axes.
    """
    _with_axes("with_rotations", characters.images, "(classes, drawings, size, size)")
    images = [np.rot90(characters.images, k, axes=(2, 3)) for k in range(4)]
    names = [f"{name}@{90 * k}" for k in range(4) for name in characters.names]
    if flag("with_rotations", "mirrored", mirrored):
        images += [turned[..., ::-1] for turned in images]
        names += [name + " mirrored" for name in names]
    return Characters(np.concatenate(images), names, characters.on_paper)
