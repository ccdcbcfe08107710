"""Prototypical networks learn to recognise characters of scripts they have never seen, from one example each.

    python -m examples.prototypical_networks                       # characters drawn from fonts, no download
    python -m examples.prototypical_networks --data DIR            # Omniglot: the folder with the publisher's zips
    python -m examples.prototypical_networks --data download       # Omniglot, fetched from its publisher
    python -m examples.prototypical_networks --data IMAGES         # your own: a folder (or zip) with one folder a class

Then new pictures are classified by one example or more of each class, a folder for each:

    python -m examples.predict runs/prototypical_networks PICTURES --support EXAMPLES
"""
import dataclasses

import numpy as np

import minigrad as mg
from methods.few_shot import base, prototypical
from methods.few_shot.evaluation import embed_all, lake_error_rate, table, write_mistakes
from methods.training import characters, plots
from methods.training.checkpoint import fingerprint
from methods.training.classifier import Architecture
from methods.training.loop import train
from methods.training.run import RunFolder
from methods.training.settings import check, command, note_idle, setting
from minigrad import optim


@dataclasses.dataclass
class Run(base.CharacterRun, prototypical.Config):
    """Settings of the run."""

    steps: int = 300  # training episodes
    out: str = "runs/prototypical_networks"  # the run's folder
    mirror: bool = False  # mirror images of the training characters as further classes
    lake: str = setting("", free=True)  # a folder or zip of Lake et al.'s one-shot runs (all_runs.zip), to be tested on
    way: int = 30  # classes in a training episode: more than at test, which helps
    halve_every: int = 100  # episodes after which the learning rate is halved


def main(run):
    """Trains, tests, and draws the figures. Returns the accuracies by (way, shot)."""
    check(run)
    if run.schedule != "halve":
        note_idle(run, "without --schedule halve", "halve_every")
    folder = RunFolder(run.out, run, run.resume)
    train_set, test_set, description = characters.load(run.data, run.mirror)
    print(description)
    run = base.fitted(run, train_set, test_set)
    lake = characters.lake_runs(run.lake)

    mg.random.seed(run.seed)
    encoder = Architecture("minigrad.nn.Conv4", width=run.width)
    network = Architecture("methods.few_shot.prototypical.PrototypicalNetwork", net=encoder, distance=run.distance,
                           shift=run.shift)
    net = network.build().to(run.device)
    method = prototypical.Prototypical(run, net)
    sampler = base.episodes(train_set, run.way, run.shot, run.query, run.seed)
    batches = base.Augmented(sampler, base.turned if run.augment else None, run.seed + 1)
    train(method, batches, {"adam": optim.Adam(net.parameters(), run.lr)}, run.steps, folder,
          classifier=base.classifier(network, test_set),
          data=fingerprint(train_set.names, train_set.images, test_set.names))

    embeddings = embed_all(net, test_set.images)
    results = table("prototypical network", net.classify, embeddings, test_set, run)
    if lake:
        print(f"error rate on the one-shot runs of Lake et al.: {100 * lake_error_rate(net, lake):.1f} %")
    print(write_mistakes(folder, test_set, run.device))
    plots.curves(folder.history(), folder.path / "curves.png", "training episode",
                 {"loss": "training loss", "accuracy": "training accuracy"})
    rng = np.random.default_rng(run.seed)
    draw_episode(folder.path / "episode.png", net, test_set, embeddings, rng)
    draw_embeddings(folder.path / "embeddings.png", test_set, embeddings, rng)
    print(f"\nmetrics, checkpoint, figures, mistakes and confusion table are in {run.out}")
    return results


def draw_episode(path, net, test, embeddings, rng):
    """One test episode with its predictions."""
    way, query = min(5, len(test.images)), min(6, min(map(len, test.images)) - 1)
    classes = rng.choice(len(test.images), way, replace=False)
    support = np.stack([embeddings[c][0] for c in classes])
    queries = np.concatenate([embeddings[c][1:1 + query] for c in classes])
    names = [test.names[c].rpartition("/")[2][:14] for c in classes]
    predicted = net.classify(mg.Tensor(support), mg.Tensor(queries), way).numpy().argmax(1).reshape(way, query)
    with plots.figure(path, way, 1 + query, (1 + query, 1.12 * way)) as axes:
        for row, c in enumerate(classes):
            for column, axis in enumerate(axes[row]):
                axis.imshow(test.shown(c, column), cmap="gray", vmin=0, vmax=1)
                axis.set(xticks=[], yticks=[])
                if column:
                    k = predicted[row, column - 1]
                    axis.set_xlabel(names[k], fontsize=8, color="green" if k == row else "red", labelpad=2)
            axes[row, 0].set_ylabel(names[row], fontsize=8)
        axes[0, 0].set_title("the one\nexample", fontsize=9)
        axes[0, (1 + query) // 2].set_title("queries, below each the predicted class", fontsize=9)


def draw_embeddings(path, test, embeddings, rng):
    """Embeddings of some classes in two dimensions."""
    chosen = rng.choice(len(test.images), min(10, len(test.images)), replace=False)
    points = np.concatenate([embeddings[c] for c in chosen])
    centred = points - points.mean(0)
    plane = np.linalg.svd(centred, full_matrices=False)[2][:2].T  # the two principal components
    flat = centred @ plane
    flat = np.pad(flat, ((0, 0), (0, 2 - flat.shape[1])))  # an embedding of one number has only one
    flat = np.split(flat, np.cumsum([len(embeddings[c]) for c in chosen])[:-1])
    with plots.figure(path, size=(6, 5)) as axes:
        axis = axes[0, 0]
        for k, cloud in enumerate(flat):
            axis.scatter(*cloud.T, s=12, color=f"C{k}")
            axis.scatter(*cloud.mean(0), s=160, marker="*", color=f"C{k}", edgecolor="black", label=test.names[chosen[k]])
        axis.set(xlabel="first principal component", ylabel="second", title="embeddings of new classes, prototypes as stars")
        axis.legend(fontsize=6, bbox_to_anchor=(1.02, 1), loc="upper left")


if __name__ == "__main__":
    command(main, Run, __doc__)
