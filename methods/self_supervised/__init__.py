"""Self-supervised learning: an encoder is trained on pictures, sounds or texts without labels; few labels are then enough.

`METHODS` names the modules of the methods for pictures. Each has a Config; an Objective, the method; SHORT, what other settings
of a run it wants; and `architecture`, if it has an encoder of its own. Sounds: cpc_audio; texts: bert.
"""
from types import ModuleType

from . import byol, cpc_images, denoising, dino, exemplar, mae, simclr, supervised, vicreg

METHODS: dict[str, ModuleType] = {m.__name__.rpartition(".")[2]: m for m in (
    simclr, byol, vicreg, dino, mae, denoising, exemplar, cpc_images, supervised)}
