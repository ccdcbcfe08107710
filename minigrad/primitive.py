"""How an operation is recorded: primitives, and the nodes of the graph that they leave behind.

A `Primitive` is what an operation computes on arrays, and for each input the gradient rule, written with operations on
Tensors. Calling it on Tensors computes the result and, if an input requires a gradient, records a `Node` that says how the
result came about. The backward pass (backward.py) walks the nodes from the newest to the oldest and applies the rules.
Because a rule is made of the same operations, recording while the rules run gives a graph of the gradient, which can be
differentiated again: that is all there is to gradients of any order.

    x -> Tensor(array, node) -> Node(op, inputs) -> Tensor(array, node) -> ... -> leaf Tensor(array, requires_grad)

A node refers to its inputs and never to its output, so a graph has no cycles and dies by reference counting.

A rule is called as `rule(g, out, *inputs, **settings)`. **A parameter whose name begins with an underscore is not read**:
`lambda g, out, _x: g * out` says that the gradient of exp needs the output and not the input, and so the input's memory may
go. What stands there instead knows its shape and dtype only (`Unread`).
"""
from __future__ import annotations

import contextlib
import functools
import inspect
import operator
import types
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from . import backend
from .backend import xp
from .recording import caller, next_event, observed, state, whose
from .tensor import Tensor, flag, holds, wrap

ndarray = np.ndarray
_array_of = operator.attrgetter("_array")
_new_tensor = Tensor.__new__


class _Unreadable:
    """What stands in the place of an input or output whose values no rule reads: every way to read them fails."""

    __slots__ = ()
    ndim = property(lambda self: len(self.shape))

    def _refuse(self, *args, **settings):
        raise AttributeError("a rule reads an input or output whose values are not saved, because its parameter's name begins "
                             "with an underscore; name it without one")

    # By type, for what Python and NumPy do not look up on the instance, or answer themselves (as ==).
    __array__ = __array_ufunc__ = __array_function__ = __float__ = __int__ = __iter__ = __getitem__ = _refuse
    __neg__ = __abs__ = __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __matmul__ = __rmatmul__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __pow__ = __rpow__ = _refuse
    __bool__ = __len__ = __index__ = __contains__ = __invert__ = __mod__ = __rmod__ = __floordiv__ = __rfloordiv__ = _refuse
    __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = __pos__ = __setitem__ = __dlpack__ = _refuse
    __hash__ = object.__hash__


class Unread(_Unreadable):
    """What a rule is given for a leaf or constant whose values it does not read: the shape and dtype, and nothing else."""

    __slots__ = ("shape", "dtype")

    def __init__(self, shape, dtype):
        self.shape, self.dtype = shape, dtype

    def __repr__(self):
        return f"<unread: {self.dtype}{list(self.shape)}>"


class Node(_Unreadable):
    """One recorded operation: the origin of the Tensor that it made. A leaf has none.

    Attributes:
        op: the `Primitive`.
        sources: for each input its origin, to which its gradient flows: the Node that made it or the leaf Tensor itself;
            None for a constant.
        inputs: what the rules are called with: for each input its Tensor if a rule reads the values, else the Node that made
            it or an `Unread`, which have its shape and dtype, so that the memory of values that no rule needs is not held.
        settings: the keyword arguments of the call.
        where: while observed, the line outside this package that called it.
        out: the output's array if a rule reads it.
        residuals: what the path of a fused operation saved.
        order: the event of its recording; a Node is newer than all it was computed from.
        shape, dtype: of the output.
        outputs: of an operation with several outputs, which are tuples then as `out`, `shape` and `dtype` are, a weak
            reference to the Node of each output (see `output_of`); else None.
    """

    __slots__ = ("op", "sources", "inputs", "settings", "shape", "dtype", "out", "residuals", "order", "where", "outputs",
                 "__weakref__")
    _requires_grad = True

    def __init__(self, op, inputs, settings, shape, dtype, out, where, residuals=None):
        self.op = op
        self.sources = sources = []
        for x in inputs:
            node = x._node
            sources.append(node if node is not None else x if x._requires_grad else None)
        self.inputs = inputs if op.reads is None else op.with_unread(inputs)
        self.settings = settings
        self.shape = shape
        self.dtype = dtype
        self.out = out
        self.residuals = residuals
        self.where = where
        self.outputs = None
        self.order = next_event()

    def __repr__(self):
        return f"<node {self.name}>"

    @property
    def name(self) -> str:
        """The name of the operation."""
        return self.settings["name"] if self.op is output else self.op.name

    def tensors_read(self) -> list[Tensor]:
        """The inputs whose values the rules read."""
        return [x for x in self.inputs if isinstance(x, Tensor)]

    def output(self) -> Node | Tensor | tuple:
        """What the operation computed, as the Tensor (or the tuple of them) that it was; without values if no rule reads it."""
        if self.out is None:
            return self
        if self.outputs is not None:
            return tuple([_made_by(output_of(self, i), array) if backend.is_float(array.dtype) else wrap(array)
                          for i, array in enumerate(self.out)])
        return _made_by(self, self.out)


