"""Operations with several outputs: values, derivatives to third order, outputs alone and together, and memory."""
import gc
import math
import threading
import weakref

import numpy as np
import pytest

import minigrad as mg
from minigrad.ops.normalization import _fused_block, _fused_norm


def symmetric(x):
    """A symmetric matrix whose eigenvalues lie apart."""
    return x @ x.T + np.diag(np.arange(1.0, len(x) + 1))


@mg.checkpoint
def inner(x):
    return mg.tanh(x), mg.sum(x * x)


@mg.checkpoint
def recomputed(x):
    """A tree of floats and whole numbers, with a checkpoint and an operation of two outputs inside."""
    p, q = inner(1.5 * x)
    return p * q, {"indices": mg.argmax(mg.stop_gradient(x)), "values": mg.eigh(symmetric(x))[0]}


# name: (function from an array to the outputs, the shape of the array). What is fixed up to its sign is squared.
OPERATIONS = {
    "eigh": (lambda x: (mg.eigh(symmetric(x))[0], mg.eigh(symmetric(x))[1] ** 2), (3, 4)),
    "eigh, one call": (lambda x: (lambda w, v: (w, v ** 2))(*mg.eigh(symmetric(x))), (3, 4)),
    "slogdet": (lambda x: mg.slogdet(symmetric(x)), (3, 4)),
    "batch_norm": (lambda x: _fused_norm(x.reshape(4, 3, 1, 2), mg.exp(x[0, :3]), x[1, :3], eps=1e-3), (4, 6)),
    "norm_relu_pool": (lambda x: _fused_block(x.reshape(2, 3, 2, 2), mg.exp(x[0, :3]), x[1, :3], eps=1e-3), (6, 4)),
    "iteration": (tuple, (3, 4)),
    "split": (lambda x: mg.split(x, (1, 3), axis=1), (2, 4)),
    "split in the wrong order": (lambda x: mg.array_split(x, (3, 1), axis=1)[::2], (2, 4)),  # the parts overlap
    "checkpoint": (lambda x: (lambda y, tree: (y, tree["values"]))(*recomputed(x)), (3, 4))}


def combined(operation, used, rng):
    """A scalar function of the outputs numbered `used`, quadratic in the last of them."""
    weights = rng.normal(size=(2, 200))

    def function(x):
        outs = operation(x if isinstance(x, mg.Tensor) else mg.Tensor(x))
        flat = [mg.reshape(outs[i], -1) for i in used]
        linear = sum((y * w[:y.size]).sum() for y, w in zip(flat, (weights[0], weights[1], weights[0, 50:])))
        return linear + 0.1 * (flat[-1] * weights[1, -flat[-1].size:]).sum() ** 2

    return function


@pytest.mark.parametrize("name", OPERATIONS)
def test_derivatives_to_third_order_of_each_output_and_of_all(name):
    rng = np.random.default_rng(0)
    operation, shape = OPERATIONS[name]
    x, v = rng.normal(size=(2, *shape))
    count = len(operation(mg.Tensor(x)))
    for used in [[i] for i in range(count)] + [list(range(count)), list(range(count))[::-1]]:
        f = combined(operation, used, rng)
        for _ in range(3):
            h = 1e-5
            numeric = (float(f(x + h * v)) - float(f(x - h * v))) / (2 * h)
            f = (lambda f: lambda x: (mg.grad(f)(x) * v).sum())(f)
            assert float(f(x)) == pytest.approx(numeric, rel=1e-5, abs=1e-5), used


@pytest.mark.parametrize("name", OPERATIONS)
def test_transforms_agree(name):
    rng = np.random.default_rng(1)
    operation, shape = OPERATIONS[name]
    x, v = rng.normal(size=(2, *shape))
    flat = lambda x: mg.concatenate([mg.reshape(y, -1) for y in operation(x)])
    jacobian = mg.jacobian(flat)(x).numpy()
    np.testing.assert_allclose(mg.jvp(flat, (x,), (v,))[1].numpy(), np.tensordot(jacobian, v, 2), atol=1e-10)
    value, pull = mg.vjp(flat, x)
    u = rng.normal(size=value.shape)
    for _ in range(2):
        np.testing.assert_allclose(pull(u)[0].numpy(), np.tensordot(u, jacobian, 1), atol=1e-10)
    scalar = lambda x: (flat(x) ** 2).sum()
    along = np.tensordot(mg.hessian(scalar)(x).numpy(), v, 2)
    np.testing.assert_allclose(mg.hvp(scalar, x, v).numpy(), along, atol=1e-7)
    np.testing.assert_allclose(mg.jvp(mg.grad(scalar), (x,), (v,))[1].numpy(), along, atol=1e-7)


