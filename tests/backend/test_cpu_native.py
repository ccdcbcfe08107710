"""The kernels in C against the same functions in NumPy and float64."""
import itertools
import math
import os
import signal

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import minigrad as mg
from checks import definitions
from minigrad import backend
from minigrad.backend.cpu import (
    activation, attention, conv, conv_columns, elementwise, index, native, norm_pool, products, rows, threads)
from minigrad.backend.cpu.layout import contiguous_nhwc, nchw

pytestmark = pytest.mark.skipif(not native.kernel("softmax"), reason="no C compiler")
needs_blas = pytest.mark.skipif(not native.kernel("product"), reason="no OpenBLAS to be called from C")
QUICK = settings(deadline=None, max_examples=40)
SPECIAL = [0.0, -0.0, 1e-30, -1e-3, 0.5, -3.0, 20.0, -87.5, 88.5, 200.0, -1e4, 3e38, np.inf, -np.inf, np.nan]


@pytest.fixture(autouse=True, params=[1, 3])
def number(request):
    before = threads.get_num_threads()
    threads.set_num_threads(request.param)
    yield request.param
    threads.set_num_threads(before)


def agree(function, *arrays, rtol=2e-5, atol=2e-5, **settings):
    """`function` of float32 arrays, by the kernels, equals `function` of the same numbers in float64, by NumPy."""
    arrays = [a.astype(np.float32, copy=False) if a is not None and a.dtype.kind == "f" else a for a in arrays]
    kept = [None if a is None else a.copy() for a in arrays]
    with np.errstate(all="ignore"):
        got = function(*arrays, **settings)
        want = function(*[a.astype(np.float64) if a is not None and a.dtype.kind == "f" else a for a in arrays], **settings)
    many = isinstance(got, (tuple, list))
    for a, b in zip(got if many else [got], want if many else [want]):
        if b is not None:
            assert a.dtype == (np.float32 if b.dtype.kind == "f" else b.dtype) and a.shape == b.shape
            np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)
    for a, b in zip(arrays, kept):  # inputs are left alone
        np.testing.assert_array_equal(a, b)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


SHAPES = st.one_of(st.lists(st.integers(0, 40), min_size=1, max_size=3), st.just([300, 1000]))
ACTIVATIONS = {"gelu": {}, "gelu_tanh": {}, "silu": {}, "leaky_relu": dict(negative_slope=0.1), "softplus": {}, "softsign": {}}


def test_numbers_of_16_bits_are_what_numpy_makes():
    bits = np.arange(65536, dtype=np.uint16)
    exact = elementwise.floats_of_halves(bits)
    np.testing.assert_array_equal(exact, bits.view(np.float16).astype(np.float32))
    np.testing.assert_array_equal(np.signbit(exact), bits >= 32768)
    known = np.sort(exact[np.isfinite(exact)])
    middle = (known[1:] / 2 + known[:-1] / 2).astype(np.float32)  # ties
    near = [np.nextafter(v, np.float32(to)) for v in (known, middle) for to in (-np.inf, np.inf)]
    drawn = np.random.default_rng(0).integers(0, 2**32, 100_000, np.uint32).view(np.float32)
    with np.errstate(all="ignore"):
        for x in (exact, middle, *near, drawn, exact[::-3], exact.reshape(256, 256).T, np.array([65519.99], np.float32)):
            found, want = elementwise.halves(x), x.astype(np.float16)
            assert found.dtype == want.dtype and (x.ndim < 2 or found.flags.f_contiguous)
            np.testing.assert_array_equal(found, want)
            np.testing.assert_array_equal(np.signbit(found), np.signbit(want))
    odd = np.frombuffer(b"-" + bits.tobytes(), np.uint8)[1:].view(np.float16)  # read-only, and not aligned
    for x in (bits.view(np.float16), odd, bits.view(np.float16)[::-1].reshape(256, 256).T):
        found = mg.Tensor(x).astype("float32").numpy()
        np.testing.assert_array_equal(found, x.astype(np.float32))
    x = mg.Tensor(known, requires_grad=True)
    (x.astype("float16") * 0.5).astype("float32").sum().backward()
    assert x.grad.dtype == np.float32 and (x.grad.numpy() == 0.5).all()


