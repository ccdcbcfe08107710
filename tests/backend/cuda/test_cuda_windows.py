"""Pooling and convolution in all directions, against NumPy: the gradients are the transposes of linear maps."""
import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from kernelchecks import close, item, normal, quick, seeds
from minigrad.backend import cuda
from minigrad.backend.cuda import images

pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
sizes = st.sampled_from([(1, 1), (1, 5), (3, 4), (6, 2), (8, 9), (17, 21)])
paddings = st.tuples(st.integers(0, 1), st.integers(0, 2))


def places(size, kernel, stride, padding, dilation=(1, 1)):
    """For each window (rows, columns) and element (a, b): its row and column in the image padded by `padding`."""
    rows, columns = [(n + 2 * p - d * (k - 1) - 1) // s + 1
                     for n, k, s, p, d in zip(size, kernel, stride, padding, dilation)]
    assume(rows > 0 and columns > 0)
    at = [np.arange(n)[:, None] * s + np.arange(k) * d for n, s, k, d in
          zip((rows, columns), stride, kernel, dilation)]
    return at[0][:, None, :, None], at[1][None, :, None, :]


def windows(x, where, padding, fill=0.0):
    """(N, C, rows, columns, kh, kw) of (N, C, H, W)."""
    ph, pw = padding
    return np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)), constant_values=fill)[:, :, where[0], where[1]]


def windows_transposed(g, where, x_shape, padding):
    ph, pw = padding
    x = np.zeros((*x_shape[:2], x_shape[2] + 2 * ph, x_shape[3] + 2 * pw))
    np.add.at(x, (slice(None), slice(None), *where), g)
    return x[:, :, ph:ph + x_shape[2], pw:pw + x_shape[3]]


