"""Optimiser steps, moving averages, dropout, scatter-add."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernelchecks import close, lengths, normal, quick, real, seeds
from minigrad.backend import cuda


def setting(value, dtype, on_device):
    return np.array([value], dtype) if on_device else value


# Lengths of several parameters, with none, one, a block's worth and more of elements.
several = st.lists(st.sampled_from([0, 1, 33, 300, 2047, 2048, 2049, 5000]), min_size=1, max_size=4)


def draws(seed, dtype, sizes, kinds):
    """`kinds` lists of arrays of these sizes."""
    return [[normal(seed + 10 * i + k, dtype, n) for k, n in enumerate(sizes)] for i in range(kinds)]


@quick
@given(seeds, real, several, st.sampled_from([0.0, 0.9]), st.sampled_from([0.0, 0.1]), st.booleans(), st.booleans())
def test_sgd_step(run, seed, dtype, sizes, momentum, decay, nesterov, on_device):
    ps, gs, vs = draws(seed, dtype, sizes, 3)
    steps = [g + decay * p for p, g in zip(ps, gs)]
    moved = [momentum * v + step for v, step in zip(vs, steps)]
    expected = [p - 0.5 * (step if not momentum else step + momentum * m if nesterov else m)
                for p, step, m in zip(ps, steps, moved)]
    run(cuda.sgd_step, ps, gs, vs if momentum else [], setting(0.5, dtype, on_device), momentum, decay, nesterov)
    for p, e in zip(ps, expected):
        close(p, e)
    if momentum:
        for v, m in zip(vs, moved):
            close(v, m)


@quick
@given(seeds, real, several, st.sampled_from([0.0, 0.1]), st.booleans(), st.booleans(), st.sampled_from([1, 2, 1000]))
def test_adam_step(run, seed, dtype, sizes, decay, decoupled, on_device, t):
    ps, gs, ms, vs = draws(seed, dtype, sizes, 4)
    vs = [v**2 for v in vs]
    expected = []
    for p, g, m, v in zip(*([a.astype(np.float64) for a in many] for many in (ps, gs, ms, vs))):
        grad = g if decoupled else g + decay * p
        m1, v1 = 0.9 * m + 0.1 * grad, 0.99 * v + 0.01 * grad**2
        decayed = p * (1 - 0.5 * decay) if decoupled else p
        expected.append((decayed - 0.5 * (m1 / (1 - 0.9**t)) / (np.sqrt(v1 / (1 - 0.99**t)) + 0.01), m1, v1))
    run(cuda.adam_step, ps, gs, ms, vs, setting(0.5, dtype, on_device), 0.9, 0.99, 0.01, decay, decoupled,
        setting(t, np.int32, on_device))
    for p, m, v, (p1, m1, v1) in zip(ps, ms, vs, expected):
        close(m, m1)
        close(v, v1)
        close(p, p1, factor=3)


def test_the_first_steps_of_adam_keep_their_digits(run):
    p, g, m, v = np.zeros(5, np.float32), normal(0, np.float32, 5), np.zeros(5, np.float32), np.zeros(5, np.float32)
    run(cuda.adam_step, [p], [g], [m], [v], 1.0, 0.9, 0.999, 0.0, 0.0, False, 1)
    close(p, -np.sign(g))


@quick
@given(seeds, real, several, st.booleans())
def test_ema_step(run, seed, dtype, sizes, on_device):
    averages, ps = draws(seed, dtype, sizes, 2)
    expected = [0.9 * a + 0.1 * p for a, p in zip(averages, ps)]
    run(cuda.ema_step, averages, ps, setting(0.9, dtype, on_device))
    for a, e in zip(averages, expected):
        close(a, e)


@quick
@given(real, st.booleans())
def test_infinite_numbers_do_not_become_nan(run, dtype, flag):
    p, average, zeros = np.array([-np.inf, 1], dtype), np.array([-np.inf, 1], dtype), [np.zeros(2, dtype) for _ in range(3)]
    run(cuda.sgd_step, [p], [zeros[0]], [zeros[1]], 0.1, 0.9, 0.0, flag)
    run(cuda.adam_step, [p], [zeros[0]], [zeros[1]], [zeros[2]], 0.1, 0.9, 0.99, 0.01, 0.0, flag, 1)
    run(cuda.ema_step, [average], [p], 0.9)
    for a in (p, average):
        np.testing.assert_array_equal(a, [-np.inf, 1])


def test_more_parameters_than_one_launch_holds(run):
    ps, gs = ([np.full(1 + i % 3, value, np.float64) for i in range(200)] for value in (1.0, 2.0))
    run(cuda.sgd_step, ps, gs, [], 0.25)
    assert all((p == 0.5).all() for p in ps)


def philox(counter, stream, seed):
    """Philox 4x32-10 of one counter, in Python's integers, after Salmon et al. 2011."""
    low, high = (lambda x: x & 0xffffffff), (lambda x: x >> 32)
    c, k = [low(counter), high(counter), low(stream), high(stream)], [low(seed), high(seed)]
    for i in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        k0, k1 = low(k[0] + i * 0x9E3779B9), low(k[1] + i * 0xBB67AE85)
        c = [high(b) ^ c[1] ^ k0, low(b), high(a) ^ c[3] ^ k1, low(a)]
    return c


