"""Transfer learning: what a network learnt from many labelled pictures, put to use with few labels of another task.

Features of the frozen network are computed once (`features`); a linear layer or class prototypes read them (`linear`); or the
network learns on from there (`finetune`). `baselines` are what needs no other network.
"""
