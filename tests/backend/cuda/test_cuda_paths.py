"""The public operations on arrays of the GPU run through the kernels, and equal their definitions to second order."""
import contextlib
import copy
import pathlib
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernelchecks import HALF, close, normal, seeds

import minigrad as mg
from minigrad import backend, nn, ops, optim
from minigrad.backend import execution
from minigrad.backend.cpu.paths import PATHS as CPU_PATHS
from minigrad.backend.cuda import launch
from minigrad.backend.cuda.paths import PATHS
from minigrad.fused import Fused
from minigrad.ops import normalization, recurrent
from minigrad.tensor import wrap

whole_operations = True  # see conftest
few = settings(max_examples=5, deadline=None, derandomize=True)
LABELS = np.array([2, 0, -100, 4, 1])
MASK = np.arange(7) < np.array([7, 2, 0])[:, None, None, None]  # the last sample sees nothing
INDEX = np.array([[0, 2, 2], [-1, 0, 2]])


def like(x, array):
    """A NumPy array on the device of the Tensor x, its floats in the dtype of x."""
    return backend.xp(x._array).asarray(array, dtype=x.dtype if array.dtype.kind == "f" else None)


def batch_norm(x, w, b):
    statistics = [like(x, np.zeros(len(w))), like(x, np.ones(len(w)))]
    y = mg.batch_norm(x, *statistics, w, b, training=True)
    return y + wrap(statistics[0] + statistics[1]).sum()  # so that these are compared too


def norm_relu_pool(x, w, b):
    return mg.norm_relu_pool(x, like(x, np.zeros(len(w))), like(x, np.ones(len(w))), w, b, training=True)


def attention(mask=None, **options):
    return lambda q, k, v: mg.scaled_dot_product_attention(q, k, v, None if mask is None else like(q, mask), **options)


def both(results):
    """The states of an LSTM and its last cell in one Tensor."""
    y, (_, c) = results
    return mg.concatenate([y, c[None]])


