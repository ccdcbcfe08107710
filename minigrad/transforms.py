"""Functions of functions: gradients, products with Jacobians, Jacobians, Hessians, recomputation.

They compose: `grad(grad(f))` is the second derivative, `jacobian(grad(f))` the Hessian. One convention holds for all:

- Arguments are Tensors, arrays, Python numbers, or trees of them (nested dicts, lists, tuples; None is an empty tree). Those
  to differentiate in are floating point; `f` gets Tensors in the place of their leaves.
- `f` returns a Tensor or a tree of Tensors; `grad`, `value_and_grad`, `hvp` and `hessian` want one number.
- Numbers and arrays in what `f` returns are constants, as is a Tensor that does not depend on the argument: their
  derivatives are zeros of the full shape. Only where `f` read a number out of a Tensor (`float(x)`, `x.item()`,
  `x.numpy()`) a constant is refused, for its dependence on that Tensor would be lost.
- All results are Tensors. What there is one of for each leaf of an argument comes in the structure of the argument
  (gradients, cotangents, tangents), what there is one of for each leaf of the value in that of the value.

How nesting works: a transform hands `f` a stand-in for each argument. If the argument itself requires a gradient, the
stand-in is computed from it by `identity`, so it belongs to the outer graph; the inner backward pass stops at the stand-in.
The result is recorded for the outer derivative exactly when `f` reached a Tensor outside that requires a gradient; otherwise
the backward pass builds no graph.
"""
import functools
import operator
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import tree
from .backend import is_array, is_float, random, xp
from .backward import backpropagate, gradients_of
from .ops import ones_like, reshape, stack, sum, zeros_like
from .primitive import identity, Node, Primitive
from .recording import caller, during, enable_grad, is_recording, next_event, no_grad, observing, reading
from .tensor import Tensor, TensorLike, flag, wrap


def _stand_in(x, name):
    """What `f` is given for the leaf `x` of an argument that it is differentiated in."""
    if isinstance(x, Tensor):
        if x.requires_grad:
            return identity(x)
        x = x._array
    elif isinstance(x, (bool, int, float)):
        x = np.asarray(float(x))
    elif not is_array(x):
        kind, x = type(x).__name__, np.asarray(x)
        if x.dtype.hasobject:
            raise TypeError(f"{name}: cannot differentiate with respect to an argument that is a {kind}; instead of a "
                            "module pass dict(net.named_parameters()), and call it by nn.functional_call(net, them, x)")
    if not is_float(x.dtype):
        raise TypeError(f"{name}: cannot differentiate with respect to an argument of dtype {x.dtype}; "
                        "convert it to floating point, or name other arguments with argnums")
    return Tensor(x, requires_grad=True)


def _output(y, name, read):
    """A leaf of what `f` returned, as a Tensor; `read` says how values left the Tensors meanwhile, or is None."""
    if isinstance(y, Tensor):
        return y
    what = type(y).__name__
    if not _is_constant(y):
        raise TypeError(f"{name}: the function must return a Tensor, or a tree of them, not {what}")
    if read:
        raise TypeError(f"{name}: the function must return a Tensor, not {what}, which would count as a constant, although "
                        f"{read} read values that require a gradient; float(), .item() and .numpy() leave the graph (return "
                        "Tensor(...) if a constant is meant)")
    return Tensor(y)


def _is_constant(y):
    return isinstance(y, (bool, int, float, np.generic)) or is_array(y)


def _outside(ys, stand_ins):
    """Whether the Tensors `ys` depend on one that requires a gradient other than stand-ins that are leaves of their own."""
    ys = [y for y in ys if y.requires_grad]
    if ys and any(not x.is_leaf for x in stand_ins):
        return True
    stack, visited = [y.origin for y in ys], set(stand_ins)
    while stack:
        origin = stack.pop()
        if origin not in visited:
            if type(origin) is not Node:
                return True
            visited.add(origin)
            stack.extend([x for x in origin.sources if x is not None and x._requires_grad])
    return False


def _check_function(name, f):
    if not callable(f):
        raise TypeError(f"{name}: expected a function, not {type(f).__name__}")


def _listed(name, argnums):
    """`argnums` as a list of whole numbers. TypeError: it is something else."""
    listed = argnums if isinstance(argnums, (tuple, list)) else [argnums]
    try:
        return [operator.index(None if isinstance(i, bool) else i) for i in listed]
    except TypeError:
        raise TypeError(f"{name}: argnums is the number of an argument, or a tuple of numbers, not {argnums!r}; the arguments "
                        f"themselves are for the new function, as in {name}(f)(x)") from None


