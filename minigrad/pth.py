"""PyTorch's files of tensors (`.pth`, `.pt`, `.bin`), read without PyTorch and without running anything that is in them.

Such a file is a pickle, a program for a small stack machine that builds an object, and beside it the numbers. Python's own
`pickle` lets that program import and call whatever it names. The machine here knows numbers, text, lists, dicts and the
functions by which PyTorch describes a tensor, and calls none of these: of a tensor it notes where its numbers lie, and they are
read when all is known to fit the file. Anything else is refused by its name.

    since 1.6    a zip, uncompressed: NAME/data.pkl is the pickle, NAME/data/KEY a storage, the numbers of one tensor or several
    before       the pickles of a magic number, a version, facts about the machine, the object, and the storages' keys; then
                 for each key how many numbers (8 bytes) and the numbers
"""
import io
import math
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from . import backend

MAGIC = 0x1950a86a20f9469cfc6c  # what the old format begins with
TENSORS = ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2")  # of (storage, offset, shape, strides, ...)
UNTYPED, OF_DTYPE = "torch.storage.UntypedStorage", "torch._utils._rebuild_tensor_v3"  # of TENSORS' arguments, and a dtype
PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
MARKED, TENSOR = "torch._tensor._rebuild_from_type_v2", "torch.Tensor"  # a tensor with attributes, such as a torch.nn.Buffer
DICT = "collections.OrderedDict"
DTYPES = {f"torch.{name}Storage": dtype for name, dtype in {
    "Double": "f8", "Float": "f4", "Half": "f2", "BFloat16": "bfloat16", "Long": "i8", "Int": "i4", "Short": "i2", "Char": "i1",
    "Byte": "u1", "Bool": "bool", "ComplexFloat": "c8", "ComplexDouble": "c16"}.items()} | {UNTYPED: "u1"}
YOUNGER = {"torch.uint16": "u2", "torch.uint32": "u4", "torch.uint64": "u8"}  # dtypes without a storage of their own
UNREAD = ("torch.float8", "torch.float4", "torch.complex32")  # what such a dtype's name begins with
KNOWN = {*TENSORS, OF_DTYPE, *PARAMETERS, MARKED, TENSOR, DICT, *DTYPES, *YOUNGER}
# What a file may cost before it is refused; published ones stay far below.
MOST_BYTES, MOST_STEPS = 2 ** 23, 300_000  # of a pickle; 30 steps describe a tensor
MOST_CONTENTS = 2 ** 21  # bytes of a zip's list of contents
MOST_NAMES, MOST_DEPTH, LONGEST_KEY, MOST_AXES = 100_000, 16, 500, 32


@dataclass(frozen=True)
class Imported:
    """What a pickle imports, one of `KNOWN`."""

    name: str


@dataclass(frozen=True)
class Storage:
    """The numbers under a key of the file; `first` is the place of the first among the `total` that are there."""

    key: str
    dtype: str
    count: int
    total: int
    first: int = 0

    @property
    def itemsize(self) -> int:
        return _itemsize(self.dtype)


