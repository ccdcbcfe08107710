"""New pictures are classified from the run folder of each example that trains a classifier."""
import csv
import dataclasses
import importlib
import zipfile

import numpy as np
import pytest

Image = pytest.importorskip("PIL.Image")
for library in ("tyro", "tqdm", "matplotlib", "safetensors"):
    pytest.importorskip(library)

from examples import predict, semi_supervised  # noqa: E402


pytestmark = pytest.mark.usefixtures("shared_cache")


def draw(folder, kind, seed):
    """A picture whose dark stroke stands ("0") or lies ("1"), on light paper."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    array = 255 - rng.integers(0, 40, (32, 32))
    at = rng.integers(8, 22)
    array[(slice(None), slice(at, at + 5))[::1 if kind == "0" else -1]] = 20
    Image.fromarray(array.astype(np.uint8)).save(folder / f"{seed}.png")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Two classes of ten labelled pictures and six without a label; `new/` has four and a broken one."""
    folder = tmp_path_factory.mktemp("pictures")
    for kind in "01":
        for seed in range(10):
            draw(folder / "own" / f"stroke {kind}", kind, seed)
        for seed in range(10, 13):
            draw(folder / "own" / "unlabelled", kind, seed + 10 * int(kind))
        for seed in (50, 51):
            draw(folder / "new", kind, seed + 10 * int(kind))
    (folder / "new" / "broken.png").write_bytes(b"\x89PNG")
    with zipfile.ZipFile(folder / "own.zip", "w") as archive:
        for path in (folder / "own").rglob("*.png"):
            archive.write(path, path.relative_to(folder / "own"))
    return folder


