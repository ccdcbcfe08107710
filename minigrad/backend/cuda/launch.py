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
_DTYPES = {"int": np.int32, "index_t": np.int64, "unsigned char": np.uint8, "unsigned long long": np.uint64,
           "float": np.float32, "double": np.float64}
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
        return cupy().empty(shape, dtype)

    def run(self, file, kernel, item, grid, block, arguments):
        """Launches without waiting.

        `arguments` are arrays, None for a null pointer, NumPy scalars, lists of arrays, and tuples of their lengths.
        """
        compiled(file, kernel, item)(grid, block, tuple(map(self._passed, arguments)))

    @staticmethod
    def _passed(a):
        """What CuPy takes for an argument: a structured NumPy array is passed by value."""
        if isinstance(a, (list, tuple)):
            by_value = np.zeros(1, [("of", np.int64, (LIST,))])
            by_value["of"][0, :len(a)] = [x.data.ptr for x in a] if isinstance(a, list) else a
            return by_value
        if isinstance(a, np.ndarray):  # of one element CuPy would pass the number as an address
            raise TypeError("a kernel is given a NumPy array, not one on the GPU")
        return np.uint64(0) if a is None else a


@functools.cache
def _number_of_gpus(cp):
    return cp.cuda.runtime.getDeviceCount()


def check_device(name, arrays):
    """Refuses CuPy arrays that are not on the current device: kernels and cuBLAS would take their addresses for its own.

    Raises:
        ValueError: there is one; the message begins with `name`.
    """
    if execution.kernels_take_numpy or _number_of_gpus(cupy()) == 1:
        return
    current = cupy().cuda.Device().id
    for a in arrays:
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
        return function(*[ordered(a) for a in arguments], **settings)

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
    grid, block = (tuple(n) if np.iterable(n) else (int(n),) for n in (grid, block))
    declared = kernels(file)[kernel]
    takes_items = any(kind == "item" for kind, _, _ in declared)
    possible = [name for name in ITEMS if takes_items or not name.endswith("16")]
    kinds = ("item",) if takes_items else ("real", "Arrays")  # whose dtype says which items are meant
    typed = _arrays(a for a, (kind, _, _) in zip(arguments, declared) if kind in kinds)
    item = typed[0].dtype if typed else None
    if item is None or item.name not in possible:
        raise TypeError(f"{kernel}: this CUDA kernel works in {' or '.join(possible)}, not {item}")
    if len(arguments) != len(declared):
        raise TypeError(f"{kernel} takes {len(declared)} arguments, not {len(arguments)}")
    checked = [_checked(kernel, i, a, *declaration, item) for i, (a, declaration) in enumerate(zip(arguments, declared))]
    check_device(kernel, _arrays(a for a, (kind, pointer, _) in zip(checked, declared) if pointer or kind == "Arrays"))
    if 0 not in grid:  # no blocks, nothing to do; CUDA calls it an error
        device().run(file, kernel, item.name, grid, block, checked)


def _arrays(arguments):
    """The arrays among arguments, those in lists too."""
    return [a for value in arguments for a in (value if isinstance(value, list) else [value]) if hasattr(a, "dtype")]


def _checked(kernel, position, value, kind, pointer, _const, item):
    if kind in ("Arrays", "Lengths"):
        if len(value) > LIST:
            raise TypeError(f"{kernel}: argument {position} has {len(value)} items; at most {LIST} fit")
        return tuple(map(int, value)) if kind == "Lengths" else [
            _checked(kernel, position, a, "real", True, _const, item) for a in value]
    dtype = item if kind == "item" else computed(item) if kind == "real" else _DTYPES[kind]
    if not pointer:
        return np.dtype(dtype).type(value)
    if value is not None and (value.dtype != dtype or not value.flags.c_contiguous):
        order = "C-contiguous" if value.flags.c_contiguous else "strided"
        raise TypeError(f"{kernel}: argument {position} must be a C-contiguous array of {np.dtype(dtype)}, "
                        f"not a {order} one of {value.dtype}")
    return value
