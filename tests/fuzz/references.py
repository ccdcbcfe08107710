"""What else computes the same: NumPy's function of that name, PyTorch's, or a few lines here."""
from __future__ import annotations

import dataclasses
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
          "F.scaled_dot_product_attention", "mg.norm_relu_pool", "mg.remainder",  # NaN may spread: zeros are multiplied by it,
          "mg.ctc_loss", "nn.CTCLoss", "mg.interp", "mg.convolve", "mg.affine_grid",
          "mg.corrcoef"}  # and a variable's correlation with itself is 1 of numbers only
ROUGH = {"mg.svd", "mg.svdvals", "mg.pinv", "mg.round",  # no central differences: almost equal singular values, jumps
         "symmetric.eigh", "mg.cholesky", "mg.eigh", "mg.eigvalsh", "mg.embedding", "F.embedding"}  # and conventions
RANDOM = {"dropout", "drop_path", "dropout2d", "Dropout2d", "Dropout", "DropPath", "randn", "rand", "gumbel_softmax"}
APART = {  # what treats samples apart: (the axis of samples, how many of the inputs have it)
    **dict.fromkeys([f"{part}.{name}" for part in ("mg", "F") for name in
                     "conv1d conv2d conv_transpose1d conv_transpose2d".split()], (0, 1)),
    **dict.fromkeys([f"mg.{name}" for name in
                     f"{SOLVERS} conv2d_relu pixel_shuffle pixel_unshuffle unfold fold max_pool1d max_pool2d avg_pool1d avg_pool2d adaptive_avg_pool1d"
                     " adaptive_avg_pool2d"
                     " adaptive_max_pool1d adaptive_max_pool2d interpolate linear layer_norm rms_norm group_norm"
                     " packed_attention"
                     " rnn_cell gru_cell lstm_cell drop_path dropout dropout2d hardtanh".split()], (0, 1)),
    **dict.fromkeys([f"symmetric.{name}" for name in ("cholesky", "eigh", "eigvalsh")], (0, 1)),
    **dict.fromkeys(["mg.grid_sample", "F.grid_sample", "mg.matmul", "mg.solve"], (0, 2)),
    **dict.fromkeys(["mg.scaled_dot_product_attention", "F.scaled_dot_product_attention"], (0, 3)),
    **dict.fromkeys([f"nn.{name}" for name in
                     "ReLU ReLU6 SiLU Mish Hardswish Hardsigmoid Sigmoid Tanh SELU Softsign LogSigmoid Hardtanh GLU Unflatten"
                     " CELU Hardshrink Softshrink Threshold"
                     " Dropout2d GELU LeakyReLU ELU Softplus PReLU Dropout DropPath Linear"
                     " Conv1d"
                     " Conv2d ConvTranspose1d ConvTranspose2d MaxPool1d AvgPool1d MaxPool2d AvgPool2d AdaptiveAvgPool1d"
                     " AdaptiveMaxPool1d AdaptiveAvgPool2d AdaptiveMaxPool2d Upsample LayerNorm RMSNorm GroupNorm GRUCell"
                     " InstanceNorm1d InstanceNorm2d PixelShuffle PixelUnshuffle Unfold Fold LSTMCell RNNCell"
                     " Attention Mlp TransformerBlock TransformerEncoderLayer TransformerEncoder WeightNorm Sequential".split()], (0, 1)),
    **dict.fromkeys(["nn.GRU", "nn.LSTM", "nn.RNN"], (1, 1)), "nn.MultiheadAttention": (0, 3)}
STACKS = {  # whose samples are matrices
    f"mg.{name}" for name in [*SOLVERS.split(), "matmul", "scaled_dot_product_attention"]} | {
    "F.scaled_dot_product_attention", *[f"symmetric.{name}" for name in ("cholesky", "eigh", "eigvalsh")]}
OTHERWISE = {"MultiheadAttention", "ctc_loss", "CTCLoss", "TransformerEncoder", "Embedding", "embedding",
             "hardsigmoid", "celu",  # whose factors are float32 there
             *"solve slogdet eigh svd qr cholesky eigvalsh".split()}  # other outputs or conventions than PyTorch's


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


def _clipped(gradients, max_norm):
    """The length of the gradients, and the gradients after that."""
    parameters = [nn.Parameter(np.zeros_like(g)) for g in gradients]
    for p, g in zip(parameters, gradients):
        p.grad = mg.Tensor(np.array(g))
    return [optim.clip_grad_norm_(parameters, max_norm), *[p.grad for p in parameters]]


def _clipped_by_numpy(gradients, max_norm):
    length = np.sqrt(sum((g.astype(float) ** 2).sum() for g in gradients))
    return [length, *[(g * (1 if length <= max_norm else max_norm / length)).astype(g.dtype) for g in gradients]]


def _averaged(values, decay=0.999, warmup=True):
    """The moving average of a parameter that takes these values, the first of them as the average begins."""
    values, layer = list(values), nn.Linear(1, 1)
    layer.weight = nn.Parameter(np.array(values[0]))
    ema = optim.EMA(layer, decay, warmup)
    for value in values[1:]:
        layer.weight.data[...] = value
        ema.update()
    return ema.average["weight"]


