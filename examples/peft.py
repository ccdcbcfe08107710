"""Parameter-efficient fine-tuning of a Transformer, on texts or pictures with labels.

    python -m examples.peft lora                                            # made-up reviews of films
    python -m examples.peft lora --data sst2 --per-class 500                # sentences of films' reviews (MINIGRAD_DATA)
    python -m examples.peft prefix --data FILE.tsv                          # texts of your own: a table, or a folder a class
    python -m examples.peft adapters --data IMAGES --encoder VIT            # pictures, with a vision Transformer
    python -m examples.peft setfit --data sst2 --per-class 16               # few labels

The encoder of texts is MiniLM if its package is installed, else a small BERT that learns from the texts first; --encoder takes
a folder of the Hub, or a run of examples.bert. `full` and `probe` are the references: all weights, or a new head alone. The
run's folder holds what was trained in `fine_tuning.safetensors`, which needs the same encoder; examples.predict reads it.
"""
import dataclasses
import time

import numpy as np

import minigrad as mg
from methods import peft
from methods.peft import tasks, tuning
from methods.peft.prediction import FILE
from methods.training import checkpoint, plots
from methods.training.evaluation import accuracy
from methods.training.loop import train
from methods.training.prediction import most_probable, write_csv, write_test
from methods.training.run import RunFolder
from methods.training.settings import RunSettings, check, note_idle, of_method, report_errors, setting, subcommands, subset
from methods.transfer import setfit

METHODS = {**peft.METHODS, "setfit": setfit}


@dataclasses.dataclass
class Run(RunSettings, tuning.Config, tasks.Config):
    """Settings of the run."""

    data: str = setting("reviews", free=True)  # "reviews", "sst2", "glosses", a table or folder of texts, or pictures
    steps: int = setting(300, least=1, free=True)  # of the training
    out: str = "runs/peft"


def settings(method):
    """The settings of a run with a method."""
    return of_method(method, METHODS[method], Run)


def main(run):
    """Trains and tests. Returns the accuracy, how many numbers were trained, the optimiser's bytes and seconds a step."""
    check(run)
    folder = RunFolder(run.out, run, run.resume)
    task = tasks.load(run)
    print(task.description, flush=True)
    mg.random.seed(run.seed)
    adaptation = adapt(run, task)
    print(adaptation, flush=True)
    found = adaptation.counts() | {"bytes": 0, "seconds": 0.0}
    if run.method != "probe":
        found |= trained(run, task, adaptation, folder)
    if run.method in ("probe", "setfit"):
        probe(task, len(task.y), run.seed)
    adaptation.finish()
    if adaptation.counts()["trained"] != found["trained"]:
        print(f"left after training: {adaptation}")
    found |= {name: adaptation.counts()[name] for name in ("trained", "head")}
    found["share"] = 100 * found["trained"] / adaptation.base_size
    scores = task.outputs(task.test)
    found |= {"accuracy": accuracy(scores, task.test_y), "classes": len(task.classes)}
    if run.method == "probe":
        with folder.locked():
            folder.write_settings()
            checkpoint.save(folder.checkpoint, 0, {"adaptation": adaptation})
    adaptation.save(folder.path / FILE, classes=list(task.classes), inputs=task.inputs, accuracy=found["accuracy"])
    print(f"{100 * found['accuracy']:.1f} % of {len(task.test_y)} to test on are right")
    print(write_test(folder.path, mg.softmax(mg.Tensor(scores), 1).numpy(), task.test_y, task.classes,
                     task.names, "text" if task.pad is not None else "file"))
    answers = [answer for names, x in task.unlabelled()
               for answer in most_probable(names, mg.softmax(mg.Tensor(task.outputs(x)), 1).numpy(), task.classes)]
    if answers:
        write_csv(folder.path / "predictions.csv", answers)
        print(f"the classes of {len(answers)} unlabelled pictures are in {folder.path / 'predictions.csv'}")
    print(f"what was trained is in {folder.path / FILE}, {(folder.path / FILE).stat().st_size / 1e6:.2f} MB")
    adaptation.undo()  # or network and adaptation would hold each other in memory
    return found


def adapt(run, task):
    """The method in the network of the task. SystemExit: it has no place there."""
    method = run.body if run.method == "setfit" else run.method
    kind = peft.METHODS[method].Config
    config = kind(lr=run.lr) if run.method == "setfit" else subset(run, kind)
    try:
        more = {"words": task.words.get(config.start)} if hasattr(config, "start") and config.start != "random" else {}
        return peft.apply(task.net, method, config, head=len(task.classes), **more)
    except ValueError as error:
        raise SystemExit(f"{run.method}: {error}") from None


def trained(run, task, adaptation, folder):
    """Trains, and returns the optimiser's bytes and the seconds a step."""
    if run.method == "setfit":
        method = setfit.Contrast(run, adaptation)
        batches = setfit.Balanced(task.x, task.y, task.pad, run.contrastive_batch, run.seed)
    else:
        method, batches = tuning.Tuning(run, adaptation), task.batches(run.batch, run.seed)
        if run.probed and not folder.checkpoint.exists():
            probe(task, run.probed, run.seed)
    optimizers = tuning.make_optimizers(adaptation, run.lr, run)
    start = time.time()
    train(method, batches, optimizers, run.steps, folder, data=task.fingerprint)
    labels = {"loss": "training loss"} | ({} if run.method == "setfit" else {"accuracy": "accuracy of a batch"})
    plots.curves(folder.history(), folder.path / "curves.png", "step", labels)
    return {"bytes": tuning.memory(optimizers), "seconds": seconds_a_step(folder.history()) or time.time() - start}


def probe(task, most, seed):
    """Makes the head the logistic regression of the features of at most so many examples, and one of each class at least."""
    order = np.random.default_rng(seed).permutation(len(task.y))
    some = order[:most]
    absent = np.setdiff1d(np.arange(len(task.classes)), task.y[some])
    some = np.concatenate([some, *(order[task.y[order] == k][:1] for k in absent)])
    if most and len(np.unique(task.y[some])) == len(task.classes):
        x = task.x[some] if task.pad is None else [task.x[i] for i in some]
        setfit.read_head(task.net, task.features(x), task.y[some], len(task.classes))


def seconds_a_step(history):
    """From the last lines of a log that no resumption interrupts; 0 if there are none."""
    pairs = [(a, b) for a, b in zip(history, history[1:]) if b["seconds"] > a["seconds"]]
    return sum(b["seconds"] - a["seconds"] for a, b in pairs) / max(sum(b["step"] - a["step"] for a, b in pairs), 1)


def from_command_line(args=None):
    """The run that the arguments (by default the command line's) describe."""
    run = subcommands(METHODS, settings, __doc__, args)
    if run.method == "setfit":
        note_idle(run, "with setfit", "batch", "probed", "head_lr")
    elif run.method == "probe":
        note_idle(run, "with probe", "steps", tuning.Config)
    tasks.note_idle_inputs(run)
    return run


if __name__ == "__main__":
    report_errors(main, from_command_line())
