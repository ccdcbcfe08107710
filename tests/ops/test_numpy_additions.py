"""Operations by NumPy's names beside those of test_operations.py: values as NumPy's, three orders of derivatives, edges."""
import contextlib

import numpy as np
import pytest

import minigrad as mg

A = np.random.default_rng(0).uniform(0.2, 0.8, (3, 3)) + np.diag([1.0, 2.0, 3.0])
B = np.random.default_rng(1).uniform(-1, 1, (3, 3))
V = np.array([0.3, -0.5, 0.8])

CASES = {
    "vstack": (lambda m, x, v: m.vstack([x, v]), A, V), "hstack": (lambda m, x, y: m.hstack([x, y]), A, B),
    "column_stack": (lambda m, x, v: m.column_stack([x, v]), A, V), "diff": (lambda m, x: m.diff(x, 2, 0), A),
    "diff_between": (lambda m, x, y, z: m.diff(x, 2, 0, prepend=y, append=z), A, B, V[None]),
    "diff_from_0": (lambda m, x: m.diff(x, prepend=0, append=1.5), A),
    "nansum": (lambda m, x: m.nansum(x, 0, keepdims=True), A), "nanmean": (lambda m, x: m.nanmean(x, -1), A),
    "atleast_3d": (lambda m, x: m.atleast_3d(x), A), "atleast_2d": (lambda m, x: m.atleast_2d(x), V),
    "diag": (lambda m, x: m.diag(x, -1), V), "diag_of": (lambda m, x: m.diag(x, 1), A),
    "hypot": (lambda m, x, y: m.hypot(x, y), A, B), "fmax": (lambda m, x, y: m.fmax(x, y), A, B),
    "fmin": (lambda m, x, y: m.fmin(x, y), A, B), "arcsinh": (lambda m, x: m.arcsinh(x), B),
    "arccosh": (lambda m, x: m.arccosh(x + 1), A), "arctanh": (lambda m, x: m.arctanh(x * 0.9), B),
    "nan_to_num": (lambda m, x: m.nan_to_num(x), B), "cross": (lambda m, x, y: m.cross(x, y, axis=0), A, B),
    "kron": (lambda m, x, v: m.kron(x, v), A, V),
    "matrix_power": (lambda m, x: (m.linalg if m is np else m).matrix_power(x, 3), A),
    "matrix_power_negative": (lambda m, x: (m.linalg if m is np else m).matrix_power(x, -2), A),
    "transpose": (lambda m, x: m.transpose(x, axes=(1, 0)), A),
    "einsum": (lambda m, x: m.einsum("ij->j", x, optimize=False), A)}


@pytest.mark.parametrize("name", CASES)
def test_values_and_derivatives(name):
    function, *inputs = CASES[name]
    found = function(mg, *inputs)
    expected = function(np, *inputs)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-14)
    mg.check_derivatives(lambda *x: function(mg, *x), *inputs)


def test_corners():
    x = mg.Tensor([np.nan, np.inf, -np.inf, 2.0], requires_grad=True)
    y = mg.nan_to_num(x, nan=1.0, posinf=3.0)
    assert y.tolist() == [1, 3, -np.finfo(float).max, 2] and mg.grad(y.sum(), x).tolist() == [0, 0, 0, 1]
    x, y = mg.Tensor([np.nan, 1.0, 2.0], requires_grad=True), mg.Tensor([3.0, np.nan, 2.0], requires_grad=True)
    assert [g.tolist() for g in mg.grad(mg.fmax(x, y).sum(), [x, y])] == [[0, 1, 0.5], [1, 0, 0.5]]
    x = mg.Tensor(0.0, requires_grad=True)
    assert mg.grad(mg.hypot(x, 0.0), x).item() == 0
    assert mg.diff(np.array([True, False, False])).tolist() == [True, False] and mg.diff(np.zeros(0)).shape == (0,)
    assert mg.trunc([-1.5, 1.5]).tolist() == [-1, 1] and mg.round(1.25, 1).item() == 1.2
    assert mg.diag(np.zeros(0)).shape == (0, 0) and mg.matrix_power(A, 0).tolist() == np.eye(3).tolist()
    assert mg.full_like(mg.Tensor([1, 2]), 3).tolist() == [3, 3]
    assert mg.clip([0.0, 5.0], min=1, max=2).tolist() == [1, 2]


