"""Operations without kernels of their own, on arrays of the GPU: values and derivatives are those on the CPU."""
import numpy as np
import pytest
from kernelchecks import HALF, close, normal

import minigrad as mg
from minigrad import io, nn, optim
from minigrad.backend import cuda

whole_operations = True  # see conftest
POSITIVE = "exp2 log log2 log10 log1p sqrt reciprocal"
ANY = """negative square exp expm1 sin cos tan arctan sinh cosh tanh sigmoid erf abs sign floor ceil round relu ravel flatten
    sum mean max min var std prod cumsum cumprod logsumexp softmax log_softmax argmax argmin any all count_nonzero sort
    argsort isnan isinf isfinite zeros_like ones_like trace diagonal norm l2_normalize gelu silu nanmax nanmin
    nanvar nanstd trapezoid cov corrcoef sinc deg2rad rad2deg rot90"""
BINARY = """add subtract multiply divide maximum minimum logaddexp arctan2 remainder floor_divide less equal matmul inner outer
    dot"""
SQUARE = "inv det cholesky eigvalsh svdvals"


def positive(x):
    return x * x + 0.5


def definite(x):
    return mg.matmul(x, x.mT) + mg.Tensor(np.eye(3)).to(x.device)


def folded(x):
    """A convolution with batch norm and ReLU6 in evaluation."""
    conv, norm = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
    conv.weight.data[...] = np.cos(np.arange(108)).reshape(4, 3, 3, 3)
    norm.running_mean += np.arange(4, dtype=np.float32)
    net = nn.Sequential(conv, norm).to(x.dtype).to(x.device).eval()
    return nn.layers.conv_norm(net[0], net[1], x, "relu6")


