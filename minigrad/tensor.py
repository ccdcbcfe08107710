"""Tensors, the graph they record, and the backward pass through it.

An operation is a `Primitive`: what it computes on arrays, and for each input the gradient rule, written with
operations on Tensors. Calling it on Tensors computes the result and, if an input requires a gradient, records a
`Node` that says how the result came about. `backpropagate` walks the nodes from the newest to the oldest and applies
the rules. Because a rule is made of the same operations, recording while the rules run gives a graph of the gradient,
which can be differentiated again: that is all there is to gradients of any order.

    x -> Tensor(array, node) -> Node(op, inputs) -> Tensor(array, node) -> ... -> leaf Tensor(array, requires_grad)

A node refers to its inputs and never to its output, so a graph has no cycles and dies by reference counting.
"""
import contextlib
import functools
import inspect
import itertools
import operator
import os
import sys
import threading
import types
import weakref

import numpy as np

from . import backend
from .backend import xp

ndarray = np.ndarray
_array_of = operator.attrgetter("_array")
_tick = itertools.count(1).__next__  # the order of events: recordings and in-place changes
_PACKAGE = os.path.dirname(__file__) + os.sep


class _State(threading.local):
    recording = True  # are operations recorded on the graph?
    observers = ()  # see `observing`


_state = _State()