@pytest.mark.parametrize("shape, axis", [((16,), 0), ((5000,), 0), ((40, 300), 1), ((300, 40), 0), ((6, 20, 50), 1)])
def test_the_order_of_numbers_is_that_of_a_stable_sort(shape, axis):
    rng = np.random.default_rng(0)
    x = rng.integers(-9, 9, shape).astype(np.float32) * np.float32(0.1)
    bits = np.array([0x80000000, 0, 0x7fc00000, 0xffc00001, 0x7f800000, 0xff800000, 1, 0x80000001], np.uint32)
    x.flat[rng.permutation(x.size)[:x.size // 2]] = np.resize(bits.view(np.float32), x.size // 2)
    for a in (x, np.asfortranarray(x), np.flip(x, axis), np.broadcast_to(x, (2, *x.shape))[1]):
        np.testing.assert_array_equal(index.order(a, axis), a.argsort(axis, kind="stable"))
        if a.size >= backend.WORTH_A_PATH:
            assert backend.path("argsort", (a,), dict(axis=axis))
            np.testing.assert_array_equal(mg.argsort(a, axis).numpy(), a.argsort(axis, kind="stable"))
            want = a.shape[axis] - 1 - np.flip(np.flip(a, axis).argsort(axis, kind="stable"), axis)
            np.testing.assert_array_equal(mg.argsort(a, axis, descending=True).numpy(), want)
    assert not backend.path("argsort", (np.sort(x, axis),), dict(axis=axis))
    assert not backend.path("argsort", (-np.arange(9000, dtype=np.float32),), dict(axis=0))


@pytest.mark.parametrize("shape, axis", [((5,), None), ((100, 300), 1), ((100, 300), None), ((40_000,), 0), ((7, 30, 50), (1, 2)),
                                         ((7, 30, 50), (0, 2)), ((100, 300), 0), ((3, 2, 5000), 2)])
def test_sums_without_nan(shape, axis):
    x = normal(*shape)
    x[normal(*shape, seed=1) > 1] = np.nan
    x.reshape(-1, shape[-1])[0] = np.nan
    g = np.cos(np.arange(np.nansum(x, axis).size)).reshape(np.shape(np.nansum(x, axis)))
    for a in (x, np.asfortranarray(x), x[::-1]):
        for kept in (False, True):
            t = mg.Tensor(a.astype(np.float32), requires_grad=True)
            y, want = mg.nansum(t, axis, kept), np.nansum(a, axis, keepdims=kept)
            assert y.dtype == np.float32 and y.shape == want.shape
            np.testing.assert_allclose(y.numpy(), want, rtol=1e-5, atol=1e-5)
            y.backward(g.reshape(want.shape).astype(np.float32))
            spread = np.where(np.isnan(a), 0, g.reshape(np.nansum(a, axis, keepdims=True).shape))
            np.testing.assert_allclose(t.grad.numpy(), spread, rtol=1e-6)
    many = np.full(20_000, 1, np.float32)
    many[[3, 17_000]] = np.inf, -np.inf
    with np.errstate(invalid="ignore"):
        assert np.isnan(mg.nansum(many).numpy())
    many[17_000] = np.nan
    assert mg.nansum(many).numpy() == np.inf


@pytest.mark.parametrize("name", ACTIVATIONS)
@QUICK
@given(shape=SHAPES, fortran=st.booleans())
def test_activations(name, shape, fortran):
    x, g = 3 * normal(*shape), normal(*shape, seed=1)
    x = np.asfortranarray(x) if fortran else x
    agree(lambda x: activation.activation(name, x, **ACTIVATIONS[name]), x)
    agree(lambda g, x: activation.activation_backward(name, g, x, **ACTIVATIONS[name]), g, x)


@QUICK
@given(shape=SHAPES, fortran=st.booleans(), width=st.sampled_from([0.7, 1.0, 3.0]))
def test_rounded_distances(shape, fortran, width):
    x, to, g = 2 * normal(*shape), normal(*shape, seed=1), normal(*shape, seed=2)
    x = np.asfortranarray(x) if fortran else x
    agree(lambda *a: activation.activation("rounded_distance", *a, width=width), x, to)
    agree(lambda *a: activation.activation_backward("rounded_distance", *a, width=width), g, x, to)
    special, zeros = np.array(SPECIAL), np.zeros(len(SPECIAL))
    for pair in ((special, zeros), (zeros, special)):
        agree(lambda *a: activation.activation("rounded_distance", *a, width=width), *pair)
        agree(lambda *a: activation.activation_backward("rounded_distance", zeros + 1, *a, width=width), *pair)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_of_special_numbers(name):
    x = np.array(SPECIAL[:-3] + [np.nan])
    agree(lambda x: activation.activation(name, x, **ACTIVATIONS[name]), x, atol=1e-6)
    agree(lambda x: activation.activation_backward(name, np.ones_like(x), x, **ACTIVATIONS[name]), x, atol=1e-6)
    y = activation.activation(name, np.array([np.inf], np.float32), **ACTIVATIONS[name])
    assert y[0] == (1 if name == "softsign" else np.inf)


def test_the_logistic_function():
    x = np.resize(np.concatenate([np.linspace(-86, 90, 3000), SPECIAL]), 9000).astype(np.float32)
    with np.errstate(over="ignore"):
        expected = 1 / (1 + np.exp(-x.astype(np.float64)))
    np.testing.assert_allclose(mg.sigmoid(mg.Tensor(x)).numpy(), expected, rtol=3e-6, atol=2e-38)


@pytest.mark.parametrize("view", [lambda x: x, lambda x: x[::-1, ::2], lambda x: x.T, lambda x: x[:0], lambda x: x[3, 5]])
def test_the_error_function_is_that_of_double_precision_rounded_once(view):
    x = [np.linspace(-4.2, 4.2, 8000), 0.92 + np.linspace(-1e-5, 1e-5, 99), 10.0 ** np.linspace(-40, 2, 300), SPECIAL]
    x = np.concatenate(x)
    x = view(np.resize(x, (90, 100)).astype(np.float32))
    expected = np.vectorize(math.erf, otypes=[float])(x)
    for y in (mg.erf(mg.Tensor(x)).numpy(), backend.path("erf", [x]).forward(x) if x.size else expected.astype(np.float32)):
        np.testing.assert_allclose(y, expected, rtol=7e-8, atol=1e-45)
        np.testing.assert_array_equal(np.signbit(y) & (y == y), np.signbit(x) & (x == x))
        assert y.dtype == np.float32 and y.shape == x.shape


@pytest.mark.parametrize("exponent", [mg.Tensor(np.float64(1.5)), mg.Tensor(3), np.array(1.5), np.float64(1.5), 1.5, mg.Tensor(np.float16(3)),
                                      mg.Tensor(np.float32(1.5)), True])
def test_a_power_of_many_numbers_has_the_dtype_of_one_of_few(exponent):
    x = mg.Tensor(np.linspace(0.5, 2, 8000, dtype=np.float32))
    many, few = mg.power(x, exponent), mg.power(x[:5], exponent)
    assert many.dtype == few.dtype
    np.testing.assert_allclose(many[:5].numpy(), few.numpy(), rtol=1e-6)


@pytest.mark.parametrize("exponent", [twice / 2 for twice in sorted(elementwise.HALVES)])
def test_powers_are_those_of_double_precision_rounded_once(exponent):
    x = np.concatenate([normal(9000) * 10.0 ** np.random.default_rng(2).integers(-30, 30, 9000), SPECIAL, [0.0, -0.0, np.inf, -np.inf]])
    x, exponents = x.astype(np.float32), np.array(exponent, np.float32)
    assert elementwise.is_half_power(x, exponents) or not native.kernel("half_powers")
    with np.errstate(all="ignore"):
        root = exponent == 0.5  # of -0 and -infinity as NumPy's of one exponent
        expected = np.array([np.float32(np.sqrt(np.float64(v)) if root else np.power(np.float64(v), np.full(1, exponent))[0])
                             for v in x])
        if native.kernel("half_powers"):
            np.testing.assert_array_equal(elementwise.half_powers(x, exponents), expected)
        found = mg.power(mg.Tensor(x), exponent).numpy()
    np.testing.assert_allclose(found, expected, rtol=3e-7)
    same = ~np.isnan(expected)
    assert (np.signbit(found) == np.signbit(expected))[same].all() and found.dtype == np.float32


def weighted(f, *arrays):
    """f's result, and the gradient in its first input for a weight of each element."""
    x, *others = map(mg.Tensor, arrays)
    x.requires_grad = True
    y = f(x, *others)
    g = np.cos(np.arange(y.size)).astype(y.dtype).reshape(y.shape)
    with np.errstate(all="ignore"):
        return y.numpy(), mg.grad((y * g).sum(), x).numpy()


SLOPES = {"sigmoid": mg.sigmoid, "sqrt": mg.sqrt, "erf": mg.erf,
          **{f"power {twice / 2}": lambda x, twice=twice: x ** (twice / 2) for twice in sorted(elementwise.HALVES - {4})}}


@pytest.mark.parametrize("view", [lambda x: x, lambda x: x.T, lambda x: x[::-1, ::2]])
@pytest.mark.parametrize("name", SLOPES)
def test_slopes_of_large_arrays_are_those_of_the_definition(name, view):
    x = 10 ** normal(9000)
    x[::2] *= -1 if name == "sigmoid" or "." not in name or name.endswith(".0") else 1
    x = view(np.resize(np.concatenate([x, SPECIAL]), (90, 160)).astype(np.float32))
    with np.errstate(all="ignore"):
        if np.power(np.float32([-np.inf]), np.float32(0.5))[0] == np.inf:  # NumPy 1 asks C's pow, not its root
            x[x == -np.inf] = -1
        y, slope = weighted(SLOPES[name], x)
        with definitions():
            expected = weighted(SLOPES[name], x)
    assert slope.dtype == np.float32
    np.testing.assert_allclose(y, expected[0], rtol=3e-6, atol=1e-37)
    np.testing.assert_allclose(slope, expected[1], rtol=1e-5, atol=3e-7 if name == "sigmoid" else 1e-37)


@pytest.mark.parametrize("view", [lambda x: x, lambda x: x.T, lambda x: x[::-1, ::2], lambda x: x[:1], lambda x: x[:, :1]])
@pytest.mark.parametrize("f", [mg.hypot, mg.arctan2, mg.logaddexp])
def test_slopes_of_two_large_arrays_are_those_of_the_definition(f, view, monkeypatch):
    pairs = np.concatenate([3 * normal(20_000, 2), np.array(list(itertools.product(SPECIAL, repeat=2)))])[-18_000:]
    x, y = (np.resize(a, (120, 150)).astype(np.float32) for a in pairs.T)
    used, find = [], elementwise.kernel
    monkeypatch.setattr(elementwise, "kernel", lambda name, *arrays: used.append(name) or find(name, *arrays))
    a, b = (x, view(y)) if 1 in view(y).shape else (view(x), view(y))
    with np.errstate(all="ignore"):
        for g, pair in ((f, (a, b)), (lambda b, a: f(a, b), (b, a))):
            used.clear()
            found = weighted(g, *pair)[1]
            assert used.count("arithmetic") >= 2, used
            with definitions():
                expected = weighted(g, *pair)[1]
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-4 if 1 in b.shape else 1e-6)


@pytest.mark.parametrize("pos_weight", [None, 3.0])
def test_the_loss_of_logits(pos_weight):
    x = np.resize(np.concatenate([np.linspace(-90, 90, 3000), SPECIAL]), 90_000).astype(np.float32)
    t = np.random.default_rng(1).choice(np.float32([0, 0.25, 0.9, 1]), x.size)
    loss = lambda x, t: mg.binary_cross_entropy_with_logits(x, t, pos_weight=pos_weight, reduction="none")
    with np.errstate(all="ignore"):
        found = weighted(loss, x, t)
        with definitions():
            expected, both = weighted(loss, x.astype(np.float64), t), weighted(lambda t, x: loss(x, t), t, x)
        np.testing.assert_allclose(weighted(lambda t, x: loss(x, t), t, x), both, rtol=3e-6, atol=1e-6)
    np.testing.assert_allclose(found[0], expected[0], rtol=3e-6, atol=1e-37)
    np.testing.assert_allclose(found[1], expected[1], rtol=3e-6, atol=2e-7)
    path = backend.path("binary_cross_entropy_with_logits", [x, t, t])
    with np.errstate(invalid="ignore"):
        assert path is None or len(path.backward(t, None, None, [True] * 3, x, t, t)) == 3  # without the definition
    sure = (t == 0) | (t == 1)  # else the slope is a difference
    np.testing.assert_allclose(found[1][sure], expected[1][sure], rtol=3e-6, atol=1e-37)


@pytest.mark.parametrize("shape, axis", [((5000,), 0), ((7, 1000), 1), ((1000, 7), 0), ((3, 50, 700), 1), ((90, 3, 40), 0),
                                         ((9, 1, 600), 1), ((701, 803), 1), ((701, 803), 0)])
def test_running_sums(shape, axis):
    x = normal(*shape).astype(np.float32)
    x.flat[0], x.flat[77] = -0.0, 1e-40
    for a in (x, np.flip(x, axis), np.flip(x), np.asfortranarray(x), np.broadcast_to(x[:1], shape)):
        found = mg.cumsum(a, axis).numpy()
        np.testing.assert_array_equal(found, a.cumsum(axis))
        assert (np.signbit(found) == np.signbit(a.cumsum(axis))).all() and found.dtype == np.float32
    x.flat[-5:-2] = np.inf, -np.inf, np.nan
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(mg.cumsum(x, axis).numpy(), x.cumsum(axis))
    g = normal(*shape, seed=1).astype(np.float32)
    found = mg.Tensor(x, requires_grad=True)
    mg.cumsum(found, axis).backward(g)
    np.testing.assert_array_equal(found.grad.numpy(), np.flip(np.flip(g, axis).cumsum(axis), axis))


@pytest.mark.parametrize("shape, axis", [((5000,), 0), ((7, 1000), 1), ((1000, 7), 0), ((3, 50, 700), 1), ((9, 1, 600), 1),
                                         ((701, 803), 1), ((701, 803), 0), ((3, 5), 1)])
def test_running_products(shape, axis, monkeypatch):
    x, used, find = (1 + 0.01 * normal(*shape)).astype(np.float32), [], rows.kernel
    monkeypatch.setattr(rows, "kernel", lambda name, *arrays: used.append(name) or find(name, *arrays))
    x.flat[0] = -x.flat[0]
    for special in ([], [-0.0], [3e38, 1e30, np.inf, 0.0, np.nan, 1.0]):
        x.flat[8:8 + len(special)] = special
        for a in (x, np.flip(x, axis), np.flip(x), np.asfortranarray(x), np.broadcast_to(x[:1], shape)):
            with np.errstate(all="ignore"):
                found, want = mg.cumprod(a, axis).numpy(), a.cumprod(axis)
            np.testing.assert_array_equal(found, want)
            np.testing.assert_array_equal(np.signbit(found) & (found == found), np.signbit(want) & (want == want))
            assert found.dtype == np.float32
    assert ("running" in used) == (x.size >= 4096)
    np.testing.assert_array_equal(mg.cumprod(x.astype(np.float64), axis).numpy(), x.astype(np.float64).cumprod(axis))


@pytest.mark.parametrize("n", [5, 1 << 20])
def test_kernels_write_as_many_numbers_as_they_are_told(n):
    def whole(written, name, *read, settings=()):
        arrays = [np.full(n + 3, 0.5, np.float32) for _ in range(written)]
        native.kernel(name)(*(read if written == 1 else arrays), *(arrays if written == 1 else read), n, *settings)
        for a in arrays:
            assert (a[n:] == 0.5).all() and (a[:n] != 0.5).all(), name

    x, keep = np.full(n + 3, 0.75, np.float32), np.ones(n + 3, np.uint8)
    whole(1, "half_powers", x, settings=(3,))
    whole(1, "half_powers_backward", x, x, settings=(3,))
    whole(1, "root_backward", x, 2 * x)
    whole(1, "error_function", x)
    whole(1, "logistic", x)
    whole(1, "logistic_backward", x, x)
    whole(1, "logistic_loss", x, x, x)
    whole(1, "logistic_loss_backward", x, x, x, x)
    for name, extra in (("relu", ()), ("leaky_relu", (0.1,)), ("silu", ()), ("gelu", ()), ("gelu_tanh", ()), ("softplus", ()),
                        ("softsign", ()), ("hardswish", ()), ("elu", (0.5,)), ("limited", (0.1, 0.6))):
        whole(1, name, x, settings=extra)
        whole(1, f"{name}_backward", x, x, settings=extra)
    whole(1, "prelu_terms", x, -x)
    whole(1, "rounded_distance", x, 2 * x, settings=(0.4,))
    whole(1, "rounded_distance_backward", x, x, 2 * x, settings=(0.4,))
    whole(1, "dropout", x, keep, settings=(2.0,))
    whole(2, "sgd_step", x, settings=(0.1, 0.9, 0.1, 1))
    whole(3, "adam_step", x, settings=(0.1, 0.9, 0.1, 0.9, 0.1, 0.1, 0.1, 0.1, 0.9))


UFUNCS = [np.add, np.subtract, np.multiply, np.divide, np.maximum, np.minimum,
          np.remainder, np.floor_divide, np.hypot, np.logaddexp]
# Shapes, and whether the kernel takes arrays of them in C order.
PAIRS = [((7, 40), (7, 40), True), ((7, 40), (40,), True), ((40, 7, 40), (7, 1), True), ((40,), (7, 40), True),
         ((20, 1), (30,), True), ((5, 6, 20), (5, 1, 20), True), ((3, 1, 40), (2, 1), True), ((64, 3), (3,), True),
         ((3,), (1024, 3), True), ((8, 20), (), True), ((1, 300, 300), (300,), True), ((3, 20000), (3, 1), True),
         ((521, 3), (3,), False), ((61, 3), (61, 1), False), ((0, 3), (3,), False), ((), (), False),
         ((2, 3, 4, 20), (3, 1, 20), False)]
VIEWS = [lambda a: a, np.asfortranarray, lambda a: a[::-1] if a.ndim else a, lambda a: a[..., ::-1] if a.ndim else a,
         lambda a: np.repeat(a, 2, 0)[::2] if a.ndim else a, lambda a: np.broadcast_to(a, (2, *[1] * (3 - a.ndim), *a.shape)),
         lambda a: np.moveaxis(np.moveaxis(a, 1, -1).copy(), -1, 1) if a.ndim > 2 else a,
         lambda a: np.frombuffer(b"\0" + a.tobytes(), "f", a.size, 1).reshape(a.shape) if a.size else a]


@pytest.mark.parametrize("ufunc", UFUNCS)
@pytest.mark.parametrize("x_shape, y_shape, taken", PAIRS)
def test_arithmetic_is_numpys(ufunc, x_shape, y_shape, taken, monkeypatch):
    monkeypatch.setattr(elementwise, "get_num_threads", lambda: 2)
    given = [np.asarray(normal(*shape, seed=i), np.float32) for i, shape in enumerate((x_shape, y_shape))]
    for a in given:
        a.reshape(-1)[-4:] = [0.0, -0.0, np.inf, np.nan][:a.size]
    assert (elementwise._plan(given[0].shape, given[0].strides, given[1].shape, given[1].strides) is not None) == taken
    for views in [*itertools.product(VIEWS, VIEWS[:1]), *itertools.product(VIEWS[:1], VIEWS), *zip(VIEWS, VIEWS)]:
        x, y = (view(a) for view, a in zip(views, given))
        with np.errstate(all="ignore"):
            found, want = backend.path(ufunc.__name__, (x, y)), ufunc(x, y)
            got = want if found is None else found.forward(x, y)
        assert (found is not None) == (x.size and y.size and x.flags.aligned and y.flags.aligned)
        assert got.shape == want.shape and got.dtype == want.dtype
        if ufunc in (np.hypot, np.logaddexp):
            np.testing.assert_allclose(got, want, rtol=2e-7, atol=2e-7 if ufunc is np.logaddexp else 0)
            continue
        np.testing.assert_array_equal(got, want)
        if ufunc not in (np.maximum, np.minimum):  # of 0 and -0 NumPy's is either
            np.testing.assert_array_equal(np.signbit(got) & (got == got), np.signbit(want) & (want == want))


ODD = [*SPECIAL, 1.0, -1.0, 3.0, 0.1, -0.1, 1e-45, 2.0**24, 2.0**24 + 2, 1 / 3, 7e8]
SPECIAL_PAIRS = np.array(list(itertools.product(ODD, repeat=2)), np.float32)
PATTERNS = np.random.default_rng(3).integers(-2**31, 2**31, (20_000, 2)).astype(np.int32).view(np.float32)
COUNTS = np.random.default_rng(4).integers(-60, 60, (20_000, 2)) / np.float32(8)
BEYOND = np.random.default_rng(5).integers([2**23, 1], [2**24, 64], (20_000, 2)) * np.float32([2.0**8, 1])  # near 2^28


@pytest.mark.parametrize("ufunc", [np.remainder, np.floor_divide, np.maximum, np.minimum])
@pytest.mark.parametrize("pairs", [SPECIAL_PAIRS, PATTERNS, COUNTS, BEYOND, COUNTS[:, :1] * np.float32([3, 1 / 3])],
                         ids=["special", "patterns", "counts", "beyond", "multiples"])
def test_what_is_left_is_numpys_to_the_last_bit(ufunc, pairs):
    with np.errstate(all="ignore"):
        x, y = np.resize(pairs, (20_000, 2)).astype(np.float32).T
        for a, b in ((x, y), (y, x), (x, y[9]), (y[5], x), (x, np.float32(0.1)), (x, np.float32(-7))):
            found, want = getattr(mg, ufunc.__name__)(mg.Tensor(a), mg.Tensor(b)).numpy(), ufunc(a, b)
            np.testing.assert_array_equal(found, want)
            if ufunc in (np.remainder, np.floor_divide):
                np.testing.assert_array_equal(np.signbit(found) & (found == found), np.signbit(want) & (want == want))


@pytest.mark.parametrize("pairs", [SPECIAL_PAIRS, PATTERNS, 3 * normal(20_000, 2),
                                   [[-1, 1]] * np.random.default_rng(6).random((20_000, 2)) * 20])
@pytest.mark.parametrize("ufunc", [np.hypot, np.logaddexp])
def test_lengths_and_logarithms_of_sums_keep_their_digits(ufunc, pairs):
    with np.errstate(all="ignore"):
        x, y = np.resize(pairs, (20_000, 2)).astype(np.float32).T
        found, want = ufunc(mg.Tensor(x), y).numpy(), ufunc(x.astype(np.float64), y.astype(np.float64))
        np.testing.assert_allclose(found, want.astype(np.float32), rtol=1.2e-7, atol=2e-9)


@pytest.mark.parametrize("ufunc", UFUNCS)
def test_arithmetic_of_large_arrays(ufunc, monkeypatch):
    x, row, used, find = normal(701, 803), normal(803, seed=1), [], elementwise.kernel
    monkeypatch.setattr(elementwise, "kernel", lambda name, *arrays: used.append(name) or find(name, *arrays))
    for a, b in ((x, row), (row, x), (x, row[:701, None]), (x.T, row[:, None])):
        a, b = a.astype(np.float32), b.astype(np.float32)
        np.testing.assert_allclose(ufunc(mg.Tensor(a), b).numpy(), ufunc(a, b), rtol=2e-7, atol=3e-7 * (ufunc is np.logaddexp))
        assert used.pop() == "arithmetic" and not used
    for dtype in (np.float64, np.int64, ">f4"):
        np.testing.assert_array_equal(ufunc(mg.Tensor((9 * x).astype(dtype)), 1 + abs(9 * row).astype(dtype)).numpy(),
                                      ufunc((9 * x).astype(dtype), 1 + abs(9 * row).astype(dtype)))
    assert not used
    with pytest.raises(ValueError, match=ufunc.__name__):
        ufunc(mg.Tensor(x.astype(np.float32)), row[1:].astype(np.float32))


def test_arithmetic_is_left_to_numpy_where_that_is_as_fast(monkeypatch):
    used, find = [], elementwise.kernel
    monkeypatch.setattr(elementwise, "kernel", lambda name, *arrays: used.append(name) or find(name, *arrays))
    for shapes, on_one, on_two in [(((300, 900), (900,)), 1, 1), (((9000, 17), (9000, 1)), 0, 1), (((9, 20000), (9, 1)), 0, 1),
                                   (((600, 600), (600, 600)), 0, 0), (((600, 600), ()), 0, 0), (((), (600, 600)), 0, 0)]:
        x, y = (np.asarray(normal(*shape), np.float32) for shape in shapes)
        for threads_there, taken in ((1, on_one), (2, on_two)):
            monkeypatch.setattr(elementwise, "get_num_threads", lambda: threads_there)
            np.testing.assert_array_equal(mg.multiply(x, y).numpy(), x * y)
            assert len(used) == taken, (shapes, threads_there)
            used.clear()


@pytest.mark.parametrize("f", [mg.hypot, mg.arctan2, mg.logaddexp, mg.power, mg.remainder])
def test_slopes_of_many_numbers_beside_none(f):
    x, y = (mg.Tensor(np.ones(shape, np.float32), requires_grad=True) for shape in ((5000, 1), (1, 0)))
    f(x, y).sum().backward()
    assert x.grad.shape == (5000, 1) and not x.grad.numpy().any() and y.grad.shape == (1, 0)


def test_sums_in_place():
    x, y = (normal(700, 900, seed=s).astype(np.float32) for s in (0, 1))
    for view in (lambda a: a, np.transpose, lambda a: a[::-1, ::2]):
        a, b = view(x.copy()), view(y)
        right = a + b
        assert elementwise.arithmetic("add", a, b, a) is a and (a == right).all()
    x.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        elementwise.arithmetic("add", x, y, x)


@pytest.mark.parametrize("n", [1 << 20, 100_003])
def test_arithmetic_writes_what_it_is_told(n):
    x, out = np.full(n, 0.75, np.float32), np.full(n + 3, 0.5, np.float32)
    native.kernel("arithmetic")(x, x, out, np.array([1, 1, n, 0, 0, 1, 0, 0, 1]), 0)
    assert (out[:n] == 1.5).all() and (out[n:] == 0.5).all()


def test_relu_gradient_and_dropout():
    for shape in ((7, 11), (700, 900)):
        g, y = normal(*shape), np.maximum(normal(*shape, seed=1), 0)
        agree(elementwise.relu, g)
        agree(elementwise.relu_backward, g, y)
        agree(lambda x, keep: activation.dropout(x, keep, 1.25), g, normal(*shape, seed=2) > 0)


@QUICK
@given(n=st.integers(4, 300), others=st.integers(1, 4), last=st.booleans(), largest=st.booleans(),
       of=st.sampled_from(["normal", "equal", "special", "rising", "NaN"]), data=st.data())
def test_the_best_of_rows(n, others, last, largest, of, data):
    """Places too, the first of equals first, as by sorting."""
    k, x = data.draw(st.integers(1, n // 4)), normal(others, n).astype(np.float32)
    if of == "equal":
        x = x.round()
    elif of == "special":
        x[:, ::3] = np.resize(np.array(SPECIAL[:-1], np.float32), x[:, ::3].shape)
    elif of == "rising":
        x.sort(1)
    elif of == "NaN":
        x[-1, data.draw(st.integers(0, n - 1))] = np.nan
    x = x if last else x.T
    assert backend.path("top_k", [x]) is not None
    if k > 1:
        assert (rows.top_k(x, k, int(last), largest) is None) == (of == "NaN" or 2 * k * k > n)
    found = mg.top_k(x, k, int(last), largest=largest)
    with native.using(False):
        want = mg.top_k(x, k, int(last), largest=largest)
    for a, b in zip(found, want):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
        assert a.dtype == b.dtype


@pytest.mark.parametrize("order", [lambda x: x, np.sort, lambda x: np.sort(x)[::-1], np.round, lambda x: np.sort(x.round()),
                                   lambda x: np.sort(x.round())[::-1], lambda x: 0 * x.round()])
@pytest.mark.parametrize("n", [3000, 100_000])
def test_the_best_of_many_numbers(n, order):
    x = order(normal(n).astype(np.float32))
    for k in (1, 2, 20, 38, 200):
        for largest in (True, False):
            places = np.argsort(-x if largest else x, kind="stable")[:k]
            if 2 * k * k <= n:
                np.testing.assert_array_equal(rows.top_k(x, k, 0, largest), places)
            np.testing.assert_array_equal(mg.top_k(x, k, largest=largest)[1].numpy(), places)


@pytest.mark.parametrize("shape", [(), (5, 3), (701, 803)])
def test_optimisers(shape):
    p, g, m, v = normal(*shape), normal(*shape, seed=1), normal(*shape, seed=2), normal(*shape, seed=3)**2
    p, g, m, v = (np.asarray(a) for a in (p, g, m, v))

    def adam(p, g, m, v, **settings):
        p, m, v = p.copy(), m.copy(), v.copy()
        elementwise.adam_step([p], [g], [m], [v], 0.01, 0.9, 0.99, 1e-2, 0.1, t=3, **settings)
        return p, m, v

    def sgd(p, g, v, **settings):
        p, v, plain = p.copy(), v.copy(), p.copy()
        elementwise.sgd_step([p], [g], [v], 0.1, 0.9, 0.01, **settings)
        elementwise.sgd_step([plain], [g], [], 0.1, 0.0, 0.01)
        return p, v, plain

    for flag in (False, True):
        agree(lambda *a: adam(*a, decoupled=flag), p, g, m, v)
        agree(lambda *a: sgd(*a, nesterov=flag), p, g, v)


@QUICK
@given(st.integers(0, 9), st.integers(1, 70), st.floats(-1e4, 1e4))
def test_rows(n, columns, offset):
    x, g, w, b = normal(n, columns) + offset, normal(n, columns, seed=1), normal(columns, seed=2), normal(columns, seed=3)
    x = x.astype(np.float32).astype(np.float64)
    for logarithm in (False, True):
        agree(rows.softmax, x, logarithm=logarithm)
        y = rows.softmax(x, logarithm=logarithm)
        agree(rows.softmax_backward, g, y, logarithm=logarithm)
    for centre in (True, False):
        if centre and abs(offset) > 10:
            continue  # the mean's own rounding in float32
        for weight, bias in ((None, None), (w, None), (w, b)):
            agree(rows.layer_norm, x, weight, bias, eps=1e-2, centre=centre, atol=5e-4)
        _, mean, inv_std = rows.layer_norm(x, eps=1e-2, centre=centre)
        for weight in (None, w):
            agree(rows.layer_norm_backward, g, x, weight, mean, inv_std, atol=2e-3)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("columns, offset", [(500, 1e4), (200_000, 1e2)])
def test_a_large_mean_or_a_long_row_costs_a_norm_few_digits(columns, offset, compiled):
    x = (normal(2, columns) + offset).astype(np.float32)
    exact = x.astype(np.float64)
    root, centred = np.sqrt((exact**2).mean(1, keepdims=True)), exact - exact.mean(1, keepdims=True)
    with native.using(compiled):
        y, close = rows.layer_norm(x, eps=0)[0], dict(rtol=2e-5, atol=1e-7 * (offset + 20))  # the mean itself is rounded
        np.testing.assert_allclose(y, centred / exact.std(1, keepdims=True), **close)
        np.testing.assert_allclose(rows.layer_norm(x, eps=0, centre=False)[0], exact / root, rtol=2e-5)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("value", [3.3e10, 1e18 / 7, 1e20 / 3])
def test_variances_of_equal_large_numbers_do_not_round_below_zero(value, compiled):
    x = np.full((2, 5000), value, np.float32)
    with native.using(compiled):
        for y in (rows.layer_norm(x)[0], mg.group_norm(x[..., None], 1).numpy(),
                  *(mg.batch_norm(a, None, None, training=True).numpy() for a in (x.T, x.reshape(1, 2, 100, 50)))):
            assert np.isfinite(y).all()


BETWEEN = [((5, 7, 40), 0), ((5, 7, 40), 1), ((3, 130, 3, 9), 1), ((2, 600), 0), ((70, 5, 600), 0), ((40, 3, 20), (0, 2, 1))]


@pytest.mark.parametrize("shape, axis", BETWEEN)
@pytest.mark.parametrize("logarithm", [False, True])
def test_softmax_along_an_axis_before_others(monkeypatch, shape, axis, logarithm):
    def last(a):  # the axis comes last, as `softmax` hands it on, or an order is given
        return a.transpose(axis) if type(axis) is tuple else np.moveaxis(a, axis, -1)

    x, g, used, find = normal(*shape), normal(*shape, seed=1), [], rows.kernel
    x.flat[:3], x.flat[40:42] = (np.inf, np.nan, -np.inf), (-np.inf, 1e4)
    monkeypatch.setattr(rows, "kernel", lambda name, *arrays: used.append(name) or find(name, *arrays))
    agree(lambda x: rows.softmax(last(x), logarithm), x)
    assert used.count("softmax_between") >= 2 and "softmax" not in used[:2]
    with np.errstate(all="ignore"):
        y = np.asarray(rows.softmax(last(x), logarithm))
    for array in (last(g), np.ascontiguousarray(last(g)), np.broadcast_to(last(g)[:1], y.shape)):
        agree(lambda g, y: rows.softmax_backward(g, y, logarithm), array, y)
    x[...] = -np.inf
    agree(lambda x: rows.softmax(last(x), logarithm), x)


@pytest.mark.parametrize("batch, m, n, width", [
    ((), 1, 1, 1), ((), 3, 7, 5), ((), 4, 8, 64), ((2,), 5, 16, 3), ((2, 2), 70, 17, 20), ((), 65, 33, 130), ((), 130, 5, 64),
    ((3,), 9, 40, 83), ((), 2, 300, 1), ((2,), 5, 3, 4)])
@pytest.mark.parametrize("scale", [1, 1e-43, 1e-30, 1e30])
def test_distances(batch, m, n, width, scale):
    x, y = (scale * normal(*batch, rows, width, seed=i) for i, rows in enumerate((m, n)))
    x[..., -1, :] = y[..., -1, :]
    x, y = x.astype(np.float32), np.moveaxis(np.moveaxis(y, -1, 0).copy(), 0, -1).astype(np.float32)
    path, g = backend.path("cdist", (x, y), dict(p=2)), normal(*batch, m, n, seed=5).astype(np.float32)
    d, _ = path.forward(x, y, p=2)
    apart = x[..., :, None, :].astype(np.float64) - y[..., None, :, :]
    want = np.sqrt((apart ** 2).sum(-1))
    np.testing.assert_allclose(d, want, rtol=3e-7, atol=1e-45)
    slopes = g[..., None] * apart / np.where(want == 0, 1, want)[..., None]
    for found, axis, sign in zip(path.backward(g, d, None, [True, True], x, y, p=2), (-2, -3), (1, -1)):
        np.testing.assert_allclose(found, sign * slopes.sum(axis), rtol=1e-4, atol=1e-4)
    x[..., 0, 0] = np.nan
    x[..., -1, -1] = y[..., 0, 0] = np.inf
    with np.errstate(invalid="ignore"):
        want = np.sqrt(((x[..., :, None, :].astype(np.float64) - y[..., None, :, :]) ** 2).sum(-1))
    np.testing.assert_allclose(path.forward(x, y, p=2)[0], want, rtol=3e-7, atol=1e-45)


NARROW = [(16, 1), (17, 2), (64, 10), (65, 10), (1000, 63), (200, 64), (70_000, 3)]  # the last axis beside many rows


@pytest.mark.parametrize("shape", NARROW)
@pytest.mark.parametrize("logarithm", [False, True])
def test_softmax_of_narrow_rows(shape, logarithm):
    x = 3 * normal(*shape)
    x[:3, 0], x[3], x[4, :2] = (np.inf, np.nan, -np.inf), -np.inf, np.inf
    agree(lambda x: rows.softmax(x, logarithm), x)
    agree(lambda x: rows.softmax(x, logarithm), np.asfortranarray(x))


@pytest.mark.parametrize("shape, axis", [(shape, (1,)) for shape in NARROW] + [
    ((7,), (0,)), ((5, 3, 20), (1,)), ((5, 70, 600), (1,)), ((40, 3, 5), (1,)), ((40, 3, 5), (1, 2)), ((40, 3, 5), (0, 1, 2)),
    ((3, 100), (1,)), ((200_000,), (0,)), ((130, 7, 4, 5), (0, 1)), ((300, 300), (0,)), ((2, 200, 600), (1,))])
@pytest.mark.parametrize("special", [False, True])
def test_logsumexp(shape, axis, special):
    x = (3 * normal(*shape)).astype(np.float32)
    if special:
        x.flat[:3], x[-1] = (np.nan, np.inf, -np.inf)[:x.size], -np.inf
    for a in (x, np.asfortranarray(x), np.flip(x), np.broadcast_to(x[1:2] if len(x) > 1 else x, shape)):
        for keepdims in (False, True):
            found = backend.path("logsumexp", (a,), dict(axis=axis, keepdims=keepdims)).forward(a, axis=axis, keepdims=keepdims)
            want = mg.logsumexp(a.astype(np.float64), axis, keepdims).numpy()
            assert found.dtype == np.float32 and found.shape == want.shape
            np.testing.assert_allclose(found, want, rtol=2e-6, atol=1e-6)
    assert backend.path("logsumexp", (np.zeros((2, 3, 4), "f"),), dict(axis=(0, 2), keepdims=False)) is None
    assert backend.path("logsumexp", (np.zeros(3, "f"),), dict(axis=(), keepdims=False)) is None


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("shape", [*NARROW, (2, 5, 7, 9), (3, 130, 20, 30), (2, 3, 4), (20, 1, 16)])
def test_cross_entropy_of_narrow_rows_and_of_images(shape, smoothing):
    x = np.moveaxis(3 * normal(*shape), 1, -1)
    x[0, ..., 0], x[1] = (0 if smoothing else np.inf), x[1] * 30
    labels, g = np.random.default_rng(2).integers(0, shape[1], x.shape[:-1]), normal(*x.shape[:-1], seed=1)
    labels[0, ...], labels[-1, ...] = 0, 1000
    for turn in (lambda a: a, np.ascontiguousarray, np.asfortranarray):
        a, settings = turn(x.astype(np.float32)), dict(smoothing=smoothing, ignored=1000)
        agree(lambda a: rows.cross_entropy(a, labels, **settings), a)
        lse = rows.cross_entropy(a.astype(np.float64), labels, **settings)[1]
        for gradient in (g, np.broadcast_to(g[:1], g.shape)):
            agree(lambda g, a, lse: rows.cross_entropy_backward(g, a, labels, lse, **settings), gradient, a, lse, atol=1e-5)


@pytest.mark.parametrize("shape", [(1,), (3, 1), (7, 100), (2, 3, 1000), (100_000,)])
def test_products_of_rows(shape):
    x = np.exp(0.1 * normal(*shape)) * np.sign(normal(*shape, seed=1))
    agree(rows.products, x, rtol=2e-5)
    agree(lambda x: rows.products(x.T), x)
    special = np.array([[0, np.inf, 1], [np.inf, 1, -2], [np.nan, 1, 2], [-0.0, 1, 2], [1e30, 1e30, 1e-30], [1e30, 1e30, 1]])
    with np.errstate(all="ignore"):
        want = special.prod(1, keepdims=True).astype(np.float32)
        np.testing.assert_allclose(rows.products(special.astype(np.float32)), want, rtol=1e-6)


def test_rows_of_many_and_of_special_numbers():
    x, g, w, b = normal(700, 300), normal(700, 300, seed=1), normal(300, seed=2), normal(300, seed=3)
    agree(rows.softmax, x)
    agree(rows.layer_norm, x, w, b)
    _, mean, inv_std = rows.layer_norm(x)
    agree(rows.layer_norm_backward, g, x, w, mean, inv_std, atol=1e-3)
    x = np.array([[-np.inf] * 3, [0, -np.inf, 1], [np.nan, 0, 0], [np.inf, 1, -np.inf], [200, -200, 0]], np.float32)
    want = np.array([[0, 0, 0], np.exp([0, -np.inf, 1]) / (1 + np.e), [np.nan] * 3, [1, 0, 0], [1, 0, 0]])
    np.testing.assert_allclose(rows.softmax(x), want, atol=1e-7)
    np.testing.assert_allclose(rows.softmax(x.astype(np.float64)), want, atol=1e-7)
    assert np.isnan(rows.softmax(x, logarithm=True)[0]).all()
    both = np.array([[np.inf, np.inf, 0]])
    for dtype in (np.float32, np.float64):
        np.testing.assert_array_equal(rows.softmax(both.astype(dtype)), [[0.5, 0.5, 0]])


@QUICK
@given(st.integers(1, 9), st.integers(1, 70), st.floats(-1e4, 1e4), st.sampled_from([0.0, 0.1, 1.0]))
@example(300, 1000, 10.0, 0.1)
def test_cross_entropy(n, classes, offset, smoothing):
    x, g = (3 * normal(n, classes) + offset).astype(np.float32), normal(2 * n, seed=1)[::2]
    labels = np.random.default_rng(2).integers(0, classes, 2 * n)[::2]
    labels[n // 2:n // 2 + 2] = 7  # left out, be it a class or not
    choices = dict(smoothing=smoothing, ignored=7)
    agree(rows.cross_entropy, x, labels, **choices)
    agree(rows.cross_entropy_backward, g, x, labels, rows.cross_entropy(x, labels, **choices)[1], **choices, atol=2e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_special_numbers(smoothing):
    x = np.array([[-np.inf] * 3, [0, -np.inf, 1], [np.nan, 0, 0], [np.inf, 1, -np.inf], [200, -200, 0], [np.inf, np.inf, 0]])
    for label in range(3):
        labels = np.full(len(x), label)
        agree(lambda *a: rows.cross_entropy(*a, smoothing=smoothing)[0], x, labels)
        lse = rows.cross_entropy(x, labels, smoothing=smoothing)[1]
        agree(rows.cross_entropy_backward, np.ones(len(x)), x, labels, lse, smoothing=smoothing)
    sure = np.array([[30.0, 13, 13]], np.float32)  # p is 1 - 8e-8, and 1 - p is not to come from a difference of products
    lse = rows.cross_entropy(sure, np.array([0]))[1]
    dx = rows.cross_entropy_backward(np.full(1, 0.3, np.float32), sure, np.array([0]), lse)
    np.testing.assert_allclose(dx[0, 1:], 0.3 * np.exp(-17), rtol=1e-5)
    assert dx[0, 0] in (0, np.float32(-0.3) * np.float32(2.0**-24), np.float32(-0.3) * np.float32(2.0**-23))


@pytest.fixture
def large(monkeypatch):
    """The kernel multiplies small matrices too, if it can multiply at all."""
    monkeypatch.setattr(products, "SMALL", 0)


def laid_out(x, layout):
    """The numbers in float32: transposed, every other row or column, backwards, or one row that stands for all."""
    x = x.astype(np.float32)
    if layout == "transposed":
        return np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2)
    if layout == "rows apart":
        return np.repeat(x, 2, axis=-2)[..., ::2, :]
    if layout == "columns apart":
        return np.repeat(x, 2, axis=-1)[..., ::2]
    if layout == "backwards":
        return np.ascontiguousarray(x[..., ::-1, ::-1])[..., ::-1, ::-1]
    return np.broadcast_to(x[..., :1, :], x.shape) if layout == "broadcast" else x


LAYOUTS = st.sampled_from(["dense", "transposed", "rows apart", "columns apart", "backwards", "broadcast"])
LENGTHS = st.sampled_from([1, 2, 15, 16, 33, 70])


@needs_blas
@settings(QUICK, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LENGTHS, LENGTHS, LENGTHS, LAYOUTS, LAYOUTS, st.booleans(),
       st.sampled_from([((), ()), ((2,), ()), ((), (3,)), ((1, 3), (2, 1)), ((20,), (20,))]))
def test_products(large, m, n, k, x_layout, y_layout, biased, batch):
    x, y = laid_out(normal(*batch[0], m, k), x_layout), laid_out(normal(*batch[1], k, n, seed=1), y_layout)
    agree(products.product, x, y, normal(n, seed=2) if biased else None, atol=1e-4)


@needs_blas
def test_products_keep_the_layouts_that_blas_takes():
    x, y = normal(300, 200).astype(np.float32), normal(200, 100, seed=1).astype(np.float32)
    for a in (x, x.T, x[::2], x[:, :150], x.T[:, :7], x[:1], np.ndarray((1, 5), np.float32, x, 0, (8, 4))):
        stored, _, stride, transposed = products._stored(a, ())
        assert np.shares_memory(stored, x) and transposed == (a.strides[0] == 4) and stride >= stored.shape[1]
    right = x @ y
    np.testing.assert_allclose(mg.matmul(x, y).numpy(), right, atol=1e-4)
    np.testing.assert_allclose(products.product(y.T, x.T), right.T, atol=1e-4)
    with pytest.raises(ValueError):
        products.product(x, x)


@pytest.mark.parametrize("shape", [(1, 5), (6, 1), (7, 3), (801, 403)])
def test_sums_of_all(shape):
    for x in (normal(*shape), normal(*shape).T):
        x = x.astype(np.float32)
        np.testing.assert_allclose(rows.sums(x, (0, 1)), x.sum(dtype=np.float64), rtol=1e-6, atol=1e-4)
    x, i = np.full((700, 900), 0.1, np.float32), np.arange(1 << 18)
    for y in (mg.sum(x), mg.sum(x, keepdims=True), mg.mean(x) * x.size, mg.sum(mg.Tensor(x).reshape(7, -1), (0, 1))):
        assert y.dtype == np.float32 and y.size == 1 and y.ndim in (0, 2)
        np.testing.assert_allclose(y.numpy(), x.astype(np.float64).sum(), rtol=2e-6)
    for x in (np.where(i % 16 == 0, 1e7, 0.3), np.append(1e8, np.ones(i.size - 1)), np.full(i.size, 1e33),
              np.where(i % 2, 1e37, -1e37), np.sign(i - i.size / 2) * 1e36):
        x = x.astype(np.float32)
        exact, size = math.fsum(x.tolist()), math.fsum(abs(x).tolist())
        assert abs(mg.sum(x).item() - exact) <= 1.2e-7 * size
    everywhere = np.broadcast_to(np.float32(1), (1 << 20, 1 << 8))  # which is not to be copied
    assert mg.sum(everywhere).item() == everywhere.size and not backend.path("sum", [everywhere], {"axis": (0, 1)})
    x = np.ones((700, 900), np.float32)
    x[3, 5] = np.inf
    assert mg.sum(x).item() == np.inf
    x[0, 0] = -np.inf
    assert np.isnan(mg.sum(x).item()) and np.isnan(mg.mean(x).item())


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 1, 1), (2, 3, 7), (3, 65, 2, 5), (2, 63, 600), (7, 5, 16), (70, 3, 2100), (40_000, 3)],
                         ids=str)
def test_sums_along_axes(shape):
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    x.flat[::1001], x.flat[::7919] = np.inf, np.nan
    for axis in itertools.chain(*(itertools.combinations(range(x.ndim), n) for n in range(1, x.ndim + 1))):
        assert backend.path("sum", [x], {"axis": axis}), "in C order a kernel serves"
        found, right = rows.sums(x, axis), x.sum(axis, np.float64)
        assert found.dtype == np.float32 and found.shape == right.shape
        np.testing.assert_allclose(found, right, atol=1e-6 * x.size**0.5, rtol=1e-6)
    assert not backend.path("sum", [np.stack([x, x], -1)[..., 0]], {"axis": (0,)}) and not backend.path("sum", [x], {"axis": ()})
    for axis in (-1, (0, -1), None):
        for keepdims in (True, False):
            np.testing.assert_allclose(mg.sum(x, axis, keepdims=keepdims).numpy(), x.sum(axis, np.float64, keepdims=keepdims),
                                       atol=1e-6 * x.size**0.5, rtol=1e-6)


@pytest.mark.parametrize("given", [1, 2, 3], ids=["x", "x, weight", "x, weight, bias"])
@pytest.mark.parametrize("shape, groups, last", [
    ((2, 6, 3, 3), 3, False), ((2, 6, 3, 3), 6, True), ((3, 4, 9), 1, False), ((1, 5, 8, 1), 5, False), ((1, 5, 8, 1), 1, True),
    ((2, 64, 40, 60), 8, False), ((2, 64, 40, 60), 8, True), ((5, 3, 2, 2, 3), 3, False), ((2, 1, 4, 4), 1, True)], ids=str)
def test_group_norm(shape, groups, last, given):
    x, g = (np.float32(normal(*shape, seed=seed) + 5) for seed in (0, 1))
    x = np.ascontiguousarray(np.moveaxis(x, 1, -1)) if last else x
    x = np.moveaxis(x, -1, 1) if last else x
    arrays = [x, *np.float32(normal(2, shape[1], seed=2))][:given]
    assert (backend.path("group_norm", arrays, dict(num_groups=groups, eps=1e-5)) is None) == (given == 1 and x.flags.c_contiguous)

    def found(dtype):
        xs = [mg.Tensor(a.astype(dtype), requires_grad=True) for a in arrays]
        y = mg.group_norm(xs[0], groups, *xs[1:])
        return [y, *mg.vjp(lambda *xs: mg.group_norm(xs[0], groups, *xs[1:]), *xs)[1](g.astype(dtype))]

    with definitions():
        expected = found(np.float64)
    for a, b in zip(found(np.float32), expected, strict=True):
        assert a.dtype == np.float32
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-5 * np.abs(b.numpy()).max())


