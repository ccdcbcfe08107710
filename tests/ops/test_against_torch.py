"""Every operation that PyTorch has: value, gradient and Hessian-vector product equal PyTorch's, in both precisions."""
import numpy as np
import pytest
from checks import arrays, optional, shapes
from hypothesis import given, settings, strategies as st

import minigrad as mg

torch = optional("torch")
F = torch.nn.functional

UNARY = {  # name: (PyTorch's function, domain)
    "negative": (torch.negative, -2, 2), "reciprocal": (torch.reciprocal, 0.5, 2), "square": (torch.square, -2, 2),
    "exp": (torch.exp, -2, 2), "exp2": (torch.exp2, -2, 2), "expm1": (torch.expm1, -2, 2), "log": (torch.log, 0.5, 3),
    "log2": (torch.log2, 0.5, 3), "log10": (torch.log10, 0.5, 3), "log1p": (torch.log1p, -0.5, 3),
    "sqrt": (torch.sqrt, 0.5, 3),
    "sin": (torch.sin, -2, 2), "cos": (torch.cos, -2, 2), "tan": (torch.tan, -1, 1), "arcsin": (torch.arcsin, -0.8, 0.8),
    "arccos": (torch.arccos, -0.8, 0.8), "arctan": (torch.arctan, -2, 2), "sinh": (torch.sinh, -2, 2),
    "cosh": (torch.cosh, -2, 2),
    "tanh": (torch.tanh, -20, 20), "sigmoid": (torch.sigmoid, -40, 40), "erf": (torch.erf, -5, 5), "abs": (torch.abs, -2, 2),
    "sign": (torch.sign, -2, 2), "floor": (torch.floor, -2.9, 2.9), "ceil": (torch.ceil, -2.9, 2.9),
    "round": (torch.round, -2.9, 2.9), "relu": (torch.relu, -2, 2)}
BINARY = {
    "add": (torch.add, -2, 2), "subtract": (torch.subtract, -2, 2), "multiply": (torch.multiply, -2, 2),
    "divide": (torch.divide, 0.5, 2), "power": (torch.pow, 0.5, 2), "maximum": (torch.maximum, -2, 2),
    "minimum": (torch.minimum, -2, 2), "logaddexp": (torch.logaddexp, -2, 2), "arctan2": (torch.arctan2, 0.5, 2),
    "remainder": (torch.remainder, 0.5, 2)}


def outputs(y):
    """One or several results, as a list."""
    return list(y) if isinstance(y, (tuple, list)) else [y]


def compare(ours, theirs, inputs, dtype=np.float64):
    """Value, gradient along random cotangents, and the derivative of that gradient along random directions."""
    rng = np.random.default_rng(0)
    inputs = [x.astype(dtype) for x in inputs]  # keeps odd strides
    xs = [mg.Tensor(x, requires_grad=True) for x in inputs]
    ts = [torch.tensor(x.copy(), requires_grad=True) for x in inputs]
    ys, us = outputs(ours(*xs)), outputs(theirs(*ts))
    tolerance = {np.float64: 1e-9, np.float32: 2e-4}[dtype]

    def same(a, b, what):
        a, b = a.numpy(), b.numpy(force=True)
        assert a.shape == b.shape and a.dtype == b.dtype == dtype, (what, a.shape, b.shape, a.dtype, b.dtype)
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1, np.abs(b).max(initial=0)), err_msg=what)

    for y, u in zip(ys, us, strict=True):
        same(y, u, "value")
    weights = [rng.normal(size=tuple(u.shape)).astype(dtype) for u in us]
    vs = [rng.normal(size=x.shape).astype(dtype) for x in inputs]
    first = mg.grad(sum((y * w).sum() for y, w in zip(ys, weights)), xs, create_graph=True)
    total = sum((u * torch.tensor(w)).sum() for u, w in zip(us, weights))
    expected = torch.autograd.grad(total, ts, create_graph=True, materialize_grads=True)
    for g, e in zip(first, expected):
        same(g, e, "gradient")
    slope = sum((g * v).sum() for g, v in zip(first, vs))
    expected = sum((g * torch.tensor(v)).sum() for g, v in zip(expected, vs))
    second = mg.grad(slope, xs) if slope.requires_grad else [mg.zeros_like(x) for x in xs]
    expected = (torch.autograd.grad(expected, ts, materialize_grads=True) if expected.requires_grad
                else [torch.zeros_like(t) for t in ts])
    for g, e in zip(second, expected):
        same(g, e, "second order")


