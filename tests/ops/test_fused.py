"""Operations of layers: fused paths equal definitions, derivatives are right to third order; drawn shapes and strides."""
import contextlib
import functools
import math

import numpy as np
import pytest
from checks import arrays, bfloat16, check_derivatives, definitions, wants_bfloat16
from hypothesis import given, settings, strategies as st

import minigrad as mg
from minigrad import backend
from minigrad.backend.cpu import native
from minigrad.backend.cpu.paths import PATHS
from minigrad.ops import activation, attention, conv, ctc, linalg, loss, normalization, projection, reduce

QUICK = settings(max_examples=8, deadline=None, derandomize=True)
TOLERANCES = {np.float64: None, np.float32: 2e-5, np.float16: 5e-3} | ({bfloat16: 4e-2} if bfloat16 else {})
side = st.integers(1, 4)


def check_fused(operation, inputs, atol=1e-10, **options):
    """Value and first derivatives of a Fused operation equal those of its definition, and are in the dtype of the inputs."""
    for dtype, tolerance in TOLERANCES.items():
        results = []
        for f, computed in ((operation, dtype), (operation.definition, np.float64)):
            xs = [mg.Tensor(x.astype(dtype).astype(computed) if x.dtype.kind == "f" else x, requires_grad=x.dtype.kind == "f")
                  for x in inputs]
            y = f(*xs, **options)
            y.backward(np.cos(np.arange(y.size)).astype(dtype).astype(computed).reshape(y.shape))
            results.append([y] + [x.grad for x in xs if x.grad is not None])
        for a, b in zip(*results):
            assert a.dtype == dtype
            np.testing.assert_allclose(a.numpy().astype(float), b.numpy(), rtol=tolerance or 1e-9, atol=tolerance or atol)


ACTIVATIONS = {"gelu": {}, "gelu_tanh": {}, "silu": {}, "leaky_relu": dict(negative_slope=0.1), "softplus": {}, "softsign": {},
               "limited_relu": dict(most=2.5), "limited": dict(least=-1.5, most=2.5), "elu": dict(alpha=1.5), "hardswish": {}}
FUSED = {name: getattr(activation, "_fused_" + name) for name in ACTIVATIONS}


@pytest.mark.parametrize("name", ACTIVATIONS)
@QUICK
@given(data=st.data())
def test_activations(name, data):
    x = data.draw(arrays(tuple(data.draw(st.lists(st.integers(0, 4), max_size=3))), -4, 4))
    operation = FUSED[name]
    check_fused(operation, [x], **ACTIVATIONS[name])
    check_derivatives(lambda x: operation(x, **ACTIVATIONS[name]), [x])


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_activations_of_large_arrays_and_large_numbers(name):
    x = np.random.default_rng(0).normal(size=(70_000, 5)) * 3
    x[0] = [0, 1e4, -1e4, 100, -100]
    operation = FUSED[name]
    for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 1e-6)):
        a = [mg.Tensor(v, requires_grad=True) for v in (x.astype(dtype), x.astype(dtype).astype(np.float64))]
        with np.errstate(over="ignore"):
            y, z = operation(a[0], **ACTIVATIONS[name]), operation.definition(a[1], **ACTIVATIONS[name])
            y.sum().backward()
            z.sum().backward()
        np.testing.assert_allclose(y.numpy(), z.numpy(), rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(a[0].grad.numpy(), a[1].grad.numpy(), rtol=tolerance, atol=3 * tolerance)


@pytest.mark.parametrize("name", ["elu", "hardswish", "limited"])
def test_kernels_of_activations_do_as_the_definitions_with_special_numbers(name):
    special = np.array([0, -0.0, 1e-7, -1e-7, -1e-40, -1.5, 2.5, -3, 3, -17, -88, -200, 1e38, -1e38, np.inf, -np.inf, np.nan], np.float32)
    operation, found = FUSED[name], []
    assert not native.kernel(name) or backend.path(name, [special], ACTIVATIONS[name]) is not None
    for f in (operation, operation.definition):
        for g in (1, np.inf, np.nan):
            x = mg.Tensor(special, requires_grad=True)
            y = f(x, **ACTIVATIONS[name])
            with np.errstate(invalid="ignore"):
                y.backward(np.where(special > 0, np.float32(g), np.float32(1)))
            found.append((y.numpy(), x.grad.numpy()))
    for one, other in zip(found[:3], found[3:]):
        for a, b in zip(one, other):
            np.testing.assert_allclose(a, b, rtol=3e-7, atol=1e-7)
            np.testing.assert_allclose(a[:5], b[:5], rtol=3e-7)  # of small numbers too to all digits


@pytest.mark.parametrize("shape, axes", [((5,), (0,)), ((4, 3), (0, 1)), ((4, 3), (1, 0)), ((2, 3, 40), (0, 1, 2)), ((2, 3, 4, 5), (0, 2, 3, 1)),
                                         ((30, 8, 20, 30), (0, 1, 2, 3)), ((30, 8, 20, 30), (0, 2, 3, 1)), ((2, 1, 4, 5), (0, 1, 2, 3))])
def test_prelu_of_any_memory_order(shape, axes):
    rng = np.random.default_rng(0)
    x = rng.normal(size=[shape[a] for a in axes]).transpose(np.argsort(axes))
    for channels in {1, shape[1] if len(shape) > 1 else 1}:
        weight = rng.normal(size=(channels, *[1] * (len(shape) - 2)) if channels > 1 else ())
        check_fused(activation._fused_prelu, [x, weight], atol=1e-8)
        given = x.astype(np.float32), weight.astype(np.float32)
        assert not native.kernel("prelu") or backend.path("prelu", [np.asarray(a) for a in given]) is not None


def test_prelu_of_special_numbers():
    found = []
    for f in (activation._fused_prelu, activation._prelu):
        x = mg.Tensor(np.array([[np.inf, -np.inf, np.nan, 0, -0.0, 2, 3]], np.float32), requires_grad=True)
        weight = mg.Tensor(np.array([0.5, 0, 1, 2, 3, 4, 5], np.float32), requires_grad=True)
        with np.errstate(invalid="ignore"):
            y = f(x, weight)
            y.backward(np.array([[1, 1, 1, 1, 1, np.nan, np.inf]], np.float32))
        found.append([y, x.grad, weight.grad])
    for a, b in zip(*found):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_relu_of_large_arrays():
    x = mg.Tensor(np.random.default_rng(0).normal(size=(50, 30, 40)).transpose(0, 2, 1), requires_grad=True)
    y = mg.relu(x)
    y.backward(np.ones(y.shape))
    np.testing.assert_array_equal(y.numpy(), np.maximum(x.numpy(), 0))
    np.testing.assert_array_equal(x.grad.numpy(), x.numpy() > 0)


@pytest.mark.parametrize("kernels", [True, False])
def test_limited_relu_selects_the_gradient(kernels, monkeypatch):
    """Where the slope is 0 nothing of it is left, not even of infinity; NaN stays NaN and keeps its gradient."""
    if not kernels:
        monkeypatch.setattr("minigrad.backend.cpu.elementwise.kernel", lambda *args: None)
    x = [-np.inf, -1, -0.0, 0, 3, 6, 7, np.inf, np.nan]
    for dtype in (np.float32, np.float64):
        t = mg.Tensor(np.array(x, dtype), requires_grad=True)
        y = mg.relu6(t)
        np.testing.assert_array_equal(y.numpy(), [0, 0, 0, 0, 3, 6, 6, 6, np.nan])
        y.backward(np.full(9, np.inf, dtype))
        np.testing.assert_array_equal(t.grad.numpy(), [0, 0, 0, 0, np.inf, 0, 0, 0, np.inf])
        assert y.dtype == t.grad.dtype == dtype


@QUICK
@given(data=st.data())
def test_convolution_with_relu(data):
    groups, per, size = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3)), data.draw(st.integers(1, 5))
    n, out = data.draw(st.integers(0, 2)), groups * data.draw(st.integers(1, 3))
    x, w = data.draw(arrays((n, groups * per, size, size))), data.draw(arrays((out, per, 2, 2)))
    bias, most = data.draw(arrays((out,))), data.draw(st.sampled_from([0.5, 6.0, np.inf]))
    geometry = dict(stride=(data.draw(st.integers(1, 2)), 1), padding=(1, data.draw(st.integers(1, 2))), dilation=(1, 1))
    check_fused(conv._fused_conv2d_relu, [x, w, bias], most=most, groups=groups, **geometry)
    f = lambda x, w, b: mg.conv2d_relu(x, w, b, groups=groups, most=most, **geometry)
    plain = mg.conv2d(x, w, bias, groups=groups, **geometry)
    np.testing.assert_allclose(f(x, w, bias).numpy(), plain.numpy().clip(0, most), atol=1e-12)
    if abs(plain.numpy()).min(initial=1) > 1e-3 and abs(plain.numpy() - most).min(initial=1) > 1e-3:
        check_derivatives(f, [x, w, bias])
    assert f(*(a.astype(np.float32) for a in (x, w)), bias).dtype == np.float64  # as conv2d's