INDEX = np.array([0, 2, 2, -1])  # of rows; NumPy's, beside arrays of the GPU
LABELS, PICKS = np.array([2, 0, 1]), np.array([[0, 3], [1, 1], [2, 0]])
CASES = {
    **{name: (lambda x, f=getattr(mg, name): f(x), [(3, 4)]) for name in ANY.split()},
    **{name: (lambda x, f=getattr(mg, name): f(positive(x)), [(3, 4)]) for name in POSITIVE.split()},
    **{name: (lambda x, y, f=getattr(mg, name): f(x, y), [(3, 3), (3, 3)]) for name in BINARY.split()},
    **{name: (lambda x, f=getattr(mg, name): f(definite(x)), [(2, 3, 3)]) for name in SQUARE.split()},
    "arcsin": (lambda x: mg.arcsin(mg.tanh(x)), [(3, 4)]),
    "arccos": (lambda x: mg.arccos(mg.tanh(x)), [(3, 4)]),
    "power": (lambda x, y: positive(x) ** y, [(3, 4), (4,)]),
    "square by power": (lambda x: x ** 2, [(3, 4)]),
    "max of an axis": (lambda x: x.max(1), [(3, 4)]),
    "numbers beside": (lambda x: (2 - x) / 3 + np.float32(1) * x + (x > 0) * 2.0, [(3, 4)]),
    "relu6": (lambda x: mg.relu6(4 * x), [(3, 4)]),
    "conv_norm": (folded, [(2, 3, 4, 5)]),
    "pixel_shuffle": (lambda x: mg.pixel_shuffle(x, 2), [(1, 4, 2, 3)]),
    "pixel_unshuffle": (lambda x: mg.pixel_unshuffle(x, 2), [(1, 2, 4, 6)]),
    "affine_grid": (lambda x: mg.affine_grid(x, (2, 1, 3, 4)), [(2, 2, 3)]),
    "interpolate": (lambda x: mg.interpolate(x, 3, mode="bicubic", antialias=True), [(1, 2, 5, 4)]),
    "clip": (lambda x: mg.clip(x, -0.5, 0.5), [(3, 4)]),
    "clip by Tensors": (lambda x, y: mg.clip(x, y), [(3, 4), (4,)]),
    "where": (lambda x, y: mg.where(x > y, x, y * 2), [(3, 4), (3, 4)]),
    "where of an array of the host": (lambda x: mg.where(np.arange(4) > 1, x, 0), [(3, 4)]),
    "quantile": (lambda x: mg.quantile(x, [0.3, 0.5], 1), [(3, 4)]),
    "interp": (lambda x, y: mg.interp(x, mg.arange(4, dtype="float64").to(x.device) - 2, y), [(3, 4), (4,)]),
    "convolve": (lambda x, y: mg.convolve(x, y, "same"), [(5,), (4,)]),
    "polyval": (mg.polyval, [(3,), (3, 4)]),
    "average": (lambda x, w: mg.average(x, 1, positive(w)), [(3, 4), (4,)]),
    "meshgrid": (lambda x, y: mg.meshgrid(x, y)[1], [(3,), (4,)]),
    "slogdet": (lambda x: mg.slogdet(definite(x))[1], [(2, 3, 3)]),
    "eigh": (lambda x: mg.eigh(definite(x))[1][..., 0] ** 2, [(3, 3)]),
    "solve": (lambda a, b: mg.solve(definite(a), b), [(2, 3, 3), (3, 2)]),
    "solve for a vector": (lambda a, b: mg.solve(definite(a), b), [(3, 3), (3,)]),
    "einsum": (lambda x, y: mg.einsum("bij,jk->bik", x, y), [(2, 3, 4), (4, 5)]),
    "tril": (lambda x: mg.tril(x) - mg.triu(x, 1), [(3, 4)]),
    "matmul by whole numbers": (lambda x: mg.matmul(x, mg.Tensor(np.eye(4, dtype=int)).to(x.device)), [(3, 4)]),
    "tensordot": (lambda x, y: mg.tensordot(x, y, 1), [(3, 4), (4, 2)]),
    "batches of matmul": (mg.matmul, [(2, 1, 3, 4), (5, 4, 2)]),
    "reshape": (lambda x: x.reshape(2, -1).T, [(3, 4)]),
    "concatenate": (lambda x, y: mg.concatenate([x, y], 1), [(3, 4), (3, 2)]),
    "stack": (lambda x, y: mg.stack([x, y], 1), [(3, 4), (3, 4)]),
    "split": (lambda x: mg.split(x, 2, 1)[1], [(3, 4)]),
    "pad": (lambda x: mg.pad(x, ((1, 2), (0, 1))), [(3, 4)]),
    "pad by reflection": (lambda x: mg.pad(x, ((1, 2), (0, 1)), "reflect"), [(3, 4)]),
    "flip": (lambda x: mg.flip(x, 1), [(3, 4)]),
    "roll": (lambda x: mg.roll(x, 1, 0), [(3, 4)]),
    "tile": (lambda x: mg.tile(x, (2, 1)), [(3, 4)]),
    "repeat": (lambda x: mg.repeat(x, 2, 0), [(3, 4)]),
    "broadcast_to": (lambda x: mg.broadcast_to(x, (2, 3, 4)), [(3, 4)]),
    "moveaxis": (lambda x: mg.moveaxis(x, 0, 1), [(3, 4)]),
    "squeeze": (lambda x: mg.squeeze(mg.expand_dims(x, 1)), [(3, 4)]),
    "slices": (lambda x: x[1:, ::-2], [(3, 4)]),
    "rows by an array of the host": (lambda x: x[INDEX], [(3, 4)]),
    "rows by a list": (lambda x: x[[2, 0, 2]], [(3, 4)]),
    "one row by a list": (lambda x: x[[1]], [(3, 4)]),
    "rows by a Tensor": (lambda x: x[mg.Tensor(INDEX).to(x.device)], [(3, 4)]),
    "elements by two arrays": (lambda x: x[INDEX, np.array([0, 1, 1, 3])], [(3, 4)]),
    "a mask": (lambda x: x[x > 0], [(3, 4)]),
    "take": (lambda x: mg.take(x, INDEX, 0), [(3, 4)]),
    "take_along_axis": (lambda x: mg.take_along_axis(x, PICKS, 1), [(3, 4)]),
    "scatter_add": (lambda x, v: mg.scatter_add(x, PICKS, v, 1), [(3, 4), (3, 2)]),
    "top_k": (lambda x: mg.top_k(x, 2)[0], [(3, 4)]),
    "index_add": (lambda x, v: mg.index_add(x, INDEX, v), [(3, 4), (4, 4)]),
    "index_update": (lambda x, v: mg.index_update(x, INDEX, v), [(3, 4), (4, 4)]),
    "index_update of a slice": (lambda x, v: mg.index_update(x, slice(1, 3), v), [(3, 4), (2, 4)]),
    "embedding": (lambda x: mg.embedding(np.array([[0, 2], [2, 1]]), x, padding_idx=1), [(3, 4)]),
    "cross_entropy": (lambda x: mg.cross_entropy(x, LABELS, 0.1), [(3, 4)]),
    "soft cross_entropy": (lambda x, y: mg.cross_entropy(x, mg.softmax(y)), [(3, 4), (3, 4)]),
    "kl_div": (lambda x, y: mg.kl_div(mg.log_softmax(x), mg.softmax(y)), [(3, 4), (3, 4)]),
    "kl_divergence": (mg.kl_divergence, [(3, 4), (3, 4)]),
    "binary cross-entropy": (lambda x, y: mg.binary_cross_entropy(mg.sigmoid(x), mg.sigmoid(y)), [(3, 4), (3, 4)]),
    "with logits": (lambda x, y: mg.binary_cross_entropy_with_logits(x, mg.sigmoid(y), pos_weight=2.0), [(3, 4), (3, 4)]),
    "mse": (mg.mse_loss, [(3, 4), (3, 4)]),
    "l1": (mg.l1_loss, [(3, 4), (3, 4)]),
    "huber": (mg.huber_loss, [(3, 4), (3, 4)]),
    "margin ranking": (lambda x, y: mg.margin_ranking_loss(x, y, -1, 0.5), [(3, 4), (3, 4)]),
    "hinge embedding": (lambda x: mg.hinge_embedding_loss(x, [1, -1.0, 1, -1]), [(3, 4)]),
    "cosine embedding": (lambda x, y: mg.cosine_embedding_loss(x, y, [1, -1, 1]), [(3, 4), (3, 4)]),
    "gaussian nll": (lambda x, y, v: mg.gaussian_nll_loss(x, y, positive(v), True), [(3, 4), (3, 4), (3,)]),
    "gaussian nll of one variance": (lambda x, y: mg.gaussian_nll_loss(x, y, 0.5), [(3, 4), (3, 4)]),
    "poisson nll": (lambda x, y: mg.poisson_nll_loss(x, positive(y), full=True), [(3, 4), (3, 4)]),
    "ctc": (lambda x: mg.ctc_loss(x, [[1, 1], [2, 1]], [4, 3], [1, 2]), [(4, 2, 3)]),
    "pairwise distance": (lambda x, y: nn.functional.pairwise_distance(x, y, 3), [(3, 4), (3, 4)]),
    "cosine_similarity": (mg.cosine_similarity, [(3, 4), (3, 4)]),
    "weight_norm": (lambda v: mg.weight_norm(v, (v * v).sum(1, keepdims=True)), [(3, 4)]),
    "linear": (mg.linear, [(5, 4), (3, 4), (3,)]),
    "convolution with a bias": (lambda x, w, b: mg.conv2d(x, w, b), [(2, 3, 4, 4), (2, 3, 2, 2), (2,)]),
    "conv1d": (lambda x, w: mg.conv1d(x, w, padding=1), [(2, 3, 5), (2, 3, 3)]),
    "unfold": (lambda x: mg.unfold(x, (2, 3), padding=1, stride=2), [(2, 3, 4, 5)]),
    "fold": (lambda x: mg.fold(x, 4, 2, stride=2), [(2, 8, 4)]),
    "hardtanh": (lambda x: mg.hardtanh(x, -0.5, 0.5), [(3, 4)]),
    "celu": (lambda x: mg.celu(x, 0.5), [(3, 4)]), "hardsigmoid": (mg.hardsigmoid, [(3, 4)]),
    "hardshrink": (mg.hardshrink, [(3, 4)]), "softshrink": (mg.softshrink, [(3, 4)]),
    "threshold": (lambda x: mg.threshold(x, 0.2, 7), [(3, 4)]),
    "bilinear map": (mg.bilinear, [(5, 3), (5, 2), (4, 3, 2), (4,)]),
    "bags of embeddings": (
        lambda w: nn.functional_call(nn.EmbeddingBag(4, 3, padding_idx=1), {"weight": w}, [0, 2, 1, 2, 3], [0, 3, 3]), [(4, 3)]),
    "padding that reflects": (lambda x: nn.ReflectionPad2d((1, 2, 0, 1))(x), [(2, 3, 4, 5)]),
    "adaptive pooling": (lambda x: mg.adaptive_avg_pool2d(x, 2), [(1, 2, 5, 3)]),
    "adaptive max pooling": (lambda x: mg.adaptive_max_pool2d(x, 2), [(1, 2, 5, 3)]),
    "bilinear": (lambda x: mg.interpolate(x, size=(5, 4), mode="bilinear"), [(1, 2, 3, 3)]),
    "bicubic": (lambda x: mg.interpolate(x, size=(5, 4), mode="bicubic"), [(1, 2, 4, 3)]),
    "resized sequences": (lambda x: mg.interpolate(mg.interpolate(x, 5, mode="nearest-exact"), 3, mode="linear"), [(2, 1, 4)]),
    "nearest pixel": (lambda x: mg.grid_sample(x, x.detach().reshape(2, 2, 3, 2), mode="nearest"), [(2, 1, 3, 4)]),
    "sorted by descending indices": (lambda x: mg.take_along_axis(x, mg.argsort(x, 0, descending=True), 0), [(3, 4)]),
    "attention with weights": (
        lambda q: mg.scaled_dot_product_attention(q, q, q, return_weights=True, is_causal=True)[1], [(2, 3, 4)]),
    "attention after a prefix": (
        lambda q, p: mg.scaled_dot_product_attention(q, q, q, prefix=(p, p)), [(2, 2, 3, 4), (2, 2, 2, 4)]),
    "batch norm, evaluated": (
        lambda x, v: mg.batch_norm(x, v[0].detach()._array, positive(v[1]).detach()._array), [(4, 3), (2, 3)])}


