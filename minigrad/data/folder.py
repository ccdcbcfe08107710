"""A folder of images of one's own, or a zip of one: each folder that holds images is a class."""
import io
import os
import pathlib
import zipfile
import zlib

import numpy as np

_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")


def load_image_folder(path: str | os.PathLike, size: int | None = None, channels: int = 3,
                      under: str = "") -> tuple[np.ndarray, np.ndarray, list[str]]:
    """All images below `path`, with the folder of each as its class.

    Args:
        path: a folder, or a zip of one.
        size: scale every image to size x size; None if all have one size already.
        channels: 1 for grey, 3 for colour.
        under: only what lies below this folder in it, such as "train".

    Returns:
        images (N, channels, H, W) float32 in [0, 1], labels (N,) int64, names: the class of each label, sorted.
    Raises:
        FileNotFoundError: nothing at `path`; ValueError: no images, a damaged one, or sizes differ and `size` is None.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no image folder or zip at {path}")
    prefix = under.strip("/") + "/" if under else ""
    try:
        if path.is_dir():
            files = {p.relative_to(path).as_posix(): p.read_bytes for p in path.rglob("*") if p.is_file()}
            return _images(files, prefix, path, size, channels)
        with zipfile.ZipFile(path) as archive:
            files = {name: (lambda name=name: archive.read(name)) for name in archive.namelist()
                     if not name.startswith("__MACOSX")}
            return _images(files, prefix, path, size, channels)
    except (zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is neither a folder nor an undamaged zip: {error}") from error


def _images(files, prefix, path, size, channels):
    names = sorted(n for n in files if n.startswith(prefix) and n.lower().endswith(_ENDINGS) and "/" in n[len(prefix):])
    if not names:
        raise ValueError(f"{path} holds no images in sub-folders{' of ' + prefix if prefix else ''}; "
                         "each class needs a folder of its own")
    classes = sorted({n[len(prefix):].rpartition("/")[0] for n in names})
    number, images = {c: i for i, c in enumerate(classes)}, []
    for name in names:
        image = _image(files[name], name, size, channels)
        if images and image.shape != images[0].shape:
            raise ValueError(f"{name} is {image.shape[1:]} pixels, {names[0]} {images[0].shape[1:]}; pass size= to scale "
                             "them all")
        images.append(image)
    labels = np.array([number[n[len(prefix):].rpartition("/")[0]] for n in names])
    return np.stack(images).astype(np.float32) / 255, labels, classes


def _image(read, name, size, channels):
    from PIL import Image
    try:
        picture = Image.open(io.BytesIO(read())).convert("L" if channels == 1 else "RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{name} is no readable image: {error}") from error
    if size is not None:
        picture = picture.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=2)
    return np.asarray(picture).reshape(picture.height, picture.width, channels).transpose(2, 0, 1)