@pytest.mark.parametrize("one", [False, True])
@pytest.mark.parametrize("padding", ["same", "valid", 1, (0, 1)])
def test_convolution_with_relu_takes_what_the_convolution_takes(padding, one):
    rng = np.random.default_rng(0)
    x, w, bias = rng.normal(size=(3, 6, 7) if one else (2, 3, 6, 7)), rng.normal(size=(4, 3, 2, 3)), rng.normal(size=4)
    expected = mg.conv2d(x, w, bias, padding=padding, dilation=(1, 2)).numpy()
    np.testing.assert_allclose(mg.conv2d_relu(x, w, bias, padding=padding, dilation=(1, 2)).numpy(), expected.clip(0))
    layer = mg.nn.Conv2d(3, 4, (2, 3), padding=padding).to("float64")
    y = layer.convolve(mg.Tensor(x), layer.weight, layer.bias, "relu6")
    np.testing.assert_allclose(y.numpy(), layer(mg.Tensor(x)).numpy().clip(0, 6))
    y = layer.convolve(mg.Tensor(x), layer.weight, None, "relu")
    np.testing.assert_allclose(y.numpy(), mg.conv2d(x, layer.weight, padding=padding).numpy().clip(0))


def test_convolution_with_relu_refuses():
    x, w = np.zeros((1, 2, 4, 4)), np.zeros((3, 2, 2, 2))
    for call, message in ((lambda: mg.conv2d_relu(x, w, np.zeros(2)), "a bias .3,. wanted, got .2,."),
                          (lambda: mg.conv2d_relu(x, w, np.zeros(3), most=0), "most must be above 0, not 0"),
                          (lambda: mg.conv2d_relu(x, w, np.zeros(3), most=np.nan), "most must be above 0"),
                          (lambda: mg.conv2d_relu(x, w, np.zeros(3), stride=0), "conv2d_relu: stride must be"),
                          (lambda: mg.conv2d_relu(x, w[:, :1], np.zeros(3)), "conv2d_relu: images"),
                          (lambda: mg.conv2d_relu(x, w, np.zeros(3), 2, "same"), "conv2d_relu: padding 'same' wants"),
                          (lambda: mg.conv2d_relu(x, w, np.zeros(3), 1, "all"), "conv2d_relu: padding is 'same', 'valid'")):
        with pytest.raises(ValueError, match=message):
            call()


@QUICK
@given(data=st.data())
def test_softmax(data):
    x = data.draw(arrays(tuple(data.draw(st.lists(side, min_size=1, max_size=3)))))
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    for operation, public in ((reduce._fused_softmax, mg.softmax), (reduce._fused_log_softmax, mg.log_softmax)):
        check_fused(operation, [x])
        check_derivatives(lambda x: public(x, axis), [x])


def test_softmax_of_masked_rows():
    x = mg.Tensor(np.array([[-np.inf] * 3, [0, -np.inf, 1]]), requires_grad=True)
    y = mg.softmax(x)
    (y * np.arange(6).reshape(2, 3)).sum().backward()
    assert (y.numpy()[0] == 0).all() and (x.grad.numpy()[0] == 0).all() and np.isfinite(x.grad.numpy()).all()
    assert np.isnan(mg.softmax(np.array([np.nan, 0])).numpy()).all()
    assert mg.softmax(np.zeros((0, 3))).shape == (0, 3) and mg.softmax(np.zeros((3, 0))).shape == (3, 0)


@QUICK
@given(data=st.data())
def test_layer_norms(data):
    shape = tuple(data.draw(st.lists(side, min_size=1, max_size=2))) + (data.draw(st.integers(2, 5)),)
    x, w, b = data.draw(arrays(shape)), data.draw(arrays(shape[-1:])), data.draw(arrays(shape[-1:]))
    for affine in ([], [w], [w, b]):
        check_fused(normalization._fused_layer_norm, [x, *affine], eps=0.1)
    check_derivatives(lambda x, w, b: mg.layer_norm(x, shape[-1], w, b, 0.1), [x, w, b])
    for affine in ([], [w]):
        check_fused(normalization._fused_rms_norm, [x, *affine], eps=0.1)
    check_derivatives(lambda x, w: mg.rms_norm(x, shape[-1], w, 0.1), [x, w])


@QUICK
@given(data=st.data())
def test_bias(data):
    shape = data.draw(side), data.draw(side), data.draw(side), data.draw(side)
    y, bias = data.draw(arrays(shape)), data.draw(arrays(shape[1:2]))
    check_fused(conv._fused_bias, [y, bias])
    check_derivatives(lambda x, b: mg.conv2d(x, np.ones((shape[1], 1, 1, 1)), b, groups=shape[1]), [y, bias])


@pytest.mark.parametrize("dtype", [np.float16, pytest.param(bfloat16, marks=wants_bfloat16)])
def test_evaluation_keeps_16_bits_though_the_statistics_are_float32(dtype):
    x, w = np.random.default_rng(0).normal(size=(4, 3, 2, 2)).astype(dtype), np.ones(3, dtype)
    mu, var = np.full(3, 0.5, np.float32), np.full(3, 4, np.float32)
    y = mg.batch_norm(x, mu, var, w, w)
    assert y.dtype == dtype
    np.testing.assert_allclose(y.numpy().astype(float), (x.astype(float) - 0.5) / 2 + 1, rtol=8e-3)


def test_evaluation_of_whole_numbers_and_lists():
    x, mu, var = np.arange(12).reshape(4, 3), np.zeros(3), np.full(3, 100.0)
    np.testing.assert_allclose(mg.batch_norm(x, mu, var).numpy(), x / 10, rtol=1e-5)
    np.testing.assert_allclose(mg.batch_norm(x, mu, var, [2.0] * 3, [1.0] * 3).numpy(), x / 5 + 1, rtol=1e-5)


@pytest.mark.parametrize("dtype, tolerance", [(np.float16, 2e-3), pytest.param(bfloat16, 1e-2, marks=wants_bfloat16)])
@pytest.mark.parametrize("graph", [False, True])
def test_16_bits_are_summed_in_float32_at_every_order(graph, dtype, tolerance):
    x = (600 * np.random.default_rng(0).standard_normal((4, 6))).astype(dtype)  # the squares overflow in float16
    for f in (lambda x, w: mg.layer_norm(x, 6, w), lambda x, w: mg.batch_norm(x, None, None, w, training=True)):
        grads = []
        for computed in (dtype, np.float64):
            xs = [mg.Tensor(a.astype(computed), requires_grad=True) for a in (x, np.ones(6))]
            g = np.cos(np.arange(24)).astype(dtype).astype(computed)
            f(*xs).backward(g.reshape(4, 6), create_graph=graph)
            grads.append([a.grad.numpy() for a in xs])
        for half, right in zip(*grads):
            assert half.dtype == dtype
            np.testing.assert_allclose(half.astype(float), right, rtol=tolerance, atol=tolerance * np.abs(right).max())


@QUICK
@given(data=st.data())
def test_gradient_of_batch_norm(data):
    shape = data.draw(side), data.draw(side), data.draw(st.integers(2, 4)), data.draw(side)
    shape = shape if data.draw(st.booleans()) else (shape[2], shape[1])
    g, x, w = data.draw(arrays(shape)), data.draw(arrays(shape)), data.draw(arrays((shape[1],)))
    check_fused(normalization._fused_norm_gradient, [g, x, w], eps=0.1)
    check_derivatives(lambda g, x, w: normalization._fused_norm_gradient(g, x, w, eps=0.1), [g, x, w])


