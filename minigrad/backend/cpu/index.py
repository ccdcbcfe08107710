"""Rows and elements that an index names, read and added to; the definition is `minigrad/ops/index.py`."""
import math

import numpy as np

from .memory import empty
from .native import kernel

FEW = 4000  # elements, of which fewer are not worth finding their places in the flat array
TERMS = 4096  # that are added to a row of float32 one after the other; of more the sum would lose digits


def read(x, index):
    """x[index] for a tuple that ends in an array: parts along one axis by `take`, elements by their numbers in the flat array."""
    *before, last = index
    if x.flags.c_contiguous and last.dtype.kind in "iu":
        if all(map(_is_whole, before)):
            return x.take(last, len(before))
        if last.size >= FEW and len(index) == x.ndim and not any([isinstance(i, slice) for i in before]):
            named = _row_numbers(index, x.shape)
            if named is not None:
                return x.reshape(-1).take(named[2]).reshape(np.broadcast_shapes(*map(np.shape, index)))
    return x[index]


def add_at(x, values, index):
    """x[index] += values, where an element that the index names twice receives both. Changes x, and returns it.

    Without a kernel, and where a row is named many times, equal rows are sorted side by side, and runs are summed without a
    loop; narrow rows NumPy adds faster, and elements of a flat array much faster.
    """
    index = index if isinstance(index, tuple) else (index,)
    width, native = math.prod(x.shape[len(index):]), kernel("add_rows", x, values)
    fast = values.size >= FEW if width == 1 else native is not None or (width >= 8 and x.dtype.kind == "f")
    named = _row_numbers(index, x.shape) if fast and x.flags.c_contiguous else None
    if named is None or values.size != named[0] * named[2].size * width:
        np.add.at(x, index, values)
        return x
    before, among, rows = named
    if native and (width == 1 or rows.size <= TERMS or np.bincount(rows).max() <= TERMS):
        native(x, rows, np.ascontiguousarray(values), before, among, rows.size, width)
        return x
    rows = _of_each(before, among, rows)
    if width == 1:
        np.add.at(x.reshape(-1), rows, values.reshape(-1))
    else:
        order = np.argsort(rows, kind="stable")
        ranked = rows[order]
        starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
        x.reshape(-1, width)[ranked[starts]] += np.add.reduceat(values.reshape(-1, width)[order], starts, axis=0)
    return x


def serves_along(x, indices, axis, shape=None):
    """Whether `take_along`, or with the shape of its result `add_along`, does: float32, one shape but for the axis, none of it of
    length 0, and no few of numbers that would have to be copied."""
    shape = x.shape if shape is None else shape
    return ((x.flags.c_contiguous or 4 * indices.size >= x.size) and indices.shape[:axis] == shape[:axis]
            and indices.shape[axis + 1:] == shape[axis + 1:] and min(indices.size, shape[axis]) > 0
            and kernel("take_along", x) is not None)


def take_along(x, indices, axis):
    """The float32 numbers of x that the indices name along an axis."""
    y = empty(indices.shape, x.dtype)
    _along("take_along", np.ascontiguousarray(x), indices, y, axis)
    return y


def add_along(values, indices, axis, shape):
    """Zeros, and the float32 values added where the indices name places along an axis."""
    x = np.zeros(shape, values.dtype)
    _along("add_along", x, indices, np.ascontiguousarray(values), axis)
    return x


def put_along(x, values, indices, axis):
    """A copy of float32 x with the values in the places that the indices name along an axis, of several for a place the last."""
    y = empty(x.shape, x.dtype)
    np.copyto(y, x)
    _along("put_along", y, indices, np.ascontiguousarray(values), axis)
    return y


def last_along(values, indices, axis, shape):
    """Whether each of the values is the one that `put_along` leaves in its place: its number along the axis, in the bits of a
    float32, is put there and taken back."""
    number = np.arange(indices.shape[axis], dtype=np.int32).reshape((-1,) + (1,) * (indices.ndim - 1 - axis))
    number = np.ascontiguousarray(np.broadcast_to(number, indices.shape))
    x = empty(shape, np.float32)
    _along("put_along", x, indices, number.view(np.float32), axis)
    return take_along(x, indices, axis).view(np.int32) == number


def _along(name, x, indices, y, axis):
    indices, wrong = np.ascontiguousarray(indices, np.int64), np.zeros(1, np.int64)
    n, inner = x.shape[axis], math.prod(x.shape[axis + 1:])
    kernel(name)(x, indices, y, wrong, math.prod(x.shape[:axis]), n, indices.shape[axis], inner)
    if wrong[0]:
        bad = indices[(indices < -n) | (indices >= n)]
        raise IndexError(f"index {bad[0]} is out of bounds for axis {axis} with size {n}")


def serves_order(x, axis):
    """Whether `order` is faster than NumPy's stable sort, which finds what is in order: float32 that rises and falls, in rows of
    some length."""
    n = x.shape[axis]
    if x.dtype != np.float32 or not 16 <= n < 2**31:
        return False
    falls = x[(slice(None),) * axis + (slice(1, None),)] < x[(slice(None),) * axis + (slice(-1),)]
    return 0.2 < np.count_nonzero(falls) / falls.size < 0.8


def order(x, axis):
    """The indices that sort float32 numbers along an axis, equal ones in their order and NaN last: whole numbers of 64 bits, a
    number's bits above its place, are sorted fast, and none equals another."""
    bits = x + np.float32(0)  # without -0.0
    np.copyto(bits, np.nan, where=bits != bits)
    bits = bits.view(np.int32)
    bits ^= (bits >> 31) & 0x7fffffff  # of negative numbers the largest bits are the smallest number
    keys = bits.astype(np.int64)
    keys <<= 32
    keys |= np.arange(x.shape[axis]).reshape((-1,) + (1,) * (x.ndim - 1 - axis))
    keys.sort(axis)
    keys &= 0xffffffff
    return keys


def _is_whole(i):
    """Whether an index is `:`; the ends of a slice may be anything, arrays too, which NumPy refuses."""
    return isinstance(i, slice) and i.start is i.stop is i.step is None


def _row_numbers(index, shape):
    """What a tuple of whole axes and then whole numbers names: (before, among, numbers), in each of `before` parts, each of
    `among` rows of the axes that are left, or elements, those with these numbers.

    None: it is another index, or names a row that is not there.
    """
    whole = next((a for a, i in enumerate(index) if not _is_whole(i)), len(index))
    if not whole < len(index) <= len(shape):
        return None
    numbers = None
    for i, n in zip(index[whole:], shape[whole:]):
        if isinstance(i, bool) or not isinstance(i, (int, np.integer, np.ndarray)) or np.asarray(i).dtype.kind not in "iu":
            return None
        i = np.asarray(i).astype(np.int64, copy=False)
        if not i.size or (least := i.min()) < -n or i.max() >= n:
            return None
        i = i if least >= 0 else np.where(i < 0, i + n, i)
        numbers = i if numbers is None else numbers * n + i
    return math.prod(shape[:whole]), math.prod(shape[whole:len(index)]), np.ascontiguousarray(numbers.reshape(-1))


def _of_each(before, among, numbers):
    """The numbers of rows of one part as numbers of rows of all of them."""
    return numbers if before == 1 else (np.arange(before)[:, None] * among + numbers).reshape(-1)
