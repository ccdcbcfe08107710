"""Self-supervised methods: their equations against plain NumPy, and short runs that learn, die and resume."""
import dataclasses
import json
import math

import numpy as np
import pytest
from checks import interrupted

import minigrad as mg
from examples import (
    attention, compare_self_supervised, compare_transfer, embed, self_supervised, simclr_v2, vit_resolution)
from methods.self_supervised import METHODS, byol, cpc_images, dino, distillation, mae, simclr, vicreg
from methods.self_supervised.base import Batches, Task, spread
from methods.self_supervised.evaluation import Tuning, fine_tuned, nearest, worth
from methods.training import checkpoint, encoders, networks
from methods.training.evaluation import accuracy
from methods.training.loop import train
from methods.training.run import RunFolder
from methods.training.teacher import cosine_momentum
from methods.transfer import linear
from minigrad import nn

rng = np.random.default_rng(0)
pytestmark = pytest.mark.usefixtures("quick_maps")


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


# -- equations ---------------------------------------------------------------------------------------------------------

def test_simclr_is_the_mean_over_both_views_of_every_picture():
    z, tau = rng.normal(size=(8, 5)), 0.3
    u, losses = unit(z), []
    for i in range(8):
        s = np.exp(u @ u[i] / tau)
        losses.append(-np.log(s[(i + 4) % 8] / (s.sum() - s[i])))
    assert float(simclr.loss(mg.Tensor(z), tau)) == pytest.approx(np.mean(losses))
    many = rng.normal(size=(256, 4096))
    assert float(simclr.loss(mg.Tensor(many), 1.0)) == pytest.approx(math.log(255), abs=0.05)


def test_byol_predicts_a_constant():
    q, t = mg.Tensor(rng.normal(size=(6, 4)), requires_grad=True), mg.Tensor(rng.normal(size=(6, 4)), requires_grad=True)
    found = byol.distance(q, t)
    assert float(found) == pytest.approx(np.mean(np.sum((unit(q.numpy()) - unit(t.numpy())) ** 2, 1)))
    found.backward()
    assert t.grad is None and q.grad is not None
    assert float(byol.distance(q, mg.Tensor(-3 * q.numpy()))) == pytest.approx(4)
    assert cosine_momentum(0, 10, 0.9) == pytest.approx(0.9) and cosine_momentum(10, 10, 0.9) == 1


def test_only_a_decoder_has_a_bias_in_its_last_layer():
    def biases(name, **changes):
        return [layer.bias is not None for layer in made(name, **changes).heads.modules() if isinstance(layer, nn.Linear)]

    assert biases("byol") == [False] * 4 and biases("byol", predictor=False) == [False] * 2
    assert biases("vicreg") == [False] * 3 and biases("simclr", layers=3) == [False] * 3
    assert biases("denoising") == [False, True]


def test_vicreg_and_barlow_twins():
    z, o = rng.normal(size=(7, 4)), rng.normal(size=(7, 4))
    want = 25 * np.mean((z - o) ** 2)
    for each in (z, o):
        want += 25 * np.maximum(0, 1 - np.sqrt(each.var(0, ddof=1) + 1e-4)).mean()
        covariance = np.cov(each.T)
        want += (covariance ** 2).sum() / 4 - (np.diag(covariance) ** 2).sum() / 4
    assert float(vicreg.vicreg(mg.Tensor(z), mg.Tensor(o), 25, 25, 1)) == pytest.approx(want)
    a, b = ((each - each.mean(0)) / np.sqrt(each.var(0) + 1e-5) for each in (z, o))
    c = a.T @ b / 7
    want = ((1 - np.diag(c)) ** 2).sum() + 5e-3 * ((c ** 2).sum() - (np.diag(c) ** 2).sum())
    assert float(vicreg.barlow_twins(mg.Tensor(z), mg.Tensor(o), 5e-3)) == pytest.approx(want)


@pytest.mark.parametrize("call", [lambda z: simclr.loss(z, 0.5), lambda z: vicreg.vicreg(z[:1], z[1:], 25.0, 25.0, 1.0),
                                  lambda z: vicreg.barlow_twins(z[:1], z[1:], 5e-3)], ids=["simclr", "vicreg", "barlow"])
def test_one_picture_is_compared_with_nothing(call):
    with pytest.raises(ValueError, match="two or more are needed, not 1"):
        call(mg.Tensor(rng.normal(size=(2, 4))))
    with pytest.raises(ValueError, match="two views"):
        simclr.loss(mg.Tensor(rng.normal(size=(5, 4))), 0.5)


def test_dino_pairs_each_global_view_with_all_other_views():
    student, tau = [rng.normal(size=(3, 5)) for _ in range(4)], 0.1
    targets = [np.exp(t) / np.exp(t).sum(1, keepdims=True) for t in (rng.normal(size=(3, 5)) for _ in range(2))]
    terms = [-(targets[t] * (s / tau - np.log(np.exp(s / tau).sum(1, keepdims=True)))).sum(1).mean()
             for t in range(2) for i, s in enumerate(student) if i != t]
    assert len(terms) == 2 * (2 + 2) - 2
    assert float(dino.loss([mg.Tensor(s) for s in student], targets, tau)) == pytest.approx(np.mean(terms))
    assert dino.entropy(np.full(8, 1 / 8)) == pytest.approx(math.log(8)) and dino.entropy(np.eye(3)).tolist() == [0, 0, 0]
    x = mg.Tensor(rng.normal(size=(5, 6)).astype(np.float32) + 9)
    for norm in (False, True):
        head = dino.Head(6, 8, 4, 10, norm)
        assert np.abs(head(x).numpy()).max() <= 1 + 1e-5
        hidden = head.mlp[0](x) if not norm else head.mlp[1](head.mlp[0](x))
        assert (np.abs(hidden.numpy().mean(0)).max() < 1e-5) == norm


def task(channels=3, size=16, images=20, classes=4, steps=10):
    return Task(size, channels, images, 8, steps, classes, flip=True)


def batch_of(n=8, channels=3, size=16):
    from methods.self_supervised.base import Batch
    return Batch(rng.random((n, channels, size, size), dtype=np.float32), np.arange(n), np.arange(n) % 4)


def made(name, channels=3, size=16, **changes):
    run = dataclasses.replace(self_supervised.settings(name), width=2, depth=1, network="small", **changes)
    module = METHODS[name]
    architecture = (module.architecture(run, channels, size) if hasattr(module, "architecture")
                    else networks.architecture(run.network, channels, size, 0, 0.0, 2, 1))
    return module.Objective(run, architecture.build(), task(channels, size))


