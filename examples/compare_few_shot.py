"""All few-shot methods on the same characters after as many training images, in one table and one chart.

    python -m examples.compare_few_shot                        # characters drawn from fonts, no download
    python -m examples.compare_few_shot --data DIR --seeds 3   # Omniglot's zips, or an image folder of your own
    python -m examples.compare_few_shot --task sinusoid        # MAML's and Meta-SGD's step sizes, well and badly chosen
"""
import dataclasses
import json
import pathlib
from typing import Literal

import numpy as np

from examples import maml, matching_networks, prototypical_networks, siamese_networks
from methods.few_shot import base
from methods.training import comparison, plots
from methods.training.characters import load
from methods.training.checkpoint import fingerprint
from methods.training.run import marked, write_whole
from methods.training.settings import check, command, note_idle, setting
from minigrad.data.folder import counted


@dataclasses.dataclass
class Run:
    """Settings of the comparison."""

    task: Literal["characters", "sinusoid"] = "characters"
    data: str = "fonts"  # "fonts", "download" for Omniglot, a folder with Omniglot's zips, or an image folder of your own
    device: str = "cpu"  # "cpu" or "cuda"
    seeds: int = setting(1, least=1)  # runs of each method; the spread over them is reported
    images: int = setting(36_000, least=1)  # training images that each method may look at
    steps: int = setting(5000, least=1)  # meta-steps of each run on sine waves
    episodes: int = setting(600, least=1)  # test episodes
    only: tuple[str, ...] = ()  # names of methods; all if left out
    out: str = "runs/compare_few_shot"  # a folder for the runs, the table and the chart
    resume: bool = False  # skip what is finished, continue what is not


def methods():
    """Name -> (example, settings, training images in a step). 5-way 1-shot is what they are tested on."""
    def episodes(way, query=5):
        return way * (1 + query)

    return {
        "siamese": (siamese_networks, {}, 128),
        "matching": (matching_networks, dict(way=20), episodes(20)),
        "matching, context": (matching_networks, dict(way=20, context=True), episodes(20)),
        "prototypical, cosine": (prototypical_networks, dict(way=20, distance="cosine"), episodes(20)),
        "prototypical": (prototypical_networks, dict(way=20), episodes(20)),
        "first-order MAML": (maml, dict(first_order=True), 8 * episodes(5)),
        "MAML": (maml, {}, 8 * episodes(5)),
        "Meta-SGD": (maml, dict(learn_alpha="parameter", test_steps=3), 8 * episodes(5))}  # as in training


def accuracy(example, run):
    """5-way 1-shot accuracy in per cent that an example reaches; of fewer classes if there are no more."""
    results = example.main(run)
    return results[run.test_steps] if example is maml else 100 * results[min(results)]


