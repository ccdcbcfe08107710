"""Classifies new pictures with the checkpoint of a run: of few_labels, transfer, a semi-supervised or a few-shot example.

    python -m examples.predict runs/semi_supervised/fixmatch PICTURE.png FOLDER     # the classes it was trained on
    python -m examples.predict runs/prototypical_networks FOLDER --support EXAMPLES # classes of your own: a folder for each
    python -m examples.predict runs/prototypical_networks FOLDER --csv found.csv    # the classes that the run was tested on
    python -m examples.predict runs/few_labels/NAME FOLDER --sort SORTED            # copies, in a folder for each class

Runs of few_labels give a set of classes for a picture when one class is not sure enough.
"""
import dataclasses
import pathlib

import tyro

from methods.training.classifier import load_classifier
from methods.training.pictures import picture_files
from methods.training.prediction import (
    description, most_probable, named_sets, probabilities, read_threshold, sort_copies, with_support, write_csv)
from methods.training.settings import check, command


@dataclasses.dataclass
class Run:
    """What to classify, and by which run."""

    run: tyro.conf.Positional[str]  # the run's folder
    images: tyro.conf.Positional[tuple[str, ...]]  # picture files, folders with pictures, or zips of them
    support: str = ""  # for few-shot networks: a folder with a folder of example pictures for each class
    csv: str = ""  # a file to write: file, class, probability, and the set of classes if the run gives sets
    sort: str = ""  # a folder: the pictures are copied into a folder for each class in it, and there into unsure/ if they are
    device: str = "cpu"  # "cpu" or "cuda"


def main(run):
    """Prints and returns a list of (file, class, probability)."""
    check(run)
    try:
        classifier = load_classifier(pathlib.Path(run.run) / "checkpoint.safetensors", run.device)
        q = read_threshold(pathlib.Path(run.run)) if classifier.support is None else None
        where = "as trained" if classifier.support is None else "that the run was tested on"
        if run.support:
            classifier, where = with_support(classifier, run.support), f"from {run.support}"
        files = {name: read for path in run.images for name, read in picture_files(path).items()}
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from None
    print(description(classifier, where))
    names, p = probabilities(classifier, files)
    if not names:
        raise SystemExit("no picture could be read")
    found, sets = most_probable(names, p, classifier.classes), None if q is None else named_sets(p, q, classifier.classes)
    width = max(map(len, names))
    for i, (name, kind, best) in enumerate(found):
        print(f"{name:{width}}  {100 * best:5.1f} %  {kind if sets is None or len(sets[i]) == 1 else ' or '.join(sets[i])}")
    if run.csv:
        write_csv(run.csv, found, sets)
        print(f"written to {run.csv}")
    if run.sort:
        unsure = [sets is not None and len(sets[i]) > 1 for i in range(len(found))]
        where = [(name, f"{kind}/unsure" if u else kind) for u, (name, kind, _) in zip(unsure, found)]
        sort_copies(files, where, pathlib.Path(run.sort))
        print(f"copied into {run.sort}; {sum(unsure)} of {len(found)}, which are not sure, into unsure/ of their class")
    return found


if __name__ == "__main__":
    command(main, Run, __doc__)
