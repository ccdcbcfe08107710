"""The engine end to end: first to third derivatives against central differences, and the transforms against each other."""
import copy
import itertools
import operator
import re
import threading

import numpy as np
import pytest
from checks import wants_bfloat16
from hypothesis import given, settings, strategies as st

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import functional as F

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


def test_a_pass_that_ends_at_a_tensor_leaves_what_is_below_for_another():
    x = mg.Tensor([1.0, 2.0], requires_grad=True)
    h = x * x
    (cotangent,) = mg.grad((h * h).sum(), [h])
    h.backward(cotangent)
    assert x.grad.tolist() == [4, 32]
    fast = x  # steps of the inner loop of first-order MAML
    for _ in range(3):
        fast = fast - 0.1 * mg.grad((fast * fast).sum(), fast)
    assert mg.grad(fast.sum(), x).tolist() == [1, 1]


def test_long_chain_and_freed_graph():
    x = mg.Tensor(1.0, requires_grad=True)
    y = x
    for _ in range(100_000):
        y = y + 1
    y.backward()
    assert float(x.grad) == 1
    with pytest.raises(RuntimeError, match=r"freed.*retain_graph=True.*\.detach\(\)"):
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


@pytest.mark.parametrize("name", ("add", "sub", "mul", "truediv", "pow", "mod", "floordiv", "matmul"))
@pytest.mark.parametrize("kind", (mg.nn.Parameter, lambda x: mg.Tensor(x, requires_grad=True)), ids=("Parameter", "Tensor"))
def test_augmented_assignment_under_no_grad_changes_what_is_trained(name, kind):
    start, other = np.full((2, 2), 3, np.float32), mg.Tensor(np.full((2, 2), 2.0))
    w = x = kind(start.copy())
    with mg.no_grad():
        w = getattr(operator, f"i{name}")(w, other)
    assert w is x and w.requires_grad and w.dtype == np.float32
    np.testing.assert_array_equal(w.numpy(), getattr(operator, name)(start, other.numpy()))


def test_augmented_assignment_keeps_the_shape_of_what_is_trained():
    p = mg.nn.Parameter(np.ones((2, 2)))
    with mg.no_grad():
        for name, other in (("matmul", np.ones(2)), ("matmul", np.ones((2, 3))), ("add", np.ones((3, 2, 2)))):
            with pytest.raises(ValueError, match=rf"{name}: .* keeps its shape \(2, 2\), and the result has shape"):
                getattr(operator, f"i{name}")(p, other)
    assert (p.numpy() == 1).all()


def test_augmented_assignment_elsewhere_makes_a_new_tensor_or_is_an_error():
    for p in mg.nn.Linear(2, 1).parameters():
        with pytest.raises(RuntimeError, match=r"a Parameter is changed in place under no_grad\(\) only"):
            p -= 0.1 * p
    y = x = Subclass([1.0, 2.0], requires_grad=True)
    y *= 3.0
    assert mg.grad(y.sum(), x).tolist() == [3, 3]
    y = x = mg.Tensor([1.0, 2.0], requires_grad=True)
    y *= 3.0
    assert mg.grad(y.sum(), x).tolist() == [3, 3]
    with mg.no_grad():
        d = c = x.detach()
        d += 1.0
        y += 1.0
        assert x.tolist() == c.tolist() == [1, 2]


    def f(x):
        x += 1.0
        return (x * x).sum()

    mg.checkpoint(f)(x).backward()  # whose first run records nothing
    assert x.tolist() == [1, 2] and x.grad.tolist() == [4, 6]
    z = (x * x).sum()
    with mg.no_grad():
        x -= 1.0
    with pytest.raises(RuntimeError, match="changed in place"):
        z.backward()


def test_numpy_functions_dispatch_or_refuse():
    x = mg.Tensor([1.0, 4.0], requires_grad=True)
    assert np.sqrt(x).requires_grad and np.sum(x).requires_grad
    with pytest.raises(TypeError):
        np.percentile(x, 30)
    with pytest.raises(TypeError):
        np.asarray(x)
    assert (np.float64(2) * mg.Tensor(np.ones(2, np.float32))).dtype == np.float32


