"""The central equation of each semi-supervised method, against the same thing computed in plain NumPy."""
import copy
import dataclasses
import math
import types

import numpy as np
import pytest

import minigrad as mg
from methods.semi_supervised import (
    METHODS, base, fixmatch, freematch, label_propagation, ladder, mean_teacher, mixmatch, pi_model, pseudo_label, remixmatch,
    softmatch, temporal_ensembling, uda, vat)
from methods.semi_supervised.base import Task
from methods.semi_supervised.ctaugment import CTAugment
from methods.training.networks import MLP
from methods.training import teacher as teachers
from minigrad import data


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


def test_a_prediction_at_the_threshold_is_confident_to_fixmatch_alone():
    """FixMatch has 1[max q >= tau], UDA 1[max p > beta]; here the probabilities are 1 and 1/2 to the bit."""
    z = mg.Tensor([[1000.0, 0, 0], [5.0, 5, -1000]])
    for at, equal in ((1.0, [True, False]), (0.5, [True, True])):
        assert fixmatch.unsupervised(z, z, at)[1].tolist() == equal
    assert uda.unsupervised(z, z, 0.4, 1.0)[1].tolist() == [False, False]
    assert uda.unsupervised(z, z, 0.4, 0.5)[1].tolist() == [True, False]


def test_no_gradient_reaches_the_targets_of_fixmatch_and_uda():
    weak, strong = mg.Tensor(logits(20, 4), requires_grad=True), mg.Tensor(logits(20, 4, seed=1), requires_grad=True)
    for value, _ in (fixmatch.unsupervised(weak, strong, 0.5), uda.unsupervised(weak, strong, 0.4, 0.5)):
        strong.grad = None
        value.backward()
        assert weak.grad is None and abs(strong.grad.numpy()).max() > 0


@pytest.mark.parametrize("apart", [False, True])
def test_batches_of_fixmatch(apart):
    """L is of normalised outputs: the statistics of the weakly augmented images are their own where they pass apart."""
    task, batch = linear_task(5, 6, (4,))[3:]
    task.weak, task.strong = (lambda x, rng: x + 1), (lambda x, rng: x * 2)
    net = MLP((4, 8), 3)
    value, numbers = fixmatch.FixMatch(fixmatch.Config(tau=0.4, lambda_u=3.0, apart=apart), net, task).loss(batch, 0)
    groups = batch.x + 1, batch.u + 1, batch.u * 2

    def outputs(*groups):
        h = np.concatenate(groups) @ net.layers[0].weight.numpy().T + net.layers[0].bias.numpy()
        h = np.maximum((h - h.mean(0)) / np.sqrt(h.var(0) + 1e-5), 0)
        p = softmax(h @ net.head.weight.numpy().T + net.head.bias.numpy())
        return np.split(p, np.cumsum([len(g) for g in groups])[:-1])

    if apart:
        (p, strong), (weak,) = outputs(groups[0], groups[2]), outputs(groups[1])
    else:
        p, weak, strong = outputs(*groups)
    used = weak.max(1) >= 0.4
    assert numbers["mask"] == used.mean() and 0 < used.sum() < 6
    expected = -np.log(p[np.arange(5), batch.y]).mean() - 3 * (used * np.log(strong[np.arange(6), weak.argmax(1)])).mean()
    assert value.item() == pytest.approx(expected, rel=1e-4)


def test_weights_of_softmatch():
    """Aligned to the uniform distribution, then the Gaussian below the running mean; two batches move all means."""
    weights, q_mean, mu, variance = softmatch.Weights(5, 0.2, 2.0), np.full(5, 0.2), 0.2, 1.0
    for seed in (0, 1):
        q = softmax(logits(40, 5, seed=seed) + np.arange(5))
        q_mean = 0.2 * q_mean + 0.8 * q.mean(0)
        aligned = q * 0.2 / q_mean
        top = (aligned / aligned.sum(1)[:, None]).max(1)
        mu, variance = 0.2 * mu + 0.8 * top.mean(), 0.2 * variance + 0.8 * ((top - top.mean()) ** 2).sum() / 39
        expected = np.where(top < mu, np.exp(-(top - mu) ** 2 / (2 * variance / 4)), 1)
        np.testing.assert_allclose(weights(q), expected)
    assert 0 < (expected == 1).sum() < 40
    other = softmatch.Weights(5, 0.2, 2.0)
    other.load_state_dict(weights.state_dict())
    np.testing.assert_array_equal(weights(q), other(q))


@pytest.mark.parametrize("q", [np.full((1, 3), 1 / 3), np.eye(3), np.array([[1.0, 0, 0]] * 4)], ids=["one", "sure", "alone"])
def test_weights_of_softmatch_stay_finite(q):
    weights = softmatch.Weights(3, 0.0, 2.0)
    for _ in range(3):
        found = weights(q)
    assert np.isfinite(found).all() and (found >= 0).all() and (found <= 1).all()


def test_loss_of_softmatch_leaves_the_targets_alone():
    weak, strong = mg.Tensor(logits(20, 4), requires_grad=True), mg.Tensor(logits(20, 4, seed=1), requires_grad=True)
    weights = np.linspace(0, 1, 20)
    value = softmatch.weighted(weak, strong, weights)
    losses = -np.log(softmax(strong.numpy())[np.arange(20), weak.numpy().argmax(1)])
    assert value.item() == pytest.approx((losses * weights).mean())
    value.backward()
    assert weak.grad is None and abs(strong.grad.numpy()).max() > 0


def test_threshold_of_freematch():
    own, tau, p, h = freematch.Threshold(4, 0.9), 0.25, np.full(4, 0.25), np.full(4, 0.25)
    for seed in (0, 1):
        q = softmax(logits(40, 4, seed=seed) + np.arange(4))
        tau, p = 0.9 * tau + 0.1 * q.max(1).mean(), 0.9 * p + 0.1 * q.mean(0)
        h = 0.9 * h + 0.1 * np.eye(4)[q.argmax(1)].mean(0)
        np.testing.assert_allclose(own(q), (tau * p / p.max())[q.argmax(1)])
    np.testing.assert_allclose(own.h, h)
    other = freematch.Threshold(4, 0.9)
    other.load_state_dict(own.state_dict())
    np.testing.assert_array_equal(own(q), other(q))


@pytest.mark.parametrize("make", [lambda: freematch.Threshold(4, 0.9), lambda: softmatch.Weights(4, 0.9, 2.0)],
                         ids=["freematch", "softmatch"])
def test_running_means_go_on_to_the_bit_wherever_they_were_saved(make):
    q = [softmax(logits(100, 4, seed=seed)).astype(np.float32) for seed in range(60)]
    whole = make()
    for step, batch in enumerate(q):
        resumed = make()
        resumed.load_state_dict(whole.state_dict())
        np.testing.assert_array_equal(whole(batch), resumed(batch), f"saved after {step} steps")


