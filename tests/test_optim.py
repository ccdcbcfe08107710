"""Optimisers against PyTorch or their formula, clipping, moving averages."""
import numpy as np
import pytest
from ml_dtypes import bfloat16

import minigrad as mg
from minigrad import nn, optim


def run(make, steps=7, seed=0):
    """Parameters after some steps along drawn gradients."""
    rng = np.random.default_rng(seed)
    params = [nn.Parameter(rng.normal(size=s)) for s in ((3, 4), (4,))]
    optimizer = make(params)
    for _ in range(steps):
        for p in params:
            p.grad = mg.Tensor(rng.normal(size=p.shape))
        optimizer.step()
    return [p.numpy() for p in params]


def in_torch(make, steps=7, seed=0):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    params = [torch.nn.Parameter(torch.tensor(rng.normal(size=s))) for s in ((3, 4), (4,))]
    optimizer = make(torch.optim, params)
    for _ in range(steps):
        for p in params:
            p.grad = torch.tensor(rng.normal(size=tuple(p.shape)))
        optimizer.step()
    return [p.detach().numpy() for p in params]


@pytest.mark.parametrize("name, settings", [
    ("SGD", dict(lr=0.1)), ("SGD", dict(lr=0.1, momentum=0.9, weight_decay=0.01)),
    ("SGD", dict(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)),
    ("Adam", dict(lr=0.1)), ("Adam", dict(lr=0.1, betas=(0.5, 0.9), eps=1e-3, weight_decay=0.1)),
    ("AdamW", dict(lr=0.1, weight_decay=0.1))])
def test_as_pytorch(name, settings):
    for ours, theirs in zip(run(lambda ps: getattr(optim, name)(ps, **settings)),
                            in_torch(lambda module, ps: getattr(module, name)(ps, **settings))):
        np.testing.assert_allclose(ours, theirs, rtol=1e-7)


def test_lamb_by_its_algorithm():
    rng = np.random.default_rng(0)
    params = [rng.normal(size=s) for s in ((3, 4), (4,))]
    m, v = ([np.zeros_like(p) for p in params] for _ in range(2))
    for t in range(1, 8):
        for i, p in enumerate(params):
            g = rng.normal(size=p.shape)
            m[i], v[i] = 0.9 * m[i] + 0.1 * g, 0.99 * v[i] + 0.01 * g * g
            r = m[i] / (1 - 0.9**t) / (np.sqrt(v[i] / (1 - 0.99**t)) + 1e-6)
            if p.ndim > 1:
                r = r + 0.05 * p
                r = r * np.linalg.norm(p) / np.linalg.norm(r)
            params[i] = p - 0.1 * r
    for ours, expected in zip(run(lambda ps: optim.LAMB(ps, 0.1, (0.9, 0.99), weight_decay=0.05)), params):
        np.testing.assert_allclose(ours, expected, rtol=1e-9)


def test_lars_by_its_formula():
    rng = np.random.default_rng(0)
    params = [rng.normal(size=s) for s in ((3, 4), (4,))]
    v = [np.zeros_like(p) for p in params]
    for _ in range(7):
        for i, p in enumerate(params):
            g = rng.normal(size=p.shape)
            if p.ndim > 1:
                g = g + 0.05 * p
                g = 0.02 * np.linalg.norm(p) / np.linalg.norm(g) * g
            v[i] = 0.9 * v[i] + g
            params[i] = p - 0.1 * v[i]
    for ours, expected in zip(run(lambda ps: optim.LARS(ps, 0.1, 0.9, 0.05, trust=0.02)), params):
        np.testing.assert_allclose(ours, expected, rtol=1e-9)


def test_a_parameter_of_zeros_still_moves():
    p = nn.Parameter(np.zeros((2, 2)))
    p.grad = mg.Tensor(np.ones((2, 2)))
    optim.LARS([p], 0.1, momentum=0, trust=1.0).step()
    np.testing.assert_allclose(p.numpy(), -0.1)


def test_clipping_by_the_norm_of_all_gradients():
    params = [nn.Parameter(np.zeros(2)), nn.Parameter(np.zeros(1)), nn.Parameter(np.zeros(3))]
    params[0].grad, params[1].grad = mg.Tensor(np.array([3.0, 0.0])), mg.Tensor(np.array([4.0]))
    assert optim.clip_grad_norm(params, 10.0) == 5.0 and params[1].grad.item() == 4.0
    assert optim.clip_grad_norm(params, 1.0) == 5.0
    np.testing.assert_allclose([*params[0].grad.numpy(), *params[1].grad.numpy()], [0.6, 0, 0.8])
    params[1].grad = mg.Tensor(np.array([np.inf]))
    assert optim.clip_grad_norm(params, 1.0) == np.inf and np.isnan(params[0].grad.numpy()).all()


def test_moving_average_of_parameters_and_buffers():
    net = nn.BatchNorm2d(2)
    ema = optim.EMA(net, decay=0.9, warmup=False)
    net.weight.data = np.array([3.0, 5.0], np.float32)
    net.running_mean[...] = 10
    ema.update()
    np.testing.assert_allclose(ema.average["weight"], [1.2, 1.4], rtol=1e-6)
    np.testing.assert_allclose(ema.average["running_mean"], 1.0, rtol=1e-6)
    twin = nn.BatchNorm2d(2)
    ema.copy_to(twin)
    np.testing.assert_allclose(twin.weight.numpy(), [1.2, 1.4], rtol=1e-6)
    other = optim.EMA(nn.BatchNorm2d(2))
    other.load_state_dict(ema.state_dict())
    assert other.updates == 1 and (other.average["weight"] == ema.average["weight"]).all()


