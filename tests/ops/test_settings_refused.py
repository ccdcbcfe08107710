"""Numbers that are settings: what is no finite number in its range is refused by name, in layers when they are made."""
import inspect

import numpy as np
import pytest
from checks import named
from hypothesis import given, settings, strategies as st

import minigrad as mg
from minigrad import data, nn
from minigrad.nn import functional as F

X = np.random.default_rng(0).normal(size=(4, 4))
IMAGES, LABELS, STATISTICS = X.reshape(2, 2, 2, 2), np.arange(4), (np.zeros(2), np.ones(2))
INFINITY = float("inf")
CALLS = {  # from a call's name to its argument, the call, and the range
    "dropout": ("p", lambda p: mg.dropout(X, p), 0, 1), "drop_path": ("p", lambda p: mg.drop_path(X, p), 0, 1),
    "batch_norm eps": ("eps", lambda eps: mg.batch_norm(IMAGES, None, None, training=True, eps=eps), 0, INFINITY),
    "batch_norm in evaluation": ("eps", lambda eps: mg.batch_norm(IMAGES, *STATISTICS, eps=eps), 0, INFINITY),
    "batch_norm momentum": ("momentum", lambda m: mg.batch_norm(IMAGES, None, None, training=True, momentum=m), 0, 1),
    "norm_relu_pool": ("eps", lambda e: mg.norm_relu_pool(IMAGES, *STATISTICS, *STATISTICS, training=True, eps=e), 0, INFINITY),
    "layer_norm": ("eps", lambda eps: mg.layer_norm(X, 4, eps=eps), 0, INFINITY),
    "rms_norm": ("eps", lambda eps: mg.rms_norm(X, 4, eps=eps), 0, INFINITY),
    "group_norm": ("eps", lambda eps: mg.group_norm(X, 2, eps=eps), 0, INFINITY),
    "l2_normalize": ("eps", lambda eps: mg.l2_normalize(X, eps=eps), 0, INFINITY),
    "cosine_similarity": ("eps", lambda eps: mg.cosine_similarity(X, X, eps=eps), 0, INFINITY),
    "normalize": ("eps", lambda eps: F.normalize(X, 1, eps=eps), 0, INFINITY),
    "leaky_relu": ("negative_slope", lambda s: mg.leaky_relu(X, s), -INFINITY, INFINITY),
    "elu": ("alpha", lambda alpha: mg.elu(X, alpha), -INFINITY, INFINITY),
    "celu": ("alpha", lambda alpha: mg.celu(X, alpha), -INFINITY, INFINITY),
    "softshrink": ("lambd", lambda lambd: mg.softshrink(X, lambd), 0, INFINITY),
    "hardshrink": ("lambd", lambda lambd: mg.hardshrink(X, lambd), 0, INFINITY),
    "threshold": ("value", lambda value: mg.threshold(X, 0, value), -INFINITY, INFINITY),
    "gumbel_softmax": ("tau", lambda tau: mg.gumbel_softmax(X, tau), 0, INFINITY),
    "hardtanh": ("max_val", lambda most: mg.hardtanh(X, -1, most), -1, INFINITY),
    "softplus": ("beta", lambda beta: mg.softplus(X, beta), -INFINITY, INFINITY),
    "attention": ("scale", lambda s: mg.scaled_dot_product_attention(X, X, X, scale=s), -INFINITY, INFINITY),
    "functional attention": ("dropout_p", lambda p: F.scaled_dot_product_attention(X, X, X, dropout_p=p), 0, 1),
    "packed_attention": ("scale", lambda s: mg.packed_attention(np.ones((1, 2, 3, 1, 2)), scale=s), -INFINITY, INFINITY),
    "cross_entropy": ("label_smoothing", lambda e: mg.cross_entropy(X, LABELS, label_smoothing=e), 0, 1),
    "weighted cross_entropy": ("label_smoothing", lambda e: F.cross_entropy(X, LABELS, np.ones(4), label_smoothing=e), 0, 1),
    "huber_loss": ("delta", lambda delta: mg.huber_loss(X, X, delta=delta), 0, INFINITY),
    "smooth_l1_loss": ("beta", lambda beta: mg.smooth_l1_loss(X, X, beta=beta), 0, INFINITY),
    "triplet margin": ("margin", lambda margin: mg.triplet_margin_loss(X, X, X, margin), -INFINITY, INFINITY),
    "triplet eps": ("eps", lambda eps: mg.triplet_margin_loss(X, X, X, eps=eps), 0, INFINITY),
    "margin_ranking_loss": ("margin", lambda m: mg.margin_ranking_loss(X, X, 1, m), -INFINITY, INFINITY),
    "cosine_embedding_loss": ("margin", lambda m: mg.cosine_embedding_loss(X, X, 1, m), -INFINITY, INFINITY),
    "hinge_embedding_loss": ("margin", lambda m: mg.hinge_embedding_loss(X, 1, m), -INFINITY, INFINITY),
    "gaussian_nll_loss": ("eps", lambda eps: mg.gaussian_nll_loss(X, X, 1, eps=eps), 0, INFINITY),
    "poisson_nll_loss": ("eps", lambda eps: mg.poisson_nll_loss(X, X, eps=eps), 0, INFINITY),
    "pairwise_distance": ("eps", lambda eps: F.pairwise_distance(X, X, eps=eps), 0, INFINITY),
    "Dropout": ("p", nn.Dropout, 0, 1), "DropPath": ("p", nn.DropPath, 0, 1),
    "BatchNorm1d eps": ("eps", lambda eps: nn.BatchNorm1d(3, eps), 0, INFINITY),
    "BatchNorm2d momentum": ("momentum", lambda m: nn.BatchNorm2d(3, momentum=m), 0, 1),
    "LayerNorm": ("eps", lambda eps: nn.LayerNorm(3, eps), 0, INFINITY),
    "RMSNorm": ("eps", lambda eps: nn.RMSNorm(3, eps), 0, INFINITY),
    "TransformerEncoderLayer": ("layer_norm_eps",
                                lambda e: nn.TransformerEncoderLayer(2, 1, 2, layer_norm_eps=e).norm1, 0, INFINITY),
    "GroupNorm": ("eps", lambda eps: nn.GroupNorm(1, 3, eps), 0, INFINITY),
    "LeakyReLU": ("negative_slope", nn.LeakyReLU, -INFINITY, INFINITY), "ELU": ("alpha", nn.ELU, -INFINITY, INFINITY),
    "CELU": ("alpha", nn.CELU, -INFINITY, INFINITY), "Softshrink": ("lambd", nn.Softshrink, 0, INFINITY),
    "Hardshrink": ("lambd", nn.Hardshrink, 0, INFINITY),
    "Threshold": ("threshold", lambda t: nn.Threshold(t, 0), -INFINITY, INFINITY),
    "Softplus": ("beta", nn.Softplus, -INFINITY, INFINITY),
    "PReLU": ("init", lambda init: nn.PReLU(init=init), -INFINITY, INFINITY),
    "TransformerBlock": ("layer_scale", lambda s: nn.TransformerBlock(2, 1, 2, layer_scale=s), -INFINITY, INFINITY),
    "weak noise": ("noise", lambda std: data.weak(IMAGES[:, :1], np.random.default_rng(0), noise=std), 0, INFINITY),
    "weak fill": ("fill", lambda fill: data.weak(IMAGES[:, :1], np.random.default_rng(0), fill=fill), -INFINITY, INFINITY),
    "GRU": ("dropout", lambda p: nn.GRU(2, 2, dropout=p), 0, 1), "LSTM": ("dropout", lambda p: nn.LSTM(2, 2, dropout=p), 0, 1)}
