"""Random programs: gradients and Hessian-vector products against central differences and PyTorch.

A program is a list of steps (operation, numbers of the values it reads, settings). Values are the inputs followed by the
results of the steps, so any of them may be read again later, and all of them enter the final sum.
"""
import unittest.mock

import numpy as np
import pytest
from checks import arrays, shapes
from hypothesis import HealthCheck, given, settings, strategies as st

import minigrad as mg

try:
    import torch
except ImportError:  # the fuzzer needs the programs alone
    torch = unittest.mock.MagicMock(name="torch")

# name: (with minigrad, with PyTorch), each a function of the values read and of the settings
POINTWISE = {
    "sin": (mg.sin, torch.sin), "tanh": (mg.tanh, torch.tanh), "sigmoid": (mg.sigmoid, torch.sigmoid),
    "exp": (mg.exp, torch.exp),
    "erf": (mg.erf, torch.erf), "square": (mg.square, torch.square), "negative": (lambda x: -x, lambda x: -x),
    "shift": (lambda x: 1.5 - x, lambda x: 1.5 - x), "root": (lambda x: mg.sqrt(x * x + 1), lambda x: torch.sqrt(x * x + 1)),
    "log1p": (lambda x: mg.log1p(x * x), lambda x: torch.log1p(x * x)), "cube": (lambda x: x ** 3, lambda x: x ** 3),
    "rational": (lambda x: 1 / (2 + x * x), lambda x: 1 / (2 + x * x)), "identity": (lambda x: +x, lambda x: +x)}
KINKED = {"abs": (mg.abs, torch.abs), "relu": (mg.relu, torch.relu),
          "clip": (lambda x: mg.clip(x, -0.7, 0.7), lambda x: torch.clip(x, -0.7, 0.7))}
PAIRS = {
    "add": (lambda x, y: x + y, lambda x, y: x + y), "subtract": (lambda x, y: x - y, lambda x, y: x - y),
    "multiply": (lambda x, y: x * y, lambda x, y: x * y),
    "divide": (lambda x, y: x / (1 + y * y), lambda x, y: x / (1 + y * y)),
    "logaddexp": (mg.logaddexp, torch.logaddexp), "power": (lambda x, y: (1 + x * x) ** y, lambda x, y: (1 + x * x) ** y),
    "where": (lambda x, y: mg.where(x.detach() > 0.3, y, x), lambda x, y: torch.where(x.detach() > 0.3, y, x))}
KINKED_PAIRS = {"maximum": (mg.maximum, torch.maximum), "minimum": (mg.minimum, torch.minimum)}
REDUCTIONS = {
    "sum": (mg.sum, torch.sum), "mean": (mg.mean, torch.mean), "logsumexp": (mg.logsumexp, torch.logsumexp),
    "var": (mg.var, lambda x, axis, keepdims: torch.var(x, axis, correction=0, keepdim=keepdims))}
KINKED_REDUCTIONS = {"max": (mg.max, torch.amax), "min": (mg.min, torch.amin)}
ALONG = {
    "cumsum": (mg.cumsum, torch.cumsum), "softmax": (mg.softmax, torch.softmax),
    "log_softmax": (mg.log_softmax, torch.log_softmax),
    "cumprod": (mg.cumprod, torch.cumprod), "prod": (mg.prod, torch.prod),
    "flip": (mg.flip, lambda x, axis: torch.flip(x, (axis,))),
    "roll": (lambda x, axis: mg.roll(x, 2, axis), lambda x, axis: torch.roll(x, 2, axis)),
    "double": (lambda x, axis: mg.concatenate([x, x], axis), lambda x, axis: torch.cat([x, x], axis)),
    "repeat": (lambda x, axis: mg.repeat(x, 2, axis), lambda x, axis: torch.repeat_interleave(x, 2, axis)),
    "gather": (lambda x, axis: mg.take(x, np.array([0, -1, 0]), axis),
               lambda x, axis: torch.index_select(x, axis, torch.tensor([0, x.shape[axis] - 1, 0]))),
    "expand": (lambda x, axis: mg.expand_dims(x, axis), lambda x, axis: torch.unsqueeze(x, axis))}
