"""Updates of parameters and averages, in place: by a path of the arrays' backend, or by the definition."""
from collections.abc import Callable

from ..backend import execution, path


def run_update(name: str | None, definition: Callable, rows: list[tuple], settings: Callable, owner: str) -> None:
    """Updates arrays in place. All arrays of one dtype that a path serves go to it together, in one launch on the GPU.

    Args:
        name: the update in the backends' tables; None if it has only a definition.
        definition: definition(*row, *settings) updates one row by array operations.
        rows: tuples of arrays (changed, read, changed, ...); None, in a column of all rows, for one that is not there.
        settings: from a dtype to the settings for arrays of that dtype: numbers, or, while a step is traced, arrays (1,).
        owner: who asks, for the error message.

    Raises:
        RuntimeError: a step is being captured and an array has no CUDA kernel: its settings could not change any more.
    """
    groups = {}  # of rows that have the same path and dtype
    shared = None if name is None else path(name, [a for row in rows for a in row if a is not None])
    for row in rows:
        found = shared or (None if name is None else path(name, [a for a in row if a is not None]))
        groups.setdefault((found is None, row[0].dtype.char), []).append((found, row))
    for pairs in groups.values():
        (found, *_), members = zip(*pairs)
        dtype = members[0][0].dtype
        if found is not None:
            found.forward(*[list(column) if column[0] is not None else () for column in zip(*members)], *settings(dtype))
            continue
        if execution.capture is not None:
            raise RuntimeError(f"{owner}: a step on parameters like {dtype}{list(members[0][0].shape)} has no CUDA kernel, "
                               "so it cannot be captured")
        numbers = settings(dtype)
        for row in members:
            definition(*row, *numbers)
