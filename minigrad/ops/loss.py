"""Losses. Each takes `reduction`: "mean" over what counts, "sum", or "none" for the loss of each sample or element."""
import math

import numpy as np

from ..backend import xp
from ..tensor import Fused, Tensor, asarray
from .elementwise import abs, clip, log, softplus_of_minus_abs, where
from .index import take_along_axis
from .reduce import log_softmax, mean, softmax, sum
from .shape import _transpose
