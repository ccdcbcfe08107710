"""Known traps: corners, infinities, NaN, ties, empty and 0-d arrays, dtypes, aliasing, in-place changes, errors."""
import contextlib
import itertools
import math
import warnings
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from checks import definitions, wants_bfloat16
from hypothesis import given, settings, strategies as st

import minigrad as mg
from minigrad.backend.cpu import native as cpu_native

INF = np.inf


def derivatives(f, x, count=3):
    """f at x and its derivatives, as plain numbers. f maps a scalar to a scalar."""
    x, values = mg.Tensor(x), []
    for _ in range(count + 1):
        values.append(float(f(x)))
        f = mg.grad(f)
    return values


def gradient(f, x):
    return mg.grad(lambda x: f(x).sum())(np.asarray(x, float)).tolist()


# -- corners ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("f", [mg.abs, mg.sqrt, mg.relu, mg.sign, lambda x: mg.norm(x),
                               lambda x: mg.norm(mg.stack([x, x]), 3), lambda x: mg.std(mg.stack([x, -x])),
                               lambda x: x ** 0.5, lambda x: mg.sqrt(x * x), lambda x: mg.norm(mg.stack([x, 2 * x]))])
def test_corners_at_zero_have_subgradient_zero_to_third_order(f):
    assert derivatives(f, 0.0) == [0, 0, 0, 0]


@pytest.mark.parametrize("power, expected",
                         [(0, [1, 0, 0, 0]), (1, [0, 1, 0, 0]), (2, [0, 0, 2, 0]), (3, [0, 0, 0, 6]), (2.0, [0, 0, 2, 0]),
                          (4, [0, 0, 0, 0])])
def test_powers_of_zero(power, expected):
    assert derivatives(lambda x: x ** power, 0.0) == expected
    assert derivatives(lambda x: mg.power(x, mg.Tensor(float(power))), 0.0) == expected


def test_zero_and_negative_bases_with_a_tensor_exponent():
    p = mg.Tensor([2.0, 3.0], requires_grad=True)
    slope = mg.grad(mg.power(mg.Tensor([0.0, 2.0]), p).sum(), p)
    np.testing.assert_allclose(slope.numpy(), [0, 8 * np.log(2)])
    assert gradient(lambda x: x ** mg.Tensor([2.0, 3.0, 2.0]), [-1, -2, 0]) == [-2, 12, 0]


def test_norm_of_zeros_has_a_zero_hessian():
    for ord in (None, 1, 3, INF, 1.5):
        assert not mg.hessian(lambda x: mg.norm(x, ord))(np.zeros(3)).numpy().any()
    matrix = mg.grad(lambda x: mg.norm(x, "fro"))(np.zeros((2, 2)))
    assert not matrix.numpy().any()


# -- ties ------------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=6), st.sampled_from([np.float16, np.float32, np.float64]))
def test_ties_share_the_gradient_evenly(values, dtype):
    x = np.array(values, dtype)
    for f, best in ((mg.max, x.max()), (mg.min, x.min())):
        expected = (x == best) / (x == best).sum()
        g = mg.grad(lambda x: f(x))(x)
        assert g.dtype == dtype
        np.testing.assert_allclose(g.numpy(), expected.astype(dtype), rtol=1e-3)


def test_ties_between_two_tensors():
    x, y = (mg.Tensor([1.0, 2.0, 3.0], requires_grad=True), mg.Tensor([1.0, 3.0, 2.0], requires_grad=True))
    for f, first in ((mg.maximum, [0.5, 0, 1]), (mg.minimum, [0.5, 1, 0])):
        a, b = mg.grad(f(x, y).sum(), [x, y])
        assert a.tolist() == first and b.tolist() == [1 - v for v in first]
    assert gradient(lambda x: mg.maximum(x, x), [1, 2]) == [1, 1]
    assert gradient(lambda x: mg.clip(x, 0, 6), [0, 6, -1, 7, 3]) == [1, 1, 0, 0, 1]


def test_many_ties_in_half_precision_are_counted_exactly():
    g = mg.grad(lambda x: mg.max(x))(np.ones(3000, np.float16))
    np.testing.assert_allclose(g.numpy(), np.float16(1 / 3000), rtol=1e-3)


def test_sorting_equal_elements_keeps_each_ones_gradient():
    weights = np.array([1.0, 2.0, 3.0, 4.0])
    assert gradient(lambda x: mg.sort(x) * weights, [5, 1, 5, 1]) == [3, 1, 4, 2]
    assert gradient(lambda x: mg.top_k(x, 2)[0] * weights[:2], [5, 1, 5, 1]) == [1, 0, 2, 0]


# -- infinities and NaN ----------------------------------------------------------------------------------------------


# The limits: (value, slope) at -inf and at inf; None where there is none.
RAMP = ((0, 0), (INF, 1))
LIMITS = {
    **dict.fromkeys(["gelu", "gelu_tanh", "silu", "mish", "relu", "softplus", "hardswish"], RAMP),
    "tanh": ((-1, 0), (1, 0)), "softsign": ((-1, 0), (1, 0)), "erf": ((-1, 0), (1, 0)), "sigmoid": ((0, 0), (1, 0)),
    "relu6": ((0, 0), (6, 0)), "elu": ((-1, 0), (INF, 1)), "logsigmoid": ((-INF, 1), (0, 0)),
    "leaky_relu": ((-INF, 0.01), (INF, 1)),
    "arctan": ((-math.pi / 2, 0), (math.pi / 2, 0)), "arcsinh": ((-INF, 0), (INF, 0)), "exp": ((0, 0), (INF, INF)),
    "expm1": ((-1, 0), (INF, INF)), "exp2": ((0, 0), (INF, INF)), "log": (None, (INF, 0)), "log2": (None, (INF, 0)),
    "log10": (None, (INF, 0)), "log1p": (None, (INF, 0)), "sqrt": (None, (INF, 0)), "rsqrt": (None, (0, 0)),
    "arccosh": (None, (INF, 0)), "reciprocal": ((0, 0), (0, 0)), "abs": ((INF, -1), (INF, 1)),
    "square": ((INF, -INF), (INF, INF)),
    "sign": ((-1, 0), (1, 0)), "sinh": ((-INF, INF), (INF, INF)), "cosh": ((INF, -INF), (INF, INF))}


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("name", LIMITS)
def test_values_and_slopes_at_infinity_are_their_limits(name, dtype, native):
    f = (lambda x: mg.gelu(x, "tanh")) if name == "gelu_tanh" else getattr(mg, name)
    places, limits = zip(*[(x, limit) for x, limit in zip((-INF, INF), LIMITS[name]) if limit])
    with np.errstate(all="ignore"), cpu_native.using(native):
        for create_graph in (False, True):
            x = mg.Tensor(np.array(places * 20, dtype), requires_grad=True)
            y = f(x)
            (slope,) = mg.grad(y.sum(), [x], create_graph=create_graph)
            for got, wanted in zip((y, slope), zip(*limits)):
                rtol = 1e-3 if dtype == "float16" else 1e-6
                np.testing.assert_allclose(got.detach().numpy(), np.tile(wanted, 20), rtol=rtol, atol=1e-6)
            if create_graph and (LIMITS[name] == RAMP or name in ("tanh", "softsign", "sigmoid")):
                assert not mg.grad(slope.sum(), [x])[0].numpy().any()
            bad = mg.Tensor(np.array([np.nan], dtype), requires_grad=True)
            assert np.isnan(f(bad).detach().numpy()).all()


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("name", ["gelu", "gelu_tanh", "silu", "mish", "softplus", "softsign", "tanh", "sigmoid"])
def test_values_and_slopes_of_numbers_of_any_size_are_finite(name, native):
    f = (lambda x: mg.gelu(x, "tanh")) if name == "gelu_tanh" else getattr(mg, name)
    flat = name in ("softsign", "tanh", "sigmoid")
    with np.errstate(all="ignore"), cpu_native.using(native):
        for dtype in (np.float16, np.float32, np.float64):
            info = np.finfo(dtype)
            sizes = np.geomspace(max(float(info.smallest_subnormal), 1e-300), float(info.max) / 1.01, 60).astype(dtype)
            for create_graph in (False, True):
                x = mg.Tensor(np.concatenate([-sizes, sizes, [info.max, -info.max, 0]]).astype(dtype), requires_grad=True)
                y = f(x)
                (slope,) = mg.grad(y.sum(), [x], create_graph=create_graph)
                far = abs(x.numpy()) > 1e4
                assert np.isfinite(y.detach().numpy()).all() and np.isfinite(slope.detach().numpy()).all()
                np.testing.assert_allclose(slope.detach().numpy()[far], (x.numpy() > 0)[far] * (not flat), atol=1e-6)
                if not flat:
                    np.testing.assert_allclose(y.detach().numpy()[far], np.maximum(x.numpy(), 0)[far], rtol=1e-3, atol=1e-6)


