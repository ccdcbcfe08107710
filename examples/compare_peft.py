"""All ways of parameter-efficient fine-tuning on the same texts or pictures, beside full fine-tuning and a frozen probe.

    python -m examples.compare_peft                                       # made-up reviews of films
    python -m examples.compare_peft --data sst2 --per-class 500 --seeds 3 # sentences of films' reviews (MINIGRAD_DATA)
    python -m examples.compare_peft --data sst2 --only probe lora full
    python -m examples.compare_peft --data IMAGES --encoder VIT           # pictures, with a vision Transformer

Killed, it goes on with --resume. Each method has its own learning rate, the default of its file.
"""
import dataclasses
import pathlib

from examples import peft
from methods.peft import tasks
from methods.peft.prediction import FILE
from methods.training import comparison, plots, text_encoders, texts
from methods.training.checkpoint import fingerprint
from methods.training.run import marked
from methods.training.settings import check, command, setting
from methods.transfer import pictures

MEASURES = "accuracy", "share", "bytes", "seconds", "classes"


@dataclasses.dataclass
class Run(tasks.Config):
    """Settings of the comparison."""

    device: str = "cpu"  # "cpu" or "cuda"
    steps: int = setting(300, least=1)  # of each training
    setfit_steps: int = setting(60, least=1)  # of SetFit's
    batch: int = setting(32, least=1)  # examples in a step
    seeds: int = setting(1, least=1)  # how often each method is trained
    only: tuple[str, ...] = ()  # methods; all if left out
    out: str = "runs/compare_peft"  # a folder for the runs, the table and the chart
    resume: bool = False  # skip what is finished


@dataclasses.dataclass
class Fit(Run):
    """One method with one seed."""

    row: str = ""
    seed: int = 0


def main(run):
    """Trains and tests all methods. Returns a dict from each to its `MEASURES`, a list of them a seed."""
    check(run)
    tasks.note_idle_inputs(run)
    rows, out, encoder = comparison.chosen(run.only, list(peft.METHODS)), pathlib.Path(run.out), run.encoder
    if texts.is_text(run.data):
        read = texts.load(run.data, run.per_class, run.test)
        seen = fingerprint(read.classes, read.x, read.y, read.test, read.test_y)
        if not text_encoders.find(encoder):
            encoder = str(out / "encoder")  # of all methods
            tasks.small_bert(read.x, pathlib.Path(encoder), run.first_steps, run.tokens or tasks.TOKENS, 0)
    else:
        seen = pictures.load(run.data, run.test).fingerprint

    def jobs():
        for seed in range(run.seeds):
            for name in rows:
                folder = out / f"{name}-{seed}"
                fit = Fit(**{**vars(run), "seeds": 1, "only": (), "out": str(folder), "row": name, "seed": seed})
                yield name, fit, lambda: one(fit, folder / "training")

    def one(fit, folder):
        shared = {field.name: getattr(fit, field.name) for field in dataclasses.fields(tasks.Config)}
        settings = dataclasses.replace(
            peft.settings(fit.row), **{**shared, "encoder": encoder}, device=fit.device, batch=fit.batch, seed=fit.seed,
            steps=fit.setfit_steps if fit.row == "setfit" else fit.steps, out=str(folder), resume=folder.exists())
        found = peft.main(settings)
        return [float(found[name]) for name in MEASURES]

    def report(name, results):
        (right, share, *_), seconds = results[-1]
        print(f"{name}, {len(results)}: {100 * right:.1f} % right with {share:.2f} % trained, in {seconds:.0f} s", flush=True)

    found = comparison.compare(jobs(), run.resume, report, seen)
    values = {name: [measures for measures, _ in found[name]] for name in rows if name in found}
    comparison.show_table([("", "test accuracy", "trained", "optimiser", "ms a step"), *(
        (name, comparison.spread([100 * row[0] for row in seeds], 1), f"{seeds[0][1]:.2f} %", f"{seeds[0][2] / 1e6:.2f} MB",
         f"{1000 * sum(row[3] for row in seeds) / len(seeds):.0f}") for name, seeds in values.items())], marked(out))
    plots.bars({name: [100 * row[0] for row in seeds] for name, seeds in values.items()}, out / "accuracies.png",
               "test accuracy (%)", 100 / next(iter(values.values()))[0][-1], "probe")
    print(f"runs (each with {FILE} in its training folder), table and chart are in {run.out}")
    return values


if __name__ == "__main__":
    command(main, Run, __doc__)
