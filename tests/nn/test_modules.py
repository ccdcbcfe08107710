"""Modules and models against PyTorch with the same weights, and the state they keep."""
import collections
import copy
import dataclasses
import pickle
import threading

import numpy as np
import pytest

import minigrad as mg
from checks import check_derivatives, optional
from minigrad import nn
from minigrad.nn.models import published

torch = optional("torch")


def like_torch(ours, theirs):
    """Both in double precision, with PyTorch's weights."""
    theirs = theirs.double()
    ours.to("float64").load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items() if "num_batches" not in k})
    return ours, theirs


def check(ours, theirs, *inputs, of=lambda y: y):
    """Outputs and the gradients of all parameters and inputs agree."""
    xs = [mg.Tensor(x, requires_grad=True) if x.dtype.kind == "f" else x for x in inputs]
    ts = [torch.tensor(x, requires_grad=x.dtype.kind == "f") for x in inputs]
    y, z = of(ours(*xs)), of(theirs(*ts))
    np.testing.assert_allclose(y.numpy(), z.detach().numpy(), rtol=1e-9, atol=1e-9)
    g = np.random.default_rng(0).normal(size=y.shape)
    y.backward(g)
    z.backward(torch.tensor(g))
    parameters = ours.named_parameters() if isinstance(ours, nn.Module) else ()
    for a, b in [*zip(xs, ts), *((p, dict(theirs.named_parameters())[name]) for name, p in parameters)]:
        if isinstance(a, mg.Tensor):
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-8, atol=1e-8)


rng = np.random.default_rng(1)
IMAGES, SEQUENCES = rng.normal(size=(3, 4, 6, 5)), rng.normal(size=(2, 5, 8))
PADDINGS = "reflect", "replicate", "circular"
PAIRS = {
    "linear": (lambda n: n.Linear(8, 3), SEQUENCES), "conv1d": (lambda n: n.Conv1d(5, 4, 3, 2, 1), SEQUENCES),
    "conv2d": (lambda n: n.Conv2d(4, 6, 3, 2, 1, groups=2), IMAGES),
    "conv_transpose1d": (lambda n: n.ConvTranspose1d(5, 4, 3, 2, 1, 1), SEQUENCES),
    "conv_transpose2d": (lambda n: n.ConvTranspose2d(4, 6, 3, 2, 1, 1, 2), IMAGES),
    "batch_norm2d": (lambda n: n.BatchNorm2d(4), IMAGES), "batch_norm1d": (lambda n: n.BatchNorm1d(5), SEQUENCES),
    "batch_norm_features": (lambda n: n.BatchNorm1d(8), SEQUENCES[0]),
    "batch_norm_plain": (lambda n: n.BatchNorm2d(4, affine=False, track_running_stats=False), IMAGES),
    "layer_norm": (lambda n: n.LayerNorm(8), SEQUENCES), "layer_norm_2d": (lambda n: n.LayerNorm((6, 5)), IMAGES),
    "rms_norm": (lambda n: n.RMSNorm(8, eps=1e-6), SEQUENCES), "group_norm": (lambda n: n.GroupNorm(2, 4), IMAGES),
    "instance_norm": (lambda n: n.InstanceNorm2d(4), IMAGES),
    "instance_norm1d": (lambda n: n.InstanceNorm1d(5, eps=0.1, affine=True), SEQUENCES),
    "pixel_shuffle": (lambda n: n.PixelShuffle(2), IMAGES), "pixel_unshuffle": (lambda n: n.PixelUnshuffle(2), IMAGES[..., :4]),
    "adaptive": (lambda n: n.AdaptiveAvgPool2d((4, 3)), IMAGES),
    "adaptive_max": (lambda n: n.AdaptiveMaxPool2d((4, 3)), IMAGES), "global_max": (lambda n: n.AdaptiveMaxPool2d(1), IMAGES),
    "adaptive1d": (lambda n: n.AdaptiveAvgPool1d(3), SEQUENCES), "adaptive_max1d": (lambda n: n.AdaptiveMaxPool1d(4), SEQUENCES),
    "pool_options": (lambda n: n.MaxPool2d(3, 2, 1, dilation=2, ceil_mode=True), IMAGES),
    "average_options": (lambda n: n.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), IMAGES),
    "conv_same": (lambda n: n.Conv2d(4, 3, (4, 3), padding="same"), IMAGES),
    **{f"conv2d_{mode}": (lambda n, mode=mode: n.Conv2d(4, 3, 3, 2, (1, 2), padding_mode=mode), IMAGES) for mode in PADDINGS},
    **{f"conv2d_same_{mode}": (lambda n, mode=mode: n.Conv2d(4, 3, (4, 3), padding="same", padding_mode=mode), IMAGES)
       for mode in PADDINGS},
    **{f"conv1d_{mode}": (lambda n, mode=mode: n.Conv1d(5, 4, 3, 1, 2, 2, 1, True, mode), SEQUENCES) for mode in PADDINGS},
    "conv2d_valid_circular": (lambda n: n.Conv2d(4, 3, 3, padding="valid", padding_mode="circular"), IMAGES),
    "conv2d_reflect_of_one": (lambda n: n.Conv2d(4, 3, 3, padding=1, padding_mode="reflect"), IMAGES[0]),
    "max_pool1d": (lambda n: n.MaxPool1d(3, 2, 1), SEQUENCES), "avg_pool1d": (lambda n: n.AvgPool1d(3, 2, 1), SEQUENCES),
    "upsample": (lambda n: n.Upsample(scale_factor=2, mode="bilinear"), IMAGES),
    "upsample_sequences": (lambda n: n.Upsample(scale_factor=2.5, mode="linear"), IMAGES[0]),
    "gelu": (lambda n: n.GELU(), IMAGES), "silu": (lambda n: n.SiLU(), IMAGES),
    "leaky_relu": (lambda n: n.LeakyReLU(0.1), IMAGES), "softplus": (lambda n: n.Softplus(2), IMAGES),
    "softmax": (lambda n: n.Softmax(1), IMAGES), "sigmoid": (lambda n: n.Sigmoid(), IMAGES),
    "log_softmax": (lambda n: n.LogSoftmax(1), IMAGES), "glu": (lambda n: n.GLU(1), IMAGES), "glu_last": (lambda n: n.GLU(), SEQUENCES),
    "log_sigmoid": (lambda n: n.LogSigmoid(), 30 * IMAGES), "selu": (lambda n: n.SELU(), IMAGES),
    "softsign": (lambda n: n.Softsign(), IMAGES), "hardtanh": (lambda n: n.Hardtanh(-0.5, 0.7), IMAGES),
    "hardtanh_at_its_bounds": (lambda n: n.Hardtanh(), np.array([-1.0, 1.0, -2.0, 2.0, 0.0, np.inf, -np.inf])),
    "celu": (lambda n: n.CELU(0.5), IMAGES), "hardshrink": (lambda n: n.Hardshrink(0.7), IMAGES),
    "softshrink": (lambda n: n.Softshrink(0.7), IMAGES), "threshold": (lambda n: n.Threshold(0.1, 20), IMAGES),
    "unflatten": (lambda n: n.Unflatten(1, (2, -1)), IMAGES), "unflatten_last": (lambda n: n.Unflatten(-1, [2, 2, 2]), SEQUENCES),
    "tanh": (lambda n: n.Tanh(), IMAGES)}


