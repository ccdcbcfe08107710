"""Looking inside: where a NaN came from, what the graph looks like, what a model holds, where the time goes."""
import contextlib
import time
from collections import defaultdict

import numpy as np

from .backend import is_array, is_float, xp
from .recording import observing
from .tensor import Node, Tensor, asarray


def _finite(x):
    array = asarray(x)
    return not is_array(array) or not is_float(array.dtype) or bool(xp(array).isfinite(array).all())


@contextlib.contextmanager
def detect_anomaly():
    """Inside, the first NaN or infinity that an operation or its gradient makes out of finite numbers is an error.

    Slow: every array is checked. The graph must be recorded inside too.

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
        if rules:
            return out
        results = out if isinstance(out, (list, tuple)) else [out]
        inputs = [x for x in inputs if type(x) is not Node]
        if not all(_finite(x) for x in results) and (phase == "backward" or all(_finite(x) for x in inputs)):
            kind = "result" if phase == "forward" else "gradient"
            raise FloatingPointError(f"the {kind} of '{op.name}' called at {where} is the first that is not finite")
        return out

    with observing(observer):
        yield


class Profile:
    """What `profile()` measured: `rows`, a dict from (phase, operation) to [calls, seconds, bytes]."""

    def __init__(self):
        self.rows = defaultdict(lambda: [0, 0.0, 0])
        self._inner = [0.0]  # seconds in operations called by the one that runs, by depth

    def __call__(self, phase, op, inputs, run, where):
        self._inner.append(0.0)
        start = time.perf_counter()
        out = run()
        arrays = [asarray(x) for x in (out if isinstance(out, (list, tuple)) else [out])]
        arrays = [x for x in arrays if is_array(x)]
        if any(xp(x) is not np for x in arrays):  # kernels run on after their launch
            xp(next(x for x in arrays if xp(x) is not np)).cuda.get_current_stream().synchronize()
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
def profile():
    """Measures time and bytes made by each operation inside: `with profile() as p: ...`, then `print(p)`.

    A row of phase "backward" is the gradient rule of that operation, with the operations that the rule calls included;
    those count in rows of phase "forward" as well.
    """
    with observing(Profile()) as result:
        yield result


def summary(model):
    """A table of a model's parameters and buffers: name, shape, dtype, number of elements, and the totals."""
    rows = [(name, p, "" if p.requires_grad else "frozen") for name, p in model.named_parameters()]
    rows += [(name, b, "buffer") for name, b in model.named_buffers()]
    width = max([len(name) for name, _, _ in rows], default=0) + 2
    lines = [f"{type(model).__name__}"]
    lines += [f"  {name:<{width}}{str(tuple(x.shape)):<20}{str(x.dtype):<10}{x.size:>12,} {kind}".rstrip() for name, x, kind in rows]
    trained = sum(x.size for _, x, kind in rows if not kind)
    total = sum(x.size for _, x, kind in rows if isinstance(x, Tensor))
    return "\n".join([*lines, f"  {total:,} parameters, {trained:,} of them trained"])
