"""Functions of functions: gradients, products with Jacobians, Jacobians, Hessians, recomputation.

They compose: `grad(grad(f))` is the second derivative, `jacobian(grad(f))` the Hessian. Arguments may be Tensors, arrays,
Python numbers, or trees of them (nested dicts, lists, tuples). How nesting works: a transform hands `f` a stand-in for
each argument. If the argument itself requires a gradient, the stand-in is computed from it by `identity`, so it belongs to
the outer graph; the inner backward pass stops at the stand-in. The result is recorded for the outer derivative exactly
when `f` reached a Tensor outside that requires a gradient; otherwise the backward pass builds no graph.
"""
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import tree
from .backend import is_array, is_float, random, xp
from .backward import backpropagate, gradients_of
from .ops import reshape, stack, stop_gradient, sum, zeros_like
from .primitive import identity, Node, Primitive
from .recording import caller, enable_grad, is_recording, next_event, no_grad, observing
from .tensor import Tensor, wrap


def _stand_in(x, name):
    """What `f` is given for the leaf `x` of an argument that it is differentiated in."""
    if isinstance(x, Tensor):
        if x.requires_grad:
            return identity(x)
        x = x._array
    elif isinstance(x, (bool, int, float)):
        x = np.asarray(float(x))
    elif not is_array(x):
        x = np.asarray(x)
    if not is_float(x.dtype):
        raise TypeError(f"{name}: cannot differentiate with respect to an argument of dtype {x.dtype}; "
                        "convert it to floating point, or name other arguments with argnums")
    return Tensor(x, requires_grad=True)


def _checked(y, name):
    """The output of `f`, which must be a Tensor."""
    if not isinstance(y, Tensor):
        raise TypeError(f"{name}: the function must return a Tensor, not {type(y).__name__}; "
                        "float(), .item() and .numpy() leave the graph")
    return y


def _outside(y, stand_ins):
    """Whether `y` depends on a Tensor that requires a gradient, other than the stand-ins that are leaves of their own."""
    if any(not x.is_leaf for x in stand_ins):
        return True
    stack, visited = [y.origin], set(stand_ins)
    while stack:
        origin = stack.pop()
        if origin not in visited:
            if type(origin) is not Node:
                return True
            visited.add(origin)
            stack.extend([x for x in origin.sources if x is not None and x._requires_grad])
    return False


class _Run:
    """One call of `f` with stand-ins for the arguments to differentiate in, and the way back."""

    def __init__(self, name, f, args, argnums, settings, has_aux=False):
        self.name, self.single = name, isinstance(argnums, int)
        numbers = [argnums] if self.single else list(argnums)
        for i in numbers:
            if not -len(args) <= i < len(args):
                raise ValueError(f"{name}: argnums={argnums}, but the function was called with {len(args)} arguments")
        self.outer = is_recording()
        with enable_grad():
            leaves, self.rebuild = tree.flatten([args[i] for i in numbers])
            self.xs = [_stand_in(x, name) for x in leaves]
            args = list(args)
            for i, arg in zip(numbers, self.rebuild(self.xs)):
                args[i] = arg
            y = f(*args, **settings)
        self.aux = None
        if has_aux:
            y, aux = y
            self.aux = tree.map(lambda x: stop_gradient(x) if isinstance(x, Tensor) else x, aux)
        self.y = _checked(y, name)
        self.create_graph = self.outer and self.y.requires_grad and _outside(self.y, self.xs)

    def value(self):
        """f's value, still on the graph if something outside may be differentiated through it."""
        return self.y if self.create_graph else self.y.detach()

    def pull(self, cotangent=None, last=True):
        """The cotangents of the stand-ins. After the last pull those that are leaves are constants to what is outside."""
        if not self.y.requires_grad:
            return [zeros_like(x) for x in self.xs]
        graph = self.create_graph or (self.outer and isinstance(cotangent, Tensor) and cotangent.requires_grad)
        grads = gradients_of([self.y], self.xs, [cotangent], graph, graph or not last, stop=True)
        if last:
            self.close()
        return grads

    def close(self):
        for x in self.xs:
            if x.is_leaf:
                x.requires_grad = False

    def arranged(self, leaves):
        """One item per stand-in, in the structure of the arguments."""
        out = self.rebuild(leaves)
        return out[0] if self.single else tuple(out)


