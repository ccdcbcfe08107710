"""The comparison of the semi-supervised methods: every row, and what --resume leaves as it was."""
import dataclasses

import pytest

pytest.importorskip("tyro")

from examples import compare_semi_supervised  # noqa: E402
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
    with pytest.raises(SystemExit, match="no method is called x; there are: supervised"):
        compare_semi_supervised.main(dataclasses.replace(run, only=("x",)))


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
