"""Matching networks: a query takes the labels of the examples that it attends to, trained on episodes.

    python -m examples.matching_networks                  # characters drawn from fonts, no download
    python -m examples.matching_networks --data DIR       # Omniglot's zips, or an image folder of your own
    python -m examples.matching_networks --context       # with full context embeddings
"""
import dataclasses

import numpy as np
import tyro

import minigrad as mg
from methods.training import characters as few_shot
from methods.training.run import RunFolder
from methods.few_shot import matching
from methods.few_shot.evaluation import embed_all
from minigrad import data, nn, optim


@dataclasses.dataclass
class Run(matching.Config):
    """Settings of the run."""

    data: str = "fonts"  # "fonts", "download" for Omniglot, a folder with Omniglot's zips, or an image folder of your own
    device: str = "cpu"  # "cpu" or "cuda"
    seed: int = 0
    steps: int = 500  # training episodes
    out: str = "runs/matching_networks"  # the run's folder
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
    model = matching.MatchingNetwork(nn.Conv4(width=run.width), run.width, run).to(run.device)
    optimizer = optim.Adam(model.parameters(), run.lr)
    way = min(run.way, len(train.names))
    sampler = data.EpisodeSampler([c[:, None] for c in train.images], way, run.shot, run.query, run.seed)
    rng = np.random.default_rng(run.seed + 1)

    def step(i):
        episode = sampler.sample()
        if run.augment:
            episode.support, episode.query = (data.random_affine(x, rng) for x in (episode.support, episode.query))
        loss, accuracy = matching.loss_and_accuracy(model, episode, sampler.way)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return {"loss": loss.item(), "accuracy": accuracy}

    folder.train(run.steps, step, resume=run.resume, net=model, opt=optimizer, sampler=sampler.rng, rng=rng)
    columns = {"matching network": (model.classify, embed_all(model, test.images), run.episodes),
               **few_shot.pixel_baseline(test, run.episodes)}
    results = few_shot.table(columns, run)
    folder.draw("curves.png", ("loss", "accuracy"), "training episode", ("training loss", "training accuracy"))
    print(f"\nmetrics, checkpoint and figure are in {run.out}")
    return results


if __name__ == "__main__":
    main(tyro.cli(Run, description=__doc__))
