"""Whole training steps as CUDA graphs: captured once, then replayed by one call, without Python between the kernels.

    step = minigrad.capture(step)
    for x, labels in batches:
        optimizer.lr = schedule(optimizer.steps)
        loss = step(x, labels)
"""
import contextlib

import numpy as np

from . import backend, tree
from .backend import execution, random, xp
from .backend.cuda import cublas
from .tensor import Tensor, asarray, wrap

SLOTS = 4096  # numbers that a captured step may read anew at each replay: learning rates, step counts, seeds


def capture(step, device=None):
    """`step` as a function that captures itself into a CUDA graph and then replays that. On the CPU it just runs.

    The first call runs the step as usual, which compiles its kernels; the second one captures and replays; each call is
    one step. A replay repeats the launches of the captured call, with the arguments of its own call and with what the
    optimisers' `lr` and step counts, the decay of an `EMA` and the random numbers for dropout are by then. Of Python nothing
    else runs again. So, inside the step,

    - parameters and other state change in place only (optimisers, EMA and batch norm do so), and gradients are forgotten,
      by `zero_grad()`, before they are computed;
    - nothing is read on the host (`item()`, `float()`, `numpy()`, `if` on a Tensor) or copied from it;
    - learning rates are not set (set `optimizer.lr` between the calls).

    Args:
        step: a function of arrays, Tensors and other things, in trees; it returns a tree.
        device: "cpu" or "cuda", where the step runs; None: where the first array among the arguments of the first call is.

    Returns:
        A function of the same arguments. Its arrays may also be NumPy's if `device` is given; the others must be those of
        the first call. Tensors and arrays in the results are copies, without a graph.

    Raises:
        ValueError: an unknown device; when called, the arguments are other than in the first call: another tree, shape, dtype
            or number.
        RuntimeError: the step does what cannot be captured.
    """
    if device not in (None, "cpu", "cuda"):
        raise ValueError(f"capture: the device is 'cpu' or 'cuda', not {device!r}; set the current one by cupy.cuda.Device")
    return Captured(step, device)


class Captured:
    """What `capture` returns."""

    tracing = False

    def __init__(self, step, device=None):
        self.step, self.device = step, device
        self.buffers = self.graph = None  # the leaves of the step's arguments; the cupy.cuda.Graph

    def __call__(self, *args, **settings):
        if self.buffers is None:
            leaves, self.rebuild = tree.flatten((args, settings))
            if not self._on_gpu(leaves):
                return self.step(*args, **settings)
            self._prepare(leaves)
            return self._copied(self._run())
        self._fill(tree.matched((args, settings), self.rebuild(self.buffers), "capture"))
        if self.graph is None:
            self._trace()
        for function, number in self.slots:
            number[...] = function()
        self.on_device[...] = self.cupy.asarray(self.on_host)
        self.graph.launch()
        return self._copied(self.results)

    def _on_gpu(self, leaves):
        if self.device is None:
            arrays = [asarray(x) for x in leaves if backend.is_array(asarray(x))]
            return bool(arrays) and backend.runs_cuda_kernels(arrays[0])
        return self.device == "cuda"

    # -- the numbers and arrays that change from replay to replay ------------------------------------------------------

    def slot(self, function, dtype, key=None):
        """An array (1,) on the device in which `function()` lies at each replay. The same key gets the same array."""
        if key is None or key not in self.keys:
            i = len(self.slots)
            if i == SLOTS:
                raise RuntimeError(f"a captured step reads more than {SLOTS} numbers that change")
            host, device = (numbers[i:i + 1].view(dtype)[:1] for numbers in (self.on_host, self.on_device))
            self.slots.append((function, host))
            self.keys[key] = device
        return self.keys[key]

    def _prepare(self, leaves):
        self.cupy = cp = backend.cupy()
        self.stream, self.pool = cp.cuda.Stream(non_blocking=True), cp.cuda.MemoryPool()
        self.blas = cublas.opened(cp, self.stream)
        self.on_host, self.on_device = np.zeros(SLOTS, np.uint64), cp.zeros(SLOTS, np.uint64)
        self.slots, self.keys = [], {}
        self.buffers = [cp.array(asarray(x)) if backend.is_array(asarray(x)) else x for x in leaves]
        self.tensors = [isinstance(x, Tensor) for x in leaves]

    def _fill(self, leaves):
        """The arguments of this call go to the buffers from which the step reads."""
        for x, buffer in zip(map(asarray, leaves), self.buffers):
            if not backend.is_array(buffer):
                if backend.is_array(x) or x != buffer:
                    raise ValueError(f"captured with {buffer!r}, called with {x!r}: what changes must be an array")
            elif not backend.is_array(x) or (x.shape, x.dtype) != (buffer.shape, buffer.dtype):
                what = f"{x.dtype}{list(x.shape)}" if backend.is_array(x) else repr(x)
                raise ValueError(f"captured with {buffer.dtype}{list(buffer.shape)}, called with {what}: capture "
                                 "another step for it, or leave out a last batch that is not full")
            else:
                buffer[...] = self.cupy.asarray(x)

    # -- running the step ----------------------------------------------------------------------------------------------

    def _run(self):
        """Calls the step on the buffers, its memory from a pool of its own and its work on a stream of its own."""
        inputs = [Tensor(b) if is_tensor else b for b, is_tensor in zip(self.buffers, self.tensors)]
        args, settings = self.rebuild(inputs)
        self.cupy.cuda.Device().synchronize()
        with self.stream, self.cupy.cuda.using_allocator(self.pool.malloc), self._alone():
            results = self.step(*args, **settings)
        self.stream.synchronize()
        return results

    def _trace(self):
        def traced(*args, **settings):
            self.stream.begin_capture()
            try:
                results = self._map(lambda x: x, step(*args, **settings))
            except BaseException:
                with contextlib.suppress(Exception):  # what went wrong matters more than that the capture is broken
                    self.stream.end_capture()
                raise
            self.graph = self.stream.end_capture()
            return results

        step, self.step, self.tracing = self.step, traced, True
        try:
            with random.preserved():  # the replay that follows draws the numbers
                self.results = self._run()
        except Exception as error:
            self.slots, self.keys = [], {}
            if isinstance(error, NotImplementedError) or type(error).__module__.startswith("cupy"):
                raise RuntimeError(f"the step does what cannot be captured: {error}") from error
            raise
        finally:
            self.step, self.tracing = step, False

    @contextlib.contextmanager
    def _alone(self):
        """What runs inside knows that it is captured, and copies from the host are errors: they would not be repeated."""
        def refuse(nbytes):
            raise RuntimeError(f"a captured step copies a NumPy array of {nbytes} bytes to the GPU: pass it as an argument, "
                               "or copy it before")

        with execution.capturing(self):
            self.cupy.cuda.set_pinned_memory_allocator(refuse)
            try:
                yield
            finally:
                self.cupy.cuda.set_pinned_memory_allocator(self.cupy.get_default_pinned_memory_pool().malloc)

    def _copied(self, results):
        return self._map(lambda array: array.copy(), results)

    @staticmethod
    def _map(function, results):
        """The function applied to the arrays in a tree, those in Tensors too, which lose their graphs."""
        def applied(x):
            if isinstance(x, Tensor):
                return wrap(function(x._array))
            return function(x) if backend.is_array(x) else x

        return tree.map(applied, results)
