"""The backward pass: cotangents travel from the result to the leaves, from the newest node to the oldest."""
import functools
import operator
import sys

import numpy as np

from .backend import add as plus, is_array, xp
from .recording import changed, observed, owner_of, recording, state
from .tensor import Node, Tensor, add, asarray, cast, sum_to, wrap


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
    last_change = max(list(changed.values()), default=0)

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
            if last_change > node.order:
                _check_unchanged(node)
            if op.simple and not state.observers:
                out, settings = node if node.out is None else node.output(), node.settings
                for x, rule in zip(inputs, op.rules):
                    if x._requires_grad and rule is not None and (needed is None or leads(x)):
                        receive(x, rule(g, out, *inputs, **settings), op)
            else:
                run = functools.partial(op.gradients, g, node, [x._requires_grad and leads(x) for x in inputs])
                grads = observed("backward", op, inputs, run, node.where) if state.observers else run()
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
    plus(total._array, grad._array, out=total._array)
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
    replaced = any(read and changed.get(id(x), 0) > node.order for x, read in zip(node.inputs, reads))
    for array in saved:
        if changed.get(id(owner_of(array)), 0) > node.order or replaced:
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
