"""Parameter-efficient fine-tuning: equations against plain NumPy, exact counts, what is undone, merged, saved and refused."""
import copy
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import minigrad as mg
from methods import peft
from methods.peft import places, tuning
from methods.training.text_encoders import SentenceEncoder
from minigrad import io, nn, optim

ROOT = pathlib.Path(__file__).parents[2]
IDS = np.random.default_rng(0).integers(0, 40, (3, 7))
MASK = np.arange(7) < np.array([[7], [4], [5]])
PICTURES = np.random.default_rng(1).normal(0, 1, (3, 3, 8, 8)).astype(np.float32)
SMALL = {"lora": dict(rank=2), "adapters": dict(middle=3), "prompt": dict(length=2), "prefix": dict(length=2, hidden=5)}


def bert(dropout=0.0):
    mg.random.seed(0)
    return drawn(nn.BERT(40, 12, 2, 3, 20, 16, dropout=dropout))


def drawn(net, seed=5):
    """The network with numbers that make a difference, biases too."""
    rng = np.random.default_rng(seed)
    for parameter in net.parameters():
        parameter.data = parameter.data + rng.normal(0, 0.2, parameter.shape).astype(np.float32)
    return net


NETS = {"BERT": (bert, (IDS, MASK)), "sentences": (lambda: SentenceEncoder(bert()), (IDS, MASK)),
        "ViT": (lambda: drawn(nn.VisionTransformer(8, 4, 3, 4, 12, 2, 3)), (PICTURES,)),
        "ViT, mean": (lambda: drawn(nn.VisionTransformer(8, 4, 3, 4, 12, 2, 3, global_pool="avg", registers=1)), (PICTURES,)),
        "CLIPText": (lambda: drawn(nn.CLIPText(40, 12, 2, 3, 20, 16, 6)), (IDS,))}


def outputs(net, x):
    with mg.no_grad():
        return net.eval()(*x).numpy()


def moved(adaptation, seed=3, std=0.1):
    """What is trained, changed at random."""
    rng = np.random.default_rng(seed)
    for parameter in adaptation.parameters():
        parameter.data = parameter.data + rng.normal(0, std, parameter.shape).astype(parameter.dtype)
    return adaptation


# -- what it does to a network ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", peft.METHODS)
@pytest.mark.parametrize("kind", NETS)
def test_applied_trained_and_undone_to_the_same_bits(kind, method):
    build, x = NETS[kind]
    net = build()
    before, plain, flags = net.state_dict(), outputs(net, x), [p.requires_grad for p in net.parameters()]
    width = net.features(*x).shape[1]
    adaptation = peft.apply(net, method, head=nn.Linear(width, 5), **SMALL.get(method, {}))
    own = adaptation.named_parameters()
    mg.cross_entropy(net.train()(*x), np.array([0, 4, 2])).backward()
    for name, parameter in net.named_parameters():
        assert (parameter.grad is not None) <= (name in own), name
        assert name not in own or parameter.grad is not None or method in ("full", "bitfit"), name
    optimizer = optim.AdamW(adaptation.parameters(), 0.1)
    optimizer.step()
    assert outputs(net, x).shape == (3, 5)
    adaptation.undo()
    after = net.state_dict()
    assert list(after) == list(before) and [p.requires_grad for p in net.parameters()] == flags
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array, err_msg=name)
    np.testing.assert_array_equal(outputs(net, x), plain)
    assert all(p.grad is None for p in net.parameters()) and not hasattr(net, "adaptation")


@pytest.mark.parametrize("method, settings, tolerance", [
    ("lora", {}, 0), ("lora", dict(targets=("attn.proj", "mlp.*", "attn.qkv"), rank_stabilised=True), 0),
    ("lora", dict(dora=True), 1e-5), ("ia3", {}, 0), ("bitfit", {}, 0), ("full", {}, 0), ("probe", {}, 0),
    ("adapters", {}, 1e-4)], ids=["lora", "lora everywhere", "dora", "ia3", "bitfit", "full", "probe", "adapters"])