def _numbers(name, argnums, count):
    """The places that `argnums` names among `count` arguments."""
    numbers = _listed(name, argnums)
    for i in numbers:
        if not -count <= i < count:
            raise ValueError(f"{name}: argnums={argnums}, but the function was called with {count} arguments")
    numbers = [i % count for i in numbers]
    if len(set(numbers)) != len(numbers):
        raise ValueError(f"{name}: argnums={argnums} names an argument twice")
    return numbers


class _Run:
    """One call of `f` with stand-ins for the arguments to differentiate in, its outputs, and the way back.

    Attributes:
        xs: the stand-ins, one for each leaf of those arguments; own: those of them that belong to no outer graph.
        out: what `f` returned, a tree; ys: its leaves, as Tensors.
        outer: whether the call was recorded; create_graph: whether its derivatives must be, for an outer derivative.
        aux: what `f` returned beside the value; keep_graph: whether that is on the graph, which the gradient then leaves whole.
    """

    keep_graph, aux = False, None

    def __init__(self, name, f, args, argnums, settings, has_aux=False):
        _check_function(name, f)
        self.name, self.single = name, not isinstance(argnums, (tuple, list))
        numbers = _numbers(name, argnums, len(args))
        self.outer = is_recording()
        with enable_grad(), reading() as read:
            leaves, self.rebuild = tree.flatten([args[i] for i in numbers])
            self.xs = [_stand_in(x, name) for x in leaves]
            self.own = [x for x in self.xs if x.is_leaf]
            args = list(args)
            for i, arg in zip(numbers, self.rebuild(self.xs)):
                args[i] = arg
            out = f(*args, **settings)
        if has_aux:
            if not isinstance(out, (tuple, list)) or len(out) != 2:
                raise TypeError(f"{name}: with has_aux the function must return (value, anything), not {_described(out)}")
            out, aux = out
        self.out = out
        leaves, self.restore = tree.flatten(out)
        self.ys = [_output(y, name, read.way) for y in leaves]
        self.create_graph = self.outer and _outside(self.ys, self.xs)
        if has_aux:
            self.keep_graph = self.outer and _outside([x for x in tree.leaves(aux) if isinstance(x, Tensor)], self.xs)
            self.aux = aux if self.keep_graph else tree.map(lambda x: x.detach() if isinstance(x, Tensor) else x, aux)

    def value(self):
        """f's value, still on the graph if something outside may be differentiated through it."""
        return self.restore(self.ys if self.create_graph else [y.detach() for y in self.ys])

    def pull(self, ys, cotangents, last=False):
        """The cotangents of the stand-ins from those of some of the outputs. The graph stays, but for the last pull."""
        pairs = [(y, c) for y, c in zip(ys, cotangents) if y.requires_grad]
        if not pairs:
            return [zeros_like(x) for x in self.xs]
        graph = self.create_graph or (self.outer and any(c.requires_grad for _, c in pairs))
        ys, cotangents = zip(*pairs)
        return gradients_of(ys, self.xs, cotangents, graph, graph or not last, stop=True)

    def gradient(self, advice):
        """The gradient of the one output, which must be a number."""
        if isinstance(self.out, (dict, tuple, list)) or self.out is None:
            raise TypeError(f"{self.name}: the function must return one number, not {_described(self.out)}; {advice}")
        if self.ys[0].size != 1:
            raise RuntimeError(f"{self.name}: the function must return a scalar, not shape {self.ys[0].shape}; "
                               "sum it, or use vjp or jacobian")
        grads = self.pull(self.ys, [ones_like(self.ys[0])], last=not self.keep_graph)
        self.close()
        return self.arranged(grads)

    def close(self, closed=True):
        """From now on the stand-ins that are leaves are constants to what is outside; or, with False, no longer."""
        for x in self.own:
            x.requires_grad = not closed

    def arranged(self, leaves):
        """One item per stand-in, in the structure of the arguments."""
        out = self.rebuild(leaves)
        return out[0] if self.single else tuple(out)


def _described(out):
    """What an error says of a value that is not one Tensor."""
    kind = type(out).__name__
    return f"a {kind} of {len(out)}" if isinstance(out, (dict, tuple, list)) else kind