def test_slopes_of_two_numbers_at_infinity():
    slopes = lambda f, x, y: [float(g) for g in mg.grad(f, (0, 1))(x, y)]
    for x in (3.0, 0.0, -2.0, 1e300):
        for s in (1, -1):
            assert slopes(mg.hypot, s * INF, x) == [s, 0] and slopes(mg.hypot, x, s * INF) == [0, s]
            assert slopes(mg.arctan2, s * INF, x) == [0, 0] and slopes(mg.arctan2, x, s * INF) == [0, 0]
    assert slopes(mg.hypot, INF, -INF) == [1, -1] and slopes(mg.arctan2, INF, INF) == [0, 0]
    for f in (mg.hypot, mg.arctan2):
        with np.errstate(invalid="ignore"):
            assert [float(g) for g in mg.grad(lambda x, y: mg.grad(f)(x, y), (0, 1))(INF, 2.0)] == [0, 0]
        assert np.isnan(slopes(f, np.nan, 1.0)).all()
    with np.errstate(all="ignore"):
        assert slopes(mg.power, 0.0, -2.0) == [-INF, -INF] and slopes(mg.power, 0.0, 0.0) == [0, 0]
        assert slopes(mg.power, 0.0, 2.0) == [0, 0]


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.floats(-1, 1), st.floats(-1, 1), st.integers(-300, 300))
def test_an_angle_has_its_slope_at_any_scale(y, x, scale):
    """Where squares of the coordinates overflow, or are 0."""
    if math.hypot(x, y) < 1e-3:
        return
    a, b = mg.grad(mg.arctan2, (0, 1))(y * 10.0 ** scale, x * 10.0 ** scale)
    with np.errstate(all="ignore"):
        wanted = np.array([x, -y]) / (x * x + y * y) * 10.0 ** -scale
        np.testing.assert_allclose([float(a), float(b)], wanted, rtol=1e-12, atol=1e-12 * abs(wanted).max())


@pytest.mark.parametrize("x, value, slopes",
                         [([-INF, -INF], -INF, [0, 0]), ([-INF, 1.0], 1, [0, 1]), ([INF, 1.0], INF, [1, 0]),
                                              ([INF, -INF], INF, [1, 0]), ([INF, INF], INF, [0.5, 0.5]),
                                              ([1000.0, 1000.0], 1000 + np.log(2), [0.5, 0.5]),
                          ([-1000.0, 0.0], 0, [0, 1])])
def test_log_sum_exp_with_infinities(x, value, slopes):
    x = np.array(x)
    for f in (lambda x: mg.logsumexp(x), lambda x: mg.logaddexp(x[0], x[1])):
        assert float(f(mg.Tensor(x))) == pytest.approx(value)
        np.testing.assert_allclose(mg.grad(f)(x).numpy(), slopes, rtol=1e-12)
        curvature = mg.hessian(f)(x).numpy()
        np.testing.assert_allclose(curvature,
                                   np.diag(slopes) - np.outer(slopes, slopes) if value != INF else np.zeros((2, 2)),
                                   atol=1e-12)
        assert np.isfinite(mg.jacobian(mg.hessian(f))(x).numpy()).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_softmax_is_shared_among_infinities(dtype):
    x = np.array([[INF, 1, INF, -INF], [INF, 2, 3, 4]], dtype)
    for context in (contextlib.nullcontext(), definitions()):
        with context:
            np.testing.assert_array_equal(mg.softmax(x).numpy(), [[0.5, 0, 0.5, 0], [1, 0, 0, 0]])
            half = -math.log(2)
            np.testing.assert_allclose(mg.log_softmax(x).numpy(), [[half, -INF, half, -INF], [0, -INF, -INF, -INF]], rtol=1e-6)
            np.testing.assert_allclose(mg.cross_entropy(x, [2, 0], reduction="none").numpy(), [-half, 0], rtol=1e-6)
            leaf = mg.Tensor(x, requires_grad=True)
            mg.log_softmax(leaf)[:, 3].sum().backward()
            np.testing.assert_allclose(leaf.grad.numpy(), [[-0.5, 0, -0.5, 1], [-1, 0, 0, 1]], rtol=1e-6)
            leaf.grad = None
            mg.cross_entropy(leaf, [2, 0], reduction="sum").backward()
            np.testing.assert_allclose(leaf.grad.numpy(), [[0.5, 0, -0.5, 0], [0, 0, 0, 0]], rtol=1e-6)


def test_masked_classes_add_nothing_to_a_divergence():
    p, q, kept = np.array([0.0, 1.0, -INF, 2.0]), np.array([1.0, 0.5, -INF, -1.0]), [0, 1, 3]
    few = p[kept], q[kept]
    np.testing.assert_allclose(mg.kl_divergence(p, q).item(), mg.kl_divergence(*few).item(), rtol=1e-12)
    for derivative in (mg.grad, mg.hessian):
        for i in (0, 1):
            found = derivative(mg.kl_divergence, i)(p, q).numpy()
            expected = derivative(mg.kl_divergence, i)(*few).numpy()
            np.testing.assert_allclose(found[np.ix_(*[kept] * found.ndim)], expected, atol=1e-12)
            assert np.isfinite(found).all() and np.isfinite(derivative(mg.kl_divergence, i)(p, np.arange(4.0)).numpy()).all()
    assert mg.kl_divergence(few[0], [0.0, 0.0, -INF]).item() == INF
    assert mg.kl_divergence([-INF, -INF], [0.0, 1.0]).item() == 0


def test_masked_rows_of_a_softmax():
    x = np.array([[-INF, -INF], [-INF, 2.0]])
    assert mg.softmax(x).tolist() == [[0, 0], [0, 1]]
    assert not mg.jacobian(mg.softmax)(x).numpy().any()
    assert np.isfinite(mg.hessian(lambda x: (mg.softmax(x) ** 2).sum())(x).numpy()).all()


@pytest.mark.parametrize("bad", [np.inf, np.nan])
@pytest.mark.parametrize("f", [
    lambda x: mg.max_pool2d(x, 2), lambda x: mg.max_pool2d(x, 3, stride=1, padding=1), mg.relu, lambda x: mg.max(x, (2, 3)),
    lambda x: mg.maximum(x, 0.5), lambda x: mg.clip(x, 0, 0.5), lambda x: mg.where(x.numpy() > 0, x, 0), lambda x: mg.sort(x, 3)])
def test_an_infinite_gradient_stays_with_what_was_chosen(f, bad):
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 4))
    x[0, 0, 1, 1], x[1, 2, 3, 3] = 9, 8  # chosen by all of these but clip
    leaf = mg.Tensor(x, requires_grad=True)
    y = f(leaf)
    g = np.ones(y.shape)
    g[0], g[1] = 1, 0
    g[0, 0].flat[0] = bad
    with np.errstate(all="raise"):
        y.backward(mg.Tensor(g))
    assert np.count_nonzero(~np.isfinite(leaf.grad.numpy())) <= 1 and np.isfinite(leaf.grad.numpy()[1]).all()


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("p", [0.5, 1])
def test_what_is_dropped_is_0_whatever_it_was(p, dtype, bad):
    for drop in (mg.dropout, mg.drop_path):
        mg.random.seed(0)
        kept = drop(np.ones((40, 2)), p).numpy() != 0
        mg.random.seed(0)
        x = mg.Tensor(np.where(kept, 1.0, bad).astype(dtype), requires_grad=True)
        y = drop(x, p)
        np.testing.assert_array_equal(y.numpy(), kept * (1 / (1 - p) if p < 1 else 1.0))
        y.backward(np.where(kept, 1.0, bad))
        np.testing.assert_array_equal(x.grad.numpy(), y.numpy())


@pytest.mark.parametrize("far", [np.inf, -np.inf])
def test_a_loss_at_an_infinite_distance_has_the_slope_of_its_line(far):
    for loss in (mg.huber_loss, mg.smooth_l1_loss, mg.l1_loss):
        for order in (1, 2):
            f = lambda x: loss(x, np.array([far, 0.25]), "sum")
            g = mg.grad(f) if order == 1 else lambda x: mg.grad(lambda x: mg.grad(f)(x).sum())(x)
            assert np.isfinite(g(np.array([0.0, 0.0])).numpy()).all()


def test_the_first_nan_of_a_window_gets_its_gradient():
    x = mg.Tensor(np.array([[1, np.nan, 5], [3, 2, np.nan], [0, 1, 2]])[None, None], requires_grad=True)
    mg.max_pool2d(x, 2, stride=1).backward(mg.Tensor(np.ones((1, 1, 2, 2))))
    np.testing.assert_array_equal(x.grad.numpy()[0, 0], [[0, 2, 0], [1, 0, 1], [0, 0, 0]])