def derivatives(f, *arrays):
    """The value, its gradients, and gradients of a function of these."""
    xs = [mg.Tensor(a, requires_grad=True) for a in arrays]
    y = f(*xs)
    if not y.requires_grad or y.dtype.kind != "f":
        return [y._array]
    weights = mg.Tensor(np.cos(np.arange(y.size)).reshape(y.shape)).to(y.device).astype(y.dtype)
    y.backward(weights)
    direction = lambda *xs: sum((mg.sin(g) * g).sum() for g in mg.grad(
        lambda *xs: (mg.sin(f(*xs)) * weights).sum(), tuple(range(len(xs))))(*xs))
    second = mg.grad(direction, tuple(range(len(xs))))(*[x.detach() for x in xs])
    return [y._array, *[x.grad._array for x in xs if x.grad is not None], *[g._array for g in second]]


@pytest.mark.parametrize("name", CASES)
def test_as_on_the_cpu(run, name):
    f, shapes = CASES[name]
    arrays = [normal(i, np.float64, *shape) for i, shape in enumerate(shapes)]
    for actual, right in zip(run(derivatives, f, *arrays), derivatives(f, *arrays), strict=True):
        assert actual.dtype == right.dtype
        if right.dtype.kind == "f":
            close(actual, right, factor=1e5)
        else:
            np.testing.assert_array_equal(actual, right)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "uint32", "int64", "uint64"])
