"""Operations by NumPy's names beside those of test_operations.py: values as NumPy's, three orders of derivatives, edges."""
import contextlib
import operator

import numpy as np
import pytest
from checks import arrays as drawn_arrays, check_derivatives, shapes
from hypothesis import given, settings, strategies as st

import minigrad as mg

A = np.random.default_rng(0).uniform(0.2, 0.8, (3, 3)) + np.diag([1.0, 2.0, 3.0])
B = np.random.default_rng(1).uniform(-1, 1, (3, 3))
V = np.array([0.3, -0.5, 0.8])
I = np.array([0, 2, 1, 2, -1])

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
    "kron": (lambda m, x, v: m.kron(x, v), A, V), "vdot": (lambda m, x, y: m.vdot(x, y), A, B),
    "polyval": (lambda m, p, x: m.polyval(p, x), V, B), "polyval_of_none": (lambda m, x: m.polyval(np.zeros(0), x), B),
    "dstack": (lambda m, x, y: m.dstack([x, y]), A, B), "dstack_of_vectors": (lambda m, v: m.dstack([v, v]), V),
    "deg2rad": (lambda m, x: m.deg2rad(x), A), "rad2deg": (lambda m, x: m.rad2deg(x), A),
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


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int8", "bool"])
@pytest.mark.parametrize("holes", [0, 0.02, 0.5])
def test_the_first_of_many_are_those_that_sorting_puts_first(dtype, holes):
    rng = np.random.default_rng(0)
    x = rng.choice([-np.inf, -1, -0.0, 0, 1, 2, np.inf] if dtype[0] == "f" else [0, 1], (5, 40, 3)).astype(dtype)
    if dtype[0] == "f":
        x[rng.random(x.shape) < holes] = np.nan
    smallest = np.argsort(x, 1, kind="stable")
    largest = 39 - np.flip(np.argsort(np.flip(x, 1), 1, kind="stable"), 1)
    for k in (0, 1, 2, 9, 10, 11, 40):
        for order, settings in ((largest, {}), (smallest, dict(largest=False))):
            values, indices = mg.top_k(x, k, 1, **settings)
            np.testing.assert_array_equal(indices.numpy(), order[:, :k])
            np.testing.assert_array_equal(values.numpy(), np.take_along_axis(x, order[:, :k], 1))


def test_order_and_indices():
    x = np.array([3.0, 1.0, 3.0, 2.0])
    assert mg.sort(x, descending=True).tolist() == [3, 3, 2, 1]
    for axis in (0, None):
        assert mg.argsort(x, axis, descending=True).tolist() == [0, 2, 3, 1]
    values, indices = mg.top_k(x, 2, largest=False)
    assert values.tolist() == [1, 2] and indices.tolist() == [1, 3]
    assert mg.top_k(x, 2)[1].tolist() == [0, 2]
    assert mg.one_hot([[0, 2]], 3).tolist() == [[[1, 0, 0], [0, 0, 1]]]
    for indices in ([3], [-1]):
        with pytest.raises(ValueError, match="num_classes"):
            mg.one_hot(indices, 3)
    mg.check_derivatives(lambda x, v: mg.scatter(x, np.array([[0, 2, 1]]), v, 0), A, V[None])


@pytest.mark.parametrize("index", [(slice(None), I), (slice(None), I[:, None], I % 2), (slice(None), slice(None), I - 2), (I % 2, I),
                                   (slice(None), slice(1, 2), I), (slice(None), slice(None), slice(None)), (..., I), (None, I % 2)])
def test_values_spread_over_the_places_of_an_index(index):
    x, values = np.arange(24.0).reshape(2, 3, 4), np.arange(24.0).reshape(2, 3, 4)[index] * 0.5 + 1
    for given in (values, 3.0):
        added, put = x.copy(), x.copy()
        np.add.at(added, index, given)
        put[index] = given
        np.testing.assert_array_equal(mg.index_add(x, index, given).numpy(), added)
        np.testing.assert_array_equal(mg.index_update(x, index, given).numpy(), put)
    with pytest.raises(ValueError, match="do not broadcast"):
        mg.index_add(x, index, np.ones(7))


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