@pytest.mark.parametrize("local_size", [8, 16, 24])
def test_dino_pairs_views_whichever_are_larger(local_size, monkeypatch):
    method, found = made("dino", local_views=1, local_size=local_size), []
    monkeypatch.setattr(method, "together", lambda x, n: [x.shape[-1]] * (len(x) // n))
    monkeypatch.setattr(dino, "loss", lambda student, targets, tau: found.append(student))
    method.loss(batch_of(), 0)
    assert found == [[16, 16, local_size]]


def test_dino_uses_the_centre_before_it_moves_and_on_the_raw_outputs():
    method, batch = made("dino", centre=0.5, local_views=1), batch_of()
    method.c.data = np.full(method.c.shape, 0.25, np.float32)
    state = method.rng.bit_generator.state
    first, _ = method.loss(batch, 0)
    raw = (method.c.numpy() - 0.125) / 0.5
    assert np.abs(raw).max() <= 1 + 1e-5 and raw.std() > 0  # a mean of cosines, not of probabilities
    method.rng.bit_generator.state = state
    method.c.data = np.full(method.c.shape, 0.25, np.float32)
    assert float(method.loss(batch, 0)[0]) == pytest.approx(float(first), rel=1e-5)
    first.backward()
    assert all(p.grad is None for p in method.teacher.net.parameters())
    method.after_backward(0)
    assert method.heads.last.weight.grad is None and method.heads.mlp[0].weight.grad is not None


def test_masked_patches_alone_cost_and_return_to_their_places():
    method = made("mae", embed=16, decoder=16, blocks=1)
    encoder, x = method.net, batch_of(2).x
    patches = encoder.patchify(mg.Tensor(x))
    np.testing.assert_array_equal(method.image(patches.numpy()), x)
    t = mae.targets(patches).numpy()
    np.testing.assert_allclose(t.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(t.var(-1, ddof=1), 1, atol=1e-3)
    order, y = method.order(2), rng.normal(size=t.shape)
    assert method.visible == 16 - 12
    want = np.mean([(y[n, p] - t[n, p]) ** 2 for n in range(2) for p in order[n, 4:]])
    assert float(mae.loss(mg.Tensor(y), mg.Tensor(t), order, 4)) == pytest.approx(want, rel=1e-6)
    seen = []
    encode = encoder.encode
    encoder.encode = lambda x, **settings: (seen.append(x.shape), encode(x, **settings))[1]
    method.loss(batch_of(), 0)
    assert seen == [(8, 1 + 4, 16)]  # the encoder never sees a hidden patch


@pytest.mark.parametrize("ratio, count, visible", [(0.75, 49, 12), (0.75, 196, 49), (0.9, 10, 1), (0.5, 9, 4), (0.25, 16, 12)])
def test_the_share_of_visible_patches_is_rounded_down(ratio, count, visible):
    assert mae.visible(mae.Config(ratio=ratio), count) == visible


def views_of(method):
    """The views of a method that draws one or several; none of one that does not."""
    every = (*getattr(method, "views", ()), *([method.view] if hasattr(method, "view") else []))
    return [view for view in every if hasattr(view, "flip")]


@pytest.mark.parametrize("name", METHODS)
def test_nothing_is_mirrored_where_that_shows_something_else(name):
    for flip in (False, True):
        run = dataclasses.replace(self_supervised.settings(name), embed=16, decoder=16) if name == "mae" else None
        module, given = METHODS[name], dataclasses.replace(task(), flip=flip)
        run = run or self_supervised.settings(name)
        architecture = (module.architecture(run, 3, 16) if hasattr(module, "architecture")
                        else networks.architecture("small", 3, 16, 0, 0.0, 2, 1))
        method = module.Objective(run, architecture.build(), given)
        assert {view.flip for view in views_of(method)} == ({0.5 if flip else 0.0} if name != "exemplar" else set())


@pytest.mark.parametrize("name", METHODS)
def test_settings_at_the_ends_of_what_is_allowed(name):
    """A step of training with each: the loss and what follows it are finite, or the setting is refused in one line."""
    fitting = {"local_size": 8} if name == "dino" else {}
    for field in dataclasses.fields(METHODS[name].Config):
        limits = field.metadata.get("limits", {})
        for end in (limits[kind] for kind in ("least", "most") if kind in limits):
            try:
                method = made(name, **fitting | {field.name: type(field.default)(end)})
            except SystemExit as error:
                assert f"--{field.name.replace('_', '-')} {end}" in str(error)
                continue
            optimizers = method.optimizers("adam", 1e-3, 0.01)
            loss, numbers = method.loss(batch_of(), 0)
            loss.backward()
            method.after_backward(0)
            for optimizer in optimizers.values():
                optimizer.step()
            method.after_step(0)
            everything = [loss.item(), *numbers.values(), *(abs(p.numpy()).sum() for p in method.parameters())]
            assert all(map(math.isfinite, everything)), (field.name, end)


def test_settings_reach_the_views():
    assert [view.jitter[0] for view in views_of(made("simclr", strength=0.25))] == [pytest.approx(0.2)] * 2
    assert [view.jitter[0] for view in views_of(made("vicreg", strength=0.25))] == [pytest.approx(0.2)] * 2
    assert all(not any(view.jitter) and not view.greyscale for view in views_of(made("simclr", colour=False)))
    assert all(view.crop is None for view in views_of(made("simclr", crop=False)))
    for name in ("byol", "dino"):
        assert {view.blur for view in views_of(made(name))} == {0.0}
        assert [view.blur for view in views_of(made(name, blur=True))][:2] == [1.0, 0.1]
        assert [view.solarize for view in views_of(made(name))][:2] == [0.0, 0.2]


def fixed(method, *views):
    """The method with these pictures as its views."""
    method.views = [lambda x, rng, view=view: view for view in views]
    return method


def test_byol_predicts_what_its_average_says_of_the_other_view():
    views = [batch_of().x for _ in range(2)]
    for gamma in (0.5, 0.0):
        method = fixed(made("byol", gamma=gamma, hidden=64, projection=4), *views)
        net, heads = method.net, method.heads
        for p in method.parameters():
            p.data = p.numpy() + 0.1 * rng.normal(size=p.shape).astype(np.float32)  # the average is another network by now
        target = method.target.net if gamma else method.projected
        z = [heads[0](net.features(mg.Tensor(v))) for v in views]  # batch norm over one view at a time, in both networks
        q, constant = [heads[1](each).numpy() for each in z], [target.train()(mg.Tensor(v)).numpy() for v in views]
        want = sum(np.mean(np.sum((unit(q[i]) - unit(constant[1 - i])) ** 2, 1)) for i in range(2))
        found, _ = method.loss(batch_of(), 0)
        assert float(found) == pytest.approx(want, rel=1e-4)
        found.backward()
        if not gamma:
            method.after_step(0)
            assert method.target is None and method.state().keys() == {"net", "heads", "rng"}
            continue
        assert all(p.grad is None for p in method.target.net.parameters())
        for step, share in ((0, 0.5), (5, 0.75)):  # of 10: 1 - (1 - gamma_0) (cos(pi k / K) + 1) / 2
            before, now = method.target.net.state_dict(), method.projected.state_dict()
            method.after_step(step)
            for name, value in method.target.net.state_dict().items():
                if value.dtype == np.float32 and "running" not in name:
                    np.testing.assert_allclose(value, share * before[name] + (1 - share) * now[name], rtol=1e-4, atol=1e-6)


def test_dino_sharpens_what_the_average_says_of_the_global_views():
    views = [batch_of(size=size).x for size in (16, 16, 8)]
    method = fixed(made("dino", classes_made=12, local_size=8, local_views=1, gamma=0.5, frozen=0.2, hidden=8, bottleneck=4),
                   *views)
    for p in method.parameters():
        p.data = p.numpy() + 0.1 * rng.normal(size=p.shape).astype(np.float32)
    method.c.data = rng.normal(size=(1, 12)).astype(np.float32) / 9

    def softmax(x):
        x = np.exp(x - x.max(1, keepdims=True))
        return x / x.sum(1, keepdims=True)

    teacher = method.teacher.net.train()  # batch norm over both global views, and by the batch
    p_t = np.split(softmax((teacher(mg.Tensor(np.concatenate(views[:2]))).numpy() - method.c.numpy()) / 0.04), 2)
    outputs = method.online(mg.Tensor(np.concatenate(views[:2]))).numpy()
    p_s = [*np.split(softmax(outputs / 0.1), 2), softmax(method.online(mg.Tensor(views[2])).numpy() / 0.1)]
    want = np.mean([-(p_t[t] * np.log(p_s[s])).sum(1).mean() for t in range(2) for s in range(3) if s != t])
    found, _ = method.loss(batch_of(), 0)
    assert float(found) == pytest.approx(want, rel=1e-3)
    for step, frozen in ((0, True), (1, True), (2, False)):  # a fifth of 10
        method.heads.last.weight.grad = None
        method.loss(batch_of(), step)[0].backward()
        assert (method.heads.last.weight.grad is None) == frozen == method.arguments(batch_of(), step)[-1][0]
    for step, share in ((0, 0.5), (5, 0.75)):
        before, now = teacher.state_dict(), method.online.state_dict()
        method.after_step(step)
        for name, value in method.teacher.net.state_dict().items():
            if value.dtype == np.float32 and "running" not in name:
                np.testing.assert_allclose(value, share * before[name] + (1 - share) * now[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("barlow", [False, True])
def test_the_weights_of_vicreg_reach_its_terms(barlow):
    views = [batch_of().x for _ in range(2)]
    method = fixed(made("vicreg", barlow=barlow, invariance=3.0, variance=5.0, covariance=7.0, redundancy=0.2, hidden=8,
                        projection=4), *views)
    z, other = np.split(method.heads(method.net.features(mg.Tensor(np.concatenate(views)))).numpy(), 2)
    z, other = mg.Tensor(z), mg.Tensor(other)
    want = vicreg.barlow_twins(z, other, 0.2) if barlow else vicreg.vicreg(z, other, 3.0, 5.0, 7.0)
    assert float(method.loss(batch_of(), 0)[0]) == pytest.approx(float(want), rel=1e-4)


def test_simclr_ends_its_projector_with_batch_norm_over_both_views():
    views = [batch_of().x for _ in range(2)]
    method = fixed(made("simclr", layers=3, hidden=8, projection=4, tau=0.2), *views)
    z = method.heads(method.net.features(mg.Tensor(np.concatenate(views)))).numpy()
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-5)
    assert float(method.loss(batch_of(), 0)[0]) == pytest.approx(float(simclr.loss(mg.Tensor(z), 0.2)), rel=1e-4)


@pytest.mark.parametrize("raw", [False, True])
def test_what_a_masked_autoencoder_draws(raw):
    method, x = made("mae", embed=16, decoder=16, blocks=1, raw=raw), batch_of(2).x
    method.view = lambda given, rng: x
    order = method.order(2)
    method.order = lambda n: order
    y, p = method.net.reconstruct(mg.Tensor(x), order, 4).numpy(), method.net.patchify(mg.Tensor(x)).numpy().astype(float)
    t = p if raw else (p - p.mean(-1, keepdims=True)) / np.sqrt(p.var(-1, ddof=1, keepdims=True) + 1e-6)
    hidden = np.arange(2)[:, None], order[:, 4:]
    found, numbers = method.loss(batch_of(2), 0)
    assert float(found) == pytest.approx(np.mean((y[hidden] - t[hidden]) ** 2), rel=1e-4)
    assert float(numbers["of predicting 0"]) == pytest.approx(float(found) / np.mean(t ** 2), rel=1e-4)


def test_a_denoising_autoencoder_draws_what_was_not_spoiled():
    method, batch = made("denoising", sigma=0.5, q=0.4, hidden=8, views=False), batch_of()
    spoiled = method.spoiled(batch.x, np.random.default_rng(3))
    zeros = (spoiled == 0).all(1)
    assert zeros.mean() == pytest.approx(0.4, abs=0.05) and ((spoiled == 0) == zeros[:, None]).all()  # in all channels
    assert np.std((spoiled - batch.x)[np.repeat(~zeros[:, None], 3, 1)]) == pytest.approx(0.5, abs=0.02)
    method.spoiled = lambda x, rng: spoiled
    drawn = method.heads(method.net.features(mg.Tensor(spoiled))).numpy()
    assert float(method.loss(batch, 0)[0]) == pytest.approx(np.mean((drawn - batch.x.reshape(8, -1)) ** 2), rel=1e-4)


def test_each_picture_is_a_class_of_exemplar_and_its_label_of_supervised():
    batch = batch_of()
    batch.index, batch.y = np.arange(8)[::-1] + 3, np.arange(8) % 4
    for name, labels in (("exemplar", batch.index), ("supervised", batch.y)):
        method = made(name, **({"dropout": 0.0} if name == "exemplar" else {}))
        method.view = lambda x, rng: x
        logits = method.heads(method.net.features(mg.Tensor(batch.x))).numpy()
        want = np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(8), labels])
        assert float(method.loss(batch, 0)[0]) == pytest.approx(want, rel=1e-4)


def test_rates_rise_in_a_tenth_of_the_steps_and_fall_to_nothing():
    from methods.self_supervised.evaluation import Classifying
    net = networks.architecture("small", 3, 16, 4, 0.0, 2, 1).build()
    for method in (made("simclr"), Classifying(Tuning(), net)):
        rates = [method.schedule(step, 100) for step in range(100)]
        np.testing.assert_allclose(rates[:10], np.arange(1, 11) / 10)
        np.testing.assert_allclose(rates[10:], (1 + np.cos(np.pi * np.arange(90) / 90)) / 2)


def test_a_student_sees_what_its_teacher_in_evaluation_mode_sees():
    nets = [networks.architecture("small", 3, 16, 4, 0.0, 2, 1).build() for _ in range(2)]
    method, batch = distillation.Distillation(Tuning(), *nets, 16, 2.0), batch_of()
    seen = np.roll(batch.x, 1, 0)
    method.view = lambda x, rng: seen
    teacher = nets[1].eval()(mg.Tensor(seen)).numpy()
    nets[1].train()
    want = distillation.loss(nets[0](mg.Tensor(seen)), teacher, 2.0)
    assert float(method.loss(batch, 0)[0]) == pytest.approx(float(want), rel=1e-4)


def test_cpc_of_images_sees_rows_above_alone_and_has_the_positive_once():
    method = made("cpc_images", size=24, patch=8, stride=4, features=8, context=6)
    assert [len(context.convs) for context in method.heads.sides] == [3] * 4
    z = mg.Tensor(rng.normal(size=(2, 5, 5, 8)).astype(np.float32), requires_grad=True)
    method.heads.sides[0](z)[:, 2].sum().backward()
    assert not z.grad.numpy()[:, 3:].any() and z.grad.numpy()[:, :3].any()
    k, predicted = 2, rng.normal(size=(2, 3, 5, 8))
    s, right = cpc_images.scores(mg.Tensor(z.numpy()), mg.Tensor(predicted), k)
    assert s.shape == (2 * 3 * 5, 2 * 5 * 5)
    for row, (n, i, j) in enumerate(np.ndindex(2, 3, 5)):
        np.testing.assert_allclose(s.numpy()[row], (z.numpy() @ predicted[n, i, j]).reshape(-1))
        np.testing.assert_array_equal(z.numpy().reshape(-1, 8)[right[row]], z.numpy()[n, i + k, j])


def test_cpc_of_images_predicts_from_each_side():
    z = mg.Tensor(rng.normal(size=(2, 4, 4, 3)))
    grid = z.numpy()
    for side, want in enumerate((grid, grid[:, ::-1], grid.swapaxes(1, 2), grid[:, :, ::-1].swapaxes(1, 2))):
        np.testing.assert_array_equal(cpc_images.seen_from(side, z).numpy(), want)
    for sides in (1, 4):
        method = made("cpc_images", size=16, features=8, context=8, sides=sides, strength=0.0)
        encoded, method.net.encode = [], lambda x, encode=method.net.encode: encoded.append(encode(x)) or encoded[-1]
        method.view = lambda x, rng: x
        found, _ = method.loss(batch_of(4, size=16), 0)
        z, want = encoded[0].numpy(), []
        for side, context in enumerate(method.heads.sides):
            seen = cpc_images.seen_from(side, mg.Tensor(z))
            c, rows = context(seen).numpy(), seen.numpy().reshape(-1, 8)
            for n, j in np.ndindex(4, 3):  # three rows, so from the first of them the third
                s = rows @ (context.W[0].weight.numpy() @ c[n, 0, j])
                want.append(np.log(np.exp(s).sum()) - s[9 * n + 6 + j])
        assert len(method.heads.sides) == sides and float(found) == pytest.approx(np.mean(want), rel=1e-5)


def test_the_second_patch_does_not_overlap_with_the_first():
    for size in range(4, 40):
        for changes in ({}, dict(stride=2), dict(patch=3), dict(patch=4)):
            config = dataclasses.replace(self_supervised.settings("cpc_images"), **changes)
            if size >= 3 * max(config.patch, 2 * config.stride):
                arguments = cpc_images.architecture(config, 1, size).arguments
                assert arguments["patch"] <= config.nearest * arguments["stride"]


def test_each_patch_gets_colours_of_its_own():
    method = made("cpc_images", size=16, features=8, context=8)
    encoded = []
    method.net.encode, encode = lambda x: encoded.append(x.numpy()) or encode(x), method.net.encode
    method.view = lambda x, rng: np.full_like(x, 0.4)
    method.loss(batch_of(4, size=16), 0)
    assert len(np.unique(encoded[0].mean((4, 5)).round(4).reshape(-1, 3), axis=0)) > 20  # of 36


def test_patches_know_nothing_of_each_other():
    encoder = made("cpc_images", size=24, features=64, patch=8, stride=4).net
    x = batch_of(3, size=24).x
    before = encoder.grid(mg.Tensor(x)).numpy()
    x[1, :, 8:12, 8:12] += 1
    changed = np.abs(encoder.grid(mg.Tensor(x)).numpy() - before).max(-1) > 0
    assert before.shape == (3, 5, 5, 64) and not changed[[0, 2]].any()
    np.testing.assert_array_equal(changed[1], [[1 <= i <= 2 and 1 <= j <= 2 for j in range(5)] for i in range(5)])


def test_the_spread_tells_a_collapse():
    z = rng.normal(size=(500, 64))
    assert float(spread(mg.Tensor(z))) == pytest.approx(1, abs=0.05)
    assert float(spread(mg.Tensor(np.ones((9, 4))))) == pytest.approx(0, abs=1e-6)
    assert float(spread(mg.Tensor(z + 100))) < 0.02
    assert np.isfinite(mg.l2_normalize(mg.Tensor(np.zeros((2, 3))), 1).numpy()).all()


# -- what features are worth -------------------------------------------------------------------------------------------

def test_nearest_neighbours_vote_with_weights():
    x, y = rng.normal(size=(30, 5)), rng.integers(0, 3, 30)
    test = rng.normal(size=(4, 5))
    votes = nearest(x, y, test, 3, k=4, temperature=0.5)
    cosine = unit(test) @ unit(x).T
    for i in range(4):
        near = np.argsort(-cosine[i])[:4]
        want = [sum(math.exp((cosine[i, j] - 1) / 0.5) for j in near if y[j] == c) for c in range(3)]
        np.testing.assert_allclose(votes[i], want)
    assert nearest(x[:2], y[:2], test, 3).shape == (4, 3)  # fewer than k


@pytest.mark.parametrize("sizes", [(15, 5), (50, 5), (3, 3), (40, 1)])
def test_neighbours_of_a_small_class_are_not_outvoted_by_a_large_one(sizes):
    centres = 5 + np.eye(2, 8)  # as features without negative numbers, which all point one way
    x, test = (np.repeat(centres, n, 0) + 0.02 * np.random.default_rng(0).normal(size=(sum(n), 8)) for n in (sizes, (20, 20)))
    votes = nearest(x, np.repeat([0, 1], sizes), test, 2)
    assert (votes.argmax(1) == np.repeat([0, 1], 20)).mean() > 0.95


def test_fine_tuning_learns_and_leaves_the_encoder_as_it_was(tmp_path):
    encoder = networks.architecture("small", 1, 8, 0, 0.0, 4, 1).build()
    y = np.arange(40) % 2
    x = (rng.random((40, 1, 8, 8)) * 0.3 + y[:, None, None, None] * 0.5).astype(np.float32)
    before = {name: array.copy() for name, array in encoder.state_dict().items()}
    net = fine_tuned(encoder, x, y, 2, Tuning(40, 5e-3), tmp_path)
    assert accuracy(encoders.encode(net, x), y) >= 0.95
    assert all(np.array_equal(before[name], array) for name, array in encoder.state_dict().items())
    found = worth(encoder, x, y, x, y, 2)
    assert found.keys() == {"knn", "probe"} and found["probe"] > 0.9


def two_classes(n=40):
    y = np.arange(n) % 2
    return (rng.random((n, 1, 8, 8)) * 0.3 + y[:, None, None, None] * 0.5).astype(np.float32), y


def test_fine_tuning_begins_in_the_way_that_is_better_on_labels_left_out(tmp_path, monkeypatch):
    from methods.self_supervised import evaluation
    encoder = networks.architecture("small", 1, 8, 0, 0.0, 4, 1).build()
    x, y = two_classes()
    seen = []

    def fit(net, x, y, config, out):  # learns nothing, so that the probe is better, or undoes that
        seen.append((config.lr, config.keep_statistics, np.bincount(y).tolist(), bool(np.any(net.head.weight.numpy()))))
        assert seen[-1][-1] or not np.any(net.head.bias.numpy())
        if spoiled == config.lr:
            net.head.weight.data[:] = 0
        elif spoiled:
            evaluation.finetune.set_head(net, linear.ridge(encoders.encode(encoder, x), y, 2))

    monkeypatch.setattr(evaluation, "fit", fit)
    probe, zero = (1e-3, True, [16, 16], True), (1e-2, False, [16, 16], False)
    for spoiled, best in ((None, probe), (1e-3, zero), (1e-2, probe)):
        seen.clear()
        net = fine_tuned(encoder, x, y, 2, Tuning(lr=1e-2), tmp_path)
        assert seen == [probe, zero, (*best[:2], [20, 20], best[3])]
        assert accuracy(encoders.encode(net, x), y) > 0.9
    spoiled = None
    for few, kept in (([0, 1], []), ([0, 2, 1], [[1, 1]]), ([0, 2, 1, 3, 5], [[1, 2]])):  # each class has one to learn from
        seen.clear()
        fine_tuned(encoder, x[few], y[few], 2, Tuning(lr=1e-2), tmp_path)
        assert [counts for *_, counts, _ in seen] == 2 * kept + [np.bincount(y[few]).tolist()]
        assert seen[-1][0] == 1e-3


@pytest.mark.parametrize("kept", [False, True])
def test_batch_norm_keeps_its_statistics_where_it_is_to(tmp_path, kept):
    from methods.self_supervised.evaluation import fit, zero_head
    net, (x, y) = zero_head(networks.architecture("small", 1, 8, 0, 0.0, 4, 1).build(), 2), two_classes()
    before = {name: array.copy() for name, array in net.state_dict().items()}
    fit(net, x, y, Tuning(3, batch=8, keep_statistics=kept), tmp_path)
    same = {name: np.array_equal(array, before[name]) for name, array in net.state_dict().items()}
    running = {name for name in same if "running" in name}
    assert running and all(same[name] == kept for name in running) and not same["head.weight"]


@pytest.mark.parametrize("augment", [False, True])
def test_fine_tuning_shifts_pictures_where_it_is_to(augment):
    from methods.self_supervised.evaluation import Classifying
    encoder, seen = networks.architecture("small", 1, 16, 2, 0.0, 4, 1).build(), []
    forward = encoder.forward
    encoder.forward = lambda x: seen.append(x.numpy()) or forward(x)
    batch = batch_of(8, channels=1)
    batch.y = batch.y % 2
    Classifying(Tuning(augment=augment), encoder).loss(batch, 0)
    assert np.array_equal(seen[0], batch.x) != augment


def test_a_tuning_does_not_go_on_from_another_encoder(tmp_path):
    from methods.self_supervised.evaluation import fit, zero_head
    from methods.training.settings import RunError
    encoder, (x, y) = networks.architecture("small", 1, 8, 0, 0.0, 4, 1).build(), two_classes()
    fit(zero_head(encoder, 2), x, y, Tuning(3), tmp_path)
    trained = checkpoint.load(tmp_path / "checkpoint.safetensors")["state"]["net"]["head.weight"]
    net = zero_head(encoder, 2)
    fit(net, x, y, Tuning(3), tmp_path)  # the same goes on, and is finished
    np.testing.assert_array_equal(net.head.weight.numpy(), trained)
    encoder.parameters()[0].data += 1e-3
    with pytest.raises(RunError):
        fit(zero_head(encoder, 2), x, y, Tuning(3), tmp_path)


# -- runs --------------------------------------------------------------------------------------------------------------

TINY = {"data": "digits", "steps": 4, "batch": 16, "width": 2, "network": "small", "pictures": 60, "test_every": 2}
SMALL = {"dino": dict(local_size=8, local_views=1), "mae": dict(embed=8, decoder=8, blocks=1, heads=2, patch=2),
         "cpc_images": dict(features=8, context=8)}


def tiny(name, out, **changes):
    return dataclasses.replace(self_supervised.settings(name), **{**TINY, **SMALL.get(name, {}), "out": str(out), **changes})


@pytest.mark.parametrize("name", METHODS)
def test_a_run_that_was_stopped_ends_with_the_same_bits(tmp_path, name, capsys):
    found = self_supervised.main(tiny(name, tmp_path / "whole"))
    assert (f"{name}, behind the projector (z)" in capsys.readouterr().out) == (name in ("simclr", "byol", "vicreg"))
    assert found.keys() == {"knn", "probe"} and 0 <= found["knn"] <= 1
    halves = tiny(name, tmp_path / "halves")
    with interrupted(METHODS[name].Objective, 1):
        self_supervised.main(halves)
    assert self_supervised.main(dataclasses.replace(halves, resume=True)) == found
    files = [(tmp_path / part / "checkpoint.safetensors").read_bytes() for part in ("whole", "halves")]
    assert files[0] == files[1]
    lines = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert all(math.isfinite(v) for line in lines for v in line.values()) and any("knn" in line for line in lines)


def test_the_run_of_dino_holds_the_teachers_encoder(tmp_path):
    self_supervised.main(tiny("dino", tmp_path / "run", network="vit", width=4, depth=1))
    state = checkpoint.load(tmp_path / "run" / "checkpoint.safetensors")["state"]
    loaded, _ = encoders.load_encoder(str(tmp_path / "run"))
    exported, _ = nn.load_encoder(tmp_path / "run" / "encoder")
    for name, value in loaded.state_dict().items():
        np.testing.assert_array_equal(value, state["encoder"][name])
        np.testing.assert_array_equal(value, exported.state_dict()[name])
    assert any((value != state["net"][name]).any() for name, value in loaded.state_dict().items())


def test_the_ablation_without_sharpening_never_sharpens():
    name, changed = compare_self_supervised.ABLATIONS["dino, no sharpening"]
    assert {made(name, **changed).tau_t(step) for step in range(20)} == {1.0}


def test_dino_warms_the_teacher_up_raises_the_decay_and_clips():
    method = made("dino", local_views=0, tau_t=0.04, tau_t_last=0.07, tau_t_warmup=0.3, decay_rise=10.0, clip=3.0)
    assert [method.tau_t(step) for step in (0, 1, 3, 9)] == pytest.approx([0.04, 0.05, 0.07, 0.07])
    assert made("dino", tau_t_last=0.07, tau_t_warmup=0.0).tau_t(0) == pytest.approx(0.07)
    kernels = method.optimizers("adam", 1e-3, 0.04)["kernels"]
    for step, decay in ((0, 0.04), (5, 0.22), (10, 0.4)):
        for p, length in zip(method.parameters(), (2, 30)):
            p.grad = mg.Tensor(np.full(p.shape, length / np.sqrt(p.size), p.dtype))
        assert method.at_step(step)[1] == pytest.approx(decay)
        method.after_backward(None)
        assert kernels.param_groups[0]["weight_decay"] == pytest.approx(decay)
        assert [np.linalg.norm(p.grad.numpy()) for p in method.parameters()[:2]] == pytest.approx([2, 3])


@pytest.mark.parametrize("gamma", [0.0, 0.9])
def test_simsiams_predictor_keeps_its_rate(tmp_path, gamma):
    method, batch = made("byol", gamma=gamma), batch_of()
    steppers = method.optimizers("adam", 1e-3, 1e-2)
    train(method, Batches(batch.x, batch.y, 8, 0), steppers, 10, RunFolder(tmp_path / "run", method.config, False))
    rates = {id(p): optimizer.lr for optimizer in steppers.values() for p in optimizer.params}
    assert rates.keys() == {id(p) for p in method.parameters()}
    assert {rates[id(p)] == 1e-3 for p in method.heads[1].parameters()} == {not gamma}
    assert all(rates[id(p)] < 1e-3 for p in method.projected.parameters())
    assert isinstance(method.heads[0][-1], nn.BatchNorm1d) == (not gamma)


@pytest.mark.parametrize("network", ["resnet18", "vit"])
def test_encoders_are_read_by_published_names_and_from_their_run(tmp_path, network):
    run = tiny("simclr", tmp_path / "run", network=network, width=4 if network == "vit" else 16, steps=1, batch=4, pictures=8)
    self_supervised.main(run)
    x = rng.integers(0, 256, (2, 1, 8, 8)).astype(np.uint8)
    own, own_input = encoders.load_encoder(run.out)
    published, published_input = nn.load_encoder(tmp_path / "run" / "encoder")
    np.testing.assert_allclose(published_input(x), own_input(x), atol=1e-6)
    features = [net(mg.Tensor(prepare(x))).numpy() for net, prepare in ((published, published_input), (own, own_input))]
    np.testing.assert_allclose(*features, atol=1e-5)


def test_flat_folders_need_no_labels_and_features_are_written(tmp_path, capsys):
    from PIL import Image
    (tmp_path / "flat").mkdir()
    for i in range(6):
        Image.fromarray(rng.integers(0, 256, (20 + i, 30, 3)).astype(np.uint8)).save(tmp_path / "flat" / f"{i}.png")
    (tmp_path / "flat" / "broken.jpg").write_bytes(b"nothing")
    run = tiny("simclr", tmp_path / "run", data=str(tmp_path / "flat"), size=16, steps=2, pictures=0)
    assert self_supervised.main(run) == {}
    said = capsys.readouterr().out
    assert "broken.jpg" in said and "there are 6 pictures" in said
    for ending in ("csv", "npz"):
        out = tmp_path / f"f.{ending}"
        names, features = embed.main(embed.Run((str(tmp_path / "flat"),), str(tmp_path / "run"), out=str(out)))
        assert len(names) == 6 and features.shape == (6, 8) and np.isfinite(features).all()
    with np.load(tmp_path / "f.npz") as file:
        assert file["files"].tolist() == names and np.array_equal(file["features"], features)
    assert (tmp_path / "f.csv").read_text().splitlines()[1].startswith(names[0])


@pytest.mark.parametrize("changes, said", [
    (dict(data="nowhere"), "nowhere"), (dict(classes=("cat",)), "there is no class cat"), (dict(steps=0), "--steps 0"),
    (dict(batch=1), "--batch 1"), (dict(tau=0.0), "--tau 0"), (dict(network="vit", data="digits", width=0), "--width 0")])
def test_what_cannot_be_is_said_in_a_line_before_anything_is_written(tmp_path, changes, said):
    with pytest.raises(SystemExit) as error:
        self_supervised.main(tiny("simclr", tmp_path / "run", **changes))
    assert said in str(error.value) and "\n" not in str(error.value) and not (tmp_path / "run").exists()


@pytest.mark.parametrize("files", [0, 1])
def test_folders_without_two_pictures_are_refused(tmp_path, files):
    from PIL import Image
    (tmp_path / "few").mkdir()
    for i in range(files):
        Image.new("RGB", (9, 9)).save(tmp_path / "few" / f"{i}.png")
    (tmp_path / "few" / "broken.png").write_bytes(b"\x89PNG")
    with pytest.raises(SystemExit, match="few"):
        self_supervised.main(tiny("simclr", tmp_path / "run", data=str(tmp_path / "few")))
    assert not (tmp_path / "run").exists()


def test_a_comparison_is_kept_and_goes_on(tmp_path, capsys):
    run = compare_self_supervised.Run(data="digits", steps=2, batch=8, width=1, labels=20, tuning_steps=2,
                                      out=str(tmp_path / "c"), only=("random weights", "pixels", "simsiam"))
    found = compare_self_supervised.main(run)
    assert {name: np.shape(values) for name, values in found.items()} == dict.fromkeys(run.only, (1, 3))
    assert compare_self_supervised.main(dataclasses.replace(run, resume=True)) == found
    assert all((tmp_path / "c" / figure).is_file() for figure in ("probe.png", "tuned.png"))
    assert "simsiam" in (tmp_path / "c" / "table.txt").read_text()
    for labels in (5, 1800):
        with pytest.raises(SystemExit, match=f"--labels {labels}: choose 10 to"):
            compare_self_supervised.main(dataclasses.replace(run, labels=labels, out=str(tmp_path / "d")))
    with pytest.raises(SystemExit, match="no method is called"):
        compare_self_supervised.main(dataclasses.replace(run, only=("magic",), out=str(tmp_path / "d")))
    assert not (tmp_path / "d").exists()


def test_a_comparison_uses_all_labels_of_a_folder_with_few(tmp_path, capsys):
    for kind in "ab":
        (tmp_path / "own" / kind).mkdir(parents=True)
        folder_of_pictures(tmp_path / "own" / kind, 12)
    run = compare_self_supervised.Run(data=str(tmp_path / "own"), steps=2, batch=4, width=1, tuning_steps=2, only=("pixels",),
                                      out=str(tmp_path / "c"))
    compare_self_supervised.main(run)
    assert "fine-tuned with all 20 labels, as there are not 500 with" in capsys.readouterr().out
    assert "fine-tuned, 20 labels" in (tmp_path / "c" / "table.txt").read_text()
    compare_self_supervised.main(dataclasses.replace(run, resume=True, labels=0))
    with pytest.raises(SystemExit, match="--labels 500: choose 2 to 20; .*; --labels 0 uses all"):
        compare_self_supervised.main(dataclasses.replace(run, labels=500))


def test_features_are_tested_with_all_labels_however_few_pictures_are_learnt_from(tmp_path, capsys):
    from methods.self_supervised import pictures
    run = tiny("simclr", tmp_path / "run", pictures=20)
    found = self_supervised.main(run)
    assert "learning from 20 of them" in capsys.readouterr().out
    encoder, _ = encoders.load_encoder(run.out)
    assert found == worth(encoder, *self_supervised.whole(pictures.load("digits")))


def test_an_encoder_learnt_on_some_classes_reads_others(tmp_path):
    self_supervised.main(tiny("supervised", tmp_path / "run", classes=tuple("01234"), pictures=0))
    found = compare_transfer.main(compare_transfer.Run(
        data="digits", encoder=str(tmp_path / "run"), classes=tuple("56789"), per_class=(3,), draws=2, test_images=50,
        only=("ridge", "pixels"), out=str(tmp_path / "c")))
    assert found.keys() == {("ridge", 3), ("pixels", 3)} and all(len(v) == 2 for v in found.values())
    with pytest.raises(SystemExit, match="there is no class zebra"):
        compare_transfer.main(compare_transfer.Run(data="digits", encoder=str(tmp_path / "run"), classes=("1", "zebra"),
                                                   out=str(tmp_path / "d")))


def test_positions_are_resized_or_drawn_anew(tmp_path):
    found = vit_resolution.main(vit_resolution.Run("digits", "digits", 10, 20, 1, 2, 4, 8, 1, 2, str(tmp_path)))
    assert {name: np.shape(pairs) for name, pairs in found.items()} == dict.fromkeys(vit_resolution.ROWS, (2, 2))
    assert (tmp_path / "accuracies.png").is_file()
    for wrong in (dict(size=11), dict(labels=3), dict(labels=1790), dict(patches=3), dict(source="nothing")):
        with pytest.raises(SystemExit, match=r"--size 11|--labels (3|1790): .* class|--patches 3|nothing"):
            vit_resolution.main(dataclasses.replace(vit_resolution.Run("digits", "digits", 10, 20, 1, 2), **wrong))


def test_images_to_test_resolutions_on_are_of_all_classes_though_they_are_sorted(monkeypatch):
    y, seen = np.repeat(np.arange(10), 40), []
    x = np.broadcast_to((y / 10).astype(np.float32)[:, None, None, None], (400, 1, 8, 8))
    monkeypatch.setattr(vit_resolution, "load", lambda source: (x, y, x, y, 10))
    monkeypatch.setattr(vit_resolution, "TESTED", 60)
    monkeypatch.setattr(vit_resolution, "larger", lambda images, size: seen.append(images[:, 0, 0, 0]) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        vit_resolution.main(vit_resolution.Run("digits", "digits", 10, 20, 1, 2, 4, 8, 1, 2))
    assert len(seen[0]) == 60 and len(np.unique(seen[0])) == 10


def test_distillation_is_the_cross_entropy_with_the_teacher():
    s, t, tau = rng.normal(size=(4, 3)), rng.normal(size=(4, 3)), 2.0
    p, q = (np.exp(a / tau) / np.exp(a / tau).sum(1, keepdims=True) for a in (t, s))
    assert float(distillation.loss(mg.Tensor(s), t, tau)) == pytest.approx(-(p * np.log(q)).sum(1).mean())


def test_from_inside_the_head_to_a_student(tmp_path, monkeypatch):
    self_supervised.main(tiny("simclr", tmp_path / "run", layers=3, hidden=8))
    run = simclr_v2.Run(str(tmp_path / "run"), "digits", 20, 2, 2, 8, out=str(tmp_path / "v2"))
    learnt, train = [], simclr_v2.train_on
    monkeypatch.setattr(simclr_v2, "train_on", lambda method, x, *more: learnt.append(len(x)) or train(method, x, *more))
    found = simclr_v2.main(run)
    assert len(found) == 4 and simclr_v2.main(run) == found  # which finds all finished
    assert learnt == [TINY["pictures"]] * 2
    for labels in (1, 100000):
        with pytest.raises(SystemExit, match=f"--labels {labels}: "):
            simclr_v2.main(dataclasses.replace(run, labels=labels, out=str(tmp_path / "no")))
    flat = str(folder_of_pictures(tmp_path))
    self_supervised.main(tiny("simclr", tmp_path / "flat", data=flat, size=8, pictures=0, layers=3))
    with pytest.raises(SystemExit, match="labels are needed"):
        simclr_v2.main(dataclasses.replace(run, run=str(tmp_path / "flat"), data=flat, out=str(tmp_path / "no")))
    method, _ = self_supervised.build(tiny("simclr", tmp_path / "x", layers=2), pictures("digits"))
    inside = simclr.deepened(method.net.eval(), method.heads.eval())
    x = mg.Tensor(rng.random((3, 1, 8, 8), np.float32))
    np.testing.assert_allclose(inside.eval()(x).numpy(), method.heads[:3](method.net.features(x)).numpy(), rtol=1e-5)
    self_supervised.main(tiny("simclr", tmp_path / "one", layers=1))
    with pytest.raises(SystemExit, match="--layers 2"):
        simclr_v2.main(dataclasses.replace(run, run=str(tmp_path / "one"), out=str(tmp_path / "no")))
    self_supervised.main(tiny("byol", tmp_path / "byol"))
    with pytest.raises(SystemExit, match="other pictures"):
        simclr_v2.main(dataclasses.replace(run, data=str(folder_of_pictures(tmp_path)), out=str(tmp_path / "no")))
    with pytest.raises(SystemExit, match="there is no run in"):
        simclr_v2.main(dataclasses.replace(run, run=str(tmp_path / "nothing"), out=str(tmp_path / "no")))
    with pytest.raises(SystemExit, match="no run of examples.self_supervised simclr"):
        simclr_v2.main(dataclasses.replace(run, run=str(tmp_path / "byol"), out=str(tmp_path / "no")))
    assert not (tmp_path / "no").exists()


def folder_of_pictures(tmp_path, count=3):
    from PIL import Image
    (tmp_path / "pictures").mkdir(exist_ok=True)
    for i in range(count):
        Image.fromarray(rng.integers(0, 256, (9, 9, 3)).astype(np.uint8)).save(tmp_path / "pictures" / f"{i}.png")
    return tmp_path / "pictures"


@pytest.mark.parametrize("name, changes, said", [
    ("dino", dict(network="residual", local_size=4), "--local-size 4: the encoder takes no such views"),
    ("dino", dict(network="vit", width=4, depth=1, local_size=15, size=16), "--local-size 15: the encoder takes"),
    ("mae", dict(patch=8), "of 1 patches none is seen"), ("mae", dict(ratio=0.99), "of 16 patches none is seen"),
    ("mae", dict(ratio=1e-12), "of 16 patches none is hidden"),
    ("mae", dict(patch=1), "--patch 1: a patch of one number"), ("mae", dict(patch=3), "--patch 3"),
    ("mae", dict(embed=6), "--embed 6"), ("cpc_images", dict(patch=8), "--patch 8"), ("byol", dict(pictures=1), "--pictures 1"),
    ("cpc_images", dict(nearest=5), "--nearest 5"), ("cpc_images", dict(farthest=3), "--farthest 3")])
def test_settings_that_do_not_suit_the_pictures_are_one_line(tmp_path, name, changes, said):
    run = tiny(name, tmp_path / "run")
    if "size" in changes:  # of pictures of one's own
        run.data = str(folder_of_pictures(tmp_path))
    with pytest.raises(SystemExit) as error:
        self_supervised.main(dataclasses.replace(run, **changes))
    assert said in str(error.value) and "\n" not in str(error.value) and not (tmp_path / "run").exists()


@pytest.mark.parametrize(("network", "size"), [("residual", 4), ("mlp", 9)])
def test_an_encoder_of_a_run_says_which_sizes_it_does_not_take(tmp_path, network, size):
    run = tiny("simclr", tmp_path / "run", network=network, steps=1, batch=4, pictures=8)
    self_supervised.main(run)
    encoder, preprocessing = encoders.load_encoder(run.out, 8)
    assert preprocessing.size == 8 and encoder.features(mg.zeros((2, 1, 8, 8))).shape == (2, encoder.width)
    with pytest.raises(SystemExit, match=f"--encoder .* takes no pictures of {size} pixels: "):
        encoders.load_encoder(run.out, size)


@pytest.mark.parametrize("network", ["small", "residual", "resnet18", "vit"])
def test_an_encoder_of_a_run_takes_pictures_of_another_size(tmp_path, network):
    run = tiny("simclr", tmp_path / "run", network=network, width=4, depth=1, steps=1, batch=4, pictures=8)
    self_supervised.main(run)
    encoder, preprocessing = encoders.load_encoder(run.out, 16)
    assert preprocessing.size == 16
    x = preprocessing(rng.integers(0, 256, (2, 1, 20, 20)).astype(np.uint8))
    assert np.isfinite(encoder(mg.Tensor(x)).numpy()).all()
    assert (tmp_path / "run" / "encoder").exists() == (network in ("resnet18", "vit"))


def pictures(source):
    from methods.self_supervised import pictures
    return pictures.load(source).limited(60)


def test_attention_without_an_encoder_says_how_to_make_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="self_supervised dino --network vit"):
        attention.main(attention.Run(("a.png",)))


def test_the_attention_of_the_class_token_is_drawn(tmp_path):
    from PIL import Image
    run = tiny("dino", tmp_path / "run", network="vit", width=4, depth=2, steps=1)
    self_supervised.main(run)
    assert (tmp_path / "run" / "pictures.png").is_file()
    encoder, _ = encoders.load_encoder(run.out)
    x = mg.Tensor(rng.random((2, 1, 8, 8), np.float32))
    maps = dino.attention_maps(encoder, x)
    assert maps.shape == (2, 1, 8, 8) and np.all(maps > 0) and np.all(maps.sum((2, 3)) < 1)  # the rest is the token's own
    Image.new("RGB", (30, 20), "red").save(tmp_path / "a.png")
    attention.main(attention.Run((str(tmp_path / "a.png"),), run.out, out=str(tmp_path / "attention.png")))
    assert (tmp_path / "attention.png").is_file()
    self_supervised.main(tiny("simclr", tmp_path / "conv"))
    for name in ("attention", "attention.foo"):
        with pytest.raises(SystemExit, match="choose a name that ends in .png"):
            attention.main(attention.Run((str(tmp_path / "a.png"),), run.out, out=name))
    with pytest.raises(SystemExit, match="a vision Transformer is wanted"):
        attention.main(attention.Run((str(tmp_path / "a.png"),), str(tmp_path / "conv")))


@pytest.mark.parametrize("order", [[[0, 1, 2, 2]], [[0, 1, -1, 3]]], ids=str)
def test_a_masked_autoencoder_wants_all_places_once(order):
    net = nn.MAE(4, 2, 1, 0, 8, 1, 2, decoder_dim=8, decoder_depth=1, decoder_heads=2)
    with pytest.raises(ValueError, match="MAE: order: each row holds every place once"):
        net.reconstruct(mg.Tensor(np.ones((1, 1, 4, 4), np.float32)), np.array(order), 2)