def examples(count):
    """A decorator: `count` drawn examples, with both dtypes."""
    def decorate(test):
        test = given(data=st.data(), dtype=st.sampled_from([np.float64, np.float32]))(test)
        return settings(max_examples=count, deadline=None, derandomize=True)(test)
    return decorate


@pytest.mark.parametrize("name", UNARY)
@examples(8)
def test_unary(name, data, dtype):
    theirs, low, high = UNARY[name]
    compare(getattr(mg, name), theirs, [data.draw(arrays(data.draw(shapes()), low, high))], dtype)


@pytest.mark.parametrize("name", BINARY)
@examples(12)
def test_binary(name, data, dtype):
    theirs, low, high = BINARY[name]
    shape = data.draw(shapes())
    parts = [tuple(1 if data.draw(st.booleans()) else n for n in shape)[data.draw(st.integers(0, len(shape))):]
             for _ in range(2)]
    x, y = (data.draw(arrays(part, low, high)) for part in parts)
    y = y * 1.2345 if name == "remainder" else y + 0.0137 if name in ("maximum", "minimum") else y
    compare(getattr(mg, name), theirs, [x, y], dtype)


REDUCTIONS = {
    "sum": torch.sum, "mean": torch.mean, "logsumexp": torch.logsumexp, "max": torch.amax, "min": torch.amin,
    "var": lambda x, dim, keepdim: torch.var(x, dim, correction=0, keepdim=keepdim),
    "std": lambda x, dim, keepdim: torch.std(x, dim, correction=0, keepdim=keepdim),
    "norm": lambda x, dim, keepdim: torch.linalg.vector_norm(x, 2, dim, keepdim)}


@pytest.mark.parametrize("name", REDUCTIONS)
@examples(12)
def test_reductions(name, data, dtype):
    shape = data.draw(shapes(min_ndim=1, min_side=2 if name == "std" else 1))
    axes = data.draw(st.lists(st.integers(0, len(shape) - 1), unique=True, min_size=1))
    axes = tuple(a - len(shape) if data.draw(st.booleans()) else a for a in axes)
    keepdims = data.draw(st.booleans())
    compare(lambda x: getattr(mg, name)(x, axis=axes, keepdims=keepdims),
            lambda x: REDUCTIONS[name](x, dim=axes, keepdim=keepdims),
            [data.draw(arrays(shape))], dtype)


def test_corrected_variance():
    x = np.random.default_rng(0).normal(size=(3, 4))
    for ddof in (1, 2):
        compare(lambda x: mg.var(x, 1, ddof=ddof), lambda x: torch.var(x, 1, correction=ddof), [x])
        compare(lambda x: mg.std(x, (0, 1), ddof=ddof), lambda x: torch.std(x, (0, 1), correction=ddof), [x])


