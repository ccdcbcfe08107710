"""Every differentiable operation: values as NumPy's, three orders of derivatives, dtype, empty, strided and 0-d inputs."""
import math

import numpy as np
import pytest
from checks import arrays, bfloat16, check_derivatives, shapes
from hypothesis import given, settings, strategies as st

import minigrad as mg

QUICK = settings(max_examples=6, deadline=None, derandomize=True)

HALF = {np.float16: 2e-3} | ({bfloat16: 1e-2} if bfloat16 else {})  # and the rounding of a result

UNARY = {  # name: (NumPy's function, domain)
    "copy": (np.copy, (-2, 2)), "negative": (np.negative, (-2, 2)), "reciprocal": (np.reciprocal, (0.5, 2)),
    "square": (np.square, (-2, 2)),
    "exp": (np.exp, (-2, 2)), "exp2": (np.exp2, (-2, 2)), "expm1": (np.expm1, (-2, 2)), "log": (np.log, (0.5, 3)),
    "log2": (np.log2, (0.5, 3)), "log10": (np.log10, (0.5, 3)), "log1p": (np.log1p, (-0.5, 3)), "sqrt": (np.sqrt, (0.5, 3)),
    "sin": (np.sin, (-2, 2)), "cos": (np.cos, (-2, 2)), "tan": (np.tan, (-1, 1)), "arcsin": (np.arcsin, (-0.8, 0.8)),
    "arccos": (np.arccos, (-0.8, 0.8)), "arctan": (np.arctan, (-2, 2)), "sinh": (np.sinh, (-2, 2)), "cosh": (np.cosh, (-2, 2)),
    "tanh": (np.tanh, (-2, 2)), "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), (-3, 3)),
    "erf": (np.vectorize(math.erf, otypes=[float]), (-3, 3)), "abs": (np.abs, (-2, 2)), "sign": (np.sign, (-2, 2)),
    "floor": (np.floor, (0.1, 0.9)), "ceil": (np.ceil, (0.1, 0.9)), "round": (np.rint, (0.1, 0.4)),
    "relu": (lambda x: np.maximum(x, 0), (-2, 2))}

BINARY = {
    "add": (np.add, (-2, 2), (-2, 2)), "subtract": (np.subtract, (-2, 2), (-2, 2)), "multiply": (np.multiply, (-2, 2), (-2, 2)),
    "divide": (np.divide, (-2, 2), (0.5, 2)), "power": (np.power, (0.5, 2), (-2, 2)), "maximum": (np.maximum, (-2, 2), (-1.9, 2.1)),
    "minimum": (np.minimum, (-2, 2), (-1.9, 2.1)), "logaddexp": (np.logaddexp, (-2, 2), (-2, 2)),
    "arctan2": (np.arctan2, (0.5, 2), (0.5, 2)), "remainder": (np.remainder, (0.1, 0.9), (1.5, 2.5))}


@pytest.mark.parametrize("name", UNARY)
@QUICK
@given(data=st.data())
def test_unary(name, data):
    reference, (low, high) = UNARY[name]
    x = data.draw(arrays(data.draw(shapes()), low, high))
    before = x.copy()
    y = getattr(mg, name)(x)
    np.testing.assert_allclose(y.numpy(), reference(x), rtol=1e-13, atol=1e-15)
    check_derivatives(getattr(mg, name), [x])
    assert (x == before).all() and getattr(mg, name)(x.astype(np.float32)).dtype == np.float32
    for half, tolerance in HALF.items():
        rounded = x.astype(half)
        y = getattr(mg, name)(rounded)
        assert y.dtype == half
        np.testing.assert_allclose(y.numpy().astype(float), reference(rounded.astype(float)), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", BINARY)
@QUICK
@given(data=st.data())
def test_binary(name, data):
    reference, first, second = BINARY[name]
    shape = data.draw(shapes())
    ones = [tuple(1 if data.draw(st.booleans()) else n for n in shape)[data.draw(st.integers(0, len(shape))):] for _ in range(2)]
    x, y = data.draw(arrays(ones[0], *first)), data.draw(arrays(ones[1], *second))
    if name in ("maximum", "minimum"):
        y = y + 0.0137  # away from ties
    np.testing.assert_allclose(getattr(mg, name)(x, y).numpy(), reference(x, y), rtol=1e-13)
    check_derivatives(getattr(mg, name), [x, y])
    x32 = mg.Tensor(x.astype(np.float32))
    assert getattr(mg, name)(x32, 1.5).dtype == getattr(mg, name)(np.float64(1.5), x32).dtype == np.float32
    for half, tolerance in HALF.items():
        a, b = x.astype(half), y.astype(half)
        z = getattr(mg, name)(a, b)
        assert z.dtype == getattr(mg, name)(mg.Tensor(a), 1.5).dtype == half
        np.testing.assert_allclose(z.numpy().astype(float), reference(a.astype(float), b.astype(float)), rtol=2 * tolerance)


@pytest.mark.parametrize("x, y, slope", [(7.5, 3.0, -2), (-7.5, 3.0, 3), (7.5, -3.0, 3), (-7.5, -3.0, -2)])
def test_slope_of_the_remainder_for_every_pair_of_signs(x, y, slope):
    """By y it is -floor(x / y), which of numbers of unlike signs is not the whole part of x / y."""
    assert mg.grad(lambda y: mg.remainder(x, y))(y).item() == slope and mg.grad(lambda x: mg.remainder(x, y))(x).item() == 1


REDUCTIONS = {"sum": np.sum, "mean": np.mean, "var": np.var, "std": np.std, "max": np.max, "min": np.min, "prod": np.prod,
              "logsumexp": lambda x, axis, keepdims: np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims)),
              "norm": lambda x, axis, keepdims: np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims))}