def test_the_initial_values_fade_with_warmup():
    """The first update gives 1/2 to each, the second 1/3 to the newest: a plain mean of all until the decay is reached."""
    net = nn.Linear(1, 1, bias=False)
    net.weight.data = np.zeros((1, 1), np.float32)
    ema = optim.EMA(net, decay=0.99)
    for value in (1.0, 2.0, 3.0):
        net.weight.data = np.full((1, 1), value, np.float32)
        ema.update()
    np.testing.assert_allclose(ema.average["weight"], np.mean([0, 1, 2, 3]), rtol=1e-6)


def test_errors():
    with pytest.raises(ValueError, match="no parameters"):
        optim.SGD([], 0.1)
    with pytest.raises(ValueError, match="negative"):
        optim.Adam([nn.Parameter(np.zeros(1))], -1.0)
    with pytest.raises(ValueError, match="decay"):
        optim.EMA(nn.Linear(1, 1), 1.0)


@pytest.mark.parametrize("dtype, tolerance", [(np.float16, 1e-3), (bfloat16, 8e-3)])
def test_products_of_half_precision_are_rounded_once(dtype, tolerance):
    rng = np.random.default_rng(0)
    x, w = (rng.normal(size=shape).astype(dtype) for shape in ((5, 3000), (4, 3000)))
    exact = x.astype(np.float64) @ w.astype(np.float64).T
    for y in (mg.matmul(x, w.T), mg.linear(x, w), mg.conv2d(x.reshape(5, 3, 10, 100), w.reshape(4, 3, 10, 100))):
        assert y.dtype == dtype
        np.testing.assert_allclose(y.numpy().reshape(5, 4).astype(float), exact, rtol=tolerance)
    weight = mg.Tensor(w, requires_grad=True)
    mg.linear(x, weight).sum().backward()
    assert weight.grad.dtype == dtype
    np.testing.assert_allclose(weight.grad.numpy()[0].astype(float), x.astype(float).sum(0), rtol=tolerance, atol=tolerance)


def half_loss(net, x, y, dtype):
    half = {name: p.astype(dtype) for name, p in net.named_parameters()}
    return mg.cross_entropy(nn.functional_call(net, half, mg.astype(x, dtype)).astype("float32"), y)


class Small(nn.Module):
    """A convolution and a linear map; its logits are small, and so are its gradients."""

    def __init__(self):
        self.conv, self.head = nn.Conv2d(1, 4, 3), nn.Linear(4 * 36, 3)

    def forward(self, x):
        return self.head(mg.relu(self.conv(x)).reshape(len(x), -1))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_training_in_half_precision_follows_single_precision(dtype):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 1, 8, 8)), rng.integers(0, 3, 30)
    losses = []
    for scaler in (optim.LossScaler(2.0**10), None):
        mg.random.seed(0)
        net = Small()
        optimizer = optim.Adam(net.parameters(), 0.01)
        for _ in range(30):
            net.zero_grad()
            if scaler is None:
                loss = mg.cross_entropy(net(x.astype(np.float32)), y)
                loss.backward()
                optimizer.step()
            else:
                loss = half_loss(net, x, y, dtype)
                scaler.scaled(loss).backward()
                assert scaler.step(optimizer)
        assert all(p.dtype == np.float32 == p.grad.dtype for p in net.parameters())
        losses.append(float(loss))
    assert losses[1] < 0.3 and abs(losses[0] - losses[1]) < 0.05


def test_the_mean_of_many_losses_fits_float16():
    loss = mg.cross_entropy(np.zeros((20000, 30), np.float16), np.zeros(20000, int))
    assert loss.dtype == np.float16 and abs(float(loss) - np.log(30)) < 2e-3


def test_adam_refuses_float16_where_its_eps_would_be_0():
    with pytest.raises(ValueError, match="eps 1e-08 is 0 in float16"):
        optim.AdamW([nn.Parameter(np.ones(2, np.float16))])
    optim.Adam([nn.Parameter(np.ones(2, np.float16))], eps=1e-4)


def test_the_scale_saves_small_gradients():
    p, small = nn.Parameter(np.ones((1, 1), np.float32)), np.full((1, 1), 1e-4, np.float16)
    for scale, survives in ((1.0, False), (2.0**14, True)):
        scaler, p.grad = optim.LossScaler(scale), None
        y = mg.matmul(p.astype("float16"), small) * small  # its slope 1e-8 is below float16's least number
        scaler.scaled(y.astype("float32").sum()).backward()
        assert scaler.step(optim.SGD([p], 0.0)) and (p.grad.item() > 0) == survives
    np.testing.assert_allclose(p.grad.item(), 1e-8, rtol=2e-3)


def test_the_schedule_of_the_scale():
    p = nn.Parameter(np.ones(2, np.float32))
    optimizer, scaler = optim.SGD([p], 1.0), optim.LossScaler(4.0, interval=2)
    seen = []
    for g in (1, 1, np.inf, 1, np.nan, -np.inf, np.inf, 1):
        p.grad = mg.Tensor(np.array([0, g * scaler.scale], np.float32))
        before = p.numpy().copy()
        stepped = scaler.step(optimizer)
        assert stepped == np.isfinite(g) and (before - p.numpy())[1] == (g if stepped else 0)
        seen.append(scaler.scale)
    assert seen == [4, 8, 4, 4, 2, 1, 1, 1]
    twin = optim.LossScaler()
    twin.load_state_dict(scaler.state_dict())
    assert (twin.scale, twin.good) == (scaler.scale, scaler.good) == (1, 1)
    with pytest.raises(ValueError, match="backoff"):
        optim.LossScaler(backoff=1.0)
