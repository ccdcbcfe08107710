"""Accuracy on episodes of new classes, the same for every few-shot method."""
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import minigrad as mg
from methods.training.classifier import load_classifier
from methods.training.evaluation import accuracy as share
from methods.training.evaluation import in_batches, mean_and_interval, right
from methods.training.prediction import write_test
from methods.training.run import RunFolder
from minigrad import Tensor, data
from minigrad.data import Characters
from minigrad.nn import Module

from .base import FewShotClassifier, NearSampler, by_script
from .prototypical import classify as nearest_prototype

Classify = Callable[[Tensor, Tensor, int], Tensor]  # support, queries, way to scores (queries, way)


def embed_all(net: Module, images: Any) -> Any:
    """The embeddings of every class's images, computed once, in evaluation mode.

    Args:
        images: (classes, drawings, H, W), or a list with (drawings, H, W) for each class.

    Returns:
        (classes, drawings, d), or a list with (drawings, d) for each class.
    """
    embeddings = in_batches(net, np.concatenate(list(images))[:, None])
    classes = np.split(embeddings, np.cumsum([len(c) for c in images])[:-1])
    return classes if isinstance(images, list) else np.stack(classes)


def within_alphabets(images: Any, names: Sequence[str], way: int, shot: int, query: int, seed: int = 0) -> NearSampler:
    """A sampler of episodes of one alphabet, the harder ones (Lake et al. 2015 test with 20 classes and one example each).

    Args:
        images: as of `data.EpisodeSampler`; names: "Alphabet/character" of each class.
        way, shot, query, seed: as of `data.EpisodeSampler`; alphabets with fewer classes than `way` are left out.

    Raises:
        ValueError: no alphabet has enough classes, or a class too few images.
    """
    sampler = NearSampler(images, way, shot, query, seed)
    sampler.within, sampler.groups = 1.0, by_script(images, names, way)
    if not sampler.groups:
        raise ValueError(f"episodes: {way}-way episodes of one alphabet need one of {way} classes")
    return sampler


def accuracy(classify: Classify, sampler: data.EpisodeSampler, episodes: int = 1000,
             device: str = "cpu") -> tuple[float, float]:
    """Mean accuracy over episodes, and the half-width of its 95 % confidence interval.

    Args:
        classify: from an Episode's support and query (Tensors) and the number of classes to scores (queries, classes).
        device: where the Tensors are to be.
    """
    scores = []
    with mg.no_grad():
        for _ in range(episodes):
            e = sampler.sample()
            s = classify(mg.Tensor(e.support).to(device), mg.Tensor(e.query).to(device), sampler.way).numpy()
            scores.append(share(s, e.query_labels))
    return mean_and_interval(scores)


def table(name: str, classify: Classify, embeddings: Any, test: Characters, run: Any) -> dict[tuple[int, int], float]:
    """Prints and returns accuracies in 5- and 20-way, 1- and 5-shot episodes, as far as the classes allow.

    Beside them stand those of the nearest prototype of pixels, and below those within an alphabet, 20-way and 1-shot.

    Args:
        embeddings: of the test classes (see `embed_all`).
        run: its `episodes`, `seed` and `device`.

    Returns:
        dict from (way, shot) to the accuracy.
    """
    pixels = [c.reshape(len(c), -1) for c in test.images]
    columns = {name: (classify, embeddings, run.episodes),
               "nearest prototype of pixels": (nearest_prototype, pixels, min(run.episodes, 200))}
    few = f" (pixels: {columns['nearest prototype of pixels'][2]})" if run.episodes > 200 else ""
    print(f"\naccuracy on new classes, mean of {run.episodes} episodes{few} with 95 % confidence interval")
    print(" " * 28 + "".join(f"{heading:>30}" for heading in columns))
    results, sizes = {}, [len(c) for c in test.images]

    def line(name, sampler, *settings):
        row = [accuracy(classify, sampler(x, *settings), n, run.device) for classify, x, n in columns.values()]
        print(f"{name:<28}" + "".join(f"{100 * m:>23.1f} +- {100 * c:.1f}" for m, c in row))
        return row[0][0]

    for way in sorted({min(way, len(sizes)) for way in (5, 20)}):
        for shot in (1, 5):
            query = min(15, min(sizes) - shot)
            if query < 1:
                continue
            results[way, shot] = line(f"{way:>3}-way {shot}-shot", data.EpisodeSampler, way, shot, query, run.seed + 2)
    if len(by_script(sizes, test.names, 1)) > 1 and by_script(sizes, test.names, 20) and min(sizes) > 1:
        line("20-way 1-shot, one alphabet", within_alphabets, test.names, 20, 1, min(15, min(sizes) - 1), run.seed + 2)
    return results


def write_mistakes(run: RunFolder, test: Characters, device: str = "cpu") -> str:
    """Writes which drawings of the test classes the run's classifier gets wrong (see `write_test`), and returns a summary.

    It knows five drawings of each class, or one less than the smallest class has, and classifies the others among all classes
    that it knows.
    """
    classifier = load_classifier(run.checkpoint, device)
    known = min(classifier.support.shape[1], min(map(len, test.images)) - 1)
    classifier = dataclasses.replace(classifier, support=classifier.support[:, :known])
    classes = range(len(classifier.classes))
    queries = np.concatenate([test.images[k][known:, None] for k in classes])
    labels = np.repeat(classes, [len(test.images[k]) - known for k in classes])
    files = [test.files[k][i] if test.files else f"{test.names[k]} #{i}" for k in classes
             for i in range(known, len(test.images[k]))]
    p = classifier.probabilities(queries)
    each = write_test(run.path, p, labels, classifier.classes, files)
    return f"{known}-shot among all {len(classes)} new classes: {100 * share(p, labels):.1f} %; {each}"


def lake_error_rate(net: FewShotClassifier, runs: list[data.LakeRun]) -> float:
    """The share of queries that miss their class in Lake et al.'s one-shot runs (`minigrad.data.load_lake_runs`)."""
    wrong = []
    for run in runs:
        support, queries = embed_all(net, [run.support, run.query])
        scores = net.classify(mg.Tensor(support), mg.Tensor(queries), len(support)).numpy()
        wrong.append(~right(scores, run.labels))
    return float(np.concatenate(wrong).mean())
