"""Published CLIPs equal the reference, transformers' CLIPModel: embeddings and logits; what is no CLIP is refused."""
import json

import numpy as np
import pytest

import minigrad as mg
from minigrad import io, nn

pytest.importorskip("safetensors")
rng = np.random.default_rng(0)
START, END = 58, 59


@pytest.fixture
def reference(tmp_path, request):
    """A CLIPModel with random weights, saved as it is published."""
    library, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    activation, end = request.param
    library.logging.disable_progress_bar()
    both = dict(num_hidden_layers=2, num_attention_heads=2, hidden_act=activation, projection_dim=10)
    config = library.CLIPConfig(
        text_config=dict(both, vocab_size=60, hidden_size=12, intermediate_size=20, max_position_embeddings=9,
                         bos_token_id=START, eos_token_id=end),
        vision_config=dict(both, hidden_size=16, intermediate_size=24, image_size=16, patch_size=8), projection_dim=10)
    torch.manual_seed(0)
    model = library.CLIPModel(config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter)) if parameter.ndim else None
    model.save_pretrained(tmp_path)
    return model


@pytest.mark.parametrize("reference", [("quick_gelu", 2), ("gelu", 2), ("quick_gelu", END), ("gelu", END)], indirect=True,
                         ids=repr)
def test_embeddings_and_logits(reference, tmp_path):
    import torch
    ids = rng.integers(3, START, (4, 9))
    ids[:, 0], ends = START, (3, 8, 5, 2)
    for row, end in zip(ids, ends):
        row[end:] = END
    x = rng.normal(size=(3, 3, 16, 16))
    with torch.no_grad():
        wanted = reference(input_ids=torch.tensor(ids), pixel_values=torch.tensor(x))
    image, text, scale, preprocessing = nn.load_clip(tmp_path)
    images, texts = (mg.l2_normalize(tower.to("float64")(given), 1).numpy() for tower, given in ((image, x), (text, ids)))
    np.testing.assert_allclose(images, wanted.image_embeds.numpy(), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(texts, wanted.text_embeds.numpy(), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(np.exp(scale) * images @ texts.T, wanted.logits_per_image.numpy(), rtol=1e-5, atol=1e-5)
    assert preprocessing.size == 16 and preprocessing.mean[0] == 0.48145466

    encoder, _ = nn.load_encoder(tmp_path)  # the image tower alone, before the projection
    features = reference.vision_model(pixel_values=torch.tensor(x)).pooler_output.detach().numpy()
    np.testing.assert_allclose(encoder.to("float64")(x).numpy(), features, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("reference", [("quick_gelu", END)], indirect=True, ids=repr)
def test_larger_pictures_and_the_preprocessing_of_the_folder(reference, tmp_path):
    import torch
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({
        "size": {"shortest_edge": 20}, "crop_size": {"height": 16, "width": 16}, "do_center_crop": True, "resample": 3,
        "image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.5, 0.5]}))
    image, _, _, preprocessing = nn.load_clip(tmp_path, image_size=32)
    assert (preprocessing.size, preprocessing.crop, preprocessing.mean) == (32, 0.8, (0.1, 0.2, 0.3)) and image.grid == (4, 4)
    x = rng.normal(size=(2, 3, 32, 32))
    wanted = reference.get_image_features(pixel_values=torch.tensor(x), interpolate_pos_encoding=True)
    wanted = wanted.pooler_output if hasattr(wanted, "pooler_output") else wanted
    np.testing.assert_allclose(image.to("float64")(x).numpy(), wanted.detach().numpy(), atol=5e-3)  # by another bicubic kernel


def clip_state():
    """Tensors of a CLIP, all of one number, in the Hub's names."""
    image = nn.VisionTransformer(16, 8, 3, 0, 8, 1, 2, 2.0, pre_norm=True)
    assert image.patch_embed.proj.bias is None and isinstance(image.norm_pre, nn.LayerNorm)
    layers, parts = [f"{part}_model.encoder.layers.0." for part in ("vision", "text")], {}
    for layer in layers:
        parts |= {f"{layer}self_attn.{name}_proj.{kind}": (8, 8)[:2 - (kind == "bias")]
                  for name in ("q", "k", "v", "out") for kind in ("weight", "bias")}
        parts |= {f"{layer}layer_norm{k}.{kind}": (8,) for k in (1, 2) for kind in ("weight", "bias")}
        parts |= {f"{layer}mlp.fc1.weight": (16, 8), f"{layer}mlp.fc1.bias": (16,), f"{layer}mlp.fc2.weight": (8, 16),
                  f"{layer}mlp.fc2.bias": (8,)}
    parts |= {f"vision_model.{name}.{kind}": (8,) for name in ("pre_layrnorm", "post_layernorm") for kind in ("weight", "bias")}
    parts |= {f"text_model.final_layer_norm.{kind}": (8,) for kind in ("weight", "bias")}
    parts |= {"vision_model.embeddings.class_embedding": (8,), "vision_model.embeddings.position_embedding.weight": (5, 8),
              "vision_model.embeddings.patch_embedding.weight": (8, 3, 8, 8), "text_projection.weight": (6, 8),
              "text_model.embeddings.token_embedding.weight": (20, 8),
              "text_model.embeddings.position_embedding.weight": (7, 8),
              "visual_projection.weight": (6, 8), "logit_scale": ()}
    return {name: np.full(shape, 0.5, np.float32) for name, shape in parts.items()}


def test_heads_and_positions_are_told_from_shapes_without_a_config(tmp_path):
    io.save(tmp_path / "model.safetensors", clip_state())
    image, text, scale, _ = nn.load_clip(tmp_path / "model.safetensors")
    assert image(np.zeros((1, 3, 16, 16), np.float32)).shape == (1, 6) == text(np.array([[1, 2, 19]])).shape and scale == 0.5
    assert text.eot is None and text.arguments["activation"] == image.arguments["activation"] == "quick_gelu"


@pytest.mark.parametrize("change, said", [
    (lambda state: state.pop("logit_scale"), "it has no logit_scale"),
    (lambda state: state.pop("visual_projection.weight"), "it has no visual_projection.weight"),
    (lambda state: state.pop("vision_model.embeddings.patch_embedding.weight"), "it has no vision_model.embeddings.patch"),
    (lambda state: state.pop("text_model.encoder.layers.0.mlp.fc1.weight"), "nearly holds a CLIP, but: it has no tensor 'text"),
    (lambda state: state.pop("text_model.encoder.layers.0.mlp.fc2.bias"), "nearly holds a CLIP, but: .*mlp.fc2.bias"),
    (lambda state: state.update({"logit_scale": np.zeros(2, np.float32)}), "nearly holds a CLIP, but: "),
    (lambda state: state.update({"text_model.final_layer_norm.weight": np.zeros(3, np.float32)}), "final_layer_norm.weight")],
    ids=[f"change {i}" for i in range(7)])
def test_what_is_no_clip_is_said(tmp_path, change, said):
    state = clip_state()
    change(state)
    io.save(tmp_path / "model.safetensors", state)
    with pytest.raises(ValueError, match=said):
        nn.load_clip(tmp_path)
