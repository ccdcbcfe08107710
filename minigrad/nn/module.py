"""Module: attributes that are Parameters, buffers (NumPy or CuPy arrays) or Modules, found by name."""
import contextlib

from .. import backend
from ..recording import mark_changed
from ..tensor import Tensor, asarray


class Parameter(Tensor):
    """A leaf Tensor that a Module owns and an optimiser changes."""

    __slots__ = ()

    def __init__(self, array, requires_grad=True):
        super().__init__(array, requires_grad)


class Module:
    """A function with parameters. A subclass sets its parts as attributes and defines `forward`."""

    training = True

    def __call__(self, *args, **settings):
        return self.forward(*args, **settings)

    def forward(self, *args, **settings):
        raise TypeError(f"{type(self).__name__} defines no forward()")

    def _named(self, kind, prefix=""):
        for name, value in vars(self).items():
            if isinstance(value, kind):
                yield prefix + name, self, name
            elif isinstance(value, Module):
                yield from value._named(kind, f"{prefix}{name}.")
            elif isinstance(value, (list, tuple)):
                for i, item in enumerate(value):
                    if isinstance(item, Module):
                        yield from item._named(kind, f"{prefix}{name}.{i}.")

    def named_parameters(self):
        """Pairs (dotted name, Parameter), in the order of definition; one that stands in several places once."""
        seen = set()
        for full, owner, name in self._named(Tensor):
            parameter = vars(owner)[name]
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield full, parameter

    def parameters(self):
        """The Parameters, in the order of definition."""
        return [parameter for _, parameter in self.named_parameters()]

    def named_buffers(self):
        """Pairs (dotted name, array) of the state that is not trained, such as running statistics."""
        for full, owner, name in self._named(_Array):
            yield full, vars(owner)[name]

    def modules(self):
        """This Module and all below it."""
        yield self
        for value in vars(self).values():
            for item in value if isinstance(value, (list, tuple)) else (value,):
                if isinstance(item, Module):
                    yield from item.modules()

    def state_dict(self):
        """A dict from dotted names to copies of the parameters' and buffers' arrays."""
        return {name: array.copy() for name, array in self._state().items()}

    def _state(self):
        """The arrays of the parameters, under each of their names, and of the buffers."""
        return {full: vars(owner)[name]._array for full, owner, name in self._named(Tensor)} | dict(self.named_buffers())

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
            return array.astype(target, copy=False) if array.dtype.kind == "f" else array

        for module in self.modules():
            for name, value in vars(module).items():
                if isinstance(value, Tensor):
                    mark_changed(value._array)
                    value._array = moved(value._array)
                elif backend.is_array(value):
                    setattr(module, name, moved(value))
        return self

    def __repr__(self):
        lines = []
        for name, value in vars(self).items():
            several = isinstance(value, (list, tuple))
            for name, item in [(f"{name}.{i}", v) for i, v in enumerate(value)] if several else [(name, value)]:
                if isinstance(item, Module):
                    lines.append(f"{name}: " + repr(item).replace("\n", "\n  "))
                elif isinstance(item, Tensor) or backend.is_array(item):
                    lines.append(f"{name}: {item.dtype}{list(item.shape)}")
        return f"{type(self).__name__}({''.join(f'{chr(10)}  {line}' for line in lines)}{chr(10) if lines else ''})"

    def zero_grad(self):
        """Forgets the gradients of all parameters."""
        for parameter in self.parameters():
            parameter.grad = None


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
    places = {full: (owner, name) for kind in (Tensor, _Array) for full, owner, name in module._named(kind)}
    unknown = params.keys() - places.keys()
    if unknown:
        raise KeyError(f"functional_call: the module has no parameters or buffers {sorted(unknown)}")
    before = {full: vars(places[full][0])[places[full][1]] for full in params}
    try:
        for full, value in params.items():
            owner, name = places[full]
            setattr(owner, name, asarray(value) if backend.is_array(before[full]) else value)
        yield
    finally:
        for full, value in before.items():
            owner, name = places[full]
            setattr(owner, name, value)


def functional_call(module, params, *args, **settings):
    """`module(*args)` with other parameters: a dict from names to Tensors, through which gradients flow.

    The dict may also name buffers: arrays that the call may change in place, such as running statistics, so that the
    module's own stay as they are. Names that are left out keep their own value. KeyError for unknown names.
    """
    with _replaced(module, params):
        return module(*args, **settings)
