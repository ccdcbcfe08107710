"""A `cupy` that needs no GPU: its arrays lie in NumPy's memory, and its rules are CuPy's.

What passes here does not mix host and device: arrays are CuPy's or NumPy's, a NumPy array beside a CuPy array is an error
as there, and so is what NumPy knows and CuPy does not (functions, keywords, numbers of 16 bits in some places). Kernels run
behind the stand-in. There are two devices. On a stream that captures nothing is computed: results hold garbage until the
graph is launched, which does everything anew in the same memory. `installed()` puts it in the place of CuPy.
"""
import contextlib
import gc
import math
import numbers
import operator
import sys
import threading
import types
import weakref

import numpy as np
import standin
from minigrad import backend
from minigrad.backend import execution

# Functions of CuPy 13 and 14 that minigrad calls, and the names of their arguments.
FUNCTIONS = {
    "arange": "start stop step dtype", "argsort": "a axis kind", "ascontiguousarray": "a dtype", "broadcast_to": "array shape",
    "clip": "a a_min a_max", "concatenate": "arrays axis", "copyto": "dst src", "count_nonzero": "a axis",
    "einsum": "subscripts x y z optimize", "empty": "shape dtype", "empty_like": "a", "eye": "N M k dtype", "flip": "m axis",
    "full": "shape fill_value dtype", "full_like": "a fill_value dtype", "max": "a axis out keepdims",
    "min": "a axis out keepdims", "ones": "shape dtype",
    "ones_like": "a dtype", "pad": "array pad_width mode constant_values", "roll": "a shift axis",
    "searchsorted": "a v side", "shape": "a", "stack": "arrays axis",
    "tri": "N M k dtype", "where": "condition x y", "zeros": "shape dtype", "zeros_like": "a dtype"}
UFUNCS = "add maximum subtract multiply divide sqrt exp log isfinite isnan abs"
METHODS = """all any argmax argmin argsort astype clip copy cumsum flatten max mean min prod ravel repeat reshape
    squeeze std sum swapaxes take transpose var view"""
LINALG = "cholesky det eigh inv slogdet solve"


class CUDARuntimeError(RuntimeError):
    def __init__(self, status, text):
        super().__init__(text)
        self.status = status


CUDARuntimeError.__module__ = "cupy_backends.cuda.api.runtime"


class State(threading.local):
    """What is current on a thread, and the work that is captured: functions, or None."""

    device = 0
    allocator = graph = None


state = State()


def of_host(reason):
    """Called where the host waits for the GPU or copies to it, which cannot be captured."""
    if state.graph is not None:
        raise RuntimeError(f"the current stream is capturing, so transfers are disallowed ({reason})")


def computed(function, *inputs):
    """The arrays that `function()` computes from the inputs."""
    if state.graph is None:
        return given(function(), inputs)
    with np.errstate(all="ignore"):
        result = given(function(), inputs)
    arrays = result if isinstance(result, tuple) else (result,)
    if any(np.may_share_memory(array.held, x.held) for array in arrays for x in inputs if isinstance(x, ndarray)):
        return result  # a view
    for array in arrays:
        array.held[...] = {"b": True, "i": -1, "u": 1}.get(array.dtype.kind, math.nan)

    def again():
        anew = function()
        for array, value in zip(arrays, anew if isinstance(anew, tuple) else (anew,)):
            array.held[...] = value

    state.graph.append(again)
    return result


def changed(function):
    """Does what changes arrays in place."""
    if state.graph is None:
        function()
    else:
        state.graph.append(function)


