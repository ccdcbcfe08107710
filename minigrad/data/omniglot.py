"""Omniglot (Lake, Salakhutdinov and Tenenbaum 2015): 20 drawings each of the characters of many alphabets."""
import hashlib
import io
import os
import zipfile
import zlib

import numpy as np

from ..ops.geometry import one_of
from .characters import Characters
from .files import cached, find, open_zip

_URL = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"
_FILES = {  # the publisher's archive and its MD5
    "background": ("images_background.zip", "68d2efa1b9178cc56df9314c21c6e718"),
    "evaluation": ("images_evaluation.zip", "6b91aef0f799c5bb55b94e3f2daec811"),
    "small1": ("images_background_small1.zip", "e704a628b5459e08445c13499850abc4"),
    "small2": ("images_background_small2.zip", "b75a71a51d3b13f821f212756fe481fd")}


def load_omniglot(split: str, data: str | os.PathLike | None = None, size: int = 28) -> Characters:
    """The characters of one of the publisher's sets: "background", "evaluation", "small1" or "small2".

    Decoded once, the 105 x 105 drawings averaged over areas down to size x size, then read from a cache.

    Raises:
        ValueError: no such split, or the archive is damaged; FileNotFoundError: it can be neither found nor fetched.
    """
    one_of("omniglot", "split", split, tuple(_FILES))
    name, md5 = _FILES[split]
    path = find([name, f"omniglot/{name}"], _URL + name, md5, data)
    content = path.read_bytes()
    try:
        with open_zip(path, content) as archive:
            members = sorted(m for m in archive.namelist() if m.endswith(".png") and not m.startswith("__MACOSX"))
            groups = {}
            for member in members:
                groups.setdefault("/".join(member.split("/")[-3:-1]), []).append(member)
            if not groups or len({len(g) for g in groups.values()}) != 1:
                raise ValueError(f"{path}: expected alphabet/character/*.png with equally many drawings a character")
            images = cached(f"omniglot-{hashlib.sha256(content).hexdigest()[:16]}-{size}",
                            lambda: _decode(archive, groups.values(), size),
                            (len(groups), len(next(iter(groups.values()))), size, size))
    except (zipfile.BadZipFile, zlib.error, OSError, SyntaxError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete it and fetch it again") from error
    return Characters(images.astype(np.float32) / 255, list(groups))


def _decode(archive, groups, size):
    from PIL import Image
    def image(member):
        picture = Image.open(io.BytesIO(archive.read(member))).convert("L")
        return 255 - np.asarray(picture.resize((size, size), Image.Resampling.BOX))
    return np.stack([np.stack([image(member) for member in group]) for group in groups]).astype(np.uint8)
