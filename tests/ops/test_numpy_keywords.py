"""NumPy's keywords of what minigrad offers under the same name: each means what it means in NumPy, or is refused by name."""
import inspect

import numpy as np
import pytest
from checks import arrays as drawn_arrays, check_derivatives, shapes, wants_bfloat16
from hypothesis import given, settings, strategies as st

import minigrad as mg
from minigrad.ops.declare import NUMPY

X = np.array([[0.9, 0.2], [0.3, 0.7]])
C = np.array([[0.55, 0.12], [0.13, 0.47]])
MASK = C > 0.3
CALLS = [(X,), (X, C), ([X, C],), (X, 0), (X, 1), (X, (4, 1)), (X, 0, 1), (X, (3, 2, 2)), (X, 2), (X, 0.31, 0.8),
         (np.stack([X[0], X[1], C[0]], 1), np.stack([C[0], X[1], C[1]], 1)), (X, np.array([[1, 0]]))]
VALUES = {
    "axis": [None, 0, 1, -1, (0, 1), (1,), (), 2, (0, 0)], "keepdims": [False, True, 1, 0],
    "dtype": [None, np.float32, float, int], "initial": [0.5, 2, [1.0], C],
    "where": [True, MASK, MASK[0], MASK.tolist(), MASK.astype(int), np.ones((3, 2, 2), bool), C > 2],
    "ddof": [0, 1, 0.5, 4, None, "1"], "correction": [0, 1, 1.5, None, "1"], "mean": [0.5], "out": [None],
    "order": [None, "C", "F"], "kind": [None, "stable", "quicksort"], "stable": [None, True], "copy": [None, True, False],
    "casting": ["same_kind", "no"], "axisa": [-1, 0], "axisb": [-1, 0], "axisc": [-1, 0], "prepend": [0.0, C], "append": [0.0],
    "n": [0, 1, 2, -1, 1.5], "UPLO": ["L", "U", "l", "X"], "optimize": [True, False, "greedy"], "subok": [False, True],
    "shape": [(4,), (2, 2), 4], "device": [None, "cpu"], "decimals": [0, 1, -1, 0.5],
    "a_min": [None, 0.3, C], "a_max": [None, 0.3],
    "min": [0.3, C, None], "max": [0.6, None], "k": [0, 1, -1], "offset": [0, 1, -3], "axis1": [0, 1, -1], "axis2": [0, 1],
    "nan": [0.0, 1.0], "posinf": [None, 1.0], "neginf": [None, 1.0], "ord": [None, 1, 2, np.inf, "fro", "nuc", "x"],
    "mode": ["constant", "edge", "raise", "clip", "reduced", "complete", "r"], "constant_values": [0, 2, ((1, 2), (3, 4))],
    "rcond": [None, 0.5], "rtol": [None, 0.5], "hermitian": [False, True], "full_matrices": [True, False],
    "compute_uv": [True, False], "upper": [False, True], "overwrite_input": [False], "indices_or_sections": [1, 2, [1]],
    "axes": [None, (0, 1), (1, 0), 1, 2, ((0,), (1,))], "shift": [1, (1, 2)], "repeats": [2, [1, 2]], "reps": [2, (2, 1)],
    "fill_value": [2.0, 1], "endpoint": [True], "source": [0], "destination": [1], "a": [X], "x": [X]}
COUNTERPARTS = {f.__name__: (f, numpy) for numpy, f in NUMPY.items() if not isinstance(numpy, np.ufunc)
                and getattr(f, "__name__", None) == numpy.__name__}


def outcome(function, args, settings):
    try:
        y = function(*args, **settings)
        return np.asarray(y) if y is args[0] and isinstance(y, list) else y
    except Exception as error:  # whatever kind it is
        return error


def arrays(y):
    several = y if isinstance(y, (tuple, list)) else [y]
    return [v.detach().numpy() if isinstance(v, mg.Tensor) else np.asarray(v) for v in several]


def same(found, expected, name, call):
    """Values, shapes and dtypes; of decompositions up to signs."""
    for a, b in zip(arrays(found), arrays(expected), strict=True):
        a, b = (abs(a), abs(b)) if name in ("svd", "qr", "eigh") else (a, b)
        assert a.shape == b.shape and (a.dtype == b.dtype or name in ("where", "qr")), call
        np.testing.assert_allclose(a, b, rtol=1e-6 if a.dtype == np.float32 else 1e-12, atol=1e-12, err_msg=call)