# name: (function of Tensors, shapes of its arguments, kernels that it must run through)
CASES = {
    "softmax": (mg.softmax, [(3, 5)], {"softmax_forward", "softmax_backward"}),
    "softmax of another axis": (lambda x: mg.softmax(x, 0), [(3, 5)], {"softmax_forward", "softmax_backward"}),
    "log_softmax": (mg.log_softmax, [(2, 3, 40)], {"softmax_forward", "softmax_backward"}),
    "cross_entropy": (lambda x: mg.cross_entropy(x, like(x, LABELS), 0.1), [(5, 6)],
                      {"cross_entropy_forward", "cross_entropy_backward"}),
    "layer_norm": (lambda x, w, b: mg.layer_norm(x, 6, w, b), [(4, 6), (6,), (6,)],
                   {"layer_norm_forward", "layer_norm_backward", "layer_norm_affine_backward"}),
    "layer_norm without weights": (lambda x: mg.layer_norm(x, (2, 3)), [(4, 2, 3)], {"layer_norm_forward"}),
    "rms_norm": (lambda x, w: mg.rms_norm(x, 6, w), [(4, 6), (6,)], {"layer_norm_forward", "layer_norm_backward"}),
    **{name: (getattr(mg, name), [(5, 7)], {"activation_forward", "activation_backward"})
       for name in ("gelu", "silu", "leaky_relu", "softplus", "softsign")},
    "gelu by tanh": (lambda x: mg.gelu(x, "tanh"), [(5, 7)], {"activation_forward", "activation_backward"}),
    "relu6": (mg.relu6, [(5, 7)], {"activation_forward", "activation_backward"}),
    "relu of many": (lambda x: mg.relu(x), [(64, 70)], {"activation_forward", "activation_backward"}),
    "leaky_relu of another slope": (lambda x: mg.leaky_relu(x, 0.3), [(5, 7)], {"activation_forward"}),
    "max_pool2d": (lambda x: mg.max_pool2d(x, 3, 2, 1), [(2, 3, 7, 6)], {"max_pool_forward", "max_pool_backward"}),
    "avg_pool2d": (lambda x: mg.avg_pool2d(x, 3, 2, 1), [(2, 3, 7, 6)], {"avg_pool_forward", "avg_pool_backward"}),
    "batch_norm": (batch_norm, [(4, 3, 5, 2), (3,), (3,)],
                   {"plane_moments", "batch_norm_apply", "batch_norm_backward", "inverse_std"}),
    "batch_norm of vectors": (batch_norm, [(6, 3), (3,), (3,)], {"batch_norm_apply", "batch_norm_backward"}),
    "batch_norm of sequences": (batch_norm, [(4, 3, 5), (3,), (3,)], {"batch_norm_apply", "batch_norm_backward"}),
    "gradient of batch_norm": (lambda g, x, w: normalization._fused_norm_gradient(g, x, w, eps=1e-5),
                               [(4, 3, 5, 2), (4, 3, 5, 2), (3,)], {"batch_norm_backward", "batch_norm_double_backward"}),
    "norm_relu_pool": (norm_relu_pool, [(4, 3, 5, 6), (3,), (3,)],
                       {"norm_relu_pool_forward", "norm_relu_pool_backward", "inverse_std"}),
    "group_norm": (lambda x, w, b: mg.group_norm(x, 2, w, b), [(3, 4, 5), (4,), (4,)],
                   {"group_norm_forward", "group_norm_backward", "group_norm_sums"}),
    "group_norm without weights": (lambda x: mg.group_norm(x, 2), [(3, 4, 5)], {"layer_norm_forward"}),
    "conv2d": (lambda x, w: mg.conv2d(x, w, stride=2, padding=1), [(2, 3, 6, 5), (4, 3, 3, 2)],
               {"im2col", "col2im", "swap_planes"}),
    "conv2d with bias": (lambda x, w, b: mg.conv2d(x, w, b), [(2, 3, 6, 5), (4, 3, 3, 2), (4,)], {"im2col"}),
    "depthwise conv2d": (lambda x, w: mg.conv2d(x, w, groups=3), [(2, 3, 6, 5), (6, 1, 3, 3)],
                         {"depthwise_forward", "depthwise_input_backward", "depthwise_weight_backward"}),
    "conv_transpose2d": (lambda x, w: mg.conv_transpose2d(x, w, stride=2), [(2, 3, 4, 3), (3, 4, 3, 2)],
                         {"im2col", "col2im"}),
    "attention": (attention(), [(2, 3, 5, 4), (2, 3, 7, 4), (2, 3, 7, 4)],
                  {"attention_forward_32", "attention_backward_32"}),
    "causal attention": (attention(is_causal=True), [(2, 3, 5, 4)] * 3, {"attention_forward_32", "attention_backward_32"}),
    "masked attention": (attention(MASK), [(3, 2, 5, 4), (3, 2, 7, 4), (3, 2, 7, 4)], {"attention_forward_32"}),
    "attention with biased scores": (attention(np.linspace(-1, 1, 7)[None]), [(5, 4), (7, 4), (7, 4)],
                                     {"attention_forward_32"}),
    "packed_attention": (lambda x: mg.packed_attention(x, is_causal=True), [(2, 5, 3, 2, 4)],
                         {"attention_forward_32", "attention_backward_32"}),
    "rnn": (lambda *xs: mg.rnn(*xs)[0], [(3, 2, 4), (2, 5), (5, 4), (5, 5), (5,)], {"rnn_forward", "rnn_backward"}),
    "rnn of relu": (lambda *xs: mg.rnn(*xs, nonlinearity="relu", reverse=True)[0], [(3, 2, 4), (2, 5), (5, 4), (5, 5)],
                    {"rnn_forward", "rnn_backward"}),
    "gru": (lambda *xs: mg.gru(*xs)[0], [(3, 2, 4), (2, 5), (15, 4), (15, 5), (15,), (15,)], {"gru_forward", "gru_backward"}),
    "gru backwards": (lambda *xs: mg.gru(*xs, reverse=True)[1], [(3, 2, 4), (2, 5), (15, 4), (15, 5)],
                      {"gru_forward", "gru_backward"}),
    "gru_cell": (mg.gru_cell, [(2, 4), (2, 5), (15, 4), (15, 5)], {"gru_forward", "gru_backward"}),
    "lstm": (lambda *xs: mg.lstm(*xs)[0], [(3, 2, 4), (2, 5), (2, 5), (20, 4), (20, 5), (20,), (20,)],
             {"lstm_forward", "lstm_backward"}),
    "lstm backwards": (lambda *xs: both(mg.lstm(*xs, reverse=True)), [(3, 2, 4), (2, 5), (2, 5), (20, 4), (20, 5)],
                       {"lstm_forward", "lstm_backward"}),
    "last cell of lstm": (lambda *xs: mg.lstm(*xs)[1][1], [(3, 2, 4), (2, 5), (2, 5), (20, 4), (20, 5)],
                          {"lstm_forward", "lstm_backward"}),
    "grid_sample": (mg.grid_sample, [(2, 3, 4, 5), (2, 3, 2, 2)], {"grid_sample_forward", "grid_sample_backward"}),
    "grid_sample at the border": (lambda x, grid: mg.grid_sample(x, grid, "border", True), [(2, 3, 4, 5), (2, 3, 2, 2)],
                                  {"grid_sample_forward"}),
    "embedding": (lambda table: mg.embedding(like(table, INDEX % 4), table, padding_idx=0), [(4, 5)], {"index_add"}),
    "rows by index": (lambda x: x[like(x, INDEX)] ** 2, [(4, 5)], {"index_add"}),
    "index_add": (lambda x, v: mg.index_add(x, like(x, INDEX), v), [(4, 5), (2, 3, 5)], {"index_add"}),
}


