"""Vision Transformer (Dosovitskiy et al. 2021, arXiv:2010.11929), with the names of timm's checkpoints."""
import math

import numpy as np

from ... import ops
from ...tensor import Tensor
from .. import init
from ..layers import Dropout, DropPath, Identity, LayerNorm, Linear, parameter, uniform
from ..module import Module


class PatchEmbed(Module):
    """Images (N, C, H, W) to their patches, each mapped linearly: (N, H W / P^2, E)."""

    def __init__(self, patch_size, in_chans, embed_dim):
        self.patch_size = patch_size
        self.proj = _Filters((embed_dim, in_chans, patch_size, patch_size))

    def forward(self, x):
        x = x if isinstance(x, Tensor) else Tensor(x)
        (n, c, h, w), p = x.shape, self.patch_size
        if h % p or w % p:
            raise ValueError(f"VisionTransformer: images of {h} x {w} pixels do not divide into patches of {p} x {p}")
        patches = x.reshape(n, c, h // p, p, w // p, p).transpose(0, 2, 4, 1, 3, 5).reshape(n, h // p * (w // p), c * p * p)
        weight = self.proj.weight
        return ops.linear(patches, weight.reshape(len(weight), c * p * p), self.proj.bias)


class _Filters(Module):
    """The weight (E, C, P, P) and bias of a convolution whose stride is its window."""

    def __init__(self, shape):
        self.weight, self.bias = uniform(shape, math.prod(shape[1:])), init.zeros_(parameter(shape[0]))


class Attention(Module):
    """Multi-head self-attention; qkv maps to queries, keys and values side by side."""

    def __init__(self, dim, num_heads):
        self.num_heads, self.qkv, self.proj = num_heads, Linear(dim, 3 * dim), Linear(dim, dim)

    def forward(self, x, need_weights=False):
        n, length, dim = x.shape
        qkv = self.qkv(x).reshape(n, length, 3, self.num_heads, dim // self.num_heads)
        if not need_weights:
            return self.proj(ops.packed_attention(qkv))
        q, k, v = (qkv[:, :, i].transpose(0, 2, 1, 3) for i in range(3))
        y, weights = ops.scaled_dot_product_attention(q, k, v, return_weights=True)
        return self.proj(y.transpose(0, 2, 1, 3).reshape(n, length, dim)), weights


class Mlp(Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, dim, hidden):
        self.fc1, self.fc2 = Linear(dim, hidden), Linear(hidden, dim)

    def forward(self, x):
        return self.fc2(ops.gelu(self.fc1(x)))


class Block(Module):
    """x = x + attention(norm1(x)); x = x + mlp(norm2(x)), each branch dropped for some samples in training."""

    def __init__(self, dim, num_heads, mlp_ratio=4.0, drop_path=0.0):
        self.norm1, self.norm2 = LayerNorm(dim, 1e-6), LayerNorm(dim, 1e-6)
        self.attn, self.mlp, self.drop_path = Attention(dim, num_heads), Mlp(dim, int(dim * mlp_ratio)), DropPath(drop_path)

    def forward(self, x, need_weights=False):
        y = self.attn(self.norm1(x), need_weights)
        y, weights = y if need_weights else (y, None)
        x = x + self.drop_path(y)
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        return (x, weights) if need_weights else x


class VisionTransformer(Module):
    """(N, in_chans, img_size, img_size) to (N, num_classes). ViT-Tiny/16: embed_dim=192, num_heads=3, depth=12.

    Args:
        global_pool: what the head reads: the class "token", or the "avg" over the patches.
        num_classes: 0 for no head: the features themselves.
        drop_path_rate: of the last block; it rises linearly from 0 in the first.
    """

    def __init__(self, img_size=224, patch_size=16, in_chans=3, num_classes=1000, embed_dim=768, depth=12, num_heads=12,
                 mlp_ratio=4.0, drop_rate=0.0, drop_path_rate=0.0, global_pool="token"):
        if embed_dim % num_heads:
            raise ValueError(f"VisionTransformer: {embed_dim} features do not divide into {num_heads} heads")
        if global_pool not in ("token", "avg"):
            raise ValueError(f"VisionTransformer: global_pool is 'token' or 'avg', not {global_pool!r}")
        height, width = img_size if np.iterable(img_size) else (img_size, img_size)
        self.cls_token = init.normal_(parameter(1, 1, embed_dim), std=0.02)
        self.pos_embed = init.normal_(parameter(1, height // patch_size * (width // patch_size) + 1, embed_dim), std=0.02)
        self.patch_embed = PatchEmbed(patch_size, in_chans, embed_dim)
        rates = np.linspace(0, drop_path_rate, depth).tolist()
        self.blocks = [Block(embed_dim, num_heads, mlp_ratio, rate) for rate in rates]
        self.norm, self.dropout, self.global_pool = LayerNorm(embed_dim, 1e-6), Dropout(drop_rate), global_pool
        self.head = Linear(embed_dim, num_classes) if num_classes else Identity()
        for module in self.modules():
            if isinstance(module, Linear):
                init.normal_(module.weight, std=0.02)
                init.zeros_(module.bias)

    def forward_features(self, x, need_weights=False):
        """(N, 1 + patches, E) after the last norm; with `need_weights` also the attention maps of each block,
        (N, heads, 1 + patches, 1 + patches)."""
        x = self.patch_embed(x)
        if x.shape[1] + 1 != self.pos_embed.shape[1]:
            raise ValueError(f"VisionTransformer: {x.shape[1]} patches, but positions for {self.pos_embed.shape[1] - 1}")
        cls = self.cls_token.broadcast_to((len(x), 1, x.shape[2]))
        x = self.dropout(ops.concatenate([cls, x], 1) + self.pos_embed)
        maps = []
        for block in self.blocks:
            x = block(x, need_weights)
            if need_weights:
                x, weights = x
                maps.append(weights)
        return (self.norm(x), maps) if need_weights else self.norm(x)

    def forward(self, x, need_weights=False):
        y = self.forward_features(x, need_weights)
        y, maps = y if need_weights else (y, None)
        y = self.head(y[:, 0] if self.global_pool == "token" else y[:, 1:].mean(1))
        return (y, maps) if need_weights else y
