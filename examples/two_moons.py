"""Two moons, a few labels: how the decision boundary of each method follows the unlabelled points.

   python -m examples.two_moons
"""
import dataclasses
import pathlib

import numpy as np

import minigrad as mg
from methods import semi_supervised
from methods.semi_supervised import (
    fixmatch, label_propagation, mean_teacher, pi_model, pseudo_label, supervised, vat)
from methods.semi_supervised.base import Task
from methods.training.networks import MLP
from methods.training import plots
from methods.training.evaluation import accuracy
from methods.training.loop import train
from methods.training.run import RunFolder, marked
from methods.training.settings import RunSettings, check, command, setting
from minigrad import data, optim

# Inputs are of unit scale: the settings that the papers give for images become those of the points. Consistency has its full
# weight from the start, for a network that is already sure of everything feels it no more.
METHODS = {
    "supervised": supervised.Config(ema=0.99),
    "pseudo_label": pseudo_label.Config(alpha=1.0, ema=0.99),
    "pi_model": pi_model.Config(w_max=20.0, ramp=0.0, noise=0.0, dropout=0.0, ema=0.99),  # the augmentation is noise already
    "mean_teacher": mean_teacher.Config(w_max=100.0, ramp=0.0, noise=0.1, dropout=0.0, ema=0.9),
    "vat": vat.Config(eps=0.2, alpha=3.0, entropy=0.0, ema=0.99),
    "fixmatch": fixmatch.Config(tau=0.8, ema=0.99),
}


@dataclasses.dataclass
class Run(RunSettings):
    """Settings of the run."""

    labels: int = setting(6, least=2)  # labelled points, of each moon as many
    points: int = setting(500, least=11)  # unlabelled ones
    spread: float = setting(0.1, least=0)  # standard deviation of the points around their moon
    steps: int = 600  # of each method
    weak: float = setting(0.05, least=0)  # standard deviation of the noise that is the weak augmentation
    strong: float = setting(0.2, least=0)  # and the strong one
    seed: int = 3  # where labels come to lie at the end of a moon only, as with seed 0, most methods are misled
    data: str = "moons"  # there are no other points
    out: str = "runs/two_moons"  # folder of the figure and of each method's run


def moons(n, spread, rng):
    """Points (n, 2) float32 on two half circles that reach into each other, and on which of them each is (n,)."""
    moon, angle = np.arange(n) % 2, rng.uniform(0, np.pi, n)
    sign = 1 - 2 * moon[:, None]  # the second moon is the first one turned by half a circle
    x = sign * (np.stack([np.cos(angle), np.sin(angle)], 1) - (0.5, 0.25))
    return (x + spread * rng.standard_normal(x.shape)).astype(np.float32), moon


def trained(name, run, x, y, unlabelled):
    """The method trained on the points."""
    def noise(deviation):
        return lambda points, rng: points + deviation * rng.standard_normal(points.shape, dtype=np.float32)

    mg.random.seed(run.seed)
    prior = np.full(2, 0.5, np.float32)
    task = Task(2, len(x), len(unlabelled), run.steps, noise(run.weak), noise(run.strong), prior, run.seed)
    # No batch normalisation: the few labelled points' statistics, which VAT's labelled pass would use, are not all points'.
    net = MLP((2, 64, 64), 2, norm=False).to(run.device)
    method = semi_supervised.METHODS[name].Objective(METHODS[name], net, task)
    batches = data.SemiSupervisedLoader(x, y, unlabelled, len(x), 64 // len(x) or 1, run.seed)
    train(method, batches, {"adam": optim.Adam(net.parameters(), 5e-3)}, run.steps,
          RunFolder(pathlib.Path(run.out) / name, run, run.resume), schedule=lambda step, steps: 1.0)
    return method


def main(run):
    """Trains all methods, prints their accuracies and draws their boundaries; returns {method: accuracy}."""
    check(run)
    rng = np.random.default_rng(run.seed)
    unlabelled, hidden = moons(run.points, run.spread, rng)
    test, test_y = moons(2000, run.spread, rng)
    try:
        chosen = data.balanced_subset(hidden, run.labels, run.seed)
    except ValueError as error:
        raise SystemExit(f"--labels {run.labels} --points {run.points}: {error}") from None
    x, y = unlabelled[chosen], hidden[chosen]
    side = np.linspace(-2.2, 2.2, 120, dtype=np.float32)
    grid = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    scores, results = {}, {}
    for name in METHODS:
        method = trained(name, run, x, y, unlabelled)
        results[name] = accuracy(method.scores(test), test_y)
        scores[name] = method.scores(grid)
    # A graph gives labels to its own points only; any other point has that of the nearest.
    labels = label_propagation.propagate(unlabelled, chosen, y, 2).argmax(1)
    nearest = {"test": test, "grid": grid}
    nearest = {k: ((v[:, None] - unlabelled[None]) ** 2).sum(2).argmin(1) for k, v in nearest.items()}
    results["label_propagation"] = float((labels[nearest["test"]] == test_y).mean())
    scores["label_propagation"] = np.eye(2)[labels[nearest["grid"]]]
    for name, share in results.items():
        print(f"{name:18} {100 * share:6.2f} %")
    path = marked(run.out) / "boundaries.png"
    draw(path, side, scores, results, unlabelled, x, y)
    print("figure:", path)
    return results


def draw(path, side, scores, results, unlabelled, x, y):
    """The boundaries side by side."""
    columns = -(-len(scores) // 2)
    with plots.figure(path, 2, columns, (3 * columns, 6.4), dpi=130) as axes:
        for axis in axes.flat:
            axis.axis("off")
        for axis, (name, score) in zip(axes.flat, scores.items()):
            margin = (score[:, 1] - score[:, 0]).reshape(len(side), -1)
            axis.contourf(side, side, margin > 0, levels=[-0.5, 0.5, 1.5], colors=["#cfe0f3", "#f9dcc4"])
            axis.scatter(*unlabelled.T, s=4, c="grey")
            for label, colour in enumerate(("tab:blue", "tab:orange")):
                axis.scatter(*x[y == label].T, s=60, c=colour, edgecolors="black")
            axis.set_title(f"{name.replace('_', ' ')}: {100 * results[name]:.1f} %", fontsize=10)


if __name__ == "__main__":
    command(main, Run, __doc__)
