"""A `cupy` that needs no GPU: its arrays lie in NumPy's memory, and its rules are CuPy's.

What passes here does not mix host and device: arrays are CuPy's or NumPy's, a NumPy array beside a CuPy array is an error
as there, and so is what NumPy knows and CuPy does not (functions, keywords, numbers of 16 bits in some places). Kernels run
behind the stand-in. `installed()` puts it in the place of CuPy.
"""
import contextlib
import math
import operator
import sys
import types

import numpy as np
import standin
from minigrad import backend
from minigrad.backend import execution

# Functions of CuPy 13 and 14 that minigrad calls, and the names of their arguments.
FUNCTIONS = {
    "arange": "start stop step dtype", "argsort": "a axis kind", "ascontiguousarray": "a dtype", "broadcast_to": "array shape",
    "clip": "a a_min a_max", "concatenate": "arrays axis", "copyto": "dst src", "count_nonzero": "a axis",
    "einsum": "subscripts x y z optimize", "empty": "shape dtype", "empty_like": "a", "eye": "N M k dtype", "flip": "m axis",
    "full": "shape fill_value dtype", "max": "a axis out keepdims", "min": "a axis out keepdims", "ones": "shape dtype",
    "ones_like": "a", "pad": "array pad_width mode constant_values", "roll": "a shift axis", "stack": "arrays axis", "tri": "N M k dtype", "where": "condition x y", "zeros": "shape dtype",
    "zeros_like": "a"}
UFUNCS = "add subtract multiply divide sqrt exp log isfinite isnan abs"
METHODS = """all any argmax argmin argsort astype clip copy cumsum fill flatten max mean min prod ravel repeat reshape
    squeeze std sum swapaxes take transpose var view"""
LINALG = "cholesky det eigh inv slogdet solve"


class ndarray:
    """An array "on the GPU"."""

    __array_priority__ = 100
    __hash__ = None
    __cuda_array_interface__ = {}  # that there is one says what this is

    def __init__(self, array, base=None):
        self.held, self.base = array, base

    for name in "shape dtype ndim size strides nbytes itemsize flags".split():
        locals()[name] = property(operator.attrgetter("held." + name))
    device = types.SimpleNamespace(id=0)
    T = property(lambda self: self.transpose())

    @property
    def data(self):
        return types.SimpleNamespace(ptr=self.held.ctypes.data)

    def get(self):
        return self.held.copy()

    def item(self):
        return self.held.item()

    def tolist(self):
        return self.held.tolist()

    def __array__(self, *args, **settings):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **settings):
        if method != "__call__" or settings:
            raise TypeError(f"{ufunc.__name__}.{method} with {list(settings)} is not CuPy's")
        if any(not isinstance(x, ndarray) and hasattr(x, "__array_ufunc__") and not isinstance(x, (np.ndarray, np.generic))
               for x in inputs):
            return NotImplemented
        (out,) = out or (None,)
        result = ufunc(*map(taken, inputs), **({} if out is None else {"out": out.held}))
        return given(result) if out is None else out

    def __array_function__(self, function, types, args, settings):
        return call(function.__name__, *args, **settings)

    def __getitem__(self, index):
        return given(self.held[picked(index)], self)

    def __setitem__(self, index, value):
        self.held[picked(index)] = taken(value)

    def __len__(self):
        return len(self.held)

    def __bool__(self):
        return bool(self.held)

    def __int__(self):
        return int(self.held)

    def __float__(self):
        return float(self.held)

    def __index__(self):
        return operator.index(self.held)

    def __repr__(self):
        return f"nogpu.{self.held!r}"


def taken(x):
    """What CuPy's functions take: its arrays, numbers, and lists of arrays; no NumPy arrays."""
    if isinstance(x, np.ndarray):
        raise TypeError(f"Unsupported type {np.ndarray}")
    if isinstance(x, (list, tuple)):
        return type(x)(map(taken, x)) if type(x) in (list, tuple) else x
    return x.held if isinstance(x, ndarray) else x


def picked(index):
    """An index, in which NumPy arrays may stand."""
    if isinstance(index, tuple):
        return tuple(map(picked, index))
    return index.held if isinstance(index, ndarray) else index


def given(result, owner=None):
    """Results are arrays, those of no axis too; a view knows its owner."""
    if isinstance(result, tuple):
        return tuple(map(given, result))
    if not isinstance(result, (np.ndarray, np.generic)):
        return result
    result = np.asarray(result)
    is_view = owner is not None and result.base is not None and np.may_share_memory(result, owner.held)
    return ndarray(result, None if not is_view else owner if owner.base is None else owner.base)


