"""Group norm, against NumPy in float64."""
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from kernelchecks import close, item, normal, quick, seeds
from minigrad.backend import cuda


@quick
@given(seeds, item, st.integers(0, 3), st.integers(1, 3), st.integers(1, 3),
       st.sampled_from([(2,), (3, 4), (31, 1), (9, 17)]))
def test_group_norm(run, seed, dtype, n, groups, members, plane):
    c, eps = groups * members, 0.1
    x, g = 2 * normal(seed, dtype, n, c, *plane) + 3, normal(seed + 1, dtype, n, c, *plane)
    w, b = normal(seed + 2, dtype, c), normal(seed + 3, dtype, c)

    def grouped(a):
        return a.astype(np.float64).reshape(n, groups, members, np.prod(plane))

    values, weight, bias = grouped(x), w.reshape(groups, members, 1), b.reshape(groups, members, 1)
    mean, var = values.mean((2, 3), keepdims=True), values.var((2, 3), keepdims=True)
    inv_std = 1 / np.sqrt(var + eps)
    xhat, h = (values - mean) * inv_std, grouped(g) * weight
    dx = inv_std * (h - h.mean((2, 3), keepdims=True) - xhat * (h * xhat).mean((2, 3), keepdims=True))
    y, m, s = run(cuda.group_norm, x, groups, w, b, eps)
    close(y, (xhat * weight + bias).reshape(x.shape), scale=30)
    close(m, mean[..., 0, 0], scale=10)
    close(s, inv_std[..., 0, 0], scale=5)
    grads = run(cuda.group_norm_backward, g, x, w, m, s)
    close(grads[0], dx.reshape(x.shape), scale=30)
    close(grads[1], (grouped(g) * xhat).sum((0, 3)).reshape(c), scale=100)
    close(grads[2], grouped(g).sum((0, 3)).reshape(c), scale=100)


def test_group_norm_far_from_zero_keeps_its_digits(run):
    x = normal(0, np.float32, 2, 4, 9, 9) + np.float32(1000)
    values = x.astype(np.float64).reshape(2, 2, -1)
    expected = (values - values.mean(2, keepdims=True)) / np.sqrt(values.var(2, keepdims=True) + 1e-5)
    y, _, _ = run(cuda.group_norm, x, 2, np.ones(4, np.float32), np.zeros(4, np.float32))
    close(y, expected.reshape(x.shape), factor=100)
