"""Siamese networks: learn whether two images show the same character, then recognise new ones from one example each.

    python -m examples.siamese_networks                  # characters drawn from fonts, no download
    python -m examples.siamese_networks --data DIR       # Omniglot's zips, or an image folder of your own
"""
import dataclasses

import minigrad as mg
from methods.few_shot import base, siamese
from methods.few_shot.evaluation import embed_all, table, write_mistakes
from methods.training import characters, optimizers, plots
from methods.training.checkpoint import fingerprint
from methods.training.classifier import Architecture
from methods.training.loop import train
from methods.training.run import RunFolder
from methods.training.settings import check, command


@dataclasses.dataclass
class Run(base.CharacterRun, siamese.Config):
    """Settings of the run."""

    steps: int = 600  # batches
    out: str = "runs/siamese_networks"  # the run's folder


def main(run):
    """Trains, tests, and draws the curves. Returns the accuracies by (way, shot)."""
    check(run)
    folder = RunFolder(run.out, run, run.resume)
    train_set, test_set, description = characters.load(run.data)
    print(description)
    run = base.fitted(run, train_set, test_set)

    mg.random.seed(run.seed)
    encoder = Architecture("minigrad.nn.Conv4", width=run.width)
    network = Architecture("methods.few_shot.siamese.Siamese", net=encoder, size=run.width)
    net = network.build().to(run.device)
    alphabets = [name.split("/")[0] for name in train_set.names]
    sampler = siamese.ClassSampler(train_set.images, run.way, run.drawings, run.within, alphabets, run.seed)
    batches = base.Augmented(sampler, siamese.turned if run.augment else None, run.seed + 1)
    optimizer = optimizers.make(net.parameters(), "adam", run.lr, run.decay / run.lr)
    train(siamese.SiameseMethod(run, net), batches, optimizer, run.steps, folder,
          classifier=base.classifier(network, test_set),
          data=fingerprint(train_set.names, train_set.images, test_set.names))

    results = table("siamese network", net.classify, embed_all(net, test_set.images), test_set, run)
    print(write_mistakes(folder, test_set, run.device))
    plots.curves(folder.history(), folder.path / "curves.png", "step",
                 {"loss": "training loss", "accuracy": "pairs judged correctly"})
    print(f"\nmetrics, checkpoint, figure, mistakes and confusion table are in {run.out}")
    return results


if __name__ == "__main__":
    command(main, Run, __doc__)
