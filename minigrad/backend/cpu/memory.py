"""Reused memory for large arrays.

A fresh large array comes from the operating system as pages that are mapped and zeroed at the first touch; that costs
more than many kernels that fill it. `empty` hands out memory from a free list instead. The array is an ordinary
ndarray: its memory goes back to the list when the last view of it dies.
"""

import contextlib
import os
import pathlib
import threading
from math import prod

import numpy as np

SMALL = 1 << 16  # bytes; below this the C allocator already reuses memory
ALIGNMENT = 64  # bytes; a cache line, and the widest vector register

_free = {}  # rounded size in bytes -> list of memory blocks. Appending to and popping from a list are atomic.
_room = [0]  # at least so many bytes may still be added to it: more, when some were taken out since this was counted
_limit = None  # most bytes kept in the free list
_local = threading.local()


def empty(shape, dtype=np.float32):
    """An uninitialised C-ordered array like np.empty(shape, dtype), in reused memory if it is large."""
    dtype = np.dtype(dtype)
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    nbytes = prod(shape) * dtype.itemsize
    if nbytes < SMALL or dtype.kind in "OV":  # of bfloat16 no name tells NumPy
        return np.empty(shape, dtype)
    size = _rounded(nbytes)
    return np.asarray(_Lease(_taken(size), size, shape, dtype))


def zeros(shape, dtype=np.float32):
    """Like `empty`, filled with zeros."""
    out = empty(shape, dtype)
    out.fill(0)
    return out


def scratch(tag, shape, dtype=np.float32):
    """This thread's buffer named `tag`, as an uninitialised array; the next call with the same tag overwrites it.

    For the temporaries of a block: always the same memory of one thread, so it stays in that core's cache.
    """
    nbytes = prod(shape) * np.dtype(dtype).itemsize
    buffer = _local.__dict__.get(tag)
    if buffer is None or buffer.nbytes < nbytes:
        buffer = _local.__dict__[tag] = _aligned(nbytes)
    return np.ndarray(shape, dtype, buffer)


def cached_bytes():
    """The bytes that wait in the free list."""
    return sum(size * len(blocks) for size, blocks in list(_free.items()))


def empty_cache():
    """Give the memory in the free list back to the operating system."""
    for blocks in list(_free.values()):
        blocks.clear()


class _Lease:
    """Owner of one memory block, the `base` of the arrays that view it. Its death returns the block."""

    __slots__ = ("size", "block", "__array_interface__")

    def __init__(self, block, size, shape, dtype):
        self.block, self.size = block, size
        self.__array_interface__ = {"version": 3, "shape": shape, "typestr": dtype.str, "data": (block.address, False)}

    def __del__(self, free=_free, room=_room):  # bound here: module globals may be gone when the interpreter exits
        if room[0] < self.size and cached_bytes is not None:
            room[0] = cache_limit() - cached_bytes()
        if room[0] >= self.size:
            room[0] -= self.size
            free.setdefault(self.size, []).append(self.block)


def _taken(size):
    """A block of the free list, or a new one; where there is no memory for that, the list's other blocks make room."""
    try:
        return _free[size].pop()
    except (KeyError, IndexError):
        pass
    try:
        return _Block(size)
    except MemoryError:
        empty_cache()
        return _Block(size)


class _Block:
    """Aligned memory and its address."""

    __slots__ = ("memory", "address")

    def __init__(self, nbytes):
        self.memory = _aligned(nbytes)
        self.address = self.memory.ctypes.data


def cache_limit():
    """The most bytes that the free list keeps: a quarter of the memory of the machine, or of the container."""
    global _limit
    if _limit is None:
        found = []
        with contextlib.suppress(AttributeError, OSError, ValueError):
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        with contextlib.suppress(OSError, ValueError):  # ValueError: "max"
            found.append(int(pathlib.Path("/sys/fs/cgroup/memory.max").read_text()))
        _limit = min(found, default=4 << 30) // 4
    return _limit


def _rounded(nbytes):
    """`nbytes` rounded up to four significant bits, so that nearly equal shapes share memory (at most an eighth is unused)."""
    step = 1 << max(0, nbytes.bit_length() - 4)
    return -(-nbytes // step) * step


def _aligned(nbytes):
    memory = np.empty(nbytes + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start:start + nbytes]
