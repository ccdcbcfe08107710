"""Trees: nested dicts, lists and tuples (named ones too) whose leaves are anything else.

Transforms take their arguments and return gradients as trees. `None` is an empty tree, and a dict's items
are visited in its own order.
"""


def flatten(tree):
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
        keys, kind = list(tree), type(tree)
        parts = [_flatten(tree[key], leaves) for key in keys]
        return lambda new: kind((key, part(new)) for key, part in zip(keys, parts))
    if isinstance(tree, (list, tuple)):
        kind = type(tree)
        parts = [_flatten(item, leaves) for item in tree]
        if hasattr(tree, "_fields"):
            return lambda new: kind(*[part(new) for part in parts])
        return lambda new: kind([part(new) for part in parts])
    leaves.append(tree)
    return next


def leaves(tree):
    """The leaves of `tree`, from left to right."""
    return flatten(tree)[0]


def map(function, tree, *trees):
    """`function` applied to each leaf of `tree`, together with the leaves of `trees` at the same place.

    Raises:
        ValueError: the trees have different numbers of leaves.
    """
    first, rebuild = flatten(tree)
    others = [leaves(other) for other in trees]
    for other in others:
        if len(other) != len(first):
            raise ValueError(f"tree.map: trees with {len(first)} and {len(other)} leaves do not match")
    return rebuild([function(*items) for items in zip(first, *others)])