@pytest.mark.parametrize("kernel, stride, padding", [(3, 2, 1), (2, 1, 1), ((3, 2), (1, 2), (1, 0))])
def test_padding_gets_no_gradient_from_windows_of_minus_infinity(kernel, stride, padding):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, 5, 6))
    x[0], x[1, 0, :3], x[1, 1][rng.random((5, 6)) < 0.7] = -np.inf, -np.inf, -np.inf
    leaf = mg.Tensor(x, requires_grad=True)
    y = mg.max_pool2d(leaf, kernel, stride, padding)
    g = rng.uniform(1, 2, y.shape)
    y.backward(mg.Tensor(g))
    assert leaf.grad.numpy().sum() == pytest.approx(g.sum()) and np.isinf(y.numpy()).any()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_no_features_have_gradients_of_no_elements(dtype):
    x, w, b, table = (mg.Tensor(np.ones(shape, dtype), requires_grad=True) for shape in ((2, 3), (0, 3), (0,), (5, 0)))
    mg.linear(x, w, b).sum().backward()
    mg.embedding(np.array([1, 2, 1]), table).sum().backward()
    assert [t.grad.shape for t in (x, w, b, table)] == [(2, 3), (0, 3), (0,), (5, 0)] and not x.grad.numpy().any()


@pytest.mark.parametrize("f, x, signs", [(mg.arcsin, 1.0, (1, 1, 1)), (mg.arcsin, -1.0, (1, -1, 1)), (mg.arccos, 1.0, (-1, -1, -1)),
                                         (mg.arccosh, 1.0, (1, -1, 1)), (mg.arctanh, 1.0, (1, 1, 1)),
                                         (mg.arctanh, -1.0, (1, -1, 1)), (mg.log, 0.0, (1, -1, 1)), (mg.rsqrt, 0.0, (-1, 1, -1))])
def test_slopes_at_the_end_of_a_domain_are_infinite(f, x, signs):
    with np.errstate(divide="ignore"):
        assert derivatives(f, x)[1:] == [sign * INF for sign in signs]


def test_nan_is_not_hidden():
    """A NaN that comes in shows in what comes out."""
    x = mg.Tensor([np.nan, 1.0])
    for f in (mg.softmax, mg.log_softmax, mg.relu, mg.abs, mg.sort, lambda x: mg.clip(x, 0, 1), mg.max, mg.logsumexp,
              mg.prod, mg.norm, mg.std,
              lambda x: mg.logaddexp(x, 0.0), lambda x: mg.maximum(x, 0.0), mg.erf, mg.sigmoid):
        with np.errstate(invalid="ignore"):
            assert np.isnan(f(x).numpy()).any()


def test_gradient_stays_clear_of_the_branch_not_taken():
    for f in (lambda x: mg.where(x > 0, mg.log(mg.where(x > 0, x, 1)), 0), lambda x: mg.where(x > 0, x, mg.Tensor(np.nan)),
              lambda x: mg.where(x > 0, x, INF)):
        assert gradient(f, [0, 2.0])[0] == 0 and np.isfinite(gradient(f, [0, 2.0])).all()
    assert gradient(lambda x: mg.clip(x, -1, 1), [INF, -INF, 0]) == [0, 0, 1]
    assert gradient(lambda x: mg.relu(x), [INF, -INF]) == [1, 0]
    assert gradient(lambda x: mg.maximum(x, 0), [INF, -INF]) == [1, 0]


def test_whole_numbers_are_converted_or_refused():
    x = mg.Tensor(np.array([[1, 2, 3]]))
    assert mg.cross_entropy(x, [0]).dtype == mg.softmax(x).dtype == mg.logsumexp(x, 1).dtype == mg.erf(x).dtype == np.float64
    np.testing.assert_allclose(mg.cross_entropy(x, [0]).item(), 2.4076, rtol=1e-4)
    assert mg.logsumexp(np.zeros((2, 0), int), 1).tolist() == [-INF, -INF]
    assert mg.erf(np.ones(2, np.longdouble)).dtype == np.longdouble
    for f in (lambda: mg.layer_norm(x, 3), lambda: mg.rms_norm(x, 3), lambda: mg.group_norm(x, 1),
              lambda: mg.scaled_dot_product_attention(x, x, x), lambda: mg.packed_attention(np.ones((1, 2, 3, 1, 1), int))):
        with pytest.raises(TypeError, match="floating point wanted, not int64"):
            f()


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint8, bool])
def test_whole_numbers_give_the_same_with_paths_and_without(dtype):
    x = np.random.default_rng(0).integers(0, 2 if dtype is bool else 100, (2, 3, 5, 5)).astype(dtype)
    x[0, 0] = 0 if dtype is bool else np.iinfo(dtype).min
    for f in (lambda x: mg.max_pool2d(x, 3, 2, 1), lambda x: mg.max_pool2d(x, 2), lambda x: mg.adaptive_max_pool2d(x, 2),
              lambda x: mg.batch_norm(x, None, None, training=True),
              lambda x: mg.batch_norm(x, None, None, [1, 2, 3], [0, 1, 0], True),
              lambda x: mg.norm_relu_pool(x, None, None, np.ones(3), np.zeros(3), True)):
        y = f(x)
        with definitions():
            z = f(x)
        assert y.dtype == z.dtype
        np.testing.assert_allclose(y.numpy(), z.numpy(), rtol=1e-9)
    for f in (lambda x: mg.conv2d(x, x[:, :, :2, :2]), lambda x: mg.conv_transpose2d(x, x[:1].reshape(3, 1, 5, 5))):
        for context in (contextlib.nullcontext(), definitions()):
            with context, pytest.raises(TypeError, match="floating point wanted"):
                f(x)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(a=st.integers(0, 255), b=st.floats(0.1, 300), dtype=st.sampled_from([np.uint8, np.int8, np.int16, np.uint64]))
def test_gradients_beside_small_whole_numbers(a, b, dtype):
    a = np.array(a).astype(dtype)
    for f in (mg.fmin, mg.fmax, mg.minimum, mg.maximum, mg.arctan2, mg.hypot, mg.divide, mg.multiply, mg.subtract):
        for g in (lambda x: f(a, x), lambda x: f(x, a)):
            if abs(float(a) - b) > 1e-2 and not (f is mg.divide and a == 0):
                wide = (lambda x: f(float(a), x)) if g(b).item() == f(float(a), b).item() else (lambda x: f(x, float(a)))
                np.testing.assert_allclose(mg.grad(g)(b).item(), mg.grad(wide)(b).item(), rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, bool])
def test_rounding_and_sums_by_names_of_axes_keep_whole_numbers(dtype):
    x = np.arange(6).reshape(2, 3).astype(dtype)
    for subscripts in ("ij->", "ij->i", "ij->ji"):
        assert mg.einsum(subscripts, x).dtype == np.einsum(subscripts, x).dtype
        np.testing.assert_array_equal(mg.einsum(subscripts, x).numpy(), np.einsum(subscripts, x))
    if dtype is not bool:
        assert mg.round(x).dtype == dtype == np.round(mg.Tensor(x)).dtype and np.rint(mg.Tensor(x)).dtype == np.rint(x).dtype
        np.testing.assert_array_equal(mg.round(x, -1).numpy(), np.round(x, -1))


def test_saturated_functions_do_not_overflow():
    for f, low, high in ((mg.sigmoid, 0, 1), (mg.tanh, -1, 1), (mg.erf, -1, 1)):
        for dtype in (np.float16, np.float32, np.float64):
            x = np.array([-6e4, 6e4], dtype)
            with np.errstate(all="raise", under="ignore"):
                assert f(x).tolist() == [low, high]
            with np.errstate(over="ignore"):  # of x * x in the slope of erf
                assert mg.grad(lambda x: f(x).sum())(x).tolist() == [0, 0]


@pytest.mark.parametrize("zeros", list(itertools.product([False, True], repeat=3)))
def test_products_with_zeros(zeros):
    x = np.where(zeros, 0, [2.0, 3.0, 5.0])
    others = lambda *skip: np.prod([v for i, v in enumerate(x) if i not in skip])
    np.testing.assert_allclose(mg.grad(lambda x: mg.prod(x))(x).numpy(), [others(i) for i in range(3)])
    np.testing.assert_allclose(mg.hessian(lambda x: mg.prod(x))(x).numpy(),
                               [[others(i, j) if i != j else 0 for j in range(3)] for i in range(3)])
    third = mg.jacobian(mg.hessian(lambda x: mg.prod(x)))(x).numpy()
    assert third[0, 1, 2] == 1 and third.sum() == 6
    np.testing.assert_allclose(mg.jacobian(mg.cumprod)(x).numpy()[2], [others(i) for i in range(3)])


# -- 0-d and empty arrays --------------------------------------------------------------------------------------------


def test_zero_dimensional_results_stay_arrays():
    x = mg.Tensor(np.array(2.0, np.float32), requires_grad=True)
    for f in (mg.exp, mg.sum, mg.max, mg.mean, mg.var, mg.prod, mg.logsumexp, mg.norm, lambda x: x * 2, lambda x: 2 ** x,
              lambda x: x.reshape(1)[0], mg.relu,
              lambda x: mg.clip(x, 0, 1), lambda x: mg.where(x > 0, x, 0), lambda x: mg.einsum("->", x), mg.erf,
              lambda x: mg.inner(x, x), mg.cumprod):
        y = f(x)
        assert type(y.detach().numpy()) is np.ndarray and y.dtype == np.float32
        g = mg.grad(y.sum(), x)
        assert type(g.numpy()) is np.ndarray and g.shape == () and g.dtype == np.float32
    for y in (mg.argmax(x), mg.any(x), x > 1, mg.isnan(x)):
        assert type(y.numpy()) is np.ndarray


