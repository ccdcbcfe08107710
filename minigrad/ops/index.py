"""Reading and writing elements by index. `x[i]` and "zeros with values added at i" are each other's gradient."""
from __future__ import annotations

import contextlib

import numpy as np

from ..backend import as_dtype, is_array, is_float, is_half, path, where as choose, with_paths, WORTH_A_PATH, xp
from ..backend.indexing import check_index
from ..primitive import Primitive
from ..tensor import DTypeLike, Index, Tensor, TensorLike, as_tensor, asarray, assignable, flag, held, wrap
from .declare import operation
from .elementwise import where, zeros_like
from .geometry import of_a_number, one_axis, speaking_as, whole


def _is_basic(index):
    """Whether an index is made of integers, slices, None and ... only, which pick each element at most once."""
    items = index if isinstance(index, tuple) else (index,)
    return all(i is None or i is Ellipsis or isinstance(i, (slice, int, np.integer)) and not isinstance(i, (bool, np.bool_))
               for i in items)


def _is_mask(index):
    """Whether an index is one mask of the host, among slices and integers perhaps: it picks each element at most once, too."""
    items = index if isinstance(index, tuple) else (index,)
    masks = [i for i in items if type(i) is np.ndarray and i.dtype == bool]
    return len(masks) == 1 and _is_basic(tuple(i for i in items if i is not masks[0]))


def _added_at(x, values, index):
    """x[index] += values, where an element that the index names twice receives both. Changes x, and returns it."""
    if _is_basic(index):
        x[index] += values
    elif is_half(x.dtype):  # CuPy adds no bfloat16, and many terms of 16 bits would be lost in their sum
        x[...] = _add_at(x.astype(np.float32), values.astype(np.float32), index=index)
    elif xp(x) is np or is_float(x.dtype):
        xp(x).add.at(x, index, values)
    else:  # CuPy adds few integers
        x[...] = _added_at(x.astype(np.float64), values.astype(np.float64), index)
    return x


_add_at = with_paths("add_at", _added_at)


def _scatter(values, index, shape):
    out = xp(values).zeros(shape, values.dtype)
    if _is_basic(index) or xp(values) is np and _is_mask(index):
        out[index] = values
        return out
    return _add_at(out, values, index=index)


def _read(x, index):
    """x[index]; of a large array by its path, where the index is an array or a tuple that ends in one."""
    parts = index if type(index) is tuple else (index,)
    large = x.size >= WORTH_A_PATH and parts and type(parts[-1]) is np.ndarray
    return found.forward(x, parts) if large and (found := path("getitem", (x,))) else x[index]


_getitem = Primitive(
    "getitem", _read,
    lambda g, _out, _x, index: _zeros_with(g, index=index, shape=_x.shape))

_zeros_with = Primitive(
    "zeros_with", _scatter, lambda g, _out, _values, index, shape: _getitem(g, index=index))


def _plain(x, index):
    """An index of the Tensor x without Tensors or lists in it, and safe from later changes of the arrays that it names.

    Raises:
        IndexError: as NumPy's; on the GPU indices that are there are not read.
    """
    def plain(i):
        i = asarray(i)
        if isinstance(i, list):
            return np.asarray(i, dtype=None if len(i) else np.intp)
        return i.copy() if is_array(i) else i

    if isinstance(index, Tensor):
        _check_index(index)
    if isinstance(index, tuple):
        for i in index:
            _check_index(i)
        index = tuple(plain(i) for i in index)
    else:
        index = plain(index)
    if type(x._array) is not np.ndarray:
        check_index(x._array, index)
    return index


def _check_index(i):
    if isinstance(i, Tensor) and is_float(i.dtype):
        raise IndexError(f"getitem: a Tensor used as an index must hold integers or bools, not {i.dtype}")


@operation
def getitem(x: TensorLike, index: Index) -> Tensor:
    """`x[index]` for any index that NumPy knows: integers, slices, None, ..., integer arrays, masks."""
    x = as_tensor(x)
    return _getitem(x, index=_plain(x, index))


Tensor.__getitem__ = getitem