class Tensor:
    """An array that remembers how it was computed, so that gradients can flow back through it.

    Args:
        array: a NumPy or CuPy array (shared, not copied), a number, or nested lists of numbers.
        requires_grad: whether gradients with respect to this Tensor are wanted. Floating point only.
        dtype: convert to this dtype first.

    Attributes:
        grad: what `backward()` accumulated here, a Tensor of the same shape and dtype, or None.

    Raises:
        TypeError: the input is not numeric, or an integer or bool Tensor was asked to require a gradient.
    """

    __slots__ = ("_array", "_node", "_requires_grad", "grad", "__weakref__")

    def __init__(self, array, requires_grad=False, dtype=None):
        if isinstance(array, Tensor):
            array = array._array
        if not backend.is_array(array):
            array = _from_sequence(array)
        if dtype is not None:
            array = array.astype(dtype, copy=False)
        if array.dtype.kind not in "fiub":
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
    def data(self):
        """The array itself; assign to it to change the values outside the graph (`p.data -= lr * p.grad.data`).

        Of a Tensor that an operation computed, a read-only view: the graph may still need the values.
        """
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
            if self._requires_grad and (value.shape != self.shape or value.dtype != self.dtype):
                raise ValueError(f"new data of shape {value.shape} and dtype {value.dtype} for a Tensor that requires "
                                 f"a gradient and has shape {self.shape} and dtype {self.dtype}")
        mark_changed(self._array)
        if value is not self._array:
            mark_changed(self)
        self._array = value

    def numpy(self):
        """The values as a NumPy array, copied from the GPU if they are there.

        On the CPU the memory is shared; where this Tensor requires a gradient the view is read-only (`.copy()` it to
        write).
        """
        array = backend.to_device(self._array, "cpu")
        return _read_only(array) if self._requires_grad else array

    def item(self):
        """The single element as a Python number. ValueError if there is not exactly one."""
        if self.size != 1:
            raise ValueError(f"item() needs a Tensor with one element; this one has shape {self.shape}")
        return self._array.item()

    def tolist(self):
        """The values as nested lists of Python numbers."""
        return self._array.tolist()

    # -- the graph -----------------------------------------------------------------------------------------------

    @property
    def requires_grad(self):
        """Whether gradients flow to this Tensor: true of a leaf that was asked to, and of all computed from one."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value):
        if self._node is not None and not value:
            raise RuntimeError("a computed Tensor cannot stop requiring a gradient; use x.detach()")
        if value and self._array.dtype.kind != "f":
            raise TypeError(f"only floating point Tensors can require a gradient, not {self._array.dtype}; "
                            "convert with .astype('float32') first")
        self._requires_grad = bool(value)

    @property
    def is_leaf(self):
        """True if no recorded operation computed this Tensor."""
        return self._node is None

    def detach(self):
        """The same values (memory shared) without their history: gradients stop here."""
        return wrap(self._array)

    def backward(self, gradient=None, create_graph=False, retain_graph=None):
        """Adds the gradient of this Tensor with respect to every leaf it was computed from to the leaf's `.grad`.

        Args:
            gradient: the cotangent, of this Tensor's shape; may be left out for a Tensor of one element (then 1).
            create_graph: record the backward pass, so that the gradients can be differentiated again.
            retain_graph: keep the saved arrays for another backward pass; by default as `create_graph`.

        Raises:
            RuntimeError: nothing here requires a gradient, this is not a scalar, the graph was freed by an earlier
                backward pass, or an array that a rule reads was changed in place.
        """
        cotangents = backpropagate(self, gradient, None, create_graph, retain_graph)
        taken = set() if gradient is None else {id(asarray(gradient))}
        for leaf, cotangent in cotangents.items():
            array = cotangent._array
            if leaf.grad is not None:
                with recording(create_graph):
                    leaf.grad = add(leaf.grad, cotangent)
            elif create_graph:
                leaf.grad = cotangent
            else:  # a gradient must not share memory with anything else: its owner may change it in place
                leaf.grad = wrap(array.copy() if array.base is not None or id(array) in taken else array)
                taken.add(id(array))

    # -- conversions ---------------------------------------------------------------------------------------------

    def __bool__(self):
        if self.size != 1:
            raise ValueError(f"the truth value of a Tensor of shape {self.shape} is ambiguous; use .any() or .all()")
        return bool(self._array.item())

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

    def __contains__(self, value):
        return bool((self._array == asarray(value)).any())

    def __hash__(self):
        return id(self)

    def __repr__(self):
        body = np.array2string(backend.to_device(self._array, "cpu"), separator=", ", prefix="Tensor(")
        facts = [] if self.dtype in (np.float64, np.int64, np.bool_) and self.size else [f"dtype={self.dtype}"]
        if not self.size:
            facts.append(f"shape={self.shape}")
        if self.device != "cpu":
            facts.append(f"device={self.device!r}")
        if self._node is not None:
            facts.append(f"op={self._node.op.name}")
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
        if self._node is not None or (self._requires_grad and _state.recording):
            raise RuntimeError("in-place assignment is not differentiable: use where(), index_update() or "
                               "concatenate(), or change a leaf under no_grad()")
        if isinstance(value, Tensor) and value._requires_grad and _state.recording:
            raise RuntimeError("in-place assignment would lose the gradient of the value: use index_update(), "
                               "or value.detach()")
        if isinstance(index, tuple):
            index = tuple(asarray(i) if isinstance(i, Tensor) else i for i in index)
        mark_changed(self._array)
        self._array[asarray(index) if isinstance(index, Tensor) else index] = asarray(value)

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
        if xp(self._array) is np:
            raise AttributeError("only a Tensor on the GPU has __cuda_array_interface__")
        return self._export("export through __cuda_array_interface__").__cuda_array_interface__


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


def from_dlpack(source):
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
    if array.dtype.kind not in "fiub":
        raise TypeError(f"cannot make a Tensor of {type(values).__name__}: "
                        f"floats, integers or bools are wanted, not dtype {array.dtype}")
    return array


def _read_only(array):
    view = array.view()
    if xp(array) is np:
        view.flags.writeable = False
    return view


# -- recording -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def recording(on):
    """Operations inside are recorded on the graph (or, with False, are not). Per thread."""
    before, _state.recording = _state.recording, on
    try:
        yield
    finally:
        _state.recording = before


def no_grad():
    """Context manager and decorator: operations inside build no graph."""
    return recording(False)


def enable_grad():
    """Context manager and decorator: operations inside build the graph again, within a `no_grad()`."""
    return recording(True)


def is_recording():
    """Whether operations on this thread are recorded on the graph."""
    return _state.recording


@contextlib.contextmanager
def observing(observer):
    """Calls `observer(phase, op, inputs, run, where)` around every operation inside, and inside their gradient rules.

    `phase` is "forward" or "backward"; `run()` does the work and returns its result, which the observer must return;
    `where` is the "file:line" outside this package that called the operation.
    """
    before, _state.observers = _state.observers, (*_state.observers, observer)
    try:
        yield observer
    finally:
        _state.observers = before


def _observed(phase, op, inputs, run, where):
    for observer in _state.observers:
        run = functools.partial(observer, phase, op, inputs, run, where)
    return run()


def _caller():
    """'file:line' of the innermost frame outside this package."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