def accepted(ours, numpys, args):
    """Whether both take these inputs, and to one effect."""
    results = [outcome(f, args, {}) for f in (ours, numpys)]
    if any(isinstance(y, Exception) for y in results) or len(arrays(results[0])) != len(arrays(results[1])):
        return False
    return all(a.shape == b.shape and np.allclose(abs(a), abs(b)) for a, b in zip(*map(arrays, results)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(COUNTERPARTS))
def test_keywords_mean_what_they_mean_in_numpy(name):
    ours, numpys = COUNTERPARTS[name]
    try:
        keywords = [p.name for p in inspect.signature(numpys).parameters.values() if p.kind is not p.POSITIONAL_ONLY]
    except ValueError:
        keywords = ["axis", "out", "dtype", "casting"]
    for args in CALLS:
        if not accepted(ours, numpys, args):
            continue
        for keyword in {*keywords, "min", "max", "correction", "constant_values"}:
            for value in VALUES.get(keyword, ()):
                expected = outcome(numpys, args, {keyword: value})
                tensors = tuple(mg.Tensor(a, requires_grad=True) if a is X else a for a in args)
                for way, function, inputs in (("mg", ours, args), ("np", numpys, tensors)):
                    y = outcome(function, inputs, {keyword: value})
                    call = f"{way}.{name}({', '.join(map(repr, args))}, {keyword}={value!r})"
                    if value is None and isinstance(expected, Exception) and not isinstance(y, Exception):
                        same(y, outcome(ours, args, {}), name, call)  # None stands for what is left out
                    elif name == "clip" and "missing" in str(expected) or "unexpected keyword" in str(expected):
                        assert way == "np" or not isinstance(y, Exception) or keyword in str(y), call  # known to a later NumPy
                    elif not isinstance(y, Exception):
                        assert not isinstance(expected, Exception), f"{call}: {expected!r}"
                        same(y, expected, name, call)
                    else:
                        assert isinstance(expected, Exception) or keyword in str(y), f"{call}: {y!r}"


# -- gradients of what the keywords select -----------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_reductions_of_selected_elements(data):
    shape = data.draw(shapes(min_ndim=1))
    x = data.draw(drawn_arrays(shape))
    axis = data.draw(st.sampled_from([None, 0, -1, tuple(range(len(shape)))]))
    keepdims, seed = data.draw(st.booleans()), data.draw(st.integers(0, 1000))
    masked = shape[data.draw(st.integers(0, len(shape))):]
    mask = np.random.default_rng(seed).random([data.draw(st.sampled_from([n, 1])) for n in masked]) < 0.6
    initial = data.draw(st.sampled_from([0.37, -5.0, 5.0]))
    for name in ("sum", "prod", "max", "min", "mean"):
        keywords = {"axis": axis, "keepdims": keepdims, "where": mask}
        if name != "mean":
            keywords["initial"] = initial
        f = getattr(mg, name)
        with np.errstate(all="ignore"):
            expected = getattr(np, name)(x, **keywords)
        for y in (f(x, **keywords), getattr(mg.Tensor(x), name)(**keywords), getattr(np, name)(mg.Tensor(x, True), **keywords)):
            assert y.shape == np.shape(expected)
            np.testing.assert_allclose(y.detach().numpy(), expected, rtol=1e-12, atol=1e-12)
        if np.isfinite(expected).all():
            check_derivatives(lambda x: f(x, **keywords), [x], order=2)
    check_derivatives(lambda x, c: mg.sum(x, axis, keepdims, initial=c) + mg.prod(x, axis, keepdims, initial=c), [x, 0.7])


@pytest.mark.parametrize("dtype", ["float16", pytest.param("bfloat16", marks=wants_bfloat16), "float32", "float64", "int32", "bool"])
def test_dtypes_of_reductions(dtype):
    x = mg.Tensor([[1, 0], [1, 1]]).astype(dtype)
    mask = np.array([True, False])
    assert mg.sum(x, where=mask).tolist() == 2 and mg.sum(x, where=mask).dtype == mg.sum(x).dtype
    assert mg.mean(x, 1, where=mask).tolist() == [1, 1] and mg.mean(x, where=mask).dtype == mg.mean(x).dtype
    assert mg.max(x, initial=0, where=mask).dtype == mg.min(x, initial=0).dtype == x.dtype
    assert mg.sum(x, initial=2.0).dtype == mg.sum(x).dtype and mg.sum(x, initial=2.0).tolist() == 5
    for narrow in ("int8", "uint8", "int32", "bool", "int64"):
        for name in ("sum", "prod", "cumsum", "cumprod"):
            made = getattr(mg, name)(x.astype("int32") * 100, axis=1, dtype=narrow)
            expected = getattr(np, name)(x.astype("int32").numpy() * 100, axis=1, dtype=narrow)
            assert made.dtype == expected.dtype and made.tolist() == expected.tolist()
    for wide in ("float32", "float64"):
        for f in (mg.sum, mg.prod, mg.mean, mg.cumsum, mg.cumprod):
            assert f(x, dtype=wide).dtype == wide
            if dtype.startswith(("float", "bfloat")):
                assert mg.grad(lambda x: f(x, dtype=wide).sum())(x).dtype == x.dtype


def test_what_selects_nothing_sensible_is_refused():
    x = mg.Tensor(X, requires_grad=True)
    for name in ("sum", "prod", "mean", "max", "min"):
        initial = {} if name == "mean" else {"initial": 1.0}
        f = getattr(mg, name)
        with pytest.raises(TypeError, match=f"{name}: where holds bools, not int64"):
            f(x, where=np.array([1, 0]), **initial)
        for wrong in (np.ones((3, 2, 2), bool), np.ones(3, bool), np.ones((2, 2, 1), bool)):
            with pytest.raises(ValueError, match=rf"{name}: where of shape .* does not broadcast to that of x, \(2, 2\)"):
                f(x, where=wrong, **initial)
        if initial:
            with pytest.raises(ValueError, match=rf"{name}: initial is one number, not of shape \(2,\)"):
                f(x, initial=np.ones(2))
    for f in (mg.max, mg.min):
        with pytest.raises(ValueError, match="where needs initial"):
            f(x, where=MASK)
    for f in (mg.var, mg.std):
        with pytest.raises(TypeError, match="ddof and correction are one argument"):
            f(x, ddof=1, correction=1)
        for wrong in ("1", None, [1], np.float32):
            with pytest.raises(TypeError, match="ddof is a number"):
                f(x, ddof=wrong)
    assert mg.max(np.zeros((0, 2)), 0, initial=3.0).tolist() == [3, 3]
    assert mg.grad(lambda c: mg.min(np.zeros((2, 0)), 1, initial=c).sum())(3.0).item() == 2


# -- axes of numbers ---------------------------------------------------------------------------------------------------


AXES = (None, 0, -1, 1, -2, (), (0,), (-1,), (0, 0))
OF_A_NUMBER = {
    **{name: lambda m, x, axis, name=name: getattr(m, name)(x, axis=axis) for name in (
        "sum", "prod", "max", "min", "any", "all", "cumsum", "cumprod", "argmax", "argmin", "mean", "var", "std", "median",
        "count_nonzero", "sort", "argsort", "flip", "squeeze")},
    "repeat": lambda m, x, axis: m.repeat(x, 2, axis), "take": lambda m, x, axis: m.take(x, [0, 0], axis),
    "roll": lambda m, x, axis: m.roll(x, 1, axis), "expand_dims": lambda m, x, axis: m.expand_dims(x, axis),
    "norm": lambda m, x, axis: (np.linalg if m is np else m).norm(x, axis=axis)}


@pytest.mark.parametrize("name", OF_A_NUMBER)
def test_axes_of_a_number(name):
    f, x = OF_A_NUMBER[name], np.array(3.5)
    for axis in AXES:
        if name in ("take", "repeat", "roll", "expand_dims", "norm") and axis is None:
            continue
        expected = outcome(lambda m, *args: f(m, *args), (np, x, axis), {})
        found = outcome(lambda m, *args: f(m, *args), (mg, mg.Tensor(x, requires_grad=True), axis), {})
        if isinstance(expected, Exception):
            assert isinstance(found, (ValueError, TypeError)), (axis, found)
            continue
        assert not isinstance(found, Exception), (axis, found)
        expected = np.asarray(expected)  # NumPy 1 counts in int
        assert found.shape == expected.shape and found.detach().tolist() == expected.tolist(), axis
        if found.requires_grad and name not in ("var", "std"):
            assert mg.grad(lambda x: f(mg, x, axis).sum())(x).item() == expected.size, axis
    for keepdims in (True, False):
        assert mg.sum(x, 0, keepdims).shape == mg.prod(x, -1, keepdims).shape == ()


def test_lengths_that_stay_as_they_are():
    x = np.arange(6.0).reshape(2, 1, 3)
    for shape, wanted in (((-1, 4, -1), (2, 4, 3)), ((5, -1, -1, 3), (5, 2, 1, 3)), ((-1, -1, -1), (2, 1, 3))):
        y = mg.Tensor(x).broadcast_to(shape)
        assert y.shape == wanted and (y.numpy() == np.broadcast_to(x, wanted)).all()
        check_derivatives(lambda x: mg.broadcast_to(x, shape), [x])
    assert mg.broadcast_to(np.ones(3), -1).shape == (3,)
    for wrong in ((-1, 2, 1, 3), (-1, 3), (-2, 1, 3), (2, -1), -1):
        with pytest.raises(ValueError, match="broadcast_to"):
            mg.broadcast_to(x, wrong)


def test_results_have_names():
    square = mg.Tensor(X @ X.T, requires_grad=True)
    for f, names in ((mg.slogdet, "sign logabsdet"), (mg.eigh, "eigenvalues eigenvectors"), (mg.svd, "U S Vh"), (mg.qr, "Q R")):
        found, expected = f(square), getattr(np.linalg, f.__name__)(square.detach().numpy())
        for k, name in enumerate(names.split()):
            assert getattr(found, name) is found[k]
            np.testing.assert_allclose(abs(found[k].detach().numpy()), abs(np.asarray(getattr(expected, name))))
    assert np.linalg.eigh(square).eigenvalues.requires_grad
    upper = np.triu(X @ X.T) + np.tril(np.full((2, 2), 9.0), -1)
    np.testing.assert_allclose(mg.eigh(upper, "U").eigenvalues.numpy(), np.linalg.eigvalsh(X @ X.T))
    np.testing.assert_allclose(mg.eigvalsh(upper, UPLO="U").numpy(), np.linalg.eigvalsh(X @ X.T))
    symmetric = lambda x: (x + x.T) / 2
    check_derivatives(lambda x: mg.eigh(symmetric(x), "U")[0], [X])


# -- ufuncs ------------------------------------------------------------------------------------------------------------


UFUNCS = {name: getattr(np, name) for name in mg.ops.__all__ if isinstance(getattr(np, name, None), np.ufunc)}
KEYWORDS = {"where": np.array([True, False]), "dtype": np.float32, "out": np.zeros(2), "casting": "no", "order": "F",
            "subok": True, "signature": "d->d"}


@pytest.mark.parametrize("name", sorted(UFUNCS))
def test_ufuncs_take_their_inputs_and_nothing_else(name):
    dtype = int if "bit" in name or name == "invert" else float
    values = [[1, 2]] if dtype is int or name == "arccosh" else [[0.25, 0.5]]  # within the domain of all
    f, inputs = getattr(mg, name), [np.array(values * 2, dtype)] * UFUNCS[name].nin
    f(*inputs)
    tensors = [mg.Tensor(x, requires_grad=x.dtype == float) for x in inputs]
    for args in (inputs, tensors, [mg.Tensor(x) for x in inputs]):
        for keyword, value in KEYWORDS.items():
            with pytest.raises(TypeError, match=keyword):
                f(*args, **{keyword: value})
        for more in (np.zeros((2, 2)), mg.Tensor(np.zeros((2, 2))), np.zeros((2, 2), bool)):
            with pytest.raises(TypeError, match=name):
                f(*args, more)
            assert not mg.Tensor(more).numpy().any()
    for keyword in ("where", "dtype", "casting"):
        if tensors[0].requires_grad:
            with pytest.raises(TypeError, match=keyword):
                UFUNCS[name](*tensors, **{keyword: KEYWORDS[keyword]})