def call(name, *args, **settings):
    """A function of the module, with the arguments that CuPy's has."""
    unknown = set(settings) - set(FUNCTIONS[name].split())
    if unknown or len(args) > len(FUNCTIONS[name].split()):
        raise TypeError(f"{name}() got an unexpected keyword argument {unknown or args}")
    owner = args[0] if args and isinstance(args[0], ndarray) else None
    arguments = [taken(a) for a in args]
    if name == "where" and any(getattr(a, "dtype", np.dtype(float)).char == "E" for a in arguments[1:]):
        arguments[1:] = [a.astype(np.float32) if hasattr(a, "astype") else a for a in arguments[1:]]  # no loop for it
    if name == "argsort" and arguments[0].dtype.char == "E":
        raise NotImplementedError("sorting arrays with dtype bfloat16 is not supported")
    return given(getattr(np, name)(*arguments, **{k: taken(v) for k, v in settings.items()}), owner)


def asarray(a, dtype=None):
    """From the host too."""
    if isinstance(a, ndarray):
        return a if dtype is None else a.astype(dtype, copy=False)
    return ndarray(np.array(a, dtype))


def array(a, dtype=None):
    return ndarray(np.array(a.held if isinstance(a, ndarray) else a, dtype))


def linalg(name):
    def function(*arrays):
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
        ufunc.at(a.held, picked(index), taken(value))

    return function


def _method(name):
    def method(self, *args, **settings):
        if name in ("max", "min") and "initial" in settings:
            raise TypeError("unexpected keyword argument 'initial'")
        return given(getattr(self.held, name)(*map(taken, args), **settings), self)

    return method


def _operator(ufunc, reflected):
    return lambda self, other: self.__array_ufunc__(ufunc, "__call__", *((other, self) if reflected else (self, other)))


def _in_place(ufunc):
    def method(self, other):
        ufunc(self.held, taken(other), out=self.held, casting="unsafe")
        return self

    return method


for _name in METHODS.split():
    setattr(ndarray, _name, _method(_name))
for _name, _ufunc in {"add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.divide,
                      "floordiv": np.floor_divide, "mod": np.remainder, "pow": np.power, "and": np.bitwise_and,
                      "or": np.bitwise_or, "xor": np.bitwise_xor, "matmul": np.matmul}.items():
    setattr(ndarray, f"__{_name}__", _operator(_ufunc, False))
    setattr(ndarray, f"__r{_name}__", _operator(_ufunc, True))
    setattr(ndarray, f"__i{_name}__", _in_place(_ufunc))
for _name, _ufunc in {"lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "eq": np.equal,
                      "ne": np.not_equal}.items():
    setattr(ndarray, f"__{_name}__", _operator(_ufunc, False))
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
            return a.held if isinstance(a, ndarray) else [host(x) for x in a] if isinstance(a, list) else a

        super().run(file, kernel, item, grid, block, list(map(host, arguments)))


def without_cublas():
    raise ImportError("libcublas")


class Device(contextlib.nullcontext):
    def synchronize(self):
        pass


def module():
    """A new module `cupy`, and what stands for `cupyx`."""
    cupy = types.ModuleType("cupy")
    cupy.ndarray, cupy.asarray, cupy.array, cupy.__version__ = ndarray, asarray, array, "14.0"
    for name in FUNCTIONS:
        setattr(cupy, name, lambda *args, _name=name, **settings: call(_name, *args, **settings))
    for name in UFUNCS.split():
        setattr(cupy, name, lambda *args, _ufunc=getattr(np, name): _ufunc(*map(asarray, args)))
    cupy.linalg = types.SimpleNamespace(**{name: linalg(name) for name in LINALG.split()})
    cupy.cuda = types.SimpleNamespace(
        Device=Device, device=types.SimpleNamespace(get_cublas_handle=without_cublas), runtime=types.SimpleNamespace(getDeviceCount=lambda: 1, memGetInfo=lambda: (1 << 20, 2 << 20)),
        get_current_stream=lambda: types.SimpleNamespace(synchronize=lambda: None))
    special = types.ModuleType("cupyx.scipy.special")
    special.erf = lambda x: given(np.vectorize(math.erf, otypes=[x.dtype])(x.held))
    cupyx = types.ModuleType("cupyx")
    cupyx.scatter_add, cupyx.scatter_max = scatter(np.add, "Elqb?"), scatter(np.maximum, "Eelqhb?BH")
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