@pytest.mark.parametrize("number", [2, 2.0, np.float64(2), True])
@pytest.mark.parametrize("name", ["add", "subtract", "divide", "power", "maximum", "arctan2", "floor_divide"])
@pytest.mark.parametrize("kind", [np.array, mg.Tensor])
def test_a_number_takes_the_dtype_of_a_tensor_or_array_beside_it(kind, name, number):
    x = kind(np.float32([1, 3]))
    assert {getattr(mg, name)(x, number).dtype, getattr(mg, name)(number, x).dtype} == {np.dtype("float32")}
    assert mg.where(mg.Tensor([True, False]), x, number).dtype == np.float32
    truth, small = kind([True, True]), np.uint8(3)
    assert mg.floor_divide(small, truth).dtype == mg.floor_divide(truth, small).dtype == mg.remainder(small, truth).dtype == np.uint8


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
    for y in (np.sum(x, 0, np.float32), np.cumsum(x, 0, np.float32)):
        assert y.dtype == np.float32 and y.requires_grad
    for call in (lambda: np.var(x, 0, np.float32), lambda: np.max(x, 0, np.empty(())), lambda: np.sort(x, 0, "stable")):
        with pytest.raises(TypeError, match="not available"):
            call()
    assert np.sum(x, 0, None, None, True).shape == (1,) and np.max(x, 0, None, True).shape == (1,)
    assert np.var(x, 0, None, None, 1).item() == 1


def test_errors_of_numpy_that_name_the_operation_get_shapes_too():
    for call in (lambda: mg.max(np.zeros((2, 0)), 1), lambda: mg.reshape(np.zeros((2, 3)), (4,))):
        with pytest.raises(ValueError, match=r"\[2, [03]\]"):
            call()


@pytest.mark.parametrize("x, y", [((3, 4), (5,)), ((2, 3), (4, 5)), ((3,), (4,)), ((2, 3, 4), (3, 5)), ((3,), (2, 4, 5))])
def test_a_product_that_does_not_fit_names_the_shapes_that_were_given(x, y):
    with pytest.raises(ValueError, match=re.escape(f"matmul: the last axis of {x} must be") + ".*" + re.escape(f"of {y}")):
        mg.ones(x) @ mg.ones(y)


def test_a_gradient_that_is_deleted_is_none():
    x = mg.Tensor([1.0, 2.0], requires_grad=True)
    del x.grad
    assert x.grad is None and copy.deepcopy(x).grad is None
    (x * 2).sum().backward()
    del x.grad
    (x * 2).sum().backward()
    assert x.grad.tolist() == [2, 2]
    x.grad = np.ones(2)
    assert copy.deepcopy(x).grad.tolist() == [1, 1]


def test_complex_numbers_are_refused():
    with pytest.raises(TypeError, match="complex128"):
        mg.Tensor([1.0]) * np.complex128(1 + 2j)


@pytest.mark.parametrize("value", [np.complex128(1), np.complex64(1j), np.str_("a"), np.datetime64("2020")],
                         ids=["complex128", "complex64", "text", "date"])
@pytest.mark.parametrize("name", ["equal", "less", "logical_and"])
def test_nothing_but_real_numbers_is_compared(name, value):
    for y in (value, np.array([value])):
        with pytest.raises(TypeError, match=f"{name}: y: .*floats, integers or bools"):
            getattr(mg, name)(mg.Tensor([1.0, 2.0]), y)
    with pytest.raises(TypeError, match=f"{name}: x: "):
        getattr(mg, name)(value, 2.0)


class Subclass(mg.Tensor):
    pass


def test_an_output_of_whole_numbers_requires_no_gradient():
    x = mg.Tensor([2.0, 1.0], requires_grad=True)
    order = mg.Primitive("order", np.argsort, lambda g, _out, _x: g)
    assert not order(x).requires_grad and not (order(x) + 1).requires_grad
    assert mg.grad((order(x) * x).sum(), x).tolist() == [1, 0]


