"""What the comparisons share: every method with every seed, each finished run kept in a file, and a chart."""
import json
import os
import pathlib
import time

import numpy as np

from methods.training import run as runs


def chosen(only, names):
    """The names to compare: `only` in the order of `names`, all if it is empty. SystemExit for one that there is not."""
    if unknown := set(only) - set(names):
        raise SystemExit(f"--only: no method is called {', '.join(sorted(unknown))}; there are: {', '.join(names)}")
    return [name for name in names if not only or name in only]


def result(folder, settings, resume, work):
    """(accuracy in per cent, seconds) of `work()`, kept in the folder's result.json; from there if it was finished before.

    Args:
        settings: the dataclass of the run.

    Raises:
        SystemExit: there is a result and `resume` is false, or it was found with other settings.
    """
    path = pathlib.Path(folder) / "result.json"
    wanted = runs.settings(settings, ("resume", "out", "data", "device"))
    if path.exists():
        found = json.loads(path.read_text())
        if not resume:
            raise SystemExit(f"{path.parent.parent} holds a comparison; continue it with --resume, or choose another --out")
        if changed := [k for k in wanted if found["settings"].get(k) != wanted[k]]:
            raise SystemExit(f"{path.parent} was made with other settings: {', '.join(changed)}; choose another --out")
        return found["accuracy"], found["seconds"]
    start = time.time()
    found = {"accuracy": work(), "seconds": round(time.time() - start, 1), "settings": wanted}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")  # a kill must not leave half a result
    part.write_text(json.dumps(found, indent=1))
    os.replace(part, path)
    return found["accuracy"], found["seconds"]


def spread(values, digits):
    """Mean and standard deviation over seeds, as text; of one seed there is no deviation."""
    deviation = f" +- {np.std(values):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{deviation}"


def chart(found, path, label, chance, baseline=None):
    """A bar for each method, as high as its mean accuracy, with the spread over seeds; lines at chance and at a baseline.

    Args:
        found: method -> accuracies in per cent.
        baseline: the method whose mean gets a line.
    """
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    figure, axis = plt.subplots(figsize=(7, 1.2 + 0.32 * len(found)))
    rows = list(found.items())[::-1]  # the first on top
    axis.barh([name for name, _ in rows], [np.mean(v) for _, v in rows], xerr=[np.std(v) for _, v in rows],
              color=["grey" if name == baseline else "C0" for name, _ in rows])
    axis.axvline(chance, color="grey", linestyle=":", label="chance")
    if baseline in found:
        axis.axvline(np.mean(found[baseline]), color="C3", linestyle="--", label=baseline)
    axis.set(xlabel=label, xlim=(0, 100))
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncol=2, fontsize=8, frameon=False)  # above, off the bars
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)
