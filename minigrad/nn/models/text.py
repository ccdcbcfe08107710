"""Text encoders: BERT (Devlin et al. 2019, arXiv:1810.04805) and CLIP's text tower (Radford et al. 2021, arXiv:2103.00020)."""
from collections.abc import Callable, Sequence

from ... import backend, ops
from ...ops.geometry import constant, whole
from ...tensor import Tensor, as_tensor, asarray
from .. import init
from ..layers import Dropout, Embedding, LayerNorm, Linear, sizes
from ..transformer import TransformerEncoderLayer
from .encoder import Encoder


class BERT(Encoder):
    """Token ids (N, L) to the pooled first state (N, hidden_size), or with a head to (N, num_classes).

    `features` is pool(encode(embed(input_ids))), and each step can be entered: prompts go between the first two. Defaults are
    BERT-base's; MiniLM-L6 is hidden_size=384, num_layers=6, intermediate_size=1536.

    Args:
        num_classes: 0 or None for no head.
    """

    stored_names = {"blocks": "layers"}

    def __init__(self, vocab_size: int = 30522, hidden_size: int = 768, num_layers: int = 12, num_heads: int = 12,
                 intermediate_size: int = 3072, max_length: int = 512, type_vocab_size: int = 2, dropout: float = 0.1,
                 eps: float = 1e-12, *, num_classes: int | None = 0):
        (num_layers,) = sizes(self, 0, num_layers=num_layers)
        sizes(self, vocab_size=vocab_size, hidden_size=hidden_size, num_heads=num_heads, max_length=max_length,
              intermediate_size=intermediate_size, type_vocab_size=type_vocab_size)
        dropout = constant("BERT", "dropout", dropout, 0, 1)
        self.word = Embedding(vocab_size, hidden_size)
        self.position, self.kind = Embedding(max_length, hidden_size), Embedding(type_vocab_size, hidden_size)
        self.norm, self.dropout = LayerNorm(hidden_size, eps), Dropout(dropout)
        self.blocks = [TransformerEncoderLayer(hidden_size, num_heads, intermediate_size, dropout, "gelu", eps)
                       for _ in range(num_layers)]
        self.pooler = Linear(hidden_size, hidden_size)
        super().__init__(hidden_size, num_classes)
        for name, module in self.named_modules():
            if isinstance(module, (Linear, Embedding)) and not name.endswith(".qkv"):  # see MultiheadAttention
                init.normal_(module.weight, std=0.02)

    def embed(self, input_ids: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Word, position and segment embeddings together: (N, L, hidden_size)."""
        input_ids = _ids("BERT", input_ids)
        length = input_ids.shape[1]
        if length > len(self.position.weight):
            raise ValueError(f"BERT: {length} tokens, but positions for {len(self.position.weight)}")
        kinds = backend.xp(input_ids).zeros_like(input_ids) if token_type_ids is None else token_type_ids
        x = self.word(input_ids) + self.position.weight[:length] + self.kind(kinds)
        return self.dropout(self.norm(x))

    def encode(self, x: Tensor, attention_mask: Tensor | None = None,
               prefixes: Sequence[tuple[Tensor, Tensor] | None] | None = None) -> Tensor:
        """The last block's states of embedded tokens, (N, L, hidden_size) to the same. Arguments as of `features`."""
        mask = None if attention_mask is None else as_tensor(attention_mask)
        if mask is not None:
            if mask.shape != x.shape[:2]:
                raise ValueError(f"BERT: an attention_mask of shape {x.shape[:2]} wanted, got {mask.shape}")
            mask = mask.astype(bool)[:, None, None, :]
        for i, block in enumerate(self.blocks):
            x = block(x, attn_mask=mask, prefix=None if prefixes is None else prefixes[i])
        return x

    def pool(self, x: Tensor) -> Tensor:
        """tanh of a linear map of the first token's state: (N, L, hidden_size) to (N, hidden_size)."""
        return ops.tanh(self.pooler(x[:, 0]))

    def features(self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None,
                 prefixes: Sequence[tuple[Tensor, Tensor] | None] | None = None) -> Tensor:
        """The pooled first state, (N, hidden_size).

        Args:
            input_ids: (N, L) integers.
            attention_mask: (N, L), 1 or True for tokens, 0 for padding.
            token_type_ids: (N, L), the segment of each token; 0 by default.
            prefixes: for each block a pair of keys and values that all tokens see (prefix tuning), or None.
        """
        return self.pool(self.encode(self.embed(input_ids, token_type_ids), attention_mask, prefixes))


def _ids(of, input_ids, least=1):
    """The array of token ids (N, L). ValueError: it is no table, or has fewer columns."""
    input_ids = as_tensor(input_ids)._array
    if input_ids.ndim != 2 or input_ids.shape[1] < least:
        raise ValueError(f"{of}: token ids (N, L), L at least {least}, wanted, got shape {input_ids.shape}")
    return input_ids


class CLIPText(Encoder):
    """Token ids (N, L) to (N, projection_dim): the state at the end-of-text token, projected by the head.

    A causal, pre-norm Transformer. Defaults are those of CLIP ViT-B/32. `features` is pool(encode(embed(input_ids)), end), and
    each step can be entered: learned prompts take the place of embedded tokens.

    Args:
        projection_dim: 0 or None for no head.
        eot: the id of the end-of-text token; None: the largest id in each row, as in the first checkpoints.
    """

    stored_names = {"blocks": "layers", "head": "projection"}

    def __init__(self, vocab_size: int = 49408, hidden_size: int = 512, num_layers: int = 12, num_heads: int = 8,
                 intermediate_size: int = 2048, max_length: int = 77, projection_dim: int | None = 512,
                 activation: str | Callable = "quick_gelu", eps: float = 1e-5, eot: int | None = None):
        (num_layers,) = sizes(self, 0, num_layers=num_layers)
        sizes(self, vocab_size=vocab_size, hidden_size=hidden_size, num_heads=num_heads, max_length=max_length,
              intermediate_size=intermediate_size, projection_dim=0 if projection_dim is None else projection_dim)
        eot = None if eot is None else whole("CLIPText", "eot", eot, 0)
        if eot is not None and eot >= vocab_size:
            raise ValueError(f"CLIPText: eot must be one of the {vocab_size} tokens, not {eot}")
        self.token, self.position = Embedding(vocab_size, hidden_size), Embedding(max_length, hidden_size)
        init.normal_(self.token.weight, std=0.02)
        init.normal_(self.position.weight, std=0.01)
        self.blocks = [TransformerEncoderLayer(hidden_size, num_heads, intermediate_size, 0.0, activation, eps, norm_first=True)
                       for _ in range(num_layers)]
        self.norm, self.eot = LayerNorm(hidden_size, eps), eot
        super().__init__(hidden_size, projection_dim, bias=False)

    def embed(self, input_ids: Tensor) -> Tensor:
        """The tokens' embeddings, without positions: (N, L, hidden_size), L from 0."""
        return self.token(_ids("CLIPText", input_ids, 0))

    def encode(self, x: Tensor) -> Tensor:
        """The states after the last norm of embedded tokens, positions not yet added: (N, L, hidden_size) to the same."""
        if x.shape[1] > len(self.position.weight):
            raise ValueError(f"CLIPText: {x.shape[1]} tokens, but positions for {len(self.position.weight)}")
        x = x + self.position.weight[:x.shape[1]]
        for block in self.blocks:
            x = block(x, is_causal=True)
        return self.norm(x)

    def end(self, input_ids: Tensor) -> Tensor:
        """The place of the end-of-text token in each row: (N,) integers."""
        input_ids = _ids("CLIPText", input_ids)
        return (input_ids if self.eot is None else input_ids == self.eot).argmax(1)

    def pool(self, x: Tensor, end: Tensor) -> Tensor:
        """The state at the place `end` of each row: (N, L, hidden_size) and (N,) to (N, hidden_size)."""
        end = asarray(end)
        return x[backend.xp(end).arange(len(end)), end]

    def features(self, input_ids: Tensor) -> Tensor:
        """The state at the end-of-text token, (N, hidden_size)."""
        return self.pool(self.encode(self.embed(input_ids)), self.end(input_ids))
