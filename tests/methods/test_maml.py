import numpy as np
import pytest

import minigrad as mg
from methods.few_shot import maml, maml_nets
from minigrad import tree


def quadratic(params, x, step=0, moments=None):
    """theta of every task; the loss below is 1/2 theta' A theta."""
    return params["theta"]


def test_meta_gradient_of_a_quadratic_in_closed_form():
    """MAML: (I - alpha A)^J A theta'. First order: A theta'."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=(3, 3))
    a = a @ a.T / 3
    start, alpha, steps = rng.normal(size=3), 0.1, 3
    loss = lambda theta, y: 0.5 * ((theta @ a) * theta).sum(1)
    for first_order in (False, True):
        theta = mg.Tensor(start, requires_grad=True)
        config = maml.Config(inner_steps=steps, first_order=first_order)
        value, _ = maml.meta_loss(quadratic, loss, {"theta": theta}, {"theta": alpha}, (np.zeros((2, 1)), None),
                                  (np.zeros((2, 1)), None), config)
        value.backward()
        shrink = np.linalg.matrix_power(np.eye(3) - alpha * a, steps)
        adapted = shrink @ start
        expected = a @ adapted if first_order else shrink @ a @ adapted
        np.testing.assert_allclose(theta.grad.numpy(), expected, atol=1e-12)
        np.testing.assert_allclose(value.item(), 0.5 * adapted @ a @ adapted, atol=1e-12)


@pytest.fixture
def tasks():
    rng = np.random.default_rng(1)
    support = rng.random((2, 6, 1, 12, 12)), np.tile(np.arange(3).repeat(2), (2, 1))
    query = rng.random((2, 9, 1, 12, 12)), np.tile(np.arange(3).repeat(3), (2, 1))
    return tuple((mg.Tensor(x), mg.Tensor(y)) for x, y in (support, query))


def in_double(params):
    return {k: mg.Tensor(p.numpy().astype(np.float64), requires_grad=True) for k, p in params.items()}


@pytest.mark.parametrize("norm", ["transductive", "support", "per-step"])
@pytest.mark.parametrize("learn", ["no", "scalar", "tensor", "parameter"])
def test_meta_gradient_against_differences(tasks, norm, learn):
    """Along a random direction of theta and alpha, through two inner steps of the convolutional network."""
    config = maml.Config(way=3, shot=2, inner_steps=2, alpha=0.1, norm=norm, learn_alpha=learn)
    params = in_double(maml_nets.init_conv_net(np.random.default_rng(2), 3, 4, 3 if norm == "per-step" else 1))
    alpha = maml.init_alpha(params, config)
    if learn == "no":
        learned = {}
    elif learn == "scalar":
        shared = mg.Tensor(np.float64(0.1), requires_grad=True)
        alpha, learned = dict.fromkeys(alpha, shared), {"alpha": shared}
    else:
        alpha = learned = in_double(alpha)
    everything = [*params.values(), *learned.values()]
    rng = np.random.default_rng(3)
    along = [rng.normal(size=p.shape) for p in everything]

    def value():
        return maml.meta_loss(maml_nets.conv_net, maml.cross_entropy, params, alpha, *tasks, config)[0]

    exact = sum(float((g * v).sum()) for g, v in zip(mg.grad(value(), everything), along))
    h, sides = 1e-6, []
    for sign in (1, -1):
        for p, v in zip(everything, along):
            p.data = p.numpy() + sign * h * v
        sides.append(value().item())
        for p, v in zip(everything, along):
            p.data = p.numpy() - sign * h * v
    numeric = (sides[0] - sides[1]) / (2 * h)
    assert abs(exact - numeric) <= 1e-4 * max(1, abs(numeric))


def test_first_order_gradient_is_the_gradient_at_the_adapted_parameters(tasks):
    """Of the convolutional network after two inner steps: each adapted parameter's, averaged over the tasks."""
    config = maml.Config(way=3, shot=2, inner_steps=2, alpha=0.1, first_order=True)
    params = in_double(maml_nets.init_conv_net(np.random.default_rng(2), 3, 4))
    alpha = maml.init_alpha(params, config)
    found = mg.grad(maml.meta_loss(maml_nets.conv_net, maml.cross_entropy, params, alpha, *tasks, config)[0], params)
    support, (x, y) = tasks
    adapted = tree.map(lambda p: p.detach(), maml.adapt(maml_nets.conv_net, maml.cross_entropy, params, alpha, *support, 2))
    there = mg.grad(lambda p: maml.cross_entropy(maml_nets.conv_net(p, x, 2), y).mean())(adapted)
    for k in params:
        expected = there[k].numpy().sum(0) if k in alpha else there[k].numpy()
        np.testing.assert_allclose(found[k].numpy(), expected, atol=1e-12)


