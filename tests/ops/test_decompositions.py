"""svd, qr, pinv, logdet, median; activations and losses beside those of the other files, against PyTorch."""
import contextlib
import re

import numpy as np
import pytest
from checks import definitions

import minigrad as mg

R = np.random.default_rng(0)
SHAPES = [(3, 3), (4, 2), (2, 4), (2, 3, 2)]


@pytest.mark.parametrize("shape", SHAPES)
def test_decompositions(shape):
    x = R.uniform(-1, 1, shape)
    u, s, vh = mg.svd(x, full_matrices=False)
    np.testing.assert_allclose(((u * s[..., None, :]) @ vh).numpy(), x, atol=1e-12)
    result = mg.qr(x)
    np.testing.assert_allclose((result.Q @ result.R).numpy(), x, atol=1e-12)
    np.testing.assert_allclose(mg.pinv(x).numpy(), np.linalg.pinv(x), atol=1e-12)
    mg.check_derivatives(lambda x: mg.concatenate([y.ravel() for y in mg.svd(x, full_matrices=False)]), x)
    mg.check_derivatives(lambda x: mg.concatenate([y.ravel() for y in mg.qr(x)]), x)
    mg.check_derivatives(mg.pinv, x)


@pytest.mark.parametrize("dtype, close", [("float32", 1e-5), ("float64", 1e-12)])
@pytest.mark.parametrize("shape", [(5, 4), (4, 5), (2, 30, 7)])
def test_pseudo_inverse_of_what_lacks_rank(shape, dtype, close):
    *batch, n, m = shape
    x = (R.normal(size=(*batch, n, 2)) @ R.normal(size=(*batch, 2, m)))
    expected = np.linalg.pinv(x, 1e-9)
    np.testing.assert_allclose(mg.pinv(x.astype(dtype)).numpy(), expected, atol=close)
    largest = np.linalg.svd(x, compute_uv=False).max(-1)
    for y in (mg.pinv(x, 0.99), np.linalg.pinv(mg.Tensor(x, requires_grad=True), rcond=0.99)):  # the largest alone is left
        np.testing.assert_allclose(np.linalg.norm(y.numpy(), 2, (-2, -1)), 1 / largest, rtol=1e-9)
    for wrong in (-1, np.nan, "1"):
        with pytest.raises(ValueError, match="pinv: rcond must be"):
            mg.pinv(x, wrong)


@pytest.mark.parametrize("a, b", [((3, 3), (4,)), ((3, 3), (4, 2)), ((2, 3, 3), (2, 1, 3)), ((3, 3), ())])
def test_right_hand_sides_of_another_length_are_refused_by_their_shapes(a, b):
    with pytest.raises(ValueError, match=rf"^solve: a .* wanted, got shapes {re.escape(str(a))} and {re.escape(str(b))}$"):
        mg.solve(np.ones(a), np.ones(b))


@pytest.mark.parametrize("x", [np.zeros((3, 2)), np.diag([1.0, 0, 2]), np.stack([np.eye(3), np.diag([1.0, 2, 0])])])
def test_qr_of_dependent_columns_has_no_gradient_and_says_so(x):
    x = mg.Tensor(x, requires_grad=True)
    with pytest.raises(np.linalg.LinAlgError, match="qr: .* dependent columns"):
        mg.qr(x).R.sum().backward()


def test_named_results_and_logdet():
    x = R.uniform(-1, 1, (2, 3, 3))
    x = x @ x.swapaxes(1, 2) + np.eye(3)
    np.testing.assert_allclose(mg.logdet(x).numpy(), mg.slogdet(x).logabsdet.numpy())
    assert mg.eigh(x).eigenvalues.shape == (2, 3) and np.isnan(mg.logdet(-np.eye(3)).item())
    mg.check_derivatives(mg.logdet, x)
    with pytest.raises(TypeError, match="full_matrices"):
        mg.svd(np.ones((2, 3)))


