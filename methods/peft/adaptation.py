"""What a method has put into a network: trained, counted, merged, saved, taken away."""
import dataclasses
import hashlib
import os
from types import ModuleType
from typing import Any

import numpy as np

from minigrad import io, nn
from minigrad.backend import to_device
from minigrad.ops.geometry import whole

from .places import Place, head_of

FORMAT = 1


class OtherBase(ValueError):
    """A file belongs to other base weights."""


class Adaptation:
    """A method's parts in a network; made by `peft.apply` and `peft.load`, and found as `net.adaptation`.

    No Parameter of the base is ever changed: what is to learn lies beside it or is a copy in its place. While the parts are in
    the network nothing else gets gradients.

    Args:
        net: the network; method, config: what is put there.
        module: the method's file. head, **more: see `peft.apply`.

    Attributes:
        base: the checksum of the network's weights without it; those of the head count unless a new one was given.
        is_merged, has_head: whether plain layers stand in the place of the parts; whether a head of its own is trained.

    Raises:
        ValueError: the network has a method already, or no place for this one, or is not for such a head.
    """

    def __init__(self, net: nn.Module, method: str, config: Any, module: ModuleType, head: int | nn.Module | None = None,
                 **more: Any):
        _check_free(net)
        self.net, self.method, self.config, self.is_merged = net, method, config, False
        self.has_head = head is not None
        self.base, self.base_size = checksum(net, self.has_head), _size(_base(net, self.has_head).values())
        new = [Place(vars(net), "head", _new_head(net, head))] if self.has_head else []
        for place in new:
            place.set(nn.Identity())  # what a new head replaces is no place for parts
        try:
            self._places = [*module.parts(net, config, **more), *new]
        finally:
            for place in new:
                place.take()
        self.attach()

    # -- in and out --------------------------------------------------------------------------------------------------

    def attach(self) -> None:
        """Puts the parts back that `undo` took away.

        Raises:
            ValueError: the network has others.
        """
        _check_free(self.net)
        before = self.net.parameters()
        known = {id(parameter) for parameter in before}
        for place in self._places:
            _move(place.new, place.old if isinstance(place.old, nn.Parameter) else before[0], known)
        self._flags = [(parameter, parameter.requires_grad) for parameter in before]
        for place in self._places:
            place.put()
        for parameter in self.net.parameters():
            parameter.requires_grad = id(parameter) not in known
        self.net.adaptation = self

    def undo(self) -> None:
        """Takes the parts away: the network is what it was, to the last bit. What was learned stays here, for `attach`.

        Raises:
            ValueError: it is not in the network.
        """
        if getattr(self.net, "adaptation", None) is not self:
            raise ValueError(f"undo: {self.method} is not in the network (any more)")
        for place in reversed(self._places):
            if isinstance(place.old, nn.Parameter):  # the network may have been moved in between
                _move(place.old, place.new)
            place.take()
        for parameter, flag in self._flags:
            parameter.requires_grad, parameter.grad = flag, None
        self.is_merged = False
        del self.net.adaptation

    # -- merging -----------------------------------------------------------------------------------------------------

    def merge(self) -> None:
        """Puts plain linear layers that compute the same in place of LoRA's and (IA)^3's; `train` and `eval` do not.

        Raises:
            ValueError: it is merged, or not in the network, or the method changes more than linear layers.
        """
        if self.is_merged:
            raise ValueError(f"merge: {self.method} is merged already")
        self._check_attached("merge")
        layers = self._places[:-1] if self.has_head else self._places
        if not layers or not all(hasattr(place.new, "merged") for place in layers):
            raise ValueError(f"merge: {self.method} cannot be written as other weights of the same network")
        for place in layers:
            place.set(place.new.merged())
        self.is_merged = True

    def unmerge(self) -> None:
        """Puts the parts back, and with them the base weights, to the last bit.

        Raises:
            ValueError: it is not merged.
        """
        if not self.is_merged:
            raise ValueError(f"unmerge: {self.method} is not merged")
        for place in self._places:
            place.put()
        self.is_merged = False

    def finish(self) -> None:
        """Leaves out what is for training only: the MLP of prefixes.

        Raises:
            ValueError: it is not in the network.
        """
        self._check_attached("finish")
        finishing = [place for place in self._places if hasattr(place.new, "finished")]
        for place in finishing:
            place.new = place.new.finished()
            _move(place.new, self.net.parameters()[0])
            place.put()
        if finishing:
            self.config = dataclasses.replace(self.config, hidden=0)

    # -- what is trained ---------------------------------------------------------------------------------------------

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """What is trained, the head's too, by the names in the network.

        Raises:
            ValueError: it is merged, or not in the network.
        """
        self._check_attached("named_parameters")
        if self.is_merged:
            raise ValueError(f"{self.method} is merged: nothing can be trained or saved before unmerge()")
        base = {id(parameter) for parameter, _ in self._flags}
        return {name: parameter for name, parameter in self.net.named_parameters() if id(parameter) not in base}

    def parameters(self) -> list[nn.Parameter]:
        """What is trained, for an optimiser. Errors as of `named_parameters`."""
        return list(self.named_parameters().values())

    def counts(self) -> dict[str, int]:
        """How many numbers are "trained" without the head, are in the "head" that is trained, and in the "base".

        Errors as of `named_parameters`.
        """
        head = {id(parameter) for parameter in head_of(self.net).parameters()}
        own = self.parameters()
        return {"trained": _size(p for p in own if id(p) not in head), "head": _size(p for p in own if id(p) in head),
                "base": self.base_size}

    def __str__(self) -> str:
        if self.is_merged or getattr(self.net, "adaptation", None) is not self:
            return f"{self.method}, {'merged into the weights' if self.is_merged else 'not in the network'}"
        n = self.counts()
        head = f", and {n['head']:,} of the head" if n["head"] else ""
        return (f"{self.method}: {n['trained']:,} numbers are trained ({100 * n['trained'] / max(n['base'], 1):.2f} % of "
                f"{n['base']:,}){head}")

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of what is trained. Errors as of `named_parameters`."""
        return {name: parameter.data.copy() for name, parameter in self.named_parameters().items()}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Puts back what `state_dict` returned.

        Raises:
            KeyError: names are missing or unknown; ValueError: a shape differs, it is merged, or not in the network.
        """
        own = self.named_parameters()
        if own.keys() != state.keys():
            raise KeyError(f"{self.method}: missing {sorted(own.keys() - state.keys())}, "
                           f"unknown {sorted(state.keys() - own.keys())}")
        self.net.load_state_dict(state, strict=False)

    # -- files -------------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike, **facts: Any) -> None:
        """Writes what is trained, with the method, its settings and the checksum of the base, as a file of safetensors.

        Args:
            facts: more, as JSON can hold it; `read` returns them.

        Raises:
            ValueError: it is merged, or not in the network, or its head is no linear layer; and the errors of `io.save`.
        """
        arrays = {name: to_device(array, "cpu") for name, array in self.state_dict().items()}
        about = {"format": FORMAT, "method": self.method, "config": dataclasses.asdict(self.config), "base": self.base,
                 "head": _head_facts(self.net) if self.has_head else None, **facts}
        io.save(path, arrays, about)

    def _check_attached(self, what):
        if getattr(self.net, "adaptation", None) is not self:
            raise ValueError(f"{what}: {self.method} is not in the network; attach() puts it back")