def _replaced(x, values, index):
    if xp(x) is not np and not _is_basic(index):  # the GPU has no order in which it writes
        written = _written(values, index, x.shape)
        return choose(written >= 0, values.reshape(-1)[written], x) if values.size else x.copy()
    out = x.copy()
    out[index] = values
    return out


def _written(values, index, shape):
    """For each place the position of the value that is written there, the last one if there are several; else -1."""
    module = xp(values)
    order = module.arange(values.size).reshape(values.shape)
    written = module.full(shape, -1)
    if module is np or _is_basic(index):
        written[index] = order
        return written
    places = module.zeros(shape, np.uint64)  # CuPy's largest of several is not for int64: positions from 1, and 0 for none
    module.maximum.at(places, index, (order + 1).astype(np.uint64))
    return places.astype(np.int64) - 1


def _winners(values, index, shape):
    """True for the values that stay when several are written to one place, in a shape that broadcasts to theirs."""
    parts, left = index if isinstance(index, tuple) else (index,), 0
    if xp(values) is np and parts and all([is_array(i) and i.dtype.kind in "iu" for i in parts]):  # which name rows as a whole
        left = len(shape) - len(parts)
        values, shape = np.broadcast_to(False, values.shape[:values.ndim - left]), shape[:len(parts)]
    stay = _stay(values, index, shape)
    return stay.reshape(stay.shape + (1,) * left)


def _stay(values, index, shape):
    """The same of an index that names each value's place."""
    return _written(values, index, shape)[index] == xp(values).arange(values.size).reshape(values.shape)


_index_update = Primitive(
    "index_update", _replaced,
    lambda g, _out, _x, _values, index: _index_update(g, zeros_like(getitem(g, index)), index=index),
    lambda g, _out, x, values, index: where(_winners(values._array, index, x.shape), getitem(g, index), 0))


@operation
def index_update(x: TensorLike, index: Index, values: TensorLike) -> Tensor:
    """A copy of `x` in which `x[index] = values`. Where the index repeats, the last value stays, as in NumPy."""
    x = as_tensor(x)
    index = _plain(x, index)
    values = _spread("index_update", x, index, values)
    with speaking_as("index_update"):
        return _index_update(x, values, index=index)


@operation
def index_add(x: TensorLike, index: Index, values: TensorLike) -> Tensor:
    """A copy of `x` in which `x[index] += values`. Where the index repeats, all the values are added."""
    x = as_tensor(x)
    index = _plain(x, index)
    values = _spread("index_add", x, index, values)
    with speaking_as("index_add"):
        return x + _zeros_with(values, index=index, shape=x.shape)


def _spread(of, x, index, values):
    """The values in the dtype of x and the shape of x[index]."""
    try:
        shape = _shape_at(x._array, index)
    except (IndexError, TypeError, ValueError) as error:  # the last two of a slice that is none
        raise type(error)(f"{of}: {error} (x of shape {x.shape})") from None
    return _fitting(of, x, shape, values)


def _fitting(of, x, shape, values):
    """The values in the dtype of x and this shape, that of x at the index."""
    if isinstance(values, (int, float, np.generic, np.ndarray)):
        values = held(of, values, x.dtype)
    elif not isinstance(values, Tensor):
        values = assignable(values)
    if not isinstance(values, Tensor):
        with speaking_as(of):
            values = Tensor(xp(x._array).asarray(values, dtype=x.dtype))
    try:
        return (values if values.dtype == x.dtype else values.astype(x.dtype)).broadcast_to(shape)
    except ValueError:
        raise ValueError(f"{of}: values of shape {values.shape} do not broadcast to {shape}, the shape of x[index]") from None


def _shape_at(x, index):
    """The shape of x[index]; of integer arrays, perhaps behind whole axes, without reading x."""
    parts = index if isinstance(index, tuple) else (index,)
    whole = next((a for a, i in enumerate(parts)
                  if not (isinstance(i, slice) and i.start is i.stop is i.step is None)), len(parts))
    named = parts[whole:]
    if named and len(parts) <= x.ndim and all([is_array(i) and i.dtype.kind in "iu" for i in named]):
        with contextlib.suppress(ValueError):  # which NumPy's indexing makes an IndexError
            return x.shape[:whole] + np.broadcast_shapes(*[i.shape for i in named]) + x.shape[len(parts):]
    return _read(x, index).shape


