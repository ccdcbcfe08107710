"""The gallery: small figures from finished runs, and from brief ones where there is none."""
import numpy as np
import pytest

Image = pytest.importorskip("PIL.Image")
for library in ("tyro", "tqdm", "matplotlib", "safetensors"):
    pytest.importorskip(library)

from examples import gallery  # noqa: E402


def test_figures_are_small_and_keep_their_colours(tmp_path):
    drawn = np.full((900, 1800, 3), 255, np.uint8)
    drawn[:, :900] = np.random.default_rng(0).integers(0, 256, (900, 900, 3))  # noise, which is hard to pack
    drawn[400:440, 1400:1440] = 255, 0, 0
    for name, (example, settings, file) in gallery.BRIEF.items():
        default = example.Run(**{k: v for k, v in settings.items() if k == "task"})
        folder = tmp_path / "runs" / default.out.rpartition("/")[2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawn).save(folder / file)
    paths = gallery.main(gallery.Run(runs=str(tmp_path / "runs"), out=str(tmp_path / "out"), width=400, kilobytes=60))
    assert [path.stem for path in paths] == list(gallery.BRIEF)
    for path in paths:
        picture = Image.open(path)
        assert path.stat().st_size <= 60 * 1024 and picture.width == 400
        red = picture.convert("RGB").getpixel((315, 93))
        assert red[0] > 200 and max(red[1:]) < 60
    with pytest.raises(SystemExit, match="there is no figure x; there are: prototypical_episode"):
        gallery.main(gallery.Run(only=("x",)))


def test_an_example_without_a_finished_run_runs_briefly(tmp_path, monkeypatch):
    example, _, file = gallery.BRIEF["two_moons"]
    monkeypatch.setitem(gallery.BRIEF, "two_moons", (example, dict(steps=2, points=40), file))
    run = gallery.Run(only=("two_moons",), runs=str(tmp_path / "runs"), out=str(tmp_path / "out"))
    (path,) = gallery.main(run)
    assert path.exists() and (tmp_path / "runs" / "gallery" / "two_moons" / "boundaries.png").exists()