@QUICK
@given(data=st.data())
def test_other_normalisations(data):
    n, c, h = data.draw(side), 2 * data.draw(st.integers(1, 2)), data.draw(st.integers(2, 3))
    x, w, b = data.draw(arrays((n, c, h), 0.2, 2)), data.draw(arrays((c,))), data.draw(arrays((c,)))
    check_derivatives(lambda x, w, b: mg.group_norm(x, 2, w, b, 0.1), [x, w, b])
    check_derivatives(lambda x: mg.l2_normalize(x, 1), [x])
    check_derivatives(lambda x, y: mg.cosine_similarity(x, y, 1), [x, data.draw(arrays((n, c, h), 0.2, 2))])
    check_derivatives(mg.weight_norm, [x, data.draw(arrays((n, 1, 1)))])


def test_normalising_zeros_is_finite():
    x = mg.Tensor(np.zeros((2, 3)), requires_grad=True)
    y = mg.l2_normalize(x).sum() + mg.cosine_similarity(x, np.ones((2, 3))).sum() + mg.weight_norm(x, np.ones((2, 1))).sum()
    y.backward()
    assert np.isfinite(x.grad.numpy()).all() and float(y) == 0
    assert mg.layer_norm(np.zeros((0, 3)), 3).shape == (0, 3) and mg.group_norm(np.zeros((0, 4, 2)), 2).shape == (0, 4, 2)


@QUICK
@given(data=st.data())
def test_cross_entropy(data):
    n, c = data.draw(st.integers(1, 5)), data.draw(st.integers(2, 5))
    x = data.draw(arrays((n, c)))
    labels = np.array(data.draw(st.lists(st.integers(0, c - 1), min_size=n, max_size=n)))
    labels[data.draw(st.integers(0, n)):] = -100
    smoothing = data.draw(st.sampled_from([0.0, 0.2]))
    check_fused(loss._fused_cross_entropy, [x, labels], smoothing=smoothing, ignored=-100)
    check_derivatives(lambda x: mg.cross_entropy(x, labels, smoothing, reduction="sum"), [x])
    p = data.draw(arrays((n, c), 0.1, 1))
    check_derivatives(lambda x, p: mg.cross_entropy(x, p, smoothing), [x, p])


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gradients_that_can_be_differentiated_again_are_the_same(dtype, smoothing):
    x = np.array([[-np.inf] * 3, [0, -np.inf, 1], [np.nan, 0, 0], [np.inf, 1, -np.inf], [9, -2, 0], [1, 2, 3]], dtype)
    w, b, labels = np.array([[0.5, -1, 2], [np.inf, 0, 1]], dtype), np.ones(2, dtype), np.array([0, 2, 1, 0, 0, -100])
    for f, inputs in ((lambda x: mg.cross_entropy(x, labels, smoothing, reduction="sum"), [x]), (mg.linear, [x, w, b]),
                      (mg.linear, [x.reshape(1, 2, 3, 3), w])):
        found = []
        for graph in (False, True):
            xs = [mg.Tensor(v, requires_grad=True) for v in inputs]
            with np.errstate(invalid="ignore"):
                found.append(mg.grad(f(*xs).sum(), xs, create_graph=graph))
        for once, again in zip(*found):
            assert once.dtype == again.dtype == dtype
            np.testing.assert_allclose(once.numpy(), again.numpy(), rtol=1e-6 if dtype != np.float16 else 2e-3, atol=1e-6)


@pytest.mark.parametrize("name, low", [("mse_loss", -2), ("huber_loss", -2), ("kl_div", 0.1), ("kl_divergence", -2),
                                       ("binary_cross_entropy_with_logits", 0.1)])
@QUICK
@given(data=st.data())
def test_losses(name, low, data):
    shape = (data.draw(side), data.draw(side))
    f = lambda x, t: getattr(mg, name)(x, t, reduction="sum")
    check_derivatives(f, [data.draw(arrays(shape)), data.draw(arrays(shape, low, 0.9))])
    assert f(np.zeros((2, 3), np.float32), np.full((2, 3), 0.5, np.float32)).dtype == np.float32


def test_losses_at_the_edge():
    p = mg.Tensor(np.array([0.0, 1.0, 0.5]), requires_grad=True)
    y = mg.binary_cross_entropy(p, np.array([0.0, 1.0, 1.0]), reduction="sum")
    y.backward()
    assert float(y) == pytest.approx(np.log(2)) and np.isfinite(p.grad.numpy()).all()
    q = mg.Tensor(np.array([[0.0, 1.0]]), requires_grad=True)
    mg.kl_div(np.log([[0.5, 0.5]]), q, "batchmean").backward()
    assert np.isfinite(q.grad.numpy()).all()
    logits = np.zeros((2, 3))
    assert np.isnan(float(mg.cross_entropy(logits, np.array([-100, -100]))))
    assert float(mg.cross_entropy(logits, np.array([-100, 1]), reduction="sum")) == pytest.approx(np.log(3))
    assert mg.cross_entropy(np.zeros((0, 3)), np.zeros(0, int), reduction="none").shape == (0,)
    for bad, message in (((logits, np.array([0, 3])), "labels from 0 to 2 wanted for logits of 3 classes, got 0 to 3"),
                         ((logits, np.zeros(3, int)), r"labels of shape \(2,\) wanted"),
                         ((logits, np.zeros((2, 4))), "probabilities of the logits' shape")):
        with pytest.raises(ValueError, match=message):
            mg.cross_entropy(*bad)
    with pytest.raises(TypeError, match="must be integers"):
        mg.cross_entropy(logits, np.array([True, False]))
    with pytest.raises(ValueError, match="reduction is"):
        mg.mse_loss(logits, logits, reduction="max")
    with pytest.raises(ValueError, match="one shape"):
        mg.mse_loss(logits, logits[0])


@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
def test_attention(data):
    from minigrad.backend.cpu import attention as cpu
    n, h, lq, lk, d = (data.draw(st.integers(1, 3)) for _ in range(5))
    q, k, v = (data.draw(arrays((n, h, length, d))) for length in (lq, lk, lk))
    kind = data.draw(st.sampled_from(["none", "bool", "rows", "additive", "bias"]))
    masks = {"none": [], "bool": [np.random.default_rng(0).random((n, 1, lq, lk)) > 0.4],
             "rows": [np.arange(lk)[None, None, None] < np.arange(n)[:, None, None, None]],  # the first sample sees nothing
             "additive": [data.draw(arrays((n, h, lq, lk)))], "bias": [data.draw(arrays((1, h, 1, lk)))]}[kind]
    options = dict(causal=data.draw(st.sampled_from([None, 0, 1])), scale=0.7)
    before, cpu.BLOCK_SIZE = cpu.BLOCK_SIZE, data.draw(st.sampled_from([1, 20, 1 << 17]))
    try:
        check_fused(attention._fused_attention, [q, k, v, *masks], **options)
        if kind in ("none", "rows", "additive"):
            inputs = [q, k, v, *(masks if kind == "additive" else [])]
            check_derivatives(lambda q, k, v, *m: attention._fused_attention(q, k, v, *(m or masks), **options), inputs)
        if lq == lk:
            qkv = np.stack([a.transpose(0, 2, 1, 3) for a in (q, k, v)], 2)
            check_fused(attention._fused_packed, [qkv, *masks], **options)
    finally:
        cpu.BLOCK_SIZE = before


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@settings(max_examples=20, deadline=None, derandomize=True)
@given(data=st.data())
def test_infinite_scores_share_the_attention(dtype, data):
    n, h, lq, lk, d, seed = (data.draw(st.integers(1, most)) for most in (2, 2, 20, 20, 3, 99))
    rng = np.random.default_rng(seed)
    q, k, v = (rng.normal(size=(n, h, length, d)).astype(dtype) for length in (lq, lk, lk))
    rows = [lq, 1][data.draw(st.integers(0, 1))]
    mask = rng.choice([math.inf, -math.inf, 0.5], (n, 1, rows, lk), p=[0.1, 0.4, 0.5]).astype(dtype)  # rows of -inf among them
    causal = data.draw(st.booleans())
    g = rng.normal(size=q.shape).astype(dtype)

    def results():
        leaves = [mg.Tensor(x, requires_grad=True) for x in (q, k, v)]
        y = mg.scaled_dot_product_attention(*leaves, mask, is_causal=causal)
        y.backward(g)
        return [x.numpy() for x in (y, *[x.grad for x in leaves])]

    with definitions():
        right = results()
    assert np.isfinite(right[0]).all()
    for c in (True, False):
        with native.using(c):
            for here, there in zip(results(), right):
                np.testing.assert_allclose(here, there, rtol=1e-4, atol=1e-5)
    with native.using(False):
        leaf = mg.Tensor(mask, requires_grad=True)
        mg.scaled_dot_product_attention(q, k, v, leaf, is_causal=causal).backward(g)
    assert np.isfinite(leaf.grad.numpy()).all()


