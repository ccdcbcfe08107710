"""Transforms: trees as arguments, numbers and arrays, composition, recomputation, and gradients within gradients."""
import collections
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import minigrad as mg
from minigrad import nn, optim

Pair = collections.namedtuple("Pair", "first second")


def close(a, b, rtol=1e-10):
    a, b = (x.detach().numpy() if isinstance(x, mg.Tensor) else np.asarray(x) for x in (a, b))
    assert a.shape == b.shape
    np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-12)


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


# -- arguments -------------------------------------------------------------------------------------------------------


def test_gradients_have_the_structure_of_the_argument():
    tree = {"w": [np.ones(2), (mg.Tensor([3.0]), 4.0)], "b": Pair(np.float32(5), None), "empty": []}

    def f(p):
        return (p["w"][0] ** 2).sum() + p["w"][1][0].sum() * 2 + p["w"][1][1] * 3 + p["b"].first ** 2

    g = mg.grad(f)(tree)
    assert type(g) is dict and list(g) == ["w", "b", "empty"] and type(g["w"]) is list and type(g["w"][1]) is tuple
    assert type(g["b"]) is Pair and g["b"].second is None and g["empty"] == []
    assert g["w"][0].tolist() == [2, 2] and g["w"][1][0].tolist() == [2] and float(g["w"][1][1]) == 3
    assert float(g["b"].first) == 10 and g["b"].first.dtype == np.float32
    value, again = mg.value_and_grad(f)(tree)
    assert float(value) == 2 + 6 + 12 + 25 and again["w"][0].tolist() == [2, 2]


def test_argnums_choose_the_arguments():
    f = lambda x, y, z: (x * y ** 2 * z).sum()
    args = (2.0, 3.0, 5.0)
    assert float(mg.grad(f)(*args)) == 45 and float(mg.grad(f, 1)(*args)) == 60 and float(mg.grad(f, -1)(*args)) == 18
    first = mg.grad(f, (2, 0))(*args)
    assert type(first) is tuple and [float(g) for g in first] == [18, 45]
    assert [float(g) for g in mg.grad(f, (0,))(*args)] == [45]
    assert mg.grad(lambda x, n: (x ** n).sum(), 0)(np.array([2.0]), 3).tolist() == [12]
    assert float(mg.grad(lambda x, *, scale: x * scale)(2.0, scale=7.0)) == 7
    for transform in (mg.grad, mg.value_and_grad, mg.jacobian, mg.hessian):
        for wrong in (3, -4, (0, 3)):
            with pytest.raises(ValueError, match="argnums=.*but the function was called with 3"):
                transform(f, wrong)(*args)
        for twice in ((0, 0), (0, -3)):
            with pytest.raises(ValueError, match="names an argument twice"):
                transform(f, twice)(*args)
        for wrong in ("x", None, 1.0, (0, "x"), True, (0, False)):
            with pytest.raises(TypeError, match="argnums is the number of an argument"):
                transform(f, wrong)(*args)
        with pytest.raises(TypeError, match=rf"{transform.__name__}: argnums .*as in {transform.__name__}\(f\)\(x\)"):
            transform(f, np.ones(2))
        assert type(transform(f, np.int64(1))(*args)) in (mg.Tensor, tuple)


def test_a_gradient_of_several_numbers_is_that_of_their_weighted_sum():
    x, v = (mg.Tensor(np.array(numbers), requires_grad=True) for numbers in ([1.0, 2.0], [3.0, -1.0]))
    y = x ** 3
    g = mg.grad(y, x, create_graph=True, grad_outputs=v)
    assert g.tolist() == [9, -12] and mg.grad(g.sum(), [x, v]) [0].tolist() == [18, -12]
    assert mg.grad(x ** 3, x, grad_outputs=[1, 1]).tolist() == [3, 12]
    with pytest.raises(RuntimeError, match="grad_outputs=g"):
        mg.grad(x ** 3, x)
    with pytest.raises(RuntimeError, match=r"the cotangent has shape \(3,\)"):
        mg.grad(x ** 3, x, grad_outputs=np.ones(3))
    with pytest.raises(TypeError, match="grad_outputs are for grad"):
        mg.grad(mg.sin, grad_outputs=1.0)
    with pytest.raises(TypeError, match="expected a function or one Tensor, not a list of 2; of several Tensors differentiate"):
        mg.grad([x.sum(), y.sum()], x, grad_outputs=[1.0, 1.0])


def test_auxiliary_output_is_passed_through_without_gradient():
    def f(x):
        return (x ** 2).sum(), {"doubled": x * 2, "name": "f"}

    g, aux = mg.grad(f, has_aux=True)(np.array([1.0, 2.0]))
    assert g.tolist() == [2, 4] and aux["doubled"].tolist() == [2, 4]
    assert aux["name"] == "f" and not aux["doubled"].requires_grad
    (value, aux), g = mg.value_and_grad(f, has_aux=True)(np.array([1.0, 2.0]))
    assert float(value) == 5 and g.tolist() == [2, 4] and not value.requires_grad


def test_kinds_of_leaves():
    f = lambda x: (x * x).sum()
    for x in (2, 2.0, np.float64(2), np.array(2.0), mg.Tensor(2.0), mg.Tensor(2.0, requires_grad=True)):
        g = mg.grad(f)(x)
        assert float(g) == 4 and isinstance(g, mg.Tensor) and g.dtype == np.float64
    assert mg.grad(f)(np.float32([1, 2])).dtype == np.float32
    with pytest.raises(TypeError, match="int64"):
        mg.grad(f)(np.array([1, 2]))
    with pytest.raises(TypeError, match="must return a Tensor"):
        mg.grad(lambda x: float(x))(1.0)
    with pytest.raises(RuntimeError, match=r"scalar.*\(2,\)"):
        mg.grad(lambda x: x)(np.ones(2))
    with pytest.raises(TypeError, match="expected a function"):
        mg.grad(3)


