"""Batch normalisation, pooling and their fusion on the CPU against dense formulas and loops."""
import contextlib
import math

import numpy as np
import pytest
from checks import definitions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad.backend.cpu import native, norm_pool, threads
from minigrad.backend.cpu.norm_pool import batch_norm, batch_norm_backward, norm_relu_pool, norm_relu_pool_backward
from minigrad.backend.cpu.pool import avg_pool2d, avg_pool2d_backward, max_pool2d, max_pool2d_backward
from minigrad.ops import pool as pool_ops

EPS = 1e-5
FIXTURE = [HealthCheck.function_scoped_fixture]  # block_bytes below is the same for all examples of a test


def layouts(a, kind):
    """The same values in different memory."""
    if kind == "channels last" and a.ndim == 4:
        return np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    if kind == "negative strides":
        return np.ascontiguousarray(np.flip(a))[(slice(None, None, -1),) * a.ndim]
    if kind == "strided":
        return np.repeat(a, 2, -1)[..., ::2]
    return np.ascontiguousarray(a)


LAYOUTS = ["channels first", "channels last", "negative strides", "strided"]


def dense_norm(x, gamma, beta):
    axes = tuple(i for i in range(x.ndim) if i != 1)
    on_channels = lambda v: v.reshape(1, -1, *[1] * (x.ndim - 2))  # noqa: E731
    mean, var = x.mean(axes), x.var(axes)
    xhat = (x - on_channels(mean)) / np.sqrt(on_channels(var) + EPS)
    return on_channels(gamma) * xhat + on_channels(beta), mean, var, xhat


def dense_norm_backward(gy, x, gamma, var, xhat):
    axes = tuple(i for i in range(x.ndim) if i != 1)
    on_channels = lambda v: v.reshape(1, -1, *[1] * (x.ndim - 2))  # noqa: E731
    n = x.size // x.shape[1]
    dbeta, dgamma = gy.sum(axes), (gy * xhat).sum(axes)
    dx = on_channels(gamma / np.sqrt(var + EPS)) * (gy - on_channels(dbeta) / n - xhat * on_channels(dgamma) / n)
    return dx, dgamma, dbeta


def windows_of(x, kernel, stride, padding, fill):
    """For each window (i, j) its values, (N, C, kh * kw)."""
    (kh, kw), (sh, sw), (ph, pw) = kernel, stride, padding
    xp = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)), constant_values=fill)
    ho, wo = (xp.shape[2] - kh) // sh + 1, (xp.shape[3] - kw) // sw + 1
    return (ho, wo), lambda i, j: xp[:, :, i * sh:i * sh + kh, j * sw:j * sw + kw].reshape(*x.shape[:2], kh * kw)


def dense_max_pool(x, kernel, stride, padding=(0, 0)):
    """Values and winning taps: of equals the first that is not padding; NaN is the largest."""
    (ho, wo), window = windows_of(x, kernel, stride, padding, -np.inf)
    _, inside = windows_of(np.ones_like(x), kernel, stride, padding, 0)
    winner = np.zeros((*x.shape[:2], ho, wo), int)
    y = np.zeros(winner.shape, x.dtype)
    for i in range(ho):
        for j in range(wo):
            y[:, :, i, j] = window(i, j).max(2)
            largest = np.isnan(window(i, j)) | (window(i, j) == y[:, :, i, j, None])
            winner[:, :, i, j] = (largest & (inside(i, j) == 1)).argmax(2)
    return y, winner


