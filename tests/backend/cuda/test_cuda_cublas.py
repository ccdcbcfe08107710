"""Products by cuBLAS: against a library that stands for it, and on a GPU against NumPy."""
import contextlib
import ctypes
import pathlib
import subprocess
import sys
import types

import nogpu
import numpy as np
import pytest
import standin
from hypothesis import example, given
from hypothesis import strategies as st
from kernelchecks import bfloat16, close, HALF, normal, quick, seeds
from test_cuda_matmul import batches, sides

from minigrad.backend import cuda, execution
from minigrad.backend.cuda import cublas
from minigrad.backend.cuda.matmul import multiplied


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    if not standin.available:
        pytest.skip("there is no g++")
    path = tmp_path_factory.mktemp("blas") / "libfakeblas.so"
    source = pathlib.Path(__file__).with_name("fakeblas.cpp")
    done = subprocess.run(["g++", "-O1", "-shared", "-fPIC", source, "-o", path], capture_output=True, text=True)
    if done.returncode:
        assert "_Float16" in done.stderr, done.stderr
        pytest.skip(f"g++ does not know _Float16: {done.stderr[:200]}")
    return ctypes.CDLL(str(path))


def opened(library):
    """A Blas on stream 1234, with a workspace that is only an address."""
    return cublas.Blas(library, 1234, None, 256)


@quick
@given(seeds, st.sampled_from([np.float16, np.float32, np.float64]), batches, sides, sides, sides, st.booleans(), st.booleans())
@example(0, np.float64, ((), ()), 130, 65, 70, False, False)
@example(0, np.float32, ((2,), (2,)), 70, 33, 65, True, True)
@example(0, np.float64, ((2, 1), (1, 3)), 3, 17, 5, True, False)
@example(0, np.float64, ((), ()), 1, 3, 1, True, True)
def test_products(library, seed, dtype, batch, m, k, n, x_transposed, y_transposed):
    x, y = normal(seed, dtype, *batch[0], m, k), normal(seed + 1, dtype, *batch[1], k, n)
    arrays = [np.ascontiguousarray(a.swapaxes(-1, -2)).swapaxes(-1, -2) if t else a
              for a, t in ((x, x_transposed), (y, y_transposed))]
    with nogpu.installed():
        c = multiplied(opened(library).multiply, *map(nogpu.ndarray, arrays)).get()
    close(c, x.astype(np.float64) @ y, scale=100)


def test_captured_products_go_through_it(library):
    x, y, problems = np.ones((3, 4, 2)), np.ones((2, 5)), []
    spy = types.SimpleNamespace(multiply=lambda *problem: problems.append(problem))
    with nogpu.installed(), execution.capturing(types.SimpleNamespace(blas=spy)):
        c = cuda.matmul(nogpu.ndarray(x), nogpu.ndarray(y))
    (problem,) = problems
    assert problem[-1] is c and c.shape == (3, 4, 5) and problem[1] == (8, 2, 1) and problem[3] == (0, 5, 1)


def test_other_products_go_through_cupys_handle(library):
    """The library with CuPy's handle, which each product asks for: it is that of a device."""
    handles = iter([1, 77, 78])

    def gemm(handle, *arguments):
        called.append(handle)
        assert not library.cublasGemmStridedBatchedEx(blas.handle, *arguments)

    with nogpu.installed():
        blas, called, cp = opened(library), [], sys.modules["cupy"]
        cp.cuda.device.get_cublas_handle, cp.cuda.cublas = lambda: next(handles), types.SimpleNamespace(gemmStridedBatchedEx=gemm)
        for dtype in (np.float32, np.float16):  # of 16 bits too, in one product for the batch
            x, y = normal(0, dtype, 3, 4, 2), normal(1, dtype, 5, 2).T
            c = cuda.matmul(nogpu.ndarray(x), nogpu.ndarray(y))
            assert c.dtype == dtype
            close(c.get(), x.astype(np.float64) @ y)
    assert called == [77, 78]


@pytest.mark.parametrize("shape, k", [((2**31, 1), 1), ((1, 2**31), 1), ((1, 1), 2**31), ((2**16, 2**15, 1, 1), 1)])
def test_sizes_beyond_32_bits_are_refused(library, shape, k):
    with pytest.raises(OverflowError, match="too large"):
        opened(library).multiply(None, None, None, None, k, types.SimpleNamespace(shape=shape))


