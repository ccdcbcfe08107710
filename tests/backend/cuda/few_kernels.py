"""A few kernels with shared memory, once each, for `compute-sanitizer`:

    compute-sanitizer --tool racecheck python -m tests.backend.cuda.few_kernels
    python -m tests.backend.cuda.few_kernels --rehearse      # without a GPU, behind the stand-in
"""
import argparse
import contextlib
import pathlib
import sys

import numpy as np

from minigrad import backend
from minigrad.backend import cuda


def run(dtype):
    """Softmax, attention, the matrix product and column sums, on sizes that fill no tile."""
    cupy, rng = backend.cupy(), np.random.default_rng(0)

    def normal(*shape):
        return cupy.asarray(rng.standard_normal(shape).astype(dtype))

    x = normal(5, 70)
    y = cuda.softmax(x)
    results = [y, cuda.softmax_backward(x, y), cuda.matmul_kernel(normal(2, 70, 33), normal(2, 33, 65)),
               cuda.column_sum(normal(300, 40))]
    q, k, v = normal(1, 2, 35, 40), normal(1, 2, 67, 40), normal(1, 2, 67, 40)
    y, lse = cuda.attention(q, k, v, causal=10)
    results += [y, *cuda.attention_backward(y, q, k, v, y, lse, causal=10)]
    assert all(np.isfinite(a.get().astype(np.float64)).all() for a in results)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rehearse", action="store_true", help="behind the stand-in")
    if parser.parse_args().rehearse:
        sys.path.insert(0, str(pathlib.Path(__file__).parent))
        import nogpu
        device = nogpu.installed()
    else:
        device = contextlib.nullcontext()
        backend.cupy().cuda.set_allocator(None)  # no pool: an access behind an array is one outside of memory
    with device:
        for dtype in ("float16", "float32", "float64"):
            run(dtype)
            print(f"{dtype}: softmax, attention, product, column sums ran")


if __name__ == "__main__":
    main()
