"""Optimisers change parameters in place by their `.grad`; schedules set an optimiser's learning rate `lr`."""
import math

import numpy as np

from .backend import execution, is_float, path, xp
from .backend.cpu import elementwise as fused
from .versions import mark_changed
from .tensor import wrap


class Optimizer:
    """Common to all: the parameters, their state arrays by name, the number of steps taken."""

    slots = ()  # names of the arrays kept for each parameter
    update_all = None  # of optimisers with a CUDA kernel: `update` of many parameters of one dtype in one launch

    def __init__(self, params, lr):
        self.params = list(params)
        if not self.params:
            raise ValueError(f"{type(self).__name__}: no parameters to optimise")
        if lr < 0:
            raise ValueError(f"{type(self).__name__}: learning rate {lr} is negative")
        self.lr, self.steps = lr, 0
        self.state = {name: [xp(p._array).zeros_like(p._array) for p in self.params] for name in self.slots}

    def step(self):
        """One update of every parameter that has a gradient."""
        many = [(p._array, p.grad._array, *[self.state[name][i] for name in self.slots])
                for i, p in enumerate(self.params) if p.grad is not None]
        for p, *_ in many:
            mark_changed(p)
        number = execution.per_replay(self._count, np.int32)
        together, others = _by_kernel(type(self).__name__, many, self.update_all is not None)
        for arrays in others:
            self.update(*arrays)
        for dtype, arrays in together.items():
            self.update_all(execution.per_replay(lambda: self.lr, dtype), number, *arrays)

    def _count(self):
        self.steps += 1
        return self.steps

    def zero_grad(self):
        """Forgets the gradients."""
        for p in self.params:
            p.grad = None

    def state_dict(self):
        """A dict from names to arrays: the number of steps and the state, copied."""
        arrays = {f"{name}.{i}": a.copy() for name, many in self.state.items() for i, a in enumerate(many)}
        return arrays | {"steps": np.array(self.steps), "lr": np.array(self.lr)}

    def load_state_dict(self, state):
        """Puts back what `state_dict` returned. KeyError if it is another optimiser's."""
        for name, many in self.state.items():
            for i, a in enumerate(many):
                a[...] = xp(a).asarray(state[f"{name}.{i}"])
        self.steps, self.lr = int(state["steps"]), float(state["lr"])


def _by_kernel(name, many, exists=True):
    """What the kernels take of a list of tuples of arrays, the second of which is only read: ({dtype: lists}, the rest).

    RuntimeError if there is a rest while a step is being captured, whose learning rate could not change any more.
    """
    together, others = {}, []
    for arrays in many:
        fits = exists and path("sgd_step", arrays) is not None
        (together.setdefault(arrays[0].dtype, []) if fits else others).append(arrays)
    if others and execution.capture is not None:
        raise RuntimeError(f"{name}: a step on parameters like {others[0][0].dtype}{list(others[0][0].shape)} has no CUDA "
                           "kernel, so it cannot be captured")
    return {dtype: [list(arrays) for arrays in zip(*group)] for dtype, group in together.items()}, others


class SGD(Optimizer):
    """Stochastic gradient descent: v = momentum v + g, p = p - lr v (Nesterov: p - lr (g + momentum v))."""

    def __init__(self, params, lr, momentum=0.0, weight_decay=0.0, nesterov=False):
        self.slots = ("velocity",) if momentum else ()
        super().__init__(params, lr)
        self.momentum, self.weight_decay, self.nesterov = momentum, weight_decay, nesterov

    def update_all(self, lr, number, ps, gs, vs=()):
        from .backend import cuda
        cuda.sgd_step(ps, gs, vs, lr, self.momentum, self.weight_decay, self.nesterov)

    def update(self, p, g, v=None):
        if xp(p) is np:
            return fused.sgd_step(p, g, v, self.lr, self.momentum, self.weight_decay, self.nesterov)
        if self.weight_decay:
            g = g + self.weight_decay * p
        if v is not None:
            v *= self.momentum
            v += g
            g = g + self.momentum * v if self.nesterov else v
        p -= self.lr * g