class Recorder:
    """Runs kernels on another device and notes their names."""

    def __init__(self, device):
        self.device, self.takes_numpy, self.empty, self.kernels = device, device.takes_numpy, device.empty, set()

    def run(self, file, kernel, *rest):
        self.kernels.add(kernel)
        self.device.run(file, kernel, *rest)


@contextlib.contextmanager
def recorded():
    recorder = Recorder(launch.device())
    with execution.using(recorder):
        yield recorder.kernels


def first_order(f, *arrays):
    """Value and gradients, and the kernels that ran."""
    with recorded() as kernels:
        xs = [mg.Tensor(a, requires_grad=True) for a in arrays]
        y = f(*xs)
        y.backward(like(y, np.cos(np.arange(y.size)).reshape(y.shape)))
    return [y._array] + [x.grad._array for x in xs], kernels


def second_order(f, *arrays):
    """Gradients of the derivative along one direction of a function of the value that is not linear."""
    every = tuple(range(len(arrays)))

    def derivative(*xs):
        grads = mg.grad(lambda *xs: mg.sin(f(*xs)).sum(), every)(*xs)
        return sum((g * like(g, np.sin(1.0 + np.arange(g.size)).reshape(g.shape))).sum() for g in grads)

    return [g._array for g in mg.grad(derivative, every)(*map(mg.Tensor, arrays))]


@contextlib.contextmanager
def only_definitions():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Fused, "__call__", lambda self, *inputs, **settings: self.definition(*inputs, **settings))
        yield


def drawn(seed, dtype, shapes, flips):
    """Arrays, those whose bit in `flips` is set in another memory order."""
    arrays = [normal(seed + i, dtype, *shape) for i, shape in enumerate(shapes)]
    return [np.asfortranarray(a) if flips >> i & 1 else a for i, a in enumerate(arrays)]


@pytest.mark.parametrize("name", CASES)
@few
@given(seeds, st.integers(0, 7))
def test_value_and_derivatives_are_the_definitions(run, name, seed, flips):
    f, shapes, kernels = CASES[name]
    arrays = drawn(seed, np.float64, shapes, flips)
    results, used = run(first_order, f, *arrays)
    assert kernels <= used, f"only {sorted(used)} ran"
    with only_definitions():
        expected, _ = first_order(f, *arrays)
        expected_second = second_order(f, *arrays)
    for actual, right in zip(results, expected):
        close(actual, right)
    for actual, right in zip(run(second_order, f, *arrays), expected_second):
        close(actual, right, factor=100)


