"""The matrix product of captured steps, against NumPy."""
import math
import types

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kernelchecks import close, item, normal, quick, seeds
from minigrad.backend import cuda, execution
from minigrad.backend.cuda.matmul import TILE

sides = st.sampled_from([0, 1, 3, 15, 16, 17, 63, 64, 65, 130])
batches = st.sampled_from([((), ()), ((3,), (3,)), ((2,), ()), ((), (2,)), ((2, 1), (1, 3)), ((1, 2), (2,)), ((0,), (0,))])


@quick
@given(seeds, item, batches, sides, sides, sides, st.booleans(), st.booleans())
@example(0, np.float64, ((), ()), 130, 65, 70, False, False)
@example(0, np.float32, ((2,), (2,)), 70, 33, 65, True, True)
@example(0, np.float64, ((2, 1), (1, 3)), 3, 17, 5, True, False)
def test_matmul(run, seed, dtype, batch, m, k, n, x_transposed, y_transposed):
    x, y = normal(seed, dtype, *batch[0], m, k), normal(seed + 1, dtype, *batch[1], k, n)
    transposed = [np.ascontiguousarray(a.swapaxes(-1, -2)).swapaxes(-1, -2) if t else a
                  for a, t in ((x, x_transposed), (y, y_transposed))]
    close(run(cuda.matmul_kernel, *transposed), x.astype(np.float64) @ y, scale=100)


def test_other_strides(run):
    x, y = normal(0, np.float64, 4, 10, 6)[:, ::2], normal(1, np.float64, 6, 12)[:, ::-3]
    close(run(cuda.matmul_kernel, x, y), x @ y)
    close(run(cuda.matmul_kernel, np.broadcast_to(x[0, 0], (5, 6)), y), np.broadcast_to(x[0, 0], (5, 6)) @ y)


@pytest.mark.parametrize("shapes", [((2, 1), (1, 10_000 * 28 * 28)), ((65536 * 64, 1), (1, 2)), ((65536, 1, 1), (65536, 1, 1))])
def test_as_many_blocks_as_a_grid_has(shapes):
    """Only its first axis has more than 65,535."""
    device = types.SimpleNamespace(takes_numpy=True, empty=np.empty, run=lambda *launched: grids.append(launched[3]))
    grids, (x, y) = [], (np.zeros(shape, np.float32) for shape in shapes)
    with execution.using(device):
        c = cuda.matmul_kernel(x, y)
    assert grids == [(math.prod(c.shape[:-2]) * math.ceil(c.shape[-2] / TILE) * math.ceil(c.shape[-1] / TILE),)]
    assert grids[0][0] > 65535


def test_shapes_that_do_not_fit(run):
    with pytest.raises(ValueError, match="do not fit"):
        run(cuda.matmul_kernel, np.zeros((2, 3)), np.zeros((2, 3)))