class ndarray:
    """An array "on the GPU"."""

    __array_priority__ = 100
    __hash__ = None

    def __init__(self, array, base=None):
        self.held, self.base, self.device = array, base, Device() if base is None else base.device
        if base is None and state.allocator is not None:
            self.memory = state.allocator(array.nbytes)

    __cuda_array_interface__ = property(lambda self: {"of": self})

    for name in "shape dtype ndim size strides nbytes itemsize flags".split():
        locals()[name] = property(operator.attrgetter("held." + name))
    T = property(lambda self: self.transpose())

    @property
    def data(self):
        return types.SimpleNamespace(ptr=self.held.ctypes.data)

    def get(self):
        of_host("get")
        return self.held.copy()

    def item(self):
        return self.get().item()

    def tolist(self):
        return self.get().tolist()

    def __array__(self, *args, **settings):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **settings):
        if method != "__call__" or settings:
            raise TypeError(f"{ufunc.__name__}.{method} with {list(settings)} is not CuPy's")
        if not all(hasattr(x, "__cuda_array_interface__") or isinstance(x, (np.ndarray, np.generic, numbers.Number))
                   for x in inputs):
            return NotImplemented
        if ufunc is np.matmul:
            return matmul(*inputs)
        arrays = list(map(taken, inputs))
        if out is None:
            return computed(lambda: ufunc(*arrays), *inputs)
        changed(lambda: ufunc(*arrays, out=out[0].held))
        return out[0]

    def __array_function__(self, function, types, args, settings):
        return call(function.__name__, *args, **settings)

    def __getitem__(self, index):
        index = picked(index)
        return computed(lambda: self.held[index], self)

    def __setitem__(self, index, value):
        index, value = picked(index), taken(value)
        changed(lambda: operator.setitem(self.held, index, value))

    def fill(self, value):
        changed(lambda: self.held.fill(value))

    def __len__(self):
        return len(self.held)

    def __bool__(self):
        return bool(self.get())

    def __int__(self):
        return int(self.get())

    def __float__(self):
        return float(self.get())

    def __index__(self):
        return operator.index(self.get())

    def __repr__(self):
        return f"nogpu.{self.held!r}"


def taken(x):
    """What CuPy's functions take: its arrays, numbers, and lists of arrays; no NumPy arrays."""
    if isinstance(x, np.ndarray):
        raise TypeError(f"Unsupported type {np.ndarray}")
    if isinstance(x, (list, tuple)):
        return type(x)(map(taken, x)) if type(x) in (list, tuple) else x
    return x.__cuda_array_interface__["of"].held if hasattr(x, "__cuda_array_interface__") else x


def picked(index):
    """An index, in which NumPy arrays may stand."""
    if isinstance(index, tuple):
        return tuple(map(picked, index))
    if isinstance(index, (np.ndarray, list)):
        of_host("an index")
    return index.held if isinstance(index, ndarray) else index


def given(result, inputs=()):
    """Results are arrays, those of no axis too; a view knows its owner, one of the inputs."""
    if isinstance(result, tuple):
        return tuple(given(r, inputs) for r in result)
    if not isinstance(result, (np.ndarray, np.generic)):
        return result
    result = np.asarray(result)
    owners = [x for x in inputs if isinstance(x, ndarray) and np.may_share_memory(result, x.held)]
    return ndarray(result, None if not owners else owners[0] if owners[0].base is None else owners[0].base)


def call(name, *args, **settings):
    """A function of the module, with the arguments that CuPy's has."""
    unknown = set(settings) - set(FUNCTIONS[name].split())
    if unknown or len(args) > len(FUNCTIONS[name].split()):
        raise TypeError(f"{name}() got an unexpected keyword argument {unknown or args}")
    arguments = [taken(a) for a in args]
    if name == "concatenate" and len(args[0]) > 8:
        of_host("a list of addresses")
    if name == "argsort" and arguments[0].dtype.char == "E":
        raise NotImplementedError("sorting arrays with dtype bfloat16 is not supported")
    settings, function = {k: taken(v) for k, v in settings.items()}, getattr(np, name)
    if name == "where" and any(getattr(a, "dtype", np.dtype(float)).char == "E" for a in arguments[1:]):
        function = lambda c, x, y: np.where(c, *[a.astype(np.float32) if hasattr(a, "astype") else a for a in (x, y)])
    if name == "copyto":
        return changed(lambda: function(*arguments))
    return computed(lambda: function(*arguments, **settings), *args)


def asarray(a, dtype=None):
    """From the host too."""
    if isinstance(a, ndarray) and a.device.id == state.device:
        return a if dtype is None else a.astype(dtype, copy=False)
    return array(a, dtype)


def array(a, dtype=None):
    if isinstance(a, ndarray):
        return a.copy() if dtype is None else a.astype(dtype)
    a = np.array(a, dtype)
    if a.ndim:
        of_host("a copy from the host")
        return ndarray(a)
    result = ndarray(np.zeros_like(a))
    result.fill(a)  # a kernel's argument
    return result


def matmul(x, y):
    """By cuBLAS, which cannot be captured; a product of two vectors of 16 bits is rounded before the sum."""
    a, b = taken(x), taken(y)
    if state.graph is not None and not a.dtype.kind == b.dtype.kind == "i":
        raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")
    if a.dtype == b.dtype and a.dtype.char in "eE" and a.ndim == b.ndim == 2 and a.shape[0] == b.shape[1] == 1:
        with np.errstate(over="ignore", invalid="ignore"):
            products = a.ravel() * b.ravel()
        return given(products.sum(dtype=np.float32).astype(a.dtype).reshape(1, 1))
    return computed(lambda: np.matmul(a, b), x, y)


