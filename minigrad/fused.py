"""Fused operations: faster spellings of compositions of primitives."""
import numpy as np

from . import backend
from .backward import gradients_of
from .recording import state
from .tensor import Primitive, Tensor, identity, wrap


class Fused(Primitive):
    """A faster spelling of a composition: one meaning, up to three implementations.

    The *definition* says what is computed. The CPU path (`forward` and `backward` below) serves NumPy arrays. On the GPU
    the CUDA path serves, if `backend.cuda.paths` has one under the operation's name and it fits the arrays (see
    `backend.path`). Wherever a path is missing, the definition serves. Numbers of 16 bits are an affair of the kernels on
    the GPU: everything else takes them as float32 and rounds the result once.

    Args:
        name: what errors and graphs call it, and the name of its CUDA path.
        definition: the same thing written in primitives, `definition(*tensors, **settings)` -> Tensor. It is the
            documentation, the oracle of the tests, and without a `rule` what derivatives of higher order come from.
        forward: `forward(*arrays, **settings)` -> (array, residuals): the fused path. Residuals are whatever
            `backward` wants to find again; they are no Tensors, so they never enter a rule that is differentiated.
        backward: `backward(g, out, residuals, wanted, *arrays, **settings)` -> a sequence with the gradient of each
            wanted input, all arrays: the fused first-order path, used when nobody asks for a graph of the gradient.
        reads_out: whether `backward` reads `out`.
        rule: `rule(g, wanted, *tensors, **settings)` -> like `backward`, but of Tensors and written in operations: for
            derivatives of higher order, where the gradient is shorter by hand than what the definition's own rules come to.
    """

    fused = True

    def __init__(self, name, definition, forward=None, backward=None, reads_out=False, rule=None):
        self.name, self.definition, self.forward, self.backward = name, definition, forward, backward
        self.reads, self.reads_out, self.rule = None, reads_out, rule
        self.rules, self.every, self.broadcasts, self.simple = (), None, False, False
        self.cuda = None  # the same operation with its CUDA path, made when it is first wanted
        self.__doc__ = definition.__doc__

    def __call__(self, *inputs, **settings):
        for x in inputs:
            if not isinstance(x, Tensor):
                inputs = self._lift(inputs)
                break
        path = backend.path(*[x._array for x in inputs])
        if path == "cuda" and self._fits_cuda(inputs, settings):
            return Primitive.__call__(self.cuda, *inputs, **settings)
        if any(backend.is_half(x._array.dtype) for x in inputs):
            return _in_float32(self, inputs, settings)
        if path == "cpu" and self.forward is not None:
            return super().__call__(*inputs, **settings)
        return self.definition(*inputs, **settings)

    def _fits_cuda(self, inputs, settings):
        from .backend.cuda.paths import PATHS
        path = PATHS.get(self.name)
        if path is None or not path.fits(*inputs, **settings):
            return False
        if self.cuda is None:
            self.cuda = Fused(self.name, self.definition, path.forward, path.backward, path.reads_out, self.rule)
        return True

    def gradients(self, g, node, wanted):
        if not state.recording:
            arrays = [x._array for x in node.inputs]
            grads = self.backward(g._array, node.out, node.residuals, wanted, *arrays, **node.settings)
            return [wrap(grad.astype(a.dtype, copy=False)) if want else None
                    for grad, want, a in zip(grads, wanted, arrays)]
        settings = {k: v for k, v in node.settings.items() if not callable(v)}  # what observes the call has done so
        if self.rule is not None:
            grads = self.rule(wide(g), wanted, *map(wide, node.inputs), **settings)
            return [narrow(grad, x) if want else None for grad, want, x in zip(grads, wanted, node.inputs)]
        # Inputs enter the definition through `identity`: the inner pass stops there, its result depends on the inputs.
        inputs = [identity(x) if want else x for x, want in zip(node.inputs, wanted)]
        targets = [x for x, want in zip(inputs, wanted) if want]
        out = _in_float32(self.definition, inputs, settings)
        grads = iter(gradients_of(out, targets, g, create_graph=True, stop=True))
        return [next(grads) if want else None for want in wanted]


def _in_float32(operation, inputs, settings):
    """operation(*inputs), numbers of 16 bits as float32 and the result in the dtype that the inputs have together."""
    floats = [x.dtype for x in inputs if backend.is_float(x.dtype)]
    y = operation(*map(wide, inputs), **settings)
    return y.astype(backend.together(*floats)) if any(map(backend.is_half, floats)) else y


def wide(x):
    """A Tensor, numbers of 16 bits as float32."""
    return x.astype(np.float32) if backend.is_half(x.dtype) else x


def narrow(y, x):
    """A Tensor, in the dtype of `x` if that has 16 bits."""
    return y.astype(x.dtype) if backend.is_half(x.dtype) else y
