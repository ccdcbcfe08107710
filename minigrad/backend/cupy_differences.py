"""Where CuPy spells something otherwise than NumPy does: one function for both."""
import contextlib

import numpy as np

from . import xp


@contextlib.contextmanager
def linalg_errors(module):
    """Inside, a singular matrix raises numpy.linalg.LinAlgError on the GPU too."""
    if module is np:
        yield
    else:
        import cupyx
        with cupyx.errstate(linalg="raise"):
            yield
