"""What the tests of the kernels share."""
import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from ml_dtypes import bfloat16
from minigrad import backend

quick = settings(max_examples=30, deadline=None, derandomize=True)
HALF = [np.float16, bfloat16]
if backend.cuda_available() and int(backend.cupy().__version__.split(".")[0]) < 14:
    HALF.remove(bfloat16)  # which older CuPy does not know
real = st.sampled_from([np.float32, np.float64])
item = real | st.sampled_from(HALF)  # what all kernels take but the optimisers'
seeds = st.integers(0, 2**32 - 1)
# Lengths of an axis: one, odd, a warp, a block, and one more or less than those.
lengths = st.sampled_from([1, 2, 3, 7, 31, 32, 33, 64, 65, 100, 255, 257, 300, 513])


def normal(seed, dtype, *shape):
    """Standard normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def close(actual, expected, scale=None, factor=1.0):
    """Equal but for rounding, measured against the largest expected number (or `scale`); NaN and infinity exactly."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    precision = {"bfloat16": 8e-3, "float16": 1e-3, "float32": 3e-6, "float64": 1e-13}[actual.dtype.name]
    actual, expected = actual.astype(np.float64), expected.astype(np.float64)
    finite = np.abs(expected[np.isfinite(expected)])
    scale = max(finite.max(initial=0), 1e-3) if scale is None else scale
    np.testing.assert_allclose(actual, expected, rtol=0, atol=scale * precision * factor)