@pytest.mark.parametrize("name", PAIRS)
def test_layer_equals_pytorch(name):
    make, x = PAIRS[name]
    ours, theirs = like_torch(make(nn), make(torch.nn))
    check(ours, theirs, x)
    y, z = ours.eval()(x), theirs.eval()(torch.tensor(x))
    np.testing.assert_allclose(y.numpy(), z.detach().numpy(), rtol=1e-9, atol=1e-9)
    assert repr(ours).startswith(type(ours).__name__ + "(")


@pytest.mark.parametrize("settings", [{}, {"bias": False}])
def test_a_bilinear_layer_equals_pytorch(settings):
    ours, theirs = like_torch(nn.Bilinear(8, 5, 3, **settings), torch.nn.Bilinear(8, 5, 3, **settings))
    for shape in ((2, 5), (4,), ()):
        check(ours, theirs, rng.normal(size=(*shape, 8)), rng.normal(size=(*shape, 5)))
    mg.check_derivatives(mg.bilinear, rng.normal(size=(2, 3)), rng.normal(size=(2, 2)), rng.normal(size=(2, 3, 2)),
                         rng.normal(size=2))
    for x, y in (((2, 8), (2, 4)), ((2, 8), (1, 5)), ((8,), ()), ((2, 7), (2, 5))):
        with pytest.raises(ValueError, match=r"bilinear: x1 \(..., in1\)"):
            ours(np.ones(x), np.ones(y))
    with pytest.raises(ValueError, match=r"bilinear: a bias \(3,\) wanted"):
        mg.bilinear(np.ones(8), np.ones(5), ours.weight, np.ones(2))


@pytest.mark.parametrize("padding_idx", [None, 0, -2])
@pytest.mark.parametrize("mode", ["mean", "sum"])
def test_bags_of_embeddings_equal_pytorch(mode, padding_idx):
    ours, theirs = like_torch(*(m.EmbeddingBag(5, 3, mode=mode, padding_idx=padding_idx) for m in (nn, torch.nn)))
    words = rng.integers(0, 5, 10)
    for inputs in ((words.reshape(5, 2),), (words, np.array([0, 0, 3, 7, 10])), (words, np.array([0])),
                   (words[:0], np.array([0, 0]))):
        ours.zero_grad()
        theirs.zero_grad()
        check(ours, theirs, *inputs)
    assert ours(np.zeros((2, 0), int)).tolist() == [[0, 0, 0]] * 2 and ours(np.zeros((0, 2), int)).shape == (0, 3)


@pytest.mark.parametrize("indices, offsets, message", [
    ([1, 2], None, "indices .* without offsets"), ([[1, 2]], [0], "indices .* and offsets"), ([1, 2], [1], "offsets must be"),
    ([1, 2], [0, 3], "offsets must be"), ([1, 2], [0, 2, 1], "offsets must be"), ([1, 2], [0.0, 1.0], "offsets must be"),
    ([1, 2], [[0]], "offsets must be"), ([1, 2], [], "offsets must be"),
    ([1, 2], np.zeros(0, int), "offsets must be")])
def test_bags_that_are_none_are_refused(indices, offsets, message):
    with pytest.raises(ValueError, match=f"EmbeddingBag: {message}"):
        nn.EmbeddingBag(5, 3)(indices, offsets)


@pytest.mark.parametrize("settings", [{}, {"num_layers": 2, "batch_first": True}, {"num_layers": 2, "bidirectional": True},
                                      {"bias": False}])
def test_recurrent_layers_equal_pytorch(settings):
    for name, own in (("GRU", {}), ("RNN", {}), ("RNN", {"nonlinearity": "relu"})):
        ours, theirs = like_torch(*(getattr(module, name)(8, 3, **settings, **own) for module in (nn, torch.nn)))
        check(ours, theirs, SEQUENCES, of=lambda y: y[0] + y[1].sum())
        cell, their_cell = like_torch(*(getattr(module, name + "Cell")(8, 3, **own) for module in (nn, torch.nn)))
        check(cell, their_cell, SEQUENCES[0], rng.normal(size=(5, 3)))
        check(cell, their_cell, SEQUENCES[0])
    ours, theirs = like_torch(nn.LSTM(8, 3, **settings), torch.nn.LSTM(8, 3, **settings))
    check(ours, theirs, SEQUENCES, of=lambda y: y[0] + y[1][0].sum() + (y[1][1] ** 2).sum())
    states = [rng.normal(size=y.shape) for y in ours(SEQUENCES)[1]]
    check(lambda x, h, c: ours(x, (h, c))[0], lambda x, h, c: theirs(x, (h, c))[0], SEQUENCES, *states)


def test_lstm_cell_equals_pytorch():
    cell, their_cell = like_torch(nn.LSTMCell(8, 3), torch.nn.LSTMCell(8, 3))
    check(cell, their_cell, SEQUENCES[0], of=lambda y: y[0] * y[1])
    h, c = rng.normal(size=(2, 5, 3))
    check(lambda x, h, c: cell(x, (h, c))[1], lambda x, h, c: their_cell(x, (h, c))[1], SEQUENCES[0], h, c)
    np.testing.assert_array_equal(nn.GRUCell(8, 3).double()(SEQUENCES[0]).shape, (5, 3))


@pytest.mark.parametrize("settings", [{}, {"batch_first": True}, {"num_layers": 2, "bidirectional": True}], ids=str)
@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_one_sequence_without_a_batch_equals_pytorch(kind, settings):
    ours, theirs = like_torch(getattr(nn, kind)(8, 3, **settings), getattr(torch.nn, kind)(8, 3, **settings))
    check(ours, theirs, SEQUENCES[0], of=lambda y: y[0])
    check(ours, theirs, SEQUENCES[0], of=lambda y: y[1][1] if kind == "LSTM" else y[1])
    h = rng.normal(size=(settings.get("num_layers", 1) * (1 + settings.get("bidirectional", False)), 3))
    state = lambda h: (h, 2 * h) if kind == "LSTM" else h
    check(lambda x, h: ours(x, state(h))[0], lambda x, h: theirs(x, state(h))[0], SEQUENCES[0], h)


@pytest.mark.parametrize("kind", ["RNNCell", "GRUCell", "LSTMCell"])
def test_one_step_without_a_batch_equals_pytorch(kind):
    ours, theirs = like_torch(getattr(nn, kind)(8, 3), getattr(torch.nn, kind)(8, 3))
    last = lambda y: y[0] * y[1] if kind == "LSTMCell" else y
    check(ours, theirs, SEQUENCES[0, 0], of=last)
    state = lambda h: (h, 2 * h) if kind == "LSTMCell" else h
    check(lambda x, h: last(ours(x, state(h))), lambda x, h: last(theirs(x, state(h))), SEQUENCES[0, 0], rng.normal(size=3))
    for wrong in (np.zeros((1, 3)), np.zeros(4)):
        with pytest.raises(ValueError, match=rf"{kind}: a .*state.* of shape .3,. wanted"):
            ours(SEQUENCES[0, 0], state(wrong))
    for wrong in (SEQUENCES, 1.0):
        with pytest.raises(ValueError, match=rf"{kind}: an input .N, 8. or .8,. wanted"):
            ours(wrong)


