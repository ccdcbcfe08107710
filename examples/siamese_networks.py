"""Siamese networks: learn whether two images show the same character, then recognise new ones from one example each.

    python -m examples.siamese_networks                  # characters drawn from fonts, no download
    python -m examples.siamese_networks --data DIR       # Omniglot's zips, or an image folder of your own
"""
import dataclasses

import numpy as np
import tyro

import minigrad as mg
from methods.training import characters as few_shot
from methods.training.run import RunFolder
from methods.few_shot import siamese
from methods.few_shot.evaluation import embed_all
from minigrad import data, nn, optim


@dataclasses.dataclass
class Run(siamese.Config):
    """Settings of the run."""

    data: str = "fonts"  # "fonts", "download" for Omniglot, a folder with Omniglot's zips, or an image folder of your own
    device: str = "cpu"  # "cpu" or "cuda"
    seed: int = 0
    steps: int = 600  # batches of pairs
    out: str = "runs/siamese_networks"  # the run's folder
    resume: bool = False  # continue the run in `out`
    width: int = 64  # channels of the network
    augment: bool = True  # turn, scale, shear and shift the training images a little
    episodes: int = 1000  # test episodes


def main(run):
    """Trains, tests, and draws the curves. Returns the accuracies by (way, shot)."""
    folder = RunFolder(run.out, run, run.resume)
    train, test, what = few_shot.load(run.data)
    print(what)
    mg.random.seed(run.seed)
    model = siamese.Siamese(nn.Conv4(width=run.width), run.width).to(run.device)
    optimizer = optim.AdamW(model.parameters(), run.lr, weight_decay=run.decay / run.lr)
    alphabets = [name.split("/")[0] for name in train.names]
    sampler = siamese.PairSampler(train.images, run.pairs, run.within, alphabets, run.seed)
    rng = np.random.default_rng(run.seed + 1)

    def step(i):
        first, second, same = sampler.sample()
        if run.augment:
            first, second = data.random_affine(first, rng), data.random_affine(second, rng)
        loss, accuracy = siamese.loss_and_accuracy(model, first, second, same)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return {"loss": loss.item(), "accuracy": accuracy}

    folder.train(run.steps, step, resume=run.resume, net=model, opt=optimizer, sampler=sampler.rng, rng=rng)
    columns = {"siamese network": (model.classify, embed_all(model, test.images), run.episodes),
               **few_shot.pixel_baseline(test, run.episodes)}
    results = few_shot.table(columns, run)
    folder.draw("curves.png", ("loss", "accuracy"), "step", ("training loss", "pairs judged correctly"))
    print(f"\nmetrics, checkpoint and figure are in {run.out}")
    return results


if __name__ == "__main__":
    main(tyro.cli(Run, description=__doc__))