KINKED_ALONG = {"sort": (mg.sort, lambda x, axis: torch.sort(x, axis)[0])}
WHOLE = {
    "ravel": (mg.ravel, torch.ravel), "transpose": (lambda x: x.T, lambda x: x.permute(tuple(reversed(range(x.ndim))))),
    "first": (lambda x: x[..., 0], lambda x: x[..., 0]), "slice": (lambda x: x[..., ::2], lambda x: x[..., ::2]),
    "tail": (lambda x: x[-1:], lambda x: x[-1:]), "mask": (lambda x: x[x.detach() > -0.2], lambda x: x[x.detach() > -0.2]),
    "indices": (lambda x: x[[0, 0, -1]], lambda x: x[[0, 0, -1]]),
    "broadcast": (lambda x: mg.broadcast_to(x, (2, *x.shape)), lambda x: torch.broadcast_to(x, (2, *x.shape))),
    "pad": (lambda x: mg.pad(x, 1, constant_values=0.5), lambda x: torch.nn.functional.pad(x, (1, 1) * x.ndim, value=0.5)),
    "norm": (mg.norm, torch.linalg.norm),
    "gram": (lambda x: x @ mg.swapaxes(x, -1, -2), lambda x: x @ torch.swapaxes(x, -1, -2)),
    "trace": (lambda x: mg.trace(x), lambda x: torch.diagonal(x).sum(-1)), "tril": (mg.tril, torch.tril)}
JOINS = {
    "stack": (lambda x, y: mg.stack([x, y], -1), lambda x, y: torch.stack([x, y], -1)),
    "concatenate": (lambda x, y: mg.concatenate([x, y, x], 0), lambda x, y: torch.cat([x, y, x], 0))}
PRODUCTS = {
    "matmul": (lambda x, y: x @ y, lambda x, y: x @ y),
    "einsum": (lambda x, y: mg.einsum("...ij,jk->...ik", x, y), lambda x, y: torch.einsum("...ij,jk->...ik", x, y)),
    "outer": (mg.outer, lambda x, y: torch.outer(x.ravel(), y.ravel()))}
KINKS = {**KINKED, **KINKED_PAIRS, **KINKED_REDUCTIONS, **KINKED_ALONG}
ALL = {**POINTWISE, **PAIRS, **REDUCTIONS, **ALONG, **WHOLE, **JOINS, **PRODUCTS, **KINKS}
GROUPS = {"one": {**POINTWISE, **KINKED}, "two": {**PAIRS, **KINKED_PAIRS}, "reduce": {**REDUCTIONS, **KINKED_REDUCTIONS},
          "along": {**ALONG, **KINKED_ALONG}, "whole": WHOLE, "join": JOINS, "product": PRODUCTS}
NEEDS_MATRIX, NEEDS_AXIS = ("gram", "trace", "tril"), ("first", "slice", "tail", "indices", "pad")


def fits(name, x, y):
    """Whether the step can read the values x and y."""
    if name in PAIRS or name in KINKED_PAIRS:
        return all(1 in pair or pair[0] == pair[1] for pair in zip(reversed(x.shape), reversed(y.shape)))
    if name in JOINS:
        return x.shape == y.shape and (name == "stack" or x.ndim)
    if name == "outer":
        return x.size * y.size <= 40
    if name in PRODUCTS:
        return x.ndim >= 2 and y.ndim == 2 and x.shape[-1] == y.shape[-2]
    return not (name in NEEDS_MATRIX and x.ndim < 2 or name in NEEDS_AXIS and not x.ndim)