def test_layers_that_refuse():
    for call, message in ((lambda: nn.RNN(8, 3, nonlinearity="sigmoid"), "RNN: nonlinearity is 'tanh' or 'relu', not 'sigmoid'"),
                          (lambda: nn.RNNCell(8, 3, nonlinearity=None), "RNNCell: nonlinearity is"),
                          (lambda: nn.RNN(8, 3)(SEQUENCES[:0]), "rnn: the sequence has no steps"),
                          (lambda: nn.RNNCell(8, 3)(SEQUENCES[0], mg.ones((1, 3))), "RNNCell: a state of shape .5, 3. wanted"),
                          (lambda: nn.InstanceNorm2d(3)(IMAGES), "InstanceNorm2d: .N, C, H, W. with C = 3 wanted, got shape"),
                          (lambda: nn.InstanceNorm1d(4)(IMAGES), "InstanceNorm1d: .N, C, L. with C = 4 wanted, got shape"),
                          (lambda: nn.InstanceNorm2d(4)(IMAGES[:, :, :1, :1]), "InstanceNorm2d: more than one number"),
                          (lambda: nn.PixelShuffle(3)(IMAGES), "pixel_shuffle: images .* divisible by 9 wanted, got shape"),
                          (lambda: mg.pixel_shuffle(IMAGES[0], 2), "pixel_shuffle: images .* got shape .4, 6, 5."),
                          (lambda: mg.pixel_shuffle(IMAGES, 0), "pixel_shuffle: upscale_factor must be"),
                          (lambda: nn.PixelUnshuffle(2)(IMAGES), "pixel_unshuffle: images .* H and W divisible by 2 wanted"),
                          (lambda: nn.PixelUnshuffle(0), "PixelUnshuffle: downscale_factor must be"),
                          (lambda: mg.affine_grid(IMAGES[0, :2, :2, :3], (3, 1, 4, 4)), "theta .3, 2, 3. wanted for size"),
                          (lambda: mg.affine_grid(IMAGES[:, 0, :2, :3], (2, 4, 4)), "size must be four whole numbers")):
        with pytest.raises(ValueError, match=message):
            call()
    np.testing.assert_allclose(nn.InstanceNorm2d(4).eval()(mg.ones((1, 4, 1, 1))).numpy(), 0)
    for layer in (nn.InstanceNorm1d, nn.InstanceNorm2d):
        with pytest.raises(TypeError):
            layer(4, 1e-5, 0.1)  # PyTorch's third argument is a momentum, which is no word on weight and bias


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM, nn.RNNCell, nn.GRUCell, nn.LSTMCell])
def test_states_of_another_kind_are_refused_by_the_layers_name(kind):
    layer, name = kind(8, 3), kind.__name__
    x = (SEQUENCES[0] if "Cell" in name else SEQUENCES).astype(np.float32)
    h, paired = mg.zeros((1,) * (x.ndim == 3) + (5, 3)), "LSTM" in name
    for wrong in (3, "h", {"h": h}, (h, None), (None, None), layer, *[(h, h)][paired:]):
        with pytest.raises((TypeError, ValueError), match=rf"^{name}: a .*state.* of shape .* wanted, got "):
            layer(x, wrong)
    assert layer(x, (h, h) if paired else h) is not None


def test_lstm_to_third_order():
    mg.random.seed(0)
    net = nn.LSTM(3, 2).double()
    check_derivatives(lambda x, w: nn.functional_call(net, {"weight_hh_l0": w}, x)[0], [rng.normal(size=(3, 2, 3)),
                                                                                     net.weight_hh_l0.numpy()])


def test_recurrent_dropout_and_errors():
    mg.random.seed(0)
    net, x = nn.LSTM(8, 3, 2, dropout=0.5).double(), SEQUENCES
    assert not np.allclose(net(x)[0].numpy(), net(x)[0].numpy())
    np.testing.assert_array_equal(net.eval()(x)[0].numpy(), net(x)[0].numpy())
    one = nn.GRU(8, 3, dropout=0.9).double()  # neither the input nor the last layer's outputs are dropped
    np.testing.assert_array_equal(one(x)[0].numpy(), one.eval()(x)[0].numpy())
    for call, message in ((lambda: net(x[0, 0]), "sequences of three axes"), (lambda: net(x[:0]), "no steps"),
                          (lambda: net(x[0], (np.zeros((2, 1, 3)),) * 2), "a pair of states of shape .2, 3. wanted"),
                          (lambda: net(x, (x[:, :1, :3],) * 2), "states of shape .2, 5, 3. wanted"),
                          (lambda: net(x, (np.zeros((2, 5, 3)),)), "a pair of states of shape .2, 5, 3. wanted, got ..2, 5, 3..")):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM, nn.RNNCell, nn.GRUCell, nn.LSTMCell])
def test_recurrent_layers_say_which_width_they_want(kind):
    with pytest.raises(ValueError, match=rf"^{kind.__name__}: .* wanted.*, got shape .*, 8\)"):
        kind(7, 3)(SEQUENCES[0] if "Cell" in kind.__name__ else SEQUENCES)


@pytest.mark.parametrize("state", [[(1, 3), (1, 3)], [(4, 3), (4, 1)], [(3,), (3,)], [(4, 3)], [(4, 3)] * 3])
def test_an_lstm_cell_does_not_broadcast_its_state(state):
    with pytest.raises(ValueError, match="LSTMCell: a pair of states of shape .4, 3. wanted, got"):
        nn.LSTMCell(2, 3)(mg.ones((4, 2)), [np.zeros(shape) for shape in state])


@pytest.mark.parametrize("padding_idx", [-1, np.int64(-6), 5, 0])
def test_padding_counts_from_either_end_in_all_orders(padding_idx):
    ours, theirs = like_torch(nn.Embedding(6, 3, padding_idx), torch.nn.Embedding(6, 3, int(padding_idx)))
    assert ours.padding_idx == theirs.padding_idx and (nn.Embedding(6, 3, padding_idx).weight.numpy()[padding_idx] == 0).all()
    indices, v = np.arange(6), rng.normal(size=(6, 3))
    w = mg.Tensor(rng.normal(size=(6, 3)), requires_grad=True)
    mixed = mg.grad(lambda w: (mg.grad(lambda t: (mg.embedding(indices, t, padding_idx) * w).sum())(ours.weight) * v).sum())(w)
    v[padding_idx] = 0
    np.testing.assert_array_equal(mixed.numpy(), v)


@pytest.mark.parametrize("padding_idx", [6, -7, 1.5, True, "1"])
def test_padding_of_no_row_is_refused(padding_idx):
    for call in (lambda: nn.Embedding(6, 3, padding_idx), lambda: mg.embedding([0], np.ones((6, 3)), padding_idx)):
        with pytest.raises(ValueError, match="(E|e)mbedding: padding_idx"):
            call()