_changed = {}  # id of a memory owner -> when it was last changed in place


def mark_changed(array):
    """Notes that the memory of `array` is about to change, so that a graph that needs the old values says so."""
    owner = _owner(array)
    if id(owner) not in _changed:
        weakref.finalize(owner, _changed.pop, id(owner), None).atexit = False
    _changed[id(owner)] = _tick()


def _owner(array):
    """The array that owns the memory: views of one array share it."""
    while getattr(array, "base", None) is not None and backend.is_array(array.base):
        array = array.base
    return array


class Node:
    """One recorded operation. A leaf has none.

    inputs holds, for each input, its Tensor if a rule reads the values, else only its Node, which knows the shape
    and dtype: so the memory of values that no rule needs is not held. `out` is the output's array if a rule reads it.
    """

    __slots__ = ("op", "inputs", "settings", "shape", "dtype", "out", "residuals", "order", "where")
    _requires_grad = True
    _node = None  # so that `x._node or x` is the key of a cotangent, be x a Tensor or a Node

    def __init__(self, op, inputs, settings, array, residuals):
        self.op = op
        self.inputs = inputs if op.reads is None else tuple(
            [x if read else x._node or x for x, read in zip(inputs, op.reads_of(inputs))])
        self.settings = settings
        self.shape = array.shape
        self.dtype = array.dtype
        self.out = array if op.reads_out else None
        self.residuals = residuals
        self.order = _tick()
        self.where = None

    ndim = property(lambda self: len(self.shape))

    def output(self):
        """The operation's output again, as the Tensor it was."""
        out = wrap(self.out)
        if _state.recording:
            out._node, out._requires_grad = self, True
        return out


