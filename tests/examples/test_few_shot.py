"""The few-shot examples end to end, in a few steps."""
import csv
import dataclasses
import importlib
import pathlib

import numpy as np
import pytest

pytest.importorskip("tyro")

from minigrad import data  # noqa: E402


pytestmark = pytest.mark.usefixtures("shared_cache")


def test_compare_and_resume(tmp_path, capsys):
    from examples import compare_few_shot
    out = str(tmp_path / "compare")
    run = compare_few_shot.Run(data=own(tmp_path / "data", {"train": [4] * 6, "test": [3] * 5}), images=300, episodes=10,
                               only=("siamese", "MAML"), out=out)
    found = compare_few_shot.main(run)
    assert list(found) == ["siamese", "MAML"] and all(0 <= v[0] <= 100 for v in found.values())
    assert (tmp_path / "compare" / "accuracies.png").exists()
    assert {name.split("/")[0] for name in data.find_pictures(tmp_path).files} == {"data"}
    again = compare_few_shot.main(dataclasses.replace(run, resume=True))
    assert again == found and "5-way 1-shot" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="no method is called 'x'; there are: 'siamese"):
        compare_few_shot.main(compare_few_shot.Run(only=("x",), out=out))


def test_maml_learns_sinusoids(tmp_path):
    """After meta-training one gradient step must help; before it barely does."""
    from examples import maml
    run = maml.Run(task="sinusoid", shot=10, query=10, alpha=0.01, tasks=10, steps=300, episodes=100, out=str(tmp_path / "sin"))
    results = maml.main(run)
    assert results[1] < 0.85 * results[0]


def test_inner_steps_that_diverge_are_called_so(tmp_path, capsys):
    from examples import maml
    changes = dict(steps=1, inner_steps=0, alpha=10.0, test_steps=8, episodes=20)
    run = maml.Run(**maml.SINUSOID | changes, out=str(tmp_path / "sin"))
    results = maml.main(run)
    said = capsys.readouterr().out
    assert not results[8] < 1e3 and "\n  8 diverges\n" in said and f"\n  0 {results[0]:8.2f} +- " in said


def test_maml_with_normalisation_by_the_support_set(tmp_path):
    from examples import maml
    for norm in ("support", "per-step"):
        run = maml.Run(norm=norm, steps=3, tasks=2, width=8, episodes=20, out=str(tmp_path / norm))
        assert 0 < maml.main(run)[1] < 100


def test_two_equal_runs_of_maml_give_equal_bytes(tmp_path):
    from examples import maml
    import minigrad as mg
    files = []
    for name in ("a", "b"):
        mg.randn(3)  # the state of the generator before a run has no part in it
        maml.main(maml.Run(steps=2, tasks=2, width=4, episodes=20, out=str(tmp_path / name)))
        files.append((tmp_path / name / "checkpoint.safetensors").read_bytes())
    assert files[0] == files[1]


def own(folder, counts):
    Image = pytest.importorskip("PIL.Image")
    for part, numbers in counts.items():
        for c, number in enumerate(numbers):
            (folder / part / f"{part}{c}").mkdir(parents=True)
            for i in range(number):
                pixels = np.random.default_rng([len(part), c, i]).integers(0, 256, (28, 28), np.uint8)
                Image.fromarray(pixels).save(folder / part / f"{part}{c}" / f"{i}.png")
    return str(folder)


@pytest.mark.parametrize("test_classes", [2, 4])
def test_few_classes_lower_what_is_asked_for(tmp_path, capsys, test_classes):
    from examples import compare_few_shot
    source = own(tmp_path / "data", {"train": [3, 4, 3], "test": [2] * test_classes})
    run = compare_few_shot.Run(data=source, images=100, episodes=5, out=str(tmp_path / "out"))
    found = compare_few_shot.main(run)
    assert list(found) == list(compare_few_shot.methods())
    said = capsys.readouterr().out
    assert f"{test_classes}-way 1-shot accuracy" in said and "is lowered to" in said


@pytest.mark.parametrize("counts", [{"train": [3, 3], "test": [2, 1]}, {"train": [3, 1], "test": [2, 2]}])
@pytest.mark.parametrize("name", ["prototypical_networks", "matching_networks", "siamese_networks", "maml",
                                  "compare_few_shot"])
def test_a_class_with_one_picture_is_one_line_before_training(tmp_path, counts, name):
    import importlib
    module = importlib.import_module(f"examples.{name}")
    with pytest.raises(SystemExit, match="two of each are needed; not used: classes with one picture") as error:
        module.main(module.Run(data=own(tmp_path / "data", counts), out=str(tmp_path / "out")))
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


EXAMPLES = [("prototypical_networks", {}), ("siamese_networks", {}), ("matching_networks", {}), ("maml", dict(tasks=2, way=2))]


@pytest.mark.parametrize("name, settings", EXAMPLES)
@pytest.mark.parametrize("counts", [(9, 8, 7), (2, 3, 3)])
def test_every_run_says_which_drawings_were_wrong(tmp_path, name, settings, counts):
    """Of own pictures by their files, each that is no example once, and as many as the confusion table counts."""
    example = importlib.import_module(f"examples.{name}")
    folder = own(tmp_path / "own", {"train": (4, 4, 4), "test": counts})
    example.main(example.Run(data=folder, steps=2, width=4, episodes=5, shot=1, out=str(tmp_path / "run"), **settings)
                 if name != "siamese_networks" else
                 example.Run(data=folder, steps=2, width=4, episodes=5, out=str(tmp_path / "run")))
    with open(tmp_path / "run" / "mistakes.csv") as mistakes, open(tmp_path / "run" / "confusion.csv") as confusion:
        wrong, (header, *table) = list(csv.reader(mistakes))[1:], csv.reader(confusion)
    classes, known = header[1:], min(5, min(counts) - 1)
    numbers = np.array([[int(n) for n in row[1:]] for row in table])
    assert numbers.sum(1).tolist() == [counts[int(c[-1])] - known for c in classes]
    assert len(wrong) == numbers.sum() - np.trace(numbers) and len({file for file, *_ in wrong}) == len(wrong)
    for file, kind, predicted, p in wrong:
        assert pathlib.Path(file).is_file() and file.split("/")[-2] == kind != predicted and 0 < float(p) <= 1