def _vectors(vectors, structure, likes, name, vector, point):
    """The leaves of the tree `vectors` as Tensors of the shape, and on the device, of the Tensors `likes`.

    Args:
        structure: the tree whose leaves `likes` are, which `vectors` must match.
        name, vector, point: what errors call the transform, a leaf of `vectors` ("tangent") and one of `likes` ("primal").

    Raises:
        ValueError: the trees do not match, or a shape differs; TypeError: a leaf is no number or array.
    """
    found = []
    for v, like in zip(tree.matched(vectors, structure, name), likes):
        if not isinstance(v, Tensor):
            try:
                given, v = v, Tensor(v)
            except TypeError as error:
                raise TypeError(f"{name}: a {vector}: {error}") from None
            v = v if is_array(given) or not is_float(like.dtype) else v.astype(like.dtype)
            v = Tensor(xp(like._array).asarray(v._array))
        if v.shape != like.shape:
            raise ValueError(f"{name}: a {vector} of shape {v.shape} for a {point} of shape {like.shape}")
        found.append(v)
    return found


def grad(f: Callable | Tensor, argnums: Any = 0, create_graph: bool = False, retain_graph: bool | None = None,
         has_aux: bool = False, grad_outputs: TensorLike | None = None) -> Any:
    """The gradient of a scalar function, or of a scalar that has been computed.

    `grad(f)` is a function with the arguments of `f` that returns the gradient with respect to argument `argnums` (a number,
    or a tuple of numbers for a tuple of gradients), in that argument's structure. With `has_aux`, `f` returns
    (value, anything) and the new function (gradient, anything); Tensors in that are recorded as the value is, for an outer
    derivative alone.

    `grad(y, xs)` is the gradient of the Tensor `y` with respect to a tree `xs` of Tensors that it was computed from, in
    the structure of xs; zeros where y does not depend on one. `create_graph=True` records it for another derivative. Of a y
    that is no scalar it is the gradient of sum(grad_outputs * y), for `grad_outputs` of y's shape.

    >>> grad(grad(lambda x: x ** 3))(2.0)
    Tensor(12.)

    Raises:
        TypeError: `f` returns something else than one number, or an argument is not floating point.
        RuntimeError: the value is no scalar and `grad_outputs` is left out, or `y` does not require a gradient.
    """
    create_graph, has_aux = flag("grad", "create_graph", create_graph), flag("grad", "has_aux", has_aux)
    retain_graph = None if retain_graph is None else flag("grad", "retain_graph", retain_graph)
    if isinstance(f, Tensor):
        if has_aux:
            raise TypeError("grad(y, xs): has_aux is for grad(f), of a function")
        leaves, rebuild = tree.flatten(argnums)
        for x in leaves:
            if not isinstance(x, Tensor):
                raise TypeError(f"grad(y, xs): xs must be Tensors that y was computed from, not {type(x).__name__}")
        return rebuild(gradients_of([f], leaves, [grad_outputs], create_graph, retain_graph))
    if not callable(f):
        raise TypeError(f"grad: expected a function or one Tensor, not {_described(f)}; of several Tensors differentiate the sum")
    if create_graph or retain_graph is not None or grad_outputs is not None:
        raise TypeError("grad(f): create_graph, retain_graph and grad_outputs are for grad(y, xs); a gradient that an outer "
                        "derivative needs is recorded anyway")
    return _gradient("grad", f, argnums, has_aux)


def _gradient(name, f, argnums, has_aux=False):
    """`grad(f, argnums, has_aux)`, whose errors speak in the name of a transform."""
    both = _value_and_grad(name, f, argnums, has_aux)

    @functools.wraps(f, updated=())
    def gradient(*args, **settings):
        value, grads = both(*args, **settings)
        return (grads, value[1]) if has_aux else grads

    return gradient


