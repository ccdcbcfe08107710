"""Siamese and matching networks: their equations against plain NumPy, and short runs that learn."""
import numpy as np
import pytest

import minigrad as mg
from methods.few_shot import maml_tasks, matching, prototypical, siamese
from minigrad import data, nn


def test_attention_by_hand():
    rng = np.random.default_rng(0)
    support, queries = rng.normal(size=(6, 4)), rng.normal(size=(5, 4))
    cosine = np.array([[q @ s / np.linalg.norm(q) / np.linalg.norm(s) for s in support] for q in queries])
    a = np.exp(3 * cosine) / np.exp(3 * cosine).sum(1, keepdims=True)
    expected = np.stack([a[:, :2].sum(1), a[:, 2:4].sum(1), a[:, 4:].sum(1)], 1)
    found = matching.log_probabilities(mg.Tensor(support), mg.Tensor(queries), 3, 3.0)
    np.testing.assert_allclose(np.exp(found.numpy()), expected, atol=1e-7)


def test_one_shot_matching_is_a_prototypical_network_with_the_cosine():
    rng = np.random.default_rng(1)
    support, queries = mg.Tensor(rng.normal(size=(7, 4))), mg.Tensor(rng.normal(size=(5, 4)))
    ours = mg.softmax(matching.log_probabilities(support, queries, 7), 1).numpy()
    theirs = mg.softmax(prototypical.classify(support, queries, 7, "cosine"), 1).numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-7)
    with_shots = matching.log_probabilities(mg.concatenate([support[:6]]), queries, 3).numpy()
    theirs = mg.softmax(prototypical.classify(support[:6], queries, 3, "cosine"), 1).numpy()
    assert not np.allclose(np.exp(with_shots), theirs, atol=1e-3)


def read(context, support, queries):
    g = context.g(mg.Tensor(support))
    return g, context.f(mg.Tensor(queries), g)


def test_context_sees_the_other_examples():
    mg.random.seed(0)
    rng = np.random.default_rng(3)
    support, queries = rng.normal(size=(4, 6)).astype(np.float32), rng.normal(size=(3, 6)).astype(np.float32)
    context = matching.Context(6, reads=2)
    g, f = read(context, support, queries)
    assert g.shape == (4, 6) and f.shape == (3, 6)
    support[3] += 1
    g2, f2 = read(context, support, queries)
    assert (abs(g2.numpy() - g.numpy()).max(1) > 1e-4).all() and (abs(f2.numpy() - f.numpy()).max(1) > 1e-6).all()


