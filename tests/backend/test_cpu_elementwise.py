"""ReLU and the optimisers' steps on the CPU against their formulas."""

import itertools
import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.backend import erf, path, where
from minigrad.backend.cpu import elementwise, native, threads
from minigrad.backend.cpu.elementwise import adam_step, empty_like, relu, relu_backward, sgd_step
from minigrad.backend.cpu.index import add_at, read
from minigrad.optim import ema


@pytest.fixture(autouse=True, params=[1 << 20, 256])
def block_bytes(request, monkeypatch):
    monkeypatch.setattr(elementwise, "BLOCK_BYTES", request.param)


def arrays(shape, n, dtype=np.float64, seed=0):
    return [np.random.default_rng(seed + i).standard_normal(shape).astype(dtype) for i in range(n)]


VIEWS = [lambda a: a, lambda a: a.transpose(), lambda a: a[::-1, ::2], lambda a: a[:0]]


@pytest.mark.parametrize("view", VIEWS)
def test_relu(view):
    x, gy = (view(a) for a in arrays((12, 34), 2))
    y = relu(x)
    np.testing.assert_array_equal(y, np.maximum(x, 0))
    np.testing.assert_array_equal(relu_backward(gy, y), np.where(x > 0, gy, 0))
    np.testing.assert_array_equal(relu_backward(np.asfortranarray(gy), y), np.where(x > 0, gy, 0))


def test_relu_keeps_nan_and_scalars():
    assert np.isnan(relu(np.array([np.nan, 1.0]))[0])
    assert relu(np.array(-3.0)).shape == ()


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_the_relu_cut_off_hides_a_bad_gradient(bad, compiled):
    y, gy = np.array([0, 1, 0, 2], np.float32), np.array([bad, 1, 2, bad], np.float32)
    with native.using(compiled):
        np.testing.assert_array_equal(relu_backward(gy, y), [0, 1, 0, bad])


LARGE = (130, 140)  # from 1 << 14 numbers a kernel selects


@pytest.mark.parametrize("view", [*VIEWS[:3], lambda a: a[:1], lambda a: a[:, :1], lambda a: a[0], lambda a: a[0, 0]])
@pytest.mark.parametrize("of", [0, 1, 2])
def test_a_selection_is_what_numpy_selects(view, of):
    given = arrays(LARGE, 3, np.float32)
    given[1][::3], given[2][::5] = np.nan, np.inf
    given = [view(a) if i == of else VIEWS[1](a) if view is VIEWS[1] else a[::-1, ::2] if view is VIEWS[2] else a
             for i, a in enumerate(given)]
    condition, x, y = given[0] > 0, *given[1:]
    for p, q in ((x, y), (x, np.float32(2)), (np.float32(-0.0), y), (np.float32(1), np.float32(2))):
        out = where(condition, p, q)
        np.testing.assert_array_equal(out, np.where(condition, p, q))
        assert out.dtype == np.float32 and not np.shares_memory(out, x) and not np.shares_memory(out, y)


def test_a_selection_has_the_memory_order_of_its_numbers():
    x = np.zeros((2, 100, 10, 20), np.float32).transpose(0, 3, 1, 2)
    assert where(x > 0, np.float32(1), x).strides == x.strides == where(x == 0, x, x).strides


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64"])
@pytest.mark.parametrize("view", VIEWS)
def test_erf_in_blocks(view, dtype, monkeypatch):
    x = view(4 * arrays((12, 34), 1)[0]).astype(dtype)
    whole = erf.erf(x)
    monkeypatch.setattr(erf, "BLOCK", 7)
    np.testing.assert_array_equal(erf.erf(x), whole)
    np.testing.assert_allclose(whole, np.vectorize(math.erf, otypes=[float])(x), rtol=1e-3 if dtype == "float16" else 1e-6)