@pytest.mark.parametrize("kind", NETS)
def test_at_first_nothing_changes(kind, method, settings, tolerance):
    build, x = NETS[kind]
    net = build()
    before = outputs(net, x)
    peft.apply(net, method, **settings)
    np.testing.assert_allclose(outputs(net, x), before, rtol=0, atol=tolerance)


def test_exact_counts_on_minilm():
    """Of BERT with MiniLM-L6's shape: 6 layers, 384 numbers, 1,536 hidden ones, 30,522 words."""
    net = nn.BERT(hidden_size=384, num_layers=6, intermediate_size=1536)
    everything = ("attn.[qkv]", "attn.proj", "mlp.fc?")
    for method, settings, wanted in (
            ("lora", {}, 73728), ("lora", dict(targets=everything), 331776), ("adapters", dict(middle=16, norms=False), 152256),
            ("adapters", dict(middle=64, norms=False), 595200), ("adapters", dict(middle=64), 595200 + 13 * 768),
            ("adapters", dict(middle=64, norms=False, where="mlp"), 297600), ("prefix", dict(hidden=0), 46080),
            ("prompt", {}, 7680), ("ia3", {}, 6 * (2 * 384 + 1536)), ("probe", {}, 0), ("full", {}, 22713216),
            ("bitfit", {}, 384 + 6 * (1152 + 384 + 1536 + 384 + 2 * 384) + 384)):
        adaptation = peft.apply(net, method, head=2, **settings)
        assert adaptation.counts() == {"trained": wanted, "head": 770, "base": 22713216}, method
        if method == "lora" and not settings:
            assert str(adaptation) == "lora: 73,728 numbers are trained (0.32 % of 22,713,216), and 770 of the head"
        adaptation.undo()
    prefix = peft.apply(net, "prefix", head=2)
    assert prefix.counts()["trained"] == 10 * 384 + 384 * 512 + 512 + 6 * (512 * 768 + 768)
    prefix.finish()
    assert prefix.counts()["trained"] == 46080


def test_the_optimizer_keeps_at_most_two_percent_for_lora():
    net, kept = nn.BERT(hidden_size=384, num_layers=6, intermediate_size=1536), {}
    for method in ("lora", "full"):
        adaptation = peft.apply(net, method, head=2)
        optimizers = tuning.make_optimizers(adaptation, 1e-3, tuning.Config())
        mg.cross_entropy(net.train()(IDS[:1]), np.array([1])).backward()
        for optimizer in optimizers.values():
            optimizer.step()
        kept[method] = tuning.memory(optimizers)
        adaptation.undo()
    assert kept["full"] == 8 * (22713216 + 770) and kept["lora"] == 8 * (73728 + 770) <= 0.02 * kept["full"]


# -- equations -------------------------------------------------------------------------------------------------------


def linear(x, layer):
    return x @ layer.weight.numpy().T + layer.bias.numpy()


@pytest.mark.parametrize("settings", [{}, dict(rank_stabilised=True), dict(dora=True), dict(targets=("attn.qkv",)),
                                      dict(targets=("attn.k", "attn.v"), dora=True)],
                         ids=["lora", "rslora", "dora", "packed", "dora of keys and values"])
