"""Batch norm, and the block of norm, ReLU and pooling, against NumPy in float64."""
import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from kernelchecks import close, item, normal, quick, real, seeds
from minigrad.backend import cuda

planes = st.sampled_from([(), (1, 1), (2, 3), (5, 7), (31, 1), (8, 8), (17, 19)])


def column(values, x):
    return values.reshape((1, -1) + (1,) * (x.ndim - 2))


@quick
@given(seeds, item, st.sampled_from([2, 3, 40, 300]), st.sampled_from([1, 2, 5]), planes, st.booleans())
@example(0, np.float32, 3, 2, (17, 19), False)
def test_batch_norm(run, seed, dtype, n, c, plane, relu):
    plane = plane if n < 40 else plane[:1]
    x, g = 2 * normal(seed, dtype, n, c, *plane) + 3, normal(seed + 1, dtype, n, c, *plane)
    w, b, eps = normal(seed + 2, dtype, c), normal(seed + 3, dtype, c), 0.1
    axes = (0, *range(2, x.ndim))
    exact = x.astype(np.float64)
    mean, var = exact.mean(axes), exact.var(axes)
    inv_std = 1 / np.sqrt(var + eps)
    xhat = (exact - column(mean, x)) * column(inv_std, x)
    expected = xhat * column(w, x) + column(b, x)
    y, m, v = run(cuda.batch_norm, x, w, b, eps, relu)
    close(y, np.maximum(expected, 0) if relu else expected, scale=30)
    close(m, mean, scale=10)
    close(v, var, scale=20)
    y, inv_std = (np.maximum(expected, 0).astype(dtype) if relu else None), inv_std.astype(m.dtype)
    h = g * (y > 0) if relu else g
    dx, dw, db = run(cuda.batch_norm_backward, g, x, w, mean.astype(m.dtype), inv_std, y)
    close(db, h.astype(np.float64).sum(axes), scale=100)
    close(dw, (h * xhat).sum(axes), scale=100)
    mean_h, mean_dot = h.mean(axes, keepdims=True, dtype=np.float64), (h * xhat).mean(axes, keepdims=True)
    projected = h - mean_h - xhat * mean_dot
    close(dx, column(w * inv_std, x) * projected, scale=30)
    if relu:
        return
    k = normal(seed + 4, dtype, n, c, *plane)
    mean_k, mean_k_dot = k.mean(axes, keepdims=True, dtype=np.float64), (k * xhat).mean(axes, keepdims=True)
    k_projected, s = k - mean_k - xhat * mean_k_dot, (k * projected).sum(axes, keepdims=True)
    in_g, in_x, in_w = run(cuda.batch_norm_double_backward, k, dx, g, x, w, mean.astype(m.dtype), inv_std, dw, db)
    close(in_g, column(w * inv_std, x) * k_projected, scale=30)
    close(in_w, inv_std * s.reshape(c), scale=100)
    close(in_x, -column(w * inv_std**2, x) * (k_projected * mean_dot + projected * mean_k_dot
                                              + xhat * s * c / x.size), scale=100)


def test_batch_norm_eval_uses_the_given_statistics(run):
    x, w, b = normal(0, np.float64, 4, 3, 2, 5), normal(1, np.float64, 3), normal(2, np.float64, 3)
    mean, var = normal(3, np.float64, 3), normal(4, np.float64, 3) ** 2
    y = run(cuda.batch_norm_eval, x, w, b, mean, var, 0.01)
    close(y, (x - column(mean, x)) / np.sqrt(column(var, x) + 0.01) * column(w, x) + column(b, x))


def test_moments_far_from_zero_keep_their_digits(run):
    x = normal(0, np.float32, 5, 2, 9, 9) + np.float32(1000) + np.arange(5, dtype=np.float32)[:, None, None, None]
    mean, var = run(cuda.moments, x)
    close(mean, x.mean((0, 2, 3), dtype=np.float64))
    close(var, x.astype(np.float64).var((0, 2, 3)), factor=50)