@pytest.mark.parametrize("dtype", [*HALF, np.float32, np.float64])
@pytest.mark.parametrize("shape, axis", [((2**9, 2**9), (0,)), ((2, 2**8, 2**9), (0, 1)), ((2**9, 16, 32), (0,))], ids=str)
def test_many_rows_are_added_up_by_a_kernel(run, shape, axis, dtype):
    x = normal(0, dtype, *shape)
    (total, kept), kernels = run(lambda x: sums(x, axis), x)
    assert "column_sum" in kernels and total.dtype == dtype
    close(total, x.astype(np.float64).sum(axis), scale=100)
    np.testing.assert_array_equal(kept, np.expand_dims(total, axis))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradients_of_a_convolutions_bias_are_added_up_by_a_kernel(run, dtype):
    _, kernels = run(first_order, CASES["conv2d with bias"][0], *drawn(0, dtype, CASES["conv2d with bias"][1], 0))
    assert {"row_sum", "column_sum"} <= kernels


def sums(x, axis):
    with recorded() as kernels:
        x = mg.Tensor(x)
        return [x.sum(axis)._array, x.sum(axis, keepdims=True)._array], kernels


@pytest.mark.parametrize("bias, affine, recording, kernel", [
    (False, True, False, True), (False, True, True, False), (True, True, False, False), (False, False, False, False)])
def test_batch_norm_goes_into_filters(run, bias, affine, recording, kernel):
    conv, norm = nn.Conv2d(3, 4, 3, bias=bias), nn.BatchNorm2d(4, affine=affine)
    norm.running_mean += np.arange(4, dtype=np.float32)
    norm.running_var += np.arange(4, dtype=np.float32)
    if affine:
        norm.weight.data[...], norm.bias.data[...] = np.arange(1, 5), np.arange(4)
    conv.eval(), norm.eval()

    def folded(x):
        with recorded() as kernels, mg.recording.recording(recording):
            on_device = [copy.deepcopy(module).to(mg.Tensor(x).device) for module in (conv, norm)]
            y = nn.layers.conv_norm(*on_device, mg.Tensor(x), "relu")
        assert y.requires_grad == recording
        return y._array, kernels

    x = normal(0, np.float32, 2, 3, 6, 7)
    y, kernels = run(folded, x)
    assert ("fold_norm" in kernels) == kernel
    close(y, mg.relu(norm(conv(mg.Tensor(x)))).numpy(), scale=30)
    norm = nn.BatchNorm2d(5, affine=affine).eval()
    with pytest.raises(ValueError, match="broadcast"):
        run(folded, x)


@pytest.mark.parametrize("dtype, of_statistics, kernel", [
    (np.float16, np.float32, True), (np.float32, np.float32, True), (np.float64, np.float64, True),
    (np.float32, np.float64, False), (np.float16, np.float16, False)])
@pytest.mark.parametrize("every", [1, 2])
def test_running_statistics(run, dtype, of_statistics, kernel, every):
    x, mean, var = normal(0, dtype, 4, 3, 5), normal(1, of_statistics, 6), np.arange(1, 7).astype(of_statistics)
    expected = [0.9 * mean[:3 * every:every] + 0.1 * x.mean((0, 2), dtype=np.float64),
                0.9 * var[:3 * every:every] + 0.1 * x.astype(np.float64).var((0, 2), ddof=1)]

    def moved(x, mean, var):
        with recorded() as kernels:
            mg.batch_norm(mg.Tensor(x), mean[:3 * every:every], var[:3 * every:every], None, None, training=True)
        return kernels

    assert ("move_running" in run(moved, x, mean, var)) == (kernel and every == 1)
    for a, b in zip((mean, var), expected):
        close(a[:3 * every:every].astype(min(dtype, of_statistics, key=lambda d: np.dtype(d).itemsize)), b, scale=10)


@pytest.mark.parametrize("dtype", [*HALF, np.float32])
@pytest.mark.parametrize("name", CASES)
def test_floats_keep_their_dtype(run, name, dtype):
    f, shapes, kernels = CASES[name]
    arrays = drawn(0, dtype, shapes, 0)
    results, used = run(first_order, f, *arrays)
    assert kernels <= used
    with only_definitions():
        expected, _ = first_order(f, *[a.astype(np.float64) for a in arrays])
    for actual, right in zip(results, expected):
        assert actual.dtype == dtype
        close(actual, right, factor=20 if dtype == np.float32 else 3)