@pytest.mark.parametrize("data", ["own", "own.zip"])
def test_a_semi_supervised_run_predicts_unlabelled_and_new_pictures(pictures, data, tmp_path, capsys):
    run = dataclasses.replace(semi_supervised.settings("supervised"), data=str(pictures / data), labels=0, steps=60, batch=8,
                              ratio=1, width=4, lr=1e-2, ema=0.8, out=str(tmp_path / "run"), evaluate_every=30)
    semi_supervised.main(run)
    with open(tmp_path / "run" / "predictions.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 and all(f"/{data}/unlabelled/" in row["file"] for row in rows)
    right = [row["class"] == f"stroke {int(row['file'].rpartition('/')[2][:2]) // 20}" for row in rows]
    assert np.mean(right) > 0.7 and all(0.5 <= float(row["probability"]) <= 1 for row in rows)
    said = capsys.readouterr().out
    assert "2 classes: stroke 0 10, stroke 1 10" in said and "accuracy of each class: stroke 0 " in said
    accuracy = float(said.partition("supervised ")[2].split()[0]) / 100
    with open(tmp_path / "run" / "mistakes.csv") as file:
        wrong = list(csv.DictReader(file))
    assert len(wrong) == round(4 * (1 - accuracy)) and all(f"/{data}/{row['class']}/" in row["file"] for row in wrong)
    with open(tmp_path / "run" / "confusion.csv") as file:
        confusion = [list(map(int, row[1:])) for row in list(csv.reader(file))[1:]]
    assert np.sum(confusion) == 4 and np.trace(confusion) == 4 - len(wrong)
    out = tmp_path / "found" / "new.csv"
    new = str(pictures / "new"), str(pictures / "new" / "50.png")
    found = predict.main(predict.Run(str(tmp_path / "run"), new, csv=str(out)))
    said = capsys.readouterr()
    assert len(found) == 4 and {kind for _, kind, _ in found} <= {"stroke 0", "stroke 1"}  # a picture named twice counts once
    assert "2 classes as trained: stroke 0, stroke 1" in said.out and "broken.png" in said.err
    assert len(out.read_text().splitlines()) == 5
    with pytest.raises(SystemExit, match="knows its classes from training"):
        predict.main(predict.Run(str(tmp_path / "run"), (str(pictures / "new"),), support=str(pictures / "own")))


FEW = {"prototypical_networks": dict(way=3, query=2), "matching_networks": dict(way=3, query=2),
       "siamese_networks": dict(way=2, drawings=2), "maml": dict(way=2, query=2, tasks=1, inner_steps=1, test_steps=1)}


@pytest.mark.parametrize("name", FEW)
def test_a_few_shot_run_predicts_the_classes_of_its_test_and_of_a_folder(pictures, name, tmp_path, capsys):
    new = (str(pictures / "new"),)
    for c in range(9):
        for seed in range(6):
            draw(tmp_path / "characters" / f"class {c}", "01"[c % 2], 10 * c + seed)
    for kind in "01":
        for seed in range(3 + int(kind)):
            draw(tmp_path / "support" / f"stroke {kind}", kind, seed)
    draw(tmp_path / "one" / "alone", "0", 1)
    module = importlib.import_module(f"examples.{name}")
    module.main(module.Run(**FEW[name], data=str(tmp_path / "characters"), steps=2, width=4, episodes=2,
                           out=str(tmp_path / "run")))
    capsys.readouterr()
    for support, words in (("", "classes that the run was tested on, 5 examples of each: class "),
                           ("support", f"2 classes from {tmp_path}/support, 3 examples of each: stroke 0, stroke 1")):
        found = predict.main(predict.Run(str(tmp_path / "run"), new, support=support and str(tmp_path / support)))
        assert len(found) == 4 and all(0 < p <= 1 for _, _, p in found) and words in capsys.readouterr().out
    with pytest.raises(SystemExit, match="1 class; at least two"):
        predict.main(predict.Run(str(tmp_path / "run"), new, support=str(tmp_path / "one")))
    for kind in "01":  # an outer folder, loose and unlabelled pictures and a broken one change nothing
        for i in range(3):
            draw(tmp_path / "outer" / "support" / f"stroke {kind}", kind, i)
    draw(tmp_path / "outer" / "support" / "Unlabeled", "0", 1)
    draw(tmp_path / "outer", "0", 1)
    (tmp_path / "outer" / "support" / "stroke 1" / "broken.png").write_bytes(b"x")
    again = predict.main(predict.Run(str(tmp_path / "run"), new, support=str(tmp_path / "outer")))
    said = capsys.readouterr()
    assert [row[:2] for row in again] == [row[:2] for row in found] and "3 examples of each: stroke 0, stroke 1" in said.out
    assert "broken.png: it is no picture" in said.err and "beside the class folders (1.png)" in said.err
    if name == "maml":
        draw(tmp_path / "support" / "third", "0", 1)
        with pytest.raises(SystemExit, match="tells 2 classes from each other"):
            predict.main(predict.Run(str(tmp_path / "run"), new, support=str(tmp_path / "support")))


def test_what_cannot_be_used_is_said(pictures, tmp_path):
    with pytest.raises(SystemExit, match="no checkpoint at"):
        predict.main(predict.Run(str(tmp_path), (str(pictures / "new"),)))
    maml = importlib.import_module("examples.maml")
    maml.main(maml.Run(task="sinusoid", steps=1, episodes=1, out=str(tmp_path / "run")))
    with pytest.raises(SystemExit, match="holds no classifier"):
        predict.main(predict.Run(str(tmp_path / "run"), (str(pictures / "new"),)))


def test_texts_are_printed_in_one_short_line_and_written_whole(tmp_path, capsys):
    found = [("good " * 10_000, "1", 0.9), ("bad\x1b[2J\x07", "0", 0.8)]
    run = predict.Run(run="", images=(), csv=str(tmp_path / "found.csv"))
    assert predict.report(run, found, "text") == found
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and max(map(len, lines)) < 300 and "..." in lines[0] and all(line.isprintable() for line in lines)
    with open(tmp_path / "found.csv", newline="", encoding="utf-8") as file:
        assert [row[0] for row in csv.reader(file)][1:] == [name for name, _, _ in found]
