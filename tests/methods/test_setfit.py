"""SetFit: its loss against plain NumPy, its batches, and that pairs teach an encoder."""
import zipfile

import numpy as np
import pytest

import minigrad as mg
from methods import peft
from methods.peft import tuning
from methods.training.text_encoders import SentenceEncoder, outputs
from methods.training.texts import TextBatches, filled, is_text, padded
from methods.transfer import linear, setfit
from minigrad import nn


@pytest.mark.parametrize("y", [[0, 0, 1, 1, 2], [0, 0, 0], [0, 1, 2], [1]], ids=["classes", "one class", "one each", "alone"])
def test_the_loss_of_all_pairs(y):
    y, z = np.array(y), np.random.default_rng(0).normal(0, 1, (len(y), 4))
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    pairs = [(unit[i] @ unit[j], y[i] == y[j]) for i in range(len(y)) for j in range(i)]
    same, other = ([(c - wanted)**2 for c, alike in pairs if alike == wanted] for wanted in (True, False))
    wanted = sum(np.mean(part) / 2 for part in (same, other) if part)
    np.testing.assert_allclose(setfit.contrast(mg.Tensor(z), y).item(), wanted, atol=1e-6)


def test_batches_have_all_classes():
    y = np.array([0] * 30 + [1] * 3 + [2] * 9)
    batches = setfit.Balanced([np.array([k, 1]) for k in range(42)], y, 0, 9, 0)
    seen = set()
    for _ in range(60):
        ids, attended, labels = batches.sample()
        np.testing.assert_array_equal(np.bincount(labels), [3, 3, 3])
        np.testing.assert_array_equal(y[ids[:, 0]], labels)
        assert len(set(ids[:, 0])) == 9 and attended.all()
        seen |= set(ids[:, 0])
    assert seen == set(range(42))
    pictures = setfit.Balanced(np.zeros((4, 3, 2, 2)), np.array([0, 1, 1, 1]), None, 20, 0)
    assert pictures.sample()[0].shape == (4, 3, 2, 2)
    first, again = (setfit.Balanced([np.array([k]) for k in range(42)], y, 0, 5, 1) for _ in range(2))
    first.sample()
    again.load_state_dict(first.state_dict())
    np.testing.assert_array_equal(first.sample()[0], again.sample()[0])


@pytest.mark.parametrize("batch", [3, 4, 16, 40])
@pytest.mark.parametrize("sizes", [[8] * 20, [8] * 3, [1] * 15 + [2], [1] * 5, [30, 1, 1, 2]])
def test_batches_hold_pairs_of_the_same_class_and_of_different_ones_where_there_are_such(sizes, batch):
    y = np.repeat(np.arange(len(sizes)), sizes)
    batches = setfit.Balanced(np.zeros((len(y), 1, 1, 1), np.float32), y, None, batch, 0)
    seen = set()
    for _ in range(200):
        labels = batches.sample()[1]
        seen |= set(labels.tolist())
        assert len(labels) == min(batch, len(y)) and 2 <= len(set(labels.tolist()))
        assert len(set(labels.tolist())) < len(labels) or max(sizes) == 1
    assert seen == set(range(len(sizes)))


def test_pairs_teach_what_the_frozen_encoder_does_not_know():
    """The class is which of two words stands in a text of random ones."""
    rng = np.random.default_rng(0)

    def draw(count):
        x, y = rng.integers(10, 30, (count, 9)), np.arange(count) % 2
        x[np.arange(count), rng.integers(1, 9, count)] = 5 + y
        x[:, 0] = 2
        return list(x), y

    (x, y), (test, test_y) = draw(80), draw(100)
    mg.random.seed(0)
    net = SentenceEncoder(nn.BERT(60, 16, 2, 2, 32, 16, dropout=0.0))
    frozen = linear.logistic(outputs(net, x, 0), y, 2)
    before = (frozen.scores(outputs(net, test, 0)).argmax(1) == test_y).mean()
    adaptation = peft.apply(net, "full", head=2)
    method = setfit.Contrast(tuning.Config(warmup=0.3), adaptation)
    batches = setfit.Balanced(x, y, 0, 16, 0)
    (optimizer,) = (v for k, v in tuning.make_optimizers(adaptation, 3e-3, tuning.Config()).items() if k == "kernels")
    for step in range(60):
        loss, _ = method.loss(batches.sample(), step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    head, net.head = net.head, nn.Identity()
    features, net.head = outputs(net, x, 0), head
    head = setfit.read_head(net, features, y, 2)
    np.testing.assert_allclose(net.head.weight.numpy(), head.weight, rtol=1e-5)
    with mg.no_grad():
        scores = net.eval()(padded(test, 0), filled(test)).numpy()
    assert (scores.argmax(1) == test_y).mean() > max(before + 0.1, 0.85)
    assert method.schedule(0, 100) < method.schedule(29, 100) == 1 > method.schedule(99, 100)
    assert method.schedule(14, 100) == pytest.approx(0.5)


@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_of_no_texts_there_are_no_outputs(pooling):
    net = SentenceEncoder(nn.BERT(60, 16, 1, 2, 32, 16), 3, pooling)
    assert outputs(net, [], 0).shape == (0, 3)
    assert padded([], 0).shape == filled([]).shape == (0, 1)


def test_text_batches_are_about_equally_long_and_complete():
    rng = np.random.default_rng(0)
    rows = [np.full(n, k) for k, n in enumerate(rng.integers(1, 40, 75))]
    batches = TextBatches(rows, np.arange(75), 99, 16, 0)
    for _ in range(2):
        seen, waste = [], 0
        for _ in range(5):
            ids, attended, y = batches.sample()
            assert (ids[~attended] == 99).all() and (ids[attended] != 99).all()
            seen += list(y)
            waste += (~attended).sum()
        assert sorted(seen) == list(range(75)) and waste < 0.25 * sum(map(len, rows))
    other = TextBatches(rows, np.arange(75), 99, 16, 0)
    batches.sample()
    other.load_state_dict(batches.state_dict())
    np.testing.assert_array_equal(other.sample()[2], batches.sample()[2])


def test_what_names_texts(tmp_path):
    for name, content in {"a/x/1.txt": "x", "b/x/1.png": "x", "b/readme.txt": "x", "b/captions.csv": "x", "c/train.tsv": "x",
                          "c/curves.png": "x", "d.csv": "x"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    for name in ("a", "b"):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            archive.write(next((tmp_path / name / "x").iterdir()), f"x/{name}.{'txt' if name == 'a' else 'png'}")
            archive.writestr("notes/readme.txt" if name == "b" else "cover.png", "x")
    (tmp_path / "e.zip").write_text("no zip")
    found = {path.name: is_text(str(path)) for path in tmp_path.iterdir()}
    assert found == {"a": True, "b": False, "c": True, "d.csv": True, "a.zip": True, "b.zip": False, "e.zip": False}
    assert is_text("sst2") and not is_text("cifar10")
