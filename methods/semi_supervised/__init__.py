"""Learning from few labelled and many unlabelled examples.

`METHODS` names the modules of the methods that train a network. Each has a Config; an Objective, the Method; ROW, its row in
the table of comparisons (augmentation of the student's input, of the teacher's, what becomes of the teacher's label); and,
where the paper's settings want more than one or two thousand steps, SHORT, those for so short a training.
"""
from . import (
    fixmatch, freematch, ladder, mean_teacher, mixmatch, pi_model, pseudo_label, remixmatch, softmatch, supervised,
    temporal_ensembling, uda, vat)

METHODS = {m.__name__.rpartition(".")[2]: m for m in (
    supervised, pseudo_label, pi_model, temporal_ensembling, mean_teacher, vat, uda, mixmatch, remixmatch, fixmatch, softmatch,
    freematch, ladder)}
