"""Two moons, a few labels: how the decision boundary of each method follows the unlabelled points.

   python -m examples.two_moons
"""
import dataclasses
import pathlib

import numpy as np
import tyro

import minigrad as mg
from methods.semi_supervised import (
    fixmatch, label_propagation, mean_teacher, pi_model, pseudo_label, supervised, vat)
from methods.semi_supervised.base import Task
from methods.semi_supervised.networks import MLP
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
class Run:
    """Settings of the run."""

    labels: int = 6  # labelled points, of each moon as many
    points: int = 500  # unlabelled ones
    spread: float = 0.1  # standard deviation of the points around their moon
    steps: int = 600  # of each method
    weak: float = 0.05  # standard deviation of the noise that is the weak augmentation
    strong: float = 0.2  # and the strong one
    seed: int = 3  # where labels come to lie at the end of a moon only, as with seed 0, most methods are misled
    out: str = "runs/two_moons"  # folder of the figure


def moons(n, spread, rng):
    """Points (n, 2) float32 on two half circles that reach into each other, and which one (n,)."""
    which, angle = np.arange(n) % 2, rng.uniform(0, np.pi, n)
    sign = 1 - 2 * which[:, None]  # the second moon is the first one turned by half a circle
    x = sign * (np.stack([np.cos(angle), np.sin(angle)], 1) - (0.5, 0.25))
    return (x + spread * rng.standard_normal(x.shape)).astype(np.float32), which


def train(name, run, x, y, unlabelled):
    """The method trained on the points."""
    def noise(deviation):
        return lambda points, rng: points + deviation * rng.standard_normal(points.shape, dtype=np.float32)

    mg.random.seed(run.seed)
    prior = np.full(2, 0.5, np.float32)
    task = Task(2, len(x), len(unlabelled), run.steps, noise(run.weak), noise(run.strong), prior, run.seed)
    module = globals()[name]
    # No batch normalisation: the few labelled points' statistics, which VAT's labelled pass would use, are not all points'.
    method = module.Objective(METHODS[name], MLP((2, 64, 64, 2), norm=False), task)
    loader = data.SemiSupervisedLoader(x, y, unlabelled, len(x), 64 // len(x) or 1, run.seed)
    optimizer = optim.Adam(method.net.parameters(), 5e-3)
    for t in range(run.steps):
        loss, _ = method.loss(loader.sample(), t)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step(t)
    return method


def main(run):
    """Trains all methods, prints their accuracies and draws their boundaries; returns {method: accuracy}."""
    rng = np.random.default_rng(run.seed)
    unlabelled, hidden = moons(run.points, run.spread, rng)
    test, test_y = moons(2000, run.spread, rng)
    chosen = data.balanced_subset(hidden, run.labels, run.seed)
    x, y = unlabelled[chosen], hidden[chosen]
    side = np.linspace(-2.2, 2.2, 120, dtype=np.float32)
    grid = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    scores, results = {}, {}
    for name in METHODS:
        method = train(name, run, x, y, unlabelled)
        results[name] = float((method.scores(test).argmax(1) == test_y).mean())
        scores[name] = method.scores(grid)
    # A graph gives labels to its own points only; any other point has that of the nearest.
    spread = label_propagation.propagate(unlabelled, chosen, y, 2).argmax(1)
    nearest = {"test": test, "grid": grid}
    nearest = {k: ((v[:, None] - unlabelled[None]) ** 2).sum(2).argmin(1) for k, v in nearest.items()}
    results["label_propagation"] = float((spread[nearest["test"]] == test_y).mean())
    scores["label_propagation"] = np.eye(2)[spread[nearest["grid"]]]
    for name, accuracy in results.items():
        print(f"{name:18} {100 * accuracy:6.2f} %")
    print("figure:", draw(run, side, scores, results, unlabelled, x, y))
    return results


def draw(run, side, scores, results, unlabelled, x, y):
    """The boundaries side by side; returns the figure's path."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    figure, axes = plt.subplots(2, -(-len(scores) // 2), figsize=(3 * -(-len(scores) // 2), 6.4), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, (name, score) in zip(axes.flat, scores.items()):
        margin = (score[:, 1] - score[:, 0]).reshape(len(side), -1)
        axis.contourf(side, side, margin > 0, levels=[-0.5, 0.5, 1.5], colors=["#cfe0f3", "#f9dcc4"])
        axis.scatter(*unlabelled.T, s=4, c="grey")
        for label, colour in enumerate(("tab:blue", "tab:orange")):
            axis.scatter(*x[y == label].T, s=60, c=colour, edgecolors="black")
        axis.set_title(f"{name.replace('_', ' ')}: {100 * results[name]:.1f} %", fontsize=10)
    figure.tight_layout()
    path = pathlib.Path(run.out)
    path.mkdir(parents=True, exist_ok=True)
    figure.savefig(path / "boundaries.png", dpi=130)
    plt.close(figure)
    return path / "boundaries.png"


if __name__ == "__main__":
    main(tyro.cli(Run, description=__doc__))