def test_order_and_indices():
    x = np.array([3.0, 1.0, 3.0, 2.0])
    assert mg.sort(x, descending=True).tolist() == [3, 3, 2, 1]
    values, indices = mg.top_k(x, 2, largest=False)
    assert values.tolist() == [1, 2] and indices.tolist() == [1, 3]
    assert mg.top_k(x, 2)[1].tolist() == [0, 2]
    assert mg.one_hot([[0, 2]], 3).tolist() == [[[1, 0, 0], [0, 0, 1]]]
    for indices in ([3], [-1]):
        with pytest.raises(ValueError, match="num_classes"):
            mg.one_hot(indices, 3)
    mg.check_derivatives(lambda x, v: mg.scatter(x, np.array([[0, 2, 1]]), v, 0), A, V[None])


def test_nearest_pixels_are_exact_and_indices_are_copied():
    for n, size in ((14, 18), (100, 28), (18, 14), (49, 98)):
        x = np.arange(n, dtype=float).reshape(1, 1, 1, n)
        assert mg.interpolate(x, size=(1, size)).numpy().ravel().tolist() == [i * n // size for i in range(size)]
    table, indices = mg.Tensor(np.ones((3, 2)), requires_grad=True), np.array([0, 1])
    y = mg.embedding(indices, table)
    indices[:] = 2
    assert mg.grad(y.sum(), table).tolist() == [[1, 1], [1, 1], [0, 0]]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.int64, bool])
def test_small_whole_numbers_are_reduced_as_in_numpy(dtype):
    x = np.array([[100, 3], [2, 1]]).astype(dtype)
    for name in ("sum", "prod", "cumsum", "cumprod", "mean", "std", "tril", "triu", "max", "min"):
        ours, theirs = getattr(mg, name)(mg.Tensor(x)).numpy(), getattr(np, name)(x)
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype, name
    for axis in (None, 0, 1):
        np.testing.assert_allclose(mg.norm(mg.Tensor(x), axis=axis).numpy(), np.linalg.norm(x.astype(float), axis=axis))


def test_einsum_of_axes_that_are_numbered():
    rng = np.random.default_rng(0)
    x, y, z = rng.normal(size=(2, 3)), rng.normal(size=(3, 4)), rng.normal(size=(5, 3, 3))
    for call in ((x, [0, 1], y, [1, 2], [0, 2]), (x, [1, 0], y, [0, 2]), (x, [30, 2]), (x, [2, 30]), (x, (51, 0), (0, 51)),
                 (z, [..., 1, 1]), (z, [0, 1, 1], [0]), (z, [..., 1, 0], [1, ...]), (x, [1, 0], x, [1, 0], []),
                 (z, [7, 2, 3], y, [3, 4], [7, 4, 2]),
                 (x, np.array([0, 1]), y, [np.int64(1), 2])):
        expected = np.einsum(*call)
        operands = [a for a in call if isinstance(a, np.ndarray) and a.dtype.kind == "f"]
        tensors = iter([mg.Tensor(a, requires_grad=True) for a in operands])
        mixed = [next(tensors) if any(a is o for o in operands) else a for a in call]
        for out in (mg.einsum(*call), mg.einsum(*mixed), np.einsum(*mixed), mg.einsum(*mixed, optimize=False)):
            assert out.shape == expected.shape
            np.testing.assert_allclose(out.detach().numpy(), expected, rtol=1e-12)
        assert out.requires_grad
    mg.check_derivatives(lambda x, y: mg.einsum(x, [0, 1], y, [1, 2], [2, 0]), x, y)
    for wrong in ((x, [0, 52]), (x, [0, -1]), (x, [0]), (x, [0, 1, 2]), (x, [0, 1], y, [3, 2, 4])):
        with pytest.raises(ValueError, match="einsum"):
            mg.einsum(*wrong)
    for wrong in ((x,), (x, "ij"), (x, [0, "a"]), (x, [0.5, 1])):
        with pytest.raises(TypeError):
            mg.einsum(*wrong)