@pytest.mark.parametrize("whole", [np.int64, np.int32, np.uint8, bool])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, pytest.param(bfloat16, marks=wants_bfloat16)])
def test_parameters_of_whole_numbers_promote_as_in_the_definition(whole, dtype):
    x, w = mg.Tensor(np.array([[-1.25, 1.5, 0.5, 2]], dtype)), np.array([2, 1, 0, 1]).astype(whole)
    for f in (lambda: mg.layer_norm(x, 4, w), lambda: mg.layer_norm(x, 4, w, w), lambda: mg.layer_norm(x, 4, None, w),
              lambda: mg.layer_norm(x, 4, w, np.ones(4, dtype)), lambda: mg.layer_norm(x, (1, 4), w[None]),
              lambda: mg.rms_norm(x, 4, w), lambda: mg.group_norm(x, 2, w, w), lambda: mg.linear(x, w[None], w[:1]),
              lambda: mg.batch_norm(mg.concatenate([x, -x]), None, None, w, w, training=True), lambda: mg.prelu(x, w)):
        with definitions():
            right = f()
        for c in (True, False):
            with native.using(c):
                assert f().dtype == right.dtype
                np.testing.assert_allclose(f().numpy().astype(float), right.numpy().astype(float), rtol=2e-2, atol=1e-5)


def test_attention_in_many_blocks_on_all_threads():
    rng = np.random.default_rng(0)
    for shape in ((5, 3, 70, 8), (2, 2, 500, 8)):
        q, k, v = (rng.normal(size=shape) for _ in range(3))
        for causal in (None, 0):
            check_fused(attention._fused_attention, [q, k, v], causal=causal, scale=0.3)


def test_attention_errors_and_shapes():
    q, k = np.zeros((2, 3, 4, 5)), np.zeros((2, 3, 6, 5))
    attend = mg.scaled_dot_product_attention
    assert attend(q, k, np.zeros((2, 3, 6, 2))).shape == (2, 3, 4, 2) and attend(q[0, 0], k[0, 0], k[0, 0]).shape == (4, 5)
    assert attend(q[:0], k[:0], k[:0]).shape == (0, 3, 4, 5)
    assert attend(q[0], k[0], k[0], np.ones((3, 4, 6), bool)).shape == (3, 4, 5)
    for bad, message in (((q, k, k[:, :, :5]), "wanted"), ((q, k[..., :4], k), "wanted"),
                         ((q, k, k, np.ones((4, 5), bool)), "a mask that")):
        with pytest.raises(ValueError, match=message):
            attend(*bad)
    with pytest.raises(TypeError, match="astype"):
        attend(q, k, k, np.ones((4, 6), int))


@QUICK
@given(data=st.data())
def test_linear_and_embedding(data):
    shape = tuple(data.draw(st.lists(side, max_size=2)))
    a, b = data.draw(side), data.draw(side)
    x, w, bias = data.draw(arrays((*shape, a))), data.draw(arrays((b, a))), data.draw(arrays((b,)))
    for inputs in ([x, w], [x, w, bias]):
        check_fused(projection._fused_linear, inputs)
        check_derivatives(mg.linear, inputs)
    indices = np.array(data.draw(st.lists(st.integers(0, b - 1), max_size=6)), int)
    pad = data.draw(st.sampled_from([None, 0]))
    y = mg.Tensor(w, requires_grad=True)
    out = mg.embedding(indices, y, pad)
    np.testing.assert_array_equal(out.numpy(), w[indices])
    g = np.random.default_rng(0).normal(size=out.shape)
    out.backward(g)
    expected = np.zeros_like(w)
    np.add.at(expected, indices, g)
    expected[0] *= pad is None
    np.testing.assert_allclose(y.grad.numpy(), expected)
    check_derivatives(lambda w: mg.embedding(indices, w) ** 3, [w])


@QUICK
@given(data=st.data())
def test_affine_maps_of_several_dtypes(data):
    """The result has the dtype that all have together, and the digits of that."""
    dtypes = [data.draw(st.sampled_from([np.float32, np.float64])) for _ in range(3)]
    rows = data.draw(st.sampled_from([0, 2, 3000]))
    x, w, bias = (data.draw(arrays(shape)).astype(dtype) for shape, dtype in zip(((rows, 40), (30, 40), (30,)), dtypes))
    y = mg.linear(x, w, bias)
    assert y.dtype == np.result_type(*dtypes)
    tolerance = 1e-9 if {np.float64} == set(dtypes) else 1e-4
    np.testing.assert_allclose(y.numpy(), x.astype(float) @ w.T.astype(float) + bias, rtol=tolerance, atol=tolerance)


SEVERAL = {  # fused operations of several inputs, and the shapes of these
    "linear": (lambda x, w, b: mg.linear(x, w, b), [(5, 4), (3, 4), (3,)]),
    "layer_norm": (lambda x, w, b: mg.layer_norm(x, 4, w, b), [(5, 4), (4,), (4,)]),
    "rms_norm": (lambda x, w: mg.rms_norm(x, 4, w), [(5, 4), (4,)]),
    "group_norm": (lambda x, w, b: mg.group_norm(x, 2, w, b), [(3, 4, 2), (4,), (4,)]),
    "batch_norm": (lambda x, w, b: mg.batch_norm(x, None, None, w, b, True), [(5, 4, 2, 2), (4,), (4,)]),
    "norm_relu_pool": (lambda x, w, b: mg.norm_relu_pool(x, None, None, w, b, True), [(5, 4, 2, 2), (4,), (4,)]),
    "attention": (lambda q, k, v: mg.scaled_dot_product_attention(q, k, v), [(1, 2, 3, 4), (1, 2, 5, 4), (1, 2, 5, 4)]),
    "conv2d": (lambda x, w, b: mg.conv2d(x, w, b), [(2, 3, 5, 5), (4, 3, 2, 2), (4,)]),
    "conv_transpose2d": (lambda x, w, b: mg.conv_transpose2d(x, w, b), [(2, 3, 5, 5), (3, 4, 2, 2), (4,)]),
    "grid_sample": (lambda x, grid: mg.grid_sample(x, grid), [(2, 3, 5, 5), (2, 2, 2, 2)]),
    "rnn": (lambda *xs: mg.rnn(*xs, "relu")[0], [(3, 2, 3), (2, 2), (2, 3), (2, 2), (2,), (2,)]),
    "gru": (lambda *xs: mg.gru(*xs)[0], [(3, 2, 3), (2, 2), (6, 3), (6, 2), (6,), (6,)]),
    "lstm": (lambda *xs: mg.lstm(*xs)[0], [(3, 2, 3), (2, 2), (2, 2), (8, 3), (8, 2), (8,), (8,)])}


@pytest.mark.parametrize("name", SEVERAL)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(data=st.data())
def test_inputs_of_several_dtypes(name, data):
    """Results have the dtype that all have together, gradients that of their input, both the digits of the least exact one."""
    f, shapes = SEVERAL[name]
    inputs = [data.draw(arrays(shape, -1, 1)).astype(data.draw(st.sampled_from([np.float32, np.float64, np.float16])))
              for shape in shapes]
    tolerance = max({np.float64: 1e-9, np.float32: 1e-4, np.float16: 2e-2}[x.dtype.type] for x in inputs)
    exact = [mg.Tensor(x.astype(np.float64), requires_grad=True) for x in inputs]
    expected = f(*exact)
    g = np.cos(np.arange(expected.size)).reshape(expected.shape)
    expected.backward(g)
    for context in (contextlib.nullcontext(), definitions()):
        with context:
            xs = [mg.Tensor(x, requires_grad=True) for x in inputs]
            y = f(*xs)
            y.backward(g.astype(y.dtype))
        assert y.dtype == np.result_type(*inputs)
        np.testing.assert_allclose(y.numpy(), expected.numpy(), rtol=tolerance, atol=tolerance)
        for a, b in zip(xs, exact):
            assert a.grad.dtype == a.dtype
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=10 * tolerance, atol=20 * tolerance)


