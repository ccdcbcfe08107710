"""MAML: parameters from which a gradient step or two learn a new task from a few examples.

    python -m examples.maml                                  # characters drawn from fonts, no download
    python -m examples.maml --data DIR                       # Omniglot: the folder with the publisher's zips
    python -m examples.maml --data DIR --steps 8000          # a quarter of an hour, 90.8 % (first order 89.0 %)
    python -m examples.maml --task sinusoid                  # regression: sine waves of random amplitude and phase
    python -m examples.maml --first-order                    # the inner gradient as a constant
    python -m examples.maml --learn-alpha parameter          # Meta-SGD
    python -m examples.maml --task sinusoid --inner-steps 0  # the baseline: one network trained on all tasks at once
"""
import dataclasses
import sys
from typing import Literal

import numpy as np
import tyro

import minigrad as mg
from methods.training.characters import load
from methods.training.run import RunFolder
from methods.few_shot import maml
from minigrad import data, optim


@dataclasses.dataclass
class Run(maml.Config):
    """Settings of the run."""

    task: Literal["characters", "sinusoid"] = "characters"
    data: str = "fonts"  # "fonts", "download" for Omniglot, or a folder with Omniglot's zips
    device: str = "cpu"  # "cpu" or "cuda"
    seed: int = 0
    steps: int = 400  # meta-steps
    out: str = "runs/maml"  # the run's folder
    resume: bool = False  # continue the run in `out`
    width: int = 64  # channels of the network
    within: float = 0.5  # share of the training tasks that are of one script, turned and mirrored alike: the harder ones
    pool: bool = False  # the linear layer sees the mean over the last map's 2 x 2 positions, as in the paper, not each
    augment: bool = True  # turn, scale, shear and shift the training images a little
    mirror: bool = True  # mirror images of the training characters as further classes
    schedule: Literal["constant", "cosine"] = "cosine"  # of the learning rate: a cosine to 0, or none
    episodes: int = 600  # test tasks


# For regression, where the settings differ: the paper's but for fewer steps.
SINUSOID = dict(task="sinusoid", shot=10, query=10, tasks=25, inner_steps=1, alpha=0.01, steps=5000)


class NearSampler(data.EpisodeSampler):
    """An EpisodeSampler that draws a share `within` of its episodes from one of the `groups` (lists of classes' images)."""

    within, groups = 0.0, ()

    def sample(self):
        everything = self.images
        if self.groups and self.rng.random() < self.within:
            self.images = self.groups[self.rng.integers(len(self.groups))]
        episode, self.images = super().sample(), everything
        return episode


def scripts(characters, least):
    """The images of each script with at least so many characters; turned or mirrored, it is another script."""
    groups = {}
    for images, name in zip(characters.images, characters.names):
        script, _, how = name.partition("/")
        groups.setdefault((script, how.partition("@")[2]), []).append(images[:, None])
    return [group for group in groups.values() if len(group) >= least]


class Characters:
    """Tasks of classifying characters."""

    net, loss = staticmethod(maml.conv_net), staticmethod(maml.cross_entropy)

    def __init__(self, run):
        train, test, what = load(run.data, run.mirror)
        print(what)
        self.run = run
        self.sampler = NearSampler([c[:, None] for c in train.images], run.way, run.shot, run.query, run.seed)
        self.sampler.within, self.sampler.groups = run.within, scripts(train, run.way)
        queries = max(min(15, min(map(len, test.images)) - run.shot), 1)
        self.test = data.EpisodeSampler([c[:, None] for c in test.images], run.way, run.shot, queries, run.seed + 2)
        scales = run.inner_steps + 1 if run.norm == "per-step" else 1
        self.rng = np.random.default_rng(run.seed + 1)
        positions = 1 if run.pool else 4
        self.params = maml.init_conv_net(np.random.default_rng(run.seed), run.way, run.width, scales, positions)

    def sample(self, tasks, test=False):
        """Support x, y and query x, y, each with a leading axis of tasks."""
        episodes = [(self.test if test else self.sampler).sample() for _ in range(tasks)]
        stacked = (np.stack([getattr(e, name) for e in episodes])
                   for name in ("support", "support_labels", "query", "query_labels"))
        a, b, c, d = stacked
        if self.run.augment and not test:
            a, c = data.random_affine(a, self.rng), data.random_affine(c, self.rng)
        a, b, c, d = (mg.Tensor(x).to(self.run.device) for x in (a, b, c, d))
        return (a, b), (c, d)

    @staticmethod
    def score(outputs, y):
        """Accuracy of each task."""
        return 100 * (outputs.numpy().argmax(2) == y.numpy()).mean(1)

    unit = "% correct"


