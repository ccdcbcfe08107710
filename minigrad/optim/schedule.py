"""Schedules: functions from the number of a step to the learning rate."""
import math


def step_decay(base, every, factor=0.5):
    """A schedule, from the step number (0 for the first) to the learning rate: `base`, times `factor` `every` so many."""
    return lambda step: base * factor ** (step // every)


def cosine_decay(base, total, warmup=0, final=0.0):
    """A schedule: linear from 0 over `warmup` steps, then half a cosine from `base` to `final` at step `total`."""
    def rate(step):
        if step < warmup:
            return base * (step + 1) / warmup
        progress = min((step - warmup) / max(total - warmup, 1), 1)
        return final + (base - final) * (1 + math.cos(math.pi * progress)) / 2

    return rate
