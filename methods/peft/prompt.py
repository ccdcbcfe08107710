"""Prompt tuning: some learned vectors among the inputs.

Brian Lester, Rami Al-Rfou, Noah Constant: "The Power of Scale for Parameter-Efficient Prompt Tuning", 2021, arXiv:2104.08691;
for vision Transformers Menglin Jia et al.: "Visual Prompt Tuning", 2022, arXiv:2203.12119.

The network reads P vectors besides the embedded tokens e_0 ... e_n; everything else stays as it is.

    z = f([e_0; p_1; ...; p_P; e_1; ...; e_n]),  of which the states of p are left out again

They stand behind the first token, which BERT and vision Transformers are read from, and are always attended. BERT's and ViT's
tokens keep the positions that they had; CLIP's text tower adds positions afterwards, so that its tokens move on by P.
"""
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

import minigrad as mg
from methods.training.forward import evaluating
from methods.training.settings import setting
from minigrad import Tensor, nn
from minigrad.backend import to_device, xp
from minigrad.ops.geometry import whole

from .places import Place, transformers


@dataclass
class Config:
    """The paper's: 100 vectors, lr 0.3 of Adafactor, start from words; a random one serves networks that embed none."""

    length: int = setting(20, least=1)  # P
    start: Literal["random", "words", "classes"] = "random"  # uniform in +-0.5; drawn from `words`; `words` one after the other
    lr: float = setting(1e-2, above=0)


class Prompted(nn.Module):
    """The `encode` of a Transformer with p among what it reads."""

    def __init__(self, encode: Callable, start: np.ndarray):
        self.encode, self.p = encode, nn.Parameter(start)

    def forward(self, x: Tensor, attention_mask: Tensor | None = None, *others: Any, **settings: Any) -> Any:
        n, count = len(x), len(self.p)
        if attention_mask is not None:
            mask = mg.tensor.asarray(mg.tensor.as_tensor(attention_mask))
            if mask.shape != x.shape[:2]:
                return self.encode(x, attention_mask, *others, **settings)  # which refuses it
            attention_mask = xp(mask).concatenate([xp(mask).ones((n, count), mask.dtype), mask], 1)
        x = mg.concatenate([x[:, :1], self.p.broadcast_to((n, *self.p.shape)), x[:, 1:]], 1)
        given = (attention_mask, *others) if attention_mask is not None or others else ()  # only BERT takes a mask
        found = self.encode(x, *given, **settings)
        y, *maps = found if isinstance(found, tuple) else (found,)
        y = mg.concatenate([y[:, :1], y[:, 1 + count:]], 1)
        return (y, *maps) if maps else y


def parts(net: nn.Module, config: Config, words: list[int] | None = None) -> Iterator[Place]:
    """A Prompted in the place of the Transformer's `encode`.

    Raises:
        ValueError: there is no Transformer, or more than one, or it has no `encode`; as of `started`.
    """
    found = transformers(net)
    if len(found) > 1:
        raise ValueError(f"{type(net).__name__} holds {len(found)} Transformers ({', '.join(type(t).__name__ for t in found)}): "
                         "give the one that is to have prompts")
    owner = found[0]
    if not hasattr(owner, "encode"):
        raise ValueError(f"{type(owner).__name__} has no encode(x), from the embedded tokens to their states, into which prompts "
                         "go")
    width = len(owner.blocks[0].attn.proj.weight)
    yield Place(vars(owner), "encode", Prompted(owner.encode, started(owner, width, config, words)))


def started(owner: nn.Module, width: int, config: Config, words: list[int] | None) -> np.ndarray:
    """What p begins with, (P, width).

    Raises:
        ValueError: words are wanted and none given, one is no token id, or the network embeds none.
    """
    if config.start == "random":
        return mg.random.generator().uniform(-0.5, 0.5, (config.length, width)).astype(np.float32)
    if not words or not hasattr(owner, "embed"):
        raise ValueError(f"prompts that begin as {config.start} need words, token ids, and a network that embeds them")
    if config.start == "words":
        places = mg.random.generator().integers(len(words), size=config.length)
    else:
        places = np.arange(config.length) % len(words)
    ids = np.array([whole("prompts", "words", word, 0) for word in words])[places]
    try:
        with evaluating(owner):
            return owner.embed(to_device(ids[:, None], owner.parameters()[0].device)).numpy()[:, 0]
    except IndexError as error:
        raise ValueError(f"prompts: words: {error}") from None