CONVOLUTION = "kernel_size", "stride", "padding", "dilation", "groups"
LAYERS = {  # layers of windows: how one is made, and the least value of each argument
    "Conv1d": (lambda **a: nn.Conv1d(2, 2, **{"kernel_size": 2, **a}), CONVOLUTION),
    "Conv2d": (lambda **a: nn.Conv2d(2, 2, **{"kernel_size": 2, **a}), CONVOLUTION),
    "ConvTranspose2d": (lambda **a: nn.ConvTranspose2d(2, 2, 2, **a), ("stride", "padding", "output_padding", "dilation")),
    "MaxPool1d": (lambda **a: nn.MaxPool1d(**{"kernel_size": 2, **a}), ("kernel_size", "stride", "padding", "dilation")),
    "MaxPool2d": (lambda **a: nn.MaxPool2d(**{"kernel_size": 2, **a}), ("kernel_size", "stride", "padding", "dilation")),
    "AvgPool2d": (lambda **a: nn.AvgPool2d(**{"kernel_size": 2, **a}), ("kernel_size", "stride", "padding"))}


@pytest.mark.parametrize("name", CALLS)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data())
def test_real_numbers(name, data):
    argument, call, low, high = CALLS[name]
    outside = [st.sampled_from([np.nan, INFINITY, -INFINITY, "1", None, np.float32("nan"), [0.5], np.ones(2), 1j,
                                mg.Tensor(np.nan), object(), True])]
    if low > -INFINITY:
        outside.append(st.floats(max_value=low, exclude_max=True, allow_nan=False))
    if high < INFINITY:
        outside.append(st.floats(min_value=high, exclude_min=True, allow_nan=False))
    wrong = data.draw(st.one_of(outside))
    if wrong is not None or argument not in ("scale", "layer_scale"):  # whose default None is
        with pytest.raises(ValueError, match=argument):
            call(wrong)
    for inside in (np.float32(0.5), np.float64(0.5), mg.Tensor(0.5), np.array(0.5), 1, np.int64(1)):
        call(inside)