def grad(f: Callable | Tensor, argnums: Any = 0, create_graph: bool = False, retain_graph: bool | None = None,
         has_aux: bool = False) -> Any:
    """The gradient of a scalar function, or of a scalar that has been computed.

    `grad(f)` is a function with the arguments of `f` that returns the gradient with respect to argument `argnums` (a number,
    or a tuple of numbers for a tuple of gradients), in that argument's structure. With `has_aux`, `f` returns
    (value, anything) and the new function (gradient, anything).

    `grad(y, xs)` is the gradient of the Tensor `y` with respect to a tree `xs` of Tensors that it was computed from, in
    the structure of xs; zeros where y does not depend on one. `create_graph=True` records it for another derivative.

    >>> grad(grad(lambda x: x ** 3))(2.0)
    Tensor(12.)

    Raises:
        TypeError: `f` returns no Tensor, or an argument is not floating point.
        RuntimeError: the value is no scalar, or `y` does not require a gradient.
    """
    if isinstance(f, Tensor):
        leaves, rebuild = tree.flatten(argnums)
        for x in leaves:
            if not isinstance(x, Tensor):
                raise TypeError(f"grad(y, xs): xs must be Tensors that y was computed from, not {type(x).__name__}")
        return rebuild(gradients_of([f], leaves, None, create_graph, retain_graph))
    both = value_and_grad(f, argnums, has_aux, _name="grad")

    @functools.wraps(f, updated=())
    def gradient(*args, **settings):
        value, grads = both(*args, **settings)
        return (grads, value[1]) if has_aux else grads

    return gradient


def value_and_grad(f: Callable, argnums: int | Sequence[int] = 0, has_aux: bool = False,
                   _name: str = "value_and_grad") -> Callable:
    """As `grad(f)`, but the new function returns (value, gradient); with `has_aux` ((value, anything), gradient)."""
    if not callable(f):
        raise TypeError(f"{_name}: expected a function, not {type(f).__name__}")

    @functools.wraps(f, updated=())
    def value_and_gradient(*args, **settings):
        run = _Run(_name, f, args, argnums, settings, has_aux)
        if run.y.size != 1:
            raise RuntimeError(f"{_name}: the function must return a scalar, not shape {run.y.shape}; "
                               "sum it, or use vjp or jacobian")
        value = run.value()
        return ((value, run.aux) if has_aux else value), run.arranged(run.pull())

    return value_and_gradient


def vjp(f: Callable, *primals: Any) -> tuple[Tensor, Callable]:
    """The value f(*primals), and a function from a cotangent of the value to the cotangents of the primals (a tuple).

    The function may be called any number of times.
    """
    run = _Run("vjp", f, primals, tuple(range(len(primals))), {})
    return run.value(), lambda cotangent: run.arranged(run.pull(cotangent, last=False))


def jvp(f: Callable, primals: Sequence, tangents: Sequence) -> tuple[Tensor, Tensor]:
    """The value f(*primals), and its derivative along `tangents`: the Jacobian times a vector.

    Reverse mode applied twice. The backward pass computes u -> J^T u, which is linear in u; so its derivative with respect to
    u, along the cotangent v, is (J^T)^T v = J v, whatever u is (here zeros):

        d/du <J^T u, v> = d/du <u, J v> = J v

    (Townsend 2017, "A new trick for calculating Jacobian vector products"). So every rule serves both modes, at about twice the
    cost of one gradient. `primals` and `tangents` are sequences of equal structure.
    """
    primals, tangents = tuple(primals), tuple(tangents)
    run = _Run("jvp", f, primals, tuple(range(len(primals))), {})
    vs = tree.matched(tangents, primals, "jvp")
    vs = [v if isinstance(v, Tensor) else Tensor(v if is_array(v) else xp(x._array).asarray(v, dtype=x.dtype))
          for v, x in zip(vs, run.xs)]
    for v, x in zip(vs, run.xs):
        if v.shape != x.shape:
            raise ValueError(f"jvp: a tangent of shape {v.shape} for a primal of shape {x.shape}")
    zero = zeros_like(run.y)
    if not run.y.requires_grad:
        return run.value(), zero
    with enable_grad():
        u = Tensor(zero._array, requires_grad=True)
        pulled = gradients_of([run.y], run.xs, [u], create_graph=True, stop=True)
        paired = [sum(p * v) for p, v in zip(pulled, vs) if p.requires_grad]
        if not paired:
            return run.value(), zero
        graph = run.outer and (run.create_graph or any(v.requires_grad for v in vs))
        total = functools.reduce(lambda a, b: a + b, paired)
        derivative = gradients_of([total], [u], None, graph, stop=True)[0]
        u.requires_grad = False
        run.close()
        return run.value(), derivative


def hvp(f: Callable, primals: Any, tangents: Any) -> Any:
    """The Hessian of a scalar function times a vector, without the Hessian: the derivative of the gradient along `tangents`.

    `primals` and `tangents` are the sequences of all arguments; the result is a tuple in the structure of primals. A single
    Tensor or number may stand for a sequence of one, and then gives a single one back.
    """
    if not isinstance(primals, (tuple, list)):
        return hvp(f, (primals,), (tangents,))[0]
    primals, tangents = tuple(primals), tuple(tangents)
    leaves, rebuild = tree.flatten(primals)
    vs = tree.matched(tangents, primals, "hvp")
    for v, x in zip(vs, leaves):
        if np.shape(v) != np.shape(x):
            raise ValueError(f"hvp: a tangent of shape {np.shape(v)} for a primal of shape {np.shape(x)}")

    def along(*args):
        grads = tree.leaves(grad(f, tuple(range(len(args))))(*args))
        return functools.reduce(lambda a, b: a + b, [sum(g * v) for g, v in zip(grads, vs)])

    return tuple(grad(along, tuple(range(len(primals))))(*primals))