def with_bad_numbers(f, arrays, which, place, bad):
    """Value and gradients with one number of an array, or of the cotangent (`which` is -1), replaced."""
    xs = [mg.Tensor(a.copy(), requires_grad=True) for a in arrays]
    if which >= 0:
        xs[which]._array.reshape(-1)[place % xs[which].size] = bad
    y = f(*xs)
    g = np.cos(np.arange(y.size)).reshape(y.shape)
    if which < 0:
        g.flat[place % g.size] = bad
    with np.errstate(all="ignore"):
        y.backward(like(y, g.astype(np.float32)))
    return [y._array] + [x.grad._array for x in xs]


WEIGHTED = {"norm_relu_pool", "conv2d", "depthwise conv2d", "conv_transpose2d"}  # whose weights are multiplied by zeros, too


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("name", [name for name in CASES if name != "gradient of batch_norm"])
def test_a_number_that_is_not_finite_stays_where_it_is(run, name, bad):
    """Both paths are not finite where the definition is not, and elsewhere all three agree."""
    f, shapes, _ = CASES[name]
    attends = "attention" in name  # products of matrices multiply by zeros, and infinite scores share in the definition
    for which in range(-1, 1 if name in WEIGHTED else len(shapes)):
        for place in (0, 5, 17):
            arrays, at = drawn(place, np.float32, shapes, 0), 7 * place + 3
            with np.errstate(all="ignore"):
                results = run(with_bad_numbers, f, arrays, which, at, bad), with_bad_numbers(f, arrays, which, at, bad)
                with only_definitions():
                    right, lost = (with_bad_numbers(f, arrays, which, at, x) for x in (bad, np.nan))
            for path, result in zip(("CUDA", "CPU"), results):
                for i, (actual, expected, spoilt) in enumerate(zip(result, right, lost)):
                    what = f"{path}: result {i} with {bad} at {at} of array {which}"
                    apart = np.isfinite(spoilt.astype(float))
                    if not (attends and i and path == "CPU"):
                        zero = actual.dtype.type(0)  # a number without a dtype would make float64 of 0-d arrays before NumPy 2
                        close(np.where(apart, actual, zero), np.where(apart, expected, zero), factor=100)
                    if np.isnan(bad) and not (attends and (i or which == 2)):  # values that nobody sees
                        assert not np.isfinite(actual[~apart].astype(float)).any(), f"{what} is hidden"
                    if np.isinf(bad) and not attends:
                        assert (np.isfinite(actual) == np.isfinite(expected)).all(), what


def test_every_path_belongs_to_an_operation():
    fused = {op.name for module in vars(ops).values() if hasattr(module, "__file__") for op in vars(module).values()
             if isinstance(op, Fused)}
    text = "".join(path.read_text() for path in pathlib.Path(mg.__file__).parent.rglob("*.py"))
    named = {*re.findall(r'(?:(?:with_paths|path|run_update)\("|of_two\(np\.)(\w+)', text), optim.SGD.kernel, optim.Adam.kernel}
    named -= fused
    # cuBLAS, CuPy or other paths do these.
    composed = {"linear", "conv2d_relu", "cdist", "prod", "cumprod", "rounded_distance", "limited", "elu", "hardswish", "prelu",
                "ctc_loss", "binary_cross_entropy_with_logits", "adaptive_avg_pool2d", "adaptive_max_pool2d", "mean_distance",
                "cosine_similarity"}
    assert PATHS.keys() - named == fused - composed
    assert CPU_PATHS.keys() - named == fused


@pytest.mark.parametrize("dtype", HALF)
def test_16_bits_beside_32_are_computed_with_in_32(run, dtype):
    x, w = normal(0, dtype, 3, 4), normal(1, np.float32, 4)
    f = lambda x, w: mg.rms_norm(600 * x, 4, w)
    (y, dx, dw), used = run(first_order, f, x, w)
    assert "layer_norm_forward" in used and (y.dtype, dx.dtype, dw.dtype) == (np.float32, dtype, np.float32)
    with only_definitions():
        for actual, right in zip((y, dx, dw), first_order(f, *map(np.float64, (x, w)))[0]):
            close(actual, right, factor=1 if actual.dtype == dtype else 300)