@pytest.mark.parametrize("dtype, capability, asked", [
    (np.float16, "61", False), (np.float16, "70", True), (bfloat16, "75", False), (bfloat16, "100", True),
    (np.float32, "61", True)])
@pytest.mark.parametrize("captured", [False, True])
def test_older_gpus_are_not_asked_for_batches_of_16_bits(monkeypatch, dtype, capability, asked, captured):
    problems, (x, y) = [], (normal(i, dtype, 2, 3, 3) for i in range(2))
    spy = types.SimpleNamespace(multiply=lambda *problem: problems.append(problem))
    monkeypatch.setattr(nogpu.Device, "compute_capability", capability)
    monkeypatch.setattr(sys.modules[cuda.matmul.__module__], "of_cupy", lambda cp: spy.multiply)
    with nogpu.installed(), execution.capturing(types.SimpleNamespace(blas=spy)) if captured else contextlib.nullcontext():
        c = cuda.matmul(nogpu.ndarray(x), nogpu.ndarray(y))
    assert c.dtype == dtype and len(problems) == asked
    if not asked:
        close(c.get(), x.astype(np.float64) @ y.astype(np.float64), scale=10)


def test_the_handle_has_the_stream_and_the_workspace(library):
    library.stream.restype, library.workspace.restype = ctypes.c_void_p, ctypes.c_size_t
    with nogpu.installed():
        blas = opened(library)
        assert library.stream() == 1234 and library.workspace() == cublas.WORKSPACE
        with pytest.raises(TypeError, match="float64 and int64"):
            multiplied(blas.multiply, nogpu.ndarray(np.ones((2, 2))), nogpu.ndarray(np.ones((2, 2), int)))
    blas.close()
    assert library.workspace() == 0  # the handle is destroyed


def test_a_refusal_is_an_error(library):
    with pytest.raises(RuntimeError, match="cublasSetWorkspace_v2 failed with status 7"):
        cublas.Blas(library, 0, None, 100)


def test_without_the_library_there_is_none():
    with nogpu.installed():
        assert cublas.opened(sys.modules["cupy"], None) is None


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [*HALF, np.float32, np.float64])
@pytest.mark.parametrize("batch", [((), ()), ((3,), (3,)), ((2,), ()), ((), (2,)), ((2, 1), (1, 3)), ((0,), (0,))])
def test_eager_products_on_a_gpu(dtype, batch):
    import cupy
    for m, k, n in ((33, 65, 17), (1, 5, 1), (1, 1, 3), (4, 0, 2), (0, 3, 2), (16, 8, 1)):
        x, y = normal(0, dtype, *batch[0], m, k), normal(1, dtype, *batch[1], k, n)
        exact = x.astype(np.float64) @ y.astype(np.float64)
        for x_like in (cupy.asarray(x), cupy.asarray(x.swapaxes(-1, -2).copy()).swapaxes(-1, -2), _odd(cupy, x)):
            for y_like in (cupy.asarray(y), cupy.asarray(y.swapaxes(-1, -2).copy()).swapaxes(-1, -2), _odd(cupy, y)):
                c = cuda.matmul(x_like, y_like)
                assert c.dtype == dtype and c.flags.c_contiguous
                close(c.get(), exact, scale=100)


def _odd(cupy, a):
    """The array with its rows apart, and at an address that is a multiple of its items' size only."""
    memory = cupy.zeros(1 + 2 * a.size, a.dtype)[1:].reshape(*a.shape[:-1], 2 * a.shape[-1])
    memory[..., :a.shape[-1]] = cupy.asarray(a)
    return memory[..., :a.shape[-1]]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [*HALF, np.float32, np.float64])
def test_on_a_gpu(dtype):
    import cupy
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        blas = cublas.opened(cupy, stream)
        x, y = (cupy.asarray(normal(i, dtype, 3, 33, 65)) for i in range(2))
        c = multiplied(blas.multiply, x, y.swapaxes(1, 2))
    stream.synchronize()
    exact = x.get().astype(np.float64) @ y.get().astype(np.float64).swapaxes(1, 2)
    close(c.get(), exact, scale=100)