BOXES = np.random.default_rng(1).normal(size=(1, 2, 4, 4))
WORDS = {  # calls with settings that are neither one number nor one word alone, and their names
    "interpolate scale_factor": lambda s: mg.interpolate(BOXES, scale_factor=s),
    "interpolate size": lambda s: mg.interpolate(BOXES, s), "interpolate mode": lambda s: mg.interpolate(BOXES, 2, mode=s),
    "grid_sample padding_mode": lambda s: mg.grid_sample(BOXES, BOXES.reshape(1, 4, 4, 2), s),
    "affine_grid size": lambda s: mg.affine_grid(BOXES[:, 0, :2, :3], s),
    "adaptive_avg_pool2d output_size": lambda s: mg.adaptive_avg_pool2d(BOXES, s),
    "adaptive_max_pool2d output_size": lambda s: mg.adaptive_max_pool2d(BOXES, s),
    "Upsample size": nn.Upsample, "Upsample scale_factor": lambda s: nn.Upsample(scale_factor=s),
    "Upsample mode": lambda s: nn.Upsample(2, mode=s), "GELU approximate": nn.GELU,
    "max_pool1d dilation": lambda s: mg.max_pool1d(X, 2, dilation=s),
    "weak pixels": lambda s: data.weak(IMAGES[:, :1], np.random.default_rng(0), s),
    "max_pool2d stride": lambda s: mg.max_pool2d(BOXES, 2, s), "conv2d padding": lambda s: mg.conv2d(BOXES, BOXES, padding=s),
    "conv2d groups": lambda s: mg.conv2d(BOXES, BOXES, groups=s),
    "conv2d_relu most": lambda s: mg.conv2d_relu(BOXES, BOXES, np.zeros(1), most=s),
    "attention prefix": lambda s: mg.scaled_dot_product_attention(X, X, X, prefix=s)}


@pytest.mark.parametrize("name", WORDS)
@pytest.mark.parametrize("wrong", [
    True, np.True_, np.array(True), mg.Tensor(True), "2", "ab", b"ab", {1, 2}, {1: 2, 2: 3}, object(), 1j, np.array(1j), np.nan,
    -1, [], [1, 1, 1], (1, "a"), (True, 2), np.ones((2, 2)), mg.Tensor([[1, 1]])],
    ids=named)
def test_what_has_no_order_or_is_no_number_is_refused_by_name(name, wrong):
    operation, argument = name.split()
    with pytest.raises((ValueError, TypeError), match=f"{operation}.*{argument}"):
        WORDS[name](wrong)