def test_where_the_kernels_do_not_reach_the_definition_serves(run):
    for f, shapes, kernel in ((attention(), [(1, 1, 2, 130)] * 3, "attention_forward_128"),
                              (attention(), [(1, 1, 2, 5), (1, 1, 3, 5), (1, 1, 3, 4)], "attention_forward_32"),
                              (lambda q, m: mg.scaled_dot_product_attention(q, q, q, m), [(1, 1, 2, 3), (2, 2)],
                               "attention_backward_32")):
        arrays = drawn(0, np.float64, shapes, 0)
        results, used = run(first_order, f, *arrays)
        assert kernel not in used
        with only_definitions():
            for actual, right in zip(results, first_order(f, *arrays)[0]):
                close(actual, right)
    (y, *_), used = run(first_order, lambda x, w: mg.rms_norm(x.astype("float32"), 4, w),
                        *drawn(0, np.float64, [(3, 4), (4,)], 0))
    assert "layer_norm_forward" in used and y.dtype == np.float64  # float32 by float64: both as float64


UNITS = {"rnn": (recurrent._fused_rnn, 1, 1, {"rectified": False}), "gru": (recurrent._fused_gru, 3, 1, {}),
         "lstm": (recurrent._fused_lstm, 4, 2, {})}


def unit(name, arrays, wanted):
    """The outputs of a recurrent unit, and the gradients of those of its inputs that are wanted."""
    function, _, _, settings = UNITS[name]
    xs = [mg.Tensor(a, requires_grad=i in wanted) for i, a in enumerate(arrays)]
    outs = function(*xs, **settings, reverse=False)
    outs = outs if type(outs) is tuple else (outs,)
    weights = [like(y, np.arange(y.size).reshape(y.shape) % 5 - 2.0) for y in outs]  # numbers of 16 bits, too
    sum((y * g).astype("float32").sum() for y, g in zip(outs, weights)).backward()
    assert all((x.grad is not None) == (i in wanted) for i, x in enumerate(xs))
    return [y._array for y in outs] + [xs[i].grad._array for i in wanted]


def inputs_of_unit(name, dtype, length):
    _, gates, states, _ = UNITS[name]
    return drawn(0, dtype, [(length, 2, 5 * gates), *[(2, 5)] * states, (5 * gates, 5)], 0)


@pytest.mark.parametrize("name", UNITS)
def test_some_gradients_of_recurrent_units(run, name):
    arrays = inputs_of_unit(name, np.float32, 3)
    every = run(unit, name, arrays, tuple(range(len(arrays))))
    outputs = len(every) - len(arrays)
    for wanted in [(i,) for i in range(len(arrays))] + [(0, len(arrays) - 1)]:
        for actual, right in zip(run(unit, name, arrays, wanted)[outputs:], [every[outputs + i] for i in wanted], strict=True):
            np.testing.assert_array_equal(actual, right)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", UNITS)
def test_recurrent_states_of_16_bits_have_32_until_the_end(run, name, dtype):
    arrays = inputs_of_unit(name, dtype, 30)
    wide = [a.astype(np.float32) for a in arrays]
    results, expected = (run(unit, name, given, tuple(range(len(given)))) for given in (arrays, wide))
    assert [i for i, a in enumerate(results) if a.dtype != dtype] == ([1] if name == "lstm" else [])  # the last cell
    for actual, right in zip(results, expected):
        np.testing.assert_array_equal(actual, right.astype(actual.dtype))


def dropped(x, p):
    mg.random.seed(3)
    x = mg.Tensor(x, requires_grad=True)
    with recorded() as kernels:
        y = mg.dropout(x, p)
        y.backward(backend.xp(y._array).ones_like(y._array))
        mg.random.seed(3)
        again = mg.dropout(x, p)
        fresh = mg.dropout(x, p)
        paths = mg.drop_path(x, p)
    return [a._array for a in (y, x.grad, again, fresh, paths)], kernels