@pytest.mark.parametrize("f", [mg.exp, mg.relu, mg.softmax, mg.log_softmax, mg.cumsum, mg.cumprod, mg.sort, mg.logsumexp,
                               mg.sum, mg.prod, mg.norm, mg.flip,
                               mg.ravel, lambda x: mg.sum(x, 0), lambda x: mg.prod(x, 0), lambda x: mg.mean(x, -1),
                               lambda x: mg.var(x, 1), lambda x: mg.logsumexp(x, 0),
                               lambda x: x @ mg.Tensor(np.ones((3, 2))), lambda x: mg.swapaxes(x, 0, 1) @ x,
                               lambda x: mg.einsum("ij,kj->ik", x, x),
                               lambda x: mg.concatenate([x, x], 1), lambda x: mg.stack([x, x]), lambda x: x[:0],
                               lambda x: x[[]], lambda x: mg.max(x, 1),
                               lambda x: mg.tile(x, (2, 2)), lambda x: mg.pad(x, ((0, 0), (1, 1))),
                               lambda x: mg.inv(x[:, :, None] * x[:, None]),
                               lambda x: mg.cholesky(x[:, :, None] * x[:, None]),
                               lambda x: mg.take_along_axis(x, np.zeros((0, 1), int), 1)])
def test_empty_batches(f):
    """No examples of three features: a gradient of that shape, and no warning."""
    x = mg.Tensor(np.zeros((0, 3)), requires_grad=True)
    with np.errstate(all="raise"):
        y = f(x)
        assert mg.grad(y.sum(), x, create_graph=True).shape == (0, 3)