def test_fairness_of_freematch():
    """The negative cross-entropy of the two normalised ratios; classes that nobody predicts count as 0; no mask, no loss."""
    z, mask = logits(30, 4, seed=3) - np.array([0, 0, 0, 50]), np.arange(30) % 3 > 0
    p, h = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.5, 0.3, 0.2, 0.0])
    q = softmax(z[mask])
    shares = np.eye(4)[q.argmax(1)].mean(0)
    assert (shares[:3] > 0).all() and shares[3] == 0
    now = np.where(shares > 0, q.mean(0) / np.where(shares > 0, shares, 1), 0)
    wanted = np.where(h > 0, p / np.where(h > 0, h, 1), 0)
    expected = (wanted / wanted.sum() * np.log(now / now.sum() + 1e-12)).sum()
    strong = mg.Tensor(z, requires_grad=True)
    value = freematch.fairness(strong, mask, p, h)
    value.backward()
    assert value.item() == pytest.approx(expected)
    assert abs(strong.grad.numpy()[mask]).max() > 0 and not strong.grad.numpy()[~mask].any()
    assert freematch.fairness(strong, np.zeros(30, bool), p, h) == 0


@pytest.mark.parametrize("module", [softmatch, freematch], ids=["softmatch", "freematch"])
def test_sums_of_softmatch_and_freematch(module):
    net, w, b, task, batch = linear_task(6, 8, (4,), seed=2)
    config = module.Config(lambda_u=3.0, momentum=0.5)
    value, numbers = module.Objective(config, net, task).loss(batch, 0)
    p, q = softmax(batch.x @ w.T + b), softmax(batch.u @ w.T + b)
    losses = -np.log(q.max(1))
    if module is softmatch:
        weights = softmatch.Weights(3, 0.5, 2.0)(q)
        u = 3 * (weights * losses).mean()
        assert numbers["weight"] == pytest.approx(weights.mean())
    else:
        own = freematch.Threshold(3, 0.5)
        mask = q.max(1) >= own(q)
        u = 3 * (mask * losses).mean() + 0.01 * freematch.fairness(mg.Tensor(batch.u @ w.T + b), mask, own.p, own.h).item()
        assert 0 < mask.sum() and numbers["mask"] == mask.mean()
    assert value.item() == pytest.approx(-np.log(p[np.arange(6), batch.y]).mean() + u, rel=1e-4)


def test_learning_rate_of_fixmatch():
    assert base.learning_rate(0, 100, 0.03) == 0.03
    assert base.learning_rate(100, 100, 1.0) == pytest.approx(math.cos(7 * math.pi / 16))


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


@pytest.mark.parametrize("loss", [
    lambda z: fixmatch.unsupervised(z, z, 0.95), lambda z: pseudo_label.unsupervised(z, 0.95),
    lambda z: uda.unsupervised(z, z, 0.4, 0.8), lambda z: (uda.annealed(z, np.zeros(3, int), 0.5),)])
def test_no_mask_hides_nan(loss):
    z = np.zeros((3, 4))
    assert np.isfinite(loss(mg.Tensor(z))[0].item())
    z[1, 2] = np.nan
    assert np.isnan(loss(mg.Tensor(z))[0].item())


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


def test_step_of_vat_is_the_slope_of_the_divergence():
    """From the clean prediction to the perturbed one: by d of linear logits it is xi W^T (p(x + xi d) - p(x))."""
    rng = np.random.default_rng(0)
    w, x, d = rng.normal(size=(3, 6)), rng.normal(size=(4, 6)), rng.normal(size=(4, 6))
    config = vat.Config(eps=2.0, xi=1.5, iterations=1)
    found = vat.adversarial(lambda x: x @ mg.Tensor(w.T), mg.Tensor(x), mg.Tensor(x @ w.T), d, config).numpy()
    there = x + 1.5 * d / np.linalg.norm(d, axis=1, keepdims=True)
    slope = (softmax(there @ w.T) - softmax(x @ w.T)) @ w
    np.testing.assert_allclose(found, 2 * slope / np.linalg.norm(slope, axis=1, keepdims=True), rtol=1e-6)


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


def test_alignment_of_a_class_that_was_never_predicted():
    """Shares are smoothed by 1e-6, so that nothing is divided by 0."""
    alignment, p = remixmatch.Alignment(2, length=1), np.array([[1 - 1e-7, 1e-7]])
    alignment.recent[...] = [1, 0]
    np.testing.assert_allclose(alignment(p, np.array([0.5, 0.5])), [[0.5 / 0.55, 0.05 / 0.55]], rtol=1e-3)


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


def test_neighbours_of_label_propagation_are_those_of_a_loop():
    """Distances are taken in blocks of examples; in none is an example its own neighbour."""
    x = np.random.default_rng(0).normal(size=(1100, 3))
    pairs = set()
    for i in range(1100):
        d = ((x - x[i]) ** 2).sum(1)
        d[i] = np.inf
        pairs |= {pair for j in d.argsort()[:4] for pair in ((i, j), (j, i))}
    i, j, s = label_propagation.graph(x, 4, 0.2)
    assert [*zip(i, j)] == sorted(pairs)
    w = np.exp(-((x[i] - x[j]) ** 2).sum(1) / (2 * 0.2**2))
    degree = np.bincount(i, w)
    np.testing.assert_allclose(s, w / np.sqrt(degree[i] * degree[j]), rtol=1e-3, atol=1e-9)


def test_label_propagation_sees_differences_alone():
    rng, y = np.random.default_rng(0), np.repeat([0, 1], 30)
    x = rng.normal(size=(60, 3)) + 4 * y[:, None]
    near = label_propagation.propagate(x, np.array([0, 30]), np.array([0, 1]), 2)
    far = label_propagation.propagate(x + 1e6, np.array([0, 30]), np.array([0, 1]), 2)
    np.testing.assert_allclose(far, near, rtol=1e-3, atol=1e-7)
    assert (near.argmax(1) == y).mean() > 0.9
    copies = label_propagation.propagate(np.ones((20, 3)), np.array([0, 1]), np.array([0, 1]), 2)
    assert np.isfinite(copies).all() and copies.max() > 0


def test_nan_in_an_image_is_no_answer_of_label_propagation():
    x = np.random.default_rng(0).random((12, 1, 4, 4), dtype=np.float32)
    images = types.SimpleNamespace(x=x[:3], y=np.array([0, 1, 2]), unlabelled=x[:8].copy(), test=x[8:], classes=3)
    config = label_propagation.Config(neighbours=3, iterations=5)
    np.testing.assert_allclose(label_propagation.probabilities(images, config)[0].sum(1), 1)
    images.unlabelled[5, 0, 0, 0] = np.nan
    assert np.isnan(label_propagation.probabilities(images, config)[0]).any()