def test_lora_is_its_equation(settings):
    net = bert()
    moved(peft.apply(net, "lora", rank=3, alpha=5.0, **settings))
    layer, x = net.blocks[1].attn.qkv, np.random.default_rng(0).normal(0, 1, (2, 4, 12))
    s = 5 / 3**0.5 if settings.get("rank_stabilised") else 5 / 3
    weight = layer.weight.numpy().astype(np.float64)
    wanted = {"targets": ("attn.[qv]",)} | settings
    thirds = {("attn.[qv]",): (0, 2), ("attn.k", "attn.v"): (1, 2), ("attn.qkv",): (None,)}[wanted["targets"]]
    for i, third in enumerate(thirds):
        rows = slice(0, 36) if third is None else slice(12 * third, 12 * third + 12)
        updated = weight[rows] + s * layer.b[i].numpy() @ layer.a[i].numpy()
        if settings.get("dora"):
            updated *= (layer.m[i].numpy() / np.sqrt((updated**2).sum(1)))[:, None]
        weight[rows] = updated
    found = layer(x.astype(np.float32)).numpy()
    np.testing.assert_allclose(found, x @ weight.T + layer.bias.numpy(), atol=2e-5)


def test_dora_takes_the_length_as_a_constant():
    net = bert()
    moved(peft.apply(net, "lora", rank=2, dora=True, targets=("mlp.fc1",)), std=0.3)
    layer, x = net.blocks[0].mlp.fc1, mg.Tensor(np.random.default_rng(0).normal(0, 1, (5, 12)).astype(np.float32))
    layer(x).sum().backward()
    updated = layer.weight.numpy() + layer.s * layer.b[0].numpy() @ layer.a[0].numpy()
    length = np.sqrt((updated**2).sum(1))
    by_b = layer.s * (layer.m[0].numpy() / length)[:, None] * (x.numpy() @ layer.a[0].numpy().T).sum(0)
    np.testing.assert_allclose(layer.b[0].grad.numpy(), by_b, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer.m[0].grad.numpy(), (x.numpy() @ updated.T / length).sum(0), rtol=1e-4, atol=1e-4)


def test_lora_of_queries_other_than_the_keys():
    """Cross-attention projects with rows of the packed layer."""
    mg.random.seed(0)
    attention = drawn(nn.MultiheadAttention(12, 3))
    query, key = (np.random.default_rng(k).normal(0, 1, (2, n, 12)).astype(np.float32) for k, n in ((0, 3), (1, 5)))
    for method, settings in (("lora", dict(targets=("[qv]",), rank=2)), ("lora", dict(targets=("k",), dora=True))):
        adaptation = moved(peft.apply(attention, method, **settings))
        with mg.no_grad():
            beside = attention(query, key).numpy()
            adaptation.merge()
            np.testing.assert_allclose(attention(query, key).numpy(), beside, atol=1e-5)
            adaptation.undo()
            assert np.abs(attention(query, key).numpy() - beside).max() > 1e-3


@pytest.mark.parametrize("where", ["both", "attention", "mlp"])
def test_adapters_stand_before_the_residual_sum(where):
    net = bert()
    moved(peft.apply(net, "adapters", middle=3, where=where))
    block, x = net.blocks[0], np.random.default_rng(0).normal(0, 1, (2, 4, 12)).astype(np.float32)

    def adapted(h, adapter):
        return h if adapter is None else h + linear(mg.gelu(mg.Tensor(linear(h, adapter.down))).numpy(), adapter.up)

    assert (block.adapter1 is None, block.adapter2 is None) == (where == "mlp", where == "attention")
    with mg.no_grad():
        y = block.norm1(x + adapted(block.attn(x).numpy(), block.adapter1)).numpy()
        y = block.norm2(y + adapted(block.mlp(y).numpy(), block.adapter2)).numpy()
        np.testing.assert_allclose(block(x).numpy(), y, atol=1e-5)


def test_adapters_come_behind_the_dropout():
    net = bert(dropout=0.5)
    peft.apply(net, "adapters", where="mlp", middle=1)
    block = net.blocks[0]
    block.adapter2.up.bias.data = np.full(12, 1e4, np.float32)
    seen = []
    block.norm2 = lambda x: seen.append(x.numpy()) or x
    mg.random.seed(0)
    block.train()(np.zeros((2, 4, 12), np.float32))
    assert (seen[0] > 9e3).all()  # dropout behind it would set half of them to 0


