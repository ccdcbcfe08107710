"""Module: attributes that are Parameters, buffers (NumPy or CuPy arrays) or Modules, found by name."""
import contextlib
import operator
import os
import reprlib
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from .. import backend
from ..ops.missing import TABLE
from ..recording import state
from ..versions import check_writable, mark_changed, owner_of
from ..tensor import Tensor, TensorLike, as_tensor, asarray, assignable, flag

_FLOAT64 = np.dtype(np.float64)
_warned = False  # of float64 inputs to float32 parameters


class Parameter(Tensor):
    """A leaf Tensor that a Module owns and an optimiser changes. `p *= 2` and its like change it, under `no_grad()` only."""

    __slots__ = ()
    _is_parameter = True

    def __init__(self, array: TensorLike, requires_grad: bool = True):
        super().__init__(array, requires_grad)


class LoadedKeys(NamedTuple):
    """What `Module.load_state_dict` did not find, and what it did not use: names, sorted."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """A function with parameters. A subclass sets its parts as attributes and defines `forward`.

    Parts are Parameters, arrays (buffers) and Modules, and also the Parameters and Modules in lists, tuples and dicts. Other
    Tensors, such as results that are kept, are no parts.

    Attributes:
        training: whether batch statistics and dropout behave as in training; see `train`.
        stored_names: of a class, a table from attributes (or dotted paths to them) to the names that state dicts and
            `named_parameters` use instead, such as {"head": "fc"}. Both names work as attributes.
    """

    training = True
    stored_names: dict[str, str] = {}
    _not_stored: frozenset[str] = frozenset()  # the names of buffers that state dicts leave out

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        for path, name in cls.stored_names.items():
            if not hasattr(cls, name):
                setattr(cls, name, _alias(path))

    def __setattr__(self, name, value):
        if isinstance(vars(self).get(name), Parameter) and not isinstance(value, Parameter) and (
                isinstance(value, Tensor) or backend.is_array(value)):
            raise TypeError(f"{type(self).__name__}: {name} is a Parameter, and what takes its place must be one: nn.Parameter(x)"
                            f"; its numbers are changed by `with no_grad(): {name}[...] = x`")
        object.__setattr__(self, name, value)

    def __delattr__(self, name):
        object.__delattr__(self, name)
        if name in self._not_stored:
            self._not_stored -= {name}

    def __getattr__(self, name):
        """The error for an attribute that is not there."""
        if name.startswith("__") or hasattr(type(self), name):
            return object.__getattribute__(self, name)  # of a property that refuses, its own error
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}': {TABLE}", name=name, obj=self)

    def __call__(self, *args, **settings):
        # Here every layer's input passes, whoever calls it; the comparison costs less than 0.1 us.
        if args and getattr(args[0], "dtype", None) is _FLOAT64 and not _warned:
            _check_precision(self)
        out = self.forward(*args, **settings)
        if state.called is not None:
            state.called(self, out)
        return out

    def forward(self, *args, **settings) -> Any:
        """What calling the module computes."""
        raise TypeError(f"{type(self).__name__} defines no forward()")

    # -- the parts by name -------------------------------------------------------------------------------------------

    def _named(self, kind, prefix="", above=()):
        """(full name, holder, key) of each part of the kind; it is holder[key]. `above`: see `_places`."""
        kind = Parameter if kind is _Parameters and not _stand_ins else kind  # which is faster to ask for
        if not self.stored_names:
            return _places(vars(self), kind, kind, prefix, (*above, self))
        found = _places(vars(self), kind, kind, "", (*above, self))
        return ((prefix + self._stored(name), holder, key) for name, holder, key in found)

    def _parts(self):
        """The parts by name: the attributes."""
        return vars(self)

    def _stored(self, name):
        """The name in state dicts of the part at a dotted path."""
        for path, stored in self.stored_names.items():
            if name == path or name.startswith(path + "."):
                return stored + name[len(path):]
        return name

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Pairs (dotted name, Parameter), in the order of definition; one that stands in several places once."""
        found = set()
        for full, holder, key in self._named(_Parameters):
            parameter = holder[key]
            if id(parameter) not in found:
                found.add(id(parameter))
                yield full, parameter

    def parameters(self) -> list[Parameter]:
        """The Parameters, in the order of definition."""
        return [parameter for _, parameter in self.named_parameters()]

    def named_buffers(self) -> Iterator[tuple[str, np.ndarray]]:
        """Pairs (dotted name, array) of the state that is not trained, such as running statistics."""
        for full, holder, key in self._named(_Array):
            yield full, holder[key]

    def register_buffer(self, name: str, array: TensorLike, persistent: bool = True) -> None:
        """Sets an attribute that is a buffer: an array, as `self.name = array` does, or that of a Tensor or of numbers.

        Args:
            persistent: with False state dicts leave it out, as what is computed anyway.
        """
        persistent = flag("register_buffer", "persistent", persistent)
        setattr(self, name, array if array is None or backend.is_array(array) else as_tensor(array)._array)
        self._not_stored = self._not_stored - {name} if persistent else self._not_stored | {name}

    def buffers(self) -> list[np.ndarray]:
        """The arrays of the state that is not trained."""
        return [array for _, array in self.named_buffers()]

    def named_children(self) -> Iterator[tuple[str, "Module"]]:
        """Pairs (name, Module) of the Modules directly below this one, those in lists, tuples and dicts too; each once."""
        found = set()
        for name, module in _modules(self._parts()):
            if id(module) not in found:
                found.add(id(module))
                yield self._stored(name), module

    def children(self) -> list["Module"]:
        """The Modules directly below this one."""
        return [module for _, module in self.named_children()]

    def named_modules(self) -> Iterator[tuple[str, "Module"]]:
        """Pairs (dotted name, Module): this Module, whose name is "", and all below it; one in several places once."""
        return self._walk(set())

    def _walk(self, found):
        if id(self) in found:
            return
        found.add(id(self))
        yield "", self
        for name, child in _modules(self._parts()):
            for below, module in child._walk(found):
                yield self._stored(f"{name}.{below}" if below else name), module

    def modules(self) -> Iterator["Module"]:
        """This Module and all below it."""
        return (module for _, module in self.named_modules())

    # -- state -------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, np.ndarray]:
        """A dict from dotted names to copies of the parameters' and buffers' arrays."""
        return {name: array.copy() for name, array in self._state().items()}

    def _state(self):
        """The arrays of the parameters, under each of their names, and of the buffers that are stored.

        ValueError: two have one name.
        """
        named = [(full, holder[key]._array) for full, holder, key in self._named(_Parameters)]
        named += [(full, holder[key]) for full, holder, key in self._named(_Array) if key not in holder.get("_not_stored", ())]
        found = dict(named)
        if len(found) < len(named):
            twice = next(full for full, count in Counter(full for full, _ in named).items() if count > 1)
            raise ValueError(f"state_dict: two arrays of {type(self).__name__} are called '{twice}'; names of attributes and "
                             "keys of dicts that hold dots can coincide with those further down: choose others")
        return found

    def load_state_dict(self, state: Mapping[str, np.ndarray], strict: bool = True) -> LoadedKeys:
        """Puts back what `state_dict` returned, or PyTorch's of a module whose parts have the same names.

        PyTorch's batch norms also count their steps, in `num_batches_tracked`; a module that has no such buffer ignores it.

        Args:
            strict: with False names that are missing keep their numbers, and unknown ones are ignored.

        Returns:
            (missing_keys, unexpected_keys), the lists of these names; both are empty if `strict`.

        Raises:
            KeyError: names are missing or unknown; ValueError: a shape differs, a number does not fit the dtype of the module's
                array, or that is in read-only memory; TypeError: `state` is no dict of arrays of real numbers. Nothing is
                changed then.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"load_state_dict: a dict of arrays wanted, not {type(state).__name__}")
        own, strict = self._state(), flag("load_state_dict", "strict", strict)
        missing, unknown = own.keys() - state.keys(), state.keys() - own.keys()
        unknown = {name for name in unknown if str(name).rpartition(".")[2] != "num_batches_tracked"}
        if strict and (missing or unknown):
            raise KeyError(f"load_state_dict: missing {sorted(missing)}, unknown {sorted(unknown, key=str)}")
        own = {name: array for name, array in own.items() if name in state}
        state = {name: value._array if isinstance(value, Tensor) else value for name, value in state.items()}
        for name, array in own.items():
            dtype = getattr(state[name], "dtype", None)
            if dtype is None or not backend.may_be_real(dtype):
                raise TypeError(f"load_state_dict: '{name}' is no array of real numbers, but {type(state[name]).__name__}")
            if tuple(state[name].shape) != array.shape:
                raise ValueError(f"load_state_dict: '{name}' has shape {state[name].shape}, the module's {array.shape}")
            check_writable(f"load_state_dict: the module's '{name}'", array)
        new = {name: backend.fitting(f"load_state_dict: '{name}'", state[name], array) for name, array in own.items()}
        memory = {id(owner_of(array)) for array in own.values()}
        for name, array in new.items():
            owner = owner_of(array)
            if id(owner) in memory or not owner.flags.owndata:  # perhaps another array of this module, which is written first
                new[name] = array.copy()
        for name, array in own.items():
            mark_changed(array)
            array[...] = new[name]
        return LoadedKeys(sorted(missing), sorted(unknown, key=str))

    def to(self, target: str | np.dtype | type) -> "Module":
        """Parameters and buffers moved to a device ("cpu", "cuda", "cuda:N"), or the floating point ones to a dtype.

        Gradients go with their parameters. An optimiser made before holds state of the old kind: make it afterwards. Returns
        self.

        Raises:
            ValueError: `target` is neither a device nor a floating point dtype.
        """
        dtype = None if str(target).partition(":")[0] in ("cpu", "cuda") else _floating(target)

        def moved(array):
            if dtype is None:
                return backend.to_device(array, target)
            return array.astype(dtype, copy=False) if backend.is_float(array.dtype) else array

        for _, holder, key in self._named(_Parameters):
            parameter = holder[key]
            array = moved(parameter._array)
            if array is not parameter._array:
                mark_changed(parameter)
                parameter._array = array
            if isinstance(parameter.grad, Tensor):
                parameter.grad = Tensor(moved(parameter.grad._array))
        for _, holder, key in self._named(_Array):
            holder[key] = moved(holder[key])
        return self

    def cpu(self) -> "Module":
        """`to("cpu")`."""
        return self.to("cpu")

    def cuda(self) -> "Module":
        """`to("cuda")`."""
        return self.to("cuda")

    def float(self) -> "Module":
        """`to("float32")`."""
        return self.to("float32")

    def double(self) -> "Module":
        """`to("float64")`."""
        return self.to("float64")

    def half(self) -> "Module":
        """`to("float16")`."""
        return self.to("float16")

    # -- training ----------------------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> "Module":
        """Training behaviour on (batch statistics, dropout) or, with False, off, here and below. Returns self.

        Raises:
            TypeError: `mode` is no bool.
        """
        mode = flag("train", "mode", mode)
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> "Module":
        """Evaluation behaviour. Returns self."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> "Module":
        """Whether the parameters get gradients; with False they are frozen. Returns self."""
        requires_grad = flag("requires_grad_", "requires_grad", requires_grad)
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def zero_grad(self) -> None:
        """Forgets the gradients of all parameters."""
        for parameter in self.parameters():
            parameter.grad = None

    def apply(self, function: Callable[["Module"], object]) -> "Module":
        """Calls `function` with each Module below this one and then with this one. Returns self."""
        def visit(module, above):
            for child in module.children():
                if not any(child is other for other in above):
                    visit(child, (*above, child))
            function(module)

        visit(self, (self,))
        return self

    @reprlib.recursive_repr()
    def __repr__(self):
        lines = []

        def describe(name, value, kinds):
            if isinstance(value, Module):
                lines.append(f"{name}: " + repr(value).replace("\n", "\n  "))
                return
            if isinstance(value, kinds):
                lines.append(f"{name}: {value.dtype}{list(value.shape)}")
            for key, item in items(value):
                describe(f"{name}.{key}", item, _Parameters)

        for name, value in items(self._parts()):
            describe(name, value, (_Parameters, _Array))
            if isinstance(self, Sequential) and name in self._keys and not isinstance(value, Module):  # a function
                lines.append(f"{name}: {getattr(value, '__name__', type(value).__name__)}")
        return f"{type(self).__name__}({''.join(f'{chr(10)}  {line}' for line in lines)}{chr(10) if lines else ''})"


