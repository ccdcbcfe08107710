"""Every operation by name, and the tables that make them operators and methods of Tensor and answers to NumPy's calls."""
import inspect

import numpy as np

from ..tensor import add, Tensor
from .activation import drop_path, dropout, gelu, leaky_relu, silu, softplus
from .attention import packed_attention, scaled_dot_product_attention
from .conv import conv1d, conv2d, conv_transpose1d, conv_transpose2d
from .elementwise import (
    abs, arccos, arcsin, arctan, arctan2, astype, bitwise_and, bitwise_or, bitwise_xor, ceil, clip, cos, cosh, divide, equal,
    erf, exp, exp2, expm1, floor, floor_divide, greater, greater_equal, invert, isfinite, isinf, isnan, less, less_equal, log,
    log1p, log2, log10, logaddexp, logical_and, logical_not, logical_or, logical_xor, maximum, minimum, multiply, negative,
    not_equal, ones_like, power, reciprocal, relu, remainder, round, sigmoid, sign, sin, sinh, sqrt, square, stop_gradient,
    subtract, tan, tanh, where, zeros_like)
from .index import argsort, getitem, index_add, index_update, scatter_add, sort, take, take_along_axis, top_k
from .linalg import (
    cholesky, det, diagonal, dot, eigh, eigvalsh, einsum, inner, inv, matmul, norm, outer, slogdet, solve, svdvals, tensordot,
    trace, tril, triu)
from .loss import (
    binary_cross_entropy, binary_cross_entropy_with_logits, cross_entropy, huber_loss, kl_div, kl_divergence, l1_loss, mse_loss)
from .move import to
from .normalization import (
    batch_norm, cosine_similarity, group_norm, l2_normalize, layer_norm, norm_relu_pool, rms_norm, weight_norm)
from .pool import adaptive_avg_pool2d, adaptive_max_pool2d, avg_pool1d, avg_pool2d, max_pool1d, max_pool2d
from .projection import embedding, linear
from .recurrent import gru, gru_cell
from .reduce import (
    all, any, argmax, argmin, count_nonzero, cumprod, cumsum, log_softmax, logsumexp, max, mean, min, prod, softmax, std, sum,
    var)
from .resample import grid_sample, interpolate
from .shape import (
    array_split, broadcast_to, concatenate, expand_dims, flatten, flip, moveaxis, pad, ravel, repeat, reshape, roll, split,
    squeeze, stack, swapaxes, tile, transpose)

# -- operators: each also with the operands exchanged ----------------------------------------------------------------

_BINARY = {
    "add": add, "sub": subtract, "mul": multiply, "truediv": divide, "pow": power, "matmul": matmul, "mod": remainder,
    "floordiv": floor_divide, "and": bitwise_and, "or": bitwise_or, "xor": bitwise_xor}
_COMPARE = {"eq": equal, "ne": not_equal, "lt": less, "le": less_equal, "gt": greater, "ge": greater_equal}
_UNARY = {"neg": negative, "abs": abs, "invert": invert}

_OPERANDS = (Tensor, int, float, bool, np.ndarray, np.generic, list, tuple)


def _operand(x):
    return isinstance(x, _OPERANDS) or hasattr(x, "__cuda_array_interface__")


def _binary(operation):
    def forward(self, other):
        return operation(self, other) if other.__class__ is Tensor or _operand(other) else NotImplemented

    def reflected(self, other):
        return operation(other, self) if _operand(other) else NotImplemented

    return forward, reflected


for _name, _operation in {**_BINARY, **_COMPARE}.items():
    _forward, _reflected = _binary(_operation)
    setattr(Tensor, f"__{_name}__", _forward)
    if _name in _BINARY:
        setattr(Tensor, f"__r{_name}__", _reflected)
for _name, _operation in _UNARY.items():
    setattr(Tensor, f"__{_name}__", lambda self, _operation=_operation: _operation(self))
Tensor.__pos__ = lambda self: self
Tensor.__getitem__ = getitem

# -- methods ---------------------------------------------------------------------------------------------------------

_METHODS = dict(
    # elementwise
    abs=abs, astype=astype, clip=clip, exp=exp, log=log, relu=relu, round=round, sigmoid=sigmoid, sqrt=sqrt, square=square,
    tanh=tanh,
    # reductions
    all=all, any=any, argmax=argmax, argmin=argmin, cumprod=cumprod, cumsum=cumsum, logsumexp=logsumexp, max=max, mean=mean,
    min=min, prod=prod, softmax=softmax, log_softmax=log_softmax, std=std, sum=sum, var=var,
    # shape
    broadcast_to=broadcast_to, expand_dims=expand_dims, flatten=flatten, flip=flip, ravel=ravel, repeat=repeat,
    reshape=reshape, split=split, squeeze=squeeze, swapaxes=swapaxes, transpose=transpose,
    # indexing
    argsort=argsort, sort=sort, take=take, top_k=top_k,
    # linear algebra
    diagonal=diagonal, dot=dot, matmul=matmul, norm=norm, trace=trace,
    # devices
    to=to)

