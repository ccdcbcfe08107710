"""What else computes the same: NumPy's function of that name, PyTorch's, or a few lines here."""
from __future__ import annotations

import types
import warnings

import numpy as np

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import functional as F
from minigrad.ops.declare import NUMPY

try:
    import torch
except ImportError:
    torch = None

SOLVERS = "inv det slogdet logdet solve cholesky eigh eigvalsh svdvals svd pinv qr matrix_power"
GLOBAL = {*["mg." + name for name in SOLVERS.split()], "mg.scaled_dot_product_attention", "mg.packed_attention",
          "F.scaled_dot_product_attention", "mg.norm_relu_pool", "mg.remainder"}  # NaN may spread: zeros are multiplied by it
ROUGH = {"mg.svd", "mg.svdvals", "mg.pinv",  # no central differences: almost equal singular values,
         "mg.cholesky", "mg.eigh", "mg.eigvalsh", "mg.embedding", "F.embedding"}  # and gradients that are conventions
RANDOM = {"dropout", "drop_path", "Dropout", "DropPath", "randn", "rand"}
OTHERWISE = {"MultiheadAttention", "Embedding", "embedding"}  # other outputs or conventions than PyTorch's


def _steps(optimiser, tensor):
    """Three steps of an optimiser, from parameters and gradients to parameters."""
    def steps(parameters, gradients, **settings):
        parameters = [tensor(p) for p in parameters]
        for p in parameters:
            p.requires_grad = True
        made = optimiser(parameters, **settings)
        for i in range(3):
            for p, g in zip(parameters, gradients):
                p.grad = tensor(g * (i + 1))
            made.step()
        return [p.detach() for p in parameters]
    return steps


OPTIMISERS = ("SGD", "Adam", "AdamW", "LAMB", "LARS")
steps = types.SimpleNamespace(**{name: _steps(getattr(optim, name), lambda x: mg.Tensor(np.array(x))) for name in OPTIMISERS})


def minigrad(name):
    """The function or class that a call names."""
    part, _, rest = name.rpartition(".")
    return getattr({"mg": mg, "F": F, "nn": nn, "optim": optim, "steps": steps}[part], rest)


def _numpy(name):
    function = minigrad(name)
    found = [theirs for theirs, ours in NUMPY.items() if ours is function]
    return next((f for f in found if f.__name__ == function.__name__), found[0] if found else None)


def _torch(name):
    part, _, rest = name.rpartition(".")
    if torch is None or rest in RANDOM | OTHERWISE:
        return None
    if part == "steps":
        return _steps(getattr(torch.optim, rest), torch.clone) if hasattr(torch.optim, rest) else None
    if part == "nn":
        return getattr(torch.nn, rest, None)
    if part == "F" or getattr(F, rest, None) is getattr(mg, rest, 0):
        return getattr(torch.nn.functional, rest, None)
    return None


def results(call, arrays, run):
    """(library, Result) of each that knows the call."""
    from .check import Result
    if call.name.startswith("mg.") and not any(a.dtype == "bfloat16" for a in arrays):
        theirs = _numpy(call.name)
        if theirs is not None:
            yield "NumPy", _by_numpy(theirs, call, arrays, Result)
    theirs = _torch(call.name)
    dtypes = {a.dtype for a in arrays}
    known = dtypes <= {"float32", "float64", "int64", "bool"} and not dtypes >= {"float32", "float64"}
    if theirs is not None and call.kind != "whole" and known:
        yield "PyTorch", _by_torch(theirs, call, arrays, Result)


def _leaves(y):
    if isinstance(y, (tuple, list)):
        return [leaf for part in y for leaf in _leaves(part)]
    return [] if y is None else [y]


def _by_numpy(theirs, call, arrays, Result):
    args, kwargs, _ = call.arguments([a.make() for a in arrays])
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Result([np.array(y) for y in _leaves(theirs(*args, **kwargs))], None)
    except Exception as error:
        return Result(error=error)


def _by_torch(theirs, call, arrays, Result):
    from .check import cotangent
    values = [a.make() for a in arrays]
    inputs = [torch.tensor(v.copy(), requires_grad=a.role == "input" and v.dtype.kind == "f")
              for v, a in zip(values, arrays)]
    args, kwargs, then = call.arguments(inputs)
    leaves = list(inputs)
    try:
        out = theirs(*args, **kwargs)
        if then is not None:
            mg.random.seed(0)
            ours = minigrad(call.name)(*[a for a in args], **kwargs)
            state = {key: torch.tensor(value) for key, value in ours.state_dict().items()}
            out.load_state_dict(state, strict=False)
            y = out(*then)
            y = [y, *[b for n, b in out.named_buffers() if "num_batches" not in n]]
            leaves += [dict(out.named_parameters())[n] for n, _ in ours.named_parameters()]
        else:
            y = out
        outs = _leaves(y)
        ys = [y for y in outs if y.requires_grad]
        for i, y in enumerate(ys):
            y.backward(torch.tensor(cotangent(tuple(y.shape), y.detach().numpy().dtype, i)), retain_graph=True)
    except Exception as error:
        return Result(error=error)
    leaves = [x for x in leaves if x.requires_grad] if ys else []
    states = [v.numpy() for v, a in zip(inputs, arrays) if a.role == "state"]
    return Result([np.array(y.detach().numpy()) for y in outs] + states,
                  [x.grad if x.grad is None else x.grad.numpy() for x in leaves])
