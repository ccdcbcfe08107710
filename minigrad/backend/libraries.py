"""Libraries that some functions alone need."""
import importlib
from types import ModuleType


class MissingLibrary(ImportError):
    """A library is not installed."""


def library(module: str, package: str, who: str) -> ModuleType:
    """The module of a package that need not be installed.

    Args:
        who: what needs it, with its verb, for the error.

    Raises:
        MissingLibrary: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name not in (module, module.partition(".")[0]):  # it is there, and lacks something itself
            raise
        raise MissingLibrary(f"{who} the library {package}: pip install {package}") from None
