"""Tensors: arrays that remember how they were computed.

A Tensor that an operation made knows its `Node` in the graph (primitive.py); one that was made of numbers is a leaf, and if it
requires a gradient, backward passes (backward.py) leave it in `.grad`. Operations are attached to this class where they are
declared (minigrad/ops/).
"""
from __future__ import annotations

import copy
import operator
import sys
import types
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from . import backend
from .backend import xp
from .backend.indexing import check_index
from .recording import state, whose
from .versions import check_writable, mark_changed


class Tensor:
    """An array that remembers how it was computed, so that gradients can flow back through it.

    `x += y` and its like make a new Tensor, `x = x + y`, but under `no_grad()` they change a leaf that requires a gradient:
    `p -= lr * p.grad` is a step of gradient descent.

    Args:
        array: a NumPy or CuPy array (shared, not copied), a number, nested lists of numbers, or a Tensor, whose values alone are
            taken: gradients stop there.
        requires_grad: whether gradients with respect to this Tensor are wanted. Floating point only.
        dtype: convert to this dtype first.
        device: copy to this device ("cpu", "cuda", "cuda:N") if it is on another.

    Attributes:
        grad: what `backward()` accumulated here, a Tensor of the same shape and dtype, or None.

    Raises:
        TypeError: the input is not numeric or has masked elements, an integer or bool Tensor was asked to require a gradient, or
            `requires_grad` is no bool; OverflowError, ValueError: `dtype` holds only whole numbers, and not those of a list.
    """

    __slots__ = ("_array", "_node", "_requires_grad", "grad", "__weakref__")
    _is_parameter = False  # true of nn.Parameter, for which a new Tensor would not take its place in a module

    def __init__(self, array: TensorLike, requires_grad: bool = False, dtype: DTypeLike | None = None,
                 device: str | None = None):
        if isinstance(array, Tensor):
            array = array._array
        dtype = None if dtype is None else backend.as_dtype(dtype)
        array = _real(_plain(array)) if backend.is_array(array) else _from_sequence(array, dtype)
        if dtype is not None:
            array = _real(array.astype(dtype, copy=False))
        if device is not None:
            array = backend.to_device(array, device)
        self._array = array
        self._node = None
        self._requires_grad = False
        self.grad: Tensor | None = None
        if requires_grad is not False:
            self.requires_grad = requires_grad

    # -- the array -----------------------------------------------------------------------------------------------

    shape = property(operator.attrgetter("_array.shape"), doc="Length of each axis.")
    dtype = property(operator.attrgetter("_array.dtype"), doc="NumPy dtype of the elements.")
    ndim = property(operator.attrgetter("_array.ndim"), doc="Number of axes.")
    size = property(operator.attrgetter("_array.size"), doc="Number of elements.")
    device = property(lambda self: backend.device_of(self._array), doc='"cpu" or "cuda:N".')

    @property
    def data(self) -> np.ndarray:
        """The array itself; assign to it to change the values outside the graph (`p.data -= lr * p.grad.data`).

        Of a Tensor that an operation computed, a read-only view: the graph may still need the values.
        """
        self._leave_graph(".data")
        return self._array if self._node is None else _read_only(self._array)

    @data.setter
    def data(self, value):
        if self._node is not None:
            raise RuntimeError("the data of a computed Tensor cannot be replaced; change a leaf, or use x.detach()")
        value = assignable(value)
        if value is not self._array:
            if not backend.is_array(value):
                value = xp(self._array).asarray(value, dtype=self._array.dtype)
            elif xp(value) is not xp(self._array):
                value = backend.to_device(value, self.device)
            value = _plain(value)
            if self._requires_grad and (value.shape != self.shape or value.dtype != self.dtype):
                raise ValueError(f"new data of shape {value.shape} and dtype {value.dtype} for a Tensor that requires "
                                 f"a gradient and has shape {self.shape} and dtype {self.dtype}")
        mark_changed(self._array)
        if value is not self._array:
            mark_changed(self)
        self._array = value

    def numpy(self) -> np.ndarray:
        """The values as a NumPy array, copied from the GPU if they are there.

        On the CPU the memory is shared; where this Tensor requires a gradient the view is read-only (`.copy()` it to
        write).
        """
        self._leave_graph(".numpy()")
        array = backend.to_device(self._array, "cpu")
        return _read_only(array) if self._requires_grad else array

    def item(self) -> float | int | bool:
        """The single element as a Python number. ValueError if there is not exactly one."""
        if self.size != 1:
            raise ValueError(f"item() needs a Tensor with one element; this one has shape {self.shape}")
        self._leave_graph(".item()")
        return backend.to_device(self._array, "cpu").item()

    def tolist(self) -> list | float | int | bool:
        """The values as nested lists of Python numbers."""
        self._leave_graph(".tolist()")
        return backend.to_device(self._array, "cpu").tolist()

    def _leave_graph(self, name):
        """Notes that values are read. RuntimeError in a recorded gradient rule: its derivatives would silently lack a term."""
        if not self._requires_grad:
            return
        if state.reading is not None:
            state.reading.way = name
        if state.rule_of is not None:
            raise RuntimeError(f"the gradient rule of '{state.rule_of.name}' reads values by {name}, so the gradient cannot be "
                               "differentiated; write it in operations on Tensors, or .detach() what is meant as a constant")

    # -- the graph -----------------------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow to this Tensor: true of a leaf that was asked to, and of all computed from one."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value):
        value = flag("Tensor", "requires_grad", value)
        if self._node is not None and not value:
            raise RuntimeError("a computed Tensor cannot stop requiring a gradient; use x.detach()")
        if value and not backend.is_float(self._array.dtype):
            raise TypeError(f"only floating point Tensors can require a gradient, not {self._array.dtype}; "
                            "convert with .astype('float32') first")
        self._requires_grad = value

    @property
    def is_leaf(self) -> bool:
        """True if no recorded operation computed this Tensor."""
        return self._node is None

    @property
    def origin(self) -> Any:
        """What this Tensor's gradient is collected under: the Node that made it, or itself if it is a leaf."""
        return self if self._node is None else self._node

    def detach(self) -> Tensor:
        """The same values (memory shared) without their history: gradients stop here."""
        return wrap(self._array)

    # -- conversions ---------------------------------------------------------------------------------------------

    def __bool__(self):
        if self.size != 1:
            raise ValueError(f"the truth value of a Tensor of shape {self.shape} is ambiguous; use .any() or .all()")
        return bool(self.item())

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    def __index__(self):
        if self._array.dtype.kind not in "iu":
            raise TypeError(f"only integer Tensors can be used as an index, not {self._array.dtype}")
        return operator.index(self.item())

    def __len__(self):
        if not self.ndim:
            raise TypeError("len() of a 0-d Tensor")
        return len(self._array)

    def __pos__(self):
        return self

    def __contains__(self, value):
        found = self == value
        return isinstance(found, Tensor) and bool(found._array.any())

    __hash__ = object.__hash__  # by identity, though == compares elements

    def __repr__(self):
        body = np.array2string(backend.to_device(self._array, "cpu"), separator=", ", prefix="Tensor(")
        facts = [] if self.dtype in (np.float64, np.int64, np.bool_) and self.size else [f"dtype={self.dtype}"]
        if not self.size:
            facts.append(f"shape={self.shape}")
        if self.device != "cpu":
            facts.append(f"device={self.device!r}")
        if self._node is not None:
            facts.append(f"op={self._node.name}")
        elif self._requires_grad:
            facts.append("requires_grad=True")
        return ", ".join(["Tensor(" + body] + facts) + ")"

    def __format__(self, spec):
        return format(self.item(), spec) if spec else repr(self)

    def __deepcopy__(self, memo):
        if self._node is not None:
            raise RuntimeError("only leaf Tensors can be copied; copy x.detach() instead")
        twin = memo[id(self)] = _leaf(type(self), self._array.copy(), self._requires_grad)
        twin.grad = self.grad.detach().__deepcopy__(memo) if isinstance(self.grad, Tensor) else copy.deepcopy(self.grad, memo)
        if hasattr(self, "__dict__"):  # of a subclass
            twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return twin

    def __reduce__(self):
        if self._node is not None:
            raise RuntimeError("only leaf Tensors can be copied or pickled; take x.detach() instead")
        return _leaf, (type(self), self._array, self._requires_grad), getattr(self, "__dict__", None) or None

    def __setitem__(self, index, value):
        """Changes a leaf in place, outside the graph: initialise or edit data with it, under `no_grad()` parameters."""
        if self._node is not None or (self._requires_grad and state.recording):
            raise RuntimeError("in-place assignment is not differentiable: use where(), index_update() or "
                               "concatenate(), or change a leaf under no_grad()")
        if isinstance(value, Tensor) and value._requires_grad and state.recording:
            raise RuntimeError("in-place assignment would lose the gradient of the value: use index_update(), "
                               "or value.detach()")
        if isinstance(index, tuple):
            index = tuple(map(asarray, index))
        value = assignable(value, "x[...] = value: ")
        if xp(self._array) is not np and isinstance(value, (np.ndarray, list, tuple)):
            value = xp(self._array).asarray(value)
        check_index(self._array, asarray(index))
        check_writable("x[...] = value: x", self._array)
        try:
            self._array[asarray(index)] = value
        except (IndexError, TypeError, ValueError):  # before anything was written
            raise
        except BaseException:
            mark_changed(self._array)
            raise
        mark_changed(self._array)

    # -- other libraries -----------------------------------------------------------------------------------------

    def _export(self, what):
        if self._requires_grad:
            raise TypeError(f"{what} would lose the gradient of a Tensor that requires one; "
                            "use .numpy() or .detach() to say that this is meant (of several Tensors mg.stack makes one)")
        return self._array

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        array = self._export("conversion to a NumPy array")
        if xp(array) is not np:
            raise TypeError("a Tensor on the GPU is not copied to the host implicitly; use .numpy()")
        array = array if dtype is None else array.astype(dtype, copy=False)
        if copy is False and array is not self._array:
            raise ValueError(f"a Tensor of {self.dtype} cannot become an array of {array.dtype} without a copy")
        return array.copy() if copy and array is self._array else array

    def __dlpack__(self, **options):
        return self._export("export through DLPack").__dlpack__(**options)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()

    @property
    def __cuda_array_interface__(self):
        if xp(self._array) is np or self._requires_grad:  # CuPy asks whether there is one before it takes a Tensor
            raise AttributeError("only a Tensor on the GPU that requires no gradient has __cuda_array_interface__; "
                                 "use .detach()")
        return self._export("export through __cuda_array_interface__").__cuda_array_interface__

    # -- what minigrad/ops/ attaches, for editors and programs that check types ----------------------------------

    if TYPE_CHECKING:
        def __getattr__(self, name: str) -> Any: ...
        def __iter__(self) -> Iterator[Tensor]: ...
        def __getitem__(self, index: Index) -> Tensor: ...
        def _of_one(self) -> Tensor: ...
        def _of_two(self, other: TensorLike) -> Tensor: ...
        def _in_place(self, other: TensorLike) -> Any: ...  # a Parameter stays one

        __neg__ = __abs__ = __invert__ = _of_one
        __add__ = __sub__ = __mul__ = __truediv__ = __floordiv__ = __mod__ = __pow__ = __matmul__ = _of_two
        __radd__ = __rsub__ = __rmul__ = __rtruediv__ = __rfloordiv__ = __rmod__ = __rpow__ = __rmatmul__ = _of_two
        __and__ = __or__ = __xor__ = __rand__ = __ror__ = __rxor__ = _of_two
        __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _of_two
        __iadd__ = __isub__ = __imul__ = __itruediv__ = __ifloordiv__ = __imod__ = __ipow__ = __imatmul__ = _in_place
        __iand__ = __ior__ = __ixor__ = _in_place