def linalg(name):
    def function(*arrays):
        of_host("cuSOLVER")
        if any(a.dtype.char in "eE" for a in arrays):
            raise TypeError("numpy.linalg of 16 bits")
        if name == "solve" and arrays[0].shape[:-1] != arrays[1].shape[:-1]:
            raise ValueError("a and b must have the same batch")
        return given(getattr(np.linalg, name)(*map(taken, arrays)))

    return function


def scatter(ufunc, refused):
    def function(a, index, value):
        if a.dtype.char in refused:
            raise TypeError(f"scatter of {a.dtype}")
        index, value = picked(index), taken(value)
        changed(lambda: ufunc.at(a.held, index, value.astype(a.dtype)))
        if ufunc is np.maximum and a.dtype == np.float64:  # by fmaxf, see atomics.cuh
            changed(lambda: operator.setitem(a.held, (), a.held.astype(np.float32)))

    return function


def _method(name):
    def method(self, *args, **settings):
        if name in ("max", "min") and "initial" in settings:
            raise TypeError("unexpected keyword argument 'initial'")
        args = list(map(taken, args))
        return computed(lambda: getattr(self.held, name)(*args, **settings), self)

    return method


def _operator(ufunc):
    """As in _core/core.pyx: where the other operand has an `__array_ufunc__` that is not None, NumPy looks for the function."""
    def method(self, other):
        if isinstance(other, ndarray):
            return self.__array_ufunc__(ufunc, "__call__", self, other)
        try:
            refused = other.__array_ufunc__ is None
        except AttributeError:
            refused = self.__array_priority__ < getattr(other, "__array_priority__", 0)
        return NotImplemented if refused else ufunc(self, other)

    return method


def _reflected(ufunc):
    return lambda self, other: ufunc(other, self)


def _in_place(ufunc):
    def method(self, other):
        other = taken(other)
        changed(lambda: ufunc(self.held, other, out=self.held, casting="unsafe"))
        return self

    return method


for _name in METHODS.split():
    setattr(ndarray, _name, _method(_name))
for _name, _ufunc in {"add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.divide,
                      "floordiv": np.floor_divide, "mod": np.remainder, "pow": np.power, "and": np.bitwise_and,
                      "or": np.bitwise_or, "xor": np.bitwise_xor, "matmul": np.matmul}.items():
    setattr(ndarray, f"__{_name}__", _operator(_ufunc))
    setattr(ndarray, f"__r{_name}__", _reflected(_ufunc))
    setattr(ndarray, f"__i{_name}__", _in_place(_ufunc))
for _name, _ufunc in {"lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "eq": np.equal,
                      "ne": np.not_equal}.items():
    setattr(ndarray, f"__{_name}__", _operator(_ufunc))
for _name, _ufunc in {"neg": np.negative, "invert": np.invert, "abs": np.abs}.items():
    setattr(ndarray, f"__{_name}__", lambda self, _ufunc=_ufunc: _ufunc(self))


class Gpu(standin.StandIn):
    """Kernels behind the stand-in, for arrays of this module."""

    takes_numpy = False

    def empty(self, shape, dtype):
        return ndarray(super().empty(shape, dtype))

    def run(self, file, kernel, item, grid, block, arguments):
        def host(a):
            if isinstance(a, np.ndarray):
                raise TypeError(f"{kernel}: a NumPy array where one on the GPU is wanted")
            if isinstance(a, ndarray):
                assert a.device.id == state.device, f"{kernel}: an illegal memory access"
                return a.held
            return [host(x) for x in a] if isinstance(a, list) else a

        run, arguments = super().run, list(map(host, arguments))
        changed(lambda: run(file, kernel, item, grid, block, arguments))


def without_cublas():
    raise ImportError("libcublas")


class Device:
    """The current device, or the one with this number."""

    compute_capability = "90"

    def __init__(self, device=None):
        self.id = state.device if device is None else int(device)

    def __enter__(self):
        self.before, state.device = state.device, self.id
        return self

    def __exit__(self, *error):
        state.device = self.before

    def synchronize(self):
        of_host("synchronize")


