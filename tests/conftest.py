import contextlib
import functools
import os
import pathlib
import shutil
import signal

if "PYTEST_XDIST_WORKER" in os.environ:  # the workers have the cores already: further threads would wait for each other
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("MINIGRAD_NUM_THREADS", "1")

import pytest


@pytest.fixture(autouse=True, scope="session")
def signals_are_heard():
    """A shell's background job and `nohup` have signals ignored, and every process that a test starts would ignore them too."""
    for name, handler in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(scope="session")
def cache_with_kernels(tmp_path_factory):
    """A cache folder for the tests of a process, with what takes long to make: compiled kernels and drawn glyphs."""
    return _with_kernels(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def shared_cache(monkeypatch, cache_with_kernels):
    """It is the cache while the test runs, instead of the user's."""
    monkeypatch.setenv("MINIGRAD_CACHE", str(cache_with_kernels))


@pytest.fixture
def own_cache(monkeypatch, tmp_path_factory, cache_with_kernels):
    """A cache folder for this test alone."""
    monkeypatch.setenv("MINIGRAD_CACHE", str(_with_kernels(tmp_path_factory.mktemp("cache"), cache_with_kernels)))


def _with_kernels(folder, other=None):
    from minigrad.backend.files import cache_dir
    for pattern in ("kernels-*.so", "glyphs-*.npy"):
        for file in pathlib.Path(other or cache_dir()).glob(pattern):
            try:
                os.link(file, folder / file.name)
            except OSError:  # another file system
                with contextlib.suppress(OSError):
                    shutil.copy2(file, folder)
    return folder


@pytest.fixture
def quick_maps(monkeypatch):
    """t-SNE with as few steps as scikit-learn allows."""
    manifold = pytest.importorskip("sklearn.manifold")
    steps = "max_iter" if hasattr(manifold.TSNE(), "max_iter") else "n_iter"
    monkeypatch.setattr(manifold, "TSNE", functools.partial(manifold.TSNE, **{steps: 250}))
