"""Two moons: the script runs, and the unlabelled points help."""
from examples import two_moons


def test_a_graph_of_the_points_beats_the_labels_alone(tmp_path, capsys):
    results = two_moons.main(two_moons.Run(steps=100, out=str(tmp_path)))
    assert set(results) == {*two_moons.METHODS, "label_propagation"}
    assert results["label_propagation"] > max(0.95, results["supervised"] + 0.1)
    assert (tmp_path / "boundaries.png").stat().st_size > 10_000
    assert "mean_teacher" in capsys.readouterr().out
