"""What all optimisers share: groups of parameters with their settings, the parameters' state, checks."""
import functools
import itertools
import math
import numbers
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..backend import execution, fitting, may_be_real, xp
from ..versions import check_writable, mark_changed
from ..ops.geometry import whole
from ..tensor import Tensor
from .update import run_update

_COUNTS = {"steps", "updates", "good", "size", "bad", "cooling"}  # names, before a dot, of the whole numbers in state dicts


class Optimizer:
    """Common to all: parameters in groups, the arrays of their state by name, the number of steps taken.

    A parameter that is frozen (`requires_grad` is False) or has no `.grad` is left out of a step, and its state stays as it is.

        optim.SGD([{"params": backbone.parameters(), "lr": 1e-3}, {"params": head.parameters()}], lr=1e-2, momentum=0.9)

    A subclass says in `slots` which arrays it keeps for a parameter, in `update` what a step does to one, in `settings` which
    of a group's settings that takes, and in `checked` what they may be.

    Args:
        params: the parameters, or dicts {"params": parameters, ...} with settings of their own: groups.
        lr: the learning rate of groups without one of their own.
        defaults: the other settings of groups without their own.

    Attributes:
        param_groups: a list of dicts: "params" (a list) and all settings by name. A setting may be assigned between steps;
            of a captured step (see `minigrad.capture`) only the learning rates may.
        params: the parameters of all groups, in this order.
        state: for each of `params` a dict {name: array, or None where none is needed}.
        steps: how many steps have been taken.

    Raises:
        TypeError: what is given as parameters are no Tensors, or a setting is not of its type; ValueError: no parameters, a
            parameter that stands twice or was computed, a setting that is unknown or out of its range.
    """

    slots: tuple[str, ...] = ()
    kernel: str | None = None  # the name of `update` in the backends' tables of paths
    counts_steps = False  # whether `update` depends on how many steps its parameter has taken

    def __init__(self, params: Iterable[Tensor | dict], lr: float, **defaults):
        self._owner = type(self).__name__
        self.defaults = self.checked({"lr": lr, **defaults})
        self.params, self.param_groups, self.state, self.steps = [], [], [], 0
        self._lr, self._ratios = self.defaults["lr"], []  # the groups' own learning rates in relation to this one
        self._members = []  # of each group: (its place in `params`, the parameter, its state)
        self._counts = []  # of each parameter the number of its steps, where it matters
        self._seen = []  # of each group its values when they were last checked
        params = _listed(params, f"{self._owner}: params")
        grouped = any(isinstance(p, dict) for p in params)
        for group in params if grouped else [{"params": params}]:
            self.add_param_group(group)
        if not self.params:
            raise ValueError(f"{self._owner}: no parameters to optimise (those of a Module are its nn.Parameters)")

    def add_param_group(self, group: dict) -> None:
        """One more group, a dict {"params": parameters, ...} like those that the constructor takes.

        Its learning rate is in relation to the constructor's: where `lr` has changed since, that of the group has too.
        """
        where = f"{self._owner}: param_groups[{len(self.param_groups)}]"
        if not isinstance(group, dict) or "params" not in group:
            raise TypeError(f"{where} must be a dict with 'params', not {_described(group)}")
        unknown = group.keys() - self.defaults.keys() - {"params"}
        if unknown:
            raise ValueError(f"{where} has unknown settings {sorted(map(str, unknown))}; known are {sorted(self.defaults)}")
        params = self._new_params(group["params"], f"{where}['params']")
        settings = self.defaults | {name: value for name, value in group.items() if name != "params"}
        group, base = {"params": params, **self.checked(settings, params)}, self.defaults["lr"]
        if group["lr"] and not base:
            raise ValueError(f"{where} has the lr {group['lr']}, but that of the optimiser is 0, to which it has no ratio")
        self._ratios.append(group["lr"] / base if base else 1.0)
        if base:
            group["lr"] *= self.lr / base
        state = [self.new_state(p._array, group) for p in params]
        self._members.append(list(zip(itertools.count(len(self.params)), params, state)))
        self.param_groups.append(group)
        self._seen.append(())
        self.params += params
        self.state += state
        self._counts += [0] * len(params)

    def _new_params(self, given, name):
        """The parameters of a new group, a list. TypeError: they are no Tensors; ValueError: one was computed or stands twice."""
        params, known = _listed(given, name), {id(p): i for i, p in enumerate(self.params)}
        for i, p in enumerate(params):
            instance(p, Tensor, f"{name}[{i}]")
            if not p.is_leaf:
                raise ValueError(f"{name}[{i}], of shape {p.shape}, is computed by '{p._node.op.name}': only leaf Tensors can be "
                                 "optimised")
            if id(p) in known:
                raise ValueError(f"{name}[{i}], of shape {p.shape}, stands twice: it is parameter {known[id(p)]} already")
            known[id(p)] = len(known)
        return params

    def __repr__(self):
        groups = (f"{len(group['params'])} parameters, "
                  + ", ".join(f"{name}={value!r}" for name, value in group.items() if name != "params")
                  for group in self.param_groups)
        return f"{type(self).__name__}({'; '.join(groups)})"

    # -- of subclasses -------------------------------------------------------------------------------------------------

    def checked(self, settings: dict, params: Sequence[Tensor] = ()) -> dict:
        """The settings by name, numbers as Python's floats. TypeError or ValueError for those that cannot be."""
        return settings | {name: self.number(settings, name) for name in ("lr", "weight_decay") if name in settings}

    def number(self, settings: dict, name: str, below: float = math.inf) -> float:
        """The setting of this name as a float, checked to be in [0, below)."""
        return number(settings[name], f"{self._owner}: {name}", below)

    def truth(self, settings: dict, name: str) -> bool:
        """The setting of this name, checked to be True or False."""
        if not isinstance(settings[name], bool):
            raise TypeError(f"{self._owner}: {name} must be True or False, not {settings[name]!r:.60}")
        return settings[name]

    def eps(self, settings: dict, params: Sequence[Tensor]) -> float:
        """The setting "eps", not negative. ValueError: in the dtype of one of the parameters it would be 0."""
        eps = self.number(settings, "eps")
        vanishing = [p.dtype for p in params if eps and p.dtype.type(eps) == 0]
        if vanishing:
            raise ValueError(f"{self._owner}: eps {eps} is 0 in {vanishing[0]}; keep the parameters in float32 and convert "
                             "them for each step, as LossScaler describes")
        return eps

    def new_state(self, p: Any, group: dict) -> dict:
        """The state of a new parameter, whose array is `p`: an array for each of `slots`."""
        return {name: xp(p).zeros_like(p) for name in self.slots}

    def settings(self, group: dict, lr: Any, t: Any) -> tuple:
        """What `update` takes after the arrays. `lr` is the learning rate and `t` the number of the parameter's step; of a
        captured step both are arrays (1,). By default the rate alone."""
        return (lr,)

    def update(self, p: Any, g: Any, *arrays_and_settings: Any) -> None:
        """Changes the array `p` of a parameter with the gradient `g`, and its state, in place."""
        raise NotImplementedError(f"{type(self).__name__} defines no update()")

    # -- steps ---------------------------------------------------------------------------------------------------------

    @property
    def lr(self) -> float:
        """The learning rate. Setting it sets that of every group; one that was made with a rate of its own keeps its ratio to
        the optimiser's."""
        return next((g["lr"] for g, ratio in zip(self.param_groups, self._ratios) if ratio == 1), self._lr)

    @lr.setter
    def lr(self, value: float):
        self._lr = number(value, f"{self._owner}: lr")
        for group, ratio in zip(self.param_groups, self._ratios):
            group["lr"] = self._lr * ratio

    def step(self) -> None:
        """One update of every parameter that has a gradient and is not frozen.

        Raises:
            TypeError: a gradient is no Tensor, or a group was given a setting that is not of its type; ValueError: a gradient has
                not the shape of its parameter, or this is in read-only memory, a setting is unknown or out of its range, or
                groups or their parameters are not those that were given. Nothing is changed then.
        """
        if len(self.param_groups) != len(self._members):
            raise ValueError(f"{self._owner}: param_groups has {len(self.param_groups)} groups, and {len(self._members)} were "
                             "given: add_param_group adds one")
        for k, group in enumerate(self.param_groups):
            self._check_settings(k, group)
        moving = [[member for member in members if member[1].grad is not None and member[1]._requires_grad]
                  for members in self._members]
        for i, p, _ in itertools.chain(*moving):
            array, grad = p._array, p.grad
            if grad.__class__ is not Tensor or grad._array.shape != array.shape or not (
                    array.__class__ is np.ndarray and array.flags.writeable):  # which the most are, and functions take time
                self._check(i, p)
        t = execution.per_replay(self._count, np.int32)
        for group, members in zip(self.param_groups, moving):
            if not self.counts_steps:
                self._step(group, members, t)
                continue
            by_count = {}
            for member in members:
                by_count.setdefault(self._counts[member[0]], []).append(member)
            for equal in by_count.values():
                self._step(group, equal, execution.per_replay(functools.partial(self._count_of, equal), np.int32))

    def _check_settings(self, k, group):
        """Checks the parameters of group number k, and its settings where one was assigned since the last step."""
        same = [*map(id, group.get("params", ()))] == [id(p) for _, p, _ in self._members[k]]
        if same and len(group) == len(self._seen[k]) and all(map(operator.is_, group.values(), self._seen[k])):
            return
        where, known = f"{self._owner}: param_groups[{k}]", self.defaults.keys() | {"params"}
        if not same:
            raise ValueError(f"{where}['params'] is not what was given: parameters come by add_param_group or a new optimiser")
        if group.keys() != known:
            raise ValueError(f"{where} lacks or has unknown settings {sorted(map(str, group.keys() ^ known))}; known are "
                             f"{sorted(known)}")
        try:
            checked = self.checked({name: value for name, value in group.items() if name != "params"}, group["params"])
        except (TypeError, ValueError) as error:
            raise type(error)(f"{where}: {error}") from None
        group.update(checked)
        self._seen[k] = [*group.values()]

    def _check(self, i, p):
        """An error unless parameter number i can be updated by its gradient."""
        gradient_of(self._owner, i, p)
        check_writable(f"{self._owner}: parameter {i}", p._array)

    def _step(self, group, members, t):
        """A step of some parameters of a group, which is their step number `t`."""
        rows = [(p._array, p.grad._array, *state.values()) for _, p, state in members]
        for row in rows:
            mark_changed(row[0])

        def settings(dtype):
            return self.settings(group, execution.per_replay(lambda: group["lr"], dtype), t)

        run_update(self.kernel, self.update, rows, settings, self._owner)

    def _count(self):
        self.steps += 1
        return self.steps

    def _count_of(self, members):
        for i, _, _ in members:
            self._counts[i] += 1
        return self._counts[i]

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for p in self.params:
            p.grad = None

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, np.ndarray]:
        """A dict from names to arrays: the number of steps, the learning rate and the state, copied.

        The state of parameter i is "NAME.i". "lr.k" is that of a group k whose learning rate is another, "steps.i" of a
        parameter that took fewer steps, "size.k" how many parameters group k of several has. The other settings are the
        constructor's.
        """
        state = {name: a.copy() for name, a in self._named_state().items()}
        state |= {"steps": np.array(self.steps), "lr": np.array(self.lr)}
        state |= {f"size.{k}": np.array(size) for k, size in self._sizes().items()}
        state |= {f"lr.{k}": np.array(g["lr"]) for k, g in enumerate(self.param_groups) if g["lr"] != self.lr}
        if self.counts_steps:
            state |= {f"steps.{i}": np.array(count) for i, count in enumerate(self._counts) if count != self.steps}
        return state

    def _sizes(self):
        """Of several groups the numbers of their parameters."""
        return {k: len(group["params"]) for k, group in enumerate(self.param_groups)} if len(self.param_groups) > 1 else {}

    def _named_state(self):
        return {f"{name}.{i}": state[name] for name in self.slots for i, state in enumerate(self.state)
                if state[name] is not None}

    def load_state_dict(self, state: dict) -> None:
        """Puts back what `state_dict` returned.

        Raises:
            KeyError: names are missing or unknown, as the state is that of other parameters or of an optimiser that keeps
                other arrays; TypeError: they are no real numbers; ValueError: shapes or numbers are not those of a state.
                Nothing is changed then.
        """
        own = self._named_state()
        rates = [f"lr.{k}" for k in range(len(self.param_groups))]
        counts = [f"steps.{i}" for i in range(len(self.params))] if self.counts_steps else []
        sizes = {f"size.{k}": size for k, size in self._sizes().items()}
        arrays = matching(f"{self._owner}.load_state_dict", state, own, ["steps", "lr"], [*rates, *counts, *sizes])
        given = {name: arrays.pop(name) for name in sizes if name in arrays}
        if given and given != sizes:  # of one group none is written
            raise ValueError(f"{self._owner}.load_state_dict: the state is not that of groups of {list(sizes.values())} "
                             "parameters")
        base, steps = arrays.pop("lr"), arrays.pop("steps")
        rates, counts = [arrays.pop(name, base) for name in rates], [arrays.pop(name, steps) for name in counts]
        for name, a in own.items():
            a[...] = arrays[name]
        self.lr, self.steps = base, steps
        for group, rate in zip(self.param_groups, rates):
            group["lr"] = rate
        self._counts = counts