def test_median():
    for shape, axis in (((5, 4), 0), ((5, 4), 1), ((4,), None), ((2, 3, 2), None)):
        x = R.permutation(int(np.prod(shape))).reshape(shape) * 0.37
        for keepdims in (False, True):
            np.testing.assert_allclose(mg.median(x, axis, keepdims).numpy(), np.median(x, axis, keepdims=keepdims))
        mg.check_derivatives(lambda x: mg.median(x, axis), x)
    for n in (1, 2, 3, 4):  # and one that is no number, which stands last when sorted
        x = mg.Tensor([*range(n), np.nan], requires_grad=True)
        y = mg.median(x)
        assert np.isnan(y.item()) and mg.grad(y, x).tolist() == [0] * n + [1], n


def compare(function, theirs, *inputs):
    torch = pytest.importorskip("torch")
    ours, others = [mg.Tensor(x, requires_grad=True) for x in inputs], [torch.tensor(x, requires_grad=True) for x in inputs]
    y, z = function(*ours), theirs(*others)
    np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), rtol=1e-10, atol=1e-12)
    for a, b in zip(mg.grad(y.sum(), ours), torch.autograd.grad(z.sum(), others)):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["relu6", "elu", "selu", "logsigmoid", "hardswish", "mish", "glu", "celu", "hardshrink",
                                  "softshrink"])
def test_activations(name):
    F = pytest.importorskip("torch").nn.functional
    x = np.array([-400.0, -4.0, -2.3, -0.4, 0.7, 2.1, 4.4, 400.0])
    compare(getattr(mg, name), getattr(F, name), x)
    mg.check_derivatives(getattr(mg, name), x[1:-1])
    assert getattr(mg, name)(np.zeros((0, 2), np.float32)).dtype == np.float32
    if name != "glu":
        y = getattr(mg, name)(mg.Tensor([-np.inf, np.nan, 1.0])).numpy()
        theirs = getattr(F, name)(__import__("torch").tensor([-np.inf, np.nan, 1.0])).numpy()
        np.testing.assert_allclose(y[1:], theirs[1:], rtol=1e-6)


@pytest.mark.parametrize("name, settings", [
    ("celu", (0.5,)), ("celu", (-2,)), ("hardshrink", (1,)), ("hardshrink", (0,)), ("softshrink", (1,)), ("softshrink", (0,)),
    ("threshold", (0.5, -7)), ("threshold", (-1, 20)), ("hardsigmoid", ())])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_activations_at_their_corners(name, settings, dtype):
    torch = pytest.importorskip("torch")
    x = np.array([-4, -3, -2, -1, -0.5, -0.25, -0.0, 0, 0.25, 0.5, 1, 2, 3, 4, np.inf, -np.inf], dtype)
    ours, theirs = mg.Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    with np.errstate(over="ignore"):
        y, z = getattr(mg, name)(ours, *settings), getattr(torch.nn.functional, name)(theirs, *settings)
        y.sum().backward()
    z.sum().backward()
    assert y.dtype == dtype and np.isnan(getattr(mg, name)(mg.Tensor(np.array([np.nan], dtype)), *settings).item())
    close = dict(rtol=1e-3 if dtype == np.float16 else 1e-6, atol=1e-7)
    np.testing.assert_allclose(y.numpy(), z.detach().numpy(), **close)
    np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), **close)
    mg.check_derivatives(lambda x: getattr(mg, name)(x, *settings), np.array([-4.2, -2.3, -0.4, 0.7, 2.1]))


def test_prelu_and_rsqrt():
    torch = pytest.importorskip("torch")
    x, w = R.uniform(-1, 1, (2, 3, 4)), R.uniform(0, 1, 3)
    compare(mg.prelu, torch.nn.functional.prelu, x, w)
    compare(mg.rsqrt, torch.rsqrt, np.abs(x) + 0.1)
    mg.check_derivatives(mg.prelu, x, w)