def test_empty_like_keeps_the_memory_order():
    x = np.zeros((2, 3, 4, 5)).transpose(0, 3, 1, 2)
    assert empty_like(x).strides == x.strides and empty_like(x).shape == x.shape


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("wd", [0.0, 0.1])
def test_adam_step(view, decoupled, wd):
    p, m, v, *gs = (view(a) for a in arrays((12, 34), 6))
    m[...], v[...] = 0, 0
    lr, b1, b2, eps = 0.01, 0.9, 0.99, 1e-8
    want, m_want, v_want = p.copy(), m.copy(), v.copy()
    for t, g in enumerate(gs, 1):
        kept = g.copy()
        adam_step([p], [g], [m], [v], lr, b1, b2, eps, wd, decoupled, t)
        np.testing.assert_array_equal(g, kept)
        want *= 1 - lr * wd * decoupled
        g = g + wd * want * (not decoupled)
        m_want = b1 * m_want + (1 - b1) * g
        v_want = b2 * v_want + (1 - b2) * g**2
        want -= lr * (m_want / (1 - b1**t)) / (np.sqrt(v_want / (1 - b2**t)) + eps)
        for a, b in ((p, want), (m, m_want), (v, v_want)):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("momentum, nesterov", [(0.0, False), (0.9, False), (0.9, True)])
@pytest.mark.parametrize("wd", [0.0, 0.1])
def test_sgd_step(view, momentum, nesterov, wd):
    p, v, *gs = (view(a) for a in arrays((12, 34), 5))
    v[...] = 0
    want, v_want = p.copy(), v.copy()
    for g in gs:
        kept = g.copy()
        sgd_step([p], [g], [v] if momentum else [], 0.1, momentum, wd, nesterov)
        np.testing.assert_array_equal(g, kept)
        g = g + wd * want
        v_want = momentum * v_want + g
        want -= 0.1 * (g + momentum * v_want if nesterov else v_want)
        np.testing.assert_allclose(p, want, rtol=1e-10, atol=1e-12)


def test_steps_keep_the_type():
    p, g, m, v = arrays((5,), 4, np.float32)
    adam_step([p], [g], [m], [abs(v)], 0.01, 0.9, 0.999, 1e-8, 0.1, True, 1)
    sgd_step([p], [g], [v], 0.01, 0.9, 0.1, True)
    assert p.dtype == m.dtype == v.dtype == np.float32


@pytest.mark.parametrize("step", [lambda ps: optim.SGD(ps, 0.1), lambda ps: optim.SGD(ps, 0.1, 0.9, 0.1, True), lambda ps: optim.Adam(ps)])
def test_parameters_that_a_kernel_takes_together_step_as_alone(step):
    whole = arrays((12, 34), 2, np.float32)
    parts = [lambda a: a[0, :5], lambda a: a[1], lambda a: a[2:4, ::2], lambda a: a[4:7].T, lambda a: a[8:9, 3], lambda a: a[9:]]
    lone = [a.copy() for a in whole]
    ps = [[nn.Parameter(part(p)) for part in parts] for p in (whole[0], lone[0])]
    for one, other, part in zip(*ps, parts):
        one.grad, other.grad = mg.Tensor(part(whole[1])), mg.Tensor(part(lone[1]))
    ps[0][1].grad = ps[1][1].grad = mg.Tensor(np.broadcast_to(np.float32(3), 34))
    together, each = step(ps[0]), [step([p]) for p in ps[1]]
    for _ in range(2):
        together.step()
        with native.using(False):
            for optimizer in each:
                optimizer.step()
    np.testing.assert_allclose(whole[0], lone[0], rtol=2e-6, atol=1e-7)
    np.testing.assert_array_equal(whole[1], lone[1])


@pytest.mark.skipif(not native.kernel("ema_step"), reason="no C compiler")
@pytest.mark.parametrize("view", VIEWS[:3])
def test_averages_move_by_a_kernel_as_by_the_definition(view):
    average, p = arrays((12, 34), 2, np.float32)
    average[2], average[4], p[4], p[6] = np.inf, np.nan, -np.inf, np.nan
    kept, right = average.copy(), average.copy()
    for a, q in zip(view(right).T, view(p).T):
        ema._moved(a, q, 0.75)
    assert path("ema_step", [view(average), view(p)]) is not None
    elementwise.ema_step([view(average), view(kept)[:0]], [view(p), view(p)[:0]], 0.75)
    np.testing.assert_allclose(average, right, rtol=1e-6)


