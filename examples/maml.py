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

import minigrad as mg
from methods.few_shot import base, maml
from methods.few_shot.evaluation import write_mistakes
from methods.few_shot.maml_tasks import CharacterTasks, SinusoidLearner, SinusoidTasks
from methods.training import characters, forward, plots
from methods.training.checkpoint import fingerprint
from methods.training.classifier import Architecture
from methods.training.evaluation import mean_and_interval
from methods.training.loop import train
from methods.training.run import RunFolder
from methods.training.settings import check, command, note_idle, setting, subset
from minigrad import optim


@dataclasses.dataclass
class Run(base.CharacterRun, maml.Config):
    """Settings of the run."""

    task: Literal["characters", "sinusoid"] = "characters"
    steps: int = 400  # meta-steps
    out: str = "runs/maml"  # the run's folder
    within: float = setting(0.5, least=0, most=1)  # share of the training tasks that are of one script: the harder ones
    pool: bool = False  # the linear layer sees the mean over the last map's 2 x 2 positions, as in the paper, not each
    mirror: bool = True  # mirror images of the training characters as further classes
    episodes: int = 600  # test tasks


# For regression, where the settings differ: the paper's but for fewer steps, at a larger rate that falls to 0.
SINUSOID = dict(task="sinusoid", shot=10, query=10, tasks=25, inner_steps=1, alpha=0.01, steps=5000)
TEST_TASKS = 20  # in a batch


def main(run):
    """Meta-trains, tests after 0, 1, ... inner steps, draws the curves. Returns the test score of each number of steps."""
    check(run)
    if run.task == "sinusoid":
        note_idle(run, "with --task sinusoid", "data", "width", "augment", "within", "pool", "mirror", "way", "norm", "shift")
    mg.random.seed(run.seed)
    folder = RunFolder(run.out, run, run.resume)
    if run.task == "sinusoid":
        learner, classifier, described = SinusoidLearner(subset(run, maml.Config), run.seed), None, None
        tasks = SinusoidTasks(run.shot, run.query, run.tasks, run.seed)
        test = SinusoidTasks(run.shot, 100, TEST_TASKS, run.seed + 2)
        counts = list(range(run.test_steps + 1))  # cheap enough
    else:
        train_set, test_set, description = characters.load(run.data, run.mirror)
        print(description)
        run = base.fitted(run, train_set, test_set)
        config = subset(run, maml.Config)
        network = Architecture("methods.few_shot.maml_tasks.CharacterLearner", config=dataclasses.asdict(config),
                               width=run.width, positions=1 if run.pool else 4, seed=run.seed)
        learner, classifier = network.build(), base.classifier(network, test_set, run.way)
        queries = max(min(15, min(map(len, test_set.images)) - run.shot), 1)
        tasks = CharacterTasks(train_set, run.way, run.shot, run.query, run.tasks, run.seed, run.within, run.augment)
        test = CharacterTasks(test_set, run.way, run.shot, queries, TEST_TASKS, run.seed + 2)
        described = fingerprint(train_set.names, train_set.images, test_set.names)
        counts = sorted({0, 1, run.inner_steps, run.test_steps})
    learner.to(run.device)
    train(maml.MAML(learner.config, learner), tasks, {"adam": optim.Adam(learner.parameters(), run.lr)}, run.steps, folder,
          classifier=classifier, data=described)

    print(f"\nnew tasks, {learner.unit} after so many inner steps, with 95 % confidence interval")
    results = {}
    with np.errstate(over="ignore", invalid="ignore"):  # where more inner steps than in training diverge
        for count, scores in learner.scores(test, -(-run.episodes // TEST_TASKS), counts).items():
            results[count], interval = mean_and_interval(scores)
            print(f"{count:>3} " + (f"{results[count]:8.2f} +- {interval:.2f}" if results[count] < 1e3 else "diverges"))
    plots.curves(folder.history(), folder.path / "curves.png", "meta-step",
                 {"loss": "meta-loss", "score": "training " + learner.unit})
    if classifier:
        print(write_mistakes(folder, test_set, run.device))
    else:
        test.tasks = 3
        draw_fits(learner, test.sample(), (0, 1, run.test_steps), folder.path / "fits.png")
    print(f"\nwhat the run wrote is in {run.out}")
    return results


def draw_fits(learner, batch, counts, path):
    """Sine waves, their few points, and what the network makes of them after each number of inner steps."""
    x, y, query_x, query_y = batch
    *support, queries, _ = forward.placed(learner, *batch)
    with np.errstate(over="ignore", invalid="ignore"):  # as above
        fits = {count: learner.outputs(support, queries, count).numpy() for count in counts}
    with plots.figure(path, 1, len(x), (4 * len(x), 3.2)) as axes:
        for t, axis in enumerate(axes[0]):
            at = query_x[t, :, 0].argsort()
            axis.plot(query_x[t, at], query_y[t, at], color="black", label="the wave")
            axis.plot(x[t], y[t], "^", color="black", label="its known points")
            for i, (count, fit) in enumerate(fits.items()):
                axis.plot(query_x[t, at], fit[t, at], color=f"C{i}", linestyle="--", label=f"{count} steps")
            axis.set(ylim=(-6, 6))  # amplitudes are 5 at most; what diverges leaves the picture
        axes[0, 0].legend(fontsize=7)


if __name__ == "__main__":
    words = sys.argv[1:]
    sinusoid = "--task=sinusoid" in words or ("--task", "sinusoid") in zip(words, words[1:])
    command(main, Run(**SINUSOID) if sinusoid else Run, __doc__)
