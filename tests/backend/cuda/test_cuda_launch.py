"""The launcher refuses what a GPU would misread, and the stand-in notices the mistakes that kernels are made of."""
import importlib.util
import subprocess
import sys

import minigrad as mg
import nogpu
import numpy as np
import pytest
import standin
from minigrad.backend import cuda, execution
from minigrad.backend.cuda import launch

TOYS = r"""
extern "C" __global__ void coordinates(real* y) {
    int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    y[block * blockDim.x * blockDim.y * blockDim.z + thread] = 1000 * block + thread;
}
extern "C" __global__ void reductions(const real* x, real* y) {
    real v = x[threadIdx.x], down = __shfl_down_sync(FULL_WARP, v, 3);
    real sum = block_sum(v), squares = block_sum(v * v), largest = block_max(v), smallest = -block_max(-v);
    real results[5] = {sum, squares, largest, smallest, down};
    for (int k = 0; k < 5; k++) y[k * 64 + threadIdx.x] = results[k];
}
extern "C" __global__ void without_barrier(const real* x, real* y) {
    __shared__ real first;
    if (threadIdx.x == 0) first = x[0];
    y[threadIdx.x] = first;
}
extern "C" __global__ void overtaken(const real* x, real* y) {  // nothing keeps a warp from writing while others still read
    __shared__ real latest;
    for (int i = 0; i < 2; i++) {
        if (threadIdx.x == 0 || threadIdx.x == 63) latest = x[i];
        __syncthreads();
        y[64 * i + threadIdx.x] = latest;
    }
}
extern "C" __global__ void race(real* y) { y[0] = threadIdx.x; }
extern "C" __global__ void lonely_barrier(real* y) { if (threadIdx.x < 16) __syncthreads(); }
extern "C" __global__ void lonely_shuffle(real* y) { if (threadIdx.x < 16) y[0] = __shfl_xor_sync(FULL_WARP, y[0], 1); }
extern "C" __global__ void reads_behind(const real* x, real* y) { if (x[threadIdx.x + 1] > 1e30) y[threadIdx.x] = 0; }
extern "C" __global__ void writes_behind(real* y) { y[threadIdx.x + 1] = 0; }
extern "C" __global__ void writes_before(real* y) { y[(int)threadIdx.x - 1] = 0; }
extern "C" __global__ void changes_const_list(const Arrays x, Arrays y) { x.of[1][threadIdx.x] = 1; }
extern "C" __global__ void writes_behind_list(Arrays y) { y.of[0][threadIdx.x + 1] = 0; }
extern "C" __global__ void adds_lists(const Arrays x, Arrays y, const Lengths lengths) {
    int k = blockIdx.x;
    for (index_t i = threadIdx.x; i < lengths.of[k]; i += blockDim.x) y.of[k][i] += x.of[k][i];
}
extern "C" __global__ void changes_const(const real* x, real* y) { ((real*)x)[threadIdx.x] = 1; }
"""


needs_compiler = pytest.mark.skipif(not standin.available, reason="there is no g++")


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """`toy(kernel, grid, block, *arguments)` launches a kernel of TOYS on the stand-in."""
    (tmp_path / "prelude.cu").write_text((launch.FOLDER / "prelude.cu").read_text())
    (tmp_path / "toys.cu").write_text(TOYS)
    monkeypatch.setattr(launch, "FOLDER", tmp_path)
    with execution.using(standin.StandIn()):
        yield lambda *arguments: launch.launch("toys", *arguments)


@needs_compiler
@pytest.mark.parametrize("grid, block", [(3, 5), ((2, 3), (4, 2)), ((2, 3, 2), (3, 2, 4))])
def test_coordinates(toy, grid, block):
    y = np.zeros((np.prod(grid), np.prod(block)))
    toy("coordinates", grid, block, y)
    np.testing.assert_array_equal(y, 1000 * np.arange(len(y))[:, None] + np.arange(y.shape[1]))


@needs_compiler
def test_reductions(toy):
    x, y = np.random.default_rng(0).standard_normal(64), np.zeros((5, 64))
    toy("reductions", 1, 64, x, y)
    np.testing.assert_allclose(y[:4].T, np.tile([x.sum(), (x * x).sum(), x.max(), x.min()], (64, 1)))
    lane = np.arange(64) % 32
    np.testing.assert_array_equal(y[4], x[np.arange(64) + 3 * (lane < 29)])


