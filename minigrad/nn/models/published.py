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
    head: str  # the name of the head
    names: dict[str, str | list[str]] | None = None  # a table as above; None: the names of state dicts here
    prefix: str = ""  # what stands before the names where the encoder was saved within a larger model
    unused: tuple[str, ...] = ()  # patterns of names that have no place here
    optional: tuple[str, ...] = ()  # patterns of names that may be missing: what they stand for stays as it is
    sizes: dict[str, str] = field(default_factory=dict)  # the arguments of the model on which a parameter's shape depends


PUBLISHERS: dict[type[Encoder], Publisher] = {
    ResNet: Publisher("torchvision", "fc", unused=("*.num_batches_tracked",)),
    VisionTransformer: Publisher(
        "timm", "head", sizes={"pos_embed": "img_size and patch_size", "patch_embed.proj.weight": "patch_size"}),
    BERT: Publisher(
        "the Hugging Face Hub", "classifier", BERT_NAMES, "bert.", ("cls.*", "*.position_ids"), ("pooler.*",),
        {"word.weight": "vocab_size", "position.weight": "max_length", "kind.weight": "type_vocab_size"}),
    CLIPText: Publisher(
        "the Hugging Face Hub", "text_projection", CLIP_TEXT_NAMES,
        unused=("vision_model.*", "visual_projection.*", "logit_scale", "*.position_ids"),
        sizes={"token.weight": "vocab_size", "position.weight": "max_length"})}


def load_published(model: Encoder, checkpoint: str | os.PathLike | Mapping[str, np.ndarray], *, head: bool = True) -> None:
    """Takes the parameters of a published checkpoint, in its publisher's names.

    ResNet reads torchvision's and VisionTransformer timm's; BERT and CLIPText read those of the Hugging Face Hub, of the
    encoder alone or within a larger model.

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
    if isinstance(checkpoint, (str, os.PathLike)):
        checkpoint, _ = io.load(checkpoint)
    state = _current(publisher, checkpoint)
    own = model._state()
    sources = {name: _sources(publisher, name) for name in own}
    if not head or isinstance(model.head, Identity):
        state = {name: array for name, array in state.items() if not _of_head(publisher, name)}
        sources = {name: found for name, found in sources.items() if not _of_head(publisher, found[0])}
    sources = {name: found for name, found in sources.items()
               if found[0] in state or not _matches(found[0], publisher.optional)}
    _check_names(type(model).__name__, publisher, state.keys(), {source for found in sources.values() for source in found})
    arrays = {name: np.concatenate([np.asarray(state[source]) for source in found]) if len(found) > 1 else state[found[0]]
              for name, found in sources.items()}
    for name, array in arrays.items():
        if tuple(array.shape) != own[name].shape:
            source = sources[name][0]
            remedy = f"build the model with the checkpoint's {publisher.sizes.get(name, 'sizes')}"
            if _of_head(publisher, source):
                remedy = f"pass head=False to keep the model's own head, or build the model with a head of {len(array)} outputs"
            raise ValueError(f"load_published: '{source}' has shape {tuple(array.shape)} in the checkpoint and "
                             f"{own[name].shape} here: {remedy}")
    model.load_state_dict(arrays, strict=False)


def _current(publisher, state):
    """The checkpoint without what surrounds the encoder and what has no use, old names of layer norm replaced."""
    prefix = publisher.prefix
    if prefix and any(name.startswith(prefix) for name in state):
        state = {name.removeprefix(prefix): array for name, array in state.items()
                 if name.startswith(prefix) or _of_head(publisher, name)}
    state = {name: array for name, array in state.items() if not _matches(name, publisher.unused)}
    old = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
    return {re.sub(r"LayerNorm\.(gamma|beta)$", lambda match: old[match[0]], name): array for name, array in state.items()}


def _sources(publisher, name):
    """The publisher's names for a name of a state dict here."""
    if publisher.names is None:
        return [name]
    stem, kind = re.fullmatch(r"(.+)[._](weight|bias)", name).groups()
    number = re.search(r"\.(\d+)\.", stem)
    number = number[1] if number else ""
    found = publisher.names[stem.replace(f".{number}.", ".{i}.") if number else stem]
    return [f"{source.format(i=number)}.{kind}" for source in (found if isinstance(found, list) else [found])]


def _of_head(publisher, name):
    return name.startswith(publisher.head + ".")


def _matches(name, patterns):
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _check_names(kind, publisher, given, wanted):
    missing, unknown = wanted - given, given - wanted
    if missing:
        remedy = f"checkpoints of {publisher.source} are read; this one has {_some(given)}"
        if all(_of_head(publisher, name) for name in missing):
            remedy = "pass head=False to keep the model's own head"
        raise KeyError(f"load_published: the checkpoint has no {_some(missing)} for this {kind}: {remedy}")
    if unknown:
        raise KeyError(f"load_published: this {kind} has no place for {_some(unknown)} of the checkpoint: build it with the "
                       "checkpoint's number of layers and options, or leave these names out of the dict")


def _some(names):
    """The first of the names, for a message."""
    names = sorted(names)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(f"'{name}'" for name in names[:3]) + more or "no names"
