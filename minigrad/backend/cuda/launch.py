"""From a .cu file to a launched kernel.

A file is compiled with NVRTC at its first use, once for each type of item (CuPy keeps the binary in its cache on
disk). The declarations in the file are the one place that says what a kernel takes: `launch` reads them, turns Python
numbers into the declared types and refuses arrays of another dtype, memory order or device, which a GPU would misread
silently. Constants of a file that Python needs too are read from there as well.

CuPy has NVRTC flush float32 to zero (`-ftz=true`): numbers below 2^-126, all subnormal bfloat16 numbers among them, are 0
to the arithmetic of a kernel that computes in float. Those of float16 are numbers as others in float, and double keeps
its own.

What executes is a device: `empty(shape, dtype)` allocates, `run(...)` launches. It is CuPy's GPU unless
`backend.execution.using` puts another in its place.
"""
import functools
import pathlib
import re

import numpy as np

from .. import cupy, execution, xp

FOLDER = pathlib.Path(__file__).parent
# The C types of the items of arrays, by dtype, and those that kernels compute in.
ITEMS = {"float16": ("half", "float"), "bfloat16": ("bfloat16", "float"), "float32": ("float", "float"),
         "float64": ("double", "double")}
LIST = 96  # how many arrays an argument of the C type Arrays holds
_DTYPES = {kind: np.dtype(name) for kind, name in (
    ("int", "int32"), ("index_t", "int64"), ("unsigned char", "uint8"), ("unsigned long long", "uint64"), ("float", "float32"),
    ("double", "float64"))}
# To these whole numbers are turned, which are few, and sizes for the most part.
_WHOLE = {kind: functools.lru_cache(1 << 12)(_DTYPES[kind].type) for kind in ("int", "index_t")}
_NULL = np.uint64(0)
_DECLARATION = re.compile(r'extern "C" __global__ void (?:__launch_bounds__\(\w+\) )?(\w+)\(([^)]*)\)')


def files():
    """The names of the kernel files, without the suffix."""
    return sorted(path.stem for path in FOLDER.glob("*.cu") if path.stem != "prelude")


@functools.cache
def source(file):
    """The text of a kernel file, after the prelude that all of them share."""
    return (FOLDER / "prelude.cu").read_text() + (FOLDER / f"{file}.cu").read_text()


def options(item):
    """The compiler's options for arrays of `item`, one of ITEMS."""
    stored, real = ITEMS[item]
    return (f"-DITEM={stored}", f"-DREAL={real}", f"-DLIST={LIST}", "-std=c++17")


def computed(dtype):
    """The dtype in which kernels compute on arrays of `dtype` and keep sums and statistics: float32 for 16 bits."""
    return np.promote_types(dtype, np.float32)


@functools.cache
def kernels(file):
    """The parameters of each kernel of a file: {kernel: [(C type, is a pointer, is const), ...]}."""
    return {name: [_parameter(text) for text in parameters.split(",")]
            for name, parameters in _DECLARATION.findall(source(file))}


def constant(file, name):
    """The number that a `constexpr` of a kernel file is declared as."""
    return int(re.search(rf"constexpr [^;]*\b{name} = (\d+)\b", (FOLDER / f"{file}.cu").read_text())[1])


def enumerators(file, name):
    """The names in an `enum` of a kernel file, in lower case and in order: the first one is 0."""
    found = re.search(rf"enum {name} {{([^}}]*)}}", (FOLDER / f"{file}.cu").read_text())
    return tuple(found[1].lower().replace(",", " ").split())


def _parameter(text):
    *words, _name = text.replace("*", " * ").split()
    kind = " ".join(word for word in words if word not in ("const", "*"))
    return kind, "*" in words, "const" in words


class Gpu:
    """CuPy's current device and stream."""

    takes_numpy = False  # which arrays it works on: CuPy's

    def empty(self, shape, dtype):
        """An uninitialised array."""
        return cupy().ndarray(shape, dtype)

    def run(self, file, kernel, item, grid, block, arguments):
        """Launches without waiting.

        `arguments` are arrays, None for a null pointer, NumPy scalars, lists of arrays, and tuples of their lengths.
        """
        plain = _plain(cupy())
        compiled(file, kernel, item)(grid, block, tuple([a if a.__class__ in plain else self._passed(a) for a in arguments]))

    @staticmethod
    def _passed(a):
        """What CuPy takes for an argument: a structured NumPy array is passed by value."""
        if isinstance(a, (list, tuple)):
            by_value = np.zeros(1, [("of", np.int64, (LIST,))])
            by_value["of"][0, :len(a)] = [x.data.ptr for x in a] if isinstance(a, list) else a
            return by_value
        if isinstance(a, np.ndarray):  # of one element CuPy would pass the number as an address
            raise TypeError("a kernel is given a NumPy array, not one on the GPU")
        return _NULL if a is None else a


@functools.cache
def _plain(cp):
    """The classes of arguments that CuPy takes as they are."""
    return {cp.ndarray, *[dtype.type for dtype in _DTYPES.values()]}


@functools.cache
def _number_of_gpus(cp):
    return cp.cuda.runtime.getDeviceCount()