@st.composite
def programs(draw):
    """(inputs, steps)."""
    inputs = [draw(arrays(draw(shapes(min_side=1)))) for _ in range(draw(st.integers(1, 3)))]
    values, steps = [mg.Tensor(x) for x in inputs], []

    def append(name, read, options):
        y = ALL[name][0](*[values[i] for i in read], **options)
        if y.size and y.size <= 60 and y.ndim <= 4:
            values.append(y)
            steps.append((name, read, options))

    for _ in range(draw(st.integers(1, 12))):
        name = draw(st.sampled_from(list(GROUPS[draw(st.sampled_from(list(GROUPS)))])))
        i = draw(st.integers(0, len(values) - 1))
        x, read, options = values[i], [i], {}
        partners = [j for j, y in enumerate(values) if fits(name, x, y)]
        if not partners:
            continue
        if name in PAIRS or name in KINKED_PAIRS or name in JOINS or name in PRODUCTS:
            read.append(draw(st.sampled_from(partners)))
        elif name in REDUCTIONS or name in KINKED_REDUCTIONS:
            axes = draw(st.lists(st.sampled_from(range(x.ndim)), unique=True, min_size=1)) if x.ndim else []
            if not axes:
                continue
            options = {"axis": tuple(axes), "keepdims": draw(st.booleans())}
        elif name in ALONG or name in KINKED_ALONG:
            if not x.ndim:
                continue
            options = {"axis": draw(st.integers(0, x.ndim - 1))}
        append(name, read, options)
        if np.abs(values[-1].numpy()).max() > 3:
            append("tanh", [len(values) - 1], {})
    return inputs, steps


def run(library, steps, inputs):
    """The final sum: of all values, each with weights of its own."""
    values = list(inputs)
    for name, read, options in steps:
        values.append(ALL[name][library](*[values[i] for i in read], **options))
    weights = [np.cos(np.arange(y.numel() if library else y.size).reshape(tuple(y.shape)) + i) for i, y in enumerate(values)]
    return sum((y * (torch.tensor(w) if library else w)).sum() for y, w in zip(values, weights))


def close(a, b, tolerance, what):
    scale = max(1, *[np.abs(x).max(initial=0) for x in (*a, *b)])
    for k, (x, y) in enumerate(zip(a, b, strict=True)):
        assert x.shape == y.shape
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance * scale, err_msg=f"{what}, input {k}")


@pytest.mark.skipif(isinstance(torch, unittest.mock.MagicMock), reason="could not import 'torch'")
@settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(programs(), st.integers(0, 2 ** 32 - 1))
def test_programs(program, seed):
    inputs, steps = program
    rng = np.random.default_rng(seed)
    vs = [rng.normal(size=x.shape) for x in inputs]

    def f(*xs):
        return run(0, steps, xs)

    leaves = [mg.Tensor(x, requires_grad=True) for x in inputs]
    value = f(*leaves)
    value.backward()
    gradient = [x.grad.numpy() for x in leaves]
    product = [p.numpy() for p in mg.hvp(f, inputs, vs)]

    theirs = [torch.tensor(x.copy(), requires_grad=True) for x in inputs]
    y = run(1, steps, theirs)
    first = torch.autograd.grad(y, theirs, create_graph=True)
    total = sum((g * torch.tensor(v)).sum() for g, v in zip(first, vs))
    second = torch.autograd.grad(total, theirs, materialize_grads=True) if total.requires_grad else [torch.zeros_like(x)
                                                                                                     for x in theirs]
    np.testing.assert_allclose(value.item(), y.item(), rtol=1e-11, atol=1e-11)
    close(gradient, [g.detach().numpy() for g in first], 1e-10, "gradient and PyTorch's")
    close(product, [g.numpy(force=True) for g in second], 1e-9, "Hessian-vector product and PyTorch's")
    close(gradient, [g.numpy() for g in mg.grad(f, tuple(range(len(inputs))))(*leaves)], 1e-12, "with and without a graph")

    if not any(name in KINKS or name in ("where", "mask") for name, _, _ in steps):
        h = 1e-5
        ahead, behind = ([x + s * h * v for x, v in zip(inputs, vs)] for s in (1, -1))
        numeric = (f(*map(mg.Tensor, ahead)).item() - f(*map(mg.Tensor, behind)).item()) / (2 * h)
        slope = sum((g * v).sum() for g, v in zip(gradient, vs))
        close([np.asarray(slope)], [np.asarray(numeric)], 1e-5, "slope and central difference")
        each = tuple(range(len(inputs)))
        numeric = [(a.numpy() - b.numpy()) / (2 * h) for a, b in zip(mg.grad(f, each)(*ahead), mg.grad(f, each)(*behind))]
        close(product, numeric, 1e-5, "Hessian-vector product and central difference")