def _alias(path):
    """A property that stands for the attribute at a dotted path."""
    holder, _, name = path.rpartition(".")
    parent = operator.attrgetter(holder) if holder else lambda self: self
    return property(operator.attrgetter(path), lambda self, value: setattr(parent(self), name, value), doc=f"`{path}`.")


def _check_precision(module):
    """Warns, once in a process, if the module has parameters of lower precision than its input, which is float64."""
    global _warned
    dtypes = [value.dtype for value in vars(module).values() if isinstance(value, _Parameters)]
    if not dtypes or _FLOAT64 in dtypes or not backend.is_float(dtypes[0]):
        return
    _warned, depth, frame = True, 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("minigrad."):
        depth, frame = depth + 1, frame.f_back
    warnings.warn(f"{type(module).__name__}: the input is float64 and the parameters {dtypes[0]}, so the layer "
                  "computes in float64, at half the speed or less: convert the input with x.astype('float32'), or, if double "
                  "precision is wanted, the module with module.to('float64')", stacklevel=depth)


def _floating(target):
    """What names a floating point dtype, as a `numpy.dtype`. ValueError for anything else."""
    with contextlib.suppress(TypeError):
        if target is not None and backend.is_float(dtype := backend.as_dtype(target)):
            return dtype
    raise ValueError(f"Module.to: {target!r} is neither a device ('cpu', 'cuda', 'cuda:N') nor a floating point dtype")