class Primitive:
    """A differentiable operation: `forward` on arrays, and gradient rules on Tensors.

    Positional arguments of a call are the inputs (Tensors, arrays or numbers); keyword arguments are settings.

    Args:
        name: what errors and graphs call it.
        forward: `forward(*arrays, **settings)` -> array.
        rules: for each input in turn `rule(g, out, *inputs, **settings)` -> the gradient with respect to that input,
            given the gradient `g` of the output; or None for an input that never gets one, such as an index. A
            parameter whose name begins with an underscore is not read: only its shape and dtype are kept for it.
        every: instead of `rules`, one `every(i, g, out, *inputs, **settings)` for input number i.
        broadcasts: inputs are broadcast against each other, so gradients are summed back to each input's shape.

    Raises (when called):
        the exception of `forward`, with the operation's name and the inputs' shapes in the message.
    """

    fused = False

    def __init__(self, name, forward, *rules, every=None, broadcasts=False, doc=None):
        self.name = name
        self.forward = forward
        self.rules = rules
        self.every = every
        self.broadcasts = broadcasts
        self.simple = every is None and type(self).gradients is Primitive.gradients  # one rule for each input
        self.__doc__ = doc
        self._find_reads([rule for rule in rules if rule is not None], first=2)
        if every is not None:
            self._find_reads([every], first=3)

    def _find_reads(self, rules, first):
        """What the rules read: parameter names tell. `reads` is one flag per input; None means all."""
        self.reads_out, self.reads = False, None
        flags = []
        for rule in rules:
            names = [p for p in inspect.signature(rule).parameters.values() if p.kind != p.KEYWORD_ONLY]
            self.reads_out |= not names[first - 1].name.startswith("_")
            flags.append([not p.name.startswith("_") for p in names[first:first + max(len(self.rules), 1)]])
        reads = [any(column) for column in zip(*flags)]
        self.reads = None if all(reads) else tuple(reads)

    def reads_of(self, inputs):
        return self.reads if self.every is None else itertools.repeat(self.reads[0], len(inputs))

    def __call__(self, *inputs, **settings):
        for x in inputs:
            if x.__class__ is not Tensor and not isinstance(x, Tensor):
                inputs = self._lift(inputs)
                break
        state = _state
        try:
            if state.observers:
                array = self._observed_forward(inputs, settings)
            else:
                array = self.forward(*map(_array_of, inputs), **settings)
        except Exception as error:
            raise self._explained(error, inputs) from error
        residuals = None
        if self.fused:
            array, residuals = array
        if array.__class__ is not ndarray and not backend.is_array(array):
            array = np.asarray(array)  # NumPy turns 0-d results into scalars
        out = _new_tensor(Tensor)
        out._array = array
        out.grad = None
        if state.recording:
            for x in inputs:
                if x._requires_grad:
                    out._requires_grad = True
                    out._node = node = Node(self, inputs, settings, array, residuals)
                    if state.observers:
                        node.where = _caller()
                    return out
        out._requires_grad = False
        out._node = None
        return out

    def __get__(self, instance, owner=None):
        """A primitive that is an attribute of a class works as its method."""
        return self if instance is None else types.MethodType(self, instance)

    def __repr__(self):
        return f"<minigrad.{self.name}>"

    def gradients(self, g, node, wanted):
        """The gradients with respect to the inputs whose `wanted` is true, as a list with None elsewhere."""
        inputs, settings = node.inputs, node.settings
        out = node if node.out is None else node.output()
        if self.every is None:
            return [rule(g, out, *inputs, **settings) if want and rule else None for rule, want in zip(self.rules, wanted)]
        return [self.every(i, g, out, *inputs, **settings) if want else None for i, want in enumerate(wanted)]

    def _observed_forward(self, inputs, settings):
        run = functools.partial(self.forward, *[x._array for x in inputs], **settings)
        return _observed("forward", self, inputs, run, _caller())

    def _lift(self, inputs):
        """Makes Tensors of all inputs. A number takes the dtype of the Tensors beside it, so 2.0 * float32 is float32."""
        like, module = None, np
        for x in inputs:
            if isinstance(x, Tensor):
                dtype = x._array.dtype
                like = dtype if like is None or like == dtype else np.promote_types(like, dtype)
                if type(x._array) is not ndarray:
                    module = xp(x._array)
        return tuple([x if isinstance(x, Tensor) else self._constant(x, like, module) for x in inputs])

    def _constant(self, x, like, module):
        if isinstance(x, (bool, int, float, np.generic)) and not isinstance(x, np.complexfloating):
            kind = np.dtype(type(x)).kind
            weak = like is not None and (like.kind == "f" or (kind in "iub" and like.kind in "iu") or kind == "b")
            return wrap(module.asarray(x, dtype=like if weak else None))
        if backend.is_array(x) or isinstance(x, (list, tuple)):
            return Tensor(x)
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


class Fused(Primitive):
    """A faster spelling of a composition.

    Args:
        name: what errors and graphs call it.
        definition: the same thing written in primitives, `definition(*tensors, **settings)` -> Tensor. It is the
            documentation, the oracle of the tests, and what derivatives of second and higher order come from.
        forward: `forward(*arrays, **settings)` -> (array, residuals): the fused path. Residuals are whatever
            `backward` wants to find again; they are no Tensors, so they never enter a rule that is differentiated.
        backward: `backward(g, out, residuals, wanted, *arrays, **settings)` -> a sequence with the gradient of each
            wanted input, all arrays: the fused first-order path, used when nobody asks for a graph of the gradient.
        reads_out: whether `backward` reads `out`.
    """

    fused = True

    def __init__(self, name, definition, forward, backward, reads_out=False):
        self.name, self.definition, self.forward, self.backward = name, definition, forward, backward
        self.reads, self.reads_out = None, reads_out
        self.rules, self.every, self.broadcasts, self.simple = (), None, False, False
        self.__doc__ = definition.__doc__

    def __call__(self, *inputs, **settings):
        if any(xp(asarray(x)) is not np for x in inputs):  # the fused paths are NumPy's; elsewhere the definition serves
            return self.definition(*inputs, **settings)
        return super().__call__(*inputs, **settings)

    def gradients(self, g, node, wanted):
        if not _state.recording:
            arrays = [x._array for x in node.inputs]
            grads = self.backward(g._array, node.out, node.residuals, wanted, *arrays, **node.settings)
            return [wrap(grad) if want else None for grad, want in zip(grads, wanted)]
        # Inputs enter the definition through `identity`: the inner pass stops there, its result depends on the inputs.
        inputs = [identity(x) if want else x for x, want in zip(node.inputs, wanted)]
        targets = [x for x, want in zip(inputs, wanted) if want]
        settings = {k: v for k, v in node.settings.items() if not callable(v)}  # what observes the call has done so
        out = self.definition(*inputs, **settings)
        grads = iter(gradients_of(out, targets, g, create_graph=True, stop=True))
        return [next(grads) if want else None for want in wanted]


