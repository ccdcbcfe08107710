"""Vision and language: networks that learn from pictures and their captions, and then know classes by their names.

`TASKS` names the modules of what is learned. Each has a Config; a network of an image tower and a text tower, Network, that is
made of both; and an Objective, the method.
"""
from types import ModuleType

from . import bag_of_words, caption_prediction, clip

TASKS: dict[str, ModuleType] = {"contrastive": clip, "caption": caption_prediction, "bag_of_words": bag_of_words}
