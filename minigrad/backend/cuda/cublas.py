"""Products of matrices by cuBLAS: in one call for a batch, for a matrix that is repeated and for transposed ones.

CuPy refuses to call cuBLAS while a stream is captured, the library itself does not: captured steps have a handle of their own.
NVIDIA, cuBLAS Library, "CUDA Graphs Support": a handle may be used in a capture if its stream is the captured one and its
workspace is the caller's.
"""
import ctypes
import functools
import math
import os

WORKSPACE = 32 << 20  # bytes, what NVIDIA advises for its largest GPUs
_FACTORS = [(number(1), number(0)) for number in (ctypes.c_float, ctypes.c_double)]
_FLOATS, _DOUBLES = (tuple(map(ctypes.addressof, pair)) for pair in _FACTORS)
# Of each dtype's character: cudaDataType, cublasComputeType, and where 1 and 0 lie. Sums of 16 bits have 32.
TYPES = {"e": (2, 68, *_FLOATS), "E": (14, 68, *_FLOATS), "f": (0, 68, *_FLOATS), "d": (1, 70, *_DOUBLES)}
_DEFAULT_ALGORITHM = -1
_GEMM = "piiiiippiiqpiiqppiiqiii"  # the types of cublasGemmStridedBatchedEx's arguments
_C_TYPES = {"p": ctypes.c_void_p, "i": ctypes.c_int, "q": ctypes.c_longlong}


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
        library.cublasGemmStridedBatchedEx.argtypes = [_C_TYPES[kind] for kind in _GEMM]
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

    def multiply(self, *problem):
        """`multiply` on this handle.

        Raises:
            OverflowError: there are 2**31 rows, columns or matrices, of which ctypes would take the lower bits.
        """
        *_, k, c = problem
        if max(math.prod(c.shape[:-2]), *c.shape[-2:], k) >> 31:
            raise OverflowError(f"cuBLAS: a product of shape {c.shape} over {k} is too large for numbers of 32 bits")
        multiply(functools.partial(self._do, "cublasGemmStridedBatchedEx"), self.handle, *problem)


@functools.cache
def of_cupy(cp):
    """A function as `Blas.multiply` on CuPy's own handle, device and stream; None where `cp` finds no cuBLAS."""
    try:
        cp.cuda.device.get_cublas_handle()
    except (ImportError, RuntimeError):
        return None
    return lambda *problem: multiply(cp.cuda.cublas.gemmStridedBatchedEx, cp.cuda.device.get_cublas_handle(), *problem)


def multiply(gemm, handle, x, x_strides, y, y_strides, k, c):
    """c = x y for a batch of matrices; c is (..., m, n) in C order.

    Args:
        gemm: cublasGemmStridedBatchedEx, which takes addresses as numbers.
        x, y: C-contiguous arrays of floats with the matrices, (batch, m, k) and (batch, k, n) but for the strides.
        x_strides, y_strides: from matrix to matrix (0 repeats one), along rows and along columns, one of these 1.
    """
    *batch, m, n = c.shape
    if not c.size or not k:
        c.fill(0)
        return
    kind, compute, one, zero = TYPES[c.dtype.char]
    # cuBLAS sees columns where we see rows, that is all matrices transposed: c^T = y^T x^T.
    (y_transposed, y_line), (x_transposed, x_line) = _lines(y_strides, n), _lines(x_strides, k)
    gemm(handle, y_transposed, x_transposed, n, m, k, one, y.data.ptr, kind, y_line, y_strides[0], x.data.ptr, kind, x_line,
         x_strides[0], zero, c.data.ptr, kind, n, m * n, math.prod(batch), compute, _DEFAULT_ALGORITHM)


def _lines(strides, columns):
    """Whether the matrices are transposed in memory, and the distance of lines."""
    _, row, column = strides
    return (1, column) if column != 1 else (0, max(row, columns))
