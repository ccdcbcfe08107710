"""Captured steps: with the `cupy` that needs no GPU, whose streams record work, and on the GPU."""
import contextlib
import gc
import threading
import types

import nogpu
import numpy as np
import pytest
import standin
from kernelchecks import close, normal

import minigrad as mg
from minigrad import backend, cuda_graph, nn, optim
from minigrad.backend import execution, random

needs_compiler = pytest.mark.skipif(not standin.available, reason="there is no g++")


@pytest.fixture(params=[pytest.param(nogpu.installed, id="standin", marks=needs_compiler), pytest.param(
    contextlib.nullcontext, id="gpu", marks=pytest.mark.gpu)])
def gpu(request):
    with request.param():
        yield


@pytest.fixture
def counted(gpu, request):
    """The double's count of memory."""
    if "gpu" in request.node.callspec.id.split("-"):
        pytest.skip("the GPU's memory is not ours alone")
    gc.collect()
    cuda_graph._release()
    return nogpu.Memory


def on_gpu(array):
    return mg.Tensor(array).to("cuda")


class Layer(nn.Module):
    def __init__(self, shape):
        self.weight = nn.Parameter(normal(0, np.float64, *shape))


def prepared():
    """A step that is made of kernels only, and what it changes."""
    mg.random.seed(5)
    layer = Layer((4, 3)).to("cuda")
    optimizer, ema = optim.AdamW(layer.parameters(), 0.1), optim.EMA(layer)

    def step(x, g, p=0.5):
        layer.weight.grad = g
        optimizer.step()
        ema.update()
        y = mg.gelu(x @ layer.weight)
        state = random.get_state()
        first = mg.dropout(y, p)
        with random.preserved(state):
            again = mg.dropout(y, p)
        return {"y": first, "again": again, "other": mg.dropout(y, p), "name": "step"}

    return step, layer, optimizer, ema


def batch(t):
    return on_gpu(normal(10 + t, np.float64, 5, 4)), on_gpu(normal(20 + t, np.float64, 4, 3))


def test_replays_equal_the_steps_that_they_stand_for(gpu):
    runs = []
    for capture in (lambda step: step, mg.capture):
        step, layer, optimizer, ema = prepared()
        run = capture(step)
        results = []
        for t in range(5):
            optimizer.lr = 0.1 / (t + 1)
            results.append(run(*batch(t)))
        assert optimizer.steps == ema.updates == 5
        runs.append((results, layer.weight.numpy(), ema.average["weight"].get(), random.get_state()))
    (eager, *expected, eager_state), (replayed, *arrays, state) = runs
    assert state == eager_state
    for a, b in zip(arrays, expected):
        close(a, b)
    for a, b in zip(replayed, eager):
        assert a["name"] == "step"
        for name in ("y", "again", "other"):
            close(a[name].numpy(), b[name].numpy())
        np.testing.assert_array_equal(a["y"].numpy(), a["again"].numpy())
        assert (a["y"].numpy() != a["other"].numpy()).any()


def test_a_replay_runs_no_python_of_the_step(gpu):
    calls = []
    run = mg.capture(lambda x, scale: calls.append(scale) or (mg.gelu(x),))
    results = [run(on_gpu(np.full(3, float(t))), 2) for t in range(4)]
    assert calls == [2, 2] and isinstance(results[0], tuple)
    for t, (y,) in enumerate(results):
        close(y.numpy(), mg.gelu(np.full(3, float(t))).numpy())


def test_arrays_stay_arrays_and_may_lie_on_the_host(gpu):
    run = mg.capture(lambda batch: {**batch, "y": mg.softmax(batch["x"])}, device="cuda")
    for t in range(3):
        x = normal(t, np.float32, 2, 3)
        results = run({"x": x, "t": None})
        assert isinstance(results["x"], backend.cupy().ndarray)
        close(results["y"].numpy(), mg.softmax(x).numpy())


def test_other_arguments_are_an_error(gpu):
    run = mg.capture(lambda x, p: mg.gelu(x), device="cuda")
    x = np.zeros((4, 2))
    run(x, 0.5)
    for _ in range(2):
        for arguments, complaint in (((x[:3], 0.5), r"float64\[4, 2\], called with float64\[3, 2\]"),
                                     ((x.astype(np.float32), 0.5), r"called with float32\[4, 2\]"),
                                     ((x, 0.25), "captured with 0.5, called with 0.25"), ((0.5, 0.5), "called with 0.5"),
                                     ((x, x), "must be an array"), ((x, 0.5, 1), "trees do not match")):
            with pytest.raises(ValueError, match=complaint):
                run(*arguments)
        run(x, 0.5)


def test_arguments_by_name_may_come_in_any_order(gpu):
    run = mg.capture(lambda a, b: mg.softmax(a))
    for t in range(4):
        a, b = on_gpu(normal(t, np.float64, 2, 3)), on_gpu(np.zeros((2, 3)))
        y = run(**({"a": a, "b": b} if t % 2 else {"b": b, "a": a}))
        close(y.numpy(), mg.softmax(a).numpy())