def test_context_by_its_equations():
    """g = both LSTMs' states + g'; f reads the support set with attention, h = LSTM + f', beginning with f' and nothing read."""
    mg.random.seed(0)
    rng, context = np.random.default_rng(3), matching.Context(4, reads=3)
    x, queries = rng.normal(size=(5, 4)).astype(np.float32), rng.normal(size=(3, 4)).astype(np.float32)
    p = {name: value.numpy().astype(np.float64) for name, value in context.named_parameters()}

    def cell(x, h, c, name, suffix=""):
        sigmoid = lambda v: 1 / (1 + np.exp(-v))
        i, f, g, o = np.split(x @ p[f"{name}.weight_ih{suffix}"].T + p[f"{name}.bias_ih{suffix}"]
                              + h @ p[f"{name}.weight_hh{suffix}"].T + p[f"{name}.bias_hh{suffix}"], 4, -1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c

    def states(x, suffix):
        h, c, found = np.zeros(4), np.zeros(4), []
        for row in x:
            h, c = cell(row, h, c, "both_ways", suffix)
            found.append(h)
        return np.array(found)

    wanted = states(x, "_l0") + states(x[::-1], "_l0_reverse")[::-1] + x
    g, f = read(context, x, queries)
    np.testing.assert_allclose(g.numpy(), wanted, rtol=1e-4, atol=1e-5)
    h, r, c = queries, np.zeros((3, 4)), np.zeros((3, 8))
    for _ in range(3):
        out, c = cell(queries, np.concatenate([h, r], 1), c, "read")
        h = out @ p["project.weight"].T + queries
        a = np.exp(h @ wanted.T)
        r = a / a.sum(1, keepdims=True) @ wanted
    np.testing.assert_allclose(f.numpy(), h, rtol=1e-4, atol=1e-5)


def test_probabilities_of_siamese_networks_add_up_to_one():
    mg.random.seed(0)
    model, rng = siamese.Siamese(nn.Flatten(), 4), np.random.default_rng(0)
    prepared, queries = (mg.Tensor(rng.normal(size=(n, 4)).astype(np.float32)) for n in (6, 5))
    p, scores = model.probabilities(prepared, queries, 3).numpy(), model.compare(prepared, queries, 3).numpy()
    np.testing.assert_allclose(p, scores / scores.sum(1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("model", [
    prototypical.PrototypicalNetwork(nn.Flatten()), prototypical.PrototypicalNetwork(nn.Flatten(), "cosine"),
    matching.MatchingNetwork(nn.Flatten(), 4), matching.MatchingNetwork(nn.Flatten(), 4, context=True),
    siamese.Siamese(nn.Flatten(), 4), maml_tasks.CharacterLearner(dict(way=3, inner_steps=1, test_steps=1), width=2)],
    ids=["euclidean", "cosine", "matching", "context", "siamese", "maml"])
def test_examples_of_classes_are_equally_many(model):
    """Anything else is refused: labels would be given to the wrong examples."""
    maml = isinstance(model, maml_tasks.CharacterLearner)
    x = mg.Tensor(np.random.default_rng(0).random((7, 1, 28, 28) if maml else (7, 4), np.float32))
    assert model.classify(x[:6], x[:2], 3).shape == (2, 3)
    for count, way in ((7, 3), (2, 3), (0, 3), (6, 0)):
        if way == 3 or not maml:
            with pytest.raises(ValueError, match=f"{count} examples are not equally many of each of {way} classes"):
                model.classify(x[:count], x[:2], way)
    if maml:
        with pytest.raises(ValueError, match="this network tells 3 classes apart, not 2"):
            model.classify(x[:6], x[:2], 2)


def test_the_order_of_the_examples_is_drawn_anew_in_training():
    """Else the LSTM could learn it; answers are the same each time."""
    mg.random.seed(0)
    model, rng = matching.MatchingNetwork(nn.Flatten(), 6, context=True, reads=1), np.random.default_rng(3)
    support, query = (rng.normal(size=(8, 6)).astype(np.float32) for _ in range(2))
    episode = data.Episode(support, np.arange(4).repeat(2), query, np.arange(4).repeat(2), np.arange(4))
    losses = {matching.Matching(None, model).loss(episode, 0)[0].item() for _ in range(4)}
    assert len(losses) > 1
    first, second = (model.prepare(mg.Tensor(support), 4).numpy() for _ in range(2))
    np.testing.assert_array_equal(first, second)
    order = np.random.default_rng(8).permutation(8)
    np.testing.assert_array_equal(first[order], model.context.g(mg.Tensor(support[order])).numpy())


def test_siamese_probability_and_loss_by_hand():
    rng = np.random.default_rng(4)
    model = siamese.Siamese(lambda x: x.reshape(len(x), -1), 4)
    images, labels = rng.normal(size=(6, 1, 2, 2)).astype(np.float32), np.array([3, 3, 3, 7, 7, 9])
    a, b = model.distance.weight.numpy()[0], model.distance.bias.item()
    losses, right = {True: [], False: []}, {True: [], False: []}
    for i, j in np.ndindex(6, 6):
        if i != j:
            p, same = 1 / (1 + np.exp(-(abs(images[i] - images[j]).reshape(4) @ a + b))), bool(labels[i] == labels[j])
            losses[same].append(-np.log(p if same else 1 - p))
            right[same].append((p > 0.5) == same)
    loss, numbers = siamese.SiameseMethod(None, model).loss((images, labels), 0)
    assert [len(losses[same]) for same in (True, False)] == [8, 22]
    assert loss.item() == pytest.approx(sum(np.mean(each) for each in losses.values()) / 2, rel=1e-5)
    assert numbers["accuracy"] == pytest.approx(sum(np.mean(each) for each in right.values()) / 2)
    support, queries = (mg.Tensor(rng.normal(size=(n, 4)).astype(np.float32)) for n in (4, 3))
    by_hand = [[np.mean([1 / (1 + np.exp(-(abs(q - s) @ a + b))) for s in support.numpy()[2 * k:2 * k + 2]]) for k in range(2)]
               for q in queries.numpy()]
    np.testing.assert_allclose(model.classify(support, queries, 2).numpy(), by_hand, rtol=1e-5)


def test_batches_of_classes_are_what_they_say():
    images = np.broadcast_to(np.arange(8)[:, None, None, None], (8, 3, 2, 2)) + 0.1 * np.arange(3)[:, None, None]
    for within in (0.0, 1.0):
        sampler, seen = siamese.ClassSampler(images, 3, 2, within, alphabets=["a"] * 4 + ["b"] * 4), []
        for _ in range(20):
            x, y = sampler.sample()
            assert x.shape == (6, 1, 2, 2) and (x[:, 0, 0, 0].astype(int) == y).all()
            assert sorted(np.unique(y, return_counts=True)[1]) == [2, 2, 2] and len(np.unique(x[:, 0, 0, 0])) == 6
            seen.append(len({k // 4 for k in y}))
        assert set(seen) == ({1} if within else {1, 2})
    uneven = siamese.ClassSampler([np.zeros((n, 2, 2)) for n in (2, 3, 4)], 9, 3, 1.0, alphabets=["a", "b", "c"])
    x, y = uneven.sample()  # no alphabet has two classes
    assert sorted(np.bincount(y)) == [2, 3, 3] and len(x) == 8


def test_the_rate_of_siamese_networks_falls_to_nothing():
    method = siamese.SiameseMethod(siamese.Config(), siamese.Siamese(nn.Flatten(), 4))
    rates = [method.schedule(step, 10) for step in range(11)]
    assert rates[0] == 1 and rates[5] == pytest.approx(0.5) and rates[10] == pytest.approx(0) and rates == sorted(rates)[::-1]


@pytest.mark.parametrize("context, learn_scale", [(False, False), (True, False), (False, True)])
def test_matching_learns(context, learn_scale):
    mg.random.seed(0)
    from minigrad import optim
    rng = np.random.default_rng(5)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 8))
    model = matching.MatchingNetwork(net, 8, scale=5.0, learn_scale=learn_scale, context=context, reads=2)
    optimizer = optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        centres = np.zeros((4, 1, 16), np.float32)
        centres[:, 0, :4] = np.eye(4)[rng.permutation(4)]  # 12 of 16 numbers are noise
        x = (centres + rng.normal(0, 1, (4, 4, 16)) * np.r_[np.full(4, 0.1), np.ones(12)]).astype(np.float32)
        episode = data.Episode(x[:, :1].reshape(4, 16), np.arange(4), x[:, 1:].reshape(12, 16), np.arange(4).repeat(3),
                               np.arange(4))
        loss, _ = matching.Matching(None, model).loss(episode, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:10])
    assert learn_scale == (float(model.scale) != 5)
