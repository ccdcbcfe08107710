"""Memory: graphs die by reference counting, long chains work, long runs stay flat, saved arrays go as soon as they can."""
import gc
import sys
import tracemalloc
import weakref

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.tensor import asarray


@pytest.fixture(autouse=True)
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def normalised(x, w):
    return ((x - mg.mean(x, 1, keepdims=True)) / mg.sqrt(mg.var(x, 1, keepdims=True) + 1e-5) * w).sum()


def convolved(x, w):
    y = mg.max_pool2d(mg.conv2d(x.reshape(1, 1, 4, 4), w.reshape(1, 1, 2, 2), padding=1), 2)
    return mg.cross_entropy(y.reshape(1, -1), np.array([0]))


PROGRAMS = {
    "elementwise": lambda x, w: (mg.tanh(x * x) + mg.exp(-x) * w).sum(), "normalised": normalised, "convolved": convolved,
    "linear algebra": lambda x, w: mg.slogdet(x @ x.T + 4 * np.eye(4))[1] + mg.norm(mg.einsum("ij,j->i", x, w)),
    "indices": lambda x, w: (mg.sort(x)[:, [0, 0, 1]] ** 2).sum() + mg.concatenate([w, w * w]).max(),
    "checkpoint": lambda x, w: mg.checkpoint(lambda x: mg.sin(x @ x) * w)(x).sum(),
    "inner gradient": lambda x, w: (mg.grad(lambda v: (mg.sin(v) * w).sum())(x) * x).sum()}
USES = {
    "forward": lambda f, x, w: f(x, w), "backward": lambda f, x, w: f(x, w).backward(),
    "backward twice": lambda f, x, w: [f(x, w).backward(), f(x, w).backward()],
    "grad": lambda f, x, w: mg.grad(f, (0, 1))(x, w), "value_and_grad": lambda f, x, w: mg.value_and_grad(f)(x, w),
    "graph of the gradient": lambda f, x, w: mg.grad(f(x, w), [x, w], create_graph=True),
    "retained": lambda f, x, w: f(x, w).backward(retain_graph=True), "hvp": lambda f, x,
    w: mg.hvp(f, (x, w), (x.detach(), w.detach())),
    "jvp": lambda f, x, w: mg.jvp(f, (x, w), (x.detach(), w.detach())), "vjp": lambda f, x,
    w: mg.vjp(f, x, w)[1](np.ones(())),
    "jacobian": lambda f, x, w: mg.jacobian(lambda w: f(x, w))(w)}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("name", PROGRAMS)
def test_no_reference_cycles(name, use):
    """Without the collector, no Tensor, Node or array outlives the last reference to the result."""
    rng = np.random.default_rng(0)
    x, w = mg.Tensor(rng.normal(size=(4, 4)), requires_grad=True), mg.Tensor(rng.normal(size=4), requires_grad=True)
    USES[use](PROGRAMS[name], x, w)  # fills what is cached once
    gc.collect()
    refs = [weakref.ref(x), weakref.ref(asarray(x))]
    result = USES[use](PROGRAMS[name], x, w)
    del x, w, result
    assert [r() for r in refs] == [None, None]
    assert not [o for o in gc.get_objects() if type(o) is mg.primitive.Node]


def test_an_error_leaves_nothing_behind():
    x = mg.Tensor(np.ones(3), requires_grad=True)
    ref = weakref.ref(asarray(x))
    for wrong in (lambda: (x * x).backward(), lambda: x * np.ones(2), lambda: mg.grad(lambda x: x * x)(x),
                  lambda: mg.checkpoint(lambda x: x @ np.ones(2))(x)):
        with pytest.raises((RuntimeError, ValueError)):
            wrong()
    del x, wrong
    gc.collect()  # tracebacks are cycles of their own
    assert ref() is None


@pytest.mark.parametrize("context", [mg.no_grad, mg.enable_grad])
def test_a_generator_that_is_left_early_holds_nothing(context):
    @context
    def batches():
        x = mg.Tensor(np.ones(3))
        refs.append(weakref.ref(x))
        yield 1
        yield 2

    refs = []
    for _ in batches():
        break
    begun = batches()
    with pytest.raises(ZeroDivisionError):
        next(begun)
        begun.throw(ZeroDivisionError())
    del begun
    assert [r() for r in refs] == [None, None]


@pytest.mark.parametrize("op, slope",
                         [(lambda y, x: y + x, 100_001), (lambda y, x: y * x, 100_001), (lambda y, x: mg.abs(-y), 1),
                                       (lambda y, x: y.reshape(1)[0], 1)], ids=["add", "multiply", "abs", "getitem"])
def test_a_chain_of_100_000_operations(op, slope):
    """Built and dropped, and built and differentiated: neither recurses."""
    x = mg.Tensor(1.0, requires_grad=True)
    for _ in range(2):
        y = x
        for _ in range(100_000):
            y = op(y, x)
    y.backward()
    assert x.grad.item() == slope


