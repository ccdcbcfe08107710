"""Training steps of four networks: captured they compute the same as eagerly, and replays need no further memory.

On a GPU at full size; with the `cupy` that needs none, small.
"""
import contextlib
import gc
import os

import nogpu
import numpy as np
import pytest
import standin
from kernelchecks import close

import minigrad as mg
from methods.few_shot import maml, maml_nets, prototypical
from minigrad import backend, nn, optim
from minigrad.nn import models

WAY, INNER = 5, 2


@pytest.fixture(params=[pytest.param((nogpu.installed, True), id="standin", marks=pytest.mark.skipif(
    not standin.available, reason="there is no g++")), pytest.param(
        (contextlib.nullcontext, False), id="gpu", marks=pytest.mark.gpu)])
def small(request):
    """Whether sizes are small."""
    device, small = request.param
    with device():
        yield small


def _classified(net, dtype, shape, classes, logits):
    """A step that classifies images, what it changes, and its batches."""
    net = net.to(dtype).to("cuda")
    optimizer, average = optim.AdamW(net.parameters(), 1e-3), optim.EMA(net, 0.9)

    def step(x, labels):
        net.zero_grad()
        loss = mg.cross_entropy(logits(net, x), labels)
        loss.backward()
        optimizer.step()
        average.update()
        return loss

    def batch(rng):
        return rng.standard_normal(shape).astype(dtype), np.arange(classes)

    return step, lambda: {**net.state_dict(), **{f"average {k}": v for k, v in average.average.items()}}, batch


def conv4(dtype, small):
    """Prototypical networks, 5-way 1-shot with one query."""
    size, width = (16, 4) if small else (28, 64)

    def logits(net, x):
        z = net(x)
        return prototypical.logits(z[WAY:], z[:WAY].reshape(WAY, 1, -1).mean(1))

    return _classified(models.Conv4(1, width), dtype, (2 * WAY, 1, size, size), WAY, logits)


def vit(dtype, small):
    net = models.VisionTransformer(16, 8, 3, 4, 8, 1, 2) if small else models.VisionTransformer(32, 4, 3, 32, 192, 6, 3)
    n, size = (4, 16) if small else (32, 32)
    return _classified(net, dtype, (n, 3, size, size), n, lambda net, x: net(x))


class OfSequences(nn.Module):
    """The classes of sequences by the last state of a recurrent layer."""

    def __init__(self, inputs, size, classes):
        self.layer, self.head = nn.LSTM(inputs, size, bidirectional=True), nn.Linear(2 * size, classes)

    def forward(self, x):
        return self.head(self.layer(x)[0][-1])


def lstm(dtype, small):
    length, n, size = (9, 3, 4) if small else (24, 16, 64)
    return _classified(OfSequences(5, size, n), dtype, (length, n, 5), n, lambda net, x: net(x))


def maml_step(dtype, small):
    """Second order, 5-way 1-shot."""
    tasks, size, width = (2, 16, 4) if small else (4, 28, 64)
    config = maml.Config(inner_steps=INNER, alpha=0.1)
    start = maml_nets.init_conv_net(np.random.default_rng(0), WAY, width)
    params = {k: mg.Tensor(p.astype(dtype).to("cuda"), requires_grad=True) for k, p in start.items()}
    alpha, optimizer = maml.init_alpha(params, config), optim.Adam(list(params.values()), 1e-3)

    def step(support, query):
        loss, _ = maml.meta_loss(maml_nets.conv_net, maml.cross_entropy, params, alpha, support, query, config)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    def batch(rng):
        def part():
            return rng.standard_normal((tasks, WAY, 1, size, size)).astype(dtype), np.tile(np.arange(WAY), (tasks, 1))

        return part(), part()

    return step, lambda: {k: p.data for k, p in params.items()}, batch


STEPS = {"Conv-4": conv4, "ViT": vit, "LSTM": lstm, "MAML": maml_step}


def trained(build, small, capture, steps):
    """Losses and the state after some steps, arrays of the host."""
    mg.random.seed(0)
    step, state, batch = build("float64", small)
    run, rng = capture(step), np.random.default_rng(1)
    losses = [run(*mg.tree.map(lambda a: mg.Tensor(a).to("cuda"), batch(rng))) for _ in range(steps)]
    return {"loss": np.array([loss.item() for loss in losses])} | {k: v.get() for k, v in state().items()}


@pytest.mark.parametrize("name", STEPS)
def test_captured_equals_eager(small, name):
    eager, captured = (trained(STEPS[name], small, f, 4 if small else 10) for f in (lambda step: step, mg.capture))
    assert eager.keys() == captured.keys()
    for key, value in eager.items():
        close(captured[key], value, factor=1e6)  # sums in another order, and Adam divides gradients near 0 by themselves


def of_the_gpu(captured, alone):
    """Bytes: in arrays of this process, in its pools, and, if it is `alone`, of the GPU taken by anybody."""
    cupy = backend.cupy()
    cupy.cuda.Device().synchronize()
    pools, (free, total) = [cupy.get_default_memory_pool(), captured.gpu.pool], cupy.cuda.runtime.memGetInfo()
    return [sum(pool.used_bytes() for pool in pools), sum(pool.total_bytes() for pool in pools), (total - free) * alone]


@pytest.mark.parametrize("name", STEPS)
def test_replays_need_no_memory(small, name):
    """Nor another graph, whose memory is in no pool; other workers of pytest-xdist may use the GPU meanwhile."""
    mg.random.seed(0)
    step, _, batch = STEPS[name]("float32", small)
    run, rng = mg.capture(step, "cuda"), np.random.default_rng(1)
    taken, graphs, alone = [], [], "PYTEST_XDIST_WORKER" not in os.environ
    for t in range(6 if small else 205):
        loss = run(*batch(rng))
        if t >= 4:
            gc.collect()
            taken.append(of_the_gpu(run, alone))
            graphs.append(run.gpu.graph)
    first, last = ([f"{n / 2**20:.1f}" for n in numbers] for numbers in (taken[0], taken[-1]))
    print(f"\n{name}: MiB in arrays, in pools and of the GPU after 5 steps: {first}, after {t + 1}: {last}")
    assert np.isfinite(loss.item()) and all(graph is graphs[0] for graph in graphs)
    assert [max(numbers) for numbers in zip(*taken)] == taken[0]