@pytest.mark.parametrize("name", [*CALLS, "interpolate", "normalize p"])
@pytest.mark.parametrize("value", [0.0, 1e-5, 0.5, 1.0, 2.0])
def test_a_setting_that_learns_is_part_of_the_result_or_refused(name, value):
    more = {"interpolate": ("scale_factor", lambda s: mg.interpolate(BOXES, scale_factor=s), 0, INFINITY),
            "normalize p": ("p", lambda p: F.normalize(X, p), 0, INFINITY),
            "poisson_nll_loss": ("eps", lambda eps: mg.poisson_nll_loss(X, X, False, eps=eps), 0, INFINITY)}
    argument, call, low, high = (CALLS | more)[name]
    learned = mg.Tensor(float(max(low, min(value, high))), requires_grad=True)
    with np.errstate(all="ignore"):
        try:
            found = call(learned)
        except (TypeError, ValueError) as error:
            assert argument in str(error)
            return
        if isinstance(found, nn.Module):
            assert any(value is learned for value in vars(found).values())
        else:
            assert found.requires_grad
            divisor = argument in ("tau", "beta") and name != "smooth_l1_loss" or name == "celu"  # of which 0 is none
            assert np.isfinite(mg.grad(found.sum(), learned).item()) or divisor and value == 0


def test_a_learned_setting_is_one_number():
    for name in ("leaky_relu", "elu", "softplus", "attention", "packed_attention", "layer_norm"):
        argument, call, *_ = CALLS[name]
        with pytest.raises(ValueError, match=argument):
            call(mg.Tensor(np.ones(4), requires_grad=True))


def test_a_prefix_of_arrays_is_that_of_tensors():
    keys, values = np.random.default_rng(2).normal(size=(2, 3, 4))
    expected = mg.scaled_dot_product_attention(X, X, X, prefix=(mg.Tensor(keys), mg.Tensor(values)))
    np.testing.assert_array_equal(mg.scaled_dot_product_attention(X, X, X, prefix=(keys, values)).numpy(), expected.numpy())
    for wrong in ((keys, values[:2]), (keys[:, :2], values), (keys[0], values[0]), (keys[None], values)):
        with pytest.raises(ValueError, match="attention: prefix"):
            mg.scaled_dot_product_attention(X, X, X, prefix=wrong)


@pytest.mark.parametrize("name, argument", [(name, argument) for name in LAYERS for argument in LAYERS[name][1]])
@settings(max_examples=30, deadline=None, derandomize=True)
@given(data=st.data())
def test_windows_of_layers(name, argument, data):
    make, _ = LAYERS[name]
    least = 0 if "padding" in argument else 1
    wrong = data.draw(st.integers(max_value=least - 1) | st.sampled_from([0.5, np.nan, INFINITY, True, b"2", object()]))
    with pytest.raises(ValueError, match=f"{name}: {argument}"):
        make(**{argument: wrong})
    make(**{argument: np.int64(least)})


NEEDED = dict(in_features=4, out_features=4, in_channels=4, out_channels=4, kernel_size=2, num_features=4, num_channels=4,
              num_groups=2, normalized_shape=4, num_embeddings=4, embedding_dim=4, output_size=2, input_size=4, hidden_size=4,
              dim=4, num_heads=2, hidden=4, embed_dim=4, d_model=4, nhead=2, layer=nn.Linear(2, 2),
              block=nn.models.resnet.BasicBlock, layers=(1, 1, 1, 1), width=4, num_classes=2, vocab_size=8, num_layers=1,
              intermediate_size=4, max_length=4, img_size=8, patch_size=4, decoder_dim=4, decoder_heads=2, image_size=16, upscale_factor=2, downscale_factor=2,
              in1_features=4, in2_features=4, threshold=0.5, padding=1, value=0.5, unflattened_size=(2, 2),
              encoder_layer=nn.TransformerEncoderLayer(4, 2, 4))