# Types of arguments: what operations take (numbers, arrays, lists), the names of dtypes, and what may stand in x[...].
TensorLike = Tensor | np.ndarray | np.generic | float | int | bool | list | tuple
DTypeLike = str | type | np.dtype
Index = Any
OneOrMore = Tensor | Any  # what is returned: a Tensor, or a tuple if an argument asks for it, which no type can say
Function = TypeVar("Function", bound=Callable)  # what a decorator takes and gives back


def wrap(array):
    """A Tensor around `array` (NumPy or CuPy, nothing checked or copied) that is no part of any graph."""
    tensor = Tensor.__new__(Tensor)
    tensor._array = array
    tensor._node = None
    tensor._requires_grad = False
    tensor.grad = None
    return tensor


def _leaf(kind, array, requires_grad):
    """A leaf of the class `kind`, Tensor's or a subclass's whose constructor takes what it likes: it is not called."""
    leaf = kind.__new__(kind)
    leaf._array, leaf._node, leaf._requires_grad, leaf.grad = array, None, requires_grad, None
    return leaf


def as_tensor(x: TensorLike) -> Tensor:
    """`x`, or a Tensor of it if it is an array or numbers. TypeError, which names whose argument it is: something else."""
    if isinstance(x, Tensor):
        return x
    try:
        return Tensor(x)
    except TypeError as error:
        raise TypeError(whose(x) + str(error)) from None


