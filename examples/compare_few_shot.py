"""All few-shot methods on the same characters with the same time to train, in one table and one chart.

    python -m examples.compare_few_shot                        # characters drawn from fonts, no download
    python -m examples.compare_few_shot --data DIR --seeds 3   # Omniglot's zips, or an image folder of your own
"""
import contextlib
import dataclasses
import io
import json
import pathlib

import numpy as np
import tyro

from examples import comparison, maml, matching_networks, prototypical_networks, siamese_networks


@dataclasses.dataclass
class Run:
    """Settings of the comparison."""

    data: str = "fonts"  # "fonts", "download" for Omniglot, a folder with Omniglot's zips, or an image folder of your own
    device: str = "cpu"  # "cpu" or "cuda"
    seeds: int = 1  # runs of each method; the spread over them is reported
    images: int = 36_000  # training images that each method may look at
    episodes: int = 600  # test episodes
    only: tuple[str, ...] = ()  # names of methods; all if left out
    out: str = "runs/compare_few_shot"  # a folder for the runs, the table and the chart
    resume: bool = False  # skip what is finished, continue what is not


def methods():
    """Name -> (example, settings, training images in a step). 5-way 1-shot is what they are tested on."""
    def episodes(way, query=5):
        return way * (1 + query)

    return {
        "siamese": (siamese_networks, {}, 256),
        "matching": (matching_networks, dict(way=20), episodes(20)),
        "matching, context": (matching_networks, dict(way=20, context=True), episodes(20)),
        "prototypical, cosine": (prototypical_networks, dict(way=20, distance="cosine"), episodes(20)),
        "prototypical": (prototypical_networks, dict(way=20), episodes(20)),
        "first-order MAML": (maml, dict(first_order=True), 16 * episodes(5)),
        "MAML": (maml, {}, 16 * episodes(5)),
        "Meta-SGD": (maml, dict(learn_alpha="parameter"), 16 * episodes(5))}


def accuracy(example, run):
    """5-way 1-shot accuracy in per cent that an example reaches."""
    with contextlib.redirect_stdout(io.StringIO()):
        results = example.main(run)
    return results[run.inner_steps] if example is maml else 100 * results[5, 1]


def main(run):
    """Trains and tests every method with every seed. Returns a dict from method to its accuracies in per cent."""
    out, table, found = pathlib.Path(run.out), methods(), {}
    for name in comparison.chosen(run.only, list(table)):
        example, settings, images = table[name]
        values = []
        for seed in range(run.seeds):
            folder = out / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"
            one = example.Run(data=run.data, device=run.device, seed=seed, steps=run.images // images,
                              out=str(folder), resume=run.resume, episodes=run.episodes, **settings)
            values.append(comparison.result(folder, one, run.resume, lambda: accuracy(example, one)))
        found[name] = [percent for percent, _ in values]
        seconds = np.mean([s for _, s in values])
        print(f"{name:>22} {np.mean(found[name]):6.1f} +- {np.std(found[name]):.1f} %   {seconds:5.0f} s", flush=True)
    (out / "table.json").write_text(json.dumps(found, indent=1))
    label = "5-way 1-shot accuracy on new classes"
    comparison.chart(found, out / "accuracies.png", label + " (%)", 20)
    print(f"{label}, mean and spread of {run.seeds} seeds\nruns, table and chart are in {run.out}")
    return found


if __name__ == "__main__":
    main(tyro.cli(Run, description=__doc__))
