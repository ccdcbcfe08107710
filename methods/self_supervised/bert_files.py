"""BERT with the heads of its two tasks, as the Hugging Face Hub has it: a folder with weights, settings and vocabulary."""
import json
import os
import pathlib

from minigrad import io, nn
from minigrad.backend.files import write_whole
from minigrad.data.text import WordPiece
from minigrad.nn.models.published import current_names, published_state

from .bert import PretrainingBERT

HEADS = {"dense": "cls.predictions.transform.dense", "norm": "cls.predictions.transform.LayerNorm",
         "bias": "cls.predictions.bias", "follows": "cls.seq_relationship"}  # here, and in published files
TASKS = {"masked words": {"dense", "norm", "bias"}, "next sentence": {"follows"}}


def save(net: PretrainingBERT, folder: str | os.PathLike, vocabulary: WordPiece) -> None:
    """Writes a folder as the Hugging Face Hub has them: model.safetensors, config.json, vocab.txt.

    `nn.load_published` and `nn.load_text_encoder` read the encoder, `load` the heads too.
    """
    folder, own = pathlib.Path(folder), net.state_dict()
    vocabulary.save(folder)
    state = {f"bert.{name}": array for name, array in published_state(net.bert).items()}
    for here, there in HEADS.items():
        state |= {there + name.removeprefix(here): array for name, array in own.items() if name.split(".")[0] == here}
    io.save(folder / "model.safetensors", state)
    block = net.bert.blocks[0] if net.bert.blocks else None
    words, width = net.bert.word.weight.shape
    facts = {"architectures": ["BertForPreTraining"], "model_type": "bert", "vocab_size": words, "hidden_size": width,
             "num_hidden_layers": len(net.bert.blocks), "num_attention_heads": block.attn.num_heads if block else 1,
             "intermediate_size": len(block.mlp.fc1.weight) if block else width, "hidden_act": "gelu",
             "max_position_embeddings": len(net.bert.position.weight), "type_vocab_size": len(net.bert.kind.weight),
             "layer_norm_eps": net.bert.norm.eps, "pad_token_id": vocabulary.pad}
    write_whole(folder / "config.json", json.dumps(facts, indent=1))


def load(where: str | os.PathLike, dropout: float = 0.0) -> tuple[PretrainingBERT, WordPiece, list[str]]:
    """A published encoder (a folder of the Hub) with its vocabulary; and which heads its file lacks: these are new.

    Raises:
        FileNotFoundError: there is none; ValueError: it is no BERT, or its vocabulary has more words (`nn.load_text_encoder`).
    """
    bert, path = nn.load_text_encoder(where, dropout=dropout)
    vocabulary = WordPiece.load(path.parent)
    if len(vocabulary) > len(bert.word.weight):
        raise ValueError(f"{path.parent}: {len(vocabulary)} words in vocab.txt, but embeddings of {len(bert.word.weight)}")
    net = PretrainingBERT(bert)
    state, own = current_names(io.load(path)[0]), net.state_dict()
    wanted = {name: HEADS[head] + name.removeprefix(head) for name in own if (head := name.split(".")[0]) in HEADS}
    found = {name: state[there] for name, there in wanted.items() if there in state and state[there].shape == own[name].shape}
    net.load_state_dict(found, strict=False)
    new = {name.split(".")[0] for name in wanted.keys() - found.keys()}
    return net, vocabulary, [what for what, heads in TASKS.items() if new & heads]