@pytest.mark.parametrize("native_kernels", [True, False])
@pytest.mark.parametrize("kind", ["mapped", "buffer", "flag"])
@pytest.mark.parametrize("make", [lambda p: optim.Adam([p]), lambda p: optim.AdamW([p]), lambda p: optim.SGD([p], 0.1),
                                  lambda p: optim.SGD([p], 0.1, momentum=0.9), lambda p: optim.LAMB([p]), lambda p: optim.LARS([p], 0.1)])
def test_read_only_parameters_are_refused_not_written(tmp_path, kind, make, native_kernels):
    values = np.arange(6, dtype=np.float32)
    if kind == "mapped":
        np.save(tmp_path / "w.npy", values)
        array = np.load(tmp_path / "w.npy", mmap_mode="r")
    elif kind == "buffer":
        array = np.frombuffer(values.tobytes(), np.float32)
    else:
        array = values.copy()
        array.flags.writeable = False
    with native.using(native_kernels):
        p = nn.Parameter(array)
        p.grad = mg.Tensor(np.ones(6, np.float32))
        optimizer = make(p)
        with pytest.raises(ValueError, match="read-only"):
            optimizer.step()
    np.testing.assert_array_equal(p.numpy(), values)


def _numbers(n, *shape):
    return np.random.default_rng(n).integers(-n, n, shape)


INDICES = {  # of arrays of each shape; first those that name rows
    "rows": ((7, 9), _numbers(7, 20)), "bytes": ((7, 9), _numbers(7, 4, 3).astype(np.int8)), "one row": ((7, 9), np.array(3)),
    "tuple": ((7, 9), (_numbers(7, 4, 3),)), "unsigned": ((7, 9), abs(_numbers(7, 4)).astype(np.uint64)),
    "after an axis": ((3, 7, 9), (slice(None), _numbers(7, 6))), "of two axes": ((3, 7, 9), (_numbers(3, 4, 1), _numbers(7, 6))),
    "beside a number": ((2, 3, 7, 9), (slice(None), np.int64(-1), _numbers(7, 6))),
    "elements": ((7,), _numbers(7, 20)), "elements of two axes": ((7, 9), (_numbers(7, 100, 50), _numbers(9, 50))),
    "elements after an axis": ((3, 7, 9), (slice(None), _numbers(7, 5000), _numbers(9, 5000))),
    "elements beside a number": ((3, 7, 9), (_numbers(3, 5000, 1), 2, _numbers(9, 1, 2))), "column": ((7, 9), (slice(None), _numbers(9, 6))),
    "middle": ((3, 7, 9), (slice(None), _numbers(7, 2, 2))), "none": ((7, 9), np.zeros(0, int)), "mask": ((7, 9), np.arange(7) % 2 == 0),
    "after a slice": ((3, 7, 9), (slice(0, 2), _numbers(7, 6))), "last": ((3, 7, 9), (Ellipsis, _numbers(9, 4))),
    "around an axis": ((3, 7, 9), (_numbers(3, 6), slice(None), _numbers(9, 6))), "new axis": ((3, 7, 9), (None, _numbers(3, 4))), "basic": ((7, 9), (2,)),
}


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "bool"])
@pytest.mark.parametrize("name", INDICES)
def test_adding_at_an_index_is_what_numpy_does(name, dtype, compiled):
    shape, index = INDICES[name]
    x, values = (3 * a for a in arrays(shape, 2))
    x, values = x.astype(dtype), np.resize(values, x[index].shape).astype(dtype)
    want = x.copy()
    np.add.at(want, index, values)
    with native.using(compiled):
        for start in (x.copy(), x.copy(order="F")):
            assert add_at(start, np.asfortranarray(values), index) is start
            np.testing.assert_allclose(start, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("index", [
    (np.arange(6000), _numbers(9, 6000)), (_numbers(6000, 5000), _numbers(9, 5000)), (slice(None), np.array([1, -1, 1])),
    (_numbers(6000, 3000)[:, None], np.array([3, 1, 3])), (np.full(5000, 7), np.full(5000, 3))],
    ids=["one of each row", "any", "of all rows", "crossed", "one"])
def test_adding_single_numbers_is_what_numpy_does(index):
    x, want = np.zeros((6000, 9), np.float32), np.zeros((6000, 9))
    values = np.random.default_rng(0).random(x[index].shape, np.float32)
    np.add.at(want, index, values)
    np.testing.assert_allclose(add_at(x, values, index), want, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "int16", "bool"])
