"""Tensors, and the graph that operations record.

An operation is a `Primitive`: what it computes on arrays, and for each input the gradient rule, written with
operations on Tensors. Calling it on Tensors computes the result and, if an input requires a gradient, records a
`Node` that says how the result came about. The backward pass (backward.py) walks the nodes from the newest to the
oldest and applies the rules. Because a rule is made of the same operations, recording while the rules run gives a graph
of the gradient, which can be differentiated again: that is all there is to gradients of any order.

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
import itertools
import operator
import types
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from . import backend
from .backend import xp
from .recording import caller, next_event, observed, state
from .versions import mark_changed

ndarray = np.ndarray
_array_of = operator.attrgetter("_array")


class Tensor:
    """An array that remembers how it was computed, so that gradients can flow back through it.

    Args:
        array: a NumPy or CuPy array (shared, not copied), a number, or nested lists of numbers.
        requires_grad: whether gradients with respect to this Tensor are wanted. Floating point only.
        dtype: convert to this dtype first.
        device: copy to this device ("cpu", "cuda", "cuda:N") if it is on another.

    Attributes:
        grad: what `backward()` accumulated here, a Tensor of the same shape and dtype, or None.

    Raises:
        TypeError: the input is not numeric, or an integer or bool Tensor was asked to require a gradient.
    """

    __slots__ = ("_array", "_node", "_requires_grad", "grad", "__weakref__")

    def __init__(self, array: TensorLike, requires_grad: bool = False, dtype: DTypeLike | None = None,
                 device: str | None = None):
        if isinstance(array, Tensor):
            array = array._array
        if not backend.is_array(array):
            array = _from_sequence(array)
        if dtype is not None:
            array = array.astype(backend.as_dtype(dtype), copy=False)
        if device is not None:
            array = backend.to_device(array, device)
        if array.dtype.kind not in "fiub" and not backend.is_float(array.dtype):
            raise TypeError(f"a Tensor holds floats, integers or bools, not dtype {array.dtype}")
        self._array = array
        self._node = None
        self._requires_grad = False
        self.grad = None
        if requires_grad:
            self.requires_grad = True

    # -- the array -----------------------------------------------------------------------------------------------

    shape = property(operator.attrgetter("_array.shape"), doc="Length of each axis.")
    dtype = property(operator.attrgetter("_array.dtype"), doc="NumPy dtype of the elements.")
    ndim = property(operator.attrgetter("_array.ndim"), doc="Number of axes.")
    size = property(operator.attrgetter("_array.size"), doc="Number of elements.")
    device = property(lambda self: backend.device_of(self._array), doc='"cpu" or "cuda:N".')

    @property
    def data(self) -> np.ndarray:
        """The array itself; assign to it to change the values outside the graph (`p.data -= lr * p.grad.data`).

        Of a Tensor that an operation computed, a read-only view: the graph may still need the values.
        """
        self._check_not_in_rule(".data")
        return self._array if self._node is None else _read_only(self._array)

    @data.setter
    def data(self, value):
        if self._node is not None:
            raise RuntimeError("the data of a computed Tensor cannot be replaced; change a leaf, or use x.detach()")
        if isinstance(value, Tensor):
            value = value._array
        if value is not self._array:
            if not backend.is_array(value):
                value = xp(self._array).asarray(value, dtype=self._array.dtype)
            elif xp(value) is not xp(self._array):
                value = backend.to_device(value, self.device)
            if self._requires_grad and (value.shape != self.shape or value.dtype != self.dtype):
                raise ValueError(f"new data of shape {value.shape} and dtype {value.dtype} for a Tensor that requires "
                                 f"a gradient and has shape {self.shape} and dtype {self.dtype}")
        mark_changed(self._array)
        if value is not self._array:
            mark_changed(self)
        self._array = value

    def numpy(self) -> np.ndarray:
        """The values as a NumPy array, copied from the GPU if they are there.

        On the CPU the memory is shared; where this Tensor requires a gradient the view is read-only (`.copy()` it to
        write).
        """
        self._check_not_in_rule(".numpy()")
        array = backend.to_device(self._array, "cpu")
        return _read_only(array) if self._requires_grad else array

    def item(self) -> float | int | bool:
        """The single element as a Python number. ValueError if there is not exactly one."""
        if self.size != 1:
            raise ValueError(f"item() needs a Tensor with one element; this one has shape {self.shape}")
        self._check_not_in_rule(".item()")
        return backend.to_device(self._array, "cpu").item()

    def tolist(self) -> list | float | int | bool:
        """The values as nested lists of Python numbers."""
        self._check_not_in_rule(".tolist()")
        return backend.to_device(self._array, "cpu").tolist()

    def _check_not_in_rule(self, name):
        """RuntimeError where a recorded gradient rule leaves the Tensors: derivatives of it would silently lack a term."""
        if state.rule_of is not None and self._requires_grad:
            raise RuntimeError(f"the gradient rule of '{state.rule_of.name}' reads values by {name}, so the gradient cannot be "
                               "differentiated; write the rule in operations on Tensors, or .detach() what is a constant")

    # -- the graph -----------------------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow to this Tensor: true of a leaf that was asked to, and of all computed from one."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value):
        if self._node is not None and not value:
            raise RuntimeError("a computed Tensor cannot stop requiring a gradient; use x.detach()")
        if value and not backend.is_float(self._array.dtype):
            raise TypeError(f"only floating point Tensors can require a gradient, not {self._array.dtype}; "
                            "convert with .astype('float32') first")
        self._requires_grad = bool(value)

    @property
    def is_leaf(self) -> bool:
        """True if no recorded operation computed this Tensor."""
        return self._node is None

    @property
    def origin(self) -> Node | Tensor:
        """What this Tensor's gradient is collected under: the Node that made it, or itself if it is a leaf."""
        return self._node or self

    def detach(self) -> Tensor:
        """The same values (memory shared) without their history: gradients stop here."""
        return wrap(self._array)

    # -- conversions ---------------------------------------------------------------------------------------------

    def __bool__(self):
        if self.size != 1:
            raise ValueError(f"the truth value of a Tensor of shape {self.shape} is ambiguous; use .any() or .all()")
        return bool(self.item())

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    def __index__(self):
        if self._array.dtype.kind not in "iu":
            raise TypeError(f"only integer Tensors can be used as an index, not {self._array.dtype}")
        return operator.index(self.item())

    def __len__(self):
        if not self.ndim:
            raise TypeError("len() of a 0-d Tensor")
        return len(self._array)

    def __iter__(self):
        if not self.ndim:
            raise TypeError("iteration over a 0-d Tensor")
        return (self[i] for i in range(len(self)))

    def __pos__(self):
        return self

    def __contains__(self, value):
        return bool((self._array == asarray(value)).any())

    __hash__ = object.__hash__  # by identity, though == compares elements

    def __repr__(self):
        body = np.array2string(backend.to_device(self._array, "cpu"), separator=", ", prefix="Tensor(")
        facts = [] if self.dtype in (np.float64, np.int64, np.bool_) and self.size else [f"dtype={self.dtype}"]
        if not self.size:
            facts.append(f"shape={self.shape}")
        if self.device != "cpu":
            facts.append(f"device={self.device!r}")
        if self._node is not None:
            facts.append(f"op={self._node.name}")
        elif self._requires_grad:
            facts.append("requires_grad=True")
        return ", ".join(["Tensor(" + body] + facts) + ")"

    def __format__(self, spec):
        return format(self.item(), spec) if spec else repr(self)

    def __deepcopy__(self, memo):
        if self._node is not None:
            raise RuntimeError("only leaf Tensors can be deep-copied; copy x.detach() instead")
        twin = type(self).__new__(type(self))
        twin._array, twin._node, twin._requires_grad = self._array.copy(), None, self._requires_grad
        twin.grad = None if self.grad is None else self.grad.detach().__deepcopy__(memo)
        memo[id(self)] = twin
        return twin

    def __reduce__(self):
        if self._node is not None:
            raise RuntimeError("only leaf Tensors can be pickled; pickle x.detach() instead")
        return type(self), (self._array, self._requires_grad)

    def __setitem__(self, index, value):
        """Changes a leaf in place, outside the graph: initialise or edit data with it, under `no_grad()` parameters."""
        if self._node is not None or (self._requires_grad and state.recording):
            raise RuntimeError("in-place assignment is not differentiable: use where(), index_update() or "
                               "concatenate(), or change a leaf under no_grad()")
        if isinstance(value, Tensor) and value._requires_grad and state.recording:
            raise RuntimeError("in-place assignment would lose the gradient of the value: use index_update(), "
                               "or value.detach()")
        if isinstance(index, tuple):
            index = tuple(asarray(i) if isinstance(i, Tensor) else i for i in index)
        mark_changed(self._array)
        value = asarray(value)
        if xp(self._array) is not np and isinstance(value, (np.ndarray, list, tuple)):
            value = xp(self._array).asarray(value)
        self._array[asarray(index) if isinstance(index, Tensor) else index] = value

    # -- other libraries -----------------------------------------------------------------------------------------

    def _export(self, what):
        if self._requires_grad:
            raise TypeError(f"{what} would lose the gradient of a Tensor that requires one; "
                            "use .numpy() or .detach() to say that this is meant")
        return self._array

    def __array__(self, dtype=None, copy=None):
        array = self._export("conversion to a NumPy array")
        if xp(array) is not np:
            raise TypeError("a Tensor on the GPU is not copied to the host implicitly; use .numpy()")
        array = array if dtype is None else array.astype(dtype, copy=False)
        return array.copy() if copy and array is self._array else array

    def __dlpack__(self, **options):
        return self._export("export through DLPack").__dlpack__(**options)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()

    @property
    def __cuda_array_interface__(self):
        if xp(self._array) is np or self._requires_grad:  # CuPy asks whether there is one before it takes a Tensor
            raise AttributeError("only a Tensor on the GPU that requires no gradient has __cuda_array_interface__; "
                                 "use .detach()")
        return self._export("export through __cuda_array_interface__").__cuda_array_interface__