READS = {"item": lambda y: y.sum().item(), "float": lambda y: float(y.sum()), "if": lambda y: 1 if y.sum() else 2,
         "numpy": lambda y: y.numpy(), "tolist": lambda y: y.tolist(), "repr": repr,
         "index": lambda y: range(3)[y.sum().astype(int)]}


@pytest.mark.parametrize("name", READS)
def test_reading_on_the_host_is_an_error(gpu, name):
    with pytest.raises(RuntimeError, match="cannot copy between host and GPU"):
        mg.capture(lambda x: READS[name](mg.gelu(x)))(on_gpu(np.ones(2)))
    assert execution.capture is None


def test_after_an_error_the_step_can_be_captured_again(gpu):
    fails = []

    def step(x):
        y = mg.gelu(x)
        if fails:
            raise fails[0]
        return mg.dropout(y, 0.5)

    run, x = mg.capture(step), on_gpu(np.ones(50))
    run(x)
    before = random.get_state()
    for error, kind in ((NotImplementedError("calling cuBLAS"), RuntimeError), (KeyError("own"), KeyError)):
        fails[:] = [error]
        with pytest.raises(kind, match="calling cuBLAS|own"):
            run(x)
        assert execution.capture is None and not execution.tracing and random.get_state() == before
    fails.clear()
    assert (run(x).numpy() != run(x).numpy()).any()


def test_copies_from_the_host_and_steps_in_steps_are_errors(gpu):
    x = on_gpu(np.ones(2))
    inner = mg.capture(lambda x: x)
    for step, complaint in ((lambda x: backend.cupy().asarray(np.ones(2)), "arrays of the host are arguments"),
                            (inner, "inside another")):
        run = mg.capture(step)
        with pytest.raises(RuntimeError, match=complaint):
            run(x)
            run(x)
        assert execution.capture is None
    assert (x + x).numpy().sum() == 4


def test_an_optimiser_without_a_kernel_is_refused(gpu):
    layer = Layer((2, 2)).to("cuda")
    optimizer = optim.LAMB(layer.parameters(), 0.1)

    def step(g):
        layer.weight.grad = g
        optimizer.step()

    with pytest.raises(RuntimeError, match="LAMB.*no CUDA kernel"):
        mg.capture(step)(on_gpu(np.ones((2, 2))))


def test_a_discarded_step_gives_its_memory_back(counted):
    layer = Layer((64, 64)).to("cuda")
    x, before = on_gpu(np.ones((64, 64))), counted.taken

    def step(x):
        layer.zero_grad()
        mg.gelu(x @ layer.weight).sum().backward()
        return mg.softmax(x)

    run = mg.capture(step)
    for _ in range(3):
        run(x)
    held = layer.weight.grad.numpy()
    assert counted.taken > before + 2 * x.data.nbytes
    del run
    gc.collect()
    assert counted.taken == before + x.data.nbytes  # the gradient, which is not lost
    np.testing.assert_array_equal(layer.weight.grad.numpy(), held)
    layer.zero_grad()
    mg.capture(lambda x: mg.gelu(x))(x)  # whatever is free now goes with the next step
    gc.collect()
    assert counted.taken == before


def test_no_memory_is_freed_while_a_step_is_traced(counted, monkeypatch):
    more = []

    def step(x):
        mg.gelu(x)
        return [mg.softmax(x) for _ in range(3 + len(more))]

    run, x = mg.capture(step), on_gpu(np.ones((64, 64)))
    run(x)
    more[:], taken = [1] * 3, counted.taken
    monkeypatch.setattr(counted, "SIZE", taken)
    with pytest.raises(MemoryError, match="left for the capture"):
        run(x)
    assert counted.taken == taken
    monkeypatch.undo()
    for _ in range(2):
        for y in run(x):
            close(y.numpy(), mg.softmax(x).numpy())


def test_out_of_memory_before_the_trace_takes_what_the_default_pool_has(counted, monkeypatch):
    calls, cupy = [], backend.cupy()
    monkeypatch.setattr(counted, "SIZE", counted.taken)
    monkeypatch.setattr(cupy, "get_default_memory_pool", lambda: types.SimpleNamespace(
        free_all_blocks=lambda: calls.append(monkeypatch.setattr(counted, "SIZE", 1 << 40))))
    mg.capture(lambda x: mg.gelu(x))(on_gpu(np.ones(3)))
    assert len(calls) == 1


def test_a_handle_is_destroyed_when_nothing_is_traced(counted):
    closed = []

    def blas():
        spy = types.SimpleNamespace(close=lambda: closed.append((nogpu.state.graph, execution.tracing)))
        spy.multiply = lambda x, xs, y, ys, k, c: None
        return spy

    x = on_gpu(np.ones(3))
    other = [mg.capture(lambda x: mg.gelu(x))]
    other[0](x)
    other[0].gpu.blas = blas()

    def step(x):
        if execution.tracing:
            other.clear()
            gc.collect()
            assert not closed
        return mg.gelu(x)

    run = mg.capture(step)
    run(x)
    run(x)
    assert closed == [(None, False)]