def attention(q, k, v, mask):
    scores = np.where(mask, q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]), -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ v


def heads(x, n=3):
    return x.reshape(*x.shape[:2], n, -1).transpose(0, 2, 1, 3)


@pytest.mark.parametrize("hidden", [0, 5])
@pytest.mark.parametrize("causal", [False, True])
def test_prefixes_are_keys_and_values_that_all_tokens_see(causal, hidden):
    net = bert()
    adaptation = moved(peft.apply(net, "prefix", length=2, hidden=hidden))
    attn, x = net.blocks[1].attn, np.random.default_rng(0).normal(0, 1, (3, 7, 12)).astype(np.float32)
    if hidden:
        part = attn.prefix
        p = linear(np.tanh(linear(part.shared.e.numpy(), part.shared.fc1)), part.fc2)  # (P, keys and values of all heads)
        keys, values = (p[:, side].reshape(2, 3, 4).transpose(1, 0, 2) for side in (slice(0, 12), slice(12, 24)))
        assert part.shared is net.blocks[0].attn.prefix.shared
    else:
        keys, values = attn.prefix.keys.numpy(), attn.prefix.values.numpy()
    q, k, v = (heads(part) for part in np.split(linear(x, attn.qkv), 3, -1))
    k, v = (np.concatenate([np.broadcast_to(a, (3, 3, 2, 4)), b], 2) for a, b in ((keys, k), (values, v)))
    seen = np.broadcast_to(np.tril(np.ones((7, 7), bool)) if causal else MASK[:, None, None], (3, 1, 7, 7))
    y = attention(q, k, v, np.concatenate([np.ones((3, 1, 7, 2), bool), seen], -1))
    wanted = linear(y.transpose(0, 2, 1, 3).reshape(3, 7, 12), attn.proj)
    mask = {} if causal else {"attn_mask": MASK[:, None, None]}
    with mg.no_grad():
        np.testing.assert_allclose(attn(x, is_causal=causal, **mask).numpy(), wanted, atol=1e-5)
    whole = outputs(net, (IDS, MASK))
    adaptation.finish()
    assert adaptation.config.hidden == 0 and set(adaptation.named_parameters()) == {
        f"layers.{i}.self_attn.prefix.{part}" for i in (0, 1) for part in ("keys", "values")}
    np.testing.assert_allclose(outputs(net, (IDS, MASK)), whole, atol=1e-6)


@pytest.mark.parametrize("kind", NETS)
def test_prompts_stand_behind_the_first_token(kind):
    build, x = NETS[kind]
    net = build()
    adaptation = moved(peft.apply(net, "prompt", length=3))
    (owner,) = places.transformers(net)
    p, states = owner.encode.p.numpy(), np.random.default_rng(0).normal(0, 1, (3, 5, 12)).astype(np.float32)
    more = (MASK[:, :5],) if isinstance(owner, nn.BERT) else ()
    with mg.no_grad():
        found = owner.eval().encode(states, *more).numpy()
        adaptation.undo()
        joint = np.concatenate([states[:, :1], np.broadcast_to(p, (3, 3, 12)), states[:, 1:]], 1)
        more = tuple(np.concatenate([np.ones((3, 3), bool), mask], 1) for mask in more)
        y = owner.encode(joint, *more).numpy()
    np.testing.assert_allclose(found, np.concatenate([y[:, :1], y[:, 4:]], 1), atol=1e-5)


def test_prompts_begin_as_words():
    net = bert().eval()
    adaptation = peft.apply(net, "prompt", length=5, start="classes", words=[7, 9])
    with mg.no_grad():
        embedded = net.embed(np.array([[7], [9]])).numpy()[:, 0]
    np.testing.assert_array_equal(net.encode.p.numpy(), embedded[[0, 1, 0, 1, 0]])
    adaptation.undo()
    peft.apply(net, "prompt", length=5, start="words", words=[7, 9])
    rows = {tuple(row) for row in net.encode.p.numpy()}
    assert rows <= {tuple(row) for row in embedded}
    net.adaptation.undo()
    with pytest.raises(ValueError, match="begin as words need words"):
        peft.apply(net, "prompt", start="words")
    with pytest.raises(ValueError, match="and a network that embeds them"):
        peft.apply(NETS["ViT"][0](), "prompt", start="words", words=[1])


