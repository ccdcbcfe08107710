"""Fused operations: faster spellings of compositions of primitives."""
import functools
import inspect
from collections.abc import Callable

import numpy as np

from . import backend
from .backward import gradients_of
from .recording import caller, recording, state
from .primitive import Node, Primitive, cast, identity
from .tensor import Function, Tensor, as_tensor, wrap


class Fused(Primitive):
    """A faster spelling of a composition: one meaning, up to three implementations.

    The *definition* says what is computed. A path of the arrays' backend, if `backend.path` finds one under the operation's
    name, computes the same faster, and its gradient of first order; see `backend.Path`. Wherever there is none, the
    definition serves. Numbers of 16 bits are an affair of the kernels on the GPU: everything else takes them as float32 and
    rounds the result once.

    Args:
        name: what errors and graphs call it, and the name of its paths.
        definition: the same thing written in primitives, `definition(*tensors, **settings)` -> Tensor or a tuple of them. It is
            the documentation, the oracle of the tests, and without a `rule` what derivatives of higher order come from.
        rule: `rule(g, wanted, *tensors, **settings)` -> a sequence with the gradient of each wanted input, written in
            operations on Tensors: for derivatives of higher order, where the gradient of the (first) output is shorter by hand
            than what the definition's own rules come to.
    """

    reads = None  # what paths and definitions read: everything

    def __init__(self, name, definition, rule=None):
        self.name = self.__name__ = self.__qualname__ = name
        self.definition, self.rule = definition, rule
        self.__doc__ = definition.__doc__

    def __call__(self, *inputs, **settings):
        for x in inputs:
            if not isinstance(x, Tensor):
                inputs = self._lift(inputs)
                break
        arrays = [x._array for x in inputs]
        if any([a.dtype != arrays[0].dtype for a in arrays]):
            inputs = _of_one_dtype(inputs)
            arrays = [x._array for x in inputs]
        learned = any([isinstance(value, Tensor) for value in settings.values()])  # paths take numbers
        path = None if learned else backend.path(self.name, arrays, settings)
        if path is None:
            if any(backend.is_half(a.dtype) for a in arrays):
                return _in_float32(self, inputs, settings)
            return self.definition(*inputs, **settings)
        where = caller()
        try:
            array, residuals = (self._observed(path.forward, inputs, settings, where) if state.observers else
                                path.forward(*arrays, **settings))
        except Exception as error:
            raise self._explained(error, inputs) from error
        if type(array) is tuple:
            return self._recorded(array, inputs, settings, path.reads_out, where, (path, residuals))
        out = wrap(array if backend.is_array(array) else np.asarray(array))
        if state.recording and any([x._requires_grad for x in inputs]):
            out._requires_grad = True
            out._node = Node(self, inputs, settings, array.shape, array.dtype, array if path.reads_out else None,
                             where, (path, residuals))
        return out

    def gradients(self, g, node, wanted, receive):
        gs = [g.get(i) for i in range(len(node.shape))] if type(g) is dict else [g]
        grads = self._gradients(gs, node, [x is not None for x in wanted])
        for x, grad in zip(wanted, grads):
            if x is not None:
                receive(x, grad, self)

    def _gradients(self, gs, node, wanted):
        """Of each input, for the cotangents of the outputs (None where there is none)."""
        first_alone = all(other is None for other in gs[1:])  # all that rules and most paths know of
        path, residuals = node.residuals
        if (first_alone or path.all_outputs) and not state.recording:
            arrays, cotangents = [x._array for x in node.inputs], [g if g is None else g._array for g in gs]
            grads = path.backward(tuple(cotangents) if path.all_outputs else cotangents[0], node.out, residuals, wanted, *arrays,
                                  **node.settings)
            if grads is not None:
                return [wrap(grad.astype(a.dtype, copy=False)) if want else None
                        for grad, want, a in zip(grads, wanted, arrays)]
        elif first_alone and self.rule is not None:
            grads = self.rule(upcast(gs[0]), wanted, *map(upcast, node.inputs), **node.settings)
            return [rounded_like(grad, x) if want else None for grad, want, x in zip(grads, wanted, node.inputs)]
        # Inputs enter the definition through `identity`: the inner pass stops there, its result depends on the inputs.
        create_graph = state.recording
        with recording(True):
            inputs = [identity(x) if want else x for x, want in zip(node.inputs, wanted)]
            outs = _in_float32(self.definition, inputs, node.settings)
        pairs = [(y, g) for y, g in zip(outs if type(outs) is tuple else (outs,), gs) if g is not None and y.requires_grad]
        targets = [x for x, want in zip(inputs, wanted) if want]
        grads = iter(gradients_of([y for y, _ in pairs], targets, [g for _, g in pairs], create_graph, stop=True))
        return [next(grads) if want else None for want in wanted]


