"""Captured steps: on the CPU, with kernels behind the stand-in and a stream that records them, and on the GPU."""
import contextlib
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


class FakeCupy:
    """What `minigrad.cuda_graph` uses of CuPy, on NumPy arrays. A launch on a stream that captures is kept for the graph."""

    takes_numpy = True
    zeros, array, asarray = np.zeros, np.array, np.asarray

    def __init__(self):
        self.standin, self.recording, self.log, self.pinned = standin.StandIn(), None, [], self.usual_pinned
        self.empty = self.standin.empty
        self.cuda = types.SimpleNamespace(
            Stream=lambda non_blocking: self, Device=lambda: self, MemoryPool=lambda: self,
            using_allocator=self.using_allocator, set_pinned_memory_allocator=lambda f: setattr(self, "pinned", f),
            device=types.SimpleNamespace(get_cublas_handle=nogpu.without_cublas))
        self.get_default_pinned_memory_pool = lambda: types.SimpleNamespace(malloc=self.usual_pinned)

    def run(self, *launched):
        if self.recording is None:
            self.standin.run(*launched)
        else:
            self.recording.append(launched)

    def usual_pinned(self, nbytes):
        return None

    def malloc(self, nbytes):
        raise AssertionError("NumPy allocates here")

    @contextlib.contextmanager
    def using_allocator(self, malloc):
        self.log.append("pool" if malloc == self.malloc else "?")
        yield

    def __enter__(self):
        self.log.append("stream")

    def __exit__(self, *error):
        self.log.append("left")

    def synchronize(self):
        pass

    def begin_capture(self):
        assert self.recording is None
        self.recording = []

    def end_capture(self):
        recorded, self.recording = self.recording, None
        return types.SimpleNamespace(launch=lambda: [self.standin.run(*launched) for launched in recorded])


@pytest.fixture(params=[pytest.param(None, id="fake", marks=needs_compiler)])
def fake(request, monkeypatch):
    cupy = FakeCupy()
    monkeypatch.setattr(backend, "cupy", lambda: cupy)
    with execution.using(cupy):
        yield cupy


class Layer(nn.Module):
    def __init__(self, shape):
        self.weight = nn.Parameter(normal(0, np.float64, *shape))


def prepared():
    """A step that is made of kernels only, and what it changes."""
    mg.random.seed(5)
    layer = Layer((4, 3))
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
    return mg.Tensor(normal(10 + t, np.float64, 5, 4)), mg.Tensor(normal(20 + t, np.float64, 4, 3))


def test_replays_equal_the_steps_that_they_stand_for(fake):
    runs = []
    for capture in (lambda step: step, mg.capture):
        step, layer, optimizer, ema = prepared()
        run = capture(step)
        results = []
        for t in range(5):
            optimizer.lr = 0.1 / (t + 1)
            results.append(run(*batch(t)))
        assert optimizer.steps == ema.updates == 5
        runs.append((results, layer.weight.numpy(), ema.average["weight"], random.get_state()))
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
    assert fake.log == ["stream", "pool", "left"] * 2  # once to warm up, once to trace


def test_a_replay_runs_no_python_of_the_step(fake):
    calls = []
    run = mg.capture(lambda x, scale: calls.append(scale) or (mg.gelu(x),))
    results = [run(mg.Tensor(np.full(3, float(t))), 2) for t in range(4)]
    assert calls == [2, 2] and isinstance(results[0], tuple)
    for t, (y,) in enumerate(results):
        close(y.numpy(), mg.gelu(np.full(3, float(t))).numpy())


def test_arrays_stay_arrays_and_may_lie_on_the_host(fake):
    run = mg.capture(lambda batch: {**batch, "y": mg.softmax(batch["x"])}, device="cuda")
    for t in range(3):
        x = normal(t, np.float32, 2, 3)
        results = run({"x": x, "t": None})
        assert isinstance(results["x"], np.ndarray) and results["x"] is not x
        close(results["y"].numpy(), mg.softmax(x).numpy())