def value_and_grad(f: Callable, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable:
    """As `grad(f)`, but the new function returns (value, gradient); with `has_aux` ((value, anything), gradient)."""
    return _value_and_grad("value_and_grad", f, argnums, flag("value_and_grad", "has_aux", has_aux))


def _value_and_grad(name, f, argnums, has_aux):
    _check_function(name, f)
    _listed(name, argnums)

    @functools.wraps(f, updated=())
    def value_and_gradient(*args, **settings):
        run = _Run(name, f, args, argnums, settings, has_aux)
        value, grads = run.value(), run.gradient("use vjp or jacobian, or has_aux for what is returned beside it")
        return ((value, run.aux) if has_aux else value), grads

    return value_and_gradient


def vjp(f: Callable, *primals: Any) -> tuple[Any, Callable]:
    """The value f(*primals), and a function from a cotangent of the value to the cotangents of the primals (a tuple).

    The cotangent has the structure and shapes of the value. The function may be called any number of times.

    Raises:
        TypeError: `f` returns something else than Tensors, or a primal is not floating point.
        ValueError, when the function is called: the cotangent has another structure or shape.
    """
    run = _Run("vjp", f, primals, tuple(range(len(primals))), {})
    value, pulling = run.value(), threading.RLock()
    run.close()

    def pull(cotangent):
        cotangents = _vectors(cotangent, run.out, run.ys, "vjp", "cotangent", "value")
        with pulling:
            run.close(False)
            try:
                return run.arranged(run.pull(run.ys, cotangents))
            finally:
                run.close()

    return value, pull


def jvp(f: Callable, primals: Sequence, tangents: Sequence) -> tuple[Any, Any]:
    """The value f(*primals), and its derivative along `tangents`: the Jacobian times a vector.

    Reverse mode applied twice. The backward pass computes u -> J^T u, which is linear in u; so its derivative with respect to
    u, along the cotangent v, is (J^T)^T v = J v, whatever u is (here zeros):

        d/du <J^T u, v> = d/du <u, J v> = J v

    (Townsend 2017, "A new trick for calculating Jacobian vector products"). So every rule serves both modes, at about twice the
    cost of one gradient. `primals` and `tangents` are sequences of equal structure.

    Raises:
        TypeError: they are no sequences, `f` returns something else than Tensors, or a primal is not floating point.
        ValueError: a tangent has another structure or shape than its primal.
    """
    primals, tangents = _sequence("jvp", "primals", primals), _sequence("jvp", "tangents", tangents)
    run = _Run("jvp", f, primals, tuple(range(len(primals))), {})
    vs = _vectors(tangents, primals, run.xs, "jvp", "tangent", "primal")
    derivatives = [zeros_like(y) for y in run.ys]
    moving = [i for i, y in enumerate(run.ys) if y.requires_grad]
    if moving:
        with enable_grad():
            us = [Tensor(derivatives[i]._array, requires_grad=True) for i in moving]
            pulled = gradients_of([run.ys[i] for i in moving], run.xs, us, create_graph=True, stop=True)
            paired = [sum(p * v) for p, v in zip(pulled, vs) if p.requires_grad]
            if paired:
                graph = run.outer and (run.create_graph or any(v.requires_grad for v in vs))
                found = gradients_of([functools.reduce(operator.add, paired)], us, None, graph, stop=True)
                for i, derivative in zip(moving, found):
                    derivatives[i] = derivative
            for u in us:
                u.requires_grad = False
    run.close()
    return run.value(), run.restore(derivatives)


def _sequence(transform, name, values):
    if not isinstance(values, (tuple, list)):
        raise TypeError(f"{transform}: {name} is the sequence of all arguments, such as (x,), not {type(values).__name__}")
    return tuple(values)


def hvp(f: Callable, primals: Any, tangents: Any) -> Any:
    """The Hessian of a scalar function times a vector, without the Hessian: the derivative of the gradient along `tangents`.

    `primals` and `tangents` are the sequences of all arguments; the result is a tuple in the structure of primals. A single
    argument that is no sequence may stand for a sequence of one, and then gives a single one back.

    Raises:
        TypeError, RuntimeError: as of `grad`; ValueError: a tangent has another structure or shape than its primal.
    """
    if not isinstance(primals, (tuple, list)):
        return hvp(f, (primals,), (tangents,))[0]
    primals, tangents = tuple(primals), _sequence("hvp", "tangents", tangents)

    everything = tuple(range(len(primals)))

    def along(*args):
        grads = tree.leaves(_gradient("hvp", f, everything)(*args))
        products = [sum(g * v) for g, v in zip(grads, _vectors(tangents, primals, grads, "hvp", "tangent", "primal"))]
        return functools.reduce(operator.add, products) if products else 0.0

    return _gradient("hvp", along, everything)(*primals)


def jacobian(f: Callable, argnums: int | Sequence[int] = 0) -> Callable:
    """A function that returns all derivatives of the output of `f` (any shape) with respect to one argument.

    Each leaf of the result has the shape of a leaf of the output followed by that of a leaf of the argument. Of trees it is a
    tree like the output which has in the place of each leaf a tree like the argument (with several `argnums` a tuple of
    them). One backward pass per output element.

    Raises:
        TypeError: `f` returns something else than Tensors, or an argument is not floating point.
    """
    return _jacobian("jacobian", f, argnums)


def _jacobian(name, f, argnums):
    _check_function(name, f)
    _listed(name, argnums)

    @functools.wraps(f, updated=())
    def derivative(*args, **settings):
        run = _Run(name, f, args, argnums, settings)
        blocks = [run.arranged(_rows(run, y)) for y in run.ys]
        run.close()
        return run.restore(blocks)

    return derivative


def _rows(run, y):
    """The Jacobian of the output `y` with respect to each stand-in."""
    if not y.requires_grad or not y.size:
        return [wrap(xp(x._array).zeros(y.shape + x.shape, x.dtype)) for x in run.xs]
    rows = []
    for i in range(y.size):
        basis = xp(y._array).zeros(y.size, y.dtype)
        basis[i] = 1
        rows.append(run.pull([y], [wrap(basis.reshape(y.shape))]))
    return [reshape(stack(column), y.shape + x.shape) for column, x in zip(zip(*rows), run.xs)]


def hessian(f: Callable, argnums: int | Sequence[int] = 0) -> Callable:
    """A function that returns the second derivatives of the scalar function `f` with respect to one argument.

    For a Tensor, array or number of shape s they have shape s + s; for several `argnums` they are a tuple of tuples. For
    trees they are the `jacobian` of the gradient: a tree like the argument, with such a tree in the place of each leaf.
    Errors as of `grad`.
    """
    return _jacobian("hessian", _gradient("hessian", f, argnums), argnums)


class _Closure:
    """Observes a run without recording, and collects what it uses: what requires a gradient and was there before, and, weakly,
    all other Tensors, of which those that outlive the run are constants."""

    def __init__(self):
        self.found, self.others, self.began = {}, {}, next_event()

    def __call__(self, phase, op, inputs, run, where):
        if phase == "forward":
            self.found.update((id(x), x) for x in inputs if x.requires_grad and (x.is_leaf or x._node.order < self.began))
            self.others.update((id(x), weakref.ref(x)) for x in inputs if not x.requires_grad)
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
        pairs = [(ys[i], cotangent) for i, cotangent in g.items() if ys[i].requires_grad]
        targets = [(x.origin, source) for xs, source in zip(stand_ins, wanted) if source is not None for x in xs]
        found = backpropagate([y for y, _ in pairs], [c for _, c in pairs], {x for x, _ in targets}, create_graph, stop=True)
        for x, source in targets:
            if x in found:
                receive(source, found[x], self)


def checkpoint(f: Callable) -> Callable:
    """`f`, but its intermediate results are not kept: the backward pass computes them again (Chen et al. 2016,
    "Training deep nets with sublinear memory cost", arXiv:1604.06174).

    Time for memory: between the passes only the arguments, and the parameters that `f` uses, are held. `f` returns a Tensor
    or a tree of Tensors; numbers and arrays in it stay as they are. Numbers drawn from `minigrad.random` are the same in both
    runs, and the running statistics of normalisation move in the first only; anything else that `f` does happens twice.
    """
    _check_function("checkpoint", f)

    @functools.wraps(f, updated=())
    def recomputed(*args, **settings):
        if not is_recording():
            return f(*args, **settings)
        leaves, rebuild = tree.flatten((args, settings))
        state = random.get_state()
        with no_grad(), during("repeatable"), observing(_Closure()) as closure:
            outs, restore = tree.flatten(f(*args, **settings))
        ys = [_output(y, "checkpoint", None) for y in outs if not _is_constant(y)]
        closure.found.update((id(y), y) for y in ys if y.requires_grad)  # returned as they are, by no operation
        given = {id(x): x for x in leaves if isinstance(x, Tensor) and x.requires_grad}
        used = [x for key, x in closure.found.items() if key not in given and x.requires_grad]
        if not given and not used or not any(is_float(y.dtype) for y in ys):
            return restore(outs)

        def again(inputs):
            """Runs f with others for its arguments. A Tensor that f closes over, an argument too perhaps, stands for itself."""
            arguments = [identity(x) for x in inputs[:len(given)]]
            replaced = dict(zip(given, arguments))
            new_args, new_settings = rebuild([replaced.get(id(x), x) for x in leaves])
            with random.preserved(state), during("recomputing"):
                ys = [y for y in tree.leaves(f(*new_args, **new_settings)) if isinstance(y, Tensor)]
            return [*zip(arguments, inputs), *[(x,) for x in used]], ys

        arrays, made = tuple(y._array for y in ys), {id(y) for y in ys}
        constants = {id(x): x for x in leaves if isinstance(x, Tensor) and not x.requires_grad}  # such as an index
        constants |= {key: x for key, ref in closure.others.items() if (x := ref()) is not None and key not in made}
        inputs = *given.values(), *used, *constants.values()  # a constant, too: its change in place until then is an error
        recorded = iter(_Recompute(again)._recorded(arrays, inputs, {}, False, caller()))
        return restore([next(recorded) if isinstance(y, Tensor) else y for y in outs])

    return recomputed
