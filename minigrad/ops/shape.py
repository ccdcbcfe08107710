"""Operations that rearrange elements: the gradient is the arrangement undone."""
from __future__ import annotations

import builtins
import itertools
import math
import operator
from collections.abc import Iterable, Sequence

import numpy as np

from .. import backend
from ..backend import xp
from ..primitive import broadcast_to as _broadcast_to, copy as _copy, Primitive
from ..tensor import OneOrMore, Tensor, TensorLike, as_tensor, flag, held
from ..versions import owner_of
from .declare import operation
from .geometry import Axes, of_a_number, one_axis, one_of, several_axes, speaking_as, whole
from .index import getitem


def _unshared(y, x):
    """`y`, copied if it is in the memory of `x`, from which it was made: what NumPy copies can be changed and leaves x alone."""
    return _copy(y) if owner_of(y._array) is owner_of(x._array) else y


def _or_vector(x, axis):
    """`x`, and where NumPy has a number pass for a vector of one, axis 0 or -1 of a 0-d Tensor, that vector."""
    return _reshape(x, shape=(1,)) if of_a_number(axis, x.ndim) else x


_reshape = Primitive(
    "reshape", lambda x, shape: x.reshape(shape), lambda g, _out, _x, shape: _reshape(g, shape=_x.shape))

_transpose = Primitive(
    "transpose", lambda x, axes: x.transpose(axes),
    lambda g, _out, _x, axes: _transpose(g, axes=tuple(np.argsort(axes).tolist())))


def _joined(*xs, axis):
    if backend.execution.capture is not None and len(xs) > 8:  # then CuPy copies from the host
        return _joined(*[_joined(*xs[i:i + 8], axis=axis) for i in range(0, len(xs), 8)], axis=axis)
    if any(x.dtype != xs[0].dtype for x in xs):  # NumPy knows none that bfloat16 and float16 have together
        dtype = backend.result_type(*[x.dtype for x in xs])
        xs = [x.astype(dtype, copy=False) for x in xs]
    return xp(xs[0]).concatenate(xs, axis=axis)


class _Join(Primitive):
    """Of many inputs. The gradient is cut into all its parts, `parts(g, inputs, axis)`, at once, so that thousands take no longer
    than they must."""

    def __init__(self, name, forward, parts):
        super().__init__(name, forward, rule_for_all=lambda i, g, _out, *_xs, axis: parts(g, _xs, axis)[i])
        self.parts = parts

    def gradients(self, g, node, wanted, receive):
        for x, part in zip(wanted, self.parts(g, node.inputs, **node.settings)):
            if x is not None:
                receive(x, part, self)


def _cut(g, xs, axis):
    return _split(g, cuts=tuple(itertools.accumulate([x.shape[axis] for x in xs[:-1]])), axis=axis)


_concatenate = _Join("concatenate", _joined, _cut)

_stack = _Join("stack", lambda *xs, axis: _joined(*[x[(slice(None),) * axis + (None,)] for x in xs], axis=axis),
               lambda g, xs, axis: _unstack(g, axis=axis))

_split = Primitive(
    "split", lambda x, cuts, axis: tuple([x[(slice(None),) * axis + (slice(a, b),)] for a, b in zip((0, *cuts), (*cuts, None))]),
    lambda g, _out, _x, cuts, axis: concatenate(g, axis))

_unstack = Primitive(
    "unstack", lambda x, axis: tuple([x[(slice(None),) * axis + (i, ...)] for i in range(x.shape[axis])]),
    lambda g, _out, _x, axis: stack(g, axis))

SOME = 256  # parts that are made at a time, so that the first of millions comes at once


def _iterate(self):
    """The parts along the first axis, made some at a time. TypeError: there is no axis."""
    if not self.ndim:
        raise TypeError("iteration over a 0-d Tensor")
    return itertools.chain.from_iterable(_unstack(self[a:a + SOME], axis=0) for a in range(0, len(self), SOME))


Tensor.__iter__ = _iterate