def test_other_arguments_are_an_error(fake):
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


def test_arguments_by_name_may_come_in_any_order(fake):
    run = mg.capture(lambda a, b: mg.softmax(a))
    for t in range(4):
        a, b = mg.Tensor(normal(t, np.float64, 2, 3)), mg.Tensor(np.zeros((2, 3)))
        y = run(**({"a": a, "b": b} if t % 2 else {"b": b, "a": a}))
        close(y.numpy(), mg.softmax(a).numpy())


READS = {"item": lambda y: y.sum().item(), "float": lambda y: float(y.sum()), "if": lambda y: 1 if y.sum() else 2,
         "numpy": lambda y: y.numpy(), "tolist": lambda y: y.tolist(), "repr": repr,
         "index": lambda y: range(3)[y.sum().astype(int)]}


@pytest.mark.parametrize("name", READS)
def test_reading_on_the_host_is_an_error(fake, name):
    with pytest.raises(RuntimeError, match="cannot copy between host and GPU"):
        mg.capture(lambda x: READS[name](mg.gelu(x)))(mg.Tensor(np.ones(2)))
    assert execution.capture is None and fake.pinned == fake.usual_pinned


def test_after_an_error_the_step_can_be_captured_again(fake):
    fails = []

    def step(x):
        y = mg.gelu(x)
        if fails:
            raise fails[0]
        return mg.dropout(y, 0.5)

    run, x = mg.capture(step), mg.Tensor(np.ones(50))
    run(x)
    before = random.get_state()
    for error, seen in ((NotImplementedError("calling cuBLAS"), RuntimeError), (KeyError("own"), KeyError)):
        fails[:] = [error]
        with pytest.raises(seen, match="calling cuBLAS|own"):
            run(x)
        assert fake.recording is None and execution.capture is None and random.get_state() == before
    fails.clear()
    assert (run(x).numpy() != run(x).numpy()).any()


def test_copies_from_the_host_and_steps_in_steps_are_errors(fake):
    x = mg.Tensor(np.ones(2))
    inner = mg.capture(lambda x: x)
    for step, complaint in ((lambda x: fake.pinned(16), "16 bytes"), (inner, "inside another")):
        with pytest.raises(RuntimeError, match=complaint):
            mg.capture(step)(x)


def test_an_optimiser_without_a_kernel_is_refused(fake):
    layer = Layer((2, 2))
    optimizer = optim.LAMB(layer.parameters(), 0.1)

    def step(g):
        layer.weight.grad = g
        optimizer.step()

    with pytest.raises(RuntimeError, match="LAMB.*no CUDA kernel"):
        mg.capture(step)(mg.Tensor(np.ones((2, 2))))


def test_too_many_numbers(fake, monkeypatch):
    monkeypatch.setattr(cuda_graph, "SLOTS", 3)
    run, x = mg.capture(lambda x: [mg.dropout(x, 0.5) for _ in range(4)]), mg.Tensor(np.ones(2))
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


@pytest.mark.gpu
def test_a_training_step_on_the_gpu():
    eager, captured = train(lambda step: step), train(mg.capture)
    close(captured[0], eager[0], factor=1e5)
    for expected, actual in zip(eager[1:], captured[1:]):
        for name, value in expected.items():
            close(actual[name].get(), value.get(), factor=1e5)


@pytest.mark.gpu
def test_what_cannot_be_captured_on_the_gpu():
    x = mg.Tensor(np.ones((3, 3))).to("cuda")
    for step in (lambda x: float(x.sum()), lambda x: x * backend.cupy().asarray(np.ones((3, 3))),
                 lambda x: mg.Tensor(x.data @ x.data)):  # CuPy refuses cuBLAS, which mg.matmul does without
        run = mg.capture(step)
        with pytest.raises(RuntimeError):
            run(x)
            run(x)
        assert (x + x).numpy().sum() == 18
