"""Layers: fused paths against definitions to third order, convolution against its reference, training, state."""
import numpy as np
import pytest

import minigrad as mg
from minigrad import io, nn, optim
from minigrad.fused import Fused
from minigrad.ops import conv, normalization as norm, pool


def third_derivatives(f, inputs, seed=0):
    """f and its first three derivatives along random directions, as floats, from a random weighting of the output."""
    rng = np.random.default_rng(seed)
    vs = [rng.normal(size=x.shape) for x in inputs]
    c = rng.normal(size=f(*inputs).shape)
    g = lambda *xs: (f(*xs) * c).sum()
    values = []
    for _ in range(4):
        values.append(float(g(*inputs)))
        g = (lambda g: lambda *xs: sum((d * v).sum() for d, v in zip(mg.grad(g, tuple(range(len(xs))))(*xs), vs)))(g)
    return values


def first(y):
    """The first output of an operation that may have several."""
    return y[0] if isinstance(y, tuple) else y


def joined(y):
    """All outputs in one Tensor."""
    return mg.concatenate([part.reshape(-1) for part in y]) if isinstance(y, tuple) else y


OUTPUTS = pytest.mark.parametrize("outputs", [first, joined])  # the first alone is what the fast gradients know of
NORM = dict(eps=1e-3)
GEOMETRY = dict(kernel=(3, 2), stride=(2, 1), padding=(1, 0))
FUSED = pytest.mark.parametrize("operation, shapes, settings", [
    (norm._fused_norm, [(4, 3, 2, 3), (3,), (3,)], NORM),
    (norm._fused_norm_gradient, [(4, 3, 2, 3), (4, 3, 2, 3), (3,)], NORM),
    (conv._fused_bias, [(3, 2, 5, 4), (2,)], {}),
    (norm._fused_block, [(3, 2, 5, 4), (2,), (2,)], NORM),
    (pool._fused_max_pool, [(2, 2, 5, 4)], GEOMETRY), (pool._fused_avg_pool, [(2, 2, 5, 4)], GEOMETRY)])


@OUTPUTS
@FUSED
def test_fused_equals_definition_to_third_order(operation, shapes, settings, outputs):
    inputs = [np.random.default_rng(1).normal(size=s) for s in shapes]
    fused = third_derivatives(lambda *xs: outputs(operation(*xs, **settings)), inputs)
    plain = third_derivatives(lambda *xs: outputs(operation.definition(
        *[x if isinstance(x, mg.Tensor) else mg.Tensor(x) for x in xs], **settings)), inputs)
    np.testing.assert_allclose(fused, plain, rtol=1e-8, atol=1e-8)


@OUTPUTS
@FUSED
def test_fused_first_order_path_equals_definition(operation, shapes, settings, outputs):
    assert isinstance(operation, Fused)
    arrays = [np.random.default_rng(2).normal(size=s) for s in shapes]
    grads = []
    for f in (operation, operation.definition):
        xs = [mg.Tensor(a, requires_grad=True) for a in arrays]
        y = outputs(f(*xs, **settings))
        (y * np.arange(y.size).reshape(y.shape)).sum().backward()
        grads.append([x.grad.numpy() for x in xs])
    for a, b in zip(*grads):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("stride, padding, dilation, groups", [(1, 1, 1, 1), ((2, 1), (0, 2), (1, 2), 2), (2, 1, 1, 4)])
def test_convolution(stride, padding, dilation, groups):
    rng = np.random.default_rng(3)
    x, w = rng.normal(size=(2, 4, 7, 6)), rng.normal(size=(8, 4 // groups, 3, 2))
    pair = lambda v: v if isinstance(v, tuple) else (v, v)
    settings = dict(stride=stride, padding=padding, dilation=dilation, groups=groups)
    np.testing.assert_allclose(mg.conv2d(x, w, **settings).numpy(),
                               conv._conv2d(x, w, pair(stride), pair(padding), pair(dilation), groups))
    v, u = rng.normal(size=x.shape), rng.normal(size=w.shape)
    f = lambda x, w: (mg.conv2d(x, w, **settings) ** 3).sum()
    for _ in range(3):
        h = 1e-5
        numeric = (float(f(x + h * v, w + h * u)) - float(f(x - h * v, w - h * u))) / (2 * h)
        f = (lambda f: lambda x, w: (mg.grad(f, 0)(x, w) * v).sum() + (mg.grad(f, 1)(x, w) * u).sum())(f)
        assert float(f(x, w)) == pytest.approx(numeric, rel=1e-5)


def test_cross_entropy_to_third_order():
    labels, x = np.array([0, 2, 1, 2]), np.random.default_rng(4).normal(size=(4, 3))
    fused = third_derivatives(lambda x: mg.cross_entropy(x, labels), [x])
    plain = third_derivatives(lambda x: -mg.take_along_axis(mg.log_softmax(x), labels[:, None], 1).mean(), [x])
    np.testing.assert_allclose(fused, plain, rtol=1e-9)
    with pytest.raises(ValueError, match="labels from"):
        mg.cross_entropy(x, labels + 1)


def network():
    mg.random.seed(0)
    return nn.Sequential(nn.ConvBlock(1, 8), nn.ConvBlock(8, 8), nn.Flatten(), nn.Linear(8, 4))


@pytest.mark.parametrize("make", [lambda p: optim.SGD(p, 0.1, momentum=0.9, nesterov=True), lambda p: optim.Adam(p, 1e-2),
                                  lambda p: optim.AdamW(p, 1e-2)])
def test_a_network_learns_and_resumes_to_the_same_bits(make, tmp_path):
    pytest.importorskip("safetensors")
    rng = np.random.default_rng(5)
    labels = np.arange(32) % 4
    x = (rng.normal(size=(4, 1, 6, 6))[labels] + 0.1 * rng.normal(size=(32, 1, 6, 6))).astype(np.float32)

    def run(net, optimizer, steps):
        for _ in range(steps):
            loss = mg.cross_entropy(net(x), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return float(loss)

    net = network()
    optimizer = make(net.parameters())
    first = run(net, optimizer, 1)
    run(net, optimizer, 9)
    io.save(tmp_path / "c", {f"net.{k}": v for k, v in net.state_dict().items()}
            | {f"opt.{k}": v for k, v in optimizer.state_dict().items()}, {"step": 10})
    last = run(net, optimizer, 20)
    assert last < first / 3
    arrays, facts = io.load(tmp_path / "c")
    twin = network()
    twin_optimizer = make(twin.parameters())
    twin.load_state_dict({k[4:]: v for k, v in arrays.items() if k.startswith("net.")})
    twin_optimizer.load_state_dict({k[4:]: v for k, v in arrays.items() if k.startswith("opt.")})
    assert facts == {"step": 10} and run(twin, twin_optimizer, 20) == last


def test_functional_call_leaves_the_module_alone():
    net = nn.Linear(3, 2)
    weight = mg.Tensor(np.zeros((2, 3), np.float32), requires_grad=True)
    before = net.weight
    y = nn.functional_call(net, {"weight": weight}, np.ones((1, 3), np.float32))
    assert net.weight is before and np.allclose(y.numpy(), net.bias.numpy())
    y.sum().backward()
    assert weight.grad is not None and net.weight.grad is None
    with pytest.raises(KeyError, match="no parameters"):
        nn.functional_call(net, {"w": weight}, np.ones((1, 3), np.float32))


def test_damaged_checkpoint_is_a_clear_error(tmp_path):
    pytest.importorskip("safetensors")
    (tmp_path / "c").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="damaged"):
        io.load(tmp_path / "c")