_pad = Primitive(
    "pad", lambda x, widths, constant_values: xp(x).pad(x, widths, constant_values=constant_values),
    lambda g, _out, _x, widths, constant_values: getitem(
        g, tuple(slice(a, a + n) for (a, _), n in zip(widths, _x.shape))))

_flip = Primitive(
    "flip", lambda x, axes: xp(x).flip(x, axes), lambda g, _out, _x, axes: _flip(g, axes=axes))

_roll = Primitive(
    "roll", lambda x, shift, axis: xp(x).roll(x, shift, axis),
    lambda g, _out, _x, shift, axis: _roll(g, shift=tuple(-s for s in shift), axis=axis))


@operation(method=True, numpy=np.reshape)
def reshape(x: TensorLike, *shape: int | Sequence[int]) -> Tensor:
    """`x` with another shape: `reshape(x, (2, 3))` or `reshape(x, 2, 3)`; one length may be -1."""
    return _reshape(x, shape=tuple(shape[0]) if len(shape) == 1 and np.iterable(shape[0]) else shape)


@operation(method=True, numpy=np.ravel)
def ravel(x: TensorLike) -> Tensor:
    """All elements in one axis."""
    return _reshape(x, shape=(-1,) if as_tensor(x).size else (0,))


@operation(method=True)
def flatten(x: TensorLike, start_axis: int = 0, end_axis: int = -1) -> Tensor:
    """The axes from `start_axis` to `end_axis` (inclusive) joined into one. ValueError: the second comes before the first."""
    shape = as_tensor(x).shape
    if not shape:
        return _reshape(x, shape=(1,))
    start, end = several_axes("flatten", (start_axis,), len(shape)) + several_axes("flatten", (end_axis,), len(shape))
    if start > end:
        raise ValueError(f"flatten: axis {start_axis}, where it starts, comes after axis {end_axis} of shape {shape}")
    return _reshape(x, shape=shape[:start] + (math.prod(shape[start:end + 1]),) + shape[end + 1:])


@operation(method=True, numpy=np.transpose)
def transpose(x: TensorLike, *order: int | Sequence[int] | None, axes: Sequence[int] | None = None) -> Tensor:
    """The axes in another order, by default reversed: `transpose(x, (1, 0))`, `transpose(x, 1, 0)` or `axes=(1, 0)`."""
    if order and axes is not None:
        raise TypeError("transpose: the order is given twice, by position and as axes=")
    axes = (axes,) if axes is not None else order
    axes = axes[0] if len(axes) == 1 and (axes[0] is None or np.iterable(axes[0])) else axes or None
    ndim = as_tensor(x).ndim
    axes = tuple(reversed(range(ndim))) if axes is None else several_axes("transpose", axes, ndim)
    if len(axes) != ndim:
        raise ValueError(f"transpose: {len(axes)} axes for a Tensor of {ndim} dimensions")
    return _transpose(x, axes=axes)


@operation(method=True, numpy=np.swapaxes)
def swapaxes(x: TensorLike, axis1: int, axis2: int) -> Tensor:
    """Two axes exchanged."""
    order = list(range(as_tensor(x).ndim))
    a, b = (one_axis("swapaxes", axis, len(order)) for axis in (axis1, axis2))
    order[a], order[b] = b, a
    return _transpose(x, axes=tuple(order))


@operation(numpy=np.moveaxis)
def moveaxis(x: TensorLike, source: Axes, destination: Axes) -> Tensor:
    """Axes `source` moved to the places `destination`, the others kept in order."""
    ndim = as_tensor(x).ndim
    source, destination = several_axes("moveaxis", source, ndim), several_axes("moveaxis", destination, ndim)
    if len(source) != len(destination):
        raise ValueError(f"moveaxis: {len(source)} axes to {len(destination)} places")
    order = [a for a in range(ndim) if a not in source]
    for place, a in sorted(zip(destination, source)):
        order.insert(place, a)
    return _transpose(x, axes=tuple(order))


