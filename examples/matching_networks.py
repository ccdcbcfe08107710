"""Matching networks: a query takes the labels of the examples that it attends to, trained on episodes.

    python -m examples.matching_networks                  # characters drawn from fonts, no download
    python -m examples.matching_networks --data DIR       # Omniglot's zips, or an image folder of your own
    python -m examples.matching_networks --context       # with full context embeddings
"""
import dataclasses

import minigrad as mg
from methods.few_shot import base, matching
from methods.few_shot.evaluation import embed_all, table, write_mistakes
from methods.training import characters, plots
from methods.training.checkpoint import fingerprint
from methods.training.classifier import Architecture
from methods.training.loop import train
from methods.training.run import RunFolder
from methods.training.settings import check, command, note_idle
from minigrad import optim


@dataclasses.dataclass
class Run(base.CharacterRun, matching.Config):
    """Settings of the run."""

    steps: int = 500  # training episodes
    out: str = "runs/matching_networks"  # the run's folder


def main(run):
    """Trains, tests, and draws the curves. Returns the accuracies by (way, shot)."""
    check(run)
    if not run.context:
        note_idle(run, "without --context", "reads")
    folder = RunFolder(run.out, run, run.resume)
    train_set, test_set, description = characters.load(run.data)
    print(description)
    run = base.fitted(run, train_set, test_set)

    mg.random.seed(run.seed)
    network = Architecture("methods.few_shot.matching.MatchingNetwork", net=Architecture("minigrad.nn.Conv4", width=run.width),
                           size=run.width, scale=run.scale, learn_scale=run.learn_scale, context=run.context, reads=run.reads)
    net = network.build().to(run.device)
    sampler = base.episodes(train_set, run.way, run.shot, run.query, run.seed)
    batches = base.Augmented(sampler, base.turned if run.augment else None, run.seed + 1)
    train(matching.Matching(run, net), batches, {"adam": optim.Adam(net.parameters(), run.lr)}, run.steps, folder,
          classifier=base.classifier(network, test_set),
          data=fingerprint(train_set.names, train_set.images, test_set.names))

    results = table("matching network", net.classify, embed_all(net, test_set.images), test_set, run)
    print(write_mistakes(folder, test_set, run.device))
    plots.curves(folder.history(), folder.path / "curves.png", "training episode",
                 {"loss": "training loss", "accuracy": "training accuracy"})
    print(f"\nmetrics, checkpoint, figure, mistakes and confusion table are in {run.out}")
    return results


if __name__ == "__main__":
    command(main, Run, __doc__)
