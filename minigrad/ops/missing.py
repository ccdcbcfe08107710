"""What an error says of a name that is not here: what does the same, by NumPy's name or by PyTorch's."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..tensor import Tensor
from .declare import NUMPY, PUBLIC

TABLE = "minigrad/README.md, 'Coming from PyTorch' and 'Coming from JAX', says what stands here for some of their names"
INSTEAD = {  # what does here what NumPy has under another name, where its table does not say so
    **dict.fromkeys(("array", "asarray", "asanyarray"), "Tensor(x)"), "identity": "eye(n)", "empty": "zeros(shape)",
    "empty_like": "zeros_like(x)", "geomspace": "logspace", "float_power": "power(x, y)", "fabs": "abs(x)", "fix": "trunc(x)",
    "cbrt": "sign(x) * abs(x) ** (1 / 3)", "fmod": "remainder(x, y), with the sign of y", "heaviside": "where(x > 0, 1, 0)",
    "copysign": "where(y < 0, -1, 1) * abs(x)", "logaddexp2": "logaddexp", "fliplr": "flip(x, 1)", "flipud": "flip(x, 0)",
    "hsplit": "split(x, n, 1)", "vsplit": "split(x, n, 0)", "dsplit": "split(x, n, 2)", "append": "concatenate([x, y])",
    "row_stack": "vstack", "percentile": "quantile(x, q / 100)", "ptp": "max(x) - min(x)", "select": "where",
    "matrix_transpose": "swapaxes(x, -1, -2)", "vecdot": "sum(x * y, -1)", "correlate": "convolve(x, y[::-1])",
    "linalg": "inv, solve, norm, svd, each under its own name"}
PYTORCH = {  # what does here what those names of PyTorch's do that are typed first
    "load": "io.load(path)", "save": "io.save(path, arrays)", "as_tensor": "Tensor(x)", "is_tensor": "isinstance(x, Tensor)",
    "device": 'x.to("cpu")', "cuda": 'x.to("cuda") if cuda_available() else x', "cpu": 'x.to("cpu")',
    "inference_mode": "no_grad()", "set_grad_enabled": "no_grad()", "mul": "multiply(x, y)", "sub": "subtract(x, y)",
    "neg": "negative(x)", **dict.fromkeys(("mm", "mv"), "matmul(x, y)"), "multi_dot": "x @ y @ x", "pinverse": "pinv(x)",
    "clamp_min": "clip(x, min=0)", "clamp_max": "clip(x, max=1)", "frac": "x - trunc(x)",
    "aminmax": "min(x), max(x)", "dist": "norm((x - y).ravel())", "tensor_split": "array_split(x, n)",
    "var_mean": "var(x, ddof=1), mean(x)", "std_mean": "std(x, ddof=1), mean(x)",
    "div": "divide(x, y)", "pow": "power(x, y)", "eq": "equal(x, y)", "ne": "not_equal(x, y)", "lt": "less(x, y)", "t": "x.T",
    "le": "less_equal(x, y)", "gt": "greater(x, y)", "ge": "greater_equal(x, y)", "chunk": "array_split(x, n)",
    "index_select": "take(x, indices, axis)", "masked_select": "x[mask]", "movedim": "moveaxis(x, 0, 1)",
    "lerp": "x + t * (y - x)", "gradcheck": "check_derivatives(f, x)", "is_grad_enabled": "recording.is_recording()",
    "Variable": "Tensor(x, requires_grad=True)", "set_default_dtype": 'net.to("float64")',
    **dict.fromkeys(("Function", "custom_vjp", "custom_jvp"), "Primitive(name, forward, *rules)"),
    **dict.fromkeys(("jit", "compile"), "capture(step)"), **dict.fromkeys(("jacfwd", "jacrev"), "jacobian(f)"),
    "autograd": "grad and jacobian", "elementwise_grad": "grad(lambda x: f(x).sum())",
    "repeat_interleave": "repeat(x, n)", "randn_like": "randn(*x.shape)", "rand_like": "rand(*x.shape)", "addmm": "y + x @ y",
    "solve_triangular": "solve(tril(x), y)", "lstsq": "pinv(x) @ y", "tree_map": "tree.map(f, x)",
    **dict.fromkeys(("view_as", "reshape_as"), "reshape(x, y.shape)"), "expand_as": "broadcast_to(x, y.shape)",
    "nelement": "x.size", "contiguous": "copy(x)", "type_as": "x.astype(y.dtype)", "new_zeros": "zeros(*x.shape)",
    "new_ones": "ones(*x.shape)", "grad_fn": "x.is_leaf", "zero_": "x[...] = 0",
    "fill_": "x[...] = n", "copy_": "x[...] = y", "add_": "x[...] = x + y", "sub_": "x[...] = x - y", "mul_": "x[...] = x * y",
    "div_": "x[...] = x / y", "clamp_": "x[...] = clip(x, 0, 1)",
    **{name: f'x.astype("{dtype}")' for name, dtype in (
        ("double", "float64"), ("float", "float32"), ("half", "float16"), ("long", "int64"), ("int", "int32"), ("byte", "uint8"),
        ("bool", "bool"))}}


def _missing(self, name):
    """The error for an attribute that a Tensor lacks, with the function of that name if there is one."""
    if name == "grad":  # after `del x.grad`
        self.grad = None
        return None
    if name.startswith("__") or hasattr(type(self), name):
        return object.__getattribute__(self, name)  # of a property that refuses, its own error
    hint = _hint(name, True)
    apart = hint is TABLE or name in vars(np) and not callable(vars(np)[name])  # NumPy 1 has a table called nbytes
    if apart and hasattr(np.ndarray, name) and name != "view":  # which in PyTorch reshapes
        hint = f"an array has it, x.numpy().{name}"
    raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}': {hint}", name=name, obj=self)


def _hint(name, of_numpy):
    """What there is in the place of a missing name, which, `of_numpy`, may be one of NumPy's."""
    theirs = vars(np).get(name) if of_numpy else None
    ours = NUMPY.get(theirs) if callable(theirs) else None
    public = name if name in PUBLIC else getattr(ours, "__name__", "")
    if public in PUBLIC and (public == name or PUBLIC[public] is ours):
        return f"minigrad.{public}(x) is a function"
    if of_numpy and (instead := PYTORCH.get(name) or INSTEAD.get(name)):
        return f"minigrad has {instead}"
    if callable(theirs) and not isinstance(theirs, type):
        return f"numpy.{name} works on arrays, without a gradient: give it x.numpy()"
    if of_numpy and name in vars(np):
        return f"numpy.{name} serves here too"
    return TABLE


def missing_from(module: str, of_numpy: bool = False) -> Callable:
    """The `__getattr__` of a module, which, `of_numpy`, has NumPy's names: the error for a name that it lacks."""
    def __getattr__(name):
        raise AttributeError(f"module '{module}' has no attribute '{name}': {_hint(name, of_numpy)}", name=name)

    return __getattr__


Tensor.__getattr__ = _missing
