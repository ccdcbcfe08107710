"""Learning from few labelled and many unlabelled examples. `METHODS` names them all."""
from . import pi_model, supervised

METHODS = {m.__name__.rpartition(".")[2]: m for m in (supervised, pi_model)}