# Types of arguments: what operations take (numbers, arrays, lists), the names of dtypes, and what may stand in x[...].
TensorLike = Tensor | np.ndarray | np.generic | float | int | bool | list | tuple
DTypeLike = str | type | np.dtype
Index = Any
_new_tensor = Tensor.__new__


def wrap(array):
    """A Tensor around `array` (NumPy or CuPy, nothing checked or copied) that is no part of any graph."""
    tensor = _new_tensor(Tensor)
    tensor._array = array
    tensor._node = None
    tensor._requires_grad = False
    tensor.grad = None
    return tensor


def asarray(x):
    """The NumPy or CuPy array behind a Tensor, or `x` itself if it is no Tensor."""
    return x._array if isinstance(x, Tensor) else x


def from_dlpack(source: Any) -> Tensor:
    """A Tensor that shares the memory of `source`, any object with `__dlpack__` on the CPU or an NVIDIA GPU."""
    on_gpu = source.__dlpack_device__()[0] == 2  # kDLCUDA
    return Tensor((backend.cupy() if on_gpu else np).from_dlpack(source))


def _from_sequence(values):
    """Nested lists of numbers as an array. Object arrays mean ragged lists or things that are not numbers."""
    if hasattr(values, "__cuda_array_interface__"):
        return backend.cupy().asarray(values)
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise TypeError(f"cannot make a Tensor of {type(values).__name__}: {error}") from None
    if array.dtype.kind not in "fiub" and not backend.is_float(array.dtype):
        raise TypeError(f"cannot make a Tensor of {type(values).__name__}: "
                        f"floats, integers or bools are wanted, not dtype {array.dtype}")
    return array


