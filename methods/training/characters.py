"""Characters for few-shot learning: classes to train on, and new ones to test on."""
import pathlib

import numpy as np

from minigrad import data
from minigrad.data import Characters, LakeRun
from minigrad.data.folder import counted, printable, some

from .pictures import Preprocessing

PREPROCESSING = Preprocessing(size=28, channels=1, background="dark")


def load(source: str, mirrored: bool = False) -> tuple[Characters, Characters, str]:
    """Training classes, test characters with none of their scripts, and a line that describes them.

    Args:
        source: "fonts"; "download" for Omniglot; a folder with Omniglot's zips; or an image folder (or zip of one) of your
            own with a folder for each class, all in `train/` and `test/`, or to be divided two to one at random.
        mirrored: the training characters' mirror images as further classes.

    Returns:
        Characters to train on and Characters to test on; their images are an array (classes, drawings, 28, 28), or where
        the classes differ in number a list of (drawings, 28, 28).

    Raises:
        SystemExit: nothing usable is at `source`; one line that says why.
    """
    try:
        return _load(source, mirrored)
    except (OSError, ImportError, ValueError) as error:
        raise SystemExit(f"--data {source}: {error}") from None


def _load(source, mirrored):
    folder = pathlib.Path(source)
    if source == "fonts":
        train, test, name = data.load_glyphs("train"), data.load_glyphs("test"), "characters drawn from fonts"
    elif source == "download" or any(folder.glob("**/images_background.zip")):
        where = None if source == "download" else source
        train, test, name = data.load_omniglot("background", where), data.load_omniglot("evaluation", where), "Omniglot"
    elif any(folder.glob("**/images_background_small1.zip")):
        train, test = data.load_omniglot("small1", source), data.load_omniglot("small2", source)
        test = test.without(["Greek", "Latin"])  # small set 1 has these two as well
        name = "Omniglot, small set 1 to the new alphabets of set 2"
    else:
        return own_images(source)
    train = data.with_rotations(train, mirrored)
    how = "rotations and mirror images" if mirrored else "rotations"
    return train, test, f"{name}: {len(train.names)} classes to train on (with {how}), {len(test.images)} new ones to test on"


def own_images(path: str) -> tuple[Characters, Characters, str]:
    """As `load`, from an image folder. Images are made grey, 28 x 28, dark ink on light paper inverted.

    Copies of a class's pictures are left out, so are classes with one picture, and classes to test on that are among those to
    train on. If no two are new, the pictures are put together by their class's name, and the classes divided as if they were
    not in `train/` and `test/`. What else may be in a folder: see `minigrad.data.folder`.
    """
    found = data.read_image_folder(path, 28, 1)
    train, test, notes = found.layout.train, found.layout.test, []
    both = [name for name in test if name in train]
    if both and len(test) - len(both) < 2:
        notes.append(f"the classes to train on are also those to test on ({some(both)}): their pictures are put together, and "
                     "the classes divided at random, two thirds to train on and the others to test on")
        train, test = {name: train.get(name, []) + test.get(name, []) for name in sorted({*train, *test})}, {}
    elif both:
        notes.append(f"not tested on: {some(both)}, which are among the classes to train on")
        test = {name: members for name, members in test.items() if name not in both}
    same = {copy: None for part in (train, test) for members in part.values() for copy in _copies(found, members)}
    if same:  # a query would be among the examples of its class
        notes.append(f"not used: {counted(len(same), 'copy', 'copies')} of pictures of their class ({some(same)})")
        train, test = ({name: [m for m in members if m not in same] for name, members in part.items()} for part in (train, test))
    if single := [name for name in {**train, **test} if len((train | test)[name]) < 2]:
        notes.append(f"not used: classes with one picture ({some(single)})")
        train, test = ({name: m for name, m in part.items() if name not in single} for part in (train, test))

    def characters(part):
        images = found.images[found.indices([name for members in part.values() for name in members]), 0]
        images = images.astype(np.float32) / 255
        on_paper = bool(images.size and np.median(images) > 0.5)
        images = np.split(1 - images if on_paper else images, np.cumsum([len(members) for members in part.values()])[:-1])
        files = [[printable((pathlib.Path(path) / name).as_posix()) for name in members] for members in part.values()]
        return Characters(images, list(part), on_paper, files)

    if found.layout.test and test:
        train, test = characters(train), characters(test)
    else:
        whole = characters(train)
        order = np.random.default_rng(0).permutation(len(whole.names))
        cut = 2 * len(order) // 3
        train, test = (Characters([whole.images[i] for i in part], [whole.names[i] for i in part], whole.on_paper,
                                  [whole.files[i] for i in part])
                       for part in (order[:cut], order[cut:]))
    description = "\n".join([f"{path}: {len(train.names)} classes to train on, {len(test.names)} new ones to test on",
                             found.description(), *notes])
    if min(len(train.names), len(test.names)) < 2:
        raise ValueError(f"{path} has {len(train.names)} classes to train on and {len(test.names)} to test on; "
                         f"at least two of each are needed{''.join('; ' + note for note in notes)}")
    return train, test, description


def _copies(found, members):
    """Those that are the same at 28 x 28 as one before them."""
    seen: set[bytes] = set()
    for name in members:
        content = found.images[found.indices([name])].tobytes()
        if content in seen:
            yield name
        seen.add(content)


def lake_runs(path: str) -> list[LakeRun]:
    """Lake et al.'s one-shot runs (`data.load_lake_runs`); none if the path is empty.

    Raises:
        SystemExit: there are none at the path.
    """
    try:
        return data.load_lake_runs(path) if path else []
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f"--lake: {error}") from None


def as_bytes(classes: np.ndarray | list[np.ndarray], most: int = 5) -> np.ndarray:
    """The first images of each class as bytes (classes, examples, 1, H, W): `most`, or as many as the smallest class has."""
    most = min(most, *map(len, classes))
    return np.rint(255 * np.stack([c[:most, None] for c in classes])).astype(np.uint8)