@pytest.mark.parametrize("name", ["reciprocal", "sign"])
def test_whole_numbers_as_on_the_cpu(run, name, dtype):
    x = np.array([1, 0, 2, 3, -1 if dtype[0] == "i" else 4]).astype(dtype)
    with np.errstate(all="ignore"):
        actual, expected = run(lambda x: getattr(mg, name)(mg.Tensor(x))._array, x), getattr(np, name)(x)
    np.testing.assert_array_equal(actual, expected, strict=True)


def test_truth_values_have_no_sign(run):
    with pytest.raises(TypeError, match="sign: truth values have no sign"):
        run(lambda x: mg.sign(mg.Tensor(x)), np.array([True, False]))


def test_logsumexp_of_no_elements(run):
    assert run(lambda x: mg.logsumexp(mg.Tensor(x), 1)._array, np.zeros((3, 0))).tolist() == [-np.inf] * 3


IDS = np.array([[3, 1, 0], [2, 4, 0]])
IMAGES = normal(0, np.float64, 4, 3, 16, 16)
NETS = {
    "Conv-4": (lambda: nn.Conv4(3, 4), IMAGES), "WRN": (lambda: nn.WideResNet(10, 1, 3), IMAGES),
    "ViT": (lambda: nn.VisionTransformer(16, 8, 3, 3, 8, 1, 2), IMAGES),
    "BERT": (lambda: nn.BERT(vocab_size=9, hidden_size=8, num_layers=1, num_heads=2, intermediate_size=8), IDS),
    "GRU": (lambda: nn.GRU(3, 4, bidirectional=True), normal(0, np.float64, 12, 2, 3)),
    "Transformer": (lambda: nn.TransformerEncoderLayer(4, 2, 8), normal(0, np.float64, 2, 3, 4))}


