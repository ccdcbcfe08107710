"""Each test of a kernel runs behind the stand-in, and, marked `gpu`, on the device: `pytest -m gpu tests/backend/cuda`."""
import importlib.util

import numpy as np
import nogpu
import pytest
import standin
from hypothesis import Phase, settings
from minigrad import backend, tree
from minigrad.backend import execution

settings.register_profile("mutation", phases=[Phase.explicit, Phase.generate], database=None)  # for mutate.py: no shrinking


def pytest_configure(config):
    config.addinivalue_line("markers", "gpu: needs CuPy and an NVIDIA GPU; deselected where there is none")


def pytest_collection_modifyitems(config, items):
    wanted = any("gpu" in item.keywords for item in items) and importlib.util.find_spec("cupy") is not None
    if not (wanted and backend.cuda_available()):
        without = [item for item in items if item.get_closest_marker("gpu")]
        config.hook.pytest_deselected(items=without)
        items[:] = [item for item in items if not item.get_closest_marker("gpu")]


class OnCpu:
    """Calls wrappers with NumPy arrays, their kernels behind the stand-in."""

    def __init__(self):
        self.device = standin.StandIn()

    def __call__(self, function, *arguments, **settings):
        with execution.using(self.device):
            return function(*arguments, **settings)


class OnGpu:
    """Calls wrappers with the arrays copied to the GPU, and copies results and changes in place back."""

    def __call__(self, function, *arguments, **settings):
        return self._called(function, arguments, settings)

    def _called(self, function, arguments, settings):
        cupy = backend.cupy()
        moved, rebuild = tree.flatten((arguments, settings))
        before, moved = moved, [cupy.asarray(a) if isinstance(a, np.ndarray) else a for a in moved]
        arguments, settings = rebuild(moved)
        results = function(*arguments, **settings)
        for host, device in zip(before, moved):
            if isinstance(host, np.ndarray) and host.flags.writeable:
                host[...] = device.get()
        return tree.map(lambda a: a.get() if isinstance(a, cupy.ndarray) else a, results)


class OnNoGpu(OnGpu):
    """The same with the `cupy` that needs no GPU: for what does more than call one kernel."""

    def __call__(self, function, *arguments, **settings):
        with nogpu.installed():
            return self._called(function, arguments, settings)


def pytest_generate_tests(metafunc):
    if "run" in metafunc.fixturenames:
        without_compiler = pytest.mark.skipif(not standin.available, reason="there is no g++")
        here = OnNoGpu if getattr(metafunc.module, "whole_operations", False) else OnCpu
        metafunc.parametrize("run", [pytest.param(here, id="standin", marks=without_compiler),
                                     pytest.param(OnGpu, id="gpu", marks=pytest.mark.gpu)], indirect=True, scope="session")


@pytest.fixture(scope="session")
def run(request):
    """`run(function, *arguments)`: a wrapper of minigrad.backend.cuda called with NumPy arrays."""
    return request.param()