@operation(method=True, numpy=np.expand_dims)
def expand_dims(x: TensorLike, axis: Axes) -> Tensor:
    """New axes of length 1 at the places `axis` of the result."""
    shape = list(as_tensor(x).shape)
    if axis is None:
        raise TypeError("expand_dims: axis is a whole number or several, not None")
    count = len(tuple(axis)) if np.iterable(axis) else 1
    for a in sorted(several_axes("expand_dims", axis, len(shape) + count)):
        shape.insert(a, 1)
    return _reshape(x, shape=tuple(shape))


@operation(method=True, numpy=np.squeeze)
def squeeze(x: TensorLike, axis: Axes | None = None) -> Tensor:
    """Without its axes of length 1, or without those of them named by `axis`."""
    shape = as_tensor(x).shape
    if axis is None or of_a_number(axis, len(shape)):
        axes = [a for a, n in enumerate(shape) if n == 1]
    else:
        axes = several_axes("squeeze", axis, len(shape))
    if any(shape[a] != 1 for a in axes):
        raise ValueError(f"squeeze: an axis of {axis} has not length 1 in shape {shape}")
    return _reshape(x, shape=tuple(n for a, n in enumerate(shape) if a not in axes))


@operation(method=True, numpy=np.broadcast_to)
def broadcast_to(x: TensorLike, shape: Axes) -> Tensor:
    """`x` repeated, without copying, to `shape`, in which -1 stands for the length that an axis of x has."""
    x, shape = as_tensor(x), tuple(shape) if np.iterable(shape) else (shape,)
    try:
        shape = tuple(map(operator.index, shape))
    except (TypeError, ValueError):  # ValueError: a Tensor of several numbers
        raise TypeError(f"broadcast_to: shape must be whole numbers, not {shape}") from None
    if -1 in shape:
        new = len(shape) - x.ndim
        if new < 0 or -1 in shape[:new]:
            raise ValueError(f"broadcast_to: -1 in {shape} stands for no axis of a Tensor of shape {x.shape}")
        shape = shape[:new] + tuple(own if n == -1 else n for n, own in zip(shape[new:], x.shape))
    return _broadcast_to(x, shape=shape)


def _several(name, tensors):
    """A list of the Tensors of a sequence, which is not empty."""
    if not np.iterable(tensors) or isinstance(tensors, (str, bytes)):
        raise TypeError(f"{name}: a sequence of Tensors wanted, not {type(tensors).__name__}")
    tensors = [as_tensor(x) for x in (as_tensor(tensors) if backend.is_array(tensors) else tensors)]
    if not tensors:
        raise ValueError(f"{name}: need at least one Tensor")
    return tensors


@operation(numpy=np.concatenate)
def concatenate(tensors: Iterable[TensorLike], axis: int | None = 0) -> Tensor:
    """Tensors joined along an existing axis; with `axis=None` flattened first."""
    tensors = _several("concatenate", tensors)
    if axis is None:
        tensors, axis = [ravel(x) for x in tensors], 0
    return _concatenate(*tensors, axis=one_axis("concatenate", axis, tensors[0].ndim))


@operation(numpy=np.stack)
def stack(tensors: Iterable[TensorLike], axis: int = 0) -> Tensor:
    """Tensors of one shape joined along a new axis."""
    tensors = _several("stack", tensors)
    if len({x.shape for x in tensors}) != 1:
        raise ValueError(f"stack: need Tensors of one shape, got {[x.shape for x in tensors]}")
    return _stack(*tensors, axis=one_axis("stack", axis, tensors[0].ndim + 1))


@operation
def atleast_1d(*tensors: TensorLike) -> OneOrMore:
    """A number as (1,), others as they are; of several a tuple."""
    return _each(tensors, lambda x: x if x.ndim else reshape(x, (1,)))


@operation
def atleast_2d(*tensors: TensorLike) -> OneOrMore:
    """With new first axes, if there are fewer than two; of several a tuple."""
    return _each(tensors, lambda x: x if x.ndim > 1 else reshape(x, (1, x.size)))