def dense_max_pool_backward(gy, winner, x_shape, kernel, stride, padding=(0, 0)):
    (_, kw), (sh, sw), (ph, pw) = kernel, stride, padding
    gx = np.zeros((*x_shape[:2], x_shape[2] + 2 * ph, x_shape[3] + 2 * pw))
    for (n, c, i, j), k in np.ndenumerate(winner):
        gx[n, c, i * sh + k // kw, j * sw + k % kw] += gy[n, c, i, j]
    return gx[:, :, ph:ph + x_shape[2], pw:pw + x_shape[3]]


@st.composite
def images(draw, least=1, ties=True):
    """Images with few distinct values (many ties) or many, and scales of both signs, some zero."""
    shape = (draw(st.integers(1, 4)), draw(st.sampled_from([1, 3, 8])),
             draw(st.integers(least, 9)), draw(st.integers(least, 9)))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    x = rng.standard_normal(shape)
    if ties and draw(st.booleans()):
        x = np.round(x)
    gamma = rng.standard_normal(shape[1])
    gamma = draw(st.sampled_from([gamma, np.abs(gamma), -np.abs(gamma), np.round(gamma), np.zeros(shape[1])]))
    return x, gamma, rng.standard_normal(shape[1]), rng


@pytest.fixture(autouse=True, params=["large blocks", "small blocks"])
def block_bytes(request, monkeypatch):
    if request.param == "small blocks":
        monkeypatch.setattr(norm_pool, "BLOCK_BYTES", 600)


def tolerance(dtype, scale=1.0):
    return dict(rtol=0, atol={np.float64: 1e-10, np.float32: 1e-4}[dtype] * scale)


@settings(deadline=None, suppress_health_check=FIXTURE, max_examples=60)
@given(images(), st.sampled_from([np.float64, np.float32]), st.sampled_from(LAYOUTS), st.booleans())
def test_batch_norm(problem, dtype, layout, features):
    x, gamma, beta, rng = problem
    if features:
        x = x.transpose(0, 2, 3, 1).reshape(-1, x.shape[1])
    x = x.astype(dtype)
    kept = np.float64 if dtype == np.float64 else np.float32
    xl, gamma, beta = layouts(x, layout), gamma.astype(kept), beta.astype(kept)
    y, mean, var = batch_norm(xl, gamma, beta, EPS)
    want, want_mean, want_var, xhat = dense_norm(x.astype(float), gamma.astype(float), beta.astype(float))
    # A channel of few or equal pixels divides by sqrt(eps), which magnifies rounding.
    scale = 1 + 1 / np.sqrt(want_var.min() + EPS)
    np.testing.assert_allclose(mean, want_mean, **tolerance(kept))
    np.testing.assert_allclose(var, want_var, **tolerance(kept))
    np.testing.assert_allclose(y, want, **tolerance(dtype, scale))
    gy = rng.standard_normal(x.shape).astype(dtype)
    got = batch_norm_backward(layouts(gy, layout), xl, gamma, mean, 1 / np.sqrt(var + EPS))
    for a, b in zip(got, dense_norm_backward(gy.astype(float), x.astype(float), gamma, want_var, xhat)):
        np.testing.assert_allclose(a, b, **tolerance(dtype, 4 * scale * (1 + np.abs(b).max())))
    assert y.dtype == dtype and mean.dtype == kept and got[0].dtype == dtype and y.shape == got[0].shape == x.shape


@settings(deadline=None, suppress_health_check=FIXTURE, max_examples=100)
@given(images(least=2), st.sampled_from([2, 3]), st.sampled_from([np.float64, np.float32]), st.sampled_from(LAYOUTS))
def test_norm_relu_pool_is_the_composition(problem, size, dtype, layout):
    x, gamma, beta, rng = problem
    if min(x.shape[2:]) < size:
        size = 2
    # Values on a grid: distinct pixels stay distinct after normalisation, so both ways see the same ties.
    x = (np.round(x * 8) / 8).astype(dtype)
    gamma, beta = gamma.astype(dtype), beta.astype(dtype)
    kernel = (size, size)
    y, pooled, winner, mean, var = norm_relu_pool(layouts(x, layout), gamma, beta, EPS, size)
    normed, want_mean, want_var, xhat = dense_norm(x.astype(float), gamma.astype(float), beta.astype(float))
    sign = np.sign(gamma)[:, None, None]
    _, want_winner = dense_max_pool(x * sign, kernel, kernel)  # exact, unlike the comparison of normalised values
    want = np.maximum(dense_max_pool(normed, kernel, kernel)[0], 0)
    scale = 1 + 1 / np.sqrt(want_var.min() + EPS)
    np.testing.assert_array_equal(winner, want_winner)
    np.testing.assert_allclose(y, want, **tolerance(dtype, scale))
    np.testing.assert_allclose(mean, want_mean, **tolerance(dtype))
    np.testing.assert_allclose(var, want_var, **tolerance(dtype))
    assert y.dtype == dtype and winner.dtype == np.uint8

    gy = rng.standard_normal(y.shape).astype(dtype)
    got = norm_relu_pool_backward(layouts(gy, layout), layouts(x, layout), y, pooled, winner, gamma, mean,
                                  1 / np.sqrt(var + EPS), size)
    behind_relu = dense_max_pool_backward(gy * (y > 0), want_winner, x.shape, kernel, kernel)
    for a, b in zip(got, dense_norm_backward(behind_relu, x.astype(float), gamma, want_var, xhat)):
        np.testing.assert_allclose(a, b, **tolerance(dtype, 4 * scale * (1 + np.abs(b).max())))
        assert a.dtype == dtype


def test_gradients_equal_central_differences():
    rng = np.random.default_rng(0)
    x, gamma, beta = rng.standard_normal((3, 4, 5, 7)), np.array([1.5, -0.7, 0.3, -2.0]), rng.standard_normal(4)
    weight = rng.standard_normal((3, 4, 2, 3))

    def loss(x, gamma, beta):
        return (norm_relu_pool(x, gamma, beta, EPS)[0] * weight).sum()

    y, pooled, winner, mean, var = norm_relu_pool(x, gamma, beta, EPS)
    gradients = norm_relu_pool_backward(weight, x, y, pooled, winner, gamma, mean, 1 / np.sqrt(var + EPS))
    for k, (value, gradient) in enumerate(zip((x, gamma, beta), gradients)):
        for index in np.ndindex(value.shape):
            moved = [[x, gamma, beta], [x, gamma, beta]]
            for args, step in zip(moved, (1e-6, -1e-6)):
                args[k] = value.copy()
                args[k][index] += step
            np.testing.assert_allclose(gradient[index], (loss(*moved[0]) - loss(*moved[1])) / 2e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(8, 4, 20, 20), (2000, 4)])
