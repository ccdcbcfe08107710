"""Activations with and without bias, against PyTorch, and column sums."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernelchecks import HALF, close, item, lengths, normal, quick, seeds
from minigrad.backend import cuda
from minigrad.backend.cuda import launch
from minigrad.backend.cuda.elementwise import ACTIVATIONS
from scipy.special import erf, expit

DEFINITIONS = {
    "relu": lambda x: np.maximum(x, 0), "limited_relu": lambda x: np.clip(x, 0, 0.2), "gelu": lambda x: x / 2 * (1 + erf(x / np.sqrt(2))),
    "gelu_tanh": lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x * expit(x), "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
    "softplus": lambda x: np.logaddexp(x, 0), "softsign": lambda x: x / (1 + np.abs(x))}


@pytest.mark.parametrize("name", ACTIVATIONS)
@quick
@given(seeds, item, st.integers(0, 5) | st.just(40), lengths, st.booleans())
def test_activation(run, name, seed, dtype, rows, columns, with_bias):
    f = DEFINITIONS[name]
    x, g = 3 * normal(seed, dtype, rows, columns), normal(seed + 1, dtype, rows, columns)
    bias = normal(seed + 2, dtype, columns) if with_bias else None
    z = x.astype(np.float64) + (bias if with_bias else 0)
    close(run(cuda.activation, name, x, bias, setting=0.2), f(z), scale=5)
    dx, dbias = run(cuda.activation_backward, name, g, x, bias, setting=0.2)
    h = 1e-4
    slope = (8 * (f(z + h) - f(z - h)) - f(z + 2 * h) + f(z - 2 * h)) / (12 * h)
    kinks = {"relu": [0], "leaky_relu": [0], "limited_relu": [0, 0.2]}.get(name, [])
    far = np.array([np.abs(z - kink) > 2 * h + 1e-7 for kink in kinks]).all(0) if kinks else np.ones(z.shape, bool)
    np.testing.assert_allclose(dx[far], (g * slope)[far], rtol=2**-8 * (x.itemsize == 2),
                               atol={2: 1e-2, 4: 3e-5, 8: 1e-9}[x.itemsize])
    if with_bias:
        close(dbias, dx.astype(np.float64).sum(0), scale=10)
    else:
        assert dbias is None


@pytest.mark.parametrize("name", ["relu", "leaky_relu"])
def test_the_kink_belongs_to_the_left(run, name):
    dx, _ = run(cuda.activation_backward, name, np.ones(3), np.array([-1.0, 0.0, 1.0]), setting=0.2)
    slope = 0.2 if name == "leaky_relu" else 0
    close(dx, [slope, slope, 1])


def test_the_limits_have_no_slope(run):
    x = np.array([-np.inf, 0.0, 3.0, 6.0, np.inf, np.nan])
    dx, _ = run(cuda.activation_backward, "limited_relu", np.ones(6), x, setting=6.0)
    np.testing.assert_array_equal(dx, [0, 0, 1, 0, 0, 1])
    np.testing.assert_array_equal(run(cuda.activation, "limited_relu", x, setting=6.0), [0, 0, 3, 6, 6, np.nan])


@pytest.mark.parametrize("name", ["relu", "limited_relu"])
def test_what_had_no_part_gets_no_gradient(run, name):
    dx, _ = run(cuda.activation_backward, name, np.array([np.inf, np.nan, -np.inf]), -np.ones(3), setting=6.0)
    np.testing.assert_array_equal(dx, [0, 0, 0])


def test_activations_far_from_zero(run):
    x = np.array([-1e3, -40.0, 40.0, 1e3])
    for name in ACTIVATIONS:
        setting = 1e6 if name == "limited_relu" else 0.0
        y = run(cuda.activation, name, x, setting=setting)
        dx, _ = run(cuda.activation_backward, name, np.ones(4), x, setting=setting)
        bounded = name == "softsign"  # the others are relu there
        close(y, x / (1 + np.abs(x)) if bounded else np.maximum(x, 0), scale=1)
        close(dx, 1 / (1 + np.abs(x)) ** 2 if bounded else [0, 0, 1, 1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, *HALF])
def test_activations_at_infinity(run, dtype):
    x = np.array([-np.inf, np.inf, -60000, 60000], dtype)
    for name in ACTIVATIONS:
        setting = np.inf if name == "limited_relu" else 0.5
        y = run(cuda.activation, name, x, setting=setting)
        dx, _ = run(cuda.activation_backward, name, np.ones(4, dtype), x, setting=setting)
        negative = {"softsign": -1, "leaky_relu": x[::2].astype(float) / 2}.get(name, 0)
        positive = {"softsign": 1}.get(name, x[1::2].astype(float))
        np.testing.assert_allclose(y.astype(float)[::2], negative, rtol=2e-2 if dtype in HALF else 1e-4)
        np.testing.assert_allclose(y.astype(float)[1::2], positive, rtol=2e-2 if dtype in HALF else 1e-4)
        np.testing.assert_allclose(dx.astype(float)[::2], {"leaky_relu": 0.5}.get(name, 0), atol=1e-6)
        np.testing.assert_allclose(dx.astype(float)[1::2], {"softsign": 0, "limited_relu": [0, 1]}.get(name, 1),
                                   atol=1e-6)
    for name in ACTIVATIONS:
        assert np.isnan(run(cuda.activation, name, np.array([np.nan], dtype), setting=0.5).astype(float)).all()


@pytest.mark.parametrize("dtype", HALF)
def test_16_bits_are_read_exactly_and_rounded_to_the_nearest(run, dtype):
    x = np.arange(65536, dtype=np.uint16).view(dtype)
    same = lambda a, b: np.testing.assert_array_equal(a.astype(np.float32), b.astype(np.float32))
    exact = x.astype(np.float32)
    read = np.where(np.abs(exact) < 2.0**-126, np.float32(0), exact)  # subnormal bfloat16 numbers are 0 to the kernels
    same(run(cuda.activation, "leaky_relu", x, setting=1.0), read)
    for bias in (2**-15, 1 + 2**-10, 1 + 2**-7, 30001, 3e38):
        bias = dtype(min(bias, 65000) if dtype == np.float16 else bias)
        with np.errstate(over="ignore", invalid="ignore"):
            expected = (x.astype(np.float32) + np.float32(bias)).astype(dtype)
        same(run(cuda.activation, "leaky_relu", x[:, None], bias[None], 1.0)[:, 0], expected)


def test_subnormal_numbers(run):
    """They are 0 to kernels that compute in float, read and written, and numbers to those that compute in double."""
    small = np.array([1e-40, 2.0**-127, 2.0**-126, 1e-38], np.float32)
    flushed = np.where(small < 2.0**-126, np.float32(0), small)
    np.testing.assert_array_equal(run(cuda.activation, "leaky_relu", small, setting=0.5), flushed)
    np.testing.assert_array_equal(run(cuda.activation, "leaky_relu", -small[2:], setting=0.5), [0, 0])
    np.testing.assert_array_equal(run(cuda.activation, "leaky_relu", np.array([-1e-310]), setting=1.0), [-1e-310])


def test_a_kind_without_its_case_gives_nan(run):
    def of_kind(kind, x, y, dx):
        launch.launch("activation", "activation_forward", 1, 32, kind, x, None, y, x.size, 1, 0)
        launch.launch("activation", "activation_backward", 1, 32, kind, x, x, None, dx, x.size, 1, 0)

    for kind in range(len(ACTIVATIONS) + 1):
        y, dx = np.zeros((2, 3))
        run(of_kind, kind, np.ones(3), y, dx)
        assert np.isnan([y, dx]).all() == (kind == len(ACTIVATIONS))


def test_activation_of_a_number(run):
    assert run(cuda.activation, "relu", np.array(3.0)) == 3


@quick
@given(seeds, item, st.integers(0, 200) | st.sampled_from([4095, 4097, 5000]), st.sampled_from([0, 1, 31, 32, 33, 70]))
def test_column_sum(run, seed, dtype, rows, columns):
    x = normal(seed, dtype, rows, columns)
    close(run(cuda.column_sum, x), x.astype(np.float64).sum(0), scale=100)


@quick
@given(seeds, item, st.integers(0, 4), st.integers(0, 40), st.sampled_from([(), (1,), (3, 5), (17, 21), (0, 2)]))
def test_channel_sum(run, seed, dtype, images, channels, size):
    x = normal(seed, dtype, images, channels, *size)
    close(run(cuda.channel_sum, x), x.astype(np.float64).sum((0, *range(2, x.ndim))), scale=100)
