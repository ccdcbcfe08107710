"""Text encoders: BERT (Devlin et al. 2019, arXiv:1810.04805) and CLIP's text tower (Radford et al. 2021, arXiv:2103.00020).

Checkpoints have the names of the Hugging Face hub, which one table for each model maps to the names here.
"""
import numpy as np

from ... import backend, ops
from ...tensor import asarray
from .. import init
from ..layers import Dropout, Embedding, LayerNorm, Linear
from ..module import Module
from ..transformer import TransformerEncoderLayer

# Left: a name here, in which {i} is the number of a layer. Right: the hub's name, or several whose rows stand below
# each other. ".weight" and ".bias" follow.
_BERT = {
    "word": "embeddings.word_embeddings", "position": "embeddings.position_embeddings",
    "kind": "embeddings.token_type_embeddings", "norm": "embeddings.LayerNorm", "pooler": "pooler.dense",
    "layers.{i}.self_attn.in_proj": [f"encoder.layer.{{i}}.attention.self.{part}" for part in ("query", "key", "value")],
    "layers.{i}.self_attn.out_proj": "encoder.layer.{i}.attention.output.dense",
    "layers.{i}.norm1": "encoder.layer.{i}.attention.output.LayerNorm",
    "layers.{i}.linear1": "encoder.layer.{i}.intermediate.dense", "layers.{i}.linear2": "encoder.layer.{i}.output.dense",
    "layers.{i}.norm2": "encoder.layer.{i}.output.LayerNorm"}
_CLIP = {
    "token": "text_model.embeddings.token_embedding", "position": "text_model.embeddings.position_embedding",
    "norm": "text_model.final_layer_norm", "projection": "text_projection",
    "layers.{i}.self_attn.in_proj": [f"text_model.encoder.layers.{{i}}.self_attn.{part}_proj" for part in "qkv"],
    "layers.{i}.self_attn.out_proj": "text_model.encoder.layers.{i}.self_attn.out_proj",
    "layers.{i}.norm1": "text_model.encoder.layers.{i}.layer_norm1",
    "layers.{i}.norm2": "text_model.encoder.layers.{i}.layer_norm2",
    "layers.{i}.linear1": "text_model.encoder.layers.{i}.mlp.fc1",
    "layers.{i}.linear2": "text_model.encoder.layers.{i}.mlp.fc2"}


def _from_hub(state, table, names, prefix):
    """The arrays of a checkpoint of the hub under the names of a model here."""
    def array(name):
        for candidate in (name, prefix + name):  # saved from the encoder alone, or from a model around it
            if candidate in state:
                return np.asarray(state[candidate])
        raise KeyError(f"load_huggingface: the checkpoint has no '{name}'")

    def sources(name):
        stem, _, kind = name.rpartition(".")
        stem, kind = (name.rpartition("_")[0], name.rpartition("_")[2]) if kind.startswith("in_proj_") else (stem, kind)
        number = next((part for part in stem.split(".") if part.isdigit()), "")
        found = table[stem.replace(f".{number}.", ".{i}.") if number else stem]
        return [f"{s.format(i=number)}.{kind}" for s in (found if isinstance(found, list) else [found])]

    return {name: np.concatenate([array(s) for s in sources(name)]) for name in names}