def test_statistics_survive_a_large_mean(shape):
    """Mean 10,000 and deviation 0.1: E[x^2] - E[x]^2 in float32 has no correct digit here."""
    x = (1e4 + 0.1 * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)
    axes = tuple(i for i in range(x.ndim) if i != 1)
    _, mean, var = batch_norm(x, np.ones(4, np.float32), np.zeros(4, np.float32))
    np.testing.assert_allclose(mean, x.astype(float).mean(axes), rtol=1e-7)
    np.testing.assert_allclose(var, x.astype(float).var(axes), rtol=1e-5)


def test_statistics_survive_blocks_that_differ():
    """The first image sits at 10,000, the others at 0: blocks must be merged, not measured from a common centre."""
    x = np.random.default_rng(0).standard_normal((64, 2, 8, 8)).astype(np.float32)
    x[0] += 1e4
    _, mean, var = batch_norm(x, np.ones(2, np.float32), np.zeros(2, np.float32))
    np.testing.assert_allclose(mean, x.astype(float).mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(var, x.astype(float).var((0, 2, 3)), rtol=1e-5)


def test_constant_channels():
    x = np.full((4, 3, 6, 6), 7.0, np.float32)
    gamma, beta = np.array([1, -1, 0], np.float32), np.array([1, 2, -3], np.float32)
    y, mean, var = batch_norm(x, gamma, beta)
    assert (mean == 7).all() and (var == 0).all()
    np.testing.assert_allclose(y, np.broadcast_to(beta[:, None, None], x.shape), atol=1e-3)
    y, _, winner, _, _ = norm_relu_pool(x, gamma, beta)
    np.testing.assert_allclose(y[0, :, 0, 0], [1, 2, 0], atol=1e-3)
    assert not winner.any()


@pytest.mark.parametrize("shape", [(2, 3, 1, 1), (2, 3, 1, 5)])
def test_images_smaller_than_the_window_give_no_output(shape):
    x = np.random.default_rng(0).standard_normal(shape)
    y, pooled, winner, mean, var = norm_relu_pool(x, np.ones(3), np.zeros(3))
    assert y.shape == (2, 3, 0, shape[3] // 2)
    dx, dgamma, dbeta = norm_relu_pool_backward(y, x, y, pooled, winner, np.ones(3), mean, 1 / np.sqrt(var + EPS))
    assert dx.shape == shape and not dx.any() and not dgamma.any() and not dbeta.any()


def test_one_and_two_threads_agree():
    rng = np.random.default_rng(0)
    x, gamma = rng.standard_normal((40, 16, 14, 14)).astype(np.float32), np.ones(16, np.float32)
    before, results = threads.get_num_threads(), []
    for number in (1, 2):
        threads.set_num_threads(number)
        y, pooled, winner, mean, var = norm_relu_pool(x, gamma, gamma)
        results.append((y, mean, var, *norm_relu_pool_backward(y, x, y, pooled, winner, gamma, mean, 1 / np.sqrt(var))))
    threads.set_num_threads(before)
    for one, two in zip(*results):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-5)


@st.composite
def pooling(draw, specials=()):
    pair = lambda lo, hi: (draw(st.integers(lo, hi)), draw(st.integers(lo, hi)))  # noqa: E731
    kernel, stride = pair(1, 4), pair(1, 4)
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    size = [max(1, k - 2 * p) + draw(st.integers(0, 7)) for k, p in zip(kernel, padding)]
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    x = rng.standard_normal((draw(st.integers(0, 3)), draw(st.sampled_from([1, 3, 35])), *size))
    for value in draw(st.lists(st.sampled_from(specials))) if specials else ():
        x[rng.random(x.shape) < 0.2] = value
    return (np.round(x) if draw(st.booleans()) else x), kernel, stride, padding, rng


@settings(deadline=None, suppress_health_check=FIXTURE, max_examples=100)
@given(pooling(specials=(np.nan, np.inf, -np.inf)), st.sampled_from([np.float64, np.float32]), st.sampled_from(LAYOUTS))
def test_max_pool(problem, dtype, layout):
    x, kernel, stride, padding, rng = problem
    x = x.astype(dtype)
    want, want_winner = dense_max_pool(x, kernel, stride, padding)
    y, winner = max_pool2d(layouts(x, layout), kernel, stride, padding)
    np.testing.assert_array_equal(y, want)
    np.testing.assert_array_equal(winner, want_winner)
    assert y.dtype == dtype and winner.dtype == np.uint8
    gy = np.round(rng.standard_normal(y.shape) * 8).astype(dtype)  # integers: sums are exact
    got = max_pool2d_backward(layouts(gy, layout), winner, x.shape, kernel, stride, padding)
    np.testing.assert_array_equal(got, dense_max_pool_backward(gy, want_winner, x.shape, kernel, stride, padding))


def along_definition(x, operation, dtype, layout, atol=0, **options):
    """Value and gradient of a Fused operation by its path and by its definition."""
    results = []
    for f in (operation, operation.definition):
        t = mg.Tensor(layouts(x.astype(dtype), layout), requires_grad=True)
        y = f(t, **options)
        y.backward(layouts(np.round(8 * np.cos(np.arange(y.size))).reshape(y.shape).astype(dtype), layout))
        assert y.dtype == t.grad.dtype == dtype
        results.append((y.numpy(), t.grad.numpy()))
    for got, want in zip(*results):
        np.testing.assert_allclose(got, want, rtol=atol, atol=atol)


SPECIAL = [(), (np.nan, -np.inf, np.inf)]


@pytest.mark.parametrize("specials", SPECIAL, ids=["numbers", "specials"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_max_pool_of_sequences_and_with_dilation(layout, dtype, specials):
    rng = np.random.default_rng(0)
    for shape, kernel, stride, padding, dilation in [
            ((2, 3, 1, 70), (1, 2), (1, 2), (0, 0), (1, 1)), ((2, 35, 1, 41), (1, 3), (1, 1), (0, 1), (1, 1)),
            ((1, 2, 1, 100), (1, 3), (1, 3), (0, 1), (1, 2)), ((3, 2, 1, 7), (1, 4), (1, 2), (0, 2), (1, 1)),
            ((2, 2, 1, 90), (1, 4), (1, 2), (0, 2), (1, 3)), ((2, 35, 9, 8), (3, 2), (1, 2), (1, 1), (2, 3)),
            ((1, 3, 2, 5), (2, 2), (1, 1), (1, 0), (2, 1)),
            ((2, 15, 20, 20), (16, 16), (2, 3), (8, 8), (1, 1)), ((2, 3, 2, 9), (2, 3), (1, 1), (1, 1), (3, 1))]:
        x = np.round(2 * rng.standard_normal(shape))
        for value in specials:
            x[rng.random(shape) < 0.3] = value
        along_definition(x, pool_ops._fused_max_pool, dtype, layout, kernel=kernel, stride=stride, padding=padding,
                         dilation=dilation)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_adaptive_pooling(layout, dtype):
    rng = np.random.default_rng(0)
    for shape, size in [((2, 35, 9, 8), (4, 3)), ((1, 3, 5, 7), (7, 2)), ((2, 16, 40, 40), (3, 3)), ((1, 2, 1, 50), (1, 7))]:
        x = np.round(4 * rng.standard_normal(shape))
        along_definition(x, pool_ops._fused_adaptive_avg_pool, dtype, layout, atol=2e-6, size=size)
        x[rng.random(shape) < 0.1], x[:, 0] = np.nan, -np.inf
        along_definition(x, pool_ops._fused_adaptive_max_pool, dtype, layout, size=size)
        arrays = layouts(x.astype(dtype), layout)
        places = mg.adaptive_max_pool2d(arrays, size, True)[1].numpy()
        with definitions():
            np.testing.assert_array_equal(places, mg.adaptive_max_pool2d(arrays, size, True)[1].numpy())


@settings(deadline=None, suppress_health_check=FIXTURE, max_examples=60)
@given(pooling(), st.sampled_from(LAYOUTS))
def test_avg_pool_of_float32(problem, layout):
    x, kernel, stride, padding, _ = problem
    along_definition(x, pool_ops._fused_avg_pool, np.float32, layout, atol=1e-5, kernel=kernel, stride=stride, padding=padding)


@settings(deadline=None, suppress_health_check=FIXTURE, max_examples=60)
@given(pooling(), st.sampled_from(LAYOUTS))
def test_avg_pool(problem, layout):
    x, kernel, stride, padding, rng = problem
    (ho, wo), window = windows_of(x, kernel, stride, padding, 0)
    y = avg_pool2d(layouts(x, layout), kernel, stride, padding)
    for i in range(ho):
        for j in range(wo):
            np.testing.assert_allclose(y[:, :, i, j], window(i, j).mean(2), atol=1e-12)
    gy, dx = rng.standard_normal(y.shape), rng.standard_normal(x.shape)
    gx = avg_pool2d_backward(layouts(gy, layout), x.shape, kernel, stride, padding)
    # Pooling is linear: its gradient is the adjoint, <gy, pool(dx)> = <gx, dx>.
    np.testing.assert_allclose((gy * avg_pool2d(dx, kernel, stride, padding)).sum(), (gx * dx).sum(), atol=1e-10)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kernel", [(2, 3), (8, 9), (16, 1), (1, 72), (16, 72)])
def test_means_of_tiles(kernel, layout, dtype):
    x, size = np.random.default_rng(0).standard_normal((2, 3, 16, 72)).astype(dtype), (16 // kernel[0], 72 // kernel[1])
    y = avg_pool2d(layouts(x, layout), kernel, kernel)
    np.testing.assert_allclose(y, x.reshape(2, 3, size[0], kernel[0], size[1], kernel[1]).mean((3, 5)), atol=1e-6)
    gx = avg_pool2d_backward(layouts(y, layout), x.shape, kernel, kernel)
    np.testing.assert_allclose(gx, y.repeat(kernel[0], 2).repeat(kernel[1], 3) / (kernel[0] * kernel[1]), atol=1e-7)
    assert y.dtype == gx.dtype == dtype


def test_max_pool_of_integers_and_of_large_windows():
    x = np.arange(-400, 0).reshape(1, 1, 20, 20)
    y, winner = max_pool2d(x, (20, 20), (1, 1))
    assert y.item() == -1 and winner.item() == 399 and winner.dtype == np.uint16
    y, _ = max_pool2d(x, (3, 3), (1, 1), (1, 1))
    assert y[0, 0, 0, 0] == -379


@pytest.mark.parametrize("function", [max_pool2d, avg_pool2d])
def test_pooling_errors(function):
    with pytest.raises(ValueError, match=r"pool2d: the window \(4, 4\) is larger than the images \(3, 9\)"):
        function(np.zeros((1, 1, 3, 9)), (4, 4), (1, 1))
    with pytest.raises(ValueError, match="more than half"):
        function(np.zeros((1, 1, 9, 9)), (2, 2), (1, 1), (2, 0))


def test_batch_norm_rejects_integers():
    with pytest.raises(TypeError, match="batch_norm: expected a floating-point array, got int64"):
        batch_norm(np.zeros((2, 3), np.int64), np.ones(3), np.zeros(3))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(2, 0), (2, 0, 4, 4), (0, 0), (0, 3), (0, 3, 4), (1, 3, 1), (0, 0, 4, 4), (0, 3, 4, 4),
                                   (2, 3, 0, 4)], ids=str)
def test_empty_batches_and_no_channels_are_one_by_all_paths(shape, dtype):
    """No channels are an empty result, no values of a channel an error."""
    x = mg.Tensor(np.zeros(shape, dtype), requires_grad=True)
    count = math.prod(shape[:1] + shape[2:])
    few, why = count < 2, f"more than one value per channel, got {count} for each of {shape[1]}$"
    for context in (contextlib.nullcontext(), native.using(False), definitions()):
        with context, pytest.raises(ValueError, match=why) if few else contextlib.nullcontext():
            y = mg.batch_norm(x, None, None, training=True)
            y.sum().backward()
            assert y.shape == x.grad.shape == shape


def test_batch_norm_rejects_an_empty_batch():
    with pytest.raises(ValueError, match="empty batch"):
        batch_norm(np.zeros((0, 3)), np.ones(3), np.zeros(3))