@pytest.mark.parametrize("rule", [lambda g, _out, _x: g.sum(), lambda g, _out, _x: 2 * g])
def test_a_gradient_of_another_shape_is_refused_where_inputs_are_broadcast(rule):
    x = mg.Tensor(np.arange(6.0).reshape(2, 3), requires_grad=True)
    with pytest.raises(RuntimeError, match=r"gradient rule of 'turned' returned shape .* for an input of shape \(2, 3\)"):
        mg.Primitive("turned", lambda a: 2 * a.T, rule, broadcasts=True)(x).sum().backward()


def test_a_list_of_arrays_is_no_output():
    with pytest.raises(TypeError, match="twice: forward returned a list; it returns an array of real numbers, or a tuple of arrays"):
        mg.Primitive("twice", lambda a: [a, a], lambda g, _out, _x: g)(mg.ones(2))


@pytest.mark.parametrize("dtype", [">f8", ">f4", ">f2"])
def test_gradients_have_the_byte_order_of_what_they_are_of(dtype):
    x = mg.Tensor(np.ones(2, dtype), requires_grad=True)
    for total in (3, 6):
        (x * 2 + x).sum().backward()
        assert x.grad.dtype.str == dtype and x.grad.tolist() == [total, total]


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_subclasses_of_arrays_behave_as_arrays(tmp_path):
    memory = np.memmap(tmp_path / "numbers", np.float64, "w+", shape=(2, 2))
    for array in (np.matrix([[1.0, 2], [3, 4]]), memory, np.ma.array(np.ones((2, 2)))):
        x = mg.Tensor(array)
        assert type(x.numpy()) is np.ndarray and np.shares_memory(x.numpy(), array)
        assert x[0].shape == x.sum(0).shape == (x @ [1, 2]).shape == (2,) and x.reshape(4).shape == (4,)
        np.testing.assert_array_equal(mg.grad(lambda x: (x.reshape(4) ** 2).sum())(array).numpy(), 2 * x.numpy())
        x.data = array
        assert type(x.data) is np.ndarray
    hidden, x = np.ma.array([1.0, 2.0], mask=[False, True]), mg.Tensor([3.0, 4.0])
    for use in (mg.Tensor, mg.exp, lambda y: x + y, lambda y: y * x, lambda y: mg.where(x > 0, x, y),
                lambda y: mg.index_update(x, ..., y), lambda y: x.__setitem__(..., y), lambda y: setattr(x, "data", y)):
        with pytest.raises(TypeError, match="filled"):
            use(hidden)
    assert x.tolist() == [3, 4]


def test_subclasses_of_tensor_serve_as_leaves_and_cotangents():
    x = mg.Tensor([1.0, 2.0], requires_grad=True)
    (x * x).backward(Subclass([1.0, 10.0]))
    assert x.grad.tolist() == [2, 40]
    leaf = Subclass([3.0, 4.0], requires_grad=True)
    assert mg.grad((leaf * leaf * x).sum(), leaf, create_graph=True).tolist() == [6, 16]
    assert mg.vjp(mg.exp, np.zeros(2))[1](Subclass([1.0, 2.0]))[0].tolist() == [1, 2]
    leaf += 1.0
    assert leaf.tolist() == [4, 5] and leaf.requires_grad and not leaf.is_leaf


@pytest.mark.parametrize("rules, settings, said", (
    ((), {}, "a gradient rule for each input is missing"),
    ((lambda g: g,), {}, r"takes \(g, out, x0, \*\*settings\), not \(g\)"),
    ((lambda g, x: g * mg.cos(x),), {}, r"takes \(g, out, x0, \*\*settings\), not \(g, x\)"),
    ((None, lambda g, _out, x: g * x), {}, r"takes \(g, out, x0, x1, \*\*settings\), not \(g, _out, x\)"),
    ((lambda *args: args[0],), {}, r"takes \(g, out, x0, \*\*settings\), not \(\*args\)"),
    ((), {"rule_for_all": lambda g, out: g}, r"takes \(i, g, out, \*\*settings\), not \(g, out\)")))