def _made_by(node, array):
    """The Tensor that `node` made; a constant while nothing is recorded."""
    tensor = wrap(array)
    if state.recording:
        tensor._node, tensor._requires_grad = node, True
    return tensor


_ANY_CALL = inspect.Signature([inspect.Parameter("inputs", inspect.Parameter.VAR_POSITIONAL),
                               inspect.Parameter("settings", inspect.Parameter.VAR_KEYWORD)])


class Primitive:
    """A differentiable operation: `forward` on arrays, and gradient rules on Tensors.

    Positional arguments of a call are the inputs (Tensors, arrays or numbers); keyword arguments are settings.

    Args:
        name: what errors and graphs call it.
        forward: `forward(*arrays, **settings)` -> array, or a tuple of arrays for an operation with several outputs.
        rules: for each input in turn `rule(g, out, *inputs, **settings)` -> the gradient with respect to that input, a Tensor,
            given the gradient `g` of the output (of several outputs tuples `g` and `out`); or None for an input that never
            gets one, such as an index. A parameter whose name begins with an underscore is not read: only its shape and dtype
            are kept for it, and a rule that reads it nevertheless fails.
        rule_for_all: instead of `rules`, one `rule(i, g, out, *inputs, **settings)` for input number i.
        broadcasts: inputs are broadcast against each other, so gradients are summed back to each input's shape.

    Raises:
        TypeError: no name, no functions, or a rule that takes other arguments.
        When called, the exception of `forward`, with the operation's name and the inputs' shapes in the message; a TypeError if
        it returned something else than real numbers.

    >>> product = Primitive("product", np.matmul, lambda g, _out, _x, y: g @ y.mT, lambda g, _out, x, _y: x.mT @ g)
    >>> check_derivatives(product, np.ones((2, 3)), np.ones((3, 4)))
    """

    rules = ()  # of subclasses with `gradients` of their own
    known = None
    broadcasts = False

    def __init__(self, name: str, forward: Callable, *rules: Callable | None, rule_for_all: Callable | None = None,
                 broadcasts: bool = False, doc: str | None = None):
        if not isinstance(name, str):
            raise TypeError(f"Primitive(name, forward, *rules): the name is text, not {name!r}")
        if type(self).gradients is Primitive.gradients and not rules and rule_for_all is None:
            raise TypeError(f"Primitive {name}: a gradient rule for each input is missing, or rule_for_all; the rule of an input "
                            "that never gets a gradient is None")
        if type(self).gradients is Primitive.gradients and not callable(forward):
            raise TypeError(f"Primitive {name}: forward is a function of arrays, not {forward!r}")
        for rule in (*rules, rule_for_all):
            if rule is not None and not callable(rule):
                raise TypeError(f"Primitive {name}: a gradient rule is a function, or None, not {rule!r}")
        self.name = self.__name__ = self.__qualname__ = name
        self.forward = forward
        self.rules = rules
        self.rule_for_all = rule_for_all
        self.broadcasts = flag("Primitive", "broadcasts", broadcasts)
        self.__doc__ = doc
        self.__signature__ = _ANY_CALL
        self._find_reads()

    def _find_reads(self):
        """What the rules read: parameter names tell. `reads` is one flag per input; None means all. And the names of the
        settings that they understand, `known`; None means any."""
        first = 2 if self.rule_for_all is None else 3  # the first parameter that is an input
        self.reads_out, self.known, flags = False, None, []
        for rule in self.rules if self.rule_for_all is None else [self.rule_for_all]:
            if rule is not None:
                parameters = inspect.signature(rule).parameters.values()
                names = [p for p in parameters if p.kind not in (p.KEYWORD_ONLY, p.VAR_KEYWORD)]
                if len(names) < first + (0 if any(p.kind == p.VAR_POSITIONAL for p in names) else len(self.rules)):
                    wanted = ["i"] * (first - 2) + ["g", "out"] + [f"x{k}" for k in range(len(self.rules))]
                    raise TypeError(f"Primitive {self.name}: a gradient rule takes ({', '.join(wanted)}, **settings), not "
                                    f"{inspect.signature(rule)}; a parameter that it does not read begins with an underscore")
                if all(p.kind != p.VAR_KEYWORD for p in parameters):
                    known = {p.name for p in parameters if p not in names[:first + len(self.rules)]}
                    self.known = known if self.known is None else self.known & known
                self.reads_out |= not names[first - 1].name.startswith("_")
                names = names[first:]
                if names and names[-1].kind == inspect.Parameter.VAR_POSITIONAL:  # it stands for any number of inputs
                    names += names[-1:] * len(self.rules)
                flags.append([not p.name.startswith("_") for p in names[:max(len(self.rules), 1)]])
        reads = [any(column) for column in zip(*flags)]
        self.reads = None if all(reads) else tuple(reads)

    def with_unread(self, inputs: tuple[Tensor, ...]) -> tuple:
        """The inputs, and for those that no rule reads what knows their shape only."""
        reads = self.reads if self.rule_for_all is None else [self.reads[0]] * len(inputs)
        return tuple([x if read else Unread(x._array.shape, x._array.dtype) if x._node is None else x._node
                      for x, read in zip(inputs, reads)])

    def __call__(self, *inputs, **settings) -> Any:
        for x in inputs:
            if x.__class__ is not Tensor and not isinstance(x, Tensor):
                inputs = self._lift(inputs)
                break
        if settings:
            self._check_settings(settings)
        if len(inputs) != len(self.rules) and self.rules:
            raise TypeError(f"{self.name}: {len(inputs)} inputs given, {len(self.rules)} wanted, one for each gradient rule "
                            "(None is that of an input that never gets a gradient)")
        try:
            if state.observers:
                where = caller()
                array = self._observed(self.forward, inputs, settings, where)
            else:
                where = None
                if len(inputs) == 2 and not settings:  # arguments one by one take Python half the time
                    x, y = inputs
                    array = self.forward(x._array, y._array)
                else:
                    array = self.forward(*map(_array_of, inputs), **settings)
        except Exception as error:
            raise self._explained(error, inputs) from error
        if array.__class__ is not ndarray or array.dtype.kind not in "fiub":
            if isinstance(array, tuple):
                return self._recorded(array, inputs, settings, self.reads_out, where)
            array = _result(self, array)
        out = _new_tensor(Tensor)  # as `wrap`, without its call
        out._array = array
        out._node = None
        out._requires_grad = False
        out.grad = None
        if state.recording:
            for x in inputs:
                if x._requires_grad and backend.is_float(array.dtype):
                    out._requires_grad = True
                    out._node = Node(self, inputs, settings, array.shape, array.dtype, array if self.reads_out else None, where)
                    break
        return out

    def _recorded(self, arrays, inputs, settings, reads_out, where, residuals=None):
        """Tensors of several output arrays, recorded if an input requires a gradient."""
        arrays = tuple([_result(self, a) for a in arrays])
        tensors = tuple([wrap(a) for a in arrays])
        if state.recording and any(x._requires_grad for x in inputs):
            call = Node(self, inputs, settings, tuple([a.shape for a in arrays]), tuple([a.dtype for a in arrays]),
                        arrays if reads_out else None, where, residuals)
            call.outputs = [None] * len(arrays)
            for i, tensor in enumerate(tensors):
                if backend.is_float(tensor.dtype):
                    tensor._node, tensor._requires_grad = output_of(call, i), True
        return tensors

    def __get__(self, instance, owner=None):
        """A primitive that is an attribute of a class works as its method."""
        return self if instance is None else types.MethodType(self, instance)

    def __repr__(self):
        return f"<minigrad.{self.name}>"

    def __reduce_ex__(self, protocol):  # a public operation, which wraps its declaration, is known by its name, as functions are
        return self.__qualname__ if hasattr(self, "__wrapped__") else super().__reduce_ex__(protocol)

    def gradients(self, g: Tensor | dict[int, Tensor], node: Node, wanted: list, receive: Callable) -> None:
        """Calls `receive(source, gradient, self)` for each source in `wanted`, which has None in the place of the others."""
        inputs, settings, out = node.inputs, node.settings, node if node.out is None else node.output()
        if g.__class__ is dict:
            g = _with_zeros(g, node)
        if self.rule_for_all is None:
            for x, rule in zip(wanted, self.rules):
                if x is not None and rule is not None:
                    receive(x, rule(g, out, *inputs, **settings), self)
        else:
            for i, x in enumerate(wanted):
                if x is not None:
                    receive(x, self.rule_for_all(i, g, out, *inputs, **settings), self)

    def _check_settings(self, settings):
        """TypeError for a setting that the rules do not know, or that is a Tensor with a gradient: that would be lost."""
        for name, value in settings.items():
            if self.known is not None and name not in self.known:
                raise TypeError(f"{self.name}() got an unexpected keyword argument '{name}'")
            if isinstance(value, Tensor) and value._requires_grad and state.recording:
                raise TypeError(f"{self.name}: {name} is a Tensor that requires a gradient, but a setting gets none; pass a "
                                f"number, or {name}.detach()")

    def _observed(self, forward, inputs, settings, where):
        run = functools.partial(forward, *[x._array for x in inputs], **settings)
        return observed("forward", self, inputs, run, where)

    def _lift(self, inputs):
        """Makes Tensors of all inputs. A number takes the dtype of the Tensors and arrays beside it: 2.0 * float32 is float32."""
        like, module = None, np
        for x in inputs:
            if isinstance(x, Tensor):
                x = x._array
            elif type(x) is not ndarray and (isinstance(x, (float, int)) or not backend.is_array(x)):
                continue
            dtype = x.dtype
            like = dtype if like is None or like == dtype else backend.result_type(like, dtype)
            if type(x) is not ndarray:
                module = xp(x)
        return tuple([x if isinstance(x, Tensor) else self._constant(x, like, module, inputs) for x in inputs])

    def _constant(self, x, like, module, inputs):
        kind = np.dtype(type(x)).kind if isinstance(x, (bool, int, float, np.generic)) else ""
        if kind and kind in "biufV":  # V: bfloat16
            weak = like is not None and (backend.is_float(like) or (kind in "iub" and like.kind in "iu") or kind == "b")
            if weak and like.kind in "iu" and not holds(like, x):
                if not isinstance(x, np.generic) and not self._makes_floats():
                    raise OverflowError(f"{self.name}: {like} holds no {x}; convert the Tensor with .astype first")
                weak = False
            return wrap(module.asarray(x, dtype=like)) if weak else Tensor(module.asarray(x))
        if isinstance(x, _Unreadable):
            x._refuse()
        try:
            return Tensor(x)
        except TypeError as error:
            i = next(i for i, y in enumerate(inputs) if y is x)
            names = [p.name for p in inspect.signature(self).parameters.values() if p.kind is p.POSITIONAL_ONLY]
            own = f"{self.name}: {names[i] if i < len(names) else f'input {i}'}: "
            raise TypeError(whose(x, own) + str(error)) from None

    def _makes_floats(self):
        """Whether `forward` is a ufunc whose results are floating point numbers, of whole numbers too."""
        ufunc = inspect.unwrap(self.forward)
        return isinstance(ufunc, np.ufunc) and not any(types[-1] in np.typecodes["AllInteger"] for types in ufunc.types)

    def _explained(self, error, inputs):
        devices = {x.device for x in inputs}
        if len(devices) > 1:
            return RuntimeError(f"{self.name}: inputs on different devices, {' and '.join(sorted(devices))}; "
                                "move them to one with .to(device)")
        shapes = ", ".join(f"{x.dtype}{list(x.shape)}" for x in inputs)
        if isinstance(error, (ValueError, IndexError, OverflowError, TypeError)) and (
                not str(error).startswith(self.name + ":") or "gufunc" in str(error)):
            kind = {np.exceptions.AxisError: ValueError}.get(type(error), type(error))
            for kind in (kind, TypeError if isinstance(error, TypeError) else ValueError):
                with contextlib.suppress(Exception):  # of those that are not made of a message
                    return kind(f"{self.name}: {str(error).removeprefix(self.name + ': ')} (inputs {shapes})")
        return error


