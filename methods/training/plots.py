"""Figures, written as PNG."""
import contextlib
import os
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .evaluation import deviation

# Fonts with Chinese, Japanese and Korean characters, for what the usual font lacks.
_EAST_ASIAN = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans", "Source Han Sans SC", "PingFang SC", "Hiragino Sans",
               "Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "SimHei", "MS Gothic", "WenQuanYi Zen Hei",
               "WenQuanYi Micro Hei", "IPAGothic", "Droid Sans Fallback", "Arial Unicode MS")


@contextlib.contextmanager
def figure(path: str | os.PathLike, rows: int = 1, columns: int = 1, size: tuple[float, float] = (6, 4), dpi: int = 150,
           tight: bool = True, **settings: Any) -> Iterator[np.ndarray]:
    """Axes (rows, columns) to draw on; the figure of `size` inches is written at the end.

    Args:
        tight: the axes fill the figure.
        settings: of `matplotlib.pyplot.subplots`.
    """
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib import font_manager
    installed = {font.name for font in font_manager.fontManager.ttflist}
    families = [*plt.rcParams["font.family"], *(name for name in _EAST_ASIAN if name in installed)]
    with plt.rc_context({"font.family": families}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # where no font is installed for a name, the figure shows boxes
        picture, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, **settings)
        try:
            yield axes
            if tight:
                picture.tight_layout()
            os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
            picture.savefig(path, dpi=dpi, bbox_inches="tight")
        finally:
            plt.close(picture)


def curves(history: list[dict[str, float]], path: str | os.PathLike, x: str, labels: dict[str, str]) -> None:
    """Logged metrics over the steps, side by side.

    Args:
        history: see `RunFolder.history`.
        x: what a step is called.
        labels: from a metric to the label of its axis.
    """
    with figure(path, 1, len(labels), (4.5 * len(labels), 3.4)) as axes:
        for axis, (key, label) in zip(axes[0], labels.items()):
            logged = [m for m in history if key in m]
            axis.plot([m["step"] for m in logged], [m[key] for m in logged], marker="o" if len(logged) == 1 else None)
            axis.set(xlabel=x, ylabel=label)
            axis.grid(alpha=0.3)


def bars(values: dict[str, list[float]], path: str | os.PathLike, label: str, chance: float,
         baseline: str | None = None) -> None:
    """A bar for each method, as long as its mean, which is written beside it, with the spread over seeds; lines at chance and at
    a baseline.

    Args:
        values: from a method to its accuracies in per cent.
        baseline: the method whose mean gets a line.
    """
    with figure(path, size=(7, 1.2 + 0.32 * len(values))) as axes:
        axis, rows = axes[0, 0], list(values.items())[::-1]  # the first on top
        drawn = axis.barh([name for name, _ in rows], [np.mean(v) for _, v in rows], xerr=[deviation(v) for _, v in rows],
                          color=["grey" if name == baseline else "C0" for name, _ in rows])
        axis.bar_label(drawn, fmt="%.1f", padding=3, fontsize=8, bbox=dict(facecolor="white", edgecolor="none", pad=0.5))
        axis.axvline(chance, color="grey", linestyle=":", label="chance")
        if baseline in values:
            axis.axvline(np.mean(values[baseline]), color="C3", linestyle="--", label=baseline)
        axis.set(xlabel=label, xlim=(0, 110), xticks=range(0, 101, 20))  # with room for the numbers
        axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncol=2, fontsize=8, frameon=False)  # above, off the bars


def logarithmic(axis: Any, at: Sequence[float] | None = None) -> None:
    """The axes' x is logarithmic, and has plain numbers: those in `at`, or 1, 2, 5 and their tenfolds and tenths."""
    from matplotlib import ticker
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)) if at is None else ticker.FixedLocator(at))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_locator(ticker.NullLocator())


def plane(x: np.ndarray) -> np.ndarray:
    """Places (N, 2) of the rows of x (N, width), such that near ones stay near: t-SNE (van der Maaten and Hinton 2008).

    It is scikit-learn's; ImportError where that is missing.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits
    with threadpool_limits(1, "openmp"):  # threads wait for each other in all of many short steps, long on a busy machine
        return TSNE(init="pca", perplexity=min(30, (len(x) - 1) / 3), random_state=0).fit_transform(x)


def pictures(rows: list[np.ndarray], path: str | os.PathLike, names: list[str] | None = None) -> None:
    """Images in rows, each row (N, C, H, W) from 0 to 1, with the row's name at its left."""
    columns = max(map(len, rows))
    size, gaps = (1.1 * columns + 0.6, 1.1 * len(rows)), {"wspace": 0.04, "hspace": 0.04}
    with figure(path, len(rows), columns, size, tight=False, gridspec_kw=gaps) as axes:
        for r, images in enumerate(rows):
            for i, axis in enumerate(axes[r]):
                axis.set(xticks=[], yticks=[], frame_on=False)
                if i < len(images):
                    image = np.clip(images[i], 0, 1).transpose(1, 2, 0)
                    axis.imshow(image[..., 0] if image.shape[2] == 1 else image, cmap="gray", vmin=0, vmax=1)
            if names:
                axes[r, 0].set_ylabel(names[r])