@dataclass(frozen=True)
class Stored:
    """A tensor in the file. Offset and strides count numbers of its dtype, which is its storage's unless that has bytes."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str

    @property
    def itemsize(self) -> int:
        return _itemsize(self.dtype)


def _itemsize(dtype):
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def is_pth(path: str | os.PathLike) -> bool:
    """Whether a file begins as a zip or a pickle does, and not as one of safetensors, whose ninth byte is a brace."""
    with open(path, "rb") as file:
        head = file.read(9)
    return (head[:4] == b"PK\3\4" or head[:1] == pickle.PROTO) and head[8:] != b"{"


def load(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any] | None]:
    """The tensors of a file that `torch.save` wrote, by name, and what else it holds.

    A name is the keys of the dicts, and the places in lists, that lead to a tensor, joined by dots. Outer keys under which all
    tensors lie are left away: {"model": {"fc.weight": ...}, "epoch": 3} gives "fc.weight"; with an optimiser's tensors beside
    the model's it gives "model.fc.weight".

    Returns:
        {name: array}, each with memory of its own, and {name: number, text or None}, or None if there is nothing else.

    Raises:
        ValueError: the file is damaged, claims more than it holds, holds anything but tensors, numbers, text, lists and dicts,
            a tensor of float8 or complex32, or bfloat16 where ml_dtypes is not installed.
    """
    with _File(io.FileIO(path)) as file:
        try:
            tree, read, order = (_zipped if file.peek(2)[:2] == b"PK" else _old)(file)
            tensors, facts = _flat(tree)
            return _arrays(tensors, read, order, file.size), facts or None
        except Exception as error:  # a damaged zip raises errors of many kinds
            raise ValueError(f"{os.fspath(path)} is not read: {error}") from None


# -- the two formats: the object, a function that reads a storage's bytes, and their order -----------------------------


class _File(io.BufferedReader):
    """A file, of which a call reads at most `most` bytes."""

    most = MOST_CONTENTS

    def __init__(self, raw):
        super().__init__(raw)
        self.size = os.fstat(raw.fileno()).st_size

    def read(self, size=-1):
        if size > self.most:
            raise ValueError("its list of contents is too long")
        return super().read(size)


def _zipped(file):
    try:
        archive = zipfile.ZipFile(file)  # reads the list of contents in one call
    except zipfile.BadZipFile as error:
        raise ValueError(f"it begins as a zip and does not end as one, as it was damaged or not copied whole: {error}") from None
    file.most = file.size
    members = {info.filename: info for info in archive.infolist()}
    if len(members) < len(archive.infolist()):
        raise ValueError("two of its parts have one name")
    if any(name.endswith("constants.pkl") for name in members):
        raise ValueError("it is a TorchScript archive, which holds a program: save its state_dict() in PyTorch, and read that")
    if any(info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 for info in members.values()):
        raise ValueError("it is compressed or encrypted, which PyTorch's files are not")
    if sum(info.file_size for info in members.values()) > file.size:
        raise ValueError("its parts claim to be larger than the file")
    roots = [name.removesuffix("data.pkl") for name in members if f"/{name}".endswith("/data.pkl")]
    if len(roots) != 1:
        raise ValueError("a zip, but not one of PyTorch's: data.pkl is not in it once")
    root = roots[0]
    if members[root + "data.pkl"].file_size > MOST_BYTES:
        raise ValueError("its pickle is too long")
    machine = _Machine(archive.read(root + "data.pkl"))
    tree = machine.run()

    def read(storage):
        info, wanted = members.get(f"{root}data/{storage.key}"), storage.total * storage.itemsize
        if info is None or info.file_size != wanted:
            found = "is missing" if info is None else f"has {info.file_size}"
            raise ValueError(f"storage {storage.key!r:.50} should have {wanted} bytes and {found}")
        return archive.read(info)

    big = root + "byteorder" in members and archive.read(root + "byteorder") == b"big"
    return tree, read, ">" if big else "<"


def _old(file):
    file.most = file.size
    machine = _Machine(file.read(min(MOST_BYTES, file.size)))
    if machine.run() != MAGIC:
        raise ValueError("a pickle, but not one of PyTorch's files")
    _version, _facts, tree, keys = (machine.run() for _ in range(4))
    at, places = machine.at, {}
    for key in keys if isinstance(keys, list) else ():
        if not isinstance(key, str) or key not in machine.storages or key in places:
            raise ValueError("a storage belongs to no tensor, or stands there twice")
        file.seek(at)
        (count,), storage = struct.unpack("<q", file.read(8).ljust(8, b"\xff")), machine.storages[key]
        places[key] = at + 8
        at += 8 + count * storage.itemsize
        if count != storage.total or at > file.size:
            raise ValueError(f"storage {key!r:.50} should have {storage.total} numbers and has {count}, or the file is cut off")

    def read(storage):
        if storage.key not in places:
            raise ValueError(f"storage {storage.key!r:.50} is missing")
        file.seek(places[storage.key])
        return file.read(storage.total * storage.itemsize)

    return tree, read, "<"  # on all machines


# -- the stack machine -------------------------------------------------------------------------------------------------


class _Machine:
    """Runs the pickles in `code`, one after the other, from `at`; `storages` are those that tensors named, by key."""

    def __init__(self, code: bytes):
        self.code, self.at, self.steps, self.storages = code, 0, 0, {}

    def take(self, count: int) -> bytes:
        """The next bytes."""
        if not 0 <= count <= len(self.code) - self.at:
            raise ValueError("its pickle is cut off or too long")
        self.at += count
        return self.code[self.at - count:self.at]

    def number(self, kind: struct.Struct) -> Any:
        """The next number."""
        return kind.unpack(self.take(kind.size))[0]

    def text(self, length: struct.Struct) -> str:
        """The next text, behind the number of its bytes."""
        return self.take(self.number(length)).decode()

    def line(self) -> str:
        """The next line of text."""
        end = self.code.find(b"\n", self.at, self.at + LONGEST_KEY)
        if end < 0:
            raise ValueError("its pickle is cut off, or imports something whose name does not end")
        return self.take(end + 1 - self.at)[:-1].decode()

    def run(self) -> Any:
        """The object that the next pickle builds."""
        self.stack, self.marks, self.memo = [], [], {}
        try:
            while (code := self.take(1)) != pickle.STOP:
                self.steps += 1
                if self.steps > MOST_STEPS:
                    raise ValueError("its pickle takes too many steps")
                if code not in INSTRUCTIONS:
                    raise ValueError(f"its pickle has the instruction {code!r}, which no file of tensors needs")
                INSTRUCTIONS[code](self)
            return self.stack.pop()
        except (IndexError, KeyError):
            raise ValueError("its pickle is damaged: something is used that was not made") from None

    def since_mark(self) -> list:
        """What was put on the stack since the last mark, taken off."""
        at = self.marks.pop()
        items, self.stack[at:] = self.stack[at:], []
        return items

    def push(self, value: Any) -> None:
        """Puts a value on the stack."""
        self.stack.append(value)

    def put(self, key: int) -> None:
        """Keeps the last value under a number."""
        self.memo[key] = self.stack[-1]

    def storage(self, facts: Any) -> Storage:
        """The storage that a tuple ("storage", type, key, device, how many numbers[, view]) names."""
        match facts:
            case ("storage", Imported(name), str(key), _, int(total), *view) if (
                    name in DTYPES and len(key) <= LONGEST_KEY and 0 <= total < 2 ** 63):
                storage = Storage(key, DTYPES[name], total, total)
            case _:
                raise ValueError("its pickle refers to something that is no storage")
        if self.storages.setdefault(key, storage) != storage:
            raise ValueError(f"storage {key!r:.50} is described in two ways")
        match view:
            case [] | [None]:
                return storage
            case [(_, int(first), int(count))] if 0 <= first <= first + count <= total:
                return replace(storage, first=first, count=count)
        raise ValueError(f"storage {key!r:.50} is described wrongly")


def _tuple(m, count):
    m.stack[-count:] = [tuple(m.stack[-i] for i in range(count, 0, -1))]


def _long(m):
    m.push(int.from_bytes(m.take(m.number(BYTE)), "little", signed=True))


def _append(m):
    _list(m.stack[-2]).append(m.stack.pop())


def _set_item(m):
    value, key = m.stack.pop(), m.stack.pop()
    _set(m.stack[-1], [key, value])


def _set_items(m):
    items = m.since_mark()
    _set(m.stack[-1], items)


def _stack_global(m):
    name, module = m.stack.pop(), m.stack.pop()
    m.push(_imported(module, name))


def _reduce(m):
    arguments, function = m.stack.pop(), m.stack.pop()
    m.push(_result(function, arguments))


def _build(m):
    m.stack.pop()
    if not isinstance(m.stack[-1], dict):  # an OrderedDict's attributes say nothing about tensors
        raise ValueError("its pickle sets attributes of an object")


def _inst(m):
    raise ValueError(f"its pickle asks for {m.line()}.{m.line()}, which is no tensor")


BYTE, SHORT, WORD, LONG = (struct.Struct(kind) for kind in ("B", "<H", "<I", "<Q"))
SIGNED, DOUBLE = struct.Struct("<i"), struct.Struct(">d")
INSTRUCTIONS: dict[bytes, Callable[[_Machine], Any]] = {  # by their names in the module `pickle`
    pickle.BINPUT: lambda m: m.put(m.number(BYTE)), pickle.LONG_BINPUT: lambda m: m.put(m.number(WORD)),
    pickle.MEMOIZE: lambda m: m.put(len(m.memo)),
    pickle.BINGET: lambda m: m.push(m.memo[m.number(BYTE)]), pickle.LONG_BINGET: lambda m: m.push(m.memo[m.number(WORD)]),
    pickle.MARK: lambda m: m.marks.append(len(m.stack)),
    pickle.BININT1: lambda m: m.push(m.number(BYTE)), pickle.BININT2: lambda m: m.push(m.number(SHORT)),
    pickle.BININT: lambda m: m.push(m.number(SIGNED)), pickle.LONG1: _long, pickle.BINFLOAT: lambda m: m.push(m.number(DOUBLE)),
    pickle.NONE: lambda m: m.push(None), pickle.NEWTRUE: lambda m: m.push(True), pickle.NEWFALSE: lambda m: m.push(False),
    pickle.SHORT_BINUNICODE: lambda m: m.push(m.text(BYTE)), pickle.SHORT_BINSTRING: lambda m: m.push(m.text(BYTE)),
    pickle.BINUNICODE: lambda m: m.push(m.text(WORD)), pickle.BINSTRING: lambda m: m.push(m.text(WORD)),
    pickle.BINUNICODE8: lambda m: m.push(m.text(LONG)),
    pickle.EMPTY_TUPLE: lambda m: m.push(()), pickle.TUPLE: lambda m: m.push(tuple(m.since_mark())),
    pickle.TUPLE1: lambda m: _tuple(m, 1), pickle.TUPLE2: lambda m: _tuple(m, 2), pickle.TUPLE3: lambda m: _tuple(m, 3),
    pickle.EMPTY_LIST: lambda m: m.push([]), pickle.APPEND: _append,
    pickle.APPENDS: lambda m: _list(m.stack[m.marks[-1] - 1]).extend(m.since_mark()),
    pickle.EMPTY_DICT: lambda m: m.push({}), pickle.SETITEM: _set_item, pickle.SETITEMS: _set_items,
    pickle.GLOBAL: lambda m: m.push(_imported(m.line(), m.line())), pickle.STACK_GLOBAL: _stack_global,
    pickle.BINPERSID: lambda m: m.push(m.storage(m.stack.pop())), pickle.REDUCE: _reduce, pickle.BUILD: _build,
    pickle.PROTO: lambda m: m.take(1), pickle.FRAME: lambda m: m.take(8), pickle.INST: _inst}


def _list(value):
    if not isinstance(value, list):
        raise ValueError("its pickle appends to something that is no list")
    return value


def _set(target, items):
    """Puts keys and values, alternately, into a dict. Other keys could take long to compare."""
    keys = items[::2]
    if not isinstance(target, dict) or len(items) % 2 or any(
            type(key) not in (str, int) or type(key) is str and len(key) > LONGEST_KEY for key in keys):
        raise ValueError("its pickle fills something that is no dict, or by keys that are no names")
    target.update(zip(keys, items[1::2]))


def _imported(module, name):
    if not isinstance(module, str) or not isinstance(name, str):  # whose text could be without end
        raise ValueError("its pickle asks for something whose name is no text")
    if f"{module}.{name}".startswith(UNREAD):
        raise ValueError(f"it holds a tensor of dtype {name:.100}, which is not read: convert it in PyTorch, or leave it out")
    if f"{module}.{name}" not in KNOWN:
        raise ValueError(f"its pickle asks for {module:.100}.{name:.100}, which is no tensor; nothing of it was run. "
                         "In PyTorch torch.save(net.state_dict(), path) writes tensors alone")
    return Imported(f"{module}.{name}")


def _result(function, arguments):
    """What one of the known functions stands for."""
    match function, arguments:
        case Imported(name), () | ([*_],) if name == DICT:
            made = {}
            for pair in arguments[0] if arguments else ():
                _set(made, list(_pair(pair)))
            return made
        case Imported(name), (Stored() as tensor, *_) if name in PARAMETERS:
            return tensor
        case Imported(name), (Imported(inner), Imported(kind), tuple(described), _) if (
                name == MARKED and kind == TENSOR and inner in (*TENSORS, OF_DTYPE)):
            return _result(Imported(inner), described)
        case Imported(name), (Storage(), _, _, _, _, _, dict(marks), *_) if name in TENSORS and {"conj", "neg"} & marks.keys():
            raise ValueError("a tensor is the conjugate or the negative of the numbers in the file: save it after resolve_conj() "
                             "and resolve_neg()")
        case Imported(name), (Storage() as storage, int(offset), tuple(shape), tuple(strides), *_) if name in TENSORS:
            return _checked(Stored(storage, offset, shape, strides, storage.dtype))
        case Imported(name), (Storage(dtype="u1", first=0) as storage, int(offset), tuple(shape), tuple(strides), _, _,
                              Imported(dtype), *_) if name == OF_DTYPE and dtype in YOUNGER:
            return _checked(Stored(storage, offset, shape, strides, YOUNGER[dtype]))
    raise ValueError("its pickle calls something, or describes a tensor wrongly; nothing of it was run")


def _pair(value):
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise ValueError("its pickle fills a dict with something that is no pair")
    return value


def _checked(tensor):
    """The tensor. ValueError unless all its numbers lie in its storage."""
    numbers = tensor.offset, *tensor.shape, *tensor.strides
    if any(type(n) is not int or n < 0 for n in numbers) or len(tensor.shape) != len(tensor.strides) \
            or len(tensor.shape) > MOST_AXES:
        raise ValueError("a tensor has sizes, strides or an offset that cannot be")
    last = tensor.offset + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.strides))
    if 0 not in tensor.shape and (last + 1) * tensor.itemsize > tensor.storage.count * tensor.storage.itemsize:
        raise ValueError(f"a tensor reaches beyond its storage {tensor.storage.key!r:.50}")
    return tensor


# -- the arrays --------------------------------------------------------------------------------------------------------


def _flat(tree):
    """({name: tensor}, {name: other value}) of nested dicts and lists."""
    tensors, facts, steps, todo = {}, {}, 0, [((), tree)]
    while todo:
        path, value = todo.pop()
        if isinstance(value, (dict, list, tuple)):
            steps += len(value)
            if steps > MOST_NAMES or len(path) == MOST_DEPTH:
                raise ValueError("its dicts and lists are nested too deep, or hold too much")
            items = value.items() if isinstance(value, dict) else enumerate(value)
            if isinstance(value, dict) and len({str(key) for key in value}) < len(value):  # 1 and "1"
                raise ValueError("two keys of a dict have one name")
            todo += [((*path, str(key)), item) for key, item in items][::-1]
        elif isinstance(value, Stored):
            tensors[path] = value
        elif value is None or isinstance(value, (bool, int, float, str)):
            facts[path] = value
        else:
            raise ValueError(f"it holds {type(value).__name__.lower()} things that are no tensors")
    outer = 0
    while tensors and all(len(path) > outer + 1 for path in tensors) and len({path[outer] for path in tensors}) == 1:
        outer += 1
    named = {".".join(path[outer:]): tensor for path, tensor in tensors.items()}
    if len(named) < len(tensors):
        raise ValueError("two of its tensors have one name")
    return named, {".".join(path): value for path, value in facts.items()}


def _arrays(tensors: dict[str, Stored], read: Callable[[Storage], bytes], order: str, size: int):
    """The arrays of tensors that one file of `size` bytes holds; each storage is read once."""
    if sum(math.prod(tensor.shape) * tensor.itemsize for tensor in tensors.values()) > 4 * size + 2 ** 20:
        raise ValueError("its tensors claim to be much larger than the file")
    of_storage = {}
    for name, tensor in tensors.items():
        of_storage.setdefault(tensor.storage.key, []).append(name)
    arrays = dict.fromkeys(tensors)
    for names in of_storage.values():
        content = read(tensors[names[0]].storage)
        for name in names:
            arrays[name] = _array(tensors[name], content, order)
    return arrays


def _array(tensor, content, order):
    raw = np.dtype({"bfloat16": "u2", "bool": "u1"}.get(tensor.dtype, tensor.dtype))
    numbers = np.frombuffer(content, raw.newbyteorder(order), len(content) // raw.itemsize)[tensor.storage.first + tensor.offset:]
    if 0 in tensor.shape:
        strided = np.empty(tensor.shape, numbers.dtype)
    else:
        strides = [stride * raw.itemsize if n > 1 else 0 for n, stride in zip(tensor.shape, tensor.strides)]
        strided = np.lib.stride_tricks.as_strided(numbers, tensor.shape, strides)
    array = np.array(strided, raw, order="C")
    return array.astype(bool) if tensor.dtype == "bool" else array.view(backend.as_dtype(tensor.dtype))
