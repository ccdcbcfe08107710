"""The backward pass: cotangents travel from the result to the leaves, from the newest node to the oldest.

The cotangent of a Tensor is the gradient of the result with respect to it. By the chain rule it is the sum, over all
operations that used the Tensor, of what their rules make of the cotangents of their outputs. A node is newer than all that it
was computed from; so when the walk reaches it, everything that used its output has been visited, and its cotangent is complete.
"""
import operator
import sys
import threading

import numpy as np

from .backend import add as plus, is_array, xp
from .recording import observed, recording, state
from .primitive import Node, add, cast, copy, output, sum_to
from .tensor import Tensor, as_tensor, asarray, flag, wrap
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
    retain_graph = create_graph if retain_graph is None else retain_graph
    changed, observers = last_change(), state.observers
    found, passed = {}, {}  # cotangents by origin: the sums so far, and those of targets that the walk has passed
    receive = _adding_to(found, create_graph)
    with recording(create_graph):
        for root, seed in zip(roots, seeds):
            if leading is None or root.origin in leading:
                receive(root.origin, seed, None)
        for node in order:
            g = found.pop(node, None)
            if g is None:
                continue
            wanted = node.sources
            if leading is not None:
                wanted = [x if x in leading else None for x in wanted]
                if node in targets:
                    passed[node] = g
                    if all(x is None for x in wanted):  # its rules are not used: what it saved stays for a pass from here on
                        continue
            if changed > node.order:
                check_unchanged(node)
            if create_graph:
                state.rule_of = node.op
            if observers:
                _observed(g, node, wanted, receive)
            else:
                node.op.gradients(g, node, wanted, receive)
            if not retain_graph:
                node.sources = node.inputs = node.out = node.residuals = None
    return found | passed


def _adding_to(found, create_graph):
    """A function that adds `grad`, which a rule of `op` returned, to the cotangent of the origin `x` in `found`."""
    owned = set()  # the origins whose cotangent is a sum made here, which nobody else knows: the next is added in place

    def receive(x, grad, op):
        if not isinstance(grad, Tensor):
            grad = _completed(grad, found.get(x), op)
        else:
            array, like = grad._array, x if x.__class__ is Node else x._array
            if array.shape != like.shape or array.dtype != like.dtype:
                grad = _fitted(grad, like.shape, like.dtype, op)
            if x in found:
                if x in owned and not create_graph:
                    total = found[x]._array
                    plus(total, grad._array, total)
                    return
                owned.add(x)
                grad = add(found[x], grad)
                if grad._array.dtype != like.dtype:  # of another byte order, which NumPy's sums have not
                    grad = cast(grad, dtype=like.dtype)
        found[x] = grad

    return receive


def _observed(g, node, wanted, receive):
    """Applies the rules of a node in the sight of the observers, who see the gradients as a list."""
    def run():
        grads = []
        node.op.gradients(g, node, wanted, lambda x, grad, op: grads.append((x, grad, op)))
        for x, grad, op in grads:
            receive(x, grad, op)
        return [grad for _, grad, _ in grads]

    run() if node.op is output else observed("backward", node.op, node.inputs, run, node.where)


def _completed(grads, before, op):
    """The cotangents of the outputs of one call by their numbers: an output gives it a dict with its own."""
    if op is not output:
        raise TypeError(f"the gradient rule of '{op.name}' returned {type(grads).__name__}; a rule returns a Tensor (or, of an "
                        "input that never gets a gradient, is None itself)")
    if before is None:
        return grads
    for i, grad in grads.items():
        before[i] = add(before[i], grad) if i in before else grad
    return before