def trained(make, x, path=None):
    """Two steps of training, its state written and read between them: the last loss and the parameters."""
    mg.random.seed(0)
    device = mg.Tensor(x).device
    net = make().to("float64").to(device).train(False)
    optimizers = [optim.LARS(net.parameters(), 0.01), optim.LAMB(net.parameters(), 0.01),
                  optim.SGD(net.parameters(), 0.01, 0.9)]
    average, scaler = optim.EMA(net), optim.LossScaler(2.0)
    for i in range(2):
        net.zero_grad()
        y = net(x if x.dtype.kind == "i" else mg.Tensor(x))
        y = y[1] if isinstance(y, tuple) else y
        loss = mg.square(mg.sin(y)).mean()
        scaler.scaled(loss).backward()
        optim.clip_grad_norm(net.parameters(), 0.1)
        scaler.step(optimizers[0])
        for optimizer in optimizers[1:]:
            optimizer.step()
        average.update()
        if path is not None and i == 0:
            parts = {"net": net, "lamb": optimizers[1], "average": average}
            for name, part in parts.items():
                io.save(path / name, part.state_dict())
                part.load_state_dict(io.load(path / name)[0])
    return [loss._array, *net.state_dict().values(), *average.state_dict().values()]


@pytest.mark.parametrize("name", NETS)
def test_nets_train_as_on_the_cpu(run, name, tmp_path):
    make, x = NETS[name]
    for actual, right in zip(run(trained, make, x, tmp_path), trained(make, x), strict=True):
        close(np.asarray(actual, np.float64), np.asarray(right, np.float64), factor=1e5)


def test_of_several_values_for_one_place_the_last_one_stays(run):
    """Also of those whose positions float32 does not tell apart."""
    n = (1 << 24) + 4
    index, values = np.zeros(n, np.int64), np.arange(n, dtype=np.float32)
    values[-2:] = 1, 7
    index[-1] = 1
    y = run(lambda x, index, values: mg.index_update(mg.Tensor(x), index, mg.Tensor(values))._array, np.zeros(2, np.float32),
            index, values)
    assert y.tolist() == [1, 7]


@pytest.mark.parametrize("dtype", HALF)
def test_products_of_vectors_are_rounded_once(run, dtype):
    x, y = np.array([[300, 300]], dtype), np.array([[300], [-300]], dtype)
    assert run(cuda.matmul, x, y) == 0
    x, y = np.array([[1 + 2**-7, -1 - 2**-6]], dtype), np.array([[1 + 2**-7], [1]], dtype)
    assert run(cuda.matmul, x, y) == 2**-14
    x = np.ones((1, 4096), dtype)
    assert run(cuda.matmul, x, x.T) == 4096 and run(cuda.matmul, x[None], x.T).shape == (1, 1, 1)


def test_products_of_whole_numbers(run):
    x = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(run(cuda.matmul, x, x.T), x @ x.T)


