"""Pictures found by what is said of them: the nearest ones to each text, or the nearest texts to each picture.

    python -m examples.retrieve runs/clip PICTURES --texts "a red fish" "two dogs"
    python -m examples.retrieve CLIP PICTURES --texts "a red fish" "two dogs" --of pictures      # a text for each picture
    python -m examples.retrieve runs/clip PICTURES --file captions.txt --of pictures             # of the lines of a file

The first argument is a run of examples.clip, contrastive, or the folder of a published CLIP as the Hugging Face Hub has it.
"""
import dataclasses
import pathlib
from typing import Literal

import numpy as np

from examples.arguments import Pictures, RunPath
from examples.zero_shot import features_of
from methods.training.settings import check, command, setting
from methods.vision_language import retrieval, trained
from minigrad.data.labelled_texts import decode_lines, lines_of


@dataclasses.dataclass
class Run:
    """What to look for, where, and by which network."""

    run: RunPath  # the folder of a run, or of a published CLIP
    images: Pictures  # picture files, folders with pictures, or zips of them
    texts: tuple[str, ...] = ()  # what to look for
    file: str = ""  # a file with more texts, a line each
    of: Literal["texts", "pictures"] = "texts"  # "texts": the pictures of each text; "pictures": the texts of each picture
    most: int = setting(5, least=1)  # so many of each
    device: str = "cpu"  # "cpu" or "cuda"


def main(run):
    """Prints what is found. Returns a dict from each text (or picture) to its pictures (or texts), each with its cosine."""
    check(run)
    found = trained.load_contrastive(run.run, run.device)
    texts = list(run.texts)
    if run.file:
        try:
            lines = lines_of(decode_lines(pathlib.Path(run.file).read_bytes()))
        except (OSError, ValueError) as error:
            raise SystemExit(f"--file {run.file}: {error}") from None
        texts += lines
    texts = list(dict.fromkeys(text.strip() for text in texts if text.strip()))
    if not texts:
        raise SystemExit("--texts: what to look for?")
    names, features = features_of(found, run.images)
    of_texts = retrieval.text_embeddings(found.net, found.prompts.vocabulary, texts)
    cosine = of_texts @ retrieval.image_embeddings(found.net, features).T
    asked, answers, cosine = (texts, names, cosine) if run.of == "texts" else (names, texts, cosine.T)
    near = {}
    for query, row in zip(asked, cosine):
        near[query] = [(answers[i], float(row[i])) for i in np.argsort(-row, kind="stable")[:run.most]]
        print(f"{query}\n" + "".join(f"  {value:6.3f}  {answer}\n" for answer, value in near[query]), end="")
    return near


if __name__ == "__main__":
    command(main, Run, __doc__)