@operation
def atleast_3d(*tensors: TensorLike) -> OneOrMore:
    """(n,) as (1, n, 1), (m, n) as (m, n, 1), a number as (1, 1, 1), as `numpy.atleast_3d`; of several a tuple."""
    return _each(tensors, lambda x: x if x.ndim > 2 else reshape(x, (*x.shape, 1) if x.ndim == 2 else (1, x.size, 1)))


def _each(tensors, function):  # NumPy's own are left to NumPy: with them SciPy makes arrays of what it is given
    results = tuple(function(as_tensor(x)) for x in tensors)
    return results[0] if len(results) == 1 else results


@operation(numpy=np.vstack)
def vstack(tensors: Iterable[TensorLike]) -> Tensor:
    """Joined along the first axis, vectors as rows."""
    with speaking_as("vstack"):
        return concatenate([atleast_2d(x) for x in _several("vstack", tensors)], 0)


@operation(numpy=np.hstack)
def hstack(tensors: Iterable[TensorLike]) -> Tensor:
    """Joined along the second axis, vectors along their only one."""
    tensors = [atleast_1d(x) for x in _several("hstack", tensors)]
    with speaking_as("hstack"):
        return concatenate(tensors, 0 if tensors[0].ndim == 1 else 1)


@operation(numpy=np.column_stack)
def column_stack(tensors: Iterable[TensorLike]) -> Tensor:
    """Joined along the second axis, vectors as columns."""
    tensors = _several("column_stack", tensors)
    with speaking_as("column_stack"):
        return concatenate([reshape(x, (x.size, 1)) if x.ndim < 2 else x for x in tensors], 1)


@operation(numpy=np.dstack)
def dstack(tensors: Iterable[TensorLike]) -> Tensor:
    """Joined along the third axis, after `atleast_3d`."""
    with speaking_as("dstack"):
        return concatenate([atleast_3d(x) for x in _several("dstack", tensors)], 2)


@operation(numpy=np.meshgrid)
def meshgrid(*tensors: TensorLike, indexing: str = "xy", sparse: bool = False) -> tuple[Tensor, ...]:
    """The coordinates of the points of a grid, from those along each of its axes, as `numpy.meshgrid`: a tuple of Tensors.

    Args:
        indexing: "ij" for results of shape (len(x), len(y), ...), "xy" with the first two axes exchanged.
        sparse: leave each with length 1 along the axes of the others, to which it broadcasts.
    """
    one_of("meshgrid", "indexing", indexing, ("xy", "ij"))
    xs, sparse = [ravel(x) for x in tensors], flag("meshgrid", "sparse", sparse)
    xs = [reshape(x, [x.size if a == i else 1 for a in range(len(xs))]) for i, x in enumerate(xs)]
    if indexing == "xy" and len(xs) > 1:
        xs = [swapaxes(x, 0, 1) for x in xs]
    shape = np.broadcast_shapes(*[x.shape for x in xs])
    return tuple([_unshared(x if sparse else broadcast_to(x, shape), x) for x in xs])


@operation(numpy=np.diff)
def diff(x: TensorLike, n: int = 1, axis: int = -1, prepend: TensorLike | None = None,
         append: TensorLike | None = None) -> Tensor:
    """Differences of neighbours along an axis, taken `n` times; of bools whether they differ.

    `prepend` and `append` are put before and after x first; a number counts as one element everywhere along the axis.
    """
    x, n = as_tensor(x), whole("diff", "n", n, 0)
    axis = one_axis("diff", axis, x.ndim)
    one = (*x.shape[:axis], 1, *x.shape[axis + 1:])
    ends = [None if e is None else broadcast_to(e, one) if as_tensor(e).ndim == 0 else as_tensor(e) for e in (prepend, append)]
    if n and (prepend is not None or append is not None):
        with speaking_as("diff"):
            x = concatenate([part for part in (ends[0], x, ends[1]) if part is not None], axis)
    for _ in range(n):
        length = builtins.max(x.shape[axis] - 1, 0)
        after, before = _part(x, axis, x.shape[axis] - length, length), _part(x, axis, 0, length)
        x = after != before if x.dtype == bool else after - before
    return x


