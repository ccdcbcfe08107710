"""The few-shot examples end to end, in a few steps."""
import pytest

pytest.importorskip("tyro")


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("MINIGRAD_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def test_compare_and_resume(tmp_path, capsys):
    from examples import compare_few_shot
    out = str(tmp_path / "compare")
    found = compare_few_shot.main(compare_few_shot.Run(images=500, episodes=10, only=("siamese", "MAML"), out=out))
    assert list(found) == ["siamese", "MAML"] and all(0 <= v[0] <= 100 for v in found.values())
    assert (tmp_path / "compare" / "accuracies.png").exists()
    again = compare_few_shot.main(compare_few_shot.Run(images=500, episodes=10, only=("siamese", "MAML"), out=out, resume=True))
    assert again == found and "5-way 1-shot" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="no method is called x; there are: siamese"):
        compare_few_shot.main(compare_few_shot.Run(only=("x",), out=out))


def test_maml_learns_sinusoids(tmp_path):
    """After meta-training one gradient step must help; before it barely does."""
    from examples import maml
    run = maml.Run(task="sinusoid", shot=10, query=10, alpha=0.01, tasks=10, steps=300, episodes=100, out=str(tmp_path / "sin"))
    results = maml.main(run)
    assert results[1] < 0.85 * results[0]


def test_maml_with_normalisation_by_the_support_set(tmp_path):
    from examples import maml
    for norm in ("support", "per-step"):
        run = maml.Run(norm=norm, steps=3, tasks=2, width=8, episodes=20, out=str(tmp_path / norm))
        assert 0 < maml.main(run)[1] < 100
