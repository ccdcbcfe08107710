"""The masked autoencoder's two networks (He et al. 2022, arXiv:2111.06377), with the names of the authors' checkpoints.

The encoder is a Vision Transformer that sees some of the patches; a smaller one gets its states, with a mask token in each
place that was hidden, and predicts the pixels of all. Which patches are hidden, and the loss, are the method's.
"""
import math

import numpy as np

from ... import backend, ops
from ...ops.geometry import Pair
from ...tensor import Tensor, as_tensor, asarray
from .. import init
from ..layers import LayerNorm, Linear, parameter, sizes
from ..module import Parameter
from ..transformer import TransformerBlock
from .vit import VisionTransformer


class MAE(VisionTransformer):
    """A VisionTransformer, and the decoder of `reconstruct`. Defaults are those of the authors' ViT-Base.

    Args:
        decoder_dim, decoder_depth, decoder_heads: width, blocks and heads of the decoder.
        settings: of `VisionTransformer`.
    """

    def __init__(self, img_size: Pair = 224, patch_size: int = 16, in_chans: int = 3,
                 num_classes: int | None = 0, embed_dim: int = 768, depth: int = 12, num_heads: int = 12,
                 mlp_ratio: float = 4.0, *, decoder_dim: int = 512, decoder_depth: int = 8, decoder_heads: int = 16,
                 **settings):
        super().__init__(img_size, patch_size, in_chans, num_classes, embed_dim, depth, num_heads, mlp_ratio, **settings)
        decoder_dim, decoder_heads = sizes(self, 1, decoder_dim=decoder_dim, decoder_heads=decoder_heads)
        (decoder_depth,) = sizes(self, 0, decoder_depth=decoder_depth)
        eps = settings.get("eps", 1e-6)
        self.pos_embed = Parameter(sincos_positions(self.grid, embed_dim), requires_grad=False)
        self.decoder_embed = Linear(embed_dim, decoder_dim)
        self.mask_token = init.normal_(parameter(1, 1, decoder_dim), std=0.02)
        self.decoder_pos_embed = Parameter(sincos_positions(self.grid, decoder_dim), requires_grad=False)
        self.decoder_blocks = [TransformerBlock(decoder_dim, decoder_heads, int(decoder_dim * mlp_ratio), eps=eps)
                               for _ in range(decoder_depth)]
        self.decoder_norm = LayerNorm(decoder_dim, eps)
        self.decoder_pred = Linear(decoder_dim, patch_size ** 2 * in_chans)
        for module in self.modules():
            if isinstance(module, Linear):
                init.xavier_uniform_(module.weight)
                init.zeros_(module.bias)
        bound = math.sqrt(6 / (embed_dim + patch_size ** 2 * in_chans))  # as of a Linear of the patches' pixels
        init.uniform_(self.patch_embed.proj.weight, -bound, bound)

    def patchify(self, x: Tensor) -> Tensor:
        """The pixels of each patch, row by row and the channels of a pixel side by side: (N, L, patch_size^2 in_chans)."""
        x, p = as_tensor(x), self.patch_embed.patch_size
        n, c, h, w = x.shape
        return x.reshape(n, c, h // p, p, w // p, p).transpose(0, 2, 4, 3, 5, 1).reshape(n, h // p * (w // p), p * p * c)

    def encode_visible(self, x: Tensor, visible: np.ndarray) -> Tensor:
        """The states of the class token and of some patches: images and places (N, V), integers, to (N, 1 + V, E)."""
        patches, visible = self.patches(x), asarray(visible)
        rows = backend.xp(visible).arange(len(visible))[:, None]
        return self.encode(self.add_class(patches[rows, visible]))

    def decode(self, states: Tensor, order: np.ndarray) -> Tensor:
        """Predicted pixels of all patches, as `patchify` orders them.

        Args:
            states: (N, 1 + V, E), of the class token and of the patches at the places order[:, :V].
            order: (N, L) integers, in each row all places.

        Raises:
            ValueError: a place is missing in a row (on the GPU the order is not read).
        """
        y, order = self.decoder_embed(states), asarray(order)
        n, length = order.shape
        hidden = self.mask_token.broadcast_to((n, length + 1 - y.shape[1], y.shape[2]))
        module = backend.xp(order)
        rows, places = module.arange(n)[:, None], module.full(order.shape, -1)
        places[rows, order] = module.arange(length)  # as argsort, which a captured step cannot call
        if module is np and (places < 0).any():
            raise ValueError("MAE: order: each row holds every place once")
        patches = ops.concatenate([y[:, 1:], hidden], 1)[rows, places]  # each in its place
        y = ops.concatenate([y[:, :1], patches], 1) + self.decoder_pos_embed
        for block in self.decoder_blocks:
            y = block(y)
        return self.decoder_pred(self.decoder_norm(y))[:, 1:]

    def reconstruct(self, x: Tensor, order: np.ndarray, visible: int) -> Tensor:
        """decode(encode_visible(x, order[:, :visible]), order): (N, L, patch_size^2 in_chans)."""
        return self.decode(self.encode_visible(x, order[:, :visible]), order)


def sincos_positions(grid: tuple[int, int], dim: int) -> np.ndarray:
    """Fixed positions (1, 1 + grid[0] grid[1], dim), float32: half of the features say the column, half the row.

    Sines and cosines of place / 10000^(k / (dim / 4)), k = 0 ... dim / 4 - 1. The class token's are 0.
    """
    if dim % 4:
        raise ValueError(f"sincos_positions: dim is a multiple of 4, not {dim}")
    frequency = 1 / 10000 ** (np.arange(dim // 4) / (dim / 4))
    row, column = (axis.reshape(-1, 1) * frequency for axis in np.mgrid[:grid[0], :grid[1]])
    table = np.concatenate([np.sin(column), np.cos(column), np.sin(row), np.cos(row)], 1)
    return np.concatenate([np.zeros((1, dim)), table])[None].astype(np.float32)
