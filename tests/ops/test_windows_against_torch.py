"""Convolution, pooling and resampling with every option against PyTorch: values, gradients, and what is refused."""
import numpy as np
import pytest
from checks import optional
from hypothesis import given, settings, strategies as st

import minigrad as mg

torch = optional("torch")
F = torch.nn.functional
MANY = settings(max_examples=60, deadline=None, derandomize=True)


def compare(ours, theirs, *inputs):
    """Value and gradients are PyTorch's, or both refuse the call. True where there was something to compare."""
    ts = [torch.tensor(x, requires_grad=True) for x in inputs]
    try:
        expected = theirs(*ts)
    except (RuntimeError, ValueError):
        with pytest.raises(ValueError):
            ours(*inputs)
        return False
    xs = [mg.Tensor(x, requires_grad=True) for x in inputs]
    y = ours(*xs)
    both = [(y, expected)] if isinstance(expected, torch.Tensor) else list(zip(y, expected))
    for a, b in both:
        assert a.shape == tuple(b.shape)
        np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=1e-10, atol=1e-10)
    y, expected = both[0]
    g = np.random.default_rng(0).normal(size=y.shape)
    expected.backward(torch.tensor(g))
    y.backward(mg.Tensor(g))
    for x, t in zip(xs, ts):
        np.testing.assert_allclose(x.grad.numpy(), t.grad.numpy(), rtol=1e-10, atol=1e-10)
    return True


def images(data, axes=2, channels=st.integers(1, 3)):
    """A batch of images or sequences, or a single one, some with equal numbers and a constant window of -inf."""
    shape = [data.draw(channels)] + [data.draw(st.integers(1, 9)) for _ in range(axes)]
    if data.draw(st.booleans()):
        shape = [data.draw(st.integers(1, 2))] + shape
    x = np.random.default_rng(data.draw(st.integers(0, 99))).normal(size=shape)
    return np.round(x) if data.draw(st.booleans()) else x


def numbers(data, low, high, axes=2):
    """One number, or one for each axis."""
    return data.draw(st.one_of(st.integers(low, high), st.tuples(*[st.integers(low, high)] * axes)))


@pytest.mark.parametrize("axes", [1, 2])
@MANY
@given(data=st.data())
def test_max_pooling(axes, data):
    name, x = f"max_pool{axes}d", images(data, axes)
    if data.draw(st.booleans()):
        x = np.where(x < data.draw(st.sampled_from([0, 9])), -np.inf, x)
    settings = dict(kernel_size=numbers(data, 1, 4, axes), stride=data.draw(st.none() | st.integers(1, 4)),
                    padding=numbers(data, 0, 2, axes), dilation=numbers(data, 1, 3, axes),
                    ceil_mode=data.draw(st.booleans()), return_indices=data.draw(st.booleans()))
    compare(lambda x: getattr(mg, name)(x, **settings), lambda x: getattr(F, name)(x, **settings), x)


@pytest.mark.parametrize("kernel", [(17, 16), (17, 32), (34, 64), (34, 40)], ids=str)
def test_large_windows(kernel):
    x = np.random.default_rng(0).integers(-3, 4, (2, 3, 34, 64)).astype(float)
    x[0, 0] = -np.inf
    compare(lambda x: mg.max_pool2d(x, kernel), lambda x: F.max_pool2d(x, kernel), x)
    compare(lambda x: mg.adaptive_max_pool2d(x, (2, 3)), lambda x: F.adaptive_max_pool2d(x, (2, 3)), x)


@pytest.mark.parametrize("axes", [1, 2])
@MANY
@given(data=st.data())
def test_average_pooling(axes, data):
    name, x = f"avg_pool{axes}d", images(data, axes)
    settings = dict(kernel_size=numbers(data, 1, 4, axes), stride=data.draw(st.none() | st.integers(1, 4)),
                    padding=numbers(data, 0, 2, axes), ceil_mode=data.draw(st.booleans()),
                    count_include_pad=data.draw(st.booleans()))
    compare(lambda x: getattr(mg, name)(x, **settings), lambda x: getattr(F, name)(x, **settings), x)