@pytest.mark.parametrize("n, inputs, outputs", [(0, 2, 4), (2, 2, 0), (0, 4, 2), (0, 2, 0)])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("transposed", [False, True])
def test_convolutions_of_nothing(transposed, groups, n, inputs, outputs):
    x = mg.Tensor(np.zeros((n, inputs, 5, 4)), requires_grad=True)
    w = mg.Tensor(np.ones((inputs, outputs // groups, 3, 2) if transposed else (outputs, inputs // groups, 3, 2)),
                  requires_grad=True)
    for context in (contextlib.nullcontext(), definitions()):
        with context:
            y = (mg.conv_transpose2d if transposed else mg.conv2d)(x, w, stride=2, padding=1, groups=groups)
            assert y.shape[:2] == (n, outputs)
            for a, g in zip((x, w), mg.grad(y.sum(), (x, w))):
                assert g.shape == a.shape and not g.numpy().any()


def test_images_smaller_than_a_window_are_refused_with_paths_and_without():
    x = np.ones((1, 3, 1, 4))
    for f in (lambda: mg.max_pool2d(x, 2), lambda: mg.avg_pool2d(x, 2),
              lambda: mg.norm_relu_pool(x, None, None, np.ones(3), np.ones(3), True)):
        for context in (contextlib.nullcontext(), definitions()):
            with context, pytest.raises(ValueError, match="larger|two rows"):
                f()


def test_padding_a_number_changes_nothing():
    for width in (0, 2, (1, 2)):
        assert mg.pad(3.0, width).item() == 3


def test_reductions_of_nothing():
    x = np.zeros((2, 0))
    assert mg.sum(x, 1).tolist() == [0, 0] and mg.prod(x, 1).tolist() == [1, 1]
    assert mg.logsumexp(x, 1).tolist() == [-INF, -INF]
    assert float(mg.norm(x)) == 0 and mg.any(x).item() is False and mg.all(x).item() is True
    for f in (mg.max, mg.min, mg.argmax):
        with pytest.raises(ValueError):
            f(x, 1)


# -- broadcasting and indices ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shapes",
                         [((), (2, 3)), ((1,), (2, 3)), ((1, 3), (2, 1)), ((2, 1), (1, 1)), ((3,), (1, 1, 3)), ((1, 1), ()),
                          ((0, 3), (1, 1)), ((1, 3), (0, 3))])
def test_axes_of_length_one_are_broadcast_and_summed(shapes):
    full = np.broadcast_shapes(*shapes)
    for f in (mg.add, mg.multiply, mg.maximum, mg.power, mg.logaddexp, mg.arctan2,
              lambda x, y: mg.where(np.ones((), bool), x, y)):
        x, y = (mg.Tensor(np.full(s, v), requires_grad=True) for s, v in zip(shapes, (3.0, 2.0)))
        a, b = mg.Tensor(3.0, requires_grad=True), mg.Tensor(2.0, requires_grad=True)
        assert f(x, y).shape == full
        for leaf, grad, slope in zip((x, y), mg.grad(f(x, y).sum(), [x, y]), mg.grad(f(a, b), [a, b])):
            assert grad.shape == leaf.shape  # each element has been used as often as every other
            np.testing.assert_allclose(grad.numpy(), float(slope) * np.prod(full) / max(1, leaf.size))


def test_einsum_sums_what_it_broadcast():
    x, y = mg.Tensor(np.full((1, 3), 2.0), requires_grad=True), mg.Tensor(np.full((4, 1), 3.0), requires_grad=True)
    for subscripts, expected in (("ij,ij->ij", [12, 6]), ("ij,ij->i", [12, 6]), ("ij,ij->", [12, 6]), ("ij,ij->j", [12, 6])):
        g = mg.grad(mg.einsum(subscripts, x, y).sum(), [x, y])
        assert g[0].tolist() == [[expected[0]] * 3] and g[1].tolist() == [[expected[1]]] * 4
    assert gradient(lambda x: mg.einsum("ii->i", x), np.ones((2, 2))) == [[1, 0], [0, 1]]
    assert gradient(lambda x: mg.einsum("iij,j->", x, np.array([1.0, 2.0])), np.ones((2, 2, 2))) == [[[1, 2], [0, 0]],
                                                                                                     [[0, 0], [1, 2]]]
    assert mg.einsum("i,j", [1.0, 2.0], [3.0, 4.0]).tolist() == [[3, 4], [6, 8]]


def test_an_index_that_repeats_collects_all_gradients():
    assert gradient(lambda x: x[[0, 0, 2]] ** 2, [1, 2, 3]) == [4, 0, 6]
    assert gradient(lambda x: x[np.array([[0, -3], [0, 1]])], [1, 2, 3]) == [3, 1, 0]
    assert gradient(lambda x: mg.take(x, [1, 1, 1]), [1, 2, 3]) == [0, 3, 0]
    assert gradient(lambda x: mg.take_along_axis(x, np.array([[1, 1, 0]]), 1), [[1, 2]]) == [[1, 2]]
    assert gradient(lambda x: mg.repeat(x, [0, 3]), [1, 2]) == [0, 3]
    assert gradient(lambda x: mg.pad(x, 2, "wrap"), [1, 2, 3]) == [2, 3, 2]
    assert mg.index_update(np.zeros(2), [0, 0, 1], [1.0, 2.0, 3.0]).tolist() == [2, 3]
    assert gradient(lambda v: mg.index_update(np.zeros(2), [0, 0, 1], v) * np.array([1.0, 5.0]), [1, 2, 3]) == [0, 1, 5]


@pytest.mark.parametrize("f", [
    lambda x, i: x[i], lambda x, i: x[i, 0], lambda x, i: mg.take(x, i, 0), lambda x, i: mg.take_along_axis(x, i[:, None], 0),
    lambda x, i: mg.take_along_axis(x, i[:1, None], 0), lambda x, i: mg.scatter_add(x[:, :1], i[:, None], x[1:, 1:], 0),
    lambda x, i: mg.scatter_add(x, i[:, None], x[1:, 1:], 0), lambda x, i: mg.index_add(x, i, x[1:]),
    lambda x, i: mg.index_update(x, i, x[1:]), lambda x, i: mg.scatter(x, i[:, None], x[1:, 1:], 0),
    lambda x, i: mg.embedding(i, x), lambda x, i: mg.cross_entropy(x[1:], i), lambda x, i: mg.nll_loss(x[1:], i)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_gradient_does_not_see_that_an_index_changes_later(f, dtype):
    x, index, later = (1 + np.arange(6, dtype=dtype)).reshape(3, 2), np.array([1, 1]), []
    for change in (False, True):
        t, i = mg.Tensor(x, requires_grad=True), index.copy()
        y = f(t, i)
        if change:
            i[...] = 0
        later.append(mg.grad((y * (1 + np.arange(y.size, dtype=dtype)).reshape(y.shape)).sum(), t).tolist())
    assert later[0] == later[1]


def test_an_index_array_may_change_after_use():
    index = np.array([0, 1])
    place = mg.Tensor([2])
    x = mg.Tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = x[index].sum() + mg.take(x, place).sum() + mg.index_add(x, index, [1.0, 1.0])[0]
    index[:], place.data[:] = 2, 0
    assert mg.grad(y, x).tolist() == [2, 1, 1]


@pytest.mark.parametrize("view",
                         [lambda a: a[::-1], lambda a: a[:, ::-2], lambda a: a.T, lambda a: np.broadcast_to(a[:1], a.shape),
                          lambda a: np.asfortranarray(a)])
def test_odd_strides(view):
    """Negative, zero and exchanged strides give what a plain copy gives."""
    x = view(np.random.default_rng(0).normal(size=(4, 4)))
    for f in (mg.exp, lambda x: mg.cumsum(x, 1), lambda x: x @ x.T, lambda x: mg.softmax(x, 0), lambda x: mg.norm(x, axis=0),
              lambda x: x.reshape(-1)[3:], mg.erf,
              lambda x: mg.prod(x, 1), lambda x: mg.pad(x, 1), lambda x: x[[0, 0]]):
        for order in (f, mg.jacobian(f)):
            np.testing.assert_allclose(order(mg.Tensor(x)).numpy(), order(mg.Tensor(x.copy(order="C"))).numpy(), rtol=1e-13)


# -- dtypes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [2, 2.0, True, np.float64(2), np.float32(2), np.int64(2), np.bool_(True), np.float16(2)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_scalars_do_not_promote(number, dtype):
    x = mg.Tensor(np.full(3, 1.5, dtype), requires_grad=True)
    results = [x + number, number + x, x * number, number - x, x / number, number / x, x ** number, number ** x, x % number,
               mg.maximum(x, number), mg.minimum(number, x),
               mg.where(x > number, x, number), mg.clip(x, number, 5), mg.clip(x, None, number), mg.logaddexp(x, number),
               mg.pad(x, 1, constant_values=number),
               mg.index_update(x, 0, number), mg.index_add(x, 0, number)]
    for y in results:
        assert y.dtype == dtype and mg.grad(y.sum(), x).dtype == dtype
    assert (x > number).dtype == bool


@pytest.mark.parametrize("dtype, number", [(np.uint8, 300), (np.uint8, -1), (np.int8, 200), (np.int32, 2 ** 40)])
def test_numbers_that_whole_numbers_do_not_hold(dtype, number):
    array = np.array([1, 2], dtype)
    x, scalar, true = mg.Tensor(array), np.int64(number), np.array([True, False])

    def same(made, expected):
        assert made.dtype == expected.dtype and made.tolist() == expected.tolist()

    for f in (lambda a, b: a + b, lambda a, b: b - a, lambda a, b: a * b):  # NumPy's numbers decide with
        same(f(x, scalar), f(array, scalar))
        with pytest.raises(OverflowError, match=f"{array.dtype} holds no {number}"):
            f(x, number)
    same(mg.maximum(x, scalar), np.maximum(array, scalar))
    assert mg.where(true, x, scalar).tolist() == np.where(true, array, scalar).tolist()
    for number in (number, scalar):  # where floats come out, no number is too large
        np.testing.assert_allclose((x / number).numpy(), array / float(number))
        np.testing.assert_allclose((number / x).numpy(), float(number) / array)
        np.testing.assert_allclose(mg.hypot(x, number).numpy(), np.hypot(array, float(number)), rtol=1e-3)
    for what in (np.str_("3"), np.timedelta64(3, "s")):
        with pytest.raises(TypeError, match="cannot make a Tensor of"):
            x * what


def test_integers_and_bools():
    i, b = mg.Tensor([1, 2, 3]), mg.Tensor([True, False, True])
    assert (i + 1).dtype == np.int64 and (i / 2).dtype == np.float64
    assert (i * 1.5).dtype == np.float64 and (b * 2).dtype == np.int64
    assert mg.clip(i, a_max=2).tolist() == [1, 2, 2] and mg.clip(i, 2).dtype == np.int64 and mg.sum(b).item() == 2
    x = mg.Tensor([1.0, 2.0, 3.0], requires_grad=True)
    assert mg.grad((x * i + x * b).sum(), x).tolist() == [2, 2, 4]
    assert not any(y.requires_grad for y in (i * 2, x.astype(int), x > 2, mg.argsort(x)))
    for bad in ([1, 2], [True], np.array(3, np.uint8)):
        with pytest.raises(TypeError, match="floating point"):
            mg.Tensor(bad, requires_grad=True)
    with pytest.raises(TypeError, match="floating point"):
        mg.grad(lambda i: (i * 1.0).sum())(np.array([1, 2]))


def test_what_is_no_number_is_refused():
    for bad in ("text", [1, "a"], [[1], [1, 2]], None, object(), 1j, np.array([1j])):
        with pytest.raises(TypeError):
            mg.Tensor(bad)
    x = mg.Tensor([1.0])
    for bad in ("a", None, 1j, object()):
        with pytest.raises(TypeError):
            x + bad
    assert (x == None).__class__ is bool and x != "a"  # noqa: E711


# -- sharing and in-place changes ------------------------------------------------------------------------------------


def test_a_tensor_used_twice_and_its_own_view():
    assert gradient(lambda x: x * x + x, [3]) == [7]
    assert gradient(lambda x: x[:2] * x[1:], [1, 2, 3]) == [2, 4, 2]
    assert gradient(lambda x: x + x.reshape(2, 2).T.reshape(4), [1, 2, 3, 4]) == [2, 2, 2, 2]
    assert gradient(lambda x: mg.add(x, x), [1]) == [2]
    assert gradient(lambda x: mg.concatenate([x, x, x[:1]]), [1, 2]) == [3, 2]
    assert gradient(lambda x: mg.einsum("i,i->", x, x), [1, 2]) == [2, 4]


def test_gradients_share_memory_with_nothing():
    seed = np.ones(3)
    x, y = (mg.Tensor(np.ones(3), requires_grad=True) for _ in range(2))
    (x + y).backward(seed)
    (mg.broadcast_to(x, (2, 3)) + y).sum().backward()
    for leaf, other in ((x, y), (y, x)):
        before = other.grad.numpy().copy()
        leaf.grad.data *= 7.0
        assert (other.grad.numpy() == before).all() and (seed == 1).all()
    z = mg.Tensor(np.ones((2, 2)), requires_grad=True)
    z.sum().backward()
    z.grad.data[0, 0] = 5  # a broadcast would change all
    assert z.grad.tolist() == [[5, 1], [1, 1]]
    w = mg.Tensor([1.0], requires_grad=True)
    w.backward(seed[:1])
    w.grad.data += 1.0
    assert seed[0] == 1


def test_backward_adds_to_the_gradient_that_is_there():
    x = mg.Tensor([1.0, 2.0], requires_grad=True)
    (x * x).sum().backward()
    first = x.grad
    (x * x).sum().backward()
    assert x.grad.tolist() == [4, 8] and first.tolist() == [2, 4]
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [8, 16] and x.grad.is_leaf


def test_nothing_changes_its_inputs():
    rng = np.random.default_rng(0)
    x = rng.uniform(0.5, 2, (3, 3))
    matrix = x @ x.T + 2 * np.eye(3)
    inputs = {"index_update": ([0], np.ones((1, 3))), "index_add": ([0], np.ones((1, 3))),
              "scatter_add": (np.zeros((3, 3), int), x.copy(), 0), "take": ([0],), "pad": (1,),
              "take_along_axis": (np.zeros((3, 3), int), 0), "repeat": (2,), "roll": (1,), "clip": (1, 1.5), "where": (x, x),
              "solve": (x,), "matmul": (x,), "reshape": (9,),
              "top_k": (2,), "expand_dims": (0,), "swapaxes": (0, 1), "moveaxis": (0, 1), "broadcast_to": ((2, 3, 3),),
              "tile": (2,), "split": (3,), "array_split": (2,)}
    for name in """exp log sqrt tanh relu abs sum mean max min prod var logsumexp softmax log_softmax cumsum cumprod sort
                   argsort flip ravel transpose squeeze erf sigmoid
                   inv det slogdet cholesky eigh svdvals norm trace diagonal tril triu""".split() + list(inputs):
        a = mg.Tensor(matrix.copy(), requires_grad=True)
        rest = inputs.get(name, ())
        copies = [np.array(r) for r in rest]
        y = getattr(mg, name)(a, *rest)
        y = [t for t in (y if isinstance(y, (list, tuple)) else [y]) if t.requires_grad]
        total = sum((t * t).sum() for t in y)
        if y:
            g = np.ones(())
            held = total.detach().numpy().copy()
            total.backward(g)
            assert total.numpy() == held and g == 1
        assert (a.numpy() == matrix).all(), name
        assert all((np.array(r) == c).all() for r, c in zip(rest, copies)), name


def test_in_place_changes_of_saved_arrays_are_noticed():
    def subtract(x):
        x.data -= 1.0

    def item(x):
        with mg.no_grad():
            x[0] = 5.0

    def through_a_view(x):
        x.detach()[1:][0] = 3.0

    for change in (subtract, item, through_a_view):
        x = mg.Tensor([1.0, 2.0, 3.0], requires_grad=True)
        for f in (lambda x: x * x, mg.sin, lambda x: x @ x, lambda x: mg.norm(x)):
            y = f(x).sum()
            change(x)
            with pytest.raises(RuntimeError, match="changed in\\s+place"):
                y.backward()
        for f in (lambda x: x + 1, mg.cumsum, mg.flip, mg.sum, lambda x: x[::-1]):  # their rules read no values of x
            y = f(x).sum()
            change(x)
            y.backward()


def test_results_cannot_be_written_to():
    x = mg.Tensor([1.0, 2.0], requires_grad=True)
    y = mg.exp(x)
    for write in (lambda: y.data.fill(0), lambda: y.numpy().fill(0), lambda: x.numpy().fill(0)):
        with pytest.raises(ValueError, match="read-only"):
            write()
    with pytest.raises(RuntimeError, match="in-place|differentiable"):
        y[0] = 1.0
    with pytest.raises(RuntimeError, match="in-place|differentiable"):
        x[0] = 1.0
    with pytest.raises(RuntimeError):
        y.data = np.zeros(2)
    with pytest.raises(RuntimeError, match="detach"):
        y.requires_grad = False


# -- errors that speak -----------------------------------------------------------------------------------------------


def test_errors_of_the_backward_pass():
    x = mg.Tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(RuntimeError, match=r"shape \(2,\).*sum"):
        (x * 2).backward()
    with pytest.raises(RuntimeError, match=r"\(3,\).*\(2,\)"):
        (x * 2).backward(np.ones(3))
    with pytest.raises(RuntimeError, match="nothing to differentiate"):
        mg.Tensor(1.0).backward()
    with mg.no_grad():
        y = (x * x).sum()
    with pytest.raises(RuntimeError, match="no_grad"):
        y.backward()
    y = (x * x).sum()
    y.backward()
    for again in (y.backward, lambda: mg.grad(y, x), (y * 2).backward):
        with pytest.raises(RuntimeError, match="freed.*retain_graph"):
            again()
    with pytest.raises(RuntimeError, match="does not require"):
        mg.grad((x * x).sum(), mg.Tensor([1.0]))


@pytest.mark.parametrize("name, call", [
    ("add", lambda: mg.Tensor(np.ones((2, 3))) + np.ones((4, 5))),
    ("equal", lambda: mg.Tensor(np.ones((2, 3))) == np.ones((4, 5))),
    ("matmul", lambda: mg.Tensor(np.ones((2, 3))) @ np.ones((4, 5))),
    ("greater", lambda: mg.Tensor(np.ones((2, 3))) > np.ones((4, 5))),
    ("where", lambda: mg.where(np.ones((2, 3)) > 0, np.ones((4, 5)), 0)),
    ("concatenate", lambda: mg.concatenate([np.ones((2, 3)), np.ones((4, 5))])),
    ("stack", lambda: mg.stack([np.ones((2, 3)), np.ones((4, 5))])),
    ("solve", lambda: mg.solve(np.ones((2, 3)), np.ones((4, 5)))),
    ("einsum", lambda: mg.einsum("ij,jk", np.ones((2, 3)), np.ones((4, 5)))),
    ("tensordot", lambda: mg.tensordot(np.ones((2, 3)), np.ones((4, 5)), 1)),
    ("broadcast_to", lambda: mg.broadcast_to(np.ones((2, 3)), (4, 5))),
    ("maximum", lambda: mg.maximum(np.ones((2, 3)), np.ones((4, 5))))])
def test_shape_errors_name_the_operation_and_the_shapes(name, call):
    with pytest.raises((ValueError, np.linalg.LinAlgError)) as caught:
        call()
    said = str(caught.value)
    assert name in said
    if name not in ("einsum", "matmul"):
        assert "2, 3" in said and ("4, 5" in said or name == "broadcast_to")


@pytest.mark.parametrize("name, call", [
    ("take", lambda x: mg.take(x, [0], 5)), ("argmax", lambda x: mg.argmax(x, 2)), ("squeeze", lambda x: mg.squeeze(x, 0)),
    ("getitem", lambda x: x[0, 0, 0]),
    ("getitem", lambda x: x[7]), ("getitem", lambda x: x[mg.Tensor([0.0])]), ("top_k", lambda x: mg.top_k(x, 9)),
    ("split", lambda x: mg.split(x, 2, 1)),
    ("transpose", lambda x: mg.transpose(x, (0,))), ("norm", lambda x: mg.norm(x, "nonsense", 0)),
    ("take_along_axis", lambda x: mg.take_along_axis(x, [0], 0)),
    ("axis", lambda x: mg.sum(x, 2)), ("duplicate", lambda x: mg.sum(x, (0, -2))), ("inv", lambda x: mg.inv(x)),
    ("einsum", lambda x: mg.einsum("ijk->i", x)),
    ("concatenate", lambda x: mg.concatenate([])), ("matmul", lambda x: x @ mg.Tensor(1.0))])
def test_other_errors_name_what_went_wrong(name, call):
    with pytest.raises((ValueError, IndexError, np.linalg.LinAlgError), match=name):
        call(mg.Tensor(np.ones((2, 3))))


@pytest.mark.parametrize("f", [mg.max, mg.min])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_gradient_of_an_extreme_that_is_not_a_number_goes_to_what_is_none(f, dtype):
    x = mg.Tensor([[1, np.nan, 3], [np.nan, 2, np.nan], [1, 2, 2]], dtype=dtype, requires_grad=True)
    f(x, 1)[:2].sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [[0, 1, 0], [0.5, 0, 0.5], [0, 0, 0]])


VECTOR_ORDERS = [None, INF, -INF, 0, 1, 2, -1, -2, 3, 0.5, -0.5]
MATRIX_ORDERS = [None, "fro", "nuc", INF, -INF, 1, -1, 2, -2]


@pytest.mark.parametrize("ord", VECTOR_ORDERS)
def test_norms_of_vectors_with_zeros_ties_and_nothing(ord):
    vectors = [[0.0, 0.0, 0.0], [0.0, 2.0, -1.0], [2.0, -2.0, 1.0], [-3.0], [0.0], [], [0.0, 0.0], [INF, 1.0], [1e100, -1e100]]
    for v in map(np.array, vectors):
        for keepdims in (False, True):
            f = lambda x: mg.norm(x, ord, 0, keepdims)
            with np.errstate(all="ignore"):
                try:
                    expected = np.linalg.norm(v, ord, 0, keepdims)
                except ValueError:  # of no elements there is no least, and in NumPy 1 no largest either
                    if not (v.size == 0 and ord == INF):
                        with pytest.raises(ValueError):
                            f(v)
                    continue
                value, slope = f(v), mg.grad(lambda x: f(x).sum())(v).numpy()
            assert value.shape == np.shape(expected)
            np.testing.assert_allclose(value.numpy(), expected, rtol=1e-12)
            assert not np.isnan(slope[np.isfinite(v)]).any()
            if not v.any() or ord not in (None, 1, 2, 3, 0.5, INF) and not v.all():
                assert not slope[v == 0].any() and (ord not in (-1, -2, -0.5) or not slope.any())
    tied = mg.grad(lambda x: mg.norm(x, ord))(np.array([2.0, -2.0])).numpy()
    assert tied[0] == -tied[1] and (ord not in (INF, -INF) or tied[0] == 0.5)


@pytest.mark.parametrize("ord", MATRIX_ORDERS)
def test_norms_of_matrices_with_zeros_ties_and_nothing(ord):
    rng = np.random.default_rng(0)
    matrices = [np.zeros((2, 3)), np.eye(2), np.ones((2, 2)), rng.normal(size=(3, 2)), rng.normal(size=(2, 3, 4)),
                np.zeros((0, 3)), np.zeros((3, 0)), np.zeros((0, 0)), np.zeros((0, 2, 2)), np.zeros((2, 0, 2))]
    for m in matrices:
        for axis, keepdims in itertools.product([(-2, -1), (-1, -2), (-1, 0)], (False, True)):
            f = lambda x: mg.norm(x, ord, axis, keepdims)
            try:
                expected = np.linalg.norm(m, ord, axis, keepdims)
            except (ValueError, IndexError):
                if m.size:
                    with pytest.raises(ValueError):
                        f(m)
                continue
            assert f(m).shape == np.shape(expected)
            np.testing.assert_allclose(f(m).numpy(), expected, rtol=1e-12, atol=1e-15)
            slope = mg.grad(lambda x: f(x).sum())(m).numpy()
            assert np.isfinite(slope).all() and (m.any() or not slope.any())
    if ord in (2, -2):  # equal singular values share the gradient
        np.testing.assert_allclose(mg.grad(lambda x: mg.norm(x, ord))(np.eye(2)).numpy(), np.eye(2) / 2, atol=1e-15)


def test_norms_of_no_such_order_or_axis():
    for call in (lambda: mg.norm(np.ones((2, 2)), axis=()), lambda: mg.norm(np.ones((2, 2)), 3, (0, 1)),
                 lambda: mg.norm(np.ones((2, 2)), 0, (0, 1)), lambda: mg.norm(np.ones(2), "fro"),
                 lambda: mg.norm(np.ones(2), "x"),
                 lambda: mg.norm(np.ones((2, 2)), 2, (0, 0)), lambda: mg.norm(np.ones((2, 2, 2)), 2)):
        with pytest.raises(ValueError):
            call()


def test_norms_take_numpy_numbers():
    x = np.array([1.0, 2.0])
    for p in (np.int64(3), np.float32(3), np.float64(3)):
        assert float(mg.norm(x, p)) == pytest.approx(9 ** (1 / 3))


def test_the_type_of_a_condition_is_not_that_of_the_result():
    small = mg.where(np.array([1, 0], np.uint8), 300, 0)
    assert small.tolist() == [300, 0] and mg.where(mg.Tensor([1.5, 0.0]), 1, 2).dtype.kind == "i"
    assert mg.where(mg.Tensor([1, 0]), mg.Tensor(np.float32([1, 2])), 0.5).dtype == np.float32
    assert mg.where([True, False], 1.0, 2.0).tolist() == [1.0, 2.0]


@pytest.mark.parametrize("condition", [[-1, 0, 2], [-0.5, -0.0, np.nan]])
def test_a_condition_of_numbers_is_true_where_they_are_not_0(condition):
    assert mg.where(condition, 1.0, 2.0).tolist() == np.where(condition, 1.0, 2.0).tolist() == [1, 2, 1]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("f", [lambda x: mg.svd(x), mg.pinv], ids=["svd", "pinv"])
@pytest.mark.parametrize("place", range(9))
def test_a_decomposition_of_numbers_that_are_not_finite_ends(f, bad, place):
    """LAPACK's does not end for some places of an infinity."""
    x = np.random.default_rng(0).normal(size=(3, 3))
    x.flat[place] = bad
    for dtype in (np.float64, np.float32):
        with pytest.raises(np.linalg.LinAlgError, match="NaN or infinity"):
            f(x.astype(dtype))


@pytest.mark.parametrize("size", [1, 5000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoids_have_their_digits_far_below_zero(dtype, size):
    """Also what is made of them: silu, and the smaller share of logaddexp; without a warning."""
    x = np.resize(np.array([-1e4, -700, -80, -30, -20, -17, 0, 17], dtype), max(size, 8))
    wanted = np.exp(np.minimum(x, 0).astype(np.longdouble)) / (1 + np.exp(-np.abs(x.astype(np.longdouble))))
    least = np.finfo(dtype).tiny  # below this float32 has fewer digits, and C gives 0
    def same(a, b):
        np.testing.assert_allclose(a.numpy().astype(float), b.astype(float), rtol=1e-5 if dtype == np.float32 else 1e-12, atol=least)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with np.errstate(all="raise"):
            y = mg.sigmoid(x)
        same(y, wanted)
        same(mg.silu(x), x * wanted)
        y = mg.Tensor(x, requires_grad=True)
        mg.logaddexp(y, np.zeros(1, dtype)).sum().backward()
        same(y.grad, wanted)


def test_bounds_of_clip_are_numbers_of_any_kind():
    x = mg.Tensor([0.0, 0.5, 1.0, 2.0], requires_grad=True)
    for low, high in ((Fraction(1, 2), Decimal(1)), (np.float16(0.5), np.True_), (0.5, True)):
        np.testing.assert_array_equal(mg.clip(x, low, high).numpy(), [0.5, 0.5, 1, 1])
        np.testing.assert_array_equal(mg.grad(mg.clip(x, low, high).sum(), x).numpy(), [0, 1, 1, 0])  # at bounds that are numbers 1


def test_lengths_of_weight_norm_add_no_axis():
    v = np.ones((3, 4))
    for g in (2.0, np.full(1, 2.0), np.full((1, 1), 2.0), np.full((3, 1), 2.0)):
        np.testing.assert_array_equal(mg.weight_norm(v, g).numpy(), v)
    for g in (np.ones((1, 1, 1)), np.ones((1, 3, 1)), np.ones(3), np.ones(4), np.ones((1, 4)), np.ones(0)):
        with pytest.raises(ValueError, match=r"^weight_norm: g of shape \(3, 1\) wanted"):
            mg.weight_norm(v, g)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "uint64"])
def test_truth_values_of_numpy_stand_beside_whole_numbers(dtype):
    x = mg.Tensor(np.array([2, 3], dtype))
    for operation in (mg.add, mg.multiply, mg.power, mg.maximum):
        assert operation(x, np.True_).tolist() == getattr(np, operation.__name__)(x.numpy(), np.array(1, dtype)).tolist()


# -- small dtypes ------------------------------------------------------------------------------------------------------

SMALL = ["bool", "uint8", "int8", "int32", "float16", "float32"]


@pytest.mark.parametrize("subscripts", ["nd,n->n", "n,nd->n", "nd,nd->", "ii,j->j", "nd,n", "nd->n"])
@pytest.mark.parametrize("of", SMALL)
@pytest.mark.parametrize("beside", [*SMALL, "int64", "float64"])
def test_einsum_sums_in_the_dtype_of_all_operands(subscripts, of, beside):
    rng = np.random.default_rng(0)
    matrix = (rng.integers(0, 2, (3, 3)) * (1 if of == "bool" else 100)).astype(of)
    vector = rng.integers(0, 2, 3).astype(beside)
    operands = [vector if letters == "n" or letters == "j" else matrix for letters in subscripts.partition("->")[0].split(",")]
    found, wanted = mg.einsum(subscripts, *operands), np.einsum(subscripts, *operands)
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found.numpy(), wanted)


OF_NUMBERS = {
    "mse_loss": mg.mse_loss, "l1_loss": mg.l1_loss, "huber_loss": mg.huber_loss, "smooth_l1_loss": mg.smooth_l1_loss,
    "triplet": lambda a, b: mg.triplet_margin_loss(a, b, b[::-1]), "cosine": mg.cosine_similarity, "cdist": mg.cdist,
    "cdist 1": lambda a, b: mg.cdist(a, b, 1.0), "cosine embedding": lambda a, b: mg.cosine_embedding_loss(a, b, np.array([1, -1])),
    "l2_normalize": lambda a, b: mg.l2_normalize(a), "normalize": lambda a, b: mg.nn.functional.normalize(mg.Tensor(a), 3.0),
    "pairwise": lambda a, b: mg.nn.functional.pairwise_distance(mg.Tensor(a), mg.Tensor(b)), "norm": lambda a, b: mg.norm(a - 1 * b, 3, 1),
    "margin": lambda a, b: mg.margin_ranking_loss(a[:, 0], b[:, 0], np.array([1, -1])),
    "gaussian": lambda a, b: mg.gaussian_nll_loss(a, b, 2.0), "poisson": lambda a, b: mg.poisson_nll_loss(a % 5, b),
    "nll": lambda a, b: mg.nll_loss(a, np.array([2, 0])), "weighted nll": lambda a, b: mg.nll_loss(a, np.array([2, 0]), b[0]),
    "weight_norm": lambda a, b: mg.weight_norm(a, b[:, :1]), "trapezoid": lambda a, b: mg.trapezoid(a, b)}


@pytest.mark.parametrize("name", OF_NUMBERS)
@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "bool"])
def test_distances_and_losses_of_small_whole_numbers_do_not_wrap(name, dtype):
    a, b = (np.array(rows).astype(dtype) for rows in ([[0, 10, 100], [120, 0, 3]], [[1, 110, 3], [0, 1, 90]]))
    if name == "norm":
        a, b = a.astype(np.int64), b.astype(np.int64)
    wanted = OF_NUMBERS[name](a.astype(np.float64), b.astype(np.float64))
    np.testing.assert_allclose(OF_NUMBERS[name](a, b).numpy(), wanted.numpy(), rtol=1e-12)