def test_arguments_are_left_as_they_were():
    x = mg.Tensor([1.0, 2.0])
    mg.grad(lambda x: (x * x).sum())(x)
    assert not x.requires_grad and x.grad is None
    y = mg.Tensor([1.0, 2.0], requires_grad=True)
    mg.grad(lambda x: (x * x).sum())(y)
    assert y.grad is None and y.is_leaf


def test_gradient_of_a_computed_scalar():
    x, y, unused = (mg.Tensor(v, requires_grad=True) for v in ([1.0, 2.0], 3.0, [1.0]))
    inner = x * y
    z = (inner ** 2).sum()
    g = mg.grad(z, {"x": x, "rest": [inner, unused]}, create_graph=True)
    assert g["x"].tolist() == [18, 36] and g["rest"][0].tolist() == [6, 12] and g["rest"][1].tolist() == [0]
    assert mg.grad(g["x"].sum(), [x, y])[1].item() == 2 * 2 * 3 * 3 and x.grad is None
    with pytest.raises(TypeError, match="Tensors"):
        mg.grad(z, [1.0])


# -- trees -----------------------------------------------------------------------------------------------------------


def test_trees_are_matched_by_key_and_structure():
    joined = mg.tree.map(lambda a, b: (a, b), {"a": 1, "b": [2, None]}, {"b": [20, None], "a": 10})
    assert joined == {"a": (1, 10), "b": [(2, 20), None]}
    for other in ({"a": 1}, {"a": 1, "c": [2]}, {"a": 1, "b": [2, 3]}, {"a": 1, "b": 2}, {"a": [1], "b": [2]}, [1, [2]],
                  None):
        with pytest.raises(ValueError, match="do not match"):
            mg.tree.map(lambda a, b: a, {"a": 1, "b": [2]}, other)
    default = mg.tree.map(lambda v: v + 1, collections.defaultdict(int, a=1))
    assert default == {"a": 2}
    ordered = mg.tree.map(lambda v: v + 1, collections.OrderedDict(b=1, a=2))
    assert type(ordered) is collections.OrderedDict and list(ordered) == ["b", "a"]


def test_tangents_are_matched_by_key():
    f = lambda p: p["a"] ** 2 * p["b"] ** 3
    primal, tangent = {"a": 2.0, "b": 3.0}, {"b": 1.0, "a": 0.0}
    assert float(mg.jvp(f, (primal,), (tangent,))[1]) == 4 * 3 * 9
    (product,) = mg.hvp(f, (primal,), (tangent,))
    assert float(product["b"]) == 4 * 6 * 3 and float(product["a"]) == 2 * 2 * 27
    for transform in (mg.jvp, mg.hvp):
        with pytest.raises(ValueError, match="do not match"):
            transform(f, (primal,), ({"a": 1.0},))
        with pytest.raises(ValueError, match=r"tangent of shape \(3, 1\) for a primal of shape \(3,\)"):
            transform(lambda x: (x ** 3).sum(), (np.ones(3),), (np.ones((3, 1)),))


# -- the one convention: trees in, trees out -------------------------------------------------------------------------


class Sine:
    """A leaf of a drawn output: the function sin(A x), in some shape, of the row x of all numbers in the arguments."""

    def __init__(self, shape, seed):
        self.shape, self.seed = shape, seed

    def matrix(self, x):
        return random(int(np.prod(self.shape)), x.size, seed=self.seed)

    def __call__(self, x):
        return mg.sin(self.matrix(x) @ x).reshape(self.shape)

    def jacobian(self, x):
        return np.cos(self.matrix(x) @ x)[:, None] * self.matrix(x)


def trees(leaves):
    """Nested tuples, lists, dicts, named tuples and None around drawn leaves."""
    return st.recursive(leaves | st.none(), lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.lists(inner, max_size=3).map(tuple), st.tuples(inner, inner).map(lambda t: Pair(*t)),
        st.dictionaries(st.sampled_from("abc"), inner, max_size=3)), max_leaves=4)


SHAPES = st.sampled_from([(), (1,), (2,), (2, 2), (0,), (3, 0)])
SEEDS = st.integers(0, 1000)
ARGUMENTS = trees(st.floats(-2, 2) | st.builds(lambda shape, seed: random(*shape, seed=seed), SHAPES, SEEDS)
                  | st.builds(lambda seed: mg.Tensor(random(2, seed=seed)), SEEDS))
CONSTANTS = st.sampled_from([1.0, 2, True, np.float32(3), np.array([1.0, 2.0]), np.array([1]), mg.Tensor([3.0]), mg.Tensor(4)])


def joined(tree):
    """All numbers of a tree in one row."""
    return mg.concatenate([mg.zeros(0, dtype="float64"), *[(x if isinstance(x, mg.Tensor) else mg.Tensor(x)).reshape(-1)
                                                           for x in mg.tree.leaves(tree)]])


def like(tree, other):
    """Asserts that the trees are of one structure, in the types and orders too, and of the same shapes."""
    marked = [mg.tree.map(lambda x: None, t) for t in (tree, other)]
    assert marked[0] == marked[1] and repr(marked[0]) == repr(marked[1])
    assert [np.shape(x) for x in mg.tree.leaves(tree)] == [np.shape(x) for x in mg.tree.leaves(other)]
    assert all(type(x) is mg.Tensor for x in mg.tree.leaves(tree))