@pytest.mark.parametrize("spread", [0, 0.01, 1])
@pytest.mark.parametrize("last", [False, True])
def test_group_norm_far_from_zero_keeps_its_digits(last, spread):
    x = np.float32(spread * normal(2, 6, 5, 5) + 10_000.1)
    x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1) if last else x
    expected = mg.group_norm(x.astype(np.float64), 3).numpy()
    np.testing.assert_allclose(mg.group_norm(x, 3, np.ones(6, np.float32)).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("last", [False, True])
def test_group_norm_leaves_what_is_not_finite_in_its_group(last):
    x = np.float32(normal(3, 6, 4, 4))
    x[0, 0, 0, 0], x[1, 2, 3, 3], x[2, 5] = np.nan, np.inf, 7
    x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1) if last else x
    bad = np.zeros((3, 6), bool)
    bad[0, :2] = bad[1, 2:4] = True
    y, pull = mg.vjp(lambda x: mg.group_norm(x, 3, np.ones(6, np.float32)), x)
    for a in (y, *pull(mg.ones_like(y))):
        np.testing.assert_array_equal(np.isfinite(a.numpy()).all((2, 3)), ~bad)


@pytest.mark.parametrize("shape", [(1, 5), (6, 1), (7, 3), (801, 403)])
def test_column_sums(shape):
    agree(rows.column_sums, normal(*shape), atol=1e-3)
    agree(lambda x: rows.column_sums(x.T), normal(*shape), atol=1e-3)