def test_primitives_whose_rules_cannot_be_called_are_refused_where_they_are_made(rules, settings, said):
    with pytest.raises(TypeError, match=f"Primitive mine: a gradient rule.*{said}|Primitive mine: {said}"):
        mg.Primitive("mine", np.sin, *rules, **settings)
    with pytest.raises(TypeError, match="the name is text, not <ufunc 'sin'>"):
        mg.Primitive(np.sin, *rules, lambda g, _out, x: g)


READS = {
    "equal": lambda g, _out, _x: g if _x == 1 else g * 2,
    "product": lambda g, _out, _x: g * _x,
    "sum": lambda g, _out, _x: _x + g,
    "less": lambda g, _out, _x: mg.where(_x < 0, g, 0),
    "index": lambda g, _out, _x: g * _x[0],
    "matmul": lambda g, _out, _x: _x @ g,
    "method": lambda g, _out, _x: g * _x.exp(),
    "operation": lambda g, _out, _x: g * mg.exp(_x),
    "numpy": lambda g, _out, _x: np.exp(_x),
    "condition": lambda g, _out, _x: mg.where(mg.isnan(_x), 0, g),
    "array": lambda g, _out, _x: mg.where(np.asarray(_x), g, 0),
    "tensor": lambda g, _out, _x: g * mg.Tensor(_x),
    "list": lambda g, _out, _x: mg.stack([_x, g]),
    "truth": lambda g, _out, _x: g * 2 if _x else g,
    "length": lambda g, _out, _x: g * len(_x),
    "float": lambda g, _out, _x: g * float(_x),
    "output": lambda g, _out, x: g * _out}


@pytest.mark.parametrize("name", READS)
def test_a_rule_that_reads_what_is_not_saved_fails(name):
    operation = mg.Primitive("reads", np.exp, READS[name])
    x = mg.Tensor([1.0, 2.0], requires_grad=True)
    for y in (operation(x), operation(x * 1)):
        with pytest.raises(AttributeError, match="has no attribute 'exp'" if name == "method" else "begins with an underscore"):
            y.sum().backward()


def test_whatever_reads_a_tensor_is_refused_to_what_is_not_saved():
    others = {"__deepcopy__", "__getattr__", "__cuda_array_interface__", "__dlpack_device__", "__module__", "__slots__", "__weakref__",
              "__firstlineno__", "__static_attributes__"}  # the last two from Python 3.13 on
    reading = {name for name in dir(mg.Tensor) if name.startswith("__") and name not in {*dir(object), *others}}
    reading -= {f"__i{name[2:]}" for name in reading}  # `x += y` falls back on __add__
    reading |= {"__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"}
    y = mg.exp(mg.Tensor(1.0, requires_grad=True))
    for unread in (y.origin, mg.primitive.Unread((), np.dtype(float))):
        for name in sorted(reading):
            with pytest.raises(AttributeError, match="begins with an underscore"):
                getattr(type(unread), name)(unread)


def test_shapes_of_unread_inputs_by_one_starred_parameter():
    total = mg.Primitive("total", lambda *xs: sum(xs), *[lambda g, _out, *_xs: g * _xs[1].shape[0]] * 2)
    x = mg.Tensor([1.0, 2.0, 3.0], requires_grad=True)
    assert mg.grad(total(x, x).sum(), x).tolist() == [6, 6, 6]


@pytest.mark.parametrize("gradient", [None, 1.0, np.ones(2), (1.0, 2.0), [mg.Tensor([1.0, 1.0])]], ids=str)
def test_a_rule_returns_a_tensor(gradient):
    x = mg.Tensor([1.0, 2.0], requires_grad=True)
    for rules in ({"rule_for_all": lambda i, g, _out, *_xs: gradient}, {}):
        operation = mg.Primitive("wrong", np.exp, *[] if rules else [lambda g, _out, _x: gradient], **rules)
        for context in (mg.enable_grad(), mg.detect_anomaly()):
            with context, pytest.raises(TypeError, match="gradient rule of 'wrong' returned"):
                operation(x).sum().backward()
    with pytest.raises(TypeError, match="2 inputs given, 1 wanted"):
        mg.Primitive("few", np.multiply, lambda g, _out, _x, y: g * y)(x, x).sum().backward()


