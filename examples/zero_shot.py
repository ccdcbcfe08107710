"""Classes by their names alone: which of them is on each picture, says a network that learned from captions.

    python -m examples.zero_shot runs/clip PICTURES --classes cat dog "a horse"
    python -m examples.zero_shot CLIP PICTURES --classes cat dog --templates "a photo of a {}" "a drawing of a {}"
    python -m examples.zero_shot runs/clip PICTURES --csv found.csv              # the classes that the run was tested on

The first argument is a run of examples.clip, of any task, or the folder of a published CLIP as the Hugging Face Hub has it.
"""
import dataclasses

from examples.arguments import Pictures, RunPath
from methods.training.pictures import EncoderInput, picture_files, read_pictures
from methods.training.prediction import most_probable, write_csv
from methods.training.settings import check, command
from methods.vision_language import trained
from methods.vision_language.zero_shot import ZeroShot, image_features, same_said


@dataclasses.dataclass
class Run:
    """What to classify, and by which network."""

    run: RunPath  # the folder of a run, or of a published CLIP
    images: Pictures  # picture files, folders with pictures, or zips of them
    classes: tuple[str, ...] = ()  # their names; those that the run was tested on if left out
    templates: tuple[str, ...] = ()  # with {} for the name; the run's, or general ones, if left out
    csv: str = ""  # a file to write: file, class, probability
    device: str = "cpu"  # "cpu" or "cuda"


def main(run):
    """Prints and returns a list of (file, class, probability)."""
    check(run)
    found = trained.load(run.run, run.device)
    classes = run.classes or found.prompts.classes
    if not classes:
        raise SystemExit(f"--classes: which ones? {run.run} names none")
    try:
        classifier = ZeroShot(found.net, found.prompts.vocabulary, classes, run.templates or found.prompts.templates)
    except ValueError as error:
        raise SystemExit(f"--classes, --templates: {error}") from None
    if classifier.same:
        raise SystemExit(f"--classes: {same_said(classifier.same[0], found.net.length)}; choose shorter or different names")
    names, features = features_of(found, run.images)
    rows = most_probable(names, classifier.probabilities(features), classifier.names)
    width = max(map(len, names))
    for name, kind, p in rows:
        print(f"{name:{width}}  {100 * p:5.1f} %  {kind}")
    if run.csv:
        write_csv(run.csv, rows)
        print(f"written to {run.csv}")
    return rows


def features_of(found, paths):
    """The names of the pictures that can be read, and their features before the head. SystemExit: there are none."""
    try:
        files = {name: read for path in paths for name, read in picture_files(path).items()}
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from None
    names, images = read_pictures(files, EncoderInput(**dataclasses.asdict(found.preprocessing)))
    if not names:
        raise SystemExit("no picture could be read: name files, folders or zips of pictures")
    return names, image_features(found.net.image, images)


if __name__ == "__main__":
    command(main, Run, __doc__)
