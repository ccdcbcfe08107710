"""Numbers of 16 bits: results stay in 16 bits, sums are kept in float32 until they are complete."""
import sys

import numpy as np
import pytest

import minigrad as mg
from minigrad import backend, io, nn, optim

bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
HALF = pytest.mark.parametrize("dtype", [np.float16, bfloat16])
N = 3000  # neither type can count so far by ones
SUMS = {
    "sum": lambda x: x.sum(0), "mean": lambda x: N * x.mean(0), "cumsum": lambda x: mg.cumsum(x, 0)[-1],
    "einsum": lambda x: mg.einsum("ij,ij->j", x, x), "matmul": lambda x: mg.matmul(x.T, x)[0],
    "logsumexp": lambda x: mg.exp(mg.logsumexp(0 * x, 0)), "norm": lambda x: mg.norm(x, axis=0) ** 2,
    "index_add": lambda x: mg.index_add(0 * x[:1], np.zeros(N, int), x)[0],
    "scatter_add": lambda x: mg.scatter_add(0 * x[:1], np.zeros((N, 2), int), x, 0)[0],
    "gradient of broadcasting": lambda x: mg.grad(lambda row: (row * x).sum())(x[0]),
    "gradient of embedding": lambda x: mg.grad(lambda table: mg.embedding(np.zeros(N, int), table).sum())(x[:1])[0],
    "gradient of taking": lambda x: mg.grad(lambda row: mg.take(row, np.zeros(N, int), 0).sum())(x[:1])[0]}


@HALF
@pytest.mark.parametrize("name", SUMS)
def test_sums_of_many_ones_lose_none(name, dtype):
    y = SUMS[name](mg.Tensor(np.ones((N, 2), dtype)))
    assert y.dtype == dtype
    np.testing.assert_allclose(y.numpy().astype(float), [N, N], rtol=1e-2)


@pytest.mark.parametrize("other", [np.float16, bfloat16, np.float32, np.float64, np.int64, np.uint8, bool])
@HALF
@pytest.mark.parametrize("f", [
    mg.add, mg.multiply, mg.maximum, mg.logaddexp, mg.arctan2, mg.matmul, mg.kron, mg.outer, mg.dot,
    lambda x, y: mg.where(np.eye(2) > 0, x, y), lambda x, y: mg.concatenate([x, y]), lambda x, y: mg.stack([x, y]),
    lambda x, y: mg.vstack([x, y]), lambda x, y: mg.einsum("ij,jk", x, y),
    lambda x, y: mg.clip(x, y, None)])
def test_beside_another_dtype(f, dtype, other):
    x, y = np.array([[1, 2], [3, 4]], dtype), np.ones((2, 2), other)
    for a, b in ((x, y), (y, x)):
        xs = [mg.Tensor(v, requires_grad=v.dtype.kind == "f" or v.dtype == bfloat16) for v in (a, b)]
        z, exact = f(*xs), f(a.astype(float), b.astype(float))
        np.testing.assert_allclose(z.numpy().astype(float), exact.numpy(), rtol=1e-2)
        assert z.dtype == backend.result_type(np.dtype(dtype), np.dtype(other))
        for v, g in zip(xs, mg.grad(z.sum(), [v for v in xs if v.requires_grad])):
            assert g.shape == v.shape and (g.dtype == v.dtype or not v.requires_grad)


@HALF
def test_infinities_become_the_largest_number(dtype):
    y = mg.nan_to_num(np.array([np.inf, -np.inf, np.nan, 1], dtype))
    assert y.dtype == dtype and np.isfinite(y.numpy().astype(float)).all()
    above = np.nextafter(y.numpy()[0], np.array(np.inf, dtype))
    assert np.isinf(above.astype(float)) and y.numpy()[1] == -y.numpy()[0] and y.numpy()[2:].astype(float).tolist() == [0, 1]


@HALF
def test_linear_algebra(dtype):
    x = np.array([[2.0, 1.0], [1.0, 4.0]])
    for f in (mg.inv, mg.det, lambda x: mg.slogdet(x)[1], lambda x: mg.solve(x, x[0]), mg.cholesky, mg.eigvalsh, mg.svdvals):
        y, exact = f(mg.Tensor(x.astype(dtype))), f(x)
        assert y.dtype == dtype
        np.testing.assert_allclose(y.numpy().astype(float), exact.numpy(), rtol=1e-2, atol=1e-2)
    assert mg.slogdet(x.astype(dtype))[0].item() == 1


