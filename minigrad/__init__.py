"""minigrad: reverse-mode automatic differentiation of any order on NumPy and CuPy, and learning with few labels on it."""
from importlib import import_module as _import_module

# X as X: who checks types, as editors do, takes X for a name that is given on.
from . import cuda_graph as cuda_graph, tree as tree
from .backend import cuda_available as cuda_available, random as random
from .backend.cpu.threads import get_num_threads as get_num_threads, set_num_threads as set_num_threads
from .cuda_graph import capture as capture
from .gradient_check import check_derivatives as check_derivatives
from .graph_picture import draw_graph as draw_graph
from .inspect import activations as activations, detect_anomaly as detect_anomaly, profile as profile, summary as summary
from .ops import *  # noqa: F403
from .ops.missing import missing_from as _missing_from
from .recording import enable_grad as enable_grad, no_grad as no_grad
from .primitive import Primitive as Primitive
from .tensor import from_dlpack as from_dlpack, Tensor as Tensor
from .transforms import (
    checkpoint as checkpoint, grad as grad, hessian as hessian, hvp as hvp, jacobian as jacobian, jvp as jvp,
    value_and_grad as value_and_grad, vjp as vjp)
from . import io as io, nn as nn, optim as optim

__version__ = "0.1.0"


def __getattr__(name):
    if name == "data":  # what it needs is imported when it is wanted
        return _import_module(".data", __name__)
    return _missing(name)


_missing = _missing_from(__name__, of_numpy=True)
