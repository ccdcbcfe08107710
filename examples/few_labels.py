"""A folder of pictures or texts, a few of them labelled: what to use, how sure it is, and which to label next.

    python -m examples.few_labels FOLDER                # sub-folders are classes; unlabelled/ or loose pictures have none
    python -m examples.few_labels FOLDER --label        # a page on which you click the class of the pictures worth a label
    python -m examples.few_labels FOLDER --minutes 20   # tries what needs training as well, longer
    python -m examples.few_labels TABLE.csv             # texts, of which some have a label
    python -m examples.predict RUN PICTURES             # RUN is the folder that the first lines name

The first answer comes within seconds and is written to report.html in the run's folder. The same command goes on where it was
stopped, and after new labels it gives a new answer from the features that it has.
"""
import dataclasses
import time

from examples.arguments import Folder
from methods.few_labels import session
from methods.training.settings import check, command, note_idle


@dataclasses.dataclass(kw_only=True)
class Run(session.Config):
    """Settings of the run."""

    folder: Folder  # of pictures or .txt files, a zip of one, or a table of texts


def main(run):
    """Looks, answers, suggests, and with time tries more. Returns the answer."""
    check(run)
    if not run.label:
        note_idle(run, "without --label", "move", "classes", "port")
    return session.run(run, time.monotonic())


if __name__ == "__main__":
    command(main, Run, __doc__)