@pytest.mark.parametrize("name", ["adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d"])
@MANY
@given(data=st.data())
def test_adaptive_pooling(name, data):
    axes = int(name[-2])
    x, size = images(data, axes), numbers(data, 1, 10, axes)
    settings = dict(return_indices=data.draw(st.booleans())) if "max" in name else {}
    compare(lambda x: getattr(mg, name)(x, size, **settings), lambda x: getattr(F, name)(x, size, **settings), x)


@pytest.mark.parametrize("axes", [1, 2])
@MANY
@given(data=st.data())
def test_convolution(axes, data):
    groups = data.draw(st.integers(1, 2))
    x = images(data, axes, st.just(2))
    w = np.random.default_rng(1).normal(size=(2, 2 // groups, *[data.draw(st.integers(1, 4)) for _ in range(axes)]))
    padding = data.draw(st.sampled_from(["same", "valid"])) if data.draw(st.booleans()) else numbers(data, 0, 2, axes)
    settings = dict(padding=padding, stride=data.draw(st.integers(1, 2)), dilation=numbers(data, 1, 3, axes), groups=groups)
    name = f"conv{axes}d"
    compare(lambda x, w, b: getattr(mg, name)(x, w, b, **settings), lambda x, w, b: getattr(F, name)(x, w, b, **settings),
            x, w, np.arange(2.0))


@pytest.mark.parametrize("axes", [1, 2])
@MANY
@given(data=st.data())
def test_transposed_convolution(axes, data):
    groups = data.draw(st.integers(1, 2))
    x = images(data, axes, st.just(2))
    w = np.random.default_rng(1).normal(size=(2, 2 // groups, *[data.draw(st.integers(1, 4)) for _ in range(axes)]))
    settings = dict(stride=numbers(data, 1, 3, axes), padding=numbers(data, 0, 2, axes),
                    output_padding=numbers(data, 0, 2, axes), groups=groups, dilation=numbers(data, 1, 3, axes))
    name = f"conv_transpose{axes}d"
    compare(lambda x, w: getattr(mg, name)(x, w, None, **settings), lambda x, w: getattr(F, name)(x, w, None, **settings), x, w)


def windows(data):
    return dict(kernel_size=numbers(data, 1, 4), dilation=numbers(data, 1, 3), padding=numbers(data, 0, 2),
                stride=numbers(data, 1, 3))


@MANY
@given(data=st.data())
def test_columns_of_windows(data):
    x, settings = images(data), windows(data)
    compare(lambda x: mg.unfold(x, **settings), lambda x: F.unfold(x, **settings), x)
    compare(mg.nn.Unfold(**settings), torch.nn.Unfold(**settings), x)


@MANY
@given(data=st.data())
def test_images_of_columns(data):
    settings, size = windows(data), numbers(data, 1, 9)
    both = size if isinstance(size, tuple) else (size, size)
    seen = F.unfold(torch.ones(1, 2, 30, 30), **settings).shape[1]
    try:
        count = F.unfold(torch.ones(1, 2, *both), **settings).shape[2]
    except RuntimeError:
        count = 2
    shape = (*data.draw(st.sampled_from([(), (1,), (2,)])), seen, count)
    x = np.random.default_rng(data.draw(st.integers(0, 99))).normal(size=shape)
    compare(lambda x: mg.fold(x, size, **settings), lambda x: F.fold(x, size, **settings), x)
    compare(mg.nn.Fold(size, **settings), torch.nn.Fold(size, **settings), x)


def test_columns_are_those_of_a_convolution_and_have_all_derivatives():
    rng = np.random.default_rng(0)
    x, w, settings = rng.normal(size=(2, 3, 5, 4)), rng.normal(size=(4, 3, 3, 2)), dict(dilation=2, padding=(2, 1), stride=(1, 2))
    y = w.reshape(4, -1) @ mg.unfold(x, (3, 2), **settings)
    np.testing.assert_allclose(y.numpy().ravel(), mg.conv2d(x, w, **settings).numpy().ravel(), rtol=1e-12)
    columns = mg.unfold(x, (3, 2), **settings).numpy()
    mg.check_derivatives(lambda x: mg.unfold(x, (3, 2), **settings) ** 3, x)
    mg.check_derivatives(lambda y: mg.fold(y, (5, 4), (3, 2), **settings) ** 3, columns)
    spoiled = x.copy()
    spoiled[0, 1, 2, 2] = np.inf
    assert (np.isinf(mg.unfold(spoiled, (3, 2), **settings).numpy()) == (columns == x[0, 1, 2, 2])).all()
    sixteen = mg.fold(np.float16([[2048], [1], [1]]).reshape(3, 1).repeat(3, 1), (1, 5), (1, 3))  # summed in float32, rounded once
    assert sixteen.dtype == np.float16 and sixteen[0, 0].tolist() == [2048, 2048, 2050, 2, 1]
    assert mg.unfold(np.ones((0, 2, 3, 3)), 2).shape == (0, 8, 4) and mg.unfold(np.eye(3, dtype=int)[None], 2).dtype == int


@pytest.mark.parametrize("call, message", [
    (lambda: mg.unfold(np.ones((2, 2)), 1), r"unfold: images \(N, C, H, W\)"),
    (lambda: mg.unfold(np.ones((1, 2, 2)), 3), r"unfold: window \(3, 3\) .* images \(2, 2\)"),
    (lambda: mg.unfold(np.ones((1, 2, 2)), 1, stride=0), "unfold: stride"), (lambda: mg.unfold(np.ones((1, 2, 2)), (1, 2, 3)), "unfold: kernel_size"),
    (lambda: mg.unfold(np.ones((1, 2, 2)), 1, padding="same"), "unfold: padding"),
    (lambda: mg.fold(np.ones(4), 2, 2), r"fold: columns \(N, C kh kw, L\)"), (lambda: mg.fold(np.ones((4, 1)), 0, 2), "fold: output_size"),
    (lambda: mg.fold(np.ones((4, 1)), 2, 3), "fold: window"), (lambda: mg.fold(np.ones((5, 1)), 2, 2), r"fold: columns \(N, C 4, 1\)"),
    (lambda: mg.fold(np.ones((4, 2)), 2, 2), r"fold: columns .* got shape \(1, 4, 2\)"),
    (lambda: mg.nn.Unfold(0), "Unfold: kernel_size"), (lambda: mg.nn.Fold((2, 0), 1), "Fold: output_size")])
def test_columns_that_do_not_fit_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


PADDING = [f"{kind}Pad{axes}d" for kind in ("Zero", "Constant", "Reflection", "Replication", "Circular") for axes in (1, 2)]


@pytest.mark.parametrize("name", PADDING)
@MANY
@given(data=st.data())
def test_layers_that_pad(name, data):
    axes = int(name[-2])
    x = images(data) if axes == 2 else images(data)[..., 0]
    least = min(x.shape[-axes:])
    sides = data.draw(st.integers(0, least - 1) | st.tuples(*[st.integers(0, least - 1)] * 2 * axes))
    more = [data.draw(st.sampled_from([0.5, -2, np.inf, -np.inf]))] if name.startswith("Constant") else []
    compare(getattr(mg.nn, name)(sides, *more), getattr(torch.nn, name)(sides, *more), x)
    spoiled = x.copy()
    spoiled[..., 0] = np.nan
    np.testing.assert_array_equal(getattr(mg.nn, name)(sides, *more)(spoiled).numpy(),
                                  getattr(torch.nn, name)(sides, *more)(torch.tensor(spoiled)).numpy())


@pytest.mark.parametrize("name", [name for name in PADDING if not name.startswith("Constant")])
def test_padding_that_is_none_is_refused_by_name(name):
    axes = int(name[-2])
    for wrong in (-1, 0.5, np.nan, True, "2", None, (1,) * axes, (1,) * (2 * axes - 1) + (-1,), [1] * 5, object()):
        with pytest.raises(ValueError, match=f"{name}: padding must be"):
            getattr(mg.nn, name)(wrong)
    with pytest.raises(ValueError, match=rf"{name}: {'images' if axes == 2 else 'sequences'} \(N, C, "):
        getattr(mg.nn, name)(1)(np.ones(2))


@pytest.mark.parametrize("axes", [1, 2])
@MANY
@given(data=st.data())
def test_interpolation(axes, data):
    x = images(data, axes)
    x = x if x.ndim == axes + 2 else x[None]
    between = ["linear"] if axes == 1 else ["bilinear", "bicubic"]
    mode = data.draw(st.sampled_from(["nearest", "nearest-exact", "area"] + between))
    settings = dict(mode=mode)
    if mode in between:
        settings["align_corners"] = data.draw(st.booleans())
    if data.draw(st.booleans()):
        settings["size"] = numbers(data, 1, 20, axes)
    else:
        settings["scale_factor"] = data.draw(st.sampled_from([0.3, 0.5, 0.75, 1, 1.3, 2, 2.5, *[(1.5, 0.7), (2, 3)][:axes - 1]]))
    compare(lambda x: mg.interpolate(x, **settings), lambda x: F.interpolate(x, **settings), x)


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("border", ["zeros", "border"])
def test_the_nearest_pixel_to_a_point(corners, border):
    rng = np.random.default_rng(0)
    for shape in ((2, 3, 4, 5), (2, 1, 1, 3), (2, 2, 6, 6)):
        x, grid = rng.normal(size=shape), rng.uniform(-1.5, 1.5, (2, 3, 7, 2))
        compare(lambda x: mg.grid_sample(x, grid, border, corners, mode="nearest"),
                lambda x: F.grid_sample(x, torch.tensor(grid), "nearest", border, corners), x)
    at = np.linspace(-1, 1, 13)  # centres, edges and corners of 3 x 3 pixels: of two that are as near, PyTorch's
    grid, x = np.stack(np.meshgrid(at, at), -1)[None], rng.normal(size=(1, 1, 3, 3))
    compare(lambda x: mg.grid_sample(x, grid, border, corners, mode="nearest"),
            lambda x: F.grid_sample(x, torch.tensor(grid), "nearest", border, corners), x)


@MANY
@given(data=st.data())
def test_attention_whose_leading_axes_broadcast(data):
    rng, queries, keys = np.random.default_rng(0), data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    lead = [tuple(data.draw(st.lists(st.integers(1, 3), max_size=3))) for _ in "qkv"]
    q, k, v = (rng.normal(size=(*some, n, 4)) for some, n in zip(lead, (queries, keys, keys)))
    settings = dict(is_causal=data.draw(st.booleans()), enable_gqa=False)
    try:
        np.broadcast_shapes(*lead)
    except ValueError:
        with pytest.raises(ValueError, match="leading axes that broadcast"):
            mg.scaled_dot_product_attention(q, k, v, **settings)
        return
    full = [np.broadcast_to(x, (*np.broadcast_shapes(*lead), *x.shape[-2:])).copy() for x in (q, k, v)]
    compare(lambda *xs: mg.scaled_dot_product_attention(*xs, **settings),
            lambda *xs: F.scaled_dot_product_attention(*xs, **settings), *full)
    y = mg.scaled_dot_product_attention(q, k, v, **settings).numpy()
    np.testing.assert_allclose(y, mg.scaled_dot_product_attention(*full, **settings).numpy(), rtol=1e-12)


@MANY
@given(data=st.data())
def test_attention_of_grouped_queries(data):
    rng, heads = np.random.default_rng(0), data.draw(st.integers(1, 6))
    q, k, v = (rng.normal(size=(2, n, length, 4)) for n, length in ((heads, 3), *[(data.draw(st.integers(1, 3)), 5)] * 2))
    for gqa in (True, False):
        settings = dict(is_causal=data.draw(st.booleans()), enable_gqa=gqa)
        if len({q.shape[1], k.shape[1]}) == 1 or gqa:  # PyTorch's own rule for one head differs from broadcasting
            compare(lambda *xs: mg.scaled_dot_product_attention(*xs, **settings),
                    lambda *xs: F.scaled_dot_product_attention(*xs, **settings), q, k, v)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@MANY
@given(data=st.data())
def test_one_bad_pixel_reaches_its_own_neighbourhood_only(bad, data):
    """What does not depend on the pixel (its gradient is 0) stays as it is: in values, and in gradients of a bad gradient."""
    x = np.random.default_rng(data.draw(st.integers(0, 99))).normal(size=(1, 2, *(data.draw(st.integers(1, 7)) for _ in "hw")))
    grid = np.random.default_rng(1).uniform(-1.4, 1.4, (1, 3, 4, 2))
    if data.draw(st.booleans()):  # points at the centres of pixels
        grid = (2 * np.stack(np.meshgrid(*(np.arange(n) for n in x.shape[:1:-1])), -1)[None] + 1) / x.shape[:1:-1] - 1.0
    size = numbers(data, 1, 12)
    name, f = data.draw(st.sampled_from([
        *[(m, lambda x, m=m: mg.interpolate(x, size, mode=m)) for m in ("nearest", "nearest-exact", "bilinear", "bicubic")],
        ("corners", lambda x: mg.interpolate(x, size, mode="bilinear", align_corners=True)),
        ("grid", lambda x: mg.grid_sample(x, grid)), ("grid nearest", lambda x: mg.grid_sample(x, grid, mode="nearest")), ("border", lambda x: mg.grid_sample(x, grid, "border")),
        ("adaptive", lambda x: mg.adaptive_avg_pool2d(x, size)), ("average", lambda x: mg.avg_pool2d(x, 3, 2, 1, True, False)),
        ("flat", lambda x: mg.interpolate(x.astype(np.float32), size, mode="bicubic"))]))
    place = tuple(data.draw(st.integers(0, n - 1)) for n in x.shape)
    spoiled = x.copy()
    spoiled[place] = bad
    clean = f(mg.Tensor(x)).numpy()
    direction = np.zeros(x.shape)
    direction[place] = 1
    free = mg.jvp(f, [x], [direction])[1].numpy() == 0
    np.testing.assert_allclose(f(mg.Tensor(spoiled)).numpy()[free], clean[free], rtol=1e-6, atol=1e-12)
    assert free.all() or not np.isfinite(f(mg.Tensor(spoiled)).numpy()[~free]).any(), name

    one = tuple(data.draw(st.integers(0, n - 1)) for n in clean.shape)
    g = np.ones(clean.shape, clean.dtype)
    gradient = mg.vjp(f, x)[1]
    expected = gradient(g)
    g[one] = bad
    other = mg.grad(lambda t: f(t)[one])(x).numpy() == 0
    np.testing.assert_allclose(gradient(g)[0].numpy()[other], expected[0].numpy()[other], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38, -1e30])
@pytest.mark.parametrize("mode", ["zeros", "border"])
@pytest.mark.parametrize("corners", [False, True])
def test_a_bad_point_reads_and_moves_no_other(bad, mode, corners):
    x = mg.Tensor(np.random.default_rng(0).normal(size=(2, 3, 4, 5)), requires_grad=True)
    good = np.random.default_rng(1).uniform(-1.2, 1.2, (2, 3, 2, 2))
    grid = good.copy()
    grid[1, 2, 0, 1] = bad
    points = mg.Tensor(grid, requires_grad=True)
    y = mg.grid_sample(x, points, mode, corners)
    expected = mg.grid_sample(x, good, mode, corners).numpy()
    other = np.ones(y.shape, bool)
    other[1, :, 2, 0] = False
    np.testing.assert_array_equal(y.numpy()[other], expected[other])
    assert np.isnan(y.numpy()[~other]).all() if np.isnan(bad) else np.isfinite(y.numpy()).all()
    y[np.nonzero(other)].sum().backward()
    assert np.isfinite(x.grad.numpy()).all() and np.isfinite(points.grad.numpy()).all()
    assert not points.grad[1, 2, 0].numpy().any()


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, bool])
def test_pooling_of_whole_numbers(dtype):
    x = np.random.default_rng(0).integers(0, 2 if dtype is bool else 200, (2, 2, 5, 6)).astype(dtype)
    for settings in (dict(), dict(padding=1), dict(ceil_mode=True), dict(dilation=2), dict(padding=1, return_indices=True)):
        y = mg.max_pool2d(x, 2, **settings)
        expected = F.max_pool2d(torch.tensor(x.astype(np.float64)), 2, **settings)
        if "return_indices" in settings:
            np.testing.assert_array_equal(y[1].numpy(), expected[1].numpy())
            y, expected = y[0], expected[0]
        assert y.dtype == dtype
        np.testing.assert_array_equal(y.numpy().astype(float), expected.numpy())
    for mode in ("bilinear", "bicubic"):
        expected = F.interpolate(torch.tensor(x.astype(np.float64)), 4, mode=mode).numpy()
        np.testing.assert_allclose(mg.interpolate(x, 4, mode=mode).numpy(), expected, rtol=1e-12)
