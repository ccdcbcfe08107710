"""What a vision Transformer looks at: the attention of its class token, by each head of the last block, as in DINO's paper.

    python -m examples.attention PICTURES --encoder dino_deitsmall8_pretrain.pth                 # a published file
    python -m examples.attention PICTURES --encoder runs/self_supervised/dino --image-size 32    # one's own

The Transformer of a run is made by `examples.self_supervised dino --network vit`.
"""
import dataclasses
import itertools
import pathlib

import numpy as np

from examples.arguments import Pictures
from methods.self_supervised.dino import draw_attention
from methods.training import encoders
from methods.training.forward import tensor
from methods.training.pictures import EncoderInput, picture_files, read_pictures
from methods.training.settings import check, command, setting
from minigrad import nn


@dataclasses.dataclass
class Run:
    """What to look at, and with what."""

    images: Pictures  # picture files, folders with pictures, or zips of them
    encoder: str = "runs/self_supervised/dino"  # a file or folder of published weights, or the folder of a run
    image_size: int = setting(0, least=0)  # pixels of the encoder's input; more of them, more places; 0: its own
    most: int = setting(8, least=1)  # pictures
    out: str = "attention.png"  # the figure; its ending, .png, .jpg, .pdf or .svg, says how
    device: str = "cpu"  # "cpu" or "cuda"


def main(run):
    """Draws the figure."""
    check(run)
    if pathlib.Path(run.out).suffix not in (".png", ".jpg", ".pdf", ".svg"):
        raise SystemExit(f"--out {run.out}: choose a name that ends in .png, .jpg, .pdf or .svg")
    if run.encoder == Run.encoder and not pathlib.Path(run.encoder).exists():
        raise SystemExit(f"--encoder {run.encoder}: no such run: make it by examples.self_supervised dino --network vit, "
                         "or give a vision Transformer's published weights")
    encoder, preprocessing = encoders.load_encoder(run.encoder, run.image_size, whole=True, device=run.device)
    if not isinstance(encoder, nn.VisionTransformer):
        raise SystemExit(f"--encoder {run.encoder}: a vision Transformer is wanted, and this is a {type(encoder).__name__}")
    try:
        files = {name: read for source in run.images for name, read in picture_files(source).items()}
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from None
    rest, names, parts = iter(files.items()), [], []
    while more := dict(itertools.islice(rest, run.most - len(names))):  # as many again as could not be read
        found, inputs = read_pictures(more, EncoderInput(**dataclasses.asdict(preprocessing)))
        names, parts = names + list(found), [*parts, inputs] if len(found) else parts
    if not names:
        raise SystemExit("no picture could be read: name files, folders or zips of pictures")
    inputs = np.concatenate(parts)
    column = (1, -1, 1, 1)
    shown = inputs * np.reshape(preprocessing.std, column) + np.reshape(preprocessing.mean, column)
    draw_attention(encoder, tensor(encoder, inputs), shown, run.out)
    print(f"the attention of {len(names)} pictures is in {run.out}")


if __name__ == "__main__":
    command(main, Run, __doc__)
