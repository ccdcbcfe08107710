"""The CPU convolution and its gradients against loops over the definition."""

import contextlib
from unittest import mock

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from minigrad.backend.cpu import conv, conv_blocks, conv_direct, conv_winograd, declarations, native, threads
from minigrad.backend.cpu.conv import conv2d, conv2d_input_grad, conv2d_weight_grad


def taps_of(x, w_shape, stride, padding, dilation, groups):
    """For each filter tap the padded input under it: pairs (p, q), (slice, slice), and the padded array."""
    (sh, sw), (ph, pw), (dh, dw) = stride, padding, dilation
    kh, kw = w_shape[2:]
    xp = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    ho = (xp.shape[2] - dh * (kh - 1) - 1) // sh + 1
    wo = (xp.shape[3] - dw * (kw - 1) - 1) // sw + 1
    where = {(p, q): (slice(p * dh, p * dh + (ho - 1) * sh + 1, sh), slice(q * dw, q * dw + (wo - 1) * sw + 1, sw))
             for p in range(kh) for q in range(kw)}
    return xp, where, (ho, wo)


def reference(x, w, gy_of, stride, padding, dilation, groups):
    """y and, for gy = gy_of(y.shape), the gradients in x and w, one group and one tap at a time."""
    xp, where, size = taps_of(x, w.shape, stride, padding, dilation, groups)
    o, c = w.shape[0] // groups, w.shape[1]
    y = np.zeros((len(x), w.shape[0], *size))
    gy = gy_of(y.shape)
    gxp, gw = np.zeros(xp.shape), np.zeros(w.shape)
    for k in range(groups):
        ins, outs = slice(k * c, k * c + c), slice(k * o, k * o + o)
        for (p, q), (rows, columns) in where.items():
            window = xp[:, ins, rows, columns]
            y[:, outs] += np.einsum("nchw,oc->nohw", window, w[outs, :, p, q])
            gw[outs, :, p, q] = np.einsum("nchw,nohw->oc", window, gy[:, outs])
            gxp[:, ins, rows, columns] += np.einsum("nohw,oc->nchw", gy[:, outs], w[outs, :, p, q])
    (ph, pw), (h, width) = padding, x.shape[2:]
    return y, gy, gxp[:, :, ph:ph + h, pw:pw + width], gw


def layouts(a, kind):
    """The same values in different memory."""
    if kind == "channels last":
        return np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    if kind == "negative strides":
        return np.ascontiguousarray(a[::-1, ::-1, ::-1, ::-1])[::-1, ::-1, ::-1, ::-1]
    if kind == "part of a larger array":
        larger = np.full([n + 2 for n in a.shape], np.nan, a.dtype)
        larger[1:-1, 1:-1, 1:-1, 1:-1] = a
        return larger[1:-1, 1:-1, 1:-1, 1:-1]
    if kind == "every second pixel":
        return np.repeat(np.repeat(a, 2, 2), 2, 3)[:, :, ::2, ::2]
    return np.ascontiguousarray(a)


LAYOUTS = ["channels first", "channels last", "negative strides", "part of a larger array", "every second pixel"]


def check(x, w, options, dtype=np.float64, layout="channels first", seed=0, tolerance=None):
    tolerance = tolerance or {np.float64: 1e-11, np.float32: 2e-5}[dtype]
    rng = np.random.default_rng(seed)
    x, w = x.astype(dtype), w.astype(dtype)
    y, gy, gx, gw = reference(x.astype(float), w.astype(float),
                              lambda shape: rng.standard_normal(shape).astype(dtype).astype(float), **options)
    xl, gyl = layouts(x, layout), layouts(gy.astype(dtype), layout)
    for got, want in ((conv2d(xl, w, **options), y),
                      (conv2d_input_grad(gyl, w, x.shape, **options), gx),
                      (conv2d_weight_grad(gyl, xl, w.shape, **options), gw)):
        assert got.dtype == dtype and got.shape == want.shape
        scale = max(1, np.abs(want).max()) if want.size else 1
        np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * scale)
    y = conv2d(xl, w, **options)
    assert y.transpose(0, 2, 3, 1).flags.c_contiguous or y.flags.c_contiguous and len(w) == options["groups"] > 1
    np.testing.assert_array_equal(layouts(x, layout), x)  # the input is left alone


