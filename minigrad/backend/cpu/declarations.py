"""What is declared in C and used in Python too: constants and structs of whole numbers, read from the C files.

Python names the fields of a struct and never counts on their order, so each is declared in one place.
"""
import functools
import pathlib
import re

import numpy as np

FOLDER = pathlib.Path(__file__).parent


@functools.cache
def constant(file, name):
    """The whole number of `enum { name = 16 }` in a C file; it may stand there more than once, always the same."""
    (value,) = set(re.findall(rf"\b{name} = (\d+)\b", _text(file)))
    return int(value)


@functools.cache
def struct(file, name):
    """The dtype of `typedef struct { index_t a, b; Other c; } name;` in a C file, where Other is such a struct."""
    (body,) = re.findall(rf"typedef struct \{{([^}}]*)\}} {name};", _text(file))
    return np.dtype([(field, np.int64 if kind == "index_t" else struct(file, kind))
                     for kind, fields in re.findall(r"(\w+) ([\w,\s]+);", body) for field in re.split(r",\s*", fields)])


def record(dtype, **fields):
    """One struct, as a tuple for `packed` or for a field of another struct.

    Raises:
        TypeError: a field is missing, or there is none of that name.
    """
    if set(fields) != set(dtype.names):
        raise TypeError(f"a C struct has the fields {dtype.names}, not {tuple(fields)}")
    return tuple(fields[name] for name in dtype.names)


def packed(dtype, *records):
    """Structs side by side as a kernel reads them: (records, numbers of one) int64."""
    return np.array(list(records), dtype).view(np.int64).reshape(len(records), dtype.itemsize // 8)


@functools.cache
def _text(file):
    return (FOLDER / file).read_text()