def asarray(x):
    """The NumPy or CuPy array behind a Tensor, or `x` itself if it is no Tensor. TypeError if elements of it are masked."""
    if isinstance(x, Tensor):
        return x._array
    try:
        return _plain(x)
    except TypeError as error:
        raise TypeError(whose(x) + str(error)) from None


def assignable(value, of=""):
    """What may be written into an array: `asarray` of a Tensor, array, number or nested lists of numbers.

    Raises:
        TypeError: it is something else, of which NumPy would make a number: NaN of None, 3 of "3", the real part of 1j.
    """
    if type(value) not in (int, float, bool) and not isinstance(value, Tensor):
        try:
            Tensor(value)
        except TypeError as error:
            raise TypeError((of or whose(value)) + str(error)) from None
    return asarray(value)


def flag(of, name, value):
    """`value` as a bool. TypeError for anything but True, False, 1 and 0: in this place there may be a dtype in NumPy."""
    if not isinstance(value, (bool, np.bool_, int, float)) or value not in (0, 1):
        raise TypeError(f"{of}: {name} is True or False, not {value!r}")
    return bool(value)


def holds(dtype, number):
    """Whether a dtype of whole numbers holds this one, a number of Python's or NumPy's."""
    limits = np.iinfo(dtype)
    return isinstance(number, np.bool_) or limits.min <= number <= limits.max  # which compares with no large number