def _read_only(array):
    view = array.view()
    if xp(array) is np:
        view.flags.writeable = False
    return view


class Unread:
    """What a gradient rule is given for an input whose values it does not read: the shape and dtype, and nothing else."""

    __slots__ = ("shape", "dtype")

    def __init__(self, shape, dtype):
        self.shape, self.dtype = shape, dtype

    ndim = property(lambda self: len(self.shape))

    def __getattr__(self, name):
        raise AttributeError(f"{name}: a rule reads an input or output whose values are not saved, because its parameter's "
                             "name begins with an underscore; name it without one")

    def _refuse(self, *args, **settings):
        return self.__getattr__("values")

    # By type, for what Python and NumPy do not look up on the instance, or answer themselves (as ==).
    __array__ = __array_ufunc__ = __array_function__ = __float__ = __int__ = __iter__ = __getitem__ = _refuse
    __neg__ = __abs__ = __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __matmul__ = __rmatmul__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __pow__ = __rpow__ = _refuse
    __hash__ = object.__hash__


class Node(Unread):
    """One recorded operation: the origin of the Tensor that it made. A leaf has none.

    Attributes:
        op: the `Primitive`.
        sources: for each input its origin, to which its gradient flows: the Node that made it or the leaf Tensor itself;
            None for a constant.
        inputs: what the rules are called with: for each input its Tensor if a rule reads the values, else an `Unread` (such
            as the Node that made it), so that the memory of values that no rule needs is not held.
        settings: the keyword arguments of the call.
        where: while observed, the line outside this package that called it.
        out: the output's array if a rule reads it.
        residuals: what the path of a fused operation saved.
        order: the event of its recording; a Node is newer than all it was computed from.
        shape, dtype: of the output.
        outputs: of an operation with several outputs, which are tuples then as `out`, `shape` and `dtype` are, a weak
            reference to the Node of each output (see `output_of`); else None.
    """

    __slots__ = ("op", "sources", "inputs", "settings", "out", "residuals", "order", "where", "outputs", "__weakref__")
    _requires_grad = True

    def __init__(self, op, inputs, settings, shape, dtype, out, where, residuals=None):
        self.op = op
        self.sources = sources = []
        for x in inputs:
            sources.append(x._node or (x if x._requires_grad else None))
        self.inputs = inputs if op.reads is None else op.with_unread(inputs)
        self.settings = settings
        self.shape = shape
        self.dtype = dtype
        self.out = out
        self.residuals = residuals
        self.where = where
        self.outputs = None
        self.order = next_event()

    @property
    def name(self):
        """The name of the operation."""
        return self.settings["name"] if self.op is output else self.op.name

    def tensors_read(self):
        """The inputs whose values the rules read."""
        return [x for x in self.inputs if isinstance(x, Tensor)]

    def output(self):
        """What the operation computed, as the Tensor (or the tuple of them) that it was; without values if no rule reads it."""
        if self.out is None:
            return self
        if self.outputs is not None:
            return tuple([_made_by(output_of(self, i), array) for i, array in enumerate(self.out)])
        return _made_by(self, self.out)