def _part(x, axis, start, length):
    """The part of `length` elements from `start` along one axis (not negative)."""
    return getitem(x, (slice(None),) * axis + (slice(start, start + length),))


@operation(numpy=getattr(np, "unstack", ()))
def unstack(x: TensorLike, axis: int = 0) -> tuple[Tensor, ...]:
    """The parts along one axis, without it: what `stack` joins."""
    x = as_tensor(x)
    return _unstack(x, axis=one_axis("unstack", axis, x.ndim))


@operation(method=True, numpy=np.split)
def split(x: TensorLike, indices_or_sections: Axes, axis: int = 0) -> list[Tensor]:
    """A list of parts along one axis: so many equal ones, or cut before each of the given indices.

    Raises:
        ValueError: the axis cannot be divided into equal parts (`array_split` does not mind).
    """
    x = as_tensor(x)
    n = x.shape[one_axis("split", axis, x.ndim)]
    if not np.iterable(indices_or_sections) and n % whole("split", "indices_or_sections", indices_or_sections, 1):
        raise ValueError(f"split: {n} elements do not divide into {indices_or_sections} equal parts")
    with speaking_as("split"):
        return array_split(x, indices_or_sections, axis)


@operation(numpy=np.array_split)
def array_split(x: TensorLike, indices_or_sections: Axes, axis: int = 0) -> list[Tensor]:
    """As `split`; where the parts cannot be equal the first ones are longer by one."""
    x = as_tensor(x)
    axis = one_axis("array_split", axis, x.ndim)
    n = x.shape[axis]
    if np.iterable(indices_or_sections):
        cuts = [whole("array_split", "indices_or_sections", i, -math.inf) for i in indices_or_sections]
        cuts = [slice(None, i).indices(n)[1] for i in cuts]
    else:
        indices_or_sections = whole("array_split", "indices_or_sections", indices_or_sections, 1)
        size, extra = divmod(n, indices_or_sections)
        cuts = [i * size + min(i, extra) for i in range(1, indices_or_sections)]
    if cuts == sorted(cuts):
        return list(_split(x, cuts=tuple(cuts), axis=axis))
    return [_part(x, axis, a, max(b - a, 0)) for a, b in zip([0, *cuts], [*cuts, n])]  # some overlap


@operation(numpy=np.pad)
def pad(x: TensorLike, pad_width: Axes | Sequence[Sequence[int]], mode: str = "constant", constant_values: float = 0) -> Tensor:
    """`x` with `pad_width` = ((before, after), ...) elements added to each axis, as `numpy.pad`.

    Modes: "constant", and by repeating elements "edge", "reflect", "symmetric" and "wrap".
    """
    x = as_tensor(x)
    try:
        given = np.asarray(pad_width)
        widths = np.broadcast_to(given, (x.ndim, 2)).tolist()
    except ValueError:
        raise ValueError(f"pad: pad_width is one number, (before, after), or such a pair for each of {x.ndim} axes, not "
                         f"{pad_width!r}") from None
    for width in given.ravel().tolist():  # of a number too, which has no axes
        whole("pad", "pad_width", width, 0)
    widths = tuple((whole("pad", "pad_width", a, 0), whole("pad", "pad_width", b, 0)) for a, b in widths)
    one_of("pad", "mode", mode, ("constant", "edge", "reflect", "symmetric", "wrap"))
    if mode == "constant" and widths:
        as_tensor(constant_values)  # TypeError of what is no number
        value = constant_values if isinstance(constant_values, Tensor) else held("pad", constant_values, x.dtype)
        return _pad(x, widths=widths, constant_values=value)
    y = x
    for axis, (width, n) in enumerate(zip(widths, x.shape)):
        if width != (0, 0):
            if not n:
                raise ValueError(f"pad: mode {mode!r} has nothing to repeat along axis {axis} of shape {x.shape}")
            y = getitem(y, (slice(None),) * axis + (np.pad(np.arange(n), width, mode=mode),))
    return _unshared(y, x)


