"""minigrad: reverse-mode automatic differentiation of any order on NumPy and CuPy, and learning with few labels on it."""
from . import tree
from .backend import cuda_available, random
from .cuda_graph import capture
from .inspect import detect_anomaly, draw_graph, profile, summary
from .ops import *  # noqa: F403
from .recording import enable_grad, no_grad
from .tensor import add, from_dlpack, Primitive, Tensor
from .transforms import checkpoint, grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp

__version__ = "0.1.0"