@QUICK
@given(data=st.data())
def test_dropout(data):
    x = data.draw(arrays(tuple(data.draw(st.lists(st.integers(0, 4), max_size=3)))))

    def drop(x):
        mg.random.seed(3)
        return mg.dropout(x * x, 0.4)

    check_derivatives(drop, [x])
    assert mg.dropout(x.astype(np.float32), 0.4).dtype == np.float32
    assert (mg.dropout(x, 1.0).numpy() == 0).all() and (mg.dropout(x, 0.4, training=False).numpy() == x).all()


def test_dropout_drops_its_share_and_keeps_the_mean():
    mg.random.seed(0)
    y = mg.dropout(np.ones(400_001, np.float32), 0.3).numpy()
    assert abs((y == 0).mean() - 0.3) < 0.004 and abs(y.mean() - 1) < 0.006


@QUICK
@given(data=st.data())
def test_convolutions_of_sequences_and_transposed(data):
    n, c, o, k = data.draw(side), data.draw(side), data.draw(side), data.draw(st.integers(1, 3))
    x = data.draw(arrays((n, c, data.draw(st.integers(3, 6)))))
    stride, padding = data.draw(st.integers(1, 2)), data.draw(st.integers(0, k - 1))
    b = data.draw(arrays((o,)))
    check_derivatives(lambda x, w, b: mg.conv1d(x, w, b, stride, padding), [x, data.draw(arrays((o, c, k))), b])
    check_derivatives(lambda x, w, b: mg.conv_transpose1d(x, w, b, stride, padding), [x, data.draw(arrays((c, o, k))), b])


@QUICK
@given(data=st.data())
def test_resampling(data):
    x = data.draw(arrays((data.draw(side), 2, data.draw(st.integers(2, 5)), data.draw(st.integers(2, 5)))))
    mode, corners = data.draw(st.sampled_from(["nearest", "area", "bilinear", "bicubic"])), data.draw(st.booleans())
    size, corners = (data.draw(side), data.draw(side)), corners and mode[0] == "b"
    check_derivatives(lambda x: mg.interpolate(x, size, mode=mode, align_corners=corners) ** 2, [x])
    check_derivatives(lambda x: mg.adaptive_avg_pool2d(x, size) ** 2, [x])
    apart = np.argsort(np.argsort(x, None)).reshape(x.shape).astype(float)  # no ties, no kinks nearby
    check_derivatives(lambda x: mg.adaptive_max_pool2d(x, size) ** 2, [apart])
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    cells = rng.integers(-1, 4, (len(x), 2, 3, 2)) + rng.uniform(0.2, 0.8, (len(x), 2, 3, 2))  # pixels, away from the kinks
    grid = (2 * cells + 1) / np.array(x.shape[:1:-1]) - 1
    check_derivatives(lambda x, grid: mg.grid_sample(x, grid), [x, grid])
    check_derivatives(lambda x, grid: mg.grid_sample(x, grid, "border"), [x, grid])


