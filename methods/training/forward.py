"""Arrays where a network is."""
import numpy as np

import minigrad as mg


def tensor(net, x):
    """An array as a float32 Tensor on the device of the network."""
    return mg.Tensor(np.asarray(x, np.float32)).to(net.parameters()[0].device)
