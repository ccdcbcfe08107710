"""Bilinear sampling, against a loop over its definition and central differences."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernelchecks import close, item, normal, quick, seeds
from minigrad.backend import cuda


def sample(x, grid, corners, border):
    """The definition: the four pixels around each point, weighted by the tent function."""
    n, c, height, width = x.shape
    size = np.array([width, height])
    at = (grid + 1) / 2 * (size - 1) if corners else ((grid + 1) * size - 1) / 2
    if border:
        at = np.clip(at, 0, size - 1)
    rows = np.maximum(0, 1 - abs(at[..., 1, None] - np.arange(height)))
    columns = np.maximum(0, 1 - abs(at[..., 0, None] - np.arange(width)))
    return np.einsum("nchw,nijh,nijw->ncij", x, rows, columns)


@quick
@given(seeds, item, st.sampled_from([(1, 1), (2, 3)]), st.tuples(st.integers(1, 6), st.integers(1, 6)),
       st.sampled_from([(1, 1), (3, 5), (17, 16)]), st.booleans(), st.booleans())
def test_grid_sample(run, seed, dtype, batch, size, points, corners, border):
    rng = np.random.default_rng(seed)
    x, grid = normal(seed, dtype, *batch, *size), rng.uniform(-1.6, 1.6, (batch[0], *points, 2)).astype(dtype)
    g = normal(seed + 1, dtype, *batch, *points)
    exact, points = x.astype(np.float64), grid.astype(np.float64)
    close(run(cuda.grid_sample, x, grid, corners, border), sample(exact, points, corners, border), scale=10)
    dx, dgrid = run(cuda.grid_sample_backward, g, x, grid, corners, border)
    direction = rng.standard_normal(x.shape)  # y is linear in x
    assert np.isclose((dx * direction).sum(), (g * sample(direction, points, corners, border)).sum(), rtol=0,
                      atol={2: 0.2, 4: 1e-3, 8: 1e-10}[x.itemsize])
    if dtype == np.float64:  # and piecewise linear in each coordinate of a point
        for axis in (0, 1):
            h = np.zeros(2)
            h[axis] = 1e-6
            ahead, behind = (sample(exact, points + s * h, corners, border) for s in (1, -1))
            slope = (g * (ahead - behind)).sum(1) / 2e-6
            at = (points + 1) / 2 * (np.array(size[::-1]) - 1) if corners else ((points + 1) * np.array(size[::-1]) - 1) / 2
            smooth = abs(at - np.round(at)).min(-1) > 1e-4
            np.testing.assert_allclose(dgrid[..., axis][smooth], slope[smooth], rtol=0, atol=1e-6)


def test_points_far_outside_and_nan(run):
    x = np.arange(4.0).reshape(1, 1, 2, 2)
    grid = np.array([[1e30, 0], [-1e30, 1e30], [np.nan, 0], [0, 0]]).reshape(1, 1, 4, 2)
    close(run(cuda.grid_sample, x, grid, True, False), np.array([0, 0, np.nan, 1.5]).reshape(1, 1, 1, 4))
    close(run(cuda.grid_sample, x, grid[:, :, :2], True, True), np.array([2, 2.0]).reshape(1, 1, 1, 2))
    dx, dgrid = run(cuda.grid_sample_backward, np.ones((1, 1, 1, 4)), x, grid, True, False)
    close(dx, np.full((1, 1, 2, 2), 0.25))
    close(dgrid[0, 0], [[0, 0], [0, 0], [0, 0], [0.5, 1.0]])


def test_points_on_the_border_stand_still(run):
    x, grid = normal(0, np.float64, 1, 1, 3, 3), np.array([[-1.0, 0.3], [1.0, 0.3], [0.3, -1], [0.3, 1]]).reshape(1, 1, 4, 2)
    _, dgrid = run(cuda.grid_sample_backward, np.ones((1, 1, 1, 4)), x, grid, True, True)
    np.testing.assert_array_equal(dgrid[0, 0] == 0, np.abs(grid[0, 0]) == 1)


@pytest.mark.parametrize("corners", [False, True])
def test_the_grid_of_pixel_centres_is_the_identity(run, corners):
    x = normal(0, np.float64, 2, 3, 4, 5)
    axes = [np.linspace(-1, 1, n) if corners else (2 * np.arange(n) + 1) / n - 1 for n in (5, 4)]
    grid = np.broadcast_to(np.stack(np.meshgrid(*axes), -1), (2, 4, 5, 2)).copy()
    close(run(cuda.grid_sample, x, grid, corners, False), x)
