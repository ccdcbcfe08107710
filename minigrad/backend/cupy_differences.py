"""Where CuPy spells something otherwise than NumPy does: one function for both."""
import contextlib

import numpy as np

from . import xp


def add_at(x, index, values):
    """x[index] += values, in place; an element that the index names several times receives all its values."""
    if xp(x) is np:
        np.add.at(x, index, values)
    else:
        import cupyx
        cupyx.scatter_add(x, index, values)


def largest_at(x, index, values):
    """x[index] = max(x[index], values), in place, over all values that go to one element."""
    if xp(x) is np:
        np.maximum.at(x, index, values)
    else:
        import cupyx
        cupyx.scatter_max(x, index, values)


@contextlib.contextmanager
def linalg_errors(module):
    """Inside, a singular matrix raises numpy.linalg.LinAlgError on the GPU too."""
    if module is np:
        yield
    else:
        import cupyx
        with cupyx.errstate(linalg="raise"):
            yield