def test_other_threads_copy_while_a_step_is_traced(gpu):
    def elsewhere():
        assert execution.capture is None
        copied.append(on_gpu(np.ones(3)).numpy())

    def step(x):
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        return mg.gelu(x)

    copied, run, x = [], mg.capture(step), on_gpu(np.ones(3))
    for _ in range(3):
        close(run(x).numpy(), mg.gelu(x).numpy())
    assert len(copied) == 2


def test_products_of_whole_numbers(gpu):
    run, x = mg.capture(lambda x: x @ x), on_gpu(np.arange(4).reshape(2, 2))
    for _ in range(3):
        assert run(x).tolist() == [[2, 3], [6, 11]]


def test_a_step_stays_on_its_device(counted):
    run = mg.capture(lambda x: mg.gelu(x))
    with nogpu.Device(1):
        x = mg.Tensor(np.ones(3)).to("cuda:1")
        run(x)
    for _ in range(2):
        assert run(x).device == "cuda:1"


def test_a_step_that_failed_warms_up_again(gpu):
    fails, calls, x = [KeyError("own")], [], on_gpu(np.ones(3))

    def step(x):
        calls.append(execution.tracing)
        if fails:
            raise fails.pop()
        return mg.gelu(x)

    run = mg.capture(step)
    with pytest.raises(KeyError):
        run(x)
    for _ in range(3):
        close(run(x).numpy(), mg.gelu(x).numpy())
    assert calls == [False, False, True]


def test_too_many_numbers(gpu, monkeypatch):
    monkeypatch.setattr(cuda_graph, "SLOTS", 3)
    run, x = mg.capture(lambda x: [mg.dropout(x, 0.5) for _ in range(4)]), on_gpu(np.ones(2))
    run(x)
    with pytest.raises(RuntimeError, match="more than 3 numbers"):
        run(x)


def test_on_the_cpu_the_step_just_runs():
    calls = []

    def step(x, n=1):
        calls.append(n)
        return (x * n).sum()

    for device in (None, "cpu"):
        run = mg.capture(step, device)
        x = mg.Tensor(np.ones(3), requires_grad=True)
        for n in (1, 2, 3):
            y = run(x, n=n)
            assert y.item() == 3 * n
            x.grad = None
            y.backward()
            assert (x.grad.numpy() == n).all()
        assert run(np.ones(7)).item() == 7
    assert calls == [1, 2, 3, 1] * 2
    with pytest.raises(ValueError, match="'cpu' or 'cuda'"):
        mg.capture(step, "gpu")


class Net(nn.Module):
    def __init__(self):
        self.conv, self.norm, self.head = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Linear(4 * 9, 3)

    def forward(self, x):
        x = mg.max_pool2d(mg.gelu(self.norm(self.conv(x))), 2)
        return self.head(mg.dropout(x.reshape(len(x), -1), 0.3, self.training))


def train(capture, steps=6):
    """Losses, and the state of a net after some steps on the GPU."""
    mg.random.seed(1)
    net = Net().to("float64").to("cuda")
    optimizer, ema = optim.Adam(net.parameters(), 0.01), optim.EMA(net)

    def step(x, labels):
        net.zero_grad()
        loss = mg.cross_entropy(net(x), labels)
        loss.backward()
        optim.clip_grad_norm(net.parameters(), 1.0)
        optimizer.step()
        ema.update()
        return loss

    run, losses, rng = capture(step), [], np.random.default_rng(0)
    for t in range(steps):
        optimizer.lr = 0.01 / (t + 1)
        x, labels = mg.Tensor(rng.standard_normal((8, 2, 8, 8))).to("cuda"), mg.Tensor(rng.integers(0, 3, 8)).to("cuda")
        losses.append(run(x, labels))
    return [loss.item() for loss in losses], net.state_dict(), ema.average


def test_a_training_step(gpu):
    eager, captured = train(lambda step: step), train(mg.capture)
    close(captured[0], eager[0], factor=1e5)
    for expected, actual in zip(eager[1:], captured[1:]):
        for name, value in expected.items():
            close(actual[name].get(), value.get(), factor=1e5)


def test_what_cannot_be_captured(gpu):
    x = mg.Tensor(np.ones((3, 3))).to("cuda")
    for step in (lambda x: float(x.sum()), lambda x: x * backend.cupy().asarray(np.ones((3, 3))),
                 lambda x: mg.Tensor(x.data @ x.data)):  # CuPy refuses cuBLAS, which mg.matmul does without
        run = mg.capture(step)
        with pytest.raises(RuntimeError):
            run(x)
            run(x)
        assert (x + x).numpy().sum() == 18
