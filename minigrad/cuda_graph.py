"""Whole training steps as CUDA graphs: captured once, then replayed by one call, without Python between the kernels.

    step = minigrad.capture(step)
    for x, labels in batches:
        optimizer.lr = schedule(optimizer.steps)
        loss = step(x, labels)
"""
import collections
import contextlib
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from . import backend, tree
from .backend import execution, random
from .backend.cuda import cublas
from .tensor import Tensor, asarray, wrap

SLOTS = 4096  # numbers that a captured step may read anew at each replay: learning rates, step counts, seeds


def capture(step: Callable, device: str | None = None) -> "Captured":
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
        the first call. Tensors and arrays in the results are copies, without a graph. It stays on the GPU that is current in
        the first call.

    Raises:
        ValueError: an unknown device; when called on a GPU, the arguments are other than in the first call: another tree,
            shape, dtype or number.
        RuntimeError: the step reads on the host, or (NotCapturable) does something else that cannot be captured.
        MemoryError: the GPU's memory does not suffice for the capture.
    """
    if device not in (None, "cpu", "cuda"):
        raise ValueError(f"capture: the device is 'cpu' or 'cuda', not {device!r}; set the current one by cupy.cuda.Device")
    return Captured(step, device)


class NotCapturable(RuntimeError):
    """A step that ran cannot be recorded. The call that raises this has changed nothing but gradients."""


class Captured:
    """What `capture` returns."""

    tracing = warm = False  # is the step being traced; has it run once

    def __init__(self, step: Callable, device: str | None = None):
        self.step, self.device = step, device
        self.gpu = None  # what is on the GPU, from the first call there on

    def __call__(self, *args: Any, **settings: Any) -> Any:
        if self.gpu is None:
            leaves, self.rebuild = tree.flatten((args, settings))
            if not self._on_gpu(leaves):
                return self.step(*args, **settings)
        with execution.capturing(self):
            if self.gpu is None:
                self._prepare(leaves)
            with self.gpu.device:
                self._fill(tree.matched((args, settings), self.rebuild(self.gpu.buffers), "capture"))
                if self.warm:
                    return self._replayed()
                results = self._run(self.step)
                self.warm = True
                return self._copied(results)

    def _replayed(self):
        if self.gpu.graph is None:
            self._trace()
        for function, number in self.slots:
            number[...] = function()
        self.gpu.numbers[...] = self.gpu.cupy.asarray(self.numbers)
        self.gpu.graph.launch()
        return self._copied(self.gpu.results)

    @property
    def blas(self):
        """The `backend.cuda.cublas.Blas` for products inside the step; None where there is no cuBLAS."""
        return self.gpu.blas

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
            host, device = (numbers[i:i + 1].view(dtype)[:1] for numbers in (self.numbers, self.gpu.numbers))
            self.slots.append((function, host))
            self.keys[key] = device
        return self.keys[key]

    def _prepare(self, leaves):
        _release()
        with _exclusive:
            self.gpu = _OnGpu(backend.cupy(), [asarray(x) if backend.is_array(asarray(x)) else x for x in leaves])
        weakref.finalize(self, _discard, self.gpu).atexit = False  # the GPU may be gone by then
        self.numbers, self.slots, self.keys = np.zeros(SLOTS, np.uint64), [], {}
        self.tensors = [isinstance(x, Tensor) for x in leaves]

    def _fill(self, leaves):
        """The arguments of this call go to the buffers from which the step reads."""
        for x, buffer in zip(map(asarray, leaves), self.gpu.buffers):
            if not backend.is_array(buffer):
                if backend.is_array(x) or x != buffer:
                    raise ValueError(f"captured with {buffer!r}, called with {x!r}: what changes must be an array")
            elif not backend.is_array(x) or (x.shape, x.dtype) != (buffer.shape, buffer.dtype):
                given = f"{x.dtype}{list(x.shape)}" if backend.is_array(x) else repr(x)
                raise ValueError(f"captured with {buffer.dtype}{list(buffer.shape)}, called with {given}: capture "
                                 "another step for it, or leave out a last batch that is not full")
            else:
                buffer[...] = self.gpu.cupy.asarray(x)

    # -- running the step ----------------------------------------------------------------------------------------------

    def _run(self, step):
        """Calls the step on the buffers, its memory from a pool of its own and its work on a stream of its own."""
        gpu = self.gpu
        args, settings = self.rebuild([Tensor(b) if is_tensor else b for b, is_tensor in zip(gpu.buffers, self.tensors)])
        gpu.cupy.cuda.get_current_stream().synchronize()  # of the device it would break other threads' captures
        with gpu.stream, gpu.cupy.cuda.using_allocator(gpu.pool.malloc):
            results = step(*args, **settings)
        gpu.stream.synchronize()
        return results

    def _trace(self):
        def traced(*args, **settings):
            self.gpu.stream.begin_capture()
            try:
                results = self._map(lambda x: x, self.step(*args, **settings))
            except BaseException:
                with contextlib.suppress(Exception):  # what went wrong matters more than that the capture is broken
                    self.gpu.stream.end_capture()
                raise
            self.gpu.graph = self.gpu.stream.end_capture()
            return results

        with _exclusive:
            self.tracing = True
            try:
                with random.preserved():  # the replay that follows draws the numbers
                    self.gpu.results = self._run(traced)
            except Exception as error:
                self.slots, self.keys = [], {}
                of_cupy = type(error).__module__.startswith("cupy") or "stream is capturing" in str(error)
                if isinstance(error, NotImplementedError) or of_cupy:
                    raise NotCapturable(f"the step does what cannot be captured: {error} (arrays of the host are arguments of "
                                        "the step, or copied to the GPU before)") from error
                raise
            finally:
                self.tracing = False
        _release()

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


# -- memory --------------------------------------------------------------------------------------------------------------


class _OnGpu:
    """What a captured step has on the current GPU of `cp`, the module CuPy.

    Attributes:
        buffers: the leaves of the step's arguments, arrays copied.
        results: what the step returned when it was traced; each replay writes there anew.
        numbers: (SLOTS,), what `Captured.slot` deals out.
        pool: of the memory that the graph reads and writes. Its blocks seem free where the step has dropped an array, so
            nothing else may use it.
    """

    def __init__(self, cp, leaves):
        self.cupy, self.device = cp, cp.cuda.Device()
        self.stream, self.pool = cp.cuda.Stream(non_blocking=True), cp.cuda.MemoryPool(_malloc)
        self.buffers = [cp.array(x) if backend.is_array(x) else x for x in leaves]
        self.numbers, self.graph, self.results = cp.zeros(SLOTS, np.uint64), None, None
        self.blas = cublas.opened(cp, self.stream)  # last: if there is an error before, no handle is lost

    def close(self):
        """Gives back what nobody uses any more; whether that is all. Gradients, for example, may outlive the step."""
        with self.device:
            if self.blas is not None:
                self.device.synchronize()
                self.blas.close()
            self.blas = self.graph = self.results = self.buffers = self.numbers = None
            self.pool.free_all_blocks()  # which alone lets go of them: CuPy's pools are parts of cycles
            return self.pool.used_bytes() == 0


def _malloc(size):
    """A block for the pool of a captured step.

    Raises:
        MemoryError: there is none, and the step is being traced. In its own error CuPy would free the pool's blocks that seem
            free and try again, and the graph would keep their addresses.
    """
    cp = backend.cupy()
    try:
        return cp.cuda.MemoryPointer(cp.cuda.Memory(size), 0)
    except cp.cuda.runtime.CUDARuntimeError as error:
        if execution.tracing:
            raise MemoryError(f"the GPU has no {size} bytes left for the capture of a step: {error}") from error
        cp.get_default_memory_pool().free_all_blocks()
        return cp.cuda.MemoryPointer(cp.cuda.Memory(size), 0)


_discarded = collections.deque()  # the _OnGpu of steps that are gone
_exclusive = threading.Lock()  # held while a step is traced, and while handles are made or destroyed


def _discard(gpu):
    _discarded.append(gpu)
    _release()


def _release():
    """Closes what discarded steps had on the GPU, unless a step is being traced: to destroy a cuBLAS handle is to wait for
    the GPU, which breaks a capture, that of another thread too."""
    if _exclusive.acquire(blocking=False):
        try:
            for _ in range(len(_discarded)):
                gpu = _discarded.popleft()
                if not gpu.close():
                    _discarded.append(gpu)
        finally:
            _exclusive.release()
