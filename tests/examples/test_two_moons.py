"""Two moons: the script runs, and the unlabelled points help."""
from examples import two_moons
from minigrad import data


def test_boundaries_follow_the_unlabelled_points(tmp_path, capsys):
    results = two_moons.main(two_moons.Run(steps=200, out=str(tmp_path / "moons")))
    assert set(results) == {*two_moons.METHODS, "label_propagation"}
    assert results["label_propagation"] > 0.98
    assert all(results[name] > results["supervised"] + 0.06 for name in ("pi_model", "mean_teacher", "vat", "fixmatch"))
    assert (tmp_path / "moons" / "boundaries.png").stat().st_size > 10_000 and not data.find_pictures(tmp_path).files
    assert "mean_teacher" in capsys.readouterr().out
