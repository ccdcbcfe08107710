"""Vision Transformer (Dosovitskiy et al. 2021, arXiv:2010.11929), with the names of timm's checkpoints.

DINO's (Caron et al. 2021, arXiv:2104.14294) is the same; DINOv2's (Oquab et al. 2023, arXiv:2304.07193) has scaled branches,
and in one version registers: tokens that only give it room to compute (Darcet et al. 2023, arXiv:2309.16588). CLIP's (Radford
et al. 2021, arXiv:2103.00020) has a layer norm before the blocks, too.
"""
import math
from collections.abc import Callable

import numpy as np

from ... import backend, ops
from ...ops.geometry import constant, one_of, Pair, pair
from ...tensor import OneOrMore, Tensor, as_tensor
from .. import init
from ..layers import Dropout, Identity, LayerNorm, Linear, flags, parameter, sizes, uniform
from ..module import Module
from ..transformer import TransformerBlock
from .encoder import Encoder

RESIZING = {  # ways to resize positions, as arguments of `interpolate`
    "antialiased": {"mode": "bicubic", "antialias": True}, "bicubic": {"mode": "bicubic"}, "dino": {"mode": "bicubic"},
    "linear": {"mode": "bilinear", "align_corners": True}}


class PatchEmbed(Module):
    """Images (N, C, H, W) to their patches, each mapped linearly: (N, H W / P^2, E)."""

    def __init__(self, patch_size: int, in_chans: int, embed_dim: int, bias: bool = True):
        self.patch_size = patch_size
        self.proj = _Filters((embed_dim, in_chans, patch_size, patch_size), *flags(self, bias=bias))

    def forward(self, x: Tensor) -> Tensor:
        x, p, channels = as_tensor(x), self.patch_size, self.proj.weight.shape[1]
        if x.ndim != 4 or x.shape[1] != channels:
            raise ValueError(f"VisionTransformer: images (N, {channels}, H, W) wanted, got shape {x.shape}")
        n, c, h, w = x.shape
        if h % p or w % p:
            raise ValueError(f"VisionTransformer: images of {h} x {w} pixels do not divide into patches of {p} x {p}")
        patches = x.reshape(n, c, h // p, p, w // p, p).transpose(0, 2, 4, 1, 3, 5).reshape(n, h // p * (w // p), c * p * p)
        weight = self.proj.weight
        return ops.linear(patches, weight.reshape(len(weight), c * p * p), self.proj.bias)


class _Filters(Module):
    """The weight (E, C, P, P) and bias, if there is one, of a convolution whose stride is its window."""

    def __init__(self, shape: tuple[int, ...], bias: bool):
        self.weight, self.bias = uniform(shape, math.prod(shape[1:])), init.zeros_(parameter(shape[0])) if bias else None


class VisionTransformer(Encoder):
    """(N, in_chans, img_size, img_size) to (N, num_classes). ViT-Tiny/16: embed_dim=192, num_heads=3, depth=12.

    `features` is pool(encode(add_class(patches(x)))), and each step can be entered: a masked autoencoder encodes some of the
    patches, prompts go between the steps, `encode` gives attention maps.

    Class token, positions and linear layers begin as normal numbers of deviation 0.02, as in DINO; in the paper's code class
    token and head begin at 0 (`init.zeros_`).

    Args:
        global_pool: what `pool` returns: the class "token", or the "avg" over the patches.
        num_classes: 0 or None for no head.
        drop_path_rate: of the last block; it rises linearly from 0 in the first.
        eps: of the layer norms.
        layer_scale: see `TransformerBlock`.
        registers: how many tokens without a position stand between the class token and the patches.
        dynamic_img_size: take images of other sizes, too; their positions are interpolated from the learned ones, bicubically as
            in timm (the paper's way, linear, is one of `resize_positions`).
        fc_norm: put the last layer norm behind `pool` instead of before it, as fine-tuned networks with the mean have it.
        pre_norm: a layer norm before the first block, and no bias of the patches' embedding, as CLIP has it.
        activation: of the blocks, see `Mlp`.
    """

    def __init__(self, img_size: Pair = 224, patch_size: int = 16, in_chans: int = 3,
                 num_classes: int | None = 1000, embed_dim: int = 768, depth: int = 12, num_heads: int = 12,
                 mlp_ratio: float = 4.0, drop_rate: float = 0.0, drop_path_rate: float = 0.0, global_pool: str = "token", *,
                 eps: float = 1e-6, layer_scale: float | None = None, registers: int = 0, fc_norm: bool = False,
                 dynamic_img_size: bool = False, pre_norm: bool = False, activation: str | Callable = "gelu"):
        one_of("VisionTransformer", "global_pool", global_pool, ("token", "avg"))
        patch_size, in_chans, embed_dim = sizes(self, 1, patch_size=patch_size, in_chans=in_chans, embed_dim=embed_dim)
        depth, registers = sizes(self, 0, depth=depth, registers=registers)
        fc_norm, dynamic_img_size, pre_norm = flags(self, fc_norm=fc_norm, dynamic_img_size=dynamic_img_size, pre_norm=pre_norm)
        height, width = pair("VisionTransformer", "img_size", img_size, 1)
        if height % patch_size or width % patch_size:
            raise ValueError(f"VisionTransformer: img_size {img_size} does not divide into patches of {patch_size} pixels")
        mlp_ratio = constant("VisionTransformer", "mlp_ratio", mlp_ratio, 0)
        drop_rate = constant("VisionTransformer", "drop_rate", drop_rate, 0, 1)
        drop_path_rate = constant("VisionTransformer", "drop_path_rate", drop_path_rate, 0, 1)
        self.grid, self.dynamic_img_size = (height // patch_size, width // patch_size), dynamic_img_size
        self.cls_token = init.normal_(parameter(1, 1, embed_dim), std=0.02)
        self.reg_token = init.normal_(parameter(1, registers, embed_dim), std=1e-6) if registers else None
        self.pos_embed = init.normal_(parameter(1, 1 + math.prod(self.grid), embed_dim), std=0.02)
        self.patch_embed = PatchEmbed(patch_size, in_chans, embed_dim, bias=not pre_norm)
        self.norm_pre = LayerNorm(embed_dim, eps) if pre_norm else Identity()
        self.blocks = [TransformerBlock(embed_dim, num_heads, int(embed_dim * mlp_ratio), activation, drop_path=rate, eps=eps,
                                        layer_scale=layer_scale)
                       for rate in np.linspace(0, drop_path_rate, depth).tolist()]
        self.norm, self.fc_norm = LayerNorm(embed_dim, eps), Identity()
        if fc_norm:
            self.norm, self.fc_norm = self.fc_norm, self.norm
        self.dropout, self.global_pool = Dropout(drop_rate), global_pool
        super().__init__(embed_dim, num_classes)
        for module in self.modules():
            if isinstance(module, Linear):
                init.normal_(module.weight, std=0.02)
                init.zeros_(module.bias)

    def patches(self, x: Tensor) -> Tensor:
        """The embeddings of an image's patches, positions added: (N, patches, E)."""
        grid = tuple(n // self.patch_embed.patch_size for n in as_tensor(x).shape[2:])
        x, positions = self.patch_embed(x), self.pos_embed[:, 1:]
        if self.dynamic_img_size and grid != self.grid:
            image = positions.reshape(1, *self.grid, -1).transpose(0, 3, 1, 2)
            positions = ops.interpolate(image, size=grid, **RESIZING["antialiased"])
            positions = positions.transpose(0, 2, 3, 1).reshape(1, *x.shape[1:])
        if x.shape[1] != positions.shape[1]:
            raise ValueError(f"VisionTransformer: {x.shape[1]} patches, but positions for {positions.shape[1]}")
        return x + positions

    def add_class(self, patches: Tensor) -> Tensor:
        """The class token, with its position, and the registers before (N, L, E), any of the patches: (N, 1 + R + L, E)."""
        tokens = self.cls_token + self.pos_embed[:, :1]
        if self.reg_token is not None:
            tokens = ops.concatenate([tokens, self.reg_token], 1)
        return self.dropout(ops.concatenate([tokens.broadcast_to((len(patches), *tokens.shape[1:])), patches], 1))

    def encode(self, x: Tensor, *, need_weights: bool = False) -> OneOrMore:
        """The first norm, if there is one, blocks and the last norm: (N, L, E) to the same; with `need_weights` also the
        attention maps of each block, (N, heads, L, L)."""
        x, maps, (need_weights,) = self.norm_pre(x), [], flags(self, need_weights=need_weights)
        for block in self.blocks:
            x = block(x, need_weights=need_weights)
            if need_weights:
                x, weights = x
                maps.append(weights)
        return (self.norm(x), maps) if need_weights else self.norm(x)

    def pool(self, x: Tensor) -> Tensor:
        """(N, 1 + R + L, E) to the features, (N, E)."""
        first = 1 if self.reg_token is None else 1 + self.reg_token.shape[1]
        return self.fc_norm(x[:, 0] if self.global_pool == "token" else x[:, first:].mean(1))

    def features(self, x: Tensor) -> Tensor:
        """(N, E): the class token after the last norm, or the mean over the patches."""
        return self.pool(self.encode(self.add_class(self.patches(x))))

    def forward(self, x: Tensor, *, need_weights: bool = False) -> OneOrMore:
        """head(features(x)); with `need_weights` also the attention maps of each block, see `encode`."""
        if not flags(self, need_weights=need_weights)[0]:
            return self.head(self.features(x))
        y, maps = self.encode(self.add_class(self.patches(x)), need_weights=True)
        return self.head(self.pool(y)), maps


def resize_positions(positions: np.ndarray, grid: tuple[int, int], how: str = "antialiased") -> np.ndarray:
    """Positions of a square grid of patches, (1, P, E), for another grid: (1, 1 + grid[0] grid[1], E).

    Args:
        positions: with a first one for the class token, which stays. If P is a square there is none, and it becomes 0.
        how: "antialiased" bicubic interpolation, as timm does it; "bicubic" without that, as the Hub's models; "dino", the same
            to a grid larger by 0.1 that is then cut off, as DINO's authors; or "linear" with corners aligned, as in the paper.

    Raises:
        ValueError: no square grid, or an unknown way.
    """
    one_of("resize_positions", "how", how, tuple(RESIZING))
    positions = positions.astype(np.float32) if backend.is_half(positions.dtype) else positions
    count, width = positions.shape[1:]
    side = math.isqrt(count)
    if side * side == count:
        first, patches = np.zeros_like(positions[:, :1]), positions
    elif math.isqrt(count - 1) ** 2 == count - 1 > 0:
        first, patches, side = positions[:, :1], positions[:, 1:], math.isqrt(count - 1)
    else:
        raise ValueError("resize_positions: positions of a square grid wanted, with one for the class token or without, "
                         f"not {count}")
    if grid != (side, side):
        image = patches.reshape(1, side, side, width).transpose(0, 3, 1, 2)
        size = {"scale_factor": tuple((n + 0.1) / side for n in grid)} if how == "dino" else {"size": tuple(grid)}
        patches = ops.interpolate(image, **size, **RESIZING[how]).numpy().transpose(0, 2, 3, 1).reshape(1, -1, width)
    return np.concatenate([first, patches], 1)
