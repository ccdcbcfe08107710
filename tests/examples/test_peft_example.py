"""examples.peft and examples.compare_peft on a few texts and pictures: all methods, resumed, predicted with, and what is refused."""
import dataclasses
import os
import pathlib
import signal

import numpy as np
import pytest

for library in ("tokenizers", "tyro", "matplotlib", "PIL", "sklearn"):
    pytest.importorskip(library)

from examples import compare_peft, peft as example, predict  # noqa: E402
from methods.peft import prediction, tasks  # noqa: E402
from methods.training import text_encoders  # noqa: E402
from minigrad import io, nn  # noqa: E402
from minigrad.data.labelled_texts import made_up_reviews  # noqa: E402


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A table of texts, and a small BERT that has read them."""
    folder, reviews = tmp_path_factory.mktemp("peft"), made_up_reviews(120)
    rows = "".join(f"{text}\t{reviews.classes[k]}\n" for text, k in zip(reviews.texts, reviews.labels))
    (folder / "texts.tsv").write_text(rows)
    tasks.small_bert(reviews.texts, folder / "encoder", 3, 16, 0)
    return folder


def run(here, method, out, **settings):
    short = {"lora": dict(rank=2), "adapters": dict(middle=2), "prefix": dict(hidden=3)}.get(method, {})
    base = dict(data=str(here / "texts.tsv"), encoder=str(here), steps=3, batch=8, out=str(here / out))
    return dataclasses.replace(example.settings(method), **{**base, **short, **settings})


@pytest.mark.parametrize("method", example.METHODS)
def test_a_run_predicts_as_it_was_tested(here, method, capsys):
    found = example.main(run(here, method, method))
    files = {file.name for file in (here / method).iterdir()}
    assert {prediction.FILE, "config.json", "mistakes.csv", "confusion.csv"} <= files
    network = prediction.load_run(here / method)
    texts = tasks.texts.load(str(here / "texts.tsv"))
    assert (network.probabilities(texts.test).argmax(1) == texts.test_y).mean() == found["accuracy"]
    printed = capsys.readouterr().out
    assert "96 texts to train on, 24 to test on; classes negative, positive" in printed and "numbers are trained" in printed
    assert network.net.adaptation.counts()["trained"] == found["trained"]
    with pytest.raises(FileExistsError, match="continue it with --resume"):
        example.main(run(here, method, method))
    assert example.main(run(here, method, method, resume=True))["accuracy"] == found["accuracy"]


def test_prediction_reads_texts_files_and_tables(here, tmp_path, capsys):
    example.main(run(here, "lora", "told"))
    (tmp_path / "a.txt").write_text("the film is superb\n\nthe plot was dull\n")
    (tmp_path / "b.tsv").write_text("id\ttext\n1\tthe cast is witty\n")
    (tmp_path / "c.csv").write_text('3,"the humour, it was flat"\n')
    given = ("every scene is cold", *(str(tmp_path / name) for name in ("a.txt", "b.tsv", "c.csv")))
    found = predict.main(predict.Run(str(here / "told"), given, csv=str(tmp_path / "out.csv")))
    assert [text for text, _, _ in found] == ["every scene is cold", "the film is superb", "the plot was dull",
                                              "the cast is witty", "the humour, it was flat"]
    assert all(kind in ("negative", "positive") and 0.5 <= p <= 1 for _, kind, p in found)
    assert (tmp_path / "out.csv").read_text().count("\n") == 6
    with pytest.raises(SystemExit, match="there is no nothing.txt"):
        predict.main(predict.Run(str(here / "told"), ("nothing.txt",)))
    other = nn.BERT(40, 64, 2, 4, 256, 64)
    state = io.load(here / "encoder" / "model.safetensors")[0]
    (tmp_path / "other").mkdir()
    io.save(tmp_path / "other" / "model.safetensors", {**state, **{n: a + 1 for n, a in state.items() if n.endswith("LayerNorm.bias")}})
    for name in ("vocab.txt", "config.json"):
        (tmp_path / "other" / name).write_bytes((here / "encoder" / name).read_bytes())
    with pytest.raises(SystemExit, match="was trained on other base weights"):
        predict.main(predict.Run(str(here / "told"), ("x",), encoder=str(tmp_path / "other")))
    assert other.width == 64


@pytest.mark.parametrize("method", ["lora", "prefix", "setfit"])
def test_a_run_that_was_stopped_ends_with_the_same_bits(here, method, monkeypatch):
    example.main(run(here, method, f"{method}-whole", steps=12))
    with monkeypatch.context() as patch:
        kind, calls = (example.setfit.Contrast if method == "setfit" else example.tuning.Tuning), []
        loss = kind.loss
        patch.setattr(kind, "loss", lambda self, batch, step: (calls.append(step), len(calls) == 5 and os.kill(
            os.getpid(), signal.SIGINT), loss(self, batch, step))[2])
        with pytest.raises(SystemExit, match="130"):
            example.main(run(here, method, f"{method}-stopped", steps=12))
    example.main(run(here, method, f"{method}-stopped", steps=12, resume=True))
    whole, stopped = (io.load(here / f"{method}-{name}" / prediction.FILE)[0] for name in ("whole", "stopped"))
    for name, array in whole.items():
        np.testing.assert_array_equal(stopped[name], array, err_msg=name)
    with pytest.raises(FileExistsError, match="continue it with --resume"):
        example.main(run(here, method, f"{method}-whole", steps=12))


def test_pictures_and_a_vision_transformer(tmp_path, capsys):
    from methods.training.encoders import export, plain_input
    export(nn.VisionTransformer(16, 8, 1, 0, 16, 2, 2), plain_input(16, 1), tmp_path / "vit")
    Image = pytest.importorskip("PIL.Image")
    for k in range(24):
        path = tmp_path / "pictures" / ("ab"[k % 2]) / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((16, 16), 40 + 100 * (k % 2) + k, np.uint8)).save(path)
    whole = (tmp_path / "pictures" / "a" / "0.png").read_bytes()
    for name, content in (("empty", b""), ("none", b"no picture"), ("half", whole[:len(whole) // 2])):
        (tmp_path / "pictures" / "a" / f"{name}.png").write_bytes(content)
    (tmp_path / "pictures" / "unlabelled").mkdir()
    (tmp_path / "pictures" / "unlabelled" / "new.png").write_bytes(whole)
    settings = dict(data=str(tmp_path / "pictures"), encoder=str(tmp_path / "vit"), steps=3, batch=4)
    for method in ("lora", "prompt", "setfit"):
        out = tmp_path / method
        found = example.main(dataclasses.replace(example.settings(method), **settings, out=str(out)))
        said = "".join(capsys.readouterr())
        assert all(f"a/{name}.png" in said for name in ("empty", "none", "half")), said
        wrong = [line.split(",")[0] for line in (out / "mistakes.csv").read_text().splitlines()]
        assert wrong[0] == "file" and all(pathlib.Path(name).is_file() for name in wrong[1:])
        answers = predict.main(predict.Run(str(out), (str(tmp_path / "pictures"),)))
        (found_new,) = [answer for answer in answers if answer[0].endswith("new.png")]
        assert (out / "predictions.csv").read_text().splitlines()[1] == f"{found_new[0]},{found_new[1]},{found_new[2]:.4f}"
        assert len(answers) == 25 and found["classes"] == 2
    with pytest.raises(SystemExit, match="pictures need --encoder"):
        example.main(dataclasses.replace(example.settings("lora"), **{**settings, "encoder": "", "out": str(tmp_path / "x")}))
    with pytest.raises(SystemExit, match="lora: no linear layer is called 'attention'; there are: "):
        example.main(dataclasses.replace(example.settings("lora"), **settings, targets=("attention",), out=str(tmp_path / "x")))
    export(nn.ResNet(nn.models.resnet.BasicBlock, (1, 1, 1, 1), 0, small_images=True), plain_input(16, 3), tmp_path / "resnet")
    with pytest.raises(SystemExit, match="there are: none: this is a ResNet, no Transformer"):
        example.main(dataclasses.replace(example.settings("lora"), **{**settings, "encoder": str(tmp_path / "resnet")},
                                         out=str(tmp_path / "x")))
    with pytest.raises(SystemExit, match="--encoder .* --image-size 12: .*12"):
        example.main(dataclasses.replace(example.settings("lora"), **settings, image_size=12, out=str(tmp_path / "x")))


def test_the_comparison_and_its_resumption(here, capsys):
    settings = dict(data=str(here / "texts.tsv"), encoder=str(here), steps=2, setfit_steps=1, batch=4, out=str(here / "compared"),
                    only=("lora", "full", "probe", "setfit"))
    found = compare_peft.main(compare_peft.Run(**settings))
    assert list(found) == ["lora", "full", "probe", "setfit"] and all(len(seeds) == 1 for seeds in found.values())
    assert found["lora"][0][2] < 0.1 * found["full"][0][2] and found["probe"][0][1] == 0
    assert found == compare_peft.main(compare_peft.Run(**settings, resume=True))
    assert {"table.txt", "accuracies.png"} <= {file.name for file in (here / "compared").iterdir()}
    with pytest.raises(SystemExit, match="no method is called 'nothing'"):
        compare_peft.main(compare_peft.Run(**{**settings, "only": ("nothing",)}))


def test_without_an_encoder_a_small_one_is_trained(here, monkeypatch, capsys):
    monkeypatch.setattr(text_encoders, "MINILM", "no_such_package")
    example.main(run(here, "probe", "alone", encoder="", first_steps=2))
    assert "a small BERT learns from the texts first, 2 steps" in capsys.readouterr().out
    assert prediction.load_run(here / "alone").predict(["the film is dull"])
    (here / "alone").rename(here / "elsewhere")  # the encoder lies in the run's folder
    assert prediction.load_run(here / "elsewhere").predict(["the film is dull"])


@pytest.mark.parametrize("settings, message", [
    (dict(data="none.tsv"), "--data none.tsv: no texts at"), (dict(data="nowhere"), "--data nowhere: no image folder or zip at"), (dict(encoder="nowhere"), "--encoder nowhere: no encoder at"),
    (dict(tokens=1000), "--tokens 1000: .* reads 3 to 16"), (dict(per_class=90), "--per-class 90: 90 texts of each class.* has .*; at most .* of each"),
    (dict(rank=0), "--rank 0: choose a number 1 or more"), (dict(pooling="last"), "--pooling last: choose one of mean, first"),
    (dict(lr=-1.0), "--lr -1.0")], ids=["table", "data", "encoder", "tokens", "per class", "rank", "pooling", "lr"])
def test_what_is_refused_in_one_line(here, tmp_path, settings, message):
    with pytest.raises(SystemExit, match=message):
        example.main(run(here, "lora", tmp_path / "new", **settings))
    assert not (tmp_path / "new").exists()


def test_the_head_begins_with_every_class_however_rare(monkeypatch):
    heads = []
    monkeypatch.setattr(example.setfit, "read_head", lambda net, x, y, classes: heads.append(set(y.tolist())))

    class Small:
        y, classes, pad = np.array([0] * 500 + [1] * 500 + [2]), ("a", "b", "c"), None
        x = np.eye(3)[y] + 0.1 * np.random.default_rng(0).normal(size=(1001, 3))
        net = property(lambda self: None)

        def features(self, x):
            return x

    for seed in range(5):
        example.probe(Small(), 100, seed)
    example.probe(Small(), 0, 0)
    assert heads == [{0, 1, 2}] * 5
