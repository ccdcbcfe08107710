"""Learning from few labelled and many unlabelled examples. `METHODS` names those that train a network."""
from . import (
    fixmatch, ladder, mean_teacher, mixmatch, pi_model, pseudo_label, remixmatch, supervised, temporal_ensembling, uda, vat)

METHODS = {m.__name__.rpartition(".")[2]: m for m in (
    supervised, pseudo_label, pi_model, temporal_ensembling, mean_teacher, vat, uda, mixmatch, remixmatch, fixmatch, ladder)}
