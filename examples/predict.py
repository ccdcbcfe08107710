"""Classifies new pictures with the checkpoint of a run: of few_labels, transfer, a semi-supervised or a few-shot example.

    python -m examples.predict runs/semi_supervised/fixmatch PICTURE.png FOLDER     # the classes it was trained on
    python -m examples.predict runs/prototypical_networks FOLDER --support EXAMPLES # classes of your own: a folder for each
    python -m examples.predict runs/prototypical_networks FOLDER --csv found.csv    # the classes that the run was tested on
    python -m examples.predict runs/peft/lora "a charming film" FILE.txt            # texts, by a run of examples.peft
    python -m examples.predict runs/few_labels/NAME FOLDER --sort SORTED            # copies, in a folder for each class

Runs of few_labels give a set of classes for a picture when one class is not sure enough. Of a .txt file each line is a text, but
of a folder each file.
"""
import dataclasses
import pathlib

from examples.arguments import Pictures, RunPath
from methods.peft import prediction
from methods.training.classifier import load_classifier
from methods.training.pictures import picture_files
from methods.training.prediction import (
    description, most_probable, named_sets, probabilities, read_threshold, sort_copies, with_support, write_csv)
from methods.training.settings import check, command, note_idle
from minigrad.data.folder import printable

EXCERPT = 200  # characters of a text that are printed


@dataclasses.dataclass
class Run:
    """What to classify, and by which run."""

    run: RunPath  # the run's folder
    images: Pictures  # files, folders or zips; of runs on texts: texts, .txt files, tables
    support: str = ""  # for few-shot networks: a folder with a folder of example pictures for each class
    encoder: str = ""  # of a run of examples.peft: its encoder, if that is no longer where it was
    csv: str = ""  # a file to write: file, class, probability, and the set of classes if the run gives sets
    sort: str = ""  # a folder: the pictures are copied into a folder for each class in it, those not sure into its unsure/
    device: str = "cpu"  # "cpu" or "cuda"


def main(run):
    """Prints and returns a list of (file, class, probability)."""
    check(run)
    if (pathlib.Path(run.run) / prediction.FILE).is_file():
        return fine_tuned(run)
    note_idle(run, "but with runs on texts and those of examples.peft", "encoder")
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
    sets = None if q is None else named_sets(p, q, classifier.classes)
    found = report(run, most_probable(names, p, classifier.classes), "picture", sets)
    if run.sort:
        unsure = [sets is not None and len(sets[i]) > 1 for i in range(len(found))]
        where = [(name, f"{kind}/unsure" if u else kind) for u, (name, kind, _) in zip(unsure, found)]
        sort_copies(files, where, pathlib.Path(run.sort))
        print(f"copied into {run.sort}; {sum(unsure)} of {len(found)}, which are not sure, into unsure/ of their class")
    return found


def fine_tuned(run):
    """The same by what a run of examples.peft has trained."""
    if run.sort:
        raise SystemExit(f"--sort {run.sort}: runs on texts and those of examples.peft sort nothing; --csv writes what was found")
    if run.support:
        raise SystemExit(f"--support {run.support}: runs on texts and those of examples.peft take no further examples")
    try:
        network, q = prediction.load_run(run.run, run.encoder, run.device), read_threshold(pathlib.Path(run.run))
        names, p = network.named_probabilities(run.images)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from None
    sets = None if q is None else named_sets(p, q, network.classes)
    return report(run, most_probable(names, p, network.classes), network.kind[:-1], sets)


def report(run, found, what, sets=None):
    """Prints what was found, with the sets of classes if there are any, and writes it as CSV if that is asked for."""
    if not found:
        raise SystemExit(f"no {what} could be read: name files, folders or zips of {what}s")
    shown = [printable(name if what != "text" or len(name) <= EXCERPT else f"{name[:EXCERPT]}...") for name, _, _ in found]
    width = min(max(map(len, shown)), 60)
    for i, (name, (_, kind, p)) in enumerate(zip(shown, found)):
        print(f"{name:{width}}  {100 * p:5.1f} %  {kind if sets is None or len(sets[i]) == 1 else ' or '.join(sets[i])}")
    if run.csv:
        write_csv(run.csv, found, sets)
        print(f"written to {run.csv}")
    return found


if __name__ == "__main__":
    command(main, Run, __doc__)
