"""Models as encoders with a head, their steps, the one Transformer block, and published checkpoints."""
import copy
import math
import pickle

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.nn.models import published

rng = np.random.default_rng(0)
IMAGES = rng.normal(size=(2, 3, 32, 32)).astype(np.float32)
IDS = np.array([[1, 5, 19, 0, 0], [1, 2, 3, 4, 19]])
MODELS = {
    "Conv4": (lambda n: nn.Conv4(3, 8, image_size=32, num_classes=n), IMAGES, 32, "head"),
    "ConvLarge": (lambda n: nn.ConvLarge(n), IMAGES, 128, "fc"),
    "ResNet": (lambda n: nn.ResNet(nn.models.BasicBlock, (1, 1, 1, 1), n, small_images=True), IMAGES, 512, "fc"),
    "Lite": (lambda n: nn.EfficientNetLite(1.0, 0.3, n), IMAGES, 1280, "_fc"),
    "ResNet, bottlenecks": (lambda n: nn.ResNet(nn.models.Bottleneck, (1, 0, 0, 0), n), IMAGES, 256, "fc"),
    "WRN": (lambda n: nn.WideResNet(10, 1, n), IMAGES, 64, "fc"),
    "ViT": (lambda n: nn.VisionTransformer(32, 8, 3, n, 12, 2, 2), IMAGES, 12, "head"),
    "ViT, mean": (lambda n: nn.VisionTransformer(32, 8, 3, n, 12, 2, 2, global_pool="avg"), IMAGES, 12, "head"),
    "MAE": (lambda n: nn.MAE(32, 8, 3, n, 12, 2, 2, decoder_dim=8, decoder_depth=1, decoder_heads=2), IMAGES, 12, "head"),
    "ViT, registers": (lambda n: nn.VisionTransformer(32, 8, 3, n, 12, 2, 2, layer_scale=0.1, registers=3), IMAGES, 12, "head"),
    "BERT": (lambda n: nn.BERT(20, 8, 2, 2, 16, 10, num_classes=n), IDS, 8, "head"),
    "CLIP": (lambda n: nn.CLIPText(20, 8, 2, 2, 16, 10, n), IDS, 8, "projection")}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_an_encoder_with_a_head(name):
    make, x, width, stored = MODELS[name]
    net = make(3).eval()
    features = net.features(x)
    assert isinstance(net, nn.Encoder) and net.width == width and features.shape == (2, width)
    np.testing.assert_array_equal(net(x).numpy(), net.head(features).numpy())
    assert [n for n in net.state_dict() if n.startswith(stored)][0] == stored + ".weight" and net(x).shape == (2, 3)
    net.head = nn.Linear(width, 5)
    assert net(x).shape == (2, 5) and net.state_dict()[stored + ".weight"].shape == (5, width)
    setattr(net, stored, nn.Linear(width, 4))  # the published name is an attribute too
    assert net.head.weight.shape == (4, width) and stored not in vars(net) or stored == "head"
    net.head = nn.Identity()
    np.testing.assert_array_equal(net(x).numpy(), features.numpy())
    for none in (0, None):
        bare = make(none).eval()
        assert isinstance(bare.head, nn.Identity) and bare(x).shape == (2, width)
        bare.load_state_dict(net.state_dict())
        np.testing.assert_array_equal(bare(x).numpy(), features.numpy())


def test_conv4_counts_its_features():
    for size in (16, 28, 31, 32, 84):
        assert nn.Conv4(1, 4, image_size=size).width == nn.Conv4(1, 4)(np.zeros((1, 1, size, size), np.float32)).shape[1]


class Own(nn.Encoder):
    stored_names = {"head": "classifier"}

    def __init__(self, classes):
        self.layer = nn.Linear(3 * 32 * 32, 6)
        super().__init__(6, classes)

    def features(self, x):
        return mg.tanh(self.layer(mg.flatten(x, 1)))


