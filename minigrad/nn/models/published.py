"""Published checkpoints: for each model a table of the publisher's names, and the one function that reads them.

    model = nn.resnet18(num_classes=10)
    nn.load_published(model, "resnet18.safetensors", head=False)
"""
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import numpy as np

from ... import io
from ..layers import Identity
from .encoder import Encoder
from .resnet import ResNet
from .text import BERT, CLIPText
from .vit import VisionTransformer

# Left: a name here without ".weight" or ".bias", in which {i} is the number of a block. Right: the publisher's, or several
# whose rows stand below each other.
BERT_NAMES = {
    "word": "embeddings.word_embeddings", "position": "embeddings.position_embeddings",
    "kind": "embeddings.token_type_embeddings", "norm": "embeddings.LayerNorm", "pooler": "pooler.dense", "head": "classifier",
    "layers.{i}.self_attn.in_proj": [f"encoder.layer.{{i}}.attention.self.{part}" for part in ("query", "key", "value")],
    "layers.{i}.self_attn.out_proj": "encoder.layer.{i}.attention.output.dense",
    "layers.{i}.norm1": "encoder.layer.{i}.attention.output.LayerNorm",
    "layers.{i}.linear1": "encoder.layer.{i}.intermediate.dense", "layers.{i}.linear2": "encoder.layer.{i}.output.dense",
    "layers.{i}.norm2": "encoder.layer.{i}.output.LayerNorm"}
CLIP_TEXT_NAMES = {
    "token": "text_model.embeddings.token_embedding", "position": "text_model.embeddings.position_embedding",
    "norm": "text_model.final_layer_norm", "projection": "text_projection",
    "layers.{i}.self_attn.in_proj": [f"text_model.encoder.layers.{{i}}.self_attn.{part}_proj" for part in "qkv"],
    "layers.{i}.self_attn.out_proj": "text_model.encoder.layers.{i}.self_attn.out_proj",
    "layers.{i}.norm1": "text_model.encoder.layers.{i}.layer_norm1",
    "layers.{i}.norm2": "text_model.encoder.layers.{i}.layer_norm2",
    "layers.{i}.linear1": "text_model.encoder.layers.{i}.mlp.fc1",
    "layers.{i}.linear2": "text_model.encoder.layers.{i}.mlp.fc2"}


@dataclass
class Publisher:
    """How a model's checkpoints are named."""

    source: str  # who publishes them
    names: dict[str, str | list[str]] | None = None  # a table as above; None: the names of state dicts here
    prefix: str = ""  # what stands before the names where the encoder was saved within a larger model
    unused: tuple[str, ...] = ()  # patterns of names that have no place here
    optional: tuple[str, ...] = ()  # what a checkpoint may lack: it stays as it is
    sizes: dict[str, str] = field(default_factory=dict)  # the arguments of the model on which a parameter's shape depends


PUBLISHERS: dict[type[Encoder], Publisher] = {
    ResNet: Publisher("torchvision", unused=("*.num_batches_tracked",)),
    VisionTransformer: Publisher("timm", sizes={"pos_embed": "img_size and patch_size", "patch_embed.proj.weight": "patch_size"}),
    BERT: Publisher("the Hugging Face Hub", BERT_NAMES, "bert.", ("cls.*", "*.position_ids"), ("pooler.",),
                    {"word.weight": "vocab_size", "position.weight": "max_length", "kind.weight": "type_vocab_size"}),
    CLIPText: Publisher("the Hugging Face Hub", CLIP_TEXT_NAMES, "",
                        ("vision_model.*", "visual_projection.*", "logit_scale", "*.position_ids"), (),
                        {"token.weight": "vocab_size", "position.weight": "max_length"})}