class Sinusoids:
    """Tasks of regressing y = a sin(x - p), amplitude a in [0.1, 5], phase p in [0, pi], x in [-5, 5]."""

    net, loss = staticmethod(maml.mlp), staticmethod(maml.squared_error)

    def __init__(self, run):
        self.run, self.rng = run, np.random.default_rng(run.seed)
        self.test_rng = np.random.default_rng(run.seed + 2)
        self.params = maml.init_mlp(np.random.default_rng(run.seed))

    def sample(self, tasks, test=False):
        rng = self.test_rng if test else self.rng
        a, p = rng.uniform(0.1, 5, (tasks, 1, 1)), rng.uniform(0, np.pi, (tasks, 1, 1))
        x = rng.uniform(-5, 5, (tasks, self.run.shot + (100 if test else self.run.query), 1))
        x, y = (mg.Tensor(v.astype(np.float32)).to(self.run.device) for v in (x, a * np.sin(x - p)))
        k = self.run.shot
        return (x[:, :k], y[:, :k]), (x[:, k:], y[:, k:])

    @staticmethod
    def score(outputs, y):
        """Mean squared error of each task."""
        return ((outputs.numpy() - y.numpy()) ** 2).mean((1, 2))

    unit = "mean squared error"


def main(run):
    """Meta-trains, tests after 0, 1, ... inner steps, draws the curves. Returns the test score of each number of steps."""
    folder = RunFolder(run.out, run, run.resume)
    if run.task == "sinusoid":
        run = dataclasses.replace(run, norm="transductive")
    tasks = (Sinusoids if run.task == "sinusoid" else Characters)(run)
    params = {k: mg.Tensor(p.to(run.device), requires_grad=True) for k, p in tasks.params.items()}
    alpha = maml.init_alpha(params, run)
    learned = {id(a): a for a in alpha.values() if isinstance(a, mg.Tensor)}  # one for all, if it is a scalar
    learned = {f"alpha{i}": a for i, a in enumerate(learned.values())}
    optimizer = optim.Adam([*params.values(), *learned.values()], run.lr)
    schedule = optim.cosine_decay(run.lr, run.steps) if run.schedule == "cosine" else lambda i: run.lr

    def step(i):
        support, query = tasks.sample(run.tasks)
        optimizer.lr = schedule(i)
        loss, outputs = maml.meta_loss(tasks.net, tasks.loss, params, alpha, support, query, run)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return {"loss": loss.item(), "score": float(tasks.score(outputs, query[1]).mean())}

    parts = {"sampler": tasks.sampler, "rng": tasks.rng} if run.task == "characters" else {"rng": tasks.rng}
    folder.train(run.steps, step, resume=run.resume, net={**params, **learned}, opt=optimizer, **parts)
    counts = sorted({0, 1, run.inner_steps, run.test_steps})
    if run.task == "sinusoid":
        counts = list(range(run.test_steps + 1))  # cheap enough
    scores = {count: [] for count in counts}
    with mg.no_grad():
        for _ in range(0, run.episodes, 20):
            support, query = tasks.sample(20, test=True)
            for count in counts:
                outputs = maml.query_outputs(tasks.net, tasks.loss, params, alpha, support, query[0], run, count)
                scores[count].append(tasks.score(outputs, query[1]))
    print(f"\nnew tasks, {tasks.unit} after so many inner steps, with 95 % confidence interval")
    results = {}
    for count, values in scores.items():
        values = np.concatenate(values)
        results[count] = float(values.mean())
        print(f"{count:>3} {values.mean():8.2f} +- {1.96 * values.std() / np.sqrt(len(values)):.2f}")
    folder.draw("curves.png", ("loss", "score"), "meta-step", ("meta-loss", "training " + tasks.unit))
    if run.task == "sinusoid":
        draw_fits(tasks, params, alpha, (0, 1, run.test_steps), folder.path / "fits.png")
    print(f"\nmetrics, checkpoint and figures are in {run.out}")
    return results


def draw_fits(tasks, params, alpha, counts, path):
    """Three new sine waves, their few points, and what the network makes of them after each number of inner steps."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    (x, y), (all_x, all_y) = tasks.sample(3, test=True)
    order = np.argsort(all_x.numpy(), 1)
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.2))
    fits = {count: maml.query_outputs(tasks.net, tasks.loss, params, alpha, (x, y), all_x, tasks.run, count)
            for count in counts}
    for t, axis in enumerate(axes):
        at = order[t, :, 0]
        axis.plot(all_x.numpy()[t, at], all_y.numpy()[t, at], color="black", label="the wave")
        axis.plot(x.numpy()[t], y.numpy()[t], "^", color="black", label="its known points")
        for i, (count, fit) in enumerate(fits.items()):
            axis.plot(all_x.numpy()[t, at], fit.numpy()[t, at], color=f"C{i}", linestyle="--", label=f"{count} steps")
    axes[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    sinusoid = any(word.endswith("sinusoid") for word in sys.argv[1:])
    main(tyro.cli(Run, description=__doc__, default=Run(**SINUSOID) if sinusoid else Run()))
