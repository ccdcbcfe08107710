"""How operations execute now: for a captured step or at once, and on which device the CUDA kernels run.

Both are set by the context managers below and by nothing else; everybody else asks `minigrad.backend.execution`.
"""
import contextlib
import threading


class _OfThread(threading.local):
    capture = None


class Execution:
    """The captured step is that of a thread: other threads' operations stay outside of it. The device is the process's.

    Attributes:
        device: what `using` has put in the place of the GPU, None most of the time (see `backend.cuda.launch`).
        kernels_take_numpy: whether that device's kernels work on NumPy arrays; then the CUDA paths serve them.
    """

    def __init__(self):
        self.device, self.kernels_take_numpy = None, False
        self._of_thread = _OfThread()

    @property
    def capture(self):
        """The `minigrad.cuda_graph.Captured` whose step this thread runs now, to be warmed up or traced; else None."""
        return self._of_thread.capture

    @property
    def tracing(self):
        """Whether this thread's operations are not executed but recorded, to be replayed."""
        return self.capture is not None and self.capture.tracing

    def per_replay(self, function, dtype):
        """`function()`, a number; while tracing, an array (1,) on the device in which `function()` lies at each replay.

        For what changes from step to step, such as a learning rate.
        """
        return self.capture.slot(function, dtype) if self.tracing else function()

    @contextlib.contextmanager
    def capturing(self, captured):
        """What this thread runs inside belongs to the step of `captured`.

        Raises:
            RuntimeError: it belongs to another one already.
        """
        if self.capture is not None:
            raise RuntimeError("a captured step is called inside another one")
        self._of_thread.capture = captured
        try:
            yield
        finally:
            self._of_thread.capture = None

    @contextlib.contextmanager
    def using(self, device):
        """CUDA kernels launched inside run on `device`, and results are allocated there; all threads' kernels do.

        Args:
            device: has `empty(shape, dtype)` and `run(...)` as `backend.cuda.launch.Gpu`, and `takes_numpy`: if that is
                true, operations with a CUDA path take it for NumPy arrays.
        """
        before = self.device, self.kernels_take_numpy
        self.device, self.kernels_take_numpy = device, device.takes_numpy
        try:
            yield
        finally:
            self.device, self.kernels_take_numpy = before


execution = Execution()
