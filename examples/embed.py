"""Features of pictures by an encoder, written to a file.

    python -m examples.embed IMAGES --encoder runs/self_supervised/simclr                  # one's own encoder; features.csv
    python -m examples.embed IMAGES --encoder lite0 --out features.npz                     # a published one

A line of the CSV file has the picture's name and its features. The npz file has `files` (N,) and `features` (N, width).
"""
import csv
import dataclasses
import io
import pathlib

import numpy as np

from examples.arguments import Pictures
from methods.training import encoders
from methods.training.evaluation import in_batches
from methods.training.pictures import EncoderInput, picture_files, read_pictures
from methods.training.run import write_whole
from methods.training.settings import check, command, setting


@dataclasses.dataclass
class Run:
    """What to read, and with what."""

    images: Pictures  # picture files, folders with pictures, or zips of them
    encoder: str = "lite0"  # "lite0", a file or folder of published weights, or the folder of a run
    image_size: int = setting(0, least=0)  # pixels of the encoder's input; 0: those of its preprocessing
    whole: bool = True  # the encoder sees the whole picture, not its middle 7/8
    out: str = "features.csv"  # the file to write; its ending, .csv or .npz, says how
    device: str = "cpu"  # "cpu" or "cuda"


def main(run):
    """Writes the features. Returns the names and the features (N, width)."""
    check(run)
    path = pathlib.Path(run.out)
    if path.suffix not in (".csv", ".npz"):
        raise SystemExit(f"--out {run.out}: choose a name that ends in .csv or .npz")
    encoder, preprocessing = encoders.load_encoder(run.encoder, run.image_size, whole=run.whole, device=run.device)
    try:
        files = {name: read for source in run.images for name, read in picture_files(source).items()}
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from None
    names, rows, order = [], [], list(files)
    for start in range(0, len(order), 100):  # pictures take more memory than features
        read, images = read_pictures({name: files[name] for name in order[start:start + 100]},
                                     EncoderInput(**dataclasses.asdict(preprocessing)))
        if read:
            names += read
            rows.append(in_batches(encoder, images, 50))
    if not names:
        raise SystemExit("no picture could be read: name files, folders or zips of pictures")
    features = np.concatenate(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO() if path.suffix == ".csv" else io.BytesIO()
    if path.suffix == ".csv":
        csv.writer(text, lineterminator="\n").writerows(
            [["file", *range(features.shape[1])], *([name, *map(str, row)] for name, row in zip(names, features))])
    else:
        np.savez(text, files=np.array(names), features=features)
    write_whole(path, text.getvalue())
    print(f"{len(names)} pictures, {features.shape[1]} features each, are in {run.out}")
    return names, features


if __name__ == "__main__":
    command(main, Run, __doc__)