ALONG = {  # (ours, theirs) of an array and an axis
    "prod": (mg.prod, torch.prod), "cumsum": (mg.cumsum, torch.cumsum), "cumprod": (mg.cumprod, torch.cumprod),
    "softmax": (mg.softmax, torch.softmax), "log_softmax": (mg.log_softmax, torch.log_softmax),
    "flip": (mg.flip, lambda x, a: torch.flip(x, (a,))), "sort": (mg.sort, lambda x, a: torch.sort(x, a)[0]),
    "top_k": (lambda x, a: mg.top_k(x, 2, a)[0], lambda x, a: torch.topk(x, 2, a)[0]),
    "roll": (lambda x, a: mg.roll(x, -4, a), lambda x, a: torch.roll(x, -4, a)),
    "split": (lambda x, a: mg.split(x, [1, 1, 2], a), lambda x, a: torch.tensor_split(x, (1, 1, 2), a)),
    "array_split": (lambda x, a: mg.array_split(x, 2, a), lambda x, a: torch.tensor_split(x, 2, a)),
    "repeat": (lambda x, a: mg.repeat(x, 3, a), lambda x, a: torch.repeat_interleave(x, 3, a)),
    "take": (lambda x, a: mg.take(x, [1, 0, -1, 1], a),
             lambda x, a: torch.index_select(x, a, torch.tensor([1, 0, x.shape[a] - 1, 1]))),
    "concatenate": (lambda x, a: mg.concatenate([x, x * x, x], a), lambda x, a: torch.cat([x, x * x, x], a)),
    "stack": (lambda x, a: mg.stack([x, x * x], a), lambda x, a: torch.stack([x, x * x], a)),
    "expand_dims": (mg.expand_dims, torch.unsqueeze),
    "swapaxes": (lambda x, a: mg.swapaxes(x, a, 0), lambda x, a: torch.swapaxes(x, a, 0)),
    "moveaxis": (lambda x, a: mg.moveaxis(x, a, 0), lambda x, a: torch.moveaxis(x, a, 0)),
    "squeeze": (lambda x, a: mg.squeeze(mg.sum(x, a, keepdims=True), a),
                lambda x, a: torch.squeeze(torch.sum(x, a, keepdim=True), a))}


@pytest.mark.parametrize("name", ALONG)
@examples(8)
def test_along_an_axis(name, data, dtype):
    ours, theirs = ALONG[name]
    shape = data.draw(shapes(min_ndim=1, min_side=2))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    compare(lambda x: ours(x, axis), lambda x: theirs(x, axis), [data.draw(arrays(shape))], dtype)