def test_ia3_scales_keys_values_and_hidden_units():
    net = bert()
    moved(peft.apply(net, "ia3"), std=0.5)
    block, x = net.blocks[0], np.random.default_rng(0).normal(0, 1, (2, 4, 12)).astype(np.float32)
    l_k, l_v = np.split(block.attn.qkv.scale.numpy(), 2)
    q, k, v = (heads(part) for part in np.split(linear(x, block.attn.qkv), 3, -1))
    k, v = (heads(scale * part.transpose(0, 2, 1, 3).reshape(2, 4, 12)) for scale, part in ((l_k, k), (l_v, v)))
    y = attention(q, k, v, True).transpose(0, 2, 1, 3).reshape(2, 4, 12)
    with mg.no_grad():
        np.testing.assert_allclose(block.attn(x).numpy(), linear(y, block.attn.proj), atol=1e-5)
        hidden = mg.gelu(mg.Tensor(linear(x, block.mlp.fc1))).numpy() * block.mlp.fc2.scale.numpy()
        np.testing.assert_allclose(block.mlp(x).numpy(), linear(hidden, block.mlp.fc2), atol=1e-5)


# -- merging ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method, settings", [("lora", {}), ("lora", dict(targets=("mlp.fc?", "attn.k"))),
                                              ("lora", dict(dora=True)), ("ia3", {})], ids=["lora", "lora, mlp", "dora", "ia3"])
@pytest.mark.parametrize("kind", NETS)
def test_merged_is_the_same_and_unmerged_to_the_same_bits(kind, method, settings):
    build, x = NETS[kind]
    net = build()
    plain = net.state_dict()
    adaptation = moved(peft.apply(net, method, **settings))
    beside, state = outputs(net, x), adaptation.state_dict()
    adaptation.merge()
    assert list(net.state_dict()) == list(plain)  # weights of the plain network
    other = build()
    other.load_state_dict(net.state_dict())
    np.testing.assert_allclose(outputs(other, x), beside, atol=1e-4)
    np.testing.assert_array_equal(outputs(net, x), outputs(other, x))
    for call, message in ((adaptation.merge, "merged already"), (adaptation.parameters, "before unmerge"),
                          (lambda: adaptation.save("nowhere"), "before unmerge")):
        with pytest.raises(ValueError, match=message):
            call()
    adaptation.unmerge()
    np.testing.assert_array_equal(outputs(net, x), beside)
    for name, array in adaptation.state_dict().items():
        np.testing.assert_array_equal(array, state[name])
    with pytest.raises(ValueError, match="unmerge: .* is not merged"):
        adaptation.unmerge()
    adaptation.merge()
    adaptation.undo()
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, plain[name])


@pytest.mark.parametrize("method", ["adapters", "prompt", "prefix", "bitfit", "full", "probe"])
def test_what_is_no_linear_layer_is_not_merged(method):
    adaptation = peft.apply(bert(), method, **SMALL.get(method, {}))
    with pytest.raises(ValueError, match=f"merge: {method} cannot be written as other weights"):
        adaptation.merge()


# -- what is refused -------------------------------------------------------------------------------------------------