def test_a_rule_that_leaves_the_tensors_is_refused_where_it_is_recorded():
    x = mg.Tensor([1.0, 2.0], requires_grad=True)
    for leave in (lambda x: x.numpy(), lambda x: x.data, lambda x: np.array(x.tolist()), lambda x: x.sum().item(),
                  lambda x: float(x[0])):
        operation = mg.Primitive("leaves", np.exp, lambda g, _out, x: g * leave(x))
        mg.grad(operation(x).sum(), x)
        for context in (mg.enable_grad(), mg.detect_anomaly()):
            with context, pytest.raises(RuntimeError, match="rule of 'leaves' reads values by"):
                mg.grad(operation(x).sum(), x, create_graph=True)
        assert x.numpy() is not None and float(x[0]) == 1  # after the error too


def test_settings_that_are_tensors_get_their_gradient_or_an_error():
    x, slope = (mg.Tensor(a, requires_grad=True) for a in ([-1.0, 2.0, -3.0], 0.5))
    y = mg.leaky_relu(x, slope)
    assert mg.grad(y.sum(), [slope, x])[0].item() == -4
    q = mg.Tensor(np.random.default_rng(6).normal(size=(1, 2, 3, 4)))
    attention = lambda scale: mg.scaled_dot_product_attention(q, q, q, scale=scale).sum()
    numeric = (attention(0.5 + 1e-5) - attention(0.5 - 1e-5)).item() / 2e-5
    assert mg.grad(attention(slope), slope).item() == pytest.approx(numeric, rel=1e-6)


def test_numpys_where_of_a_condition_alone_is_nonzero():
    found = np.where(mg.Tensor([[1, 0], [0, 2]]) > 0)
    assert [places.tolist() for places in found] == [[0, 1], [0, 1]] and np.where([True, False], mg.Tensor(1), 2).tolist() == [1, 2]
    with pytest.raises(TypeError, match="nonzero"):
        np.where(mg.Tensor([1.0], requires_grad=True))


def test_creation():
    assert mg.arange(10, step=3).tolist() == [0, 3, 6, 9] and mg.arange(5, 1, -2).tolist() == [5, 3]
    for call in (lambda: mg.zeros(-1), lambda: mg.ones(2.0), lambda: mg.full((True,), 1), lambda: mg.eye(-1),
                 lambda: mg.eye(2, 1.0), lambda: mg.linspace(0, 1, -1), lambda: mg.linspace(0, 1, 2.5), lambda: mg.randn(None),
                 lambda: mg.rand("3")):
        with pytest.raises(ValueError, match="whole number, 0 or more"):
            call()
    for dtype in ("int64", bool):
        with pytest.raises(TypeError, match="floating point"):
            mg.rand(2, dtype=dtype)
    for make in (mg.rand, mg.randn):
        assert make().shape == () and make(0, 2).shape == (0, 2) and make((2, 1)).dtype == np.float32
        drawn = []
        for dtype in ("float64", float, np.dtype("float64")):
            mg.random.seed(0)
            drawn.append(make(3, dtype=dtype).tolist())
        assert drawn[0] == drawn[1] == drawn[2]


@pytest.mark.parametrize("dtype", ["float16", pytest.param("bfloat16", marks=wants_bfloat16)])
def test_random_numbers_of_16_bits_stay_below_1(dtype):
    mg.random.seed(0)
    numbers = mg.rand(100_000, dtype=dtype).numpy().astype(np.float64)
    assert 0 <= numbers.min() and 0.99 < numbers.max() < 1 and abs(numbers.mean() - 0.5) < 0.01


def test_a_path_that_returns_a_gradient_of_another_shape_is_named(monkeypatch):
    from minigrad.backend.cpu.paths import PATHS
    from minigrad.backend.paths import Path
    from minigrad.fused import Fused
    path = Path(lambda x: (2 * x, None), lambda g, out, residuals, wanted, x: [(2 * g).sum()])
    monkeypatch.setitem(PATHS, "double_for_test", path)
    x = mg.Tensor(np.ones(3), requires_grad=True)
    with pytest.raises(RuntimeError, match=r"'double_for_test' returned shape \(\)"):
        Fused("double_for_test", lambda x: 2 * x)(x).sum().backward()