def test_an_encoder_of_ones_own():
    net = Own(4)
    assert net(IMAGES).shape == (2, 4) and Own(None)(IMAGES).shape == (2, net.width)
    assert list(net.state_dict()) == ["layer.weight", "layer.bias", "classifier.weight", "classifier.bias"]
    with pytest.raises(TypeError, match="Encoder defines no features"):
        nn.Encoder(6, 4)(IMAGES)


# -- steps -----------------------------------------------------------------------------------------------------------


def vit(**settings):
    mg.random.seed(0)
    return nn.VisionTransformer(32, 8, 3, 5, 12, 2, 2, **settings).to("float64").eval()


def test_a_masked_autoencoder_encodes_some_of_the_patches():
    net, images = vit(), IMAGES.astype(np.float64)
    patches = net.patches(images)
    assert patches.shape == (2, 16, 12)
    visible = np.array([3, 7, 8, 12])
    y = net.encode(net.add_class(patches[:, visible]))
    assert y.shape == (2, 5, 12)
    images = images.reshape(2, 3, 4, 8, 4, 8).copy()
    for i in set(range(16)) - set(visible):
        images[:, :, i // 4, :, i % 4] += 1  # what is hidden has no influence
    other = net.encode(net.add_class(net.patches(images.reshape(2, 3, 32, 32))[:, visible]))
    np.testing.assert_array_equal(other.numpy(), y.numpy())
    order = net.encode(net.add_class(patches[:, visible[::-1]])).numpy()  # positions travel with the patches
    np.testing.assert_allclose(order[:, 0], y.numpy()[:, 0], atol=1e-12)


def test_attention_maps_and_prompts():
    net, images = vit(), IMAGES.astype(np.float64)
    tokens = net.add_class(net.patches(images))
    states, maps = net.encode(tokens, need_weights=True)
    np.testing.assert_allclose(states.numpy(), net.encode(tokens).numpy(), atol=1e-12)
    assert len(maps) == 2 and maps[1].shape == (2, 2, 17, 17)
    np.testing.assert_allclose(maps[0].numpy().sum(-1), 1)
    prompts = mg.Tensor(rng.normal(size=(2, 3, 12)), requires_grad=True)
    y = net.pool(net.encode(mg.concatenate([tokens[:, :1], prompts, tokens[:, 1:]], 1)))
    (y * np.arange(12)).sum().backward()  # a plain sum is constant after the last norm
    assert y.shape == (2, 12) and abs(prompts.grad.numpy()).min() > 0
    net.blocks[1].attn = Zero()
    assert not np.allclose(net.encode(tokens).numpy(), states.numpy())


class Zero(nn.Module):
    def forward(self, x, **settings):
        return x * 0


def test_text_models_take_embedded_tokens():
    bert = nn.BERT(20, 8, 2, 2, 16, 10).to("float64").eval()
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    x = bert.embed(IDS)
    np.testing.assert_array_equal(bert.pool(bert.encode(x, mask)).numpy(), bert(IDS, mask).numpy())
    prompts = mg.Tensor(rng.normal(size=(2, 3, 8)), requires_grad=True)
    y = bert.pool(bert.encode(mg.concatenate([x, prompts], 1), np.concatenate([mask, np.ones((2, 3))], 1)))
    y.sum().backward()
    assert y.shape == (2, 8) and abs(prompts.grad.numpy()).max() > 0
    prefixes = [tuple(mg.Tensor(rng.normal(size=(2, 3, 4))) for _ in range(2)) for _ in range(2)]
    assert not np.allclose(bert(IDS, mask, prefixes=prefixes).numpy(), bert(IDS, mask).numpy())

    clip = nn.CLIPText(20, 8, 2, 2, 16, 10, 6, eot=19).to("float64")
    np.testing.assert_array_equal(clip.end(IDS), [2, 4])
    x = clip.embed(IDS)
    np.testing.assert_array_equal(clip.pool(clip.encode(x), clip.end(IDS)).numpy(), clip.features(IDS).numpy())
    with pytest.raises(ValueError, match="11 tokens, but positions for 10"):
        clip(np.zeros((1, 11), int))
    with pytest.raises(ValueError, match="11 tokens, but positions for 10"):
        bert(np.zeros((1, 11), int))


# -- one block -------------------------------------------------------------------------------------------------------


def test_the_same_attributes_in_all_models():
    """So that low-rank adaptation, adapters and prompts are written once."""
    for make, *_ in (MODELS["ViT"], MODELS["BERT"], MODELS["CLIP"]):
        net = make(2)
        for block in net.blocks:
            assert isinstance(block, nn.TransformerBlock)
            layers = [block.attn.qkv, block.attn.proj, block.mlp.fc1, block.mlp.fc2]
            assert all(type(layer) is nn.Linear for layer in layers)
            assert {id(m) for m in layers} == {id(m) for m in block.modules() if isinstance(m, nn.Linear)}
        found = [name for name, module in net.named_modules() if name.endswith(".qkv")]
        assert len(found) == 2


def test_pytorchs_names_are_attributes_too():
    layer = nn.TransformerEncoderLayer(8, 2, 16)
    assert layer.linear1 is layer.mlp.fc1 and layer.self_attn.out_proj is layer.attn.proj
    assert layer.self_attn.in_proj_weight is layer.attn.qkv.weight and layer.self_attn.in_proj_bias is layer.attn.qkv.bias
    layer.linear2 = nn.Linear(16, 8)
    assert layer.mlp.fc2 is layer.linear2
    bare = nn.MultiheadAttention(8, 2, bias=False)
    assert list(bare.state_dict()) == ["in_proj_weight", "out_proj.weight"] and bare.in_proj_bias is None
    assert nn.MultiheadAttention(8, 2, batch_first=True)(np.zeros((3, 5, 8), np.float32)).shape == (3, 5, 8)


@pytest.mark.parametrize("norm_first", [True, False])
def test_block_equals_its_equations(norm_first):
    mg.random.seed(0)
    block = nn.TransformerBlock(8, 2, 16, "quick_gelu", norm_first=norm_first, eps=1e-3).to("float64")
    x = mg.Tensor(rng.normal(size=(2, 5, 8)))
    y = block(x).numpy()
    if norm_first:
        z = x + block.attn(block.norm1(x))
        z = z + block.mlp(block.norm2(z))
    else:
        z = block.norm1(x + block.attn(x))
        z = block.norm2(z + block.mlp(z))
    np.testing.assert_array_equal(y, z.numpy())
    q, k, v = block.attn.qkv(x).numpy().reshape(2, 5, 3, 2, 4).transpose(2, 0, 3, 1, 4)
    weights = np.exp(q @ k.swapaxes(2, 3) / 2)
    mixed = (weights / weights.sum(-1, keepdims=True) @ v).transpose(0, 2, 1, 3).reshape(2, 5, 8)
    np.testing.assert_allclose(block.attn(x).numpy(), block.attn.proj(mixed).numpy(), atol=1e-12)
    np.testing.assert_allclose(block.attn(x, x).numpy(), block.attn(x).numpy(), atol=1e-12)
    h = block.mlp.fc1(x).numpy()
    np.testing.assert_allclose(block.mlp(x).numpy(), block.mlp.fc2(h / (1 + np.exp(-1.702 * h))).numpy(), atol=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_models_are_copied_and_pickled(name):
    make, x, *_ = MODELS[name]
    net = make(2).eval()
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        np.testing.assert_array_equal(twin(x).numpy(), net(x).numpy())
        twin.head.weight.data[:] = 0
        assert net.head.weight.numpy().any()


def test_drop_path_leaves_branches_out():
    mg.random.seed(0)
    block = nn.TransformerBlock(8, 2, 16, drop_path=1.0)
    x = rng.normal(size=(4, 5, 8)).astype(np.float32)
    np.testing.assert_array_equal(block(mg.Tensor(x)).numpy(), x)
    assert not np.allclose(block.eval()(mg.Tensor(x)).numpy(), x)


@pytest.mark.parametrize("call, message", [
    (lambda: nn.TransformerEncoderLayer(8, 3), "num_heads must divide the 8 features, not 3"),
    (lambda: nn.Attention(8, 0), "num_heads must divide the 8 features, not 0"),
    (lambda: nn.TransformerBlock(8, 2, 16, "relu6"), "activation is one of relu"),
    (lambda: nn.TransformerEncoderLayer(8, 2, batch_first=False), "TransformerEncoderLayer: .*batch_first=True"),
    (lambda: nn.MultiheadAttention(8, 2, batch_first=False), "MultiheadAttention: .*batch_first=True"),
    (lambda: nn.VisionTransformer(global_pool="max"), "'token' or 'avg'"),
    (lambda: vit()(np.zeros((1, 3, 16, 16))), "4 patches, but positions for 16"),
    (lambda: vit()(np.zeros((3, 32, 32))), r"images \(N, 3, H, W\) wanted, got shape \(3, 32, 32\)"),
    (lambda: vit()(np.zeros((1, 1, 32, 32))), r"images \(N, 3, H, W\) wanted, got shape \(1, 1, 32, 32\)"),
    (lambda: bert()([1, 2]), r"BERT: token ids \(N, L\), L at least 1, wanted, got shape \(2,\)"),
    (lambda: bert()(np.zeros((2, 0), int)), "BERT: token ids"),
    (lambda: bert()([[1, 2]], [1, 1]), r"BERT: an attention_mask of shape \(1, 2\) wanted, got \(2,\)"),
    (lambda: bert()([[1, 2]], np.ones((1, 3))), r"BERT: an attention_mask of shape \(1, 2\) wanted, got \(1, 3\)"),
    (lambda: nn.CLIPText(20, 8, 1, 2, 16, 10, 4)(np.zeros(3, int)), "CLIPText: token ids"),
    (lambda: nn.CLIPText(20, 8, 1, 2, 16, 10, 4)(np.zeros((1, 0), int)), "CLIPText: token ids")])
def test_errors_of_transformers(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("call, name, wrong", [
    (nn.Mlp, "dropout", -1), (nn.Mlp, "activation", []), (nn.TransformerBlock, "drop_path", "0.1"),
    (nn.ConvLarge, "dropout", 1.5), (nn.WideResNet, "dropout", None), (nn.WideResNet, "depth", 12),
    (nn.EfficientNetLite, "dropout", True), (nn.EfficientNetLite, "width", mg.Tensor(1.0, requires_grad=True)),
    (nn.efficientnet_lite, "variant", 5), (nn.efficientnet_lite, "variant", mg.Tensor([1.0, 2.0])),
    (nn.VisionTransformer, "drop_rate", 2), (nn.VisionTransformer, "drop_path_rate", mg.Tensor(0.1, requires_grad=True)),
    (nn.VisionTransformer, "num_heads", 5), (nn.BERT, "dropout", math.nan), (nn.BERT, "num_heads", 5),
    (nn.CLIPText, "projection_dim", -1), (nn.CLIPText, "eot", "a"), (nn.CLIPText, "eot", 1.5),
    (nn.CLIPText, "eot", 49408),
    (nn.CLIPText, "activation", []), (nn.resnet18, "in_channels", -1)])
def test_a_setting_that_a_model_hands_to_its_parts_is_refused_under_its_own_name(call, name, wrong):
    sizes = {nn.Mlp: (8, 16), nn.TransformerBlock: (8, 2, 16)}.get(call, ())
    with pytest.raises((ValueError, TypeError), match=rf"\b{name}\b"):
        call(*sizes, **{name: wrong})


@pytest.mark.parametrize("block, layers, message", [
    (3, (1, 1, 1, 1), "ResNet: block is"), (nn.models.BasicBlock, 3, "ResNet: layers must be"),
    (nn.models.BasicBlock, (1, 1, 1), "ResNet: layers must be"),
    (nn.models.BasicBlock, (1, -1, 1, 1), "ResNet: layers must be a whole number, 0 or more")])
def test_errors_of_residual_networks(block, layers, message):
    with pytest.raises((ValueError, TypeError), match=message):
        nn.ResNet(block, layers)


# -- published checkpoints -------------------------------------------------------------------------------------------


def hub(net):
    """A state dict under the names of the hub."""
    found = {}
    for name, array in net.state_dict().items():
        sources = published._sources(published.PUBLISHERS[type(net)][0], name)
        found.update(zip(sources, np.split(array, len(sources))))
    return found


def bert(**settings):
    return nn.BERT(20, 8, 2, 2, 16, 10, **settings)


def test_old_names_of_layer_norm_and_missing_poolers():
    net, twin = bert(), bert()
    state = {n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): a
             for n, a in hub(net).items()}
    assert "encoder.layer.0.output.LayerNorm.gamma" in state
    state["embeddings.position_ids"] = np.arange(10)
    net.norm.weight.data[:] = 3
    state["embeddings.LayerNorm.gamma"] = net.norm.weight.numpy()
    nn.load_published(twin, state)
    assert all(np.array_equal(a, b) for a, b in zip(twin.state_dict().values(), net.state_dict().values()))
    other = bert()
    before = other.pooler.weight.numpy().copy()
    nn.load_published(other, {n: a for n, a in state.items() if "pooler" not in n})
    np.testing.assert_array_equal(other.pooler.weight.numpy(), before)
    np.testing.assert_array_equal(other.word.weight.numpy(), net.word.weight.numpy())


def test_models_around_the_encoder():
    net, twin = bert(num_classes=3), bert(num_classes=3)
    state = {n if n.startswith("classifier") else "bert." + n: a for n, a in hub(net).items()}
    nn.load_published(twin, state | {"qa_outputs.bias": np.zeros(2)})
    np.testing.assert_array_equal(twin.head.weight.numpy(), net.head.weight.numpy())
    nn.load_published(bert(), state)  # has no head
    clip, twin = (nn.CLIPText(20, 8, 2, 2, 16, 10, 6) for _ in range(2))
    state = hub(clip) | {"vision_model.x": np.zeros(1), "logit_scale": np.zeros(()), "visual_projection.weight": np.zeros(1),
                                 "text_model.embeddings.position_ids": np.arange(10)}
    nn.load_published(twin, state)
    np.testing.assert_array_equal(twin(IDS).numpy(), clip(IDS).numpy())
    with pytest.raises(KeyError, match="no 'text_projection.weight' for this CLIPText: pass head=False"):
        nn.load_published(twin, {n: a for n, a in state.items() if "text_projection" not in n})


@pytest.mark.parametrize("name", ["ResNet", "ViT"])
def test_a_file_with_another_head(name, tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    make, x, *_ = MODELS[name]
    source, net = make(7).eval(), make(3).eval()
    safetensors.save_file(source.state_dict(), tmp_path / "file.safetensors", metadata={"format": "pt"})
    head = net.head.weight.numpy().copy()
    with pytest.raises(ValueError, match="pass head=False .* a head of 7 outputs"):
        nn.load_published(net, tmp_path / "file.safetensors")
    nn.load_published(net, str(tmp_path / "file.safetensors"), head=False)
    np.testing.assert_array_equal(net.features(x).numpy(), source.features(x).numpy())
    np.testing.assert_array_equal(net.head.weight.numpy(), head)
    none = make(0).eval()
    nn.load_published(none, source.state_dict())
    np.testing.assert_array_equal(none(x).numpy(), source.features(x).numpy())
    with pytest.raises(FileNotFoundError):
        nn.load_published(net, tmp_path / "nothing")


@pytest.mark.parametrize("make, state, error, message", [
    (bert, lambda: hub(nn.BERT(20, 8, 3, 2, 16, 10)), KeyError,
     "no place for 'encoder.layer.2.* and 13 more of the checkpoint: build it with the checkpoint's number of layers"),
    (bert, lambda: hub(nn.BERT(20, 8, 1, 2, 16, 10)), KeyError, "has no 'encoder.layer.1"),
    (bert, lambda: hub(nn.BERT(30, 8, 2, 2, 16, 10)), ValueError, "with the checkpoint's vocab_size"),
    (bert, lambda: hub(nn.BERT(20, 8, 2, 2, 16, 12)), ValueError, "with the checkpoint's max_length"),
    (lambda: vit(), lambda: nn.VisionTransformer(64, 8, 3, 5, 12, 2, 2).state_dict(), ValueError,
     "'pos_embed' has shape .1, 65, 12. in the checkpoint and .1, 17, 12. here: build .* the checkpoint's img_size"),
    (lambda: nn.resnet18(), lambda: {"layer1.w": np.zeros(1)}, KeyError, "of torchvision are read; this one has 'layer1.w'"),
    (lambda: nn.resnet18(), dict, KeyError, "this one has no names"),
    (lambda: bert(num_classes=2), lambda: hub(bert()), KeyError, "no 'classifier.bias', .* pass head=False"),
    (lambda: nn.Conv4(), dict, TypeError, "Conv4 has no published checkpoints")])
def test_what_to_do_about_a_checkpoint(make, state, error, message):
    net = make()
    before = net.state_dict()
    with pytest.raises(error, match=message):
        nn.load_published(net, state())
    assert all(np.array_equal(a, b) for a, b in zip(net.state_dict().values(), before.values()))


def test_subclasses_and_half_precision():
    class Small(nn.ResNet):
        pass

    source = nn.ResNet(nn.models.BasicBlock, (1, 1, 1, 1), 2)
    net = Small(nn.models.BasicBlock, (1, 1, 1, 1), 2)
    nn.load_published(net, {name: a.astype(np.float16) for name, a in source.state_dict().items()})
    assert net.conv1.weight.dtype == np.float32
    np.testing.assert_allclose(net.conv1.weight.numpy(), source.conv1.weight.numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(), (5,), (3, 16), (3, 16, 16), (2, 0, 16, 16), (2, 1, 16, 16), (2, 3, 0, 16), (2, 3, 16, 16, 1)])
def test_what_is_no_batch_of_pictures_is_refused(shape, training):
    for net in (nn.resnet18(num_classes=2), nn.models.efficientnet_lite(0, num_classes=2), nn.WideResNet(10, 1, num_classes=2),
                nn.VisionTransformer(16, 8, 3, 2, 64, 1, 1)):
        with pytest.raises(ValueError):
            net.train(training)(np.zeros(shape, np.float32))


def test_an_encoder_keeps_what_it_was_made_with_whatever_it_calls_itself():
    class Odd(nn.Encoder):
        def __init__(me, width, depth=2, **more):
            me.layer = nn.Linear(width, width)
            super().__init__(width, 3)

    encoder = Odd(4, depth=5, other=6)
    assert encoder.arguments == {"width": 4, "depth": 5, "other": 6}
    assert sorted(name for name, _ in encoder.named_parameters()) == ["head.bias", "head.weight", "layer.bias", "layer.weight"]


def test_what_an_encoder_is_made_of_is_in_it_once():
    class Made(nn.Encoder):
        def __init__(self, inner, layers, scale, act=None, width=4):
            self.inner, self.layers, self.scale, self.act = inner, layers, scale, act
            super().__init__(width, 2)

    layers = [nn.Linear(4, 4) for _ in range(2)]
    encoder = Made(nn.Linear(4, 4), layers, scale=nn.Parameter(np.ones(4, np.float32)), act=nn.ReLU(), width=4)
    assert encoder.arguments == {"width": 4}
    linear = [f"{name}.{part}" for name in ("inner", "layers.0", "layers.1", "head") for part in ("weight", "bias")]
    assert sorted(encoder.state_dict()) == sorted([*linear, "scale"]) == sorted(name for name, _ in encoder.named_parameters())
    assert {name for name, _ in encoder.named_modules()} == {"", "inner", "layers.0", "layers.1", "act", "head"}
