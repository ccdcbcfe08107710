"""The backward pass: cotangents travel from the result to the leaves, from the newest node to the oldest.

The cotangent of a Tensor is the gradient of the result with respect to it. By the chain rule it is the sum, over all
operations that used the Tensor, of what their rules make of the cotangents of their outputs. A node is newer than all that it
was computed from; so when the walk reaches it, everything that used its output has been visited, and its cotangent is complete.
"""
import functools
import operator
import sys

import numpy as np

from .backend import add as plus, is_array, xp
from .recording import observed, recording, state
from .tensor import Node, Tensor, add, asarray, cast, output, sum_to, wrap
from .versions import check_unchanged, last_change


def backpropagate(roots, cotangents, targets=None, create_graph=False, retain_graph=None, stop=False):
    """Reverse-mode differentiation: the cotangents of `targets`, or of all leaves if `targets` is None.

    Args:
        roots: the Tensors to differentiate, a list.
        cotangents: for each root the gradient to start from, of its shape; None for 1, if it has one element.
        targets: origins of Tensors (`Tensor.origin`); rules that do not lead to one are skipped.
        create_graph: record the rules.
        retain_graph: keep what the nodes saved; by default as `create_graph`.
        stop: do not go on below a target: what other targets contribute through it is not counted.

    Returns:
        dict from origin to Tensor. What the roots do not depend on is missing.

    Raises:
        RuntimeError: see `Tensor.backward`.
    """
    seeds = [_seed(root, cotangent) for root, cotangent in zip(roots, cotangents)]
    order = _newest_first(roots, targets if stop else ())
    leading = None if targets is None else _leading_to(targets, order)
    found, owned = {}, set()  # cotangents by origin; origins whose cotangent is an array of our own
    for root, seed in zip(roots, seeds):
        if leading is None or root.origin in leading:
            _accumulate(found, owned, root.origin, seed, None, create_graph)
    retain_graph = create_graph if retain_graph is None else retain_graph
    changed = last_change()

    with recording(create_graph):
        for node in order:
            if node not in found:
                continue
            g = found[node] if targets is not None and node in targets else found.pop(node)
            if changed > node.order:
                check_unchanged(node)
            wanted = [x is not None and x._requires_grad and (leading is None or x in leading) for x in node.sources]
            if create_graph:
                state.rule_of = node.op
            for x, grad in zip(node.sources, _gradients(node, g, wanted)):
                if grad is not None:
                    _accumulate(found, owned, x, grad, node, create_graph)
            if not retain_graph:
                node.free()
    return found


def _gradients(node, g, wanted):
    """What the rules of a node make of its cotangent: for each input a Tensor or None."""
    op = node.op
    if op is output:  # this output's place among those of its call
        return [[g if i == node.settings["index"] else None for i in range(len(node.sources[0].shape))]]
    if not state.observers:
        return op.gradients(g, node, wanted)
    return observed("backward", op, node.inputs, functools.partial(op.gradients, g, node, wanted), node.where)


def _accumulate(found, owned, origin, grad, node, create_graph):
    """Adds `grad` to the cotangent of an origin; in place once the sum is an array of our own."""
    if type(grad) is list:
        if origin in found:
            grad = [a if b is None else b if a is None else add(a, b) for a, b in zip(found[origin], grad)]
    else:
        shape, dtype = (origin.shape, origin.dtype) if type(origin) is Node else (origin._array.shape, origin._array.dtype)
        if grad.__class__ is not Tensor or grad._array.shape != shape or grad._array.dtype != dtype:
            grad = _fitted(grad, shape, dtype, node.op)
        if origin in found:
            total = found[origin]
            if origin in owned and not create_graph:
                plus(total._array, grad._array, out=total._array)
                return
            owned.add(origin)
            grad = add(total, grad)
    found[origin] = grad