WHOLE = {  # of an array (2, 3, 4)
    "reshape": (lambda x: x.reshape(4, -1), lambda x: x.reshape(4, -1)),
    "transpose": (lambda x: mg.transpose(x, (1, 2, 0)), lambda x: x.permute(1, 2, 0)),
    "ravel": (mg.ravel, torch.ravel), "flatten": (lambda x: mg.flatten(x, 1), lambda x: torch.flatten(x, 1)),
    "broadcast_to": (lambda x: mg.broadcast_to(x[:, :1], (3, 2, 5, 4)),
                     lambda x: torch.broadcast_to(x[:, :1], (3, 2, 5, 4))),
    "tile": (lambda x: mg.tile(x, (2, 1, 3)), lambda x: torch.tile(x, (2, 1, 3))),
    "roll": (lambda x: mg.roll(x, 5), lambda x: torch.roll(x, 5)),
    "pad": (lambda x: mg.pad(x, ((0, 0), (1, 2), (3, 0)), constant_values=2), lambda x: F.pad(x, (3, 0, 1, 2), value=2)),
    "reflect": (lambda x: mg.pad(x, ((0, 0), (0, 0), (2, 1)), "reflect"), lambda x: F.pad(x, (2, 1), "reflect")),
    "wrap": (lambda x: mg.pad(x, ((0, 0), (0, 0), (2, 1)), "wrap"), lambda x: F.pad(x, (2, 1), "circular")),
    "edge": (lambda x: mg.pad(x, ((0, 0), (0, 0), (2, 1)), "edge"), lambda x: F.pad(x, (2, 1), "replicate")),
    "tril": (lambda x: mg.tril(x, -1), lambda x: torch.tril(x, -1)),
    "triu": (lambda x: mg.triu(x, 1), lambda x: torch.triu(x, 1)),
    "diagonal": (lambda x: mg.diagonal(x, 1, 1, 2), lambda x: torch.diagonal(x, 1, 1, 2)),
    "trace": (lambda x: mg.trace(x[0]), lambda x: torch.trace(x[0])),
    "clip": (lambda x: mg.clip(x, -1, 0.9), lambda x: torch.clip(x, -1, 0.9)),
    "clip below": (lambda x: mg.clip(x, 0.3), lambda x: torch.clip(x, 0.3)),
    "where": (lambda x: mg.where(x.detach() > 0, mg.exp(x), x * x),
              lambda x: torch.where(x.detach() > 0, torch.exp(x), x * x)),
    "cumsum of products": (lambda x: mg.cumsum(x * x), lambda x: torch.cumsum((x * x).ravel(), 0)),
    "power 3": (lambda x: x ** 3, lambda x: x ** 3), "number to a power": (lambda x: 1.7 ** x, lambda x: 1.7 ** x),
    "int": (lambda x: x[1, -1], lambda x: x[1, -1]), "slices": (lambda x: x[:, 1:, ::2], lambda x: x[:, 1:, ::2]),
    "new axis": (lambda x: x[None, ..., 1:2, None], lambda x: x[None, ..., 1:2, None]),
    "lists": (lambda x: x[[0, 1, 1], :, [3, 0, 0]], lambda x: x[[0, 1, 1], :, [3, 0, 0]]),
    "mask": (lambda x: x[x.detach() > 0], lambda x: x[x.detach() > 0]),
    "row mask": (lambda x: x[:, np.array([True, False, True])], lambda x: x[:, torch.tensor([True, False, True])]),
    "inner": (lambda x: mg.inner(x, x[0]), lambda x: torch.inner(x, x[0])),
    "outer": (lambda x: mg.outer(x[0, 0], x[1, :, 0]), lambda x: torch.outer(x[0, 0], x[1, :, 0])),
    "tensordot": (lambda x: mg.tensordot(x, x, ((0, 2), (0, 2))), lambda x: torch.tensordot(x, x, ((0, 2), (0, 2)))),
    "tensordot 2": (lambda x: mg.tensordot(x, mg.transpose(x, (1, 2, 0)), 2),
                    lambda x: torch.tensordot(x, x.permute(1, 2, 0), 2))}


@pytest.mark.parametrize("name", WHOLE)
@examples(4)
def test_rearrangements(name, data, dtype):
    compare(*WHOLE[name], [data.draw(arrays((2, 3, 4)))], dtype)


@examples(30)
def test_take_along_axis_and_scatter_add(data, dtype):
    shape = data.draw(shapes(min_ndim=1, min_side=1))
    axis = data.draw(st.integers(0, len(shape) - 1))
    along = tuple(data.draw(st.integers(1, 4)) if a == axis else n for a, n in enumerate(shape))
    indices = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, shape[axis], along)
    x, values = data.draw(arrays(shape)), data.draw(arrays(along))
    places = torch.tensor(indices)
    compare(lambda x: mg.take_along_axis(x, indices, axis) ** 2, lambda x: torch.gather(x, axis, places) ** 2, [x], dtype)
    compare(lambda x, v: mg.scatter_add(x, indices, v, axis) ** 2, lambda x, v: torch.scatter_add(x, axis, places, v) ** 2,
            [x, values], dtype)


@examples(15)
def test_index_add_and_index_update(data, dtype):
    x, v = data.draw(arrays((4, 3))), data.draw(arrays((3, 3)))
    often, once = [1, 3, 1], [2, 0, 3]
    compare(lambda x, v: mg.index_add(x, often, v) ** 2, lambda x, v: torch.index_add(x, 0, torch.tensor(often), v) ** 2,
            [x, v], dtype)
    compare(lambda x, v: mg.index_update(x, once, v) ** 2, lambda x, v: torch.index_copy(x, 0, torch.tensor(once), v) ** 2,
            [x, v], dtype)


