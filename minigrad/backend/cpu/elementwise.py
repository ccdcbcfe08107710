"""One pass over memory, in blocks that stay in a core's cache, on all threads: sums, ReLU and the optimisers' steps.

A NumPy expression of several operations passes over large arrays once for each of them, on one core. Here all operations
of an expression run on one block before the next block is touched.
"""

import ctypes
import functools
import itertools
import math
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from .declarations import constant
from .memory import empty, scratch
from .native import kernel
from .threads import get_num_threads, parallel_for

BLOCK_BYTES = 1 << 20
SPAN = constant("elementwise.c", "SPAN")
QUICK = ("add", "subtract", "multiply", "divide", "maximum", "minimum")  # in NumPy, too, of narrow and long rows on one thread
SLOW = ("remainder", "floor_divide", "hypot", "logaddexp", "cosine", "sigmoid_share")
NARROW = 512  # numbers of a row, of which `arithmetic` makes longer ones, if it is the same for all


def arithmetic(name, x, y, out=None):
    """The operation `name` of float32 numbers, broadcast against each other, into `out` or reused memory.

    What NumPy does not have is for shapes that fit and arrays of at least 16 elements.
    """
    plan = _plan(x.shape, x.strides, y.shape, y.strides)
    if plan is None and name in SLOW:
        x, y = [a.copy() for a in np.broadcast_arrays(x, y)]
        plan = _plan(x.shape, x.strides, y.shape, y.strides)
    if plan is None or not (out is None or out.flags.writeable and out.transpose(plan.order).flags.c_contiguous):
        return getattr(np, name)(x, y, out=out)
    if out is None:
        out = empty(plan.shape).transpose(plan.back)
    if name in QUICK and get_num_threads() == 1 and not 32 <= plan.layout[0, 2] <= SPAN:
        return getattr(np, name)(x, y, out=out)
    x, y = [np.asarray(a) if n == 1 else as_strided(a, (n, a.size), (0, a.itemsize)).copy() for a, n in zip((x, y), plan.copies)]
    kernel("arithmetic")(x, y, out, plan.layout, constant("elementwise.c", name.upper()))
    return out


class _Plan(NamedTuple):
    """How `arithmetic` goes through two arrays.

    Attributes:
        order, back: the axes of the result as they lie in memory, and the way back.
        shape: of the result, in that order.
        layout: what the kernel is told.
        copies: of each array, how many of it are to stand in a row.
    """

    order: list[int]
    back: list[int]
    shape: list[int]
    layout: np.ndarray
    copies: tuple[int, int]