def check_device(name, arguments):
    """Refuses CuPy arrays that are not on the current device: kernels and cuBLAS would take their addresses for its own.

    Raises:
        ValueError: there is one, or one in a list; the message begins with `name`.
    """
    if execution.kernels_take_numpy or _number_of_gpus(cupy()) == 1:
        return
    current = cupy().cuda.Device().id
    for a in [x for argument in arguments for x in _several(argument) if isinstance(x, cupy().ndarray)]:
        if a.device.id != current:
            raise ValueError(f"{name}: an array is on cuda:{a.device.id}, and the current device is cuda:{current}: work in "
                             f"`with cupy.cuda.Device({a.device.id}):`, or move the array by .to('cuda:{current}')")


@functools.cache
def _module(file, item):
    return cupy().RawModule(code=source(file), options=options(item))


@functools.cache
def compiled(file, kernel, item):
    """The kernel for arrays of `item`, one of ITEMS, as a `cupy.RawKernel`."""
    return _module(file, item).get_function(kernel)


_gpu = Gpu()


def device():
    """The device that kernels run on now."""
    return execution.device or _gpu


def in_any_order(function):
    """The function, its arrays made C-contiguous first: for wrappers whose kernels only read them."""
    @functools.wraps(function)
    def called(*arguments, **settings):
        arguments = [a if not hasattr(a, "flags") or a.flags.c_contiguous else ordered(a) for a in arguments]
        return function(*arguments, **settings)

    return called


def ordered(a):
    """An array in C order, copied if it is in another; anything else as it is."""
    return xp(a).ascontiguousarray(a) if hasattr(a, "flags") and not a.flags.c_contiguous else a


def empty(shape, dtype):
    """An uninitialised array on the device."""
    return device().empty(shape, dtype)


def empty_like(x):
    """An uninitialised array of the shape and dtype of `x`, in C order."""
    return device().empty(x.shape, x.dtype)


def launch(file, kernel, grid, block, *arguments):
    """Runs a kernel.

    Args:
        file, kernel: the name of the .cu file, and of the kernel in it.
        grid, block: numbers of blocks and of threads in a block, each a number or a tuple of up to three.
        arguments: as declared. Arrays are C-contiguous and have the declared dtype; None is a null pointer. Arrays by
            value are a list, Lengths a sequence of numbers, both of at most LIST.

    Raises:
        TypeError: the arguments are not what the kernel declares.
        ValueError: an array is not on the current device.
    """
    grid, block = grid if grid.__class__ is tuple else (int(grid),), block if block.__class__ is tuple else (int(block),)
    if len(arguments) != len(kernels(file)[kernel]):
        raise TypeError(f"{kernel} takes {len(kernels(file)[kernel])} arguments, not {len(arguments)}")
    name, taken = _taken(file, kernel, _item(file, kernel, arguments))
    checked = [take(a) for take, a in zip(taken, arguments)]
    check_device(kernel, checked)
    if 0 not in grid:  # no blocks, nothing to do; CUDA calls it an error
        device().run(file, kernel, name, grid, block, checked)


@functools.cache
def _sources(file, kernel):
    """The numbers of the arguments whose dtype says which items are meant, and the names of the items that may be meant."""
    declared = kernels(file)[kernel]
    takes_items = any([kind == "item" for kind, _, _ in declared])
    kinds = ("item",) if takes_items else ("real", "Arrays")
    return ([i for i, (kind, pointer, _) in enumerate(declared) if kind in kinds and (pointer or kind == "Arrays")],
            [name for name in ITEMS if takes_items or not name.endswith("16")])


def _item(file, kernel, arguments):
    """The dtype of the items that the arguments mean; None if nothing says it."""
    for i in _sources(file, kernel)[0]:
        for a in _several(arguments[i]):
            if hasattr(a, "dtype"):
                return a.dtype
    return None


def _several(argument):
    return argument if isinstance(argument, (list, tuple)) else (argument,)


@functools.cache
def _taken(file, kernel, item):
    """The name of `item`, and what each parameter makes of its argument.

    Raises:
        TypeError: the kernel does not work on such items.
    """
    possible = _sources(file, kernel)[1]
    if item is None or item.name not in possible:
        raise TypeError(f"{kernel}: this CUDA kernel works in {' or '.join(possible)}, not {item}")
    dtypes = {**_DTYPES, "item": item, "real": computed(item)}

    def taking(position, kind, pointer):
        if kind == "Lengths":
            return lambda a: tuple(map(int, _fitting(kernel, position, a)))
        if kind == "Arrays":
            return lambda a: [_checked(kernel, position, dtypes["real"], x) for x in _fitting(kernel, position, a)]
        return functools.partial(_checked, kernel, position, dtypes[kind]) if pointer else _WHOLE.get(kind, dtypes[kind].type)

    return item.name, [taking(i, kind, pointer) for i, (kind, pointer, _) in enumerate(kernels(file)[kernel])]


def _fitting(kernel, position, items):
    if len(items) > LIST:
        raise TypeError(f"{kernel}: argument {position} has {len(items)} items; at most {LIST} fit")
    return items


def _checked(kernel, position, dtype, array):
    if array is None:
        return None
    if isinstance(array, np.generic) or not hasattr(array, "flags"):  # CuPy would pass a number for an address
        raise TypeError(f"{kernel}: argument {position} must be an array of {dtype}, not a {type(array).__name__}")
    if array.dtype != dtype or not array.flags.c_contiguous:
        order = "C-contiguous" if array.flags.c_contiguous else "strided"
        raise TypeError(f"{kernel}: argument {position} must be a C-contiguous array of {dtype}, not a {order} one of "
                        f"{array.dtype}")
    return array