def _result(op, result):
    """The array of what `forward` returned; NumPy turns 0-d results into scalars. TypeError if it is not of real numbers."""
    array = result if backend.is_array(result) else np.asarray(result)
    if not backend.may_be_real(array.dtype) or isinstance(result, list):
        what = "None" if result is None else f"numbers of {array.dtype}" if array is result else f"a {type(result).__name__}"
        raise TypeError(f"{op.name}: forward returned {what}; it returns an array of real numbers, or a tuple of arrays")
    return array


# -- operations with several outputs -----------------------------------------------------------------------------------

# The call has one Node, and each output a Node of this operation above it, at which the output's cotangent is complete. What
# these give to the call is a dict from the output's number to its cotangent.


class _Output(Primitive):
    def gradients(self, g, node, wanted, receive):
        receive(node.sources[0], {node.settings["index"]: g}, self)


output = _Output("output", None)
output.reads = ()


def output_of(call, i):
    """The Node of output number i of a call; the same one as long as anything refers to it."""
    node = call.outputs[i] and call.outputs[i]()
    if node is None:
        node = Node(output, (), {"index": i, "name": call.op.name}, call.shape[i], call.dtype[i], None, call.where)
        node.sources = [call]
        call.outputs[i] = weakref.ref(node)
    return node