def test_targets_that_name_nothing_are_told_the_layers():
    net = bert()
    with pytest.raises(ValueError, match=r"no linear layer is called 'query'; there are: blocks\.\*\.attn\.qkv, blocks\.\*\.attn\.q,"):
        peft.apply(net, "lora", targets=("query",))
    with pytest.raises(ValueError, match="queries, keys or values, and all three together"):
        peft.apply(net, "lora", targets=("attn.q", "attn.qkv"))
    assert not hasattr(net, "adaptation") and all(p.requires_grad for p in net.parameters())
    one = peft.apply(net, "lora", targets=("blocks.1.attn.v", "pooler"))
    assert {name.rpartition(".")[0] for name in one.named_parameters()} == {
        "layers.1.self_attn.qkv.a", "layers.1.self_attn.qkv.b", "pooler.a", "pooler.b"}


def test_what_is_refused():
    net, conv = bert(), nn.ResNet(nn.models.resnet.BasicBlock, (1, 1, 1, 1), 4)
    for call, message in (
            (lambda: peft.apply(net, "lorra"), "method is one of lora, adapters"),
            (lambda: peft.apply(net, "lora", rank=0), "lora: rank 0: choose a number 1 or more"),
            (lambda: peft.apply(net, "adapters", where="norms"), "adapters: where norms: choose one of both, attention, mlp"),
            (lambda: peft.apply(net, "lora", ranks=3), "lora has no setting ranks; there are: rank, alpha"),
            (lambda: peft.apply(conv, "prefix"), "ResNet has no Transformer blocks"),
            (lambda: peft.apply(conv, "adapters"), "ResNet has no Transformer blocks"),
            (lambda: peft.apply(conv, "lora"), "there are: head"),
            (lambda: peft.apply(nn.Linear(3, 2), "probe", head=2), "Linear does not say the width"),
            (lambda: peft.apply(conv, "probe", head=conv.head), "head: it is part of the network")):
        with pytest.raises(ValueError, match=message):
            call()
    adaptation = peft.apply(net, "lora")
    with pytest.raises(ValueError, match=r"BERT has lora already: undo\(\) it first"):
        peft.apply(net, "prefix")
    adaptation.merge()
    assert str(adaptation) == "lora, merged into the weights"
    adaptation.undo()
    assert str(adaptation) == "lora, not in the network"
    for call in (adaptation.undo, adaptation.merge, adaptation.parameters, adaptation.finish, lambda: adaptation.save("nowhere")):
        with pytest.raises(ValueError, match="lora is not in the network"):
            call()


def test_other_dtypes_follow_the_network():
    net = bert().to("float64")
    for method in peft.METHODS:
        adaptation = peft.apply(net, method, head=2, **SMALL.get(method, {}))
        assert {p.dtype for p in adaptation.parameters()} == {np.dtype("float64")}
        assert net(IDS, MASK).dtype == np.float64
        adaptation.undo()


def test_a_network_that_moves_meanwhile():
    for method in peft.METHODS:
        net = bert()
        adaptation = peft.apply(net, method, head=2, **SMALL.get(method, {}))
        net.to("float64")
        assert net(IDS, MASK).dtype == np.float64
        adaptation.undo()
        assert {p.dtype for p in net.parameters()} == {np.dtype("float64")}
        net.to("float32")
        adaptation.attach()
        assert {p.dtype for p in net.parameters()} == {np.dtype("float32")}


def test_a_layer_in_two_places_stays_one():
    class Twice(nn.Module):
        def __init__(self):
            self.a = self.b = nn.Linear(3, 3)

        def forward(self, x):
            return self.b(self.a(x))

    net, x = Twice(), np.ones((2, 3), np.float32)
    before = net(x).numpy()
    adaptation = moved(peft.apply(net, "lora", targets=("a",), rank=1))
    assert net.a is net.b and len(adaptation.parameters()) == 2
    beside = net(x).numpy()
    adaptation.merge()
    np.testing.assert_allclose(net(x).numpy(), beside, atol=1e-6)
    adaptation.undo()
    assert net.a is net.b
    np.testing.assert_array_equal(net(x).numpy(), before)