def test_embedding():
    ours, theirs = like_torch(nn.Embedding(6, 3, padding_idx=2), torch.nn.Embedding(6, 3, padding_idx=2))
    check(ours, theirs, rng.integers(0, 6, (4, 5)))
    with pytest.raises(IndexError, match="indices from 0 to 5 wanted for a table of 6 rows, got 0 to 6"):
        ours(np.array([0, 6]))
    with pytest.raises(TypeError, match="must be integers"):
        ours(np.array([0.0]))


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_transformer_layer_equals_pytorch(norm_first, activation):
    ours, theirs = like_torch(nn.TransformerEncoderLayer(8, 2, 16, 0.0, activation, norm_first=norm_first),
                              torch.nn.TransformerEncoderLayer(8, 2, 16, 0.0, activation, norm_first=norm_first,
                                                               batch_first=True))
    check(ours, theirs, SEQUENCES)
    seen = np.tril(np.ones((5, 5), bool))
    y = theirs(torch.tensor(SEQUENCES), src_mask=torch.tensor(~seen))
    for settings in (dict(is_causal=True), dict(attn_mask=seen)):
        np.testing.assert_allclose(ours(SEQUENCES, **settings).numpy(), y.detach().numpy(), rtol=1e-9, atol=1e-9)
    z, weights = ours(SEQUENCES, attn_mask=seen, need_weights=True)
    np.testing.assert_allclose(z.numpy(), y.detach().numpy(), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(weights.numpy().sum(-1), 1)


@pytest.mark.parametrize("norm", [False, True])
def test_transformer_encoder_equals_pytorch_and_takes_its_state(norm):
    make = lambda n: n.TransformerEncoder(n.TransformerEncoderLayer(8, 2, 12, 0.0, batch_first=True), 3,
                                          norm=n.LayerNorm(8) if norm else None)
    ours, theirs = make(nn), make(torch.nn)
    with torch.no_grad():  # copies start alike
        for p in theirs.parameters():
            p.add_(torch.tensor(rng.normal(size=tuple(p.shape)) / 5))
    like_torch(ours, theirs)
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    check(ours, theirs, SEQUENCES)
    causal = np.tril(np.ones((5, 5), bool))
    expected = theirs(torch.tensor(SEQUENCES), mask=torch.tensor(~causal)).detach().numpy()
    np.testing.assert_allclose(ours(SEQUENCES, mask=causal).numpy(), expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(ours(SEQUENCES, is_causal=True).numpy(), expected, rtol=1e-9, atol=1e-9)
    padding = np.arange(5) >= np.array([[5], [3]])
    expected = theirs(torch.tensor(SEQUENCES), src_key_padding_mask=torch.tensor(padding)).detach().numpy()
    np.testing.assert_allclose(ours(SEQUENCES, mask=~padding[:, None, None]).numpy()[~padding], expected[~padding], rtol=1e-9, atol=1e-9)
    fresh = make(nn)
    assert fresh.layers[0].linear1.weight is not fresh.layers[1].linear1.weight
    np.testing.assert_array_equal(fresh.layers[0].linear1.weight.numpy(), fresh.layers[2].linear1.weight.numpy())


@pytest.mark.parametrize("call, error, message", [
    (lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer, 2), TypeError, "TransformerEncoder: encoder_layer is a Module, not type"),
    (lambda: nn.TransformerEncoder(nn.Identity(), 2, "norm"), TypeError, "TransformerEncoder: norm is a Module, not str"),
    (lambda: nn.TransformerEncoder(nn.Identity(), 0), ValueError, "TransformerEncoder: num_layers"),
    (lambda: nn.Unflatten(1, 4), ValueError, "Unflatten: unflattened_size must be"),
    (lambda: nn.Unflatten(1, ()), ValueError, "Unflatten: unflattened_size must be"),
    (lambda: nn.Unflatten(1, (2, -2)), ValueError, "Unflatten: unflattened_size must be"),
    (lambda: nn.Unflatten(1, (3, -1))(IMAGES), ValueError, "Unflatten: 4 elements do not divide"),
    (lambda: nn.Unflatten(1, (0, -1))(IMAGES[:, :0]), ValueError, "Unflatten: 0 elements do not divide"),
    (lambda: nn.Unflatten(1, (-1, -1))(IMAGES), ValueError, "Unflatten: 4 elements do not divide"),
    (lambda: nn.Unflatten(4, (2, 2))(IMAGES), ValueError, "Unflatten: axis 4 is out of bounds"),
    (lambda: nn.Conv2d(1, 1, 1, padding_mode="mirror"), ValueError, "Conv2d: padding_mode is 'zeros', 'reflect', 'replicate' or"),
    (lambda: nn.Conv2d(4, 1, 3, padding=1, padding_mode="reflect")(np.ones((2, 3))), ValueError, "conv2d: images"),
    (lambda: nn.Hardtanh(1, -1), ValueError, "Hardtanh: max_val must be"), (lambda: mg.hardtanh([1, 2]), TypeError, "hardtanh: floating"),
    (lambda: mg.hardtanh([1.0], 0, -1), ValueError, "hardtanh: max_val must be"),
    (lambda: nn.Dropout2d(0.5)(np.ones((2, 3))), ValueError, r"dropout2d: images \(N, C, H, W\)")])
def test_what_layers_of_pytorchs_names_refuse(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("mode", PADDINGS)
def test_a_norm_goes_into_filters_that_see_other_paddings(mode):
    conv, norm = nn.Conv2d(4, 4, 3, padding=mg.Tensor(1), padding_mode=mode).double(), nn.BatchNorm2d(4).double()
    norm.running_mean[...], norm.running_var[...] = rng.normal(size=4), rng.uniform(1, 2, 4)
    x = np.tile(IMAGES, (1, 1, 4, 4))
    np.testing.assert_allclose(nn.layers.conv_norm(conv, norm.eval(), x, "relu").numpy(), mg.relu(norm(conv(x))).numpy(), atol=1e-12)


def test_dropout2d_drops_whole_channels():
    mg.random.seed(0)
    for shape in ((50, 40, 3, 2), (50, 40, 5)):
        x = mg.Tensor(np.ones(shape, np.float32), requires_grad=True)
        layer = nn.Dropout2d(0.25)
        y = layer(x)
        channels = y.numpy().reshape(50, 40, -1)
        assert (channels == channels[..., :1]).all() and set(np.unique(channels)) == {0, np.float32(4 / 3)}
        assert abs(channels.mean() - 1) < 0.1
        y.sum().backward()
        np.testing.assert_array_equal(x.grad.numpy(), y.numpy())
        assert layer.eval()(x) is x and not nn.Dropout2d(1.0)(x).numpy().any()


def test_multihead_attention_across_and_with_prefix():
    ours, theirs = like_torch(nn.MultiheadAttention(8, 2), torch.nn.MultiheadAttention(8, 2, batch_first=True))
    keys = rng.normal(size=(2, 7, 8))
    y, w = theirs(*map(torch.tensor, (SEQUENCES, keys, keys)), average_attn_weights=False)
    z, v = ours(SEQUENCES, keys, need_weights=True)
    np.testing.assert_allclose(z.numpy(), y.detach().numpy(), atol=1e-10)
    np.testing.assert_allclose(v.numpy(), w.detach().numpy(), atol=1e-10)
    prefix = [mg.Tensor(rng.normal(size=(2, 3, 4)), requires_grad=True) for _ in range(2)]  # the same for all samples
    z, v = ours(SEQUENCES, prefix=prefix, is_causal=True, need_weights=True)
    np.testing.assert_allclose(ours(SEQUENCES, prefix=prefix, is_causal=True).numpy(), z.numpy(), atol=1e-10)
    assert v.shape == (2, 2, 5, 8) and (v.numpy()[0, 0, 0] > 0).sum() == 4
    z.sum().backward()
    assert all(abs(p.grad.numpy()).sum() > 0 for p in prefix)
    ours.dropout = 0.5
    assert not np.allclose(ours(SEQUENCES).numpy(), ours(SEQUENCES).numpy())


def test_ghost_batch_norm_is_batch_norm_of_each_part():
    x = rng.normal(size=(6, 4, 3, 3))
    ghost, plain = nn.BatchNorm2d(4, splits=3).to("float64"), nn.BatchNorm2d(4).to("float64")
    np.testing.assert_allclose(ghost(x).numpy(), np.concatenate([plain(part).numpy() for part in np.split(x, 3)]))
    np.testing.assert_allclose(ghost.running_var, plain.running_var)
    with pytest.raises(ValueError, match="does not divide into 3"):
        ghost(x[:5])
    with pytest.raises(ValueError, match="BatchNorm1d: a Tensor of 2 or 3 axes"):
        nn.BatchNorm1d(4)(x)


def test_weight_norm_module():
    layer = nn.Linear(4, 3).to("float64")
    weight = layer.weight.numpy().copy()
    x = rng.normal(size=(2, 4))
    y = layer(x).numpy()
    normed = nn.WeightNorm(layer)
    np.testing.assert_allclose(normed(x).numpy(), y)
    assert [name for name, _ in normed.named_parameters()] == ["weight_g", "weight_v", "layer.bias"]
    normed(x).sum().backward()
    assert abs((normed.weight_v.grad.numpy() * weight).sum(1)).max() < 1e-12  # the length carries no direction


def test_dropout_layers():
    mg.random.seed(0)
    x = np.ones((400, 50), np.float32)
    for layer in (nn.Dropout(0.25), nn.DropPath(0.25)):
        y = layer(x).numpy()
        assert set(np.unique(y)) == {0, np.float32(4 / 3)} and abs(y.mean() - 1) < 0.1
        assert layer.eval()(x).numpy() is x or (layer(x).numpy() == x).all()
    rows = nn.DropPath(0.25)(x).numpy()
    assert (rows == rows[:, :1]).all()
    net = nn.Sequential(nn.Linear(50, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    losses = []
    for f in (net, mg.checkpoint(net)):
        mg.random.seed(1)
        loss = f(x).sum()
        net.zero_grad()
        loss.backward()
        losses.append((float(loss), net[0].weight.grad.numpy().copy()))
    np.testing.assert_array_equal(losses[0][1], losses[1][1])
    with pytest.raises(ValueError, match="between 0 and 1"):
        nn.Dropout(1.5)(x)


# -- models ----------------------------------------------------------------------------------------------------------


def test_vision_transformer_equals_its_equations():
    mg.random.seed(0)
    net = nn.VisionTransformer(8, 4, 3, 5, embed_dim=8, depth=2, num_heads=2).to("float64")
    w = {name: torch.tensor(p.numpy()) for name, p in net.named_parameters()}
    assert {"cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.1.attn.qkv.bias", "blocks.0.mlp.fc2.weight",
            "norm.weight", "head.bias"} <= w.keys()
    functional, images = torch.nn.functional, torch.tensor(rng.normal(size=(2, 3, 8, 8)))
    x = functional.conv2d(images, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], 4).flatten(2).transpose(1, 2)
    x = torch.cat([w["cls_token"].expand(2, 1, 8), x], 1) + w["pos_embed"]
    norm = lambda x, name: functional.layer_norm(x, (8,), w[name + ".weight"], w[name + ".bias"], 1e-6)
    linear = lambda x, name: functional.linear(x, w[name + ".weight"], w[name + ".bias"])
    for b in ("blocks.0.", "blocks.1."):
        q, k, v = linear(norm(x, b + "norm1"), b + "attn.qkv").reshape(2, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(2, 5, 8)
        x = x + linear(y, b + "attn.proj")
        x = x + linear(functional.gelu(linear(norm(x, b + "norm2"), b + "mlp.fc1")), b + "mlp.fc2")
    y = linear(norm(x, "norm")[:, 0], "head")
    np.testing.assert_allclose(net(images.numpy()).numpy(), y.numpy(), atol=1e-10)
    z, maps = net(images.numpy(), need_weights=True)
    np.testing.assert_allclose(z.numpy(), y.numpy(), atol=1e-10)
    assert len(maps) == 2 and maps[0].shape == (2, 2, 5, 5)
    with pytest.raises(ValueError, match="do not divide into patches"):
        net(np.zeros((1, 3, 9, 8)))


def hub_names(net, table):
    """A checkpoint of the hub, made of a model here."""
    state = {}
    for name, array in net.state_dict().items():
        parts = name.split(".")
        number = next((p for p in parts if p.isdigit()), "")
        stem, kind = name.rsplit("_" if "in_proj_" in name else ".", 1)
        found = table[stem.replace(f".{number}.", ".{i}.") if number else stem]
        found = found if isinstance(found, list) else [found]
        for source, piece in zip(found, np.split(array, len(found))):
            state[f"{source.format(i=number)}.{kind}"] = piece
    return state


def test_bert_reads_the_hubs_names_and_ignores_padding():
    make = lambda: nn.BERT(20, 8, 2, 2, 16, 10, dropout=0.0).to("float64")
    states = lambda net, *inputs: net.encode(net.embed(inputs[0]), *inputs[1:])
    mg.random.seed(0)
    net, twin = make(), make()
    state = hub_names(net, published.BERT_NAMES)
    assert state["encoder.layer.1.attention.self.key.weight"].shape == (8, 8)
    nn.load_published(twin, {"bert." + name: a for name, a in state.items()} | {"cls.predictions.bias": np.zeros(20)})
    ids, mask = rng.integers(0, 20, (3, 7)), np.arange(7) < np.array([[7], [4], [5]])
    y, pooled = states(net, ids, mask), net(ids, mask)
    z = states(twin, ids, mask)
    np.testing.assert_array_equal(y.numpy(), z.numpy())
    assert pooled.shape == (3, 8)
    other = np.where(mask, ids, (ids + 3) % 20)
    np.testing.assert_allclose(states(net, other, mask).numpy()[mask], y.numpy()[mask], atol=1e-12)
    with pytest.raises(KeyError, match="the checkpoint has no"):
        nn.load_published(twin, {})


def test_clip_text_is_causal_and_reads_the_hubs_names():
    make = lambda: nn.CLIPText(20, 8, 2, 2, 16, 10, 6).to("float64")
    mg.random.seed(0)
    net, twin = make(), make()
    nn.load_published(twin, hub_names(net, published.CLIP_TEXT_NAMES))
    ids = np.array([[1, 5, 19, 0, 0], [1, 2, 3, 4, 19]])  # 19 ends the text
    y = net(ids)
    assert y.shape == (2, 6)
    np.testing.assert_array_equal(y.numpy(), twin(ids).numpy())
    ids[0, 3:] = 7
    np.testing.assert_allclose(net(ids).numpy(), y.numpy(), atol=1e-12)


@pytest.mark.parametrize("make, shape, out", [
    (lambda: nn.resnet18(num_classes=3), (2, 3, 64, 64), 3), (lambda: nn.resnet50(num_classes=3), (2, 3, 33, 33), 3),
    (lambda: nn.resnet18(num_classes=3, small_images=True), (2, 3, 16, 16), 3),
    (lambda: nn.WideResNet(10, 1), (2, 3, 16, 16), 10), (lambda: nn.ConvLarge(4), (2, 3, 32, 32), 4)])
def test_convolutional_models_train(make, shape, out):
    mg.random.seed(0)
    net = make()
    y = net(rng.normal(size=shape).astype(np.float32))
    assert y.shape == (2, out) and y.dtype == np.float32
    mg.cross_entropy(y, np.array([0, 1])).backward()
    assert all(np.isfinite(p.grad.numpy()).all() for p in net.parameters())


def test_resnet_has_torchvisions_layout():
    names = nn.resnet50().state_dict()
    trained = {name: a for name, a in names.items() if "running" not in name}
    assert len(trained) == 161 and sum(a.size for a in trained.values()) == 25557032
    assert {"conv1.weight", "layer1.0.downsample.0.weight", "layer4.2.bn3.running_var", "fc.bias"} <= names.keys()
    net = nn.resnet18()
    assert sum(p.size for p in net.parameters()) == 11689512
    nn.load_published(net, net.state_dict() | {"bn1.num_batches_tracked": np.array(3)})


# -- state -----------------------------------------------------------------------------------------------------------


def test_pytorchs_state_of_the_same_parts_is_taken():
    torch = pytest.importorskip("torch")
    make = lambda nn: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.LSTM(4, 2))
    theirs, net, state = make(torch.nn), make(nn), make(torch.nn).state_dict()
    net.load_state_dict(state)
    net.load_state_dict({name: a.numpy() for name, a in theirs.state_dict().items()})
    assert net.state_dict().keys() == theirs.state_dict().keys() - {"1.num_batches_tracked"}
    assert all(np.array_equal(a, theirs.state_dict()[name].numpy()) for name, a in net.state_dict().items())
    with pytest.raises(KeyError, match="unknown .*tracked.weight"):
        net.load_state_dict(state | {"num_batches_tracked.weight": np.zeros(1)})
    counting = nn.Module()
    counting.num_batches_tracked = np.array(0)
    counting.load_state_dict({"num_batches_tracked": np.array(3)})
    assert counting.num_batches_tracked == 3
    with pytest.raises(KeyError, match="missing .*num_batches_tracked"):
        counting.load_state_dict({})


def test_shared_parameters_are_trained_once_and_named_twice():
    a, b = nn.Linear(3, 3), nn.Linear(3, 3)
    b.weight = a.weight
    net = nn.Sequential(a, b)
    assert len(net.parameters()) == 3 and len(net.state_dict()) == 4
    net.load_state_dict(net.state_dict())


def test_functional_call_replaces_a_shared_parameter_in_all_its_places():
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    net[1].weight = net[0].weight
    x, double = np.ones((1, 2), np.float32), 2 * net[0].weight
    once = net(x).numpy()
    np.testing.assert_allclose(nn.functional_call(net, {"0.weight": double}, x).numpy(), 4 * once, rtol=1e-6)
    apart = nn.functional_call(net, {"0.weight": double, "1.weight": net[1].weight * 3}, x).numpy()
    np.testing.assert_allclose(apart, 6 * once, rtol=1e-6)
    assert net[0].weight is net[1].weight
    np.testing.assert_array_equal(net(x).numpy(), once)


Pair = collections.namedtuple("Pair", "scale shift")


@pytest.mark.parametrize("held, read", [
    (Pair, tuple), (lambda *both: both, tuple), (lambda *both: [*both], tuple),
    (lambda *both: ((), dict(enumerate(both))), lambda parts: parts[1].values())])
def test_functional_call_replaces_parameters_in_lists_tuples_and_dicts(held, read):
    class Net(nn.Module):
        def __init__(self):
            self.parts = held(nn.Parameter(np.ones(2)), nn.Parameter(np.zeros(2)))

        def forward(self, x):
            assert type(self.parts) is kind
            scale, shift = read(self.parts)
            return x * scale + shift

    net, scale = Net(), mg.Tensor([2.0, 3.0], requires_grad=True)
    kind, (name, own) = type(net.parts), next(net.named_parameters())
    nn.functional_call(net, {name: scale}, np.ones(2)).sum().backward()
    np.testing.assert_array_equal(scale.grad.numpy(), [1, 1])
    assert next(net.named_parameters())[1] is own and own.grad is None
    np.testing.assert_array_equal(net(np.ones(2)).numpy(), [1, 1])


def test_functional_call_can_spare_the_buffers():
    net = nn.BatchNorm2d(4)
    buffers = {name: a.copy() for name, a in net.named_buffers()}
    nn.functional_call(net, buffers, IMAGES.astype(np.float32))
    assert (net.running_mean == 0).all() and not (buffers["running_mean"] == 0).all()


def test_to_dtype_and_repr():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU()).to("float64")
    assert net(np.ones((1, 2))).dtype == np.float64
    assert repr(net) == "Sequential(\n  0: Linear(\n    weight: float64[3, 2]\n    bias: float64[3]\n  )\n  1: ReLU()\n)"
    assert repr(nn.Sequential(mg.relu, nn.Tanh())) == "Sequential(\n  0: relu\n  1: Tanh()\n)"


def test_an_identity_stands_in_the_place_of_any_layer():
    x = mg.Tensor([1.0, -2.0])
    for layer in (nn.Identity(), nn.Identity(64), nn.Identity(3, 64, kernel_size=3, bias=False)):
        assert layer(x) is x and not layer.parameters()


@pytest.mark.parametrize("make", [lambda: nn.Linear(4, 4), lambda: nn.RMSNorm(4), lambda: nn.LSTM(4, 4),
                                  lambda: nn.MultiheadAttention(4, 2)])
def test_to_another_dtype_before_the_backward_pass_is_noticed_and_to_its_own_is_none(make):
    net, x = make(), mg.Tensor(np.ones((2, 3, 4), np.float32))

    def loss():
        y = net(x)
        return mg.sum(y[0] if isinstance(y, tuple) else y)

    y = loss()
    net.to("float32")
    y.backward()
    y = loss()
    net.to("float64")
    with pytest.raises(RuntimeError, match="was changed in place after the operation"):
        y.backward()


def test_gradients_move_with_their_parameters():
    net = nn.Linear(2, 1)
    net(np.ones((1, 2), np.float32)).sum().backward()
    assert net.to("float64").weight.grad.dtype == np.float64
    net(np.ones((1, 2))).sum().backward()
    np.testing.assert_array_equal(net.weight.grad.numpy(), [[2, 2]])
    assert net.half().weight.grad.dtype == np.float16


@pytest.mark.parametrize("target", ["int32", int, bool, "gpu", None, 3, "complex64"])
def test_a_module_moves_to_devices_and_floating_point_dtypes_alone(target):
    net = nn.Linear(2, 1)
    with pytest.raises(ValueError, match="Module.to: .* is neither a device .* nor a floating point dtype"):
        net.to(target)
    assert net.weight.dtype == np.float32


class Contained(nn.Module):
    def __init__(self):
        self.layers = {"first": nn.Linear(2, 3), "rest": [nn.Linear(3, 1), (nn.BatchNorm1d(1),)]}
        self.scales = [nn.Parameter(np.ones(2, np.float32)), None]
        self.history, self.table = [mg.Tensor(np.ones(3))], {"x": np.ones(3)}  # no parameters, no buffers

    def forward(self, x):
        first, (second, (norm,)) = self.layers.values()
        return norm(second(first(x * self.scales[0])))


def test_parts_are_found_in_lists_tuples_and_dicts():
    net = Contained()
    names = [name for name, _ in net.named_parameters()]
    assert names == ["layers.first.weight", "layers.first.bias", "layers.rest.0.weight", "layers.rest.0.bias",
                     "layers.rest.1.0.weight", "layers.rest.1.0.bias", "scales.0"]
    assert [name for name, _ in net.named_buffers()] == ["layers.rest.1.0.running_mean", "layers.rest.1.0.running_var"]
    assert all(name in repr(net) for name in ("layers.first: Linear", "layers.rest.1.0: BatchNorm1d", "scales.0: float32[2]"))
    x = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    net(x).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    zero = mg.Tensor(np.zeros(2, np.float32))
    same = nn.functional_call(net, {"scales.0": zero}, x).numpy()
    assert (same == same[0]).all() and net.scales[0] is not zero
    other = Contained().to("float64")
    other.load_state_dict(net.state_dict())
    assert other.scales[0].dtype == np.float64 and not net.eval().layers["first"].training
    np.testing.assert_allclose(other.eval()(x.astype(np.float64)).numpy(), net(x).numpy(), rtol=1e-5)


class Coinciding(nn.Module):
    def __init__(self, name, value, other, below):
        setattr(self, name, value)
        setattr(self, other, below)


@pytest.mark.parametrize("names", [
    ("d", {"a.b": nn.Linear(1, 1), "a": {"b": nn.Linear(1, 1)}}, "e", []), ("d", {1: nn.Linear(1, 1), "1": nn.Linear(1, 1)}, "e", []),
    ("l.0", nn.Linear(1, 1), "l", [nn.Linear(1, 1)]), ("b.m", np.zeros(2), "b", nn.Sequential())], ids=str)
def test_arrays_whose_names_coincide_are_not_lost(names):
    net = Coinciding(*names)
    if names[0] == "b.m":
        net.b.m = np.ones(2)
    for call in (net.state_dict, lambda: net.load_state_dict({})):
        with pytest.raises(ValueError, match="two arrays of Coinciding are called"):
            call()


@pytest.mark.parametrize("state", [[1], None, "weight", {"weight": [[1.0]], "bias": np.ones(1)}, {"weight": np.ones((1, 1)), "bias": "b"},
                                   {"weight": np.ones((1, 1), complex), "bias": np.ones(1)},
                                   {"weight": np.ones((1, 1)), "bias": np.array(["b"])}, {"weight": np.ones((1, 1)), "bias": np.array([None])},
                                   {"weight": np.ones((1, 1)), "bias": np.array(["2020"], "M8[Y]")}], ids=lambda state: type(state).__name__)
def test_a_state_that_is_no_dict_of_real_arrays_is_refused_and_changes_nothing(state):
    net = nn.Linear(1, 1)
    before = net.state_dict()
    with pytest.raises(TypeError, match="load_state_dict: (a dict of arrays|'(weight|bias)' is no array)"):
        net.load_state_dict(state)
    assert all((before[name] == array).all() for name, array in net.state_dict().items())


def test_a_state_is_not_put_into_read_only_memory_and_changes_nothing():
    net = nn.Linear(1, 1)
    net.bias = nn.Parameter(np.broadcast_to(np.float32(0), 1))
    before = net.state_dict()
    with pytest.raises(ValueError, match="load_state_dict: the module's 'bias' is in read-only memory"):
        net.load_state_dict({"weight": np.ones((1, 1)), "bias": np.ones(1)})
    assert all((before[name] == array).all() for name, array in net.state_dict().items())


class _Counting(nn.Module):
    def __init__(self):
        self.weight, self.count, self.seen = nn.Parameter(np.zeros(2, np.float32)), np.zeros(2, np.int8), np.zeros(2, bool)


@pytest.mark.parametrize("name, values", [("weight", [0, 1e300]), ("weight", [-1e39, 0]), ("count", [2.7, 1]), ("count", [0, 300]),
                                          ("count", [np.nan, 0]), ("count", [0, np.inf]), ("seen", [0, 2])])
def test_a_state_of_numbers_that_do_not_fit_is_refused_and_changes_nothing(name, values):
    net = _Counting()
    state = {"weight": np.ones(2), "count": np.ones(2), "seen": np.ones(2)}
    with pytest.raises(ValueError, match=f"load_state_dict: '{name}' holds .*, which {getattr(net, name).dtype} cannot represent"):
        net.load_state_dict(state | {name: np.array(values, np.float64)})
    assert not any(array.any() for array in net.state_dict().values())
    net.load_state_dict(state | {"weight": np.array([np.nan, -np.inf])})
    assert np.isnan(net.weight.data[0]) and net.weight.data[1] == -np.inf and net.count.all() and net.seen.all()


def test_what_cannot_be_called_is_no_part_of_a_sequence():
    with pytest.raises(TypeError, match="Sequential: module 1, of type int, cannot be called$"):
        nn.Sequential(nn.ReLU(), 3)
    with pytest.raises(TypeError, match=r"module 0, of type list, cannot be called; .* Sequential\(\*modules\)$"):
        nn.Sequential([nn.ReLU(), nn.ReLU()])
    net = nn.Sequential(nn.ReLU(), nn.Tanh())
    for replace in (lambda: net.__setitem__(-1, 3), lambda: setattr(net, "1", 3)):
        with pytest.raises(TypeError, match="Sequential: module 1, of type int, cannot be called$"):
            replace()
    assert type(net[1]) is nn.Tanh


def test_a_module_is_in_a_sequence_whatever_stood_under_its_name_before():
    class Net(nn.Sequential):
        def __init__(self):
            self.stem = nn.Linear(2, 3)  # a part, but no step: the sequence begins below
            super().__init__(nn.ReLU())
            self.head = None
            self.head = nn.Linear(2, 4)
            self.stem = nn.Linear(2, 3)

    net = Net()
    assert len(net) == 2 and net[-1] is net.head and net(np.ones(2, np.float32)).shape == (4,)
    assert {name.split(".")[0] for name in net.state_dict()} == {"stem", "head"}


@pytest.mark.parametrize("kind", [dict, collections.OrderedDict])
def test_a_sequence_has_the_names_of_a_dict_as_in_pytorch(kind):
    def make(n):
        return n.Sequential(collections.OrderedDict(first=n.Linear(3, 4), act=n.ReLU(), last=n.Linear(4, 2)))

    theirs, net = make(torch.nn), nn.Sequential(kind(first=nn.Linear(3, 4), act=nn.ReLU(), last=nn.Linear(4, 2)))
    x = np.ones((2, 3), np.float32)
    for change in (lambda net, n: None, lambda net, n: setattr(net, "more", n.Linear(2, 1)), lambda net, n: delattr(net, "more"),
                   lambda net, n: setattr(net, "last", n.Linear(4, 7)), lambda net, n: net.__setitem__(-1, n.Linear(4, 5)),
                   lambda net, n: net.__delitem__(1), lambda net, n: net.__delitem__(slice(1, None))):
        change(net, nn)
        change(theirs, torch.nn)
        assert list(net.state_dict()) == list(theirs.state_dict()) and list(net[1:].state_dict()) == list(theirs[1:].state_dict())
        net.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
        np.testing.assert_allclose(net(x).numpy(), theirs(torch.tensor(x)).detach().numpy(), rtol=1e-5)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(net))(x).numpy(), copy.deepcopy(net)(x).numpy())
        assert net[-1] is [*net][-1] and len(net) == len(theirs)
    assert not hasattr(net, "first") and net[0].weight.shape == (4, 3)
    with pytest.raises(IndexError, match="Sequential: an index below 1"):
        del net[1]