def _whole_indices(name, x, indices, axis=None):
    """The array of indices that `name` takes elements of the Tensor x by, along an axis that it has or of the flat one.

    Raises:
        TypeError: they are no whole numbers; IndexError: x is on the GPU, where CuPy takes remainders, and they, on the host, are
            out of bounds.
    """
    indices = indices if is_array(indices := asarray(indices)) else np.asarray(indices)
    if indices.dtype.kind not in "iu" and (indices.size or not is_float(indices.dtype)):  # an empty list is of floats
        raise TypeError(f"{name}: indices must be integers, not {indices.dtype}")
    n = x.size if axis is None else x.shape[axis]
    if xp(x._array) is not np is xp(indices) and indices.size and not -n <= indices.min() <= indices.max() < n:
        raise IndexError(f"{name}: indices from {-n} to {n - 1} wanted, got {indices.min()} to {indices.max()}")
    indices = xp(x._array).asarray(indices)
    return indices.astype(np.intp) if is_float(indices.dtype) else indices


def _along(indices, axis, ndim):
    """The index tuple that picks `indices` along one axis and itself along the others."""
    module = xp(indices)
    return tuple([indices if a == axis else module.arange(n).reshape((1,) * a + (n,) + (1,) * (ndim - a - 1))
                  for a, n in enumerate(indices.shape)])


@operation(numpy=np.take_along_axis)
def take_along_axis(x: TensorLike, indices: TensorLike, axis: int | None = -1) -> Tensor:
    """Elements picked by an array of indices along one axis, as `numpy.take_along_axis`; axis None: of the flat Tensor.

    Raises:
        TypeError: the indices are no integers; ValueError: they have not as many axes as x; IndexError: one is out of bounds, or
            another axis has a length that is neither the one of x nor 1.
    """
    x = as_tensor(x)
    axis = axis if axis is None else one_axis("take_along_axis", axis, x.ndim)
    indices = _whole_indices("take_along_axis", x, indices, axis)
    if axis is None:
        if indices.ndim != 1:
            raise ValueError(f"take_along_axis: with axis None indices of one axis wanted, not of shape {indices.shape}")
        with speaking_as("take_along_axis"):
            return getitem(x.reshape(-1), indices)
    _check_axes("take_along_axis", x, indices)
    if any(n != m and 1 not in (n, m) for a, (n, m) in enumerate(zip(x.shape, indices.shape)) if a != axis):
        raise IndexError(f"take_along_axis: indices of shape {indices.shape} for shape {x.shape}; but along axis {axis} equal "
                         "lengths are wanted, or 1")
    if not _all_beside(x, indices, axis):
        spread = x.broadcast_to(_spread_shape(x.shape, indices.shape, axis))
        indices = xp(indices).broadcast_to(indices, _spread_shape(indices.shape, x.shape, axis))
        x = spread
    return take_along(x, indices=indices.copy() if x.requires_grad else indices, axis=axis)


take_along = Primitive(  # of indices that nobody changes later, from 0 or the end, of x's shape but along the axis
    "take_along_axis", with_paths("take_along_axis", lambda x, indices, axis: _read(x, _along(indices, axis, x.ndim))),
    lambda g, _out, _x, indices, axis: _add_along(g, indices=indices, axis=axis, shape=_x.shape))

_add_along = Primitive(
    "add_along_axis", with_paths("add_along_axis", lambda values, indices, axis, shape: _scatter(
        values, _along(indices, axis, values.ndim), shape)),
    lambda g, _out, _values, indices, axis, shape: take_along(g, indices=indices, axis=axis))

_last_along = with_paths("last_along_axis", lambda values, indices, axis, shape: _stay(
    values, _along(indices, axis, values.ndim), shape), least=WORTH_A_PATH)


def _to_the_last(g, indices, axis):
    """What `take_along` takes, of several from one place for the last alone."""
    taken = take_along(g, indices=indices, axis=axis)
    return where(_last_along(taken._array, indices=indices, axis=axis, shape=g.shape), taken, 0)