def test_losses():
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    a, b, c = R.uniform(-2, 2, (3, 4, 5))
    labels, w = np.array([0, 4, -100, 2]), R.uniform(0.5, 1, 5)
    for reduction in ("mean", "sum", "none"):
        compare(lambda x, y: mg.smooth_l1_loss(x, y, reduction, 0.7),
                lambda x, y: F.smooth_l1_loss(x, y, reduction=reduction, beta=0.7), a, b)
        compare(lambda x: mg.nll_loss(x, labels, w, reduction=reduction),
                lambda x: F.nll_loss(x, torch.tensor(labels), torch.tensor(w), reduction=reduction), a)
        for swap in (False, True):
            compare(lambda x, y, z: mg.triplet_margin_loss(x, y, z, swap=swap, reduction=reduction),
                    lambda x, y, z: F.triplet_margin_loss(x, y, z, swap=swap, reduction=reduction), a, b, c)
    mg.check_derivatives(lambda x: mg.nll_loss(x, labels), a)


def test_an_ignored_row_that_is_infinite_reaches_no_gradient_of_nll_loss():
    x, w = (mg.Tensor(v, requires_grad=True) for v in (np.array([[-0.5, -1.0], [-np.inf, np.nan]]), np.ones(2)))
    with np.errstate(invalid="ignore"):
        mg.nll_loss(x, [1, -100], w, reduction="sum").backward()
    assert x.grad.tolist() == [[0, -1], [0, 0]] and w.grad.tolist() == [0, 1]


@pytest.mark.parametrize("path", [contextlib.nullcontext, definitions], ids=["path", "definition"])
@pytest.mark.parametrize("shape", [(5, 3), (5, 300), (5, 3, 4, 6), (5, 40, 17)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_stands_in_an_ignored_row_reaches_no_gradient_of_cross_entropy(path, shape, dtype):
    x, labels = R.normal(size=shape).astype(dtype), np.zeros((5, *shape[2:]), int)
    labels[1:4] = -100
    wild = x.copy()
    for row, number in ((1, np.nan), (2, -np.inf), (3, np.inf)):
        wild[row] = number
    for smoothing in (0.0, 0.1):
        first = mg.grad(lambda x: mg.cross_entropy(x, labels, smoothing))
        second = mg.grad(lambda x: (first(x) ** 2).sum())
        with path(), np.errstate(invalid="ignore"):
            for gradient in (first, second):
                np.testing.assert_allclose(gradient(wild).numpy(), gradient(x).numpy(), rtol=1e-5, atol=1e-7)
                assert not gradient(wild).numpy()[1:4].any()


def test_as_modules():
    x = mg.Tensor(R.uniform(-1, 1, (2, 4, 3)).astype(np.float32))
    for layer, function in ((mg.nn.ReLU6(), mg.relu6), (mg.nn.ELU(0.5), lambda x: mg.elu(x, 0.5)),
                            (mg.nn.Hardswish(), mg.hardswish), (mg.nn.Hardsigmoid(), mg.hardsigmoid),
                            (mg.nn.Mish(), mg.mish), (mg.nn.PReLU(4), lambda x: mg.prelu(x, np.full(4, 0.25, np.float32)))):
        assert layer(x).tolist() == function(x).tolist()
    a, b, c = x[0], x[1], x[0] * 2
    assert mg.nn.SmoothL1Loss(beta=0.5)(a, b).item() == mg.smooth_l1_loss(a, b, beta=0.5).item()
    assert mg.nn.NLLLoss([1.0, 2.0, 3.0])(a, [0, 1, 2, 0]).item() == mg.nll_loss(a, [0, 1, 2, 0], np.float32([1, 2, 3])).item()
    for swap in (False, True):
        assert (mg.nn.TripletMarginLoss(0.5, swap=swap)(a, b, c).item()
                == mg.triplet_margin_loss(a, b, c, 0.5, swap=swap).item())
    assert mg.nn.functional.glu(x, 1).shape == (2, 2, 3) and mg.nn.functional.one_hot([1], 2).tolist() == [[0, 1]]


@pytest.mark.parametrize("shape", [(5, 7), (3, 4, 4), (0, 3), (2, 0, 3)])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_singular_values_are_the_same_with_a_gradient_and_without(shape, dtype):
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    alone, recorded = mg.svdvals(x), mg.svdvals(mg.Tensor(x, requires_grad=True))
    assert alone.dtype == recorded.dtype == dtype and recorded.requires_grad
    np.testing.assert_allclose(alone.numpy(), recorded.numpy(), atol=1e-2 if dtype == "float16" else 1e-5)