def _averaged_by_numpy(values, decay=0.999, warmup=True):
    average = values[0].astype(float)
    for t, value in enumerate(values[1:], 1):
        share = min(decay, 1 - 1 / (t + 1)) if warmup else decay
        average = share * average + (1 - share) * value
    return average.astype(values[0].dtype)


def _scaled(gradients, **settings):
    """Parameters after a step for each gradient, taken through a scaled loss, and the scale at the end."""
    gradients = [np.asarray(g) for g in gradients]
    p, scaler = nn.Parameter(np.zeros(gradients[0].shape, gradients[0].dtype)), optim.LossScaler(**settings)
    sgd = optim.SGD([p], 1.0)
    for g in gradients:
        p.grad = None
        scaler.scaled((p * g).sum()).backward()
        scaler.step(sgd)
    return [p.detach(), scaler.scale]


def _scaled_by_numpy(gradients, scale=2.0**16, growth=2.0, backoff=0.5, interval=2000):
    p, good = np.zeros(gradients[0].shape, gradients[0].dtype), 0
    for g in gradients:
        with np.errstate(all="ignore"):
            if not np.isfinite(g * p.dtype.type(scale)).all():
                scale, good = max(scale * backoff, 1.0), 0
                continue
        p, good = p - g, good + 1
        if good == interval:
            scale, good = scale * growth, 0
    return [p, scale]


def _filled(function, tensor):
    """What an initialisation makes of an array."""
    return lambda x, *args, **settings: function(tensor(x), *args, **settings)


def _of_symmetric(function, transposed):
    """A function of symmetric matrices, of any."""
    return lambda x: function((x + transposed(x, -1, -2)) * 0.5)


OPTIMISERS = ("SGD", "Adam", "AdamW", "LAMB", "LARS", "RMSprop", "Adagrad", "Adadelta", "NAdam", "RAdam")
HALVES = ("cholesky", "eigh", "eigvalsh")  # read half of a symmetric matrix
FILLS = ("uniform_", "normal_", "trunc_normal_", "constant_", "zeros_", "ones_", "eye_", "xavier_uniform_", "xavier_normal_",
         "kaiming_uniform_", "kaiming_normal_", "orthogonal_")
steps = types.SimpleNamespace(**{name: _steps(getattr(optim, name), lambda x: mg.Tensor(np.array(x))) for name in OPTIMISERS},
                              clip_grad_norm_=_clipped, EMA=_averaged, LossScaler=_scaled)
symmetric = types.SimpleNamespace(**{name: _of_symmetric(getattr(mg, name), mg.swapaxes) for name in HALVES})
fills = types.SimpleNamespace(**{
    name: _filled(getattr(nn.init, name), lambda x: mg.Tensor(np.array(x), requires_grad=True)) for name in FILLS})
PLAIN = {"steps.clip_grad_norm_": _clipped_by_numpy, "steps.EMA": _averaged_by_numpy, "steps.LossScaler": _scaled_by_numpy}


def minigrad(name):
    """The function or class that a call names."""
    part, _, rest = name.rpartition(".")
    return getattr({"mg": mg, "F": F, "nn": nn, "optim": optim, "init": nn.init, "steps": steps, "symmetric": symmetric,
                    "fills": fills}[part], rest)


def _numpy(name):
    if name in PLAIN:
        return PLAIN[name]
    function = minigrad(name)
    found = [theirs for theirs, ours in NUMPY.items() if ours is function]
    return next((f for f in found if f.__name__ == function.__name__), found[0] if found else None)


def _torch(name):
    part, _, rest = name.rpartition(".")
    if part == "symmetric" and rest != "eigh" and torch is not None:
        return _of_symmetric(getattr(torch.linalg, rest), torch.transpose)
    if torch is None or rest in RANDOM | OTHERWISE:
        return None
    if part == "steps":
        return _steps(getattr(torch.optim, rest), torch.clone) if hasattr(torch.optim, rest) else None
    if part == "nn":
        return getattr(torch.nn, rest, None)
    if part == "fills" and rest in ("constant_", "zeros_", "ones_", "eye_"):
        return _filled(getattr(torch.nn.init, rest), torch.clone)
    if name == "init.calculate_gain":
        return torch.nn.init.calculate_gain
    if part == "mg" and rest in SOLVERS.split():
        return getattr(torch.linalg, rest, None) or getattr(torch, rest)
    if part == "F" or getattr(F, rest, None) is getattr(mg, rest, 0):
        return getattr(torch.nn.functional, rest, None)
    return None


def results(call, arrays, run):
    """(library, Result) of each that knows the call."""
    from .check import Result
    if call.name.startswith("mg.") or call.name in PLAIN:
        theirs = _numpy(call.name)
        known = [dataclasses.replace(a, dtype="float32") if a.dtype == "bfloat16" else a for a in arrays]
        result = theirs and _by_numpy(theirs, call, known, Result)
        if result and (known == arrays or result.error):  # in place of bfloat16 float32 shows only what NumPy refuses
            yield "NumPy", result
    theirs = _torch(call.name)
    dtypes = {a.dtype for a in arrays}
    known = dtypes <= {"float32", "float64", "int64", "bool"} and not dtypes >= {"float32", "float64"}
    known &= not (call.name.endswith("grid_sample") and not np.isfinite(arrays[1].make()).all())  # PyTorch's crashes there
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