class WritableTuple:
    """The tuple holder[key], to whose places can be written: another tuple takes its place then."""

    def __init__(self, holder, key):
        self.holder, self.key = holder, key

    def __getitem__(self, i):
        return self.holder[self.key][i]

    def __setitem__(self, i, value):
        old = self.holder[self.key]
        items = [*old[:i], value, *old[i + 1:]]
        self.holder[self.key] = type(old)(*items) if hasattr(old, "_fields") else tuple(items)


def items(value: Any) -> Iterable[tuple[Any, Any]]:
    """The pairs of key and item of a list, tuple or dict; none of anything else."""
    if isinstance(value, dict):
        return value.items()
    return enumerate(value) if isinstance(value, (list, tuple, WritableTuple)) else ()


def _places(holder, kind, wanted, prefix="", above=()):
    """See `Module._named`. Arrays that a list or dict holds do not count: they may be anything.

    Args:
        above: the Modules on the way here, to which one further down may refer.
    """
    for key, value in items(holder):
        if isinstance(value, wanted):
            yield f"{prefix}{key}", holder, key
        elif isinstance(value, Module):
            if not any(value is module for module in above):
                yield from value._named(kind, f"{prefix}{key}.", above)
        else:
            value = WritableTuple(holder, key) if isinstance(value, tuple) else value
            yield from _places(value, kind, _listed(kind), f"{prefix}{key}.", above)