@examples(40)
def test_matmul(data, dtype):
    """Operands of one to four axes, whose batch axes broadcast."""
    n, k, m = (data.draw(st.integers(0 if dtype is np.float64 else 1, 3)) for _ in range(3))
    batch = data.draw(shapes(max_ndim=2, min_side=1, max_side=2))
    lead = [tuple(1 if data.draw(st.booleans()) else n for n in batch)[data.draw(st.integers(0, len(batch))):]
            for _ in range(2)]
    left = data.draw(st.sampled_from([(k,), (*lead[0], n, k)]))
    right = data.draw(st.sampled_from([(k,), (*lead[1], k, m)]))
    compare(mg.matmul, torch.matmul, [data.draw(arrays(left)), data.draw(arrays(right))], dtype)


EINSUMS = ["ij->ji", "ij,jk->ik", "ij,jk", "ii->i", "ii", "ij->", "i,i->", "ij,ij,ij->i", "ij,jk,kl->il",
           "...ij,...jk->...ik", "ijk,jil->kl",
           "i,j,k->ijk", "iij,jk->ik", "ij,kl->", "...i->...", "ij,i,j->"]


@pytest.mark.parametrize("subscripts", EINSUMS)
@examples(6)
def test_einsum(subscripts, data, dtype):
    side = {c: data.draw(st.integers(1, 3)) for c in "ijkl"}
    lead = data.draw(shapes(max_ndim=2, min_side=1))
    operands = [data.draw(arrays((lead if "..." in s else ()) + tuple(side[c] for c in s.replace("...", ""))))
                for s in subscripts.split("->")[0].split(",")]
    compare(lambda *xs: mg.einsum(subscripts, *xs), lambda *xs: torch.einsum(subscripts, *xs), operands, dtype)


@examples(15)
def test_einsum_with_axes_of_length_one(data, dtype):
    sides = [data.draw(st.sampled_from([1, 3])) for _ in range(4)]
    operands = [data.draw(arrays(tuple(sides[:2]))), data.draw(arrays(tuple(sides[2:])))]
    for subscripts in ("ij,ij->ij", "ij,ij->i", "ij,ij->", "ij,ij->j"):
        compare(lambda *xs: mg.einsum(subscripts, *xs), lambda *xs: torch.einsum(subscripts, *xs), operands, dtype)


def definite(library, x):
    return x @ library.swapaxes(x, -1, -2) + 2 * (torch.eye(x.shape[-2], dtype=x.dtype) if library is torch
                                                  else np.eye(x.shape[-2], dtype=x.dtype))


LINALG = {  # of a matrix or a batch of them
    "inv": (lambda x: mg.inv(definite(mg, x)), lambda x: torch.linalg.inv(definite(torch, x))),
    "inv of any": (lambda x: mg.inv(x[..., :2, :2]), lambda x: torch.linalg.inv(x[..., :2, :2])),
    "det": (lambda x: mg.det(x[..., :2, :2]), lambda x: torch.linalg.det(x[..., :2, :2])),
    "slogdet": (lambda x: mg.slogdet(x[..., :2, :2]), lambda x: tuple(torch.linalg.slogdet(x[..., :2, :2]))),
    "solve": (lambda x: mg.solve(definite(mg, x), x), lambda x: torch.linalg.solve(definite(torch, x), x)),
    "solve one": (lambda x: mg.solve(definite(mg, x[(0,) * (x.ndim - 2)]), x[(0,) * (x.ndim - 2)][:, 0]),
                  lambda x: torch.linalg.solve(definite(torch, x[(0,) * (x.ndim - 2)]), x[(0,) * (x.ndim - 2)][:, 0])),
    "solve a vector for a batch": (lambda x: mg.solve(definite(mg, mg.stack([x, 2 * x])), x[(0,) * (x.ndim - 2)][:, 0]),
                                   lambda x: torch.linalg.solve(definite(torch, torch.stack([x, 2 * x])),
                                                                x[(0,) * (x.ndim - 2)][:, :1])[..., 0]),
    "cholesky": (lambda x: mg.cholesky(definite(mg, x)), lambda x: torch.linalg.cholesky(definite(torch, x))),
    "eigvalsh": (lambda x: mg.eigvalsh(definite(mg, x)), lambda x: torch.linalg.eigvalsh(definite(torch, x))),
    "eigh": (lambda x: mg.square(mg.eigh(definite(mg, x))[1]),
             lambda x: torch.square(torch.linalg.eigh(definite(torch, x))[1])),
    "svdvals": (mg.svdvals, torch.linalg.svdvals)}
