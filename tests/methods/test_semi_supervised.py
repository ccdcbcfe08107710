"""Semi-supervised learning: the shared pieces and the Pi-model's cost against plain NumPy, and a short training of each."""
import dataclasses
import math

import numpy as np
import pytest
from checks import interrupted

import minigrad as mg
from methods.semi_supervised import METHODS, build, mixmatch, pi_model
from methods.semi_supervised.base import Task
from methods.training.networks import MLP, Residual
from methods.training import objectives, teacher
from minigrad import data, nn
from minigrad.data.labels import balanced_subset


def test_ramp():
    assert teacher.sigmoid_ramp(0, 10) == pytest.approx(math.exp(-5)) and teacher.sigmoid_ramp(10, 10) == 1
    assert teacher.sigmoid_ramp(5, 10) == pytest.approx(math.exp(-1.25)) and teacher.sigmoid_ramp(25, 10) == 1


def test_sharpening():
    p = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    np.testing.assert_allclose(objectives.sharpen(p, 1.0), p)
    np.testing.assert_allclose(objectives.sharpen(p, 0.5), p**2 / (p**2).sum(1, keepdims=True))
    np.testing.assert_allclose(objectives.sharpen(p, 1e-3), np.eye(3)[[0, 2]], atol=1e-12)


@pytest.mark.parametrize("label", [-1, 3])
def test_what_is_no_class_is_no_label(label):
    assert objectives.one_hot(np.array([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]
    with pytest.raises(ValueError, match="num_classes=3"):
        objectives.one_hot(np.array([0, label]), 3)


def test_mixup_keeps_most_of_each_example():
    x = np.eye(50, dtype=np.float32)
    mixed = objectives.mixup(x, *objectives.partners(50, np.random.default_rng(0), 0.75))
    assert (np.diag(mixed) >= 0.5).all() and np.allclose(mixed.sum(1), 1, atol=1e-6)
    assert 0 < (np.diag(mixed) < 0.9).sum() < 50


def test_interleaving_twice_is_the_identity():
    groups = [np.arange(7) + 10 * i for i in range(3)]
    once = mixmatch.interleave(groups)
    assert all(len({v // 10 for v in g}) > 1 for g in once)
    assert all((a == b).all() for a, b in zip(mixmatch.interleave(once), groups))


def test_cost_of_the_pi_model_by_hand():
    rng = np.random.default_rng(1)
    z1, z2, y, w = rng.normal(size=(6, 4)), rng.normal(size=(6, 4)), np.array([3, 0]), 2.5
    p1, p2 = (np.exp(z) / np.exp(z).sum(1, keepdims=True) for z in (z1, z2))
    expected = -(np.log(p1[0, 3]) + np.log(p1[1, 0])) / 6 + w * ((p1 - p2) ** 2).sum() / (4 * 6)
    a, b = mg.Tensor(z1, requires_grad=True), mg.Tensor(z2, requires_grad=True)
    cost = pi_model.loss(a, b, y, w)
    cost.backward()
    assert cost.item() == pytest.approx(expected) and abs(b.grad.numpy()).max() > 1e-3  # gradient through both passes


def test_labels_are_balanced():
    labels = np.random.default_rng(2).integers(0, 10, 500)
    chosen = balanced_subset(labels, 43, seed=3)
    counts = np.bincount(labels[chosen], minlength=10)
    assert len(set(chosen)) == 43 and set(counts) == {4, 5} and (balanced_subset(labels, 43, seed=3) == chosen).all()
    with pytest.raises(ValueError, match="labels of class"):
        balanced_subset([0, 1, 1, 1], 4)


@pytest.mark.parametrize("channels, level, fill, cutout", [(1, 0.1, 0.0, 0.25), (1, 0.9, 1.0, 0.25), (3, 0.9, 0.5, 0.5)])
def test_augmentations_suit_the_images(channels, level, fill, cutout):
    """Grey ones may be characters: neither mirrored nor inverted, less is cut out, and their background comes in."""
    from types import SimpleNamespace

    from methods.training.images import Images
    from methods.training.pictures import Preprocessing
    x = np.full((4, channels, 16, 16), level, np.float32)
    x[..., :6] = 0.3  # on the left side alone
    images = Images(x, np.array([0, 0, 0, 1]), x, x, np.zeros(4, int), "", ("a", "b"), Preprocessing(16, channels))
    task = build.make_task(images, SimpleNamespace(steps=7, seed=3))
    rng = np.random.default_rng(0)
    weak = np.concatenate([task.weak(x, rng) for _ in range(20)])
    mirrored = (weak[:, 0, 8, -4:] == np.float32(0.3)).any(1)
    assert mirrored.any() == (channels == 3) and not mirrored.all()
    outside = weak[~np.isin(weak, np.float32([0.3, level]))]
    assert set(outside.tolist()) == {fill} and task.fill == fill
    operations = data.augment.GREY if channels == 1 else data.augment.COLOUR
    first, second = np.random.default_rng(1), np.random.default_rng(1)
    wanted = data.RandAugment(operations, 2, cutout, fill)(task.weak(x, first), first)
    np.testing.assert_array_equal(task.strong(x, second), wanted)
    assert task.operations == operations and task.prior.tolist() == [0.75, 0.25]
    learned = build.METHODS["fixmatch"].Objective(build.METHODS["fixmatch"].Config(learned=True), MLP((1,), 2), task).learned
    assert (learned.operations, learned.fill, learned.cutout) == (operations, fill, cutout)
    assert (task.classes, task.labelled, task.unlabelled, task.steps, task.seed) == (2, 4, 4, 7, 3)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    pytest.importorskip("tyro")
    from methods.training.images import load
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIGRAD_CACHE", str(tmp_path_factory.mktemp("cache")))
        return load("digits", 100, 0)


@pytest.mark.parametrize("name", METHODS)
def test_the_baseline_is_trained_as_the_method_is(name, tmp_path):
    """With its noise and dropout, too; the ladder's is its own network."""
    from examples import semi_supervised
    run = dataclasses.replace(semi_supervised.settings(name), steps=7, lr=0.5, ema=0.3, seed=2, out=str(tmp_path))
    beside, kind = semi_supervised.baseline(run, name)
    shared = {f.name for f in dataclasses.fields(semi_supervised.Run)} - {"out"}
    assert all(getattr(beside, key) == getattr(run, key) for key in shared)
    assert (beside.out, kind) == (f"{tmp_path}/supervised", "ladder" if name == "ladder" else "supervised")
    if name != "ladder":
        assert (beside.noise, beside.dropout) == (getattr(run, "noise", 0.0), getattr(run, "dropout", 0.0))


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_the_baselines_noise_comes_behind_the_augmentation(noise):
    task = Task(2, 4, 4, 1, lambda x, rng: x + 1, None)
    method = METHODS["supervised"].Objective(METHODS["supervised"].Config(noise=noise), MLP((10_000,), 2), task)
    x, _ = method.arguments(data.Batch(np.zeros((4, 10_000), np.float32), np.zeros(4, int), None, None), 0)
    assert x.numpy().mean() == pytest.approx(1, abs=0.02) and x.numpy().std() == pytest.approx(noise, abs=0.01)


def test_classes_that_are_hidden_are_those_of_the_images_without_a_label(digits):
    images, labels = data.load_digits()
    rows = {image.tobytes(): label for image, label in zip(np.asarray(images, np.float32), labels)}
    hidden = digits.hidden_y
    assert len(hidden) == len(digits.unlabelled) and (hidden < 0).sum() == len(digits.x) == 100
    told = {x.tobytes() for x in digits.x}
    for x, label in zip(digits.unlabelled, hidden):
        assert label == rows[x.astype(np.float32).tobytes()] if label >= 0 else x.tobytes() in told


def test_guesses_are_counted_where_the_class_was_hidden(digits):
    """Of all, and of those that pass the method's threshold; of none nothing is said."""
    from examples import semi_supervised
    images = dataclasses.replace(digits, hidden_y=np.array([-1, 0, 1, 2, -1]))
    some, p = semi_supervised.measured(images), np.array([[0.9, 0.1, 0.0], [0.2, 0.6, 0.2], [0.8, 0.1, 0.1]])
    assert some.tolist() == [1, 2, 3]
    wanted = {("fixmatch", "tau", 0.7): (2 / 3, 2 / 3, 1 / 2), ("uda", "beta", 0.5): (2 / 3, 1, 2 / 3),
              ("fixmatch", "tau", 0.95): (2 / 3, 0), ("fixmatch", "tau", 0.0): (2 / 3,), ("supervised", "ema", 0.5): (2 / 3,)}
    for (name, setting, value), numbers in wanted.items():
        run = dataclasses.replace(semi_supervised.settings(name), **{setting: value})
        found = semi_supervised.guesses(run, images, some, p)
        assert dict(zip(("guesses right", "sure", "sure guesses right"), numbers)) == pytest.approx(found)
        lines = list(semi_supervised.on_guesses(run, images, some, p))
        assert lines[0] == f"of what {name} guesses of 3 unlabelled images, 66.7 % are right"
        assert len(lines) == 1 + (len(numbers) > 2)
    none = dataclasses.replace(digits, hidden_y=np.array([-1, -1]))
    assert not list(semi_supervised.on_guesses(run, none, semi_supervised.measured(none), p[:0]))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_learns(name, digits, tmp_path):
    from examples import semi_supervised
    # strongly augmented, labelled images of 8 x 8 are not learned in a test's time
    own = {"ladder": dict(hidden=(64, 32)), "remixmatch": dict(strong=False)}.get(name, {})
    run = dataclasses.replace(semi_supervised.settings(name), steps=120, batch=20, ratio=2, width=8, lr=5e-3, labels=100,
                              ema=0.9, out=str(tmp_path / "run"), **own)
    assert semi_supervised.result(run, name, digits) > 0.65


@pytest.mark.parametrize("name", METHODS)
def test_every_method_that_was_stopped_ends_with_the_same_bits(name, digits, tmp_path):
    from examples import semi_supervised
    # in four steps what a method remembers has to matter: each shows all unlabelled images
    images = dataclasses.replace(digits, unlabelled=digits.unlabelled[:8])
    own = {"ladder": dict(hidden=(16,)), "remixmatch": dict(views=1, ramp=0.0), "temporal_ensembling": dict(ramp=0.0),
           "freematch": dict(momentum=0.5, lambda_f=1.0), "softmatch": dict(momentum=0.5),
           "fixmatch": dict(learned=True, tau=0.2)}.get(name, {})
    run = dataclasses.replace(semi_supervised.settings(name), steps=4, batch=4, ratio=2, width=2, labels=100, lr=0.01, **own)
    whole, halves = (dataclasses.replace(run, out=str(tmp_path / part)) for part in ("whole", "halves"))
    found = semi_supervised.result(whole, name, images)
    with interrupted(METHODS[name].Objective, 1):
        semi_supervised.result(halves, name, images)
    assert semi_supervised.result(dataclasses.replace(halves, resume=True), name, images) == found
    files = [(tmp_path / part / "checkpoint.safetensors").read_bytes() for part in ("whole", "halves")]
    assert files[0] == files[1]


@pytest.mark.parametrize("network, kind", [("wide", nn.WideResNet), ("residual", Residual)])
def test_the_large_networks_serve_every_method_with_convolutions(network, kind, digits, tmp_path):
    from examples import semi_supervised
    run = dataclasses.replace(semi_supervised.settings("remixmatch"), network=network, batch=2, ratio=1, views=1)
    method, _ = build.build(run, "remixmatch", digits)
    assert isinstance(method.net, kind)
    loss, _ = method.loss(data.Batch(digits.x[:2], digits.y[:2], digits.unlabelled[:2], np.arange(2)), 5)
    loss.backward()
    assert all(p.grad is not None for p in method.net.parameters())
    small = dataclasses.replace(digits, x=digits.x[..., :6, :6])
    with pytest.raises(SystemExit, match=f"--network {network} takes images"):
        build.build(run, "remixmatch", small)


def test_the_help_explains_methods_and_settings(capsys):
    pytest.importorskip("tyro")
    from examples import semi_supervised
    for args, words in ([], "Takeru Miyato"), (["vat"], "weight of the divergence"), (["vat"], "labelled images in a step"):
        with pytest.raises(SystemExit):
            semi_supervised.from_command_line([*args, "--help"])
        assert words in " ".join(capsys.readouterr().out.split())
    run = semi_supervised.from_command_line(["vat", "--alpha", "2", "--labels", "20"])
    assert (run.method, run.alpha, run.labels) == ("vat", 2, 20)