@pytest.mark.parametrize("create_graph", [False, True])
def test_gradients_share_no_memory(create_graph):
    x, y, z = (mg.Tensor([3.0, 4.0], requires_grad=True) for _ in range(3))
    g = mg.Tensor([1.0, 2.0])
    (x + y + z).backward(g, create_graph=create_graph)
    arrays = [x.grad.data, y.grad.data, z.grad.data, g.data]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(arrays) for b in arrays[:i])
    x.grad = None
    x.sum().backward(create_graph=create_graph)  # the gradient is a number broadcast
    optim.clip_grad_norm_([x], 0.5)
    np.testing.assert_allclose(x.grad.numpy(), np.sqrt([0.125, 0.125]))


def test_a_copied_gradient_can_be_differentiated():
    x, y = (mg.Tensor([3.0], requires_grad=True) for _ in range(2))
    ((x + y) ** 3).sum().backward(create_graph=True)
    assert mg.grad(y.grad.sum(), x).item() == 36


@pytest.mark.parametrize("values, dtype, error", [
    ([300], "int8", OverflowError), (-1, "uint8", OverflowError), ([1, [2**40][0]], np.int32, OverflowError),
    ([0.0, np.nan], int, ValueError), (np.inf, int, OverflowError), (np.float32(np.nan), "int64", ValueError)])
def test_numbers_that_a_dtype_does_not_hold_are_refused(values, dtype, error):
    with pytest.raises(error, match="Tensor: u?int.* holds no"):
        mg.Tensor(values, dtype=dtype)
    assert mg.Tensor([127, -128, 2.7], dtype="int8").tolist() == [127, -128, 2]
    for large, kind in (([2**64 - 1, 0], "uint64"), ([2**63 + 1, 0], "uint64"), ([2**63 - 1, 0.0], "int64"), ([-2**63, 1], "int64")):
        assert mg.Tensor(large, dtype=kind).tolist() == large


# -- what is no result, and what is no change --------------------------------------------------------------------------

@pytest.mark.parametrize("result", [None, "a", {}, 1j, object(), np.fft.fft(np.ones(2)), np.array(["a"]), np.array([None])],
                         ids=lambda result: f"{type(result).__name__} {getattr(result, 'dtype', '')}")
@pytest.mark.parametrize("several", [False, True])
def test_a_forward_that_returns_no_numbers_is_refused(result, several):
    s = mg.Primitive("s", lambda x: (x, result) if several else result, lambda g, _out, x: g)
    with pytest.raises(TypeError, match="^s: forward returned (None|a .*|numbers of .*); it returns an array"):
        s(np.ones(2))


@pytest.mark.parametrize("functions, named", [((None, np.sin), "forward"), ((3, np.sin), "forward"), ((np.sin, 3), "rule"),
                                              ((np.sin, "a", None), "rule")])
def test_a_primitive_is_made_of_functions(functions, named):
    with pytest.raises(TypeError, match=f"^Primitive s: .*{named} is a function"):
        mg.Primitive("s", *functions)


@pytest.mark.parametrize("fails", [lambda c: c.__setitem__(5, 1.0), lambda c: c.__setitem__(0, "3"), lambda c: c.__setitem__(0, None),
                                   lambda c: c.__setitem__(slice(None), np.ones(7))])
def test_an_assignment_that_fails_changes_nothing(fails):
    w, c = mg.Tensor(np.ones(3), requires_grad=True), mg.Tensor([1.0, 2.0, 3.0])
    y = (w * c).sum()
    with pytest.raises((IndexError, TypeError, ValueError)) as raised:
        fails(c)
    assert "assignable" not in str(raised.value)
    y.backward()
    assert w.grad.tolist() == c.tolist() == [1, 2, 3]
    y = (w * c).sum()
    c[0] = 1.0
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


