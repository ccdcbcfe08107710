"""Fused operations: faster spellings of compositions of primitives."""
import numpy as np

from .backend import xp
from .backward import gradients_of
from .recording import state
from .tensor import Primitive, asarray, identity, wrap


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
        if not state.recording:
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
