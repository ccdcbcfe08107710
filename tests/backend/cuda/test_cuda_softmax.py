"""Softmax and cross-entropy along rows, against NumPy."""
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kernelchecks import close, item, lengths, normal, quick, seeds
from minigrad.backend import cuda


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


@quick
@given(seeds, item, st.integers(0, 5), lengths, st.booleans())
def test_softmax(run, seed, dtype, rows, columns, logarithm):
    x, g = 30 * normal(seed, dtype, rows, columns), normal(seed + 1, dtype, rows, columns)
    p = softmax(x.astype(np.float64))
    y = run(cuda.softmax, x, logarithm)
    close(y, np.log(p) if logarithm else p, scale=100 if logarithm else 3)
    dx = run(cuda.softmax_backward, g, y, logarithm)
    close(dx, g - p * g.sum(1, keepdims=True) if logarithm else p * (g - (g * p).sum(1, keepdims=True)),
          scale=columns if logarithm else 10)


def test_softmax_of_infinities(run):
    inf, nan = np.inf, np.nan
    x = np.array([[-inf, 0.0, 0.0], [-inf, 1e4, -1e4], [-inf, -inf, -inf], [inf, 1, -inf], [inf, 1, inf], [nan, -inf, 0],
                  [nan, inf, nan]])
    close(run(cuda.softmax, x), [[0, 0.5, 0.5], [0, 1, 0], [0, 0, 0], [1, 0, 0], [0.5, 0, 0.5], [nan] * 3, [nan] * 3])
    half = -np.log(2)
    close(run(cuda.softmax, x[:5], True), [[-inf, half, half], [-inf, 0, -2e4], [nan] * 3, [0, -inf, -inf], [half, -inf, half]])
    losses, lse = run(cuda.cross_entropy, x[[0, 3, 4]], np.array([1, 0, 2]))
    close(losses, [-half, 0, -half])
    close(run(cuda.cross_entropy_backward, np.ones(3), x[[0, 3, 4]], np.array([1, 0, 2]), lse),
          [[0, -0.5, 0.5], [0, 0, 0], [0.5, 0, -0.5]])


@pytest.mark.parametrize("at", [0, 40, 299])
def test_softmax_of_a_large_number_does_not_overflow(run, at):
    x = np.zeros((1, 300))
    x[0, at] = 1e4
    close(run(cuda.softmax, x), x / 1e4)


@quick
@given(seeds, item, st.integers(1, 6), lengths, st.sampled_from([0.0, 0.1]))
@example(0, np.float32, 3, 300, 0.1)
def test_cross_entropy(run, seed, dtype, rows, classes, smoothing):
    rng = np.random.default_rng(seed)
    x = 5 * normal(seed, dtype, rows, classes)
    labels = rng.integers(0, classes, rows)
    labels[rng.random(rows) < 0.3] = -1
    labels[0] = rng.integers(0, classes)
    losses, lse = run(cuda.cross_entropy, x, labels, smoothing, -1)
    p, counted = softmax(x.astype(np.float64)), labels >= 0
    target = np.eye(classes)[labels] * (1 - smoothing) + smoothing / classes
    close(losses, -(np.log(p) * target).sum(1) * counted, scale=20)
    close(lse.sum(0), np.log(np.exp(x.astype(np.float64)).sum(1)), scale=20)
    g = normal(seed + 1, dtype, rows)
    dx = run(cuda.cross_entropy_backward, g, x, labels, lse, smoothing, -1)
    close(dx, g[:, None] * (p - target) * counted[:, None], scale=3, factor=4)


def test_an_excluded_class_costs_nothing(run):
    x = np.array([[0, 0, -np.inf]])
    losses, lse = run(cuda.cross_entropy, x, np.array([1]))
    close(losses, [np.log(2)])
    close(run(cuda.cross_entropy_backward, np.ones(1), x, np.array([1]), lse), [[0.5, -0.5, 0]])


def test_a_label_that_is_no_class_costs_nan(run):
    x = np.zeros((3, 4))
    losses, _ = run(cuda.cross_entropy, x, np.array([4, -1, 0]))
    assert np.isnan(losses).tolist() == [True, True, False]


def test_an_integer_array_is_refused(run):
    with pytest.raises(TypeError, match="float16 or float32 or float64"):
        run(cuda.softmax, np.zeros((2, 3), np.int64))


def test_arrays_in_another_order_are_read_right(run):
    y, g = softmax(normal(0, np.float64, 2, 3)), normal(1, np.float64, 3, 2)
    close(run(cuda.softmax_backward, g.T, np.asfortranarray(y)), run(cuda.softmax_backward, g.T.copy(), y))
    with pytest.raises(TypeError, match="C-contiguous"):
        run(cuda.sgd_step, [np.zeros((3, 2)).T], [np.zeros((2, 3))], [], 0.1)


@pytest.mark.parametrize("offset", [100, 1e4, 1e6])
def test_a_common_offset_costs_no_digits(run, offset):
    """Against float64 on the numbers as float32 holds them: values, and the gradients that use the saved log-sum-exp."""
    x = (normal(0, np.float64, 5, 40) + offset).astype(np.float32)
    labels, exact = np.arange(5), x.astype(np.float64)
    p = np.exp(exact - exact.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    for smoothing in (0.0, 0.1):
        losses, lse = run(cuda.cross_entropy, x, labels, smoothing, -1)
        target = (1 - smoothing) * np.eye(40)[labels] + smoothing / 40
        np.testing.assert_allclose(losses, -(target * np.log(p)).sum(1), rtol=1e-5)
        dx = run(cuda.cross_entropy_backward, np.ones(5, np.float32), x, labels, lse, smoothing, -1)
        np.testing.assert_allclose(dx, p - target, rtol=0, atol=1e-6)
    np.testing.assert_allclose(run(cuda.softmax, x), p, rtol=1e-5)
    np.testing.assert_allclose(run(cuda.softmax, x, True), np.log(p), rtol=1e-5)