COMPARED = [mg.equal, mg.not_equal, mg.less, mg.less_equal, mg.greater, mg.greater_equal, mg.floor_divide]


FLOATING = ["float16", "float32", "float64", pytest.param("bfloat16", marks=wants_bfloat16)]


@pytest.mark.parametrize("dtype", FLOATING)
@pytest.mark.parametrize("number", [0.1, np.float64(0.1), np.float32(0.1), 3, np.int64(3), True, np.bool_(True)], ids=repr)
@pytest.mark.parametrize("of_two", COMPARED, ids=lambda f: f.__name__)
def test_a_number_beside_floating_point_numbers_takes_their_dtype_in_comparisons_too(of_two, number, dtype):
    x, beside = (mg.Tensor(np.array(v, np.float64)).astype(dtype) for v in ([float(number), 0, 7], float(number)))
    with np.errstate(all="ignore"):
        found, wanted = of_two(x, number), of_two(x, beside)
    assert found.dtype == wanted.dtype and found.astype("float64").tolist() == wanted.astype("float64").tolist()
    assert number in x and mg.grad(lambda x: mg.clip(x, -1, number).sum())(x)[0].item() == 1


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64"])
@pytest.mark.parametrize("of_two", COMPARED, ids=lambda f: f.__name__)
def test_a_whole_number_beside_others_takes_their_dtype_in_comparisons_too(of_two, dtype):
    x = mg.Tensor([3, 0, 7], dtype=dtype)
    for number in (3, np.int64(3), np.uint8(3), np.int8(3)):
        found, wanted = of_two(x, number), of_two(x, mg.Tensor(3, dtype=dtype))
        assert found.dtype == wanted.dtype and found.tolist() == wanted.tolist()