class Adam(Optimizer):
    """Kingma and Ba 2014, arXiv:1412.6980. Weight decay is added to the gradient."""

    slots, decoupled = ("mean", "square"), False

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
        super().__init__(params, lr)
        too_narrow = [p.dtype for p in self.params if eps and p.dtype.type(eps) == 0]
        if too_narrow:
            raise ValueError(f"{type(self).__name__}: eps {eps} is 0 in {too_narrow[0]}; keep the parameters in float32 "
                             "and convert them for each step, as LossScaler describes")
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay

    def update_all(self, lr, number, ps, gs, ms, vs):
        from .backend import cuda
        cuda.adam_step(ps, gs, ms, vs, lr, *self.betas, self.eps, self.weight_decay, self.decoupled, number)

    def update(self, p, g, m, v):
        (b1, b2), t = self.betas, self.steps
        if xp(p) is np:
            return fused.adam_step(p, g, m, v, self.lr, b1, b2, self.eps, self.weight_decay, self.decoupled, t)
        if self.weight_decay and self.decoupled:
            p *= 1 - self.lr * self.weight_decay
        elif self.weight_decay:
            g = g + self.weight_decay * p
        m += (1 - b1) * (g - m)
        v += (1 - b2) * (g * g - v)
        p -= self.lr / (1 - b1**t) * m / (xp(p).sqrt(v) / math.sqrt(1 - b2**t) + self.eps)


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2017, arXiv:1711.05101)."""

    decoupled = True

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2):
        super().__init__(params, lr, betas, eps, weight_decay)


class LAMB(Adam):
    """Adam whose step for each parameter has the length lr |p| (You et al. 2019, arXiv:1904.00962, algorithm 2).

    Parameters of one axis (biases, scales of normalisation) are neither rescaled nor decayed.
    """

    update_all = None

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-6, weight_decay=1e-2):
        super().__init__(params, lr, betas, eps, weight_decay)

    def update(self, p, g, m, v):
        (b1, b2), t = self.betas, self.steps
        m += (1 - b1) * (g - m)
        v += (1 - b2) * (g * g - v)
        direction = m / (1 - b1**t) / (xp(p).sqrt(v / (1 - b2**t)) + self.eps)
        if p.ndim > 1:
            direction += self.weight_decay * p
            direction *= _trust(p, direction)
        p -= self.lr * direction


class LARS(SGD):
    """SGD with momentum whose step for each parameter is in proportion to |p| (You et al. 2017, arXiv:1708.03888).

    g = trust |p| / |g + weight_decay p| (g + weight_decay p); parameters of one axis are neither rescaled nor decayed.
    """

    update_all = None

    def __init__(self, params, lr, momentum=0.9, weight_decay=0.0, nesterov=False, trust=1e-3):
        super().__init__(params, lr, momentum, weight_decay, nesterov)
        self.trust = trust

    def update(self, p, g, v=None):
        if p.ndim > 1:
            g = g + self.weight_decay * p
            g *= self.trust * _trust(p, g)
        if v is not None:
            v *= self.momentum
            v += g
            g = g + self.momentum * v if self.nesterov else v
        p -= self.lr * g


def _trust(p, direction):
    """|p| / |direction|, and 1 where either is 0; stays on the device of `p`."""
    module = xp(p)
    a, b = module.sqrt((p * p).sum()), module.sqrt((direction * direction).sum())
    return module.where((a > 0) & (b > 0), a / module.where(b > 0, b, 1), 1).astype(p.dtype)


def clip_grad_norm(params, max_norm):
    """Scales the gradients, taken as one long vector, down to length `max_norm` if it is longer. Returns its length.

    A length that is not finite leaves NaN in every gradient, so that it is noticed and not trained on. On the GPU the length
    is a 0-d Tensor there, and the host does not wait for it.
    """
    grads = [p.grad._array for p in params if p.grad is not None]
    if not grads:
        return 0.0
    total = sum((g.astype(np.float64) ** 2).sum() for g in grads)
    module = xp(total)
    total = module.sqrt(total)
    if module is np and total <= max_norm:
        return float(total)
    with np.errstate(all="ignore"):
        scale = module.where(total <= max_norm, 1, module.where(module.isfinite(total), max_norm / total, math.nan))
    for g in grads:
        mark_changed(g)
        g *= scale.astype(g.dtype)
    return float(total) if module is np else wrap(total)


class LossScaler:
    """Scales a loss up, so that small gradients do not vanish in float16, and skips steps whose gradients overflowed.

    Micikevicius et al. 2018, arXiv:1710.03740. The parameters stay float32, gradients come back through the conversion, and
    operations that sum (normalisation, softmax, attention, pooling, products) do so in float32 and round the result. With
    "bfloat16" for "float16" the same code needs no scaler: it has the range of float32, and fewer digits than float16.

        half = {name: p.astype("float16") for name, p in net.named_parameters()}
        logits = functional_call(net, half, x.astype("float16"))
        scaler.scaled(cross_entropy(logits.astype("float32"), labels)).backward()
        scaler.step(optimizer)

    Args:
        scale: the first factor.
        growth: it grows by this after `interval` steps without overflow.
        backoff: it shrinks by this at an overflow, down to 1.
    """

    def __init__(self, scale=2.0**16, growth=2.0, backoff=0.5, interval=2000):
        if not (scale >= 1 and growth >= 1 and 0 < backoff < 1 and interval >= 1):
            raise ValueError(f"LossScaler: scale {scale}, growth {growth} and interval {interval} must be at least 1 and "
                             f"backoff {backoff} between 0 and 1")
        self.scale, self.growth, self.backoff, self.interval = scale, growth, backoff, interval
        self.good = 0  # steps since the last overflow or growth

    def scaled(self, loss):
        """`loss` times the present scale, to be differentiated."""
        return loss * self.scale

    def step(self, optimizer):
        """Divides the gradients by the scale and takes a step, unless one is not finite. Returns whether it did.

        The host reads one number, so this cannot be part of a captured step.
        """
        grads = [p.grad._array for p in optimizer.params if p.grad is not None]
        with np.errstate(invalid="ignore", over="ignore"):
            total = sum((g * 0).sum(dtype=np.float32) for g in grads)  # 0, or NaN if anything is not finite
        if wrap(xp(total).asarray(total)).item() != 0:
            self.scale, self.good = max(self.scale * self.backoff, 1.0), 0
            return False
        for g in grads:
            mark_changed(g)
            g /= g.dtype.type(self.scale)
        optimizer.step()
        self.good += 1
        if self.good == self.interval:
            self.scale, self.good = self.scale * self.growth, 0
        return True

    def state_dict(self):
        """A dict from names to arrays: the scale, and how many steps it has held."""
        return {"scale": np.array(self.scale), "good": np.array(self.good)}

    def load_state_dict(self, state):
        """Puts back what `state_dict` returned."""
        self.scale, self.good = float(state["scale"]), int(state["good"])


class EMA:
    """An exponential moving average of a module's parameters and buffers: average = decay average + (1 - decay) value.

    With `warmup` the decay of update number t is at most 1 - 1/(t + 1), so that the initial values fade (Tarvainen and
    Valpola 2017). Buffers of whole numbers are copied.
    """

    def __init__(self, module, decay=0.999, warmup=True):
        if not 0 <= decay < 1:
            raise ValueError(f"EMA: decay must be in [0, 1), not {decay}")
        self.module, self.decay, self.warmup, self.updates = module, decay, warmup, 0
        self.average = module.state_dict()

    def update(self):
        """Moves the average towards the module's present values; to be called after the optimiser's step."""
        execution.per_replay(self._count, np.int32)
        now = {name: p._array for name, p in self.module.named_parameters()} | dict(self.module.named_buffers())
        pairs = [(self.average[name], value) for name, value in now.items()]
        for average, value in pairs:
            if not is_float(average.dtype):
                average[...] = value
        together, others = _by_kernel("EMA", [pair for pair in pairs if is_float(pair[0].dtype)])
        for average, value in others:
            average += average.dtype.type(1 - self._decay()) * (value - average)
        for dtype, (averages, values) in together.items():
            from .backend import cuda
            cuda.ema_step(averages, values, execution.per_replay(self._decay, dtype))

    def _count(self):
        self.updates += 1
        return self.updates

    def _decay(self):
        """The decay of update number `updates`."""
        return min(self.decay, 1 - 1 / (self.updates + 1)) if self.warmup else self.decay

    def copy_to(self, module):
        """Puts the average into a module of the same structure."""
        module.load_state_dict(self.average)

    def state_dict(self):
        """A dict from names to arrays, copied."""
        return {name: value.copy() for name, value in self.average.items()} | {"updates": np.array(self.updates)}

    def load_state_dict(self, state):
        """Puts back what `state_dict` returned."""
        for name, value in self.average.items():
            value[...] = xp(value).asarray(state[name])
        self.updates = int(state["updates"])


def step_decay(base, every, factor=0.5):
    """A schedule, from the step number (0 for the first) to the learning rate: `base`, times `factor` `every` so many."""
    return lambda step: base * factor ** (step // every)


def cosine_decay(base, total, warmup=0, final=0.0):
    """A schedule: linear from 0 over `warmup` steps, then half a cosine from `base` to `final` at step `total`."""
    def rate(step):
        if step < warmup:
            return base * (step + 1) / warmup
        progress = min((step - warmup) / max(total - warmup, 1), 1)
        return final + (base - final) * (1 + math.cos(math.pi * progress)) / 2

    return rate
