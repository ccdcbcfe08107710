"""Parameter-efficient fine-tuning: each method's equations against plain NumPy."""
import numpy as np
import pytest

import minigrad as mg
from methods import peft
from methods.peft import places, tuning
from minigrad import nn

from transformers_small import IDS, MASK, NETS, bert, drawn, moved, outputs


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


def test_dora_learns_rows_of_zeros():
    """A layer that begins with 0 has no direction whose length could be told."""
    layer, x, y = nn.Linear(6, 4), np.random.default_rng(0).normal(0, 1, (9, 6)).astype(np.float32), np.ones((9, 4), np.float32)
    layer.weight.data[1:] = 0
    net = nn.Sequential(layer)
    before = net(x).numpy()
    adaptation = peft.apply(net, "lora", rank=2, dora=True, targets=("0",))
    np.testing.assert_allclose(net(x).numpy(), before, atol=1e-6)
    for _ in range(3):
        for parameter in adaptation.parameters():
            parameter.grad = None
        ((net(x) - y) ** 2).mean().backward()
        for parameter in adaptation.parameters():
            parameter.data = parameter.data - 0.1 * parameter.grad.numpy()
    beside = net(x).numpy()
    assert np.isfinite(beside).all() and abs(beside - before).min(0).max() > 0 and (net[0].m[0].numpy()[1:] != 0).all()
    adaptation.merge()
    np.testing.assert_allclose(net(x).numpy(), beside, atol=1e-6)


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


@pytest.mark.parametrize("affine, bias", [(False, False), (True, False)])
def test_layer_norms_without_numbers_have_none_to_learn(affine, bias):
    net = bert()
    net.norm = nn.LayerNorm(12, elementwise_affine=affine, bias=bias)
    names = {name for name in peft.apply(net, "adapters").state_dict() if name.startswith("norm.")}
    assert names == ({"norm.weight"} if affine else set())


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


def test_a_prefix_that_no_query_looks_at_changes_nothing():
    net = bert().eval()
    for block in net.blocks:
        block.attn.qkv.bias.data[:12] += 9
    before = net(IDS, MASK).numpy()
    for keys, same in ((-1e4, True), (-1e-4, False)):
        adaptation = peft.apply(net, "prefix", length=3, hidden=0)
        for block in net.blocks:
            block.attn.prefix.keys.data[...] = keys
        assert np.allclose(net(IDS, MASK).numpy(), before, rtol=0, atol=1e-6) == same
        adaptation.undo()


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


@pytest.mark.parametrize("mask", [MASK[:, :-1], MASK[:2], MASK[0], np.ones((3, 1), bool), True])
def test_with_prompts_a_mask_of_another_shape_is_refused_as_without(mask):
    net = bert().eval()
    with pytest.raises(ValueError) as plain:
        net.features(IDS, mask)
    peft.apply(net, "prompt", length=3)
    with pytest.raises(ValueError) as prompted:
        net.features(IDS, mask)
    assert str(prompted.value) == str(plain.value) and "attention_mask of shape" in str(plain.value)
    np.testing.assert_array_equal(net.features(IDS, MASK.tolist()).numpy(), net.features(IDS, MASK).numpy())


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


def test_lora_begins_with_one_factor_at_random():
    """A as a linear layer's weight, B 0: of queries and values, at alpha / r = 2."""
    net = nn.BERT(50, 64, 2, 2, 64)
    names = set(peft.apply(net, "lora").named_parameters())
    assert len(names) == 2 * 2 * 2 and all(".self_attn.in_proj" in name or ".qkv." in name for name in names), names
    for block in net.blocks:
        layer = block.attn.qkv
        assert layer.s == 2 and layer.parts == [slice(0, 64), slice(128, 192)]
        for a, b in zip(layer.a, layer.b):
            assert a.shape == (8, 64) and abs(a.numpy()).max() <= 1 / 8 and a.numpy().std() == pytest.approx(3**-0.5 / 8, rel=0.1)
            assert b.shape == (64, 8) and not b.numpy().any()


@pytest.mark.parametrize("dora", [False, True])
def test_dropout_of_lora_is_of_what_the_update_reads(dora):
    net = bert()
    adaptation = moved(peft.apply(net, "lora", targets=("mlp.fc1",), rank=2, dropout=0.5, dora=dora))
    layer, x = net.blocks[0].mlp.fc1.train(), mg.Tensor(np.random.default_rng(0).normal(0, 1, (5, 12)).astype(np.float32))
    mg.random.seed(3)
    dropped = mg.dropout(x, 0.5, training=True).numpy()
    mg.random.seed(3)
    found, (a, b) = layer(x).numpy(), (layer.a[0].numpy(), layer.b[0].numpy())
    weight = layer.weight.numpy()
    factor = layer.m[0].numpy() / np.linalg.norm(weight + layer.s * b @ a, axis=1) if dora else 1
    wanted = (x.numpy() @ weight.T + layer.s * dropped @ a.T @ b.T) * factor + layer.bias.numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    whole = net.eval().blocks[0].mlp.fc1(x).numpy()
    adaptation.merge()
    np.testing.assert_allclose(net.blocks[0].mlp.fc1(x).numpy(), whole, rtol=1e-4, atol=1e-5)


def test_adapters_prefixes_and_prompts_begin_as_said():
    """Adapters: W_1 as in any linear layer, the others 0. Prompts uniform in +-0.5, prefixes without an MLP normal at 0.5."""
    net = nn.BERT(50, 64, 2, 2, 64)
    peft.apply(net, "adapters", middle=32)
    for adapter in (net.blocks[0].adapter1, net.blocks[1].adapter2):
        assert not any(p.numpy().any() for p in (adapter.down.bias, adapter.up.weight, adapter.up.bias))
        assert adapter.down.weight.numpy().std() == pytest.approx(3**-0.5 / 8, rel=0.1)
    net.adaptation.undo()
    peft.apply(net, "prompt")
    p = net.encode.p.numpy()
    assert p.shape == (20, 64) and 0.49 < abs(p).max() <= 0.5 and p.std() == pytest.approx(12**-0.5, rel=0.1)
    net.adaptation.undo()
    peft.apply(net, "prefix", hidden=0)
    assert net.blocks[1].attn.prefix.keys.numpy().std() == pytest.approx(0.5, rel=0.1)
    assert (net.blocks[0].attn.prefix.keys.numpy() != net.blocks[1].attn.prefix.keys.numpy()).any()


def test_rates_and_decay_of_a_tuning():
    """The head has its own rate; matrices decay alone; rates rise for a tenth of the steps."""
    net = bert()
    adaptation, config = peft.apply(net, "adapters", head=3, middle=2), tuning.Config()
    made = tuning.make_optimizers(adaptation, 0.5, config)
    assert {name: (o.lr, o.param_groups[0]["weight_decay"]) for name, o in made.items()} == {
        "kernels": (0.5, 0.01), "rest": (0.5, 0), "kernels of the head": (2e-3, 0.01), "rest of the head": (2e-3, 0)}
    assert {id(p) for name in made if "head" in name for p in made[name].params} == {id(p) for p in net.head.parameters()}
    assert sum(len(o.params) for o in made.values()) == len(adaptation.parameters())
    method = tuning.Tuning(config, adaptation)
    assert [method.schedule(step, 20) for step in (0, 1, 2, 11, 19)] == pytest.approx([0.5, 1, 1, 0.5, 1 / 18])