def test_loss_of_mean_teacher():
    z, p, y, w = logits(6, 4), softmax(logits(6, 4, seed=1)), np.array([1, 3]), 5.0
    expected = -np.log(softmax(z)[[0, 1], y]).mean() + w * ((softmax(z) - p) ** 2).mean()
    student, target = mg.Tensor(z, requires_grad=True), mg.Tensor(p, requires_grad=True)
    value = mean_teacher.loss(student, y, target, w)
    value.backward()
    assert value.item() == pytest.approx(expected)
    assert target.grad is None and abs(student.grad.numpy()).max() > 0


def test_teacher_is_the_average_with_a_warm_start():
    """The decay of update t is at most 1 - 1/(t + 1): at first the average is the plain mean."""
    net = MLP((2, 3), 2)
    teacher, expected = teachers.Teacher(net, 0.7), 0.0  # the running mean's first value
    for t, value in enumerate((1.0, 5.0, -2.0, 4.0, 3.0), 1):
        net.head.weight.data = np.full(net.head.weight.shape, value, np.float32)
        net.norms[0].running_mean[...] = value
        before = teacher.net.head.weight.numpy().copy()
        teacher.update()
        decay = min(0.7, 1 - 1 / (t + 1))
        expected = decay * expected + (1 - decay) * value
        np.testing.assert_allclose(teacher.net.head.weight.numpy(), decay * before + (1 - decay) * value, rtol=1e-5)
        np.testing.assert_allclose(teacher.net.norms[0].running_mean, expected, rtol=1e-5)


def test_targets_of_temporal_ensembling():
    """Z / (1 - alpha^t) weighs the predictions of earlier epochs by powers of alpha, the weights summing to one."""
    alpha, ensemble = 0.6, temporal_ensembling.Ensemble(5, 3, 0.6)
    seen = [softmax(logits(2, 3, seed=k)).astype(np.float32) for k in range(4)]
    index = np.array([3, 1])
    for k, z in enumerate(seen):
        target, known = ensemble.targets(index)
        assert (known == (k > 0)).all()
        if k:
            weights = alpha ** np.arange(k)[::-1]
            np.testing.assert_allclose(target, np.einsum("k,knc->nc", weights / weights.sum(), seen[:k]), rtol=1e-5)
        ensemble.update(index, z)
    assert ensemble.targets(np.array([0, 2, 4]))[1].sum() == 0


@pytest.mark.parametrize("alpha", [0.0, 0.6, 0.999, 1 - 1e-7, 1 - 1e-12])
@pytest.mark.parametrize("times", [1, 3])
def test_targets_of_temporal_ensembling_keep_their_digits(alpha, times):
    """Of predictions that are always the same the target is these."""
    ensemble, index = temporal_ensembling.Ensemble(4, 3, alpha), np.arange(2)
    z = softmax(logits(2, 3)).astype(np.float32)
    for _ in range(times):
        ensemble.update(index, z)
    with np.errstate(all="raise"):
        targets, known = ensemble.targets(np.arange(4))
    np.testing.assert_allclose(targets, [*z, *np.zeros((2, 3))], rtol=1e-6)
    assert targets.dtype == np.float32 and known.tolist() == [1, 1, 0, 0]


def test_loss_of_temporal_ensembling():
    net, task = MLP((2,), 3), Task(3, 4, 6, 100, lambda x, rng: x, None, seed=0)
    method = temporal_ensembling.TemporalEnsembling(temporal_ensembling.Config(noise=0.0, ramp=0.8), net, task)
    rng = np.random.default_rng(0)
    z = softmax(rng.normal(size=(6, 3))).astype(np.float32)
    method.ensemble.update(np.array([0, 2, 5]), z[[0, 2, 5]])
    batch = data.Batch(rng.normal(size=(2, 2)).astype(np.float32), np.array([2, 0]),
                       rng.normal(size=(4, 2)).astype(np.float32), np.array([0, 1, 2, 3]))
    w, b = net.head.weight.numpy(), net.head.bias.numpy()
    p, q = softmax(batch.x @ w.T + b), softmax(batch.u @ w.T + b)
    squared = ((q - z[:4]) ** 2).mean(1)[[0, 2]].sum() / 6  # images 1 and 3 have no target yet
    expected = -np.log(p[[0, 1], batch.y]).sum() / 6 + 30 * 2 / 6 * math.exp(-5 * (1 - 50 / 80) ** 2) * squared
    assert method.loss(batch, 50)[0].item() == pytest.approx(expected, rel=1e-5)
    before = 0.4 * z * np.array([1, 0, 1, 0, 0, 1])[:, None]
    np.testing.assert_allclose(method.ensemble.sums, np.r_[0.6 * before[:4] + 0.4 * q, before[4:]], rtol=1e-5)
    assert method.ensemble.counts.tolist() == [2, 1, 2, 1, 0, 1]


def test_weight_and_loss_of_pseudo_labels():
    config = pseudo_label.Config(alpha=3.0, begin=0.2, end=0.7)
    assert [pseudo_label.weight(t, config) for t in (0, 0.2, 0.45, 0.7, 1)] == pytest.approx([0, 0, 1.5, 3, 3])
    for at in (0.0, 0.5):  # no ramp: from T2 on alpha_f, at once
        config = pseudo_label.Config(alpha=3.0, begin=at, end=at)
        assert [pseudo_label.weight(t, config) for t in (at - 0.1, at, at + 0.1)] == [0, 3, 3]
    z = logits(30, 4, scale=1.0)
    p = softmax(z).max(1)
    for tau in (0.0, 0.6):
        value, mask = pseudo_label.unsupervised(mg.Tensor(z), tau)
        assert value.item() == pytest.approx(-(np.log(p) * (p >= tau)).sum() / 30) and (mask == (p >= tau)).all()
    assert 0 < mask.sum() < 30


@pytest.mark.parametrize("settings, flags", [(dict(begin=0.9, end=0.1), "--begin 0.9 --end 0.1: "),
                                             (dict(end=0.1), "--begin 0.166667 --end 0.1: ")])
def test_weight_of_pseudo_labels_ends_after_its_begin(settings, flags):
    with pytest.raises(SystemExit, match=flags):
        pseudo_label.PseudoLabel(pseudo_label.Config(**settings), MLP((2,), 3), Task(3, 4, 6, 100, lambda x, rng: x, None))


