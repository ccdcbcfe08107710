"""Self-supervised learning: an encoder is trained on pictures, sounds or texts without labels; few labels are then enough.

`METHODS` has the methods for pictures by the names under which `examples.self_supervised` knows them.
"""
from types import ModuleType

from . import byol, simclr, supervised, vicreg

METHODS: dict[str, ModuleType] = {"simclr": simclr, "byol": byol, "vicreg": vicreg, "supervised": supervised}