def load_published(model: Encoder, checkpoint: str | os.PathLike | Mapping[str, np.ndarray], *, head: bool = True) -> None:
    """Takes the parameters of a published checkpoint, in its publisher's names.

    ResNet reads torchvision's and VisionTransformer timm's; BERT and CLIPText read those of the Hugging Face Hub, of the encoder
    alone or within a larger model.

    Args:
        checkpoint: a safetensors file, or a dict from names to arrays.
        head: with False the model's head stays as it is. A model without a head ignores that of the checkpoint.

    Raises:
        TypeError: no publisher is known for this model.
        KeyError: names are missing, or the model has no place for some.
        ValueError: a shape differs.
        The message says what to do; nothing is changed then.
    """
    publisher = next((PUBLISHERS[kind] for kind in type(model).__mro__ if kind in PUBLISHERS), None)
    if publisher is None:
        raise TypeError(f"load_published: {type(model).__name__} has no published checkpoints; those written here are read "
                        "by load_state_dict")
    state = _in_present_names(publisher, io.load(checkpoint)[0] if isinstance(checkpoint, (str, os.PathLike)) else checkpoint)
    sources = {name: _sources(publisher, name) for name in model.state_dict()}
    of_head = model._stored("head") + "."
    if not head or isinstance(model.head, Identity):
        prefixes = tuple(source + "." for source in _listed((publisher.names or {}).get(of_head[:-1], of_head[:-1])))
        state = {name: array for name, array in state.items() if not name.startswith(prefixes)}
        sources = {name: found for name, found in sources.items() if not name.startswith(of_head)}
    for part in publisher.optional:
        if not any(source in state for name, found in sources.items() if name.startswith(part) for source in found):
            sources = {name: found for name, found in sources.items() if not name.startswith(part)}
    _check_names(model, publisher, state, sources, of_head)
    arrays = {name: np.concatenate([np.asarray(state[s]) for s in found]) if len(found) > 1 else np.asarray(state[found[0]])
              for name, found in sources.items()}
    own = model._state()
    for name, array in arrays.items():
        if array.shape != own[name].shape:
            shapes = f"load_published: '{sources[name][0]}' has shape {array.shape} in the checkpoint and {own[name].shape} here: "
            if name.startswith(of_head):
                raise ValueError(f"{shapes}pass head=False to keep the model's own head, or build the model with "
                                 f"a head of {len(array)} outputs")
            raise ValueError(f"{shapes}build the model with the checkpoint's {publisher.sizes.get(name, 'sizes')}")
    model.load_state_dict(arrays, strict=False)


def _in_present_names(publisher, state):
    """The checkpoint without what surrounds the encoder and what has no use, old names of layer norm replaced."""
    prefix = publisher.prefix
    if prefix and any(name.startswith(prefix) for name in state):
        outside = tuple(f"{source}." for found in publisher.names.values() for source in _listed(found))
        state = {name.removeprefix(prefix): array for name, array in state.items() if name.startswith((prefix, *outside))}
    state = {re.sub(r"(LayerNorm)\.gamma$", r"\1.weight", re.sub(r"(LayerNorm)\.beta$", r"\1.bias", name)): array
             for name, array in state.items()}
    return {name: array for name, array in state.items() if not any(fnmatchcase(name, unused) for unused in publisher.unused)}


def _sources(publisher, name):
    """The publisher's names for a name of a state dict here."""
    if publisher.names is None:
        return [name]
    stem, kind = re.fullmatch(r"(.+)[._](weight|bias)", name).groups()
    number = re.search(r"\.(\d+)\.", stem)
    number = number[1] if number else ""
    found = _listed(publisher.names[stem.replace(f".{number}.", ".{i}.") if number else stem])
    return [f"{source.format(i=number)}.{kind}" for source in found]


def _listed(found):
    return found if isinstance(found, list) else [found]


def _check_names(model, publisher, state, sources, of_head):
    kind = type(model).__name__
    missing = {source: name for name, found in sources.items() for source in found if source not in state}
    if missing:
        hint = f"such checkpoints of {publisher.source} are read; this one has {_some(state)}"
        if all(name.startswith(of_head) for name in missing.values()):
            hint = "pass head=False to keep the model's own head"
        raise KeyError(f"load_published: the checkpoint has no {_some(missing)} for this {kind}: {hint}")
    unknown = state.keys() - {source for found in sources.values() for source in found}
    if unknown:
        raise KeyError(f"load_published: this {kind} has no place for {_some(unknown)} of the checkpoint: build it with the "
                       "checkpoint's number of layers and options, or leave these names out of the dict")


def _some(names):
    """The first of the names, for a message."""
    names = sorted(names)
    return ", ".join(f"'{name}'" for name in names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") or "no names"