def number(value, name: str, below: float = math.inf, least: float = 0) -> float:
    """`value` as a float. TypeError if it is no number, ValueError if it is not in [least, below)."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, not {_described(value)}")
    if not least <= value < below:
        low = f"{least} or more" if least else "not negative"
        raise ValueError(f"{name} must be {low} and {'finite' if below == math.inf else f'below {below}'}, not {value}")
    return float(value)


def gradient_of(owner: str, i: int, parameter: Tensor) -> Any:
    """The array of the gradient of parameter number i. TypeError: it is no Tensor, as anybody may have assigned; ValueError: it
    has another shape."""
    if not isinstance(parameter.grad, Tensor):
        raise TypeError(f"{owner}: the gradient of parameter {i} is a Tensor, not {type(parameter.grad).__name__}")
    if parameter.shape != parameter.grad.shape:
        raise ValueError(f"{owner}: parameter {i} has shape {parameter.shape}, its gradient {parameter.grad.shape}")
    return parameter.grad._array


def instance(value, kind: type, name: str) -> None:
    """TypeError if `value` is none of the class `kind`."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a{'n' * (kind.__name__[0] in 'AEIO')} {kind.__name__}, not {_described(value)}")


def matching(owner: str, state: dict, own: dict, scalars: Sequence[str], optional: Sequence[str] = ()) -> dict:
    """What a state dict holds: arrays like those in `own` and on their devices, and numbers: floats, and ints that count.

    Raises:
        TypeError: `state` is no dict, or does not hold real numbers; KeyError: names are missing or unknown; ValueError: an
            array's shape is not that of `own`, a number does not fit its dtype, is negative, or counts and is not whole.
    """
    instance(state, Mapping, f"{owner}: state")
    known = {*own, *scalars, *optional}
    missing, unknown = [n for n in (*own, *scalars) if n not in state], [n for n in state if n not in known]
    if missing or unknown:
        raise KeyError(f"{owner}: the state is another's: missing {_some(missing)}, unknown {_some(unknown)}")
    found = {}
    for name, value in state.items():
        if name not in own:
            if np.shape(value) not in ((), (1,)):
                raise ValueError(f"{owner}: '{name}' must be a number, not of shape {np.shape(value)}")
            found[name] = number(value.item() if hasattr(value, "item") else value, f"{owner}: '{name}'")
            if name.partition(".")[0] in _COUNTS:
                found[name] = whole(owner, f"'{name}'", found[name], 0)
        elif not may_be_real(value.dtype if hasattr(value, "dtype") else np.asarray(value).dtype):
            raise TypeError(f"{owner}: '{name}' is no array of real numbers, but {_described(value)}")
        elif tuple(np.shape(value)) != own[name].shape:
            raise ValueError(f"{owner}: '{name}' has shape {np.shape(value)}, not {own[name].shape}")
        else:
            found[name] = fitting(f"{owner}: '{name}'", value._array if isinstance(value, Tensor) else value, own[name])
    return found