@contextlib.contextmanager
def threads_of(number):
    before = threads.get_num_threads()
    threads.set_num_threads(number)
    try:
        yield
    finally:
        threads.set_num_threads(before)


@st.composite
def problems(draw):
    pair = lambda lo, hi: st.tuples(st.integers(lo, hi), st.integers(lo, hi))  # noqa: E731
    groups, c, o = draw(st.sampled_from([(1, 1, 1), (1, 1, 5), (1, 3, 4), (1, 9, 2), (1, 16, 16), (2, 1, 1), (3, 1, 2),
                                         (2, 3, 2), (2, 8, 3), (4, 1, 1)]))
    kernel, stride, dilation, padding = draw(pair(1, 4)), draw(pair(1, 3)), draw(pair(1, 3)), draw(pair(0, 3))
    least = [max(1, d * (k - 1) + 1 - 2 * p) for k, d, p in zip(kernel, dilation, padding)]
    size = [n + draw(st.integers(0, 8)) for n in least]
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    x = rng.standard_normal((draw(st.integers(0, 3)), groups * c, *size))
    w = rng.standard_normal((groups * o, c, *kernel))
    return x, w, dict(stride=stride, padding=padding, dilation=dilation, groups=groups)


@settings(deadline=None, max_examples=150)
@given(problems(), st.sampled_from([np.float64, np.float32]), st.sampled_from(LAYOUTS), st.sampled_from([1, 2]))
def test_any_geometry(problem, dtype, layout, number):
    with threads_of(number):
        check(*problem, dtype, layout)


winograd = mock.patch.object(conv, "_winograd_costs_less", lambda w_shape, g, size: (
    w_shape[2:] == (3, 3) and g.stride == g.dilation == (1, 1)))


@pytest.mark.skipif(native.kernel("winograd") is None, reason="no C compiler")
@settings(deadline=None, max_examples=80)
@given(st.integers(1, 3), st.sampled_from([16, 32, 48, 400]), st.sampled_from([16, 32, 48, 80]), st.tuples(st.integers(1, 11), st.integers(1, 25)),
       st.tuples(st.integers(0, 4), st.integers(0, 4)), st.sampled_from(LAYOUTS), st.sampled_from([1, 2, 5]))
def test_winograd(n, c, o, size, padding, layout, number):
    size = [max(side, 3 - 2 * p) for side, p in zip(size, padding)]
    rng = np.random.default_rng(sum(size))
    x, w = rng.standard_normal((n, c, *size)), rng.standard_normal((o, c, 3, 3))
    with winograd, threads_of(number), mock.patch.object(conv_winograd, "MOST_SUMS", 3 * 16 * c * o):
        check(x, w, dict(stride=(1, 1), padding=padding, dilation=(1, 1), groups=1), np.float32, layout)


