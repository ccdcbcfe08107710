"""Trees: nested dicts, lists and tuples (named ones too) whose leaves are anything else.

Transforms take their arguments and return gradients as trees. `None` is an empty tree, and a dict's items
are visited in its own order.
"""
import collections
import copy
from collections.abc import Callable
from typing import Any


def flatten(tree: Any) -> tuple[list, Callable]:
    """The leaves of `tree` from left to right, and a function that rebuilds the tree from as many new leaves."""
    leaves = []
    build = _flatten(tree, leaves)

    def rebuild(new_leaves):
        return build(iter(new_leaves))

    return leaves, rebuild


def _flatten(tree, leaves):
    if tree is None:
        return lambda new: None
    if isinstance(tree, dict):
        keys, like = list(tree), {} if hasattr(tree, "default_factory") else tree
        parts = [_flatten(tree[key], leaves) for key in keys]
        return lambda new: _with_items(like, [(key, part(new)) for key, part in zip(keys, parts)])
    if isinstance(tree, (list, tuple)):
        kind = type(tree)
        parts = [_flatten(item, leaves) for item in tree]
        if hasattr(tree, "_fields"):
            return lambda new: kind(*[part(new) for part in parts])
        return lambda new: kind([part(new) for part in parts])
    leaves.append(tree)
    return next


def _with_items(like, pairs):
    """A dict of the kind of `like`, which may be made in its own way, with these items alone."""
    kind = type(like)
    if kind.__init__ in (dict.__init__, collections.OrderedDict.__init__):
        return kind(pairs)
    made = copy.copy(like)
    made.clear()
    for key, value in pairs:
        made[key] = value
    return made


def leaves(tree: Any) -> list:
    """The leaves of `tree`, from left to right."""
    return flatten(tree)[0]


def matched(tree: Any, like: Any, name: str = "tree.matched") -> list:
    """The leaves of `tree` in the order of those of `like`: items of dicts are matched by their keys.

    Raises:
        ValueError: the two differ in structure.
    """
    if isinstance(like, dict) and isinstance(tree, dict) and set(tree) == set(like):
        keys = list(like)
    elif isinstance(like, (list, tuple)) and isinstance(tree, (list, tuple)) and len(tree) == len(like):
        keys = range(len(like))
    elif isinstance(like, (dict, list, tuple)) or isinstance(tree, (dict, list, tuple)) or (like is None) != (tree is None):
        raise ValueError(f"{name}: the trees do not match: {_outline(like)} and {_outline(tree)}")
    else:
        return [] if tree is None else [tree]
    return [leaf for key in keys for leaf in matched(tree[key], like[key], name)]


def _outline(tree):
    """What an error says of a tree."""
    if not isinstance(tree, (dict, list, tuple)):
        return type(tree).__name__
    return f"a {type(tree).__name__} of {list(tree) if isinstance(tree, dict) else len(tree)}"


def map(function: Callable, tree: Any, *trees: Any) -> Any:
    """`function` applied to each leaf of `tree`, together with the leaves of `trees` at the same place.

    Raises:
        ValueError: the trees differ in structure.
    """
    first, rebuild = flatten(tree)
    others = [matched(other, tree, "tree.map") for other in trees]
    return rebuild([function(*items) for items in zip(first, *others)])