@needs_compiler
@pytest.mark.parametrize("kernel, reads, block, complaint", [
    ("without_barrier", True, 32, "order of the threads"), ("race", False, 32, "order of the threads"),
    ("overtaken", True, 64, "order of the threads"),
    ("lonely_barrier", False, 32, "not all threads reach"), ("lonely_shuffle", False, 32, "not all threads reach"),
    ("reductions", True, 48, "whole warps"), ("reads_behind", True, 32, "outside an array"),
    ("writes_behind", False, 32, "outside an array"), ("writes_before", False, 32, "wrote before"),
    ("changes_const", True, 32, "const array")])
def test_the_standin_notices(toy, kernel, reads, block, complaint):
    x, y = np.arange(32.0), np.zeros(2 * block if kernel == "overtaken" else 32)
    with pytest.raises(AssertionError, match=complaint):
        toy(kernel, 1, block, *([x] if reads else []), y)


@needs_compiler
@pytest.mark.parametrize("grid", [(1, 65536), (1, 1, 65536), (1 << 31,)])
def test_a_grid_that_a_gpu_does_not_have(toy, grid):
    with pytest.raises(AssertionError, match="axis of a grid"):
        toy("race", grid, 1, np.zeros(1))


@needs_compiler
def test_lists_of_arrays(toy):
    x, y = [np.arange(n) * 1.0 for n in (3, 50)], [np.ones(n) for n in (3, 50)]
    toy("adds_lists", 2, 32, x, y, [3, 50])
    for a, b in zip(x, y):
        np.testing.assert_array_equal(b, a + 1)
    ones = [np.zeros(32), np.zeros(32)]
    for kernel, arguments, complaint in (("changes_const_list", (ones, ones), "const array"),
                                         ("writes_behind_list", (ones,), "outside an array")):
        with pytest.raises(AssertionError, match=complaint):
            toy(kernel, 1, 32, *arguments)
    for arguments, complaint in (((x * 49, y, [3]), "at most 96"), (([x[0][::2]], y, [3]), "strided")):
        with pytest.raises(TypeError, match=complaint):
            toy("adds_lists", 1, 32, *arguments)


@needs_compiler
def test_arguments_are_checked(toy):
    x, y = np.zeros(32), np.zeros(32)
    for arguments, complaint in [((x,), "takes 2 arguments, not 1"), ((x, y.astype(np.float32)), "argument 1 must be"),
                                 ((x, np.zeros(64)[::2]), "strided"), ((x[::-1], y), "strided"),
                                 ((x.astype(np.float16), y), "float32 or float64"),
                                 ((3.0, y), "argument 0 must be an array of float64, not a float$"),
                                 ((np.float64(3), y), "argument 0 .* not a float64$"), (([x], y), "argument 0 .* not a list$"),
                                 ((None, None), "not None")]:
        with pytest.raises(TypeError, match=complaint):
            toy("without_barrier", 1, 32, *arguments)


def test_labels_of_another_width_are_refused(run):
    with pytest.raises(TypeError, match="int64"):
        run(cuda.cross_entropy, np.zeros((2, 3)), np.zeros(2, np.int32))


@needs_compiler
def test_arrays_of_another_device_are_refused():
    with nogpu.installed():
        x = mg.Tensor(np.ones((2, 2))).to("cuda:1")
        assert x.device == "cuda:1"
        with nogpu.Device(1):
            assert mg.softmax(x).device == mg.matmul(x, x).device == "cuda:1"
        for function in (mg.softmax, lambda x: mg.matmul(x, x), lambda x: cuda.matmul_kernel(x._array, x._array),
                         lambda x: cuda.sgd_step([x._array], [x._array], [], 0.1)):
            with pytest.raises(ValueError, match=r"an array is on cuda:1, and the current device is cuda:0.*Device\(1\)"):
                function(x)
        with pytest.raises(ValueError, match="an array is on cuda:1"):
            cuda.sgd_step([x.to("cuda:0")._array], [x._array], [], 0.1)


def test_importing_does_not_import_cupy():
    code = "import sys, minigrad.backend.cuda; assert 'cupy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(importlib.util.find_spec("cupy") is not None, reason="CuPy is installed")
def test_calling_without_cupy_says_what_is_missing():
    with pytest.raises(RuntimeError, match="needs CuPy"):
        cuda.softmax(np.zeros((2, 3)))