@pytest.mark.parametrize("dtype", [*FLOATING, "bool", "int64"])
def test_numbers_that_a_dtype_does_not_hold_are_compared_as_they_are(dtype):
    x = mg.Tensor([0, 1]).astype(dtype)
    for large in (1e300, np.float64(1e300), INF, 2 ** 62):
        with np.errstate(over="ignore"):
            assert (x < large).tolist() == [True, True] == (x > -large).tolist() and not (x == large).any()
    assert (x == np.nan).tolist() == [False, False] and (x != np.float64(np.nan)).tolist() == [True, True]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "bool", "float16", "float32", "int64"])
@pytest.mark.parametrize("shape, settings_", [((0,), {}), ((2,), {"where": [True, False]}), ((2, 0), {"axis": 1}), ((3,), {"initial": 2})])
@pytest.mark.parametrize("of_many", ["prod", "sum"])
def test_what_is_multiplied_or_summed_has_the_dtype_that_was_asked_for(of_many, shape, settings_, dtype):
    x = np.ones(shape)
    assert getattr(mg, of_many)(x, dtype=dtype, **settings_).dtype == getattr(np, of_many)(x, dtype=dtype, **settings_).dtype == dtype


# -- corners -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("x, y", [(2.0, 0.0), (0.5, 0.0), (3.0, 1.0), (2.0, -1.0), (7.0, 0.5), (1e-3, 0.0)])
def test_second_derivatives_of_a_power_are_symmetric(x, y):
    log = math.log(x)
    mixed = x ** (y - 1) * (1 + y * log)
    wanted = [[y * (y - 1) * x ** (y - 2), mixed], [mixed, x ** y * log ** 2]]
    np.testing.assert_allclose(mg.hessian(lambda v: v[0] ** v[1])(np.array([x, y])).numpy(), wanted, atol=1e-12)


