"""Parameter groups with the CUDA kernels: one launch a group and dtype, rates that change from replay to replay."""
import contextlib

import nogpu
import numpy as np
import pytest
import standin
from kernelchecks import close, normal

import minigrad as mg
from minigrad import nn, optim


class Layer(nn.Module):
    def __init__(self):
        self.first, self.second, self.frozen, self.late = (nn.Parameter(normal(i, np.float64, 3, 2)) for i in range(4))


@pytest.fixture(params=[
    pytest.param(True, id="standin", marks=pytest.mark.skipif(not standin.available, reason="there is no g++")),
    pytest.param(False, id="gpu", marks=pytest.mark.gpu)])
def standing_in(request):
    with nogpu.installed() if request.param else contextlib.nullcontext():
        yield request.param


def drawn(seed):
    return mg.Tensor(normal(seed, np.float64, 3, 2)).to("cuda")


@pytest.mark.parametrize("kind, settings", [("SGD", dict(momentum=0.9)), ("SGD", {}), ("AdamW", {})])
def test_captured_groups(standing_in, monkeypatch, kind, settings):
    launched, run = [], standin.StandIn.run
    monkeypatch.setattr(standin.StandIn, "run", lambda *args: (launched.append(args[2]), run(*args)))
    runs = []
    for capture in (lambda step: step, mg.capture):
        layer = Layer().to("cuda")
        groups = [{"params": [layer.first, layer.frozen]},
                  {"params": [layer.second, layer.late], "lr": 0.03, "weight_decay": 0.2}]
        optimizer = getattr(optim, kind)(groups, 0.1, **settings)
        layer.frozen.requires_grad = False

        def step(g, h):
            layer.first.grad, layer.second.grad, layer.frozen.grad = g, h, h
            optimizer.step()

        step(drawn(8), drawn(9))
        layer.late.grad = mg.Tensor(np.ones((3, 2))).to("cuda")  # one step behind from now on
        captured = capture(step)
        for t in range(5):
            optimizer.lr = 0.1 / (t + 1)
            if t == 3:
                optimizer.param_groups[0]["lr"] = 0.5
            launched.clear()
            captured(drawn(10 + t), drawn(20 + t))
            assert not standing_in or len(launched) == (3 if kind == "AdamW" else 2)
        assert optimizer.steps == 6
        runs.append({name: mg.Tensor(value).numpy() for name, value in {**layer.state_dict(), **optimizer.state_dict()}.items()})
        assert (layer.frozen.numpy() == normal(2, np.float64, 3, 2)).all()
        assert (layer.late.numpy() != normal(3, np.float64, 3, 2)).all()
    eager, replayed = runs
    assert eager.keys() == replayed.keys() and ("steps.3" in eager) == (kind == "AdamW")
    for name, value in eager.items():
        close(np.asarray(replayed[name], np.float64), np.asarray(value, np.float64))