@quick
@given(seeds, item, st.integers(0, 3), st.integers(1, 3), sizes, pairs, pairs, paddings)
def test_pooling(run, seed, dtype, n, c, size, kernel, stride, padding):
    padding = tuple(min(p, k // 2) for p, k in zip(padding, kernel))
    where = places(size, kernel, stride, padding)
    x = np.round(2 * normal(seed, dtype, n, c, *size))  # with ties
    viewed = windows(x, where, padding, -np.inf)
    viewed = viewed.reshape(*viewed.shape[:4], np.prod(kernel))
    y, winner = run(cuda.max_pool2d, x, kernel, stride, padding)
    close(y, viewed.max(-1))
    np.testing.assert_array_equal(winner, viewed.argmax(-1))
    g = normal(seed + 1, dtype, *y.shape)
    sent = (g[..., None] * (np.arange(viewed.shape[-1]) == winner[..., None])).reshape(*y.shape, *kernel)
    close(run(cuda.max_pool2d_backward, g, winner, x.shape, kernel, stride, padding),
          windows_transposed(sent, where, x.shape, padding), scale=10)
    close(run(cuda.avg_pool2d, x, kernel, stride, padding), windows(x, where, padding).mean((-2, -1)), scale=10)
    even = np.broadcast_to(g[..., None, None], (*y.shape, *kernel)) / np.prod(kernel)
    close(run(cuda.avg_pool2d_backward, g, x.shape, kernel, stride, padding),
          windows_transposed(even, where, x.shape, padding), scale=10)


def test_max_pooling_of_infinities_and_nan(run):
    x = np.array([-np.inf, -np.inf, 1, np.nan, np.nan, 2]).reshape(1, 1, 1, 6)
    y, winner = run(cuda.max_pool2d, x, (1, 2), (1, 2))
    np.testing.assert_array_equal(y[0, 0, 0], [-np.inf, np.nan, np.nan])
    assert winner[0, 0, 0].tolist() == [0, 1, 0]


def test_a_window_larger_than_the_image_is_refused(run):
    for function in (cuda.max_pool2d, cuda.avg_pool2d):
        with pytest.raises(ValueError, match="larger than the padded image"):
            run(function, np.zeros((1, 1, 2, 2)), (3, 3), (1, 1))


@quick
@given(seeds, item, st.integers(0, 3), st.integers(1, 3), sizes, pairs, pairs, paddings, pairs, st.booleans())
def test_im2col(run, seed, dtype, n, c, size, kernel, stride, padding, dilation, a_window_a_thread):
    where = places(size, kernel, stride, padding, dilation)
    x = normal(seed, dtype, n, c, *size)
    viewed = windows(x, where, padding)
    with pytest.MonkeyPatch.context() as patch:
        if a_window_a_thread:
            patch.setattr(images, "MANY_THREADS", 1)
        matrix = run(cuda.im2col, x, kernel, stride, padding, dilation)
    np.testing.assert_array_equal(matrix, viewed.transpose(1, 4, 5, 0, 2, 3).reshape(matrix.shape))
    g = normal(seed + 1, dtype, *viewed.shape)
    columns = np.ascontiguousarray(g.transpose(1, 4, 5, 0, 2, 3)).reshape(matrix.shape)
    close(run(cuda.col2im, columns, x.shape, kernel, stride, padding, dilation),
          windows_transposed(g, where, x.shape, padding), scale=20)


@quick
@given(seeds, item, st.integers(0, 4), st.integers(0, 5), st.sampled_from([(), (1,), (3, 5), (17, 21), (0,)]))
def test_swap_planes(run, seed, dtype, first, second, size):
    x = normal(seed, dtype, first, second, *size)
    np.testing.assert_array_equal(run(images.swap_planes, x), x.swapaxes(0, 1))
    out = np.zeros((second, first, *size), dtype)
    run(images.swap_planes, x, out=out)
    np.testing.assert_array_equal(out, x.swapaxes(0, 1))


def test_planes_are_not_swapped_into_a_copy(run):
    for swap, complaint in ((lambda x, out: images.swap_planes(x, out=out[:, ::2]), "strided"),
                            (lambda x, out: images.swap_planes(x, out[:, ::2]), "positional")):
        with pytest.raises(TypeError, match=complaint):
            run(swap, np.zeros((2, 3)), np.zeros((3, 4)))


@pytest.mark.parametrize("channels", [(2, 3, 1), (4, 2, 2), (3, 3, 3), (2, 6, 2)], ids=str)
@quick
@given(seeds, item, st.integers(0, 3), sizes, pairs, pairs, paddings, pairs, st.booleans())
@example(0, np.float64, 3, (17, 21), (3, 2), (1, 2), (1, 2), (2, 1), False)
@example(0, np.float64, 2, (8, 9), (2, 3), (3, 2), (0, 1), (1, 3), True)
@example(0, np.float32, 3, (9, 8), (1, 1), (1, 1), (0, 0), (1, 1), False)
@example(0, np.float64, 0, (9, 8), (1, 1), (1, 1), (0, 0), (1, 1), False)
@example(0, np.float64, 2, (11, 9), (5, 4), (2, 1), (2, 1), (1, 1), False)
def test_convolution(run, channels, seed, dtype, n, size, kernel, stride, padding, dilation, one_image_at_a_time):
    c, o, groups = channels
    where = places(size, kernel, stride, padding, dilation)
    x, w = normal(seed, dtype, n, c, *size), normal(seed + 1, dtype, o, c // groups, *kernel)
    viewed = windows(x, where, padding).astype(np.float64)
    viewed = viewed.reshape(n, groups, c // groups, *viewed.shape[2:])
    filters = w.reshape(groups, o // groups, *w.shape[1:]).astype(np.float64)
    settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    with pytest.MonkeyPatch.context() as patch:
        if one_image_at_a_time:
            patch.setattr(images, "MATRIX_BYTES", 1)
        y = run(cuda.conv2d, x, w, **settings)
        g = normal(seed + 2, dtype, *y.shape)
        dx = run(cuda.conv2d_input_grad, g, w, x.shape, **settings)
        dw = run(cuda.conv2d_weight_grad, g, x, w.shape, **settings)
    close(y, np.einsum("ngcijab,gocab->ngoij", viewed, filters).reshape(y.shape), scale=100)
    split = g.reshape(n, groups, o // groups, *g.shape[2:]).astype(np.float64)
    back = np.einsum("ngoij,gocab->ngcijab", split, filters).reshape(n, c, *y.shape[2:], *kernel)
    close(dx, windows_transposed(back, where, x.shape, padding), scale=100)
    close(dw, np.einsum("ngoij,ngcijab->gocab", split, viewed).reshape(w.shape), scale=300)
