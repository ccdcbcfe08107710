"""Prototypical networks learn to recognise characters of scripts they have never seen, from one example each.

    python -m examples.prototypical_networks                       # characters drawn from fonts, no download
    python -m examples.prototypical_networks --data DIR            # Omniglot: the folder with the publisher's zips
    python -m examples.prototypical_networks --data download       # Omniglot, fetched from its publisher
"""
import dataclasses
import pathlib
from typing import Literal

import numpy as np
import tyro

import minigrad as mg
from examples.runs import RunFolder
from methods.few_shot import prototypical
from minigrad import data, nn, optim


@dataclasses.dataclass
class Run(prototypical.Config):
    """Settings of the run."""

    data: str = "fonts"  # "fonts", "download" for Omniglot, or a folder with Omniglot's zips
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


def load(source):
    """Training and test characters, no script in both; and what they are called."""
    if source == "fonts":
        return data.load_glyphs("train"), data.load_glyphs("test"), "characters drawn from fonts"
    folder = None if source == "download" else source
    if folder and not pathlib.Path(folder).is_dir():
        raise SystemExit(f"--data: there is no folder {folder}")
    if source != "download" and not any(pathlib.Path(folder).glob("**/images_background.zip")):
        small = data.load_omniglot("small2", folder).without(["Greek", "Latin"])  # "small1" has these two as well
        return data.load_omniglot("small1", folder), small, "Omniglot, small set 1 to the new alphabets of set 2"
    return data.load_omniglot("background", folder), data.load_omniglot("evaluation", folder), "Omniglot"


def main(run):
    """Trains, tests, and draws the figures. Returns the accuracies by (way, shot)."""
    folder = RunFolder(run.out, run, run.resume)
    train, test, name = load(run.data)
    classes = data.with_rotations(train, run.mirror).images[:, :, None]
    print(f"{name}: {len(classes)} classes to train on (with rotations), {len(test.images)} new ones to test on")
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
    embeddings = prototypical.embed_all(net, test.images)
    pixels = test.images.reshape(*test.images.shape[:2], -1)
    results = {}
    print(f"\naccuracy on new scripts, mean of {run.episodes} episodes with 95 % confidence interval")
    print(f"{'':>16}{'prototypical network':>24}{'nearest prototype of pixels':>30}")
    for way in (5, 20):
        for shot in (1, 5):
            both = [prototypical.evaluate(x, data.EpisodeSampler(x, way, shot, 15, run.seed + 2), n, run.distance)
                    for x, n in ((embeddings, run.episodes), (pixels, min(run.episodes, 200)))]
            results[way, shot] = both[0][0]
            print(f"{way:>3}-way {shot}-shot  " + "".join(f"{100 * m:>20.1f} +- {100 * c:.1f}" for m, c in both))
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
    classes = rng.choice(len(test.images), 5, replace=False)
    support, queries = embeddings[classes, 0], embeddings[classes, 1:7]
    predicted = prototypical.logits(mg.Tensor(queries.reshape(30, -1)), mg.Tensor(support), run.distance).numpy().argmax(1)
    figure, axes = plt.subplots(5, 7, figsize=(7, 5.6))
    for row in range(5):
        for column in range(7):
            axis = axes[row, column]
            axis.imshow(1 - test.images[classes[row], column], cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
            if column:
                said = predicted[row * 6 + column - 1]
                axis.set_xlabel(f"class {said + 1}", fontsize=8, color="green" if said == row else "red", labelpad=2)
        axes[row, 0].set_ylabel(f"class {row + 1}", fontsize=8)
    axes[0, 0].set_title("the one\nexample", fontsize=9)
    axes[0, 3].set_title("queries, below each the predicted class", fontsize=9)
    figure.savefig(folder.path / "episode.png", dpi=150, bbox_inches="tight")

    folder.draw("curves.png", ("loss", "accuracy"), "training episode", ("training loss", "training accuracy"))

    chosen = rng.choice(len(test.images), min(10, len(test.images)), replace=False)
    points = embeddings[chosen].reshape(-1, embeddings.shape[-1])
    centred = points - points.mean(0)
    plane = np.linalg.svd(centred, full_matrices=False)[2][:2].T  # the two principal components
    flat = (centred @ plane).reshape(len(chosen), -1, 2)
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
