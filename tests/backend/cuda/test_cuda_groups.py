"""Parameter groups with the CUDA kernels: one launch a group and dtype, rates that change from replay to replay."""
import numpy as np
import pytest
from kernelchecks import close, normal
from test_cuda_capture import fake  # noqa: F401

import minigrad as mg
from minigrad import nn, optim


class Layer(nn.Module):
    def __init__(self):
        self.first, self.second, self.frozen, self.late = (nn.Parameter(normal(i, np.float64, 3, 2)) for i in range(4))


@pytest.mark.parametrize("kind, settings", [("SGD", dict(momentum=0.9)), ("SGD", {}), ("AdamW", {})])
def test_captured_groups(fake, monkeypatch, kind, settings):  # noqa: F811
    launched, run = [], fake.standin.run
    monkeypatch.setattr(fake.standin, "run", lambda *args: (launched.append(args[1]), run(*args)))
    runs = []
    for capture in (lambda step: step, mg.cuda.capture):
        layer = Layer()
        groups = [{"params": [layer.first, layer.frozen]},
                  {"params": [layer.second, layer.late], "lr": 0.03, "weight_decay": 0.2}]
        optimizer = getattr(optim, kind)(groups, 0.1, **settings)
        layer.frozen.requires_grad = False

        def step(g, h):
            layer.first.grad, layer.second.grad, layer.frozen.grad = g, h, h
            optimizer.step()

        step(mg.Tensor(normal(8, np.float64, 3, 2)), mg.Tensor(normal(9, np.float64, 3, 2)))
        layer.late.grad = mg.Tensor(np.ones((3, 2)))  # one step behind from now on
        captured = capture(step)
        for t in range(5):
            optimizer.lr = 0.1 / (t + 1)
            if t == 3:
                optimizer.param_groups[0]["lr"] = 0.5
            launched.clear()
            captured(mg.Tensor(normal(10 + t, np.float64, 3, 2)), mg.Tensor(normal(20 + t, np.float64, 3, 2)))
            assert len(launched) == (3 if kind == "AdamW" else 2)
        assert optimizer.steps == 6
        runs.append({**layer.state_dict(), **optimizer.state_dict()})
        assert (layer.frozen.numpy() == normal(2, np.float64, 3, 2)).all()
        assert (layer.late.numpy() != normal(3, np.float64, 3, 2)).all()
    eager, replayed = runs
    assert eager.keys() == replayed.keys() and ("steps.3" in eager) == (kind == "AdamW")
    for name, value in eager.items():
        close(np.asarray(replayed[name], np.float64), np.asarray(value, np.float64))
