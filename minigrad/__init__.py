"""minigrad: reverse-mode automatic differentiation of any order on NumPy and CuPy, and learning with few labels on it."""
from importlib import import_module as _import_module

from . import cuda_graph, tree
from .backend import cuda_available, random
from .backend.cpu.threads import get_num_threads, set_num_threads
from .cuda_graph import capture
from .gradient_check import check_derivatives
from .graph_picture import draw_graph
from .inspect import activations, detect_anomaly, profile, summary
from .ops import *  # noqa: F403
from .ops.missing import missing_from as _missing_from
from .recording import enable_grad, no_grad
from .primitive import Primitive
from .tensor import from_dlpack, Tensor
from .transforms import checkpoint, grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp
from . import io, nn, optim

__version__ = "0.1.0"


def __getattr__(name):
    if name == "data":  # what it needs is imported when it is wanted
        return _import_module(".data", __name__)
    return _missing(name)


_missing = _missing_from(__name__, of_numpy=True)
