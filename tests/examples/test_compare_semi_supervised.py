"""The comparison of the semi-supervised methods: every row, and what --resume leaves as it was; all comparisons by their data."""
import dataclasses

import numpy as np
import pytest

for library in ("tyro", "tokenizers", "sklearn", "safetensors", "matplotlib", "PIL"):
    pytest.importorskip(library)

from PIL import Image  # noqa: E402

from examples import (  # noqa: E402
    compare_captions, compare_few_shot, compare_peft, compare_self_supervised, compare_semi_supervised, compare_transfer)
from methods.training import comparison  # noqa: E402
from minigrad import data  # noqa: E402


pytestmark = pytest.mark.usefixtures("shared_cache")


def test_all_methods_compare_and_resume(tmp_path, capsys):
    run = compare_semi_supervised.Run(seeds=1, steps=3, batch=10, width=4, labels=20, out=str(tmp_path / "all"))
    found = compare_semi_supervised.main(run)
    assert list(found) == list(compare_semi_supervised.MODULES) and len(found) == 14
    assert all(0 <= value <= 100 for values in found.values() for value in values)
    text = (tmp_path / "all" / "table.txt").read_text()
    assert all(" ".join(module.ROW[2:]) in text for module in compare_semi_supervised.MODULES.values())
    assert len(text.splitlines()) == 16 and (tmp_path / "all" / "accuracies.png").stat().st_size > 1000
    assert not data.find_pictures(tmp_path).files  # what runs have drawn is no data
    (tmp_path / "all" / "fixmatch-0" / "result.json").unlink()  # as if killed in between
    again = compare_semi_supervised.main(dataclasses.replace(run, resume=True))
    assert again == found and text.split("fixmatch")[0] in capsys.readouterr().out
    with pytest.raises(SystemExit, match="holds a comparison"):
        compare_semi_supervised.main(run)
    with pytest.raises(SystemExit, match="was made with other settings: steps"):
        compare_semi_supervised.main(dataclasses.replace(run, resume=True, steps=4))
    with pytest.raises(SystemExit, match="no method is called 'x'; there are: 'supervised"):
        compare_semi_supervised.main(dataclasses.replace(run, only=("x",)))


def drawn(folder, seed):
    """A folder of pictures of four classes, with captions; and a table of texts beside it."""
    rng, rows = np.random.default_rng(seed), ["image,caption"]
    for i in range(48):
        path = folder / f"{i % 4}" / f"{seed}-{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(path)
        rows.append(f"{i % 4}/{seed}-{i}.png,a picture of {i % 4} by {seed}")
    (folder / "captions.csv").write_text("\n".join(rows))
    texts = (f"text {i} by {seed}\t{i % 2}\n" for i in range(20))
    folder.with_suffix(".tsv").write_text("text\tlabel\n" + "".join(texts))
    return folder


@pytest.mark.parametrize("example, settings, ending", [
    (compare_few_shot, {}, ""), (compare_semi_supervised, dict(labels=4), ""), (compare_self_supervised, dict(labels=4), ""),
    (compare_transfer, dict(per_class=(1,)), ""), (compare_captions, dict(held_out=8), ""), (compare_peft, {}, ""),
    (compare_peft, {}, ".tsv")])
def test_results_of_other_data_are_told_by_their_fingerprint(tmp_path, monkeypatch, example, settings, ending):
    seen = []

    def compare(runs, resume, report, data=None):
        seen.append(data)
        raise SystemExit("seen")

    monkeypatch.setattr(comparison, "compare", compare)
    monkeypatch.setattr(compare_transfer.transfer, "load_encoder", lambda run: (None, None))
    monkeypatch.setattr(compare_transfer.features, "encoded", lambda encoder, preprocessing, images, which: (None, images))
    monkeypatch.setattr(compare_peft.text_encoders, "find", lambda encoder: tmp_path)
    for name, seed in (("a", 0), ("again", 0), ("b", 1)):
        data = drawn(tmp_path / name, seed)
        if example is not compare_captions:
            (data / "captions.csv").unlink()
        with pytest.raises(SystemExit, match="seen"):
            example.main(example.Run(data=str(data.with_suffix(ending)), out=str(tmp_path / "out"), **settings))
    assert all(seen) and seen[0] == seen[1] != seen[2]


def test_a_row_may_have_settings_of_its_own(tmp_path):
    rows = ("ladder", "ladder --variant none --lr 0.01", "fixmatch --no-strong")
    run = compare_semi_supervised.Run(seeds=1, steps=3, batch=10, width=4, labels=20, only=rows, out=str(tmp_path / "rows"))
    changed = [compare_semi_supervised.one(run, row, 0) for row in rows]
    assert [getattr(s, "variant", "-") for s in changed] == ["full", "none", "-"]
    assert changed[1].lr == 0.01 and changed[1].labels == 20 and not changed[2].strong
    assert list(compare_semi_supervised.main(run)) == list(rows)
    assert "ladder --variant none --lr 0.01" in (tmp_path / "rows" / "table.txt").read_text()
    with pytest.raises(SystemExit, match="--labels is the same for all rows"):
        compare_semi_supervised.one(run, "ladder --labels 10", 0)