def drawn_like(tree, seed):
    return mg.tree.map(lambda x: random(*np.shape(x), seed=seed), tree)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(ARGUMENTS, min_size=1, max_size=2), trees(CONSTANTS | st.builds(Sine, SHAPES, SEEDS)), SEEDS)
def test_products_with_jacobians_take_and_return_trees(arguments, out, seed):
    x = joined(arguments).numpy()
    f = lambda *args: mg.tree.map(lambda leaf: leaf(joined(args)) if isinstance(leaf, Sine) else leaf, out)
    wanted = mg.tree.map(lambda leaf: leaf(x) if isinstance(leaf, Sine) else leaf, out)
    matrices = [leaf.jacobian(x) if isinstance(leaf, Sine) else np.zeros((np.size(leaf), x.size))
                for leaf in mg.tree.leaves(out)]
    matrix = np.concatenate([np.zeros((0, x.size)), *matrices])
    tangents, arguments = drawn_like(tuple(arguments), seed), tuple(arguments)

    value, pull = mg.vjp(f, *arguments)
    like(value, wanted)
    close(joined(value), joined(wanted))
    cotangents = drawn_like(value, seed)
    for _ in range(2):
        back = pull(cotangents)
        like(back, arguments)
        close(joined(back), joined(cotangents).numpy() @ matrix)

    value, along = mg.jvp(f, arguments, tangents)
    like(value, wanted)
    like(along, wanted)
    close(joined(value), joined(wanted))
    close(joined(along), matrix @ joined(tangents).numpy())

    blocks = mg.jacobian(f, tuple(range(len(arguments))))(*arguments)
    count, leaves = len(mg.tree.leaves(arguments)), mg.tree.leaves(blocks)
    for k, (y, rows) in enumerate(zip(mg.tree.leaves(wanted), matrices)):
        block = leaves[k * count:(k + 1) * count]
        assert [d.shape for d in block] == [np.shape(y) + np.shape(v) for v in mg.tree.leaves(arguments)]
        close(np.concatenate([np.zeros((np.size(y), 0)), *[d.numpy().reshape(np.size(y), np.size(v))
                                                           for d, v in zip(block, mg.tree.leaves(arguments))]], 1), rows)
    mg.tree.map(lambda leaf, block: like(block, block), wanted, mg.tree.map(lambda leaf: mg.Tensor(0), wanted))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(ARGUMENTS, min_size=1, max_size=2), SEEDS, st.booleans())
def test_derivatives_of_one_number_by_trees(arguments, seed, constant):
    x, arguments = joined(arguments).numpy(), tuple(arguments)
    sine, tangents = Sine((3,), seed), drawn_like(tuple(arguments), seed)
    f = lambda *args: 7 if constant else sine(joined(args)).sum()
    matrix = sine.matrix(x) * (not constant)
    second = -matrix.T @ (np.sin(matrix @ x)[:, None] * matrix)
    everything = tuple(range(len(arguments)))
    value, gradient = mg.value_and_grad(f, everything)(*arguments)
    like(gradient, arguments)
    close(joined(gradient), np.cos(matrix @ x) @ matrix)
    assert type(value) is mg.Tensor and value.shape == ()
    close(joined(mg.grad(f, everything)(*arguments)), joined(gradient))
    product = mg.hvp(f, arguments, tangents)
    like(product, arguments)
    close(joined(product), second @ joined(tangents).numpy())
    leaves = mg.tree.leaves(mg.hessian(f, everything)(*arguments))
    sizes = [np.size(v) for v in mg.tree.leaves(arguments)]
    assert len(leaves) == len(sizes) ** 2
    rows = [np.zeros((m, 0)) for m in sizes]
    for i, d in enumerate(leaves):
        j, k = divmod(i, len(sizes))
        rows[j] = np.concatenate([rows[j], d.numpy().reshape(sizes[j], sizes[k])], 1)
    close(np.concatenate([np.zeros((0, x.size)), *rows]), second)


SCALAR_ONLY = {"grad": mg.grad, "value_and_grad": mg.value_and_grad, "hessian": mg.hessian,
               "hvp": lambda f: lambda x: mg.hvp(f, (x,), (x,))}
ALL = {**SCALAR_ONLY, "vjp": lambda f: lambda x: mg.vjp(f, x), "jacobian": mg.jacobian,
       "jvp": lambda f: lambda x: mg.jvp(f, (x,), (x,))}


@pytest.mark.parametrize("name", ALL)
def test_a_number_that_was_read_is_no_constant(name):
    w = mg.Tensor(2.0, requires_grad=True)
    for f in (lambda x: float(x), lambda x: x.item() * 2, lambda x: x.numpy() + 1.0, lambda x: np.float32(x.tolist()),
              lambda x: mg.grad(lambda y: y * 2)(x).item() * float(w), lambda x: np.float64(x.data)):
        with pytest.raises(TypeError, match=rf"{name}: the function must return a Tensor, not .*read values"):
            ALL[name](f)(3.0)
    with pytest.raises(TypeError, match="read values"):
        mg.vjp(lambda x: (x * 2, float(x)), 3.0)
    ALL[name](lambda x: x * 2 if float(x) > 0 else 0.0)(3.0)
    ALL[name](lambda x: 0.0 if bool(x > 0) else x)(3.0)  # a comparison has no gradient to lose
    for other in ("text", object(), 1j):
        with pytest.raises(TypeError, match=f"{name}: .*{type(other).__name__}" if other != 1j else "complex"):
            ALL[name](lambda x: other)(3.0)


@pytest.mark.parametrize("name", ALL)
def test_a_module_or_another_object_as_an_argument_is_named(name):
    for argument in (mg.nn.Linear(2, 1), [object()], {"net": mg.nn.Linear(2, 1)}):
        with pytest.raises(TypeError, match=rf"{name}: .* is a (Linear|object); .*named_parameters\(\).*functional_call"):
            ALL[name](lambda x: 0.0)(argument)


