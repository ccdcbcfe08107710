"""Characters of many scripts, drawn from the fonts that matplotlib ships: few-shot data without a download.

A drawing is a letter in a random font, bent by a random affine map and a smooth random displacement of its strokes.
"""
import functools
import os
import unicodedata

import numpy as np

from ..ops.geometry import one_of, whole
from .augment import affine
from .characters import Characters
from .files import cached

_SCRIPTS = {
    "train": ("LATIN", "GREEK", "CYRILLIC", "MATHEMATICAL"),
    "test": ("ARMENIAN", "GEORGIAN", "HEBREW", "ARABIC", "LAO", "CANADIAN", "TIFINAGH", "OGHAM", "RUNIC")}
_FONTS = ("DejaVuSans.ttf", "DejaVuSerif.ttf", "DejaVuSans-Oblique.ttf", "DejaVuSerif-Italic.ttf", "DejaVuSansMono.ttf",
          "DejaVuSans-Bold.ttf")


def load_glyphs(split: str = "train", drawings: int = 20, size: int = 28, seed: int = 0) -> Characters:
    """Letters of the scripts of "train", or of the others of "test": no script is in both.

    Letters that look alike in print (Latin A, Greek Alpha) count once. Deterministic for a seed; made once, then cached.

    Args:
        split: "train" or "test".
        drawings: how many of each letter.
        size: of a drawing, size x size pixels.
        seed: of the fonts and distortions.

    Raises:
        ValueError: no such split; drawings or size is no whole number of at least 1, or the seed none of at least 0.
    """
    one_of("glyphs", "split", split, tuple(_SCRIPTS))
    drawings, size, seed = (whole("glyphs", name, value, least) for name, value, least in (
        ("drawings", drawings, 1), ("size", size, 1), ("seed", seed, 0)))
    letters, fonts = _letters(split)
    key = f"glyphs-{split}-{len(letters)}-{drawings}-{size}-{seed}"
    images = cached(key, lambda: _draw_all(letters, fonts, drawings, size, seed), (len(letters), drawings, size, size))
    names = [f"{unicodedata.name(c).split()[0].title()}/U+{ord(c):04X}" for c in letters]
    return Characters(images.astype(np.float32) / 255, names)


@functools.cache
def _letters(split):
    import matplotlib
    from matplotlib.ft2font import FT2Font
    folder = os.path.join(matplotlib.get_data_path(), "fonts", "ttf")
    fonts = {os.path.join(folder, name): None for name in _FONTS}
    for path in fonts:
        fonts[path] = set(FT2Font(path).get_charmap())
    plain = next(iter(fonts))
    chosen, known = [], np.zeros((len(fonts[plain]), 20 * 20), np.float32)
    for code in sorted(fonts[plain]):
        c = chr(code)
        if unicodedata.category(c) not in ("Lu", "Ll", "Lo") or unicodedata.name(c, "").split(" ")[0] not in _SCRIPTS[split]:
            continue
        if unicodedata.decomposition(c) or " WITH " in unicodedata.name(c):  # accents make near-twins
            continue
        picture = _render(c, plain, 20).reshape(-1)
        unit = picture / max(np.linalg.norm(picture), 1e-6)
        if picture.any() and not (known[:len(chosen)] @ unit > 0.93).any():
            known[len(chosen)] = unit
            chosen.append(c)
    return chosen, fonts


def _render(c, path, size):
    """The letter, its ink cut out and centred in a square with a margin, scaled to 0 .. 1."""
    from PIL import Image, ImageDraw, ImageFont
    canvas = Image.new("L", (160, 160))
    ImageDraw.Draw(canvas).text((40, 30), c, fill=255, font=ImageFont.truetype(path, 72))
    box = canvas.getbbox()
    if box is None:
        return np.zeros((size, size), np.float32)
    ink = canvas.crop(box)
    side = int(max(ink.size) * 1.3)
    square = Image.new("L", (side, side))
    square.paste(ink, ((side - ink.width) // 2, (side - ink.height) // 2))
    return np.asarray(square.resize((size, size), Image.Resampling.BOX), np.float32) / 255


def _draw_all(letters, fonts, drawings, size, seed):
    rng = np.random.default_rng(seed)
    out = np.empty((len(letters), drawings, size, size), np.uint8)
    for i, c in enumerate(letters):
        pictures = [_render(c, path, size) for path, known in fonts.items() if ord(c) in known]
        base = np.stack([pictures[j] for j in rng.integers(len(pictures), size=drawings)])
        out[i] = np.clip(_distort(base, rng) * 255, 0, 255)
    return out


def _distort(images, rng):
    """A random affine map of each image, and a wave-like displacement of its rows and columns."""
    n, h, w = images.shape
    matrices = np.tile(np.eye(2, 3), (n, 1, 1))
    matrices[:, :, :2] += rng.normal(0, 0.17, (n, 2, 2))
    matrices[:, :, 2] = rng.normal(0, 1.5, (n, 2))
    images = affine(images, matrices)
    for axis in (1, 2):
        phase, turns, reach = rng.uniform(0, 2 * np.pi, n), rng.uniform(0.5, 1.5, n), rng.normal(0, 1.6, n)
        t = np.arange(h) / h
        shift = reach[:, None] * np.sin(2 * np.pi * turns[:, None] * t + phase[:, None])
        at = np.clip(np.arange(w) + shift[:, :, None], 0, w - 1.001)
        low = at.astype(int)
        moved = images if axis == 1 else images.swapaxes(1, 2)
        left, right = np.take_along_axis(moved, low, 2), np.take_along_axis(moved, low + 1, 2)
        moved = left + (at - low) * (right - left)
        images = moved if axis == 1 else moved.swapaxes(1, 2)
    return images