@pytest.mark.parametrize("n", [1, 63, 64, 65, 300])
def test_sums_over_rows_have_no_more_memory_than_there_are_rows_for(monkeypatch, n):
    """Each thread's sums are as wide as the matrix, whatever number of threads is set."""
    shapes, x = [], np.arange(n * 1000, dtype=np.float32).reshape(n, 1000) % 7
    monkeypatch.setattr(rows, "get_num_threads", lambda: 1024)
    monkeypatch.setattr(rows.np, "zeros", lambda shape, *dtype, zeros=np.zeros: shapes.append(shape) or zeros(shape, *dtype))
    found = rows.column_sums(x)
    monkeypatch.undo()
    assert shapes == [(-(-n // rows.ROWS), 1000)]
    np.testing.assert_array_equal(found, x.sum(0))



@pytest.mark.parametrize("shape, axis", [((200_000, 5), 0), ((500, 400, 2), (0, 1)), ((1001, 300), 0)])
def test_sums_along_many_rows_keep_their_digits(shape, axis):
    x, count = mg.Tensor(np.full(shape, 0.1, np.float32)), np.prod(shape) // shape[-1]
    bias, weight = (mg.Tensor(np.zeros(size, np.float32), requires_grad=True) for size in (shape[-1], (shape[-1], 1)))
    mg.linear(np.ones((*shape[:-1], 1), np.float32), weight, bias).backward(x)
    added = mg.Tensor(np.zeros(shape[-1], np.float32), requires_grad=True)
    (x + added).backward(x)
    for total in (mg.sum(x, axis), mg.mean(x, axis) * count, mg.sum(x, axis, keepdims=True), bias.grad, added.grad):
        assert total.dtype == np.float32 and total.size == shape[-1]
        np.testing.assert_allclose(total.numpy(), np.float64(np.float32(0.1)) * count, rtol=2e-6)
    assert mg.sum(x, axis, keepdims=True).ndim == len(shape)
    x.numpy()[3] = np.inf
    assert (mg.sum(x, axis).numpy() == np.inf).all() and (mg.mean(x, axis).numpy() == np.inf).all()


@needs_blas
@settings(QUICK, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 40), st.integers(1, 40), st.integers(1, 18), st.integers(1, 18),
       st.sampled_from([None, 0, 3]), st.sampled_from(["none", "bool", "added"]), st.tuples(*[st.booleans()] * 4),
       st.sampled_from([1 << 17, 64]), LAYOUTS)
def test_attention(monkeypatch, n, heads, queries, keys, width, v_width, causal, kind, whole, block_size, layout):
    monkeypatch.setattr(attention, "BLOCK_SIZE", block_size)
    q, k = laid_out(normal(n, heads, queries, width), layout), laid_out(normal(n, heads, keys, width, seed=1), layout)
    v = normal(n, keys, heads, v_width, seed=2).swapaxes(1, 2)
    g = laid_out(normal(n, heads, queries, v_width, seed=3), layout)
    shape = [size if full else 1 for size, full in zip((n, heads, queries, keys), whole)]
    mask = {"none": None, "bool": normal(*shape, seed=4) > -0.5, "added": normal(*shape, seed=4)}[kind]
    how = dict(causal=causal, scale=0.7)
    agree(lambda q, k, v: attention.attention(q, k, v, mask_like(mask, q), **how), q, k, v)
    y, lse = attention.attention(q, k, v, mask, **how)
    agree(lambda g, q, k, v, y, lse: attention.attention_backward(g, q, k, v, y, lse, mask_like(mask, q), **how)[:3],
          g, q, k, v, y, lse, atol=1e-4)


def mask_like(mask, q):
    return mask if mask is None or mask.dtype == bool else mask.astype(q.dtype)


@needs_blas
def test_attention_of_special_numbers_and_packed_arrays():
    q, k, v = normal(1, 2, 5, 4), normal(1, 2, 6, 4, seed=1), normal(1, 2, 6, 3, seed=2)
    for at, number in (((0, 0, 1, 2), np.nan), ((0, 1, 3, 0), np.inf), ((0, 1, 2, 1), 3e4)):
        q[at] = number
    agree(lambda q, k, v: attention.attention(q, k, v, scale=1.0), q, k, v)
    added = np.zeros((1, 1, 5, 6))
    added[..., 2, :], added[..., 3] = -np.inf, -np.inf
    agree(lambda q, k, v: attention.attention(q, k, v, mask_like(added, q), scale=1.0), q[:, :1], k[:, :1], v[:, :1])
    qkv, g = (normal(3, 9, 3, 2, 4).astype(np.float32), normal(3, 9, 8, seed=1).astype(np.float32))
    for causal in (False, True):
        got = []
        for on in (True, False):
            with native.using(on):
                x = mg.Tensor(qkv, requires_grad=True)
                y = mg.packed_attention(x, is_causal=causal)
                y.backward(g)
                got.append((y.numpy(), x.grad.numpy()))
        for a, b in zip(*got):
            np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_bias_of_another_shape_is_refused():
    x, w = np.ones((256, 128), np.float32), np.ones((512, 128), np.float32)
    for shape in ((), (1,), (3,), (600,), (256, 512)):
        with pytest.raises(ValueError, match=r"linear: a bias \(512,\) wanted"):
            mg.linear(x, w, np.ones(shape, np.float32))


def test_products_without_kernels_or_in_float64_and_with_vectors():
    x, y, b = normal(300, 200), normal(200, 100, seed=1), normal(100, seed=2)
    right = x @ y + b
    np.testing.assert_allclose(products.product(x, y, b), right)
    agree(products.product, x, y[:, :1], b[:1], atol=1e-4)
    agree(products.product, x[:1], y, b, atol=1e-4)
    with native.using(False):
        np.testing.assert_allclose(products.product(x.astype("f"), y.astype("f"), b.astype("f")), right, atol=1e-4)


@needs_blas
def test_a_matrix_that_stands_for_many_is_not_copied_for_each():
    x = np.repeat(normal(64, 64).astype(np.float32), 2, axis=1)[:, ::2]
    stored, starts, _, _ = products._stored(np.broadcast_to(x, (500, 64, 64)), (500,))
    assert stored.nbytes == x.nbytes and not starts.any()


def test_the_kernels_that_multiply_are_those_of_products_c():
    """Where BLAS cannot be called they must not be."""
    names = {name for name, _ in native._DECLARATION.findall((native.FOLDER / "products.c").read_text())}
    assert names - {"use_blas"} == set(native.MULTIPLYING)


@QUICK
@given(st.integers(1, 5), st.sampled_from([1, 3, 16, 32, 600]), st.integers(1, 7), st.integers(1, 9), st.sampled_from([0, 100]),
       st.sampled_from(["first", "last", "features"]))
def test_batch_norm(n, c, h, w, offset, layout):
    shape = (n * h * w, c) if layout == "features" else (n, h, w, c)
    if n * h * w == 1:
        return
    x, g = normal(*shape) + offset, normal(*shape, seed=1)
    if layout != "features":
        x, g = nchw(x), nchw(g)
        x = np.ascontiguousarray(x) if layout == "first" else x
    gamma, beta = normal(c, seed=2), normal(c, seed=3)
    agree(norm_pool.batch_norm, x, gamma, beta, eps=0.1, atol=1e-3 if offset else 1e-4)
    _, mean, var = norm_pool.batch_norm(x, gamma, beta, eps=0.1)
    agree(norm_pool.batch_norm_backward, g, x, gamma, mean, 1 / np.sqrt(var + 0.1), atol=1e-3 if offset else 1e-4)
    agree(norm_pool.scale_and_shift, x, gamma, beta, relu=True, atol=1e-4)
    if layout != "features":
        agree(norm_pool.add_to_channels, x, beta, atol=1e-4)
        agree(norm_pool.channel_sums, x, atol=1e-2 if offset else 1e-4)
    first = norm_pool.batch_norm_backward(g, x, gamma, mean, 1 / np.sqrt(var + 0.1))
    arguments = first[0], g, x, gamma, mean, 1 / np.sqrt(var + 0.1), *first[1:]
    h = normal(*shape, seed=4)
    agree(norm_pool.batch_norm_double_backward, h if layout == "features" else nchw(h), *arguments, atol=5e-3 if offset else 3e-4)


@QUICK
@given(st.integers(1, 3), st.sampled_from([2, 15, 16, 17, 64, 131]), st.tuples(st.integers(5, 9), st.integers(5, 9)),
       st.tuples(st.integers(1, 3), st.integers(1, 3)), st.sampled_from([(1, 1), (2, 2), (1, 3)]),
       st.sampled_from([(0, 0), (1, 1), (2, 4)]), st.sampled_from([(1, 1), (2, 1)]), st.booleans(), st.sampled_from([1, 2, 7]))
@example(2, 3, (6, 18), (3, 3), (1, 1), (1, 1), (1, 1), False, 1)
@example(1, 2, (7, 33), (2, 3), (2, 1), (2, 4), (2, 1), False, 1)
@example(2, 5, (5, 50), (3, 2), (1, 1), (0, 0), (1, 1), False, 1)
@example(1, 2, (5, 16), (1, 1), (1, 1), (1, 0), (1, 1), False, 1)
@example(2, 3, (6, 18), (3, 3), (2, 2), (1, 1), (1, 1), False, 3)
def test_depthwise_convolution(n, c, size, window, stride, padding, dilation, last, filters):
    x = nchw(normal(n, *size, c)) if last else normal(n, c, *size)
    w, geometry = normal(c * filters, 1, *window, seed=1), dict(stride=stride, padding=padding, dilation=dilation, groups=c)
    gy = normal(*conv.conv2d(x, w, **geometry).shape, seed=2)
    agree(conv.conv2d, x, w, **geometry, atol=1e-4)
    agree(lambda gy, w: conv.conv2d_input_grad(gy, w, x.shape, **geometry), gy, w, atol=1e-4)
    agree(lambda gy, x: conv.conv2d_weight_grad(gy, x, w.shape, **geometry), gy, x, atol=1e-4)


@pytest.mark.parametrize("size, window, stride, padding, dilation", [
    ((9, 4000), (3, 3), (1, 1), (4, 1), (1, 1)), ((9, 2000), (3, 3), (3, 1), (2, 4), (2, 1)),
    ((3, 9000), (2, 2), (1, 1), (1, 1), (1, 1)), ((40, 500), (5, 2), (1, 1), (2, 0), (1, 3))], ids=str)
def test_depthwise_convolution_of_wide_images(size, window, stride, padding, dilation):
    """Some rows at a time, or as other images where not even the rows of one window fit."""
    x, w = normal(2, 3, *size), normal(3, 1, *window, seed=1)
    agree(conv.conv2d, x, w, stride=stride, padding=padding, dilation=dilation, groups=3, atol=1e-4)


@needs_blas
@pytest.mark.parametrize("stride, padding, dilation", [
    ((1, 1), (1, 1), (1, 1)), ((2, 1), (0, 2), (1, 1)), ((1, 2), (2, 0), (2, 1))])
@pytest.mark.parametrize("last", [True, False])
def test_convolution_of_small_images_with_many_filters(stride, padding, dilation, last):
    x = nchw(normal(2, 5, 6, 90)) if last else normal(2, 90, 5, 6)
    w, geometry = normal(220, 90, 3, 2, seed=1) / 20, dict(stride=stride, padding=padding, dilation=dilation)
    gy = normal(*conv.conv2d(x, w, **geometry).shape, seed=2)
    g, size = conv._geometry("", x.shape, w.shape, **geometry, groups=1), gy[:, 0].shape
    assert conv.choose("forward", w.shape, g, size, x.transpose(0, 2, 3, 1).astype(np.float32)) is conv_columns.forward
    assert conv._columns_cost_less(w.shape, g, size) and not conv._columns_cost_less(w.shape, g._replace(groups=2), size)
    agree(conv.conv2d, x, w, **geometry)
    agree(lambda gy, x: conv.conv2d_weight_grad(gy, x, w.shape, **geometry), gy, x, atol=1e-4)


@QUICK
@given(st.integers(1, 3), st.sampled_from([2, 15, 16, 17, 33]), st.sampled_from([(1, 5), (3, 5), (4, 4), (7, 5), (40, 41)]))
def test_channels_last(n, c, size):
    x = normal(n, c, *size)
    agree(contiguous_nhwc, x, rtol=0, atol=1e-6)
    assert contiguous_nhwc(x.astype(np.float32)).flags.c_contiguous


@pytest.mark.parametrize("layout", ["first", "last"])
def test_batch_norm_keeps_its_digits_in_large_arrays(layout):
    x = nchw(normal(8, 60, 50, 24) + 1000)
    x = np.ascontiguousarray(x) if layout == "first" else x
    x = x.astype(np.float32)
    y, mean, var = norm_pool.batch_norm(x, np.ones(24, np.float32), np.zeros(24, np.float32))
    wide = x.astype(np.float64)
    np.testing.assert_allclose(mean, wide.mean((0, 2, 3)), rtol=1e-7)
    np.testing.assert_allclose(var, wide.var((0, 2, 3)), rtol=1e-5)


def test_other_types_are_refused_or_left_to_numpy():
    assert native.kernel("softmax", np.zeros(3)) is None
    with pytest.raises(Exception, match="float32"):
        native.kernel("softmax")(np.zeros((2, 3)), np.zeros((2, 3)), 2, 3)
    with native.using(False):
        assert native.kernel("softmax") is None
    packed = np.zeros((6, 4), [("flag", np.uint8), ("value", np.float32)])  # 5 bytes an element
    packed["value"] = normal(6, 4)
    assert native.kernel("softmax", packed["value"]) is None
    np.testing.assert_allclose(rows.softmax(packed["value"]).sum(1), 1, rtol=1e-6)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_kernels_work_in_a_forked_child():
    x = np.ones((2000, 600), np.float32)
    rows.softmax(x)
    products.product(x.T, x)
    child = os.fork()
    if not child:
        signal.alarm(60)  # ends a child that hangs
        threads.set_num_threads(3)
        right = abs(rows.softmax(x)[0, 0] * 600 - 1) < 1e-3 and products.product(x.T, x)[0, 0] == 2000
        os._exit(0 if right else 1)
    assert os.waitpid(child, 0)[1] == 0