def held(of, number, dtype):
    """A number as one of a dtype, which has to hold it; arrays of several are cast, as NumPy casts them.

    Raises:
        OverflowError, ValueError: the dtype, of whole numbers, does not hold the number, or it is NaN; `of` says for whom.
        TypeError: it is no real number.
    """
    array = _plain(np.asanyarray(assignable(number)))
    if array.ndim or dtype.kind not in "iu":
        return array.astype(dtype, copy=False)[()]
    try:
        if holds(dtype, whole := int(array.item())):
            return dtype.type(whole)
        raise OverflowError
    except (OverflowError, ValueError) as error:
        raise type(error)(f"{of}: {dtype} holds no {number}") from None


def from_dlpack(source: Any) -> Tensor:
    """A Tensor that shares the memory of `source`, any object with `__dlpack__` on the CPU or an NVIDIA GPU."""
    if not hasattr(source, "__dlpack_device__"):
        raise TypeError(f"from_dlpack: an object with __dlpack__ wanted, not {type(source).__name__}; Tensor(...) takes numbers")
    on_gpu = source.__dlpack_device__()[0] == 2  # kDLCUDA
    return Tensor((backend.cupy() if on_gpu else np).from_dlpack(source))


def _from_sequence(values, dtype=None):
    """Nested lists of numbers as an array, which this dtype holds; object arrays mean ragged lists or other things.

    Raises:
        TypeError: they are no numbers; OverflowError, ValueError: the dtype, of whole numbers, does not hold them.
    """
    if hasattr(values, "__cuda_array_interface__"):
        return backend.cupy().asarray(values)
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise TypeError(f"cannot make a Tensor of {type(values).__name__}: {error}") from None
    array = _real(array, f"cannot make a Tensor of {type(values).__name__}: ")
    if dtype is not None and dtype.kind in "iu" and array.size and not np.can_cast(array.dtype, dtype):
        if array.dtype.kind == "f" and 2**53 < abs(array).max() < np.inf:  # of large whole numbers NumPy's floats are none
            array = np.array(values, dtype=object)
        for number in (array.min(), array.max()):  # NaN is either
            if not holds(dtype, number):
                raise (ValueError if number != number else OverflowError)(f"Tensor: {dtype} holds no {number}")
    return array


def _real(array, message=""):
    """`array`. TypeError if it holds anything but floats, integers and bools."""
    if array.dtype.kind not in "fiub" and not backend.is_float(array.dtype):
        raise TypeError(f"{message}a Tensor holds floats, integers or bools, not dtype {array.dtype}")
    return array


def _plain(array):
    """`array`; one of a subclass of NumPy's, such as a matrix or a memory map, as what it is apart from that.

    Raises:
        TypeError: it is a masked array with masked elements, which would count.
    """
    if array.__class__ is np.ndarray or not isinstance(array, np.ndarray):
        return array
    if np.ma.is_masked(array):
        raise TypeError("a Tensor has no masked elements; give them a value with .filled(value)")
    return np.asarray(array)


def _read_only(array):
    view = array.view()
    if xp(array) is np:
        view.flags.writeable = False
    return view


class _Callable(types.ModuleType):
    """This module, which has the name of PyTorch's function."""

    def __call__(self, *args, **settings):
        raise TypeError("minigrad.tensor is a module; minigrad.Tensor(x) makes a Tensor")


sys.modules[__name__].__class__ = _Callable
