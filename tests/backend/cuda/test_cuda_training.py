"""The training loop with a method whose steps are captured."""
import contextlib
from dataclasses import dataclass

import nogpu
import numpy as np
import pytest
import standin
from kernelchecks import close

import minigrad as mg
from methods.training import checkpoint, loop
from methods.training.evaluation import in_batches
from methods.training.forward import placed, tensor
from methods.training.method import Method
from methods.training.run import RunFolder
from methods.training.settings import RunError
from minigrad import backend, cuda_graph, nn, optim

pytest.importorskip("tqdm")
pytest.importorskip("safetensors")


@pytest.fixture(params=[pytest.param(nogpu.installed, id="standin", marks=pytest.mark.skipif(
    not standin.available, reason="there is no g++")), pytest.param(
        contextlib.nullcontext, id="gpu", marks=pytest.mark.gpu)])
def device(request):
    with request.param():
        yield


@dataclass
class Run:
    seed: int = 0


class Classification(Method):
    """Classification with dropout and batch norm, whose gradients are clipped."""

    def arguments(self, batch, step):
        return {"x": tensor(self.net, batch[0])}, *placed(self.net, batch[1])

    def objective(self, inputs, y):
        logits = self.net(inputs["x"])
        return mg.cross_entropy(logits, y), {"right": (logits.data.argmax(1) == y.data).mean(), "mean": logits.mean()}

    def after_backward(self, step):
        assert step is None
        optim.clip_grad_norm_(self.net.parameters(), 0.5)

    def schedule(self, step, steps):
        return 1 / (step + 1)


class Points:
    """Batches of `sizes` in turn; in the one with number `broken` stands infinity."""

    def __init__(self, *sizes, broken=None):
        self.sizes, self.broken, self.done, self.rng = sizes, broken, 0, np.random.default_rng(0)

    def sample(self):
        n, self.done = self.sizes[self.done % len(self.sizes)], self.done + 1
        x = self.rng.normal(size=(n, 5))
        return np.full_like(x, np.inf) if self.done - 1 == self.broken else x, np.arange(n) % 3

    def state_dict(self):
        return {"done": self.done, "rng": self.rng.bit_generator.state}

    def load_state_dict(self, state):
        self.done, self.rng.bit_generator.state = state["done"], state["rng"]


def trained(path, batches, steps=6, resume=False, kind=Classification, optimizer=optim.SGD, **settings):
    """The folder of a run on the GPU."""
    mg.random.seed(0)
    net = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.GELU(), nn.Dropout(0.2), nn.Linear(8, 3)).to("cuda")
    folder, x = RunFolder(path, Run(), resume), np.ones((2, 5))
    loop.train(kind(None, net), batches, {"sgd": optimizer(net.parameters(), 0.1, 0.9)}, steps, folder, evaluate_every=1,
               evaluate=lambda done: {"evaluated": float(in_batches(net, x).mean())}, **settings)
    return folder


def replays_of(monkeypatch):
    """A list of the captured steps that are replayed from now on."""
    replays, replayed = [], cuda_graph.Captured._replayed
    monkeypatch.setattr(cuda_graph.Captured, "_replayed", lambda self: replays.append(self) or replayed(self))
    return replays


def same(folder, other):
    """Whether two runs have the same log and the same checkpoint but for rounding."""
    for line, expected in zip(folder.history(), other.history(), strict=True):
        line["seconds"] = expected["seconds"]
        assert line == pytest.approx(expected, rel=1e-4, abs=1e-5)  # means may be near 0
    (arrays, facts), (expected, known) = (mg.io.load(each.checkpoint) for each in (folder, other))
    assert facts == known and arrays.keys() == expected.keys()
    for key, array in expected.items():
        close(arrays[key].astype(float), array.astype(float), scale=1, factor=1e8)


@pytest.fixture
def eager(tmp_path):
    """A function of batches and steps that trains without captures."""
    def run(*batches, **settings):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mg, "capture", lambda step: step)
            return trained(tmp_path / "eager", *batches, **settings)

    return run


def test_replays_are_the_steps_that_they_stand_for(device, eager, tmp_path, monkeypatch):
    """With evaluation in between, and a resumption."""
    replays = replays_of(monkeypatch)
    trained(tmp_path / "run", Points(4))
    folder = trained(tmp_path / "run", Points(4), 10, True)
    assert len(replays) == 5 + 3 and len(set(replays)) == 2 and len(folder.history()) == 10
    same(folder, eager(Points(4), 10))
    assert len(replays) == 8


def test_each_shape_has_a_graph_and_the_last_ones_none(device, eager, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "GRAPHS", 2)
    replays = replays_of(monkeypatch)
    same(trained(tmp_path / "run", Points(4, 3, 6), 9), eager(Points(4, 3, 6), 9))
    assert len(set(replays)) == 2 and len(replays) == 3


def test_shapes_that_come_once_have_no_graph(device, tmp_path, monkeypatch):
    made, capture = [], mg.capture
    monkeypatch.setattr(mg, "capture", lambda step: made.append(step) or capture(step))
    trained(tmp_path / "run", Points(4, 3, 5, 6, 7, 8, 7), 7)
    assert len(made) == 2  # of the first one, and of the one that comes again


def test_a_network_that_cannot_be_captured_trains_all_the_same(device, eager, tmp_path, monkeypatch):
    class Odd(Classification):
        def objective(self, inputs, y):
            ones = backend.cupy().asarray(np.ones((4, 5), np.float32))  # of the host
            return super().objective({"x": inputs["x"] * mg.Tensor(ones)}, y)

    with pytest.warns(UserWarning, match="steps take longer, as they are not captured: .*copied to the GPU before"):
        folder = trained(tmp_path / "run", Points(4), kind=Odd)
    same(folder, eager(Points(4)))


def test_an_optimiser_without_a_kernel_trains_all_the_same(device, eager, tmp_path, monkeypatch):
    replays = replays_of(monkeypatch)
    same(trained(tmp_path / "run", Points(4), optimizer=optim.LARS), eager(Points(4), optimizer=optim.LARS))
    assert not replays


def test_what_reads_on_the_host_is_an_error(device, tmp_path):
    class Reading(Classification):
        def objective(self, inputs, y):
            loss, numbers = super().objective(inputs, y)
            return loss, {"loss": float(loss)}

    with pytest.raises(RuntimeError, match="cannot copy between host and GPU"):
        trained(tmp_path / "run", Points(4), kind=Reading)


def test_a_replay_that_diverges_ends_the_run(device, tmp_path):
    with pytest.raises(RunError, match="the loss of step 5 is nan.*the checkpoint after step 4"):
        trained(tmp_path / "run", Points(4, broken=4), save_every=2)
    assert checkpoint.load(tmp_path / "run" / "checkpoint.safetensors")["step"] == 4