def ladder_encoder(net, x, noises, running=False):
    """z, the means and deviations that normalised them, and the logits, by hand; with `running` by the running statistics."""
    parts, top = {k: v.numpy().astype(np.float64) for k, v in net.named_parameters()}, len(net.sizes) - 1
    h = x + noises[0]
    zs, stats = [h], [None]
    for k in range(1, top + 1):
        z = h @ parts[f"w{k}"]
        stats.append((getattr(net, f"mean{k}"), np.sqrt(getattr(net, f"var{k}") + 1e-5)) if running else
                     (z.mean(0), np.sqrt(z.var(0) + 1e-5)))
        zs.append((z - stats[k][0]) / stats[k][1] + noises[k])
        h = zs[-1] + parts[f"beta{k}"]
        h = np.maximum(h, 0) if k < top else parts["gamma"] * h
    return zs, stats, h


def ladder_by_hand(net, x, noises, weights):
    """The denoising cost of a ladder, from the paper's table 1, in plain NumPy."""
    parts = {k: v.numpy().astype(np.float64) for k, v in net.named_parameters()}
    top = len(net.sizes) - 1
    clean, stats, _ = ladder_encoder(net, x, [0.0] * (top + 1))
    noisy, _, out = ladder_encoder(net, x, noises)
    h, cost = softmax(out), 0.0
    for k in range(top, -1, -1):
        u, a = (h - h.mean(0)) / np.sqrt(h.var(0) + 1e-5), parts[f"a{k}"]
        mu, v = (a[i] / (1 + np.exp(-(a[i + 1] * u + a[i + 2]))) + a[i + 3] * u + a[i + 4] for i in (0, 5))
        z = (noisy[k] - mu) * v + mu
        compared = (z - stats[k][0]) / stats[k][1] if k else z
        cost += weights.get(k, 0) * ((clean[k] - compared) ** 2).mean()
        h = z @ parts[f"v{k}"] if k else None
    return cost


@pytest.mark.parametrize("weights", [{0: 1000, 1: 10, 2: 0.1, 3: 0.1}, {3: 2.0}])
def test_cost_of_the_ladder(monkeypatch, weights):
    rng, sizes, n = np.random.default_rng(0), (6, 5, 4, 3), 20
    mg.random.seed(3)
    net = ladder.Ladder(sizes, 0.3)
    for name, p in net.named_parameters():
        p.data = (p.numpy() + 0.3 * rng.normal(size=p.shape)).astype(np.float32)
    x = rng.normal(size=(n, 6)).astype(np.float32)
    mg.random.seed(5)
    draws = [mg.random.generator().standard_normal((n, m), dtype=np.float32) for m in sizes]
    mg.random.seed(5)
    cost, each = net.denoising(mg.Tensor(x), net.draws(n), weights)
    expected = ladder_by_hand(net, x.astype(np.float64), [0.3 * d.astype(np.float64) for d in draws], weights)
    assert cost.item() == pytest.approx(expected, rel=1e-4) and sorted(each) == sorted(weights)


@pytest.mark.parametrize("variant, weights", [("full", {0: 7, 1: 2, 2: 2, 3: 2}), ("gamma", {3: 5}), ("none", {})])
def test_sums_of_the_ladder(variant, weights):
    """Cross-entropy of the noisy path of the labelled, and the cost of the unlabelled, each normalised on their own.

    The clean path of the unlabelled alone moves the running statistics, by which the clean path predicts.
    """
    rng, sizes = np.random.default_rng(0), (6, 5, 4, 3)
    net, config = ladder.Ladder(sizes, 0.3), ladder.Config(weights=(7.0, 2.0), top=5.0, variant=variant)
    for name, p in net.named_parameters():
        p.data = (p.numpy() + 0.3 * rng.normal(size=p.shape)).astype(np.float32)
    x, u = rng.normal(size=(8, 6)).astype(np.float32), rng.normal(1, 2, (12, 6)).astype(np.float32)
    batch = data.Batch(x, np.arange(8) % 3, u, np.arange(12))
    mg.random.seed(5)
    noises = [[0.3 * mg.random.generator().standard_normal((len(part), m), dtype=np.float32) for m in sizes] for part in (x, u)]
    mg.random.seed(5)
    value, numbers = ladder.LadderMethod(config, net, Task(3, 8, 12, 100, as_it_is, as_it_is)).loss(batch, 0)
    supervised = -np.log(softmax(ladder_encoder(net, x, noises[0])[2])[np.arange(8), batch.y]).mean()
    assert value.item() == pytest.approx(supervised + ladder_by_hand(net, u, noises[1], weights), rel=1e-4)
    assert numbers.keys() == {f"level {k}" for k in weights}
    zs, stats, out = ladder_encoder(net, u, [0.0] * 4)
    np.testing.assert_allclose(net(mg.Tensor(u)).numpy(), out, rtol=1e-3, atol=1e-4)
    for k in (1, 2, 3):
        np.testing.assert_allclose(getattr(net, f"mean{k}"), 0.19 * stats[k][0], rtol=1e-3, atol=1e-5)  # twice a tenth of the way
    np.testing.assert_allclose(net.eval()(mg.Tensor(x)).numpy(), ladder_encoder(net, x, [0.0] * 4, True)[2], rtol=1e-3, atol=1e-4)


def test_the_combinator_begins_with_zero():
    """mu = sigmoid's and linear parts 0, v alike: z^ is 0, so that the cost of level 0 is the mean of x^2."""
    net, x = ladder.Ladder((6, 5, 3)), np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32)
    assert net.denoising(mg.Tensor(x), net.draws(9), {0: 1.0})[0].item() == pytest.approx((x**2).mean(), rel=1e-6)
    assert (net.a0.numpy() == np.eye(10)[[1, 6]].sum(0)[:, None]).all()


def test_no_gradient_of_the_ladder_is_stopped():
    """The clean path is a target that learns too: a level's cost reaches the weights by both paths and the statistics."""
    mg.random.seed(0)
    net, rng = ladder.Ladder((4, 3, 2), 0.0), np.random.default_rng(0)  # without noise the costs are equal each time
    for name, p in net.named_parameters():
        p.data = (p.numpy() + 0.5 * rng.normal(size=p.shape)).astype(np.float32)
    x, before = mg.Tensor(rng.normal(size=(9, 4)).astype(np.float32)), net.w1.numpy().copy()
    cost, _ = net.denoising(x, [], {1: 1.0, 2: 1.0})
    cost.backward()
    step, direction = 3e-3, rng.normal(size=(4, 3)).astype(np.float32)
    values = []
    for sign in (1, -1):
        net.w1.data = before + sign * step * direction
        values.append(net.denoising(x, [], {1: 1.0, 2: 1.0})[0].item())
    slope = float((net.w1.grad.numpy() * direction).sum())
    assert slope == pytest.approx((values[0] - values[1]) / (2 * step), rel=0.01) and abs(slope) > 0.01