@pytest.mark.parametrize("wrong", [5, np.ones(3), mg.Tensor(np.ones(2))], ids=["int", "array", "shape"])
def test_a_gradient_that_somebody_set_to_something_else_is_refused(wrong):
    w = mg.Tensor(np.ones(3), requires_grad=True)
    w.grad, other = wrong, mg.Tensor(np.ones(3), requires_grad=True)
    with pytest.raises(RuntimeError, match=r"^\.grad of a Tensor of shape \(3,\) is of .*: set it to None"):
        (other * w * 2).sum().backward()
    assert other.grad is None


READ_ONLY = {
    "x": lambda r: mg.Tensor(r).__setitem__(0, 1.0), "running_mean": lambda r: F.batch_norm(X, r, np.ones(3), training=True),
    "running_var": lambda r: F.batch_norm(X, ONES, r, training=True), "gradient 0": lambda r: optim.clip_grad_norm_(with_gradient(r), 1e-3),
    "x as": lambda r: nn.init.zeros_(mg.Tensor(r)), "gradient 0 of": lambda r: optim.LossScaler(2.0).step(optim.SGD(with_gradient(r), lr=0.1)),
    "parameter 0": lambda r: optim.SGD(with_gradient(np.ones(3), r), lr=0.1).step()}
X, ONES = np.random.default_rng(0).normal(size=(4, 3)), np.ones(3)


def with_gradient(grad, value=None):
    p = nn.Parameter(np.ones(3) if value is None else value)
    p._array = p._array if value is None else value
    p.grad = mg.tensor.wrap(grad)
    return [p]


@pytest.mark.parametrize("what", READ_ONLY)
def test_what_is_read_only_is_said_before_anything_changes(what):
    array = np.full(3, 2.0)
    array.flags.writeable = False
    with pytest.raises(ValueError, match=f"{what.partition(' as')[0].partition(' of')[0]} is in read-only memory and cannot be changed in place; copy it"):
        READ_ONLY[what](array)
    assert ONES.tolist() == [1, 1, 1]


def test_one_context_in_two_threads_is_each_threads_own():
    w, shared, order = mg.Tensor(1.0, requires_grad=True), mg.no_grad(), [threading.Event() for _ in range(2)]
    found = {}

    def first():
        with shared:
            order[0].set()
            order[1].wait(5)
        found["first"] = (w * 2).requires_grad

    def second():
        with mg.no_grad():
            order[0].wait(5)
            with shared:
                order[1].set()
                thread.join()
            found["second"] = (w * 2).requires_grad

    thread, other = threading.Thread(target=first), threading.Thread(target=second)
    thread.start(), other.start()
    thread.join(), other.join()
    assert found == {"first": True, "second": False}


def test_asynchronous_functions_are_not_decorated():
    async def coroutine():
        pass

    async def generator():
        yield

    for decorate in (mg.no_grad(), mg.enable_grad, mg.no_grad):
        for function in (coroutine, generator):
            with pytest.raises(TypeError, match="_grad: .* is asynchronous"):
                decorate(function)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_suspended_contexts_end_in_any_order(order):
    def inside(context):
        with context():
            yield

    generators = [inside(context) for context in (mg.no_grad, mg.enable_grad, mg.no_grad)]
    for generator in generators:
        next(generator)
    for i in order:
        generators[i].close()
    assert (mg.Tensor(1.0, requires_grad=True) * 2).requires_grad


def test_a_generator_that_another_thread_finishes_leaves_that_thread_alone():
    w = mg.Tensor(1.0, requires_grad=True)

    def batches():
        with mg.no_grad():
            yield 1

    begun, found = [batches(), batches()], []
    for generator in begun:
        next(generator)

    def finish():
        with mg.enable_grad():
            list(begun.pop())
            found.append((w * 2).requires_grad)
        with mg.no_grad():
            begun.pop().close()
            found.append((w * 2).requires_grad)
        found.append((w * 2).requires_grad)

    thread = threading.Thread(target=finish)
    thread.start()
    thread.join()
    assert found == [True, False, True]
    mg.recording.state.around.clear()
    mg.recording.state.recording = True


def test_what_was_written_before_an_error_is_a_change():
    w, c = mg.Tensor(np.ones(3), requires_grad=True), mg.Tensor(np.float32([1, 2, 3]))
    y = (w * c).sum()
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        c[0] = np.float64(1e300)
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()