@pytest.mark.parametrize("name", SCALAR_ONLY)
def test_one_number_is_wanted(name):
    for out, what in (((1.0, 2.0), "a tuple of 2"), ({"a": 1.0}, "a dict of 1"), ([], "a list of 0"), (None, "NoneType")):
        with pytest.raises(TypeError, match=f"{name}: the function must return one number, not {what}"):
            SCALAR_ONLY[name](lambda x: out)(3.0)
    with pytest.raises(RuntimeError, match=rf"{name}: .* a scalar, not shape \(2,\)"):
        SCALAR_ONLY[name](lambda x: mg.stack([x, x]))(3.0)


def test_errors_of_calls():
    for transform in ALL.values():
        with pytest.raises(TypeError, match="expected a function, not Tensor|not int"):
            transform(3)(1.0)
    for wrong in (lambda x: x, lambda x: (x, 1, 2), lambda x: 1.0):
        with pytest.raises(TypeError, match=r"with has_aux the function must return \(value, anything\)"):
            mg.grad(wrong, has_aux=True)(1.0)
    for transform in (mg.jvp, mg.hvp):
        with pytest.raises(TypeError, match="tangents is the sequence of all arguments"):
            transform(lambda x: x ** 2, (1.0,), 1.0)
    with pytest.raises(TypeError, match="primals is the sequence of all arguments"):
        mg.jvp(mg.sin, 1.0, 1.0)
    _, pull = mg.vjp(lambda x: (x, {"a": x * 2}), np.ones(3))
    for wrong in (np.ones(3), (np.ones(3), np.ones(3)), (np.ones(3), {"b": np.ones(3)}), (np.ones(3),), None):
        with pytest.raises(ValueError, match="vjp: the trees do not match"):
            pull(wrong)
    with pytest.raises(ValueError, match=r"vjp: a cotangent of shape \(\) for a value of shape \(3,\)"):
        pull((1.0, {"a": np.ones(3)}))


@pytest.mark.parametrize("wrong", ["a", "3", 1j, object(), np.array(["a"]), np.array([None])],
                         ids=lambda wrong: f"{type(wrong).__name__} {getattr(wrong, 'dtype', '')}")
@pytest.mark.parametrize("name, call", [
    ("jvp: a tangent", lambda v: mg.jvp(mg.sin, (1.0,), (v,))), ("hvp: a tangent", lambda v: mg.hvp(mg.sin, 1.0, v)),
    ("vjp: a cotangent", lambda v: mg.vjp(mg.sin, 1.0)[1](v))])
def test_vectors_that_are_no_numbers_are_named(name, call, wrong):
    with pytest.raises(TypeError, match=f"^{name}: .*a Tensor holds floats"):
        call(wrong)


def test_derivatives_of_trees_are_differentiated_again():
    f = lambda p: {"a": p["x"] ** 3, "b": [p["x"] * p["y"], 1.0]}
    p = {"x": 2.0, "y": 5.0}
    total = lambda tree: sum(d.sum() for d in mg.tree.leaves(tree))
    assert float(mg.grad(lambda x: total(mg.jacobian(f)({"x": x, "y": 5.0})))(2.0)) == 6 * 2 + 1
    assert float(mg.grad(lambda x: total(mg.jvp(f, ({"x": x, "y": 5.0},), ({"x": 1.0, "y": 1.0},))[1]))(2.0)) == 6 * 2 + 1
    cotangent = lambda c: {"a": c, "b": [c ** 2, 0.0]}
    pulled = lambda x, c: total(mg.vjp(f, {"x": x, "y": 5.0})[1](cotangent(c)))
    assert [float(g) for g in mg.grad(pulled, (0, 1))(2.0, 3.0)] == [6 * 2 * 3 + 9, 3 * 4 + 2 * 3 * (5 + 2)]
    assert mg.vjp(lambda x: (x, 2), p["x"])[0][1].tolist() == 2


def test_checkpoint_passes_numbers_and_arrays_through():
    f = mg.checkpoint(lambda x: {"loss": (x ** 2).sum(), "accuracy": 0.5, "counts": np.arange(3), "of": float(x.sum())})
    for x in (mg.Tensor([1.0, 2.0], requires_grad=True), mg.Tensor([1.0, 2.0])):
        out = f(x)
        assert type(out["accuracy"]) is type(out["of"]) is float and out["of"] == 3 and type(out["counts"]) is np.ndarray
        if x.requires_grad:
            assert mg.grad(out["loss"], x).tolist() == [2, 4]
    assert mg.checkpoint(lambda x: 3)(mg.Tensor(1.0, requires_grad=True)) == 3


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
@pytest.mark.parametrize("of", ["batch_norm", "splits", "norm_relu_pool"])
def test_running_statistics_move_once_in_a_checkpoint(depth, of):
    x = mg.Tensor(random(4, 3, 2, 2) + 5, requires_grad=True)
    weight, bias = (mg.Tensor(np.ones(3), requires_grad=True) for _ in range(2))

    def statistics(depth):
        mean, var = np.zeros(3), np.ones(3)

        def f(x):
            if of == "norm_relu_pool":
                return mg.norm_relu_pool(x, mean, var, weight, bias, training=True)
            return mg.batch_norm(x, mean, var, weight, bias, training=True, splits=2 if of == "splits" else 1)

        for _ in range(depth):
            f = mg.checkpoint(f)
        y = (f(x) ** 2).sum()
        g = mg.grad(y, [x, weight], create_graph=True)
        mg.grad(sum((d ** 2).sum() for d in g), [x, weight])
        return mean, var, *g

    for a, b in zip(statistics(depth), statistics(0)):
        close(a, b)
    mean, var = np.zeros(3), np.ones(3)
    mg.batch_norm(x, mean, var, weight, bias, training=True)
    assert mean.min() > 0  # outside they move again