# -- the backward pass -----------------------------------------------------------------------------------------------


def backpropagate(root, cotangent, targets, create_graph=False, retain_graph=None, stop=False):
    """Reverse-mode differentiation: cotangents of `targets`, or of all leaves if `targets` is None.

    Args:
        root: the Tensor to differentiate.
        cotangent: the gradient to start from, of root's shape; None for 1, if root has one element.
        targets: keys (see Returns); rules that do not lead to one are skipped.
        create_graph: record the rules.
        retain_graph: keep what the nodes saved; by default as `create_graph`.
        stop: do not go on below a target: what other targets contribute through it is not counted.

    Returns:
        dict from key to Tensor. The key of a leaf is its Tensor, of a computed Tensor its Node. What root does not
        depend on is missing.

    Raises:
        RuntimeError: see `Tensor.backward`.
    """
    if not root._requires_grad:
        raise RuntimeError("nothing to differentiate: the result was not computed from a Tensor with requires_grad=True "
                           "(or was computed under no_grad(), or detached on the way)")
    seed = _seed(root, cotangent)
    if root._node is None or (stop and root._node in targets):
        return {root._node or root: seed}
    order, needed = _plan(root._node, targets, targets if stop else ())
    retain_graph = create_graph if retain_graph is None else retain_graph
    cotangents, owned, results = {root._node: seed}, set(), {}

    def leads(x):
        """Whether a target lies at or below `x`."""
        return needed is None or (x._node or x) in needed or (x._node or x) in targets

    def receive(x, grad, op):
        """Adds `grad` to the cotangent of `x`, an input of `op`."""
        array, like = grad._array, x if x.__class__ is Node else x._array
        if array.shape != like.shape or array.dtype != like.dtype:
            grad = _fitted(grad, like, op)
        key = x._node or x
        if key in cotangents:
            grad = _summed(cotangents[key], grad, key, owned, create_graph)
        cotangents[key] = grad

    with recording(create_graph):
        for node in order:
            g = cotangents.pop(node, None)
            if g is None:
                continue
            if targets is not None and node in targets:
                results[node] = g
            inputs, op = node.inputs, node.op
            if _changed:
                _check_unchanged(node)
            if op.simple and not _state.observers:
                out, settings = node if node.out is None else node.output(), node.settings
                for x, rule in zip(inputs, op.rules):
                    if x._requires_grad and rule is not None and (needed is None or leads(x)):
                        receive(x, rule(g, out, *inputs, **settings), op)
            else:
                run = functools.partial(op.gradients, g, node, [x._requires_grad and leads(x) for x in inputs])
                grads = _observed("backward", op, inputs, run, node.where) if _state.observers else run()
                for x, grad in zip(inputs, grads):
                    if grad is not None:
                        receive(x, grad, op)
            if not retain_graph:
                node.inputs = node.out = node.residuals = None
    results.update(cotangents)
    return results


def _seed(root, cotangent):
    if cotangent is None:
        if root.size != 1:
            raise RuntimeError(f"only a scalar can be differentiated without a cotangent, and this Tensor has shape "
                               f"{root.shape}; reduce it, as in y.sum().backward(), or pass the cotangent")
        return wrap(xp(root._array).ones(root.shape, root.dtype))
    cotangent = cotangent if isinstance(cotangent, Tensor) else Tensor(cotangent)
    if cotangent.shape != root.shape:
        raise RuntimeError(f"the cotangent has shape {cotangent.shape}, the Tensor {root.shape}")
    return cotangent if cotangent.dtype == root.dtype else cast(cotangent, dtype=root.dtype)