def read(path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The facts and arrays of a file that `Adaptation.save` wrote.

    Raises:
        FileNotFoundError: there is none; ValueError: it is another file.
    """
    arrays, about = io.load(path)
    wanted = {"format": int, "method": str, "config": dict, "base": str}
    if not isinstance(about, dict) or not all(isinstance(about.get(name), kind) for name, kind in wanted.items()):
        raise ValueError(f"{path} holds no parameter-efficient fine-tuning")
    if about["format"] != FORMAT:
        raise ValueError(f"{path} is of format {about['format']}, and {FORMAT} is wanted")
    return about, arrays


def with_state(net: nn.Module, path: str | os.PathLike, about: dict[str, Any], arrays: dict[str, np.ndarray],
               module: ModuleType) -> Adaptation:
    """The adaptation of a network that the facts and arrays of `read` describe.

    Raises:
        ValueError: the network has a method already, or the file is damaged; OtherBase: it belongs to other weights.
    """
    _check_free(net)
    if checksum(net, about.get("head") is not None) != about["base"]:
        raise OtherBase(f"{path} was trained on other base weights than these of {type(net).__name__}")
    found = None
    try:
        config = module.Config(**{k: tuple(v) if isinstance(v, list) else v for k, v in about["config"].items()})
        begun = dataclasses.replace(config, start="random") if hasattr(config, "start") else config  # needs no words
        head = nn.Linear(*about["head"]) if about.get("head") is not None else None
        found = Adaptation(net, about["method"], begun, module, head)
        found.load_state_dict(arrays)
    except Exception as error:  # whatever a damaged file may lead to
        if found is not None:
            found.undo()
        raise ValueError(f"{path} is damaged: {error.args[0] if error.args else type(error).__name__}") from None
    found.config = config
    return found


def _new_head(net, head):
    """The Module given, or a linear layer for so many classes, 0 at first."""
    if isinstance(head, nn.Module):
        if {id(p) for p in head.parameters()} & {id(p) for p in net.parameters()}:
            raise ValueError("head: it is part of the network, which would be changed: give a copy")
        return head
    head = whole("apply", "head", head, 1)
    if not isinstance(getattr(net, "width", None), int):
        raise ValueError(f"{type(net).__name__} does not say the width of its features: give a Module as head")
    new = nn.Linear(net.width, head)
    for parameter in new.parameters():
        nn.init.zeros_(parameter)
    return new


def checksum(net: nn.Module, without_head: bool = False) -> str:
    """A digest of names, shapes, dtypes and numbers of a network's parameters and buffers, 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    for name, array in _base(net, without_head).items():
        array = np.ascontiguousarray(to_device(array, "cpu"))
        digest.update(repr((name, array.shape, array.dtype.str)).encode())
        digest.update(array.view(np.uint8).reshape(-1))
    return digest.hexdigest()


def _base(net, without_head):
    """The arrays of parameters and buffers by name, those that stand in several places once."""
    head = {id(p) for p in head_of(net).parameters()} if without_head else set()
    return {name: p.data for name, p in net.named_parameters() if id(p) not in head} | dict(net.named_buffers())


def _size(arrays):
    return sum(int(array.size) for array in arrays)


def _head_facts(net):
    """The arguments of `nn.Linear` for the head."""
    head = net.head
    if type(head) is not nn.Linear:
        raise ValueError(f"save: the head is a linear layer, not {type(head).__name__}")
    return [head.weight.shape[1], head.weight.shape[0], head.bias is not None]


def _check_free(net):
    if (there := getattr(net, "adaptation", None)) is not None:
        raise ValueError(f"{type(net).__name__} has {there.method} already: undo() it first")


def _move(part, like, known=()):
    """Brings a Module or Parameter to a device and dtype, but for Parameters known by their ids."""
    for parameter in part.parameters() if isinstance(part, nn.Module) else [part]:
        if id(parameter) not in known and (parameter.device, parameter.dtype) != (like.device, like.dtype):
            alone = nn.Module()
            alone.parameter = parameter
            alone.to(str(like.device)).to(like.dtype)
