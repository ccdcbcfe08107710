"""What the few-shot examples share: the characters to learn from, and the table of accuracies on new ones."""
import pathlib

import numpy as np

from methods.few_shot import prototypical
from methods.few_shot.evaluation import accuracy
from minigrad import data


def load(source, mirrored=False):
    """Training classes, test characters with none of their scripts, and a line that says what they are.

    Args:
        source: "fonts"; "download" for Omniglot; a folder with Omniglot's zips; or an image folder (or zip of one) of your
            own with a folder for each class, all in `train/` and `test/`, or to be divided two to one by chance.
        mirrored: the training characters' mirror images as further classes.

    Returns:
        Characters to train on and Characters to test on; their images are an array (classes, drawings, 28, 28), or where
        the classes differ in number a list of (drawings, 28, 28).
    """
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


def own_images(path):
    """As `load`, from an image folder. Images are made grey, 28 x 28, dark ink on light paper inverted."""
    def classes(under):
        images, labels, names = data.load_image_folder(path, size=28, channels=1, under=under)
        images = 1 - images[:, 0] if np.median(images) > 0.5 else images[:, 0]
        return data.Characters([images[labels == k] for k in range(len(names))], names)

    try:
        train, test = classes("train"), classes("test")
    except FileNotFoundError as error:
        raise SystemExit(f"--data: {error}") from None
    except ValueError:
        whole = classes("")
        order = np.random.default_rng(0).permutation(len(whole.names))
        cut = 2 * len(order) // 3
        train, test = (data.Characters([whole.images[i] for i in part], [whole.names[i] for i in part])
                       for part in (order[:cut], order[cut:]))
    few = min(len(train.names), len(test.names))
    if few < 2:
        raise SystemExit(f"--data: {path} has {len(train.names)} classes to train on and {len(test.names)} to test on; "
                         "at least two of each are needed")
    return train, test, f"{path}: {len(train.names)} classes to train on, {len(test.names)} new ones to test on"


def pixel_baseline(test, episodes):
    """The column "nearest prototype of pixels" for `table`."""
    pixels = [c.reshape(len(c), -1) for c in test.images]
    return {"nearest prototype of pixels": (prototypical.classify, pixels, min(episodes, 200))}


def table(columns, run):
    """Prints and returns accuracies in 5- and 20-way, 1- and 5-shot episodes, as far as the classes allow.

    Args:
        columns: from a heading to (classify, embeddings of the test classes, number of episodes).
        run: its `episodes`, `seed` and `device`.

    Returns:
        dict from (way, shot) to the accuracy of the first column.
    """
    print(f"\naccuracy on new classes, mean of {run.episodes} episodes with 95 % confidence interval")
    print(" " * 16 + "".join(f"{heading:>30}" for heading in columns))
    results, sizes = {}, [len(c) for c in next(iter(columns.values()))[1]]
    for way in sorted({min(way, len(sizes)) for way in (5, 20)}):
        for shot in (1, 5):
            query = min(15, min(sizes) - shot)
            if query < 1:
                continue
            row = [accuracy(classify, data.EpisodeSampler(x, way, shot, query, run.seed + 2), n, run.device)
                   for classify, x, n in columns.values()]
            results[way, shot] = row[0][0]
            print(f"{way:>3}-way {shot}-shot  " + "".join(f"{100 * m:>23.1f} +- {100 * c:.1f}" for m, c in row))
    return results
