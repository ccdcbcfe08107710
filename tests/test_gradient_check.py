"""The public check of derivatives: what passes, and what each failure says."""
import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.primitive import Primitive

RNG = np.random.default_rng(0)


def square_with(rule):
    return Primitive("square_with", lambda x: x * x, rule)


def test_arguments_are_tensors_arrays_numbers_and_trees():
    def f(params, x, indices, mode, scale, nothing):
        assert isinstance(indices, np.ndarray) and mode == "mean" and nothing is None and isinstance(scale, mg.Tensor)
        assert isinstance(params["w"], mg.Tensor) and params["w"].dtype == x.dtype == np.float64
        return scale * mg.tanh(x @ params["w"] + params["layers"][0])[indices]

    params = {"w": mg.Tensor(RNG.normal(size=(3, 4)), requires_grad=True), "layers": [RNG.normal(size=4).astype(np.float32)]}
    assert mg.check_derivatives(f, params, RNG.normal(size=(2, 3)), np.array([0, 1, 1]), "mean", 1.5, None) is None
    assert params["w"].grad is None and params["w"].requires_grad


@pytest.mark.parametrize("x", [1.5, np.float32(1.5), np.array(1.5), np.zeros((2, 0)), np.ones((4, 6))[::2, ::-3],
                               mg.Tensor([1.5])])
def test_all_kinds_of_floats(x):
    mg.check_derivatives(lambda x: x ** 3 * 2, x, order=4)


def test_read_only_and_half_arguments():
    x = np.ones(3)
    x.flags.writeable = False
    mg.check_derivatives(mg.exp, x)
    mg.check_derivatives(mg.exp, np.ones(3, np.float16))


def test_outputs_may_be_trees_and_integers_among_them_are_left_out():
    x = np.array([0.3, -1.2, 2.1, 0.8])
    mg.check_derivatives(lambda x: mg.top_k(x * x, 2), x)
    mg.check_derivatives(lambda x: {"a": x * x, "b": [mg.exp(x), mg.argmax(x)]}, x)


def test_closed_over_parameters_and_no_grad_do_no_harm():
    layer = nn.Linear(3, 2)
    mg.check_derivatives(layer, RNG.normal(size=(4, 3)))
    with mg.no_grad():
        mg.check_derivatives(mg.sin, 0.5)
    assert all(p.grad is None for p in layer.parameters())


def test_a_wrong_rule_is_found_and_both_numbers_are_shown():
    wrong = square_with(lambda g, _out, x: g * x)
    with pytest.raises(AssertionError, match=r"order 1 .*seed 7 is (\S+) by rule, (\S+) by central") as failure:
        mg.check_derivatives(lambda x, y: wrong(x) + y, np.ones(3), np.ones(3), seed=7)
    message = str(failure.value)
    assert "argument 0, shape (3,)" in message and "argument 1, shape (3,)" in message and "rules is wrong" in message


def test_small_functions_are_checked_as_well():
    wrong = square_with(lambda g, _out, x: g * x)
    with pytest.raises(AssertionError, match="order 1"):
        mg.check_derivatives(lambda x: 1e-7 * wrong(x), np.ones(3))
    mg.check_derivatives(lambda x: 1e-7 * x * x, np.ones(3))


@pytest.mark.parametrize("f, n", [
    (lambda x: x ** 3, 1), (lambda x: x ** 5, 2), (lambda x: mg.sin(x) - x, 1), (lambda x: (x * x).sum() ** 2, 3), (mg.prod, 3)])
def test_where_all_terms_vanish_the_error_of_the_differences_is_no_fault(f, n):
    mg.check_derivatives(f, np.zeros(n))
    tilted = Primitive("tilted", lambda x: x * x * x, lambda g, _out, x: g * (3 * x * x + 1e-7))
    with pytest.raises(AssertionError, match="order 1"):
        mg.check_derivatives(tilted, np.zeros(n))


