"""Small Transformers for the tests of parameter-efficient fine-tuning."""
import numpy as np

import minigrad as mg
from methods.training.text_encoders import SentenceEncoder
from minigrad import nn

IDS = np.random.default_rng(0).integers(0, 40, (3, 7))
MASK = np.arange(7) < np.array([[7], [4], [5]])
PICTURES = np.random.default_rng(1).normal(0, 1, (3, 3, 8, 8)).astype(np.float32)
SMALL = {"lora": dict(rank=2), "adapters": dict(middle=3), "prompt": dict(length=2), "prefix": dict(length=2, hidden=5)}


def bert(dropout=0.0):
    mg.random.seed(0)
    return drawn(nn.BERT(40, 12, 2, 3, 20, 16, dropout=dropout))


def drawn(net, seed=5):
    """The network with numbers that make a difference, biases too."""
    rng = np.random.default_rng(seed)
    for parameter in net.parameters():
        parameter.data = parameter.data + rng.normal(0, 0.2, parameter.shape).astype(np.float32)
    return net


NETS = {"BERT": (bert, (IDS, MASK)), "sentences": (lambda: SentenceEncoder(bert()), (IDS, MASK)),
        "ViT": (lambda: drawn(nn.VisionTransformer(8, 4, 3, 4, 12, 2, 3)), (PICTURES,)),
        "ViT, mean": (lambda: drawn(nn.VisionTransformer(8, 4, 3, 4, 12, 2, 3, global_pool="avg", registers=1)), (PICTURES,)),
        "CLIPText": (lambda: drawn(nn.CLIPText(40, 12, 2, 3, 20, 16, 6)), (IDS,))}


def outputs(net, x):
    with mg.no_grad():
        return net.eval()(*x).numpy()


def moved(adaptation, seed=3, std=0.1):
    """What is trained, changed at random."""
    rng = np.random.default_rng(seed)
    for parameter in adaptation.parameters():
        parameter.data = parameter.data + rng.normal(0, std, parameter.shape).astype(parameter.dtype)
    return adaptation
