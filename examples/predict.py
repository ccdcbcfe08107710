"""Classifies new pictures with the checkpoint of a run: of a semi-supervised or a few-shot example.

    python -m examples.predict runs/semi_supervised/fixmatch PICTURE.png FOLDER     # the classes it was trained on
    python -m examples.predict runs/prototypical_networks FOLDER --support EXAMPLES # classes of your own: a folder for each
    python -m examples.predict runs/prototypical_networks FOLDER --csv found.csv    # the classes that the run was tested on
    python -m examples.predict runs/peft/lora "a charming film" FILE.txt            # texts, by a run of examples.peft
"""
import dataclasses
import pathlib

import tyro

from methods.peft import prediction
from methods.training.classifier import load_classifier
from methods.training.pictures import picture_files
from methods.training.prediction import description, predict, with_support, write_csv
from methods.training.settings import check, command


@dataclasses.dataclass
class Run:
    """What to classify, and by which run."""

    run: tyro.conf.Positional[str]  # the run's folder
    images: tyro.conf.Positional[tuple[str, ...]]  # picture files, folders with pictures, or zips of them; of runs on texts
    # texts, .txt files (a text a line) or tables
    support: str = ""  # for few-shot networks: a folder with a folder of example pictures for each class
    encoder: str = ""  # of a run of examples.peft: its encoder, if that is no longer where it was
    csv: str = ""  # a file to write: file, class, probability
    device: str = "cpu"  # "cpu" or "cuda"


def main(run):
    """Prints and returns a list of (file, class, probability)."""
    check(run)
    if (pathlib.Path(run.run) / prediction.FILE).is_file():
        return fine_tuned(run)
    try:
        classifier = load_classifier(pathlib.Path(run.run) / "checkpoint.safetensors", run.device)
        where = "as trained" if classifier.support is None else "that the run was tested on"
        if run.support:
            classifier, where = with_support(classifier, run.support), f"from {run.support}"
        files = {name: read for path in run.images for name, read in picture_files(path).items()}
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from None
    print(description(classifier, where))
    found = predict(classifier, files)
    return report(run, found, "picture")


def fine_tuned(run):
    """The same by what a run of examples.peft has trained."""
    try:
        network = prediction.load_run(run.run, run.encoder, run.device)
        found = network.predict(run.images)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from None
    return report(run, found, network.kind[:-1])


def report(run, found, what):
    """Prints what was found, and writes it as CSV if that is asked for."""
    if not found:
        raise SystemExit(f"no {what} could be read")
    width = min(max(len(name) for name, _, _ in found), 60)
    for name, kind, p in found:
        print(f"{name:{width}}  {100 * p:5.1f} %  {kind}")
    if run.csv:
        write_csv(run.csv, found)
        print(f"written to {run.csv}")
    return found


if __name__ == "__main__":
    command(main, Run, __doc__)
