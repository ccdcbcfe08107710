"""Vision Transformer (Dosovitskiy et al. 2021, arXiv:2010.11929), with the names of timm's checkpoints."""
import math

import numpy as np

from ... import ops
from ...tensor import Tensor, as_tensor
from .. import init
from ..layers import Dropout, LayerNorm, Linear, parameter, uniform
from ..module import Module
from ..transformer import TransformerBlock
from .encoder import Encoder


class PatchEmbed(Module):
    """Images (N, C, H, W) to their patches, each mapped linearly: (N, H W / P^2, E)."""

    def __init__(self, patch_size: int, in_chans: int, embed_dim: int):
        self.patch_size = patch_size
        self.proj = _Filters((embed_dim, in_chans, patch_size, patch_size))

    def forward(self, x: Tensor) -> Tensor:
        x = as_tensor(x)
        (n, c, h, w), p = x.shape, self.patch_size
        if h % p or w % p:
            raise ValueError(f"VisionTransformer: images of {h} x {w} pixels do not divide into patches of {p} x {p}")
        patches = x.reshape(n, c, h // p, p, w // p, p).transpose(0, 2, 4, 1, 3, 5).reshape(n, h // p * (w // p), c * p * p)
        weight = self.proj.weight
        return ops.linear(patches, weight.reshape(len(weight), c * p * p), self.proj.bias)


class _Filters(Module):
    """The weight (E, C, P, P) and bias of a convolution whose stride is its window."""

    def __init__(self, shape: tuple[int, ...]):
        self.weight, self.bias = uniform(shape, math.prod(shape[1:])), init.zeros_(parameter(shape[0]))


class VisionTransformer(Encoder):
    """(N, in_chans, img_size, img_size) to (N, num_classes). ViT-Tiny/16: embed_dim=192, num_heads=3, depth=12.

    `features` is pool(encode(add_class(patches(x)))), and each step can be entered: a masked autoencoder encodes some of the
    patches, prompts go between the steps, `encode` gives attention maps.

    Args:
        global_pool: what `pool` returns: the class "token", or the "avg" over the patches.
        num_classes: 0 or None for no head.
        drop_path_rate: of the last block; it rises linearly from 0 in the first.
    """

    def __init__(self, img_size: int | tuple[int, int] = 224, patch_size: int = 16, in_chans: int = 3,
                 num_classes: int | None = 1000, embed_dim: int = 768, depth: int = 12, num_heads: int = 12,
                 mlp_ratio: float = 4.0, drop_rate: float = 0.0, drop_path_rate: float = 0.0, global_pool: str = "token"):
        if global_pool not in ("token", "avg"):
            raise ValueError(f"VisionTransformer: global_pool is 'token' or 'avg', not {global_pool!r}")
        height, width = img_size if np.iterable(img_size) else (img_size, img_size)
        positions = 1 + height // patch_size * (width // patch_size)
        self.cls_token = init.normal_(parameter(1, 1, embed_dim), std=0.02)
        self.pos_embed = init.normal_(parameter(1, positions, embed_dim), std=0.02)
        self.patch_embed = PatchEmbed(patch_size, in_chans, embed_dim)
        self.blocks = [TransformerBlock(embed_dim, num_heads, int(embed_dim * mlp_ratio), drop_path=rate)
                       for rate in np.linspace(0, drop_path_rate, depth).tolist()]
        self.norm, self.dropout, self.global_pool = LayerNorm(embed_dim, 1e-6), Dropout(drop_rate), global_pool
        super().__init__(embed_dim, num_classes)
        for module in self.modules():
            if isinstance(module, Linear):
                init.normal_(module.weight, std=0.02)
                init.zeros_(module.bias)

    def patches(self, x: Tensor) -> Tensor:
        """The embeddings of an image's patches, positions added: (N, patches, E)."""
        x, positions = self.patch_embed(x), self.pos_embed[:, 1:]
        if x.shape[1] != positions.shape[1]:
            raise ValueError(f"VisionTransformer: {x.shape[1]} patches, but positions for {positions.shape[1]}")
        return x + positions

    def add_class(self, patches: Tensor) -> Tensor:
        """The class token, with its position, before (N, L, E), any of the patches: (N, 1 + L, E)."""
        token = self.cls_token + self.pos_embed[:, :1]
        return self.dropout(ops.concatenate([token.broadcast_to((len(patches), 1, self.width)), patches], 1))

    def encode(self, x: Tensor, *, need_weights: bool = False) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Blocks and the last norm: (N, L, E) to the same; with `need_weights` also the attention maps of each block,
        (N, heads, L, L)."""
        maps = []
        for block in self.blocks:
            x = block(x, need_weights=need_weights)
            if need_weights:
                x, weights = x
                maps.append(weights)
        return (self.norm(x), maps) if need_weights else self.norm(x)

    def pool(self, x: Tensor) -> Tensor:
        """(N, 1 + L, E) to the features, (N, E)."""
        return x[:, 0] if self.global_pool == "token" else x[:, 1:].mean(1)

    def features(self, x: Tensor) -> Tensor:
        """(N, E): the class token after the last norm, or the mean over the patches."""
        return self.pool(self.encode(self.add_class(self.patches(x))))

    def forward(self, x: Tensor, *, need_weights: bool = False) -> Tensor | tuple[Tensor, list[Tensor]]:
        """head(features(x)); with `need_weights` also the attention maps of each block, see `encode`."""
        if not need_weights:
            return self.head(self.features(x))
        y, maps = self.encode(self.add_class(self.patches(x)), need_weights=True)
        return self.head(self.pool(y)), maps
