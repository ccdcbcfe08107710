"""Prototypical networks: the equations against plain NumPy, the linear form, and a run that learns, dies and resumes."""
import json

import numpy as np
import pytest

import minigrad as mg
from methods.few_shot import prototypical
from minigrad import data


def test_logits_are_distances_to_class_means():
    rng = np.random.default_rng(0)
    support, queries = rng.normal(size=(3 * 2, 4)), rng.normal(size=(5, 4))
    centres = np.stack([support[2 * k:2 * k + 2].mean(0) for k in range(3)])
    own = prototypical.prototypes(mg.Tensor(support), 3)
    np.testing.assert_allclose(own.numpy(), centres)
    expected = np.array([[-((q - c) ** 2).sum() for c in centres] for q in queries])
    np.testing.assert_allclose(prototypical.logits(mg.Tensor(queries), own).numpy(), expected)
    linear = 2 * queries @ centres.T - (centres ** 2).sum(1)  # section 2.4: w = 2 c, b = -|c|^2
    gap = expected - linear
    np.testing.assert_allclose(gap, np.broadcast_to(gap[:, :1], gap.shape))
    cosine = [[1 - q @ c / np.linalg.norm(q) / np.linalg.norm(c) for c in centres] for q in queries]
    np.testing.assert_allclose(-prototypical.logits(mg.Tensor(queries), own, "cosine").numpy(), cosine, atol=1e-7)


@pytest.mark.parametrize("distance", prototypical.DISTANCES)
def test_loss_of_an_episode(distance):
    """The mean over the queries, which pass the network in one batch with the support set."""
    from minigrad import nn
    rng = np.random.default_rng(1)
    net = prototypical.PrototypicalNetwork(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4)), distance)
    support, query = rng.normal(size=(6, 1, 2, 2)).astype(np.float32), rng.normal(1, 2, (9, 1, 2, 2)).astype(np.float32)
    episode = data.Episode(support, np.arange(3).repeat(2), query, np.arange(3).repeat(3), np.arange(3))
    value, numbers = prototypical.Prototypical(prototypical.Config(distance=distance), net).loss(episode, 0)
    x = np.concatenate([support, query]).reshape(15, 4)
    x = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
    centres, x = x[:6].reshape(3, 2, 4).mean(1), x[6:]
    cosines = x @ centres.T / np.linalg.norm(x, axis=1)[:, None] / np.linalg.norm(centres, axis=1)
    z = cosines if distance == "cosine" else -((x[:, None] - centres) ** 2).sum(2)
    losses = np.log(np.exp(z).sum(1)) - z[np.arange(9), episode.query_labels]
    assert value.item() == pytest.approx(losses.mean(), rel=1e-4)
    assert numbers["accuracy"] == pytest.approx((z.argmax(1) == episode.query_labels).mean())


def test_the_rate_of_prototypical_networks():
    rates = {kind: [prototypical.Prototypical(prototypical.Config(schedule=kind, halve_every=3), None).schedule(step, 8)
                    for step in (0, 2, 3, 4, 6, 8)] for kind in ("halve", "cosine")}
    assert rates["halve"] == [1, 1, 0.5, 0.5, 0.25, 0.25] and rates["cosine"][3] == pytest.approx(0.5)


def test_a_run_learns_and_resumes_to_the_same_bits(tmp_path, shared_cache):
    pytest.importorskip("tyro")
    from examples import prototypical_networks as example
    from minigrad import io

    def run(out, steps, resume=False):
        example.main(example.Run(steps=steps, width=8, way=10, episodes=20, out=str(tmp_path / out), resume=resume))
        return io.load(tmp_path / out / "checkpoint.safetensors")

    whole, facts = run("a", 40)
    run("b", 20)
    with pytest.raises(FileExistsError, match="--resume"):
        run("b", 40)
    halves, _ = run("b", 40, resume=True)
    assert facts["step"] == 40 and all((whole[k] == halves[k]).all() for k in whole)
    log = [json.loads(line) for line in (tmp_path / "b" / "metrics.jsonl").read_text().splitlines()]
    assert [m["step"] for m in log] == [10, 20, 30, 40] and log[-1]["loss"] < log[0]["loss"]
    assert all((tmp_path / "b" / name).exists() for name in ("episode.png", "curves.png", "embeddings.png", "config.json"))