# -- composition -----------------------------------------------------------------------------------------------------


def wavy(x):
    return (mg.sin(x) * mg.cumsum(x * x)).sum() + mg.prod(x)


def test_gradients_of_gradients():
    third = mg.grad(mg.grad(mg.grad(lambda x: x ** 4)))
    assert float(third(2.0)) == 48
    x, v = random(3), random(3, seed=1)
    hessian = mg.hessian(wavy)(x)
    close(hessian, mg.jacobian(mg.grad(wavy))(x))
    close(hessian, hessian.T)
    close(mg.hvp(wavy, x, v), hessian.numpy() @ v)
    close(mg.grad(lambda x: (mg.grad(wavy)(x) * v).sum())(x), hessian.numpy() @ v)
    close(mg.jvp(mg.grad(wavy), (x,), (v,))[1], hessian.numpy() @ v)
    close(mg.vjp(mg.grad(wavy), x)[1](v)[0], v @ hessian.numpy())
    close(mg.jacobian(mg.hessian(wavy))(x).numpy() @ v, mg.jvp(mg.hessian(wavy), (x,), (v,))[1])
    h = 1e-5
    close(hessian,
          [(a - b) / (2 * h) for a,
           b in [(mg.grad(wavy)(x + h * e).numpy(), mg.grad(wavy)(x - h * e).numpy()) for e in np.eye(3)]], 1e-7)


def test_hvp_of_several_arguments():
    f = lambda x, y: (x ** 2 * y).sum() + (y ** 3).sum()
    x, y, u, v = random(4, 3)
    products = mg.hvp(f, (x, y), (u, v))
    assert type(products) is tuple
    close(products[0], 2 * y * u + 2 * x * v)
    close(products[1], 2 * x * u + 6 * y * v)
    assert mg.hvp(lambda x: (2 * x).sum(), np.ones(2), np.ones(2)).tolist() == [0, 0]
    assert float(mg.hvp(lambda x: x ** 3, 2.0, 1.0)) == 12


def test_jacobians_have_the_shape_of_output_and_input():
    x = random(2, 3)
    f = lambda x: mg.exp(x).sum(0)
    jacobian = mg.jacobian(f)(x)
    assert jacobian.shape == (3, 2, 3)
    close(jacobian, np.stack([np.exp(x) * (np.arange(3) == k) for k in range(3)]))
    assert mg.jacobian(lambda x: x.sum())(x).tolist() == np.ones((2, 3)).tolist()
    assert mg.jacobian(lambda x: mg.Tensor([1.0, 2.0]))(x).numpy().any() is np.False_
    assert mg.jacobian(lambda x: x[:0])(x).shape == (0, 3, 2, 3)
    tree = mg.jacobian(lambda p: p["a"] * p["b"])({"a": np.ones(2), "b": 3.0})
    assert tree["a"].tolist() == [[3, 0], [0, 3]] and tree["b"].tolist() == [1, 1]
    both = mg.jacobian(lambda x, y: x * y, (0, 1))(2.0, np.ones(2))
    assert both[0].tolist() == [1, 1] and both[1].tolist() == [[2, 0], [0, 2]]
    f = lambda x, p: (x["a"] ** 2 * p).sum()
    blocks = mg.hessian(f, (0, 1))({"a": np.array([2.0, 3.0])}, 5.0)
    assert blocks[0]["a"][0]["a"].tolist() == [[10, 0], [0, 10]] and float(blocks[1][1]) == 0
    assert blocks[0]["a"][1].tolist() == blocks[1][0]["a"].tolist() == [4, 6]


def test_jvp_against_differences():
    f = lambda x, y: mg.tanh(x @ y) / (1 + mg.sum(x * x, 0))
    x, y, u, v = random(4, 3, 3)
    value, slope = mg.jvp(f, (x, y), (u, v))
    h = 1e-6
    close(value, f(x, mg.Tensor(y)))
    close(slope, (f(mg.Tensor(x + h * u), y + h * v).numpy() - f(mg.Tensor(x - h * u), y - h * v).numpy()) / (2 * h), 1e-6)
    close(slope,
          np.einsum("ijkl,kl->ij", mg.jacobian(f)(x, y).numpy(), u) + np.einsum("ijkl,kl->ij",
                                                                                mg.jacobian(f, 1)(x, y).numpy(), v))
    assert mg.jvp(lambda x: mg.Tensor([1.0, 2.0]), (x,), (u,))[1].tolist() == [0, 0]
    assert mg.jvp(lambda x: mg.stop_gradient(x), (x,), (u,))[1].numpy().any() is np.False_
    assert float(mg.jvp(lambda x: x ** 2, (3,), (1,))[1]) == 6
    twice = mg.jvp(lambda x: mg.jvp(mg.sin, (x,), (u,))[1], (x,), (v,))[1]
    close(twice, -np.sin(x) * u * v)
    close(mg.grad(lambda v: mg.jvp(mg.sin, (x,), (v,))[1].sum())(u), np.cos(x))


def test_vjp_may_be_pulled_often_and_differentiated():
    x, c, d = random(3, 4)
    value, pull = mg.vjp(lambda x: x ** 3, x)
    close(value, x ** 3)
    for cotangent in (c, d, mg.Tensor(c)):
        close(pull(cotangent)[0], 3 * x ** 2 * (cotangent if isinstance(cotangent, np.ndarray) else cotangent.numpy()))
    close(mg.grad(lambda x: (mg.vjp(lambda x: x ** 3, x)[1](c)[0] * d).sum())(x), 6 * x * c * d)
    close(mg.grad(lambda c: (mg.vjp(lambda x: x ** 3, x)[1](c)[0] * d).sum())(c), 3 * x ** 2 * d)
    _, again = mg.vjp(lambda x: mg.vjp(lambda x: x ** 3, x)[1](c)[0], x)
    close(again(d)[0], 6 * x * c * d)


