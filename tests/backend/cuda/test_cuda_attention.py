"""Attention and its gradients, against the definition with its matrix of scores."""
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kernelchecks import close, item, normal, seeds
from minigrad.backend import cuda

few = settings(max_examples=10, deadline=None, derandomize=True)
counts = st.sampled_from([1, 3, 16, 17, 31, 33, 70])
MASKS = {"none": None, "full": (0, 1, 2, 3), "keys": (0, 3), "queries": (2,), "scores": (2, 3), "heads": (1, 2, 3)}


def definition(g, q, k, v, mask, causal, scale):
    q, k, v, g = (a.astype(np.float64) for a in (q, k, v, g))
    s = scale * q @ k.swapaxes(2, 3) + mask  # +inf share the whole
    if causal is not None:
        s = np.where(np.arange(k.shape[2]) <= np.arange(q.shape[2])[:, None] + causal, s, -np.inf)
    largest = np.maximum(s.max(3, keepdims=True), -1e300)
    e = np.exp(np.subtract(s, largest, out=np.zeros_like(s), where=s != largest))
    total = e.sum(3, keepdims=True)
    with np.errstate(divide="ignore"):
        lse = (largest + np.log(total))[..., 0]
    p = e / np.where(total == 0, 1, total)
    dp = g @ v.swapaxes(2, 3)
    ds = scale * p * (dp - (p * dp).sum(3, keepdims=True))
    return p @ v, lse, ds @ k, ds.swapaxes(2, 3) @ q, p.swapaxes(2, 3) @ g


@pytest.mark.parametrize("axes", MASKS.values(), ids=MASKS)
@few
@given(seeds, item, st.sampled_from([(1, 1), (2, 3)]), counts, counts, st.sampled_from([1, 5, 32, 40, 64, 67]),
       st.sampled_from([None, 0, 2, 40]), st.booleans())
@example(0, np.float32, (1, 2), 33, 70, 128, None, False)
@example(0, np.float64, (1, 2), 33, 40, 128, 0, False)
@example(0, np.float32, (2, 2), 70, 33, 3, 0, True)
@example(0, np.float32, (1, 2), 70, 103, 3, 33, True)
def test_attention(run, axes, seed, dtype, batch, queries, keys, width, causal, boolean):
    mask, additive = None, 0
    if axes is not None:
        shape = [size if i in axes else 1 for i, size in enumerate((*batch, queries, keys))]
        mask = normal(seed + 4, dtype, *shape)
        if boolean:
            mask = mask > 0  # with rows that see nothing
            additive = np.where(mask, 0, -np.inf)
        else:
            mask[mask > 1], mask[mask < -1.8] = -np.inf, np.inf
            additive = mask.astype(np.float64)
    check(run, drawn(seed, dtype, *batch, queries, keys, width), mask, additive, causal)


def drawn(seed, dtype, n, heads, queries, keys, width):
    """Random g, q, k and v."""
    return [normal(seed + i, dtype, n, heads, rows, width) for i, rows in enumerate((queries, queries, keys, keys))]


def check(run, arrays, mask, additive, causal):
    """Runs both kernels and compares them with the definition."""
    g, q, k, v = arrays
    y, lse, dq, dk, dv = definition(g, q, k, v, additive, causal, 0.3)
    y_, lse_ = run(cuda.attention, q, k, v, mask, causal, 0.3)
    close(y_, y, scale=10)
    close(lse_.sum(0), lse, scale=30)
    grads = run(cuda.attention_backward, g, q, k, v, y.astype(q.dtype), lse_, mask, causal, 0.3)
    for actual, expected in zip(grads, (dq, dk, dv)):
        close(actual, expected, scale=100)


@pytest.mark.parametrize("width", [32, 33, 64, 65, 128])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("queries, keys, causal", [(32, 33, None), (65, 64, -1), (9, 16, 8), (17, 8, 0)])
def test_edges_of_tiles_and_of_widths(run, width, dtype, queries, keys, causal):
    check(run, drawn(0, dtype, 1, 2, queries, keys, width), None, 0, causal)