@pytest.mark.parametrize("name", ["a.b", "", "forward", "training", 1])
def test_a_name_that_is_none_is_no_module_of_a_sequence(name):
    with pytest.raises(ValueError, match=f"Sequential: a name without dots wanted, .* not {name!r}$"):
        nn.Sequential({name: nn.ReLU()})


def test_a_module_of_a_sequence_is_replaced():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 4))
    net[-1] = head = nn.Linear(3, 5)
    assert len(net) == 3 and net[2] is head and net(mg.ones((1, 2))).shape == (1, 5)
    assert [name for name, _ in net.named_parameters()] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    with pytest.raises(IndexError):
        net[3] = head
    with pytest.raises(TypeError):
        net[:2] = head


@pytest.mark.parametrize("size", [-1, 2.5, True, "3"])
@pytest.mark.parametrize("make, name", [
    (lambda n: nn.Linear(n, 2), "Linear: in_features"), (lambda n: nn.Linear(2, n), "Linear: out_features"),
    (lambda n: nn.Conv2d(n, 2, 3), "Conv2d: in_channels"), (lambda n: nn.ConvTranspose1d(2, n, 3), "ConvTranspose1d: out_channels"),
    (lambda n: nn.Conv1d(2, 2, n), "Conv1d: kernel_size"), (lambda n: nn.Embedding(n, 2), "Embedding: num_embeddings"),
    (lambda n: nn.BatchNorm2d(n), "BatchNorm2d: num_features"), (lambda n: nn.LayerNorm((2, n)), "LayerNorm: normalized_shape"),
    (lambda n: nn.RMSNorm([n]), "RMSNorm: normalized_shape"), (lambda n: nn.GroupNorm(1, n), "GroupNorm: num_channels"),
    (lambda n: nn.PReLU(n), "PReLU: num_parameters"), (lambda n: nn.GRUCell(n, 2), "GRUCell: input_size"),
    (lambda n: nn.InstanceNorm2d(n), "InstanceNorm2d: num_features"), (lambda n: nn.RNNCell(2, n), "RNNCell: hidden_size"),
    (lambda n: nn.PixelShuffle(n), "PixelShuffle: upscale_factor"), (lambda n: nn.LSTM(2, n), "LSTM: hidden_size"),
    (lambda n: nn.GRU(2, 2, n), "GRU: num_layers"), (lambda n: nn.MultiheadAttention(n, 2), "MultiheadAttention: embed_dim"),
    (lambda n: nn.Mlp(2, n), "Mlp: hidden"), (lambda n: nn.TransformerBlock(n, 1, 2), "TransformerBlock: dim"),
    (lambda n: nn.TransformerEncoderLayer(n, 1), "TransformerEncoderLayer: d_model"),
    (lambda n: nn.TransformerEncoderLayer(2, n), "TransformerEncoderLayer: nhead"),
    (lambda n: nn.TransformerEncoderLayer(2, 1, n), "TransformerEncoderLayer: dim_feedforward")])