def _of_one_dtype(inputs):
    """The inputs, those that are floating point in the dtype that they have together: paths and definitions see one."""
    floats = [x.dtype for x in inputs if backend.is_float(x.dtype)]
    if len(set(floats)) < 2:
        return inputs
    dtype = backend.result_type(*floats)
    return [cast(x, dtype=dtype) if backend.is_float(x.dtype) and x.dtype != dtype else x for x in inputs]


def _in_float32(operation, inputs, settings):
    """operation(*inputs), numbers of 16 bits as float32, and the result in the dtype that the inputs have together.

    Of several outputs the first is the result; the others, statistics such as a mean, stay float32.
    """
    y = operation(*map(upcast, inputs), **settings)
    floats = [x.dtype for x in inputs if backend.is_float(x.dtype)]
    if not any(map(backend.is_half, floats)):
        return y
    dtype = backend.result_type(*floats)
    return (y[0].astype(dtype), *y[1:]) if type(y) is tuple else y.astype(dtype)


def upcast(x):
    """A Tensor, numbers of 16 bits as float32."""
    return x.astype(np.float32) if backend.is_half(x.dtype) else x


def halves_in_float32(operands: int) -> Callable[[Function], Function]:
    """Decorator: of a function whose first `operands` have 16 bits it computes with them in float32, and the result, of the dtype
    that they have together, is rounded once."""
    def declare(function):
        names = list(inspect.signature(function).parameters)[:operands]

        @functools.wraps(function)
        def _called(*inputs, **settings):  # with an underscore: errors speak in the function's name
            given = [*inputs[:operands], *(settings[name] for name in names if name in settings)]
            arrays = [v for v in given if isinstance(v, Tensor) or backend.is_array(v)]
            if not any([backend.is_half(v.dtype) for v in arrays]):
                return function(*inputs, **settings)
            wide = {id(v): v.astype(np.float32) for v in arrays if backend.is_half(v.dtype)}
            y = function(*[wide.get(id(v), v) for v in inputs], **{name: wide.get(id(v), v) for name, v in settings.items()})
            others = [as_tensor(v) for v in given if np.ndim(v) and not any([v is a for a in arrays])]  # lists
            return y.astype(backend.result_type(*[v.dtype for v in (*arrays, *others)]))

        return _called

    return declare


def rounded_like(y, x):
    """A Tensor, in the dtype of `x` if that has 16 bits."""
    return y.astype(x.dtype) if backend.is_half(x.dtype) else y


def by_path(name: str) -> Callable[[Function], Function]:
    """Decorator: a composition of operations on Tensors, which a path of this name serves where they are large and the result is
    not to be differentiated."""
    def declare(definition):
        @functools.wraps(definition)
        def function(*tensors):
            if not state.recording and max([x.size for x in tensors]) >= backend.WORTH_A_PATH:
                arrays = [x._array for x in tensors]
                found = backend.path(name, arrays)
                if found is not None:
                    return wrap(found.forward(*arrays))
            return definition(*tensors)

        return function

    return declare