@pytest.mark.parametrize("name", [name for name in INDICES if isinstance(INDICES[name][1], tuple) and np.ndim(INDICES[name][1][-1])])
def test_reading_at_an_index_is_what_numpy_does(name, dtype):
    shape, index = INDICES[name]
    x = (3 * arrays(shape, 1)[0]).astype(dtype)
    for view in (x, x.copy(order="F"), x[::-1]):
        found = read(view, index)
        np.testing.assert_array_equal(found, view[index])
        assert found.dtype == x.dtype and not np.shares_memory(found, view)
    with pytest.raises(IndexError, match="out of bounds"):
        read(x, (*index[:-1], np.full_like(index[-1], 100)))


def test_reading_many_single_numbers_is_what_numpy_does():
    x, index = np.arange(6300.0).reshape(700, 9), (_numbers(700, 70, 1), _numbers(9, 90))
    np.testing.assert_array_equal(read(x, index), x[index])


@pytest.mark.skipif(not native.kernel("take_along"), reason="no C compiler")
@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("shape, axis, length", [
    ((7,), 0, 20), ((5, 7), 1, 3), ((5, 7), 0, 9), ((5, 7), 1, 1), ((3, 4, 5), 1, 6), ((3, 4, 5), 1, 1), ((2, 1, 3), 1, 2),
    ((90_000,), 0, 90_000), ((300, 300), 1, 300), ((300, 300), 0, 2500), ((70_000, 3), 1, 1), ((5000, 3, 5), 1, 1), ((4, 5), 1, 0)])
def test_reading_and_adding_along_an_axis_is_what_numpy_does(shape, axis, length, number):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    x.flat[:3] = np.nan, -0.0, np.inf
    index = _numbers(shape[axis], *shape[:axis], length, *shape[axis + 1:])
    before, settings = threads.get_num_threads(), dict(indices=index, axis=axis)
    threads.set_num_threads(number)
    try:
        for a in (x, np.asfortranarray(x), np.broadcast_to(x[:1], shape), np.frombuffer(x.tobytes(), x.dtype).reshape(shape)):
            found = path("take_along_axis", (a,), settings)
            assert (found is not None) == (length > 0 and (a.flags.c_contiguous or 4 * index.size >= a.size))
            got, want = mg.take_along_axis(a, index, axis).numpy(), np.take_along_axis(a, index, axis)
            np.testing.assert_array_equal(got, want)
            np.testing.assert_array_equal(np.signbit(got), np.signbit(want))
        if length:
            values = np.take_along_axis(x, index, axis)
            values[~np.isfinite(values)] = 1
            want = np.zeros(shape)
            every = list(np.meshgrid(*map(np.arange, index.shape), indexing="ij", sparse=True))
            every[axis] = index
            np.add.at(want, tuple(every), values)
            for v, i in ((values, index), (np.asfortranarray(values), np.asfortranarray(index)), (values, index.astype(np.int16))):
                if abs(index).max() > 30_000 and i.dtype == np.int16:
                    continue
                settings = dict(indices=i, axis=axis, shape=shape)
                got = path("add_along_axis", (v,), settings).forward(v, **settings)
                np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
                assert got.dtype == np.float32
            values, last = np.take_along_axis(x, index, axis)[..., ::-1] + 1, np.full(shape, -1)
            every[axis] = index
            want, order = x.copy(), np.arange(values.size).reshape(values.shape)
            want[tuple(every)], last[tuple(every)] = values, order
            for a, i in ((x, index), (np.asfortranarray(x), np.asfortranarray(index)), (x, index - shape[axis] * (index >= 0))):
                settings = dict(indices=i, axis=axis)
                if found := path("put_along_axis", (a, values), settings):
                    np.testing.assert_array_equal(found.forward(a, values, **settings), want)
                assert found or a.flags.f_contiguous
                found = path("last_along_axis", (values,), dict(settings, shape=shape)).forward(values, i, axis, shape)
                np.testing.assert_array_equal(found, last[tuple(every)] == order)
            for bad, place in itertools.product((shape[axis], -shape[axis] - 1), (0, -1)):
                kept, index.flat[place] = index.flat[place], bad
                with pytest.raises(IndexError, match=f"take_along_axis: index {bad} is out of bounds for axis"):
                    mg.take_along_axis(x, index, axis)
                with pytest.raises(IndexError, match=f"index {bad} is out of bounds for axis"):
                    mg.scatter_add(x, index, values, axis)
                with pytest.raises(IndexError, match=f"scatter: index {bad} is out of bounds for axis"):
                    mg.scatter(x, index, values, axis)
                index.flat[place] = kept
    finally:
        threads.set_num_threads(before)


