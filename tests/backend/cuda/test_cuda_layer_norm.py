"""Layer norm and RMS norm, against NumPy."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernelchecks import close, item, lengths, normal, quick, seeds
from minigrad.backend import cuda


@quick
@given(seeds, item, st.integers(0, 5) | st.sampled_from([64, 70, 130]), lengths, st.booleans(), st.booleans())
def test_layer_norm(run, seed, dtype, rows, columns, affine, centre):
    x, g = 2 * normal(seed, dtype, rows, columns) + 3, normal(seed + 1, dtype, rows, columns)
    w, b = (normal(seed + 2, dtype, columns), normal(seed + 3, dtype, columns)) if affine else (None, None)
    exact, eps = x.astype(np.float64), 0.1
    mean = exact.mean(1) if centre else np.zeros(rows)
    inv_std = 1 / np.sqrt(((exact - mean[:, None]) ** 2).mean(1) + eps)
    xhat = (exact - mean[:, None]) * inv_std[:, None]
    h = g * (w if affine else 1)
    dx = inv_std[:, None] * (h - h.mean(1, keepdims=True) * centre - xhat * (h * xhat).mean(1, keepdims=True))
    if centre:
        y, m, s = run(cuda.layer_norm, x, w, b, eps)
        close(m, mean, scale=10)
        grads = run(cuda.layer_norm_backward, g, x, w, m, s)
        close(grads[2], g.astype(np.float64).sum(0), scale=50)
    else:
        b = None
        y, s = run(cuda.rms_norm, x, w, eps)
        grads = run(cuda.rms_norm_backward, g, x, w, s)
    close(y, xhat * (w if w is not None else 1) + (b if b is not None else 0), scale=20)
    close(s, inv_std, scale=5)
    close(grads[0], dx, scale=20)
    close(grads[1], (g * xhat).sum(0), scale=100)


def test_the_axes_before_the_last_are_rows(run):
    x = normal(0, np.float64, 2, 3, 5)
    y, mean, inv_std = run(cuda.layer_norm, x)
    assert y.shape == x.shape and mean.shape == inv_std.shape == (6,)
    close(y, (x - x.mean(2, keepdims=True)) / np.sqrt(x.var(2, keepdims=True) + 1e-5))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])  # sums of float16 would overflow
def test_layer_norm_far_from_zero_keeps_its_digits(run, dtype):
    x = normal(0, dtype, 3, 300) + dtype(1000)
    exact = x.astype(np.float64)
    y, _, _ = run(cuda.layer_norm, x)
    expected = (exact - exact.mean(1, keepdims=True)) / np.sqrt(exact.var(1, keepdims=True) + 1e-5)
    close(y, expected, factor={np.float16: 1, np.float32: 100}[dtype])
