"""All few-shot methods on the same characters with the same time to train, in one table and one chart.

    python -m examples.compare_few_shot                        # characters drawn from fonts, no download
    python -m examples.compare_few_shot --data DIR --seeds 3   # Omniglot's zips, or an image folder of your own
"""
import contextlib
import dataclasses
import io
import json
import pathlib
import time

import numpy as np
import tyro

from examples import maml, matching_networks, prototypical_networks, siamese_networks


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


def accuracy(example, results, run):
    """5-way 1-shot accuracy in per cent from what an example's main() returns."""
    return results[run.inner_steps] if example is maml else 100 * results[5, 1]


def main(run):
    """Trains and tests every method with every seed. Returns a dict from method to its accuracies."""
    out = pathlib.Path(run.out)
    out.mkdir(parents=True, exist_ok=True)
    found, seconds = {}, {}
    table = methods()
    if unknown := set(run.only) - set(table):
        raise SystemExit(f"--only: no method is called {', '.join(sorted(unknown))}; there are: {', '.join(table)}")
    for name, (example, settings, images) in table.items():
        if run.only and name not in run.only:
            continue
        for seed in range(run.seeds):
            folder = out / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"
            done = folder / "result.json"
            if run.resume and done.exists():
                result = json.loads(done.read_text())
            else:
                one = example.Run(data=run.data, device=run.device, seed=seed, steps=run.images // images,
                                  out=str(folder), resume=run.resume, episodes=run.episodes, **settings)
                start, quiet = time.time(), io.StringIO()
                with contextlib.redirect_stdout(quiet):
                    result = [accuracy(example, example.main(one), one), time.time() - start]
                done.write_text(json.dumps(result))
            found.setdefault(name, []).append(result[0])
            seconds.setdefault(name, []).append(result[1])
        values = found[name]
        print(f"{name:>22} {np.mean(values):6.1f} +- {np.std(values):.1f} %   {np.mean(seconds[name]):5.0f} s", flush=True)
    (out / "table.json").write_text(json.dumps(found, indent=1))
    chart(found, out / "accuracies.png")
    print(f"5-way 1-shot accuracy on new classes, mean and spread of {run.seeds} seeds\nruns, table and chart are in {run.out}")
    return found


def chart(found, path):
    """A bar for each method, as high as its mean accuracy, with the spread over seeds."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    figure, axis = plt.subplots(figsize=(7, 3.6))
    axis.barh(list(found), [np.mean(v) for v in found.values()], xerr=[np.std(v) for v in found.values()], color="C0")
    axis.axvline(20, color="grey", linestyle=":", label="chance")
    axis.set(xlabel="5-way 1-shot accuracy on new classes (%)", xlim=(0, 100))
    axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main(tyro.cli(Run, description=__doc__))