@pytest.mark.parametrize("name", REDUCTIONS)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(data=st.data())
def test_reductions(name, data):
    shape = data.draw(shapes(min_side=2 if name == "std" else 1, max_side=3, min_ndim=1 if name == "std" else 0))
    x = data.draw(arrays(shape))
    axes = data.draw(st.lists(st.sampled_from(range(len(shape))), unique=True, min_size=name == "std")) if shape else []
    axis = data.draw(st.sampled_from([None, tuple(axes), tuple(a - len(shape) for a in axes)]))
    if axis == () and name == "norm":
        axis = None
    keepdims = data.draw(st.booleans())
    f = lambda x: (mg.norm(x, axis=axis, keepdims=keepdims) if name == "norm" else getattr(mg, name)(x, axis, keepdims=keepdims))
    np.testing.assert_allclose(f(x).numpy(), REDUCTIONS[name](x, axis=axis, keepdims=keepdims), rtol=1e-12, atol=1e-13)
    check_derivatives(f, [x])


def test_reductions_of_nothing():
    x = mg.Tensor(np.zeros((2, 0)), requires_grad=True)
    for name, value in (("sum", 0), ("prod", 1), ("logsumexp", -np.inf)):
        y = getattr(mg, name)(x, 1)
        assert (y.numpy() == value).all() and mg.grad(y.sum(), x).shape == (2, 0)
    for name in ("max", "min"):
        with pytest.raises(ValueError, match=name):
            getattr(mg, name)(x, 1)


