"""Optimiser steps, moving averages, dropout, scatter-add."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernelchecks import close, lengths, normal, quick, real, seeds
from minigrad.backend import cuda


def setting(value, dtype, on_device):
    return np.array([value], dtype) if on_device else value


@quick
@given(seeds, real, lengths, st.sampled_from([0.0, 0.9]), st.sampled_from([0.0, 0.1]), st.booleans(), st.booleans())
def test_sgd_step(run, seed, dtype, n, momentum, decay, nesterov, on_device):
    p, g, v = (normal(seed + i, dtype, n) for i in range(3))
    step = g + decay * p
    moved = momentum * v + step
    direction = step if not momentum else step + momentum * moved if nesterov else moved
    expected = p - 0.5 * direction
    run(cuda.sgd_step, p, g, v if momentum else None, setting(0.5, dtype, on_device), momentum, decay, nesterov)
    close(p, expected)
    if momentum:
        close(v, moved)


@quick
@given(seeds, real, lengths, st.sampled_from([0.0, 0.1]), st.booleans(), st.booleans(), st.sampled_from([1, 2, 1000]))
def test_adam_step(run, seed, dtype, n, decay, decoupled, on_device, t):
    p, g, m, v = (normal(seed + i, dtype, n).astype(np.float64) for i in range(4))
    v = v**2
    if dtype == np.float32:
        p, g, m, v = (a.astype(dtype).astype(np.float64) for a in (p, g, m, v))
    grad = g if decoupled else g + decay * p
    m1, v1 = 0.9 * m + 0.1 * grad, 0.99 * v + 0.01 * grad**2
    kept = p * (1 - 0.5 * decay) if decoupled else p
    expected = kept - 0.5 * (m1 / (1 - 0.9**t)) / (np.sqrt(v1 / (1 - 0.99**t)) + 0.01)
    p, g, m, v = (a.astype(dtype) for a in (p, g, m, v))
    run(cuda.adam_step, p, g, m, v, setting(0.5, dtype, on_device), 0.9, 0.99, 0.01, decay, decoupled,
        setting(t, np.int32, on_device))
    close(m, m1)
    close(v, v1)
    close(p, expected, factor=3)


def test_the_first_steps_of_adam_keep_their_digits(run):
    p, g, m, v = np.zeros(5, np.float32), normal(0, np.float32, 5), np.zeros(5, np.float32), np.zeros(5, np.float32)
    run(cuda.adam_step, p, g, m, v, 1.0, 0.9, 0.999, 0.0, 0.0, False, 1)
    close(p, -np.sign(g))


@quick
@given(seeds, real, lengths, st.booleans())
def test_ema_step(run, seed, dtype, n, on_device):
    average, p = normal(seed, dtype, n), normal(seed + 1, dtype, n)
    expected = 0.9 * average + 0.1 * p
    run(cuda.ema_step, average, p, setting(0.9, dtype, on_device))
    close(average, expected)


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
@pytest.mark.parametrize("counter, stream, seed, words", [
    (0, 0, 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    (2**64 - 1, 2**64 - 1, 2**64 - 1, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (0x85a308d3243f6a88, 0x0370734413198a2e, 0x299f31d0a4093822, "d16cfe09 94fdcceb 5001e420 24126ea1")])
def test_philox_gives_the_known_answers(run, counter, stream, seed, words):
    expected = [int(w, 16) for w in words.split()]
    assert philox(counter, stream, seed) == expected
    assert run(cuda.philox_words, 4, seed, stream, counter).tolist() == expected


@pytest.mark.parametrize("n", [0, 1, 3, 4, 1027])
def test_philox_counts(run, n):
    expected = [w for i in range(-(-n // 4)) for w in philox(5 + i, 7, 9)][:n]
    assert run(cuda.philox_words, n, 9, 7, 5).tolist() == expected


@quick
@given(seeds, real, lengths, st.sampled_from([0.0, 0.3, 0.5]), st.booleans())
def test_dropout(run, seed, dtype, n, p, on_device):
    x = normal(seed, dtype, n)
    y = run(cuda.dropout, x, p, seed, 3, np.array([2**33], np.uint64) if on_device else None)
    words = np.array([w for i in range(-(-n // 4)) for w in philox(i, 3 + on_device * 2**33, seed)][:n])
    close(y, np.where((words >> 8) / 2**24 >= dtype(p), x / (1 - p), 0))


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


def test_embedding_backward(run):
    g, index = normal(0, np.float64, 2, 3, 4), np.array([[0, 2, 2], [4, 0, 2]])
    expected = np.zeros((5, 4))
    np.add.at(expected, index, g)
    close(run(cuda.embedding_backward, g, index, 5), expected)