def _listed(kind):
    """What counts of a kind in lists, tuples and dicts."""
    return () if kind is _Array else kind


def _modules(holder, prefix=""):
    """The pairs of name and Module directly in a dict, list or tuple, or in those that it holds."""
    for key, value in items(holder):
        if isinstance(value, Module):
            yield f"{prefix}{key}", value
        else:
            yield from _modules(value, f"{prefix}{key}.")


def holds_parts(value: Any) -> bool:
    """Whether a value is a Module or Parameter, or a list, tuple or dict with one."""
    return any(True for found in (_modules({"": value}), _places({"": value}, _Parameters, _Parameters)) for _ in found)


_stand_ins = Counter()  # how often a Tensor, by its id, now stands in for a Parameter, see `functional_call`


class _ParameterKind(type):
    def __instancecheck__(cls, value):
        return isinstance(value, Parameter) or id(value) in _stand_ins


class _Parameters(metaclass=_ParameterKind):
    """Parameters, and Tensors that stand in for them; not other Tensors, such as results that a module keeps."""


class _ArrayKind(type):
    def __instancecheck__(cls, value):
        return backend.is_array(value)


class _Array(metaclass=_ArrayKind):
    """Anything that is a NumPy or CuPy array."""


class _Container(Module):
    """A Module whose parts are its attributes and the items of the list or dict that it is too."""

    __eq__, __ne__, __hash__ = object.__eq__, object.__ne__, object.__hash__  # as of other Modules

    def _named(self, kind, prefix="", above=()):
        yield from super()._named(kind, prefix, above)
        yield from _places(self, kind, _listed(kind), prefix, (*above, self))

    def _parts(self):
        return {**vars(self), **dict(items(self))}


