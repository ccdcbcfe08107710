"""minigrad: reverse-mode automatic differentiation of any order on NumPy and CuPy, and learning with few labels on it."""
from . import cuda_graph, tree
from .backend import cuda_available, random
from .backend.cpu.threads import get_num_threads, set_num_threads
from .cuda_graph import capture
from .gradient_check import check_derivatives
from .graph_picture import draw_graph
from .inspect import activations, detect_anomaly, profile, summary
from .ops import *  # noqa: F403
from .ops.declare import missing_from as _missing_from
from .recording import enable_grad, no_grad
from .primitive import Primitive
from .tensor import from_dlpack, Tensor
from .transforms import checkpoint, grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp
from . import io, nn, optim

__version__ = "0.1.0"
__getattr__ = _missing_from(__name__, of_numpy=True)
