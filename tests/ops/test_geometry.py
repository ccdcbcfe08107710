"""Numbers that say where windows are: out of their range they are refused by name, never handed on to a kernel."""
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import minigrad as mg

X, ROWS = np.ones((2, 4, 6, 6), np.float32), np.ones((2, 4, 6), np.float32)
W, W1 = np.ones((4, 4, 3, 3), np.float32), np.ones((4, 4, 3), np.float32)
TRANSPOSED = dict(stride=1, padding=0, dilation=1, output_padding=0, groups=1)
CALLS = {  # from a function to how it is called with one argument changed, and the least value of each argument
    "conv2d": (lambda **a: mg.conv2d(X, W, **a), dict(stride=1, padding=0, dilation=1, groups=1)),
    "conv1d": (lambda **a: mg.conv1d(ROWS, W1, **a), dict(stride=1, padding=0, dilation=1, groups=1)),
    "conv_transpose2d": (lambda **a: mg.conv_transpose2d(X, W, **a), TRANSPOSED),
    "conv_transpose1d": (lambda **a: mg.conv_transpose1d(ROWS, W1, **a), TRANSPOSED),
    "max_pool2d": (lambda **a: mg.max_pool2d(X, **{"kernel_size": 2, **a}),
                   dict(kernel_size=1, stride=1, padding=0, dilation=1)),
    "avg_pool2d": (lambda **a: mg.avg_pool2d(X, **{"kernel_size": 2, **a}), dict(kernel_size=1, stride=1, padding=0)),
    "max_pool1d": (lambda **a: mg.max_pool1d(ROWS, **{"kernel_size": 2, **a}),
                   dict(kernel_size=1, stride=1, padding=0, dilation=1)),
    "avg_pool1d": (lambda **a: mg.avg_pool1d(ROWS, **{"kernel_size": 2, **a}), dict(kernel_size=1, stride=1, padding=0)),
    "adaptive_avg_pool2d": (lambda **a: mg.adaptive_avg_pool2d(X, **a), dict(output_size=1)),
    "adaptive_max_pool2d": (lambda **a: mg.adaptive_max_pool2d(X, **a), dict(output_size=1)),
    "adaptive_avg_pool1d": (lambda **a: mg.adaptive_avg_pool1d(ROWS, **a), dict(output_size=1)),
    "adaptive_max_pool1d": (lambda **a: mg.adaptive_max_pool1d(ROWS, **a), dict(output_size=1)),
    "functional pad": (lambda pad: mg.nn.functional.pad(X, pad if isinstance(pad, tuple) else (pad, pad)), dict(pad=0)),
    "interpolate": (lambda **a: mg.interpolate(X, **a), dict(size=1)),
    "split": (lambda **a: mg.split(X, **a), dict(indices_or_sections=1)),
    "array_split": (lambda **a: mg.array_split(X, **a), dict(indices_or_sections=1))}
ARGUMENTS = [(name, argument) for name, (_, arguments) in CALLS.items() for argument in arguments]


@pytest.mark.parametrize("name, argument", ARGUMENTS)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.data())
def test_what_is_no_whole_number_in_range_is_refused_by_name(name, argument, data):
    call, arguments = CALLS[name]
    below = arguments[argument] - 1
    wrong = data.draw(st.one_of(
        st.integers(-10**9, below),
        st.sampled_from([0.5, 1.5, np.nan, np.inf, -np.inf, True, False, "2", np.float32(1.25), np.bool_(True)]),
        st.integers(-5, below).map(np.int64)))
    pairs = "1d" not in name and argument not in ("groups", "indices_or_sections")
    shape = data.draw(st.sampled_from(["one", "first", "second", "three"])) if pairs else "one"
    value = {"one": wrong, "first": (wrong, 1), "second": (1, wrong), "three": (1, 1, 1)}[shape]
    with pytest.raises(ValueError, match=argument):
        call(**{argument: value})


@pytest.mark.parametrize("name, argument", ARGUMENTS)
def test_whole_numbers_of_any_kind_are_taken(name, argument):
    call, arguments = CALLS[name]
    least = arguments[argument]
    expected = call(**{argument: least})
    for value in (np.int64(least), np.uint8(least), mg.Tensor(least), float(least)):
        for a, b in zip(call(**{argument: value}), expected):
            np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize("scale", [0, -1, np.nan, np.inf, (1, 0), (1, 2, 3)])
def test_scale_factors_are_positive(scale):
    with pytest.raises(ValueError, match="scale_factor"):
        mg.interpolate(X, scale_factor=scale)


@pytest.mark.parametrize("shape", [(4, 4, 0, 3), (4, 4, 3, 0), (4, 3, 3, 3), (0, 3, 3, 3), (4, 4, 3), (4, 4)])
def test_filters_that_do_not_fit_are_refused(shape):
    for convolution in (mg.conv2d, mg.conv_transpose2d):
        if not (convolution is mg.conv_transpose2d and shape == (4, 3, 3, 3)):
            with pytest.raises(ValueError, match="filters"):
                convolution(X, np.ones(shape, np.float32))


@pytest.mark.parametrize("bias", [(1,), (3,), (1, 4), (4, 1), ()])
def test_a_bias_does_not_broadcast(bias):
    for convolution, x, w in ((mg.conv2d, X, W), (mg.conv1d, ROWS, W1), (mg.conv_transpose2d, X, W),
                              (mg.conv_transpose1d, ROWS, W1)):
        with pytest.raises(ValueError, match="bias"):
            convolution(x, w, np.ones(bias, np.float32))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, bool])
def test_means_of_whole_numbers_are_means(dtype):
    x = np.random.default_rng(0).integers(0, 2 if dtype is bool else 100, (1, 2, 6, 6)).astype(dtype)
    for pool in (lambda x: mg.avg_pool2d(x, 2), lambda x: mg.adaptive_avg_pool2d(x, 4), lambda x: mg.adaptive_avg_pool2d(x, 1),
                 lambda x: mg.avg_pool1d(mg.Tensor(x)[:, :, 0], 2)):
        np.testing.assert_allclose(pool(x).numpy(), pool(x.astype(np.float64)).numpy())