@pytest.mark.parametrize("make", [mg.zeros_like, mg.ones_like, lambda x, **k: mg.full_like(x, 2, **k),
                                  lambda x, **k: mg.full_like(x, mg.Tensor(2.0), **k)])
def test_what_is_made_like_another_may_require_a_gradient(make):
    delta = make(np.arange(3, dtype=np.float32), requires_grad=True)
    (delta * np.float32([1, 2, 3])).sum().backward()
    assert delta.is_leaf and delta.grad.tolist() == [1, 2, 3]
    assert make(np.arange(3), dtype="float32", requires_grad=True).requires_grad and not make([1.0]).requires_grad
    for x, wrong, message in (([1], True, "only floating point"), ([1.0], "no", "requires_grad is True or False")):
        with pytest.raises(TypeError, match=message):
            make(x, requires_grad=wrong)


@pytest.mark.parametrize("base", [10.0, 2.0, 0.5])
def test_logspace(base):
    for arguments in ((-2, 3, 6), (0, 0, 1), (1, 2, 0), (3, -1)):
        np.testing.assert_allclose(mg.logspace(*arguments, base=base, dtype="float64").numpy(),
                                   np.logspace(*arguments, base=base), rtol=1e-12)
        np.testing.assert_allclose(mg.logspace(*arguments, base=base, endpoint=False, dtype="float64").numpy(),
                                   np.logspace(*arguments, base=base, endpoint=False), rtol=1e-12)
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


@pytest.mark.parametrize("distance", [lambda x: mg.cdist(x, A, 0), lambda x: mg.norm(x, 0, 1), lambda x: mg.norm(x[0], 0),
                                      lambda x: mg.nn.functional.pairwise_distance(x, A, 0)])
@pytest.mark.parametrize("value", [0.0, 1.5, np.nan, np.inf])
def test_a_count_has_slope_0_everywhere(distance, value):
    x = mg.Tensor(np.full(A.shape, value), requires_grad=True)
    (gradient,) = mg.grad(distance(x).sum(), [x])
    np.testing.assert_array_equal(gradient.numpy(), 0 * A)


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
    for endpoint in (True, False):
        np.testing.assert_array_equal(mg.linspace(*arguments, endpoint=endpoint, dtype=dtype).numpy(),
                                      np.linspace(*arguments, endpoint=endpoint, dtype=dtype))


AXES = [None, 0, -1, (0, 1), (-1, 0), ()]
REDUCTIONS = {  # NumPy's name, and its settings
    "nanmax": [{}], "nanmin": [{}], "nanvar": [{}, {"ddof": 1}], "nanstd": [{}, {"ddof": 0.5}], "average": [{}],
    "quantile": [{"q": q, "method": m} for q in (0.3, [[0, 0.77], [1, 0.5]]) for m in ("linear", "lower", "higher", "nearest",
                                                                                  "midpoint")]}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", REDUCTIONS)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(data=st.data())
def test_reductions_as_numpys(name, data):
    """Values, shapes and dtypes, of NaN, infinities and ties too; derivatives in float64."""
    ours, theirs = getattr(mg, name), getattr(np, name)
    shape = data.draw(shapes(min_ndim=2, min_side=1))
    more = {**data.draw(st.sampled_from(REDUCTIONS[name])), "axis": data.draw(st.sampled_from(AXES)),
            "keepdims": data.draw(st.booleans())}
    x = data.draw(drawn_arrays(shape))
    dtype = data.draw(st.sampled_from(["float64", "float32", "float16", "int64", "uint8", "bool"]))
    values = data.draw(st.sampled_from([[], [np.nan], [np.nan, -np.inf], [np.inf], [1.0]] if "float" in dtype else [[3]]))
    special = x.copy()
    for i, value in enumerate(values):
        special.reshape(-1)[i::3] = value
    for a in (x.astype(dtype), special.astype(dtype)):
        try:
            expected = theirs(a, **more)
        except TypeError:  # NumPy subtracts no bools
            continue
        for y in (ours(a, **more), theirs(mg.Tensor(a, requires_grad=a.dtype.kind == "f"), **more)):
            assert type(y) is mg.Tensor and y.shape == expected.shape
            if name != "quantile":  # of which NumPy's may be float64 for float32
                assert y.dtype == expected.dtype
            finite = np.isfinite(expected)
            rtol, atol = {"float16": (1e-2, 1e-3), "float32": (1e-5, 1e-6)}.get(dtype, (1e-12, 1e-14))
            np.testing.assert_allclose(y.detach().numpy()[finite], expected[finite], rtol=rtol, atol=atol)
            if name in ("nanmax", "nanmin"):
                np.testing.assert_array_equal(y.detach().numpy(), expected)
    holes = np.where(np.arange(x.size).reshape(shape) % 3 == 1, np.nan, x) if name.startswith("nan") else x
    with np.errstate(all="ignore"):
        expected = theirs(holes, **more)
    if np.isfinite(expected).all():
        kept = np.isfinite(holes)
        mg.check_derivatives(lambda v: ours(mg.index_update(holes, kept, v), **more), holes[kept], order=2)


