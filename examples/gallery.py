"""Small figures of the examples for the documentation, made by the examples themselves.

    python -m examples.gallery                        # all of them, about ten minutes on two cores
    python -m examples.gallery --only two_moons       # one of them

A finished run in `--runs` gives its figure; where there is none, the example runs briefly.
"""
import dataclasses
import io
import pathlib

from examples import compare_few_shot, compare_semi_supervised, maml, prototypical_networks, two_moons
from methods.training.run import write_whole
from methods.training.settings import check, command, setting

BRIEF = {  # name of the figure -> (example, settings of a brief run, file in its folder)
    "prototypical_episode": (prototypical_networks, dict(steps=200, episodes=50), "episode.png"),
    "prototypical_embeddings": (prototypical_networks, dict(steps=200, episodes=50), "embeddings.png"),
    "maml_sine_waves": (maml, dict(maml.SINUSOID, steps=3000, episodes=100), "fits.png"),
    "two_moons": (two_moons, {}, "boundaries.png"),
    "compare_few_shot": (compare_few_shot, dict(episodes=200), "accuracies.png"),
    "compare_semi_supervised": (compare_semi_supervised, dict(seeds=1), "accuracies.png")}


@dataclasses.dataclass
class Run:
    """Settings of the gallery."""

    only: tuple[str, ...] = ()  # names of figures; all if left out
    runs: str = "runs"  # where runs are, and brief ones are put, into gallery/
    out: str = "examples/gallery"  # a folder for the figures
    width: int = setting(640, least=100)  # of a figure, at most, in pixels
    kilobytes: int = setting(60, least=5)  # of a figure, at most
    device: str = "cpu"  # "cpu" or "cuda"


def main(run):
    """Writes the figures; returns their paths."""
    check(run)
    if unknown := set(run.only) - set(BRIEF):
        raise SystemExit(f"--only: there is no figure {', '.join(sorted(unknown))}; there are: {', '.join(BRIEF)}")
    paths = []
    for name in run.only or BRIEF:
        content = small(figure(run, name), run.width, 1024 * run.kilobytes)
        paths.append(pathlib.Path(run.out) / f"{name}.png")
        write_whole(paths[-1], content)
        print(f"{paths[-1]}: {len(content) / 1024:.0f} KB", flush=True)
    return paths


def figure(run, name):
    """The path of the figure in full size, after a brief run of its example if there is none."""
    example, settings, file = BRIEF[name]
    default = example.Run(**{k: v for k, v in settings.items() if k == "task"})
    brief = pathlib.Path(run.runs) / "gallery" / example.__name__.rpartition(".")[2]
    for path in (pathlib.Path(run.runs) / pathlib.Path(default.out).name / file, brief / file):
        if path.exists():
            return path
    example.main(example.Run(**settings, device=run.device, out=str(brief), resume=True))
    return brief / file


def small(path, width, size):
    """The bytes of a PNG at most so many pixels wide, with as many colours as `size` bytes allow."""
    from PIL import Image
    picture = Image.open(path).convert("RGB")
    picture.thumbnail((width, 2 * width), Image.Resampling.LANCZOS)
    for colours in (256, 128, 64, 32, 16):
        content = io.BytesIO()
        palette = picture.quantize(colours, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)  # it keeps rare colours
        palette.save(content, "PNG", optimize=True)
        if content.tell() <= size:
            break
    return content.getvalue()


if __name__ == "__main__":
    command(main, Run, __doc__)