# -- gradients within gradients --------------------------------------------------------------------------------------


def test_perturbations_are_not_confused():
    assert float(mg.grad(lambda x: x * mg.grad(lambda y: x + y)(1.0))(1.0)) == 1
    assert float(mg.grad(lambda x: x * mg.grad(lambda y: x * y)(1.0))(3.0)) == 6
    assert float(mg.grad(lambda x: mg.grad(lambda y: x * y)(x))(3.0)) == 1
    assert float(mg.grad(lambda x: mg.grad(lambda x: x * x)(x) * x)(3.0)) == 12
    assert float(mg.grad(lambda x: mg.jvp(lambda y: x * y * y, (2.0,), (1.0,))[1])(5.0)) == 4
    assert float(mg.jvp(lambda x: x * mg.jvp(lambda y: x + y, (1.0,), (1.0,))[1], (1.0,), (1.0,))[1]) == 1
    assert float(mg.grad(lambda x: mg.grad(lambda y: mg.grad(lambda z: x * y ** 2 * z ** 3)(y))(x))(2.0)) == 4 * 12 * 8


def test_closing_over_a_tensor_that_requires_a_gradient():
    w = mg.Tensor(3.0, requires_grad=True)
    inner = mg.grad(lambda x: (w * x) ** 2)(2.0)
    inner.backward()
    assert float(inner) == 36 and float(w.grad) == 2 * 2 * 3 * 2
    x = mg.Tensor(2.0, requires_grad=True)
    assert float(mg.grad(lambda y: x * y)(x)) == 2  # not 4: only through the argument


def test_stop_gradient():
    assert float(mg.grad(lambda x: mg.stop_gradient(x) * x)(3.0)) == 3
    assert float(mg.grad(mg.grad(lambda x: mg.stop_gradient(x ** 2) * x))(3.0)) == 0
    inner = lambda phi: phi - 0.1 * mg.stop_gradient(mg.grad(lambda p: p ** 3)(phi))
    assert float(mg.grad(inner)(2.0)) == 1  # the first-order form of MAML
    assert float(mg.grad(lambda phi: phi - 0.1 * mg.grad(lambda p: p ** 3)(phi))(2.0)) == pytest.approx(1 - 0.1 * 12)
    assert not mg.stop_gradient(mg.Tensor(1.0, requires_grad=True)).requires_grad


def test_recording_is_switched_off_and_on_again():
    x = mg.Tensor(2.0, requires_grad=True)
    with mg.no_grad():
        assert not (x * x).requires_grad
        with mg.enable_grad():
            assert (x * x).requires_grad
        assert float(mg.grad(lambda x: x ** 2)(3.0)) == 6 and not mg.grad(lambda x: x ** 2)(x).requires_grad
        with pytest.raises(KeyError):
            with mg.enable_grad():
                raise KeyError
        assert not (x * x).requires_grad
    assert (x * x).requires_grad
    quiet = mg.no_grad()(lambda: x * x)
    assert not quiet().requires_grad and not quiet().requires_grad


def test_recording_is_each_threads_own():
    x, seen = mg.Tensor(2.0, requires_grad=True), []
    with mg.no_grad():
        other = threading.Thread(target=lambda: seen.append((x * x).requires_grad))
        other.start()
        other.join()
    assert seen == [True]


def test_threads_may_differentiate_at_once():
    results = {}

    def work(k):
        x = random(20, seed=k)
        results[k] = [mg.hvp(wavy, x, x).numpy() for _ in range(10)]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(4):
        assert len(results[k]) == 10
        for product in results[k]:
            close(product, mg.hvp(wavy, random(20, seed=k), random(20, seed=k)))


@pytest.mark.parametrize("create_graph", [False, True])
def test_threads_add_to_the_gradient_of_one_leaf(create_graph):
    leaves = [mg.Tensor(np.zeros(shape), requires_grad=True) for shape in ((), (3,))]
    start = threading.Barrier(8)

    def work():
        start.wait()
        for _ in range(100):
            sum(x.sum() for x in leaves).backward(create_graph=create_graph)

    threads, before = [threading.Thread(target=work) for _ in range(8)], sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert [x.grad.tolist() for x in leaves] == [800, [800] * 3]


# -- recomputation ---------------------------------------------------------------------------------------------------


def mixed(x, w):
    return mg.tanh(x @ w) * mg.sin(x)


def test_checkpoint_equals_the_function_to_third_order():
    x, w, v = random(3, 3, 3)
    nested = mg.checkpoint(lambda x, w: mg.checkpoint(mixed)(x, w) * mg.checkpoint(lambda x: x ** 2)(x))
    plain = lambda x, w: mixed(x, w) * x ** 2
    for order in range(3):
        close(nested(mg.Tensor(x), w).sum(), plain(mg.Tensor(x), w).sum())
        a, b = (mg.grad(lambda x, w, f=f: f(x, w).sum(), (0, 1))(x, w) for f in (nested, plain))
        assert np.abs(a[0].numpy()).max() > 0.01
        close(a[0], b[0])
        close(a[1], b[1])
        nested, plain = (lambda x, w, f=f: mg.grad(lambda x: (f(x, w) * v).sum())(x) for f in (nested, plain))