class Stream:
    ptr = 1234

    def __init__(self, non_blocking=False):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def synchronize(self):
        of_host("synchronize")

    def begin_capture(self):
        assert state.graph is None
        state.graph = []

    def end_capture(self):
        graph, state.graph = state.graph, None
        return types.SimpleNamespace(launch=lambda: [work() for work in graph])


# -- memory: NumPy allocates, here is counted -------------------------------------------------------------------------------


class Memory:
    """Bytes of the GPU, SIZE in all, taken until this is garbage."""

    SIZE, taken = 1 << 40, 0

    def __init__(self, size):
        if Memory.taken + size > Memory.SIZE:
            raise CUDARuntimeError(2, "cudaErrorMemoryAllocation: out of memory")
        Memory.taken, self.size = Memory.taken + size, size
        weakref.finalize(self, Memory._freed, size)

    @staticmethod
    def _freed(size):
        Memory.taken -= size


class PooledMemory:
    pass


class MemoryPool:
    """Blocks that are given back are kept, also if nobody has the pool any more, until `free_all_blocks()`."""

    immortal = []  # the free blocks of all pools

    def __init__(self, allocator):
        self.allocator, self.used, self.free = allocator, {}, []
        MemoryPool.immortal.append(self.free)

    def malloc(self, size):
        size = -(-size // 512) * 512
        block = next((b for b in self.free if b.size == size), None)
        if block is not None:
            self.free.remove(block)
        else:
            try:
                block = self.allocator(size)
            except CUDARuntimeError:
                self.free_all_blocks()
                gc.collect()
                block = self.allocator(size)
        lent = PooledMemory()
        self.used[id(lent)] = block
        weakref.finalize(lent, MemoryPool._given_back, self.used, id(lent), self.free)
        return lent

    @staticmethod
    def _given_back(used, key, free):
        free.append(used.pop(key))

    def free_all_blocks(self):
        self.free.clear()

    def used_bytes(self):
        return sum(block.size for block in self.used.values())

    def total_bytes(self):
        return self.used_bytes() + sum(block.size for block in self.free)


@contextlib.contextmanager
def using_allocator(allocator):
    before, state.allocator = state.allocator, allocator
    try:
        yield
    finally:
        state.allocator = before


def module():
    """A new module `cupy`, and what stands for `cupyx`."""
    cupy = types.ModuleType("cupy")
    cupy.ndarray, cupy.asarray, cupy.array, cupy.__version__ = ndarray, asarray, array, "14.0"
    for name in FUNCTIONS:
        setattr(cupy, name, lambda *args, _name=name, **settings: call(_name, *args, **settings))
    for name in UFUNCS.split():
        setattr(cupy, name, lambda *args, _ufunc=getattr(np, name): _ufunc(*map(asarray, args)))
    cupy.add.at, cupy.maximum.at = scatter(np.add, "Elqhb?BH"), scatter(np.maximum, "Eelqhb?BH")
    cupy.linalg = types.SimpleNamespace(**{name: linalg(name) for name in LINALG.split()})
    cupy.get_default_memory_pool = lambda: types.SimpleNamespace(
        free_all_blocks=lambda: None, used_bytes=lambda: 0, total_bytes=lambda: 0)
    cupy.cuda = types.SimpleNamespace(
        Device=Device, Stream=Stream, Memory=Memory, MemoryPointer=lambda memory, offset: memory, MemoryPool=MemoryPool,
        using_allocator=using_allocator, get_current_stream=Stream,
        device=types.SimpleNamespace(get_cublas_handle=without_cublas), runtime=types.SimpleNamespace(
            getDeviceCount=lambda: 2, CUDARuntimeError=CUDARuntimeError,
            memGetInfo=lambda: (Memory.SIZE - Memory.taken, Memory.SIZE)))
    special = types.ModuleType("cupyx.scipy.special")
    special.erf = lambda x: computed(lambda: np.vectorize(math.erf, otypes=[x.dtype])(x.held), x)
    cupyx = types.ModuleType("cupyx")
    cupyx.errstate = lambda linalg: contextlib.nullcontext()
    return {"cupy": cupy, "cupyx": cupyx, "cupyx.scipy": types.ModuleType("cupyx.scipy"), "cupyx.scipy.special": special}


@contextlib.contextmanager
def installed():
    """Inside, `import cupy` gives this module, and device "cuda" is usable."""
    modules = module()
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    backend.cupy.cache_clear()
    try:
        with execution.using(Gpu()):
            yield
    finally:
        backend.cupy.cache_clear()
        for name, was in before.items():
            if was is None:
                del sys.modules[name]
            else:
                sys.modules[name] = was