def test_a_size_that_is_none_is_named(make, name, size):
    with pytest.raises(ValueError, match=f"{name} must be a whole number"):
        make(size)


@pytest.mark.parametrize("sizes", [(1, 1, 1), ()])
@pytest.mark.parametrize("make", [nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d,
                                  nn.AvgPool1d, nn.AvgPool2d, nn.MaxPool1d, nn.MaxPool2d, nn.Unfold, nn.Upsample])
def test_a_window_of_other_dimensions_is_refused_when_a_layer_is_made(make, sizes):
    with pytest.raises(ValueError, match=rf"{make.__name__}: \w*size must be (a|one) whole number"):
        make(sizes)


@pytest.mark.parametrize("make", [nn.Conv1d, nn.Conv2d])
@pytest.mark.parametrize("stride", [2, (1, 2), mg.Tensor(2), np.int8(2)], ids=repr)
def test_same_padding_and_a_stride_are_refused_when_the_layer_is_made(make, stride):
    stride = stride if make is nn.Conv2d or not isinstance(stride, tuple) else 2
    with pytest.raises(ValueError, match=f"{make.__name__}: padding 'same' wants a stride of 1"):
        make(2, 2, 3, stride=stride, padding="same")
    for one in (1, np.int8(1), mg.Tensor(1), (1, 1) if make is nn.Conv2d else (1,)):
        make(2, 2, 3, stride=one, padding="same")