SHAPE = {  # on an array (2, 3, 4): ours, NumPy's
    "reshape": (lambda x: mg.reshape(x, (4, -1)), lambda x: x.reshape(4, -1)),
    "transpose": (lambda x: mg.transpose(x, (2, 0, 1)), lambda x: x.transpose(2, 0, 1)), "T": (lambda x: mg.transpose(x), lambda x: x.T),
    "swapaxes": (lambda x: mg.swapaxes(x, 0, -1), lambda x: x.swapaxes(0, -1)),
    "moveaxis": (lambda x: mg.moveaxis(x, (0, 1), (-1, 0)), lambda x: np.moveaxis(x, (0, 1), (-1, 0))),
    "expand_dims": (lambda x: mg.expand_dims(x, (0, 2)), lambda x: np.expand_dims(x, (0, 2))),
    "squeeze": (lambda x: mg.squeeze(x[:, :1], 1), lambda x: x[:, 0]),
    "broadcast_to": (lambda x: mg.broadcast_to(x, (2, 2, 3, 4)), lambda x: np.broadcast_to(x, (2, 2, 3, 4))),
    "concatenate": (lambda x: mg.concatenate([x, x[:, :1], x * 2], 1), lambda x: np.concatenate([x, x[:, :1], x * 2], 1)),
    "stack": (lambda x: mg.stack([x, x * x], -1), lambda x: np.stack([x, x * x], -1)),
    "split": (lambda x: mg.split(x, [1, 3], 2)[1], lambda x: np.split(x, [1, 3], 2)[1]),
    "array_split": (lambda x: mg.array_split(x, 3, 2)[0], lambda x: np.array_split(x, 3, 2)[0]),
    "pad": (lambda x: mg.pad(x, ((1, 0), (0, 2), (1, 1)), constant_values=3), lambda x: np.pad(x, ((1, 0), (0, 2), (1, 1)), constant_values=3)),
    "reflect": (lambda x: mg.pad(x, ((1, 0), (0, 2), (1, 1)), "reflect"), lambda x: np.pad(x, ((1, 0), (0, 2), (1, 1)), "reflect")),
    "flip": (lambda x: mg.flip(x, (0, 2)), lambda x: np.flip(x, (0, 2))), "roll": (lambda x: mg.roll(x, (1, -2), (0, 2)), lambda x: np.roll(x, (1, -2), (0, 2))),
    "roll flat": (lambda x: mg.roll(x, 5), lambda x: np.roll(x, 5)), "tile": (lambda x: mg.tile(x, (2, 1, 2, 1)), lambda x: np.tile(x, (2, 1, 2, 1))),
    "repeat": (lambda x: mg.repeat(x, [1, 0, 2], 1), lambda x: np.repeat(x, [1, 0, 2], 1)), "ravel": (mg.ravel, np.ravel),
    "cumsum": (lambda x: mg.cumsum(x, 1), lambda x: np.cumsum(x, 1)), "cumprod": (lambda x: mg.cumprod(x, -1), lambda x: np.cumprod(x, -1)),
    "clip": (lambda x: mg.clip(x, -1.01, 1.01), lambda x: np.clip(x, -1.01, 1.01)),
    "where": (lambda x: mg.where(x > 0.3, x * x, -x), lambda x: np.where(x > 0.3, x * x, -x)),
    "sort": (lambda x: mg.sort(x, 1), lambda x: np.sort(x, 1)), "top_k": (lambda x: mg.top_k(x, 2, 1)[0], lambda x: np.sort(x, 1)[:, ::-1][:, :2]),
    "slice": (lambda x: x[::-1, 1:, ::2], lambda x: x[::-1, 1:, ::2]), "new axis": (lambda x: x[None, ..., 0, None], lambda x: x[None, ..., 0, None]),
    "gather": (lambda x: x[[0, 1, 1, 0]], lambda x: x[[0, 1, 1, 0]]), "pairs": (lambda x: x[[0, 1, 1], :, [2, 2, 0]], lambda x: x[[0, 1, 1], :, [2, 2, 0]]),
    "mask": (lambda x: x[np.arange(24).reshape(2, 3, 4) % 3 == 0], lambda x: x[np.arange(24).reshape(2, 3, 4) % 3 == 0]),
    "take": (lambda x: mg.take(x, [[0, 2], [2, 2]], 1), lambda x: np.take(x, [[0, 2], [2, 2]], 1)),
    "take_along_axis": (lambda x: mg.take_along_axis(x, np.array([[[2, 0]], [[1, 1]]]), 2), lambda x: np.take_along_axis(x, np.array([[[2, 0]], [[1, 1]]]), 2)),
    "index_add": (lambda x: mg.index_add(x, (slice(None), [0, 0, 2]), x * x), lambda x: _added(x)),
    "index_update": (lambda x: mg.index_update(x, (slice(None), [0, 0, 2]), x * x), lambda x: _updated(x)),
    "scatter_add": (lambda x: mg.scatter_add(x, np.zeros((2, 3, 4), int), x * x, 2), lambda x: np.concatenate([x[..., :1] + (x * x).sum(-1, keepdims=True), x[..., 1:]], -1)),
    "softmax": (lambda x: mg.softmax(x, 1), lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True)),
    "log_softmax": (lambda x: mg.log_softmax(x, 1), lambda x: x - np.log(np.exp(x).sum(1, keepdims=True))),
    "matmul": (lambda x: x @ x.transpose((0, 2, 1)), lambda x: x @ x.transpose(0, 2, 1)), "matmul vector": (lambda x: x @ x[0, 0], lambda x: x @ x[0, 0]),
    "vector matmul": (lambda x: x[0, :, 0] @ x, lambda x: x[0, :, 0] @ x), "matmul broadcast": (lambda x: x[0] @ x.transpose((0, 2, 1)), lambda x: x[0] @ x.transpose(0, 2, 1)),
    "dot": (lambda x: mg.dot(x, x[0].T), lambda x: np.dot(x, x[0].T)), "inner": (lambda x: mg.inner(x, x[0]), lambda x: np.inner(x, x[0])),
    "outer": (lambda x: mg.outer(x[0, 0], x[1]), lambda x: np.outer(x[0, 0], x[1])),
    "tensordot": (lambda x: mg.tensordot(x, x, ((0, 2), (0, 2))), lambda x: np.tensordot(x, x, ((0, 2), (0, 2)))),
    "trace": (lambda x: mg.trace(x, 1, 1, 2), lambda x: np.trace(x, 1, 1, 2)), "diagonal": (lambda x: mg.diagonal(x, -1, 2, 0), lambda x: np.diagonal(x, -1, 2, 0)),
    "tril": (lambda x: mg.tril(x, 1), lambda x: np.tril(x, 1)), "triu": (lambda x: mg.triu(x, 1), lambda x: np.triu(x, 1))}


def _added(x):
    x = x.copy()
    np.add.at(x, (slice(None), [0, 0, 2]), x * x)
    return x