NORMS = [(3, -1), (1, 0), (np.inf, 1), (-np.inf, 1), (0.5, 0), (-1, 0), ("fro", (0, 1)), ("nuc", (0, 1)), (2, (1, 0)),
         (-2, (0, 1)),
         (1, (0, 1)), (-1, (1, 0)), (np.inf, (0, 1)), (-np.inf, (0, 1))]


@pytest.mark.parametrize("name", LINALG)
@examples(8)
def test_linear_algebra(name, data, dtype):
    batch = data.draw(shapes(max_ndim=1, min_side=1, max_side=2))
    x = np.random.default_rng(data.draw(st.integers(0, 3))).normal(size=(*batch, 3, 4))
    compare(*LINALG[name], [x], dtype if name not in ("eigh", "inv of any", "slogdet", "det") else np.float64)


@pytest.mark.parametrize("ord, axis", NORMS)
def test_norms(ord, axis):
    x = np.random.default_rng(5).normal(size=(3, 4))
    theirs = torch.linalg.matrix_norm if isinstance(axis, tuple) else torch.linalg.vector_norm
    for keepdims in (False, True):
        compare(lambda x: mg.norm(x, ord, axis, keepdims), lambda x: theirs(x, ord, axis, keepdims), [x])


def test_conversion_between_floating_point_dtypes():
    """Gradients come back in the dtype of each input."""
    x = np.random.default_rng(6).normal(size=4)
    xs = [mg.Tensor(x.astype(d), requires_grad=True) for d in (np.float16, np.float32, np.float64)]
    ts = [torch.tensor(x.astype(d), requires_grad=True) for d in (np.float16, np.float32, np.float64)]
    y, u = xs[0] * xs[1] + (xs[1] * xs[2]).astype("float32"), ts[0] * ts[1] + (ts[1] * ts[2]).float()
    assert y.dtype == np.float32
    np.testing.assert_allclose(y.numpy(), u.numpy(force=True), rtol=1e-3)
    for g, x, e in zip(mg.grad(y.sum(), xs), xs, torch.autograd.grad(u.sum(), ts)):
        assert g.dtype == x.dtype
        np.testing.assert_allclose(g.numpy(), e.numpy(), rtol=2e-3)


LOSSES = {  # of two Tensors of one shape, and of 1 and -1
    "margin_ranking_loss": lambda f, x, y, signs: lambda **s: f(x, y, signs, margin=0.4, **s),
    "hinge_embedding_loss": lambda f, x, y, signs: lambda **s: f(x - y, signs, margin=0.3, **s),
    "cosine_embedding_loss": lambda f, x, y, signs: lambda **s: f(x, y, signs[..., 0], margin=0.2, **s),
    "gaussian_nll_loss": lambda f, x, y, signs: lambda **s: f(x, y, x**2 + 1e-3, full=True, eps=0.5, **s),
    "gaussian_nll_loss, one variance a row": lambda f, x, y, signs: lambda **s: f(x, y, y[..., 0] ** 2, **s),
    "gaussian_nll_loss, one variance a column": lambda f, x, y, signs: lambda **s: f(x, y, y[:1] ** 2, **s),
    "poisson_nll_loss": lambda f, x, y, signs: lambda **s: f(x, y**2, full=True, **s),
    "poisson_nll_loss, of means": lambda f, x, y, signs: lambda **s: f(x**2, y**2, log_input=False, full=True, eps=1e-3, **s)}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@examples(6)