for _name, _operation in _METHODS.items():
    setattr(Tensor, _name, lambda self, *args, _operation=_operation, **settings: _operation(self, *args, **settings))
    getattr(Tensor, _name).__name__ = _name
    getattr(Tensor, _name).__doc__ = _operation.__doc__
Tensor.T = property(transpose, doc="The axes in reverse order.")
Tensor.mT = property(lambda self: swapaxes(self, -1, -2), doc="The last two axes exchanged.")

# -- NumPy's functions, called on Tensors ----------------------------------------------------------------------------

_UFUNCS = {getattr(np, _name): globals()[_name] for _name in """
    subtract multiply divide negative reciprocal square power remainder floor_divide exp exp2 expm1 log log2 log10 log1p sqrt
    logaddexp sin cos tan arcsin arccos arctan arctan2 sinh cosh tanh sign floor ceil maximum minimum equal not_equal less
    less_equal greater greater_equal isnan isinf isfinite logical_and logical_or logical_xor logical_not bitwise_and
    bitwise_or bitwise_xor invert matmul""".split()}
_UFUNCS.update({np.add: add, np.absolute: abs, np.rint: round})

_FUNCTIONS = {getattr(np, _name): globals()[_name] for _name in """
    where clip sum mean max min prod var std cumsum cumprod argmax argmin any all count_nonzero reshape ravel transpose
    swapaxes moveaxis expand_dims squeeze broadcast_to concatenate stack split array_split pad flip roll repeat tile
    take take_along_axis argsort sort dot inner outer tensordot einsum trace diagonal tril triu
    zeros_like ones_like""".split()}
_FUNCTIONS.update({getattr(np.linalg, _name): globals()[_name] for _name in "inv det slogdet solve cholesky norm eigh eigvalsh".split()})
_FUNCTIONS.update({
    np.amax: max, np.amin: min, np.round: round, np.shape: lambda x: x.shape, np.ndim: lambda x: x.ndim,
    np.size: lambda x: x.size, np.array_repr: repr, np.array_str: str,
    np.linalg.svd: lambda x, full_matrices=True, compute_uv=True: _singular_values(x, compute_uv)})


_POSITIONS = {getattr(np, _name): [_p for _p in inspect.signature(getattr(np, _name)).parameters][1:] for _name in """
    sum mean max min amax amin prod var std cumsum cumprod argmax argmin any all""".split()}


def _singular_values(x, compute_uv):
    if compute_uv:
        raise TypeError("numpy.linalg.svd of a Tensor gives singular values only: pass compute_uv=False, or take "
                        "eigh(x.T @ x) for the vectors")
    return svdvals(x)


def _array_ufunc(self, ufunc, method, *inputs, out=None, **settings):
    """`np.exp(t)` is `minigrad.exp(t)`; what has no differentiable counterpart is an error, never a lost gradient."""
    if method != "__call__" or out is not None or settings or ufunc not in _UFUNCS:
        what = f"numpy.{ufunc.__name__}" + ("" if method == "__call__" else f".{method}")
        raise TypeError(f"{what}({', '.join([*settings, *['out'] * (out is not None)])}) is not available for Tensors; "
                        f"see minigrad's functions, or use x.numpy() for a result without gradient")
    return _UFUNCS[ufunc](*inputs)


def _array_function(self, function, types, args, settings):
    """The same for NumPy's other functions."""
    if function not in _FUNCTIONS:
        raise TypeError(f"{function.__module__}.{function.__name__} is not available for Tensors; see minigrad's functions, or "
                        "use x.numpy() for a result without gradient")
    if len(args) > 1 and (names := _POSITIONS.get(function)):  # NumPy's order is not ours: dtype and out come early
        settings = {**dict(zip(names, args[1:])), **settings}
        args = args[:1]
        if [name for name in ("dtype", "out") if settings.pop(name, None) is not None]:
            raise TypeError(f"{function.__module__}.{function.__name__}: dtype and out are not available for Tensors")
    return _FUNCTIONS[function](*args, **settings)


class _OfTheClass:
    """`__array_ufunc__` where NumPy looks for it, on the class. CuPy looks on the instance, finds None and leaves
    `cupy_array * tensor` to the Tensor; with a function there it would compute a plain array itself."""

    def __get__(self, instance, owner):
        return _array_ufunc if instance is None else None


Tensor.__array_ufunc__ = _OfTheClass()
Tensor.__array_function__ = _array_function

__all__ = [_name for _name, _value in globals().items() if callable(_value) and not _name.startswith("_") and _value is not Tensor]