def test_attention_between_inputs_of_an_empty_batch():
    q, kv = (mg.Tensor(np.zeros((0, n, 8), np.float32)) for n in (3, 4))
    assert nn.MultiheadAttention(8, 2)(q, kv).shape == (0, 3, 8)


class Child(nn.Module):
    def __init__(self, parent):
        self.parent, self.weight = parent, nn.Parameter(np.ones(2, np.float32))


class Parent(nn.Module):
    def __init__(self):
        self.children_of_mine, self.bias = [Child(self), Child(self)], nn.Parameter(np.zeros(2, np.float32))


def test_a_part_may_refer_to_what_it_is_part_of():
    net, seen = Parent(), []
    assert list(net.state_dict()) == ["children_of_mine.0.weight", "children_of_mine.1.weight", "bias"]
    assert len(net.parameters()) == 3 and len(list(net.modules())) == 3
    net.load_state_dict(copy.deepcopy(net).to("float64").state_dict())
    net.apply(seen.append)
    assert [type(module).__name__ for module in seen] == ["Child", "Child", "Parent"]
    assert repr(net).count("weight: ") == 2


def test_a_state_in_the_modules_own_memory_is_read_before_it_is_written():
    net = nn.Module()
    net.a, net.b = nn.Parameter(np.zeros(2, np.float32)), nn.Parameter(np.ones(2, np.float32))
    net.load_state_dict({"a": net.b.numpy(), "b": net.a.numpy()})
    assert net.a.tolist() == [1, 1] and net.b.tolist() == [0, 0]
    whole = np.arange(4, dtype=np.float32)
    net.a.data, net.b.data = whole[:2], whole[2:]
    net.load_state_dict({"a": net.b.numpy(), "b": net.a.numpy()})
    assert whole.tolist() == [2, 3, 0, 1]