@pytest.mark.parametrize("x", [0.0, -0.0, 1e-320, 5e-324])
def test_the_slope_of_a_power_of_0_is_finite_where_its_factor_is_not(x):
    assert mg.grad(lambda v: (v ** mg.Tensor([0.0])).sum())(np.array([x])).tolist() == [0]


@pytest.mark.parametrize("f", [lambda x: mg.max(x, initial=0.0), lambda x: mg.min(x, initial=1.0), lambda x: mg.norm(x, INF),
                               lambda x: mg.max(x.reshape(0, 3), 1, initial=2.0).sum(), lambda x: mg.max(x.reshape(3, 0), 1, initial=2.0).sum(),
                               lambda x: mg.norm(x.reshape(0, 3), 1), lambda x: mg.norm(x.reshape(3, 0), INF), mg.sum, mg.prod])
def test_what_is_made_of_no_elements_stays_on_their_graph(f):
    x = mg.Tensor(np.ones(0), requires_grad=True)
    f(x).backward()
    assert x.grad.shape == (0,)


@pytest.mark.parametrize("ord", [2, -2, "nuc"])
def test_the_norm_of_a_matrix_with_nan_is_nan_and_of_those_beside_it_is_not(ord):
    x = np.stack([np.eye(2), [[1, np.nan], [0, 1]], [[INF, 0], [0, 1]], np.diag([3.0, 2.0])])
    found = mg.norm(x, ord, axis=(1, 2)).numpy()
    np.testing.assert_allclose(found, [np.linalg.norm(x[0], ord), np.nan, np.nan, np.linalg.norm(x[3], ord)], rtol=1e-12)
    with pytest.raises(np.linalg.LinAlgError, match="^svdvals: the matrix holds NaN or infinity"):
        mg.svdvals(x)


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">f2", np.longdouble])
@pytest.mark.parametrize("f", [mg.gelu, mg.erf, mg.silu, mg.mish, mg.softplus, mg.sigmoid, mg.tanh, mg.elu, mg.selu, mg.softmax, mg.logsumexp])
def test_other_byte_orders_and_long_doubles_are_as_exact(f, dtype):
    x = np.linspace(-3, 3, 7).astype(dtype)
    native = x.astype(np.float64 if np.dtype(dtype).itemsize >= 8 else x.dtype.newbyteorder("="))
    rtol = 1e-14 if np.dtype(dtype).itemsize >= 8 else 1e-6 if np.dtype(dtype).itemsize == 4 else 2e-3
    np.testing.assert_allclose(*[f(mg.Tensor(v)).numpy().astype(np.float64) for v in (x, native)], rtol=rtol, atol=rtol)
    gradients = [mg.grad(lambda x: f(x).sum())(mg.Tensor(v)).numpy().astype(np.float64) for v in (x, native)]
    np.testing.assert_allclose(*gradients, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("settings_", [dict(ceil_mode=True), dict(padding=1, return_indices=True), dict(padding=1, dilation=2), dict(padding=1)])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", np.longdouble])
def test_no_infinity_is_seen_where_images_and_their_largest_elements_are_finite(settings_, dtype):
    x = mg.Tensor(np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(dtype), requires_grad=True)
    with mg.detect_anomaly():
        y = mg.max_pool2d(x, 3, 2, **settings_)
        (y[0] if isinstance(y, tuple) else y).sum().backward()
    low = mg.Tensor(np.full((1, 1, 4, 4), -INF))
    y = mg.max_pool2d(low, 3, 2, **settings_)
    assert ((y[0] if isinstance(y, tuple) else y).numpy() == -INF).all()


def test_a_divergence_from_what_is_no_probability_is_nan():
    found = mg.nn.functional.kl_div(mg.Tensor([-1.0, -2.0, -1.0]), mg.Tensor([-0.5, 0.5, 0.0]), reduction="none").tolist()
    assert math.isnan(found[0]) and found[1:] == [0.5 * math.log(0.5) + 1, 0]


# -- what is made of nothing -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("make", [
    lambda: mg.arange(-2, 2, dtype="uint8"), lambda: mg.arange(0, 300, dtype="uint8"),
    lambda: mg.linspace(0, 1000, 3, dtype="int8"), lambda: mg.linspace(-1, 1, 3, dtype="uint16"),
    lambda: mg.logspace(0, 30, 3, dtype="int64"), lambda: mg.full(2, 300, dtype="uint8"), lambda: mg.full(2, -1, dtype="uint8")])
def test_a_dtype_that_does_not_hold_the_numbers_is_refused(make):
    with pytest.raises(OverflowError, match="^(arange|linspace|logspace|full): "):
        make()


def test_for_whole_numbers_others_are_rounded_down():
    assert mg.arange(-1.5, 2, dtype="int64").tolist() == mg.linspace(-1.5, 1.5, 4, dtype="int32").tolist() == [-2, -1, 0, 1]
    assert mg.logspace(0, 1, 3, dtype="uint8").tolist() == [1, 3, 10] and mg.arange(2, dtype=bool).tolist() == [False, True]
    assert mg.arange(0, dtype="uint8").shape == (0,)


@pytest.mark.parametrize("name, make", [
    ("arange", lambda: mg.arange("a")), ("arange", lambda: mg.arange([1, 2])), ("arange", lambda: mg.arange(0, INF)),
    ("linspace", lambda: mg.linspace("a", 1, 3)), ("linspace", lambda: mg.linspace(None, 1)), ("logspace", lambda: mg.logspace(0, None)),
    ("linspace", lambda: mg.linspace([0, 1], [1, 2, 3], 2)), ("zeros", lambda: mg.zeros(10**12, 10**9)), ("rand", lambda: mg.rand(10**12, 10**9)),
    ("full", lambda: mg.full(3, 1j)), ("full", lambda: mg.full(2, "a")), ("full", lambda: mg.full(2, None)), ("zeros", lambda: mg.zeros(2, dtype="foo")),
    ("random.seed", lambda: mg.random.seed(-1)), ("random.seed", lambda: mg.random.seed(1.5)), ("random.set_state", lambda: mg.random.set_state({})),
    ("pad", lambda: mg.pad(1.0, "x")), ("pad", lambda: mg.pad(1.0, -1)), ("pad", lambda: mg.pad(1.0, 1.5)),
    ("max_pool1d", lambda: mg.max_pool1d(mg.ones(2, 2, 2), 5)), ("avg_pool1d", lambda: mg.avg_pool1d(mg.ones(1, 2, 0), 1)),
    ("conv1d", lambda: mg.conv1d(mg.ones(1, 2, 3), mg.ones(2, 2, 5))), ("adaptive_max_pool1d", lambda: mg.adaptive_max_pool1d(mg.ones(1, 2, 0), 1)),
    ("adaptive_avg_pool1d", lambda: mg.adaptive_avg_pool1d(mg.ones(1, 2, 0), 1)), ("svdvals", lambda: mg.svdvals([[np.nan]]))])
def test_errors_name_the_function_that_was_called(name, make):
    with pytest.raises((TypeError, ValueError), match=f"^{name}[:(]"):
        make()