@pytest.mark.skipif(native.kernel("winograd") is None, reason="no C compiler")
@settings(deadline=None, max_examples=30)
@given(st.integers(0, 7), st.integers(0, 8), st.integers(0, 2))
def test_winograd_reads_nothing_that_an_output_does_not_see(row, column, padding):
    """Sums of neighbours are multiplied, and still all other outputs stay the same, to the last bit."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 16, 8, 9)).astype(np.float32), rng.standard_normal((16, 16, 3, 3)).astype(np.float32)
    changed = x.copy()
    changed[1, 3, row, column] = 1e20
    pad = dict(padding=(padding, padding))
    with winograd:
        for function in (lambda x: conv2d(x, w, **pad), lambda x: conv2d_input_grad(x, w, (2, 16, 10 - 2 * padding, 11 - 2 * padding), **pad)):
            differ = (function(x) != function(changed)).any((0, 1))
            top, left = row + (differ.shape[0] - 8) // 2, column + (differ.shape[1] - 9) // 2
            sees = np.zeros(differ.shape, bool)
            sees[max(top - 1, 0):max(top + 2, 0), max(left - 1, 0):max(left + 2, 0)] = True
            np.testing.assert_array_equal(differ, sees)


@pytest.mark.skipif(native.kernel("winograd") is None, reason="no C compiler")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("into", ["x", "w", "gy"])
def test_winograd_leaves_the_neighbours_of_what_is_not_finite_alone(value, into):
    rng, options = np.random.default_rng(0), dict(stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1)
    scale = 1e-3 if value == 3e38 else 1  # sums of neighbours overflow, those of filters halved and outputs do not
    shapes = {"x": (2, 16, 9, 9), "w": (16, 16, 3, 3), "gy": (2, 16, 9, 9)}
    x, w, gy = (scale * rng.standard_normal(shape).astype(np.float32) for shape in shapes.values())
    {"x": x, "w": w, "gy": gy}[into][1, 3, 1] = value
    x, gy = layouts(x, "channels last"), layouts(gy, "channels last")
    with np.errstate(invalid="ignore"):
        y, _, gx, gw = reference(*(a.astype(float) for a in (x, w)), lambda shape: gy.astype(float), **options)
    with winograd, mock.patch.object(conv_direct, "_run", wraps=conv_direct._run) as again:
        found = (conv2d(x, w, **options), conv2d_input_grad(gy, w, x.shape, **options),
                 conv2d_weight_grad(gy, x, w.shape, **options))
    assert again.call_count == {"x": 1, "w": 0 if value == 3e38 else 2, "gy": 1}[into]
    for got, want in zip(found, (y, gx, gw)):
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 if value != 3e38 else 1e-7 * np.abs(want).max())


@pytest.mark.skipif(native.kernel("correlate") is None, reason="no C compiler")
@settings(deadline=None, max_examples=80)
@given(problems(), st.sampled_from([np.nan, np.inf, -np.inf]), st.sampled_from(["x", "w", "gy"]), st.integers(0, 1 << 20))
def test_padding_is_zeros_also_for_what_is_not_finite(problem, value, into, place):
    """The kernels in C leave out what is multiplied by the zeros around images; 0 times infinity is NaN all the same."""
    x, w, options = problem
    assume(w.shape[1] > 1 or options["groups"] == 1)  # single channels have algorithms of their own
    x, w = x.astype(np.float32), w.astype(np.float32)
    gy = np.ones(conv2d(x, w, **options).shape, np.float32)
    changed = {"x": x, "w": w, "gy": gy}[into]
    if changed.size:
        changed.flat[place % changed.size] = value
    with np.errstate(invalid="ignore"):
        y, _, gx, gw = reference(x, w, lambda shape: gy, **options)
        found = (conv2d(x, w, **options), conv2d_input_grad(gy, w, x.shape, **options),
                 conv2d_weight_grad(gy, x, w.shape, **options))
    for got, want in zip(found, (y, gx, gw)):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@settings(deadline=None, max_examples=150)
@given(st.data(), st.sampled_from(LAYOUTS))
def test_one_filter_a_channel(data, layout):
    """Rows of LANES places or more take a way of their own, in blocks of rows; with dilation those that are seen interleave."""
    pair = lambda lo, hi: data.draw(st.tuples(st.integers(lo, hi), st.integers(lo, hi)))  # noqa: E731
    kernel, dilation, padding, stride = pair(1, 5), pair(1, 4), pair(0, 6), (data.draw(st.integers(1, 3)), 1)
    least = [max(1, d * (k - 1) + 1 - 2 * p) for k, d, p in zip(kernel, dilation, padding)]
    rows, columns = data.draw(st.sampled_from([1, 5, 20, 400])), data.draw(st.integers(15, 60))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    x, w = rng.standard_normal((2, 3, least[0] + rows, least[1] + columns)), rng.standard_normal((3, 1, *kernel))
    check(x, w, dict(stride=stride, padding=padding, dilation=dilation, groups=3), np.float32, layout)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 3), st.sampled_from([1, 5, 16, 700]), st.sampled_from([3, 16, 40, 64, 150]), st.integers(1, 4), st.integers(1, 3),
       st.tuples(st.integers(1, 19), st.integers(1, 19)), st.booleans(), st.sampled_from(LAYOUTS), st.booleans())
def test_tiles_of_every_width(n, c, o, kernel, stride, size, grouped, layout, compiled):
    """The kernels in C have a branch for each number of pixels and channels that registers hold."""
    rng = np.random.default_rng(sum(size))
    groups, c = (2, 16) if grouped else (1, c)
    o = o // 16 * 16 * groups or o
    if o % groups:
        return
    x = rng.standard_normal((n, groups * c, *(side + kernel - 1 for side in size)))
    w = rng.standard_normal((o, c, kernel, kernel))
    with native.using(compiled), mock.patch.object(conv, "_columns_cost_less", return_value=False):
        check(x, w, dict(stride=(stride, 1), padding=(1, 0), dilation=(1, 1), groups=groups), np.float32, layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("by_columns", [False, True])
def test_many_channels(layout, by_columns):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((3, 260, 6, 7)), rng.standard_normal((150, 260, 3, 3))
    by_columns &= native.kernel("product") is not None
    with mock.patch.object(conv, "_columns_cost_less", return_value=by_columns):
        check(x, w, dict(stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1), np.float32, layout)


@pytest.mark.parametrize("module, nbytes, dtype", [
    (conv_blocks, 1, np.float64), (conv_blocks, 3000, np.float64), (conv_direct, 1, np.float32), (conv_direct, 3000, np.float32)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 1)])
def test_blocks_of_rows_when_an_image_exceeds_the_cache(monkeypatch, module, nbytes, dtype, stride):
    monkeypatch.setattr(module, "BLOCK_SIZE" if module is conv_direct else "BLOCK_BYTES", nbytes)
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((3, 16, 15, 13)), rng.standard_normal((16, 16, 3, 3))
    check(x, w, dict(stride=stride, padding=(1, 1), dilation=(1, 1), groups=1), dtype)


@pytest.mark.parametrize("groups, c, o", [(1, 1, 8), (1, 64, 64), (64, 1, 1), (2, 16, 16)])
def test_one_and_two_threads_agree(groups, c, o):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((20, groups * c, 14, 14)), rng.standard_normal((groups * o, c, 3, 3))
    results = []
    for number in (1, 2, 2):
        with threads_of(number):
            y = conv2d(x, w, padding=(1, 1), groups=groups)
            results.append((y, conv2d_input_grad(y, w, x.shape, padding=(1, 1), groups=groups),
                            conv2d_weight_grad(y, x, w.shape, padding=(1, 1), groups=groups)))
    for one, two, again in zip(*results):
        np.testing.assert_allclose(one, two, rtol=1e-10, atol=1e-9)
        np.testing.assert_array_equal(two, again)  # the same threads, the same bits


@pytest.mark.parametrize("images, groups", [(1, 1), (3, 1), (1, 2), (5, 1)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 1)])
def test_few_images_are_cut_for_all_threads(monkeypatch, images, groups, stride):
    monkeypatch.setattr(conv_direct, "PART_SIZE", 1)
    rng, results = np.random.default_rng(0), []
    x = rng.standard_normal((images, 32, 7, 9)).astype(np.float32)
    w = rng.standard_normal((32, 32 // groups, 3, 3)).astype(np.float32)
    settings = dict(padding=(1, 1), stride=stride, groups=groups)
    for number in (1, 2, 3, 16):
        with threads_of(number):
            y = conv2d(x, w, **settings)
            results.append((y, conv2d_input_grad(y, w, x.shape, **settings), conv2d_weight_grad(y, x, w.shape, **settings)))
            block = conv_direct._block(y.transpose(0, 2, 3, 1), x.transpose(0, 2, 3, 1), stride, groups)
            work = groups * -(-images // block[0]) * -(-y.shape[2] // block[1])
            assert number > 2 or work % number == 0
    for several in results[1:]:
        for one, other in zip(results[0], several):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-3)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 3), st.sampled_from([(1, 1, 5), (1, 3, 40), (1, 16, 16), (2, 8, 9)]), st.integers(1, 6), st.integers(1, 3),
       st.integers(0, 3), st.integers(1, 3), st.integers(0, 30), st.sampled_from(LAYOUTS))
def test_few_sequences(n, channels, kernel, stride, padding, dilation, more, layout):
    groups, c, o = channels
    rng, length = np.random.default_rng(0), max(1, dilation * (kernel - 1) + 1 - 2 * padding) + more
    x, w = rng.standard_normal((n, groups * c, 1, length)), rng.standard_normal((groups * o, c, 1, kernel))
    with threads_of(4):
        check(x, w, dict(stride=(1, stride), padding=(0, padding), dilation=(1, dilation), groups=groups), np.float32, layout)


@pytest.mark.skipif(native.kernel("correlate") is None, reason="no C compiler")
def test_one_sequence_is_cut_for_all_threads(monkeypatch):
    monkeypatch.setattr(conv_direct, "PART_SIZE", 1)
    x, w, cut = np.ones((1, 16, 1, 40), np.float32), np.ones((16, 16, 1, 3), np.float32), []
    block = conv_direct._block
    monkeypatch.setattr(conv_direct, "_block", lambda y, *rest: cut.append(-(-y.shape[1] // block(y, *rest)[1])) or block(y, *rest))
    with threads_of(4):
        y = conv2d(x, w)
        conv2d_input_grad(y, w, x.shape)
        conv2d_weight_grad(y, x, w.shape)
    assert cut == [4, 4, 4]


def test_channels_last_input_is_not_copied():
    x = layouts(np.random.default_rng(0).standard_normal((2, 8, 5, 5)), "channels last")
    w = np.eye(8)[:, :, None, None]
    np.testing.assert_array_equal(conv2d(x, w), x)
    g = conv._geometry("", x.shape, w.shape, (1, 1), (0, 0), (1, 1), 1)
    columns = conv_blocks._columns(x.transpose(0, 2, 3, 1), g, slice(0, 2), slice(0, 5), 5)
    assert np.shares_memory(columns, x)


def chosen(direction, n, channels, w_shape, size, dtype=np.float32, stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1):
    """The name of the algorithm."""
    g = conv._geometry("", (n, channels, *size), w_shape, stride, padding, dilation, groups)
    arrays = [np.broadcast_to(np.zeros(1, dtype), (n, *size, channels))] * 2
    function = conv.choose(direction, w_shape, g, (n, *g.output_size(size)), *arrays)
    return function.__module__.split(".")[-1] if function is not conv._mirrored_input_grad else "mirrored"


@pytest.mark.skipif(native.kernel("correlate") is None, reason="no C compiler")
@threads_of(2)
def test_algorithms_in_c():
    directions = "forward", "input_grad", "weight_grad"

    def all_of(*problem, **how):
        return [chosen(direction, *problem, **how).removeprefix("conv_") for direction in directions]

    size = (14, 14)
    assert all_of(8, 3, (64, 3, 3, 3), size) == ["direct"] * 3
    assert all_of(8, 3, (64, 3, 3, 3), size, stride=(2, 1), dilation=(1, 2)) == ["direct"] * 3
    assert all_of(8, 3, (64, 3, 3, 3), size, stride=(2, 1), dilation=(2, 1)) == ["direct", "blocks", "direct"]
    few = all_of(1, 512, (512, 512, 3, 3), (4, 4))
    assert few == (["columns", "direct", "columns"] if native.kernel("product") else ["direct"] * 3)
    assert all_of(1, 512, (512, 256, 3, 3), (4, 4), groups=2) == ["direct"] * 3
    assert all_of(1, 64, (64, 64, 3, 3), (8, 8)) == ["direct"] * 3  # too few pixels
    assert all_of(8, 16, (64, 16, 3, 3), size) == all_of(2, 16, (64, 16, 3, 3), (16, 16)) == ["winograd"] * 3
    assert all_of(8, 16, (64, 16, 3, 3), (5, 14)) == all_of(8, 16, (40, 16, 3, 3), size) == ["direct"] * 3
    assert all_of(8, 16, (64, 16, 5, 5), size) == all_of(8, 32, (64, 16, 3, 3), size, groups=2) == ["direct"] * 3
    assert all_of(8, 16, (64, 16, 3, 3), size, stride=(2, 1)) == all_of(8, 16, (64, 16, 3, 3), size, dilation=(1, 2)) == ["direct"] * 3
    assert all_of(8, 32, (32, 1, 3, 3), size, groups=32) == ["depthwise"] * 3
    assert all_of(8, 32, (64, 1, 3, 3), size, groups=32) == ["depthwise"] * 3
    assert all_of(8, 32, (64, 1, 3, 3), size, stride=(2, 1), groups=32) == ["depthwise"] * 3
    assert all_of(8, 32, (256, 1, 3, 3), size, groups=32) == ["direct"] * 3
    assert all_of(8, 3, (8, 3, 17, 16), (20, 20)) == ["blocks", "mirrored", "blocks"]


def test_algorithms_in_numpy():
    for dtype, on in ((np.float64, True), (np.float32, False)):
        with native.using(on):
            assert chosen("forward", 8, 3, (64, 3, 3, 3), (14, 14), dtype) == "conv_blocks"
            assert chosen("weight_grad", 8, 32, (32, 1, 3, 3), (14, 14), dtype, groups=32) == "conv_shifted"
            assert chosen("input_grad", 8, 32, (32, 1, 3, 3), (14, 14), dtype, groups=32) == "mirrored"
            assert chosen("input_grad", 8, 3, (64, 3, 3, 3), (14, 14), dtype, padding=(3, 0)) == "conv_blocks"


@pytest.mark.parametrize("groups, c, o", [(1, 2, 0), (1, 0, 3), (2, 1, 0), (2, 0, 1), (1, 0, 0)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_channels_or_no_filters(groups, c, o, stride, dtype):
    check(np.ones((2, groups * c, 5, 6)), np.ones((groups * o, c, 3, 2)),
          dict(stride=stride, padding=(1, 0), dilation=(1, 1), groups=groups), dtype)


@pytest.mark.parametrize("groups, c, o", [(1, 16, 16), (2, 1, 8), (2, 1, 2), (2, 1, 1)])
@pytest.mark.parametrize("gap", [(1 << 22, 1 << 22), (1 << 40, 1)])
def test_windows_that_cover_more_than_there_is_memory_for_are_an_error(groups, c, o, gap):
    x, w = np.ones((1, groups * c, 3, 3), np.float32), np.ones((groups * o, c, 3, 3), np.float32)
    options = dict(padding=gap, dilation=gap, groups=groups)
    for function, *arrays in ((conv2d, x, w), (conv2d_input_grad, np.ones((1, groups * o, 3, 3), np.float32), w, x.shape),
                              (conv2d_weight_grad, np.ones((1, groups * o, 3, 3), np.float32), x, w.shape)):
        with pytest.raises(MemoryError) if not (c == 1 and native.kernel("depthwise")) else contextlib.nullcontext():
            function(*arrays, **options)


def test_structs_are_read_from_c(tmp_path, monkeypatch):
    """Python fills the fields in the order in which C declares them."""
    (tmp_path / "pair.c").write_text("enum { N = 3, M = 12 };\nenum { N = 3 };\nenum { M = 13 };\n"
                                     "typedef struct { index_t b,\n    a; } Pair;\n"
                                     "typedef struct { index_t x; Pair pair; index_t y; } Two;\n")
    monkeypatch.setattr(declarations, "FOLDER", tmp_path)
    pair, two = declarations.struct("pair.c", "Pair"), declarations.struct("pair.c", "Two")
    rows = [declarations.record(two, y=y, x=1, pair=declarations.record(pair, a=2, b=3)) for y in (4, 5)]
    assert declarations.packed(two, *rows).tolist() == [[1, 3, 2, 4], [1, 3, 2, 5]]
    assert declarations.packed(two).shape == (0, 4)
    assert declarations.constant("pair.c", "N") == 3
    with pytest.raises(TypeError, match="'b', 'a'"):
        declarations.record(pair, a=1)
    with pytest.raises(ValueError):
        declarations.constant("pair.c", "M")  # of two values


def test_errors_name_the_operation_and_the_shapes():
    x, w = np.zeros((2, 3, 8, 8)), np.zeros((4, 3, 3, 3))
    with pytest.raises(ValueError, match=r"conv2d: weights \(4, 3, 3, 3\) with 1 groups .* \(2, 5, 8, 8\)"):
        conv2d(np.zeros((2, 5, 8, 8)), w)
    with pytest.raises(ValueError, match=r"conv2d: the window \(3, 3\).*larger than the images \(2, 8\)"):
        conv2d(np.zeros((2, 3, 2, 8)), w)
    with pytest.raises(ValueError, match=r"conv2d_input_grad: expected an output gradient of shape \(2, 4, 6, 6\)"):
        conv2d_input_grad(np.zeros((2, 4, 5, 6)), w, x.shape)
    with pytest.raises(TypeError, match="conv2d: expected floating-point arrays, got int64"):
        conv2d(x.astype(np.int64), w.astype(np.int64))