def _fitted(grad, shape, dtype, op):
    """The gradient in its input's shape and dtype, where broadcasting or promotion made them differ."""
    if not isinstance(grad, Tensor):
        raise TypeError(f"the gradient rule of '{op.name}' returned {type(grad).__name__}; a rule returns a Tensor (or, of an "
                        "input that never gets a gradient, is None itself)")
    if grad.shape != shape:
        if not op.broadcasts:
            raise RuntimeError(f"the gradient rule of '{op.name}' returned shape {grad.shape} for an input of shape {shape}")
        grad = sum_to(grad, shape=shape)
    return grad if grad.dtype == dtype else cast(grad, dtype=dtype)


def _seed(root, cotangent):
    if not root._requires_grad:
        raise RuntimeError("nothing to differentiate: the result was not computed from a Tensor with requires_grad=True "
                           "(or was computed under no_grad(), or detached on the way)")
    if cotangent is None:
        if root.size != 1:
            raise RuntimeError(f"only a scalar can be differentiated without a cotangent, and this Tensor has shape "
                               f"{root.shape}; reduce it, as in y.sum().backward(), or pass the cotangent")
        return wrap(xp(root._array).ones(root.shape, root.dtype))
    cotangent = cotangent if isinstance(cotangent, Tensor) else Tensor(cotangent)
    if cotangent.shape != root.shape:
        raise RuntimeError(f"the cotangent has shape {cotangent.shape}, the Tensor {root.shape}")
    return cotangent if cotangent.dtype == root.dtype else cast(cotangent, dtype=root.dtype)


def _newest_first(roots, stops):
    """The nodes from which the roots were computed, but for those that lead there through `stops` only, newest first."""
    stack = [root._node for root in roots if root._node is not None and root._node not in stops]
    order, visited = [], set(stack)
    while stack:
        node = stack.pop()
        order.append(node)
        if node.sources is None:
            raise RuntimeError(f"the graph below '{node.op.name}' was freed by an earlier backward pass; "
                               "pass retain_graph=True there to differentiate twice")
        for x in node.sources:
            if x.__class__ is Node and x not in visited and x not in stops:
                visited.add(x)
                stack.append(x)
    order.sort(key=operator.attrgetter("order"), reverse=True)
    return order


def _leading_to(targets, order):
    """The targets, and the nodes among `order` that were computed from one."""
    leading = set(targets)
    for node in reversed(order):
        if any(x in leading for x in node.sources if x is not None):
            leading.add(node)
    return leading


def gradients_of(ys, xs, cotangents=None, create_graph=False, retain_graph=None, stop=False):
    """Gradients of the Tensors `ys` with respect to each Tensor of the list `xs`; zeros where no y depends on it.

    `cotangents` is None for 1, if there is one y of one element. The other arguments are those of `backpropagate`.
    """
    for x in xs:
        if not x._requires_grad:
            raise RuntimeError(f"a Tensor of shape {x.shape} to differentiate with respect to does not require a gradient")
    found = backpropagate(ys, cotangents or [None] * len(ys), {x.origin for x in xs}, create_graph, retain_graph, stop)
    return [found[x.origin] if x.origin in found else wrap(xp(x._array).zeros_like(x._array)) for x in xs]


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
    cotangents = backpropagate([self], [gradient], None, create_graph, retain_graph)
    taken = set() if gradient is None else {id(asarray(gradient))}
    for leaf, cotangent in cotangents.items():
        array = cotangent._array
        if leaf.grad is not None:
            with recording(create_graph):
                leaf.grad = add(leaf.grad, cotangent)
        elif create_graph:
            leaf.grad = cotangent
        else:  # a gradient must not share memory with anything else: its owner may change it in place
            leaf.grad = wrap(array if id(array) not in taken and _is_alone(array) else array.copy())
            taken.add(id(array))


Tensor.backward = backward


def _is_alone(array):
    """Whether nothing else refers to the memory of `array`: its own, or that of a base which only this view knows."""
    base = array.base
    if type(base) is not np.ndarray:
        return not is_array(base)
    # The base is referred to by the view, by this function, and by the call that counts.
    return array.flags.writeable and array.size == base.size and sys.getrefcount(base) <= 3