_put_along = Primitive(
    "put_along_axis", with_paths("put_along_axis", lambda x, values, indices, axis: _replaced(
        x, values, _along(indices, axis, x.ndim)), least=WORTH_A_PATH),
    lambda g, _out, _x, _values, indices, axis: _put_along(
        g, wrap(xp(g._array).zeros(indices.shape, g.dtype)), indices=indices, axis=axis),
    lambda g, _out, _x, _values, indices, axis: _to_the_last(g, indices, axis))


def _check_axes(name, x, indices):
    if indices.ndim != x.ndim:
        raise ValueError(f"{name}: indices of shape {indices.shape} for shape {x.shape}; as many axes are wanted")


def _checked(name, x, indices, axis):
    """The array of indices along one axis of x, and that axis."""
    axis = one_axis(name, axis, x.ndim)
    indices = _whole_indices(name, x, indices, axis)
    _check_axes(name, x, indices)
    return indices, axis


def _all_beside(x, indices, axis):
    """Whether arrays, or Tensors, have one shape but for the axis."""
    return x.shape[:axis] == indices.shape[:axis] and x.shape[axis + 1:] == indices.shape[axis + 1:]


def _spread_shape(shape, other, axis):
    """`shape` with the lengths of `other` where it has 1, but along the axis."""
    return [n if a == axis or n != 1 else m for a, (n, m) in enumerate(zip(shape, other))]


@operation
def scatter_add(x: TensorLike, indices: TensorLike, values: TensorLike, axis: int) -> Tensor:
    """A copy of `x` with `values` added at `indices` along one axis: what `take_along_axis` reads, this writes.

    `indices` and `values` have one shape, of as many axes as x; an index that repeats receives all its values. Errors as of
    `take_along_axis`.
    """
    x = as_tensor(x)
    indices, axis = _checked("scatter_add", x, indices, axis)
    with speaking_as("scatter_add"):
        if not _all_beside(x, indices, axis):
            return index_add(x, _along(indices, axis, x.ndim), values)
        values = _fitting("scatter_add", x, indices.shape, values)
        return x + _add_along(values, indices=indices.copy() if values.requires_grad else indices, axis=axis, shape=x.shape)


@operation
def scatter(x: TensorLike, indices: TensorLike, values: TensorLike, axis: int) -> Tensor:
    """A copy of `x` with `values` in the places `indices` along one axis; of a place named twice the last value stays.

    `indices` and `values` have one shape, of as many axes as x. Errors as of `take_along_axis`.
    """
    x = as_tensor(x)
    indices, axis = _checked("scatter", x, indices, axis)
    with speaking_as("scatter"):
        if not _all_beside(x, indices, axis):
            return index_update(x, _along(indices, axis, x.ndim), values)
        values = _fitting("scatter", x, indices.shape, values)
        recorded = x.requires_grad or values.requires_grad
        return _put_along(x, values, indices=indices.copy() if recorded else indices, axis=axis)


@operation
def one_hot(indices: TensorLike, num_classes: int, *, dtype: DTypeLike = "float32") -> Tensor:
    """(..., num_classes): 1 at each index, 0 elsewhere.

    Raises:
        TypeError: the indices are not integers; ValueError: one is not from 0 to num_classes - 1.
    """
    indices = as_tensor(indices)._array
    if indices.dtype.kind not in "iu":
        raise TypeError(f"one_hot: indices must be integers, not {indices.dtype}")
    num_classes = whole("one_hot", "num_classes", num_classes, 0)
    if indices.size and not 0 <= int(indices.min()) <= int(indices.max()) < num_classes:
        raise ValueError(f"one_hot: indices from 0 to {num_classes - 1} wanted for num_classes={num_classes}, "
                         f"got {indices.min()} to {indices.max()}")
    return Tensor((indices[..., None] == xp(indices).arange(num_classes)).astype(as_dtype(dtype)))


@operation(method=True, numpy=np.take)
def take(x: TensorLike, indices: TensorLike, axis: int | None = None) -> Tensor:
    """Elements (axis None) or slices along one axis, by an array of indices of any shape, as `numpy.take`.

    Raises:
        TypeError: the indices are no integers (for a mask there is x[mask]); IndexError: one is out of bounds.
    """
    x = as_tensor(x)
    axis = None if axis is None or of_a_number(axis, x.ndim) else one_axis("take", axis, x.ndim)
    indices, flat = _whole_indices("take", x, indices, axis), axis is None
    before = () if flat else (slice(None),) * axis
    with speaking_as("take"):
        return getitem(x.reshape(-1) if flat else x, (*before, indices))