def characters(run):
    """All methods with all seeds, a line for each. Returns a dict from method to its accuracies in per cent."""
    out, table = pathlib.Path(run.out), methods()
    names = comparison.chosen(run.only, list(table))
    train_set, test_set, _ = load(run.data)
    lowered: dict[str, None] = {}
    for example, settings, _ in (table[name] for name in names):
        base.fitted(example.Run(data=run.data, **settings), train_set, test_set, lowered.setdefault)
    print(*lowered, sep="\n", end="\n" * bool(lowered))
    way = min(5, len(test_set.images))

    def jobs():
        for name in names:
            example, settings, images = table[name]
            for seed in range(run.seeds):
                folder = out / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"
                one = example.Run(data=run.data, device=run.device, seed=seed, steps=max(1, run.images // images),
                                  out=str(folder), resume=run.resume, episodes=run.episodes, **settings)
                yield name, one, lambda: accuracy(example, one)

    def report(name, results):
        if len(results) == run.seeds:
            percent, seconds = zip(*results)
            print(f"{name:>22} {comparison.spread(percent, 1):>12} %   {np.mean(seconds):5.0f} s", flush=True)

    seen = fingerprint(train_set.names, train_set.images, test_set.names, test_set.images)
    found = comparison.compare(jobs(), run.resume, report, seen)
    found = {name: [percent for percent, _ in results] for name, results in found.items()}
    write_whole(marked(out) / "table.json", json.dumps(found, indent=1))
    label = f"{way}-way 1-shot accuracy on new classes"
    plots.bars(found, out / "accuracies.png", label + " (%)", 100 / way)
    print(f"{label}, mean and spread of {counted(run.seeds, 'seed')}\nruns, table and chart are in {run.out}")
    return found


ALPHAS = (0.001, 0.01, 0.1)  # the first step size on sine waves: a tenth of the paper's, the paper's, ten times it


def step_sizes(run):
    """MAML and Meta-SGD on sine waves from each of ALPHAS, in a table and as curves over the inner steps.

    Returns:
        dict from (method, alpha) to an array (seeds, 1 + test steps) of mean squared errors after so many inner steps.
    """
    settings = {"one network for all tasks": dict(inner_steps=0), "MAML": {}, "first-order MAML": dict(first_order=True),
                "learned alpha": dict(learn_alpha="scalar"), "learned alpha a tensor": dict(learn_alpha="tensor"),
                "Meta-SGD": dict(learn_alpha="parameter")}

    def jobs():
        for name in comparison.chosen(run.only, list(settings)):
            for alpha in ALPHAS:
                for seed in range(run.seeds):
                    changed = {**maml.SINUSOID, **settings[name], "alpha": alpha, "steps": run.steps}
                    folder = pathlib.Path(run.out) / f"{name.replace(' ', '-')}-{alpha}-{seed}"
                    one = maml.Run(**changed, device=run.device, seed=seed, out=str(folder), resume=run.resume,
                                   episodes=run.episodes)
                    yield (name, alpha), one, lambda: list(maml.main(one).values())

    def report(row, results):
        name, alpha = row
        if len(results) == run.seeds:
            errors = np.mean([errors for errors, _ in results], 0)
            text = f"{errors[1]:.3f} ({f'{errors[-1]:.3f}' if errors[-1] < 1e3 else 'diverges'})"
            begin, end = f"{name:<28}" * (alpha == ALPHAS[0]), "\n" * (alpha == ALPHAS[-1])
            print(f"{begin}{text:>22}", end=end, flush=True)

    print("mean squared error on new sine waves after one inner step (after ten)\n" + " " * 28
          + "".join(f"{f'alpha {alpha}':>22}" for alpha in ALPHAS))
    found = comparison.compare(jobs(), run.resume, report)
    found = {row: np.array([errors for errors, _ in results]) for row, results in found.items()}
    draw_step_sizes(found, marked(run.out) / "step_sizes.png")
    return found


def draw_step_sizes(found, path):
    """A panel for each first alpha: error over inner steps, a line for each method."""
    with plots.figure(path, 1, len(ALPHAS), (4 * len(ALPHAS), 3.6), sharey=True) as axes:
        for axis, alpha in zip(axes[0], ALPHAS):
            for name in dict.fromkeys(name for name, _ in found):
                if (name, alpha) in found:
                    axis.plot(found[name, alpha].mean(0), marker=".", label=name)
            axis.set(title=f"alpha starts at {alpha}", xlabel="inner steps", yscale="log", ylim=(0.1, 30))  # some diverge
            axis.grid(alpha=0.3)
        axes[0, 0].set_ylabel("mean squared error on new tasks")
        axes[0, 0].legend(fontsize=7)


def main(run):
    """Trains and tests all methods with all seeds (see `characters` and `step_sizes`)."""
    check(run)
    note_idle(run, f"with --task {run.task}", *(("data", "images") if run.task == "sinusoid" else ("steps",)))
    return step_sizes(run) if run.task == "sinusoid" else characters(run)


if __name__ == "__main__":
    command(main, Run, __doc__)
