"""SimCLRv2: learn without labels, fine-tune from inside the head with few of them, and teach a student on all pictures.

    python -m examples.self_supervised simclr --layers 3 --out runs/simclr3       # the first step
    python -m examples.simclr_v2 runs/simclr3 --labels 500                        # the second and third

A table says what each step is worth, beside training with the same labels alone.
"""
import dataclasses
import json
import pathlib

import numpy as np

import minigrad as mg

from examples import self_supervised
from examples.arguments import RunPath
from methods.self_supervised import pictures, simclr
from methods.self_supervised.distillation import Distillation
from methods.self_supervised.evaluation import Tuning, fine_tuned, train_on, zero_head
from methods.training import checkpoint, encoders
from methods.training.evaluation import accuracy
from methods.training.images import or_default
from methods.training.run import read_object, write_whole
from methods.training.settings import check, command, setting
from minigrad import data

LABELS = 500  # if nothing is said


@dataclasses.dataclass
class Run:
    """Settings. A run that was stopped goes on where it was."""

    run: RunPath  # the folder of a run of `examples.self_supervised simclr`
    data: str = "cifar10"  # the pictures of that run
    labels: int = setting(-1, least=-1)  # in all, as many of each class; 0: all; -1: 500, or all of fewer
    steps: int = setting(300, least=1)  # of each fine-tuning, of which there are three a row
    student_steps: int = setting(1000, least=1)  # of distillation
    batch: int = setting(64, least=2)  # pictures in a step of distillation
    tau: float = setting(1.0, above=0)  # temperature of teacher and student
    seed: int = setting(0, least=0)  # of the labels
    device: str = "cpu"  # "cpu" or "cuda"
    out: str = "runs/simclr_v2"  # a folder for the trainings and the table


def main(run):
    """Returns a dict from each row to its accuracy on the test pictures."""
    check(run)
    out = pathlib.Path(run.out)
    images, learnt, method, encoder = pretrained(run)
    fresh, (_, _, test, test_y, classes) = method.net, self_supervised.whole(images)
    try:
        inside = simclr.deepened(encoder, method.heads)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    some = images.labelled
    labels, why = or_default(run.labels, LABELS, np.bincount(images.y[some], minlength=len(images.names)))
    try:
        some = some[data.balanced_subset(images.y[some], labels, run.seed, images.names)] if labels else some
    except ValueError as error:
        raise SystemExit(f"--labels {labels}: {error}; --labels 0 uses all") from None
    few, few_y = images.x[some], images.y[some]
    tuning = Tuning(run.steps, flip=method.task.flip, seed=run.seed)
    found = {}

    def told(name, net):
        found[name] = accuracy(encoders.encode(net, test), test_y)
        print(f"{name:44}{100 * found[name]:6.1f} %", flush=True)
        return net

    print(f"{images.description}; {len(some)} labels{why}; the student sees {len(learnt.x)} pictures", flush=True)
    told("from scratch", fine_tuned(fresh, few, few_y, classes, tuning, out / "scratch"))
    told("fine-tuned from h", fine_tuned(encoder, few, few_y, classes, tuning, out / "encoder"))
    teacher = told("fine-tuned from inside the head", fine_tuned(inside, few, few_y, classes, tuning, out / "inside"))
    mg.random.seed(run.seed)
    student, long = zero_head(fresh, classes), Tuning(run.student_steps, batch=run.batch, flip=method.task.flip, seed=run.seed)
    train_on(Distillation(long, student, teacher, test.shape[-1], run.tau), learnt.x, learnt.y, long, out / "student",
          teacher)
    told("a student of that, taught without labels", student)
    write_whole(out / "result.json", json.dumps(found, indent=1))
    print(f"the trainings are in {run.out}")
    return found


def pretrained(run):
    """What the first step has left: all pictures, those that it learned from, its method with the trained head on an encoder that
    begins at random, and the trained encoder.

    SystemExit: there is no such run, or it was made with other pictures, or no labels are known.
    """
    folder = pathlib.Path(run.run)
    settings = self_supervised.settings("simclr")
    if not (folder / encoders.CHECKPOINT).is_file():
        raise SystemExit(f"there is no run in {folder}")
    known = read_object(folder / "config.json")
    if "tau" not in known or "layers" not in known:
        raise SystemExit(f"{folder} holds no run of examples.self_supervised simclr")
    settings = dataclasses.replace(settings, **{k: tuple(v) if isinstance(v, list) else v for k, v in known.items()
                                                if k in {f.name for f in dataclasses.fields(settings)}})
    images = pictures.load(run.data, settings.size, settings.classes)
    learnt = images.limited(settings.pictures)
    facts = checkpoint.load(folder / encoders.CHECKPOINT)
    if facts.get("data") != checkpoint.fingerprint(learnt.x, learnt.y):
        raise SystemExit(f"--data {run.data}: the run in {folder} was made with other pictures")
    if not len(images.test):
        raise SystemExit(f"--data {run.data}: labels are needed to fine-tune and to test, and none are known")
    method, _ = self_supervised.build(dataclasses.replace(settings, device=run.device), learnt)
    encoder, _ = encoders.load_encoder(run.run, device=run.device)
    method.heads.load_state_dict(facts["state"]["heads"])
    return images, learnt, method, encoder


if __name__ == "__main__":
    command(main, Run, __doc__)