def test_checkpoint_runs_the_function_again_in_the_backward_pass_only():
    calls = []

    def f(x):
        calls.append(mg.recording.is_recording())
        return mg.sin(mg.sin(x))

    x = mg.Tensor(1.0, requires_grad=True)
    y = mg.checkpoint(f)(x)
    assert calls == [False]
    y.backward()
    assert calls == [False, True]
    assert not mg.checkpoint(f)(mg.Tensor(1.0)).requires_grad and len(calls) == 3


def test_random_numbers_inside_a_checkpoint_are_drawn_again_alike():
    drawn = []

    def dropout(x):
        mask = mg.random.generator().random(x.shape) < 0.5
        drawn.append(mask)
        return mg.where(mask, 2 * x, 0)

    def twice(x):
        return mg.checkpoint(dropout)(x) * dropout(x) + x

    x = mg.Tensor(random(50), requires_grad=True)
    mg.random.seed(1)
    y = mg.checkpoint(twice)(x)
    after = mg.random.get_state()
    first = [mask.copy() for mask in drawn]
    assert (first[0] != first[1]).any()
    g = mg.grad(y.sum(), x)
    assert mg.random.get_state() == after  # as if nothing had run again
    both = first[0] & first[1]
    close(g, np.where(both, 8 * x.numpy(), 0) + 1)
    assert len(drawn) == 5 and all(any((mask == other).all() for other in first) for mask in drawn)


def test_checkpoint_of_trees_and_several_dtypes():
    def f(p, *, scale):
        return {"a": p["x"] * scale, "b": (p["x"].astype("float32") ** 2, mg.argmax(p["x"]), None)}

    x = mg.Tensor([1.0, 3.0], requires_grad=True)
    out = mg.checkpoint(f)({"x": x}, scale=2.0)
    assert out["a"].tolist() == [2, 6] and out["a"].dtype == np.float64 and out["b"][2] is None
    assert out["b"][0].dtype == np.float32 and out["b"][1].dtype == np.int64
    assert not out["b"][1].requires_grad and out["b"][1].item() == 1
    assert mg.grad(out["a"].sum() + out["b"][0].sum(), x).tolist() == [4, 8]
    assert not mg.checkpoint(mg.argmax)(x).requires_grad
    with pytest.raises(TypeError, match="checkpoint"):
        mg.checkpoint(lambda x: "text")(x)


def test_checkpoint_of_what_gives_no_gradient():
    assert float(mg.grad(lambda x: mg.checkpoint(mg.stop_gradient)(x) + x)(2.0)) == 1
    assert float(mg.grad(lambda x: mg.checkpoint(lambda x: x)(x) * x)(3.0)) == 6


def test_checkpoint_reaches_parameters_it_closes_over_and_inner_gradients():
    w = mg.Tensor(random(3), requires_grad=True)
    x = random(3, seed=1)
    f = lambda x: (mg.grad(lambda y: (mg.sin(y) * w * w).sum())(x) * x).sum()
    (a,), (b,) = (mg.grad(g(mg.Tensor(x)), [w]) for g in (f, mg.checkpoint(f)))
    close(a, 2 * w.numpy() * np.cos(x) * x)
    close(b, a)
    close(mg.grad(mg.checkpoint(f))(x), mg.grad(f)(x))


