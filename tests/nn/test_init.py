"""How parameters start: PyTorch's distributions and bounds, in place, and the same numbers as ever from one seed."""
import math

import numpy as np
import pytest
from checks import optional
from hypothesis import given, settings, strategies as st

import minigrad as mg
from minigrad import nn
from minigrad.nn import init

torch = optional("torch")
SHAPES = [(400, 300), (40, 30, 5, 4), (300, 400)]


def empty(*shape, dtype=np.float32):
    return nn.Parameter(np.full(shape, np.nan, dtype))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name, settings", [
    ("uniform_", {}), ("uniform_", dict(a=-2, b=1)), ("normal_", dict(mean=1, std=0.5)), ("trunc_normal_", {}),
    ("trunc_normal_", dict(mean=0.5, std=0.2, a=0.5, b=0.6)), ("xavier_uniform_", dict(gain=2)), ("xavier_normal_", {}),
    ("kaiming_uniform_", dict(a=math.sqrt(5))), ("kaiming_uniform_", dict(mode="fan_out", nonlinearity="relu")),
    ("kaiming_normal_", dict(nonlinearity="tanh")), ("kaiming_normal_", dict(a=0.3, mode="fan_out"))])
def test_distribution_is_pytorchs(name, settings, shape):
    mg.random.seed(0)
    torch.manual_seed(0)
    ours, theirs = empty(*shape), torch.empty(shape)
    memory = ours.data
    assert getattr(init, name)(ours, **settings) is ours and ours.data is memory and ours.is_leaf and ours.requires_grad
    getattr(torch.nn.init, name)(theirs, **settings)
    a, b = np.sort(ours.numpy().ravel()), np.sort(theirs.numpy().ravel())
    assert abs(a - b)[len(a) // 100:-len(a) // 100].max() < 0.1 * b.std()
    if "uniform" in name or "trunc" in name:
        np.testing.assert_allclose(a[[0, -1]], b[[0, -1]], atol=0.01 * b.std())


def test_constants_eye_gain_and_fans():
    np.testing.assert_array_equal(init.constant_(empty(2, 3), 0.5).numpy(), np.full((2, 3), 0.5))
    np.testing.assert_array_equal(init.zeros_(empty(2)).numpy(), [0, 0])
    np.testing.assert_array_equal(init.ones_(empty()).numpy(), 1)
    np.testing.assert_array_equal(init.eye_(empty(2, 3)).numpy(), np.eye(2, 3))
    for name in ("linear", "conv2d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"):
        assert init.calculate_gain(name) == pytest.approx(torch.nn.init.calculate_gain(name))
    assert init.calculate_gain("leaky_relu", 0.3) == pytest.approx(torch.nn.init.calculate_gain("leaky_relu", 0.3))
    for shape in SHAPES:
        fans = torch.nn.init._calculate_fan_in_and_fan_out(torch.empty(shape))
        assert init.fan_in_and_fan_out(empty(*shape)) == fans


SETTINGS = [(name, argument) for name, arguments in {
    "uniform_": "a b", "normal_": "mean std", "trunc_normal_": "mean std a b", "xavier_uniform_": "gain", "xavier_normal_": "gain",
    "kaiming_uniform_": "a", "kaiming_normal_": "a", "orthogonal_": "gain"}.items() for argument in arguments.split()]


@pytest.mark.parametrize("value", [1j, np.nan, "x", None, True, [1.0, 2.0], mg.Tensor([1.0, 2.0])], ids=str)
@pytest.mark.parametrize("name, argument", SETTINGS)
def test_settings_are_numbers(name, argument, value):
    if value is None and name.startswith("kaiming"):
        value = "none"  # None is PyTorch's default there
    with pytest.raises((ValueError, TypeError), match=f"{argument} |param "):
        getattr(init, name)(empty(3, 3), **{argument: value})


@pytest.mark.parametrize("name, argument", SETTINGS)
def test_settings_do_not_lose_a_gradient(name, argument):
    with pytest.raises(TypeError, match="a Tensor that requires a gradient"):
        getattr(init, name)(empty(3, 3), **{argument: mg.Tensor(0.5, requires_grad=True)})


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 2, 3), (3, 0)])
def test_orthogonal(shape):
    w = init.orthogonal_(empty(*shape, dtype=np.float64), gain=3).numpy().reshape(shape[0], -1)
    product = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(product, 9 * np.eye(len(product)), atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (0, 3), (3, 2)])
def test_keeps_dtype_and_takes_any_shape(dtype, shape):
    for f in (init.normal_, init.uniform_, init.trunc_normal_, init.ones_):
        x = f(empty(*shape, dtype=dtype))
        assert x.dtype == dtype and x.shape == shape and np.isfinite(x.numpy()).all()
    strided = mg.Tensor(np.zeros((4, 6), dtype).T[::2])
    assert init.normal_(strided).numpy().any(axis=None) and strided._array.base is not None


@settings(max_examples=30, deadline=None, derandomize=True)
@given(a=st.floats(-3, 3), width=st.floats(0, 3), share=st.sampled_from([0, 0.3, 1]), kind=st.sampled_from([float, np.float64]),
       dtype=st.sampled_from([np.float16, np.float32, np.float64]))
def test_a_normal_distribution_of_width_0_is_its_mean(a, width, share, kind, dtype):
    a, b = kind(a), kind(a + width)
    mean = b if share == 1 else a + share * width
    for drawn in (init.normal_(empty(3, dtype=dtype), mean, 0), init.trunc_normal_(empty(3, dtype=dtype), mean, 0, a, b)):
        np.testing.assert_array_equal(drawn.numpy(), np.full(3, mean, dtype))
    for outside in (np.nextafter(a, -9), np.nextafter(b, 9)):
        with pytest.raises(ValueError, match="less than 1 %"):
            init.trunc_normal_(empty(3, dtype=dtype), outside, 0, a, b)