def test_outputs_are_targets():
    x = mg.Tensor(np.random.default_rng(2).normal(size=(3, 3)), requires_grad=True)
    w, v = mg.eigh(symmetric(x))
    y = (w ** 3).sum() + (w * v[0]).sum()
    slopes = mg.grad(y, [w, v, x], create_graph=True)
    np.testing.assert_allclose(slopes[0].numpy(), 3 * w.numpy() ** 2 + v.numpy()[0])
    np.testing.assert_allclose(slopes[1].numpy()[0], w.numpy())
    through = mg.grad(y, x, retain_graph=True)  # w and v, though they are targets
    np.testing.assert_allclose(slopes[2].numpy(), through.numpy())
    np.testing.assert_allclose(mg.grad(slopes[0].sum(), w, retain_graph=True).numpy(), 6 * w.numpy())
    np.testing.assert_allclose(mg.grad(slopes[0].sum(), v).numpy(), [[1] * 3, [0] * 3, [0] * 3])


def test_the_graph_of_a_call_is_freed_for_all_its_outputs():
    x = mg.Tensor(np.eye(2), requires_grad=True)
    for other in (0, 1):
        outs = mg.eigh(x * [1.0, 2.0])
        outs[0].sum().backward(retain_graph=True)
        outs[0].sum().backward()
        with pytest.raises(RuntimeError, match="the graph below 'eigh' was freed"):
            outs[other].sum().backward()


def sorted_with_indices(forward):
    """A user's operation of two outputs, one of them whole numbers, which the rule reads."""
    def rule(gs, outs, _x):
        return mg.index_add(mg.zeros(_x.shape, dtype=_x.dtype), outs[1], gs[0])

    return mg.Primitive("sorted", forward, rule)


def test_whole_numbers_among_the_outputs_carry_no_gradient():
    def forward(x):
        order = x.argsort()
        return x[order], order

    x = mg.Tensor([3.0, 1.0, 2.0], requires_grad=True)
    operation = sorted_with_indices(forward)
    values, order = operation(x)
    assert values.requires_grad and not order.requires_grad and order.tolist() == [1, 2, 0]
    slope = mg.grad((values ** 3 * [1.0, 10.0, 100.0]).sum(), x, create_graph=True)
    np.testing.assert_allclose(slope.numpy(), [2700, 3, 120])
    np.testing.assert_allclose(mg.grad(slope.sum(), x).numpy(), [1800, 6, 120])
    assert not mg.slogdet(symmetric(x.reshape(1, 3)))[0].requires_grad  # the sign


def test_a_named_tuple_is_several_outputs_too():
    x = mg.Tensor(np.diag([2.0, 3.0]), requires_grad=True)
    logdet = mg.Primitive("logdet", np.linalg.slogdet, lambda gs, _outs, x: gs[1] * mg.inv(x).mT)
    np.testing.assert_allclose(mg.grad(logdet(x)[1], x).numpy(), np.diag([1 / 2, 1 / 3]))


def test_changes_in_place_of_what_the_call_reads_are_noticed():
    x = mg.Tensor(np.array([[2.0, 0.0], [0.0, 3.0]]), requires_grad=True)
    logarithm = mg.slogdet(x)[1]
    x.data *= 2
    with pytest.raises(RuntimeError, match="'slogdet' needs for its gradient was changed in place"):
        logarithm.backward()
    values, vectors = mg.eigh(x)
    x.data *= 2
    values.sum().backward()  # its rule reads the outputs
    assert not vectors.data.flags.writeable