def _plan(root, targets, stops):
    """The nodes below `root`, newest first, and those among them with a path to a target (None: all)."""
    order, stack, seen = [], [root], {root}
    while stack:
        node = stack.pop()
        order.append(node)
        if node.inputs is None:
            raise RuntimeError(f"the graph below '{node.op.name}' was freed by an earlier backward pass; "
                               "pass retain_graph=True there to differentiate twice")
        for x in node.inputs:
            below = x._node
            if below is None and x.__class__ is Node:
                below = x
            if below is not None and below not in seen and below not in stops:
                seen.add(below)
                stack.append(below)
    order.sort(key=operator.attrgetter("order"), reverse=True)
    if targets is None:
        return order, None
    needed = set()
    for node in reversed(order):
        for x in node.inputs:
            key = x._node or x
            if key in needed or key in targets:
                needed.add(node)
                break
    return order, needed


def _summed(total, grad, key, owned, create_graph):
    """The sum of the gradients that reach one Tensor; in place once the sum is an array of our own."""
    if create_graph or key not in owned:
        owned.add(key)
        return add(total, grad)
    np.add(total._array, grad._array, out=total._array)
    return total


def _fitted(grad, x, op):
    """The gradient in its input's shape and dtype, where broadcasting or promotion made them differ."""
    if grad.shape != x.shape:
        if not op.broadcasts:
            raise RuntimeError(f"the gradient rule of '{op.name}' returned shape {grad.shape} for an input of shape {x.shape}")
        grad = sum_to(grad, shape=x.shape)
    return grad if grad.dtype == x.dtype else cast(grad, dtype=x.dtype)


def _check_unchanged(node):
    saved = [x._array for x in node.inputs if type(x) is not Node] if node.op.reads is None else [
        x._array for x, read in zip(node.inputs, node.op.reads_of(node.inputs)) if read]
    if node.out is not None:
        saved.append(node.out)
    reads = node.op.reads_of(node.inputs) if node.op.reads is not None else [True] * len(node.inputs)
    replaced = any(read and _changed.get(id(x), 0) > node.order for x, read in zip(node.inputs, reads))
    for array in saved:
        if _changed.get(id(_owner(array)), 0) > node.order or replaced:
            raise RuntimeError(f"an array of shape {array.shape} that '{node.op.name}' needs for its gradient was changed in "
                               "place after the operation; change a copy, or call backward() before changing it")


def gradients_of(y, xs, cotangent=None, create_graph=False, retain_graph=None, stop=False):
    """Gradients of the Tensor `y` with respect to each Tensor of the list `xs`; zeros where y does not depend on it.

    The other arguments are those of `backpropagate`.
    """
    for x in xs:
        if not x._requires_grad:
            raise RuntimeError(f"a Tensor of shape {x.shape} to differentiate with respect to does not require a gradient")
    found = backpropagate(y, cotangent, {x._node or x for x in xs}, create_graph, retain_graph, stop)
    return [found[x._node or x] if (x._node or x) in found else wrap(xp(x._array).zeros_like(x._array)) for x in xs]


# -- the operations that the chain rule itself needs -----------------------------------------------------------------


def _sum_to(x, shape):
    """Sums over the axes along which `shape` was broadcast to x.shape."""
    lead = x.ndim - len(shape)
    axes = tuple(range(lead)) + tuple(i for i in range(lead, x.ndim) if shape[i - lead] == 1 != x.shape[i])
    return x.sum(axis=axes, keepdims=True).reshape(shape) if axes else x.reshape(shape)


add = Primitive("add", np.add, lambda g, _out, _x, _y: g, lambda g, _out, _x, _y: g, broadcasts=True)

sum_to = Primitive("sum_to", _sum_to, lambda g, _out, _x, shape: broadcast_to(g, shape=_x.shape))

broadcast_to = Primitive(
    "broadcast_to", lambda x, shape: xp(x).broadcast_to(x, shape), lambda g, _out, _x, shape: sum_to(g, shape=_x.shape))

cast = Primitive(
    "cast", lambda x, dtype: x.astype(dtype, copy=False), lambda g, _out, _x, dtype: cast(g, dtype=_x.dtype))

identity = Primitive("identity", lambda x: x, lambda g, _out, _x: g)