def test_parameters_are_a_state_too():
    net, other = nn.Linear(2, 3), nn.Linear(2, 3)
    net.load_state_dict(dict(other.named_parameters()))
    np.testing.assert_array_equal(net.weight.numpy(), other.weight.numpy())
    assert not np.shares_memory(net.weight.numpy(), other.weight.numpy())


@pytest.mark.parametrize("kind", ["functional_call", "WeightNorm"])
def test_threads_that_replace_parameters_leave_the_modules_own(kind):
    net, errors = nn.Linear(4, 4), []
    weight = net.weight
    normed, x = nn.WeightNorm(nn.Linear(4, 4)), mg.ones((1, 4))
    expected = normed(x).numpy()

    def work(k):
        try:
            for _ in range(200):
                if kind == "WeightNorm":
                    np.testing.assert_array_equal(normed(x).numpy(), expected)
                else:
                    y = nn.functional_call(net, {"weight": mg.full((4, 4), float(k)), "bias": mg.zeros(4)}, x)
                    assert (y.numpy() == 4 * k).all()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and net.weight is weight and list(normed.state_dict()) == ["weight_g", "weight_v", "layer.bias"]


def test_a_module_whose_threads_replace_others_parameters_does_not_wait_for_itself():
    class Threaded(nn.Module):
        def __init__(self):
            self.part = nn.WeightNorm(nn.Linear(2, 2))

        def forward(self, x):
            found = []
            thread = threading.Thread(target=lambda: found.append(self.part(x)), daemon=True)
            thread.start()
            thread.join(20)
            return found[0]

    assert nn.functional_call(Threaded(), {}, mg.ones((1, 2))).shape == (1, 2)
    assert not nn.module._locks


def test_modules_that_are_dataclasses_are_called_with_other_parameters():
    @dataclasses.dataclass
    class Scaled(nn.Module):
        scale: nn.Parameter

        def forward(self, x):
            return self.scale * x

    assert nn.functional_call(Scaled(nn.Parameter(2.0)), {"scale": mg.Tensor(3.0)}, mg.ones(1)).tolist() == [3]