def test_bins_of_ctaugment_follow_the_predictions():
    """omega = 1 - 1/2 |p - label|_1 moves a bin's memory; what falls below the threshold is never drawn."""
    learned, rng = CTAugment(("brightness", "rotate"), bins=5, depth=1), np.random.default_rng(0)

    class Wrong(MLP):
        def forward(self, x):  # sure of class 0
            return mg.Tensor(np.tile(np.float32([[9, 0]]), (len(x), 1)))

    x, y = np.random.default_rng(1).random((40, 1, 8, 8), np.float32), np.repeat([0, 1], 20)
    before = learned.m.copy()
    learned.update(Wrong((64,), 2), x, y, rng)
    p = softmax(np.array([[9.0, 0]]))[0, 0]
    omegas = {0: p, 1: 1 - p}
    expected, replay = before, np.random.default_rng(0)
    which, bins = replay.integers(0, 2, 40), replay.integers(0, 5, 40)
    for k, b, label in zip(which, bins, y):
        expected[k, b] = 0.99 * expected[k, b] + 0.01 * omegas[label]
    np.testing.assert_allclose(learned.m, expected, rtol=1e-5)
    assert learned.m.min() < 0.99
    learned.m[...] = [[1, 1, 1, 1, 1], [1, 0.5, 0.9, 0.7, 0.2]]
    drawn = learned.bins(np.ones(6000, int), rng)
    np.testing.assert_allclose(np.bincount(drawn, minlength=5) / 6000, np.array([1.01, 0, 0.91, 0, 0]) / 1.92, atol=0.02)
    assert set(learned.bins(np.zeros(500, int), rng)) == set(range(5))


def test_rotations_are_told_apart():
    x = np.random.default_rng(0).random((50, 3, 6, 6), np.float32)
    turned, turns = remixmatch.rotated(x, np.random.default_rng(1))
    assert set(turns) == {0, 1, 2, 3}
    for a, b, k in zip(x, turned, turns):
        np.testing.assert_array_equal(b, a[:, ::-1, ::-1] if k == 2 else a if k == 0 else
                                      a.transpose(0, 2, 1)[:, ::-1] if k == 1 else a.transpose(0, 2, 1)[:, :, ::-1])


def as_it_is(x, rng):
    return x


def linear_task(n, m, shape, classes=3, seed=0):
    """A linear network, its weight and bias, a task without augmentation, and a batch of n labelled and m other examples."""
    mg.random.seed(seed)
    rng, net = np.random.default_rng(seed), MLP((math.prod(shape),), classes)
    net.head.weight.data = rng.normal(size=net.head.weight.shape).astype(np.float32)
    x, u = rng.normal(size=(n, *shape)).astype(np.float32), rng.normal(size=(m, *shape)).astype(np.float32)
    task = Task(classes, n, m, 100, as_it_is, as_it_is, np.array([0.2, 0.3, 0.5]), seed)
    batch = data.Batch(x, np.arange(n) % classes, u, np.arange(m))
    return net, net.head.weight.numpy(), net.head.bias.numpy(), task, batch