def _made_by(node, array):
    """The Tensor that `node` made; a constant while nothing is recorded."""
    tensor = wrap(array)
    if state.recording and backend.is_float(array.dtype):
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

    Raises (when called):
        the exception of `forward`, with the operation's name and the inputs' shapes in the message.
    """

    def __init__(self, name: str, forward: Callable, *rules: Callable | None, rule_for_all: Callable | None = None,
                 broadcasts: bool = False, doc: str | None = None):
        self.name = self.__name__ = self.__qualname__ = name
        self.forward = forward
        self.rules = rules
        self.rule_for_all = rule_for_all
        self.broadcasts = broadcasts
        self.__doc__ = doc
        self.__signature__ = _ANY_CALL
        self._find_reads()

    def _find_reads(self):
        """What the rules read: parameter names tell. `reads` is one flag per input; None means all."""
        first = 2 if self.rule_for_all is None else 3  # the first parameter that is an input
        self.reads_out, flags = False, []
        for rule in self.rules if self.rule_for_all is None else [self.rule_for_all]:
            if rule is not None:
                names = [p for p in inspect.signature(rule).parameters.values() if p.kind != p.KEYWORD_ONLY]
                self.reads_out |= not names[first - 1].name.startswith("_")
                names = names[first:]
                if names and names[-1].kind == inspect.Parameter.VAR_POSITIONAL:
                    names += names[-1:] * len(self.rules)
                flags.append([not p.name.startswith("_") for p in names[:max(len(self.rules), 1)]])
        reads = [any(column) for column in zip(*flags)]
        self.reads = None if all(reads) else tuple(reads)

    def with_unread(self, inputs):
        """The inputs, and for those that no rule reads what knows their shape only."""
        reads = self.reads if self.rule_for_all is None else itertools.repeat(self.reads[0], len(inputs))
        return tuple([x if read else x._node or Unread(x._array.shape, x._array.dtype) for x, read in zip(inputs, reads)])

    def __call__(self, *inputs, **settings):
        for x in inputs:
            if x.__class__ is not Tensor and not isinstance(x, Tensor):
                inputs = self._lift(inputs)
                break
        try:
            if state.observers:
                where = caller()
                array = self._observed(self.forward, inputs, settings, where)
            else:
                where = None
                array = self.forward(*map(_array_of, inputs), **settings)
        except Exception as error:
            raise self._explained(error, inputs) from error
        if array.__class__ is not ndarray and not backend.is_array(array):
            if isinstance(array, tuple):
                return self._recorded(array, inputs, settings, self.reads_out, where)
            array = np.asarray(array)  # NumPy turns 0-d results into scalars
        out = _new_tensor(Tensor)
        out._array = array
        out._node = None
        out._requires_grad = False
        out.grad = None
        if state.recording:
            for x in inputs:
                if x._requires_grad:
                    out._requires_grad = True
                    out._node = Node(self, inputs, settings, array.shape, array.dtype, array if self.reads_out else None, where)
                    break
        return out

    def _recorded(self, arrays, inputs, settings, reads_out, where, residuals=None):
        """Tensors of several output arrays, recorded if an input requires a gradient."""
        arrays = tuple([a if backend.is_array(a) else np.asarray(a) for a in arrays])
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

    def gradients(self, g, node, wanted, receive):
        """Calls `receive(source, gradient, self)` for each source in `wanted`, which has None in the place of the others."""
        inputs, settings, out = node.inputs, node.settings, node if node.out is None else node.output()
        if g.__class__ is list:
            g = _with_zeros(g, node)
        if self.rule_for_all is None:
            if len(wanted) != len(self.rules):
                raise TypeError(f"{self.name}: {len(wanted)} inputs, but {len(self.rules)} gradient rules; an input that never "
                                "gets a gradient has the rule None")
            for x, rule in zip(wanted, self.rules):
                if x is not None and rule is not None:
                    receive(x, rule(g, out, *inputs, **settings), self)
        else:
            for i, x in enumerate(wanted):
                if x is not None:
                    receive(x, self.rule_for_all(i, g, out, *inputs, **settings), self)

    def _observed(self, forward, inputs, settings, where):
        run = functools.partial(forward, *[x._array for x in inputs], **settings)
        return observed("forward", self, inputs, run, where)

    def _lift(self, inputs):
        """Makes Tensors of all inputs. A number takes the dtype of the Tensors beside it, so 2.0 * float32 is float32."""
        like, module = None, np
        for x in inputs:
            if isinstance(x, Tensor):
                dtype = x._array.dtype
                like = dtype if like is None or like == dtype else backend.result_type(like, dtype)
                if type(x._array) is not ndarray:
                    module = xp(x._array)
        return tuple([x if isinstance(x, Tensor) else self._constant(x, like, module) for x in inputs])

    def _constant(self, x, like, module):
        if isinstance(x, (bool, int, float, np.generic)) and not isinstance(x, np.complexfloating):
            kind = np.dtype(type(x)).kind
            weak = like is not None and (backend.is_float(like) or (kind in "iub" and like.kind in "iu") or kind == "b")
            return wrap(module.asarray(x, dtype=like if weak else None))
        if backend.is_array(x) or isinstance(x, (list, tuple)):
            return Tensor(x)
        if isinstance(x, Unread):
            return x.__getattr__(self.name)
        raise TypeError(f"{self.name}: an input is {type(x).__name__}; Tensors, arrays and numbers are understood")

    def _explained(self, error, inputs):
        devices = {x.device for x in inputs}
        if len(devices) > 1:
            return RuntimeError(f"{self.name}: inputs on different devices, {' and '.join(sorted(devices))}; "
                                "move them to one with .to(device)")
        shapes = ", ".join(f"{x.dtype}{list(x.shape)}" for x in inputs)
        if isinstance(error, (ValueError, IndexError, TypeError)) and (
                not str(error).startswith(self.name + ":") or "gufunc" in str(error)):
            kind = {np.exceptions.AxisError: ValueError}.get(type(error), type(error))
            with contextlib.suppress(Exception):
                return kind(f"{self.name}: {error} (inputs {shapes})")
        return error


# -- operations with several outputs -----------------------------------------------------------------------------------

# The call has one Node, and each output a Node of this operation above it, at which the output's cotangent is complete. What
# these give to the call is a list of cotangents, with None for all outputs but their own.


class _Output(Primitive):
    def gradients(self, g, node, wanted, receive):
        call, index = node.sources[0], node.settings["index"]
        receive(call, [g if i == index else None for i in range(len(call.shape))], self)


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
    """The cotangents of a call's outputs, zeros for the outputs that nothing used (None)."""
    module = next(xp(g._array) for g in gs if g is not None)
    return tuple([wrap(module.zeros(shape, dtype)) if g is None else g for g, shape, dtype in zip(gs, call.shape, call.dtype)])


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
    "cast", lambda x, dtype: x.astype(dtype, copy=False), lambda g, _out, _x, dtype: cast(g, dtype=_x.dtype))

identity = Primitive("identity", lambda x: x, lambda g, _out, _x: g)