def test_10_000_steps_stay_flat():
    rng = np.random.default_rng(0)
    images, labels = rng.normal(size=(8, 6)).astype(np.float32), rng.integers(0, 3, 8)
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    optimizer, losses = optim.Adam(net.parameters(), 0.01), []
    for i in range(10_000):
        loss = mg.cross_entropy(net(mg.Tensor(images)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if i % 1000 == 0:
            losses.append((float(loss), sys.getallocatedblocks()))
    blocks = [b for _, b in losses]
    assert max(blocks[3:]) - blocks[2] < 300, blocks
    assert losses[-1][0] < losses[0][0]


def test_second_order_steps_stay_flat():
    x, blocks = mg.Tensor(np.ones(4), requires_grad=True), []
    for i in range(2000):
        adapted = x - 0.1 * mg.grad((mg.sin(x) * x).sum(), x, create_graph=True)
        mg.grad((adapted ** 3).sum(), x)
        mg.hvp(lambda x: (x ** 3).sum(), x.detach(), np.ones(4))
        if i % 200 == 0:
            blocks.append(sys.getallocatedblocks())
    assert max(blocks[3:]) - blocks[2] < 200, blocks


def test_arrays_that_no_rule_needs_are_not_held():
    x = mg.Tensor(np.ones(1000), requires_grad=True)
    y, refs = x, []
    for op in (lambda x: x + 1, lambda x: -x, lambda x: mg.flip(x), lambda x: x.reshape(10, 100), lambda x: mg.cumsum(x, 0),
               lambda x: x.sum(1)):
        y = op(y)
        refs.append(weakref.ref(asarray(y) if asarray(y).base is None else asarray(y).base))
    y = y.sum()
    assert all(ref() is None for ref in refs)
    y.backward()
    assert x.grad.tolist() == (-np.arange(10, 0, -1.0)).repeat(100)[::-1].tolist()


def test_saved_arrays_go_as_the_backward_pass_leaves_them():
    refs, alive = [], []

    def rule(g, _out, _x):
        alive.append(sum(ref() is not None for ref in refs))
        return g

    probe = mg.Primitive("probe", lambda x: x + 0, rule)
    for retain, expected in ((False, [5, 0]), (True, [10, 10])):
        refs.clear()
        alive.clear()
        y = mg.Tensor(np.ones(100), requires_grad=True)
        for k in range(12):  # probes at 0 and 6, each followed by five sines that save their input
            y = mg.sin(y) if k % 6 else probe(y)
            refs.append(weakref.ref(asarray(y)))
        y = y.sum()
        y.backward(retain_graph=retain)
        assert alive == expected


def peak(run):
    """The most bytes that `run` held at one time."""
    run()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        run()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def test_checkpoint_holds_less():
    x = mg.Tensor(np.linspace(0, 1, 50_000), requires_grad=True)

    def deep(x, part):
        for _ in range(8):
            x = part(x)
        return x.sum()

    def part(x):
        for _ in range(5):
            x = mg.tanh(mg.sin(x))
        return x

    plain, less = peak(lambda: mg.grad(deep(x, part), x)), peak(lambda: mg.grad(deep(x, mg.checkpoint(part)), x))
    assert less < 0.5 * plain and plain > 38 * x.detach().numpy().nbytes
    np.testing.assert_array_equal(mg.grad(deep(x, mg.checkpoint(part)), x).numpy(), mg.grad(deep(x, part), x).numpy())


def test_gradients_are_summed_in_place():
    """A tensor with many uses needs room for a few gradients, not for one a use."""
    x = mg.Tensor(np.ones(50_000), requires_grad=True)

    def many():
        total = x.sum()
        for _ in range(100):
            total = total + x.sum()
        return mg.grad(total, x)

    assert (many().numpy() == 101).all() and peak(many) < 8 * x.detach().numpy().nbytes


UNROLLED = {  # from (steps, 4) to steps along the first axis
    "iteration": lambda x: mg.stack([mg.tanh(part) for part in x]),
    "split": lambda x: mg.concatenate([mg.tanh(part) for part in mg.split(x, len(x))]),
    "GRU": lambda x: nn.GRU(4, 4)(x[:, None])[0], "LSTM": lambda x: nn.LSTM(4, 4)(x[:, None])[0]}


@pytest.mark.parametrize("name", UNROLLED)
def test_the_gradient_of_a_sequence_takes_memory_in_proportion_to_its_steps(name):
    def made(steps):
        x = mg.randn(steps, 4, requires_grad=True)
        with mg.profile() as profile:
            UNROLLED[name](x).sum().backward()
        return sum(bytes_made for _, _, bytes_made in profile.rows.values())

    assert made(80) < 2.5 * made(40)


def test_the_first_of_many_parts_does_not_wait_for_the_others():
    x = mg.randn(10_000, 4)
    with mg.profile() as profile:
        first = next(iter(x))
    assert (first.numpy() == x.numpy()[0]).all() and sum(made for _, _, made in profile.rows.values()) < x.numpy().nbytes / 10