@pytest.mark.parametrize("dtype", [np.float64, np.float32, *HALF])
def test_dropout(run, dtype):
    (y, dx, again, fresh, paths), kernels = run(dropped, np.ones((400, 50), dtype), 0.3)
    assert kernels == {"dropout", "philox_words"}
    assert abs((y == 0).mean() - 0.3) < 0.02 and y.dtype == dtype
    close(np.unique(y), np.array([0, 1 / 0.7]))
    np.testing.assert_array_equal(y, dx)
    np.testing.assert_array_equal(y, again)
    assert (y != fresh).any()
    assert ((paths == 0).all(1) | (paths != 0).all(1)).all() and 0.2 < (paths[:, 0] == 0).mean() < 0.4


def picked(x):
    mg.random.seed(3)
    x = mg.Tensor(x, requires_grad=True)
    y = mg.gumbel_softmax(x, hard=True)
    (y * y).sum().backward()
    return [a._array for a in (y, x.grad, mg.dropout2d(x + 1, 0.3))]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_classes_and_channels_are_drawn(run, dtype):
    y, dx, channels = run(picked, np.zeros((400, 50, 4), dtype))
    assert y.dtype == channels.dtype == dtype and ((y == 0) | (y == 1)).all() and (y.sum(-1) == 1).all()
    np.testing.assert_allclose(y.mean((0, 1)), 0.25, atol=0.02)
    assert np.isfinite(dx).all() and dx.any()
    assert (channels == channels[..., :1]).all() and abs((channels == 0).mean() - 0.3) < 0.02


MAKES = {"SGD": lambda ps: optim.SGD(ps, 0.1), "momentum": lambda ps: optim.SGD(ps, 0.1, 0.9, 0.01, nesterov=True),
         "Adam": lambda ps: optim.Adam(ps, 0.1, eps=1e-3, weight_decay=0.1),
         "AdamW": lambda ps: optim.AdamW(ps, 0.1, (0.5, 0.9), 1e-3),
         "LAMB": lambda ps: optim.LAMB(ps, 0.1, eps=1e-3), "LARS": lambda ps: optim.LARS(ps, 0.1)}


def trained(make, arrays, grads):
    """The arrays after three steps along the same gradients, their moving averages, and the names of the kernels."""
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm2d(4))
    for p, a in zip(net.parameters(), arrays):
        p._array = a
    net[1].running_mean, net[1].running_var = arrays[4:]
    ema, optimizer = optim.EMA(net), make(net.parameters())
    with recorded() as kernels:
        for _ in range(3):
            for p, g in zip(net.parameters(), grads):
                p.grad = mg.Tensor(g.T.copy().T)
            optimizer.step()
            ema.update()
    return list(ema.average.values()), kernels


@pytest.mark.parametrize("dtypes", [(np.float64, np.float64), (np.float32, np.float64), *[(half, np.float32) for half in HALF]],
                         ids=str)