def test_corners_of_reductions():
    x = mg.Tensor([[np.nan, -np.inf], [np.nan, np.nan], [2.0, 2.0]], requires_grad=True)
    assert mg.grad(mg.nanmax(x, 1).sum(), x).tolist()[::2] == [[0, 1], [0.5, 0.5]]
    assert np.isnan(mg.nanmin(x, 1).tolist()).tolist() == [False, True, False]
    assert mg.nanvar([1.0, np.nan, 3.0], ddof=1).item() == 2 and np.isnan(mg.nanvar([1.0, np.nan], ddof=1).item())
    assert mg.nanvar(np.full(70000, 0.5, np.float16)).item() == 0 and mg.average(np.ones(70000, np.float16)).item() == 1
    for name in ("nanmax", "nanmin"):
        with pytest.raises(ValueError, match=name):
            getattr(mg, name)(np.zeros((0, 2)), 0)
    assert mg.quantile([np.inf, np.inf, 1.0], 0.75).item() == np.inf and mg.quantile([1.0, np.inf], 0).item() == 1
    with np.errstate(invalid="ignore"):  # 0 times infinity is made, but not taken
        assert mg.quantile([1.0, np.inf, np.inf], [0.5, 0.6, 1]).tolist() == [np.inf] * 3
    slopes = mg.grad(lambda x: mg.quantile(x, 0.25))(np.array([2.0, 1, 2, 1, 1, 7, 9, 8]))  # at 1.75, between equal ones
    assert slopes.sum() == 1 and sorted(slopes.tolist())[-2:] == [0.25, 0.75]
    assert mg.quantile([0.1] * 3, 0.3).item() == 0.1 and np.isnan(mg.quantile([1, np.nan], [0, 1]).numpy()).all()
    for dtype in ("float16", "float32"):
        assert mg.quantile(V.astype(dtype), [0.3, 1]).dtype == dtype
    assert mg.quantile(np.array([3, 1], np.int32), 0.3).dtype == np.float64
    assert mg.quantile([3, 1, 2], mg.Tensor([0.25, 1]), method="lower").tolist() == [1, 3]
    for wrong in (-0.1, 1.1, np.nan, [0.5, 2]):
        with pytest.raises(ValueError, match="quantile: q"):
            mg.quantile(V, wrong)
    with pytest.raises(TypeError, match="quantile: q"):
        mg.quantile(V, mg.Tensor(0.5, requires_grad=True))
    with pytest.raises(ValueError, match="quantile: method"):
        mg.quantile(V, 0.5, method="hazen")
    with pytest.raises(ValueError, match="quantile: no elements"):
        mg.quantile(np.zeros((2, 0)), 0.5, 1)