@quick
@given(seeds, real, st.sampled_from([1, 3, 255, 256, 257, 700]))
@example(0, np.float32, 257)
def test_statistics_of_channels(run, seed, dtype, channels):
    mean, var, running_mean, running_var = (normal(seed + i, dtype, channels) ** 2 for i in range(4))
    close(run(cuda.inverse_std, var, 0.1), 1 / np.sqrt(var.astype(np.float64) + 0.1), scale=10)
    expected = 0.7 * running_mean.astype(np.float64) + 0.3 * mean, 0.7 * running_var.astype(np.float64) + 0.3 * 1.25 * var
    run(cuda.move_running, running_mean, running_var, np.repeat(mean, 2)[::2], var, 0.3, 1.25)
    close(running_mean, expected[0], scale=10)
    close(running_var, expected[1], scale=10)


@quick
@given(seeds, item, st.sampled_from([1, 3, 40]), st.sampled_from([(1, 1, 1), (3, 3, 3), (16, 1, 1), (7, 5, 2)]))
@example(0, np.float32, 40, (3, 3, 3))
def test_fold_norm(run, seed, dtype, filters, shape):
    weight, (w, b, mean, var) = normal(seed, dtype, filters, *shape), (normal(seed + i, dtype, filters) for i in range(1, 5))
    var = var**2
    scale = w.astype(np.float64) / np.sqrt(var.astype(np.float64) + 0.1)
    scaled, shift = run(cuda.fold_norm, weight.swapaxes(2, 3).copy().swapaxes(2, 3), w, b, mean, var, 0.1)
    assert scaled.dtype == shift.dtype == dtype
    close(scaled, weight * scale.reshape(-1, 1, 1, 1), scale=30)
    close(shift, b - scale * mean, scale=30)


@quick
@given(seeds, st.integers(1, 4), st.sampled_from([1, 3]), st.sampled_from([(2, 2), (5, 4), (7, 9), (28, 27)]),
       st.integers(1, 3))
def test_norm_relu_pool(run, seed, n, c, plane, pool):
    pool = min(pool, *plane)
    rng = np.random.default_rng(seed)
    x = np.round(2 * rng.standard_normal((n, c, *plane)))  # with ties
    w, b, eps = rng.standard_normal(c), rng.standard_normal(c), 0.1
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3))
    inv_std = 1 / np.sqrt(var + eps)
    xhat = (x - column(mean, x)) * column(inv_std, x)
    z = xhat * column(w, x) + column(b, x)
    rows, columns = plane[0] // pool, plane[1] // pool
    windows = z[:, :, :rows * pool, :columns * pool].reshape(n, c, rows, pool, columns, pool)
    windows = windows.transpose(0, 1, 2, 4, 3, 5).reshape(n, c, rows, columns, -1)
    y, winner, m, v = run(cuda.norm_relu_pool, x, w, b, eps, pool)
    close(y, np.maximum(windows.max(-1), 0), scale=10)
    close(np.take_along_axis(windows, winner[..., None].astype(int), -1)[..., 0], windows.max(-1), scale=10)
    near = np.isclose(windows, windows.max(-1, keepdims=True), rtol=0, atol=1e-10)
    np.testing.assert_array_equal(winner, near.argmax(-1))  # the first of equal ones
    close(m, mean)
    close(v, var)
    g = rng.standard_normal(y.shape)
    sent = np.zeros(windows.shape)
    np.put_along_axis(sent, winner[..., None].astype(int), (g * (y > 0))[..., None], -1)
    h = np.zeros(x.shape)
    h[:, :, :rows * pool, :columns * pool] = (
        sent.reshape(n, c, rows, columns, pool, pool).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, rows * pool, columns * pool))
    dx, dw, db = run(cuda.norm_relu_pool_backward, g, x, y, winner, w, mean, inv_std, pool)
    close(db, h.sum((0, 2, 3)), scale=100)
    close(dw, (h * xhat).sum((0, 2, 3)), scale=100)
    close(dx, column(w * inv_std, x) * (h - h.mean((0, 2, 3), keepdims=True)
                                        - xhat * (h * xhat).mean((0, 2, 3), keepdims=True)), scale=20)
