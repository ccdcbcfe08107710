"""Parameter-efficient fine-tuning: a pretrained Transformer learns a task while its own weights stay as they are.

    tuned = peft.apply(net, "lora", head=2)     # net: BERT, CLIPText, VisionTransformer, or a network that holds one
    ... train tuned.parameters() ...
    print(tuned)                                # lora: 73,728 numbers are trained (0.32 % of 22,713,216), and 770 of the head
    tuned.save("reviews.safetensors")           # some hundred kilobytes
    tuned.undo()                                # net is what it was, to the last bit
    peft.load(net, "reviews.safetensors")       # refused if net has other weights

Each method is a file with its equations, a `Config`, and `parts`: which modules and Parameters it puts at which places.
`adaptation` puts them there and takes them away.
"""
import dataclasses
import importlib
from collections.abc import Iterable
from typing import Any

from methods.training.settings import check
from minigrad import nn

from .adaptation import Adaptation, OtherBase, read, with_state
from .library import Library

METHODS = {name: importlib.import_module(f"{__name__}.{name}")
           for name in ("lora", "adapters", "prompt", "prefix", "bitfit", "ia3", "full", "probe")}

__all__ = ["Adaptation", "Library", "METHODS", "OtherBase", "apply", "load"]


def apply(net: nn.Module, method: str, config: Any = None, *, head: int | nn.Module | None = None,
          words: Iterable[int] | None = None, **settings: Any) -> Adaptation:
    """Puts a method into a network that has none; from then on its parts alone get gradients.

    Args:
        net: a network with Transformer blocks, a list `blocks` of `nn.TransformerBlock`; LoRA takes any with linear layers (its
            `targets` name them), BitFit any with biases, full fine-tuning and the probe any.
        method: a name in `METHODS`.
        config: the method's `Config`; its defaults if None.
        head: what takes the place of `net.head` and is trained too: a number of classes, for a linear layer that begins
            with 0, or a Module. None leaves the head as it is, frozen as the rest.
        words: token ids, for prompts that begin as words (see `prompt`).
        **settings: fields of the config that differ.

    Raises:
        ValueError: the method or a setting is unknown, `config` or `words` are of another method, the net has no place for it, or
            has a method already.
    """
    if method not in METHODS:
        raise ValueError(f"method is one of {', '.join(METHODS)}, not {method!r}")
    kind = METHODS[method].Config
    if unknown := settings.keys() - {field.name for field in dataclasses.fields(kind)}:
        raise ValueError(f"{method} has no setting {', '.join(sorted(unknown))}; "
                         f"there are: {', '.join(field.name for field in dataclasses.fields(kind))}")
    if not isinstance(config, kind | None):
        raise ValueError(f"config: that of {method} wanted ({kind.__module__}.Config), got {type(config).__module__}."
                         f"{type(config).__name__}")
    config = dataclasses.replace(config or kind(), **settings)
    try:
        check(config)
    except SystemExit as error:
        raise ValueError(f"{method}: {str(error).removeprefix('--')}") from None
    if words is not None and getattr(config, "start", "random") == "random":
        raise ValueError("words: they are for prompts with start 'words' or 'classes'; leave them out")
    more = {} if words is None else {"words": list(words)}
    return Adaptation(net, method, config, METHODS[method], head, **more)


def load(net: nn.Module, path: Any) -> Adaptation:
    """Puts what `Adaptation.save` wrote into the same base network, which must have no method.

    Raises:
        FileNotFoundError: there is none; ValueError: the file is none of these; OtherBase: it belongs to other weights.
    """
    about, arrays = read(path)
    if about["method"] not in METHODS:
        raise ValueError(f"{path} was made by {about['method']!r}, which is none of {', '.join(METHODS)}")
    return with_state(net, path, about, arrays, METHODS[about["method"]])