_stable_order = with_paths("argsort", lambda x, axis: xp(x).argsort(x, axis=axis, kind="stable"), least=WORTH_A_PATH)


def _order(x, axis):
    """The indices that sort x; CuPy sorts no bfloat16."""
    return _stable_order(x.astype(np.float32) if is_half(x.dtype) else x, axis=axis)


@operation(method=True, numpy=np.argsort)
def argsort(x: TensorLike, axis: int | None = -1, *, descending: bool = False) -> Tensor:
    """The indices that `sort` the elements along one axis (None: of the flat Tensor); equal ones keep their order."""
    x = as_tensor(x)
    order = _descending if flag("argsort", "descending", descending) else _order
    if axis is None or of_a_number(axis, x.ndim):
        return Tensor(order(x._array.reshape(-1), 0))
    return Tensor(order(x._array, one_axis("argsort", axis, x.ndim)))


@operation(method=True, numpy=np.sort)
def sort(x: TensorLike, axis: int | None = -1, *, descending: bool = False) -> Tensor:
    """The elements along one axis in ascending or descending order (axis None: of the flat Tensor).

    Each keeps its own gradient. NaN stands last, or, descending, first.
    """
    x = as_tensor(x)
    if axis is None:
        return sort(x.reshape(-1), 0, descending=descending)
    axis = one_axis("sort", axis, x.ndim)
    order = (_descending if flag("sort", "descending", descending) else _order)(x._array, axis)
    return take_along(x, indices=order, axis=axis)


def _descending(array, axis):
    """The indices that sort from the largest; a stable sort of the reverse, reversed, keeps the first of equals first."""
    flipped = xp(array).flip(array, axis)
    return array.shape[axis] - 1 - xp(array).flip(_order(flipped, axis), axis)


@operation(method=True)
def top_k(x: TensorLike, k: int, axis: int = -1, *, largest: bool = True) -> tuple[Tensor, Tensor]:
    """The k largest elements along one axis, largest first, and their indices; among equals the first come first.

    Args:
        largest: false for the k smallest, smallest first.

    Returns:
        (values, indices): two Tensors with k elements along the axis; the indices carry no gradient.

    Raises:
        ValueError: the axis has fewer than k elements.
    """
    x, k = as_tensor(x), whole("top_k", "k", k, 0)
    axis = one_axis("top_k", axis, x.ndim)
    if k > x.shape[axis]:
        raise ValueError(f"top_k: {k} of the {x.shape[axis]} elements along axis {axis}")
    indices = _best(x._array, k, axis, _descending if flag("top_k", "largest", largest) else _order)
    return take_along(x, indices=indices, axis=axis), Tensor(indices)


def _best(array, k, axis, order):
    """The indices of the first k along an axis in the order of `_descending` or `_order`. Of few of many only those are sorted:
    what comes before the k-th, and of its equals the first."""
    n, largest = array.shape[axis], order is _descending
    if xp(array) is np and k == 1 and largest and not is_half(array.dtype):
        return array.argmax(axis, keepdims=True)
    if xp(array) is np and 0 < 4 * k <= n and not is_half(array.dtype):
        if (found := path("top_k", (array,))) and (indices := found.forward(array, k, axis, largest)) is not None:
            return indices
        rows, place = np.moveaxis(array, axis, -1), n - k if largest else k - 1
        last = np.partition(rows, place)[..., place, None]
        if not (last != last).any():  # NaN has no equals
            before, level = ~(rows <= last) if largest else rows < last, rows == last
            level &= level.cumsum(-1, dtype=np.int32) <= k - before.sum(-1, keepdims=True)
            found = (before | level).nonzero()[-1].reshape(*rows.shape[:-1], k)
            found = np.take_along_axis(found, order(np.take_along_axis(rows, found, -1), -1), -1)
            return np.moveaxis(found, -1, axis)
    return order(array, axis)[(slice(None),) * axis + (slice(0, k),)]