@pytest.mark.parametrize("name", MAKES)
def test_optimisers(run, name, dtypes):
    shapes = [(2, 3), (2,), (4,), (4,), (4,), (4,)]
    arrays = [normal(i, dtypes[i % 2], *shape) for i, shape in enumerate(shapes)]
    grads = [normal(10 + i, dtypes[i % 2], *shape) for i, shape in enumerate(shapes)]
    wide = [a.copy() for a in arrays]
    expected, none = trained(MAKES[name], wide, grads)
    assert not none
    averages, kernels = run(trained, MAKES[name], arrays, grads)
    step = {"SGD": "sgd_step", "momentum": "sgd_step", "LAMB": None, "LARS": None}.get(name, "adam_step")
    assert kernels == {step, "ema_step"} - {None}
    for actual, right in zip(averages + arrays, expected + wide):
        close(actual, right, scale=3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("name", MAKES)
def test_optimisers_keep_a_bad_gradient_where_it_is(run, name, bad):
    shapes = [(2, 3), (2,), (4,), (4,), (4,), (4,)]
    grads = [normal(10 + i, np.float32, *shape) for i, shape in enumerate(shapes)]
    grads[0][1, 1] = bad
    here, there = ([normal(i, np.float32, *shape) for i, shape in enumerate(shapes)] for _ in range(2))
    with np.errstate(all="ignore"):
        averages, _ = trained(MAKES[name], here, grads)
        others, _ = run(trained, MAKES[name], there, grads)
    for actual, right in zip(others + there, averages + here):
        np.testing.assert_array_equal(np.isfinite(actual), np.isfinite(right))
    rest = np.isfinite(there[0]).sum()
    assert rest >= 5 or name in ("LAMB", "LARS"), "these alone look at the norm of a parameter and of its step"
    assert all(np.isfinite(a).all() for a in there[1:])


def clipped(grads, most):
    params = [nn.Parameter(backend.xp(g).zeros_like(g)) for g in grads]
    for p, g in zip(params, grads):
        p.grad = mg.Tensor(g)
    return float(optim.clip_grad_norm(params, most))


@pytest.mark.parametrize("most, factor", [(10.0, 1), (1.0, 0.2)])
def test_clipping(run, most, factor):
    grads = [np.array([3.0, 0]), np.array([[4.0]])]
    assert run(clipped, grads, most) == 5
    np.testing.assert_allclose(np.concatenate([g.ravel() for g in grads]), factor * np.array([3, 0, 4]))


class Net(nn.Module):
    def __init__(self):
        self.conv, self.norm, self.position = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Embedding(9, 4)
        self.attention, self.head = nn.Linear(4, 12), nn.Linear(4, 3)

    def forward(self, x):
        x = mg.max_pool2d(mg.gelu(self.norm(self.conv(x))), 2)
        x = x.reshape(len(x), 4, 9).transpose(0, 2, 1)
        x = mg.layer_norm(x + self.position(backend.xp(x._array).arange(9)), 4)
        return self.head(mg.packed_attention(self.attention(x).reshape(len(x), 9, 3, 2, 2)).mean(1))


def two_steps(x, labels):
    """Everything that two steps of training change, and the kernels."""
    mg.random.seed(0)
    net = Net().to("float64").to(mg.Tensor(x).device)
    optimizer = optim.SGD(net.parameters(), 0.1, 0.9)  # Adam would blow up the rounding of gradients that are 0
    with recorded() as kernels:
        for _ in range(2):
            net.zero_grad()
            loss = mg.cross_entropy(net(mg.Tensor(x)), labels)
            loss.backward()
            optimizer.step()
    return {"loss": loss._array, **net.state_dict()}, kernels


def half_gradients(x, labels):
    """The loss and its gradients in the weights, computed in the dtype of x from weights of float32, and the kernels."""
    mg.random.seed(0)
    net = Net().to(mg.Tensor(x).device)
    half = {name: p.astype(x.dtype) for name, p in net.named_parameters()}
    with recorded() as kernels:
        logits = nn.functional_call(net, half, mg.Tensor(x))
        assert logits.dtype == x.dtype
        loss = mg.cross_entropy(logits.astype("float32"), labels)
        loss.backward()
    assert all(b.dtype == np.float32 for _, b in net.named_buffers())
    return [loss._array, *[p.grad._array for p in net.parameters()]], kernels


@pytest.mark.parametrize("dtype", HALF)
def test_a_net_in_half_precision(run, dtype):
    x, labels = normal(0, dtype, 4, 2, 8, 8), np.array([0, 2, 1, 1])
    actual, kernels = run(half_gradients, x, labels)
    assert kernels >= {"im2col", "batch_norm_apply", "activation_backward", "max_pool_backward", "index_add",
                       "layer_norm_backward", "attention_backward_32"}
    expected, _ = half_gradients(x.astype(np.float32), labels)
    for value, right in zip(actual, expected):
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, right, rtol=0, atol={np.float16: 5e-3}.get(dtype, 4e-2))


def test_a_net_of_all_of_them_trains_alike(run):
    x, labels = normal(0, np.float64, 4, 2, 8, 8), np.array([0, 2, 1, 1])
    expected, none = two_steps(x, labels)
    actual, kernels = run(two_steps, x, labels)
    assert not none and kernels >= {"im2col", "batch_norm_apply", "activation_backward", "max_pool_backward",
                                    "index_add", "layer_norm_backward", "attention_backward_32", "sgd_step"}
    for name, value in expected.items():
        close(actual[name], value, factor=1000)