def test_an_array_beside_a_tensor(run):
    def results(a):
        x = mg.Tensor(a)
        results = [a * x, x * a, a - x, a / x, a @ x, a < x, a == x, a ** x, a + mg.Tensor(x, requires_grad=True)]
        assert all(isinstance(y, mg.Tensor) for y in results) and results[-1].requires_grad
        return [y._array for y in results]

    a = np.array([[1.0, 2.0], [3.0, 4.0]])
    right = [a * a, a * a, a - a, a / a, a @ a, a < a, a == a, a ** a, a + a]
    for actual, expected in zip(run(results, a), right, strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_an_assigned_array_goes_to_the_device_of_the_tensor(run):
    def assigned(x):
        p = nn.Parameter(x)
        p.data = np.ones(2)
        p[0] = np.array(3.0)
        p.data[1:] += 1
        return p._array

    with mg.no_grad():
        assert run(assigned, np.zeros(2)).tolist() == [3, 2]


@pytest.mark.parametrize("use", [
    lambda x: x[[5]], lambda x: x[np.array([0, -5])], lambda x: x[0, 9], lambda x: x[..., [1, 4]], lambda x: x[1.5], lambda x: x["1"],
    lambda x: x[np.array([True, False])], lambda x: mg.take(x, [0, 5], 0), lambda x: mg.take(x, [12]),
    lambda x: mg.take_along_axis(x, [[0, 9], [0, 0], [0, 0]], 1), lambda x: mg.scatter_add(x, [[4]] * 3, mg.ones_like(x[:, :1]), 1),
    lambda x: mg.index_update(x, [0, 5], 1.5), lambda x: mg.index_add(x, [0, 5], 1.5), lambda x: x.__setitem__([7], 1.0),
    lambda x: mg.embedding(np.array([4]), x), lambda x: mg.cross_entropy(x, np.array([0, 1, 4])),
    lambda x: mg.cross_entropy(x, np.array([0, 1, 2**64 - 100], np.uint64)), lambda x: mg.astype(x, "int64") ** -1])
def test_what_numpy_refuses_is_refused_on_the_device(run, use):
    with pytest.raises((IndexError, ValueError)):
        run(lambda x: use(mg.Tensor(x)), np.arange(12.0).reshape(3, 4))


@pytest.mark.parametrize("index", [[2, -3], (..., [1, 3]), (slice(1, None), None, np.array([0, -4])), (slice(0, 0), [1]), ([], 1),
                                   (np.array([True, False, True]), 1), (slice(None), [[0], [1]]), 2, ..., None, (-1, slice(9))], ids=str)
def test_indices_on_the_host_reach_the_device(run, index):
    x = np.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(run(lambda x: mg.Tensor(x)[index]._array, x), x[index])


def test_cotangents_and_directions_on_the_host_reach_the_device(run):
    def found(x):
        x, v = mg.Tensor(x, requires_grad=True), np.array([1.0, 2.0])
        (x ** 3).backward(v)
        return [y._array for y in (x.grad, mg.vjp(lambda x: x ** 3, x.detach())[1](v)[0],
                                   mg.hvp(lambda x: (x ** 3).sum(), x.detach(), v))]

    for actual, expected in zip(run(found, np.array([1.0, 3.0])), ([3, 54], [3, 54], [6, 36]), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-12)


def stepped(name, x, g):
    """A parameter and an optimiser's state after steps, the state taken out and put back between them."""
    p = nn.Parameter(x)
    optimizer = optim.Adam([p], amsgrad=True) if name == "amsgrad" else getattr(optim, name)([p], lr=0.1)
    for i in range(7):
        p.grad = mg.Tensor(g * (i + 1))
        optimizer.step()
        optimizer.load_state_dict(optimizer.state_dict())
    return [p._array, *[optimizer.state_dict()[f"{slot}.0"] for slot in optimizer.slots]]


@pytest.mark.parametrize("name", ["Adagrad", "Adadelta", "NAdam", "RAdam", "Muon", "RMSprop", "amsgrad"])
def test_optimisers_without_kernels(run, name):
    x, g = normal(0, np.float64, 4, 3), normal(1, np.float64, 4, 3)
    for actual, right in zip(run(stepped, name, x.copy(), g), stepped(name, x.copy(), g), strict=True):
        close(np.asarray(actual), right, factor=1e5)