@operation(method=True, numpy=np.flip)
def flip(x: TensorLike, axis: Axes | None = None) -> Tensor:
    """The elements along each of the axes in reverse order."""
    return _flip(x, axes=several_axes("flip", axis, as_tensor(x).ndim))


@operation(numpy=np.rot90)
def rot90(x: TensorLike, k: int = 1, axes: Sequence[int] = (0, 1)) -> Tensor:
    """Turned by `k` right angles in the plane of two axes, from the first towards the second."""
    x, k = as_tensor(x), whole("rot90", "k", k, -math.inf) % 4
    axes = several_axes("rot90", () if axes is None else axes, x.ndim)
    if len(axes) != 2:
        raise ValueError(f"rot90: two axes wanted, not {axes}")
    turned = flip(x, axes[1]) if k in (1, 2) else x
    turned = swapaxes(turned, *axes) if k % 2 else turned
    return flip(turned, axes[1] if k == 3 else axes[0]) if k > 1 else turned


@operation(numpy=np.roll)
def roll(x: TensorLike, shift: Axes, axis: Axes | None = None) -> Tensor:
    """The elements shifted along an axis, those that leave one end entering at the other. None: of the flat Tensor.

    Several shifts or axes are taken in pairs; one number goes with all of the others. Shifts of one axis add up.
    """
    x = as_tensor(x)
    if axis is None:
        return reshape(roll(ravel(x), shift, 0), x.shape)
    axes = [one_axis("roll", a, x.ndim) for a in (axis if np.iterable(axis) else [axis])]
    shifts = [whole("roll", "shift", s, -math.inf) for s in (shift if np.iterable(shift) else [shift])]
    if len(shifts) != len(axes) and 1 not in (len(shifts), len(axes)):
        raise ValueError(f"roll: {len(shifts)} shifts for {len(axes)} axes")
    sums = {}
    for by, a in np.broadcast(shifts, axes):
        sums[int(a)] = sums.get(int(a), 0) + int(by)
    return _roll(x, shift=tuple(sums.values()), axis=tuple(sums))


@operation(method=True, numpy=np.repeat)
def repeat(x: TensorLike, repeats: Axes, axis: int | None = None) -> Tensor:
    """Each element `repeats` times (a number, or one per element along the axis)."""
    x, axis = (ravel(x), 0) if axis is None else (_or_vector(as_tensor(x), axis), axis)
    axis = one_axis("repeat", axis, x.ndim)
    repeats = [whole("repeat", "repeats", n, 0) for n in (repeats if np.iterable(repeats) else [repeats])]
    if len(repeats) not in (1, x.shape[axis]):
        raise ValueError(f"repeat: {len(repeats)} repeats for an axis of length {x.shape[axis]}")
    return getitem(x, (slice(None),) * axis + (np.repeat(np.arange(x.shape[axis]), repeats),))


@operation(numpy=np.tile)
def tile(x: TensorLike, reps: Axes) -> Tensor:
    """`x` repeated as a whole `reps` times along each axis, as `numpy.tile`."""
    x, reps = as_tensor(x), tuple(whole("tile", "reps", n, 0) for n in (reps if np.iterable(reps) else (reps,)))
    ndim = builtins.max(x.ndim, len(reps))
    reps = (1,) * (ndim - len(reps)) + reps
    shape = (1,) * (ndim - x.ndim) + x.shape
    paired = reshape(x, [n for length in shape for n in (1, length)])
    spread = broadcast_to(paired, [n for pair in zip(reps, shape) for n in pair])
    return _unshared(reshape(spread, [r * n for r, n in zip(reps, shape)]), x)


def _matrix_transpose(x: TensorLike) -> Tensor:
    """The last two axes exchanged."""
    with speaking_as("mT"):
        return swapaxes(x, -1, -2)


Tensor.T = property(transpose, doc="The axes in reverse order.")
Tensor.mT = property(_matrix_transpose)
