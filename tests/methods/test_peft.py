"""Parameter-efficient fine-tuning: exact counts, what is undone, merged and refused."""
import numpy as np
import pytest

import minigrad as mg
from methods import peft
from methods.peft import tuning
from minigrad import nn, optim

from transformers_small import IDS, MASK, NETS, PICTURES, SMALL, bert, moved, outputs


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
    ("adapters", {}, 0)], ids=["lora", "lora everywhere", "dora", "ia3", "bitfit", "full", "probe", "adapters"])
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


def test_a_head_that_is_replaced_gets_no_parts():
    net = NETS["ViT"][0]()
    plain, head = net.state_dict(), net.head
    with pytest.raises(ValueError, match="no linear layer is called 'head'"):
        peft.apply(net, "lora", targets=("head",), head=5)
    assert net.head is head and not hasattr(net, "adaptation")
    adaptation = moved(peft.apply(net, "lora", targets=("*[d1]", "mlp.fc2"), head=5))  # `head`, too, ends in d
    beside = outputs(net, (PICTURES,))
    assert adaptation.counts()["head"] == 5 * 12 + 5 and not any(name.startswith("head.a") for name in adaptation.state_dict())
    adaptation.merge()
    np.testing.assert_allclose(outputs(net, (PICTURES,)), beside, atol=1e-4)
    adaptation.undo()
    assert net.head is head and all((plain[name] == array).all() for name, array in net.state_dict().items())
    kept = peft.apply(net, "lora", targets=("head",))  # where none is given, the head may have parts
    assert kept.counts()["head"] == 8 * (12 + 4)


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
            (lambda: peft.apply(net, "lora", targets=()), "no linear layer is named; there are: "),
            (lambda: peft.apply(net, "lora", targets="qkv"), "lora: targets qkv: choose several values"),
            (lambda: peft.apply(net, "lora", alpha=mg.Tensor(2.0, requires_grad=True)), "lora: alpha Tensor"),
            (lambda: peft.apply(net, "prefix", hidden=2.5), "prefix: hidden 2.5: choose a whole number"),
            (lambda: peft.apply(net, "prompt", start="words", words=[1, 2.5]), "words must be a whole number, 0 or more, not 2.5"),
            (lambda: peft.apply(net, "prompt", start="words", words=[1, 40]), "prompts: words: .* indices from 0 to 39 wanted"),
            (lambda: peft.apply(net, "prompt", words=[1]), "words: they are for prompts with start 'words' or 'classes'"),
            (lambda: peft.apply(net, "lora", words=[1]), "words: they are for prompts with start 'words' or 'classes'"),
            (lambda: peft.apply(net, "lora", peft.METHODS["prefix"].Config()), "config: that of lora wanted .*prefix.Config"),
            (lambda: peft.apply(net, "lora", {"rank": 4}), "config: that of lora wanted .*, got builtins.dict"),
            (lambda: peft.Library(net).add(None, "nowhere"), "add: a name is a text, not None"),
            (lambda: peft.apply(net, "lora", head=0), "head must be a whole number, 1 or more, not 0"),
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


def test_parts_are_in_training_or_in_evaluation_as_the_network_is(tmp_path):
    def modes():
        return {module.training for module in net.modules()}

    net = nn.VisionTransformer(8, 4, 1, 3, 16, 1, 2).eval()
    tuned = peft.apply(net, "lora", head=nn.Sequential(nn.Dropout(0.5), nn.Linear(16, 2)), dropout=0.5)
    assert modes() == {False}
    for there, back in ((tuned.undo, tuned.attach), (tuned.merge, tuned.unmerge)):
        for mode in (True, False):
            there()
            net.train(mode)
            assert modes() == {mode}
            back()
            assert modes() == {mode}
    tuned.undo()
    peft.apply(net, "lora", dropout=0.5).save(tmp_path / "lora")
    net.adaptation.undo()
    assert peft.load(net, tmp_path / "lora") and modes() == {False}


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


def test_bitfit_trains_the_biases_of_recurrent_layers():
    for layer in (nn.LSTM(3, 4, bidirectional=True), nn.GRU(3, 4, 2), nn.RNN(3, 4), nn.LSTMCell(3, 4)):
        net = nn.Sequential(layer, nn.Linear(4, 2))
        wanted = {name for name, _ in net.named_parameters() if "bias" in name}
        assert set(peft.apply(net, "bitfit").named_parameters()) == wanted and len(wanted) > 2
    with pytest.raises(ValueError, match="LSTM has no biases to train"):
        peft.apply(nn.LSTM(3, 4, bias=False), "bitfit")


@pytest.mark.parametrize("method", ["bitfit", "full"])
def test_a_bias_of_two_layers_stays_one(method):
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    shared = net[1].bias = net[0].bias
    adaptation = peft.apply(net, method)
    assert net[0].bias is net[1].bias is not shared
    adaptation.undo()
    assert net[0].bias is net[1].bias is shared


def test_a_network_with_adapters_is_one_network():
    """Built anew from its settings it takes the arrays, and computes the same; another method's is refused."""
    from methods.peft.adapted import Adapted
    sizes = dict(img_size=16, patch_size=8, in_chans=3, num_classes=0, embed_dim=16, depth=2, num_heads=2)
    encoder = nn.VisionTransformer(**sizes)
    peft.apply(encoder, "adapters", head=3)
    for p in encoder.parameters():
        p.data = p.data + 0.01
    net, again = Adapted(encoder, 3).eval(), Adapted(nn.VisionTransformer(**sizes), 3).eval()
    again.load_state_dict(net.state_dict())
    x = np.random.default_rng(0).random((2, 3, 16, 16), np.float32)
    np.testing.assert_array_equal(net(x).numpy(), again(x).numpy())
    encoder = nn.VisionTransformer(**sizes)
    peft.apply(encoder, "lora", head=3)
    with pytest.raises(ValueError, match="Adapted: the encoder has lora, not adapters"):
        Adapted(encoder, 3)
