"""The error function of arrays, which NumPy does not have."""
import functools
import math

import numpy as np

from . import in_float32, is_float, where, xp

BLOCK = 1 << 14


@in_float32
def erf(x):
    """2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x, for an array of NumPy or CuPy; integers give float64."""
    if xp(x) is not np:
        from cupyx.scipy.special import erf as cupy_erf
        return cupy_erf(x)
    dtype = x.dtype if is_float(x.dtype) else np.dtype(np.float64)
    flat, out = np.ascontiguousarray(x).reshape(-1), np.empty(x.shape, dtype)
    for start in range(0, x.size, BLOCK):  # the terms of the sums stay in a core's cache
        out.reshape(-1)[start:start + BLOCK] = _erf(flat[start:start + BLOCK], np.float32 if dtype == np.float32 else np.float64)
    return out


def _erf(x, work):
    x = x.astype(work, copy=False)
    near, far, low, largest = _coefficients(work)
    size = np.minimum(np.abs(x), largest)
    squared = size * size
    inner = np.full_like(x, near[-1])
    for c in near[-2::-1]:
        inner *= squared
        inner += work(c)
    s = (2 / (2 + size) - low) * work(2 / (0.8 - low)) - 1
    twice, b1, b2 = 2 * s, np.zeros_like(x), np.zeros_like(x)
    for c in far[:0:-1]:  # Clenshaw's recurrence
        next_one = twice * b1
        next_one -= b2
        next_one += work(c)
        b1, b2 = next_one, b1
    outer = 1 - (s * b1 - b2 + work(far[0])) * np.exp(-squared)
    return np.where(np.isnan(x), x, np.copysign(where(size < 0.5, inner * size, outer), x))


@functools.cache
def _coefficients(dtype):
    """Of erf(x) / x as a power series in x^2 for |x| < 1/2, and of erfc(x) exp(x^2) as a Chebyshev series in
    t = 2 / (2 + x) beyond, interpolated from the standard library's erfc. Enough terms for `dtype`."""
    terms, degree, largest = (14, 34, 6.0) if dtype == np.float64 else (7, 14, 4.5)
    near = [2 / math.sqrt(math.pi) * (-1) ** n / (math.factorial(n) * (2 * n + 1)) for n in range(terms)]
    low = 2 / (2 + largest)

    def tail(s):  # s in [-1, 1] covers t in [low, 0.8], that is x from 1/2 to `largest`
        t = low + (0.8 - low) * (np.asarray(s) + 1) / 2
        return [math.erfc(2 / v - 2) * math.exp((2 / v - 2) ** 2) for v in t]

    return near, np.polynomial.chebyshev.chebinterpolate(tail, degree), low, largest