def _updated(x):
    y = x.copy()
    y[:, [0, 0, 2]] = x * x
    return y


@pytest.mark.parametrize("name", SHAPE)
@settings(max_examples=3, deadline=None, derandomize=True)
@given(data=st.data())
def test_arrangements(name, data):
    ours, reference = SHAPE[name]
    x = data.draw(arrays((2, 3, 4)))
    np.testing.assert_allclose(ours(mg.Tensor(x)).numpy(), reference(x), rtol=1e-12)
    check_derivatives(lambda x: ours(x if isinstance(x, mg.Tensor) else mg.Tensor(x)), [x])
    assert ours(mg.Tensor(x.astype(np.float32))).dtype == np.float32


EINSUMS = ["ij->ji", "ij,jk->ik", "ij,jk", "ii->i", "ii", "ij->", "i,i->", "ij,ij,ij->i", "ij,jk,kl,lm->im", "...i,...i->...",
           "...ij,...jk", "ijk,jil->kl", "i,j,k->ijk", "iij,jk->ik", "ij,kl->", "i...->..."]


@pytest.mark.parametrize("subscripts", EINSUMS)
@settings(max_examples=5, deadline=None, derandomize=True)
@given(data=st.data())
def test_einsum(subscripts, data):
    side = {c: data.draw(st.integers(1, 3)) for c in "ijklm"}
    inputs = subscripts.split("->")[0].split(",")
    lead = data.draw(shapes(max_ndim=2, min_side=1))
    operands = [data.draw(arrays((lead if "..." in s else ()) + tuple(side[c] for c in s.replace("...", "")), -1, 1)) if not s.endswith("...")
                else data.draw(arrays(tuple(side[c] for c in s.replace("...", "")) + lead, -1, 1)) for s in inputs]
    f = lambda *xs: mg.einsum(subscripts, *xs)
    np.testing.assert_allclose(f(*operands).numpy(), np.einsum(subscripts, *operands), rtol=1e-12, atol=1e-13)
    check_derivatives(f, operands)


def test_einsum_broadcasts_axes_of_length_one():
    x, y = np.random.default_rng(0).normal(size=(1, 3)), np.random.default_rng(1).normal(size=(4, 3))
    f = lambda x, y: mg.einsum("ij,ij->i", x, y)
    np.testing.assert_allclose(f(x, y).numpy(), (x * y).sum(1))
    check_derivatives(f, [x, y])


def _posdef(x):
    return x @ mg.swapaxes(x, -1, -2) + 2 * np.eye(x.shape[-2])


LINALG = {
    "inv": lambda x: mg.inv(_posdef(x)), "det": lambda x: mg.det(_posdef(x)), "slogdet": lambda x: mg.slogdet(_posdef(x))[1],
    "solve": lambda x: mg.solve(_posdef(x), x), "solve vector": lambda x: mg.solve(_posdef(x[0]), x[0, :, 0]),
    "cholesky": lambda x: mg.cholesky(_posdef(x)), "eigvalsh": lambda x: mg.eigvalsh(_posdef(x)),
    "eigh": lambda x: mg.eigh(_posdef(x))[1] ** 2, "svdvals": lambda x: mg.svdvals(x),
    "norm 1": lambda x: mg.norm(x, 1, 1), "norm 3": lambda x: mg.norm(x, 3, -1, True), "norm inf": lambda x: mg.norm(x, np.inf, (1, 2)),
    "norm nuc": lambda x: mg.norm(x, "nuc", (1, 2)), "norm 2": lambda x: mg.norm(x, 2, (0, 2)), "norm fro": lambda x: mg.norm(x, "fro", (0, 1))}


@pytest.mark.parametrize("name", LINALG)
def test_linear_algebra(name):
    x = np.random.default_rng(3).normal(size=(2, 3, 4))
    check_derivatives(lambda x: LINALG[name](x if isinstance(x, mg.Tensor) else mg.Tensor(x)), [x], rtol=1e-4)


def test_linear_algebra_values():
    x = np.random.default_rng(4).normal(size=(2, 3, 4))
    np.testing.assert_allclose(mg.svdvals(x).numpy(), np.linalg.svd(x, compute_uv=False))
    for ord, axis in ((None, None), (1, 1), (3, -1), (np.inf, 0), (-np.inf, 0), (0, 1), ("fro", (0, 2)), ("nuc", (1, 2)), (2, (0, 1)),
                      (-2, (0, 1)), (1, (1, 2)), (-1, (2, 0)), (np.inf, (0, 1))):
        np.testing.assert_allclose(mg.norm(x, ord, axis).numpy(), np.linalg.norm(x if axis is not None else x.ravel(), ord, axis), err_msg=str((ord, axis)))
    with pytest.raises(np.linalg.LinAlgError):
        mg.inv(np.zeros((2, 2)))