@HALF
def test_clipping_and_selections_keep_the_dtype(dtype):
    x = mg.Tensor(np.array([-2.0, 0.5, 3.0], dtype), requires_grad=True)
    y = mg.clip(x, -1, 1.5)
    y.sum().backward()
    assert y.dtype == x.grad.dtype == dtype and y.tolist() == [-1, 0.5, 1.5] and x.grad.tolist() == [0, 1, 0]
    for f in (mg.sort, mg.max, lambda x: mg.where(x > 0, x, 0), lambda x: mg.top_k(x, 2)[0], lambda x: mg.softmax(x)):
        assert f(x).dtype == mg.grad(lambda x: f(x).sum())(x).dtype == dtype
    assert mg.argmax(x).item() == 2 and mg.sort(x).tolist() == [-2, 0.5, 3]


@HALF
def test_large_arrays_too(dtype):
    x = mg.Tensor(np.ones((600, 600), dtype), requires_grad=True)
    y = mg.relu(mg.exp(x) * x + x * 2 + x * 3) + mg.dropout(x, 0.5)
    y.mean().backward()
    assert y.dtype == x.grad.dtype == dtype and (x.grad.numpy() > 0).all()


def test_dtypes_beside_each_other():
    half, brain = np.ones((2, 2), np.float16), np.ones((2, 2), bfloat16)
    single, whole = np.ones((2, 2), np.float32), np.full((2, 2), 70000)
    images = lambda x: x.reshape(1, 1, 2, 2)
    for f in (mg.matmul, lambda x, y: mg.einsum("ij,jk->ik", x, y), mg.linear, lambda x, y: mg.where(x > 0, x, y),
              lambda x, y: mg.conv2d(images(x), images(y))):
        for x, y, dtype in ((half, brain, np.float32), (half, single, np.float32), (brain, single, np.float32),
                            (half, whole, np.float64), (brain, whole, np.float64)):
            for a, b in ((x, y), (y, x)):
                z = f(mg.Tensor(a), mg.Tensor(b))
                assert z.dtype == dtype and np.isfinite(z.numpy()).all()


@pytest.mark.parametrize("shape", [(3,), (600, 600)])
def test_sums_have_the_dtypes_of_numpy(shape):
    dtypes = [bool, np.int8, np.int32, np.int64, np.float16, np.float32, np.float64, np.longdouble, ">f4", ">f8"]
    for a in dtypes:
        for b in dtypes:
            x, y = (np.broadcast_to(np.ones((), d), shape) for d in (a, b))
            assert (mg.Tensor(x) + mg.Tensor(y)).dtype == (x + y).dtype, (a, b)


def test_bfloat16_by_name():
    x = mg.Tensor([1.0, 2.0], dtype="bfloat16")
    assert x.dtype == x.to("bfloat16").dtype == mg.astype([1], "bfloat16").dtype == bfloat16
    assert (2 * x).dtype == (x / 3).dtype == (x + np.float64(1)).dtype == (x * [1.0, 2.0]).astype("bfloat16").dtype == bfloat16
    assert (x * mg.Tensor(np.ones(2, np.float32))).dtype == np.float32
    assert "bfloat16" in repr(x) and x[0].item() == 1 and x.tolist() == [1, 2] and float(x.sum()) == 3
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).to("bfloat16")
    assert {a.dtype for a in net.state_dict().values() if a.dtype.kind != "i"} == {np.dtype(bfloat16)}
    assert net(x.reshape(1, 2).broadcast_to((3, 2))).dtype == bfloat16