MEMORY = {
    "eigh": mg.eigh, "slogdet": mg.slogdet,
    "batch_norm": lambda x: (mg.batch_norm(x * 1, np.zeros(4), np.ones(4), training=True),),
    "norm_relu_pool": lambda x: (mg.norm_relu_pool(x[None, None] * 1, None, None, mg.exp(x[0, :1]), x[1, :1], training=True),),
    "checkpoint": mg.checkpoint(lambda x: (x * x, mg.exp(-x))), "nested": mg.checkpoint(lambda x: inner(x * 2))}


@pytest.mark.parametrize("used", ["none", "all", "last"])
@pytest.mark.parametrize("name", MEMORY)
def test_the_graph_dies_by_reference_counting(name, used):
    x = mg.Tensor(np.random.default_rng(3).normal(size=(4, 4)), requires_grad=True)
    gc.collect()
    gc.disable()
    try:
        outs = list(MEMORY[name](x @ x.T))
        nodes = [y._node for y in outs if y._node is not None]
        nodes += [node.sources[0] for node in nodes]
        nodes = [weakref.ref(node) for node in nodes]
        if used != "none":
            outs = outs if used == "all" else outs[-1:]
            slope = mg.grad(sum((y * y).sum() for y in outs), x, create_graph=True)
            mg.grad((slope * slope).sum(), x, create_graph=True)
            del slope
        del outs
        assert [node() for node in nodes] == [None] * len(nodes)
    finally:
        gc.enable()


def test_threads_may_differentiate_one_graph():
    x = mg.Tensor(np.random.default_rng(4).normal(size=(4, 4)), requires_grad=True)
    w, v = mg.eigh(symmetric(x))
    y = (w ** 3).sum() + (v ** 4).sum()
    del w, v
    expected, found = mg.grad(y, x, retain_graph=True).numpy(), []
    many = lambda: found.extend(mg.grad(y, x, create_graph=True) for _ in range(20))
    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 80 and all((slope.numpy() == expected).all() for slope in found)


def test_observers_see_every_output():
    big = np.finfo(np.float32).max
    x = mg.Tensor(np.random.default_rng(5).normal(size=(4, 3, 4, 4)).astype(np.float32), requires_grad=True)
    weight, bias = mg.Tensor(np.array([1, big, 1], np.float32)), mg.Tensor(np.zeros(3, np.float32))
    for operation in (mg.batch_norm, mg.norm_relu_pool):
        name = operation.__name__
        with mg.detect_anomaly(), np.errstate(all="ignore"), pytest.raises(FloatingPointError, match=f"result of '{name}'"):
            operation(x, None, None, weight, bias, training=True)
        with mg.profile() as report:
            operation(x, None, None, bias + 1, bias, training=True).sum().backward()
        assert report.rows["forward", name][2] >= x.size // 4 * 4 and ("backward", name) in report.rows


@pytest.mark.parametrize("join", [mg.stack, mg.concatenate])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_what_is_joined_is_cut_once(join, axis):
    """However many Tensors were joined: a rule for each would read the shapes of all before it."""
    shapes = [(2, 3)] * 5 if join is mg.stack else [(2, n) if axis else (n, 2) for n in (1, 3, 0, 2, 1)]
    xs = [mg.Tensor(np.arange(math.prod(s), dtype=float).reshape(s), requires_grad=True) for s in shapes]
    with mg.profile() as p:
        y = join(xs, axis)
        y.backward(np.cos(np.arange(y.size)).reshape(y.shape))
    assert sum(calls for (phase, _), (calls, *_) in p.rows.items() if phase == "forward") == 2
    cut = np.split(np.cos(np.arange(y.size)).reshape(y.shape), np.cumsum([s[axis] for s in shapes])[:-1] if join is mg.concatenate
                   else 5, axis)
    for x, g in zip(xs, cut):
        np.testing.assert_array_equal(x.grad.numpy(), g.reshape(x.shape))
    mg.check_derivatives(lambda *xs: join(xs, axis) ** 2, *[x.numpy() for x in xs if x.size])
    a, b = (mg.Tensor(np.ones((2, 2), dtype), requires_grad=True) for dtype in (np.float32, np.float64))
    join([a, b], axis).sum().backward()
    assert a.grad.dtype == np.float32 and b.grad.dtype == np.float64
