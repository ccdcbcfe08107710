"""The engine end to end: first to third derivatives against central differences, and the transforms against each other."""
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import minigrad as mg

POINTWISE = {
    "exp": mg.exp, "log": lambda x: mg.log(x * x + 1), "sqrt": lambda x: mg.sqrt(x * x + 1), "tanh": mg.tanh, "sin": mg.sin,
    "sigmoid": mg.sigmoid, "erf": mg.erf, "power": lambda x: (x * x + 1) ** 1.5, "divide": lambda x: x / (x * x + 1),
    "logsumexp": lambda x: mg.logsumexp(x, -1), "softmax": lambda x: mg.softmax(x, -1), "prod": lambda x: mg.prod(x, -1),
    "var": lambda x: mg.var(x, -1), "cumsum": lambda x: mg.cumsum(x, -1) ** 2, "cumprod": lambda x: mg.cumprod(x, -1),
    "einsum": lambda x: mg.einsum("ij,kj,ij->ik", x, x, x), "matmul": lambda x: x @ x.T @ x,
    "inv": lambda x: mg.inv(x @ x.T + 3 * np.eye(x.shape[0])),
    "slogdet": lambda x: mg.slogdet(x @ x.T + 3 * np.eye(x.shape[0]))[1],
    "cholesky": lambda x: mg.cholesky(x @ x.T + 3 * np.eye(x.shape[0])),
    "take": lambda x: mg.take(x, np.array([0, 0, 1]), 0) ** 3, "concatenate": lambda x: mg.concatenate([x, x * x], 1) ** 2}


def along(f, v):
    """The derivative of a scalar function along v, as a function."""
    return lambda x: (mg.grad(f)(x) * v).sum()


@pytest.mark.parametrize("name", POINTWISE)
def test_derivatives_to_third_order(name):
    rng = np.random.default_rng(0)
    x, v, c = rng.normal(size=(2, 3)), rng.normal(size=(2, 3)), rng.normal(size=(40,))

    def f(x):
        y = POINTWISE[name](x).reshape(-1)
        return (y * c[:y.size]).sum()

    for _ in range(3):
        h = 1e-5
        numeric = (float(f(x + h * v)) - float(f(x - h * v))) / (2 * h)
        f = along(f, v)
        assert float(f(x)) == pytest.approx(numeric, rel=2e-6, abs=2e-6)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([1, 2, 3]), max_size=3), st.integers(0, 7), st.integers(0, 7))
def test_broadcasting_is_undone(shape, drop_x, drop_y):
    """Axes set to length 1 in either operand get the sum of the gradient along them."""
    one = [tuple(1 if drop >> a & 1 else n for a, n in enumerate(shape)) for drop in (drop_x, drop_y)]
    x, y = (mg.Tensor(np.random.default_rng(1).normal(size=s), requires_grad=True) for s in one)
    (x * y + x - y / 2).sum().backward()
    full = np.broadcast_shapes(*one)
    for leaf, slope in ((x, y.numpy() + 1), (y, x.numpy() - 0.5)):
        expected = np.broadcast_to(slope, full)
        axes = tuple(a for a, n in enumerate(leaf.shape) if n == 1)
        np.testing.assert_allclose(leaf.grad.numpy(), expected.sum(axes, keepdims=True).reshape(leaf.shape))


def test_subgradients_at_corners():
    third = lambda f: mg.grad(mg.grad(mg.grad(f)))
    assert float(third(lambda x: x ** 2)(0.0)) == 0
    for f in (mg.abs, mg.sqrt, mg.relu, lambda x: mg.norm(x.reshape(1))):
        assert float(mg.grad(f)(0.0)) == 0
    np.testing.assert_allclose(mg.grad(lambda x: mg.max(x))(np.array([1.0, 2.0, 2.0])).numpy(), [0, 0.5, 0.5])


def test_fully_masked_row_gives_zero():
    x = mg.Tensor(np.full((1, 3), -np.inf), requires_grad=True)
    y = mg.softmax(x)
    y.sum().backward()
    assert (y.numpy() == 0).all() and (x.grad.numpy() == 0).all()