@pytest.mark.parametrize("shape, axis", [((0,), 0), ((0, 500), 0), ((3, 0), 1)])
def test_nothing_is_added_to_an_axis_without_places(shape, axis):
    index = np.zeros([2 if a == axis else n for a, n in enumerate(shape)], np.int64)
    values, settings = np.ones(index.shape, np.float32), dict(indices=index, axis=axis, shape=shape)
    assert path("add_along_axis", (values,), settings) is None
    with pytest.raises(IndexError, match=f"scatter_add: index 0 is out of bounds for axis {axis} with size 0"):
        mg.scatter_add(np.zeros(shape, np.float32), index, values, axis)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_gradient_of_numbers_put_along_an_axis(dtype):
    rng = np.random.default_rng(0)
    index = np.array([[0, 2, -5, 2], [4, 2, 1, 0], [3, 3, -2, 0]])
    x, values = (rng.normal(size=shape).astype(dtype) for shape in ((3, 5), (3, 4)))
    for axis, i in ((1, index), (0, index.T)):
        a, v = (mg.Tensor(z if axis else z.T, requires_grad=True) for z in (x, values))
        g = rng.normal(size=a.shape).astype(dtype)
        out = mg.scatter(a, i, v, axis)
        da, dv = mg.grad(out, [a, v], grad_outputs=mg.Tensor(g))
        hit = np.zeros(a.shape, bool)
        np.put_along_axis(hit, i, True, axis)
        np.testing.assert_array_equal(da.numpy(), np.where(hit, 0, g))
        lost = [[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0]]  # another value is put into the place later
        want = np.where(np.asarray(lost).T if axis == 0 else lost, 0, np.take_along_axis(g, i, axis))
        np.testing.assert_array_equal(dv.numpy(), want)
    mg.check_derivatives(lambda x, v: mg.scatter(x ** 2, index, v ** 2, 1), *(z.astype(np.float64) for z in (x, values)))


@pytest.mark.parametrize("function", [read, lambda x, index: add_at(x, np.ones((64, 5000), x.dtype), index)], ids=["read", "add"])
def test_a_slice_to_an_array_is_refused_as_by_numpy(function):
    with pytest.raises(TypeError, match="only integer scalar arrays"):
        function(np.zeros((64, 64), np.float32), (slice(np.arange(2), None), np.zeros(5000, int)))


@pytest.mark.parametrize("compiled", [True, False])
def test_many_terms_added_to_one_row_keep_their_digits(compiled):
    with native.using(compiled):
        x = add_at(np.zeros((3, 16), np.float32), np.full((500_000, 16), 0.1, np.float32), np.ones(500_000, int))
    np.testing.assert_allclose(x[1], 50_000, rtol=1e-5)
    assert not x[::2].any()


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("index", [7, -8, 2**62])
def test_adding_to_a_row_that_is_not_there_is_refused(index, compiled):
    with native.using(compiled), pytest.raises(IndexError):
        add_at(np.zeros((7, 9), np.float32), np.zeros((1, 9), np.float32), np.array([index]))