# The known answers published with the generator (Random123, kat_vectors).
# The kernels use stream 0; through these the function above, which they are compared with, is known to be right.
@pytest.mark.parametrize("counter, stream, seed, words", [
    (0, 0, 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    (2**64 - 1, 2**64 - 1, 2**64 - 1, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (0x85a308d3243f6a88, 0x0370734413198a2e, 0x299f31d0a4093822, "d16cfe09 94fdcceb 5001e420 24126ea1")])
def test_philox_gives_the_known_answers(counter, stream, seed, words):
    assert philox(counter, stream, seed) == [int(w, 16) for w in words.split()]


@pytest.mark.parametrize("n", [0, 1, 3, 4, 1027])
@pytest.mark.parametrize("first, seed", [(5, 9), (2**63 + 7, 2**64 - 5)])
def test_philox_words(run, n, first, seed):
    expected = [w for i in range(-(-n // 4)) for w in philox(first + i, 0, seed)][:n]
    assert run(cuda.philox_words, n, seed, first).tolist() == expected
    assert run(cuda.philox_words, n, np.array([seed], np.uint64), first).tolist() == expected


@quick
@given(seeds, real, lengths, st.sampled_from([0.0, 0.3, 0.5]), st.booleans())
def test_dropout(run, seed, dtype, n, p, on_device):
    x, seed = normal(seed, dtype, n), seed + (2**33 if on_device else 0)
    y = run(cuda.dropout, x, p, np.array([seed], np.uint64) if on_device else seed)
    words = np.array([w for i in range(-(-n // 4)) for w in philox(i, 0, seed)][:n])
    close(y, np.where((words >> 8) / 2**24 >= dtype(p), x / (1 - p), 0))


@pytest.mark.parametrize("start", range(5))
def test_dropout_of_a_view(run, start):
    """Four numbers are read at once where the view begins at a fourth."""
    x = np.arange(1, 40, dtype=np.float32)
    close(run(lambda x: cuda.dropout(x[start:], 0.5, 3), x), run(cuda.dropout, x[start:].copy(), 0.5, 3))


def test_dropout_keeps_a_number_that_equals_p(run):
    p = (philox(0, 0, 5)[0] >> 8) / 2**24
    assert run(cuda.dropout, np.ones(1), p, 5)[0] == 1 / (1 - p)


@quick
@given(seeds, real, st.integers(0, 60), st.sampled_from([1, 2, 5]), st.sampled_from([1, 3, 33]))
def test_index_add(run, seed, dtype, n, rows, columns):
    index = np.random.default_rng(seed).integers(-rows, rows, n)
    updates, out = normal(seed, dtype, n, columns), normal(seed + 1, dtype, rows, columns)
    expected = out.astype(np.float64)
    np.add.at(expected, index, updates)
    run(cuda.index_add, out, index, updates)
    close(out, expected, scale=20)


def test_index_add_skips_what_is_outside(run):
    out = np.zeros((3, 2))
    run(cuda.index_add, out, np.array([3, -4, 2, -3]), np.ones((4, 2)))
    close(out, [[1, 1], [0, 0], [1, 1]])