@pytest.mark.parametrize("kind", [np.bool_, np.int8, np.uint8, np.int64, np.float16, np.float64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("name, call", [
    ("average", lambda m, x, y: m.average(x, weights=y)), ("convolve", lambda m, x, y: m.convolve(x, y)),
    ("dot", lambda m, x, y: m.dot(x, y)), ("outer", lambda m, x, y: m.outer(x, y)), ("cross", lambda m, x, y: m.cross(x, y)),
    ("clip", lambda m, x, y: m.clip(x, y, y)), ("where", lambda m, x, y: m.where(x > 1, x, y)), ("inner", lambda m, x, y: m.inner(x, y)),
    ("maximum", lambda m, x, y: m.maximum(x, y)), ("power", lambda m, x, y: m.power(x, y)), ("kron", lambda m, x, y: m.kron(x, y)),
    ("stack", lambda m, x, y: m.stack([x, y])), ("einsum", lambda m, x, y: m.einsum("i,i", x, y))])
def test_two_operands_have_the_dtype_that_they_have_in_numpy(name, call, dtype, kind):
    x, y = np.arange(1, 4, dtype=dtype), np.array([1, 2, 1], kind)
    if dtype is np.int64 and (name == "convolve" or name == "power"):
        return  # whole numbers are convolved as float64; a power of them may be a fraction
    assert call(mg, x, y).dtype == call(np, x, y).dtype


@pytest.mark.parametrize("axis", [None, 0, -1, (0, 1)])
def test_weights_of_an_average(axis):
    for weights in (abs(B), *([abs(V)] if axis in (0, -1) else [])):
        np.testing.assert_allclose(mg.average(A, axis, weights).numpy(), np.average(A, axis, weights), rtol=1e-14)
        mg.check_derivatives(lambda x, w: mg.average(x, axis, w, keepdims=True), A, weights)
    assert mg.average([1, 2], weights=[3, 1]).item() == 1.25
    for wrong in (np.ones(2), np.ones((3, 1)), *([] if axis in (0, -1) else [V])):
        with pytest.raises(ValueError, match="average: weights"):
            mg.average(A, axis, wrong)


def test_integrals_by_trapezoids():
    numpys = getattr(np, "trapezoid", None) or np.trapz
    x = np.array([0.0, 0.5, 2.0])
    for y in (A, V, A[None] * V[:, None, None]):
        for axis in range(-y.ndim, y.ndim):
            for more in ({}, {"dx": 0.3}, {"x": x}, {"x": np.cumsum(abs(y), axis)}):
                np.testing.assert_allclose(mg.trapezoid(y, axis=axis, **more).numpy(), numpys(y, axis=axis, **more), rtol=1e-13)
                assert numpys(mg.Tensor(y, requires_grad=True), axis=axis, **more).requires_grad
    mg.check_derivatives(lambda y, x: mg.trapezoid(y, x, axis=0), A, x)
    assert mg.trapezoid(np.zeros((2, 0))).tolist() == [0, 0] and mg.trapezoid([5]).item() == 0
    assert mg.trapezoid(np.full(3, 200, np.uint8)).item() == 400
    for wrong in (x[:2], A[:2], A[0, :, None]):
        with pytest.raises(ValueError, match="trapezoid: x"):
            mg.trapezoid(A, wrong)
    for wrong in ("a", None, True, np.nan, x):
        with pytest.raises(ValueError, match="trapezoid: dx"):
            mg.trapezoid(A, dx=wrong)
    mg.check_derivatives(lambda dx: mg.trapezoid(A, dx=dx), 0.5)


def test_covariances():
    for x, y in ((A, None), (A, B), (V, None), (V, V + A[0]), (A, V)):
        for more in ({}, {"bias": True}, {"ddof": 0}, {"rowvar": False}, {"ddof": 2}):
            if y is None or x.ndim == y.ndim or more != {"rowvar": False}:
                np.testing.assert_allclose(mg.cov(x, y, **more).numpy(), np.cov(x, y, **more), rtol=1e-12)
                assert np.cov(mg.Tensor(x, requires_grad=True), y, **more).requires_grad
    mg.check_derivatives(mg.cov, A, B)
    assert mg.cov(A.astype(np.float32)).dtype == np.float32 and np.isnan(mg.cov(V[:1]).item())
    for wrong, name in (({"ddof": 0.5}, "ddof"), ({"rowvar": "x"}, "rowvar"), ({"y": A[None]}, r"matrix"),
                        ({"y": V[:2]}, "observations")):
        with pytest.raises((ValueError, TypeError), match=f"cov.*{name}"):
            mg.cov(A, **wrong)


def test_correlations():
    for x, y in ((A, None), (A, B), (V, None), (V, V + A[0])):
        np.testing.assert_allclose(mg.corrcoef(x, y).numpy(), np.corrcoef(x, y), rtol=1e-12)
        assert np.corrcoef(mg.Tensor(x, requires_grad=True), y).requires_grad
    np.testing.assert_allclose(mg.corrcoef(A, rowvar=False).numpy(), np.corrcoef(A, rowvar=False), rtol=1e-12)
    mg.check_derivatives(mg.corrcoef, A[:, :2].T @ A)
    mg.check_derivatives(mg.corrcoef, np.array([[-0.382, -2.382, -1.382], [2.618, 0.618, 1.618]]))  # a correlation of 1
    assert mg.corrcoef([[1.0, 2, 3], [2, 4, 6]]).numpy().max() <= 1


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@settings(max_examples=15, deadline=None, derandomize=True)
@given(n=st.integers(1, 6), m=st.integers(1, 6), data=st.data())
def test_convolutions_of_vectors(mode, n, m, data):
    x, y = data.draw(drawn_arrays((n,))), data.draw(drawn_arrays((m,)))
    np.testing.assert_allclose(mg.convolve(x, y, mode).numpy(), np.convolve(x, y, mode), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(np.convolve(mg.Tensor(x), y, mode=mode).numpy(), np.convolve(x, y, mode), rtol=1e-12, atol=1e-14)
    mg.check_derivatives(lambda x, y: mg.convolve(x, y, mode), x, y, order=2)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(n=st.integers(1, 5), data=st.data())
def test_lines_between_points(n, data):
    points, values = np.sort(data.draw(drawn_arrays((n,)))), data.draw(drawn_arrays((n,)))
    x = data.draw(drawn_arrays(data.draw(shapes()), -4, 4))
    more = data.draw(st.sampled_from([{}, {"left": 0.5}, {"right": -2.0, "left": 1}]))
    edges = np.concatenate([x.ravel(), points, [np.nan, np.inf, -np.inf]])
    for at in (x, edges):
        for found in (mg.interp(at, points, values, **more), np.interp(mg.Tensor(at), points, mg.Tensor(values), **more)):
            np.testing.assert_allclose(found.numpy(), np.interp(at, points, values, **more), rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(mg.interp(points, points, values).numpy(), values)
    mg.check_derivatives(lambda *xs: mg.interp(*xs, **more), x, points, values, order=2)
    outside = mg.grad(lambda *xs: mg.interp(*xs).sum(), (0, 1, 2))(np.array([np.inf, -np.inf, 9]), points, values)
    assert not outside[0].numpy().any() and np.isfinite(outside[1].numpy()).all() and outside[2].numpy().sum() == 3


@pytest.mark.parametrize("values", [[1, np.inf, 3], [1, np.nan, 2], [np.inf, np.inf, 1], [np.nan, 1, 2], [1, 2, -np.inf]], ids=str)
def test_a_point_of_a_line_does_not_read_its_neighbours(values):
    points, values = np.arange(3.0), np.array(values, float)
    at = mg.Tensor([-1.0, 0, 1, 2, 3], requires_grad=True)
    found = mg.interp(at, points, values)
    np.testing.assert_array_equal(found.numpy(), np.interp(at.numpy(), points, values))
    assert np.isfinite(mg.grad(found.sum(), at).numpy()[[0, 1, 3, 4]]).all()


def test_a_constant_and_a_line_as_polynomials_at_what_is_not_finite():
    x = mg.Tensor([np.nan, np.inf], requires_grad=True)
    assert mg.polyval([3.0], x).tolist() == [3, 3] and mg.grad(mg.polyval([2.0, 1], x).sum(), x).tolist() == [2, 2]


def test_arguments_of_convolve_interp_and_polyval():
    for call, name in ((lambda: mg.polyval(A, V), "polyval: p"), (lambda: mg.polyval(1.0, V), "polyval: p"),
                       (lambda: mg.convolve(A, V), "convolve"), (lambda: mg.convolve(V, []), "convolve"),
                       (lambda: mg.convolve(V, V, "whole"), "convolve: mode"),
                       (lambda: mg.interp(V, V, V), "interp: xp must increase"),
                       (lambda: mg.interp(V, [1, 2], V), "interp: xp and fp"), (lambda: mg.interp(V, A, A), "interp: xp and fp"),
                       (lambda: mg.interp(V, [], []), "interp: xp and fp"), (lambda: mg.interp(V, [0, 0], [1, 2]), "increase"),
                       (lambda: mg.interp(V, [0, np.nan], [1, 2]), "increase")):
        with pytest.raises(ValueError, match=name):
            call()
    mg.check_derivatives(lambda left: mg.interp(np.array([-5.0, 0]), [0, 1], [1, 2], left), 0.3)
    assert mg.interp(np.float32([0.5]), np.float32([0, 1]), np.float32([2, 3])).dtype == np.float32


@settings(max_examples=30, deadline=None, derandomize=True)
@given(data=st.data())
def test_grids_and_turns(data):
    xs = [data.draw(drawn_arrays((data.draw(st.integers(0, 3)),))) for _ in range(data.draw(st.integers(0, 3)))]
    more = {"indexing": data.draw(st.sampled_from(["xy", "ij"])), "sparse": data.draw(st.booleans())}
    expected = np.meshgrid(*xs, **more)
    for found in (mg.meshgrid(*xs, **more), np.meshgrid(*[mg.Tensor(x, requires_grad=True) for x in xs], **more)):
        assert len(found) == len(expected)
        for a, b in zip(found, expected):
            np.testing.assert_array_equal(a.detach().numpy(), b)
    if xs:
        mg.check_derivatives(lambda *xs: mg.meshgrid(*xs, **more)[-1], *xs, order=2)
    x, k = data.draw(drawn_arrays(data.draw(shapes(min_ndim=2)))), data.draw(st.integers(-5, 5))
    for axes in ((0, 1), (1, 0), (-1, 0)):
        np.testing.assert_array_equal(mg.rot90(x, k, axes).numpy(), np.rot90(x, k, axes))
        mg.check_derivatives(lambda x: mg.rot90(x, k, axes), x, order=2)


def test_arguments_of_grids_and_turns():
    assert mg.meshgrid(1.0, [2, 3])[0].tolist() == [[1], [1]]
    for call, name in ((lambda: mg.meshgrid(V, indexing="yx"), "meshgrid: indexing"),
                       (lambda: mg.meshgrid(V, sparse=2), "meshgrid: sparse"),
                       (lambda: mg.rot90(A, 0.5), "rot90: k"), (lambda: mg.rot90(A, axes=(0,)), "rot90: two axes"),
                       (lambda: mg.rot90(A, axes=None), "rot90: two axes"), (lambda: mg.vdot(A, V), "vdot"),
                       (lambda: mg.rot90(A, axes=(0, -2)), "rot90: duplicate axis"), (lambda: mg.rot90(V), "rot90: axis 1")):
        with pytest.raises((ValueError, TypeError), match=name):
            call()


def test_sinc_and_its_derivatives_at_0_and_where_the_series_ends():
    x = np.concatenate([np.linspace(-3, 3, 601), [0, 1e-9, 1e-300, 0.5, np.nextafter(0.5, 0)]])
    np.testing.assert_allclose(mg.sinc(x).numpy(), np.sinc(x), rtol=1e-13, atol=1e-15)
    mg.check_derivatives(mg.sinc, np.array([0, 1e-9, 0.3, 0.49, 0.51, -1, 2.3]))
    second = mg.grad(mg.grad(mg.sinc))
    np.testing.assert_allclose([second(0.0).item(), second(0.5 - 1e-9).item()], [-np.pi**2 / 3, second(0.5).item()], rtol=1e-7)
    assert np.isnan(mg.sinc(np.nan).item())
    assert mg.sinc(np.float32(0.2)).dtype == np.float32 and mg.sinc([0, 1]).dtype == np.float64


LATER = {  # by names that only NumPy 2 has
    "cumulative_sum": [{"axis": 0}, {"axis": -1}], "cumulative_prod": [{"axis": 1}], "unstack": [{}, {"axis": 1}],
    "matrix_transpose": [{}], "linalg.matrix_transpose": [{}], "linalg.svdvals": [{}], "linalg.diagonal": [{}, {"offset": 1}],
    "linalg.trace": [{}, {"offset": -1}], "linalg.matrix_norm": [{}, {"ord": 1, "keepdims": True}, {"ord": 2}],
    "linalg.vector_norm": [{}, {"axis": (0, 1), "keepdims": True}, {"axis": 1, "ord": 3}, {"axis": (0, 2), "ord": 1},
                           {"axis": None, "keepdims": True}, {"ord": np.inf}],
    "vecdot": [{}], "linalg.vecdot": [{}], "linalg.matmul": [{}], "linalg.tensordot": [{"axes": ((2,), (1,))}],
    "linalg.cross": [{"axis": 1}]}
BOTH = {"vecdot", "linalg.vecdot", "linalg.matmul", "linalg.tensordot", "linalg.cross"}


@pytest.mark.parametrize("name", LATER)
def test_the_names_of_numpy_2(name):
    try:
        function = operator.attrgetter(name)(np)
    except AttributeError:
        pytest.skip("not in this NumPy")
    x, y = np.stack([A, B]), np.stack([B, A])
    for more in LATER[name]:
        def numpys(*xs, more=more):
            out = function(*xs, **more)
            return out if not isinstance(out, tuple) else sum((i + 1) * part for i, part in enumerate(out))

        inputs = [x, y] if name in BOTH else [x]
        found = numpys(*[mg.Tensor(v, requires_grad=True) for v in inputs])
        assert found.requires_grad
        np.testing.assert_allclose(found.detach().numpy(), numpys(*inputs), rtol=1e-12, atol=1e-14)
        mg.check_derivatives(lambda *xs: numpys(*xs), *inputs, order=2)
    if name.startswith("cumulative"):
        with pytest.raises(ValueError, match="axis"):
            function(mg.Tensor(x, requires_grad=True))
    if name.endswith("vecdot"):
        with pytest.raises(ValueError):
            function(mg.Tensor(A, requires_grad=True), B[:, :1])


@pytest.mark.parametrize("name", ["tril", "triu"])
@pytest.mark.parametrize("k", [-1, 0, 1])
def test_a_triangle_of_a_vector_has_it_in_each_row(name, k):
    x = np.arange(1.0, 4)
    np.testing.assert_array_equal(getattr(mg, name)(x, k).numpy(), getattr(np, name)(x, k))
    check_derivatives(lambda x: getattr(mg, name)(x, k), [x])


def test_singular_values_are_not_negative():
    rng = np.random.default_rng(0)
    for _ in range(50):
        x = rng.normal(size=(4, 1)) @ rng.normal(size=(1, 4))
        assert (mg.svdvals(x).numpy() >= 0).all() and mg.norm(x, -2).item() >= 0
    check_derivatives(mg.svdvals, [rng.normal(size=(3, 4))])


@pytest.mark.parametrize("y, x", [(np.int8, np.float32), (np.int8, np.float64), (np.int64, np.float32), (np.float32, np.int64),
                                  (np.float32, np.float64)])
def test_an_integral_has_numpys_dtype(y, x):
    y, x = np.array([0, 1, 1]).astype(y), np.arange(3).astype(x)
    found, expected = mg.trapezoid(y, x), getattr(np, "trapezoid", getattr(np, "trapz", None))(y, x)
    assert found.dtype == expected.dtype and found.item() == expected


def test_a_power_of_0_has_a_gradient_of_0():
    x = mg.Tensor(np.full((2, 2), np.inf), requires_grad=True)
    y = mg.matrix_power(x, 0)
    np.testing.assert_array_equal(y.numpy(), np.eye(2))
    np.testing.assert_array_equal(mg.grad(y.sum(), x).numpy(), np.zeros((2, 2)))


@pytest.mark.skipif(not hasattr(np, "astype"), reason="functions of NumPy 2")
@pytest.mark.parametrize("f", [lambda x: np.linalg.outer(x, x), lambda x: np.astype(x, "float32")])
def test_functions_that_only_numpy_2_has_reach_their_counterpart(f):
    x = mg.Tensor([1.0, 2.0], requires_grad=True)
    y, expected = f(x), f(x.numpy())
    assert isinstance(y, mg.Tensor) and y.requires_grad and y.dtype == expected.dtype
    np.testing.assert_array_equal(y.numpy(), expected)
