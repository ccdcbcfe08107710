"""Indices of arrays on the GPU, as far as the host knows them."""
import numpy as np

from . import is_array, xp


def check_index(array, index):
    """NumPy's errors for an index of an array on the GPU, where CuPy takes the remainder of what is out of range and int() of
    what is no whole number. An index in the GPU's memory is not read."""
    items = [np.asarray(i) if isinstance(i, list) else i for i in (index if isinstance(index, tuple) else (index,))]
    if xp(array) is np or any(is_array(i) and xp(i) is not np for i in items):
        return
    takes = [0 if i is None or i is Ellipsis else i.ndim if getattr(i, "dtype", None) == bool else 1 for i in items]
    shape, at = list(array.shape), 0  # an axis of which all is taken counts as one long at most, for little work
    for item, n in zip(items, takes):
        n = array.ndim - sum(takes) if item is Ellipsis else n
        if item is Ellipsis or isinstance(item, slice):
            shape[at:at + n] = [min(m, 1) for m in shape[at:at + n]]
        at += n
    shape[at:] = [min(m, 1) for m in shape[at:]]
    np.broadcast_to(False, shape)[tuple(items)]
