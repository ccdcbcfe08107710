"""Looking inside: where a NaN came from, where the time goes, what a model holds. Pictures are in graph_picture.py."""
import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

from .backend import is_array, is_float, xp
from .recording import observing, state
from .tensor import asarray


@contextlib.contextmanager
def detect_anomaly() -> Iterator[None]:
    """Inside, the first NaN or infinity that an operation or its gradient makes out of finite numbers is an error.

    Slow: every array is checked. Record the graph inside too, so that the error of a gradient can name the line. A context
    manager, and a decorator as `@detect_anomaly()`.

    Raises:
        FloatingPointError: it names the operation and the line of the forward pass that called it.
    """
    rules = 0  # that run now: their operations are judged by what the rule returns, and named by its forward line

    def observer(phase, op, inputs, run, where):
        nonlocal rules
        rules += phase == "backward"
        try:
            with np.errstate(all="ignore"):
                out = run()
        finally:
            rules -= phase == "backward"
        if not rules and not all(map(_finite, _arrays(out))) and (phase == "backward" or all(map(_finite, _arrays(inputs)))):
            kind = "result" if phase == "forward" else "gradient"
            line = f"called at {where}" if where else "(recorded outside detect_anomaly, so that its line is not known)"
            raise FloatingPointError(f"the {kind} of '{op.name}' {line} is the first that is not finite")
        return out

    with observing(observer):
        yield


def _arrays(values):
    """The arrays among the result of an operation or rule, or among its inputs."""
    values = values if isinstance(values, (list, tuple)) else [values]
    if values and isinstance(values[0], tuple):  # the outputs of a path, beside its residuals
        values = [*values[0], *values[1:]]
    arrays = map(asarray, values)
    return [x for x in arrays if is_array(x) or isinstance(x, np.generic)]  # NumPy turns 0-d results into scalars


def _finite(array):
    return not is_float(array.dtype) or bool(xp(array).isfinite(array).all())


class Profile:
    """What `profile()` measured; its text is a table, the slowest operation first.

    Attributes:
        rows: a dict from (phase, operation), phase being "forward" or "backward", to [calls, seconds, bytes made].
    """

    def __init__(self):
        self.rows = defaultdict(lambda: [0, 0.0, 0])
        self._inner = [0.0]  # seconds in operations called by the one that runs, by depth

    def __call__(self, phase, op, inputs, run, where):
        self._inner.append(0.0)
        start = time.perf_counter()
        try:
            out = run()
            arrays = _arrays(out)
            for array in arrays:
                if xp(array) is not np:  # kernels run on after their launch
                    xp(array).cuda.get_current_stream().synchronize()
                    break
        finally:
            seconds = time.perf_counter() - start
            inner = self._inner.pop()
            self._inner[-1] += seconds
        row = self.rows[phase, op.name]
        row[0] += 1
        row[1] += seconds if phase == "backward" else seconds - inner
        row[2] += sum(x.nbytes for x in arrays)
        return out

    def __str__(self):
        lines = [f"{'phase':<10}{'operation':<22}{'calls':>8}{'ms':>12}{'MB made':>12}"]
        for (phase, name), (calls, seconds, size) in sorted(self.rows.items(), key=lambda item: -item[1][1]):
            lines.append(f"{phase:<10}{name:<22}{calls:>8}{1e3 * seconds:>12.3f}{size / 1e6:>12.2f}")
        return "\n".join(lines)


@contextlib.contextmanager
def profile() -> Iterator[Profile]:
    """Measures time and bytes made by each operation inside: `with profile() as p: ...`, then `print(p)`.

    A row of phase "backward" is the gradient rule of that operation, with the operations that the rule calls included;
    those count in rows of phase "forward" as well. A call that raises is not counted. Profiles may be nested; each measures
    what happens inside it. Per thread.
    """
    with observing(Profile()) as result:
        yield result


@contextlib.contextmanager
def activations(model: Any) -> Iterator[dict[str, Any]]:
    """Inside, what each Module of a model returned when it was last called, under its name; what the model returned under "".

        with mg.activations(net) as found:
            scores = net(images)
        maps = found["layer4"]                                   # (N, C, H, W)
        slopes = mg.grad(scores[:, k].sum(), maps)               # where class k is seen (Grad-CAM, arXiv:1610.02391):
        where = mg.relu((slopes.mean((2, 3), keepdims=True) * maps).sum(1))

    They are Tensors of the graph, in the order in which the calls ended. A part whose work another does with its own, as in
    evaluation mode a convolution that takes a batch norm with it, is not called and so is not there. Per thread.

    Raises:
        TypeError: `model` is no Module.
    """
    if not hasattr(model, "named_modules"):
        raise TypeError(f"activations: expected a Module, not {type(model).__name__}")
    names, found, outer = {id(module): name for name, module in model.named_modules()}, {}, state.called

    def note(module, out):
        if id(module) in names:
            found[names[id(module)]] = out
        if outer is not None:
            outer(module, out)

    state.called = note
    try:
        yield found
    finally:
        state.called = outer


def summary(model: Any) -> str:
    """A table of a Module's parameters and buffers: name, shape, dtype, number of elements, and the totals.

    A parameter or buffer that stands in several places is counted once, under the first of its names. Parameters that require
    no gradient are marked as frozen; buffers are not among the totals.

    Raises:
        TypeError: `model` is no Module.
    """
    if not hasattr(model, "named_parameters"):
        raise TypeError(f"summary: expected a Module, not {type(model).__name__}")
    parameters = list(model.named_parameters())
    buffers = {}
    for name, array in model.named_buffers():
        buffers.setdefault(id(array), (name, array, "buffer"))
    rows = [(name, p, "" if p.requires_grad else "frozen") for name, p in parameters]
    rows += buffers.values()
    table = [(name, str(tuple(x.shape)), str(x.dtype), f"{x.size:,}", kind) for name, x, kind in rows]
    widths = [max(map(len, column)) for column in zip(*table)]
    lines = [type(model).__name__]
    for name, shape, dtype, size, kind in table:
        lines.append(f"  {name:<{widths[0]}}  {shape:<{widths[1]}}  {dtype:<{widths[2]}}  {size:>{widths[3]}}  {kind}".rstrip())
    total, trained = sum(p.size for _, p in parameters), sum(p.size for _, p in parameters if p.requires_grad)
    return "\n".join([*lines, f"  {total:,} parameters, {trained:,} of them trained"])