def test_new_images_are_embedded_at_five_places():
    from minigrad import nn
    rng = np.random.default_rng(2)
    net = nn.Sequential(nn.Flatten(), nn.Linear(20, 3))
    x = rng.normal(size=(2, 1, 4, 5)).astype(np.float32)

    def shifted(dy, dx):
        moved = np.zeros_like(x)
        moved[:, :, max(dy, 0):4 + min(dy, 0), max(dx, 0):5 + min(dx, 0)] = x[:, :, max(-dy, 0):4 + min(-dy, 0),
                                                                              max(-dx, 0):5 + min(-dx, 0)]
        return net(mg.Tensor(moved)).numpy()

    model = prototypical.PrototypicalNetwork(net, shift=2)
    np.testing.assert_array_equal(model.train()(mg.Tensor(x)).numpy(), shifted(0, 0))
    want = np.mean([shifted(*at) for at in ((0, 0), (2, 0), (-2, 0), (0, 2), (0, -2))], 0)
    np.testing.assert_allclose(model.eval()(mg.Tensor(x)).numpy(), want, rtol=1e-5, atol=1e-6)
    plain = prototypical.PrototypicalNetwork(net).eval()
    np.testing.assert_array_equal(plain(mg.Tensor(x)).numpy(), shifted(0, 0))


def test_episodes_within_an_alphabet_are_of_one_and_of_all_that_are_large_enough():
    from methods.few_shot.evaluation import within_alphabets
    names = [f"{alphabet}/{i}" for alphabet, size in (("a", 4), ("b", 2), ("c", 3)) for i in range(size)]
    images = np.arange(9)[:, None] * np.ones((9, 5))
    sampler, seen = within_alphabets(images, names, 3, 1, 2, seed=1), set()
    for _ in range(40):
        episode = sampler.sample()
        alphabets = {names[int(k)][0] for k in np.concatenate([episode.support, episode.query])}
        assert len(alphabets) == 1 and len(np.unique(episode.support)) == 3 and len(episode.query) == 6
        seen |= alphabets
    assert seen == {"a", "c"}
    with pytest.raises(ValueError, match="5-way episodes of one alphabet need one of 5 classes"):
        within_alphabets(images, names, 5, 1, 2)


def test_the_table_tells_how_well_characters_of_one_alphabet_are_told_apart(capsys):
    from types import SimpleNamespace

    from methods.few_shot.evaluation import table
    from methods.few_shot.prototypical import classify
    rng = np.random.default_rng(0)
    images = (np.eye(48).repeat(4, 0).reshape(48, 4, 6, 8) + rng.normal(0, 0.01, (48, 4, 6, 8))).astype(np.float32)
    for sizes, told in (((24, 24), True), ((19, 29), True), ((16, 16, 16), False), ((48,), False)):
        names = [f"{k}/{i}" for k, size in enumerate(sizes) for i in range(size)]
        found = table("ours", classify, images.reshape(48, 4, 48), data.Characters(images, names),
                      SimpleNamespace(episodes=3, seed=0, device="cpu"))
        said = capsys.readouterr().out
        assert found.keys() == {(5, 1), (20, 1)} and ("one alphabet" in said) == told
        assert said.count("100.0 +- 0.0") == 2 * (2 + told)


def test_a_shift_out_of_the_frame_is_refused_before_training(tmp_path):
    from examples import maml, prototypical_networks
    from methods.few_shot.base import five_places
    for shift in (-1, 4, 9):
        with pytest.raises(ValueError, match="shift: 0 to 3 for images of 4 x 5"):
            five_places(mg.zeros(2, 1, 4, 5), shift)
    for example in (maml, prototypical_networks):
        with pytest.raises(SystemExit, match="--shift 28: images of 28 pixels"):
            example.main(example.Run(shift=28, steps=1, out=str(tmp_path / "run")))
        assert not (tmp_path / "run" / "metrics.jsonl").exists()