def test_tasks_side_by_side_are_tasks_one_by_one(tasks):
    config = maml.Config(way=3, shot=2, inner_steps=2)
    params = in_double(maml_nets.init_conv_net(np.random.default_rng(2), 3, 4))
    alpha = maml.init_alpha(params, config)
    together = maml.meta_loss(maml_nets.conv_net, maml.cross_entropy, params, alpha, *tasks, config)[1].numpy()
    for t in range(2):
        alone = [(x[t:t + 1], y[t:t + 1]) for x, y in tasks]
        outputs = maml.meta_loss(maml_nets.conv_net, maml.cross_entropy, params, alpha, *alone, config)[1].numpy()
        np.testing.assert_allclose(outputs[0], together[t], atol=1e-10)


def test_support_statistics_keep_queries_apart(tasks):
    """With the support set's statistics a query's output does not depend on the other queries; with the batch's it does."""
    (x, y), (q, _) = tasks
    params = in_double(maml_nets.init_conv_net(np.random.default_rng(2), 3, 4))
    for norm, apart in (("support", True), ("transductive", False)):
        config = maml.Config(way=3, shot=2, norm=norm)
        run = lambda queries: maml.query_outputs(maml_nets.conv_net, maml.cross_entropy, params, maml.init_alpha(params, config),
                                                 (x, y), queries, config, 1).numpy()
        assert np.allclose(run(q)[:, :4], run(q[:, :4]), atol=1e-8) == apart


def test_slope_of_the_step_sizes():
    """Meta-SGD: the gradient with respect to alpha is minus the product of support and query gradients."""
    rng = np.random.default_rng(4)
    params = in_double(maml_nets.init_mlp(rng, 5))
    alpha = in_double({k: mg.Tensor(np.full(p.shape, 0.05)) for k, p in params.items()})
    x, y, qx, qy = (mg.Tensor(rng.normal(size=(1, 7, 1))) for _ in range(4))
    config = maml.Config(inner_steps=1, first_order=True)
    value, _ = maml.meta_loss(maml_nets.mlp, maml.squared_error, params, alpha, (x, y), (qx, qy), config)
    found = mg.grad(value, alpha)
    inner = mg.grad(lambda p: maml.squared_error(maml_nets.mlp(p, x), y).sum())(params)
    adapted = tree.map(lambda p, g: p.detach() - 0.05 * g.detach(), params, inner)
    outer = mg.grad(lambda p: maml.squared_error(maml_nets.mlp(p, qx), qy).sum())(adapted)
    for k in params:
        np.testing.assert_allclose(found[k].numpy(), -(inner[k] * outer[k]).numpy(), atol=1e-10)


def test_losses_of_a_task_by_hand():
    """Cross-entropy is summed over the N K examples and divided by K; the squared error is a mean."""
    rng = np.random.default_rng(5)
    z, y = rng.normal(size=(2, 6, 3)), np.array([[0, 1, 2, 0, 1, 2], [2, 2, 1, 1, 0, 0]])  # K = 2
    p = np.exp(z) / np.exp(z).sum(2, keepdims=True)
    expected = [-np.log(p[t, np.arange(6), y[t]]).sum() / 2 for t in range(2)]
    np.testing.assert_allclose(maml.cross_entropy(mg.Tensor(z), mg.Tensor(y)).numpy(), expected)
    np.testing.assert_allclose(maml.squared_error(mg.Tensor(z), mg.Tensor(z + 2)).numpy(), [4, 4])