def test_a_network_with_convolutions_takes_what_needs_no_blocks():
    mg.random.seed(0)
    net = nn.ResNet(nn.models.resnet.BasicBlock, (1, 1, 1, 1), 4, small_images=True)
    before = net.state_dict()
    for method, settings in (("lora", dict(targets=("head",))), ("bitfit", {}), ("full", {}), ("probe", {})):
        adaptation = peft.apply(net, method, head=None if method == "lora" else 3, **settings)
        for step in range(2):
            loss, _ = tuning.Tuning(tuning.Config(), adaptation).loss((PICTURES, np.array([0, 1, 2])), step)
        adaptation.undo()
        for name, array in net.state_dict().items():  # running statistics, too
            np.testing.assert_array_equal(array, before[name], err_msg=name)


# -- files -----------------------------------------------------------------------------------------------------------

FRESH = """
import sys
import numpy as np
from methods import peft
from methods.training.text_encoders import SentenceEncoder
from minigrad import io, nn
folder = sys.argv[1]
for method in peft.METHODS:
    net = SentenceEncoder(nn.BERT(40, 12, 2, 3, 20, 16, dropout=0.0))
    net.load_state_dict(io.load(folder + "/base.safetensors")[0])
    peft.load(net, f"{folder}/{method}.safetensors")
    ids, mask = (np.load(f"{folder}/{name}.npy") for name in ("ids", "mask"))
    np.save(f"{folder}/{method}.npy", net.eval()(ids, mask).numpy())
"""


def test_saved_and_loaded_in_another_process(tmp_path):
    """Each method learns a little, and classifies the same there, to the last bit."""
    rng = np.random.default_rng(0)
    ids, y = rng.integers(5, 40, (24, 7)), np.arange(24) % 2
    ids[:, 3] = y
    np.save(tmp_path / "ids.npy", ids)
    np.save(tmp_path / "mask.npy", np.ones((24, 7), bool))
    net, here = SentenceEncoder(bert()), {}
    io.save(tmp_path / "base.safetensors", net.state_dict())
    for method in peft.METHODS:
        adaptation = peft.apply(net, method, head=2, **SMALL.get(method, {}))
        optimizers = tuning.make_optimizers(adaptation, 2e-2, tuning.Config(head_lr=2e-2))
        task, losses = tuning.Tuning(tuning.Config(), adaptation), []
        for step in range(25):
            loss, _ = task.loss((ids, np.ones((24, 7), bool), y), step)
            losses.append(loss.item())
            loss.backward()
            for optimizer in optimizers.values():
                optimizer.step()
                optimizer.zero_grad()
        assert losses[-1] < losses[0] - 0.02, method
        adaptation.finish()
        adaptation.save(tmp_path / f"{method}.safetensors", classes=["a", "b"])
        here[method] = outputs(net, (ids, np.ones((24, 7), bool)))
        adaptation.undo()
        assert peft.adaptation.read(tmp_path / f"{method}.safetensors")[0]["classes"] == ["a", "b"]
    assert (here["full"].argmax(1) == y).all()
    subprocess.run([sys.executable, "-c", FRESH, str(tmp_path)], check=True, cwd=ROOT,
                   env={**os.environ, "PYTHONPATH": str(ROOT)})
    for method, scores in here.items():
        np.testing.assert_array_equal(np.load(tmp_path / f"{method}.npy"), scores, err_msg=method)


def test_other_weights_are_refused_whatever_they_are_called(tmp_path):
    net = bert()
    moved(peft.apply(net, "lora", head=2)).save(tmp_path / "a.safetensors")
    other = bert()
    other.blocks[0].norm1.bias.data = other.blocks[0].norm1.bias.data + np.float32(1e-6)
    with pytest.raises(peft.OtherBase, match="was trained on other base weights than these of BERT"):
        peft.load(other, tmp_path / "a.safetensors")
    assert not hasattr(other, "adaptation")
    same = nn.BERT(40, 12, 2, 3, 20, 16, num_classes=7)  # another head
    net.adaptation.undo()
    same.load_state_dict(net.state_dict(), strict=False)
    peft.load(same, tmp_path / "a.safetensors")
    assert outputs(same, (IDS, MASK)).shape == (3, 2)
    own = drawn(nn.BERT(40, 12, 2, 3, 20, 16, num_classes=7))  # whose head stays: it counts
    peft.apply(own, "lora").save(tmp_path / "b.safetensors")
    own.adaptation.undo()
    own.head.bias.data = own.head.bias.data + 1
    with pytest.raises(peft.OtherBase):
        peft.load(own, tmp_path / "b.safetensors")