class ModuleList(_Container, list):
    """A list that is a Module, as slices and sums of it are. As an attribute of a Module a plain list holds parts as well.

    TypeError for a class of Modules in the place of one, and for what is no list or other iterable.
    """

    def __init__(self, modules: Iterable[Any] = ()):
        super().__init__()
        self.extend(modules)

    def _taken(self, value):
        """What is kept of a new item."""
        return _made(type(self).__name__, value)

    def append(self, module: Any) -> None:
        super().append(self._taken(module))

    def insert(self, i: int, module: Any) -> None:
        super().insert(i, self._taken(module))

    def extend(self, modules: Iterable[Any]) -> None:
        if not np.iterable(modules) or isinstance(modules, Tensor) or backend.is_array(modules):  # whose rows nobody means
            raise TypeError(f"{type(self).__name__}: a list wanted, not {type(modules).__name__}")
        super().extend([self._taken(module) for module in modules])

    def __iadd__(self, modules):
        self.extend(modules)
        return self

    def __setitem__(self, i, value):
        name = type(self).__name__
        super().__setitem__(i, [_made(name, item) for item in value] if isinstance(i, slice) else _made(name, value))

    def __getitem__(self, i):
        items = list.__getitem__(self, i)
        return ModuleList(items) if isinstance(i, slice) else items

    def __add__(self, other):
        return ModuleList([*self, *other])


class ModuleDict(_Container, dict):
    """A dict that is a Module; its items are attributes too. As an attribute of a Module a plain dict holds parts as well.

    TypeError for a class of Modules in the place of one, and for what is no dict and no list of pairs.
    """

    def __init__(self, *values: Mapping[str, Any], **more: Any):
        super().__init__()
        self.update(*values, **more)

    def __getattr__(self, name):
        return self[name] if name in self else super().__getattr__(name)

    def _shows(self, name):
        """Whether the attribute of this name is the item: no other, its own or its class's, stands before it."""
        return name in self and name not in vars(self) and not hasattr(type(self), name)

    def __setattr__(self, name, value):
        if self._shows(name):
            self[name] = value
        else:
            super().__setattr__(name, value)

    def __delattr__(self, name):
        if self._shows(name):
            del self[name]
        else:
            super().__delattr__(name)

    def __setitem__(self, key, value):
        super().__setitem__(key, _made(type(self).__name__, value))

    def update(self, *values: Mapping[str, Any], **more: Any) -> None:
        for value in values:
            if not np.iterable(value):
                raise TypeError(f"{type(self).__name__}: a dict wanted, not {type(value).__name__}")
        for key, value in dict(*values, **more).items():
            self[key] = value

    def setdefault(self, key: str, value: Any = None) -> Any:
        if key not in self:
            self[key] = value
        return self[key]

    def __ior__(self, values):
        self.update(values)
        return self