def test_step_sizes_that_are_learned():
    params = maml_nets.init_conv_net(np.random.default_rng(0), 3, 4, steps=2, positions=4)
    adapted = {"weight", "bias", *(f"conv{i}" for i in range(4))}  # neither scales nor shifts
    for learn in ("no", "scalar", "tensor", "parameter"):
        alpha = maml.init_alpha(params, maml.Config(alpha=0.3, learn_alpha=learn))
        assert alpha.keys() == adapted and all(np.allclose(a if learn == "no" else a.numpy(), 0.3) for a in alpha.values())
        if learn != "no":
            assert len(set(map(id, alpha.values()))) == (1 if learn == "scalar" else 6)
            assert all(a.shape == (params[k].shape if learn == "parameter" else ()) for k, a in alpha.items())


def test_each_inner_step_has_its_scales(tasks):
    """Step j normalises with scale and shift j, and the queries with those behind the last step."""
    config = maml.Config(way=3, shot=2, inner_steps=2, norm="per-step", alpha=0.1)
    params = in_double(maml_nets.init_conv_net(np.random.default_rng(2), 3, 4, 3))
    rng = np.random.default_rng(3)
    for name in params:
        if name.startswith("s"):
            params[name].data = params[name].numpy() + 0.3 * rng.normal(size=params[name].shape)
    alpha, (support, (x, _)) = maml.init_alpha(params, config), tasks

    def of(step, values):
        return {k: v[step:step + 1] if k.startswith("s") else v for k, v in values.items()}

    for t in range(2):
        fast = {k: p.detach() for k, p in params.items()}
        for j in range(2):
            g = mg.grad(lambda p: maml.cross_entropy(maml_nets.conv_net(of(j, fast | p), support[0][t:t + 1]),
                                                     support[1][t:t + 1]).sum())({k: fast[k] for k in alpha})
            fast |= {k: fast[k] - 0.1 * g[k] for k in alpha}
        expected = maml_nets.conv_net(of(2, fast), x[t:t + 1]).numpy()[0]
        found = maml.query_outputs(maml_nets.conv_net, maml.cross_entropy, params, alpha, support, x, config, 2).numpy()[t]
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_networks_of_maml():
    """Scales and shifts for each step; as many weights as the linear layer reads; the mean over positions where it reads that."""
    rng = np.random.default_rng(0)
    params = maml_nets.init_conv_net(rng, 3, 64, steps=2)
    assert params["scale1"].shape == (2, 64) and params["weight"].shape == (3, 64)
    assert params["conv2"].numpy().std() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)
    x, seen = mg.Tensor(rng.random((1, 4, 1, 28, 28), np.float32)), []
    for positions in (1, 4):
        params["weight"] = mg.Tensor(np.eye(64 * positions, dtype=np.float32))
        params["bias"] = mg.Tensor(np.zeros(64 * positions, np.float32))
        seen.append(maml_nets.conv_net(params, x).numpy()[0])
    np.testing.assert_allclose(seen[1].reshape(4, 64, 4).mean(2), seen[0], rtol=1e-4, atol=1e-5)