def test_a_rule_right_once_and_wrong_twice_is_found():
    half = square_with(lambda g, _out, x: g * x)
    once = square_with(lambda g, _out, x: g * (half(x) / x + x))
    mg.check_derivatives(once, np.ones(3), order=1)
    with pytest.raises(AssertionError, match="order 2.*\n.*\nTo order 1 the rules are right"):
        mg.check_derivatives(once, np.ones(3))


def test_a_function_that_leaves_the_graph_is_a_silent_zero():
    with pytest.raises(AssertionError, match="missing for argument 1, leaf 0, although the result changes .*: the function"):
        mg.check_derivatives(lambda x, p: x + p["w"].numpy() * p["b"], 1.0, {"w": np.ones(2), "b": np.ones(2)})
    with pytest.raises(AssertionError, match="0 or missing for argument 0,? .*although the result changes"):
        mg.check_derivatives(lambda x: mg.Tensor(np.exp(x.numpy())), 1.0)


def test_a_rule_that_leaves_the_graph_is_a_silent_zero_one_order_later():
    cube = Primitive("cube", lambda x: x * x * x, lambda g, _out, x: g * mg.stop_gradient(3 * x * x))
    mg.check_derivatives(cube, np.ones(3), order=1)
    with pytest.raises(AssertionError, match="missing for argument 0, although the derivative of order 1 .*: a gradient"):
        mg.check_derivatives(cube, np.ones(3))


def test_a_kink_is_told_from_a_wrong_rule():
    for f, x in [(mg.abs, 0.0), (mg.relu, 0.0), (mg.floor, 1.0), (mg.max, np.ones(2)), (mg.abs, 1e-6)]:
        with pytest.raises(AssertionError, match="slope goes from .*kink"):
            mg.check_derivatives(f, x)
    mg.check_derivatives(mg.abs, 0.1)
    wrong = square_with(lambda g, _out, x: g * (x + 1))  # at 0, where the square's slopes to both sides have two signs
    with pytest.raises(AssertionError, match="rules is wrong"):
        mg.check_derivatives(wrong, 0.0)


def test_a_function_that_differs_from_call_to_call():
    with pytest.raises(AssertionError, match="other values when it was called again.*minigrad.random.seed"):
        mg.check_derivatives(lambda x: mg.dropout(x, 0.5), np.ones(100))
    calls = []
    with pytest.raises(AssertionError, match="1 Tensors, and 2"):
        mg.check_derivatives(lambda x: calls.append(x) or [x] * len(calls), np.ones(3))


def test_results_that_are_not_finite_or_change_their_shape():
    with np.errstate(divide="ignore"), pytest.raises(AssertionError, match="not finite"):
        mg.check_derivatives(mg.log, np.zeros(2))
    with pytest.raises(AssertionError, match="shape of the result depends"):
        mg.check_derivatives(lambda x: x[x.numpy() > 1], np.ones(8))


def test_what_is_no_tensor_is_refused():
    for f, kind in [(lambda x: float(x), "float"), (lambda x: x.numpy(), "ndarray"), (lambda x: (x, 2), "int")]:
        with pytest.raises(TypeError, match=f"must return a Tensor or a tree of Tensors, not {kind}"):
            mg.check_derivatives(f, 1.0)
    with pytest.raises(TypeError, match="no floating-point Tensor"):
        mg.check_derivatives(lambda x: None, 1.0)
    with pytest.raises(TypeError, match="returned float32 for arguments of float64"):
        mg.check_derivatives(lambda x: x.astype("float32"), 1.0)
    with pytest.raises(TypeError, match="expected a function, not Tensor"):
        mg.check_derivatives(mg.Tensor(1.0), 1.0)
    for args in [(), (2,), (True, np.arange(3), None, "mean")]:
        with pytest.raises(TypeError, match="no argument is floating point"):
            mg.check_derivatives(lambda *args: mg.Tensor(1.0), *args)


@pytest.mark.parametrize("option", [{"order": 0}, {"order": True}, {"order": 1.5}, {"step": 0}, {"step": np.nan},
                                    {"step": np.inf}, {"rtol": -1.0}, {"seed": "a"}, {"seed": -1}])
def test_options_out_of_range(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        mg.check_derivatives(mg.exp, 1.0, **option)