class ParameterList(ModuleList):
    """A list of Parameters that is a Module, as slices and sums of it are; Tensors and arrays that join it become Parameters.

    An item that is assigned takes the place of the old one as it is. TypeError for what is neither Tensor nor array.
    """

    def __init__(self, values: Iterable[TensorLike] = ()):
        super().__init__(values)

    def _taken(self, value):
        return _parameter("ParameterList", value)

    def __getitem__(self, i):
        items = super().__getitem__(i)
        return self._of(items) if isinstance(i, slice) else items

    def __add__(self, other):
        return self._of([*self, *(other if isinstance(other, ParameterList) else ParameterList(other))])

    @staticmethod
    def _of(items):
        """A ParameterList of items as they are, which in `functional_call` are no Parameters."""
        out = ParameterList()
        list.extend(out, items)
        return out


class ParameterDict(ModuleDict):
    """A dict of Parameters that is a Module; Tensors and arrays under new keys become Parameters.

    What is assigned to a key that exists takes the place of the old one as it is. TypeError for what is neither Tensor nor array.
    """

    def __setitem__(self, key, value):
        super().__setitem__(key, value if key in self else _parameter("ParameterDict", value))

    def __or__(self, values):
        out = ParameterDict()
        dict.update(out, self)  # as they are: in `functional_call` they are no Parameters
        return operator.ior(out, values)


def _made(name, value):
    """`value`. TypeError if it is a class of Modules: its parentheses were forgotten."""
    if isinstance(value, type) and issubclass(value, Module):
        raise TypeError(f"{name}: a Module wanted, not the class {value.__name__}, which makes one when it is called: "
                        f"{value.__name__}(...)")
    return value


def _parameter(name, value):
    if not isinstance(value, Tensor) and not backend.is_array(value):
        raise TypeError(f"{name}: Parameters, Tensors or arrays wanted, not {type(value).__name__}")
    return value if isinstance(value, Parameter) else Parameter(value)


class Sequential(Module):
    """Modules applied one after the other. A slice of it is one again, of the same Modules; `net[-1] = module` replaces one,
    and `del net[-1]` takes one away.

    Their names are "0", "1" and so on, or the keys of a dict of Modules, and a slice keeps them. A Module that becomes an
    attribute under a new name comes last.

    Raises:
        TypeError: what is given cannot be called; ValueError: a key is no name, or names an attribute already.
    """

    _keys: tuple[str, ...] = ()  # the names of the Modules, in their order

    def __init__(self, *modules: Module | Mapping[str, Module]):
        named = len(modules) == 1 and isinstance(modules[0], Mapping) and not isinstance(modules[0], Module)
        self._keys = ()
        for key, module in modules[0].items() if named else enumerate(modules):
            if named and (not isinstance(key, str) or not key or "." in key or hasattr(self, key)):
                raise ValueError(f"Sequential: a name without dots wanted, that of no other attribute, not {key!r}")
            self._keys += (str(key),)
            self[len(self) - 1] = module

    def __setattr__(self, name, value):
        if name in self._keys:
            self._check(self._keys.index(name), value)
        elif isinstance(value, Module) and not isinstance(vars(self).get(name), Module) and not hasattr(type(self), name):
            self._keys += (name,)
        super().__setattr__(name, value)

    def __delattr__(self, name):
        super().__delattr__(name)
        self._keys = tuple(key for key in self._keys if key != name)

    def _check(self, i, module):
        """TypeError if what shall be Module number i cannot be called."""
        if not callable(_made("Sequential", module)) or isinstance(module, _Container) and type(module).forward is Module.forward:
            given = {list: "*modules", tuple: "*modules", dict: "*modules.values()"}
            hint = next((f"; a {kind.__name__} of modules is given as Sequential({stars})" for kind, stars in given.items()
                         if isinstance(module, kind)), "")
            raise TypeError(f"Sequential: module {i}, of type {type(module).__name__}, cannot be called{hint}")

    def forward(self, x: Tensor) -> Tensor:
        for module in self:
            x = module(x)
        return x

    def __len__(self):
        return len(self._keys)

    def __iter__(self):
        return iter([vars(self)[key] for key in self._keys])

    def __getitem__(self, i):
        if isinstance(i, slice):
            return Sequential({key: vars(self)[key] for key in self._keys[i]})
        return vars(self)[self._keys[self._place(i)]]

    def _place(self, i):
        """The place that an index names, from 0."""
        try:
            return range(len(self))[operator.index(i)]
        except (IndexError, TypeError) as error:
            raise type(error)(f"Sequential: an index below {len(self)} wanted, the number of its modules, not {i!r}") from None

    def __setitem__(self, i: int, module: Module):
        setattr(self, self._keys[self._place(i)], module)

    def __delitem__(self, i: int | slice):
        """Deletes Modules; the others are numbered anew, as in PyTorch."""
        gone = range(len(self))[i] if isinstance(i, slice) else [self._place(i)]
        modules = [module for j, module in enumerate(self) if j not in gone]
        for key in self._keys:
            delattr(self, key)
        self._keys = tuple(map(str, range(len(modules))))
        for j, module in enumerate(modules):
            self[j] = module