def test_losses_of_two(name, reduction, data, dtype):
    least = 2 if name.endswith("column") else 1
    shape = (data.draw(st.integers(int(reduction == "mean" or least == 2), 3)), data.draw(st.integers(least, 4)))
    inputs = [data.draw(arrays(shape)) for _ in range(2)]
    signs = np.sign(data.draw(arrays(shape)))
    function = name.partition(",")[0]
    compare(lambda x, y: LOSSES[name](getattr(mg, function), x, y, signs.astype(int))(reduction=reduction),
            lambda x, y: LOSSES[name](getattr(F, function), x, y, torch.tensor(signs.astype(int)))(reduction=reduction),
            inputs, dtype)


@examples(40)
def test_pairwise_distance(data, dtype):
    shape = data.draw(shapes(min_ndim=1, min_side=1))
    inputs = [data.draw(arrays(shape)), data.draw(arrays(data.draw(st.sampled_from([shape, (1,) * len(shape), shape[-1:]]))))]
    settings = dict(p=data.draw(st.sampled_from([1, 2.0, 3.5, np.inf])), keepdim=data.draw(st.booleans()))
    compare(lambda x, y: mg.nn.functional.pairwise_distance(x, y, **settings), lambda x, y: F.pairwise_distance(x, y, **settings),
            inputs, dtype)


@examples(30)
def test_gumbel_softmax(data, dtype):
    """Of logits that are 0 it is softmax(noise), which tells the noise of any others after the same seed."""
    shape = data.draw(shapes(min_ndim=1, min_side=1))
    axis, tau = data.draw(st.integers(-len(shape), len(shape) - 1)), data.draw(st.sampled_from([0.5, 1, 3.0]))

    def drawn(x, **settings):
        mg.random.seed(1)
        return mg.gumbel_softmax(x, axis=axis, **settings)

    noise = np.log(drawn(np.zeros(shape)).numpy()).astype(dtype)
    x = data.draw(arrays(shape)).astype(dtype)
    compare(lambda x: drawn(x, tau=tau), lambda t: torch.softmax((t + torch.tensor(noise)) / tau, axis), [x], dtype)
    xs = [mg.Tensor(x, requires_grad=True) for _ in range(2)]
    soft, hard = drawn(xs[0], tau=tau), drawn(xs[1], tau=tau, hard=True)
    assert hard.dtype == dtype and (np.sort(hard.numpy(), axis)[:] == np.sort(np.eye(shape[axis])[0].reshape(
        [-1 if a == axis % len(shape) else 1 for a in range(len(shape))]), axis)).all()
    np.testing.assert_array_equal(hard.argmax(axis).numpy(), soft.argmax(axis).numpy())
    for y in (soft, hard):
        (y * np.cos(np.arange(y.size)).reshape(shape)).sum().backward()
    np.testing.assert_array_equal(xs[0].grad.numpy(), xs[1].grad.numpy())


def test_gumbel_softmax_draws_classes_by_their_probability():
    mg.random.seed(0)
    logits = np.array([1.0, -np.inf, 0.0, -1.0, 2.0])
    frequencies = mg.gumbel_softmax(np.tile(logits, (20_000, 1)), hard=True).numpy().mean(0)
    np.testing.assert_allclose(frequencies, np.exp(logits) / np.exp(logits).sum(), atol=0.012)
    assert np.isnan(mg.gumbel_softmax(np.array([0.0, np.nan]), hard=True).numpy()).all()
    assert mg.nn.functional.gumbel_softmax(np.zeros((2, 3)), 2, True, dim=0).numpy().sum() == 3
    assert mg.gumbel_softmax(np.zeros((2, 0)), hard=True).shape == (2, 0)
    for wrong, message in ((dict(tau=-1), "tau"), (dict(hard="yes"), "hard"), (dict(axis=2), "axis")):
        with pytest.raises((TypeError, ValueError), match=f"gumbel_softmax: {message}"):
            mg.gumbel_softmax(np.zeros((2, 3)), **wrong)
    with pytest.raises(TypeError, match="gumbel_softmax: floating point"):
        mg.gumbel_softmax([1, 2])