@functools.lru_cache(maxsize=4096)
def _plan(x_shape, x_strides, y_shape, y_strides):
    """Of float32 arrays with these shapes and strides; None where they do not fit, or NumPy takes no longer."""
    try:
        shape = np.broadcast_shapes(x_shape, y_shape)
    except ValueError:
        return None
    steps = [[0] * (len(shape) - len(sides)) + [0 if n == 1 else stride // 4 for n, stride in zip(sides, strides)]
             for sides, strides in ((x_shape, x_strides), (y_shape, y_strides))]
    order, back = memory_order(tuple([max(abs(p), abs(q)) for p, q in zip(*steps)]))
    axes = [(1, 0, 0)]
    for n, p, q in [(shape[i], steps[0][i], steps[1][i]) for i in order if shape[i] > 1]:
        before, *outside = axes[-1]
        if before == 1 or outside == [n * p, n * q]:  # neighbours that are one axis
            axes[-1] = before * n, p, q
        else:
            axes.append((n, p, q))
    outer, middle, inner = [(1, 0, 0)] * (3 - len(axes)) + axes[-3:]
    copies = 1, 1
    if outer[0] == 1 and inner[0] < NARROW and inner[1:] == (1, 1) and sorted(middle[1:]) == [0, inner[0]]:  # a row for all rows
        many = next(k for k in range(NARROW // inner[0], 0, -1) if middle[0] % k == 0)
        copies = tuple([many if not step and math.prod(sides) == inner[0] else 1
                        for step, sides in zip(middle[1:], (x_shape, y_shape))])
        if many in copies:
            n = many * inner[0]
            middle, inner = (middle[0] // many, *[n if step else 0 for step in middle[1:]]), (n, 1, 1)
    if len(axes) > 3 or inner[0] < 16 or inner[1:] not in ((0, 1), (1, 0), (1, 1)):
        return None
    sizes, *steps = zip(outer, middle, inner)
    return _Plan(order, back, [shape[i] for i in order], np.array([sizes, *steps]), copies)


def choose(condition, x, y):
    """`numpy.where` of bools and float32 numbers. NumPy's guesses each bool, and waits where it is another."""
    shape, ones, native = np.broadcast(condition, x, y).shape, [x.size == 1, y.size == 1], kernel("choose", x, y)
    like = next((a for a in (x, y, condition) if a.shape == shape), np.broadcast_to(condition, shape))
    out, numbers = empty_like(like, x.dtype), [np.asarray(a).reshape(1) for a, one in zip((x, y), ones) if one]
    read = [a if a.shape == shape else np.broadcast_to(a, shape) for a, one in zip((condition, x, y), (False, *ones)) if not one]

    def fill(out, condition, *rest):
        rest = [*rest, *numbers] if ones[1] else [*numbers, *rest]
        native(condition.view(np.uint8), *rest, out, out.size, *ones)

    for_all(fill, [out], read)
    return out


def selected(x, mask, out):
    """`out`: x where the mask is True, else 0. The bits are multiplied: numbers that are infinite or NaN times 0 are NaN."""
    if x.dtype.itemsize > 8:  # np.longdouble
        np.copyto(out, 0)
        np.copyto(out, x, where=mask)
        return out
    bits = np.dtype(f"i{x.dtype.itemsize}")
    np.multiply(x.view(bits), mask.view(np.int8), out=out.view(bits))
    return out


def by_kernel(native, like, read, *settings):
    """A new array ordered as `like`, filled by a kernel that takes the arrays `read`, the array, its size and settings."""
    out = empty_like(like)
    for_all(lambda out, *read: native(*read, out, out.size, *settings), [out], read)
    return out


def relu(x):
    """max(x, 0)."""
    if native := kernel("relu", x):
        return by_kernel(native, x, [x])
    y = empty_like(x)
    zeros = np.zeros(min(x.size, BLOCK_BYTES // x.itemsize), x.dtype)  # faster than a scalar: that is not vectorised
    for_blocks(lambda y, x: np.maximum(x, zeros[:x.size], out=y), [y], [x])
    return y


def relu_backward(gy, y):
    """The gradient of `relu` for its output y: gy where y > 0, else 0."""
    if native := kernel("relu_backward", gy, y):
        return by_kernel(native, y, [gy, y])
    gx = empty_like(y)
    for_blocks(lambda gx, gy, y: selected(gy, y > 0, gx), [gx], [gy, y])
    return gx


def limited(x, least, most):
    """min(max(x, least), most)."""
    if native := kernel("limited", x):
        return by_kernel(native, x, [x], least, most)
    y = empty_like(x)
    for_blocks(lambda y, x: np.clip(x, least, most, out=y), [y], [x])
    return y


def limited_backward(gy, y, least, most):
    """The gradient of `limited` for its output y: gy where least < y < most, else 0."""
    if native := kernel("limited_backward", gy, y):
        return by_kernel(native, y, [gy, y], least, most)

    def block(gx, gy, y):
        np.copyto(gx, gy)
        gx[(y <= least) | (y >= most)] = 0

    gx = empty_like(y)
    for_blocks(block, [gx], [gy, y])
    return gx


def logistic(x):
    """1 / (1 + exp(-x)) of float32 numbers."""
    return by_kernel(kernel("logistic"), x, [x])


def logistic_backward(gy, y):
    """The gradient of `logistic` for its output y: gy y (1 - y)."""
    return by_kernel(kernel("logistic_backward"), y, [gy, y])


def logistic_loss(x, p, q):
    """p softplus(-x) + q softplus(x) of float32 numbers, all of one shape."""
    return by_kernel(kernel("logistic_loss"), x, [x, p, q])


def logistic_loss_backward(gy, x, p, q):
    """The gradient of `logistic_loss` in x."""
    return by_kernel(kernel("logistic_loss_backward"), x, [gy, x, p, q])


def root_backward(gy, y):
    """The gradient of the square root for its output y: gy / (2 y), 0 where y is 0."""
    return by_kernel(kernel("root_backward"), y, [gy, y])


def halves(x):
    """float32 numbers rounded to float16."""
    y, native = empty_like(x, np.float16), kernel("halves", x)
    for_all(lambda y, x: native(x, y.view(np.uint16), x.size), [y], [x])
    return y


def floats_of_halves(bits):
    """The float32 numbers of float16 ones, whose bits these are, of uint16."""
    y, native = empty_like(bits, np.float32), kernel("floats_of_halves")
    for_all(lambda y, bits: native(bits, y, bits.size), [y], [bits])
    return y


HALVES = {*range(-6, 7), 8} - {0}  # of twice an exponent: those of which there is a kernel


def is_half_power(x, exponent):
    """Whether `half_powers` takes the exponent, an array; both are float32, or else the power is not."""
    return not exponent.ndim and x.ndim > 0 and 2 * exponent.item() in HALVES and kernel("half_powers", x, exponent) is not None


def is_along_half_power(g, x, exponent):
    """Whether `half_powers_backward` takes these arrays."""
    return g.dtype == np.float32 and is_half_power(x, exponent)


def half_powers(x, exponent):
    """x to the power of one exponent that is whole or a half more."""
    return by_kernel(kernel("half_powers"), x, [x], int(2 * exponent.item()))


def half_powers_backward(gy, x, exponent):
    """The gradient in x of x to the power of one exponent that is whole or a half more."""
    return by_kernel(kernel("half_powers_backward"), x, [gy, x], int(2 * exponent.item()))


def sgd_step(ps, gs, vs, lr, momentum=0.0, weight_decay=0.0, nesterov=False):
    """One step of stochastic gradient descent with momentum, in place (PyTorch's convention, without dampening).

        g = g + weight_decay * p;  v = momentum * v + g;  p = p - lr * (g + momentum * v if nesterov else v)

    Args:
        ps, gs, vs: lists of parameters, gradients and velocities (empty without momentum). ps and vs are updated.
    """
    def step(p, *rest):
        *v, g = rest
        d, s = scratch("step direction", p.shape, p.dtype), scratch("step term", p.shape, p.dtype)
        if weight_decay:
            g = np.add(g, np.multiply(p, weight_decay, out=d), out=d)
        for velocity in v:  # one or none
            velocity *= momentum
            velocity += g
            g = np.add(g, np.multiply(velocity, momentum, out=s), out=d) if nesterov else velocity
        p -= np.multiply(g, lr, out=d)

    _update("sgd_step", [ps, vs], gs, step, lr, momentum, weight_decay, nesterov)


def adam_step(ps, gs, ms, vs, lr, b1, b2, eps, wd, decoupled, t):
    """One step of Adam (Kingma and Ba, 2014, arXiv:1412.6980) or AdamW (Loshchilov and Hutter, 2017, arXiv:1711.05101).

        m = b1 * m + (1 - b1) * g;  v = b2 * v + (1 - b2) * g**2
        p = p - lr * (m / (1 - b1**t)) / (sqrt(v / (1 - b2**t)) + eps)

    Args:
        ps, gs, ms, vs: lists of parameters, gradients and the two running moments. ps, ms and vs are updated in place.
        wd: weight decay; added to the gradient as wd * p, or, if `decoupled`, taken from p as lr * wd * p (AdamW).
        t: the number of this step, counted from 1.
    """
    rate, root = lr / (1 - b1**t), math.sqrt(1 - b2**t)
    decay, shrink = (0, 1 - lr * wd) if decoupled else (wd, 1)

    def step(p, m, v, g):
        d, s = scratch("step direction", p.shape, p.dtype), scratch("step term", p.shape, p.dtype)
        if decoupled and wd:
            p *= 1 - lr * wd
        elif wd:
            g = np.add(g, np.multiply(p, wd, out=d), out=d)
        m *= b1
        m += np.multiply(g, 1 - b1, out=s)
        np.multiply(g, g, out=s)
        s *= 1 - b2
        v *= b2
        v += s
        np.sqrt(v, out=d)  # p -= rate * m / (sqrt(v) / root + eps)
        d /= root
        d += eps
        np.divide(m, d, out=d)
        d *= rate
        p -= d

    _update("adam_step", [ps, ms, vs], gs, step, rate, b1, 1 - b1, b2, 1 - b2, root, eps, decay, shrink)


def ema_step(averages, ps, decay):
    """average + (1 - decay) (p - average) in place, of lists of float32 arrays; infinity stays."""
    _update("ema_step", [averages], ps, None, 1 - decay)


def _update(name, written, read, step, *settings):
    """A kernel, or `step` on blocks, for each row of lists of arrays, of which one may be empty.

    Those in C order wait until one call of Python can take them all: for small ones it is the call that costs.
    """
    together, rows = [], [*zip(*[arrays or [None] * len(read) for arrays in written], read)]
    all_native = kernel(name, *itertools.chain(*rows))
    for row in rows:
        native = all_native or kernel(name, *row)
        if native and (places := _addresses(row)):
            together += *places, row[0].size
            continue

        def one(*flat):
            flat = iter(flat)
            native(*[a if a is None else next(flat) for a in row], row[0].size, *settings)

        changed, rest = [a for a in row[:-1] if a is not None], [row[-1]]
        for_all(one, changed, rest) if native else for_blocks(step, changed, rest)
    if together:
        kernel(f"{name}s")(np.array(together), len(together) // (len(row) + 1), *settings)


def _addresses(arrays, address=ctypes.addressof, view=ctypes.c_char.from_buffer):  # found faster than globals
    """Where their numbers lie, 0 for None; None if one is read-only or not in C order."""
    try:
        return [0 if a is None else address(view(a)) for a in arrays]
    except (TypeError, ValueError):
        return None


def for_blocks(fn, written, read, nbytes=None):
    """Call `fn(*written, *read)` on matching flat blocks of equally shaped arrays, on all threads. `nbytes`: of a block.

    Arrays with the dense memory order of the first one are cut without copies, whatever their strides; the others go
    through a copy.
    """
    step = max(1, (nbytes or BLOCK_BYTES) // written[0].itemsize)
    for_all(lambda *flat: parallel_for(lambda i: fn(*(a[i:i + step] for a in flat)), range(0, len(flat[0]), step)),
            written, read)


def for_all(fn, written, read):
    """Like `for_blocks` with one block: `fn` is a kernel that has threads of its own.

    ValueError if an array that is to be written is read-only, as a memory map or a buffer may be.
    """
    if not all([a.flags.writeable for a in written]):
        raise ValueError(f"the destination is read-only: an array of shape {written[0].shape} cannot be changed in place; "
                         "copy it")
    arrays = [*written, *read]
    if all([a.flags.c_contiguous for a in arrays]):  # most are, and small ones should not wait for more
        fn(*[a.reshape(-1) for a in arrays])
        return
    order, _ = memory_order(written[0].strides)
    ordered = [a.transpose(order) for a in arrays]
    flat = [(a if a.flags.c_contiguous else _copied(a)).reshape(-1) for a in ordered]
    fn(*flat)
    for a, result in zip(ordered, flat[:len(written)]):
        if not a.flags.c_contiguous:
            a[...] = result.reshape(a.shape)


def _copied(x):
    """The numbers side by side, in reused memory."""
    y = empty(x.shape, x.dtype)
    y[...] = x
    return y


def empty_like(x, dtype=None):
    """An uninitialised array with the shape, type (or that which is given) and memory order of `x`."""
    order, back = memory_order(x.strides)
    return empty([x.shape[i] for i in order], dtype or x.dtype).transpose(back)


def is_dense(x):
    """Whether the numbers lie side by side, in the order of any of the axes."""
    return x.transpose(memory_order(x.strides)[0]).flags.c_contiguous


@functools.lru_cache(maxsize=4096)
def memory_order(strides):
    """The axes of an array with these strides, slowest first; and for each axis its place in that order."""
    order = sorted(range(len(strides)), key=lambda i: -abs(strides[i]))
    return order, sorted(range(len(order)), key=order.__getitem__)
