"""Module: attributes that are Parameters, buffers (NumPy or CuPy arrays) or Modules, found by name."""
import contextlib

from .. import backend
from ..versions import mark_changed
from ..tensor import Tensor, asarray


class Parameter(Tensor):
    """A leaf Tensor that a Module owns and an optimiser changes."""

    __slots__ = ()

    def __init__(self, array, requires_grad=True):
        super().__init__(array, requires_grad)


class Module:
    """A function with parameters. A subclass sets its parts as attributes and defines `forward`.

    Parts are Parameters, arrays (buffers) and Modules, and also the Parameters and Modules in lists, tuples and dicts.
    """

    training = True

    def __call__(self, *args, **settings):
        return self.forward(*args, **settings)

    def forward(self, *args, **settings):
        raise TypeError(f"{type(self).__name__} defines no forward()")

    def _named(self, kind):
        """(full name, holder, key) of each part of the kind; it is holder[key]."""
        return _places(vars(self), kind, kind)

    def named_parameters(self):
        """Pairs (dotted name, Parameter), in the order of definition; one that stands in several places once."""
        seen = set()
        for full, holder, key in self._named(Tensor):
            parameter = holder[key]
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield full, parameter

    def parameters(self):
        """The Parameters, in the order of definition."""
        return [parameter for _, parameter in self.named_parameters()]

    def named_buffers(self):
        """Pairs (dotted name, array) of the state that is not trained, such as running statistics."""
        for full, holder, key in self._named(_Array):
            yield full, holder[key]

    def modules(self):
        """This Module and all below it."""
        yield self
        yield from _modules(vars(self).values())

    def state_dict(self):
        """A dict from dotted names to copies of the parameters' and buffers' arrays."""
        return {name: array.copy() for name, array in self._state().items()}

    def _state(self):
        """The arrays of the parameters, under each of their names, and of the buffers."""
        return {full: holder[key]._array for full, holder, key in self._named(Tensor)} | dict(self.named_buffers())

    def load_state_dict(self, state):
        """Puts back what `state_dict` returned.

        Raises:
            KeyError: names are missing or unknown; ValueError: a shape differs. Nothing is changed then.
        """
        own = self._state()
        missing, unknown = own.keys() - state.keys(), state.keys() - own.keys()
        if missing or unknown:
            raise KeyError(f"load_state_dict: missing {sorted(missing)}, unknown {sorted(unknown)}")
        for name, array in own.items():
            if tuple(state[name].shape) != array.shape:
                raise ValueError(f"load_state_dict: '{name}' has shape {state[name].shape}, the module's {array.shape}")
        for name, array in own.items():
            mark_changed(array)
            array[...] = backend.xp(array).asarray(state[name])

    def train(self, mode=True):
        """Training behaviour on (batch statistics, dropout) or, with False, off, here and below. Returns self."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self):
        """Evaluation behaviour. Returns self."""
        return self.train(False)

    def to(self, target):
        """Parameters and buffers moved to a device ("cpu", "cuda", "cuda:N"), or the floating point ones to a dtype.

        An optimiser made before holds state of the old kind: make it afterwards. Returns self.
        """
        def moved(array):
            if str(target).partition(":")[0] in ("cpu", "cuda"):
                return backend.to_device(array, target)
            return array.astype(backend.as_dtype(target), copy=False) if backend.is_float(array.dtype) else array

        for _, holder, key in self._named(Tensor):
            parameter = holder[key]
            mark_changed(parameter._array)
            parameter._array = moved(parameter._array)
        for _, holder, key in self._named(_Array):
            holder[key] = moved(holder[key])
        return self

    def __repr__(self):
        lines = []

        def describe(name, value, kinds):
            if isinstance(value, Module):
                lines.append(f"{name}: " + repr(value).replace("\n", "\n  "))
            elif isinstance(value, kinds):
                lines.append(f"{name}: {value.dtype}{list(value.shape)}")
            for key, item in _items(value):
                describe(f"{name}.{key}", item, Parameter)

        for name, value in vars(self).items():
            describe(name, value, (Tensor, _Array))
        return f"{type(self).__name__}({''.join(f'{chr(10)}  {line}' for line in lines)}{chr(10) if lines else ''})"

    def zero_grad(self):
        """Forgets the gradients of all parameters."""
        for parameter in self.parameters():
            parameter.grad = None


def _items(value):
    """The pairs of key and item of a list, tuple or dict; none of anything else."""
    return value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()


def _places(holder, kind, wanted, prefix=""):
    """See `Module._named`. Of what a list or dict holds only Parameters count: other Tensors and arrays may be anything."""
    for key, value in _items(holder):
        if isinstance(value, wanted):
            yield f"{prefix}{key}", holder, key
        elif isinstance(value, Module):
            yield from _places(vars(value), kind, kind, f"{prefix}{key}.")
        else:
            yield from _places(value, kind, Parameter if kind is Tensor else (), f"{prefix}{key}.")


def _modules(values):
    for value in values:
        if isinstance(value, Module):
            yield from value.modules()
        else:
            yield from _modules(item for _, item in _items(value))


class _ArrayKind(type):
    def __instancecheck__(cls, value):
        return backend.is_array(value)


class _Array(metaclass=_ArrayKind):
    """Anything that is a NumPy or CuPy array."""


class Sequential(Module):
    """Modules applied one after the other."""

    def __init__(self, *modules):
        for i, module in enumerate(modules):
            setattr(self, str(i), module)
        self.length = len(modules)

    def forward(self, x):
        for module in self:
            x = module(x)
        return x

    def __len__(self):
        return self.length

    def __iter__(self):
        return (self[i] for i in range(self.length))

    def __getitem__(self, i):
        return vars(self)[str(range(self.length)[i])]


@contextlib.contextmanager
def _replaced(module, params):
    places = {full: (holder, key) for kind in (Tensor, _Array) for full, holder, key in module._named(kind)}
    unknown = params.keys() - places.keys()
    if unknown:
        raise KeyError(f"functional_call: the module has no parameters or buffers {sorted(unknown)}")
    new = {id(holder[key]): params[full] for full, (holder, key) in places.items() if full in params}
    before = {full: holder[key] for full, (holder, key) in places.items() if id(holder[key]) in new}
    try:
        for full, old in before.items():
            holder, key = places[full]
            value = params.get(full, new[id(old)])
            holder[key] = asarray(value) if backend.is_array(old) else value
        yield
    finally:
        for full, value in before.items():
            holder, key = places[full]
            holder[key] = value


def functional_call(module, params, *args, **settings):
    """`module(*args)` with other parameters: a dict from names to Tensors, through which gradients flow.

    The dict may also name buffers: arrays that the call may change in place, such as running statistics, so that the
    module's own stay as they are. Names that are left out keep their own value, but a parameter that stands in several
    places is replaced in all of them by the value for one. KeyError for unknown names.
    """
    with _replaced(module, params):
        return module(*args, **settings)
