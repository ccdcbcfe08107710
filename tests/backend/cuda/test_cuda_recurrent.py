"""Recurrent units, against their definitions in float64."""
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kernelchecks import close, normal, quick, real, seeds

import minigrad as mg
from minigrad.backend import cuda
from minigrad.ops import recurrent

# What is not drawn often: one number each, more than a block of them, more times than one.
sizes = st.tuples(st.sampled_from([1, 2, 5]), st.sampled_from([1, 2, 9]), st.sampled_from([1, 3, 32, 33]))


def drawn(seed, dtype, shapes, flipped):
    """Arrays scaled by their rows, in another memory order if `flipped`, and as float64."""
    arrays = [(normal(seed + i, np.float64, *shape) / max(1, shape[-1]) ** 0.5).astype(dtype) for i, shape in enumerate(shapes)]
    return [a[..., ::-1].copy()[..., ::-1] if flipped else a for a in arrays], [a.astype(np.float64) for a in arrays]


def defined(definition, cotangents, *arrays, **settings):
    """The outputs, and the gradients in the arrays. A cotangent of an output is None where nothing reads it."""
    xs = [mg.Tensor(a, requires_grad=True) for a in arrays]
    outs = definition(*xs, **settings)
    outs = outs if type(outs) is tuple else (outs,)
    sum((y * g).sum() for y, g in zip(outs, cotangents) if g is not None).backward()
    return [y.numpy() for y in outs], [x.grad.numpy() for x in xs]


def all_close(actual, expected):
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected):
        close(a, b, scale=max(1, np.abs(b).max()), factor=10)


@quick
@given(seeds, real, sizes, st.booleans(), st.booleans(), st.booleans())
@example(0, np.float64, (3, 9, 33), True, False, False)
@example(1, np.float64, (3, 9, 33), False, True, True)
def test_rnn(run, seed, dtype, sizes, rectified, reverse, flipped):
    length, n, size = sizes
    arrays, exact = drawn(seed, dtype, [(length, n, size), (n, size), (size, size), (length, n, size)], flipped)
    y = run(cuda.rnn, *arrays[:3], rectified, reverse)
    outs, grads = defined(recurrent._rnn, exact[3:], *exact[:3], rectified=rectified, reverse=reverse)
    all_close([y], outs)
    gx, h, weight, dy = arrays
    all_close(run(cuda.rnn_backward, dy, h, weight, y, rectified, reverse), grads)


@quick
@given(seeds, real, sizes, st.booleans(), st.booleans(), st.booleans())
@example(0, np.float64, (3, 9, 33), True, False, False)
@example(1, np.float64, (3, 9, 33), False, True, True)
def test_gru(run, seed, dtype, sizes, biased, reverse, flipped):
    length, n, size = sizes
    shapes = [(length, n, 3 * size), (n, size), (3 * size, size), (3 * size,), (length, n, size)]
    (*arrays, dy), (*exact, exact_dy) = drawn(seed, dtype, shapes, flipped)
    y, *residuals = run(cuda.gru, *arrays[:3], arrays[3] if biased else None, reverse)
    outs, grads = defined(recurrent._gru, [exact_dy], *exact[:3 + biased], reverse=reverse)
    all_close([y], outs)
    all_close(run(cuda.gru_backward, dy, *arrays[1:3], y, *residuals, reverse)[:3 + biased], grads)


@quick
@given(seeds, real, sizes, st.sampled_from(["y", "c", "both"]), st.booleans(), st.booleans())
@example(0, np.float64, (3, 9, 33), "both", False, False)
@example(1, np.float64, (3, 9, 33), "both", True, True)
def test_lstm(run, seed, dtype, sizes, read, reverse, flipped):
    length, n, size = sizes
    shapes = [(length, n, 4 * size), (n, size), (n, size), (4 * size, size), (length, n, size), (n, size)]
    (*arrays, dy, dc), (*exact, exact_dy, exact_dc) = drawn(seed, dtype, shapes, flipped)
    y, c, *residuals = run(cuda.lstm, *arrays, reverse)
    cotangents = [exact_dy if read != "c" else None, exact_dc if read != "y" else None]
    outs, grads = defined(recurrent._lstm, cotangents, *exact, reverse=reverse)
    all_close([y, c], outs)
    dy, dc = dy if read != "c" else None, dc if read != "y" else None
    before = dc if dc is None else dc.copy()
    all_close(run(cuda.lstm_backward, dy, dc, *arrays[1:], y, *residuals, reverse), grads)
    np.testing.assert_array_equal(dc, before)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("name", ["rnn", "relu", "gru", "lstm"])
def test_numbers_that_are_none_stay_with_their_sample(run, name, bad):
    gates, states = {"gru": (3, 1), "lstm": (4, 2)}.get(name, (1, 1))
    shapes = [(3, 4, gates * 5), *[(4, 5)] * states, (gates * 5, 5)]
    arrays, exact = drawn(0, np.float32, shapes, False)
    arrays[0][1, 2, 3] = exact[0][1, 2, 3] = bad
    settings = {} if name in ("gru", "lstm") else {"rectified": name == "relu"}
    function = {"gru": lambda gx, h, w, reverse: cuda.gru(gx, h, w, None, reverse), "lstm": cuda.lstm}.get(name, cuda.rnn)
    with np.errstate(all="ignore"):
        y = run(function, *arrays, **settings, reverse=False)
        outs = getattr(recurrent, "_rnn" if name == "relu" else f"_{name}")(*map(mg.Tensor, exact), **settings, reverse=False)
    y = y if name in ("rnn", "relu") else y[0]
    expected = (outs[0] if type(outs) is tuple else outs).numpy()
    close(y, expected, scale=1 if name != "relu" or bad != 1e30 else 1e30, factor=10)
