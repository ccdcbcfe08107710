"""The central equation of each semi-supervised method, against the same thing computed in plain NumPy."""
import math

import numpy as np
import pytest

import minigrad as mg
from methods.semi_supervised import fixmatch, label_propagation, mixmatch, remixmatch, uda, vat


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def logits(*shape, seed=0, scale=3.0):
    return np.random.default_rng(seed).normal(size=shape) * scale


def test_fixmatch_learns_from_confident_predictions_only():
    weak, strong, tau = logits(40, 5), logits(40, 5, seed=1), 0.9
    value, mask = fixmatch.unsupervised(mg.Tensor(weak), mg.Tensor(strong), tau)
    q = softmax(weak)
    confident = q.max(1) >= tau
    assert 0 < confident.sum() < 40
    np.testing.assert_array_equal(mask, confident)
    losses = -np.log(softmax(strong)[np.arange(40), q.argmax(1)])
    assert value.item() == pytest.approx((losses * confident).sum() / 40)  # over all examples, not the confident ones


def test_no_gradient_reaches_the_targets_of_fixmatch_and_uda():
    weak, strong = mg.Tensor(logits(20, 4), requires_grad=True), mg.Tensor(logits(20, 4, seed=1), requires_grad=True)
    for value, _ in (fixmatch.unsupervised(weak, strong, 0.5), uda.unsupervised(weak, strong, 0.4, 0.5)):
        strong.grad = None
        value.backward()
        assert weak.grad is None and abs(strong.grad.numpy()).max() > 0


def test_learning_rate_of_fixmatch():
    assert fixmatch.learning_rate(0, 100, 0.03) == 0.03
    assert fixmatch.learning_rate(100, 100, 1.0) == pytest.approx(math.cos(7 * math.pi / 16))


def test_divergence_of_uda():
    weak, strong, temperature, beta = logits(40, 5), logits(40, 5, seed=1), 0.4, 0.8
    value, mask = uda.unsupervised(mg.Tensor(weak), mg.Tensor(strong), temperature, beta)
    p, q = softmax(weak / temperature), softmax(strong)
    confident = softmax(weak).max(1) > beta  # of the prediction before it is sharpened
    np.testing.assert_array_equal(mask, confident)
    assert value.item() == pytest.approx(((p * np.log(p / q)).sum(1) * confident).sum() / 40)


@pytest.mark.parametrize("kind, half", [("log", 1 - math.exp(-2.5)), ("linear", 0.5), ("exp", math.exp(-2.5))])
def test_annealing_of_uda(kind, half):
    assert uda.threshold(0.5, 10, kind) == pytest.approx(0.1 + 0.9 * half)
    assert uda.threshold(1.0, 10, kind) == pytest.approx(1, abs=0.01)
    assert uda.threshold(0.5, 10, "no") == 1


def test_annealed_cross_entropy_leaves_out_what_is_learned():
    z, y, eta = logits(30, 4), np.arange(30) % 4, 0.6
    right = softmax(z)[np.arange(30), y]
    kept = right <= eta
    assert 0 < kept.sum() < 30
    assert uda.annealed(mg.Tensor(z), y, eta).item() == pytest.approx(-np.log(right[kept]).mean())
    assert uda.annealed(mg.Tensor(z), y, 0.0).item() == 0


def test_vat_finds_the_direction_that_changes_the_prediction_most():
    """For linear logits W x the Hessian of the divergence at 0 is W^T (diag p - p p^T) W."""
    rng = np.random.default_rng(0)
    w, x = rng.normal(size=(3, 6)), rng.normal(size=(4, 6)) * 0.3
    config = vat.Config(eps=2.0, xi=1e-3, iterations=60)

    def f(inputs):
        return inputs @ mg.Tensor(w.T)

    r = vat.adversarial(f, mg.Tensor(x), f(mg.Tensor(x)), rng.normal(size=x.shape), config).numpy()
    np.testing.assert_allclose(np.linalg.norm(r, axis=1), 2.0, rtol=1e-6)
    for p, direction in zip(softmax(x @ w.T), r / 2):
        hessian = w.T @ (np.diag(p) - np.outer(p, p)) @ w
        values, vectors = np.linalg.eigh(hessian)
        assert values[-1] > 1.2 * values[-2]
        assert abs(direction @ vectors[:, -1]) > 0.999


def test_loss_of_mixmatch():
    z, labels, zu, q = logits(6, 4), softmax(logits(6, 4, seed=1)), logits(12, 4, seed=2), softmax(logits(12, 4, seed=3))
    expected = -(labels * np.log(softmax(z))).sum(1).mean() + 7 * ((q - softmax(zu)) ** 2).sum() / (4 * 12)
    assert mixmatch.loss(*map(mg.Tensor, (z, labels, zu, q)), 7).item() == pytest.approx(expected)


def test_alignment_of_remixmatch():
    alignment, p = remixmatch.Alignment(3, length=2), softmax(logits(5, 3)).astype(np.float32)
    p_data = np.array([0.5, 0.3, 0.2], np.float32)
    for seen in ([1 / 3] * 3, (p.mean(0) + 1 / 3) / 2, p.mean(0), p.mean(0)):  # the mean of the last two batches
        expected = p * p_data / seen
        np.testing.assert_allclose(alignment(p, p_data), expected / expected.sum(1, keepdims=True), rtol=1e-4)


def test_label_propagation_is_the_solution_of_its_linear_system():
    rng = np.random.default_rng(0)
    x, labelled, y = rng.normal(size=(60, 2)), np.array([0, 1, 2, 3]), np.array([0, 1, 2, 0])
    config = label_propagation.Config(neighbours=6, iterations=5000, tolerance=1e-12)
    d2 = ((x[:, None] - x[None]) ** 2).sum(2)
    np.fill_diagonal(d2, np.inf)
    near = np.zeros((60, 60), bool)
    np.put_along_axis(near, d2.argsort(1)[:, :6], True, 1)
    sigma = np.sqrt(d2[near]).mean()
    w = np.where(near | near.T, np.exp(-d2 / (2 * sigma**2)), 0)
    s = w / np.sqrt(np.outer(w.sum(1), w.sum(1)))
    given = np.zeros((60, 3))
    given[labelled, y] = 1
    expected = (1 - config.alpha) * np.linalg.solve(np.eye(60) - config.alpha * s, given)
    np.testing.assert_allclose(label_propagation.propagate(x, labelled, y, 3, config), expected, rtol=1e-3, atol=1e-7)
