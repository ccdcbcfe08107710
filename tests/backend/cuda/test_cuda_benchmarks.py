"""`python -m tests.benchmarks --device cuda`: every layer runs there, and the table has shares of the GPU's rates."""
import math
import types

import nogpu
import numpy as np
import pytest
import standin

from tests.benchmarks import __main__ as benchmarks
from tests.benchmarks import workloads

pytestmark = pytest.mark.skipif(not standin.available, reason="there is no g++")


@pytest.fixture
def tiny(monkeypatch):
    """Inputs of few samples."""
    monkeypatch.setattr(workloads, "_input", lambda shape, device: np.ones((2, *shape[1:]), np.float32)[..., :8, :])
    monkeypatch.setattr(benchmarks, "BURST", 1)
    with nogpu.installed():
        yield


@pytest.mark.parametrize("name", workloads.LAYERS)
def test_layers_run_on_the_gpu(tiny, name):
    (chosen,) = [key for key in workloads.ALL if f": {name}," in key and key.endswith("forward and backward")]
    found = benchmarks.measure(chosen, "minigrad", 0.01, "cuda")
    assert found["memory"] == 0 and len(found["times"]) >= 1


def test_shares(tiny, monkeypatch):
    reached = benchmarks.roofs(1 << 12, 8)
    assert reached["bytes"] > 0 and reached["flops"] > 0
    name = next(key for key in workloads.ALL if "GELU" in key)
    assert workloads.WORK[name] == ("bytes", 2 * 4 * workloads.LARGER * math.prod(workloads._ROWS))
    monkeypatch.setattr(benchmarks, "in_a_process", lambda names, *_: ((n, {"times": [2.0], "memory": 1.0}) for n in names))
    args = types.SimpleNamespace(rounds=1, device="cuda", libraries=None)
    (row,) = benchmarks.compare([name], args, {"bytes": workloads.WORK[name][1], "flops": 1})
    assert row["share"] == {"bytes": 0.5} and "jax" not in row and "50 % of the bandwidth" in benchmarks.line(row)