def test_damaged_files_are_refused(tmp_path):
    net = bert()
    adaptation = peft.apply(net, "lora", head=2)
    adaptation.save(tmp_path / "a.safetensors")
    adaptation.undo()
    arrays, about = io.load(tmp_path / "a.safetensors")
    with pytest.raises(FileNotFoundError):
        peft.load(net, tmp_path / "none.safetensors")
    some = dict(list(arrays.items())[1:])
    for changed, facts, message in (({}, {}, "is damaged: lora: missing"), (some, {}, "is damaged: lora: missing"),
                                    (arrays, {"format": 9}, "format 9"), (arrays, {"method": "magic"}, "made by 'magic'"),
                                    (arrays, {"config": 3}, "holds no parameter-efficient"),
                                    (arrays, {"config": {"rang": 3}}, "is damaged: .*unexpected keyword argument 'rang'"),
                                    (arrays, {"head": [1]}, "is damaged"), (arrays, {"config": {"rank": "x"}}, "is damaged")):
        io.save(tmp_path / "b.safetensors", changed or {"x": np.zeros(1)}, {**about, **facts})
        with pytest.raises(ValueError, match=message):
            peft.load(net, tmp_path / "b.safetensors")
        assert not hasattr(net, "adaptation")
    io.save(tmp_path / "c.safetensors", arrays, json.loads("null"))
    with pytest.raises(ValueError, match="holds no parameter-efficient fine-tuning"):
        peft.load(net, tmp_path / "c.safetensors")


def test_several_are_switched(tmp_path):
    net = bert()
    plain, wanted = outputs(net, (IDS, MASK)), {}
    library = peft.Library(net)
    for i, method in enumerate(peft.METHODS):
        adaptation = moved(peft.apply(net, method, head=2 + i, **SMALL.get(method, {})), i)
        wanted[method] = outputs(net, (IDS, MASK))
        adaptation.finish()
        adaptation.save(tmp_path / f"{method}.safetensors")
        adaptation.undo()
        library.add(method, adaptation if i % 2 else tmp_path / f"{method}.safetensors")
    for name in (*peft.METHODS, None, "lora", "lora", None, *reversed(peft.METHODS)):
        library.use(name)
        assert library.active == name
        np.testing.assert_allclose(outputs(net, (IDS, MASK)), plain if name is None else wanted[name], atol=1e-6)
    library.use("prefix")
    library.add("more", tmp_path / "lora.safetensors")
    assert library.active == "prefix"
    for call, message in ((lambda: library.use("x"), "no 'x'; there are: lora, adapters"),
                          (lambda: library.add("lora", tmp_path / "lora.safetensors"), "there is 'lora' already"),
                          (lambda: library.add("y", peft.apply(bert(), "probe")), "'y' is of another network")):
        with pytest.raises(ValueError, match=message):
            call()


def test_adapted_networks_are_copied():
    for method in peft.METHODS:
        net = bert()
        moved(peft.apply(net, method, head=2, **SMALL.get(method, {})))
        other = copy.deepcopy(net)
        np.testing.assert_array_equal(outputs(other, (IDS, MASK)), outputs(net, (IDS, MASK)))
        moved(other.adaptation)
        other.adaptation.undo()
        assert hasattr(net, "adaptation") and not hasattr(other, "adaptation")
