"""Checkpoints: all that training needs to go on to the same bits, and all that a classifier needs to be used.

A file of arrays, and facts as JSON: `format`, `step`, `random` (the state of the global generator), `state` and `classifier`.
`state` holds each part's state under its name; where an array belongs stands {"array": its name in the file}.
"""
import os
from typing import Any

import numpy as np

from minigrad import Tensor, io
from minigrad.backend import is_array, random

FORMAT = 2


def save(path: str | os.PathLike, step: int, parts: dict[str, Any], classifier: dict[str, Any] | None = None) -> None:
    """Writes a checkpoint, whole or not at all.

    Args:
        step: the number of steps done.
        parts: by name; a part is a Tensor, a NumPy Generator, a dict of parts, anything with `state_dict()` and
            `load_state_dict()` (a module, an optimiser), or anything with `state()` that returns a dict of parts.
        classifier: facts and arrays from which a trained classifier is built again (`Classifier.facts`).
    """
    arrays: dict[str, Any] = {}
    facts = {"format": FORMAT, "step": step, "random": _pack(random.get_state(), "random", arrays),
             "state": {name: _pack(_state(part), name, arrays) for name, part in parts.items()},
             "classifier": _pack(classifier, "classifier", arrays)}
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


def restore(path: str | os.PathLike, parts: dict[str, Any]) -> int:
    """Puts the checkpoint's state back into the parts and the global generator; returns its step.

    Raises:
        FileNotFoundError, ValueError: see `load`; ValueError also if a part's state is missing.
    """
    facts = load(path)
    if missing := parts.keys() - facts["state"].keys():
        raise ValueError(f"{path} was made by another method: it has no state of {', '.join(sorted(missing))}")
    for name, part in parts.items():
        _restore(part, facts["state"][name])
    random.set_state(facts["random"])
    return facts["step"]


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
