"""What the semi-supervised methods share: the teacher, ramp-ups, consistency, sharpening, mixup, interleaving."""
import contextlib
import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import minigrad as mg
from methods.training.forward import tensor
from minigrad import optim


# -- passes through a network, and its average -------------------------------------------------------------------------

def tensor_like(array, x):
    """An array as a Tensor of the dtype of x, where x is."""
    return mg.Tensor(array.astype(x.dtype, copy=False)).to(x.device)


def together(net, *groups):
    """The outputs for each group of inputs (arrays) from one pass, so that batch normalisation sees them all."""
    return mg.split(net(tensor(net, np.concatenate(groups))), np.cumsum([len(g) for g in groups])[:-1])


@contextlib.contextmanager
def frozen_statistics(net):
    """Batch normalisation uses the batch's statistics inside, but the running ones stay as they are."""
    norms = [(m, m.momentum) for m in net.modules() if hasattr(m, "running_mean")]
    try:
        for m, _ in norms:
            m.momentum = 0.0
        yield
    finally:
        for m, momentum in norms:
            m.momentum = momentum


class Teacher:
    """A copy of the network with the exponential moving average of its weights. Warm start: early averages are short.

    The running statistics of batch normalisation are averaged like the weights.
    """

    def __init__(self, net, decay):
        self.net, self.ema = copy.deepcopy(net), optim.EMA(net, decay)

    def update(self):
        """To be called after each step of the optimiser."""
        self.ema.update()
        self.ema.copy_to(self.net)

    def state_dict(self):
        return self.ema.state_dict()

    def load_state_dict(self, state):
        self.ema.load_state_dict(state)
        self.ema.copy_to(self.net)


# -- pieces of objectives -----------------------------------------------------------------------------------------------

def sigmoid_ramp(t, length):
    """exp(-5 (1 - t/T)^2): from 0.0067 at t = 0 to 1 at t = T and after."""
    return math.exp(-5 * (1 - min(max(t / length, 0), 1)) ** 2) if length else 1.0


def linear_ramp(t, length):
    """t/T, at most 1."""
    return min(t / length, 1.0) if length else 1.0


def consistency(p, q):
    """The mean over examples and classes of (p - q)^2, for probabilities (N, C)."""
    return mg.square(p - q).mean()


def sharpen(p, temperature):
    """p^(1/T) / sum: T = 1 leaves p (N, C), T -> 0 makes it one-hot. Arrays."""
    scaled = (p / p.max(1, keepdims=True)) ** (1 / temperature)  # the largest as 1, lest all underflow
    return scaled / scaled.sum(1, keepdims=True)


def one_hot(labels, classes):
    """(N,) to (N, classes) float32."""
    return np.eye(classes, dtype=np.float32)[labels]


def predicted(net, x):
    """softmax of the outputs for an array of inputs, as a constant array. The running statistics stay as they are."""
    with mg.no_grad(), frozen_statistics(net):
        return mg.softmax(together(net, x)[0], 1).numpy()


def mixup(x, y, rng, alpha):
    """Each example with another by chance: lambda x + (1 - lambda) x', labels alike; lambda ~ Beta(alpha, alpha), >= 1/2.

    lambda is drawn for each example, and as the larger part is the example's own, labelled ones stay mostly labelled.
    """
    weight = rng.beta(alpha, alpha, len(x)).astype(np.float32)
    weight, other = np.maximum(weight, 1 - weight), rng.permutation(len(x))

    def mix(a):
        w = weight.reshape(-1, *[1] * (a.ndim - 1))
        return w * a + (1 - w) * a[other]

    return mix(x), mix(y)


def interleave(groups):
    """Groups of equal length, their parts swapped so that each new group holds some of every old one.

    Applied twice it gives the groups back. Arrays or Tensors.
    """
    n, k = len(groups[0]), len(groups)
    cuts = [n * i // k for i in range(k + 1)]
    parts = [[g[a:b] for a, b in zip(cuts, cuts[1:])] for g in groups]
    for i in range(1, k):  # part i of group i changes places with part i of the first group
        parts[0][i], parts[i][i] = parts[i][i], parts[0][i]
    join = mg.concatenate if isinstance(groups[0], mg.Tensor) else np.concatenate
    return [join(p) for p in parts]


# -- the frame of a method ----------------------------------------------------------------------------------------------

@dataclass
class Task:
    """What a method knows of the data. Augmentations are functions of a batch of inputs and a Generator."""

    classes: int
    labelled: int  # number of labelled examples
    unlabelled: int  # number of unlabelled ones
    steps: int  # of the whole training
    weak: Callable
    strong: Callable
    prior: np.ndarray = None  # share of each class among the labels, (classes,)
    seed: int = 0
    operations: tuple = ()  # names in `data.augment.OPERATIONS`, for a method that learns how strongly to augment
    fill: float = 0.0  # the background


class Method:
    """An objective with what it remembers. Subclasses define `loss`, and add what they keep to `kept`."""

    def __init__(self, config, net, task):
        self.config, self.net, self.task = config, net, task
        self.rng = np.random.default_rng((task.seed, 7))
        self.teacher = Teacher(net, config.ema)

    def loss(self, batch, t):
        """The loss of a `data.Batch` at step t, and a dict of numbers to log."""
        raise TypeError(f"{type(self).__name__} defines no loss()")

    def after_step(self, t):
        """Called after the optimiser's step."""
        self.teacher.update()

    def kept(self):
        """The parts of a checkpoint, by name."""
        return {"teacher": self.teacher, "rng": self.rng}

    def scores(self, x, averaged=True):
        """Class scores of a batch of inputs by the averaged weights or the present ones, (N, classes) array."""
        net = self.teacher.net if averaged else self.net
        net.eval()
        with mg.no_grad():
            scores = together(net, x)[0].numpy()
        net.train()
        return scores
