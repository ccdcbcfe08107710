"""Changes in place: which memory changed when, so that a graph that needs the old values says so instead of computing on."""
import weakref

import numpy as np

from . import backend
from .recording import next_event

changes = {}  # id of what owns memory -> the event (see recording.py) of its last change in place


def mark_changed(array):
    """Notes that the memory of `array` changes now (or that a Tensor gets other memory)."""
    owner = owner_of(array)
    if id(owner) not in changes:
        weakref.finalize(owner, changes.pop, id(owner), None).atexit = False
    changes[id(owner)] = next_event()


def check_writable(of, array):
    """ValueError if an array cannot be changed in place."""
    if isinstance(array, np.ndarray) and not array.flags.writeable:
        raise ValueError(f"{of} is in read-only memory and cannot be changed in place; copy it")


def owner_of(array):
    """The array that owns the memory: views of one array share it."""
    while getattr(array, "base", None) is not None and backend.is_array(array.base):
        array = array.base
    return array


def last_change():
    """The event of the last change of anything."""
    return max(list(changes.values()), default=0)


def check_unchanged(node):
    """RuntimeError if what a rule of the node reads was changed after the operation ran."""
    tensors = node.tensors_read()
    outs = node.out if type(node.out) is tuple else () if node.out is None else (node.out,)
    replaced = any(changes.get(id(x), 0) > node.order for x in tensors)
    for array in (*[x._array for x in tensors], *outs):
        if replaced or changes.get(id(owner_of(array)), 0) > node.order:
            raise RuntimeError(f"an array of shape {array.shape} that '{node.op.name}' needs for its gradient was changed in "
                               "place after the operation; change a copy, or call backward() before changing it")