def _fitted(grad, shape, dtype, op):
    """The gradient in its input's shape and dtype, where broadcasting or promotion made them differ."""
    if grad.shape != shape:
        lead = len(grad.shape) - len(shape)
        if not op.broadcasts or lead < 0 or any(n not in (1, m) for n, m in zip(shape, grad.shape[lead:])):
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
                               f"{root.shape}; reduce it, as in y.sum().backward(), or pass the cotangent g: "
                               "y.backward(g), grad(y, xs, grad_outputs=g)")
        return wrap(xp(root._array).ones(root.shape, root.dtype))
    given, cotangent = cotangent, as_tensor(cotangent)
    if given is not cotangent:
        cotangent = wrap(xp(root._array).asarray(cotangent._array))
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
            raise RuntimeError(f"the graph below '{node.name}' was freed by an earlier backward pass; "
                               "pass retain_graph=True there to differentiate twice, or .detach() what is carried over "
                               "from one step to the next")
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
    cotangents = cotangents or [None] * len(ys)
    found = backpropagate(ys, cotangents, {x.origin for x in xs}, create_graph, retain_graph, stop)
    own = _gradients_from(cotangents, create_graph, views=not create_graph)  # the graph refers to nearly all memory
    return [own(found[x.origin]) if x.origin in found else wrap(xp(x._array).zeros_like(x._array)) for x in xs]


_adding_to_grad = threading.RLock()  # one thread at a time


def backward(self: Tensor, gradient: Tensor | np.ndarray | None = None, create_graph: bool = False,
             retain_graph: bool | None = None) -> None:
    """Adds the gradient of this Tensor with respect to every leaf it was computed from to the leaf's `.grad`.

    Several threads may do so at once, each with a graph of its own, and share leaves: nothing is lost from the sums.

    Args:
        gradient: the cotangent, of this Tensor's shape; may be left out for a Tensor of one element (then 1).
        create_graph: record the backward pass, so that the gradients can be differentiated again.
        retain_graph: keep the saved arrays for another backward pass; by default as `create_graph`.

    Raises:
        RuntimeError: nothing here requires a gradient, this is not a scalar, the graph was freed by an earlier
            backward pass, or an array that a rule reads was changed in place.
    """
    create_graph = flag("backward", "create_graph", create_graph)
    retain_graph = None if retain_graph is None else flag("backward", "retain_graph", retain_graph)
    cotangents = backpropagate([self], [gradient], None, create_graph, retain_graph)
    own = _gradients_from([gradient], create_graph)
    with _adding_to_grad:
        for leaf in cotangents:
            if leaf.grad is not None:
                _check_gradient(leaf)
        for leaf, cotangent in cotangents.items():
            if leaf.grad is None:
                leaf.grad = own(cotangent)
            else:
                with recording(create_graph):
                    leaf.grad = _fitted(add(leaf.grad, cotangent), leaf.shape, leaf.dtype, add)


Tensor.backward = backward


def _check_gradient(leaf):
    """RuntimeError if somebody set the gradient of a leaf to something else than a Tensor of its shape."""
    grad = leaf.grad
    if not isinstance(grad, Tensor) or grad.shape != leaf.shape:
        kind = f"of shape {grad.shape}" if isinstance(grad, Tensor) else f"of type {type(grad).__name__}"
        raise RuntimeError(f".grad of a Tensor of shape {leaf.shape} is {kind}: set it to None, or to a Tensor of that shape")


def _gradients_from(given, create_graph, views=True):
    """A function that makes a cotangent a gradient: its owner may change it in place, so it shares memory with nothing else, not
    with what was `given` or other gradients, but for what was recorded of it; where the cotangent does, it is copied.

    Args:
        views: a part of memory that others know counts as shared too; without, equal arrays alone.
    """
    taken = {id(asarray(x)) for x in given if x is not None}

    def own(cotangent):
        array = cotangent._array
        shared = id(array) in taken or views and not _is_alone(array)
        taken.add(id(array))
        if not create_graph:
            return wrap(array.copy() if shared else array)
        with recording(True):
            return copy(cotangent) if shared else cotangent

    return own


def _is_alone(array):
    """Whether nothing else refers to the memory of `array`: its own, or that of a base which only this view knows."""
    base = array.base
    if type(base) is not np.ndarray:
        return not is_array(base)
    # The base is referred to by the view, by this function, and by the call that counts.
    return array.flags.writeable and array.size == base.size and sys.getrefcount(base) <= 3