def test_checkpoint_of_a_function_that_returns_what_it_closes_over():
    x, w = (mg.Tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    for f in (lambda x: (x * 2, w), lambda x: (x * w, w), lambda x: (x, w), lambda x: (w, x * 2)):
        plain, again = (mg.grad(sum((y ** 3).sum() for y in g(x)), [x, w]) for g in (f, mg.checkpoint(f)))
        assert [g.tolist() for g in plain] == [g.tolist() for g in again]
    assert mg.grad(mg.checkpoint(lambda x: w)(x).sum(), w).tolist() == [1, 1]


@pytest.mark.parametrize("use, start, after, given", [
    (lambda x, c: mg.sin(x * c), [1.0, 2.0], 0.0, False), (lambda x, c: mg.sin(x * c), [1.0, 2.0], 0.0, True),
    (lambda x, c: mg.where(c, x * x, 0), [True, False], True, False), (lambda x, c: x[c] ** 2, [1, 0], 1, True)])
def test_a_constant_that_changes_before_a_checkpoint_runs_again_is_an_error(use, start, after, given):
    x, c = mg.Tensor([1.0, 2.0], requires_grad=True), mg.Tensor(start)
    f = mg.checkpoint(lambda x, *cs: use(x, cs[0] if cs else c) * 2)
    y = f(x, *[c] * given).sum()
    mg.Tensor(start)[...] = after  # another one's change is none of its own
    close(mg.grad(y, x, retain_graph=True), mg.grad((use(x, c) * 2).sum(), x))
    c[...] = after
    with pytest.raises(RuntimeError, match="'checkpoint' needs for its gradient was changed in place"):
            y.backward()


def test_the_line_of_a_checkpoint_whose_gradient_is_not_finite():
    x = mg.Tensor([1e-200], requires_grad=True)
    line = r"gradient of 'checkpoint' called at .*test_transforms.py"
    with mg.detect_anomaly(), pytest.raises(FloatingPointError, match=line):
        (mg.checkpoint(mg.log)(x) * 1e200).sum().backward()


def test_checkpoint_of_a_function_that_closes_over_its_argument():
    x, w = (mg.Tensor(a, requires_grad=True) for a in np.random.default_rng(7).normal(size=(2, 3)))
    for v in (x, x * w):
        for f in (lambda u: mg.sin(u) * v, lambda u: mg.exp(v), lambda u: mg.checkpoint(lambda t: t * v)(u) * v + u):
            results = []
            for g in (f, mg.checkpoint(f)):
                first = mg.grad((g(v) ** 2).sum(), [v, x, w], create_graph=True)
                second = mg.grad(sum((d * d).sum() for d in first), [v, x, w], retain_graph=True)
                results.append([d.tolist() for d in first + second])
            np.testing.assert_allclose(*results)


def test_dicts_that_are_made_in_a_way_of_their_own_are_trees():
    class Named(dict):
        def __init__(self, name):
            super().__init__()
            self.name = name

    named = Named("n")
    named["a"] = 3.0
    for tree in (collections.Counter(a=3.0), named, collections.OrderedDict(a=3.0)):
        value, gradient = mg.value_and_grad(lambda p: p["a"] ** 2 + 1)(tree)
        assert value.item() == 10 and type(gradient) is type(tree) and gradient["a"].item() == 6 and tree["a"] == 3
    assert mg.grad(lambda p: p["a"] ** 2)(named).name == "n"

    def adding(p):
        named["b"] = plain["b"] = 2.0
        return p["a"] ** 2

    plain = {"a": 1.0}
    assert list(mg.grad(adding)(plain)) == ["a"]
    del named["b"]
    assert list(mg.grad(adding)(named)) == ["a"]


# -- what an outer derivative sees, and whose memory gradients are -----------------------------------------------------

def test_auxiliary_output_belongs_to_the_graph_of_an_outer_derivative():
    inner = lambda a: mg.grad(lambda x: (x * x, x * a), has_aux=True)(3.0)[1]
    close(mg.grad(inner)(2.0), 3.0)
    both = lambda w: mg.value_and_grad(lambda w: (w * w, {"twice": 2 * w}), has_aux=True)(w)[0][1]["twice"] ** 2
    close(mg.grad(both)(1.5), 12.0)
    close(mg.grad(mg.grad(both))(1.5), 8.0)
    outside = mg.Tensor(2.0, requires_grad=True)
    _, aux = mg.grad(lambda x: (x * x, x * outside), has_aux=True)(3.0)  # which the value does not depend on
    aux.backward()
    close(outside.grad, 3.0)


GRADIENTS = {
    "grad": lambda f, a, b: mg.grad(f, (0, 1))(a, b), "value_and_grad": lambda f, a, b: mg.value_and_grad(f, (0, 1))(a, b)[1],
    "of a result": lambda f, a, b: (lambda xs: mg.grad(f(*xs), xs))([mg.Tensor(x, requires_grad=True) for x in (a, b)]),
    "a dict": lambda f, a, b: mg.grad(lambda p: f(p["a"], p["b"]))({"a": a, "b": b}).values(),
    "hvp": lambda f, a, b: mg.hvp(f, (a, b), (np.ones(2), np.ones(2))), "vjp": lambda f, a, b: mg.vjp(f, a, b)[1](1.0)}


@pytest.mark.parametrize("name", GRADIENTS)
@pytest.mark.parametrize("f", [lambda a, b: ((a + b) ** 2).sum(), lambda a, b: (a + b).sum() + (a * b).sum() * 0])
def test_gradients_can_be_changed_in_place_each_for_itself(name, f):
    found = list(GRADIENTS[name](f, np.array([1.0, 2.0]), np.array([3.0, 4.0])))
    before = found[1].tolist()
    found[0][:] = 99.0
    assert found[1].tolist() == before
    p = [nn.Parameter(np.zeros(2)), nn.Parameter(np.zeros(2))]
    p[0].grad, p[1].grad = GRADIENTS[name](f, np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    length = optim.clip_grad_norm_(p, 1.0)
    close(optim.clip_grad_norm_(p, np.inf), min(length, 1.0))


def test_a_cotangent_stays_its_owners():
    c = mg.Tensor(np.ones(2))
    (g,) = mg.vjp(lambda x: x, np.zeros(2))[1](c)
    g[0] = 7.0
    assert c.tolist() == [1, 1]


def test_a_vjp_inside_leaves_nothing_on_the_graph():
    h = lambda c: mg.vjp(lambda x: x ** 3, 3.0)[1](c)[0]
    _, pull = mg.vjp(lambda x: x ** 3, 3.0)
    for f in (h, lambda c: pull(c)[0]):
        results = [mg.grad(f)(5.0), *mg.value_and_grad(f)(5.0), mg.jacobian(f)(5.0), mg.hessian(f)(5.0), *mg.jvp(f, (5.0,), (1.0,))]
        assert [float(y) for y in results] == [27, 135, 27, 27, 0, 135, 27] and not any(y.requires_grad for y in results)
    value, pull = mg.vjp(lambda x, y: (x, x * y), 2.0, 3.0)
    assert [float(g) for g in pull((1.0, 10.0))] == [31, 20] and [float(g) for g in pull((0.0, 1.0))] == [3, 2]
    close(mg.grad(lambda x: mg.vjp(lambda y: x * y ** 2, x)[1](1.0)[0])(3.0), 4 * 3.0)


def test_settings_of_the_other_form_are_refused():
    x = mg.Tensor(2.0, requires_grad=True)
    for refused in (lambda: mg.grad(lambda x: x * x, 0, create_graph=True), lambda: mg.grad(lambda x: x * x, retain_graph=False),
                    lambda: mg.grad(x * x, x, has_aux=True)):
        with pytest.raises(TypeError, match="is for grad|are for grad"):
            refused()


def test_what_is_beside_the_value_records_nothing_of_the_gradient():
    w = mg.Tensor(2.0, requires_grad=True)
    g, aux = mg.grad(lambda x: ((x * x).sum(), {"norm": w * x.sum()}), has_aux=True)(np.ones(3))
    g[:] = 0.0
    aux["norm"].backward()
    assert g.is_leaf and w.grad.item() == 3