def test_the_graph_sees_the_change():
    w = nn.Parameter(np.ones((2, 2)))
    y = (w * w).sum()
    init.normal_(w)
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()
    with pytest.raises(RuntimeError):
        init.zeros_(w * 2)


@pytest.mark.parametrize("call, error, message", [
    (lambda: init.normal_(mg.Tensor(np.zeros(3, int))), TypeError, "normal_: a floating point Tensor wanted, not int64"),
    (lambda: init.uniform_(np.zeros(3)[:, None].tolist()), TypeError, "uniform_: a floating point Tensor wanted, not list"),
    (lambda: init.kaiming_normal_(np.zeros((3, 3))), TypeError, "kaiming_normal_: a floating point Tensor wanted, not ndarray"),
    (lambda: init.uniform_(empty(3), 2, 1), ValueError, "uniform_: b must be a number of at least 2, not 1"),
    (lambda: init.xavier_uniform_(empty(3, 3), -1), ValueError, "xavier_uniform_: gain must be a number of at least 0"),
    (lambda: init.xavier_uniform_(empty(3)), ValueError, "xavier_uniform_: a weight of two or more axes"),
    (lambda: init.normal_(empty(3), std=-1), ValueError, "std must be a number of at least 0"),
    (lambda: init.normal_(empty(3), std=np.nan), ValueError, "std must be a number of at least 0"),
    (lambda: init.trunc_normal_(empty(3), a=8, b=9), ValueError, "less than 1 %"),
    (lambda: init.trunc_normal_(empty(3), a=1, b=-1), ValueError, "less than 1 %"),
    (lambda: init.kaiming_normal_(empty(3)), ValueError, "two or more axes"),
    (lambda: init.kaiming_normal_(empty(3, 3), mode="fan"), ValueError, "mode is 'fan_in' or 'fan_out'"),
    (lambda: init.xavier_normal_(empty()), ValueError, "two or more axes"),
    (lambda: init.orthogonal_(empty(3)), ValueError, "two or more axes"),
    (lambda: init.eye_(empty(3)), ValueError, "two axes"),
    (lambda: init.calculate_gain("swish"), ValueError, "nonlinearity is 'linear'")])
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_layers_start_as_pytorchs_formula_says():
    """Drawn layer by layer: a weight, then its bias, uniform in +-1/sqrt(fan in)."""
    mg.random.seed(0)
    net = nn.Sequential(nn.Linear(9, 4), nn.Conv2d(4, 6, 3, groups=2), nn.Embedding(5, 3), nn.GRU(4, 2),
                        nn.MultiheadAttention(4, 2))
    rng = np.random.default_rng(0)
    uniform = lambda fan, *shape: rng.uniform(-1 / math.sqrt(fan), 1 / math.sqrt(fan), shape).astype(np.float32)
    expected = {
        "0.weight": uniform(9, 4, 9), "0.bias": uniform(9, 4), "1.weight": uniform(18, 6, 2, 3, 3), "1.bias": uniform(18, 6),
        "2.weight": rng.standard_normal((5, 3), np.float32), "3.weight_ih_l0": uniform(2, 6, 4),
        "3.weight_hh_l0": uniform(2, 6, 2), "3.bias_ih_l0": uniform(2, 6), "3.bias_hh_l0": uniform(2, 6),
        "4.in_proj_weight": uniform(4, 12, 4),
        "4.in_proj_bias": np.zeros(12), "4.out_proj.weight": uniform(4, 4, 4), "4.out_proj.bias": uniform(4, 4)}
    state = net.state_dict()
    assert list(state) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(state[name], array, err_msg=name)


# Of each model from seed 0: the sum of its parameters' magnitudes, and one number of the last of its weights.
STARTS = {
    "Conv4": (lambda: nn.Conv4(3, 16), 331.38694, -0.057136372),
    "ConvLarge": (lambda: nn.ConvLarge(7), 37547.383, -0.012103786),
    "ResNet": (lambda: nn.resnet18(num_classes=7, small_images=True), 219684.53, -0.030667905),
    "WRN": (lambda: nn.WideResNet(16, 2, 7), 26650.72, -0.042802051),
    "ViT": (lambda: nn.VisionTransformer(32, 8, 3, 7, 32, 3, 4), 819.31815, -0.049550511),
    "BERT": (lambda: nn.BERT(50, 16, 2, 2, 32, 20), 251.30735, -0.016842168),
    "CLIP": (lambda: nn.CLIPText(50, 16, 2, 2, 32, 20, 8), 510.60467, -0.018967353)}


@pytest.mark.parametrize("name", STARTS)
def test_models_start_with_the_same_numbers_as_ever(name):
    make, total, last = STARTS[name]
    mg.random.seed(0)
    weights = [p.numpy() for p in make().parameters() if p.ndim > 1]
    assert sum(abs(w).sum(dtype=float) for w in weights) == pytest.approx(total, rel=1e-6)
    assert max(weights, key=np.size).ravel()[-1] == pytest.approx(last, rel=1e-6)


@pytest.mark.parametrize("wrong", [None, "w", 3, mg.Tensor([[1, 2]]), np.ones((2, 3))], ids=repr)
@pytest.mark.parametrize("name", [name for name, f in vars(init).items() if name.endswith("_") and not name.startswith("_")] +
                         ["fan_in_and_fan_out"])
def test_only_floating_point_tensors_are_filled(name, wrong):
    more = (0.5,) if name == "constant_" else ()
    with pytest.raises(TypeError, match=f"{name}|fan_in_and_fan_out|kaiming"):
        getattr(init, name)(wrong, *more)