def _with_zeros(gs, call):
    """The cotangents of a call's outputs, zeros for the outputs that nothing used."""
    module = xp(next(iter(gs.values()))._array)
    return tuple([gs[i] if i in gs else wrap(module.zeros(shape, dtype))
                  for i, (shape, dtype) in enumerate(zip(call.shape, call.dtype))])


# -- the operations that the chain rule itself needs -----------------------------------------------------------------


def _sum_to(x, shape):
    """Sums over the axes along which `shape` was broadcast to x.shape."""
    lead = x.ndim - len(shape)
    axes = tuple(range(lead)) + tuple(i for i in range(lead, x.ndim) if shape[i - lead] == 1 != x.shape[i])
    return backend.summed(x, axes, keepdims=True).reshape(shape) if axes else x.reshape(shape)


add = Primitive("add", backend.add, lambda g, _out, _x, _y: g, lambda g, _out, _x, _y: g, broadcasts=True)

sum_to = Primitive("sum_to", _sum_to, lambda g, _out, _x, shape: broadcast_to(g, shape=_x.shape))

broadcast_to = Primitive(
    "broadcast_to", lambda x, shape: xp(x).broadcast_to(x, shape), lambda g, _out, _x, shape: sum_to(g, shape=_x.shape))

cast = Primitive(
    "cast", backend.cast, lambda g, _out, _x, dtype: cast(g, dtype=_x.dtype))

identity = Primitive("identity", lambda x: x, lambda g, _out, _x: g)

copy = Primitive("copy", lambda x: x.copy("K"), lambda g, _out, _x: g)