@pytest.mark.parametrize("name", ["nansum", "nanmean"])
@pytest.mark.parametrize("axis", [None, 0, -1, (0, 1)])
def test_nan_does_not_count(name, axis):
    holes = np.where(B > 0.3, np.nan, B)
    holes[0] = np.nan
    warned = pytest.warns(RuntimeWarning) if name == "nanmean" and axis == -1 else contextlib.nullcontext()
    with np.errstate(all="ignore"), warned:
        expected = getattr(np, name)(holes, axis)
    x = mg.Tensor(holes, requires_grad=True)
    y = getattr(mg, name)(x, axis)
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-14)
    y.sum().backward()
    assert not x.grad.numpy()[np.isnan(holes)].any()
    with pytest.raises(ValueError, match=f"{name}: axis 5"):
        getattr(mg, name)(x, 5)


@pytest.mark.parametrize("dtype", [None, "float64", "float16", "int64", "bool"])
def test_a_dtype_of_its_own(dtype):
    for x in (A, B.astype(np.float32), np.arange(3)):
        for name, more in (("zeros_like", ()), ("ones_like", ()), ("full_like", (2,)), ("full_like", (mg.Tensor(2),))):
            found = getattr(mg, name)(mg.Tensor(x), *more, dtype=dtype)
            expected = getattr(np, name)(x, *[2] * len(more), dtype=dtype)
            assert found.dtype == expected.dtype and found.shape == expected.shape and (found.numpy() == expected).all()


@pytest.mark.parametrize("base", [10.0, 2.0, 0.5])
def test_logspace(base):
    for arguments in ((-2, 3, 6), (0, 0, 1), (1, 2, 0), (3, -1)):
        np.testing.assert_allclose(mg.logspace(*arguments, base=base, dtype="float64").numpy(),
                                   np.logspace(*arguments, base=base), rtol=1e-12)
    assert mg.logspace(0, 1).dtype == np.float32
    with pytest.raises(ValueError, match="logspace"):
        mg.logspace(0, 1, -1)


@pytest.mark.parametrize("p", [0, 0.5, 1, 1.5, 2, 3, np.inf])
@pytest.mark.parametrize("shapes", [((4, 3), (5, 3)), ((2, 1, 4, 2), (3, 1, 2)), ((0, 3), (2, 3)), ((2, 3), (0, 3)),
                                    ((2, 0), (3, 0))])
def test_cdist(p, shapes):
    x, y = (np.random.default_rng(i).normal(size=shape) for i, shape in enumerate(shapes))
    difference = abs(x[..., :, None, :] - y[..., None, :, :])
    expected = (difference.max(-1, initial=0) if p == np.inf else (difference != 0).sum(-1) if p == 0 else
                (difference ** p).sum(-1) ** (1 / p))
    np.testing.assert_allclose(mg.cdist(x, y, p).numpy(), expected, rtol=1e-12)
    if p not in (0, np.inf):
        mg.check_derivatives(lambda x, y: mg.cdist(x, y, p), x, y)


def test_cdist_of_equal_rows_has_slope_0_and_bad_arguments_are_named():
    x = mg.Tensor(A, requires_grad=True)
    mg.cdist(x, x).sum().backward()
    assert np.isfinite(x.grad.numpy()).all()
    for call in (lambda: mg.cdist(A, V), lambda: mg.cdist(A, A[:, :2]), lambda: mg.cdist(A, A, -1),
                 lambda: mg.cdist(A, A, "2")):
        with pytest.raises(ValueError, match="cdist"):
            call()


@pytest.mark.parametrize("dtype", ["int64", "int8", "float64", "bool"])
@pytest.mark.parametrize("arguments", [(-3, 4.3, 6), (4.3, -3, 50), (-0.5, 0.5, 3), (2, 2, 1), (0, 1, 0)])
def test_linspace_of_whole_numbers_is_numpys(dtype, arguments):
    np.testing.assert_array_equal(mg.linspace(*arguments, dtype=dtype).numpy(), np.linspace(*arguments, dtype=dtype))
