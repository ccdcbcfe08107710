"""Prototypical networks learn to recognise characters of scripts they have never seen, from one example each.

    python -m examples.prototypical_networks                       # characters drawn from fonts, no download
    python -m examples.prototypical_networks --data DIR            # Omniglot: the folder with the publisher's zips
    python -m examples.prototypical_networks --data download       # Omniglot, fetched from its publisher
    python -m examples.prototypical_networks --data IMAGES         # your own: a folder (or zip) with one folder a class
"""
import dataclasses
import functools
from typing import Literal

import numpy as np
import tyro

import minigrad as mg
from methods.training import characters as few_shot
from methods.training.run import RunFolder
from methods.few_shot import prototypical
from methods.few_shot.evaluation import embed_all
from minigrad import data, nn, optim


@dataclasses.dataclass
class Run(prototypical.Config):
    """Settings of the run."""

    data: str = "fonts"  # "fonts", "download" for Omniglot, a folder with Omniglot's zips, or an image folder of your own
    device: str = "cpu"  # "cpu" or "cuda"
    seed: int = 0
    steps: int = 300  # training episodes
    out: str = "runs/prototypical_networks"  # the run's folder
    resume: bool = False  # continue the run in `out`
    width: int = 64  # channels of the network
    augment: bool = True  # turn, scale, shear and shift the training images a little
    mirror: bool = False  # mirror images of the training characters as further classes
    schedule: Literal["halve", "cosine"] = "halve"  # of the learning rate: every so often by half, or a cosine to 0
    episodes: int = 1000  # test episodes
    lake: str = ""  # a folder or zip of Lake et al.'s one-shot runs (all_runs.zip), to report the error rate on
    way: int = 30
    halve_every: int = 100


def main(run):
    """Trains, tests, and draws the figures. Returns the accuracies by (way, shot)."""
    folder = RunFolder(run.out, run, run.resume)
    train, test, what = few_shot.load(run.data, run.mirror)
    print(what)
    classes = [c[:, None] for c in train.images]
    mg.random.seed(run.seed)
    net = nn.Conv4(width=run.width).to(run.device)
    optimizer = optim.Adam(net.parameters(), run.lr)
    cosine = run.schedule == "cosine"
    schedule = optim.cosine_decay(run.lr, run.steps) if cosine else optim.step_decay(run.lr, run.halve_every)
    sampler = data.EpisodeSampler(classes, min(run.way, len(classes)), run.shot, run.query, run.seed)
    rng = np.random.default_rng(run.seed + 1)

    def embed(images):
        return net(mg.Tensor(images).to(run.device))

    def step(i):
        episode = sampler.sample()
        if run.augment:
            episode.support, episode.query = (data.random_affine(x, rng) for x in (episode.support, episode.query))
        optimizer.lr = schedule(i)
        loss, accuracy = prototypical.loss_and_accuracy(embed, episode, sampler.way, run.distance)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return {"loss": float(loss), "accuracy": accuracy, "lr": optimizer.lr}

    folder.train(run.steps, step, resume=run.resume, net=net, opt=optimizer, sampler=sampler, rng=rng)
    embeddings = embed_all(net, test.images)
    classify = functools.partial(prototypical.classify, distance=run.distance)
    columns = {"prototypical network": (classify, embeddings, run.episodes), **few_shot.pixel_baseline(test, run.episodes)}
    results = few_shot.table(columns, run)
    if run.lake:
        error = prototypical.lake_error_rate(net, data.load_lake_runs(run.lake), run.distance)
        print(f"error rate on the one-shot runs of Lake et al.: {100 * error:.1f} %")
    figures(folder, net, test, embeddings, run)
    print(f"\nmetrics, checkpoint and figures are in {run.out}")
    return results


def figures(folder, net, test, embeddings, run):
    """One test episode with its predictions, the training curves, and embeddings of some classes in two dimensions."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    rng = np.random.default_rng(run.seed)
    way, query = min(5, len(test.images)), min(6, min(map(len, test.images)) - 1)
    classes = rng.choice(len(test.images), way, replace=False)
    support = np.stack([embeddings[c][0] for c in classes])
    queries = np.concatenate([embeddings[c][1:1 + query] for c in classes])
    scores = prototypical.classify(mg.Tensor(support), mg.Tensor(queries), way, run.distance)
    predicted = scores.numpy().argmax(1).reshape(way, query)
    figure, axes = plt.subplots(way, 1 + query, figsize=(1 + query, 1.12 * way), squeeze=False)
    for row, c in enumerate(classes):
        for column, axis in enumerate(axes[row]):
            axis.imshow(1 - test.images[c][column], cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
            if column:
                said = predicted[row, column - 1]
                axis.set_xlabel(f"class {said + 1}", fontsize=8, color="green" if said == row else "red", labelpad=2)
        axes[row, 0].set_ylabel(f"class {row + 1}", fontsize=8)
    axes[0, 0].set_title("the one\nexample", fontsize=9)
    axes[0, (1 + query) // 2].set_title("queries, below each the predicted class", fontsize=9)
    figure.savefig(folder.path / "episode.png", dpi=150, bbox_inches="tight")

    folder.draw("curves.png", ("loss", "accuracy"), "training episode", ("training loss", "training accuracy"))

    chosen = rng.choice(len(test.images), min(10, len(test.images)), replace=False)
    points = np.concatenate([embeddings[c] for c in chosen])
    centred = points - points.mean(0)
    plane = np.linalg.svd(centred, full_matrices=False)[2][:2].T  # the two principal components
    flat = np.split(centred @ plane, np.cumsum([len(embeddings[c]) for c in chosen])[:-1])
    figure, axis = plt.subplots(figsize=(6, 5))
    for k, cloud in enumerate(flat):
        axis.scatter(*cloud.T, s=12, color=f"C{k}")
        axis.scatter(*cloud.mean(0), s=160, marker="*", color=f"C{k}", edgecolor="black", label=test.names[chosen[k]])
    axis.set(xlabel="first principal component", ylabel="second", title="embeddings of new classes, prototypes as stars")
    axis.legend(fontsize=6, bbox_to_anchor=(1.02, 1), loc="upper left")
    figure.savefig(folder.path / "embeddings.png", dpi=150, bbox_inches="tight")
    plt.close("all")


if __name__ == "__main__":
    main(tyro.cli(Run, description=__doc__))