_locks, _finding = {}, threading.Lock()  # from a module's id to its lock and to how many hold it or wait for it


@contextlib.contextmanager
def replacing(module: Module) -> Iterator[None]:
    """Inside, other arrays may stand in for those of the module, which is this thread's alone."""
    with _finding:
        lock, users = _locks.get(id(module), (threading.RLock(), 0))
        _locks[id(module)] = lock, users + 1
    try:
        with lock:
            yield
    finally:
        with _finding:
            users = _locks.pop(id(module), (lock, 1))[1] - 1
            if users > 0:
                _locks[id(module)] = lock, users


def _after_fork():
    """The threads that held locks do not survive a fork."""
    global _locks, _finding
    _locks, _finding = {}, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@contextlib.contextmanager
def _replaced(module, params):
    """Inside, the values of the dict `params` stand in the module's places of their names, and in all others of the same part.

    Errors as of `functional_call`.
    """
    places = {full: (holder, key) for kind in (_Parameters, _Array) for full, holder, key in module._named(kind)}
    unknown = params.keys() - places.keys()
    if unknown:
        raise KeyError(f"functional_call: the module has no parameters or buffers {sorted(unknown, key=str)}")
    for full, value in params.items():
        assignable(value, f"functional_call: '{full}': ")
    new = {id(holder[key]): params[full] for full, (holder, key) in places.items() if full in params}
    before = {full: holder[key] for full, (holder, key) in places.items() if id(holder[key]) in new}
    given = [id(x) for full, x in params.items() if isinstance(x, Tensor) and not backend.is_array(before[full])]
    with _finding:
        _stand_ins.update(given)
    try:
        for full, old in before.items():
            holder, key = places[full]
            value = params.get(full, new[id(old)])
            holder[key] = asarray(value) if backend.is_array(old) else value
        yield
    finally:
        with _finding:
            for key in given:
                _stand_ins[key] -= 1
                if not _stand_ins[key]:
                    del _stand_ins[key]
        for full, value in before.items():
            holder, key = places[full]
            holder[key] = value


def functional_call(module: Module, params: Mapping[str, TensorLike], *args, **settings) -> Any:
    """`module(*args)` with other parameters: a dict from names to Tensors, through which gradients flow.

    The dict may also name buffers: arrays that the call may change in place, such as running statistics, so that the
    module's own stay as they are. Names that are left out keep their own value, but a parameter that stands in several
    places is replaced in all of them by the value for one.

    Raises:
        KeyError: unknown names; TypeError: values that are no numbers, such as None, or arguments in a tuple or several dicts in
            one, which PyTorch's function of this name takes.

    Of threads that call this with one module each waits for the other, so `forward` must not wait for such a thread.
    """
    if not isinstance(params, Mapping):
        raise TypeError("functional_call: a dict from names to Tensors wanted, such as {**parameters, **buffers}, not "
                        f"{type(params).__name__}")
    if len(args) == 1 and type(args[0]) is tuple and len(args[0]) == 1:
        raise TypeError("functional_call: the arguments follow one by one, as in functional_call(module, params, x), not in a "
                        "tuple")
    with replacing(module), _replaced(module, params):
        return module(*args, **settings)