class BERT(Module):
    """Token ids (N, L) to the last layer's states (N, L, hidden_size) and the pooled first state (N, hidden_size).

    Defaults are BERT-base's; MiniLM-L6 is hidden_size=384, num_layers=6, intermediate_size=1536.
    """

    def __init__(self, vocab_size=30522, hidden_size=768, num_layers=12, num_heads=12, intermediate_size=3072,
                 max_length=512, type_vocab_size=2, dropout=0.1, eps=1e-12):
        self.word = Embedding(vocab_size, hidden_size)
        self.position, self.kind = Embedding(max_length, hidden_size), Embedding(type_vocab_size, hidden_size)
        self.norm, self.dropout = LayerNorm(hidden_size, eps), Dropout(dropout)
        self.layers = [TransformerEncoderLayer(hidden_size, num_heads, intermediate_size, dropout, "gelu", eps)
                       for _ in range(num_layers)]
        self.pooler = Linear(hidden_size, hidden_size)
        for module in self.modules():
            if isinstance(module, (Linear, Embedding)):
                init.normal_(module.weight, std=0.02)

    def embed(self, input_ids, token_type_ids=None):
        """Word, position and segment embeddings together: (N, L, hidden_size)."""
        input_ids = asarray(input_ids)
        length = input_ids.shape[1]
        if length > len(self.position.weight):
            raise ValueError(f"BERT: {length} tokens, but positions for {len(self.position.weight)}")
        kinds = backend.xp(input_ids).zeros_like(input_ids) if token_type_ids is None else token_type_ids
        x = self.word(input_ids) + self.position.weight[:length] + self.kind(kinds)
        return self.dropout(self.norm(x))

    def forward(self, input_ids, attention_mask=None, token_type_ids=None, prefixes=None):
        """
        Args:
            input_ids: (N, L) integers.
            attention_mask: (N, L), 1 or True for tokens, 0 for padding.
            token_type_ids: (N, L), the segment of each token; 0 by default.
            prefixes: for each layer a pair of keys and values that every token sees (prefix tuning), or None.
        """
        x = self.embed(input_ids, token_type_ids)
        mask = None if attention_mask is None else asarray(attention_mask).astype(bool)[:, None, None, :]
        for i, layer in enumerate(self.layers):
            x = layer(x, attn_mask=mask, prefix=None if prefixes is None else prefixes[i])
        return x, ops.tanh(self.pooler(x[:, 0]))

    def load_huggingface(self, state):
        """Takes a checkpoint of `BertModel` (or of a model around it): a dict from names to arrays."""
        names = [name for name, _ in self.named_parameters()]
        if not any(name.endswith("pooler.dense.weight") for name in state):
            names = [name for name in names if not name.startswith("pooler.")]
        self.load_state_dict(self.state_dict() | _from_hub(state, _BERT, names, "bert."))


class CLIPText(Module):
    """Token ids (N, L) to features (N, projection_dim): the state at the end-of-text token, projected.

    A causal, pre-norm Transformer. Defaults are those of CLIP ViT-B/32.

    Args:
        eot: the id of the end-of-text token; None: the largest id in each row, as in the first checkpoints.
    """

    def __init__(self, vocab_size=49408, hidden_size=512, num_layers=12, num_heads=8, intermediate_size=2048,
                 max_length=77, projection_dim=512, activation="quick_gelu", eps=1e-5, eot=None):
        self.token, self.position = Embedding(vocab_size, hidden_size), Embedding(max_length, hidden_size)
        init.normal_(self.token.weight, std=0.02)
        init.normal_(self.position.weight, std=0.01)
        self.layers = [TransformerEncoderLayer(hidden_size, num_heads, intermediate_size, 0.0, activation, eps, True)
                       for _ in range(num_layers)]
        self.norm, self.eot = LayerNorm(hidden_size, eps), eot
        self.projection = Linear(hidden_size, projection_dim, bias=False)

    def forward_embedded(self, x, last):
        """From token embeddings (N, L, hidden_size), positions not yet added, and the place of each row's end (N,)."""
        x = x + self.position.weight[:x.shape[1]]
        for layer in self.layers:
            x = layer(x, is_causal=True)
        return self.projection(self.norm(x)[backend.xp(last).arange(len(last)), last])

    def forward(self, input_ids):
        input_ids = asarray(input_ids)
        last = (input_ids if self.eot is None else input_ids == self.eot).argmax(1)
        return self.forward_embedded(self.token(input_ids), last)

    def load_huggingface(self, state):
        """Takes a checkpoint of `CLIPTextModelWithProjection` or `CLIPModel`: a dict from names to arrays."""
        self.load_state_dict(_from_hub(state, _CLIP, [name for name, _ in self.named_parameters()], ""))
