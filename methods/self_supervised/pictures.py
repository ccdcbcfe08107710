"""Pictures to learn from without labels, and what labels there are, to see how the features fare."""
import pathlib
from dataclasses import dataclass, field, replace

import numpy as np

from methods.training.encoders import plain_input
from methods.training.data_sets import data_set, selected, unscaled
from methods.training.images import divide
from methods.training.pictures import EncoderInput
from minigrad import data
from minigrad.data.folder import arrange, read_picture, some


@dataclass
class Pictures:
    """Pictures of one size, as bytes (N, C, H, W).

    Args:
        x: to learn from; y: their classes, (N,) int64, -1 where there is none.
        test, test_y: to test on; empty where nothing is known of the classes.
        names: of the classes.
        preprocessing: that makes such arrays of pictures.
        files: the names of x, if they are files.
    """

    x: np.ndarray
    y: np.ndarray
    test: np.ndarray
    test_y: np.ndarray
    names: tuple[str, ...]
    description: str
    preprocessing: EncoderInput
    files: list[str] = field(default_factory=list)

    @property
    def labelled(self) -> np.ndarray:
        """Which pictures have a label."""
        return np.flatnonzero(self.y >= 0)

    def limited(self, most: int) -> "Pictures":
        """The same with at most so many pictures to learn from, drawn at random but always the same; with 0 all."""
        if not 0 < most < len(self.x):
            return self
        kept = np.sort(np.random.default_rng(0).permutation(len(self.x))[:most])
        return replace(self, x=self.x[kept], y=self.y[kept], files=[self.files[i] for i in kept if self.files])


def load(source: str, size: int = 32, classes: tuple[str, ...] = ()) -> Pictures:
    """Pictures to learn from.

    Args:
        source: a data set (see `methods.training.data_sets.data_set`), or a folder or zip of pictures of your own: flat, or with
            sub-folders. Where these are classes (see `minigrad.data.folder`), the labels serve to test the features.
        size: your own pictures are scaled to size x size.
        classes: the names of the only classes to be used; all if empty.

    Raises:
        SystemExit: nothing usable is there; one line that says why.
    """
    try:
        known = data_set(source)
        found = _own(source, size) if known is None else _known(*known)
        if classes:
            found = _only(found, classes)
    except (OSError, ImportError, ValueError) as error:
        raise SystemExit(f"--data {source}: {error}") from None
    return found


def _known(x, y, test, test_y, name, names):
    x, test = (unscaled(a[:, None] if a.ndim == 3 else a) for a in (x, test))
    description = f"{name}: {len(x)} pictures to learn from, {len(test)} to test on, {len(names)} classes"
    return Pictures(x, y.astype(np.int64), test, test_y.astype(np.int64), names, description,
                    plain_input(x.shape[-1], x.shape[1]))


def _own(path, size):
    pictures = data.find_pictures(path)
    found = list(pictures.read(lambda content: read_picture(content, size)))
    if len(found) < 2:
        raise ValueError("; ".join([f"{len(found)} pictures can be read, and two or more are needed", *pictures.left_out()]))
    files, images = [name for name, _ in found], np.stack([image for _, image in found])
    if (images == images[:, :1]).all():
        images = images[:, :1]
    place, y = {name: i for i, name in enumerate(files)}, np.full(len(files), -1)
    names, held, notes = (), np.zeros(0, int), []
    try:
        layout = arrange(files)
        layout.notes = [note.replace("not used: ", "without a label: ") for note in layout.notes]
        classed = {name for part in (layout.train, layout.test) for members in part.values() for name in members}
        names, pools = divide(layout, lambda name: images[place[name]].tobytes(), [name for name in files if name not in classed])
        notes = layout.notes
    except ValueError:
        notes = ["no labels are known: classes would be sub-folders, two or more, of two pictures or more each"]
    else:
        for k, pool in enumerate(pools):
            y[[place[name] for part in pool for name in part]] = k
        held = np.array(sorted(place[name] for _, tested in pools for name in tested), int)
    tested = {image.tobytes() for image in images[held]}
    kept = np.array([i for i, image in enumerate(images) if image.tobytes() not in tested], int)
    description = "\n".join([f"{path}: {len(kept)} pictures to learn from, {len(held)} to test on"
                             f"{f', classes {some(names)}' if names else ''}", *notes, *pictures.left_out()])
    return Pictures(images[kept], y[kept], images[held], y[held], tuple(names), description, plain_input(size, images.shape[1]),
                    [(pathlib.Path(path) / files[i]).as_posix() for i in kept])


def _only(found, classes):
    """The pictures of some classes alone, which get new numbers."""
    y, names = selected(found.y, found.names, classes)
    test_y, _ = selected(found.test_y, found.names, classes)
    kept = y >= 0
    return replace(found, x=found.x[kept], y=y[kept], test=found.test[test_y >= 0], test_y=test_y[test_y >= 0], names=names,
                   files=[name for name, keep in zip(found.files, kept) if keep],
                   description=f"{found.description}; of those the classes {', '.join(names)}")