SMALL = {"vocab_size", "hidden_size", "num_layers", "num_heads", "intermediate_size", "max_length", "img_size", "patch_size",
         "embed_dim", "decoder_dim", "decoder_heads", "image_size"}  # in place of the published models' sizes
MODULES = {name: module for name, module in vars(nn).items()
           if isinstance(module, type) and issubclass(module, nn.Module) and name != "Module"}


@pytest.mark.parametrize("name", sorted(MODULES))
def test_no_module_is_made_of_numbers_that_are_none(name):
    """Every argument that is a number by default, or that has none, of every layer and model."""
    parameters = [p for p in list(inspect.signature(MODULES[name].__init__).parameters.values())[1:]
                  if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    needed = {p.name: NEEDED[p.name] for p in parameters if p.default is p.empty or p.name in SMALL}
    numbers = [p.name for p in parameters if type(needed.get(p.name, p.default)) in (int, float)]
    MODULES[name](**needed)
    for argument in numbers:
        for wrong in (np.nan, INFINITY, -INFINITY, "4", b"4", object(), 1j, -3 if "slope" not in argument else np.nan):
            if wrong == -3 and (argument.endswith("dim") or argument in (
                    "alpha", "init", "threshold", "padding_idx", "margin", "ignore_index", "min_val") or (
                    name, argument) == ("Softplus", "beta")):
                continue
            if wrong == INFINITY and argument == "p" and name in ("TripletMarginLoss", "PairwiseDistance") or argument == "value" and wrong in (
                    INFINITY, -INFINITY, -3):
                continue
            with pytest.raises(ValueError) as error:
                MODULES[name](**{**needed, argument: wrong})
            assert "must be" in str(error.value) or "wanted" in str(error.value), (name, argument, wrong, str(error.value))


@pytest.mark.parametrize("name", sorted(name for name in MODULES if name.endswith("Loss")))
def test_no_loss_is_made_of_words_that_are_none(name):
    for wrong in ("Mean", "", None, 1, True, ["mean"], object()):
        with pytest.raises(ValueError, match=f"{name}: reduction is 'mean'"):
            MODULES[name](reduction=wrong)
    for argument in {"weight", "pos_weight"} & set(inspect.signature(MODULES[name].__init__).parameters):
        for wrong in ("ab", ["a", 1], object(), np.array(["a"]), np.ones(3, complex)):
            with pytest.raises(ValueError, match=f"{name}: {argument} must be numbers"):
                MODULES[name](**{argument: wrong})
        for right in ([1, 2], (0.5, 1), np.ones(3), mg.Tensor([1, 2]), 2, None):
            MODULES[name](**{argument: right})


def test_none_is_no_dilation():
    with pytest.raises(ValueError, match="max_pool1d: dilation"):
        mg.max_pool1d(X, 2, dilation=None)


POINTS = np.array([[1.0, 2], [4, 6]])
ORDERS = {
    "cdist": lambda p: mg.cdist(POINTS, POINTS[::-1], p)[0, 0],
    "pairwise_distance": lambda p: F.pairwise_distance(POINTS[:1], POINTS[1:], p, 0)[0],
    "triplet_margin_loss": lambda p: mg.triplet_margin_loss(POINTS[:1], POINTS[1:], POINTS[:1], 0, p, 0),
    "PairwiseDistance": lambda p: nn.PairwiseDistance(p, 0)(POINTS[:1], POINTS[1:])[0],
    "TripletMarginLoss": lambda p: nn.TripletMarginLoss(0, p, 0)(POINTS[:1], POINTS[1:], POINTS[:1])}


@pytest.mark.parametrize("name", ORDERS)
def test_the_order_of_a_norm_is_a_number_up_to_infinity(name):
    for p in (np.inf, np.float32(np.inf), np.array(np.inf), mg.Tensor(np.inf)):
        assert ORDERS[name](p).item() == 4
    assert ORDERS[name](mg.Tensor(2.0)).item() == 5
    for wrong in (-1, -np.inf, np.nan, np.ones(2), [np.inf], "x", None, True):
        with pytest.raises(ValueError, match=f"^{name}: p must be a number"):
            ORDERS[name](wrong)