def move(mean, value, keep):
    """mean = keep mean + (1 - keep) value, in place.

    As a step from the mean towards the value it would leave the rounding of a large mean where the value is small, and make NaN
    of an infinite one.
    """
    mean *= keep
    mean += (1 - keep) * value


def trust(p, direction, coefficient=1.0):
    """coefficient |p| / |direction|, and 1 where either length is 0; stays on the device of `p`."""
    module = xp(p)
    a, b = module.sqrt((p * p).sum()), module.sqrt((direction * direction).sum())
    return module.where((a > 0) & (b > 0), coefficient * a / module.where(b > 0, b, 1), 1).astype(p.dtype)


def _listed(params, name):
    if isinstance(params, (Tensor, str, dict, set, frozenset)) or not isinstance(params, Iterable):
        raise TypeError(f"{name} must be a list of Tensors or of groups, such as net.parameters(), not {_described(params)}")
    return list(params)


def _described(value):
    if isinstance(value, Tensor):
        return f"a Tensor of shape {value.shape}"
    if isinstance(value, Mapping):
        return f"{type(value).__name__} with {_some(list(value))}"
    shown = repr(value)
    return type(value).__name__ + (f" {shown:.60}" if "\n" not in shown else "")


def _some(names):
    return f"[{', '.join(map(str, names[:4]))}{f', ... ({len(names)} in all)' if len(names) > 4 else ''}]"