def test_loss_of_remixmatch(monkeypatch):
    """CE(X') + lambda_U CE(U') + lambda_1 CE(q, first strong view) + lambda_r CE(rotation), without mixup."""
    net, w, b, task, batch = linear_task(4, 4, (1, 3, 3))
    config = remixmatch.Config(views=2, ramp=0.5, learned=False)
    method = remixmatch.ReMixMatch(config, net, task)
    method.alignment.recent[...] = [0.5, 0.3, 0.2]
    monkeypatch.setattr(remixmatch, "partners", lambda n, rng, alpha: (np.ones(n, np.float32), np.arange(n)))
    value, numbers = method.loss(batch, 25)
    p, pu = softmax(batch.x.reshape(4, 9) @ w.T + b), softmax(batch.u.reshape(4, 9) @ w.T + b)
    q = pu * np.array([0.2, 0.3, 0.5]) / np.array([0.5, 0.3, 0.2])
    q = (q / q.sum(1, keepdims=True)) ** 2  # T = 1/2
    q /= q.sum(1, keepdims=True)
    turns = np.random.default_rng((0, 7)).integers(0, 4, 4)
    turned = np.stack([np.rot90(x[0], k).ravel() for x, k in zip(batch.u, turns)])
    rotation = softmax(turned @ net.rotation.weight.numpy().T + net.rotation.bias.numpy())
    guessed = -(q * np.log(pu)).sum(1).mean()  # of every view the same here
    ramp = 25 / 50
    expected = (-np.log(p[np.arange(4), batch.y]).mean() + ramp * (1.5 + 0.5) * guessed
                - 0.5 * np.log(rotation[np.arange(4), turns]).mean())
    assert value.item() == pytest.approx(expected, rel=1e-4) and numbers["weight"] == ramp
    prior, seen = np.array([0.2, 0.3, 0.5]), (127 * np.array([0.5, 0.3, 0.2]) + pu.mean(0)) / 128
    assert numbers["divergence"] == pytest.approx((prior * np.log(prior / seen)).sum(), rel=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_a_task_needs_no_more_than_its_sizes_and_augmentations(name):
    *_, batch = linear_task(4, 4, (1, 4, 4))
    task, module = Task(3, 4, 4, 100, as_it_is, as_it_is), METHODS[name]
    net = module.Ladder((16, 5, 3)) if name == "ladder" else MLP((16,), 3)
    loss, _ = module.Objective(module.Config(), net, task).loss(batch, 0)
    assert np.isfinite(float(loss)) and (task.prior == 1 / 3).all()


@pytest.mark.parametrize("stop", [True, False])
def test_loss_of_vat(stop):
    """CE + alpha KL(p(u) || p(u + r)) + H entropy of p(u), r in a random direction; the left p is a constant or not."""
    net, w, b, task, batch = linear_task(3, 5, (6,))
    config = vat.Config(eps=1.5, iterations=0, alpha=2.0, entropy=0.7, stop_gradient=stop)
    task.weak = lambda x, rng: x + 1
    value = vat.VAT(config, net, task).loss(batch, 0)[0]
    batch.x, batch.u = batch.x + 1, batch.u + 1
    d = np.random.default_rng((0, 7)).standard_normal((5, 6), dtype=np.float32)
    r = 1.5 * d / np.linalg.norm(d, axis=1, keepdims=True)
    p, pu, pr = (softmax(x @ w.T + b) for x in (batch.x, batch.u, batch.u + r))
    divergence, entropy = (pu * np.log(pu / pr)).sum(1).mean(), -(pu * np.log(pu)).sum(1).mean()
    expected = -np.log(p[np.arange(3), batch.y]).mean() + 2 * divergence + 0.7 * entropy
    assert value.item() == pytest.approx(expected, rel=1e-4)
    value.backward()
    logits_slope = 2 * (pr - pu) / 5  # of the divergence
    target_slope = 0 if stop else 2 / 5 * pu * (np.log(pu / pr) - (pu * np.log(pu / pr)).sum(1, keepdims=True))
    right = np.eye(3)[batch.y]
    entropy_slope = -0.7 / 5 * pu * (np.log(pu) - (pu * np.log(pu)).sum(1, keepdims=True))
    expected = (p - right).T @ batch.x / 3 + logits_slope.T @ (batch.u + r) + (entropy_slope + target_slope).T @ batch.u
    np.testing.assert_allclose(net.head.weight.grad.numpy(), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("module, config", [(vat, vat.Config()), (mixmatch, mixmatch.Config(mix="no")),
                                            (remixmatch, remixmatch.Config(views=1, lambda_r=0.0))])
def test_running_statistics_come_from_one_pass(monkeypatch, module, config):
    """VAT: the labelled examples' pass; MixMatch and ReMixMatch: the first interleaved batch's."""
    monkeypatch.setattr(remixmatch, "partners", lambda n, rng, alpha: (np.ones(n, np.float32), np.arange(n)))
    net, task, batch = MLP((4, 3), 3), *linear_task(6, 6, (4,))[3:]
    net.layers[0].weight.data = np.eye(3, 4, dtype=np.float32)
    module.Objective(config, net, task).loss(batch, 0)
    first = batch.x if module is vat else np.concatenate([batch.x[:2], batch.u[2:4], batch.u[4:]])
    mean = (first[:, :3] + net.layers[0].bias.numpy()).mean(0)
    np.testing.assert_allclose(net.norms[0].running_mean, net.norms[0].momentum * mean, rtol=1e-4, atol=1e-6)


def shaken(x, rng):
    return (x + rng.normal(size=x.shape)).astype(np.float32)


@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize("on_logits", [False, True])
def test_passes_of_the_pi_model(on_logits, stop):
    """Each has its own augmentation and noise; the weight is that of the step, times the share of labelled examples."""
    net, w, b, task, batch = linear_task(2, 4, (5,))
    task.weak = shaken
    config = pi_model.Config(w_max=20.0, ramp=0.5, noise=0.3, on_logits=on_logits, stop_gradient=stop)
    value, numbers = pi_model.PiModel(config, net, task).loss(batch, 10)
    rng, x = np.random.default_rng((0, 7)), np.concatenate([batch.x, batch.u])
    seen = [shaken(x, rng) + np.float32(0.3) * rng.standard_normal(x.shape, dtype=np.float32) for _ in range(2)]
    z = [x @ w.T + b for x in seen]
    p = [softmax(each) for each in z]
    weight, right = 20 * 2 / 6 * math.exp(-5 * (1 - 10 / 50) ** 2), np.eye(3)[batch.y]
    difference = z[0] - z[1] if on_logits else p[0] - p[1]
    expected = -np.log(p[0][:2])[right > 0].sum() / 6 + weight * (difference**2).mean()
    assert value.item() == pytest.approx(expected, rel=1e-4) and numbers["weight"] == pytest.approx(weight)
    value.backward()

    def slope(k):  # of the consistency by the outputs of a pass
        d = (1 - 2 * k) * weight * 2 / 18 * difference
        return d if on_logits else p[k] * (d - (d * p[k]).sum(1, keepdims=True))

    expected = (p[0][:2] - right).T @ seen[0][:2] / 6 + sum(slope(k).T @ seen[k] for k in ((0,) if stop else (0, 1)))
    np.testing.assert_allclose(net.head.weight.grad.numpy(), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("own", [False, True])
def test_batches_of_mean_teacher(own):
    """The teacher has its own weights and augmentation, and normalises by its batch; no running statistics of it move."""
    task, batch = linear_task(3, 5, (4,))[3:]
    task.weak = shaken
    net = MLP((4, 8), 3)
    config = mean_teacher.Config(w_max=20.0, ramp=0.5, noise=0.3, own=own)
    method = mean_teacher.MeanTeacher(config, net, task)
    for p in method.teacher.net.parameters():
        p.data = p.numpy() + np.float32(0.5) * np.random.default_rng(1).standard_normal(p.shape, dtype=np.float32)
    method.teacher.net.eval()  # as after a test
    value, numbers = method.loss(batch, 10)
    rng, x = np.random.default_rng((0, 7)), np.concatenate([batch.x, batch.u])
    seen = [shaken(x, rng) + np.float32(0.3) * rng.standard_normal(x.shape, dtype=np.float32) for _ in range(1 + own)]

    def outputs(net, x):
        h = x @ net.layers[0].weight.numpy().T + net.layers[0].bias.numpy()
        h = np.maximum((h - h.mean(0)) / np.sqrt(h.var(0) + 1e-5) * net.norms[0].weight.numpy() + net.norms[0].bias.numpy(), 0)
        return softmax(h @ net.head.weight.numpy().T + net.head.bias.numpy())

    p, target, weight = outputs(net, seen[0]), outputs(method.teacher.net, seen[-1]), 20 * math.exp(-5 * (1 - 10 / 50) ** 2)
    expected = -np.log(p[np.arange(3), batch.y]).mean() + weight * ((p - target) ** 2).mean()
    assert value.item() == pytest.approx(expected, rel=1e-4) and numbers["weight"] == pytest.approx(weight)
    assert not method.teacher.net.norms[0].running_mean.any() and net.norms[0].running_mean.any()


def test_frame_of_the_methods():
    """Steps move the average; it is tested, or the present weights; teacher and random numbers are part of a checkpoint."""
    net, w, b, task, batch = linear_task(3, 5, (4,))
    method = METHODS["supervised"].Objective(METHODS["supervised"].Config(ema=0.9), net, task)
    net.head.weight.data = w + 1
    method.after_step(0)
    np.testing.assert_allclose(method.scores(batch.u), batch.u @ (w + 0.5).T + b, rtol=1e-4, atol=1e-5)  # decay 1/2 at first
    np.testing.assert_allclose(method.scores(batch.u, False), batch.u @ (w + 1).T + b, rtol=1e-4, atol=1e-5)
    assert method.schedule(30, 40) == base.learning_rate(30, 40, 1.0)
    assert {name: method.state()[name] for name in ("net", "teacher", "rng")} == dict(net=net, teacher=method.teacher,
                                                                                    rng=method.rng)


def test_passes_of_vat_share_their_dropout():
    """Without a change of the input there is no divergence; the next step has another mask."""
    task, batch = linear_task(3, 5, (6,))[3:]
    net = MLP((6, 20), 3, dropout=0.5)
    method, entropies = vat.VAT(vat.Config(eps=0.0, entropy=1.0, alpha=1.0), net, task), []
    for _ in range(2):
        value, numbers = method.loss(batch, 0)
        assert abs(float(numbers["divergence"])) < 1e-6
        entropies.append(float(value))
    assert abs(entropies[0] - entropies[1]) > 1e-3


def test_no_mask_of_vat_is_drawn_again():
    """The passes over the unlabelled examples have one mask, which is not that of any labelled pass, the next one's neither."""
    task, batch = linear_task(5, 5, (6,))[3:]
    masks = []

    class Masked(MLP):
        def features(self, x):
            masks.append(mg.dropout(mg.ones(x.shape)).numpy())
            return x * masks[-1]

    method = vat.VAT(vat.Config(), Masked((6,), 3), task)
    for _ in range(2):
        method.loss(batch, 0)
    kinds = [next(i for i, other in enumerate(masks) if (mask == other).all()) for mask in masks]
    assert kinds == [0, 1, 1, 1, 4, 5, 5, 5]


def test_guesses_of_mixmatch():
    net, w, b, _, batch = linear_task(3, 5, (6,))
    views = [batch.u, batch.u[::-1].copy()]
    mean = (softmax(views[0] @ w.T + b) + softmax(views[1] @ w.T + b)) / 2
    found = mixmatch.guess(net, list(map(mg.Tensor, views)), 0.5)
    np.testing.assert_allclose(found, mean**2 / (mean**2).sum(1, keepdims=True), rtol=1e-4)


@pytest.mark.parametrize("strong", [True, False])
def test_sum_of_uda(strong):
    """J = annealed cross-entropy + lambda times the consistency, at the threshold of the step, of the augmented images."""
    net, w, b, task, batch = linear_task(6, 5, (4,), seed=2)
    task.weak, task.strong = shaken, (lambda x, rng: 2 * shaken(x, rng))
    config = uda.Config(annealing="linear", lambda_u=3.0, beta=0.5, strong=strong)
    value, numbers = uda.UDA(config, net, task).loss(batch, 40)
    rng = np.random.default_rng((2, 7))
    x, weak, strong = shaken(batch.x, rng), shaken(batch.u, rng), (1 + strong) * shaken(batch.u, rng)
    p, z = softmax(x @ w.T + b)[np.arange(6), batch.y], weak @ w.T + b
    eta = 1 / 3 + 0.4 * 2 / 3
    sharp, mask, found = softmax(z / 0.4), softmax(z).max(1) > 0.5, softmax(strong @ w.T + b)
    kept = p <= eta
    assert 0 < kept.sum() < 6 and 0 < mask.sum()
    expected = -np.log(p[kept]).mean() + 3 * ((sharp * np.log(sharp / found)).sum(1) * mask).sum() / 5
    assert value.item() == pytest.approx(expected, rel=1e-4) and numbers["eta"] == pytest.approx(eta)


@pytest.mark.parametrize("mix", ["all", "apart", "labelled", "unlabelled", "no"])
def test_sum_of_mixmatch(mix):
    """Each view is drawn anew; the two are mixed with each other's examples, or apart; the weight is that of the step."""
    net, w, b, task, batch = linear_task(4, 4, (5,))
    task.weak = shaken
    config = mixmatch.Config(alpha=0.4, lambda_u=20.0, ramp=0.5, mix=mix)
    value, numbers = mixmatch.MixMatch(config, net, task).loss(batch, 10)
    rng = np.random.default_rng((0, 7))
    views = [shaken(batch.u, rng), shaken(batch.u, rng)]
    q = sum(softmax(view @ w.T + b) for view in views) / 2
    q = q**2 / (q**2).sum(1, keepdims=True)
    x, y = np.concatenate([shaken(batch.x, rng), *views]), np.concatenate([np.eye(3)[batch.y], q, q])

    def mixed(a, b):
        weight = rng.beta(0.4, 0.4, b - a)[:, None]
        weight, other = np.maximum(weight, 1 - weight), a + rng.permutation(b - a)
        for array in (x, y):
            array[a:b] = weight * array[a:b] + (1 - weight) * array[other]

    for a, b_ in {"all": [(0, 12)], "apart": [(0, 4), (4, 12)], "labelled": [(0, 4)], "unlabelled": [(4, 12)], "no": []}[mix]:
        mixed(a, b_)
    p = softmax(x @ w.T + b)
    expected = -(y[:4] * np.log(p[:4])).sum(1).mean() + 20 * 10 / 50 * ((p[4:] - y[4:]) ** 2).mean()
    assert value.item() == pytest.approx(expected, rel=1e-4) and numbers["weight"] == pytest.approx(4)


class Learned:
    """In the place of CTAugment: what it was told, and a change of images that is easy to tell."""

    def update(self, teacher, x, y, rng):
        self.told = teacher, x, y

    def __call__(self, x, rng):
        return 3 * x


@pytest.mark.parametrize("how", ["strong", "learned", "weak"])
def test_images_of_fixmatch(how):
    """CTAugment is told the labelled images as they are and the averaged weights; it changes weakly augmented ones."""
    net, w, b, task, batch = linear_task(5, 6, (1, 2, 2))
    task.weak, task.strong = shaken, (lambda x, rng: 2 * shaken(x, rng))
    method = fixmatch.FixMatch(fixmatch.Config(tau=0.6, strong=how != "weak"), net, task)
    method.learned = Learned() if how == "learned" else None
    value, _ = method.loss(batch, 0)
    rng = np.random.default_rng((0, 7))
    x, weak, strong = shaken(batch.x, rng), shaken(batch.u, rng), dict(weak=1, strong=2, learned=3)[how] * shaken(batch.u, rng)
    p, q, found = (softmax(part.reshape(-1, 4) @ w.T + b) for part in (x, weak, strong))
    losses = -np.log(found[np.arange(6), q.argmax(1)]) * (q.max(1) >= 0.6)
    assert value.item() == pytest.approx(-np.log(p[np.arange(5), batch.y]).mean() + losses.mean(), rel=1e-4)
    if how == "learned":
        teacher, x, y = method.learned.told
        assert teacher is method.teacher.net and x is batch.x and y is batch.y


def test_soft_labels_of_fixmatch():
    weak, strong = logits(40, 5), logits(40, 5, seed=1)
    value, mask = fixmatch.unsupervised(mg.Tensor(weak), mg.Tensor(strong), 0.9, 0.5)
    q, p = softmax(weak) ** 2, softmax(strong)
    losses = -(q / q.sum(1, keepdims=True) * np.log(p)).sum(1)
    assert value.item() == pytest.approx((losses * mask).mean()) and (mask == (softmax(weak).max(1) >= 0.9)).all()


@pytest.mark.parametrize("how", ["strong", "learned", "weak"])
@pytest.mark.parametrize("align", [True, False])
def test_images_of_remixmatch(monkeypatch, how, align):
    """The weak view is guessed from, and learned beside the strong ones, the first of which comes again, and turned."""
    net, w, b, task, batch = linear_task(4, 4, (1, 3, 3))
    task.weak, task.strong = shaken, (lambda x, rng: 2 * shaken(x, rng))
    config = remixmatch.Config(views=2, ramp=0.5, strong=how != "weak", align=align, learned=False)
    method = remixmatch.ReMixMatch(config, net, task)
    method.alignment.recent[...] = [0.5, 0.3, 0.2]
    method.learned = Learned() if how == "learned" else None
    monkeypatch.setattr(remixmatch, "partners", lambda n, rng, alpha: (np.ones(n, np.float32), np.arange(n)))
    value, _ = method.loss(batch, 25)
    rng, factor = np.random.default_rng((0, 7)), dict(weak=1, strong=2, learned=3)[how]
    weak, *views = shaken(batch.u, rng), *(factor * shaken(batch.u, rng) for _ in range(2))
    x, turns = factor * shaken(batch.x, rng), rng.integers(0, 4, 4)

    def p(x):
        return softmax(x.reshape(4, 9) @ w.T + b)

    q = p(weak) * (np.array([0.2, 0.3, 0.5]) / np.array([0.5, 0.3, 0.2]) if align else 1)
    q = (q / q.sum(1, keepdims=True)) ** 2
    q /= q.sum(1, keepdims=True)
    guessed = [-(q * np.log(p(view))).sum(1).mean() for view in (*views, weak)]
    turned = np.stack([np.rot90(x[0], k).ravel() for x, k in zip(views[0], turns)])
    rotation = softmax(turned @ net.rotation.weight.numpy().T + net.rotation.bias.numpy())
    expected = (-np.log(p(x)[np.arange(4), batch.y]).mean() + 0.5 * (1.5 * np.mean(guessed) + 0.5 * guessed[0])
                - 0.5 * np.log(rotation[np.arange(4), turns]).mean())
    assert value.item() == pytest.approx(expected, rel=1e-4)
    if how == "learned":
        teacher, x, y = method.learned.told
        assert teacher is method.teacher.net and x is batch.x and y is batch.y


def test_operations_of_ctaugment(monkeypatch):
    """`depth` operations at levels of their bins, then cutout; labelled images are probed by the network in evaluation mode."""
    learned, x = CTAugment(("brightness", "rotate"), 0.25, bins=5, depth=3), np.random.default_rng(1).random((9, 1, 8, 8))
    applied, drawn = [], []
    monkeypatch.setattr(data.augment, "apply", lambda x, names, which, levels, fill: applied.append((which, levels)) or x)
    monkeypatch.setattr(learned, "bins", lambda which, rng: drawn.append(rng.integers(0, 5, 9)) or drawn[-1])
    monkeypatch.setattr(data.augment, "cutout", lambda x, rng, size, fill: (x, size, fill))
    assert learned(x, np.random.default_rng(0))[1:] == (0.5, 0.25) and len(applied) == 3
    assert all((np.floor(levels * 5) == bins).all() for (_, levels), bins in zip(applied, drawn))
    assert all(len(set(levels)) == 9 for _, levels in applied) and {k for which, _ in applied for k in which} == {0, 1}
    net = MLP((64,), 2).train()
    learned.update(net, x.astype(np.float32), np.arange(9) % 2, np.random.default_rng(0))
    assert not net.training and len(applied) == 6


@pytest.mark.parametrize("module", [module for module in METHODS.values() if hasattr(module.Config, "learned")])
@pytest.mark.parametrize("strong, learned", [(True, True), (True, False), (False, True)])
def test_strengths_are_learned_for_strong_augmentation_alone(module, strong, learned):
    """Without it no labelled image is probed, which would take a pass and random numbers, and nothing of it is saved."""
    net, _, _, task, batch = linear_task(4, 4, (1, 8, 8))
    task.operations = ("brightness", "rotate")
    batch.x, batch.u = abs(batch.x) % 1, abs(batch.u) % 1  # operations take images from 0 to 1
    found = []
    for asked in (learned, False):
        mg.random.seed(0)
        config = dataclasses.replace(module.Config(), strong=strong, learned=asked)
        method = module.Objective(config, copy.deepcopy(net), task)
        found.append((method.loss(batch, 0)[0].item(), "ctaugment" in method.state()))
    assert found[0][1] == (strong and learned) and not found[1][1]
    assert (found[0] == found[1]) == (not (strong and learned))


PAPERS = {  # of each method's Config
    "pi_model": dict(w_max=100, ramp=80 / 300, noise=0.15, dropout=0.5),
    "mean_teacher": dict(w_max=8, ramp=40 / 150, noise=0.15, dropout=0.5, ema=0.999),
    "temporal_ensembling": dict(w_max=30, alpha=0.6, ramp=80 / 300, noise=0.15, dropout=0.5),
    "vat": dict(eps=8, iterations=1, alpha=1), "uda": dict(temperature=0.4, beta=0.8, lambda_u=1, ema=0.9999),
    "mixmatch": dict(views=2, temperature=0.5, alpha=0.75, lambda_u=75, ema=0.999),
    "remixmatch": dict(views=8, temperature=0.5, alpha=0.75, lambda_u=1.5, lambda_1=0.5, lambda_r=0.5, ema=0.999),
    "fixmatch": dict(tau=0.95, lambda_u=1, ema=0.999), "softmatch": dict(n_sigma=2, momentum=0.999, lambda_u=1),
    "freematch": dict(momentum=0.999, lambda_u=1), "pseudo_label": dict(alpha=3),
    "ladder": dict(hidden=(1000, 500, 250, 250, 250), noise=0.3, weights=(1000, 10, 0.1))}


@pytest.mark.parametrize("name", PAPERS)
def test_settings_are_the_papers(name):
    config = METHODS[name].Config()
    assert {key: getattr(config, key) for key in PAPERS[name]} == PAPERS[name]


def test_weights_of_the_ladder_begin_at_the_scale_of_their_inputs():
    mg.random.seed(0)
    net = ladder.Ladder((100, 400, 3))
    assert net.w1.numpy().std() == pytest.approx(1 / 10, rel=0.02) and net.v1.numpy().std() == pytest.approx(1 / 20, rel=0.02)


def test_settings_of_ctaugment_are_the_papers():
    draws = CTAugment(("identity",))
    assert (draws.m.shape, draws.depth, draws.rho, draws.threshold) == ((1, 17), 2, 0.99, 0.8) and (draws.m == 1).all()
