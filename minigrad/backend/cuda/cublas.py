"""cuBLAS for captured steps: CuPy refuses to call it while a stream is captured, the library itself does not.

NVIDIA, cuBLAS Library, "CUDA Graphs Support": a handle may be used in a capture if its stream is the captured one and its
workspace is the caller's.
"""
import ctypes
import math
import os

WORKSPACE = 32 << 20  # bytes, what NVIDIA advises for its largest GPUs
# Of each dtype's character: cudaDataType, cublasComputeType, and the type of the factors. Sums of 16 bits have 32.
TYPES = {"e": (2, 68, ctypes.c_float), "E": (14, 68, ctypes.c_float), "f": (0, 68, ctypes.c_float),
         "d": (1, 70, ctypes.c_double)}
_DEFAULT_ALGORITHM = -1


def opened(cp, stream):
    """A `Blas` for products on this stream of `cp`, the module CuPy; None where the library is not to be had."""
    try:
        cp.cuda.device.get_cublas_handle()  # CuPy finds the library and loads it
        workspace = cp.cuda.alloc(WORKSPACE)
    except (ImportError, MemoryError, RuntimeError):
        return None
    for version in (13, 12, 11):
        try:
            library = ctypes.CDLL(f"libcublas.so.{version}", mode=os.RTLD_NOW | os.RTLD_NOLOAD)
            return Blas(library, stream.ptr, workspace, workspace.ptr)
        except (AttributeError, OSError, RuntimeError):  # another system or version, or no handle to be had
            continue
    return None


class Blas:
    """A handle of its own, on one stream and with memory of its own, until `close()`.

    Args:
        library: libcublas as a `ctypes.CDLL`.
        stream: the stream's address.
        workspace, address: WORKSPACE bytes on the GPU, kept alive here, and where they begin.
    """

    def __init__(self, library, stream, workspace, address):
        self.library, self.workspace, self.handle = library, workspace, ctypes.c_void_p()
        self._do("cublasCreate_v2", ctypes.byref(self.handle))
        try:
            self._do("cublasSetStream_v2", self.handle, ctypes.c_void_p(stream))
            self._do("cublasSetWorkspace_v2", self.handle, ctypes.c_void_p(address), ctypes.c_size_t(WORKSPACE))
        except RuntimeError:
            self.close()
            raise

    def close(self):
        """Destroys the handle, which waits for the GPU: not to be done while any stream is captured."""
        self.library.cublasDestroy_v2(self.handle)
        self.workspace = None

    def _do(self, name, *arguments):
        status = getattr(self.library, name)(*arguments)
        if status:
            raise RuntimeError(f"{name} failed with status {status}")

    def multiply(self, x, x_strides, y, y_strides, k, c):
        """c = x y for a batch of matrices; c is (..., m, n) in C order.

        Args:
            x, y: C-contiguous arrays of floats with the matrices, (batch, m, k) and (batch, k, n) but for the strides.
            x_strides, y_strides: from matrix to matrix (0 repeats one), along rows and along columns, one of these 1.
        """
        *batch, m, n = c.shape
        if not c.size or not k:
            c.fill(0)
            return
        kind, compute, number = TYPES[c.dtype.char]
        one, zero = number(1), number(0)
        # cuBLAS sees columns where we see rows, that is all matrices transposed: c^T = y^T x^T.
        (y_transposed, *y), (x_transposed, *x) = _operand(y, y_strides, n, kind), _operand(x, x_strides, k, kind)
        self._do("cublasGemmStridedBatchedEx", self.handle, y_transposed, x_transposed, n, m, k, ctypes.byref(one), *y, *x,
                 ctypes.byref(zero), ctypes.c_void_p(c.data.ptr), kind, n, ctypes.c_longlong(m * n), math.prod(batch), compute,
                 _DEFAULT_ALGORITHM)


def _operand(a, strides, columns, kind):
    """Whether the matrices are transposed in memory, and their address, type, distance of lines and of matrices."""
    single, row, column = strides
    transposed = column != 1
    leading = column if transposed else max(row, columns)
    return int(transposed), ctypes.c_void_p(a.data.ptr), kind, leading, ctypes.c_longlong(single)