def test_without_its_package_bfloat16_is_explained(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    for convert in (lambda: mg.Tensor([1.0], dtype="bfloat16"), lambda: mg.Tensor([1.0]).to("bfloat16"),
                    lambda: nn.Linear(1, 1).to("bfloat16")):
        with pytest.raises(RuntimeError, match="needs ml_dtypes: pip install"):
            convert()


def test_bfloat16_survives_a_checkpoint(tmp_path):
    pytest.importorskip("safetensors")
    x = np.array([1.0, 2.5], bfloat16)
    io.save(tmp_path / "x.safetensors", {"x": x})
    loaded = io.load(tmp_path / "x.safetensors")[0]["x"]
    assert loaded.dtype == bfloat16 and (loaded == x).all()


@pytest.mark.parametrize("make", [lambda ps: optim.SGD(ps, 0.1, 0.9, 0.01), lambda ps: optim.AdamW(ps, 0.1),
                                  lambda ps: optim.LAMB(ps, 0.1), lambda ps: optim.LARS(ps, 0.1, trust=0.1)])
def test_parameters_in_bfloat16_learn(make):
    mg.random.seed(0)
    net = nn.Linear(3, 1).to("bfloat16")
    optimizer, average = make(net.parameters()), optim.EMA(net)
    rng = np.random.default_rng(0)
    x = mg.Tensor(rng.normal(size=(50, 3)), dtype="bfloat16")
    losses = []
    for _ in range(40):
        net.zero_grad()
        loss = mg.mse_loss(net(x), x.sum(1, keepdims=True))
        loss.backward()
        optim.clip_grad_norm(net.parameters(), 1.0)
        optimizer.step()
        average.update()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    assert {a.dtype for a in [*average.average.values(), *optimizer.state_dict().values()] if a.ndim} == {np.dtype(bfloat16)}


LENGTHS = {  # functions that square what they are given
    "l2_normalize": lambda x: mg.l2_normalize(x), "normalize": lambda x: nn.functional.normalize(x, 2),
    "cosine_similarity": lambda x: mg.cosine_similarity(x, x[:, ::-1]), "weight_norm": lambda x: mg.weight_norm(x, np.ones((2, 1), x.dtype)),
    "norm": lambda x: mg.norm(x, axis=1), "norm 3": lambda x: mg.norm(x, 3, 1), "std": lambda x: mg.std(x, 1),
    "nanstd": lambda x: mg.nanstd(x, 1), "corrcoef": mg.corrcoef}


@pytest.mark.parametrize("name", LENGTHS)
@pytest.mark.parametrize("dtype", [np.float16, "bfloat16"])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 400.0])
def test_squares_neither_overflow_nor_vanish(name, dtype, scale):
    x = mg.Tensor((scale * np.random.default_rng(0).normal(size=(2, 7))).astype(np.float32)).astype(dtype)
    found, expected = LENGTHS[name](x), LENGTHS[name](x.astype(np.float64))
    assert found.dtype == x.dtype
    np.testing.assert_allclose(found.astype(np.float64).numpy(), expected.numpy(), rtol=1e-2,
                               atol=5e-3 * abs(expected.numpy()).max())


def test_directions_of_zeros_in_16_bits():
    x = np.zeros((1, 3), np.float16)
    for f in (mg.l2_normalize, lambda x: nn.functional.normalize(x, 1), lambda x: nn.functional.normalize(x, np.inf), lambda x: mg.cosine_similarity(x, np.ones((1, 3), np.float16))):
        assert not f(x).numpy().any()


@pytest.mark.parametrize("f, value", [(mg.max, 1), (mg.min, 1), (mg.nanmax, 1), (mg.nanmin, 1), (mg.logsumexp, np.inf)])
def test_more_equal_numbers_than_float16_counts_share_the_gradient(f, value):
    found = mg.grad(lambda x: 1000 * f(x))(np.full(70_000, value, np.float16)).numpy()
    np.testing.assert_allclose(found.astype(float), 1000 / 70_000, rtol=5e-3)


@pytest.mark.parametrize("settings", [{"padding": 10, "count_include_pad": False}, {"padding": 3, "ceil_mode": True}])
def test_windows_of_more_pixels_than_float16_counts_have_their_mean(settings):
    x = np.ones((1, 1, 261, 261), np.float16)
    found = [mg.avg_pool2d(x.astype(dtype), 260, 2, **settings).numpy() for dtype in (np.float16, np.float64)]
    np.testing.assert_allclose(*found, rtol=2e-3)


def test_clipped_gradients_of_16_bits_have_the_length_wanted():
    for value, most in ((1e4, 1.0), (1.0, 0.1)):
        p = nn.Parameter(np.zeros(10**5, np.float16))
        p.grad = mg.Tensor(np.full(10**5, value, np.float16))
        optim.clip_grad_norm_([p], most)
        assert np.linalg.norm(p.grad.numpy().astype(float)) == pytest.approx(most, rel=1e-2)


def test_the_result_of_mixed_operands_has_the_dtype_of_both():
    x = np.array([[1.0, 2.0]], np.float16)
    for f, y in ((mg.cov, np.array([[0, 1000]])), (mg.cosine_similarity, [[1.0, 2.0]]), (mg.cosine_similarity, np.ones((1, 2), np.float32)),
                 (mg.weight_norm, [[1e5]])):
        assert f(x, y).dtype == f(x.astype(np.float32), y).dtype and np.isfinite(f(x, y).numpy()).all()
    assert mg.l2_normalize(x, eps=np.array(1e-3)).dtype == np.float16 == mg.norm(x, axis=np.array(1)).dtype
    assert mg.weight_norm(v=x, g=2.0).dtype == mg.std(x=x).dtype == np.float16
    with pytest.raises(TypeError, match="masked"):
        mg.std(np.ma.array(x, mask=True))
