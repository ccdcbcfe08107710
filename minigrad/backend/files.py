"""Where cached files are kept, and files that are written whole or not at all."""
import contextlib
import os
import pathlib
import stat
from collections.abc import Iterator


def cache_dir() -> pathlib.Path:
    """The folder of compiled kernels and decoded data: the environment's MINIGRAD_CACHE, else `minigrad` in the user's cache
    folder."""
    base = os.environ.get("MINIGRAD_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache"), "minigrad")
    return pathlib.Path(base)


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[str]:
    """The name of an empty file, to be filled inside; then it takes the place of `path`, or of the file that this links to.

    So `path` holds the old contents or the new ones, never a part. The permissions are those of the old file, or of a new one
    by the umask. Missing folders are made. After an error nothing is changed.

    Raises:
        IsADirectoryError: `path` is a folder; FileExistsError: it is no regular file, such as a device.
    """
    target = os.path.realpath(path)
    if os.path.isdir(target):
        raise IsADirectoryError(f"{os.fspath(path)} is a folder: name a file in it")
    if os.path.exists(target) and not os.path.isfile(target):
        raise FileExistsError(f"{os.fspath(path)} is no regular file, so it is not replaced")
    folder = os.path.dirname(target)
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f"{os.urandom(8).hex()}.part")
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    try:
        mode = stat.S_IMODE(os.stat(target if os.path.exists(target) else temporary).st_mode)
        yield temporary
        os.chmod(temporary, mode)  # a library may have put a file of its own in the place of the empty one
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            error.filename = os.fspath(path)  # a full disk does not say which file it has no place for
        raise


def write_whole(path: str | os.PathLike, content: str | bytes) -> None:
    """Writes a file whole or not at all: a kill leaves the old contents or the new ones, never a part. Text is in UTF-8."""
    with replacing(path) as part:
        pathlib.Path(part).write_bytes(content.encode() if isinstance(content, str) else content)
