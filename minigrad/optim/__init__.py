"""Optimisers change parameters in place by their `.grad`; schedules set an optimiser's learning rate `lr`."""
from ..ops.missing import missing_from as _missing_from
# X as X: who checks types, as editors do, takes X for a name that is given on.
from .adagrad import Adadelta as Adadelta, Adagrad as Adagrad
from .adam import Adam as Adam, AdamW as AdamW, LAMB as LAMB, NAdam as NAdam, RAdam as RAdam
from .clip import clip_grad_norm as clip_grad_norm, clip_grad_norm_ as clip_grad_norm_
from .ema import EMA as EMA
from .half import LossScaler as LossScaler
from .muon import Muon as Muon
from .optimizer import Optimizer as Optimizer
from .rmsprop import RMSprop as RMSprop
from .schedule import (
    cosine_decay as cosine_decay, linear_decay as linear_decay, one_cycle as one_cycle, ReduceLROnPlateau as ReduceLROnPlateau,
    step_decay as step_decay)
from .sgd import LARS as LARS, SGD as SGD

__getattr__ = _missing_from(__name__)