def test_nested_gradients_do_not_confuse_perturbations():
    assert float(mg.grad(lambda x: x * mg.grad(lambda y: x + y)(1.0))(2.0)) == 1
    assert float(mg.grad(lambda x: mg.grad(lambda y: x * y * y)(3.0))(2.0)) == 6


def test_hessian_products_agree():
    x, v = np.random.default_rng(2).normal(size=(2, 4))
    f = lambda x: (mg.sin(x) * mg.cumsum(x) ** 2).sum()
    expected = mg.hessian(f)(x).numpy() @ v
    np.testing.assert_allclose(mg.hvp(f, x, v).numpy(), expected)
    np.testing.assert_allclose(mg.jvp(mg.grad(f), (x,), (v,))[1].numpy(), expected)


def test_checkpoint_equals_the_function_to_second_order():
    x, w = (mg.Tensor(a, requires_grad=True) for a in np.random.default_rng(3).normal(size=(2, 4)))
    f = lambda x: mg.tanh(x * w).sum()
    for g in (f, mg.checkpoint(f)):
        first = mg.grad(g(x), [x, w], create_graph=True)
        second = mg.grad((first[0] ** 2).sum() + first[1].sum(), [x, w])
        results = [t.numpy().copy() for t in first + second]
        if g is f:
            expected = results
    for a, b in zip(results, expected):
        np.testing.assert_allclose(a, b)


def test_long_chain_and_freed_graph():
    x = mg.Tensor(1.0, requires_grad=True)
    y = x
    for _ in range(100_000):
        y = y + 1
    y.backward()
    assert float(x.grad) == 1
    with pytest.raises(RuntimeError, match="freed"):
        y.backward()


def test_in_place_change_of_a_saved_array_is_an_error():
    x = mg.Tensor([1.0, 2.0], requires_grad=True)
    y = (x * x).sum()
    x.data -= 1.0
    with pytest.raises(RuntimeError, match="changed in"):
        y.backward()
    z = (x + 1).sum()
    x.data -= 1.0
    z.backward()  # the sum does not need its inputs


def test_numpy_functions_dispatch_or_refuse():
    x = mg.Tensor([1.0, 4.0], requires_grad=True)
    assert np.sqrt(x).requires_grad and np.sum(x).requires_grad
    with pytest.raises(TypeError):
        np.percentile(x, 30)
    with pytest.raises(TypeError):
        np.asarray(x)
    assert (np.float64(2) * mg.Tensor(np.ones(2, np.float32))).dtype == np.float32


def test_replaced_data_is_noticed():
    x = mg.Tensor([1.0, 2.0, 3.0], requires_grad=True)
    for f in (lambda x: x * x, mg.sin, lambda x: mg.norm(x)):
        y = f(x).sum()
        x.data = np.zeros(3)
        with pytest.raises(RuntimeError, match="changed in"):
            y.backward()
    z = (x + 1).sum()
    x.data = np.ones(3)
    z.backward()  # its rule does not read x


def test_assigning_a_value_that_requires_a_gradient():
    x = mg.Tensor([1.0, 2.0, 3.0], requires_grad=True)
    with pytest.raises(RuntimeError, match="lose the gradient"):
        mg.Tensor(np.zeros(3))[0] = x[0]


def test_positional_arguments_are_numpys():
    x = mg.Tensor([1.0, 2.0, 3.0], requires_grad=True)
    for call in (lambda: np.sum(x, 0, np.float32), lambda: np.max(x, 0, np.empty(())), lambda: np.cumsum(x, 0, np.float32)):
        with pytest.raises(TypeError, match="not available"):
            call()
    assert np.sum(x, 0, None, None, True).shape == (1,) and np.max(x, 0, None, True).shape == (1,)
    assert np.var(x, 0, None, None, 1).item() == 1


def test_errors_of_numpy_that_name_the_operation_get_shapes_too():
    for call in (lambda: mg.Tensor(np.ones((2, 3))) @ np.ones((4, 5)), lambda: mg.max(np.zeros((2, 0)), 1),
                 lambda: mg.reshape(np.zeros((2, 3)), (4,))):
        with pytest.raises(ValueError, match=r"\[2, [03]\]"):
            call()


def test_complex_numbers_are_refused():
    with pytest.raises(TypeError, match="complex128"):
        mg.Tensor([1.0]) * np.complex128(1 + 2j)