@pytest.mark.parametrize("bad", [None, np.nan, np.inf])
@pytest.mark.parametrize("border", [False, True])
@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (3, 1, 1, 2), (1, 2, 8, 1), (1, 40, 3, 16)])
def test_the_kernel_of_images_read_at_points_equals_the_definition(shape, corners, border, bad):
    """At points whose places are exact in float32: between pixels, on them, at the edges, outside; and at NaN and infinity."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape).astype(np.float32)
    grid = (rng.integers(-12, 13, (shape[0], 9, 30, 2)) / 8).astype(np.float32)
    grid[:, 0, :10] = rng.choice([-np.inf, np.inf, np.nan, 3.5, -5, 1e30], size=(shape[0], 10, 2))
    grid[-1, 5, 7] = 0  # the middle of an odd number of pixels
    g = rng.normal(size=(*shape[:2], 9, 30)).astype(np.float32)
    if bad is not None:
        x[0, 0, -1, 1 % shape[3]] = g[-1, 0, 5, 7] = bad
    results = []
    for dtype, context in ((np.float32, contextlib.nullcontext()), (np.float64, definitions())):
        with context, np.errstate(all="ignore"):
            xs = [mg.Tensor(a.astype(dtype), requires_grad=True) for a in (x.swapaxes(2, 3), grid)]
            y = mg.grid_sample(xs[0].swapaxes(2, 3), xs[1], "border" if border else "zeros", corners)
            y.backward(g.astype(dtype))
            results.append([y, *[t.grad for t in xs]])
    for a, b in zip(*results):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-5)


def test_resampling_errors():
    x = np.zeros((1, 1, 4, 4))
    for call, message in (
            (lambda: mg.interpolate(x), "give one of"), (lambda: mg.interpolate(x, 2, mode="cubic"), "mode is"),
            (lambda: mg.interpolate(x[0, 0], 2), "sequences .* or images"), (lambda: mg.interpolate(x, 2, mode="linear"), "sequences"),
            (lambda: mg.interpolate(x[0], 2, mode="bilinear"), r"images \(N, C, H, W\) wanted for mode 'bilinear'"),
            (lambda: mg.interpolate(x[0], (2, 2)), "size must be one"), (lambda: mg.interpolate(x[0], None, (2, 2)), "one positive"),
            (lambda: mg.grid_sample(x, np.zeros((1, 1, 1, 2)), mode="cubic"), "mode is"), (lambda: mg.grid_sample(x, np.zeros((2, 1, 1, 2))), "points"),
            (lambda: mg.grid_sample(x[:, :, :0], np.zeros((1, 1, 1, 2))), "of pixels"),
            (lambda: mg.grid_sample(x[..., :0], np.zeros((1, 0, 1, 2)), "border"), "of pixels"),
            (lambda: mg.conv1d(x, x), "sequences"), (lambda: mg.conv_transpose2d(x, np.zeros((2, 1, 1, 1))), "filters"),
            (lambda: mg.group_norm(x, 3), "divisible by 3"), (lambda: mg.layer_norm(x, 5), "last axes"),
            (lambda: mg.gelu(x, "sinh"), "approximate"), (lambda: mg.linear(x, np.zeros((2, 3))), "weight")):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="floating point wanted"):
        mg.silu(np.arange(3))
    y = mg.grid_sample(x, np.full((1, 1, 1, 2), np.nan))
    assert y.shape == (1, 1, 1, 1)


def recurrent_inputs(name, length, n, size, inputs=3):
    """x, states and parameters of a unit in UNITS: their shapes."""
    gates, states = {"rnn": (1, 1), "relu": (1, 1), "gru": (3, 1), "lstm": (4, 2)}[name]
    rows = gates * size
    return [(length, n, inputs), *[(n, size)] * states, (rows, inputs), (rows, size), (rows,), (rows,)]


UNITS = {"rnn": mg.rnn, "relu": functools.partial(mg.rnn, nonlinearity="relu"), "gru": mg.gru, "lstm": mg.lstm}


@pytest.mark.parametrize("name", ["rnn", "gru", "lstm"])
@QUICK
@given(data=st.data())
def test_recurrent_units(name, data):
    inputs = [data.draw(arrays(s)) for s in recurrent_inputs(name, *(data.draw(st.integers(1, 3)) for _ in range(3)))]
    last = (lambda y: y[1][0] + y[1][1] ** 2) if name == "lstm" else lambda y: y[1]
    check_derivatives(lambda *xs: getattr(mg, name)(*xs)[0], inputs, rtol=1e-4)
    check_derivatives(lambda *xs: last(getattr(mg, name)(*xs, reverse=True)), inputs[:-2], rtol=1e-4)


@pytest.mark.parametrize("read", ["all states", "the last state", "both"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length, n, size", [(1, 1, 1), (1, 5, 3), (2, 4, 5), (7, 1, 33), (9, 6, 20), (3, 130, 8)])
@pytest.mark.parametrize("name", UNITS)
def test_recurrent_kernels_equal_the_definitions(name, length, n, size, reverse, read):
    """Whatever is read of the results; of strided and read-only memory too."""
    rng = np.random.default_rng(0)
    made = [rng.normal(size=s[::-1], scale=s[-1] ** -0.5).astype(np.float32).T for s in recurrent_inputs(name, length, n, size)]
    for x in made:
        x.flags.writeable = False
    for given in (made, made[:-1], made[:-2]):
        results = []
        for dtype, context in ((np.float32, contextlib.nullcontext()), (np.float64, definitions())):
            with context:
                xs = [mg.Tensor(x.astype(dtype, copy=False), requires_grad=True) for x in given]
                y, last = UNITS[name](*xs, reverse=reverse)
                assert y.dtype == dtype
                total = 0
                if read != "the last state":
                    total = total + (y * np.cos(np.arange(y.size)).reshape(y.shape).astype(dtype)).sum()
                if read != "all states":
                    total = total + (last[0] * 2 - last[1] if name == "lstm" else last).sum()
                total.backward()
                results.append([y, *(last if name == "lstm" else [last]), *[x.grad for x in xs]])
        for a, b in zip(*results):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=2e-5 * max(1, abs(b.numpy()).max()))


@pytest.mark.parametrize("name", UNITS)
def test_gradients_that_recurrent_units_are_given_stay_as_they_are(name):
    rng = np.random.default_rng(0)
    made = [rng.normal(size=s).astype(np.float32) for s in recurrent_inputs(name, 3, 4, 5)]
    y, last = UNITS[name](*(mg.Tensor(x, requires_grad=True) for x in made))
    for out in (y, *(last if name == "lstm" else [last])):
        g = rng.normal(size=out.shape).astype(np.float32)
        before = g.copy()
        out.backward(g, retain_graph=True)
        np.testing.assert_array_equal(g, before)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", UNITS)
def test_recurrent_units_of_samples_that_threads_share(name, reverse):
    rng = np.random.default_rng(0)
    made = [rng.normal(size=s, scale=s[-1] ** -0.5).astype(np.float32) for s in recurrent_inputs(name, 3, 101, 16)]
    results, before = [], mg.get_num_threads()
    for threads in (1, 2, 3):
        mg.set_num_threads(threads)
        try:
            xs = [mg.Tensor(x, requires_grad=True) for x in made]
            y, last = UNITS[name](*xs, reverse=reverse)
            (y.sum() + (last[1] if name == "lstm" else last).sum()).backward()
            results.append([y, *[x.grad for x in xs]])
        finally:
            mg.set_num_threads(before)
    for a, *others in zip(*results):
        for b in others:
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-5 * max(1, abs(b.numpy()).max()))


@pytest.mark.parametrize("name", UNITS)
def test_recurrent_units_of_numbers_that_are_none(name):
    """What is not a number stays with its sample; infinite and huge numbers do what they do to the definition."""
    rng = np.random.default_rng(0)
    x, *rest = [rng.normal(size=s) for s in recurrent_inputs(name, 4, 6, 5)]
    x[1, :4, 0] = np.nan, np.inf, -np.inf, 1e30
    values = []
    for dtype, context in ((np.float32, contextlib.nullcontext()), (np.float64, definitions())):
        with context, np.errstate(all="ignore"):
            values.append(UNITS[name](*(a.astype(dtype) for a in (x, *rest)))[0].numpy())
    np.testing.assert_allclose(*values, rtol=1e-5, atol=1e-5)
    assert np.isnan(values[0][1:, 0]).all() and np.isfinite(values[0][:, 3:]).all()


def test_the_candidate_of_small_and_large_numbers():
    """With an update gate of 0 the next state is tanh(x), to the last digits of numbers near 0 too."""
    x = np.concatenate([sign * np.logspace(-30, 3, 4001) for sign in (1, -1)] + [[0, np.inf, -np.inf]]).astype(np.float32)
    weight = np.zeros((3 * len(x), 1), np.float32)
    bias = np.concatenate([np.zeros_like(x), np.full_like(x, -np.inf), x])
    y = mg.gru_cell(mg.zeros(1, 1), mg.zeros(1, len(x)), weight, mg.zeros(3 * len(x), len(x)), bias)
    np.testing.assert_allclose(y.numpy()[0], np.tanh(x.astype(np.float64)), rtol=6e-7)


@QUICK
@given(data=st.data())
def test_distances(data):
    m, n, width = (data.draw(st.integers(1, 4)) for _ in range(3))
    lead = data.draw(st.sampled_from([(), (2,), (2, 1)]))
    x, y = data.draw(arrays((*lead, m, width))), data.draw(arrays((*lead, n, width)))
    check_fused(linalg._fused_cdist, [x, y + 3], p=2.0)
    check_derivatives(lambda x, y: mg.cdist(x, y + 3), [x, y])


@pytest.mark.parametrize("p", [1, 2, 3, math.inf])
@pytest.mark.parametrize("lead", [((), ()), ((3,), (3,)), ((2, 1), (3,)), ((), (2,))])
def test_distances_in_float32_are_those_in_float64(lead, p):
    """Of the norms and broadcast batches that no kernel takes, too."""
    rng, results = np.random.default_rng(0), []
    made = [rng.normal(size=(*batch, n, 6)) for batch, n in zip(lead, (4, 5))]
    for dtype in (np.float32, np.float64):
        xs = [mg.Tensor(x.astype(dtype), requires_grad=True) for x in made]
        d = mg.cdist(*xs, p)
        (d * np.cos(np.arange(d.size)).reshape(d.shape).astype(dtype)).sum().backward()
        results.append([d, *[x.grad for x in xs]])
    for a, b in zip(*results):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not native.kernel("distances"), reason="no C compiler")
def test_distances_of_large_small_and_equal_rows():
    """Squares neither overflow nor vanish; at a distance of 0 the slope is 0; what is infinite is so as in the definition."""
    rng = np.random.default_rng(0)
    near = rng.normal(size=(5, 7)).astype(np.float32)
    for scale in (1e30, 1e-30, 1):
        x = mg.Tensor((near * scale).astype(np.float32), requires_grad=True)
        y = mg.Tensor((near[:3] * scale + (rng.normal(size=(3, 7)) * 1e-4 * scale)).astype(np.float32), requires_grad=True)
        for other in (x, y):
            x.grad = y.grad = None
            d = mg.cdist(x, other)
            d.sum().backward()
            exact = [mg.Tensor(t.numpy().astype(float), requires_grad=True) for t in (x, other)]
            exact = [exact[0]] * 2 if other is x else exact
            expected = mg.cdist(*exact)
            expected.sum().backward()
            np.testing.assert_allclose(d.numpy(), expected.numpy(), rtol=1e-6)
            np.testing.assert_allclose(x.grad.numpy(), exact[0].grad.numpy(), rtol=1e-4, atol=1e-4)
    results = []
    for context in (contextlib.nullcontext(), definitions()):
        with context, np.errstate(all="ignore"):
            x = mg.Tensor(np.array([[1, np.inf], [np.nan, 0], [1, 2]], np.float32), requires_grad=True)
            d = mg.cdist(x, np.array([[1, np.inf], [1, 2]], np.float32))
            d.sum().backward()
            results.append((d.numpy(), x.grad.numpy()))
    for a, b in zip(*results):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("width", [1, 15, 16, 47, 100])
@pytest.mark.parametrize("rows, others", [(1, 9), (8, 3), (11, 40), (31, 16)])
def test_slopes_of_distances_of_many_rows(rows, others, width):
    rng = np.random.default_rng(0)
    x, y, g = (rng.normal(size=shape) for shape in ((2, rows, width), (2, others, width), (2, rows, others)))
    x[1, -1] = y[1, 0]  # a distance of 0
    x[0, -1] = y[0, -1] + 1e-22
    found = []
    for dtype in (np.float32, np.float64):
        xs = [mg.Tensor(a.astype(np.float32).astype(dtype), requires_grad=True) for a in (x, y)]
        found.append([a.numpy() for a in mg.grad(mg.cdist(*xs), xs, grad_outputs=mg.Tensor(g.astype(dtype)))])
    for got, want in zip(*found):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_what_counts_as_true_and_false_reaches_the_kernels():
    rng = np.random.default_rng(0)
    x, grid = rng.normal(size=(1, 2, 3, 3)).astype(np.float32), rng.uniform(-1, 1, (1, 2, 2, 2)).astype(np.float32)
    inputs = [rng.normal(size=s).astype(np.float32) for s in recurrent_inputs("gru", 3, 2, 4)]
    sample, run = lambda v: mg.grid_sample(x, grid, align_corners=v), lambda v: mg.gru(*inputs, reverse=v)[0]
    for value in (0, False, np.bool_(False), 1, True, np.bool_(True)):
        for f in (sample, run):
            np.testing.assert_array_equal(f(value).numpy(), f(bool(value)).numpy())
    np.testing.assert_array_equal(sample(None).numpy(), sample(False).numpy())


@pytest.mark.skipif(not native.kernel("distances"), reason="no C compiler")
@pytest.mark.parametrize("scale, g", [(1e-38, 1), (1e-40, 1), (1e-43, 1), (1e-37, 1e3), (1e-30, 1e12), (1e37, 1e-9),
                                      (1e30, 1e-14)])
def test_slopes_of_very_small_and_very_large_distances(scale, g):
    """A quotient by such a distance would overflow, or vanish."""
    rng = np.random.default_rng(0)
    x, y = ((rng.normal(size=(n, 5)) * scale).astype(np.float32) for n in (3, 4))
    xs = [mg.Tensor(a, requires_grad=True) for a in (x, y)]
    (g * mg.cdist(*xs)).sum().backward()
    differences = (x[:, None].astype(float) - y) / scale
    slopes = differences / np.linalg.norm(differences, axis=-1, keepdims=True)
    np.testing.assert_allclose(xs[0].grad.numpy() / g, slopes.sum(1), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(xs[1].grad.numpy() / g, -slopes.sum(0), rtol=1e-5, atol=1e-5)


def unaligned(times, n, classes, width, blank, seed):
    """log_p, blanks and labels in turn, lengths of inputs and of targets."""
    rng = np.random.default_rng(seed)
    log_p = rng.normal(size=(times, n, classes)) * 3
    log_p -= np.log(np.exp(log_p).sum(-1, keepdims=True))
    labels, lengths = rng.choice([c for c in range(classes) if c != blank], (n, width)), rng.integers(0, width + 1, n)
    spaced = np.full((n, 2 * width + 1), blank)
    spaced[:, 1::2] = np.where(np.arange(width) < lengths[:, None], labels, blank)
    return log_p, spaced, rng.integers(times // 2, times + 1, n), lengths


@QUICK
@given(data=st.data())
def test_the_loss_of_unaligned_sequences(data):
    times, n, classes, width = (data.draw(st.integers(low, high)) for low, high in ((1, 9), (1, 3), (2, 4), (1, 4)))
    blank = data.draw(st.integers(0, classes - 1))
    check_fused(ctc._fused_ctc, unaligned(times, n, classes, width, blank, data.draw(st.integers(0, 99))), blank=blank)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("width", [3, 21])
def test_long_unaligned_sequences(threads, width):
    """Of each size of vectors there are whole ones and a rest; on all threads; of a view."""
    before = mg.get_num_threads()
    mg.set_num_threads(threads)
    try:
        log_p, *rest = unaligned(70, 7, 11, width, 4, 0)
        found = []
        for x in (log_p.astype(np.float32), np.asfortranarray(log_p.astype(np.float32)), log_p):
            x = mg.Tensor(x, requires_grad=True)
            losses = ctc._fused_ctc(x, *map(mg.Tensor, rest), blank=4)
            losses.sum().backward()
            found.append((losses.numpy(), x.grad.numpy()))
        for a, view, exact in zip(*found):
            np.testing.assert_array_equal(a, view)
            np.testing.assert_allclose(a, exact, rtol=1e-6, atol=2e-4)
    finally:
        mg.set_num_threads(before)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan, -200, 1e30])
def test_the_loss_of_unaligned_sequences_of_special_numbers(bad):
    """Anywhere, one at a time, of a sequence beside others, one of which is too short for its target."""
    inputs = [np.zeros((4, 3, 3)), np.array([[0, 1, 0, 1, 0], [0, 1, 0, 2, 0], [0, 2, 0, 2, 0]]), np.array([4, 3, 2]), np.array([2, 1, 2])]
    inputs[0] += np.log([0.2, 0.5, 0.3])
    for at in np.ndindex(4, 3):
        log_p, results = inputs[0].astype(np.float32), []
        log_p[at[0], 0, at[1]] = bad
        for f in (ctc._fused_ctc, ctc._fused_ctc.definition):
            x = mg.Tensor(log_p, requires_grad=True)
            with np.errstate(all="ignore"):
                losses = f(x, *map(mg.Tensor, inputs[1:]), blank=0)
                losses.backward(np.array([1, 2, 3], np.float32))
            results.append((losses.numpy(), x.grad.numpy()))
        for a, b in zip(*results):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6, err_msg=str(at))


@QUICK
@given(data=st.data())
def test_running_products(data):
    x = data.draw(arrays(tuple(data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=3)))))
    check_fused(reduce._fused_cumprod, [x])
    check_fused(reduce._fused_prod, [x])
    check_derivatives(mg.cumprod, [x])
    check_derivatives(lambda x: mg.prod(x, -1), [x])


@pytest.mark.parametrize("f", [mg.cumprod, mg.prod])
@pytest.mark.parametrize("special", [0, -0.0, np.inf, np.nan, 1e-30, 1e30])
def test_products_of_what_cannot_be_divided_by(special, f):
    x = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    x[1, 2] = x[2, 0] = x[3, 1] = x[3, 4] = special
    results = []
    for context in (contextlib.nullcontext(), definitions()):
        with context, np.errstate(all="ignore"):
            t = mg.Tensor(x, requires_grad=True)
            y = f(t, 1)
            y.backward(np.cos(np.arange(y.size, dtype=np.float32)).reshape(y.shape))
            results.append((y.numpy(), t.grad.numpy()))
    for a, b in zip(*results):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@QUICK
@given(data=st.data())
def test_the_loss_of_logits(data):
    shape = data.draw(st.sampled_from([(3,), (2, 4), (5, 0)]))
    x, p, q = data.draw(arrays(shape)), data.draw(arrays(shape, 0, 1)), data.draw(arrays(shape, 0, 1))
    check_fused(loss._fused_logistic_loss, [x, p, q])
    check_derivatives(loss._fused_logistic_loss, [x, p, q])


@QUICK
@given(data=st.data())
def test_rounded_distances(data):
    shape = tuple(data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=3)))
    x, to = data.draw(arrays(shape, -4, 4)), data.draw(arrays(shape, -1, 1))
    x = np.where(abs(abs(x - to) - 0.7) < 0.01, to, x)  # no bend
    check_fused(loss._fused_rounded_distance, [x, to], width=0.7)
    check_derivatives(lambda x, to: loss._fused_rounded_distance(x, to, width=0.7), [x, to])


SPECIAL = np.array([0.0, -0.0, 1e-30, -1e-3, 0.5, -3.0, 200.0, -1e4, 3e38, np.inf, -np.inf, np.nan], np.float32)


def values_and_gradients(f, *arrays, g=None):
    """f of arrays, and its gradients in them for the cotangent g, as arrays."""
    xs = [mg.Tensor(a, requires_grad=True) for a in arrays]
    with np.errstate(all="ignore"):
        y = f(*xs)
        return [a.numpy() for a in (y, *mg.grad(y, xs, grad_outputs=g))]


@pytest.mark.parametrize("width", [None, 0.7, 3.0])
@pytest.mark.parametrize("shape", [(1,), (17,), (513,), (16_385,), (300, 1000), (3, 40, 5)])
def test_mean_distances(shape, width):
    f, rng = functools.partial(loss._fused_mean_distance, width=width), np.random.default_rng(0)
    x, to = (rng.normal(size=shape) * 2 for _ in range(2))
    g = mg.Tensor(np.float32(1.7))
    want = values_and_gradients(functools.partial(f.func.definition, width=width), x, to, g=mg.Tensor(1.7))
    x, to = x.astype(np.float32), to.astype(np.float32)
    packed = np.frombuffer(b"-" + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(shape)  # read-only, and not aligned
    for a, b in ((x, to), (np.asfortranarray(x), to), (x, np.asfortranarray(to)), (packed, to)):
        for got, expected in zip(values_and_gradients(f, a, b, g=g), want):
            assert got.dtype == np.float32 and got.shape == expected.shape
            np.testing.assert_allclose(got, expected, rtol=1e-4 if got.ndim else 1e-6, atol=1e-7)
    check_derivatives(lambda x, to: f(x, to), [np.array([0.1, -2.2, 3.6]), np.array([0.3, 1.0, 3.3])])
    for special in SPECIAL:
        found = values_and_gradients(f, np.array([0.25, special], np.float32), np.array([-0.25, 0.5], np.float32))
        with definitions():
            expected = values_and_gradients(f, np.array([0.25, special], np.float32), np.array([-0.25, 0.5], np.float32))
        for a, b in zip(found, expected):
            np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("eps", [0, 1e-8, 0.5])
@pytest.mark.parametrize("shape", [(3,), (1, 1), (7, 3), (5, 4, 37), (300, 1000), (70_000, 2)])
def test_cosines(shape, eps):
    f, rng = functools.partial(normalization._fused_cosine, axis=(len(shape) - 1,), eps=eps), np.random.default_rng(0)
    definition = functools.partial(f.func.definition, **f.keywords)
    x, y = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
    x.reshape(-1, shape[-1])[1::5] *= np.float32(1e-4)  # shorter than the largest eps
    x.reshape(-1, shape[-1])[2::5] = 0
    y.reshape(-1, shape[-1])[3::5] = np.eye(1, shape[-1]) / 2  # of that length
    g = rng.normal(size=shape[:-1]).astype(np.float32)
    want = values_and_gradients(definition, x.astype(np.float64), y.astype(np.float64), g=mg.Tensor(g.astype(np.float64)))
    for a, b in ((x, y), (np.asfortranarray(x), y), (x[::-1], y[::-1])):
        c, back = (g[::-1], -1) if a.strides[0] < 0 and len(shape) > 1 else (g, 1)
        for got, expected in zip(values_and_gradients(f, a, b, g=mg.Tensor(c))[:3 if len(shape) > 1 else 1], want):
            expected = expected[::back] if expected.ndim else expected
            assert got.dtype == np.float32 and got.shape == expected.shape
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6 * (1 + abs(expected).max()))


@pytest.mark.skipif(not native.kernel("inner_products"), reason="no C compiler")
def test_cosines_of_numbers_without_squares():
    f = mg.cosine_similarity
    for scale in (1e-25, 1e25):
        x, y = scale * np.array([[3.0, 4.0], [1.0, 0.0]], np.float32), np.array([[4.0, 3.0], [1.0, 1.0]], np.float32)
        np.testing.assert_allclose(f(x, y, eps=0).numpy(), [0.96, 0.5**0.5], rtol=1e-6)
    for special in SPECIAL:
        x, y = np.array([[0.25, special], [0.5, 2.0]], np.float32), np.array([[-0.25, 0.5], [1.0, special]], np.float32)
        if abs(special) < 1e10 or not np.isfinite(special):
            found = values_and_gradients(f, x, y, g=mg.Tensor(np.ones(2, np.float32)))
            with definitions():
                expected = values_and_gradients(f, x, y, g=mg.Tensor(np.ones(2, np.float32)))
            for a, b in zip(found, expected):
                np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-7)
    x, y = np.array([[0.3, -1.0], [0.2, 0.1]]), np.array([[1.0, 2.0], [0.5, 0.4]])
    near = (x * np.array([[1, 1.0001], [1, 1.001]])).astype(np.float32) * np.float32(1e-6)  # nearly parallel, and short
    exact = values_and_gradients(f, x.astype(np.float32).astype(float), near.astype(float), g=mg.Tensor(np.ones(2)))
    for a, b in zip(values_and_gradients(f, x.astype(np.float32), near, g=mg.Tensor(np.ones(2, np.float32))), exact):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    mg.check_derivatives(lambda x, y: mg.cosine_similarity(x, y, eps=0.3), x, y)


@pytest.mark.parametrize("f", [mg.sigmoid, mg.sqrt, lambda x: x**0.5, lambda x: x**-1.5, lambda x: mg.cumsum(x * x) / 5000])
def test_second_derivatives_of_large_arrays(f):
    x = mg.Tensor(np.linspace(0.5, 2, 5000, dtype=np.float32), requires_grad=True)
    w, small = np.cos(np.arange(5000, dtype=np.float32)), mg.Tensor(x.numpy().astype(np.float64), requires_grad=True)
    found, expected = (mg.grad((mg.grad((f(t) * w).sum(), t, create_graph=True) ** 2).sum(), t).numpy() for t in (x, small))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("x, g", [([1e20, 1e18, 1, 1, 1], [1] * 5), ([1e37, 1], [100, 1]), ([1, 1e-37], [1e-6, 1e-6]),
                                  ([1e-20, 1e-16], [0, 1e-9])])
def test_slopes_of_running_products_at_the_ends_of_the_range(x, g):
    """Their sums overflow, and their terms lose digits, where the slopes do not."""
    slopes = []
    for dtype in (np.float32, np.float64):
        t = mg.Tensor(np.array(x, dtype), requires_grad=True)
        with np.errstate(all="ignore"):
            mg.cumprod(t).backward(np.array(g, dtype))
        slopes.append(t.grad.numpy())
    np.testing.assert_allclose(*slopes, rtol=1e-6)


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("offset", [100.0, 10_000.0, -10_000.0])
def test_a_common_offset_of_a_row_costs_no_digits(offset, graph):
    x = np.round(np.random.default_rng(0).normal(size=(5, 7)) * 64) / 64  # so that float32 holds x + offset exactly
    labels, weights = np.arange(5), np.arange(7, dtype=np.float32)
    for f in (lambda x: mg.cross_entropy(x, labels), lambda x: (mg.softmax(x) * weights).sum(),
              lambda x: (mg.log_softmax(x) * weights).sum()):
        grads = []
        for values in (x, x + offset):
            t = mg.Tensor(values, dtype="float32", requires_grad=True)
            f(t).backward(create_graph=graph)
            grads.append(t.grad.numpy())
        np.testing.assert_array_equal(*grads)


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if not ACTIVATIONS[name]])
def test_activations_far_below_and_above_zero(name, kernels):
    """Where the definition is finite so is the path, and no large factor brings a rounding error back."""
    x = np.array([-3e38, -1e30, -1e4, -100, -88, -87, 87, 100, 1e4, 1e18], np.float32)
    operation = FUSED[name]
    with native.using(kernels), np.errstate(all="ignore"):
        results = []
        for f, dtype in ((operation, np.float32), (operation.definition, np.float64)):
            t = mg.Tensor(x.astype(dtype), requires_grad=True)
            y = f(t)
            y.sum().backward()
            results.append((y.numpy(), t.grad.numpy()))
    for path, definition in zip(*results):
        finite = np.isfinite(definition)
        np.testing.assert_allclose(path[finite], definition[finite], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", PATHS)
def test_empty_arrays_are_left_to_the_definition(name):
    full, empty = np.ones((2, 3, 4, 4), np.float32), np.ones((2, 0, 4, 4), np.float32)
    assert backend.path(name, [empty]) is None and backend.path(name, [full, empty]) is None


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("shape", [(2, 4, 6, 5), (0, 4, 6, 5)], ids=str)
def test_a_convolution_without_outputs(shape, compiled):
    x, w, bias = (mg.Tensor(np.ones(s, np.float32), requires_grad=True) for s in (shape, (0, 4, 3, 3), (0,)))
    with native.using(compiled):
        y = mg.conv2d(x, w, bias)
        y.sum().backward()
    assert y.shape == (shape[0], 0, 4, 3) and [a.grad.shape for a in (x, w, bias)] == [shape, (0, 4, 3, 3), (0,)]
    assert not x.grad.numpy().any()
