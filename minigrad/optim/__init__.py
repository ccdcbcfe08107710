"""Optimisers change parameters in place by their `.grad`; schedules set an optimiser's learning rate `lr`."""
from ..ops.missing import missing_from as _missing_from
from .adagrad import Adadelta, Adagrad
from .adam import Adam, AdamW, LAMB, NAdam, RAdam
from .clip import clip_grad_norm, clip_grad_norm_
from .ema import EMA
from .half import LossScaler
from .muon import Muon
from .optimizer import Optimizer
from .rmsprop import RMSprop
from .schedule import cosine_decay, linear_decay, one_cycle, ReduceLROnPlateau, step_decay
from .sgd import LARS, SGD

__getattr__ = _missing_from(__name__)