def jacobian(f: Callable, argnums: int | Sequence[int] = 0) -> Callable:
    """A function that returns all derivatives of the output of `f` (any shape) with respect to one argument.

    Each leaf of the result has the output's shape followed by that leaf's shape. One backward pass per output element.
    """
    @functools.wraps(f, updated=())
    def derivative(*args, **settings):
        run = _Run("jacobian", f, args, argnums, settings)
        y, rows = run.y, []
        for i in range(y.size):
            basis = xp(y._array).zeros(y.size, y.dtype)
            basis[i] = 1
            rows.append(run.pull(wrap(basis.reshape(y.shape)), last=i == y.size - 1))
        columns = zip(*rows) if rows else [()] * len(run.xs)
        return run.arranged([
            reshape(stack(column) if column else wrap(xp(x._array).zeros(0, x.dtype)), y.shape + x.shape)
            for column, x in zip(columns, run.xs)])

    return derivative


def hessian(f: Callable, argnums: int = 0) -> Callable:
    """A function that returns the second derivatives of the scalar function `f` with respect to one argument.

    The argument must be a single Tensor, array or number of shape s; the result has shape s + s.
    """
    if not isinstance(argnums, int):
        raise TypeError("hessian: argnums must be one number; take jacobian(grad(f, ...)) for blocks of several arguments")
    return jacobian(grad(f, argnums), argnums)


class _Closure:
    """Observes a run without recording, and collects what it uses that requires a gradient and was there before."""

    def __init__(self):
        self.found, self.began = {}, next_event()

    def __call__(self, phase, op, inputs, run, where):
        if phase == "forward":
            self.found.update((id(x), x) for x in inputs if x.requires_grad and (x.is_leaf or x._node.order < self.began))
        return run()


class _Recompute(Primitive):
    """The operation of one call of a checkpointed function: the gradient runs `again(inputs)` and differentiates that.

    `again` returns for each input the Tensors that stand for it in the run, and the outputs.
    """

    reads = None

    def __init__(self, again):
        self.name, self.again = "checkpoint", again

    def gradients(self, g, node, wanted, receive):
        create_graph = is_recording()
        with enable_grad():
            stand_ins, ys = self.again(node.inputs)
        pairs = [(y, cotangent) for y, cotangent in zip(ys, g) if cotangent is not None and y.requires_grad]
        targets = [(x.origin, source) for xs, source in zip(stand_ins, wanted) if source is not None for x in xs]
        found = backpropagate([y for y, _ in pairs], [c for _, c in pairs], {x for x, _ in targets}, create_graph, stop=True)
        for x, source in targets:
            if x in found:
                receive(source, found[x], self)


def checkpoint(f: Callable) -> Callable:
    """`f`, but its intermediate results are not kept: the backward pass computes them again (Chen et al. 2016,
    "Training deep nets with sublinear memory cost", arXiv:1604.06174).

    Time for memory: between the passes only the arguments, and the parameters that `f` uses, are held. `f` must return a
    Tensor or a tree of Tensors. Numbers drawn from `minigrad.random` are the same in both runs; anything else that `f`
    does happens twice.
    """
    @functools.wraps(f, updated=())
    def recomputed(*args, **settings):
        if not is_recording():
            return f(*args, **settings)
        leaves, rebuild = tree.flatten((args, settings))
        state = random.get_state()
        with no_grad(), observing(_Closure()) as closure:
            outs, restore = tree.flatten(f(*args, **settings))
        for y in outs:
            _checked(y, "checkpoint")
        closure.found.update((id(y), y) for y in outs if y.requires_grad)  # returned as they are, by no operation
        given = {id(x): x for x in leaves if isinstance(x, Tensor) and x.requires_grad}
        used = [x for key, x in closure.found.items() if key not in given and x.requires_grad]
        if not given and not used or not any(is_float(y.dtype) for y in outs):
            return restore(outs)

        def again(inputs):
            """Runs f with others for its arguments. A Tensor that f closes over, an argument too perhaps, stands for itself."""
            arguments = [identity(x) for x in inputs[:len(given)]]
            replaced = dict(zip(given, arguments))
            new_args, new_settings = rebuild([replaced.get(id(x), x) for x in leaves])
            with random.preserved(state):
                outs = tree.leaves(f(*new_args, **new_settings))
            return [*zip(arguments, inputs), *[(x,) for x in used]], outs

        arrays = tuple(y._array for y in outs)
        return restore(_Recompute(again)._recorded(arrays, (*given.values(), *used), {}, False, caller()))

    return recomputed