def test_a_learner_of_maml_and_its_tasks():
    from methods.few_shot import maml_tasks
    config = maml.Config(way=3, shot=2, inner_steps=1, test_steps=3, alpha=0.1, norm="per-step")
    learner, rng = maml_tasks.CharacterLearner(config, width=4, positions=1), np.random.default_rng(0)
    assert learner.theta["scale0"].shape == (2, 4)
    support, queries = (mg.Tensor(rng.random((6, 1, 12, 12), np.float32)) for _ in range(2))
    both, labels = mg.concatenate([support, queries])[None], mg.Tensor(np.array([[0, 0, 1, 1, 2, 2]]))
    expected = learner.outputs((support[None], labels), both, 3).numpy()[0, 6:]
    np.testing.assert_array_equal(learner.classify(support, queries, 3).numpy(), expected)
    x, y, qx, qy = maml_tasks.SinusoidTasks(30, 40, 50, seed=1).sample()
    assert x.shape == y.shape == (50, 30, 1) and qx.shape == qy.shape == (50, 40, 1) and abs(x).max() <= 5
    a, p = np.zeros(50), np.zeros(50)
    for t in range(50):  # a sin(x - p) = a cos p sin x - a sin p cos x
        c = np.linalg.lstsq(np.c_[np.sin(x[t]), -np.cos(x[t])], y[t, :, 0], rcond=None)[0]
        np.testing.assert_allclose(np.c_[np.sin(qx[t]), -np.cos(qx[t])] @ c, qy[t, :, 0], atol=1e-4)
        a[t], p[t] = np.hypot(*c), np.arctan2(c[1], c[0])
    assert 0.1 <= a.min() < 1 < 4 < a.max() <= 5.001 and -1e-3 <= p.min() < 0.5 < 2.6 < p.max() <= np.pi + 1e-3


def test_examples_and_queries_count_at_five_places():
    from methods.few_shot import maml_tasks
    rng = np.random.default_rng(3)
    (x, queries), y = (rng.random((2, 3, 1, 12, 12), np.float32) for _ in range(2)), np.array([[0, 1, 2]] * 2)

    def placed(images):
        wide = np.pad(images, ((0, 0),) * 3 + ((2, 2),) * 2)
        return np.concatenate([wide[..., i:i + 12, j:j + 12] for i, j in ((2, 2), (0, 2), (4, 2), (2, 0), (2, 4))], 1)

    learners = [maml_tasks.CharacterLearner(maml.Config(way=3, shift=shift), width=4, positions=1, seed=0) for shift in (0, 2)]
    plain, shifting = (learner.outputs(*arguments, 2) for learner, arguments in zip(learners, (
        ((mg.Tensor(placed(x)), mg.Tensor(np.concatenate([y] * 5, 1))), mg.Tensor(placed(queries))),
        ((mg.Tensor(x), mg.Tensor(y)), mg.Tensor(queries)))))
    scores = mg.log_softmax(plain, 2).numpy().reshape(2, 5, 3, 3)
    np.testing.assert_allclose(shifting.numpy(), scores.mean(1), rtol=1e-4, atol=1e-5)


def test_the_rate_of_maml():
    rates = {kind: [maml.MAML(maml.Config(schedule=kind), None).schedule(step, 4) for step in (0, 2, 4)]
             for kind in ("constant", "cosine")}
    assert rates["constant"] == [1, 1, 1] and rates["cosine"] == pytest.approx([1, 0.5, 0])


def test_tasks_of_one_script():
    """All characters of a near task are of one script and equally turned; others are mixed."""
    from methods.few_shot import maml_tasks
    from minigrad import data
    names = [f"{script}/character{i}{how}" for how in ("@0", "@90") for script in ("a", "b") for i in range(4)]
    images = np.arange(16.0)[:, None, None, None] + np.zeros((16, 3, 2, 2))
    groups = maml_tasks.scripts(data.Characters(images, names), 3)
    assert [group[0].flat[0] for group in groups] == [0, 4, 8, 12]
    for within in (0.0, 1.0):
        sampler = maml_tasks.NearSampler([c[:, None] for c in images], 3, 1, 1, seed=0)
        sampler.within, sampler.groups = within, groups
        one = [len(set(sampler.sample().support[:, 0, 0, 0] // 4)) == 1 for _ in range(10)]
        assert all(one) == (within == 1)
        assert len(sampler.images) == 16