def test_views_that_begin_anywhere(run):
    buffer = normal(0, np.float32, 1 + 4 * 33 * 8)

    def from_views(function, buffer, *arguments, causal):
        return function(*buffer[1:].reshape(4, 1, 1, 33, 8)[-3 if function is cuda.attention else -4:], *arguments, causal=causal)

    g, q, k, v = buffer[1:].reshape(4, 1, 1, 33, 8)
    y, lse, *grads = definition(g, q, k, v, 0, 3, 8 ** -0.5)
    y_, lse_ = run(from_views, cuda.attention, buffer, causal=3)
    close(y_, y, scale=10)
    for actual, expected in zip(run(from_views, cuda.attention_backward, buffer, y_, lse_, causal=3), grads):
        close(actual, expected, scale=100)


def test_large_scores_do_not_overflow(run):
    q, k = np.full((1, 1, 2, 4), 100.0), np.full((1, 1, 40, 4), 100.0)
    k[:, :, 35:] = 101
    v = normal(0, np.float64, 1, 1, 40, 4)
    y, lse = run(cuda.attention, q, k, v)
    close(y, np.broadcast_to(v[:, :, 35:].mean(2, keepdims=True), y.shape))
    close(lse[0], np.full((1, 1, 2), 20200))
    close(lse[1], np.full((1, 1, 2), np.log(5)))


def test_a_query_that_sees_nothing_gets_0_whatever_the_values(run):
    q, v = normal(0, np.float32, 1, 1, 3, 4), np.full((1, 1, 5, 4), np.nan, np.float32)
    y, lse = run(cuda.attention, q, np.ones_like(v), v, causal=-2)
    assert (y[..., :2, :] == 0).all() and (lse[..., :2] == -np.inf).all() and np.isnan(y[..., 2, :]).all()


@pytest.mark.parametrize("causal, same", [(2**31 - 1, None), (2**40, None), (-2**31, -3), (-2**40, -3)])
def test_a_reach_beyond_all_keys(run, causal, same):
    arrays = drawn(0, np.float64, 1, 2, 3, 5, 4)
    y, lse = run(cuda.attention, *arrays[1:], causal=same)
    for actual, expected in zip(run(cuda.attention, *arrays[1:], causal=causal), (y, lse)):
        np.testing.assert_array_equal(actual, expected)
    grads = [run(cuda.attention_backward, *arrays, y, lse, causal=c) for c in (causal, same)]
    for actual, expected in zip(*grads):
        np.testing.assert_array_equal(actual, expected)


def test_the_default_scale_is_by_the_root_of_the_width(run):
    q, k, v = (normal(i, np.float64, 1, 1, 5, 16) for i in range(3))
    close(run(cuda.attention, q, k, v)[0], run(cuda.attention, q, k, v, scale=0.25)[0])


def test_no_queries_or_no_keys(run):
    x, none = normal(0, np.float64, 1, 2, 3, 4), np.zeros((1, 2, 0, 4))
    assert run(cuda.attention, none, x, x)[0].shape == none.shape
    y, lse = run(cuda.attention, x, none, none)
    close(y, np.zeros(x.shape))
    assert (lse == -np.inf).all()
    dq, dk, dv = run(cuda.attention_backward, x, x, none, none, y, lse)
    close(dq, np.zeros(x.shape))
    _, dk, dv = run(cuda.attention_backward, none, none, x, x, none, np.zeros((2, 1, 2, 0)))
    close(dk, np.zeros(x.shape))
    close(dv, np.zeros(x.shape))


def test_a_wider_head_is_refused(run):
    x = np.zeros((1, 1, 2, 129))
    with pytest.raises(ValueError, match="at most 128"):
        run(cuda.attention, x, x, x)
