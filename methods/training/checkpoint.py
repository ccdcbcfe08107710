"""Checkpoints: all that training needs to go on to the same bits, and all that a classifier needs to be used.

A file of arrays, and facts as JSON: `format`, `step`, `random` (the state of the global generator), `state` and `classifier`.
`state` holds each part's state under its name; where an array belongs stands {"array": its name in the file}.
"""
import hashlib
import os
from typing import Any

import numpy as np

from minigrad import Tensor, io
from minigrad.backend import is_array, random, xp

FORMAT = 2


class NotFinite(ValueError):
    """A state holds NaN or infinity, so it is not worth to be kept or resumed."""


class OtherData(ValueError):
    """A checkpoint was made with other data."""


def fingerprint(*data: Any) -> str:
    """A digest of data: arrays by their shape, dtype and up to 1,000 evenly spaced rows; lists of these; names."""
    digest = hashlib.sha256()

    def add(value):
        if isinstance(value, np.ndarray):
            digest.update(repr((value.shape, value.dtype.str)).encode())
            digest.update(np.ascontiguousarray(value[::-(-len(value) // 1000) or 1] if value.ndim else value).tobytes())
        elif isinstance(value, (list, tuple)):
            digest.update(f"{len(value)} of:".encode())
            for inner in value:
                add(inner)
        else:
            digest.update(repr(value).encode())

    add(data)
    return digest.hexdigest()


def save(path: str | os.PathLike, step: int, parts: dict[str, Any], classifier: dict[str, Any] | None = None,
         data: str | None = None) -> None:
    """Writes a checkpoint, whole or not at all.

    Args:
        step: the number of steps done.
        parts: by name; a part is a Tensor, a NumPy Generator, a dict of parts, anything with `state_dict()` and
            `load_state_dict()` (a module, an optimiser), or anything with `state()` that returns a dict of parts.
        classifier: facts and arrays from which a trained classifier is built again (`Classifier.facts`).
        data: the fingerprint of the data that it was made with.

    Raises:
        NotFinite: the state holds NaN or infinity. The file is left as it was.
    """
    arrays: dict[str, Any] = {}
    facts = {"format": FORMAT, "step": step, "random": _pack(random.get_state(), "random", arrays),
             "state": {name: _pack(_state(part), name, arrays) for name, part in parts.items()},
             "classifier": _pack(classifier, "classifier", arrays)}
    if data is not None:
        facts["data"] = data
    _check_finite(arrays)
    io.save(path, arrays, facts)


def load(path: str | os.PathLike) -> dict[str, Any]:
    """The facts of a checkpoint, the arrays in their places.

    Raises:
        FileNotFoundError: there is none; ValueError: it is damaged or of another format.
    """
    arrays, facts = io.load(path)
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise ValueError(f"{path} is no checkpoint of this version (format {FORMAT})")
    return _unpack(facts, arrays)


def restore(path: str | os.PathLike, parts: dict[str, Any], data: str | None = None) -> int:
    """Puts the checkpoint's state back into the parts and the global generator; returns its step.

    Args:
        data: the fingerprint of the data that training goes on with.

    Raises:
        FileNotFoundError, ValueError: see `load`; ValueError also if a part's state is missing or of another shape, NotFinite
            if it holds NaN or infinity, OtherData if it was made with other data.
    """
    facts = load(path)
    if data is not None and facts.get("data", data) != data:
        raise OtherData(f"{path} was made with other data")
    if missing := parts.keys() - facts["state"].keys():
        raise ValueError(f"{path} was made by another method: it has no state of {', '.join(sorted(missing))}")
    if type(facts["step"]) is not int or facts["step"] < 0:
        raise ValueError(f"{path} is damaged: {facts['step']!r} is no number of steps")
    arrays: dict[str, Any] = {}
    _pack(facts["state"], "state", arrays)
    _check_finite(arrays)
    for name, part in parts.items():
        _restore(part, facts["state"][name])
    random.set_state(facts["random"])
    return facts["step"]


def _check_finite(arrays):
    for name, a in arrays.items():
        if np.dtype(a.dtype).kind == "f" and not xp(a).isfinite(a).all():
            raise NotFinite(f"{name} holds numbers that are not finite")


def _state(part):
    """The state of a part: nested dicts and lists of arrays and plain values."""
    if isinstance(part, dict):
        return {name: _state(inner) for name, inner in part.items()}
    if isinstance(part, np.random.Generator):
        return part.bit_generator.state
    if isinstance(part, Tensor):
        return part.numpy()
    return part.state_dict() if hasattr(part, "state_dict") else _state(part.state())


def _restore(part, state):
    if isinstance(part, dict):
        for name, inner in part.items():
            _restore(inner, state[name])
    elif isinstance(part, np.random.Generator):
        part.bit_generator.state = state
    elif isinstance(part, Tensor):
        if part.shape != np.shape(state):
            raise ValueError(f"an array {part.shape} is wanted, not {np.shape(state)}")
        part.data = state
    elif hasattr(part, "state_dict"):
        part.load_state_dict(state)
    else:
        _restore(part.state(), state)


def _pack(value, name, arrays):
    """A value as JSON can hold it: arrays move to the dict `arrays`."""
    if is_array(value):
        arrays[name] = value
        return {"array": name}
    if isinstance(value, dict):
        return {key: _pack(inner, f"{name}.{key}", arrays) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_pack(inner, f"{name}.{i}", arrays) for i, inner in enumerate(value)]
    return value


def _unpack(value, arrays):
    if isinstance(value, dict):
        if value.keys() == {"array"}:
            return arrays[value["array"]]
        return {key: _unpack(inner, arrays) for key, inner in value.items()}
    return [_unpack(inner, arrays) for inner in value] if isinstance(value, list) else value
